#include "train/prepare.h"

#include <stdlib.h>

#include "passes/passes.h"
#include "espalier/onnx.h"

/* Running statistics change while training: each use has a constant of its own, where exporters have merged
 * equal ones. */
static espl_status own_statistics(espl_graph *g, espl_diag *diag) {
    espl__graph_count_uses(g);
    for (int i = 0; i < g->node_count; i++) {
        espl__node *n = g->nodes[i];
        const espl__grad *grad = espl__grad_find(n->op);
        for (int j = 0; grad && j < n->input_count && j < ESPL__GRAD_INPUTS; j++) {
            espl__value *v = n->inputs[j];
            if (!(grad->stats >> j & 1) || !v || !v->constant || v->uses < 2) continue;
            espl__value *own = espl__graph_constant(g, NULL, v->constant);
            if (!own) return espl__nomem(diag, 0);
            n->inputs[j] = own;
            v->uses--;
        }
    }
    return ESPL_OK;
}

espl_status espl__train_read(espl_context *ctx, const char *path, espl_graph **out, espl_diag *diag) {
    static espl_status (*const passes[])(espl_graph *, espl_diag *) = {
        espl__pass_infer, espl__pass_static_reshape, espl__pass_dead_code, own_statistics,
        espl__train_join_grids};
    espl_status status = espl_onnx_read(ctx, path, out, diag);
    for (size_t i = 0; status == ESPL_OK && i < ESPL_COUNT(passes); i++) {
        status = passes[i](*out, diag);
        if (status == ESPL_OK) status = espl__graph_verify(*out, diag);
        if (status != ESPL_OK) espl__diag_prefix(diag, "%s", path);
    }
    if (status != ESPL_OK) espl_graph_destroy(out);
    return status;
}

/* --- which constants are trained ---------------------------------------------------------------- */

/* "*" stands for any run of characters. */
static bool matches(const char *pattern, const char *name) {
    if (*pattern == '*') return matches(pattern + 1, name) || (*name && matches(pattern, name + 1));
    if (!*pattern || !*name) return *pattern == *name;
    return *pattern == *name && matches(pattern + 1, name + 1);
}

static bool is_frozen(const espl__engine_options *o, const char *name) {
    for (int i = 0; i < o->frozen_count; i++)
        if (matches(o->frozen[i], name)) return true;
    return false;
}

static bool is_real_constant(const espl__value *v) {
    return v && v->constant && v->dtype == ESPL_F32 && !espl__is_quantized(v);
}

enum { DEPENDS = 1, PARAM = 2, STATISTIC = 4, BIAS = 8 }; /* value->mark while choosing */

static bool depends(const espl__node *n) {
    for (int i = 0; i < n->input_count; i++)
        if (n->inputs[i] && (n->inputs[i]->mark & (DEPENDS | PARAM))) return true;
    return false;
}

/* A scale stays as the weights that it is for. */
static bool of_frozen(const espl__node *n, int input) {
    const espl__value *x = n->inputs[0];
    return n->op == &espl__op_fake_quantize && input == 1 && x->constant && !(x->mark & PARAM);
}

static void choose_of_node(const espl__node *n, const espl__engine_options *o) {
    const espl__grad *grad = espl__grad_find(n->op);
    bool before = depends(n);
    for (int i = 0; grad && i < n->input_count && i < ESPL__GRAD_INPUTS; i++) {
        espl__value *v = n->inputs[i];
        if (!is_real_constant(v)) continue;
        if (n->op->bias_inputs >> i & 1) v->mark |= BIAS; /* an LSTM's has two dimensions */
        bool adopted = (grad->adopts >> i & 1) && before && espl_shape_count(&v->shape) > 1;
        if (grad->stats >> i & 1)
            v->mark |= STATISTIC;
        else if (((grad->params >> i & 1) || adopted) && !is_frozen(o, v->name) && !of_frozen(n, i))
            v->mark |= PARAM;
    }
    bool after = depends(n);
    for (int i = 0; i < n->output_count; i++)
        if (n->outputs[i] && after) n->outputs[i]->mark |= DEPENDS;
}

/* --- the clone ------------------------------------------------------------------------------------ */

static bool is_state(const espl__value *v) {
    size_t n = strlen(v->name);
    return n > 5 && strcmp(v->name + n - 5, ".next") == 0;
}

static void cut_softmax(espl_graph *g) {
    for (int i = 0; i < g->output_count; i++) {
        const espl__value *v = g->outputs[i];
        if (!is_state(v) &&
            (espl__node_is(v->producer, "Softmax") || espl__node_is(v->producer, "LogSoftmax")))
            g->outputs[i] = v->producer->inputs[0];
    }
}

static int by_use(const void *a, const void *b) {
    const espl__prepared_param *x = a, *y = b;
    if (x->trained != y->trained) return x->trained ? -1 : 1;
    if (x->first_use != y->first_use) return x->first_use < y->first_use ? -1 : 1;
    return x->origin - y->origin;
}

/* Turns marked constants into inputs behind the graph's own. */
static espl_status detach(espl__prepared *p, espl_diag *diag) {
    espl_graph *g = p->graph;
    int count = 0;
    for (int i = 0; i < g->value_count; i++) count += (g->values[i]->mark & (PARAM | STATISTIC)) != 0;
    p->inputs = g->input_count;
    espl__value **inputs =
        espl__arena_alloc(&g->arena, (uint64_t)(g->input_count + count + 1) * sizeof(espl__value *));
    p->params = espl__arena_alloc(&g->arena, (uint64_t)(count + 1) * sizeof *p->params);
    if (!inputs || !p->params) return espl__nomem(diag, 0);
    memcpy(inputs, g->inputs, (size_t)g->input_count * sizeof *inputs);
    for (int i = 0; i < g->value_count; i++) {
        espl__value *v = g->values[i];
        if (!(v->mark & (PARAM | STATISTIC))) continue;
        bool trained = !(v->mark & STATISTIC);
        p->params[p->count] = (espl__prepared_param){
            v, v->constant, v->origin, trained, trained && !(v->mark & BIAS) && v->shape.rank >= 2, 0};
        inputs[g->input_count + p->count++] = v;
        p->trained += trained;
        v->shape = v->constant->shape;
        v->known_rank = true;
        v->constant = NULL;
        v->is_input = true;
    }
    return espl__graph_set_io(g, inputs, g->input_count + count, g->outputs, g->output_count)
               ? ESPL_OK
               : espl__nomem(diag, 0);
}

static espl_status specialise(espl__prepared *p, const espl_shape *shapes, espl_diag *diag) {
    espl_graph *g = p->graph;
    espl_shape *all = espl__calloc(g->arena.ctx, (uint64_t)g->input_count + 1, sizeof *all);
    if (!all) return espl__nomem(diag, 0);
    for (int i = 0; i < g->input_count; i++) all[i] = i < p->inputs ? shapes[i] : (espl_shape){.rank = -1};
    espl_status status = espl__specialise(g, all, diag);
    espl__free(g->arena.ctx, all);
    return status;
}

static void note_uses(espl__prepared *p) {
    espl_graph *g = p->graph;
    for (int k = 0; k < p->count; k++) p->params[k].first_use = g->node_count;
    for (int k = 0; k < p->count; k++)
        for (int i = g->node_count - 1; i >= 0; i--)
            for (int j = 0; j < g->nodes[i]->input_count; j++)
                if (g->nodes[i]->inputs[j] == p->params[k].value) p->params[k].first_use = i;
    qsort(p->params, (size_t)p->count, sizeof *p->params, by_use);
    /* What the loss does not need is not there: its constants stay as they are. */
    int kept = 0, trained = 0;
    for (int k = 0; k < p->count; k++)
        if (p->params[k].first_use < g->node_count) {
            trained += p->params[k].trained;
            p->params[kept++] = p->params[k];
        }
    p->count = kept;
    p->trained = trained;
}

espl_status espl__train_prepare(const espl_graph *graph, const espl_shape *shapes,
                                const espl__engine_options *options, espl__prepared *out, espl_diag *diag) {
    *out = (espl__prepared){0};
    espl_status status;
    ESPL_TRY(espl__graph_clone(graph, &out->graph, diag));
    espl_graph *g = out->graph;
    if (options->logits) cut_softmax(g);
    ESPL_TRY(espl__pass_dead_code(g, diag));
    ESPL_TRY(espl__train_quantized(g, diag));
    for (int i = 0; i < g->value_count; i++) g->values[i]->mark = 0;
    for (int i = 0; i < g->node_count; i++) choose_of_node(g->nodes[i], options);
    ESPL_TRY(detach(out, diag));
    ESPL_TRY(specialise(out, shapes, diag));
    ESPL_TRY(espl__pass_dead_code(g, diag));
    ESPL_TRY(espl__train_fuse(g, diag));
    ESPL_TRY(espl__train_layout(g, diag));
    ESPL_TRY(espl__graph_verify(g, diag));
    note_uses(out);
done:
    if (status != ESPL_OK) espl_graph_destroy(&out->graph);
    return status;
}
