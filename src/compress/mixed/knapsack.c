/* Dynamic programming over the cost above the cheapest choices (Dudzinski and Walukiewicz, "Exact methods for
 * the knapsack problem and its generalizations", 1987, for the problem; HAWQ-V3, arXiv 2011.10680, for its
 * use on bit widths, there as an integer linear program):
 *
 *     best_i(u) = min over choices c of item i:  best_(i-1)(u - ceil((cost_ic - min_c cost_ic) / unit)) +
 * damage_ic
 *
 * with units of 1 where costs are integers of a small range: then it is exact. Otherwise costs are rounded up
 * to the unit, so that a budget is never exceeded, and the loss is what could have been bought for one unit
 * an item. How far that is from the optimum at most, Lagrange's relaxation says: for every price p >= 0
 *
 *     sum over items of min over c of (damage_ic + p cost_ic)  -  p budget
 *
 * is a lower bound; the best price is where the cheapest choices at that price cross the budget. */
#include "compress/mixed/knapsack.h"

#include <math.h>

enum { UNITS = 65536, TABLE = 1 << 26 };

static double cost_of(const knapsack *k, int i, int c) {
    return k->cost[i * k->choices + c];
}

static double damage_of(const knapsack *k, int i, int c) {
    return k->damage[i * k->choices + c];
}

static bool possible(const knapsack *k, int i, int c) {
    return damage_of(k, i, c) < INFINITY;
}

/* Cheapest possible choice; -1: none. Of equal costs the one that does less damage. */
static int cheapest(const knapsack *k, int i) {
    int best = -1;
    for (int c = 0; c < k->choices; c++) {
        if (!possible(k, i, c)) continue;
        double d = best < 0 ? -1 : cost_of(k, i, c) - cost_of(k, i, best);
        if (d < 0 || (d == 0 && damage_of(k, i, c) < damage_of(k, i, best))) best = c;
    }
    return best;
}

static double dearest(const knapsack *k, int i) {
    double most = -INFINITY;
    for (int c = 0; c < k->choices; c++)
        if (possible(k, i, c)) most = fmax(most, cost_of(k, i, c));
    return most;
}

static void choose_unit(knapsack *k) {
    bool whole = true;
    int64_t units = ESPL_MIN(UNITS, TABLE / ESPL_MAX(k->items, 1));
    for (int i = 0; i < k->items * k->choices; i++)
        whole &= k->damage[i] == INFINITY || k->cost[i] == floor(k->cost[i]);
    k->unit = (k->most - k->least) / (double)units;
    if (whole) k->unit = fmax(1, ceil(k->unit));
    if (!(k->unit > 0)) k->unit = 1;
    k->exact = whole && k->unit == 1;
    k->units = (int64_t)ceil((k->most - k->least) / k->unit) + (k->exact ? 0 : k->items);
}

/* Units that a choice costs above the cheapest one; rounding of the quotient must not make a whole number the
 * next. */
static int64_t excess(const knapsack *k, int i, int c, double least) {
    return (int64_t)ceil((cost_of(k, i, c) - least) / k->unit - 1e-9);
}

static void add_item(knapsack *k, int i, double *next) {
    uint8_t *taken = k->taken + (size_t)i * (size_t)(k->units + 1);
    double least = cost_of(k, i, cheapest(k, i));
    for (int64_t u = 0; u <= k->units; u++) next[u] = INFINITY;
    for (int c = 0; c < k->choices; c++) {
        if (!possible(k, i, c)) continue;
        int64_t e = excess(k, i, c, least);
        double d = damage_of(k, i, c);
        for (int64_t u = e; u <= k->units; u++) {
            if (!(k->best[u - e] + d < next[u])) continue;
            next[u] = k->best[u - e] + d;
            taken[u] = (uint8_t)c;
        }
    }
    memcpy(k->best, next, sizeof *next * (size_t)(k->units + 1));
}

espl_status espl__knapsack_open(espl_context *ctx, int items, int choices, const double *cost,
                                const double *damage, knapsack *k, espl_diag *diag) {
    *k = (knapsack){.ctx = ctx, .items = items, .choices = choices, .cost = cost, .damage = damage};
    for (int i = 0; i < items; i++) {
        int c = cheapest(k, i);
        if (c < 0) return espl__fail(diag, ESPL_UNSUPPORTED, "layer %d has no possible format", i);
        k->least += cost_of(k, i, c);
        k->most += dearest(k, i);
    }
    choose_unit(k);
    uint64_t row = (uint64_t)k->units + 1;
    double *next = espl__alloc(ctx, row * sizeof *next);
    k->best = espl__calloc(ctx, row, sizeof *k->best);
    k->taken = espl__alloc(ctx, row * (uint64_t)items + 1);
    bool good = next && k->best && k->taken;
    for (int i = 0; i < items && good; i++) add_item(k, i, next);
    espl__free(ctx, next);
    return good ? ESPL_OK : espl__nomem(diag, row * (uint64_t)items);
}

void espl__knapsack_close(knapsack *k) {
    if (!k->ctx) return;
    espl__free(k->ctx, k->best);
    espl__free(k->ctx, k->taken);
    *k = (knapsack){0};
}

/* Every item's best choice at a price: the sums of cost and damage. Of equal ones the cheaper. */
static void buy(const knapsack *k, double price, double *cost, double *damage) {
    *cost = *damage = 0;
    for (int i = 0; i < k->items; i++) {
        int best = cheapest(k, i);
        for (int c = 0; c < k->choices; c++) {
            if (!possible(k, i, c)) continue;
            double d = damage_of(k, i, c) + price * cost_of(k, i, c) - damage_of(k, i, best) -
                       price * cost_of(k, i, best);
            if (d < 0 || (d == 0 && cost_of(k, i, c) < cost_of(k, i, best))) best = c;
        }
        *cost += cost_of(k, i, best);
        *damage += damage_of(k, i, best);
    }
}

/* The bound is concave in the price; it rises while the choices at that price cost more than the budget. */
static double relaxation(const knapsack *k, double budget) {
    double low = 0, high = 1e-12, cost, damage, bound;
    buy(k, 0, &cost, &damage);
    bound = damage;
    if (cost <= budget) return bound;
    for (int i = 0; i < 100 && cost > budget; i++, high *= 16) {
        low = high / 16;
        buy(k, high, &cost, &damage);
        bound = fmax(bound, damage + high * (cost - budget));
    }
    for (int i = 0; i < 100; i++) {
        double price = (low + high) / 2;
        buy(k, price, &cost, &damage);
        bound = fmax(bound, damage + price * (cost - budget));
        if (cost > budget)
            low = price;
        else
            high = price;
    }
    return bound;
}

bool espl__knapsack_solve(const knapsack *k, double budget, int *choice, double *damage, double *bound) {
    if (budget < k->least) return false;
    bool any = budget >= k->most; /* then what rounding adds does not matter */
    int64_t u = any ? k->units : (int64_t)floor((budget - k->least) / k->unit + 1e-9);
    while (u > 0 && k->best[u - 1] == k->best[u]) u--; /* nothing is paid for nothing */
    *damage = k->best[u];
    *bound = k->exact ? *damage : fmin(relaxation(k, budget), *damage);
    for (int i = k->items - 1; i >= 0; i--) {
        choice[i] = k->taken[(size_t)i * (size_t)(k->units + 1) + (size_t)u];
        u -= excess(k, i, choice[i], cost_of(k, i, cheapest(k, i)));
    }
    return true;
}
