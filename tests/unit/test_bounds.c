/* Relu, Clip, and Max and Min with one number, as bounds of the step before. */
#include "graph_oracle.h"

#include <math.h>

/* Max and Min with one number are bounds, which the step before takes in; NaN passes, or comes from the number. */
static void bounds_behind_a_function(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    for (int kind = 0; kind < 24; kind++) {
        const int order = kind % 4, codes = kind / 4 % 2;
        const float least = kind < 8 ? -0.4f : kind < 16 ? 0.1f : NAN;
        rig r;
        rig_begin(&r, ctx, 4);
        espl__value *x = input_of(&r, "x", ESPL_F32, SHAPE(2, 5, 7));
        espl__value *c = constant_of(&r, ESPL_F32, order == 3 ? SHAPE(1, 1, 1, 1) : SHAPE(1), &least);
        espl__node *n = NODE(&r, "LeakyRelu", x);
        espl__attr_set_float(r.g, n, "alpha", 0.25f);
        espl__value *v = done_of(&r, n);
        espl__value *y = order == 1 ? APPLY(&r, "Max", c, v) : APPLY(&r, "Max", v, c);
        if (order == 2) y = APPLY(&r, "Min", y, scalar_of(&r, 0.5f));
        if (codes) {
            quantize_value(&r, x, ESPL_FORMAT_S8, 1 / 64.0f, 0);
            quantize_value(&r, y, ESPL_FORMAT_S8, 1 / 64.0f, 0);
        }
        IO(&r, x, y);
        espl_session *s = session_of(ctx, r.g);
        run_io io = io_of(s, 3);
        float *in = io.in[0].data;
        if (!codes) in[3] = NAN, in[4] = INFINITY, in[5] = -INFINITY;
        run_session(s, &io);
        const float *out = io.out[0].data;
        for (int i = 0; i < 70; i++) {
            const float code = roundf(fminf(fmaxf(in[i] * 64, -128), 127)) / 64, from = codes ? code : in[i];
            float want = from < 0 ? from / 4 : from;
            want = want < least || isnan(least) ? least : want;
            if (order == 2 && want > 0.5f) want = 0.5f;
            if (isnan(want) ? !(codes || isnan(out[i])) : !(out[i] == want || fabsf(out[i] - want) < (codes ? 0.009f : 1e-6f)))
                fail_msg("kind %d: %g for %g, not %g", kind, (double)out[i], (double)in[i], (double)want);
        }
        io_free(&io);
        espl_session_destroy(&s);
        espl_graph_destroy(&r.g);
    }
    espl_context_destroy(&ctx);
}

static void look_away(void *user, int value, const char *name, const float *data, int64_t count) {
    (void)user, (void)value, (void)name, (void)data, (void)count;
}

/* A convolution with a residual and bounds behind it, of which some have none in common. */
static void build_bounded_sum(rig *r, int kind, espl__value *values[6]) {
    static const struct {
        const char *op;
        float number;
    } bounds[][2] = {{{"Max", -0.5f}, {"Min", 1.5f}}, {{"Max", 1}, {"Min", -1}}, {{"Max", 0}, {"Min", -1}}, {{"Min", 0.5f}, {"Max", 1}}};
    espl__value *x = input_of(r, "x", ESPL_F32, SHAPE(1, 8, 6, 7));
    espl__value *w[2] = {random_of(r, SHAPE(20, 8, 1, 1), 1), random_of(r, SHAPE(20, 8, 1, 1), 1)};
    for (int i = 0; i < 2; i++) quantize_constant_of(r, w[i], -1, ESPL_FORMAT_S8);
    espl__value *q = done_of(r, NODE(r, "Conv", x, w[0])), *y = done_of(r, NODE(r, "Conv", x, w[1]));
    espl__value *sum = APPLY(r, "Add", y, q);
    espl__value *v = kind < 4 ? APPLY(r, bounds[kind][0].op, sum, scalar_of(r, bounds[kind][0].number)) : APPLY(r, "Relu", sum);
    espl__value *z = kind < 4 ? APPLY(r, bounds[kind][1].op, v, scalar_of(r, bounds[kind][1].number)) : v;
    quantize_value(r, x, ESPL_FORMAT_U8, 1 / 64.0f, 128);
    quantize_value(r, q, ESPL_FORMAT_U8, 1 / 32.0f, 128);
    quantize_value(r, y, ESPL_FORMAT_U8, 1 / 32.0f, 128);
    quantize_value(r, z, ESPL_FORMAT_U8, 1 / 32.0f, 100);
    memcpy(values, (espl__value *[]){x, q, y, sum, v, z}, 6 * sizeof *values);
    IO(r, x, z);
}

/* Whatever is observed in between, and whatever bounds follow, the residual is added. */
static void bounded_sums_keep_their_residual(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    for (int kind = 0; kind < 5; kind++) {
        rig r;
        espl__value *v[6];
        rig_begin(&r, ctx, 9);
        build_bounded_sum(&r, kind, v);
        espl_graph *wide = NULL;
        assert_int_equal(espl__graph_clone(r.g, &wide, NULL), ESPL_OK);
        all_values_are_outputs(wide);
        espl_session *every = session_of(ctx, wide);
        run_io want = io_of(every, 3);
        run_session(every, &want);
        int last = 0;
        while (wide->outputs[last]->id != v[5]->id) last++;
        for (int mask = 0; mask < 64; mask++) {
            bool wants[256] = {0};
            for (int i = 0; i < 6; i++) wants[v[i]->id] |= mask >> i & 1;
            espl_session_options options = {.observer = look_away, .observed = wants};
            espl_session *s = NULL;
            assert_int_equal(espl_session_create(ctx, r.g, mask ? &options : NULL, &s, NULL), ESPL_OK);
            run_io io = io_of(s, 3);
            run_session(s, &io);
            for (int i = 0; i < 20 * 6 * 7; i++) /* what is not rounded in between may tip a code */
                if (fabsf(((const float *)io.out[0].data)[i] - ((const float *)want.out[last].data)[i]) > 1.01f / 32)
                    fail_msg("kind %d, observed %d: element %d is %g, not %g", kind, mask, i,
                             (double)((const float *)io.out[0].data)[i], (double)((const float *)want.out[last].data)[i]);
            io_free(&io);
            espl_session_destroy(&s);
        }
        io_free(&want);
        espl_session_destroy(&every);
        espl_graph_destroy(&wide);
        espl_graph_destroy(&r.g);
    }
    espl_context_destroy(&ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bounds_behind_a_function),
        cmocka_unit_test(bounded_sums_keep_their_residual),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
