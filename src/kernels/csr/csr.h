/* What the sets share of convolution with compressed sparse rows. */
#ifndef ESPL_KERNEL_CSR_H
#define ESPL_KERNEL_CSR_H

#include "kernels/kernels.h"

/* Pixels at a time: few enough that 256 elements of each stay in the first-level cache. */
enum { ESPL__CSR_STRIP = 32 };

#endif
