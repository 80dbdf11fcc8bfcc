/* From the pixels of a file to what the network sees in training: random crop of the image in a border of
 * zeros, random horizontal flip, scale, mean and std, random cutout, in this order. */
#ifndef ESPL_DATA_AUGMENT_H
#define ESPL_DATA_AUGMENT_H

#include "data/data.h"

/* What is drawn for one sample. */
typedef struct espl__augment_draw {
    int64_t top, left; /* of the crop in the image with its border; pad, pad changes nothing */
    bool flip;
    int64_t cut_y, cut_x; /* the pixel in the middle of what is cut out */
} espl__augment_draw;

/* How the images of one data set become inputs. */
typedef struct espl__augmenter {
    espl_context *ctx;
    espl__data_augment what; /* all 0: nothing is drawn */
    /* Channel c, row y, column x of a sample lies at c * plane + y * row + x * column. */
    int64_t channels, height, width, plane, row, column;
    espl__affine *affine; /* [channels] */
    float *table;         /* [channels][256]: what the affine makes of each byte */
} espl__augmenter;

/* For a data set of one input of rank 3. on false: only scale, mean and std are applied. */
ESPL_NODISCARD espl_status espl__augmenter_create(const espl_dataset *dataset, bool on, espl__augmenter *out,
                                                  espl_diag *diag);
void espl__augmenter_free(espl__augmenter *augmenter);
/* The draws of sample `index` in an epoch: place (seed, epoch, index) of espl__rng_at, in the order top and
 * left (if there is padding), flip, the row and column of the cutout (if there are any). */
espl__augment_draw espl__augment_choose(const espl__augmenter *augmenter, uint64_t seed, int64_t epoch,
                                        int64_t index);
/* One sample from bytes or floats; out has the same layout. */
void espl__augment_bytes(const espl__augmenter *augmenter, const espl__augment_draw *draw, const uint8_t *in,
                         float *out);
void espl__augment_floats(const espl__augmenter *augmenter, const espl__augment_draw *draw, const float *in,
                          float *out);

#endif
