/* LSTM, GRU and RNN with constant weights: which of them have kernels, and their matrices, packed. */
#include "runtime/rnn.h"
#include "runtime/sparse.h"
#include "ops/ops.h"
#include "passes/passes.h"

#include <math.h>
#include <strings.h>

enum {
    PROJECTED_ROWS = 64,     /* of X W', made at once: weights are reused, the rows stay in the cache */
    CHUNK_BYTES = 256 << 10, /* of weights that are read before their units' cells are finished */
    TILE_BLOCKS = 8          /* that kernels like to read side by side */
};
enum { X, W, R, B, SEQUENCE_LENS, INITIAL_H, INITIAL_C, P };

static const struct {
    const char *op, *activations;
    int gates, fed; /* gates; those of them whose recurrent part the state itself feeds */
} cells[] = {
    [RNN_LSTM] = {"LSTM", "Sigmoid,Tanh,Tanh", 4, 4},
    [RNN_GRU] = {"GRU", "Sigmoid,Tanh", 3,
                 2}, /* the third is fed by the gated state, or gated after its product */
    [RNN_RNN] = {"RNN", "Tanh", 1, 1},
};

/* --- reading the node ------------------------------------------------------------------------ */

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

bool espl__plan_recurrent(const espl__node *n) {
    int kind = 0,
        directions = strcmp(espl__attr_string(n, "direction", "forward"), "bidirectional") == 0 ? 2 : 1;
    while (kind < (int)ESPL_COUNT(cells) && !espl__node_is(n, cells[kind].op)) kind++;
    if (kind == (int)ESPL_COUNT(cells) || !n->inputs[X] || n->inputs[X]->dtype != ESPL_F32) return false;
    const espl__value *b = espl__in(n, B), *lengths = espl__in(n, SEQUENCE_LENS);
    return given_as_constant(n->inputs[W]) && given_as_constant(n->inputs[R]) &&
           (!b || given_as_constant(b)) && (!lengths || lengths->constant) && !espl__attr_find(n, "clip") &&
           !espl__attr_int(n, "input_forget", 0) && !espl__in(n, P) &&
           is_default(n, cells[kind].activations, directions);
}

/* Reads the node into the step; false if it is one for the reference. */
static bool read_step(const espl__node *n, rnn_step *t) {
    const espl__value *x = n->inputs[X];
    const char *way = espl__attr_string(n, "direction", "forward");
    if (!espl__plan_recurrent(n) || espl_shape_count(&x->shape) == 0) return false;
    while (strcmp(cells[t->kind].op, n->op->name) != 0) t->kind = (rnn_kind)(t->kind + 1);
    t->directions = strcmp(way, "bidirectional") == 0 ? 2 : 1;
    t->dir[0].backwards = strcmp(way, "reverse") == 0;
    t->dir[1].backwards = true;
    t->batch_first = espl__attr_int(n, "layout", 0) != 0;
    t->linear_before_reset = espl__attr_int(n, "linear_before_reset", 0) != 0;
    t->seq = x->shape.dim[t->batch_first];
    t->batch = x->shape.dim[!t->batch_first];
    t->size = x->shape.dim[2];
    t->hidden = n->inputs[R]->shape.dim[2];
    t->padded = pad16(t->hidden);
    t->units = t->padded / ESPL__NR;
    t->fed = cells[t->kind].fed;
    t->gates = espl__mul_sat(t->padded, cells[t->kind].gates);
    t->steps = ESPL_MIN(ESPL_MAX(PROJECTED_ROWS / t->batch, 1), t->seq);
    if (!whole_sequences(espl__in(n, SEQUENCE_LENS), t->seq)) return false;
    /* What the kernels count with 32 bits, and the bytes of a row times the rows. */
    return t->gates <= INT32_MAX / 8 && t->size <= INT32_MAX / 8 && t->batch <= INT32_MAX / PROJECTED_ROWS;
}

/* --- matrices -------------------------------------------------------------------------------- */

/* W or R of all directions: weights of rows of k elements. */
typedef struct matrix {
    weights w;
    int64_t k;
    sparse_plan plan;
    bool sparse; /* can be, as planned */
} matrix;

static bool integer_matrix(const espl__value *v, matrix *m) {
    m->k = v->shape.dim[2];
    return accumulator_fits(m->k) && espl__weights_integer(v, 1, &m->w);
}

static espl_status float_matrix(espl_session *s, const espl__value *v, matrix *m, espl_diag *diag) {
    m->k = v->shape.dim[2];
    return espl__weights_float(s, v, &m->w, diag);
}

/* A row of the tensor: a unit of a gate of a direction. */
static int64_t row_of(const rnn_step *t, int d, int gate, int64_t unit) {
    return (d * cells[t->kind].gates + gate) * t->hidden + unit;
}

/* The multiplier of a channel, and what the zero point of its input adds. */
static void fill_scale(const rnn_step *t, const matrix *m, float in_scale, int32_t in_zero, int d, int gate,
                       int64_t unit, int64_t channel, espl__conv *p) {
    int64_t row = row_of(t, d, gate, unit), of_scale = row - row_of(t, d, 0, 0), sum = 0;
    const uint8_t *codes = (const uint8_t *)m->w.data + row * m->k;
    for (int64_t i = 0; i < m->k; i++) sum += (int8_t)(codes[i] ^ m->w.flip);
    ((int32_t *)p->bias)[channel] = (int32_t)(-in_zero * sum);
    ((float *)p->q.mult)[channel] = (float)((double)in_scale * m->w.scale[m->w.axis < 0 ? 0 : of_scale]);
}

/* The 16 units from block u of a gate, packed into `block` of the matrix. */
static void pack_block(const rnn_step *t, const matrix *m, int d, int gate, int64_t u, int64_t block,
                       const espl__conv *p) {
    int64_t unit = u * ESPL__NR, row = row_of(t, d, gate, unit);
    espl__weight_order order = espl__weight_rows(ESPL_MIN(ESPL__NR, t->hidden - unit), 1, m->k);
    espl__weight_part all = espl__weight_all(&order);
    int64_t dense = (int64_t)p->seg_k * ESPL__NR * 4; /* of a block: four codes or one float a channel */
    char *to = (char *)p->w + block * (p->bank ? p->bank->block : dense);
    if (p->bank && t->integer)
        espl__pack_bank_s8(&order, (const uint8_t *)m->w.data + row * m->k, m->w.flip, p->bank, 0, 1, to);
    else if (p->bank)
        espl__pack_bank_f32(&order, (const float *)m->w.data + row * m->k, p->bank, 0, 1, to);
    else if (t->integer)
        espl__pack_s8_part(&order, (const uint8_t *)m->w.data + row * m->k, m->w.flip, &all, (int8_t *)to);
    else
        espl__pack_f32_part(&order, (const float *)m->w.data + row * m->k, &all, (float *)(void *)to);
}

typedef struct grid {
    float scale;
    int32_t zero;
} grid;

/* Gates [first, first + count) of one direction into blocks from `block` on, unit blocks of them interleaved.
 * What was read of a file leaves memory again. */
static void pack_gates(const espl_session *s, const rnn_step *t, const matrix *m, grid in, const float *bias,
                       int d, int first, int count, int64_t block, espl__conv *p) {
    for (int64_t u = 0; u < t->units; u++)
        for (int g = 0; g < count; g++, block++) {
            pack_block(t, m, d, first + g, u, block, p);
            float *to = t->integer ? (float *)p->fbias : (float *)p->bias;
            for (int64_t e = 0; e < ESPL__NR && u * ESPL__NR + e < t->hidden; e++) {
                int64_t unit = u * ESPL__NR + e, channel = block * ESPL__NR + e;
                if (bias) to[channel] = bias[(first + g) * t->hidden + unit];
                if (t->integer) fill_scale(t, m, in.scale, in.zero, d, first + g, unit, channel, p);
            }
            int64_t row = m->k * (t->integer ? 1 : (int64_t)sizeof(float));
            espl__graph_drop(s->graph, (const char *)m->w.data + row_of(t, d, first + g, u * ESPL__NR) * row,
                             (uint64_t)(ESPL__NR * row));
        }
}

/* The banks of a matrix; NULL: no memory. */
static const espl__bank *begin_banks(espl_session *s, const matrix *m) {
    espl__weight_order order = espl__weight_rows(ESPL__NR, 1, m->k);
    espl__bank *bank = espl__arena_alloc(&s->arena, sizeof *bank);
    int32_t *off = espl__arena_alloc(&s->arena, sizeof *off * (uint64_t)m->plan.bank.count);
    if (!bank || !off) return NULL;
    *bank = m->plan.bank;
    bank->off = off;
    espl__bank_offsets(&order, bank, NULL, off);
    return bank;
}

/* Room for a packed matrix of whole blocks, if `passing` only for a while; steps are those of rows that stand
 * packed. */
static espl_status begin_matrix(espl_session *s, const rnn_step *t, const matrix *m, int64_t channels,
                                bool bias, bool passing, espl__conv *p, espl_diag *diag) {
    static const int32_t one_segment[1];
    bool banks = t->sparse && m->sparse;
    uint64_t floats = sizeof(float) * (uint64_t)channels;
    uint64_t bytes = banks        ? (uint64_t)(channels / ESPL__NR * m->plan.bank.block)
                     : t->integer ? espl__pack_s8_bytes(channels, 1, m->k)
                                  : espl__pack_f32_bytes(channels, 1, m->k);
    *p = (espl__conv){.segments = 1,
                      .seg_k = (int32_t)(t->integer ? (m->k + 3) / 4 : m->k),
                      .seg_off = one_segment,
                      .w = passing ? espl__alloc(s->ctx, bytes) : espl__plan_packed(s, bytes),
                      .bank = banks ? begin_banks(s, m) : NULL,
                      .bias = espl__plan_weights(s, floats),
                      .channels = (int32_t)channels,
                      .flo = -INFINITY,
                      .fhi = INFINITY};
    if (t->integer) p->q.mult = espl__plan_weights(s, floats);
    if (t->integer && bias) p->fbias = espl__plan_weights(s, floats);
    bool good = p->w && p->bias && (!banks || p->bank) && (!t->integer || (p->q.mult && (!bias || p->fbias)));
    if (!good) return espl__nomem(diag, bytes);
    if (t->integer && !banks) memset((char *)p->w + bytes - ESPL__PACK_SLACK, 0, ESPL__PACK_SLACK);
    return ESPL_OK;
}

/* What is added with the input's part: both biases, but for a recurrent one that the reset gate scales. */
static const float *input_bias(espl_session *s, const rnn_step *t, const float *b) {
    int64_t gates = t->hidden * cells[t->kind].gates;
    int64_t shared = t->kind == RNN_GRU && t->linear_before_reset ? 2 * t->hidden : gates;
    float *sum = espl__arena_alloc(&s->arena, sizeof *sum * (uint64_t)gates);
    for (int64_t i = 0; sum && b && i < gates; i++) sum[i] = i < shared ? b[i] + b[gates + i] : b[i];
    return sum;
}

static espl_status centre(espl_session *s, const rnn_step *t, espl__conv *p, espl_diag *diag) {
    return t->integer && !p->bank
               ? espl__weights_centre(s, p->channels / ESPL__NR, 4 * (int64_t)p->seg_k, p, diag)
               : ESPL_OK;
}

/* The inputs' matrix. Products of many rows may have the weights in an order of the kernels' own. */
static espl_status pack_inputs(espl_session *s, const rnn_step *t, const matrix *w, const float *bias,
                               int index, espl__conv *p, espl_diag *diag) {
    espl_status status = ESPL_OK;
    const int fed = t->fed, rest = cells[t->kind].gates - fed;
    const grid x = {t->x.scale, t->x.zero};
    const bool prepare =
        t->integer && w->k > 0 && t->steps * t->batch > GEMV_ROWS && s->kernels->prepare && !(t->sparse && w->sparse);
    ESPL_TRY(begin_matrix(s, t, w, t->gates, true, prepare, p, diag));
    pack_gates(s, t, w, x, bias, index, 0, fed, 0, p);
    pack_gates(s, t, w, x, bias, index, fed, rest, t->units * fed, p);
    if (prepare)
        ESPL_TRY(espl__weights_prepare(s, t->gates / ESPL__NR, p, diag));
    else
        ESPL_TRY(centre(s, t, p, diag));
done:
    if (prepare) {
        espl__free(s->ctx, (void *)p->w);
        p->w = NULL;
    }
    return status;
}

/* b: biases of the direction, NULL: none. */
static espl_status pack_direction(espl_session *s, rnn_step *t, const matrix *w, const matrix *r,
                                  const float *b, int index, espl_diag *diag) {
    espl_status status = ESPL_OK;
    rnn_direction *d = &t->dir[index];
    int64_t row = t->gates * (int64_t)sizeof(float), state = t->padded * (t->integer ? 1 : 4);
    int fed = t->fed, rest = cells[t->kind].gates - fed;
    grid h = {t->h_scale, t->h_zero};
    const float *sum = input_bias(s, t, b);
    if (!sum) return espl__nomem(diag, (uint64_t)row);
    ESPL_TRY(pack_inputs(s, t, w, sum, index, &d->input, diag));
    d->input.in_step = row_stride(&t->x);
    ESPL_TRY(begin_matrix(s, t, r, t->padded * fed, false, false, &d->recurrent, diag));
    pack_gates(s, t, r, h, NULL, index, 0, fed, 0, &d->recurrent);
    ESPL_TRY(centre(s, t, &d->recurrent, diag));
    d->recurrent.in_step = state;
    d->input.out_step = d->recurrent.out_step = row;
    d->recurrent.res_step = t->batch_first ? t->steps * row : row;
    if (rest == 0) goto done;
    bool before = t->linear_before_reset;
    ESPL_TRY(begin_matrix(s, t, r, t->padded, before, false, &d->candidate, diag));
    pack_gates(s, t, r, h, before && b ? b + (fed + rest) * t->hidden : NULL, index, fed, rest, 0,
               &d->candidate);
    ESPL_TRY(centre(s, t, &d->candidate, diag));
    d->candidate.in_step = state;
    d->candidate.out_step = before ? t->padded * (int64_t)sizeof(float) : row;
    d->candidate.res_step = d->recurrent.res_step;
done:
    return status;
}

/* Bytes of one row of 16 units of a matrix. */
static int64_t block_bytes(const rnn_step *t, const matrix *m) {
    return t->sparse && m->sparse ? m->plan.bank.block : m->k * ESPL__NR * (t->integer ? 1 : 4);
}

static espl_status pack_all(espl_session *s, rnn_step *t, const matrix *w, const matrix *r, const float *bias,
                            espl_diag *diag) {
    int64_t gates = t->hidden * cells[t->kind].gates, blocks = t->gates / ESPL__NR;
    for (int d = 0; d < t->directions; d++) {
        espl_status status = pack_direction(s, t, w, r, bias ? bias + d * 2 * gates : NULL, d, diag);
        if (status != ESPL_OK) return status;
    }
    int64_t times = (t->seq + t->steps - 1) / t->steps;
    t->base.weight_bytes =
        (uint64_t)(t->directions * blocks) *
        (uint64_t)(block_bytes(t, w) * times + block_bytes(t, r) * t->seq + (bias ? 128 : 0));
    int64_t unit = t->fed * block_bytes(t, r), tile = TILE_BLOCKS / t->fed;
    t->chunk = ESPL_MAX(CHUNK_BYTES / unit / tile, 1) * tile;
    t->base.kernel = t->sparse    ? (t->integer ? "bank_rnn_u8" : "bank_rnn_f32")
                     : t->integer ? "rnn_u8"
                                  : "rnn_f32";
    if (t->sparse)
        t->base.core = t->integer ? "bank_gemv_u8_f32" : "bank_gemv_f32";
    else if (t->batch <= GEMV_ROWS)
        t->base.core = t->integer ? "gemv_u8_f32" : "gemv_f32";
    else
        t->base.core = t->integer ? "conv_u8_f32" : "conv_f32";
    return ESPL_OK;
}

static espl_status look(espl_session *s, const rnn_step *t, matrix *m, espl_diag *diag) {
    espl__weight_order all = espl__weight_rows(t->directions * cells[t->kind].gates * t->hidden, 1, m->k);
    return espl__sparse_look(s, &m->w, &all, true, &m->plan, &m->sparse, diag);
}

typedef struct packing {
    const matrix *w, *r;
    const float *bias;
} packing;

static espl_status pack_way(espl_session *s, step *st, bool sparse, void *arg, espl_diag *diag) {
    const packing *p = arg;
    rnn_step *t = (rnn_step *)st;
    t->base.sparse = t->sparse = sparse;
    return pack_all(s, t, p->w, p->r, p->bias, diag);
}

static const char *choice_of(espl_session *s, const espl__node *n, const rnn_step *t, const matrix *w,
                             const matrix *r) {
    char first[48] = "dense", second[48] = "dense";
    if (w->sparse) espl__sparse_text(&w->plan, first, sizeof first);
    if (r->sparse) espl__sparse_text(&r->plan, second, sizeof second);
    return espl__sparse_key(s, "%s %c %d %dx%d %d>%d %s %s", n->op->name, t->integer ? 'u' : 'f',
                            t->directions, (int)t->seq, (int)t->batch, (int)t->size, (int)t->hidden, first,
                            second);
}

static espl_status pack_chosen(espl_session *s, const espl__node *n, rnn_step *t, const matrix *w,
                               const matrix *r, const float *bias, espl_diag *diag) {
    static const char *const kernels[2][2] = {{"rnn_f32", "bank_rnn_f32"}, {"rnn_u8", "bank_rnn_u8"}};
    packing p = {w, r, bias};
    if (!w->sparse && !r->sparse) return pack_all(s, t, w, r, bias, diag);
    return espl__sparse_lower(s, &t->base, sizeof *t, choice_of(s, n, t, w, r), true, kernels[t->integer],
                              pack_way, &p, diag);
}

static espl_status pack(espl_session *s, const espl__node *n, rnn_step *t, matrix *w, matrix *r,
                        espl_diag *diag) {
    espl_status status = ESPL_OK;
    weights b = {0};
    if (!t->integer) {
        ESPL_TRY(float_matrix(s, n->inputs[W], w, diag));
        ESPL_TRY(float_matrix(s, n->inputs[R], r, diag));
    }
    if (espl__in(n, B)) ESPL_TRY(espl__weights_float(s, n->inputs[B], &b, diag));
    ESPL_TRY(look(s, t, w, diag));
    ESPL_TRY(look(s, t, r, diag));
    ESPL_TRY(pack_chosen(s, n, t, w, r, b.data, diag));
done:
    espl__weights_done(s, &w->w);
    espl__weights_done(s, &r->w);
    espl__weights_done(s, &b);
    return status;
}

/* --- planning -------------------------------------------------------------------------------- */

/* Every part of the room begins with a cache line of its own. */
static int64_t reserve(rnn_step *t, int64_t bytes) {
    int64_t at = t->bytes;
    t->bytes += (bytes + 63) / 64 * 64;
    return at;
}

static espl_status plan_room(espl_session *s, rnn_step *t, espl_diag *diag) {
    int64_t count = t->batch * t->padded, state = count * (int64_t)sizeof(float);
    int64_t row = t->gates * (int64_t)sizeof(float);
    reserve(t, t->steps * t->batch * row);
    t->gates_at = reserve(t, t->batch * row);
    for (int i = 0; i < 2; i++) t->state_at[i] = reserve(t, state);
    t->c_at = reserve(t, t->kind == RNN_LSTM ? state : 0);
    t->part_at = reserve(t, t->kind == RNN_GRU ? state : 0);
    t->codes_at = reserve(t, t->integer ? count : 0);
    t->mult_at = reserve(t, t->moving ? row : 0);
    t->work = espl__plan_buffer(s, BUFFER_WORK, (uint64_t)t->bytes);
    return t->work < 0 ? espl__nomem(diag, (uint64_t)t->bytes) : ESPL_OK;
}

static void choose_state_grid(const espl__node *n, rnn_step *t) {
    t->h_scale = 1;
    t->h_zero = 128;
    t->moving = t->integer;
    for (int i = RNN_Y; i <= RNN_Y_H && t->moving; i++)
        if (espl__out(n, i) && espl__plan_grid(espl__out(n, i), &t->h_scale, &t->h_zero)) t->moving = false;
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
    const view *views[] = {&t->x, &t->h0, &t->c0, &t->out[RNN_Y], &t->out[RNN_Y_H], &t->out[RNN_Y_C]};
    for (size_t i = 0; i < ESPL_COUNT(views); i++)
        if (views[i]->buffer >= 0) espl__plan_use(s, views[i]->buffer);
    espl__plan_use(s, t->work);
}

espl_status espl__lower_rnn(espl_session *s, espl__node *n, bool *taken, espl_diag *diag) {
    espl_status status = ESPL_OK;
    rnn_step plan = {0};
    matrix w = {0}, r = {0};
    if (!read_step(n, &plan)) return ESPL_OK;
    *taken = true;
    plan.integer = espl__plan_store_type(n->inputs[X]) == ESPL_U8 && integer_matrix(n->inputs[W], &w) &&
                   integer_matrix(n->inputs[R], &r);
    choose_state_grid(n, &plan);
    espl_dtype type = plan.integer ? ESPL_U8 : ESPL_F32;
    ESPL_TRY(espl__plan_require(s, n, n->inputs[X], type, WANT_ROWS, plan.integer ? 4 : 1, &plan.x, diag));
    ESPL_TRY(require_state(s, n, INITIAL_H, &plan.h0, diag));
    ESPL_TRY(require_state(s, n, INITIAL_C, &plan.c0, diag));
    for (int i = 0; i < RNN_OUTPUTS; i++) ESPL_TRY(plan_rows(s, espl__out(n, i), &plan.out[i], diag));
    rnn_step *t = espl__plan_step(s, sizeof *t, n, plan.integer ? "rnn_u8" : "rnn_f32", espl__rnn_run);
    if (!t) return espl__nomem(diag, sizeof *t);
    plan.base = t->base;
    *t = plan;
    t->base.macs = n->op->macs(n);
    t->base.format = t->integer ? "s8" : "f32";
    ESPL_TRY(plan_room(s, t, diag));
    ESPL_TRY(pack(s, n, t, &w, &r, diag));
    use_views(s, t);
    for (int i = 0; i < RNN_OUTPUTS; i++) ESPL_TRY(produce_rows(s, n, espl__out(n, i), &t->out[i], diag));
done:
    return status;
}
