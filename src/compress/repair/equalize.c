/* Cross-layer equalization and high-bias absorption (Nagel et al. 2019, arXiv 1906.04721, sections 4.1
 * and 4.2).
 *
 * Between two layers that only a positively homogeneous function f (Relu, pooling, none) joins, every channel
 * c may be scaled freely: W2 f(W1 x + b1) = (W2 S) f(S^-1 W1 x + S^-1 b1). With r1 and r2 the largest |w|
 * that make and that read channel c,
 *
 *   s_c = sqrt(r1_c / r2_c)
 *
 * gives both sides the range sqrt(r1_c r2_c). Pairs are done in turn until no factor moves any more.
 *
 * A Clip (Relu6) is homogeneous only for channels that it never clips, which calibration tells: a channel
 * that passes the bound keeps s = 1, another may be scaled as far as the bound lets it, s_c >= 1.25 *
 * largest value / bound (1.25: other data go further).
 *
 * With the word `absorb`: f(y) = f(y - a) + a where y >= a >= 0, so what a channel always exceeds goes into
 * the next layer's bias. a = max(0, mean - 3 deviations), as the paper has it for normal values, but never
 * more than the smallest value seen: the function stays what it was on the calibration data. */
#include <math.h>

#include "compress/repair/linear.h"
#include "ops/ops.h"

/* What other data may have beyond the largest value seen. */
static const float headroom = 1.25f;

typedef struct pair {
    espl__linear a, b;
    espl__value *before, *after; /* Y of a with its bias; what b reads */
    float bound;                 /* of a Clip between them; INFINITY: none */
    bool relu;                   /* nothing but one Relu is between them */
    int64_t spread;              /* inputs of b for each channel (> 1 behind a Flatten) */
    float *most;                 /* by channel; of pairs with a bound */
} pair;

static bool keeps_channels(const espl__node *n) {
    static const char *const ops[] = {
        "Relu",          "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool",
        "GlobalMaxPool", "Identity",  "Clip"};
    for (size_t i = 0; i < ESPL_COUNT(ops); i++)
        if (espl__node_is(n, ops[i])) return n->output_count == 1;
    return false;
}

static bool is_flatten(const espl__node *n) {
    return espl__node_is(n, "Flatten") && espl__attr_int(n, "axis", 1) == 1;
}

/* The layer behind `p->a`, if only what is homogeneous is between them. */
static bool follow(const espl_graph *g, pair *p) {
    espl__value *v = p->a.add ? p->a.add->outputs[0] : p->a.y;
    int steps = 0;
    bool flat = false;
    p->before = v;
    p->bound = INFINITY;
    for (espl__node *n; (n = espl__graph_only_reader(g, v)) != NULL; v = n->outputs[0], steps++) {
        float lo = 0, hi = INFINITY;
        if (espl__linear_of(g, n, &p->b)) {
            int64_t inputs = p->b.groups * p->b.inputs;
            if (p->b.x != v || n->inputs[1] == v || inputs % p->a.outputs || (p->b.conv && flat))
                return false;
            p->spread = inputs / p->a.outputs;
            p->relu &= steps == 1;
            p->after = v;
            return p->a.conv == p->b.conv ? p->spread == 1 : flat;
        }
        p->relu = espl__node_is(n, "Relu");
        if (is_flatten(n) && p->a.conv && !flat) {
            flat = true;
            continue;
        }
        if (!keeps_channels(n) || flat) return false;
        if (!espl__node_is(n, "Clip")) continue;
        if (steps || !espl__clip_range(n, &lo, &hi) || (lo != 0 && lo != -INFINITY) || !(hi > 0))
            return false;
        p->bound = hi;
    }
    return false;
}

/* --- ranges and scaling ------------------------------------------------------------------------------ */

/* Where input channel c of the second layer is among its weights: outputs [first, first + outputs) of its
 * group. */
static int64_t reader_outputs(const espl__linear *b) {
    return b->outputs / b->groups;
}

static float made_by(const espl__linear *a, int64_t c) {
    const float *w = a->w->constant->data;
    float r = 0;
    for (int64_t k = 0; k < espl__linear_k(a); k++) r = fmaxf(r, fabsf(w[espl__linear_at(a, c, k)]));
    return r;
}

/* Calls for every weight of b that reads channel c: scales it, and gives the largest |w| before. */
static float read_by(const pair *p, int64_t c, float scale) {
    const espl__linear *b = &p->b;
    float *w = b->w->constant->data, r = 0;
    for (int64_t i = c * p->spread; i < (c + 1) * p->spread; i++) {
        int64_t group = i / b->inputs, input = i % b->inputs, outputs = reader_outputs(b);
        for (int64_t o = group * outputs; o < (group + 1) * outputs; o++)
            for (int64_t t = 0; t < b->taps; t++) {
                float *x = &w[espl__linear_at(b, o, input * b->taps + t)];
                r = fmaxf(r, fabsf(*x));
                if (scale != 1) *x *= scale;
            }
    }
    return r;
}

static float factor_of(const pair *p, int64_t c) {
    float r1 = made_by(&p->a, c), r2 = read_by(p, c, 1), s = sqrtf(r1 / r2);
    if (!(r1 > 0) || !(r2 > 0) || !(s > 1e-6f && s < 1e6f)) return 1;
    if (p->most) {
        if (!(p->most[c] < p->bound)) return 1;
        s = fmaxf(s, headroom * p->most[c] / p->bound);
    }
    return s;
}

/* One pair once; the largest factor, or 1 over the smallest. */
static bool scale_pair(espl_graph *g, pair *p, float *bias, float *change) {
    float *w = p->a.w->constant->data;
    if (!espl__linear_bias(g, &p->a, bias)) return true;
    for (int64_t c = 0; c < p->a.outputs; c++) {
        float s = factor_of(p, c);
        if (s == 1) continue;
        *change = fmaxf(*change, fmaxf(s, 1 / s));
        for (int64_t k = 0; k < espl__linear_k(&p->a); k++) w[espl__linear_at(&p->a, c, k)] /= s;
        bias[c] /= s;
        if (p->most) p->most[c] /= s;
        (void)read_by(p, c, s);
    }
    return espl__linear_set_bias(g, &p->a, bias);
}

/* --- absorption -------------------------------------------------------------------------------------- */

static bool padded(const espl__linear *l) {
    int64_t pads[2 * ESPL_MAX_RANK];
    int count = espl__attr_ints(l->node, "pads", pads, 2 * ESPL_MAX_RANK);
    for (int i = 0; i < count && i < 2 * ESPL_MAX_RANK; i++)
        if (pads[i]) return true;
    const char *aut = espl__attr_string(l->node, "auto_pad", "NOTSET");
    return strcmp(aut, "NOTSET") != 0 && strcmp(aut, "VALID") != 0;
}

static bool absorb(const espl__repair_task *t, pair *p, espl_diag *diag, espl_status *status) {
    espl__tap tap = {p->before->id, false};
    int axis = p->a.conv ? 1 : -1;
    espl__channels seen = {0};
    float *own = espl__calloc(t->ctx, (uint64_t)p->a.outputs, sizeof *own);
    float *next = espl__calloc(t->ctx, (uint64_t)p->b.outputs, sizeof *next);
    bool good = own && next;
    if (good) *status = espl__flow_channels(t, t->graph, &tap, &axis, 1, t->count, &seen, diag);
    if (good && *status == ESPL_OK && seen.channels == p->a.outputs &&
        espl__linear_bias(t->graph, &p->a, own) && espl__linear_bias(t->graph, &p->b, next)) {
        const float *w = p->b.w->constant->data;
        int64_t outputs = reader_outputs(&p->b);
        for (int64_t c = 0; c < p->a.outputs; c++) {
            double a = fmin(espl__channel_mean(&seen, c) - 3 * sqrt(espl__channel_variance(&seen, c)),
                            seen.least[c]);
            if (!(a > 0)) continue;
            own[c] -= (float)a;
            int64_t first = c / p->b.inputs * outputs, input = c % p->b.inputs;
            for (int64_t o = first; o < first + outputs; o++)
                for (int64_t k = input * p->b.taps; k < (input + 1) * p->b.taps; k++)
                    next[o] += (float)(a * w[espl__linear_at(&p->b, o, k)]);
        }
        good = espl__linear_set_bias(t->graph, &p->a, own) && espl__linear_set_bias(t->graph, &p->b, next);
    }
    espl__channels_free(t->ctx, &seen, 1);
    espl__free(t->ctx, own);
    espl__free(t->ctx, next);
    return good;
}

/* A bias of b that cannot be set would swallow what goes into it. */
static bool can_absorb(const pair *p) {
    return p->relu && p->bound == INFINITY && p->spread == 1 && !padded(&p->b) &&
           (!espl__node_is(p->b.node, "MatMul") || p->b.add);
}

/* --- the whole --------------------------------------------------------------------------------------- */

static espl_status find_pairs(const espl__repair_task *t, pair *pairs, int *count, espl_diag *diag) {
    espl_graph *g = t->graph;
    for (int i = 0; i < g->node_count; i++) {
        pair *p = &pairs[*count];
        *p = (pair){.bound = INFINITY};
        if (!espl__linear_of(g, g->nodes[i], &p->a) || !follow(g, p)) continue;
        if (p->bound < INFINITY && !t->data) continue; /* nothing tells what is clipped */
        (*count)++;
    }
    /* Weights become their own before anybody keeps a pointer to them. */
    for (int i = 0; i < *count; i++)
        if (!espl__linear_own_weights(g, &pairs[i].a) || !espl__linear_own_weights(g, &pairs[i].b))
            return espl__nomem(diag, 0);
    for (int i = 0; i < *count; i++) {
        pairs[i].a.w = pairs[i].a.node->inputs[1];
        pairs[i].b.w = pairs[i].b.node->inputs[1];
    }
    return ESPL_OK;
}

/* The largest value of each channel before its Clip. */
static espl_status find_most(const espl__repair_task *t, pair *pairs, int count, espl_diag *diag) {
    espl_status status = ESPL_OK;
    espl__tap *taps = espl__calloc(t->ctx, (uint64_t)count + 1, sizeof *taps);
    int *axes = espl__calloc(t->ctx, (uint64_t)count + 1, sizeof *axes), n = 0;
    espl__channels *seen = espl__calloc(t->ctx, (uint64_t)count + 1, sizeof *seen);
    if (!taps || !axes || !seen) {
        status = espl__nomem(diag, sizeof *seen);
        goto done;
    }
    for (int i = 0; i < count; i++)
        if (pairs[i].bound < INFINITY) {
            taps[n] = (espl__tap){pairs[i].before->id, false};
            axes[n++] = pairs[i].a.conv ? 1 : -1;
        }
    if (n) ESPL_TRY(espl__flow_channels(t, t->graph, taps, axes, n, t->count, seen, diag));
    for (int i = 0, k = 0; i < count; i++)
        if (pairs[i].bound < INFINITY) {
            pairs[i].most = seen[k].most; /* handed over */
            if (seen[k].channels != pairs[i].a.outputs) pairs[i].bound = 0;
            seen[k++].most = NULL;
        }
done:
    espl__channels_free(t->ctx, seen, n);
    espl__free(t->ctx, taps);
    espl__free(t->ctx, axes);
    espl__free(t->ctx, seen);
    return status;
}

espl_status espl__repair_EQUALIZE(const espl__repair_task *t, const espl__repair *r, espl_diag *diag) {
    enum { ROUNDS = 30 };
    espl_status status = ESPL_OK;
    espl_graph *g = t->graph;
    pair *pairs = espl__calloc(t->ctx, (uint64_t)g->node_count + 1, sizeof *pairs);
    float *bias = NULL, change = 2;
    int64_t widest = 1;
    int count = 0;
    if (!pairs) return espl__nomem(diag, sizeof *pairs);
    ESPL_TRY(find_pairs(t, pairs, &count, diag));
    ESPL_TRY(find_most(t, pairs, count, diag));
    for (int i = 0; i < count; i++) widest = ESPL_MAX(widest, pairs[i].a.outputs);
    bias = espl__calloc(t->ctx, (uint64_t)widest, sizeof *bias);
    bool good = bias != NULL;
    for (int round = 0; good && round < ROUNDS && change > 1.001f; round++) {
        change = 1;
        for (int i = 0; good && i < count; i++)
            if (pairs[i].bound > 0) good = scale_pair(g, &pairs[i], bias, &change);
    }
    for (int i = 0; good && r->word && i < count && status == ESPL_OK; i++)
        if (can_absorb(&pairs[i])) good = absorb(t, &pairs[i], diag, &status);
    if (!good && status == ESPL_OK) status = espl__nomem(diag, (uint64_t)widest * sizeof *bias);
done:
    for (int i = 0; i < count; i++) espl__free(t->ctx, pairs[i].most);
    espl__free(t->ctx, bias);
    espl__free(t->ctx, pairs);
    return status;
}
