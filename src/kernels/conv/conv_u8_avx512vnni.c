/* Integer convolution with vpdpbusd: two a cycle, fed by two loads a cycle. */
#define ESPL__VNNI
#include "kernels/simd/avx512.h"
#include "kernels/conv/tiles_512.h"

#define CONV_U8
#define CONV_EDGES
#include "kernels/conv/conv.inc.h"

const espl__kernels espl__conv_u8_avx512vnni = {.conv_u8 = conv_u8, .conv_u8_f32 = conv_u8_f32, .s16_rate = 50};
