/* Whether something was done without for want of memory. */
#ifndef ESPL_REFUSED_H
#define ESPL_REFUSED_H

#include "base/base.h"

/* How many allocations of this context failed so far: what chooses between ways that give different bytes must not take the
 * lesser one because memory was short, so it compares before and after. */
uint64_t espl__refused(const espl_context *ctx);
/* Counts one more: memory that something other than the context's allocator did not get. */
void espl__refuse(espl_context *ctx);

#endif
