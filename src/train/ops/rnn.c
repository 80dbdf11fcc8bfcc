/* LSTM, GRU and RNN (equations: ops/rnn.c). The products of all inputs are one product before the steps, and
 * those for the weights' gradients one after them. A step computes all samples; its units are shared out to
 * threads, each with its columns of the recurrent weights.
 *
 * LSTM, backwards, with d = dC + dH o (1 - tanh^2 C):
 *     do = dH tanh C    di = d c    df = d C_before    dc = d i    dC_before = d f
 * GRU, with h the candidate: dz = dH (H_before - h), dh = dH (1 - z), and through the reset as it stands. */
#include <math.h>
#include <strings.h>

#include "kernels/kernels.h"
#include "train/dense.h"
#include "train/ops/loops.h"

enum { LSTM, GRU, RNN };
enum { X, W, R, B, SEQUENCE_LENS, INITIAL_H, INITIAL_C, P };

typedef struct cell {
    int kind, directions, phases; /* phases: of a step, each after all of the other */
    int64_t gates, steps, batch, size, hidden;
    int64_t saved; /* reals a direction */
    int64_t parts; /* units are cut into so many */
    bool reverse, linear, relu;
    bool own_hidden; /* the states do not stand in the output in one piece */
} cell;

/* Only the activations that they have unless asked for others; those of RNN may be Relu. */
static espl_status read_activations(const espl__node *n, cell *k, espl_diag *diag) {
    static const char *const usual[] = {"Sigmoid,Tanh,Tanh", "Sigmoid,Tanh", "Tanh"};
    const char *given = espl__attr_string(n, "activations", "");
    size_t length = strlen(usual[k->kind]);
    if (!given[0]) return ESPL_OK;
    k->relu = k->kind == RNN && strncasecmp(given, "Relu", 4) == 0;
    const char *want = k->relu ? "Relu" : usual[k->kind];
    if (k->relu) length = 4;
    bool same = true;
    for (int d = 0; same && d < k->directions; d++) {
        same = strncasecmp(given, want, length) == 0 && (given[length] == 0 || given[length] == ',');
        if (same) given += length + (given[length] == ',');
    }
    if (same) return ESPL_OK;
    return espl__fail(diag, ESPL_UNSUPPORTED, "%s: training has no other activations than %s", n->op->name,
                      want);
}

static espl_status read_cell(espl__call *c, cell *k, espl_diag *diag) {
    const espl__node *n = c->node;
    const char *direction = espl__attr_string(n, "direction", "forward");
    k->kind = espl__node_is(n, "LSTM") ? LSTM : espl__node_is(n, "GRU") ? GRU : RNN;
    k->gates = k->kind == LSTM ? 4 : k->kind == GRU ? 3 : 1;
    k->reverse = strcmp(direction, "reverse") == 0;
    k->directions = strcmp(direction, "bidirectional") == 0 ? 2 : 1;
    k->linear = k->kind == GRU && espl__attr_int(n, "linear_before_reset", 0) != 0;
    k->phases = k->kind == GRU && !k->linear ? 2 : 1;
    if (espl__attr_int(n, "layout", 0) || espl__attr_int(n, "input_forget", 0) ||
        espl__attr_find(n, "clip") || espl__in(n, P) || espl__in(n, SEQUENCE_LENS))
        return espl__fail(diag, ESPL_UNSUPPORTED,
                          "%s: training has no layout, input_forget, clip, peepholes or sequence_lens",
                          n->op->name);
    k->steps = c->in[X].shape.dim[0];
    k->batch = c->in[X].shape.dim[1];
    k->size = c->in[X].shape.dim[2];
    k->hidden = c->in[R].shape.dim[2];
    if (k->steps < 1 || k->batch < 1)
        return espl__fail(diag, ESPL_SHAPE, "%s: no steps or no samples", n->op->name);
    return read_activations(n, k, diag);
}

static espl_status prepare(espl__call *c, espl_diag *diag) {
    espl_status status = espl__state(c, sizeof(cell), diag);
    if (status != ESPL_OK) return status;
    cell *k = c->state;
    status = read_cell(c, k, diag);
    if (status != ESPL_OK) return status;
    int64_t state = k->batch * k->hidden, all = k->steps * state;
    k->own_hidden = k->directions > 1 || !c->node->outputs[0];
    k->saved = all * (k->gates + (k->kind != RNN) + k->own_hidden);
    k->parts =
        state * k->hidden < 1 << 14 ? 1 : ESPL_MAX(1, ESPL_MIN(k->hidden / 16, espl__pool_threads(c->pool)));
    uint64_t real = espl__real_bytes(c);
    c->saved_bytes = (uint64_t)(k->directions * k->saved) * real;
    c->forward_bytes = (uint64_t)(state + k->gates * k->hidden) * real;
    c->backward_bytes = (uint64_t)(3 * state + all * (k->gates + (k->kind == GRU))) * real;
    return ESPL_OK;
}

#define REAL_FILE "train/ops/rnn.inc.h"
#include "train/real.h"

static void forward(espl__call *c) {
    ESPL__REAL(c, rnn_forward)(c);
}
static void backward(espl__call *c) {
    ESPL__REAL(c, rnn_backward)(c);
}

/* Of inputs: the sequence, weights, biases and initial states. */
#define DEFINE(Name)                                            \
    const espl__grad espl__grad_##Name = {.op = #Name,          \
                                          .inputs = 0x6f,       \
                                          .params = 0x0e,       \
                                          .reads_in = 0x67,     \
                                          .reads_out = 1,       \
                                          .prepare = prepare,   \
                                          .forward = forward,   \
                                          .backward = backward, \
                                          .release = espl__state_free};
DEFINE(LSTM)
DEFINE(GRU)
DEFINE(RNN)
