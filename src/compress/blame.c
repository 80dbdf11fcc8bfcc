/* Which layer does the damage: each quantized alone, each spared alone, and the noise of each inside the
 * quantized network. */
#include "compress/job.h"
#include "compress/probe.h"
#include "passes/late.h"

#include <math.h>

enum { SAMPLES = 32 };

struct espl__blame_private {
    espl__arena arena;
};

static bool is_quantized_layer(const job *j, int node) {
    return espl__is_layer(j->k.graph->nodes[node]) && j->decisions[node].weights != ESPL_FORMAT_F32;
}

static espl_status measure(job *j, const probe *p, const decision *decisions, espl_damage *out,
                           espl_diag *diag) {
    trial t = {0};
    espl_status status = espl__trial_build(&j->k, decisions, &t, diag);
    if (status == ESPL_OK) status = espl__probe_measure(p, t.graph, out, diag);
    espl__trial_free(&j->k, &t);
    return status;
}

espl_status espl__blame_alone(job *j, const probe *p, blamed *list, int *count, espl_diag *diag) {
    espl_status status = ESPL_OK;
    int nodes = j->k.graph->node_count, all = 0;
    decision *alone = espl__calloc(j->k.ctx, (uint64_t)nodes + 1, sizeof *alone);
    if (!alone) return espl__nomem(diag, sizeof *alone);
    for (int i = 0; i < nodes; i++) all += is_quantized_layer(j, i);
    *count = 0;
    for (int i = 0; i < nodes; i++) {
        if (!is_quantized_layer(j, i)) continue;
        memset(alone, 0, sizeof *alone * (size_t)nodes);
        alone[i] = j->decisions[i];
        ESPL_TRY(measure(j, p, alone, &j->alone[i], diag));
        blamed b = {i, espl__damage_sum(&j->alone[i])};
        int at = (*count)++;
        for (; at > 0 && list[at - 1].damage < b.damage; at--) list[at] = list[at - 1];
        list[at] = b;
        ESPL_TRY(espl__job_progress(j, "layers alone", *count, all, diag));
    }
done:
    espl__free(j->k.ctx, alone);
    return status;
}

/* --- noise inside the network ----------------------------------------------------------------------- */

/* Both networks run a sample in turn; the first's values are kept until the second's have been compared with
 * them. */
typedef struct noise {
    const espl_graph *seen; /* whose values are observed now */
    bool quantized;
    float **kept;           /* by value of the f32 graph; NULL: not asked for */
    double *signal, *error; /* sums of squares, likewise */
} noise;

static void observe(void *user, int value, const char *name, const float *data, int64_t count) {
    noise *n = user;
    int id = n->quantized ? n->seen->values[value]->origin : value;
    (void)name;
    if (!n->kept[id]) return;
    if (!n->quantized) {
        memcpy(n->kept[id], data, sizeof *data * (size_t)count);
        return;
    }
    for (int64_t i = 0; i < count; i++) {
        double x = n->kept[id][i], d = data[i] - x;
        n->signal[id] += x * x;
        n->error[id] += d * d;
    }
}

/* Room for one sample of the output of every quantized layer. */
static bool keep_outputs(job *j, noise *n, espl__arena *arena, const espl_graph *specialised) {
    uint64_t values = (uint64_t)j->k.graph->value_count + 1;
    n->kept = espl__arena_alloc(arena, values * sizeof *n->kept);
    n->signal = espl__arena_alloc(arena, values * sizeof *n->signal);
    n->error = espl__arena_alloc(arena, values * sizeof *n->error);
    if (!n->kept || !n->signal || !n->error) return false;
    for (int i = 0; i < specialised->node_count; i++) {
        const espl__node *node = specialised->nodes[i];
        const espl__value *out = node->outputs[0];
        if (!out || out->dtype != ESPL_F32 || !is_quantized_layer(j, node->origin)) continue;
        int64_t count = espl_shape_count(&out->shape);
        n->kept[out->origin] = espl__arena_alloc(arena, (uint64_t)count * sizeof(float) + 1);
        if (!n->kept[out->origin]) return false;
    }
    return true;
}

static espl_status run_both(job *j, const probe *p, const trial *t, noise *n, espl_diag *diag) {
    espl_status status = ESPL_OK;
    const espl_graph *graphs[2] = {j->k.graph, t->graph};
    espl_session *s[2] = {NULL, NULL};
    espl_scores scores;
    for (int i = 0; i < 2; i++) {
        espl_session_options options = {
            .input_shapes = j->o.input_shapes, .observer = observe, .observer_user = n,
            .without_late = true};
        ESPL_TRY(espl_session_create(j->k.ctx, graphs[i], &options, &s[i], diag));
    }
    for (int64_t k = 0; k < p->count; k++) {
        for (int i = 0; i < 2; i++) {
            n->seen = graphs[i];
            n->quantized = i == 1;
            espl_evaluation e = {.first = k * p->step, .step = 1, .count = 1};
            ESPL_TRY(espl_evaluate(j->k.ctx, s[i], p->data, &e, &scores, diag));
        }
        ESPL_TRY(espl__job_progress(j, "samples", k + 1, p->count, diag));
    }
done:
    for (int i = 0; i < 2; i++) espl_session_destroy(&s[i]);
    return status;
}

static double decibels(double signal, double error) {
    return error > 0 ? 10 * log10(signal / error) : isnan(error) ? NAN : INFINITY;
}

/* Signal-to-quantization-noise ratio of every layer in `b`, and the damage of the whole. */
static espl_status measure_noise(job *j, const probe *p, espl_blame *b, espl_diag *diag) {
    espl_status status = ESPL_OK;
    espl__arena arena;
    noise n = {0};
    trial t = {0};
    espl_graph *g = NULL;
    espl__arena_init(&arena, j->k.ctx);
    ESPL_TRY(espl__graph_clone(j->k.graph, &g, diag));
    ESPL_TRY(espl__specialise_static(g, j->o.input_shapes, diag));
    if (!keep_outputs(j, &n, &arena, g)) {
        status = espl__nomem(diag, 0);
        goto done;
    }
    ESPL_TRY(espl__trial_build(&j->k, j->decisions, &t, diag));
    ESPL_TRY(espl__probe_measure(p, t.graph, &b->whole, diag));
    ESPL_TRY(run_both(j, p, &t, &n, diag));
    for (int i = 0; i < b->count; i++) {
        const espl__value *out = j->k.graph->nodes[b->layers[i].node]->outputs[0];
        b->layers[i].sqnr_db = n.kept[out->id] ? decibels(n.signal[out->id], n.error[out->id]) : NAN;
    }
done:
    espl__trial_free(&j->k, &t);
    espl_graph_destroy(&g);
    espl__arena_free(&arena);
    return status;
}

/* --- the whole -------------------------------------------------------------------------------------- */

static espl_status measure_spared(job *j, const probe *p, espl_blame *b, espl_diag *diag) {
    espl_status status = ESPL_OK;
    for (int i = 0; i < b->count && status == ESPL_OK; i++) {
        espl_blame_layer *l = &b->layers[i];
        decision old = j->decisions[l->node];
        j->decisions[l->node] = (decision){.pattern = old.pattern, .saliency = old.saliency};
        status = measure(j, p, j->decisions, &l->spared, diag);
        j->decisions[l->node] = old;
        if (status == ESPL_OK) status = espl__job_progress(j, "layers spared", i + 1, b->count, diag);
    }
    return status;
}

static espl_status list_layers(job *j, const probe *p, espl_blame *b, espl_diag *diag) {
    espl__arena *arena = &b->own->arena;
    uint64_t nodes = (uint64_t)j->k.graph->node_count + 1;
    blamed *list = espl__calloc(j->k.ctx, nodes, sizeof *list);
    b->layers = espl__arena_alloc(arena, nodes * sizeof *b->layers);
    espl_status status = list && b->layers ? espl__blame_alone(j, p, list, &b->count, diag)
                                           : espl__nomem(diag, nodes * sizeof *b->layers);
    for (int i = 0; i < b->count && status == ESPL_OK; i++) {
        const espl__node *n = j->k.graph->nodes[list[i].node];
        const decision *d = &j->decisions[n->id];
        b->layers[i] = (espl_blame_layer){.name = espl__arena_strdup(arena, n->name),
                                          .op = n->op->name,
                                          .format = espl_format_name(d->weights),
                                          .node = n->id,
                                          .integer = d->integer && espl__ptq_computes(n),
                                          .alone = j->alone[n->id]};
        if (!b->layers[i].name) status = espl__nomem(diag, strlen(n->name));
    }
    espl__free(j->k.ctx, list);
    return status;
}

espl_status espl_blame_layers(espl_context *ctx, const espl_graph *graph,
                              const espl_compress_options *options, int64_t samples, espl_blame **out,
                              espl_diag *diag) {
    espl_status status = ESPL_OK;
    /* Of the chip only the flavour of the grids counts. */
    job j = {.fallback_chip = "x86-avx512-vnni"};
    probe p = {0};
    espl_blame *b = espl__calloc(ctx, 1, sizeof *b);
    *out = NULL;
    if (!b || !(b->own = espl__calloc(ctx, 1, sizeof *b->own))) {
        espl__free(ctx, b);
        return espl__nomem(diag, sizeof *b);
    }
    espl__arena_init(&b->own->arena, ctx);
    ESPL_TRY(espl__job_open(&j, ctx, graph, options, diag));
    ESPL_TRY(espl__probe_open(&j.k, samples > 0 ? samples : SAMPLES, &p, diag));
    b->samples = p.count;
    b->data = espl__arena_strdup(&b->own->arena, p.data ? espl_dataset_describe(p.data) : "drawn");
    if (!b->data) ESPL_TRY(espl__nomem(diag, 0));
    ESPL_TRY(list_layers(&j, &p, b, diag));
    ESPL_TRY(measure_noise(&j, &p, b, diag));
    ESPL_TRY(measure_spared(&j, &p, b, diag));
    *out = b;
    b = NULL;
done:
    espl__probe_close(&p);
    espl__job_close(&j);
    espl_blame_destroy(&b);
    return status;
}

void espl_blame_destroy(espl_blame **blame) {
    espl_blame *b = *blame;
    if (!b) return;
    espl_context *ctx = b->own->arena.ctx;
    espl__arena_free(&b->own->arena);
    espl__free(ctx, b->own);
    espl__free(ctx, b);
    *blame = NULL;
}
