/* Packing of the right side in 512 bits. */
#define SET espl__right_avx512
#include "kernels/right/right.inc.h"
