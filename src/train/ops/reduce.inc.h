#include "train/ops/maths.inc.h"

/* What an element adds to its sum. */
static REAL FN(term)(int how, REAL x, REAL top) {
    return how == L1                        ? M(fabs)(x)
           : how == L2 || how == SUM_SQUARE ? x * x
           : how == LOG_SUM_EXP             ? M(exp)(x - top)
                                            : x;
}

static void FN(take)(int how, REAL *acc, int64_t step, const REAL *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        REAL *to = acc + i * step;
        if (how == PROD)
            *to *= x[i];
        else if (how == MIN)
            *to = x[i] < *to || x[i] != x[i] ? x[i] : *to;
        else
            *to = x[i] > *to || x[i] != x[i] ? x[i] : *to;
    }
}

/* One walk: extremes and products (and the maximum that LOG_SUM_EXP subtracts) or sums. */
static void FN(walk)(const reduce *k, int how, const espl_shape *shape, const espl_shape *kept, const REAL *x,
                     REAL *y, const REAL *top) {
    REAL t[CHUNK];
    espl__rows r;
    for (espl__rows_begin(&r, shape, &kept, 1); !r.done; espl__rows_next(&r))
        for (int64_t i = 0; i < r.n; i += CHUNK) {
            int64_t n = ESPL_MIN(CHUNK, r.n - i), to = r.offset[0] + i * r.step[0];
            const REAL *from = x + r.out + i;
            if (how == MAX || how == MIN || how == PROD) {
                FN(take)(how, y + to, r.step[0], from, n);
                continue;
            }
            if (how == SUM || how == MEAN || how == LOG_SUM) {
                FN(gather_up)(y + to, r.step[0], from, n);
                continue;
            }
            for (int64_t j = 0; j < n; j++)
                t[j] = FN(term)(k->how, from[j], top ? top[to + j * r.step[0]] : 0);
            FN(gather_up)(y + to, r.step[0], t, n);
        }
}

static void FN(reduce_part)(void *arg, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const espl__call *c = arg;
    const reduce *k = c->state;
    espl_tensor kept = {c->real, k->kept, c->out->data};
    espl_tensor x = espl__lead(c->in, &c->in->shape, begin, end),
                y = espl__lead(&kept, &c->in->shape, begin, end);
    espl_tensor top = {c->real, k->kept, c->scratch};
    top = espl__lead(&top, &c->in->shape, begin, end);
    int64_t results = espl_shape_count(&y.shape);
    REAL *sum = y.data, *most = k->how == LOG_SUM_EXP ? top.data : NULL;
    REAL start = k->how == PROD ? 1 : k->how == MAX ? -(REAL)INFINITY : k->how == MIN ? (REAL)INFINITY : 0;
    for (int64_t i = 0; i < results; i++) sum[i] = start;
    if (most) {
        for (int64_t i = 0; i < results; i++) most[i] = -(REAL)INFINITY;
        FN(walk)(k, MAX, &x.shape, &y.shape, x.data, most, NULL);
    }
    FN(walk)(k, k->how, &x.shape, &y.shape, x.data, sum, most);
    for (int64_t i = 0; i < results; i++) {
        if (k->how == MEAN) sum[i] /= (REAL)k->each;
        if (k->how == L2) sum[i] = M(sqrt)(sum[i]);
        if (k->how == LOG_SUM) sum[i] = M(log)(sum[i]);
        if (most) sum[i] = most[i] + M(log)(sum[i]);
    }
}

/* How many elements share an extreme; of a product, how many are 0, and the product of the others. */
static void FN(count)(const reduce *k, const espl_shape *shape, const espl_shape *kept, const REAL *x,
                      const REAL *y, REAL *counts, REAL *others) {
    int64_t results = espl_shape_count(kept);
    for (int64_t i = 0; i < results; i++) counts[i] = 0, others[i] = 1;
    espl__rows r;
    for (espl__rows_begin(&r, shape, &kept, 1); !r.done; espl__rows_next(&r))
        for (int64_t i = 0; i < r.n; i++) {
            int64_t to = r.offset[0] + i * r.step[0];
            REAL v = x[r.out + i];
            if (k->how == PROD && v != 0) others[to] *= v;
            counts[to] += k->how == PROD ? v == 0 : v == y[to];
        }
}

static REAL FN(slope)(const reduce *k, REAL x, REAL y, REAL count, REAL other) {
    switch (k->how) {
        case MEAN:
            return 1 / (REAL)k->each;
        case MAX:
        case MIN:
            return x == y ? 1 / count : 0;
        case PROD:
            return count == 0 ? y / x : count == 1 && x == 0 ? other : 0;
        case L1:
            return x > 0 ? 1 : x < 0 ? -1 : x;
        case L2:
            return y == 0 ? 0 : x / y;
        case SUM_SQUARE:
            return 2 * x;
        case LOG_SUM:
            return M(exp)(-y);
        case LOG_SUM_EXP:
            return M(exp)(x - y);
        default:
            return 1;
    }
}

static void FN(reduce_back)(void *arg, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const espl__call *c = arg;
    const reduce *k = c->state;
    int64_t results = espl_shape_count(&k->kept);
    const espl_shape *whole = &c->in->shape;
    espl_tensor kept[4] = {{c->real, k->kept, c->out->data},
                           {c->real, k->kept, c->dout->data},
                           {c->real, k->kept, c->scratch},
                           {c->real, k->kept, c->scratch ? (REAL *)c->scratch + results : NULL}};
    bool linear = k->how == SUM || k->how == MEAN, counted = c->scratch != NULL;
    for (int i = 0; i < 4; i++)
        if (kept[i].data) kept[i] = espl__lead(&kept[i], whole, begin, end);
    espl_tensor dx = espl__lead(c->din, whole, begin, end), in = *c->in;
    if (!linear) in = espl__lead(c->in, whole, begin, end);
    const REAL *x = in.data, *y = kept[0].data, *dy = kept[1].data, *counts = kept[2].data,
               *others = kept[3].data;
    const espl_shape *shape = &kept[1].shape;
    if (counted) FN(count)(k, &in.shape, shape, x, y, kept[2].data, kept[3].data);
    espl__rows r;
    for (espl__rows_begin(&r, &dx.shape, &shape, 1); !r.done; espl__rows_next(&r)) {
        REAL *to = (REAL *)dx.data + r.out;
        for (int64_t i = 0; i < r.n; i++) {
            int64_t at = r.offset[0] + i * r.step[0];
            REAL g = dy[at] * FN(slope)(k, linear ? 0 : x[r.out + i], linear ? 0 : y[at],
                                        counted ? counts[at] : 0, counted ? others[at] : 0);
            to[i] = c->add & 1 ? to[i] + g : g;
        }
    }
}
