/* Operators that make tensors out of shapes and attributes: Shape, Size, Constant, ConstantOfShape, Range. */
#include "ops/ops.h"

#include <inttypes.h>
#include <math.h>

/* --- Shape, Size ----------------------------------------------------------------------------- */

/* Axes [from, to) that Shape reports; start and end (opset 15) count from the end if negative and are
 * clamped. */
static void shape_range(const espl__node *node, int rank, int *from, int *to) {
    int64_t start = espl__attr_int(node, "start", 0), end = espl__attr_int(node, "end", rank);
    start = start < 0 ? start + rank : start;
    end = end < 0 ? end + rank : end;
    *from = (int)ESPL_MAX(ESPL_MIN(start, rank), 0);
    *to = (int)ESPL_MAX(ESPL_MIN(end, rank), *from);
}

static espl_status infer_shape(const espl__node *node, espl_diag *diag) {
    espl_status status;
    ESPL_TRY(espl__op_begin(node, diag));
    const espl__value *x = espl__in(node, 0);
    espl_shape y = {.rank = 1, .dim = {ESPL_DIM_UNKNOWN}};
    if (x->known_rank) {
        int from, to;
        shape_range(node, x->shape.rank, &from, &to);
        y.dim[0] = to - from;
    }
    status = espl__set_out(node, 0, ESPL_S64, &y, diag);
done:
    return status;
}

static void eval_shape(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)scratch;
    int from, to;
    shape_range(node, in[0].shape.rank, &from, &to);
    for (int i = from; i < to; i++) ((int64_t *)out[0].data)[i - from] = in[0].shape.dim[i];
}

static espl_status infer_size(const espl__node *node, espl_diag *diag) {
    const espl_shape scalar = {0};
    espl_status status;
    ESPL_TRY(espl__op_begin(node, diag));
    status = espl__set_out(node, 0, ESPL_S64, &scalar, diag);
done:
    return status;
}

static void eval_size(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)node, (void)scratch;
    *(int64_t *)out[0].data = espl_shape_count(&in[0].shape);
}

/* --- Constant -------------------------------------------------------------------------------- */

/* The value as a tensor that borrows the attribute's memory; false if there is none. */
static bool constant_tensor(const espl__node *node, espl_tensor *out) {
    static const struct {
        const char *name;
        espl__attr_kind kind;
    } forms[] = {{"value", ESPL__ATTR_TENSOR},
                 {"value_int", ESPL__ATTR_INT},
                 {"value_ints", ESPL__ATTR_INTS},
                 {"value_float", ESPL__ATTR_FLOAT},
                 {"value_floats", ESPL__ATTR_FLOATS}};
    for (size_t i = 0; i < ESPL_COUNT(forms); i++) {
        const espl__attr *a = espl__attr_find(node, forms[i].name);
        if (!a || a->kind != forms[i].kind) continue;
        espl_shape list = {.rank = 1, .dim = {a->count}}, scalar = {0};
        switch (a->kind) {
            case ESPL__ATTR_TENSOR: *out = *a->tensor; break;
            case ESPL__ATTR_INT: *out = (espl_tensor){ESPL_S64, scalar, (void *)&a->i}; break;
            case ESPL__ATTR_INTS: *out = (espl_tensor){ESPL_S64, list, a->ints}; break;
            case ESPL__ATTR_FLOAT: *out = (espl_tensor){ESPL_F32, scalar, (void *)&a->f}; break;
            default: *out = (espl_tensor){ESPL_F32, list, a->floats}; break;
        }
        return true;
    }
    return false;
}

static espl_status infer_constant(const espl__node *node, espl_diag *diag) {
    espl_status status;
    espl_tensor value;
    ESPL_TRY(espl__op_begin(node, diag));
    if (!constant_tensor(node, &value))
        return espl__fail(
            diag, ESPL_UNSUPPORTED,
            "Constant: no numeric value attribute (strings and sparse tensors are not supported)");
    status = espl__set_out(node, 0, value.dtype, &value.shape, diag);
done:
    return status;
}

static void eval_constant(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)in, (void)scratch;
    espl_tensor value;
    size_t bytes = espl__tensor_bytes(&out[0]);
    if (bytes && constant_tensor(node, &value)) memcpy(out[0].data, value.data, bytes);
}

/* --- ConstantOfShape ------------------------------------------------------------------------- */

static espl_status infer_fill(const espl__node *node, espl_diag *diag) {
    espl_status status;
    espl__ints dims;
    ESPL_TRY(espl__op_begin(node, diag));
    const espl__attr *value = espl__attr_find(node, "value");
    bool given = value && value->kind == ESPL__ATTR_TENSOR;
    espl_dtype dtype = given ? value->tensor->dtype : ESPL_F32;
    if (given && espl_shape_count(&value->tensor->shape) != 1)
        return espl__fail(diag, ESPL_SHAPE, "ConstantOfShape: the value is not one element");
    ESPL_TRY(espl__read_ints(node, NULL, 0, &dims, diag));
    if (dims.count > ESPL_MAX_RANK)
        return espl__fail(diag, ESPL_UNSUPPORTED,
                          "ConstantOfShape: %d dimensions are more than the %d supported", dims.count,
                          ESPL_MAX_RANK);
    if (dims.count < 0) return espl__set_unknown(node, 0, dtype);
    espl_shape y = {.rank = dims.count};
    for (int i = 0; i < dims.count; i++) {
        if (dims.known && dims.v[i] < 0)
            return espl__fail(diag, ESPL_SHAPE, "ConstantOfShape: dimension %d would be %" PRId64, i,
                              dims.v[i]);
        y.dim[i] = dims.known ? dims.v[i] : ESPL_DIM_UNKNOWN;
    }
    status = espl__set_out(node, 0, dtype, &y, diag);
done:
    return status;
}

static void eval_fill(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)in, (void)scratch;
    const espl__attr *value = espl__attr_find(node, "value");
    const int64_t zero = 0, none = 0;
    int64_t n = espl_shape_count(&out[0].shape);
    const void *from = value && value->kind == ESPL__ATTR_TENSOR ? value->tensor->data : (const void *)&zero;
    if (n > 0) espl__copy_strided(out[0].data, from, espl_dtype_bytes(out[0].dtype), 1, &n, &none);
}

/* --- Range ----------------------------------------------------------------------------------- */

static int64_t scalar_s64(const espl_tensor *t) {
    int64_t x;
    espl__load_s64(t->dtype, t->data, 0, 1, &x);
    return x;
}
static double scalar_f64(const espl_tensor *t) {
    double x;
    espl__load_f64(t->dtype, t->data, 0, 1, &x);
    return x;
}

/* ceil((limit - start) / delta), at least 0; -1 if there is no such number. */
static int64_t range_count(const espl_tensor *start, const espl_tensor *limit, const espl_tensor *delta) {
    if (espl_dtype_is_float(start->dtype)) {
        double n = ceil((scalar_f64(limit) - scalar_f64(start)) / scalar_f64(delta));
        return !(n < 9e18) || scalar_f64(delta) == 0 ? -1 : n > 0 ? (int64_t)n : 0;
    }
    int64_t a = scalar_s64(start), b = scalar_s64(limit), step = scalar_s64(delta);
    if (step == 0) return -1;
    if (step > 0 ? a >= b : a <= b) return 0;
    uint64_t span = step > 0 ? (uint64_t)b - (uint64_t)a : (uint64_t)a - (uint64_t)b;
    uint64_t each = step > 0 ? (uint64_t)step : 0 - (uint64_t)step, n = (span - 1) / each + 1;
    return n > INT64_MAX ? -1 : (int64_t)n;
}

static espl_status infer_range(const espl__node *node, espl_diag *diag) {
    espl_status status;
    bool known = true;
    espl_shape y = {.rank = 1, .dim = {ESPL_DIM_UNKNOWN}};
    ESPL_TRY(espl__op_begin(node, diag));
    for (int i = 0; i < 3; i++) {
        const espl__value *v = node->inputs[i];
        ESPL_TRY(espl__check_dtype(node, i, ESPL__T_SIGNED | ESPL__T(F32) | ESPL__T(F64), diag));
        ESPL_TRY(espl__check_same_dtype(node, 0, i, diag));
        known = known && v->constant && v->constant->dtype == v->dtype;
        if (v->known_rank && espl_shape_count(&v->shape) >= 0 && espl_shape_count(&v->shape) != 1)
            return espl__fail(diag, ESPL_SHAPE, "Range: input %d is not a scalar", i);
        known = known && espl_shape_count(&v->shape) == 1;
    }
    if (known) {
        y.dim[0] =
            range_count(node->inputs[0]->constant, node->inputs[1]->constant, node->inputs[2]->constant);
        if (y.dim[0] < 0)
            return espl__fail(diag, ESPL_SHAPE, "Range: start, limit and delta give no finite list");
    }
    status = espl__set_out(node, 0, node->inputs[0]->dtype, &y, diag);
done:
    return status;
}

static void eval_range(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)node, (void)scratch;
    espl_dtype dtype = out[0].dtype;
    for (int64_t i = 0, n = out[0].shape.dim[0]; i < n; i++) {
        void *to = espl__at_mut(out[0].data, dtype, i);
        if (espl_dtype_is_float(dtype)) {
            double x = scalar_f64(&in[0]) + (double)i * scalar_f64(&in[2]);
            espl__store_f64(dtype, &x, 1, to);
        } else {
            int64_t x = (int64_t)((uint64_t)scalar_s64(&in[0]) + (uint64_t)i * (uint64_t)scalar_s64(&in[2]));
            espl__store_s64(dtype, &x, 1, to);
        }
    }
}

const espl__op espl__op_Shape = {
    .name = "Shape", .domain = "", .min_inputs = 1, .max_inputs = 1, .min_outputs = 1, .max_outputs = 1,
    .since = 1, .until = 21, .infer = infer_shape, .eval = eval_shape, .reads_shape_only = true,
    .text_inputs = 1,
};
const espl__op espl__op_Size = {
    .name = "Size", .domain = "", .min_inputs = 1, .max_inputs = 1, .min_outputs = 1, .max_outputs = 1,
    .since = 1, .until = 21, .infer = infer_size, .eval = eval_size, .reads_shape_only = true,
    .text_inputs = 1,
};
const espl__op espl__op_Constant = {
    .name = "Constant", .domain = "", .min_inputs = 0, .max_inputs = 0, .min_outputs = 1, .max_outputs = 1,
    .since = 1, .until = 21, .infer = infer_constant, .eval = eval_constant,
};
const espl__op espl__op_ConstantOfShape = {
    .name = "ConstantOfShape", .domain = "", .min_inputs = 1, .max_inputs = 1, .min_outputs = 1, .max_outputs = 1,
    .since = 9, .until = 21, .infer = infer_fill, .eval = eval_fill,
};
const espl__op espl__op_Range = {
    .name = "Range", .domain = "", .min_inputs = 3, .max_inputs = 3, .min_outputs = 1, .max_outputs = 1,
    .since = 11, .until = 21, .infer = infer_range, .eval = eval_range,
};
