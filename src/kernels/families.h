/* Which kernel family has a file for which instruction set. A family file defines one table,
 * espl__<family>_<isa>, with the kernels it has; a new file is one more row here. */
#ifndef ESPL_KERNEL_FAMILIES_H
#define ESPL_KERNEL_FAMILIES_H

#include "kernels/kernels.h"

#define ESPL__KERNEL_FAMILIES_REF(X) \
    X(conv, ref, REF)                \
    X(csr, ref, REF)                 \
    X(dwconv, ref, REF)              \
    X(gemv, ref, REF)                \
    X(bank, ref, REF)                \
    X(winograd, ref, REF)            \
    X(wonly, ref, REF)               \
    X(eltwise, ref, REF)             \
    X(right, ref, REF)               \
    X(transpose, ref, REF)

#if defined(__x86_64__)
#define ESPL__KERNEL_FAMILIES(X)       \
    ESPL__KERNEL_FAMILIES_REF(X)       \
    X(conv_u8, avx2, AVX2)             \
    X(conv_f32, avx2, AVX2)            \
    X(bank_conv, avx2, AVX2)           \
    X(csr, avx2, AVX2)                 \
    X(dwconv, avx2, AVX2)              \
    X(gemv_u8, avx2, AVX2)             \
    X(gemv_f32, avx2, AVX2)            \
    X(bank, avx2, AVX2)                \
    X(wonly, avx2, AVX2)               \
    X(winograd, avx2, AVX2)            \
    X(eltwise, avx2, AVX2)             \
    X(right, avx2, AVX2)               \
    X(transpose, avx2, AVX2)           \
    X(conv_u8, avxvnni, AVXVNNI)       \
    X(conv_s16, avxvnni, AVXVNNI)      \
    X(csr_u8, avxvnni, AVXVNNI)        \
    X(dwconv, avxvnni, AVXVNNI)        \
    X(gemv_u8, avxvnni, AVXVNNI)       \
    X(bank, avxvnni, AVXVNNI)          \
    X(bank_conv, avxvnni, AVXVNNI)     \
    X(wonly, avxvnni, AVXVNNI)         \
    X(conv_u8, avx512, AVX512)         \
    X(conv_f32, avx512, AVX512)        \
    X(bank_conv, avx512, AVX512)       \
    X(csr, avx512, AVX512)             \
    X(dwconv, avx512, AVX512)          \
    X(gemv_u8, avx512, AVX512)         \
    X(gemv_f32, avx512, AVX512)        \
    X(bank, avx512, AVX512)            \
    X(wonly, avx512, AVX512)           \
    X(winograd, avx512, AVX512)        \
    X(eltwise, avx512, AVX512)         \
    X(conv_u8, avx512vnni, AVX512VNNI) \
    X(conv_s16, avx512vnni, AVX512VNNI) \
    X(csr_u8, avx512vnni, AVX512VNNI)  \
    X(dwconv, avx512vnni, AVX512VNNI)  \
    X(gemv_u8, avx512vnni, AVX512VNNI) \
    X(bank, avx512vnni, AVX512VNNI)    \
    X(wonly, avx512vnni, AVX512VNNI)   \
    X(bank_conv, avx512vnni, AVX512VNNI) \
    X(bank, avx512vbmi, AVX512VBMI)      \
    X(bank_conv, avx512vbmi, AVX512VBMI) \
    X(conv_u8, amx, AMX)               \
    X(wonly, amx, AMX)
#else
#define ESPL__KERNEL_FAMILIES(X) ESPL__KERNEL_FAMILIES_REF(X)
#endif

#define X(family, isa, LEVEL) extern const espl__kernels espl__##family##_##isa;
ESPL__KERNEL_FAMILIES(X)
#undef X

#endif
