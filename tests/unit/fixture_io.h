/* Models and tensors of tests/fixtures, by the names of their files: a format and what it takes. */
#ifndef FIXTURE_IO_H
#define FIXTURE_IO_H

#include "graph_build.h"

#include <stdarg.h>

#include "espalier/onnx.h"

static inline const char *fixture_path(char *path, size_t size, const char *format, va_list args) {
    int n = snprintf(path, size, "%s/tests/fixtures/", ESPL_SOURCE_DIR);
    vsnprintf(path + n, size - (size_t)n, format, args);
    return path;
}

/* As the file says it, or after all passes. */
__attribute__((format(printf, 3, 4))) static inline espl_graph *fixture_graph(espl_context *ctx, bool passes,
                                                                              const char *format, ...) {
    char path[4096];
    espl_graph *g = NULL;
    espl_diag diag = {0};
    va_list args;
    va_start(args, format);
    if (espl_onnx_read(ctx, fixture_path(path, sizeof path, format, args), &g, &diag) != ESPL_OK)
        fail_msg("%s", diag.message);
    va_end(args);
    if (passes && espl__passes_run(g, &diag) != ESPL_OK) fail_msg("%s", diag.message);
    return g;
}

__attribute__((format(printf, 2, 3))) static inline espl_tensor fixture_tensor(espl_context *ctx,
                                                                               const char *format, ...) {
    char path[4096];
    espl_tensor t;
    espl_diag diag = {0};
    va_list args;
    va_start(args, format);
    if (espl_onnx_read_tensor(ctx, fixture_path(path, sizeof path, format, args), &t, &diag) != ESPL_OK)
        fail_msg("%s", diag.message);
    va_end(args);
    return t;
}

#endif
