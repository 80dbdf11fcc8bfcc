/* Small graphs made by hand, for the tests of what becomes of graphs. */
#ifndef SMALL_GRAPH_H
#define SMALL_GRAPH_H

#include "onnx_build.h"

static inline espl_graph *write_and_read(fixture *f, const espl_graph *g, const espl_onnx_options *options) {
    f->diag = (espl_diag){0};
    if (espl_onnx_write(f->ctx, g, options, f->path, &f->diag) != ESPL_OK) fail_msg("%s", f->diag.message);
    return read_model(f);
}

static inline espl_graph *new_graph(fixture *f, int opset) {
    espl_graph *g;
    assert_int_equal(espl__graph_create(f->ctx, &g, NULL), ESPL_OK);
    g->opset = opset;
    return g;
}

static inline espl__value *new_value(espl_graph *g, const char *name, int rank, const int64_t *dims) {
    espl__value *v = espl__graph_value(g, name);
    assert_non_null(v);
    v->known_rank = true;
    v->shape.rank = rank;
    for (int i = 0; i < rank; i++) v->shape.dim[i] = dims[i];
    return v;
}

static inline espl__value *new_constant(espl_graph *g, const char *name, espl_dtype dtype, int rank,
                                        const int64_t *dims, const void *data) {
    espl_tensor t = {dtype, {.rank = rank}, (void *)data};
    for (int i = 0; i < rank; i++) t.shape.dim[i] = dims[i];
    espl__value *v = espl__graph_constant(g, name, &t);
    assert_non_null(v);
    return v;
}

static inline espl__node *new_node(espl_graph *g, const char *op, const char *name, int inputs,
                                   espl__value *const *in, espl__value *out) {
    espl__node *n = espl__graph_node(g, espl__op_find("", op), name, inputs, 1, 0);
    assert_non_null(n);
    assert_non_null(n->op);
    for (int i = 0; i < inputs; i++) n->inputs[i] = in[i];
    espl__node_set_output(n, 0, out);
    return n;
}

static inline void set_io(espl_graph *g, espl__value *x, espl__value *y) {
    assert_true(espl__graph_set_io(g, &x, 1, &y, 1));
}

/* The node that produces the value of that name. */
static inline const espl__node *producer(const espl_graph *g, const char *name) {
    const espl__value *v = espl__graph_find(g, name);
    if (!v || !v->producer) fail_msg("nothing produces '%s'", name);
    return v->producer;
}

static inline int count_ops(const espl_graph *g, const char *op) {
    int count = 0;
    for (int i = 0; i < g->node_count; i++) count += espl__node_is(g->nodes[i], op);
    return count;
}

#endif
