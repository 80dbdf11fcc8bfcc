/* What each layer does to the output in each format, alone. */
#include "compress/mixed/mixed.h"

#include <math.h>
#include <stdio.h>

enum { FEWEST = 16, MOST_SAMPLES = 128, MOST_CANDIDATES = 64 };
/* Multiplications that a search may spend on samples beyond the fewest: about a minute of two cores. */
#define EFFORT 1e12

/* A candidate is what a row of a recipe may say, so the recipe's reader checks it. */
static espl_status read_candidate(mixed *m, const char *text, size_t length, espl_diag *diag) {
    espl__recipe *recipe = NULL;
    candidate *c = &m->candidates[m->count];
    char yaml[256];
    const char *name = espl__arena_strndup(&m->arena, text, length), *slash = memchr(text, '/', length);
    int n = (int)(slash ? slash - text : (int64_t)length);
    if (!name) return espl__nomem(diag, length);
    if (m->count == MOST_CANDIDATES || length > 40)
        return espl__fail(diag, ESPL_INVALID, "formats: '%.40s': more than %d, or too long", name,
                          MOST_CANDIDATES);
    snprintf(yaml, sizeof yaml, "layers:\n- {match: '*', format: %.*s%s%.*s}\n", n, text,
             slash ? ", activations: " : "", slash ? (int)length - n - 1 : 0, slash ? slash + 1 : "");
    espl_status status = espl__recipe_parse(m->j->k.ctx, "formats", yaml, strlen(yaml), &recipe, NULL);
    if (status == ESPL_NOMEM) return espl__nomem(diag, sizeof *recipe);
    if (status != ESPL_OK)
        return espl__fail(diag, ESPL_INVALID,
                          "formats: '%.40s' is none; give formats of weights such as s8, s4 or f16, and if "
                          "need be those of activations, as in s4/s8",
                          name);
    *c = (candidate){.name = name, .activations = slash != NULL};
    espl__recipe_decide(&recipe->layers[0], &c->row);
    espl__recipe_destroy(m->j->k.ctx, &recipe);
    for (int i = 0; i < m->count; i++)
        if (strcmp(m->candidates[i].name, name) == 0)
            return espl__fail(diag, ESPL_INVALID, "formats: '%s' is there twice", name);
    m->count++;
    return ESPL_OK;
}

espl_status espl__mixed_candidates(mixed *m, const char *text, espl_diag *diag) {
    espl_status status = ESPL_OK;
    m->candidates = espl__arena_alloc(&m->arena, sizeof *m->candidates * MOST_CANDIDATES);
    if (!m->candidates) return espl__nomem(diag, sizeof *m->candidates * MOST_CANDIDATES);
    while (status == ESPL_OK && *text) {
        text += strspn(text, ", ");
        size_t length = strcspn(text, ", ");
        if (length) status = read_candidate(m, text, length, diag);
        text += length;
    }
    if (status == ESPL_OK && m->count == 0)
        return espl__fail(diag, ESPL_INVALID, "formats: there must be one at least, such as s8,s4,s2");
    return status;
}

/* All but formats stays as the layer has it, and so does how its scales are fitted, if that was not the usual
 * way. */
decision espl__mixed_decision(const mixed *m, int node, int index) {
    const candidate *c = &m->candidates[index];
    decision d = m->j->decisions[node];
    if (d.fit == espl__fit_usual(d.weights)) d.fit = c->row.fit;
    d.weights = c->row.weights;
    d.integer &= c->row.integer;
    if (c->activations) d.activations = c->row.activations;
    return d;
}

static espl_status choose_samples(mixed *m, espl_diag *diag) {
    const job *j = m->j;
    espl_costs costs = {0};
    espl_status status = espl_costs_compute(j->k.ctx, j->k.graph, j->o.input_shapes, &costs, diag);
    if (status != ESPL_OK) return status;
    double each = fmax((double)costs.total.macs, 1) * m->layer_count * m->count;
    m->samples = (int64_t)fmin(fmax(EFFORT / each, FEWEST), MOST_SAMPLES);
    espl_costs_free(j->k.ctx, &costs);
    return ESPL_OK;
}

espl_status espl__sensitivity(mixed *m, espl_diag *diag) {
    espl_status status = ESPL_OK;
    job *j = m->j;
    probe p = {0};
    trial t = {0};
    int nodes = j->k.graph->node_count, all = m->layer_count * m->count;
    decision *alone = espl__arena_alloc(&m->arena, sizeof *alone * (uint64_t)(nodes + 1));
    m->damage = espl__arena_alloc(&m->arena, sizeof *m->damage * (uint64_t)all);
    m->sum = espl__arena_alloc(&m->arena, sizeof *m->sum * (uint64_t)all);
    if (!alone || !m->damage || !m->sum) return espl__nomem(diag, sizeof *m->damage * (uint64_t)all);
    ESPL_TRY(choose_samples(m, diag));
    ESPL_TRY(espl__probe_open(&j->k, m->samples, &p, diag));
    m->samples = p.count;
    for (int i = 0; i < all; i++) {
        int node = m->layers[i / m->count];
        memset(alone, 0, sizeof *alone * (size_t)nodes);
        alone[node] = espl__mixed_decision(m, node, i % m->count);
        ESPL_TRY(espl__trial_build(&j->k, alone, &t, diag));
        ESPL_TRY(espl__probe_measure(&p, t.graph, &m->damage[i], diag));
        espl__trial_free(&j->k, &t);
        m->sum[i] = espl__damage_sum(&m->damage[i]);
        ESPL_TRY(espl__job_progress(j, "layers in each format", i + 1, all, diag));
    }
done:
    espl__trial_free(&j->k, &t);
    espl__probe_close(&p);
    return status;
}
