#include "passes/late.h"
#include "passes/infer.h"

static bool is_static(const espl__value *v) {
    return v->kind == ESPL__TENSOR && v->known_rank && espl_shape_count(&v->shape) >= 0;
}

static bool is_text(const espl__value *v) {
    return v && v->dtype == ESPL_STRING;
}

static bool is_late(const espl__value *v) {
    return v && v->producer && v->producer->mark == 1;
}

static bool gives_text(const espl_graph *g) {
    for (int i = 0; i < g->output_count; i++)
        if (is_text(g->outputs[i])) return true;
    return false;
}

int espl__late_mark(espl_graph *g) {
    int count = 0;
    for (int i = 0; i < g->node_count; i++) {
        espl__node *n = g->nodes[i];
        bool late = !n->op->eval;
        for (int j = 0; j < n->input_count; j++) late = late || is_late(n->inputs[j]) || is_text(n->inputs[j]);
        for (int j = 0; j < n->output_count; j++)
            late = late || is_text(n->outputs[j]) || (n->outputs[j] && !is_static(n->outputs[j]));
        n->mark = late;
        count += late;
    }
    return count;
}

espl_status espl__late_nodes(const espl_graph *graph, const espl_shape *shapes, bool *late, espl_diag *diag) {
    espl_graph *g = NULL;
    espl_status status = espl__graph_share(graph, &g, diag);
    if (status == ESPL_OK) status = espl__specialise_open(g, shapes, diag);
    if (status == ESPL_OK && espl__late_mark(g))
        for (int i = 0; i < g->node_count; i++)
            if (g->nodes[i]->mark == 1 && g->nodes[i]->origin >= 0) late[g->nodes[i]->origin] = true;
    espl_graph_destroy(&g);
    return status;
}

/* --- splitting --------------------------------------------------------------------------------------- */

typedef struct split {
    espl_graph *g; /* becomes the static part */
    espl__late *late;
    espl__value **copy; /* by id in g: the value of the late graph */
    espl__value **handed, **inputs;
    int handed_count, input_count;
    int *index; /* by id in g: place among `handed`, plus one */
    espl_diag *diag;
} split;

/* The value becomes an output of the static part. */
static int hand_over(split *s, espl__value *v) {
    if (!s->index[v->id]) {
        s->handed[s->handed_count++] = v;
        s->index[v->id] = s->handed_count;
    }
    return s->index[v->id] - 1;
}

static int input_index(const espl_graph *g, const espl__value *v) {
    int i = 0;
    while (g->inputs[i] != v) i++;
    return i;
}

/* What a late node reads of the static part: an input of the late graph, or a constant of its own. */
static espl_status read_value(split *s, espl__value *v, espl__value **out) {
    espl_graph *to = s->late->graph;
    if ((*out = s->copy[v->id])) return ESPL_OK;
    if (v->constant) {
        const espl_tensor *t = espl__is_quantized(v) ? espl__constant_f32(s->g, v) : v->constant;
        *out = t ? espl__graph_constant(to, v->name, t) : NULL;
    } else if ((*out = espl__graph_value(to, v->name))) {
        (*out)->dtype = v->dtype;
        (*out)->shape = v->shape;
        (*out)->known_rank = true;
        s->late->given[s->input_count] = v->is_input ? -1 - input_index(s->g, v) : hand_over(s, v);
        s->inputs[s->input_count++] = *out;
    }
    s->copy[v->id] = *out;
    return *out ? ESPL_OK : espl__nomem(s->diag, 0);
}

static espl_status copy_late(split *s, const espl__node *n) {
    espl_status status = ESPL_OK;
    espl_graph *to = s->late->graph;
    espl__node *c = espl__graph_node(to, n->op, n->name, n->input_count, n->output_count, 0);
    if (!c) return espl__nomem(s->diag, 0);
    c->opset = n->opset;
    for (int i = 0; i < n->input_count; i++)
        if (n->inputs[i]) ESPL_TRY(read_value(s, n->inputs[i], &c->inputs[i]));
    for (int i = 0; i < n->output_count; i++) {
        const espl__value *v = n->outputs[i];
        if (!v) continue;
        espl__value *out = espl__graph_value(to, v->name);
        if (!out || (espl__is_quantized(v) && !espl__graph_copy_quant(to, out, &v->quant)))
            return espl__nomem(s->diag, 0);
        out->kind = v->kind;
        out->dtype = v->dtype;
        out->shape = v->shape;
        out->known_rank = v->known_rank;
        espl__node_set_output(c, i, s->copy[v->id] = out);
    }
    for (int i = 0; i < n->attr_count; i++)
        if (n->attrs[i].name && !espl__attr_copy(to, c, &n->attrs[i], true)) return espl__nomem(s->diag, 0);
done:
    return status;
}

static espl_status place_outputs(split *s) {
    espl_graph *g = s->g, *to = s->late->graph;
    int late_outputs = 0;
    espl__value **outputs = espl__arena_alloc(&to->arena, sizeof *outputs * ((uint64_t)g->output_count + 1));
    if (!outputs) return espl__nomem(s->diag, 0);
    for (int i = 0; i < g->output_count; i++) {
        espl__value *v = g->outputs[i];
        s->late->names[i] = espl__arena_strdup(&to->arena, v->name);
        if (!s->late->names[i]) return espl__nomem(s->diag, 0);
        if (!is_late(v) && !is_text(v)) {
            s->late->place[i] = hand_over(s, v);
            continue;
        }
        espl_status status = read_value(s, v, &outputs[late_outputs]); /* a string may be an input or a constant */
        if (status != ESPL_OK) return status;
        s->late->place[i] = -1 - late_outputs++;
    }
    s->late->output_count = g->output_count;
    return espl__graph_set_io(to, s->inputs, s->input_count, outputs, late_outputs) &&
                   espl__graph_set_io(g, g->inputs, g->input_count, s->handed, s->handed_count)
               ? ESPL_OK
               : espl__nomem(s->diag, 0);
}

espl_status espl__late_split(espl_graph *g, espl__late *late, espl_diag *diag) {
    espl_status status = ESPL_OK;
    espl_context *ctx = g->arena.ctx;
    split s = {.g = g, .late = late, .diag = diag};
    *late = (espl__late){0};
    if (espl__late_mark(g) == 0 && !gives_text(g)) return ESPL_OK;
    uint64_t values = (uint64_t)g->value_count + 1;
    ESPL_TRY(espl__graph_create(ctx, &late->graph, diag));
    espl__arena *arena = &late->graph->arena;
    late->graph->opset = g->opset;
    late->graph->file = espl__arena_strdup(arena, g->file);
    late->given = espl__arena_alloc(arena, values * sizeof *late->given);
    late->place = espl__arena_alloc(arena, ((uint64_t)g->output_count + 1) * sizeof *late->place);
    late->names = espl__arena_alloc(arena, ((uint64_t)g->output_count + 1) * sizeof *late->names);
    s.copy = espl__calloc(ctx, values, sizeof *s.copy);
    s.handed = espl__calloc(ctx, values, sizeof *s.handed);
    s.inputs = espl__calloc(ctx, values, sizeof *s.inputs);
    s.index = espl__calloc(ctx, values, sizeof *s.index);
    if (!late->graph->file || !late->given || !late->place || !late->names || !s.copy || !s.handed ||
        !s.inputs || !s.index) {
        status = espl__nomem(diag, values * sizeof *s.copy);
        goto done;
    }
    for (int i = 0; i < g->node_count; i++)
        if (g->nodes[i]->mark == 1) ESPL_TRY(copy_late(&s, g->nodes[i]));
    ESPL_TRY(place_outputs(&s));
    for (int i = 0; i < g->node_count; i++)
        if (g->nodes[i]->mark == 1) g->nodes[i]->mark = -1;
    espl__graph_sweep(g);
done:
    espl__free(ctx, s.copy);
    espl__free(ctx, s.handed);
    espl__free(ctx, s.inputs);
    espl__free(ctx, s.index);
    if (status != ESPL_OK) espl__late_free(late);
    return status;
}

void espl__late_free(espl__late *late) {
    espl_graph_destroy(&late->graph);
    *late = (espl__late){0};
}

/* --- running ----------------------------------------------------------------------------------------- */

static espl_status bind(espl_graph *g, const espl_tensor *inputs, espl_diag *diag) {
    for (int i = 0; i < g->input_count; i++) {
        espl__value *v = g->inputs[i];
        v->constant = espl__arena_alloc(&g->arena, sizeof *v->constant);
        if (!v->constant) return espl__nomem(diag, sizeof *v->constant);
        *v->constant = inputs[i];
        v->is_input = false;
        v->dtype = inputs[i].dtype;
        v->shape = inputs[i].shape;
        v->known_rank = true;
    }
    g->input_count = 0;
    return ESPL_OK;
}

static espl_status take_output(espl_context *ctx, const espl_graph *g, const espl__value *v, espl_tensor *out,
                               espl_diag *diag) {
    char label[160];
    if (!v->constant)
        return espl__fail(diag, ESPL_UNSUPPORTED,
                          "%s: node %s: its course is longer or larger than can be followed", g->file,
                          v->producer ? espl__node_label(v->producer, label, sizeof label) : v->name);
    return espl__tensor_copy(ctx, v->constant, out, diag);
}

espl_status espl__late_run(espl_context *ctx, const espl_graph *graph, const espl_tensor *inputs,
                           espl_tensor *outputs, espl_diag *diag) {
    espl_graph *g = NULL;
    espl_status status = ESPL_OK;
    memset(outputs, 0, sizeof *outputs * (size_t)graph->output_count);
    ESPL_TRY(espl__graph_share(graph, &g, diag));
    ESPL_TRY(bind(g, inputs, diag));
    ESPL_TRY(espl__resolve_everything(g, diag));
    ESPL_TRY(espl__infer_everything(g, diag));
    for (int i = 0; i < g->output_count; i++) ESPL_TRY(take_output(ctx, g, g->outputs[i], &outputs[i], diag));
done:
    if (status != ESPL_OK)
        for (int i = 0; i < graph->output_count; i++) espl_tensor_free(ctx, &outputs[i]);
    espl_graph_destroy(&g);
    return status;
}

espl_status espl__specialise_static(espl_graph *g, const espl_shape *shapes, espl_diag *diag) {
    espl__late late = {0};
    espl_status status = espl__specialise_open(g, shapes, diag);
    if (status == ESPL_OK) status = espl__late_split(g, &late, diag);
    espl__late_free(&late);
    return status;
}
