/* Depthwise convolution in 256 bits. In integers vpmaddwd adds two products, so a 3x3 window of 16 channels
 * is five pairs of taps: the upper two rows of each of its columns, and of the lower row the first two
 * columns and the last one (with a neighbour that weighs nothing). Bytes become 16 bits when they are loaded,
 * and interleaving two taps leaves channels 0 to 3 and 8 to 11 in one register and the others in a second;
 * narrowing the sums undoes that. A window that moves needs only its new columns: every pair that it has seen
 * before stays in a register. */
#include "kernels/simd/avx2.h"

static int windows(const espl__dwconv *p, const uint8_t *in, uint8_t *out, const uint8_t *res, int pixels,
                   int c, int last);
#define DW_WIDE windows
#define TILES(X) X(1) X(2) X(3) X(4)
enum { MR_MAX = 4 };
#define CONV_U8
#include "kernels/conv/dwconv.inc.h"

/* 16 channels: 0 to 3 and 8 to 11; 4 to 7 and 12 to 15. */
typedef struct {
    vi lo, hi;
} pair;

/* What all rows need of 16 channels. */
typedef struct {
    pair w[5], bias, mult; /* columns of two taps, two taps of the lower row, its last one */
} plan;

static INLINE pair interleave(vi a, vi b) {
    return (pair){_mm256_unpacklo_epi16(a, b), _mm256_unpackhi_epi16(a, b)};
}

static INLINE pair reorder(vi first, vi second) {
    return (pair){_mm256_permute2x128_si256(first, second, 0x20),
                  _mm256_permute2x128_si256(first, second, 0x31)};
}

static INLINE pair values_of(const void *array, int c) {
    const int32_t *from = (const int32_t *)array + c;
    return reorder(vi_load(from), vi_load(from + VL));
}

/* The weights of two taps, which hold s8, as 16 bits; b < 0: of one. */
static INLINE pair weights_of(const espl__dwconv *p, int c, int a, int b) {
    const int32_t *w = (const int32_t *)p->w + c;
    const ptrdiff_t stride = tap_stride(p);
    const vi low = vi_set1(0xFFFF);
    vi x[2];
    for (int v = 0; v < 2; v++) {
        x[v] = _mm256_and_si256(vi_load(w + a * stride + v * VL), low);
        if (b >= 0) x[v] = _mm256_or_si256(x[v], _mm256_slli_epi32(vi_load(w + b * stride + v * VL), 16));
    }
    return reorder(x[0], x[1]);
}

static INLINE vi load_16(const uint8_t *from) {
    return _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)from));
}

static INLINE pair add_products(pair acc, pair x, const pair *w) {
    return (pair){vi_madd(acc.lo, x.lo, w->lo), vi_madd(acc.hi, x.hi, w->hi)};
}

static INLINE void store_16(uint8_t *to, pair acc, const pair *mult, bounds b) {
    const vi lo = round_capped(vf_mul(vf_of(acc.lo), _mm256_castsi256_ps(mult->lo))),
             hi = round_capped(vf_mul(vf_of(acc.hi), _mm256_castsi256_ps(mult->hi)));
    const vi words = _mm256_adds_epi16(_mm256_packs_epi32(lo, hi), b.zero);
    const __m128i codes = _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    _mm_storeu_si128((__m128i *)to, _mm_min_epu8(_mm_max_epu8(codes, _mm256_castsi256_si128(b.lo)),
                                                 _mm256_castsi256_si128(b.hi)));
}

/* A row of windows at stride S. */
static INLINE void window_row(const espl__dwconv *p, const plan *q, ptrdiff_t step, const uint8_t *in,
                              uint8_t *out, int pixels, int S) {
    const uint8_t *row0 = in + p->tap_off[0], *row1 = in + p->tap_off[3], *row2 = in + p->tap_off[6];
    const bounds b = bounds_of(p->q.zero, p->q.lo, p->q.hi);
    pair left = interleave(load_16(row0), load_16(row1)), middle = left;
    pair low0 = interleave(load_16(row2), load_16(row2 + step)), low1 = low0;
    if (S == 1) {
        middle = interleave(load_16(row0 + step), load_16(row1 + step));
        low1 = interleave(load_16(row2 + step), load_16(row2 + 2 * step));
    }
    for (; pixels > 0; pixels--, out += p->out_step) {
        const ptrdiff_t further = pixels > 1 ? 3 * step : 2 * step; /* the last window ends here */
        if (S == 2) middle = interleave(load_16(row0 + step), load_16(row1 + step));
        const pair right = interleave(load_16(row0 + 2 * step), load_16(row1 + 2 * step));
        const pair low2 = interleave(load_16(row2 + 2 * step), load_16(row2 + further));
        pair acc = add_products(q->bias, left, &q->w[0]);
        acc = add_products(acc, middle, &q->w[1]);
        acc = add_products(acc, right, &q->w[2]);
        acc = add_products(acc, low0, &q->w[3]);
        acc = add_products(acc, low2, &q->w[4]);
        store_16(out, acc, &q->mult, b);
        left = S == 1 ? middle : right;
        low0 = S == 1 ? low1 : low2;
        if (S == 1) middle = right, low1 = low2;
        row0 += p->in_step, row1 += p->in_step, row2 += p->in_step;
    }
}

/* Returns the first channel that is left. Behind whole blocks the last channels are a block that overlaps. */
static int windows(const espl__dwconv *p, const uint8_t *in, uint8_t *out, const uint8_t *res, int pixels,
                   int c, int last) {
    const ptrdiff_t step = window_step(p);
    const int first = c;
    if (res || pixels == 0 || !step || (p->in_step != step && p->in_step != 2 * step)) return c;
    for (; c < last; c += ESPL__NR) {
        if (c + ESPL__NR > last) c = last - ESPL__NR;
        if (c < first) return first;
        plan q = {.bias = values_of(p->bias, c), .mult = values_of(p->q.mult, c)};
        for (int t = 0; t < 3; t++) q.w[t] = weights_of(p, c, t, 3 + t);
        q.w[3] = weights_of(p, c, 6, 7);
        q.w[4] = weights_of(p, c, 8, -1);
        for (int y = 0; y < rows_of(p, pixels); y++) {
            const row r = row_at(p, in + c, out + c, NULL, pixels, y);
            if (p->in_step == step)
                window_row(p, &q, step, (const uint8_t *)r.in, (uint8_t *)r.out, r.pixels, 1);
            else
                window_row(p, &q, step, (const uint8_t *)r.in, (uint8_t *)r.out, r.pixels, 2);
        }
    }
    return c;
}
