/* Networks that are legal and rare: training takes them as they are meant, or says that it does not. */
#include "graph_build.h"

#include <unistd.h>

#include "espalier/onnx.h"
#include "espalier/train.h"
#include "train/engine.h"

static espl__engine *engine_on(rig *r, espl_dtype real, const espl_shape *shapes) {
    espl__engine_options options = {.real = real, .input_gradients = true};
    espl__engine *e = NULL;
    if (espl__engine_create(r->ctx, r->g, shapes, &options, &e, &r->diag) != ESPL_OK)
        fail_msg("%s", r->diag.message);
    return e;
}

static double at(const espl_tensor *t, int64_t i) {
    double x;
    espl__load_f64(t->dtype, espl__at(t->data, t->dtype, i), 0, 1, &x);
    return x;
}

/* Forward and backward; y: what comes out, which backward writes over. */
static void step(espl__engine *e, const double *x, double dy, double *y) {
    espl_diag diag = {0};
    espl__engine_set_input(e, 0, x, ESPL_F64);
    assert_int_equal(espl__engine_forward(e, true, 1, &diag), ESPL_OK);
    espl_tensor out = espl__engine_output(e, 0), d = espl__engine_output_gradient(e, 0);
    for (int64_t i = 0; y && i < espl_shape_count(&out.shape); i++) y[i] = at(&out, i);
    for (int64_t i = 0; d.data && i < espl_shape_count(&d.shape); i++)
        espl__store_f64(d.dtype, &dy, 1, espl__at_mut(d.data, d.dtype, i));
    if (espl__engine_backward(e, &diag) != ESPL_OK) fail_msg("%s", diag.message);
}

/* A Concat of 20 inputs, as DenseNet's last layers have: each gets its part of the gradient. */
static void many_inputs(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    rig r;
    rig_begin(&r, ctx, 1);
    espl__value *x = input_of(&r, "x", ESPL_F32, SHAPE(2, 3)), *in[40];
    for (int i = 0; i < 40; i++) in[i] = x;
    espl__node *n = node_of(&r, "Concat", 20, in, 1);
    set_int(&r, n, "axis", 1);
    espl__value *y = done_of(&r, n);
    IO(&r, x, y);
    espl__engine *e = engine_on(&r, ESPL_F64, &x->shape);
    step(e, (double[6]){0}, 0.5, NULL);
    espl_tensor dx = espl__engine_input_gradient(e, 0);
    for (int i = 0; i < 6; i++) assert_true(at(&dx, i) == 10);
    espl__engine_destroy(&e);
    espl_graph_destroy(&r.g);
    /* More than there are bits for is refused. */
    rig_begin(&r, ctx, 1);
    x = input_of(&r, "x", ESPL_F32, SHAPE(2, 3));
    for (int i = 0; i < 40; i++) in[i] = x;
    IO(&r, x, done_of(&r, node_of(&r, "Sum", 40, in, 1)));
    espl__engine_options options = {.real = ESPL_F32, .input_gradients = true};
    assert_int_equal(espl__engine_create(ctx, r.g, &x->shape, &options, &e, &r.diag), ESPL_UNSUPPORTED);
    assert_non_null(strstr(r.diag.message, "32 inputs of an operator, not for 40"));
    espl_graph_destroy(&r.g);
    espl_context_destroy(&ctx);
}

/* Constants in double in a network that is trained in f32. */
static void constants_in_double(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    for (int real = 0; real < 2; real++) {
        rig r;
        rig_begin(&r, ctx, 1);
        espl__value *x = input_of(&r, "x", ESPL_F32, SHAPE(3)),
                    *two = constant_of(&r, ESPL_F64, SHAPE(1), (double[]){2});
        espl__node *wide = NODE(&r, "Cast", x);
        set_int(&r, wide, "to", 11);
        espl__node *narrow = NODE(&r, "Cast", APPLY(&r, "Mul", done_of(&r, wide), two));
        set_int(&r, narrow, "to", 1);
        IO(&r, x, done_of(&r, narrow));
        espl__engine *e = engine_on(&r, real ? ESPL_F64 : ESPL_F32, &x->shape);
        double y[3];
        step(e, (double[]){1, -2, 3}, 1, y);
        espl_tensor dx = espl__engine_input_gradient(e, 0);
        assert_true(y[0] == 2 && y[1] == -4 && y[2] == 6);
        assert_true(at(&dx, 0) == 2 && at(&dx, 2) == 2);
        espl__engine_destroy(&e);
        espl_graph_destroy(&r.g);
    }
    espl_context_destroy(&ctx);
}

/* A vector is one channel. */
static void batch_norm_of_a_vector(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    rig r;
    rig_begin(&r, ctx, 1);
    enum { N = 100 };
    espl__value *x = input_of(&r, "x", ESPL_F32, SHAPE(N)), *p[4];
    for (int i = 0; i < 4; i++) p[i] = constant_of(&r, ESPL_F32, SHAPE(1), (float[]){i == 0 || i == 3});
    IO(&r, x, APPLY(&r, "BatchNormalization", x, p[0], p[1], p[2], p[3]));
    espl__engine *e = engine_on(&r, ESPL_F64, &x->shape);
    double data[N], y[N], sum = 0;
    for (int i = 0; i < N; i++) data[i] = i;
    step(e, data, 1, y);
    for (int i = 0; i < N; i++) sum += y[i];
    assert_true(fabs(sum) < 1e-9);
    assert_true(fabs(y[N - 1] - 49.5 / sqrt((N * N - 1) / 12.0)) < 1e-6);
    espl__engine_destroy(&e);
    espl_graph_destroy(&r.g);
    espl_context_destroy(&ctx);
}

/* Sums over nothing, and of it. */
static void nothing_at_all(void **state) {
    (void)state;
    espl_context *ctx = new_context(2);
    rig r;
    rig_begin(&r, ctx, 1);
    espl__value *x = input_of(&r, "x", ESPL_F32, SHAPE(3, 4));
    espl__value *none = APPLY(&r, "Slice", x, INTS(&r, 0), INTS(&r, 0), INTS(&r, 0));
    espl__value *b = constant_of(&r, ESPL_F32, SHAPE(1, 4), (float[]){1, 2, 3, 4});
    espl__node *n = NODE(&r, "ReduceSum", APPLY(&r, "Add", none, b), INTS(&r, 0));
    set_int(&r, n, "keepdims", 0);
    IO(&r, x, done_of(&r, n));
    espl__engine *e = engine_on(&r, ESPL_F32, &x->shape);
    double y[4];
    step(e, (double[12]){1}, 1, y);
    for (int i = 0; i < 4; i++) assert_true(y[i] == 0);
    espl__engine_destroy(&e);
    espl_graph_destroy(&r.g);
    espl_context_destroy(&ctx);
}

/* --- whole trainings ---------------------------------------------------------------------------------- */

/* Digits by one hidden layer with batch norm; `merged`: its scale and variance are one constant. `extra`: the
 * hidden layer is an output too. */
static espl_graph *network(espl_context *ctx, bool merged, bool extra, const char *path) {
    rig r;
    rig_begin(&r, ctx, 9);
    espl__value *x = input_of(&r, "x", ESPL_F32, SHAPE(ESPL_DIM_UNKNOWN, 1, 28, 28)), *p[4];
    for (int i = 0; i < 4; i++) {
        p[i] = constant_of(&r, ESPL_F32, SHAPE(16), NULL);
        for (int k = 0; k < 16; k++) ((float *)p[i]->constant->data)[k] = i == 0 || i == 3;
    }
    espl__value *flat = APPLY(&r, "Flatten", x), *w = random_of(&r, SHAPE(784, 16), 0.05f);
    espl__value *h =
        APPLY(&r, "BatchNormalization", APPLY(&r, "MatMul", flat, w), p[0], p[1], p[2], merged ? p[0] : p[3]);
    h = APPLY(&r, "Relu", h);
    espl__value *y = APPLY(&r, "MatMul", h, random_of(&r, SHAPE(16, 10), 0.2f));
    if (extra)
        IO(&r, x, y, h);
    else
        IO(&r, x, y);
    espl_graph *g = NULL;
    if (espl_onnx_write(ctx, r.g, NULL, path, &r.diag) != ESPL_OK) fail_msg("%s", r.diag.message);
    espl_graph_destroy(&r.g);
    if (espl__train_read(ctx, path, &g, &r.diag) != ESPL_OK) fail_msg("%s", r.diag.message);
    remove(path);
    return g;
}

/* The constants that a reading order of the nodes meets, after some steps. */
static int trained(espl_context *ctx, bool merged, bool extra, float *out, int most) {
    espl_graph *g = network(ctx, merged, extra, "train_edges.onnx");
    espl_dataset *data = NULL;
    espl_diag diag = {0};
    if (espl_dataset_open(ctx, "digits:train", &data, &diag) != ESPL_OK) fail_msg("%s", diag.message);
    espl_train_options o = {.data = data, .epochs = 1, .batch = 64, .lr = 0.05};
    espl_train_result result;
    if (espl_train(ctx, g, &o, &result, &diag) != ESPL_OK) fail_msg("%s", diag.message);
    int count = 0;
    for (int i = 0; i < g->node_count; i++)
        for (int j = 0; j < g->nodes[i]->input_count; j++) {
            const espl_tensor *t = g->nodes[i]->inputs[j]->constant;
            for (int64_t k = 0; t && t->dtype == ESPL_F32 && k < espl_shape_count(&t->shape); k++) {
                assert_true(count < most);
                out[count++] = ((const float *)t->data)[k];
            }
        }
    espl_dataset_close(&data);
    espl_graph_destroy(&g);
    return count;
}

/* Neither merged constants nor outputs that the loss does not look at change what is learned. */
static void the_same_is_learned(void **state) {
    (void)state;
    enum { MOST = 784 * 16 + 4 * 16 + 160 };
    espl_context *ctx = new_context(2);
    float *plain = calloc(MOST, sizeof *plain), *other = calloc(MOST, sizeof *other);
    int count = trained(ctx, false, false, plain, MOST);
    assert_int_equal(count, MOST);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(trained(ctx, i == 0, i == 1, other, MOST), MOST);
        assert_memory_equal(plain, other, MOST * sizeof *plain);
    }
    free(plain);
    free(other);
    espl_context_destroy(&ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_inputs),
        cmocka_unit_test(constants_in_double),
        cmocka_unit_test(batch_norm_of_a_vector),
        cmocka_unit_test(nothing_at_all),
        cmocka_unit_test(the_same_is_learned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
