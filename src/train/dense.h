/* Dense maths of training behind one table: plain C always, a library (oneDNN) for f32 where it is built in.
 */
#ifndef ESPL_TRAIN_DENSE_H
#define ESPL_TRAIN_DENSE_H

#include "base/pool.h"
#include "ops/ops.h"

/* A convolution of f32 values as a library has it: values channels-last, weights as the graph has them
 * ([outputs][channels / groups][taps]), in memory that is made beforehand. */
typedef struct espl__conv_shape {
    espl__window w; /* three spatial dimensions */
    int64_t images, channels, outputs, groups;
    bool bias;
    bool dx, dw; /* gradients that backward is asked for */
} espl__conv_shape;

typedef struct espl__conv_f32 espl__conv_f32;
struct espl__conv_f32 {
    uint64_t forward_bytes, backward_bytes; /* of scratch, 64-byte aligned */
    void (*forward)(espl__conv_f32 *conv, espl__pool *pool, void *scratch, const float *x, const float *w,
                    const float *bias, float *y);
    /* dx, dw: NULL or written, or added to. */
    void (*backward)(espl__conv_f32 *conv, espl__pool *pool, void *scratch, const float *x, const float *w,
                     const float *dy, float *dx, bool add_dx, float *dw, bool add_dw);
    void (*release)(espl__conv_f32 *conv);
};

/* C[m][n] = beta C + op(A) op(B), row-major; op(A) is m x k: A[m][k] (lda >= k), or with ta A[k][m]
 * transposed. beta is 0 (C may be uninitialised) or 1. On the calling thread. */
typedef void (*espl__gemm_f32_fn)(bool ta, bool tb, int64_t m, int64_t n, int64_t k, const float *a,
                                  int64_t lda, const float *b, int64_t ldb, float beta, float *c,
                                  int64_t ldc);

typedef struct espl__dense {
    const char *name;
    espl__gemm_f32_fn gemm_f32;
    void (*gemm_f64)(bool ta, bool tb, int64_t m, int64_t n, int64_t k, const double *a, int64_t lda,
                     const double *b, int64_t ldb, double beta, double *c, int64_t ldc);
    /* NULL, or returns NULL: not with this library. */
    espl__conv_f32 *(*conv_f32)(espl_context *ctx, const espl__conv_shape *shape);
} espl__dense;

/* What gemm_f32, forward and backward could not do for want of memory is left undone: whoever calls them asks
 * after a step, before its results are used. Asking forgets. */
void espl__dense_fail(void);
bool espl__dense_failed(void);

/* The table in use: the best there is of plain, onednn and amx, or what ESPL_DENSE names. */
const espl__dense *espl__dense_get(void);
/* For tests: the table of this name from now on; false if there is none. */
bool espl__dense_use(const char *name);

/* The same on the threads of a pool: rows of C are shared out, or columns if it has more of them. */
void espl__gemm_f32(espl__pool *pool, bool ta, bool tb, int64_t m, int64_t n, int64_t k, const float *a,
                    int64_t lda, const float *b, int64_t ldb, float beta, float *c, int64_t ldc);
void espl__gemm_f64(espl__pool *pool, bool ta, bool tb, int64_t m, int64_t n, int64_t k, const double *a,
                    int64_t lda, const double *b, int64_t ldb, double beta, double *c, int64_t ldc);

#endif
