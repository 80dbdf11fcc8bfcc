/* Tools that write operators on codes let Reshape, MaxPool, Pad and the like move the codes themselves:
 *
 *   c = QuantizeLinear(x)    d = MaxPool(c)
 *
 * becomes d = QuantizeLinear(MaxPool(DequantizeLinear(c))) on the same grid, which is the same to the bit, as
 * these operators only choose among elements and the grid keeps their order. Then absorb_qdq makes grids of
 * all of them. */
#include "passes/passes.h"

#include <math.h>

/* The grid of a QuantizeLinear: one scale for the tensor. NULL: it has another. */
static const float *single_scale(const espl__node *q) {
    if (!espl__node_is(q, "QuantizeLinear") || q->input_count < 3 || !q->inputs[2]) return NULL;
    const espl_tensor *scale = q->inputs[1]->constant, *zero = q->inputs[2]->constant;
    if (!scale || !zero || scale->dtype != ESPL_F32 || (zero->dtype != ESPL_U8 && zero->dtype != ESPL_S8))
        return NULL;
    if (espl_shape_count(&scale->shape) != 1 || espl_shape_count(&zero->shape) != 1) return NULL;
    const float *s = scale->data;
    return *s > 0 && isfinite(*s) ? s : NULL;
}

static float code_of(const espl_tensor *t) {
    return t->dtype == ESPL_S8 ? (float)*(const int8_t *)t->data : (float)*(const uint8_t *)t->data;
}

/* What Pad fills up with: a code becomes its number. `known`: it can be said. */
static espl__value *fill_of(espl_graph *g, const espl__node *n, const espl__node *q, float scale,
                            bool *known) {
    const espl__value *fill = n->input_count > 2 ? n->inputs[2] : NULL;
    const espl_tensor *zero = q->inputs[2]->constant;
    const espl_shape scalar = {.rank = 0};
    *known = fill ? fill->constant && fill->constant->dtype == zero->dtype &&
                        espl_shape_count(&fill->constant->shape) == 1
                  : code_of(zero) == 0;
    if (!*known || !fill) return NULL;
    float number = (code_of(fill->constant) - code_of(zero)) * scale;
    return espl__graph_constant(g, NULL, &(espl_tensor){ESPL_F32, scalar, &number});
}

static espl__node *convert(espl_graph *g, const char *op, espl__value *x, const espl__node *grid,
                           espl__value *y) {
    espl__node *n = espl__graph_node(g, espl__op_find("", op), "", 3, 1, 0);
    if (!n || !y) return NULL;
    n->opset = grid->opset;
    n->inputs[0] = x;
    n->inputs[1] = grid->inputs[1];
    n->inputs[2] = grid->inputs[2];
    espl__node_set_output(n, 0, y);
    return n;
}

/* Every output that holds elements is rounded again; MaxPool's indices are none. */
static bool rewrite(espl_graph *g, espl__node *n, const espl__node *q) {
    espl__value *x = espl__graph_value(g, NULL);
    int outputs = espl__node_is(n, "MaxPool") ? 1 : n->output_count;
    if (!x || !convert(g, "DequantizeLinear", n->inputs[0], q, x)) return false;
    x->dtype = ESPL_F32;
    n->inputs[0] = x;
    for (int i = 0; i < outputs; i++) {
        espl__value *codes = n->outputs[i], *y = codes ? espl__graph_value(g, NULL) : NULL;
        if (!codes) continue;
        if (!y) return false;
        y->dtype = ESPL_F32;
        espl__node_set_output(n, i, y);
        if (!convert(g, "QuantizeLinear", y, q, codes)) return false;
    }
    return true;
}

espl_status espl__pass_move_numbers(espl_graph *g, espl_diag *diag) {
    for (int i = 0, count = g->node_count; i < count; i++) {
        espl__node *n = g->nodes[i];
        if (n->op->quant != ESPL__QUANT_MOVE || n->input_count < 1 || !n->inputs[0] ||
            !n->inputs[0]->producer)
            continue;
        const espl__node *q = n->inputs[0]->producer;
        const float *scale = single_scale(q);
        if (!scale || n->inputs[0] != q->outputs[0]) continue;
        if (espl__node_is(n, "Pad")) {
            bool known;
            espl__value *fill = fill_of(g, n, q, *scale, &known);
            if (!known) continue;
            if (n->input_count > 2 && n->inputs[2]) {
                if (!fill) return espl__nomem(diag, 0);
                n->inputs[2] = fill;
            }
        }
        if (!rewrite(g, n, q)) return espl__nomem(diag, 0);
    }
    return ESPL_OK;
}
