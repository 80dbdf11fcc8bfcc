/* Operators carried to later operator sets. */
#include "small_graph.h"

#include "onnx/upgrade.h"

/* --- other operator sets ----------------------------------------------------------------------------- */

/* x -> op -> y with the attributes still to come. */
static espl_graph *old_graph(fixture *f, int opset, const char *op, int rank) {
    static const int64_t dims[5] = {2, 3, 4, 5, 6};
    espl_graph *g = new_graph(f, opset);
    espl__value *x = new_value(g, "x", rank, dims), *y = new_value(g, "y", rank, dims);
    new_node(g, op, "n", 1, &x, y);
    set_io(g, x, y);
    return g;
}

static void upgrade(fixture *f, espl_graph *g, int opset) {
    f->diag = (espl_diag){0};
    if (espl__onnx_upgrade(g, opset, &f->diag) != ESPL_OK) fail_msg("%s", f->diag.message);
    assert_int_equal(g->opset, opset);
    for (int i = 0; i < g->node_count; i++) assert_int_equal(g->nodes[i]->opset, opset);
}

static void has_ints(const espl__node *n, int input, int count, const int64_t *expected) {
    assert_true(n->input_count > input && n->inputs[input]);
    const espl_tensor *t = n->inputs[input]->constant;
    assert_int_equal(t->dtype, ESPL_S64);
    assert_int_equal(t->shape.rank, 1);
    assert_int_equal(t->shape.dim[0], count);
    assert_memory_equal(t->data, expected, sizeof(int64_t) * (size_t)count);
}

static void has_float(const espl__node *n, int input, float expected) {
    assert_true(n->input_count > input && n->inputs[input]);
    const espl_tensor *t = n->inputs[input]->constant;
    assert_int_equal(t->dtype, ESPL_F32);
    assert_int_equal(t->shape.rank, 0);
    assert_true(*(const float *)t->data == expected);
}

static void int_lists_become_inputs(void **state) {
    fixture *f = *state;
    static const struct {
        const char *op, *attr;
        int from, to, input;
    } rows[] = {
        {"Squeeze", "axes", 11, 13, 1},    {"Unsqueeze", "axes", 11, 13, 1}, {"ReduceSum", "axes", 11, 13, 1},
        {"ReduceMean", "axes", 13, 18, 1}, {"ReduceMax", "axes", 7, 18, 1},  {"Split", "split", 11, 13, 1},
        {"Pad", "pads", 9, 13, 1},
    };
    const int64_t list[2] = {1, 2};
    for (size_t i = 0; i < ESPL_COUNT(rows); i++) {
        espl_graph *g = old_graph(f, rows[i].from, rows[i].op, 4);
        assert_true(espl__attr_set_ints(g, g->nodes[0], rows[i].attr, list, 2));
        upgrade(f, g,
                rows[i].to - 1); /* one before the change nothing happens, but for Pad, which changed at 11 */
        if (rows[i].to - rows[i].from > 1 && strcmp(rows[i].op, "Pad") != 0)
            assert_non_null(espl__attr_find(g->nodes[0], rows[i].attr));
        upgrade(f, g, rows[i].to);
        has_ints(g->nodes[0], rows[i].input, 2, list);
        assert_null(espl__attr_find(g->nodes[0], rows[i].attr));
        espl_graph_destroy(&g);
    }
}

static void slice_and_clip_and_dropout(void **state) {
    fixture *f = *state;
    const int64_t starts[1] = {1}, ends[1] = {3}, axes[1] = {2};
    espl_graph *g = old_graph(f, 9, "Slice", 4);
    assert_true(espl__attr_set_ints(g, g->nodes[0], "starts", starts, 1) &&
                espl__attr_set_ints(g, g->nodes[0], "ends", ends, 1) &&
                espl__attr_set_ints(g, g->nodes[0], "axes", axes, 1));
    upgrade(f, g, 13);
    has_ints(g->nodes[0], 1, 1, starts);
    has_ints(g->nodes[0], 2, 1, ends);
    has_ints(g->nodes[0], 3, 1, axes);
    espl_graph_destroy(&g);
    g = old_graph(f, 10, "Clip", 4);
    assert_true(espl__attr_set_float(g, g->nodes[0], "max", 6));
    upgrade(f, g, 13);
    assert_int_equal(g->nodes[0]->input_count, 3);
    assert_null(g->nodes[0]->inputs[1]); /* no lower bound before, none now */
    has_float(g->nodes[0], 2, 6);
    espl_graph *r = write_and_read(f, g, NULL);
    assert_null(r->nodes[0]->inputs[1]);
    espl_graph_destroy(&r);
    espl_graph_destroy(&g);
    g = old_graph(f, 10, "Dropout", 4);
    assert_true(espl__attr_set_float(g, g->nodes[0], "ratio", 0.25f));
    upgrade(f, g, 13);
    has_float(g->nodes[0], 1, 0.25f);
    espl_graph_destroy(&g);
    g = old_graph(f, 17, "Split", 4);
    upgrade(f, g, 18);
    assert_int_equal(espl__attr_int(g->nodes[0], "num_outputs", 0), 1);
    espl_graph_destroy(&g);
}

static void softmax_keeps_its_rows(void **state) {
    fixture *f = *state;
    /* The last axis: the same thing, said with the new default. */
    espl_graph *g = old_graph(f, 11, "Softmax", 2);
    upgrade(f, g, 13);
    assert_int_equal(g->node_count, 1);
    assert_int_equal(espl__attr_int(g->nodes[0], "axis", 1), -1);
    espl_graph_destroy(&g);
    /* Another axis: rows of all that follows it. */
    g = old_graph(f, 11, "Softmax", 4);
    assert_true(espl__attr_set_int(g, g->nodes[0], "axis", 2));
    upgrade(f, g, 13);
    const espl__node *reshape = producer(g, "y"), *softmax = reshape->inputs[0]->producer;
    assert_true(espl__node_is(reshape, "Reshape"));
    assert_true(espl__node_is(reshape->inputs[1]->producer, "Shape"));
    assert_true(espl__node_is(softmax, "Softmax"));
    assert_int_equal(espl__attr_int(softmax, "axis", 1), -1);
    const espl__node *flatten = softmax->inputs[0]->producer;
    assert_true(espl__node_is(flatten, "Flatten"));
    assert_int_equal(espl__attr_int(flatten, "axis", 1), 2);
    assert_ptr_equal(flatten->inputs[0], g->inputs[0]);
    espl_graph_destroy(&g);
}

static void what_changed_its_meaning_is_refused(void **state) {
    fixture *f = *state;
    espl_graph *g = old_graph(f, 8, "BatchNormalization", 4);
    assert_true(espl__attr_set_int(g, g->nodes[0], "spatial", 0));
    f->diag = (espl_diag){0};
    assert_int_equal(espl__onnx_upgrade(g, 13, &f->diag), ESPL_UNSUPPORTED);
    assert_non_null(
        strstr(f->diag.message, "node BatchNormalization 'n' cannot be written for operator set 13"));
    espl_graph_destroy(&g);
}

/* Lifts a node of operator set 6 or 1; returns what is said if that cannot be. What can be, ONNX's vectors of
 * set 6 and ours (tests/conformance) show. */
static const char *lift(fixture *f, espl_graph **g) {
    f->diag = (espl_diag){0};
    espl_status status = espl__onnx_lift(*g, &f->diag);
    espl_graph_destroy(g);
    return status == ESPL_OK ? "" : f->diag.message;
}

static void what_cannot_be_lifted_is_refused(void **state) {
    fixture *f = *state;
    static const int64_t dims[9] = {2, 3, 4, 5, 6, 7, 8, 9, 10}; /* b has those from the second on */
    static const struct {
        const char *op, *part;
        int opset;
    } rows[] = {{"Dropout", "node Dropout 'n' of operator set 6: it drops at random", 6},
                {"Cast", "there is no element type ''", 1},
                {"Reshape", "has no attribute shape", 4},
                {"Tile", "its axis is not a constant", 1}};
    for (size_t i = 0; i < ESPL_COUNT(rows); i++) {
        espl_graph *g = old_graph(f, rows[i].opset, rows[i].op, 3);
        assert_non_null(strstr(lift(f, &g), rows[i].part));
    }
    static const struct {
        int rank_a, rank_b, axis;
        const char *part;
    } sums[] = {{4, 1, 1, ""},
                {4, 1, 4, "axis is out of range"},
                {4, 1, -5, "axis is out of range"},
                {4, 2, 3, "axis is out of range"},
                {4, 2, -1, "axis is out of range"},
                {8, 8, 0, ""},
                {8, 8, -8, ""},
                {-1, 1, 1, "rank of an input, which is not known"},
                {4, -1, 1, "rank of an input, which is not known"}};
    for (size_t i = 0; i < ESPL_COUNT(sums); i++) {
        espl_graph *g = new_graph(f, 6);
        espl__value *in[2] = {new_value(g, "x", ESPL_MAX(sums[i].rank_a, 0), dims),
                              new_value(g, "b", ESPL_MAX(sums[i].rank_b, 0), dims + 1)};
        espl__value *y = new_value(g, "y", 0, dims);
        if (sums[i].rank_a == 8) in[1]->shape = in[0]->shape;
        in[0]->known_rank = sums[i].rank_a >= 0;
        in[1]->known_rank = sums[i].rank_b >= 0;
        espl__node *n = new_node(g, "Add", "n", 2, in, y);
        in[0]->is_input = in[1]->is_input = true;
        assert_true(espl__attr_set_int(g, n, "broadcast", 1) &&
                    espl__attr_set_int(g, n, "axis", sums[i].axis));
        assert_true(espl__graph_set_io(g, in, 2, &y, 1));
        const char *said = lift(f, &g);
        if (sums[i].part[0] ? !strstr(said, sums[i].part) : said[0]) fail_msg("sum %zu: '%s'", i, said);
    }
}

/* A graph of operator set 9 gets the one that quantizations need, and its nodes with it; the caller's stays.
 */
static void quantizing_upgrades_a_copy(void **state) {
    fixture *f = *state;
    const float scale = 0.5f;
    espl_graph *g = old_graph(f, 9, "Clip", 4);
    assert_true(espl__attr_set_float(g, g->nodes[0], "min", 0));
    assert_true(espl__graph_set_quant(g, g->outputs[0], ESPL_FORMAT_S8, -1, 1, &scale, NULL));
    espl_graph *r = write_and_read(f, g, NULL);
    assert_int_equal(r->opset, 13);
    assert_int_equal(r->node_count, 3);
    has_float(r->nodes[0], 1, 0);
    assert_int_equal(g->opset, 9);
    assert_int_equal(g->nodes[0]->input_count, 1);
    assert_true(espl__attr_float(g->nodes[0], "min", 1) == 0);
    espl_graph_destroy(&r);
    espl_graph_destroy(&g);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, onnx_setup, onnx_teardown)
    const struct CMUnitTest tests[] = {
        TEST(int_lists_become_inputs),          TEST(slice_and_clip_and_dropout),
        TEST(softmax_keeps_its_rows),           TEST(what_changed_its_meaning_is_refused),
        TEST(what_cannot_be_lifted_is_refused), TEST(quantizing_upgrades_a_copy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
