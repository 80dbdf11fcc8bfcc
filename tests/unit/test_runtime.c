/* Sessions against the operators' plain references and an oracle for quantized graphs, over random graphs. */
#define _GNU_SOURCE
#include "graph_oracle.h"

#include "espalier/model.h"
#include "runtime/container.h"

static int from_seed(void) { return getenv("ESPL_SEED") ? atoi(getenv("ESPL_SEED")) : 0; }
static int seeds(int usual) {
    const char *count = getenv("ESPL_COUNT");
    return getenv("ESPL_SEED") ? 1 : count ? atoi(count) : usual;
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
    return nearbyint((double)x / v->quant.scale[0]) + (v->quant.zero ? v->quant.zero[0] : 0);
}

/* Compares output `index` of the node with the oracle's. */
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
        t->codes++;
        t->off += want != have;
        if (fabs(want - have) <= 1) continue;
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

static void all_values_are_outputs(espl_graph *g) {
    espl__value *out[64];
    int count = 0;
    for (int i = 0; i < g->value_count; i++)
        if (!g->values[i]->constant && count < 64) out[count++] = g->values[i];
    assert_true(espl__graph_set_io(g, g->inputs, g->input_count, out, count));
}

static void random_quantized_graph(random_graph *x, espl_context *ctx, uint64_t seed, int percent) {
    random_graph_of(x, ctx, seed, 12, true);
    espl_tensor in = {ESPL_F32, x->r.g->inputs[0]->shape, malloc((size_t)elements(x->r.g->inputs[0]) * 4 + 4)};
    espl__rng rng = espl__rng_seed(seed, 3);
    fill_random(&rng, &in);
    quantize_graph(x, in.data, percent);
    free(in.data);
}

/* Sum of squares of a - b over that of b. */
static double relative_error(const espl_tensor *a, const espl_tensor *b) {
    double d = 0, all = 1e-12;
    for (int64_t i = 0; i < espl_shape_count(&a->shape); i++) {
        double x = ((const float *)a->data)[i], y = ((const float *)b->data)[i];
        d += (x - y) * (x - y);
        all += y * y;
    }
    return sqrt(d / all);
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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_float_graphs),
        cmocka_unit_test(random_quantized_graphs),
        cmocka_unit_test(random_partly_quantized_graphs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
