/* Float products in 256 bits. */
#include "kernels/simd/avx2.h"
#include "kernels/gemv/tiles_256.h"

#define GEMV_F32
#include "kernels/gemv/gemv.inc.h"

const espl__kernels espl__gemv_f32_avx2 = {.gemv_f32 = gemv_f32};
