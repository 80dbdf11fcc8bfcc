/* RoiAlign: each bin of a region is the mean, or the largest, of samples between the elements of the image.
 */
#include "ops/roi_align.h"

#include <inttypes.h>
#include <math.h>

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
    ESPL_TRY(read_size(node, "sampling_ratio", 0, 0, ESPL__ROI_SAMPLES, &samples, diag));
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

#define REAL float
#define FN(name) name
#define M(name) name##f
#include "ops/roi_align.inc.h"
#undef REAL
#undef FN
#undef M

static void eval(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)scratch;
    const espl_shape *x = &in[0].shape, *y = &out[0].shape;
    bool max = espl__roi_max(node);
    if (espl__is_empty(&out[0])) return;
    const int64_t own = espl__dims_product(x, 1, 4), each = espl__dims_product(y, 1, 4);
    for (int64_t n = 0; n < y->dim[0]; n++) {
        int64_t image = espl__roi_image(&in[2], n, x);
        pool_region(node, (const float *)in[1].data + 4 * n,
                    image < 0 ? NULL : (const float *)in[0].data + image * own, x,
                    (float *)out[0].data + n * each, y, max);
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
