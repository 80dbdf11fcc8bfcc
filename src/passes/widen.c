/* Tensors of f16 and bf16 are computed in f32. Weights stay as they are stored, as constants of that format;
 * other constants become f32; inputs and outputs of the graph keep their types behind a Cast. Between
 * operators nothing is rounded that the operators would round, as other tools do on processors without such
 * arithmetic. What is rounded on purpose is: a Cast to 16 bits whose result is cast back. */
#include "passes/passes.h"

static bool is_half(espl_dtype dtype) {
    return dtype == ESPL_F16 || dtype == ESPL_BF16;
}

static espl_format format_of(espl_dtype dtype) {
    return dtype == ESPL_F16 ? ESPL_FORMAT_F16 : ESPL_FORMAT_BF16;
}

/* Element types in attributes are ONNX's numbers. */
static bool names_half(const espl__node *n, const char *attr, espl_dtype *out) {
    return espl__dtype_from_onnx(espl__attr_int(n, attr, 0), out) && is_half(*out);
}

static int64_t onnx_number(espl_dtype dtype) {
    return dtype == ESPL_F32 ? 1 : dtype == ESPL_F16 ? 10 : 16;
}

/* --- edges of the graph -------------------------------------------------------------------------- */

/* A node `y = Cast(x)`. */
static bool add_cast(espl_graph *g, espl__value *x, espl__value *y, espl_dtype to) {
    espl__node *n = espl__graph_node(g, espl__op_find("", "Cast"), "", 1, 1, 1);
    if (!n || !y) return false;
    n->opset = g->opset;
    n->inputs[0] = x;
    espl__node_set_output(n, 0, y);
    y->dtype = to;
    return espl__attr_set_int(g, n, "to", onnx_number(to));
}

/* Nodes that read `from` read `to`; outputs of the graph stay. */
static void replace_in_nodes(espl_graph *g, const espl__value *from, espl__value *to) {
    for (int i = 0; i < g->node_count; i++)
        for (int j = 0; j < g->nodes[i]->input_count; j++)
            if (g->nodes[i]->inputs[j] == from) g->nodes[i]->inputs[j] = to;
}

/* `y` stays the output, of its type; what makes it makes an f32 value. */
static bool widen_output(espl_graph *g, espl__value *y) {
    espl__node *n = y->producer;
    espl__value *wide = espl__graph_value(g, NULL);
    int index = y->producer_index;
    if (!wide) return false;
    replace_in_nodes(g, y, wide);
    espl__node_set_output(n, index, wide);
    wide->dtype = ESPL_F32;
    wide->shape = y->shape;
    wide->known_rank = y->known_rank;
    return add_cast(g, wide, y, y->dtype);
}

static bool widen_input(espl_graph *g, espl__value *x) {
    espl__value *wide = espl__graph_value(g, NULL);
    if (!wide) return false;
    replace_in_nodes(g, x, wide);
    wide->shape = x->shape;
    wide->known_rank = x->known_rank;
    return add_cast(g, x, wide, ESPL_F32);
}

/* --- constants ----------------------------------------------------------------------------------- */

/* What reads a constant: weights take any format, and casts of their own are absorbed with the weights behind
 * them. */
static void look_at_readers(const espl_graph *g, const espl__value *v, bool *weights, bool *casts) {
    *weights = *casts = true;
    for (int i = 0; i < g->node_count; i++)
        for (int j = 0; j < g->nodes[i]->input_count; j++) {
            const espl__node *n = g->nodes[i];
            if (n->inputs[j] != v) continue;
            *weights = *weights && j < 32 && (n->op->weight_inputs >> j & 1);
            *casts = *casts && espl__node_is(n, "Cast") && espl__attr_int(n, "to", 0) == 1;
        }
}

static bool widen_constant(espl_graph *g, espl__value *v) {
    const float one = 1;
    bool weights, casts;
    look_at_readers(g, v, &weights, &casts);
    if (casts || espl__graph_is_output(g, v)) return true;
    if (weights && v->constant->shape.rank > 1) {
        if (!espl__graph_set_quant(g, v, format_of(v->constant->dtype), -1, 1, &one, NULL)) return false;
    } else {
        const espl_tensor *wide = espl__constant_f32(g, v);
        if (!wide) return false;
        v->constant = (espl_tensor *)wide;
        v->lent = false;
    }
    v->dtype = ESPL_F32;
    return true;
}

/* --- nodes that name a type ---------------------------------------------------------------------- */

/* All readers cast it again, to f32: the rounding is what is wanted. */
static bool only_rounds(const espl_graph *g, const espl__value *v) {
    int readers = 0;
    for (int i = 0; i < g->node_count; i++)
        for (int j = 0; j < g->nodes[i]->input_count; j++) {
            const espl__node *n = g->nodes[i];
            if (n->inputs[j] != v) continue;
            if (!espl__node_is(n, "Cast") || espl__attr_int(n, "to", 0) != 1) return false;
            readers++;
        }
    return readers > 0;
}

static bool widen_cast(espl_graph *g, espl__node *n, espl_dtype to) {
    const float one = 1;
    espl__value *y = n->outputs[0];
    if (espl__graph_is_output(g, y)) return true; /* one that was added for it */
    if (only_rounds(g, y) && !espl__graph_set_quant(g, y, format_of(to), -1, 1, &one, NULL)) return false;
    y->dtype = ESPL_F32;
    return espl__attr_set_int(g, n, "to", onnx_number(ESPL_F32));
}

static bool widen_node(espl_graph *g, espl__node *n) {
    static const char *const types[] = {"dtype", "output_datatype"};
    espl_dtype dtype;
    if (espl__node_is(n, "Cast")) return !names_half(n, "to", &dtype) || widen_cast(g, n, dtype);
    for (size_t i = 0; i < ESPL_COUNT(types); i++)
        if (names_half(n, types[i], &dtype) && !espl__attr_set_int(g, n, types[i], onnx_number(ESPL_F32)))
            return false;
    for (int i = 0; i < n->attr_count; i++) {
        espl__attr *a = &n->attrs[i];
        if (!a->name || a->kind != ESPL__ATTR_TENSOR || !is_half(a->tensor->dtype)) continue;
        espl__value v = {.constant = a->tensor, .quant = {.format = ESPL_FORMAT_F32}};
        const espl_tensor *wide = espl__constant_f32(g, &v);
        if (!wide) return false;
        a->tensor = (espl_tensor *)wide;
    }
    return true;
}

static bool has_halves(const espl_graph *g) {
    espl_dtype dtype;
    for (int i = 0; i < g->value_count; i++)
        if (is_half(g->values[i]->dtype) ||
            (g->values[i]->constant && is_half(g->values[i]->constant->dtype)))
            return true;
    for (int i = 0; i < g->node_count; i++)
        if (names_half(g->nodes[i], "to", &dtype) || names_half(g->nodes[i], "dtype", &dtype)) return true;
    return false;
}

espl_status espl__pass_widen(espl_graph *g, espl_diag *diag) {
    bool good = true;
    if (!has_halves(g)) return ESPL_OK;
    int nodes = g->node_count, values = g->value_count; /* what is added is in order already */
    for (int i = 0; i < g->output_count && good; i++)
        if (is_half(g->outputs[i]->dtype) && g->outputs[i]->producer) good = widen_output(g, g->outputs[i]);
    for (int i = 0; i < values && good; i++) {
        espl__value *v = g->values[i];
        if (v->constant && is_half(v->dtype) && !espl__is_quantized(v)) good = widen_constant(g, v);
    }
    for (int i = 0; i < nodes && good; i++) good = widen_node(g, g->nodes[i]);
    for (int i = 0; i < g->input_count && good; i++)
        if (is_half(g->inputs[i]->dtype)) good = widen_input(g, g->inputs[i]);
    for (int i = 0; i < values; i++) {
        espl__value *v = g->values[i];
        if (v->producer && is_half(v->dtype) && !espl__graph_is_output(g, v)) v->dtype = ESPL_F32;
    }
    return good ? espl__graph_verify(g, diag) : espl__nomem(diag, 0);
}

static bool is_half_weight(const espl__value *v) {
    return v->constant && (v->quant.format == ESPL_FORMAT_F16 || v->quant.format == ESPL_FORMAT_BF16);
}

bool espl__has_half_weights(const espl_graph *g) {
    for (int i = 0; i < g->value_count; i++)
        if (is_half_weight(g->values[i])) return true;
    return false;
}

espl_status espl__widen_weights(espl_graph *g, espl_diag *diag) {
    for (int i = 0; i < g->value_count; i++) {
        espl__value *v = g->values[i];
        if (!is_half_weight(v)) continue;
        const espl_tensor *wide = espl__constant_f32(g, v);
        if (!wide) return espl__nomem(diag, 0);
        v->constant = (espl_tensor *)wide;
        v->lent = false;
        v->quant = (espl__quant){.format = ESPL_FORMAT_F32};
    }
    return ESPL_OK;
}
