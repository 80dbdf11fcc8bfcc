#include "passes/passes.h"

static const struct {
    const char *name;
    espl_status (*run)(espl_graph *, espl_diag *);
} passes[] = {
#define X(name, text) {#name, espl__pass_##name},
    ESPL__PASS_LIST(X)
#undef X
};

espl_status espl__passes_run(espl_graph *graph, espl_diag *diag) {
    for (size_t i = 0; i < ESPL_COUNT(passes); i++) {
        espl_status status = passes[i].run(graph, diag);
        if (status == ESPL_OK) status = espl__graph_verify(graph, diag);
        if (status != ESPL_OK) {
            if (diag && graph->file[0] && !strstr(diag->message, graph->file))
                espl__diag_prefix(diag, "%s", graph->file);
            return status;
        }
    }
    return ESPL_OK;
}
