/* Pictures: size limits, bilinear resize, centre crop. */
#include "data/data.h"

#include <inttypes.h>
#include <math.h>

espl_status espl__picture_size(espl__picture *p, int64_t channels, int64_t height, int64_t width,
                               espl_diag *diag) {
    if (channels < 1 || channels > ESPL__IMAGE_MAX_SIDE || height < 1 || height > ESPL__IMAGE_MAX_SIDE ||
        width < 1 || width > ESPL__IMAGE_MAX_SIDE || height * width > ESPL__IMAGE_MAX_PIXELS ||
        channels * height * width > 4 * (int64_t)ESPL__IMAGE_MAX_PIXELS)
        return espl__fail(diag, ESPL_LIMIT,
                          "an image of %" PRId64 "x%" PRId64 " pixels and %" PRId64
                          " channels is empty or too large "
                          "(at most %d a side and %d in all)",
                          width, height, channels, ESPL__IMAGE_MAX_SIDE, ESPL__IMAGE_MAX_PIXELS);
    uint64_t need = (uint64_t)(channels * height * width);
    if (need > p->capacity) {
        float *data = espl__alloc(p->ctx, need * sizeof(float));
        if (!data) return espl__nomem(diag, need * sizeof(float));
        espl__free(p->ctx, p->data);
        p->data = data;
        p->capacity = need;
    }
    p->channels = (int)channels;
    p->height = (int)height;
    p->width = (int)width;
    return ESPL_OK;
}

void espl__picture_free(espl__picture *p) {
    espl__free(p->ctx, p->data);
    *p = (espl__picture){.ctx = p->ctx};
}

/* --- resize ------------------------------------------------------------------------------------
 *
 * Output pixel i looks at the input around (i + 1/2) * ratio - 1/2. An input pixel at distance t weighs
 * max(0, 1 - |t| / support) with support = max(1, ratio), and the weights of those within the image are made
 * to sum to 1: plain bilinear interpolation when enlarging, a triangle filter without aliasing when reducing.
 * Rows first, then columns, in f64. */

/* One line of `from` elements `step` apart becomes `to` elements `out_step` apart. */
static void resize_line(const float *in, int from, int64_t step, float *out, int to, int64_t out_step) {
    double ratio = (double)from / to, support = ratio > 1 ? ratio : 1;
    for (int i = 0; i < to; i++) {
        double centre = (i + 0.5) * ratio - 0.5, sum = 0, total = 0;
        int first = (int)ceil(centre - support), last = (int)floor(centre + support);
        for (int j = ESPL_MAX(first, 0); j <= ESPL_MIN(last, from - 1); j++) {
            double weight = 1 - fabs(j - centre) / support;
            if (weight <= 0) continue;
            sum += weight * in[j * step];
            total += weight;
        }
        out[i * out_step] = (float)(sum / total);
    }
}

/* `to` gets the size height x width; the rows of both have their lines resampled by `horizontal` or not. */
static void resize_axis(const espl__picture *from, espl__picture *to, bool horizontal) {
    for (int c = 0; c < from->channels; c++) {
        const float *in = from->data + (int64_t)c * from->height * from->width;
        float *out = to->data + (int64_t)c * to->height * to->width;
        if (horizontal)
            for (int y = 0; y < from->height; y++)
                resize_line(in + (int64_t)y * from->width, from->width, 1, out + (int64_t)y * to->width,
                            to->width, 1);
        else
            for (int x = 0; x < from->width; x++)
                resize_line(in + x, from->height, from->width, out + x, to->height, to->width);
    }
}

espl_status espl__picture_resize(espl__picture *p, espl__picture *temporary, int64_t side, espl_diag *diag) {
    espl_status status = ESPL_OK;
    int64_t shorter = ESPL_MIN(p->height, p->width);
    int64_t height = p->height * side / shorter, width = p->width * side / shorter;
    if (shorter == side) goto done;
    ESPL_TRY(espl__picture_size(temporary, p->channels, p->height, width, diag));
    resize_axis(p, temporary, true);
    ESPL_TRY(espl__picture_size(p, temporary->channels, height, width, diag));
    resize_axis(temporary, p, false);
done:
    return status;
}

espl_status espl__picture_crop(espl__picture *p, int64_t side, espl_diag *diag) {
    int64_t height = p->height, width = p->width;
    if (side > height || side > width)
        return espl__fail(diag, ESPL_SHAPE,
                          "an image of %" PRId64 "x%" PRId64 " pixels cannot be cropped to %" PRId64
                          "x%" PRId64 "; resize it first",
                          width, height, side, side);
    int64_t top = (height - side) / 2, left = (width - side) / 2;
    float *out = p->data;
    for (int c = 0; c < p->channels; c++)
        for (int64_t y = 0; y < side; y++, out += side)
            memmove(out, p->data + ((int64_t)c * height + top + y) * width + left,
                    sizeof(float) * (size_t)side);
    p->height = p->width = (int)side;
    return ESPL_OK;
}
