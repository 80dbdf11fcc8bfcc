/* An Einsum of one or two operands, for the pass that rewrites it. */
#ifndef ESPL_OPS_EINSUM_H
#define ESPL_OPS_EINSUM_H

#include "ops/ops.h"

enum { ESPL__EINSUM_LABELS = 32, ESPL__EINSUM_OPERANDS = 16 };

/* One loop over every label. */
typedef struct espl__einsum_loops {
    int labels, results; /* the first `results` of them are the result's axes in order */
    int label[ESPL__EINSUM_LABELS];
    int64_t dim[ESPL__EINSUM_LABELS], stride[ESPL__EINSUM_OPERANDS][ESPL__EINSUM_LABELS];
} espl__einsum_loops;

/* x: the operands' shapes. An operand's stride is 0 where it has no such label, or has it with a size of 1.
 */
ESPL_NODISCARD espl_status espl__einsum_resolve(const espl__node *node, const espl_shape *const *x,
                                                espl__einsum_loops *l, espl_diag *diag);
/* Advances the labels [from, to) and the operands' offsets; false after the last. */
bool espl__einsum_next(const espl__einsum_loops *l, int from, int to, int operands, int64_t *index,
                       int64_t *offset);

typedef struct espl__einsum {
    int operands, labels, results; /* labels [0, results) are the result's axes in order */
    int64_t dim[ESPL__EINSUM_LABELS];
    int rank[2], axis[2][ESPL__EINSUM_LABELS]; /* where an operand has the label; -1: nowhere */
} espl__einsum;

/* false if there are more operands, a rank is unknown, or an operand has a label twice or with another size.
 */
bool espl__einsum_read(const espl__node *node, espl__einsum *out);

#endif
