/* The ring of batches and the thread that fills it. */
#include "data/batch.h"

#include <inttypes.h>
#include <pthread.h>
#include <signal.h>

typedef struct slot {
    espl__batch_store store;
    espl__batch batch;
    espl_status status; /* of making it */
    espl_diag diag;
} slot;

/* Since the last seek `made` batches were made and `taken` given back; batch number n is in slot
 * n % slot_count. The caller holds number `taken` while `held`; one that failed is not taken, so it stays.
 * Without a thread the caller makes them. */
struct espl__loader {
    espl_context *ctx;
    espl__batcher batcher;
    slot *slots;
    int slot_count;
    pthread_t thread;
    bool threaded;
    pthread_mutex_t mutex; /* over all below, and over slots that are neither held nor being made */
    pthread_cond_t changed;
    int64_t epoch, step; /* of the next batch to make */
    int64_t made, taken;
    uint64_t seeks; /* a batch that was begun before the last seek is thrown away */
    bool held, stop;
};

/* --- making -------------------------------------------------------------------------------------------- */

static void make(espl__loader *l, slot *s, int64_t epoch, int64_t step) {
    s->diag = (espl_diag){0};
    s->status = espl__batch_make(&l->batcher, epoch, step, &s->store, &s->batch, &s->diag);
}

static void made_one(espl__loader *l) {
    l->made++;
    if (++l->step < l->batcher.steps) return;
    l->step = 0;
    l->epoch++;
}

static void *thread_main(void *arg) {
    espl__loader *l = arg;
    pthread_mutex_lock(&l->mutex);
    while (!l->stop) {
        if (l->made - l->taken >= l->slot_count) {
            pthread_cond_wait(&l->changed, &l->mutex);
            continue;
        }
        uint64_t seeks = l->seeks;
        int64_t epoch = l->epoch, step = l->step;
        slot *s = &l->slots[l->made % l->slot_count];
        pthread_mutex_unlock(&l->mutex);
        make(l, s, epoch, step);
        pthread_mutex_lock(&l->mutex);
        if (seeks != l->seeks) continue;
        made_one(l);
        pthread_cond_broadcast(&l->changed);
    }
    pthread_mutex_unlock(&l->mutex);
    return NULL;
}

/* Signals are for the threads of the program, not for ours. Without a thread the caller makes the batches. */
static void start_thread(espl__loader *l) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    l->threaded = pthread_create(&l->thread, NULL, thread_main, l) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* --- create and destroy ------------------------------------------------------------------------------ */

espl_status espl__loader_create(espl_context *ctx, espl_dataset *dataset, const espl__loader_options *options,
                                espl__loader **out, espl_diag *diag) {
    espl_status status = ESPL_OK;
    *out = NULL;
    espl__loader *l = espl__calloc(ctx, 1, sizeof *l);
    if (!l) return espl__nomem(diag, sizeof *l);
    l->ctx = ctx;
    pthread_mutex_init(&l->mutex, NULL);
    pthread_cond_init(&l->changed, NULL);
    ESPL_TRY(espl__batcher_create(ctx, dataset, options, &l->batcher, diag));
    l->slots = espl__calloc(ctx, (uint64_t)options->prefetch + 1, sizeof *l->slots);
    if (!l->slots) {
        status = espl__nomem(diag, sizeof *l->slots);
        goto done;
    }
    while (l->slot_count <= options->prefetch)
        ESPL_TRY(espl__batch_store_create(&l->batcher, &l->slots[l->slot_count++].store, diag));
    if (options->prefetch > 0) start_thread(l);
    *out = l;
    l = NULL;
done:
    espl__loader_destroy(&l);
    return status;
}

void espl__loader_destroy(espl__loader **loader) {
    espl__loader *l = *loader;
    if (!l) return;
    if (l->threaded) {
        pthread_mutex_lock(&l->mutex);
        l->stop = true;
        pthread_cond_broadcast(&l->changed);
        pthread_mutex_unlock(&l->mutex);
        pthread_join(l->thread, NULL);
    }
    for (int i = 0; i < l->slot_count; i++) espl__batch_store_free(l->ctx, &l->slots[i].store);
    espl__free(l->ctx, l->slots);
    espl__batcher_free(&l->batcher);
    pthread_cond_destroy(&l->changed);
    pthread_mutex_destroy(&l->mutex);
    espl__free(l->ctx, l);
    *loader = NULL;
}

/* --- using ------------------------------------------------------------------------------------------- */

int64_t espl__loader_steps(const espl__loader *l) {
    return l->batcher.steps;
}

espl_status espl__loader_seek(espl__loader *l, int64_t epoch, int64_t step, espl_diag *diag) {
    if (epoch < 0 || step < 0 || step > l->batcher.steps)
        return espl__fail(diag, ESPL_INVALID,
                          "there is no step %" PRId64 " of epoch %" PRId64 ": an epoch of %s has %" PRId64
                          " steps",
                          step, epoch, l->batcher.dataset->file, l->batcher.steps);
    pthread_mutex_lock(&l->mutex);
    l->epoch = epoch + (step == l->batcher.steps);
    l->step = step % l->batcher.steps;
    l->made = l->taken = 0;
    l->held = false;
    l->seeks++;
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->mutex);
    return ESPL_OK;
}

espl_status espl__loader_next(espl__loader *l, espl__batch *batch, espl_diag *diag) {
    pthread_mutex_lock(&l->mutex);
    if (l->held) {
        l->held = false;
        l->taken++;
        pthread_cond_broadcast(&l->changed);
    }
    slot *s = &l->slots[l->taken % l->slot_count];
    if (!l->threaded && l->made == l->taken) {
        make(l, s, l->epoch, l->step);
        made_one(l);
    }
    while (l->made == l->taken) pthread_cond_wait(&l->changed, &l->mutex);
    l->held = s->status == ESPL_OK;
    espl_status status = s->status;
    if (status == ESPL_OK)
        *batch = s->batch;
    else
        espl__fail(diag, status, "%s", s->diag.message);
    pthread_mutex_unlock(&l->mutex);
    return status;
}
