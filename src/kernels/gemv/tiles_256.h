/* Tiles of 16 registers of 256 bits, two a block: four blocks for one row, two for two, one for four. */
#ifndef ESPL_GEMV_TILES_256_H
#define ESPL_GEMV_TILES_256_H

#include "kernels/conv/tiles.h"

#define TILES_1(X) UP_TO_4(X, 1)
#define TILES_2(X) UP_TO_2(X, 2)
#define TILES_4(X) UP_TO_1(X, 4)
#define TILES_8(X)
#define ROW_TILES(X) X(1) X(2) X(4)

static inline int blocks_per_tile(int rows, int blocks) {
    if (rows <= 1 && blocks >= 4) return 4;
    return rows <= 2 && blocks >= 2 ? 2 : 1;
}

#endif
