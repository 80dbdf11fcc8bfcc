/* Integer convolution in 256 bits: a block is two registers, and 4 pixels x 1 block with split bytes fill the
 * 16 there are. Prepared weights need no splitting. */
#include "kernels/simd/avx2.h"
#include "kernels/conv/tiles.h"

#define TILES_1(X) UP_TO_4(X, 1)
#define TILES_2(X) UP_TO_1(X, 2)
#define TILES_3(X)
#define TILES_4(X) UP_TO_1(X, 4)
#define TILES_8(X)
enum { MR_1 = 4, MR_2 = 1, MR_3 = 0, MR_4 = 1, MR_8 = 0 };

#define CONV_U8
#include "kernels/conv/conv.inc.h"
#define WIDE_S16 espl__conv_f32_avx2
#include "kernels/conv/wide.inc.h"
#include "kernels/conv/chains.inc.h"

const espl__kernels espl__conv_u8_avx2 = {
    .conv_u8 = conv_prepared,
    .conv_u8_f32 = conv_prepared_f32,
    .prepare_room = prepare_room,
    .prepare = prepare,
    .s16_rate = 64,
};
