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

#endif
