/* The vector words of conv.inc.h and dwconv.inc.h in 256 bits. */
#ifndef ESPL_SIMD_AVX2_H
#define ESPL_SIMD_AVX2_H

#include <immintrin.h>

#include "kernels/conv/simd.h"

enum { VL = 8 };
typedef __m256i vi;
typedef __m256 vf;

static INLINE vi vi_load(const void *from) { return _mm256_loadu_si256((const __m256i *)from); }
static INLINE vi vi_set1(int32_t x) { return _mm256_set1_epi32(x); }
static INLINE vi vi_add(vi a, vi b) { return _mm256_add_epi32(a, b); }
static INLINE vi vi_sub(vi a, vi b) { return _mm256_sub_epi32(a, b); }
static INLINE vf vf_load(const float *from) { return _mm256_loadu_ps(from); }
static INLINE vf vf_set1(float x) { return _mm256_set1_ps(x); }
static INLINE vf vf_add(vf a, vf b) { return _mm256_add_ps(a, b); }
static INLINE vf vf_mul(vf a, vf b) { return _mm256_mul_ps(a, b); }
static INLINE vf vf_fma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
static INLINE vf vf_max(vf a, vf b) { return _mm256_max_ps(a, b); } /* b if either is NaN */
static INLINE vf vf_min(vf a, vf b) { return _mm256_min_ps(a, b); }
static INLINE vf vf_of(vi a) { return _mm256_cvtepi32_ps(a); }
static INLINE vi vi_rne(vf a) { return _mm256_cvtps_epi32(a); }

/* Partial vectors: the lanes from `valid` on are neither read nor written. */
static INLINE vi lanes(int valid) {
    return _mm256_cmpgt_epi32(vi_set1(valid), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
static INLINE vf vf_load_part(const float *from, int valid) {
    return valid >= VL ? vf_load(from) : _mm256_maskload_ps(from, lanes(valid));
}
static INLINE void vf_store_part(float *to, vf x, int valid) {
    if (valid >= VL)
        _mm256_storeu_ps(to, x);
    else
        _mm256_maskstore_ps(to, lanes(valid), x);
}
static INLINE vi vi_load_u8(const uint8_t *from) { return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)from)); }
static INLINE vi vi_load_u8_part(const uint8_t *from, int valid) {
    if (valid >= VL) return vi_load_u8(from);
    uint64_t bytes = 0;
    for (int i = valid - 1; i >= 0; i--) bytes = bytes << 8 | from[i];
    return _mm256_cvtepu8_epi32(_mm_cvtsi64_si128((int64_t)bytes));
}
/* Lanes hold 0..255. */
static INLINE void vi_store_u8_part(uint8_t *to, vi x, int valid) {
    __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    __m128i codes = _mm_packus_epi16(words, words);
    if (valid >= VL) {
        _mm_storel_epi64((__m128i *)to, codes);
        return;
    }
    uint64_t bytes = (uint64_t)_mm_cvtsi128_si64(codes);
    for (int i = 0; i < valid; i++, bytes >>= 8) to[i] = (uint8_t)bytes;
}

/* Both operands hold one element a lane, within 16 bits. */
static INLINE vi vi_madd(vi acc, vi x, vi w) { return vi_add(acc, _mm256_madd_epi16(x, w)); }

/* Four u8 times four s8 a lane. vpmaddubsw would saturate, so the bytes are widened: even and odd ones apart. */
typedef struct {
    vi even, odd;
} x_operand;
typedef x_operand w_operand;
static INLINE x_operand x_load(const uint8_t *from) {
    vi x = vi_set1(load4(from));
    return (x_operand){_mm256_and_si256(x, _mm256_set1_epi16(0xFF)), _mm256_srli_epi16(x, 8)};
}
static INLINE w_operand w_load(const int8_t *from) {
    vi w = vi_load(from);
    return (w_operand){_mm256_srai_epi16(_mm256_slli_epi16(w, 8), 8), _mm256_srai_epi16(w, 8)};
}
static INLINE vi dot(vi acc, x_operand x, w_operand w) {
    acc = vi_add(acc, _mm256_madd_epi16(x.even, w.even));
    __asm__("" : "+x"(acc)); /* no sum of both products first: that takes a register more */
    return vi_add(acc, _mm256_madd_epi16(x.odd, w.odd));
}

#endif
