/* Convolutions and matrix products of f32 on AMX tiles behind the table of dense.h. */
#ifndef ESPL_TRAIN_AMX_H
#define ESPL_TRAIN_AMX_H

#include "train/dense.h"

/* Takes over the convolutions and products that tiles compute faster and leaves the others to the table's;
 * false: this machine has no tiles of bfloat16. */
#if defined(__x86_64__)
bool espl__amx_open(espl__dense *table);
void espl__amx_gemm_open(espl__dense *table); /* its second half */
#else
static inline bool espl__amx_open(espl__dense *table) {
    (void)table;
    return false;
}
#endif

#endif
