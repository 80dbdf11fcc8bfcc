/* ReverseSequence: the first sequence_lens[b] steps of each sample b in reverse order, the others as they
 * are. Axes 0 and 1 are time and batch, one way or the other. */
#include "ops/ops.h"

#include <inttypes.h>

static espl_status infer(const espl__node *node, espl_diag *diag) {
    espl_status status;
    ESPL_TRY(espl__op_begin(node, diag));
    ESPL_TRY(espl__check_rank(node, 0, 2, ESPL_MAX_RANK, diag));
    ESPL_TRY(espl__check_rank(node, 1, 1, 1, diag));
    ESPL_TRY(espl__check_dtype(node, 1, ESPL__T(S64), diag));
    int64_t batch = espl__attr_int(node, "batch_axis", 1), time = espl__attr_int(node, "time_axis", 0);
    if (batch < 0 || batch > 1 || time != 1 - batch)
        return espl__fail(diag, ESPL_FORMAT,
                          "ReverseSequence: batch_axis %" PRId64 " and time_axis %" PRId64
                          " are not 0 and 1, each once",
                          batch, time);
    const espl__value *x = node->inputs[0], *lengths = node->inputs[1];
    if (x->known_rank && lengths->known_rank && !espl__dims_agree(lengths->shape.dim[0], x->shape.dim[batch]))
        return espl__fail(diag, ESPL_SHAPE, "ReverseSequence: %" PRId64 " lengths for %" PRId64 " samples",
                          lengths->shape.dim[0], x->shape.dim[batch]);
    for (int64_t i = 0; x->known_rank && lengths->constant && i < lengths->shape.dim[0]; i++) {
        int64_t n = ((const int64_t *)lengths->constant->data)[i];
        if (n < 0 || (x->shape.dim[time] >= 0 && n > x->shape.dim[time]))
            return espl__fail(diag, ESPL_SHAPE, "ReverseSequence: a length of %" PRId64 " is out of range",
                              n);
    }
    status = espl__set_like_input(node, x->dtype, diag);
done:
    return status;
}

/* Lengths that only a run knows end at the number of steps. */
static void eval(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)scratch;
    const espl_shape *x = &in[0].shape;
    int batch_axis = (int)espl__attr_int(node, "batch_axis", 1);
    int64_t batch = x->dim[batch_axis], steps = x->dim[1 - batch_axis];
    size_t bytes = (size_t)espl__dims_product(x, 2, x->rank) * espl_dtype_bytes(in[0].dtype);
    int64_t sample = batch_axis == 0 ? steps : 1, step = batch_axis == 0 ? 1 : batch;
    if (espl__is_empty(&out[0])) return;
    for (int64_t b = 0; b < batch; b++) {
        int64_t n = ESPL_MIN(((const int64_t *)in[1].data)[b], steps);
        for (int64_t t = 0; t < steps; t++) {
            int64_t from = t < n ? n - 1 - t : t;
            memcpy((char *)out[0].data + (size_t)(b * sample + t * step) * bytes,
                   (const char *)in[0].data + (size_t)(b * sample + from * step) * bytes, bytes);
        }
    }
}

const espl__op espl__op_ReverseSequence = {
    .name = "ReverseSequence",
    .domain = "",
    .min_inputs = 2,
    .max_inputs = 2,
    .min_outputs = 1,
    .max_outputs = 1,
    .since = 10,
    .until = 21,
    .infer = infer,
    .eval = eval,
    .quant = ESPL__QUANT_MOVE,
};
