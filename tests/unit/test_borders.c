/* Convolutions that leave out their products with the border: the results of those that make them all, to the bit. */
#include "graph_oracle.h"

#include <math.h>

typedef struct layer {
    int64_t batch, inputs, channels, height, width, kernel[2], stride[2], dilation, pads[4];
    int32_t zero; /* point of the input */
    bool floats, infinite; /* a weight is infinite: with the border it makes no number, which all must see */
} layer;

/* Mostly the widths whose tiles leave something out: 7, 14 and 28 pixels behind the stride. */
static layer random_layer(rig *r) {
    static const int64_t widths[] = {7, 14, 28, 56};
    layer l = {.batch = pick(r, 1, 2),
               .inputs = chance(r, 70) ? pick(r, 1, 9) : pick(r, 16, 48),
               .channels = pick(r, 20, 70),
               .height = pick(r, 1, 15),
               .kernel = {pick(r, 1, 5), pick(r, 1, 5)},
               .stride = {pick(r, 1, 2), pick(r, 1, 2)},
               .dilation = chance(r, 85) ? 1 : 2,
               .zero = chance(r, 30) ? 0 : (int32_t)pick(r, 1, 255),
               .floats = chance(r, 30)};
    l.infinite = l.floats && chance(r, 20);
    const int64_t out = chance(r, 75) ? widths[pick(r, 0, 3)] : pick(r, 1, 40);
    const int64_t reach_y = (l.kernel[0] - 1) * l.dilation + 1, reach_x = (l.kernel[1] - 1) * l.dilation + 1;
    for (int i = 0; i < 4; i++) l.pads[i] = pick(r, 0, i % 2 ? reach_x : reach_y);
    l.height = ESPL_MAX(l.height, reach_y - l.pads[0] - l.pads[2]);
    l.width = ESPL_MAX((out - 1) * l.stride[1] + reach_x - l.pads[1] - l.pads[3], 1);
    return l;
}

static void build(rig *r, const layer *l) {
    espl__value *x = input_of(r, "x", ESPL_F32, SHAPE(l->batch, l->inputs, l->height, l->width));
    espl__value *w = random_of(r, SHAPE(l->channels, l->inputs, l->kernel[0], l->kernel[1]), 1);
    if (l->infinite) ((float *)w->constant->data)[pick(r, 0, l->channels * l->inputs - 1)] = INFINITY;
    if (!l->floats) quantize_constant_of(r, w, -1, ESPL_FORMAT_S8);
    if (!l->floats && chance(r, 25)) /* what banks hold: a session has both ways then, and takes the faster one */
        for (int64_t i = 0; i < l->channels * l->inputs * l->kernel[0] * l->kernel[1]; i++)
            if (i / (l->kernel[0] * l->kernel[1]) % l->inputs % 16 > 3) ((int8_t *)w->constant->data)[i] = 0;
    espl__value *bias = chance(r, 50) ? random_of(r, SHAPE(l->channels), 1) : NULL;
    if (bias && chance(r, 30)) ((float *)bias->constant->data)[pick(r, 0, l->channels - 1)] = -0.0f;
    espl__node *n = bias ? NODE(r, "Conv", x, w, bias) : NODE(r, "Conv", x, w);
    set_ints(r, n, "pads", 4, l->pads);
    SET_INTS(r, n, "kernel_shape", l->kernel[0], l->kernel[1]);
    SET_INTS(r, n, "strides", l->stride[0], l->stride[1]);
    SET_INTS(r, n, "dilations", l->dilation, l->dilation);
    espl__value *y = done_of(r, n);
    if (!l->floats) quantize_value(r, x, ESPL_FORMAT_U8, 1 / 64.0f, l->zero);
    if (!l->floats && chance(r, 70)) quantize_value(r, y, ESPL_FORMAT_U8, 0.05f * (float)l->inputs, 100);
    IO(r, x, y);
}

static run_io run_at(espl_context *ctx, const espl_graph *g, int level) {
    espl_session *s = session_at(ctx, g, (espl__cpu)level);
    run_io x = io_of(s, 5);
    run_session(s, &x);
    espl_session_destroy(&s);
    return x;
}

/* What is no number has a sign and a payload that may differ. */
static bool same(const espl_tensor *a, const espl_tensor *b) {
    if (a->dtype != ESPL_F32) return memcmp(a->data, b->data, bytes_of(a)) == 0;
    const float *x = a->data, *y = b->data;
    for (size_t i = 0; i < bytes_of(a) / sizeof *x; i++)
        if (memcmp(&x[i], &y[i], sizeof *x) != 0 && !(isnan(x[i]) && isnan(y[i]))) return false;
    return true;
}

static void every_level_agrees(void **state) {
    (void)state;
    espl_context *ctx[2] = {new_context(1), new_context(2)};
    for (uint64_t seed = 0; seed < CASES(150); seed++) {
        rig r;
        rig_begin(&r, ctx[0], seed);
        const layer l = random_layer(&r);
        build(&r, &l);
        run_io want = run_at(ctx[0], r.g, ESPL__CPU_REF);
        ESPL__CPU_LEVELS(level, 1)
            for (int t = 0; t < 2; t++) {
                run_io got = run_at(ctx[t], r.g, level);
                if (!same(&got.out[0], &want.out[0]))
                    fail_msg("seed %d, %s: %d wide, kernel %d x %d, zero point %d%s", (int)seed,
                             espl__cpu_level_name((espl__cpu)level), (int)l.width, (int)l.kernel[0], (int)l.kernel[1], l.zero,
                             l.infinite ? ", an infinite weight" : l.floats ? ", floats" : "");
                io_free(&got);
            }
        io_free(&want);
        espl_graph_destroy(&r.g);
    }
    for (int t = 0; t < 2; t++) {
        assert_int_equal(espl_context_memory(ctx[t], NULL), empty_context(1 + t));
        espl_context_destroy(&ctx[t]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_level_agrees)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
