/* Every format against numpy and ml_dtypes (tests/oracle/make_format_fixtures.py), every code of 8, 16 and 19
 * bits there and back, packed storage, and weights with their scales. A row of ESPL_FORMAT_LIST without a
 * test does not compile. */
#include "graph_build.h"

#include <math.h>

#include "compress/compress.h"
#include "passes/passes.h"

#define FOLDER ESPL_SOURCE_DIR "/tests/fixtures/formats/"

static espl_tensor fixture(espl_context *ctx, const char *name) {
    char path[512];
    espl_tensor t;
    espl_diag diag = {0};
    snprintf(path, sizeof path, FOLDER "%s.npy", name);
    if (espl_npy_read(ctx, path, &t, &diag) != ESPL_OK) fail_msg("%s", diag.message);
    assert_int_equal(t.dtype, ESPL_F32);
    return t;
}

/* --- numbers ------------------------------------------------------------------------------------------ */

static void rounds_as_numpy(espl_format f) {
    espl_context *ctx = new_context(1);
    espl_tensor numbers = fixture(ctx, "numbers"), rounded = fixture(ctx, "rounded");
    const int64_t count = espl_shape_count(&numbers.shape);
    assert_int_equal(rounded.shape.dim[0], ESPL_FORMAT_COUNT);
    for (int64_t i = 0; i < count; i++) {
        const float x = ((const float *)numbers.data)[i], want = ((const float *)rounded.data)[f * count + i];
        if (want != want) continue;
        const float have = espl__format_round(f, x);
        if (!espl__format_is_float(f) && espl__format_decode(f, espl__format_encode(f, x)) != want)
            fail_msg("%s: the code of %.9g is another number's", espl_format_name(f), (double)x);
        if (!(have == want))
            fail_msg("%s: %.9g becomes %.9g, not %.9g", espl_format_name(f), (double)x, (double)have,
                     (double)want);
    }
    espl_tensor_free(ctx, &numbers);
    espl_tensor_free(ctx, &rounded);
    espl_context_destroy(&ctx);
}

static float of_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Numbers of 16 and 19 bits are themselves. */
static void floats_return(espl_format f) {
    const int bits = espl_format_bits(f);
    for (uint32_t code = 0; bits < 32 && code < 1u << bits; code++) {
        const float x =
            f == ESPL_FORMAT_F16 ? espl__half_to_float((uint16_t)code) : of_bits(code << (32 - bits));
        if (x != x || isinf(x)) continue;
        const float back = espl__format_round(f, x);
        assert_memory_equal(&back, &x, sizeof x);
    }
}

static void codes_return(espl_format f) {
    int32_t lo = 0, hi = 255;
    if (espl__format_is_float(f) || f == ESPL_FORMAT_S32) {
        floats_return(f);
        return;
    }
    if (espl_format_kind_of(f) != ESPL_FORMAT_KIND_FP8) espl__format_range(f, &lo, &hi);
    int distinct = 0;
    for (int32_t code = lo; code <= hi; code++) {
        const float x = espl__format_decode(f, code);
        if (x != x || isinf(x) || (f == ESPL_FORMAT_BINARY && code == 0)) continue;
        distinct++;
        if (espl__format_encode(f, x) != code)
            fail_msg("%s: code %d is %.9g, whose code is %d", espl_format_name(f), (int)code, (double)x,
                     (int)espl__format_encode(f, x));
        assert_true(fabsf(x) <= espl__format_largest(f) || x == (float)lo);
    }
    const int bits = espl_format_bits(f);
    assert_in_range(distinct, bits == 1 ? 2 : (1 << bits) * 7 / 8 - 1, 1 << bits);
}

/* Every element at every position of a byte, in no more bytes than the bits make. */
static void elements_survive_packing(espl_format f) {
    enum { COUNT = 67 };
    uint8_t packed[4 * COUNT + 1];
    const int bits = espl_format_bits(f);
    if (!espl__format_packs(f)) return;
    memset(packed, 0xA5, sizeof packed);
    const size_t bytes = espl__codes_bytes(COUNT, bits);
    assert_int_equal(bytes, (COUNT * bits + 7) / 8);
    if (f == ESPL_FORMAT_TF32) {
        float x[COUNT], back[COUNT];
        for (int i = 0; i < COUNT; i++) x[i] = espl__format_round(f, sinf((float)i) * exp2f((float)(i - 30)));
        espl__format_pack(f, x, COUNT, packed);
        espl__format_unpack(f, packed, COUNT, back);
        assert_memory_equal(back, x, sizeof x);
    } else {
        int32_t lo, hi;
        int8_t x[COUNT], back[COUNT];
        espl__format_range(f, &lo, &hi);
        for (int i = 0; i < COUNT; i++)
            x[i] = (int8_t)(bits == 1 && lo < 0 ? (i % 3 ? 1 : -1) : lo + i * 5 % (hi - lo + 1));
        espl__format_pack(f, x, COUNT, packed);
        espl__format_unpack(f, packed, COUNT, back);
        assert_memory_equal(back, x, sizeof x);
    }
    assert_int_equal(packed[bytes], 0xA5);
}

/* --- weights ------------------------------------------------------------------------------------------- */

typedef struct weighed {
    espl_context *ctx;
    espl_graph *g;
    espl_tensor w;
} weighed;

static weighed open_weights(void) {
    weighed e = {.ctx = new_context(1)};
    espl_diag diag = {0};
    assert_int_equal(espl__graph_create(e.ctx, &e.g, &diag), ESPL_OK);
    e.w = fixture(e.ctx, "weights");
    return e;
}

static void close_weights(weighed *e) {
    espl_tensor_free(e->ctx, &e->w);
    espl_graph_destroy(&e->g);
    espl_context_destroy(&e->ctx);
}

static espl__value *quantize(weighed *e, const espl_tensor *w, const espl__weight_plan *plan) {
    espl__value old = {.id = 0};
    espl__quant grid;
    assert_true(espl__weight_grid(e->g, w, plan, &grid));
    for (int64_t i = 0; i < grid.count; i++) assert_true(grid.scale[i] > 0 && isfinite(grid.scale[i]));
    espl__value *v = espl__weight_constant(e->g, &old, espl__weight_codes(e->g, w, &grid, plan), &grid);
    assert_non_null(v);
    return v;
}

static double error_of(const weighed *e, const espl__value *v) {
    const int64_t count = espl_shape_count(&e->w.shape);
    float *back = malloc(sizeof *back * (size_t)count);
    double sum = 0;
    assert_true(espl__constant_read(v, back));
    for (int64_t i = 0; i < count; i++)
        sum += pow((double)back[i] - (double)((const float *)e->w.data)[i], 2);
    free(back);
    return sum;
}

static int32_t code_at(const espl__value *v, int64_t i) {
    return v->constant->dtype == ESPL_S16  ? ((const int16_t *)v->constant->data)[i]
           : v->constant->dtype == ESPL_U8 ? ((const uint8_t *)v->constant->data)[i]
                                           : ((const int8_t *)v->constant->data)[i];
}

/* Codes and scales a row; fixture row: 37 codes, scale, offset. */
static void weights_are_as_numpys(void **state) {
    (void)state;
    static const espl_format formats[] = {ESPL_FORMAT_S8,      ESPL_FORMAT_S4,      ESPL_FORMAT_S2,
                                          ESPL_FORMAT_S16,     ESPL_FORMAT_TERNARY, ESPL_FORMAT_BINARY,
                                          ESPL_FORMAT_BINARY01};
    weighed e = open_weights();
    for (size_t k = 0; k < ESPL_COUNT(formats); k++) {
        char name[64];
        snprintf(name, sizeof name, "weights_%s", espl_format_name(formats[k]));
        espl_tensor want = fixture(e.ctx, name);
        espl__value *v = quantize(&e, &e.w, &(espl__weight_plan){.format = formats[k], .axis = 0});
        assert_int_equal(v->quant.count, 8);
        for (int64_t r = 0; r < 8; r++) {
            const float *row = (const float *)want.data + 39 * r;
            for (int64_t i = 0; i < 37; i++) assert_int_equal(code_at(v, 37 * r + i), (int32_t)row[i]);
            assert_true(fabsf(v->quant.scale[r] - row[37]) <= 1e-6f * row[37]);
            assert_true(!v->quant.offset || fabsf(v->quant.offset[r] - row[38]) <= 1e-6f * fabsf(row[38]));
        }
        espl_tensor_free(e.ctx, &want);
    }
    close_weights(&e);
}

static void method_scale_GROUP(void **state) {
    (void)state;
    weighed e = open_weights();
    espl_tensor scales = fixture(e.ctx, "weights_s4_groups"), codes = fixture(e.ctx, "codes_s4_groups");
    espl__weight_plan plan = {.format = ESPL_FORMAT_S4, .axis = 0, .group_axis = 1, .group = 16};
    espl__value *v = quantize(&e, &e.w, &plan);
    assert_int_equal(v->quant.count, 24);
    assert_memory_equal(v->quant.scale, scales.data, 24 * sizeof(float));
    for (int64_t i = 0; i < 8 * 37; i++)
        assert_int_equal(code_at(v, i), (int32_t)((const float *)codes.data)[i]);
    /* The same matrix the other way round, as MatMul has it. */
    espl_tensor turned = *espl__graph_tensor(e.g, ESPL_F32, &SHAPE(37, 8), NULL);
    for (int64_t i = 0; i < 8 * 37; i++)
        ((float *)turned.data)[i % 37 * 8 + i / 37] = ((const float *)e.w.data)[i];
    plan.axis = 1;
    plan.group_axis = 0;
    espl__value *t = quantize(&e, &turned, &plan);
    assert_memory_equal(t->quant.scale, scales.data, 24 * sizeof(float));
    for (int64_t i = 0; i < 8 * 37; i++) assert_int_equal(code_at(t, i % 37 * 8 + i / 37), code_at(v, i));
    espl_tensor_free(e.ctx, &scales);
    espl_tensor_free(e.ctx, &codes);
    close_weights(&e);
}

static void method_scale_CHANNEL(void **state) {
    weights_are_as_numpys(state);
}

static void method_scale_TENSOR(void **state) {
    (void)state;
    weighed e = open_weights();
    float most = 0;
    for (int64_t i = 0; i < 8 * 37; i++) most = fmaxf(most, fabsf(((const float *)e.w.data)[i]));
    espl__value *v = quantize(&e, &e.w, &(espl__weight_plan){.format = ESPL_FORMAT_S8, .axis = -1});
    assert_true(v->quant.count == 1 && v->quant.axis == -1 && v->quant.scale[0] == most / 127);
    for (int64_t i = 0; i < 8 * 37; i++)
        assert_int_equal(code_at(v, i), (int32_t)nearbyintf(((const float *)e.w.data)[i] / (most / 127)));
    close_weights(&e);
}

/* --- when activations are rounded -------------------------------------------------------------------- */

enum { ROWS = 3, INPUTS = 40, OUTPUTS = 24 };

/* MatMul with weights that are s8 by a row of a recipe, on inputs of the range that is given to it: its
 * outputs, and the graph. `x` are the inputs. */
static espl_graph *computed(espl_context *ctx, espl__compute compute, float *x, float *y, espl__value **w) {
    rig r;
    rig_begin(&r, ctx, 5);
    espl_diag diag = {0};
    espl__value *in = input_of(&r, "x", ESPL_F32, SHAPE(ROWS, INPUTS));
    IO(&r, in, APPLY(&r, "MatMul", in, random_of(&r, SHAPE(INPUTS, OUTPUTS), 1)));
    espl__recipe_layer row = {.format = ESPL_FORMAT_S8, .compute = (espl__recipe_compute)compute + 1};
    decision d;
    range *ranges = calloc((size_t)r.g->value_count, sizeof *ranges);
    espl__recipe_decide(&row, &d);
    for (int i = 0; i < r.g->value_count; i++) ranges[i] = (range){.min = -2, .max = 3, .seen = 1};
    if (espl__ptq_apply(r.g, ranges, &d, ESPL_FLAVOUR_ORT_X86, &diag) != ESPL_OK)
        fail_msg("%s", diag.message);
    free(ranges);
    espl_session *s = session_of(ctx, r.g);
    run_io io = io_of(s, 7);
    run_session(s, &io);
    memcpy(x, io.in[0].data, sizeof(float) * ROWS * INPUTS);
    memcpy(y, io.out[0].data, sizeof(float) * ROWS * OUTPUTS);
    io_free(&io);
    espl_session_destroy(&s);
    *w = r.g->nodes[0]->inputs[1];
    return r.g;
}

/* Against sums in double precision of inputs on the grid of u8 that holds least to most; scale 0: as they
 * are. */
static void check_compute(espl__compute compute, bool rounded, bool own_range) {
    espl_context *ctx = new_context(1);
    float x[ROWS * INPUTS], y[ROWS * OUTPUTS], w[INPUTS * OUTPUTS];
    espl__value *weights;
    espl_graph *g = computed(ctx, compute, x, y, &weights);
    double least = own_range ? 0 : -2, most = own_range ? 0 : 3;
    assert_int_equal(weights->quant.format, ESPL_FORMAT_S8);
    assert_true(espl__constant_read(weights, w));
    for (int i = 0; i < ROWS * INPUTS && own_range; i++) {
        least = fmin(least, (double)x[i]);
        most = fmax(most, (double)x[i]);
    }
    const double scale = (most - least) / 255, zero = nearbyint(-least / scale);
    for (int o = 0; o < ROWS * OUTPUTS; o++) {
        double sum = 0, size = 0, slack = 0;
        for (int i = 0; i < INPUTS; i++) {
            const double exact = (double)x[o / OUTPUTS * INPUTS + i],
                         by = (double)w[i * OUTPUTS + o % OUTPUTS];
            double q = nearbyint(exact / scale) + zero;
            const double used = rounded ? (fmin(fmax(q, 0), 255) - zero) * scale : exact;
            sum += used * by;
            size += fabs(used * by);
            /* f32 may see a number that lies between two codes on the other side. */
            if (rounded && fabs(fabs(exact / scale - floor(exact / scale)) - 0.5) < 1e-4)
                slack += scale * fabs(by);
        }
        assert_true(fabs(y[o] - sum) <= 1e-6 * size + slack);
    }
    espl_graph_destroy(&g);
    espl_context_destroy(&ctx);
}

static void method_compute_STATIC(void **state) {
    (void)state;
    check_compute(ESPL__COMPUTE_STATIC, true, false);
}

static void method_compute_DYNAMIC(void **state) {
    (void)state;
    check_compute(ESPL__COMPUTE_DYNAMIC, true, true);
}

static void method_compute_WEIGHTS(void **state) {
    (void)state;
    check_compute(ESPL__COMPUTE_WEIGHTS, false, false);
}

/* --- fits and roundings ------------------------------------------------------------------------------ */

static void method_fit_MAX(void **state) {
    (void)state;
    weighed e = open_weights();
    ((float *)e.w.data)[3] = 40; /* an outlier sets the scale */
    espl__value *v = quantize(&e, &e.w, &(espl__weight_plan){.format = ESPL_FORMAT_S4, .axis = 0});
    assert_true(v->quant.scale[0] == 5.71484375f); /* the f16 nearest 40 / 7 */
    v = quantize(&e, &e.w, &(espl__weight_plan){.format = ESPL_FORMAT_S5, .axis = 0});
    assert_true(v->quant.scale[0] == 40.0f / 15);
    close_weights(&e);
}

/* No worse than the best of a fine search, and with an outlier much better than the largest weight's scale.
 */
static void method_fit_MSE(void **state) {
    (void)state;
    weighed e = open_weights();
    for (int bits = 2; bits < 8; bits++) {
        const espl_format f = (espl_format)(ESPL_FORMAT_S2 + bits - 2);
        double least = INFINITY;
        espl__weight_plan plan = {.format = f, .axis = -1, .fit = ESPL__FIT_MSE};
        const double found = error_of(&e, quantize(&e, &e.w, &plan));
        plan.fit = ESPL__FIT_MAX;
        espl__value *v = quantize(&e, &e.w, &plan);
        const double largest = error_of(&e, v);
        espl__quant grid = v->quant;
        for (int i = 1000; i > 250; i--) {
            float scale = v->quant.scale[0] * (float)i / 1000;
            grid.scale = &scale;
            espl__value old = {.id = 0};
            espl__value *tried =
                espl__weight_constant(e.g, &old, espl__weight_codes(e.g, &e.w, &grid, &plan), &grid);
            least = fmin(least, error_of(&e, tried));
        }
        assert_true(found <= 1.02 * least && found <= largest);
        if (bits < 6) assert_true(found < 0.9 * largest);
    }
    close_weights(&e);
}

static void method_round_NEAREST(void **state) {
    weights_are_as_numpys(state);
}

/* Right in the mean: the sum of many equal weights comes out, where the nearest code would lose it. */
static void method_round_STOCHASTIC(void **state) {
    (void)state;
    enum { MANY = 1 << 15 };
    weighed e = open_weights();
    espl_tensor many = *espl__graph_tensor(e.g, ESPL_F32, &SHAPE(1, MANY), NULL);
    float *x = many.data;
    for (int i = 0; i < MANY; i++) x[i] = 0.3f;
    x[0] = 7; /* the scale is 1 */
    espl__weight_plan plan = {
        .format = ESPL_FORMAT_S4, .axis = 0, .round = ESPL__ROUND_STOCHASTIC, .seed = 1};
    espl__value *v = quantize(&e, &many, &plan);
    double sum = 0;
    for (int i = 1; i < MANY; i++) sum += code_at(v, i);
    assert_true(fabs(sum / (MANY - 1) - 0.3) < 0.01); /* standard deviation 0.0025 */
    espl__value *again = quantize(&e, &many, &plan);
    assert_memory_equal(again->constant->data, v->constant->data, MANY);
    plan.format = ESPL_FORMAT_BINARY;
    v = quantize(&e, &many, &plan);
    sum = 0;
    for (int i = 1; i < MANY; i++) sum += code_at(v, i) > 0;
    assert_true(fabs(sum / (MANY - 1) - 0.65) < 0.01); /* hard sigmoid of 0.3 */
    close_weights(&e);
}

/* Q format: every scale is a power of two that holds the largest weight. */
static void method_scale_POW2(void **state) {
    (void)state;
    weighed e = open_weights();
    for (int f = 0; f < ESPL_FORMAT_COUNT; f++) {
        const espl_format_kind kind = espl_format_kind_of((espl_format)f);
        if (kind == ESPL_FORMAT_KIND_FLOAT || f == ESPL_FORMAT_S32 || !espl_format_is_signed((espl_format)f))
            continue;
        espl__value *v =
            quantize(&e, &e.w, &(espl__weight_plan){.format = (espl_format)f, .axis = 0, .pow2 = true});
        int exponent;
        for (int64_t c = 0; c < v->quant.count; c++) {
            assert_true(frexpf(v->quant.scale[c], &exponent) == 0.5f);
            if (kind != ESPL_FORMAT_KIND_INTEGER && kind != ESPL_FORMAT_KIND_FP8) continue;
            for (int64_t i = 0; i < 37; i++)
                assert_true(fabsf(((const float *)e.w.data)[37 * c + i]) <=
                            v->quant.scale[c] * espl__format_largest((espl_format)f));
        }
    }
    close_weights(&e);
}

static void extreme_weights(void **state) {
    (void)state;
    weighed e = open_weights();
    static const float rows[][4] = {{0, 0, 0, 0},         {3, 3, 3, 3},        {1e30f, 1, -1, 0},
                                    {NAN, 1, 2, -1},      {INFINITY, 1, 2, 3}, {1e-42f, -1e-42f, 0, 0},
                                    {NAN, NAN, NAN, NAN}, {-0.0f, 0, 0, 0}};
    espl_tensor t = *espl__graph_tensor(e.g, ESPL_F32, &SHAPE(8, 4), rows);
    for (int f = 1; f < ESPL_FORMAT_COUNT; f++) {
        if (f == ESPL_FORMAT_S32) continue;
        for (int way = 0; way < 4; way++) {
            float back[32];
            espl__weight_plan plan = {.format = (espl_format)f,
                                      .axis = 0,
                                      .pow2 = way & 1,
                                      .fit = way & 2 ? ESPL__FIT_MSE : ESPL__FIT_MAX};
            espl__value *v = quantize(&e, &t, &plan);
            assert_true(espl__constant_read(v, back));
            for (int i = 0; i < 32; i++)
                if (!isinf(rows[i / 4][i % 4])) assert_true(isfinite(back[i]));
            const bool has_zero = espl_format_kind_of((espl_format)f) != ESPL_FORMAT_KIND_BINARY;
            for (int i = 0; has_zero && i < 4; i++) assert_true(back[i] == 0);
        }
    }
    espl_tensor none = *espl__graph_tensor(e.g, ESPL_F32, &SHAPE(0, 4), NULL);
    (void)quantize(&e, &none, &(espl__weight_plan){.format = ESPL_FORMAT_S8, .axis = 0});
    close_weights(&e);
}

#define X(NAME, name, kind, bits, sign, text)         \
    static void method_format_##NAME(void **state) {  \
        (void)state;                                  \
        rounds_as_numpy(ESPL_FORMAT_##NAME);          \
        codes_return(ESPL_FORMAT_##NAME);             \
        elements_survive_packing(ESPL_FORMAT_##NAME); \
    }
ESPL_FORMAT_LIST(X)
#undef X

/* Scales of 4 bits and fewer are f16 where that has all its bits, those of others f32; a bias beside them goes along. */
static void scales_of_few_bits_are_halves(void **state) {
    static const float bias[] = {0.1f, -3.14159f, 1e-6f, 60000};
    static const float halves[] = {0.0999755859375f, -3.140625f, 17 * 0x1p-24f, 60000};
    (void)state;
    weighed e = open_weights();
    float *w = e.w.data, most[8] = {0}, b[4];
    for (int64_t i = 0; i < 8 * 37; i++) most[i / 37] = fmaxf(most[i / 37], fabsf(w[i]));
    for (int bits = 2; bits <= 6; bits++)
        for (int shift = -30; shift <= 30; shift += 30) {
            const espl_format f = (espl_format)(ESPL_FORMAT_S2 + bits - 2);
            espl_tensor moved = fixture(e.ctx, "weights");
            for (int64_t i = 0; i < 8 * 37; i++) ((float *)moved.data)[i] = ldexpf(w[i], shift);
            espl__value *v = quantize(&e, &moved, &(espl__weight_plan){.format = f, .axis = 0});
            const bool rounded = bits <= 4 && shift == 0;
            for (int64_t r = 0; r < 8; r++) {
                const float scale = ldexpf(most[r], shift) / (float)((1 << (bits - 1)) - 1);
                assert_true(fabsf(v->quant.scale[r] - scale) <= (rounded ? 0x1p-11f * scale : 0));
                if (rounded) assert_true(espl__are_halves(&v->quant.scale[r], 1));
            }
            memcpy(b, bias, sizeof b);
            espl__weight_bias(&v->quant, b, 4);
            assert_memory_equal(b, rounded ? halves : bias, sizeof b);
            b[3] = 65505; /* is no number of f16: nor are the others */
            espl__weight_bias(&v->quant, b, 4);
            assert_true(b[3] == 65505);
            espl_tensor_free(e.ctx, &moved);
        }
    close_weights(&e);
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define X(NAME, name, kind, bits, sign, text) cmocka_unit_test(method_format_##NAME),
        ESPL_FORMAT_LIST(X)
#undef X
#define X(NAME, name, parameters, text) cmocka_unit_test(method_scale_##NAME),
            ESPL__SCALES_LIST(X)
#undef X
#define X(NAME, name, text) cmocka_unit_test(method_compute_##NAME),
                ESPL__COMPUTE_LIST(X)
#undef X
#define X(NAME, name, text) cmocka_unit_test(method_fit_##NAME),
                    ESPL__FIT_LIST(X)
#undef X
#define X(NAME, name, text) cmocka_unit_test(method_round_##NAME),
                        ESPL__ROUND_LIST(X)
#undef X

                            cmocka_unit_test(scales_of_few_bits_are_halves),
                            cmocka_unit_test(extreme_weights),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
