/* The vector words of the .inc.h bodies in 256 bits. With ESPL__VNNI defined one instruction does four products a lane;
 * without it the bytes are widened to 16 bits, because vpmaddubsw saturates and would give other integers. */
#ifndef ESPL_SIMD_AVX2_H
#define ESPL_SIMD_AVX2_H

#include <immintrin.h>

#include "kernels/simd/simd.h"

enum { VL = 8 };
typedef __m256i vi;
typedef __m256 vf;

static INLINE vi vi_load(const void *from) {
    return _mm256_loadu_si256((const __m256i *)from);
}
static INLINE void vi_store(void *to, vi x) {
    _mm256_storeu_si256((__m256i *)to, x);
}
static INLINE vi vi_set1(int32_t x) {
    return _mm256_set1_epi32(x);
}
/* Keeps the compiler from taking sums in another order, for which it would need more registers. */
static INLINE vi vi_opaque(vi x) {
    __asm__("" : "+x"(x));
    return x;
}
static INLINE vi vi_add(vi a, vi b) {
    return _mm256_add_epi32(a, b);
}
static INLINE vi vi_sub(vi a, vi b) {
    return _mm256_sub_epi32(a, b);
}
static INLINE vf vf_load(const float *from) {
    return _mm256_loadu_ps(from);
}
static INLINE void vf_store(float *to, vf x) {
    _mm256_storeu_ps(to, x);
}
static INLINE vf vf_set1(float x) {
    return _mm256_set1_ps(x);
}
static INLINE vf vf_set1_bits(int32_t x) {
    return _mm256_castsi256_ps(_mm256_set1_epi32(x));
}
/* Keeps it in a register where the compiler would rather load it again for each use. */
static INLINE vf vf_opaque(vf x) {
    __asm__("" : "+x"(x));
    return x;
}
static INLINE vf vf_add(vf a, vf b) {
    return _mm256_add_ps(a, b);
}
static INLINE vf vf_sub(vf a, vf b) {
    return _mm256_sub_ps(a, b);
}
static INLINE vf vf_mul(vf a, vf b) {
    return _mm256_mul_ps(a, b);
}
static INLINE vf vf_fma(vf a, vf b, vf c) {
    return _mm256_fmadd_ps(a, b, c);
}
static INLINE vf vf_max(vf a, vf b) {
    return _mm256_max_ps(a, b);
} /* b if either is NaN */
static INLINE vf vf_min(vf a, vf b) {
    return _mm256_min_ps(a, b);
}
/* The larger, b if it is NaN; a if a is. */
static INLINE vf vf_larger(vf a, vf b) {
    return _mm256_blendv_ps(vf_max(b, a), b, _mm256_cmp_ps(b, b, _CMP_UNORD_Q));
}
static INLINE vf vf_of(vi a) {
    return _mm256_cvtepi32_ps(a);
}
/* To the nearest whole number, ties to the even one. */
static INLINE vf vf_rne(vf a) {
    return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
static INLINE vi vi_rne(vf a) {
    return _mm256_cvtps_epi32(a);
} /* INT32_MIN for NaN and what does not fit */

static INLINE vf vf_div(vf a, vf b) {
    return _mm256_div_ps(a, b);
}
static INLINE vf vf_abs(vf a) {
    return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a);
}
static INLINE vf vf_copysign(vf a, vf sign) {
    const vf bit = _mm256_set1_ps(-0.0f);
    return _mm256_or_ps(_mm256_andnot_ps(bit, a), _mm256_and_ps(bit, sign));
}
static INLINE vf vf_rint(vf a) {
    return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
static INLINE vf vf_power_of_two(vi n) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(vi_add(n, vi_set1(127)), 23));
}
/* a * 2^n, rounded once; n is a whole number and a near 1, so that the first half is exact. */
static INLINE vf vf_scale(vf a, vf n) {
    const vi whole = vi_rne(n), half = _mm256_srai_epi32(whole, 1);
    return vf_mul(vf_mul(a, vf_power_of_two(half)), vf_power_of_two(vi_sub(whole, half)));
}
/* a < b ? x : y */
static INLINE vf vf_if_less(vf a, vf b, vf x, vf y) {
    return _mm256_blendv_ps(y, x, _mm256_cmp_ps(a, b, _CMP_LT_OQ));
}

/* Partial vectors: the lanes from `valid` on (there may be no other) are neither read nor written. */
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
/* The first `valid` lanes of x, the others of y. */
static INLINE vf vf_first(vf x, vf y, int valid) {
    return _mm256_blendv_ps(y, x, _mm256_castsi256_ps(lanes(valid)));
}
/* Rows become columns: first in parts of 128 bits, then the parts. */
static INLINE void vf_transpose(vf x[VL]) {
    vf y[VL];
    UNROLL
    for (int i = 0; i < VL; i += 4) {
        const vf a = _mm256_unpacklo_ps(x[i], x[i + 1]), b = _mm256_unpackhi_ps(x[i], x[i + 1]);
        const vf c = _mm256_unpacklo_ps(x[i + 2], x[i + 3]), d = _mm256_unpackhi_ps(x[i + 2], x[i + 3]);
        y[i] = _mm256_shuffle_ps(a, c, 0x44);
        y[i + 1] = _mm256_shuffle_ps(a, c, 0xEE);
        y[i + 2] = _mm256_shuffle_ps(b, d, 0x44);
        y[i + 3] = _mm256_shuffle_ps(b, d, 0xEE);
    }
    UNROLL
    for (int i = 0; i < 4; i++) {
        x[i] = _mm256_permute2f128_ps(y[i], y[4 + i], 0x20);
        x[4 + i] = _mm256_permute2f128_ps(y[i], y[4 + i], 0x31);
    }
}
/* f32 of VL numbers of 16 bits. */
static INLINE vf of_f16(const void *from) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)from));
}
static INLINE vf of_bf16(const void *from) {
    return _mm256_castsi256_ps(
        _mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)from)), 16));
}
static INLINE vi vi_load_u8(const uint8_t *from) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)from));
}
static INLINE vi vi_load_u8_part(const uint8_t *from, int valid) {
    if (valid >= VL) return vi_load_u8(from);
    uint64_t bytes = 0;
    for (int i = valid - 1; i >= 0; i--) bytes = bytes << 8 | from[i];
    return _mm256_cvtepu8_epi32(_mm_cvtsi64_si128((int64_t)bytes));
}
/* A quarter of what is a multiple of 4, and four times what has room for it. */
static INLINE vi vi_quarter(vi a) {
    return _mm256_srai_epi32(a, 2);
}
static INLINE vi vi_times4(vi a) {
    return _mm256_slli_epi32(a, 2);
}
/* The product modulo 2^32, shifted right as a signed number. */
static INLINE vi vi_mul_shift(vi a, vi b, int bits) {
    return _mm256_srai_epi32(_mm256_mullo_epi32(a, b), bits);
}
#if defined(ESPL__VNNI) && !defined(ESPL_EVEX_VNNI)
#define ESPL__VNNI_BYTES _mm256_dpbusd_avx_epi32
#define ESPL__VNNI_WORDS _mm256_dpwssd_avx_epi32
#elif defined(ESPL__VNNI)
#define ESPL__VNNI_BYTES _mm256_dpbusd_epi32
#define ESPL__VNNI_WORDS _mm256_dpwssd_epi32
#endif

#ifdef ESPL__VNNI
#include "kernels/simd/vnni.h"
#else
/* Both operands hold one element a lane, within 16 bits. */
static INLINE vi vi_madd(vi acc, vi x, vi w) {
    return vi_add(acc, _mm256_madd_epi16(x, w));
}
#endif

/* --- bytes ------------------------------------------------------------------------------------------ */

static INLINE vi v8_set1(int x) {
    return _mm256_set1_epi8((char)x);
}
static INLINE vi v8_max(vi a, vi b) {
    return _mm256_max_epu8(a, b);
}
static INLINE vi v8_min(vi a, vi b) {
    return _mm256_min_epu8(a, b);
}
static INLINE vi v8_sub(vi a, vi b) {
    return _mm256_sub_epi8(a, b);
}
static INLINE vi v16_set1(int x) {
    return _mm256_set1_epi16((int16_t)x);
}
static INLINE vi v64_set1(int64_t x) {
    return _mm256_set1_epi64x(x);
}
/* A bit for each lane of 64 bits none of whose bytes passes that of `most`. */
static INLINE unsigned v64_within(vi a, vi most) {
    const vi over = _mm256_subs_epu8(a, most);
    return (unsigned)_mm256_movemask_pd(_mm256_castsi256_pd(_mm256_cmpeq_epi64(over, vi_set1(0))));
}
/* Neighbours of u8 times s8, added in 16 bits; it saturates. */
static INLINE vi v8_pairs(vi x, vi w) {
    return _mm256_maddubs_epi16(x, w);
}
static INLINE vi v16_add(vi a, vi b) {
    return _mm256_add_epi16(a, b);
}
static INLINE vi v16_sub(vi a, vi b) {
    return _mm256_sub_epi16(a, b);
}
static INLINE vi v16_times4(vi a) {
    return _mm256_slli_epi16(a, 2);
}
/* 2 * VL bytes as 16 bits each, and as many numbers of 16 bits, or the first `valid` of them. */
static INLINE vi v16_load_u8_part(const uint8_t *from, int valid) {
    uint8_t bytes[16] = {0};
    if (valid >= 16) return _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)from));
    for (int i = 0; i < valid; i++) bytes[i] = from[i];
    return _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)bytes));
}
static INLINE void v16_widen4(const uint8_t *from, int16_t *to) {
    _mm_storel_epi64((__m128i *)(void *)to, _mm_cvtepu8_epi16(_mm_cvtsi32_si128(load4(from))));
}
static INLINE void v16_store_part(int16_t *to, vi x, int valid) {
    int16_t some[16];
    if (valid >= 16) {
        vi_store(to, x);
        return;
    }
    vi_store(some, x);
    for (int i = 0; i < valid; i++) to[i] = some[i];
}

static INLINE vi lanes_in_order(vi x) {
    return _mm256_permutevar8x32_epi32(x, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}
/* Four vectors to bytes in their order, saturated to 0..255 after `add` (16 bits a lane), and where nothing
 * is to be added. */
static INLINE vi narrow(const vi y[4], vi add) {
    const vi a = _mm256_adds_epi16(_mm256_packs_epi32(y[0], y[1]), add);
    const vi b = _mm256_adds_epi16(_mm256_packs_epi32(y[2], y[3]), add);
    return lanes_in_order(_mm256_packus_epi16(a, b));
}
static INLINE vi narrow_plain(const vi y[4]) {
    return lanes_in_order(
        _mm256_packus_epi16(_mm256_packs_epi32(y[0], y[1]), _mm256_packs_epi32(y[2], y[3])));
}

static INLINE void store_some(uint8_t *to, __m128i x, int valid) {
    if (valid >= 16) {
        _mm_storeu_si128((__m128i *)to, x);
        return;
    }
    uint8_t bytes[16];
    _mm_storeu_si128((__m128i *)bytes, x);
    for (int i = 0; i < valid; i++) to[i] = bytes[i];
}

/* x holds 2 / H runs of H * 16 bytes: the first `valid` bytes of `count` runs go to memory, `step` bytes
 * apart. */
static INLINE void store_parts(uint8_t *to, ptrdiff_t step, vi x, int H, int count, int valid) {
    store_some(to, _mm256_castsi256_si128(x), valid);
    if (H == 2)
        store_some(to + 16, _mm256_extracti128_si256(x, 1), valid - 16);
    else if (count > 1)
        store_some(to + step, _mm256_extracti128_si256(x, 1), valid);
}

/* --- four u8 times four s8 a lane -------------------------------------------------------------------- */

#ifndef ESPL__VNNI
/* vpmaddubsw could saturate, so the bytes are widened: even and odd ones apart. (conv/chains.inc.h sorts
 * weights so that it does not.) */
typedef struct {
    vi even, odd;
} x_operand;
typedef x_operand w_operand;
static INLINE x_operand x_of(vi x) {
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

static INLINE x_operand x_load(const uint8_t *from) {
    return x_of(vi_set1(load4(from)));
}

#ifndef ESPL__VNNI
/* Less 128 the codes are s8. Where x is negative, w with all bits turned is -w - 1, so that
 *
 *     x w = |x| (turned w) + |x|
 *
 * Two of |x| (turned w), at most 128 * 128 each, fit 16 bits, and the |x| of negative x are the same for all
 * channels. */
static INLINE vi centred_dot(vi acc, vi size, vi turn, vi w) {
    return vi_madd(acc, v8_pairs(size, _mm256_xor_si256(w, turn)), v16_set1(1));
}
#endif

#endif
