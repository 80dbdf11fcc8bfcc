/* The elementwise kernels as the compiler vectorises them for 512 bits. */
#define SET espl__eltwise_avx512
#include "kernels/eltwise/eltwise.inc.h"
