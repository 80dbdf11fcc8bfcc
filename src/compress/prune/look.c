/* Weights for people to look at. */
#include <math.h>

#include "compress/compress.h"
#include "passes/passes.h"

static bool is_weights(const espl__node *n, int input, espl__zeros *axes, espl__matrix *m) {
    const espl__value *v = n->inputs[input];
    return v && v->constant && v->dtype == ESPL_F32 && espl__weight_matrix(n, input, axes, m);
}

/* The index-th weight tensor; returns how many there are up to it. */
static int find(const espl_graph *g, int index, const espl__node **node, int *input) {
    espl__zeros axes;
    espl__matrix m;
    int count = 0;
    for (int i = 0; i < g->node_count; i++)
        for (int k = 0; k < g->nodes[i]->input_count && k < 32; k++) {
            if (!is_weights(g->nodes[i], k, &axes, &m)) continue;
            *node = g->nodes[i];
            *input = k;
            if (count++ == index) return count;
        }
    return count;
}

int espl_weights_count(const espl_graph *g) {
    const espl__node *node;
    int input;
    return find(g, -1, &node, &input);
}

static double sum_of(const float *w, int64_t count) {
    double sum = 0;
    for (int64_t i = 0; i < count; i++) sum += fabs((double)w[i]);
    return sum;
}

/* Zeros into `w`, which is in the order rows, taps, inputs; `m` too. */
static espl_status prune(espl_context *ctx, const espl_sparsity *pattern, const espl__matrix *m, float *w,
                         espl_diag *diag) {
    int64_t count = espl__matrix_count(m);
    float *saliency = espl__alloc(ctx, (uint64_t)count * sizeof *saliency);
    uint8_t *keep = espl__alloc(ctx, (uint64_t)count);
    espl_status status = ESPL_OK;
    if (!saliency || !keep) {
        status = espl__nomem(diag, (uint64_t)count * sizeof *saliency);
        goto done;
    }
    espl__saliency_of(ESPL__SALIENCY_MAGNITUDE, &(espl__salient){w, count}, saliency);
    ESPL_TRY(espl__prune_masks(ctx, pattern, &(espl__prune_part){*m, saliency, keep}, 1, diag));
    for (int64_t i = 0; i < count; i++) w[i] = keep[i] ? w[i] : 0;
done:
    espl__free(ctx, saliency);
    espl__free(ctx, keep);
    return status;
}

/* All elements as f32, in the order rows, taps, inputs. */
static float *ordered(espl_context *ctx, const espl__value *v, const espl__matrix *m) {
    int64_t count = espl__matrix_count(m), at = 0;
    float *raw = espl__alloc(ctx, (uint64_t)count * sizeof *raw),
          *out = espl__alloc(ctx, (uint64_t)count * sizeof *out);
    if (raw && out && espl__constant_read(v, raw)) {
        for (int64_t r = 0; r < m->rows; r++)
            for (int64_t t = 0; t < m->taps; t++)
                for (int64_t i = 0; i < m->inputs; i++) out[at++] = raw[espl__matrix_at(m, r, t, i)];
    } else {
        espl__free(ctx, out);
        out = NULL;
    }
    espl__free(ctx, raw);
    return out;
}

static void measure(espl_weights *w, const espl__matrix *m) {
    int64_t count = espl__matrix_count(m), zeros = 0;
    espl_tensor t = {ESPL_F32, {3, {w->rows, w->taps, w->inputs}}, w->data};
    for (int64_t i = 0; i < count; i++) zeros += w->data[i] == 0;
    w->sparsity = (double)zeros / (double)count;
    w->balance = espl__pattern_balance(&w->pattern, m, &t);
}

static espl_status fill(espl_context *ctx, const espl_graph *g, const espl__node *n,
                        const espl_sparsity *pattern, espl_weights *w, espl_diag *diag) {
    espl_status status = ESPL_OK;
    espl__matrix m = {.rows = w->rows,
                      .taps = w->taps,
                      .inputs = w->inputs,
                      .by_input = 1,
                      .by_tap = w->inputs,
                      .by_row = w->taps * w->inputs};
    espl__matrix unused;
    int64_t count = espl__matrix_count(&m);
    double all = sum_of(w->data, count);
    if (pattern) {
        w->pattern = espl__prune_effective(g, n, w->input, pattern, &unused, w->why);
        ESPL_TRY(prune(ctx, &w->pattern, &m, w->data, diag));
    } else {
        espl_tensor t = {ESPL_F32, {3, {w->rows, w->taps, w->inputs}}, w->data};
        w->pattern = n->inputs[w->input]->zeros.pattern;
        if (w->pattern.pattern == ESPL_PATTERN_DENSE)
            ESPL_TRY(espl__pattern_recognise(ctx, &m, &t, &w->pattern, diag));
    }
    w->magnitude = all > 0 ? sum_of(w->data, count) / all : 1;
    measure(w, &m);
done:
    return status;
}

espl_status espl_weights_read(espl_context *ctx, const espl_graph *g, int index, const espl_sparsity *pattern,
                              espl_weights *out, espl_diag *diag) {
    const espl__node *n = NULL;
    espl__zeros axes;
    espl__matrix m;
    int input = 0;
    *out = (espl_weights){0};
    if (index < 0 || find(g, index, &n, &input) != index + 1)
        return espl__fail(diag, ESPL_INVALID, "there is no weight tensor %d", index);
    (void)is_weights(n, input, &axes, &m);
    *out = (espl_weights){.layer = n->name,
                          .op = n->op->name,
                          .node = n->id,
                          .input = input,
                          .rows = m.rows,
                          .taps = m.taps,
                          .inputs = m.inputs,
                          .data = ordered(ctx, n->inputs[input], &m)};
    if (!out->data) return espl__nomem(diag, (uint64_t)espl__matrix_count(&m) * sizeof(float));
    for (int k = 0; k < n->input_count && k < 32; k++) out->tensors += is_weights(n, k, &axes, &m);
    espl_status status = fill(ctx, g, n, pattern, out, diag);
    if (status != ESPL_OK) espl_weights_free(ctx, out);
    return status;
}

void espl_weights_free(espl_context *ctx, espl_weights *weights) {
    espl__free(ctx, weights->data);
    weights->data = NULL;
}
