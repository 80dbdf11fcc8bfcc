#include "tensor/tensor.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static const struct {
    const char *name;
    uint8_t bytes, onnx;
} dtypes[] = {
#define ROW(NAME, name, bytes, onnx) {name, bytes, onnx},
    ESPL_DTYPE_LIST(ROW)
#undef ROW
};

_Static_assert(sizeof(espl_text) == 16, "what the list says");

const char *espl_dtype_name(espl_dtype dtype) {
    return (unsigned)dtype < ESPL_DTYPE_COUNT ? dtypes[dtype].name : "?";
}
size_t espl_dtype_bytes(espl_dtype dtype) {
    return dtypes[dtype].bytes;
}
int espl__dtype_onnx(espl_dtype dtype) {
    return dtypes[dtype].onnx;
}

bool espl_dtype_is_float(espl_dtype dtype) {
    return dtype == ESPL_F32 || dtype == ESPL_F16 || dtype == ESPL_BF16 || dtype == ESPL_F64 || dtype == ESPL_E4M3 ||
           dtype == ESPL_E5M2;
}

bool espl__dtype_from_onnx(int64_t onnx, espl_dtype *out) {
    for (int i = 0; i < ESPL_DTYPE_COUNT; i++)
        if (dtypes[i].onnx == onnx) {
            *out = (espl_dtype)i;
            return true;
        }
    return false;
}

int64_t espl_shape_count(const espl_shape *shape) {
    int64_t count = 1;
    bool empty = false;
    for (int i = 0; i < shape->rank; i++) {
        int64_t d = shape->dim[i];
        if (d < 0) return ESPL_DIM_UNKNOWN;
        if (d == 0)
            empty = true;
        else if (count > INT64_MAX / 16 / d)
            return ESPL_DIM_UNKNOWN;
        else
            count *= d;
    }
    return empty ? 0 : count;
}

bool espl_shape_equal(const espl_shape *a, const espl_shape *b) {
    if (a->rank != b->rank) return false;
    for (int i = 0; i < a->rank; i++)
        if (a->dim[i] != b->dim[i]) return false;
    return true;
}

const char *espl_shape_text(const espl_shape *shape, char *buf, size_t size) {
    size_t used = 0;
    if (size) buf[0] = 0;
    for (int i = 0; i < shape->rank && used < size; i++) {
        const char *x = i ? "x" : "";
        int n = shape->dim[i] < 0 ? snprintf(buf + used, size - used, "%s?", x)
                                  : snprintf(buf + used, size - used, "%s%" PRId64, x, shape->dim[i]);
        if (n < 0) break;
        used += (size_t)n;
    }
    return buf;
}

bool espl_shape_parse(const char *text, espl_shape *shape) {
    *shape = (espl_shape){0};
    while (*text) {
        if (shape->rank == ESPL_MAX_RANK || *text < '0' || *text > '9') return false;
        int64_t d = 0;
        for (; *text >= '0' && *text <= '9'; text++) {
            if (d > INT32_MAX) return false;
            d = d * 10 + (*text - '0');
        }
        shape->dim[shape->rank++] = d;
        if (*text == 'x' && text[1])
            text++;
        else if (*text)
            return false;
    }
    return true;
}

espl_status espl_tensor_alloc(espl_context *ctx, espl_dtype dtype, const espl_shape *shape, espl_tensor *out,
                              espl_diag *diag) {
    int64_t count = espl_shape_count(shape);
    char text[128];
    *out = (espl_tensor){0};
    if (count < 0)
        return espl__fail(diag, ESPL_LIMIT, "a tensor of shape %s is too large or has no fixed size",
                          espl_shape_text(shape, text, sizeof text));
    uint64_t bytes = (uint64_t)count * espl_dtype_bytes(dtype);
    void *data = espl__alloc(ctx, bytes);
    if (!data) return espl__nomem(diag, bytes);
    if (dtype == ESPL_STRING && bytes) memset(data, 0, (size_t)bytes);
    *out = (espl_tensor){dtype, *shape, data};
    return ESPL_OK;
}

void espl_tensor_free(espl_context *ctx, espl_tensor *tensor) {
    espl__free(ctx, tensor->data);
    *tensor = (espl_tensor){0};
}

size_t espl__tensor_bytes(const espl_tensor *tensor) {
    const uint64_t bytes = (uint64_t)espl_shape_count(&tensor->shape) * espl_dtype_bytes(tensor->dtype);
    return (size_t)ESPL_MIN(bytes, SIZE_MAX); /* which no allocation has, on machines of 32 bits either */
}

/* --- the three axes ------------------------------------------------------------------- */

static const char *const coding_names[] = {
#define X(NAME, name, text) name,
    ESPL_CODING_LIST(X)
#undef X
};

const char *espl_coding_name(espl_coding c) {
    return (unsigned)c < ESPL_CODING_COUNT ? coding_names[c] : "?";
}

/* --- packed codes ----------------------------------------------------------------------- */

void espl__codes_pack(const int8_t *codes, int64_t count, int bits, uint8_t *out) {
    memset(out, 0, espl__codes_bytes(count, bits));
    uint32_t mask = (1u << bits) - 1;
    for (int64_t i = 0; i < count; i++) {
        uint64_t at = (uint64_t)i * (unsigned)bits;
        uint32_t v = ((uint32_t)codes[i] & mask) << (at & 7);
        out[at >> 3] |= (uint8_t)v;
        if (v >> 8) out[(at >> 3) + 1] |= (uint8_t)(v >> 8);
    }
}

/* The upper `bits` bits of a byte as two's complement. */
static inline int8_t upper(uint8_t byte, int bits) {
    return (int8_t)((int8_t)byte >> (8 - bits));
}

/* Codes of 4 and 2 bits, as many as fill whole bytes, in loops that compilers vectorise; returns how many. */
static int64_t unpack_bytes(const uint8_t *restrict in, int64_t count, int bits, int8_t *restrict codes) {
    const int64_t bytes = count * bits / 8;
    if (bits != 4 && bits != 2) return 0;
    if (bits == 4) {
        for (int64_t i = 0; i < bytes; i++) {
            codes[2 * i] = upper((uint8_t)(in[i] << 4), 4);
            codes[2 * i + 1] = upper(in[i], 4);
        }
    } else {
        for (int64_t i = 0; i < bytes; i++) {
            codes[4 * i] = upper((uint8_t)(in[i] << 6), 2);
            codes[4 * i + 1] = upper((uint8_t)(in[i] << 4), 2);
            codes[4 * i + 2] = upper((uint8_t)(in[i] << 2), 2);
            codes[4 * i + 3] = upper(in[i], 2);
        }
    }
    return bytes * 8 / bits;
}

void espl__codes_unpack(const uint8_t *in, int64_t count, int bits, int8_t *codes) {
    for (int64_t i = unpack_bytes(in, count, bits, codes); i < count; i++) {
        uint64_t at = (uint64_t)i * (unsigned)bits;
        uint32_t v = in[at >> 3];
        if ((at & 7) + (unsigned)bits > 8) v |= (uint32_t)in[(at >> 3) + 1] << 8;
        v >>= at & 7;
        codes[i] = (int8_t)((int32_t)(v << (32 - bits)) >> (32 - bits));
    }
}

bool espl__format_packs(espl_format f) {
    return espl_format_bits(f) < 8 * (int)espl_dtype_bytes(espl__format_dtype(f));
}

/* The upper bits of words. */
static void pack_words(const uint32_t *words, int64_t count, int bits, uint8_t *out) {
    memset(out, 0, espl__codes_bytes(count, bits));
    for (int64_t i = 0; i < count; i++)
        espl__bits_put(out, (uint64_t)i * (unsigned)bits, words[i] >> (32 - bits));
}

static void unpack_words(const uint8_t *in, int64_t count, int bits, uint32_t *words) {
    for (int64_t i = 0; i < count; i++)
        words[i] = espl__bits_get(in, (uint64_t)i * (unsigned)bits, bits) << (32 - bits);
}

void espl__format_pack(espl_format f, const void *elements, int64_t count, uint8_t *out) {
    const int bits = espl_format_bits(f);
    const int8_t *codes = elements;
    if (bits > 8) {
        pack_words(elements, count, bits, out);
    } else if (f == ESPL_FORMAT_BINARY) {
        memset(out, 0, espl__codes_bytes(count, 1));
        for (int64_t i = 0; i < count; i++) out[i >> 3] |= (uint8_t)((codes[i] < 0) << (i & 7));
    } else {
        espl__codes_pack(codes, count, bits, out);
    }
}

void espl__format_unpack(espl_format f, const uint8_t *in, int64_t count, void *elements) {
    const int bits = espl_format_bits(f);
    int8_t *codes = elements;
    if (bits > 8) {
        unpack_words(in, count, bits, elements);
    } else if (f == ESPL_FORMAT_BINARY) {
        for (int64_t i = 0; i < count; i++) codes[i] = in[i >> 3] >> (i & 7) & 1 ? -1 : 1;
    } else {
        espl__codes_unpack(in, count, bits, codes);
        for (int64_t i = 0; !espl_format_is_signed(f) && i < count; i++) codes[i] &= (int8_t)((1 << bits) - 1);
    }
}

/* --- scales ----------------------------------------------------------------------------------- */

int64_t espl__quant_scales(const espl__quant *q, const espl_shape *s) {
    if (q->axis >= s->rank || (q->group > 0 && (q->axis < 0 || q->group_axis < 0 || q->group_axis >= s->rank ||
                                                q->group_axis == q->axis)))
        return -1;
    int64_t channels = q->axis < 0 ? 1 : s->dim[q->axis];
    if (q->group <= 0) return channels;
    int64_t groups = (s->dim[q->group_axis] - 1) / q->group + 1; /* no more than the dimension */
    return s->dim[q->group_axis] < 1 ? -1 : channels * groups;
}

static int64_t inner_of(const espl_shape *s, int axis) {
    int64_t inner = 1;
    for (int d = axis + 1; d < s->rank; d++) inner *= s->dim[d];
    return inner;
}

espl__scale_walk espl__scale_walk_of(const espl__quant *q, const espl_shape *s) {
    espl__scale_walk w = {1, 1, 1, 1, 1, 1};
    if (q->axis >= 0) {
        w.channels = ESPL_MAX(s->dim[q->axis], 1);
        w.inner = ESPL_MAX(inner_of(s, q->axis), 1);
    }
    if (q->group > 0) {
        w.group = q->group;
        w.group_dim = ESPL_MAX(s->dim[q->group_axis], 1);
        w.groups = (w.group_dim - 1) / q->group + 1;
        w.group_inner = ESPL_MAX(inner_of(s, q->group_axis), 1);
    }
    return w;
}
