/* Processes that train one network together, each with its share of every batch. Without MPI there is one. */
#ifndef ESPL_TRAIN_RANKS_H
#define ESPL_TRAIN_RANKS_H

#include "train/grad.h"

typedef struct espl__ranks espl__ranks;

/* All processes of the job that this one was started in (mpirun), else one. */
ESPL_NODISCARD espl_status espl__ranks_create(espl_context *ctx, espl__ranks **out, espl_diag *diag);
/* failed: this process gives up while others may be waiting for it. */
void espl__ranks_destroy(espl__ranks **ranks, bool failed);
int espl__ranks_count(const espl__ranks *ranks);
int espl__ranks_own(const espl__ranks *ranks);
/* For the engine's batch statistics; NULL for one rank. */
const espl__sync *espl__ranks_sync(const espl__ranks *ranks);
/* Sums over all ranks, in place; nothing happens for one. */
ESPL_NODISCARD espl_status espl__ranks_sum(espl__ranks *ranks, double *values, int64_t count);
/* Begins such a sum of reals and returns; `values` must stay until wait. */
ESPL_NODISCARD espl_status espl__ranks_start(espl__ranks *ranks, espl_dtype real, void *values,
                                             int64_t count);
ESPL_NODISCARD espl_status espl__ranks_wait(espl__ranks *ranks);

/* --- inside: what a way of passing messages does (ranks_mpi.c) ----------------------------------------- */

typedef struct espl__ranks_way {
    /* count and own; *state goes to the others. */
    espl_status (*begin)(espl_context *ctx, void **state, int *count, int *own, espl_diag *diag);
    espl_status (*sum)(void *state, double *values, int64_t count);
    espl_status (*start)(void *state, espl_dtype real, void *values, int64_t count);
    espl_status (*wait)(void *state);
    void (*end)(espl_context *ctx, void *state, bool failed);
    /* Whether the process was started as one of a job. */
    bool (*wanted)(void);
} espl__ranks_way;
#ifdef ESPL_MPI
extern const espl__ranks_way espl__ranks_mpi;
#endif

#endif
