/* Loops that the probe times. Each keeps the best of many short rounds: other programs only ever make a round
 * slower, and a round of two milliseconds has a chance to end before the scheduler takes the core away. */
#include <float.h>
#include <stdlib.h>

#include "base/pool.h"
#include "chip/chip.h"
#include "kernels/kernels.h"

static const double round_seconds = 0.002, total_seconds = 0.15;
enum { LEAST_ROUNDS = 4, MOST_ROUNDS = 40 };

/* Seconds of one call of fn: calls are repeated until a round is long enough for the clock, the best round
 * counts. */
static double time_call(void (*fn)(void *), void *arg) {
    double best = DBL_MAX, first = espl__now();
    int64_t calls = 1;
    for (int round = 0; round < MOST_ROUNDS;) {
        double start = espl__now();
        for (int64_t i = 0; i < calls; i++) fn(arg);
        double seconds = espl__now() - start;
        if (seconds < round_seconds && calls < INT64_C(1) << 40) {
            double wanted = seconds > 0 ? round_seconds / seconds * 1.2 : 100;
            calls = (int64_t)((double)calls * ESPL_MIN(ESPL_MAX(wanted, 1.5), 100.0)) + 1;
            continue;
        }
        best = ESPL_MIN(best, seconds / (double)calls);
        round++;
        if (round >= LEAST_ROUNDS && espl__now() - first > total_seconds) break;
    }
    return best;
}

/* --- MAC rate: rows as deep as a 3x3 layer of 256 channels in u8, of 64 in f32. All that they touch fits the second cache;
 * the epilogue, which long sums hardly notice, is in the time. --- */

enum { PIXELS = 64, CHANNELS = 64, K_U8 = 2304, K_F32 = 576, LINE = 64 };

typedef struct row_job {
    espl__conv conv;
    const void *in;
    void *out;
} row_job;

static void run_u8(void *arg) {
    row_job *job = arg;
    espl__kernels_get()->conv_u8(&job->conv, job->in, job->out, NULL, PIXELS, 0, CHANNELS / ESPL__NR);
}
static void run_f32(void *arg) {
    row_job *job = arg;
    espl__kernels_get()->conv_f32(&job->conv, job->in, job->out, NULL, PIXELS, 0, CHANNELS / ESPL__NR);
}

espl_status espl__measure_macs(espl_context *ctx, bool quantized, double *macs_per_s, espl_diag *diag) {
    espl_status status = ESPL_OK;
    int k = quantized ? K_U8 : K_F32;
    size_t element = quantized ? 1 : sizeof(float);
    size_t weight_bytes = (size_t)CHANNELS * (size_t)k * element, in_bytes = (size_t)PIXELS * (size_t)k * element;
    size_t out_bytes = (size_t)PIXELS * CHANNELS * element;
    static const int32_t seg_off[1] = {0};
    float mult[CHANNELS];
    int32_t zeros[CHANNELS] = {0}; /* the bias, as s32 or as f32 */
    for (int i = 0; i < CHANNELS; i++) mult[i] = 1.0f / 4096;
    uint8_t *weights = espl__calloc(ctx, 1, weight_bytes), *in = espl__calloc(ctx, 1, in_bytes + 2 * LINE);
    uint8_t *out = espl__calloc(ctx, 1, out_bytes + 64);
    if (!weights || !in || !out) {
        status = espl__nomem(diag, weight_bytes);
        goto done;
    }
    /* As activations lie: from the beginning of a line on. */
    row_job job = {.in = in + (-(uintptr_t)in & (LINE - 1)), .out = out};
    job.conv = (espl__conv){.segments = 1, .seg_k = quantized ? k / 4 : k, .seg_off = seg_off,
                            .in_step = (ptrdiff_t)k * (ptrdiff_t)element,
                            .out_step = (ptrdiff_t)CHANNELS * (ptrdiff_t)element, .w = weights, .bias = zeros,
                            .channels = CHANNELS, .q = {.mult = mult, .hi = 255}, .flo = -FLT_MAX, .fhi = FLT_MAX};
    double seconds = time_call(quantized ? run_u8 : run_f32, &job);
    *macs_per_s = (double)PIXELS * CHANNELS * k / seconds;
done:
    espl__free(ctx, weights);
    espl__free(ctx, in);
    espl__free(ctx, out);
    return status;
}

/* --- bandwidth, two ways of which the faster one counts. memchr for a byte that is not there: the C
 * library's is written for each CPU with its widest loads, which a portable loop compiled for the oldest CPU
 * is not. And the convolution of a single pixel, a matrix times a vector, which reads every weight once. ---
 */

static void *(*volatile search)(const void *, int,
                                size_t) = memchr; /* volatile: the compiler must not skip calls */

typedef struct read_job {
    espl__pool *pool;
    const uint8_t *data;
    uint64_t bytes;
    int threads;
} read_job;

static void read_range(void *arg, int64_t begin, int64_t end, int thread) {
    const read_job *job = arg;
    uint64_t part = job->bytes / (uint64_t)job->threads;
    (void)thread;
    for (int64_t i = begin; i < end; i++) search(job->data + (uint64_t)i * part, 1, (size_t)part);
}
static void read_all(void *arg) {
    read_job *job = arg;
    espl__parallel_for(job->pool, job->threads, read_range, job);
}

enum { K_STREAM = 1024 };

static void run_pixel(void *arg) {
    row_job *job = arg;
    int blocks = job->conv.channels / ESPL__NR;
    espl__kernels_get()->conv_u8(&job->conv, job->in, job->out, NULL, 1, 0, blocks);
}

static espl_status stream_weights(espl_context *ctx, const uint8_t *weights, uint64_t bytes, double *bytes_per_s,
                                  espl_diag *diag) {
    espl_status status = ESPL_OK;
    static const int32_t seg_off[1] = {0};
    static const uint8_t in[K_STREAM + 64];
    int32_t channels = (int32_t)(ESPL_MIN(bytes, 1u << 30) / K_STREAM / ESPL__NR * ESPL__NR);
    if (channels == 0) return ESPL_OK;
    uint64_t count = (uint64_t)channels;
    float *mult = espl__calloc(ctx, count, sizeof *mult);
    int32_t *bias = espl__calloc(ctx, count, sizeof *bias);
    uint8_t *out = espl__calloc(ctx, count, 1);
    if (!mult || !bias || !out) {
        status = espl__nomem(diag, count);
        goto done;
    }
    row_job job = {.in = in, .out = out};
    job.conv = (espl__conv){.segments = 1, .seg_k = K_STREAM / 4, .seg_off = seg_off, .in_step = K_STREAM,
                            .out_step = channels, .w = weights, .bias = bias, .channels = channels,
                            .q = {.mult = mult, .hi = 255}};
    *bytes_per_s = ESPL_MAX(*bytes_per_s, (double)count * K_STREAM / time_call(run_pixel, &job));
done:
    espl__free(ctx, mult);
    espl__free(ctx, bias);
    espl__free(ctx, out);
    return status;
}

espl_status espl__measure_bandwidth(espl_context *ctx, uint64_t bytes, bool all_threads, double *bytes_per_s,
                                    espl_diag *diag) {
    espl_status status = ESPL_OK;
    uint8_t *data = espl__alloc(ctx, bytes);
    if (!data) return espl__nomem(diag, bytes);
    memset(data, 7, (size_t)bytes); /* untouched pages would all be one zero page */
    read_job job = {
        .pool = all_threads ? espl__context_pool(ctx) : NULL, .data = data, .bytes = bytes, .threads = 1};
    if (all_threads) job.threads = ESPL_MAX(espl__pool_threads(job.pool), 1);
    *bytes_per_s = (double)bytes / time_call(read_all, &job);
    if (!all_threads) status = stream_weights(ctx, data, bytes, bytes_per_s, diag);
    espl__free(ctx, data);
    return status;
}

/* --- clock and dispatch --- */

/* A chain of additions that wait for each other takes a cycle each on every CPU we know of. The empty asm
 * keeps the compiler from folding the chain; adding a register keeps CPUs that fold constants from doing it.
 */
static void add_chain(void *arg) {
    uint64_t x = *(uint64_t *)arg, y = x | 1;
    for (int i = 0; i < 1000; i++) {
#define ADD                           \
    x += y;                           \
    __asm__ volatile("" : "+r"(x), "+r"(y));
        ADD ADD ADD ADD ADD ADD ADD ADD ADD ADD
#undef ADD
    }
    *(uint64_t *)arg = x;
}

double espl__measure_clock(void) {
    uint64_t x = 1;
    return 10000 / time_call(add_chain, &x);
}

static void nothing(void *arg, int64_t begin, int64_t end, int thread) {
    (void)arg, (void)begin, (void)end, (void)thread;
}

/* The best of single calls, not of rounds: the threads of a round compete with whatever else runs here. */
double espl__measure_dispatch(espl_context *ctx) {
    espl__pool *pool = espl__context_pool(ctx);
    int threads = pool ? espl__pool_threads(pool) : 1;
    double best = DBL_MAX, end = espl__now() + 0.1;
    for (int i = 0; i < 10000; i++) {
        double start = espl__now();
        if (start > end) break;
        espl__parallel_for(pool, threads, nothing, NULL);
        best = ESPL_MIN(best, espl__now() - start);
    }
    return best;
}
