/* The elementwise kernels as the compiler vectorises them for 256 bits. */
#define SET espl__eltwise_avx2
#include "kernels/eltwise/eltwise.inc.h"
