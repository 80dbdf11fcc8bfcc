/* ConvInteger: a convolution of codes of 8 bits less their zero points, into s32. What is padded is a zero
 * point. */
#include "ops/ops.h"

#include <inttypes.h>

#define CODES (ESPL__T(U8) | ESPL__T(S8))

/* One zero point, or (of the weights) one for each output channel. */
static espl_status check_zero(const espl__node *node, int input, int64_t channels, espl_diag *diag) {
    const espl__value *z = espl__in(node, input);
    if (!z || !z->known_rank || espl_shape_count(&z->shape) == 1 || espl_shape_count(&z->shape) < 0)
        return ESPL_OK;
    if (input == 3 && z->shape.rank == 1 && espl__dims_agree(z->shape.dim[0], channels)) return ESPL_OK;
    return espl__fail(diag, ESPL_SHAPE,
                      "ConvInteger: input %d is neither one zero point nor one for each output channel",
                      input);
}

static espl_status infer(const espl__node *node, espl_diag *diag) {
    espl_status status;
    espl__window w;
    ESPL_TRY(espl__op_begin(node, diag));
    for (int i = 0; i < 2; i++) {
        ESPL_TRY(espl__check_dtype(node, i, CODES, diag));
        ESPL_TRY(espl__check_same_dtype(node, i, i + 2, diag));
    }
    const espl__value *x = espl__in(node, 0), *weights = espl__in(node, 1);
    if (!x->known_rank || !weights->known_rank) return espl__set_unknown(node, 0, ESPL_S32);
    ESPL_TRY(espl__window_resolve(node, &x->shape, &weights->shape, &w, diag));
    const int64_t *wd = weights->shape.dim, *xd = x->shape.dim, group = espl__attr_int(node, "group", 1);
    if (group < 1 || (wd[0] >= 0 && (wd[0] == 0 || wd[0] % group != 0)) ||
        (xd[1] >= 0 && wd[1] >= 0 && (xd[1] % group != 0 || xd[1] / group != wd[1])))
        return espl__fail(diag, ESPL_SHAPE,
                          "ConvInteger: %" PRId64 " input and %" PRId64
                          " output channels do not divide into %" PRId64 " groups",
                          xd[1], wd[0], group);
    ESPL_TRY(check_zero(node, 2, wd[0], diag));
    ESPL_TRY(check_zero(node, 3, wd[0], diag));
    espl_shape y = {.rank = x->shape.rank, .dim = {xd[0], wd[0]}};
    for (int i = 0; i < w.rank; i++) y.dim[2 + i] = w.out[i];
    status = espl__set_out(node, 0, ESPL_S32, &y, diag);
done:
    return status;
}

static int code_at(const espl_tensor *t, int64_t i) {
    return t->dtype == ESPL_S8 ? ((const int8_t *)t->data)[i] : ((const uint8_t *)t->data)[i];
}

static int zero_at(const espl__node *node, const espl_tensor *in, int input, int64_t channel) {
    if (node->input_count <= input || !in[input].data) return 0;
    return code_at(&in[input], espl_shape_count(&in[input].shape) == 1 ? 0 : channel);
}

/* Adds what one tap, a number, contributes to a plane of outputs; sums wrap. */
static void add_tap(const espl__window *w, const int64_t *tap, const espl_tensor *x, int64_t base, int zero,
                    int weight, uint32_t *y) {
    int64_t lo[3], hi[3], offset[3];
    for (int i = 0; i < 3; i++) {
        offset[i] = tap[i] * w->dilation[i] - w->begin[i];
        espl__window_valid(offset[i], w->stride[i], w->in[i], w->out[i], &lo[i], &hi[i]);
    }
    for (int64_t d = lo[0]; d < hi[0]; d++)
        for (int64_t h = lo[1]; h < hi[1]; h++) {
            int64_t id = d * w->stride[0] + offset[0], ih = h * w->stride[1] + offset[1];
            int64_t from = base + (id * w->in[1] + ih) * w->in[2] + offset[2];
            uint32_t *to = y + (d * w->out[1] + h) * w->out[2];
            for (int64_t i = lo[2]; i < hi[2]; i++)
                to[i] += (uint32_t)((code_at(x, from + i * w->stride[2]) - zero) * weight);
        }
}

static void eval(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)scratch;
    espl__window w;
    if (espl__is_empty(&out[0]) ||
        espl__window_resolve(node, &in[0].shape, &in[1].shape, &w, NULL) != ESPL_OK)
        return;
    espl__window_lift(&w);
    const int64_t m = in[1].shape.dim[0], c = in[1].shape.dim[1], group = espl__attr_int(node, "group", 1);
    const int64_t in_plane = w.in[0] * w.in[1] * w.in[2], out_plane = w.out[0] * w.out[1] * w.out[2];
    const int64_t taps = w.kernel[0] * w.kernel[1] * w.kernel[2];
    const int x_zero = zero_at(node, in, 2, 0);
    uint32_t *y = out[0].data;
    memset(y, 0, espl__tensor_bytes(&out[0]));
    for (int64_t n = 0; n < in[0].shape.dim[0]; n++)
        for (int64_t o = 0; o < m; o++, y += out_plane)
            for (int64_t i = 0; i < c * taps; i++) {
                int64_t rest = i % taps, plane = (n * group + o / (m / group)) * c + i / taps;
                int64_t tap[3] = {rest / (w.kernel[1] * w.kernel[2]), rest / w.kernel[2] % w.kernel[1],
                                  rest % w.kernel[2]};
                int weight = code_at(&in[1], o * c * taps + i) - zero_at(node, in, 3, o);
                add_tap(&w, tap, &in[0], plane * in_plane, x_zero, weight, y);
            }
}

static int64_t macs(const espl__node *node) {
    const espl_shape *w = &node->inputs[1]->shape, *y = &node->outputs[0]->shape;
    return espl__mul_sat(espl__dims_product(y, 0, y->rank), espl__dims_product(w, 1, w->rank));
}

const espl__op espl__op_ConvInteger = {
    .name = "ConvInteger",
    .domain = "",
    .min_inputs = 2,
    .max_inputs = 4,
    .min_outputs = 1,
    .max_outputs = 1,
    .since = 10,
    .until = 21,
    .infer = infer,
    .eval = eval,
    .macs = macs,
};
