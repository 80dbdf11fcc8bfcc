/* Bank-balanced convolution with vpshufb and vpdpbusd: one of each makes 64 useful products. */
#define ESPL__VNNI
#include "kernels/simd/avx512.h"
#include "kernels/conv/tiles.h"

enum { UNIT = 4, MR_MAX = 28 };
#define TILES(X) UP_TO_28(X, 1)

typedef struct {
    vi at, w;
} unit;

static INLINE unit unit_load(const uint8_t *pair, int second, int u) {
    (void)u;
    const vi at = vi_load(pair);
    return (unit){_mm512_and_si512(second ? _mm512_srli_epi16(at, 4) : at, v8_set1(15)),
                  vi_load(pair + 64 + second * 64)};
}
static INLINE vi window_load(const uint8_t *from) {
    return _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)from));
}
static INLINE vi picked(vi window, unit x) {
    return _mm512_shuffle_epi8(window, x.at);
}
static INLINE vi picked_too(vi picked, vi window, unit x, int first) {
    return _mm512_mask_shuffle_epi8(picked, 0x1111111111111111u * (0xFu << first & 0xF), window, x.at);
}
static INLINE vi unit_dot(vi acc, vi picked, unit x) {
    return _mm512_dpbusd_epi32(acc, picked, x.w);
}

#include "kernels/bank/bank_conv.inc.h"

const espl__kernels espl__bank_conv_avx512vnni = {.bank_conv_u8 = bank_conv_u8,
                                                  .bank_conv_u8_f32 = bank_conv_u8_f32};
