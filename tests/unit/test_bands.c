/* Layers around a depthwise convolution in bands of rows: the same bytes as one layer after the other. */
#include "graph_oracle.h"

#include "runtime/plan.h"

typedef struct chain {
    int64_t batch, inputs, wide, outputs, height, width; /* outputs 0: nothing narrows */
    int64_t first, first_stride;                         /* kernel of the layer that widens */
    int64_t kernel, stride, dilation, pads[4];           /* of the depthwise one */
    bool residual, bias;
} chain;

static chain random_chain(rig *r) {
    chain c = {.batch = chance(r, 60) ? 1 : pick(r, 2, 3),
               .inputs = pick(r, 3, 20),
               .wide = pick(r, 60, 130),
               .outputs = chance(r, 70) ? pick(r, 4, 30) : 0,
               .height = pick(r, 45, 60),
               .width = pick(r, 45, 60),
               .first = chance(r, 70) ? 1 : 5,
               .first_stride = 1,
               .kernel = chance(r, 60) ? 3 : 5,
               .stride = pick(r, 1, 2),
               .dilation = chance(r, 80) ? 1 : 2,
               .residual = chance(r, 40),
               .bias = chance(r, 70)};
    for (int i = 0; i < 4; i++) c.pads[i] = pick(r, i == 1, 3);
    if (!c.outputs || !c.residual) return c;
    c.outputs = c.inputs; /* as in MobileNetV2 */
    c.first = c.stride = 1;
    for (int i = 0; i < 4; i++) c.pads[i] = c.dilation * (c.kernel / 2);
    return c;
}

static espl__value *conv_of(rig *r, const chain *c, espl__value *x, int64_t channels, int64_t group,
                            int64_t kernel, int64_t stride, int64_t dilation, const int64_t pads[4]) {
    const int64_t inputs = x->shape.dim[1] / group;
    espl__value *w =
        random_of(r, SHAPE(channels, inputs, kernel, kernel), 1 / sqrtf((float)(inputs * kernel * kernel)));
    espl__value *in[3] = {x, w, c->bias ? random_of(r, SHAPE(channels), 0.5f) : NULL};
    espl__node *n = node_of(r, "Conv", c->bias ? 3 : 2, in, 1);
    set_ints(r, n, "pads", 4, pads);
    SET_INTS(r, n, "kernel_shape", kernel, kernel);
    SET_INTS(r, n, "strides", stride, stride);
    SET_INTS(r, n, "dilations", dilation, dilation);
    set_int(r, n, "group", group);
    return done_of(r, n);
}

static void build(rig *r, const chain *c) {
    static const int64_t none[4];
    espl__value *x = input_of(r, "x", ESPL_F32, SHAPE(c->batch, c->inputs, c->height, c->width));
    espl__value *front = conv_of(r, c, x, c->inputs, 1, 1, 1, 1, none), *y;
    y = conv_of(r, c, front, c->wide, 1, c->first, c->first_stride, 1, none);
    y = APPLY(r, "Clip", y, scalar_of(r, 0), scalar_of(r, 0.75f));
    y = APPLY(r, "Relu", conv_of(r, c, y, c->wide, c->wide, c->kernel, c->stride, c->dilation, c->pads));
    if (c->outputs) y = conv_of(r, c, y, c->outputs, 1, 1, 1, 1, none);
    if (c->outputs && c->residual) y = APPLY(r, "Add", y, front);
    outputs_are(r, 1, &x, 1, &y);
}

/* How many layers the session has; it runs one by one the layers that it times. */
static run_io run_at(const espl_graph *g, espl__cpu level, int threads, bool timed, int *layers) {
    espl_context *ctx = new_context(threads);
    espl_session_options options = {.profile = timed};
    espl_session *s = NULL;
    const espl__cpu before = espl__cpu_level();
    espl__cpu_use(level);
    assert_int_equal(espl_session_create(ctx, g, &options, &s, NULL), ESPL_OK);
    espl__cpu_use(before);
    run_io x = io_of(s, 9);
    run_session(s, &x);
    uint64_t allocations = espl_context_allocations(ctx);
    run_session(s, &x);
    assert_int_equal(espl_context_allocations(ctx), allocations);
    *layers = espl_session_layer_count(s);
    espl_session_destroy(&s);
    espl_context_destroy(&ctx);
    return x;
}

static void same_bytes(const espl_graph *g, int joined) {
    int alone, together;
    run_io expected = run_at(g, espl__cpu_level(), 1, true, &alone);
    for (int level = ESPL__CPU_AVX2; level <= (int)espl__cpu_level(); level = level_after(level))
        for (int threads = 1; threads <= 3; threads++) {
            run_io got = run_at(g, (espl__cpu)level, threads, false, &together);
            assert_int_equal(together, alone - joined);
            assert_memory_equal(got.out[0].data, expected.out[0].data, bytes_of(&expected.out[0]));
            io_free(&got);
        }
    io_free(&expected);
}

static void random_chains(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    for (uint64_t seed = 0; seed < CASES(12); seed++) {
        rig r;
        rig_begin(&r, ctx, seed);
        chain c = random_chain(&r);
        build(&r, &c);
        same_bytes(r.g, c.outputs ? 2 : 1);
        espl_graph_destroy(&r.g);
    }
    assert_int_equal(espl_context_memory(ctx, NULL), empty_context(1));
    espl_context_destroy(&ctx);
}

/* What fits the cache anyway, and what another layer reads too, is made at once. */
static void what_stays_whole(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    rig r;
    rig_begin(&r, ctx, 1);
    chain small = {1, 8, 64, 16, 30, 30, 1, 1, 3, 1, 1, {1, 1, 1, 1}, false, true};
    build(&r, &small);
    same_bytes(r.g, 0);
    espl_graph_destroy(&r.g);

    static const int64_t none[4], one[4] = {1, 1, 1, 1};
    rig_begin(&r, ctx, 2);
    espl__value *x = input_of(&r, "x", ESPL_F32, SHAPE(1, 8, 60, 60)), *out[2];
    espl__value *wide = conv_of(&r, &small, x, 64, 1, 1, 1, 1, none);
    out[0] = conv_of(&r, &small, wide, 64, 64, 3, 1, 1, one);
    out[1] = conv_of(&r, &small, wide, 8, 1, 1, 1, 1, none);
    outputs_are(&r, 1, &x, 2, out);
    same_bytes(r.g, 0);
    espl_graph_destroy(&r.g);

    /* The depthwise layer's output is added to what the narrowing one makes of it. */
    rig_begin(&r, ctx, 3);
    x = input_of(&r, "x", ESPL_F32, SHAPE(1, 8, 60, 60));
    out[1] = conv_of(&r, &small, x, 8, 1, 1, 1, 1, none);
    out[0] = conv_of(&r, &small, conv_of(&r, &small, out[1], 64, 1, 1, 1, 1, none), 64, 64, 3, 1, 1, one);
    out[0] = APPLY(&r, "Add", conv_of(&r, &small, out[0], 64, 1, 1, 1, 1, none), out[0]);
    outputs_are(&r, 1, &x, 1, out);
    same_bytes(r.g, 1);
    espl_graph_destroy(&r.g);
    espl_context_destroy(&ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_chains),
        cmocka_unit_test(what_stays_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
