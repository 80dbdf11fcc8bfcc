/* Operators that draw: the same numbers for the same seed, others for another, and frequencies as the
 * definitions say. */
#include "graph_build.h"

#include "ops/ops.h"

enum { COUNT = 20000 };

typedef struct draw {
    const char *op;
    int inputs;
    float input[3]; /* that the first input repeats */
    double ratio;   /* of a Dropout */
} draw;

/* What the node gives for COUNT elements (Multinomial: COUNT samples of three classes), as doubles. */
static void run_node(espl_context *ctx, const draw *d, float seed, double *out) {
    espl_graph *g = NULL;
    static float x[COUNT], y[COUNT];
    static int32_t classes[COUNT];
    float ratio = (float)d->ratio;
    uint8_t training = 1;
    bool many = strcmp(d->op, "Multinomial") == 0, drops = strcmp(d->op, "Dropout") == 0;
    const espl_shape line = {1, {COUNT}}, row = {2, {1, 3}}, rows = {2, {1, COUNT}};
    assert_int_equal(espl__graph_create(ctx, &g, NULL), ESPL_OK);
    espl__node *n = espl__graph_node(g, espl__op_find("", d->op), "", d->inputs, 1, 4);
    espl__node_set_output(n, 0, espl__graph_value(g, "y"));
    n->opset = 21;
    for (int i = 0; i < COUNT; i++) x[i] = d->input[i % 3];
    espl_tensor in[3] = {
        {ESPL_F32, many ? row : line, x}, {ESPL_F32, {0}, &ratio}, {ESPL_BOOL, {0}, &training}};
    for (int i = 0; i < d->inputs; i++) assert_non_null(n->inputs[i] = espl__graph_constant(g, "", &in[i]));
    bool good =
        drops ? espl__attr_set_int(g, n, "seed", (int64_t)seed) : espl__attr_set_float(g, n, "seed", seed);
    good = good && espl__attr_set_ints(g, n, "shape", line.dim, 1) &&
           espl__attr_set_int(g, n, "sample_size", COUNT);
    assert_true(good && espl__attr_set_float(g, n, "mean", 3) && espl__attr_set_float(g, n, "scale", 0.5f));
    assert_true(espl__attr_set_float(g, n, "low", 2) && espl__attr_set_float(g, n, "high", 6));
    assert_int_equal(n->op->infer(n, NULL), ESPL_OK);
    espl_tensor result = {many ? ESPL_S32 : ESPL_F32, many ? rows : line, many ? (void *)classes : (void *)y};
    assert_int_equal(n->outputs[0]->dtype, result.dtype);
    n->op->eval(n, in, &result, NULL);
    espl__load_f64(result.dtype, result.data, 1, COUNT, out);
    espl_graph_destroy(&g);
}

static const draw uniform = {"RandomUniform", 0, {0}, 0}, normal = {"RandomNormal", 0, {0}, 0},
                  bernoulli = {"Bernoulli", 1, {0.3f, 0.3f, 0.3f}, 0},
                  multinomial = {"Multinomial", 1, {0, 1, -1}, 0}, dropout = {"Dropout", 3, {8, 8, 8}, 0.2};

static double share(const double *x, double value) {
    int hits = 0;
    for (int i = 0; i < COUNT; i++) hits += x[i] == value;
    return (double)hits / COUNT;
}

static void about(const char *what, double got, double want, double tolerance) {
    if (!(fabs(got - want) <= tolerance)) fail_msg("%s: %g instead of about %g", what, got, want);
}

static void seeds_say_all(void **state) {
    (void)state;
    const draw *all[] = {&uniform, &normal, &bernoulli, &multinomial, &dropout};
    static double a[COUNT], b[COUNT], c[COUNT];
    espl_context *ctx = new_context(1);
    for (size_t i = 0; i < ESPL_COUNT(all); i++) {
        run_node(ctx, all[i], 7, a);
        run_node(ctx, all[i], 7, b);
        run_node(ctx, all[i], 8, c);
        assert_memory_equal(a, b, sizeof a);
        assert_memory_not_equal(a, c, sizeof a);
    }
    espl_context_destroy(&ctx);
}

/* Tolerances are four standard deviations of a mean of COUNT. */
static void frequencies_are_those_of_the_definition(void **state) {
    (void)state;
    static double x[COUNT];
    espl_context *ctx = new_context(1);
    double sum = 0, squares = 0, low = 9, high = 0;
    run_node(ctx, &uniform, 1, x);
    for (int i = 0; i < COUNT; i++) {
        sum += x[i];
        low = fmin(low, x[i]);
        high = fmax(high, x[i]);
    }
    assert_true(low >= 2 && low < 2.01 && high < 6 && high > 5.99);
    about("uniform mean", sum / COUNT, 4, 4 * 4 / sqrt(12.0 * COUNT));
    run_node(ctx, &normal, 1, x);
    sum = 0;
    for (int i = 0; i < COUNT; i++) {
        sum += x[i];
        squares += (x[i] - 3) * (x[i] - 3);
    }
    about("normal mean", sum / COUNT, 3, 4 * 0.5 / sqrt(COUNT));
    about("normal variance", squares / COUNT, 0.25, 4 * 0.25 * sqrt(2.0 / COUNT));
    run_node(ctx, &bernoulli, 1, x);
    about("ones", share(x, 1), 0.3, 4 * sqrt(0.21 / COUNT));
    about("zeros", share(x, 0), 0.7, 4 * sqrt(0.21 / COUNT));
    run_node(ctx, &multinomial, 1, x);
    double total = 1 + exp(1) + exp(-1);
    about("class 0", share(x, 0), 1 / total, 4 * 0.5 / sqrt(COUNT));
    about("class 1", share(x, 1), exp(1) / total, 4 * 0.5 / sqrt(COUNT));
    about("class 2", share(x, 2), exp(-1) / total, 4 * 0.5 / sqrt(COUNT));
    run_node(ctx, &dropout, 1, x);
    about("dropped", share(x, 0), 0.2, 4 * sqrt(0.16 / COUNT));
    about("kept", share(x, (double)(float)(8 / (1 - (double)0.2f))), 0.8, 4 * sqrt(0.16 / COUNT));
    espl_context_destroy(&ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(seeds_say_all),
        cmocka_unit_test(frequencies_are_those_of_the_definition),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
