/* Shape inference and constant folding in one walk: shape arithmetic is only known once its inputs are
 * folded. */
#include "passes/passes.h"

/* A folded tensor may not be larger than the first, all of one walk together not larger than the second, so
 * that hostile ConstantOfShape nodes stay nodes (and then are refused, or computed one by one). */
enum { FOLD_LIMIT = 64 << 20, FOLD_TOTAL = 512 << 20 };

static espl_status infer_node(const espl_graph *g, espl__node *n, espl_diag *diag) {
    espl_status status = n->op->infer(n, diag);
    if (status != ESPL_OK) {
        char label[160];
        espl__node_label(n, label, sizeof label);
        if (g->file[0])
            espl__diag_prefix(diag, "%s: node %s", g->file, label);
        else
            espl__diag_prefix(diag, "node %s", label);
    }
    return status;
}

/* A constant as its consumers see it: quantized codes are not. */
static bool plain_constant(const espl__value *v) {
    return v->constant && !espl__is_quantized(v);
}

/* `budget`: bytes that may still be folded. */
static bool foldable(const espl__node *n, uint64_t *budget) {
    uint64_t all = 0;
    if (strcmp(n->op->name, "QuantizeLinear") == 0 || strcmp(n->op->name, "DequantizeLinear") == 0)
        return false;
    if (n->op->draws) return false;
    for (int i = 0; i < n->input_count; i++) {
        const espl__value *v = n->inputs[i];
        if (!v || plain_constant(v)) continue;
        if (n->op->reads_shape_only && v->known_rank && espl_shape_count(&v->shape) >= 0) continue;
        return false;
    }
    for (int i = 0; i < n->output_count; i++) {
        const espl__value *v = n->outputs[i];
        if (!v) continue;
        int64_t count = v->known_rank ? espl_shape_count(&v->shape) : -1;
        if (count < 0 || count > FOLD_LIMIT || (uint64_t)count * espl_dtype_bytes(v->dtype) > FOLD_LIMIT) return false;
        all += (uint64_t)count * espl_dtype_bytes(v->dtype);
    }
    if (all > *budget) return false;
    *budget -= all;
    return true;
}

/* A value that was to be rounded is so as a constant too. */
static espl_status round_folded(espl_graph *g, espl__value *v, espl_diag *diag) {
    if (!espl__is_quantized(v)) return ESPL_OK;
    if (v->dtype != ESPL_F32) { /* a grid says nothing of integers */
        v->quant = (espl__quant){.format = ESPL_FORMAT_F32};
        return ESPL_OK;
    }
    v->constant = espl__constant_codes(g, v->constant, &v->quant);
    return v->constant ? ESPL_OK : espl__nomem(diag, 0);
}

static espl_status fold_node(espl_graph *g, espl__node *n, espl_diag *diag) {
    espl_context *ctx = g->arena.ctx;
    espl_status status = ESPL_OK;
    espl_tensor *io = espl__calloc(ctx, (uint64_t)(n->input_count + n->output_count) + 1, sizeof *io);
    void *scratch = NULL;
    if (!io) return espl__nomem(diag, sizeof *io);
    espl_tensor *out = io + n->input_count;
    for (int i = 0; i < n->input_count; i++)
        if (n->inputs[i])
            io[i] = n->inputs[i]->constant ? *n->inputs[i]->constant
                                           : (espl_tensor){n->inputs[i]->dtype, n->inputs[i]->shape, NULL};
    for (int i = 0; i < n->output_count; i++) {
        espl__value *v = n->outputs[i];
        if (!v) continue;
        v->constant = espl__graph_tensor(g, v->dtype, &v->shape, NULL);
        if (!v->constant) {
            status = espl__nomem(diag, 0);
            goto done;
        }
        out[i] = *v->constant;
    }
    uint64_t bytes = n->op->scratch_bytes ? n->op->scratch_bytes(n) : 0;
    if (bytes && !(scratch = espl__alloc(ctx, bytes))) {
        status = espl__nomem(diag, bytes);
        goto done;
    }
    n->op->eval(n, io, out, scratch);
    n->mark = -1;
    for (int i = 0; i < n->output_count; i++)
        if (n->outputs[i]) ESPL_TRY(round_folded(g, n->outputs[i], diag));
done:
    if (status != ESPL_OK)
        for (int i = 0; i < n->output_count; i++)
            if (n->outputs[i]) n->outputs[i]->constant = NULL;
    espl__free(ctx, scratch);
    espl__free(ctx, io);
    return status;
}

espl_status espl__pass_infer(espl_graph *g, espl_diag *diag) {
    uint64_t budget = FOLD_TOTAL;
    for (int i = 0; i < g->node_count; i++) {
        espl__node *n = g->nodes[i];
        espl_status status = infer_node(g, n, diag);
        if (status == ESPL_OK && foldable(n, &budget)) status = fold_node(g, n, diag);
        if (status != ESPL_OK) return status;
    }
    espl__graph_sweep(g);
    return ESPL_OK;
}

espl_status espl__specialise(espl_graph *g, const espl_shape *shapes, espl_diag *diag) {
    char a[128], b[128];
    for (int i = 0; i < g->input_count; i++) {
        espl__value *v = g->inputs[i];
        if (shapes && shapes[i].rank >= 0) {
            bool fits = !v->known_rank || shapes[i].rank == v->shape.rank;
            for (int d = 0; fits && v->known_rank && d < v->shape.rank; d++)
                fits = v->shape.dim[d] < 0 || v->shape.dim[d] == shapes[i].dim[d];
            if (!fits)
                return espl__fail(diag, ESPL_SHAPE,
                                  "%s: input '%s' has shape %s, %s was given; bind only its '?'s", g->file,
                                  v->name, espl_shape_text(&v->shape, a, sizeof a),
                                  espl_shape_text(&shapes[i], b, sizeof b));
            v->shape = shapes[i];
            v->known_rank = true;
        }
        if (!v->known_rank)
            return espl__fail(diag, ESPL_SHAPE,
                              "%s: input '%s' declares no shape; give one with --shape %s=...", g->file,
                              v->name, v->name);
        for (int d = 0; d < v->shape.rank; d++)
            if (v->shape.dim[d] < 0) v->shape.dim[d] = 1;
    }
    espl_status status = espl__pass_infer(g, diag);
    if (status != ESPL_OK) return status;
    for (int i = 0; i < g->node_count; i++)
        for (int j = 0; j < g->nodes[i]->output_count; j++) {
            espl__value *v = g->nodes[i]->outputs[j];
            if (!v || (v->known_rank && espl_shape_count(&v->shape) >= 0)) continue;
            return espl__fail(diag, ESPL_UNSUPPORTED, "%s: node %s: the shape of output '%s' depends on data",
                              g->file, espl__node_label(g->nodes[i], a, sizeof a), v->name);
        }
    return ESPL_OK;
}
