/* Transposition in squares that fit the registers: 16 x 16 bytes by four rounds of interleaving, 8 x 8 words
 * by three. What is left at the right and below is moved element by element. */
#include <immintrin.h>
#include <string.h>

#include "kernels/families.h"
#include "kernels/simd/simd.h"

/* Each round interleaves row i with row i + 8: after four of them element (r, c) has come to (c, r). */
static INLINE void square_8(const char *in, ptrdiff_t in_step, char *out, ptrdiff_t out_step) {
    __m128i a[16], b[16];
    UNROLL
    for (int i = 0; i < 16; i++) a[i] = _mm_loadu_si128((const __m128i *)(in + i * in_step));
    UNROLL
    for (int round = 0; round < 4; round++) {
        UNROLL
        for (int i = 0; i < 8; i++) {
            b[2 * i] = _mm_unpacklo_epi8(a[i], a[i + 8]);
            b[2 * i + 1] = _mm_unpackhi_epi8(a[i], a[i + 8]);
        }
        UNROLL
        for (int i = 0; i < 16; i++) a[i] = b[i];
    }
    UNROLL
    for (int i = 0; i < 16; i++) _mm_storeu_si128((__m128i *)(out + i * out_step), a[i]);
}

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

typedef void square_fn(const char *in, ptrdiff_t in_step, char *out, ptrdiff_t out_step);

static INLINE void squares(square_fn *square, int size, int bytes, const char *in, ptrdiff_t in_step,
                           char *out, ptrdiff_t out_step, int rows, int columns) {
    const int whole_rows = rows / size * size, whole_columns = columns / size * size;
    for (int r = 0; r < whole_rows; r += size)
        for (int c = 0; c < whole_columns; c += size)
            square(in + r * in_step + c * bytes, in_step, out + c * out_step + r * bytes, out_step);
    for (int r = 0; r < rows; r++)
        for (int c = r < whole_rows ? whole_columns : 0; c < columns; c++)
            memcpy(out + c * out_step + r * bytes, in + r * in_step + c * bytes, (size_t)bytes);
}

static void transpose_8(const void *in, ptrdiff_t in_step, void *out, ptrdiff_t out_step, int rows,
                        int columns) {
    squares(square_8, 16, 1, in, in_step, out, out_step, rows, columns);
}

static void transpose_32(const void *in, ptrdiff_t in_step, void *out, ptrdiff_t out_step, int rows,
                         int columns) {
    if (rows == 3 && out_step == 12) /* an image's planes to pixels */
        for (; columns > 8; columns -= 8, in = (const char *)in + 32, out = (char *)out + 96)
            columns_of_3(in, in_step, out);
    squares(square_32, 8, 4, in, in_step, out, out_step, rows, columns);
}

const espl__kernels espl__transpose_avx2 = {.transpose_8 = transpose_8, .transpose_32 = transpose_32};
