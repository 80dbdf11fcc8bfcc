/* Checks a graph's rules and puts its nodes in topological order. */
#include "graph/graph.h"

static espl_status check_node(const espl__node *n, espl_diag *diag) {
    char label[160];
    const espl__op *op = n->op;
    espl__node_label(n, label, sizeof label);
    int present = n->input_count;
    while (present > 0 && !n->inputs[present - 1]) present--;
    if (present < op->min_inputs || (op->max_inputs >= 0 && present > op->max_inputs))
        return espl__fail(diag, ESPL_FORMAT, "node %s: has %d inputs, %s takes %d to %d", label, present,
                          op->name, op->min_inputs, op->max_inputs);
    if (n->output_count < op->min_outputs || (op->max_outputs >= 0 && n->output_count > op->max_outputs))
        return espl__fail(diag, ESPL_FORMAT, "node %s: has %d outputs, %s gives %d to %d", label,
                          n->output_count, op->name, op->min_outputs, op->max_outputs);
    for (int i = 0; i < op->min_inputs; i++)
        if (!n->inputs[i])
            return espl__fail(diag, ESPL_FORMAT, "node %s: input %d is required and absent", label, i);
    for (int i = 0; i < n->input_count; i++) {
        const espl__value *v = n->inputs[i];
        if (v && !v->producer && !v->constant && !v->is_input)
            return espl__fail(diag, ESPL_FORMAT, "node %s: input '%s' is produced by nothing", label,
                              v->name);
    }
    for (int i = 0; i < n->output_count; i++) {
        const espl__value *v = n->outputs[i];
        if (v && (v->producer != n || v->constant || v->is_input))
            return espl__fail(diag, ESPL_FORMAT, "node %s: output '%s' is produced twice", label, v->name);
    }
    if (n->opset < op->since || n->opset > op->until)
        return espl__fail(diag, ESPL_UNSUPPORTED, "node %s: opset %d is not supported for it, %d to %d are",
                          label, n->opset, op->since, op->until);
    return ESPL_OK;
}

static espl_status check_quant(const espl__value *v, espl_diag *diag) {
    const espl__quant *q = &v->quant;
    bool good = v->dtype == ESPL_F32 && q->count >= 1 && q->scale;
    if (good && v->constant)
        good = v->constant->dtype == espl__format_dtype(q->format) &&
               espl__quant_scales(q, &v->constant->shape) == q->count;
    else if (good)
        good = q->count == 1 && q->axis < 0 && q->group == 0 && !q->offset;
    if (good && espl__format_is_float(q->format)) good = q->count == 1 && q->scale[0] == 1 && !q->zero && !q->offset;
    return good ? ESPL_OK
                : espl__fail(diag, ESPL_FORMAT, "value '%s': format %s does not fit its type or its scales", v->name,
                             espl_format_name(q->format));
}

/* The node that computes input `index` and has not been placed yet; NULL if there is nothing to wait for. */
static espl__node *pending(const espl__node *n, int index) {
    const espl__value *v = n->inputs[index];
    return v && v->producer && v->producer->mark != 2 ? v->producer : NULL;
}

/* One step of a depth-first walk: node->id counts the inputs already looked at, node->mark is 1 while the
 * walk is below the node and 2 once it is placed. `stack` is the path down to the current node. */
static espl_status place(espl__node *root, espl__node **stack, espl__node **sorted, int *done,
                         espl_diag *diag) {
    int depth = 0;
    if (root->mark == 2) return ESPL_OK;
    stack[depth++] = root;
    root->mark = 1;
    while (depth > 0) {
        espl__node *n = stack[depth - 1], *next = NULL;
        while (n->id < n->input_count && !(next = pending(n, n->id))) n->id++;
        if (!next) {
            n->mark = 2;
            sorted[(*done)++] = n;
            depth--;
        } else if (next->mark == 1) {
            return espl__fail(diag, ESPL_FORMAT,
                              "node %s%s%s%s: waits for its own output; the graph has a cycle",
                              next->op->name, *next->name ? " '" : "", next->name, *next->name ? "'" : "");
        } else {
            next->mark = 1;
            stack[depth++] = next;
        }
    }
    return ESPL_OK;
}

/* Topological order in time linear in the edges, whatever order a hostile file has; nodes that stand right
 * stay. */
static espl_status sort(espl_graph *g, espl_diag *diag) {
    bool ordered = true;
    for (int i = 0; i < g->node_count; i++)
        for (int j = 0; j < g->nodes[i]->input_count; j++) {
            const espl__value *v = g->nodes[i]->inputs[j];
            if (v && v->producer && v->producer->id >= i) ordered = false;
        }
    if (ordered) return ESPL_OK;
    espl_context *ctx = g->arena.ctx;
    espl_status status = ESPL_OK;
    int done = 0;
    espl__node **sorted = espl__calloc(ctx, (uint64_t)g->node_capacity, sizeof *sorted);
    espl__node **stack = espl__calloc(ctx, (uint64_t)g->node_count, sizeof *stack);
    if (!sorted || !stack) {
        status = espl__nomem(diag, (uint64_t)g->node_count * sizeof *sorted);
        goto done;
    }
    for (int i = 0; i < g->node_count; i++) g->nodes[i]->mark = g->nodes[i]->id = 0;
    for (int i = 0; i < g->node_count && status == ESPL_OK; i++)
        status = place(g->nodes[i], stack, sorted, &done, diag);
    if (status == ESPL_OK) {
        espl__node **old = g->nodes;
        g->nodes = sorted;
        sorted = old;
    }
    for (int i = 0; i < g->node_count; i++) {
        g->nodes[i]->id = i;
        g->nodes[i]->mark = 0;
    }
done:
    espl__free(ctx, sorted);
    espl__free(ctx, stack);
    return status;
}

espl_status espl__graph_verify(espl_graph *g, espl_diag *diag) {
    for (int i = 0; i < g->node_count; i++) {
        espl_status status = check_node(g->nodes[i], diag);
        if (status != ESPL_OK) return status;
    }
    for (int i = 0; i < g->value_count; i++) {
        espl_status status = espl__is_quantized(g->values[i]) ? check_quant(g->values[i], diag) : ESPL_OK;
        if (status != ESPL_OK) return status;
    }
    for (int i = 0; i < g->output_count; i++) {
        const espl__value *v = g->outputs[i];
        if (!v->producer && !v->constant && !v->is_input)
            return espl__fail(diag, ESPL_FORMAT, "graph output '%s' is produced by nothing", v->name);
    }
    return sort(g, diag);
}
