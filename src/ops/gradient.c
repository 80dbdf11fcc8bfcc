/* Gradient: the derivatives of one value with respect to others. It has no reference:
 * passes/resolve_gradient.c makes nodes of it. Its inputs are the xs, the zs and, last, y, which the file
 * names by an attribute only. */
#include "ops/ops.h"

static espl_status infer(const espl__node *node, espl_diag *diag) {
    const espl__attr *xs = espl__attr_find(node, "xs");
    espl_status status;
    ESPL_TRY(espl__op_begin(node, diag));
    if (!xs || xs->kind != ESPL__ATTR_TENSOR || xs->tensor->dtype != ESPL_STRING ||
        xs->tensor->shape.rank != 1)
        return espl__fail(diag, ESPL_FORMAT, "Gradient: attribute xs is no list of names");
    const int64_t count = xs->tensor->shape.dim[0];
    if (count < 1 || count > node->input_count - 1 || count < node->output_count)
        return espl__fail(diag, ESPL_FORMAT, "Gradient: xs has %lld names for %d inputs and %d outputs",
                          (long long)count, node->input_count - 1, node->output_count);
    for (int i = 0; i < node->output_count && status == ESPL_OK; i++) {
        const espl__value *x = node->inputs[i];
        ESPL_TRY(espl__check_dtype(node, i, ESPL__T_FLOAT, diag));
        status = x->known_rank ? espl__set_out(node, i, x->dtype, &x->shape, diag)
                               : espl__set_unknown(node, i, x->dtype);
    }
done:
    return status;
}

const espl__op espl__op_Gradient = {
    .name = "Gradient",
    .domain = "ai.onnx.preview.training",
    .min_inputs = 2,
    .max_inputs = -1,
    .min_outputs = 1,
    .max_outputs = -1,
    .since = 1,
    .until = 1,
    .infer = infer,
    .quant = ESPL__QUANT_FLOAT,
};
