/* Exporters write `x.view(N, -1)` as Shape, Gather, Concat and Reshape. When only the batch size is unknown,
 * the target shape is found by specialising the graph for some batch sizes: where all dimensions but one
 * agree, and that one grows with the batch, the target is a constant with -1 in that place.
 *
 * Sizes prove that only of what multiplies and divides; min(4, N) is N for small ones. So no other arithmetic
 * may be between Shape and the target. floor(a N / b) is the same at 2 and 61 only if it is 0, which no
 * target has. */
#include "passes/passes.h"

enum { SIZES = 3 };
static const int64_t sizes[SIZES] = {2, 3, 61};

static bool only_batch_unknown(const espl_graph *g) {
    bool any = false;
    for (int i = 0; i < g->input_count; i++) {
        const espl__value *v = g->inputs[i];
        if (!v->known_rank) return false;
        for (int d = 0; d < v->shape.rank; d++)
            if (v->shape.dim[d] < 0) {
                if (d > 0) return false;
                any = true;
            }
    }
    return any;
}

/* Specialises a clone for one batch size; *nodes (owned by the caller) keeps the clone's nodes by their old
 * ids. */
static espl_status probe(const espl_graph *g, int64_t batch, espl_graph **clone, espl__node ***nodes,
                         espl_diag *diag) {
    espl_context *ctx = g->arena.ctx;
    espl_status status = espl__graph_share(g, clone, diag);
    espl_shape *shapes = espl__calloc(ctx, (uint64_t)g->input_count + 1, sizeof *shapes);
    *nodes = espl__calloc(ctx, (uint64_t)g->node_count + 1, sizeof **nodes);
    if (status == ESPL_OK && (!shapes || !*nodes)) status = espl__nomem(diag, sizeof **nodes);
    if (status == ESPL_OK) {
        memcpy(*nodes, (*clone)->nodes, sizeof **nodes * (size_t)g->node_count);
        for (int i = 0; i < g->input_count; i++) {
            shapes[i] = g->inputs[i]->shape;
            if (shapes[i].rank > 0 && shapes[i].dim[0] < 0) shapes[i].dim[0] = batch;
        }
        status = espl__specialise(*clone, shapes, diag);
    }
    espl__free(ctx, shapes);
    return status;
}

/* What the sizes have as the shape of one value; -1 in the place that grows with them. */
static bool merge(espl__node **const nodes[SIZES], int node, int64_t *target) {
    const espl_shape *a = &nodes[0][node]->outputs[0]->shape;
    int differing = 0;
    for (int i = 0; i < a->rank; i++) {
        target[i] = a->dim[i];
        for (int k = 1; k < SIZES; k++) {
            const espl_shape *b = &nodes[k][node]->outputs[0]->shape;
            if (b->rank != a->rank) return false;
            if (k == 1 && b->dim[i] != a->dim[i]) target[i] = -1;
            if (target[i] == -1 ? a->dim[i] * sizes[k] != b->dim[i] * sizes[0] : b->dim[i] != a->dim[i])
                return false;
        }
        if (target[i] == 0) return false; /* a 0 in the target would mean "as in the input" */
        differing += target[i] == -1;
    }
    return differing <= 1;
}

/* What a node makes of shapes and constants by moving, multiplying and dividing; `products` by the ids of
 * values. */
static bool makes_products(const espl__node *n, const bool *products) {
    static const char *const ops[] = {"Gather", "Slice",    "Squeeze", "Unsqueeze", "Concat", "Cast",
                                      "Mul",    "Identity", "Reshape", "Div",       "Floor"};
    if (espl__node_is(n, "Shape") || espl__node_is(n, "Size")) return true;
    size_t k = 0;
    while (k < ESPL_COUNT(ops) && !espl__node_is(n, ops[k])) k++;
    bool good = k < ESPL_COUNT(ops);
    for (int i = 0; i < n->input_count && good; i++)
        good = !n->inputs[i] || n->inputs[i]->constant || products[n->inputs[i]->id];
    return good;
}

/* The Reshapes whose target may become a constant, by the ids of nodes; `any`: there are some. */
static void find_open(const espl_graph *g, bool *products, bool *open, bool *any) {
    *any = false;
    for (int i = 0; i < g->node_count; i++) {
        const espl__node *n = g->nodes[i];
        const bool good = makes_products(n, products);
        for (int k = 0; k < n->output_count; k++)
            if (n->outputs[k]) products[n->outputs[k]->id] = good;
        open[i] = espl__node_is(n, "Reshape") && !n->inputs[1]->constant && products[n->inputs[1]->id];
        *any |= open[i];
    }
}

/* Sets the targets that all clones agree on. */
static espl_status set_targets(espl_graph *g, const bool *open, espl__node **const nodes[SIZES],
                               espl_diag *diag) {
    for (int i = 0; i < g->node_count; i++) {
        int64_t target[ESPL_MAX_RANK];
        if (!open[i] || !merge(nodes, i, target)) continue;
        espl_tensor t = {ESPL_S64, {1, {nodes[0][i]->outputs[0]->shape.rank}}, target};
        espl__value *v = espl__graph_constant(g, NULL, &t);
        if (!v) return espl__nomem(diag, 0);
        g->nodes[i]->inputs[1] = v;
    }
    espl__graph_sweep(g);
    espl_status status = espl__pass_dead_code(g, diag);
    return status == ESPL_OK ? espl__pass_infer(g, diag) : status;
}

espl_status espl__pass_static_reshape(espl_graph *g, espl_diag *diag) {
    espl_context *ctx = g->arena.ctx;
    espl_graph *clones[SIZES] = {NULL};
    espl__node **nodes[SIZES] = {NULL};
    espl_status status = ESPL_OK;
    bool good = true, any = false, *products, *open;
    if (!only_batch_unknown(g)) return ESPL_OK;
    products = espl__calloc(ctx, (uint64_t)g->value_count + (uint64_t)g->node_count + 1, sizeof *products);
    if (!products) return espl__nomem(diag, (uint64_t)g->value_count);
    open = products + g->value_count;
    find_open(g, products, open, &any);
    /* A network that cannot be specialised for these sizes keeps its shape arithmetic; that is no error. */
    for (int k = 0; k < SIZES && any && good; k++)
        good = probe(g, sizes[k], &clones[k], &nodes[k], NULL) == ESPL_OK;
    if (any && good) status = set_targets(g, open, nodes, diag);
    for (int k = 0; k < SIZES; k++) {
        espl__free(ctx, nodes[k]);
        espl_graph_destroy(&clones[k]);
    }
    espl__free(ctx, products);
    return status;
}
