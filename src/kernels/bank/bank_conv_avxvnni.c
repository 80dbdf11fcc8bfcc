/* Bank-balanced convolution in 256 bits with vpshufb and vpdpbusd: one of each makes 32 useful products. */
#define ESPL__VNNI
#include "kernels/bank/bank_conv_256.h"
#include "kernels/bank/bank_conv_32.h"
#include "kernels/bank/bank_conv.inc.h"

const espl__kernels espl__bank_conv_avxvnni = {.bank_conv_u8 = bank_conv_u8,
                                               .bank_conv_u8_f32 = bank_conv_u8_f32};
