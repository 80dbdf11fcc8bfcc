/* Units of four slots for bank_conv.inc.h, where vpdpbusd multiplies bytes and sums in 32 bits. */
#ifndef ESPL_BANK_CONV_32_H
#define ESPL_BANK_CONV_32_H

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

#endif
