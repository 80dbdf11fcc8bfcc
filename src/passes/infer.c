/* Shape inference and constant folding in one walk: shape arithmetic is only known once its inputs are
 * folded. */
#include "passes/infer.h"
#include "ops/ops.h"
#include "passes/late.h"

/* A folded tensor may not be larger than the first, all of one walk together not larger than the second, so
 * that hostile ConstantOfShape nodes stay nodes (and then are refused, or computed one by one). */
enum { FOLD_LIMIT = 64 << 20, FOLD_TOTAL = 512 << 20, ROOM_OUTPUTS = 8 };
/* Nor may folding be more work than this in one walk: products of constants of 16 MB are hours of it. Models have far
 * less: shape arithmetic, and weights that are turned, scaled or multiplied with one another. */
#define FOLD_WORK ((int64_t)2 << 30)

espl_status espl__infer_node(const espl_graph *g, espl__node *n, espl_diag *diag) {
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

static int64_t count_of(const espl__value *v) {
    return v && v->known_rank ? ESPL_MAX(espl_shape_count(&v->shape), 0) : 0;
}

/* What the reference does about: the multiplications, or each output's window of elements. */
static int64_t work_of(const espl__node *n) {
    int64_t in = 0, out = 0, kernel[ESPL_MAX_RANK], window = 1;
    if (n->op->macs) return n->op->macs(n);
    for (int i = 0; i < n->input_count; i++) in = ESPL_MAX(in, count_of(n->inputs[i]));
    for (int i = 0; i < n->output_count; i++) out = ESPL_MAX(out, count_of(n->outputs[i]));
    int count = espl__attr_ints(n, "kernel_shape", kernel, ESPL_MAX_RANK);
    for (int i = 0; i < ESPL_MIN(count, ESPL_MAX_RANK); i++) window = espl__mul_sat(window, ESPL_MAX(kernel[i], 1));
    int64_t work = espl__mul_sat(out, ESPL_MIN(window, ESPL_MAX(in, 1)));
    return work > INT64_MAX - in ? INT64_MAX : work + in;
}

bool espl__room(const espl__node *n, int output, espl_shape *out) {
    espl_shape most[ROOM_OUTPUTS];
    const espl__value *v = n->outputs[output];
    *out = v->shape;
    if (!n->op->bound) return v->known_rank && espl_shape_count(out) >= 0;
    for (int i = 0; i < n->input_count; i++)
        if (n->inputs[i] && (!n->inputs[i]->known_rank || espl_shape_count(&n->inputs[i]->shape) < 0)) return false;
    if (n->output_count > ROOM_OUTPUTS) return false;
    n->op->bound(n, most);
    *out = most[output];
    return espl_shape_count(out) >= 0;
}

bool espl__foldable(const espl__node *n, uint64_t limit, espl__budget *left) {
    uint64_t all = 0, text = 0;
    if (!n->op->eval) return false;
    for (int i = 0; i < n->input_count; i++) {
        const espl__value *v = n->inputs[i];
        if (v && plain_constant(v) && text < limit) text += ESPL_MIN(espl__text_bytes(v->constant), limit);
        if (!v || plain_constant(v)) continue;
        if (n->op->reads_shape_only && v->known_rank && espl_shape_count(&v->shape) >= 0) continue;
        return false;
    }
    for (int i = 0; i < n->output_count; i++) {
        const espl__value *v = n->outputs[i];
        espl_shape shape;
        if (!v) continue;
        int64_t count = espl__room(n, i, &shape) ? espl_shape_count(&shape) : -1;
        if (count < 0 || (uint64_t)count > limit || (uint64_t)count * espl_dtype_bytes(v->dtype) > limit) return false;
        all += (uint64_t)count * espl_dtype_bytes(v->dtype);
    }
    if (text > limit) return false;
    all += 2 * text; /* a change of case makes at most half as much again */
    int64_t work = work_of(n);
    if (all > left->bytes || work < 0 || work > left->work) return false;
    left->bytes -= all;
    left->work -= work;
    return true;
}

/* A value that was to be rounded is so as a constant too: codes where integer kernels read them, else
 * numbers. */
static espl_status round_folded(espl_graph *g, espl__value *v, espl_diag *diag) {
    const espl_format format = v->quant.format;
    if (!espl__is_quantized(v)) return ESPL_OK;
    if (v->dtype == ESPL_F32 && (format == ESPL_FORMAT_U8 || format == ESPL_FORMAT_S8)) {
        v->constant = espl__constant_codes(g, v->constant, &v->quant);
        return v->constant ? ESPL_OK : espl__nomem(diag, 0);
    }
    float *x = v->constant->data;
    for (int64_t i = 0, count = espl_shape_count(&v->shape); i < count && v->dtype == ESPL_F32; i++)
        x[i] = espl__grid_round(format, v->quant.scale[0], v->quant.zero ? v->quant.zero[0] : 0, x[i]);
    v->quant = (espl__quant){.format = ESPL_FORMAT_F32, .axis = -1}; /* a grid says nothing of integers */
    return ESPL_OK;
}

uint64_t espl__text_made(const espl__node *n, int output, const espl_tensor *in) {
    bool makes = output == 0 && n->op->text_bytes && n->outputs[0]->dtype == ESPL_STRING;
    return makes ? n->op->text_bytes(n, in) : 0;
}

static espl_tensor *new_tensor(espl__arena *arena, espl_dtype dtype, const espl_shape *shape, uint64_t text) {
    espl_tensor *t = espl__arena_alloc(arena, sizeof *t);
    if (!t) return NULL;
    *t = (espl_tensor){dtype, *shape, NULL};
    t->data = espl__arena_alloc(arena, ESPL_MAX(espl__text_block(t, text), 1));
    return t->data ? t : NULL;
}

espl_status espl__fold(espl__node *n, espl__arena *arena, espl_diag *diag) {
    espl_context *ctx = arena->ctx;
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
        espl_shape room;
        (void)espl__room(n, i, &room);
        v->constant = new_tensor(arena, v->dtype, &room, espl__text_made(n, i, io));
        if (!v->constant) {
            status = espl__nomem(diag, 0);
            goto done;
        }
        out[i] = *v->constant;
    }
    uint64_t bytes = espl__scratch_bytes(n);
    if (bytes && !(scratch = espl__alloc(ctx, bytes))) {
        status = espl__nomem(diag, bytes);
        goto done;
    }
    if (!espl__makes_nothing(n)) n->op->eval(n, io, out, scratch);
    for (int i = 0; i < n->output_count && n->op->bound; i++)
        if (n->outputs[i]) {
            n->outputs[i]->constant->shape = n->outputs[i]->shape = out[i].shape;
            n->outputs[i]->known_rank = true;
        }
done:
    if (status != ESPL_OK)
        for (int i = 0; i < n->output_count; i++)
            if (n->outputs[i]) n->outputs[i]->constant = NULL;
    espl__free(ctx, scratch);
    espl__free(ctx, io);
    return status;
}

static espl_status fold_node(espl_graph *g, espl__node *n, espl_diag *diag) {
    espl_status status = espl__fold(n, &g->arena, diag);
    n->mark = -1;
    for (int i = 0; i < n->output_count && status == ESPL_OK; i++)
        if (n->outputs[i]) status = round_folded(g, n->outputs[i], diag);
    return status;
}

bool espl__stays(const espl__node *n) {
    return n->op->draws || strcmp(n->op->name, "QuantizeLinear") == 0 || strcmp(n->op->name, "DequantizeLinear") == 0;
}

espl_status espl__pass_infer(espl_graph *g, espl_diag *diag) {
    espl__budget left = {FOLD_TOTAL, FOLD_WORK};
    for (int i = 0; i < g->node_count; i++) {
        espl__node *n = g->nodes[i];
        espl_status status = espl__infer_node(g, n, diag);
        if (status == ESPL_OK && !espl__stays(n) && espl__foldable(n, FOLD_LIMIT, &left)) status = fold_node(g, n, diag);
        if (status != ESPL_OK) return status;
    }
    espl__graph_sweep(g);
    return ESPL_OK;
}

/* Rounded values as the numbers that their codes stand for. */
static espl_status expand(espl_graph *g, espl__node *n, espl_diag *diag) {
    for (int i = 0; i < n->output_count; i++) {
        espl__value *v = n->outputs[i];
        if (!v || !espl__is_quantized(v)) continue;
        v->constant = (espl_tensor *)(uintptr_t)espl__constant_f32(g, v);
        if (!v->constant) return espl__nomem(diag, 0);
        v->quant = (espl__quant){.format = ESPL_FORMAT_F32, .axis = -1};
    }
    return ESPL_OK;
}

espl_status espl__infer_everything(espl_graph *g, espl_diag *diag) {
    espl__budget left = {UINT64_MAX, INT64_MAX};
    for (int i = 0; i < g->node_count; i++) {
        espl__node *n = g->nodes[i];
        espl_status status = espl__infer_node(g, n, diag);
        if (status == ESPL_OK && espl__foldable(n, INT64_MAX, &left)) {
            status = fold_node(g, n, diag);
            if (status == ESPL_OK) status = expand(g, n, diag);
        }
        if (status != ESPL_OK) return status;
    }
    return ESPL_OK;
}

espl_status espl__specialise_open(espl_graph *g, const espl_shape *shapes, espl_diag *diag) {
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
    espl_status status = espl__pass_resolve(g, diag);
    if (status == ESPL_OK) status = espl__pass_infer(g, diag);
    return status;
}

espl_status espl__specialise(espl_graph *g, const espl_shape *shapes, espl_diag *diag) {
    char a[128];
    espl_status status = espl__specialise_open(g, shapes, diag);
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
