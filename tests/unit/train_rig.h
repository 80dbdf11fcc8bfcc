/* What tests of training's parts share: fixtures in either precision (tests/oracle/make_loss_fixtures.py). */
#ifndef TRAIN_RIG_H
#define TRAIN_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>

#include "base/base.h"
#include "tensor/tensor.h"

static espl_context *ctx;
static uint64_t at_start;

static inline int setup(void **state) {
    (void)state;
    if (espl_context_create(&(espl_config){.threads = 2}, &ctx, NULL) != ESPL_OK) return -1;
    at_start = espl_context_memory(ctx, NULL);
    return 0;
}

static inline int teardown(void **state) {
    (void)state;
    bool leak = espl_context_memory(ctx, NULL) != at_start;
    espl_context_destroy(&ctx);
    return leak ? -1 : 0;
}

static inline espl_tensor load(const char *name) {
    char path[512];
    espl_tensor t;
    snprintf(path, sizeof path, ESPL_SOURCE_DIR "/tests/fixtures/training/%s.npy", name);
    assert_int_equal(espl_npy_read(ctx, path, &t, NULL), ESPL_OK);
    return t;
}

/* A fixture of f64 as reals of that type; free with espl_tensor_free. */
static inline espl_tensor load_as(const char *name, espl_dtype real) {
    espl_tensor t = load(name), out;
    int64_t n = espl_shape_count(&t.shape);
    assert_int_equal(t.dtype, ESPL_F64);
    assert_int_equal(espl_tensor_alloc(ctx, real, &t.shape, &out, NULL), ESPL_OK);
    for (int64_t i = 0; i < n; i++)
        if (real == ESPL_F64)
            ((double *)out.data)[i] = ((const double *)t.data)[i];
        else
            ((float *)out.data)[i] = (float)((const double *)t.data)[i];
    espl_tensor_free(ctx, &t);
    return out;
}

static inline double real_at(const void *data, espl_dtype real, int64_t i) {
    return real == ESPL_F64 ? ((const double *)data)[i] : (double)((const float *)data)[i];
}

/* Relative to numbers of the order of 1. */
static inline void expect_near(const char *what, int64_t i, double got, double want, double tolerance) {
    if (!(fabs(got - want) <= tolerance * (1 + fabs(want))))
        fail_msg("%s, element %d: %.17g, and PyTorch says %.17g", what, (int)i, got, want);
}

#endif
