/* BatchNormalization: y = (x - mean) / sqrt(var + epsilon) * scale + B, per channel. In training mode mean and variance
 * are those of the batch, and the second and third output are the running ones after it:
 *
 *   running = momentum running + (1 - momentum) batch
 *
 * A model that is given so is run so: its first output is a function of its inputs, as all others are. */
#include "ops/ops.h"

#include <inttypes.h>
#include <math.h>

static bool trains(const espl__node *node) { return espl__attr_int(node, "training_mode", 0) != 0; }

/* Before operator set 14 it is further outputs that say that a node trains. */
static espl_status check_mode(const espl__node *node, espl_diag *diag) {
    int outputs = node->output_count;
    while (outputs > 1 && !node->outputs[outputs - 1]) outputs--;
    if (node->opset < 14 && outputs > 1)
        return espl__fail(diag, ESPL_UNSUPPORTED, "BatchNormalization: training mode is supported from operator set 14 "
                          "on; export for inference");
    if (outputs > 3 || (outputs > 1 && !trains(node)))
        return espl__fail(diag, ESPL_FORMAT, "BatchNormalization: has %d outputs", outputs);
    if (espl__attr_int(node, "spatial", 1) == 0)
        return espl__fail(diag, ESPL_UNSUPPORTED, "BatchNormalization: spatial = 0 is not supported");
    return ESPL_OK;
}

static espl_status infer(const espl__node *node, espl_diag *diag) {
    espl_status status;
    ESPL_TRY(espl__op_begin(node, diag));
    for (int i = 0; i < 5; i++) ESPL_TRY(espl__check_dtype(node, i, ESPL__T(F32), diag));
    for (int i = 1; i < 5; i++) ESPL_TRY(espl__check_rank(node, i, 1, 1, diag));
    ESPL_TRY(espl__check_rank(node, 0, 1, ESPL_MAX_RANK, diag));
    ESPL_TRY(check_mode(node, diag));
    const espl__value *x = espl__in(node, 0);
    int64_t channels = !x->known_rank ? ESPL_DIM_UNKNOWN : x->shape.rank > 1 ? x->shape.dim[1] : 1;
    for (int i = 1; i < 5; i++)
        if (node->inputs[i]->known_rank && !espl__dims_agree(node->inputs[i]->shape.dim[0], channels))
            return espl__fail(diag, ESPL_SHAPE,
                              "BatchNormalization: input %d has %" PRId64 " values for %" PRId64 " channels",
                              i, node->inputs[i]->shape.dim[0], channels);
    for (int i = 1; i < 3; i++) ESPL_TRY(espl__set_out(node, i, ESPL_F32, &(espl_shape){1, {channels}}, diag));
    status = espl__set_like_input(node, ESPL_F32, diag);
done:
    return status;
}

/* Mean and variance (of n, not n - 1) of one channel over the batch. */
static void measure(const float *x, int64_t batch, int64_t step, int64_t plane, double *mean, double *var) {
    double sum = 0, squares = 0, n = (double)batch * (double)plane;
    for (int64_t b = 0; b < batch; b++)
        for (int64_t i = 0; i < plane; i++) sum += (double)x[b * step + i];
    *mean = sum / n;
    for (int64_t b = 0; b < batch; b++)
        for (int64_t i = 0; i < plane; i++) {
            double d = (double)x[b * step + i] - *mean;
            squares += d * d;
        }
    *var = squares / n;
}

static void move_running(const espl__node *node, int output, const espl_tensor *in, espl_tensor *out, int64_t channel,
                         double batch) {
    float momentum = espl__attr_float(node, "momentum", 0.9f);
    if (node->output_count <= output || !out[output].data) return;
    float running = ((const float *)in[output + 2].data)[channel];
    ((float *)out[output].data)[channel] = running * momentum + (float)batch * (1.0f - momentum);
}

static void eval(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)scratch;
    const espl_shape *shape = &in[0].shape;
    float epsilon = espl__attr_float(node, "epsilon", 1e-5f);
    int64_t channels = shape->rank > 1 ? shape->dim[1] : 1, plane = espl__dims_product(shape, 2, shape->rank);
    int64_t batch = shape->dim[0], step = channels * plane;
    const float *x = in[0].data, *scale = in[1].data, *bias = in[2].data;
    float *y = out[0].data;
    if (espl__is_empty(&out[0])) return;
    for (int64_t c = 0; c < channels; c++, x += plane, y += plane) {
        float mean = ((const float *)in[3].data)[c], var = ((const float *)in[4].data)[c];
        if (trains(node)) {
            double batch_mean, batch_var;
            measure(x, batch, step, plane, &batch_mean, &batch_var);
            move_running(node, 1, in, out, c, batch_mean);
            move_running(node, 2, in, out, c, batch_var);
            mean = (float)batch_mean;
            var = (float)batch_var;
        }
        float factor = scale[c] / sqrtf(var + epsilon);
        for (int64_t b = 0; b < batch; b++)
            for (int64_t i = 0; i < plane; i++) y[b * step + i] = (x[b * step + i] - mean) * factor + bias[c];
    }
}

const espl__op espl__op_BatchNormalization = {
    .name = "BatchNormalization", .domain = "", .min_inputs = 5, .max_inputs = 5, .min_outputs = 1, .max_outputs = 5,
    .since = 7, .until = 21, .infer = infer, .eval = eval, .quant = ESPL__QUANT_FLOAT,
};
