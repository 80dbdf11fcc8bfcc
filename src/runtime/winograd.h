/* 3 x 3 convolution with fewer products. */
#ifndef ESPL_WINOGRAD_H
#define ESPL_WINOGRAD_H

#include "ops/ops.h"
#include "runtime/weights.h"

/* The rule of f32: shapes of one image and the weights alone. */
bool espl__winograd_pays(const espl__window *g, int64_t groups, int64_t inputs, int64_t channels);
/* 16 products of 16 bits stand for 36 of bytes, and the transforms take a fifth of the time: so fast must they be for small
 * tiles. Sets with VNNI are not. */
static inline bool espl__winograd_small_pays(const espl_session *s) {
    return s->kernels->s16_rate * 36 > 120 * 16;
}
/* The rule of codes, which gives the same integers as the direct way: outputs of a tile each way, 0 if it
 * does not pay. */
int espl__winograd_pays_codes(const espl_session *s, const espl__window *g, int64_t groups, const weights *w,
                              int64_t inputs, int64_t channels);
/* The step for convolution n in f32, or of codes to codes if the weights are read as integers; its input (halo
 * filled), residual and output are planned. */
espl_status espl__lower_winograd(espl_session *s, const espl__node *n, const espl__window *g, int side,
                                 const fusion *f, weights *read, const view *in, const view *res,
                                 const view *out, const view *final, espl_diag *diag);

#endif
