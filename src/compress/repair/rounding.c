/* From layer to layer: what it gets and should give on some positions of the samples, and its weights as a
 * matrix. */
#include "compress/repair/rounding.h"

#include <math.h>

#include "ops/ops.h"
#include "passes/passes.h"

/* Samples of a layer's rows: at most so many, and so many floats of inputs. */
enum { MOST_ROWS = 4096, MOST_FLOATS = 8 << 20 };

typedef struct rows {
    const espl__linear *l;
    uint64_t seed;
    int64_t most, each, count; /* rows in all, of each sample, so far */
    int64_t width;             /* floats of a row */
    bool outputs;              /* y, not x */
    float *out;
    espl__window window;
} rows;

/* Positions of one sample: those of all images of a batch, or rows of a matrix. */
static int64_t positions_of(const rows *r, const espl_tensor *y) {
    int axis = espl__linear_axis(r->l, y->shape.rank);
    return espl_shape_count(&y->shape) / y->shape.dim[axis];
}

static void take_outputs(const rows *r, const espl_tensor *t, int64_t position, float *out) {
    const float *y = t->data;
    int64_t n = r->width;
    if (!r->l->conv) {
        memcpy(out, y + position * n, (size_t)n * sizeof *y);
        return;
    }
    int64_t area = espl_shape_count(&t->shape) / (t->shape.dim[0] * n);
    y += position / area * n * area + position % area;
    for (int64_t c = 0; c < n; c++) out[c] = y[c * area];
}

/* Channels at one place, tap after tap for each: 0 beyond the edges. */
static void take_window(const rows *r, const espl_tensor *t, int64_t position, float *out) {
    const espl__window *w = &r->window;
    const float *x = t->data;
    int64_t at[ESPL__MAX_SPATIAL], area = 1, in_area = 1, channels = t->shape.dim[1];
    for (int d = w->rank - 1; d >= 0; d--) {
        area *= w->out[d];
        in_area *= w->in[d];
    }
    int64_t image = position / area, rest = position % area;
    for (int d = w->rank - 1; d >= 0; d--) {
        at[d] = rest % w->out[d] * w->stride[d] - w->begin[d];
        rest /= w->out[d];
    }
    x += image * channels * in_area;
    for (int64_t tap = 0; tap < r->l->taps; tap++) {
        int64_t offset = 0, left = tap, by = 1;
        bool inside = true;
        for (int d = w->rank - 1; d >= 0; d--) {
            int64_t i = at[d] + left % w->kernel[d] * w->dilation[d];
            left /= w->kernel[d];
            inside &= i >= 0 && i < w->in[d];
            offset += i * by;
            by *= w->in[d];
        }
        for (int64_t c = 0; c < channels; c++)
            out[c * r->l->taps + tap] = inside ? x[c * in_area + offset] : 0;
    }
}

static int64_t window_positions(const rows *r, const espl_tensor *x) {
    int64_t n = x->shape.dim[0];
    for (int d = 0; d < r->window.rank; d++) n *= r->window.out[d];
    return n;
}

static espl_status take(void *user, int64_t sample, const espl_tensor *values, espl_diag *diag) {
    rows *r = user;
    const espl_tensor *t = values;
    espl_status status = ESPL_OK;
    int64_t positions;
    if (r->outputs || !r->l->conv) {
        positions = positions_of(r, t);
    } else {
        status = espl__window_resolve(r->l->node, &t->shape, &r->l->w->shape, &r->window, diag);
        if (status != ESPL_OK) return status;
        positions = window_positions(r, t);
    }
    espl__rng rng = espl__rng_seed(r->seed, (uint64_t)sample);
    int64_t each = ESPL_MIN(r->each, positions);
    for (int64_t i = 0; i < each && r->count < r->most; i++, r->count++) {
        int64_t at = each == positions ? i : (int64_t)espl__rng_below(&rng, (uint32_t)positions);
        float *out = r->out + r->count * r->width;
        if (r->outputs)
            take_outputs(r, t, at, out);
        else if (r->l->conv)
            take_window(r, t, at, out);
        else
            memcpy(out, (const float *)t->data + at * r->width, (size_t)r->width * sizeof *out);
    }
    return status;
}

/* Inputs from the quantized graph, outputs from the reference, of the same samples and positions. */
static espl_status collect(const espl__repair_task *t, const espl__linear *l, const espl__linear *ref,
                           float **x, float **y, int64_t *count, espl_diag *diag) {
    espl_status status = ESPL_OK;
    rows r = {.l = l, .seed = (uint64_t)l->node->id, .width = l->groups * espl__linear_k(l)};
    r.most = ESPL_MAX(ESPL_MIN(MOST_ROWS, MOST_FLOATS / r.width), 64);
    r.each = (r.most + t->count - 1) / t->count;
    int64_t samples = (r.most + r.each - 1) / r.each;
    r.out = *x = espl__alloc(t->ctx, (uint64_t)(r.most * r.width) * sizeof(float));
    *y = espl__alloc(t->ctx, (uint64_t)(r.most * l->outputs) * sizeof(float));
    if (!*x || !*y) return espl__nomem(diag, (uint64_t)(r.most * r.width) * sizeof(float));
    espl__tap tap = {l->x->id, false};
    ESPL_TRY(espl__flow(t, t->graph, &tap, 1, samples, take, &r, diag));
    *count = r.count;
    r = (rows){.l = ref,
               .seed = r.seed,
               .width = ref->outputs,
               .most = r.most,
               .each = r.each,
               .outputs = true,
               .out = *y};
    tap = (espl__tap){ref->y->id, true};
    ESPL_TRY(espl__flow(t, t->reference, &tap, 1, samples, take, &r, diag));
    *count = ESPL_MIN(*count, r.count);
done:
    return status;
}

/* --- one layer --------------------------------------------------------------------------------------- */

typedef struct layer_room {
    float *x, *y, *w, *step, *bias;
    int8_t *codes;
    uint8_t *pruned;
} layer_room;

static void free_room(espl_context *ctx, layer_room *m) {
    espl__free(ctx, m->x);
    espl__free(ctx, m->y);
    espl__free(ctx, m->w);
    espl__free(ctx, m->step);
    espl__free(ctx, m->bias);
    espl__free(ctx, m->codes);
    espl__free(ctx, m->pruned);
}

static espl_status make_room(espl_context *ctx, const espl__linear *l, layer_room *m, espl_diag *diag) {
    uint64_t count = (uint64_t)(l->outputs * espl__linear_k(l));
    m->w = espl__alloc(ctx, 2 * count * sizeof *m->w); /* behind the matrix the tensor as it is stored */
    m->step = espl__alloc(ctx, count * sizeof *m->step);
    m->bias = espl__calloc(ctx, (uint64_t)l->outputs, sizeof *m->bias);
    m->codes = espl__alloc(ctx, count);
    m->pruned = espl__alloc(ctx, count);
    return m->w && m->step && m->bias && m->codes && m->pruned ? ESPL_OK : espl__nomem(diag, count * 8);
}

/* What the nearest Relu or Clip lets pass, if it alone reads y. */
static void activation_of(const espl_graph *g, const espl__linear *l, float *least, float *most) {
    const espl__node *n = espl__graph_only_reader(g, l->y);
    if (!n || !(espl__node_is(n, "Relu") || espl__node_is(n, "Clip")) || !espl__clip_range(n, least, most)) {
        *least = -INFINITY;
        *most = INFINITY;
    }
}

static espl_status round_layer(const espl__repair_task *t, espl__linear *l, const espl__linear *ref,
                               espl__rounding_fn solve, const void *user, espl_diag *diag) {
    espl_status status = ESPL_OK;
    layer_room m = {0};
    int64_t k = espl__linear_k(l);
    espl__rounding r = {.outputs = l->outputs, .k = k, .groups = l->groups};
    ESPL_TRY(make_room(t->ctx, l, &m, diag));
    float *stored = m.w + l->outputs * k;
    if (!espl__constant_read(ref->w, stored) || !espl__linear_bias(t->reference, ref, m.bias)) goto done;
    for (int64_t o = 0; o < l->outputs; o++)
        for (int64_t i = 0; i < k; i++) m.w[o * k + i] = stored[espl__linear_at(ref, o, i)];
    r.format = l->w->quant.format;
    espl__format_range(r.format, &r.lo, &r.hi);
    const float far = 2 * (espl__format_largest(r.format) + 1);
    espl__scale_walk walk = espl__scale_walk_of(&l->w->quant, &l->w->shape);
    for (int64_t i = 0; i < l->outputs * k; i++) {
        m.step[i] = l->w->quant.scale[espl__scale_at(&walk, espl__linear_at(l, i / k, i % k))];
        m.pruned[i] = m.w[i] == 0;
        m.w[i] = isnan(m.w[i]) ? 0 : fmaxf(fminf(m.w[i], far * m.step[i]), -far * m.step[i]);
    }
    ESPL_TRY(collect(t, l, ref, &m.x, &m.y, &r.samples, diag));
    r.w = m.w;
    r.step = m.step;
    r.pruned = l->w->zeros.pattern.pattern == ESPL_PATTERN_DENSE ? NULL : m.pruned;
    r.x = m.x;
    r.y = m.y;
    r.bias = m.bias;
    r.codes = m.codes;
    activation_of(t->reference, ref, &r.least, &r.most);
    if (ref->add) memset(m.bias, 0, (size_t)l->outputs * sizeof *m.bias); /* y is what comes before it */
    ESPL_TRY(solve(t->ctx, &r, user, diag));
    for (int64_t o = 0; o < l->outputs; o++)
        for (int64_t i = 0; i < k; i++)
            ((int8_t *)l->w->constant->data)[espl__linear_at(l, o, i)] = m.codes[o * k + i];
done:
    free_room(t->ctx, &m);
    return status;
}

static bool can_round(const espl__linear *l, bool integers) {
    const espl__quant *q = &l->w->quant;
    if (!espl__is_quantized(l->w) || q->zero || q->offset || espl_dtype_bytes(l->w->constant->dtype) != 1) return false;
    return !integers || (espl_format_kind_of(q->format) == ESPL_FORMAT_KIND_INTEGER && l->w->constant->dtype == ESPL_S8);
}

espl_status espl__round_layers(const espl__repair_task *t, bool integers, espl__rounding_fn solve,
                               const void *user, espl_diag *diag) {
    espl_status status = ESPL_OK;
    for (int i = 0; i < t->graph->node_count && status == ESPL_OK; i++) {
        espl__linear l, ref;
        if (!espl__linear_of(t->graph, t->graph->nodes[i], &l) || !can_round(&l, integers)) continue;
        if (!espl__linear_of(t->reference, t->reference->nodes[i], &ref) || ref.outputs != l.outputs)
            continue;
        status = round_layer(t, &l, &ref, solve, user, diag);
    }
    return status;
}
