/* Integer convolution in 256 bits with vpdpbusd, two a cycle as the fma of floats, and so in the tiles of floats. */
#define ESPL__VNNI
#include "kernels/simd/avx2.h"
#include "kernels/conv/tiles_256.h"

#define CONV_U8
#include "kernels/conv/conv.inc.h"

const espl__kernels espl__conv_u8_avxvnni = {.conv_u8 = conv_u8, .conv_u8_f32 = conv_u8_f32, .s16_rate = 50};
