/* Depthwise convolution with vpdpbusd, 64 channels at a time. It wants four taps of one channel in four neighbouring bytes:
 * two rounds of in-lane unpacking bring four vectors of 64 channels there, as four vectors of 16 channels whose order is that
 * of the unpacking. Weights, bias and multipliers are put in the same order once a row, and packing the sums to bytes undoes
 * it. A 3x3 window at stride 1 moves one column a pixel, so only the new column is unpacked. */
#include <stdbool.h>

#define ESPL__VNNI
#include "kernels/simd/avx512.h"

static int wide(const espl__dwconv *p, const uint8_t *in, uint8_t *out, const uint8_t *res, int pixels, int c,
                int last);
#define DW_WIDE wide
#define TILES(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8)
enum { MR_MAX = 8 };
#define CONV_U8
#include "kernels/conv/dwconv.inc.h"

enum { WIDE = 64, MAX_GROUPS = 16 };

/* Four taps of 64 channels, 16 channels a vector. */
typedef struct {
    vi v[4];
} quad;

static INLINE quad interleave(vi a, vi b, vi c, vi d) {
    const vi ab_lo = _mm512_unpacklo_epi8(a, b), ab_hi = _mm512_unpackhi_epi8(a, b);
    const vi cd_lo = _mm512_unpacklo_epi8(c, d), cd_hi = _mm512_unpackhi_epi8(c, d);
    return (quad){{_mm512_unpacklo_epi16(ab_lo, cd_lo), _mm512_unpackhi_epi16(ab_lo, cd_lo),
                   _mm512_unpacklo_epi16(ab_hi, cd_hi), _mm512_unpackhi_epi16(ab_hi, cd_hi)}};
}

/* 64 values of 32 bits in the same order: vector i takes the i-th 128 bits of every 16 channels. */
static INLINE quad reorder(const void *from) {
    const char *at = from;
    quad q;
    UNROLL
    for (int i = 0; i < 4; i++) {
        __m512i x = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)(at + 16 * i)));
        x = _mm512_inserti32x4(x, _mm_loadu_si128((const __m128i *)(at + 64 + 16 * i)), 1);
        x = _mm512_inserti32x4(x, _mm_loadu_si128((const __m128i *)(at + 128 + 16 * i)), 2);
        q.v[i] = _mm512_inserti32x4(x, _mm_loadu_si128((const __m128i *)(at + 192 + 16 * i)), 3);
    }
    return q;
}

/* What a row needs of 64 channels, in memory operands' reach. */
typedef struct {
    quad w[MAX_GROUPS], bias, mult;
    int32_t off[MAX_GROUPS * 4];
    int groups;
} plan;

/* The weights of one tap, s32 that hold s8, as 64 bytes. Taps that are not there weigh nothing. */
static INLINE vi tap_bytes(const espl__dwconv *p, int tap, int c) {
    if (tap < 0) return _mm512_setzero_si512();
    const int32_t *w = (const int32_t *)p->w + tap * tap_stride(p) + c;
    vi x = _mm512_castsi128_si512(_mm512_cvtepi32_epi8(vi_load(w)));
    x = _mm512_inserti32x4(x, _mm512_cvtepi32_epi8(vi_load(w + 16)), 1);
    x = _mm512_inserti32x4(x, _mm512_cvtepi32_epi8(vi_load(w + 32)), 2);
    return _mm512_inserti32x4(x, _mm512_cvtepi32_epi8(vi_load(w + 48)), 3);
}

static void plan_channels(plan *q, const espl__dwconv *p, int c) {
    q->bias = reorder((const int32_t *)p->bias + c);
    q->mult = reorder(p->q.mult + c);
}

/* Codes of 64 channels from their sums. */
static INLINE vi codes_of(const quad *acc, const quad *mult, bounds b) {
    vi y[4];
    UNROLL
    for (int i = 0; i < 4; i++) y[i] = round_capped(vf_mul(vf_of(acc->v[i]), _mm512_castsi512_ps(mult->v[i])));
    return bounded(narrow_lanes(y, b.zero), b);
}

static INLINE void dot_quad(quad *acc, const quad *x, const quad *w) {
    UNROLL
    for (int i = 0; i < 4; i++) acc->v[i] = _mm512_dpbusd_epi32(acc->v[i], x->v[i], w->v[i]);
}

/* Whether the nine taps are three rows of three neighbouring pixels. */
static bool is_window(const espl__dwconv *p) {
    if (p->taps != 9) return false;
    for (int t = 0; t < 9; t++)
        if (p->tap_off[t] != p->tap_off[t / 3 * 3] + t % 3 * p->in_step) return false;
    return true;
}

static INLINE quad column(const uint8_t *in, const int32_t *rows) {
    return interleave(vi_load(in + rows[0]), vi_load(in + rows[1]), vi_load(in + rows[2]), _mm512_setzero_si512());
}

static void window_row(const espl__dwconv *p, plan *q, const uint8_t *in, uint8_t *out, int pixels, int c) {
    for (int t = 0; t < 3; t++)
        q->w[t] = interleave(tap_bytes(p, t, c), tap_bytes(p, 3 + t, c), tap_bytes(p, 6 + t, c), tap_bytes(p, -1, c));
    const int32_t rows[3] = {p->tap_off[0], p->tap_off[3], p->tap_off[6]};
    const bounds b = bounds_of(p->q.zero, p->q.lo, p->q.hi);
    quad left = column(in, rows), middle = column(in + p->in_step, rows);
    in += 2 * p->in_step;
    for (int i = 0; i < pixels; i++, in += p->in_step, out += p->out_step) {
        const quad right = column(in, rows);
        quad acc = q->bias;
        dot_quad(&acc, &left, &q->w[0]);
        dot_quad(&acc, &middle, &q->w[1]);
        dot_quad(&acc, &right, &q->w[2]);
        vi_store(out, codes_of(&acc, &q->mult, b));
        left = middle;
        middle = right;
    }
}

static void any_row(const espl__dwconv *p, plan *q, const uint8_t *in, uint8_t *out, int pixels, int c) {
    q->groups = (p->taps + 3) / 4;
    for (int g = 0; g < q->groups; g++) {
        int tap[4];
        for (int i = 0; i < 4; i++) {
            tap[i] = g * 4 + i < p->taps ? g * 4 + i : -1;
            q->off[g * 4 + i] = p->tap_off[tap[i] < 0 ? g * 4 : tap[i]];
        }
        q->w[g] = interleave(tap_bytes(p, tap[0], c), tap_bytes(p, tap[1], c), tap_bytes(p, tap[2], c),
                             tap_bytes(p, tap[3], c));
    }
    const bounds b = bounds_of(p->q.zero, p->q.lo, p->q.hi);
    for (int i = 0; i < pixels; i++, in += p->in_step, out += p->out_step) {
        quad acc = q->bias;
        for (int g = 0; g < q->groups; g++) {
            const int32_t *off = q->off + g * 4;
            const quad x = interleave(vi_load(in + off[0]), vi_load(in + off[1]), vi_load(in + off[2]),
                                      vi_load(in + off[3]));
            dot_quad(&acc, &x, &q->w[g]);
        }
        vi_store(out, codes_of(&acc, &q->mult, b));
    }
}

/* As many channels from c on as fill vectors of 64; the first channel that is left. */
static int wide(const espl__dwconv *p, const uint8_t *in, uint8_t *out, const uint8_t *res, int pixels, int c,
                int last) {
    if (res || p->taps > MAX_GROUPS * 4 || p->taps == 0) return c;
    plan q;
    const bool window = is_window(p);
    for (; c + WIDE <= last && pixels > 0; c += WIDE) {
        plan_channels(&q, p, c);
        if (window)
            window_row(p, &q, in + c, out + c, pixels, c);
        else
            any_row(p, &q, in + c, out + c, pixels, c);
    }
    return c;
}

const espl__kernels espl__dwconv_avx512vnni = {.dwconv_u8 = dwconv_u8};
