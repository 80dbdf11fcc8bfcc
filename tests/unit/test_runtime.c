/* Sessions against the operators' plain references and an oracle for quantized graphs, over random graphs. */
#define _GNU_SOURCE
#include "../clock.h"
#include "base/cpu.h"
#include "graph_oracle.h"

#include <pthread.h>
#include <unistd.h>

#include "kernels/kernels.h"
#include "real_models.h"

static int from_seed(void) { return getenv("ESPL_SEED") ? atoi(getenv("ESPL_SEED")) : 0; }
static int seeds(int usual) {
    const char *count = getenv("ESPL_COUNT");
    return getenv("ESPL_SEED") ? 1 : count ? atoi(count) : CASES(usual);
}
static void trace(uint64_t seed, const espl_graph *g) {
    if (!getenv("ESPL_TRACE")) return;
    printf("seed %d\n", (int)seed);
    print_graph(g);
    fflush(stdout);
}

/* --- floating point --------------------------------------------------------------------------------------- */

static void check_float_graph(espl_context *ctx, uint64_t seed, bool passes) {
    random_graph x;
    random_graph_of(&x, ctx, seed, 16, false);
    espl_graph *g = x.r.g;
    espl_diag diag = {0};
    espl_tensor expected[8] = {{0}};
    espl_session *s = NULL;
    trace(seed, g);
    espl_graph *plain = NULL;
    assert_int_equal(espl__graph_clone(g, &plain, NULL), ESPL_OK);
    if (passes && espl__passes_run(g, &diag) != ESPL_OK) fail_msg("seed %d: %s", (int)seed, diag.message);
    if (espl_session_create(ctx, g, NULL, &s, &diag) != ESPL_OK) {
        print_graph(g);
        fail_msg("seed %d: %s", (int)seed, diag.message);
    }
    run_io io = io_of(s, seed);
    run_reference_of(ctx, plain, io.in, expected);
    run_session(s, &io);
    for (int i = 0; i < io.outputs; i++) {
        double d = difference(&io.out[i], &expected[i]);
        if (!(d <= 1e-5)) {
            print_graph(plain);
            fail_msg("seed %d: output %d differs by %g of its largest element", (int)seed, i, d);
        }
        espl_tensor_free(ctx, &expected[i]);
    }
    io_free(&io);
    espl_session_destroy(&s);
    espl_graph_destroy(&plain);
    espl_graph_destroy(&g);
}

static void random_float_graphs(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    for (int i = from_seed(); i < from_seed() + seeds(1500); i++) check_float_graph(ctx, (uint64_t)i, i % 2);
    assert_int_equal(espl_context_memory(ctx, NULL), empty_context(1));
    espl_context_destroy(&ctx);
}

/* --- integers ------------------------------------------------------------------------------------------------ */

typedef struct tally {
    int64_t codes, off; /* compared, differing by one step */
} tally;

static double code_of(const espl__value *v, float x) {
    if (!on_integers(v->quant.format)) return (double)x / v->quant.scale[0];
    return nearbyint((double)x / v->quant.scale[0]) + (v->quant.zero ? v->quant.zero[0] : 0);
}

/* Formats other than integers: the nearest number to what f32 arithmetic may have made of x. */
static bool is_nearest(const espl__value *v, double have, double x, double size) {
    const float low = espl__format_round(v->quant.format, (float)((x - 1e-5 * size) / v->quant.scale[0]));
    const float high = espl__format_round(v->quant.format, (float)((x + 1e-5 * size) / v->quant.scale[0]));
    return have >= (double)low - 1e-6 * fabs((double)low) && have <= (double)high + 1e-6 * fabs((double)high);
}

/* Steps of the output by which an integer layer may be off: one, and what a bias that is no multiple of the accumulator's
 * unit loses when it is rounded to it (much, if weights of few bits make the unit coarse). */
static double steps_allowed(const espl__value *y) {
    const espl__node *n = y->producer;
    double unit = 0;
    if (n->input_count < 3 || !n->inputs[2] || !espl__is_quantized(n->inputs[0]) || !espl__is_quantized(n->inputs[1])) return 1;
    const espl__quant *w = &n->inputs[1]->quant;
    for (int64_t c = 0; c < w->count; c++) unit = fmax(unit, (double)n->inputs[0]->quant.scale[0] * w->scale[c]);
    return 1 + ceil(0.5 * unit / y->quant.scale[0]);
}

/* Compares a value with the oracle's. */
static void compare_value(const espl__value *v, const float *got, const double *expected, uint64_t seed, const espl_graph *g,
                          tally *t) {
    double size = 0.5;
    for (int64_t i = 0; i < elements(v); i++) size = fmax(size, fabs(expected[i]));
    for (int64_t i = 0; i < elements(v); i++) {
        if (!espl__is_quantized(v)) {
            if (fabs(got[i] - expected[i]) <= 1e-5 * size) continue;
            print_graph(g);
            fail_msg("seed %d: %s of %s: element %d is %g, the oracle says %g", (int)seed, v->name, v->producer->op->name,
                     (int)i, (double)got[i], expected[i]);
        }
        double want = round_to_grid(expected[i], v->quant.scale[0], v->quant.zero ? v->quant.zero[0] : 0, v->quant.format);
        double have = code_of(v, got[i]);
        if (!on_integers(v->quant.format) && is_nearest(v, have, expected[i], size)) continue;
        t->codes++;
        t->off += want != have;
        if (on_integers(v->quant.format) && fabs(want - have) <= steps_allowed(v)) continue;
        print_graph(g);
        fail_msg("seed %d: %s of %s: element %d has code %g, the oracle says %g (%g on scale %g)", (int)seed, v->name,
                 v->producer->op->name, (int)i, have, want, expected[i], (double)v->quant.scale[0]);
    }
}

/* Every value of the graph is an output of the session: each node is checked on the inputs that the session gave it. */
static void check_nodes(const espl_graph *g, const run_io *io, uint64_t seed, tally *t) {
    float **real = calloc((size_t)g->value_count + 1, sizeof *real);
    for (int i = 0; i < g->value_count; i++)
        if (g->values[i]->constant && g->values[i]->dtype == ESPL_F32) real[i] = real_of(g->values[i]);
    for (int i = 0; i < g->output_count; i++) real[g->outputs[i]->id] = io->out[i].data;
    for (int i = 0; i < g->node_count; i++) {
        const espl__node *n = g->nodes[i];
        float *in[8] = {NULL};
        double *y[8] = {NULL};
        for (int k = 0; k < n->input_count; k++) in[k] = n->inputs[k] ? real[n->inputs[k]->id] : NULL;
        for (int k = 0; k < n->output_count; k++) y[k] = malloc((size_t)elements(n->outputs[k]) * 8 + 8);
        oracle_node(n, in, y);
        for (int k = 0; k < n->output_count; k++) {
            compare_value(n->outputs[k], real[n->outputs[k]->id], y[k], seed, g, t);
            free(y[k]);
        }
    }
    for (int i = 0; i < g->value_count; i++)
        if (g->values[i]->constant) free(real[i]);
    free(real);
}

static void check_quantized_graph(espl_context *ctx, uint64_t seed, int percent, tally *t) {
    random_graph x;
    random_quantized_graph(&x, ctx, seed, percent);
    espl_graph *g = x.r.g, *wide = NULL;
    trace(seed, g);
    assert_int_equal(espl__graph_clone(g, &wide, NULL), ESPL_OK);
    all_values_are_outputs(wide);
    espl_session *fused = session_of(ctx, g), *every = session_of(ctx, wide);
    run_io a = io_of(fused, seed), b = io_of(every, seed);
    run_session(fused, &a);
    run_session(every, &b);
    check_nodes(wide, &b, seed, t);
    /* What is fused gives the integers of what is not. In between a value that is not rounded may tip a code. */
    for (int i = 0; i < g->output_count; i++)
        for (int k = 0; k < wide->output_count; k++) {
            if (wide->outputs[k]->id != g->outputs[i]->id) continue;
            bool same = memcmp(a.out[i].data, b.out[k].data, bytes_of(&a.out[i])) == 0;
            if (same || (percent < 100 && relative_error(&a.out[i], &b.out[k]) < 0.1)) continue;
            print_graph(g);
            fail_msg("seed %d: output %d changes by %g when all values are outputs", (int)seed, i,
                     relative_error(&a.out[i], &b.out[k]));
        }
    io_free(&a);
    io_free(&b);
    espl_session_destroy(&fused);
    espl_session_destroy(&every);
    espl_graph_destroy(&wide);
    espl_graph_destroy(&g);
}

static void quantized_graphs(int percent, int count) {
    espl_context *ctx = new_context(1);
    tally t = {0, 0};
    for (int i = from_seed(); i < from_seed() + seeds(count); i++) check_quantized_graph(ctx, 1000000 + (uint64_t)i, percent, &t);
    printf("%lld codes, %lld differ by one\n", (long long)t.codes, (long long)t.off);
    assert_true(t.off * 100 < t.codes || t.codes < 10000);
    assert_int_equal(espl_context_memory(ctx, NULL), empty_context(1));
    espl_context_destroy(&ctx);
}

static void random_quantized_graphs(void **state) {
    (void)state;
    quantized_graphs(100, 600);
}
static void random_partly_quantized_graphs(void **state) {
    (void)state;
    quantized_graphs(60, 600);
}

/* --- every CPU level, every number of threads, every time ------------------------------------------------------------ */

/* FNV-1a. */
static uint64_t hash_bytes(uint64_t h, const void *data, size_t n) {
    for (size_t i = 0; i < n; i++) h = (h ^ ((const uint8_t *)data)[i]) * 1099511628211u;
    return h;
}

/* A network of integer layers large enough that they are shared among threads: convolutions of all kinds, a residual
 * addition, pools, a softmax between floats, and matrices. */
static void large_network(rig *r, espl_context *ctx, bool quantized) {
    rig_begin(r, ctx, 99);
    espl__value *x = input_of(r, "x", ESPL_F32, SHAPE(ESPL_DIM_UNKNOWN, 12, 30, 30));
    x->shape.dim[0] = 1;
    espl__node *n = NODE(r, "Conv", x, random_of(r, SHAPE(48, 12, 3, 3), 0.1f), random_of(r, SHAPE(48), 0.1f));
    SET_INTS(r, n, "pads", 1, 1, 1, 1);
    espl__value *a = APPLY(r, "Relu", done_of(r, n));
    n = NODE(r, "Conv", a, random_of(r, SHAPE(48, 1, 3, 3), 0.3f));
    SET_INTS(r, n, "pads", 1, 1, 1, 1);
    set_int(r, n, "group", 48);
    espl__value *b = done_of(r, n);
    n = NODE(r, "Conv", b, random_of(r, SHAPE(48, 48, 1, 1), 0.15f));
    espl__value *sum = APPLY(r, "Relu", APPLY(r, "Add", done_of(r, n), a));
    n = NODE(r, "AveragePool", sum);
    SET_INTS(r, n, "kernel_shape", 3, 3);
    SET_INTS(r, n, "strides", 2, 2);
    espl__value *pooled = APPLY(r, "Sigmoid", done_of(r, n));
    n = NODE(r, "Conv", pooled, random_of(r, SHAPE(32, 12, 3, 3), 0.1f));
    set_int(r, n, "group", 4);
    espl__value *grouped = done_of(r, n);
    espl__value *flat = APPLY(r, "Flatten", grouped);
    espl__value *y = APPLY(r, "Gemm", flat, random_of(r, SHAPE(dim_of(flat, 1), 40), 0.02f), random_of(r, SHAPE(40), 0.1f));
    espl__value *soft = APPLY(r, "Softmax", y);
    IO(r, x, soft, grouped);
    if (quantized) {
        random_graph g = {.r = *r};
        float *real = calloc((size_t)elements(x) + 1, sizeof *real);
        for (int64_t i = 0; i < elements(x); i++) real[i] = espl__rng_normal(&g.r.rng);
        quantize_graph(&g, real, 100);
        free(real);
        *r = g.r;
    }
    x->shape.dim[0] = ESPL_DIM_UNKNOWN;
    for (int i = 0; i < r->g->node_count; i++) assert_int_equal(r->g->nodes[i]->op->infer(r->g->nodes[i], NULL), ESPL_OK);
}

static uint64_t hash_run(uint64_t h, espl_context *ctx, const espl_graph *g, uint64_t seed) {
    espl_session *s = session_of(ctx, g);
    run_io io = io_of(s, seed);
    run_session(s, &io);
    for (int i = 0; i < io.outputs; i++) h = hash_bytes(h, io.out[i].data, bytes_of(&io.out[i]));
    io_free(&io);
    espl_session_destroy(&s);
    return h;
}

static uint64_t hash_all(int threads) {
    espl_context *ctx = new_context(threads);
    uint64_t h = 14695981039346656037u;
    for (uint64_t seed = 0; seed < CASES(150); seed++) {
        random_graph x;
        random_quantized_graph(&x, ctx, 2000000 + seed, seed % 3 ? 100 : 70);
        h = hash_run(h, ctx, x.r.g, seed);
        espl_graph_destroy(&x.r.g);
    }
    for (int quantized = 0; quantized < 2; quantized++) {
        rig r;
        large_network(&r, ctx, quantized);
        h = hash_run(h, ctx, r.g, 5);
        espl_graph_destroy(&r.g);
    }
    espl_context_destroy(&ctx);
    return h;
}

/* The real models, as they are and quantized in both flavours. */
static uint64_t hash_models(int threads) {
    static const char *const names[] = {
        "dtln-lstm", "mlperf-tiny-ad_autoencoder", "mlperf-tiny-kws_dscnn", "mlperf-tiny-resnet8_cifar10",
        "mlperf-tiny-vww_mobilenet025_96", "mnist-cnn", "mnist-mlp", "openwakeword-embedding", "resnet20-cifar10-bn",
        "ultraface-rfb320", "vit-cifar10",
    };
    espl_context *ctx = new_context(threads);
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < ESPL_COUNT(names); i++)
        for (int flavour = -1; flavour < ESPL_FLAVOUR_COUNT; flavour++) {
            espl_graph *g = real_model(ctx, names[i]);
            if (flavour >= 0) quantize_model(ctx, g, (espl_flavour)flavour);
            h = hash_run(h, ctx, g, i);
            espl_graph_destroy(&g);
        }
    espl_context_destroy(&ctx);
    return h;
}

static char self[4096];

/* The hash that this program prints when it is run again under another CPU level; false if that was not used. */
static bool hash_of_level(const char *level, const char *what, int threads, char *out, size_t size) {
    char command[5000], name[32] = "";
    snprintf(command, sizeof command, "ESPL_CPU=%s " ESPL_EMULATOR " '%s' --%s %d", level, self, what, threads);
    FILE *p = popen(command, "r");
    assert_non_null(p);
    int got = fscanf(p, "%31s", name);
    assert_non_null(fgets(out, (int)size, p));
    int rc = pclose(p);
    if (rc != 0 || got != 1) fail_msg("%s ended with %d", command, rc);
    return strcmp(name, level) == 0;
}

static void compare_levels(const char *what) {
    char first[64] = "", hash[64];
    for (espl__cpu level = ESPL__CPU_REF; level < ESPL__CPU_COUNT; level++) {
        const char *name = espl__cpu_level_name(level);
        if (!espl__cpu_has(level)) {
            printf("this machine has no %s\n", name);
            continue;
        }
        /* The optimised build compares numbers of threads; the others have seen that two work. */
        for (int threads = SHARE > 1 ? 2 : 1; threads <= (SHARE > 1 ? 2 : 4); threads += threads) {
            assert_true(hash_of_level(name, what, threads, hash, sizeof hash));
            if (!first[0]) strcpy(first, hash);
            if (strcmp(first, hash) != 0) fail_msg("%s with %d threads gives other bytes", name, threads);
        }
    }
}

static void all_levels_and_threads_give_the_same_bytes(void **state) {
    (void)state;
    compare_levels("hash");
}

static void real_models_give_the_same_bytes(void **state) {
    (void)state;
#ifdef ESPL_SANITIZED
    skip(); /* the reference kernels take too long there */
#endif
    if (!models_folder()) skip();
    compare_levels("models");
}

static void runs_repeat_and_allocate_nothing(void **state) {
    (void)state;
    for (int threads = 1; threads <= 2; threads++)
        for (int quantized = 0; quantized < 2; quantized++) {
            espl_context *ctx = new_context(threads);
            rig r;
            large_network(&r, ctx, quantized);
            espl_session *s = session_of(ctx, r.g);
            run_io a = io_of(s, 1), b = io_of(s, 1), other = io_of(s, 2);
            uint64_t before = espl_context_allocations(ctx);
            run_session(s, &a);
            run_session(s, &other); /* what another input leaves behind must not show */
            run_session(s, &b);
            assert_int_equal(espl_context_allocations(ctx), before);
            for (int i = 0; i < a.outputs; i++) assert_memory_equal(a.out[i].data, b.out[i].data, bytes_of(&a.out[i]));
            io_free(&a);
            io_free(&b);
            io_free(&other);
            espl_session_destroy(&s);
            espl_graph_destroy(&r.g);
            espl_context_destroy(&ctx);
        }
}

/* A random graph run twice on other inputs in between, and its workspace untouched by another session. */
static void sessions_do_not_disturb_each_other(void **state) {
    enum { SESSIONS = 24 };
    (void)state;
    espl_context *ctx = new_context(2);
    espl_session *s[SESSIONS];
    run_io first[SESSIONS], again;
    for (int i = 0; i < SESSIONS; i++) {
        random_graph x;
        random_quantized_graph(&x, ctx, 3000000 + (uint64_t)i, i % 2 ? 100 : 0);
        s[i] = session_of(ctx, x.r.g);
        espl_graph_destroy(&x.r.g);
        first[i] = io_of(s[i], (uint64_t)i);
        run_session(s[i], &first[i]);
    }
    uint64_t before = espl_context_allocations(ctx);
    for (int i = SESSIONS - 1; i >= 0; i--) {
        again = io_of(s[i], (uint64_t)i);
        run_session(s[i], &again);
        for (int k = 0; k < again.outputs; k++)
            assert_memory_equal(again.out[k].data, first[i].out[k].data, bytes_of(&again.out[k]));
        io_free(&again);
    }
    assert_int_equal(espl_context_allocations(ctx), before);
    for (int i = 0; i < SESSIONS; i++) {
        io_free(&first[i]);
        espl_session_destroy(&s[i]);
    }
    assert_int_equal(espl_context_memory(ctx, NULL), empty_context(2));
    espl_context_destroy(&ctx);
}

static void *run_in_thread(void *arg) {
    *(uint64_t *)arg = hash_all(2);
    return NULL;
}

static void contexts_work_side_by_side(void **state) {
    (void)state;
    uint64_t hash[3] = {0};
    pthread_t thread[2];
    for (int i = 0; i < 2; i++) assert_int_equal(pthread_create(&thread[i], NULL, run_in_thread, &hash[i]), 0);
    hash[2] = hash_all(1);
    for (int i = 0; i < 2; i++) pthread_join(thread[i], NULL);
    assert_true(hash[0] == hash[2] && hash[1] == hash[2]);
}

static void a_batch_is_its_samples(void **state) {
    enum { BATCH = 3 };
    (void)state;
    for (int quantized = 0; quantized < 2; quantized++) {
        espl_context *ctx = new_context(2);
        rig r;
        large_network(&r, ctx, quantized);
        espl_shape shape = r.g->inputs[0]->shape;
        espl_session *one = session_of(ctx, r.g), *many = NULL;
        shape.dim[0] = BATCH;
        espl_session_options options = {.input_shapes = &shape};
        assert_int_equal(espl_session_create(ctx, r.g, &options, &many, NULL), ESPL_OK);
        run_io a = io_of(many, 8), b = io_of(one, 8);
        run_session(many, &a);
        for (int i = 0; i < BATCH; i++) {
            size_t in = bytes_of(&b.in[0]);
            memcpy(b.in[0].data, (char *)a.in[0].data + (size_t)i * in, in);
            run_session(one, &b);
            for (int k = 0; k < b.outputs; k++)
                assert_memory_equal(b.out[k].data, (char *)a.out[k].data + (size_t)i * bytes_of(&b.out[k]), bytes_of(&b.out[k]));
        }
        io_free(&a);
        io_free(&b);
        espl_session_destroy(&one);
        espl_session_destroy(&many);
        espl_graph_destroy(&r.g);
        espl_context_destroy(&ctx);
    }
}

/* --- corners ---------------------------------------------------------------------------------------------------------- */

/* Runs the graph of `r` and compares with the references; destroys it. */
static void check_against_reference(rig *r) {
    espl_tensor expected[8] = {{0}};
    espl_session *s = session_of(r->ctx, r->g);
    run_io io = io_of(s, 77);
    run_reference_of(r->ctx, r->g, io.in, expected);
    run_session(s, &io);
    for (int i = 0; i < io.outputs; i++) {
        double d = difference(&io.out[i], &expected[i]);
        if (!(d <= 1e-5)) {
            print_graph(r->g);
            fail_msg("output %d differs by %g", i, d);
        }
        espl_tensor_free(r->ctx, &expected[i]);
    }
    io_free(&io);
    espl_session_destroy(&s);
    espl_graph_destroy(&r->g);
}

static void empty_tensors(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    rig r;
    for (int kind = 0; kind < 12; kind++) {
        rig_begin(&r, ctx, (uint64_t)kind);
        bool four = kind < 7;
        espl__value *x = input_of(&r, "x", ESPL_F32, kind == 9 ? SHAPE(3, 0) : four ? SHAPE(0, 4, 5, 5) : SHAPE(0, 4)), *y = NULL;
        espl__node *n;
        switch (kind) {
            case 0: y = APPLY(&r, "Conv", x, random_of(&r, SHAPE(8, 4, 3, 3), 1), random_of(&r, SHAPE(8), 1)); break;
            case 1:
                n = NODE(&r, "MaxPool", x);
                SET_INTS(&r, n, "kernel_shape", 2, 2);
                y = done_of(&r, n);
                break;
            case 2: y = APPLY(&r, "GlobalAveragePool", x); break;
            case 3: y = APPLY(&r, "Add", APPLY(&r, "Relu", x), x); break;
            case 4: y = APPLY(&r, "Flatten", x); break;
            case 5:
                n = NODE(&r, "Concat", x, random_of(&r, SHAPE(2, 4, 5, 5), 1));
                set_int(&r, n, "axis", 0);
                y = done_of(&r, n);
                break;
            case 6: y = APPLY(&r, "Pad", x, INTS(&r, 1, 0, 0, 0, 0, 0, 0, 0)); break;
            case 7: y = APPLY(&r, "Gemm", x, random_of(&r, SHAPE(4, 3), 1), random_of(&r, SHAPE(3), 1)); break;
            case 8: y = APPLY(&r, "Softmax", x); break;
            case 9: { /* a sum over nothing is zero */
                espl__node *t = NODE(&r, "Transpose", x);
                y = APPLY(&r, "MatMul", x, done_of(&r, t));
                break;
            }
            case 10: y = APPLY(&r, "MatMul", x, random_of(&r, SHAPE(4, 3), 1)); break;
            default: y = APPLY(&r, "Sigmoid", x); break;
        }
        IO(&r, x, y);
        check_against_reference(&r);
    }
    espl_context_destroy(&ctx);
}

/* Attributes and grids are numbers from a file: whatever they say, planning and running stay inside their memory. */
static void enormous_borders(void **state) {
    (void)state;
    const int64_t far = 1 << 30;
    espl_context *ctx = NULL;
    espl_config config = {.threads = 1, .max_alloc = (uint64_t)1 << 28};
    assert_int_equal(espl_context_create(&config, &ctx, NULL), ESPL_OK);
    static const char *const ops[] = {"Conv", "MaxPool", "AveragePool"};
    for (int kind = 0; kind < 12; kind++) {
        rig r;
        rig_begin(&r, ctx, 1);
        espl__value *x = input_of(&r, "x", ESPL_F32, SHAPE(1, 4, 6, 6));
        const char *op = ops[kind % 3];
        espl__node *n = kind % 3 ? NODE(&r, op, x) : NODE(&r, op, x, random_of(&r, SHAPE(5, 4, 2, 2), 1));
        n->opset = 19;
        SET_INTS(&r, n, "kernel_shape", 2, 2);
        int64_t pad = kind < 6 ? far : far / 4, by = kind < 3 ? far : kind < 9 ? far - 3 : far / 256;
        SET_INTS(&r, n, "pads", pad, pad, pad, pad);
        SET_INTS(&r, n, "strides", by, by);
        if (kind >= 9) SET_INTS(&r, n, "dilations", pad, pad);
        if (n->op->infer(n, NULL) != ESPL_OK) {
            espl_graph_destroy(&r.g);
            continue;
        }
        IO(&r, x, n->outputs[0]);
        espl_session *s = NULL;
        espl_diag diag = {0};
        double begin = seconds_worked();
        if (espl_session_create(ctx, r.g, NULL, &s, &diag) == ESPL_OK) {
            run_io io = io_of(s, 3);
            espl_tensor expected = {0};
            run_session(s, &io);
            run_reference_of(ctx, r.g, io.in, &expected);
            assert_true(difference(&io.out[0], &expected) < 1e-5);
            espl_tensor_free(ctx, &expected);
            io_free(&io);
        } else {
            assert_true(diag.message[0]);
        }
        if (seconds_worked() - begin > 5 * ESPL_SLOWNESS) fail_msg("%s with a border of %d took %g s", op, (int)pad, seconds_worked() - begin);
        espl_session_destroy(&s);
        espl_graph_destroy(&r.g);
    }
    espl_context_destroy(&ctx);
}

/* Shapes that no memory holds are the file's fault, and no arithmetic on them overflows. */
static void enormous_shapes(void **state) {
    static const int64_t sizes[] = {INT64_MAX, (int64_t)1 << 62, (int64_t)1 << 48, (int64_t)1 << 40, (int64_t)1 << 33, 1 << 28};
    (void)state;
    espl_context *ctx = NULL;
    espl_config config = {.threads = 1, .max_alloc = (uint64_t)1 << 28};
    assert_int_equal(espl_context_create(&config, &ctx, NULL), ESPL_OK);
    for (size_t i = 0; i < ESPL_COUNT(sizes); i++)
        for (int kind = 0; kind < 8; kind++) {
            rig r;
            rig_begin(&r, ctx, 1);
            int64_t n = sizes[i], side = n < 1 << 30 ? 1 << 14 : 1 << 30;
            espl__value *x = input_of(&r, "x", ESPL_F32, kind == 0 ? SHAPE(n) : kind == 1 ? SHAPE(side, side) : kind < 4 ? SHAPE(n, 4) : kind == 4 ? SHAPE(1, 1, 1, n) : kind == 5 ? SHAPE(n, 3, 4, 4) : SHAPE(1));
            espl__node *a = kind < 2    ? NODE(&r, "Relu", x)
                            : kind == 2 ? NODE(&r, "MatMul", x, random_of(&r, SHAPE(4, 5), 1))
                            : kind == 3 ? NODE(&r, "Transpose", x)
                            : kind < 6  ? NODE(&r, "Conv", x, random_of(&r, SHAPE(1, dim_of(x, 1), 3, 3), 1))
                            : kind == 6 ? NODE(&r, "ConstantOfShape", INTS(&r, n))
                                        : NODE(&r, "Expand", x, INTS(&r, n, 1));
            if (kind == 4 || kind == 5) SET_INTS(&r, a, "pads", 1, 1, 1, 1);
            /* An operator that is not fused with the one before, so that what lies between needs memory. */
            espl__value *y = NODE(&r, "Softsign", a->outputs[0])->outputs[0];
            outputs_are(&r, 1, &x, 1, &y);
            espl_session *s = NULL;
            espl_diag diag = {0};
            espl_status status = espl_session_create(ctx, r.g, NULL, &s, &diag);
            if (espl_status_exit_code(status) != 2 || !diag.message[0])
                fail_msg("kind %d of size %lld: %s, '%s'", kind, (long long)n, espl_status_name(status), diag.message);
            espl_graph_destroy(&r.g);
        }
    espl_context_destroy(&ctx);
}

/* Three channels padded to four: the byte behind a pixel's three belongs to the fourth. */
static void padding_channels_of_an_image(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    rig r;
    rig_begin(&r, ctx, 4);
    espl__value *x = input_of(&r, "x", ESPL_F32, SHAPE(2, 3, 9, 40));
    espl__value *padded = APPLY(&r, "Pad", x, INTS(&r, 0, 0, 0, 0, 0, 1, 0, 0), scalar_of(&r, 0.5f));
    espl__node *n = NODE(&r, "MaxPool", padded);
    SET_INTS(&r, n, "kernel_shape", 1, 1);
    espl__value *y = done_of(&r, n);
    quantize_value(&r, padded, ESPL_FORMAT_S8, 0.01f, 0);
    quantize_value(&r, y, ESPL_FORMAT_S8, 0.01f, 0);
    IO(&r, x, y);
    espl_session *s = session_of(ctx, r.g);
    run_io io = io_of(s, 3);
    run_session(s, &io);
    const float *out = io.out[0].data;
    for (int b = 0; b < 2; b++)
        for (int i = 0; i < 360; i++) assert_true(fabsf(out[(b * 4 + 3) * 360 + i] - 0.5f) < 1e-6f);
    io_free(&io);
    espl_session_destroy(&s);
    espl_graph_destroy(&r.g);
    espl_context_destroy(&ctx);
}

/* Limits and fill values that are codes are read as the numbers they stand for. */
static void quantized_limits(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    for (int kind = 0; kind < 3; kind++) {
        rig r;
        rig_begin(&r, ctx, 4);
        espl__value *x = input_of(&r, "x", ESPL_F32, SHAPE(1, 4, 5, 6));
        const int8_t code = 50;
        espl__value *c = constant_of(&r, ESPL_S8, (espl_shape){0}, &code);
        c->dtype = ESPL_F32;
        quantize_value(&r, c, ESPL_FORMAT_S8, 0.01f, 0);
        espl__value *y = kind == 0   ? APPLY(&r, "Pad", x, INTS(&r, 0, 0, 1, 1, 0, 0, 1, 1), c)
                         : kind == 1 ? APPLY(&r, "Clip", x, c)
                                     : APPLY(&r, "Max", x, c);
        IO(&r, x, y);
        espl_session *s = session_of(ctx, r.g);
        run_io io = io_of(s, 3);
        run_session(s, &io);
        const float *out = io.out[0].data, *in = io.in[0].data;
        if (kind == 0) assert_true(fabsf(out[0] - 0.5f) < 1e-6f);
        for (int i = 0; kind > 0 && i < 120; i++) assert_true(fabsf(out[i] - fmaxf(in[i], 0.5f)) < 1e-6f);
        io_free(&io);
        espl_session_destroy(&s);
        espl_graph_destroy(&r.g);
    }
    espl_context_destroy(&ctx);
}

/* What a session is given is checked. */
static void wrong_tensors_are_refused(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    rig r;
    rig_begin(&r, ctx, 4);
    espl__value *x = input_of(&r, "x", ESPL_F32, SHAPE(2, 3));
    IO(&r, x, APPLY(&r, "Relu", x));
    espl_session *s = session_of(ctx, r.g);
    run_io io = io_of(s, 1);
    espl_tensor good = io.in[0];
    for (int kind = 0; kind < 3; kind++) {
        espl_diag diag = {0};
        io.in[0] = good;
        if (kind == 0) io.in[0].dtype = ESPL_S32;
        if (kind == 1) io.in[0].shape = SHAPE(3, 2);
        if (kind == 2) io.in[0].data = NULL;
        assert_int_equal(espl_session_run(s, io.in, io.out, &diag), ESPL_SHAPE);
        assert_non_null(strstr(diag.message, "'x'"));
    }
    io.in[0] = good;
    run_session(s, &io);
    io_free(&io);
    espl_session_destroy(&s);
    espl_shape shape = SHAPE(2, 4);
    espl_session_options options = {.input_shapes = &shape};
    espl_diag diag = {0};
    assert_int_equal(espl_session_create(ctx, r.g, &options, &s, &diag), ESPL_SHAPE);
    assert_non_null(strstr(diag.message, "2x4"));
    assert_null(s);
    espl_graph_destroy(&r.g);
    espl_context_destroy(&ctx);
}

/* Layers add up to the network and are timed when asked. */
static void layers_are_counted(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    rig r;
    large_network(&r, ctx, true);
    espl_session *s = NULL;
    espl_session_options options = {.profile = true};
    assert_int_equal(espl_session_create(ctx, r.g, &options, &s, NULL), ESPL_OK);
    run_io io = io_of(s, 1);
    run_session(s, &io);
    run_session(s, &io);
    int64_t macs = 0;
    for (int i = 0; i < espl_session_layer_count(s); i++) {
        espl_layer l = espl_session_layer(s, i);
        assert_non_null(l.op);
        assert_non_null(l.kernel);
        assert_int_equal(l.runs, 2);
        /* Work runs on code of the set in use or of one below it. */
        if (l.macs) {
            int level = 0;
            while (level <= (int)espl__cpu_level() && strcmp(l.isa, espl__cpu_level_name((espl__cpu)level))) level++;
            assert_true(level <= (int)espl__cpu_level());
            assert_true(l.activation_bytes > 0 && l.weight_bytes > 0);
        }
        macs += l.macs;
    }
    assert_int_equal(macs, 900 * (48 * 108 + 48 * 9 + 48 * 48) + 144 * 32 * 108 + 32 * 144 * 40);
    espl_session_profile_reset(s);
    assert_int_equal(espl_session_layer(s, 0).runs, 0);
    io_free(&io);
    espl_session_destroy(&s);
    espl_graph_destroy(&r.g);
    espl_context_destroy(&ctx);
}

typedef struct seen {
    int calls[256]; /* by value */
    const espl_graph *g;
    float **real;
    bool unordered;
} seen;

static int ascending(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void notice(void *user, int value, const char *name, const float *data, int64_t count) {
    seen *s = user;
    s->calls[value]++;
    assert_true(value >= 0 && value < s->g->value_count && value < 256);
    const espl__value *v = s->g->values[value];
    assert_string_equal(v->name, name);
    assert_int_equal(count, elements(v));
    float *own = malloc((size_t)count * sizeof *own + 4);
    memcpy(own, data, (size_t)count * sizeof *own);
    if (s->unordered) {
        qsort(own, (size_t)count, sizeof *own, ascending);
        qsort(s->real[value], (size_t)count, sizeof *own, ascending);
    }
    data = own;
    for (int64_t i = 0; i < count; i++)
        if (fabs(data[i] - s->real[value][i]) > 1e-4 * fmax(1, fabs(s->real[value][i])))
            fail_msg("%s[%d]: %g, not %g", name, (int)i, (double)data[i], (double)s->real[value][i]);
    free(own);
}

/* The observer sees every value of the f32 graph, in row-major order if it wants that; of odd seeds those that it asks for, while others
 * are fused away. */
static void observers_see_every_value(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    for (uint64_t seed = 0; seed < CASES(200); seed++) {
        random_graph x;
        random_graph_of(&x, ctx, 4000000 + seed, 8, false);
        espl_graph *g = x.r.g;
        seen s = {.g = g, .real = calloc((size_t)g->value_count, sizeof(float *))};
        espl_session *session = NULL;
        espl_session_options options = {.observer = notice, .observer_user = &s};
        espl__rng rng = espl__rng_seed(seed, 77);
        bool wants[256];
        for (int i = 0; i < 256; i++) wants[i] = seed % 2 == 0 || espl__rng_below(&rng, 3) == 0;
        if (seed % 2) options.observed = wants;
        s.unordered = options.unordered = seed % 3 == 2;
        assert_int_equal(espl_session_create(ctx, g, &options, &session, NULL), ESPL_OK);
        run_io io = io_of(session, seed);
        for (int i = 0; i < g->value_count; i++)
            if (g->values[i]->constant && g->values[i]->dtype == ESPL_F32) s.real[i] = real_of(g->values[i]);
        s.real[0] = malloc(bytes_of(&io.in[0]) + 4);
        memcpy(s.real[0], io.in[0].data, bytes_of(&io.in[0]));
        for (int i = 0; i < g->node_count; i++) {
            const espl__node *n = g->nodes[i];
            float *in[8] = {NULL};
            double *y[8] = {NULL};
            for (int k = 0; k < n->input_count; k++) in[k] = s.real[n->inputs[k]->id];
            for (int k = 0; k < n->output_count; k++) y[k] = malloc((size_t)elements(n->outputs[k]) * 8 + 8);
            oracle_node(n, in, y);
            for (int k = 0; k < n->output_count; k++) {
                float *to = s.real[n->outputs[k]->id] = malloc((size_t)elements(n->outputs[k]) * 4 + 4);
                for (int64_t e = 0; e < elements(n->outputs[k]); e++) to[e] = (float)y[k][e];
                free(y[k]);
            }
        }
        run_session(session, &io);
        /* Values that lead to no output are not computed. */
        espl_graph *live = NULL;
        assert_int_equal(espl__graph_clone(g, &live, NULL), ESPL_OK);
        assert_int_equal(espl__pass_dead_code(live, NULL), ESPL_OK);
        assert_int_equal(s.calls[0] > 0, wants[0]);
        for (int i = 0; i < live->node_count; i++)
            for (int k = 0; k < live->nodes[i]->output_count; k++) {
                int value = live->nodes[i]->outputs[k]->origin;
                assert_int_equal(s.calls[value] > 0, wants[value]);
            }
        espl_graph_destroy(&live);
        for (int i = 0; i < g->value_count; i++) free(s.real[i]);
        free(s.real);
        io_free(&io);
        espl_session_destroy(&session);
        espl_graph_destroy(&g);
    }
    espl_context_destroy(&ctx);
}

int main(int argc, char **argv) {
    if (argc == 3) { /* what compare_levels calls */
        bool models = strcmp(argv[1], "--models") == 0;
        uint64_t h = models ? hash_models(atoi(argv[2])) : hash_all(atoi(argv[2]));
        printf("%s %016llx\n", espl_cpu_name(), (unsigned long long)h);
        return 0;
    }
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n <= 0) snprintf(self, sizeof self, "%s", argv[0]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_float_graphs),
        cmocka_unit_test(random_quantized_graphs),
        cmocka_unit_test(random_partly_quantized_graphs),
        cmocka_unit_test(all_levels_and_threads_give_the_same_bytes),
        cmocka_unit_test(real_models_give_the_same_bytes),
        cmocka_unit_test(runs_repeat_and_allocate_nothing),
        cmocka_unit_test(sessions_do_not_disturb_each_other),
        cmocka_unit_test(contexts_work_side_by_side),
        cmocka_unit_test(a_batch_is_its_samples),
        cmocka_unit_test(empty_tensors),
        cmocka_unit_test(enormous_borders),
        cmocka_unit_test(enormous_shapes),
        cmocka_unit_test(padding_channels_of_an_image),
        cmocka_unit_test(quantized_limits),
        cmocka_unit_test(wrong_tensors_are_refused),
        cmocka_unit_test(layers_are_counted),
        cmocka_unit_test(observers_see_every_value),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
