/* Repairs: each against NumPy (tests/oracle/make_repair_fixtures.py), and each on a network that needs it. */
#define _GNU_SOURCE
#include "repair_rig.h"

/* --- before quantization --------------------------------------------------------------------------------------------- */

static void same_function(espl_context *ctx, const espl_graph *a, const espl_graph *b, espl_dataset *data) {
    double error = error_of(ctx, a, b, data, SAMPLES);
    if (!(error < 2e-6)) fail_msg("the f32 function changed by %g", error);
}

static void absorbs_high_biases(espl_context *ctx) {
    espl_graph *g = graph_of(ctx, "absorb"), *changed = copy_of(g);
    espl_dataset *data = data_of(ctx, FIXTURES "pixels.yaml");
    repair(ctx, changed, NULL, data, SAMPLES, "equalize absorb");
    same_constant(ctx, changed, "a", 2, "absorb.first", 2e-3);
    same_constant(ctx, changed, "b", 2, "absorb.second", 2e-3);
    same_function(ctx, changed, g, data);
    espl_graph_destroy(&changed);
    espl_graph_destroy(&g);
    espl_dataset_close(&data);
}

/* A network whose channels differ, with one scale for all weights of a layer: at most a fourth of the error. */
static void method_repair_EQUALIZE(void **state) {
    static const char *const layers[] = {"first", "deep", "narrow", "last"};
    espl_context *ctx = *state;
    espl_graph *g = graph_of(ctx, "network"), *changed = copy_of(g), *plain = copy_of(g);
    espl_dataset *data = data_of(ctx, FIXTURES "images.yaml");
    char name[64];
    repair(ctx, changed, NULL, data, SAMPLES, "equalize");
    for (size_t i = 0; i < ESPL_COUNT(layers); i++)
        for (int k = 1; k < 3; k++) {
            snprintf(name, sizeof name, "equalize.%s.%c", layers[i], " wb"[k]);
            same_constant(ctx, changed, layers[i], k, name, 0.01);
        }
    same_function(ctx, changed, g, data);
    quantize(ctx, plain, data, SAMPLES, s8_tensor);
    quantize(ctx, changed, data, SAMPLES, s8_tensor);
    better("equalize", error_of(ctx, plain, g, data, SAMPLES), error_of(ctx, changed, g, data, SAMPLES), 4);
    espl_graph_destroy(&plain);
    espl_graph_destroy(&changed);
    espl_graph_destroy(&g);
    espl_dataset_close(&data);
    absorbs_high_biases(ctx);
}

/* The normalisation's output is also the graph's and cannot be divided: a Mul comes before its readers. Without outliers
 * none does. */
static void puts_a_mul_where_it_must(espl_context *ctx, espl_dataset *data, bool outliers) {
    espl_graph *g = graph_of(ctx, "tokens"), *changed;
    espl__value *norm = NULL;
    for (int i = 0; i < g->node_count; i++)
        if (espl__node_is(g->nodes[i], "LayerNormalization")) {
            norm = g->nodes[i]->outputs[0];
            float *gamma = g->nodes[i]->inputs[1]->constant->data;
            for (int c = 0; !outliers && c < 16; c++) gamma[c] = 1;
        }
    assert_non_null(norm);
    espl__value *both[] = {g->outputs[0], norm};
    assert_true(espl__graph_set_io(g, g->inputs, g->input_count, both, 2));
    changed = copy_of(g);
    repair(ctx, changed, NULL, data, SAMPLES, "smooth");
    assert_int_equal(changed->node_count, g->node_count + outliers);
    same_function(ctx, changed, g, data);
    espl_graph_destroy(&changed);
    espl_graph_destroy(&g);
}

/* Two channels of the normalisation are 60 times the others: at most half of the error. */
static void method_repair_SMOOTH(void **state) {
    static const struct {
        const char *node, *array;
        int input;
    } want[] = {{"norm", "smooth.gamma", 1},     {"norm", "smooth.beta", 2},         {"key", "smooth.key.w", 1},
                {"query", "smooth.query.w", 1}, {"query_bias", "smooth.query.b", 1}, {"up", "smooth.up.w", 1}};
    espl_context *ctx = *state;
    espl_graph *g = graph_of(ctx, "tokens"), *changed = copy_of(g), *plain = copy_of(g);
    espl_dataset *data = data_of(ctx, FIXTURES "words.yaml");
    repair(ctx, changed, NULL, data, SAMPLES, "smooth 0.6");
    for (size_t i = 0; i < ESPL_COUNT(want); i++)
        same_constant(ctx, changed, want[i].node, want[i].input, want[i].array, 1e-5);
    assert_int_equal(changed->node_count, g->node_count); /* no Mul was needed */
    same_function(ctx, changed, g, data);
    quantize(ctx, plain, data, SAMPLES, s8);
    quantize(ctx, changed, data, SAMPLES, s8);
    better("smooth", error_of(ctx, plain, g, data, SAMPLES), error_of(ctx, changed, g, data, SAMPLES), 2);
    puts_a_mul_where_it_must(ctx, data, true);
    puts_a_mul_where_it_must(ctx, data, false);
    espl_graph_destroy(&plain);
    espl_graph_destroy(&changed);
    espl_graph_destroy(&g);
    espl_dataset_close(&data);
}

/* --- rounding -------------------------------------------------------------------------------------------------------- */

/* The fixture's layer. */
typedef struct matrix {
    espl_tensor w, scale, bias, x, y;
    float step[8 * 12];
    uint8_t pruned[8 * 12];
    int8_t codes[8 * 12];
    espl__rounding r;
} matrix;

static void read_matrix(espl_context *ctx, matrix *m) {
    m->w = array_of(ctx, "matrix.w");
    m->scale = array_of(ctx, "matrix.scale");
    m->bias = array_of(ctx, "matrix.bias");
    m->x = array_of(ctx, "matrix.x");
    m->y = array_of(ctx, "matrix.y");
    m->r = (espl__rounding){.outputs = m->w.shape.dim[0], .k = m->w.shape.dim[1], .groups = 1};
    assert_int_equal(m->r.outputs * m->r.k, ESPL_COUNT(m->step));
    for (int64_t i = 0; i < m->r.outputs * m->r.k; i++) {
        m->step[i] = ((float *)m->scale.data)[i / m->r.k];
        m->pruned[i] = ((float *)m->w.data)[i] == 0;
    }
    m->r.w = m->w.data;
    m->r.step = m->step;
    m->r.format = ESPL_FORMAT_S4;
    m->r.lo = -8;
    m->r.hi = 7;
    m->r.samples = m->x.shape.dim[0];
    m->r.x = m->x.data;
    m->r.y = m->y.data;
    m->r.bias = m->bias.data;
    m->r.least = -INFINITY;
    m->r.most = INFINITY;
    m->r.codes = m->codes;
}

static void free_matrix(espl_context *ctx, matrix *m) {
    espl_tensor *all[] = {&m->w, &m->scale, &m->bias, &m->x, &m->y};
    for (size_t i = 0; i < ESPL_COUNT(all); i++) espl_tensor_free(ctx, all[i]);
}

/* At most 1 / 1.4 of the error of nearest rounding; what the rounded inputs do to both is in it. */
static void gptq_is_better(const matrix *m) {
    int8_t nearest[ESPL_COUNT(m->codes)];
    double error[8], plain[8], sum = 0, plain_sum = 0;
    for (int64_t i = 0; i < (int64_t)ESPL_COUNT(nearest); i++) nearest[i] = (int8_t)espl__rounding_nearest(&m->r, i);
    espl__rounding_error(&m->r, m->codes, error);
    espl__rounding_error(&m->r, nearest, plain);
    for (int o = 0; o < 8; o++) {
        sum += error[o];
        plain_sum += plain[o];
    }
    better("gptq", plain_sum, sum, 1.4);
}

static void check_gptq(espl_context *ctx, matrix *m, const char *array, double dampening, bool order, bool pruned) {
    espl_tensor want = array_of(ctx, array);
    m->r.pruned = pruned ? m->pruned : NULL;
    assert_int_equal(espl__gptq(ctx, &m->r, dampening, order, NULL), ESPL_OK);
    for (int64_t i = 0; i < m->r.outputs * m->r.k; i++)
        if (m->codes[i] != ((int8_t *)want.data)[i])
            fail_msg("%s, code %d: %d, should be %d", array, (int)i, m->codes[i], ((int8_t *)want.data)[i]);
    espl_tensor_free(ctx, &want);
}

static void check_adaround(espl_context *ctx, matrix *m, const char *array, float least) {
    espl_tensor want = array_of(ctx, array);
    const float *best = want.data, *nearest = best + m->r.outputs;
    double error[8], sum = 0, plain = 0, limit = 0;
    m->r.pruned = NULL;
    m->r.least = least;
    assert_int_equal(espl__adaround(ctx, &m->r, 2000, NULL), ESPL_OK);
    espl__rounding_error(&m->r, m->codes, error);
    for (int64_t o = 0; o < m->r.outputs; o++) {
        assert_true(error[o] <= nearest[o] * 1.0001 && error[o] >= best[o] * 0.9999);
        sum += error[o] / best[o];
        plain += nearest[o] / best[o];
        limit += 1;
    }
    print_message("%s: %.3f times the least error of any rounding, nearest %.3f times\n", array, sum / limit,
                  plain / limit);
    /* The best of 4,096 roundings of every row, which 2,000 steps of a relaxation come near. */
    assert_true(sum <= 1.75 * limit && sum * 1.4 <= plain);
    m->r.pruned = m->pruned;
    assert_int_equal(espl__adaround(ctx, &m->r, 50, NULL), ESPL_OK);
    for (int64_t i = 0; i < m->r.outputs * m->r.k; i++) assert_true(!m->pruned[i] || m->codes[i] == 0);
    espl_tensor_free(ctx, &want);
}

/* resnet20 with weights of 3 bits, 64 images for the repair: so many more of 300 are right, in per cent. The
 * optimised build only: the others have seen the same code on smaller networks. */
static void on_resnet20(espl_context *ctx, const char *repairs, int margin) {
    enum { CALIBRATION = 64, IMAGES = 300 };
    if (SHARE > 1 || !models_folder()) return;
    espl_graph *g = real_model(ctx, "resnet20-cifar10"), *plain, *changed;
    espl_dataset *train = data_of(ctx, ESPL_SOURCE_DIR "/examples/data/cifar10-train.yaml");
    espl_dataset *test = data_of(ctx, ESPL_SOURCE_DIR "/examples/data/cifar10-test.yaml");
    const char *const none[] = {NULL}, *const one[] = {repairs, NULL};
    plain = repaired(ctx, g, train, CALIBRATION, s3, none);
    changed = repaired(ctx, g, train, CALIBRATION, s3, one);
    outputs a = run_all(ctx, plain, test, IMAGES, true), b = run_all(ctx, changed, test, IMAGES, true);
    print_message("%s: %d of %d without, %d with it\n", repairs, (int)a.right, IMAGES, (int)b.right);
    if (b.right < a.right + margin * IMAGES / 100)
        fail_msg("%s: %d of %d, %d without it", repairs, (int)b.right, IMAGES, (int)a.right);
    free(a.x);
    free(b.x);
    espl_graph_destroy(&plain);
    espl_graph_destroy(&changed);
    espl_graph_destroy(&g);
    espl_dataset_close(&train);
    espl_dataset_close(&test);
}

/* Weights of 3 bits: the error at most so much. */
static void on_network(espl_context *ctx, const char *text, double margin) {
    espl_graph *g = graph_of(ctx, "network");
    espl_dataset *data = data_of(ctx, FIXTURES "images.yaml");
    const char *const none[] = {NULL}, *const one[] = {text, NULL};
    espl_graph *plain = repaired(ctx, g, data, SAMPLES, s3, none), *changed = repaired(ctx, g, data, SAMPLES, s3, one);
    better(text, error_of(ctx, plain, g, data, SAMPLES), error_of(ctx, changed, g, data, SAMPLES), margin);
    espl_graph_destroy(&plain);
    espl_graph_destroy(&changed);
    espl_graph_destroy(&g);
    espl_dataset_close(&data);
}

static void method_repair_GPTQ(void **state) {
    espl_context *ctx = *state;
    matrix m = {0};
    read_matrix(ctx, &m);
    check_gptq(ctx, &m, "gptq.plain", 0.01, false, false);
    gptq_is_better(&m);
    check_gptq(ctx, &m, "gptq.order", 0.05, true, false);
    check_gptq(ctx, &m, "gptq.pruned", 0.01, false, true);
    free_matrix(ctx, &m);
    on_resnet20(ctx, "gptq", 8);
}

static void method_repair_ADAROUND(void **state) {
    espl_context *ctx = *state;
    matrix m = {0};
    read_matrix(ctx, &m);
    check_adaround(ctx, &m, "adaround.linear", -INFINITY);
    check_adaround(ctx, &m, "adaround.relu", 0);
    free_matrix(ctx, &m);
    on_network(ctx, "adaround", 1.5);
    on_resnet20(ctx, "adaround 300", 8);
}

/* --- after --------------------------------------------------------------------------------------------------------------- */

static void check_corrected(espl_context *ctx, const char *text, double margin) {
    static const char *const layers[] = {"first", "deep", "narrow", "last"};
    espl_graph *g = graph_of(ctx, "network"), *changed = copy_of(g), *plain;
    espl_dataset *data = data_of(ctx, FIXTURES "images.yaml");
    char name[64];
    quantize(ctx, changed, data, SAMPLES, s3_weights);
    plain = copy_of(changed);
    repair(ctx, changed, g, data, SAMPLES, text);
    for (int i = 0; i < g->node_count; i++)
        for (size_t l = 0; l < ESPL_COUNT(layers); l++) {
            if (strcmp(g->nodes[i]->name, layers[l]) != 0) continue;
            snprintf(name, sizeof name, "%s.%s.b", text, layers[l]);
            same_constant(ctx, changed, layers[l], 2, name, 1e-4);
            if (strcmp(text, "batchnorm") != 0) continue;
            snprintf(name, sizeof name, "%s.%s.factor", text, layers[l]);
            espl_tensor want = array_of(ctx, name);
            const espl__quant *a = &changed->nodes[i]->inputs[1]->quant, *b = &plain->nodes[i]->inputs[1]->quant;
            for (int64_t c = 0; c < a->count; c++)
                assert_float_equal(a->scale[c] / b->scale[c], ((float *)want.data)[c], 1e-3f);
            espl_tensor_free(ctx, &want);
        }
    better(text, error_of(ctx, plain, g, data, SAMPLES), error_of(ctx, changed, g, data, SAMPLES), margin);
    espl_graph_destroy(&plain);
    espl_graph_destroy(&changed);
    espl_graph_destroy(&g);
    espl_dataset_close(&data);
}

static void method_repair_BIAS(void **state) {
    check_corrected(*state, "bias", 1.5);
    on_network(*state, "bias", 1.5); /* in integers, where biases are s32 */
    on_resnet20(*state, "bias", 4);
}

/* Half of the weights are 0, the others f32. */
static void after_pruning(espl_context *ctx) {
    espl_graph *g = graph_of(ctx, "network"), *plain = copy_of(g), *changed;
    espl_dataset *data = data_of(ctx, FIXTURES "images.yaml");
    decision *cut = calloc((size_t)g->node_count, sizeof *cut);
    for (int i = 0; i < g->node_count; i++)
        cut[i].pattern = (espl_sparsity){.pattern = ESPL_PATTERN_UNSTRUCTURED, .share = 0.5f};
    assert_int_equal(espl__prune_apply(plain, cut, NULL), ESPL_OK);
    changed = copy_of(plain);
    repair(ctx, changed, g, data, SAMPLES, "batchnorm");
    better("batchnorm after pruning", error_of(ctx, plain, g, data, SAMPLES), error_of(ctx, changed, g, data, SAMPLES), 3);
    espl_graph_destroy(&plain);
    espl_graph_destroy(&changed);
    espl_graph_destroy(&g);
    espl_dataset_close(&data);
    free(cut);
}

static void method_repair_BATCHNORM(void **state) {
    after_pruning(*state);
    check_corrected(*state, "batchnorm", 1.5);
    on_network(*state, "batchnorm", 1.5);
    on_resnet20(*state, "batchnorm", 4);
}

/* --- the list ------------------------------------------------------------------------------------------------------------ */

static void texts_are_parsed(void **state) {
    static const struct {
        const char *text, *again;
    } good[] = {{"smooth", "smooth"}, {"smooth 0.5", "smooth"}, {"smooth 0.75", "smooth 0.75"},
                {"equalize absorb", "equalize absorb"}, {"gptq 0.02 order", "gptq 0.02 order"},
                {"gptq order", "gptq order"}, {"adaround 500", "adaround 500"}, {" bias ", "bias"}};
    static const char *const bad[] = {"", "polish", "smooth 2", "smooth -1", "smooth 0.5 0.5", "equalize 3", "bias 0",
                                      "bias 1.5", "gptq order order", "gptq order 0.1", "smooth nan", "adaround 1e400",
                                      "equalizeequalizeequalizeequalizeequalizeequalizeequalize"};
    espl__repairs list = {0};
    char text[ESPL__REPAIR_TEXT];
    (void)state;
    for (size_t i = 0; i < ESPL_COUNT(good); i++) {
        espl__repair r = repair_of(good[i].text);
        assert_string_equal(espl__repair_text(&r, text, sizeof text), good[i].again);
    }
    for (size_t i = 0; i < ESPL_COUNT(bad); i++) {
        espl__repair r;
        if (espl__repair_parse(bad[i], &r)) fail_msg("'%s' was taken", bad[i]);
    }
    assert_int_equal(espl__repairs_parse("bias, gptq, smooth 0.3,equalize, smooth 0.4", &list, NULL), ESPL_OK);
    assert_int_equal(list.count, 4); /* by stages, one of a kind */
    assert_int_equal(list.list[0].kind, ESPL__REPAIR_EQUALIZE);
    assert_int_equal(list.list[1].kind, ESPL__REPAIR_SMOOTH);
    assert_float_equal(list.list[1].number, 0.4, 1e-12);
    assert_int_equal(list.list[2].kind, ESPL__REPAIR_GPTQ);
    assert_int_equal(list.list[3].kind, ESPL__REPAIR_BIAS);
    espl_diag diag = {0};
    assert_int_equal(espl__repairs_parse("bias, polish", &list, &diag), ESPL_INVALID);
    assert_non_null(strstr(diag.message, "'polish'"));
    for (int k = 0, last = 0; k < ESPL__REPAIR_COUNT; k++) { /* the list is in the order of the stages */
        int stage = (int)espl__repair_stage_of((espl__repair_kind)k);
        assert_true(stage >= last);
        last = stage;
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define X(NAME, name, parameters, stage, text) cmocka_unit_test(method_repair_##NAME),
        ESPL__REPAIR_LIST(X)
#undef X
        cmocka_unit_test(texts_are_parsed),
    };
    return cmocka_run_group_tests(tests, open_context, close_context);
}
