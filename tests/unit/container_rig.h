/* Graphs as the bytes of an .espl file and back, and files that somebody changed. */
#ifndef CONTAINER_RIG_H
#define CONTAINER_RIG_H

#include "graph_oracle.h"
#include "scratch.h"

#include "espalier/model.h"
#include "runtime/container.h"

static char path[SCRATCH_PATH];

static inline void put_file(const void *data, size_t n) {
    (void)unlink(path); /* a file that is cut off and written again is flushed by some file systems */
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(n ? fwrite(data, 1, n, f) : 0, n);
    assert_int_equal(fclose(f), 0);
}

static inline espl__buffer bytes_of_graph(espl_context *ctx, const espl_graph *g) {
    espl__buffer b;
    espl_diag diag = {0};
    if (espl__model_bytes(ctx, g, &b, &diag) != ESPL_OK) fail_msg("%s", diag.message);
    return b;
}

static inline espl_graph *read_back(espl_context *ctx, const espl__buffer *b) {
    espl_graph *g = NULL;
    espl_diag diag = {0};
    put_file(b->data, b->length);
    if (espl_model_read(ctx, path, &g, &diag) != ESPL_OK) fail_msg("%s", diag.message);
    return g;
}

static inline espl_context *frugal_context(void) {
    espl_context *ctx = NULL;
    espl_config config = {.threads = 1, .max_alloc = 64 << 20};
    assert_int_equal(espl_context_create(&config, &ctx, NULL), ESPL_OK);
    return ctx;
}

static inline void refused_well(espl_status status, const espl_diag *diag, const char *what) {
    if (espl_status_exit_code(status) != 2 || !diag->message[0] || strchr(diag->message, '\n') ||
        diag->status != status)
        fail_msg("%s: status %s: '%s'", what, espl_status_name(status), diag->message);
}

/* A file with the header that belongs to its contents. */
static inline void seal(uint8_t *data, size_t n) {
    uint64_t length = n - CONTAINER_HEADER;
    uint32_t crc = espl__crc32(data + CONTAINER_HEADER, length);
    memcpy(data + 8, &crc, 4);
    memcpy(data + 12, &length, 8);
}

/* Bytes from `at` on become others, the checksum is made to fit, and the reader says why not. */
static inline void expect_sentence(espl_context *ctx, const espl__buffer *b, size_t at, const void *bytes,
                                   size_t n, const char *sentence) {
    espl_graph *g = NULL;
    espl_diag diag = {0};
    uint8_t *copy = malloc(b->length);
    memcpy(copy, b->data, b->length);
    memcpy(copy + at, bytes, n);
    seal(copy, b->length);
    put_file(copy, b->length);
    free(copy);
    espl_status status = espl_model_read(ctx, path, &g, &diag);
    if (status == ESPL_OK) fail_msg("accepted instead of '%s'", sentence);
    refused_well(status, &diag, "read");
    if (!strstr(diag.message, sentence) || !strstr(diag.message, path))
        fail_msg("'%s' instead of '%s'", diag.message, sentence);
}

static inline int setup(void **state) {
    (void)state;
    return scratch_begin(path, "container.espl") ? 0 : -1;
}

static inline int teardown(void **state) {
    (void)state;
    scratch_end(path);
    return 0;
}

#endif
