/* Float convolution in 512 bits: two fma a cycle. Products of 16 bits take the same tiles, with vpmaddwd and an addition for the
 * fma. */
#include "kernels/simd/avx512.h"
#include "kernels/conv/tiles_512.h"

#define CONV_F32
#define CONV_EDGES
#define CONV_S16
#include "kernels/conv/conv.inc.h"

const espl__kernels espl__conv_f32_avx512 = {.conv_f32 = conv_f32, .conv_s16 = conv_s16};
