/* Networks whose tensors are floats of 16 bits, against ONNX Runtime (tests/oracle/make_half_models.py):
 * read, run, written and read again, quantized. */
#include "real_models.h"
#include "fixture_io.h"

#include "espalier/model.h"
#include "ops/ops.h"

/* Relative to the largest output, which both sides round to 11 bits (bf16: 8). ONNX Runtime rounds what is
 * between operators of f16 too; mnist_qdq it computes in f32, by sums that may fall to the other side of half
 * a step. */
static const struct {
    const char *name;
    espl_dtype type; /* of input and output */
    double tolerance;
} rows[] = {{"mnist_f16", ESPL_F16, 2e-3},
            {"kws_f16", ESPL_F16, 4e-3},
            {"mnist_edges", ESPL_F32, 2e-3},
            {"mnist_qdq", ESPL_F16, 0.01},
            {"mnist_bf16", ESPL_BF16, 1e-2}};

/* The largest difference from the fixture's output, relative to its largest number. */
static double error_of(espl_context *ctx, const espl_graph *g, const char *name, espl_dtype type) {
    espl_session *s = session_of(ctx, g);
    run_io x = io_of(s, 1);
    espl_tensor in = fixture_tensor(ctx, "half/%s/test_data_set_0/input_0.pb", name);
    espl_tensor expected = fixture_tensor(ctx, "half/%s/test_data_set_0/output_0.pb", name);
    assert_int_equal(x.in[0].dtype, type);
    assert_int_equal(x.out[0].dtype, type);
    assert_int_equal(bytes_of(&in), bytes_of(&x.in[0]));
    memcpy(x.in[0].data, in.data, bytes_of(&in));
    run_session(s, &x);
    double most = 0, error = 0;
    for (int64_t i = 0, n = espl_shape_count(&expected.shape); i < n; i++) {
        double a, b;
        espl__load_f64(type, espl__at(x.out[0].data, type, i), 0, 1, &a);
        espl__load_f64(type, espl__at(expected.data, type, i), 0, 1, &b);
        most = fmax(most, fabs(b));
        error = fmax(error, fabs(a - b));
    }
    espl_tensor_free(ctx, &in);
    espl_tensor_free(ctx, &expected);
    io_free(&x);
    espl_session_destroy(&s);
    return error / most;
}

static void expect(espl_context *ctx, const espl_graph *g, size_t row, double tolerance) {
    double error = error_of(ctx, g, rows[row].name, rows[row].type);
    if (!(error <= tolerance)) fail_msg("%s is off by %g", rows[row].name, error);
}

static void sessions_agree_with_onnx_runtime(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    for (size_t i = 0; i < ESPL_COUNT(rows); i++) {
        espl_graph *g = fixture_graph(ctx, true, "half/%s/model.onnx", rows[i].name);
        expect(ctx, g, i, rows[i].tolerance);
        espl_graph_destroy(&g);
    }
    espl_context_destroy(&ctx);
}

/* Between the edges everything is f32, and weights are the file's 16 bits. */
static void weights_stay_16_bits(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    espl_graph *g = fixture_graph(ctx, true, "half/%s/model.onnx", "kws_f16");
    int weights = 0;
    for (int i = 0; i < g->node_count; i++) {
        espl__node *n = g->nodes[i];
        for (int k = 0; k < n->output_count; k++)
            assert_true(!n->outputs[k] || espl__node_is(n, "Cast") || n->outputs[k]->dtype != ESPL_F16);
        for (int k = 0; k < n->input_count; k++)
            weights += n->inputs[k] && n->inputs[k]->quant.format == ESPL_FORMAT_F16;
    }
    assert_true(weights > 5);
    espl_graph_destroy(&g);
    espl_context_destroy(&ctx);
}

static void written_and_read_again(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    char path[] = "/tmp/espl_test_half_XXXXXX";
    int file = mkstemp(path);
    assert_true(file >= 0);
    close(file);
    for (size_t i = 0; i < ESPL_COUNT(rows); i++)
        for (int onnx = 0; onnx < 2; onnx++) {
            espl_diag diag = {0};
            espl_graph *g = fixture_graph(ctx, true, "half/%s/model.onnx", rows[i].name), *back = NULL;
            espl_status status =
                onnx ? espl_onnx_write(ctx, g, NULL, path, &diag) : espl_model_write(ctx, g, path, &diag);
            if (status != ESPL_OK) fail_msg("%s: %s", rows[i].name, diag.message);
            if (espl_graph_read(ctx, path, &back, &diag) != ESPL_OK)
                fail_msg("%s: %s", rows[i].name, diag.message);
            expect(ctx, back, i, rows[i].tolerance);
            espl_graph_destroy(&g);
            espl_graph_destroy(&back);
        }
    unlink(path);
    espl_context_destroy(&ctx);
}

/* 8 bits for weights and activations, with ranges of one sample. */
static void quantized(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    for (size_t i = 0; i < ESPL_COUNT(rows); i++) {
        if (strcmp(rows[i].name, "mnist_qdq") == 0) continue; /* is already */
        espl_graph *g = fixture_graph(ctx, true, "half/%s/model.onnx", rows[i].name);
        espl_tensor sample = fixture_tensor(ctx, "half/%s/test_data_set_0/input_0.pb", rows[i].name);
        assert_true(espl__has_half_weights(g));
        assert_int_equal(espl__widen_weights(g, NULL), ESPL_OK);
        quantize_model_on(ctx, g, ESPL_FLAVOUR_PORTABLE, &sample);
        espl_tensor_free(ctx, &sample);
        int integers = 0;
        for (int k = 0; k < g->value_count; k++)
            integers += g->values[k]->constant && g->values[k]->quant.format == ESPL_FORMAT_S8;
        assert_true(integers > 1);
        expect(ctx, g, i, 0.25);
        espl_graph_destroy(&g);
    }
    espl_context_destroy(&ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sessions_agree_with_onnx_runtime),
        cmocka_unit_test(weights_stay_16_bits),
        cmocka_unit_test(written_and_read_again),
        cmocka_unit_test(quantized),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
