/* Integer convolution with vpdpbusd: two a cycle, fed by two loads a cycle. 14 pixels x 2 blocks keep both
 * units busy and leave room for the weights; fewer pixels take more blocks, so that enough sums are under way
 * to hide the latency. */
#define ESPL__VNNI
#include "kernels/simd/avx512.h"
#include "kernels/conv/tiles.h"

#define TILES_1(X) UP_TO_16(X, 1)
#define TILES_2(X) UP_TO_14(X, 2)
#define TILES_3(X) UP_TO_9(X, 3)
#define TILES_4(X) UP_TO_6(X, 4)
#define TILES_8(X) UP_TO_2(X, 8)
enum { MR_1 = 16, MR_2 = 14, MR_3 = 9, MR_4 = 6, MR_8 = 2 };

static inline int blocks_per_tile(int pixels, int blocks) {
    if (pixels <= MR_8 && blocks >= 8) return 8;
    if (pixels <= MR_4 && blocks >= 4) return 4;
    return blocks == 3 ? 3 : blocks >= 2 ? 2 : 1;
}

#define CONV_U8
#define CONV_EDGES
#include "kernels/conv/conv.inc.h"

const espl__kernels espl__conv_u8_avx512vnni = {.conv_u8 = conv_u8, .conv_u8_f32 = conv_u8_f32};
