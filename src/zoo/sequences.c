/* Layers of sequences: recurrent ones and attention. */
#include "zoo/builder.h"

#include <math.h>
#include <stdio.h>

/* --- recurrent --------------------------------------------------------------------------------------- */

static const struct {
    const char *op;
    int gates;
} cells[] = {
#define X(NAME, name, op, gates) {op, gates},
    ESPL_CELL_LIST(X)
#undef X
};

enum { INPUT_X, INPUT_W, INPUT_R, INPUT_B, INPUT_LENGTHS, INPUT_H, INPUT_C, RECURRENT_INPUTS };
enum { OUTPUT_Y, OUTPUT_H, OUTPUT_C, RECURRENT_OUTPUTS };

static void add_weights(espl_builder *b, const char *name, const espl_recurrent *r, int64_t in,
                        espl_value *inputs) {
    int64_t ways = r->bidirectional ? 2 : 1, rows = cells[r->cell].gates * r->hidden;
    espl_init own = {ESPL_INIT_UNIFORM, (float)(1 / sqrt((double)r->hidden))};
    inputs[INPUT_W] = espl__build_weight(b, name, "input.weight", (espl_shape){3, {ways, rows, in}},
                                         r->weight, own, (double)in, (double)rows);
    inputs[INPUT_R] = espl__build_weight(b, name, "hidden.weight", (espl_shape){3, {ways, rows, r->hidden}},
                                         r->weight, own, (double)r->hidden, (double)rows);
    inputs[INPUT_B] = espl__build_weight(b, name, "bias", (espl_shape){2, {ways, 2 * rows}}, r->weight, own,
                                         (double)r->hidden, (double)rows);
}

static espl_value add_state(espl_builder *b, const char *name, const char *part, const espl_recurrent *r,
                            int64_t batch) {
    char buf[ESPL__BUILD_NAME];
    espl_shape shape = {3, {r->bidirectional ? 2 : 1, batch, r->hidden}};
    return espl_build_state(b, espl__build_join(b, name, part, buf), shape);
}

/* [sequence, ways, batch, hidden] to [sequence, batch, ways * hidden]. */
static espl_value side_by_side(espl_builder *b, const char *name, espl_value y, const espl_recurrent *r) {
    char part[ESPL__BUILD_NAME];
    if (!r->bidirectional)
        return espl__build_simple(b, "Squeeze", name, y,
                                  espl__build_list(b, name, "axes", (const int64_t[]){1}, 1));
    y = espl_build_transpose(b, espl__build_join(b, name, "turned", part), y, (const int[]){0, 2, 1, 3});
    return espl_build_reshape(b, name, y, (espl_shape){3, {0, 0, 2 * r->hidden}});
}

static bool is_recurrent(espl_builder *b, const char *name, const espl_recurrent *r) {
    if ((int)r->cell < 0 || r->cell >= ESPL_CELL_COUNT || r->hidden < 1 || r->hidden > INT32_MAX / 8)
        espl__build_fail(b, ESPL_INVALID, name, "a cell and a number of hidden units from 1 to %d are needed",
                         INT32_MAX / 8);
    return !espl__build_failed(b);
}

espl_value espl_build_recurrent(espl_builder *b, const char *name, espl_value x, const espl_recurrent *r,
                                espl_value *last) {
    char part[ESPL__BUILD_NAME];
    espl_shape s;
    espl_value inputs[RECURRENT_INPUTS] = {x}, none = {0};
    bool lstm = r->cell == ESPL_CELL_LSTM;
    if (last) *last = none;
    if (!espl__build_ranked(b, name, x, 3, 3, &s) || !is_recurrent(b, name, r)) return none;
    add_weights(b, name, r, espl__build_known(b, name, &s, 2, "features"), inputs);
    if (r->state) inputs[INPUT_H] = add_state(b, name, "h0", r, s.dim[1]);
    if (r->state && lstm) inputs[INPUT_C] = add_state(b, name, "c0", r, s.dim[1]);
    espl__node *n = espl__build_begin(b, cells[r->cell].op, espl__build_join(b, name, "cells", part), inputs,
                                      !r->state ? INPUT_B + 1
                                      : lstm    ? INPUT_C + 1
                                                : INPUT_H + 1,
                                      lstm ? RECURRENT_OUTPUTS : OUTPUT_H + 1);
    espl__build_int(b, n, "hidden_size", r->hidden);
    if (r->bidirectional) espl__build_text(b, n, "direction", "bidirectional");
    if (r->cell == ESPL_CELL_GRU) espl__build_int(b, n, "linear_before_reset", 1);
    espl_value y = espl__build_end(b, n);
    if (!n || espl__build_failed(b)) return none;
    espl_value h = espl__build_handle(n->outputs[OUTPUT_H]);
    if (last) *last = h;
    if (r->state) espl_build_next(b, inputs[INPUT_H], h);
    if (r->state && lstm) espl_build_next(b, inputs[INPUT_C], espl__build_handle(n->outputs[OUTPUT_C]));
    return side_by_side(b, name, y, r);
}

/* --- attention --------------------------------------------------------------------------------------- */

/* A linear layer NAME.part of x, cut into heads: [batch, heads, sequence, width / heads], or the last two
 * turned. */
static espl_value add_heads(espl_builder *b, const char *name, const char *part, espl_value x, int64_t width,
                            const espl_attention *a, bool turned) {
    char layer[ESPL__BUILD_NAME], own[ESPL__BUILD_NAME];
    static const int by_head[] = {0, 2, 1, 3}, by_column[] = {0, 2, 3, 1};
    espl__build_join(b, name, part, layer);
    x = espl_build_linear(b, layer, x, &(espl_linear){.features = width, .bias = true, .weight = a->weight});
    x = espl_build_reshape(b, espl__build_join(b, layer, "split", own), x,
                           (espl_shape){4, {0, 0, a->heads, width / a->heads}});
    return espl_build_transpose(b, espl__build_join(b, layer, "heads", own), x, turned ? by_column : by_head);
}

/* Where the position that looks (row) stands before the one it would look at, a score of -10000: its weight
 * is then 0 in any format that holds the number. The mask is of truths, so that training leaves it alone. */
static espl_value add_mask(espl_builder *b, const char *name, espl_value scores, int64_t length) {
    char part[ESPL__BUILD_NAME];
    espl_shape shape = {2, {length, length}};
    espl_value mask = espl_build_constant(b, espl__build_join(b, name, "seen", part),
                                          &(espl_tensor){ESPL_BOOL, shape, NULL});
    espl__value *v = espl__build_get(b, mask);
    if (!v) return mask;
    uint8_t *seen = v->constant->data;
    for (int64_t i = 0; i < length; i++)
        for (int64_t j = 0; j <= i; j++) seen[i * length + j] = 1;
    espl_value inputs[] = {mask, scores, espl__build_scalar(b, name, "unseen", -10000)};
    return espl__build_end(
        b, espl__build_begin(b, "Where", espl__build_join(b, name, "masked", part), inputs, 3, 1));
}

/* softmax(Q K' / sqrt(d)), masked and thinned out as asked. */
static espl_value add_shares(espl_builder *b, const char *name, espl_value q, espl_value k,
                             const espl_attention *a, int64_t length, int64_t depth) {
    char part[ESPL__BUILD_NAME];
    espl_value scores = espl_build_matmul(b, espl__build_join(b, name, "products", part), q, k);
    espl_value factor = espl__build_scalar(b, name, "factor", (float)(1 / sqrt((double)depth)));
    scores = espl_build_mul(b, espl__build_join(b, name, "scores", part), scores, factor);
    if (a->causal) scores = add_mask(b, name, scores, length);
    espl_value shares = espl_build_softmax(b, espl__build_join(b, name, "shares", part), scores, -1);
    return espl_build_dropout(b, espl__build_join(b, name, "dropout", part), shares, a->dropout);
}

static bool check_attention(espl_builder *b, const char *name, const espl_attention *a, int64_t width,
                            const espl_shape *x, bool cross) {
    if (!espl__build_failed(b) && (a->heads < 1 || width % a->heads))
        espl__build_fail(b, ESPL_SHAPE, name, "a width of %lld does not divide into %lld heads",
                         (long long)width, (long long)a->heads);
    if (a->causal && cross) espl__build_fail(b, ESPL_INVALID, name, "only attention to itself is causal");
    if (a->causal) (void)espl__build_known(b, name, x, 1, "positions");
    if (a->causal && x->dim[1] > INT32_MAX)
        espl__build_fail(b, ESPL_LIMIT, name, "the sequence is too long for a mask");
    return !espl__build_failed(b);
}

espl_value espl_build_attention(espl_builder *b, const char *name, espl_value x, espl_value memory,
                                const espl_attention *a) {
    char part[ESPL__BUILD_NAME];
    espl_shape s, m;
    espl_value none = {0};
    bool cross = memory.id != 0;
    if (!espl__build_ranked(b, name, x, 3, 3, &s)) return none;
    if (!cross) memory = x;
    int64_t width = espl__build_known(b, name, &s, 2, "features");
    if (!espl__build_ranked(b, name, memory, 3, 3, &m) || !check_attention(b, name, a, width, &s, cross))
        return none;
    espl_value q = add_heads(b, name, "q", x, width, a, false),
               k = add_heads(b, name, "k", memory, width, a, true);
    espl_value v = add_heads(b, name, "v", memory, width, a, false);
    espl_value shares = add_shares(b, name, q, k, a, s.dim[1], width / a->heads);
    espl_value y = espl_build_matmul(b, espl__build_join(b, name, "mixed", part), shares, v);
    y = espl_build_transpose(b, espl__build_join(b, name, "turned", part), y, (const int[]){0, 2, 1, 3});
    y = espl_build_reshape(b, espl__build_join(b, name, "joined", part), y, (espl_shape){3, {0, 0, width}});
    return espl_build_linear(b, espl__build_join(b, name, "out", part), y,
                             &(espl_linear){.features = width, .bias = true, .weight = a->weight});
}
