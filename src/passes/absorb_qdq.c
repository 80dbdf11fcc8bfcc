/* QuantizeLinear -> DequantizeLinear around a value says "this value, rounded to that grid": it becomes
 * value->quant. DequantizeLinear of a constant becomes a quantized constant, and so do the product of integer codes by
 * scales and the Cast of weights of 16 bits. What does not fit (per-axis or unsigned 16-bit activations, integer graph inputs, grids that are not
 * constant) stays a node and is computed as such. */
#include "passes/passes.h"

#include <math.h>

typedef struct grid {
    espl__quant q; /* arrays are the constants' own, or the arena's */
    bool usable;
} grid;

static bool is_quantizer(const espl__node *n) {
    return espl__node_is(n, "QuantizeLinear");
}
static bool is_dequantizer(const espl__node *n) {
    return espl__node_is(n, "DequantizeLinear");
}

/* The format of codes of an element type; F32: there is none. */
static espl_format format_of(espl_dtype type) {
    switch (type) {
        case ESPL_U8:
            return ESPL_FORMAT_U8;
        case ESPL_S8:
            return ESPL_FORMAT_S8;
        case ESPL_S16:
            return ESPL_FORMAT_S16;
        case ESPL_S32:
            return ESPL_FORMAT_S32;
        case ESPL_U4:
            return ESPL_FORMAT_U4;
        case ESPL_S4:
            return ESPL_FORMAT_S4;
        case ESPL_E4M3:
            return ESPL_FORMAT_E4M3;
        case ESPL_E5M2:
            return ESPL_FORMAT_E5M2;
        default:
            return ESPL_FORMAT_F32;
    }
}

static bool is_integer(espl_format format) {
    return espl_format_kind_of(format) == ESPL_FORMAT_KIND_INTEGER;
}

static int32_t zero_at(const espl_tensor *z, int64_t i) {
    switch (z->dtype) {
        case ESPL_S8:
        case ESPL_S4:
            return ((const int8_t *)z->data)[i];
        case ESPL_S16:
            return ((const int16_t *)z->data)[i];
        case ESPL_S32:
            return ((const int32_t *)z->data)[i];
        default: /* of a small float 0 is the only one that is usable */
            return ((const uint8_t *)z->data)[i];
    }
}

/* Whether an element of the tensor depends on its index along two axes only; `stride` of each axis. */
static bool depends_on(const espl_tensor *t, const int64_t *stride, int a, int b) {
    const char *x = t->data;
    const int64_t size = (int64_t)espl_dtype_bytes(t->dtype);
    for (int64_t i = 0, n = espl_shape_count(&t->shape); i < n; i++) {
        int64_t at = i / stride[a] % t->shape.dim[a] * stride[a] + i / stride[b] % t->shape.dim[b] * stride[b];
        if (memcmp(x + i * size, x + at * size, (size_t)size) != 0) return false;
    }
    return true;
}

/* Scales of blocks have the shape of the tensor, but for the axis, of which they have one index a block. */
static bool fits_blocks(const espl_shape *scale, const espl_shape *shape, int axis, int64_t block) {
    if (scale->rank != shape->rank || scale->rank < 2 || axis < 0 || axis >= scale->rank || block < 1)
        return false;
    for (int d = 0; d < scale->rank; d++) {
        const int64_t size = d == axis ? block : 1;
        if (scale->dim[d] != shape->dim[d] / size + (shape->dim[d] % size != 0)) return false;
    }
    return true;
}

/* Those that differ along the blocks' axis and one other become [channel][group]; others have no form here.
 */
static void read_blocks(espl_graph *g, const espl_tensor *s, const espl_tensor *z, int axis, int64_t block,
                        grid *out) {
    espl__quant *q = &out->q;
    int rank = s->shape.rank;
    int64_t stride[ESPL_MAX_RANK], step = 1;
    for (int d = rank - 1; d >= 0; step *= s->shape.dim[d--]) stride[d] = step;
    int channel = -1;
    for (int d = 0; d < rank && channel < 0; d++)
        if (d != axis && depends_on(s, stride, axis, d) && (!z || depends_on(z, stride, axis, d))) channel = d;
    float *scale = espl__arena_alloc(&g->arena, sizeof *scale * (uint64_t)q->count);
    int32_t *zero = espl__arena_alloc(&g->arena, sizeof *zero * (uint64_t)q->count);
    if (channel < 0 || !scale || !zero) return;
    int64_t groups = s->shape.dim[axis], channels = s->shape.dim[channel];
    for (int64_t c = 0; c < channels; c++)
        for (int64_t k = 0; k < groups; k++) {
            int64_t at = c * stride[channel] + k * stride[axis];
            scale[c * groups + k] = ((const float *)s->data)[at];
            zero[c * groups + k] = z ? zero_at(z, at) : 0;
        }
    *q = (espl__quant){q->format, channel, channels * groups, scale, zero, NULL, block, axis};
    out->usable = true;
}

/* The type of a QuantizeLinear's codes. */
static espl_dtype code_type(const espl__node *n) {
    espl_dtype type = ESPL_U8;
    int64_t said = espl__attr_int(n, "output_dtype", 0);
    if (n->input_count > 2 && n->inputs[2]) return n->inputs[2]->dtype;
    return said == 0 || espl__dtype_from_onnx(said, &type) ? type : ESPL_F32;
}

/* The grid that a Quantize- or DequantizeLinear node names; `shape` of the tensor it is applied to, NULL: not
 * known. */
static grid read_grid(espl_graph *g, const espl__node *n, const espl_shape *shape, espl_dtype fallback) {
    grid r = {.usable = false};
    const int rank = shape ? shape->rank : ESPL_MAX_RANK;
    const espl__value *s = n->inputs[1], *z = n->input_count > 2 ? n->inputs[2] : NULL;
    if (!s->constant || s->constant->dtype != ESPL_F32 || (z && (!z->constant || espl__is_quantized(z))))
        return r;
    const espl_tensor *scale = s->constant, *zero = z ? z->constant : NULL;
    espl__quant *q = &r.q;
    q->format = format_of(zero ? zero->dtype : fallback);
    q->count = espl_shape_count(&scale->shape);
    if (q->format == ESPL_FORMAT_F32 || q->count < 1 || (zero && espl_shape_count(&zero->shape) != q->count)) return r;
    for (int64_t i = 0; i < q->count; i++) {
        float x = ((const float *)scale->data)[i];
        if (!(x > 0) || !isfinite(x)) return r;
        if (zero && !is_integer(q->format) && zero_at(zero, i) != 0) return r;
        if (zero && zero->dtype == ESPL_S16 && zero_at(zero, i) == INT16_MIN) return r; /* no code of ours */
    }
    int64_t axis = espl__attr_int(n, "axis", 1), block = espl__attr_int(n, "block_size", 0);
    axis = axis < 0 ? axis + rank : axis;
    if (block != 0) {
        if (zero && !espl_shape_equal(&zero->shape, &scale->shape)) return r;
        axis = ESPL_MAX(ESPL_MIN(axis, rank), -1);
        if (shape && fits_blocks(&scale->shape, shape, (int)axis, block))
            read_blocks(g, scale, zero, (int)axis, block, &r);
        return r;
    }
    if (q->count > 1 && (scale->shape.rank != 1 || axis < 0 || axis >= rank)) return r;
    q->axis = q->count == 1 ? -1 : (int)axis;
    q->scale = scale->data;
    q->zero = espl__arena_alloc(&g->arena, sizeof(int32_t) * (uint64_t)q->count);
    if (!q->zero) return r;
    for (int64_t i = 0; zero && i < q->count; i++) q->zero[i] = zero_at(zero, i);
    r.usable = true;
    return r;
}

/* Of activations, which have no groups. */
static bool same_grid(const grid *a, const grid *b) {
    const espl__quant *p = &a->q, *q = &b->q;
    if (p->format != q->format || p->axis != q->axis || p->count != q->count || p->group || q->group) return false;
    return memcmp(p->scale, q->scale, sizeof(float) * (size_t)p->count) == 0 &&
           memcmp(p->zero, q->zero, sizeof(int32_t) * (size_t)p->count) == 0;
}

/* Zero points are of integers. */
static bool set_grid(espl_graph *g, espl__value *v, const grid *from) {
    espl__quant q = from->q;
    if (!is_integer(q.format)) q.zero = NULL;
    return espl__graph_copy_quant(g, v, &q);
}

/* Codes from 0 to 15 are those from -8 to 7 with another zero point: s4, which has kernels. */
static void shift_to_signed(espl_tensor *codes, espl__quant *q) {
    for (int64_t i = 0, n = espl_shape_count(&codes->shape); i < n; i++) ((int8_t *)codes->data)[i] -= 8;
    for (int64_t i = 0; i < q->count; i++) q->zero[i] -= 8;
    q->format = ESPL_FORMAT_S4;
}

/* A bound, a fill or a factor, which is read as a plain number; weights have more dimensions. */
static bool is_number(const espl_tensor *t) {
    return t->shape.rank <= 1 && espl_shape_count(&t->shape) == 1;
}

/* DequantizeLinear(constant codes). */
static espl_status absorb_constant(espl_graph *g, espl__node *dq, espl_diag *diag) {
    const espl_tensor *codes = dq->inputs[0]->constant;
    if (espl__is_quantized(dq->inputs[0])) return ESPL_OK; /* numbers already, which inference refuses */
    grid q = read_grid(g, dq, &codes->shape, codes->dtype);
    /* Codes of another type than the zero point's are left to inference, which refuses them. */
    if (!q.usable || format_of(codes->dtype) != q.q.format || espl__quant_scales(&q.q, &codes->shape) != q.q.count)
        return ESPL_OK;
    bool is_output = espl__graph_is_output(g, dq->inputs[0]);
    espl__value *c = espl__graph_constant(g, is_output ? "" : dq->inputs[0]->name, codes);
    if (!c) return espl__nomem(diag, 0);
    if (q.q.format == ESPL_FORMAT_U4) shift_to_signed(c->constant, &q.q);
    c->constant->dtype = espl__format_dtype(q.q.format);
    if (!set_grid(g, c, &q)) return espl__nomem(diag, 0);
    c->dtype = ESPL_F32;
    if (is_number(codes) && q.q.format != ESPL_FORMAT_S32) {
        const espl_tensor *number = espl__constant_f32(g, c);
        if (!number) return espl__nomem(diag, 0);
        c->constant = (espl_tensor *)number;
        c->quant = (espl__quant){.format = ESPL_FORMAT_F32};
    }
    /* A graph's names are unique, and the name goes with the codes; only outputs keep theirs. */
    if (!is_output && !(dq->inputs[0]->name = espl__arena_strdup(&g->arena, ""))) return espl__nomem(diag, 1);
    if (espl__graph_is_output(g, dq->outputs[0])) return ESPL_OK;
    espl__graph_replace(g, dq->outputs[0], c);
    dq->mark = -1;
    return ESPL_OK;
}

/* All that read `v` multiply by it: they take weights in any format. */
static bool only_weights(const espl_graph *g, const espl__value *v) {
    int readers = 0;
    for (int i = 0; i < g->node_count; i++)
        for (int j = 0; j < g->nodes[i]->input_count; j++) {
            if (g->nodes[i]->inputs[j] != v) continue;
            if (j >= 32 || !(g->nodes[i]->op->weight_inputs >> j & 1)) return false;
            readers++;
        }
    return readers > 0 && !espl__graph_is_output(g, v);
}

/* Cast(constant f16 or bf16) to f32. */
static espl_status absorb_cast(espl_graph *g, espl__node *cast, espl_diag *diag) {
    const espl_tensor *t = cast->inputs[0]->constant;
    espl__value *y = cast->outputs[0];
    const float one = 1;
    if ((t->dtype != ESPL_F16 && t->dtype != ESPL_BF16) || espl__attr_int(cast, "to", 0) != 1 || is_number(t) ||
        !only_weights(g, y))
        return ESPL_OK;
    espl__value *c = espl__graph_constant(g, y->name, t);
    espl_format format = t->dtype == ESPL_F16 ? ESPL_FORMAT_F16 : ESPL_FORMAT_BF16;
    if (!c || !espl__graph_set_quant(g, c, format, -1, 1, &one, NULL) ||
        !(y->name = espl__arena_strdup(&g->arena, ""))) /* a graph's names are unique */
        return espl__nomem(diag, 0);
    c->dtype = ESPL_F32;
    espl__graph_replace(g, y, c);
    cast->mark = -1;
    return ESPL_OK;
}

/* The grid that multiplying codes of that shape by `scale` means: one number, or one for each index of an axis. */
static grid read_factor(const espl_tensor *codes, const espl_tensor *scale) {
    grid r = {.q = {.format = format_of(codes->dtype), .axis = -1, .count = espl_shape_count(&scale->shape)}};
    if (r.q.format == ESPL_FORMAT_F32 || scale->dtype != ESPL_F32 || r.q.count < 1) return r;
    for (int64_t i = 0; i < r.q.count; i++) {
        float x = ((const float *)scale->data)[i];
        if (!(x > 0) || !isfinite(x)) return r;
    }
    r.q.scale = scale->data;
    if (r.q.count > 1 && scale->shape.rank != codes->shape.rank) return r;
    for (int d = 0; r.q.count > 1 && d < scale->shape.rank; d++)
        if (scale->shape.dim[d] == r.q.count) r.q.axis = d;
    r.usable = scale->shape.rank <= codes->shape.rank && espl__quant_scales(&r.q, &codes->shape) == r.q.count;
    return r;
}

/* Mul(Cast(constant codes), constant scales): what DequantizeLinear says too. */
static espl_status absorb_product(espl_graph *g, espl__node *mul, espl_diag *diag) {
    espl__node *cast = mul->inputs[0] ? mul->inputs[0]->producer : NULL;
    const espl__value *scale = mul->inputs[1];
    espl__value *y = mul->outputs[0];
    if (!espl__node_is(cast, "Cast") || !scale || !scale->constant || espl__attr_int(cast, "to", 0) != 1) return ESPL_OK;
    const espl_tensor *codes =
        cast->inputs[0] && !espl__is_quantized(cast->inputs[0]) ? cast->inputs[0]->constant : NULL;
    if (!codes || is_number(codes) || codes->dtype == ESPL_U4 || codes->dtype == ESPL_S32 || espl__graph_is_output(g, y))
        return ESPL_OK;
    grid q = read_factor(codes, scale->constant);
    if (!q.usable) return ESPL_OK;
    espl__value *c = espl__graph_constant(g, y->name, codes);
    if (!c) return espl__nomem(diag, 0);
    c->constant->dtype = espl__format_dtype(q.q.format);
    c->dtype = ESPL_F32;
    if (!set_grid(g, c, &q) || !(y->name = espl__arena_strdup(&g->arena, ""))) return espl__nomem(diag, 0);
    if (espl__graph_only_reader(g, cast->outputs[0]) == mul) cast->mark = -1;
    espl__graph_replace(g, y, c);
    mul->mark = -1;
    return ESPL_OK;
}

/* QuantizeLinear(constant f32): the codes are computed once. */
static espl_status quantize_constant(espl_graph *g, espl__node *n, espl_diag *diag) {
    const espl_tensor *x = n->inputs[0]->constant;
    grid q = read_grid(g, n, &x->shape, code_type(n));
    bool bytes = q.q.format == ESPL_FORMAT_U8 || q.q.format == ESPL_FORMAT_S8;
    if (!q.usable || !bytes || q.q.group || espl__quant_scales(&q.q, &x->shape) != q.q.count || x->dtype != ESPL_F32)
        return ESPL_OK; /* others are computed by the node */
    espl_tensor *codes = espl__constant_codes(g, x, &q.q);
    if (!codes) return espl__nomem(diag, 0);
    espl__value *v = n->outputs[0];
    v->constant = codes;
    v->dtype = codes->dtype;
    v->shape = x->shape;
    v->known_rank = true;
    v->producer = NULL;
    n->mark = -1;
    return ESPL_OK;
}

/* Types of what is rounded: grids are for f32, and QuantizeLinear takes integers too. What cannot be inferred
 * is told by the pass that infers. */
static void infer_types(const espl_graph *g) {
    bool any = false;
    for (int i = 0; i < g->node_count && !any; i++) any = is_quantizer(g->nodes[i]);
    for (int i = 0; i < g->node_count && any; i++) (void)g->nodes[i]->op->infer(g->nodes[i], NULL);
}

/* The value that will carry the grid: x itself if nothing else sees it unrounded, else a copy. */
static espl__value *carrier(espl_graph *g, espl__node *quantizer) {
    espl__value *x = quantizer->inputs[0];
    if (x->uses == 1 && !espl__is_quantized(x) && !espl__graph_is_output(g, x)) return x;
    espl__node *copy = espl__graph_node(g, espl__op_find("", "Identity"), "", 1, 1, 0);
    espl__value *v = espl__graph_value(g, NULL);
    if (!copy || !v) return NULL;
    copy->inputs[0] = x;
    espl__node_set_output(copy, 0, v);
    v->dtype = x->dtype;
    return v;
}

/* One rounding serves all that round x to the same grid: some tools write one for every reader. */
static void merge_quantizers(espl_graph *g, espl__node *first, int from) {
    const espl__value *x = first->inputs[0];
    if (x->uses < 2) return;
    grid a = read_grid(g, first, NULL, code_type(first));
    for (int i = from; i < g->node_count && a.usable; i++) {
        espl__node *n = g->nodes[i];
        if (n->mark == -1 || !is_quantizer(n) || n->inputs[0] != x) continue;
        grid b = read_grid(g, n, NULL, code_type(n));
        if (!b.usable || !same_grid(&a, &b) || espl__graph_is_output(g, n->outputs[0])) continue;
        espl__graph_replace(g, n->outputs[0], first->outputs[0]);
        n->mark = -1;
    }
}

static espl_status absorb_pair(espl_graph *g, espl__node *quantizer, espl_diag *diag) {
    espl__value *codes = quantizer->outputs[0], *x = quantizer->inputs[0];
    grid q = read_grid(g, quantizer, NULL, code_type(quantizer));
    if (!q.usable || q.q.axis >= 0 || q.q.format == ESPL_FORMAT_S32 || espl__graph_is_output(g, codes) ||
        x->constant || x->dtype != ESPL_F32)
        return ESPL_OK;
    bool any = false;
    for (int i = 0; i < g->node_count; i++) {
        espl__node *r = g->nodes[i];
        for (int j = 0; j < r->input_count; j++) {
            if (r->inputs[j] != codes || r->mark == -1) continue;
            if (!is_dequantizer(r) || j != 0) return ESPL_OK;
            grid d = read_grid(g, r, NULL, code_type(quantizer));
            if (!d.usable || !same_grid(&q, &d)) return ESPL_OK;
            any = true;
        }
    }
    if (!any) return ESPL_OK;
    espl__value *v = carrier(g, quantizer);
    if (!v || !set_grid(g, v, &q)) return espl__nomem(diag, 0);
    quantizer->mark = -1;
    for (int i = 0; i < g->node_count; i++) {
        espl__node *r = g->nodes[i];
        if (r->mark == -1 || !is_dequantizer(r) || r->inputs[0] != codes) continue;
        espl__value *y = r->outputs[0];
        if (espl__graph_is_output(g, y)) { /* outputs keep their names */
            if (v->is_input || espl__graph_is_output(g, v)) {
                espl__node *copy = espl__graph_node(g, espl__op_find("", "Identity"), "", 1, 1, 0);
                if (!copy) return espl__nomem(diag, 0);
                copy->inputs[0] = v;
                espl__node_set_output(copy, 0, y);
                r->mark = -1;
                continue;
            }
            char *name = v->name;
            v->name = y->name;
            y->name = name;
        }
        espl__graph_replace(g, y, v);
        r->mark = -1;
        if (y->producer == r) y->producer = NULL;
    }
    return ESPL_OK;
}

espl_status espl__pass_absorb_qdq(espl_graph *g, espl_diag *diag) {
    espl_status status = ESPL_OK;
    int count = g->node_count;
    for (int i = 0; i < count && status == ESPL_OK; i++)
        if (is_quantizer(g->nodes[i]) && g->nodes[i]->inputs[0]->constant)
            status = quantize_constant(g, g->nodes[i], diag);
    for (int i = 0; i < count && status == ESPL_OK; i++)
        if (is_dequantizer(g->nodes[i]) && g->nodes[i]->inputs[0]->constant)
            status = absorb_constant(g, g->nodes[i], diag);
    for (int i = 0; i < count && status == ESPL_OK; i++)
        if (espl__node_is(g->nodes[i], "Mul")) status = absorb_product(g, g->nodes[i], diag);
    for (int i = 0; i < count && status == ESPL_OK; i++)
        if (espl__node_is(g->nodes[i], "Cast") && g->nodes[i]->inputs[0]->constant)
            status = absorb_cast(g, g->nodes[i], diag);
    espl__graph_count_uses(g);
    for (int i = 0; i < count; i++)
        if (is_quantizer(g->nodes[i]) && g->nodes[i]->mark != -1) merge_quantizers(g, g->nodes[i], i + 1);
    espl__graph_sweep(g);
    infer_types(g);
    espl__graph_count_uses(g);
    count = g->node_count;
    for (int i = 0; i < count && status == ESPL_OK; i++)
        if (is_quantizer(g->nodes[i]) && g->nodes[i]->mark != -1) status = absorb_pair(g, g->nodes[i], diag);
    espl__graph_sweep(g);
    return status;
}

/* Moving rounded elements rounds nothing: Reshape, MaxPool and the like hand their input's grid on. */
espl_status espl__pass_propagate_grids(espl_graph *g, espl_diag *diag) {
    for (int i = 0; i < g->node_count; i++) {
        const espl__node *n = g->nodes[i];
        const espl__value *x = n->input_count > 0 ? n->inputs[0] : NULL;
        if (n->op->quant != ESPL__QUANT_MOVE || !espl__is_quantized(x) || x->quant.count != 1) continue;
        if (x->quant.format != ESPL_FORMAT_U8 && x->quant.format != ESPL_FORMAT_S8) continue; /* of constants only */
        if (espl__node_is(n, "Pad")) continue; /* brings a value of its own */
        for (int j = 0; j < n->output_count; j++) {
            espl__value *y = n->outputs[j];
            if (!y || y->dtype != ESPL_F32 || espl__is_quantized(y) || espl__graph_is_output(g, y)) continue;
            if (!espl__graph_set_quant(g, y, x->quant.format, -1, 1, x->quant.scale, x->quant.zero))
                return espl__nomem(diag, 0);
        }
    }
    return ESPL_OK;
}
