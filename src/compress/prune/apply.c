/* Pruning a graph: which weights a layer's pattern is for, and zeros in their places. */
#include <inttypes.h>
#include <stdio.h>

#include "compress/compress.h"

/* A convolution whose filters see one channel each: there is nothing to choose from. */
static bool is_depthwise(const espl__node *n) {
    const espl_shape *w = &n->inputs[1]->shape;
    int64_t groups = espl__attr_int(n, "group", 1);
    return groups > 1 && ((espl__node_is(n, "Conv") && w->dim[1] == 1) ||
                          (espl__node_is(n, "ConvTranspose") && w->dim[0] == groups));
}

/* Inputs of a transposed convolution's groups lie one after another along the axis that banks are cut from.
 */
static bool mixes_groups(const espl__node *n) {
    return espl__node_is(n, "ConvTranspose") && espl__attr_int(n, "group", 1) > 1;
}

espl_sparsity espl__prune_effective(const espl_graph *g, const espl__node *n, int input,
                                    const espl_sparsity *pattern, espl__matrix *m, char *why) {
    const espl_sparsity dense = {.pattern = ESPL_PATTERN_DENSE};
    const espl__value *v = n->inputs[input];
    espl__zeros axes;
    *why = 0;
    if (pattern->pattern == ESPL_PATTERN_DENSE || !v || !v->constant) return dense;
    if (v->dtype != ESPL_F32 || v->constant->dtype != ESPL_F32 || espl__is_quantized(v))
        snprintf(why, ESPL__PRUNE_WHY, "dense: its weights are not f32");
    else if (!espl__weight_matrix(n, input, &axes, m))
        snprintf(why, ESPL__PRUNE_WHY, "dense: its weights are no matrix");
    else if (is_depthwise(n))
        snprintf(why, ESPL__PRUNE_WHY, "dense: depthwise");
    else if (pattern->m && mixes_groups(n))
        snprintf(why, ESPL__PRUNE_WHY, "dense: banks would mix its groups");
    else if (pattern->m > m->inputs)
        snprintf(why, ESPL__PRUNE_WHY, "dense: fewer than %d inputs (%" PRId64 ")", pattern->m, m->inputs);
    else if (pattern->pattern == ESPL_PATTERN_KERNEL && m->taps == 1)
        snprintf(why, ESPL__PRUNE_WHY, "dense: its kernels are single weights");
    else if (espl__graph_only_reader(g, v) != n)
        snprintf(why, ESPL__PRUNE_WHY, "dense: others use its weights too");
    return *why ? dense : *pattern;
}

/* The weights that one call of espl__prune_masks takes. */
typedef struct batch {
    espl_context *ctx;
    espl__prune_part *parts;
    espl__value **values;
    int count;
} batch;

static void clear(batch *b) {
    for (int i = 0; i < b->count; i++) {
        espl__free(b->ctx, (void *)b->parts[i].saliency);
        espl__free(b->ctx, b->parts[i].keep);
    }
    b->count = 0;
}

static espl_status add(batch *b, espl__value *v, const espl__matrix *m, espl__saliency kind,
                       espl_diag *diag) {
    int64_t count = espl__matrix_count(m);
    float *saliency = espl__alloc(b->ctx, (uint64_t)count * sizeof *saliency);
    uint8_t *keep = espl__alloc(b->ctx, (uint64_t)count);
    b->values[b->count] = v;
    b->parts[b->count++] = (espl__prune_part){*m, saliency, keep};
    if (!saliency || !keep) return espl__nomem(diag, (uint64_t)count * sizeof *saliency);
    espl__saliency_of(kind, &(espl__salient){v->constant->data, count}, saliency);
    return ESPL_OK;
}

/* What a global pattern left of one tensor is unstructured, with a share of its own. */
static void note_share(espl__value *v, int64_t gone, int64_t count) {
    v->zeros.pattern.global = false;
    v->zeros.pattern.share = (float)((double)gone / (double)count);
}

static espl_status prune(batch *b, const espl_sparsity *pattern, espl_diag *diag) {
    espl_status status = espl__prune_masks(b->ctx, pattern, b->parts, b->count, diag);
    for (int p = 0; p < b->count && status == ESPL_OK; p++) {
        float *w = b->values[p]->constant->data;
        int64_t gone = 0, n = espl__matrix_count(&b->parts[p].matrix);
        for (int64_t i = 0; i < n; i++) {
            if (b->parts[p].keep[i]) continue;
            w[i] = 0;
            gone++;
        }
        if (pattern->global) note_share(b->values[p], gone, n);
    }
    clear(b);
    return status;
}

static bool same(const decision *a, const decision *b) {
    return espl_sparsity_equal(&a->pattern, &b->pattern) && a->saliency == b->saliency;
}

/* Whether the node has nothing to prune, or a node before it took its weights along. */
static bool is_done(const decision *decisions, int node) {
    const espl_sparsity *s = &decisions[node].pattern;
    bool done = s->pattern == ESPL_PATTERN_DENSE;
    for (int i = 0; s->global && i < node; i++) done |= same(&decisions[i], &decisions[node]);
    return done;
}

/* Takes the weights of a node, and with a global pattern those of all later nodes that are to have the same.
 */
static espl_status collect(espl_graph *g, const decision *decisions, int first, batch *b, espl_diag *diag) {
    const decision *wanted = &decisions[first];
    int last = wanted->pattern.global ? g->node_count - 1 : first;
    for (int i = first; i <= last; i++) {
        const espl__node *n = g->nodes[i];
        const decision *d = &decisions[i];
        if (!same(d, wanted)) continue;
        for (int k = 0; k < n->input_count && k < 32; k++) {
            char why[ESPL__PRUNE_WHY];
            espl__matrix m;
            espl__zeros zeros;
            espl_sparsity s = espl__prune_effective(g, n, k, &d->pattern, &m, why);
            if (s.pattern == ESPL_PATTERN_DENSE || !espl__weight_matrix(n, k, &zeros, &m)) continue;
            espl_status status = add(b, n->inputs[k], &m, d->saliency, diag);
            if (status != ESPL_OK) return status;
            zeros.pattern = s;
            n->inputs[k]->zeros = zeros;
        }
    }
    return ESPL_OK;
}

espl_status espl__prune_apply(espl_graph *g, const decision *decisions, espl_diag *diag) {
    espl_status status = ESPL_OK;
    espl_context *ctx = g->arena.ctx;
    batch b = {.ctx = ctx,
               .parts = espl__calloc(ctx, (uint64_t)g->value_count + 1, sizeof *b.parts),
               .values = espl__calloc(ctx, (uint64_t)g->value_count + 1, sizeof *b.values)};
    if (!b.parts || !b.values) status = espl__nomem(diag, (uint64_t)g->value_count * sizeof *b.parts);
    for (int i = 0; i < g->node_count && status == ESPL_OK; i++) {
        if (is_done(decisions, i)) continue;
        status = collect(g, decisions, i, &b, diag);
        if (status == ESPL_OK)
            status = prune(&b, &decisions[i].pattern, diag);
        else
            clear(&b);
    }
    espl__free(ctx, b.parts);
    espl__free(ctx, b.values);
    return status;
}
