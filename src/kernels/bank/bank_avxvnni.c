/* Integers in 256 bits with VNNI. */
#define ESPL__VNNI
#include "kernels/bank/words_256.h"
#include "kernels/gemv/tiles_256.h"

#define GEMV_U8
#include "kernels/bank/bank_gemv.inc.h"

const espl__kernels espl__bank_avxvnni = {.bank_gemv_u8 = bank_gemv_u8, .bank_gemv_u8_f32 = bank_gemv_u8_f32};
