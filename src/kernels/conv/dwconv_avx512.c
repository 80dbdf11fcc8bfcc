/* Depthwise convolution in 512 bits. */
#include "kernels/simd/avx512.h"

#define TILES(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8)
enum { MR_MAX = 8 };
#define CONV_U8
#define CONV_F32
#include "kernels/conv/dwconv.inc.h"

const espl__kernels espl__dwconv_avx512 = {.dwconv_u8 = dwconv_u8, .dwconv_f32 = dwconv_f32};
