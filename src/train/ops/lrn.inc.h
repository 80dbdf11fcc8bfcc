#include "train/ops/maths.inc.h"

/* s = bias + alpha / size (sum of squares of the channels around), y = x s^-beta, and
 * dx_j = dy_j s_j^-beta - 2 alpha beta / size x_j (sum of dy_i x_i s_i^(-beta - 1) over the i that j is
 * around) */
static REAL FN(square_sum)(const lrn *k, const REAL *x, int64_t channel) {
    REAL sum = 0;
    for (int64_t i = ESPL_MAX(channel - k->before, 0); i <= ESPL_MIN(channel + k->after, k->channels - 1);
         i++)
        sum += x[i * k->plane] * x[i * k->plane];
    return (REAL)k->bias + (REAL)(k->alpha / (double)k->size) * sum;
}

static void FN(lrn_images)(void *arg, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const espl__call *c = arg;
    const lrn *k = c->state;
    for (int64_t p = begin; p < end; p++) {
        int64_t base = p / k->plane * k->channels * k->plane + p % k->plane;
        const REAL *x = (const REAL *)c->in->data + base;
        REAL *y = (REAL *)c->out->data + base;
        for (int64_t i = 0; i < k->channels; i++)
            y[i * k->plane] = x[i * k->plane] * M(pow)(FN(square_sum)(k, x, i), -(REAL)k->beta);
    }
}

static void FN(lrn_back)(void *arg, int64_t begin, int64_t end, int thread) {
    const espl__call *c = arg;
    const lrn *k = c->state;
    REAL *near = (REAL *)c->scratch + thread * 2 * k->channels, *own = near + k->channels;
    for (int64_t p = begin; p < end; p++) {
        int64_t base = p / k->plane * k->channels * k->plane + p % k->plane;
        const REAL *x = (const REAL *)c->in->data + base, *dy = (const REAL *)c->dout->data + base;
        REAL *dx = (REAL *)c->din->data + base;
        for (int64_t i = 0; i < k->channels; i++) {
            REAL s = FN(square_sum)(k, x, i), power = M(pow)(s, -(REAL)k->beta);
            own[i] = dy[i * k->plane] * power;
            near[i] = own[i] * x[i * k->plane] / s;
        }
        for (int64_t j = 0; j < k->channels; j++) {
            REAL sum = 0;
            for (int64_t i = ESPL_MAX(j - k->after, 0); i <= ESPL_MIN(j + k->before, k->channels - 1); i++)
                sum += near[i];
            REAL d = own[j] - (REAL)(2 * k->alpha * k->beta / (double)k->size) * x[j * k->plane] * sum;
            dx[j * k->plane] = c->add & 1 ? dx[j * k->plane] + d : d;
        }
    }
}

/* y = x / norm of a line; dx = (dy - t sum of dy y) / norm with t = y (p = 2) or the sign of x (p = 1) */
static void FN(lp_lines)(const lrn *k, const espl__call *c, bool back) {
    for (int64_t line = 0; line < k->lines; line++) {
        int64_t base = line / k->plane * k->channels * k->plane + line % k->plane;
        const REAL *x = (const REAL *)c->in->data + base;
        REAL sum = 0, along = 0;
        for (int64_t i = 0; i < k->channels; i++) {
            REAL v = x[i * k->plane];
            sum += k->size == 2 ? v * v : M(fabs)(v);
        }
        REAL norm = k->size == 2 ? M(sqrt)(sum) : sum, factor = norm > 0 ? 1 / norm : 0;
        REAL *y = (REAL *)(back ? c->din->data : c->out->data) + base;
        if (!back) {
            for (int64_t i = 0; i < k->channels; i++) y[i * k->plane] = x[i * k->plane] * factor;
            continue;
        }
        const REAL *dy = (const REAL *)c->dout->data + base;
        for (int64_t i = 0; i < k->channels; i++) along += dy[i * k->plane] * x[i * k->plane] * factor;
        for (int64_t i = 0; i < k->channels; i++) {
            REAL v = x[i * k->plane], t = k->size == 2 ? v * factor : v > 0 ? 1 : v < 0 ? -1 : 0;
            REAL d = (dy[i * k->plane] - t * along) * factor;
            y[i * k->plane] = c->add & 1 ? y[i * k->plane] + d : d;
        }
    }
}

/* Sums over what is reduced: of x, of squared distances from the mean, of dy, of dy (x - mean). */
static void FN(kept_sums)(const espl__call *c, int what, const REAL *mean, REAL *sums) {
    const lrn *k = c->state;
    const espl_shape *kept = &k->kept;
    const REAL *x = c->in->data, *dy = what >= 2 ? c->dout->data : NULL;
    memset(sums, 0, (size_t)k->lines * sizeof(REAL));
    espl__rows r;
    for (espl__rows_begin(&r, &c->in->shape, &kept, 1); !r.done; espl__rows_next(&r))
        for (int64_t i = 0; i < r.n; i++) {
            int64_t to = r.offset[0] + i * r.step[0], at = r.out + i;
            REAL off = x[at] - (mean ? mean[to] : 0);
            sums[to] += what == 0 ? x[at] : what == 1 ? off * off : what == 2 ? dy[at] : dy[at] * off;
        }
}

/* y = (x - mean) / (deviation + 1e-9); scratch: mean, deviation, and backwards the means of dy and dy (x -
 * mean) */
static void FN(mvn)(espl__call *c, bool back) {
    const lrn *k = c->state;
    REAL *mean = c->scratch, *deviation = mean + k->lines, *a = deviation + k->lines, *b = a + k->lines;
    REAL each = (REAL)(espl_shape_count(&c->in->shape) / k->lines), tiny = (REAL)1e-9f;
    FN(kept_sums)(c, 0, NULL, mean);
    for (int64_t i = 0; i < k->lines; i++) mean[i] /= each;
    FN(kept_sums)(c, 1, mean, deviation);
    for (int64_t i = 0; i < k->lines; i++) deviation[i] = M(sqrt)(deviation[i] / each);
    if (back) {
        FN(kept_sums)(c, 2, mean, a);
        FN(kept_sums)(c, 3, mean, b);
    }
    const espl_shape *kept = &k->kept;
    const REAL *x = c->in->data, *dy = back ? c->dout->data : NULL;
    REAL *y = back ? c->din->data : c->out->data;
    espl__rows r;
    for (espl__rows_begin(&r, &c->in->shape, &kept, 1); !r.done; espl__rows_next(&r))
        for (int64_t i = 0; i < r.n; i++) {
            int64_t to = r.offset[0] + i * r.step[0], at = r.out + i;
            REAL off = x[at] - mean[to], s = deviation[to] + tiny, v = off / s;
            if (back)
                v = (dy[at] - a[to] / each) / s -
                    (deviation[to] > 0 ? off * b[to] / (each * deviation[to] * s * s) : 0);
            y[at] = back && (c->add & 1) ? y[at] + v : v;
        }
}
