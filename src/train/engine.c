/* The engine's life, its parameters, and its steps; plan.c makes the plan. */
#include "train/dense.h"
#include "train/engine_impl.h"

espl_status espl__engine_create(espl_context *ctx, const espl_graph *graph, const espl_shape *shapes,
                                const espl__engine_options *options, espl__engine **out, espl_diag *diag) {
    *out = NULL;
    espl__engine *e = espl__calloc(ctx, 1, sizeof *e);
    if (!e) return espl__nomem(diag, sizeof *e);
    e->ctx = ctx;
    e->options = *options;
    espl__arena_init(&e->arena, ctx);
    espl_status status = espl__train_prepare(graph, shapes, options, &e->net, diag);
    if (status == ESPL_OK) status = espl__engine_plan(e, diag);
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

/* --- parameters, inputs, outputs --------------------------------------------------------------------- */

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
    espl__engine_point_params(to);
    espl__engine_point(to);
}

void espl__engine_store(const espl__engine *e, espl_graph *graph) {
    for (int i = 0; i < e->net.count; i++) {
        const espl__param *p = &e->params[i];
        if (graph->values[p->value]->dtype != ESPL_F32) continue;
        float *to = graph->values[p->value]->constant->data;
        for (int64_t k = 0; k < p->count; k++)
            to[k] = e->options.real == ESPL_F64 ? (float)((const double *)p->data.data)[k]
                                                : ((const float *)p->data.data)[k];
    }
    espl__train_store_scales(graph);
    for (int i = 0; i < e->net.count; i++) {
        const espl__param *p = &e->params[i];
        if (graph->values[p->value]->dtype != ESPL_F32) espl__train_store_codes(graph, e->net.graph, p);
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
    if (!espl__engine_has_gradient(e, v)) t.data = NULL;
    return t;
}

espl_tensor espl__engine_input_gradient(const espl__engine *e, int index) {
    const espl__value *v = e->net.graph->inputs[index];
    espl_tensor t = e->slots[v->id].grad;
    if (!espl__engine_has_gradient(e, v)) t.data = NULL;
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

/* --- a step ------------------------------------------------------------------------------------------ */

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

static espl_status check(const espl__call *c, bool gradient, espl_diag *diag) {
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

static espl_status run(espl__engine *e, int i, espl__call *c, bool training, espl_diag *diag) {
    const step *s = &e->steps[i];
    c->training = training;
    c->seed = mix(mix(e->options.seed, e->number), (uint64_t)i);
    c->status = ESPL_OK;
    if (s->grad && s->grad->forward)
        s->grad->forward(c);
    else
        c->node->op->eval(c->node, c->in, c->out, c->scratch);
    if (c->status != ESPL_OK) return espl__fail(diag, c->status, "a rank of the training job is lost");
    return e->check ? check(c, false, diag) : ESPL_OK;
}

/* After the steps of one direction. */
static espl_status check_dense(espl_diag *diag) {
    if (!espl__dense_failed()) return ESPL_OK;
    return espl__fail(diag, ESPL_NOMEM, "out of memory within oneDNN; take fewer threads (--threads) or a smaller batch");
}

espl_status espl__engine_forward(espl__engine *e, bool training, uint64_t number, espl_diag *diag) {
    e->number = number;
    for (int i = 0; i < e->step_count; i++) {
        if (e->steps[i].view) continue;
        espl_status status = run(e, i, &e->steps[i].first, training, diag);
        if (status != ESPL_OK) return status;
    }
    return check_dense(diag);
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

/* The forward steps of the segment that ends with step `end`, once more. */
static espl_status run_again(espl__engine *e, int end, espl_diag *diag) {
    int begin = end;
    while (begin > 0 && e->steps[begin - 1].segment == e->steps[end].segment) begin--;
    for (int i = begin; i <= end; i++) {
        step *s = &e->steps[i];
        if (!s->again || s->view) continue;
        s->call.again = true;
        s->call.scratch = s->again_scratch;
        espl_status status = run(e, i, &s->call, true, diag);
        if (status != ESPL_OK) return status;
    }
    return ESPL_OK;
}

static espl_status run_backward(espl__engine *e, int i, espl_diag *diag) {
    step *s = &e->steps[i];
    espl__call *c = &s->call;
    c->scratch = s->backward_scratch;
    c->status = ESPL_OK;
    c->training = true;
    if (s->view)
        copy_back(c);
    else
        s->grad->backward(c);
    if (c->status != ESPL_OK) return espl__fail(diag, c->status, "a rank of the training job is lost");
    return e->check ? check(c, true, diag) : ESPL_OK;
}

espl_status espl__engine_backward(espl__engine *e, espl_diag *diag) {
    int64_t end = e->weight_count;
    espl_status status = ESPL_OK;
    for (int i = e->step_count - 1; i >= 0 && status == ESPL_OK; i--) {
        step *s = &e->steps[i];
        bool last = i + 1 == e->step_count || e->steps[i + 1].segment != s->segment;
        if (last && s->segment + 1 < e->segments) status = run_again(e, i, diag);
        s->call.seed = s->first.seed;
        if (status == ESPL_OK && s->backward && s->call.wanted) status = run_backward(e, i, diag);
        if (status != ESPL_OK || s->final < 0 || !e->options.ready) continue;
        status = e->options.ready(e->options.ready_arg, s->final, end - s->final);
        if (status != ESPL_OK) status = espl__fail(diag, status, "a rank of the training job is lost");
        end = s->final;
    }
    return status == ESPL_OK ? check_dense(diag) : status;
}
