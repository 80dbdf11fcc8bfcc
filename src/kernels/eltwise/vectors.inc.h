/* Elementwise kernels in the vector words, for every instruction set that has them. Codes leave four vectors
 * at a time. */
#include "kernels/simd/requant.inc.h"
#include "kernels/simd/tree.h"

enum { CODES = 4 * VL };

/* What is left of n elements is done in copies: a whole vector costs less than its tenth one by one. */
static inline void add_codes(const espl__qadd *p, const uint8_t *a, const uint8_t *b, uint8_t *out) {
    const bounds q = bounds_of(p->zero, p->lo, p->hi);
    const vf sa = vf_set1(p->sa), sb = vf_set1(p->sb);
    const vi za = vi_set1(p->za), zb = vi_set1(p->zb);
    vi y[4];
    UNROLL
    for (int j = 0; j < 4; j++) {
        const vf x = vf_of(vi_sub(vi_load_u8(a + j * VL), za));
        const vf z = vf_of(vi_sub(vi_load_u8(b + j * VL), zb));
        y[j] = round_capped(vf_fma(x, sa, vf_mul(z, sb)));
    }
    vi_store(out, bounded(narrow(y, q.zero), q));
}

static void add_u8(const espl__qadd *p, const uint8_t *a, const uint8_t *b, uint8_t *out, int64_t n) {
    int64_t i = 0;
    for (; i + CODES <= n; i += CODES) add_codes(p, a + i, b + i, out + i);
    if (i == n) return;
    uint8_t last[2][CODES] = {{0}}, sums[CODES];
    memcpy(last[0], a + i, (size_t)(n - i));
    memcpy(last[1], b + i, (size_t)(n - i));
    add_codes(p, last[0], last[1], sums);
    memcpy(out + i, sums, (size_t)(n - i));
}

static inline void requant_codes(float scale, int32_t zin, int32_t zero, const uint8_t *in, uint8_t *out) {
    const bounds q = bounds_of(zero, 0, 255);
    const vf s = vf_set1(scale);
    const vi z = vi_set1(zin);
    vi y[4];
    UNROLL
    for (int j = 0; j < 4; j++) y[j] = round_capped(vf_mul(vf_of(vi_sub(vi_load_u8(in + j * VL), z)), s));
    vi_store(out, narrow(y, q.zero));
}

static void requant_u8(float scale, int32_t zin, int32_t zero, const uint8_t *in, uint8_t *out, int64_t n) {
    int64_t i = 0;
    for (; i + CODES <= n; i += CODES) requant_codes(scale, zin, zero, in + i, out + i);
    if (i == n) return;
    uint8_t last[CODES] = {0}, codes[CODES];
    memcpy(last, in + i, (size_t)(n - i));
    requant_codes(scale, zin, zero, last, codes);
    memcpy(out + i, codes, (size_t)(n - i));
}

static inline void quantize_codes(float inverse, int32_t zero, int32_t lo, int32_t hi, const float *in,
                                  uint8_t *out) {
    const bounds q = bounds_of(zero, lo, hi);
    const vf s = vf_set1(inverse);
    vi y[4];
    UNROLL
    for (int j = 0; j < 4; j++) y[j] = round_capped(vf_mul(vf_load(in + j * VL), s));
    vi_store(out, bounded(narrow(y, q.zero), q));
}

static void quantize(float inverse, int32_t zero, int32_t lo, int32_t hi, const float *in, uint8_t *out,
                     int64_t n) {
    int64_t i = 0;
    for (; i + CODES <= n; i += CODES) quantize_codes(inverse, zero, lo, hi, in + i, out + i);
    if (i == n) return;
    float last[CODES] = {0};
    uint8_t codes[CODES];
    memcpy(last, in + i, (size_t)(n - i) * sizeof *in);
    quantize_codes(inverse, zero, lo, hi, last, codes);
    memcpy(out + i, codes, (size_t)(n - i));
}

/* Four bytes go out for one that comes in, so it is the stores that must not cross lines: the first elements,
 * up to where a line begins, are done apart. */
static void dequantize(float scale, int32_t zero, const uint8_t *in, float *out, int64_t n) {
    const vf s = vf_set1(scale);
    const vi z = vi_set1(zero);
    int64_t i = (int64_t)((64 - ((uintptr_t)out & 63)) & 63) / 4;
    if ((uintptr_t)out % 4 != 0 || i > n) i = 0;
    dequantize_plain(scale, zero, in, out, i);
    for (; i + VL <= n; i += VL) vf_store(out + i, vf_mul(vf_of(vi_sub(vi_load_u8(in + i), z)), s));
    dequantize_plain(scale, zero, in + i, out + i, n - i);
}

/* --- reductions over rows: a vector of channels stays in a register while the rows go by ------------- */

static void max_u8(const uint8_t *const *in, int count, uint8_t *out, int64_t channels) {
    if (channels < CODES) {
        max_u8_plain(in, count, out, 0, channels);
        return;
    }
    for (int64_t at = 0; at < channels; at += CODES) {
        int64_t c = ESPL_MIN(at, channels - CODES); /* the last vector goes over codes of the one before */
        vi acc = vi_load(in[0] + c);
        for (int i = 1; i < count; i++) acc = v8_max(acc, vi_load(in[i] + c));
        vi_store(out + c, acc);
    }
}

static void sum_u8(const uint8_t *const *in, int count, int32_t *out, int64_t channels) {
    int64_t c = 0;
    for (; c + 2 * VL <= channels; c += 2 * VL) {
        vi low = vi_load_u8(in[0] + c), high = vi_load_u8(in[0] + c + VL);
        for (int i = 1; i < count; i++) {
            low = vi_add(low, vi_load_u8(in[i] + c));
            high = vi_add(high, vi_load_u8(in[i] + c + VL));
        }
        vi_store(out + c, low);
        vi_store(out + c + VL, high);
    }
    sum_u8_plain(in, count, out, c, channels);
}

static void max_f32(const float *const *in, int count, float *out, int64_t channels) {
    if (channels < VL) {
        max_f32_plain(in, count, out, 0, channels);
        return;
    }
    for (int64_t at = 0; at < channels; at += VL) {
        int64_t c = ESPL_MIN(at, channels - VL);
        vf acc = vf_load(in[0] + c);
        for (int i = 1; i < count; i++) acc = vf_larger(acc, vf_load(in[i] + c));
        vf_store(out + c, acc);
    }
}

static void sum_f32(const float *const *in, int count, float *out, int64_t channels) {
    int64_t c = 0;
    for (; c + 2 * VL <= channels; c += 2 * VL) {
        vf low = vf_load(in[0] + c), high = vf_load(in[0] + c + VL);
        for (int i = 1; i < count; i++) {
            low = vf_add(low, vf_load(in[i] + c));
            high = vf_add(high, vf_load(in[i] + c + VL));
        }
        vf_store(out + c, low);
        vf_store(out + c + VL, high);
    }
    sum_f32_plain(in, count, out, c, channels);
}

/* --- reductions of one array ---------------------------------------------------------------------------- */

/* The last group is filled with what changes nothing: no sum is ever -0, to which +0 would make a difference.
 */
#define VECTOR_LANES(name, step, filler)                                                                 \
    static int64_t name(const float *in, int64_t n, float lane[LANES]) {                                 \
        vf acc[LANES / VL];                                                                              \
        UNROLL                                                                                           \
        for (int v = 0; v < LANES / VL; v++) acc[v] = vf_load(lane + v * VL);                            \
        int64_t i = 0;                                                                                   \
        for (; i + LANES <= n; i += LANES)                                                               \
            UNROLL for (int v = 0; v < LANES / VL; v++) acc[v] = step(acc[v], vf_load(in + i + v * VL)); \
        UNROLL                                                                                           \
        for (int v = 0; v < LANES / VL; v++) {                                                           \
            const int valid = (int)(n - i) - v * VL;                                                     \
            if (valid <= 0) break;                                                                       \
            const vf x = vf_load_part(in + i + v * VL, valid);                                           \
            acc[v] = step(acc[v], vf_first(x, vf_set1(filler), valid));                                  \
        }                                                                                                \
        UNROLL                                                                                           \
        for (int v = 0; v < LANES / VL; v++) vf_store(lane + v * VL, acc[v]);                            \
        return n;                                                                                        \
    }
VECTOR_LANES(max_lanes, vf_larger, -INFINITY)
VECTOR_LANES(sum_lanes, vf_add, 0.0f)

static int64_t squares_lanes(float shift, const float *in, int64_t n, float lane[LANES]) {
    const vf by = vf_set1(shift);
    vf acc[LANES / VL];
    UNROLL
    for (int v = 0; v < LANES / VL; v++) acc[v] = vf_load(lane + v * VL);
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) UNROLL for (int v = 0; v < LANES / VL; v++) {
            const vf d = vf_add(vf_load(in + i + v * VL), by);
            acc[v] = vf_fma(d, d, acc[v]);
        }
    UNROLL
    for (int v = 0; v < LANES / VL; v++) {
        const int valid = (int)(n - i) - v * VL;
        if (valid <= 0) break;
        const vf d = vf_add(vf_load_part(in + i + v * VL, valid), by);
        acc[v] = vf_first(vf_fma(d, d, acc[v]), acc[v], valid);
    }
    UNROLL
    for (int v = 0; v < LANES / VL; v++) vf_store(lane + v * VL, acc[v]);
    return n;
}
