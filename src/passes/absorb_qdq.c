/* QuantizeLinear -> DequantizeLinear around a value says "this value, rounded to that grid": it becomes
 * value->quant. DequantizeLinear of a constant becomes a quantized constant, and so does the Cast of weights of
 * 16 bits. What does not fit (per-axis or
 * 16-bit activations, integer graph inputs, grids that are not constant) stays a node and is computed as
 * such. */
#include "passes/passes.h"

#include <math.h>

typedef struct grid {
    espl_format format;
    int axis;
    int64_t count;
    const float *scale;
    int32_t *zero; /* owned by the arena */
    bool usable;
} grid;

static bool is_quantizer(const espl__node *n) {
    return espl__node_is(n, "QuantizeLinear");
}
static bool is_dequantizer(const espl__node *n) {
    return espl__node_is(n, "DequantizeLinear");
}

/* The grid that a Quantize- or DequantizeLinear node names; `rank` of the tensor it is applied to. */
static grid read_grid(espl_graph *g, const espl__node *n, int rank, espl_dtype fallback) {
    grid q = {.usable = false};
    const espl__value *s = n->inputs[1], *z = n->input_count > 2 ? n->inputs[2] : NULL;
    if (!s->constant || s->constant->dtype != ESPL_F32 || (z && !z->constant)) return q;
    if (espl__attr_int(n, "block_size", 0) != 0) return q;
    espl_dtype type = z ? z->constant->dtype : fallback;
    q.count = espl_shape_count(&s->constant->shape);
    if (q.count < 1 || (z && espl_shape_count(&z->constant->shape) != q.count)) return q;
    int64_t axis = espl__attr_int(n, "axis", 1);
    q.axis = s->constant->shape.rank == 0 || q.count == 1 ? -1 : (int)(axis < 0 ? axis + rank : axis);
    if (q.axis >= rank || (q.axis < 0 && q.count > 1)) return q;
    q.scale = s->constant->data;
    q.zero = espl__arena_alloc(&g->arena, sizeof(int32_t) * (uint64_t)q.count);
    if (!q.zero) return q;
    for (int64_t i = 0; i < q.count; i++) {
        if (!(q.scale[i] > 0) || !isfinite(q.scale[i])) return q;
        if (!z) continue;
        if (type == ESPL_U8) q.zero[i] = ((const uint8_t *)z->constant->data)[i];
        if (type == ESPL_S8) q.zero[i] = ((const int8_t *)z->constant->data)[i];
        if (type == ESPL_S32) q.zero[i] = ((const int32_t *)z->constant->data)[i];
    }
    q.format = type == ESPL_U8 ? ESPL_FORMAT_U8 : type == ESPL_S8 ? ESPL_FORMAT_S8 : ESPL_FORMAT_S32;
    q.usable = type == ESPL_U8 || type == ESPL_S8 || type == ESPL_S32;
    return q;
}

static espl_dtype code_type(espl_format format) {
    return format == ESPL_FORMAT_U8 ? ESPL_U8 : format == ESPL_FORMAT_S8 ? ESPL_S8 : ESPL_S32;
}

static bool same_grid(const grid *a, const grid *b) {
    if (a->format != b->format || a->axis != b->axis || a->count != b->count) return false;
    return memcmp(a->scale, b->scale, sizeof(float) * (size_t)a->count) == 0 &&
           memcmp(a->zero, b->zero, sizeof(int32_t) * (size_t)a->count) == 0;
}

static bool set_grid(espl_graph *g, espl__value *v, const grid *q) {
    return espl__graph_set_quant(g, v, q->format, q->axis, q->count, q->scale, q->zero);
}

static bool axis_fits(const grid *q, const espl_shape *shape) {
    return q->axis < 0 || (q->axis < shape->rank && shape->dim[q->axis] == q->count);
}

/* A bound, a fill or a factor, which is read as a plain number; weights have more dimensions. */
static bool is_number(const espl_tensor *t) {
    return t->shape.rank <= 1 && espl_shape_count(&t->shape) == 1;
}

/* DequantizeLinear(constant codes). */
static espl_status absorb_constant(espl_graph *g, espl__node *dq, espl_diag *diag) {
    const espl_tensor *codes = dq->inputs[0]->constant;
    grid q = read_grid(g, dq, codes->shape.rank, codes->dtype);
    /* Codes of another type than the zero point's are left to inference, which refuses them. */
    if (!q.usable || codes->dtype != code_type(q.format) || !axis_fits(&q, &codes->shape)) return ESPL_OK;
    bool is_output = espl__graph_is_output(g, dq->inputs[0]);
    espl__value *c = espl__graph_constant(g, is_output ? "" : dq->inputs[0]->name, codes);
    if (!c || !set_grid(g, c, &q)) return espl__nomem(diag, 0);
    c->dtype = ESPL_F32;
    if (is_number(codes) && q.format != ESPL_FORMAT_S32) {
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

/* QuantizeLinear(constant f32): the codes are computed once. */
static espl_status quantize_constant(espl_graph *g, espl__node *n, espl_diag *diag) {
    const espl_tensor *x = n->inputs[0]->constant;
    grid q = read_grid(g, n, x->shape.rank, ESPL_U8);
    if (!q.usable || q.format == ESPL_FORMAT_S32 || !axis_fits(&q, &x->shape) || x->dtype != ESPL_F32)
        return ESPL_OK;
    espl__quant quant = {
        .format = q.format, .axis = q.axis, .count = q.count, .scale = (float *)q.scale, .zero = q.zero};
    espl_tensor *codes = espl__constant_codes(g, x, &quant);
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

/* Grids are for f32. Types are not inferred yet: what is known of integers is who makes them. */
static bool may_be_integer(const espl__value *x) {
    if (x->constant || x->is_input) return x->constant || x->dtype != ESPL_F32;
    return espl__node_is(x->producer, "Cast") && espl__attr_int(x->producer, "to", 0) != 1;
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
    grid a = read_grid(g, first, ESPL_MAX_RANK, ESPL_U8);
    for (int i = from; i < g->node_count && a.usable; i++) {
        espl__node *n = g->nodes[i];
        if (n->mark == -1 || !is_quantizer(n) || n->inputs[0] != x) continue;
        grid b = read_grid(g, n, ESPL_MAX_RANK, ESPL_U8);
        if (!b.usable || !same_grid(&a, &b) || espl__graph_is_output(g, n->outputs[0])) continue;
        espl__graph_replace(g, n->outputs[0], first->outputs[0]);
        n->mark = -1;
    }
}

static espl_status absorb_pair(espl_graph *g, espl__node *quantizer, espl_diag *diag) {
    espl__value *codes = quantizer->outputs[0], *x = quantizer->inputs[0];
    grid q = read_grid(g, quantizer, ESPL_MAX_RANK, ESPL_U8);
    if (!q.usable || q.axis >= 0 || q.format == ESPL_FORMAT_S32 || espl__graph_is_output(g, codes) ||
        may_be_integer(x))
        return ESPL_OK;
    bool any = false;
    for (int i = 0; i < g->node_count; i++) {
        espl__node *r = g->nodes[i];
        for (int j = 0; j < r->input_count; j++) {
            if (r->inputs[j] != codes || r->mark == -1) continue;
            if (!is_dequantizer(r) || j != 0) return ESPL_OK;
            grid d = read_grid(g, r, ESPL_MAX_RANK, code_type(q.format));
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
        if (espl__node_is(g->nodes[i], "Cast") && g->nodes[i]->inputs[0]->constant)
            status = absorb_cast(g, g->nodes[i], diag);
    espl__graph_count_uses(g);
    for (int i = 0; i < count; i++)
        if (is_quantizer(g->nodes[i]) && g->nodes[i]->mark != -1) merge_quantizers(g, g->nodes[i], i + 1);
    espl__graph_sweep(g);
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
