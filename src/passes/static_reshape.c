/* Exporters write `x.view(N, -1)` as Shape, Gather, Concat and Reshape. When only the batch size is unknown,
 * the target shape is found by specialising the graph for two batch sizes: where all dimensions but one
 * agree, and that one grows with the batch, the target is a constant with -1 in that place. */
#include "passes/passes.h"

enum { BATCH_A = 2, BATCH_B = 3 };

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

static bool merge(const espl_shape *a, const espl_shape *b, int64_t *target) {
    int differing = 0;
    if (a->rank != b->rank) return false;
    for (int i = 0; i < a->rank; i++) {
        target[i] = a->dim[i];
        if (a->dim[i] == b->dim[i]) continue;
        if (a->dim[i] * BATCH_B != b->dim[i] * BATCH_A) return false;
        target[i] = -1;
        differing++;
    }
    /* A 0 in the target would mean "as in the input". */
    for (int i = 0; i < a->rank; i++)
        if (target[i] == 0) return false;
    return differing <= 1;
}

espl_status espl__pass_static_reshape(espl_graph *g, espl_diag *diag) {
    espl_context *ctx = g->arena.ctx;
    espl_graph *a = NULL, *b = NULL;
    espl__node **na = NULL, **nb = NULL;
    espl_status status = ESPL_OK;
    bool wanted = false;
    for (int i = 0; i < g->node_count; i++)
        wanted |= espl__node_is(g->nodes[i], "Reshape") && !g->nodes[i]->inputs[1]->constant;
    if (!wanted || !only_batch_unknown(g)) return ESPL_OK;
    /* A network that cannot be specialised for these sizes keeps its shape arithmetic; that is no error. */
    if (probe(g, BATCH_A, &a, &na, NULL) != ESPL_OK || probe(g, BATCH_B, &b, &nb, NULL) != ESPL_OK) goto done;
    for (int i = 0; i < g->node_count; i++) {
        espl__node *n = g->nodes[i];
        int64_t target[ESPL_MAX_RANK];
        if (!espl__node_is(n, "Reshape") || n->inputs[1]->constant) continue;
        const espl_shape *shape = &na[i]->outputs[0]->shape;
        if (!merge(shape, &nb[i]->outputs[0]->shape, target)) continue;
        espl_tensor t = {ESPL_S64, {1, {shape->rank}}, target};
        espl__value *v = espl__graph_constant(g, NULL, &t);
        if (!v) {
            status = espl__nomem(diag, 0);
            goto done;
        }
        n->inputs[1] = v;
    }
    espl__graph_sweep(g);
    status = espl__pass_dead_code(g, diag);
    if (status == ESPL_OK) status = espl__pass_infer(g, diag);
done:
    espl__free(ctx, na);
    espl__free(ctx, nb);
    espl_graph_destroy(&a);
    espl_graph_destroy(&b);
    return status;
}
