/* The nodes of a network that cannot be planned: their results are as long as data say (NonZero,
 * NonMaxSuppression), data decide what they do at all (a Loop that counts to an input), or they read or make strings.
 * These and what follows them are the late part; the static part stands before it, and hands its results over as outputs,
 * never strings. */
#ifndef ESPL_LATE_H
#define ESPL_LATE_H

#include "passes/passes.h"

typedef struct espl__late {
    espl_graph *graph; /* NULL: nothing is late */
    int *given;        /* by input of `graph`: output of the static part, or -1 - its input */
    int output_count;  /* of the network that was split */
    int *place;        /* by such output: output of the static part, or -1 - that of `graph` */
    char **names;      /* of such outputs, in the arena of `graph` */
} espl__late;

/* Sets node->mark to 1 for the nodes of the late part of a graph that espl__specialise_open has seen; returns
 * how many. */
int espl__late_mark(espl_graph *graph);
/* By node of a graph that is not specialised: whether it will be late with inputs of these shapes. */
ESPL_NODISCARD espl_status espl__late_nodes(const espl_graph *graph, const espl_shape *shapes, bool *late,
                                            espl_diag *diag);
/* Takes the late part away. What is left ends in outputs that are outputs of the network or read by the late
 * part, each once. Quantized constants of the late part become f32. */
ESPL_NODISCARD espl_status espl__late_split(espl_graph *graph, espl__late *out, espl_diag *diag);
void espl__late_free(espl__late *late);
/* Runs a late part by the operators' references, with the shapes that the inputs bring: in a copy of the
 * graph whose inputs are constants, all is. Outputs are the caller's (espl_tensor_free). */
ESPL_NODISCARD espl_status espl__late_run(espl_context *ctx, const espl_graph *graph,
                                          const espl_tensor *inputs, espl_tensor *outputs, espl_diag *diag);

/* As espl__specialise, but shapes may stay unknown that depend on data. */
ESPL_NODISCARD espl_status espl__specialise_open(espl_graph *graph, const espl_shape *shapes,
                                                 espl_diag *diag);
/* The same, and what is late goes. */
ESPL_NODISCARD espl_status espl__specialise_static(espl_graph *graph, const espl_shape *shapes,
                                                   espl_diag *diag);

#endif
