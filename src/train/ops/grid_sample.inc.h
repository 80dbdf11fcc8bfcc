#include "ops/grid_sample.inc.h"

static void FN(sample_images)(void *arg, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const espl__call *c = arg;
    const espl_shape *x = &c->in->shape, *y = &c->out->shape;
    const int64_t places = espl__dims_product(y, 2, y->rank), image = espl__dims_product(x, 1, x->rank);
    for (int64_t n = begin; n < end; n++)
        FN(sample_image)
        (c->state, x, (const REAL *)c->in[0].data + n * image,
         (const REAL *)c->in[1].data + n * places * (x->rank - 2),
         (REAL *)c->out->data + n * x->dim[1] * places, places);
}

/* The way of sum, backwards: dx of the elements get their share of dy. */
static void FN(share)(REAL *dx, const FN(taps) * t, const int64_t *stride, int axis, int rank, REAL dy) {
    if (axis == rank || axis == ESPL_MAX_RANK) {
        *dx += dy;
        return;
    }
    for (int i = 0; i < t[axis].count; i++)
        if (t[axis].at[i] >= 0 && t[axis].weight[i] != 0)
            FN(share)(dx + t[axis].at[i] * stride[axis], t, stride, axis + 1, rank, dy * t[axis].weight[i]);
}

/* The derivative of a sample by its place along `axis`: the sum with slopes in place of that axis's weights.
 */
static REAL FN(slope_along)(const REAL *x, FN(taps) * t, const int64_t *stride, int axis, int rank) {
    FN(taps) kept = t[axis];
    memcpy(t[axis].weight, kept.slope, sizeof kept.slope);
    REAL slope = FN(sum)(x, t, stride, 2, rank);
    t[axis] = kept;
    return slope;
}

static void FN(sample_back)(void *arg, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const espl__call *c = arg;
    const espl_shape *x = &c->in->shape, *y = &c->out->shape;
    const int64_t places = espl__dims_product(y, 2, y->rank), channels = x->dim[1];
    const int rank = x->rank;
    FN(taps) t[ESPL_MAX_RANK];
    int64_t stride[ESPL_MAX_RANK];
    espl__strides(x, stride);
    for (int64_t n = begin; n < end; n++)
        for (int64_t p = n * places; p < (n + 1) * places; p++) {
            const REAL *at = (const REAL *)c->in[1].data + p * (rank - 2);
            for (int i = 2; i < rank; i++) t[i] = FN(find_taps)(c->state, at[rank - 1 - i], x->dim[i]);
            for (int64_t k = 0; k < channels; k++) {
                int64_t plane = n * stride[0] + k * stride[1];
                REAL dy = ((const REAL *)c->dout->data)[(n * channels + k) * places + p - n * places];
                if (c->din[0].data) FN(share)((REAL *)c->din[0].data + plane, t, stride, 2, rank, dy);
                for (int i = 2; c->din[1].data && i < rank; i++)
                    ((REAL *)c->din[1].data)[p * (rank - 2) + rank - 1 - i] +=
                        dy * FN(slope_along)((const REAL *)c->in[0].data + plane, t, stride, i, rank);
            }
        }
}
