/* QuantizeLinear and DequantizeLinear, one scale for the tensor or one per index of an axis.
 *   q = saturate(rne(x / scale) + zero),   x = (q - zero) * scale
 * DynamicQuantizeLinear finds scale and zero from the range of x, widened to hold 0:
 *   scale = (max - min) / 255, or 1 if there is no range,   zero = saturate(rne(-min / scale)) */
#include "ops/ops.h"

#include <inttypes.h>
#include <math.h>

#define CODES (ESPL__T(U8) | ESPL__T(S8) | ESPL__T(U16) | ESPL__T(S16))

/* Scale has one element, or as many as the axis. Blocks (opset 21) are refused by name. */
static espl_status check_scale(const espl__node *node, espl_diag *diag) {
    espl_status status = ESPL_OK;
    int axis;
    const char *name = node->op->name;
    const espl__value *x = espl__in(node, 0), *scale = espl__in(node, 1), *zero = espl__in(node, 2);
    if (espl__attr_int(node, "block_size", 0) != 0)
        return espl__fail(diag, ESPL_UNSUPPORTED, "%s: block_size is not supported", name);
    if (zero && zero->known_rank && scale->known_rank) {
        bool fits = zero->shape.rank == scale->shape.rank;
        for (int i = 0; fits && i < scale->shape.rank; i++)
            fits = espl__dims_agree(zero->shape.dim[i], scale->shape.dim[i]);
        if (!fits) return espl__fail(diag, ESPL_SHAPE, "%s: scale and zero point differ in shape", name);
    }
    if (!scale->known_rank || scale->shape.rank == 0 || espl_shape_count(&scale->shape) == 1) return ESPL_OK;
    if (scale->shape.rank != 1)
        return espl__fail(diag, ESPL_UNSUPPORTED, "%s: a scale of %d dimensions is not supported", name,
                          scale->shape.rank);
    if (!x->known_rank) return ESPL_OK;
    ESPL_TRY(espl__axis(espl__attr_int(node, "axis", 1), x->shape.rank, &axis, diag));
    if (!espl__dims_agree(scale->shape.dim[0], x->shape.dim[axis]))
        return espl__fail(diag, ESPL_SHAPE, "%s: %" PRId64 " scales for %" PRId64 " elements of axis %d",
                          name, scale->shape.dim[0], x->shape.dim[axis], axis);
done:
    return status;
}

static espl_status infer_quantize(const espl__node *node, espl_diag *diag) {
    espl_status status;
    espl_dtype dtype = ESPL_U8;
    ESPL_TRY(espl__op_begin(node, diag));
    ESPL_TRY(espl__check_dtype(node, 0, ESPL__T(F32) | ESPL__T(S32), diag));
    ESPL_TRY(espl__check_dtype(node, 1, ESPL__T(F32), diag));
    ESPL_TRY(espl__check_dtype(node, 2, CODES, diag));
    int64_t wanted = espl__attr_int(node, "output_dtype", 0);
    if (wanted != 0 && (!espl__dtype_from_onnx(wanted, &dtype) || !(CODES >> dtype & 1)))
        return espl__fail(diag, ESPL_UNSUPPORTED, "QuantizeLinear: output_dtype %" PRId64 " is not supported",
                          wanted);
    if (espl__in(node, 2)) dtype = node->inputs[2]->dtype;
    ESPL_TRY(check_scale(node, diag));
    status = espl__set_like_input(node, dtype, diag);
done:
    return status;
}

static espl_status infer_dequantize(const espl__node *node, espl_diag *diag) {
    espl_status status;
    ESPL_TRY(espl__op_begin(node, diag));
    ESPL_TRY(espl__check_dtype(node, 0, CODES | ESPL__T(S32), diag));
    ESPL_TRY(espl__check_dtype(node, 1, ESPL__T(F32), diag));
    ESPL_TRY(espl__check_same_dtype(node, 0, 2, diag));
    ESPL_TRY(check_scale(node, diag));
    status = espl__set_like_input(node, ESPL_F32, diag);
done:
    return status;
}

static void code_range(espl_dtype dtype, float *lo, float *hi) {
    bool wide = dtype == ESPL_U16 || dtype == ESPL_S16, sign = dtype == ESPL_S8 || dtype == ESPL_S16;
    float span = wide ? 65536.0f : 256.0f;
    *lo = sign ? -span / 2 : 0;
    *hi = *lo + span - 1;
}

/* Splits the tensor into rows that share a scale: outer x channels x inner. */
static void split(const espl__node *node, const espl_tensor *in, int64_t *outer, int64_t *channels,
                  int64_t *inner) {
    int axis;
    *outer = *channels = 1;
    *inner = espl_shape_count(&in[0].shape);
    if (espl_shape_count(&in[1].shape) == 1) return;
    if (espl__axis(espl__attr_int(node, "axis", 1), in[0].shape.rank, &axis, NULL) != ESPL_OK) return;
    *outer = espl__dims_product(&in[0].shape, 0, axis);
    *channels = in[0].shape.dim[axis];
    *inner = espl__dims_product(&in[0].shape, axis + 1, in[0].shape.rank);
}

static int64_t zero_of(const espl__node *node, const espl_tensor *in, int64_t c) {
    int64_t zero = 0;
    if (node->input_count > 2 && in[2].data)
        espl__load_s64(in[2].dtype, espl__at(in[2].data, in[2].dtype, c), 0, 1, &zero);
    return zero;
}

static void quantize_row(const espl_tensor *in, espl_tensor *out, int64_t at, int64_t n, float scale,
                         float zero) {
    float lo, hi;
    code_range(out->dtype, &lo, &hi);
    for (int64_t i = at; i < at + n; i++) {
        float x =
            in->dtype == ESPL_F32 ? ((const float *)in->data)[i] : (float)((const int32_t *)in->data)[i];
        float q = rintf(x / scale) + zero;
        q = q >= lo ? q : lo; /* NaN gives the smallest code */
        q = q <= hi ? q : hi;
        int64_t code = (int64_t)q;
        espl__store_s64(out->dtype, &code, 1, espl__at_mut(out->data, out->dtype, i));
    }
}

static void dequantize_row(const espl_tensor *in, espl_tensor *out, int64_t at, int64_t n, float scale,
                           int64_t zero) {
    for (int64_t i = at; i < at + n; i++) {
        int64_t code;
        espl__load_s64(in->dtype, espl__at(in->data, in->dtype, i), 0, 1, &code);
        ((float *)out->data)[i] = (float)(code - zero) * scale;
    }
}

static void eval_quantize(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)scratch;
    int64_t outer, channels, inner, at = 0;
    const float *scale = in[1].data;
    if (espl__is_empty(&out[0])) return;
    split(node, in, &outer, &channels, &inner);
    for (int64_t o = 0; o < outer; o++)
        for (int64_t c = 0; c < channels; c++, at += inner)
            quantize_row(&in[0], &out[0], at, inner, scale[c], (float)zero_of(node, in, c));
}

static void eval_dequantize(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)scratch;
    int64_t outer, channels, inner, at = 0;
    const float *scale = in[1].data;
    if (espl__is_empty(&out[0])) return;
    split(node, in, &outer, &channels, &inner);
    for (int64_t o = 0; o < outer; o++)
        for (int64_t c = 0; c < channels; c++, at += inner)
            dequantize_row(&in[0], &out[0], at, inner, scale[c], zero_of(node, in, c));
}

const espl__op espl__op_QuantizeLinear = {
    .name = "QuantizeLinear", .domain = "", .min_inputs = 2, .max_inputs = 3, .min_outputs = 1, .max_outputs = 1,
    .since = 10, .until = 21, .infer = infer_quantize, .eval = eval_quantize,
};
const espl__op espl__op_DequantizeLinear = {
    .name = "DequantizeLinear", .domain = "", .min_inputs = 2, .max_inputs = 3, .min_outputs = 1, .max_outputs = 1,
    .since = 10, .until = 21, .infer = infer_dequantize, .eval = eval_dequantize,
};

/* --- a grid for every run -------------------------------------------------------------------- */

static espl_status infer_dynamic(const espl__node *node, espl_diag *diag) {
    static const espl_shape scalar = {0};
    espl_status status;
    ESPL_TRY(espl__op_begin(node, diag));
    ESPL_TRY(espl__check_dtype(node, 0, ESPL__T(F32), diag));
    ESPL_TRY(espl__set_like_input(node, ESPL_U8, diag));
    ESPL_TRY(espl__set_out(node, 1, ESPL_F32, &scalar, diag));
    ESPL_TRY(espl__set_out(node, 2, ESPL_U8, &scalar, diag));
done:
    return status;
}

static void eval_dynamic(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)scratch;
    int64_t count = espl_shape_count(&in[0].shape);
    const float *x = in[0].data;
    float lo = 0, hi = 0, scale;
    for (int64_t i = 0; i < count; i++) {
        lo = x[i] < lo ? x[i] : lo;
        hi = x[i] > hi ? x[i] : hi;
    }
    scale = hi > lo ? (hi - lo) / 255 : 1;
    float zero = fminf(fmaxf(rintf(-lo / scale), 0), 255);
    if (out[0].data) quantize_row(&in[0], &out[0], 0, count, scale, zero);
    if (node->output_count > 1 && out[1].data) *(float *)out[1].data = scale;
    if (node->output_count > 2 && out[2].data) *(uint8_t *)out[2].data = (uint8_t)zero;
}

const espl__op espl__op_DynamicQuantizeLinear = {
    .name = "DynamicQuantizeLinear", .domain = "", .min_inputs = 1, .max_inputs = 1, .min_outputs = 3, .max_outputs = 3,
    .since = 11, .until = 21, .infer = infer_dynamic, .eval = eval_dynamic,
};
