/* Packing of the right side in 128 and 256 bits. */
#include "kernels/simd/avx2.h"

#include "kernels/families.h"

enum { NR = ESPL__NR, GROUP = 4 * NR };

/* Four rows of 16 codes side by side: the four of a column together. */
static INLINE void interleave(const uint8_t *b, ptrdiff_t by_k, __m128i flip, uint8_t *packed) {
    __m128i row[4];
    UNROLL
    for (int i = 0; i < 4; i++)
        row[i] = _mm_xor_si128(_mm_loadu_si128((const __m128i *)(b + i * by_k)), flip);
    const __m128i low01 = _mm_unpacklo_epi8(row[0], row[1]), low23 = _mm_unpacklo_epi8(row[2], row[3]);
    const __m128i high01 = _mm_unpackhi_epi8(row[0], row[1]), high23 = _mm_unpackhi_epi8(row[2], row[3]);
    _mm_storeu_si128((__m128i *)packed, _mm_unpacklo_epi16(low01, low23));
    _mm_storeu_si128((__m128i *)(packed + 16), _mm_unpackhi_epi16(low01, low23));
    _mm_storeu_si128((__m128i *)(packed + 32), _mm_unpacklo_epi16(high01, high23));
    _mm_storeu_si128((__m128i *)(packed + 48), _mm_unpackhi_epi16(high01, high23));
}

/* Whole groups of four by columns of neighbouring bytes. */
static INLINE void gather(const uint8_t *b, ptrdiff_t by_column, int64_t width, uint8_t *packed) {
    for (int64_t c = 0; c < width; c++) {
        const uint32_t group = (uint32_t)load4(b + c * by_column) ^ 0x80808080u;
        memcpy(packed + 4 * c, &group, sizeof group);
    }
}

static INLINE void singly(const uint8_t *b, ptrdiff_t by_k, ptrdiff_t by_column, int64_t k, int64_t width,
                          uint8_t *packed) {
    for (int64_t c = 0; c < width; c++)
        for (int64_t i = 0; i < k; i++) packed[4 * c + i] = b[i * by_k + c * by_column] ^ 0x80;
}

/* What a block holds, four codes of a column at a time; zeros add nothing. */
static INLINE void sums_of(const int8_t *packed, int64_t groups, int32_t *sums) {
    const vi one8 = v8_set1(1), one16 = v16_set1(1);
    vi low = vi_set1(0), high = vi_set1(0);
    for (int64_t g = 0; g < groups; g++, packed += GROUP) {
        low = vi_madd(low, _mm256_maddubs_epi16(one8, vi_load(packed)), one16);
        high = vi_madd(high, _mm256_maddubs_epi16(one8, vi_load(packed + 32)), one16);
    }
    vi_store(sums, low);
    vi_store(sums + VL, high);
}

static void pack_u8(const uint8_t *b, ptrdiff_t by_k, ptrdiff_t by_column, int64_t k, int64_t columns,
                    int8_t *packed, int32_t *sums) {
    const int64_t groups = (k + 3) / 4, full = k / 4;
    const __m128i flip = _mm_set1_epi8((char)0x80);
    for (int64_t c = 0; c < columns; c += NR, packed += groups * GROUP, sums += NR, b += NR * by_column) {
        const int64_t width = columns - c < NR ? columns - c : NR;
        uint8_t *to = (uint8_t *)packed;
        if (width < NR || k % 4) memset(packed, 0, (size_t)(groups * GROUP));
        if (by_column == 1 && width == NR)
            for (int64_t g = 0; g < full; g++) interleave(b + 4 * g * by_k, by_k, flip, to + g * GROUP);
        else if (by_k == 1)
            for (int64_t g = 0; g < full; g++) gather(b + 4 * g, by_column, width, to + g * GROUP);
        else
            for (int64_t g = 0; g < full; g++)
                singly(b + 4 * g * by_k, by_k, by_column, 4, width, to + g * GROUP);
        singly(b + 4 * full * by_k, by_k, by_column, k % 4, width, to + full * GROUP);
        sums_of(packed, groups, sums);
    }
}

static void row_sums_u8(const uint8_t *in, ptrdiff_t step, int64_t rows, int64_t k, int32_t *sums) {
    const __m256i zero = _mm256_setzero_si256();
    for (int64_t r = 0; r < rows; r++, in += step) {
        __m256i acc = zero;
        int64_t i = 0;
        for (; i + 32 <= k; i += 32) acc = _mm256_add_epi64(acc, _mm256_sad_epu8(vi_load(in + i), zero));
        __m128i half = _mm_add_epi64(_mm256_castsi256_si128(acc), _mm256_extracti128_si256(acc, 1));
        uint32_t sum = (uint32_t)_mm_cvtsi128_si32(half) + (uint32_t)_mm_extract_epi32(half, 2);
        for (; i < k; i++) sum += in[i];
        sums[r] = (int32_t)sum;
    }
}

const espl__kernels espl__right_avx2 = {.pack_u8 = pack_u8, .row_sums_u8 = row_sums_u8};
