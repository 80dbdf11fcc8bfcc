/* Bank-balanced convolution in 256 bits without VNNI: vpshufb, vpmaddwd and an addition for 16 useful
 * products. */
#include "kernels/bank/bank_conv_256.h"
#include "kernels/bank/bank_conv_16.h"
#include "kernels/bank/bank_conv.inc.h"

const espl__kernels espl__bank_conv_avx2 = {.bank_conv_u8 = bank_conv_u8,
                                            .bank_conv_u8_f32 = bank_conv_u8_f32};
