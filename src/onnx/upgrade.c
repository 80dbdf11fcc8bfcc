/* The same network in a later operator set. One row for each change of an operator between opsets 8 and 21 that alters
 * what its inputs and attributes mean; operators without a row only gained types, defaults or optional parts. */
#include "onnx/upgrade.h"

/* --- tools ------------------------------------------------------------------------------------- */

static espl_status nomem(espl__upgrader *u) { return espl__nomem(u->diag, 0); }

/* Attributes without a name are free slots. */
void espl__upgrade_drop(espl__node *node, const char *name) {
    for (int i = 0; i < node->attr_count; i++)
        if (node->attrs[i].name && strcmp(node->attrs[i].name, name) == 0) node->attrs[i].name = NULL;
}

bool espl__upgrade_input(espl__upgrader *u, espl__node *node, int index, espl__value *value) {
    if (!value) return false;
    if (index >= node->input_count) {
        uint64_t bytes = sizeof *node->inputs * ((uint64_t)index + 1);
        espl__value **inputs = espl__arena_alloc(&u->graph->arena, bytes);
        if (!inputs) return false;
        for (int i = 0; i < node->input_count; i++) inputs[i] = node->inputs[i];
        node->inputs = inputs;
        node->input_count = index + 1;
    }
    node->inputs[index] = value;
    return true;
}

espl__value *espl__upgrade_constant(espl__upgrader *u, espl_dtype dtype, int64_t count, const void *data) {
    espl_tensor t = {dtype, {.rank = count >= 0, .dim = {count}}, (void *)data};
    return espl__graph_constant(u->graph, "", &t);
}

espl_status espl__upgrade_ints(espl__upgrader *u, espl__node *node, const char *name, int index) {
    const espl__attr *a = espl__attr_find(node, name);
    if (!a || a->kind != ESPL__ATTR_INTS) return ESPL_OK;
    if (!espl__upgrade_input(u, node, index, espl__upgrade_constant(u, ESPL_S64, a->count, a->ints))) return nomem(u);
    espl__upgrade_drop(node, name);
    return ESPL_OK;
}

/* A float attribute becomes a scalar input; nothing happens without it. */
static espl_status float_to_input(espl__upgrader *u, espl__node *node, const char *name, int index) {
    const espl__attr *a = espl__attr_find(node, name);
    if (!a || a->kind != ESPL__ATTR_FLOAT) return ESPL_OK;
    if (node->inputs[0] && node->inputs[0]->dtype != ESPL_F32)
        return espl__fail(u->diag, ESPL_UNSUPPORTED, "attribute '%s' beside an input of type %s", name,
                          espl_dtype_name(node->inputs[0]->dtype));
    if (!espl__upgrade_input(u, node, index, espl__upgrade_constant(u, ESPL_F32, -1, &a->f))) return nomem(u);
    espl__upgrade_drop(node, name);
    return ESPL_OK;
}

espl__node *espl__upgrade_node(espl__upgrader *u, const char *op_name, int opset, espl__value *in, espl__value *out) {
    const espl__op *op = espl__op_find("", op_name);
    espl__node *n = op ? espl__graph_node(u->graph, op, "", op->min_inputs ? op->min_inputs : 1, 1, 1) : NULL;
    if (!n) return NULL;
    if (!out && !(out = espl__graph_value(u->graph, ""))) return NULL;
    n->opset = opset;
    n->inputs[0] = in;
    espl__node_set_output(n, 0, out);
    return n;
}

/* --- one function a change ----------------------------------------------------------------------- */

static espl_status batchnorm_9(espl__upgrader *u, espl__node *node) {
    if (espl__attr_int(node, "spatial", 1) != 1)
        return espl__fail(u->diag, ESPL_UNSUPPORTED, "statistics for each position (spatial = 0) no longer exist");
    espl__upgrade_drop(node, "spatial");
    return ESPL_OK;
}

static espl_status clip_11(espl__upgrader *u, espl__node *node) {
    espl_status status = float_to_input(u, node, "min", 1);
    return status == ESPL_OK ? float_to_input(u, node, "max", 2) : status;
}

static espl_status dropout_10(espl__upgrader *u, espl__node *node) {
    if (node->output_count > 1 && node->outputs[1])
        return espl__fail(u->diag, ESPL_UNSUPPORTED, "its mask was of floats and is of bools now");
    return ESPL_OK;
}

static espl_status dropout_12(espl__upgrader *u, espl__node *node) { return float_to_input(u, node, "ratio", 1); }

static espl_status pad_11(espl__upgrader *u, espl__node *node) {
    espl_status status = espl__upgrade_ints(u, node, "pads", 1);
    if (espl__attr_float(node, "value", 0) == 0) espl__upgrade_drop(node, "value");
    return status == ESPL_OK ? float_to_input(u, node, "value", 2) : status;
}

static espl_status slice_10(espl__upgrader *u, espl__node *node) {
    espl_status status = ESPL_OK;
    ESPL_TRY(espl__upgrade_ints(u, node, "starts", 1));
    ESPL_TRY(espl__upgrade_ints(u, node, "ends", 2));
    ESPL_TRY(espl__upgrade_ints(u, node, "axes", 3));
done:
    return status;
}

static espl_status split_13(espl__upgrader *u, espl__node *node) { return espl__upgrade_ints(u, node, "split", 1); }

/* Equal parts are asked for by their number from here on. */
static espl_status split_18(espl__upgrader *u, espl__node *node) {
    if (node->input_count > 1 && node->inputs[1]) return ESPL_OK;
    return espl__attr_set_int(u->graph, node, "num_outputs", node->output_count) ? ESPL_OK : nomem(u);
}

static espl_status scatter_11(espl__upgrader *u, espl__node *node) {
    (void)u;
    node->op = espl__op_find("", "ScatterElements");
    return ESPL_OK;
}

static espl_status axes_to_input(espl__upgrader *u, espl__node *node) { return espl__upgrade_ints(u, node, "axes", 1); }

/* Until 12 the input was seen as a matrix, cut before `axis`, and each row normalised; from 13 on one axis is. */
static espl_status softmax_13(espl__upgrader *u, espl__node *node) {
    espl__value *x = node->inputs[0], *y = node->outputs[0];
    int64_t axis = espl__attr_int(node, "axis", 1);
    bool good = espl__attr_set_int(u->graph, node, "axis", -1);
    if (axis == -1 || (x->known_rank && (axis < 0 ? axis + x->shape.rank : axis) == x->shape.rank - 1))
        return good ? ESPL_OK : nomem(u);
    if (!espl__op_find("", "Flatten") || !espl__op_find("", "Shape") || !espl__op_find("", "Reshape"))
        return espl__fail(u->diag, ESPL_UNSUPPORTED, "it needs Flatten, Shape and Reshape, not all of which are there");
    espl__node *flat = espl__upgrade_node(u, "Flatten", 13, x, NULL);
    espl__value *rows = espl__graph_value(u->graph, "");
    espl__node *shape = espl__upgrade_node(u, "Shape", 13, x, NULL);
    espl__node *back = rows ? espl__upgrade_node(u, "Reshape", 13, rows, y) : NULL;
    if (!good || !flat || !rows || !shape || !back) return nomem(u);
    if (!espl__attr_set_int(u->graph, flat, "axis", axis)) return nomem(u);
    node->inputs[0] = flat->outputs[0];
    espl__node_set_output(node, 0, rows);
    return espl__upgrade_input(u, back, 1, shape->outputs[0]) ? ESPL_OK : nomem(u);
}

/* Operators that changed in a way nobody has needed yet: better a sentence than another meaning. */
static espl_status impossible(espl__upgrader *u, espl__node *node) {
    (void)node;
    return espl__fail(u->diag, ESPL_UNSUPPORTED, "it means something else there");
}

/* In order of the opset within an operator. */
static const struct {
    const char *op;
    int opset;
    espl__upgrade_fn *fn;
} rows[] = {
    {"BatchNormalization", 9, batchnorm_9},
    {"Clip", 11, clip_11},
    {"DFT", 20, impossible},
    {"Dropout", 10, dropout_10},
    {"Dropout", 12, dropout_12},
    {"GridSample", 20, impossible},
    {"GroupNormalization", 21, impossible},
    {"Hardmax", 13, softmax_13},
    {"LogSoftmax", 13, softmax_13},
    {"Pad", 11, pad_11},
    {"ReduceL1", 18, axes_to_input},
    {"ReduceL2", 18, axes_to_input},
    {"ReduceLogSum", 18, axes_to_input},
    {"ReduceLogSumExp", 18, axes_to_input},
    {"ReduceMax", 18, axes_to_input},
    {"ReduceMean", 18, axes_to_input},
    {"ReduceMin", 18, axes_to_input},
    {"ReduceProd", 18, axes_to_input},
    {"ReduceSum", 13, axes_to_input},
    {"ReduceSumSquare", 18, axes_to_input},
    {"Resize", 11, impossible},
    {"RoiAlign", 16, impossible},
    {"Scan", 9, impossible},
    {"Scatter", 11, scatter_11},
    {"Slice", 10, slice_10},
    {"Softmax", 13, softmax_13},
    {"Split", 13, split_13},
    {"Split", 18, split_18},
    {"Squeeze", 13, axes_to_input},
    {"TopK", 10, impossible},
    {"Unsqueeze", 13, axes_to_input},
    {"Upsample", 9, impossible},
};

static espl_status upgrade_node(espl__upgrader *u, espl__node *node, int opset) {
    char label[160];
    for (size_t i = 0; i < ESPL_COUNT(rows); i++) {
        if (rows[i].opset <= node->opset || rows[i].opset > opset || !espl__node_is(node, rows[i].op)) continue;
        espl_status status = rows[i].fn(u, node);
        if (status != ESPL_OK) {
            espl__diag_prefix(u->diag, "node %s cannot be written for operator set %d",
                              espl__node_label(node, label, sizeof label), opset);
            return status;
        }
    }
    node->opset = opset;
    return ESPL_OK;
}

espl_status espl__onnx_upgrade(espl_graph *graph, int opset, espl_diag *diag) {
    espl__upgrader u = {graph, diag};
    int count = graph->node_count; /* nodes that are added on the way are in the new form */
    for (int i = 0; i < count; i++) {
        if (*graph->nodes[i]->op->domain) continue;
        espl_status status = upgrade_node(&u, graph->nodes[i], opset);
        if (status != ESPL_OK) return status;
    }
    for (int i = count; i < graph->node_count; i++) graph->nodes[i]->opset = opset;
    graph->opset = opset;
    return espl__graph_verify(graph, diag);
}
