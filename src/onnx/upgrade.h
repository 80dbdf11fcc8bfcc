/* Carries a graph to a later operator set. */
#ifndef ESPL_ONNX_UPGRADE_H
#define ESPL_ONNX_UPGRADE_H

#include "graph/graph.h"

/* Rewrites nodes so that they mean the same in `opset` of the default domain, at least their own and at most 21. */
ESPL_NODISCARD espl_status espl__onnx_upgrade(espl_graph *graph, int opset, espl_diag *diag);

#endif
