#include "train/ops/maths.inc.h"

/* Scale and bias as rows; those of a layer norm stand there already. */
static void FN(expand)(const rows *k, int64_t row, const REAL *from, int64_t count, REAL absent, REAL *to) {
    for (int64_t i = 0; i < k->segments; i++) {
        REAL v = !from ? absent : from[count == 1 ? 0 : channel_of(k, row, i)];
        for (int64_t j = 0; j < k->plane; j++) to[i * k->plane + j] = v;
    }
}

static const REAL *FN(as_row)(const espl__call *c, int input, int64_t row, REAL absent, REAL *own) {
    const rows *k = c->state;
    const REAL *from = input < c->inputs ? c->in[input].data : NULL;
    int64_t count = from ? espl_shape_count(&c->in[input].shape) : 0;
    if (k->layer && count == k->n && count != 1) return from;
    FN(expand)(k, row, from, count, absent, own);
    return own;
}

static void FN(statistics)(const rows *k, const REAL *x, REAL *own, REAL *mean, REAL *inv) {
    *mean = FN(dot)(x, NULL, k->n) / (REAL)k->n;
    for (int64_t i = 0; i < k->n; i++) own[i] = x[i] - *mean;
    *inv = 1 / M(sqrt)(FN(dot)(own, own, k->n) / (REAL)k->n + (REAL)k->epsilon);
}

/* scratch of a run: two rows, and behind them sums of dscale and dbias */
static REAL *FN(run_rows)(const espl__call *c, int64_t run) {
    const rows *k = c->state;
    return (REAL *)c->scratch + run * (4 * k->n + 2 * k->scales);
}

static void FN(norm_runs)(void *arg, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const espl__call *c = arg;
    const rows *k = c->state;
    REAL *saved = c->saved;
    for (int64_t run = begin; run < end; run++) {
        REAL *own = FN(run_rows)(c, run);
        for (int64_t r = run * k->count / k->runs; r < (run + 1) * k->count / k->runs; r++) {
            const REAL *x = (const REAL *)c->in->data + r * k->n;
            REAL *y = (REAL *)c->out->data + r * k->n;
            FN(statistics)(k, x, own, &saved[2 * r], &saved[2 * r + 1]);
            REAL mean = saved[2 * r], inv = saved[2 * r + 1];
            const REAL *scale = FN(as_row)(c, 1, r, 1, own), *bias = FN(as_row)(c, 2, r, 0, own + k->n);
            for (int64_t i = 0; i < k->n; i++) y[i] = (x[i] - mean) * inv * scale[i] + bias[i];
        }
    }
}

/* With g = dy scale and x^ the normalised x: dx = (g - mean of g - x^ mean of g x^) / sqrt(var + epsilon). */
static void FN(back_row)(const espl__call *c, int64_t r, REAL *own) {
    const rows *k = c->state;
    const REAL *saved = c->saved, *x = (const REAL *)c->in->data + r * k->n,
               *dy = (const REAL *)c->dout->data + r * k->n;
    REAL mean = saved[2 * r], inv = saved[2 * r + 1], *g = own, *h = own + k->n, *p = own + 2 * k->n;
    const REAL *scale = FN(as_row)(c, 1, r, 1, own + 3 * k->n);
    for (int64_t i = 0; i < k->n; i++) {
        g[i] = dy[i] * scale[i];
        h[i] = (x[i] - mean) * inv;
        p[i] = dy[i] * h[i];
    }
    REAL *ds = own + 4 * k->n, *db = ds + k->scales;
    if (k->layer && k->scales == k->n)
        for (int64_t i = 0; i < k->n; i++) ds[i] += p[i], db[i] += dy[i];
    else
        for (int64_t i = 0; i < k->segments; i++) {
            int64_t at = k->scales == 1 ? 0 : channel_of(k, r, i);
            ds[at] += FN(dot)(p + i * k->plane, NULL, k->plane);
            db[at] += FN(dot)(dy + i * k->plane, NULL, k->plane);
        }
    REAL *dx = c->din[0].data;
    if (!dx) return;
    REAL a = FN(dot)(g, NULL, k->n) / (REAL)k->n, b = FN(dot)(g, h, k->n) / (REAL)k->n;
    dx += r * k->n;
    if (c->add & 1)
        for (int64_t i = 0; i < k->n; i++) dx[i] += inv * (g[i] - a - h[i] * b);
    else
        for (int64_t i = 0; i < k->n; i++) dx[i] = inv * (g[i] - a - h[i] * b);
}

static void FN(norm_back_runs)(void *arg, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const espl__call *c = arg;
    const rows *k = c->state;
    for (int64_t run = begin; run < end; run++) {
        REAL *own = FN(run_rows)(c, run);
        memset(own + 4 * k->n, 0, (size_t)(2 * k->scales) * sizeof(REAL));
        for (int64_t r = run * k->count / k->runs; r < (run + 1) * k->count / k->runs; r++)
            FN(back_row)(c, r, own);
    }
}

/* A bias of one element beside a row of scales, or the other way round, takes the sum. */
static void FN(parameter_sums)(espl__call *c, int input) {
    const rows *k = c->state;
    REAL *d = input < c->inputs ? c->din[input].data : NULL;
    if (!d) return;
    int64_t count = espl_shape_count(&c->din[input].shape);
    if (!(c->add >> input & 1)) memset(d, 0, espl__tensor_bytes(&c->din[input]));
    for (int64_t run = 0; run < k->runs; run++) {
        const REAL *sums = FN(run_rows)(c, run) + 4 * k->n + (input == 2 ? k->scales : 0);
        for (int64_t i = 0; i < k->scales; i++) d[count == 1 ? 0 : i] += sums[i];
    }
}
