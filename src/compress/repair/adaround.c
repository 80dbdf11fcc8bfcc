/* AdaRound (Nagel et al. 2020, arXiv 2004.10568): whether each weight is rounded down or up is learned, so
 * that the layer's output, behind its activation f, stays what it was.
 *
 *   w^ = s clamp(floor(w / s) + h(v), lo, hi),   h(v) = clamp(1.2 sigmoid(v) - 0.1, 0, 1)
 *   L = |f(W^ x^ + b) - f(W x + b)|^2 + lambda sum(1 - |2 h(v) - 1|^beta)
 *
 * v begins where h(v) is what floor leaves of w / s. beta falls over time and makes each h 0 or 1 (equations
 * 21 to 25). Inputs x^ are those that the quantized layer gets.
 *
 * Outputs do not share weights, so each has a loss of its own, and that is divided by what nearest rounding
 * has: lambda is one number for all layers. Batches are the same ones in every epoch and are packed once for
 * the products, which the f32 kernels compute: sums have one order, whatever the instruction set and the
 * number of threads. beta - 1 is a whole number, so that powers are products. In the end an output for which
 * nearest rounding errs less on the samples keeps that. */
#include <math.h>

#include "base/pool.h"
#include "compress/repair/rounding.h"
#include "kernels/kernels.h"

enum { BATCH = 32, LANES = 16, UNIT = 16, POWER_FIRST = 19, POWER_LAST = 1 };
static const float lambda = 10.0f, warm_up = 0.2f, rate = 0.02f, stretch = 1.2f, margin = 0.1f;

typedef struct adaround {
    const espl__rounding *r;
    const espl__kernels *kernels;
    int64_t steps, batches, wide; /* wide: k in whole blocks of lanes */
    float *forward;               /* [batches][groups][BATCH / LANES][k][LANES] */
    float *backward;              /* [batches][groups][wide / LANES][BATCH][LANES] */
    int32_t *sample;              /* [batches][BATCH] */
    double *error;                /* of nearest rounding, by output */
    float *zeros;
    float *rooms; /* for each thread */
    int64_t room; /* floats of one */
    int64_t units;
    espl_context *ctx;
} adaround;

/* A thread's arrays: UNIT outputs x k each, but the last three. */
typedef struct arrays {
    float *v, *h, *w, *gradient, *mean, *square, *base;
    float *y, *e;
} arrays;

static arrays arrays_of(const adaround *a, int thread) {
    float *p = a->rooms + thread * a->room;
    int64_t n = UNIT * a->wide;
    return (arrays){
        p, p + n, p + 2 * n, p + 3 * n, p + 4 * n, p + 5 * n, p + 6 * n, p + 7 * n, p + 7 * n + UNIT * BATCH};
}

/* --- batches ----------------------------------------------------------------------------------------- */

static void shuffle(int32_t *order, int64_t n) {
    espl__rng rng = espl__rng_seed(2004, 10568);
    for (int64_t i = 0; i < n; i++) order[i] = (int32_t)i;
    for (int64_t i = n - 1; i > 0; i--) {
        int64_t j = espl__rng_below(&rng, (uint32_t)(i + 1));
        int32_t swap = order[i];
        order[i] = order[j];
        order[j] = swap;
    }
}

static const float *input_of(const adaround *a, int64_t batch, int64_t group, int64_t n) {
    return a->r->x + (a->sample[batch * BATCH + n] * a->r->groups + group) * a->r->k;
}

/* One batch of one group, both ways. */
static void pack(void *arg, int64_t begin, int64_t end, int thread) {
    const adaround *a = arg;
    int64_t k = a->r->k;
    (void)thread;
    for (int64_t p = begin; p < end; p++) {
        float *forward = a->forward + p * BATCH * k, *backward = a->backward + p * BATCH * a->wide;
        for (int64_t n = 0; n < BATCH; n++) {
            const float *x = input_of(a, p / a->r->groups, p % a->r->groups, n);
            for (int64_t i = 0; i < k; i++) forward[(n / LANES * k + i) * LANES + n % LANES] = x[i];
            for (int64_t i = 0; i < a->wide; i++)
                backward[(i / LANES * BATCH + n) * LANES + i % LANES] = i < k ? x[i] : 0;
        }
    }
}

/* out[rows][columns] = in[rows][k] * packed: f32 as the kernels sum it. */
static void product(const adaround *a, const float *in, int64_t k, const float *packed, int64_t columns,
                    float *out, int64_t rows) {
    int32_t start = 0;
    espl__conv p = {.segments = 1,
                    .seg_k = (int32_t)k,
                    .seg_off = &start,
                    .in_step = k * (ptrdiff_t)sizeof *in,
                    .out_step = columns * (ptrdiff_t)sizeof *out,
                    .w = packed,
                    .bias = a->zeros,
                    .channels = (int32_t)columns,
                    .flo = -INFINITY,
                    .fhi = INFINITY};
    a->kernels->conv_f32(&p, in, out, NULL, (int)rows, 0, (int)(columns / LANES));
}

/* --- one step ---------------------------------------------------------------------------------------- */

/* h and w^ of v. */
static void soften(const adaround *a, const arrays *m, const float *step, int64_t n) {
    float lo = (float)a->r->lo, hi = (float)a->r->hi;
    a->kernels->sigmoid_f32(m->v, m->h, n);
    for (int64_t i = 0; i < n; i++) {
        float h = m->h[i] * stretch - margin;
        h = h < 0 ? 0 : h > 1 ? 1 : h;
        float q = m->base[i] + h;
        q = q < lo ? lo : q > hi ? hi : q;
        m->h[i] = h;
        m->w[i] = q * step[i];
    }
}

/* The derivative of the reconstruction by w^, for `outputs` outputs from `first` on; e is scaled by each
 * output's weight in the loss. */
static void reconstruct(const adaround *a, const arrays *m, int64_t batch, int64_t group, int64_t first,
                        int64_t outputs) {
    const espl__rounding *r = a->r;
    int64_t p = batch * r->groups + group;
    product(a, m->w, r->k, a->forward + p * BATCH * r->k, BATCH, m->y, outputs);
    for (int64_t o = 0; o < outputs; o++) {
        float bias = r->bias[first + o], weight = (float)(2 * (double)r->k / (BATCH * a->error[first + o]));
        for (int64_t n = 0; n < BATCH; n++) {
            float want = r->y[a->sample[batch * BATCH + n] * r->outputs + first + o],
                  y = m->y[o * BATCH + n] + bias;
            float f = y < r->least ? r->least : y > r->most ? r->most : y;
            want = want < r->least ? r->least : want > r->most ? r->most : want;
            m->e[o * BATCH + n] =
                f == y ? (f - want) * weight : 0; /* no slope where the activation is flat */
        }
    }
    product(a, m->e, BATCH, a->backward + p * BATCH * a->wide, a->wide, m->gradient, outputs);
}

static float power(float x, int n) {
    float y = 1;
    for (; n; n >>= 1, x *= x)
        if (n & 1) y *= x;
    return y;
}

/* Where the fitting is. The powers of Adam's decays are products, the same on every machine. */
typedef struct progress {
    double decay1, decay2; /* 0.9^t, 0.999^t */
    int exponent;          /* beta - 1 */
    float regular;         /* 2 lambda beta, 0 at first */
} progress;

static void advance(progress *p, int64_t t, int64_t steps) {
    int64_t warm = (int64_t)(warm_up * (float)steps), left = (steps - t) * (POWER_FIRST - POWER_LAST);
    p->decay1 *= 0.9;
    p->decay2 *= 0.999;
    p->exponent = ESPL_MIN(POWER_LAST + (int)(left / ESPL_MAX(steps - warm, 1)), POWER_FIRST);
    p->regular = t < warm ? 0 : 2 * lambda * (float)(p->exponent + 1);
}

/* Adam (Kingma & Ba 2015) on v; gradient has rows of `wide`, the others of k. */
static void update(const adaround *a, const arrays *m, const float *step, int64_t outputs,
                   const progress *p) {
    const float b1 = 0.9f, b2 = 0.999f, tiny = 1e-8f;
    int64_t k = a->r->k;
    float lr = (float)(rate / (1 - p->decay1)), root = (float)(1 / (1 - p->decay2));
    for (int64_t o = 0; o < outputs; o++) {
        const float *g = m->gradient + o * a->wide;
        for (int64_t j = 0; j < k; j++) {
            int64_t i = o * k + j;
            float h = m->h[i], u = 2 * h - 1, s = (h + margin) / stretch;
            float slope = h > 0 && h < 1 ? stretch * s * (1 - s) : 0;
            float towards = u < 0 ? power(-u, p->exponent) : -power(u, p->exponent);
            float d = (g[j] * step[i] + p->regular * towards) * slope;
            m->mean[i] = b1 * m->mean[i] + (1 - b1) * d;
            m->square[i] = b2 * m->square[i] + (1 - b2) * d * d;
            m->v[i] -= lr * m->mean[i] / (sqrtf(m->square[i] * root) + tiny);
        }
    }
}

/* --- a unit: some outputs of one group --------------------------------------------------------------- */

/* h(v) of what floor leaves, kept off the ends, where the slope is 0. */
static void begin_unit(const arrays *m, const espl__rounding *r, int64_t first, int64_t outputs) {
    int64_t n = outputs * r->k;
    memset(m->mean, 0, (size_t)n * sizeof *m->mean);
    memset(m->square, 0, (size_t)n * sizeof *m->square);
    for (int64_t i = 0; i < n; i++) {
        float q = r->w[first * r->k + i] / r->step[first * r->k + i], down = floorf(q);
        q = fminf(fmaxf(q, (float)r->lo), (float)r->hi);
        down = fminf(fmaxf(down, (float)r->lo), (float)r->hi);
        float s = (fminf(fmaxf(q - down, 0.01f), 0.99f) + margin) / stretch;
        m->base[i] = down;
        m->v[i] = (float)log((double)s / (1 - s));
        if (!r->pruned || !r->pruned[first * r->k + i]) continue;
        m->base[i] = 0;
        m->v[i] = -20; /* h is 0 there, and its slope too */
    }
}

static void solve_unit(const adaround *a, const arrays *m, int64_t group, int64_t first, int64_t outputs) {
    const espl__rounding *r = a->r;
    const float *step = r->step + first * r->k;
    progress p = {.decay1 = 1, .decay2 = 1};
    int64_t n = outputs * r->k;
    begin_unit(m, r, first, outputs);
    for (int64_t t = 0; t < a->steps; t++) {
        soften(a, m, step, n);
        reconstruct(a, m, t % a->batches, group, first, outputs);
        advance(&p, t, a->steps);
        update(a, m, step, outputs, &p);
    }
    soften(a, m, step, n);
    for (int64_t i = 0; i < n; i++) {
        int32_t code = (int32_t)m->base[i] + (m->h[i] >= 0.5f);
        bool pruned = r->pruned && r->pruned[first * r->k + i];
        r->codes[first * r->k + i] = (int8_t)(pruned ? 0 : ESPL_MIN(ESPL_MAX(code, r->lo), r->hi));
    }
}

static void solve_units(void *arg, int64_t begin, int64_t end, int thread) {
    const adaround *a = arg;
    const espl__rounding *r = a->r;
    arrays m = arrays_of(a, thread);
    int64_t per = r->outputs / r->groups, in_group = (per + UNIT - 1) / UNIT;
    for (int64_t u = begin; u < end; u++) {
        int64_t group = u / in_group, first = u % in_group * UNIT;
        solve_unit(a, &m, group, group * per + first, ESPL_MIN(UNIT, per - first));
    }
}

/* --- a layer ----------------------------------------------------------------------------------------- */

void espl__rounding_error(const espl__rounding *r, const int8_t *codes, double *error) {
    int64_t per = r->outputs / r->groups;
    for (int64_t o = 0; o < r->outputs; o++) {
        error[o] = 0;
        for (int64_t n = 0; n < r->samples; n++) {
            const float *x = r->x + (n * r->groups + o / per) * r->k;
            float lanes[LANES] = {0}, y = r->bias[o], want = r->y[n * r->outputs + o];
            for (int64_t i = 0; i < r->k; i++)
                lanes[i % LANES] += (float)codes[o * r->k + i] * r->step[o * r->k + i] * x[i];
            for (int l = 0; l < LANES; l++) y += lanes[l];
            double d = (double)fminf(fmaxf(y, r->least), r->most) - fminf(fmaxf(want, r->least), r->most);
            error[o] += d * d / (double)r->samples;
        }
    }
}

static espl_status make(adaround *a, espl_diag *diag) {
    const espl__rounding *r = a->r;
    uint64_t threads = (uint64_t)espl__pool_threads(espl__context_pool(a->ctx));
    uint64_t packed = (uint64_t)(a->batches * r->groups * BATCH), most = (uint64_t)ESPL_MAX(a->wide, BATCH);
    a->room = 7 * UNIT * a->wide + 2 * UNIT * BATCH;
    a->forward = espl__alloc(a->ctx, packed * (uint64_t)r->k * sizeof(float));
    a->backward = espl__alloc(a->ctx, packed * (uint64_t)a->wide * sizeof(float));
    a->sample = espl__calloc(a->ctx, (uint64_t)(a->batches * BATCH + r->samples), sizeof *a->sample);
    a->error = espl__calloc(a->ctx, 2 * (uint64_t)r->outputs, sizeof *a->error);
    a->zeros = espl__calloc(a->ctx, most, sizeof *a->zeros);
    a->rooms = espl__calloc(a->ctx, threads * (uint64_t)a->room, sizeof *a->rooms);
    bool good = a->forward && a->backward && a->sample && a->error && a->zeros && a->rooms;
    return good ? ESPL_OK : espl__nomem(diag, packed * (uint64_t)a->wide * sizeof(float));
}

espl_status espl__adaround(espl_context *ctx, const espl__rounding *r, int64_t steps, espl_diag *diag) {
    espl_status status = ESPL_OK;
    espl__pool *pool = espl__context_pool(ctx);
    int64_t per = r->outputs / r->groups, total = r->outputs * r->k;
    adaround a = {.r = r, .kernels = espl__kernels_get(), .steps = steps, .ctx = ctx};
    int8_t *nearest = espl__alloc(ctx, (uint64_t)total);
    a.batches = ESPL_MAX((r->samples + BATCH - 1) / BATCH, 1);
    a.wide = (r->k + LANES - 1) / LANES * LANES;
    a.units = r->groups * ((per + UNIT - 1) / UNIT);
    ESPL_TRY(nearest ? make(&a, diag) : espl__nomem(diag, (uint64_t)total));
    for (int64_t i = 0; i < total; i++) nearest[i] = r->codes[i] = (int8_t)espl__rounding_nearest(r, i);
    if (r->samples < 1) goto done;
    shuffle(a.sample, r->samples);
    for (int64_t i = r->samples; i < a.batches * BATCH; i++) a.sample[i] = a.sample[i % r->samples];
    espl__rounding_error(r, nearest, a.error);
    for (int64_t o = 0; o < r->outputs;
         o++) /* a perfect output, or one that is no number, needs no learning */
        if (!(a.error[o] > 1e-30 && a.error[o] < 1e30)) a.error[o] = 1;
    espl__parallel_for(pool, a.batches * r->groups, pack, &a);
    espl__parallel_for(pool, a.units, solve_units, &a);
    espl__rounding_error(r, r->codes, a.error + r->outputs);
    espl__rounding_error(r, nearest, a.error);
    for (int64_t o = 0; o < r->outputs; o++)
        if (!(a.error[r->outputs + o] < a.error[o]))
            memcpy(r->codes + o * r->k, nearest + o * r->k, (size_t)r->k);
done:
    espl__free(ctx, nearest);
    espl__free(ctx, a.forward);
    espl__free(ctx, a.backward);
    espl__free(ctx, a.sample);
    espl__free(ctx, a.error);
    espl__free(ctx, a.zeros);
    espl__free(ctx, a.rooms);
    return status;
}

static espl_status solve(espl_context *ctx, const espl__rounding *r, const void *user, espl_diag *diag) {
    return espl__adaround(ctx, r, (int64_t)((const espl__repair *)user)->number, diag);
}

espl_status espl__repair_ADAROUND(const espl__repair_task *t, const espl__repair *r, espl_diag *diag) {
    return espl__round_layers(t, true, solve, r, diag);
}
