/* Repairs within a compression: before the first decisions, and on every trial; and what each of them did. */
#include <math.h>

#include "compress/job.h"

static espl__repair_task task_of(const task *k) {
    return (espl__repair_task){.ctx = k->ctx,
                               .shapes = k->o->input_shapes,
                               .data = k->calib,
                               .step = k->calib_step,
                               .count = k->calib_count,
                               .progress = k->o->progress,
                               .user = k->o->user};
}

espl_status espl__job_repairs(job *j, espl_diag *diag) {
    const espl__recipe *recipe = j->recipe;
    if (j->o.repair) return espl__repairs_parse(j->o.repair, &j->repairs, diag);
    for (uint32_t i = 0; recipe && i < recipe->repair_count; i++) {
        espl_status status = espl__repairs_parse(recipe->repair[i], &j->repairs, diag);
        if (status != ESPL_OK) return status;
    }
    return ESPL_OK;
}

static int before_count(const espl__repairs *r) {
    int n = 0;
    while (n < r->count && espl__repair_stage_of(r->list[n].kind) == ESPL__REPAIR_BEFORE) n++;
    return n;
}

espl_status espl__job_prepare(job *j, espl_diag *diag) {
    espl_status status = ESPL_OK;
    int count = before_count(&j->repairs);
    if (j->first_repairs > 0) count = ESPL_MIN(count, j->first_repairs - 1);
    espl__repair_task t = task_of(&j->k);
    if (!count) return ESPL_OK;
    if (!j->prepared) ESPL_TRY(espl__graph_clone(j->k.graph, &j->prepared, diag));
    t.graph = j->prepared;
    for (int i = 0; i < count; i++) {
        double begin = espl__now();
        ESPL_TRY(espl__repair_apply(&t, &j->repairs.list[i], diag));
        j->seconds[i] = espl__now() - begin;
    }
    j->k.graph = j->prepared;
done:
    return status;
}

/* --- what they did ----------------------------------------------------------------------------------- */

/* The score with the first n repairs and none of the later stages. */
static espl_status score_of_first(job *j, int n, double *score, espl_diag *diag) {
    job part = {.fallback_chip = j->fallback_chip, .first_repairs = n + 1};
    espl_compress_options options = j->asked;
    espl_status status = espl__job_open(&part, j->k.ctx, j->source, &options, diag);
    part.k.metric = j->k.metric; /* compared with the same reference */
    part.k.samples = j->k.samples;
    part.k.output_size = j->k.output_size;
    part.k.classes = j->k.classes;
    part.k.outputs = j->k.outputs;
    if (status == ESPL_OK) status = espl__trial_build(&part.k, part.decisions, &part.now, diag);
    if (status == ESPL_OK) status = espl__trial_score(&part.k, &part.now, diag);
    *score = part.now.score;
    part.k.classes = NULL;
    part.k.outputs = NULL;
    espl__job_close(&part);
    return status;
}

static void note(job *j, int i, double before, double after, double seconds) {
    char text[ESPL__REPAIR_TEXT];
    const char *name = espl__say(j, "%s", espl__repair_text(&j->repairs.list[i], text, sizeof text));
    j->r->repairs[i] = (espl_repair_effect){name, before, after, seconds};
    j->r->repair_count = i + 1;
}

static espl_status note_before(job *j, double plain, espl_diag *diag) {
    espl_status status = ESPL_OK;
    int count = before_count(&j->repairs);
    double last = NAN, next = NAN;
    for (int i = 0; i < count; i++) {
        if (i == 0 && j->k.metric != METRIC_NONE) ESPL_TRY(score_of_first(j, 0, &last, diag));
        next = plain;
        if (i + 1 < count && j->k.metric != METRIC_NONE) ESPL_TRY(score_of_first(j, i + 1, &next, diag));
        note(j, i, last, next, j->seconds[i]);
        last = next;
    }
done:
    return status;
}

/* The f32 network with the zeros of the trial, which is what its weights are rounded from. */
static espl_status pruned_copy(const task *k, const trial *t, espl_graph **out, espl_diag *diag) {
    espl_status status = espl__graph_clone(k->graph, out, diag);
    return status == ESPL_OK ? espl__prune_apply(*out, t->decisions, diag) : status;
}

espl_status espl__job_repair(job *j, trial *t, espl_diag *diag) {
    espl_status status = ESPL_OK;
    espl_graph *pruned = NULL;
    bool first = j->r->repair_count < j->repairs.count; /* with them all */
    espl__repair_task work = task_of(&j->k);
    work.graph = t->graph;
    work.decisions = t->decisions;
    if (first) {
        j->r->repairs = espl__arena_alloc(&j->r->own->arena, sizeof *j->r->repairs * ESPL__REPAIR_COUNT);
        if (!j->r->repairs) return espl__nomem(diag, sizeof *j->r->repairs);
        ESPL_TRY(espl__trial_score(&j->k, t, diag));
        ESPL_TRY(note_before(j, t->score, diag));
    }
    for (int i = before_count(&j->repairs); i < j->repairs.count; i++) {
        const espl__repair *r = &j->repairs.list[i];
        bool rounding = espl__repair_stage_of(r->kind) == ESPL__REPAIR_ROUNDING;
        double score = t->score, begin = espl__now();
        if (rounding && !pruned) ESPL_TRY(pruned_copy(&j->k, t, &pruned, diag));
        work.reference = rounding ? pruned : j->k.graph;
        ESPL_TRY(espl__repair_apply(&work, r, diag));
        double seconds = espl__now() - begin;
        if (!first) continue;
        ESPL_TRY(espl__trial_score(&j->k, t, diag));
        note(j, i, score, t->score, seconds);
    }
done:
    espl_graph_destroy(&pruned);
    return status;
}
