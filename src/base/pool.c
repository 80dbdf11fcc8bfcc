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

/* A job is cut into as many parts as there are threads. `state` holds the job's number (upper half) and how
 * many parts the caller has claimed, from the first on, and the workers, from the last on (16 bits each); a
 * part is claimed by one compare-and-swap on all. So the caller has the first part again and again, and finds
 * its rows of the job before in its cache. Whoever is awake claims parts, so that a thread the system has put
 * aside delays nobody: the caller does its work. The fields of a job change only when all parts of the last
 * one are done, so whoever claimed a part reads the right ones. */
struct espl__pool {
    espl_context *ctx;
    int threads, started;
    struct worker *workers; /* threads - 1 of them */
    espl__range_fn fn;
    void *arg;
    int64_t count;
    _Alignas(64) atomic_uint_fast64_t state;
    _Alignas(64) atomic_int done; /* parts of the job that are finished */
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

static inline uint64_t job_of(uint64_t state) {
    return state >> 32;
}

/* Claims and runs parts of job number `job` until none is left. */
static void work(espl__pool *p, uint64_t job, int thread) {
    for (;;) {
        uint_fast64_t state = atomic_load_explicit(&p->state, memory_order_acquire);
        const int64_t first = (int64_t)(state & 0xFFFFu), last = (int64_t)(state >> 16 & 0xFFFFu);
        if (job_of(state) != job || first + last >= p->threads) return;
        if (!atomic_compare_exchange_weak(&p->state, &state, state + (thread == 0 ? 1 : 0x10000u))) continue;
        const int64_t part = thread == 0 ? first : p->threads - 1 - last;
        int64_t begin = p->count * part / p->threads, end = p->count * (part + 1) / p->threads;
        if (begin < end) p->fn(p->arg, begin, end, thread);
        atomic_fetch_add_explicit(&p->done, 1, memory_order_release);
    }
}

/* Spins for a while, then sleeps until there is another job than `seen`. */
static uint64_t await_job(espl__pool *p, uint64_t seen) {
    for (int i = 0; i < SPINS; i++) {
        uint64_t now = job_of(atomic_load_explicit(&p->state, memory_order_acquire));
        if (now != seen) return now;
        relax();
    }
    pthread_mutex_lock(&p->mutex);
    atomic_fetch_add(&p->sleepers, 1);
    uint64_t now;
    while ((now = job_of(atomic_load(&p->state))) == seen) pthread_cond_wait(&p->wake, &p->mutex);
    atomic_fetch_sub(&p->sleepers, 1);
    pthread_mutex_unlock(&p->mutex);
    return now;
}

static void *worker_main(void *arg) {
    struct worker *w = arg;
    espl__pool *p = w->pool;
    for (uint64_t seen = 0;;) {
        seen = await_job(p, seen);
        if (atomic_load(&p->stop)) return NULL;
        work(p, seen, w->index);
    }
}

/* Sequentially consistent against `sleepers`: either a worker sees the new job or we see it asleep. */
static uint64_t publish_job(espl__pool *p) {
    uint64_t job = (job_of(atomic_load(&p->state)) + 1) & 0xFFFFFFFFu;
    atomic_store(&p->state, job << 32);
    if (atomic_load(&p->sleepers) > 0) {
        pthread_mutex_lock(&p->mutex);
        pthread_cond_broadcast(&p->wake);
        pthread_mutex_unlock(&p->mutex);
    }
    return job;
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
            /* Fewer claim the same parts: the results are the same. */
            espl__log(ctx, ESPL_LOG_WARN, "%d of %d threads could be started: this takes longer", i, threads);
            break;
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
    publish_job(p);
    for (int i = 0; i < p->started; i++) pthread_join(p->workers[i].thread, NULL);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->mutex);
    espl__free(p->ctx, p->workers);
    espl__free(p->ctx, p);
    *pool = NULL;
}

int espl__pool_threads(const espl__pool *pool) {
    return pool ? pool->threads : 1;
}

void espl__parallel_for(espl__pool *pool, int64_t count, espl__range_fn fn, void *arg) {
    if (count <= 0) return;
    if (!pool || pool->threads == 1 || count == 1) {
        fn(arg, 0, count, 0);
        return;
    }
    pool->fn = fn;
    pool->arg = arg;
    pool->count = count;
    atomic_store(&pool->done, 0);
    work(pool, publish_job(pool), 0);
    for (int i = 0; atomic_load_explicit(&pool->done, memory_order_acquire) < pool->threads; i++) {
        relax();
        if (i > SPINS) { /* a worker was put aside in the middle of its part */
            struct timespec nap = {0, 1000};
            nanosleep(&nap, NULL);
        }
    }
}
