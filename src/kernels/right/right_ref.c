/* The right side of a product of two activations, packed in every run as the weights of conv_u8 and conv_f32,
 * and the sums that its zero point needs: the definitions. */
#include <string.h>

#include "kernels/families.h"

enum { NR = ESPL__NR };

static void pack_u8(const uint8_t *b, ptrdiff_t by_k, ptrdiff_t by_column, int64_t k, int64_t columns,
                    int8_t *packed, int32_t *sums) {
    const int64_t bytes = (k + 3) / 4 * 4 * NR;
    for (int64_t c0 = 0; c0 < columns; c0 += NR, packed += bytes, sums += NR) {
        memset(packed, 0, (size_t)bytes);
        memset(sums, 0, NR * sizeof *sums);
        for (int64_t c = 0; c < NR && c0 + c < columns; c++)
            for (int64_t i = 0; i < k; i++) {
                const int8_t code = (int8_t)(b[i * by_k + (c0 + c) * by_column] ^ 0x80);
                packed[(i / 4 * NR + c) * 4 + i % 4] = code;
                sums[c] =
                    (int32_t)((uint32_t)sums[c] + (uint32_t)code); /* wraps where the planner excludes it */
            }
    }
}

/* Rows of floats are copied as they are; a turned matrix is better transposed, block by block. */
static void pack_f32(const float *b, ptrdiff_t by_k, ptrdiff_t by_column, int64_t k, int64_t columns,
                     float *packed) {
    const char *from = (const char *)b;
    for (int64_t c = 0; c < columns; c += NR, packed += k * NR, from += NR * by_column) {
        const int64_t width = columns - c < NR ? columns - c : NR;
        if (width < NR) memset(packed, 0, (size_t)(k * NR) * sizeof *packed);
        for (int64_t i = 0; i < k; i++) {
            const char *row = from + i * by_k;
            if (by_column == (ptrdiff_t)sizeof(float) && width == NR)
                memcpy(packed + i * NR, row, NR * sizeof(float));
            else
                for (int64_t j = 0; j < width; j++)
                    memcpy(packed + i * NR + j, row + j * by_column, sizeof(float));
        }
    }
}

static void row_sums_u8(const uint8_t *in, ptrdiff_t step, int64_t rows, int64_t k, int32_t *sums) {
    for (int64_t r = 0; r < rows; r++, in += step) {
        uint32_t sum = 0;
        for (int64_t i = 0; i < k; i++) sum += in[i];
        sums[r] = (int32_t)sum;
    }
}

const espl__kernels espl__right_ref = {.pack_u8 = pack_u8, .pack_f32 = pack_f32, .row_sums_u8 = row_sums_u8};
