/* Quantized tensors as numbers. */
#include "tensor/tensor.h"

/* The elements as f32; false if the type has no such reading. */
static bool read_elements(const espl_tensor *t, int64_t n, float *out) {
#define RUN(type, expression)             \
    do {                                  \
        const type *e = t->data;          \
        for (int64_t i = 0; i < n; i++) { \
            const type x = e[i];          \
            out[i] = (expression);        \
        }                                 \
        return true;                      \
    } while (0)
    switch (t->dtype) {
        case ESPL_F32:
            RUN(float, x);
        case ESPL_F64:
            RUN(double, (float)x);
        case ESPL_F16:
            RUN(uint16_t, espl__half_to_float(x));
        case ESPL_BF16:
            RUN(uint16_t, espl__bfloat_to_float(x));
        case ESPL_E4M3:
            RUN(uint8_t, espl__format_decode(ESPL_FORMAT_E4M3, x));
        case ESPL_E5M2:
            RUN(uint8_t, espl__format_decode(ESPL_FORMAT_E5M2, x));
        case ESPL_U4:
        case ESPL_U8:
            RUN(uint8_t, (float)x);
        case ESPL_S4:
        case ESPL_S8:
            RUN(int8_t, (float)x);
        case ESPL_S16:
            RUN(int16_t, (float)x);
        case ESPL_S32:
            RUN(int32_t, (float)x);
        default:
            return false;
    }
#undef RUN
}

/* Codes of formats whose codes are not the numbers, by a table of all of them. */
static bool decode(espl_format f, const espl_tensor *t, int64_t count, float *out) {
    float table[256];
    if (t->dtype != ESPL_S8 && t->dtype != ESPL_U8) return read_elements(t, count, out);
    for (int i = 0; i < 256; i++)
        table[i] = espl__format_decode(f, t->dtype == ESPL_S8 ? (int32_t)(int8_t)(uint8_t)i : i);
    for (int64_t i = 0; i < count; i++) out[i] = table[((const uint8_t *)t->data)[i]];
    return true;
}

bool espl__quant_read(const espl_tensor *t, const espl__quant *q, float *out) {
    const int64_t count = espl_shape_count(&t->shape);
    if (q->format == ESPL_FORMAT_F32) return read_elements(t, count, out);
    if (!decode(q->format, t, count, out)) return false;
    if (espl__format_is_float(q->format)) return true;
    const espl__scale_walk w = espl__scale_walk_of(q, &t->shape);
    const int64_t run = q->group > 0 ? 1 : q->axis < 0 ? count : w.inner;
    for (int64_t i = 0; i < count; i += run) {
        const int64_t c = espl__scale_at(&w, i);
        const float zero = (float)(q->zero ? q->zero[c] : 0), scale = q->scale[c];
        for (int64_t j = i; j < i + run; j++) out[j] = (out[j] - zero) * scale;
        for (int64_t j = i; q->offset && j < i + run; j++) out[j] += q->offset[c];
    }
    return true;
}
