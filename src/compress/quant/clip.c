/* From a histogram to a range. Every bin's elements count as spread evenly over it, zeros as what they are.
 */
#include "compress/quant/observer.h"

#include <math.h>

enum { CANDIDATES = 128, COARSE = 16, ROUNDS = 4, MASK = ESPL__BINS - 1 };

/* A range's histogram from its first bin to its last, in order. */
typedef struct bins {
    int32_t first, count; /* of the bins; bin i is [first + i, first + i + 1) * width */
    double width, zeros;
    double n[ESPL__BINS];
} bins;

static void open_bins(const range *r, bins *b) {
    const espl__histogram *h = r->histogram;
    b->first = espl__bin_of(h, r->min);
    b->count = espl__bin_of(h, r->max) - b->first + 1;
    b->width = ldexp(1, h->exponent);
    b->zeros = (double)espl__histogram_zeros(h);
    for (int32_t i = 0; i < b->count; i++) b->n[i] = (double)h->bins[(b->first + i) & MASK];
}

static void set_range(range *r, double min, double max) {
    r->min = (float)fmax(fmin(min, 0), r->min);
    r->max = (float)fmin(fmax(max, 0), r->max);
}

/* --- percentile -------------------------------------------------------------------------------------- */

/* The element of this whole rank, from 0: those of a bin stand evenly in it. */
static double element(const bins *b, double rank) {
    double before = 0;
    for (int32_t i = 0; i < b->count; i++) {
        if (b->first + i == 0) { /* zeros come before what else is in their bin */
            if (rank < before + b->zeros) return 0;
            before += b->zeros;
        }
        if (rank < before + b->n[i]) return b->width * (b->first + i + (rank - before + 0.5) / b->n[i]);
        before += b->n[i];
    }
    return b->width * (b->first + b->count);
}

/* Between two elements the quantile is interpolated. */
static double quantile(const bins *b, double rank) {
    double below = floor(rank), low = element(b, below);
    return rank > below ? low + (rank - below) * (element(b, below + 1) - low) : low;
}

void espl__clip_percentile(range *r) {
    bins b;
    double share = r->observer.parameter / 100, last = (double)r->histogram->count - 1;
    if (share >= 1) return;
    open_bins(r, &b);
    set_range(r, quantile(&b, (1 - share) * last), quantile(&b, share * last));
}

/* --- mean squared error -------------------------------------------------------------------------------- */

/* Codes lo to hi of this step, with the zero point at code 0. */
typedef struct steps {
    double step, lo, hi;
} steps;

static double round_even(double x) {
    return (x + 0x1.8p52) - 0x1.8p52;
}

/* The grid that a range gives: symmetric S = max|r| / hi, else S = (max - min) / (hi - lo) with the zero
 * point rounded. */
static steps grid_of(const espl__grid *g, double min, double max) {
    if (g->symmetric) return (steps){fmax(-min, max) / g->hi, g->lo, g->hi};
    double step = (max - min) / ((double)g->hi - g->lo), below = round_even(-min / step);
    return (steps){step, -below, (double)g->hi - g->lo - below};
}

/* Sum over the bins of n * the mean of (x - Q(x))^2 over the bin. With m = clamp(round(t / S)) the integral
 * of the squared error from 0 to t is m S^3 / 12 + (t - m S)^3 / 3, for what is rounded and for what is
 * clipped. */
static double squared_error(const bins *b, const steps *g) {
    double at[ESPL__BINS + 1], sum[4] = {0}, period = g->step * g->step * g->step / 12, inverse = 1 / g->step;
    for (int32_t i = 0; i <= b->count; i++) {
        double t = b->width * (b->first + i), m = round_even(t * inverse);
        m = m < g->lo ? g->lo : m;
        m = m > g->hi ? g->hi : m;
        double rest = t - m * g->step;
        at[i] = m * period + rest * rest * rest / 3;
    }
    int32_t i = 0;
    for (; i + 4 <= b->count; i += 4)
        for (int l = 0; l < 4; l++) sum[l] += b->n[i + l] * (at[i + l + 1] - at[i + l]);
    for (; i < b->count; i++) sum[0] += b->n[i] * (at[i + 1] - at[i]);
    return (sum[0] + sum[1] + sum[2] + sum[3]) / b->width;
}

/* The multiple i / 128 of `*end` with the least error, the other end as it is. */
static bool search_end(const bins *b, const espl__grid *g, double full, double *end, const double *min,
                       const double *max, double *best) {
    double keep = *end;
    bool better = false;
    for (int i = CANDIDATES; i > 0; i--) {
        *end = full * i / CANDIDATES;
        steps s = grid_of(g, *min, *max);
        double error = squared_error(b, &s);
        if (!(error < *best)) continue;
        *best = error;
        keep = *end;
        better = true;
    }
    *end = keep;
    return better;
}

/* The best of the 16 x 16 ranges whose ends are multiples of a sixteenth of what was seen. */
static void search_both(const bins *b, const espl__grid *g, double *min, double *max, double *best) {
    double lo = *min, hi = *max;
    for (int i = COARSE; i > 0; i--)
        for (int k = COARSE; k > 0; k--) {
            steps s = grid_of(g, lo * i / COARSE, hi * k / COARSE);
            double error = squared_error(b, &s);
            if (!(error < *best)) continue;
            *best = error;
            *min = lo * i / COARSE;
            *max = hi * k / COARSE;
        }
}

/* Symmetric grids have one end to find. Of affine ones both are searched coarsely, then each in turn until
 * neither gets better. */
void espl__clip_mse(range *r, const espl__grid *grid) {
    bins b;
    double min = r->min, max = r->max, end = fmax(-min, max), best = INFINITY;
    if (!(end >= 1e-30f)) return;
    open_bins(r, &b);
    if (grid->symmetric) {
        double zero = 0, full = end;
        (void)search_end(&b, grid, full, &end, &zero, &end, &best);
        set_range(r, -end, end);
        return;
    }
    if (min < 0 && max > 0) search_both(&b, grid, &min, &max, &best);
    for (int round = 0; round < ROUNDS; round++) {
        bool better = max > 0 && search_end(&b, grid, r->max, &max, &min, &max, &best);
        if (min < 0) better |= search_end(&b, grid, r->min, &min, &min, &max, &best);
        if (!better) break;
    }
    set_range(r, min, max);
}

/* --- Kullback-Leibler divergence --------------------------------------------------------------------- */

/* Bins first to last - 1 of `b`, those outside counted into the outer two (P), against the same without those
 * outside, each cell of the grid spread evenly over its bins that are not empty in P (Q). */
static double divergence(const bins *b, int32_t first, int32_t last, const steps *g) {
    double outside[2] = {0}, inside = 0, sum = 0, total;
    for (int32_t i = 0; i < b->count; i++)
        *(i < first ? &outside[0] : i >= last ? &outside[1] : &inside) += b->n[i];
    total = inside + outside[0] + outside[1];
    if (inside <= 0) return INFINITY;
    for (int32_t i = first; i < last;) {
        double cell = round_even(b->width * (b->first + i + 0.5) / g->step), p = 0, q = 0, filled = 0;
        for (; i < last && (cell == round_even(b->width * (b->first + i + 0.5) / g->step)); i++) {
            double n = b->n[i] + (i == first ? outside[0] : 0) + (i == last - 1 ? outside[1] : 0);
            q += b->n[i];
            p += n;
            if (n <= 0) continue;
            filled++;
            sum += n * log(n);
        }
        if (p > 0 && q <= 0) return INFINITY;
        if (p > 0) sum -= p * log(q / filled);
    }
    return sum / total - log(total) + log(inside);
}

/* The clips are whole numbers of bins, from as many as the grid has codes on one side. */
void espl__clip_kl(range *r, const espl__grid *grid) {
    bins b;
    double best = INFINITY, min = r->min, max = r->max;
    open_bins(r, &b);
    int32_t most = ESPL_MAX(-b.first, b.first + b.count),
            least = grid->symmetric ? grid->hi : grid->hi - grid->lo;
    int32_t by = (most - least) / CANDIDATES + 1, keep = most;
    if (!(fmax(-min, max) >= 1e-30) || b.zeros >= (double)r->histogram->count) return;
    for (int32_t clip = most; clip >= least; clip -= by) {
        double end = b.width * clip, lo = fmax(min, -end), hi = fmin(max, end);
        steps g = grid_of(grid, lo, hi);
        int32_t first = ESPL_MAX(-clip - b.first, 0), last = ESPL_MIN(clip - b.first, b.count);
        double d = divergence(&b, first, last, &g);
        if (!(d < best)) continue;
        best = d;
        keep = clip;
    }
    set_range(r, -b.width * keep, b.width * keep);
}
