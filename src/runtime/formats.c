/* Values in formats that no kernel stores. In the session's copy of the graph such a value becomes two:
 *
 *  integers of fewer than 8 bits: x, and Clip(x) to the numbers of the narrow codes, on the grid of 8 bits
 * that has the same scale and zero point. The clip goes into the store of the layer as a Relu does, and
 * readers find 8 bits. any other format: x, and Rounding(x), the nearest number of the format in f32. */
#include "passes/passes.h"
#include "runtime/lower.h"

#include <math.h>

static espl_status infer_rounding(const espl__node *n, espl_diag *diag) {
    (void)diag;
    n->outputs[0]->dtype = ESPL_F32;
    n->outputs[0]->shape = n->inputs[0]->shape;
    n->outputs[0]->known_rank = n->inputs[0]->known_rank;
    return ESPL_OK;
}

static void eval_rounding(const espl__node *n, const espl_tensor *in, espl_tensor *out, void *scratch) {
    const espl_format format = (espl_format)espl__attr_int(n, "format", 0);
    const float scale = espl__attr_float(n, "scale", 1);
    const int32_t zero = (int32_t)espl__attr_int(n, "zero", 0);
    const float *x = in[0].data;
    float *y = out[0].data;
    (void)scratch;
    for (int64_t i = 0, count = espl_shape_count(&in[0].shape); i < count; i++)
        y[i] = espl__grid_round(format, scale, zero, x[i]);
}

static const espl__op rounding = {.name = "Rounding",
                                  .domain = "espalier",
                                  .min_inputs = 1,
                                  .max_inputs = 1,
                                  .min_outputs = 1,
                                  .max_outputs = 1,
                                  .since = 1,
                                  .until = 1000,
                                  .infer = infer_rounding,
                                  .eval = eval_rounding};

static bool is_narrow(espl_format f) {
    return espl_format_kind_of(f) == ESPL_FORMAT_KIND_INTEGER && espl_format_bits(f) < 8;
}

/* A value that takes over name, number and readers of v; what v's own producer makes is not seen from
 * outside. */
static espl__value *successor(espl_graph *g, espl__value *v) {
    espl__value *next = espl__graph_value(g, NULL);
    if (!next) return NULL;
    espl__graph_replace(g, v, next);
    next->dtype = ESPL_F32;
    next->shape = v->shape;
    next->known_rank = v->known_rank;
    next->origin = v->origin;
    if (v->is_input) return next;
    char *name = next->name;
    next->name = v->name;
    v->name = name;
    v->origin = -1;
    return next;
}

static espl__value *scalar(espl_graph *g, float x) {
    const espl_tensor t = {ESPL_F32, {.rank = 0}, &x};
    espl__value *v = espl__graph_constant(g, NULL, &t);
    if (v) v->dtype = ESPL_F32, v->known_rank = true;
    return v;
}

static bool clip_to_codes(espl_graph *g, espl__value *v) {
    const espl__quant q = v->quant;
    const int32_t zero = q.zero ? q.zero[0] : 0;
    int32_t lo, hi;
    espl__format_range(q.format, &lo, &hi);
    espl__node *clip = espl__graph_node(g, espl__op_find("", "Clip"), NULL, 3, 1, 0);
    espl__value *next = successor(g, v);
    if (!clip || !next) return false;
    v->quant = (espl__quant){.axis = -1};
    clip->inputs[0] = v;
    clip->inputs[1] = scalar(g, (float)(lo - zero) * q.scale[0]);
    clip->inputs[2] = scalar(g, (float)(hi - zero) * q.scale[0]);
    clip->opset = g->opset;
    clip->origin = v->producer ? v->producer->origin : -1;
    espl__node_set_output(clip, 0, next);
    espl_format wide = espl_format_is_signed(q.format) ? ESPL_FORMAT_S8 : ESPL_FORMAT_U8;
    return clip->inputs[1] && clip->inputs[2] && espl__graph_set_quant(g, next, wide, -1, 1, q.scale, q.zero);
}

static bool round_to_format(espl_graph *g, espl__value *v) {
    const espl__quant q = v->quant;
    espl__node *n = espl__graph_node(g, &rounding, NULL, 1, 1, 3);
    espl__value *next = successor(g, v);
    if (!n || !next) return false;
    v->quant = (espl__quant){.axis = -1};
    n->inputs[0] = v;
    n->opset = g->opset;
    n->origin = v->producer ? v->producer->origin : -1;
    espl__node_set_output(n, 0, next);
    return espl__attr_set_int(g, n, "format", q.format) && espl__attr_set_float(g, n, "scale", q.scale[0]) &&
           espl__attr_set_int(g, n, "zero", q.zero ? q.zero[0] : 0);
}

espl_status espl__lower_formats(espl_graph *g, espl_diag *diag) {
    const int values = g->value_count;
    bool any = false;
    for (int i = 0; i < values; i++) {
        espl__value *v = g->values[i];
        const espl_format f = v->quant.format;
        if (v->constant || f == ESPL_FORMAT_F32 || f == ESPL_FORMAT_U8 || f == ESPL_FORMAT_S8) continue;
        any = true;
        if (!(is_narrow(f) ? clip_to_codes(g, v) : round_to_format(g, v)))
            return espl__nomem(diag, sizeof *v);
    }
    return any ? espl__graph_verify(g, diag) : ESPL_OK;
}
