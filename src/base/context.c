#define _GNU_SOURCE
#include "base/context_impl.h"
#include "base/cpu.h"
#include "base/refused.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { ALIGNMENT = 64, HUGE_PAGE = 2 << 20 };
#define DEFAULT_MAX_ALLOC ((uint64_t)16 << 30)

const char *espl_version(void) {
    return ESPL_VERSION;
}
const char *espl_cpu_name(void) {
    return espl__cpu_level_name(espl__cpu_level());
}

/* Large pages are quicker to get and to address; where there are none the advice is not taken. */
static void advise(char *p, size_t bytes) {
#ifdef MADV_HUGEPAGE
    uintptr_t from = ((uintptr_t)p + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE, end = (uintptr_t)p + bytes;
    if (bytes >= 2 * HUGE_PAGE)
        (void)madvise((void *)from, (end - from) / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE);
#else
    (void)p;
    (void)bytes;
#endif
}

static void *libc_alloc(void *user, size_t bytes) {
    (void)user;
    char *p = aligned_alloc(ALIGNMENT, (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
    if (p) advise(p, bytes);
    return p;
}

static void libc_free(void *user, void *ptr) {
    (void)user;
    free(ptr);
}

static uint64_t machine_memory(void) {
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    return pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page : UINT64_MAX;
}

static int online_cores(void) {
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n < 1 ? 1 : n > 256 ? 256 : (int)n;
}

/* Why this thread's last allocation failed: a limit of ours (0: none), what was asked for, and what was in use then. */
static _Thread_local struct {
    uint64_t limit, bytes, used;
} refusal;

espl_status espl_context_create(const espl_config *config, espl_context **out, espl_diag *diag) {
    espl_config c = config ? *config : (espl_config){0};
    *out = NULL;
    const espl_status known = espl__cpu_check(diag);
    if (known != ESPL_OK) return known;
    if (!c.alloc) {
        c.alloc = libc_alloc;
        c.free = libc_free;
    }
    if (!c.free) return espl__fail(diag, ESPL_INVALID, "a context with its own alloc needs its own free");
    if (c.max_alloc == 0) c.max_alloc = DEFAULT_MAX_ALLOC;
    if (c.max_memory == 0) c.max_memory = machine_memory();
    c.max_alloc = ESPL_MIN(c.max_alloc, c.max_memory);
    refusal.limit = 0;
    espl_context *ctx = c.alloc(c.user, sizeof *ctx);
    if (!ctx) return espl__nomem(diag, sizeof *ctx);
    memset(ctx, 0, sizeof *ctx);
    ctx->config = c;
    pthread_mutex_init(&ctx->tuning, NULL);
    espl_status status = espl_context_set_threads(ctx, c.threads, diag);
    if (status != ESPL_OK)
        espl_context_destroy(&ctx);
    else
        *out = ctx;
    return status;
}

void espl_context_destroy(espl_context **ctx) {
    if (!*ctx) return;
    espl__pool_destroy(&(*ctx)->pool);
    espl__tune_free(*ctx);
    pthread_mutex_destroy(&(*ctx)->tuning);
    espl_config c = (*ctx)->config;
    c.free(c.user, *ctx);
    *ctx = NULL;
}

espl_status espl_context_set_threads(espl_context *ctx, int threads, espl_diag *diag) {
    if (threads < 0 || threads > 256)
        return espl__fail(diag, ESPL_INVALID, "%d threads asked for; give 0 (all cores) to 256", threads);
    if (threads == 0) threads = online_cores();
    if (ctx->pool && espl__pool_threads(ctx->pool) == threads) return ESPL_OK;
    espl__pool *pool = NULL;
    espl_status status = espl__pool_create(ctx, threads, &pool, diag);
    if (status != ESPL_OK) return status;
    espl__pool_destroy(&ctx->pool);
    ctx->pool = pool;
    return ESPL_OK;
}

int espl_context_threads(const espl_context *ctx) {
    return espl__pool_threads(ctx->pool);
}
espl__pool *espl__context_pool(const espl_context *ctx) {
    return ctx->pool;
}

uint64_t espl_context_memory(const espl_context *ctx, uint64_t *peak) {
    espl_context *c = (espl_context *)ctx;
    if (peak) *peak = atomic_load(&c->peak);
    return atomic_load(&c->used);
}

uint64_t espl_context_allocations(const espl_context *ctx) {
    return atomic_load(&((espl_context *)ctx)->allocations);
}

uint64_t espl__refused(const espl_context *ctx) {
    return atomic_load(&((espl_context *)ctx)->refused);
}

void espl__refuse(espl_context *ctx) {
    refusal.limit = 0;
    atomic_fetch_add(&ctx->refused, 1);
}

espl_status espl__nomem(espl_diag *diag, uint64_t bytes) {
    if (refusal.limit == 0)
        return espl__fail(diag, ESPL_NOMEM, "out of memory: %" PRIu64 " bytes could not be had", bytes);
    return espl__fail(diag, ESPL_LIMIT,
                      "needs %" PRIu64 " bytes more where %" PRIu64 " are in use and %" PRIu64
                      " are allowed; if it is no damaged file, raise the limit (--max-memory)",
                      refusal.bytes, refusal.used, refusal.limit);
}

/* Counts bytes as in use, unless they are more than is allowed. */
static bool count_in(espl_context *ctx, uint64_t bytes) {
    uint64_t most = ctx->config.max_memory, used = atomic_load(&ctx->used);
    do {
        refusal.used = used;
        refusal.bytes = bytes;
        if (bytes > ctx->config.max_alloc || bytes > SIZE_MAX - ALIGNMENT || used > most || bytes > most - used) {
            refusal.limit = bytes > ctx->config.max_alloc ? ctx->config.max_alloc : most;
            return false;
        }
    } while (!atomic_compare_exchange_weak(&ctx->used, &used, used + bytes));
    refusal.limit = 0;
    used += bytes;
    uint64_t peak = atomic_load(&ctx->peak);
    while (used > peak && !atomic_compare_exchange_weak(&ctx->peak, &peak, used)) {
    }
    return true;
}

/* Each allocation carries its size in front, so that the context knows what is in use. */
void *espl__alloc(espl_context *ctx, uint64_t bytes) {
    bool allowed = count_in(ctx, bytes);
    char *p = allowed ? ctx->config.alloc(ctx->config.user, (size_t)bytes + ALIGNMENT) : NULL;
    if (!p) {
        if (allowed) atomic_fetch_sub(&ctx->used, bytes);
        atomic_fetch_add(&ctx->refused, 1);
        return NULL;
    }
    memcpy(p, &bytes, sizeof bytes);
    atomic_fetch_add(&ctx->allocations, 1);
    return p + ALIGNMENT;
}

void *espl__calloc(espl_context *ctx, uint64_t count, uint64_t size) {
    if (size && count > UINT64_MAX / size) return NULL;
    void *p = espl__alloc(ctx, count * size);
    if (p) memset(p, 0, (size_t)(count * size));
    return p;
}

void *espl__realloc(espl_context *ctx, void *ptr, uint64_t used, uint64_t bytes) {
    void *p = espl__alloc(ctx, bytes);
    if (!p) return NULL;
    if (used) memcpy(p, ptr, (size_t)ESPL_MIN(used, bytes));
    espl__free(ctx, ptr);
    return p;
}

void espl__free(espl_context *ctx, void *ptr) {
    if (!ptr) return;
    char *p = (char *)ptr - ALIGNMENT;
    uint64_t bytes;
    memcpy(&bytes, p, sizeof bytes);
    atomic_fetch_sub(&ctx->used, bytes);
    ctx->config.free(ctx->config.user, p);
}

uint64_t espl__max_alloc(const espl_context *ctx) {
    return ctx->config.max_alloc;
}

uint64_t espl__memory_left(const espl_context *ctx) {
    uint64_t used = espl_context_memory(ctx, NULL), most = ctx->config.max_memory;
    return ESPL_MIN(used < most ? most - used : 0, ctx->config.max_alloc);
}

void espl__log(espl_context *ctx, espl_log_level level, const char *fmt, ...) {
    if (!ctx->config.log) return;
    char line[1024];
    va_list args;
    va_start(args, fmt);
    vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    ctx->config.log(ctx->config.user, level, line);
}
