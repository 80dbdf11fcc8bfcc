/* Units of four slots for bank_conv.inc.h, where vpdpbusd multiplies bytes and sums in 32 bits. The including file has
 * bank_conv_<width>.h with ESPL__VNNI. */
#ifndef ESPL_BANK_CONV_32_H
#define ESPL_BANK_CONV_32_H

enum { UNIT = 4 };

typedef struct {
    vi at, w;
} unit;

/* The constant is read each time: all registers hold sums, and making it anew takes the port of the shuffles.
 */
static INLINE unit unit_load(const uint8_t *pair, int second, int u) {
    static const int32_t nibbles = 0x0F0F0F0F;
    const int32_t *low = &nibbles;
    __asm__("" : "+r"(low));
    const vi at = vi_load(pair), w = vi_load(pair + (1 + second) * BANK_VECTOR);
    (void)u;
    return (unit){vi_and(second ? v16_right_4(at) : at, vi_set1(*low)), w};
}

static INLINE vi unit_dot(vi acc, vi picked, unit x) {
    return dot(acc, picked, x.w);
}

#endif
