/* Cast and CastLike. Floats become integers by truncation and saturate (ONNX leaves the overflow open); NaN
 * becomes 0. Floats of 8 bits saturate too, unless saturate is 0: then what is too large is infinite, or NaN where
 * nothing is infinite. Strings: numerals.h. */
#include "ops/numerals.h"
#include "ops/ops.h"

#include <inttypes.h>
#include <math.h>

static espl_status infer_to(const espl__node *node, espl_dtype dtype, espl_diag *diag) {
    return espl__set_like_input(node, dtype, diag);
}

static espl_status infer_cast(const espl__node *node, espl_diag *diag) {
    espl_status status;
    espl_dtype dtype;
    ESPL_TRY(espl__op_begin(node, diag));
    int64_t to = espl__attr_int(node, "to", -1);
    if (!espl__dtype_from_onnx(to, &dtype))
        return espl__fail(diag, ESPL_UNSUPPORTED, "Cast: ONNX element type %" PRId64 " is not supported", to);
    status = infer_to(node, dtype, diag);
done:
    return status;
}

static espl_status infer_cast_like(const espl__node *node, espl_diag *diag) {
    espl_status status;
    ESPL_TRY(espl__op_begin(node, diag));
    status = infer_to(node, node->inputs[1]->dtype, diag);
done:
    return status;
}

/* Half a step beyond the largest number rounding to even leaves the range: of e5m2 at 61440 already, whose largest
 * mantissa is odd; of e4m3 beyond 464. */
static void overflow(espl_dtype to, const double *in, int64_t n, uint8_t *y) {
    for (int64_t i = 0; i < n; i++) {
        uint8_t sign = signbit(in[i]) ? 0x80 : 0;
        if (to == ESPL_E4M3 && fabs(in[i]) > 464) y[i] = sign | 0x7f;
        if (to == ESPL_E5M2 && fabs(in[i]) >= 61440) y[i] = sign | 0x7c;
    }
}

static uint64_t text_bytes(const espl__node *node, const espl_tensor *in) {
    (void)node;
    return in[0].dtype == ESPL_STRING ? 0 : (uint64_t)espl_shape_count(&in[0].shape) * ESPL__NUMERAL;
}

static void eval(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)scratch;
    if (in[0].dtype == ESPL_STRING || out[0].dtype == ESPL_STRING) {
        espl__numerals(&in[0], &out[0]);
        return;
    }
    bool wraps = (out[0].dtype == ESPL_E4M3 || out[0].dtype == ESPL_E5M2) && !espl__attr_int(node, "saturate", 1);
    espl_dtype from = in[0].dtype, to = out[0].dtype;
    int64_t n = espl_shape_count(&in[0].shape);
    union {
        double f64[ESPL__CHUNK];
        int64_t s64[ESPL__CHUNK];
    } wide;
    for (int64_t i = 0; i < n; i += ESPL__CHUNK) {
        int64_t count = ESPL_MIN(n - i, ESPL__CHUNK);
        const void *p = espl__at(in[0].data, from, i);
        void *y = espl__at_mut(out[0].data, to, i);
        if (espl_dtype_is_float(from) || (from == ESPL_U64 && espl_dtype_is_float(to))) {
            espl__load_f64(from, p, 1, count, wide.f64);
            espl__store_f64(to, wide.f64, count, y);
            if (wraps) overflow(to, wide.f64, count, y);
        } else {
            espl__load_s64(from, p, 1, count, wide.s64);
            espl__store_s64(to, wide.s64, count, y);
        }
    }
}

const espl__op espl__op_Cast = {
    .name = "Cast", .domain = "", .min_inputs = 1, .max_inputs = 1, .min_outputs = 1, .max_outputs = 1,
    .since = 6, .until = 21, .infer = infer_cast, .eval = eval,
    .text_inputs = 1, .text_bytes = text_bytes,
};
const espl__op espl__op_CastLike = {
    .name = "CastLike", .domain = "", .min_inputs = 2, .max_inputs = 2, .min_outputs = 1, .max_outputs = 1,
    .since = 15, .until = 21, .infer = infer_cast_like, .eval = eval,
    .text_inputs = 3, .text_bytes = text_bytes,
};
