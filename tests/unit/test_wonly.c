/* Weight-only quantization in a session: weights of few bits with scales of groups against products in double
 * precision, the same bytes on every instruction set and number of threads, and what is left to other
 * kernels. */
#include "graph_build.h"

#include "runtime/plan.h"

/* x [rows][k] times weights of a Gemm [channels][k] or a MatMul [k][channels], with a bias and a Relu. */
typedef struct wonly_net {
    bool gemm, bias, relu, dynamic, halves;
    int64_t rows, k, channels, group; /* group 0: a scale a channel; -1: one scale */
    espl_format format;
} wonly_net;

typedef struct made {
    espl_graph *g;
    int8_t *codes; /* [channels][k] */
    float *scale, *bias;
    int64_t groups;
} made;

static espl__value *weights_of(rig *r, const wonly_net *n, made *m) {
    const int64_t group = n->group > 0 ? n->group : n->k;
    m->groups = (n->k + group - 1) / group;
    m->codes = calloc((size_t)(n->channels * n->k), 1);
    m->scale = calloc((size_t)(n->channels * m->groups), sizeof *m->scale);
    const espl_shape shape = n->gemm ? SHAPE(n->channels, n->k) : SHAPE(n->k, n->channels);
    espl__value *w = constant_of(r, ESPL_S8, shape, NULL);
    int32_t lo, hi;
    espl__format_range(n->format, &lo, &hi);
    for (int64_t c = 0; c < n->channels; c++) {
        for (int64_t i = 0; i < m->groups; i++) {
            const float scale = n->group < 0 ? 0.01f : 0.02f * espl__rng_float(&r->rng);
            m->scale[c * m->groups + i] =
                n->halves ? espl__half_to_float(espl__half_from_float(scale)) : scale;
        }
        for (int64_t k = 0; k < n->k; k++) {
            const int8_t code = (int8_t)pick(r, lo, hi);
            m->codes[c * n->k + k] = code;
            ((int8_t *)w->constant->data)[n->gemm ? c * n->k + k : k * n->channels + c] = code;
        }
    }
    const espl__quant q = {.format = n->format,
                           .axis = n->group < 0 ? -1
                                   : n->gemm    ? 0
                                                : 1,
                           .count = n->group < 0 ? 1 : n->channels * m->groups,
                           .scale = m->scale,
                           .group = n->group > 0 ? n->group : 0,
                           .group_axis = n->gemm ? 1 : 0};
    w->dtype = ESPL_F32;
    assert_true(espl__graph_copy_quant(r->g, w, &q));
    return w;
}

static made made_of(espl_context *ctx, const wonly_net *n, uint64_t seed) {
    rig r;
    made m = {0};
    rig_begin(&r, ctx, seed);
    espl__value *x = input_of(&r, "x", ESPL_F32, SHAPE(n->rows, n->k)), *w = weights_of(&r, n, &m), *y;
    espl__value *bias = random_of(&r, SHAPE(n->channels), 0.5f);
    m.bias = calloc((size_t)n->channels, sizeof *m.bias);
    if (n->bias) memcpy(m.bias, bias->constant->data, (size_t)n->channels * sizeof *m.bias);
    if (n->gemm) {
        espl__node *node = n->bias ? NODE(&r, "Gemm", x, w, bias) : NODE(&r, "Gemm", x, w);
        set_int(&r, node, "transB", 1);
        if (n->dynamic) set_int(&r, node, "espl_dynamic", 1);
        y = done_of(&r, node);
    } else {
        espl__node *node = NODE(&r, "MatMul", x, w);
        if (n->dynamic) set_int(&r, node, "espl_dynamic", 1);
        y = done_of(&r, node);
        if (n->bias) y = APPLY(&r, "Add", y, bias);
    }
    if (n->relu) y = APPLY(&r, "Relu", y);
    IO(&r, x, y);
    assert_int_equal(espl__passes_run(r.g, NULL), ESPL_OK);
    m.g = r.g;
    return m;
}

static void made_free(made *m) {
    espl_graph_destroy(&m->g);
    free(m->codes);
    free(m->scale);
    free(m->bias);
}

/* The largest difference, as a share of the sum of its terms' sizes. */
static double error_of(const wonly_net *n, const made *m, const run_io *io) {
    const float *x = io->in[0].data, *y = io->out[0].data;
    double worst = 0;
    for (int64_t r = 0; r < n->rows; r++)
        for (int64_t c = 0; c < n->channels; c++) {
            double sum = m->bias[c], size = fabs(sum);
            for (int64_t k = 0; k < n->k; k++) {
                const int64_t group = n->group > 0 ? k / n->group : 0;
                const double scale = m->scale[n->group < 0 ? 0 : c * m->groups + group];
                const double term = scale * m->codes[c * n->k + k] * x[r * n->k + k];
                sum += term;
                size += fabs(term);
            }
            if (n->relu) sum = fmax(sum, 0);
            worst = fmax(worst, fabs(sum - y[r * n->channels + c]) / fmax(size, 1e-6));
        }
    return worst;
}

static const struct {
    const char *kernel;
    double error;
    wonly_net net;
} rows[] = {
    {"wonly_f32",
     2e-6,
     {.gemm = true,
      .bias = true,
      .halves = true,
      .rows = 1,
      .k = 256,
      .channels = 100,
      .group = 32,
      .format = ESPL_FORMAT_S4}},
    {"wonly_f32",
     2e-6,
     {.relu = true,
      .bias = true,
      .rows = 5,
      .k = 300,
      .channels = 33,
      .group = 64,
      .format = ESPL_FORMAT_S4}},
    {"wonly_f32", 2e-6, {.gemm = true, .rows = 16, .k = 77, .channels = 48, .format = ESPL_FORMAT_S8}},
    {"wonly_f32", 2e-6, {.rows = 2, .k = 640, .channels = 16, .group = -1, .format = ESPL_FORMAT_S2}},
    {"wonly_f32",
     2e-6,
     {.gemm = true, .rows = 3, .k = 96, .channels = 5, .group = 96, .format = ESPL_FORMAT_S3}},
    {"wonly_f32",
     5e-3,
     {.gemm = true,
      .bias = true,
      .dynamic = true,
      .rows = 1,
      .k = 256,
      .channels = 64,
      .group = 32,
      .format = ESPL_FORMAT_S4}},
    {"wonly_f32",
     5e-3,
     {.dynamic = true, .rows = 40, .k = 256, .channels = 64, .group = 128, .format = ESPL_FORMAT_S8}},
    /* rounded by the whole row, on the kernels of s8 */
    {"matmul_rounded",
     1e-2,
     {.dynamic = true, .rows = 3, .k = 256, .channels = 64, .format = ESPL_FORMAT_S8}},
    /* many rows, or groups that are no whole units */
    {"conv_f32",
     2e-6,
     {.gemm = true, .rows = 17, .k = 64, .channels = 32, .group = 32, .format = ESPL_FORMAT_S4}},
    {"gemv_f32",
     2e-6,
     {.gemm = true, .rows = 1, .k = 64, .channels = 32, .group = 16, .format = ESPL_FORMAT_S4}},
};

static const char *kernel_of(const espl_session *s) {
    for (int i = 0; i < espl_session_layer_count(s); i++)
        if (espl_session_layer(s, i).macs > 0) return espl_session_layer(s, i).kernel;
    return "";
}

static void products_are_those_of_the_numbers(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    for (size_t i = 0; i < ESPL_COUNT(rows); i++) {
        const wonly_net *n = &rows[i].net;
        made m = made_of(ctx, n, i);
        espl_session *s = session_of(ctx, m.g);
        assert_string_equal(kernel_of(s), rows[i].kernel);
        run_io io = io_of(s, i);
        run_session(s, &io);
        const double error = error_of(n, &m, &io);
        if (!(error <= rows[i].error)) fail_msg("row %d is off by %g", (int)i, error);
        const uint64_t allocations = espl_context_allocations(ctx);
        run_session(s, &io);
        assert_int_equal(espl_context_allocations(ctx), allocations);
        io_free(&io);
        espl_session_destroy(&s);
        made_free(&m);
    }
    espl_context_destroy(&ctx);
}

static void every_cpu_and_thread_count_agrees(void **state) {
    (void)state;
    for (size_t i = 0; i < ESPL_COUNT(rows); i++) {
        wonly_net n = rows[i].net;
        n.channels *= 40; /* enough for threads to share */
        run_io expected = {0};
        ESPL__CPU_LEVELS(level, 0)
            for (int threads = 1; threads <= 2; threads++) {
                espl_context *ctx = new_context(threads);
                made m = made_of(ctx, &n, i);
                espl_session *s = session_at(ctx, m.g, (espl__cpu)level);
                run_io got = io_of(s, i);
                run_session(s, &got);
                if (level == 0 && threads == 1)
                    expected = got;
                else
                    assert_memory_equal(got.out[0].data, expected.out[0].data, bytes_of(&got.out[0]));
                if (level > 0 || threads > 1) io_free(&got);
                espl_session_destroy(&s);
                made_free(&m);
                espl_context_destroy(&ctx);
            }
        io_free(&expected);
    }
}

/* What is not finite stays so, and only in its own row. */
static void infinities_and_nan_are_not_lost(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    const wonly_net n = {
        .gemm = true, .rows = 3, .k = 128, .channels = 20, .group = 32, .format = ESPL_FORMAT_S4};
    made m = made_of(ctx, &n, 5);
    espl_session *s = session_of(ctx, m.g);
    run_io io = io_of(s, 1);
    ((float *)io.in[0].data)[7] = NAN;
    ((float *)io.in[0].data)[128 + 100] = -INFINITY;
    for (int k = 0; k < 128; k++) ((float *)io.in[0].data)[256 + k] = k % 2 ? 1e-41f : 0.0f;
    run_session(s, &io);
    const float *y = io.out[0].data;
    for (int c = 0; c < 20; c++) {
        assert_false(isfinite(y[c]));
        assert_false(isfinite(y[20 + c]));
        assert_true(fabsf(y[40 + c]) < 1e-30f);
    }
    io_free(&io);
    espl_session_destroy(&s);
    made_free(&m);
    espl_context_destroy(&ctx);
}

/* Weights take the bits that they need, and half a bit for their scales. */
static void memory_follows_the_bits(void **state) {
    (void)state;
    static const struct {
        espl_format format;
        double bits;
    } expected[] = {{ESPL_FORMAT_S2, 2.5}, {ESPL_FORMAT_S4, 4.5}, {ESPL_FORMAT_S8, 8.5}};
    espl_context *ctx = new_context(1);
    for (size_t i = 0; i < ESPL_COUNT(expected); i++) {
        const wonly_net n = {.gemm = true,
                             .halves = true,
                             .rows = 1,
                             .k = 512,
                             .channels = 256,
                             .group = 32,
                             .format = expected[i].format};
        made m = made_of(ctx, &n, 3);
        espl_session *s = session_of(ctx, m.g);
        for (int l = 0; l < espl_session_layer_count(s); l++) {
            const espl_layer layer = espl_session_layer(s, l);
            if (layer.macs == 0) continue;
            assert_int_equal(layer.weight_bytes, (uint64_t)(512 * 256 * expected[i].bits / 8));
        }
        espl_session_destroy(&s);
        made_free(&m);
    }
    espl_context_destroy(&ctx);
}

/* x [rows][k] times random weights that 16 bits hold, as such or as f32. */
static espl_graph *halves_of(espl_context *ctx, int64_t rows_of_x, espl_format format, bool gemm,
                             bool as_f32) {
    rig r;
    const int64_t k = 75, channels = 150;
    rig_begin(&r, ctx, 11);
    espl__value *x = input_of(&r, "x", ESPL_F32, SHAPE(rows_of_x, k)), *y;
    espl__value *w = random_of(&r, gemm ? SHAPE(channels, k) : SHAPE(k, channels), 1.0f);
    float *numbers = w->constant->data;
    espl_tensor *halves =
        espl__graph_tensor(r.g, format == ESPL_FORMAT_F16 ? ESPL_F16 : ESPL_BF16, &w->constant->shape, NULL);
    for (int64_t i = 0; i < k * channels; i++) {
        uint16_t *to = (uint16_t *)halves->data + i;
        *to = format == ESPL_FORMAT_F16 ? espl__half_from_float(numbers[i])
                                        : espl__bfloat_from_float(numbers[i]);
        numbers[i] = format == ESPL_FORMAT_F16 ? espl__half_to_float(*to) : espl__bfloat_to_float(*to);
    }
    if (!as_f32) {
        w->constant = halves;
        assert_true(espl__graph_set_quant(r.g, w, format, -1, 1, &(float){1}, NULL));
    }
    if (gemm) {
        espl__node *node = NODE(&r, "Gemm", x, w);
        set_int(&r, node, "transB", 1);
        y = done_of(&r, node);
    } else {
        y = APPLY(&r, "MatMul", x, w);
    }
    IO(&r, x, y);
    assert_int_equal(espl__passes_run(r.g, NULL), ESPL_OK);
    return r.g;
}

/* Weights of 16 bits stay so for few rows, and give the bytes of f32 ones. */
static void halves_are_read_as_they_are(void **state) {
    (void)state;
    static const int64_t counts[] = {1, 3, 16, 17};
    espl_context *ctx = new_context(1);
    for (int i = 0; i < 16; i++) {
        const int64_t count = counts[i / 4];
        const espl_format format = i % 2 ? ESPL_FORMAT_F16 : ESPL_FORMAT_BF16;
        espl_graph *a = halves_of(ctx, count, format, i & 2, false),
                   *b = halves_of(ctx, count, format, i & 2, true);
        espl_session *sa = session_of(ctx, a), *sb = session_of(ctx, b);
        run_io x = io_of(sa, 1), y = io_of(sb, 1);
        run_session(sa, &x);
        run_session(sb, &y);
        assert_memory_equal(x.out[0].data, y.out[0].data, bytes_of(&x.out[0]));
        for (int l = 0; l < espl_session_layer_count(sa); l++) {
            const espl_layer layer = espl_session_layer(sa, l);
            if (layer.macs > 0) assert_int_equal(layer.weight_bytes, 75 * 150 * (count <= 16 ? 2 : 4));
        }
        io_free(&x);
        io_free(&y);
        espl_session_destroy(&sa);
        espl_session_destroy(&sb);
        espl_graph_destroy(&a);
        espl_graph_destroy(&b);
    }
    espl_context_destroy(&ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_are_those_of_the_numbers),
        cmocka_unit_test(every_cpu_and_thread_count_agrees),
        cmocka_unit_test(infinities_and_nan_are_not_lost),
        cmocka_unit_test(memory_follows_the_bits),
        cmocka_unit_test(halves_are_read_as_they_are),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
