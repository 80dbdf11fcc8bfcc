/* Codes of few bits and rounding to bytes, in 512 bits. */
#ifndef ESPL_WONLY_WORDS_512_H
#define ESPL_WONLY_WORDS_512_H

#include "kernels/simd/avx512.h"

/* Sums of rows x blocks that are made side by side, three registers each: one alone would wait for the
 * product before. */
enum { SUMS = 4, ROWS = SUMS };
#define ROW_TILES(X, BITS, PLANES) X(BITS, PLANES, 1) X(BITS, PLANES, 2) X(BITS, PLANES, 3) X(BITS, PLANES, 4)

/* Bits `from` and up of every byte, as many as `mask` has. */
static INLINE vi bits_of(vi x, int from, int mask) {
    return _mm512_and_si512(from ? _mm512_srli_epi16(x, (unsigned)from) : x, v8_set1(mask));
}
static INLINE vi vi_shift_left(vi x, int n) {
    return _mm512_slli_epi32(x, (unsigned)n);
}
static INLINE vi vi_shift_right(vi x, int n) {
    return _mm512_srai_epi32(x, (unsigned)n);
}
static INLINE vi vi_abs_bits(vf x) {
    return _mm512_and_si512(_mm512_castps_si512(x), vi_set1(INT32_MAX));
}
static INLINE vi vi_max(vi a, vi b) {
    return _mm512_max_epi32(a, b);
}
static INLINE int32_t vi_largest(vi x) {
    return _mm512_reduce_max_epi32(x);
}
static INLINE int32_t vi_sum(vi x) {
    return _mm512_reduce_add_epi32(x);
}
/* The lowest byte of every lane. */
static INLINE void store_low_bytes(uint8_t *to, vi x) {
    _mm_storeu_si128((__m128i *)to, _mm512_cvtepi32_epi8(x));
}
/* Sums of pairs of 16 bits. */
static INLINE vi v16_pairs(vi x) {
    return _mm512_madd_epi16(x, v16_set1(1));
}
static INLINE w_operand w_of(vi x) {
#ifdef ESPL__VNNI
    return x;
#else
    return (w_operand){_mm512_srai_epi16(_mm512_slli_epi16(x, 8), 8), _mm512_srai_epi16(x, 8)};
#endif
}

#endif
