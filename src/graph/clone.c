#include "graph/graph.h"

static bool copy_body(espl_graph *to, espl__node *node, const espl__attr *a, bool own) {
    espl_graph *body = a->body;
    if (own && espl__graph_clone(a->body, &body, NULL) != ESPL_OK) return false;
    if (own) espl__graph_own(to, body);
    return espl__attr_set_graph(to, node, a->name, body);
}

bool espl__attr_copy(espl_graph *to, espl__node *node, const espl__attr *a, bool own) {
    switch (a->kind) {
        case ESPL__ATTR_INT:
            return espl__attr_set_int(to, node, a->name, a->i);
        case ESPL__ATTR_FLOAT:
            return espl__attr_set_float(to, node, a->name, a->f);
        case ESPL__ATTR_STRING:
            return espl__attr_set_string(to, node, a->name, a->s);
        case ESPL__ATTR_STRINGS:
            return espl__attr_set_strings(to, node, a->name, a->s);
        case ESPL__ATTR_INTS:
            return espl__attr_set_ints(to, node, a->name, a->ints, a->count);
        case ESPL__ATTR_FLOATS:
            return espl__attr_set_floats(to, node, a->name, a->floats, a->count);
        case ESPL__ATTR_TENSOR:
            return espl__attr_set_tensor(to, node, a->name, a->tensor);
        case ESPL__ATTR_GRAPH:
            return copy_body(to, node, a, own);
    }
    return false;
}

enum { LENT_BYTES = 4096 }; /* smaller constants are copied: operators look at them at any time */

static espl_tensor *lent_tensor(espl_graph *to, const espl_tensor *from) {
    espl_tensor *t = espl__arena_alloc(&to->arena, sizeof *t);
    if (t) *t = *from;
    return t;
}

static bool copy_value(espl_graph *to, const espl__value *v) {
    espl__value *c = espl__graph_value(to, v->name);
    if (!c) return false;
    if (v->constant) {
        c->lent = to->lender && espl__tensor_bytes(v->constant) >= LENT_BYTES;
        c->constant =
            c->lent ? lent_tensor(to, v->constant)
                    : espl__graph_tensor(to, v->constant->dtype, &v->constant->shape, v->constant->data);
        if (!c->constant) return false;
    }
    c->kind = v->kind;
    c->dtype = v->dtype;
    c->shape = v->shape;
    c->known_rank = v->known_rank;
    c->is_input = v->is_input;
    c->origin = v->id;
    c->zeros = v->zeros;
    return v->quant.format == ESPL_FORMAT_F32 ||
           espl__graph_copy_quant(to, c, &v->quant);
}

static bool copy_node(espl_graph *to, const espl__node *n) {
    int attrs = 0;
    for (int i = 0; i < n->attr_count; i++) attrs += n->attrs[i].name != NULL;
    espl__node *c = espl__graph_node(to, n->op, n->name, n->input_count, n->output_count, attrs);
    if (!c) return false;
    c->opset = n->opset;
    c->origin = n->id;
    for (int i = 0; i < n->input_count; i++)
        if (n->inputs[i]) c->inputs[i] = to->values[n->inputs[i]->id];
    for (int i = 0; i < n->output_count; i++)
        if (n->outputs[i]) espl__node_set_output(c, i, to->values[n->outputs[i]->id]);
    for (int i = 0; i < n->attr_count; i++)
        if (n->attrs[i].name && !espl__attr_copy(to, c, &n->attrs[i], true)) return false;
    return true;
}

static espl_status copy_graph(const espl_graph *graph, const espl_graph *lender, espl_graph **out,
                              espl_diag *diag) {
    espl_graph *g;
    espl_status status = espl__graph_create(graph->arena.ctx, &g, diag);
    if (status != ESPL_OK) return status;
    g->lender = lender;
    bool good = (g->name = espl__arena_strdup(&g->arena, graph->name)) != NULL &&
                (g->file = espl__arena_strdup(&g->arena, graph->file)) != NULL;
    g->opset = graph->opset;
    g->formals = graph->formals;
    for (int i = 0; good && i < graph->value_count; i++) good = copy_value(g, graph->values[i]);
    for (int i = 0; good && i < graph->node_count; i++) good = copy_node(g, graph->nodes[i]);
    if (good) {
        g->inputs = espl__arena_alloc(&g->arena, sizeof(void *) * (uint64_t)(graph->input_count + 1));
        g->outputs = espl__arena_alloc(&g->arena, sizeof(void *) * (uint64_t)(graph->output_count + 1));
        good = g->inputs && g->outputs;
    }
    if (!good) {
        espl_graph_destroy(&g);
        return espl__nomem(diag, 0);
    }
    g->input_count = graph->input_count;
    g->output_count = graph->output_count;
    for (int i = 0; i < g->input_count; i++) g->inputs[i] = g->values[graph->inputs[i]->id];
    for (int i = 0; i < g->output_count; i++) g->outputs[i] = g->values[graph->outputs[i]->id];
    *out = g;
    return ESPL_OK;
}

espl_status espl__graph_clone(const espl_graph *graph, espl_graph **out, espl_diag *diag) {
    return copy_graph(graph, NULL, out, diag);
}

espl_status espl__graph_share(const espl_graph *graph, espl_graph **out, espl_diag *diag) {
    return copy_graph(graph, graph, out, diag);
}

void espl__graph_unlend(espl_graph *g) {
    for (int i = 0; i < g->value_count; i++) {
        if (g->values[i]->lent) g->values[i]->constant->data = NULL;
        g->values[i]->lent = false;
    }
    if (g->lender) espl__file_drop(&g->lender->bytes, g->lender->bytes.data, g->lender->bytes.length);
    g->lender = NULL;
}

void espl__graph_drop(const espl_graph *g, const void *bytes, uint64_t count) {
    espl__file_drop(g->lender ? &g->lender->bytes : &g->bytes, bytes, count);
}
