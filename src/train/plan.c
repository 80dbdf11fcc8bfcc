/* What the engine runs, and where everything lies.
 *
 * Time: forwards 0..S-1, the loss S, then backwards. With `recompute` the steps are cut into segments; only
 * what crosses from one to a later one is kept (Chen 2016, arXiv 1604.06174). Before a segment's backward its
 * forward steps run again and write to other memory, which lives from there on: a value then has two lives,
 * and a step two sets of pointers. */
#include <math.h>

#include "train/engine_impl.h"

enum { ALIGN = 64, PARAM_ALIGN = 16, MOST_SEGMENTS = 16 };

static int loss_time(const espl__engine *e) {
    return e->step_count;
}

static uint64_t padded(uint64_t bytes) {
    return (bytes + ALIGN - 1) / ALIGN * ALIGN;
}

static int new_span(espl__engine *e, uint64_t bytes, int first, int last) {
    e->spans[e->span_count] = (espl__span){padded(bytes), 0, first, last};
    return e->span_count++;
}

static void live_until(espl__engine *e, int span, int time) {
    if (span >= 0 && e->spans[span].last < time) e->spans[span].last = time;
}

/* --- which gradients are made ------------------------------------------------------------------------ */

static bool turn_is_view(const espl__node *n) {
    if (n->op != &espl__op_to_last && n->op != &espl__op_to_rows) return false;
    const espl_shape *s = &n->inputs[0]->shape;
    int64_t spatial = 1;
    for (int i = 2; i < s->rank; i++) spatial *= s->dim[i];
    return spatial == 1 || s->dim[1] == 1;
}

/* A dropout that trains is none, though outside of training it is. */
static bool is_view(const espl__engine *e, const espl__node *n) {
    if (turn_is_view(n)) return true;
    if (espl__node_is(n, "Dropout") && !e->options.inference_only) return false;
    return n->op->is_view && n->inputs[0]->dtype == n->outputs[0]->dtype;
}

static bool passes(const espl__engine *e, const espl__node *n, const espl__grad *grad, int input) {
    if (is_view(e, n)) return input == 0;
    return grad && grad->backward && input < ESPL__GRAD_INPUTS && (grad->inputs >> input & 1);
}

static void mark_needs(espl__engine *e) {
    espl_graph *g = e->net.graph;
    for (int i = 0; i < e->net.trained; i++) e->slots[e->net.params[i].value->id].needs = true;
    for (int i = 0; e->options.input_gradients && i < e->net.inputs; i++)
        e->slots[g->inputs[i]->id].needs = espl__engine_is_real(g->inputs[i]);
    for (int i = 0; i < e->step_count; i++) {
        const espl__node *n = g->nodes[i];
        bool needs = false;
        for (int j = 0; j < n->input_count; j++)
            if (n->inputs[j] && passes(e, n, e->steps[i].grad, j)) needs |= e->slots[n->inputs[j]->id].needs;
        for (int j = 0; j < n->output_count; j++)
            if (n->outputs[j] && espl__engine_is_real(n->outputs[j]))
                e->slots[n->outputs[j]->id].needs = needs;
    }
}

static void mark_paths(espl__engine *e) {
    espl_graph *g = e->net.graph;
    for (int i = 0; i < g->output_count; i++)
        e->slots[g->outputs[i]->id].path = !espl__engine_is_state(g->outputs[i]);
    for (int i = e->step_count - 1; i >= 0; i--) {
        const espl__node *n = g->nodes[i];
        bool path = false;
        for (int j = 0; j < n->output_count; j++)
            path |= n->outputs[j] && e->slots[n->outputs[j]->id].path && e->slots[n->outputs[j]->id].needs;
        for (int j = 0; path && j < n->input_count; j++)
            if (n->inputs[j] && passes(e, n, e->steps[i].grad, j)) e->slots[n->inputs[j]->id].path = true;
        e->steps[i].backward = path;
    }
}

bool espl__engine_has_gradient(const espl__engine *e, const espl__value *v) {
    const slot *s = &e->slots[v->id];
    return s->needs && s->path && !e->options.inference_only;
}

/* --- views --------------------------------------------------------------------------------------------- */

static void mark_views(espl__engine *e) {
    espl_graph *g = e->net.graph;
    espl__graph_count_uses(g);
    for (int i = 0; i < g->value_count; i++) e->slots[i].root = e->slots[i].gradient_root = i;
    for (int i = 0; i < e->step_count; i++) {
        const espl__node *n = g->nodes[i];
        e->steps[i].view = is_view(e, n);
        if (e->steps[i].view) e->slots[n->outputs[0]->id].root = e->slots[n->inputs[0]->id].root;
    }
    /* Backwards a view is nothing if its input has no other reader; else its gradient is one term of a sum.
     */
    for (int i = e->step_count - 1; i >= 0; i--) {
        const espl__node *n = g->nodes[i];
        const espl__value *x = n->inputs[0];
        if (!e->steps[i].view || x->is_input || x->uses != 1 || !espl__engine_has_gradient(e, x)) continue;
        e->slots[x->id].gradient_root = e->slots[n->outputs[0]->id].gradient_root;
        e->steps[i].backward = false;
    }
}

/* --- parameters -------------------------------------------------------------------------------------- */

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
    espl_dtype real = e->options.real;
    if (real == from->dtype) {
        memcpy(to, from->data, (size_t)n * espl_dtype_bytes(real));
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        double x;
        espl__load_f64(from->dtype, espl__at(from->data, from->dtype, i), 0, 1, &x);
        espl__store_f64(real, &x, 1, espl__at_mut(to, real, i));
    }
}

void espl__engine_point_params(espl__engine *e) {
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
    espl__engine_point_params(e);
    for (int i = 0; i < e->net.count; i++) fill_real(e, e->net.params[i].start, e->params[i].data.data);
    return ESPL_OK;
}

/* --- calls ------------------------------------------------------------------------------------------- */

static espl_status place_constant(espl__engine *e, const espl__value *v, slot *s, espl_diag *diag) {
    s->fixed = true;
    s->data.data = v->constant->data;
    if (!espl__engine_is_real(v) || e->options.real == v->dtype) return ESPL_OK;
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
        if (s->fixed) continue;
        s->data = (espl_tensor){espl__engine_is_real(v) ? e->options.real : v->dtype,
                                espl__train_shape(v, v->mark), NULL};
        s->grad = s->data;
        if (v->constant) {
            espl_status status = place_constant(e, v, s, diag);
            if (status != ESPL_OK) return status;
        }
    }
    return ESPL_OK;
}

static espl_status make_call(espl__engine *e, int i, espl_diag *diag) {
    const espl__node *n = e->net.graph->nodes[i];
    step *s = &e->steps[i];
    espl__call *c = &s->call;
    int in = n->input_count, out = n->output_count;
    espl_tensor *t = espl__arena_alloc(&e->arena, (uint64_t)(3 * (in + out) + 1) * sizeof *t);
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
        bool back = s->backward && !e->options.inference_only && passes(e, n, s->grad, j);
        if (back && espl__engine_has_gradient(e, n->inputs[j])) c->wanted |= 1u << j;
        if (j < ESPL__GRAD_INPUTS || e->options.inference_only || !e->slots[n->inputs[j]->id].needs) continue;
        char label[160];
        return espl__fail(diag, ESPL_UNSUPPORTED, "%s: training has gradients for %d inputs of an operator, not for %d",
                          espl__node_label(n, label, sizeof label), ESPL__GRAD_INPUTS, in);
    }
    for (int j = 0; j < out; j++) {
        if (!n->outputs[j]) continue;
        c->out[j] = c->dout[j] = e->slots[n->outputs[j]->id].data;
        c->out[j].data = c->dout[j].data = NULL;
    }
    s->first = *c;
    s->first.in = t + 2 * (in + out);
    s->first.out = s->first.in + in;
    memcpy(s->first.in, c->in, (size_t)in * sizeof *t);
    memcpy(s->first.out, c->out, (size_t)out * sizeof *t);
    if (s->view) return ESPL_OK;
    espl_status status = ESPL_OK;
    if (s->grad && s->grad->prepare)
        status = s->grad->prepare(c, diag);
    else if (!s->grad || !s->grad->forward)
        c->forward_bytes = espl__scratch_bytes(n);
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
        if (n->inputs[j] && espl__engine_is_real(n->inputs[j]))
            return espl__fail(diag, ESPL_UNSUPPORTED, "%s: node %s: not trained in double precision",
                              e->net.graph->file, espl__node_label(n, label, sizeof label));
    return ESPL_OK;
}

/* --- segments ---------------------------------------------------------------------------------------- */

static uint64_t value_bytes(const espl__engine *e, int value) {
    const slot *s = &e->slots[value];
    return s->root == value && !s->fixed && e->net.graph->values[value]->producer
               ? espl__tensor_bytes(&s->data)
               : 0;
}

/* Bytes of values that steps before `at` make and steps from there on read. */
static uint64_t crossing(const espl__engine *e, const int *last_use, int at) {
    uint64_t bytes = 0;
    for (int i = 0; i < e->net.graph->value_count; i++) {
        const espl__node *producer = e->net.graph->values[i]->producer;
        if (producer && producer->id < at && last_use[i] >= at) bytes += value_bytes(e, i);
    }
    return bytes;
}

/* Cuts near equal shares of the activations' bytes, where little crosses. */
static void cut_at(espl__engine *e, const int *last_use, const uint64_t *before, int segments) {
    int from = 1, n = e->step_count;
    for (int k = 1; k < segments; k++) {
        double share = (double)before[n] / segments, target = share * k;
        int best = -1;
        uint64_t least = UINT64_MAX;
        for (int i = from; i < n; i++) {
            if (fabs((double)before[i] - target) > share / 2) continue;
            uint64_t bytes = crossing(e, last_use, i);
            if (bytes < least) least = bytes, best = i;
        }
        if (best < 0) continue;
        for (int i = best; i < n; i++) e->steps[i].segment++;
        e->segments++;
        from = best + 1;
    }
}

static espl_status choose_segments(espl__engine *e, espl_diag *diag) {
    espl_graph *g = e->net.graph;
    e->segments = 1;
    if (!e->options.recompute || e->options.inference_only) return ESPL_OK;
    int *last_use = espl__calloc(e->ctx, (uint64_t)g->value_count + 1, sizeof *last_use);
    uint64_t *before = espl__calloc(e->ctx, (uint64_t)e->step_count + 1, sizeof *before);
    if (last_use && before) {
        for (int i = 0; i < e->step_count; i++) {
            const espl__node *n = g->nodes[i];
            for (int j = 0; j < n->input_count; j++)
                if (n->inputs[j]) last_use[e->slots[n->inputs[j]->id].root] = i;
            before[i + 1] = before[i];
            for (int j = 0; j < n->output_count; j++)
                if (n->outputs[j]) before[i + 1] += value_bytes(e, n->outputs[j]->id);
        }
        cut_at(e, last_use, before, ESPL_MIN(MOST_SEGMENTS, (int)ceil(sqrt((double)e->step_count))));
    }
    bool ok = last_use && before;
    espl__free(e->ctx, last_use);
    espl__free(e->ctx, before);
    return ok ? ESPL_OK : espl__nomem(diag, 0);
}

static int segment_of(const espl__engine *e, const espl__value *v) {
    return v->producer ? e->steps[v->producer->id].segment : 0;
}

/* Which values are made twice: those of an early segment that no later one reads. */
static void mark_again(espl__engine *e) {
    espl_graph *g = e->net.graph;
    for (int i = 0; i < g->value_count; i++) {
        slot *s = &e->slots[i];
        s->again = s->root == i && !s->fixed && g->values[i]->producer &&
                   segment_of(e, g->values[i]) < e->segments - 1;
    }
    for (int i = 0; i < e->step_count; i++)
        for (int j = 0; j < g->nodes[i]->input_count; j++) {
            const espl__value *v = g->nodes[i]->inputs[j];
            if (!v) continue;
            slot *root = &e->slots[e->slots[v->id].root];
            if (segment_of(e, g->values[e->slots[v->id].root]) < e->steps[i].segment) root->again = false;
        }
    for (int i = 0; i < g->output_count; i++) e->slots[e->slots[g->outputs[i]->id].root].again = false;
}

static bool reads_in(const espl__engine *e, const step *s, int input) {
    return s->backward && !s->view && !e->options.inference_only && input < ESPL__GRAD_INPUTS &&
           (s->grad->reads_in >> input & 1);
}
static bool reads_out(const espl__engine *e, const step *s, int output) {
    return s->backward && !s->view && !e->options.inference_only && (s->grad->reads_out >> output & 1);
}

/* Which steps run twice: those whose notes or results backward, or another such step, reads. slot->written
 * says of a value whether its second life is read. */
static void mark_steps_again(espl__engine *e) {
    espl_graph *g = e->net.graph;
    for (int i = e->step_count - 1; i >= 0; i--) {
        step *s = &e->steps[i];
        const espl__node *n = g->nodes[i];
        bool early = s->segment < e->segments - 1, again = early && s->backward && s->call.saved_bytes > 0;
        for (int j = 0; j < n->output_count; j++) {
            slot *root = n->outputs[j] ? &e->slots[e->slots[n->outputs[j]->id].root] : NULL;
            if (root) again |= root->again && (root->written || reads_out(e, s, j));
        }
        s->again = again && early;
        for (int j = 0; j < n->input_count; j++)
            if (n->inputs[j] && (s->again || reads_in(e, s, j)))
                e->slots[e->slots[n->inputs[j]->id].root].written = true;
    }
    for (int i = 0; i < g->value_count; i++) e->slots[i].written = false;
}

static void set_times(espl__engine *e) {
    int now = loss_time(e) + 1, end = e->step_count;
    for (int k = e->segments - 1; k >= 0; k--) {
        int begin = end;
        while (begin > 0 && e->steps[begin - 1].segment == k) begin--;
        for (int i = begin; i < end; i++)
            if (e->steps[i].again) e->steps[i].again_time = now++;
        for (int i = end - 1; i >= begin; i--) e->steps[i].backward_time = now++;
        end = begin;
    }
    e->end_time = now;
}

/* --- lives ------------------------------------------------------------------------------------------- */

/* A value is needed at `time` forwards (second false), or for backward. */
static void use(espl__engine *e, int value, bool second, int time) {
    slot *s = &e->slots[e->slots[value].root];
    if (!s->again || !second) {
        live_until(e, s->span, time);
        return;
    }
    live_until(e, s->second_span, time);
}

static void begin_lives(espl__engine *e) {
    espl_graph *g = e->net.graph;
    for (int i = 0; i < g->value_count; i++) {
        slot *s = &e->slots[i];
        const espl__node *producer = g->values[i]->producer;
        if (s->root != i || s->fixed) continue;
        /* Inputs are written before the first call. */
        int first = producer ? producer->id : 0;
        s->span = new_span(e, espl__tensor_bytes(&s->data), first, first);
        if (!producer || !e->steps[producer->id].again) continue;
        /* Of a value that is kept, what its maker writes the second time goes nowhere. */
        int time = e->steps[producer->id].again_time;
        s->second_span = new_span(e, espl__tensor_bytes(&s->data), time, time);
    }
}

static void plan_values(espl__engine *e) {
    espl_graph *g = e->net.graph;
    begin_lives(e);
    for (int i = 0; i < g->output_count; i++)
        use(e, g->outputs[i]->id, false, espl__engine_is_state(g->outputs[i]) ? e->end_time : loss_time(e));
    for (int i = 0; i < e->step_count; i++) {
        const espl__node *n = g->nodes[i];
        const step *s = &e->steps[i];
        for (int j = 0; j < n->input_count; j++) {
            if (!n->inputs[j]) continue;
            use(e, n->inputs[j]->id, false, i);
            if (s->again) use(e, n->inputs[j]->id, true, s->again_time);
            if (reads_in(e, s, j)) use(e, n->inputs[j]->id, true, s->backward_time);
        }
        for (int j = 0; j < n->output_count; j++)
            if (n->outputs[j] && reads_out(e, s, j)) use(e, n->outputs[j]->id, true, s->backward_time);
    }
}

/* A gradient lives from its first term, or the loss, to the call that made its value. */
static void plan_gradients(espl__engine *e) {
    espl_graph *g = e->net.graph;
    for (int i = 0; i < g->value_count; i++) {
        const espl__value *v = g->values[i];
        slot *s = &e->slots[i];
        if (s->fixed || !espl__engine_has_gradient(e, v)) continue;
        slot *root = &e->slots[s->gradient_root];
        int last = v->producer ? e->steps[v->producer->id].backward_time : e->end_time;
        if (root->gradient_span < 0)
            root->gradient_span = new_span(e, espl__tensor_bytes(&s->grad), last, last);
        live_until(e, root->gradient_span, last);
        if (espl__graph_is_output(g, v)) e->spans[root->gradient_span].first = loss_time(e);
    }
    for (int i = 0; i < e->step_count; i++) {
        const espl__node *n = g->nodes[i];
        for (int j = 0; j < n->input_count; j++) {
            const espl__value *v = n->inputs[j];
            if (!v || !espl__engine_has_gradient(e, v) || e->slots[v->id].fixed) continue;
            int at = e->slots[e->slots[v->id].gradient_root].gradient_span, time = e->steps[i].backward_time;
            if (at >= 0 && e->spans[at].first > time) e->spans[at].first = time;
        }
    }
}

static void plan_calls(espl__engine *e) {
    for (int i = 0; i < e->step_count; i++) {
        step *s = &e->steps[i];
        const espl__call *c = &s->call;
        bool back = s->backward && !e->options.inference_only;
        int from = s->again ? s->again_time : i;
        s->saved_span = s->first_span = s->forward_span = s->again_span = s->backward_span = -1;
        if (c->saved_bytes) s->saved_span = new_span(e, c->saved_bytes, from, back ? s->backward_time : from);
        if (c->saved_bytes && s->again) s->first_span = new_span(e, c->saved_bytes, i, i);
        if (c->forward_bytes) s->forward_span = new_span(e, c->forward_bytes, i, i);
        if (c->forward_bytes && s->again)
            s->again_span = new_span(e, c->forward_bytes, s->again_time, s->again_time);
        if (c->backward_bytes && back)
            s->backward_span = new_span(e, c->backward_bytes, s->backward_time, s->backward_time);
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

/* --- pointers ---------------------------------------------------------------------------------------- */

static void *at(const espl__engine *e, int span) {
    return span < 0 ? NULL : e->workspace + e->spans[span].offset;
}

static void point_values(espl__engine *e) {
    for (int i = 0; i < e->net.graph->value_count; i++) {
        slot *s = &e->slots[i];
        const slot *root = &e->slots[s->root];
        if (!s->fixed) {
            s->data.data = root->fixed ? root->data.data : at(e, root->span);
            s->grad.data = at(e, e->slots[s->gradient_root].gradient_span);
        }
        s->second = root->again ? at(e, root->second_span) : s->data.data;
    }
}

static void point_call(espl__engine *e, int i) {
    const espl__node *n = e->net.graph->nodes[i];
    step *s = &e->steps[i];
    espl__call *c = &s->call, *f = &s->first;
    for (int j = 0; j < n->input_count; j++) {
        if (!n->inputs[j]) continue;
        const slot *v = &e->slots[n->inputs[j]->id];
        c->in[j].data = v->second;
        f->in[j].data = v->data.data;
        if (c->wanted >> j & 1) c->din[j].data = v->grad.data;
    }
    for (int j = 0; j < n->output_count; j++) {
        if (!n->outputs[j]) continue;
        const slot *v = &e->slots[n->outputs[j]->id];
        const slot *root = &e->slots[v->root];
        c->out[j].data =
            s->again && !root->again && !reads_out(e, s, j) ? at(e, root->second_span) : v->second;
        f->out[j].data = v->data.data;
        bool made = espl__engine_has_gradient(e, n->outputs[j]) && e->slots[v->gradient_root].written;
        c->dout[j].data = made ? v->grad.data : NULL;
    }
    c->saved = at(e, s->saved_span);
    f->saved = s->again ? at(e, s->first_span) : c->saved;
    f->scratch = at(e, s->forward_span);
    s->again_scratch = at(e, s->again_span);
    s->backward_scratch = at(e, s->backward_span);
    f->state = c->state;
}

void espl__engine_point(espl__engine *e) {
    point_values(e);
    for (int i = 0; i < e->step_count; i++) point_call(e, i);
}

/* The walk backwards, once: whose first term each call writes, and when parameters' gradients are final. */
static void plan_backward(espl__engine *e) {
    espl_graph *g = e->net.graph;
    for (int i = 0; i < g->output_count; i++)
        if (espl__engine_has_gradient(e, g->outputs[i]))
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

static void begin_values(espl__engine *e) {
    for (int i = 0; i < e->net.graph->value_count; i++)
        e->slots[i].span = e->slots[i].second_span = e->slots[i].gradient_span = -1;
}

espl_status espl__engine_plan(espl__engine *e, espl_diag *diag) {
    espl_graph *g = e->net.graph;
    espl_status status;
    uint64_t values = (uint64_t)g->value_count, nodes = (uint64_t)g->node_count;
    e->step_count = g->node_count;
    e->slots = espl__arena_alloc(&e->arena, (values + 1) * sizeof *e->slots);
    e->steps = espl__arena_alloc(&e->arena, (nodes + 1) * sizeof *e->steps);
    e->spans = espl__arena_alloc(&e->arena, (3 * values + 5 * nodes + 1) * sizeof *e->spans);
    if (!e->slots || !e->steps || !e->spans) return espl__nomem(diag, 0);
    for (int i = 0; i < e->step_count;
         i++) { /* rows are for reals; on integers operators are what they are */
        const espl__node *n = g->nodes[i];
        int first = 0;
        while (first < n->output_count - 1 && !n->outputs[first]) first++;
        bool real = n->outputs[first] && espl__engine_is_real(n->outputs[first]);
        e->steps[i].grad = real ? espl__grad_find(n->op) : NULL;
    }
    begin_values(e);
    ESPL_TRY(make_params(e, diag));
    mark_needs(e);
    mark_paths(e);
    mark_views(e);
    ESPL_TRY(shape_values(e, diag));
    for (int i = 0; i < e->step_count; i++) {
        ESPL_TRY(check_row(e, i, diag));
        ESPL_TRY(make_call(e, i, diag));
    }
    ESPL_TRY(choose_segments(e, diag));
    mark_again(e);
    mark_steps_again(e);
    set_times(e);
    plan_values(e);
    plan_gradients(e);
    plan_calls(e);
    ESPL_TRY(allocate(e, diag));
    plan_backward(e);
    espl__engine_point(e);
done:
    return status;
}
