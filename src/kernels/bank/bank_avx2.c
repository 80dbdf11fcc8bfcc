/* In 256 bits. */
#include "kernels/bank/words_256.h"
#include "kernels/gemv/tiles_256.h"

#define GEMV_U8
#define GEMV_F32
#include "kernels/bank/bank_gemv.inc.h"

const espl__kernels espl__bank_avx2 = {
    .bank_gemv_u8 = bank_gemv_u8, .bank_gemv_u8_f32 = bank_gemv_u8_f32, .bank_gemv_f32 = bank_gemv_f32};
