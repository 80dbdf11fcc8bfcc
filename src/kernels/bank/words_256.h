/* Picking inputs from a window by position, in 256 bits. */
#ifndef ESPL_BANK_WORDS_256_H
#define ESPL_BANK_WORDS_256_H

#include "kernels/simd/avx2.h"

/* A window of 16 bytes in either half. */
static INLINE vi window_u8(const void *from) {
    return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)from));
}
static INLINE vi low_nibbles(vi x) {
    return _mm256_and_si256(x, v8_set1(15));
}
static INLINE vi high_nibbles(vi x) {
    return _mm256_and_si256(_mm256_srli_epi16(x, 4), v8_set1(15));
}
static INLINE vi pick(vi window, vi at) {
    return _mm256_shuffle_epi8(window, at);
}
/* The bytes of each word from the n-th on. */
typedef vi some_bytes;
static INLINE some_bytes bytes_from(int n) {
    return vi_set1((int32_t)(uint32_t)(UINT64_MAX << 8 * n)); /* n is 4 where none is wanted */
}
static INLINE vi pick_some(vi others, some_bytes some, vi window, vi at) {
    return _mm256_blendv_epi8(others, pick(window, at), some);
}

/* A window of 16 or 32 floats. A permutation picks from eight; bits 3 and 4 of a position, shifted to the
 * top, say from which eight. */
typedef struct {
    vf eight[4];
} window_f32;
static INLINE window_f32 window_load(const float *from, int size) {
    window_f32 w;
    for (int i = 0; i < 4; i++) w.eight[i] = vf_load(from + (i * 8 < size ? i * 8 : 0));
    return w;
}
static INLINE vf choose(vf low, vf high, vi at, int bit) {
    return _mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32(at, 31 - bit)));
}
static INLINE vf pick_f32(const window_f32 *w, vi at, int size) {
    vf x[4];
    for (int i = 0; i < size / 8; i++) x[i] = _mm256_permutevar8x32_ps(w->eight[i], at);
    x[0] = choose(x[0], x[1], at, 3);
    return size == 16 ? x[0] : choose(x[0], choose(x[2], x[3], at, 3), at, 4);
}
static INLINE vi next_positions(vi at, int size) {
    return size == 16 ? _mm256_srli_epi32(at, 4) : _mm256_srli_epi32(at, 5);
}

#endif
