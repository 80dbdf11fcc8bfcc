/* Picking inputs from a window by position, in 512 bits. */
#ifndef ESPL_BANK_WORDS_512_H
#define ESPL_BANK_WORDS_512_H

#include "kernels/simd/avx512.h"

/* The bytes of each word from the n-th on. */
typedef __mmask64 some_bytes;
static INLINE some_bytes bytes_from(int n) {
    return 0x1111111111111111u * (15u & 15u << n);
}

#ifdef ESPL__VBMI
/* vpermb picks from everywhere, so a window is loaded once, not into every 128 bits. That costs AMD's Zen 4
 * as much as picking does; what lies behind the window's 16 bytes is not defined. */
static INLINE vi window_u8(const void *from) {
    return _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)from));
}
static INLINE vi pick(vi window, vi at) {
    return _mm512_permutexvar_epi8(at, window);
}
static INLINE vi pick_some(vi others, some_bytes some, vi window, vi at) {
    return _mm512_mask_permutexvar_epi8(others, some, at, window);
}
/* Two or four windows, one behind the other: a table of what the four slots of a row may pick. */
#define TABLES
static INLINE vi table_u8(const char *from, int windows) {
    if (windows == 2) return _mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *)(const void *)from));
    return vi_load(from);
}
static INLINE vi two_windows(const char *a, const char *b) {
    return _mm512_castsi256_si512(_mm256_loadu2_m128i((const void *)b, (const void *)a));
}
static INLINE vi four_windows(const char *a, const char *b, const char *c, const char *d) {
    const __m256i low = _mm256_loadu2_m128i((const void *)b, (const void *)a);
    return _mm512_inserti64x4(_mm512_castsi256_si512(low),
                              _mm256_loadu2_m128i((const void *)d, (const void *)c), 1);
}
/* Where the window of each slot begins in the table: of the first one there are `left`. */
static INLINE vi windows_in_table(int left, int slots) {
    uint32_t window = 0;
    for (int i = left; i < 4; i += slots) window += 0x10101010u << 8 * i;
    return vi_set1((int32_t)window);
}
static INLINE vi pick_in_table(vi table, vi order) {
    return _mm512_permutexvar_epi8(order, table);
}
#else
/* A window of 16 bytes in every 128 bits. */
static INLINE vi window_u8(const void *from) {
    return _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)from));
}
static INLINE vi pick(vi window, vi at) {
    return _mm512_shuffle_epi8(window, at);
}
static INLINE vi pick_some(vi others, some_bytes some, vi window, vi at) {
    return _mm512_mask_shuffle_epi8(others, some, window, at);
}
#endif
static INLINE vi vi_or(vi a, vi b) {
    return _mm512_or_si512(a, b);
}
static INLINE vi low_nibbles(vi x) {
    return _mm512_and_si512(x, v8_set1(15));
}
static INLINE vi high_nibbles(vi x) {
    return _mm512_and_si512(_mm512_srli_epi16(x, 4), v8_set1(15));
}

/* A window of 16 or 32 floats; one of 16 is there twice, so that the fifth bit of a position does not matter.
 */
typedef struct {
    vf low, high;
} window_f32;
static INLINE window_f32 window_load(const float *from, int size) {
    return (window_f32){vf_load(from), vf_load(from + size - 16)};
}
static INLINE vf pick_f32(const window_f32 *window, vi at, int size) {
    (void)size;
    return _mm512_permutex2var_ps(window->low, at, window->high);
}
static INLINE vi next_positions(vi at, int size) {
    return size == 16 ? _mm512_srli_epi32(at, 4) : _mm512_srli_epi32(at, 5);
}

#endif
