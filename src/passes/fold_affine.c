/* y = (x - mean) * scale / sqrt(var + eps) + shift is affine per channel: after a layer that is linear with
 * one output channel per factor it goes into weights and bias, in double precision. */
#include "passes/passes.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

typedef struct affine {
    double *factor, *shift; /* one each per channel */
    int64_t channels;
} affine;

static const float *channel_constant(espl_graph *g, const espl__value *v, int64_t channels) {
    if (!v || !v->constant) return NULL;
    const espl_tensor *t = espl__constant_f32(g, v);
    return t && espl_shape_count(&t->shape) == channels ? t->data : NULL;
}

static bool read_batchnorm(espl_graph *g, const espl__node *bn, affine *a) {
    if (!bn->inputs[1]->constant || espl__attr_int(bn, "training_mode", 0)) return false;
    a->channels = espl_shape_count(&bn->inputs[1]->constant->shape);
    const float *p[4];
    for (int i = 0; i < 4; i++)
        if (!(p[i] = channel_constant(g, bn->inputs[i + 1], a->channels))) return false;
    a->factor = espl__arena_alloc(&g->arena, sizeof(double) * (uint64_t)a->channels);
    a->shift = espl__arena_alloc(&g->arena, sizeof(double) * (uint64_t)a->channels);
    if (!a->factor || !a->shift) return false;
    double epsilon = espl__attr_float(bn, "epsilon", 1e-5f);
    for (int64_t c = 0; c < a->channels; c++) {
        a->factor[c] = p[0][c] / sqrt(p[3][c] + epsilon);
        a->shift[c] = p[1][c] - p[2][c] * a->factor[c];
    }
    return true;
}

/* Weights scaled along `axis`; a new constant, since others may share the old one. */
static espl__value *scaled_weights(espl_graph *g, const espl__value *w, int axis, const affine *a) {
    const espl_tensor *t = espl__constant_f32(g, w);
    if (!t || axis < 0 || axis >= t->shape.rank || t->shape.dim[axis] != a->channels) return NULL;
    espl__value *v = espl__graph_constant(g, NULL, t);
    if (!v) return NULL;
    int64_t inner = 1, count = espl_shape_count(&t->shape);
    for (int d = axis + 1; d < t->shape.rank; d++) inner *= t->shape.dim[d];
    float *x = v->constant->data;
    for (int64_t i = 0; i < count; i++) x[i] = (float)(x[i] * a->factor[i / inner % a->channels]);
    return v;
}

static espl__value *new_bias(espl_graph *g, const float *old, const affine *a) {
    espl_tensor t = {ESPL_F32, {1, {a->channels}}, NULL};
    espl_tensor *data = espl__graph_tensor(g, ESPL_F32, &t.shape, NULL);
    if (!data) return NULL;
    for (int64_t c = 0; c < a->channels; c++)
        ((float *)data->data)[c] = (float)((old ? old[c] * a->factor[c] : 0.0) + a->shift[c]);
    return espl__graph_constant(g, NULL, data);
}

/* MatMul has no bias input: it becomes Gemm, which takes matrices only. */
static bool matmul_to_gemm(espl_graph *g, espl__node *n) {
    const espl__value *x = n->inputs[0], *w = n->inputs[1];
    const espl__op *gemm = espl__op_find("", "Gemm");
    if (!gemm || !x->known_rank || x->shape.rank != 2 || w->shape.rank != 2) return false;
    espl__value **inputs = espl__arena_alloc(&g->arena, 3 * sizeof *inputs);
    if (!inputs) return false;
    memcpy(inputs, n->inputs, 2 * sizeof *inputs);
    n->inputs = inputs;
    n->input_count = 2;
    n->op = gemm;
    return true;
}

static bool set_bias(espl_graph *g, espl__node *n, espl__value *bias) {
    if (n->input_count < 3) {
        espl__value **inputs = espl__arena_alloc(&g->arena, 3 * sizeof *inputs);
        if (!inputs) return false;
        memcpy(inputs, n->inputs, (size_t)n->input_count * sizeof *inputs);
        n->inputs = inputs;
        n->input_count = 3;
    }
    n->inputs[2] = bias;
    return true;
}

static bool linear(const espl__node *n) {
    if (!n || n->mark == -1) return false;
    if (espl__node_is(n, "Gemm"))
        return espl__attr_float(n, "alpha", 1) == 1 && espl__attr_float(n, "beta", 1) == 1 &&
               espl__attr_int(n, "transA", 0) == 0;
    return espl__node_is(n, "Conv") || espl__node_is(n, "MatMul") ||
           (espl__node_is(n, "ConvTranspose") && espl__attr_int(n, "group", 1) == 1);
}

/* Weights that are floats, of 16 bits perhaps. */
static bool float_weights(const espl__value *w) {
    const espl_format f = w->quant.format;
    return w->constant && (f == ESPL_FORMAT_F32 || f == ESPL_FORMAT_F16 || f == ESPL_FORMAT_BF16);
}

/* Those of 16 bits stay what they are if a bias only is added. */
static bool keeps_weights(const espl__value *w, const affine *a) {
    bool ones = espl__is_quantized(w);
    for (int64_t c = 0; c < a->channels; c++) ones = ones && a->factor[c] == 1;
    return ones;
}

/* Folds y = factor * n(x) + shift into n, whose output then is `after`'s. */
static bool fold(espl_graph *g, espl__node *n, espl__node *after, const affine *a) {
    espl__value *w = n->inputs[1];
    bool has_bias = n->input_count > 2 && n->inputs[2];
    if (!float_weights(w)) return false;
    const float *old = has_bias ? channel_constant(g, n->inputs[2], a->channels) : NULL;
    if (has_bias && (!old || espl__is_quantized(n->inputs[2]))) return false;
    /* A Gemm's column [M, 1] may have as many elements as there are channels. */
    if (has_bias && a->channels != 1 && n->inputs[2]->shape.dim[n->inputs[2]->shape.rank - 1] != a->channels)
        return false;
    espl__value *scaled = keeps_weights(w, a) ? w : scaled_weights(g, w, n->op->weight_axis(n, 1), a);
    espl__value *bias = new_bias(g, old, a);
    if (!scaled || !bias) return false;
    if (espl__node_is(n, "MatMul") && !matmul_to_gemm(g, n)) return false;
    n->inputs[1] = scaled;
    if (!set_bias(g, n, bias)) return false;
    espl__value *y = after->outputs[0];
    espl__node_set_output(n, 0, y);
    after->outputs[0] = NULL;
    after->output_count = 0;
    after->mark = -1;
    return true;
}

/* A file may have a value of any name. */
static bool all_are(const espl__value *v, float value, int64_t channels) {
    if (!v->constant || espl__is_quantized(v) || v->constant->dtype != ESPL_F32) return false;
    bool same = v->shape.rank == 1 && v->shape.dim[0] == channels;
    for (int64_t c = 0; same && c < channels; c++) same = ((const float *)v->constant->data)[c] == value;
    return same;
}

static espl__value *shared_vector(espl_graph *g, float value, int64_t channels) {
    char name[64];
    snprintf(name, sizeof name, "espl.%g.%" PRId64, (double)value, channels);
    espl__value *v = espl__graph_find(g, name);
    if (v && all_are(v, value, channels)) return v;
    espl_tensor *t = espl__graph_tensor(g, ESPL_F32, &(espl_shape){1, {channels}}, NULL);
    for (int64_t c = 0; t && c < channels; c++) ((float *)t->data)[c] = value;
    return t ? espl__graph_constant(g, v ? NULL : name, t) : NULL;
}

/* Going forward into the layer behind would spare the node, but that layer would then read values that are
 * not normalised, which one scale of 8 bits represents badly (vit-cifar10 loses 2 points so). It stays, with
 * mean 0 and variance 1 that all of its width share: two vectors to store instead of four. */
static void standardise(espl_graph *g, espl__node *bn) {
    affine a;
    if (bn->output_count > 1 || !read_batchnorm(g, bn, &a)) return;
    espl__value *zeros = shared_vector(g, 0, a.channels), *ones = shared_vector(g, 1, a.channels);
    espl_tensor *factor = espl__graph_tensor(g, ESPL_F32, &(espl_shape){1, {a.channels}}, NULL);
    espl_tensor *shift = espl__graph_tensor(g, ESPL_F32, &(espl_shape){1, {a.channels}}, NULL);
    double unit = sqrt(1.0 + espl__attr_float(bn, "epsilon", 1e-5f));
    if (!zeros || !ones || !factor || !shift || zeros == bn->inputs[3]) return;
    for (int64_t c = 0; c < a.channels; c++) {
        ((float *)factor->data)[c] = (float)(a.factor[c] * unit);
        ((float *)shift->data)[c] = (float)a.shift[c];
    }
    espl__value *f = espl__graph_constant(g, NULL, factor), *s = espl__graph_constant(g, NULL, shift);
    if (!f || !s) return;
    bn->inputs[1] = f;
    bn->inputs[2] = s;
    bn->inputs[3] = zeros;
    bn->inputs[4] = ones;
}

espl_status espl__pass_fold_batchnorm(espl_graph *g, espl_diag *diag) {
    for (int i = 0; i < g->node_count; i++) {
        espl__node *bn = g->nodes[i];
        if (!espl__node_is(bn, "BatchNormalization")) continue;
        espl__value *x = bn->inputs[0];
        affine a;
        bool extra = false;
        for (int j = 1; j < bn->output_count; j++) extra |= bn->outputs[j] != NULL;
        if (extra || espl__is_quantized(x) || !linear(x->producer) || espl__graph_only_reader(g, x) != bn)
            continue;
        if (read_batchnorm(g, bn, &a)) fold(g, x->producer, bn, &a);
    }
    for (int i = 0; i < g->node_count; i++)
        if (espl__node_is(g->nodes[i], "BatchNormalization") && g->nodes[i]->mark != -1)
            standardise(g, g->nodes[i]);
    espl__graph_sweep(g);
    return espl__pass_dead_code(g, diag);
}

/* Add(Conv(x), constant [C,1,1]) and Add(MatMul(x), constant [N]) as biases. */
static const float *addend(espl_graph *g, const espl__node *n, espl__value *c, int64_t channels) {
    const espl__value *y = n->outputs[0];
    if (!c || !c->constant || espl__is_quantized(c) || !y->known_rank || c->shape.rank > y->shape.rank)
        return NULL;
    int axis = espl__node_is(n, "Conv") || espl__node_is(n, "ConvTranspose") ? 1 : y->shape.rank - 1;
    for (int d = 0; d < c->shape.rank; d++) {
        int at = d + y->shape.rank - c->shape.rank;
        if (c->shape.dim[d] != (at == axis ? channels : 1)) return NULL;
    }
    return channel_constant(g, c, channels);
}

espl_status espl__pass_bias(espl_graph *g, espl_diag *diag) {
    for (int i = 0; i < g->node_count; i++) {
        espl__node *add = g->nodes[i];
        if (!espl__node_is(add, "Add")) continue;
        for (int side = 0; side < 2 && add->mark != -1; side++) {
            espl__value *x = add->inputs[side];
            espl__node *n = x ? x->producer : NULL;
            if (!linear(n) || espl__is_quantized(x) || espl__graph_only_reader(g, x) != add) continue;
            if (!n->inputs[1]->constant || n->inputs[1]->shape.rank < 2) continue;
            int axis = n->op->weight_axis(n, 1);
            affine a = {.channels = n->inputs[1]->shape.dim[axis]};
            const float *c = addend(g, n, add->inputs[1 - side], a.channels);
            a.factor = espl__arena_alloc(&g->arena, sizeof(double) * (uint64_t)a.channels);
            a.shift = espl__arena_alloc(&g->arena, sizeof(double) * (uint64_t)a.channels);
            if (!a.factor || !a.shift) return espl__nomem(diag, 0);
            if (!c) continue;
            for (int64_t k = 0; k < a.channels; k++) {
                a.factor[k] = 1;
                a.shift[k] = c[k];
            }
            fold(g, n, add, &a);
        }
    }
    espl__graph_sweep(g);
    return espl__pass_dead_code(g, diag);
}
