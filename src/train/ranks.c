#include "train/ranks.h"

struct espl__ranks {
    espl_context *ctx;
    const espl__ranks_way *way; /* NULL: one rank */
    void *state;
    int count, own;
    espl__sync sync;
};

static espl_status sum_of_sync(void *arg, double *values, int64_t count) {
    return espl__ranks_sum(arg, values, count);
}

espl_status espl__ranks_create(espl_context *ctx, espl__ranks **out, espl_diag *diag) {
    espl_status status = ESPL_OK;
    espl__ranks *r = *out = espl__calloc(ctx, 1, sizeof *r);
    if (!r) return espl__nomem(diag, sizeof *r);
    *r = (espl__ranks){.ctx = ctx, .count = 1};
#ifdef ESPL_MPI
    if (espl__ranks_mpi.wanted()) {
        r->way = &espl__ranks_mpi;
        status = r->way->begin(ctx, &r->state, &r->count, &r->own, diag);
    }
#endif
    r->sync = (espl__sync){r, r->count, sum_of_sync};
    if (status != ESPL_OK) espl__ranks_destroy(out, true);
    return status;
}

void espl__ranks_destroy(espl__ranks **ranks, bool failed) {
    espl__ranks *r = *ranks;
    if (!r) return;
    *ranks = NULL;
    if (r->way && r->state) r->way->end(r->ctx, r->state, failed);
    espl__free(r->ctx, r);
}

int espl__ranks_count(const espl__ranks *r) {
    return r->count;
}
int espl__ranks_own(const espl__ranks *r) {
    return r->own;
}
const espl__sync *espl__ranks_sync(const espl__ranks *r) {
    return r->count > 1 ? &r->sync : NULL;
}

espl_status espl__ranks_sum(espl__ranks *r, double *values, int64_t count) {
    return r->count > 1 ? r->way->sum(r->state, values, count) : ESPL_OK;
}
espl_status espl__ranks_start(espl__ranks *r, espl_dtype real, void *values, int64_t count) {
    return r->count > 1 ? r->way->start(r->state, real, values, count) : ESPL_OK;
}
espl_status espl__ranks_wait(espl__ranks *r) {
    return r->count > 1 ? r->way->wait(r->state) : ESPL_OK;
}
