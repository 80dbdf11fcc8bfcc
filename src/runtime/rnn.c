/* Runs what lower_rnn.c planned. The products X W' do not wait for each other: they are made for many steps
 * at once, biases included; each step then adds the product of its state and R and activates the gates.
 * src/ops/rnn.c has the formulas. Sums run in another order than there (X W' + B, then H R' is added), but in
 * the same one on every instruction set and with every number of threads. */
#include "runtime/rnn.h"
#include "ops/ops.h"

#include <float.h>
#include <math.h>

/* Room of one run: input parts [steps][batch][gates] (or batch first), gates [batch][gates], states, c, part
 * and codes [batch][padded], multipliers of the recurrent matrix and then of the candidate's. */
typedef struct room {
    float *projected, *gates, *c, *part, *mult;
    float *state[2]; /* of this step and of the next */
    uint8_t *codes;  /* of what is multiplied */
} room;

/* --- products -------------------------------------------------------------------------------- */

/* Blocks [b0, b1) of out = in * matrix (and bias), and + add if there is one. The sums are the same ones in
 * both ways. */
static void multiply(const rnn_step *t, const espl__kernels *k, const espl__conv *p, const void *in,
                     const float *add, float *out, int64_t rows, int64_t b0, int64_t b1) {
    if (p->bank && t->integer) {
        k->bank_gemv_u8_f32(p, in, out, add, (int)rows, (int)b0, (int)b1);
    } else if (p->bank) {
        k->bank_gemv_f32(p, in, out, add, (int)rows, (int)b0, (int)b1);
    } else if (!t->integer && rows <= GEMV_ROWS) {
        k->gemv_f32(p, in, out, add, (int)rows, (int)b0, (int)b1);
    } else if (!t->integer) {
        k->conv_f32(p, in, out, add, (int)rows, (int)b0, (int)b1);
    } else if (rows <= GEMV_ROWS && !p->prepared) {
        k->gemv_u8_f32(p, in, out, add, (int)rows, (int)b0, (int)b1);
    } else {
        k->conv_u8_f32(p, in, out, (int)rows, (int)b0, (int)b1);
        for (int64_t r = 0; r < rows && add; r++) {
            float *o = out + r * (p->out_step / 4) + b0 * ESPL__NR;
            k->add_f32(o, add + r * (p->res_step / 4) + b0 * ESPL__NR, o, (b1 - b0) * ESPL__NR);
        }
    }
}

typedef struct projection {
    const rnn_step *t;
    const espl_session *s;
    const espl__conv *p;
    const char *in;
    float *out;
    int64_t rows;
} projection;

static void project_blocks(void *arg, int64_t begin, int64_t end, int thread) {
    const projection *j = arg;
    (void)thread;
    multiply(j->t, j->s->kernels, j->p, j->in, NULL, j->out, j->rows, begin, end);
}

static void project_rows(const rnn_step *t, const espl_session *s, const espl__conv *p, const char *in,
                         float *out, int64_t rows) {
    projection j = {t, s, p, in, out, rows};
    espl__pool *pool = pool_for(s, espl__mul_sat(rows * t->gates, t->size), false);
    espl__parallel_for(pool, t->gates / ESPL__NR, project_blocks, &j);
}

/* The input parts of the steps [first, first + count). */
static void project(const rnn_step *t, const espl_session *s, const rnn_direction *d, int64_t first,
                    int64_t count, float *out) {
    const char *x = buffer_at(s, &t->x);
    int64_t row = d->input.in_step;
    if (!t->batch_first || count == t->seq) {
        project_rows(t, s, &d->input, x + first * t->batch * row, out, count * t->batch);
        return;
    }
    for (int64_t b = 0; b < t->batch; b++)
        project_rows(t, s, &d->input, x + (b * t->seq + first) * row, out + b * t->steps * t->gates, count);
}

/* --- cells of the unit blocks [u0, u1), all samples -------------------------------------------- */

typedef struct cells {
    const rnn_step *t;
    const espl_session *s;
    const rnn_direction *d;
    const room *m;
    const float *projected; /* input parts of this step's first sample */
    float scale;            /* of the codes */
    int now;                /* which of the states is this step's */
    bool candidate;         /* the second part of a GRU whose reset comes first */
} cells;

/* max|x|, what is not finite left out; 1 if there is nothing else. */
static float largest(const float *x, int64_t n) {
    float most = 0;
    for (int64_t i = 0; i < n; i++) {
        float size = fabsf(x[i]);
        if (size > most && size <= FLT_MAX) most = size;
    }
    return most > 0 ? most : 1;
}

/* What the matrix multiplies next: the state, or the gated state. */
static void code(cells *j) {
    const rnn_step *t = j->t;
    const float *x = j->candidate ? j->m->part : j->m->state[j->now];
    int64_t count = t->batch * t->padded;
    if (!t->integer) return;
    j->scale = t->moving ? largest(x, count) / 127 : t->h_scale;
    j->s->kernels->quantize(1 / j->scale, t->h_zero, 0, 255, x, j->m->codes, count);
}

/* Blocks [b0, b1) of the product of the state (or of the gated one) and a matrix, for all samples. */
static void multiply_state(const cells *j, const espl__conv *p, float *mult, const float *add, float *out,
                           int64_t b0, int64_t b1) {
    const rnn_step *t = j->t;
    const float *x = j->candidate ? j->m->part : j->m->state[j->now];
    espl__conv scaled = *p;
    if (t->moving) {
        for (int64_t i = b0 * ESPL__NR; i < b1 * ESPL__NR; i++) mult[i] = j->scale * p->q.mult[i];
        scaled.q.mult = mult;
    }
    multiply(t, j->s->kernels, &scaled, t->integer ? (const void *)j->m->codes : x, add, out, t->batch, b0,
             b1);
}

/* The recurrent part of the fed gates, on top of the input's. */
static void feed(const cells *j, int64_t u0, int64_t u1) {
    const room *m = j->m;
    int fed = j->t->fed;
    multiply_state(j, &j->d->recurrent, m->mult, j->projected, m->gates, u0 * fed, u1 * fed);
}

static void cells_lstm(const cells *j, int64_t u0, int64_t u1) {
    const rnn_step *t = j->t;
    const espl__kernels *k = j->s->kernels;
    int64_t first = u0 * ESPL__NR, count = (u1 - u0) * ESPL__NR;
    for (int64_t b = 0; b < t->batch; b++) {
        float *gates = j->m->gates + b * t->gates, *c = j->m->c + b * t->padded + first,
              *h = j->m->state[!j->now] + b * t->padded + first;
        for (int64_t u = u0; u < u1; u++) {
            float *i = gates + u * 4 * ESPL__NR, *f = i + 2 * ESPL__NR, *g = f + ESPL__NR;
            float *cell = c + (u - u0) * ESPL__NR;
            k->sigmoid_f32(i, i, (int64_t)3 * ESPL__NR); /* i, o, f */
            k->tanh_f32(g, g, ESPL__NR);
            for (int e = 0; e < ESPL__NR; e++) cell[e] = f[e] * cell[e] + i[e] * g[e];
        }
        k->tanh_f32(c, h, count);
        for (int64_t u = u0; u < u1; u++) {
            const float *o = gates + (u * 4 + 1) * ESPL__NR;
            float *part = h + (u - u0) * ESPL__NR;
            for (int e = 0; e < ESPL__NR; e++) part[e] = o[e] * part[e];
        }
    }
}

/* z and r, and the gated state or the candidate's recurrent part. */
static void cells_gru_gates(const cells *j, int64_t u0, int64_t u1) {
    const rnn_step *t = j->t;
    const espl__kernels *k = j->s->kernels;
    for (int64_t b = 0; b < t->batch; b++) {
        float *gates = j->m->gates + b * t->gates + u0 * 2 * ESPL__NR;
        k->sigmoid_f32(gates, gates, (u1 - u0) * 2 * ESPL__NR);
        if (t->linear_before_reset) continue;
        const float *h = j->m->state[j->now] + b * t->padded;
        float *part = j->m->part + b * t->padded;
        for (int64_t u = u0; u < u1; u++, gates += 2 * ESPL__NR)
            for (int e = 0; e < ESPL__NR; e++)
                part[u * ESPL__NR + e] = gates[ESPL__NR + e] * h[u * ESPL__NR + e];
    }
}

/* The candidate is activated and mixed with the state. */
static void cells_gru_state(const cells *j, int64_t u0, int64_t u1) {
    const rnn_step *t = j->t;
    const espl__kernels *k = j->s->kernels;
    int64_t first = u0 * ESPL__NR, count = (u1 - u0) * ESPL__NR, behind = 2 * t->padded;
    for (int64_t b = 0; b < t->batch; b++) {
        float *z = j->m->gates + b * t->gates + 2 * first, *g = j->m->gates + b * t->gates + behind + first;
        const float *old = j->m->state[j->now] + b * t->padded + first;
        float *h = j->m->state[!j->now] + b * t->padded + first;
        if (t->linear_before_reset) {
            const float *part = j->m->part + b * t->padded + first;
            const float *fed = j->projected + b * (j->d->recurrent.res_step / 4) + behind + first;
            for (int64_t i = 0; i < count; i++) {
                float r = z[i / ESPL__NR * 2 * ESPL__NR + ESPL__NR + i % ESPL__NR];
                g[i] = fed[i] + r * part[i];
            }
        }
        k->tanh_f32(g, g, count);
        for (int64_t i = 0; i < count; i++) {
            float keep = z[i / ESPL__NR * 2 * ESPL__NR + i % ESPL__NR];
            h[i] = (1.0f - keep) * g[i] + keep * old[i];
        }
    }
}

static void cells_gru(const cells *j, int64_t u0, int64_t u1) {
    const rnn_step *t = j->t;
    const room *m = j->m;
    const espl__conv *p = &j->d->candidate;
    float *mult = m->mult + 2 * t->padded;
    if (j->candidate) {
        multiply_state(j, p, mult, j->projected + 2 * t->padded, m->gates + 2 * t->padded, u0, u1);
        cells_gru_state(j, u0, u1);
        return;
    }
    feed(j, u0, u1);
    cells_gru_gates(j, u0, u1);
    if (!t->linear_before_reset) return;
    multiply_state(j, p, mult, NULL, m->part, u0, u1);
    cells_gru_state(j, u0, u1);
}

static void cells_rnn(const cells *j, int64_t u0, int64_t u1) {
    const rnn_step *t = j->t;
    int64_t first = u0 * ESPL__NR, count = (u1 - u0) * ESPL__NR;
    for (int64_t b = 0; b < t->batch; b++) {
        float *h = j->m->state[!j->now] + b * t->padded + first;
        j->s->kernels->tanh_f32(j->m->gates + b * t->gates + first, h, count);
    }
}

static void run_chunk(const cells *j, int64_t u0, int64_t u1) {
    if (j->t->kind == RNN_GRU) {
        cells_gru(j, u0, u1);
        return;
    }
    feed(j, u0, u1);
    if (j->t->kind == RNN_LSTM)
        cells_lstm(j, u0, u1);
    else
        cells_rnn(j, u0, u1);
}

/* A thread's unit blocks, forwards and backwards in turn: the weights that one step read last are still in
 * the cache, and the next begins with them. */
static void run_cells(void *arg, int64_t begin, int64_t end, int thread) {
    const cells *j = arg;
    int64_t chunk = j->t->chunk, count = (end - begin + chunk - 1) / chunk;
    (void)thread;
    for (int64_t i = 0; i < count; i++) {
        int64_t u0 = begin + (j->now ? count - 1 - i : i) * chunk;
        run_chunk(j, u0, ESPL_MIN(u0 + chunk, end));
    }
}

static void run_part(cells *j, bool candidate) {
    const rnn_step *t = j->t;
    espl__pool *pool = pool_for(j->s, espl__mul_sat(t->batch * t->gates, t->hidden), false);
    j->candidate = candidate;
    code(j);
    espl__parallel_for(pool, t->units, run_cells, j);
}

static void one_step(cells *j) {
    run_part(j, false);
    if (j->t->kind == RNN_GRU && !j->t->linear_before_reset) run_part(j, true);
}

/* --- the whole sequence ---------------------------------------------------------------------- */

/* Where sample b of direction d stands in [directions, batch, hidden], or with the batch first. */
static int64_t state_at(const rnn_step *t, int d, int64_t b) {
    return (t->batch_first ? b * t->directions + d : d * t->batch + b) * t->hidden;
}

static void load_state(const rnn_step *t, const espl_session *s, int d, const view *from, float *state) {
    memset(state, 0, (size_t)(t->batch * t->padded) * sizeof *state);
    for (int64_t b = 0; b < t->batch && from->buffer >= 0; b++)
        memcpy(state + b * t->padded, (const float *)buffer_at(s, from) + state_at(t, d, b),
               (size_t)t->hidden * sizeof *state);
}

static void store_state(const rnn_step *t, const espl_session *s, int d, const float *state, const view *to) {
    for (int64_t b = 0; b < t->batch && to->buffer >= 0; b++)
        memcpy((float *)buffer_at(s, to) + state_at(t, d, b), state + b * t->padded,
               (size_t)t->hidden * sizeof *state);
}

static void store_step(const rnn_step *t, const espl_session *s, int d, int64_t time, const float *h) {
    if (t->out[RNN_Y].buffer < 0) return;
    float *y = (float *)buffer_at(s, &t->out[RNN_Y]);
    for (int64_t b = 0; b < t->batch; b++) {
        int64_t at = t->batch_first ? (b * t->seq + time) * t->directions + d
                                    : (time * t->directions + d) * t->batch + b;
        memcpy(y + at * t->hidden, h + b * t->padded, (size_t)t->hidden * sizeof *y);
    }
}

static void run_direction(const rnn_step *t, const espl_session *s, int index, const room *m) {
    const rnn_direction *d = &t->dir[index];
    int64_t row = t->batch_first ? t->gates : t->batch * t->gates; /* from step to step */
    cells j = {.t = t, .s = s, .d = d, .m = m};
    load_state(t, s, index, &t->h0, m->state[0]);
    if (t->kind == RNN_LSTM) load_state(t, s, index, &t->c0, m->c);
    for (int64_t from = 0; from < t->seq; from += t->steps) {
        int64_t count = ESPL_MIN(t->steps, t->seq - from),
                first = d->backwards ? t->seq - from - count : from;
        project(t, s, d, first, count, m->projected);
        for (int64_t i = 0; i < count; i++, j.now = !j.now) {
            int64_t at = d->backwards ? count - 1 - i : i;
            j.projected = m->projected + at * row;
            one_step(&j);
            store_step(t, s, index, first + at, m->state[!j.now]);
        }
    }
    store_state(t, s, index, m->state[j.now], &t->out[RNN_Y_H]);
    if (t->kind == RNN_LSTM) store_state(t, s, index, m->c, &t->out[RNN_Y_C]);
}

void espl__rnn_run(const step *st, espl_session *s) {
    const rnn_step *t = (const rnn_step *)st;
    char *start = s->buffers[t->work].data;
    room m = {.projected = (float *)(void *)start,
              .gates = (float *)(void *)(start + t->gates_at),
              .c = (float *)(void *)(start + t->c_at),
              .part = (float *)(void *)(start + t->part_at),
              .mult = (float *)(void *)(start + t->mult_at),
              .codes = (uint8_t *)start + t->codes_at};
    for (int i = 0; i < 2; i++) m.state[i] = (float *)(void *)(start + t->state_at[i]);
    for (int d = 0; d < t->directions; d++) run_direction(t, s, d, &m);
}
