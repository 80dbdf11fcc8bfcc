/* ConvTranspose: every input element spreads over a window of the output. Weights are (C, M / group,
 * spatial...). */
#include "ops/ops.h"

#include <inttypes.h>


/* Without output_shape: out = stride (in - 1) + output_padding + extent of the kernel - pads. With it, and
 * with auto_pad SAME (where out = in * stride), the pads follow from the size; the odd element goes to the
 * beginning unless SAME_UPPER. */
espl_status espl__window_transposed(const espl__node *node, const espl_shape *x, const espl_shape *weights,
                           espl__window *w, espl_diag *diag) {
    espl_status status;
    int64_t extra[ESPL__MAX_SPATIAL] = {0}, wanted[ESPL_MAX_RANK];
    ESPL_TRY(espl__window_attrs(node, x, weights, w, diag));
    const char *mode = espl__attr_string(node, "auto_pad", "NOTSET");
    bool upper = strcmp(mode, "SAME_UPPER") == 0, lower = strcmp(mode, "SAME_LOWER") == 0;
    bool valid = strcmp(mode, "VALID") == 0;
    if (!upper && !lower && !valid && strcmp(mode, "NOTSET") != 0)
        return espl__fail(diag, ESPL_FORMAT, "ConvTranspose: auto_pad '%s' is not known", mode);
    int extras = espl__attr_ints(node, "output_padding", extra, ESPL__MAX_SPATIAL);
    int sizes = espl__attr_ints(node, "output_shape", wanted, ESPL_MAX_RANK);
    if ((extras && extras != w->rank) || (sizes && sizes != w->rank && sizes != w->rank + 2))
        return espl__fail(diag, ESPL_SHAPE,
                          "ConvTranspose: output_padding or output_shape has the wrong length");
    for (int i = 0; i < w->rank; i++) {
        if (extra[i] < 0 || extra[i] > INT32_MAX)
            return espl__fail(diag, ESPL_FORMAT,
                              "ConvTranspose: an output padding of %" PRId64 " is not possible", extra[i]);
        if (valid) w->begin[i] = w->end[i] = 0;
        if (w->in[i] < 0) continue;
        if (w->in[i] > ESPL__MAX_EXTENT / ESPL_MAX(w->stride[i], 1))
            return espl__fail(diag, ESPL_LIMIT, "ConvTranspose: the result is too large");
        int64_t full =
            w->stride[i] * (ESPL_MAX(w->in[i], 1) - 1) + extra[i] + (w->kernel[i] - 1) * w->dilation[i] + 1;
        if (full > ESPL__MAX_EXTENT) return espl__fail(diag, ESPL_LIMIT, "ConvTranspose: the result is too large");
        if (!sizes && !upper && !lower) {
            w->out[i] = full - w->begin[i] - w->end[i];
        } else {
            w->out[i] = sizes ? ESPL_MAX(wanted[sizes - w->rank + i], 0) : w->in[i] * w->stride[i];
            int64_t pad = ESPL_MAX(full - ESPL_MIN(w->out[i], full), 0);
            w->begin[i] = upper ? pad / 2 : pad - pad / 2;
            w->end[i] = pad - w->begin[i];
        }
        if (w->out[i] < 1 || w->out[i] > ESPL__MAX_EXTENT)
            return espl__fail(diag, ESPL_SHAPE,
                              "ConvTranspose: spatial axis %d would have %" PRId64 " elements", i, w->out[i]);
    }
done:
    return status;
}

static espl_status infer(const espl__node *node, espl_diag *diag) {
    espl_status status;
    espl__window w;
    ESPL_TRY(espl__op_begin(node, diag));
    for (int i = 0; i < 3; i++) ESPL_TRY(espl__check_dtype(node, i, ESPL__T(F32), diag));
    ESPL_TRY(espl__check_rank(node, 2, 1, 1, diag));
    const espl__value *x = espl__in(node, 0), *weights = espl__in(node, 1), *bias = espl__in(node, 2);
    if (!x->known_rank || !weights->known_rank) return espl__set_unknown(node, 0, ESPL_F32);
    ESPL_TRY(espl__window_transposed(node, &x->shape, &weights->shape, &w, diag));
    const int64_t *xd = x->shape.dim, *wd = weights->shape.dim;
    int64_t group = espl__attr_int(node, "group", 1);
    if (!espl__dims_agree(xd[1], wd[0]))
        return espl__fail(diag, ESPL_SHAPE,
                          "ConvTranspose: the input has %" PRId64 " channels and the weights take %" PRId64,
                          xd[1], wd[0]);
    if (group < 1 || (wd[0] >= 0 && (wd[0] == 0 || wd[0] % group != 0)) ||
        (wd[1] > 0 && group > INT64_MAX / wd[1]))
        return espl__fail(diag, ESPL_SHAPE,
                          "ConvTranspose: %" PRId64 " channels do not divide into %" PRId64 " groups", wd[0],
                          group);
    int64_t channels = wd[1] < 0 ? ESPL_DIM_UNKNOWN : wd[1] * group;
    if (bias && bias->known_rank && !espl__dims_agree(bias->shape.dim[0], channels))
        return espl__fail(diag, ESPL_SHAPE,
                          "ConvTranspose: %" PRId64 " biases for %" PRId64 " output channels",
                          bias->shape.dim[0], channels);
    espl_shape y = {.rank = x->shape.rank, .dim = {xd[0], channels}};
    for (int i = 0; i < w.rank; i++) y.dim[2 + i] = w.out[i];
    status = espl__set_out(node, 0, ESPL_F32, &y, diag);
done:
    return status;
}

/* Spreads one input plane over one output plane. For each tap the outputs it reaches form a grid of the
 * input's shape. */
static void add_plane(const espl__window *w, const float *x, const float *kernel, float *y) {
    int64_t lo[3], hi[3], offset[3], k[3];
    for (k[0] = 0; k[0] < w->kernel[0]; k[0]++)
        for (k[1] = 0; k[1] < w->kernel[1]; k[1]++)
            for (k[2] = 0; k[2] < w->kernel[2]; k[2]++) {
                float weight = kernel[(k[0] * w->kernel[1] + k[1]) * w->kernel[2] + k[2]];
                for (int i = 0; i < 3; i++) {
                    offset[i] = k[i] * w->dilation[i] - w->begin[i];
                    espl__window_valid(offset[i], w->stride[i], w->out[i], w->in[i], &lo[i], &hi[i]);
                }
                for (int64_t d = lo[0]; d < hi[0]; d++)
                    for (int64_t h = lo[1]; h < hi[1]; h++) {
                        const float *from = x + (d * w->in[1] + h) * w->in[2];
                        int64_t od = d * w->stride[0] + offset[0], oh = h * w->stride[1] + offset[1];
                        int64_t base = (od * w->out[1] + oh) * w->out[2] + offset[2];
                        for (int64_t i = lo[2]; i < hi[2]; i++)
                            y[base + i * w->stride[2]] += weight * from[i];
                    }
            }
}

static void eval(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)scratch;
    espl__window w;
    if (espl__is_empty(&out[0])) return;
    if (espl__window_transposed(node, &in[0].shape, &in[1].shape, &w, NULL) != ESPL_OK) return;
    espl__window_lift(&w);
    int64_t batch = in[0].shape.dim[0], c = in[1].shape.dim[0], m = in[1].shape.dim[1];
    int64_t group = espl__attr_int(node, "group", 1), c_group = c / group;
    int64_t in_plane = w.in[0] * w.in[1] * w.in[2], out_plane = w.out[0] * w.out[1] * w.out[2];
    int64_t taps = w.kernel[0] * w.kernel[1] * w.kernel[2];
    const float *bias = node->input_count > 2 ? in[2].data : NULL;
    float *y = out[0].data;
    for (int64_t n = 0; n < batch; n++)
        for (int64_t o = 0; o < m * group; o++, y += out_plane) {
            for (int64_t i = 0; i < out_plane; i++) y[i] = bias ? bias[o] : 0.0f;
            for (int64_t i = o / m * c_group; i < (o / m + 1) * c_group; i++)
                add_plane(&w, (const float *)in[0].data + (n * c + i) * in_plane,
                          (const float *)in[1].data + (i * m + o % m) * taps, y);
        }
}

static int64_t macs(const espl__node *node) {
    const espl_shape *x = &node->inputs[0]->shape, *w = &node->inputs[1]->shape;
    return espl__mul_sat(espl__dims_product(x, 0, x->rank), espl__dims_product(w, 1, w->rank));
}

static int weight_axis(const espl__node *node, int input) {
    (void)node;
    return input == 1 ? 1 : -1;
}

static int weight_inner_axis(const espl__node *node, int input) {
    (void)node;
    (void)input;
    return 0;
}

const espl__op espl__op_ConvTranspose = {
    .name = "ConvTranspose", .domain = "", .min_inputs = 2, .max_inputs = 3, .min_outputs = 1, .max_outputs = 1,
    .since = 1, .until = 21, .infer = infer, .eval = eval, .macs = macs, .quant = ESPL__QUANT_FLOAT,
    .weight_inputs = 1u << 1, .bias_inputs = 1u << 2, .weight_axis = weight_axis,
    .weight_inner_axis = weight_inner_axis,
};
