/* Convolution with compressed sparse rows in 256 bits. */
#include "kernels/simd/avx2.h"

#define FOR_VECTORS(X) X(1) X(2) X(3) X(4)
#define CSR_F32
#include "kernels/csr/csr.inc.h"

const espl__kernels espl__csr_avx2 = {.csr_conv_f32 = csr_conv_f32};
