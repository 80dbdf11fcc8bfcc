/* Reading constants as f32, and rounding them to a grid. */
#include "passes/passes.h"

bool espl__constant_read(const espl__value *v, float *out) {
    return espl__quant_read(v->constant, &v->quant, out);
}

const espl_tensor *espl__constant_f32(espl_graph *g, const espl__value *v) {
    const espl_tensor *t = v->constant;
    if (!t) return NULL;
    if (t->dtype == ESPL_F32 && !espl__is_quantized(v)) return t;
    espl_tensor *out = espl__graph_tensor(g, ESPL_F32, &t->shape, NULL);
    return out && espl__constant_read(v, out->data) ? out : NULL;
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

int espl__constant_bits(const espl__value *v) {
    int bits = 8 * (int)espl_dtype_bytes(v->constant->dtype);
    return espl__is_quantized(v) ? ESPL_MIN(espl_format_bits(v->quant.format), bits) : bits;
}

/* The layouts know whole bytes and codes of fewer bits than one. */
int espl__constant_sparse_bits(const espl__value *v) {
    return v->quant.format == ESPL_FORMAT_TF32 ? 32 : espl__constant_bits(v);
}

bool espl__constant_zero_is_zero(const espl__value *v) {
    if (espl_format_kind_of(v->quant.format) == ESPL_FORMAT_KIND_BINARY) return false;
    for (int64_t i = 0; v->quant.zero && i < v->quant.count; i++)
        if (v->quant.zero[i] != 0) return false;
    return true;
}

bool espl__constant_sparse(const espl__value *v, espl__sparse *out) {
    if (!v->constant || v->zeros.pattern.pattern == ESPL_PATTERN_DENSE || !espl__constant_zero_is_zero(v))
        return false;
    int bits = espl__constant_sparse_bits(v);
    return espl__sparse_of(v->constant, bits, &v->zeros, out) &&
           out->bytes < espl__codes_bytes(espl_shape_count(&v->constant->shape), bits);
}
