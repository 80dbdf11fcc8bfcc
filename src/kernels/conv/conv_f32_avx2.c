/* Float convolution in 256 bits: 6 pixels x 1 block are 12 sums, enough for two fma a cycle. Products of 16 bits take the
 * same tiles, with vpmaddwd and an addition for the fma. */
#include "kernels/simd/avx2.h"
#include "kernels/conv/tiles.h"

#define TILES_1(X) UP_TO_6(X, 1)
#define TILES_2(X) UP_TO_3(X, 2)
#define TILES_3(X)
#define TILES_4(X) UP_TO_1(X, 4)
#define TILES_8(X)
enum { MR_1 = 6, MR_2 = 3, MR_3 = 0, MR_4 = 1, MR_8 = 0 };

static inline int blocks_per_tile(int pixels, int blocks) {
    if (pixels <= MR_4 && blocks >= 4) return 4;
    return pixels <= MR_2 && blocks >= 2 ? 2 : 1;
}

#define CONV_F32
#define CONV_S16
#include "kernels/conv/conv.inc.h"

const espl__kernels espl__conv_f32_avx2 = {.conv_f32 = conv_f32, .conv_s16 = conv_s16};
