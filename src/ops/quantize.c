/* QuantizeLinear and DequantizeLinear: one scale for the tensor, one per index of an axis, or one for each block of
 * `block_size` elements that follow each other along the axis.
 *   q = saturate(rne(x / scale) + zero),   x = (q - zero) * scale
 * Where q is an 8-bit float it is not rounded to an integer but to that float: q = saturate(x / scale + zero).
 * DynamicQuantizeLinear finds scale and zero from the range of x, widened to hold 0:
 *   scale = (max - min) / 255, or 1 if there is no range,   zero = saturate(rne(-min / scale)) */
#include "ops/ops.h"

#include <inttypes.h>
#include <math.h>

#define SMALL_FLOATS (ESPL__T(E4M3) | ESPL__T(E5M2))
#define CODES (ESPL__T(U8) | ESPL__T(S8) | ESPL__T(U16) | ESPL__T(S16) | ESPL__T(U4) | ESPL__T(S4) | SMALL_FLOATS)

static bool is_small_float(espl_dtype dtype) {
    return SMALL_FLOATS >> dtype & 1;
}

/* Blocks: the scale has x's shape, but for the axis, of which it has one index a block. */
static espl_status check_blocks(const espl__node *node, int64_t block, espl_diag *diag) {
    espl_status status = ESPL_OK;
    int axis;
    const char *name = node->op->name;
    const espl__value *x = espl__in(node, 0), *scale = espl__in(node, 1);
    if (block < 0) return espl__fail(diag, ESPL_FORMAT, "%s: block_size is %" PRId64, name, block);
    if (!x->known_rank || !scale->known_rank) return ESPL_OK;
    if (scale->shape.rank != x->shape.rank)
        return espl__fail(diag, ESPL_SHAPE, "%s: in blocks the scale has as many dimensions as the input: %d, not %d",
                          name, x->shape.rank, scale->shape.rank);
    ESPL_TRY(espl__axis(espl__attr_int(node, "axis", 1), x->shape.rank, &axis, diag));
    for (int d = 0; d < x->shape.rank; d++) {
        int64_t have = scale->shape.dim[d], want = x->shape.dim[d];
        if (d == axis && want > 0) want = (want - 1) / block + 1;
        if (!espl__dims_agree(have, want))
            return espl__fail(diag, ESPL_SHAPE,
                              "%s: the scale has %" PRId64 " elements along axis %d where blocks of %" PRId64
                              " make %" PRId64,
                              name, have, d, block, want);
    }
done:
    return status;
}

/* Without blocks the scale has one element, or as many as the axis. */
static espl_status check_scale(const espl__node *node, espl_diag *diag) {
    espl_status status = ESPL_OK;
    int axis;
    const char *name = node->op->name;
    const espl__value *x = espl__in(node, 0), *scale = espl__in(node, 1), *zero = espl__in(node, 2);
    int64_t block = espl__attr_int(node, "block_size", 0);
    if (zero && zero->known_rank && scale->known_rank) {
        bool fits = zero->shape.rank == scale->shape.rank;
        for (int i = 0; fits && i < scale->shape.rank; i++)
            fits = espl__dims_agree(zero->shape.dim[i], scale->shape.dim[i]);
        if (!fits) return espl__fail(diag, ESPL_SHAPE, "%s: scale and zero point differ in shape", name);
    }
    if (block != 0) return check_blocks(node, block, diag);
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
    if (is_small_float(dtype) && espl__attr_int(node, "saturate", 1) == 0)
        return espl__fail(diag, ESPL_UNSUPPORTED, "QuantizeLinear: saturate = 0 is not supported");
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
    bool sign = dtype == ESPL_S8 || dtype == ESPL_S16 || dtype == ESPL_S4;
    float span = dtype == ESPL_U16 || dtype == ESPL_S16 ? 65536.0f : dtype == ESPL_U4 || dtype == ESPL_S4 ? 16.0f : 256.0f;
    *lo = sign ? -span / 2 : 0;
    *hi = *lo + span - 1;
}

/* The elements as outer x channels x inner, and how many neighbours along the axis share a scale; channels 1: all do. */
typedef struct split {
    int64_t outer, channels, inner, block;
} split;

static split split_of(const espl__node *node, const espl_tensor *in) {
    int axis;
    split s = {1, 1, espl_shape_count(&in[0].shape), espl__attr_int(node, "block_size", 0)};
    if (s.block == 0 && espl_shape_count(&in[1].shape) == 1) return s;
    if (espl__axis(espl__attr_int(node, "axis", 1), in[0].shape.rank, &axis, NULL) != ESPL_OK) return s;
    s.outer = espl__dims_product(&in[0].shape, 0, axis);
    s.channels = in[0].shape.dim[axis];
    s.inner = espl__dims_product(&in[0].shape, axis + 1, in[0].shape.rank);
    return s;
}

static float zero_of(const espl__node *node, const espl_tensor *in, int64_t c) {
    double zero = 0;
    if (node->input_count > 2 && in[2].data)
        espl__load_f64(in[2].dtype, espl__at(in[2].data, in[2].dtype, c), 0, 1, &zero);
    return (float)zero;
}

static void quantize_row(const espl_tensor *in, espl_tensor *out, int64_t at, int64_t n, float scale,
                         float zero) {
    const bool small = is_small_float(out->dtype);
    float lo = 0, hi = 0;
    if (!small) code_range(out->dtype, &lo, &hi);
    for (int64_t i = at; i < at + n; i++) {
        float x =
            in->dtype == ESPL_F32 ? ((const float *)in->data)[i] : (float)((const int32_t *)in->data)[i];
        float q = small ? x / scale + zero : rintf(x / scale) + zero;
        if (!small) {
            q = q >= lo ? q : lo; /* NaN gives the smallest code */
            q = q <= hi ? q : hi;
        }
        double code = q;
        espl__store_f64(out->dtype, &code, 1, espl__at_mut(out->data, out->dtype, i));
    }
}

static void dequantize_row(const espl_tensor *in, espl_tensor *out, int64_t at, int64_t n, float scale,
                           float zero) {
    for (int64_t i = at; i < at + n; i++) {
        double code;
        espl__load_f64(in->dtype, espl__at(in->data, in->dtype, i), 0, 1, &code);
        ((float *)out->data)[i] = (float)(code - (double)zero) * scale;
    }
}

typedef void row_fn(const espl_tensor *in, espl_tensor *out, int64_t at, int64_t n, float scale, float zero);

/* Calls `row` for every run of elements that share a scale. */
static void each_run(const espl__node *node, const espl_tensor *in, espl_tensor *out, row_fn *row) {
    const float *scale = in[1].data;
    if (espl__is_empty(&out[0])) return;
    const split s = split_of(node, in);
    const int64_t groups = s.block > 0 ? (s.channels - 1) / s.block + 1 : s.channels;
    int64_t at = 0;
    for (int64_t o = 0; o < s.outer; o++)
        for (int64_t c = 0; c < s.channels; c++) {
            if (s.block == 0) {
                row(&in[0], &out[0], at, s.inner, scale[c], zero_of(node, in, c));
                at += s.inner;
                continue;
            }
            for (int64_t i = 0; i < s.inner; i++, at++) {
                const int64_t k = (o * groups + c / s.block) * s.inner + i;
                row(&in[0], &out[0], at, 1, scale[k], zero_of(node, in, k));
            }
        }
}

static void eval_quantize(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)scratch;
    each_run(node, in, out, quantize_row);
}

static void eval_dequantize(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)scratch;
    each_run(node, in, out, dequantize_row);
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
