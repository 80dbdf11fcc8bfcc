/* Where the updates of Scatter, ScatterElements and ScatterND go. */
#ifndef ESPL_OPS_SCATTER_H
#define ESPL_OPS_SCATTER_H

#include "ops/ops.h"

typedef enum espl__scatter_reduction {
    ESPL__SCATTER_NONE,
    ESPL__SCATTER_ADD,
    ESPL__SCATTER_MUL,
    ESPL__SCATTER_MAX,
    ESPL__SCATTER_MIN
} espl__scatter_reduction;

typedef struct espl__scatter {
    espl__scatter_reduction how;
    int64_t count, each; /* updates, and elements of one, which lie together */
    /* the walk's own */
    const espl_shape *x;
    const espl_tensor *indices;
    int axis, tuple; /* tuple: axes that an index of ScatterND addresses; else 0 */
    int64_t i, index[ESPL_MAX_RANK], stride[ESPL_MAX_RANK];
} espl__scatter;

/* x: the data's shape. */
ESPL_NODISCARD espl_status espl__scatter_begin(const espl__node *node, const espl_shape *x,
                                               const espl_tensor *indices, espl__scatter *s, espl_diag *diag);
/* Of the next of `count` updates: its first element of the data, -1 if it is left out. */
int64_t espl__scatter_next(espl__scatter *s);

#endif
