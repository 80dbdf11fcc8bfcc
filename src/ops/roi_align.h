/* What RoiAlign's node says. */
#ifndef ESPL_OPS_ROI_ALIGN_H
#define ESPL_OPS_ROI_ALIGN_H

#include "ops/ops.h"

/* Samples of a bin along one axis at most: data decide how many there are. */
enum { ESPL__ROI_SAMPLES = 256 };

static inline bool espl__roi_half_pixel(const espl__node *node) {
    const char *how = espl__attr_string(node, "coordinate_transformation_mode", "half_pixel");
    return node->opset >= 16 && strcmp(how, "half_pixel") == 0;
}
static inline bool espl__roi_max(const espl__node *node) {
    return strcmp(espl__attr_string(node, "mode", "avg"), "max") == 0;
}
/* The image of region n, -1: there is none, or none with elements. */
static inline int64_t espl__roi_image(const espl_tensor *index, int64_t n, const espl_shape *x) {
    int64_t batch = ((const int64_t *)index->data)[n];
    return batch >= 0 && batch < x->dim[0] && x->dim[2] > 0 && x->dim[3] > 0 ? batch : -1;
}

#endif
