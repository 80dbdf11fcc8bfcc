/* Winograd's convolution in sessions: against plain convolution in double, and the same bytes everywhere. */
#include "graph_oracle.h"

#include "runtime/plan.h"

/* Of the largest output. The sums have up to 9 * 70 products of random sign, whose roundings grow like their
 * root: 2^-24 * sqrt(630) is 1.5e-6, and the transforms at most double the size of what is summed. */
#define TOLERANCE 3e-6

enum { NOTHING, RELU, CLIP, RESIDUAL, RESIDUAL_RELU, TAILS };

typedef struct layer {
    int64_t batch, inputs, channels, height, width, pads[4]; /* of the input */
    int tail;
    bool bias, codes; /* weights stored as s8 */
} layer;

static layer random_layer(rig *r) {
    static const int64_t channels[] = {16, 32, 33, 40, 48, 63, 64, 70};
    layer l = {.batch = chance(r, 50) ? 1 : pick(r, 2, 3),
               .inputs = channels[pick(r, 0, 7)],
               .channels = channels[pick(r, 1, 7)],
               .tail = (int)pick(r, 0, TAILS - 1),
               .bias = chance(r, 70),
               .codes = chance(r, 20)};
    for (int i = 0; i < 4; i++) l.pads[i] = pick(r, 0, 2);
    l.height = pick(r, 11, 19) + 2 - l.pads[0] - l.pads[2];
    l.width = pick(r, 11, 19) + 2 - l.pads[1] - l.pads[3];
    return l;
}

/* The graph of one layer and what is fused into it; the node of the convolution. */
static espl__node *build(rig *r, const layer *l) {
    espl__value *x = input_of(r, "x", ESPL_F32, SHAPE(l->batch, l->inputs, l->height, l->width));
    espl__value *w = random_of(r, SHAPE(l->channels, l->inputs, 3, 3), 1 / sqrtf(9 * (float)l->inputs));
    if (l->codes) quantize_constant_of(r, w, 0, ESPL_FORMAT_S8);
    espl__value *in[3] = {x, w, l->bias ? random_of(r, SHAPE(l->channels), 0.5f) : NULL}, *y, *res = NULL;
    espl__node *n = node_of(r, "Conv", l->bias ? 3 : 2, in, 1);
    set_ints(r, n, "pads", 4, l->pads);
    SET_INTS(r, n, "kernel_shape", 3, 3);
    y = done_of(r, n);
    if (l->tail >= RESIDUAL) {
        res = input_of(r, "res", ESPL_F32, y->shape);
        y = APPLY(r, "Add", y, res);
    }
    if (l->tail == RELU || l->tail == RESIDUAL_RELU) y = APPLY(r, "Relu", y);
    if (l->tail == CLIP) y = APPLY(r, "Clip", y, scalar_of(r, -0.5f), scalar_of(r, 0.75f));
    outputs_are(r, res ? 2 : 1, (espl__value *[]){x, res}, 1, &y);
    return n;
}

/* The largest difference from the exact result, relative to its largest element. */
static double error_of(const espl__node *n, const layer *l, const run_io *x) {
    int64_t count = espl_shape_count(&n->outputs[0]->shape);
    double *y = calloc((size_t)count, sizeof *y), most = 0, size = 0;
    float *w = real_of(n->inputs[1]), *bias = l->bias ? real_of(n->inputs[2]) : NULL;
    oracle_conv(n, &n->inputs[0]->shape, &n->inputs[1]->shape, &n->outputs[0]->shape,
                (float *const[]){x->in[0].data, w, bias}, y);
    for (int64_t i = 0; i < count; i++) {
        if (l->tail >= RESIDUAL) y[i] += (double)((const float *)x->in[1].data)[i];
        if (l->tail == RELU || l->tail == RESIDUAL_RELU) y[i] = fmax(y[i], 0);
        if (l->tail == CLIP) y[i] = fmin(fmax(y[i], -0.5), 0.75);
        size = fmax(size, fabs(y[i]));
        most = fmax(most, fabs(y[i] - (double)((const float *)x->out[0].data)[i]));
    }
    free(y);
    free(w);
    free(bias);
    return most / size;
}

static const char *kernel_of(const espl_session *s) {
    for (int i = 0; i < espl_session_layer_count(s); i++)
        if (strcmp(espl_session_layer(s, i).op, "Conv") == 0) return espl_session_layer(s, i).kernel;
    return "";
}

static void random_layers(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    double worst = 0;
    for (uint64_t seed = 0; seed < CASES(30); seed++) {
        rig r;
        rig_begin(&r, ctx, seed);
        layer l = random_layer(&r);
        const espl__node *n = build(&r, &l);
        espl_session *s = session_of(ctx, r.g);
        run_io x = io_of(s, seed);
        run_session(s, &x);
        assert_string_equal(kernel_of(s), "winograd_f32");
        double error = error_of(n, &l, &x);
        worst = fmax(worst, error);
        if (!(error <= TOLERANCE)) {
            print_graph(r.g);
            fail_msg("seed %d: off by %g", (int)seed, error);
        }
        io_free(&x);
        espl_session_destroy(&s);
        espl_graph_destroy(&r.g);
    }
    printf("worst error %.2g of the largest element\n", worst);
    assert_int_equal(espl_context_memory(ctx, NULL), empty_context(1));
    espl_context_destroy(&ctx);
}

/* --- the same bytes everywhere --------------------------------------------------------------- */

static run_io run_at(const espl_graph *g, espl__cpu level, int threads) {
    espl_context *ctx = new_context(threads);
    espl_session *s = session_at(ctx, g, level);
    run_io x = io_of(s, 9);
    run_session(s, &x);
    uint64_t allocations = espl_context_allocations(ctx);
    run_session(s, &x);
    assert_int_equal(espl_context_allocations(ctx), allocations);
    espl_session_destroy(&s);
    espl_context_destroy(&ctx);
    return x;
}

static void every_cpu_and_thread_count_agrees(void **state) {
    (void)state;
    /* Two threads share rows of the first three and blocks of channels of the last two; a row and a column
     * left over, several images in a strip, many strips. */
    static const layer layers[] = {
        {1, 33, 40, 13, 12, {1, 1, 1, 1}, RESIDUAL_RELU, true, false},
        {3, 32, 32, 11, 10, {0, 1, 2, 0}, CLIP, true, false},
        {1, 64, 32, 29, 30, {1, 1, 1, 1}, RELU, true, false},
        {1, 32, 290, 10, 9, {1, 1, 1, 1}, RESIDUAL, true, false},
        {1, 40, 260, 10, 13, {1, 1, 1, 1}, NOTHING, false, false},
    };
    espl_context *ctx = new_context(1);
    for (size_t i = 0; i < ESPL_COUNT(layers); i++) {
        rig r;
        rig_begin(&r, ctx, i);
        const espl__node *n = build(&r, &layers[i]);
        run_io expected = run_at(r.g, ESPL__CPU_REF, 1);
        assert_true(error_of(n, &layers[i], &expected) <= TOLERANCE);
        for (int level = 0; level <= (int)espl__cpu_level(); level = level_after(level))
            for (int threads = 1; threads <= 4; threads *= 2) {
                run_io got = run_at(r.g, (espl__cpu)level, threads);
                assert_memory_equal(got.out[0].data, expected.out[0].data, bytes_of(&expected.out[0]));
                io_free(&got);
            }
        io_free(&expected);
        espl_graph_destroy(&r.g);
    }
    espl_context_destroy(&ctx);
}

/* An image of a batch comes out as it does alone. */
static void the_batch_does_not_matter(void **state) {
    (void)state;
    espl_context *ctx = new_context(2);
    rig many, one;
    layer l = {4, 32, 48, 11, 13, {1, 1, 1, 1}, RELU, true, false};
    rig_begin(&many, ctx, 5);
    (void)build(&many, &l);
    l.batch = 1;
    rig_begin(&one, ctx, 5);
    (void)build(&one, &l);
    espl_session *s = session_of(ctx, many.g), *t = session_of(ctx, one.g);
    run_io x = io_of(s, 1), y = io_of(t, 1);
    run_session(s, &x);
    size_t image = bytes_of(&y.in[0]), result = bytes_of(&y.out[0]);
    for (size_t i = 0; i < 4; i++) {
        memcpy(y.in[0].data, (const char *)x.in[0].data + i * image, image);
        run_session(t, &y);
        assert_memory_equal(y.out[0].data, (const char *)x.out[0].data + i * result, result);
    }
    io_free(&x);
    io_free(&y);
    espl_session_destroy(&s);
    espl_session_destroy(&t);
    espl_graph_destroy(&many.g);
    espl_graph_destroy(&one.g);
    espl_context_destroy(&ctx);
}

/* Few channels, tiny images, strides, dilations and groups stay direct. */
static void what_stays_direct(void **state) {
    (void)state;
    static const struct {
        int64_t inputs, channels, size, stride, dilation, group;
        const char *kernel;
    } rows[] = {{32, 32, 14, 1, 1, 1, "winograd_f32"}, {64, 64, 7, 1, 1, 1, "winograd_f32"},
                {64, 64, 6, 1, 1, 1, "conv_f32"},      {16, 16, 14, 1, 1, 1, "conv_f32"},
                {3, 64, 14, 1, 1, 1, "conv_f32"},      {64, 8, 14, 1, 1, 1, "conv_f32"},
                {512, 64, 7, 1, 1, 1, "conv_f32"},     {32, 32, 14, 2, 1, 1, "conv_f32"},
                {32, 32, 14, 1, 2, 1, "conv_f32"},     {64, 64, 14, 1, 1, 2, "conv_f32"},
                {64, 64, 14, 1, 1, 64, "dwconv_f32"}};
    espl_context *ctx = new_context(1);
    for (size_t i = 0; i < ESPL_COUNT(rows); i++) {
        rig r;
        rig_begin(&r, ctx, i);
        espl__value *x = input_of(&r, "x", ESPL_F32, SHAPE(1, rows[i].inputs, rows[i].size, rows[i].size));
        espl__value *w = random_of(&r, SHAPE(rows[i].channels, rows[i].inputs / rows[i].group, 3, 3), 0.1f);
        espl__node *n = NODE(&r, "Conv", x, w);
        SET_INTS(&r, n, "pads", 1, 1, 1, 1);
        SET_INTS(&r, n, "strides", rows[i].stride, rows[i].stride);
        SET_INTS(&r, n, "dilations", rows[i].dilation, rows[i].dilation);
        set_int(&r, n, "group", rows[i].group);
        espl__value *y = done_of(&r, n);
        IO(&r, x, y);
        espl_session *s = session_of(ctx, r.g);
        assert_string_equal(kernel_of(s), rows[i].kernel);
        espl_session_destroy(&s);
        espl_graph_destroy(&r.g);
    }
    espl_context_destroy(&ctx);
}

/* --- codes ------------------------------------------------------------------------------------ */

/* The layer with weights of codes, between values of codes. */
static void build_codes(rig *r, layer l) {
    l.codes = true;
    (void)build(r, &l);
    for (int i = 0; i < r->g->value_count; i++) {
        espl__value *v = r->g->values[i];
        if (!v->constant && v->producer) quantize_value(r, v, ESPL_FORMAT_U8, 0.02f, (int32_t)pick(r, 0, 1) * 120);
        if (!v->constant && !v->producer) quantize_value(r, v, ESPL_FORMAT_U8, 1 / 127.0f, 128);
    }
}

static bool by_winograd(const espl_session *s) {
    return strstr(kernel_of(s), "winograd") != NULL;
}

/* Sets without VNNI always, those with it where tiles of 4 x 4 pay. */
static bool may_take(espl__cpu level, bool winograd) {
    if (level == ESPL__CPU_AVX2 || level == ESPL__CPU_AVX512) return winograd;
    return !winograd || level == ESPL__CPU_AVXVNNI || level == ESPL__CPU_AVX512VNNI ||
           level == ESPL__CPU_AVX512VBMI;
}

/* In sessions of all levels; counts the ways that they took. */
static int small_taken, large_taken;

static void codes_agree(espl_context *ctx, const espl_graph *g, float fill) {
    ESPL__CPU_LEVELS(level, 0) /* each: the best one is seldom the one meant */
        for (int threads = 1; threads <= 2; threads++) {
            espl_context *own = new_context(threads);
            espl_session *direct = session_at(ctx, g, ESPL__CPU_REF), *s = session_at(own, g, (espl__cpu)level);
            assert_string_equal(kernel_of(direct), "conv_u8");
            assert_true(may_take((espl__cpu)level, by_winograd(s)));
            small_taken += strcmp(kernel_of(s), "winograd_u8") == 0;
            large_taken += strcmp(kernel_of(s), "winograd4_u8") == 0;
            run_io x = io_of(direct, 3), y = io_of(s, 3);
            for (size_t i = 0; fill != 0 && i < bytes_of(&x.in[0]) / sizeof fill; i++)
                ((float *)x.in[0].data)[i] = ((float *)y.in[0].data)[i] = fill;
            run_session(direct, &x);
            run_session(s, &y);
            assert_memory_equal(y.out[0].data, x.out[0].data, bytes_of(&x.out[0]));
            io_free(&x);
            io_free(&y);
            espl_session_destroy(&s);
            espl_session_destroy(&direct);
            espl_context_destroy(&own);
        }
}

static espl__value *weights_of(const espl_graph *g) {
    for (int i = 0; i < g->node_count; i++)
        if (espl__node_is(g->nodes[i], "Conv")) return g->nodes[i]->inputs[1];
    return NULL;
}

/* Both ways give the same codes, so each machine takes the faster one. */
static void codes_are_those_of_the_direct_way(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    for (uint64_t seed = 0; seed < CASES(20); seed++) {
        rig r;
        rig_begin(&r, ctx, seed);
        layer l = random_layer(&r);
        l.inputs += l.inputs % 2;
        if (seed % 2) l.inputs = 128;
        build_codes(&r, l);
        if (seed % 2) /* a channel whose sums are too large for large tiles */
            memset(weights_of(r.g)->constant->data, 127, 128 * 9);
        if (seed % 4 == 1) shift_to_u8(&r, weights_of(r.g));
        codes_agree(ctx, r.g, 0);
        espl_graph_destroy(&r.g);
    }
    /* Threads that share channels. */
    const layer wide = {1, 32, 260, 10, 9, {1, 1, 1, 1}, RESIDUAL, true, true};
    rig r;
    rig_begin(&r, ctx, 7);
    build_codes(&r, wide);
    codes_agree(ctx, r.g, 0);
    espl_graph_destroy(&r.g);
    if (espl__cpu_has(ESPL__CPU_AVX2)) {
        assert_true(small_taken > 0);
        assert_true(large_taken > 0);
    }
    espl_context_destroy(&ctx);
}

/* One layer of codes without a border; `scale` of its output. */
static espl__value *plain_codes(rig *r, int64_t inputs, int64_t channels, int64_t size, float scale, int32_t zero) {
    espl__value *x = input_of(r, "x", ESPL_F32, SHAPE(1, inputs, size, size)),
                *w = random_of(r, SHAPE(channels, inputs, 3, 3), 1);
    quantize_constant_of(r, w, -1, ESPL_FORMAT_S8);
    espl__value *y = APPLY(r, "Conv", x, w);
    quantize_value(r, x, ESPL_FORMAT_U8, 1, 0);
    if (scale > 0) quantize_value(r, y, ESPL_FORMAT_U8, scale, zero);
    IO(r, x, y);
    return w;
}

/* The largest sums there are, of 255 with -128 and with 127; a code is 1/128 of them. */
static void codes_of_the_largest_sums_agree(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    for (int sign = -1; sign <= 1; sign += 2) {
        rig r;
        rig_begin(&r, ctx, 1);
        espl__value *w = plain_codes(&r, 1024, 16, 12, 1, 0);
        const float unit = w->quant.scale[0];
        for (int64_t i = 0; i < 16 * 1024 * 9; i++)
            ((int8_t *)w->constant->data)[i] = (int8_t)(sign < 0 ? -128 + (i % 7 == 0) : 127 - (i % 5 == 0));
        quantize_value(&r, r.g->outputs[0], ESPL_FORMAT_U8, unit * 9 * 1024 * 255, sign < 0 ? 200 : 50);
        codes_agree(ctx, r.g, 255);
        espl_graph_destroy(&r.g);
    }
    espl_context_destroy(&ctx);
}

/* The sums next to 26 bits, which wrapped sums and the division modulo 2^32 must find, and those that go
 * beyond. */
static void codes_next_to_the_limit_agree(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    for (int k = 0; k < 8; k++) {
        rig r;
        rig_begin(&r, ctx, 1);
        espl__value *w = plain_codes(&r, 128, 16, 18, 1, 0);
        const float unit = w->quant.scale[0];
        const int sign = k % 2 ? -1 : 1;
        for (int64_t c = 0; c < 16; c++) {
            int left = ((1 << 25) - 1) / 255 + k / 2 % 2; /* the sum of a channel's codes */
            for (int64_t i = 0; i < 128 * 9; i++) {
                const int code = ESPL_MIN(left, 127);
                ((int8_t *)w->constant->data)[c * 128 * 9 + i] = (int8_t)(sign * code);
                left -= code;
            }
        }
        quantize_value(&r, r.g->outputs[0], ESPL_FORMAT_U8, unit * (1 << 18), sign < 0 ? 200 : 50);
        if (k >= 4) shift_to_u8(&r, w);
        codes_agree(ctx, r.g, 255);
        ESPL__CPU_LEVELS(level, 0) {
            espl_session *s = session_at(ctx, r.g, (espl__cpu)level);
            const bool large = strcmp(kernel_of(s), "winograd4_u8") == 0;
            assert_true(large == (k % 4 < 2 && may_take((espl__cpu)level, true)));
            espl_session_destroy(&s);
        }
        espl_graph_destroy(&r.g);
    }
    espl_context_destroy(&ctx);
}

/* Too many inputs for the sums, pairs that are not there, few channels, tiny images, floats as the result,
 * and weights of which banks may leave out more; too many weights for large tiles. */
static void which_codes_go_which_way(void **state) {
    (void)state;
#define DIRECT "conv_u8" /* or a sparse one */
#define SMALL "winograd_u8"
#define LARGE "winograd4_u8"
    static const struct {
        int64_t inputs, channels, size;
        float scale;
        int left; /* every so many weights are, and the others 0 */
        const char *plain, *vnni;
    } rows[] = {{32, 32, 18, 1, 0, LARGE, LARGE},     {32, 32, 15, 1, 0, LARGE, DIRECT},
                {16, 16, 18, 1, 0, LARGE, DIRECT},    {1024, 16, 12, 1, 0, SMALL, DIRECT},
                {1026, 16, 12, 1, 0, DIRECT, DIRECT}, {33, 32, 18, 1, 0, DIRECT, DIRECT},
                {14, 32, 18, 1, 0, DIRECT, DIRECT},   {32, 8, 18, 1, 0, DIRECT, DIRECT},
                {256, 256, 9, 1, 0, DIRECT, DIRECT},  {32, 32, 8, 1, 0, DIRECT, DIRECT},
                {32, 32, 18, 0, 0, DIRECT, DIRECT},   {32, 32, 18, 1, 2, LARGE, LARGE},
                {32, 32, 18, 1, 4, LARGE, DIRECT},    {32, 32, 18, 1, 9, DIRECT, DIRECT},
                {256, 256, 30, 1, 0, LARGE, LARGE},   {256, 512, 30, 1, 0, SMALL, DIRECT}};
    espl_context *ctx = new_context(1);
    for (size_t i = 0; i < ESPL_COUNT(rows); i++) {
        rig r;
        rig_begin(&r, ctx, i);
        espl__value *w = plain_codes(&r, rows[i].inputs, rows[i].channels, rows[i].size, rows[i].scale, 0);
        for (int64_t k = 0; k < rows[i].channels * rows[i].inputs * 9; k++) {
            int8_t *code = (int8_t *)w->constant->data + k;
            *code = (int8_t)(rows[i].left && k % rows[i].left != 0 ? 0 : *code ? *code : 1);
        }
        ESPL__CPU_LEVELS(level, 0) {
            espl_session *s = session_at(ctx, r.g, (espl__cpu)level);
            const char *way = !may_take((espl__cpu)level, true)   ? DIRECT
                              : may_take((espl__cpu)level, false) ? rows[i].vnni
                                                                  : rows[i].plain;
            if (by_winograd(s) ? strcmp(kernel_of(s), way) != 0 : strcmp(way, DIRECT) != 0)
                fail_msg("row %d, %s: %s, not %s", (int)i, espl__cpu_level_name((espl__cpu)level),
                         kernel_of(s), way);
            espl_session_destroy(&s);
        }
        espl_graph_destroy(&r.g);
    }
    espl_context_destroy(&ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_layers),
        cmocka_unit_test(every_cpu_and_thread_count_agrees),
        cmocka_unit_test(the_batch_does_not_matter),
        cmocka_unit_test(what_stays_direct),
        cmocka_unit_test(codes_are_those_of_the_direct_way),
        cmocka_unit_test(codes_of_the_largest_sums_agree),
        cmocka_unit_test(codes_next_to_the_limit_agree),
        cmocka_unit_test(which_codes_go_which_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
