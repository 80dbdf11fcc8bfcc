/* Resize and Upsample. The sizes change axis by axis: each output of an axis is a weighted sum of a few neighbours
 * ("taps"), which are tabled before the elements are computed; an output element mixes the products of its axes' taps.
 * With x the place in the input and t the distance of a tap from it:
 *   nearest  the one tap that nearest_mode picks
 *   linear   1 - |t|
 *   cubic    Keys's kernel: (a + 2)|t|^3 - (a + 3)|t|^2 + 1 for |t| <= 1, a|t|^3 - 5a|t|^2 + 8a|t| - 4a for |t| < 2
 * antialias stretches linear and cubic by 1 / scale where the image shrinks. */
#include "ops/ops.h"

#include <inttypes.h>
#include <math.h>

typedef enum mode { NEAREST, LINEAR, CUBIC } mode;
typedef enum coordinates {
    HALF_PIXEL,
    HALF_PIXEL_SYMMETRIC,
    PYTORCH_HALF_PIXEL,
    ALIGN_CORNERS,
    ASYMMETRIC,
    TF_HALF_PIXEL,
    TF_CROP_AND_RESIZE
} coordinates;
typedef enum nearest { ROUND_PREFER_FLOOR, ROUND_PREFER_CEIL, FLOOR, CEIL, SIMPLE } nearest;
typedef enum policy { STRETCH, NOT_LARGER, NOT_SMALLER } policy;
static const char *const mode_names[] = {"nearest", "linear", "cubic", "bilinear"};
static const char *const coordinate_names[] = {"half_pixel",    "half_pixel_symmetric", "pytorch_half_pixel",
                                               "align_corners", "asymmetric",           "tf_half_pixel_for_nn",
                                               "tf_crop_and_resize"};
static const char *const nearest_names[] = {"round_prefer_floor", "round_prefer_ceil", "floor", "ceil", "simple"};
static const char *const policy_names[] = {"stretch", "not_larger", "not_smaller"};

typedef struct resize {
    bool known; /* sizes, scales and the region are constants */
    mode mode;
    coordinates how;
    nearest pick;
    policy policy;
    bool antialias, exclude_outside;
    double cubic;    /* the kernel's a */
    float outside;   /* what lies outside the image, if the region reaches there */
    int64_t out[ESPL_MAX_RANK];
    double scale[ESPL_MAX_RANK];
    float begin[ESPL_MAX_RANK], end[ESPL_MAX_RANK]; /* the region, in parts of the axis */
} resize;

/* What one output of an axis is made of: weight[k] times element first + k. */
typedef struct line {
    int64_t first;
    int count; /* 0: it lies outside */
    const float *weight;
} line;

/* --- reading a node -------------------------------------------------------------------------- */

/* The attribute as an index into names; -1 if it is none of them. */
static int read_name(const espl__node *node, const char *attr, const char *fallback, const char *const *names, int count,
                     espl_diag *diag) {
    const char *name = espl__attr_string(node, attr, fallback);
    for (int i = 0; i < count; i++)
        if (strcmp(name, names[i]) == 0) return i;
    (void)espl__fail(diag, ESPL_UNSUPPORTED, "%s: %s '%.60s' is not known", node->op->name, attr, name);
    return -1;
}
#define READ_NAME(attr, fallback, names) read_name(node, attr, fallback, names, (int)ESPL_COUNT(names), diag)

static espl_status read_modes(const espl__node *node, resize *r, espl_diag *diag) {
    bool old = node->opset < 11; /* Upsample, and Resize 10: nearest takes the floor */
    int kind = READ_NAME("mode", "nearest", mode_names);
    int how = READ_NAME("coordinate_transformation_mode", old ? "asymmetric" : "half_pixel", coordinate_names);
    int pick = READ_NAME("nearest_mode", old ? "floor" : "round_prefer_floor", nearest_names);
    int keep = READ_NAME("keep_aspect_ratio_policy", "stretch", policy_names);
    if (kind < 0 || how < 0 || pick < 0 || keep < 0) return ESPL_UNSUPPORTED;
    r->mode = kind == 3 ? LINEAR : (mode)kind;
    r->how = (coordinates)how;
    r->pick = (nearest)pick;
    r->policy = (policy)keep;
    r->antialias = espl__attr_int(node, "antialias", 0) != 0 && r->mode != NEAREST;
    r->exclude_outside = espl__attr_int(node, "exclude_outside", 0) != 0;
    r->cubic = espl__attr_float(node, "cubic_coeff_a", -0.75f);
    r->outside = espl__attr_float(node, "extrapolation_value", 0);
    return ESPL_OK;
}

/* The scales as a list of floats: an attribute of Upsample 7, else an input. NULL: absent or empty. */
static const float *read_scales(const espl__node *node, int *count, bool *known, espl_status *status,
                                espl_diag *diag) {
    const espl__attr *attr = espl__attr_find(node, "scales");
    bool is_resize = strcmp(node->op->name, "Resize") == 0;
    const espl__value *v = espl__in(node, is_resize && node->opset >= 11 ? 2 : 1);
    *count = 0;
    *known = true;
    *status = ESPL_OK;
    if (attr && attr->kind == ESPL__ATTR_FLOATS) {
        *count = (int)ESPL_MIN(attr->count, INT32_MAX);
        return attr->floats;
    }
    if (!v || (v->known_rank && espl_shape_count(&v->shape) == 0)) return NULL;
    if (v->dtype != ESPL_F32 || (v->known_rank && v->shape.rank != 1)) {
        *status = espl__fail(diag, ESPL_SHAPE, "%s: the scales must be a list of f32", node->op->name);
        return NULL;
    }
    *known = v->constant && v->constant->dtype == ESPL_F32;
    if (!*known) return NULL;
    *count = (int)ESPL_MIN(espl_shape_count(&v->constant->shape), INT32_MAX);
    return v->constant->data;
}

/* The axes that sizes and scales speak of; all of them without the attribute (opset 18). */
static espl_status read_axes(const espl__node *node, int rank, int *axes, int *count, espl_diag *diag) {
    espl_status status;
    espl__ints list;
    bool seen[ESPL_MAX_RANK];
    ESPL_TRY(espl__read_ints(node, "axes", -1, &list, diag));
    *count = list.present ? list.count : rank;
    if (list.present) ESPL_TRY(espl__axes_mask(&list, rank, seen, diag));
    for (int i = 0; i < *count; i++) {
        axes[i] = i;
        if (list.present) ESPL_TRY(espl__axis(list.v[i], rank, &axes[i], diag));
    }
done:
    return status;
}

static espl_status by_scale(const espl__node *node, resize *r, const espl_shape *x, int axis, float scale,
                            espl_diag *diag) {
    if (!(scale > 0) || !(scale < 1e9f))
        return espl__fail(diag, ESPL_FORMAT, "%s: a scale of %g is not possible", node->op->name, (double)scale);
    r->scale[axis] = (double)scale;
    double size = floor((double)x->dim[axis] * (double)scale);
    if (size > 1e12) return espl__fail(diag, ESPL_LIMIT, "%s: the result is too large", node->op->name);
    r->out[axis] = (int64_t)size;
    return ESPL_OK;
}

/* One scale for all the axes: the largest (not_larger: the smallest) at which each has its size. */
static void keep_aspect_ratio(resize *r, const espl_shape *x, const int *axes, int count) {
    double scale = 0;
    for (int i = 0; i < count; i++) {
        double own = r->scale[axes[i]];
        bool better = r->policy == NOT_LARGER ? own < scale : own > scale;
        if (i == 0 || better) scale = own;
    }
    for (int i = 0; i < count; i++) {
        r->scale[axes[i]] = scale;
        r->out[axes[i]] = (int64_t)floor(scale * (double)x->dim[axes[i]] + 0.5);
    }
}

static espl_status by_sizes(resize *r, const espl_shape *x, const espl__ints *sizes, const int *axes, espl_diag *diag) {
    for (int i = 0; i < sizes->count; i++) {
        int axis = axes[i];
        if (sizes->v[i] < 1 || sizes->v[i] > INT32_MAX || x->dim[axis] == 0)
            return espl__fail(diag, ESPL_SHAPE, "Resize: axis %d cannot become %" PRId64 " elements", axis, sizes->v[i]);
        r->out[axis] = sizes->v[i];
        r->scale[axis] = (double)sizes->v[i] / (double)x->dim[axis];
    }
    if (r->policy != STRETCH) keep_aspect_ratio(r, x, axes, sizes->count);
    for (int i = 0; i < sizes->count; i++)
        if (r->out[axes[i]] > INT32_MAX) return espl__fail(diag, ESPL_LIMIT, "Resize: the result is too large");
    return ESPL_OK;
}

/* The region of tf_crop_and_resize: where it begins along each axis, then where it ends. */
static espl_status read_region(const espl__node *node, resize *r, const int *axes, int count, espl_diag *diag) {
    const espl__value *v = espl__in(node, 1);
    if (r->how != TF_CROP_AND_RESIZE) return ESPL_OK;
    if (!v || node->opset < 11) return espl__fail(diag, ESPL_FORMAT, "Resize: tf_crop_and_resize needs a roi");
    if (!(ESPL__T_FLOAT >> v->dtype & 1)) return espl__fail(diag, ESPL_SHAPE, "Resize: the roi is no list of floats");
    if (!v->constant) {
        r->known = false;
        return ESPL_OK;
    }
    if (espl_shape_count(&v->constant->shape) != 2 * count)
        return espl__fail(diag, ESPL_SHAPE, "Resize: the roi does not have two numbers an axis");
    for (int i = 0; i < count; i++) {
        double ends[2];
        for (int k = 0; k < 2; k++) {
            const void *at = espl__at(v->constant->data, v->constant->dtype, i + k * count);
            espl__load_f64(v->constant->dtype, at, 0, 1, &ends[k]);
            if (!(fabs(ends[k]) < 1e9)) return espl__fail(diag, ESPL_FORMAT, "Resize: a roi of %g is not possible", ends[k]);
        }
        r->begin[axes[i]] = (float)ends[0];
        r->end[axes[i]] = (float)ends[1];
    }
    return ESPL_OK;
}

static espl_status resolve(const espl__node *node, const espl_shape *x, resize *r, espl_diag *diag) {
    espl_status status;
    espl__ints sizes = {0};
    int axes[ESPL_MAX_RANK], count, scale_count;
    bool scales_known;
    *r = (resize){0};
    ESPL_TRY(read_modes(node, r, diag));
    ESPL_TRY(read_axes(node, x->rank, axes, &count, diag));
    const float *scales = read_scales(node, &scale_count, &scales_known, &status, diag);
    if (status != ESPL_OK) return status;
    if (espl__in(node, 3)) ESPL_TRY(espl__read_ints(node, NULL, 3, &sizes, diag));
    for (int i = 0; i < x->rank; i++) {
        r->out[i] = x->dim[i];
        r->scale[i] = 1;
        r->end[i] = 1;
    }
    r->known = scales_known && (!sizes.present || sizes.known) && espl_shape_count(x) >= 0;
    ESPL_TRY(read_region(node, r, axes, count, diag));
    if (!r->known) return ESPL_OK;
    if (!scales && !sizes.present)
        return espl__fail(diag, ESPL_FORMAT, "%s: neither scales nor sizes are given", node->op->name);
    if ((scales ? scale_count : sizes.count) != count)
        return espl__fail(diag, ESPL_SHAPE, "%s: scales or sizes do not have one number an axis (%d)", node->op->name,
                          count);
    for (int i = 0; i < count && scales; i++) ESPL_TRY(by_scale(node, r, x, axes[i], scales[i], diag));
    if (!scales) ESPL_TRY(by_sizes(r, x, &sizes, axes, diag));
done:
    return status;
}

static espl_status infer(const espl__node *node, espl_diag *diag) {
    espl_status status;
    resize r;
    ESPL_TRY(espl__op_begin(node, diag));
    const espl__value *x = espl__in(node, 0);
    if (!x->known_rank) return espl__set_unknown(node, 0, x->dtype);
    ESPL_TRY(resolve(node, &x->shape, &r, diag));
    if (r.mode != NEAREST || r.how == TF_CROP_AND_RESIZE) ESPL_TRY(espl__check_dtype(node, 0, ESPL__T(F32), diag));
    espl_shape y = {.rank = x->shape.rank};
    for (int i = 0; i < y.rank; i++) y.dim[i] = r.known ? r.out[i] : ESPL_DIM_UNKNOWN;
    status = espl__set_out(node, 0, x->dtype, &y, diag);
done:
    return status;
}

/* --- the taps of an axis --------------------------------------------------------------------- */

/* Where output element o lies in the input, by the formulas of the ONNX standard. */
static double position(const resize *r, int axis, int64_t o, int64_t in) {
    double scale = r->scale[axis], out = (double)r->out[axis], full = (double)in * scale, last = (double)(in - 1);
    switch (r->how) {
        case PYTORCH_HALF_PIXEL: return out > 1 ? ((double)o + 0.5) / scale - 0.5 : 0.0;
        case ALIGN_CORNERS: return out > 1 ? (double)o * last / (full - 1) : 0.0;
        case ASYMMETRIC: return (double)o / scale;
        case TF_HALF_PIXEL: return ((double)o + 0.5) / scale;
        case HALF_PIXEL_SYMMETRIC: return (double)in / 2 * (1 - out / full) + ((double)o + 0.5) / scale - 0.5;
        case TF_CROP_AND_RESIZE: {
            double length = (double)(r->end[axis] - r->begin[axis]) * last;
            double begin = (double)(r->begin[axis] * (float)last); /* in f32, as others round it: ties depend on it */
            return begin + (out > 1 ? (double)o * length / (full - 1) : length / 2);
        }
        default: return ((double)o + 0.5) / scale - 0.5;
    }
}

static double pick_nearest(nearest pick, double x) {
    switch (pick) {
        case ROUND_PREFER_FLOOR: return ceil(x - 0.5);
        case ROUND_PREFER_CEIL: return floor(x + 0.5);
        case CEIL: return ceil(x);
        default: return floor(x);
    }
}

static int64_t inside(double x, int64_t n) { return x <= 0 ? 0 : x >= (double)(n - 1) ? n - 1 : (int64_t)x; }

static double kernel_at(const resize *r, double t) {
    double a = r->cubic;
    t = fabs(t);
    if (r->mode == LINEAR) return t < 1 ? 1 - t : 0;
    return t <= 1 ? ((a + 2) * t - (a + 3)) * t * t + 1 : t < 2 ? a * (((t - 5) * t + 8) * t - 4) : 0;
}

/* How much the kernel is stretched, and how far it then reaches on each side of a place. */
static double stretch(const resize *r, int axis) { return r->antialias ? ESPL_MAX(1, 1 / r->scale[axis]) : 1; }
static double reach(const resize *r, int axis) { return ceil((r->mode == LINEAR ? 1 : 2) * stretch(r, axis)); }

/* Taps that an output of the axis has at most. */
static int64_t most_taps(const resize *r, int axis, int64_t in) {
    if (r->mode == NEAREST) return 1;
    return inside(2 * reach(r, axis), in + 1);
}

/* An axis that keeps its size is copied. */
static bool is_copied(const resize *r, int axis) { return r->scale[axis] == 1.0 && r->how != TF_CROP_AND_RESIZE; }

/* Of what lies beyond the ends of the axis the outermost element takes the weight, or nobody (exclude_outside). */
static line weigh(const resize *r, int axis, double x, int64_t in, float *weight) {
    double far = reach(r, axis), wide = stretch(r, axis), from = ceil(x) - far, sum = 0;
    int64_t first = inside(from, in), last = inside(from + 2 * far - 1, in);
    double part[2] = {0, 0}; /* of the elements at both ends */
    for (int64_t i = 0; i < (int64_t)(2 * far); i++) {
        double at = from + (double)i, w = kernel_at(r, (at - x) / wide);
        bool beyond = at < 0 || at > (double)(in - 1);
        int64_t to = inside(at, in);
        if (beyond && r->exclude_outside) w = 0;
        sum += w;
        if (to == first || to == last)
            part[to != first] += w;
        else
            weight[to - first] = (float)w;
    }
    weight[0] = (float)part[0];
    if (last > first) weight[last - first] = (float)part[1];
    bool whole = !r->antialias && !r->exclude_outside;
    for (int64_t i = 0; i <= last - first && !whole && sum != 0; i++) weight[i] = (float)((double)weight[i] / sum);
    return (line){first, (int)(last - first + 1), weight};
}

/* `weight` has room for most_taps. */
static line find_line(const resize *r, int axis, int64_t o, int64_t in, float *weight) {
    double x = is_copied(r, axis) ? (double)o : position(r, axis, o, in);
    if (r->how == TF_CROP_AND_RESIZE && !(x >= 0 && x <= (double)(in - 1))) return (line){0, 0, weight};
    if (r->mode != NEAREST && !is_copied(r, axis)) return weigh(r, axis, x, in, weight);
    weight[0] = 1;
    return (line){inside(r->mode == NEAREST && !is_copied(r, axis) ? pick_nearest(r->pick, x) : x, in), 1, weight};
}

/* --- evaluation ------------------------------------------------------------------------------ */

static float mix(const float *x, const line *const *axis, const int64_t *stride, int rank, int64_t offset) {
    if (rank == 0) return x[offset];
    const line *l = axis[0];
    float sum = 0;
    for (int k = 0; k < l->count; k++) {
        if (l->weight[k] == 0) continue;
        float own = mix(x, axis + 1, stride + 1, rank - 1, offset + (l->first + k) * stride[0]) * l->weight[k];
        sum = k ? sum + own : own;
    }
    return sum;
}

/* All lines of all axes, then their weights, in `scratch`. */
static void make_lines(const resize *r, const espl_shape *x, void *scratch, const line **table) {
    int64_t count = 0;
    for (int a = 0; a < x->rank; a++) count += r->out[a];
    line *next = scratch;
    float *weight = (float *)(next + count);
    for (int a = 0; a < x->rank; a++) {
        table[a] = next;
        for (int64_t o = 0; o < r->out[a]; o++, weight += most_taps(r, a, x->dim[a]))
            *next++ = find_line(r, a, o, x->dim[a], weight);
    }
}

static void eval(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    resize r;
    const espl_shape *x = &in[0].shape;
    int64_t stride[ESPL_MAX_RANK], index[ESPL_MAX_RANK] = {0};
    const line *table[ESPL_MAX_RANK], *axis[ESPL_MAX_RANK];
    if (espl__is_empty(&out[0]) || resolve(node, x, &r, NULL) != ESPL_OK || !r.known) return;
    size_t elem = espl_dtype_bytes(in[0].dtype);
    espl__strides(x, stride);
    make_lines(&r, x, scratch, table);
    for (int64_t i = 0, n = espl_shape_count(&out[0].shape); i < n; i++) {
        int64_t offset = 0;
        bool outside = false;
        for (int a = 0; a < x->rank; a++) {
            axis[a] = &table[a][index[a]];
            offset += axis[a]->first * stride[a];
            outside = outside || axis[a]->count == 0;
        }
        if (outside)
            ((float *)out[0].data)[i] = r.outside;
        else if (r.mode != NEAREST)
            ((float *)out[0].data)[i] = mix(in[0].data, axis, stride, x->rank, 0);
        else
            memcpy((char *)out[0].data + (size_t)i * elem, (const char *)in[0].data + (size_t)offset * elem, elem);
        for (int a = x->rank - 1; a >= 0 && ++index[a] == r.out[a]; a--) index[a] = 0;
    }
}

static uint64_t scratch_bytes(const espl__node *node) {
    const espl_shape *x = &node->inputs[0]->shape;
    resize r;
    uint64_t count = 0;
    if (resolve(node, x, &r, NULL) != ESPL_OK || !r.known) return 0;
    for (int i = 0; i < x->rank; i++)
        count += (uint64_t)r.out[i] * (sizeof(line) + sizeof(float) * (uint64_t)most_taps(&r, i, x->dim[i]));
    return count;
}

const espl__op espl__op_Resize = {
    .name = "Resize", .domain = "", .min_inputs = 1, .max_inputs = 4, .min_outputs = 1, .max_outputs = 1,
    .since = 10, .until = 21, .infer = infer, .eval = eval, .scratch_bytes = scratch_bytes, .quant = ESPL__QUANT_FLOAT,
};
const espl__op espl__op_Upsample = {
    .name = "Upsample", .domain = "", .min_inputs = 1, .max_inputs = 2, .min_outputs = 1, .max_outputs = 1,
    .since = 7, .until = 9, .infer = infer, .eval = eval, .scratch_bytes = scratch_bytes, .quant = ESPL__QUANT_FLOAT,
};
