/* Checks a graph's rules and puts its nodes in topological order. */
#include "graph/graph.h"

static espl_status check_node(const espl_graph *g, const espl__node *n, espl_diag *diag) {
    char label[160];
    const espl__op *op = n->op;
    espl__node_label(n, label, sizeof label);
    (void)g;
    int present = n->input_count;
    while (present > 0 && !n->inputs[present - 1]) present--;
    if (present < op->min_inputs || (op->max_inputs >= 0 && present > op->max_inputs))
        return espl__fail(diag, ESPL_FORMAT, "node %s: has %d inputs, %s takes %d to %d", label, present, op->name,
                          op->min_inputs, op->max_inputs);
    if (n->output_count < op->min_outputs || (op->max_outputs >= 0 && n->output_count > op->max_outputs))
        return espl__fail(diag, ESPL_FORMAT, "node %s: has %d outputs, %s gives %d to %d", label, n->output_count,
                          op->name, op->min_outputs, op->max_outputs);
    for (int i = 0; i < op->min_inputs; i++)
        if (!n->inputs[i])
            return espl__fail(diag, ESPL_FORMAT, "node %s: input %d is required and absent", label, i);
    for (int i = 0; i < n->input_count; i++) {
        const espl__value *v = n->inputs[i];
        if (v && !v->producer && !v->constant && !v->is_input)
            return espl__fail(diag, ESPL_FORMAT, "node %s: input '%s' is produced by nothing", label, v->name);
    }
    for (int i = 0; i < n->output_count; i++) {
        const espl__value *v = n->outputs[i];
        if (v && (v->producer != n || v->constant || v->is_input))
            return espl__fail(diag, ESPL_FORMAT, "node %s: output '%s' is produced twice", label, v->name);
    }
    if (n->opset < op->since || n->opset > op->until)
        return espl__fail(diag, ESPL_UNSUPPORTED, "node %s: opset %d is not supported for it, %d to %d are", label,
                          n->opset, op->since, op->until);
    return ESPL_OK;
}

/* Kahn's algorithm, stable: node->mark counts the inputs that are not computed yet. */
static espl_status sort(espl_graph *g, espl_diag *diag) {
    bool ordered = true;
    for (int i = 0; i < g->node_count; i++)
        for (int j = 0; j < g->nodes[i]->input_count; j++) {
            const espl__value *v = g->nodes[i]->inputs[j];
            if (v && v->producer && v->producer->id >= i) ordered = false;
        }
    if (ordered) return ESPL_OK;
    espl_context *ctx = g->arena.ctx;
    espl__node **sorted = espl__calloc(ctx, (uint64_t)g->node_capacity, sizeof *sorted);
    if (!sorted) return espl__nomem(diag, (uint64_t)g->node_count * sizeof *sorted);
    int done = 0;
    for (int i = 0; i < g->node_count; i++) g->nodes[i]->mark = 0;
    for (bool moved = true; moved && done < g->node_count;) {
        moved = false;
        for (int i = 0; i < g->node_count; i++) {
            espl__node *n = g->nodes[i];
            bool ready = n->mark == 0;
            for (int j = 0; j < n->input_count && ready; j++) {
                const espl__value *v = n->inputs[j];
                ready = !v || !v->producer || v->producer->mark == 1;
            }
            if (!ready) continue;
            n->mark = 1;
            sorted[done++] = n;
            moved = true;
        }
    }
    espl_status status = ESPL_OK;
    if (done < g->node_count) {
        char label[160];
        const espl__node *stuck = NULL;
        for (int i = 0; i < g->node_count && !stuck; i++)
            if (g->nodes[i]->mark == 0) stuck = g->nodes[i];
        status = espl__fail(diag, ESPL_FORMAT, "node %s: waits for its own output; the graph has a cycle",
                            espl__node_label(stuck, label, sizeof label));
        espl__free(ctx, sorted);
    } else {
        espl__free(ctx, g->nodes);
        g->nodes = sorted;
        for (int i = 0; i < done; i++) sorted[i]->id = i;
    }
    for (int i = 0; i < g->node_count; i++) g->nodes[i]->mark = 0;
    return status;
}

espl_status espl__graph_verify(espl_graph *g, espl_diag *diag) {
    for (int i = 0; i < g->node_count; i++) {
        espl_status status = check_node(g, g->nodes[i], diag);
        if (status != ESPL_OK) return status;
    }
    for (int i = 0; i < g->output_count; i++) {
        const espl__value *v = g->outputs[i];
        if (!v->producer && !v->constant && !v->is_input)
            return espl__fail(diag, ESPL_FORMAT, "graph output '%s' is produced by nothing", v->name);
    }
    return sort(g, diag);
}
