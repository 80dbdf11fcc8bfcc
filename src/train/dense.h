/* Dense maths of training behind one table: plain C always, a library (oneDNN) for f32 where it is built in.
 */
#ifndef ESPL_TRAIN_DENSE_H
#define ESPL_TRAIN_DENSE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/pool.h"

/* C[m][n] = beta C + op(A) op(B), row-major; op(A) is m x k: A[m][k] (lda >= k), or with ta A[k][m]
 * transposed. beta is 0 (C may be uninitialised) or 1. On the calling thread. */
typedef struct espl__dense {
    const char *name;
    void (*gemm_f32)(bool ta, bool tb, int64_t m, int64_t n, int64_t k, const float *a, int64_t lda,
                     const float *b, int64_t ldb, float beta, float *c, int64_t ldc);
    void (*gemm_f64)(bool ta, bool tb, int64_t m, int64_t n, int64_t k, const double *a, int64_t lda,
                     const double *b, int64_t ldb, double beta, double *c, int64_t ldc);
} espl__dense;

/* The table in use: the library's where there is one, unless ESPL_DENSE=plain says otherwise. */
const espl__dense *espl__dense_get(void);

/* The same on the threads of a pool: rows of C are shared out. */
void espl__gemm_f32(espl__pool *pool, bool ta, bool tb, int64_t m, int64_t n, int64_t k, const float *a,
                    int64_t lda, const float *b, int64_t ldb, float beta, float *c, int64_t ldc);
void espl__gemm_f64(espl__pool *pool, bool ta, bool tb, int64_t m, int64_t n, int64_t k, const double *a,
                    int64_t lda, const double *b, int64_t ldb, double beta, double *c, int64_t ldc);

#endif
