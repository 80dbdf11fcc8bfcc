/* Writes protocol buffers by hand, field by field as ONNX's specification numbers them, so that the reader is tested
 * against the format and not against our own writer. Also the fixture of the ONNX tests. */
#ifndef ONNX_BUILD_H
#define ONNX_BUILD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "espalier/onnx.h"
#include "graph/graph.h"

typedef struct fixture {
    espl_context *ctx;
    char folder[64];
    char path[128]; /* the model under test */
    espl_diag diag;
} fixture;

static inline int onnx_setup(void **state) {
    fixture *f = calloc(1, sizeof *f);
    strcpy(f->folder, "/tmp/espl_test_onnx_XXXXXX");
    espl_config config = {.threads = 1};
    if (!mkdtemp(f->folder) || espl_context_create(&config, &f->ctx, NULL) != ESPL_OK) return -1;
    snprintf(f->path, sizeof f->path, "%s/model.onnx", f->folder);
    *state = f;
    return 0;
}

/* Fails if the context holds more than a fresh one. */
static inline int onnx_teardown(void **state) {
    fixture *f = *state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", f->folder);
    int bad = system(command);
    espl_context *fresh = NULL;
    espl_config config = {.threads = 1};
    bad |= espl_context_create(&config, &fresh, NULL) != ESPL_OK ||
           espl_context_memory(fresh, NULL) != espl_context_memory(f->ctx, NULL);
    espl_context_destroy(&fresh);
    espl_context_destroy(&f->ctx);
    free(f);
    return bad;
}

/* Folder of the models, NULL with a line that says so. */
static inline const char *onnx_assets(void) {
    static char path[4096];
    const char *env = getenv("ESPL_ASSETS");
    if (env && *env)
        snprintf(path, sizeof path, "%s/models", env);
    else
        snprintf(path, sizeof path, "%s/../shared/models", ESPL_SOURCE_DIR);
    if (access(path, R_OK) == 0) return path;
    printf("skipped: no assets\n");
    return NULL;
}

/* --- the wire format -------------------------------------------------------------------------- */

typedef espl__buffer wire;

static inline wire wire_new(fixture *f) {
    wire w;
    espl__buffer_init(&w, f->ctx);
    return w;
}

static inline void put_varint(wire *w, uint64_t v) {
    do {
        uint8_t byte = (uint8_t)((v & 0x7f) | (v > 0x7f ? 0x80 : 0));
        espl__buffer_append(w, &byte, 1);
        v >>= 7;
    } while (v);
}
static inline void put_int(wire *w, int field, int64_t v) {
    put_varint(w, (uint64_t)field << 3);
    put_varint(w, (uint64_t)v);
}
static inline void put_float(wire *w, int field, float v) {
    put_varint(w, (uint64_t)field << 3 | 5);
    espl__buffer_append(w, &v, 4);
}
static inline void put_bytes(wire *w, int field, const void *data, size_t length) {
    put_varint(w, (uint64_t)field << 3 | 2);
    put_varint(w, length);
    espl__buffer_append(w, data, length);
}
static inline void put_text(wire *w, int field, const char *text) { put_bytes(w, field, text, strlen(text)); }
/* Takes `sub`. */
static inline void put_message(wire *w, int field, wire sub) {
    put_bytes(w, field, sub.data, sub.length);
    espl__buffer_free(&sub);
}
/* Packed varints. */
static inline void put_packed(wire *w, int field, int count, const int64_t *values) {
    wire sub;
    espl__buffer_init(&sub, w->ctx);
    for (int i = 0; i < count; i++) put_varint(&sub, (uint64_t)values[i]);
    put_message(w, field, sub);
}

/* --- ONNX's messages ---------------------------------------------------------------------------- */

/* TensorProto without data. */
static inline wire tensor_head(fixture *f, const char *name, int type, int rank, const int64_t *dims) {
    wire w = wire_new(f);
    for (int i = 0; i < rank; i++) put_int(&w, 1, dims[i]);
    put_int(&w, 2, type);
    if (name) put_text(&w, 8, name);
    return w;
}

static inline wire tensor_raw(fixture *f, const char *name, int type, int rank, const int64_t *dims, const void *data,
                              size_t bytes) {
    wire w = tensor_head(f, name, type, rank, dims);
    put_bytes(&w, 9, data, bytes);
    return w;
}

/* ValueInfoProto: dimension -1 has the name "N", -2 nothing; rank -1: no shape. */
static inline wire value_info(fixture *f, const char *name, int type, int rank, const int64_t *dims) {
    wire w = wire_new(f), t = wire_new(f), tensor = wire_new(f), shape = wire_new(f);
    for (int i = 0; i < rank; i++) {
        wire d = wire_new(f);
        if (dims[i] >= 0) put_int(&d, 1, dims[i]);
        if (dims[i] == -1) put_text(&d, 2, "N");
        put_message(&shape, 1, d);
    }
    put_int(&tensor, 1, type);
    if (rank >= 0)
        put_message(&tensor, 2, shape);
    else
        espl__buffer_free(&shape);
    put_message(&t, 1, tensor);
    put_text(&w, 1, name);
    put_message(&w, 2, t);
    return w;
}

/* NodeProto; inputs and outputs are names separated by spaces, "-" for an absent one. */
static inline void put_names(wire *w, int field, const char *names) {
    while (*names) {
        size_t n = strcspn(names, " ");
        put_bytes(w, field, names, n == 1 && *names == '-' ? 0 : n);
        names += n + (names[n] == ' ');
    }
}
static inline wire node(fixture *f, const char *op, const char *inputs, const char *outputs) {
    wire w = wire_new(f);
    put_names(&w, 1, inputs);
    put_names(&w, 2, outputs);
    put_text(&w, 4, op);
    return w;
}

/* AttributeProto without a value. */
static inline wire attribute(fixture *f, const char *name, int type) {
    wire w = wire_new(f);
    put_text(&w, 1, name);
    if (type) put_int(&w, 20, type);
    return w;
}

/* Without espl__file_write, which waits for the disk: the tests write thousands. */
static inline void put_file_at(const char *path, const void *data, size_t length) {
    (void)unlink(path); /* a file that is cut off and written again is flushed by some file systems */
    FILE *out = fopen(path, "wb");
    assert_non_null(out);
    assert_int_equal(length ? fwrite(data, 1, length, out) : 0, length);
    assert_int_equal(fclose(out), 0);
}

/* Takes the graph and writes f->path. */
static inline void write_model(fixture *f, wire graph, int opset) {
    wire w = wire_new(f), set = wire_new(f);
    put_int(&w, 1, 7);
    put_message(&w, 7, graph);
    put_text(&set, 1, "");
    put_int(&set, 2, opset);
    put_message(&w, 8, set);
    assert_false(w.failed);
    put_file_at(f->path, w.data, w.length);
    espl__buffer_free(&w);
}

static inline espl_graph *read_model(fixture *f) {
    espl_graph *g = NULL;
    f->diag = (espl_diag){0};
    if (espl_onnx_read(f->ctx, f->path, &g, &f->diag) != ESPL_OK) fail_msg("%s", f->diag.message);
    return g;
}

/* The model is refused with this status and with `part` in the sentence. */
static inline void refused(fixture *f, espl_status expected, const char *part) {
    espl_graph *g = NULL;
    f->diag = (espl_diag){0};
    espl_status status = espl_onnx_read(f->ctx, f->path, &g, &f->diag);
    assert_null(g);
    if (status != expected || !strstr(f->diag.message, part) || !strstr(f->diag.message, f->path))
        fail_msg("status %s, '%s', expected %s and '%s'", espl_status_name(status), f->diag.message,
                 espl_status_name(expected), part);
    assert_int_equal(f->diag.status, expected);
}

#endif
