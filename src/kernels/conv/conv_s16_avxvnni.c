/* Products of 16 bits with vpdpwssd, two a lane. */
#define ESPL__VNNI
#include "kernels/simd/avx2.h"
#include "kernels/conv/tiles_256.h"

#define CONV_S16
#include "kernels/conv/conv.inc.h"

const espl__kernels espl__conv_s16_avxvnni = {.conv_s16 = conv_s16};
