/* Weights that another tool pruned: which pattern their zeros satisfy. */
#include "passes/passes.h"

static espl_status note(espl_graph *g, const espl__node *n, int input, espl_diag *diag) {
    espl__value *v = n->inputs[input];
    espl__zeros zeros;
    espl__matrix m;
    if (!v || !v->constant || v->dtype != ESPL_F32 || v->zeros.pattern.pattern != ESPL_PATTERN_DENSE ||
        espl_dtype_bytes(v->constant->dtype) > 4 || !espl__constant_zero_is_zero(v) ||
        !espl__weight_matrix(n, input, &zeros, &m))
        return ESPL_OK;
    espl_status status = espl__pattern_recognise(g->arena.ctx, &m, v->constant, &zeros.pattern, diag);
    if (status == ESPL_OK && zeros.pattern.pattern != ESPL_PATTERN_DENSE) v->zeros = zeros;
    return status;
}

espl_status espl__pass_zeros(espl_graph *g, espl_diag *diag) {
    espl_status status = ESPL_OK;
    for (int i = 0; i < g->node_count; i++)
        for (int k = 0; k < g->nodes[i]->input_count && k < 32 && status == ESPL_OK; k++)
            status = note(g, g->nodes[i], k, diag);
    return status;
}
