#include "data/augment.h"

static void lay(espl__augmenter *a, const espl_dataset *d) {
    const int64_t *dim = d->shape[0].dim;
    if (d->nhwc) {
        a->height = dim[0], a->width = dim[1], a->channels = dim[2];
        a->plane = 1, a->column = a->channels, a->row = a->width * a->channels;
    } else {
        a->channels = dim[0], a->height = dim[1], a->width = dim[2];
        a->plane = a->height * a->width, a->row = a->width, a->column = 1;
    }
}

espl_status espl__augmenter_create(const espl_dataset *d, bool on, espl__augmenter *a, espl_diag *diag) {
    *a = (espl__augmenter){.ctx = d->ctx};
    if (on && d->desc->augment) a->what = *d->desc->augment;
    lay(a, d);
    a->affine = espl__calloc(d->ctx, (uint64_t)a->channels, sizeof *a->affine);
    a->table = espl__calloc(d->ctx, (uint64_t)a->channels, 256 * sizeof *a->table);
    if (!a->affine || !a->table) {
        espl__augmenter_free(a);
        return espl__nomem(diag, (uint64_t)d->shape[0].dim[0] * 256 * sizeof *a->table);
    }
    for (int64_t c = 0; c < a->channels; c++) {
        a->affine[c] = espl__dataset_affine(d, c);
        for (int i = 0; i < 256; i++) a->table[c * 256 + i] = espl__affine_apply(a->affine[c], (float)i);
    }
    return ESPL_OK;
}

void espl__augmenter_free(espl__augmenter *a) {
    if (!a->ctx) return;
    espl__free(a->ctx, a->affine);
    espl__free(a->ctx, a->table);
    *a = (espl__augmenter){0};
}

espl__augment_draw espl__augment_choose(const espl__augmenter *a, uint64_t seed, int64_t epoch,
                                        int64_t index) {
    espl__rng rng = espl__rng_at(seed, (uint64_t)epoch, (uint64_t)index);
    espl__augment_draw draw = {0};
    if (a->what.pad) {
        draw.top = espl__rng_below(&rng, (uint32_t)(2 * a->what.pad + 1));
        draw.left = espl__rng_below(&rng, (uint32_t)(2 * a->what.pad + 1));
    }
    if (a->what.flip) draw.flip = espl__rng_below(&rng, 2);
    if (a->what.cutout) {
        draw.cut_y = espl__rng_below(&rng, (uint32_t)a->height);
        draw.cut_x = espl__rng_below(&rng, (uint32_t)a->width);
    }
    return draw;
}

/* What is not in the image is the raw value 0, before scale, mean and std: PyTorch's order of transforms
 * (RandomCrop on the image, then ToTensor and Normalize). */
static void fill(float *out, int64_t begin, int64_t end, int64_t step, float value) {
    for (int64_t x = begin; x < end; x++) out[x * step] = value;
}

/* Cutout (DeVries and Taylor 2017): a square whose middle lies anywhere in the image, so that part of it may
 * fall outside, becomes 0 after normalisation, which is the mean. Of an even side the pixel `cut` is the
 * first of the second half. */
static void cut_out(const espl__augmenter *a, const espl__augment_draw *draw, float *out) {
    int64_t side = a->what.cutout, top = draw->cut_y - side / 2, left = draw->cut_x - side / 2;
    int64_t bottom = ESPL_MIN(top + side, a->height), right = ESPL_MIN(left + side, a->width);
    top = ESPL_MAX(top, 0);
    left = ESPL_MAX(left, 0);
    for (int64_t c = 0; side && c < a->channels; c++)
        for (int64_t y = top; y < bottom; y++)
            fill(out + c * a->plane + y * a->row, left, right, a->column, 0);
}

/* The rows of one sample; VALUE is what becomes of in[i] of channel c. Column k of the crop is column
 * k + shift of the image and lies in [first, last) of those that are inside. */
#define ROWS(VALUE, ZERO)                                                                               \
    int64_t shift = draw->left - a->what.pad, first = ESPL_MAX(0, -shift);                              \
    int64_t last = ESPL_MIN(a->width, a->width - shift), step = draw->flip ? -a->column : a->column;    \
    for (int64_t c = 0; c < a->channels; c++)                                                           \
        for (int64_t y = 0; y < a->height; y++) {                                                       \
            int64_t from = y + draw->top - a->what.pad;                                                 \
            float *o = out + c * a->plane + y * a->row + (draw->flip ? (a->width - 1) * a->column : 0); \
            if (from < 0 || from >= a->height) {                                                        \
                fill(o, 0, a->width, step, ZERO);                                                       \
                continue;                                                                               \
            }                                                                                           \
            int64_t i = c * a->plane + from * a->row + (first + shift) * a->column;                     \
            fill(o, 0, first, step, ZERO);                                                              \
            for (int64_t k = first; k < last; k++, i += a->column) o[k * step] = VALUE;                 \
            fill(o, last, a->width, step, ZERO);                                                        \
        }                                                                                               \
    cut_out(a, draw, out);

void espl__augment_bytes(const espl__augmenter *a, const espl__augment_draw *draw, const uint8_t *in,
                         float *out) {
    const float *table = a->table;
    ROWS(table[c * 256 + in[i]], table[c * 256])
}

void espl__augment_floats(const espl__augmenter *a, const espl__augment_draw *draw, const float *in,
                          float *out) {
    ROWS(espl__affine_apply(a->affine[c], in[i]), a->table[c * 256])
}
