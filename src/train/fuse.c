/* Batch norm, residual addition and Relu as one node, and a product with its bias: walks over memory that
 * become one. */
#include "train/engine.h"

static espl_status infer(const espl__node *node, espl_diag *diag) {
    return espl__set_out(node, 0, node->inputs[0]->dtype, &node->inputs[0]->shape, diag);
}

const espl__op espl__op_norm_relu = {
    .name = "NormRelu",
    .domain = "espl.train",
    .min_inputs = 5, /* the residual may be absent */
    .max_inputs = 6,
    .min_outputs = 1,
    .max_outputs = 1,
    .since = 1,
    .until = 99,
    .infer = infer,
};

static espl_status infer_linear(const espl__node *node, espl_diag *diag) {
    espl_shape y = node->inputs[0]->shape;
    y.dim[y.rank - 1] = node->inputs[1]->shape.dim[1];
    return espl__set_out(node, 0, node->inputs[0]->dtype, &y, diag);
}

const espl__op espl__op_linear = {
    .name = "Linear",
    .domain = "espl.train",
    .min_inputs = 3,
    .max_inputs = 3,
    .min_outputs = 1,
    .max_outputs = 1,
    .since = 1,
    .until = 99,
    .infer = infer_linear,
};

/* Adds two values of the output's shape, one of which is the norm's. */
static espl__value *residual_of(const espl__node *add, const espl__value *norm) {
    if (!espl__node_is(add, "Add") || add->inputs[0] == add->inputs[1]) return NULL;
    espl__value *other = add->inputs[add->inputs[0] == norm];
    return espl_shape_equal(&other->shape, &norm->shape) && !other->is_input && !other->constant ? other
                                                                                                 : NULL;
}

/* The node stands where the last of the fused ones stood, so that the residual is there. */
static espl_status fuse(espl_graph *g, espl__node *norm, espl_diag *diag) {
    espl__node *tail = norm;
    espl__value *residual = NULL;
    espl__node *next = espl__graph_only_reader(g, norm->outputs[0]);
    if (next && (residual = residual_of(next, norm->outputs[0]))) {
        tail = next;
        next = espl__graph_only_reader(g, next->outputs[0]);
    }
    bool relu = espl__node_is(next, "Relu");
    if (relu) tail = next;
    espl__node *n = espl__graph_node(g, &espl__op_norm_relu, norm->name, 6, 1, 3);
    if (!n || !espl__attr_set_int(g, n, "relu", relu) ||
        !espl__attr_set_float(g, n, "epsilon", espl__attr_float(norm, "epsilon", 1e-5f)) ||
        !espl__attr_set_float(g, n, "momentum", espl__attr_float(norm, "momentum", 0.9f)))
        return espl__nomem(diag, 0);
    for (int i = 0; i < 5; i++) n->inputs[i] = norm->inputs[i];
    n->inputs[5] = residual;
    for (espl__node *at = norm;; at = espl__graph_only_reader(g, at->outputs[0])) {
        at->mark = -1;
        if (at == tail) break;
    }
    espl__value *out = tail->outputs[0];
    espl__node_set_output(n, 0, out);
    return ESPL_OK;
}

/* The bias that an Add puts behind a product by a matrix: a vector as long as the rows. */
static espl__value *bias_of(const espl__node *add, const espl__value *product) {
    if (!espl__node_is(add, "Add") || add->inputs[0] == add->inputs[1]) return NULL;
    espl__value *v = add->inputs[add->inputs[0] == product];
    int64_t n = product->shape.dim[product->shape.rank - 1];
    return v->is_input && v->shape.rank == 1 && v->shape.dim[0] == n && v->dtype == product->dtype ? v : NULL;
}

/* MatMul and Add become Linear. */
static espl_status fuse_bias(espl_graph *g, espl__node *product, espl_diag *diag) {
    const espl__value *w = product->inputs[1], *y = product->outputs[0];
    espl__node *add = w->shape.rank == 2 && y->shape.rank >= 2 ? espl__graph_only_reader(g, y) : NULL;
    espl__value *bias = add ? bias_of(add, y) : NULL;
    if (!bias || !espl_shape_equal(&add->outputs[0]->shape, &y->shape)) return ESPL_OK;
    espl__node *n = espl__graph_node(g, &espl__op_linear, product->name, 3, 1, 0);
    if (!n) return espl__nomem(diag, 0);
    n->inputs[0] = product->inputs[0];
    n->inputs[1] = product->inputs[1];
    n->inputs[2] = bias;
    product->mark = add->mark = -1;
    espl__node_set_output(n, 0, add->outputs[0]);
    return ESPL_OK;
}

espl_status espl__train_fuse(espl_graph *g, espl_diag *diag) {
    int count = g->node_count;
    espl_status status = ESPL_OK;
    for (int i = 0; i < count && status == ESPL_OK; i++) {
        espl__node *n = g->nodes[i];
        if (n->mark == -1) continue;
        if (espl__node_is(n, "MatMul")) status = fuse_bias(g, n, diag);
        if (espl__node_is(n, "BatchNormalization") && n->output_count == 1 &&
            !espl__attr_int(n, "training_mode", 0))
            status = fuse(g, n, diag);
    }
    if (status != ESPL_OK) return status;
    espl__graph_sweep(g);
    return espl__graph_verify(g, diag);
}
