/* Bank-balanced convolution in 512 bits without VNNI: vpshufb, vpmaddwd and an addition for 32 useful
 * products. */
#include "kernels/bank/bank_conv_512.h"
#include "kernels/bank/bank_conv_16.h"
#include "kernels/bank/bank_conv.inc.h"

const espl__kernels espl__bank_conv_avx512 = {.bank_conv_u8 = bank_conv_u8,
                                              .bank_conv_u8_f32 = bank_conv_u8_f32};
