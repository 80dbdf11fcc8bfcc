/* Integer convolution in 512 bits without VNNI: four widening products a lane take two vpmaddwd and two
 * additions, and the bytes of a pixel are split once for all blocks of a tile. Prepared weights need less. */
#include "kernels/simd/avx512.h"
#include "kernels/conv/tiles.h"

#define TILES_1(X) UP_TO_16(X, 1)
#define TILES_2(X) UP_TO_10(X, 2)
#define TILES_3(X) UP_TO_6(X, 3)
#define TILES_4(X) UP_TO_4(X, 4)
#define TILES_8(X) UP_TO_1(X, 8)
enum { MR_1 = 16, MR_2 = 10, MR_3 = 6, MR_4 = 4, MR_8 = 1 };

#define CONV_U8
#include "kernels/conv/conv.inc.h"
#define WIDE_S16 espl__conv_f32_avx512
#include "kernels/conv/wide.inc.h"
#include "kernels/conv/chains.inc.h"

const espl__kernels espl__conv_u8_avx512 = {
    .conv_u8 = conv_prepared,
    .conv_u8_f32 = conv_prepared_f32,
    .prepare_room = prepare_room,
    .prepare = prepare,
    .s16_rate = 64,
};
