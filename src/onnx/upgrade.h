/* Carries a graph to a later operator set. */
#ifndef ESPL_ONNX_UPGRADE_H
#define ESPL_ONNX_UPGRADE_H

#include "graph/graph.h"

enum { ESPL__OPSET_OLDEST = 7 }; /* what the operators of src/ops mean at least; older nodes are lifted to it */

/* Rewrites nodes so that they mean the same in `opset` of the default domain, at least their own and at most 21. */
ESPL_NODISCARD espl_status espl__onnx_upgrade(espl_graph *graph, int opset, espl_diag *diag);
/* Lifts a graph of operator sets 1 to 6, as it was read, to ESPL__OPSET_OLDEST, and verifies it (oldest.c). */
ESPL_NODISCARD espl_status espl__onnx_lift(espl_graph *graph, espl_diag *diag);

/* --- what both rewrite with ------------------------------------------------------------------- */

typedef struct espl__upgrader {
    espl_graph *graph;
    espl_diag *diag;
} espl__upgrader;

typedef espl_status espl__upgrade_fn(espl__upgrader *u, espl__node *node);

void espl__upgrade_drop(espl__node *node, const char *attr);
/* Puts a value in input slot `index`, which may not exist yet; false without memory or value. */
bool espl__upgrade_input(espl__upgrader *u, espl__node *node, int index, espl__value *value);
/* A constant of rank 1 (count >= 0) or 0 (count -1); the writer names it. */
espl__value *espl__upgrade_constant(espl__upgrader *u, espl_dtype dtype, int64_t count, const void *data);
/* An attribute of ints becomes input `index`; nothing happens without it. */
espl_status espl__upgrade_ints(espl__upgrader *u, espl__node *node, const char *name, int index);
/* A node whose first input is `in` and whose output is a new value, or `out`. */
espl__node *espl__upgrade_node(espl__upgrader *u, const char *op_name, int opset, espl__value *in, espl__value *out);

#endif
