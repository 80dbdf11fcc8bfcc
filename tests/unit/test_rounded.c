/* Matrix products whose input is rounded by its own range in every run, against ONNX Runtime
 * (tests/oracle/make_rounded_fixtures.py): by the operators' references, and on the kernels after the passes.
 */
#include "fixture_io.h"

#include <unistd.h>

#include "espalier/model.h"
#include "runtime/plan.h"

static const struct {
    const char *name, *kernel;
    double tolerance; /* relative to the largest output */
} rows[] = {{"one_row", "matmul_rounded", 1e-4},
            {"rows_per_column", "matmul_rounded", 1e-4},
            {"u8_weights", "matmul_rounded", 1e-4},
            {"odd_zero", "gemv_f32", 0.02}, /* no s8 codes: x is not rounded then */
            {"positive", "matmul_rounded", 1e-4}};

/* The outputs for the fixture's input. */
static run_io run_on(espl_context *ctx, espl_session *s, const char *name) {
    run_io x = io_of(s, 1);
    espl_tensor in = fixture_tensor(ctx, "rounded/%s.in.pb", name);
    assert_int_equal(bytes_of(&in), bytes_of(&x.in[0]));
    memcpy(x.in[0].data, in.data, bytes_of(&in));
    espl_tensor_free(ctx, &in);
    run_session(s, &x);
    return x;
}

static void expect_output(espl_context *ctx, espl_session *s, const char *name, double tolerance) {
    run_io x = run_on(ctx, s, name);
    espl_tensor expected = fixture_tensor(ctx, "rounded/%s.out.pb", name);
    double error = difference(&x.out[0], &expected);
    if (!(error <= tolerance)) fail_msg("%s is off by %g", name, error);
    espl_tensor_free(ctx, &expected);
    io_free(&x);
}

static void references_agree_with_onnx_runtime(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    for (size_t i = 0; i < ESPL_COUNT(rows); i++) {
        espl_graph *g = fixture_graph(ctx, false, "rounded/%s.onnx", rows[i].name);
        espl_session *s = session_of(ctx, g);
        expect_output(ctx, s, rows[i].name, 1e-4);
        espl_session_destroy(&s);
        espl_graph_destroy(&g);
    }
    espl_context_destroy(&ctx);
}

static const char *kernel_of(const espl_session *s) {
    for (int i = 0; i < espl_session_layer_count(s); i++)
        if (strcmp(espl_session_layer(s, i).op, "MatMul") == 0) return espl_session_layer(s, i).kernel;
    return "";
}

static void kernels_agree_with_onnx_runtime(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    for (size_t i = 0; i < ESPL_COUNT(rows); i++) {
        espl_graph *g = fixture_graph(ctx, true, "rounded/%s.onnx", rows[i].name);
        for (int k = 0; k < g->node_count; k++)
            assert_true(!espl__node_is(g->nodes[k], "MatMulInteger") &&
                        !espl__node_is(g->nodes[k], "DynamicQuantizeLinear"));
        espl_session *s = session_of(ctx, g);
        assert_string_equal(kernel_of(s), rows[i].kernel);
        expect_output(ctx, s, rows[i].name, rows[i].tolerance);
        uint64_t allocations = espl_context_allocations(ctx);
        run_io x = io_of(s, 2);
        run_session(s, &x);
        assert_int_equal(espl_context_allocations(ctx), allocations);
        io_free(&x);
        espl_session_destroy(&s);
        espl_graph_destroy(&g);
    }
    espl_context_destroy(&ctx);
}

static void every_cpu_and_thread_count_agrees(void **state) {
    (void)state;
    for (size_t i = 0; i < ESPL_COUNT(rows); i++) {
        run_io expected = {0};
        ESPL__CPU_LEVELS(level, 0)
            for (int threads = 1; threads <= 3; threads++) {
                espl_context *ctx = new_context(threads);
                espl_graph *g = fixture_graph(ctx, true, "rounded/%s.onnx", rows[i].name);
                espl_session *s = session_at(ctx, g, (espl__cpu)level);
                run_io got = run_on(ctx, s, rows[i].name);
                if (level == 0 && threads == 1)
                    expected = got;
                else
                    assert_memory_equal(got.out[0].data, expected.out[0].data, bytes_of(&got.out[0]));
                if (level > 0 || threads > 1) io_free(&got);
                espl_session_destroy(&s);
                espl_graph_destroy(&g);
                espl_context_destroy(&ctx);
            }
        io_free(&expected);
    }
}

/* The .espl file keeps the permission; standard ONNX has no word for it, and gets the product of the numbers.
 */
static void files_keep_what_they_can(void **state) {
    (void)state;
    char folder[] = "/tmp/espl_test_rounded_XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    espl_context *ctx = new_context(1);
    espl_graph *g = fixture_graph(ctx, true, "rounded/%s.onnx", "rows_per_column"), *back = NULL;
    snprintf(path, sizeof path, "%s/model.espl", folder);
    assert_int_equal(espl_model_write(ctx, g, path, NULL), ESPL_OK);
    assert_int_equal(espl_model_read(ctx, path, &back, NULL), ESPL_OK);
    espl_session *s = session_of(ctx, back);
    assert_string_equal(kernel_of(s), "matmul_rounded");
    expect_output(ctx, s, "rows_per_column", 1e-4);
    espl_session_destroy(&s);
    espl_graph_destroy(&back);
    unlink(path);
    snprintf(path, sizeof path, "%s/model.onnx", folder);
    assert_int_equal(espl_onnx_write(ctx, g, NULL, path, NULL), ESPL_OK);
    assert_int_equal(espl_onnx_read(ctx, path, &back, NULL), ESPL_OK);
    for (int i = 0; i < back->node_count; i++) assert_null(espl__attr_find(back->nodes[i], "espl_dynamic"));
    assert_int_equal(espl__passes_run(back, NULL), ESPL_OK);
    s = session_of(ctx, back);
    assert_string_equal(kernel_of(s), "wonly_f32");
    expect_output(ctx, s, "rows_per_column", 0.02);
    espl_session_destroy(&s);
    espl_graph_destroy(&back);
    espl_graph_destroy(&g);
    unlink(path);
    rmdir(folder);
    espl_context_destroy(&ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(references_agree_with_onnx_runtime),
        cmocka_unit_test(kernels_agree_with_onnx_runtime),
        cmocka_unit_test(every_cpu_and_thread_count_agrees),
        cmocka_unit_test(files_keep_what_they_can),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
