#include "train/checkpoint.h"

static const char magic[8] = {'E', 'S', 'P', 'L', 'C', 'K', 'P', 'T'};
enum { HEADER = 16 };

void espl__checkpoint_add(espl__checkpoint *c, void *data, uint64_t bytes) {
    c->part[c->parts].data = data;
    c->part[c->parts++].bytes = bytes;
}

/* --- writing ------------------------------------------------------------------------------------- */

static void put(uint8_t *at, uint64_t value, int bytes) {
    for (int i = 0; i < bytes; i++) at[i] = (uint8_t)(value >> (8 * i));
}

static void append(espl__buffer *b, uint64_t value) {
    uint8_t bytes[8];
    put(bytes, value, 8);
    espl__buffer_append(b, bytes, sizeof bytes);
}

static void append_real(espl__buffer *b, double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    append(b, bits);
}

espl_status espl__checkpoint_write(espl_context *ctx, const espl__checkpoint *c, const char *path,
                                   espl_diag *diag) {
    espl__buffer b;
    uint8_t header[HEADER] = {0};
    espl__buffer_init(&b, ctx);
    espl__buffer_append(&b, header, HEADER);
#define X(name) append(&b, (uint64_t)c->name);
    ESPL__CHECKPOINT_COUNTS(X)
#undef X
#define X(name) append_real(&b, c->name);
    ESPL__CHECKPOINT_REALS(X)
#undef X
    append(&b, c->settings_length);
    espl__buffer_append(&b, c->settings, c->settings_length);
    append(&b, (uint64_t)c->parts);
    for (int i = 0; i < c->parts; i++) {
        append(&b, c->part[i].bytes);
        espl__buffer_append(&b, c->part[i].data, (size_t)c->part[i].bytes);
    }
    espl_status status = b.failed ? espl__nomem(diag, b.length) : ESPL_OK;
    if (status == ESPL_OK) {
        memcpy(header, magic, sizeof magic);
        put(header + 8, ESPL__CHECKPOINT_VERSION, 4);
        put(header + 12, espl__crc32((const uint8_t *)b.data + HEADER, b.length - HEADER), 4);
        memcpy(b.data, header, HEADER);
        status = espl__file_write(ctx, path, b.data, b.length, diag);
    }
    espl__buffer_free(&b);
    return status;
}

/* --- reading --------------------------------------------------------------------------------------- */

/* What is left of the file; after a read past the end `bad` stays set. */
typedef struct cursor {
    const uint8_t *at, *end;
    bool bad;
} cursor;

static uint64_t get(const uint8_t *at, int bytes) {
    uint64_t value = 0;
    for (int i = 0; i < bytes; i++) value |= (uint64_t)at[i] << (8 * i);
    return value;
}

static uint64_t take(cursor *c) {
    if (c->end - c->at < 8) {
        c->bad = true;
        return 0;
    }
    c->at += 8;
    return get(c->at - 8, 8);
}

static double take_real(cursor *c) {
    uint64_t bits = take(c);
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static const uint8_t *take_bytes(cursor *c, uint64_t *length) {
    const uint8_t *at;
    *length = take(c);
    if (c->bad || *length > (uint64_t)(c->end - c->at)) {
        c->bad = true;
        *length = 0;
    }
    at = c->at;
    c->at += *length;
    return at;
}

static espl_status parse(espl__checkpoint *c) {
    cursor k = {c->bytes + HEADER, c->bytes + c->length, false};
    uint64_t length;
#define X(name) c->name = (int64_t)take(&k);
    ESPL__CHECKPOINT_COUNTS(X)
#undef X
#define X(name) c->name = take_real(&k);
    ESPL__CHECKPOINT_REALS(X)
#undef X
    c->settings = (const char *)take_bytes(&k, &length);
    c->settings_length = (size_t)length;
    uint64_t parts = take(&k);
    for (uint64_t i = 0; i < parts && !k.bad; i++) {
        const uint8_t *data = take_bytes(&k, &length);
        if (c->parts == ESPL__CHECKPOINT_PARTS) k.bad = true;
        if (!k.bad) espl__checkpoint_add(c, (void *)data, length);
    }
    bool numbers = c->epoch >= 0 && c->step >= 0 && c->total >= 0 && c->optim_steps >= 0 && c->log_bytes >= 0;
    return k.bad || k.at != k.end || !numbers ? ESPL_FORMAT : ESPL_OK;
}

espl_status espl__checkpoint_read(espl_context *ctx, espl__checkpoint *c, const char *path, espl_diag *diag) {
    *c = (espl__checkpoint){0};
    espl_status status = espl__file_read(ctx, path, 0, &c->bytes, &c->length, diag);
    if (status != ESPL_OK) return status;
    if (c->length < HEADER || memcmp(c->bytes, magic, sizeof magic) != 0)
        status = espl__fail(diag, ESPL_FORMAT, "%s: is no checkpoint", path);
    else if (get(c->bytes + 8, 4) != ESPL__CHECKPOINT_VERSION)
        status =
            espl__fail(diag, ESPL_FORMAT, "%s: is a checkpoint of version %u; this program knows version %d",
                       path, (unsigned)get(c->bytes + 8, 4), ESPL__CHECKPOINT_VERSION);
    else if (get(c->bytes + 12, 4) != espl__crc32(c->bytes + HEADER, c->length - HEADER) ||
             parse(c) != ESPL_OK)
        status = espl__fail(diag, ESPL_FORMAT, "%s: is damaged: its checksum or its parts do not fit", path);
    if (status != ESPL_OK) espl__checkpoint_free(ctx, c);
    return status;
}

espl_status espl__checkpoint_take(const espl__checkpoint *c, const espl__checkpoint *to, const char *path,
                                  espl_diag *diag) {
    bool same = c->parts == to->parts;
    for (int i = 0; same && i < c->parts; i++) same = c->part[i].bytes == to->part[i].bytes;
    if (!same)
        return espl__fail(diag, ESPL_CHECK_FAILED,
                          "%s: was made by training another network or with other settings", path);
    for (int i = 0; i < c->parts; i++)
        if (c->part[i].bytes) memcpy(to->part[i].data, c->part[i].data, (size_t)c->part[i].bytes);
    return ESPL_OK;
}

void espl__checkpoint_free(espl_context *ctx, espl__checkpoint *c) {
    espl__free(ctx, c->bytes);
    *c = (espl__checkpoint){0};
}
