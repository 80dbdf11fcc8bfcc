/* Nodes of operator sets 1 to 6 as nodes of set 7, the oldest that the operators of src/ops mean. One row for
 * each change that alters what inputs and attributes mean (ONNX's Changelog.md); operators without a row only
 * gained types, defaults or optional parts. Some changes need to know ranks: the graph is inferred on the
 * way, as far as it can be. */
#include "onnx/upgrade.h"
#include "ops/ops.h"

#include <inttypes.h>
#include <string.h>

static espl_status nomem(espl__upgrader *u) {
    return espl__nomem(u->diag, 0);
}

static espl_status rank_unknown(espl__upgrader *u) {
    return espl__fail(u->diag, ESPL_UNSUPPORTED,
                      "what it means depends on the rank of an input, which is not known");
}

/* --- what an attribute alone says ---------------------------------------------------------------- */

/* Names of element types were strings. */
static espl_status cast_6(espl__upgrader *u, espl__node *node) {
    static const char *const names[] = {"UNDEFINED", "FLOAT",  "UINT8",  "INT8",   "UINT16",
                                        "INT16",     "INT32",  "INT64",  "STRING", "BOOL",
                                        "FLOAT16",   "DOUBLE", "UINT32", "UINT64"};
    const char *to = espl__attr_string(node, "to", "");
    for (size_t i = 0; i < ESPL_COUNT(names); i++)
        if (strcmp(names[i], to) == 0)
            return espl__attr_set_int(u->graph, node, "to", (int64_t)i) ? ESPL_OK : nomem(u);
    return espl__fail(u->diag, ESPL_FORMAT, "there is no element type '%.40s'", to);
}

static espl_status concat_4(espl__upgrader *u, espl__node *node) {
    if (espl__attr_find(node, "axis")) return ESPL_OK;
    return espl__attr_set_int(u->graph, node, "axis", 1) ? ESPL_OK : nomem(u);
}

static espl_status reshape_5(espl__upgrader *u, espl__node *node) {
    if (!espl__attr_find(node, "shape")) return espl__fail(u->diag, ESPL_FORMAT, "has no attribute shape");
    return espl__upgrade_ints(u, node, "shape", 1);
}

static espl_status pad_2(espl__upgrader *u, espl__node *node) {
    const espl__attr *a = espl__attr_find(node, "paddings");
    if (!a || a->kind != ESPL__ATTR_INTS) return ESPL_OK;
    int64_t *ints = a->ints, count = a->count;
    espl__upgrade_drop(node, "paddings");
    return espl__attr_set_ints(u->graph, node, "pads", ints, count) ? ESPL_OK : nomem(u);
}

/* Sizes could be an input, of any type. */
static espl_status split_2(espl__upgrader *u, espl__node *node) {
    if (node->input_count < 2 || !node->inputs[1]) return ESPL_OK;
    const espl__value *sizes = node->inputs[1];
    double v[64];
    int64_t ints[64], count = sizes->constant ? espl_shape_count(&sizes->constant->shape) : -1;
    if (count < 0 || count > (int64_t)ESPL_COUNT(ints))
        return espl__fail(u->diag, ESPL_UNSUPPORTED, "its sizes are not a constant of at most %zu",
                          ESPL_COUNT(ints));
    espl__load_f64(sizes->constant->dtype, sizes->constant->data, 1, count, v);
    for (int64_t i = 0; i < count; i++) ints[i] = v[i] >= 0 && v[i] < 9e15 ? (int64_t)v[i] : -1;
    node->input_count = 1;
    return espl__attr_set_ints(u->graph, node, "split", ints, count) ? ESPL_OK : nomem(u);
}

static espl_status dropout_7(espl__upgrader *u, espl__node *node) {
    if (espl__attr_int(node, "is_test", 0) == 0)
        return espl__fail(u->diag, ESPL_UNSUPPORTED,
                          "it drops at random (is_test is not 1); export for inference");
    espl__upgrade_drop(node, "is_test");
    return ESPL_OK;
}

/* One output is inference, whatever is_test says; the others are those of training. */
static espl_status batchnorm_7(espl__upgrader *u, espl__node *node) {
    if (node->output_count > 1)
        return espl__fail(u->diag, ESPL_UNSUPPORTED,
                          "its outputs are those of training; export for inference");
    espl__upgrade_drop(node, "is_test");
    return ESPL_OK;
}

/* Whether all outputs were wanted, which their presence says now. */
static espl_status recurrent_7(espl__upgrader *u, espl__node *node) {
    (void)u;
    espl__upgrade_drop(node, "output_sequence");
    return ESPL_OK;
}

/* A bias was a matrix, or one row or number if it could be broadcast; all of these are what they were. */
static espl_status gemm_7(espl__upgrader *u, espl__node *node) {
    (void)u;
    espl__upgrade_drop(node, "broadcast");
    return ESPL_OK;
}

static espl_status upsample_7(espl__upgrader *u, espl__node *node) {
    float scales[4] = {1, 1, espl__attr_float(node, "height_scale", 0),
                       espl__attr_float(node, "width_scale", 0)};
    if (espl__attr_find(node, "scales")) return ESPL_OK;
    espl__upgrade_drop(node, "height_scale");
    espl__upgrade_drop(node, "width_scale");
    return espl__attr_set_floats(u->graph, node, "scales", scales, 4) ? ESPL_OK : nomem(u);
}

/* The axis that is repeated was an input. */
static espl_status tile_axis_6(espl__upgrader *u, espl__node *node) {
    const espl_tensor *t = node->input_count == 3 && node->inputs[2] ? node->inputs[2]->constant : NULL;
    int64_t axis;
    if (!t || espl_shape_count(&t->shape) != 1)
        return espl__fail(u->diag, ESPL_UNSUPPORTED, "its axis is not a constant");
    espl__load_s64(t->dtype, t->data, 0, 1, &axis);
    node->input_count = 2;
    return espl__attr_set_int(u->graph, node, "axis", axis) ? ESPL_OK : nomem(u);
}

/* --- what needs ranks ---------------------------------------------------------------------------- */

/* Input 1 gets `count` dimensions of 1 behind its own. */
static espl_status append_ones(espl__upgrader *u, espl__node *node, int64_t count) {
    espl__value *b = node->inputs[1];
    int64_t axes[ESPL_MAX_RANK];
    if (count <= 0) return ESPL_OK;
    if (b->shape.rank + count > ESPL_MAX_RANK)
        return espl__fail(u->diag, ESPL_FORMAT, "its axis is out of range");
    for (int64_t i = 0; i < count; i++) axes[i] = b->shape.rank + i;
    espl__node *wider = espl__upgrade_node(u, "Unsqueeze", ESPL__OPSET_OLDEST, b, NULL);
    if (!wider || !espl__attr_set_ints(u->graph, wider, "axes", axes, count)) return nomem(u);
    node->inputs[1] = wider->outputs[0];
    return wider->op->infer(wider, u->diag);
}

/* The second operand was broadcast only on request, from `axis` of the first on; without an axis it stood at
 * the end, as it does now. */
static espl_status broadcast_7(espl__upgrader *u, espl__node *node) {
    const espl__value *a = node->inputs[0], *b = node->inputs[1];
    bool broadcasts = espl__attr_int(node, "broadcast", 0) != 0 && espl__attr_find(node, "axis");
    int64_t axis = espl__attr_int(node, "axis", 0);
    espl__upgrade_drop(node, "broadcast");
    espl__upgrade_drop(node, "axis");
    if (!broadcasts) return ESPL_OK;
    if (!a->known_rank || !b->known_rank) return rank_unknown(u);
    if (axis < 0) axis += a->shape.rank;
    if (axis < 0 || axis > a->shape.rank - b->shape.rank)
        return espl__fail(u->diag, ESPL_FORMAT, "its axis is out of range");
    return append_ones(u, node, a->shape.rank - axis - b->shape.rank);
}

/* A slope of several numbers was one for each channel. */
static espl_status prelu_7(espl__upgrader *u, espl__node *node) {
    const espl__value *x = node->inputs[0], *slope = node->inputs[1];
    if (slope->known_rank && (slope->shape.rank != 1 || slope->shape.dim[0] == 1)) return ESPL_OK;
    if (!x->known_rank || !slope->known_rank) return rank_unknown(u);
    return append_ones(u, node, x->shape.rank - 2);
}

/* Each axis has its number of repeats now, where one axis did. */
static espl_status tile_6(espl__upgrader *u, espl__node *node) {
    const espl__value *x = node->inputs[0];
    const espl_tensor *t = node->inputs[1]->constant;
    int64_t axis = espl__attr_int(node, "axis", 0), repeats[ESPL_MAX_RANK];
    if (!x->known_rank) return rank_unknown(u);
    if (!t || espl_shape_count(&t->shape) != 1)
        return espl__fail(u->diag, ESPL_UNSUPPORTED, "its number of repeats is not a constant");
    if (axis < 0 || axis >= x->shape.rank)
        return espl__fail(u->diag, ESPL_FORMAT, "its axis is out of range");
    for (int i = 0; i < x->shape.rank; i++) repeats[i] = 1;
    espl__load_s64(t->dtype, t->data, 0, 1, &repeats[axis]);
    espl__upgrade_drop(node, "axis");
    node->inputs[1] = espl__upgrade_constant(u, ESPL_S64, x->shape.rank, repeats);
    return node->inputs[1] ? ESPL_OK : nomem(u);
}

/* --- the table ----------------------------------------------------------------------------------- */

/* `opset`: the first that has the new meaning. */
static const struct {
    const char *op;
    int opset;
    bool needs_ranks;
    espl__upgrade_fn *fn;
} rows[] = {
    {"Add", 7, true, broadcast_7},
    {"And", 7, true, broadcast_7},
    {"BatchNormalization", 7, false, batchnorm_7},
    {"Cast", 6, false, cast_6},
    {"Concat", 4, false, concat_4},
    {"Div", 7, true, broadcast_7},
    {"Dropout", 7, false, dropout_7},
    {"Equal", 7, true, broadcast_7},
    {"GRU", 7, false, recurrent_7},
    {"Gemm", 7, false, gemm_7},
    {"Greater", 7, true, broadcast_7},
    {"LSTM", 7, false, recurrent_7},
    {"Less", 7, true, broadcast_7},
    {"Mul", 7, true, broadcast_7},
    {"Or", 7, true, broadcast_7},
    {"PRelu", 7, true, prelu_7},
    {"Pad", 2, false, pad_2},
    {"Pow", 7, true, broadcast_7},
    {"RNN", 7, false, recurrent_7},
    {"Reshape", 5, false, reshape_5},
    {"Split", 2, false, split_2},
    {"Sub", 7, true, broadcast_7},
    {"Tile", 6, false, tile_axis_6},
    {"Tile", 6, true, tile_6},
    {"Upsample", 7, false, upsample_7},
    {"Xor", 7, true, broadcast_7},
};

static espl_status explain(espl__upgrader *u, const espl__node *node, int opset, espl_status status) {
    char label[160];
    if (status != ESPL_OK)
        espl__diag_prefix(u->diag, "node %s of operator set %d", espl__node_label(node, label, sizeof label),
                          opset);
    return status;
}

static espl_status lift_node(espl__upgrader *u, espl__node *node, int opset, bool ranks) {
    for (size_t i = 0; i < ESPL_COUNT(rows); i++) {
        if (rows[i].opset <= opset || rows[i].needs_ranks != ranks || !espl__node_is(node, rows[i].op))
            continue;
        return rows[i].fn(u, node);
    }
    return ESPL_OK;
}

static bool is_old(const espl__node *node) {
    return !*node->op->domain && node->opset < ESPL__OPSET_OLDEST;
}

espl_status espl__onnx_lift(espl_graph *graph, espl_diag *diag) {
    espl__upgrader u = {graph, diag};
    espl_status status = ESPL_OK;
    int opset = graph->opset;
    for (int i = 0; i < graph->node_count; i++) {
        espl__node *n = graph->nodes[i];
        if (!is_old(n)) continue;
        ESPL_TRY(explain(&u, n, opset, lift_node(&u, n, opset, false)));
        espl__upgrade_drop(n, "consumed_inputs");
    }
    for (int i = 0; i < graph->node_count; i++)
        if (is_old(graph->nodes[i])) graph->nodes[i]->opset = ESPL__OPSET_OLDEST;
    graph->opset = ESPL__OPSET_OLDEST;
    ESPL_TRY(espl__graph_verify(graph, diag)); /* sorts, so that inputs come before their readers */
    for (int i = 0, count = graph->node_count; i < count; i++) {
        espl__node *n = graph->nodes[i];
        if (!*n->op->domain) ESPL_TRY(explain(&u, n, opset, lift_node(&u, n, opset, true)));
        ESPL_TRY(explain(&u, n, opset, n->op->infer(n, diag)));
    }
    status = espl__graph_verify(graph, diag);
done:
    return status;
}
