/* Repairs: each against NumPy (tests/oracle/make_repair_fixtures.py), and each on a network that needs it. */
#define _GNU_SOURCE
#include "real_models.h"

#include "compress/repair/linear.h"
#include "compress/repair/rounding.h"

#define FIXTURES ESPL_SOURCE_DIR "/tests/fixtures/repair/"
enum { SAMPLES = 16 };

static espl_tensor array_of(espl_context *ctx, const char *name) {
    char path[4096];
    espl_tensor t;
    espl_diag diag = {0};
    snprintf(path, sizeof path, FIXTURES "%s.npy", name);
    if (espl_npy_read(ctx, path, &t, &diag) != ESPL_OK) fail_msg("%s", diag.message);
    return t;
}

static espl_graph *graph_of(espl_context *ctx, const char *name) {
    char path[4096];
    espl_graph *g = NULL;
    espl_diag diag = {0};
    snprintf(path, sizeof path, FIXTURES "%s.onnx", name);
    if (espl_graph_read(ctx, path, &g, &diag) != ESPL_OK) fail_msg("%s", diag.message);
    return g;
}

static espl_dataset *data_of(espl_context *ctx, const char *path) {
    espl_dataset *d = NULL;
    espl_diag diag = {0};
    if (espl_dataset_open(ctx, path, &d, &diag) != ESPL_OK) fail_msg("%s", diag.message);
    return d;
}

static espl_graph *copy_of(const espl_graph *g) {
    espl_graph *copy = NULL;
    assert_int_equal(espl__graph_clone(g, &copy, NULL), ESPL_OK);
    return copy;
}

static espl__repair repair_of(const char *text) {
    espl__repair r;
    assert_true(espl__repair_parse(text, &r));
    return r;
}

/* Repairs g in place. */
static void repair(espl_context *ctx, espl_graph *g, const espl_graph *reference, espl_dataset *data, int64_t samples,
                   const char *text) {
    espl_diag diag = {0};
    espl__repair r = repair_of(text);
    espl__repair_task t = {.ctx = ctx, .graph = g, .reference = reference, .data = data, .step = 1, .count = samples};
    if (espl__repair_apply(&t, &r, &diag) != ESPL_OK) fail_msg("%s: %s", text, diag.message);
    assert_int_equal(espl__graph_verify(g, &diag), ESPL_OK);
}

/* Constant `input` of the node of that name is the array, up to `tolerance` of its largest element. */
static void same_constant(espl_context *ctx, espl_graph *g, const char *node, int input, const char *array,
                          double tolerance) {
    espl_tensor want = array_of(ctx, array);
    for (int i = 0; i < g->node_count; i++) {
        if (strcmp(g->nodes[i]->name, node) != 0) continue;
        const espl_tensor *have = espl__constant_f32(g, g->nodes[i]->inputs[input]);
        const float *a = have->data, *b = want.data;
        float most = 0;
        assert_int_equal(espl_shape_count(&have->shape), espl_shape_count(&want.shape));
        for (int64_t k = 0; k < espl_shape_count(&want.shape); k++) most = fmaxf(most, fabsf(b[k]));
        for (int64_t k = 0; k < espl_shape_count(&want.shape); k++)
            if (!(fabs((double)a[k] - b[k]) <= tolerance * most))
                fail_msg("%s, element %d: %g, should be %g", array, (int)k, (double)a[k], (double)b[k]);
        espl_tensor_free(ctx, &want);
        return;
    }
    fail_msg("no node '%s'", node);
}

/* --- errors ---------------------------------------------------------------------------------------------------------- */

typedef struct outputs {
    float *x;
    int64_t count, labels;
    espl_dataset *data;
    int64_t right;
} outputs;

static espl_status keep(void *user, int64_t index, const espl_tensor *in, const espl_tensor *out, espl_diag *diag) {
    outputs *o = user;
    int64_t n = espl_shape_count(&out->shape), best = 0, label = -1;
    (void)in;
    o->x = realloc(o->x, sizeof *o->x * (size_t)(o->count + n));
    memcpy(o->x + o->count, out->data, sizeof *o->x * (size_t)n);
    o->count += n;
    for (int64_t i = 0; i < n; i++)
        if (((float *)out->data)[i] > ((float *)out->data)[best]) best = i;
    espl_status status = o->labels ? espl_dataset_label(o->data, index, &label, diag) : ESPL_OK;
    o->right += best == label;
    return status;
}

static outputs run_all(espl_context *ctx, const espl_graph *g, espl_dataset *data, int64_t samples, bool labels) {
    outputs o = {.labels = labels, .data = data};
    espl_session *s = NULL;
    espl_diag diag = {0};
    if (espl_session_create(ctx, g, NULL, &s, &diag) != ESPL_OK) fail_msg("%s", diag.message);
    assert_int_equal(espl__each_sample(ctx, s, data, 1, samples, keep, &o, &diag), ESPL_OK);
    espl_session_destroy(&s);
    return o;
}

/* |a - b| / |b| of the first output over all samples. */
static double error_of(espl_context *ctx, const espl_graph *a, const espl_graph *b, espl_dataset *data, int64_t samples) {
    outputs x = run_all(ctx, a, data, samples, false), y = run_all(ctx, b, data, samples, false);
    double difference = 0, size = 0;
    assert_int_equal(x.count, y.count);
    for (int64_t i = 0; i < x.count; i++) {
        difference += ((double)x.x[i] - y.x[i]) * ((double)x.x[i] - y.x[i]);
        size += (double)y.x[i] * y.x[i];
    }
    free(x.x);
    free(y.x);
    return sqrt(difference / size);
}

/* Quantizes g in place. */
static void quantize(espl_context *ctx, espl_graph *g, espl_dataset *data, int64_t samples, decision how) {
    range *ranges = calloc((size_t)g->value_count + 1, sizeof *ranges);
    decision *decisions = calloc((size_t)g->node_count + 1, sizeof *decisions);
    int values = g->value_count;
    for (int i = 0; i < g->node_count; i++) decisions[i] = how;
    assert_int_equal(espl__calibrate(ctx, g, NULL, data, 0, 1, samples, NULL, ranges, NULL, NULL, NULL), ESPL_OK);
    assert_int_equal(espl__ptq_apply(g, ranges, decisions, ESPL_FLAVOUR_PORTABLE, NULL), ESPL_OK);
    for (int i = 0; i < values; i++) espl__range_free(ctx, &ranges[i]);
    free(ranges);
    free(decisions);
}

static const decision s8_tensor = {.weights = ESPL_FORMAT_S8, .integer = true, .per_tensor = true};
static const decision s8 = {.weights = ESPL_FORMAT_S8, .integer = true};
static const decision s3 = {.weights = ESPL_FORMAT_S3, .integer = true};
static const decision s3_weights = {.weights = ESPL_FORMAT_S3};

/* `before` and `after` are errors: the repair must divide it by `margin` at least. */
static void better(const char *what, double before, double after, double margin) {
    print_message("%s: error %.4f without, %.4f with it\n", what, before, after);
    if (!(after * margin <= before)) fail_msg("%s: %g is not %g times better than %g", what, after, margin, before);
}

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

/* A quantized copy of a network with these repairs, in this order; NULL ends them. */
static espl_graph *repaired(espl_context *ctx, const espl_graph *g, espl_dataset *data, int64_t samples, decision how,
                            const char *const *repairs) {
    espl_graph *q = copy_of(g);
    quantize(ctx, q, data, samples, how);
    for (; *repairs; repairs++) repair(ctx, q, g, data, samples, *repairs);
    return q;
}

/* resnet20 with weights of 3 bits, 64 images for the repair: so many more of 300 are right, in per cent. */
static void on_resnet20(espl_context *ctx, const char *repairs, int margin) {
    enum { CALIBRATION = 64, IMAGES = 300 };
    if (!models_folder()) return;
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

/* Groups of inputs with scales of their own, and zeros of a pattern: codes fit the one, and stay 0 in the other. */
static void groups_and_zeros_are_kept(void **state) {
    static const char *const kinds[] = {"gptq", "gptq order", "adaround"};
    espl_context *ctx = *state;
    espl_dataset *data = data_of(ctx, FIXTURES "words.yaml");
    const decision how = {.weights = ESPL_FORMAT_S3, .group = 8};
    for (int pruned = 0; pruned < 2; pruned++)
        for (size_t k = 0; k < ESPL_COUNT(kinds); k++) {
            espl_graph *g = graph_of(ctx, "tokens"), *plain, *changed;
            decision *cut = calloc((size_t)g->node_count, sizeof *cut);
            for (int i = 0; i < g->node_count; i++) cut[i].pattern = (espl_sparsity){.pattern = ESPL_PATTERN_NM, .n = 2, .m = 4};
            if (pruned) assert_int_equal(espl__prune_apply(g, cut, NULL), ESPL_OK);
            plain = repaired(ctx, g, data, SAMPLES, how, (const char *const[]){NULL});
            changed = repaired(ctx, g, data, SAMPLES, how, (const char *const[]){kinds[k], NULL});
            int layers = 0, zeros = 0;
            for (int i = 0; i < g->node_count; i++) {
                espl__linear l;
                if (!espl__linear_of(changed, changed->nodes[i], &l)) continue;
                const float *w = g->nodes[i]->inputs[1]->constant->data;
                const int8_t *codes = l.w->constant->data;
                assert_int_equal(l.w->quant.group, 8);
                assert_memory_equal(l.w->quant.scale, plain->nodes[i]->inputs[1]->quant.scale,
                                    sizeof(float) * (size_t)l.w->quant.count);
                for (int64_t e = 0; pruned && e < espl_shape_count(&l.w->shape); e++) {
                    zeros += w[e] == 0;
                    assert_true(w[e] != 0 || codes[e] == 0);
                }
                layers++;
            }
            assert_int_equal(layers, 3);
            assert_true(!pruned || zeros >= 3 * 16 * 16 / 2);
            better(kinds[k], error_of(ctx, plain, g, data, SAMPLES), error_of(ctx, changed, g, data, SAMPLES), 1);
            espl_graph_destroy(&plain);
            espl_graph_destroy(&changed);
            espl_graph_destroy(&g);
            free(cut);
        }
    espl_dataset_close(&data);
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

static void method_repair_BATCHNORM(void **state) {
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

/* --- what may go wrong ----------------------------------------------------------------------------------------------------- */

/* Weights of the k-th layer become something extreme. */
static void spoil(espl_graph *g, int kind) {
    for (int i = 0, layer = 0; i < g->node_count; i++) {
        espl__linear l;
        if (!espl__linear_of(g, g->nodes[i], &l)) continue;
        float *w = espl__linear_own_weights(g, &l);
        assert_non_null(w);
        int64_t count = espl_shape_count(&l.w->shape), row = espl__linear_k(&l);
        for (int64_t k = 0; k < (kind == 5 ? row : count); k++) /* 5: an empty channel */
            if (kind == 0 || kind == 5)
                w[k] = 0;
            else if (kind == 1)
                w[k] = 0.25f;
            else if (kind == 4)
                w[k] = 1e-40f * (float)(k % 5);
        if (kind == 2 && layer == 1) w[3] = 1e30f;
        if (kind == 3 && layer == 1) w[3] = NAN;
        if (kind == 6 && layer == 1) w[3] = INFINITY;
        layer++;
    }
}

/* Scales are positive numbers, codes are in their range, and zeros of f32 constants that were numbers are. */
static void check_valid(const espl_graph *g, bool finite_weights) {
    for (int i = 0; i < g->value_count; i++) {
        const espl__value *v = g->values[i];
        int32_t lo, hi;
        for (int64_t c = 0; espl__is_quantized(v) && c < v->quant.count; c++)
            if (!(v->quant.scale[c] > 0 && isfinite(v->quant.scale[c]))) fail_msg("scale %g", (double)v->quant.scale[c]);
        if (!v->constant || v->dtype != ESPL_F32) continue;
        int64_t n = espl_shape_count(&v->shape);
        if (v->constant->dtype == ESPL_S8 && espl__is_quantized(v)) {
            espl__format_range(v->quant.format, &lo, &hi);
            for (int64_t k = 0; k < n; k++)
                assert_in_range(((int8_t *)v->constant->data)[k] + 128, lo + 128, hi + 128);
        }
        for (int64_t k = 0; finite_weights && v->constant->dtype == ESPL_F32 && k < n; k++)
            if (!isfinite(((float *)v->constant->data)[k]) && v->uses) fail_msg("a constant is no number");
    }
}

static void extremes_are_survived(void **state) {
    static const char *const kinds[] = {"equalize absorb", "smooth", "adaround 20", "gptq", "batchnorm", "bias"};
    espl_context *ctx = *state;
    assert_int_equal(ESPL_COUNT(kinds), ESPL__REPAIR_COUNT);
    for (int network = 0; network < 2; network++)
        for (int kind = 0; kind < 7; kind++)
            for (int k = 0; k < ESPL__REPAIR_COUNT; k++) {
                espl_graph *g = graph_of(ctx, network ? "tokens" : "network"), *q;
                espl_dataset *data = data_of(ctx, network ? FIXTURES "words.yaml" : FIXTURES "images.yaml");
                spoil(g, kind);
                q = copy_of(g);
                bool before = espl__repair_stage_of((espl__repair_kind)k) == ESPL__REPAIR_BEFORE;
                if (!before) quantize(ctx, q, data, 1, kind % 2 ? s8 : s3);
                repair(ctx, q, before ? NULL : g, kind % 3 ? data : NULL, 1, kinds[k]); /* one sample, perhaps drawn */
                espl__graph_count_uses(q);
                check_valid(q, kind != 3 && kind != 6);
                espl_graph_destroy(&q);
                espl_graph_destroy(&g);
                espl_dataset_close(&data);
            }
}

/* The same bytes with one thread of plain C and with three on what the machine has. */
static void threads_and_instruction_sets_change_nothing(void **state) {
    static const char *const kinds[] = {"adaround 100", "gptq", "batchnorm", NULL};
    (void)state;
    espl_graph *done[2];
    espl_context *ctx[2];
    const espl__cpu own = espl__cpu_level();
    for (int i = 0; i < 2; i++) {
        espl__cpu_use(i ? own : ESPL__CPU_REF);
        ctx[i] = new_context(i ? 3 : 1);
        espl_graph *g = graph_of(ctx[i], "network");
        espl_dataset *data = data_of(ctx[i], FIXTURES "images.yaml");
        done[i] = repaired(ctx[i], g, data, SAMPLES, s3, kinds);
        espl_graph_destroy(&g);
        espl_dataset_close(&data);
    }
    assert_int_equal(done[0]->value_count, done[1]->value_count);
    for (int i = 0; i < done[0]->value_count; i++) {
        const espl__value *a = done[0]->values[i], *b = done[1]->values[i];
        if (a->constant)
            assert_memory_equal(a->constant->data, b->constant->data, espl__tensor_bytes(a->constant));
        if (espl__is_quantized(a))
            assert_memory_equal(a->quant.scale, b->quant.scale, sizeof(float) * (size_t)a->quant.count);
    }
    for (int i = 0; i < 2; i++) {
        espl_graph_destroy(&done[i]);
        espl_context_destroy(&ctx[i]);
    }
}

static int64_t allocations_left;

static void *some_memory(void *user, size_t bytes) {
    (void)user;
    return allocations_left-- > 0 ? aligned_alloc(64, (bytes + 63) / 64 * 64) : NULL;
}

static void give_back(void *user, void *memory) {
    (void)user;
    free(memory);
}

/* Whichever allocation fails, the repair says so and nothing is lost. */
static void memory_may_run_out(void **state) {
    static const char *const kinds[] = {"equalize absorb", "smooth", "adaround 2", "gptq", "batchnorm", "bias"};
    espl_config config = {.threads = 1, .alloc = some_memory, .free = give_back};
    espl_context *ctx = NULL;
    (void)state;
    allocations_left = INT64_MAX;
    assert_int_equal(espl_context_create(&config, &ctx, NULL), ESPL_OK);
    for (int k = 0; k < ESPL__REPAIR_COUNT; k++) {
        espl__repair r = repair_of(kinds[k]);
        espl_graph *g = graph_of(ctx, k == ESPL__REPAIR_SMOOTH ? "tokens" : "network"), *q = copy_of(g);
        espl_dataset *data = data_of(ctx, k == ESPL__REPAIR_SMOOTH ? FIXTURES "words.yaml" : FIXTURES "images.yaml");
        bool before = espl__repair_stage_of(r.kind) == ESPL__REPAIR_BEFORE, done = false;
        int failed = 0;
        if (!before) quantize(ctx, q, data, 2, s3);
        for (int64_t n = 0; !done; n += 1 + n / 16) {
            espl_graph *copy = copy_of(q);
            uint64_t held = espl_context_memory(ctx, NULL);
            espl__repair_task t = {ctx, copy, before ? NULL : g, NULL, NULL, data, 1, 2, NULL, NULL};
            espl_diag diag = {0};
            allocations_left = n;
            espl_status status = espl__repair_apply(&t, &r, &diag);
            done = allocations_left >= 0;
            allocations_left = INT64_MAX;
            if (status != (done ? ESPL_OK : ESPL_NOMEM)) fail_msg("%s, %d: %s", kinds[k], (int)n, diag.message);
            failed += !done;
            assert_true(espl_context_memory(ctx, NULL) - held < 1 << 20); /* the graph's own arena may have grown */
            espl_graph_destroy(&copy);
        }
        assert_true(failed > 20);
        espl_graph_destroy(&q);
        espl_graph_destroy(&g);
        espl_dataset_close(&data);
    }
    assert_int_equal(espl_context_memory(ctx, NULL), empty_context(1));
    espl_context_destroy(&ctx);
}

static int open_context(void **state) {
    *state = new_context(2);
    return 0;
}
static int close_context(void **state) {
    espl_context_destroy((espl_context **)state);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define X(NAME, name, parameters, stage, text) cmocka_unit_test(method_repair_##NAME),
        ESPL__REPAIR_LIST(X)
#undef X
        cmocka_unit_test(texts_are_parsed),
        cmocka_unit_test(groups_and_zeros_are_kept),
        cmocka_unit_test(extremes_are_survived),
        cmocka_unit_test(memory_may_run_out),
        cmocka_unit_test(threads_and_instruction_sets_change_nothing),
    };
    return cmocka_run_group_tests(tests, open_context, close_context);
}
