/* Bank-balanced convolution in 256 bits with vpshufb and vpdpbusd: one of each makes 32 useful products. */
#define ESPL__VNNI
#include "kernels/bank/bank.h"
#include "kernels/bank/words_256.h"

static INLINE vi vi_and(vi a, vi b) {
    return _mm256_and_si256(a, b);
}
static INLINE vi v16_right_4(vi x) {
    return _mm256_srli_epi16(x, 4);
}

#include "kernels/bank/bank_conv_32.h"

enum { MR_MAX = 14 };
#define TILES(X) UP_TO_14(X, 1)

#include "kernels/bank/bank_conv.inc.h"

const espl__kernels espl__bank_conv_avxvnni = {.bank_conv_u8 = bank_conv_u8,
                                               .bank_conv_u8_f32 = bank_conv_u8_f32};
