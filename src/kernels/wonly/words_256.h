/* Codes of few bits and rounding to bytes, in 256 bits. */
#ifndef ESPL_WONLY_WORDS_256_H
#define ESPL_WONLY_WORDS_256_H

#include "kernels/simd/avx2.h"

/* Sums of rows x blocks that are made side by side, three registers each: one alone would wait for the
 * product before. */
enum { SUMS = 2, ROWS = SUMS };
#define ROW_TILES(X, BITS, PLANES) X(BITS, PLANES, 1) X(BITS, PLANES, 2)

/* Bits `from` and up of every byte, as many as `mask` has. */
static INLINE vi bits_of(vi x, int from, int mask) {
    return _mm256_and_si256(from ? _mm256_srli_epi16(x, from) : x, v8_set1(mask));
}
static INLINE vi vi_shift_left(vi x, int n) {
    return _mm256_slli_epi32(x, n);
}
static INLINE vi vi_shift_right(vi x, int n) {
    return _mm256_srai_epi32(x, n);
}
static INLINE vi vi_abs_bits(vf x) {
    return _mm256_and_si256(_mm256_castps_si256(x), vi_set1(INT32_MAX));
}
static INLINE vi vi_max(vi a, vi b) {
    return _mm256_max_epi32(a, b);
}
static INLINE int32_t vi_largest(vi x) {
    __m128i y = _mm_max_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    y = _mm_max_epi32(y, _mm_shuffle_epi32(y, 0x4E));
    return _mm_cvtsi128_si32(_mm_max_epi32(y, _mm_shuffle_epi32(y, 0xB1)));
}
static INLINE int32_t vi_sum(vi x) {
    __m128i y = _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    y = _mm_add_epi32(y, _mm_shuffle_epi32(y, 0x4E));
    return _mm_cvtsi128_si32(_mm_add_epi32(y, _mm_shuffle_epi32(y, 0xB1)));
}
/* The lowest byte of every lane. */
static INLINE void store_low_bytes(uint8_t *to, vi x) {
    const vi pick = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1));
    x = _mm256_shuffle_epi8(x, pick);
    x = _mm256_unpacklo_epi32(x, _mm256_castsi128_si256(_mm256_extracti128_si256(x, 1)));
    _mm_storel_epi64((__m128i *)to, _mm256_castsi256_si128(x));
}
/* Sums of pairs of 16 bits. */
static INLINE vi v16_pairs(vi x) {
    return _mm256_madd_epi16(x, v16_set1(1));
}
static INLINE w_operand w_of(vi x) {
#ifdef ESPL__VNNI
    return x;
#else
    return (w_operand){_mm256_srai_epi16(_mm256_slli_epi16(x, 8), 8), _mm256_srai_epi16(x, 8)};
#endif
}

#endif
