/* What the sets share of convolution with compressed sparse rows. */
#ifndef ESPL_KERNEL_CSR_H
#define ESPL_KERNEL_CSR_H

#include "kernels/kernels.h"

/* Elements and pixels at a time: 32 KB, a first-level cache. Longer strips of fewer elements have to add up
 * sums more often, and read a weight for more products. */
enum {
    ESPL__CSR_PIECE = 256,
    ESPL__CSR_STRIP = 32,
    ESPL__CSR_CODES_PIECE = 128,
    ESPL__CSR_CODES_STRIP = 64,
    ESPL__CSR_BLOCKS = 4 /* of codes that are stored together: a line */
};

#endif
