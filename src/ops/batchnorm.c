/* BatchNormalization in inference: y = (x - mean) / sqrt(var + epsilon) * scale + B, per channel. */
#include "ops/ops.h"

#include <inttypes.h>
#include <math.h>

static espl_status infer(const espl__node *node, espl_diag *diag) {
    espl_status status;
    ESPL_TRY(espl__op_begin(node, diag));
    for (int i = 0; i < 5; i++) ESPL_TRY(espl__check_dtype(node, i, ESPL__T(F32), diag));
    for (int i = 1; i < 5; i++) ESPL_TRY(espl__check_rank(node, i, 1, 1, diag));
    ESPL_TRY(espl__check_rank(node, 0, 1, ESPL_MAX_RANK, diag));
    bool trains = espl__attr_int(node, "training_mode", 0) != 0;
    for (int i = 1; i < node->output_count; i++) trains = trains || node->outputs[i];
    if (trains)
        return espl__fail(diag, ESPL_UNSUPPORTED,
                          "BatchNormalization: training mode is not supported; export for inference");
    if (espl__attr_int(node, "spatial", 1) == 0)
        return espl__fail(diag, ESPL_UNSUPPORTED, "BatchNormalization: spatial = 0 is not supported");
    const espl__value *x = espl__in(node, 0);
    int64_t channels = !x->known_rank ? ESPL_DIM_UNKNOWN : x->shape.rank > 1 ? x->shape.dim[1] : 1;
    for (int i = 1; i < 5; i++)
        if (node->inputs[i]->known_rank && !espl__dims_agree(node->inputs[i]->shape.dim[0], channels))
            return espl__fail(diag, ESPL_SHAPE,
                              "BatchNormalization: input %d has %" PRId64 " values for %" PRId64 " channels",
                              i, node->inputs[i]->shape.dim[0], channels);
    status = espl__set_like_input(node, ESPL_F32, diag);
done:
    return status;
}

static void eval(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)scratch;
    const espl_shape *shape = &in[0].shape;
    float epsilon = espl__attr_float(node, "epsilon", 1e-5f);
    int64_t channels = shape->rank > 1 ? shape->dim[1] : 1, plane = espl__dims_product(shape, 2, shape->rank);
    const float *x = in[0].data, *scale = in[1].data, *bias = in[2].data, *mean = in[3].data,
                *var = in[4].data;
    float *y = out[0].data;
    if (espl__is_empty(&out[0])) return;
    for (int64_t n = 0; n < shape->dim[0]; n++)
        for (int64_t c = 0; c < channels; c++, x += plane, y += plane) {
            float factor = scale[c] / sqrtf(var[c] + epsilon);
            for (int64_t i = 0; i < plane; i++) y[i] = (x[i] - mean[c]) * factor + bias[c];
        }
}

const espl__op espl__op_BatchNormalization = {
    .name = "BatchNormalization", .domain = "", .min_inputs = 5, .max_inputs = 5, .min_outputs = 1, .max_outputs = 5,
    .since = 7, .until = 21, .infer = infer, .eval = eval, .quant = ESPL__QUANT_FLOAT,
};
