/* Convolution with compressed sparse rows in 512 bits. */
#include "kernels/simd/avx512.h"

#define FOR_VECTORS(X) X(1) X(2)
#define CSR_F32
#include "kernels/csr/csr.inc.h"

const espl__kernels espl__csr_avx512 = {.csr_conv_f32 = csr_conv_f32};
