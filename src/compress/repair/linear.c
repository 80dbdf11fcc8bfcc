/* Layers that are linear: their weights and biases, read and written. */
#include "compress/repair/linear.h"

#include <math.h>

#include "compress/quant/weights.h"
#include "passes/passes.h"
#include "runtime/lower.h"

static bool plain_gemm(const espl__node *n) {
    return espl__attr_float(n, "alpha", 1) == 1 && espl__attr_float(n, "beta", 1) == 1 &&
           !espl__attr_int(n, "transA", 0);
}

static void matrix_form(const espl__node *n, espl__linear *l) {
    bool turned = espl__node_is(n, "Gemm") && espl__attr_int(n, "transB", 0);
    const int64_t *dim = l->w->shape.dim;
    l->outputs = dim[turned ? 0 : 1];
    l->inputs = dim[turned ? 1 : 0];
    l->taps = l->groups = 1;
    l->by_output = turned ? dim[1] : 1;
    l->by_input = turned ? 1 : dim[1];
}

static void conv_form(const espl__node *n, espl__linear *l) {
    const espl_shape *w = &l->w->shape;
    l->outputs = w->dim[0];
    l->inputs = w->dim[1];
    l->groups = espl__attr_int(n, "group", 1);
    l->taps = 1;
    for (int d = 2; d < w->rank; d++) l->taps *= w->dim[d];
    l->by_input = l->taps;
    l->by_output = l->inputs * l->taps;
}

bool espl__linear_of(const espl_graph *g, espl__node *n, espl__linear *l) {
    bool conv = espl__node_is(n, "Conv"), gemm = espl__node_is(n, "Gemm");
    if (!conv && !gemm && !espl__node_is(n, "MatMul")) return false;
    *l = (espl__linear){.node = n, .x = n->inputs[0], .w = n->inputs[1], .y = n->outputs[0], .conv = conv};
    if (!l->x || l->x->constant || l->x->dtype != ESPL_F32 || !l->w->constant || l->w->dtype != ESPL_F32)
        return false;
    if (conv ? l->w->shape.rank < 3 || l->w->shape.rank > 5 : l->w->shape.rank != 2) return false;
    if (gemm && !plain_gemm(n)) return false;
    if (conv)
        conv_form(n, l);
    else
        matrix_form(n, l);
    l->add = espl__plan_bias_add(g, n);
    return l->outputs > 0 && l->inputs > 0 && l->taps > 0 && l->groups > 0 && l->outputs % l->groups == 0;
}

float *espl__linear_own_weights(espl_graph *g, espl__linear *l) {
    espl__graph_count_uses(g);
    if (l->w->uses == 1 && l->w->constant->dtype == ESPL_F32 && !l->w->lent) return l->w->constant->data;
    const espl_tensor *t = espl__constant_f32(g, l->w);
    espl__value *v = t ? espl__graph_constant(g, NULL, t) : NULL;
    if (!v) return NULL;
    v->zeros = l->w->zeros;
    l->node->inputs[1] = l->w = v;
    return v->constant->data;
}

/* Where the bias is: an input of the layer or of the Add behind it; NULL: nowhere, and *full says that none
 * can be. */
static espl__value **bias_place(const espl__linear *l) {
    if (l->add) return &l->add->inputs[l->add->inputs[0] == l->y ? 1 : 0];
    return !espl__node_is(l->node, "MatMul") && l->node->input_count > 2 ? &l->node->inputs[2] : NULL;
}

static bool usual_bias(const espl__linear *l, const espl__value *b) {
    int rank = b->shape.rank;
    return b->constant && rank > 0 && b->shape.dim[rank - 1] == l->outputs &&
           espl_shape_count(&b->shape) == l->outputs;
}

bool espl__linear_bias(const espl_graph *g, const espl__linear *l, float *out) {
    espl__value **place = bias_place(l);
    (void)g;
    for (int64_t c = 0; c < l->outputs; c++) out[c] = 0;
    if (!place || !*place) return true;
    return usual_bias(l, *place) && espl__constant_read(*place, out);
}

/* s32 with the scale of the products, as quant/ptq.c rounds it. */
static bool round_bias(espl_graph *g, espl__value *v, const espl__quant *x, const espl__quant *w,
                       const float *bias) {
    int64_t count = espl_shape_count(&v->shape);
    float *scale = espl__arena_alloc(&g->arena, sizeof *scale * (uint64_t)count + 4);
    espl_tensor *codes = espl__graph_tensor(g, ESPL_S32, &v->shape, NULL);
    if (!scale || !codes) return false;
    for (int64_t c = 0; c < count; c++) {
        scale[c] = x->scale[0] * w->scale[w->count == 1 ? 0 : c];
        double q = nearbyint((double)bias[c] / scale[c]);
        ((int32_t *)codes->data)[c] = (int32_t)fmin(fmax(q, -0x1p30), 0x1p30);
    }
    v->constant = codes;
    return espl__graph_set_quant(g, v, ESPL_FORMAT_S32, 0, count, scale, NULL);
}

static bool third_input(espl_graph *g, espl__node *n) {
    if (n->input_count > 2) return true;
    espl__value **inputs = espl__arena_alloc(&g->arena, 3 * sizeof *inputs);
    if (!inputs) return false;
    memcpy(inputs, n->inputs, (size_t)n->input_count * sizeof *inputs);
    n->inputs = inputs;
    n->input_count = 3;
    return true;
}

/* Both sides have grids of at most 8 bits, whose products are what the accumulators hold. */
static bool integer_sides(const espl__linear *l) {
    const espl__quant *x = &l->x->quant, *w = &l->w->quant;
    return espl__is_quantized(l->x) && espl__format_is_code8(x->format) && espl__is_quantized(l->w) &&
           espl__format_is_code8(w->format) && w->group == 0 && (w->count == 1 || w->count == l->outputs);
}

bool espl__linear_set_bias(espl_graph *g, espl__linear *l, const float *bias) {
    bool inside = !espl__node_is(l->node, "MatMul");
    if (!inside && !l->add) return true;
    if (inside && !third_input(g, l->node)) return false;
    espl__value **place = bias_place(l);
    espl_shape shape = *place ? (*place)->shape : (espl_shape){1, {l->outputs}};
    espl_tensor *t = espl__graph_tensor(g, ESPL_F32, &shape, bias);
    bool codes =
        inside && shape.rank == 1 && (*place ? (*place)->quant.format == ESPL_FORMAT_S32 : integer_sides(l));
    if (t && !codes) espl__weight_bias(&l->w->quant, t->data, espl_shape_count(&shape));
    espl__value *v = t ? espl__graph_constant(g, NULL, t) : NULL;
    if (!v) return false;
    if (codes && !round_bias(g, v, &l->x->quant, &l->w->quant, bias)) return false;
    v->dtype = ESPL_F32;
    *place = v;
    return true;
}
