/* Tiles of 32 registers of 512 bits: eight blocks for one or two rows, four for three or four. */
#ifndef ESPL_GEMV_TILES_512_H
#define ESPL_GEMV_TILES_512_H

#include "kernels/conv/tiles.h"

#define TILES_1(X) UP_TO_4(X, 1)
#define TILES_2(X) UP_TO_4(X, 2)
#define TILES_4(X) UP_TO_4(X, 4)
#define TILES_8(X) UP_TO_2(X, 8)
#define ROW_TILES(X) X(1) X(2) X(4) X(8)

static inline int blocks_per_tile(int rows, int blocks) {
    if (rows <= 2 && blocks >= 8) return 8;
    return blocks >= 4 ? 4 : blocks >= 2 ? 2 : 1;
}

#endif
