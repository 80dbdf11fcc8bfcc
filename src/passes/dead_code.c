#include "passes/passes.h"

espl_status espl__pass_dead_code(espl_graph *g, espl_diag *diag) {
    (void)diag;
    espl__graph_count_uses(g);
    for (int i = g->node_count - 1; i >= 0; i--) {
        espl__node *n = g->nodes[i];
        bool needed = false;
        for (int j = 0; j < n->output_count; j++) needed |= n->outputs[j] && n->outputs[j]->uses > 0;
        if (needed) continue;
        n->mark = -1;
        for (int j = 0; j < n->input_count; j++)
            if (n->inputs[j]) n->inputs[j]->uses--;
    }
    espl__graph_sweep(g);
    return ESPL_OK;
}
