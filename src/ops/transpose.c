/* Transpose: output axis i is input axis perm[i]; without perm the axes are reversed. */
#include "ops/ops.h"

static espl_status resolve(const espl__node *node, int rank, int64_t *perm, espl_diag *diag) {
    bool seen[ESPL_MAX_RANK] = {false};
    if (!espl__attr_find(node, "perm")) {
        for (int i = 0; i < rank; i++) perm[i] = rank - 1 - i;
        return ESPL_OK;
    }
    int count = espl__attr_ints(node, "perm", perm, ESPL_MAX_RANK);
    if (count != rank)
        return espl__fail(diag, ESPL_SHAPE, "Transpose: perm names %d axes of %d", count, rank);
    for (int i = 0; i < rank; i++) {
        if (perm[i] < 0 || perm[i] >= rank || seen[perm[i]])
            return espl__fail(diag, ESPL_FORMAT, "Transpose: perm is not a permutation of 0 to %d", rank - 1);
        seen[perm[i]] = true;
    }
    return ESPL_OK;
}

static espl_status infer(const espl__node *node, espl_diag *diag) {
    espl_status status;
    int64_t perm[ESPL_MAX_RANK];
    ESPL_TRY(espl__op_begin(node, diag));
    const espl__value *x = espl__in(node, 0);
    if (!x->known_rank) return espl__set_unknown(node, 0, x->dtype);
    ESPL_TRY(resolve(node, x->shape.rank, perm, diag));
    espl_shape y = {.rank = x->shape.rank};
    for (int i = 0; i < y.rank; i++) y.dim[i] = x->shape.dim[perm[i]];
    status = espl__set_out(node, 0, x->dtype, &y, diag);
done:
    return status;
}

static void eval(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)scratch;
    int64_t perm[ESPL_MAX_RANK], own[ESPL_MAX_RANK], stride[ESPL_MAX_RANK];
    if (resolve(node, in[0].shape.rank, perm, NULL) != ESPL_OK) return;
    espl__strides(&in[0].shape, own);
    for (int i = 0; i < in[0].shape.rank; i++) stride[i] = own[perm[i]];
    espl__copy_strided(out[0].data, in[0].data, espl_dtype_bytes(in[0].dtype), out[0].shape.rank,
                       out[0].shape.dim, stride);
}

const espl__op espl__op_Transpose = {
    .name = "Transpose", .domain = "", .min_inputs = 1, .max_inputs = 1, .min_outputs = 1, .max_outputs = 1,
    .since = 1, .until = 21, .infer = infer, .eval = eval, .quant = ESPL__QUANT_MOVE,
    .text_inputs = 1,
};
