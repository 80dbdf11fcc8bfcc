/* Depthwise convolution in 256 bits, of codes and of floats. */
#define CONV_F32
#include "kernels/conv/dwconv_256.inc.h"

const espl__kernels espl__dwconv_avx2 = {.dwconv_u8 = dwconv_u8, .dwconv_f32 = dwconv_f32};
