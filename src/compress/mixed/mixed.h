/* Mixed precision: a format for every layer, by what each does to the output and what each costs on the chip.
 */
#ifndef ESPL_MIXED_H
#define ESPL_MIXED_H

#include "compress/job.h"
#include "compress/mixed/knapsack.h"
#include "compress/probe.h"

/* How the formats of the layers are found. X(NAME, name, parameters, what it is) */
#define ESPL__SEARCH_LIST(X)                                                                          \
    X(KNAPSACK, "knapsack", "formats, size, max-drop",                                                \
      "least sum of the divergences that each layer's format alone causes, at a given cost: dynamic " \
      "programming with a bound on the gap (multiple-choice knapsack; HAWQ-V3)")

/* One way to encode a layer, of those that the search may choose from. */
typedef struct candidate {
    const char *name; /* as the user wrote it */
    decision row;     /* what such a row of a recipe decides */
    bool activations; /* it says so of the activations too */
} candidate;

typedef struct mixed {
    job *j;
    espl__arena arena;
    candidate *candidates;
    int count;   /* of candidates */
    int *layers; /* nodes that a format is looked for */
    int layer_count;
    espl_damage *damage; /* layers x candidates: with this layer alone in this format */
    double *sum, *cost;  /* likewise: what the knapsack adds up; bytes, ms or joules */
    double *figure;      /* by candidate: of the whole network in this format */
    double rest;         /* of the figure, what is not the layers': the least of these networks */
    int64_t samples;
    knapsack sack;
} mixed;

/* Reads "s8,s4/s8,f16" into m->candidates. */
ESPL_NODISCARD espl_status espl__mixed_candidates(mixed *m, const char *text, espl_diag *diag);
/* The decision for a node if it gets this candidate. */
decision espl__mixed_decision(const mixed *m, int node, int candidate);
/* Fills m->damage and m->sum: (layers x candidates) networks on a few samples. */
ESPL_NODISCARD espl_status espl__sensitivity(mixed *m, espl_diag *diag);
/* Finds the formats that j->o.formats, size and max_drop ask for: j->decisions, j->why, j->now and the curve.
 */
ESPL_NODISCARD espl_status espl__mixed_search(job *j, espl_diag *diag);

#endif
