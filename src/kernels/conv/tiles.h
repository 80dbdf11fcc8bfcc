/* X(1, NRB) ... X(n, NRB): the tiles of one block count, for TILES_<NRB> of conv.inc.h. */
#ifndef ESPL_TILES_H
#define ESPL_TILES_H

#define UP_TO_1(X, NRB) X(1, NRB)
#define UP_TO_2(X, NRB) UP_TO_1(X, NRB) X(2, NRB)
#define UP_TO_3(X, NRB) UP_TO_2(X, NRB) X(3, NRB)
#define UP_TO_4(X, NRB) UP_TO_3(X, NRB) X(4, NRB)
#define UP_TO_5(X, NRB) UP_TO_4(X, NRB) X(5, NRB)
#define UP_TO_6(X, NRB) UP_TO_5(X, NRB) X(6, NRB)
#define UP_TO_8(X, NRB) UP_TO_6(X, NRB) X(7, NRB) X(8, NRB)
#define UP_TO_9(X, NRB) UP_TO_8(X, NRB) X(9, NRB)
#define UP_TO_10(X, NRB) UP_TO_9(X, NRB) X(10, NRB)
#define UP_TO_14(X, NRB) UP_TO_10(X, NRB) X(11, NRB) X(12, NRB) X(13, NRB) X(14, NRB)
#define UP_TO_16(X, NRB) UP_TO_14(X, NRB) X(15, NRB) X(16, NRB)
#define UP_TO_22(X, NRB) UP_TO_16(X, NRB) X(17, NRB) X(18, NRB) X(19, NRB) X(20, NRB) X(21, NRB) X(22, NRB)
#define UP_TO_28(X, NRB) UP_TO_22(X, NRB) X(23, NRB) X(24, NRB) X(25, NRB) X(26, NRB) X(27, NRB) X(28, NRB)

#endif
