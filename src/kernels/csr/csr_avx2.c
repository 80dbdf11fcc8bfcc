/* Convolution with compressed sparse rows in 256 bits. */
#include "kernels/simd/avx2.h"

#include "kernels/csr/csr.inc.h"

const espl__kernels espl__csr_avx2 = {.csr_conv_f32 = csr_conv_f32};
