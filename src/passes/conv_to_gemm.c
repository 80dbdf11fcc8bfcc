/* A 1x1 convolution of 1x1 images whose result is then laid flat (MobileNet's classifier) is a matrix product
 * of the flat images. As such other tools have integer kernels for it that store f32: ONNX Runtime runs
 * QGemm, but a Conv only if its result is rounded, and a classifier's is not. */
#include "passes/passes.h"

static bool is_plain_point(const espl__node *n) {
    int64_t pads[4] = {0};
    const espl__value *x = n->inputs[0], *w = n->inputs[1];
    const espl__value *b = n->input_count > 2 ? n->inputs[2] : NULL;
    if (espl__attr_int(n, "group", 1) != 1 || espl__attr_ints(n, "pads", pads, 4) > 4) return false;
    if (pads[0] || pads[1] || pads[2] || pads[3]) return false;
    if (!w->constant || w->shape.rank != 4 || w->shape.dim[2] != 1 || w->shape.dim[3] != 1) return false;
    if (espl__is_quantized(w) && (w->quant.axis > 0 || (w->quant.group > 0 && w->quant.group_axis > 1)))
        return false;
    if (b && !b->constant) return false;
    return x->known_rank && x->shape.rank == 4 && x->shape.dim[1] == w->shape.dim[1] &&
           x->shape.dim[2] == 1 && x->shape.dim[3] == 1;
}

/* The view behind the convolution that leaves a row of channels for each image; what is rounded between them
 * is rounded the same way behind it. */
static espl__node *flat_reader(const espl_graph *g, const espl__node *conv) {
    const espl__value *y = conv->outputs[0];
    espl__node *view = espl__graph_only_reader(g, y);
    if (!view || !view->op->is_view || view->inputs[0] != y || view->output_count != 1) return NULL;
    const espl__value *z = view->outputs[0];
    if (!z->known_rank || z->shape.rank != 2 || z->shape.dim[1] != conv->inputs[1]->shape.dim[0]) return NULL;
    return !espl__is_quantized(y) || espl__same_grid(&y->quant, &z->quant) ? view : NULL;
}

static espl__value *matrix(espl_graph *g, const espl__value *w) {
    espl_tensor t = *w->constant;
    t.shape = (espl_shape){2, {w->shape.dim[0], w->shape.dim[1]}};
    espl__value *m = espl__graph_constant(g, NULL, &t);
    if (!m) return NULL;
    m->dtype = w->dtype;
    return !espl__is_quantized(w) || espl__graph_copy_quant(g, m, &w->quant) ? m : NULL;
}

static bool rewrite(espl_graph *g, espl__node *conv, espl__node *view) {
    espl__value *x = conv->inputs[0], *rows = espl__graph_value(g, NULL), *w = matrix(g, conv->inputs[1]);
    bool bias = conv->input_count > 2 && conv->inputs[2];
    espl__node *flatten = espl__graph_node(g, espl__op_find("", "Flatten"), "", 1, 1, 1);
    espl__node *gemm = espl__graph_node(g, espl__op_find("", "Gemm"), conv->name, bias ? 3 : 2, 1, 1);
    if (!rows || !w || !flatten || !gemm) return false;
    flatten->opset = gemm->opset = conv->opset;
    if (!espl__attr_set_int(g, flatten, "axis", 1) || !espl__attr_set_int(g, gemm, "transB", 1)) return false;
    rows->dtype = x->dtype;
    rows->shape = (espl_shape){2, {x->shape.dim[0], x->shape.dim[1]}};
    rows->known_rank = true;
    if (espl__is_quantized(x)) rows->quant = x->quant;
    flatten->inputs[0] = x;
    espl__node_set_output(flatten, 0, rows);
    gemm->inputs[0] = rows;
    gemm->inputs[1] = w;
    if (bias) gemm->inputs[2] = conv->inputs[2];
    espl__node_set_output(gemm, 0, view->outputs[0]);
    view->outputs[0] = NULL;
    view->output_count = 0;
    conv->mark = view->mark = -1;
    return true;
}

espl_status espl__pass_conv_to_gemm(espl_graph *g, espl_diag *diag) {
    int count = g->node_count;
    for (int i = 0; i < count; i++) {
        espl__node *conv = g->nodes[i];
        if (!espl__node_is(conv, "Conv") || !is_plain_point(conv)) continue;
        espl__node *view = flat_reader(g, conv);
        if (view && !rewrite(g, conv, view)) return espl__nomem(diag, 0);
    }
    espl__graph_sweep(g);
    return ESPL_OK;
}
