/* The thread pool: every index once, whatever the sizes; safe under the thread sanitizer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdatomic.h>
#include <time.h>

#include "base/pool.h"

enum { MAX_COUNT = 1000, MAX_THREADS = 16 };

typedef struct visit {
    int threads;
    int64_t count;
    /* Plain, not atomic: two threads on one element would be a race that the sanitizer sees. */
    int seen[MAX_COUNT];
    int calls[MAX_THREADS];
    atomic_int stray;
} visit;

static void mark(void *arg, int64_t begin, int64_t end, int thread) {
    visit *v = arg;
    if (thread < 0 || thread >= v->threads || begin < 0 || end > v->count || begin >= end) {
        atomic_fetch_add(&v->stray, 1);
        return;
    }
    v->calls[thread]++;
    for (int64_t i = begin; i < end; i++) v->seen[i]++;
}

static espl_context *context(int threads) {
    espl_context *ctx;
    espl_config config = {.threads = threads};
    assert_int_equal(espl_context_create(&config, &ctx, NULL), ESPL_OK);
    assert_int_equal(espl_context_threads(ctx), threads);
    return ctx;
}

static void check_visit(espl__pool *pool, int threads, int64_t count) {
    visit v = {.threads = threads, .count = count};
    espl__parallel_for(pool, count, mark, &v);
    if (atomic_load(&v.stray)) fail_msg("%d threads, %d items: a range or thread out of bounds", threads, (int)count);
    for (int64_t i = 0; i < count; i++)
        if (v.seen[i] != 1)
            fail_msg("%d threads, %d items: item %d seen %d times", threads, (int)count, (int)i, v.seen[i]);
    int ranges = 0;
    for (int t = 0; t < threads; t++) ranges += v.calls[t];
    if (ranges > threads) fail_msg("%d threads, %d items: cut into %d ranges", threads, (int)count, ranges);
}

static void every_item_is_visited_once(void **state) {
    (void)state;
    for (int threads = 1; threads <= MAX_THREADS; threads = threads < 5 ? threads + 1 : threads * 2 - 2) {
        espl_context *ctx = context(threads);
        for (int64_t count = 0; count <= 70; count++) check_visit(espl__context_pool(ctx), threads, count);
        check_visit(espl__context_pool(ctx), threads, MAX_COUNT - 1);
        check_visit(espl__context_pool(ctx), threads, MAX_COUNT);
        espl_context_destroy(&ctx);
    }
}

static void without_a_pool_it_runs_here(void **state) {
    (void)state;
    assert_int_equal(espl__pool_threads(NULL), 1);
    check_visit(NULL, 1, 0);
    check_visit(NULL, 1, 1);
    check_visit(NULL, 1, 77);
}

static void add_up(void *arg, int64_t begin, int64_t end, int thread) {
    int64_t *sums = arg;
    for (int64_t i = begin; i < end; i++) sums[thread * 8] += i;
}

/* Jobs back to back, so that workers are caught spinning, and with pauses, so that they are caught asleep. */
static void thousands_of_jobs_in_a_row(void **state) {
    (void)state;
    for (int threads = 2; threads <= 4; threads++) {
        espl_context *ctx = context(threads);
        int64_t sums[4 * 8] = {0}, expected = 0;
        int jobs = threads == 2 ? 10000 : 2000;
        for (int job = 0; job < jobs; job++) {
            int64_t count = 1 + job % 50;
            espl__parallel_for(espl__context_pool(ctx), count, add_up, sums);
            expected += count * (count - 1) / 2;
            if (job % 500 == 0) {
                struct timespec nap = {0, 1000000};
                nanosleep(&nap, NULL);
            }
        }
        int64_t total = 0;
        for (int t = 0; t < threads; t++) total += sums[t * 8];
        assert_int_equal(total, expected);
        espl_context_destroy(&ctx);
    }
}

/* What one job wrote the next one reads, on other threads. */
static void shift(void *arg, int64_t begin, int64_t end, int thread) {
    int(*rows)[64] = arg;
    (void)thread;
    for (int64_t i = begin; i < end; i++) rows[1][i] = rows[0][63 - i] + 1;
}

static void copy_back(void *arg, int64_t begin, int64_t end, int thread) {
    int(*rows)[64] = arg;
    (void)thread;
    for (int64_t i = begin; i < end; i++) rows[0][i] = rows[1][i];
}

static void jobs_see_what_earlier_jobs_wrote(void **state) {
    (void)state;
    espl_context *ctx = context(3);
    int rows[2][64] = {{0}};
    for (int i = 0; i < 1000; i++) {
        espl__parallel_for(espl__context_pool(ctx), 64, shift, rows);
        espl__parallel_for(espl__context_pool(ctx), 64, copy_back, rows);
    }
    for (int i = 0; i < 64; i++) assert_int_equal(rows[0][i], 1000);
    espl_context_destroy(&ctx);
}

static void pools_come_and_go(void **state) {
    (void)state;
    for (int i = 0; i < 200; i++) {
        espl_context *ctx = context(1 + i % 4);
        if (i % 3) check_visit(espl__context_pool(ctx), 1 + i % 4, i % 9);
        assert_int_equal(espl_context_set_threads(ctx, 2, NULL), ESPL_OK);
        check_visit(espl__context_pool(ctx), 2, 10);
        espl_context_destroy(&ctx);
    }
}

/* A waiting pool must not burn the cores: processor time of this process while nothing runs. */
static void idle_pools_sleep(void **state) {
    (void)state;
    espl_context *ctx = context(4);
    check_visit(espl__context_pool(ctx), 4, 100);
    struct timespec nap = {0, 50000000}, quarter = {0, 250000000};
    nanosleep(&nap, NULL);
    clock_t before = clock();
    nanosleep(&quarter, NULL);
    double burnt = (double)(clock() - before) / CLOCKS_PER_SEC;
    assert_true(burnt < 0.1);
    espl_context_destroy(&ctx);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_item_is_visited_once),
        cmocka_unit_test(without_a_pool_it_runs_here),
        cmocka_unit_test(thousands_of_jobs_in_a_row),
        cmocka_unit_test(jobs_see_what_earlier_jobs_wrote),
        cmocka_unit_test(pools_come_and_go),
        cmocka_unit_test(idle_pools_sleep),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
