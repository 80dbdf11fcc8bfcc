/* What the sets share of convolution with compressed sparse rows. */
#ifndef ESPL_KERNEL_CSR_H
#define ESPL_KERNEL_CSR_H

#include "kernels/kernels.h"

enum {
    ESPL__CSR_STRIP = 64, /* pixels at a time, or */
    ESPL__CSR_BYTES =
        320 << 10 /* as many as keep their elements in the second-level cache, but at least 16 */
};

/* Pixels of a strip, a multiple of 16. */
static inline int espl__csr_strip(const espl__conv *p) {
    const int64_t elements = (int64_t)p->segments * p->seg_k;
    const int64_t fit = ESPL__CSR_BYTES / ((elements > 0 ? elements : 1) * (int64_t)sizeof(float));
    if (fit >= ESPL__CSR_STRIP) return ESPL__CSR_STRIP;
    return fit < 16 ? 16 : (int)(fit / 16 * 16);
}

#endif
