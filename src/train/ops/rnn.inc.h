#include "train/ops/maths.inc.h"

/* One direction. Steps are counted in the order they are computed; step i is at time t (time_of). */
typedef struct FN(run) {
    espl__call *call;
    const cell *k;
    int d, phase;
    int64_t i;
    const REAL *w, *r, *bias, *recurrent_bias, *zeros, *h0, *c0; /* bias: of input and recurrence together */
    REAL *gates, *cells, *extra, *hidden, *y;                    /* [time][batch][...] */
    REAL *dgates, *dextra, *dh, *dc, *dp;
    const REAL *dy;
} FN(run);

static REAL *FN(input)(const espl__call *c, int i) {
    return i < c->inputs ? c->in[i].data : NULL;
}

static void FN(open_run)(espl__call *c, int d, bool back, FN(run) * s) {
    const cell *k = c->state;
    int64_t state = k->batch * k->hidden, all = k->steps * state, gh = k->gates * k->hidden;
    *s = (FN(run)){.call = c, .k = k, .d = d};
    s->w = FN(input)(c, W) + d * gh * k->size;
    s->r = FN(input)(c, R) + d * gh * k->hidden;
    REAL *saved = (REAL *)c->saved + d * k->saved, *scratch = c->scratch;
    s->gates = saved;
    s->extra = s->cells = saved + all * k->gates;
    s->hidden = k->own_hidden ? saved + all * (k->gates + (k->kind != RNN)) : (REAL *)c->out[0].data;
    s->y = c->out[0].data;
    s->zeros = scratch;
    memset(scratch, 0, (size_t)state * sizeof(REAL));
    scratch += state;
    const REAL *h0 = FN(input)(c, INITIAL_H), *c0 = FN(input)(c, INITIAL_C);
    s->h0 = h0 ? h0 + d * state : s->zeros;
    s->c0 = c0 ? c0 + d * state : s->zeros;
    if (!back) {
        const REAL *b = FN(input)(c, B);
        s->bias = scratch;
        s->recurrent_bias = b ? b + (2 * d + 1) * gh : NULL;
        for (int64_t j = 0; j < gh; j++) {
            bool apart =
                k->kind == GRU && k->linear && j >= 2 * k->hidden; /* inside the product with the reset */
            scratch[j] = b ? b[2 * d * gh + j] + (apart ? 0 : b[(2 * d + 1) * gh + j]) : 0;
        }
        return;
    }
    s->dgates = scratch;
    s->dextra = scratch + all * k->gates;
    s->dh = s->dextra + (k->kind == GRU ? all : 0);
    s->dc = s->dp = s->dh + state;
    s->dy = c->dout[0].data;
}

static int64_t FN(time_of)(const FN(run) * s, int64_t i) {
    return s->k->reverse || s->d == 1 ? s->k->steps - 1 - i : i;
}
/* Row of sample n, time of step i. */
static REAL *FN(row)(const FN(run) * s, REAL *base, int64_t width, int64_t i, int64_t n) {
    return base + (FN(time_of)(s, i) * s->k->batch + n) * width;
}
static const REAL *FN(before)(const FN(run) * s, REAL *base, const REAL *start, int64_t n) {
    return s->i ? FN(row)(s, base, s->k->hidden, s->i - 1, n) : start + n * s->k->hidden;
}

/* y[n][u0..u1) += h R' of gate g */
static void FN(recur)(const FN(run) * s, int g, int64_t u0, int64_t u1, const REAL *h, REAL *y, int64_t ldy) {
    const cell *k = s->k;
    if (h == s->zeros) return;
    espl__dense_get()->FN(gemm)(false, true, k->batch, u1 - u0, k->hidden, h, k->hidden,
                                s->r + (g * k->hidden + u0) * k->hidden, k->hidden, 1, y, ldy);
}

static void FN(finish)(const FN(run) * s, int64_t n, int64_t u0, int64_t u1) {
    const cell *k = s->k;
    const REAL *h = FN(row)(s, s->hidden, k->hidden, s->i, n);
    size_t bytes = (size_t)(u1 - u0) * sizeof(REAL);
    int64_t t = FN(time_of)(s, s->i), at = s->d * k->batch + n;
    if (s->y && k->own_hidden)
        memcpy(s->y + ((t * k->directions * k->batch) + at) * k->hidden + u0, h + u0, bytes);
    if (s->i != k->steps - 1) return;
    REAL *last = s->call->outputs > 1 ? s->call->out[1].data : NULL;
    REAL *cells = s->call->outputs > 2 ? s->call->out[2].data : NULL;
    if (last) memcpy(last + at * k->hidden + u0, h + u0, bytes);
    if (cells) memcpy(cells + at * k->hidden + u0, FN(row)(s, s->cells, k->hidden, s->i, n) + u0, bytes);
}

static void FN(activate)(const FN(run) * s, REAL *gate, int g, int64_t u0, int64_t u1, bool tanh_gate) {
    REAL *x = gate + g * s->k->hidden + u0;
    const REAL *b = s->bias + g * s->k->hidden + u0;
    for (int64_t u = 0; u < u1 - u0; u++) x[u] += b[u];
    (tanh_gate ? FN(tanh_of) : FN(sigmoid_of))(x, x, u1 - u0);
}

static void FN(lstm_step)(const FN(run) * s, int64_t u0, int64_t u1) {
    const cell *k = s->k;
    int64_t m = k->hidden;
    for (int g = 0; g < 4; g++)
        FN(recur)
        (s, g, u0, u1, FN(before)(s, s->hidden, s->h0, 0), FN(row)(s, s->gates, 4 * m, s->i, 0) + g * m + u0,
         4 * m);
    for (int64_t n = 0; n < k->batch; n++) {
        REAL *gate = FN(row)(s, s->gates, 4 * m, s->i, n), *h = FN(row)(s, s->hidden, m, s->i, n);
        REAL *now = FN(row)(s, s->cells, m, s->i, n);
        const REAL *c = FN(before)(s, s->cells, s->c0, n);
        for (int g = 0; g < 4; g++) FN(activate)(s, gate, g, u0, u1, g == 3);
        const REAL *i = gate, *o = gate + m, *f = gate + 2 * m, *g = gate + 3 * m;
        for (int64_t u = u0; u < u1; u++) now[u] = f[u] * c[u] + i[u] * g[u];
        FN(tanh_of)(now + u0, h + u0, u1 - u0);
        for (int64_t u = u0; u < u1; u++) h[u] *= o[u];
        FN(finish)(s, n, u0, u1);
    }
}

/* Linear before the reset: extra = H Rh' + Rbh. Else extra = r . H, of all units, before the second phase. */
static void FN(gru_step)(const FN(run) * s, int64_t u0, int64_t u1) {
    const cell *k = s->k;
    int64_t m = k->hidden;
    const REAL *before = FN(before)(s, s->hidden, s->h0, 0);
    REAL *gates = FN(row)(s, s->gates, 3 * m, s->i, 0), *extras = FN(row)(s, s->extra, m, s->i, 0);
    for (int g = 0; g < 2 && s->phase == 0; g++) FN(recur)(s, g, u0, u1, before, gates + g * m + u0, 3 * m);
    for (int64_t n = 0; n < k->batch && k->linear; n++)
        for (int64_t u = u0; u < u1; u++)
            extras[n * m + u] = s->recurrent_bias ? s->recurrent_bias[2 * m + u] : 0;
    if (k->linear) FN(recur)(s, 2, u0, u1, before, extras + u0, m);
    if (s->phase == 1) FN(recur)(s, 2, u0, u1, extras, gates + 2 * m + u0, 3 * m);
    for (int64_t n = 0; n < k->batch; n++) {
        REAL *gate = gates + n * 3 * m, *extra = extras + n * m, *h = FN(row)(s, s->hidden, m, s->i, n);
        const REAL *old = before + n * m, *z = gate, *r = gate + m, *g = gate + 2 * m;
        for (int j = 0; j < 2 && s->phase == 0; j++) FN(activate)(s, gate, j, u0, u1, false);
        if (!k->linear && s->phase == 0) {
            for (int64_t u = u0; u < u1; u++) extra[u] = r[u] * old[u];
            continue;
        }
        for (int64_t u = u0; u < u1 && k->linear; u++) gate[2 * m + u] += r[u] * extra[u];
        FN(activate)(s, gate, 2, u0, u1, true);
        for (int64_t u = u0; u < u1; u++) h[u] = (1 - z[u]) * g[u] + z[u] * old[u];
        FN(finish)(s, n, u0, u1);
    }
}

static void FN(rnn_step)(const FN(run) * s, int64_t u0, int64_t u1) {
    const cell *k = s->k;
    int64_t m = k->hidden;
    FN(recur)(s, 0, u0, u1, FN(before)(s, s->hidden, s->h0, 0), FN(row)(s, s->gates, m, s->i, 0) + u0, m);
    for (int64_t n = 0; n < k->batch; n++) {
        REAL *gate = FN(row)(s, s->gates, m, s->i, n), *h = FN(row)(s, s->hidden, m, s->i, n);
        if (!k->relu) FN(activate)(s, gate, 0, u0, u1, true);
        for (int64_t u = u0; u < u1 && k->relu; u++) {
            REAL x = gate[u] + s->bias[u];
            gate[u] = x < 0 ? 0 : x;
        }
        memcpy(h + u0, gate + u0, (size_t)(u1 - u0) * sizeof(REAL));
        FN(finish)(s, n, u0, u1);
    }
}

static void FN(step_parts)(void *arg, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const FN(run) *s = arg;
    int64_t u0 = begin * s->k->hidden / s->k->parts, u1 = end * s->k->hidden / s->k->parts;
    (s->k->kind == LSTM ? FN(lstm_step) : s->k->kind == GRU ? FN(gru_step) : FN(rnn_step))(s, u0, u1);
}

static void FN(rnn_forward)(espl__call *c) {
    const cell *k = c->state;
    int64_t gh = k->gates * k->hidden;
    for (int d = 0; d < k->directions; d++) {
        FN(run) s;
        FN(open_run)(c, d, false, &s);
        FN(espl__gemm)
        (c->pool, false, true, k->steps * k->batch, gh, k->size, c->in[X].data, k->size, s.w, k->size, 0,
         s.gates, gh);
        for (s.i = 0; s.i < k->steps; s.i++)
            for (s.phase = 0; s.phase < k->phases; s.phase++)
                espl__parallel_for(k->parts > 1 ? c->pool : NULL, k->parts, FN(step_parts), &s);
    }
}

/* --- backward --------------------------------------------------------------------------------------- */

/* dh[n][u0..u1) += dgates R of gates [first, last), of the step computed after this one */
static void FN(recur_back)(const FN(run) * s, const REAL *from, int64_t width, int first, int last,
                           int64_t u0, int64_t u1, REAL beta) {
    const cell *k = s->k;
    espl__dense_get()->FN(gemm)(false, false, k->batch, u1 - u0, (last - first) * k->hidden, from, width,
                                s->r + first * k->hidden * k->hidden + u0, k->hidden, beta, s->dh + u0,
                                k->hidden);
}

/* What comes from the step after: into dh, where the GRU has left z . dh. */
static void FN(from_after)(const FN(run) * s, int64_t u0, int64_t u1) {
    const cell *k = s->k;
    int64_t m = k->hidden;
    const REAL *after = FN(row)(s, s->dgates, k->gates * m, s->i + 1, 0);
    if (k->kind != GRU) {
        FN(recur_back)(s, after, k->gates * m, 0, (int)k->gates, u0, u1, 0);
        return;
    }
    FN(recur_back)(s, after, 3 * m, 0, 2, u0, u1, 1);
    if (k->linear) FN(recur_back)(s, FN(row)(s, s->dextra, m, s->i + 1, 0), m, 2, 3, u0, u1, 1);
}

static void FN(lstm_back)(const FN(run) * s, int64_t n, int64_t u0, int64_t u1) {
    int64_t m = s->k->hidden;
    const REAL *i = FN(row)(s, s->gates, 4 * m, s->i, n), *o = i + m, *f = o + m, *g = f + m;
    const REAL *now = FN(row)(s, s->cells, m, s->i, n), *old = FN(before)(s, s->cells, s->c0, n);
    REAL *di = FN(row)(s, s->dgates, 4 * m, s->i, n), *d_o = di + m, *df = d_o + m, *dg = df + m;
    REAL *dh = s->dh + n * m, *dc = s->dc + n * m;
    FN(tanh_of)(now + u0, dg + u0, u1 - u0); /* of the cell, for now */
    for (int64_t u = u0; u < u1; u++) {
        REAL t = dg[u], d = dc[u] + dh[u] * o[u] * (1 - t * t);
        d_o[u] = dh[u] * t * o[u] * (1 - o[u]);
        di[u] = d * g[u] * i[u] * (1 - i[u]);
        df[u] = d * old[u] * f[u] * (1 - f[u]);
        dg[u] = d * i[u] * (1 - g[u] * g[u]);
        dc[u] = d * f[u];
    }
}

static void FN(gru_back)(const FN(run) * s, int64_t n, int64_t u0, int64_t u1) {
    const cell *k = s->k;
    int64_t m = k->hidden;
    const REAL *z = FN(row)(s, s->gates, 3 * m, s->i, n), *r = z + m, *g = r + m;
    const REAL *extra = FN(row)(s, s->extra, m, s->i, n), *old = FN(before)(s, s->hidden, s->h0, n);
    REAL *dz = FN(row)(s, s->dgates, 3 * m, s->i, n), *dr = dz + m, *dg = dr + m;
    REAL *dextra = FN(row)(s, s->dextra, m, s->i, n), *dh = s->dh + n * m, *dp = s->dp + n * m;
    for (int64_t u = u0; u < u1 && s->phase == 0; u++) {
        dz[u] = dh[u] * (old[u] - g[u]) * z[u] * (1 - z[u]);
        dg[u] = dh[u] * (1 - z[u]) * (1 - g[u] * g[u]);
        dh[u] *= z[u];
    }
    for (int64_t u = u0; u < u1 && k->linear; u++) {
        dr[u] = dg[u] * extra[u] * r[u] * (1 - r[u]);
        dextra[u] = dg[u] * r[u];
    }
    for (int64_t u = u0; u < u1 && s->phase == 1; u++) {
        dr[u] = dp[u] * old[u] * r[u] * (1 - r[u]);
        dh[u] += dp[u] * r[u];
    }
}

static void FN(rnn_back)(const FN(run) * s, int64_t n, int64_t u0, int64_t u1) {
    const REAL *h = FN(row)(s, s->gates, s->k->hidden, s->i, n), *dh = s->dh + n * s->k->hidden;
    REAL *d = FN(row)(s, s->dgates, s->k->hidden, s->i, n);
    for (int64_t u = u0; u < u1; u++) d[u] = dh[u] * (!s->k->relu ? 1 - h[u] * h[u] : h[u] <= 0 ? 0 : 1);
}

static void FN(back_parts)(void *arg, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const FN(run) *s = arg;
    const cell *k = s->k;
    int64_t m = k->hidden, u0 = begin * m / k->parts, u1 = end * m / k->parts;
    const REAL *dy = s->dy ? s->dy + (FN(time_of)(s, s->i) * k->directions + s->d) * k->batch * m : NULL;
    if (s->phase == 0 && s->i + 1 < k->steps) FN(from_after)(s, u0, u1);
    if (s->phase == 1) /* GRU: d(r . H) */
        espl__dense_get()->FN(gemm)(false, false, k->batch, u1 - u0, m,
                                    FN(row)(s, s->dgates, 3 * m, s->i, 0) + 2 * m, 3 * m,
                                    s->r + 2 * m * m + u0, m, 0, s->dp + u0, m);
    for (int64_t n = 0; n < k->batch; n++) {
        REAL *dh = s->dh + n * m;
        for (int64_t u = u0; u < u1 && dy && s->phase == 0; u++) dh[u] += dy[n * m + u];
        (k->kind == LSTM ? FN(lstm_back) : k->kind == GRU ? FN(gru_back) : FN(rnn_back))(s, n, u0, u1);
    }
}

/* y += or = the sums of the columns of x */
static void FN(column_sums)(const REAL *x, int64_t rows, int64_t width, int64_t columns, REAL *y, bool add) {
    if (!add) memset(y, 0, (size_t)columns * sizeof(REAL));
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++) y[j] += x[i * width + j];
}

/* dR of gates [first, last): dgates' times the state before each step. */
static void FN(recurrent_weights)(const FN(run) * s, const REAL *from, int64_t width, int first, int last,
                                  REAL *dr) {
    const cell *k = s->k;
    int64_t m = k->hidden, rows = (k->steps - 1) * k->batch, outputs = (last - first) * m;
    bool reverse = FN(time_of)(s, 0) != 0;
    dr += first * m * m;
    const REAL *later = from + (reverse ? 0 : k->batch * width),
               *h = s->hidden + (reverse ? k->batch * m : 0);
    if (rows > 0) FN(espl__gemm)(s->call->pool, true, false, outputs, m, rows, later, width, h, m, 1, dr, m);
    if (s->h0 != s->zeros)
        FN(espl__gemm)
        (s->call->pool, true, false, outputs, m, k->batch, from + FN(time_of)(s, 0) * k->batch * width, width,
         s->h0, m, 1, dr, m);
}

static void FN(weight_gradients)(const FN(run) * s) {
    espl__call *c = s->call;
    const cell *k = s->k;
    int64_t m = k->hidden, gh = k->gates * m, rows = k->steps * k->batch;
    REAL *dx = c->din[X].data, *dw = c->din[W].data, *dr = c->din[R].data,
         *db = c->inputs > B ? c->din[B].data : NULL;
    if (dx)
        FN(espl__gemm)
        (c->pool, false, false, rows, k->size, gh, s->dgates, gh, s->w, k->size, (c->add & 1) || s->d, dx,
         k->size);
    if (dw)
        FN(espl__gemm)
        (c->pool, true, false, gh, k->size, rows, s->dgates, gh, c->in[X].data, k->size, c->add >> W & 1,
         dw + s->d * gh * k->size, k->size);
    if (dr) {
        dr += s->d * gh * m;
        if (!(c->add >> R & 1)) memset(dr, 0, (size_t)(gh * m) * sizeof(REAL));
        FN(recurrent_weights)(s, s->dgates, gh, 0, k->kind == GRU ? 2 : (int)k->gates, dr);
        if (k->kind == GRU && k->linear)
            FN(recurrent_weights)(s, s->dextra, m, 2, 3, dr);
        else if (k->kind == GRU)
            FN(espl__gemm)
            (c->pool, true, false, m, m, rows, s->dgates + 2 * m, gh, s->extra, m, 1, dr + 2 * m * m, m);
    }
    if (!db) return;
    bool add = c->add >> B & 1, apart = k->kind == GRU && k->linear;
    db += 2 * s->d * gh;
    FN(column_sums)(s->dgates, rows, gh, gh, db, add);
    FN(column_sums)(s->dgates, rows, gh, apart ? 2 * m : gh, db + gh, add);
    if (apart) FN(column_sums)(s->dextra, rows, m, m, db + gh + 2 * m, add);
}

static void FN(give_state)(const FN(run) * s, int input, const REAL *from) {
    espl__call *c = s->call;
    int64_t n = s->k->batch * s->k->hidden;
    REAL *d = input < c->inputs ? c->din[input].data : NULL;
    for (int64_t i = 0; d && i < n; i++)
        d[s->d * n + i] = from[i] + (c->add >> input & 1 ? d[s->d * n + i] : 0);
}

static void FN(rnn_backward)(espl__call *c) {
    const cell *k = c->state;
    size_t state = (size_t)(k->batch * k->hidden);
    for (int d = 0; d < k->directions; d++) {
        FN(run) s;
        FN(open_run)(c, d, true, &s);
        const REAL *dh = c->outputs > 1 ? c->dout[1].data : NULL,
                   *dc = c->outputs > 2 ? c->dout[2].data : NULL;
        for (size_t i = 0; i < state; i++) {
            s.dh[i] = dh ? dh[(size_t)d * state + i] : 0;
            s.dc[i] = dc ? dc[(size_t)d * state + i] : 0;
        }
        for (s.i = k->steps - 1; s.i >= 0; s.i--)
            for (s.phase = 0; s.phase < k->phases; s.phase++)
                espl__parallel_for(k->parts > 1 ? c->pool : NULL, k->parts, FN(back_parts), &s);
        FN(weight_gradients)(&s);
        if (c->inputs > INITIAL_H && c->din[INITIAL_H].data) {
            FN(from_after)(&s, 0, k->hidden); /* s.i is -1 */
            FN(give_state)(&s, INITIAL_H, s.dh);
        }
        FN(give_state)(&s, INITIAL_C, s.dc);
    }
}
