/* Ranks over MPI. Gradients are summed in buckets while backward goes on; whatever fails says ESPL_IO, and
 * the job ends: mpirun stops the other processes when one ends without finalizing. */
#include "train/ranks.h"

#ifdef ESPL_MPI

#include <mpi.h>
#include <stdlib.h>

enum { BUCKET = 1 << 20, REQUESTS = 64 };

typedef struct state {
    MPI_Comm values, gradients; /* one each, so that neither waits for the other */
    bool own_init;
    MPI_Request requests[REQUESTS];
    int count;
    char *first; /* the bucket that grows, towards lower addresses */
    size_t bytes;
    MPI_Datatype type;
    size_t size;
} state;

static espl_status as_status(int code) {
    return code == MPI_SUCCESS ? ESPL_OK : ESPL_IO;
}

static bool wanted(void) {
    static const char *const names[] = {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK"};
    for (size_t i = 0; i < ESPL_COUNT(names); i++)
        if (getenv(names[i])) return true;
    return false;
}

static espl_status connect(state *s, int *count, int *own) {
    int there = 0, level, code = MPI_Initialized(&there);
    if (code == MPI_SUCCESS && !there) {
        code = MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &level);
        s->own_init = code == MPI_SUCCESS;
    }
    if (code == MPI_SUCCESS) code = MPI_Comm_dup(MPI_COMM_WORLD, &s->values);
    if (code == MPI_SUCCESS) code = MPI_Comm_dup(MPI_COMM_WORLD, &s->gradients);
    if (code == MPI_SUCCESS) code = MPI_Comm_set_errhandler(s->values, MPI_ERRORS_RETURN);
    if (code == MPI_SUCCESS) code = MPI_Comm_set_errhandler(s->gradients, MPI_ERRORS_RETURN);
    if (code == MPI_SUCCESS) code = MPI_Comm_size(s->values, count);
    if (code == MPI_SUCCESS) code = MPI_Comm_rank(s->values, own);
    return as_status(code);
}

static espl_status begin(espl_context *ctx, void **out, int *count, int *own, espl_diag *diag) {
    state *s = *out = espl__calloc(ctx, 1, sizeof *s);
    if (!s) return espl__nomem(diag, sizeof *s);
    espl_status status = connect(s, count, own);
    return status == ESPL_OK ? status : espl__fail(diag, status, "MPI could not be started");
}

static espl_status sum(void *arg, double *values, int64_t count) {
    state *s = arg;
    int code = MPI_SUCCESS;
    for (int64_t i = 0; code == MPI_SUCCESS && i < count; i += BUCKET)
        code = MPI_Allreduce(MPI_IN_PLACE, values + i, (int)ESPL_MIN(count - i, BUCKET), MPI_DOUBLE, MPI_SUM,
                             s->values);
    return as_status(code);
}

static espl_status wait_all(state *s) {
    int code = MPI_Waitall(s->count, s->requests, MPI_STATUSES_IGNORE);
    s->count = 0;
    return as_status(code);
}

/* Sends the bucket that has grown. */
static espl_status flush(state *s) {
    espl_status status = ESPL_OK;
    while (status == ESPL_OK && s->bytes > 0) {
        size_t part = ESPL_MIN(s->bytes, (size_t)BUCKET);
        if (s->count == REQUESTS) status = wait_all(s);
        if (status != ESPL_OK) break;
        char *at = s->first + s->bytes - part;
        status = as_status(MPI_Iallreduce(MPI_IN_PLACE, at, (int)(part / s->size), s->type, MPI_SUM,
                                          s->gradients, &s->requests[s->count]));
        if (status == ESPL_OK) s->count++;
        s->bytes -= part;
    }
    return status;
}

static espl_status start(void *arg, espl_dtype real, void *values, int64_t count) {
    state *s = arg;
    int done;
    espl_status status = ESPL_OK;
    size_t size = espl_dtype_bytes(real), bytes = (size_t)count * size;
    bool joins = s->bytes > 0 && (char *)values + bytes == s->first && s->size == size;
    if (!joins) status = flush(s);
    s->first = values;
    s->bytes = (joins ? s->bytes : 0) + bytes;
    s->type = real == ESPL_F64 ? MPI_DOUBLE : MPI_FLOAT;
    s->size = size;
    if (status == ESPL_OK && s->bytes >= BUCKET) status = flush(s);
    /* Without a thread of its own, MPI gets on when it is called. */
    if (status == ESPL_OK && s->count > 0) {
        int code = MPI_Testall(s->count, s->requests, &done, MPI_STATUSES_IGNORE);
        if (code == MPI_SUCCESS && done) s->count = 0;
        status = as_status(code);
    }
    return status;
}

static espl_status wait(void *arg) {
    state *s = arg;
    espl_status status = flush(s);
    return status == ESPL_OK ? wait_all(s) : status;
}

static void end(espl_context *ctx, void *arg, bool failed) {
    state *s = arg;
    if (!failed) {
        MPI_Comm_free(&s->values);
        MPI_Comm_free(&s->gradients);
        if (s->own_init) MPI_Finalize();
    }
    espl__free(ctx, s);
}

const espl__ranks_way espl__ranks_mpi = {begin, sum, start, wait, end, wanted};

#endif
