/* Bank-balanced convolution with vpermb and vpdpbusd: one of each makes 64 useful products, wherever the
 * slots of a vector lie, since vpermb picks from 64 bytes. */
#define ESPL__VBMI
#define ESPL__VNNI
#include "kernels/bank/bank_conv_512.h"
#include "kernels/bank/bank_conv_32.h"

#define TABLES
static INLINE vi table_u8(const char *from, int windows) {
    if (windows == 2) return _mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *)(const void *)from));
    return vi_load(from);
}
static INLINE vi positions_in_table(vi at, int left, int slots) {
    uint32_t window = 0; /* of each of four slots, in bits 4 and 5 */
    for (int i = left; i < 4; i += slots) window += 0x10101010u << 8 * i;
    return _mm512_or_si512(at, vi_set1((int32_t)window));
}
static INLINE vi pick_in_table(vi table, vi order) {
    return _mm512_permutexvar_epi8(order, table);
}

#include "kernels/bank/bank_conv.inc.h"

const espl__kernels espl__bank_conv_avx512vbmi = {.bank_conv_u8 = bank_conv_u8,
                                                  .bank_conv_u8_f32 = bank_conv_u8_f32};
