/* GridSample and AffineGrid as their nodes say. */
#ifndef ESPL_OPS_GRID_SAMPLE_H
#define ESPL_OPS_GRID_SAMPLE_H

#include "ops/ops.h"

typedef enum espl__sample_mode { ESPL__NEAREST, ESPL__LINEAR, ESPL__CUBIC } espl__sample_mode;
typedef enum espl__sample_padding { ESPL__ZEROS, ESPL__BORDER, ESPL__REFLECTION } espl__sample_padding;

typedef struct espl__sampler {
    espl__sample_mode mode;
    espl__sample_padding padding;
    bool align_corners;
} espl__sampler;

ESPL_NODISCARD espl_status espl__sampler_read(const espl__node *node, espl__sampler *s, espl_diag *diag);

/* Mirrors x at both ends until it lies between them: the centres of the outermost elements, or their outer
 * borders. `slope`: 1, or -1 where that turns the direction; NULL: not wanted. */
double espl__sample_reflect(const espl__sampler *s, double x, int64_t length, int *slope);
/* The element at a whole coordinate; -1: nothing, a zero. */
int64_t espl__sample_element(const espl__sampler *s, double at, int64_t length);
static inline int64_t espl__sample_clamp(double x, int64_t length) {
    return x <= 0 ? 0 : x >= (double)(length - 1) ? length - 1 : (int64_t)x;
}

/* Coordinates (x, y, z) of place p of a grid of shape y (N, spatial, coordinates). */
void espl__affine_place(const espl_shape *y, int64_t p, bool align_corners, double *at);

#endif
