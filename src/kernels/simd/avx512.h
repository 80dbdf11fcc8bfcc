/* The vector words of the .inc.h bodies in 512 bits. With ESPL__VNNI defined one instruction does four
 * products a lane; without it the bytes are widened to 16 bits, because vpmaddubsw saturates and would give
 * other integers. */
#ifndef ESPL_SIMD_AVX512_H
#define ESPL_SIMD_AVX512_H

#include <immintrin.h>

#include "kernels/simd/simd.h"

enum { VL = 16 };
typedef __m512i vi;
typedef __m512 vf;

/* bzhi counts with 8 bits, so that 256 channels would be none: no more than 64 ever matter. */
static INLINE __mmask64 mask(int valid) {
    return valid < 64 ? _bzhi_u64(UINT64_MAX, valid > 0 ? (uint32_t)valid : 0) : UINT64_MAX;
}
static INLINE __mmask16 lanes(int valid) {
    return (__mmask16)mask(valid);
}

static INLINE vi vi_load(const void *from) {
    return _mm512_loadu_si512(from);
}
static INLINE void vi_store(void *to, vi x) {
    _mm512_storeu_si512(to, x);
}
static INLINE vi vi_set1(int32_t x) {
    return _mm512_set1_epi32(x);
}
/* Keeps the compiler from taking sums in another order, for which it would need more registers. */
static INLINE vi vi_opaque(vi x) {
    __asm__("" : "+v"(x));
    return x;
}
static INLINE vi vi_add(vi a, vi b) {
    return _mm512_add_epi32(a, b);
}
static INLINE vi vi_sub(vi a, vi b) {
    return _mm512_sub_epi32(a, b);
}
static INLINE vf vf_load(const float *from) {
    return _mm512_loadu_ps(from);
}
static INLINE void vf_store(float *to, vf x) {
    _mm512_storeu_ps(to, x);
}
static INLINE vf vf_set1(float x) {
    return _mm512_set1_ps(x);
}
static INLINE vf vf_set1_bits(int32_t x) {
    return _mm512_castsi512_ps(_mm512_set1_epi32(x));
}
/* Keeps it in a register where the compiler would rather load it again for each use. */
static INLINE vf vf_opaque(vf x) {
    __asm__("" : "+v"(x));
    return x;
}
static INLINE vf vf_add(vf a, vf b) {
    return _mm512_add_ps(a, b);
}
static INLINE vf vf_sub(vf a, vf b) {
    return _mm512_sub_ps(a, b);
}
static INLINE vf vf_mul(vf a, vf b) {
    return _mm512_mul_ps(a, b);
}
static INLINE vf vf_fma(vf a, vf b, vf c) {
    return _mm512_fmadd_ps(a, b, c);
}
static INLINE vf vf_max(vf a, vf b) {
    return _mm512_max_ps(a, b);
} /* b if either is NaN */
static INLINE vf vf_min(vf a, vf b) {
    return _mm512_min_ps(a, b);
}
/* The larger, b if it is NaN; a if a is. */
static INLINE vf vf_larger(vf a, vf b) {
    return _mm512_mask_mov_ps(vf_max(b, a), _mm512_cmp_ps_mask(b, b, _CMP_UNORD_Q), b);
}
static INLINE vf vf_of(vi a) {
    return _mm512_cvtepi32_ps(a);
}
/* To the nearest whole number, ties to the even one. */
static INLINE vf vf_rne(vf a) {
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
static INLINE vi vi_rne(vf a) {
    return _mm512_cvtps_epi32(a);
} /* INT32_MIN for NaN and what does not fit */

static INLINE vf vf_div(vf a, vf b) {
    return _mm512_div_ps(a, b);
}
static INLINE vf vf_abs(vf a) {
    return _mm512_abs_ps(a);
}
static INLINE vf vf_copysign(vf a, vf sign) {
    const __m512i x = _mm512_ternarylogic_epi32(_mm512_castps_si512(a), _mm512_castps_si512(sign),
                                                _mm512_set1_epi32(INT32_MIN), 0xD8);
    return _mm512_castsi512_ps(x);
}
static INLINE vf vf_rint(vf a) {
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
/* a * 2^n, rounded once; n is a whole number. */
static INLINE vf vf_scale(vf a, vf n) {
    return _mm512_scalef_ps(a, n);
}
/* a < b ? x : y */
static INLINE vf vf_if_less(vf a, vf b, vf x, vf y) {
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), y, x);
}

/* Partial vectors: the lanes from `valid` on (there may be no other) are neither read nor written. */
static INLINE vf vf_load_part(const float *from, int valid) {
    return _mm512_maskz_loadu_ps(lanes(valid), from);
}
static INLINE void vf_store_part(float *to, vf x, int valid) {
    _mm512_mask_storeu_ps(to, lanes(valid), x);
}
/* The first `valid` lanes of x, the others of y. */
static INLINE vf vf_first(vf x, vf y, int valid) {
    return _mm512_mask_mov_ps(y, lanes(valid), x);
}
/* Rows become columns: first in parts of 128 bits, then the parts. */
static INLINE void vf_transpose(vf x[VL]) {
    vf y[VL];
    UNROLL
    for (int i = 0; i < VL; i += 4) {
        const vf a = _mm512_unpacklo_ps(x[i], x[i + 1]), b = _mm512_unpackhi_ps(x[i], x[i + 1]);
        const vf c = _mm512_unpacklo_ps(x[i + 2], x[i + 3]), d = _mm512_unpackhi_ps(x[i + 2], x[i + 3]);
        y[i] = _mm512_shuffle_ps(a, c, 0x44);
        y[i + 1] = _mm512_shuffle_ps(a, c, 0xEE);
        y[i + 2] = _mm512_shuffle_ps(b, d, 0x44);
        y[i + 3] = _mm512_shuffle_ps(b, d, 0xEE);
    }
    UNROLL
    for (int i = 0; i < 4; i++) {
        const vf a = _mm512_shuffle_f32x4(y[i], y[4 + i], 0x44), b = _mm512_shuffle_f32x4(y[i], y[4 + i], 0xEE);
        const vf c = _mm512_shuffle_f32x4(y[8 + i], y[12 + i], 0x44);
        const vf d = _mm512_shuffle_f32x4(y[8 + i], y[12 + i], 0xEE);
        x[i] = _mm512_shuffle_f32x4(a, c, 0x88);
        x[4 + i] = _mm512_shuffle_f32x4(a, c, 0xDD);
        x[8 + i] = _mm512_shuffle_f32x4(b, d, 0x88);
        x[12 + i] = _mm512_shuffle_f32x4(b, d, 0xDD);
    }
}
/* f32 of VL numbers of 16 bits. */
static INLINE vf of_f16(const void *from) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)from));
}
static INLINE vf of_bf16(const void *from) {
    return _mm512_castsi512_ps(
        _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)from)), 16));
}
static INLINE vi vi_load_u8(const uint8_t *from) {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)from));
}
static INLINE vi vi_load_u8_part(const uint8_t *from, int valid) {
    return _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(lanes(valid), from));
}

/* A quarter of what is a multiple of 4, and four times what has room for it. */
static INLINE vi vi_quarter(vi a) {
    return _mm512_srai_epi32(a, 2);
}
static INLINE vi vi_times4(vi a) {
    return _mm512_slli_epi32(a, 2);
}
/* The product modulo 2^32, shifted right as a signed number. */
static INLINE vi vi_mul_shift(vi a, vi b, int bits) {
    return _mm512_srai_epi32(_mm512_mullo_epi32(a, b), (unsigned)bits);
}
#ifdef ESPL__VNNI
#define ESPL__VNNI_BYTES _mm512_dpbusd_epi32
#define ESPL__VNNI_WORDS _mm512_dpwssd_epi32
#include "kernels/simd/vnni.h"
#else
/* Both operands hold one element a lane, within 16 bits. */
static INLINE vi vi_madd(vi acc, vi x, vi w) {
    return _mm512_add_epi32(acc, _mm512_madd_epi16(x, w));
}
#endif

/* --- bytes ------------------------------------------------------------------------------------------ */

static INLINE vi v8_set1(int x) {
    return _mm512_set1_epi8((char)x);
}
static INLINE vi v8_max(vi a, vi b) {
    return _mm512_max_epu8(a, b);
}
static INLINE vi v8_min(vi a, vi b) {
    return _mm512_min_epu8(a, b);
}
static INLINE vi v8_sub(vi a, vi b) {
    return _mm512_sub_epi8(a, b);
}
static INLINE vi v16_set1(int x) {
    return _mm512_set1_epi16((int16_t)x);
}
static INLINE vi v64_set1(int64_t x) {
    return _mm512_set1_epi64(x);
}
/* A bit for each lane of 64 bits none of whose bytes passes that of `most`. */
static INLINE unsigned v64_within(vi a, vi most) {
    const vi over = _mm512_subs_epu8(a, most);
    return _mm512_testn_epi64_mask(over, over);
}
/* Neighbours of u8 times s8, added in 16 bits; it saturates. */
static INLINE vi v8_pairs(vi x, vi w) {
    return _mm512_maddubs_epi16(x, w);
}
static INLINE vi v16_add(vi a, vi b) {
    return _mm512_add_epi16(a, b);
}
static INLINE vi v16_sub(vi a, vi b) {
    return _mm512_sub_epi16(a, b);
}
static INLINE vi v16_times4(vi a) {
    return _mm512_slli_epi16(a, 2);
}
/* 2 * VL bytes as 16 bits each, and as many numbers of 16 bits, or the first `valid` of them. */
static INLINE vi v16_load_u8_part(const uint8_t *from, int valid) {
    return _mm512_cvtepu8_epi16(_mm256_maskz_loadu_epi8((__mmask32)mask(valid), from));
}
static INLINE void v16_widen4(const uint8_t *from, int16_t *to) {
    _mm_storel_epi64((__m128i *)(void *)to, _mm_cvtepu8_epi16(_mm_cvtsi32_si128(load4(from))));
}
static INLINE void v16_store_part(int16_t *to, vi x, int valid) {
    _mm512_mask_storeu_epi16(to, (__mmask32)mask(valid), x);
}

/* Four vectors to bytes, saturated to 0..255 after `add` (16 bits a lane); each 128 bits hold 4 lanes of
 * every vector. */
static INLINE vi narrow_lanes(const vi y[4], vi add) {
    const vi a = _mm512_adds_epi16(_mm512_packs_epi32(y[0], y[1]), add);
    const vi b = _mm512_adds_epi16(_mm512_packs_epi32(y[2], y[3]), add);
    return _mm512_packus_epi16(a, b);
}

static INLINE vi lanes_in_order(vi x) {
    return _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15),
                                    x);
}
/* The same in the order of the vectors, and where nothing is to be added. */
static INLINE vi narrow(const vi y[4], vi add) {
    return lanes_in_order(narrow_lanes(y, add));
}
static INLINE vi narrow_plain(const vi y[4]) {
    return lanes_in_order(
        _mm512_packus_epi16(_mm512_packs_epi32(y[0], y[1]), _mm512_packs_epi32(y[2], y[3])));
}

/* x holds 4 / H runs of H * 16 bytes: the first `valid` bytes of `count` runs go to memory, `step` bytes
 * apart. */
static INLINE void store_parts(uint8_t *to, ptrdiff_t step, vi x, int H, int count, int valid) {
    if (H == 4 || (count * H == 4 && step == H * 16 && valid == step)) {
        _mm512_mask_storeu_epi8(to, H == 4 ? mask(valid) : mask(64), x);
    } else if (H == 2 && valid == 32) {
        _mm256_storeu_si256((__m256i *)to, _mm512_castsi512_si256(x));
        if (count > 1) _mm256_storeu_si256((__m256i *)(to + step), _mm512_extracti64x4_epi64(x, 1));
    } else if (H == 2) {
        _mm256_mask_storeu_epi8(to, (__mmask32)mask(valid), _mm512_castsi512_si256(x));
        if (count > 1)
            _mm256_mask_storeu_epi8(to + step, (__mmask32)mask(valid), _mm512_extracti64x4_epi64(x, 1));
    } else {
        _mm_mask_storeu_epi8(to, lanes(valid), _mm512_castsi512_si128(x));
        if (count > 1) _mm_mask_storeu_epi8(to + step, lanes(valid), _mm512_extracti32x4_epi32(x, 1));
        if (count > 2) _mm_mask_storeu_epi8(to + 2 * step, lanes(valid), _mm512_extracti32x4_epi32(x, 2));
        if (count > 3) _mm_mask_storeu_epi8(to + 3 * step, lanes(valid), _mm512_extracti32x4_epi32(x, 3));
    }
}

/* --- four u8 times four s8 a lane -------------------------------------------------------------------- */

#ifndef ESPL__VNNI
typedef struct {
    vi even, odd;
} x_operand;
typedef x_operand w_operand;
static INLINE x_operand x_of(vi x) {
    return (x_operand){_mm512_and_si512(x, _mm512_set1_epi16(0xFF)), _mm512_srli_epi16(x, 8)};
}
static INLINE w_operand w_load(const int8_t *from) {
    vi w = vi_load(from);
    return (w_operand){_mm512_srai_epi16(_mm512_slli_epi16(w, 8), 8), _mm512_srai_epi16(w, 8)};
}
static INLINE vi dot(vi acc, x_operand x, w_operand w) {
    acc = vi_add(acc, _mm512_madd_epi16(x.even, w.even));
    return vi_add(acc, _mm512_madd_epi16(x.odd, w.odd));
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
    return vi_madd(acc, v8_pairs(size, _mm512_xor_si512(w, turn)), v16_set1(1));
}
#endif

#endif
