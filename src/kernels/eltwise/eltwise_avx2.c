/* The elementwise kernels in 256 bits. */
#include "kernels/simd/avx2.h"

#define VECTORS
#define SET espl__eltwise_avx2
#include "kernels/eltwise/eltwise.inc.h"
