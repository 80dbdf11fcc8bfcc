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
    return dtype == ESPL_F32 || dtype == ESPL_F16 || dtype == ESPL_BF16 || dtype == ESPL_F64;
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
    *out = (espl_tensor){dtype, *shape, data};
    return ESPL_OK;
}

void espl_tensor_free(espl_context *ctx, espl_tensor *tensor) {
    espl__free(ctx, tensor->data);
    *tensor = (espl_tensor){0};
}

size_t espl__tensor_bytes(const espl_tensor *tensor) {
    return (size_t)espl_shape_count(&tensor->shape) * espl_dtype_bytes(tensor->dtype);
}

/* --- the three axes ------------------------------------------------------------------- */

static const struct {
    const char *name;
    int bits;
} formats[] = {
#define X(NAME, name, bits, sign, text) {name, bits},
    ESPL_FORMAT_LIST(X)
#undef X
};
static const char *const coding_names[] = {
#define X(NAME, name, text) name,
    ESPL_CODING_LIST(X)
#undef X
};

const char *espl_format_name(espl_format f) {
    return (unsigned)f < ESPL_FORMAT_COUNT ? formats[f].name : "?";
}
const char *espl_coding_name(espl_coding c) {
    return (unsigned)c < ESPL_CODING_COUNT ? coding_names[c] : "?";
}
int espl_format_bits(espl_format f) {
    return formats[f].bits;
}

bool espl_format_parse(const char *name, espl_format *out) {
    for (int i = 0; i < ESPL_FORMAT_COUNT; i++)
        if (strcmp(name, formats[i].name) == 0) {
            *out = (espl_format)i;
            return true;
        }
    return false;
}

espl_dtype espl__format_dtype(espl_format format) {
    switch (format) {
        case ESPL_FORMAT_F32:
            return ESPL_F32;
        case ESPL_FORMAT_F16:
            return ESPL_F16;
        case ESPL_FORMAT_BF16:
            return ESPL_BF16;
        case ESPL_FORMAT_U8:
            return ESPL_U8;
        case ESPL_FORMAT_S32:
            return ESPL_S32;
        default:
            return ESPL_S8;
    }
}

/* --- quantization ----------------------------------------------------------------------- */

/* Below 8 bits the code -2^(b-1) is used too; at 8 it is not, so that the range is symmetric. */
void espl__format_range(espl_format format, int32_t *lo, int32_t *hi) {
    int bits = formats[format].bits;
    if (format == ESPL_FORMAT_U8) {
        *lo = 0;
        *hi = 255;
    } else if (bits >= 8) {
        *lo = -127;
        *hi = 127;
    } else {
        *lo = -(1 << (bits - 1));
        *hi = (1 << (bits - 1)) - 1;
    }
}

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

void espl__codes_unpack(const uint8_t *in, int64_t count, int bits, int8_t *codes) {
    for (int64_t i = 0; i < count; i++) {
        uint64_t at = (uint64_t)i * (unsigned)bits;
        uint32_t v = in[at >> 3];
        if ((at & 7) + (unsigned)bits > 8) v |= (uint32_t)in[(at >> 3) + 1] << 8;
        v >>= at & 7;
        codes[i] = (int8_t)((int32_t)(v << (32 - bits)) >> (32 - bits));
    }
}
