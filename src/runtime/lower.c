/* The walk over the graph, fusion, and the operator's own reference as the general way to compute anything.
 */
#include "runtime/lower.h"
#include "ops/ops.h"

#include <math.h>

static const struct {
    const char *op;
    lower_fn lower;
} lowerings[] = {
#define X(op, fn) {op, fn},
    LOWER_LIST(X)
#undef X
};

static lower_fn find_lowering(const espl__node *n) {
    for (size_t i = 0; i < ESPL_COUNT(lowerings); i++)
        if (strcmp(lowerings[i].op, n->op->name) == 0) return lowerings[i].lower;
    if (n->op->is_view) return espl__lower_view;
    return n->op->quant == ESPL__QUANT_UNARY ? espl__lower_table : NULL;
}

espl_dtype espl__plan_store_type(const espl__value *value) {
    float scale;
    int32_t zero;
    return value->dtype == ESPL_F32 && espl__plan_grid(value, &scale, &zero) ? ESPL_U8 : value->dtype;
}

/* --- wanted layouts ----------------------------------------------------------------------------- */

static bool spatial_op(const espl__node *n) {
    static const char *const names[] = {"Conv", "MaxPool", "AveragePool", "GlobalAveragePool",
                                        "GlobalMaxPool"};
    if (!n->inputs[0] || n->inputs[0]->shape.rank != 4) return false;
    for (size_t i = 0; i < ESPL_COUNT(names); i++)
        if (espl__node_is(n, names[i])) return true;
    return false;
}

/* Operators for which NHWC is as good as rows: the layout of one side spreads to the other. */
static bool carries_layout(const espl__node *n) {
    static const char *const names[] = {"Add", "Concat", "Slice", "Pad", "Split", "Relu", "Clip"};
    if (n->op->quant == ESPL__QUANT_UNARY || espl__plan_unary_input(n) >= 0) return true;
    for (size_t i = 0; i < ESPL_COUNT(names); i++)
        if (espl__node_is(n, names[i])) return true;
    return false;
}

static bool any_spatial(const espl_session *s, espl__value *const *values, int count) {
    for (int i = 0; i < count; i++)
        if (values[i] && s->spatial[values[i]->id]) return true;
    return false;
}

static void mark_spatial(espl_session *s, espl__value *const *values, int count) {
    for (int i = 0; i < count; i++)
        if (values[i] && values[i]->shape.rank == 4) s->spatial[values[i]->id] = 1;
}

static void spread_layout(espl_session *s, const espl__node *n) {
    if (!carries_layout(n)) return;
    if (!any_spatial(s, n->inputs, n->input_count) && !any_spatial(s, n->outputs, n->output_count)) return;
    mark_spatial(s, n->inputs, n->input_count);
    mark_spatial(s, n->outputs, n->output_count);
}

static void choose_layouts(espl_session *s) {
    const espl_graph *g = s->graph;
    for (int i = 0; i < g->node_count; i++) {
        espl__node *n = g->nodes[i];
        if (!spatial_op(n)) continue;
        mark_spatial(s, n->inputs, 1);
        mark_spatial(s, n->outputs, 1);
        if (espl__node_is(n, "Conv")) espl__lower_conv_halo(n, s->halos[n->inputs[0]->id]);
    }
    for (int i = 0; i < g->node_count; i++) spread_layout(s, g->nodes[i]);
    for (int i = g->node_count - 1; i >= 0; i--) spread_layout(s, g->nodes[i]);
}

/* --- fusion --------------------------------------------------------------------------------------- */

int32_t espl__plan_bound(float bound, float scale, int32_t zero) {
    return espl__requantize(bound / scale, zero, 0, 255);
}

static bool same_quant(const espl__value *a, const espl__value *b) {
    float sa, sb;
    int32_t za, zb;
    bool qa = espl__plan_grid(a, &sa, &za), qb = espl__plan_grid(b, &sb, &zb);
    return qa == qb && (!qa || (sa == sb && za == zb));
}

/* Whether the observer is to see a value, which must then exist. */
static bool observed(const espl_session *s, const espl__value *v) {
    return s->observer && v->origin >= 0 && (!s->observed || s->observed[v->origin]);
}

/* The bound behind a value that may be taken with it, into [*lo, *hi]; NULL: none. It is exact when the value is not rounded
 * before it, or both share one grid (the bound is then a bound on codes). */
static espl__node *clamp_behind(const espl_session *s, const espl__value *value, float *lo, float *hi) {
    espl__node *r = espl__graph_only_reader(s->graph, value);
    float l, h;
    if (observed(s, value)) return NULL;
    if (!r || s->done[r->id] || !espl__clip_range(r, &l, &h) || r->inputs[0] != value) return NULL;
    if (espl__is_quantized(value) && !same_quant(value, r->outputs[0])) return NULL;
    if (l > *hi || h < *lo) return NULL; /* two bounds in a row have one in common */
    *lo = fmaxf(*lo, l);
    *hi = fminf(*hi, h);
    return r;
}

static void take_clamps(espl_session *s, espl__value **value, float *lo, float *hi) {
    for (espl__node *r; (r = clamp_behind(s, *value, lo, hi)) != NULL; s->done[r->id] = true) *value = r->outputs[0];
}

/* A sum that is rounded right away, or after bounds that are taken with it. */
static bool is_rounded(const espl_session *s, const espl__value *sum) {
    float scale, lo = -INFINITY, hi = INFINITY;
    int32_t zero;
    while (!espl__plan_grid(sum, &scale, &zero)) {
        const espl__node *r = clamp_behind(s, sum, &lo, &hi);
        if (!r) return false;
        sum = r->outputs[0];
    }
    return true;
}

static bool take_residual(espl_session *s, bool integer, fusion *f) {
    espl__node *add = espl__graph_only_reader(s->graph, f->out);
    float scale;
    int32_t zero;
    if (!espl__node_is(add, "Add") || s->done[add->id] || observed(s, f->out)) return false;
    espl__value *other = add->inputs[add->inputs[0] == f->out ? 1 : 0], *sum = add->outputs[0];
    if (other == f->out || other->constant || !s->forms[other->id]) return false;
    if (!espl_shape_equal(&other->shape, &f->out->shape)) return false;
    if (integer != espl__plan_grid(f->out, &scale, &zero) || integer != espl__plan_grid(other, &scale, &zero))
        return false;
    /* A bound before the sum has no place in the f32 store. */
    if (integer ? !is_rounded(s, sum) : f->lo != -INFINITY || f->hi != INFINITY) return false;
    f->residual = other;
    f->out = sum;
    s->done[add->id] = true;
    return true;
}

static bool has_bias_input(const espl__node *n) {
    return (espl__node_is(n, "Conv") || espl__node_is(n, "Gemm")) && n->input_count > 2 && n->inputs[2];
}

void espl__plan_fuse(espl_session *s, espl__node *n, fuse_mode mode, fusion *f) {
    *f = (fusion){n->outputs[0], n->outputs[0], NULL, -INFINITY, INFINITY, NULL, -INFINITY, INFINITY};
    if (has_bias_input(n)) f->bias = n->inputs[2];
    espl__node *add = espl__plan_bias_add(s->graph, n);
    if (add && !s->done[add->id] && !observed(s, f->out)) {
        f->bias = add->inputs[add->inputs[0] == f->out ? 1 : 0];
        f->out = add->outputs[0];
        s->done[add->id] = true;
    }
    take_clamps(s, &f->out, &f->lo, &f->hi);
    f->first = f->out;
    if (mode == FUSE_CLAMP || !take_residual(s, mode == FUSE_INTEGER, f)) return;
    take_clamps(s, &f->out, &f->lo2, &f->hi2);
}

espl__node *espl__plan_bias_add(const espl_graph *g, const espl__node *n) {
    if (!espl__node_is(n, "MatMul") || !n->inputs[1]->constant || n->inputs[1]->shape.rank != 2) return NULL;
    espl__value *y = n->outputs[0];
    espl__node *add = espl__is_quantized(y) ? NULL : espl__graph_only_reader(g, y);
    if (!espl__node_is(add, "Add") || !y->known_rank) return NULL;
    const espl__value *c = add->inputs[add->inputs[0] == y ? 1 : 0];
    int64_t channels = n->inputs[1]->shape.dim[1];
    if (!c->constant || c->dtype != ESPL_F32 || espl__is_quantized(c) || c->shape.rank < 1 ||
        c->shape.rank > y->shape.rank)
        return NULL;
    return espl_shape_count(&c->shape) == channels && c->shape.dim[c->shape.rank - 1] == channels ? add
                                                                                                  : NULL;
}

/* --- the operator's reference ------------------------------------------------------------------------ */

typedef struct reference_step {
    step base;
    const espl__node *node;
    int inputs, outputs;
    view *views; /* inputs, then outputs; buffer -1: absent */
    espl_tensor *io;
    int scratch; /* buffer, -1: none */
} reference_step;

static void run_reference(const step *st, espl_session *s) {
    const reference_step *r = (const reference_step *)st;
    for (int i = 0; i < r->inputs + r->outputs; i++)
        if (r->views[i].buffer >= 0) r->io[i].data = buffer_at(s, &r->views[i]);
    r->node->op->eval(r->node, r->io, r->io + r->inputs,
                      r->scratch >= 0 ? s->buffers[r->scratch].data : NULL);
}

/* Numbers that are stored as codes; integers of 8 bits are none. */
static bool is_coded(const espl__value *v) {
    return v->dtype == ESPL_F32 && espl__plan_store_type(v) == ESPL_U8;
}

/* Operators that only move elements work on codes as they are, if all sides share one grid. */
static bool on_codes(const espl__node *n) {
    if (n->op->quant != ESPL__QUANT_MOVE || espl__node_is(n, "Pad")) return false;
    if (!is_coded(n->inputs[0])) return false;
    for (int i = 0; i < n->output_count; i++)
        if (n->outputs[i] && (!is_coded(n->outputs[i]) || !same_quant(n->inputs[0], n->outputs[i]))) return false;
    return true;
}

espl_status espl__lower_reference(espl_session *s, espl__node *n, espl_diag *diag) {
    espl_status status = ESPL_OK;
    int total = n->input_count + n->output_count;
    bool codes = on_codes(n);
    view *views = espl__arena_alloc(&s->arena, sizeof *views * (uint64_t)(total + 1));
    espl_tensor *io = espl__arena_alloc(&s->arena, sizeof *io * (uint64_t)(total + 1));
    if (!views || !io) return espl__nomem(diag, sizeof *views);
    for (int i = 0; i < total; i++) views[i].buffer = -1;
    for (int i = 0; i < n->input_count; i++) {
        const espl__value *v = n->inputs[i];
        if (!v) continue;
        ESPL_TRY(
            espl__plan_require(s, n, v, codes && i == 0 ? ESPL_U8 : v->dtype, WANT_ROWS, 1, &views[i], diag));
        io[i] = (espl_tensor){views[i].type, v->shape, NULL};
    }
    for (int i = 0; i < n->output_count; i++) {
        const espl__value *v = n->outputs[i];
        view *o = &views[n->input_count + i];
        if (!v) continue;
        *o = espl__view_rows(&v->shape, codes ? ESPL_U8 : v->dtype, 0);
        bool direct = codes || espl__plan_store_type(v) == v->dtype;
        if (direct && !s->spatial[v->id])
            ESPL_TRY(espl__plan_output(s, v, o->type, o, diag));
        else if ((o->buffer = espl__plan_buffer(s, BUFFER_WORK, espl__view_bytes(o))) < 0)
            return espl__nomem(diag, espl__view_bytes(o));
        if (codes) espl__plan_grid(v, &o->scale, &o->zero);
        o->quantized = codes;
        io[n->input_count + i] = (espl_tensor){o->type, v->shape, NULL};
    }
    reference_step *st = espl__plan_step(s, sizeof *st, n, "reference", run_reference);
    if (!st) return espl__nomem(diag, sizeof *st);
    *st = (reference_step){st->base, n, n->input_count, n->output_count, views, io, -1};
    st->base.macs = n->op->macs ? n->op->macs(n) : 0;
    uint64_t scratch = espl__scratch_bytes(n);
    if (scratch && (st->scratch = espl__plan_buffer(s, BUFFER_WORK, scratch)) < 0)
        return espl__nomem(diag, scratch);
    for (int i = 0; i < total; i++)
        if (views[i].buffer >= 0) espl__plan_use(s, views[i].buffer);
    if (st->scratch >= 0) espl__plan_use(s, st->scratch);
    for (int i = 0; i < n->output_count; i++) {
        const espl__value *v = n->outputs[i];
        const view *o = &views[n->input_count + i];
        if (!v) continue;
        if (codes || espl__plan_store_type(v) == v->dtype) {
            ESPL_TRY(espl__plan_produce(s, v, o, diag));
            continue;
        }
        view q; /* a float island ends: round to the value's grid */
        ESPL_TRY(espl__plan_output(s, v, ESPL_U8, &q, diag));
        ESPL_TRY(espl__plan_convert(s, n, o, &q, diag));
        ESPL_TRY(espl__plan_produce(s, v, &q, diag));
    }
done:
    return status;
}

static espl_status lower_nothing(espl_session *s, const espl__node *n, espl_diag *diag) {
    espl_status status = ESPL_OK;
    for (int i = 0; i < n->output_count; i++) {
        const espl__value *v = n->outputs[i];
        view o;
        if (!v) continue;
        ESPL_TRY(espl__plan_output(s, v, espl__plan_store_type(v), &o, diag));
        ESPL_TRY(espl__plan_produce(s, v, &o, diag));
    }
done:
    return status;
}

/* --- the walk ------------------------------------------------------------------------------------------ */

static espl_status lower_inputs(espl_session *s, espl_diag *diag) {
    for (int i = 0; i < s->graph->input_count; i++) {
        const espl__value *v = s->graph->inputs[i];
        view in = espl__view_rows(&v->shape, v->dtype, 0), q;
        in.buffer = espl__plan_buffer(s, BUFFER_INPUT, espl__view_bytes(&in));
        if (in.buffer < 0) return espl__nomem(diag, sizeof in);
        s->buffers[in.buffer].index = i;
        espl_status status = ESPL_OK;
        if (espl__plan_store_type(v) == v->dtype) {
            status = espl__plan_produce(s, v, &in, diag);
        } else {
            status = espl__plan_output(s, v, ESPL_U8, &q, diag);
            if (status == ESPL_OK) status = espl__plan_convert(s, NULL, &in, &q, diag);
            if (status == ESPL_OK) status = espl__plan_produce(s, v, &q, diag);
        }
        if (status != ESPL_OK) return status;
    }
    return ESPL_OK;
}

static espl_status lower_outputs(espl_session *s, espl_diag *diag) {
    for (int i = 0; i < s->graph->output_count; i++) {
        const espl__value *v = s->graph->outputs[i];
        view from, to = espl__view_rows(&v->shape, v->dtype, 0);
        /* Codes leave their layout and become floats in one go. */
        espl_status status =
            espl__plan_require(s, v->producer, v, espl__plan_store_type(v), WANT_ANY, 1, &from, diag);
        if (status != ESPL_OK) return status;
        if (s->buffers[from.buffer].kind == BUFFER_OUTPUT && s->buffers[from.buffer].index == i) continue;
        to.buffer = espl__plan_buffer(s, BUFFER_OUTPUT, espl__view_bytes(&to));
        if (to.buffer < 0) return espl__nomem(diag, sizeof to);
        s->buffers[to.buffer].index = i;
        status = espl__plan_convert(s, v->producer, &from, &to, diag);
        if (status != ESPL_OK) return status;
    }
    return ESPL_OK;
}

typedef struct observe_step {
    step base;
    view v;
    const espl__value *value;
} observe_step;

static void run_observe(const step *st, espl_session *s) {
    const observe_step *o = (const observe_step *)st;
    s->observer(s->observer_user, o->value->origin, o->value->name, (const float *)buffer_at(s, &o->v),
                espl_shape_count(&o->value->shape));
}

/* A view of the value without gaps: in rows, or, if order is all one, in pixels that lie so but for their halo. */
static espl_status dense_view(espl_session *s, const espl__node *node, const espl__value *value, view *v,
                              espl_diag *diag) {
    static const int none[4] = {0};
    espl_status status;
    if (s->unordered) {
        status = espl__plan_require(s, node, value, ESPL_F32, WANT_ANY, 1, v, diag);
        if (status != ESPL_OK) return status;
    }
    if (!s->unordered || !v->nhwc)
        return espl__plan_require(s, node, value, ESPL_F32, WANT_ROWS, 1, v, diag);
    const view from = *v;
    *v = espl__view_nhwc(&value->shape, ESPL_F32, none);
    if (espl__view_same_layout(&from, v)) {
        *v = from;
        return ESPL_OK;
    }
    v->buffer = espl__plan_buffer(s, BUFFER_WORK, espl__view_bytes(v));
    if (v->buffer < 0) return espl__nomem(diag, espl__view_bytes(v));
    return espl__plan_convert(s, node, &from, v, diag);
}

/* Lets the observer see a value. */
static espl_status observe(espl_session *s, const espl__node *node, const espl__value *value,
                           espl_diag *diag) {
    view v;
    if (!value || !observed(s, value) || value->dtype != ESPL_F32 || value->constant) return ESPL_OK;
    espl_status status = dense_view(s, node, value, &v, diag);
    if (status != ESPL_OK) return status;
    observe_step *st = espl__plan_step(s, sizeof *st, node, "observe", run_observe);
    if (!st) return espl__nomem(diag, sizeof *st);
    st->v = v;
    st->value = value;
    espl__plan_use(s, v.buffer);
    return ESPL_OK;
}

static espl_status lower_node(espl_session *s, espl__node *n, espl_diag *diag) {
    bool taken = false;
    espl_status status = ESPL_OK;
    lower_fn lower = find_lowering(n);
    if ((taken = espl__makes_nothing(n))) status = lower_nothing(s, n, diag);
    if (status == ESPL_OK && !taken) status = espl__lower_rows(s, n, &taken, diag);
    if (lower && status == ESPL_OK && !taken) status = lower(s, n, &taken, diag);
    if (status == ESPL_OK && !taken) status = espl__lower_reference(s, n, diag);
    for (int i = 0; i < n->output_count && status == ESPL_OK; i++) {
        const espl__value *v = n->outputs[i];
        /* What was fused into the step is not observed, but its end may be. */
        for (const espl__node *r; v && !observed(s, v); v = r->outputs[0])
            if (!(r = espl__graph_only_reader(s->graph, v)) || !s->done[r->id] || r->output_count != 1) break;
        status = observe(s, n, v, diag);
    }
    if (status != ESPL_OK) {
        char label[160];
        espl__diag_prefix(diag, "%s: node %s", s->graph->file, espl__node_label(n, label, sizeof label));
    }
    return status;
}

espl_status espl__lower_graph(espl_session *s, espl_diag *diag) {
    choose_layouts(s);
    espl_status status = lower_inputs(s, diag);
    for (int i = 0; i < s->graph->input_count && status == ESPL_OK; i++)
        status = observe(s, NULL, s->graph->inputs[i], diag);
    for (int i = 0; i < s->graph->node_count && status == ESPL_OK; i++)
        if (!s->done[i]) status = lower_node(s, s->graph->nodes[i], diag);
    if (status == ESPL_OK) status = lower_outputs(s, diag);
    return status;
}
