/* GridSample: each output is a sample of the image at a place that the grid names, and AffineGrid: the grid
 * that an affine map of the unit square (or cube) gives. Coordinates go from -1 to 1 and stand in reverse
 * order: x, y, z. */
#include "ops/ops.h"

#include <inttypes.h>
#include <math.h>

typedef enum mode { NEAREST, LINEAR, CUBIC } mode;
typedef enum padding { ZEROS, BORDER, REFLECTION } padding;

typedef struct sampler {
    mode mode;
    padding padding;
    bool align_corners;
} sampler;

/* What one place takes from an axis; at -1: nothing, a zero. */
typedef struct taps {
    int count;
    int64_t at[4];
    float weight[4];
} taps;

static espl_status read_sampler(const espl__node *node, sampler *s, espl_diag *diag) {
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
    s->mode = (mode)(m < 3 ? m : m - 2);
    s->padding = (padding)p;
    s->align_corners = espl__attr_int(node, "align_corners", 0) != 0;
    return ESPL_OK;
}

static espl_status infer_sample(const espl__node *node, espl_diag *diag) {
    espl_status status;
    sampler s;
    ESPL_TRY(espl__op_begin(node, diag));
    ESPL_TRY(espl__check_dtype(node, 0, ESPL__T(F32), diag));
    ESPL_TRY(espl__check_dtype(node, 1, ESPL__T(F32), diag));
    ESPL_TRY(read_sampler(node, &s, diag));
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

/* The place in elements; the f32 arithmetic is part of the definition where modes round. What is no number,
 * or so far away that it does not matter how far, is a far place. */
static float place(const sampler *s, float at, int64_t length) {
    const float n = (float)length, far = 1e9f;
    float x = s->align_corners ? (at + 1.0f) / 2.0f * (n - 1.0f) : ((at + 1.0f) * n - 1.0f) / 2.0f;
    return x > -far ? (x < far ? x : far) : -far;
}

/* Mirrors x at both ends until it lies between them: the centres of the outermost elements, or their outer
 * borders. */
static double reflect(const sampler *s, double x, int64_t length) {
    double lo = s->align_corners ? 0 : -0.5, range = (double)length - (s->align_corners ? 1 : 0);
    if (range <= 0) return 0;
    if (x >= lo && x <= lo + range) return x;
    double beyond = x < lo ? lo - x : x - lo - range, rest = fmod(beyond, range);
    bool even = fmod(floor(beyond / range), 2) == 0;
    return (x < lo) == even ? lo + rest : lo + range - rest;
}

static int64_t clamp(double x, int64_t length) {
    return x <= 0 ? 0 : x >= (double)(length - 1) ? length - 1 : (int64_t)x;
}

static int64_t element(const sampler *s, double at, int64_t length) {
    if (s->padding == REFLECTION) return clamp(trunc(reflect(s, at, length)), length);
    if (s->padding == ZEROS && !(at >= 0 && at < (double)length)) return -1;
    return clamp(at, length);
}

/* Keys's kernel with a = -0.75, at distances 1 + f, f, 1 - f and 2 - f. */
static void cubic_weights(float f, float *w) {
    const float a = -0.75f, g = 1 - f;
    w[0] = ((a * (f + 1) - 5 * a) * (f + 1) + 8 * a) * (f + 1) - 4 * a;
    w[1] = ((a + 2) * f - (a + 3)) * f * f + 1;
    w[2] = ((a + 2) * g - (a + 3)) * g * g + 1;
    w[3] = ((a * (g + 1) - 5 * a) * (g + 1) + 8 * a) * (g + 1) - 4 * a;
}

static taps find_taps(const sampler *s, float at, int64_t length) {
    taps t = {.count = s->mode == NEAREST ? 1 : s->mode == LINEAR ? 2 : 4};
    double x = (double)place(s, at, length);
    if (s->mode == NEAREST) x = rint(x);
    if (s->padding == REFLECTION) x = reflect(s, x, length);
    if (s->padding == BORDER &&
        (x < (s->align_corners ? 0 : -0.5) || x > (double)length - (s->align_corners ? 1 : 0.5)))
        x = (double)clamp(x, length);
    double base = s->mode == NEAREST ? x : floor(x);
    float f = (float)(x - base);
    if (s->mode == CUBIC) base -= 1;
    for (int i = 0; i < t.count; i++) t.at[i] = element(s, base + i, length);
    if (s->mode == NEAREST) t.weight[0] = 1;
    if (s->mode == LINEAR) {
        t.weight[0] = 1 - f;
        t.weight[1] = f;
    }
    if (s->mode == CUBIC) cubic_weights(f, t.weight);
    return t;
}

/* Over the axes from `axis` on. */
static float sum(const float *x, const taps *t, const int64_t *stride, int axis, int rank) {
    if (axis == rank || axis == ESPL_MAX_RANK) return *x;
    float all = 0;
    for (int i = 0; i < t[axis].count; i++)
        if (t[axis].at[i] >= 0 && t[axis].weight[i] != 0)
            all += sum(x + t[axis].at[i] * stride[axis], t, stride, axis + 1, rank) * t[axis].weight[i];
    return all;
}

static void eval_sample(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)scratch;
    sampler s;
    taps t[ESPL_MAX_RANK];
    int64_t stride[ESPL_MAX_RANK];
    const espl_shape *x = &in[0].shape, *y = &out[0].shape;
    if (espl__is_empty(&out[0]) || read_sampler(node, &s, NULL) != ESPL_OK) return;
    const int rank = x->rank;
    const int64_t places = espl__dims_product(y, 2, y->rank), channels = x->dim[1];
    espl__strides(x, stride);
    for (int64_t n = 0; n < x->dim[0]; n++)
        for (int64_t p = 0; p < places; p++) {
            const float *at = (const float *)in[1].data + (n * places + p) * (rank - 2);
            for (int i = 2; i < rank; i++) t[i] = find_taps(&s, at[rank - 1 - i], x->dim[i]);
            for (int64_t c = 0; c < channels; c++) {
                const float *image = (const float *)in[0].data + n * stride[0] + c * stride[1];
                ((float *)out[0].data)[(n * channels + c) * places + p] = sum(image, t, stride, 2, rank);
            }
        }
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

static void eval_affine(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)scratch;
    const espl_shape *y = &out[0].shape;
    const int rank = y->rank - 2;
    bool align = espl__attr_int(node, "align_corners", 0) != 0;
    float *to = out[0].data;
    if (espl__is_empty(&out[0])) return;
    const int64_t places = espl__dims_product(y, 1, y->rank - 1);
    for (int64_t n = 0; n < y->dim[0]; n++)
        for (int64_t p = 0; p < places; p++) {
            const float *map = (const float *)in[0].data + n * rank * (rank + 1);
            double at[3];
            int64_t rest = p;
            for (int i = rank - 1; i >= 0; i--) {
                at[rank - 1 - i] = coordinate(rest % y->dim[1 + i], y->dim[1 + i], align);
                rest /= y->dim[1 + i];
            }
            for (int r = 0; r < rank; r++, map += rank + 1) {
                double value = (double)map[rank];
                for (int i = 0; i < rank; i++) value += (double)map[i] * at[i];
                *to++ = (float)value;
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
