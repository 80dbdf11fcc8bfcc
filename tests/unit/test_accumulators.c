/* Accumulators: how wide they must be against sums over all inputs (tests/oracle/make_accumulator_fixtures.py), what narrow
 * ones do to a network, and requantization in integers against fractions. */
#include "graph_oracle.h"

#include "compress/compress.h"
#include "compress/quant/accumulator.h"
#include "kernels/kernels.h"
#include "tensor/fixed.h"

static FILE *fixture(const char *name) {
    char path[4096];
    snprintf(path, sizeof path, ESPL_SOURCE_DIR "/tests/fixtures/accumulators/%s", name);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    return f;
}

/* --- against Python's integers ----------------------------------------------------------------------------- */

static void bounds_are_those_of_all_inputs(void **state) {
    char line[256];
    int cases = 0;
    FILE *f = fixture("sums.txt");
    (void)state;
    while (fgets(line, sizeof line, f)) {
        int lo, hi, start, at, n, count = 0, w, least, most, bits;
        int8_t weights[16];
        assert_int_equal(sscanf(line, "%d %d %d%n", &lo, &hi, &start, &at), 3);
        for (; sscanf(line + at, "%d%n", &w, &n) == 1; at += n) weights[count++] = (int8_t)w;
        assert_int_equal(sscanf(line + at, " | %d %d %d", &least, &most, &bits), 3);
        espl__bounds b = espl__accumulator_bounds(weights, count, 1, start, lo, hi);
        if (b.lo != least || b.hi != most) fail_msg("%s: %d to %d", line, (int)b.lo, (int)b.hi);
        assert_int_equal(espl__accumulator_bits(b), bits);
        cases++;
    }
    fclose(f);
    assert_true(cases >= 100);
}

static void fixed_point_is_that_of_fractions(void **state) {
    char line[256];
    int cases = 0;
    FILE *f = fixture("fixed.txt");
    (void)state;
    while (fgets(line, sizeof line, f)) {
        double real;
        long long multiplier, shift, a, result;
        assert_int_equal(sscanf(line, "%la %lld %lld %lld %lld", &real, &multiplier, &shift, &a, &result), 5);
        espl__fixed m = espl__fixed_from(real);
        if (m.multiplier != multiplier || m.shift != shift) fail_msg("%s: %d, %d", line, m.multiplier, m.shift);
        if (espl__fixed_multiply((int32_t)a, m) != result) fail_msg("%s: %d", line, espl__fixed_multiply((int32_t)a, m));
        cases++;
    }
    fclose(f);
    assert_true(cases > 500);
}

static void odd_multipliers_are_the_nearest_there_are(void **state) {
    (void)state;
    static const double small[] = {0, 0x1p-33, 1e-300, 0x1.fffffffffffffp-33}, large[] = {0x1p31, 1e300, INFINITY, NAN};
    for (size_t i = 0; i < ESPL_COUNT(small); i++) {
        assert_int_equal(espl__fixed_multiply(INT32_MAX, espl__fixed_from(small[i])), 0);
        assert_int_equal(espl__fixed_multiply(INT32_MIN, espl__fixed_from(small[i])), 0);
    }
    for (size_t i = 0; i < ESPL_COUNT(large); i++) {
        assert_int_equal(espl__fixed_multiply(1, espl__fixed_from(large[i])), INT32_MAX);
        assert_int_equal(espl__fixed_multiply(-2, espl__fixed_from(large[i])), INT32_MIN);
    }
    assert_int_equal(espl__fixed_requantize(INT32_MAX, espl__fixed_from(1), INT32_MAX, -128, 127), 127);
    assert_int_equal(espl__fixed_requantize(7, espl__fixed_from(0.5), 3, 0, 255), 7); /* 3.5 goes up */
    assert_int_equal(espl__fixed_requantize(-7, espl__fixed_from(0.5), 3, 0, 255), 0);
}

/* --- networks -------------------------------------------------------------------------------------------- */

static void widen(void *user, int value, const char *name, const float *data, int64_t count) {
    range *r = &((range *)user)[value];
    (void)name;
    for (int64_t i = 0; i < count; i++) {
        r->min = fminf(r->min, data[i]);
        r->max = fmaxf(r->max, data[i]);
    }
    r->seen++;
}

/* A quantized copy, by the ranges of one run. */
static espl_graph *quantized(espl_context *ctx, const espl_graph *f32, uint64_t seed, espl_format weights,
                             espl_flavour flavour) {
    range *ranges = calloc((size_t)f32->value_count + 1, sizeof *ranges);
    decision *d = calloc((size_t)f32->node_count + 1, sizeof *d);
    espl_session *s = NULL;
    espl_graph *g = NULL;
    espl_diag diag = {0};
    espl_session_options options = {.observer = widen, .observer_user = ranges};
    assert_int_equal(espl_session_create(ctx, f32, &options, &s, NULL), ESPL_OK);
    run_io io = io_of(s, seed);
    run_session(s, &io);
    for (int i = 0; i < f32->node_count; i++)
        d[i] = (decision){.weights = weights, .integer = true, .per_tensor = seed % 5 == 0};
    assert_int_equal(espl__graph_clone(f32, &g, NULL), ESPL_OK);
    if (espl__ptq_apply(g, ranges, d, flavour, &diag) != ESPL_OK) fail_msg("%s", diag.message);
    io_free(&io);
    espl_session_destroy(&s);
    free(ranges);
    free(d);
    return g;
}

static espl_session *session_with(espl_context *ctx, const espl_graph *g, espl_arithmetic arithmetic) {
    espl_session *s = NULL;
    espl_diag diag = {0};
    espl_session_options options = {.arithmetic = arithmetic};
    if (espl_session_create(ctx, g, &options, &s, &diag) != ESPL_OK) fail_msg("%s", diag.message);
    return s;
}

/* The outputs of the graph under this arithmetic, on the input of `seed`, are those of this machine's own. */
static bool same_outputs(espl_context *ctx, const espl_graph *g, uint64_t seed, espl_arithmetic arithmetic) {
    espl_session *a = session_with(ctx, g, (espl_arithmetic){0}), *b = session_with(ctx, g, arithmetic);
    run_io p = io_of(a, seed), q = io_of(b, seed);
    run_session(a, &p);
    run_session(b, &q);
    bool same = true;
    for (int i = 0; i < p.outputs; i++) same &= memcmp(p.out[i].data, q.out[i].data, bytes_of(&p.out[i])) == 0;
    io_free(&p);
    io_free(&q);
    espl_session_destroy(&a);
    espl_session_destroy(&b);
    return same;
}

static espl_graph *random_network(espl_context *ctx, uint64_t seed, espl_flavour flavour) {
    random_graph x;
    espl_diag diag = {0};
    random_graph_of(&x, ctx, seed, 8, true);
    if (espl__passes_run(x.r.g, &diag) != ESPL_OK) fail_msg("%s", diag.message);
    espl_graph *g = quantized(ctx, x.r.g, seed, seed % 4 ? ESPL_FORMAT_S8 : ESPL_FORMAT_S4, flavour);
    espl_graph_destroy(&x.r.g);
    return g;
}

static int widest(const espl_graph *g, int *layers) {
    int bits = 2;
    for (int i = 0; i < g->node_count; i++) {
        int of = espl__accumulator_of(g, g->nodes[i]).bits;
        bits = ESPL_MAX(bits, of);
        *layers += of > 0;
    }
    return bits;
}

/* Whenever the proof says that P bits suffice, sums of P bits are those of 32, whether they would wrap or saturate. */
static void proven_bits_change_nothing(void **state) {
    (void)state;
    espl_context *ctx = new_context(2);
    int layers = 0;
    for (uint64_t seed = 0; seed < 60; seed++) {
        espl_graph *g = random_network(ctx, 7700 + seed, (espl_flavour)(seed % ESPL_FLAVOUR_COUNT));
        int bits = widest(g, &layers);
        for (int saturate = 0; saturate < 2; saturate++) {
            if (!same_outputs(ctx, g, seed, (espl_arithmetic){.accumulator_bits = bits, .saturate = saturate}))
                fail_msg("seed %d: %d bits, which are proven, give something else", (int)seed, bits);
            if (!same_outputs(ctx, g, seed, (espl_arithmetic){.accumulator_bits = 32, .saturate = saturate}))
                fail_msg("seed %d: 32 bits give something else", (int)seed);
        }
        espl_graph_destroy(&g);
    }
    printf("%d layers\n", layers);
    assert_true(layers >= 30);
    espl_context_destroy(&ctx);
}

/* Integers instead of a float move a code by one at most, and hardly any. */
static void fixed_requantization_is_near(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    int64_t all = 0, other = 0;
    for (uint64_t seed = 0; seed < 20; seed++) {
        rig r;
        rig_begin(&r, ctx, 500 + seed);
        espl__value *x = input_of(&r, "x", ESPL_F32, SHAPE(1, 6, 12, 12));
        IO(&r, x, APPLY(&r, "Relu", APPLY(&r, "Conv", x, random_of(&r, SHAPE(20, 6, 3, 3), 1), random_of(&r, SHAPE(20), 1))));
        espl_graph *g = quantized(ctx, r.g, seed, ESPL_FORMAT_S8, (espl_flavour)(seed % ESPL_FLAVOUR_COUNT));
        espl__value *y = g->outputs[0];
        float scale = 1.0f / 16;
        int32_t zero = 0;
        assert_true(espl__graph_set_quant(g, y, ESPL_FORMAT_S8, -1, 1, &scale, &zero));
        espl_session *a = session_with(ctx, g, (espl_arithmetic){0}),
                     *b = session_with(ctx, g, (espl_arithmetic){.accumulator_bits = 32, .fixed = true});
        run_io p = io_of(a, seed), q = io_of(b, seed);
        run_session(a, &p);
        run_session(b, &q);
        for (int64_t i = 0; i < espl_shape_count(&p.out[0].shape); i++) {
            float d = ((float *)p.out[0].data)[i] - ((float *)q.out[0].data)[i];
            assert_true(fabsf(d) <= scale);
            other += d != 0;
            all++;
        }
        io_free(&p);
        io_free(&q);
        espl_session_destroy(&a);
        espl_session_destroy(&b);
        espl_graph_destroy(&g);
        espl_graph_destroy(&r.g);
    }
    printf("%d of %d codes differ\n", (int)other, (int)all);
    assert_true(other * 500 < all);
    espl_context_destroy(&ctx);
}

/* A matrix product on a grid of scale 1, so that inputs are codes; `affine`: u8 with this zero point. */
static espl_graph *product(espl_context *ctx, uint64_t seed, int64_t k, int64_t rows, bool affine, int32_t zero,
                           espl__node **node) {
    rig r;
    rig_begin(&r, ctx, seed);
    espl__value *x = input_of(&r, "x", ESPL_F32, SHAPE(1, k)), *w = constant_of(&r, ESPL_S8, SHAPE(rows, k), NULL);
    float *scales = calloc((size_t)rows, sizeof *scales), one = 1;
    for (int64_t i = 0; i < rows; i++) scales[i] = 1;
    for (int64_t i = 0; i < rows * k; i++) ((int8_t *)w->constant->data)[i] = (int8_t)pick(&r, -127, 127);
    assert_true(espl__graph_set_quant(r.g, x, affine ? ESPL_FORMAT_U8 : ESPL_FORMAT_S8, -1, 1, &one, &zero));
    assert_true(espl__graph_set_quant(r.g, w, ESPL_FORMAT_S8, 0, rows, scales, NULL));
    w->dtype = ESPL_F32;
    espl__value *bias = constant_of(&r, ESPL_S32, SHAPE(rows), NULL);
    for (int64_t i = 0; i < rows; i++) ((int32_t *)bias->constant->data)[i] = (int32_t)pick(&r, -2000, 2000);
    assert_true(espl__graph_set_quant(r.g, bias, ESPL_FORMAT_S32, 0, rows, scales, NULL));
    bias->dtype = ESPL_F32;
    espl__node *n = NODE(&r, "Gemm", x, w, bias);
    n->attrs = espl__arena_alloc(&r.g->arena, sizeof *n->attrs);
    n->attr_count = 1;
    set_int(&r, n, "transB", 1);
    IO(&r, x, done_of(&r, n));
    *node = n;
    free(scales);
    return r.g;
}

/* Runs a product on codes; the first output. */
static float run_product(espl_context *ctx, const espl_graph *g, const int32_t *codes, int32_t zero,
                         espl_arithmetic arithmetic) {
    espl_session *s = session_with(ctx, g, arithmetic);
    run_io io = io_of(s, 1);
    for (int64_t i = 0; i < espl_shape_count(&io.in[0].shape); i++) ((float *)io.in[0].data)[i] = (float)(codes[i] - zero);
    run_session(s, &io);
    float y = ((const float *)io.out[0].data)[0];
    io_free(&io);
    espl_session_destroy(&s);
    return y;
}

/* What the chip's accumulator holds in the end. */
static int64_t narrow_sum(int64_t start, const int8_t *w, const int32_t *x, int k, espl_arithmetic a) {
    const int64_t most = (1 << (a.accumulator_bits - 1)) - 1, all = 2 * most + 2;
    int64_t sum = start;
    for (int i = -1; i < k; i++) {
        if (i >= 0) sum += w[i] * x[i];
        if (a.saturate)
            sum = sum > most ? most : sum < -most - 1 ? -most - 1 : sum;
        else
            while (sum > most || sum < -most - 1) sum += sum > 0 ? -all : all;
    }
    return sum;
}

/* The test is exact: there is an input that P bits hold and P - 1 bits do not. */
static void one_bit_less_overflows(void **state) {
    enum { K = 40 };
    (void)state;
    espl_context *ctx = new_context(1);
    for (uint64_t seed = 0; seed < 40; seed++) {
        bool affine = seed % 2;
        int32_t zero = affine ? (int32_t)(seed * 37 % 256) : 0, lo = affine ? 0 : -128, hi = affine ? 255 : 127;
        int32_t most[K], least[K], back[K]; /* the third goes up, and comes back down */
        espl__node *n;
        espl_graph *g = product(ctx, seed, K, 1, affine, zero, &n);
        int8_t *w = n->inputs[1]->constant->data;
        for (int i = 0; i < K && seed % 4 > 1; i++) w[i] = (int8_t)abs(w[i]); /* zero points count then */
        int64_t start = ((const int32_t *)n->inputs[2]->constant->data)[0];
        int bits = espl__accumulator_of(g, n).bits, wrong = 0;
        for (int i = 0; i < K; i++) {
            start -= zero * w[i];
            most[i] = w[i] > 0 ? hi : lo;
            least[i] = w[i] > 0 ? lo : hi;
            back[i] = i < 2 * K / 3 ? most[i] : least[i];
        }
        assert_in_range(bits, 12, 22);
        for (int end = 0; end < 3; end++) {
            const int32_t *x = end == 2 ? back : end ? least : most;
            int64_t sum = start;
            for (int i = 0; i < K; i++) sum += w[i] * x[i];
            for (int saturate = 0; saturate < 2; saturate++) {
                espl_arithmetic a = {.accumulator_bits = bits, .saturate = saturate}, less = a;
                less.accumulator_bits -= end == 2 ? 3 : 1;
                if ((int64_t)run_product(ctx, g, x, zero, a) != sum) fail_msg("seed %d: %d bits", (int)seed, bits);
                int64_t narrow = (int64_t)run_product(ctx, g, x, zero, less);
                if (narrow != narrow_sum(start, w, x, K, less)) fail_msg("seed %d: %d bits", (int)seed, bits - 1);
                wrong += end < 2 && narrow != sum;
            }
        }
        if (wrong < 2) fail_msg("seed %d: %d bits would have sufficed", (int)seed, bits - 1);
        espl_graph_destroy(&g);
    }
    espl_context_destroy(&ctx);
}

/* Rows that do not fit get larger scales and codes that are nearest on them; others keep theirs. */
static void rows_are_shrunk_until_they_fit(void **state) {
    enum { K = 64, ROWS = 24 };
    (void)state;
    espl_context *ctx = new_context(1);
    int64_t all = 0;
    for (int bits = 8; bits <= 22; bits++) {
        espl__node *n;
        int64_t shrunk = 0;
        int8_t before[ROWS * K];
        float real[ROWS * K];
        espl_graph *g = product(ctx, (uint64_t)bits, K, ROWS, bits % 2, bits, &n);
        int8_t *w = n->inputs[1]->constant->data;
        for (int i = 0; i < ROWS * K; i++) w[i] = (int8_t)(i / K % 3 == 0 ? w[i] / 16 : w[i]);
        for (int i = 0; i < ROWS * K; i++) real[i] = (float)w[i];
        memcpy(before, w, sizeof before);
        espl_tensor t = {ESPL_F32, SHAPE(ROWS, K), real};
        int64_t failing = espl__accumulator_failing(g, n, bits);
        assert_int_equal(espl__accumulator_limit(g, n, &t, bits, ESPL__OVERFLOW_SHRINK, &shrunk, NULL), ESPL_OK);
        assert_int_equal(shrunk, failing);
        assert_int_equal(espl__accumulator_failing(g, n, bits), 0);
        assert_true(espl__accumulator_of(g, n).bits <= bits);
        for (int64_t r = 0; r < ROWS; r++) {
            float scale = n->inputs[1]->quant.scale[r];
            assert_true(scale >= 1 && isfinite(scale));
            assert_float_equal(n->inputs[2]->quant.scale[r], scale, 1e-6f * scale);
            for (int64_t i = r * K; i < (r + 1) * K; i++)
                if (scale == 1 ? w[i] != before[i] : fabsf(w[i] * scale - real[i]) > 0.5001f * scale)
                    fail_msg("%d bits, row %d: %d times %g stands for %g", bits, (int)r, w[i], scale, real[i]);
        }
        all += shrunk;
        assert_true(same_outputs(ctx, g, 1, (espl_arithmetic){.accumulator_bits = ESPL_MIN(bits, 32)}));
        espl_graph_destroy(&g);
    }
    assert_in_range(all, 100, 15 * ROWS - 50);
    espl_context_destroy(&ctx);
}

/* With one scale for all rows they shrink together; what is refused stays as it was. */
static void one_scale_and_refusal(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    espl__node *n;
    espl_diag diag = {0};
    int64_t shrunk;
    espl_graph *g = product(ctx, 3, 50, 8, true, 100, &n);
    int8_t first = ((int8_t *)n->inputs[1]->constant->data)[0];
    assert_int_equal(espl__accumulator_limit(g, n, NULL, 16, ESPL__OVERFLOW_REFUSE, &shrunk, &diag), ESPL_UNSUPPORTED);
    assert_non_null(strstr(diag.message, "Gemm #0: the sums of output 0 need 2"));
    assert_non_null(strstr(diag.message, "and the accumulator has 16;"));
    assert_int_equal(((int8_t *)n->inputs[1]->constant->data)[0], first);
    assert_int_equal(shrunk, 0);
    n->inputs[1]->quant.count = 1;
    n->inputs[1]->quant.axis = -1;
    assert_int_equal(espl__accumulator_limit(g, n, NULL, 16, ESPL__OVERFLOW_SHRINK, &shrunk, NULL), ESPL_OK);
    assert_int_equal(shrunk, 8);
    assert_int_equal(espl__accumulator_failing(g, n, 16), 0);
    assert_true(n->inputs[1]->quant.scale[0] > 2);
    for (int bits = 2; bits < 8; bits++) { /* nothing but zeros may be left */
        assert_int_equal(espl__accumulator_limit(g, n, NULL, bits > 3 ? bits : 2, ESPL__OVERFLOW_SHRINK, &shrunk, NULL),
                         ESPL_OK);
        assert_int_equal(espl__accumulator_failing(g, n, bits), 0);
    }
    espl_graph_destroy(&g);
    espl_context_destroy(&ctx);
}

static void arithmetic_that_is_none_is_refused(void **state) {
    (void)state;
    static const espl_arithmetic bad[] = {{.accumulator_bits = 1}, {.accumulator_bits = 33}, {.accumulator_bits = -4}, {.fixed = true}};
    espl_context *ctx = new_context(1);
    espl__node *n;
    espl_graph *g = product(ctx, 3, 5, 8, true, 100, &n);
    for (size_t i = 0; i < ESPL_COUNT(bad); i++) {
        espl_session *s = NULL;
        espl_diag diag = {0};
        espl_session_options options = {.arithmetic = bad[i]};
        assert_int_equal(espl_session_create(ctx, g, &options, &s, &diag), ESPL_INVALID);
        assert_null(s);
        assert_non_null(strstr(diag.message, "accumulator_bits"));
    }
    espl_graph_destroy(&g);
    espl_context_destroy(&ctx);
}

/* A row of the lists has its test here; without one this file does not compile. */
#define method_accumulator_SHRINK rows_are_shrunk_until_they_fit
#define method_accumulator_REFUSE one_scale_and_refusal
#define method_emulation_WRAP one_bit_less_overflows
#define method_emulation_SATURATE proven_bits_change_nothing
#define method_emulation_FIXED fixed_requantization_is_near

int main(void) {
    const struct CMUnitTest tests[] = {
#define X(NAME, name, text) cmocka_unit_test(method_accumulator_##NAME),
        ESPL__OVERFLOW_LIST(X)
#undef X
#define X(NAME, name, text) cmocka_unit_test(method_emulation_##NAME),
            ESPL__EMULATION_LIST(X)
#undef X
        cmocka_unit_test(bounds_are_those_of_all_inputs),
        cmocka_unit_test(fixed_point_is_that_of_fractions),
        cmocka_unit_test(odd_multipliers_are_the_nearest_there_are),
        cmocka_unit_test(arithmetic_that_is_none_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
