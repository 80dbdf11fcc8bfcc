/* GPTQ (Frantar et al. 2022, arXiv 2210.17323), the optimal brain surgeon for rounding.
 *
 * The error of an output, summed over samples, is (w - w^) H (w - w^)' with H = X' X over the inputs of its
 * group. H gets dampening * mean(diag H) on its diagonal. With H^-1 = U' U, U upper triangular, weights are
 * rounded from the first to the last, and those that are still free make up for each error:
 *
 *   e = (w_i - w^_i) / U_ii,   w_j <- w_j - e U_ij   for j > i
 *
 * U is had without an inverse of H: H = R R' with R upper triangular (Cholesky from the last row up), U =
 * R^-1. */
#include <math.h>

#include "base/pool.h"
#include "compress/repair/rounding.h"

typedef struct surgeon {
    const espl__rounding *r;
    int64_t group;  /* the present one */
    double *h, *u;  /* k x k */
    int64_t *order; /* order[i]: the input that comes i-th */
    double *rows;   /* for each thread TOGETHER x k */
} surgeon;

/* Four sums side by side, added in a fixed order. */
static double dot(const double *a, const double *b, int64_t n) {
    double s[4] = {0};
    int64_t i = 0;
    for (; i + 4 <= n; i += 4)
        for (int l = 0; l < 4; l++) s[l] += a[i + l] * b[i + l];
    for (; i < n; i++) s[0] += a[i] * b[i];
    return (s[0] + s[2]) + (s[1] + s[3]);
}

enum { TOGETHER = 4 }; /* samples that pass over H at once */

/* Rows [begin, end) of X' X, from the diagonal on. */
static void moments(void *arg, int64_t begin, int64_t end, int thread) {
    const surgeon *g = arg;
    const espl__rounding *r = g->r;
    int64_t k = r->k;
    double *x = g->rows + thread * k * TOGETHER;
    for (int64_t n = 0; n < r->samples; n += TOGETHER) {
        for (int64_t s = 0; s < TOGETHER; s++) {
            const float *from = r->x + ((n + s) * r->groups + g->group) * k;
            for (int64_t i = begin; i < k; i++)
                x[s * k + i] = n + s < r->samples ? (double)from[g->order[i]] : 0;
        }
        for (int64_t i = begin; i < end; i++) {
            double *h = g->h + i * k, a = x[i], b = x[k + i], c = x[2 * k + i], d = x[3 * k + i];
            if (a == 0 && b == 0 && c == 0 && d == 0) continue;
            for (int64_t j = i; j < k; j++)
                h[j] += (a * x[j] + b * x[k + j]) + (c * x[2 * k + j] + d * x[3 * k + j]);
        }
    }
}

static void choose_order(surgeon *g, bool largest_first) {
    const espl__rounding *r = g->r;
    double *square = g->u; /* not needed yet */
    for (int64_t i = 0; i < r->k; i++) {
        g->order[i] = i;
        square[i] = 0;
    }
    if (!largest_first) return;
    for (int64_t n = 0; n < r->samples; n++)
        for (int64_t i = 0; i < r->k; i++) {
            double x = r->x[(n * r->groups + g->group) * r->k + i];
            square[i] += x * x;
        }
    for (int64_t i = 1; i < r->k; i++) /* among equals the first stay first */
        for (int64_t j = i; j > 0 && square[g->order[j]] > square[g->order[j - 1]]; j--) {
            int64_t swap = g->order[j];
            g->order[j] = g->order[j - 1];
            g->order[j - 1] = swap;
        }
}

static void dampen(surgeon *g, double dampening) {
    int64_t k = g->r->k;
    double mean = 0;
    for (int64_t i = 0; i < k; i++) mean += g->h[i * k + i] / (double)k;
    if (!(mean > 0)) mean = 1;
    for (int64_t i = 0; i < k; i++) {
        if (!(g->h[i * k + i] > 0)) g->h[i * k + i] = mean; /* an input that is always 0 */
        g->h[i * k + i] += fmax(dampening, 1e-9) * mean;
    }
}

/* H = R R', R upper triangular, in place of H's upper triangle; false: H is not positive. */
static bool factorise(double *h, int64_t k) {
    for (int64_t j = k - 1; j >= 0; j--) {
        const double *rj = h + j * k + j + 1;
        double d = h[j * k + j] - dot(rj, rj, k - j - 1);
        if (!(d > 0)) return false;
        d = h[j * k + j] = sqrt(d);
        for (int64_t i = 0; i < j; i++)
            h[i * k + j] = (h[i * k + j] - dot(h + i * k + j + 1, rj, k - j - 1)) / d;
    }
    return true;
}

/* U = R^-1, row after row from the last. */
static void invert(const double *h, double *u, int64_t k) {
    for (int64_t i = k - 1; i >= 0; i--) {
        double *row = u + i * k, d = h[i * k + i];
        memset(row, 0, (size_t)k * sizeof *row);
        row[i] = 1;
        for (int64_t m = i + 1; m < k; m++) {
            double f = h[i * k + m];
            const double *below = u + m * k;
            for (int64_t j = m; j < k; j++) row[j] -= f * below[j];
        }
        for (int64_t j = i; j < k; j++) row[j] /= d;
    }
}

static void round_rows(void *arg, int64_t begin, int64_t end, int thread) {
    const surgeon *g = arg;
    const espl__rounding *r = g->r;
    int64_t k = r->k, first = g->group * (r->outputs / r->groups);
    double *w = g->rows + thread * k * TOGETHER;
    for (int64_t o = first + begin; o < first + end; o++) {
        for (int64_t i = 0; i < k; i++) w[i] = r->w[o * k + g->order[i]];
        for (int64_t i = 0; i < k; i++) {
            int64_t at = o * k + g->order[i];
            bool pruned = r->pruned && r->pruned[at];
            int32_t code = pruned ? 0 : espl__format_encode(r->format, (float)(w[i] / r->step[at]));
            const double *u = g->u + i * k;
            double e = (w[i] - (double)espl__format_decode(r->format, code) * r->step[at]) / u[i];
            r->codes[at] = (int8_t)code;
            for (int64_t j = i + 1; j < k; j++) w[j] -= e * u[j];
        }
    }
}

static void round_nearest(const espl__rounding *r, int64_t group) {
    int64_t count = r->outputs / r->groups * r->k;
    for (int64_t i = group * count; i < (group + 1) * count; i++)
        r->codes[i] = (int8_t)espl__rounding_nearest(r, i);
}

static void round_group(surgeon *g, espl__pool *pool, double dampening, bool order) {
    const espl__rounding *r = g->r;
    memset(g->h, 0, (size_t)(r->k * r->k) * sizeof *g->h);
    choose_order(g, order);
    espl__parallel_for(pool, r->k, moments, g);
    dampen(g, dampening);
    if (!factorise(g->h, r->k)) { /* inputs that are no numbers */
        round_nearest(r, g->group);
        return;
    }
    invert(g->h, g->u, r->k);
    espl__parallel_for(pool, r->outputs / r->groups, round_rows, g);
}

espl_status espl__gptq(espl_context *ctx, const espl__rounding *r, double dampening, bool order,
                       espl_diag *diag) {
    enum {
        MOST_INPUTS = 8192
    }; /* H and U take 16 k^2 bytes: 1 GiB; layers that sum over more stay nearest */
    espl__pool *pool = espl__context_pool(ctx);
    uint64_t k = r->k > MOST_INPUTS ? 0 : (uint64_t)r->k;
    surgeon g = {.r = r};
    g.h = espl__alloc(ctx, k * k * sizeof *g.h);
    g.u = espl__alloc(ctx, k * k * sizeof *g.u);
    g.order = espl__alloc(ctx, k * sizeof *g.order);
    g.rows = espl__alloc(ctx, k * TOGETHER * (uint64_t)espl__pool_threads(pool) * sizeof *g.rows);
    bool good = g.h && g.u && g.order && g.rows;
    for (; good && g.group < r->groups; g.group++)
        if (k)
            round_group(&g, pool, dampening, order);
        else
            round_nearest(r, g.group);
    espl__free(ctx, g.h);
    espl__free(ctx, g.u);
    espl__free(ctx, g.order);
    espl__free(ctx, g.rows);
    return good ? ESPL_OK : espl__nomem(diag, k * k * sizeof *g.h);
}

static espl_status solve(espl_context *ctx, const espl__rounding *r, const void *user, espl_diag *diag) {
    const espl__repair *how = user;
    return espl__gptq(ctx, r, how->number, how->word, diag);
}

espl_status espl__repair_GPTQ(const espl__repair_task *t, const espl__repair *r, espl_diag *diag) {
    return espl__round_layers(t, false, solve, r, diag);
}
