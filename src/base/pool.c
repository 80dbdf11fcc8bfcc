#include "base/pool.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

enum { SPINS = 4000 };

struct worker {
    espl__pool *pool;
    pthread_t thread;
    int index;
};

struct espl__pool {
    espl_context *ctx;
    int threads, started;
    struct worker *workers; /* threads - 1 of them */
    /* The job; written before `epoch` rises, read after. */
    espl__range_fn fn;
    void *arg;
    int64_t count;
    _Alignas(64) atomic_uint epoch;
    _Alignas(64) atomic_int pending; /* workers that have not finished the job */
    atomic_int sleepers;
    atomic_bool stop;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
};

static inline void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

static void run_range(espl__pool *p, int index) {
    int64_t begin = p->count * index / p->threads, end = p->count * (index + 1) / p->threads;
    if (begin < end) p->fn(p->arg, begin, end, index);
}

/* Spins for a while, then sleeps until the epoch moves on from `seen`. */
static unsigned await_epoch(espl__pool *p, unsigned seen) {
    for (int i = 0; i < SPINS; i++) {
        unsigned now = atomic_load_explicit(&p->epoch, memory_order_acquire);
        if (now != seen) return now;
        relax();
    }
    pthread_mutex_lock(&p->mutex);
    atomic_fetch_add(&p->sleepers, 1);
    unsigned now;
    while ((now = atomic_load(&p->epoch)) == seen) pthread_cond_wait(&p->wake, &p->mutex);
    atomic_fetch_sub(&p->sleepers, 1);
    pthread_mutex_unlock(&p->mutex);
    return now;
}

static void *worker_main(void *arg) {
    struct worker *w = arg;
    espl__pool *p = w->pool;
    for (unsigned seen = 0;;) {
        seen = await_epoch(p, seen);
        if (atomic_load(&p->stop)) return NULL;
        run_range(p, w->index);
        atomic_fetch_sub_explicit(&p->pending, 1, memory_order_release);
    }
}

/* Sequentially consistent against `sleepers`: either the worker sees the new epoch or we see it asleep. */
static void raise_epoch(espl__pool *p) {
    atomic_fetch_add(&p->epoch, 1);
    if (atomic_load(&p->sleepers) > 0) {
        pthread_mutex_lock(&p->mutex);
        pthread_cond_broadcast(&p->wake);
        pthread_mutex_unlock(&p->mutex);
    }
}

espl_status espl__pool_create(espl_context *ctx, int threads, espl__pool **out, espl_diag *diag) {
    *out = NULL;
    espl__pool *p = espl__calloc(ctx, 1, sizeof *p);
    if (!p) return espl__nomem(diag, sizeof *p);
    p->ctx = ctx;
    p->threads = threads;
    pthread_mutex_init(&p->mutex, NULL);
    pthread_cond_init(&p->wake, NULL);
    if (threads > 1) {
        p->workers = espl__calloc(ctx, (uint64_t)threads - 1, sizeof *p->workers);
        if (!p->workers) {
            espl__pool_destroy(&p);
            return espl__nomem(diag, sizeof *p->workers * (uint64_t)threads);
        }
    }
    for (int i = 1; i < threads; i++) {
        struct worker *w = &p->workers[i - 1];
        w->pool = p;
        w->index = i;
        if (pthread_create(&w->thread, NULL, worker_main, w) != 0) {
            espl__pool_destroy(&p);
            return espl__fail(diag, ESPL_NOMEM, "thread %d of %d could not be started; ask for fewer", i + 1,
                              threads);
        }
        p->started++;
    }
    *out = p;
    return ESPL_OK;
}

void espl__pool_destroy(espl__pool **pool) {
    espl__pool *p = *pool;
    if (!p) return;
    atomic_store(&p->stop, true);
    raise_epoch(p);
    for (int i = 0; i < p->started; i++) pthread_join(p->workers[i].thread, NULL);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->mutex);
    espl__free(p->ctx, p->workers);
    espl__free(p->ctx, p);
    *pool = NULL;
}

int espl__pool_threads(const espl__pool *pool) { return pool ? pool->threads : 1; }

void espl__parallel_for(espl__pool *pool, int64_t count, espl__range_fn fn, void *arg) {
    if (count <= 0) return;
    if (!pool || pool->threads == 1 || count == 1) {
        fn(arg, 0, count, 0);
        return;
    }
    pool->fn = fn;
    pool->arg = arg;
    pool->count = count;
    atomic_store(&pool->pending, pool->threads - 1);
    raise_epoch(pool);
    run_range(pool, 0);
    for (int i = 0; atomic_load_explicit(&pool->pending, memory_order_acquire) > 0; i++) {
        relax();
        if (i > SPINS) { /* the worker may have no core of its own */
            struct timespec nap = {0, 1000};
            nanosleep(&nap, NULL);
        }
    }
}
