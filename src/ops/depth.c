/* DepthToSpace and SpaceToDepth: blocks of b x b pixels trade places with channels. Both are one transposing
 * copy. */
#include "ops/ops.h"

#include <inttypes.h>

static espl_status block_size(const espl__node *node, int64_t *b, espl_diag *diag) {
    *b = espl__attr_int(node, "blocksize", 0);
    if (*b < 1 || *b > INT16_MAX)
        return espl__fail(diag, ESPL_FORMAT, "%s: a blocksize of %" PRId64 " is not possible", node->op->name,
                          *b);
    return ESPL_OK;
}

static espl_status divide(const espl__node *node, int64_t *dim, int64_t by, int axis, espl_diag *diag) {
    if (*dim < 0) return ESPL_OK;
    if (*dim % by != 0)
        return espl__fail(diag, ESPL_SHAPE, "%s: %" PRId64 " elements of axis %d do not divide by %" PRId64,
                          node->op->name, *dim, axis, by);
    *dim /= by;
    return ESPL_OK;
}

static espl_status infer_depth_to_space(const espl__node *node, espl_diag *diag) {
    espl_status status;
    int64_t b;
    ESPL_TRY(espl__op_begin(node, diag));
    ESPL_TRY(espl__check_rank(node, 0, 4, 4, diag));
    ESPL_TRY(block_size(node, &b, diag));
    const char *mode = espl__attr_string(node, "mode", "DCR");
    if (strcmp(mode, "DCR") != 0 && strcmp(mode, "CRD") != 0)
        return espl__fail(diag, ESPL_FORMAT, "DepthToSpace: mode '%s' is neither DCR nor CRD", mode);
    const espl__value *x = espl__in(node, 0);
    if (!x->known_rank) return espl__set_unknown(node, 0, x->dtype);
    espl_shape y = x->shape;
    ESPL_TRY(divide(node, &y.dim[1], b * b, 1, diag));
    for (int i = 2; i < 4; i++)
        if (y.dim[i] > 0) y.dim[i] = espl__mul_sat(y.dim[i], b);
    status = espl__set_out(node, 0, x->dtype, &y, diag);
done:
    return status;
}

static espl_status infer_space_to_depth(const espl__node *node, espl_diag *diag) {
    espl_status status;
    int64_t b;
    ESPL_TRY(espl__op_begin(node, diag));
    ESPL_TRY(espl__check_rank(node, 0, 4, 4, diag));
    ESPL_TRY(block_size(node, &b, diag));
    const espl__value *x = espl__in(node, 0);
    if (!x->known_rank) return espl__set_unknown(node, 0, x->dtype);
    espl_shape y = x->shape;
    if (y.dim[1] > 0) y.dim[1] = espl__mul_sat(y.dim[1], b * b);
    for (int i = 2; i < 4; i++) ESPL_TRY(divide(node, &y.dim[i], b, i, diag));
    status = espl__set_out(node, 0, x->dtype, &y, diag);
done:
    return status;
}

/* Output (n, c, h, bh, w, bw) reads channel (bh, bw, c) for DCR and (c, bh, bw) for CRD. */
static void eval_depth_to_space(const espl__node *node, const espl_tensor *in, espl_tensor *out,
                                void *scratch) {
    (void)scratch;
    const int64_t *x = in[0].shape.dim, b = espl__attr_int(node, "blocksize", 1), c = out[0].shape.dim[1];
    bool crd = strcmp(espl__attr_string(node, "mode", "DCR"), "CRD") == 0;
    int64_t plane = x[2] * x[3], step_c = crd ? b * b : 1, step_h = crd ? b : b * c, step_w = crd ? 1 : c;
    const int64_t dim[] = {x[0], c, x[2], b, x[3], b};
    const int64_t stride[] = {x[1] * plane, step_c * plane, x[3], step_h * plane, 1, step_w * plane};
    espl__copy_strided(out[0].data, in[0].data, espl_dtype_bytes(in[0].dtype), 6, dim, stride);
}

/* Output channel (bh, bw, c) reads pixel (h * b + bh, w * b + bw) of channel c. */
static void eval_space_to_depth(const espl__node *node, const espl_tensor *in, espl_tensor *out,
                                void *scratch) {
    (void)scratch;
    const int64_t *x = in[0].shape.dim, *y = out[0].shape.dim, b = espl__attr_int(node, "blocksize", 1);
    int64_t plane = x[2] * x[3];
    const int64_t dim[] = {x[0], b, b, x[1], y[2], y[3]};
    const int64_t stride[] = {x[1] * plane, x[3], 1, plane, b * x[3], b};
    espl__copy_strided(out[0].data, in[0].data, espl_dtype_bytes(in[0].dtype), 6, dim, stride);
}

const espl__op espl__op_DepthToSpace = {
    .name = "DepthToSpace", .domain = "", .min_inputs = 1, .max_inputs = 1, .min_outputs = 1, .max_outputs = 1,
    .since = 1, .until = 21, .infer = infer_depth_to_space, .eval = eval_depth_to_space, .quant = ESPL__QUANT_MOVE,
};
const espl__op espl__op_SpaceToDepth = {
    .name = "SpaceToDepth", .domain = "", .min_inputs = 1, .max_inputs = 1, .min_outputs = 1, .max_outputs = 1,
    .since = 1, .until = 21, .infer = infer_space_to_depth, .eval = eval_space_to_depth, .quant = ESPL__QUANT_MOVE,
};
