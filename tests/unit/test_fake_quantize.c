/* Quantized networks in training: FakeQuantize against PyTorch's learnable fake quantization
 * (tests/oracle/make_fake_quantize_fixtures.py), whole networks against sessions, codes that are stored. */
#include "fixture_io.h"
#include "real_models.h"
#include "espalier/tensor.h"
#include "train/engine.h"

static const espl_dtype reals[] = {ESPL_F32, ESPL_F64};

/* --- beside PyTorch ---------------------------------------------------------------------------------- */

typedef struct oracle {
    espl_tensor all; /* x, y, dy, dx, ds */
    int64_t n, scales;
} oracle;

static double part(const oracle *o, int which, int64_t i) {
    return ((const double *)o->all.data)[which * o->n + i];
}

static oracle read_oracle(espl_context *ctx, const char *name, int64_t n, int64_t scales) {
    char path[4096];
    oracle o = {.n = n, .scales = scales};
    snprintf(path, sizeof path, "%s/tests/fixtures/training/%s.npy", ESPL_SOURCE_DIR, name);
    assert_int_equal(espl_npy_read(ctx, path, &o.all, NULL), ESPL_OK);
    assert_int_equal(espl_shape_count(&o.all.shape), 4 * n + scales);
    return o;
}

static void expect_part(const oracle *o, const char *what, int which, const espl_tensor *t,
                        double tolerance) {
    for (int64_t i = 0; i < espl_shape_count(&t->shape); i++) {
        double got, want = part(o, which, i);
        espl__load_f64(t->dtype, espl__at(t->data, t->dtype, i), 0, 1, &got);
        if (!(fabs(got - want) <= tolerance * (1 + fabs(want))))
            fail_msg("%s, element %d: %.9g, and PyTorch says %.9g", what, (int)i, got, want);
    }
}

/* The gradient of the parameter of that name. */
static espl_tensor gradient_of(const espl__engine *e, const char *name) {
    for (int i = 0; i < espl__engine_params(e); i++)
        if (strcmp(espl__engine_param(e, i)->name, name) == 0) return espl__engine_param(e, i)->grad;
    fail_msg("%s is not trained", name);
    return (espl_tensor){0};
}

/* x, which an input or a constant is, through QuantizeLinear and DequantizeLinear. */
static espl__value *pair_of(rig *r, espl__value *x, espl__value *scale, espl__value *zero, int64_t axis) {
    espl__node *q = NODE(r, "QuantizeLinear", x, scale, zero);
    set_int(r, q, "axis", axis);
    done_of(r, q);
    espl__node *d = NODE(r, "DequantizeLinear", q->outputs[0], scale, zero);
    set_int(r, d, "axis", axis);
    return done_of(r, d);
}

/* One step with the oracle's dy and input 0's numbers; `x` and `scale` are where dx and ds are. */
static void check_step(rig *r, const oracle *o, const void *in, const char *x, const char *scale,
                       espl_dtype real) {
    espl_shape shape = r->g->inputs[0]->shape;
    espl__engine_options options = {.real = real, .input_gradients = true};
    espl__engine *e = NULL;
    assert_int_equal(espl__engine_create(r->ctx, r->g, &shape, &options, &e, &r->diag), ESPL_OK);
    espl__engine_set_input(e, 0, in, ESPL_F64);
    assert_int_equal(espl__engine_forward(e, true, 1, &r->diag), ESPL_OK);
    espl_tensor y = espl__engine_output(e, 0), dy = espl__engine_output_gradient(e, 0);
    expect_part(o, "y", 1, &y, 1e-6);
    for (int64_t i = 0; i < o->n; i++)
        espl__store_f64(real, (double[]){part(o, 2, i)}, 1, espl__at_mut(dy.data, real, i));
    assert_int_equal(espl__engine_backward(e, &r->diag), ESPL_OK);
    espl_tensor dx = x ? gradient_of(e, x) : espl__engine_input_gradient(e, 0), ds = gradient_of(e, scale);
    expect_part(o, "dx", 3, &dx, 1e-6);
    expect_part(o, "ds", 4, &ds, 2e-5);
    espl__engine_destroy(&e);
}

static void an_activation(espl_context *ctx, espl_dtype real) {
    rig r;
    oracle o = read_oracle(ctx, "fake_tensor", 240, 1);
    rig_begin(&r, ctx, 1);
    espl__value *in = input_of(&r, "x", ESPL_F32, SHAPE(6, 5, 8)), *scale = scalar_of(&r, 0.02f);
    IO(&r, in, pair_of(&r, in, scale, constant_of(&r, ESPL_U8, (espl_shape){0}, (uint8_t[]){100}), 1));
    check_step(&r, &o, o.all.data, NULL, scale->name, real);
    espl_graph_destroy(&r.g);
    espl_tensor_free(ctx, &o.all);
}

/* An input of zeros is added, since a network has inputs. */
static void weights(espl_context *ctx, espl_dtype real) {
    rig r;
    oracle o = read_oracle(ctx, "fake_channel", 120, 4);
    rig_begin(&r, ctx, 1);
    r.g->opset = 21;
    espl__value *in = input_of(&r, "x", ESPL_F32, SHAPE(4, 30));
    espl__value *w = constant_of(&r, ESPL_F32, SHAPE(4, 30), NULL),
                *scale = constant_of(&r, ESPL_F32, SHAPE(4), NULL);
    for (int i = 0; i < 120; i++) ((float *)w->constant->data)[i] = (float)part(&o, 0, i);
    for (int i = 0; i < 4; i++) ((float *)scale->constant->data)[i] = 0.11f + 0.03f * (float)i;
    espl__value *zero = constant_of(&r, ESPL_S4, SHAPE(4), (int8_t[4]){0});
    IO(&r, in, APPLY(&r, "Add", in, pair_of(&r, w, scale, zero, 0)));
    check_step(&r, &o, (double[120]){0}, w->name, scale->name, real);
    espl_graph_destroy(&r.g);
    espl_tensor_free(ctx, &o.all);
}

static void beside_pytorch(void **state) {
    (void)state;
    for (int threads = 1; threads <= 3; threads++) {
        espl_context *ctx = new_context(threads);
        for (size_t i = 0; i < ESPL_COUNT(reals); i++) {
            an_activation(ctx, reals[i]);
            weights(ctx, reals[i]);
        }
        espl_context_destroy(&ctx);
    }
}

/* --- whole networks ---------------------------------------------------------------------------------- */

/* The scales of a pair, and codes, after a step that changes all that is trained. */
static void stored_grids(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    for (int frozen = 0; frozen < 2; frozen++) {
        rig r;
        rig_begin(&r, ctx, 1);
        espl__value *in = input_of(&r, "x", ESPL_F32, SHAPE(1, 4)),
                    *twin[2] = {scalar_of(&r, 0.5f), scalar_of(&r, 0.5f)};
        espl__value *zero = constant_of(&r, ESPL_U8, (espl_shape){0}, (uint8_t[]){128}),
                    *ws = scalar_of(&r, 0.25f);
        espl__value *x =
            APPLY(&r, "DequantizeLinear", APPLY(&r, "QuantizeLinear", in, twin[0], zero), twin[1], zero);
        espl__value *w = constant_of(&r, ESPL_S8, SHAPE(4, 4), NULL);
        for (int i = 0; i < 16; i++) ((int8_t *)w->constant->data)[i] = (int8_t)(8 * i - 64);
        IO(&r, in, APPLY(&r, "MatMul", x, APPLY(&r, "DequantizeLinear", w, ws)));
        espl_graph *g = NULL;
        if (espl_onnx_write(ctx, r.g, NULL, "stored_grids.onnx", &r.diag) != ESPL_OK)
            fail_msg("%s", r.diag.message);
        if (espl__train_read(ctx, "stored_grids.onnx", &g, &r.diag) != ESPL_OK)
            fail_msg("%s", r.diag.message);
        remove("stored_grids.onnx");
        const espl__value *codes = NULL;
        for (int i = 0; i < g->value_count; i++)
            if (g->values[i]->constant && g->values[i]->dtype == ESPL_S8) codes = g->values[i];
        assert_non_null(codes);
        const char *patterns[] = {codes->name};
        espl__engine_options options = {.real = ESPL_F32, .frozen = patterns, .frozen_count = frozen};
        espl__engine *e = NULL;
        assert_int_equal(espl__engine_create(ctx, g, &in->shape, &options, &e, &r.diag), ESPL_OK);
        assert_int_equal(espl__engine_params(e),
                         frozen ? 1 : 3); /* of the frozen weights the scale too is as it was */
        int64_t count;
        float *all = espl__engine_weights(e, &count);
        for (int64_t i = 0; i < count; i++) all[i] *= 1.5f;
        espl__engine_store(e, g);
        for (int i = 0; i < g->node_count; i++) {
            const espl__node *n = g->nodes[i];
            bool pair = !espl__node_is(n, "MatMul") && n->inputs[0] != codes;
            if (pair) assert_true(*(const float *)n->inputs[1]->constant->data == 0.75f);
        }
        espl__engine_destroy(&e);
        espl_graph_destroy(&g);
        espl_graph_destroy(&r.g);
    }
    espl_context_destroy(&ctx);
}

static espl_graph *quantized_digits(espl_context *ctx, const char *path) {
    espl_graph *g = NULL, *trained = NULL;
    espl_diag diag = {0};
    if (espl_graph_read(ctx, ESPL_SOURCE_DIR "/examples/digits.onnx", &g, &diag) != ESPL_OK)
        fail_msg("%s", diag.message);
    quantize_model(ctx, g, ESPL_FLAVOUR_ORT_X86);
    if (espl_onnx_write(ctx, g, NULL, path, &diag) != ESPL_OK) fail_msg("%s", diag.message);
    if (espl__train_read(ctx, path, &trained, &diag) != ESPL_OK) fail_msg("%s", diag.message);
    espl_graph_destroy(&g);
    return trained;
}

/* What the engine computes is what a session computes of the file, but for sums that round to another code.
 */
static void expect_session(espl_context *ctx, espl__engine *e, const char *path) {
    espl_graph *g = NULL;
    espl_diag diag = {0};
    if (espl_graph_read(ctx, path, &g, &diag) != ESPL_OK) fail_msg("%s", diag.message);
    espl_session *s = session_of(ctx, g);
    run_io io = io_of(s, 3);
    run_session(s, &io);
    espl__engine_set_input(e, 0, io.in[0].data, ESPL_F32);
    assert_int_equal(espl__engine_forward(e, false, 1, &diag), ESPL_OK);
    espl_tensor y = espl__engine_output(e, 0);
    double largest = 0, off = 0;
    for (int64_t i = 0; i < espl_shape_count(&y.shape); i++) {
        double want = (double)((const float *)io.out[0].data)[i], got = (double)((const float *)y.data)[i];
        largest = fmax(largest, fabs(want));
        off = fmax(off, fabs(want - got));
    }
    if (!(off <= 0.02 * largest)) fail_msg("off by %g of %g", off, largest);
    io_free(&io);
    espl_session_destroy(&s);
    espl_graph_destroy(&g);
}

/* Weights of 3 bits stay so, whatever type their codes have. */
static void codes_keep_their_bits(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    static const struct {
        int8_t codes[4], most[4];
    } rows[] = {
        {{-4, 3, 1, 0}, {-4, 3, 3, 0}}, {{-3, 3, 1, 0}, {-3, 3, 3, 0}}, {{-1, 1, 1, 0}, {-1, 1, 1, 0}}};
    for (size_t i = 0; i < ESPL_COUNT(rows); i++) {
        rig r;
        rig_begin(&r, ctx, 1);
        espl__value *in = input_of(&r, "x", ESPL_F32, SHAPE(4)),
                    *codes = constant_of(&r, ESPL_S8, SHAPE(4), rows[i].codes);
        IO(&r, in, APPLY(&r, "Add", in, APPLY(&r, "DequantizeLinear", codes, scalar_of(&r, 0.5f))));
        espl__engine_options options = {.real = ESPL_F32};
        espl__engine *e = NULL;
        assert_int_equal(espl__engine_create(ctx, r.g, &in->shape, &options, &e, &r.diag), ESPL_OK);
        for (int k = 0; k < espl__engine_params(e); k++) {
            const espl__param *p = espl__engine_param(e, k);
            for (int64_t j = 0; p->count == 4 && j < 4; j++) ((float *)p->data.data)[j] *= 10;
        }
        espl__engine_store(e, r.g);
        assert_memory_equal(codes->constant->data, rows[i].most, 4);
        espl__engine_destroy(&e);
        espl_graph_destroy(&r.g);
    }
    espl_context_destroy(&ctx);
}

static void engines_agree_with_sessions(void **state) {
    (void)state;
    espl_context *ctx = new_context(2);
    const char *path = "fake_quantize.onnx";
    espl_graph *g = quantized_digits(ctx, path);
    espl_shape shape = SHAPE(1, 1, 28, 28);
    espl__engine_options options = {.real = ESPL_F32};
    espl__engine *e = NULL;
    espl_diag diag = {0};
    if (espl__engine_create(ctx, g, &shape, &options, &e, &diag) != ESPL_OK) fail_msg("%s", diag.message);
    expect_session(ctx, e, path);
    /* Other weights, and scales: what is stored computes what the engine does. */
    int64_t count;
    float *w = espl__engine_weights(e, &count);
    for (int64_t i = 0; i < count; i++) w[i] *= 1.2f + 0.1f * (float)(i % 7);
    espl__engine_store(e, g);
    if (espl_onnx_write(ctx, g, NULL, path, &diag) != ESPL_OK) fail_msg("%s", diag.message);
    expect_session(ctx, e, path);
    espl__engine_destroy(&e);
    espl_graph_destroy(&g);
    remove(path);
    espl_context_destroy(&ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(beside_pytorch),
        cmocka_unit_test(stored_grids),
        cmocka_unit_test(codes_keep_their_bits),
        cmocka_unit_test(engines_agree_with_sessions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
