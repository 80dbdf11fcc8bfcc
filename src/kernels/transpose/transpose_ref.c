/* Transposition of matrices of 1 and of 4 bytes: the definition. */
#include <string.h>

#include "kernels/families.h"

static void transpose_8(const void *in, ptrdiff_t in_step, void *out, ptrdiff_t out_step, int rows,
                        int columns) {
    const char *from = in;
    char *to = out;
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < columns; c++) to[c * out_step + r] = from[r * in_step + c];
}

static void transpose_32(const void *in, ptrdiff_t in_step, void *out, ptrdiff_t out_step, int rows,
                         int columns) {
    const char *from = in;
    char *to = out;
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < columns; c++) memcpy(to + c * out_step + 4 * r, from + r * in_step + 4 * c, 4);
}

const espl__kernels espl__transpose_ref = {.transpose_8 = transpose_8, .transpose_32 = transpose_32};
