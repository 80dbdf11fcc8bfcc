/* Tiles of 16 registers of 256 bits, two a block: 6 pixels x 1 block are 12 sums, enough for two products a cycle. */
#ifndef ESPL_CONV_TILES_256_H
#define ESPL_CONV_TILES_256_H

#include "kernels/conv/tiles.h"

#define TILES_1(X) UP_TO_6(X, 1)
#define TILES_2(X) UP_TO_3(X, 2)
#define TILES_3(X)
#define TILES_4(X) UP_TO_1(X, 4)
#define TILES_8(X)
enum { MR_1 = 6, MR_2 = 3, MR_3 = 0, MR_4 = 1, MR_8 = 0 };

#endif
