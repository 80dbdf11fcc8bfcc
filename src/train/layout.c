/* Which values lie channels-last, and the nodes that turn them. */
#include "train/engine.h"

static espl_status same_infer(const espl__node *node, espl_diag *diag) {
    return espl__set_out(node, 0, node->inputs[0]->dtype, &node->inputs[0]->shape, diag);
}

const espl__op espl__op_to_last = {
    .name = "ToLast",
    .domain = "espl.train",
    .min_inputs = 1,
    .max_inputs = 1,
    .min_outputs = 1,
    .max_outputs = 1,
    .since = 1,
    .until = 99,
    .infer = same_infer,
};
const espl__op espl__op_to_rows = {
    .name = "ToRows",
    .domain = "espl.train",
    .min_inputs = 1,
    .max_inputs = 1,
    .min_outputs = 1,
    .max_outputs = 1,
    .since = 1,
    .until = 99,
    .infer = same_infer,
};

espl_shape espl__train_shape(const espl__value *value, bool last) {
    espl_shape s = value->shape;
    if (!last || s.rank < 3) return s;
    for (int i = 1; i + 1 < s.rank; i++) s.dim[i] = value->shape.dim[i + 1];
    s.dim[s.rank - 1] = value->shape.dim[1];
    return s;
}

/* The other form of a value, made once. */
static espl__value *turned(espl_graph *g, espl__value *v, bool last, espl__value **other) {
    if (other[v->id]) return other[v->id];
    espl__node *n = espl__graph_node(g, last ? &espl__op_to_last : &espl__op_to_rows, "", 1, 1, 0);
    espl__value *out = n ? espl__graph_value(g, NULL) : NULL;
    if (!out) return NULL;
    n->inputs[0] = v;
    espl__node_set_output(n, 0, out);
    out->dtype = v->dtype;
    out->shape = v->shape;
    out->known_rank = true;
    out->mark = last;
    return other[v->id] = out;
}

/* Elementwise work on shapes in memory: possible where every operand has the full rank or one element. */
static bool any_last(const espl__node *n) {
    bool last = false;
    for (int i = 0; i < n->input_count; i++) {
        const espl__value *v = n->inputs[i];
        if (!v) continue;
        if (v->shape.rank != n->outputs[0]->shape.rank && espl_shape_count(&v->shape) != 1) return false;
        last |= v->mark;
    }
    return last;
}


static bool place_node(espl_graph *g, espl__node *n, espl__value **other) {
    const espl__grad *grad = espl__grad_find(n->op);
    espl__grad_layout layout = grad && grad->layout ? grad->layout(n) : ESPL__GRAD_ROWS;
    bool last = layout == ESPL__GRAD_LAST || (layout == ESPL__GRAD_ANY && any_last(n));
    for (int i = 0; i < n->input_count; i++) {
        espl__value *v = n->inputs[i];
        if (!v || v->shape.rank < 3) continue;
        bool weight = layout == ESPL__GRAD_LAST && i < ESPL__GRAD_INPUTS && ((grad->params | grad->stats) >> i & 1);
        bool want = last && !weight;
        if (v->mark == want) continue;
        n->inputs[i] = turned(g, v, want, other);
        if (!n->inputs[i]) return false;
    }
    for (int i = 0; i < n->output_count; i++)
        if (n->outputs[i]) n->outputs[i]->mark = last && n->outputs[i]->shape.rank >= 3;
    return true;
}

espl_status espl__train_layout(espl_graph *g, espl_diag *diag) {
    int count = g->node_count;
    espl__value **other = espl__calloc(g->arena.ctx, (uint64_t)g->value_count + 1, sizeof *other);
    if (!other) return espl__nomem(diag, (uint64_t)g->value_count * sizeof *other);
    for (int i = 0; i < g->value_count; i++) g->values[i]->mark = 0;
    bool ok = true;
    for (int i = 0; ok && i < count; i++) ok = place_node(g, g->nodes[i], other);
    for (int i = 0; ok && i < g->output_count; i++) {
        if (!g->outputs[i]->mark) continue;
        g->outputs[i] = turned(g, g->outputs[i], false, other);
        ok = g->outputs[i] != NULL;
    }
    espl__free(g->arena.ctx, other);
    return ok ? ESPL_OK : espl__nomem(diag, 0);
}
