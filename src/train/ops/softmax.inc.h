#include "train/ops/maths.inc.h"

static void FN(softmax_row)(const lines *k, const REAL *x, REAL *y) {
    REAL top = x[0];
    for (int64_t i = 1; i < k->n; i++) top = x[i] > top ? x[i] : top;
    for (int64_t i = 0; i < k->n; i++) y[i] = x[i] - top;
    if (k->log) {
        REAL sum = 0, e[64];
        for (int64_t i = 0; i < k->n; i += 64) {
            int64_t m = ESPL_MIN(64, k->n - i);
            memcpy(e, y + i, (size_t)m * sizeof *e);
            FN(exp_of)(e, e, m);
            sum += FN(dot)(e, NULL, m);
        }
        REAL shift = M(log)(sum);
        for (int64_t i = 0; i < k->n; i++) y[i] -= shift;
        return;
    }
    FN(exp_of)(y, y, k->n);
    REAL factor = 1 / FN(dot)(y, NULL, k->n);
    for (int64_t i = 0; i < k->n; i++) y[i] *= factor;
}

/* dx = y (dy - sum y dy), with logarithms dx = dy - e^y sum dy */
static void FN(back_row)(const lines *k, const REAL *y, const REAL *dy, REAL *dx, REAL *e, bool add) {
    if (k->log) {
        REAL sum = FN(dot)(dy, NULL, k->n);
        memcpy(e, y, (size_t)k->n * sizeof *e);
        FN(exp_of)(e, e, k->n);
        for (int64_t i = 0; i < k->n; i++) e[i] = dy[i] - e[i] * sum;
    } else {
        REAL sum = FN(dot)(y, dy, k->n);
        for (int64_t i = 0; i < k->n; i++) e[i] = y[i] * (dy[i] - sum);
    }
    if (add)
        for (int64_t i = 0; i < k->n; i++) dx[i] += e[i];
    else
        memcpy(dx, e, (size_t)k->n * sizeof *e);
}

static void FN(load_line)(const lines *k, const REAL *from, REAL *to) {
    for (int64_t i = 0; i < k->n; i++) to[i] = from[i * k->inner];
}

static void FN(softmax_lines)(void *arg, int64_t begin, int64_t end, int thread) {
    const espl__call *c = arg;
    const lines *k = c->state;
    REAL *own = (REAL *)c->scratch + thread * 3 * k->n;
    for (int64_t line = begin; line < end; line++) {
        int64_t at = line / k->inner * k->n * k->inner + line % k->inner;
        const REAL *x = (const REAL *)c->in->data + at;
        REAL *y = (REAL *)c->out->data + at;
        if (k->inner == 1) {
            FN(softmax_row)(k, x, y);
            continue;
        }
        FN(load_line)(k, x, own);
        FN(softmax_row)(k, own, own + k->n);
        for (int64_t i = 0; i < k->n; i++) y[i * k->inner] = own[k->n + i];
    }
}

static void FN(softmax_back)(void *arg, int64_t begin, int64_t end, int thread) {
    const espl__call *c = arg;
    const lines *k = c->state;
    REAL *own = (REAL *)c->scratch + thread * 3 * k->n;
    bool add = c->add & 1;
    for (int64_t line = begin; line < end; line++) {
        int64_t at = line / k->inner * k->n * k->inner + line % k->inner;
        const REAL *y = (const REAL *)c->out->data + at, *dy = (const REAL *)c->dout->data + at;
        REAL *dx = (REAL *)c->din->data + at;
        if (k->inner == 1) {
            FN(back_row)(k, y, dy, dx, own, add);
            continue;
        }
        FN(load_line)(k, y, own);
        FN(load_line)(k, dy, own + k->n);
        FN(back_row)(k, own, own + k->n, own, own + 2 * k->n, false);
        for (int64_t i = 0; i < k->n; i++) dx[i * k->inner] = own[i] + (add ? dx[i * k->inner] : 0);
    }
}
