/* Resize and Upsample, modes nearest and linear. Each axis has a table of the two source elements and the
 * weight of the second; an output element mixes the corners that its axes name. */
#include "ops/ops.h"

#include <inttypes.h>
#include <math.h>

typedef enum coordinates {
    HALF_PIXEL,
    HALF_PIXEL_SYMMETRIC,
    PYTORCH_HALF_PIXEL,
    ALIGN_CORNERS,
    ASYMMETRIC,
    TF_HALF_PIXEL
} coordinates;
typedef enum nearest { ROUND_PREFER_FLOOR, ROUND_PREFER_CEIL, FLOOR, CEIL, SIMPLE } nearest;
static const char *const coordinate_names[] = {"half_pixel",         "half_pixel_symmetric",
                                               "pytorch_half_pixel", "align_corners",
                                               "asymmetric",         "tf_half_pixel_for_nn"};
static const char *const nearest_names[] = {"round_prefer_floor", "round_prefer_ceil", "floor", "ceil",
                                            "simple"};

typedef struct resize {
    bool known; /* sizes and scales are constants */
    bool linear;
    coordinates how;
    nearest pick;
    int64_t out[ESPL_MAX_RANK];
    double scale[ESPL_MAX_RANK];
} resize;

typedef struct source {
    int64_t at[2];
    float weight; /* of at[1] */
} source;

/* --- reading a node -------------------------------------------------------------------------- */

static int find_name(const char *name, const char *const *names, int count) {
    for (int i = 0; i < count; i++)
        if (strcmp(name, names[i]) == 0) return i;
    return -1;
}

static espl_status read_modes(const espl__node *node, resize *r, espl_diag *diag) {
    bool old = node->opset < 11; /* Upsample, and Resize 10: nearest takes the floor */
    const char *mode = espl__attr_string(node, "mode", "nearest");
    r->linear = strcmp(mode, "linear") == 0 || strcmp(mode, "bilinear") == 0;
    if (!r->linear && strcmp(mode, "nearest") != 0)
        return espl__fail(diag, ESPL_UNSUPPORTED, "%s: mode '%s' is not supported (nearest and linear are)",
                          node->op->name, mode);
    const char *how =
        espl__attr_string(node, "coordinate_transformation_mode", old ? "asymmetric" : "half_pixel");
    const char *pick = espl__attr_string(node, "nearest_mode", old ? "floor" : "round_prefer_floor");
    int a = find_name(how, coordinate_names, (int)ESPL_COUNT(coordinate_names));
    int b = find_name(pick, nearest_names, (int)ESPL_COUNT(nearest_names));
    if (a < 0)
        return espl__fail(diag, ESPL_UNSUPPORTED,
                          "Resize: coordinate_transformation_mode '%s' is not supported", how);
    if (b < 0) return espl__fail(diag, ESPL_UNSUPPORTED, "Resize: nearest_mode '%s' is not supported", pick);
    r->how = (coordinates)a;
    r->pick = (nearest)b;
    if (espl__attr_int(node, "antialias", 0))
        return espl__fail(diag, ESPL_UNSUPPORTED, "Resize: antialias is not supported");
    if (strcmp(espl__attr_string(node, "keep_aspect_ratio_policy", "stretch"), "stretch") != 0)
        return espl__fail(diag, ESPL_UNSUPPORTED,
                          "Resize: only keep_aspect_ratio_policy stretch is supported");
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
        return espl__fail(diag, ESPL_FORMAT, "%s: a scale of %g is not possible", node->op->name,
                          (double)scale);
    r->scale[axis] = scale;
    double size = floor((double)x->dim[axis] * (double)scale);
    if (size > 1e12) return espl__fail(diag, ESPL_LIMIT, "%s: the result is too large", node->op->name);
    r->out[axis] = (int64_t)size;
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
        r->scale[i] = 1.0;
    }
    r->known = scales_known && (!sizes.present || sizes.known) && espl_shape_count(x) >= 0;
    if (!r->known) return ESPL_OK;
    if (!scales && !sizes.present)
        return espl__fail(diag, ESPL_FORMAT, "%s: neither scales nor sizes are given", node->op->name);
    if ((scales ? scale_count : sizes.count) != count)
        return espl__fail(diag, ESPL_SHAPE, "%s: scales or sizes do not have one number an axis (%d)",
                          node->op->name, count);
    for (int i = 0; i < count; i++) {
        int axis = axes[i];
        if (scales) {
            ESPL_TRY(by_scale(node, r, x, axis, scales[i], diag));
        } else {
            if (sizes.v[i] < 1 || sizes.v[i] > INT32_MAX || x->dim[axis] == 0)
                return espl__fail(diag, ESPL_SHAPE, "Resize: axis %d cannot become %" PRId64 " elements",
                                  axis, sizes.v[i]);
            r->out[axis] = sizes.v[i];
            r->scale[axis] = (double)sizes.v[i] / (double)x->dim[axis];
        }
    }
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
    if (r.linear) ESPL_TRY(espl__check_dtype(node, 0, ESPL__T(F32), diag));
    espl_shape y = {.rank = x->shape.rank};
    for (int i = 0; i < y.rank; i++) y.dim[i] = r.known ? r.out[i] : ESPL_DIM_UNKNOWN;
    status = espl__set_out(node, 0, x->dtype, &y, diag);
done:
    return status;
}

/* --- evaluation ------------------------------------------------------------------------------ */

/* Where output element o lies in the input, by the formulas of the ONNX standard. */
static double position(const resize *r, int axis, int64_t o, int64_t in, int64_t out) {
    double scale = r->scale[axis], center;
    switch (r->how) {
        case PYTORCH_HALF_PIXEL: return out > 1 ? ((double)o + 0.5) / scale - 0.5 : 0.0;
        case ALIGN_CORNERS: return out > 1 ? (double)o * (double)(in - 1) / ((double)in * scale - 1) : 0.0;
        case ASYMMETRIC: return (double)o / scale;
        case TF_HALF_PIXEL: return ((double)o + 0.5) / scale;
        case HALF_PIXEL_SYMMETRIC:
            center = (double)in / 2 * (1 - (double)out / ((double)in * scale));
            return center + ((double)o + 0.5) / scale - 0.5;
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

static source find_source(const resize *r, int axis, int64_t o, int64_t in) {
    double x = position(r, axis, o, in, r->out[axis]);
    source s = {{0, 0}, 0.0f};
    if (r->scale[axis] == 1.0) x = (double)o; /* an axis that keeps its size is copied */
    if (!r->linear) {
        s.at[0] = s.at[1] = inside(pick_nearest(r->pick, x), in);
        return s;
    }
    s.at[0] = inside(floor(x), in);
    s.at[1] = inside(floor(x) + 1, in);
    s.weight = s.at[0] == s.at[1] ? 0.0f : (float)(x - floor(x));
    return s;
}

static float mix(const float *x, const source *const *line, const int64_t *stride, int rank, int64_t offset) {
    if (rank == 0) return x[offset];
    const source *s = line[0];
    float a = mix(x, line + 1, stride + 1, rank - 1, offset + s->at[0] * stride[0]);
    if (s->weight == 0.0f) return a;
    return a * (1.0f - s->weight) +
           mix(x, line + 1, stride + 1, rank - 1, offset + s->at[1] * stride[0]) * s->weight;
}

static void eval(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    resize r;
    const espl_shape *x = &in[0].shape;
    int64_t stride[ESPL_MAX_RANK], index[ESPL_MAX_RANK] = {0};
    source *table[ESPL_MAX_RANK], *next = scratch;
    const source *line[ESPL_MAX_RANK];
    if (resolve(node, x, &r, NULL) != ESPL_OK || !r.known) return;
    size_t elem = espl_dtype_bytes(in[0].dtype);
    espl__strides(x, stride);
    for (int a = 0; a < x->rank; a++) {
        table[a] = next;
        for (int64_t o = 0; o < r.out[a]; o++) *next++ = find_source(&r, a, o, x->dim[a]);
    }
    for (int64_t i = 0, n = espl_shape_count(&out[0].shape); i < n; i++) {
        int64_t offset = 0;
        for (int a = 0; a < x->rank; a++) {
            line[a] = &table[a][index[a]];
            offset += line[a]->at[0] * stride[a];
        }
        if (r.linear)
            ((float *)out[0].data)[i] = mix(in[0].data, line, stride, x->rank, 0);
        else
            memcpy((char *)out[0].data + (size_t)i * elem, (const char *)in[0].data + (size_t)offset * elem,
                   elem);
        for (int a = x->rank - 1; a >= 0 && ++index[a] == r.out[a]; a--) index[a] = 0;
    }
}

static uint64_t scratch_bytes(const espl__node *node) {
    const espl_shape *y = &node->outputs[0]->shape;
    uint64_t count = 0;
    for (int i = 0; i < y->rank; i++) count += (uint64_t)y->dim[i];
    return sizeof(source) * count;
}

const espl__op espl__op_Resize = {
    .name = "Resize", .domain = "", .min_inputs = 1, .max_inputs = 4, .min_outputs = 1, .max_outputs = 1,
    .since = 10, .until = 21, .infer = infer, .eval = eval, .scratch_bytes = scratch_bytes, .quant = ESPL__QUANT_FLOAT,
};
const espl__op espl__op_Upsample = {
    .name = "Upsample", .domain = "", .min_inputs = 1, .max_inputs = 2, .min_outputs = 1, .max_outputs = 1,
    .since = 7, .until = 9, .infer = infer, .eval = eval, .scratch_bytes = scratch_bytes, .quant = ESPL__QUANT_FLOAT,
};
