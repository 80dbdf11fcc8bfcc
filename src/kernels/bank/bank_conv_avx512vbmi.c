/* Bank-balanced convolution with vpermb and vpdpbusd: one of each makes 64 useful products, wherever the
 * slots of a vector lie, since vpermb picks from 64 bytes. */
#define ESPL__VBMI
#define ESPL__VNNI
#include "kernels/bank/bank_conv_512.h"
#include "kernels/bank/bank_conv_32.h"

#include "kernels/bank/bank_conv.inc.h"

const espl__kernels espl__bank_conv_avx512vbmi = {.bank_conv_u8 = bank_conv_u8,
                                                  .bank_conv_u8_f32 = bank_conv_u8_f32};
