/* LSTM, GRU and RNN. Time runs outside: for each direction and sample one state walks through the steps.
 *
 *   LSTM  i = f(x Wi' + H Ri' + Pi . C + Bi)      f alike with Pf . C      o alike with Po . C' (the new cell)
 *         c = g(x Wc' + H Rc' + Bc)     C' = f . C + i . c     H' = o . h(C')       gates stored as i, o, f, c
 *   GRU   z, r = f(x W' + H R' + B)     H' = (1 - z) . h + z . H                    gates stored as z, r, h
 *         h = g(x Wh' + (r . H) Rh' + Bh), or g(x Wh' + Wbh + r . (H Rh' + Rbh)) if linear before the reset
 *   RNN   H' = f(x W' + H R' + B) */
#include "kernels/kernels.h"
#include "ops/ops.h"

#include <inttypes.h>
#include <math.h>
#include <strings.h>

enum { LSTM, GRU, RNN };
enum { X, W, R, B, SEQUENCE_LENS, INITIAL_H, INITIAL_C, P };
static const int gate_count[] = {4, 3, 1};
static const int activation_count[] = {3, 2, 1};
static const char *const default_activations[] = {"Sigmoid,Tanh,Tanh", "Sigmoid,Tanh", "Tanh"};

/* X(name, alpha, beta): activations and the defaults of their parameters. */
#define ACTIVATION_LIST(X)     \
    X(Sigmoid, 0, 0)           \
    X(Tanh, 0, 0)              \
    X(Relu, 0, 0)              \
    X(LeakyRelu, 0.01f, 0)     \
    X(ThresholdedRelu, 1, 0)   \
    X(HardSigmoid, 0.2f, 0.5f) \
    X(Elu, 1, 0)               \
    X(Affine, 1, 0)            \
    X(ScaledTanh, 1, 1)        \
    X(Softsign, 0, 0)          \
    X(Softplus, 0, 0)
typedef enum activation_kind {
#define ENUM(name, alpha, beta) ACT_##name,
    ACTIVATION_LIST(ENUM)
#undef ENUM
    ACT_COUNT
} activation_kind;
static const struct {
    const char *name;
    float alpha, beta;
} activation_rows[] = {
#define ROW(name, alpha, beta) {#name, alpha, beta},
    ACTIVATION_LIST(ROW)
#undef ROW
};

typedef struct activation {
    activation_kind kind;
    float alpha, beta;
} activation;

/* A node as it is meant. */
typedef struct cell {
    int kind, gates, directions;
    bool batch_first, reverse, linear_before_reset, couples_gates;
    int64_t hidden;
    float clip;
    activation act[6]; /* of the first direction, then of the second */
} cell;

/* --- reading a node -------------------------------------------------------------------------- */

static float list_float(const espl__attr *list, int i, float fallback) {
    return list && list->kind == ESPL__ATTR_FLOATS && i < list->count ? list->floats[i] : fallback;
}

/* alpha and beta hold the parameters of the activations that have some, in order. */
static espl_status read_activations(const espl__node *node, cell *c, espl_diag *diag) {
    const espl__attr *alphas = espl__attr_find(node, "activation_alpha"),
                     *betas = espl__attr_find(node, "activation_beta");
    const char *given = espl__attr_string(node, "activations", "");
    int per = activation_count[c->kind], total = per * c->directions, alpha_at = 0, beta_at = 0, k = 0;
    const char *text = given[0] ? given : default_activations[c->kind];
    for (int i = 0; i < total; i++) {
        if (!given[0] && i % per == 0) text = default_activations[c->kind];
        size_t length = strcspn(text, ",");
        for (k = 0; k < ACT_COUNT; k++)
            if (strlen(activation_rows[k].name) == length &&
                strncasecmp(activation_rows[k].name, text, length) == 0)
                break;
        if (k == ACT_COUNT)
            return espl__fail(diag, ESPL_UNSUPPORTED,
                              "%s: activation '%.*s' is not supported, or fewer than %d are given",
                              node->op->name, (int)ESPL_MIN(length, 40), text, total);
        bool has_alpha = activation_rows[k].alpha != 0,
             has_beta = activation_rows[k].beta != 0 || k == ACT_Affine;
        c->act[i] = (activation){(activation_kind)k, activation_rows[k].alpha, activation_rows[k].beta};
        if (has_alpha) c->act[i].alpha = list_float(alphas, alpha_at++, c->act[i].alpha);
        if (has_beta) c->act[i].beta = list_float(betas, beta_at++, c->act[i].beta);
        text += length + (text[length] == ',');
    }
    return ESPL_OK;
}

static espl_status read_cell(const espl__node *node, cell *c, espl_diag *diag) {
    const char *name = node->op->name, *direction = espl__attr_string(node, "direction", "forward");
    *c = (cell){.kind = strcmp(name, "LSTM") == 0 ? LSTM : strcmp(name, "GRU") == 0 ? GRU : RNN};
    c->gates = gate_count[c->kind];
    c->reverse = strcmp(direction, "reverse") == 0;
    c->directions = strcmp(direction, "bidirectional") == 0 ? 2 : 1;
    if (!c->reverse && c->directions == 1 && strcmp(direction, "forward") != 0)
        return espl__fail(diag, ESPL_FORMAT,
                          "%s: direction '%s' is none of forward, reverse and bidirectional", name,
                          direction);
    c->batch_first = espl__attr_int(node, "layout", 0) != 0;
    c->linear_before_reset = espl__attr_int(node, "linear_before_reset", 0) != 0;
    c->couples_gates = espl__attr_int(node, "input_forget", 0) != 0;
    c->clip = espl__attr_float(node, "clip", INFINITY);
    c->hidden = espl__attr_int(node, "hidden_size", 0);
    const espl__value *r = espl__in(node, R);
    if (r && r->known_rank && r->shape.rank == 3 && r->shape.dim[2] >= 0) {
        if (c->hidden != 0 && c->hidden != r->shape.dim[2])
            return espl__fail(diag, ESPL_SHAPE,
                              "%s: hidden_size is %" PRId64 " and the recurrent weights have %" PRId64, name,
                              c->hidden, r->shape.dim[2]);
        c->hidden = r->shape.dim[2];
    }
    if (c->hidden < 1 || c->hidden > INT32_MAX)
        return espl__fail(diag, ESPL_SHAPE, "%s: a hidden size of %" PRId64 " is not possible", name,
                          c->hidden);
    return read_activations(node, c, diag);
}

/* --- inference ------------------------------------------------------------------------------- */

static espl_status check_dims(const espl__node *node, int input, const char *what, int rank,
                              const int64_t *dims, espl_diag *diag) {
    const espl__value *v = espl__in(node, input);
    char have[160], want[160];
    if (!v || !v->known_rank) return ESPL_OK;
    espl_shape expected = {.rank = rank};
    bool fits = v->shape.rank == rank;
    for (int i = 0; i < rank; i++) {
        expected.dim[i] = dims[i];
        fits = fits && espl__dims_agree(v->shape.dim[i], dims[i]);
    }
    if (fits) return ESPL_OK;
    return espl__fail(diag, ESPL_SHAPE, "%s: %s has shape %s where %s is expected", node->op->name, what,
                      espl_shape_text(&v->shape, have, sizeof have),
                      espl_shape_text(&expected, want, sizeof want));
}

static espl_status check_inputs(const espl__node *node, const cell *c, int64_t seq, int64_t batch,
                                int64_t size, espl_diag *diag) {
    espl_status status;
    int64_t d = c->directions, h = c->hidden, g = c->gates;
    const int64_t state[2][3] = {{d, batch, h}, {batch, d, h}};
    (void)seq;
    ESPL_TRY(check_dims(node, W, "W", 3, (int64_t[]){d, g * h, size}, diag));
    ESPL_TRY(check_dims(node, R, "R", 3, (int64_t[]){d, g * h, h}, diag));
    ESPL_TRY(check_dims(node, B, "B", 2, (int64_t[]){d, 2 * g * h}, diag));
    ESPL_TRY(check_dims(node, SEQUENCE_LENS, "sequence_lens", 1, &batch, diag));
    ESPL_TRY(check_dims(node, INITIAL_H, "initial_h", 3, state[c->batch_first], diag));
    ESPL_TRY(check_dims(node, INITIAL_C, "initial_c", 3, state[c->batch_first], diag));
    ESPL_TRY(check_dims(node, P, "P", 2, (int64_t[]){d, 3 * h}, diag));
done:
    return status;
}

static espl_status infer(const espl__node *node, espl_diag *diag) {
    espl_status status;
    cell c;
    ESPL_TRY(espl__op_begin(node, diag));
    for (int i = 0; i < node->input_count; i++)
        ESPL_TRY(espl__check_dtype(node, i, i == SEQUENCE_LENS ? ESPL__T(S32) : ESPL__T(F32), diag));
    ESPL_TRY(espl__check_rank(node, X, 3, 3, diag));
    ESPL_TRY(read_cell(node, &c, diag));
    const espl__value *x = espl__in(node, X);
    int64_t seq = ESPL_DIM_UNKNOWN, batch = ESPL_DIM_UNKNOWN, size = ESPL_DIM_UNKNOWN;
    if (x->known_rank) {
        seq = x->shape.dim[c.batch_first];
        batch = x->shape.dim[!c.batch_first];
        size = x->shape.dim[2];
    }
    if (size == 0) return espl__fail(diag, ESPL_SHAPE, "%s: the input has no features", node->op->name);
    ESPL_TRY(check_inputs(node, &c, seq, batch, size, diag));
    int64_t d = c.directions, h = c.hidden;
    espl_shape all =
        c.batch_first ? (espl_shape){4, {batch, seq, d, h}} : (espl_shape){4, {seq, d, batch, h}};
    espl_shape last = c.batch_first ? (espl_shape){3, {batch, d, h}} : (espl_shape){3, {d, batch, h}};
    ESPL_TRY(espl__set_out(node, 0, ESPL_F32, &all, diag));
    ESPL_TRY(espl__set_out(node, 1, ESPL_F32, &last, diag));
    ESPL_TRY(espl__set_out(node, 2, ESPL_F32, &last, diag));
done:
    return status;
}

/* --- evaluation ------------------------------------------------------------------------------ */

static float activate_one(const activation *a, float x) {
    float e = x;
    switch (a->kind) {
        case ACT_Relu: return x < 0 ? 0.0f : x;
        case ACT_LeakyRelu: return x < 0 ? a->alpha * x : x;
        case ACT_ThresholdedRelu: return x >= a->alpha ? x : 0.0f;
        case ACT_HardSigmoid: return fminf(fmaxf(a->alpha * x + a->beta, 0.0f), 1.0f);
        case ACT_Elu: espl__kernels_get()->exp_f32(&e, &e, 1); return x >= 0 ? x : a->alpha * (e - 1.0f);
        case ACT_Affine: return a->alpha * x + a->beta;
        case ACT_ScaledTanh:
            e = a->beta * x;
            espl__kernels_get()->tanh_f32(&e, &e, 1);
            return a->alpha * e;
        case ACT_Softsign: return x / (1.0f + fabsf(x));
        case ACT_Softplus:
            e = -fabsf(x);
            espl__kernels_get()->exp_f32(&e, &e, 1);
            return (x > 0 ? x : 0.0f) + log1pf(e);
        default: return x;
    }
}

static void activate(const activation *a, float *x, int64_t n) {
    if (a->kind == ACT_Sigmoid) {
        espl__kernels_get()->sigmoid_f32(x, x, n);
    } else if (a->kind == ACT_Tanh) {
        espl__kernels_get()->tanh_f32(x, x, n);
    } else {
        for (int64_t i = 0; i < n; i++) x[i] = activate_one(a, x[i]);
    }
}

static void clip(float limit, float *x, int64_t n) {
    if (limit == INFINITY) return;
    for (int64_t i = 0; i < n; i++) x[i] = x[i] > limit ? limit : x[i] < -limit ? -limit : x[i];
}

/* One direction of one sample: weights of the direction, the state, and room for the gates. */
typedef struct run {
    const cell *c;
    const activation *act;
    const float *w, *r, *b, *p;
    int64_t size;
    float *h, *cell, *gates, *extra;
} run;

static void set_bias(const run *s, int64_t gates) {
    int64_t n = s->c->hidden * gates, recurrent = s->c->hidden * s->c->gates;
    for (int64_t i = 0; i < n; i++) s->gates[i] = s->b ? s->b[i] + s->b[recurrent + i] : 0.0f;
}

static void step_lstm(const run *s, const float *x) {
    int64_t n = s->c->hidden;
    float *i = s->gates, *o = i + n, *f = o + n, *g = f + n;
    set_bias(s, 4);
    espl__matvec(s->w, 4 * n, s->size, x, s->gates);
    espl__matvec(s->r, 4 * n, n, s->h, s->gates);
    for (int64_t k = 0; k < n && s->p; k++) {
        i[k] += s->p[k] * s->cell[k];
        f[k] += s->p[2 * n + k] * s->cell[k];
    }
    clip(s->c->clip, i, n);
    activate(&s->act[0], i, n);
    if (s->c->couples_gates) {
        for (int64_t k = 0; k < n; k++) f[k] = 1.0f - i[k];
    } else {
        clip(s->c->clip, f, n);
        activate(&s->act[0], f, n);
    }
    clip(s->c->clip, g, n);
    activate(&s->act[1], g, n);
    for (int64_t k = 0; k < n; k++) {
        s->cell[k] = f[k] * s->cell[k] + i[k] * g[k];
        if (s->p) o[k] += s->p[n + k] * s->cell[k];
        s->h[k] = s->cell[k];
    }
    clip(s->c->clip, o, n);
    activate(&s->act[0], o, n);
    activate(&s->act[2], s->h, n);
    for (int64_t k = 0; k < n; k++) s->h[k] *= o[k];
}

static void step_gru(const run *s, const float *x) {
    int64_t n = s->c->hidden;
    float *z = s->gates, *r = z + n, *g = r + n, *part = s->extra;
    set_bias(s, 2);
    for (int64_t k = 0; k < n; k++) g[k] = s->b ? s->b[2 * n + k] : 0.0f;
    espl__matvec(s->w, 3 * n, s->size, x, s->gates);
    espl__matvec(s->r, 2 * n, n, s->h, s->gates);
    clip(s->c->clip, z, 2 * n);
    activate(&s->act[0], z, 2 * n);
    const float *recurrent_bias = s->b ? s->b + 5 * n : NULL;
    if (s->c->linear_before_reset) {
        for (int64_t k = 0; k < n; k++) part[k] = recurrent_bias ? recurrent_bias[k] : 0.0f;
        espl__matvec(s->r + 2 * n * n, n, n, s->h, part);
        for (int64_t k = 0; k < n; k++) g[k] += r[k] * part[k];
    } else {
        for (int64_t k = 0; k < n; k++) {
            part[k] = r[k] * s->h[k];
            if (recurrent_bias) g[k] += recurrent_bias[k];
        }
        espl__matvec(s->r + 2 * n * n, n, n, part, g);
    }
    clip(s->c->clip, g, n);
    activate(&s->act[1], g, n);
    for (int64_t k = 0; k < n; k++) s->h[k] = (1.0f - z[k]) * g[k] + z[k] * s->h[k];
}

static void step_rnn(const run *s, const float *x) {
    int64_t n = s->c->hidden;
    set_bias(s, 1);
    espl__matvec(s->w, n, s->size, x, s->gates);
    espl__matvec(s->r, n, n, s->h, s->gates);
    clip(s->c->clip, s->gates, n);
    activate(&s->act[0], s->gates, n);
    memcpy(s->h, s->gates, (size_t)n * sizeof(float));
}

static const float *input_data(const espl__node *node, const espl_tensor *in, int i) {
    return i < node->input_count ? in[i].data : NULL;
}
static float *output_data(const espl__node *node, espl_tensor *out, int i) {
    return i < node->output_count ? out[i].data : NULL;
}

/* Where sample b of direction d stands in [directions, batch, hidden], or with the batch first. */
static int64_t state_at(const cell *c, int64_t d, int64_t b, int64_t batch) {
    return (c->batch_first ? b * c->directions + d : d * batch + b) * c->hidden;
}

static void run_steps(const run *s, int64_t d, int64_t b, int64_t batch, int64_t seq, int64_t length,
                      const float *x, float *y) {
    const cell *c = s->c;
    int64_t n = c->hidden;
    bool backwards = c->reverse || d == 1;
    for (int64_t i = 0; i < seq; i++) {
        bool live = i < length;
        int64_t t = backwards && live ? length - 1 - i : i;
        const float *x_t = x + (c->batch_first ? b * seq + t : t * batch + b) * s->size;
        int64_t at = c->batch_first ? (b * seq + t) * c->directions + d : (t * c->directions + d) * batch + b;
        if (live) {
            if (c->kind == LSTM)
                step_lstm(s, x_t);
            else if (c->kind == GRU)
                step_gru(s, x_t);
            else
                step_rnn(s, x_t);
        }
        if (!y) continue;
        if (live)
            memcpy(y + at * n, s->h, (size_t)n * sizeof(float));
        else
            memset(y + at * n, 0, (size_t)n * sizeof(float)); /* past the sample's own length */
    }
}

static void start_state(float *state, const float *initial, int64_t at, int64_t n) {
    for (int64_t k = 0; k < n; k++) state[k] = initial ? initial[at + k] : 0.0f;
}

static void eval(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    cell c;
    if (read_cell(node, &c, NULL) != ESPL_OK) return;
    int64_t n = c.hidden, g = c.gates, seq = in[X].shape.dim[c.batch_first],
            batch = in[X].shape.dim[!c.batch_first];
    const float *bias = input_data(node, in, B), *peephole = input_data(node, in, P);
    const float *first_h = input_data(node, in, INITIAL_H), *first_c = input_data(node, in, INITIAL_C);
    const int32_t *lengths = SEQUENCE_LENS < node->input_count ? in[SEQUENCE_LENS].data : NULL;
    float *last_h = output_data(node, out, 1), *last_c = output_data(node, out, 2);
    run s = {.c = &c, .size = in[X].shape.dim[2], .h = scratch};
    s.cell = s.h + n;
    s.extra = s.cell + n;
    s.gates = s.extra + n;
    for (int64_t d = 0; d < c.directions; d++) {
        s.act = c.act + d * activation_count[c.kind];
        s.w = (const float *)in[W].data + d * g * n * s.size;
        s.r = (const float *)in[R].data + d * g * n * n;
        s.b = bias ? bias + d * 2 * g * n : NULL;
        s.p = peephole ? peephole + d * 3 * n : NULL;
        for (int64_t b = 0; b < batch; b++) {
            int64_t at = state_at(&c, d, b, batch), length = lengths ? lengths[b] : seq;
            length = length < 0 ? 0 : ESPL_MIN(length, seq);
            start_state(s.h, first_h, at, n);
            start_state(s.cell, first_c, at, n);
            run_steps(&s, d, b, batch, seq, length, in[X].data, output_data(node, out, 0));
            if (last_h) memcpy(last_h + at, s.h, (size_t)n * sizeof(float));
            if (last_c) memcpy(last_c + at, s.cell, (size_t)n * sizeof(float));
        }
    }
}

static uint64_t scratch_bytes(const espl__node *node) {
    cell c;
    if (read_cell(node, &c, NULL) != ESPL_OK) return 0;
    return sizeof(float) * (uint64_t)c.hidden * (uint64_t)(3 + c.gates);
}

static int64_t macs(const espl__node *node) {
    const espl_shape *x = &node->inputs[X]->shape, *w = &node->inputs[W]->shape, *r = &node->inputs[R]->shape;
    int64_t steps = espl__mul_sat(x->dim[0], x->dim[1]);
    int64_t own = espl__mul_sat(espl__dims_product(w, 0, 3), steps),
            back = espl__mul_sat(espl__dims_product(r, 0, 3), steps);
    return own > INT64_MAX - back ? INT64_MAX : own + back;
}

static int weight_axis(const espl__node *node, int input) {
    (void)node;
    return input == W || input == R ? 1 : -1;
}

static int weight_inner_axis(const espl__node *node, int input) {
    (void)node;
    (void)input;
    return 2;
}

#define DEFINE_CELL(Name, inputs, outputs)                                \
    const espl__op espl__op_##Name = {.name = #Name,                      \
                                      .domain = "",                       \
                                      .min_inputs = 3,                    \
                                      .max_inputs = inputs,               \
                                      .min_outputs = 0,                   \
                                      .max_outputs = outputs,             \
                                      .since = 7,                         \
                                      .until = 21,                        \
                                      .infer = infer,                     \
                                      .eval = eval,                       \
                                      .scratch_bytes = scratch_bytes,     \
                                      .macs = macs,                       \
                                      .quant = ESPL__QUANT_COMPUTE,       \
                                      .weight_inputs = 1u << W | 1u << R, \
                                      .bias_inputs = 1u << B,             \
                                      .weight_axis = weight_axis,         \
                                      .weight_inner_axis = weight_inner_axis};
DEFINE_CELL(LSTM, 8, 3)
DEFINE_CELL(GRU, 6, 2)
DEFINE_CELL(RNN, 6, 2)
