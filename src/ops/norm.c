/* Normalisations over rows: InstanceNormalization, GroupNormalization, LayerNormalization,
 * MeanVarianceNormalization, LpNormalization, LRN. Mean and variance are taken in two passes. */
#include "kernels/kernels.h"
#include "ops/ops.h"

#include <inttypes.h>
#include <math.h>

static void statistics(const float *x, int64_t n, float *mean, float *variance) {
    float sum = 0, squares = 0;
    for (int64_t i = 0; i < n; i++) sum += x[i];
    *mean = sum / (float)n;
    for (int64_t i = 0; i < n; i++) squares += (x[i] - *mean) * (x[i] - *mean);
    *variance = squares / (float)n;
}

static espl_status check_all_f32(const espl__node *node, espl_diag *diag) {
    espl_status status;
    ESPL_TRY(espl__op_begin(node, diag));
    for (int i = 0; i < node->input_count; i++) ESPL_TRY(espl__check_dtype(node, i, ESPL__T(F32), diag));
done:
    return status;
}

/* --- InstanceNormalization, GroupNormalization ----------------------------------------------- */

static espl_status check_scales(const espl__node *node, int64_t count, espl_diag *diag) {
    espl_status status = ESPL_OK;
    for (int i = 1; i < 3; i++) {
        ESPL_TRY(espl__check_rank(node, i, 1, 1, diag));
        if (node->inputs[i]->known_rank && !espl__dims_agree(node->inputs[i]->shape.dim[0], count))
            return espl__fail(diag, ESPL_SHAPE,
                              "%s: input %d has %" PRId64 " values where %" PRId64 " are expected",
                              node->op->name, i, node->inputs[i]->shape.dim[0], count);
    }
done:
    return status;
}

static espl_status infer_instance(const espl__node *node, espl_diag *diag) {
    espl_status status;
    ESPL_TRY(check_all_f32(node, diag));
    ESPL_TRY(espl__check_rank(node, 0, 3, ESPL_MAX_RANK, diag));
    const espl__value *x = espl__in(node, 0);
    ESPL_TRY(check_scales(node, x->known_rank ? x->shape.dim[1] : ESPL_DIM_UNKNOWN, diag));
    status = espl__set_like_input(node, ESPL_F32, diag);
done:
    return status;
}

/* Scale and bias stand per group before opset 21 and per channel since. */
static espl_status infer_group(const espl__node *node, espl_diag *diag) {
    espl_status status;
    ESPL_TRY(check_all_f32(node, diag));
    ESPL_TRY(espl__check_rank(node, 0, 3, ESPL_MAX_RANK, diag));
    const espl__value *x = espl__in(node, 0);
    int64_t groups = espl__attr_int(node, "num_groups", 0),
            channels = x->known_rank ? x->shape.dim[1] : ESPL_DIM_UNKNOWN;
    if (groups < 1 || (channels >= 0 && channels % groups != 0))
        return espl__fail(diag, ESPL_SHAPE,
                          "GroupNormalization: %" PRId64 " channels do not divide into %" PRId64 " groups",
                          channels, groups);
    ESPL_TRY(check_scales(node, node->opset < 21 ? groups : channels, diag));
    status = espl__set_like_input(node, ESPL_F32, diag);
done:
    return status;
}

/* `per_group`: scale and bias are indexed by group, else by channel. */
static void normalise_groups(const espl__node *node, const espl_tensor *in, espl_tensor *out, int64_t groups,
                             bool per_group) {
    const espl_shape *shape = &in[0].shape;
    int64_t channels = shape->dim[1], plane = espl__dims_product(shape, 2, shape->rank),
            each = channels / groups;
    float epsilon = espl__attr_float(node, "epsilon", 1e-5f), mean, variance;
    const float *x = in[0].data, *scale = in[1].data, *bias = in[2].data;
    float *y = out[0].data;
    if (espl__is_empty(&out[0])) return;
    for (int64_t n = 0; n < shape->dim[0]; n++)
        for (int64_t g = 0; g < groups; g++, x += each * plane, y += each * plane) {
            statistics(x, each * plane, &mean, &variance);
            float factor = 1.0f / sqrtf(variance + epsilon);
            for (int64_t c = 0; c < each; c++) {
                int64_t at = per_group ? g : g * each + c;
                for (int64_t i = c * plane; i < (c + 1) * plane; i++)
                    y[i] = (x[i] - mean) * factor * scale[at] + bias[at];
            }
        }
}
static void eval_instance(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)scratch;
    if (in[0].shape.dim[1] > 0) normalise_groups(node, in, out, in[0].shape.dim[1], false);
}
static void eval_group(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)scratch;
    normalise_groups(node, in, out, espl__attr_int(node, "num_groups", 1), node->opset < 21);
}

/* --- LayerNormalization ---------------------------------------------------------------------- */

/* Mean and InvStdDev have ones where the normalised axes were. Scale and bias broadcast to the normalised
 * shape; the common case, where they have it, is the one that is supported, and one element. */
static espl_status infer_layer(const espl__node *node, espl_diag *diag) {
    espl_status status;
    int axis;
    ESPL_TRY(check_all_f32(node, diag));
    const espl__value *x = espl__in(node, 0);
    if (espl__attr_int(node, "stash_type", 1) != 1)
        return espl__fail(diag, ESPL_UNSUPPORTED,
                          "LayerNormalization: a stash_type other than f32 is not supported");
    if (!x->known_rank) {
        for (int i = 0; i < node->output_count; i++) status = espl__set_unknown(node, i, ESPL_F32);
        return status;
    }
    ESPL_TRY(espl__axis(espl__attr_int(node, "axis", -1), x->shape.rank, &axis, diag));
    espl_shape rest = x->shape, part = {.rank = x->shape.rank - axis};
    for (int i = axis; i < rest.rank; i++) {
        part.dim[i - axis] = rest.dim[i];
        rest.dim[i] = 1;
    }
    for (int i = 1; i < 3; i++) {
        const espl__value *v = espl__in(node, i);
        int64_t n = v && v->known_rank ? espl_shape_count(&v->shape) : -1, want = espl_shape_count(&part);
        if (n >= 0 && want >= 0 && n != want && n != 1)
            return espl__fail(diag, ESPL_SHAPE,
                              "LayerNormalization: input %d has %" PRId64 " values where %" PRId64
                              " are expected",
                              i, n, want);
    }
    ESPL_TRY(espl__set_out(node, 0, ESPL_F32, &x->shape, diag));
    ESPL_TRY(espl__set_out(node, 1, ESPL_F32, &rest, diag));
    status = espl__set_out(node, 2, ESPL_F32, &rest, diag);
done:
    return status;
}

/* Rows that are just normalised, by the kernel; statistics that are asked for, and single factors, here. */
static void eval_layer(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)scratch;
    const espl_shape *shape = &in[0].shape;
    int axis;
    if (espl__axis(espl__attr_int(node, "axis", -1), shape->rank, &axis, NULL) != ESPL_OK) return;
    int64_t rows = espl__dims_product(shape, 0, axis), n = espl__dims_product(shape, axis, shape->rank);
    float epsilon = espl__attr_float(node, "epsilon", 1e-5f), mean, variance;
    const float *x = in[0].data, *scale = in[1].data, *bias = node->input_count > 2 ? in[2].data : NULL;
    int64_t scale_step = espl_shape_count(&in[1].shape) > 1,
            bias_step = bias && espl_shape_count(&in[2].shape) > 1;
    float *y = out[0].data, *means = node->output_count > 1 ? out[1].data : NULL;
    float *factors = node->output_count > 2 ? out[2].data : NULL;
    const espl__layernorm whole = {scale, bias, epsilon};
    bool plain = !means && !factors && scale_step && (!bias || bias_step);
    if (n == 0) return;
    for (int64_t r = 0; r < rows; r++, x += n, y += n) {
        if (plain) {
            espl__kernels_get()->layernorm_f32(&whole, x, y, n);
            continue;
        }
        statistics(x, n, &mean, &variance);
        float factor = 1.0f / sqrtf(variance + epsilon);
        for (int64_t i = 0; i < n; i++) {
            y[i] = (x[i] - mean) * factor * scale[i * scale_step];
            if (bias) y[i] += bias[i * bias_step];
        }
        if (means) means[r] = mean;
        if (factors) factors[r] = factor;
    }
}

/* --- LRN ------------------------------------------------------------------------------------- */

static espl_status infer_lrn(const espl__node *node, espl_diag *diag) {
    espl_status status;
    ESPL_TRY(check_all_f32(node, diag));
    ESPL_TRY(espl__check_rank(node, 0, 2, ESPL_MAX_RANK, diag));
    if (espl__attr_int(node, "size", 0) < 1)
        return espl__fail(diag, ESPL_FORMAT, "LRN: size must be at least 1");
    status = espl__set_like_input(node, ESPL_F32, diag);
done:
    return status;
}

/* y = x / (bias + alpha / size * sum of squares of `size` neighbouring channels) ^ beta */
static void eval_lrn(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)scratch;
    const espl_shape *shape = &in[0].shape;
    float alpha = espl__attr_float(node, "alpha", 1e-4f), beta = espl__attr_float(node, "beta", 0.75f);
    float bias = espl__attr_float(node, "bias", 1.0f);
    int64_t size = espl__attr_int(node, "size", 1), channels = shape->dim[1];
    int64_t before = ESPL_MIN((size - 1) / 2, channels),
            after = ESPL_MIN(size - 1 - (size - 1) / 2, channels);
    int64_t plane = espl__dims_product(shape, 2, shape->rank);
    if (espl__is_empty(&out[0])) return;
    for (int64_t n = 0; n < shape->dim[0]; n++) {
        const float *x = (const float *)in[0].data + n * channels * plane;
        float *y = (float *)out[0].data + n * channels * plane;
        for (int64_t c = 0; c < channels; c++)
            for (int64_t i = 0; i < plane; i++) {
                float sum = 0;
                for (int64_t k = ESPL_MAX(c - before, 0); k <= ESPL_MIN(c + after, channels - 1); k++)
                    sum += x[k * plane + i] * x[k * plane + i];
                y[c * plane + i] = x[c * plane + i] / powf(bias + alpha / (float)size * sum, beta);
            }
    }
}

/* --- LpNormalization ------------------------------------------------------------------------- */

static espl_status infer_lp(const espl__node *node, espl_diag *diag) {
    espl_status status;
    int axis;
    ESPL_TRY(check_all_f32(node, diag));
    int64_t p = espl__attr_int(node, "p", 2);
    if (p != 1 && p != 2)
        return espl__fail(diag, ESPL_FORMAT, "LpNormalization: p = %" PRId64 " is neither 1 nor 2", p);
    if (node->inputs[0]->known_rank)
        ESPL_TRY(espl__axis(espl__attr_int(node, "axis", -1), node->inputs[0]->shape.rank, &axis, diag));
    status = espl__set_like_input(node, ESPL_F32, diag);
done:
    return status;
}

/* A norm of 0 leaves zeros. */
static void eval_lp(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)scratch;
    const espl_shape *shape = &in[0].shape;
    int axis;
    if (espl__axis(espl__attr_int(node, "axis", -1), shape->rank, &axis, NULL) != ESPL_OK) return;
    bool squares = espl__attr_int(node, "p", 2) == 2;
    int64_t outer = espl__dims_product(shape, 0, axis),
            inner = espl__dims_product(shape, axis + 1, shape->rank);
    int64_t n = shape->dim[axis];
    if (espl__is_empty(&out[0])) return;
    for (int64_t o = 0; o < outer; o++)
        for (int64_t i = 0; i < inner; i++) {
            const float *x = (const float *)in[0].data + o * n * inner + i;
            float *y = (float *)out[0].data + o * n * inner + i, sum = 0;
            for (int64_t k = 0; k < n; k++)
                sum += squares ? x[k * inner] * x[k * inner] : fabsf(x[k * inner]);
            float norm = squares ? sqrtf(sum) : sum;
            for (int64_t k = 0; k < n; k++) y[k * inner] = norm > 0 ? x[k * inner] / norm : 0.0f;
        }
}

/* --- MeanVarianceNormalization --------------------------------------------------------------- */

static espl_status mvn_axes(const espl__node *node, int rank, bool *reduced, espl_diag *diag) {
    espl__ints axes;
    espl_status status = espl__read_ints(node, "axes", -1, &axes, diag);
    if (status != ESPL_OK) return status;
    if (!axes.present) axes = (espl__ints){.v = {0, 2, 3}, .count = 3, .known = true};
    return espl__axes_mask(&axes, rank, reduced, diag);
}

static espl_status infer_mvn(const espl__node *node, espl_diag *diag) {
    espl_status status;
    bool reduced[ESPL_MAX_RANK];
    ESPL_TRY(check_all_f32(node, diag));
    if (node->inputs[0]->known_rank) ESPL_TRY(mvn_axes(node, node->inputs[0]->shape.rank, reduced, diag));
    status = espl__set_like_input(node, ESPL_F32, diag);
done:
    return status;
}

/* Sums per kept position; scratch holds the mean and the squared deviations. */
static void eval_mvn(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    const espl_shape *shape = &in[0].shape;
    bool reduced[ESPL_MAX_RANK];
    if (mvn_axes(node, shape->rank, reduced, NULL) != ESPL_OK) return;
    espl_shape kept = *shape;
    for (int i = 0; i < shape->rank; i++)
        if (reduced[i]) kept.dim[i] = 1;
    const espl_shape *operands[] = {&kept};
    int64_t results = espl_shape_count(&kept), total = espl_shape_count(shape);
    if (total == 0) return; /* nor is there scratch */
    float *mean = scratch, *deviation = mean + results, *y = out[0].data;
    const float *x = in[0].data;
    float each = (float)(total / results);
    memset(scratch, 0, 2 * sizeof(float) * (size_t)results);
    for (int pass = 0; pass < 3; pass++) {
        espl__rows rows;
        for (espl__rows_begin(&rows, shape, operands, 1); !rows.done; espl__rows_next(&rows))
            for (int64_t i = 0; i < rows.n; i++) {
                int64_t to = rows.offset[0] + i * rows.step[0], at = rows.out + i;
                float off = x[at] - mean[to];
                if (pass == 0) mean[to] += x[at];
                if (pass == 1) deviation[to] += off * off;
                if (pass == 2) y[at] = off / (sqrtf(deviation[to] / each) + 1e-9f);
            }
        for (int64_t i = 0; pass == 0 && i < results; i++) mean[i] /= each;
    }
}

static uint64_t scratch_mvn(const espl__node *node) {
    return 2 * sizeof(float) * (uint64_t)espl_shape_count(&node->inputs[0]->shape);
}

#define DEFINE_NORM(Name, inputs_min, inputs_max, outputs_max, first, infer_fn, eval_fn, scratch_fn) \
    const espl__op espl__op_##Name = {.name = #Name,                                                 \
                                      .domain = "",                                                  \
                                      .min_inputs = inputs_min,                                      \
                                      .max_inputs = inputs_max,                                      \
                                      .min_outputs = 1,                                              \
                                      .max_outputs = outputs_max,                                    \
                                      .since = first,                                                \
                                      .until = 21,                                                   \
                                      .infer = infer_fn,                                             \
                                      .eval = eval_fn,                                               \
                                      .scratch_bytes = scratch_fn,                                   \
                                      .quant = ESPL__QUANT_FLOAT};
DEFINE_NORM(InstanceNormalization, 3, 3, 1, 6, infer_instance, eval_instance, NULL)
DEFINE_NORM(GroupNormalization, 3, 3, 1, 18, infer_group, eval_group, NULL)
DEFINE_NORM(LayerNormalization, 2, 3, 3, 17, infer_layer, eval_layer, NULL)
DEFINE_NORM(LRN, 1, 1, 1, 1, infer_lrn, eval_lrn, NULL)
DEFINE_NORM(LpNormalization, 1, 1, 1, 1, infer_lp, eval_lp, NULL)
DEFINE_NORM(MeanVarianceNormalization, 1, 1, 1, 9, infer_mvn, eval_mvn, scratch_mvn)
