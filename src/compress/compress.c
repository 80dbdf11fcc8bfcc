/* The main job: decide for every layer, try, measure, undo what does not pay or costs too much accuracy. */
#include "compress/job.h"
#include "compress/mixed/mixed.h"
#include "compress/probe.h"
#include "passes/late.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <sys/stat.h>

enum { HOLD_OUT = 5, CALIB_DEFAULT = 512, DRAWN = 32, BLAME_SAMPLES = 16, PAYOFF_TRIES = 6 };

static const char *const goal_names[] = {
#define X(NAME, name, text) name,
    ESPL_GOAL_LIST(X)
#undef X
};

const char *espl_goal_name(espl_goal goal) {
    return (unsigned)goal < ESPL_GOAL_COUNT ? goal_names[goal] : "?";
}

bool espl_goal_parse(const char *name, espl_goal *out) {
    for (int i = 0; i < ESPL_GOAL_COUNT; i++)
        if (strcmp(goal_names[i], name) == 0) {
            *out = (espl_goal)i;
            return true;
        }
    return false;
}

static espl_format activation_format(const job *j) {
    return j->k.flavour == ESPL_FLAVOUR_ORT_X86 ? ESPL_FORMAT_U8 : ESPL_FORMAT_S8;
}

static bool chip_computes_s8(const job *j) {
    return espl_chip_supports(j->k.o->chip, ESPL_FORMAT_S8, activation_format(j)) ||
           espl_chip_supports(j->k.o->chip, ESPL_FORMAT_S8, ESPL_FORMAT_S8) ||
           espl_chip_supports(j->k.o->chip, ESPL_FORMAT_S8, ESPL_FORMAT_U8);
}

/* --- first decisions --------------------------------------------------------------------------------- */

static void decide(job *j) {
    const espl_graph *g = j->k.graph;
    bool s8 = chip_computes_s8(j);
    for (int i = 0; i < g->node_count; i++) {
        const espl__node *n = g->nodes[i];
        decision *d = &j->decisions[i];
        const espl__recipe_layer *row =
            j->recipe ? espl__recipe_lookup(j->recipe, n->name, n->op->name) : NULL;
        *d = (decision){.weights = j->recipe ? ESPL_FORMAT_F32 : ESPL_FORMAT_S8, .integer = !j->recipe && s8};
        if (row) espl__recipe_decide(row, d);
        if (!espl__is_layer(n)) continue;
        if (!espl__ptq_computes(n) && d->integer)
            j->why[i] = "stored as integers, computed in f32: no integer kernel";
        else if (d->dynamic && !espl__node_is(n, "MatMul") && !espl__node_is(n, "Gemm"))
            j->why[i] = "stored as integers, computed in f32: dynamic is for matrix products";
        else if (!s8 && !j->recipe)
            j->why[i] = "stored as integers, computed in f32: the chip multiplies no s8";
    }
}

/* A row for layers that the network does not have is probably a mistyped name; ready recipes have rows for operators that
 * not every network has. */
static void warn_of_rows(const job *j) {
    const espl_graph *g = j->k.graph;
    for (uint32_t i = 0; j->recipe && i < j->recipe->layer_count; i++) {
        const espl__recipe_layer *row = &j->recipe->layers[i];
        bool found = !strncmp(row->match, "op:", 3) || !strcmp(row->match, "*");
        for (int n = 0; n < g->node_count && !found; n++)
            found = espl__recipe_row_matches(row, g->nodes[n]->name, g->nodes[n]->op->name);
        if (!found)
            espl__log(j->k.ctx, ESPL_LOG_WARN,
                      "recipe: '%s' matches no layer; espalier inspect lists their names", row->match);
    }
}

static void to_float(job *j, int node, const char *why) {
    j->decisions[node].weights = ESPL_FORMAT_F32;
    j->decisions[node].integer = false;
    j->why[node] = why;
}

/* What runs after results whose shapes depend on data is computed by references, and nobody sees its ranges. */
static espl_status leave_late(job *j, espl_diag *diag) {
    bool *late = espl__calloc(j->k.ctx, (uint64_t)j->k.graph->node_count + 1, sizeof *late);
    if (!late) return espl__nomem(diag, 1);
    espl_status status = espl__late_nodes(j->k.graph, j->k.o->input_shapes, late, diag);
    for (int i = 0; i < j->k.graph->node_count && status == ESPL_OK; i++)
        if (late[i]) to_float(j, i, "kept f32: its input's shape depends on data");
    espl__free(j->k.ctx, late);
    return status;
}

/* Keeps the small file, computes in f32. */
static void to_stored(job *j, int node, const char *why) {
    j->decisions[node].integer = false;
    j->why[node] = why;
}

static espl_status rebuild(job *j, trial *t, espl_diag *diag) {
    espl_status status = espl__trial_build(&j->k, j->decisions, t, diag);
    if (status == ESPL_OK) status = espl__job_repair(j, t, diag);
    if (status == ESPL_OK) status = espl__trial_accumulators(&j->k, t, diag);
    return status == ESPL_OK ? espl__trial_score(&j->k, t, diag) : status;
}

static void adopt(job *j, trial *t) {
    espl__trial_free(&j->k, &j->now);
    j->now = *t;
    *t = (trial){0};
}

/* --- the accuracy budget ------------------------------------------------------------------------------- */

/* Returns layers to f32, worst first, twice as many each time, until the budget holds. */
static espl_status keep_budget(job *j, espl_diag *diag) {
    espl_status status = ESPL_OK;
    blamed *list = NULL;
    probe p = {0};
    trial t = {0};
    int count = 0, reverted = 0;
    if (j->recipe || j->now.drop <= j->k.o->max_drop) return ESPL_OK;
    list = espl__calloc(j->k.ctx, (uint64_t)j->k.graph->node_count + 1, sizeof *list);
    if (!list) return espl__nomem(diag, sizeof *list);
    ESPL_TRY(espl__probe_open(&j->k, BLAME_SAMPLES, &p, diag));
    ESPL_TRY(espl__blame_alone(j, &p, list, &count, diag));
    for (int step = 1; j->now.drop > j->k.o->max_drop && reverted < count; step *= 2) {
        for (int i = 0; i < step && reverted < count; i++, reverted++)
            to_float(j, list[reverted].node,
                     espl__say(j, "kept f32: int8 alone errs by %.2g %% of the output",
                               100 * j->alone[list[reverted].node].error));
        ESPL_TRY(rebuild(j, &t, diag));
        adopt(j, &t);
    }
    /* Everything in f32 and still over: other integer work between the layers must go too. */
    if (j->now.drop > j->k.o->max_drop) {
        for (int i = 0; i < j->k.graph->node_count; i++)
            if (j->decisions[i].integer) to_float(j, i, "kept f32: the accuracy budget");
        ESPL_TRY(rebuild(j, &t, diag));
        adopt(j, &t);
    }
done:
    espl__probe_close(&p);
    espl__trial_free(&j->k, &t);
    espl__free(j->k.ctx, list);
    return status;
}

/* --- does it pay? ------------------------------------------------------------------------------------ */

static double figure(const job *j, const trial *t) {
    switch (j->k.o->goal) {
        case ESPL_GOAL_SIZE:
            return (double)t->bytes;
        case ESPL_GOAL_ENERGY:
            return t->joules > 0 ? t->joules : t->ms;
        default:
            return t->ms;
    }
}

/* The integer layer that loses most time against f32 and was not tried yet; -1: none. */
static int worst_loss(const job *j, const bool *tried) {
    int worst = -1;
    double most = 0;
    for (int i = 0; i < j->k.graph->node_count; i++) {
        double loss = j->now.node_ms[i] - j->before.node_ms[i];
        if (tried[i] || !j->decisions[i].integer || !espl__is_layer(j->k.graph->nodes[i])) continue;
        if (loss > 0.05 * j->before.node_ms[i] && loss > most && loss > 0.01 * j->now.ms) {
            worst = i;
            most = loss;
        }
    }
    return worst;
}

static espl_status undo_what_does_not_pay(job *j, espl_diag *diag) {
    espl_status status = ESPL_OK;
    bool *tried = espl__calloc(j->k.ctx, (uint64_t)j->k.graph->node_count + 1, sizeof *tried);
    trial t = {0};
    if (!tried) return espl__nomem(diag, 1);
    ESPL_TRY(espl__trial_cost(&j->k, &j->before, &j->now, diag));
    if (j->recipe || j->k.o->goal == ESPL_GOAL_SIZE) goto done;
    for (int i = 0; i < PAYOFF_TRIES; i++) {
        int node = worst_loss(j, tried);
        if (node < 0) break;
        tried[node] = true;
        decision old = j->decisions[node];
        const char *why = j->why[node];
        double f32 = j->before.node_ms[node], s8 = j->now.node_ms[node];
        to_stored(j, node,
                  espl__say(j, "stored as integers, computed in f32: int8 is slower here (%.4g > %.4g ms)",
                            s8, f32));
        ESPL_TRY(rebuild(j, &t, diag));
        ESPL_TRY(espl__trial_cost(&j->k, &j->now, &t, diag));
        if (figure(j, &t) < 0.99 * figure(j, &j->now) && t.drop <= ESPL_MAX(j->k.o->max_drop, j->now.drop)) {
            adopt(j, &t);
            continue;
        }
        j->decisions[node] = old;
        j->why[node] =
            why ? why
                : espl__say(j, "int8: %.1fx the speed alone, but f32 here makes the network no faster",
                            f32 / s8);
        espl__trial_free(&j->k, &t);
    }
    if (figure(j, &j->now) > figure(j, &j->before)) { /* the whole step does not pay */
        for (int i = 0; i < j->k.graph->node_count; i++)
            if (j->decisions[i].integer)
                to_stored(
                    j, i,
                    espl__say(
                        j,
                        "stored as integers, computed in f32: int8 makes the network slower (%.4g > %.4g ms)",
                        j->now.ms, j->before.ms));
        ESPL_TRY(rebuild(j, &t, diag));
        ESPL_TRY(espl__trial_cost(&j->k, &j->before, &t, diag));
        adopt(j, &t);
    }
done:
    espl__trial_free(&j->k, &t);
    espl__free(j->k.ctx, tried);
    return status;
}

/* --- the whole --------------------------------------------------------------------------------------- */

/* The recipe, and what the caller leaves to it. */
static espl_status open_recipe(job *j, espl_diag *diag) {
    espl_status status = ESPL_OK;
    if (j->o.recipe) status = espl__recipe_read(j->k.ctx, j->o.recipe, &j->recipe, diag);
    if (status != ESPL_OK) return status;
    if (!j->o.formats && (j->o.size > 0 || j->o.curve))
        return espl__fail(diag, ESPL_INVALID, "a size and a curve are for a search, and it needs formats to choose from");
    if (!j->recipe && (!j->o.data || !(j->o.chip || j->fallback_chip)))
        return espl__fail(diag, ESPL_INVALID, "without a recipe there must be a chip and data");
    if (!j->o.chip) {
        bool named = j->recipe && j->recipe->chip;
        status = espl_chip_load(j->k.ctx, named ? j->recipe->chip : j->fallback_chip, &j->chip, diag);
        if (status != ESPL_OK && named) espl__diag_prefix(diag, "%s: chip", j->o.recipe);
        j->o.chip = j->chip;
    }
    if (j->recipe && j->o.flavour < 0 && j->recipe->flavour != ESPL__FLAVOUR_UNSET)
        j->o.flavour =
            j->recipe->flavour == ESPL__FLAVOUR_ORT_X86 ? ESPL_FLAVOUR_ORT_X86 : ESPL_FLAVOUR_PORTABLE;
    return status;
}

/* Which samples calibrate; without data some that are drawn. */
static espl_status choose_samples(job *j, espl_diag *diag) {
    const espl_compress_options *o = j->k.o;
    int64_t want = o->calib_count > 0 ? o->calib_count : CALIB_DEFAULT;
    espl_dataset *data = o->calib ? o->calib : o->data;
    j->k.calib = data;
    j->k.calib_step = 1;
    j->k.calib_count = ESPL_MIN(want, DRAWN);
    if (!data) return ESPL_OK;
    int64_t all = espl_dataset_count(data);
    j->k.calib_step = o->calib ? ESPL_MAX(all / want, 1) : HOLD_OUT;
    j->k.calib_count = ESPL_MIN(want, (all + j->k.calib_step - 1) / j->k.calib_step);
    if (j->k.calib_count < 1 || (!o->calib && all < 2))
        return espl__fail(diag, ESPL_INVALID,
                          "the data set (%s) has too few samples to calibrate and evaluate on",
                          espl_dataset_describe(data));
    return ESPL_OK;
}

/* Weights of 16 bits are floats as those of 32 are: there is a copy to work on in which they are f32. */
static espl_status widen(job *j, espl_diag *diag) {
    if (!espl__has_half_weights(j->k.graph)) return ESPL_OK;
    espl_status status = espl__graph_clone(j->k.graph, &j->prepared, diag);
    if (status != ESPL_OK) return status;
    j->k.graph = j->prepared;
    return espl__widen_weights(j->prepared, diag);
}

static espl_status begin(job *j, espl_diag *diag) {
    espl_context *ctx = j->k.ctx;
    const espl_compress_options *o = j->k.o;
    espl_status status = open_recipe(j, diag);
    if (status == ESPL_OK) status = espl__job_repairs(j, diag);
    if (status != ESPL_OK) return status;
    int flavour = o->flavour;
    const espl__recipe *r = j->recipe;
    if (j->o.max_drop < 0) j->o.max_drop = r && r->max_drop ? *r->max_drop : o->size > 0 ? 100 : 1;
    if (j->o.goal < 0) j->o.goal = r && r->goal != ESPL__GOAL_UNSET ? (int)r->goal - 1 : ESPL_GOAL_LATENCY;
    j->k.accumulator = r ? (int)r->accumulator : 0;
    j->k.overflow = r && r->on_overflow ? (espl__overflow)(r->on_overflow - 1) : ESPL__OVERFLOW_SHRINK;
    const char *observer = o->observer ? o->observer : r ? r->observer : NULL;
    char forms[ESPL__OBSERVER_FORMS];
    j->observer_given = observer != NULL;
    if (observer && !espl__observer_parse(observer, &j->observer))
        return espl__fail(diag, ESPL_INVALID, "observer '%.40s' is none; give one of: %s", observer,
                          espl__observer_forms(forms, sizeof forms));
    j->k.flavour = flavour >= 0 ? (espl_flavour)flavour : ESPL_FLAVOUR_PORTABLE;
    if (flavour < 0) (void)espl_flavour_parse(espl_chip_flavour(o->chip), &j->k.flavour);
    j->k.measured = espl_chip_is_host(o->chip) && strcmp(espl_chip_isa(o->chip), espl_cpu_name()) == 0;
    j->k.hold_out = o->calib ? 0 : HOLD_OUT;
    status = widen(j, diag);
    if (status != ESPL_OK) return status;
    for (int i = 0; i < j->k.graph->value_count; i++)
        if (espl__is_quantized(j->k.graph->values[i]))
            return espl__fail(diag, ESPL_UNSUPPORTED,
                              "%s: is quantized already; give the floating-point model, and with --recipe what was "
                              "done to it",
                              j->k.graph->file);
    status = choose_samples(j, diag);
    if (status == ESPL_OK) status = espl__job_prepare(j, diag);
    if (status != ESPL_OK) return status;
    uint64_t nodes = (uint64_t)j->k.graph->node_count + 1;
    j->k.ranges = espl__calloc(ctx, (uint64_t)j->k.graph->value_count + 1, sizeof *j->k.ranges);
    j->decisions = espl__calloc(ctx, nodes, sizeof *j->decisions);
    j->why = espl__calloc(ctx, nodes, sizeof *j->why);
    j->alone = espl__calloc(ctx, nodes, sizeof *j->alone);
    if (!j->k.ranges || !j->decisions || !j->why || !j->alone)
        return espl__nomem(diag, nodes * sizeof *j->decisions);
    for (uint64_t i = 0; i < nodes; i++) j->alone[i].error = NAN;
    return ESPL_OK;
}

static bool needs_ranges(const job *j) {
    bool any = false;
    for (int i = 0; i < j->k.graph->node_count; i++)
        any |= j->decisions[i].integer || j->decisions[i].activations != ESPL_FORMAT_F32;
    return any;
}

/* Where nobody says: with few codes it pays to let the largest elements saturate (docs/methods.md has the measurements). */
static espl__observer usual_observer(const job *j) {
    const char *formats = j->asked.formats; /* "s4/u4": a search may come to few codes */
    if (formats && strchr(formats, '/')) return (espl__observer){.kind = ESPL__OBSERVER_MSE};
    for (int i = 0; i < j->k.graph->node_count; i++) {
        const espl_format f = j->decisions[i].activations;
        if (espl_format_kind_of(f) == ESPL_FORMAT_KIND_INTEGER && espl_format_bits(f) < 8)
            return (espl__observer){.kind = ESPL__OBSERVER_MSE};
    }
    return (espl__observer){.kind = ESPL__OBSERVER_MINMAX};
}

/* Ranges are those of the pruned network: with fewer products its values are smaller. */
static espl_status calibrate(job *j, espl_diag *diag) {
    const espl_compress_options *o = j->k.o;
    espl_status status = ESPL_OK;
    espl_graph *pruned = NULL;
    bool *observed = NULL;
    if (!needs_ranges(j) && !j->repairs.count) return ESPL_OK;
    j->r->calib_samples = j->k.calib_count;
    j->r->calib_data = j->k.calib ? espl__say(j, "%s", espl_dataset_describe(j->k.calib)) : "drawn";
    if (!needs_ranges(j)) return ESPL_OK;
    observed = espl__calloc(j->k.ctx, (uint64_t)j->k.graph->value_count + 1, sizeof *observed);
    if (!observed) return espl__nomem(diag, 1);
    if (!j->observer_given) j->observer = usual_observer(j);
    for (int i = 0; i < j->k.graph->value_count; i++) j->k.ranges[i].observer = j->observer;
    ESPL_TRY(espl__graph_clone(j->k.graph, &pruned, diag));
    ESPL_TRY(espl__prune_apply(pruned, j->decisions, diag));
    ESPL_TRY(espl__ptq_observed(pruned, j->k.flavour, observed, diag));
    status = espl__calibrate(j->k.ctx, pruned, o->input_shapes, j->k.calib, 0, j->k.calib_step, j->k.calib_count,
                             observed, j->k.ranges, o->progress, o->user, diag);
done:
    espl__free(j->k.ctx, observed);
    espl_graph_destroy(&pruned);
    return status;
}

espl_status espl__job_progress(job *j, const char *what, int64_t done, int64_t total, espl_diag *diag) {
    if (!j->o.progress || j->o.progress(j->o.user, what, done, total)) return ESPL_OK;
    return espl__fail(diag, ESPL_CANCELLED, "cancelled after %" PRId64 " of %" PRId64 " %s", done, total, what);
}

espl_status espl__job_open(job *j, espl_context *ctx, const espl_graph *graph,
                           const espl_compress_options *options, espl_diag *diag) {
    j->k = (task){.ctx = ctx, .graph = graph, .o = &j->o};
    j->o = j->asked = *options;
    j->source = graph;
    j->r = espl__calloc(ctx, 1, sizeof *j->r);
    if (!j->r || !(j->r->own = espl__calloc(ctx, 1, sizeof *j->r->own))) {
        espl__free(ctx, j->r);
        j->r = NULL;
        return espl__nomem(diag, sizeof *j->r);
    }
    espl__arena_init(&j->r->own->arena, ctx);
    espl_status status = begin(j, diag);
    if (status != ESPL_OK) return status;
    decide(j);
    warn_of_rows(j);
    status = leave_late(j, diag);
    return status == ESPL_OK ? calibrate(j, diag) : status;
}

void espl__job_close(job *j) {
    espl_context *ctx = j->k.ctx;
    espl__trial_free(&j->k, &j->before);
    espl__trial_free(&j->k, &j->now);
    espl__recipe_destroy(ctx, &j->recipe);
    espl_chip_destroy(&j->chip);
    for (int i = 0; j->k.ranges && i < j->k.graph->value_count; i++) espl__range_free(ctx, &j->k.ranges[i]);
    espl__free(ctx, j->k.ranges);
    espl__free(ctx, j->k.classes);
    espl__free(ctx, j->k.outputs);
    espl__free(ctx, j->decisions);
    espl__free(ctx, j->why);
    espl__free(ctx, j->alone);
    espl_graph_destroy(&j->prepared);
    espl_result_destroy(&j->r);
}

espl_status espl_compress(espl_context *ctx, const espl_graph *graph, const espl_compress_options *options,
                          espl_result **out, espl_diag *diag) {
    espl_status status = ESPL_OK;
    job j = {.fallback_chip = options->recipe ? "host" : NULL};
    decision *f32 = NULL;
    *out = NULL;
    ESPL_TRY(espl__job_open(&j, ctx, graph, options, diag));
    f32 = espl__calloc(ctx, (uint64_t)j.k.graph->node_count + 1, sizeof *f32);
    if (!f32) {
        status = espl__nomem(diag, sizeof *f32);
        goto done;
    }
    const espl_graph *prepared = j.k.graph;
    j.k.graph = graph; /* the answers to compare with are those of the network as it came */
    status = espl__task_reference(&j.k, diag);
    j.k.graph = prepared;
    if (status != ESPL_OK) goto done;
    ESPL_TRY(espl__trial_build(&j.k, f32, &j.before, diag));
    if (options->formats) {
        ESPL_TRY(espl__mixed_search(&j, diag));
    } else {
        ESPL_TRY(rebuild(&j, &j.now, diag));
        ESPL_TRY(keep_budget(&j, diag));
        ESPL_TRY(undo_what_does_not_pay(&j, diag));
    }
    ESPL_TRY(espl__job_result(&j, diag));
    *out = j.r;
    j.r = NULL;
done:
    espl__free(ctx, f32);
    espl__job_close(&j);
    return status;
}
