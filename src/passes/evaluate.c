#include "passes/infer.h"

/* What a reader sees of a value: a quantized constant as the f32 numbers its codes stand for. */
static espl_status read_value(espl_graph *g, const espl__value *v, const espl_tensor *buffers,
                              espl_tensor *out, espl_diag *diag) {
    const espl_tensor *t = v->constant ? v->constant : &buffers[v->id];
    if (v->constant && espl__is_quantized(v) && !(t = espl__constant_f32(g, v))) return espl__nomem(diag, 0);
    *out = *t;
    return ESPL_OK;
}

static espl_status new_tensor(espl_context *ctx, const espl__value *v, uint64_t text, espl_tensor *out,
                              espl_diag *diag) {
    if (text == 0) return espl_tensor_alloc(ctx, v->dtype, &v->shape, out, diag);
    *out = (espl_tensor){v->dtype, v->shape, NULL};
    out->data = espl__alloc(ctx, espl__text_block(out, text));
    return out->data ? ESPL_OK : espl__nomem(diag, text);
}

static espl_status run_node(espl_context *ctx, espl_graph *g, const espl__node *n, espl_tensor *buffers,
                            espl_diag *diag) {
    espl_status status = ESPL_OK;
    espl_tensor *io = espl__calloc(ctx, (uint64_t)(n->input_count + n->output_count) + 1, sizeof *io);
    void *scratch = NULL;
    if (!io) return espl__nomem(diag, sizeof *io);
    espl_tensor *out = io + n->input_count;
    for (int i = 0; i < n->input_count; i++)
        if (n->inputs[i]) ESPL_TRY(read_value(g, n->inputs[i], buffers, &io[i], diag));
    for (int i = 0; i < n->output_count; i++) {
        espl__value *v = n->outputs[i];
        if (!v) continue;
        ESPL_TRY(new_tensor(ctx, v, espl__text_made(n, i, io), &buffers[v->id], diag));
        out[i] = buffers[v->id];
    }
    uint64_t bytes = espl__scratch_bytes(n);
    if (bytes && !(scratch = espl__alloc(ctx, bytes))) {
        status = espl__nomem(diag, bytes);
        goto done;
    }
    if (!espl__makes_nothing(n)) n->op->eval(n, io, out, scratch);
done:
    espl__free(ctx, scratch);
    espl__free(ctx, io);
    return status;
}

espl_status espl__evaluate(espl_context *ctx, espl_graph *g, const espl_tensor *inputs, espl_tensor *outputs,
                           espl_diag *diag) {
    espl_status status = ESPL_OK;
    espl_tensor *buffers = espl__calloc(ctx, (uint64_t)g->value_count + 1, sizeof *buffers);
    memset(outputs, 0, sizeof *outputs * (size_t)g->output_count);
    if (!buffers) return espl__nomem(diag, sizeof *buffers);
    for (int i = 0; i < g->input_count; i++) buffers[g->inputs[i]->id] = inputs[i];
    for (int i = 0; i < g->node_count && status == ESPL_OK; i++)
        status = run_node(ctx, g, g->nodes[i], buffers, diag);
    for (int i = 0; i < g->output_count && status == ESPL_OK; i++) {
        const espl__value *v = g->outputs[i];
        espl_tensor t;
        status = read_value(g, v, buffers, &t, diag);
        if (status == ESPL_OK) status = espl__tensor_copy(ctx, &t, &outputs[i], diag);
    }
    for (int i = 0; i < g->value_count; i++)
        if (g->values[i]->producer) espl_tensor_free(ctx, &buffers[i]);
    if (status != ESPL_OK)
        for (int i = 0; i < g->output_count; i++) espl_tensor_free(ctx, &outputs[i]);
    espl__free(ctx, buffers);
    return status;
}
