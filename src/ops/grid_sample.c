/* GridSample: each output is a sample of the image at a place that the grid names, and AffineGrid: the grid
 * that an affine map of the unit square (or cube) gives. Coordinates go from -1 to 1 and stand in reverse
 * order: x, y, z. */
#include "ops/grid_sample.h"

#include <inttypes.h>
#include <math.h>

espl_status espl__sampler_read(const espl__node *node, espl__sampler *s, espl_diag *diag) {
    static const char *const modes[] = {"nearest", "linear", "cubic", "bilinear", "bicubic"};
    static const char *const paddings[] = {"zeros", "border", "reflection"};
    const char *how = espl__attr_string(node, "mode", "linear"),
               *outside = espl__attr_string(node, "padding_mode", "zeros");
    int m = 0, p = 0;
    while (m < 5 && strcmp(how, modes[m]) != 0) m++;
    while (p < 3 && strcmp(outside, paddings[p]) != 0) p++;
    if (m == 5) return espl__fail(diag, ESPL_UNSUPPORTED, "GridSample: mode '%.60s' is not known", how);
    if (p == 3)
        return espl__fail(diag, ESPL_UNSUPPORTED, "GridSample: padding_mode '%.60s' is not known", outside);
    s->mode = (espl__sample_mode)(m < 3 ? m : m - 2);
    s->padding = (espl__sample_padding)p;
    s->align_corners = espl__attr_int(node, "align_corners", 0) != 0;
    return ESPL_OK;
}

static espl_status infer_sample(const espl__node *node, espl_diag *diag) {
    espl_status status;
    espl__sampler s;
    ESPL_TRY(espl__op_begin(node, diag));
    ESPL_TRY(espl__check_dtype(node, 0, ESPL__T(F32), diag));
    ESPL_TRY(espl__check_dtype(node, 1, ESPL__T(F32), diag));
    ESPL_TRY(espl__sampler_read(node, &s, diag));
    const espl__value *x = espl__in(node, 0), *grid = espl__in(node, 1);
    if (!x->known_rank || !grid->known_rank) return espl__set_unknown(node, 0, ESPL_F32);
    const int rank = x->shape.rank;
    ESPL_TRY(espl__check_rank(node, 0, 3, ESPL_MAX_RANK, diag));
    ESPL_TRY(espl__check_rank(node, 1, rank, rank, diag));
    if (!espl__dims_agree(grid->shape.dim[rank - 1], rank - 2) ||
        !espl__dims_agree(grid->shape.dim[0], x->shape.dim[0]))
        return espl__fail(diag, ESPL_SHAPE,
                          "GridSample: the grid needs an entry for each image, and %d coordinates a place",
                          rank - 2);
    espl_shape y = {.rank = rank, .dim = {x->shape.dim[0], x->shape.dim[1]}};
    for (int i = 2; i < rank; i++) {
        y.dim[i] = grid->shape.dim[i - 1];
        if (x->shape.dim[i] == 0) return espl__fail(diag, ESPL_SHAPE, "GridSample: the image is empty");
    }
    status = espl__set_out(node, 0, ESPL_F32, &y, diag);
done:
    return status;
}

double espl__sample_reflect(const espl__sampler *s, double x, int64_t length, int *slope) {
    double lo = s->align_corners ? 0 : -0.5, range = (double)length - (s->align_corners ? 1 : 0);
    if (slope) *slope = range > 0;
    if (range <= 0) return 0;
    if (x >= lo && x <= lo + range) return x;
    double beyond = x < lo ? lo - x : x - lo - range, rest = fmod(beyond, range);
    bool even = fmod(floor(beyond / range), 2) == 0;
    if (slope && even) *slope = -1;
    return (x < lo) == even ? lo + rest : lo + range - rest;
}

int64_t espl__sample_element(const espl__sampler *s, double at, int64_t length) {
    if (s->padding == ESPL__REFLECTION)
        return espl__sample_clamp(trunc(espl__sample_reflect(s, at, length, NULL)), length);
    if (s->padding == ESPL__ZEROS && !(at >= 0 && at < (double)length)) return -1;
    return espl__sample_clamp(at, length);
}

#define REAL float
#define FN(name) name
#include "ops/grid_sample.inc.h"
#undef REAL
#undef FN

static void eval_sample(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)scratch;
    espl__sampler s;
    const espl_shape *x = &in[0].shape, *y = &out[0].shape;
    if (espl__is_empty(&out[0]) || espl__sampler_read(node, &s, NULL) != ESPL_OK) return;
    const int64_t places = espl__dims_product(y, 2, y->rank), image = espl__dims_product(x, 1, x->rank);
    for (int64_t n = 0; n < x->dim[0]; n++)
        sample_image(&s, x, (const float *)in[0].data + n * image,
                     (const float *)in[1].data + n * places * (x->rank - 2),
                     (float *)out[0].data + n * x->dim[1] * places, places);
}

const espl__op espl__op_GridSample = {
    .name = "GridSample",
    .domain = "",
    .min_inputs = 2,
    .max_inputs = 2,
    .min_outputs = 1,
    .max_outputs = 1,
    .since = 16,
    .until = 21,
    .infer = infer_sample,
    .eval = eval_sample,
    .quant = ESPL__QUANT_FLOAT,
};

/* --- AffineGrid ------------------------------------------------------------------------------ */

static espl_status infer_affine(const espl__node *node, espl_diag *diag) {
    espl_status status;
    espl__ints size;
    ESPL_TRY(espl__op_begin(node, diag));
    ESPL_TRY(espl__check_dtype(node, 0, ESPL__T(F32), diag));
    ESPL_TRY(espl__check_rank(node, 0, 3, 3, diag));
    ESPL_TRY(espl__read_ints(node, NULL, 1, &size, diag));
    const espl__value *theta = espl__in(node, 0);
    if (size.count < 0) return espl__set_unknown(node, 0, ESPL_F32);
    if (size.count != 4 && size.count != 5)
        return espl__fail(diag, ESPL_SHAPE, "AffineGrid: a size of %d numbers; 4 or 5 are possible",
                          size.count);
    const int rank = size.count - 2;
    if (theta->known_rank &&
        (!espl__dims_agree(theta->shape.dim[1], rank) || !espl__dims_agree(theta->shape.dim[2], rank + 1)))
        return espl__fail(diag, ESPL_SHAPE, "AffineGrid: the maps of %d coordinates are %dx%d matrices", rank,
                          rank, rank + 1);
    espl_shape y = {.rank = rank + 2, .dim = {theta->known_rank ? theta->shape.dim[0] : ESPL_DIM_UNKNOWN}};
    for (int i = 0; i < rank; i++) {
        y.dim[1 + i] = size.known ? size.v[2 + i] : ESPL_DIM_UNKNOWN;
        if (size.known && (size.v[2 + i] < 0 || size.v[2 + i] > INT32_MAX))
            return espl__fail(diag, ESPL_SHAPE, "AffineGrid: a size of %" PRId64 " is not possible",
                              size.v[2 + i]);
    }
    if (size.known && !espl__dims_agree(size.v[0], y.dim[0]))
        return espl__fail(diag, ESPL_SHAPE, "AffineGrid: there is not one map for each of %" PRId64 " images",
                          size.v[0]);
    y.dim[rank + 1] = rank;
    status = espl__set_out(node, 0, ESPL_F32, &y, diag);
done:
    return status;
}

/* The i-th of n places from -1 to 1: element centres, the outermost at the ends if corners are aligned. */
static double coordinate(int64_t i, int64_t n, bool align_corners) {
    if (align_corners) return n > 1 ? 2.0 * (double)i / (double)(n - 1) - 1 : 0;
    return (2.0 * (double)i + 1) / (double)n - 1;
}

void espl__affine_place(const espl_shape *y, int64_t p, bool align_corners, double *at) {
    for (int i = y->rank - 3; i >= 0; i--) {
        at[y->rank - 3 - i] = coordinate(p % y->dim[1 + i], y->dim[1 + i], align_corners);
        p /= y->dim[1 + i];
    }
}

static void eval_affine(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)scratch;
    const espl_shape *y = &out[0].shape;
    const int rank = y->rank - 2;
    bool align = espl__attr_int(node, "align_corners", 0) != 0;
    if (espl__is_empty(&out[0])) return;
    const int64_t places = espl__dims_product(y, 1, y->rank - 1);
    for (int64_t n = 0; n < y->dim[0]; n++) {
        double map[3 * 4], at[3], value[3];
        espl__load_f64(in[0].dtype, espl__at(in[0].data, in[0].dtype, n * rank * (rank + 1)), 1, rank * (rank + 1),
                       map);
        for (int64_t p = 0; p < places; p++) {
            espl__affine_place(y, p, align, at);
            for (int r = 0; r < rank; r++) {
                const double *row = map + r * (rank + 1);
                value[r] = row[rank];
                for (int i = 0; i < rank; i++) value[r] += row[i] * at[i];
            }
            espl__store_f64(out[0].dtype, value, rank,
                            espl__at_mut(out[0].data, out[0].dtype, (n * places + p) * rank));
        }
    }
}

const espl__op espl__op_AffineGrid = {
    .name = "AffineGrid",
    .domain = "",
    .min_inputs = 2,
    .max_inputs = 2,
    .min_outputs = 1,
    .max_outputs = 1,
    .since = 20,
    .until = 21,
    .infer = infer_affine,
    .eval = eval_affine,
    .quant = ESPL__QUANT_FLOAT,
};
