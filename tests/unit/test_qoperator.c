/* Networks of operators on codes, as ONNX Runtime's quantizer writes them
 * (tests/oracle/make_qoperator_fixtures.py): read as what they mean, they run on integer kernels and give
 * ONNX Runtime's outputs. */
#include "fixture_io.h"


/* tolerance: relative to the largest output. What rounds its input in every run stays f32 here where we have
 * no kernel that does, which is nearer to the numbers meant. */
static const struct {
    const char *name;
    double tolerance;
    int integer_layers; /* that must run on kernels of u8 */
} rows[] = {{"network", 1e-6, 10},
            {"convolution", 0.02, 0},
            {"lstm", 0.02, 0},
            {"dynamic_matmul", 1e-4, 0},
            {"integer_to_float", 1e-4, 0}};

static void expect_output(espl_context *ctx, espl_session *s, const char *name, double tolerance) {
    run_io x = io_of(s, 1);
    espl_tensor in = fixture_tensor(ctx, "qoperator/%s.in.pb", name);
    espl_tensor expected = fixture_tensor(ctx, "qoperator/%s.out.pb", name);
    assert_int_equal(bytes_of(&in), bytes_of(&x.in[0]));
    memcpy(x.in[0].data, in.data, bytes_of(&in));
    run_session(s, &x);
    double error = difference(&x.out[0], &expected);
    if (!(error <= tolerance)) fail_msg("%s is off by %g", name, error);
    espl_tensor_free(ctx, &in);
    espl_tensor_free(ctx, &expected);
    io_free(&x);
}

/* Without passes everything runs in the operators' references. */
static void references_agree_with_onnx_runtime(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    for (size_t i = 0; i < ESPL_COUNT(rows); i++) {
        espl_graph *g = fixture_graph(ctx, false, "qoperator/%s.onnx", rows[i].name);
        espl_session *s = session_of(ctx, g);
        expect_output(ctx, s, rows[i].name, ESPL_MAX(rows[i].tolerance, 1e-4));
        espl_session_destroy(&s);
        espl_graph_destroy(&g);
    }
    espl_context_destroy(&ctx);
}

static void kernels_agree_with_onnx_runtime(void **state) {
    (void)state;
    espl_context *ctx = new_context(2);
    for (size_t i = 0; i < ESPL_COUNT(rows); i++) {
        espl_graph *g = fixture_graph(ctx, false, "qoperator/%s.onnx", rows[i].name);
        espl_diag diag = {0};
        if (espl__passes_run(g, &diag) != ESPL_OK) fail_msg("%s", diag.message);
        espl_session *s = session_of(ctx, g);
        int integer = 0;
        for (int k = 0; k < espl_session_layer_count(s); k++) {
            const espl_layer l = espl_session_layer(s, k);
            integer += strstr(l.kernel, "u8") != NULL;
            if (strcmp(l.kernel, "reference") == 0)
                fail_msg("%s: %s runs in its reference", rows[i].name, l.op);
        }
        assert_true(integer >= rows[i].integer_layers);
        expect_output(ctx, s, rows[i].name, rows[i].tolerance);
        espl_session_destroy(&s);
        espl_graph_destroy(&g);
    }
    espl_context_destroy(&ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(references_agree_with_onnx_runtime),
        cmocka_unit_test(kernels_agree_with_onnx_runtime),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
