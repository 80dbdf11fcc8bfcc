/* The thread pool: a few workers that sleep between jobs.
 *
 * parallel_for cuts [0, count) into as many contiguous ranges as there are threads; whoever is awake takes
 * the next. The calling thread works too. Workers spin for a few microseconds after a job, then sleep, so
 * that the layers of one inference do not pay a wake each and an idle program burns nothing. Where fewer threads can be
 * started than were asked for, the ranges stay the same. */
#ifndef ESPL_POOL_H
#define ESPL_POOL_H

#include "base/base.h"

typedef struct espl__pool espl__pool;

/* Called once per range; `thread` < espl__pool_threads names the thread that runs it (one may run several
 * ranges). */
typedef void (*espl__range_fn)(void *arg, int64_t begin, int64_t end, int thread);

ESPL_NODISCARD espl_status espl__pool_create(espl_context *ctx, int threads, espl__pool **out,
                                             espl_diag *diag);
void espl__pool_destroy(espl__pool **pool);
int espl__pool_threads(const espl__pool *pool);
/* Returns when all ranges are done. pool may be NULL: everything runs here as thread 0. Not reentrant. */
void espl__parallel_for(espl__pool *pool, int64_t count, espl__range_fn fn, void *arg);
/* The context's pool. */
espl__pool *espl__context_pool(const espl_context *ctx);

#endif
