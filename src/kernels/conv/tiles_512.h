/* Tiles of 32 registers of 512 bits: 14 pixels x 2 blocks are 28 sums. Fewer pixels take more blocks, so that enough sums are
 * under way to hide the latency. */
#ifndef ESPL_CONV_TILES_512_H
#define ESPL_CONV_TILES_512_H

#include "kernels/conv/tiles.h"

#define TILES_1(X) UP_TO_16(X, 1)
#define TILES_2(X) UP_TO_14(X, 2)
#define TILES_3(X) UP_TO_9(X, 3)
#define TILES_4(X) UP_TO_6(X, 4)
#define TILES_8(X) UP_TO_2(X, 8)
enum { MR_1 = 16, MR_2 = 14, MR_3 = 9, MR_4 = 6, MR_8 = 2 };

#endif
