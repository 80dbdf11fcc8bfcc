/* MaxUnpool: what MaxPool kept goes back to where its Indices say; the rest is 0. Indices count in the size
 * that the pooled input had without rounding, out = (in - 1) stride + kernel - pads; a larger output_shape
 * adds zeros behind. */
#include "ops/ops.h"

#include <inttypes.h>

/* The size that the indices count in, and the output's, which may be unknown. */
static espl_status resolve(const espl__node *node, const espl_shape *x, espl_shape *plain, espl_shape *y,
                           espl_diag *diag) {
    espl_status status;
    espl__window w;
    espl__ints said;
    ESPL_TRY(espl__window_attrs(node, x, NULL, &w, diag));
    ESPL_TRY(espl__read_ints(node, NULL, 2, &said, diag));
    *plain = *x;
    for (int i = 0; i < w.rank; i++) {
        if (w.in[i] < 0) continue;
        if (w.in[i] > ESPL__MAX_EXTENT / ESPL_MAX(w.stride[i], 1))
            return espl__fail(diag, ESPL_LIMIT, "MaxUnpool: the result is too large");
        int64_t size = (ESPL_MAX(w.in[i], 1) - 1) * w.stride[i] + w.kernel[i] - w.begin[i] - w.end[i];
        if (size < 1)
            return espl__fail(diag, ESPL_SHAPE, "MaxUnpool: spatial axis %d would have %" PRId64 " elements",
                              i, size);
        plain->dim[2 + i] = size;
    }
    *y = *plain;
    if (!said.present) return ESPL_OK;
    if (said.count >= 0 && said.count != x->rank)
        return espl__fail(diag, ESPL_SHAPE, "MaxUnpool: output_shape has %d numbers for %d dimensions",
                          said.count, x->rank);
    for (int i = 0; i < x->rank; i++) {
        y->dim[i] = said.known ? said.v[i] : i < 2 ? x->dim[i] : ESPL_DIM_UNKNOWN;
        if (said.known && (said.v[i] < 0 || (i < 2 && !espl__dims_agree(said.v[i], x->dim[i]))))
            return espl__fail(diag, ESPL_SHAPE,
                              "MaxUnpool: output_shape says %" PRId64 " elements of axis %d", said.v[i], i);
    }
done:
    return status;
}

static espl_status infer(const espl__node *node, espl_diag *diag) {
    espl_status status;
    espl_shape plain, y;
    ESPL_TRY(espl__op_begin(node, diag));
    ESPL_TRY(espl__check_dtype(node, 0, ESPL__T(F32), diag));
    ESPL_TRY(espl__check_dtype(node, 1, ESPL__T(S64), diag));
    const espl__value *x = espl__in(node, 0), *at = espl__in(node, 1);
    if (!x->known_rank) return espl__set_unknown(node, 0, ESPL_F32);
    ESPL_TRY(resolve(node, &x->shape, &plain, &y, diag));
    bool same = !at->known_rank || at->shape.rank == x->shape.rank;
    for (int i = 0; same && at->known_rank && i < x->shape.rank; i++)
        same = espl__dims_agree(at->shape.dim[i], x->shape.dim[i]);
    if (!same) return espl__fail(diag, ESPL_SHAPE, "MaxUnpool: input and indices differ in shape");
    status = espl__set_out(node, 0, ESPL_F32, &y, diag);
done:
    return status;
}

static void eval(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)scratch;
    espl_shape plain, y;
    int64_t stride[ESPL_MAX_RANK];
    if (espl__is_empty(&out[0]) || resolve(node, &in[0].shape, &plain, &y, NULL) != ESPL_OK) return;
    memset(out[0].data, 0, espl__tensor_bytes(&out[0]));
    espl__strides(&y, stride);
    const size_t bytes = espl_dtype_bytes(in[0].dtype);
    const int64_t *at = in[1].data, count = espl_shape_count(&plain);
    for (int64_t i = 0, n = espl_shape_count(&in[0].shape); i < n; i++) {
        int64_t rest = at[i], to = 0;
        bool inside = rest >= 0 && rest < count; /* others come from no pooling of this size */
        for (int a = y.rank - 1; inside && a >= 0; rest /= plain.dim[a--]) {
            to += rest % plain.dim[a] * stride[a];
            inside = rest % plain.dim[a] < y.dim[a];
        }
        if (inside)
            memcpy((char *)out[0].data + (size_t)to * bytes, (char *)in[0].data + (size_t)i * bytes, bytes);
    }
}

const espl__op espl__op_MaxUnpool = {
    .name = "MaxUnpool",
    .domain = "",
    .min_inputs = 2,
    .max_inputs = 3,
    .min_outputs = 1,
    .max_outputs = 1,
    .since = 9,
    .until = 21,
    .infer = infer,
    .eval = eval,
    .quant = ESPL__QUANT_FLOAT,
};
