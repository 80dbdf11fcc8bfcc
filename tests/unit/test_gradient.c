/* Gradient nodes that have no derivative here: the sentences. What the others give is in
 * tests/conformance/gradient, which tests/conformance/make_gradient.py writes, as it does these files. */
#include "graph_build.h"

#include "espalier/onnx.h"

static void refused_in_a_sentence(void **state) {
    static const char *const cases[][2] = {
        {"softmax",
         "Gradient: no derivative of node Softmax #0; the operators with a derivative here are Add Sub Mul"},
        {"open", "Gradient: node Mul #0: its derivative needs to know which dimensions are repeated"},
        {"vector", "Gradient: node MatMul #0: the derivative of a MatMul with a vector is not supported"},
        {"renamed", "node 'gradient' (Gradient): input 0 is not the value that xs names"},
        {"no_y", "y is 'z', which nothing produces"},
        {"no_xs", "xs and zs name 0 values and there are 1 inputs"},
        {"too_few", "xs and zs name 1 values and there are 2 inputs"},
        {"itself", "cycle"},
    };
    (void)state;
    espl_context *ctx = new_context(1);
    for (size_t i = 0; i < ESPL_COUNT(cases); i++) {
        espl_graph *g = NULL;
        espl_diag diag = {0};
        char path[512];
        snprintf(path, sizeof path, ESPL_SOURCE_DIR "/tests/conformance/gradient_bad/%s.onnx", cases[i][0]);
        espl_status status = espl_onnx_read(ctx, path, &g, &diag);
        if (status == ESPL_OK) status = espl__passes_run(g, &diag);
        if (status != ESPL_UNSUPPORTED && status != ESPL_FORMAT)
            fail_msg("%s: status %d", cases[i][0], (int)status);
        if (!strstr(diag.message, cases[i][1]))
            fail_msg("%s: '%s' does not say '%s'", cases[i][0], diag.message, cases[i][1]);
        espl_graph_destroy(&g);
    }
    espl_context_destroy(&ctx);
}

/* With dimensions that the file leaves open and a run binds, if nothing is ambiguous. */
static void open_batches(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    espl_graph *g = NULL;
    espl_diag diag = {0};
    if (espl_onnx_read(ctx, ESPL_SOURCE_DIR "/tests/conformance/gradient/matmul/model.onnx", &g, &diag) !=
        ESPL_OK)
        fail_msg("%s", diag.message);
    g->inputs[0]->shape.dim[0] = ESPL_DIM_UNKNOWN;
    if (espl__passes_run(g, &diag) != ESPL_OK) fail_msg("%s", diag.message);
    for (int i = 0; i < g->node_count; i++) assert_string_equal(g->nodes[i]->op->domain, "");
    espl_graph_destroy(&g);
    espl_context_destroy(&ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(refused_in_a_sentence),
                                       cmocka_unit_test(open_batches)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
