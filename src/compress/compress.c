/* The main job: decide for every layer, try, measure, undo what does not pay or costs too much accuracy. */
#include "compress/trial.h"
#include "espalier/model.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <sys/stat.h>

enum { HOLD_OUT = 5, CALIB_DEFAULT = 512, DRAWN = 32, BLAME_SAMPLES = 16, PAYOFF_TRIES = 6 };

struct espl__result_private {
    espl__arena arena;
};

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

/* The state of one compression. */
typedef struct job {
    task k;
    espl_compress_options o; /* k.o: the caller's, with what the recipe says filled in */
    espl__recipe *recipe;
    espl_chip *chip; /* if the caller gave none */
    decision *decisions;
    const char **why; /* by node; NULL: nothing special */
    double *error;    /* by node: relative error of the output with it alone quantized; 0: not computed */
    espl_result *r;
    trial before, now;
} job;

static const char *say(job *j, const char *fmt, ...) ESPL_PRINTF(2, 3);
static const char *say(job *j, const char *fmt, ...) {
    char text[256];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    const char *copy = espl__arena_strdup(&j->r->own->arena, text);
    return copy ? copy : "";
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

static espl_status decide(job *j, espl_diag *diag) {
    const espl_graph *g = j->k.graph;
    bool s8 = chip_computes_s8(j);
    for (int i = 0; i < g->node_count; i++) {
        const espl__node *n = g->nodes[i];
        decision *d = &j->decisions[i];
        const espl__recipe_layer *row =
            j->recipe ? espl__recipe_lookup(j->recipe, n->name, n->op->name) : NULL;
        *d = (decision){.weights = j->recipe ? ESPL_FORMAT_F32 : ESPL_FORMAT_S8, .integer = !j->recipe && s8};
        if (row) {
            d->pattern = espl__recipe_pattern(row);
            d->saliency = row->saliency ? (espl__saliency)(row->saliency - 1) : ESPL__SALIENCY_MAGNITUDE;
            d->weights = row->format;
            d->integer = !espl__format_is_float(row->format) && row->activations != ESPL__ACTIVATIONS_F32;
            d->per_tensor = row->scale == ESPL__SCALE_TENSOR;
            if (row->format == ESPL_FORMAT_U8 || row->format == ESPL_FORMAT_S32)
                return espl__fail(
                    diag, ESPL_UNSUPPORTED,
                    "recipe row '%s': format %s is not for weights; give f32, f16, bf16 or s2 to s8",
                    row->match, espl_format_name(row->format));
        }
        if (!espl__is_layer(n)) continue;
        if (!espl__ptq_computes(n))
            j->why[i] = espl__format_is_float(d->weights)
                            ? NULL
                            : "stored as integers, computed in f32: no integer kernel";
        else if (!s8 && !j->recipe)
            j->why[i] = "stored as integers, computed in f32: the chip multiplies no s8";
    }
    return ESPL_OK;
}

static void to_float(job *j, int node, const char *why) {
    j->decisions[node].weights = ESPL_FORMAT_F32;
    j->decisions[node].integer = false;
    j->why[node] = why;
}

/* Keeps the small file, computes in f32. */
static void to_stored(job *j, int node, const char *why) {
    j->decisions[node].integer = false;
    j->why[node] = why;
}

static espl_status rebuild(job *j, trial *t, espl_diag *diag) {
    espl_status status = espl__trial_build(&j->k, j->decisions, t, diag);
    return status == ESPL_OK ? espl__trial_score(&j->k, t, diag) : status;
}

static void adopt(job *j, trial *t) {
    espl__trial_free(&j->k, &j->now);
    j->now = *t;
    *t = (trial){0};
}

/* --- the accuracy budget ------------------------------------------------------------------------------- */

typedef struct blame {
    int node;
    double error;
} blame;

/* The damage each layer does when it alone is quantized, worst first. */
static espl_status blame_layers(job *j, blame *list, int *count, espl_diag *diag) {
    espl_status status = ESPL_OK;
    const espl_graph *g = j->k.graph;
    decision *alone = espl__calloc(j->k.ctx, (uint64_t)g->node_count + 1, sizeof *alone);
    trial t = {0};
    if (!alone) return espl__nomem(diag, sizeof *alone);
    *count = 0;
    for (int i = 0; i < g->node_count; i++) {
        if (!espl__is_layer(g->nodes[i]) || j->decisions[i].weights == ESPL_FORMAT_F32) continue;
        memset(alone, 0, sizeof *alone * (size_t)g->node_count);
        alone[i] = j->decisions[i];
        blame b = {i, 0};
        ESPL_TRY(espl__trial_build(&j->k, alone, &t, diag));
        ESPL_TRY(espl__trial_error(&j->k, &t, BLAME_SAMPLES, &b.error, diag));
        espl__trial_free(&j->k, &t);
        j->error[i] = b.error;
        int at = (*count)++;
        for (; at > 0 && list[at - 1].error < b.error; at--) list[at] = list[at - 1];
        list[at] = b;
    }
done:
    espl__trial_free(&j->k, &t);
    espl__free(j->k.ctx, alone);
    return status;
}

/* Returns layers to f32, worst first, twice as many each time, until the budget holds. */
static espl_status keep_budget(job *j, espl_diag *diag) {
    espl_status status = ESPL_OK;
    blame *list = NULL;
    trial t = {0};
    int count = 0, reverted = 0;
    if (j->recipe || j->now.drop <= j->k.o->max_drop) return ESPL_OK;
    list = espl__calloc(j->k.ctx, (uint64_t)j->k.graph->node_count + 1, sizeof *list);
    if (!list) return espl__nomem(diag, sizeof *list);
    ESPL_TRY(blame_layers(j, list, &count, diag));
    for (int step = 1; j->now.drop > j->k.o->max_drop && reverted < count; step *= 2) {
        for (int i = 0; i < step && reverted < count; i++, reverted++)
            to_float(
                j, list[reverted].node,
                say(j, "kept f32: int8 alone errs by %.2g %% of the output", 100 * list[reverted].error));
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
    espl__trial_free(&j->k, &t);
    espl__free(j->k.ctx, list);
    return status;
}

/* --- does it pay? ----------------------------------------------------------------------------------------
 */

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
        to_stored(
            j, node,
            say(j, "stored as integers, computed in f32: int8 is slower here (%.4g > %.4g ms)", s8, f32));
        ESPL_TRY(rebuild(j, &t, diag));
        ESPL_TRY(espl__trial_cost(&j->k, &j->now, &t, diag));
        if (figure(j, &t) < 0.99 * figure(j, &j->now) && t.drop <= ESPL_MAX(j->k.o->max_drop, j->now.drop)) {
            adopt(j, &t);
            continue;
        }
        j->decisions[node] = old;
        j->why[node] =
            why ? why
                : say(j, "int8: %.1fx the speed alone, but f32 here makes the network no faster", f32 / s8);
        espl__trial_free(&j->k, &t);
    }
    if (figure(j, &j->now) > figure(j, &j->before)) { /* the whole step does not pay */
        for (int i = 0; i < j->k.graph->node_count; i++)
            if (j->decisions[i].integer)
                to_stored(
                    j, i,
                    say(j,
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

/* --- the result --------------------------------------------------------------------------------------------
 */

static const char *speed_reason(job *j, int i) {
    double a = j->before.node_ms[i], b = j->now.node_ms[i];
    const char *how = j->k.measured ? "measured" : "modelled";
    if (!j->decisions[i].integer || !(a > 0) || !(b > 0) || !isfinite(a)) return "stored as integers";
    return say(j, "int8: %.1fx the speed (%s)", a / b, how);
}

/* What the zeros of a pruned layer gain when it runs; NULL: not known. */
static const char *sparse_reason(job *j, int i) {
    const choice *c = &j->now.choices[i];
    if (!j->k.measured) return NULL;
    if (!c->sparse && !c->two) return "computed dense: no sparse kernel fits";
    if (c->gain == 0) return c->sparse ? "zeros left out" : "computed dense";
    return c->sparse ? say(j, "zeros left out: %.1fx the dense kernel", c->gain)
                     : say(j, "computed dense: %.1fx the sparse kernel", c->gain);
}

/* The pattern of the layer's weights, of the largest if there are several; and in *why which of them stay
 * dense. */
static espl_sparsity pattern_of(job *j, const espl__node *n, const char **why) {
    const decision *d = &j->decisions[n->id];
    espl_sparsity found = {.pattern = ESPL_PATTERN_DENSE};
    int64_t most = 0;
    *why = NULL;
    for (int i = 0; i < n->input_count && i < 32; i++) {
        espl__matrix m;
        char reason[ESPL__PRUNE_WHY];
        if (!(n->op->weight_inputs >> i & 1)) continue;
        espl_sparsity s = espl__prune_effective(j->k.graph, n, i, &d->pattern, &m, reason);
        if (*reason) *why = say(j, "%s", reason);
        if (s.pattern == ESPL_PATTERN_DENSE || espl__matrix_count(&m) <= most) continue;
        most = espl__matrix_count(&m);
        found = s;
    }
    bool asked = d->pattern.pattern != ESPL_PATTERN_DENSE;
    return asked ? found : espl__layer_pattern(j->now.graph->nodes[n->id], NULL);
}

static void describe_layer(job *j, const espl__node *n, espl_layer_choice *l) {
    const espl__node *m = j->now.graph->nodes[n->id];
    const decision *d = &j->decisions[n->id];
    const char *dense;
    *l = (espl_layer_choice){.name = say(j, "%s", n->name),
                             .op = n->op->name,
                             .pattern = pattern_of(j, n, &dense),
                             .format_before = "f32",
                             .format_after = espl_format_name(d->weights),
                             .sqnr_db = j->error[n->id] > 0 ? -20 * log10(j->error[n->id]) : NAN};
    espl__layer_sums before = espl__layer_weights(n), after = espl__layer_weights(m);
    l->params = before.params;
    l->weights = after.weights;
    l->zeros = after.zeros;
    l->bytes_before = before.bytes;
    l->bytes_after = after.bytes;
    if (!espl__is_layer(n)) {
        bool integer = n->input_count > 0 && espl__is_quantized(m->inputs[0]);
        l->format_after = integer ? "s8" : "f32";
    }
    l->ms_before = isfinite(j->before.node_ms[n->id]) ? j->before.node_ms[n->id] : 0;
    l->ms_after = isfinite(j->now.node_ms[n->id]) ? j->now.node_ms[n->id] : 0;
    l->why = j->why[n->id]                       ? j->why[n->id]
             : espl__format_is_float(d->weights) ? "as the recipe says"
                                                 : speed_reason(j, n->id);
    const char *sparse = l->pattern.pattern == ESPL_PATTERN_DENSE ? NULL : sparse_reason(j, n->id);
    if (sparse) l->why = say(j, "%s; %s", l->why, sparse);
    if (dense) l->why = say(j, "%s; %s", dense, l->why);
    if (!espl__is_layer(n)) l->why = "";
}

static espl_status list_layers(job *j, espl_diag *diag) {
    const espl_graph *g = j->k.graph;
    espl_result *r = j->r;
    espl_costs costs = {0};
    espl_status status = espl_costs_compute(j->k.ctx, g, j->k.o->input_shapes, &costs, diag);
    if (status != ESPL_OK) return status;
    r->layers = espl__arena_alloc(&r->own->arena, sizeof *r->layers * (uint64_t)(g->node_count + 1));
    if (!r->layers) {
        espl_costs_free(j->k.ctx, &costs);
        return espl__nomem(diag, sizeof *r->layers);
    }
    espl_layer_choice rest = {.name = "(other work)",
                              .op = "",
                              .format_before = "f32",
                              .format_after = "",
                              .why = "",
                              .sqnr_db = NAN};
    for (int i = 0; i < g->node_count; i++) {
        espl_layer_choice l;
        describe_layer(j, g->nodes[i], &l);
        for (int c = 0; c < costs.graph->node_count; c++)
            if (costs.graph->nodes[c]->origin == i) l.macs = costs.layers[c].macs;
        r->params += l.params;
        r->weights += l.weights;
        r->zeros += l.zeros;
        r->macs += l.macs;
        if (espl__is_layer(g->nodes[i]) || l.macs > 0) {
            r->layers[r->layer_count++] = l;
            continue;
        }
        rest.bytes_before += l.bytes_before;
        rest.bytes_after += l.bytes_after;
        rest.ms_before += l.ms_before;
        rest.ms_after += l.ms_after;
        rest.params += l.params;
        rest.weights += l.weights;
        rest.zeros += l.zeros;
    }
    if (rest.ms_before + rest.ms_after > 0 || rest.bytes_before) r->layers[r->layer_count++] = rest;
    espl_costs_free(j->k.ctx, &costs);
    return ESPL_OK;
}

static bool same_row(const decision *a, const decision *b) {
    return a->weights == b->weights && a->integer == b->integer && a->per_tensor == b->per_tensor &&
           a->saliency == b->saliency && espl_sparsity_equal(&a->pattern, &b->pattern);
}

/* What most layers got. */
static decision usual(const job *j) {
    const espl_graph *g = j->k.graph;
    decision best = {.weights = ESPL_FORMAT_S8, .integer = true};
    int most = 0;
    for (int i = 0; i < g->node_count; i++) {
        int votes = 0;
        for (int k = 0; k < g->node_count && espl__is_layer(g->nodes[i]); k++)
            votes += espl__is_layer(g->nodes[k]) && same_row(&j->decisions[i], &j->decisions[k]);
        if (votes <= most) continue;
        most = votes;
        best = j->decisions[i];
    }
    return best;
}

static espl__recipe_layer recipe_row(job *j, const char *match, const decision *d) {
    char text[ESPL_SPARSITY_TEXT];
    espl__recipe_layer row = {.match = (char *)match, .format = d->weights};
    if (d->pattern.pattern != ESPL_PATTERN_DENSE) {
        row.pattern = (char *)say(j, "%s", espl_sparsity_text(&d->pattern, text, sizeof text));
        if (d->saliency != ESPL__SALIENCY_MAGNITUDE) row.saliency = (espl__recipe_saliency)d->saliency + 1;
    }
    if (!d->integer && !espl__format_is_float(d->weights)) row.activations = ESPL__ACTIVATIONS_F32;
    if (d->per_tensor && !espl__format_is_float(d->weights)) row.scale = ESPL__SCALE_TENSOR;
    return row;
}

/* One row for what most layers got, then the exceptions by name: layers, and other work that is or is not
 * done in integers against the rule. */
static espl_status write_recipe(job *j, espl_diag *diag) {
    const espl_graph *g = j->k.graph;
    espl__buffer text;
    espl__recipe out = {.chip = (char *)espl_chip_name(j->k.o->chip),
                        .observer = ESPL__OBSERVER_MINMAX,
                        .flavour = j->k.flavour == ESPL_FLAVOUR_ORT_X86 ? ESPL__FLAVOUR_ORT_X86
                                                                        : ESPL__FLAVOUR_PORTABLE,
                        .goal = (espl__recipe_goal)(j->k.o->goal + 1)};
    double max_drop = j->k.o->max_drop;
    decision rule = usual(j);
    out.max_drop = &max_drop;
    out.layers = espl__calloc(j->k.ctx, (uint64_t)g->node_count + 2, sizeof *out.layers);
    if (!out.layers) return espl__nomem(diag, sizeof *out.layers);
    out.layers[out.layer_count++] = recipe_row(j, "*", &rule);
    for (int i = 0; i < g->node_count; i++) {
        const decision *d = &j->decisions[i];
        const espl__node *n = g->nodes[i];
        bool follows = espl__is_layer(n) ? same_row(d, &rule) : d->integer == rule.integer;
        if (n->name[0] && !follows) out.layers[out.layer_count++] = recipe_row(j, n->name, d);
    }
    espl__buffer_init(&text, j->k.ctx);
    espl_status status = espl__recipe_emit(j->k.ctx, &out, &text, diag);
    if (status == ESPL_OK && !(j->r->recipe = espl__arena_strdup(&j->r->own->arena, text.data)))
        status = espl__nomem(diag, text.length);
    espl__buffer_free(&text);
    espl__free(j->k.ctx, out.layers);
    return status;
}

static espl_status fill_result(job *j, espl_diag *diag) {
    static const char *const metrics[] = {"top1", "agreement", "similarity", "none"};
    espl_result *r = j->r;
    struct stat st;
    r->metric = metrics[j->k.metric];
    r->score_before = j->k.reference_score;
    r->score_after = j->now.score;
    r->drop = j->k.metric == METRIC_NONE ? NAN : j->now.drop;
    r->max_drop = j->k.o->max_drop;
    r->goal = (espl_goal)j->k.o->goal;
    r->within_budget = !j->k.o->data || j->now.drop <= j->k.o->max_drop + 1e-9;
    r->before = j->k.reference;
    r->after = j->now.scores;
    r->eval_samples = j->k.samples;
    r->bytes_before = stat(j->k.graph->file, &st) == 0 ? (uint64_t)st.st_size : j->before.bytes;
    r->bytes_after = j->now.bytes;
    r->ms_before = j->before.ms;
    r->ms_after = j->now.ms;
    r->joules_before = j->before.joules;
    r->joules_after = j->now.joules;
    r->measured = j->k.measured;
    r->flavour = j->k.flavour;
    r->chip = say(j, "%s", espl_chip_name(j->k.o->chip));
    r->data = j->k.o->data ? say(j, "%s", espl_dataset_describe(j->k.o->data)) : "none";
    espl_status status = list_layers(j, diag);
    if (status == ESPL_OK) status = write_recipe(j, diag);
    r->graph = j->now.graph;
    j->now.graph = NULL;
    return status;
}

/* --- the whole ---------------------------------------------------------------------------------------------
 */

/* The recipe, and what the caller leaves to it. */
static espl_status open_recipe(job *j, espl_diag *diag) {
    espl_status status = ESPL_OK;
    if (j->o.recipe) status = espl__recipe_read(j->k.ctx, j->o.recipe, &j->recipe, diag);
    if (status != ESPL_OK) return status;
    if (!j->recipe && (!j->o.data || !j->o.chip))
        return espl__fail(diag, ESPL_INVALID, "without a recipe there must be a chip and data");
    if (!j->o.chip) {
        status = espl_chip_load(j->k.ctx, j->recipe->chip ? j->recipe->chip : "host", &j->chip, diag);
        if (status != ESPL_OK && j->recipe->chip) espl__diag_prefix(diag, "%s: chip", j->o.recipe);
        j->o.chip = j->chip;
    }
    if (j->recipe && j->o.flavour < 0 && j->recipe->flavour != ESPL__FLAVOUR_UNSET)
        j->o.flavour =
            j->recipe->flavour == ESPL__FLAVOUR_ORT_X86 ? ESPL_FLAVOUR_ORT_X86 : ESPL_FLAVOUR_PORTABLE;
    return status;
}

static espl_status begin(job *j, espl_diag *diag) {
    espl_context *ctx = j->k.ctx;
    const espl_compress_options *o = j->k.o;
    uint64_t nodes = (uint64_t)j->k.graph->node_count + 1;
    espl_status status = open_recipe(j, diag);
    if (status != ESPL_OK) return status;
    int flavour = o->flavour;
    const espl__recipe *r = j->recipe;
    if (j->o.max_drop < 0) j->o.max_drop = r && r->max_drop ? *r->max_drop : 1;
    if (j->o.goal < 0) j->o.goal = r && r->goal != ESPL__GOAL_UNSET ? (int)r->goal - 1 : ESPL_GOAL_LATENCY;
    j->k.flavour = flavour >= 0 ? (espl_flavour)flavour : ESPL_FLAVOUR_PORTABLE;
    if (flavour < 0) (void)espl_flavour_parse(espl_chip_flavour(o->chip), &j->k.flavour);
    j->k.measured = espl_chip_is_host(o->chip) && strcmp(espl_chip_isa(o->chip), espl_cpu_name()) == 0;
    j->k.hold_out = o->calib ? 0 : HOLD_OUT;
    j->k.ranges = espl__calloc(ctx, (uint64_t)j->k.graph->value_count + 1, sizeof *j->k.ranges);
    j->decisions = espl__calloc(ctx, nodes, sizeof *j->decisions);
    j->why = espl__calloc(ctx, nodes, sizeof *j->why);
    j->error = espl__calloc(ctx, nodes, sizeof *j->error);
    if (!j->k.ranges || !j->decisions || !j->why || !j->error)
        return espl__nomem(diag, nodes * sizeof *j->decisions);
    for (int i = 0; i < j->k.graph->value_count; i++)
        if (espl__is_quantized(j->k.graph->values[i]))
            return espl__fail(diag, ESPL_UNSUPPORTED,
                              "%s: is quantized already; compress starts from a floating-point model",
                              j->k.graph->file);
    return ESPL_OK;
}

static bool needs_ranges(const job *j) {
    bool any = false;
    for (int i = 0; i < j->k.graph->node_count; i++) any |= j->decisions[i].integer;
    return any;
}

/* Which samples calibrate; without data some that are drawn. */
static espl_status choose_samples(job *j, espl_dataset **data, int64_t *step, int64_t *count,
                                  espl_diag *diag) {
    const espl_compress_options *o = j->k.o;
    int64_t want = o->calib_count > 0 ? o->calib_count : CALIB_DEFAULT;
    *data = o->calib ? o->calib : o->data;
    *step = 1;
    *count = ESPL_MIN(want, DRAWN);
    if (!*data) return ESPL_OK;
    int64_t all = espl_dataset_count(*data);
    *step = o->calib ? ESPL_MAX(all / want, 1) : HOLD_OUT;
    *count = ESPL_MIN(want, (all + *step - 1) / *step);
    if (*count < 1 || (!o->calib && all < 2))
        return espl__fail(diag, ESPL_INVALID,
                          "the data set (%s) has too few samples to calibrate and evaluate on",
                          espl_dataset_describe(*data));
    return ESPL_OK;
}

/* Ranges are those of the pruned network: with fewer products its values are smaller. */
static espl_status calibrate(job *j, espl_diag *diag) {
    const espl_compress_options *o = j->k.o;
    espl_status status = ESPL_OK;
    espl_graph *pruned = NULL;
    espl_dataset *data;
    int64_t step, count;
    ESPL_TRY(choose_samples(j, &data, &step, &count, diag));
    if (!needs_ranges(j)) return ESPL_OK;
    j->r->calib_samples = count;
    j->r->calib_data = data ? say(j, "%s", espl_dataset_describe(data)) : "drawn";
    ESPL_TRY(espl__graph_clone(j->k.graph, &pruned, diag));
    ESPL_TRY(espl__prune_apply(pruned, j->decisions, diag));
    status = espl__calibrate(j->k.ctx, pruned, o->input_shapes, data, 0, step, count, j->k.ranges,
                             o->progress, o->user, diag);
done:
    espl_graph_destroy(&pruned);
    return status;
}

static void finish(job *j) {
    espl_context *ctx = j->k.ctx;
    espl__trial_free(&j->k, &j->before);
    espl__trial_free(&j->k, &j->now);
    espl__recipe_destroy(ctx, &j->recipe);
    espl_chip_destroy(&j->chip);
    espl__free(ctx, j->k.ranges);
    espl__free(ctx, j->k.classes);
    espl__free(ctx, j->k.outputs);
    espl__free(ctx, j->decisions);
    espl__free(ctx, j->why);
    espl__free(ctx, j->error);
}

espl_status espl_compress(espl_context *ctx, const espl_graph *graph, const espl_compress_options *options,
                          espl_result **out, espl_diag *diag) {
    espl_status status = ESPL_OK;
    job j = {.k = {.ctx = ctx, .graph = graph}, .o = *options};
    decision *f32 = NULL;
    *out = NULL;
    j.r = espl__calloc(ctx, 1, sizeof *j.r);
    if (!j.r || !(j.r->own = espl__calloc(ctx, 1, sizeof *j.r->own))) {
        espl__free(ctx, j.r);
        return espl__nomem(diag, sizeof *j.r);
    }
    espl__arena_init(&j.r->own->arena, ctx);
    j.k.o = &j.o;
    ESPL_TRY(begin(&j, diag));
    f32 = espl__calloc(ctx, (uint64_t)graph->node_count + 1, sizeof *f32);
    if (!f32) {
        status = espl__nomem(diag, sizeof *f32);
        goto done;
    }
    ESPL_TRY(decide(&j, diag));
    ESPL_TRY(calibrate(&j, diag));
    ESPL_TRY(espl__task_reference(&j.k, diag));
    ESPL_TRY(espl__trial_build(&j.k, f32, &j.before, diag));
    ESPL_TRY(rebuild(&j, &j.now, diag));
    ESPL_TRY(keep_budget(&j, diag));
    ESPL_TRY(undo_what_does_not_pay(&j, diag));
    ESPL_TRY(fill_result(&j, diag));
    *out = j.r;
    j.r = NULL;
done:
    espl__free(ctx, f32);
    finish(&j);
    espl_result_destroy(&j.r);
    return status;
}

void espl_result_destroy(espl_result **result) {
    espl_result *r = *result;
    if (!r) return;
    espl_context *ctx = r->own->arena.ctx;
    espl_graph_destroy(&r->graph);
    espl__arena_free(&r->own->arena);
    espl__free(ctx, r->own);
    espl__free(ctx, r);
    *result = NULL;
}

static espl_status write_into(espl_context *ctx, espl_result *r, const char *folder, const char *name,
                              const char *report, espl_diag *diag) {
    char *path = espl__path_join(ctx, folder, name);
    struct stat st;
    espl_status status;
    if (!path) return espl__nomem(diag, strlen(folder));
    if (strcmp(name, "model.espl") == 0) {
        status = espl_model_write(ctx, r->graph, path, diag);
    } else if (strcmp(name, "model.onnx") == 0) {
        espl_onnx_options options = {.flavour = r->flavour};
        status = espl_onnx_write(ctx, r->graph, &options, path, diag);
        if (status == ESPL_OK && stat(path, &st) == 0) r->onnx_bytes = (uint64_t)st.st_size;
    } else {
        const char *text = strcmp(name, "recipe.yaml") == 0 ? r->recipe : report;
        status = espl__file_write(ctx, path, text, strlen(text), diag);
    }
    espl__free(ctx, path);
    return status;
}

espl_status espl_result_check_folder(espl_context *ctx, const char *folder, espl_diag *diag) {
    char *temporary = NULL;
    espl_status status = espl__dir_begin(ctx, folder, &temporary, diag);
    if (status == ESPL_OK) espl__dir_abort(ctx, temporary);
    espl__free(ctx, temporary);
    return status;
}

espl_status espl_result_write(espl_context *ctx, espl_result *result, const char *folder, const char *report,
                              espl_diag *diag) {
    static const char *const names[] = {"model.espl", "model.onnx", "recipe.yaml", "report.json"};
    char *temporary = NULL;
    espl_status status = espl__dir_begin(ctx, folder, &temporary, diag);
    if (status != ESPL_OK) return status;
    for (size_t i = 0; i < ESPL_COUNT(names) && status == ESPL_OK; i++)
        status = write_into(ctx, result, temporary, names[i], report ? report : "{}\n", diag);
    if (status == ESPL_OK) status = espl__dir_commit(ctx, folder, temporary, diag);
    if (status != ESPL_OK) espl__dir_abort(ctx, temporary);
    espl__free(ctx, temporary);
    return status;
}
