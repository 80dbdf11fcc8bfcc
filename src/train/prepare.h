/* From a network to what the engine runs: a clone whose parameters are inputs, so that nothing folds them. */
#ifndef ESPL_TRAIN_PREPARE_H
#define ESPL_TRAIN_PREPARE_H

#include "train/engine.h"

typedef struct espl__prepared_param {
    espl__value *value;       /* of the clone */
    const espl_tensor *start; /* its numbers; lives with the clone */
    int origin;
    bool trained, decays;
    int first_use; /* node */
} espl__prepared_param;

typedef struct espl__prepared {
    espl_graph *graph;
    espl__prepared_param *params; /* trained ones by first use, then statistics; in the clone's arena */
    int count, trained;
    int inputs; /* of graph->inputs, those that the network's caller gives */
} espl__prepared;

ESPL_NODISCARD espl_status espl__train_prepare(const espl_graph *graph, const espl_shape *shapes,
                                               const espl__engine_options *options, espl__prepared *out,
                                               espl_diag *diag);

/* --- quantized.c ------------------------------------------------------------------------------------- */

extern const espl__op espl__op_fake_quantize;
/* Makes FakeQuantize nodes, and floats of codes. */
ESPL_NODISCARD espl_status espl__train_quantized(espl_graph *graph, espl_diag *diag);
/* In a graph as read: one scale for each pair. */
ESPL_NODISCARD espl_status espl__train_join_grids(espl_graph *graph, espl_diag *diag);
/* In the graph that was trained, after its scales were stored: the scales as they must be, then the codes of a
 * parameter's constant. `net`: what the engine runs. */
void espl__train_store_scales(espl_graph *graph);
void espl__train_store_codes(espl_graph *graph, const espl_graph *net, const espl__param *param);

#endif
