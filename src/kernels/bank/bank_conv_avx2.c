/* Bank-balanced convolution in 256 bits without VNNI: vpshufb, vpmaddwd and an addition for 16 useful
 * products. */
#include "kernels/bank/bank.h"
#include "kernels/bank/words_256.h"

static INLINE vi vi_and(vi a, vi b) {
    return _mm256_and_si256(a, b);
}
static INLINE vi v16_right_4(vi x) {
    return _mm256_srli_epi16(x, 4);
}
static INLINE vi v16_high(vi x) {
    return _mm256_srai_epi16(x, 8);
}

#include "kernels/bank/bank_conv_16.h"

enum { MR_MAX = 14 };
#define TILES(X) UP_TO_14(X, 1)

#include "kernels/bank/bank_conv.inc.h"

const espl__kernels espl__bank_conv_avx2 = {.bank_conv_u8 = bank_conv_u8,
                                            .bank_conv_u8_f32 = bank_conv_u8_f32};
