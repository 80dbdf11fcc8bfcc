/* Integer labels from .npy and IDX files, and the IDX reader itself. */
#include "data/idx.h"

#include <inttypes.h>

/* --- IDX ------------------------------------------------------------------------------------------ */

static int idx_bytes(uint8_t type) {
    switch (type) {
        case 0x08:
        case 0x09:
            return 1;
        case 0x0b:
            return 2;
        case 0x0c:
        case 0x0d:
            return 4;
        case 0x0e:
            return 8;
        default:
            return 0;
    }
}

static uint64_t big_endian(const uint8_t *p, int bytes) {
    uint64_t v = 0;
    for (int i = 0; i < bytes; i++) v = v << 8 | p[i];
    return v;
}

static espl_status parse_idx(const char *path, uint64_t length, espl__idx *idx, espl_diag *diag) {
    const uint8_t *p = idx->file;
    if (length < 4 || p[0] != 0 || p[1] != 0 || idx_bytes(p[2]) == 0 || p[3] == 0)
        return espl__fail(diag, ESPL_FORMAT, "%s: is not an IDX file", path);
    if (p[3] > ESPL_MAX_RANK)
        return espl__fail(diag, ESPL_UNSUPPORTED, "%s: has %d dimensions; at most %d are read", path, p[3],
                          ESPL_MAX_RANK);
    idx->type = p[2];
    idx->shape.rank = p[3];
    uint64_t header = 4 + 4 * (uint64_t)p[3];
    if (length < header) return espl__fail(diag, ESPL_FORMAT, "%s: ends inside its header", path);
    for (int i = 0; i < idx->shape.rank; i++) idx->shape.dim[i] = (int64_t)big_endian(p + 4 + 4 * i, 4);
    int64_t count = espl_shape_count(&idx->shape);
    if (count < 0 || (uint64_t)count * (uint64_t)idx_bytes(idx->type) != length - header) {
        char text[128];
        return espl__fail(
            diag, ESPL_FORMAT, "%s: holds %" PRIu64 " bytes of elements, which are not %s of %d bytes", path,
            length - header, espl_shape_text(&idx->shape, text, sizeof text), idx_bytes(idx->type));
    }
    idx->elements = p + header;
    return ESPL_OK;
}

espl_status espl__idx_read(espl_context *ctx, const char *path, espl__idx *idx, espl_diag *diag) {
    uint64_t length;
    *idx = (espl__idx){0};
    espl_status status = espl__gz_read(ctx, path, &idx->file, &length, diag);
    if (status == ESPL_OK) status = parse_idx(path, length, idx, diag);
    if (status != ESPL_OK) {
        espl__free(ctx, idx->file);
        *idx = (espl__idx){0};
    }
    return status;
}

double espl__idx_element(const espl__idx *idx, int64_t i) {
    int bytes = idx_bytes(idx->type);
    uint64_t bits = big_endian(idx->elements + i * bytes, bytes);
    uint32_t low = (uint32_t)bits;
    float f;
    double d;
    switch (idx->type) {
        case 0x09:
            return (int8_t)bits;
        case 0x0b:
            return (int16_t)bits;
        case 0x0c:
            return (int32_t)low;
        case 0x0d:
            memcpy(&f, &low, sizeof f);
            return (double)f;
        case 0x0e:
            memcpy(&d, &bits, sizeof d);
            return d;
        default:
            return (double)bits;
    }
}

/* --- labels ----------------------------------------------------------------------------------------- */

espl_status espl__labels_idx(espl_context *ctx, const char *path, int64_t **labels, int64_t *count,
                             espl_diag *diag) {
    espl__idx idx;
    *labels = NULL;
    espl_status status = espl__idx_read(ctx, path, &idx, diag);
    if (status != ESPL_OK) return status;
    if (idx.shape.rank != 1 || idx.type >= 0x0d) {
        status = espl__fail(diag, ESPL_SHAPE, "%s: labels must be a list of integers", path);
        goto done;
    }
    *count = idx.shape.dim[0];
    *labels = espl__calloc(ctx, (uint64_t)*count, sizeof **labels);
    if (!*labels) {
        status = espl__nomem(diag, (uint64_t)*count * sizeof **labels);
        goto done;
    }
    for (int64_t i = 0; i < *count; i++) (*labels)[i] = (int64_t)espl__idx_element(&idx, i);
done:
    espl__free(ctx, idx.file);
    return status;
}

static int64_t integer_at(const espl_tensor *t, int64_t i) {
    switch (t->dtype) {
        case ESPL_U8:
        case ESPL_BOOL:
            return ((const uint8_t *)t->data)[i];
        case ESPL_S8:
            return ((const int8_t *)t->data)[i];
        case ESPL_U16:
            return ((const uint16_t *)t->data)[i];
        case ESPL_S16:
            return ((const int16_t *)t->data)[i];
        case ESPL_U32:
            return ((const uint32_t *)t->data)[i];
        case ESPL_S32:
            return ((const int32_t *)t->data)[i];
        default:
            return ((const int64_t *)t->data)[i]; /* u64 beyond 2^63 turns negative and is refused */
    }
}

/* A label is a class number, which label_offset must not carry out of range. */
static espl_status check_labels(const char *path, const int64_t *labels, int64_t count, espl_diag *diag) {
    for (int64_t i = 0; i < count; i++)
        if (labels[i] < 0 || labels[i] > INT32_MAX)
            return espl__fail(diag, ESPL_FORMAT,
                              "%s: label %" PRId64 " is %" PRId64 ", which is no class number", path, i,
                              labels[i]);
    return ESPL_OK;
}

espl_status espl__labels_npy(espl_context *ctx, const char *path, int64_t **labels, int64_t *count,
                             espl_diag *diag) {
    espl_tensor t;
    *labels = NULL;
    espl_status status = espl_npy_read(ctx, path, &t, diag);
    if (status != ESPL_OK) return status;
    if (t.shape.rank != 1 || espl_dtype_is_float(t.dtype)) {
        status = espl__fail(diag, ESPL_SHAPE, "%s: labels must be a list of integers", path);
        goto done;
    }
    *count = t.shape.dim[0];
    *labels = espl__calloc(ctx, (uint64_t)*count, sizeof **labels);
    if (!*labels) {
        status = espl__nomem(diag, (uint64_t)*count * sizeof **labels);
        goto done;
    }
    for (int64_t i = 0; i < *count; i++) (*labels)[i] = integer_at(&t, i);
    status = check_labels(path, *labels, *count, diag);
done:
    if (status != ESPL_OK) {
        espl__free(ctx, *labels);
        *labels = NULL;
    }
    espl_tensor_free(ctx, &t);
    return status;
}
