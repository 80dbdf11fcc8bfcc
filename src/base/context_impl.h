/* Inside floor 0 only. */
#ifndef ESPL_CONTEXT_IMPL_H
#define ESPL_CONTEXT_IMPL_H
#include <pthread.h>
#include <stdatomic.h>
#include "base/pool.h"

struct espl_context {
    espl_config config;
    espl__pool *pool;
    atomic_uint_fast64_t used, peak, allocations, refused;
    pthread_mutex_t tuning;
    struct espl__tuned *tuned; /* base/tune.c */
    int tuned_count;
};
void espl__tune_free(espl_context *ctx);
#endif
