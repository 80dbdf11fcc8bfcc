/* The builder and the zoo: errors stick, names are unique, weights follow seed and name, and every network
 * has the size that PyTorch's modules of the same architecture have, and runs. */
#include "graph_build.h"

#include "espalier/onnx.h"
#include "espalier/zoo.h"
#include "ops/ops.h"

static const espl_shape picture = {4, {ESPL_DIM_UNKNOWN, 3, 9, 11}};

static espl_builder *builder_of(espl_context *ctx, uint64_t seed) {
    espl_builder *b = NULL;
    assert_int_equal(espl_builder_create(ctx, "test", seed, &b, NULL), ESPL_OK);
    return b;
}

static espl_graph *graph_of(espl_builder **b) {
    espl_graph *g = NULL;
    espl_diag diag = {0};
    if (espl_builder_finish(b, &g, &diag) != ESPL_OK) fail_msg("%s", diag.message);
    assert_null(*b);
    return g;
}

/* The builder must have failed with this status and sentence. */
static void fails(espl_builder *b, espl_status status, const char *sentence) {
    espl_graph *g = NULL;
    espl_diag diag = {0};
    assert_int_equal(espl_builder_finish(&b, &g, &diag), status);
    assert_null(g);
    assert_int_equal(diag.status, status);
    if (!strstr(diag.message, sentence)) fail_msg("'%s' is not in '%s'", sentence, diag.message);
}

/* --- the builder ------------------------------------------------------------------------------------- */

static void the_first_error_sticks(void **state) {
    espl_context *ctx = *state;
    espl_builder *b = builder_of(ctx, 1);
    espl_value x = espl_build_input(b, "x", ESPL_F32, picture);
    espl_value y = espl_build_conv(b, "conv1", x, &(espl_conv){.channels = 4, .kernel = {3}, .groups = 2});
    assert_int_equal(y.id, 0);
    assert_int_equal(espl_builder_status(b), ESPL_SHAPE);
    y = espl_build_activation(b, "act", x, ESPL_ACTIVATION_RELU);
    assert_int_equal(y.id, 0);
    assert_int_equal(espl_build_shape(b, x).rank, 0);
    espl_build_output(b, "y", y);
    fails(b, ESPL_SHAPE, "layer 'conv1': 3 channels to 4 do not divide into 2 groups");
}

static espl_value stem(espl_builder *b) {
    return espl_build_input(b, "x", ESPL_F32, picture);
}

static void mistakes_are_told(void **state) {
    espl_context *ctx = *state;
    espl_builder *b = builder_of(ctx, 1);
    espl_value x = stem(b);
    (void)espl_build_softmax(b, "x", x, 1);
    fails(b, ESPL_INVALID, "layer 'x': there is one of that name already");
    b = builder_of(ctx, 1);
    (void)espl_build_flatten(b, "flat", (espl_value){77});
    fails(b, ESPL_INVALID, "a value is not of this builder");
    b = builder_of(ctx, 1);
    (void)espl_build_linear(b, "fc", espl_build_flatten(b, "flat", (espl_value){0}),
                            &(espl_linear){.features = 2});
    fails(b, ESPL_FORMAT, "layer 'flat'");
    b = builder_of(ctx, 1);
    (void)stem(b);
    fails(b, ESPL_INVALID, "has no output");
    b = builder_of(ctx, 1);
    espl_build_node(b, "Nonesuch", "n", NULL, 0, NULL, 0, &x, 1);
    fails(b, ESPL_UNSUPPORTED, "there is no operator 'Nonesuch'");
    b = builder_of(ctx, 1);
    x = espl_build_input(b, "x", ESPL_F32, (espl_shape){2, {4, ESPL_DIM_UNKNOWN}});
    (void)espl_build_linear(b, "fc", x, &(espl_linear){.features = 3});
    fails(b, ESPL_SHAPE, "layer 'fc': the number of its input's features has to be known");
    b = builder_of(ctx, 1);
    espl_builder_fail(b, ESPL_LIMIT, "the caller's own sentence");
    (void)stem(b);
    fails(b, ESPL_LIMIT, "the caller's own sentence");
    fails(NULL, ESPL_NOMEM, "");
}

/* The shape of conv or pool over 3x9x11. */
static espl_shape window_shape(espl_context *ctx, int64_t kernel, int64_t stride, int64_t dilation,
                               espl_padding padding, bool transposed) {
    espl_builder *b = builder_of(ctx, 1);
    espl_conv c = {.channels = 6,
                   .kernel = {kernel},
                   .stride = {stride},
                   .dilation = {dilation},
                   .padding = padding,
                   .groups = 3,
                   .bias = true};
    espl_value y =
        transposed ? espl_build_conv_transpose(b, "c", stem(b), &c) : espl_build_conv(b, "c", stem(b), &c);
    espl_shape s = espl_build_shape(b, y);
    espl_builder_destroy(&b);
    return s;
}

static void windows_have_their_sizes(void **state) {
    espl_context *ctx = *state;
    for (int kernel = 1; kernel <= 5; kernel++)
        for (int stride = 1; stride <= 3; stride++) {
            espl_shape s = window_shape(ctx, kernel, stride, 2, ESPL_PADDING_SAME, false);
            espl_shape same =
                SHAPE(ESPL_DIM_UNKNOWN, 6, (9 + stride - 1) / stride, (11 + stride - 1) / stride);
            assert_true(espl_shape_equal(&s, &same));
            s = window_shape(ctx, kernel, stride, 0, ESPL_PADDING_VALID, false);
            espl_shape valid =
                SHAPE(ESPL_DIM_UNKNOWN, 6, (9 - kernel) / stride + 1, (11 - kernel) / stride + 1);
            assert_true(espl_shape_equal(&s, &valid));
            s = window_shape(ctx, kernel, stride, 0, ESPL_PADDING_SAME, true);
            espl_shape larger = SHAPE(ESPL_DIM_UNKNOWN, 6, 9 * stride, 11 * stride);
            assert_true(espl_shape_equal(&s, &larger));
        }
}

/* Of an odd number of SAME pads the smaller half comes first. */
static void uneven_pads_come_last(void **state) {
    espl_context *ctx = *state;
    espl_builder *b = builder_of(ctx, 1);
    espl_conv c = {.channels = 2, .kernel = {4, 2}, .padding = ESPL_PADDING_SAME};
    espl_build_output(b, "y", espl_build_conv(b, "c", stem(b), &c));
    espl_graph *g = graph_of(&b);
    int64_t pads[4];
    assert_int_equal(espl__attr_ints(g->nodes[0], "pads", pads, 4), 4);
    assert_true(pads[0] == 1 && pads[1] == 0 && pads[2] == 2 && pads[3] == 1);
    espl_graph_destroy(&g);
}

/* Every activation and kind of layer once, run by the session and by the references. */
static void every_layer_runs(void **state) {
    espl_context *ctx = *state;
    espl_builder *b = builder_of(ctx, 3);
    char name[64];
    espl_value x = stem(b), parts[3];
    for (int i = 0; i < ESPL_ACTIVATION_COUNT; i++) {
        snprintf(name, sizeof name, "act.%s", espl_activation_name((espl_activation)i));
        x = espl_build_conv(
            b, espl_activation_name((espl_activation)i), x,
            &(espl_conv){.channels = 4, .kernel = {3, 1}, .padding = ESPL_PADDING_SAME, .bias = true});
        x = espl_build_activation(b, name, x, (espl_activation)i);
    }
    parts[0] = espl_build_max_pool(b, "max", x, &(espl_pool){.kernel = {2}, .padding = ESPL_PADDING_SAME});
    parts[1] = espl_build_average_pool(
        b, "average", x, &(espl_pool){.kernel = {3}, .stride = {2}, .padding = ESPL_PADDING_SAME});
    parts[2] = espl_build_batch_norm(b, "norm", parts[1]);
    x = espl_build_concat(b, "concat", parts, 3, 1);
    x = espl_build_mul(
        b, "mul", x,
        espl_build_parameter(b, "mul.weight", (espl_shape){3, {12, 1, 1}}, (espl_init){ESPL_INIT_ONES, 0}));
    x = espl_build_conv_transpose(
        b, "up", x, &(espl_conv){.channels = 8, .kernel = {3}, .stride = {2}, .padding = ESPL_PADDING_SAME});
    x = espl_build_reshape(b, "tokens", x, (espl_shape){3, {0, 8, -1}});
    espl_value memory = espl_build_transpose(b, "memory", x, (const int[]){0, 2, 1});
    x = espl_build_layer_norm(b, "layernorm", x);
    x = espl_build_linear(b, "wide", x, &(espl_linear){.features = 12, .bias = true});
    x = espl_build_attention(b, "self", x, (espl_value){0}, &(espl_attention){.heads = 3, .causal = true});
    x = espl_build_attention(b, "cross", x, memory, &(espl_attention){.heads = 2, .dropout = 0.1});
    x = espl_build_dropout(b, "dropout", x, 0.5);
    for (int i = 0; i < ESPL_CELL_COUNT; i++) {
        snprintf(name, sizeof name, "cell%d", i);
        x = espl_build_recurrent(b, name, x,
                                 &(espl_recurrent){.cell = (espl_cell)i, .hidden = 6, .bidirectional = true},
                                 &parts[0]);
    }
    espl_build_output(b, "y", espl_build_softmax(b, "softmax", espl_build_mean(b, "mean", x, 1), -1));
    espl_build_output(b, "last", parts[0]);
    espl_graph *g = graph_of(&b);
    espl_session *s = session_of(ctx, g);
    run_io io = io_of(s, 5);
    espl_tensor expected[2];
    run_session(s, &io);
    run_reference_of(ctx, g, io.in, expected);
    for (int i = 0; i < 2; i++) {
        assert_true(difference(&io.out[i], &expected[i]) <= 1e-4);
        espl_tensor_free(ctx, &expected[i]);
    }
    io_free(&io);
    espl_session_destroy(&s);
    espl_graph_destroy(&g);
}

/* --- initialisers ------------------------------------------------------------------------------------ */

/* Of a 40 x 30 parameter with 3x3 taps: mean, variance and largest size. */
static void statistics(espl_context *ctx, espl_init init, double *mean, double *variance, double *largest) {
    espl_builder *b = builder_of(ctx, 5);
    espl_build_output(b, "y", espl_build_parameter(b, "w.weight", (espl_shape){4, {40, 30, 3, 3}}, init));
    espl_graph *g = graph_of(&b);
    const float *w = espl__graph_find(g, "w.weight")->constant->data;
    double sum = 0, squares = 0, n = 40 * 30 * 9;
    *largest = 0;
    for (int i = 0; i < (int)n; i++) {
        sum += (double)w[i];
        squares += (double)w[i] * (double)w[i];
        *largest = fmax(*largest, fabs((double)w[i]));
    }
    *mean = sum / n;
    *variance = squares / n - *mean * *mean;
    espl_graph_destroy(&g);
}

static void initialisers_have_their_spread(void **state) {
    espl_context *ctx = *state;
    const double in = 30 * 9, out = 40 * 9;
    /* kind, value, variance, bound (0: normal) */
    const struct {
        espl_init init;
        double variance, bound;
    } cases[] = {
        {{ESPL_INIT_HE_NORMAL, 0}, 2 / in, 0},
        {{ESPL_INIT_HE_UNIFORM, 0}, 2 / in, sqrt(6 / in)},
        {{ESPL_INIT_XAVIER_NORMAL, 0}, 2 / (in + out), 0},
        {{ESPL_INIT_XAVIER_UNIFORM, 0}, 2 / (in + out), sqrt(6 / (in + out))},
        {{ESPL_INIT_FAN_IN, 0}, 1 / (3 * in), 1 / sqrt(in)},
        {{ESPL_INIT_NORMAL, 0.3f}, 0.09, 0},
        {{ESPL_INIT_UNIFORM, 0.3f}, 0.03, 0.3},
    };
    double mean, variance, largest;
    for (size_t i = 0; i < ESPL_COUNT(cases); i++) {
        statistics(ctx, cases[i].init, &mean, &variance, &largest);
        double sigma = sqrt(cases[i].variance),
               limit = cases[i].bound > 0 ? cases[i].bound * 1.0000002 : 6 * sigma;
        assert_true(fabs(mean) < 4 * sigma / sqrt(10800));
        assert_true(fabs(variance / cases[i].variance - 1) < 0.05); /* 3.5 sigma of a normal's */
        assert_true(largest <= limit && largest > 0.98 * (cases[i].bound > 0 ? cases[i].bound : 3.5 * sigma));
    }
    statistics(ctx, (espl_init){ESPL_INIT_ONES, 0}, &mean, &variance, &largest);
    assert_true(mean == 1 && variance == 0);
    statistics(ctx, (espl_init){ESPL_INIT_CONSTANT, -0.5f}, &mean, &variance, &largest);
    assert_true(mean == -0.5 && variance == 0);
}

/* The bytes of fc2.weight with `before` units in the layer before it. */
static uint32_t weight_bits(espl_context *ctx, uint64_t seed, int64_t before, const char *first) {
    espl_builder *b = builder_of(ctx, seed);
    espl_value x = espl_build_input(b, "x", ESPL_F32, (espl_shape){2, {1, 5}});
    (void)espl_build_linear(b, first, x, &(espl_linear){.features = before});
    espl_build_output(b, "y", espl_build_linear(b, "fc2", x, &(espl_linear){.features = 4}));
    espl_graph *g = graph_of(&b);
    uint32_t bits = 0;
    const espl__value *w = espl__graph_find(g, "fc2.weight");
    for (int i = 0; i < 20; i++) bits = bits * 31 + ((const uint32_t *)w->constant->data)[i];
    espl_graph_destroy(&g);
    return bits;
}

static void weights_follow_seed_and_name(void **state) {
    espl_context *ctx = *state;
    uint32_t bits = weight_bits(ctx, 1, 3, "fc1");
    assert_int_equal(bits, weight_bits(ctx, 1, 3, "fc1"));
    assert_int_equal(bits, weight_bits(ctx, 1, 30, "fc1"));
    assert_int_equal(bits, weight_bits(ctx, 1, 3, "other"));
    assert_int_not_equal(bits, weight_bits(ctx, 2, 3, "fc1"));
}

/* --- the zoo ----------------------------------------------------------------------------------------- */

static espl_graph *zoo_of(espl_context *ctx, const char *name, const espl_zoo_options *o) {
    espl_graph *g = NULL;
    espl_diag diag = {0};
    if (espl_zoo_build(ctx, name, o, &g, &diag) != ESPL_OK) fail_msg("%s: %s", name, diag.message);
    return g;
}

static bool ends_with(const char *text, const char *end) {
    size_t n = strlen(text), m = strlen(end);
    return n > m && strcmp(text + n - m, end) == 0;
}

static int64_t parameters(const espl_graph *g) {
    int64_t sum = 0;
    for (int i = 0; i < g->value_count; i++)
        if (g->values[i]->constant &&
            (ends_with(g->values[i]->name, ".weight") || ends_with(g->values[i]->name, ".bias")))
            sum += espl_shape_count(&g->values[i]->shape);
    return sum;
}

/* tests/oracle/make_zoo_fixtures.py counts PyTorch's modules of the same networks. A sanitizer sees them built below. */
static void networks_have_their_sizes(void **state) {
    espl_context *ctx = *state;
    if (SANITIZED) skip();
    FILE *f = fopen(ESPL_SOURCE_DIR "/tests/fixtures/zoo/sizes.txt", "r");
    char name[64];
    long long size;
    int count = 0;
    assert_non_null(f);
    for (; fscanf(f, "%63s %lld", name, &size) == 2; count++) {
        espl_graph *g = zoo_of(ctx, name, NULL);
        assert_string_equal(name, espl_zoo_at(count)->name);
        assert_int_equal(parameters(g), size);
        assert_string_equal(espl_graph_output_name(g, 0), "logits");
        espl_graph_destroy(&g);
    }
    fclose(f);
    assert_null(espl_zoo_at(count));
    assert_true(count > 0);
}

/* The script's `pattern`: numbers from -1 to 1. */
static float pattern(int64_t i) {
    return (float)((double)(uint32_t)((uint64_t)i * 2654435761u + 12345) / 2147483648.0 - 1);
}

/* The script's `spread`: so that no vector is 0 or 1 everywhere. */
static void spread(espl_graph *g) {
    for (int i = 0; i < g->value_count; i++) {
        const espl__value *v = g->values[i];
        bool norm = ends_with(v->name, ".norm.weight") || strcmp(v->name, "norm.weight") == 0 ||
                    strstr(v->name, ".norm1.") || strstr(v->name, ".norm2.");
        float scale = ends_with(v->name, ".bias")       ? 0.05f
                      : ends_with(v->name, ".mean")     ? 0.1f
                      : ends_with(v->name, ".variance") ? 0.3f
                      : norm                            ? 0.2f
                                                        : 0;
        for (int64_t k = 0; v->constant && scale > 0 && k < espl_shape_count(&v->shape); k++)
            ((float *)v->constant->data)[k] += scale * pattern(k);
    }
}

/* Pictures and states are the pattern, tokens go round. */
static void fill_inputs(run_io *x, const espl_zoo_options *o) {
    for (int i = 0; i < x->inputs; i++)
        for (int64_t k = 0; k < espl_shape_count(&x->in[i].shape); k++)
            if (x->in[i].dtype == ESPL_S64)
                ((int64_t *)x->in[i].data)[k] = k * 7919 % o->vocabulary;
            else
                ((float *)x->in[i].data)[k] = pattern(k);
}

/* A session for a batch of 2 and, where the length is open, sequences of 7. */
static espl_session *session_of_two(espl_context *ctx, const espl_graph *g) {
    espl_shape shapes[8];
    espl_session *s = NULL;
    espl_diag diag = {0};
    for (int i = 0; i < espl_graph_input_count(g); i++) {
        shapes[i] = espl_graph_input_shape(g, i);
        if (espl_graph_input_dtype(g, i) == ESPL_S64 && shapes[i].dim[0] == ESPL_DIM_UNKNOWN)
            shapes[i].dim[0] = 7;
        for (int d = 0; d < shapes[i].rank; d++)
            if (shapes[i].dim[d] == ESPL_DIM_UNKNOWN) shapes[i].dim[d] = 2;
    }
    espl_session_options options = {.input_shapes = shapes};
    if (espl_session_create(ctx, g, &options, &s, &diag) != ESPL_OK) fail_msg("%s", diag.message);
    return s;
}

/* What the fixtures of sequences were made with. */
static espl_zoo_options fixture_options(const espl_zoo_network *n) {
    espl_zoo_options o = {.seed = 1};
    if (n->options & ESPL_ZOO_VOCABULARY) o.vocabulary = 50, o.hidden = 16;
    if (n->options & ESPL_ZOO_SEQUENCE) o.sequence = 6, o.heads = 2, o.layers = 2;
    return o;
}

static void networks_compute_what_pytorch_does(void **state) {
    espl_context *ctx = *state;
    const espl_zoo_network *n;
    for (int i = 0; (n = espl_zoo_at(i)); i++) {
        char path[512];
        espl_tensor expected;
        espl_diag diag = {0};
        espl_zoo_options o = fixture_options(n);
        espl_graph *g = zoo_of(ctx, n->name, &o);
        spread(g);
        espl_session *s = session_of_two(ctx, g);
        run_io io = io_of(s, 1);
        fill_inputs(&io, &o);
        run_session(s, &io);
        snprintf(path, sizeof path, ESPL_SOURCE_DIR "/tests/fixtures/zoo/%s.npy", n->name);
        if (espl_npy_read(ctx, path, &expected, &diag) != ESPL_OK) fail_msg("%s", diag.message);
        double d = difference(&io.out[0], &expected);
        if (!(d <= 2e-5)) fail_msg("%s: differs by %g", n->name, d);
        espl_tensor_free(ctx, &expected);
        io_free(&io);
        espl_session_destroy(&s);
        espl_graph_destroy(&g);
    }
}

/* Small forms, so that the references are quick. */
static espl_zoo_options small_options(const espl_zoo_network *n) {
    espl_zoo_options o = {.seed = 3};
    if (n->options & ESPL_ZOO_WIDTH) o.width = 0.25;
    if (n->options & ESPL_ZOO_HIDDEN) o.hidden = 24;
    if (n->options & ESPL_ZOO_LAYERS) o.layers = 2;
    if (n->options & ESPL_ZOO_HEADS) o.heads = 2;
    if (n->options & ESPL_ZOO_VOCABULARY) o.vocabulary = 50;
    if (n->options & ESPL_ZOO_EMBEDDING) o.embedding = 20;
    if (n->options & ESPL_ZOO_SEQUENCE) o.sequence = 6;
    if (n->options & ESPL_ZOO_CLASSES) o.classes = 7;
    if (n->options & ESPL_ZOO_DROPOUT) o.dropout = 0.1;
    return o;
}

static void networks_run_as_their_references(void **state) {
    espl_context *ctx = *state;
    const espl_zoo_network *n;
    for (int i = 0; (n = espl_zoo_at(i)); i++) {
        espl_zoo_options o = small_options(n);
        espl_graph *g = zoo_of(ctx, n->name, &o);
        espl_session *s = session_of(ctx, g);
        run_io io = io_of(s, 5);
        espl_tensor expected[8];
        run_session(s, &io);
        run_reference_of(ctx, g, io.in, expected);
        for (int k = 0; k < io.outputs; k++) {
            if (difference(&io.out[k], &expected[k]) > 1e-4) fail_msg("%s: output %d differs", n->name, k);
            espl_tensor_free(ctx, &expected[k]);
        }
        io_free(&io);
        espl_session_destroy(&s);
        espl_graph_destroy(&g);
    }
}

/* What of inputs has the suffix .next among the outputs has its shape; batch first, open. */
static void inputs_are_open_and_states_go_on(void **state) {
    espl_context *ctx = *state;
    const espl_zoo_network *n;
    int states = 0;
    for (int i = 0; (n = espl_zoo_at(i)); i++) {
        espl_zoo_options o = small_options(n);
        espl_graph *g = zoo_of(ctx, n->name, &o);
        espl_shape x = espl_graph_input_shape(g, 0);
        bool tokens = strcmp(espl_graph_input_name(g, 0), "tokens") == 0;
        assert_int_equal(x.dim[tokens ? 1 : 0], ESPL_DIM_UNKNOWN);
        for (int k = 1; k < espl_graph_input_count(g); k++) {
            char next[128];
            espl_shape s = espl_graph_input_shape(g, k);
            snprintf(next, sizeof next, "%s.next", espl_graph_input_name(g, k));
            const espl__value *v = espl__graph_find(g, next);
            assert_non_null(v);
            assert_true(espl__graph_is_output(g, v) && espl_shape_equal(&s, &v->shape));
            states++;
        }
        espl_graph_destroy(&g);
    }
    assert_int_equal(states, 4 + 2);
}

static void refused(espl_context *ctx, const char *name, espl_zoo_options o, const char *sentence) {
    espl_graph *g = NULL;
    espl_diag diag = {0};
    assert_int_not_equal(espl_zoo_build(ctx, name, &o, &g, &diag), ESPL_OK);
    assert_null(g);
    if (!strstr(diag.message, sentence)) fail_msg("'%s' is not in '%s'", sentence, diag.message);
}

static void wrong_options_are_told(void **state) {
    espl_context *ctx = *state;
    refused(ctx, "resnet21", (espl_zoo_options){0},
            "'resnet21' is no network of the zoo; there are mlp, lenet5, resnet8,");
    refused(ctx, "resnet8", (espl_zoo_options){.hidden = 3},
            "network 'resnet8' takes no --hidden; it takes --width, --classes, --input");
    refused(ctx, "lstm-lm", (espl_zoo_options){.width = 0.5}, "takes no --width");
    refused(ctx, "resnet8", (espl_zoo_options){.width = -1}, "--width: -1 is not between 0 and");
    refused(ctx, "resnet8", (espl_zoo_options){.classes = INT64_MAX}, "--classes:");
    refused(ctx, "resnet8", (espl_zoo_options){.input = SHAPE(32, 32)}, "--input: channels x height x width");
    refused(ctx, "vgg-small", (espl_zoo_options){.input = SHAPE(3, 4, 4)}, "layer 'pool3");
    refused(ctx, "vit", (espl_zoo_options){.input = SHAPE(3, 30, 32)}, "multiples of 4");
    refused(ctx, "vit", (espl_zoo_options){.heads = 5}, "a width of 192 does not divide into 5 heads");
    refused(ctx, "decoder", (espl_zoo_options){.dropout = 1.5}, "--dropout: 1.5 is not between");
}

/* A number of any size, most often a small one. */
static int64_t any_number(espl__rng *rng) {
    return espl__rng_below(rng, 2) ? (int64_t)espl__rng_below(rng, 7)
                                   : (int64_t)(espl__rng_u32(rng) >> espl__rng_below(rng, 32)) - 2;
}

/* Gives one option any value; as a rule one that the network takes. */
static void change_option(espl__rng *rng, const espl_zoo_network *n, espl_zoo_options *o) {
    uint32_t bit = espl__rng_below(rng, ESPL_ZOO_OPTION_COUNT);
    while (!(n->options >> bit & 1) && espl__rng_below(rng, 16))
        bit = espl__rng_below(rng, ESPL_ZOO_OPTION_COUNT);
    int64_t value = any_number(rng);
    int64_t *whole[ESPL_ZOO_OPTION_COUNT] = {
        [ESPL_ZOO_BIT_CLASSES] = &o->classes,       [ESPL_ZOO_BIT_HIDDEN] = &o->hidden,
        [ESPL_ZOO_BIT_LAYERS] = &o->layers,         [ESPL_ZOO_BIT_HEADS] = &o->heads,
        [ESPL_ZOO_BIT_VOCABULARY] = &o->vocabulary, [ESPL_ZOO_BIT_EMBEDDING] = &o->embedding,
        [ESPL_ZOO_BIT_SEQUENCE] = &o->sequence};
    if (whole[bit])
        *whole[bit] = bit == ESPL_ZOO_BIT_LAYERS ? value % 8 : value;
    else if (bit == ESPL_ZOO_BIT_INPUT)
        o->input = SHAPE(1 + espl__rng_below(rng, 4), value, any_number(rng));
    else
        *(bit == ESPL_ZOO_BIT_WIDTH ? &o->width : &o->dropout) = (double)value / 8;
}

/* Whatever is asked for, there is a graph or a sentence. No allocation may be large, so that absurd sizes end
 * soon. */
static void any_options_end_well(void **state) {
    (void)state;
    espl_context *ctx = NULL;
    espl_config config = {.threads = 1, .max_alloc = 1 << 22};
    espl__rng rng = espl__rng_seed(8, 8);
    int good = 0, bad = 0, networks = 0;
    assert_int_equal(espl_context_create(&config, &ctx, NULL), ESPL_OK);
    while (espl_zoo_at(networks)) networks++;
    for (int i = 0; i < 300; i++) {
        const espl_zoo_network *n = espl_zoo_at((int)espl__rng_below(&rng, (uint32_t)networks));
        espl_zoo_options o = small_options(n);
        espl_graph *g = NULL;
        espl_diag diag = {0};
        for (uint32_t k = 0; k <= espl__rng_below(&rng, 3); k++) change_option(&rng, n, &o);
        espl_status status = espl_zoo_build(ctx, n->name, &o, &g, &diag);
        assert_true((status == ESPL_OK) == (g != NULL) && (status == ESPL_OK) == (diag.message[0] == 0));
        good += status == ESPL_OK;
        bad += status != ESPL_OK;
        espl_graph_destroy(&g);
    }
    espl_context_destroy(&ctx);
    assert_true(good > 60 && bad > 60);
}

/* --- memory ------------------------------------------------------------------------------------------ */

typedef struct failing {
    int left, live; /* allocations until the first that fails; those not freed */
} failing;

static void *failing_alloc(void *user, size_t bytes) {
    failing *f = user;
    if (f->left == 0) return NULL;
    f->left--;
    f->live++;
    return aligned_alloc(64, (bytes + 63) / 64 * 64);
}

static void failing_free(void *user, void *ptr) {
    ((failing *)user)->live--;
    free(ptr);
}

/* Whichever allocation fails: a status and a sentence, and nothing is left behind. */
static void memory_runs_out_cleanly(void **state) {
    (void)state;
    espl_zoo_options o = {.hidden = 80, .layers = 1, .heads = 2, .vocabulary = 90, .sequence = 3};
    int failures = 0;
    for (bool done = false; !done; failures++) {
        failing f = {.left = INT32_MAX};
        espl_context *ctx = NULL;
        espl_graph *g = NULL;
        espl_diag diag = {0};
        espl_config config = {.alloc = failing_alloc, .free = failing_free, .user = &f, .threads = 1};
        assert_int_equal(espl_context_create(&config, &ctx, NULL), ESPL_OK);
        f.left = failures;
        espl_status status = espl_zoo_build(ctx, "decoder", &o, &g, &diag);
        done = status == ESPL_OK;
        if (!done) assert_int_equal(status, ESPL_NOMEM);
        assert_true(done == (g != NULL) && done == (diag.message[0] == 0));
        espl_graph_destroy(&g);
        espl_context_destroy(&ctx);
        assert_int_equal(f.live, 0);
    }
    assert_true(failures > 10);
}

static int begin(void **state) {
    *state = new_context(1);
    return 0;
}
static int end(void **state) {
    espl_context *ctx = *state;
    uint64_t left = espl_context_memory(ctx, NULL);
    espl_context_destroy(&ctx);
    return left == empty_context(1) ? 0 : -1;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_first_error_sticks, begin, end),
        cmocka_unit_test_setup_teardown(mistakes_are_told, begin, end),
        cmocka_unit_test_setup_teardown(windows_have_their_sizes, begin, end),
        cmocka_unit_test_setup_teardown(uneven_pads_come_last, begin, end),
        cmocka_unit_test_setup_teardown(every_layer_runs, begin, end),
        cmocka_unit_test_setup_teardown(initialisers_have_their_spread, begin, end),
        cmocka_unit_test_setup_teardown(weights_follow_seed_and_name, begin, end),
        cmocka_unit_test_setup_teardown(networks_have_their_sizes, begin, end),
        cmocka_unit_test_setup_teardown(networks_compute_what_pytorch_does, begin, end),
        cmocka_unit_test_setup_teardown(networks_run_as_their_references, begin, end),
        cmocka_unit_test_setup_teardown(inputs_are_open_and_states_go_on, begin, end),
        cmocka_unit_test_setup_teardown(wrong_options_are_told, begin, end),
        cmocka_unit_test(any_options_end_well),
        cmocka_unit_test(memory_runs_out_cleanly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
