/* What bank-balanced convolution takes of 512 bits: words, and a tile of up to 28 pixels x 1 block. */
#ifndef ESPL_BANK_CONV_512_H
#define ESPL_BANK_CONV_512_H

#include "kernels/bank/bank.h"
#include "kernels/bank/words_512.h"
#include "kernels/conv/tiles.h"

enum { MR_MAX = 28 };
#define TILES(X) UP_TO_28(X, 1)

static INLINE vi vi_and(vi a, vi b) {
    return _mm512_and_si512(a, b);
}
/* Each 16 bits shifted, the second way with their sign. */
static INLINE vi v16_right_4(vi x) {
    return _mm512_srli_epi16(x, 4);
}
static INLINE vi v16_high(vi x) {
    return _mm512_srai_epi16(x, 8);
}

#endif
