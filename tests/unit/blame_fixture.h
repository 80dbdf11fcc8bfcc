/* The classifier of tests/oracle/make_blame_fixtures.py. */
#ifndef BLAME_FIXTURE_H
#define BLAME_FIXTURE_H

#include "graph_build.h"
#include "scratch.h"

#include <math.h>

#include "compress/job.h"
#include "compress/probe.h"

#define FOLDER ESPL_SOURCE_DIR "/tests/fixtures/blame/"

typedef struct fixture {
    espl_context *ctx;
    espl_graph *graph;
    espl_dataset *data;
    espl_chip *chip;           /* that is not this machine, which would be measured first */
    char recipe[SCRATCH_PATH]; /* a file: all weights in one format, activations as they are */
} fixture;

static inline fixture fixture_open(const char *format, int threads) {
    fixture f = {.ctx = new_context(threads)};
    espl_diag diag = {0};
    if (espl_graph_read(f.ctx, FOLDER "model.onnx", &f.graph, &diag) != ESPL_OK) fail_msg("%s", diag.message);
    if (espl_dataset_open(f.ctx, FOLDER "data.yaml", &f.data, &diag) != ESPL_OK) fail_msg("%s", diag.message);
    if (espl_chip_load(f.ctx, "x86-avx512-vnni", &f.chip, &diag) != ESPL_OK) fail_msg("%s", diag.message);
    assert_true(scratch_begin(f.recipe, "recipe.yaml"));
    FILE *out = fopen(f.recipe, "w");
    assert_non_null(out);
    const char *more = strcmp(format, "f32") ? ", activations: f32, fit: max" : "";
    assert_true(fprintf(out, "layers:\n- {match: '*', format: %s%s}\n", format, more) > 0);
    assert_int_equal(fclose(out), 0);
    return f;
}

static inline void fixture_close(fixture *f, int threads) {
    scratch_end(f->recipe);
    espl_graph_destroy(&f->graph);
    espl_dataset_close(&f->data);
    espl_chip_destroy(&f->chip);
    assert_int_equal(espl_context_memory(f->ctx, NULL), empty_context(threads));
    espl_context_destroy(&f->ctx);
}

/* All samples calibrate, and all are measured on. */
static inline espl_compress_options fixture_options(const fixture *f) {
    return (espl_compress_options){.chip = f->chip,
                                   .data = f->data,
                                   .calib = f->data,
                                   .max_drop = -1,
                                   .goal = -1,
                                   .flavour = -1,
                                   .recipe = f->recipe};
}

static inline void near(const char *layer, const char *what, double have, double want) {
    if (!(fabs(have - want) <= 1e-4 * fabs(want) + 1e-9))
        fail_msg("%s: %s is %.8g, not %.8g", layer, what, have, want);
}

#endif
