#include "train/engine.h"

#include <math.h>
#include <stdio.h>

#include "passes/passes.h"
#include "train/prepare.h"

enum { ALIGN = 64, PARAM_ALIGN = 16 };

/* What is known of a value; indexed by its id. */
typedef struct slot {
    int root, gradient_root; /* value whose memory this one has: views have their input's */
    bool needs, path;        /* leads from a parameter; leads to the loss */
    bool written;            /* in the walk backwards: its gradient holds a first term */
    bool fixed;              /* has memory of its own outside the workspace */
    espl_tensor data, grad;  /* shapes as in memory */
    int span, gradient_span; /* -1: none */
} slot;

typedef struct step {
    const espl__grad *grad; /* NULL: only the operator's eval */
    espl__call call;
    bool view, backward;
    int saved_span, forward_span, backward_span;
    int64_t final; /* gradients of the flat vector from here on are final after its backward; -1: no news */
} step;

struct espl__engine {
    espl_context *ctx;
    espl__arena arena;
    espl__engine_options options;
    espl__prepared net;
    slot *slots;
    step *steps;
    int step_count;
    espl__param *params;
    char *weights, *gradients, *statistics; /* flat */
    int64_t weight_count, statistic_count;
    bool shared; /* weights and statistics are another engine's */
    espl__span *spans;
    int span_count;
    char *workspace;
    uint64_t workspace_bytes;
    bool check;
};

/* --- times ---------------------------------------------------------------------------------------- */

static int loss_time(const espl__engine *e) {
    return e->step_count;
}
static int backward_time(const espl__engine *e, int i) {
    return 2 * e->step_count - i;
}

static bool is_real(const espl__engine *e, const espl__value *v) {
    (void)e;
    return v->dtype == ESPL_F32 || v->dtype == ESPL_F64;
}

static uint64_t padded(uint64_t bytes) {
    return (bytes + ALIGN - 1) / ALIGN * ALIGN;
}

static int new_span(espl__engine *e, uint64_t bytes, int first, int last) {
    e->spans[e->span_count] = (espl__span){padded(bytes), 0, first, last};
    return e->span_count++;
}

static void use_until(espl__engine *e, int value, int time) {
    slot *s = &e->slots[e->slots[value].root];
    if (s->span >= 0 && e->spans[s->span].last < time) e->spans[s->span].last = time;
}

/* --- which gradients are made ------------------------------------------------------------------------ */

static bool ends_with_next(const char *name) {
    size_t n = strlen(name);
    return n > 5 && strcmp(name + n - 5, ".next") == 0;
}

static bool passes(const espl__grad *grad, int input) {
    return grad && grad->backward && input < ESPL__GRAD_INPUTS && (grad->inputs >> input & 1);
}

static void mark_needs(espl__engine *e) {
    espl_graph *g = e->net.graph;
    for (int i = 0; i < e->net.trained; i++) e->slots[e->net.params[i].value->id].needs = true;
    for (int i = 0; i < e->step_count; i++) {
        const espl__node *n = g->nodes[i];
        bool needs = false;
        for (int j = 0; j < n->input_count; j++)
            if (n->inputs[j] && passes(e->steps[i].grad, j)) needs |= e->slots[n->inputs[j]->id].needs;
        for (int j = 0; j < n->output_count; j++)
            if (n->outputs[j] && is_real(e, n->outputs[j])) e->slots[n->outputs[j]->id].needs = needs;
    }
}

static void mark_paths(espl__engine *e) {
    espl_graph *g = e->net.graph;
    for (int i = 0; i < g->output_count; i++)
        e->slots[g->outputs[i]->id].path = !ends_with_next(g->outputs[i]->name);
    for (int i = e->step_count - 1; i >= 0; i--) {
        const espl__node *n = g->nodes[i];
        bool path = false;
        for (int j = 0; j < n->output_count; j++)
            path |= n->outputs[j] && e->slots[n->outputs[j]->id].path && e->slots[n->outputs[j]->id].needs;
        for (int j = 0; path && j < n->input_count; j++)
            if (n->inputs[j] && passes(e->steps[i].grad, j)) e->slots[n->inputs[j]->id].path = true;
        e->steps[i].backward = path;
    }
}

static bool has_gradient(const espl__engine *e, const espl__value *v) {
    const slot *s = &e->slots[v->id];
    return s->needs && s->path && !e->options.inference_only;
}

/* --- views --------------------------------------------------------------------------------------------- */

static bool turn_is_view(const espl__node *n) {
    if (n->op != &espl__op_to_last && n->op != &espl__op_to_rows) return false;
    const espl_shape *s = &n->inputs[0]->shape;
    int64_t spatial = 1;
    for (int i = 2; i < s->rank; i++) spatial *= s->dim[i];
    return spatial == 1 || s->dim[1] == 1;
}

static bool is_view(const espl__node *n) {
    if (turn_is_view(n)) return true;
    return n->op->is_view && n->inputs[0]->dtype == n->outputs[0]->dtype;
}

static void mark_views(espl__engine *e) {
    espl_graph *g = e->net.graph;
    espl__graph_count_uses(g);
    for (int i = 0; i < g->value_count; i++) e->slots[i].root = e->slots[i].gradient_root = i;
    for (int i = 0; i < e->step_count; i++) {
        const espl__node *n = g->nodes[i];
        e->steps[i].view = is_view(n);
        if (e->steps[i].view) e->slots[n->outputs[0]->id].root = e->slots[n->inputs[0]->id].root;
    }
    /* Backwards a view is nothing if its input has no other reader; else its gradient is one term of a sum.
     */
    for (int i = e->step_count - 1; i >= 0; i--) {
        const espl__node *n = g->nodes[i];
        const espl__value *x = n->inputs[0];
        if (!e->steps[i].view || x->is_input || x->uses != 1 || !has_gradient(e, x)) continue;
        e->slots[x->id].gradient_root = e->slots[n->outputs[0]->id].gradient_root;
        e->steps[i].backward = false;
    }
}

/* --- parameters ------------------------------------------------------------------------------------------
 */

static int64_t flat_offsets(espl__engine *e, int first, int end) {
    int64_t at = 0;
    for (int i = first; i < end; i++) {
        const espl__prepared_param *p = &e->net.params[i];
        int64_t count = espl_shape_count(&p->value->shape);
        e->params[i] = (espl__param){.name = p->value->name,
                                     .value = p->origin,
                                     .trained = p->trained,
                                     .decays = p->decays,
                                     .offset = at,
                                     .count = count};
        at += (count + PARAM_ALIGN - 1) / PARAM_ALIGN * PARAM_ALIGN;
    }
    return at;
}

static void fill_real(const espl__engine *e, const espl_tensor *from, void *to) {
    int64_t n = espl_shape_count(&from->shape);
    if (e->options.real == from->dtype)
        memcpy(to, from->data, (size_t)n * espl_dtype_bytes(from->dtype));
    else
        for (int64_t i = 0; i < n; i++) ((double *)to)[i] = (double)((const float *)from->data)[i];
}

static void point_params(espl__engine *e) {
    size_t size = espl_dtype_bytes(e->options.real);
    for (int i = 0; i < e->net.count; i++) {
        espl__param *p = &e->params[i];
        slot *s = &e->slots[e->net.params[i].value->id];
        p->data = (espl_tensor){e->options.real, e->net.params[i].value->shape,
                                (p->trained ? e->weights : e->statistics) + (size_t)p->offset * size};
        p->grad = (espl_tensor){e->options.real, p->data.shape, NULL};
        if (p->trained && e->gradients) p->grad.data = e->gradients + (size_t)p->offset * size;
        s->data = p->data;
        s->grad = p->grad;
        s->fixed = true;
    }
}

static espl_status make_params(espl__engine *e, espl_diag *diag) {
    e->params = espl__arena_alloc(&e->arena, (uint64_t)(e->net.count + 1) * sizeof *e->params);
    if (!e->params) return espl__nomem(diag, 0);
    e->weight_count = flat_offsets(e, 0, e->net.trained);
    e->statistic_count = flat_offsets(e, e->net.trained, e->net.count);
    uint64_t size = espl_dtype_bytes(e->options.real);
    e->weights = espl__calloc(e->ctx, (uint64_t)e->weight_count + 1, size);
    e->statistics = espl__calloc(e->ctx, (uint64_t)e->statistic_count + 1, size);
    if (!e->options.inference_only) e->gradients = espl__calloc(e->ctx, (uint64_t)e->weight_count + 1, size);
    if (!e->weights || !e->statistics || (!e->gradients && !e->options.inference_only))
        return espl__nomem(diag, (uint64_t)e->weight_count * size);
    point_params(e);
    for (int i = 0; i < e->net.count; i++) fill_real(e, e->net.params[i].start, e->params[i].data.data);
    return ESPL_OK;
}

/* --- memory of values
 * --------------------------------------------------------------------------------------- */

static espl_status place_constant(espl__engine *e, const espl__value *v, slot *s, espl_diag *diag) {
    s->fixed = true;
    s->data.data = v->constant->data;
    if (!is_real(e, v) || e->options.real == v->dtype) return ESPL_OK;
    s->data.data = espl__arena_raw(&e->arena, (uint64_t)espl_shape_count(&v->shape) * 8 + 1);
    if (!s->data.data) return espl__nomem(diag, 0);
    fill_real(e, v->constant, s->data.data);
    return ESPL_OK;
}

static espl_status shape_values(espl__engine *e, espl_diag *diag) {
    espl_graph *g = e->net.graph;
    for (int i = 0; i < g->value_count; i++) {
        const espl__value *v = g->values[i];
        slot *s = &e->slots[i];
        s->span = s->gradient_span = -1;
        if (s->fixed) continue;
        s->data =
            (espl_tensor){is_real(e, v) ? e->options.real : v->dtype, espl__train_shape(v, v->mark), NULL};
        s->grad = s->data;
        if (v->constant) {
            espl_status status = place_constant(e, v, s, diag);
            if (status != ESPL_OK) return status;
        }
    }
    return ESPL_OK;
}

static void plan_values(espl__engine *e) {
    espl_graph *g = e->net.graph;
    for (int i = 0; i < g->value_count; i++) {
        slot *s = &e->slots[i];
        if (s->root != i || s->fixed) continue;
        int first = g->values[i]->producer ? g->values[i]->producer->id : 0;
        s->span = new_span(e, espl__tensor_bytes(&s->data), first, first);
    }
    /* Inputs are written before the first call, outputs read after the last. */
    for (int i = 0; i < g->output_count; i++)
        use_until(e, g->outputs[i]->id,
                  ends_with_next(g->outputs[i]->name) ? 2 * e->step_count : loss_time(e));
    for (int i = 0; i < e->step_count; i++) {
        const espl__node *n = g->nodes[i];
        const step *s = &e->steps[i];
        bool back = s->backward && !e->options.inference_only && !s->view;
        for (int j = 0; j < n->input_count; j++) {
            if (!n->inputs[j]) continue;
            bool again = back && j < ESPL__GRAD_INPUTS && (s->grad->reads_in >> j & 1);
            use_until(e, n->inputs[j]->id, again ? backward_time(e, i) : i);
        }
        for (int j = 0; j < n->output_count; j++)
            if (n->outputs[j] && back && (s->grad->reads_out >> j & 1))
                use_until(e, n->outputs[j]->id, backward_time(e, i));
    }
}

/* A gradient lives from its first term, or the loss, to the call that made its value. */
static void plan_gradients(espl__engine *e) {
    espl_graph *g = e->net.graph;
    for (int i = 0; i < g->value_count; i++) {
        const espl__value *v = g->values[i];
        slot *s = &e->slots[i];
        if (s->fixed || v->is_input || !v->producer || !has_gradient(e, v)) continue;
        slot *root = &e->slots[s->gradient_root];
        int last = backward_time(e, v->producer->id);
        if (root->gradient_span < 0)
            root->gradient_span = new_span(e, espl__tensor_bytes(&s->grad), last, last);
        espl__span *span = &e->spans[root->gradient_span];
        if (span->last < last) span->last = last;
        if (espl__graph_is_output(g, v)) span->first = loss_time(e);
    }
    for (int i = 0; i < e->step_count; i++) {
        const espl__node *n = g->nodes[i];
        for (int j = 0; j < n->input_count; j++) {
            const espl__value *v = n->inputs[j];
            if (!v || !has_gradient(e, v) || e->slots[v->id].fixed) continue;
            int at = e->slots[e->slots[v->id].gradient_root].gradient_span;
            if (at >= 0 && e->spans[at].first > backward_time(e, i)) e->spans[at].first = backward_time(e, i);
        }
    }
}

static void plan_calls(espl__engine *e) {
    for (int i = 0; i < e->step_count; i++) {
        step *s = &e->steps[i];
        espl__call *c = &s->call;
        bool back = s->backward && !e->options.inference_only;
        s->saved_span = s->forward_span = s->backward_span = -1;
        if (c->saved_bytes) s->saved_span = new_span(e, c->saved_bytes, i, back ? backward_time(e, i) : i);
        if (c->forward_bytes) s->forward_span = new_span(e, c->forward_bytes, i, i);
        if (c->backward_bytes && back)
            s->backward_span = new_span(e, c->backward_bytes, backward_time(e, i), backward_time(e, i));
    }
}

static espl_status allocate(espl__engine *e, espl_diag *diag) {
    uint64_t most = ESPL_MIN(espl__max_alloc(e->ctx), (uint64_t)1 << 44);
    espl_status status = espl__place(e->ctx, e->spans, e->span_count, most, &e->workspace_bytes, diag);
    if (status != ESPL_OK) return status;
    if (e->workspace_bytes > most)
        return espl__fail(diag, ESPL_LIMIT,
                          "%s: training needs more than %llu MiB; take a smaller batch, or allow more memory",
                          e->net.graph->file, (unsigned long long)(most >> 20));
    e->workspace = espl__calloc(e->ctx, e->workspace_bytes + ALIGN, 1);
    return e->workspace ? ESPL_OK : espl__nomem(diag, e->workspace_bytes);
}

static void *at(const espl__engine *e, int span) {
    return span < 0 ? NULL : e->workspace + e->spans[span].offset;
}

/* --- calls
 * -------------------------------------------------------------------------------------------------- */

static espl_status make_call(espl__engine *e, int i, espl_diag *diag) {
    const espl__node *n = e->net.graph->nodes[i];
    step *s = &e->steps[i];
    espl__call *c = &s->call;
    int in = n->input_count, out = n->output_count;
    espl_tensor *t = espl__arena_alloc(&e->arena, (uint64_t)(2 * (in + out) + 1) * sizeof *t);
    if (!t) return espl__nomem(diag, 0);
    *c = (espl__call){.node = n,
                      .ctx = e->ctx,
                      .pool = espl__context_pool(e->ctx),
                      .real = e->options.real,
                      .inputs = in,
                      .outputs = out,
                      .in = t,
                      .din = t + in,
                      .out = t + 2 * in,
                      .dout = t + 2 * in + out,
                      .sync = e->options.sync,
                      .training = true};
    for (int j = 0; j < in; j++) {
        if (!n->inputs[j]) continue;
        c->in[j] = c->din[j] = e->slots[n->inputs[j]->id].data;
        c->in[j].data = c->din[j].data = NULL;
        bool back = s->backward && !e->options.inference_only && passes(s->grad, j);
        if (back && has_gradient(e, n->inputs[j])) c->wanted |= 1u << j;
    }
    for (int j = 0; j < out; j++) {
        if (!n->outputs[j]) continue;
        c->out[j] = c->dout[j] = e->slots[n->outputs[j]->id].data;
        c->out[j].data = c->dout[j].data = NULL;
    }
    if (s->view) return ESPL_OK;
    espl_status status = ESPL_OK;
    if (s->grad && s->grad->prepare)
        status = s->grad->prepare(c, diag);
    else if (!s->grad || !s->grad->forward)
        c->forward_bytes = n->op->scratch_bytes ? n->op->scratch_bytes(n) : 0;
    if (status != ESPL_OK) {
        char label[128];
        espl__diag_prefix(diag, "%s: node %s", e->net.graph->file, espl__node_label(n, label, sizeof label));
    }
    return status;
}

/* Reals of an operator without a row must be what its eval computes with. */
static espl_status check_row(const espl__engine *e, int i, espl_diag *diag) {
    const espl__node *n = e->net.graph->nodes[i];
    if (e->steps[i].grad || e->steps[i].view || e->options.real == ESPL_F32) return ESPL_OK;
    char label[128];
    for (int j = 0; j < n->input_count; j++)
        if (n->inputs[j] && is_real(e, n->inputs[j]))
            return espl__fail(diag, ESPL_UNSUPPORTED, "%s: node %s: not trained in double precision",
                              e->net.graph->file, espl__node_label(n, label, sizeof label));
    return ESPL_OK;
}

static void point_call(espl__engine *e, int i) {
    const espl__node *n = e->net.graph->nodes[i];
    step *s = &e->steps[i];
    espl__call *c = &s->call;
    for (int j = 0; j < n->input_count; j++) {
        if (!n->inputs[j]) continue;
        slot *v = &e->slots[n->inputs[j]->id];
        c->in[j].data = v->data.data;
        if (c->wanted >> j & 1) c->din[j].data = v->grad.data;
    }
    for (int j = 0; j < n->output_count; j++) {
        if (!n->outputs[j]) continue;
        c->out[j].data = e->slots[n->outputs[j]->id].data.data;
        if (has_gradient(e, n->outputs[j])) c->dout[j].data = e->slots[n->outputs[j]->id].grad.data;
    }
    c->saved = at(e, s->saved_span);
}

/* The walk backwards, once: whose first term each call writes, and when parameters' gradients are final. */
static void plan_backward(espl__engine *e) {
    espl_graph *g = e->net.graph;
    for (int i = 0; i < g->output_count; i++)
        if (has_gradient(e, g->outputs[i]))
            e->slots[e->slots[g->outputs[i]->id].gradient_root].written = true;
    int64_t final = e->weight_count;
    int param = e->net.trained;
    for (int i = e->step_count - 1; i >= 0; i--) {
        step *s = &e->steps[i];
        s->final = -1;
        const espl__node *n = g->nodes[i];
        for (int j = 0; s->backward && j < n->input_count && j < ESPL__GRAD_INPUTS; j++) {
            if (!(s->call.wanted >> j & 1)) continue;
            slot *root = &e->slots[e->slots[n->inputs[j]->id].gradient_root];
            if (root->written) s->call.add |= 1u << j;
            root->written = true;
        }
        while (param > 0 && e->net.params[param - 1].first_use >= i)
            final = e->params[--param].offset, s->final = final;
    }
}

/* A gradient that some call reads and none wrote (an output of several that leads nowhere) counts as zero. */
static void drop_unwritten(espl__engine *e) {
    for (int i = 0; i < e->step_count; i++) {
        espl__call *c = &e->steps[i].call;
        for (int j = 0; j < c->outputs; j++) {
            const espl__value *v = c->node->outputs[j];
            if (v && !e->slots[e->slots[v->id].gradient_root].written) c->dout[j].data = NULL;
        }
    }
}

static void point_values(espl__engine *e) {
    for (int i = 0; i < e->net.graph->value_count; i++) {
        slot *s = &e->slots[i];
        if (s->fixed) continue;
        const slot *root = &e->slots[s->root];
        s->data.data = root->fixed ? root->data.data : at(e, root->span);
        s->grad.data = at(e, e->slots[s->gradient_root].gradient_span);
    }
}

static espl_status build(espl__engine *e, espl_diag *diag) {
    espl_graph *g = e->net.graph;
    espl_status status;
    e->step_count = g->node_count;
    e->slots = espl__arena_alloc(&e->arena, (uint64_t)(g->value_count + 1) * sizeof *e->slots);
    e->steps = espl__arena_alloc(&e->arena, (uint64_t)(g->node_count + 1) * sizeof *e->steps);
    e->spans = espl__arena_alloc(&e->arena,
                                 (uint64_t)(2 * g->value_count + 3 * g->node_count + 1) * sizeof *e->spans);
    if (!e->slots || !e->steps || !e->spans) return espl__nomem(diag, 0);
    for (int i = 0; i < e->step_count; i++) e->steps[i].grad = espl__grad_find(g->nodes[i]->op);
    ESPL_TRY(make_params(e, diag));
    mark_needs(e);
    mark_paths(e);
    mark_views(e);
    ESPL_TRY(shape_values(e, diag));
    for (int i = 0; i < e->step_count; i++) {
        ESPL_TRY(check_row(e, i, diag));
        ESPL_TRY(make_call(e, i, diag));
    }
    plan_values(e);
    plan_gradients(e);
    plan_calls(e);
    ESPL_TRY(allocate(e, diag));
    point_values(e);
    for (int i = 0; i < e->step_count; i++) point_call(e, i);
    plan_backward(e);
    drop_unwritten(e);
done:
    return status;
}

espl_status espl__engine_create(espl_context *ctx, const espl_graph *graph, const espl_shape *shapes,
                                const espl__engine_options *options, espl__engine **out, espl_diag *diag) {
    *out = NULL;
    espl__engine *e = espl__calloc(ctx, 1, sizeof *e);
    if (!e) return espl__nomem(diag, sizeof *e);
    e->ctx = ctx;
    e->options = *options;
    espl__arena_init(&e->arena, ctx);
    espl_status status = espl__train_prepare(graph, shapes, options, &e->net, diag);
    if (status == ESPL_OK) status = build(e, diag);
    if (status == ESPL_OK)
        *out = e;
    else
        espl__engine_destroy(&e);
    return status;
}

void espl__engine_destroy(espl__engine **engine) {
    espl__engine *e = *engine;
    if (!e) return;
    *engine = NULL;
    for (int i = 0; e->steps && i < e->step_count; i++) {
        step *s = &e->steps[i];
        if (s->grad && s->grad->release && s->call.node) s->grad->release(&s->call);
    }
    if (!e->shared) {
        espl__free(e->ctx, e->weights);
        espl__free(e->ctx, e->statistics);
    }
    espl__free(e->ctx, e->gradients);
    espl__free(e->ctx, e->workspace);
    espl_graph_destroy(&e->net.graph);
    espl__arena_free(&e->arena);
    espl__free(e->ctx, e);
}

/* --- parameters, inputs, outputs
 * ------------------------------------------------------------------------------ */

int espl__engine_params(const espl__engine *e) {
    return e->net.count;
}
espl__param *espl__engine_param(const espl__engine *e, int index) {
    return &e->params[index];
}

void *espl__engine_weights(const espl__engine *e, int64_t *count) {
    *count = e->weight_count;
    return e->weights;
}
void *espl__engine_gradients(const espl__engine *e, int64_t *count) {
    *count = e->weight_count;
    return e->gradients;
}
void *espl__engine_statistics(const espl__engine *e, int64_t *count) {
    *count = e->statistic_count;
    return e->statistics;
}

void espl__engine_share(espl__engine *to, const espl__engine *from) {
    if (!to->shared) {
        espl__free(to->ctx, to->weights);
        espl__free(to->ctx, to->statistics);
    }
    to->shared = true;
    to->weights = from->weights;
    to->statistics = from->statistics;
    point_params(to);
    point_values(to);
    for (int i = 0; i < to->step_count; i++) point_call(to, i);
    drop_unwritten(to);
}

void espl__engine_store(const espl__engine *e, espl_graph *graph) {
    for (int i = 0; i < e->net.count; i++) {
        const espl__param *p = &e->params[i];
        float *to = graph->values[p->value]->constant->data;
        for (int64_t k = 0; k < p->count; k++)
            to[k] = e->options.real == ESPL_F64 ? (float)((const double *)p->data.data)[k]
                                                : ((const float *)p->data.data)[k];
    }
}

int espl__engine_inputs(const espl__engine *e) {
    return e->net.inputs;
}
int espl__engine_outputs(const espl__engine *e) {
    return e->net.graph->output_count;
}

espl_tensor espl__engine_output(const espl__engine *e, int index) {
    return e->slots[e->net.graph->outputs[index]->id].data;
}

espl_tensor espl__engine_output_gradient(const espl__engine *e, int index) {
    const espl__value *v = e->net.graph->outputs[index];
    espl_tensor t = e->slots[v->id].grad;
    if (!has_gradient(e, v)) t.data = NULL;
    return t;
}

void espl__engine_set_input(espl__engine *e, int index, const void *data, espl_dtype dtype) {
    const espl_tensor *t = &e->slots[e->net.graph->inputs[index]->id].data;
    int64_t n = espl_shape_count(&t->shape);
    if (!t->data) return; /* nothing reads it */
    if (dtype == t->dtype) {
        memcpy(t->data, data, (size_t)n * espl_dtype_bytes(dtype));
        return;
    }
    bool real = t->dtype == ESPL_F32 || t->dtype == ESPL_F64;
    double d[ESPL__CHUNK];
    int64_t l[ESPL__CHUNK];
    for (int64_t i = 0; i < n; i += ESPL__CHUNK) {
        int64_t m = ESPL_MIN(n - i, ESPL__CHUNK);
        if (real) {
            espl__load_f64(dtype, espl__at(data, dtype, i), 1, m, d);
            espl__store_f64(t->dtype, d, m, espl__at_mut(t->data, t->dtype, i));
        } else {
            espl__load_s64(dtype, espl__at(data, dtype, i), 1, m, l);
            espl__store_s64(t->dtype, l, m, espl__at_mut(t->data, t->dtype, i));
        }
    }
}

uint64_t espl__engine_bytes(const espl__engine *e) {
    uint64_t size = espl_dtype_bytes(e->options.real);
    return e->workspace_bytes + (uint64_t)(2 * e->weight_count + e->statistic_count) * size;
}

/* --- a step
 * ------------------------------------------------------------------------------------------------------ */

static uint64_t mix(uint64_t a, uint64_t b) { /* splitmix64 (Steele 2014) of the pair */
    uint64_t z = a * 0x9E3779B97F4A7C15u + b + 0x632BE59BD9B4E019u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static bool is_finite(const espl_tensor *t) {
    if (!t->data || (t->dtype != ESPL_F32 && t->dtype != ESPL_F64)) return true;
    int64_t n = espl_shape_count(&t->shape);
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        double x = t->dtype == ESPL_F64 ? ((const double *)t->data)[i] : (double)((const float *)t->data)[i];
        sum += x - x; /* 0, or NaN for infinity and NaN */
    }
    return sum == 0;
}

static espl_status check(const espl__engine *e, int i, bool gradient, espl_diag *diag) {
    const espl__call *c = &e->steps[i].call;
    char label[128];
    int count = gradient ? c->inputs : c->outputs;
    for (int j = 0; j < count; j++) {
        const espl_tensor *t = gradient ? &c->din[j] : &c->out[j];
        if (is_finite(t)) continue;
        const espl__value *v = gradient ? c->node->inputs[j] : c->node->outputs[j];
        return espl__fail(diag, ESPL_CHECK_FAILED, "layer %s: %s '%s' has a NaN or an infinity",
                          espl__node_label(c->node, label, sizeof label),
                          gradient ? "the gradient of" : "its output", v->name);
    }
    return ESPL_OK;
}

void espl__engine_check(espl__engine *e, bool on) {
    e->check = on;
}

espl_status espl__engine_forward(espl__engine *e, bool training, uint64_t number, espl_diag *diag) {
    for (int i = 0; i < e->step_count; i++) {
        step *s = &e->steps[i];
        espl__call *c = &s->call;
        if (s->view) continue;
        c->training = training;
        c->seed = mix(mix(e->options.seed, number), (uint64_t)i);
        c->scratch = at(e, s->forward_span);
        c->status = ESPL_OK;
        if (s->grad && s->grad->forward)
            s->grad->forward(c);
        else
            c->node->op->eval(c->node, c->in, c->out, c->scratch);
        if (c->status != ESPL_OK) return espl__fail(diag, c->status, "a rank of the training job is lost");
        espl_status status = e->check ? check(e, i, false, diag) : ESPL_OK;
        if (status != ESPL_OK) return status;
    }
    return ESPL_OK;
}

static void copy_back(espl__call *c) {
    int64_t n = espl_shape_count(&c->din[0].shape);
    if (!c->dout[0].data) {
        if (!(c->add & 1)) memset(c->din[0].data, 0, (size_t)n * espl__real_bytes(c));
    } else if (!(c->add & 1)) {
        memcpy(c->din[0].data, c->dout[0].data, (size_t)n * espl__real_bytes(c));
    } else if (c->real == ESPL_F64) {
        for (int64_t i = 0; i < n; i++) ((double *)c->din[0].data)[i] += ((const double *)c->dout[0].data)[i];
    } else {
        for (int64_t i = 0; i < n; i++) ((float *)c->din[0].data)[i] += ((const float *)c->dout[0].data)[i];
    }
}

espl_status espl__engine_backward(espl__engine *e, espl_diag *diag) {
    int64_t end = e->weight_count;
    for (int i = e->step_count - 1; i >= 0; i--) {
        step *s = &e->steps[i];
        espl__call *c = &s->call;
        c->scratch = at(e, s->backward_span);
        c->status = ESPL_OK;
        if (s->backward && c->wanted) {
            if (s->view)
                copy_back(c);
            else
                s->grad->backward(c);
            if (c->status != ESPL_OK)
                return espl__fail(diag, c->status, "a rank of the training job is lost");
            espl_status status = e->check ? check(e, i, true, diag) : ESPL_OK;
            if (status != ESPL_OK) return status;
        }
        if (s->final >= 0 && e->options.ready) {
            espl_status status = e->options.ready(e->options.ready_arg, s->final, end - s->final);
            if (status != ESPL_OK) return espl__fail(diag, status, "a rank of the training job is lost");
            end = s->final;
        }
    }
    return ESPL_OK;
}
