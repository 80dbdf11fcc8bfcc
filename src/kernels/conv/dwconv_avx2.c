/* Depthwise convolution in 256 bits. */
#include "kernels/simd/avx2.h"

#define TILES(X) X(1) X(2) X(3) X(4)
enum { MR_MAX = 4 };
#define CONV_U8
#define CONV_F32
#include "kernels/conv/dwconv.inc.h"

const espl__kernels espl__dwconv_avx2 = {.dwconv_u8 = dwconv_u8, .dwconv_f32 = dwconv_f32};
