/* What came of a compression: layer by layer, as a recipe, and as files. */
#include <math.h>
#include <stdio.h>
#include <sys/stat.h>

#include "compress/job.h"
#include "espalier/model.h"

const char *espl__say(job *j, const char *fmt, ...) {
    char text[256];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    const char *copy = espl__arena_strdup(&j->r->own->arena, text);
    return copy ? copy : "";
}

/* --- layers ---------------------------------------------------------------------------------------- */

static const char *speed_reason(job *j, int i) {
    double a = j->before.node_ms[i], b = j->now.node_ms[i];
    const char *how = j->k.measured ? "measured" : "modelled";
    const decision *d = &j->decisions[i];
    if (d->dynamic) return "inputs are rounded in every run";
    if (!espl__format_is_code8(d->weights) || d->group > 0)
        return espl__say(j, "stored as %s, computed in f32", espl_format_name(d->weights));
    if (!d->integer || !(a > 0) || !(b > 0) || !isfinite(a)) return "stored as integers";
    return espl__say(j, "int8: %.1fx the speed (%s)", a / b, how);
}

/* What the zeros of a pruned layer gain when it runs; NULL: not known. */
static const char *sparse_reason(job *j, int i) {
    const choice *c = &j->now.choices[i];
    if (!j->k.measured) return NULL;
    if (!c->sparse && !c->two) return "computed dense: no sparse kernel fits";
    if (c->gain == 0) return c->sparse ? "zeros left out" : "computed dense";
    return c->sparse ? espl__say(j, "zeros left out: %.1fx the dense kernel", c->gain)
                     : espl__say(j, "computed dense: %.1fx the sparse kernel", c->gain);
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
        if (*reason) *why = espl__say(j, "%s", reason);
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
    *l = (espl_layer_choice){.name = espl__say(j, "%s", n->name),
                             .op = n->op->name,
                             .pattern = pattern_of(j, n, &dense),
                             .format_before = "f32",
                             .format_after = espl_format_name(d->weights),
                             .alone = j->alone[n->id]};
    espl__layer_sums before = espl__layer_weights(n), after = espl__layer_weights(m);
    l->accumulator_bits = espl__accumulator_of(j->now.graph, m).bits;
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
    if (sparse) l->why = espl__say(j, "%s; %s", l->why, sparse);
    if (dense) l->why = espl__say(j, "%s; %s", dense, l->why);
    if (j->now.shrunk[n->id])
        l->why = espl__say(j, "%s; %d of %d outputs shrunk for the accumulator", l->why,
                           (int)j->now.shrunk[n->id], (int)espl__accumulator_of(j->now.graph, m).rows);
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
                              .alone = {NAN, NAN, NAN, NAN}};
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
    return a->weights == b->weights && a->integer == b->integer && a->activations == b->activations &&
           a->dynamic == b->dynamic && a->per_tensor == b->per_tensor && a->group == b->group &&
           a->pow2 == b->pow2 && a->fit == b->fit && a->round == b->round && a->saliency == b->saliency &&
           espl_sparsity_equal(&a->pattern, &b->pattern);
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
    espl__recipe_layer row = espl__recipe_row(d);
    row.match = (char *)match;
    if (d->pattern.pattern != ESPL_PATTERN_DENSE)
        row.pattern = (char *)espl__say(j, "%s", espl_sparsity_text(&d->pattern, text, sizeof text));
    return row;
}

/* One row for what most layers got, then the exceptions by name: layers, and other work that is or is not
 * done in integers against the rule. */
static espl_status write_recipe(job *j, espl_diag *diag) {
    const espl_graph *g = j->k.graph;
    espl__buffer text;
    char observer[ESPL__OBSERVER_TEXT];
    (void)espl__observer_text(&j->observer, observer, sizeof observer);
    espl__recipe out = {.chip = (char *)espl_chip_name(j->k.o->chip),
                        .observer = observer,
                        .accumulator = (uint32_t)j->k.accumulator,
                        .on_overflow = j->k.overflow ? (int)j->k.overflow + 1 : 0,
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
        bool layer = espl__is_layer(n), searched = layer && j->o.formats;
        bool follows = layer ? same_row(d, &rule) && !searched : d->integer == rule.integer;
        if (!n->name[0] || follows) continue;
        out.layers[out.layer_count] = recipe_row(j, n->name, d);
        if (searched) out.layers[out.layer_count].note = (char *)j->why[i];
        out.layer_count++;
    }
    espl__buffer_init(&text, j->k.ctx);
    char repairs[ESPL__REPAIR_COUNT][ESPL__REPAIR_TEXT], *list[ESPL__REPAIR_COUNT];
    for (int i = 0; i < j->repairs.count; i++)
        list[i] = (char *)espl__repair_text(&j->repairs.list[i], repairs[i], sizeof repairs[i]);
    out.repair = list;
    out.repair_count = (uint32_t)j->repairs.count;
    espl_status status = espl__recipe_emit(j->k.ctx, &out, &text, diag);
    if (status == ESPL_OK && !(j->r->recipe = espl__arena_strdup(&j->r->own->arena, text.data)))
        status = espl__nomem(diag, text.length);
    espl__buffer_free(&text);
    espl__free(j->k.ctx, out.layers);
    return status;
}

uint64_t espl__job_bytes_before(const job *j) {
    struct stat st;
    return stat(j->k.graph->file, &st) == 0 ? (uint64_t)st.st_size : j->before.bytes;
}

espl_status espl__job_result(job *j, espl_diag *diag) {
    static const char *const metrics[] = {"top1", "agreement", "similarity", "none"};
    espl_result *r = j->r;
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
    r->bytes_before = espl__job_bytes_before(j);
    r->bytes_after = j->now.bytes;
    r->ms_before = j->before.ms;
    r->ms_after = j->now.ms;
    r->joules_before = j->before.joules;
    r->joules_after = j->now.joules;
    r->measured = j->k.measured;
    r->flavour = j->k.flavour;
    r->chip = espl__say(j, "%s", espl_chip_name(j->k.o->chip));
    r->data = j->k.o->data ? espl__say(j, "%s", espl_dataset_describe(j->k.o->data)) : "none";
    espl_status status = list_layers(j, diag);
    if (status == ESPL_OK) status = write_recipe(j, diag);
    r->graph = j->now.graph;
    j->now.graph = NULL;
    return status;
}

/* --- files ----------------------------------------------------------------------------------------- */

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
