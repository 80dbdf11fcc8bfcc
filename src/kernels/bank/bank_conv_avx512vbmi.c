/* Bank-balanced convolution with vpermb and vpdpbusd: one of each makes 64 useful products, wherever the
 * slots of a vector lie, since vpermb picks from 64 bytes. */
#define ESPL__VNNI
#include "kernels/bank/words_512.h"
#include "kernels/conv/tiles.h"

enum { UNIT = 4, MR_MAX = 28 };
#define TILES(X) UP_TO_28(X, 1)

typedef struct {
    vi at, w;
} unit;

/* The constant is read each time: all registers hold sums, and making it anew takes the port of the shuffles.
 */
static INLINE unit unit_load(const uint8_t *pair, int second, int u) {
    static const int32_t nibbles = 0x0F0F0F0F;
    const int32_t *low = &nibbles;
    __asm__("" : "+r"(low));
    const vi at = vi_load(pair), w = vi_load(pair + (1 + second) * 64);
    (void)u;
    return (unit){_mm512_and_epi32(second ? _mm512_srli_epi16(at, 4) : at, vi_set1(*low)), w};
}

static INLINE vi unit_dot(vi acc, vi picked, unit x) {
    return _mm512_dpbusd_epi32(acc, picked, x.w);
}

/* Windows repeat until they fill 64 bytes. */
#define TABLES
static INLINE vi table_u8(const char *from, int windows) {
    if (windows == 2) return _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)(const void *)from));
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
