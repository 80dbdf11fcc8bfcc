/* Without VNNI, the tiles of the VNNI kernels: 16 sums, the split bytes of four rows and of one weight. */
#include "kernels/simd/avx512.h"
#include "kernels/gemv/tiles_512.h"

#define GEMV_U8
#define GEMV_CENTRED
#include "kernels/gemv/gemv.inc.h"

const espl__kernels espl__gemv_u8_avx512 = {.gemv_u8 = gemv_u8, .gemv_u8_f32 = gemv_u8_f32, .sums = true};
