/* The right side of a product of two activations, packed in every run as the weights of conv_u8 and conv_f32.
 * One body for every instruction set: right_<isa>.c includes it with SET naming its table, and the compiler's
 * vectoriser does the rest; full blocks have constant sizes for it. Elements of a row or of a column lie side
 * by side in practice. */
#include <string.h>

#include "kernels/families.h"

enum { NR = ESPL__NR };

/* Columns [0, width) of one block and the bytes of groups [0, k / 4). Codes become s8 by their sign bits. */
static void block_u8(const uint8_t *b, ptrdiff_t by_k, ptrdiff_t by_column, int64_t k, int64_t width,
                     uint8_t *packed) {
    for (int64_t g = 0; g < k / 4; g++, b += 4 * by_k, packed += 4 * NR) {
        if (by_column == 1 && width == NR) {
            uint8_t row[4][NR];
            for (int i = 0; i < 4; i++) memcpy(row[i], b + i * by_k, NR);
            for (int c = 0; c < NR; c++)
                for (int i = 0; i < 4; i++) packed[4 * c + i] = row[i][c] ^ 0x80;
            continue;
        }
        for (int64_t c = 0; c < width; c++) {
            if (by_k == 1) {
                uint32_t group;
                memcpy(&group, b + c * by_column, sizeof group);
                group ^= 0x80808080u;
                memcpy(packed + 4 * c, &group, sizeof group);
                continue;
            }
            for (int i = 0; i < 4; i++) packed[4 * c + i] = b[i * by_k + c * by_column] ^ 0x80;
        }
    }
    /* The last group is not full. */
    for (int64_t i = 0; i < k % 4; i++)
        for (int64_t c = 0; c < width; c++) packed[4 * c + i] = b[i * by_k + c * by_column] ^ 0x80;
}

/* Sums of the s8 codes of `width` columns. */
static void sums_u8(const uint8_t *b, ptrdiff_t by_k, ptrdiff_t by_column, int64_t k, int64_t width,
                    int32_t sums[NR]) {
    uint32_t all[NR] = {0}; /* wraps where the planner has excluded it */
    if (by_column == 1 && width == NR) {
        for (int64_t i = 0; i < k; i++)
            for (int c = 0; c < NR; c++) all[c] += b[i * by_k + c];
    } else {
        for (int64_t c = 0; c < width; c++) {
            const uint8_t *from = b + c * by_column;
            uint32_t sum = 0;
            if (by_k == 1)
                for (int64_t i = 0; i < k; i++) sum += from[i];
            else
                for (int64_t i = 0; i < k; i++) sum += from[i * by_k];
            all[c] = sum;
        }
    }
    for (int c = 0; c < NR; c++) sums[c] = c < width ? (int32_t)(all[c] - 128u * (uint32_t)k) : 0;
}

static void pack_u8(const uint8_t *b, ptrdiff_t by_k, ptrdiff_t by_column, int64_t k, int64_t columns,
                    int8_t *packed, int32_t *sums) {
    const int64_t bytes = (k + 3) / 4 * 4 * NR;
    for (int64_t c = 0; c < columns; c += NR, packed += bytes, sums += NR, b += NR * by_column) {
        const int64_t width = columns - c < NR ? columns - c : NR;
        if (width < NR || k % 4) memset(packed, 0, (size_t)bytes);
        block_u8(b, by_k, by_column, k, width, (uint8_t *)packed);
        sums_u8(b, by_k, by_column, k, width, sums);
    }
}

static void pack_f32(const float *b, ptrdiff_t by_k, ptrdiff_t by_column, int64_t k, int64_t columns,
                     float *packed) {
    const char *from = (const char *)b;
    for (int64_t c = 0; c < columns; c += NR, packed += k * NR, from += NR * by_column) {
        const int64_t width = columns - c < NR ? columns - c : NR;
        if (width < NR) memset(packed, 0, (size_t)(k * NR) * sizeof *packed);
        if (by_column == (ptrdiff_t)sizeof(float)) {
            for (int64_t i = 0; i < k; i++)
                memcpy(packed + i * NR, from + i * by_k,
                       width == NR ? NR * sizeof(float) : (size_t)width * sizeof(float));
            continue;
        }
        for (int64_t i = 0; i < k; i++)
            for (int64_t j = 0; j < width; j++)
                memcpy(packed + i * NR + j, from + i * by_k + j * by_column, sizeof(float));
    }
}

static void row_sums_u8(const uint8_t *in, ptrdiff_t step, int64_t rows, int64_t k, int32_t *sums) {
    for (int64_t r = 0; r < rows; r++, in += step) {
        uint32_t sum = 0;
        for (int64_t i = 0; i < k; i++) sum += in[i];
        sums[r] = (int32_t)sum;
    }
}

const espl__kernels SET = {.pack_u8 = pack_u8, .pack_f32 = pack_f32, .row_sums_u8 = row_sums_u8};
