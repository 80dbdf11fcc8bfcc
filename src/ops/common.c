/* Inputs, shapes, axes and parameters: what nearly every operator asks first. */
#include "ops/ops.h"

#include <inttypes.h>

static espl_status check_count(const char *what, int count, int min, int max, const char *name,
                               espl_diag *diag) {
    if (count >= min && (max < 0 || count <= max)) return ESPL_OK;
    if (max < 0)
        return espl__fail(diag, ESPL_FORMAT, "%s needs at least %d %ss and has %d", name, min, what, count);
    if (min == max)
        return espl__fail(diag, ESPL_FORMAT, "%s needs %d %ss and has %d", name, min, what, count);
    return espl__fail(diag, ESPL_FORMAT, "%s takes %d to %d %ss and has %d", name, min, max, what, count);
}

/* Attributes that are of one kind in every operator. One of another kind would be taken for absent, by each
 * reader with a default of its own. */
static const struct {
    const char *name;
    espl__attr_kind kind;
} attr_rows[] = {
    {"align_corners", ESPL__ATTR_INT},   {"allowzero", ESPL__ATTR_INT},
    {"alpha", ESPL__ATTR_FLOAT},         {"auto_pad", ESPL__ATTR_STRING},
    {"axes", ESPL__ATTR_INTS},           {"axis", ESPL__ATTR_INT},
    {"batch_dims", ESPL__ATTR_INT},      {"beta", ESPL__ATTR_FLOAT},
    {"block_size", ESPL__ATTR_INT},      {"blocksize", ESPL__ATTR_INT},
    {"ceil_mode", ESPL__ATTR_INT},       {"count_include_pad", ESPL__ATTR_INT},
    {"dilations", ESPL__ATTR_INTS},      {"direction", ESPL__ATTR_STRING},
    {"epsilon", ESPL__ATTR_FLOAT},       {"equation", ESPL__ATTR_STRING},
    {"exclusive", ESPL__ATTR_INT},       {"group", ESPL__ATTR_INT},
    {"hidden_size", ESPL__ATTR_INT},     {"keepdims", ESPL__ATTR_INT},
    {"kernel_shape", ESPL__ATTR_INTS},   {"largest", ESPL__ATTR_INT},
    {"mode", ESPL__ATTR_STRING},         {"num_outputs", ESPL__ATTR_INT},
    {"output_padding", ESPL__ATTR_INTS}, {"pads", ESPL__ATTR_INTS},
    {"perm", ESPL__ATTR_INTS},           {"reverse", ESPL__ATTR_INT},
    {"strides", ESPL__ATTR_INTS},        {"transA", ESPL__ATTR_INT},
    {"transB", ESPL__ATTR_INT},
};

static espl_status check_kinds(const espl__node *node, espl_diag *diag) {
    static const char *const names[] = {"an integer",       "a float",  "a string", "a list of integers",
                                        "a list of floats", "a tensor", "strings",  "a graph"};
    for (int i = 0; i < node->attr_count; i++)
        for (size_t r = 0; r < ESPL_COUNT(attr_rows); r++) {
            const espl__attr *a = &node->attrs[i];
            if (!a->name || a->kind == attr_rows[r].kind || strcmp(a->name, attr_rows[r].name) != 0) continue;
            return espl__fail(diag, ESPL_FORMAT, "%s: attribute %s is %s where %s should be", node->op->name,
                              a->name, names[a->kind], names[attr_rows[r].kind]);
        }
    return ESPL_OK;
}

espl_status espl__op_begin(const espl__node *node, espl_diag *diag) {
    const espl__op *op = node->op;
    espl_status status;
    ESPL_TRY(check_count("input", node->input_count, op->min_inputs, op->max_inputs, op->name, diag));
    ESPL_TRY(check_count("output", node->output_count, op->min_outputs, op->max_outputs, op->name, diag));
    for (int i = 0; i < node->input_count; i++)
        if (!node->inputs[i] && (i < op->min_inputs || op->max_inputs < 0))
            return espl__fail(diag, ESPL_FORMAT, "input %d of %s is missing", i, op->name);
    for (int i = 0; i < op->min_outputs; i++)
        if (!node->outputs[i])
            return espl__fail(diag, ESPL_FORMAT, "output %d of %s is missing", i, op->name);
    for (int i = 0; i < node->input_count && op->eval; i++)
        if (node->inputs[i] && node->inputs[i]->dtype == ESPL_STRING &&
            !(op->text_inputs >> ESPL_MIN(i, 31) & 1))
            return espl__fail(diag, ESPL_UNSUPPORTED, "%s: input %d is strings, which it does not take",
                              op->name, i);
    ESPL_TRY(check_kinds(node, diag));
done:
    return status;
}

espl_status espl__check_dtype(const espl__node *node, int i, uint32_t set, espl_diag *diag) {
    const espl__value *value = espl__in(node, i);
    if (!value || (set >> value->dtype & 1)) return ESPL_OK;
    return espl__fail(diag, ESPL_UNSUPPORTED, "%s: type %s of input %d is not supported", node->op->name,
                      espl_dtype_name(value->dtype), i);
}

espl_status espl__check_same_dtype(const espl__node *node, int a, int b, espl_diag *diag) {
    const espl__value *va = espl__in(node, a), *vb = espl__in(node, b);
    if (!va || !vb || va->dtype == vb->dtype) return ESPL_OK;
    return espl__fail(diag, ESPL_SHAPE, "%s: inputs %d and %d have the types %s and %s, which must be equal",
                      node->op->name, a, b, espl_dtype_name(va->dtype), espl_dtype_name(vb->dtype));
}

espl_status espl__check_rank(const espl__node *node, int i, int lo, int hi, espl_diag *diag) {
    const espl__value *value = espl__in(node, i);
    if (!value || !value->known_rank || (value->shape.rank >= lo && value->shape.rank <= hi)) return ESPL_OK;
    if (lo == hi)
        return espl__fail(diag, ESPL_SHAPE, "%s: input %d has %d dimensions where %d are expected",
                          node->op->name, i, value->shape.rank, lo);
    return espl__fail(diag, ESPL_SHAPE, "%s: input %d has %d dimensions where %d to %d are expected",
                      node->op->name, i, value->shape.rank, lo, hi);
}

/* Known dimensions alone must have a product that fits: unknown ones count as 1. */
static bool shape_possible(const espl_shape *shape) {
    espl_shape known = *shape;
    for (int i = 0; i < known.rank; i++)
        if (known.dim[i] < 0) known.dim[i] = 1;
    return espl_shape_count(&known) >= 0;
}

espl_status espl__set_out(const espl__node *node, int i, espl_dtype dtype, const espl_shape *shape,
                          espl_diag *diag) {
    espl__value *value = espl__out(node, i);
    char text[160];
    if (!value) return ESPL_OK;
    if (dtype == ESPL_STRING && node->op->eval && !node->op->text_inputs)
        return espl__fail(diag, ESPL_UNSUPPORTED, "%s: strings are not supported", node->op->name);
    if (!shape_possible(shape))
        return espl__fail(diag, ESPL_LIMIT, "%s: an output of shape %s is too large", node->op->name,
                          espl_shape_text(shape, text, sizeof text));
    value->dtype = dtype;
    value->shape = *shape;
    value->known_rank = true;
    return ESPL_OK;
}

espl_status espl__set_unknown(const espl__node *node, int i, espl_dtype dtype) {
    espl__value *value = espl__out(node, i);
    if (value) {
        value->dtype = dtype;
        value->shape = (espl_shape){0};
        value->known_rank = false;
    }
    return ESPL_OK;
}

espl_status espl__set_like_input(const espl__node *node, espl_dtype dtype, espl_diag *diag) {
    const espl__value *value = espl__in(node, 0);
    if (!value->known_rank) return espl__set_unknown(node, 0, dtype);
    return espl__set_out(node, 0, dtype, &value->shape, diag);
}

espl_status espl__axis(int64_t axis, int rank, int *out, espl_diag *diag) {
    *out = 0;
    if (axis < -rank || axis >= rank)
        return espl__fail(diag, ESPL_SHAPE, "axis %" PRId64 " is out of range for %d dimensions", axis, rank);
    *out = (int)(axis < 0 ? axis + rank : axis);
    return ESPL_OK;
}

int64_t espl__mul_sat(int64_t a, int64_t b) {
    return a && b > INT64_MAX / a ? INT64_MAX : a * b;
}

int64_t espl__dims_product(const espl_shape *shape, int from, int to) {
    int64_t product = 1;
    for (int i = from; i < to; i++) product = espl__mul_sat(product, shape->dim[i]);
    return product;
}

void espl__strides(const espl_shape *shape, int64_t *stride) {
    int64_t step = 1;
    for (int i = shape->rank - 1; i >= 0; i--) {
        stride[i] = step;
        step = espl__mul_sat(step, shape->dim[i]);
    }
}

/* NumPy's rule: right-aligned, each pair equal or one of them 1. An unknown dimension beside 1 stays unknown;
 * beside n > 1 it can only be 1 or n, which gives n. */
espl_status espl__broadcast(espl_shape *out, const espl_shape *other, espl_diag *diag) {
    espl_shape a = *out;
    char text_a[160], text_b[160];
    int rank = ESPL_MAX(a.rank, other->rank);
    out->rank = rank;
    for (int i = 0; i < rank; i++) {
        int ia = i - (rank - a.rank), ib = i - (rank - other->rank);
        int64_t da = ia < 0 ? 1 : a.dim[ia], db = ib < 0 ? 1 : other->dim[ib];
        if (da == 1)
            out->dim[i] = db;
        else if (db == 1 || da == db)
            out->dim[i] = da;
        else if (da < 0 || db < 0)
            out->dim[i] = ESPL_MAX(da, db);
        else {
            espl_shape_text(&a, text_a, sizeof text_a);
            espl_shape_text(other, text_b, sizeof text_b);
            return espl__fail(diag, ESPL_SHAPE, "shapes %s and %s cannot be broadcast together", text_a,
                              text_b);
        }
    }
    return ESPL_OK;
}

static espl_status too_many(const espl__node *node, const char *what, int64_t count, espl_diag *diag) {
    return espl__fail(diag, ESPL_FORMAT,
                      "%s: %s holds %" PRId64 " numbers, more than any tensor here can need", node->op->name,
                      what, count);
}

static espl_status read_attr(const espl__node *node, const char *attr, espl__ints *out, espl_diag *diag) {
    int count = espl__attr_ints(node, attr, out->v, ESPL__MAX_LOOPS);
    if (count > ESPL__MAX_LOOPS) return too_many(node, attr, count, diag);
    out->count = count;
    out->present = out->known = true;
    return ESPL_OK;
}

espl_status espl__read_ints(const espl__node *node, const char *attr, int input, espl__ints *out,
                            espl_diag *diag) {
    *out = (espl__ints){0};
    if (attr && espl__attr_find(node, attr)) return read_attr(node, attr, out, diag);
    const espl__value *value = input < 0 ? NULL : espl__in(node, input);
    if (!value) return ESPL_OK;
    out->present = true;
    out->count = -1;
    if (value->dtype != ESPL_S64 && value->dtype != ESPL_S32)
        return espl__fail(diag, ESPL_SHAPE, "%s: input %d has type %s where integers are expected",
                          node->op->name, input, espl_dtype_name(value->dtype));
    if (value->known_rank && value->shape.rank > 1)
        return espl__fail(diag, ESPL_SHAPE, "%s: input %d has %d dimensions where a list is expected",
                          node->op->name, input, value->shape.rank);
    int64_t count = value->known_rank ? espl_shape_count(&value->shape) : -1;
    if (count > ESPL__MAX_LOOPS) return too_many(node, "a list", count, diag);
    out->count = (int)count;
    if (!value->constant || count < 0) return ESPL_OK;
    espl__load_s64(value->constant->dtype, value->constant->data, 1, count, out->v);
    out->known = true;
    return ESPL_OK;
}

espl_status espl__axes_mask(const espl__ints *axes, int rank, bool *mask, espl_diag *diag) {
    espl_status status = ESPL_OK;
    for (int i = 0; i < rank; i++) mask[i] = false;
    for (int i = 0; i < axes->count; i++) {
        int axis;
        ESPL_TRY(espl__axis(axes->v[i], rank, &axis, diag));
        if (mask[axis]) return espl__fail(diag, ESPL_FORMAT, "axis %d is named twice", axis);
        mask[axis] = true;
    }
done:
    return status;
}
