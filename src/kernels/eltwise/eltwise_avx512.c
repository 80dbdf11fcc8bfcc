/* The elementwise kernels in 512 bits. */
#include "kernels/simd/avx512.h"

/* The bytes of x, one in the low half of every 16 bits, looked up in 256 bytes held as 128 pairs. */
static INLINE __m512i look_up(const __m512i table[4], __m512i x) {
    const __m512i pair = _mm512_srli_epi16(x, 1);
    const __m512i low = _mm512_permutex2var_epi16(table[0], pair, table[1]);
    const __m512i high = _mm512_permutex2var_epi16(table[2], pair, table[3]);
    const __mmask32 upper = _mm512_test_epi16_mask(x, _mm512_set1_epi16(0x80));
    const __m512i shift = _mm512_slli_epi16(_mm512_and_si512(x, _mm512_set1_epi16(1)), 3);
    return _mm512_srlv_epi16(_mm512_mask_mov_epi16(low, upper, high), shift);
}

static void lut_by_pairs(const uint8_t *table, const uint8_t *in, uint8_t *out, int64_t n) {
    const __m512i byte = _mm512_set1_epi16(0xFF);
    const __m512i pairs[4] = {vi_load(table), vi_load(table + 64), vi_load(table + 128),
                              vi_load(table + 192)};
    for (int64_t i = 0; i < n; i += 64) {
        const __mmask64 valid = mask(n - i < 64 ? (int)(n - i) : 64);
        const __m512i x = _mm512_maskz_loadu_epi8(valid, in + i);
        const __m512i even = _mm512_and_si512(look_up(pairs, _mm512_and_si512(x, byte)), byte);
        const __m512i odd = _mm512_slli_epi16(look_up(pairs, _mm512_srli_epi16(x, 8)), 8);
        _mm512_mask_storeu_epi8(out + i, valid, _mm512_or_si512(even, odd));
    }
}

#define LUT_U8 lut_by_pairs
#define VECTORS
#define SET espl__eltwise_avx512
#include "kernels/eltwise/eltwise.inc.h"
