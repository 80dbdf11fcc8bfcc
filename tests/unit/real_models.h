/* The networks of ESPL_ASSETS, and a quick quantization of any network. */
#ifndef REAL_MODELS_H
#define REAL_MODELS_H

#include "graph_build.h"

#include <unistd.h>

#include "compress/compress.h"

/* NULL, and a line that says so, where there are none. */
static inline const char *models_folder(void) {
    static char folder[4096];
    const char *env = getenv("ESPL_ASSETS");
    snprintf(folder, sizeof folder, "%s/models", env && *env ? env : ESPL_SOURCE_DIR "/../shared");
    if (access(folder, R_OK) == 0) return folder;
    printf("skipped: no assets\n");
    return NULL;
}

static inline espl_graph *real_model(espl_context *ctx, const char *name) {
    char path[4400];
    espl_graph *g = NULL;
    espl_diag diag = {0};
    snprintf(path, sizeof path, "%s/%s/model.onnx", models_folder(), name);
    if (espl_graph_read(ctx, path, &g, &diag) != ESPL_OK) fail_msg("%s", diag.message);
    return g;
}

static inline void widen(void *user, int value, const char *name, const float *data, int64_t count) {
    range *r = &((range *)user)[value];
    (void)name;
    for (int64_t i = 0; i < count; i++) {
        r->min = fminf(r->min, data[i]);
        r->max = fmaxf(r->max, data[i]);
    }
    r->seen++;
}

/* Quantizes a network on one sample: its first input, or NULL for made-up ones. */
static inline void quantize_model_on(espl_context *ctx, espl_graph *g, espl_flavour flavour, const espl_tensor *sample) {
    range *ranges = calloc((size_t)g->value_count + 1, sizeof *ranges);
    decision *decisions = calloc((size_t)g->node_count + 1, sizeof *decisions);
    espl_session *s = NULL;
    espl_session_options options = {.observer = widen, .observer_user = ranges};
    assert_int_equal(espl_session_create(ctx, g, &options, &s, NULL), ESPL_OK);
    run_io io = io_of(s, 1);
    if (sample) memcpy(io.in[0].data, sample->data, bytes_of(&io.in[0]));
    run_session(s, &io);
    io_free(&io);
    espl_session_destroy(&s);
    for (int i = 0; i < g->node_count; i++)
        decisions[i] = (decision){.weights = ESPL_FORMAT_S8, .integer = true};
    assert_int_equal(espl__ptq_apply(g, ranges, decisions, flavour, NULL), ESPL_OK);
    free(ranges);
    free(decisions);
}

static inline void quantize_model(espl_context *ctx, espl_graph *g, espl_flavour flavour) {
    quantize_model_on(ctx, g, flavour, NULL);
}

#endif
