/* Operators that address elements by index: GatherElements, GatherND, OneHot, Trilu. An index that is out of
 * range is refused where it is constant and read as 0 where it is only known at run time. */
#include "ops/ops.h"

#include <inttypes.h>

#define INDICES (ESPL__T(S32) | ESPL__T(S64))

espl_status espl__check_index(const espl__node *node, int64_t i, int64_t d, espl_diag *diag) {
    if (i >= -d && i < d) return ESPL_OK;
    return espl__fail(diag, ESPL_SHAPE, "%s: index %" PRId64 " is out of range for %" PRId64 " elements",
                      node->op->name, i, d);
}

/* --- GatherElements -------------------------------------------------------------------------- */

static espl_status infer_gather_elements(const espl__node *node, espl_diag *diag) {
    espl_status status;
    int axis;
    ESPL_TRY(espl__op_begin(node, diag));
    ESPL_TRY(espl__check_dtype(node, 1, INDICES, diag));
    const espl__value *x = espl__in(node, 0), *indices = espl__in(node, 1);
    if (!x->known_rank || !indices->known_rank) return espl__set_unknown(node, 0, x->dtype);
    ESPL_TRY(espl__axis(espl__attr_int(node, "axis", 0), x->shape.rank, &axis, diag));
    ESPL_TRY(espl__check_rank(node, 1, x->shape.rank, x->shape.rank, diag));
    int64_t d = x->shape.dim[axis], count = espl_shape_count(&indices->shape);
    for (int i = 0; i < x->shape.rank; i++)
        if (i != axis && x->shape.dim[i] >= 0 && indices->shape.dim[i] > x->shape.dim[i])
            return espl__fail(diag, ESPL_SHAPE,
                              "GatherElements: %" PRId64 " indices along axis %d for %" PRId64 " elements",
                              indices->shape.dim[i], i, x->shape.dim[i]);
    if (d == 0 && count > 0)
        return espl__fail(diag, ESPL_SHAPE, "GatherElements: axis %d of the data is empty", axis);
    for (int64_t i = 0; indices->constant && d >= 0 && i < count; i++) {
        ESPL_TRY(espl__check_index(node, espl__index_at(indices->constant, i), d, diag));
    }
    status = espl__set_out(node, 0, x->dtype, &indices->shape, diag);
done:
    return status;
}

static void eval_gather_elements(const espl__node *node, const espl_tensor *in, espl_tensor *out,
                                 void *scratch) {
    (void)scratch;
    const espl_shape *y = &out[0].shape;
    int64_t stride[ESPL_MAX_RANK], index[ESPL_MAX_RANK] = {0};
    int axis;
    if (espl__axis(espl__attr_int(node, "axis", 0), y->rank, &axis, NULL) != ESPL_OK) return;
    size_t elem = espl_dtype_bytes(in[0].dtype);
    espl__strides(&in[0].shape, stride);
    for (int64_t i = 0, n = espl_shape_count(y); i < n; i++) {
        int64_t from = espl__index_within(espl__index_at(&in[1], i), in[0].shape.dim[axis]) * stride[axis];
        for (int k = 0; k < y->rank; k++)
            if (k != axis) from += index[k] * stride[k];
        memcpy((char *)out[0].data + (size_t)i * elem, (const char *)in[0].data + (size_t)from * elem, elem);
        for (int k = y->rank - 1; k >= 0 && ++index[k] == y->dim[k]; k--) index[k] = 0;
    }
}

/* --- GatherND -------------------------------------------------------------------------------- */

/* The last axis of the indices holds tuples that address axes [batch, batch + tuple) of the data. */
static espl_status infer_gather_nd(const espl__node *node, espl_diag *diag) {
    espl_status status;
    ESPL_TRY(espl__op_begin(node, diag));
    ESPL_TRY(espl__check_dtype(node, 1, ESPL__T(S64), diag));
    const espl__value *x = espl__in(node, 0), *indices = espl__in(node, 1);
    if (!x->known_rank || !indices->known_rank) return espl__set_unknown(node, 0, x->dtype);
    int64_t batch = espl__attr_int(node, "batch_dims", 0);
    int last = indices->shape.rank - 1;
    if (last < 0 || batch < 0 || batch > last || batch >= x->shape.rank)
        return espl__fail(diag, ESPL_SHAPE, "GatherND: %" PRId64 " batch dimensions do not fit the inputs",
                          batch);
    int64_t tuple = indices->shape.dim[last];
    if (tuple < 0) return espl__set_unknown(node, 0, x->dtype);
    if (tuple < 1 || tuple > x->shape.rank - batch)
        return espl__fail(diag, ESPL_SHAPE, "GatherND: %" PRId64 " numbers address %" PRId64 " axes", tuple,
                          x->shape.rank - batch);
    espl_shape y = indices->shape;
    y.rank = last;
    for (int i = 0; i < batch; i++)
        if (!espl__dims_agree(x->shape.dim[i], indices->shape.dim[i]))
            return espl__fail(diag, ESPL_SHAPE, "GatherND: the batch dimensions differ");
    for (int i = (int)(batch + tuple); i < x->shape.rank; i++) {
        if (y.rank == ESPL_MAX_RANK)
            return espl__fail(diag, ESPL_UNSUPPORTED, "GatherND: the result has too many dimensions");
        y.dim[y.rank++] = x->shape.dim[i];
    }
    int64_t count = espl_shape_count(&indices->shape);
    for (int64_t k = 0; k < tuple && count > 0; k++) {
        int64_t d = x->shape.dim[batch + k];
        if (d == 0) return espl__fail(diag, ESPL_SHAPE, "GatherND: an addressed axis of the data is empty");
        for (int64_t i = k; indices->constant && d > 0 && i < count; i += tuple) {
            ESPL_TRY(espl__check_index(node, espl__index_at(indices->constant, i), d, diag));
        }
    }
    status = espl__set_out(node, 0, x->dtype, &y, diag);
done:
    return status;
}

static void eval_gather_nd(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)scratch;
    const espl_shape *x = &in[0].shape, *indices = &in[1].shape;
    int batch = (int)espl__attr_int(node, "batch_dims", 0), tuple = (int)indices->dim[indices->rank - 1];
    int64_t stride[ESPL_MAX_RANK], batches = espl__dims_product(indices, 0, batch);
    int64_t tuples = espl__dims_product(indices, batch, indices->rank - 1);
    size_t elem = espl_dtype_bytes(in[0].dtype),
           bytes = (size_t)espl__dims_product(x, batch + tuple, x->rank) * elem;
    int64_t each = espl__dims_product(x, batch, x->rank);
    char *to = out[0].data;
    espl__strides(x, stride);
    if (espl__is_empty(&out[0])) return;
    for (int64_t b = 0; b < batches; b++)
        for (int64_t t = 0; t < tuples; t++, to += bytes) {
            int64_t from = b * each;
            for (int k = 0; k < tuple; k++)
                from += espl__index_within(espl__index_at(&in[1], (b * tuples + t) * tuple + k), x->dim[batch + k]) *
                        stride[batch + k];
            memcpy(to, (const char *)in[0].data + (size_t)from * elem, bytes);
        }
}

/* --- OneHot ---------------------------------------------------------------------------------- */

#define NUMBERS (ESPL__T_INT | ESPL__T(F32) | ESPL__T(F64))

static bool read_depth(const espl__value *value, int64_t *depth) {
    if (!value->constant || value->constant->dtype != value->dtype ||
        espl_shape_count(&value->constant->shape) != 1)
        return false;
    espl__load_s64(value->dtype, value->constant->data, 0, 1, depth);
    return true;
}

static espl_status infer_one_hot(const espl__node *node, espl_diag *diag) {
    espl_status status;
    int axis;
    int64_t depth = ESPL_DIM_UNKNOWN;
    ESPL_TRY(espl__op_begin(node, diag));
    for (int i = 0; i < 2; i++) ESPL_TRY(espl__check_dtype(node, i, NUMBERS, diag));
    const espl__value *indices = espl__in(node, 0), *values = espl__in(node, 2);
    if (values->known_rank && espl_shape_count(&values->shape) >= 0 && espl_shape_count(&values->shape) != 2)
        return espl__fail(diag, ESPL_SHAPE, "OneHot: the values must be two");
    if (!indices->known_rank) return espl__set_unknown(node, 0, values->dtype);
    if (indices->shape.rank == ESPL_MAX_RANK)
        return espl__fail(diag, ESPL_UNSUPPORTED, "OneHot: the result has too many dimensions");
    if (read_depth(node->inputs[1], &depth) && depth < 1)
        return espl__fail(diag, ESPL_SHAPE, "OneHot: a depth of %" PRId64 " is not possible", depth);
    ESPL_TRY(espl__axis(espl__attr_int(node, "axis", -1), indices->shape.rank + 1, &axis, diag));
    espl_shape y = {.rank = indices->shape.rank + 1};
    for (int i = 0; i < y.rank; i++) y.dim[i] = i == axis ? depth : indices->shape.dim[i - (i > axis)];
    status = espl__set_out(node, 0, values->dtype, &y, diag);
done:
    return status;
}

/* Indices outside [-depth, depth) have no hot element. */
static void eval_one_hot(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)scratch;
    int axis;
    const espl_shape *y = &out[0].shape;
    if (espl__axis(espl__attr_int(node, "axis", -1), y->rank, &axis, NULL) != ESPL_OK) return;
    int64_t outer = espl__dims_product(y, 0, axis), depth = y->dim[axis],
            inner = espl__dims_product(y, axis + 1, y->rank);
    size_t elem = espl_dtype_bytes(out[0].dtype);
    char *to = out[0].data;
    if (espl__is_empty(&out[0])) return;
    for (int64_t o = 0; o < outer; o++)
        for (int64_t d = 0; d < depth; d++)
            for (int64_t i = 0; i < inner; i++, to += elem) {
                int64_t at;
                espl__load_s64(in[0].dtype, espl__at(in[0].data, in[0].dtype, o * inner + i), 0, 1, &at);
                bool hot = at == d || (at < 0 && at >= -depth && at + depth == d);
                memcpy(to, (const char *)in[2].data + (hot ? elem : 0), elem);
            }
}

/* --- Trilu ----------------------------------------------------------------------------------- */

static espl_status infer_trilu(const espl__node *node, espl_diag *diag) {
    espl_status status;
    ESPL_TRY(espl__op_begin(node, diag));
    ESPL_TRY(espl__check_rank(node, 0, 2, ESPL_MAX_RANK, diag));
    ESPL_TRY(espl__check_dtype(node, 1, ESPL__T(S64), diag));
    const espl__value *k = espl__in(node, 1);
    if (k && k->known_rank && espl_shape_count(&k->shape) >= 0 && espl_shape_count(&k->shape) != 1)
        return espl__fail(diag, ESPL_SHAPE, "Trilu: k is not a scalar");
    status = espl__set_like_input(node, node->inputs[0]->dtype, diag);
done:
    return status;
}

/* Keeps column j of row i if j - i >= k (upper) or j - i <= k (lower). */
static void eval_trilu(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)scratch;
    const espl_shape *x = &in[0].shape;
    bool upper = espl__attr_int(node, "upper", 1) != 0;
    int64_t k = node->input_count > 1 && in[1].data ? *(const int64_t *)in[1].data : 0;
    int64_t rows = x->dim[x->rank - 2], columns = x->dim[x->rank - 1],
            matrices = espl__dims_product(x, 0, x->rank - 2);
    size_t elem = espl_dtype_bytes(in[0].dtype), at = 0;
    if (espl__is_empty(&out[0])) return;
    for (int64_t m = 0; m < matrices; m++)
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < columns; j++, at += elem) {
                bool kept = upper ? j - i >= k : j - i <= k;
                if (kept)
                    memcpy((char *)out[0].data + at, (const char *)in[0].data + at, elem);
                else
                    memset((char *)out[0].data + at, 0, elem);
            }
}

const espl__op espl__op_GatherElements = {
    .name = "GatherElements", .domain = "", .min_inputs = 2, .max_inputs = 2, .min_outputs = 1, .max_outputs = 1,
    .since = 11, .until = 21, .infer = infer_gather_elements, .eval = eval_gather_elements, .quant = ESPL__QUANT_MOVE,
};
const espl__op espl__op_GatherND = {
    .name = "GatherND", .domain = "", .min_inputs = 2, .max_inputs = 2, .min_outputs = 1, .max_outputs = 1,
    .since = 11, .until = 21, .infer = infer_gather_nd, .eval = eval_gather_nd, .quant = ESPL__QUANT_MOVE,
};
const espl__op espl__op_OneHot = {
    .name = "OneHot", .domain = "", .min_inputs = 3, .max_inputs = 3, .min_outputs = 1, .max_outputs = 1,
    .since = 9, .until = 21, .infer = infer_one_hot, .eval = eval_one_hot,
};
const espl__op espl__op_Trilu = {
    .name = "Trilu", .domain = "", .min_inputs = 1, .max_inputs = 2, .min_outputs = 1, .max_outputs = 1,
    .since = 14, .until = 21, .infer = infer_trilu, .eval = eval_trilu, .quant = ESPL__QUANT_FLOAT,
};
