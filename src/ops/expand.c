/* Expand, Tile and Where: copies with repeated elements, for every element type. */
#include "ops/ops.h"

#include <inttypes.h>

/* --- Expand ---------------------------------------------------------------------------------- */

static espl_status infer_expand(const espl__node *node, espl_diag *diag) {
    espl_status status;
    espl__ints dims;
    ESPL_TRY(espl__op_begin(node, diag));
    const espl__value *x = espl__in(node, 0);
    ESPL_TRY(espl__read_ints(node, NULL, 1, &dims, diag));
    if (dims.count > ESPL_MAX_RANK)
        return espl__fail(diag, ESPL_UNSUPPORTED, "Expand: %d dimensions are more than the %d supported",
                          dims.count, ESPL_MAX_RANK);
    if (!x->known_rank || dims.count < 0) return espl__set_unknown(node, 0, x->dtype);
    espl_shape y = x->shape, target = {.rank = dims.count};
    for (int i = 0; i < dims.count; i++) {
        if (dims.known && dims.v[i] < 0)
            return espl__fail(diag, ESPL_SHAPE, "Expand: dimension %d would be %" PRId64, i, dims.v[i]);
        target.dim[i] = dims.known ? dims.v[i] : ESPL_DIM_UNKNOWN;
    }
    ESPL_TRY(espl__broadcast(&y, &target, diag));
    for (int i = 0; i < y.rank && !dims.known; i++) y.dim[i] = ESPL_DIM_UNKNOWN;
    status = espl__set_out(node, 0, x->dtype, &y, diag);
done:
    return status;
}

static void eval_expand(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)node, (void)scratch;
    int64_t own[ESPL_MAX_RANK], stride[ESPL_MAX_RANK];
    const espl_shape *x = &in[0].shape, *y = &out[0].shape;
    espl__strides(x, own);
    for (int i = 0; i < y->rank; i++) {
        int at = i - (y->rank - x->rank);
        stride[i] = at < 0 || x->dim[at] == 1 ? 0 : own[at];
    }
    espl__copy_strided(out[0].data, in[0].data, espl_dtype_bytes(in[0].dtype), y->rank, y->dim, stride);
}

/* --- Tile ------------------------------------------------------------------------------------ */

static espl_status infer_tile(const espl__node *node, espl_diag *diag) {
    espl_status status;
    espl__ints repeats;
    ESPL_TRY(espl__op_begin(node, diag));
    const espl__value *x = espl__in(node, 0);
    ESPL_TRY(espl__read_ints(node, NULL, 1, &repeats, diag));
    if (!x->known_rank) return espl__set_unknown(node, 0, x->dtype);
    if (repeats.count >= 0 && repeats.count != x->shape.rank)
        return espl__fail(diag, ESPL_SHAPE, "Tile: %d repeats for %d dimensions", repeats.count,
                          x->shape.rank);
    espl_shape y = x->shape;
    for (int i = 0; i < y.rank; i++) {
        if (repeats.known && repeats.v[i] < 0)
            return espl__fail(diag, ESPL_SHAPE, "Tile: axis %d is repeated %" PRId64 " times", i,
                              repeats.v[i]);
        bool known = repeats.known && y.dim[i] >= 0;
        y.dim[i] = known ? espl__mul_sat(y.dim[i], repeats.v[i]) : ESPL_DIM_UNKNOWN;
    }
    status = espl__set_out(node, 0, x->dtype, &y, diag);
done:
    return status;
}

/* Each axis is two loops: the repeats, which do not move, and the elements. */
static void eval_tile(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)node, (void)scratch;
    int64_t own[ESPL_MAX_RANK], dim[ESPL__MAX_LOOPS], stride[ESPL__MAX_LOOPS];
    const espl_shape *x = &in[0].shape;
    if (espl_shape_count(&out[0].shape) == 0) return;
    espl__strides(x, own);
    for (int i = 0; i < x->rank; i++) {
        dim[2 * i] = out[0].shape.dim[i] / x->dim[i];
        stride[2 * i] = 0;
        dim[2 * i + 1] = x->dim[i];
        stride[2 * i + 1] = own[i];
    }
    espl__copy_strided(out[0].data, in[0].data, espl_dtype_bytes(in[0].dtype), 2 * x->rank, dim, stride);
}

/* --- Where ----------------------------------------------------------------------------------- */

/* A Where that stands for an If (passes/resolve.h) chooses a whole, it does not broadcast. */
static espl_status check_branches(const espl__node *node, espl_diag *diag) {
    const espl__value *a = node->inputs[1], *b = node->inputs[2];
    char text_a[160], text_b[160];
    if (!espl__attr_find(node, ESPL__ATTR_CHOICE) || !a->known_rank || !b->known_rank) return ESPL_OK;
    bool same = a->shape.rank == b->shape.rank;
    for (int i = 0; same && i < a->shape.rank; i++) same = espl__dims_agree(a->shape.dim[i], b->shape.dim[i]);
    if (same) return ESPL_OK;
    return espl__fail(diag, ESPL_UNSUPPORTED,
                      "the branches of an If whose condition depends on data give the shapes %s and %s, which must be equal",
                      espl_shape_text(&a->shape, text_a, sizeof text_a), espl_shape_text(&b->shape, text_b, sizeof text_b));
}

static espl_status infer_where(const espl__node *node, espl_diag *diag) {
    espl_status status;
    espl_shape y = {0};
    ESPL_TRY(espl__op_begin(node, diag));
    ESPL_TRY(espl__check_dtype(node, 0, ESPL__T(BOOL), diag));
    ESPL_TRY(espl__check_same_dtype(node, 1, 2, diag));
    espl_dtype dtype = node->inputs[1]->dtype;
    ESPL_TRY(check_branches(node, diag));
    for (int i = 0; i < 3; i++) {
        if (!node->inputs[i]->known_rank) return espl__set_unknown(node, 0, dtype);
        ESPL_TRY(espl__broadcast(&y, &node->inputs[i]->shape, diag));
    }
    status = espl__set_out(node, 0, dtype, &y, diag);
done:
    return status;
}

static void eval_where(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)node, (void)scratch;
    espl__rows rows;
    size_t elem = espl_dtype_bytes(out[0].dtype);
    const espl_shape *operands[] = {&in[0].shape, &in[1].shape, &in[2].shape};
    for (espl__rows_begin(&rows, &out[0].shape, operands, 3); !rows.done; espl__rows_next(&rows)) {
        const uint8_t *condition = (const uint8_t *)in[0].data + rows.offset[0];
        for (int64_t i = 0; i < rows.n; i++) {
            int k = condition[i * rows.step[0]] ? 1 : 2;
            memcpy((char *)out[0].data + (size_t)(rows.out + i) * elem,
                   (const char *)in[k].data + (size_t)(rows.offset[k] + i * rows.step[k]) * elem, elem);
        }
    }
}

const espl__op espl__op_Expand = {
    .name = "Expand", .domain = "", .min_inputs = 2, .max_inputs = 2, .min_outputs = 1, .max_outputs = 1,
    .since = 8, .until = 21, .infer = infer_expand, .eval = eval_expand, .quant = ESPL__QUANT_MOVE,
    .text_inputs = 1,
};
const espl__op espl__op_Tile = {
    .name = "Tile", .domain = "", .min_inputs = 2, .max_inputs = 2, .min_outputs = 1, .max_outputs = 1,
    .since = 6, .until = 21, .infer = infer_tile, .eval = eval_tile, .quant = ESPL__QUANT_MOVE,
    .text_inputs = 1,
};
const espl__op espl__op_Where = {
    .name = "Where", .domain = "", .min_inputs = 3, .max_inputs = 3, .min_outputs = 1, .max_outputs = 1,
    .since = 9, .until = 21, .infer = infer_where, .eval = eval_where, .quant = ESPL__QUANT_FLOAT,
    .text_inputs = 6,
};
