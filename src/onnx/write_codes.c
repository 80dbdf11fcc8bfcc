/* The initializers of a quantized value: codes, scales and zero points, as the form that was chosen has them; and strings.
 */
#include "onnx/writer.h"

#include <math.h>

static bool is_log2(const espl__quant *q) {
    return espl_format_kind_of(q->format) == ESPL_FORMAT_KIND_LOG2;
}

/* Two in a byte, the first in the lower half. */
static void *pack_nibbles(espl__writer *w, const int8_t *codes, int64_t count) {
    uint8_t *out = espl__arena_alloc(&w->arena, espl__onnx_bytes(ESPL_S4, (uint64_t)count));
    for (int64_t i = 0; out && i < count; i++) out[i / 2] |= (uint8_t)((codes[i] & 15) << (i % 2 * 4));
    return out;
}

/* Codes of a log2 format as the integers that they are multiples of: code c as sign(c) 2^(|c| - 1). */
static void *log2_integers(espl__writer *w, const espl_tensor *t, espl_dtype type) {
    const int8_t *codes = t->data;
    const int64_t count = espl_shape_count(&t->shape);
    int8_t *narrow = espl__arena_alloc(&w->arena, (uint64_t)count * espl_dtype_bytes(type));
    int16_t *wide = (int16_t *)(void *)narrow;
    for (int64_t i = 0; narrow && i < count; i++) {
        int n = codes[i] == 0 ? 0 : 1 << ((codes[i] < 0 ? -codes[i] : codes[i]) - 1);
        n = codes[i] < 0 ? -n : n;
        if (type == ESPL_S16)
            wide[i] = (int16_t)n;
        else
            narrow[i] = (int8_t)n;
    }
    return narrow && type == ESPL_S4 ? pack_nibbles(w, narrow, count) : (void *)narrow;
}

const void *espl__writer_elements(espl__writer *w, const espl_tensor *t) {
    if (t->dtype != ESPL_S4 && t->dtype != ESPL_U4) return t->data;
    return pack_nibbles(w, t->data, espl_shape_count(&t->shape));
}

const void *espl__writer_codes(espl__writer *w, const espl__value *v, espl_dtype type) {
    const espl_tensor *t = v->constant;
    if (is_log2(&v->quant)) return log2_integers(w, t, type);
    return type == ESPL_S4 ? pack_nibbles(w, t->data, espl_shape_count(&t->shape)) : t->data;
}

const float *espl__writer_numbers(espl__writer *w, const espl__value *v) {
    float *out = espl__arena_alloc(&w->arena, (uint64_t)espl_shape_count(&v->constant->shape) * sizeof *out);
    return out && espl__quant_read(v->constant, &v->quant, out) ? out : NULL;
}

/* The shape of scales: one number; one for each index of an axis, in one dimension or (`full`) in all; in
 * blocks the tensor's own, with one index a block. */
static espl_shape scale_shape(const espl__value *v, bool full) {
    const espl__quant *q = &v->quant;
    if (q->axis < 0) return (espl_shape){.rank = 0};
    if (q->group == 0 && !full) return (espl_shape){.rank = 1, .dim = {q->count}};
    espl_shape s = v->constant->shape;
    for (int d = 0; d < s.rank; d++)
        if (q->group == 0) s.dim[d] = d == q->axis ? q->count : 1;
    if (q->group > 0) s.dim[q->group_axis] = (s.dim[q->group_axis] - 1) / q->group + 1;
    return s;
}

/* Which of the scales each element of that shape is; NULL: as they are. */
static int64_t *block_order(espl__writer *w, const espl__quant *q, const espl_shape *s) {
    const int64_t count = espl_shape_count(s);
    int64_t *order = espl__arena_alloc(&w->arena, sizeof *order * (uint64_t)count), outer[2] = {1, 1};
    for (int d = s->rank - 1; d > q->axis; d--) outer[0] *= s->dim[d];
    for (int d = s->rank - 1; d > q->group_axis; d--) outer[1] *= s->dim[d];
    for (int64_t i = 0; order && i < count; i++)
        order[i] =
            i / outer[0] % s->dim[q->axis] * s->dim[q->group_axis] + i / outer[1] % s->dim[q->group_axis];
    return order;
}

espl_status espl__writer_scales(espl__writer *w, const espl__value *v, const char *base, espl__scales *out,
                                bool full) {
    const espl__quant *q = &v->quant;
    const espl_shape shape = scale_shape(v, full);
    const int64_t count = espl_shape_count(&shape), *order = q->group > 0 ? block_order(w, q, &shape) : NULL;
    float *scale = espl__arena_alloc(&w->arena, sizeof *scale * (uint64_t)count);
    const size_t size = espl_dtype_bytes(out->type);
    char *zero = espl__arena_alloc(&w->arena, (uint64_t)count * size);
    const void *stored = zero;
    if (!scale || !zero || (q->group > 0 && !order)) return espl__nomem(w->diag, (uint64_t)count * 4);
    for (int64_t i = 0; i < count; i++) {
        const int64_t c = order ? order[i] : i;
        scale[i] = is_log2(q) ? ldexpf(q->scale[c], 1 - espl__form_log2_steps(q->format)) : q->scale[c];
        /* Little-endian two's complement: the low bytes are the number, as espl__writer_name_quantized has
         * seen. */
        if (q->zero) memcpy(zero + (size_t)i * size, &q->zero[c], size);
    }
    if (out->type == ESPL_S4) stored = pack_nibbles(w, (const int8_t *)zero, count);
    out->scale = espl__writer_name(w, &w->value_names, base, "_scale");
    out->zero = full ? "" : espl__writer_name(w, &w->value_names, base, "_zero_point");
    if (!stored || !out->scale || !out->zero ||
        !espl__writer_initializer(w, out->scale, ESPL_F32, &shape, scale) ||
        (!full && !espl__writer_initializer(w, out->zero, out->type, &shape, stored)))
        return espl__nomem(w->diag, 0);
    return ESPL_OK;
}

/* --- strings ------------------------------------------------------------------------------------ */

bool espl__writer_texts(espl__writer *w, const espl_text *from, size_t count, ProtobufCBinaryData **out) {
    *out = espl__arena_alloc(&w->arena, sizeof **out * ((uint64_t)count + 1));
    for (size_t i = 0; *out && i < count; i++)
        (*out)[i] = (ProtobufCBinaryData){(size_t)from[i].length, (uint8_t *)(uintptr_t)from[i].bytes};
    return *out != NULL;
}

bool espl__writer_split(espl__writer *w, const char *joined, pb_attr *out) {
    size_t count = *joined != 0;
    for (const char *p = joined; *p; p++) count += *p == ',';
    out->strings = espl__arena_alloc(&w->arena, sizeof *out->strings * (count + 1));
    if (!out->strings) return false;
    for (size_t i = 0; i < count; i++) {
        size_t length = strcspn(joined, ",");
        out->strings[i] = (ProtobufCBinaryData){length, (uint8_t *)joined};
        joined += length + 1;
    }
    out->n_strings = count;
    return true;
}
