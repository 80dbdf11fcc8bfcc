/* What other tools write for a layer whose input is rounded by its own range in every run:
 *
 *   codes, s, z = DynamicQuantizeLinear(x)    Mul(Cast(MatMulInteger(codes, W, z, zw)), Mul(s, sw))
 *
 * becomes MatMul(x, W) with W as a quantized constant, and the attribute espl_dynamic, which allows the
 * runtime to compute it so. Layers whose scales are not constant stay as they are. The same around ConvInteger becomes
 * Conv, whose input then stays f32: nearer to what is meant than rounding it. */
#include "passes/passes.h"

#include <math.h>

typedef struct found {
    espl__node *product, *cast, *scaled;
    espl__value *x;
    const espl_tensor *scale; /* of the weights */
} found;

/* The other input of a Mul. */
static espl__value *beside(const espl__node *mul, const espl__value *v) {
    return mul->inputs[mul->inputs[0] == v];
}

/* Scales of w's columns (of a convolution: one scale) that a grid can have: those of more dimensions than the
 * product would add to them. */
static bool usable(const espl__value *x, const espl_tensor *scale, const espl_tensor *zero,
                   const espl_tensor *w, bool conv) {
    if (scale->shape.rank > (conv ? w->shape.rank : x->known_rank ? x->shape.rank : 1)) return false;
    if (scale->dtype != ESPL_F32 || (w->shape.rank != 2 && !conv) || (w->dtype != ESPL_S8 && w->dtype != ESPL_U8))
        return false;
    int64_t count = espl_shape_count(&scale->shape);
    if (conv && count != 1) return false;
    if (count != 1 && (count != w->shape.dim[1] || scale->shape.dim[scale->shape.rank - 1] != count))
        return false;
    if (zero &&
        (zero->dtype != w->dtype || (espl_shape_count(&zero->shape) != 1 &&
                                     (espl_shape_count(&zero->shape) != count || zero->shape.rank != 1))))
        return false;
    for (int64_t i = 0; i < count; i++) {
        float s = ((const float *)scale->data)[i];
        if (!(s > 0) || !isfinite(s)) return false;
    }
    return true;
}

static bool find(const espl_graph *g, espl__node *n, found *f) {
    const espl__node *quantizer = n->inputs[0]->producer;
    const espl__value *w = n->inputs[1], *zero = n->input_count > 3 ? n->inputs[3] : NULL;
    *f = (found){.product = n};
    if (!quantizer || !espl__node_is(quantizer, "DynamicQuantizeLinear") ||
        n->inputs[0] != quantizer->outputs[0] || n->input_count < 3 || !n->inputs[2] ||
        n->inputs[2] != quantizer->outputs[2])
        return false;
    if (!w->constant || espl__is_quantized(w) || (zero && (!zero->constant || espl__is_quantized(zero))))
        return false;
    f->x = quantizer->inputs[0];
    f->cast = espl__graph_only_reader(g, n->outputs[0]);
    if (!f->cast || !espl__node_is(f->cast, "Cast") || espl__attr_int(f->cast, "to", 0) != 1) return false;
    f->scaled = espl__graph_only_reader(g, f->cast->outputs[0]);
    if (!f->scaled || !espl__node_is(f->scaled, "Mul")) return false;
    const espl__node *factor = beside(f->scaled, f->cast->outputs[0])->producer;
    if (!factor || !espl__node_is(factor, "Mul")) return false;
    const espl__value *s = quantizer->outputs[1];
    if (!s || (factor->inputs[0] != s && factor->inputs[1] != s) || !beside(factor, s)->constant)
        return false;
    f->scale = beside(factor, s)->constant;
    return usable(f->x, f->scale, zero ? zero->constant : NULL, w->constant, espl__node_is(n, "ConvInteger"));
}

/* W as numbers: its codes, and a grid with the zero points in as many copies as there are scales. */
static espl__value *weights_of(espl_graph *g, const found *f) {
    const espl__node *n = f->product;
    const espl_tensor *w = n->inputs[1]->constant;
    const espl_tensor *zero = n->input_count > 3 && n->inputs[3] ? n->inputs[3]->constant : NULL;
    int64_t count = espl_shape_count(&f->scale->shape);
    int32_t *zeros = espl__arena_alloc(&g->arena, sizeof *zeros * (uint64_t)count);
    espl__value *v = espl__graph_constant(g, NULL, w);
    if (!zeros || !v) return NULL;
    for (int64_t i = 0; zero && i < count; i++) {
        int64_t at = espl_shape_count(&zero->shape) == 1 ? 0 : i;
        zeros[i] = w->dtype == ESPL_S8 ? ((const int8_t *)zero->data)[at] : ((const uint8_t *)zero->data)[at];
    }
    espl_format format = w->dtype == ESPL_S8 ? ESPL_FORMAT_S8 : ESPL_FORMAT_U8;
    if (!espl__graph_set_quant(g, v, format, count > 1 ? 1 : -1, count, f->scale->data, zeros)) return NULL;
    v->dtype = ESPL_F32;
    return v;
}

/* The layer in f32. A convolution's attributes are ConvInteger's. */
static espl__node *layer_of(espl_graph *g, const espl__node *product) {
    bool conv = espl__node_is(product, "ConvInteger");
    espl__node *n = espl__graph_node(g, espl__op_find("", conv ? "Conv" : "MatMul"), product->name, 2, 1,
                                     conv ? product->attr_count : 1);
    if (!n) return NULL;
    n->opset = product->opset;
    if (!conv) return espl__attr_set_int(g, n, "espl_dynamic", 1) ? n : NULL;
    for (int i = 0; i < product->attr_count; i++) n->attrs[i] = product->attrs[i];
    n->attr_count = product->attr_count;
    return n;
}

espl_status espl__pass_absorb_dynamic(espl_graph *g, espl_diag *diag) {
    int count = g->node_count;
    found f;
    for (int i = 0; i < count; i++) {
        espl__node *product = g->nodes[i];
        if ((!espl__node_is(product, "MatMulInteger") && !espl__node_is(product, "ConvInteger")) || !find(g, product, &f))
            continue;
        espl__value *w = weights_of(g, &f);
        espl__node *n = layer_of(g, product);
        if (!w || !n) return espl__nomem(diag, 0);
        n->inputs[0] = f.x;
        n->inputs[1] = w;
        f.product->mark = f.cast->mark = f.scaled->mark = -1;
        espl__node_set_output(n, 0, f.scaled->outputs[0]);
    }
    espl__graph_sweep(g);
    return ESPL_OK;
}
