/* Reading constants as f32, and rounding them to a grid. */
#include "passes/passes.h"

static float half_to_float(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, mantissa = h & 1023, bits;
    float f;
    if (exponent == 0) { /* zero and subnormals: mantissa * 2^-24 */
        f = (float)mantissa * 0x1p-24f;
        memcpy(&bits, &f, 4);
        bits |= sign;
    } else {
        bits = sign | (exponent == 31 ? 0x7f800000u : (exponent + 112) << 23) | mantissa << 13;
    }
    memcpy(&f, &bits, 4);
    return f;
}

static bool element(const espl_tensor *t, int64_t i, float *out) {
    uint32_t bits;
    switch (t->dtype) {
        case ESPL_F32:
            *out = ((const float *)t->data)[i];
            return true;
        case ESPL_F64:
            *out = (float)((const double *)t->data)[i];
            return true;
        case ESPL_F16:
            *out = half_to_float(((const uint16_t *)t->data)[i]);
            return true;
        case ESPL_BF16:
            bits = (uint32_t)((const uint16_t *)t->data)[i] << 16;
            memcpy(out, &bits, 4);
            return true;
        case ESPL_U8:
            *out = (float)((const uint8_t *)t->data)[i];
            return true;
        case ESPL_S8:
            *out = (float)((const int8_t *)t->data)[i];
            return true;
        case ESPL_S32:
            *out = (float)((const int32_t *)t->data)[i];
            return true;
        default:
            return false;
    }
}

const espl_tensor *espl__constant_f32(espl_graph *g, const espl__value *v) {
    const espl_tensor *t = v->constant;
    const espl__quant *q = &v->quant;
    if (!t) return NULL;
    if (t->dtype == ESPL_F32 && !espl__is_quantized(v)) return t;
    espl_tensor *out = espl__graph_tensor(g, ESPL_F32, &t->shape, NULL);
    if (!out) return NULL;
    int64_t count = espl_shape_count(&t->shape), inner = 1;
    if (q->axis >= 0)
        for (int d = q->axis + 1; d < t->shape.rank; d++) inner *= t->shape.dim[d];
    for (int64_t i = 0; i < count; i++) {
        float x;
        if (!element(t, i, &x)) return NULL;
        if (espl__is_quantized(v)) {
            int64_t c = q->axis >= 0 ? i / inner % q->count : 0;
            x = (x - (float)(q->zero ? q->zero[c] : 0)) * q->scale[c];
        }
        ((float *)out->data)[i] = x;
    }
    return out;
}

espl_tensor *espl__constant_codes(espl_graph *g, const espl_tensor *numbers, const espl__quant *q) {
    espl_dtype type = q->format == ESPL_FORMAT_U8 ? ESPL_U8 : ESPL_S8;
    int32_t lo = type == ESPL_U8 ? 0 : -128, hi = type == ESPL_U8 ? 255 : 127;
    espl_tensor *codes = espl__graph_tensor(g, type, &numbers->shape, NULL);
    if (!codes) return NULL;
    int64_t inner = 1;
    if (q->axis >= 0)
        for (int d = q->axis + 1; d < numbers->shape.rank; d++) inner *= numbers->shape.dim[d];
    for (int64_t i = 0; i < espl_shape_count(&numbers->shape); i++) {
        int64_t c = q->axis >= 0 ? i / inner % q->count : 0;
        int32_t code = espl__requantize(((const float *)numbers->data)[i] / q->scale[c],
                                        q->zero ? q->zero[c] : 0, lo, hi);
        ((uint8_t *)codes->data)[i] = (uint8_t)code;
    }
    return codes;
}
