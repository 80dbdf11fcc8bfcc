/* Integer products in 256 bits with vpdpbusd: nothing to split, so the tiles are those of floats. */
#define ESPL__VNNI
#include "kernels/simd/avx2.h"
#include "kernels/gemv/tiles_256.h"

#define GEMV_U8
#include "kernels/gemv/gemv.inc.h"

const espl__kernels espl__gemv_u8_avxvnni = {.gemv_u8 = gemv_u8, .gemv_u8_f32 = gemv_u8_f32};
