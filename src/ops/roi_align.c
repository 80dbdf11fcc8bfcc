/* RoiAlign: each bin of a region is the mean, or the largest, of samples between the elements of the image.
 */
#include "ops/ops.h"

#include <inttypes.h>
#include <math.h>

/* Samples of a bin along one axis at most: data decide how many there are. */
enum { MAX_SAMPLES = 256 };

typedef struct region {
    float start[2], bin[2]; /* of y, x */
    int samples[2];
} region;

/* The four neighbours of a sample and their weights; count 0: it lies outside. */
typedef struct corners {
    int64_t at[4];
    float weight[4];
    bool inside;
} corners;

static espl_status read_size(const espl__node *node, const char *name, int64_t fallback, int64_t least,
                             int64_t most, int64_t *out, espl_diag *diag) {
    *out = espl__attr_int(node, name, fallback);
    if (*out >= least && *out <= most) return ESPL_OK;
    return espl__fail(diag, ESPL_FORMAT, "RoiAlign: %s is %" PRId64, name, *out);
}

static espl_status infer(const espl__node *node, espl_diag *diag) {
    espl_status status;
    int64_t h, w, samples;
    ESPL_TRY(espl__op_begin(node, diag));
    ESPL_TRY(espl__check_dtype(node, 0, ESPL__T(F32), diag));
    ESPL_TRY(espl__check_dtype(node, 1, ESPL__T(F32), diag));
    ESPL_TRY(espl__check_dtype(node, 2, ESPL__T(S64), diag));
    ESPL_TRY(espl__check_rank(node, 0, 4, 4, diag));
    ESPL_TRY(espl__check_rank(node, 1, 2, 2, diag));
    ESPL_TRY(espl__check_rank(node, 2, 1, 1, diag));
    ESPL_TRY(read_size(node, "output_height", 1, 1, INT32_MAX, &h, diag));
    ESPL_TRY(read_size(node, "output_width", 1, 1, INT32_MAX, &w, diag));
    ESPL_TRY(read_size(node, "sampling_ratio", 0, 0, MAX_SAMPLES, &samples, diag));
    const char *mode = espl__attr_string(node, "mode", "avg");
    const char *how = espl__attr_string(node, "coordinate_transformation_mode", "half_pixel");
    if (strcmp(mode, "avg") != 0 && strcmp(mode, "max") != 0)
        return espl__fail(diag, ESPL_FORMAT, "RoiAlign: mode '%.60s' is neither avg nor max", mode);
    if (strcmp(how, "half_pixel") != 0 && strcmp(how, "output_half_pixel") != 0)
        return espl__fail(diag, ESPL_FORMAT, "RoiAlign: coordinate_transformation_mode '%.60s' is not known",
                          how);
    const espl__value *x = espl__in(node, 0), *rois = espl__in(node, 1), *index = espl__in(node, 2);
    int64_t count = rois->known_rank ? rois->shape.dim[0] : ESPL_DIM_UNKNOWN;
    if (index->known_rank) {
        if (!espl__dims_agree(count, index->shape.dim[0]))
            return espl__fail(diag, ESPL_SHAPE, "RoiAlign: there are not as many batch indices as regions");
        count = ESPL_MAX(count, index->shape.dim[0]);
    }
    if (rois->known_rank && !espl__dims_agree(rois->shape.dim[1], 4))
        return espl__fail(diag, ESPL_SHAPE, "RoiAlign: a region has 4 coordinates");
    espl_shape y = {.rank = 4, .dim = {count, x->known_rank ? x->shape.dim[1] : ESPL_DIM_UNKNOWN, h, w}};
    status = espl__set_out(node, 0, ESPL_F32, &y, diag);
done:
    return status;
}

static int samples_of(float bin, int64_t fixed) {
    if (fixed > 0) return (int)fixed;
    float n = ceilf(bin);
    return n > 0 ? n < MAX_SAMPLES ? (int)n : MAX_SAMPLES : 0;
}

/* `roi`: x1, y1, x2, y2. Without half pixels a region has at least one element. */
static region read_region(const espl__node *node, const float *roi, const espl_shape *y) {
    bool half =
        node->opset >= 16 &&
        strcmp(espl__attr_string(node, "coordinate_transformation_mode", "half_pixel"), "half_pixel") == 0;
    float scale = espl__attr_float(node, "spatial_scale", 1), offset = half ? 0.5f : 0.0f;
    int64_t fixed = espl__attr_int(node, "sampling_ratio", 0);
    region r;
    for (int i = 0; i < 2; i++) {
        r.start[i] = roi[1 - i] * scale - offset;
        float size = roi[3 - i] * scale - offset - r.start[i];
        if (!half) size = size > 1 ? size : 1;
        r.bin[i] = size / (float)y->dim[2 + i];
        r.samples[i] = samples_of(r.bin[i], fixed);
    }
    return r;
}

static corners find_corners(float y, float x, int64_t height, int64_t width) {
    corners c = {.inside = y >= -1 && y <= (float)height && x >= -1 && x <= (float)width};
    float at[2] = {y > 0 ? y : 0, x > 0 ? x : 0}, f[2];
    int64_t low[2], high[2], size[2] = {height, width};
    for (int i = 0; c.inside && i < 2; i++) {
        low[i] = ESPL_MIN((int64_t)at[i], size[i] - 1);
        high[i] = ESPL_MIN(low[i] + 1, size[i] - 1);
        f[i] = low[i] == high[i] ? 0 : at[i] - (float)low[i];
    }
    for (int k = 0; c.inside && k < 4; k++) {
        c.at[k] = (k & 2 ? high[0] : low[0]) * width + (k & 1 ? high[1] : low[1]);
        c.weight[k] = (k & 2 ? f[0] : 1 - f[0]) * (k & 1 ? f[1] : 1 - f[1]);
    }
    return c;
}

/* max: of the weighted neighbours, not of their sums, as the standard has it. */
static float pool_bin(const region *r, int64_t ph, int64_t pw, const float *image, const espl_shape *x,
                      bool max) {
    float all = 0;
    bool first = true;
    for (int iy = 0; iy < r->samples[0]; iy++)
        for (int ix = 0; ix < r->samples[1]; ix++) {
            float y =
                r->start[0] + (float)ph * r->bin[0] + ((float)iy + 0.5f) * r->bin[0] / (float)r->samples[0];
            float at =
                r->start[1] + (float)pw * r->bin[1] + ((float)ix + 0.5f) * r->bin[1] / (float)r->samples[1];
            corners c = find_corners(y, at, x->dim[2], x->dim[3]);
            float v[4] = {0, 0, 0, 0};
            for (int k = 0; c.inside && k < 4; k++) v[k] = c.weight[k] * image[c.at[k]];
            if (max)
                for (int k = 0; k < 4; k++, first = false) all = first || v[k] > all ? v[k] : all;
            else
                all += v[0] + v[1] + v[2] + v[3];
        }
    return max ? all : all / (float)ESPL_MAX(r->samples[0] * r->samples[1], 1);
}

static void eval(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)scratch;
    const espl_shape *x = &in[0].shape, *y = &out[0].shape;
    bool max = strcmp(espl__attr_string(node, "mode", "avg"), "max") == 0;
    float *to = out[0].data;
    if (espl__is_empty(&out[0])) return;
    for (int64_t n = 0; n < y->dim[0]; n++) {
        region r = read_region(node, (const float *)in[1].data + 4 * n, y);
        int64_t batch = ((const int64_t *)in[2].data)[n];
        bool there = batch >= 0 && batch < x->dim[0] && x->dim[2] > 0 &&
                     x->dim[3] > 0; /* of no image there is nothing */
        for (int64_t c = 0; c < y->dim[1]; c++) {
            const float *image =
                there ? (const float *)in[0].data + (batch * x->dim[1] + c) * x->dim[2] * x->dim[3] : NULL;
            for (int64_t h = 0; h < y->dim[2]; h++)
                for (int64_t w = 0; w < y->dim[3]; w++)
                    *to++ = image ? pool_bin(&r, h, w, image, x, max) : 0.0f;
        }
    }
}

const espl__op espl__op_RoiAlign = {
    .name = "RoiAlign",
    .domain = "",
    .min_inputs = 3,
    .max_inputs = 3,
    .min_outputs = 1,
    .max_outputs = 1,
    .since = 10,
    .until = 21,
    .infer = infer,
    .eval = eval,
    .quant = ESPL__QUANT_FLOAT,
};
