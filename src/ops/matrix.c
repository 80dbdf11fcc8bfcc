/* EyeLike and Det. */
#include "ops/matrix.h"

#include <inttypes.h>
#include <math.h>

/* --- EyeLike: ones on diagonal k of a matrix of zeros ------------------------------------------ */

static espl_status infer_eye_like(const espl__node *node, espl_diag *diag) {
    espl_status status;
    espl_dtype dtype = ESPL_F32;
    ESPL_TRY(espl__op_begin(node, diag));
    ESPL_TRY(espl__check_rank(node, 0, 2, 2, diag));
    int64_t number = espl__attr_int(node, "dtype", 0);
    if (number == 0)
        dtype = node->inputs[0]->dtype;
    else if (!espl__dtype_from_onnx(number, &dtype))
        return espl__fail(diag, ESPL_UNSUPPORTED, "EyeLike: ONNX element type %" PRId64 " is not supported",
                          number);
    status = espl__set_like_input(node, dtype, diag);
done:
    return status;
}

static void eval_eye_like(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)in, (void)scratch;
    const int64_t one = 1;
    int64_t k = espl__attr_int(node, "k", 0), rows = out[0].shape.dim[0], columns = out[0].shape.dim[1];
    if (espl__is_empty(&out[0])) return;
    memset(out[0].data, 0, (size_t)(rows * columns) * espl_dtype_bytes(out[0].dtype));
    if (k <= -rows || k >= columns) return;
    for (int64_t i = 0; i < rows; i++)
        if (i + k >= 0 && i + k < columns)
            espl__store_s64(out[0].dtype, &one, 1,
                            espl__at_mut(out[0].data, out[0].dtype, i * columns + i + k));
}

/* --- Det: elimination with the largest pivot of a column, in double ----------------------------- */

static espl_status infer_det(const espl__node *node, espl_diag *diag) {
    espl_status status;
    ESPL_TRY(espl__op_begin(node, diag));
    ESPL_TRY(espl__check_dtype(node, 0, ESPL__T(F32) | ESPL__T(F64), diag));
    ESPL_TRY(espl__check_rank(node, 0, 2, ESPL_MAX_RANK, diag));
    const espl__value *x = node->inputs[0];
    if (!x->known_rank) return espl__set_unknown(node, 0, x->dtype);
    espl_shape y = x->shape;
    y.rank -= 2;
    if (!espl__dims_agree(x->shape.dim[y.rank], x->shape.dim[y.rank + 1]))
        return espl__fail(diag, ESPL_SHAPE, "Det: matrices of %" PRId64 " by %" PRId64 " have no determinant",
                          x->shape.dim[y.rank], x->shape.dim[y.rank + 1]);
    status = espl__set_out(node, 0, x->dtype, &y, diag);
done:
    return status;
}

double espl__determinant(double *a, int64_t n) {
    double det = 1;
    for (int64_t k = 0; k < n; k++) {
        int64_t pivot = k;
        for (int64_t i = k + 1; i < n; i++)
            if (fabs(a[i * n + k]) > fabs(a[pivot * n + k])) pivot = i;
        if (a[pivot * n + k] == 0) return 0;
        if (pivot != k) det = -det;
        for (int64_t j = k; pivot != k && j < n; j++) {
            double t = a[k * n + j];
            a[k * n + j] = a[pivot * n + j];
            a[pivot * n + j] = t;
        }
        det *= a[k * n + k];
        for (int64_t i = k + 1; i < n; i++) {
            double factor = a[i * n + k] / a[k * n + k];
            for (int64_t j = k + 1; j < n; j++) a[i * n + j] -= factor * a[k * n + j];
        }
    }
    return det;
}

static void eval_det(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)node;
    int64_t n = in[0].shape.dim[in[0].shape.rank - 1];
    for (int64_t i = 0, count = espl_shape_count(&out[0].shape); i < count; i++) {
        if (n) espl__load_f64(in[0].dtype, espl__at(in[0].data, in[0].dtype, i * n * n), 1, n * n, scratch);
        double det = espl__determinant(scratch, n);
        espl__store_f64(out[0].dtype, &det, 1, espl__at_mut(out[0].data, out[0].dtype, i));
    }
}

static uint64_t det_scratch(const espl__node *node) {
    const espl_shape *x = &node->inputs[0]->shape;
    if (espl_shape_count(x) == 0) return 0;
    return sizeof(double) * (uint64_t)espl__mul_sat(x->dim[x->rank - 1], x->dim[x->rank - 1]);
}

const espl__op espl__op_EyeLike = {
    .name = "EyeLike",
    .domain = "",
    .min_inputs = 1,
    .max_inputs = 1,
    .min_outputs = 1,
    .max_outputs = 1,
    .since = 9,
    .until = 21,
    .infer = infer_eye_like,
    .eval = eval_eye_like,
    .quant = ESPL__QUANT_FLOAT,
    .reads_shape_only = true,
};
const espl__op espl__op_Det = {
    .name = "Det",
    .domain = "",
    .min_inputs = 1,
    .max_inputs = 1,
    .min_outputs = 1,
    .max_outputs = 1,
    .since = 11,
    .until = 21,
    .infer = infer_det,
    .eval = eval_det,
    .scratch_bytes = det_scratch,
    .quant = ESPL__QUANT_FLOAT,
};
