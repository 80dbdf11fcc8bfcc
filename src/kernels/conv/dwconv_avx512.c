/* Depthwise convolution in 512 bits. */
#include "kernels/conv/simd_avx512.h"

#define CONV_U8
#define CONV_F32
#include "kernels/conv/dwconv.inc.h"

const espl__kernels espl__dwconv_avx512 = {.dwconv_u8 = dwconv_u8, .dwconv_f32 = dwconv_f32};
