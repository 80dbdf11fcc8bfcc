/* The elementwise kernels, one body for every instruction set: eltwise_<isa>.c includes this file with SET
 * naming its table, and the flags of that file decide what the compiler's vectoriser may use. Every float
 * result follows from single operations in a written order, so the bits do not depend on the width. Where the
 * vectoriser does badly, a file that has the vector words takes the kernels of vectors.inc.h; the plain ones
 * define them, and some do what is left of a vector.
 *
 * In and out may be the same array, never shifted against each other: NO_CARRY tells the vectoriser so. */
#include <assert.h>
#include <math.h>

#include "kernels/families.h"
#include "tensor/tensor.h"

#if defined(__clang__)
#define NO_CARRY _Pragma("clang loop vectorize(assume_safety)")
#pragma clang diagnostic ignored "-Wpass-failed" /* at -O1 it does not vectorise, which is no fault */
#else
#define NO_CARRY _Pragma("GCC ivdep")
#endif

/* --- integers ---------------------------------------------------------------------------------- */

#ifndef VECTORS
static void add_u8(const espl__qadd *p, const uint8_t *a, const uint8_t *b, uint8_t *out, int64_t n) {
    const espl__qadd q = *p;
    NO_CARRY
    for (int64_t i = 0; i < n; i++) {
        float x = fmaf((float)(a[i] - q.za), q.sa, (float)(b[i] - q.zb) * q.sb);
        out[i] = (uint8_t)espl__requantize(x, q.zero, q.lo, q.hi);
    }
}

static void requant_u8(float scale, int32_t zin, int32_t zero, const uint8_t *in, uint8_t *out, int64_t n) {
    NO_CARRY
    for (int64_t i = 0; i < n; i++)
        out[i] = (uint8_t)espl__requantize((float)(in[i] - zin) * scale, zero, 0, 255);
}

static void quantize(float inverse, int32_t zero, int32_t lo, int32_t hi, const float *in, uint8_t *out,
                     int64_t n) {
    NO_CARRY
    for (int64_t i = 0; i < n; i++) out[i] = (uint8_t)espl__requantize(in[i] * inverse, zero, lo, hi);
}
#endif

#ifndef LUT_U8
#define LUT_U8 lut_u8
static void lut_u8(const uint8_t *table, const uint8_t *in, uint8_t *out, int64_t n) {
    for (int64_t i = 0; i < n; i++) out[i] = table[in[i]];
}
#endif

static void dequantize_plain(float scale, int32_t zero, const uint8_t *in, float *out, int64_t n) {
    NO_CARRY
    for (int64_t i = 0; i < n; i++) out[i] = (float)(in[i] - zero) * scale;
}

/* --- reductions over rows, vector across channels ----------------------------------------------- */

static inline uint8_t larger_u8(uint8_t a, uint8_t b) {
    return a > b ? a : b;
}
/* NaN wins, as in numpy. */
static inline float larger_f32(float a, float b) {
    return ((b > a) | (b != b)) ? b : a;
}
static inline float plus_f32(float a, float b) {
    return a + b;
}
static inline int32_t plus_u8(int32_t a, uint8_t b) {
    return a + b;
}

/* A sum or maximum over one array: element i belongs to lane i mod 16 and the lanes meet in a tree, so that
 * the order is the same at every vector width. <max,sum>_lanes do the whole groups of 16 and return where
 * they end, squares_lanes those of a sum of (in + shift)^2. */
enum { LANES = 16 };

/* Channels [c, channels). */
#define REDUCE(kernel, in_t, out_t, step)                                                                   \
    static void kernel##_plain(const in_t *const *in, int count, out_t *out, int64_t c, int64_t channels) { \
        assert(count > 0);                                                                                  \
        for (; c < channels; c++) {                                                                         \
            out_t acc = in[0][c];                                                                           \
            for (int i = 1; i < count; i++) acc = step(acc, in[i][c]);                                      \
            out[c] = acc;                                                                                   \
        }                                                                                                   \
    }
REDUCE(max_u8, uint8_t, uint8_t, larger_u8)
REDUCE(max_f32, float, float, larger_f32)
REDUCE(sum_u8, uint8_t, int32_t, plus_u8)
REDUCE(sum_f32, float, float, plus_f32)

#ifdef VECTORS
#include "kernels/eltwise/vectors.inc.h"
#define OWN(kernel) kernel
#else
#define OWN(kernel) kernel##_plain
#define PLAIN(kernel, in_t, out_t)                                                       \
    static void kernel(const in_t *const *in, int count, out_t *out, int64_t channels) { \
        kernel##_plain(in, count, out, 0, channels);                                     \
    }
#define PLAIN_LANES(name, step)                                                 \
    static int64_t name(const float *in, int64_t n, float lane[LANES]) {        \
        int64_t i = 0;                                                          \
        for (; i + LANES <= n; i += LANES)                                      \
            for (int j = 0; j < LANES; j++) lane[j] = step(lane[j], in[i + j]); \
        return i;                                                               \
    }
static int64_t squares_lanes(float shift, const float *in, int64_t n, float lane[LANES]) {
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int j = 0; j < LANES; j++) lane[j] = fmaf(in[i + j] + shift, in[i + j] + shift, lane[j]);
    return i;
}
PLAIN_LANES(max_lanes, larger_f32)
PLAIN_LANES(sum_lanes, plus_f32)
PLAIN(max_u8, uint8_t, uint8_t)
PLAIN(max_f32, float, float)
PLAIN(sum_u8, uint8_t, int32_t)
PLAIN(sum_f32, float, float)
#endif

/* --- float arithmetic ---------------------------------------------------------------------------- */

static void add_f32(const float *a, const float *b, float *out, int64_t n) {
    NO_CARRY
    for (int64_t i = 0; i < n; i++) out[i] = a[i] + b[i];
}

static void mul_f32(const float *a, const float *b, float *out, int64_t n) {
    NO_CARRY
    for (int64_t i = 0; i < n; i++) out[i] = a[i] * b[i];
}

static void affine_f32(float scale, float shift, const float *in, float *out, int64_t n) {
    NO_CARRY
    for (int64_t i = 0; i < n; i++) out[i] = fmaf(in[i], scale, shift);
}

static void clamp_f32(float lo, float hi, const float *in, float *out, int64_t n) {
    NO_CARRY
    for (int64_t i = 0; i < n; i++) {
        float x = in[i];
        x = lo > x ? lo : x; /* NaN passes */
        out[i] = hi < x ? hi : x;
    }
}

/* --- exp and its kin ------------------------------------------------------------------------------ */

#define LOG2_E 0x1.715476p+0f
#define LN2_HIGH 0x1.62e4p-1f /* 16 bits: n times it is exact */
#define LN2_LOW 0x1.7f7d1cp-20f
/* What is masked out of a softmax is 0 at once: subnormal numbers take the processor a hundred times as long.
 */
#define SOFTMAX_LEAST -80.0f
#define TWO_ROOT_2_PI 0x1.988454p+0f

/* Polynomials, the highest power first: weighted minimax fits.
 *   exp_q   (exp(r) - 1 - r) / r^2 on |r| < ln(2)/2; exp has a relative error of 3.3e-9
 *   tanh_p  (tanh(x) - x) / x^3 in x^2 on |x| < 0.625; 4.9e-9
 *   erf_p   erf(x) / x - 1 in x^2 on |x| < 1; 1.3e-9
 *   erf_q   log(1 - erf(a)) on 1 <= a <= 4, weighted so that erf has an error of 1.1e-9
 *   gelu_q  log(2 Phi(-a)) / a on 0 <= a <= 9, weighted so that 2 Phi has an error of 2.3e-8; it goes on to
 * fall behind */
static const float exp_q[] = {0x1.6a1a5ep-10f, 0x1.123fd2p-7f, 0x1.555916p-5f, 0x1.55548ap-3f,
                              0x1.fffffcp-2f};
static const float tanh_p[] = {-0x1.72c4bap-8f, 0x1.5179bap-6f, -0x1.b822cep-5f, 0x1.11066cp-3f,
                               -0x1.555530p-2f};
static const float erf_p[] = {0x1.496a22p-14f, -0x1.a3f6fap-11f, 0x1.5405b0p-8f, -0x1.b7f90cp-6f,
                              0x1.ce2cf8p-4f,  -0x1.81273ep-2f,  0x1.06eba8p-3f};
static const float erf_q[] = {0x1.852d66p-13f, -0x1.814cecp-9f, 0x1.65422cp-6f,  -0x1.a60a88p-4f,
                              -0x1.46c584p-1f, -0x1.2085b2p+0f, -0x1.72e5f2p-12f};

static const float gelu_q[] = {-0x1.07bce2p-19f, 0x1.c9ec9ep-16f, -0x1.0ea31ap-13f, -0x1.8e1d6cp-14f,
                               0x1.40dd18p-8f,   -0x1.2a1648p-5f, -0x1.45f024p-2f,  -0x1.98846cp-1f};

#ifdef VECTORS
#include "kernels/eltwise/functions.inc.h"
#else
static inline float power_of_two(int32_t n) {
    uint32_t bits = (uint32_t)(n + 127) << 23;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline float polynomial(float x, const float *c, int degree) {
    float p = c[0];
    for (int i = 1; i <= degree; i++) p = fmaf(p, x, c[i]);
    return p;
}

/* exp(r) = 1 + r + r^2 q(r) */
static inline float exp_reduced(float r) {
    float q = polynomial(r, exp_q, ESPL_COUNT(exp_q) - 1);
    return fmaf(q * r, r, r) + 1.0f;
}

/* exp(x) = 2^n exp(r), n = rne(x / ln 2), r = x - n ln 2 in two steps (Cody and Waite): n, and r in place of
 * x. */
static inline int32_t exp_reduce(float *x) {
    float t = *x * LOG2_E;
    int32_t n = espl__rne(t == t ? t : 0.0f);
    *x = fmaf((float)n, -LN2_LOW, fmaf((float)n, -LN2_HIGH, *x));
    return n;
}

/* The power is applied in two halves, so that the result is rounded once where it is subnormal and becomes
 * infinite where it must. NaN comes out as NaN. */
static inline float exp_one(float x) {
    x = -104.0f > x ? -104.0f : x; /* below half of the smallest subnormal */
    x = 89.0f < x ? 89.0f : x;
    int32_t n = exp_reduce(&x), half = n >> 1;
    return exp_reduced(x) * power_of_two(half) * power_of_two(n - half);
}

/* From exp(-|x|), which cannot overflow, so that the left tail keeps its precision. */
static inline float sigmoid_one(float x) {
    float e = exp_one(-fabsf(x));
    return (x < 0.0f ? e : 1.0f) / (1.0f + e);
}

/* |x| < 0.625: x + x^3 p(x^2); else 1 - 2 / (exp(2|x|) + 1). */
static inline float tanh_one(float x) {
    float a = fabsf(x), s = x * x;
    float small = fmaf(x * s, polynomial(s, tanh_p, ESPL_COUNT(tanh_p) - 1), x);
    float large = copysignf(1.0f - 2.0f / (exp_one(2.0f * a) + 1.0f), x);
    return a < 0.625f ? small : large;
}

/* |x| < 1: x + x p(x^2); else 1 - exp(q(|x|)), q in [-18, -1]. From 4 on erf is 1 in f32. */
static inline float erf_one(float x) {
    float a = fabsf(x), s = x * x;
    float small = fmaf(polynomial(s, erf_p, ESPL_COUNT(erf_p) - 1), x, x);
    float t = polynomial(4.0f < a ? 4.0f : a, erf_q, ESPL_COUNT(erf_q) - 1);
    int32_t n = exp_reduce(&t);
    float large = copysignf(1.0f - exp_reduced(t) * power_of_two(n), x);
    return a < 1.0f ? small : large;
}

/* x Phi(x): Phi(-a) is a half of exp(a q(a)), and Phi(a) what it lacks to 1, so that both tails come out
 * right: max(x, 0) - a Phi(-a). Phi(-64) is 0 in f32. */
static inline float gelu_one(float x) {
    float a = fabsf(x);
    a = 64.0f < a ? 64.0f : a;
    float e = exp_one(a * polynomial(a, gelu_q, ESPL_COUNT(gelu_q) - 1));
    return (x > 0.0f ? x : 0.0f) - 0.5f * a * e;
}

/* Hendrycks and Gimpel's x / 2 (1 + tanh u), u = sqrt(2 / pi) (x + 0.044715 x^3), which is x sigmoid(2 u) */
static inline float gelu_tanh_one(float x) {
    float u = fmaf(0.044715f * x * x, x, x);
    return x * sigmoid_one(TWO_ROOT_2_PI * u);
}

#define MAP(name)                                                    \
    static void name##_f32(const float *in, float *out, int64_t n) { \
        for (int64_t i = 0; i < n; i++) out[i] = name##_one(in[i]);  \
    }

static void exp_scaled(float largest, float scale, const float *in, float *out, int64_t n,
                       float lane[LANES]) {
    memset(lane, 0, LANES * sizeof *lane);
    for (int64_t i = 0; i < n; i++) {
        float x = (in[i] - largest) * scale;
        out[i] = x < SOFTMAX_LEAST ? 0.0f : exp_one(x);
        lane[i % LANES] += out[i];
    }
}
#endif

MAP(exp)
MAP(sigmoid)
MAP(tanh)
MAP(erf)
MAP(gelu)
MAP(gelu_tanh)

/* --- one row ------------------------------------------------------------------------------------------ */

#ifndef VECTORS
#define PLAIN_TREE(name, step)                                                \
    static float name(float lane[LANES]) {                                    \
        for (int w = LANES / 2; w; w /= 2)                                    \
            for (int j = 0; j < w; j++) lane[j] = step(lane[j], lane[j + w]); \
        return lane[0];                                                       \
    }
PLAIN_TREE(tree_sum, plus_f32)
PLAIN_TREE(tree_larger, larger_f32)
#endif

static float max_of(const float *in, int64_t n) {
    float lane[LANES];
    for (int j = 0; j < LANES; j++) lane[j] = -INFINITY;
    int64_t i = max_lanes(in, n, lane);
    for (int j = 0; i + j < n; j++) lane[j] = larger_f32(lane[j], in[i + j]);
    return tree_larger(lane);
}

static float sum_of(const float *in, int64_t n) {
    float lane[LANES] = {0};
    int64_t i = sum_lanes(in, n, lane);
    for (int j = 0; i + j < n; j++) lane[j] += in[i + j];
    return tree_sum(lane);
}

/* Sum of (in + shift)^2. */
static float squares_of(float shift, const float *in, int64_t n) {
    float lane[LANES] = {0};
    int64_t i = squares_lanes(shift, in, n, lane);
    for (int j = 0; i + j < n; j++) lane[j] = fmaf(in[i + j] + shift, in[i + j] + shift, lane[j]);
    return tree_sum(lane);
}

static void softmax_f32(float scale, const float *in, float *out, int64_t n) {
    float lane[LANES];
    exp_scaled(max_of(in, n), scale, in, out, n, lane);
    float factor = 1.0f / tree_sum(lane);
    NO_CARRY
    for (int64_t i = 0; i < n; i++) out[i] *= factor;
}

static void layernorm_f32(const espl__layernorm *p, const float *in, float *out, int64_t n) {
    const float *scale = p->scale, *bias = p->bias;
    float mean = sum_of(in, n) / (float)n;
    float factor = 1.0f / sqrtf(squares_of(-mean, in, n) / (float)n + p->epsilon);
    if (bias) {
        NO_CARRY
        for (int64_t i = 0; i < n; i++) out[i] = fmaf((in[i] - mean) * factor, scale[i], bias[i]);
    } else {
        NO_CARRY
        for (int64_t i = 0; i < n; i++) out[i] = (in[i] - mean) * factor * scale[i];
    }
}

const espl__kernels SET = {
    .add_u8 = add_u8,
    .lut_u8 = LUT_U8,
    .requant_u8 = requant_u8,
    .quantize = quantize,
    .dequantize = OWN(dequantize),
    .max_u8 = max_u8,
    .max_f32 = max_f32,
    .sum_u8 = sum_u8,
    .sum_f32 = sum_f32,
    .add_f32 = add_f32,
    .mul_f32 = mul_f32,
    .clamp_f32 = clamp_f32,
    .exp_f32 = exp_f32,
    .sigmoid_f32 = sigmoid_f32,
    .tanh_f32 = tanh_f32,
    .affine_f32 = affine_f32,
    .erf_f32 = erf_f32,
    .gelu_f32 = gelu_f32,
    .gelu_tanh_f32 = gelu_tanh_f32,
    .softmax_f32 = softmax_f32,
    .layernorm_f32 = layernorm_f32,
};
