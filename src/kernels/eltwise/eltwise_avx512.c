/* The elementwise kernels in 512 bits. */
#include "kernels/simd/avx512.h"

#define VECTORS
#define SET espl__eltwise_avx512
#include "kernels/eltwise/eltwise.inc.h"
