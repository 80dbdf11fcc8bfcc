/* Convolution with compressed sparse rows of codes in 512 bits. */
#define ESPL__VNNI
#include "kernels/simd/avx512.h"

#define FOR_VECTORS(X) X(1) X(2) X(3) X(4)
#define CSR_U8
#include "kernels/csr/csr.inc.h"

const espl__kernels espl__csr_u8_avx512vnni = {.csr_conv_u8 = csr_conv_u8, .csr_conv_u8_f32 = csr_conv_u8_f32, .csr_codes = true};
