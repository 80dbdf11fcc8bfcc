/* NumPy's .npy: magic, version, header length, a Python dictionary as text, the raw elements.
 * https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html */
#include "base/output.h"
#include "tensor/tensor.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "elements are read and written as they lie in memory: this needs a little-endian machine"
#endif

enum { MAX_HEADER = 65536, PREFIX = 8, ALIGNMENT = 64 };
static const char magic[] = "\x93NUMPY";

static const struct {
    char descr[4];
    espl_dtype dtype;
} descrs[] = {
    {"<f4", ESPL_F32}, {"<f8", ESPL_F64},  {"<f2", ESPL_F16}, {"|u1", ESPL_U8},  {"|i1", ESPL_S8},
    {"<u2", ESPL_U16}, {"<i2", ESPL_S16},  {"<u4", ESPL_U32}, {"<i4", ESPL_S32}, {"<u8", ESPL_U64},
    {"<i8", ESPL_S64}, {"|b1", ESPL_BOOL}, {"<u1", ESPL_U8},  {"<i1", ESPL_S8},  {"<b1", ESPL_BOOL},
};

/* --- the header: a small recursive descent over a text that may hold anything ---------------- */

typedef struct header {
    const char *at, *end;
    bool have_descr, have_order, have_shape;
    espl_dtype dtype;
    espl_shape shape;
} header;

static void skip_space(header *h) {
    while (h->at < h->end && (*h->at == ' ' || *h->at == '\n' || *h->at == '\t' || *h->at == '\r')) h->at++;
}

static bool accept(header *h, char c) {
    skip_space(h);
    if (h->at == h->end || *h->at != c) return false;
    h->at++;
    return true;
}

static bool accept_word(header *h, const char *word) {
    size_t n = strlen(word);
    skip_space(h);
    if ((size_t)(h->end - h->at) < n || memcmp(h->at, word, n) != 0) return false;
    h->at += n;
    return true;
}

/* A quoted string without escapes; false if there is none or it does not fit. */
static bool read_string(header *h, char *out, size_t size) {
    skip_space(h);
    if (h->at == h->end || (*h->at != '\'' && *h->at != '"')) return false;
    char quote = *h->at++;
    size_t n = 0;
    while (h->at < h->end && *h->at != quote) {
        if (*h->at == '\\' || n + 1 >= size) return false;
        out[n++] = *h->at++;
    }
    if (h->at == h->end) return false;
    h->at++;
    out[n] = 0;
    return true;
}

static bool read_dim(header *h, int64_t *out) {
    skip_space(h);
    const char *start = h->at;
    int64_t d = 0;
    for (; h->at < h->end && *h->at >= '0' && *h->at <= '9'; h->at++) {
        if (d > (INT64_MAX - 9) / 10) return false;
        d = d * 10 + (*h->at - '0');
    }
    if (h->at == start) return false;
    accept(h, 'L'); /* Python 2 wrote long integers like this */
    *out = d;
    return true;
}

static espl_status read_shape(header *h, espl_diag *diag) {
    h->shape = (espl_shape){0};
    if (!accept(h, '(')) return espl__fail(diag, ESPL_FORMAT, "the header's shape is not a tuple");
    while (!accept(h, ')')) {
        if (h->shape.rank == ESPL_MAX_RANK)
            return espl__fail(diag, ESPL_UNSUPPORTED, "the array has more than %d dimensions", ESPL_MAX_RANK);
        if (!read_dim(h, &h->shape.dim[h->shape.rank]))
            return espl__fail(diag, ESPL_FORMAT, "the header's shape holds something that is no dimension");
        h->shape.rank++;
        if (!accept(h, ',') && (h->shape.rank == 1 || h->at == h->end || *h->at != ')'))
            return espl__fail(diag, ESPL_FORMAT, "the header's shape is not a tuple");
    }
    h->have_shape = true;
    return ESPL_OK;
}

static espl_status read_descr(header *h, espl_diag *diag) {
    char text[16];
    if (!read_string(h, text, sizeof text))
        return espl__fail(diag, ESPL_UNSUPPORTED,
                          "arrays of records are not supported; save each field by itself");
    for (size_t i = 0; i < ESPL_COUNT(descrs); i++)
        if (strcmp(text, descrs[i].descr) == 0) {
            h->dtype = descrs[i].dtype;
            h->have_descr = true;
            return ESPL_OK;
        }
    if (text[0] == '>')
        return espl__fail(diag, ESPL_UNSUPPORTED,
                          "elements of type '%s' are big-endian; save array.astype('<%s')", text, text + 1);
    return espl__fail(diag, ESPL_UNSUPPORTED,
                      "elements of type '%s' are not supported; save array.astype('<f4')", text);
}

static espl_status read_order(header *h, espl_diag *diag) {
    if (accept_word(h, "True"))
        return espl__fail(diag, ESPL_UNSUPPORTED,
                          "the array is in Fortran order; save numpy.ascontiguousarray(array)");
    if (!accept_word(h, "False"))
        return espl__fail(diag, ESPL_FORMAT, "the header's fortran_order is not a bool");
    h->have_order = true;
    return ESPL_OK;
}

static espl_status read_header(header *h, espl_diag *diag) {
    espl_status status = ESPL_OK;
    char key[16];
    if (!accept(h, '{')) goto malformed;
    while (!accept(h, '}')) {
        if (!read_string(h, key, sizeof key) || !accept(h, ':')) goto malformed;
        if (strcmp(key, "descr") == 0)
            status = read_descr(h, diag);
        else if (strcmp(key, "fortran_order") == 0)
            status = read_order(h, diag);
        else if (strcmp(key, "shape") == 0)
            status = read_shape(h, diag);
        else
            goto malformed;
        if (status != ESPL_OK) return status;
        if (!accept(h, ',')) {
            if (!accept(h, '}')) goto malformed;
            break;
        }
    }
    skip_space(h);
    if (h->at == h->end && h->have_descr && h->have_order && h->have_shape) return ESPL_OK;
malformed:
    return espl__fail(diag, ESPL_FORMAT,
                      "the .npy header is not a dictionary of descr, fortran_order and shape");
}

/* --- reading ------------------------------------------------------------------------------- */

/* Reads what stands before the elements; the text lies in `text` (MAX_HEADER bytes). */
static espl_status read_prefix(FILE *file, char *text, header *h, espl_diag *diag) {
    uint8_t b[12];
    if (fread(b, 1, 10, file) != 10 || memcmp(b, magic, 6) != 0)
        return espl__fail(diag, ESPL_FORMAT, "is not a .npy file");
    if (b[6] < 1 || b[6] > 3)
        return espl__fail(diag, ESPL_UNSUPPORTED, "is .npy version %d; versions 1 to 3 can be read", b[6]);
    uint32_t length = b[8] | (uint32_t)b[9] << 8;
    if (b[6] > 1) {
        if (fread(b + 10, 1, 2, file) != 2) return espl__fail(diag, ESPL_FORMAT, "ends inside its header");
        length |= (uint32_t)b[10] << 16 | (uint32_t)b[11] << 24;
    }
    if (length > MAX_HEADER)
        return espl__fail(diag, ESPL_LIMIT, "has a header of %" PRIu32 " bytes, more than %d", length,
                          MAX_HEADER);
    if (fread(text, 1, length, file) != length)
        return espl__fail(diag, ESPL_FORMAT, "ends inside its header");
    *h = (header){.at = text, .end = text + length};
    return read_header(h, diag);
}

/* The elements must be all there before memory is asked for, so that a short file cannot claim a large array.
 */
static espl_status check_size(FILE *file, const header *h, espl_diag *diag) {
    int64_t count = espl_shape_count(&h->shape);
    char text[128];
    if (count < 0)
        return espl__fail(diag, ESPL_LIMIT, "the shape %s is too large",
                          espl_shape_text(&h->shape, text, sizeof text));
    struct stat st;
    int64_t at = ftell(file);
    if (at < 0 || fstat(fileno(file), &st) != 0)
        return espl__fail(diag, ESPL_IO, "cannot be read: %s", strerror(errno));
    int64_t bytes = count * (int64_t)espl_dtype_bytes(h->dtype), have = (int64_t)st.st_size - at;
    if (have == bytes) return ESPL_OK;
    return espl__fail(diag, ESPL_FORMAT,
                      "holds %" PRId64 " bytes after its header where %s of %s needs %" PRId64, have,
                      h->shape.rank ? espl_shape_text(&h->shape, text, sizeof text) : "a scalar",
                      espl_dtype_name(h->dtype), bytes);
}

espl_status espl_npy_read(espl_context *ctx, const char *path, espl_tensor *out, espl_diag *diag) {
    espl_status status = ESPL_OK;
    char *text = NULL;
    header h;
    struct stat st;
    *out = (espl_tensor){0};
    /* Looked at before it is opened: opening a pipe would wait for its other end. */
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode))
        return espl__fail(diag, ESPL_IO, "%s: is not a file", path);
    FILE *file = fopen(path, "rb");
    if (!file) return espl__io_fail(diag, path, "cannot be opened");
    text = espl__alloc(ctx, MAX_HEADER);
    if (!text) {
        status = espl__nomem(diag, MAX_HEADER);
        goto done;
    }
    ESPL_TRY(read_prefix(file, text, &h, diag));
    ESPL_TRY(check_size(file, &h, diag));
    ESPL_TRY(espl_tensor_alloc(ctx, h.dtype, &h.shape, out, diag));
    size_t bytes = espl__tensor_bytes(out);
    if (fread(out->data, 1, bytes, file) != bytes) {
        status = espl__fail(diag, ESPL_IO, "cannot be read to its end");
        goto done;
    }
    if (h.dtype == ESPL_BOOL) /* any other byte would be undefined as a bool */
        for (size_t i = 0; i < bytes; i++) ((uint8_t *)out->data)[i] = ((uint8_t *)out->data)[i] != 0;
done:
    if (status != ESPL_OK) {
        espl_tensor_free(ctx, out);
        espl__diag_prefix(diag, "%s", path);
    }
    espl__free(ctx, text);
    fclose(file);
    return status;
}

/* --- writing ------------------------------------------------------------------------------- */

static const char *descr_of(espl_dtype dtype) {
    for (size_t i = 0; i < ESPL_COUNT(descrs); i++)
        if (descrs[i].dtype == dtype) return descrs[i].descr;
    return NULL;
}

/* Version 1.0: ten bytes, the dictionary, spaces up to a multiple of 64, a newline. */
static void append_header(espl__buffer *b, const char *descr, const espl_shape *shape) {
    espl__buffer_append(b, "\x93NUMPY\x01\x00\x00\x00", 10);
    espl__buffer_printf(b, "{'descr': '%s', 'fortran_order': False, 'shape': (", descr);
    for (int i = 0; i < shape->rank; i++)
        espl__buffer_printf(b, "%s%" PRId64 "%s", i ? " " : "", shape->dim[i],
                            shape->rank == 1 || i + 1 < shape->rank ? "," : "");
    espl__buffer_printf(b, "), }");
    while (!b->failed && (b->length + 1) % ALIGNMENT) espl__buffer_append(b, " ", 1);
    espl__buffer_append(b, "\n", 1);
    if (b->failed) return;
    size_t length = b->length - PREFIX - 2;
    b->data[8] = (char)(length & 255);
    b->data[9] = (char)(length >> 8);
}

espl_status espl_npy_write(espl_context *ctx, const char *path, const espl_tensor *tensor, espl_diag *diag) {
    espl_status status = ESPL_OK;
    espl__buffer b;
    espl__buffer_init(&b, ctx);
    const char *descr = (unsigned)tensor->dtype < ESPL_DTYPE_COUNT ? descr_of(tensor->dtype) : NULL;
    if (!descr && tensor->dtype == ESPL_STRING) {
        status = espl__fail(diag, ESPL_UNSUPPORTED, "%s: strings are not written as .npy", path);
        goto done;
    }
    if (!descr) {
        status = espl__fail(diag, ESPL_UNSUPPORTED, "%s: NumPy has no type for %s; convert to f32 first",
                            path, espl_dtype_name(tensor->dtype));
        goto done;
    }
    if (tensor->shape.rank < 0 || tensor->shape.rank > ESPL_MAX_RANK ||
        espl_shape_count(&tensor->shape) < 0) {
        status = espl__fail(diag, ESPL_SHAPE, "%s: a tensor without a fixed shape cannot be written", path);
        goto done;
    }
    append_header(&b, descr, &tensor->shape);
    espl__buffer_append(&b, tensor->data, espl__tensor_bytes(tensor));
    if (b.failed) {
        status = espl__nomem(diag, espl__tensor_bytes(tensor));
        goto done;
    }
    status = espl__file_write(ctx, path, b.data, b.length, diag);
done:
    espl__buffer_free(&b);
    return status;
}
