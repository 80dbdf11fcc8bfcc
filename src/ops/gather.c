/* Gather: slices of the data along an axis, chosen by indices. Negative indices count from the end. An index
 * that is out of range is refused where it is constant and read as 0 where it is only known at run time. */
#include "ops/ops.h"

#include <inttypes.h>

static int64_t index_at(const espl_tensor *indices, int64_t i) {
    return indices->dtype == ESPL_S64 ? ((const int64_t *)indices->data)[i]
                                      : ((const int32_t *)indices->data)[i];
}

static espl_status check_constant(const espl_tensor *indices, int64_t d, espl_diag *diag) {
    for (int64_t i = 0, n = espl_shape_count(&indices->shape); i < n; i++) {
        int64_t at = index_at(indices, i);
        if (at < -d || at >= d)
            return espl__fail(diag, ESPL_SHAPE,
                              "Gather: index %" PRId64 " is out of range for %" PRId64 " elements", at, d);
    }
    return ESPL_OK;
}

static espl_status infer(const espl__node *node, espl_diag *diag) {
    espl_status status;
    int axis;
    ESPL_TRY(espl__op_begin(node, diag));
    ESPL_TRY(espl__check_dtype(node, 1, ESPL__T(S32) | ESPL__T(S64), diag));
    const espl__value *x = espl__in(node, 0), *indices = espl__in(node, 1);
    if (!x->known_rank || !indices->known_rank) return espl__set_unknown(node, 0, x->dtype);
    ESPL_TRY(espl__axis(espl__attr_int(node, "axis", 0), x->shape.rank, &axis, diag));
    int64_t d = x->shape.dim[axis];
    if (d >= 0 && indices->constant) ESPL_TRY(check_constant(indices->constant, d, diag));
    if (d == 0 && espl_shape_count(&indices->shape) > 0)
        return espl__fail(diag, ESPL_SHAPE, "Gather: axis %d of the data is empty", axis);
    espl_shape y = {.rank = x->shape.rank - 1 + indices->shape.rank};
    if (y.rank > ESPL_MAX_RANK)
        return espl__fail(diag, ESPL_UNSUPPORTED, "Gather: %d dimensions are more than the %d supported",
                          y.rank, ESPL_MAX_RANK);
    for (int i = 0, at = 0; i < x->shape.rank; i++) {
        if (i != axis) y.dim[at++] = x->shape.dim[i];
        for (int k = 0; i == axis && k < indices->shape.rank; k++) y.dim[at++] = indices->shape.dim[k];
    }
    status = espl__set_out(node, 0, x->dtype, &y, diag);
done:
    return status;
}

static void eval(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)scratch;
    const espl_shape *x = &in[0].shape;
    int axis;
    if (espl__axis(espl__attr_int(node, "axis", 0), x->rank, &axis, NULL) != ESPL_OK) return;
    int64_t outer = espl__dims_product(x, 0, axis), d = x->dim[axis], count = espl_shape_count(&in[1].shape);
    size_t bytes = (size_t)espl__dims_product(x, axis + 1, x->rank) * espl_dtype_bytes(in[0].dtype);
    char *to = out[0].data;
    if (espl__is_empty(&out[0]) || d == 0) return;
    for (int64_t o = 0; o < outer; o++)
        for (int64_t i = 0; i < count; i++, to += bytes) {
            int64_t at = index_at(&in[1], i);
            if (at < 0) at += d;
            if (at < 0 || at >= d) at = 0;
            memcpy(to, (const char *)in[0].data + (size_t)(o * d + at) * bytes, bytes);
        }
}

const espl__op espl__op_Gather = {
    .name = "Gather", .domain = "", .min_inputs = 2, .max_inputs = 2, .min_outputs = 1, .max_outputs = 1,
    .since = 1, .until = 21, .infer = infer, .eval = eval, .quant = ESPL__QUANT_MOVE,
    .text_inputs = 1,
};
