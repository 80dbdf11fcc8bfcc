/* LSTM, GRU and RNN with constant weights, in f32. The products X W' do not wait for each other: they are
 * made for many steps at once, biases included; each step then adds the product of its state and R, one row
 * per sample, and activates the gates. src/ops/rnn.c has the formulas. Sums run in another order than there
 * (X W' + B, then H R' is added), but in the same one on every instruction set and with every number of
 * threads. */
#include "runtime/weights.h"
#include "ops/ops.h"
#include "passes/passes.h"

#include <math.h>
#include <strings.h>

enum {
    PARALLEL_MACS = 150000, /* below this a wake costs more than it gains */
    PROJECTED_ROWS =
        64 /* rows of X W' that are made at once: weights are reused, the rows stay in the cache */
};
enum { LSTM, GRU, RNN };
enum { X, W, R, B, SEQUENCE_LENS, INITIAL_H, INITIAL_C, P };
enum { Y, Y_H, Y_C, OUTPUTS };

static const struct {
    const char *op, *activations;
    int gates, fed; /* gates; those of them whose recurrent part the state itself feeds */
} cells[] = {
    [LSTM] = {"LSTM", "Sigmoid,Tanh,Tanh", 4, 4},
    [GRU] = {"GRU", "Sigmoid,Tanh", 3,
             2}, /* the third is fed by the gated state, or gated after its product */
    [RNN] = {"RNN", "Tanh", 1, 1},
};

/* The matrices of one direction. */
typedef struct direction {
    bool backwards;
    espl__conv input;     /* X to all gates */
    espl__conv recurrent; /* H to the gates it feeds, added to the input's part */
    espl__conv candidate; /* GRU: to the third gate */
} direction;

typedef struct rnn_step {
    step base;
    int kind, directions;
    bool batch_first, linear_before_reset;
    int64_t seq, batch, size, hidden, gates; /* gates: columns, hidden times the number of gates */
    int64_t steps;                           /* whose input parts are made at once */
    direction dir[2];
    view x, h0, c0;    /* buffer -1: absent */
    view out[OUTPUTS]; /* likewise */
    int work;          /* buffer; floats from its start: */
    int64_t gates_at, h_at, c_at, part_at, floats;
} rnn_step;

/* Room of one run: input parts [steps][batch][gates] (or batch first), gates [batch][gates], the others
 * [batch][hidden]. */
typedef struct room {
    float *projected, *gates, *h, *c, *part;
} room;

/* --- products -------------------------------------------------------------------------------- */

typedef struct product {
    const espl__kernels *kernels;
    const espl__conv *p;
    const float *in, *add;
    float *out;
    int rows;
} product;

static void run_blocks(void *arg, int64_t begin, int64_t end, int thread) {
    const product *j = arg;
    (void)thread;
    j->kernels->conv_f32(j->p, j->in, j->out, j->add, j->rows, (int)begin, (int)end);
}

/* out = in * matrix + bias, and + add if there is one. */
static void multiply(const espl_session *s, const espl__conv *p, const float *in, const float *add,
                     float *out, int64_t rows) {
    product j = {s->kernels, p, in, add, out, (int)rows};
    bool large = espl__mul_sat(rows * p->channels, p->seg_k) >= PARALLEL_MACS;
    espl__parallel_for(large ? espl__context_pool(s->ctx) : NULL, pad16(p->channels) / ESPL__NR, run_blocks,
                       &j);
}

/* The input parts of the steps [first, first + count). */
static void project(const rnn_step *t, const espl_session *s, const direction *d, int64_t first,
                    int64_t count, float *out) {
    const float *x = (const float *)buffer_at(s, &t->x);
    if (!t->batch_first || count == t->seq) {
        multiply(s, &d->input, x + first * t->batch * t->size, NULL, out, count * t->batch);
        return;
    }
    for (int64_t b = 0; b < t->batch; b++)
        multiply(s, &d->input, x + (b * t->seq + first) * t->size, NULL, out + b * t->steps * t->gates,
                 count);
}

/* --- one step for all samples ---------------------------------------------------------------- */

static void step_lstm(const rnn_step *t, const espl__kernels *k, const room *m) {
    int64_t n = t->hidden;
    for (int64_t b = 0; b < t->batch; b++) {
        float *i = m->gates + b * t->gates, *o = i + n, *f = o + n, *g = f + n, *c = m->c + b * n,
              *h = m->h + b * n;
        k->sigmoid_f32(i, i, 3 * n);
        k->tanh_f32(g, g, n);
        for (int64_t e = 0; e < n; e++) c[e] = f[e] * c[e] + i[e] * g[e];
        k->tanh_f32(c, h, n);
        k->mul_f32(o, h, h, n);
    }
}

/* `projected` are the input parts of this step's first sample. */
static void step_gru(const rnn_step *t, const espl_session *s, const direction *d, const room *m,
                     const float *projected) {
    const espl__kernels *k = s->kernels;
    int64_t n = t->hidden, sample = d->recurrent.res_step / (int64_t)sizeof(float);
    for (int64_t b = 0; b < t->batch; b++) {
        float *z = m->gates + b * t->gates, *r = z + n;
        k->sigmoid_f32(z, z, 2 * n);
        if (!t->linear_before_reset) k->mul_f32(r, m->h + b * n, m->part + b * n, n);
    }
    if (t->linear_before_reset)
        multiply(s, &d->candidate, m->h, NULL, m->part, t->batch);
    else
        multiply(s, &d->candidate, m->part, projected + 2 * n, m->gates + 2 * n, t->batch);
    for (int64_t b = 0; b < t->batch; b++) {
        float *z = m->gates + b * t->gates, *r = z + n, *g = r + n, *h = m->h + b * n,
              *part = m->part + b * n;
        if (t->linear_before_reset) {
            k->mul_f32(r, part, part, n);
            k->add_f32(projected + b * sample + 2 * n, part, g, n);
        }
        k->tanh_f32(g, g, n);
        for (int64_t e = 0; e < n; e++) h[e] = (1.0f - z[e]) * g[e] + z[e] * h[e];
    }
}

static void one_step(const rnn_step *t, const espl_session *s, const direction *d, const room *m,
                     const float *projected) {
    multiply(s, &d->recurrent, m->h, projected, m->gates, t->batch);
    switch (t->kind) {
        case LSTM:
            step_lstm(t, s->kernels, m);
            break;
        case GRU:
            step_gru(t, s, d, m, projected);
            break;
        default:
            s->kernels->tanh_f32(m->gates, m->h, t->batch * t->hidden);
    }
}

/* --- the whole sequence ---------------------------------------------------------------------- */

/* Where sample b of direction d stands in [directions, batch, hidden], or with the batch first. */
static int64_t state_at(const rnn_step *t, int d, int64_t b) {
    return (t->batch_first ? b * t->directions + d : d * t->batch + b) * t->hidden;
}

static void load_state(const rnn_step *t, const espl_session *s, int d, const view *from, float *state) {
    size_t bytes = (size_t)t->hidden * sizeof(float);
    for (int64_t b = 0; b < t->batch; b++) {
        if (from->buffer < 0)
            memset(state + b * t->hidden, 0, bytes);
        else
            memcpy(state + b * t->hidden, (const float *)buffer_at(s, from) + state_at(t, d, b), bytes);
    }
}

static void store_state(const rnn_step *t, const espl_session *s, int d, const float *state, const view *to) {
    for (int64_t b = 0; b < t->batch && to->buffer >= 0; b++)
        memcpy((float *)buffer_at(s, to) + state_at(t, d, b), state + b * t->hidden,
               (size_t)t->hidden * sizeof(float));
}

static void store_step(const rnn_step *t, const espl_session *s, int d, int64_t time, const float *h) {
    if (t->out[Y].buffer < 0) return;
    float *y = (float *)buffer_at(s, &t->out[Y]);
    for (int64_t b = 0; b < t->batch; b++) {
        int64_t at = t->batch_first ? (b * t->seq + time) * t->directions + d
                                    : (time * t->directions + d) * t->batch + b;
        memcpy(y + at * t->hidden, h + b * t->hidden, (size_t)t->hidden * sizeof(float));
    }
}

static void run_direction(const rnn_step *t, const espl_session *s, int index, const room *m) {
    const direction *d = &t->dir[index];
    int64_t row = t->batch_first ? t->gates : t->batch * t->gates; /* from step to step */
    load_state(t, s, index, &t->h0, m->h);
    if (t->kind == LSTM) load_state(t, s, index, &t->c0, m->c);
    for (int64_t from = 0; from < t->seq; from += t->steps) {
        int64_t count = ESPL_MIN(t->steps, t->seq - from),
                first = d->backwards ? t->seq - from - count : from;
        project(t, s, d, first, count, m->projected);
        for (int64_t i = 0; i < count; i++) {
            int64_t at = d->backwards ? count - 1 - i : i;
            one_step(t, s, d, m, m->projected + at * row);
            store_step(t, s, index, first + at, m->h);
        }
    }
    store_state(t, s, index, m->h, &t->out[Y_H]);
    if (t->kind == LSTM) store_state(t, s, index, m->c, &t->out[Y_C]);
}

static void run_rnn(const step *st, espl_session *s) {
    const rnn_step *t = (const rnn_step *)st;
    float *start = s->buffers[t->work].data;
    room m = {start, start + t->gates_at, start + t->h_at, start + t->c_at, start + t->part_at};
    for (int d = 0; d < t->directions; d++) run_direction(t, s, d, &m);
}

/* --- lowering -------------------------------------------------------------------------------- */

static bool is_default(const espl__node *n, const char *activations, int directions) {
    const char *given = espl__attr_string(n, "activations", "");
    size_t length = strlen(activations);
    for (int d = 0; d < directions && given[0]; d++) {
        if (strncasecmp(given, activations, length) != 0) return false;
        given += length;
        if (d + 1 < directions && *given++ != ',') return false;
    }
    return !given[0];
}

/* Lengths that are known and cut nothing off. */
static bool whole_sequences(const espl__value *lengths, int64_t seq) {
    if (!lengths) return true;
    if (!lengths->constant || lengths->constant->dtype != ESPL_S32) return false;
    for (int64_t i = 0; i < espl_shape_count(&lengths->shape); i++)
        if (((const int32_t *)lengths->constant->data)[i] < seq) return false;
    return true;
}

static bool given_as_constant(const espl__value *v) {
    return v && v->constant && v->dtype == ESPL_F32;
}

/* Reads the node into the step; false if it is one for the reference. */
static bool read_step(const espl__node *n, rnn_step *t) {
    const espl__value *x = n->inputs[X], *b = espl__in(n, B);
    const char *way = espl__attr_string(n, "direction", "forward");
    if (x->dtype != ESPL_F32 || espl_shape_count(&x->shape) == 0) return false;
    if (!given_as_constant(n->inputs[W]) || !given_as_constant(n->inputs[R]) || (b && !given_as_constant(b)))
        return false;
    while (strcmp(cells[t->kind].op, n->op->name) != 0) t->kind++;
    t->directions = strcmp(way, "bidirectional") == 0 ? 2 : 1;
    t->dir[0].backwards = strcmp(way, "reverse") == 0;
    t->dir[1].backwards = true;
    t->batch_first = espl__attr_int(n, "layout", 0) != 0;
    t->linear_before_reset = espl__attr_int(n, "linear_before_reset", 0) != 0;
    t->seq = x->shape.dim[t->batch_first];
    t->batch = x->shape.dim[!t->batch_first];
    t->size = x->shape.dim[2];
    t->hidden = n->inputs[R]->shape.dim[2];
    t->gates = espl__mul_sat(t->hidden, cells[t->kind].gates);
    t->steps = ESPL_MIN(ESPL_MAX(PROJECTED_ROWS / t->batch, 1), t->seq);
    if (espl__attr_find(n, "clip") || espl__attr_int(n, "input_forget", 0) || espl__in(n, P)) return false;
    if (!is_default(n, cells[t->kind].activations, t->directions)) return false;
    if (!whole_sequences(espl__in(n, SEQUENCE_LENS), t->seq)) return false;
    /* What the kernels count with 32 bits, and the bytes of a row times the rows. */
    return t->gates <= INT32_MAX / 8 && t->size <= INT32_MAX / 8 && t->batch <= INT32_MAX / PROJECTED_ROWS;
}

/* The matrix at w[channels][k] of `all` and its bias (NULL: 0), packed. Steps are bytes from sample to
 * sample. */
static espl_status pack(espl_session *s, const weights *all, const float *w, const float *bias,
                        int64_t channels, int64_t k, espl__conv *p, espl_diag *diag) {
    static const int32_t one_segment[1];
    weights matrix = {.value = all->value, .data = w};
    espl__weight_order order = espl__weight_rows(channels, 1, k);
    int64_t bytes;
    espl_status status = espl__weights_pack(s, &matrix, &order, 1, p, &bytes, diag);
    float *b = espl__plan_weights(s, sizeof *b * (uint64_t)pad16(channels));
    if (status != ESPL_OK || !b) return espl__nomem(diag, sizeof *b * (uint64_t)pad16(channels));
    if (bias) memcpy(b, bias, sizeof *b * (size_t)channels);
    *p = (espl__conv){.segments = 1,
                      .seg_k = (int32_t)k,
                      .seg_off = one_segment,
                      .in_step = k * (int64_t)sizeof(float),
                      .w = p->w,
                      .bias = b,
                      .channels = (int32_t)channels,
                      .flo = -INFINITY,
                      .fhi = INFINITY};
    return ESPL_OK;
}

/* What is added with the input's part: both biases, but for a recurrent one that the reset gate scales. */
static const float *input_bias(espl_session *s, const rnn_step *t, const float *b) {
    float *sum = espl__arena_alloc(&s->arena, sizeof *sum * (uint64_t)t->gates);
    int64_t shared = t->kind == GRU && t->linear_before_reset ? 2 * t->hidden : t->gates;
    for (int64_t i = 0; sum && b && i < t->gates; i++) sum[i] = i < shared ? b[i] + b[t->gates + i] : b[i];
    return sum;
}

static espl_status pack_direction(espl_session *s, const weights *all_w, const weights *all_r, const float *b,
                                  int at, rnn_step *t, direction *d, espl_diag *diag) {
    espl_status status = ESPL_OK;
    int64_t n = t->hidden, fed = n * cells[t->kind].fed, row = t->gates * (int64_t)sizeof(float);
    const float *sum = input_bias(s, t, b);
    const float *w = (const float *)all_w->data + at * t->gates * t->size;
    const float *r = (const float *)all_r->data + at * t->gates * t->hidden;
    if (!sum) return espl__nomem(diag, (uint64_t)row);
    ESPL_TRY(pack(s, all_w, w, sum, t->gates, t->size, &d->input, diag));
    ESPL_TRY(pack(s, all_r, r, NULL, fed, n, &d->recurrent, diag));
    d->input.out_step = d->recurrent.out_step = row;
    d->recurrent.res_step = t->batch_first ? t->steps * row : row;
    if (t->kind != GRU) goto done;
    bool before = t->linear_before_reset;
    ESPL_TRY(pack(s, all_r, r + fed * n, before && b ? b + t->gates + fed : NULL, n, n, &d->candidate, diag));
    d->candidate.out_step = before ? d->candidate.in_step : row;
    d->candidate.res_step = d->recurrent.res_step;
done:
    return status;
}

static espl_status pack_all(espl_session *s, const espl__node *n, rnn_step *t, espl_diag *diag) {
    espl_status status = ESPL_OK;
    weights w = {0}, r = {0}, b = {0};
    ESPL_TRY(espl__weights_float(s, n->inputs[W], &w, diag));
    ESPL_TRY(espl__weights_float(s, n->inputs[R], &r, diag));
    if (espl__in(n, B)) ESPL_TRY(espl__weights_float(s, espl__in(n, B), &b, diag));
    for (int d = 0; d < t->directions; d++) {
        const float *own_b = b.data ? (const float *)b.data + d * 2 * t->gates : NULL;
        ESPL_TRY(pack_direction(s, &w, &r, own_b, d, t, &t->dir[d], diag));
    }
    t->base.weight_bytes =
        4 * (uint64_t)(t->directions * t->gates * (t->size + t->hidden + (b.data ? 2 : 0)));
done:
    espl__weights_done(s, &w);
    espl__weights_done(s, &r);
    espl__weights_done(s, &b);
    return status;
}

/* Every part of the room begins with a cache line of its own. */
static int64_t reserve(rnn_step *t, int64_t floats) {
    int64_t at = t->floats;
    t->floats += (floats + 15) / 16 * 16;
    return at;
}

static espl_status plan_room(espl_session *s, rnn_step *t, espl_diag *diag) {
    int64_t state = t->batch * t->hidden;
    reserve(t, t->steps * t->batch * t->gates);
    t->gates_at = reserve(t, t->batch * t->gates);
    t->h_at = reserve(t, state);
    t->c_at = reserve(t, t->kind == LSTM ? state : 0);
    t->part_at = reserve(t, t->kind == GRU ? state : 0);
    t->work = espl__plan_buffer(s, BUFFER_WORK, sizeof(float) * (uint64_t)t->floats);
    return t->work < 0 ? espl__nomem(diag, sizeof(float) * (uint64_t)t->floats) : ESPL_OK;
}

static espl_status require_state(espl_session *s, const espl__node *n, int input, view *out,
                                 espl_diag *diag) {
    out->buffer = -1;
    const espl__value *v = espl__in(n, input);
    return v ? espl__plan_require(s, n, v, ESPL_F32, WANT_ROWS, 1, out, diag) : ESPL_OK;
}

/* Where an output is written: in place if its form is f32 in rows, else in a buffer that is converted after.
 */
static espl_status plan_rows(espl_session *s, const espl__value *v, view *out, espl_diag *diag) {
    out->buffer = -1;
    if (!v) return ESPL_OK;
    if (espl__plan_store_type(v) == ESPL_F32 && !s->spatial[v->id])
        return espl__plan_output(s, v, ESPL_F32, out, diag);
    *out = espl__view_rows(&v->shape, ESPL_F32, 0);
    out->buffer = espl__plan_buffer(s, BUFFER_WORK, espl__view_bytes(out));
    return out->buffer < 0 ? espl__nomem(diag, espl__view_bytes(out)) : ESPL_OK;
}

static espl_status produce_rows(espl_session *s, const espl__node *n, const espl__value *v, const view *rows,
                                espl_diag *diag) {
    espl_status status = ESPL_OK;
    view codes;
    if (!v) return ESPL_OK;
    if (espl__plan_store_type(v) == ESPL_F32) return espl__plan_produce(s, v, rows, diag);
    ESPL_TRY(espl__plan_output(s, v, ESPL_U8, &codes, diag));
    ESPL_TRY(espl__plan_convert(s, n, rows, &codes, diag));
    ESPL_TRY(espl__plan_produce(s, v, &codes, diag));
done:
    return status;
}

static void use_views(espl_session *s, const rnn_step *t) {
    const view *views[] = {&t->x, &t->h0, &t->c0, &t->out[Y], &t->out[Y_H], &t->out[Y_C]};
    for (size_t i = 0; i < ESPL_COUNT(views); i++)
        if (views[i]->buffer >= 0) espl__plan_use(s, views[i]->buffer);
    espl__plan_use(s, t->work);
}

espl_status espl__lower_rnn(espl_session *s, espl__node *n, bool *taken, espl_diag *diag) {
    espl_status status = ESPL_OK;
    rnn_step plan = {0};
    if (!read_step(n, &plan)) return ESPL_OK;
    *taken = true;
    ESPL_TRY(espl__plan_require(s, n, n->inputs[X], ESPL_F32, WANT_ROWS, 1, &plan.x, diag));
    ESPL_TRY(require_state(s, n, INITIAL_H, &plan.h0, diag));
    ESPL_TRY(require_state(s, n, INITIAL_C, &plan.c0, diag));
    for (int i = 0; i < OUTPUTS; i++) ESPL_TRY(plan_rows(s, espl__out(n, i), &plan.out[i], diag));
    rnn_step *t = espl__plan_step(s, sizeof *t, n, "rnn_f32", run_rnn);
    if (!t) return espl__nomem(diag, sizeof *t);
    plan.base = t->base;
    *t = plan;
    t->base.macs = n->op->macs(n);
    ESPL_TRY(pack_all(s, n, t, diag));
    ESPL_TRY(plan_room(s, t, diag));
    use_views(s, t);
    for (int i = 0; i < OUTPUTS; i++) ESPL_TRY(produce_rows(s, n, espl__out(n, i), &t->out[i], diag));
done:
    return status;
}
