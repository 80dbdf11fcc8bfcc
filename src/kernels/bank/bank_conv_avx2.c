/* Bank-balanced convolution with vpshufb and vpmaddwd. A position with its top bit set picks 0, so one
 * shuffle picks two inputs of each channel and widens them to 16 bits. */
#include "kernels/bank/words_256.h"
#include "kernels/conv/tiles.h"

enum { UNIT = 2, MR_MAX = 14 };
#define TILES(X) UP_TO_14(X, 1)

typedef struct {
    vi at, w;
} unit;

/* Bytes u and u + 1 of each word to every other byte, the first or the second; 0 between them. */
static INLINE vi spread(vi x, int u, int second) {
    const int32_t from = (int32_t)(second ? 0x01800080u : 0x80018000u),
                  step = second ? 0x01000100 : 0x00010001;
    const vi order = _mm256_broadcastsi128_si256(
        _mm_set_epi32(from + (12 + u) * step, from + (8 + u) * step, from + (4 + u) * step, from + u * step));
    return _mm256_shuffle_epi8(x, order);
}

static INLINE unit unit_load(const uint8_t *pair, int second, int u) {
    const vi at = vi_load(pair), w = vi_load(pair + (1 + second) * 64);
    const vi low = spread(second ? high_nibbles(at) : low_nibbles(at), u, 0);
    return (unit){_mm256_or_si256(low, v16_set1(-32768)), _mm256_srai_epi16(spread(w, u, 1), 8)};
}

static INLINE vi unit_dot(vi acc, vi picked, unit x) {
    return vi_madd(acc, picked, x.w);
}

#include "kernels/bank/bank_conv.inc.h"

const espl__kernels espl__bank_conv_avx2 = {.bank_conv_u8 = bank_conv_u8,
                                            .bank_conv_u8_f32 = bank_conv_u8_f32};
