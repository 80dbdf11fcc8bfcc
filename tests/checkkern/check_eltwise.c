/* Elementwise kernels, reductions over rows, exp and its kin, packing. */
#include "checkkern.h"

/* Lengths around every vector width, and longer ones. */
static int random_length(void) {
    return one_in(4) ? between(1, 2000) : between(1, 140);
}

static const espl__kernels *ref(void) {
    return espl__kernels_own(ESPL__CPU_REF);
}

/* Runs `call` (which uses `set` and `got`) on every level and compares with the reference. */
#define COMPARE(kernel, same, o, call, n)                                      \
    FOR_LEVELS(level, kernel) {                                                \
        const espl__kernels *set = espl__kernels_own((espl__cpu)level);        \
        void *got = take_again(o);                                             \
        set->kernel call;                                                      \
        expect(same(o, got), #kernel, level, "%lld elements", (long long)(n)); \
    }

/* Code `code` is x + zero rounded and bounded, give or take the float rounding of x. */
static bool is_code(double x, int32_t zero, int32_t lo, int32_t hi, int code) {
    return fabs(fmin(fmax(x + zero, lo), hi) - code) <= 0.5 + 2e-4;
}

/* Half of the time tenths: sums of their multiples lie next to ties, where the order of the roundings shows.
 */
static float random_scale(void) {
    if (one_in(2)) return 0.1f * (float)between(1, 9);
    float x = espl__rng_float(&rng) + 0.5f;
    return ldexpf(x, between(-6, 3));
}

void check_add_u8(void) {
    for (int i = 0; i < cases(2000); i++) {
        int n = random_length();
        uint8_t *a = take(SLOT_IN, (size_t)n), *b = take(SLOT_B, (size_t)n);
        bool hostile = one_in(4);
        espl__qadd q = {.sa = hostile ? hostile_float() : random_scale(),
                        .sb = random_scale(),
                        .za = between(0, 255),
                        .zb = between(0, 255),
                        .zero = between(0, 255),
                        .lo = between(0, 255)};
        q.hi = between(q.lo, 255);
        outputs o = take_outputs((size_t)n);
        ref()->add_u8(&q, a, b, o.want, n);
        for (int k = 0; !hostile && k < n; k++) {
            double x = (double)(a[k] - q.za) * q.sa + (double)(b[k] - q.zb) * q.sb;
            int code = ((uint8_t *)o.want)[k];
            expect(is_code(x, q.zero, q.lo, q.hi, code), "add_u8", 0, "%g gives %d", x, code);
        }
        COMPARE(add_u8, same_bytes, &o, (&q, a, b, got, n), n)
    }
}

void check_lut_u8(void) {
    for (int i = 0; i < cases(1000); i++) {
        int n = random_length();
        uint8_t *in = take(SLOT_IN, (size_t)n), *table = take(SLOT_W, 256);
        outputs o = take_outputs((size_t)n);
        ref()->lut_u8(table, in, o.want, n);
        for (int k = 0; k < n; k++)
            expect(((uint8_t *)o.want)[k] == table[in[k]], "lut_u8", 0, "element %d of %d", k, n);
        COMPARE(lut_u8, same_bytes, &o, (table, in, got, n), n)
    }
}

void check_requant_u8(void) {
    for (int i = 0; i < cases(2000); i++) {
        int n = random_length(), zin = between(0, 255), zero = between(0, 255);
        uint8_t *in = take(SLOT_IN, (size_t)n);
        bool hostile = one_in(4);
        float scale = hostile ? hostile_float() : random_scale();
        outputs o = take_outputs((size_t)n);
        ref()->requant_u8(scale, zin, zero, in, o.want, n);
        for (int k = 0; !hostile && k < n; k++) {
            int code = ((uint8_t *)o.want)[k];
            expect(is_code((double)(in[k] - zin) * scale, zero, 0, 255, code), "requant_u8", 0, "code %d",
                   code);
        }
        COMPARE(requant_u8, same_bytes, &o, (scale, zin, zero, in, got, n), n)
    }
}

void check_quantize(void) {
    for (int i = 0; i < cases(2000); i++) {
        int n = random_length(), zero = between(0, 255), lo = between(0, 255), hi = between(lo, 255);
        float *in = take(SLOT_IN, (size_t)n * sizeof *in), inverse = random_scale() * 16.0f;
        bool hostile = one_in(4);
        fill_f32(in, n, 10.0f, hostile);
        /* Ties, which go to the even code. */
        for (int k = 0; one_in(2) && k < n; k++) in[k] = ((float)between(-300, 300) + 0.5f) / inverse;
        outputs o = take_outputs((size_t)n);
        ref()->quantize(inverse, zero, lo, hi, in, o.want, n);
        for (int k = 0; !hostile && k < n; k++) {
            int code = ((uint8_t *)o.want)[k];
            double x = (double)in[k] * inverse;
            expect(is_code(x, zero, lo, hi, code), "quantize", 0, "%g gives %d", x, code);
        }
        COMPARE(quantize, same_bytes, &o, (inverse, zero, lo, hi, in, got, n), n)
    }
    float ties[8] = {-2.5f, -1.5f, -0.5f, 0.5f, 1.5f, 2.5f, NAN, INFINITY};
    uint8_t codes[8];
    ref()->quantize(1.0f, 100, 3, 250, ties, codes, 8);
    expect(memcmp(codes, (uint8_t[]){98, 98, 100, 100, 102, 102, 3, 250}, 8) == 0, "quantize", 0,
           "ties, NaN or inf");
}

void check_dequantize(void) {
    for (int i = 0; i < cases(1000); i++) {
        int n = random_length(), zero = between(0, 255);
        uint8_t *in = take(SLOT_IN, (size_t)n);
        float scale = one_in(4) ? hostile_float() : random_scale();
        outputs o = take_outputs((size_t)n * sizeof(float));
        ref()->dequantize(scale, zero, in, o.want, n);
        for (int k = 0; k < n; k++) {
            double x = (double)(in[k] - zero) * (double)scale;
            float y = ((float *)o.want)[k];
            expect(isnan(x) ? isnan(y) : y == (float)x, "dequantize", 0, "%g, not %g", (double)y, x);
        }
        COMPARE(dequantize, same_floats, &o, (scale, zero, in, got, n), n)
    }
}

/* --- reductions ---------------------------------------------------------------------------------------- */

enum { ROWS = 12 };

/* `count` rows of n channels in one buffer, in no order, the last one ending at its end. */
static void random_rows(const void **rows, int count, int n, size_t size, bool hostile) {
    uint8_t *in = take(SLOT_IN, (size_t)count * (size_t)n * size);
    if (size == sizeof(float)) fill_f32((float *)in, (int64_t)count * n, 3.0f, hostile);
    int start = between(0, count - 1);
    for (int i = 0; i < count; i++) rows[i] = in + (size_t)((start + i * 5) % count) * (size_t)n * size;
}

void check_max_u8(void) {
    for (int i = 0; i < cases(1000); i++) {
        int n = random_length(), count = between(1, ROWS);
        const uint8_t *rows[ROWS];
        random_rows((const void **)rows, count, n, 1, false);
        outputs o = take_outputs((size_t)n);
        ref()->max_u8(rows, count, o.want, n);
        for (int k = 0; k < n; k++) {
            int largest = 0;
            for (int r = 0; r < count; r++) largest = ESPL_MAX(largest, rows[r][k]);
            expect(((uint8_t *)o.want)[k] == largest, "max_u8", 0, "%d rows", count);
        }
        COMPARE(max_u8, same_bytes, &o, (rows, count, got, n), n)
    }
}

void check_max_f32(void) {
    for (int i = 0; i < cases(1000); i++) {
        int n = random_length(), count = between(1, ROWS);
        const float *rows[ROWS];
        random_rows((const void **)rows, count, n, sizeof(float), one_in(3));
        outputs o = take_outputs((size_t)n * sizeof(float));
        ref()->max_f32(rows, count, o.want, n);
        for (int k = 0; k < n; k++) {
            float largest = -INFINITY, y = ((float *)o.want)[k];
            bool nan = false;
            for (int r = 0; r < count; r++) nan |= isnan(rows[r][k]), largest = fmaxf(largest, rows[r][k]);
            expect(nan ? isnan(y) : y == largest, "max_f32", 0, "%d rows: %g", count, (double)y);
        }
        COMPARE(max_f32, same_floats, &o, (rows, count, got, n), n)
    }
}

void check_sum_u8(void) {
    for (int i = 0; i < cases(1000); i++) {
        int n = random_length(), count = between(1, ROWS);
        const uint8_t *rows[ROWS];
        random_rows((const void **)rows, count, n, 1, false);
        outputs o = take_outputs((size_t)n * sizeof(int32_t));
        ref()->sum_u8(rows, count, o.want, n);
        for (int k = 0; k < n; k++) {
            int sum = 0;
            for (int r = 0; r < count; r++) sum += rows[r][k];
            expect(((int32_t *)o.want)[k] == sum, "sum_u8", 0, "%d rows", count);
        }
        COMPARE(sum_u8, same_bytes, &o, (rows, count, got, n), n)
    }
}

void check_sum_f32(void) {
    for (int i = 0; i < cases(1000); i++) {
        int n = random_length(), count = between(1, ROWS);
        bool hostile = one_in(4);
        const float *rows[ROWS];
        random_rows((const void **)rows, count, n, sizeof(float), hostile);
        outputs o = take_outputs((size_t)n * sizeof(float));
        ref()->sum_f32(rows, count, o.want, n);
        for (int k = 0; !hostile && k < n; k++) {
            double sum = 0.0, size = 0.0, y = ((float *)o.want)[k];
            for (int r = 0; r < count; r++) sum += rows[r][k], size += fabs(rows[r][k]);
            expect(fabs(sum - y) <= size * count * 0x1p-24, "sum_f32", 0, "%d rows: %g, not %g", count, y,
                   sum);
        }
        COMPARE(sum_f32, same_floats, &o, (rows, count, got, n), n)
    }
}

/* --- float arithmetic -------------------------------------------------------------------------------- */

static bool same_value(float a, float b) {
    return a == b || (isnan(a) && isnan(b));
}

void check_add_f32(void) {
    for (int i = 0; i < cases(1000); i++) {
        int n = random_length();
        float *a = take(SLOT_IN, (size_t)n * sizeof *a), *b = take(SLOT_B, (size_t)n * sizeof *b);
        fill_f32(a, n, 3.0f, one_in(2)), fill_f32(b, n, 3.0f, one_in(2));
        outputs o = take_outputs((size_t)n * sizeof(float));
        ref()->add_f32(a, b, o.want, n);
        for (int k = 0; k < n; k++)
            expect(same_value(((float *)o.want)[k], (float)((double)a[k] + b[k])), "add_f32", 0, "element %d",
                   k);
        COMPARE(add_f32, same_floats, &o, (a, b, got, n), n)
    }
}

void check_mul_f32(void) {
    for (int i = 0; i < cases(1000); i++) {
        int n = random_length();
        float *a = take(SLOT_IN, (size_t)n * sizeof *a), *b = take(SLOT_B, (size_t)n * sizeof *b);
        fill_f32(a, n, 3.0f, one_in(2)), fill_f32(b, n, 3.0f, one_in(2));
        outputs o = take_outputs((size_t)n * sizeof(float));
        ref()->mul_f32(a, b, o.want, n);
        for (int k = 0; k < n; k++)
            expect(same_value(((float *)o.want)[k], (float)((double)a[k] * b[k])), "mul_f32", 0, "element %d",
                   k);
        COMPARE(mul_f32, same_floats, &o, (a, b, got, n), n)
    }
}

void check_affine_f32(void) {
    for (int i = 0; i < cases(1000); i++) {
        int n = random_length();
        float *in = take(SLOT_IN, (size_t)n * sizeof *in);
        bool hostile = one_in(2);
        fill_f32(in, n, 8.0f, hostile);
        float scale = hostile ? hostile_float() : random_scale(), shift = espl__rng_float(&rng) - 0.5f;
        outputs o = take_outputs((size_t)n * sizeof(float));
        ref()->affine_f32(scale, shift, in, o.want, n);
        for (int k = 0; !hostile && k < n; k++) {
            double x = (double)in[k] * scale, y = ((float *)o.want)[k];
            expect(fabs(x + shift - y) <= fabs(x + shift) * 0x1p-23 + 1e-44, "affine_f32", 0, "%g",
                   (double)in[k]);
        }
        COMPARE(affine_f32, same_floats, &o, (scale, shift, in, got, n), n)
    }
}

void check_clamp_f32(void) {
    for (int i = 0; i < cases(1000); i++) {
        int n = random_length();
        float *in = take(SLOT_IN, (size_t)n * sizeof *in);
        fill_f32(in, n, 8.0f, one_in(2));
        float lo = one_in(2) ? 0.0f : -INFINITY, hi = one_in(2) ? 6.0f : INFINITY;
        outputs o = take_outputs((size_t)n * sizeof(float));
        ref()->clamp_f32(lo, hi, in, o.want, n);
        for (int k = 0; k < n; k++) {
            float x = isnan(in[k]) ? in[k] : fminf(fmaxf(in[k], lo), hi);
            expect(same_value(((float *)o.want)[k], x), "clamp_f32", 0, "%g", (double)in[k]);
        }
        COMPARE(clamp_f32, same_floats, &o, (lo, hi, in, got, n), n)
    }
}

/* --- exp and its kin --------------------------------------------------------------------------------- */

/* |y - x| in units of the last place of x as a float. */
static double ulps(double x, float y) {
    if (isnan(x) || isnan(y)) return isnan(x) && isnan(y) ? 0.0 : INFINITY;
    if ((float)x == y) return 0.0;
    int exponent;
    frexp(x, &exponent);
    return fabs(x - y) / ldexp(1.0, ESPL_MAX(exponent - 24, -149));
}

static double sigmoid_of(double x) {
    return 1.0 / (1.0 + exp(-x));
}

typedef void unary_fn(const float *in, float *out, int64_t n);

/* Bit patterns spread over all floats, a dense set where the function bends, and the special values. */
static void unary_inputs(float *x, int n) {
    for (int i = 0; i < n; i++) {
        uint32_t bits = espl__rng_u32(&rng);
        memcpy(x + i, &bits, sizeof bits);
        if (i % 2) x[i] = (espl__rng_float(&rng) * 2.0f - 1.0f) * (i % 4 == 1 ? 110.0f : 2.0f);
        if (i % 64 == 0) x[i] = hostile_float();
    }
}

/* `absolute`: what may be off besides `limit` ulps, for functions whose tails cancel. */
static double check_unary_ref(const char *name, unary_fn *fn, double exact(double), double limit,
                              double absolute) {
    enum { N = 1000 };
    double worst = 0.0;
    for (int i = 0; i < cases(300); i++) {
        float *in = take(SLOT_IN, N * sizeof *in), out[N];
        unary_inputs(in, N);
        fn(in, out, N);
        for (int k = 0; k < N; k++) {
            double want = exact((double)in[k]), error = ulps(want, out[k]);
            if (fabs(want - (double)out[k]) <= absolute * (1.0 + fabs((double)in[k]))) continue;
            worst = fmax(worst, error);
            expect(error <= limit, name, 0, "%a gives %a, %.2f ulp off", (double)in[k], (double)out[k],
                   error);
        }
    }
    return worst;
}

#define CHECK_UNARY(kernel, exact, limit, absolute)                             \
    void check_##kernel(void) {                                                 \
        check_unary_ref(#kernel, ref()->kernel, exact, limit, absolute);        \
        for (int i = 0; i < cases(1500); i++) {                                 \
            int n = random_length();                                            \
            float *in = take(SLOT_IN, (size_t)n * sizeof *in);                  \
            unary_inputs(in, n);                                                \
            outputs o = take_outputs((size_t)n * sizeof(float));                \
            ref()->kernel(in, o.want, n);                                       \
            COMPARE(kernel, same_floats, &o, (in, got, n), n)                   \
            FOR_LEVELS(level, kernel) { /* in place */                          \
                float *got = take_again(&o);                                    \
                memcpy(got, in, o.bytes);                                       \
                espl__kernels_own((espl__cpu)level)->kernel(got, got, n);       \
                expect(same_floats(&o, got), #kernel, level, "%d in place", n); \
            }                                                                   \
        }                                                                       \
    }

static double gelu_of(double x) {
    return isinf(x) && x < 0 ? 0.0 : 0.5 * x * erfc(-x * 0.70710678118654752440);
}
static double gelu_tanh_of(double x) {
    return isinf(x) && x < 0 ? NAN
                             : 0.5 * x * (1.0 + tanh(0.79788456080286535588 * (x + 0.044715 * x * x * x)));
}

CHECK_UNARY(exp_f32, exp, 1.0, 0.0)
CHECK_UNARY(sigmoid_f32, sigmoid_of, 2.5, 0.0)
CHECK_UNARY(tanh_f32, tanh, 2.0, 0.0)
CHECK_UNARY(erf_f32, erf, 1.5, 0.0)
CHECK_UNARY(gelu_f32, gelu_of, 3.0, 0x1p-24)
CHECK_UNARY(gelu_tanh_f32, gelu_tanh_of, 8.0, 0x1p-22)

void check_softmax_f32(void) {
    for (int i = 0; i < cases(2000); i++) {
        int n = random_length();
        float *in = take(SLOT_IN, (size_t)n * sizeof *in);
        bool hostile = one_in(4);
        float scale = one_in(2) ? 1.0f : random_scale();
        fill_f32(in, n, one_in(2) ? 5.0f : 90.0f, hostile);
        outputs o = take_outputs((size_t)n * sizeof(float));
        ref()->softmax_f32(scale, in, o.want, n);
        double sum = 0.0, largest = -INFINITY;
        for (int k = 0; k < n; k++) largest = fmax(largest, in[k]);
        for (int k = 0; k < n; k++) sum += exp((in[k] - largest) * scale);
        for (int k = 0; !hostile && k < n; k++) {
            double x = exp((in[k] - largest) * scale) / sum, y = ((float *)o.want)[k];
            /* in - largest is rounded: half a unit of its last place moves exp by that much. */
            double allowed = x * (fabs(in[k] - largest) * scale * 0x1p-23 + (8 + n / 16.0) * 0x1p-23) + 1.9e-35; /* e^-80 */
            expect(fabs(x - y) <= allowed, "softmax_f32", 0, "%g, not %g", y, x);
        }
        COMPARE(softmax_f32, same_floats, &o, (scale, in, got, n), n)
        FOR_LEVELS(level, softmax_f32) {
            float *got = take_again(&o);
            memcpy(got, in, o.bytes);
            espl__kernels_own((espl__cpu)level)->softmax_f32(scale, got, got, n);
            expect(same_floats(&o, got), "softmax_f32", level, "%d in place", n);
        }
    }
}

static void check_layernorm_row(const espl__layernorm *p, const float *in, const float *got, int n) {
    double mean = 0.0, squares = 0.0, size = 0.0;
    for (int k = 0; k < n; k++) mean += in[k] / (double)n, size = fmax(size, fabs((double)in[k]));
    for (int k = 0; k < n; k++) squares += ((double)in[k] - mean) * ((double)in[k] - mean);
    double factor = 1.0 / sqrt(squares / n + (double)p->epsilon);
    for (int k = 0; k < n; k++) {
        double x = ((double)in[k] - mean) * factor,
               want = x * p->scale[k] + (p->bias ? (double)p->bias[k] : 0.0);
        /* The mean carries the error of the numbers it is of. */
        double allowed = (fabs(x) * (16 + n / 8.0) + size * factor * (4 + n / 16.0)) * 0x1p-24 *
                             fabs((double)p->scale[k]) +
                         fabs(want) * 0x1p-23 + 1e-30;
        expect(fabs(want - (double)got[k]) <= allowed, "layernorm_f32", 0, "%g, not %g (%d elements)",
               (double)got[k], want, n);
    }
}

void check_layernorm_f32(void) {
    for (int i = 0; i < cases(2000); i++) {
        int n = random_length();
        float *in = take(SLOT_IN, (size_t)n * sizeof *in), *scale = take(SLOT_W, (size_t)n * sizeof *scale);
        float *bias = take(SLOT_BIAS, (size_t)n * sizeof *bias);
        bool hostile = one_in(4);
        fill_f32(in, n, one_in(2) ? 1.0f : 30.0f, hostile);
        fill_f32(scale, n, 1.0f, hostile && one_in(2)), fill_f32(bias, n, 1.0f, hostile && one_in(2));
        for (int k = 0; one_in(3) && k < n; k++) in[k] += 40.0f;
        const espl__layernorm p = {scale, one_in(4) ? NULL : bias, one_in(2) ? 1e-5f : 1e-12f};
        outputs o = take_outputs((size_t)n * sizeof(float));
        ref()->layernorm_f32(&p, in, o.want, n);
        if (!hostile && n > 1) check_layernorm_row(&p, in, o.want, n);
        COMPARE(layernorm_f32, same_floats, &o, (&p, in, got, n), n)
        FOR_LEVELS(level, layernorm_f32) {
            float *got = take_again(&o);
            memcpy(got, in, o.bytes);
            espl__kernels_own((espl__cpu)level)->layernorm_f32(&p, got, got, n);
            expect(same_floats(&o, got), "layernorm_f32", level, "%d in place", n);
        }
    }
}
