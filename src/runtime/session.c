#include "runtime/lower.h"
#include "passes/passes.h"

static espl_status create_tables(espl_session *s, espl_diag *diag) {
    uint64_t values = (uint64_t)s->graph->value_count + 1, nodes = (uint64_t)s->graph->node_count + 1;
    s->forms = espl__calloc(s->ctx, values, sizeof *s->forms);
    s->spatial = espl__calloc(s->ctx, values, sizeof *s->spatial);
    s->halos = espl__calloc(s->ctx, values, sizeof *s->halos);
    s->done = espl__calloc(s->ctx, nodes, sizeof *s->done);
    s->inputs = espl__calloc(s->ctx, (uint64_t)s->graph->input_count + 1, sizeof *s->inputs);
    s->outputs = espl__calloc(s->ctx, (uint64_t)s->graph->output_count + 1, sizeof *s->outputs);
    if (!s->forms || !s->spatial || !s->halos || !s->done || !s->inputs || !s->outputs)
        return espl__nomem(diag, values * sizeof *s->forms);
    for (int i = 0; i < s->graph->input_count; i++)
        s->inputs[i] = (espl_tensor){s->graph->inputs[i]->dtype, s->graph->inputs[i]->shape, NULL};
    for (int i = 0; i < s->graph->output_count; i++)
        s->outputs[i] = (espl_tensor){s->graph->outputs[i]->dtype, s->graph->outputs[i]->shape, NULL};
    return ESPL_OK;
}

static void drop_tables(espl_session *s) {
    espl__free(s->ctx, s->forms);
    espl__free(s->ctx, s->spatial);
    espl__free(s->ctx, s->halos);
    espl__free(s->ctx, s->done);
    s->forms = NULL;
    s->spatial = NULL;
    s->halos = NULL;
    s->done = NULL;
}

/* What weights take about: as much as they do in the graph. */
static uint64_t weight_bytes(const espl_graph *g) {
    uint64_t bytes = 0;
    for (int i = 0; i < g->value_count; i++)
        if (g->values[i]->lent) bytes += espl__tensor_bytes(g->values[i]->constant);
    return bytes + bytes / 64;
}

/* What the late part reads and gives. */
static espl_status create_late(espl_session *s, espl_diag *diag) {
    late_part *p = &s->late;
    const espl_graph *g = s->graph, *l = p->late.graph;
    espl_status status = ESPL_OK;
    if (!l) return ESPL_OK;
    p->info = espl__calloc(s->ctx, (uint64_t)p->late.output_count + 1, sizeof *p->info);
    p->handed = espl__calloc(s->ctx, (uint64_t)g->output_count + 1, sizeof *p->handed);
    p->memory = espl__calloc(s->ctx, (uint64_t)g->output_count + 1, sizeof *p->memory);
    p->given = espl__calloc(s->ctx, (uint64_t)l->input_count + 1, sizeof *p->given);
    p->results = espl__calloc(s->ctx, (uint64_t)l->output_count + 1, sizeof *p->results);
    if (!p->info || !p->handed || !p->memory || !p->given || !p->results) return espl__nomem(diag, sizeof *p->info);
    for (int i = 0; i < p->late.output_count; i++) {
        int at = p->late.place[i];
        const espl__value *v = at >= 0 ? g->outputs[at] : l->outputs[-1 - at];
        p->info[i] = (espl_tensor){v->dtype, v->shape, NULL};
        if (!v->known_rank) p->info[i].shape.rank = -1;
    }
    for (int i = 0; i < g->output_count; i++) {
        ESPL_TRY(espl_tensor_alloc(s->ctx, g->outputs[i]->dtype, &g->outputs[i]->shape, &p->handed[i], diag));
        p->memory[i] = p->handed[i].data;
    }
done:
    return status;
}

static void drop_late(espl_session *s) {
    late_part *p = &s->late;
    for (int i = 0; p->memory && i < s->graph->output_count; i++) espl__free(s->ctx, p->memory[i]);
    for (int i = 0; p->results && i < p->late.graph->output_count; i++) espl_tensor_free(s->ctx, &p->results[i]);
    espl__free(s->ctx, p->info);
    espl__free(s->ctx, p->handed);
    espl__free(s->ctx, p->memory);
    espl__free(s->ctx, p->given);
    espl__free(s->ctx, p->results);
    espl__late_free(&p->late);
}

espl_status espl_session_create(espl_context *ctx, const espl_graph *graph,
                                const espl_session_options *options, espl_session **out, espl_diag *diag) {
    espl_status status = ESPL_OK;
    static const espl_session_options defaults;
    if (!options) options = &defaults;
    *out = NULL;
    espl_session *s = espl__calloc(ctx, 1, sizeof *s);
    if (!s) return espl__nomem(diag, sizeof *s);
    s->ctx = ctx;
    espl__arena_init(&s->arena, ctx);
    s->kernels = espl__kernels_get();
    s->profile = options->profile;
    s->observer = options->observer;
    s->observer_user = options->observer_user;
    s->observed = options->observed;
    s->unordered = options->unordered;
    s->threads = espl_context_threads(ctx);
    ESPL_TRY(espl__lower_arithmetic(s, &options->arithmetic, diag));
    ESPL_TRY(espl__graph_share(graph, &s->graph, diag));
    ESPL_TRY(espl__specialise_open(s->graph, options->input_shapes, diag));
    ESPL_TRY(espl__late_split(s->graph, &s->late.late, diag));
    if (options->without_late) espl__late_free(&s->late.late);
    ESPL_TRY(espl__lower_formats(s->graph, diag));
    ESPL_TRY(espl__lower_lift(s->graph, diag));
    if (!s->observer) ESPL_TRY(espl__lower_recognise(s->graph, diag));
    ESPL_TRY(espl__pass_dead_code(s->graph, diag));
    ESPL_TRY(create_tables(s, diag));
    espl__arena_reserve(&s->arena, weight_bytes(s->graph));
    ESPL_TRY(espl__lower_graph(s, diag));
    if (!s->profile) ESPL_TRY(espl__lower_bands(s, diag)); /* layers that are timed run one by one */
    ESPL_TRY(espl__plan_settle(s, diag));
    ESPL_TRY(espl__plan_memory(s, diag));
    ESPL_TRY(espl__plan_choose(s, diag));
    espl__lower_link(s);
    drop_tables(s);
    ESPL_TRY(create_late(s, diag));
    *out = s;
    s = NULL;
done:
    if (status != ESPL_INVALID) espl__diag_name_file(diag, graph->file); /* that is said of the options */
    espl_session_destroy(&s);
    return status;
}

void espl_session_destroy(espl_session **session) {
    espl_session *s = *session;
    if (!s) return;
    espl_context *ctx = s->ctx;
    drop_late(s);
    drop_tables(s);
    for (int i = 0; i < s->step_count; i++) {
        if (s->steps[i]->other) espl__plan_release(s, &s->steps[i]->other->memory);
        espl__plan_release(s, &s->steps[i]->memory);
    }
    espl__free(ctx, s->inputs);
    espl__free(ctx, s->outputs);
    espl__free(ctx, s->buffers);
    espl__free(ctx, s->steps);
    espl__free(ctx, s->workspace);
    espl__arena_free(&s->arena);
    espl_graph_destroy(&s->graph);
    espl__free(ctx, s);
    *session = NULL;
}

int espl_session_input_count(const espl_session *s) {
    return s->graph->input_count;
}
int espl_session_output_count(const espl_session *s) {
    return s->late.late.graph ? s->late.late.output_count : s->graph->output_count;
}
const char *espl_session_input_name(const espl_session *s, int i) {
    return s->graph->inputs[i]->name;
}
const char *espl_session_output_name(const espl_session *s, int i) {
    return s->late.late.graph ? s->late.late.names[i] : s->graph->outputs[i]->name;
}
const espl_tensor *espl_session_input_info(const espl_session *s, int i) {
    return &s->inputs[i];
}
const espl_tensor *espl_session_output_info(const espl_session *s, int i) {
    return s->late.late.graph ? &s->late.info[i] : &s->outputs[i];
}

static espl_status check(const espl_tensor *expected, const espl_tensor *got, const char *what,
                         const char *name, espl_diag *diag) {
    char a[128], b[128];
    if (got->dtype == expected->dtype && espl_shape_equal(&got->shape, &expected->shape) &&
        (got->data || espl_shape_count(&got->shape) == 0)) {
        if (*what != 'i' || espl__text_present(got)) return ESPL_OK;
        return espl__fail(diag, ESPL_INVALID, "input '%s' has a string with a length and without bytes", name);
    }
    return espl__fail(diag, ESPL_SHAPE, "%s '%s' wants %s %s, %s %s was given", what, name,
                      espl_dtype_name(expected->dtype), espl_shape_text(&expected->shape, a, sizeof a),
                      espl_dtype_name(got->dtype), espl_shape_text(&got->shape, b, sizeof b));
}

/* The shape of an output is known before a run. */
static bool is_known(const espl_tensor *info) {
    return info->shape.rank >= 0 && espl_shape_count(&info->shape) >= 0;
}

static espl_status run_steps(espl_session *s, const espl_tensor *inputs, espl_tensor *outputs, espl_diag *diag) {
    if (espl_context_threads(s->ctx) > s->threads)
        return espl__fail(diag, ESPL_INVALID,
                          "the session has room for %d thread%s and the context now has %d; create it again",
                          s->threads, s->threads == 1 ? "" : "s", espl_context_threads(s->ctx));
    for (int i = 0; i < s->graph->input_count; i++) {
        espl_status status = check(&s->inputs[i], &inputs[i], "input", s->graph->inputs[i]->name, diag);
        if (status != ESPL_OK) return status;
    }
    for (int i = 0; i < s->graph->output_count; i++) {
        espl_status status = check(&s->outputs[i], &outputs[i], "output", s->graph->outputs[i]->name, diag);
        if (status != ESPL_OK) return status;
    }
    for (int i = 0; i < s->buffer_count; i++) {
        buffer *b = &s->buffers[i];
        if (b->kind == BUFFER_INPUT) b->data = inputs[b->index].data;
        if (b->kind == BUFFER_OUTPUT) b->data = outputs[b->index].data;
    }
    for (int i = 0; i < s->step_count; i++) {
        step *st = s->steps[i];
        if (!s->profile) {
            st->run(st, s);
            continue;
        }
        double start = espl__now();
        st->run(st, s);
        double seconds = espl__now() - start;
        st->seconds += seconds;
        if (st->runs++ == 0 || seconds < st->best) st->best = seconds;
    }
    return ESPL_OK;
}

/* A result of the late part whose shape was known is the caller's, as all such outputs are. */
static espl_status give_result(const late_part *p, int i, espl_tensor *out, espl_diag *diag) {
    const espl_tensor *result = &p->results[-1 - p->late.place[i]];
    if (!is_known(&p->info[i])) {
        *out = *result;
        return ESPL_OK;
    }
    if (!espl_shape_equal(&result->shape, &out->shape))
        return espl__fail(diag, ESPL_INTERNAL, "output '%s' has another shape than was known", p->late.names[i]);
    if (espl__tensor_bytes(result)) memcpy(out->data, result->data, espl__tensor_bytes(result));
    return ESPL_OK;
}

/* The static part writes where the caller wants what is an output, and into memory of the session what is not. */
static espl_status run_late(espl_session *s, const espl_tensor *inputs, espl_tensor *outputs, espl_diag *diag) {
    late_part *p = &s->late;
    const espl_graph *l = p->late.graph;
    for (int i = 0; i < s->graph->output_count; i++) p->handed[i].data = p->memory[i];
    for (int i = 0; i < p->late.output_count; i++) {
        if (!is_known(&p->info[i])) continue;
        espl_status status = check(&p->info[i], &outputs[i], "output", p->late.names[i], diag);
        if (status != ESPL_OK) return status;
        if (p->late.place[i] >= 0) p->handed[p->late.place[i]].data = outputs[i].data;
    }
    espl_status status = run_steps(s, inputs, p->handed, diag);
    if (status != ESPL_OK) return status;
    for (int i = 0; i < p->late.output_count; i++) { /* two outputs may be one value */
        if (p->late.place[i] < 0 || p->handed[p->late.place[i]].data == outputs[i].data) continue;
        memcpy(outputs[i].data, p->handed[p->late.place[i]].data, espl__tensor_bytes(&outputs[i]));
    }
    for (int i = 0; i < l->input_count; i++)
        p->given[i] = p->late.given[i] >= 0 ? p->handed[p->late.given[i]] : inputs[-1 - p->late.given[i]];
    for (int i = 0; i < l->output_count; i++) espl_tensor_free(s->ctx, &p->results[i]);
    status = espl__late_run(s->ctx, l, p->given, p->results, diag);
    for (int i = 0; i < p->late.output_count && status == ESPL_OK; i++)
        if (p->late.place[i] < 0) status = give_result(p, i, &outputs[i], diag);
    return status;
}

espl_status espl_session_run(espl_session *s, const espl_tensor *inputs, espl_tensor *outputs, espl_diag *diag) {
    return s->late.late.graph ? run_late(s, inputs, outputs, diag) : run_steps(s, inputs, outputs, diag);
}

void espl_session_memory(const espl_session *s, uint64_t *workspace, uint64_t *weights) {
    *workspace = s->workspace_bytes;
    *weights = s->weight_bytes;
}

void espl_session_profile_reset(espl_session *s) {
    for (int i = 0; i < s->step_count; i++) {
        s->steps[i]->seconds = s->steps[i]->best = 0;
        s->steps[i]->runs = 0;
    }
}

/* Steps of one node stand together; a layer is such a run of steps, named by the one that does the work. */
static int layer_end(const espl_session *s, int begin) {
    int i = begin + 1;
    while (i < s->step_count && s->steps[i]->node == s->steps[begin]->node) i++;
    return i;
}

int espl_session_layer_count(const espl_session *s) {
    int count = 0;
    for (int i = 0; i < s->step_count; i = layer_end(s, i)) count++;
    return count;
}

espl_layer espl_session_layer(const espl_session *s, int index) {
    int begin = 0;
    while (index-- > 0) begin = layer_end(s, begin);
    int end = layer_end(s, begin);
    const espl__node *n = s->steps[begin]->node;
    espl_layer l = {.name = n ? n->name : "", .op = n ? n->op->name : "input", .node = n ? n->origin : -1};
    int64_t most = -1;
    const char *core = "";
    for (int i = begin; i < end; i++) {
        const step *st = s->steps[i];
        l.seconds += st->seconds;
        l.best_seconds += st->best;
        l.runs = st->runs;
        l.macs += st->macs;
        l.weight_bytes += st->weight_bytes;
        l.activation_bytes += st->activation_bytes;
        if (st->macs < most || (st->macs == most && i + 1 < end)) continue;
        most = st->macs;
        l.kernel = st->kernel;
        core = st->core ? st->core : st->kernel;
        l.format = st->format;
        l.sparse = st->sparse;
        l.slower = st->slower ? st->slower : "";
        l.gain = st->gain;
    }
    espl__cpu isa = espl__kernels_origin(espl__cpu_level(), core);
    l.isa = isa == ESPL__CPU_COUNT ? "" : espl__cpu_level_name(isa);
    return l;
}
