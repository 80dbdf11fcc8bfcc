/* Transposition in blocks that fit the registers: 16 x 16 bytes by four rounds of interleaving (8 rows by
 * three), 8 x 8 words by three. The last block of a side begins where it ends with it, so some elements are
 * moved twice. Sides shorter than a block go element by element. */
#include <immintrin.h>
#include <string.h>

#include "kernels/families.h"
#include "kernels/simd/simd.h"

/* 16 or 8 rows, 16 or 8 columns. Each round interleaves row i with row i + rows / 2 and so moves the highest
 * bit of the row behind the bits of the column: after all of them element (r, c) has come to (c, r). Of 8
 * rows, a register then holds two columns. */
static INLINE void block_8(const char *in, ptrdiff_t in_step, char *out, ptrdiff_t out_step, int rows,
                           int columns) {
    __m128i a[16], b[16];
    UNROLL
    for (int i = 0; i < rows; i++)
        a[i] = columns == 16 ? _mm_loadu_si128((const __m128i *)(in + i * in_step))
                             : _mm_loadl_epi64((const __m128i *)(in + i * in_step));
    UNROLL
    for (int bits = rows; bits > 1; bits /= 2) {
        UNROLL
        for (int i = 0; i < rows / 2; i++) {
            b[2 * i] = _mm_unpacklo_epi8(a[i], a[i + rows / 2]);
            b[2 * i + 1] = _mm_unpackhi_epi8(a[i], a[i + rows / 2]);
        }
        UNROLL
        for (int i = 0; i < rows; i++) a[i] = b[i];
    }
    UNROLL
    for (int c = 0; c < columns; c++) {
        if (rows == 16)
            _mm_storeu_si128((__m128i *)(out + c * out_step), a[c]);
        else
            _mm_storel_epi64((__m128i *)(out + c * out_step),
                             c % 2 ? _mm_unpackhi_epi64(a[c / 2], a[c / 2]) : a[c / 2]);
    }
}

#define BLOCK_8(ROWS, COLUMNS)                                                           \
    static void block_8_##ROWS##x##COLUMNS(const char *in, ptrdiff_t in_step, char *out, \
                                           ptrdiff_t out_step) {                         \
        block_8(in, in_step, out, out_step, ROWS, COLUMNS);                              \
    }
BLOCK_8(16, 16)
BLOCK_8(16, 8)
BLOCK_8(8, 16)
BLOCK_8(8, 8)

static INLINE void square_32(const char *in, ptrdiff_t in_step, char *out, ptrdiff_t out_step) {
    __m256 a[8], b[8];
    /* Rows i and i + 4 of the left half, then of the right half. */
    UNROLL
    for (int i = 0; i < 8; i++) {
        const char *from = in + i % 4 * in_step + i / 4 * 16;
        a[i] = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps((const float *)from)),
                                    _mm_loadu_ps((const float *)(from + 4 * in_step)), 1);
    }
    UNROLL
    for (int h = 0; h < 8; h += 4) {
        b[h] = _mm256_unpacklo_ps(a[h], a[h + 1]);
        b[h + 1] = _mm256_unpackhi_ps(a[h], a[h + 1]);
        b[h + 2] = _mm256_unpacklo_ps(a[h + 2], a[h + 3]);
        b[h + 3] = _mm256_unpackhi_ps(a[h + 2], a[h + 3]);
        a[h] = _mm256_shuffle_ps(b[h], b[h + 2], 0x44);
        a[h + 1] = _mm256_shuffle_ps(b[h], b[h + 2], 0xEE);
        a[h + 2] = _mm256_shuffle_ps(b[h + 1], b[h + 3], 0x44);
        a[h + 3] = _mm256_shuffle_ps(b[h + 1], b[h + 3], 0xEE);
    }
    UNROLL
    for (int i = 0; i < 8; i++) _mm256_storeu_ps((float *)(out + i * out_step), a[i]);
}

/* Three rows, eight columns: a column is stored with one element too many, which the next one's first takes
 * the place of. */
static INLINE void columns_of_3(const char *in, ptrdiff_t in_step, char *out) {
    const __m256 a = _mm256_loadu_ps((const float *)in), b = _mm256_loadu_ps((const float *)(in + in_step)),
                 c = _mm256_loadu_ps((const float *)(in + 2 * in_step));
    const __m256 low = _mm256_unpacklo_ps(a, b), high = _mm256_unpackhi_ps(a, b);
    const __m256 x[4] = {_mm256_shuffle_ps(low, c, 0x04), _mm256_shuffle_ps(low, c, 0x5E),
                         _mm256_shuffle_ps(high, c, 0xA4), _mm256_shuffle_ps(high, c, 0xFE)};
    UNROLL
    for (int i = 0; i < 8; i++)
        _mm_storeu_ps((float *)(out + i * 12),
                      i < 4 ? _mm256_castps256_ps128(x[i % 4]) : _mm256_extractf128_ps(x[i % 4], 1));
}

typedef void block_fn(const char *in, ptrdiff_t in_step, char *out, ptrdiff_t out_step);

/* Where the block behind the one at i begins; `end` if that is the last one. */
static INLINE int block_after(int i, int size, int end) {
    return i + size == end ? end : i + 2 * size <= end ? i + size : end - size;
}

/* In blocks of `height` x `width`; rows and columns are at least that many. */
static INLINE void blocks(block_fn *block, int height, int width, int bytes, const char *in,
                          ptrdiff_t in_step, char *out, ptrdiff_t out_step, int rows, int columns) {
    for (int r = 0; r < rows; r = block_after(r, height, rows))
        for (int c = 0; c < columns; c = block_after(c, width, columns))
            block(in + r * in_step + c * bytes, in_step, out + c * out_step + r * bytes, out_step);
}

static INLINE void elements(int bytes, const char *in, ptrdiff_t in_step, char *out, ptrdiff_t out_step,
                            int rows, int columns) {
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < columns; c++)
            memcpy(out + c * out_step + r * bytes, in + r * in_step + c * bytes, (size_t)bytes);
}

static void transpose_8(const void *in, ptrdiff_t in_step, void *out, ptrdiff_t out_step, int rows,
                        int columns) {
    if (rows >= 16 && columns >= 16)
        blocks(block_8_16x16, 16, 16, 1, in, in_step, out, out_step, rows, columns);
    else if (rows >= 16 && columns >= 8)
        blocks(block_8_16x8, 16, 8, 1, in, in_step, out, out_step, rows, columns);
    else if (rows >= 8 && columns >= 16)
        blocks(block_8_8x16, 8, 16, 1, in, in_step, out, out_step, rows, columns);
    else if (rows >= 8 && columns >= 8)
        blocks(block_8_8x8, 8, 8, 1, in, in_step, out, out_step, rows, columns);
    else
        elements(1, in, in_step, out, out_step, rows, columns);
}

static void transpose_32(const void *in, ptrdiff_t in_step, void *out, ptrdiff_t out_step, int rows,
                         int columns) {
    if (rows == 3 && out_step == 12) /* an image's planes to pixels */
        for (; columns > 8; columns -= 8, in = (const char *)in + 32, out = (char *)out + 96)
            columns_of_3(in, in_step, out);
    if (rows >= 8 && columns >= 8)
        blocks(square_32, 8, 8, 4, in, in_step, out, out_step, rows, columns);
    else
        elements(4, in, in_step, out, out_step, rows, columns);
}

const espl__kernels espl__transpose_avx2 = {.transpose_8 = transpose_8, .transpose_32 = transpose_32};
