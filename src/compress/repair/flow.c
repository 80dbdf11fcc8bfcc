/* What flows through a graph: a part of it is run, and values inside are made its outputs. */
#include "compress/repair/linear.h"
#include "passes/passes.h"

#include <math.h>

typedef struct flow {
    const espl__repair_task *t;
    espl_graph *g;
    espl__value **value; /* by tap */
    int *place;          /* by tap: output of the session, or -1 - its input */
    int count;
    espl_tensor *seen; /* by tap */
    float **own;       /* by tap: rounded inputs */
    int64_t samples;
    espl__tap_fn fn;
    void *user;
} flow;

/* Outputs of the part: each tapped value once; graph inputs need no run, but a graph needs an output. */
static espl_status cut(flow *p, const espl__tap *taps, espl_diag *diag) {
    espl_graph *g = p->g;
    espl__value **outputs = espl__arena_alloc(&g->arena, sizeof(void *) * (uint64_t)(p->count + 1));
    int count = 0;
    if (!outputs) return espl__nomem(diag, sizeof(void *));
    for (int i = 0; i < p->count; i++) {
        espl__value *v = p->value[i] = g->values[taps[i].value];
        if (taps[i].raw) v->quant = (espl__quant){0};
        int at = 0;
        if (v->is_input) {
            while (g->inputs[at] != v) at++;
            p->place[i] = -1 - at;
            continue;
        }
        while (at < count && outputs[at] != v) at++;
        if (at == count) outputs[count++] = v;
        p->place[i] = at;
    }
    if (!count) outputs[count++] = g->nodes[0]->outputs[0];
    g->outputs = outputs;
    g->output_count = count;
    return espl__pass_dead_code(g, diag);
}

/* The grid that a session rounds a graph input to. */
static void round_to(const espl__quant *q, const float *in, float *out, int64_t n) {
    int32_t lo = q->format == ESPL_FORMAT_U8 ? 0 : -128, hi = q->format == ESPL_FORMAT_U8 ? 255 : 127;
    int32_t zero = q->zero ? q->zero[0] : 0;
    float scale = q->scale[0], inverse = 1 / scale;
    for (int64_t i = 0; i < n; i++)
        out[i] = (float)(espl__requantize(in[i] * inverse, zero, lo, hi) - zero) * scale;
}

static espl_status show(void *user, int64_t index, const espl_tensor *inputs, const espl_tensor *outputs,
                        espl_diag *diag) {
    flow *p = user;
    for (int i = 0; i < p->count; i++) {
        const espl__quant *q = &p->value[i]->quant;
        p->seen[i] = p->place[i] >= 0 ? outputs[p->place[i]] : inputs[-1 - p->place[i]];
        bool codes = q->format == ESPL_FORMAT_U8 || q->format == ESPL_FORMAT_S8;
        if (p->place[i] >= 0 || !codes) continue;
        int64_t n = espl_shape_count(&p->seen[i].shape);
        if (!p->own[i] && !(p->own[i] = espl__alloc(p->t->ctx, (uint64_t)n * sizeof(float))))
            return espl__nomem(diag, (uint64_t)n * sizeof(float));
        round_to(q, p->seen[i].data, p->own[i], n);
        p->seen[i].data = p->own[i];
    }
    espl_status status = p->fn(p->user, index, p->seen, diag);
    if (status == ESPL_OK && p->t->progress && !p->t->progress(p->t->user, "samples", index + 1, p->samples))
        status = espl__fail(diag, ESPL_CANCELLED, "cancelled while repairing");
    return status;
}

espl_status espl__flow(const espl__repair_task *t, const espl_graph *graph, const espl__tap *taps, int count,
                       int64_t samples, espl__tap_fn fn, void *user, espl_diag *diag) {
    espl_status status = ESPL_OK;
    espl_session *session = NULL;
    espl_session_options options = {.input_shapes = t->shapes, .without_late = true};
    uint64_t n = (uint64_t)count + 1;
    flow p = {.t = t, .count = count, .samples = ESPL_MIN(samples, t->count), .fn = fn, .user = user};
    p.value = espl__calloc(t->ctx, n, sizeof *p.value);
    p.place = espl__calloc(t->ctx, n, sizeof *p.place);
    p.seen = espl__calloc(t->ctx, n, sizeof *p.seen);
    p.own = espl__calloc(t->ctx, n, sizeof *p.own);
    if (!p.value || !p.place || !p.seen || !p.own) {
        status = espl__nomem(diag, n * sizeof *p.seen);
        goto done;
    }
    ESPL_TRY(espl__graph_share(graph, &p.g, diag));
    ESPL_TRY(cut(&p, taps, diag));
    ESPL_TRY(espl_session_create(t->ctx, p.g, &options, &session, diag));
    ESPL_TRY(espl__each_sample(t->ctx, session, t->data, t->step, p.samples, show, &p, diag));
done:
    for (int i = 0; p.own && i < count; i++) espl__free(t->ctx, p.own[i]);
    espl_session_destroy(&session);
    espl_graph_destroy(&p.g);
    espl__free(t->ctx, p.value);
    espl__free(t->ctx, p.place);
    espl__free(t->ctx, p.seen);
    espl__free(t->ctx, p.own);
    return status;
}

/* --- statistics of channels -------------------------------------------------------------------------- */

typedef struct gatherer {
    espl_context *ctx;
    const int *axes;
    int count;
    espl__channels *out;
} gatherer;

static bool make_channels(espl_context *ctx, espl__channels *c, int64_t channels) {
    uint64_t n = (uint64_t)channels + 1;
    *c = (espl__channels){channels,
                          0,
                          espl__calloc(ctx, n, sizeof(double)),
                          espl__calloc(ctx, n, sizeof(double)),
                          espl__calloc(ctx, n, sizeof(float)),
                          espl__calloc(ctx, n, sizeof(float))};
    return c->sum && c->squares && c->least && c->most;
}

/* `inner` neighbours of one channel; the order of sums is that of the elements. A NaN is no least and no
 * most. */
static void gather_run(espl__channels *c, int64_t channel, bool first, const float *x, int64_t inner) {
    double sum = 0, squares = 0;
    float least = first ? INFINITY : c->least[channel], most = first ? -INFINITY : c->most[channel];
    for (int64_t i = 0; i < inner; i++) {
        sum += x[i];
        squares += (double)x[i] * x[i];
        least = x[i] < least ? x[i] : least;
        most = x[i] > most ? x[i] : most;
    }
    c->sum[channel] += sum;
    c->squares[channel] += squares;
    c->least[channel] = least;
    c->most[channel] = most;
}

static espl_status gather(void *user, int64_t sample, const espl_tensor *values, espl_diag *diag) {
    gatherer *w = user;
    (void)sample;
    for (int i = 0; i < w->count; i++) {
        const espl_shape *s = &values[i].shape;
        espl__channels *c = &w->out[i];
        int axis = w->axes[i] < 0 ? s->rank + w->axes[i] : w->axes[i];
        if (axis < 0 || axis >= s->rank || values[i].dtype != ESPL_F32) continue;
        int64_t channels = s->dim[axis], inner = 1, outer = 1;
        for (int d = 0; d < s->rank; d++) *(d < axis ? &outer : &inner) *= d == axis ? 1 : s->dim[d];
        if (!c->sum && !make_channels(w->ctx, c, channels)) return espl__nomem(diag, (uint64_t)channels * 24);
        const float *x = values[i].data;
        for (int64_t o = 0; o < outer; o++)
            for (int64_t k = 0; k < channels; k++, x += inner)
                gather_run(c, k, c->seen == 0 && o == 0, x, inner);
        c->seen += outer * inner;
    }
    return ESPL_OK;
}

espl_status espl__flow_channels(const espl__repair_task *t, const espl_graph *graph, const espl__tap *taps,
                                const int *axes, int count, int64_t samples, espl__channels *out,
                                espl_diag *diag) {
    gatherer w = {t->ctx, axes, count, out};
    memset(out, 0, sizeof *out * (size_t)count);
    return espl__flow(t, graph, taps, count, samples, gather, &w, diag);
}

void espl__channels_free(espl_context *ctx, espl__channels *c, int count) {
    for (int i = 0; c && i < count; i++) {
        espl__free(ctx, c[i].sum);
        espl__free(ctx, c[i].squares);
        espl__free(ctx, c[i].least);
        espl__free(ctx, c[i].most);
    }
}
