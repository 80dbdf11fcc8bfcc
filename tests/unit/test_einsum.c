/* The pass einsum: what of conformance's vectors becomes products of matrices, with which nodes, and what
 * stays. That the results are the same is what the conformance program sees (--passes). */
#include "graph_build.h"

#include "espalier/onnx.h"

static int count_of(const espl_graph *g, const char *op) {
    int n = 0;
    for (int i = 0; i < g->node_count; i++) n += espl__node_is(g->nodes[i], op);
    return n;
}

static espl_graph *passed(espl_context *ctx, const char *name) {
    char path[4096];
    espl_graph *g = NULL;
    espl_diag diag = {0};
    snprintf(path, sizeof path, "%s/tests/conformance/vectors/einsum_12_%s/model.onnx", ESPL_SOURCE_DIR,
             name);
    if (espl_onnx_read(ctx, path, &g, &diag) != ESPL_OK || espl__passes_run(g, &diag) != ESPL_OK)
        fail_msg("%s", diag.message);
    return g;
}

/* Nodes of each kind. Weights are turned and laid together once, so no Transpose or Reshape is left of that.
 */
static const struct {
    const char *name;
    int einsum, matmul, mul, transpose, reshape;
} rows[] = {{"matmul", 0, 1, 0, 0, 0},
            {"matmul_weights", 0, 1, 0, 0, 0},
            {"heads", 0, 1, 0, 2, 0},
            {"values", 0, 1, 0, 2, 0},
            {"project_weights", 0, 1, 0, 0, 1},
            {"join_weights", 0, 1, 0, 0, 1},
            {"constant_left_weights", 0, 1, 0, 0, 0},
            {"dots", 0, 1, 0, 0, 0},
            {"positions_weights", 0, 1, 0, 0, 0},
            {"outer", 0, 0, 1, 0, 0},
            {"elementwise", 0, 0, 1, 0, 0},
            {"dot", 0, 1, 0, 0, 3},
            {"swap", 0, 0, 0, 1, 0},
            {"row_sums", 0, 0, 0, 0, 0},
            {"diagonal", 1, 0, 0, 0, 0},
            {"three", 1, 0, 0, 0, 0}};

static void products_of_matrices(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    for (size_t i = 0; i < ESPL_COUNT(rows); i++) {
        espl_graph *g = passed(ctx, rows[i].name);
        int got[] = {count_of(g, "Einsum"), count_of(g, "MatMul"), count_of(g, "Mul"),
                     count_of(g, "Transpose"), count_of(g, "Reshape")};
        int want[] = {rows[i].einsum, rows[i].matmul, rows[i].mul, rows[i].transpose, rows[i].reshape};
        for (int k = 0; k < 5; k++)
            if (got[k] != want[k])
                fail_msg("%s: %d nodes of kind %d instead of %d", rows[i].name, got[k], k, want[k]);
        espl_graph_destroy(&g);
    }
    espl_context_destroy(&ctx);
}

/* A dimension that is not known before the network runs is no obstacle. */
static void unknown_batches(void **state) {
    (void)state;
    static const struct {
        const char *equation;
        espl_shape a, b;
        int left; /* Einsum nodes */
    } cases[] = {{"bqhd,bkhd->bhqk", {4, {-1, -1, 2, 8}}, {4, {-1, -1, 2, 8}}, 0},
                 {"btd,dhk->bthk", {3, {-1, -1, 8}}, {3, {8, 2, 4}}, 0},
                 {"bthk,hkd->btd", {4, {-1, -1, 2, 4}}, {3, {2, 4, 8}}, 0},
                 {"bijk,bkl->bijl", {4, {-1, 3, 5, 4}}, {3, {-1, 4, 6}}, 0},
                 {"bijk,bkl->bijl", {4, {-1, -1, -1, 4}}, {3, {-1, 4, 6}}, 1}};
    espl_context *ctx = new_context(1);
    for (size_t i = 0; i < ESPL_COUNT(cases); i++) {
        espl_graph *g = NULL;
        espl_diag diag = {0};
        assert_int_equal(espl__graph_create(ctx, &g, NULL), ESPL_OK);
        g->opset = 13;
        espl__value *in[2], *y = espl__graph_value(g, "y");
        espl__node *n = espl__graph_node(g, espl__op_find("", "Einsum"), "", 2, 1, 1);
        assert_non_null(n);
        n->opset = 13;
        assert_true(espl__attr_set_string(g, n, "equation", cases[i].equation));
        for (int k = 0; k < 2; k++) {
            in[k] = espl__graph_value(g, k ? "b" : "a");
            in[k]->shape = k ? cases[i].b : cases[i].a;
            in[k]->known_rank = in[k]->is_input = true;
            in[k]->dtype = ESPL_F32;
            n->inputs[k] = in[k];
        }
        espl__node_set_output(n, 0, y);
        assert_true(espl__graph_set_io(g, in, 2, &y, 1));
        if (espl__passes_run(g, &diag) != ESPL_OK) fail_msg("%s: %s", cases[i].equation, diag.message);
        assert_int_equal(count_of(g, "Einsum"), cases[i].left);
        espl_graph_destroy(&g);
    }
    espl_context_destroy(&ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_of_matrices),
        cmocka_unit_test(unknown_batches),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
