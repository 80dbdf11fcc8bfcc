/* What the sets share of convolution with compressed sparse rows. */
#ifndef ESPL_KERNEL_CSR_H
#define ESPL_KERNEL_CSR_H

#include "kernels/kernels.h"

/* Elements and pixels at a time: 32 KB, a first-level cache. Longer strips of fewer elements have to add up
 * sums more often. */
enum {
    ESPL__CSR_PIECE = 256,
    ESPL__CSR_STRIP = 32,
    ESPL__CSR_SUMS = ESPL__CSR_STRIP * ESPL__NR /* of a block */
};

#endif
