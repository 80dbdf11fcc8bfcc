/* Convolution and pooling over one dimension on the kernels, against the operators' references. */
#include "graph_build.h"

#include "runtime/plan.h"

#define TOLERANCE 1e-5

static const char *kernel_of(const espl_session *s, const char *op) {
    for (int i = 0; i < espl_session_layer_count(s); i++)
        if (strcmp(espl_session_layer(s, i).op, op) == 0) return espl_session_layer(s, i).kernel;
    return "";
}

static int steps_of(const espl_session *s, const char *kernel) {
    int count = 0;
    for (int i = 0; i < s->step_count; i++) count += strcmp(s->steps[i]->kernel, kernel) == 0;
    return count;
}

static void expect_reference(espl_context *ctx, const espl_graph *g, const run_io *x, const char *what) {
    espl_tensor expected[8];
    run_reference_of(ctx, g, x->in, expected);
    for (int i = 0; i < x->outputs; i++) {
        double error = difference(&x->out[i], &expected[i]);
        if (!(error <= TOLERANCE)) {
            print_graph(g);
            fail_msg("%s: output %d is off by %g", what, i, error);
        }
        espl_tensor_free(ctx, &expected[i]);
    }
}

static void check_and_end(rig *r, const char *op, const char *kernel) {
    espl_session *s = session_of(r->ctx, r->g);
    run_io x = io_of(s, 11);
    run_session(s, &x);
    expect_reference(r->ctx, r->g, &x, op);
    assert_string_equal(kernel_of(s, op), kernel);
    io_free(&x);
    espl_session_destroy(&s);
    espl_graph_destroy(&r->g);
}

/* --- one convolution ---------------------------------------------------------------------------- */

static espl__value *random_conv(rig *r, espl__value *x) {
    int64_t in = x->shape.dim[1], groups = chance(r, 30) ? in : chance(r, 20) && in % 2 == 0 ? 2 : 1;
    int64_t out = groups == in ? in * (chance(r, 80) ? 1 : 2) : groups * pick(r, 1, 12), k = pick(r, 1, 5);
    espl__value *w = random_of(r, SHAPE(out, in / groups, k), 0.3f);
    espl__node *n =
        chance(r, 50) ? NODE(r, "Conv", x, w) : NODE(r, "Conv", x, w, random_of(r, SHAPE(out), 0.3f));
    if (chance(r, 70)) SET_INTS(r, n, "kernel_shape", k);
    if (chance(r, 50)) SET_INTS(r, n, "strides", pick(r, 1, 3));
    if (chance(r, 40)) SET_INTS(r, n, "dilations", pick(r, 1, 2));
    set_int(r, n, "group", groups);
    if (chance(r, 30))
        assert_true(espl__attr_set_string(r->g, n, "auto_pad", chance(r, 50) ? "SAME_UPPER" : "SAME_LOWER"));
    else
        SET_INTS(r, n, "pads", pick(r, 0, 3), pick(r, 0, 3));
    return done_of(r, n);
}

static void random_convolutions(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    uint64_t before = espl_context_memory(ctx, NULL);
    for (uint64_t seed = 0; seed < CASES(300); seed++) {
        rig r;
        rig_begin(&r, ctx, seed);
        espl__value *x =
            input_of(&r, "x", ESPL_F32, SHAPE(pick(&r, 1, 3), pick(&r, 1, 20), pick(&r, 11, 60)));
        espl__value *y = random_conv(&r, x);
        IO(&r, x, y);
        bool depthwise = y->shape.dim[1] == x->shape.dim[1] && x->shape.dim[1] > 1 &&
                         espl__attr_int(r.g->nodes[0], "group", 1) == x->shape.dim[1];
        check_and_end(&r, "Conv", depthwise ? "dwconv_f32" : "conv_f32");
    }
    assert_int_equal(espl_context_memory(ctx, NULL), before);
    espl_context_destroy(&ctx);
}

/* --- networks ------------------------------------------------------------------------------------- */

static espl__value *pool(rig *r, const char *op, espl__value *x) {
    espl__node *n = NODE(r, op, x);
    SET_INTS(r, n, "kernel_shape", 3);
    SET_INTS(r, n, "strides", 2);
    SET_INTS(r, n, "pads", 1, 0);
    if (strcmp(op, "AveragePool") == 0) set_int(r, n, "count_include_pad", chance(r, 50));
    return done_of(r, n);
}

/* Residual blocks, a concatenation, constants of several ranks, a value that others than convolutions read.
 */
static void networks(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    for (uint64_t seed = 0; seed < CASES(40); seed++) {
        rig r;
        rig_begin(&r, ctx, seed);
        espl__value *x = input_of(&r, "x", ESPL_F32, SHAPE(2, 3, 50)), *h, *wide;
        espl__node *n =
            NODE(&r, "Conv", x, random_of(&r, SHAPE(8, 3, 5), 0.3f), random_of(&r, SHAPE(8), 0.3f));
        SET_INTS(&r, n, "pads", 2, 2);
        h = APPLY(&r, "Relu", done_of(&r, n));
        n = NODE(&r, "Conv", h, random_of(&r, SHAPE(8, 8, 3), 0.2f));
        SET_INTS(&r, n, "pads", 1, 1);
        h = APPLY(&r, "Relu", APPLY(&r, "Add", done_of(&r, n), h));
        h = APPLY(&r, "Mul", h, random_of(&r, chance(&r, 50) ? SHAPE(8, 1) : SHAPE(1, 8, 1), 1));
        h = APPLY(&r, "Add", random_of(&r, chance(&r, 50) ? SHAPE(50) : SHAPE(1, 1, 50), 1), h);
        h = pool(&r, chance(&r, 50) ? "MaxPool" : "AveragePool", h);
        n = NODE(&r, "Concat", h, APPLY(&r, "Sigmoid", h));
        set_int(&r, n, "axis", chance(&r, 50) ? 1 : -2);
        wide = done_of(&r, n);
        n = NODE(&r, "Concat", wide, wide);
        set_int(&r, n, "axis", chance(&r, 50) ? 2 : -1);
        h = done_of(&r, n);
        espl__value *mean = APPLY(&r, "Flatten", APPLY(&r, "GlobalAveragePool", h));
        espl__value *sums = APPLY(&r, "Transpose", wide);
        IO(&r, x, mean, sums, h);
        check_and_end(&r, "Conv", "conv_f32");
    }
    espl_context_destroy(&ctx);
}

/* A chain stays in one layout: one conversion in, one out and from there to the caller, and the clamps are
 * fused. */
static void chains_convert_once(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    rig r;
    rig_begin(&r, ctx, 1);
    espl__value *x = input_of(&r, "x", ESPL_F32, SHAPE(1, 4, 64)), *h = x;
    for (int i = 0; i < 4; i++) {
        espl__node *n = NODE(&r, "Conv", h, random_of(&r, SHAPE(4, 4, 3), 0.3f));
        SET_INTS(&r, n, "pads", 1, 1);
        h = APPLY(&r, "Relu", done_of(&r, n));
    }
    IO(&r, x, h);
    espl_session *s = session_of(ctx, r.g);
    assert_int_equal(steps_of(s, "conv_f32"), 4);
    assert_int_equal(steps_of(s, "copy"), 3);
    assert_int_equal(s->step_count, 7 + steps_of(s, "halo"));
    espl_session_destroy(&s);
    espl_graph_destroy(&r.g);
    espl_context_destroy(&ctx);
}

/* --- integers -------------------------------------------------------------------------------------- */

/* The same network in one and in two dimensions, quantized: the same codes, whatever the CPU. */
static espl__value *quantized_net(rig *r, bool flat) {
    espl__value *x = input_of(r, "x", ESPL_F32, flat ? SHAPE(2, 6, 40) : SHAPE(2, 6, 1, 40)), *h = x;
    quantize_value(r, x, ESPL_FORMAT_U8, 0.02f, 120);
    for (int i = 0; i < 3; i++) {
        int64_t in = h->shape.dim[1], group = i == 1 ? in : 1, out = i == 1 ? in : 16;
        espl__value *w = random_of(r, flat ? SHAPE(out, in / group, 3) : SHAPE(out, in / group, 1, 3), 0.3f);
        quantize_constant_of(r, w, 0, ESPL_FORMAT_S8);
        w->dtype = ESPL_F32;
        espl__node *n = NODE(r, "Conv", h, w, random_of(r, SHAPE(out), 0.2f));
        set_int(r, n, "group", group);
        if (flat)
            SET_INTS(r, n, "pads", 1, 1);
        else
            SET_INTS(r, n, "pads", 0, 1, 0, 1);
        h = APPLY(r, "Relu", done_of(r, n));
        quantize_value(r, h, ESPL_FORMAT_U8, 0.05f, 0);
    }
    espl__value *mean = APPLY(r, "GlobalAveragePool", h);
    quantize_value(r, mean, ESPL_FORMAT_U8, 0.01f, 0);
    espl__value *y = APPLY(r, "Flatten", mean);
    quantize_value(r, y, ESPL_FORMAT_U8, 0.01f, 0);
    IO(r, x, y);
    return y;
}

static void integers_equal_two_dimensions(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    run_io first = {0};
    for (int flat = 0; flat < 2; flat++)
        ESPL__CPU_LEVELS(level, 0) {
            rig r;
            rig_begin(&r, ctx, 5);
            (void)quantized_net(&r, flat);
            espl_session *s = session_at(ctx, r.g, (espl__cpu)level);
            assert_int_equal(steps_of(s, "conv_u8"), 2);
            assert_int_equal(steps_of(s, "dwconv_u8"), 1);
            assert_int_equal(steps_of(s, "reference"), 0);
            run_io x = io_of(s, 3);
            run_session(s, &x);
            if (!first.outputs) {
                first = x;
            } else {
                assert_memory_equal(x.out[0].data, first.out[0].data, bytes_of(&x.out[0]));
                io_free(&x);
            }
            espl_session_destroy(&s);
            espl_graph_destroy(&r.g);
        }
    io_free(&first);
    espl_context_destroy(&ctx);
}

/* --- observers ---------------------------------------------------------------------------------------- */

typedef struct seen {
    int times;
    float least;
} seen;

static void observe(void *user, int value, const char *name, const float *data, int64_t count) {
    seen *s = &((seen *)user)[value];
    (void)name;
    s->times++;
    for (int64_t i = 0; i < count; i++) s->least = fminf(s->least, data[i]);
}

/* An observer sees every value of the graph that it knows, under its id there. */
static void observers_see_every_value(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    rig r;
    rig_begin(&r, ctx, 1);
    espl__value *x = input_of(&r, "x", ESPL_F32, SHAPE(1, 4, 20));
    espl__value *a = APPLY(&r, "Conv", x, random_of(&r, SHAPE(4, 4, 3), 1)), *b = APPLY(&r, "Relu", a);
    IO(&r, x, b);
    seen values[16] = {0};
    espl_session *s = NULL;
    espl_session_options options = {.observer = observe, .observer_user = values};
    assert_int_equal(espl_session_create(ctx, r.g, &options, &s, NULL), ESPL_OK);
    run_io io = io_of(s, 1);
    run_session(s, &io);
    assert_true(values[x->id].times > 0 && values[a->id].times > 0 && values[b->id].times > 0);
    assert_true(values[a->id].least < 0 && values[b->id].least == 0);
    io_free(&io);
    espl_session_destroy(&s);
    espl_graph_destroy(&r.g);
    espl_context_destroy(&ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_convolutions),       cmocka_unit_test(networks),
        cmocka_unit_test(chains_convert_once),       cmocka_unit_test(integers_equal_two_dimensions),
        cmocka_unit_test(observers_see_every_value),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
