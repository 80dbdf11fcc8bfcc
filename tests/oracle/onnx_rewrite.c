/* The program that onnx_export_check.py drives: reads a model, does one thing to it and writes it.
 *
 *   onnx_rewrite IN OUT                          as it is
 *   onnx_rewrite IN OUT opset N                  every operator carried to operator set N
 *   onnx_rewrite IN OUT passes                   after the passes that an import goes through
 *   onnx_rewrite IN OUT quantize FLAVOUR RANGES  activations by the ranges of a text file ("name min max" a line),
 *                                                weights by their largest value
 *
 * The quantizer is the plainest that can be written; it is here to see what other tools make of our files. */
#include "espalier/onnx.h"
#include "onnx/upgrade.h"
#include "passes/passes.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static const espl__value *only_reader_output(const espl_graph *g, const espl__value *v) {
    const espl__node *n = espl__graph_only_reader(g, v);
    return espl__node_is(n, "Relu") || espl__node_is(n, "Clip") ? n->outputs[0] : NULL;
}

typedef struct range {
    bool known;
    float lo, hi;
} range;

static bool read_ranges(const espl_graph *g, const char *path, range *ranges) {
    char name[512];
    float lo, hi;
    FILE *in = fopen(path, "r");
    if (!in) return false;
    while (fscanf(in, "%511s %f %f", name, &lo, &hi) == 3) {
        const espl__value *v = espl__graph_find(g, name);
        if (v) ranges[v->id] = (range){true, fminf(lo, 0), fmaxf(hi, 0)};
    }
    fclose(in);
    return true;
}

static bool set_activation(espl_graph *g, espl__value *v, range r, espl_flavour flavour) {
    float scale;
    int32_t zero = 0;
    if (flavour == ESPL_FLAVOUR_PORTABLE) {
        scale = fmaxf(-r.lo, r.hi) / 127;
    } else {
        scale = (r.hi - r.lo) / 255;
        if (scale > 0) zero = (int32_t)rintf(-r.lo / scale);
    }
    if (!(scale > 0)) scale = 1;
    return espl__graph_set_quant(g, v, flavour == ESPL_FLAVOUR_PORTABLE ? ESPL_FORMAT_S8 : ESPL_FORMAT_U8, -1, 1,
                                 &scale, &zero);
}

static bool computes(const espl__node *n) {
    return n && (n->op->quant == ESPL__QUANT_COMPUTE || n->op->quant == ESPL__QUANT_MOVE ||
                 n->op->quant == ESPL__QUANT_JOIN || espl__node_is(n, "Relu") || espl__node_is(n, "Clip"));
}

/* Activations around nodes that integers can compute. */
static bool quantize_activations(espl_graph *g, const range *ranges, espl_flavour flavour) {
    bool good = true;
    for (int i = 0; i < g->value_count; i++) g->values[i]->mark = 0;
    for (int i = 0; i < g->node_count; i++) {
        const espl__node *n = g->nodes[i];
        if (!computes(n)) continue;
        for (int j = 0; j < n->input_count; j++)
            if (n->inputs[j]) n->inputs[j]->mark = 1;
        n->outputs[0]->mark = 1;
    }
    for (int i = 0; i < g->value_count && good; i++) {
        espl__value *v = g->values[i];
        if (v->constant || !v->mark || !ranges[i].known) continue;
        const espl__value *after = only_reader_output(g, v);
        bool foldable = after && ranges[after->id].known && v->producer && v->producer->op->weight_inputs;
        if (foldable && flavour == ESPL_FLAVOUR_ORT_X86) continue;
        good = set_activation(g, v, ranges[foldable ? after->id : i], flavour);
    }
    /* What only moves elements keeps the grid; nodes stand in topological order. */
    for (int i = 0; i < g->node_count && good; i++) {
        const espl__node *n = g->nodes[i];
        const espl__value *in = n->input_count ? n->inputs[0] : NULL;
        if (n->op->quant == ESPL__QUANT_MOVE && espl__is_quantized(in) && !in->constant &&
            espl__is_quantized(n->outputs[0]))
            n->outputs[0]->quant = in->quant;
    }
    return good;
}

/* s8 codes, one scale for each index of `axis`. */
static bool quantize_weight(espl_graph *g, espl__value *v, int axis) {
    const espl_tensor *t = v->constant;
    int64_t count = espl_shape_count(&t->shape), channels = t->shape.dim[axis], inner = 1;
    for (int d = axis + 1; d < t->shape.rank; d++) inner *= t->shape.dim[d];
    float *scale = calloc((size_t)channels, sizeof *scale);
    espl_tensor *codes = espl__graph_tensor(g, ESPL_S8, &t->shape, NULL);
    if (!scale || !codes) return false;
    const float *w = t->data;
    for (int64_t i = 0; i < count; i++) scale[i / inner % channels] = fmaxf(scale[i / inner % channels], fabsf(w[i]));
    for (int64_t c = 0; c < channels; c++) scale[c] = scale[c] > 0 ? scale[c] / 127 : 1;
    for (int64_t i = 0; i < count; i++) ((int8_t *)codes->data)[i] = (int8_t)rintf(w[i] / scale[i / inner % channels]);
    v->constant = codes;
    bool good = espl__graph_set_quant(g, v, ESPL_FORMAT_S8, axis, channels, scale, NULL);
    free(scale);
    return good;
}

static bool quantize_bias(espl_graph *g, espl__value *v, const espl__value *x, const espl__value *w) {
    int64_t count = espl_shape_count(&v->constant->shape);
    if (count != w->quant.count) return true;
    float *scale = calloc((size_t)count, sizeof *scale);
    espl_tensor *codes = espl__graph_tensor(g, ESPL_S32, &v->constant->shape, NULL);
    if (!scale || !codes) return false;
    for (int64_t i = 0; i < count; i++) {
        scale[i] = x->quant.scale[0] * w->quant.scale[i];
        ((int32_t *)codes->data)[i] = (int32_t)rint(((const float *)v->constant->data)[i] / (double)scale[i]);
    }
    v->constant = codes;
    bool good = espl__graph_set_quant(g, v, ESPL_FORMAT_S32, 0, count, scale, NULL);
    free(scale);
    return good;
}

static bool quantize_constants(espl_graph *g) {
    for (int i = 0; i < g->node_count; i++) {
        const espl__node *n = g->nodes[i];
        if (n->input_count < 2 || !espl__is_quantized(n->inputs[0]) || n->op->quant != ESPL__QUANT_COMPUTE) continue;
        espl__value *w = n->inputs[1], *b = n->input_count > 2 ? n->inputs[2] : NULL;
        if (!(n->op->weight_inputs & 2) || !w->constant || w->constant->dtype != ESPL_F32) continue;
        if (!quantize_weight(g, w, n->op->weight_axis(n, 1))) return false;
        if (b && b->constant && b->constant->dtype == ESPL_F32 && !quantize_bias(g, b, n->inputs[0], w)) return false;
    }
    return true;
}

static espl_status quantize(espl_context *ctx, espl_graph *g, const char *flavour, const char *path,
                            espl_onnx_options *options, espl_diag *diag) {
    range *ranges = espl__calloc(ctx, (uint64_t)g->value_count + 1, sizeof *ranges);
    bool good = ranges && espl_flavour_parse(flavour, &options->flavour) && read_ranges(g, path, ranges) &&
                quantize_activations(g, ranges, options->flavour) && quantize_constants(g);
    espl__free(ctx, ranges);
    return good ? ESPL_OK : espl__fail(diag, ESPL_INVALID, "%s or %s cannot be used", flavour, path);
}

int main(int argc, char **argv) {
    espl_context *ctx = NULL;
    espl_graph *g = NULL;
    espl_diag diag = {0};
    espl_onnx_options options = {.doc = "written by onnx_rewrite"};
    espl_status status = argc < 3 ? ESPL_INVALID : espl_context_create(NULL, &ctx, &diag);
    if (status == ESPL_OK) status = espl_onnx_read(ctx, argv[1], &g, &diag);
    if (status == ESPL_OK && argc == 5 && strcmp(argv[3], "opset") == 0)
        status = espl__onnx_upgrade(g, atoi(argv[4]), &diag);
    else if (status == ESPL_OK && argc == 4 && strcmp(argv[3], "passes") == 0)
        status = espl__passes_run(g, &diag);
    else if (status == ESPL_OK && argc == 6 && strcmp(argv[3], "quantize") == 0)
        status = quantize(ctx, g, argv[4], argv[5], &options, &diag);
    else if (status == ESPL_OK && argc != 3)
        status = ESPL_INVALID;
    if (status == ESPL_OK) status = espl_onnx_write(ctx, g, &options, argv[2], &diag);
    if (status != ESPL_OK) fprintf(stderr, "%s: %s\n", espl_status_message(status), diag.message);
    espl_graph_destroy(&g);
    espl_context_destroy(&ctx);
    return espl_status_exit_code(status);
}
