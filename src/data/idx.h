/* IDX, the format of MNIST: 0, 0, a type, a rank, the dimensions and the elements, all big-endian
 * (http://yann.lecun.com/exdb/mnist/). */
#ifndef ESPL_DATA_IDX_H
#define ESPL_DATA_IDX_H

#include "data/data.h"

typedef struct espl__idx {
    uint8_t *file; /* owned */
    const uint8_t *elements;
    uint8_t type; /* 0x08 u8, 0x09 s8, 0x0b s16, 0x0c s32, 0x0d f32, 0x0e f64 */
    espl_shape shape;
} espl__idx;

/* Reads an IDX file, perhaps .gz, whose elements are all there; freed by espl__free(ctx, idx->file). */
ESPL_NODISCARD espl_status espl__idx_read(espl_context *ctx, const char *path, espl__idx *idx,
                                          espl_diag *diag);
/* Element i as a number. */
double espl__idx_element(const espl__idx *idx, int64_t i);

#endif
