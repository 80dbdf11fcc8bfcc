/* The transforms of Winograd's convolution in 512 bits. */
#include "kernels/simd/avx512.h"

#define SET espl__winograd_avx512
#include "kernels/winograd/winograd.inc.h"
