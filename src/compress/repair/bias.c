/* Bias correction and batch-norm re-estimation: first and second moments of each layer's channels are made
 * those of the f32 network again.
 *
 * bias, empirical (Nagel et al. 2019, arXiv 1906.04721, section 4.3): with y a channel of the f32 layer
 * before its activation and y^ the same of the quantized one,
 *
 *   b <- b - (E[y^] - E[y])
 *
 * batchnorm: statistics are taken again after compression (Sun et al. 2019; Hubara et al. 2021, arXiv
 * 2006.10518, section 3.3). Batch norms are folded into layers by then, so the normalisation is that of the
 * layer's output: with means m, m^ and deviations d, d^ of y and y^,
 *
 *   y^ <- (y^ - m^) d / d^ + m     that is     W <- W d / d^,   b <- (b - m^) d / d^ + m
 *
 * Codes of weights stay what they are: their scales take the factor. Where that is not possible (one scale
 * for all channels, scales that must be powers of two) the means alone are put right.
 *
 * Layers are done in topological order, each on what the corrected ones before it give. */
#include <math.h>

#include "compress/quant/weights.h"
#include "compress/repair/linear.h"

typedef struct correction {
    const espl__repair_task *t;
    int64_t samples;
    bool variance;
    espl__channels *reference; /* by layer */
} correction;

static int list_layers(const espl_graph *g, espl__linear *list) {
    int count = 0;
    for (int i = 0; i < g->node_count; i++) count += espl__linear_of(g, g->nodes[i], &list[count]);
    return count;
}

static espl_status reference_channels(const espl__repair_task *t, const espl__linear *layers, int count,
                                      int64_t samples, espl__channels *out, espl_diag *diag) {
    espl__tap *taps = espl__calloc(t->ctx, (uint64_t)count + 1, sizeof *taps);
    int *axes = espl__calloc(t->ctx, (uint64_t)count + 1, sizeof *axes);
    espl_status status = ESPL_OK;
    for (int i = 0; taps && axes && i < count; i++) {
        taps[i].value = t->reference->nodes[layers[i].node->id]->outputs[0]->id;
        axes[i] = layers[i].conv ? 1 : -1;
    }
    status = taps && axes ? espl__flow_channels(t, t->reference, taps, axes, count, samples, out, diag)
                          : espl__nomem(diag, sizeof *taps);
    espl__free(t->ctx, taps);
    espl__free(t->ctx, axes);
    return status;
}

/* The factor that weights of output c take for this one: their scale must be one that can be stored. */
static float storable(const espl__linear *l, int64_t c, float factor) {
    const espl__quant *q = &l->w->quant;
    return espl__is_quantized(l->w) ? espl__weight_scale(q, q->scale[c] * factor) / q->scale[c] : factor;
}

/* Whether the weights of each output can take a factor of their own. */
static bool scales_apart(const espl__linear *l) {
    const espl__quant *q = &l->w->quant;
    if (!espl__is_quantized(l->w)) return l->w->constant->dtype == ESPL_F32;
    return !espl__format_is_float(q->format) && q->count == l->outputs && q->group == 0;
}

static bool multiply_weights(espl_graph *g, espl__linear *l, const float *factor) {
    if (espl__is_quantized(l->w)) {
        espl__quant *q = &l->w->quant;
        for (int64_t c = 0; c < l->outputs; c++) {
            q->scale[c] = espl__weight_scale(q, q->scale[c] * factor[c]);
            if (q->offset) q->offset[c] *= factor[c];
        }
        return true;
    }
    float *w = espl__linear_own_weights(g, l);
    for (int64_t c = 0; w && c < l->outputs; c++)
        for (int64_t k = 0; k < espl__linear_k(l); k++) w[espl__linear_at(l, c, k)] *= factor[c];
    return w != NULL;
}

/* A deviation that is a small part of the other's is no measure of it: such channels keep their factor of 1.
 */
static float deviation_ratio(const espl__channels *want, const espl__channels *have, int64_t c) {
    double a = sqrt(espl__channel_variance(want, c)), b = sqrt(espl__channel_variance(have, c));
    return a > 0.25 * b && a < 4 * b ? (float)(a / b) : 1;
}

static bool correct(const correction *k, espl__linear *l, const espl__channels *want,
                    const espl__channels *have, float *bias, float *factor) {
    espl_graph *g = k->t->graph;
    bool scale = k->variance && scales_apart(l) && !(k->t->decisions && k->t->decisions[l->node->id].pow2);
    if (!espl__linear_bias(g, l, bias)) return true;
    double moved = 0;
    for (int64_t c = 0; c < l->outputs; c++) {
        double wanted = espl__channel_mean(want, c), mean = espl__channel_mean(have, c);
        factor[c] = scale ? storable(l, c, deviation_ratio(want, have, c)) : 1;
        double b = (bias[c] - mean) * factor[c] + wanted;
        if (!isfinite((float)b)) {
            factor[c] = 1;
            continue;
        }
        moved = fmax(moved, fmax(fabs(b - bias[c]), fabs(factor[c] - 1.0)));
        bias[c] = (float)b;
    }
    if (moved == 0) return true;
    return (!scale || multiply_weights(g, l, factor)) && espl__linear_set_bias(g, l, bias);
}

static espl_status correct_layer(const correction *k, espl__linear *l, const espl__channels *want,
                                 float *room, espl_diag *diag) {
    const espl__repair_task *t = k->t;
    espl__tap tap = {l->y->id, true};
    int axis = l->conv ? 1 : -1;
    espl__channels have = {0};
    espl_status status = espl__flow_channels(t, t->graph, &tap, &axis, 1, k->samples, &have, diag);
    if (status == ESPL_OK && have.channels == l->outputs && want->channels == l->outputs &&
        !correct(k, l, want, &have, room, room + l->outputs))
        status = espl__nomem(diag, (uint64_t)l->outputs * 4);
    espl__channels_free(t->ctx, &have, 1);
    return status;
}

static espl_status correct_all(const espl__repair_task *t, int64_t samples, bool variance, espl_diag *diag) {
    espl_status status = ESPL_OK;
    uint64_t n = (uint64_t)t->graph->node_count + 1;
    espl__linear *layers = espl__calloc(t->ctx, n, sizeof *layers);
    espl__channels *want = espl__calloc(t->ctx, n, sizeof *want);
    float *room = NULL;
    int count = 0;
    int64_t widest = 1;
    correction k = {t, samples, variance, want};
    if (!layers || !want) {
        status = espl__nomem(diag, n * sizeof *layers);
        goto done;
    }
    count = list_layers(t->graph, layers);
    for (int i = 0; i < count; i++) widest = ESPL_MAX(widest, layers[i].outputs);
    room = espl__calloc(t->ctx, 2 * (uint64_t)widest, sizeof *room);
    if (!room) {
        status = espl__nomem(diag, 2 * (uint64_t)widest * sizeof *room);
        goto done;
    }
    if (count) ESPL_TRY(reference_channels(t, layers, count, samples, want, diag));
    for (int i = 0; i < count; i++)
        if (!espl__node_is(layers[i].node, "MatMul") || layers[i].add) /* else it has no bias */
            ESPL_TRY(correct_layer(&k, &layers[i], &want[i], room, diag));
done:
    espl__channels_free(t->ctx, want, count);
    espl__free(t->ctx, want);
    espl__free(t->ctx, layers);
    espl__free(t->ctx, room);
    return status;
}

espl_status espl__repair_BIAS(const espl__repair_task *t, const espl__repair *r, espl_diag *diag) {
    return correct_all(t, (int64_t)r->number, false, diag);
}

espl_status espl__repair_BATCHNORM(const espl__repair_task *t, const espl__repair *r, espl_diag *diag) {
    return correct_all(t, (int64_t)r->number, true, diag);
}
