#include "train/optim.h"

#include <math.h>

enum { PIECE = 4096 }; /* elements that one thread takes at a time */

typedef struct piece {
    int64_t first, count;
    bool decays;
} piece;

struct espl__optim {
    espl_context *ctx;
    espl__pool *pool;
    espl__optim_options o;
    espl_dtype real;
    int64_t count, steps;
    piece *pieces;
    int64_t piece_count;
    double *squares; /* of each piece */
    int vector_count;
    void *vectors[ESPL__OPTIM_VECTORS]; /* the optimiser's, then the average */
};

/* One step, as the threads see it. */
typedef struct update {
    espl__optim_options o;
    espl__optim *optim;
    double rate, scale;
    int64_t steps;
    void *weights, *vectors[ESPL__OPTIM_VECTORS], *average;
    const void *gradients;
} update;

#define REAL_FILE "train/optim.inc.h"
#include "train/real.h"

static const int vectors_of[] = {
#define X(NAME, name, vectors, text) vectors,
    ESPL__OPTIM_LIST(X)
#undef X
};

static void cut(espl__optim *o, const espl__optim_range *ranges, int range_count) {
    for (int r = 0; r < range_count; r++)
        for (int64_t at = 0; at < ranges[r].count; at += PIECE)
            o->pieces[o->piece_count++] =
                (piece){ranges[r].first + at, ESPL_MIN(PIECE, ranges[r].count - at), ranges[r].decays};
}

static espl_status make(espl__optim *o, const espl__optim_range *ranges, int range_count, const void *weights,
                        espl_diag *diag) {
    uint64_t pieces = 1, size = espl_dtype_bytes(o->real);
    for (int r = 0; r < range_count; r++) pieces += (uint64_t)ranges[r].count / PIECE + 1;
    o->pieces = espl__calloc(o->ctx, pieces, sizeof *o->pieces);
    o->squares = espl__calloc(o->ctx, pieces, sizeof *o->squares);
    if (!o->pieces || !o->squares) return espl__nomem(diag, pieces * sizeof *o->pieces);
    cut(o, ranges, range_count);
    bool plain = o->o.kind == ESPL__OPTIM_SGD && o->o.momentum == 0;
    o->vector_count = (plain ? 0 : vectors_of[o->o.kind]) + (o->o.ema > 0);
    for (int i = 0; i < o->vector_count; i++) {
        o->vectors[i] = espl__calloc(o->ctx, (uint64_t)o->count + 1, size);
        if (!o->vectors[i]) return espl__nomem(diag, (uint64_t)o->count * size);
    }
    if (o->o.ema > 0) memcpy(espl__optim_average(o), weights, (size_t)o->count * size);
    return ESPL_OK;
}

espl_status espl__optim_create(espl_context *ctx, const espl__optim_options *options, espl_dtype real,
                               int64_t count, const espl__optim_range *ranges, int range_count,
                               const void *weights, espl__optim **out, espl_diag *diag) {
    *out = NULL;
    espl__optim *o = espl__calloc(ctx, 1, sizeof *o);
    if (!o) return espl__nomem(diag, sizeof *o);
    *o = (espl__optim){
        .ctx = ctx, .pool = espl__context_pool(ctx), .o = *options, .real = real, .count = count};
    espl_status status = make(o, ranges, range_count, weights, diag);
    if (status == ESPL_OK)
        *out = o;
    else
        espl__optim_destroy(&o);
    return status;
}

void espl__optim_destroy(espl__optim **optim) {
    espl__optim *o = *optim;
    if (!o) return;
    *optim = NULL;
    for (int i = 0; i < ESPL__OPTIM_VECTORS; i++) espl__free(o->ctx, o->vectors[i]);
    espl__free(o->ctx, o->pieces);
    espl__free(o->ctx, o->squares);
    espl__free(o->ctx, o);
}

int64_t *espl__optim_steps(espl__optim *o) {
    return &o->steps;
}

void *espl__optim_vector(espl__optim *o, int index) {
    return index < o->vector_count ? o->vectors[index] : NULL;
}

void *espl__optim_average(espl__optim *o) {
    return o->o.ema > 0 ? o->vectors[o->vector_count - 1] : NULL;
}

static void update_range(void *arg, int64_t begin, int64_t end, int thread) {
    const update *u = arg;
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        const piece *p = &u->optim->pieces[i];
        (u->optim->real == ESPL_F64 ? piece_f64 : piece_f32)(u, p->first, p->count, p->decays);
    }
}

void espl__optim_step(espl__optim *o, double rate, double scale, void *weights, const void *gradients) {
    update u = {.o = o->o,
                .optim = o,
                .rate = rate,
                .scale = scale,
                .steps = ++o->steps,
                .weights = weights,
                .average = espl__optim_average(o),
                .gradients = gradients};
    int own = o->vector_count - (o->o.ema > 0);
    for (int i = 0; i < own; i++) u.vectors[i] = o->vectors[i];
    espl__parallel_for(o->pool, o->piece_count, update_range, &u);
}

typedef struct norm_job {
    espl__optim *optim;
    const void *vector;
} norm_job;

static void norm_range(void *arg, int64_t begin, int64_t end, int thread) {
    const norm_job *j = arg;
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        const piece *p = &j->optim->pieces[i];
        j->optim->squares[i] =
            (j->optim->real == ESPL_F64 ? square_f64 : square_f32)(j->vector, p->first, p->count);
    }
}

double espl__optim_norm(espl__optim *o, const void *vector) {
    norm_job j = {o, vector};
    double sum = 0;
    espl__parallel_for(o->pool, o->piece_count, norm_range, &j);
    for (int64_t i = 0; i < o->piece_count; i++) sum += o->squares[i];
    return sqrt(sum);
}
