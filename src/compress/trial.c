#include "compress/feed.h"
#include "compress/probe.h"
#include "passes/late.h"
#include "runtime/container.h"

#include <math.h>

static espl_status open_session(const task *k, const espl_graph *g, bool profile, espl_session **out,
                                espl_diag *diag) {
    espl_session_options options = {.input_shapes = k->o->input_shapes, .profile = profile, .without_late = true};
    return espl_session_create(k->ctx, g, &options, out, diag);
}

/* --- score ------------------------------------------------------------------------------------------ */

bool espl__ranks_classes(const espl_session *s, const espl_scores *scores) {
    const espl_tensor *out = espl_session_output_info(s, 0);
    return scores->has_labels || (out->shape.rank == 2 && out->shape.dim[1] > 1 && !scores->has_mse &&
                                  espl_session_output_count(s) == 1);
}

static metric choose_metric(const espl_session *s, const espl_scores *scores) {
    if (scores->has_labels) return METRIC_TOP1;
    return espl__ranks_classes(s, scores) ? METRIC_AGREEMENT : METRIC_SIMILARITY;
}

static espl_evaluation evaluation_of(const task *k) {
    return (espl_evaluation){.step = 1,
                             .count = k->samples,
                             .hold_out = k->hold_out,
                             .progress = k->o->progress,
                             .user = k->o->user};
}

espl_status espl__task_reference(task *k, espl_diag *diag) {
    espl_status status = ESPL_OK;
    espl_session *s = NULL;
    espl_evaluation e;
    k->metric = METRIC_NONE;
    k->reference_score = NAN;
    if (!k->o->data) return ESPL_OK;
    int64_t all = espl_dataset_count(k->o->data);
    k->samples = k->hold_out ? all - (all + k->hold_out - 1) / k->hold_out : all;
    ESPL_TRY(open_session(k, k->graph, false, &s, diag));
    k->output_size = espl_shape_count(&espl_session_output_info(s, 0)->shape);
    k->classes = espl__calloc(k->ctx, (uint64_t)k->samples + 1, sizeof *k->classes);
    e = evaluation_of(k);
    e.classes = k->classes;
    bool labels = espl_dataset_has_labels(k->o->data) || espl_dataset_vocabulary(k->o->data);
    if (!labels && espl__fed_as_f32(espl_session_output_info(s, 0)->dtype))
        e.outputs = k->outputs =
            espl__calloc(k->ctx, (uint64_t)(k->samples * k->output_size) + 1, sizeof(float));
    if (!k->classes || (e.outputs != k->outputs)) {
        status = espl__nomem(diag, (uint64_t)(k->samples * k->output_size) * 4);
        goto done;
    }
    ESPL_TRY(espl_evaluate(k->ctx, s, k->o->data, &e, &k->reference, diag));
    k->metric = choose_metric(s, &k->reference);
    if (k->metric == METRIC_SIMILARITY && !k->outputs)
        status = espl__fail(diag, ESPL_UNSUPPORTED,
                            "the network's first output is no f32 tensor; it cannot be compared");
    k->reference_score = k->metric == METRIC_TOP1 ? k->reference.top1 : 1;
done:
    espl_session_destroy(&s);
    return status;
}

espl_status espl__trial_score(task *k, trial *t, espl_diag *diag) {
    espl_status status = ESPL_OK;
    espl_session *s = NULL;
    t->score = NAN;
    if (k->metric == METRIC_NONE) return ESPL_OK;
    int32_t *classes = espl__calloc(k->ctx, (uint64_t)k->samples + 1, sizeof *classes);
    float *outputs = NULL;
    espl_evaluation e = evaluation_of(k);
    int64_t equal = 0;
    if (!classes) return espl__nomem(diag, (uint64_t)k->samples * 4);
    if (k->metric == METRIC_SIMILARITY &&
        !(outputs = espl__calloc(k->ctx, (uint64_t)(k->samples * k->output_size) + 1, sizeof *outputs))) {
        status = espl__nomem(diag, (uint64_t)(k->samples * k->output_size) * 4);
        goto done;
    }
    e.classes = classes;
    e.outputs = outputs;
    ESPL_TRY(open_session(k, t->graph, false, &s, diag));
    ESPL_TRY(espl_evaluate(k->ctx, s, k->o->data, &e, &t->scores, diag));
    for (int64_t i = 0; i < k->samples; i++) equal += classes[i] == k->classes[i];
    if (k->metric == METRIC_TOP1)
        t->score = t->scores.top1;
    else if (k->metric == METRIC_AGREEMENT)
        t->score = k->samples ? (double)equal / (double)k->samples : 1;
    else
        t->score = 1 - espl__relative_error(outputs, k->outputs, k->samples * k->output_size);
    t->drop = 100 * (k->reference_score - t->score);
done:
    espl_session_destroy(&s);
    espl__free(k->ctx, classes);
    espl__free(k->ctx, outputs);
    return status;
}

/* --- build ------------------------------------------------------------------------------------------- */

/* Bits of the accumulator that the chip multiplies these formats with. */
static int accumulator_bits(const task *k, const espl__node *n) {
    static const espl_format activations[] = {ESPL_FORMAT_U8, ESPL_FORMAT_S8};
    espl_chip_compute row = {.accumulator_bits = 32};
    if (k->accumulator) return k->accumulator;
    bool found =
        espl_chip_find_compute(k->o->chip, n->inputs[1]->quant.format, n->inputs[0]->quant.format, &row);
    for (size_t i = 0; i < ESPL_COUNT(activations) && !found; i++)
        found = espl_chip_find_compute(k->o->chip, ESPL_FORMAT_S8, activations[i], &row);
    return row.accumulator_bits;
}

/* `weights`: by node, as they were before they were rounded; NULL: as their codes are. */
static espl_status fit_accumulators(const task *k, trial *t, espl__value *const *weights, espl_diag *diag) {
    for (int i = 0; i < t->graph->node_count; i++) {
        espl__node *n = t->graph->nodes[i];
        int64_t shrunk;
        if (n->input_count < 2 || !espl__is_quantized(n->inputs[0]) || !espl__is_quantized(n->inputs[1]))
            continue;
        const espl_tensor *real =
            weights && weights[i] && weights[i]->constant->dtype == ESPL_F32 ? weights[i]->constant : NULL;
        espl_status status =
            espl__accumulator_limit(t->graph, n, real, accumulator_bits(k, n), k->overflow, &shrunk, diag);
        if (status != ESPL_OK) return status;
        t->shrunk[i] = ESPL_MAX(t->shrunk[i], shrunk);
    }
    return ESPL_OK;
}

espl_status espl__trial_accumulators(const task *k, trial *t, espl_diag *diag) {
    return fit_accumulators(k, t, NULL, diag);
}

espl_status espl__trial_build(task *k, const decision *decisions, trial *t, espl_diag *diag) {
    espl_status status = ESPL_OK;
    espl__buffer bytes;
    uint64_t nodes = (uint64_t)k->graph->node_count;
    espl__value **weights = NULL;
    *t = (trial){.decisions = espl__calloc(k->ctx, nodes + 1, sizeof *decisions),
                 .choices = espl__calloc(k->ctx, nodes + 1, sizeof(choice)),
                 .shrunk = espl__calloc(k->ctx, nodes + 1, sizeof(int64_t)),
                 .node_ms = espl__calloc(k->ctx, nodes + 1, sizeof(double)),
                 .node_joules = espl__calloc(k->ctx, nodes + 1, sizeof(double))};
    if (!t->decisions || !t->choices || !t->shrunk || !t->node_ms || !t->node_joules)
        return espl__nomem(diag, nodes * sizeof *decisions);
    memcpy(t->decisions, decisions, nodes * sizeof *decisions);
    ESPL_TRY(espl__graph_clone(k->graph, &t->graph, diag));
    ESPL_TRY(espl__prune_apply(t->graph, decisions, diag));
    if (!(weights = espl__calloc(k->ctx, nodes + 1, sizeof(espl__value *))))
        ESPL_TRY(espl__nomem(diag, nodes));
    for (int i = 0; i < t->graph->node_count; i++) { /* the arena keeps them */
        espl__value *w = t->graph->nodes[i]->input_count > 1 ? t->graph->nodes[i]->inputs[1] : NULL;
        weights[i] = w && w->constant ? w : NULL;
    }
    ESPL_TRY(espl__ptq_apply(t->graph, k->ranges, decisions, k->flavour, diag));
    ESPL_TRY(fit_accumulators(k, t, weights, diag));
    ESPL_TRY(espl__model_bytes(k->ctx, t->graph, &bytes, diag));
    t->bytes = bytes.length;
    espl__buffer_free(&bytes);
done:
    espl__free(k->ctx, weights);
    return status;
}

void espl__trial_free(task *k, trial *t) {
    espl_graph_destroy(&t->graph);
    espl__free(k->ctx, t->decisions);
    espl__free(k->ctx, t->choices);
    espl__free(k->ctx, t->shrunk);
    espl__free(k->ctx, t->node_ms);
    espl__free(k->ctx, t->node_joules);
    *t = (trial){0};
}

/* --- cost -------------------------------------------------------------------------------------------- */

enum { ROUNDS = 5 };

static double middle(double *x) {
    for (int i = 1; i < ROUNDS; i++)
        for (int j = i; j > 0 && x[j] < x[j - 1]; j--) {
            double swap = x[j];
            x[j] = x[j - 1];
            x[j - 1] = swap;
        }
    return x[ROUNDS / 2];
}

/* Plain runs give the whole network's time (the median), profiled ones that of each layer (undisturbed: a
 * layer of microseconds that was interrupted once would otherwise look slow). */
static espl_status measure(task *k, trial *const t[2], espl_diag *diag) {
    espl_status status = ESPL_OK;
    espl_session *plain[2] = {NULL, NULL}, *profiled[2] = {NULL, NULL};
    double rounds[2][ROUNDS];
    espl_timing timing;
    for (int i = 0; i < 2; i++) {
        ESPL_TRY(open_session(k, t[i]->graph, false, &plain[i], diag));
        ESPL_TRY(open_session(k, t[i]->graph, true, &profiled[i], diag));
    }
    for (int r = 0; r < ROUNDS; r++)
        for (int i = 0; i < 2; i++) {
            ESPL_TRY(espl_time_session(k->ctx, plain[i], 3, 0.05, &timing, diag));
            rounds[i][r] = timing.median_ms;
        }
    for (int i = 0; i < 2; i++) {
        t[i]->ms = middle(rounds[i]);
        ESPL_TRY(espl_time_session(k->ctx, profiled[i], 3, 0.1, &timing, diag));
        memset(t[i]->node_ms, 0, sizeof(double) * (size_t)k->graph->node_count);
        for (int l = 0; l < espl_session_layer_count(profiled[i]); l++) {
            espl_layer layer = espl_session_layer(profiled[i], l);
            if (layer.node < 0 || layer.runs == 0) continue;
            t[i]->node_ms[layer.node] += 1e3 * layer.best_seconds;
            if (layer.sparse || *layer.slower)
                t[i]->choices[layer.node] = (choice){layer.sparse, *layer.slower != 0, layer.gain};
        }
    }
done:
    for (int i = 0; i < 2; i++) {
        espl_session_destroy(&plain[i]);
        espl_session_destroy(&profiled[i]);
    }
    return status;
}

static uint64_t activation_bytes(espl__value *const *values, int count) {
    uint64_t bytes = 0;
    for (int i = 0; i < count; i++) {
        const espl__value *v = values[i];
        if (!v || v->constant || espl_shape_count(&v->shape) < 0) continue;
        bytes +=
            (uint64_t)espl_shape_count(&v->shape) *
            (espl__is_quantized(v) && espl__format_is_code8(v->quant.format) ? 1
                                                                             : espl_dtype_bytes(v->dtype));
    }
    return bytes;
}

/* Whether products are of codes: weights and inputs in other formats are computed as f32. */
static bool in_integers(const espl__node *n) {
    const espl__value *x = n->input_count > 0 ? n->inputs[0] : NULL;
    const espl__value *w = n->input_count > 1 && (n->op->weight_inputs >> 1 & 1) ? n->inputs[1] : NULL;
    if (!espl__is_quantized(x) || !espl__format_is_code8(x->quant.format)) return false;
    return !w || !w->constant ||
           (espl__is_quantized(w) && espl__format_is_code8(w->quant.format) && w->quant.group == 0);
}

static espl_chip_layer chip_layer(const task *k, const espl__node *n, uint64_t resident) {
    espl_chip_layer l = {.macs = n->op->macs ? n->op->macs(n) : 0, .resident_bytes = resident};
    bool integer = in_integers(n);
    l.weight_bytes = espl__layer_weights(n).bytes;
    l.pattern = espl__layer_pattern(n, NULL);
    l.weight_format = integer ? ESPL_FORMAT_S8 : ESPL_FORMAT_F32;
    l.activation_format = !integer ? ESPL_FORMAT_F32 : n->inputs[0]->quant.format;
    if (integer && !espl_chip_supports(k->o->chip, l.weight_format, l.activation_format))
        l.activation_format = l.activation_format == ESPL_FORMAT_U8 ? ESPL_FORMAT_S8 : ESPL_FORMAT_U8;
    l.input_bytes = activation_bytes(n->inputs, n->input_count);
    l.output_bytes = activation_bytes(n->outputs, n->output_count);
    return l;
}

/* Nodes that the chip's cost model has no word for (views, clamps that go into a store) cost their bytes
 * only. */
static espl_status model(task *k, trial *t, espl_diag *diag) {
    espl_graph *g = NULL;
    espl_status status = ESPL_OK;
    uint64_t resident = 0;
    t->ms = t->joules = 0;
    ESPL_TRY(espl__graph_clone(t->graph, &g, diag));
    ESPL_TRY(espl__specialise_static(g, k->o->input_shapes, diag));
    for (int i = 0; i < g->node_count; i++) resident += espl__layer_weights(g->nodes[i]).bytes;
    for (int i = 0; i < g->node_count; i++) {
        const espl__node *n = g->nodes[i];
        if (!(n->op->macs && n->op->macs(n) > 0) && n->op->quant != ESPL__QUANT_COMPUTE) continue;
        espl_chip_layer l = chip_layer(k, n, resident);
        double seconds = espl_chip_layer_seconds(k->o->chip, &l),
               joules = espl_chip_layer_joules(k->o->chip, &l);
        t->node_ms[n->origin] = 1e3 * seconds;
        t->node_joules[n->origin] = joules;
        t->ms += 1e3 * seconds;
        t->joules += joules;
    }
    if (!isfinite(t->joules)) t->joules = 0;
done:
    espl_graph_destroy(&g);
    return status;
}

espl_status espl__trial_cost(task *k, trial *a, trial *b, espl_diag *diag) {
    trial *const both[2] = {a, b};
    espl_status status = ESPL_OK;
    for (int i = 0; i < 2 && status == ESPL_OK; i++) status = model(k, both[i], diag);
    return status == ESPL_OK && k->measured ? measure(k, both, diag) : status;
}
