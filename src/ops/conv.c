/* Conv: https://onnx.ai/onnx/operators/onnx__Conv.html, one to three spatial dimensions. */
#include "ops/ops.h"

#include <inttypes.h>

static espl_status infer(const espl__node *node, espl_diag *diag) {
    espl_status status;
    espl__window w;
    ESPL_TRY(espl__op_begin(node, diag));
    for (int i = 0; i < 3; i++) ESPL_TRY(espl__check_dtype(node, i, ESPL__T(F32), diag));
    const espl__value *x = espl__in(node, 0), *weights = espl__in(node, 1), *bias = espl__in(node, 2);
    if (!x->known_rank || !weights->known_rank) return espl__set_unknown(node, 0, ESPL_F32);
    ESPL_TRY(espl__window_resolve(node, &x->shape, &weights->shape, &w, diag));
    const int64_t *wd = weights->shape.dim, *xd = x->shape.dim;
    int64_t group = espl__attr_int(node, "group", 1);
    if (group < 1 || (wd[0] >= 0 && (wd[0] == 0 || wd[0] % group != 0)))
        return espl__fail(diag, ESPL_SHAPE,
                          "Conv: %" PRId64 " output channels do not divide into %" PRId64 " groups", wd[0],
                          group);
    if (xd[1] >= 0 && wd[1] >= 0 && (xd[1] % group != 0 || xd[1] / group != wd[1]))
        return espl__fail(diag, ESPL_SHAPE,
                          "Conv: the input has %" PRId64 " channels and the weights take %" PRId64
                          " in %" PRId64 " groups",
                          xd[1], wd[1], group);
    ESPL_TRY(espl__check_rank(node, 2, 1, 1, diag));
    if (bias && bias->known_rank && !espl__dims_agree(bias->shape.dim[0], wd[0]))
        return espl__fail(diag, ESPL_SHAPE, "Conv: %" PRId64 " biases for %" PRId64 " output channels",
                          bias->shape.dim[0], wd[0]);
    espl_shape y = {.rank = x->shape.rank, .dim = {xd[0], wd[0]}};
    for (int i = 0; i < w.rank; i++) y.dim[2 + i] = w.out[i];
    status = espl__set_out(node, 0, ESPL_F32, &y, diag);
done:
    return status;
}

/* A 1x1 kernel without stride and padding is one long row. */
static void flatten_pointwise(espl__window *w) {
    int64_t pixels = 1;
    for (int i = 0; i < 3; i++) {
        if (w->kernel[i] != 1 || w->stride[i] != 1 || w->begin[i] || w->end[i]) return;
        pixels *= w->in[i];
    }
    for (int i = 0; i < 3; i++) w->in[i] = w->out[i] = i == 2 ? pixels : 1;
}

/* out[0..n) += weight * in[0, stride, 2 stride, ...) */
static void add_row(float *restrict out, const float *restrict in, float weight, int64_t stride, int64_t n) {
    if (stride == 1)
        for (int64_t i = 0; i < n; i++) out[i] += weight * in[i];
    else
        for (int64_t i = 0; i < n; i++) out[i] += weight * in[i * stride];
}

/* Adds one input plane times one kernel plane to one output plane. */
static void add_plane(const espl__window *w, const float *x, const float *kernel, float *y) {
    int64_t lo[3], hi[3], offset[3], k[3];
    for (k[0] = 0; k[0] < w->kernel[0]; k[0]++)
        for (k[1] = 0; k[1] < w->kernel[1]; k[1]++)
            for (k[2] = 0; k[2] < w->kernel[2]; k[2]++) {
                float weight = kernel[(k[0] * w->kernel[1] + k[1]) * w->kernel[2] + k[2]];
                for (int i = 0; i < 3; i++) {
                    offset[i] = k[i] * w->dilation[i] - w->begin[i];
                    espl__window_valid(offset[i], w->stride[i], w->in[i], w->out[i], &lo[i], &hi[i]);
                }
                if (lo[2] == hi[2]) continue;
                for (int64_t d = lo[0]; d < hi[0]; d++)
                    for (int64_t h = lo[1]; h < hi[1]; h++) {
                        int64_t id = d * w->stride[0] + offset[0], ih = h * w->stride[1] + offset[1];
                        const float *in =
                            x + (id * w->in[1] + ih) * w->in[2] + lo[2] * w->stride[2] + offset[2];
                        add_row(y + (d * w->out[1] + h) * w->out[2] + lo[2], in, weight, w->stride[2],
                                hi[2] - lo[2]);
                    }
            }
}

static void eval(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)scratch;
    espl__window w;
    if (espl__is_empty(&out[0])) return;
    if (espl__window_resolve(node, &in[0].shape, &in[1].shape, &w, NULL) != ESPL_OK) return;
    espl__window_lift(&w);
    flatten_pointwise(&w);
    int64_t batch = in[0].shape.dim[0], m = in[1].shape.dim[0], c = in[1].shape.dim[1];
    int64_t group = espl__attr_int(node, "group", 1), m_group = m / group;
    int64_t in_plane = w.in[0] * w.in[1] * w.in[2], out_plane = w.out[0] * w.out[1] * w.out[2];
    int64_t taps = w.kernel[0] * w.kernel[1] * w.kernel[2];
    const float *x = in[0].data, *weights = in[1].data, *bias = node->input_count > 2 ? in[2].data : NULL;
    float *y = out[0].data;
    for (int64_t n = 0; n < batch; n++)
        for (int64_t o = 0; o < m; o++, y += out_plane) {
            const float *group_x = x + (n * c * group + o / m_group * c) * in_plane;
            for (int64_t i = 0; i < out_plane; i++) y[i] = bias ? bias[o] : 0.0f;
            for (int64_t i = 0; i < c; i++)
                add_plane(&w, group_x + i * in_plane, weights + (o * c + i) * taps, y);
        }
}

static int64_t macs(const espl__node *node) {
    const espl_shape *w = &node->inputs[1]->shape, *y = &node->outputs[0]->shape;
    return espl__mul_sat(espl__dims_product(y, 0, y->rank), espl__dims_product(w, 1, w->rank));
}

static int weight_axis(const espl__node *node, int input) {
    (void)node;
    return input == 1 ? 0 : -1;
}

const espl__op espl__op_Conv = {
    .name = "Conv", .domain = "", .min_inputs = 2, .max_inputs = 3, .min_outputs = 1, .max_outputs = 1,
    .since = 1, .until = 21, .infer = infer, .eval = eval, .macs = macs, .quant = ESPL__QUANT_COMPUTE,
    .weight_inputs = 1u << 1, .bias_inputs = 1u << 2, .weight_axis = weight_axis,
};
