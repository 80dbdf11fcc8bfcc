/* The multiple-choice knapsack: of every item exactly one choice, the sum of the costs at most a budget, the
 * sum of the damages as small as possible. */
#ifndef ESPL_KNAPSACK_H
#define ESPL_KNAPSACK_H

#include "base/base.h"

typedef struct knapsack {
    espl_context *ctx;
    int items, choices;          /* at most 255 choices */
    const double *cost, *damage; /* items x choices, borrowed; a damage of INFINITY: not possible */
    double least, most;          /* sums of the smallest and of the largest costs that are possible */
    double unit;                 /* what costs are counted in */
    bool exact; /* nothing is rounded: solutions are optimal */
    int64_t units;
    double *best;   /* by units spent above `least`: the least damage */
    uint8_t *taken; /* items x (units + 1): the choice that attains it */
} knapsack;

/* Prepares every budget at once. To be closed whatever it returns. */
ESPL_NODISCARD espl_status espl__knapsack_open(espl_context *ctx, int items, int choices, const double *cost,
                                               const double *damage, knapsack *out, espl_diag *diag);
void espl__knapsack_close(knapsack *k);
/* The choice of each item, their damage, and a bound that no choice within the budget can go below. false: no
 * choice costs so little. */
bool espl__knapsack_solve(const knapsack *k, double budget, int *choice, double *damage, double *bound);

#endif
