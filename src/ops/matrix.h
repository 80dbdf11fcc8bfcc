#ifndef ESPL_OPS_MATRIX_H
#define ESPL_OPS_MATRIX_H

#include "ops/ops.h"

/* Of a matrix of n by n elements, by elimination in place with the largest pivot of a column. */
double espl__determinant(double *a, int64_t n);

#endif
