/* Every network of the zoo as training sees it: which constants are trained, and the gradient of the whole
 * network along random directions against central differences in double. */
#include "graph_build.h"

#include "espalier/zoo.h"
#include "train/engine.h"

enum { BATCH = 3, LENGTH = 4, DIRECTIONS = 3 };

/* Small, with every option that changes the layers; no dropout, whose masks differ from step to step. */
static espl_zoo_options options_of(const espl_zoo_network *n) {
    espl_zoo_options o = {.seed = 5};
    if (n->options & ESPL_ZOO_WIDTH) o.width = 0.125;
    if (n->options & ESPL_ZOO_HIDDEN) o.hidden = 8;
    if (n->options & ESPL_ZOO_LAYERS) o.layers = 2;
    if (n->options & ESPL_ZOO_HEADS) o.heads = 2;
    if (n->options & ESPL_ZOO_VOCABULARY) o.vocabulary = 11;
    if (n->options & ESPL_ZOO_SEQUENCE) o.sequence = LENGTH;
    if (n->options & ESPL_ZOO_CLASSES) o.classes = 5;
    return o;
}

static bool ends_with(const char *text, const char *end) {
    size_t n = strlen(text), m = strlen(end);
    return n > m && strcmp(text + n - m, end) == 0;
}

typedef struct trained {
    espl_graph *g;
    espl__engine *e;
    espl__rng rng;
    double *weights, *gradients, *start, *direction;
    int64_t count;
    void *inputs[8];
} trained;

static double normal(trained *t) {
    return (double)espl__rng_normal(&t->rng);
}

/* Tokens or normal numbers for input i. */
static void draw_input(trained *t, int i, const espl_shape *shape, int64_t vocabulary) {
    int64_t count = espl_shape_count(shape);
    bool tokens = t->g->inputs[i]->dtype == ESPL_S64;
    t->inputs[i] = calloc((size_t)count, 8);
    for (int64_t k = 0; k < count; k++)
        if (tokens)
            ((int64_t *)t->inputs[i])[k] = espl__rng_below(&t->rng, (uint32_t)vocabulary);
        else
            ((double *)t->inputs[i])[k] = normal(t);
}

static trained trained_with(espl_context *ctx, const espl_zoo_network *n, espl__engine_options options,
                            double dropout) {
    trained t = {.rng = espl__rng_seed(9, 1)};
    espl_zoo_options o = options_of(n);
    if (n->options & ESPL_ZOO_DROPOUT) o.dropout = dropout;
    espl_shape shapes[8];
    espl_diag diag = {0};
    if (espl_zoo_build(ctx, n->name, &o, &t.g, &diag) != ESPL_OK) fail_msg("%s", diag.message);
    for (int i = 0; i < t.g->input_count; i++) {
        shapes[i] = t.g->inputs[i]->shape;
        for (int d = 0; d < shapes[i].rank; d++)
            if (shapes[i].dim[d] == ESPL_DIM_UNKNOWN)
                shapes[i].dim[d] = t.g->inputs[i]->dtype == ESPL_S64 && d == 0 ? LENGTH : BATCH;
    }
    if (espl__engine_create(ctx, t.g, shapes, &options, &t.e, &diag) != ESPL_OK)
        fail_msg("%s: %s", n->name, diag.message);
    for (int i = 0; i < t.g->input_count; i++) draw_input(&t, i, &shapes[i], o.vocabulary);
    t.weights = espl__engine_weights(t.e, &t.count);
    t.gradients = espl__engine_gradients(t.e, &t.count);
    t.start = calloc((size_t)t.count, sizeof *t.start);
    t.direction = calloc((size_t)t.count, sizeof *t.direction);
    memcpy(t.start, t.weights, (size_t)t.count * sizeof *t.start);
    return t;
}

static trained trained_of(espl_context *ctx, const espl_zoo_network *n) {
    return trained_with(ctx, n, (espl__engine_options){.real = ESPL_F64}, 0);
}

static void trained_free(trained *t) {
    for (int i = 0; i < t->g->input_count; i++) free(t->inputs[i]);
    free(t->start);
    free(t->direction);
    espl__engine_destroy(&t->e);
    espl_graph_destroy(&t->g);
}

/* The loss: a fixed random combination of the outputs, at weights + step * direction. States that go on to
 * the next batch (.next) carry no gradient: backpropagation is cut there. */
static double loss_at(trained *t, double step) {
    espl_diag diag = {0};
    espl__rng rng = espl__rng_seed(2, 2);
    double sum = 0;
    for (int64_t i = 0; i < t->count; i++) t->weights[i] = t->start[i] + step * t->direction[i];
    for (int i = 0; i < t->g->input_count; i++)
        espl__engine_set_input(t->e, i, t->inputs[i],
                               t->g->inputs[i]->dtype == ESPL_S64 ? ESPL_S64 : ESPL_F64);
    if (espl__engine_forward(t->e, true, 0, &diag) != ESPL_OK) fail_msg("%s", diag.message);
    for (int i = 0; i < espl__engine_outputs(t->e); i++) {
        espl_tensor y = espl__engine_output(t->e, i), dy = espl__engine_output_gradient(t->e, i);
        assert_int_equal(y.dtype, ESPL_F64);
        assert_true((dy.data == NULL) == ends_with(espl_graph_output_name(t->g, i), ".next"));
        for (int64_t k = 0, count = espl_shape_count(&y.shape); k < count; k++) {
            double factor = (double)espl__rng_normal(&rng);
            if (!dy.data) continue;
            sum += factor * ((double *)y.data)[k];
            ((double *)dy.data)[k] = factor;
        }
    }
    return sum;
}

/* What ends in .weight or .bias is trained, .mean and .variance are statistics, and nothing else is either.
 */
static void names_say_what_is_trained(void **state) {
    espl_context *ctx = *state;
    const espl_zoo_network *n;
    for (int i = 0; (n = espl_zoo_at(i)); i++) {
        trained t = trained_of(ctx, n);
        int named = 0;
        for (int k = 0; k < t.g->value_count; k++) {
            const char *name = t.g->values[k]->name;
            named += ends_with(name, ".weight") || ends_with(name, ".bias") || ends_with(name, ".mean") ||
                     ends_with(name, ".variance");
        }
        assert_int_equal(espl__engine_params(t.e), named);
        for (int k = 0; k < named; k++) {
            const espl__param *p = espl__engine_param(t.e, k);
            if (p->trained != (ends_with(p->name, ".weight") || ends_with(p->name, ".bias")))
                fail_msg("%s: %s", n->name, p->name);
        }
        trained_free(&t);
    }
}

static void gradients_are_differences(void **state) {
    espl_context *ctx = *state;
    const espl_zoo_network *n;
    for (int i = 0; (n = espl_zoo_at(i)); i++) {
        trained t = trained_of(ctx, n);
        const double step = 1e-8;
        for (int d = 0; d < DIRECTIONS; d++) {
            espl_diag diag = {0};
            for (int64_t k = 0; k < t.count; k++) t.direction[k] = normal(&t) * (0.05 + fabs(t.start[k]));
            double difference = (loss_at(&t, step) - loss_at(&t, -step)) / (2 * step), product = 0, size = 0;
            (void)loss_at(&t, 0);
            if (espl__engine_backward(t.e, &diag) != ESPL_OK) fail_msg("%s", diag.message);
            for (int64_t k = 0; k < t.count; k++) {
                product += t.gradients[k] * t.direction[k];
                size += t.gradients[k] * t.gradients[k] * t.direction[k] * t.direction[k];
            }
            if (!(fabs(difference - product) <= 1e-6 * sqrt(size)))
                fail_msg("%s: %.9g is the difference and %.9g the product", n->name, difference, product);
        }
        trained_free(&t);
    }
}

/* What is computed a second time for backward is the same to the bit: masks of dropout and statistics of
 * batch norm too. */
static void recomputed_gradients_are_the_same(void **state) {
    espl_context *ctx = *state;
    const espl_zoo_network *n;
    for (int i = 0; (n = espl_zoo_at(i)); i++) {
        espl__engine_options kept = {.real = ESPL_F64, .seed = 3}, again = kept;
        again.recompute = true;
        trained a = trained_with(ctx, n, kept, 0.3), b = trained_with(ctx, n, again, 0.3);
        assert_true(loss_at(&a, 0) == loss_at(&b, 0));
        assert_int_equal(espl__engine_backward(a.e, NULL), ESPL_OK);
        assert_int_equal(espl__engine_backward(b.e, NULL), ESPL_OK);
        for (int64_t k = 0; k < a.count; k++)
            if (a.gradients[k] != b.gradients[k])
                fail_msg("%s: gradient %d is %.17g, recomputed %.17g", n->name, (int)k, a.gradients[k],
                         b.gradients[k]);
        int64_t count;
        const double *x = espl__engine_statistics(a.e, &count), *y = espl__engine_statistics(b.e, &count);
        for (int64_t k = 0; k < count; k++) assert_true(x[k] == y[k]);
        trained_free(&a);
        trained_free(&b);
    }
}

static uint64_t engine_bytes(espl_context *ctx, const espl_graph *g, bool recompute) {
    espl__engine_options options = {.real = ESPL_F32, .recompute = recompute};
    espl_shape shape = {4, {16, 3, 32, 32}};
    espl__engine *e = NULL;
    assert_int_equal(espl__engine_create(ctx, g, &shape, &options, &e, NULL), ESPL_OK);
    uint64_t bytes = espl__engine_bytes(e);
    espl__engine_destroy(&e);
    return bytes;
}

/* ResNet-56 keeps 16 of 57 layers and makes one segment of the others at a time. */
static void recomputing_takes_less_memory(void **state) {
    espl_context *ctx = *state;
    espl_zoo_options o = {.seed = 1};
    espl_graph *g = NULL;
    assert_int_equal(espl_zoo_build(ctx, "resnet56", &o, &g, NULL), ESPL_OK);
    assert_true(engine_bytes(ctx, g, true) < engine_bytes(ctx, g, false) / 2);
    espl_graph_destroy(&g);
}

static int begin(void **state) {
    *state = new_context(2);
    return 0;
}
static int end(void **state) {
    espl_context *ctx = *state;
    espl_context_destroy(&ctx);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(names_say_what_is_trained, begin, end),
        cmocka_unit_test_setup_teardown(gradients_are_differences, begin, end),
        cmocka_unit_test_setup_teardown(recomputed_gradients_are_the_same, begin, end),
        cmocka_unit_test_setup_teardown(recomputing_takes_less_memory, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
