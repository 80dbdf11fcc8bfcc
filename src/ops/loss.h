/* NegativeLogLikelihoodLoss and SoftmaxCrossEntropyLoss as their nodes say. */
#ifndef ESPL_OPS_LOSS_H
#define ESPL_OPS_LOSS_H

#include "ops/ops.h"

typedef enum espl__loss_reduction { ESPL__LOSS_EACH, ESPL__LOSS_SUM, ESPL__LOSS_MEAN } espl__loss_reduction;

typedef struct espl__op_loss {
    espl__loss_reduction reduction;
    bool ignores;
    int64_t ignored;
    int64_t classes, plane; /* plane: places of one sample; 0 until the shape is known */
} espl__op_loss;

/* x: the shape of the scores; NULL: not yet. */
ESPL_NODISCARD espl_status espl__loss_read(const espl__node *node, const espl_shape *x, espl__op_loss *out,
                                           espl_diag *diag);

#endif
