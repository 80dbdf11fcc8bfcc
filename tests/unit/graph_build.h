/* Small graphs made in memory, random ones among them, and plain helpers to run them. The graphs grow node by node with
 * inferred shapes, so that each new node is chosen to fit what is there. */
#ifndef GRAPH_BUILD_H
#define GRAPH_BUILD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "../cases.h"

#include "espalier/session.h"
#include "base/cpu.h"
#include "graph/graph.h"
#include "passes/passes.h"

#define SHAPE(...) \
    ((espl_shape){(int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), {__VA_ARGS__}})

typedef struct rig {
    espl_context *ctx;
    espl_graph *g;
    espl__rng rng;
    espl_diag diag;
} rig;

static inline espl_context *new_context(int threads) {
    espl_context *ctx = NULL;
    espl_config config = {.threads = threads};
    assert_int_equal(espl_context_create(&config, &ctx, NULL), ESPL_OK);
    return ctx;
}

/* Bytes that a context of so many threads holds by itself. */
static inline uint64_t empty_context(int threads) {
    espl_context *ctx = new_context(threads);
    uint64_t bytes = espl_context_memory(ctx, NULL);
    espl_context_destroy(&ctx);
    return bytes;
}

static inline void rig_begin(rig *r, espl_context *ctx, uint64_t seed) {
    *r = (rig){.ctx = ctx, .rng = espl__rng_seed(seed, 7)};
    assert_int_equal(espl__graph_create(ctx, &r->g, NULL), ESPL_OK);
    r->g->opset = 13;
}

static inline int64_t pick(rig *r, int64_t lo, int64_t hi) {
    return lo + espl__rng_below(&r->rng, (uint32_t)(hi - lo + 1));
}
static inline bool chance(rig *r, int percent) { return espl__rng_below(&r->rng, 100) < (uint32_t)percent; }

/* --- values ------------------------------------------------------------------------------------------ */

static inline espl__value *input_of(rig *r, const char *name, espl_dtype dtype, espl_shape shape) {
    espl__value *v = espl__graph_value(r->g, name);
    assert_non_null(v);
    v->dtype = dtype;
    v->shape = shape;
    v->known_rank = true;
    v->is_input = true;
    return v;
}

static inline espl__value *constant_of(rig *r, espl_dtype dtype, espl_shape shape, const void *data) {
    espl_tensor t = {dtype, shape, (void *)data};
    espl__value *v = espl__graph_constant(r->g, NULL, &t);
    assert_non_null(v);
    return v;
}

static inline espl__value *ints_of(rig *r, int count, const int64_t *values) {
    return constant_of(r, ESPL_S64, SHAPE(count), values);
}
#define INTS(r, ...) ints_of(r, (int)(sizeof((int64_t[]){__VA_ARGS__}) / 8), (int64_t[]){__VA_ARGS__})

static inline espl__value *scalar_of(rig *r, float x) { return constant_of(r, ESPL_F32, (espl_shape){0}, &x); }

/* Normal numbers times `spread`. */
static inline espl__value *random_of(rig *r, espl_shape shape, float spread) {
    espl__value *v = constant_of(r, ESPL_F32, shape, NULL);
    float *x = v->constant->data;
    for (int64_t i = 0; i < espl_shape_count(&shape); i++) x[i] = spread * espl__rng_normal(&r->rng);
    return v;
}

/* --- nodes --------------------------------------------------------------------------------------------- */

static inline espl__node *node_of(rig *r, const char *op, int inputs, espl__value *const *in, int outputs) {
    const espl__op *found = espl__op_find("", op);
    if (!found) fail_msg("no operator %s", op);
    espl__node *n = espl__graph_node(r->g, found, "", inputs, outputs, 0);
    assert_non_null(n);
    for (int i = 0; i < inputs; i++) n->inputs[i] = in[i];
    for (int i = 0; i < outputs; i++) {
        espl__value *v = espl__graph_value(r->g, NULL);
        assert_non_null(v);
        espl__node_set_output(n, i, v);
    }
    return n;
}
#define NODE(r, op, ...) \
    node_of(r, op, (int)(sizeof((espl__value *[]){__VA_ARGS__}) / sizeof(void *)), (espl__value *[]){__VA_ARGS__}, 1)

/* Infers the node's outputs; its first one. */
static inline espl__value *done_of(rig *r, espl__node *n) {
    r->diag = (espl_diag){0};
    if (n->op->infer(n, &r->diag) != ESPL_OK) fail_msg("%s: %s", n->op->name, r->diag.message);
    return n->outputs[0];
}
#define APPLY(r, op, ...) done_of(r, NODE(r, op, __VA_ARGS__))

static inline void set_ints(rig *r, espl__node *n, const char *name, int count, const int64_t *v) {
    assert_true(espl__attr_set_ints(r->g, n, name, v, count));
}
#define SET_INTS(r, n, name, ...) \
    set_ints(r, n, name, (int)(sizeof((int64_t[]){__VA_ARGS__}) / 8), (int64_t[]){__VA_ARGS__})
static inline void set_int(rig *r, espl__node *n, const char *name, int64_t v) {
    assert_true(espl__attr_set_int(r->g, n, name, v));
}

static inline void outputs_are(rig *r, int inputs, espl__value *const *in, int outputs, espl__value *const *out) {
    char name[32];
    for (int i = 0; i < outputs; i++)
        if (!out[i]->is_input && !espl__graph_is_output(r->g, out[i])) {
            snprintf(name, sizeof name, "out%d", i);
            if (!espl__graph_find(r->g, name)) out[i]->name = espl__arena_strdup(&r->g->arena, name);
        }
    assert_true(espl__graph_set_io(r->g, in, inputs, out, outputs));
    r->diag = (espl_diag){0};
    if (espl__graph_verify(r->g, &r->diag) != ESPL_OK) fail_msg("%s", r->diag.message);
}
#define IO(r, in, ...)                                                                                       \
    outputs_are(r, 1, (espl__value *[]){in}, (int)(sizeof((espl__value *[]){__VA_ARGS__}) / sizeof(void *)), \
                (espl__value *[]){__VA_ARGS__})

static inline void quantize_value(rig *r, espl__value *v, espl_format format, float scale, int32_t zero) {
    assert_true(espl__graph_set_quant(r->g, v, format, -1, 1, &scale, &zero));
}

/* Replaces a constant's data by s8 codes, one scale per index of `axis` (-1: one for all). */
static inline void quantize_constant_of(rig *r, espl__value *v, int axis, espl_format format) {
    const espl_shape *s = &v->constant->shape;
    int64_t count = espl_shape_count(s), channels = axis < 0 ? 1 : s->dim[axis], inner = 1;
    int32_t lo, hi;
    espl__format_range(format, &lo, &hi);
    for (int d = axis + 1; axis >= 0 && d < s->rank; d++) inner *= s->dim[d];
    float *scale = calloc((size_t)channels + 1, sizeof *scale);
    const float *x = v->constant->data;
    for (int64_t i = 0; i < count; i++) {
        float *m = &scale[axis < 0 ? 0 : i / inner % channels];
        *m = fmaxf(*m, fabsf(x[i]));
    }
    for (int64_t c = 0; c < channels; c++) scale[c] = scale[c] > 0 ? scale[c] / (float)hi : 1;
    espl_tensor *codes = espl__graph_tensor(r->g, ESPL_S8, s, NULL);
    assert_non_null(codes);
    for (int64_t i = 0; i < count; i++) {
        double q = nearbyint((double)x[i] / scale[axis < 0 ? 0 : i / inner % channels]);
        ((int8_t *)codes->data)[i] = (int8_t)(q < lo ? lo : q > hi ? hi : q);
    }
    v->constant = codes;
    assert_true(espl__graph_set_quant(r->g, v, format, axis, channels, scale, NULL));
    free(scale);
}

/* --- running ---------------------------------------------------------------------------------------------- */

/* Input and output tensors of a session, filled and owned by the test. */
typedef struct run_io {
    int inputs, outputs;
    espl_tensor in[8], out[64];
} run_io;

static inline size_t bytes_of(const espl_tensor *t) { return espl__tensor_bytes(t); }

static inline void fill_random(espl__rng *rng, espl_tensor *t) {
    int64_t n = espl_shape_count(&t->shape);
    for (int64_t i = 0; i < n; i++) {
        if (t->dtype == ESPL_F32)
            ((float *)t->data)[i] = espl__rng_normal(rng);
        else
            memset((char *)t->data + (size_t)i * espl_dtype_bytes(t->dtype), 0, espl_dtype_bytes(t->dtype));
    }
}

static inline run_io io_of(const espl_session *s, uint64_t seed) {
    run_io x = {.inputs = espl_session_input_count(s), .outputs = espl_session_output_count(s)};
    espl__rng rng = espl__rng_seed(seed, 3);
    assert_true(x.inputs <= 8 && x.outputs <= 64);
    for (int i = 0; i < x.inputs; i++) {
        x.in[i] = *espl_session_input_info(s, i);
        x.in[i].data = calloc(1, bytes_of(&x.in[i]) + 1);
        fill_random(&rng, &x.in[i]);
    }
    for (int i = 0; i < x.outputs; i++) {
        x.out[i] = *espl_session_output_info(s, i);
        x.out[i].data = malloc(bytes_of(&x.out[i]) + 1);
        memset(x.out[i].data, 0xee, bytes_of(&x.out[i]) + 1);
    }
    return x;
}

static inline void io_free(run_io *x) {
    for (int i = 0; i < x->inputs; i++) free(x->in[i].data);
    for (int i = 0; i < x->outputs; i++) free(x->out[i].data);
}

static inline espl_session *session_of(espl_context *ctx, const espl_graph *g) {
    espl_session *s = NULL;
    espl_diag diag = {0};
    if (espl_session_create(ctx, g, NULL, &s, &diag) != ESPL_OK) fail_msg("session: %s", diag.message);
    return s;
}

/* The same on one instruction set, whatever ESPL_CPU says. */
static inline espl_session *session_at(espl_context *ctx, const espl_graph *g, espl__cpu level) {
    const espl__cpu own = espl__cpu_level();
    espl__cpu_use(level);
    espl_session *s = session_of(ctx, g);
    espl__cpu_use(own);
    return s;
}

/* The instruction set after `level` for a test that walks them: the best one at once in all but the optimised build, as
 * checkkern and test_runtime walk them all everywhere. */
static inline int level_after(int level) {
    const int best = (int)espl__cpu_level();
    if (SHARE > 1 && level < best) return best;
    do level++;
    while (level < best && !espl__cpu_has((espl__cpu)level));
    return level;
}

static inline void run_session(espl_session *s, run_io *x) {
    espl_diag diag = {0};
    if (espl_session_run(s, x->in, x->out, &diag) != ESPL_OK) fail_msg("run: %s", diag.message);
    for (int i = 0; i < x->outputs; i++)
        if (((uint8_t *)x->out[i].data)[bytes_of(&x->out[i])] != 0xee) fail_msg("output %d: written past its end", i);
}

/* Runs an unquantized graph on these inputs by the operators' references; free out[] with espl_tensor_free. */
static inline void run_reference_of(espl_context *ctx, const espl_graph *g, const espl_tensor *in, espl_tensor *out) {
    espl_graph *copy = NULL;
    espl_shape shapes[8];
    espl_diag diag = {0};
    assert_int_equal(espl__graph_clone(g, &copy, &diag), ESPL_OK);
    for (int i = 0; i < g->input_count; i++) shapes[i] = in[i].shape;
    if (espl__specialise(copy, shapes, &diag) != ESPL_OK) fail_msg("specialise: %s", diag.message);
    if (espl__evaluate(ctx, copy, in, out, &diag) != ESPL_OK) fail_msg("evaluate: %s", diag.message);
    espl_graph_destroy(&copy);
}

/* Root of the sum of squares of a - b over that of b. */
static inline double relative_error(const espl_tensor *a, const espl_tensor *b) {
    double d = 0, all = 1e-12;
    for (int64_t i = 0; i < espl_shape_count(&a->shape); i++) {
        double x = ((const float *)a->data)[i], y = ((const float *)b->data)[i];
        d += (x - y) * (x - y);
        all += y * y;
    }
    return sqrt(d / all);
}

/* Largest difference relative to the largest element; infinite if one side has NaN or infinity alone. */
static inline double difference(const espl_tensor *a, const espl_tensor *b) {
    double most = 0, size = 0.5; /* values are of the order of 1: what cancels to less has the error of its terms */
    if (a->dtype != b->dtype || !espl_shape_equal(&a->shape, &b->shape)) return INFINITY;
    if (a->dtype != ESPL_F32) return memcmp(a->data, b->data, bytes_of(a)) ? INFINITY : 0;
    const float *x = a->data, *y = b->data;
    for (int64_t i = 0; i < espl_shape_count(&a->shape); i++) {
        if (isnan(x[i]) && isnan(y[i])) continue;
        if (x[i] == y[i]) {
            size = fmax(size, isfinite(x[i]) ? fabs(x[i]) : 0);
            continue;
        }
        double d = fabs((double)x[i] - y[i]);
        if (!(d < INFINITY)) return INFINITY;
        most = fmax(most, d);
        size = fmax(size, fabs(y[i]));
    }
    return most / size;
}

/* One line a node, for messages of failing random graphs. */
static inline void print_graph(const espl_graph *g) {
    char a[128];
    for (int i = 0; i < g->node_count; i++) {
        const espl__node *n = g->nodes[i];
        printf("  %-20s", n->op->name);
        for (int j = 0; j < n->input_count; j++)
            if (n->inputs[j])
                printf(" %s%s[%s]", n->inputs[j]->constant ? "c:" : n->inputs[j]->name,
                       espl__is_quantized(n->inputs[j]) ? "q" : "", espl_shape_text(&n->inputs[j]->shape, a, sizeof a));
        printf(" ->");
        for (int j = 0; j < n->output_count; j++)
            if (n->outputs[j])
                printf(" %s%s[%s]", n->outputs[j]->name, espl__is_quantized(n->outputs[j]) ? "q" : "",
                       espl_shape_text(&n->outputs[j]->shape, a, sizeof a));
        for (int j = 0; j < n->attr_count; j++) {
            const espl__attr *t = &n->attrs[j];
            if (!t->name) continue;
            printf(" %s=", t->name);
            if (t->kind == ESPL__ATTR_INTS)
                for (int64_t k = 0; k < t->count; k++) printf("%s%lld", k ? "," : "", (long long)t->ints[k]);
            else if (t->kind == ESPL__ATTR_INT)
                printf("%lld", (long long)t->i);
            else if (t->kind == ESPL__ATTR_FLOAT)
                printf("%g", (double)t->f);
            else if (t->kind == ESPL__ATTR_STRING)
                printf("%s", t->s);
        }
        printf(" opset %d\n", n->opset);
    }
    for (int i = 0; i < g->output_count; i++) printf("  output %s\n", g->outputs[i]->name);
}

#endif
