/* Integer products in 256 bits: 8 sums, the split bytes of up to four rows and of one weight. */
#include "kernels/simd/avx2.h"
#include "kernels/gemv/tiles_256.h"

#define GEMV_U8
#define GEMV_CENTRED
#include "kernels/gemv/gemv.inc.h"

const espl__kernels espl__gemv_u8_avx2 = {.gemv_u8 = gemv_u8, .gemv_u8_f32 = gemv_u8_f32, .sums = true};
