#include "compress/compress.h"
#include "compress/quant/accumulator.h"
#include "passes/late.h"

bool espl__is_layer(const espl__node *node) {
    for (int i = 0; i < node->input_count && i < 32; i++)
        if (node->op->weight_inputs >> i & 1 && node->inputs[i] && node->inputs[i]->constant) return true;
    return false;
}

static uint64_t stored_bytes(const espl__value *v) {
    espl__sparse layout;
    uint64_t bytes = espl__constant_sparse(v, &layout)
                         ? layout.bytes
                         : espl__codes_bytes(espl_shape_count(&v->constant->shape), espl__constant_bits(v));
    const espl__quant *q = &v->quant;
    if (!espl__is_quantized(v) || q->format == ESPL_FORMAT_S32) return bytes;
    return bytes +
           (uint64_t)q->count * ((espl__are_halves(q->scale, q->count) ? 2 : 4) + (q->offset ? 4 : 0));
}

/* Codes of 0 are those of the zero point; binary has none. */
static int64_t count_zeros(const espl__value *v) {
    const espl_tensor *t = v->constant;
    const espl__quant *q = &v->quant;
    int64_t count = espl_shape_count(&t->shape), inner = 1, zeros = 0;
    bool plain = espl__constant_zero_is_zero(v);
    if (espl_format_kind_of(q->format) == ESPL_FORMAT_KIND_BINARY) return 0;
    if (espl_dtype_bytes(t->dtype) > (plain ? 4 : 1)) return 0;
    if (plain) return espl__zeros_count(t);
    for (int d = q->axis + 1; d < t->shape.rank; d++) inner *= t->shape.dim[d];
    for (int64_t i = 0; i < count; i++)
        zeros += ((const uint8_t *)t->data)[i] == (uint8_t)q->zero[q->axis < 0 ? 0 : i / inner % q->count];
    return zeros;
}

espl__layer_sums espl__layer_weights(const espl__node *n) {
    espl__layer_sums sums = {0};
    for (int i = 0; i < n->input_count; i++) {
        const espl__value *v = n->inputs[i];
        if (!v || !v->constant || v->dtype != ESPL_F32) continue;
        int64_t count = espl_shape_count(&v->constant->shape);
        sums.params += count;
        sums.bytes += stored_bytes(v);
        if (i >= 32 || !(n->op->weight_inputs >> i & 1)) continue;
        sums.weights += count;
        sums.zeros += count_zeros(v);
    }
    return sums;
}

static const char *weight_format(const espl__node *n) {
    for (int i = 0; i < n->input_count && i < 32; i++)
        if (n->op->weight_inputs >> i & 1 && n->inputs[i] && n->inputs[i]->constant)
            return espl_format_name(n->inputs[i]->quant.format);
    return "f32";
}

espl_sparsity espl__layer_pattern(const espl__node *n, double *balance) {
    espl_sparsity pattern = {.pattern = ESPL_PATTERN_DENSE};
    int64_t most = 0;
    if (balance) *balance = 1;
    for (int i = 0; i < n->input_count && i < 32; i++) {
        espl__matrix m;
        espl__zeros axes;
        const espl__value *v = n->inputs[i];
        if (!v || !v->constant || v->zeros.pattern.pattern == ESPL_PATTERN_DENSE) continue;
        if (!espl__weight_matrix(n, i, &axes, &m) || espl__matrix_count(&m) <= most) continue;
        most = espl__matrix_count(&m);
        pattern = v->zeros.pattern;
        if (balance) *balance = espl__pattern_balance(&pattern, &m, v->constant);
    }
    return pattern;
}

espl_status espl_costs_compute(espl_context *ctx, const espl_graph *graph, const espl_shape *shapes,
                               espl_costs *out, espl_diag *diag) {
    espl_status status = ESPL_OK;
    *out = (espl_costs){0};
    ESPL_TRY(espl__graph_clone(graph, &out->graph, diag));
    ESPL_TRY(espl__specialise_static(out->graph, shapes, diag));
    ESPL_TRY(espl__pass_dead_code(out->graph, diag));
    ESPL_TRY(espl__pass_zeros(out->graph, diag));
    espl_graph *g = out->graph;
    out->layers = espl__calloc(ctx, (uint64_t)g->node_count + 1, sizeof *out->layers);
    if (!out->layers) {
        status = espl__nomem(diag, sizeof *out->layers);
        goto done;
    }
    espl_layer_cost *t = &out->total;
    t->name = "total";
    t->op = "";
    t->balance = 1;
    t->format = "";
    for (int i = 0; i < g->node_count; i++) {
        espl__node *n = g->nodes[i];
        espl_layer_cost *l = &out->layers[out->count++];
        *l = (espl_layer_cost){.name = n->name, .op = n->op->name, .format = weight_format(n)};
        l->pattern = espl__layer_pattern(n, &l->balance);
        l->accumulator_bits = espl__accumulator_of(g, n).bits;
        l->macs = n->op->macs ? n->op->macs(n) : 0;
        espl__layer_sums sums = espl__layer_weights(n);
        l->params = sums.params;
        l->weights = sums.weights;
        l->zeros = sums.zeros;
        l->weight_bytes = sums.bytes;
        l->weight_bytes_f32 = 4 * (uint64_t)l->params;
        l->weight_bytes_s8 = (uint64_t)l->params;
        for (int k = 0; k < n->output_count; k++)
            if (n->outputs[k] && n->outputs[k]->dtype == ESPL_F32)
                l->output_bytes_s8 += (uint64_t)espl_shape_count(&n->outputs[k]->shape);
        l->output_bytes_f32 = 4 * l->output_bytes_s8;
        t->accumulator_bits = ESPL_MAX(t->accumulator_bits, l->accumulator_bits);
        t->macs += l->macs;
        t->params += l->params;
        t->weights += l->weights;
        t->zeros += l->zeros;
        t->weight_bytes += l->weight_bytes;
        t->weight_bytes_f32 += l->weight_bytes_f32;
        t->weight_bytes_s8 += l->weight_bytes_s8;
        t->output_bytes_f32 += l->output_bytes_f32;
        t->output_bytes_s8 += l->output_bytes_s8;
    }
done:
    if (status != ESPL_OK) espl_costs_free(ctx, out);
    return status;
}

void espl_costs_free(espl_context *ctx, espl_costs *costs) {
    espl_graph_destroy(&costs->graph);
    espl__free(ctx, costs->layers);
    *costs = (espl_costs){0};
}
