/* Depthwise convolution with vpdpbusd, 64 channels at a time. It wants four taps of one channel in four
 * neighbouring bytes: two rounds of in-lane unpacking bring four vectors of 64 channels there, as four
 * vectors of 16 channels whose order is that of the unpacking. Weights, bias and multipliers are put in the
 * same order once a call, and packing the sums to bytes undoes it. A 3x3 window at stride 1 moves one column
 * a pixel, at stride 2 two, so only the new ones are unpacked. Where a pixel has only 32, 16 or 8 channels
 * and the next one follows, a vector holds several pixels instead, and the weights are repeated. */
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
static INLINE quad reorder(const char *from) {
    quad q;
    UNROLL
    for (int i = 0; i < 4; i++) {
        __m512i x = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)(from + 16 * i)));
        x = _mm512_inserti32x4(x, _mm_loadu_si128((const __m128i *)(from + 64 + 16 * i)), 1);
        x = _mm512_inserti32x4(x, _mm_loadu_si128((const __m128i *)(from + 128 + 16 * i)), 2);
        q.v[i] = _mm512_inserti32x4(x, _mm_loadu_si128((const __m128i *)(from + 192 + 16 * i)), 3);
    }
    return q;
}

/* What all rows need of up to 64 channels. */
typedef struct {
    int c, valid; /* the first channel and how many there are */
    int pixels;   /* that share a vector */
    quad w[MAX_GROUPS], bias, mult;
} plan;

/* The plan's share of an array padded to 16 channels; zero behind it, or repeated for each pixel. */
static INLINE quad values_of(const plan *q, const void *array) {
    const char *from = (const char *)array + (size_t)q->c * 4;
    if (q->valid == WIDE) return reorder(from);
    char copy[WIDE * 4] = {0};
    for (int i = 0; i < q->pixels; i++)
        memcpy(copy + (ptrdiff_t)i * q->valid * 4, from,
               (size_t)(q->pixels > 1 ? q->valid : (q->valid + 15) / 16 * 16) * 4);
    return reorder(copy);
}

/* The weights of one tap, s32 that hold s8, as bytes. A tap that is not there weighs nothing. */
static INLINE vi tap_bytes(const espl__dwconv *p, const plan *q, int tap) {
    if (tap >= p->taps) return vi_set1(0);
    const int32_t *w = (const int32_t *)p->w + tap * tap_stride(p) + q->c;
    vi x = _mm512_castsi128_si512(_mm512_cvtepi32_epi8(vi_load(w)));
    if (q->valid > 16) x = _mm512_inserti32x4(x, _mm512_cvtepi32_epi8(vi_load(w + 16)), 1);
    if (q->valid > 32) x = _mm512_inserti32x4(x, _mm512_cvtepi32_epi8(vi_load(w + 32)), 2);
    if (q->valid > 48) x = _mm512_inserti32x4(x, _mm512_cvtepi32_epi8(vi_load(w + 48)), 3);
    if (q->pixels == 1) return x;
    uint8_t one[WIDE], all[WIDE];
    vi_store(one, x);
    for (int i = 0; i < q->pixels; i++) memcpy(all + (ptrdiff_t)i * q->valid, one, (size_t)q->valid);
    return vi_load(all);
}

static INLINE vi load_channels(const uint8_t *from, bool full, int valid) {
    return full ? vi_load(from) : _mm512_maskz_loadu_epi8(mask(valid), from);
}

static INLINE void store_channels(uint8_t *to, vi codes, bool full, int valid) {
    if (full)
        vi_store(to, codes);
    else
        _mm512_mask_storeu_epi8(to, mask(valid), codes);
}

/* Codes of 64 channels from their sums. */
static INLINE vi codes_of(const quad *acc, const quad *mult, bounds b) {
    vi y[4];
    UNROLL
    for (int i = 0; i < 4; i++)
        y[i] = round_capped(vf_mul(vf_of(acc->v[i]), _mm512_castsi512_ps(mult->v[i])));
    return bounded(narrow_lanes(y, b.zero), b);
}

static INLINE void dot_quad(quad *acc, const quad *x, const quad *w) {
    UNROLL
    for (int i = 0; i < 4; i++) acc->v[i] = _mm512_dpbusd_epi32(acc->v[i], x->v[i], w->v[i]);
}

/* --- a 3x3 window at stride 1 or 2 ------------------------------------------------------------------- */

static INLINE quad column(const uint8_t *in, const int32_t rows[3], bool full, int valid) {
    return interleave(load_channels(in + rows[0], full, valid), load_channels(in + rows[1], full, valid),
                      load_channels(in + rows[2], full, valid), _mm512_setzero_si512());
}

/* S columns are new from one result to the next. */
static INLINE void window_row(const espl__dwconv *p, const plan *q, ptrdiff_t step, const uint8_t *in,
                              uint8_t *out, int pixels, bool full, int S) {
    const int32_t rows[3] = {p->tap_off[0], p->tap_off[3], p->tap_off[6]};
    const bounds b = bounds_of(p->q.zero, p->q.lo, p->q.hi);
    quad left = column(in, rows, full, q->valid), middle = left;
    if (S == 1) middle = column(in + step, rows, full, q->valid);
    const ptrdiff_t in_step = p->in_step * q->pixels, out_step = p->out_step * q->pixels;
    for (int i = 0; i < pixels; i++, in += in_step, out += out_step) {
        if (S == 3) left = column(in, rows, full, q->valid);
        if (S >= 2) middle = column(in + step, rows, full, q->valid);
        const quad right = column(in + 2 * step, rows, full, q->valid);
        quad acc = q->bias;
        dot_quad(&acc, &left, &q->w[0]);
        dot_quad(&acc, &middle, &q->w[1]);
        dot_quad(&acc, &right, &q->w[2]);
        store_channels(out, codes_of(&acc, &q->mult, b), full, q->valid);
        left = S == 1 ? middle : right;
        if (S == 1) middle = right;
    }
}

/* --- any taps ------------------------------------------------------------------------------------------ */

static INLINE void any_row(const espl__dwconv *p, plan *q, const uint8_t *in, uint8_t *out, int pixels,
                           bool full) {
    const bounds b = bounds_of(p->q.zero, p->q.lo, p->q.hi);
    const int groups = (p->taps + 3) / 4;
    int32_t off[MAX_GROUPS * 4];
    for (int t = 0; t < groups * 4; t++) off[t] = p->tap_off[t < p->taps ? t : 0];
    for (int i = 0; i < pixels; i++, in += p->in_step, out += p->out_step) {
        quad acc = q->bias;
        for (int g = 0; g < groups; g++) {
            const int32_t *o = off + g * 4;
            const quad x = interleave(
                load_channels(in + o[0], full, q->valid), load_channels(in + o[1], full, q->valid),
                load_channels(in + o[2], full, q->valid), load_channels(in + o[3], full, q->valid));
            dot_quad(&acc, &x, &q->w[g]);
        }
        store_channels(out, codes_of(&acc, &q->mult, b), full, q->valid);
    }
}

/* The weights as the rows' functions take them: columns of a window, or fours of any taps. */
static INLINE void interleave_taps(const espl__dwconv *p, plan *q, bool window) {
    for (int t = 0; window && t < 3; t++)
        q->w[t] = interleave(tap_bytes(p, q, t), tap_bytes(p, q, 3 + t), tap_bytes(p, q, 6 + t), vi_set1(0));
    for (int t = 0; !window && t < p->taps; t += 4)
        q->w[t / 4] = interleave(tap_bytes(p, q, t), tap_bytes(p, q, t + 1), tap_bytes(p, q, t + 2),
                                 tap_bytes(p, q, t + 3));
}

/* Several pixels a vector, and one by one what is left of the row. */
static void packed_row(const espl__dwconv *p, plan *q, ptrdiff_t step, const uint8_t *in, uint8_t *out,
                       int pixels) {
    const int vectors = pixels / q->pixels, done = vectors * q->pixels;
    if (vectors > 0 && q->pixels == 2)
        window_row(p, q, step, in, out, vectors, true, 2);
    else if (vectors > 0)
        window_row(p, q, step, in, out, vectors, true, 3);
    if (done == pixels) return;
    plan one = *q;
    one.pixels = 1;
    window_row(p, &one, step, in + done * p->in_step, out + done * p->out_step, pixels - done, false, 1);
}

static void wide_row(const espl__dwconv *p, plan *q, ptrdiff_t step, int stride, const uint8_t *in,
                     uint8_t *out, int pixels) {
    const bool full = q->valid == WIDE;
    if (q->pixels > 1)
        packed_row(p, q, step, in, out, pixels);
    else if (stride == 1 && full)
        window_row(p, q, step, in, out, pixels, true, 1);
    else if (stride == 1)
        window_row(p, q, step, in, out, pixels, false, 1);
    else if (stride == 2 && full)
        window_row(p, q, step, in, out, pixels, true, 2);
    else if (stride == 2)
        window_row(p, q, step, in, out, pixels, false, 2);
    else if (full)
        any_row(p, q, in, out, pixels, true);
    else
        any_row(p, q, in, out, pixels, false);
}

/* Pixels of a vector: several where all channels of few follow each other in input and result. */
static int pixels_of(const espl__dwconv *p, int stride) {
    const int c = p->channels;
    return stride == 1 && (c == 8 || c == 16 || c == 32) && p->in_step == c && p->out_step == c ? WIDE / c
                                                                                                : 1;
}

/* Returns the first channel that is left. One block alone is better off with 16 channels a vector. */
static int wide(const espl__dwconv *p, const uint8_t *in, uint8_t *out, const uint8_t *res, int pixels, int c,
                int last) {
    if (res || p->taps > MAX_GROUPS * 4 || p->taps == 0 || pixels == 0) return c;
    const ptrdiff_t step = window_step(p);
    const int stride = step && p->in_step == step ? 1 : step && p->in_step == 2 * step ? 2 : 0;
    plan q = {.pixels = c == 0 && last == p->channels ? pixels_of(p, stride) : 1};
    for (; c + ESPL__NR < last || (q.pixels > 1 && c < last); c += q.valid) {
        q.c = c;
        q.valid = last - c < WIDE ? last - c : WIDE;
        q.bias = values_of(&q, p->bias);
        q.mult = values_of(&q, p->q.mult);
        interleave_taps(p, &q, stride != 0);
        for (int y = 0; y < rows_of(p, pixels); y++) {
            const row r = row_at(p, in + c, out + c, NULL, pixels, y);
            wide_row(p, &q, step, stride, (const uint8_t *)r.in, (uint8_t *)r.out, r.pixels);
        }
    }
    return c;
}

const espl__kernels espl__dwconv_avx512vnni = {.dwconv_u8 = dwconv_u8};
