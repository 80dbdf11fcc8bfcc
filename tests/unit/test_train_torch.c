/* Whole networks against PyTorch in double precision (tests/oracle/make_train_fixtures.py): outputs, loss and
 * all gradients once, and the loss of 200 steps. Parameters are drawn in the order they are made here. */
#include "graph_build.h"
#include "train/engine.h"
#include "train/loss.h"
#include "train/optim.h"

#define FIXTURE(name) ESPL_SOURCE_DIR "/tests/fixtures/train/" name ".npy"

enum { STEPS = 200, BATCHES = 4, MOST_PARAMS = 64 };
enum { FOLLOWED = SHARE > 1 ? 12 : STEPS };

typedef struct net {
    rig r;
    espl__value *input, *params[MOST_PARAMS];
    int count;
} net;

/* The generator of the script. */
static int64_t raw(uint32_t *state) {
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}
static double draw(uint32_t *state, double scale) {
    return ((double)raw(state) / 8388608.0 - 1) * scale;
}

static espl__value *param(net *n, double around, double scale, espl_shape shape) {
    espl__value *v = constant_of(&n->r, ESPL_F32, shape, NULL);
    uint32_t state = 1000 + (uint32_t)n->count;
    float *x = v->constant->data;
    for (int64_t i = 0; i < espl_shape_count(&shape); i++) x[i] = (float)(around + draw(&state, scale));
    return n->params[n->count++] = v;
}

static void set_float(net *n, espl__node *node, const char *name, float x) {
    assert_true(espl__attr_set_float(n->r.g, node, name, x));
}

/* --- layers ------------------------------------------------------------------------------------------- */

static espl__value *conv(net *n, espl__value *x, int64_t outputs, int64_t kernel, int64_t stride) {
    espl__node *node =
        NODE(&n->r, "Conv", x, param(n, 0, 0.25, SHAPE(outputs, x->shape.dim[1], kernel, kernel)));
    SET_INTS(&n->r, node, "strides", stride, stride);
    SET_INTS(&n->r, node, "pads", kernel / 2, kernel / 2, kernel / 2, kernel / 2);
    return done_of(&n->r, node);
}

static espl__value *norm(net *n, espl__value *x) {
    int64_t c = x->shape.dim[1];
    espl__value *scale = param(n, 1, 0.25, SHAPE(c)), *bias = param(n, 0, 0.25, SHAPE(c));
    espl__value *mean = constant_of(&n->r, ESPL_F32, SHAPE(c), NULL),
                *var = constant_of(&n->r, ESPL_F32, SHAPE(c), NULL);
    espl__node *node = NODE(&n->r, "BatchNormalization", x, scale, bias, mean, var);
    set_float(n, node, "epsilon", 0x1p-16f);
    return done_of(&n->r, node);
}

static espl__value *dense(net *n, espl__value *x, int64_t outputs) {
    espl__value *w = param(n, 0, 0.25, SHAPE(x->shape.dim[x->shape.rank - 1], outputs));
    espl__value *b = param(n, 0, 0.25, SHAPE(outputs));
    if (x->shape.rank == 2) return APPLY(&n->r, "Gemm", x, w, b);
    return APPLY(&n->r, "Add", APPLY(&n->r, "MatMul", x, w), b);
}

static espl__value *layer_norm(net *n, espl__value *x) {
    int64_t d = x->shape.dim[x->shape.rank - 1];
    espl__value *scale = param(n, 1, 0.25, SHAPE(d));
    espl__node *node = NODE(&n->r, "LayerNormalization", x, scale, param(n, 0, 0.25, SHAPE(d)));
    set_float(n, node, "epsilon", 0x1p-16f);
    return done_of(&n->r, node);
}

static espl__value *residual(net *n, espl__value *x, int64_t outputs, int64_t stride, bool norm_shortcut) {
    espl__value *y = APPLY(&n->r, "Relu", norm(n, conv(n, x, outputs, 3, stride)));
    y = norm(n, conv(n, y, outputs, 3, 1));
    if (stride > 1) x = conv(n, x, outputs, 1, stride);
    if (stride > 1 && norm_shortcut) x = norm(n, x);
    return APPLY(&n->r, "Relu", APPLY(&n->r, "Add", y, x));
}

static espl__value *classify(net *n, espl__value *x) {
    return dense(n, APPLY(&n->r, "Flatten", APPLY(&n->r, "GlobalAveragePool", x)), 10);
}

static espl__value *lstm(net *n, espl__value *x, int64_t hidden) {
    espl__value *w = param(n, 0, 0.25, SHAPE(1, 4 * hidden, x->shape.dim[2]));
    espl__value *r = param(n, 0, 0.25, SHAPE(1, 4 * hidden, hidden));
    espl__node *node = NODE(&n->r, "LSTM", x, w, r, param(n, 0, 0.25, SHAPE(1, 8 * hidden)));
    set_int(&n->r, node, "hidden_size", hidden);
    return APPLY(&n->r, "Squeeze", done_of(&n->r, node), INTS(&n->r, 1));
}

static espl__value *transposed(net *n, espl__value *x, int64_t b, int64_t c) {
    espl__node *node = NODE(&n->r, "Transpose", x);
    int64_t perm[4] = {0, 1, 2, 3};
    perm[b] = c;
    perm[c] = b;
    set_ints(&n->r, node, "perm", 4, perm);
    return done_of(&n->r, node);
}

static espl__value *heads(net *n, espl__value *x) {
    return transposed(n, APPLY(&n->r, "Reshape", x, INTS(&n->r, 0, 0, 2, -1)), 1, 2);
}

/* --- networks ----------------------------------------------------------------------------------------- */

static espl__value *open_net(net *n, espl_context *ctx, espl_dtype dtype, espl_shape shape) {
    *n = (net){0};
    rig_begin(&n->r, ctx, 1);
    n->r.g->opset = 17;
    return n->input = input_of(&n->r, "x", dtype, shape);
}

static espl__value *build_block(net *n, espl_context *ctx) {
    return classify(n, residual(n, open_net(n, ctx, ESPL_F32, SHAPE(4, 8, 9, 9)), 16, 2, true));
}

static espl__value *build_resnet8(net *n, espl_context *ctx) {
    espl__value *y = open_net(n, ctx, ESPL_F32, SHAPE(4, 3, 32, 32));
    y = APPLY(&n->r, "Relu", norm(n, conv(n, y, 16, 3, 1)));
    y = residual(n, y, 16, 1, false);
    y = residual(n, y, 32, 2, false);
    return classify(n, residual(n, y, 64, 2, false));
}

static espl__value *build_lstm(net *n, espl_context *ctx) {
    espl__value *tokens = open_net(n, ctx, ESPL_S64, SHAPE(35, 4));
    espl__value *x = APPLY(&n->r, "Gather", param(n, 0, 0.5, SHAPE(20, 8)), tokens);
    x = lstm(n, lstm(n, x, 16), 16);
    return dense(n, APPLY(&n->r, "Reshape", x, INTS(&n->r, -1, 16)), 20);
}

static espl__value *build_transformer(net *n, espl_context *ctx) {
    espl__value *x = open_net(n, ctx, ESPL_F32, SHAPE(3, 7, 16)), *qkv[3], *mask;
    espl__value *y = layer_norm(n, x);
    for (int i = 0; i < 3; i++) qkv[i] = heads(n, dense(n, y, 16));
    mask = constant_of(&n->r, ESPL_F32, SHAPE(7, 7), NULL);
    for (int i = 0; i < 7; i++)
        for (int j = i + 1; j < 7; j++) ((float *)mask->constant->data)[i * 7 + j] = -1024;
    /* By that name it is frozen: added to what depends on parameters, it would be trained. */
    mask->name = espl__arena_strdup(&n->r.g->arena, "mask");
    y = APPLY(&n->r, "MatMul", qkv[0], transposed(n, qkv[1], 3, 2));
    y = APPLY(&n->r, "Add", APPLY(&n->r, "Mul", y, scalar_of(&n->r, 0.375f)), mask);
    y = APPLY(&n->r, "MatMul", APPLY(&n->r, "Softmax", y), qkv[2]);
    y = APPLY(&n->r, "Reshape", transposed(n, y, 1, 2), INTS(&n->r, 0, 0, -1));
    x = APPLY(&n->r, "Add", x, dense(n, y, 16));
    y = dense(n, layer_norm(n, x), 32);
    espl__node *gelu = NODE(&n->r, "Gelu", y); /* its constants are doubles; an exporter's would be f32 */
    gelu->opset = 20;
    x = APPLY(&n->r, "Add", x, dense(n, done_of(&n->r, gelu), 16));
    espl__node *mean = NODE(&n->r, "ReduceMean", x);
    SET_INTS(&n->r, mean, "axes", 1);
    set_int(&n->r, mean, "keepdims", 0);
    return dense(n, done_of(&n->r, mean), 10);
}

/* --- running ------------------------------------------------------------------------------------------ */

typedef espl__value *builder(net *n, espl_context *ctx);

typedef struct run {
    net n;
    espl_context *ctx;
    espl__engine *e;
    espl__loss *loss;
    int64_t rows, classes;
    int64_t labels[256];
} run;

static void open_run(run *t, builder *build, espl_dtype real) {
    static const char *const frozen[] = {"mask"};
    espl_diag diag = {0};
    *t = (run){.ctx = new_context(2)};
    espl__value *y = build(&t->n, t->ctx);
    IO(&t->n.r, t->n.input, y);
    espl__engine_options options = {.real = real, .frozen = frozen, .frozen_count = 1};
    if (espl__engine_create(t->ctx, t->n.r.g, &t->n.input->shape, &options, &t->e, &diag) != ESPL_OK)
        fail_msg("%s", diag.message);
    espl_tensor out = espl__engine_output(t->e, 0);
    espl__loss_options how = {.kind = ESPL__LOSS_CROSS_ENTROPY};
    assert_int_equal(espl__loss_create(t->ctx, &how, &out, &t->loss, &diag), ESPL_OK);
    t->rows = espl__loss_rows(t->loss);
    t->classes = espl__loss_classes(t->loss);
}

static void close_run(run *t) {
    espl__loss_destroy(&t->loss);
    espl__engine_destroy(&t->e);
    espl_graph_destroy(&t->n.r.g);
    espl_context_destroy(&t->ctx);
}

static void set_data(run *t, uint32_t data_seed, uint32_t label_seed) {
    int64_t n = espl_shape_count(&t->n.input->shape);
    bool tokens = t->n.input->dtype == ESPL_S64;
    double *x = calloc((size_t)n, sizeof *x);
    for (int64_t i = 0; i < n; i++)
        x[i] = tokens ? (double)(raw(&data_seed) % t->classes) : draw(&data_seed, 2);
    espl__engine_set_input(t->e, 0, x, ESPL_F64);
    for (int64_t i = 0; i < t->rows; i++)
        t->labels[i] = label_seed ? raw(&label_seed) % t->classes : ((int64_t)x[i] * 3 + 1) % t->classes;
    free(x);
}

static double pass(run *t) {
    espl_diag diag = {0};
    espl__loss_sums sums = {0};
    assert_int_equal(espl__engine_forward(t->e, true, 0, &diag), ESPL_OK);
    espl__loss_run(t->loss, espl__engine_output(t->e, 0).data, t->labels, t->rows, NULL, 1 / (double)t->rows,
                   espl__engine_output_gradient(t->e, 0).data, &sums);
    return sums.loss / (double)t->rows;
}
static void back(run *t) {
    espl_diag diag = {0};
    assert_int_equal(espl__engine_backward(t->e, &diag), ESPL_OK);
}

static const espl__param *param_of(const run *t, const espl__value *v) {
    for (int i = 0; i < espl__engine_params(t->e); i++)
        if (espl__engine_param(t->e, i)->value == v->id) return espl__engine_param(t->e, i);
    fail_msg("constant %d is not trained", v->id);
    return NULL;
}

static double largest(const double *x, int64_t n) {
    double most = 0;
    for (int64_t i = 0; i < n; i++) most = fmax(most, fabs(x[i]));
    return most;
}

/* Largest difference over the largest number, or over `other` if the numbers are but the rounding of zeros
 * (the gradient of what a softmax cancels). */
static double distance(const void *got, espl_dtype real, const double *want, int64_t n, double other) {
    double most = 0, scale = largest(want, n);
    for (int64_t i = 0; i < n; i++) {
        double x = real == ESPL_F64 ? ((const double *)got)[i] : (double)((const float *)got)[i];
        most = x == x ? fmax(most, fabs(x - want[i])) : INFINITY;
    }
    return most / (scale < 1e-14 ? other : scale);
}

static void check_gradients(const char *path, builder *build, espl_dtype real, double bound) {
    run t;
    espl_tensor expected;
    open_run(&t, build, real);
    assert_int_equal(espl_npy_read(t.ctx, path, &expected, NULL), ESPL_OK);
    const double *want = expected.data;
    set_data(&t, 1, 2);
    double loss = pass(&t);
    if (!(fabs(loss - want[0]) <= bound * want[0]))
        fail_msg("%s: loss %.12g, PyTorch has %.12g", path, loss, want[0]);
    want++;
    espl_tensor y = espl__engine_output(t.e, 0);
    double off = distance(y.data, real, want, espl_shape_count(&y.shape), 1);
    if (!(off <= bound)) fail_msg("%s: the output is off by %g", path, off);
    want += espl_shape_count(&y.shape);
    back(&t);
    int64_t rest = espl_shape_count(&expected.shape) - (want - (const double *)expected.data);
    double other = largest(want, rest);
    for (int i = 0; i < t.n.count; i++) {
        const espl__param *p = param_of(&t, t.n.params[i]);
        off = distance(p->grad.data, real, want, p->count, other);
        if (!(off <= bound)) fail_msg("%s: the gradient of parameter %d is off by %g", path, i, off);
        want += p->count;
    }
    assert_int_equal(want - (const double *)expected.data, espl_shape_count(&expected.shape));
    espl_tensor_free(t.ctx, &expected);
    close_run(&t);
}

static void check_losses(const char *path, builder *build, double rate, espl_dtype real, int steps,
                         double bound) {
    run t;
    espl_tensor expected;
    espl__optim *optim = NULL;
    int64_t count;
    open_run(&t, build, real);
    assert_int_equal(espl_npy_read(t.ctx, path, &expected, NULL), ESPL_OK);
    void *weights = espl__engine_weights(t.e, &count), *gradients = espl__engine_gradients(t.e, &count);
    espl__optim_range all = {0, count, true};
    espl__optim_options how = {.kind = ESPL__OPTIM_SGD, .momentum = 0.875, .weight_decay = 0x1p-10};
    assert_int_equal(espl__optim_create(t.ctx, &how, real, count, &all, 1, weights, &optim, NULL), ESPL_OK);
    bool tokens = t.n.input->dtype == ESPL_S64;
    for (int i = 0; i < steps; i++) {
        set_data(&t, 10 + (uint32_t)i % BATCHES, tokens ? 0 : 20 + (uint32_t)i % BATCHES);
        double loss = pass(&t), want = ((const double *)expected.data)[i];
        if (!(fabs(loss - want) <= bound))
            fail_msg("%s: step %d has a loss of %.12g, PyTorch %.12g", path, i, loss, want);
        back(&t);
        espl__optim_step(optim, rate, 1, weights, gradients);
    }
    espl__optim_destroy(&optim);
    espl_tensor_free(t.ctx, &expected);
    close_run(&t);
}

static void residual_block(void **state) {
    (void)state;
    check_gradients(FIXTURE("block"), build_block, ESPL_F64, 1e-9);
    check_gradients(FIXTURE("block"), build_block, ESPL_F32, 1e-4);
}
static void lstm_of_two_layers(void **state) {
    (void)state;
    check_gradients(FIXTURE("lstm"), build_lstm, ESPL_F64, 1e-9);
    check_gradients(FIXTURE("lstm"), build_lstm, ESPL_F32, 1e-4);
}
static void transformer_block(void **state) {
    (void)state;
    check_gradients(FIXTURE("transformer"), build_transformer, ESPL_F64, 1e-9);
    check_gradients(FIXTURE("transformer"), build_transformer, ESPL_F32, 1e-4);
}
static void steps_of_resnet8(void **state) {
    (void)state;
    check_losses(FIXTURE("resnet8_losses"), build_resnet8, 0x1p-5, ESPL_F32, 5, 1e-4);
    check_losses(FIXTURE("resnet8_losses"), build_resnet8, 0x1p-5, ESPL_F64, FOLLOWED, 1e-6);
}
static void steps_of_the_lstm(void **state) {
    (void)state;
    check_losses(FIXTURE("lstm_losses"), build_lstm, 0.5, ESPL_F32, 5, 1e-4);
    check_losses(FIXTURE("lstm_losses"), build_lstm, 0.5, ESPL_F64, FOLLOWED, 1e-6);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(residual_block),    cmocka_unit_test(lstm_of_two_layers),
        cmocka_unit_test(transformer_block), cmocka_unit_test(steps_of_resnet8),
        cmocka_unit_test(steps_of_the_lstm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
