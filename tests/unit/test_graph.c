/* The IR: building, attributes, clones, replacement, sweeping, and the verifier. */
#include "graph_build.h"

static void attributes_are_set_and_replaced(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    rig r;
    rig_begin(&r, ctx, 1);
    espl__node *n = espl__graph_node(r.g, espl__op_find("", "Relu"), "n", 1, 1, 2);
    int64_t out[4] = {9, 9, 9, 9};
    assert_int_equal(espl__attr_int(n, "a", 7), 7);
    assert_true(espl__attr_set_int(r.g, n, "a", 1));
    assert_true(espl__attr_set_float(r.g, n, "b", 2));
    assert_int_equal(n->attr_count, 2); /* the room that was asked for */
    assert_true(espl__attr_set_string(r.g, n, "c", "text"));
    assert_int_equal(n->attr_count, 3);
    assert_int_equal(espl__attr_int(n, "a", 7), 1);
    assert_true(espl__attr_set_int(r.g, n, "a", 5));
    assert_int_equal(n->attr_count, 3);
    assert_int_equal(espl__attr_int(n, "a", 7), 5);
    /* Of another kind: the fallback. */
    assert_int_equal(espl__attr_int(n, "b", 7), 7);
    assert_true(espl__attr_float(n, "a", 3) == 3);
    assert_string_equal(espl__attr_string(n, "a", "no"), "no");
    assert_string_equal(espl__attr_string(n, "c", "no"), "text");
    SET_INTS(&r, n, "d", 1, 2, 3);
    assert_int_equal(espl__attr_ints(n, "d", out, 2), 3);
    assert_true(out[0] == 1 && out[1] == 2 && out[2] == 9);
    assert_int_equal(espl__attr_ints(n, "c", out, 2), 0);
    assert_null(espl__attr_find(n, "e"));
    espl_graph_destroy(&r.g);
    assert_null(r.g);
    assert_int_equal(espl_context_memory(ctx, NULL), empty_context(1));
    espl_context_destroy(&ctx);
}

/* Two inputs, a chain, a side branch that leads nowhere. */
static void small_graph(rig *r, espl_context *ctx, espl__value **v) {
    rig_begin(r, ctx, 1);
    v[0] = input_of(r, "x", ESPL_F32, SHAPE(2, 3));
    v[1] = input_of(r, "y", ESPL_F32, SHAPE(2, 3));
    v[2] = APPLY(r, "Relu", v[0]);
    v[3] = APPLY(r, "Add", v[2], v[1]);
    v[4] = APPLY(r, "Neg", v[2]);
    v[5] = APPLY(r, "Mul", v[3], scalar_of(r, 2));
    outputs_are(r, 2, v, 1, &v[5]);
}

static void uses_and_readers(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    rig r;
    espl__value *v[6];
    small_graph(&r, ctx, v);
    espl__graph_count_uses(r.g);
    assert_int_equal(v[0]->uses, 1);
    assert_int_equal(v[2]->uses, 2);
    assert_int_equal(v[5]->uses, 1);
    assert_int_equal(v[4]->uses, 0);
    assert_ptr_equal(espl__graph_only_reader(r.g, v[0]), r.g->nodes[0]);
    assert_null(espl__graph_only_reader(r.g, v[2])); /* two */
    assert_null(espl__graph_only_reader(r.g, v[5])); /* an output */
    assert_null(espl__graph_only_reader(r.g, v[4])); /* none */
    assert_true(espl__graph_is_output(r.g, v[5]));
    assert_ptr_equal(espl__graph_find(r.g, "y"), v[1]);
    assert_null(espl__graph_find(r.g, "nobody"));
    espl__graph_replace(r.g, v[2], v[0]);
    assert_ptr_equal(r.g->nodes[1]->inputs[0], v[0]);
    assert_ptr_equal(r.g->nodes[2]->inputs[0], v[0]);
    espl__graph_replace(r.g, v[5], v[3]);
    assert_ptr_equal(r.g->outputs[0], v[3]);
    espl_graph_destroy(&r.g);
    espl_context_destroy(&ctx);
}

/* A node that reads a value twice is no single reader. */
static void a_double_reader_is_two(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    rig r;
    rig_begin(&r, ctx, 1);
    espl__value *x = input_of(&r, "x", ESPL_F32, SHAPE(2)), *a = APPLY(&r, "Relu", x);
    IO(&r, x, APPLY(&r, "Add", a, a));
    assert_null(espl__graph_only_reader(r.g, a));
    espl_graph_destroy(&r.g);
    espl_context_destroy(&ctx);
}

static void dead_code_goes_and_ids_close_up(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    rig r;
    espl__value *v[6];
    small_graph(&r, ctx, v);
    constant_of(&r, ESPL_F32, SHAPE(1), NULL);
    assert_int_equal(espl__pass_dead_code(r.g, NULL), ESPL_OK);
    assert_int_equal(r.g->node_count, 3);
    assert_int_equal(r.g->value_count, 6); /* x, y, two between, the factor, the output */
    for (int i = 0; i < r.g->node_count; i++) assert_int_equal(r.g->nodes[i]->id, i);
    for (int i = 0; i < r.g->value_count; i++) {
        assert_int_equal(r.g->values[i]->id, i);
        assert_ptr_not_equal(r.g->values[i], v[4]);
    }
    /* An input that nothing reads stays an input. */
    espl__graph_replace(r.g, v[1], v[0]);
    assert_int_equal(espl__pass_dead_code(r.g, NULL), ESPL_OK);
    assert_int_equal(r.g->input_count, 2);
    assert_ptr_equal(espl__graph_find(r.g, "y"), v[1]);
    espl_graph_destroy(&r.g);
    espl_context_destroy(&ctx);
}

static void a_clone_is_apart(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    rig r;
    espl__value *v[6];
    small_graph(&r, ctx, v);
    quantize_value(&r, v[2], ESPL_FORMAT_U8, 0.5f, 3);
    espl__node *n = r.g->nodes[1];
    set_int(&r, n, "kept", 4);
    espl_graph *c = NULL;
    assert_int_equal(espl__graph_clone(r.g, &c, NULL), ESPL_OK);
    assert_int_equal(c->value_count, r.g->value_count);
    for (int i = 0; i < c->value_count; i++) {
        assert_string_equal(c->values[i]->name, r.g->values[i]->name);
        assert_int_equal(c->values[i]->origin, i);
        assert_ptr_not_equal(c->values[i], r.g->values[i]);
        assert_int_equal(c->values[i]->is_input, r.g->values[i]->is_input);
    }
    espl__value *q = c->values[v[2]->id];
    assert_true(q->quant.format == ESPL_FORMAT_U8 && q->quant.scale[0] == 0.5f && q->quant.zero[0] == 3);
    assert_ptr_not_equal(q->quant.scale, v[2]->quant.scale);
    assert_int_equal(espl__attr_int(c->nodes[1], "kept", 0), 4);
    for (int i = 0; i < c->node_count; i++) assert_int_equal(c->nodes[i]->origin, i);
    /* The original may go. */
    espl_graph_destroy(&r.g);
    espl_diag diag = {0};
    assert_int_equal(espl__graph_verify(c, &diag), ESPL_OK);
    espl_session *s = session_of(ctx, c);
    run_io io = io_of(s, 1);
    run_session(s, &io);
    io_free(&io);
    espl_session_destroy(&s);
    espl_graph_destroy(&c);
    espl_context_destroy(&ctx);
}

/* Fresh names are unique even where somebody has taken the likely ones. */
static void fresh_names_are_unique(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    rig r;
    rig_begin(&r, ctx, 1);
    for (int i = 0; i < 20; i++) {
        char name[16];
        snprintf(name, sizeof name, "v%d", 2 * i + 1);
        assert_non_null(espl__graph_value(r.g, i % 2 ? NULL : name));
    }
    /* A file has taken the next names with every tail that fits, and the numbers from 0 on. */
    const int next = r.g->value_count + 60;
    for (int i = 0; i < 60; i++) {
        char name[64];
        if (i < 40)
            snprintf(name, sizeof name, "v%d%.*s", next, i, "________________________________________");
        else
            snprintf(name, sizeof name, "v%d_%d", next, i - 40);
        assert_non_null(espl__graph_value(r.g, name));
    }
    for (int i = 0; i < 5; i++) assert_non_null(espl__graph_value(r.g, NULL));
    for (int i = 0; i < r.g->value_count; i++)
        for (int k = 0; k < i; k++)
            if (strcmp(r.g->values[i]->name, r.g->values[k]->name) == 0) fail_msg("two values are called %s", r.g->values[i]->name);
    espl_graph_destroy(&r.g);
    espl_context_destroy(&ctx);
}

static void refused(rig *r, const char *part) {
    espl_diag diag = {0};
    assert_int_not_equal(espl__graph_verify(r->g, &diag), ESPL_OK);
    if (!strstr(diag.message, part)) fail_msg("'%s' was expected in: %s", part, diag.message);
    espl_graph_destroy(&r->g);
}

static void broken_rules_are_named(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    rig r;
    espl__value *v[6];
    small_graph(&r, ctx, v);
    r.g->nodes[1]->inputs[1] = espl__graph_value(r.g, "lost");
    refused(&r, "'lost'");
    small_graph(&r, ctx, v);
    espl__value *three[3] = {v[0], v[1], v[0]};
    (void)node_of(&r, "Add", 3, three, 1);
    refused(&r, "3 inputs");
    small_graph(&r, ctx, v);
    r.g->nodes[1]->inputs[0] = NULL;
    refused(&r, "input 0");
    small_graph(&r, ctx, v);
    espl__node_set_output(r.g->nodes[2], 0, v[2]); /* two producers */
    refused(&r, "twice");
    small_graph(&r, ctx, v);
    r.g->nodes[0]->opset = 99;
    refused(&r, "opset 99");
    small_graph(&r, ctx, v);
    r.g->nodes[0]->inputs[0] = v[3]; /* a circle */
    refused(&r, "cycle");
    small_graph(&r, ctx, v);
    r.g->outputs[0] = espl__graph_value(r.g, "nothing");
    refused(&r, "'nothing'");
    assert_int_equal(espl_context_memory(ctx, NULL), empty_context(1));
    espl_context_destroy(&ctx);
}

/* Nodes in any order are sorted; those that stand right stay. */
static void nodes_are_sorted(void **state) {
    enum { N = 2000 };
    (void)state;
    espl_context *ctx = new_context(1);
    rig r;
    rig_begin(&r, ctx, 1);
    espl__value *x = input_of(&r, "x", ESPL_F32, SHAPE(2)), *v = x;
    for (int i = 0; i < N; i++) v = APPLY(&r, "Relu", v);
    IO(&r, x, v);
    for (int i = N - 1; i > 0; i--) { /* shuffle */
        int k = (int)pick(&r, 0, i);
        espl__node *t = r.g->nodes[i];
        r.g->nodes[i] = r.g->nodes[k];
        r.g->nodes[k] = t;
    }
    for (int i = 0; i < N; i++) r.g->nodes[i]->id = i;
    assert_int_equal(espl__graph_verify(r.g, NULL), ESPL_OK);
    for (int i = 0; i < N; i++) {
        const espl__value *in = r.g->nodes[i]->inputs[0];
        assert_int_equal(r.g->nodes[i]->id, i);
        if (in->producer) assert_int_equal(in->producer->id, i - 1);
    }
    espl_graph_destroy(&r.g);
    espl_context_destroy(&ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attributes_are_set_and_replaced),
        cmocka_unit_test(uses_and_readers),
        cmocka_unit_test(a_double_reader_is_two),
        cmocka_unit_test(dead_code_goes_and_ids_close_up),
        cmocka_unit_test(a_clone_is_apart),
        cmocka_unit_test(fresh_names_are_unique),
        cmocka_unit_test(broken_rules_are_named),
        cmocka_unit_test(nodes_are_sorted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
