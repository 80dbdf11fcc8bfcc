/* What bank-balanced convolution takes of 256 bits: words, and a tile of up to 14 pixels x 1 block. */
#ifndef ESPL_BANK_CONV_256_H
#define ESPL_BANK_CONV_256_H

#include "kernels/bank/bank.h"
#include "kernels/bank/words_256.h"
#include "kernels/conv/tiles.h"

enum { MR_MAX = 14 };
#define TILES(X) UP_TO_14(X, 1)

static INLINE vi vi_and(vi a, vi b) {
    return _mm256_and_si256(a, b);
}
/* Each 16 bits shifted, the second way with their sign. */
static INLINE vi v16_right_4(vi x) {
    return _mm256_srli_epi16(x, 4);
}
static INLINE vi v16_high(vi x) {
    return _mm256_srai_epi16(x, 8);
}

#endif
