/* Eight streams for one and two rows; four rows leave registers for four. */
#define ESPL__VNNI
#include "kernels/simd/avx512.h"
#include "kernels/gemv/tiles_512.h"

#define GEMV_U8
#include "kernels/gemv/gemv.inc.h"

const espl__kernels espl__gemv_u8_avx512vnni = {.gemv_u8 = gemv_u8, .gemv_u8_f32 = gemv_u8_f32};
