/* The transforms of Winograd's convolution in 256 bits. */
#include "kernels/simd/avx2.h"

#define SET espl__winograd_avx2
#include "kernels/winograd/winograd.inc.h"
