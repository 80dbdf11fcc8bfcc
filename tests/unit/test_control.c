/* Control flow and results as long as data say, beyond what the vectors of tests/conformance/control compare:
 * hostile files, weights of bodies, late parts in sessions and in files. */
#include "graph_build.h"

#include "espalier/compress.h"
#include "espalier/model.h"
#include "espalier/onnx.h"

#define CONTROL ESPL_SOURCE_DIR "/tests/conformance/control"

static espl_graph *read_model(espl_context *ctx, const char *name) {
    char path[512];
    espl_graph *g = NULL;
    espl_diag diag = {0};
    snprintf(path, sizeof path, CONTROL "/%s/model.onnx", name);
    if (espl_graph_read(ctx, path, &g, &diag) != ESPL_OK) fail_msg("%s", diag.message);
    return g;
}

static int count_nodes(const espl_graph *g, const char *op) {
    int count = 0;
    for (int i = 0; i < g->node_count; i++) count += espl__node_is(g->nodes[i], op);
    return count;
}

/* --- what is refused --------------------------------------------------------------------------------- */

static void hostile_subgraphs_are_refused(void **state) {
    static const char *const files[][2] = {
        {"deep", "more than 16 deep"},
        {"name", "reads 'nowhere', which nothing produces"},
        {"cycle", "the graph has a cycle"},
        {"outputs", "the graph has no outputs"},
        {"twice", "there are two values of the name 'b'"},
        {"inputs", "its subgraph 'else_branch' has inputs"},
        {"missing", "the subgraph 'else_branch' is missing"},
        {"loop_inputs", "its subgraph takes 2 inputs and the node gives 3"},
        {"subgraph_of_relu", "takes no subgraph 'body'"},
        {"bytes", "subgraph 'then_branch': is not an ONNX file, or it is cut off or damaged"},
    };
    espl_context *ctx = new_context(1);
    const uint64_t empty = espl_context_memory(ctx, NULL);
    (void)state;
    for (size_t i = 0; i < ESPL_COUNT(files); i++) {
        espl_graph *g = NULL;
        espl_diag diag = {0};
        char path[512];
        snprintf(path, sizeof path, "%s_bad/%s.onnx", CONTROL, files[i][0]);
        if (espl_graph_read(ctx, path, &g, &diag) == ESPL_OK) fail_msg("%s was read", files[i][0]);
        assert_null(g);
        if (!strstr(diag.message, files[i][1])) fail_msg("%s: %s", files[i][0], diag.message);
        assert_int_equal(espl_context_memory(ctx, NULL), empty);
    }
    espl_context_destroy(&ctx);
}

/* --- flat graphs ------------------------------------------------------------------------------------- */

static void bodies_share_their_weights(void **state) {
    espl_context *ctx = new_context(1);
    espl_graph *g = read_model(ctx, "loop_fixed");
    const espl__value *weight = NULL;
    (void)state;
    assert_int_equal(count_nodes(g, "Loop"), 0);
    assert_int_equal(count_nodes(g, "Gemm"), 3);
    for (int i = 0; i < g->node_count; i++) {
        const espl__node *n = g->nodes[i];
        char name[32];
        if (!espl__node_is(n, "Gemm")) continue;
        assert_true(!weight || weight == n->inputs[1]);
        snprintf(name, sizeof name, "loop/%d/step", weight ? n->name[5] - '0' : 0);
        assert_string_equal(n->name, name);
        weight = n->inputs[1];
    }
    espl_graph_destroy(&g);
    espl_context_destroy(&ctx);
}

static void a_branch_that_is_not_taken_goes(void **state) {
    espl_context *ctx = new_context(1);
    espl_graph *g = read_model(ctx, "if_shape"), *both = read_model(ctx, "if_data");
    (void)state;
    assert_int_equal(count_nodes(g, "Gemm"), 1);
    assert_int_equal(count_nodes(g, "Where"), 0);
    assert_int_equal(count_nodes(both, "Gemm"), 2);
    assert_int_equal(count_nodes(both, "Where"), 1);
    espl_graph_destroy(&both);
    espl_graph_destroy(&g);
    espl_context_destroy(&ctx);
}

/* 1 + 0 + 1 + 2, and the states on the way. */
static void count_to_three(espl_context *ctx, const espl_graph *g) {
    static const float want[3][3] = {{1, 2, 3}, {2, 3, 4}, {4, 5, 6}};
    int64_t n = 3;
    float x[3] = {1, 2, 3}, y[3];
    espl_session *s = session_of(ctx, g);
    espl_tensor in[2] = {{ESPL_S64, {0}, &n}, {ESPL_F32, SHAPE(3), x}}, out[2] = {{0}};
    espl_diag diag = {0};
    if (espl_session_run(s, in, out, &diag) != ESPL_OK) fail_msg("%s", diag.message);
    assert_true(espl_shape_equal(&out[1].shape, &SHAPE(3, 3)));
    memcpy(y, out[0].data, sizeof y);
    assert_memory_equal(y, want[2], sizeof y);
    assert_memory_equal(out[1].data, want, sizeof want);
    espl_session_destroy(&s);
}

/* A Loop whose runs an input counts stays one, in files too. */
static void loops_that_count_to_an_input_stay(void **state) {
    static const char *const files[] = {"control_loop.espl", "control_loop.onnx"};
    espl_context *ctx = new_context(1);
    espl_graph *g = read_model(ctx, "loop_counts"), *again = NULL;
    espl_diag diag = {0};
    (void)state;
    assert_int_equal(count_nodes(g, "Loop"), 1);
    count_to_three(ctx, g);
    if (espl_model_write(ctx, g, files[0], &diag) != ESPL_OK) fail_msg("%s", diag.message);
    if (espl_onnx_write(ctx, g, NULL, files[1], &diag) != ESPL_OK) fail_msg("%s", diag.message);
    for (int i = 0; i < 2; i++) {
        if (espl_graph_read(ctx, files[i], &again, &diag) != ESPL_OK) fail_msg("%s", diag.message);
        assert_int_equal(count_nodes(again, "Loop"), 1);
        count_to_three(ctx, again);
        espl_graph_destroy(&again);
        remove(files[i]);
    }
    espl_graph_destroy(&g);
    espl_context_destroy(&ctx);
}

/* --- late parts -------------------------------------------------------------------------------------- */

typedef struct answers {
    espl_tensor chosen, boxes, where;
} answers;

static espl_tensor copy_of(espl_context *ctx, const espl_tensor *t) {
    espl_tensor copy = {0};
    assert_int_equal(espl_tensor_alloc(ctx, t->dtype, &t->shape, &copy, NULL), ESPL_OK);
    memcpy(copy.data, t->data, bytes_of(t));
    return copy;
}

static answers detect(espl_context *ctx, espl_session *s, float scale) {
    float x[8];
    espl_tensor in = {ESPL_F32, SHAPE(1, 8), x}, out[3] = {{0}};
    espl_diag diag = {0};
    for (int i = 0; i < 8; i++) x[i] = scale * (float)(i % 3 - 1);
    assert_int_equal(espl_session_output_count(s), 3);
    if (espl_session_run(s, &in, out, &diag) != ESPL_OK) fail_msg("%s", diag.message);
    return (answers){copy_of(ctx, &out[0]), copy_of(ctx, &out[1]), copy_of(ctx, &out[2])};
}

static void same(const espl_tensor *a, const espl_tensor *b) {
    assert_true(espl_shape_equal(&a->shape, &b->shape));
    assert_int_equal(a->dtype, b->dtype);
    assert_memory_equal(a->data, b->data, bytes_of(a));
}

static void free_answers(espl_context *ctx, answers *a) {
    espl_tensor_free(ctx, &a->chosen);
    espl_tensor_free(ctx, &a->boxes);
    espl_tensor_free(ctx, &a->where);
}

static void a_late_part_runs_after_the_plan(void **state) {
    espl_context *ctx = new_context(2);
    espl_graph *g = read_model(ctx, "detect");
    espl_session *s = session_of(ctx, g);
    (void)state;
    const espl_tensor *info = espl_session_output_info(s, 0);
    assert_int_equal(info->shape.rank, 2);
    assert_int_equal(info->shape.dim[0], ESPL_DIM_UNKNOWN);
    assert_int_equal(info->shape.dim[1], 3);
    bool planned = false;
    for (int i = 0; i < espl_session_layer_count(s); i++) {
        espl_layer l = espl_session_layer(s, i);
        planned |= strcmp(l.op, "Gemm") == 0 && strcmp(l.kernel, "reference") != 0;
        assert_string_not_equal(l.op, "NonMaxSuppression");
    }
    assert_true(planned);
    answers a = detect(ctx, s, 0.2f), b = detect(ctx, s, -3), c = detect(ctx, s, 0.2f);
    assert_true(a.where.shape.dim[1] != b.where.shape.dim[1]); /* the shape is that of the run */
    same(&a.chosen, &c.chosen);
    same(&a.boxes, &c.boxes);
    uint64_t before = espl_context_memory(ctx, NULL);
    free_answers(ctx, &b);
    b = detect(ctx, s, -3);
    assert_true(espl_context_memory(ctx, NULL) <= before + 65536); /* nothing piles up */
    free_answers(ctx, &a);
    free_answers(ctx, &b);
    free_answers(ctx, &c);
    espl_session_destroy(&s);
    espl_graph_destroy(&g);
    espl_context_destroy(&ctx);
}

/* .espl and ONNX files keep late nodes. */
static void files_keep_late_nodes(void **state) {
    espl_context *ctx = new_context(1);
    espl_graph *g = read_model(ctx, "detect"), *again[2] = {NULL, NULL};
    espl_diag diag = {0};
    (void)state;
    if (espl_model_write(ctx, g, "control_detect.espl", &diag) != ESPL_OK) fail_msg("%s", diag.message);
    if (espl_onnx_write(ctx, g, NULL, "control_detect.onnx", &diag) != ESPL_OK) fail_msg("%s", diag.message);
    espl_session *s = session_of(ctx, g);
    answers want = detect(ctx, s, 0.5f);
    espl_session_destroy(&s);
    for (int i = 0; i < 2; i++) {
        const char *file = i ? "control_detect.onnx" : "control_detect.espl";
        if (espl_graph_read(ctx, file, &again[i], &diag) != ESPL_OK) fail_msg("%s", diag.message);
        s = session_of(ctx, again[i]);
        answers got = detect(ctx, s, 0.5f);
        same(&got.chosen, &want.chosen);
        same(&got.boxes, &want.boxes);
        same(&got.where, &want.where);
        free_answers(ctx, &got);
        espl_session_destroy(&s);
        espl_graph_destroy(&again[i]);
        remove(file);
    }
    free_answers(ctx, &want);
    espl_graph_destroy(&g);
    espl_context_destroy(&ctx);
}

/* What compression looks at: the static part, whose outputs are what the late one reads. */
static void sessions_without_late_parts(void **state) {
    espl_context *ctx = new_context(1);
    espl_graph *g = read_model(ctx, "detect");
    espl_session_options options = {.without_late = true};
    espl_session *s = NULL;
    (void)state;
    assert_int_equal(espl_session_create(ctx, g, &options, &s, NULL), ESPL_OK);
    for (int i = 0; i < espl_session_output_count(s); i++)
        assert_true(espl_shape_count(&espl_session_output_info(s, i)->shape) > 0);
    run_io x = io_of(s, 1);
    run_session(s, &x);
    uint64_t before = espl_context_allocations(ctx);
    run_session(s, &x);
    assert_int_equal(espl_context_allocations(ctx), before);
    io_free(&x);
    espl_session_destroy(&s);
    espl_graph_destroy(&g);
    espl_context_destroy(&ctx);
}

/* A value of the planned part may be an output of the network more than once, beside late ones. */
static void one_value_is_two_outputs(void **state) {
    espl_context *ctx = new_context(1);
    espl_graph *g = read_model(ctx, "detect");
    espl__value *planned = NULL;
    (void)state;
    for (int i = 0; i < g->node_count; i++)
        if (espl__node_is(g->nodes[i], "Gemm")) planned = g->nodes[i]->outputs[0];
    assert_non_null(planned);
    espl__value *outputs[3] = {planned, g->outputs[0], planned};
    assert_true(espl__graph_set_io(g, g->inputs, 1, outputs, 3));
    espl_session *s = session_of(ctx, g);
    float x[8], y[2][80];
    espl_tensor in = {ESPL_F32, SHAPE(1, 8), x};
    espl_tensor out[3] = {{ESPL_F32, SHAPE(1, 80), y[0]}, {0}, {ESPL_F32, SHAPE(1, 80), y[1]}};
    for (int i = 0; i < 8; i++) x[i] = (float)i;
    for (int i = 0; i < 80; i++) y[0][i] = y[1][i] = -1;
    assert_int_equal(espl_session_run(s, &in, out, NULL), ESPL_OK);
    assert_memory_equal(y[0], y[1], sizeof y[0]);
    assert_true(y[0][0] != -1);
    espl_session_destroy(&s);
    espl_graph_destroy(&g);
    espl_context_destroy(&ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hostile_subgraphs_are_refused),
        cmocka_unit_test(bodies_share_their_weights),
        cmocka_unit_test(a_branch_that_is_not_taken_goes),
        cmocka_unit_test(loops_that_count_to_an_input_stay),
        cmocka_unit_test(a_late_part_runs_after_the_plan),
        cmocka_unit_test(files_keep_late_nodes),
        cmocka_unit_test(sessions_without_late_parts),
        cmocka_unit_test(one_value_is_two_outputs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
