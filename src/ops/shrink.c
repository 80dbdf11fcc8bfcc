/* Shrink: what is near 0 becomes 0, the rest moves towards it. */
#include "ops/ops.h"

static espl_status infer(const espl__node *node, espl_diag *diag) {
    espl_status status;
    ESPL_TRY(espl__op_begin(node, diag));
    ESPL_TRY(espl__check_dtype(node, 0, ESPL__T(F32), diag));
    status = espl__set_like_input(node, ESPL_F32, diag);
done:
    return status;
}

static void eval(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    float lambda = espl__attr_float(node, "lambd", 0.5f), bias = espl__attr_float(node, "bias", 0);
    const float *x = in[0].data;
    float *y = out[0].data;
    (void)scratch;
    for (int64_t i = 0, n = espl_shape_count(&in[0].shape); i < n; i++)
        y[i] = x[i] < -lambda ? x[i] + bias : x[i] > lambda ? x[i] - bias : 0.0f;
}

const espl__op espl__op_Shrink = {
    .name = "Shrink", .domain = "", .min_inputs = 1, .max_inputs = 1, .min_outputs = 1, .max_outputs = 1,
    .since = 9, .until = 21, .infer = infer, .eval = eval, .quant = ESPL__QUANT_UNARY,
};
