/* An Einsum of one or two operands, for the pass that rewrites it. */
#ifndef ESPL_OPS_EINSUM_H
#define ESPL_OPS_EINSUM_H

#include "ops/ops.h"

enum { ESPL__EINSUM_LABELS = 32 };

typedef struct espl__einsum {
    int operands, labels, results; /* labels [0, results) are the result's axes in order */
    int64_t dim[ESPL__EINSUM_LABELS];
    int rank[2], axis[2][ESPL__EINSUM_LABELS]; /* where an operand has the label; -1: nowhere */
} espl__einsum;

/* false if there are more operands, a rank is unknown, or an operand has a label twice or with another size.
 */
bool espl__einsum_read(const espl__node *node, espl__einsum *out);

#endif
