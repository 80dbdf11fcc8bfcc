/* Post-training quantization to 8-bit integers (Jacob et al. 2018; Krishnamoorthi 2018), weights of 2 to 8
 * bits.
 *
 * Weights: symmetric, one scale per output channel, S = max|w| / (2^(b-1) - 1).
 * Activations: one grid per value from MinMax ranges. Flavour ort-x86: affine u8, the range widened to hold
 * 0; portable: symmetric s8 with zero point 0. Bias: s32 with S = S_x * S_w and zero point 0.
 *
 * Which values are rounded follows from who reads them:
 *  available: a value that integers could produce (the output of an integer layer, or elementwise work on
 * such values); wanted:    a value that an integer layer reads, or integer elementwise work whose own output
 * is wanted. A value is quantized if it is wanted. Work between two floating-point operators so stays in f32
 * by itself, and no value is rounded that nobody reads in integers.
 *
 * Values that only move (Reshape, MaxPool, ...) form one class and share one grid; so do a layer and its Relu
 * in flavour portable, and the inputs of a Concat that nobody else reads. */
#include "compress/compress.h"
#include "passes/passes.h"
#include "runtime/lower.h"

#include <math.h>

typedef struct ptq {
    espl_graph *g;
    const range *ranges;
    const decision *decisions;
    espl_flavour flavour;
    int values; /* that there were; constants are added behind them */
    int *parent; /* classes of values that share a grid: union-find by value id */
    bool *available, *wanted;
    bool *symmetric; /* the class needs zero point 0: right side of a MatMul of two activations */
    range *merged;   /* by class */
    espl_format *wish; /* by class: the widest that a layer asks for; F32: none does */
    bool *pow2;        /* by class */
} ptq;

static int find(ptq *p, int v) {
    while (p->parent[v] != v) v = p->parent[v] = p->parent[p->parent[v]];
    return v;
}

static void join(ptq *p, const espl__value *a, const espl__value *b) {
    if (a && b && !a->constant && !b->constant) p->parent[find(p, a->id)] = find(p, b->id);
}

/* --- what kind of work a node is ------------------------------------------------------------------- */

typedef enum work { WORK_FLOAT, WORK_LAYER, WORK_RECURRENT, WORK_MATMUL, WORK_CHAIN, WORK_MOVE } work;

static bool is_f32(const espl__value *v) {
    return v && v->dtype == ESPL_F32;
}

static bool integer_layer(const espl__node *n) {
    if (espl__node_is(n, "Gemm"))
        return espl__attr_float(n, "alpha", 1) == 1 && espl__attr_float(n, "beta", 1) == 1 &&
               !espl__attr_int(n, "transA", 0);
    return espl__node_is(n, "Conv") || espl__node_is(n, "MatMul");
}

bool espl__ptq_computes(const espl__node *n) {
    bool recurrent = espl__node_is(n, "LSTM") || espl__node_is(n, "GRU") || espl__node_is(n, "RNN");
    return recurrent ? espl__plan_recurrent(n) : n->op->quant != ESPL__QUANT_FLOAT;
}

static work kind_of(const ptq *p, const espl__node *n) {
    const decision *d = &p->decisions[n->id];
    if (n->op->quant == ESPL__QUANT_MOVE && is_f32(n->inputs[0])) return WORK_MOVE;
    if (d->integer && d->weights != ESPL_FORMAT_F32 && espl__plan_recurrent(n) && !n->inputs[0]->constant)
        return WORK_RECURRENT;
    if (!d->integer || n->output_count != 1 || !is_f32(n->outputs[0])) return WORK_FLOAT;
    if (integer_layer(n) && is_f32(n->inputs[0]) && is_f32(n->inputs[1])) {
        const espl__value *w = n->inputs[1];
        bool bias = n->input_count < 3 || !n->inputs[2] || n->inputs[2]->constant;
        if (w->constant && bias && !n->inputs[0]->constant)
            return d->weights == ESPL_FORMAT_F32 ? WORK_FLOAT : WORK_LAYER;
        return espl__node_is(n, "MatMul") && !w->constant && !n->inputs[0]->constant ? WORK_MATMUL
                                                                                     : WORK_FLOAT;
    }
    if (n->op->quant == ESPL__QUANT_JOIN || espl__plan_unary_input(n) >= 0) return WORK_CHAIN;
    if (espl__node_is(n, "Add") || espl__node_is(n, "AveragePool") || espl__node_is(n, "GlobalAveragePool"))
        return WORK_CHAIN;
    return WORK_FLOAT;
}

/* Relu or Clip that a layer's own store does. */
static bool is_clamp(const espl__node *n) {
    return espl__node_is(n, "Relu") || espl__node_is(n, "Clip");
}

/* The value of a layer that its clamp (or bias addition) takes over without rounding between. */
static bool fused_away(const ptq *p, const espl__value *v) {
    const espl__node *from = v->producer, *reader = espl__graph_only_reader(p->g, v);
    if (!from || !reader || v->constant) return false;
    work w = kind_of(p, from);
    if (reader == espl__plan_bias_add(p->g, from)) return w == WORK_LAYER;
    return p->flavour == ESPL_FLAVOUR_ORT_X86 && is_clamp(reader) && kind_of(p, reader) == WORK_CHAIN &&
           (w == WORK_LAYER || espl__node_is(from, "Add"));
}

/* --- available and wanted ------------------------------------------------------------------------------ */

static bool inputs_available(const ptq *p, const espl__node *n) {
    for (int i = 0; i < n->input_count; i++) {
        const espl__value *v = n->inputs[i];
        if (!v || espl__plan_unary_input(n) >= 0) continue;
        if (!v->constant && !p->available[v->id] && !p->wanted[v->id]) return false;
    }
    int only = espl__plan_unary_input(n);
    return only < 0 || p->available[n->inputs[only]->id] || p->wanted[n->inputs[only]->id];
}

static void want_inputs(ptq *p, const espl__node *n) {
    for (int i = 0; i < n->input_count; i++)
        if (is_f32(n->inputs[i]) && !n->inputs[i]->constant) p->wanted[n->inputs[i]->id] = true;
}

static void mark_available(ptq *p) {
    for (int i = 0; i < p->g->node_count; i++) {
        const espl__node *n = p->g->nodes[i];
        const espl__node *bias = n->inputs[0] ? n : NULL;
        switch (kind_of(p, n)) {
            case WORK_LAYER:
            case WORK_MATMUL:
                p->available[n->outputs[0]->id] = true;
                break;
            case WORK_CHAIN:
                p->available[n->outputs[0]->id] = inputs_available(p, bias);
                break;
            case WORK_MOVE:
                for (int k = 0; k < n->output_count; k++)
                    if (n->outputs[k]) p->available[n->outputs[k]->id] = p->available[n->inputs[0]->id];
                break;
            case WORK_RECURRENT: /* its cells are computed in f32 */
            case WORK_FLOAT:
                break;
        }
    }
}

static void mark_wanted(ptq *p) {
    for (int i = p->g->node_count - 1; i >= 0; i--) {
        const espl__node *n = p->g->nodes[i];
        const espl__value *first = n->inputs[0];
        bool out = false;
        for (int k = 0; k < n->output_count; k++) out |= n->outputs[k] && p->wanted[n->outputs[k]->id];
        switch (kind_of(p, n)) {
            case WORK_LAYER:
            case WORK_RECURRENT:
                p->wanted[first->id] = true;
                break;
            case WORK_MATMUL:
                /* Two floats multiplied in integers pay only if one side is there already. */
                if (p->available[first->id] || p->available[n->inputs[1]->id]) want_inputs(p, n);
                break;
            case WORK_CHAIN:
                if (out && inputs_available(p, n)) want_inputs(p, n);
                break;
            case WORK_MOVE:
                if (out && !first->constant) p->wanted[first->id] = true;
                break;
            case WORK_FLOAT:
                break;
        }
    }
}

/* --- classes and grids --------------------------------------------------------------------------------- */

static void make_classes(ptq *p) {
    for (int i = 0; i < p->g->node_count; i++) {
        const espl__node *n = p->g->nodes[i];
        work w = kind_of(p, n);
        if (w == WORK_MOVE)
            for (int k = 0; k < n->output_count; k++) join(p, n->inputs[0], n->outputs[k]);
        if (p->flavour == ESPL_FLAVOUR_PORTABLE && is_clamp(n) && w == WORK_CHAIN &&
            espl__graph_only_reader(p->g, n->inputs[0]) == n)
            join(p, n->inputs[0], n->outputs[0]);
        if (n->op->quant == ESPL__QUANT_JOIN && w == WORK_CHAIN)
            for (int k = 0; k < n->input_count; k++)
                if (n->inputs[k] && espl__graph_only_reader(p->g, n->inputs[k]) == n)
                    join(p, n->inputs[k], n->outputs[0]);
        if (w == WORK_MATMUL) p->symmetric[n->inputs[1]->id] = true;
    }
}

static bool wider(espl_format a, espl_format b) {
    return b == ESPL_FORMAT_F32 || espl_format_bits(a) > espl_format_bits(b);
}

/* Of several layers that read a value the one that asks for most bits has its way; other work takes what there is. */
static void note_wishes(ptq *p) {
    for (int i = 0; i < p->g->node_count; i++) {
        const espl__node *n = p->g->nodes[i];
        const decision *d = &p->decisions[i];
        const work w = kind_of(p, n);
        if (w != WORK_LAYER && w != WORK_RECURRENT && w != WORK_MATMUL) continue;
        for (int k = 0; k < (w == WORK_MATMUL ? 2 : 1); k++) {
            if (n->inputs[k]->constant) continue;
            const int root = find(p, n->inputs[k]->id);
            if (d->activations != ESPL_FORMAT_F32 && wider(d->activations, p->wish[root]))
                p->wish[root] = d->activations;
            p->pow2[root] |= d->pow2;
        }
    }
}

/* In a class that a clamp closes only what passes the clamp counts: the layer's values beyond it saturate
 * anyway. */
static bool counts(const ptq *p, const espl__value *v) {
    const espl__node *reader = espl__graph_only_reader(p->g, v);
    return !(p->flavour == ESPL_FLAVOUR_PORTABLE && reader && is_clamp(reader) &&
             kind_of(p, reader) == WORK_CHAIN);
}

static espl_status merge_ranges(ptq *p, espl_diag *diag) {
    espl_status status = ESPL_OK;
    for (int i = 0; i < p->g->value_count; i++) {
        const espl__value *v = p->g->values[i];
        const range *r = &p->ranges[i];
        int root = find(p, i);
        if (root != i && p->symmetric[i]) p->symmetric[root] = true;
        if (!r->seen || !counts(p, v)) continue;
        ESPL_TRY(espl__range_merge(p->g->arena.ctx, &p->merged[root], r, diag));
    }
    for (int i = 0; i < p->g->value_count; i++)
        if (p->symmetric[find(p, i)]) p->symmetric[i] = true;
done:
    return status;
}

/* The format of a value whose readers ask for `wish` (F32: for nothing special). Zero points other than 0 need unsigned
 * codes. */
static espl_format grid_format(const ptq *p, espl_format wish, bool symmetric) {
    static const espl_format with_sign[] = {ESPL_FORMAT_S2, ESPL_FORMAT_S3, ESPL_FORMAT_S4, ESPL_FORMAT_S5,
                                            ESPL_FORMAT_S6, ESPL_FORMAT_S7, ESPL_FORMAT_S8};
    if (wish == ESPL_FORMAT_F32) wish = p->flavour == ESPL_FLAVOUR_PORTABLE ? ESPL_FORMAT_S8 : ESPL_FORMAT_U8;
    const bool narrow = espl_format_kind_of(wish) == ESPL_FORMAT_KIND_INTEGER && espl_format_bits(wish) <= 8;
    return symmetric && narrow && !espl_format_is_signed(wish) ? with_sign[espl_format_bits(wish) - 2] : wish;
}

/* A grid that holds 0 exactly and what the observer made of the range; a constant or unseen value gets a valid one too. */
static bool set_activation_grid(ptq *p, espl__value *v, range *range_of, espl_format format, bool pow2) {
    const bool affine = espl_format_kind_of(format) == ESPL_FORMAT_KIND_INTEGER && !espl_format_is_signed(format);
    const float most = espl__format_largest(format);
    float scale;
    int32_t zero = 0;
    espl__range_settle(range_of, &(espl__grid){affine ? 0 : -(int32_t)most, (int32_t)most, !affine});
    const float lo = fminf(range_of->min, 0), hi = fmaxf(range_of->max, 0);
    scale = affine ? hi / most - lo / most : fmaxf(-lo, hi) / most;
    if (espl__format_is_float(format) || !(scale >= 1e-30f) || !isfinite(scale)) scale = 1;
    if (pow2) scale = exp2f(ceilf(log2f(scale)));
    if (affine) zero = espl__requantize(-lo / scale, 0, 0, (int32_t)most);
    return espl__graph_set_quant(p->g, v, format, -1, 1, &scale, espl__format_is_float(format) ? NULL : &zero);
}

static bool quantize_values(ptq *p) {
    for (int i = 0; i < p->g->value_count; i++) {
        espl__value *v = p->g->values[i];
        int root = find(p, i);
        if (!p->wanted[i] || v->constant || !is_f32(v) || espl__is_quantized(v) || fused_away(p, v)) continue;
        if (!p->merged[root].seen) continue;
        espl_format format = grid_format(p, p->wish[root], p->symmetric[i]);
        if (!set_activation_grid(p, v, &p->merged[root], format, p->pow2[root])) return false;
    }
    return true;
}

/* Values that are never negative spend no bit on a sign. */
static espl_format unsigned_log2(espl_format f) {
    return f <= ESPL_FORMAT_LOG7 ? (espl_format)(f - ESPL_FORMAT_LOG3 + ESPL_FORMAT_ULOG3) : f;
}

/* Inputs of layers that are computed in f32 on rounded numbers. */
static bool round_values(ptq *p) {
    for (int i = 0; i < p->g->node_count; i++) {
        espl__node *n = p->g->nodes[i];
        const decision *d = &p->decisions[i];
        espl__value *x = n->input_count > 0 ? n->inputs[0] : NULL;
        if (d->integer || d->dynamic || d->activations == ESPL_FORMAT_F32 || !espl__is_layer(n)) continue;
        if (!is_f32(x) || x->constant || espl__is_quantized(x) || !p->ranges[x->id].seen) continue;
        range merged = {0};
        espl_diag ignored;
        if (espl__range_merge(p->g->arena.ctx, &merged, &p->ranges[x->id], &ignored) != ESPL_OK) return false;
        espl_format format = d->activations;
        if (espl_format_kind_of(format) == ESPL_FORMAT_KIND_LOG2 && espl_format_is_signed(format) && merged.min >= 0)
            format = unsigned_log2(format);
        const bool good = set_activation_grid(p, x, &merged, format, d->pow2);
        espl__range_free(p->g->arena.ctx, &merged);
        if (!good) return false;
    }
    return true;
}

/* --- weights ----------------------------------------------------------------------------------------- */

/* Along which axis groups run: where the weights are matrices for every tap (a convolution of more than one has none). */
static int group_axis(const espl__node *n, int index) {
    espl__zeros axes;
    espl__matrix m;
    return espl__weight_matrix(n, index, &axes, &m) && m.taps == 1 ? axes.inner_axis : -1;
}

static bool same_numbers(const void *a, const void *b, int64_t count) {
    return !a == !b && (!a || memcmp(a, b, 4 * (size_t)count) == 0);
}

static bool same_codes(const espl__value *a, const espl__value *b) {
    const espl__quant *p = &a->quant, *q = &b->quant;
    return p->format == q->format && p->axis == q->axis && p->count == q->count && p->group == q->group &&
           p->group_axis == q->group_axis && same_numbers(p->scale, q->scale, p->count) &&
           same_numbers(p->zero, q->zero, p->count) && same_numbers(p->offset, q->offset, p->count) &&
           espl_shape_equal(&a->constant->shape, &b->constant->shape) &&
           memcmp(a->constant->data, b->constant->data, espl__tensor_bytes(a->constant)) == 0;
}

/* A weight that several nodes read, as those that a Loop has become, is stored once if their codes agree. */
static espl__value *stored_once(espl_graph *g, espl__value *weight, espl__value *codes) {
    espl__value *first = weight->mark > 0 ? g->values[weight->mark - 1] : NULL;
    if (first && same_codes(first, codes)) return first;
    if (!first) weight->mark = codes->id + 1;
    return codes;
}

/* Replaces input `index` of the node by its codes. */
static bool quantize_weights(espl_graph *g, espl__node *n, int index, const decision *d, int axis) {
    const espl_tensor *w = espl__constant_f32(g, n->inputs[index]);
    espl__weight_plan plan = {.format = d->weights,
                              .axis = d->per_tensor ? -1 : axis,
                              .group_axis = d->group > 0 && axis >= 0 ? group_axis(n, index) : -1,
                              .pow2 = d->pow2,
                              .fit = d->fit,
                              .round = d->round,
                              .seed = (uint64_t)n->id << 8 | (unsigned)index};
    espl__quant grid;
    if (plan.group_axis >= 0 && plan.axis >= 0) plan.group = d->group;
    if (!w || !espl__weight_grid(g, w, &plan, &grid)) return false;
    espl__value *v = espl__weight_constant(g, n->inputs[index], espl__weight_codes(g, w, &grid, &plan), &grid);
    if (v) n->inputs[index] = stored_once(g, n->inputs[index], v);
    return v != NULL;
}

static bool quantize_bias(espl_graph *g, espl__node *n) {
    const espl__value *x = n->inputs[0], *w = n->inputs[1];
    const espl_tensor *b = n->input_count > 2 && n->inputs[2] ? espl__constant_f32(g, n->inputs[2]) : NULL;
    if (!b || !espl__is_quantized(x) || !espl__format_is_code8(x->quant.format) || w->quant.group > 0) return true;
    int64_t count = espl_shape_count(&b->shape);
    if (b->shape.rank != 1) return true; /* stays f32; the store adds it */
    espl_tensor *codes = espl__graph_tensor(g, ESPL_S32, &b->shape, NULL);
    float *scale = espl__arena_alloc(&g->arena, sizeof *scale * (uint64_t)count + 4);
    if (!codes || !scale) return false;
    for (int64_t c = 0; c < count; c++) {
        scale[c] = x->quant.scale[0] * w->quant.scale[w->quant.count == 1 ? 0 : c];
        double q = nearbyint((double)((const float *)b->data)[c] / scale[c]);
        /* Half of the accumulator is left to the products. */
        ((int32_t *)codes->data)[c] = (int32_t)fmin(fmax(q, -0x1p30), 0x1p30);
    }
    espl__value *v = espl__graph_constant(g, NULL, codes);
    if (!v || !espl__graph_set_quant(g, v, ESPL_FORMAT_S32, 0, count, scale, NULL)) return false;
    v->dtype = ESPL_F32;
    n->inputs[2] = v;
    return true;
}

/* Constant operands of integer additions and concatenations get a grid of their own. */
static bool quantize_operand(ptq *p, espl__node *n, int index) {
    const espl_tensor *t = espl__constant_f32(p->g, n->inputs[index]);
    if (!t) return false;
    range r = {.seen = 1};
    int64_t count = espl_shape_count(&t->shape);
    const float *x = t->data;
    for (int64_t i = 0; i < count; i++) {
        r.min = fminf(r.min, x[i]);
        r.max = fmaxf(r.max, x[i]);
    }
    espl__value grid = {0};
    if (!set_activation_grid(p, &grid, &r, grid_format(p, ESPL_FORMAT_F32, false), p->decisions[n->id].pow2))
        return false;
    espl_dtype type = grid.quant.format == ESPL_FORMAT_U8 ? ESPL_U8 : ESPL_S8;
    espl_tensor *codes = espl__graph_tensor(p->g, type, &t->shape, NULL);
    if (!codes) return false;
    int32_t lo = type == ESPL_U8 ? 0 : -127, hi = type == ESPL_U8 ? 255 : 127;
    for (int64_t i = 0; i < count; i++)
        ((uint8_t *)codes->data)[i] =
            (uint8_t)espl__requantize(x[i] / grid.quant.scale[0], grid.quant.zero[0], lo, hi);
    espl__value *v = espl__graph_constant(p->g, NULL, codes);
    if (!v) return false;
    v->quant = grid.quant;
    v->dtype = ESPL_F32;
    n->inputs[index] = v;
    return true;
}

static bool plain_constant(const espl__value *v) {
    return is_f32(v) && v->constant && !espl__is_quantized(v);
}

/* A bias that stays f32 beside these weights. */
static bool round_bias(espl_graph *g, espl__value **bias, const espl__quant *weights) {
    if (!plain_constant(*bias)) return true;
    espl_tensor *t = espl__graph_tensor(g, ESPL_F32, &(*bias)->shape, (*bias)->constant->data);
    if (!t) return false;
    espl__weight_bias(weights, t->data, espl_shape_count(&t->shape));
    espl__value *v = espl__graph_constant(g, NULL, t);
    if (v) *bias = v;
    return v != NULL;
}

static bool round_biases(espl_graph *g, espl__node *n, const espl__quant *weights) {
    espl__node *add = espl__plan_bias_add(g, n);
    for (int k = 0; k < n->input_count && k < 32; k++)
        if (n->op->bias_inputs >> k & 1 && !round_bias(g, &n->inputs[k], weights)) return false;
    return !add || round_bias(g, &add->inputs[add->inputs[0] == n->outputs[0] ? 1 : 0], weights);
}

static bool quantize_layer(ptq *p, espl__node *n) {
    const decision *d = &p->decisions[n->id];
    const espl__quant *weights = NULL;
    for (int k = 0; k < n->input_count && k < 32; k++) {
        if (!(n->op->weight_inputs >> k & 1) || !plain_constant(n->inputs[k])) continue;
        if (!quantize_weights(p->g, n, k, d, n->op->weight_axis ? n->op->weight_axis(n, k) : -1)) return false;
        weights = &n->inputs[k]->quant;
    }
    if (kind_of(p, n) == WORK_LAYER && espl__is_quantized(n->inputs[1]) && !quantize_bias(p->g, n)) return false;
    return !weights || round_biases(p->g, n, weights);
}

static bool quantize_operands(ptq *p, espl__node *n) {
    bool any = false;
    if (espl__plan_unary_input(n) >= 0) return true;
    for (int k = 0; k < n->input_count; k++) {
        if (n->inputs[k] && espl__plan_bias_add(p->g, n->inputs[k]->producer) == n) return true;
        any |= espl__is_quantized(n->inputs[k]) && !n->inputs[k]->constant;
    }
    for (int k = 0; k < n->input_count && any; k++)
        if (plain_constant(n->inputs[k]) && !quantize_operand(p, n, k)) return false;
    return true;
}

/* A matrix that is added was trained like weights (the positions of a transformer) and is stored like
 * weights, one scale a row, wherever the sum itself is computed. Short rows would spend on scales what they
 * save. */
static bool quantize_table(ptq *p, espl__node *n) {
    enum { LEAST_ROW = 16, LEAST_ELEMENTS = 256 };
    for (int k = 0; k < n->input_count; k++) {
        const espl__value *v = n->inputs[k];
        if (!plain_constant(v) || v->shape.rank < 2) continue;
        if (v->shape.dim[v->shape.rank - 1] < LEAST_ROW || espl_shape_count(&v->shape) < LEAST_ELEMENTS)
            continue;
        decision by_row = p->decisions[n->id];
        by_row.per_tensor = false;
        by_row.group = 0;
        if (!quantize_weights(p->g, n, k, &by_row, v->shape.rank - 2)) return false;
    }
    return true;
}

static bool takes_dynamic(const espl__node *n) {
    return espl__is_layer(n) && (espl__node_is(n, "MatMul") || espl__node_is(n, "Gemm"));
}

static bool quantize_constants(ptq *p) {
    for (int i = 0; i < p->g->node_count; i++) {
        espl__node *n = p->g->nodes[i];
        bool weights = p->decisions[n->id].weights != ESPL_FORMAT_F32;
        if (weights && espl__is_layer(n) && !quantize_layer(p, n)) return false;
        if (p->decisions[n->id].dynamic && takes_dynamic(n) && !espl__attr_set_int(p->g, n, "espl_dynamic", 1))
            return false;
        if (kind_of(p, n) == WORK_CHAIN && !quantize_operands(p, n)) return false;
        if (weights && espl__node_is(n, "Add") && !quantize_table(p, n)) return false;
    }
    return true;
}

/* Finds what is wanted and which values share a grid. finish frees it, whatever came of it. */
static espl_status begin(ptq *p, espl_diag *diag) {
    espl_context *ctx = p->g->arena.ctx;
    uint64_t n = (uint64_t)p->g->value_count + 1;
    p->parent = espl__calloc(ctx, n, sizeof(int));
    p->available = espl__calloc(ctx, n, 1);
    p->wanted = espl__calloc(ctx, n, 1);
    p->symmetric = espl__calloc(ctx, n, 1);
    p->merged = espl__calloc(ctx, n, sizeof(range));
    p->wish = espl__calloc(ctx, n, sizeof *p->wish);
    p->pow2 = espl__calloc(ctx, n, 1);
    if (!p->parent || !p->available || !p->wanted || !p->symmetric || !p->merged || !p->wish || !p->pow2)
        return espl__nomem(diag, n);
    p->values = p->g->value_count;
    for (int i = 0; i < p->values; i++) p->parent[i] = i;
    mark_available(p);
    mark_wanted(p);
    make_classes(p);
    note_wishes(p);
    return ESPL_OK;
}

static void finish(ptq *p) {
    espl_context *ctx = p->g->arena.ctx;
    for (int i = 0; p->merged && i < p->values; i++) espl__range_free(ctx, &p->merged[i]);
    espl__free(ctx, p->parent);
    espl__free(ctx, p->available);
    espl__free(ctx, p->wanted);
    espl__free(ctx, p->symmetric);
    espl__free(ctx, p->merged);
    espl__free(ctx, p->wish);
    espl__free(ctx, p->pow2);
}

espl_status espl__ptq_apply(espl_graph *g, const range *ranges, const decision *decisions,
                            espl_flavour flavour, espl_diag *diag) {
    espl_status status = ESPL_OK;
    ptq p = {.g = g, .ranges = ranges, .decisions = decisions, .flavour = flavour};
    for (int i = 0; i < g->value_count; i++) g->values[i]->mark = 0;
    ESPL_TRY(begin(&p, diag));
    ESPL_TRY(merge_ranges(&p, diag));
    if (!quantize_values(&p) || !round_values(&p) || !quantize_constants(&p)) ESPL_TRY(espl__nomem(diag, (uint64_t)g->value_count));
    espl__graph_sweep(g);
done:
    finish(&p);
    return status;
}

/* With fewer layers in integers fewer values are wanted, and classes are smaller. A value that its clamp takes over is
 * wanted by nobody else. */
espl_status espl__ptq_observed(espl_graph *g, espl_flavour flavour, bool *observed, espl_diag *diag) {
    espl_status status = ESPL_OK;
    espl_context *ctx = g->arena.ctx;
    decision *all = espl__calloc(ctx, (uint64_t)g->node_count + 1, sizeof *all);
    ptq p = {.g = g, .decisions = all, .flavour = flavour};
    if (!all) return espl__nomem(diag, sizeof *all);
    for (int i = 0; i < g->node_count; i++) all[i] = (decision){.weights = ESPL_FORMAT_S8, .integer = true};
    ESPL_TRY(begin(&p, diag));
    for (int i = 0; i < g->value_count; i++)
        if (p.wanted[i]) p.merged[find(&p, i)].seen = 1;
    for (int i = 0; i < g->value_count; i++) {
        const espl__value *v = g->values[i];
        observed[i] = p.merged[find(&p, i)].seen > 0 && counts(&p, v) && !fused_away(&p, v);
    }
    for (int i = 0; i < g->node_count; i++) /* layers in f32 may have their inputs rounded too */
        if (espl__is_layer(g->nodes[i]) && g->nodes[i]->inputs[0]) observed[g->nodes[i]->inputs[0]->id] = true;
done:
    finish(&p);
    espl__free(ctx, all);
    return status;
}
