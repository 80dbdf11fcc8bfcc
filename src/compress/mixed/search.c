/* The search: costs and sensitivities into a knapsack, its solutions checked end to end on the data. */
#include "compress/mixed/mixed.h"

#include <inttypes.h>
#include <math.h>

enum { BISECTIONS = 10, FITTINGS = 8 };
/* Measured times that differ by less are equal. */
#define NOISE 0.03

/* A chip whose profile has no energies is judged by time, as in compress.c. */
static bool by_energy(const mixed *m) {
    return m->j->o.goal == ESPL_GOAL_ENERGY && m->j->before.joules > 0;
}

static double figure_of(const mixed *m, const trial *t) {
    return m->j->o.goal == ESPL_GOAL_SIZE ? (double)t->bytes : by_energy(m) ? t->joules : t->ms;
}

static double layer_cost(const mixed *m, const trial *t, int node) {
    if (m->j->o.goal == ESPL_GOAL_SIZE) return (double)espl__layer_weights(t->graph->nodes[node]).bytes;
    return by_energy(m) ? t->node_joules[node] : t->node_ms[node];
}

/* --- the layers, and what they cost ---------------------------------------------------------------- */

static espl_status list_layers(mixed *m, espl_diag *diag) {
    const espl_graph *g = m->j->k.graph;
    m->layers = espl__arena_alloc(&m->arena, sizeof *m->layers * (uint64_t)(g->node_count + 1));
    if (!m->layers) return espl__nomem(diag, sizeof *m->layers);
    for (int i = 0; i < g->node_count; i++)
        if (espl__is_layer(g->nodes[i]) && m->j->decisions[i].weights != ESPL_FORMAT_F32)
            m->layers[m->layer_count++] = i;
    if (m->layer_count == 0)
        return espl__fail(diag, ESPL_INVALID, "%s: there is no layer that a format could be chosen for",
                          g->file);
    return ESPL_OK;
}

/* Builds the network with layer i in format picks[i], or all in format `uniform` (picks NULL). */
static espl_status build(mixed *m, const int *picks, int uniform, trial *t, espl_diag *diag) {
    job *j = m->j;
    uint64_t nodes = (uint64_t)j->k.graph->node_count;
    decision *d = espl__alloc(j->k.ctx, (nodes + 1) * sizeof *d);
    if (!d) return espl__nomem(diag, nodes * sizeof *d);
    memcpy(d, j->decisions, nodes * sizeof *d);
    for (int i = 0; i < m->layer_count; i++)
        d[m->layers[i]] = espl__mixed_decision(m, m->layers[i], picks ? picks[i] : uniform);
    espl_status status = espl__trial_build(&j->k, d, t, diag);
    if (status == ESPL_OK && j->repairs.count) status = espl__job_repair(j, t, diag);
    if (status == ESPL_OK && j->o.goal != ESPL_GOAL_SIZE)
        status = espl__trial_cost(&j->k, &j->before, t, diag);
    espl__free(j->k.ctx, d);
    return status;
}

/* A layer's measured times in its formats, fastest first, are equal as long as they differ by noise only: so
 * no accuracy is given away for a difference that is none. */
static void settle_noise(mixed *m) {
    for (int l = 0; l < m->layer_count; l++) {
        double *cost = m->cost + (ptrdiff_t)l * m->count, floor_of = 0;
        bool done[256] = {false};
        for (int k = 0; k < m->count; k++) {
            int best = -1;
            for (int c = 0; c < m->count; c++)
                if (!done[c] && (best < 0 || cost[c] < cost[best])) best = c;
            done[best] = true;
            if (k == 0 || cost[best] > floor_of * (1 + NOISE)) floor_of = cost[best];
            cost[best] = floor_of;
        }
    }
}

static void add_point(mixed *m, const char *name, bool is_mixed, const trial *t, double damage) {
    espl_result *r = m->j->r;
    r->curve[r->curve_count++] = (espl_curve_point){.name = name,
                                                    .mixed = is_mixed,
                                                    .bytes = t->bytes,
                                                    .ms = t->ms,
                                                    .joules = t->joules,
                                                    .score = t->score,
                                                    .drop = t->drop,
                                                    .loss = t->scores.has_labels ? t->scores.loss : NAN,
                                                    .damage = damage};
}

static double uniform_damage(const mixed *m, int c) {
    double damage = 0;
    for (int l = 0; l < m->layer_count; l++) damage += m->sum[l * m->count + c];
    return damage;
}

/* Costs come from networks with all layers in one format, which are points of the curve too. */
static espl_status measure_uniform(mixed *m, int c, espl_diag *diag) {
    job *j = m->j;
    trial t = {0};
    double weights = 0;
    espl_status status = ESPL_OK;
    ESPL_TRY(build(m, NULL, c, &t, diag));
    for (int l = 0; l < m->layer_count; l++) {
        m->cost[l * m->count + c] = layer_cost(m, &t, m->layers[l]);
        weights += m->cost[l * m->count + c];
    }
    m->figure[c] = figure_of(m, &t);
    m->rest = fmin(c ? m->rest : INFINITY, m->figure[c] - weights);
    if (j->o.curve) {
        ESPL_TRY(espl__trial_score(&j->k, &t, diag));
        add_point(m, espl__say(j, "%s", m->candidates[c].name), false, &t, uniform_damage(m, c));
    }
    ESPL_TRY(espl__job_progress(j, "networks in one format", c + 1, m->count, diag));
done:
    espl__trial_free(&j->k, &t);
    return status;
}

static espl_status measure_costs(mixed *m, espl_diag *diag) {
    espl_status status = ESPL_OK;
    espl_result *r = m->j->r;
    uint64_t points = 3 * (uint64_t)m->count;
    m->cost = espl__arena_alloc(&m->arena, sizeof *m->cost * (uint64_t)(m->layer_count * m->count));
    r->curve = espl__arena_alloc(&r->own->arena, points * sizeof *r->curve);
    m->figure = espl__arena_alloc(&m->arena, sizeof *m->figure * (uint64_t)m->count);
    if (!m->cost || !r->curve || !m->figure) return espl__nomem(diag, points * sizeof *r->curve);
    for (int c = 0; c < m->count && status == ESPL_OK; c++) status = measure_uniform(m, c, diag);
    if (m->j->o.goal != ESPL_GOAL_SIZE && m->j->k.measured) settle_noise(m);
    for (int i = 0; i < m->layer_count * m->count; i++) /* what the chip cannot run is no choice */
        if (!isfinite(m->cost[i])) m->sum[i] = INFINITY;
    return status;
}

/* --- solutions -------------------------------------------------------------------------------------- */

typedef struct solution {
    int *picks;
    double damage, bound;
    trial t;
} solution;

static espl_status solution_open(mixed *m, solution *s, espl_diag *diag) {
    *s = (solution){.picks = espl__arena_alloc(&m->arena, sizeof *s->picks * (uint64_t)m->layer_count)};
    return s->picks ? ESPL_OK : espl__nomem(diag, sizeof *s->picks);
}

static void keep(mixed *m, solution *to, solution *from) {
    memcpy(to->picks, from->picks, sizeof *to->picks * (size_t)m->layer_count);
    to->damage = from->damage;
    to->bound = from->bound;
    espl__trial_free(&m->j->k, &to->t);
    to->t = from->t;
    from->t = (trial){0};
}

static espl_status too_small(const mixed *m, double least, double limit, espl_diag *diag) {
    return espl__fail(
        diag, ESPL_INVALID,
        "%s: the smallest network of these formats takes %.0f bytes, more than the %.0f allowed; "
        "allow more, or add a smaller format",
        m->j->k.graph->file, least, limit);
}

/* The best network whose layers cost at most `budget`; false in *found if there is none. */
static espl_status attempt(mixed *m, double budget, solution *s, bool *found, espl_diag *diag) {
    espl__trial_free(&m->j->k, &s->t);
    *found = espl__knapsack_solve(&m->sack, budget, s->picks, &s->damage, &s->bound);
    return *found ? build(m, s->picks, 0, &s->t, diag) : ESPL_OK;
}

/* The best of the networks in one format, if any keeps the limit. */
static espl_status take_uniform(mixed *m, double limit, solution *s, bool *found, espl_diag *diag) {
    *found = false;
    espl__trial_free(&m->j->k, &s->t);
    for (int c = 0; c < m->count; c++) {
        double damage = uniform_damage(m, c);
        if (!(m->figure[c] <= limit) || (*found && damage >= s->damage)) continue;
        for (int l = 0; l < m->layer_count; l++) s->picks[l] = c;
        s->damage = s->bound = damage;
        *found = true;
    }
    return *found ? build(m, s->picks, 0, &s->t, diag) : ESPL_OK;
}

/* The best network whose figure (the bytes of its file, its time) is at most `limit`. What a file has beside
 * the layers' weights depends a little on the formats; what it has too much is taken off the budget of the
 * next try. */
static espl_status solve(mixed *m, double limit, solution *s, espl_diag *diag) {
    espl_status status = ESPL_OK;
    double budget = limit - m->rest, over = 0, smallest = m->sack.least + m->rest;
    bool found = true;
    for (int i = 0; i < FITTINGS; i++) {
        ESPL_TRY(attempt(m, budget, s, &found, diag));
        over = found ? figure_of(m, &s->t) - limit : 1;
        if (!found || over <= 0 || m->j->o.goal != ESPL_GOAL_SIZE) break;
        smallest = (double)s->t.bytes;
        if (budget <= m->sack.least) break;
        budget = fmax(budget - over, m->sack.least);
    }
    if (!found || (over > 0 && m->j->o.goal == ESPL_GOAL_SIZE))
        ESPL_TRY(take_uniform(m, limit, s, &found, diag));
    if (!found) return too_small(m, smallest, limit, diag);
    status = espl__trial_score(&m->j->k, &s->t, diag);
done:
    return status;
}

/* The smallest budget whose network keeps max_drop, by halving; scores decide, not the sums of damages. The
 * most accurate network comes first, then the cheapest. */
static espl_status bisect(mixed *m, solution *best, espl_diag *diag) {
    job *j = m->j;
    espl_status status = ESPL_OK;
    double low = m->sack.least, high = m->sack.most;
    solution s;
    bool found;
    ESPL_TRY(solution_open(m, &s, diag));
    ESPL_TRY(attempt(m, high, best, &found, diag));
    ESPL_TRY(espl__trial_score(&j->k, &best->t, diag));
    for (int i = 0; i < BISECTIONS && best->t.drop <= j->o.max_drop && high > low; i++) {
        double budget = i ? (low + high) / 2 : low;
        ESPL_TRY(espl__job_progress(j, "budgets", i, BISECTIONS, diag));
        ESPL_TRY(attempt(m, budget, &s, &found, diag));
        ESPL_TRY(espl__trial_score(&j->k, &s.t, diag));
        if (s.t.drop <= j->o.max_drop) {
            keep(m, best, &s);
            high = budget;
        } else {
            low = budget;
        }
    }
done:
    espl__trial_free(&j->k, &s.t);
    return status;
}

/* --- the curve --------------------------------------------------------------------------------------- */

/* Mixed networks as large as each uniform one, and halfway between. */
static espl_status draw_curve(mixed *m, espl_diag *diag) {
    espl_status status = ESPL_OK;
    solution s;
    double *at = espl__arena_alloc(&m->arena, sizeof *at * (uint64_t)m->count);
    if (!at) return espl__nomem(diag, sizeof *at);
    ESPL_TRY(solution_open(m, &s, diag));
    for (int c = 0; c < m->count; c++) {
        at[c] = m->figure[c];
        for (int k = c; k > 0 && at[k] < at[k - 1]; k--) {
            double swap = at[k];
            at[k] = at[k - 1];
            at[k - 1] = swap;
        }
    }
    for (int i = 0; i < 2 * m->count - 1; i++) {
        double budget = i % 2 ? (at[i / 2] + at[i / 2 + 1]) / 2 : at[i / 2];
        ESPL_TRY(solve(m, budget, &s, diag));
        add_point(m, "mixed", true, &s.t, s.damage);
        ESPL_TRY(espl__job_progress(m->j, "points of the curve", i + 1, 2 * m->count - 1, diag));
    }
done:
    espl__trial_free(&m->j->k, &s.t);
    return status;
}

/* --- what came of it --------------------------------------------------------------------------------- */

/* The picks that costs least among those that do less (sign 1) or, at least cost saved, more damage (-1). */
static int neighbour(const mixed *m, int layer, int chosen, int sign) {
    const double *cost = m->cost + (ptrdiff_t)layer * m->count, *sum = m->sum + (ptrdiff_t)layer * m->count;
    int best = -1;
    for (int c = 0; c < m->count; c++) {
        bool beyond = sign > 0 ? sum[c] < sum[chosen] && cost[c] > cost[chosen] : cost[c] < cost[chosen];
        if (!beyond) continue;
        double d = best < 0 ? -1 : sign * (cost[c] - cost[best]);
        if (d < 0) best = c;
    }
    return best;
}

static const char *cost_text(const mixed *m, double cost) {
    if (m->j->o.goal == ESPL_GOAL_SIZE) return espl__say(m->j, "%.0f bytes", cost);
    return by_energy(m) ? espl__say(m->j, "%.3g mJ", 1e3 * cost) : espl__say(m->j, "%.3g ms", cost);
}

static void explain(mixed *m, int layer, int chosen) {
    job *j = m->j;
    int at = layer * m->count, more = neighbour(m, layer, chosen, 1), less = neighbour(m, layer, chosen, -1);
    const char *what = isnan(m->damage[at].soft) ? "squared error" : "divergence";
    const char *up = more < 0
                         ? ""
                         : espl__say(j, "; %s %.2g for %s more", m->candidates[more].name, m->sum[at + more],
                                     cost_text(m, m->cost[at + more] - m->cost[at + chosen]));
    const char *down =
        less < 0 ? ""
                 : espl__say(j, "; %s %.2g for %s less", m->candidates[less].name, m->sum[at + less],
                             cost_text(m, m->cost[at + chosen] - m->cost[at + less]));
    j->why[m->layers[layer]] = espl__say(j, "%s alone: %s %.2g%s%s", m->candidates[chosen].name, what,
                                         m->sum[at + chosen], up, down);
    j->alone[m->layers[layer]] = m->damage[at + chosen];
}

/* What each repair did is told of the network that is written, and not of the first one on the way. */
static espl_status repair_again(mixed *m, solution *s, espl_diag *diag) {
    espl_status status = ESPL_OK;
    job *j = m->j;
    if (!j->repairs.count) return ESPL_OK;
    j->r->repairs = NULL;
    j->r->repair_count = 0;
    espl__trial_free(&j->k, &s->t);
    ESPL_TRY(build(m, s->picks, 0, &s->t, diag));
    status = espl__trial_score(&j->k, &s->t, diag);
done:
    return status;
}

static espl_status decide(mixed *m, espl_diag *diag) {
    job *j = m->j;
    espl_status status = ESPL_OK;
    solution best = {0};
    ESPL_TRY(solution_open(m, &best, diag));
    if (j->o.size > 0) {
        double whole = j->o.size < 1 ? (double)espl__job_bytes_before(j) : 1;
        ESPL_TRY(solve(m, floor(j->o.size * whole), &best, diag));
    } else {
        ESPL_TRY(bisect(m, &best, diag));
    }
    ESPL_TRY(repair_again(m, &best, diag));
    for (int l = 0; l < m->layer_count; l++) explain(m, l, best.picks[l]);
    for (int l = 0; l < m->layer_count; l++)
        j->decisions[m->layers[l]] = espl__mixed_decision(m, m->layers[l], best.picks[l]);
    j->r->search_samples = m->samples;
    j->r->search_damage = best.damage;
    j->r->search_bound = best.bound;
    j->now = best.t;
    best.t = (trial){0};
done:
    espl__trial_free(&j->k, &best.t);
    return status;
}

espl_status espl__mixed_search(job *j, espl_diag *diag) {
    espl_status status = ESPL_OK;
    mixed m = {.j = j};
    espl__arena_init(&m.arena, j->k.ctx);
    ESPL_TRY(espl__mixed_candidates(&m, j->o.formats, diag));
    ESPL_TRY(list_layers(&m, diag));
    if (j->o.size > 0) j->o.goal = ESPL_GOAL_SIZE;
    if (j->k.metric == METRIC_NONE && !(j->o.size > 0)) {
        status =
            espl__fail(diag, ESPL_INVALID,
                       "without data there is no score to keep: give the size that the network may have");
        goto done;
    }
    ESPL_TRY(espl__sensitivity(&m, diag));
    ESPL_TRY(measure_costs(&m, diag));
    ESPL_TRY(espl__knapsack_open(j->k.ctx, m.layer_count, m.count, m.cost, m.sum, &m.sack, diag));
    if (j->o.curve) ESPL_TRY(draw_curve(&m, diag));
    ESPL_TRY(decide(&m, diag));
    status = espl__trial_cost(&j->k, &j->before, &j->now, diag);
done:
    espl__knapsack_close(&m.sack);
    espl__arena_free(&m.arena);
    return status;
}
