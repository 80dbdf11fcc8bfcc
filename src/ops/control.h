/* How the bodies of If, Loop, Scan and SequenceMap meet their node: after espl__control_check has passed,
 * numbers of inputs and outputs are as the functions here say. */
#ifndef ESPL_CONTROL_H
#define ESPL_CONTROL_H

#include "ops/ops.h"

/* That the node has its bodies, and that they take what it gives. */
ESPL_NODISCARD espl_status espl__control_check(const espl__node *node, espl_diag *diag);
/* Scan: inputs that are cut into slices, and where the node's states begin (the first form has the lengths
 * before them). */
static inline int espl__scan_inputs(const espl__node *node) {
    return (int)espl__attr_int(node, "num_scan_inputs", 0);
}
static inline int espl__scan_first(const espl__node *node) {
    return node->opset < 9;
}

#endif
