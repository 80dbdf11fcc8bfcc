/* What the tests of repairs share: fixtures, quantizing, repairing, errors. */
#ifndef REPAIR_RIG_H
#define REPAIR_RIG_H

#include "real_models.h"

#include "compress/repair/linear.h"
#include "compress/repair/rounding.h"

#define FIXTURES ESPL_SOURCE_DIR "/tests/fixtures/repair/"
enum { SAMPLES = 16 };

static inline espl_tensor array_of(espl_context *ctx, const char *name) {
    char path[4096];
    espl_tensor t;
    espl_diag diag = {0};
    snprintf(path, sizeof path, FIXTURES "%s.npy", name);
    if (espl_npy_read(ctx, path, &t, &diag) != ESPL_OK) fail_msg("%s", diag.message);
    return t;
}

static inline espl_graph *graph_of(espl_context *ctx, const char *name) {
    char path[4096];
    espl_graph *g = NULL;
    espl_diag diag = {0};
    snprintf(path, sizeof path, FIXTURES "%s.onnx", name);
    if (espl_graph_read(ctx, path, &g, &diag) != ESPL_OK) fail_msg("%s", diag.message);
    return g;
}

static inline espl_dataset *data_of(espl_context *ctx, const char *path) {
    espl_dataset *d = NULL;
    espl_diag diag = {0};
    if (espl_dataset_open(ctx, path, &d, &diag) != ESPL_OK) fail_msg("%s", diag.message);
    return d;
}

static inline espl_graph *copy_of(const espl_graph *g) {
    espl_graph *copy = NULL;
    assert_int_equal(espl__graph_clone(g, &copy, NULL), ESPL_OK);
    return copy;
}

static inline espl__repair repair_of(const char *text) {
    espl__repair r;
    assert_true(espl__repair_parse(text, &r));
    return r;
}

/* Repairs g in place. */
static inline void repair(espl_context *ctx, espl_graph *g, const espl_graph *reference, espl_dataset *data, int64_t samples,
                   const char *text) {
    espl_diag diag = {0};
    espl__repair r = repair_of(text);
    espl__repair_task t = {.ctx = ctx, .graph = g, .reference = reference, .data = data, .step = 1, .count = samples};
    if (espl__repair_apply(&t, &r, &diag) != ESPL_OK) fail_msg("%s: %s", text, diag.message);
    assert_int_equal(espl__graph_verify(g, &diag), ESPL_OK);
}

/* Constant `input` of the node of that name is the array, up to `tolerance` of its largest element. */
static inline void same_constant(espl_context *ctx, espl_graph *g, const char *node, int input, const char *array,
                          double tolerance) {
    espl_tensor want = array_of(ctx, array);
    for (int i = 0; i < g->node_count; i++) {
        if (strcmp(g->nodes[i]->name, node) != 0) continue;
        const espl_tensor *have = espl__constant_f32(g, g->nodes[i]->inputs[input]);
        const float *a = have->data, *b = want.data;
        float most = 0;
        assert_int_equal(espl_shape_count(&have->shape), espl_shape_count(&want.shape));
        for (int64_t k = 0; k < espl_shape_count(&want.shape); k++) most = fmaxf(most, fabsf(b[k]));
        for (int64_t k = 0; k < espl_shape_count(&want.shape); k++)
            if (!(fabs((double)a[k] - b[k]) <= tolerance * most))
                fail_msg("%s, element %d: %g, should be %g", array, (int)k, (double)a[k], (double)b[k]);
        espl_tensor_free(ctx, &want);
        return;
    }
    fail_msg("no node '%s'", node);
}

/* --- errors ---------------------------------------------------------------------------------------------------------- */

typedef struct outputs {
    float *x;
    int64_t count, labels;
    espl_dataset *data;
    int64_t right;
} outputs;

static inline espl_status keep(void *user, int64_t index, const espl_tensor *in, const espl_tensor *out, espl_diag *diag) {
    outputs *o = user;
    int64_t n = espl_shape_count(&out->shape), best = 0, label = -1;
    (void)in;
    o->x = realloc(o->x, sizeof *o->x * (size_t)(o->count + n));
    memcpy(o->x + o->count, out->data, sizeof *o->x * (size_t)n);
    o->count += n;
    for (int64_t i = 0; i < n; i++)
        if (((float *)out->data)[i] > ((float *)out->data)[best]) best = i;
    espl_status status = o->labels ? espl_dataset_label(o->data, index, &label, diag) : ESPL_OK;
    o->right += best == label;
    return status;
}

static inline outputs run_all(espl_context *ctx, const espl_graph *g, espl_dataset *data, int64_t samples, bool labels) {
    outputs o = {.labels = labels, .data = data};
    espl_session *s = NULL;
    espl_diag diag = {0};
    if (espl_session_create(ctx, g, NULL, &s, &diag) != ESPL_OK) fail_msg("%s", diag.message);
    assert_int_equal(espl__each_sample(ctx, s, data, 1, samples, keep, &o, &diag), ESPL_OK);
    espl_session_destroy(&s);
    return o;
}

/* |a - b| / |b| of the first output over all samples. */
static inline double error_of(espl_context *ctx, const espl_graph *a, const espl_graph *b, espl_dataset *data, int64_t samples) {
    outputs x = run_all(ctx, a, data, samples, false), y = run_all(ctx, b, data, samples, false);
    double difference = 0, size = 0;
    assert_int_equal(x.count, y.count);
    for (int64_t i = 0; i < x.count; i++) {
        difference += ((double)x.x[i] - y.x[i]) * ((double)x.x[i] - y.x[i]);
        size += (double)y.x[i] * y.x[i];
    }
    free(x.x);
    free(y.x);
    return sqrt(difference / size);
}

/* Quantizes g in place. */
static inline void quantize(espl_context *ctx, espl_graph *g, espl_dataset *data, int64_t samples, decision how) {
    range *ranges = calloc((size_t)g->value_count + 1, sizeof *ranges);
    decision *decisions = calloc((size_t)g->node_count + 1, sizeof *decisions);
    int values = g->value_count;
    for (int i = 0; i < g->node_count; i++) decisions[i] = how;
    assert_int_equal(espl__calibrate(ctx, g, NULL, data, 0, 1, samples, NULL, ranges, NULL, NULL, NULL), ESPL_OK);
    assert_int_equal(espl__ptq_apply(g, ranges, decisions, ESPL_FLAVOUR_PORTABLE, NULL), ESPL_OK);
    for (int i = 0; i < values; i++) espl__range_free(ctx, &ranges[i]);
    free(ranges);
    free(decisions);
}

static const decision s8_tensor = {.weights = ESPL_FORMAT_S8, .integer = true, .per_tensor = true};
static const decision s8 = {.weights = ESPL_FORMAT_S8, .integer = true};
static const decision s3 = {.weights = ESPL_FORMAT_S3, .integer = true};
static const decision s3_weights = {.weights = ESPL_FORMAT_S3};

/* `before` and `after` are errors: the repair must divide it by `margin` at least. */
static inline void better(const char *what, double before, double after, double margin) {
    print_message("%s: error %.4f without, %.4f with it\n", what, before, after);
    if (!(after * margin <= before)) fail_msg("%s: %g is not %g times better than %g", what, after, margin, before);
}

/* A quantized copy of a network with these repairs, in this order; NULL ends them. */
static inline espl_graph *repaired(espl_context *ctx, const espl_graph *g, espl_dataset *data, int64_t samples, decision how,
                            const char *const *repairs) {
    espl_graph *q = copy_of(g);
    quantize(ctx, q, data, samples, how);
    for (; *repairs; repairs++) repair(ctx, q, g, data, samples, *repairs);
    return q;
}

static inline int open_context(void **state) {
    *state = new_context(2);
    return 0;
}
static inline int close_context(void **state) {
    espl_context_destroy((espl_context **)state);
    return 0;
}

#endif
