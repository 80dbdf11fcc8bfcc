/* Nodes that do nothing. */
#include "passes/passes.h"

/* Nothing reads its mask, and it certainly does not train. */
static bool idle_dropout(const espl__node *n) {
    const espl__value *trains = n->input_count > 2 ? n->inputs[2] : NULL;
    bool trained = trains && (!trains->constant || *(const uint8_t *)trains->constant->data);
    return !trained && (n->output_count < 2 || !n->outputs[1] || n->outputs[1]->uses == 0);
}

static bool is_identity(const espl__node *n) {
    const espl__value *x = n->inputs[0], *y = n->outputs[0];
    if (espl__node_is(n, "Identity")) return true;
    if (espl__node_is(n, "Dropout")) return idle_dropout(n);
    if (espl__node_is(n, "Cast")) return x->dtype == y->dtype;
    if (espl__node_is(n, "Transpose")) {
        int64_t perm[ESPL_MAX_RANK];
        int rank = espl__attr_ints(n, "perm", perm, ESPL_MAX_RANK);
        for (int i = 0; i < rank && i < ESPL_MAX_RANK; i++)
            if (perm[i] != i) return false;
        return rank > 0 && rank <= ESPL_MAX_RANK;
    }
    if (n->op->is_view)
        return x->known_rank && y->known_rank && espl_shape_count(&x->shape) >= 0 &&
               espl_shape_equal(&x->shape, &y->shape);
    if (espl__node_is(n, "Concat")) return n->input_count == 1;
    return false;
}

/* Reshape of a reshape reads the first one's input if its own target does not copy dimensions (0). */
static bool skips_view(const espl__node *n) {
    const espl__node *before = n->inputs[0] ? n->inputs[0]->producer : NULL;
    if (!espl__node_is(n, "Reshape") || !before || !before->op->is_view || !n->inputs[1]->constant)
        return false;
    if (espl__is_quantized(n->inputs[0]) || before->inputs[0] == NULL) return false;
    const espl_tensor *target = n->inputs[1]->constant;
    for (int64_t i = 0; i < espl_shape_count(&target->shape); i++)
        if (((const int64_t *)target->data)[i] == 0) return false;
    return true;
}

espl_status espl__pass_simplify(espl_graph *g, espl_diag *diag) {
    /* By id: what stands for a value that goes. Nodes come after what they read, so one walk is enough. */
    espl__value **same = espl__calloc(g->arena.ctx, (uint64_t)g->value_count + 1, sizeof *same);
    if (!same) return espl__nomem(diag, (uint64_t)g->value_count * sizeof *same);
    espl__graph_count_uses(g);
    for (int i = 0; i < g->node_count; i++) {
        espl__node *n = g->nodes[i];
        for (int j = 0; j < n->input_count; j++)
            if (n->inputs[j] && same[n->inputs[j]->id]) n->inputs[j] = same[n->inputs[j]->id];
        if (n->input_count < 1 || !n->inputs[0] || !n->outputs[0]) continue;
        if (skips_view(n)) n->inputs[0] = n->inputs[0]->producer->inputs[0];
        espl__value *x = n->inputs[0], *y = n->outputs[0];
        if (!is_identity(n) || espl__is_quantized(y) || espl__graph_is_output(g, y)) continue;
        same[y->id] = x;
        n->mark = -1;
    }
    espl__free(g->arena.ctx, same);
    espl__graph_sweep(g);
    return espl__pass_dead_code(g, diag);
}
