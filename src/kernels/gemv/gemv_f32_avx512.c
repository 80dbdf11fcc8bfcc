/* Float products in 512 bits. */
#include "kernels/simd/avx512.h"
#include "kernels/gemv/tiles_512.h"

#define GEMV_F32
#include "kernels/gemv/gemv.inc.h"

const espl__kernels espl__gemv_f32_avx512 = {.gemv_f32 = gemv_f32};
