/* Integers with VNNI and vpermb, which picks from all windows of a vector at once. */
#define ESPL__VBMI
#define ESPL__VNNI
#include "kernels/bank/words_512.h"
#include "kernels/gemv/tiles_512.h"

#define GEMV_U8
#include "kernels/bank/bank_gemv.inc.h"

const espl__kernels espl__bank_avx512vbmi = {.bank_gemv_u8 = bank_gemv_u8,
                                             .bank_gemv_u8_f32 = bank_gemv_u8_f32};
