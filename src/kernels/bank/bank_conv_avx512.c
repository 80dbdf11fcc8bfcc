/* Bank-balanced convolution in 512 bits without VNNI: vpshufb, vpmaddwd and an addition for 32 useful
 * products. */
#include "kernels/bank/bank.h"
#include "kernels/bank/words_512.h"

static INLINE vi vi_and(vi a, vi b) {
    return _mm512_and_si512(a, b);
}
static INLINE vi v16_right_4(vi x) {
    return _mm512_srli_epi16(x, 4);
}
static INLINE vi v16_high(vi x) {
    return _mm512_srai_epi16(x, 8);
}

#include "kernels/bank/bank_conv_16.h"

enum { MR_MAX = 28 };
#define TILES(X) UP_TO_28(X, 1)

#include "kernels/bank/bank_conv.inc.h"

const espl__kernels espl__bank_conv_avx512 = {.bank_conv_u8 = bank_conv_u8,
                                              .bank_conv_u8_f32 = bank_conv_u8_f32};
