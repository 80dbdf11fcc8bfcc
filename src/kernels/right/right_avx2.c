/* Packing of the right side in 256 bits. */
#define SET espl__right_avx2
#include "kernels/right/right.inc.h"
