/* In 512 bits without VNNI. */
#include "kernels/bank/words_512.h"
#include "kernels/gemv/tiles_512.h"

#define GEMV_U8
#define GEMV_F32
#include "kernels/bank/bank_gemv.inc.h"

const espl__kernels espl__bank_avx512 = {
    .bank_gemv_u8 = bank_gemv_u8, .bank_gemv_u8_f32 = bank_gemv_u8_f32, .bank_gemv_f32 = bank_gemv_f32};
