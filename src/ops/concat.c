/* Concat and Split: the same copy in two directions. */
#include "ops/ops.h"

#include <inttypes.h>

/* --- Concat ---------------------------------------------------------------------------------- */

static espl_status join(espl_shape *y, const espl_shape *x, int axis, int input, espl_diag *diag) {
    if (x->rank != y->rank)
        return espl__fail(diag, ESPL_SHAPE, "Concat: input %d has %d dimensions and input 0 has %d", input,
                          x->rank, y->rank);
    for (int i = 0; i < y->rank; i++) {
        if (i == axis) {
            bool known = y->dim[i] >= 0 && x->dim[i] >= 0;
            if (known && y->dim[i] > INT64_MAX - x->dim[i])
                return espl__fail(diag, ESPL_LIMIT, "Concat: the result is too large");
            y->dim[i] = known ? y->dim[i] + x->dim[i] : ESPL_DIM_UNKNOWN;
        } else if (!espl__dims_agree(y->dim[i], x->dim[i])) {
            return espl__fail(diag, ESPL_SHAPE,
                              "Concat: input %d has %" PRId64 " elements along axis %d and others %" PRId64,
                              input, x->dim[i], i, y->dim[i]);
        } else {
            y->dim[i] = ESPL_MAX(y->dim[i], x->dim[i]);
        }
    }
    return ESPL_OK;
}

static espl_status infer_concat(const espl__node *node, espl_diag *diag) {
    espl_status status;
    int axis;
    bool known = true;
    ESPL_TRY(espl__op_begin(node, diag));
    espl_dtype dtype = node->inputs[0]->dtype;
    for (int i = 0; i < node->input_count; i++) {
        ESPL_TRY(espl__check_same_dtype(node, 0, i, diag));
        known = known && node->inputs[i]->known_rank;
    }
    if (!known) return espl__set_unknown(node, 0, dtype);
    espl_shape y = node->inputs[0]->shape;
    if (!espl__attr_find(node, "axis"))
        return espl__fail(diag, ESPL_FORMAT, "Concat: attribute axis is missing");
    ESPL_TRY(espl__axis(espl__attr_int(node, "axis", 0), y.rank, &axis, diag));
    for (int i = 1; i < node->input_count; i++) ESPL_TRY(join(&y, &node->inputs[i]->shape, axis, i, diag));
    status = espl__set_out(node, 0, dtype, &y, diag);
done:
    return status;
}

static void eval_concat(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)scratch;
    const espl_shape *y = &out[0].shape;
    int axis;
    if (espl__axis(espl__attr_int(node, "axis", 0), y->rank, &axis, NULL) != ESPL_OK) return;
    int64_t outer = espl__dims_product(y, 0, axis);
    size_t inner = (size_t)espl__dims_product(y, axis + 1, y->rank) * espl_dtype_bytes(out[0].dtype);
    char *to = out[0].data;
    if (espl__is_empty(&out[0])) return;
    for (int64_t o = 0; o < outer; o++)
        for (int i = 0; i < node->input_count; i++) {
            size_t bytes = (size_t)in[i].shape.dim[axis] * inner;
            if (bytes) memcpy(to, (const char *)in[i].data + (size_t)o * bytes, bytes);
            to += bytes;
        }
}

/* --- Split ----------------------------------------------------------------------------------- */

/* The list of sizes: an attribute before opset 13, an input since; NULL without one. */
static const int64_t *sizes(const espl__node *node, int64_t *count, bool *known) {
    const espl__attr *attr = espl__attr_find(node, "split");
    const espl__value *value = espl__in(node, 1);
    *known = true;
    *count = 0;
    if (attr && attr->kind == ESPL__ATTR_INTS) {
        *count = attr->count;
        return attr->ints;
    }
    if (!value) return NULL;
    *known = value->constant && value->constant->dtype == ESPL_S64 && value->constant->shape.rank == 1;
    if (!*known) return NULL;
    *count = value->constant->shape.dim[0];
    return value->constant->data;
}

/* Length of output i; equal parts of ceil(d / outputs), the last one shorter (opset 18), if there is no list. */
static int64_t part(const espl__node *node, int64_t d, int i) {
    int64_t count;
    bool known;
    const int64_t *list = sizes(node, &count, &known);
    if (!known) return ESPL_DIM_UNKNOWN;
    if (list) return i < count ? list[i] : 0;
    if (d < 0) return ESPL_DIM_UNKNOWN;
    int64_t each = d / node->output_count + (d % node->output_count != 0);
    int64_t start = espl__mul_sat(each, i);
    return start >= d ? 0 : ESPL_MIN(each, d - start);
}

static espl_status check_sizes(const espl__node *node, int64_t d, espl_diag *diag) {
    int64_t count, sum = 0;
    bool known;
    const int64_t *list = sizes(node, &count, &known);
    int64_t wanted = espl__attr_int(node, "num_outputs", node->output_count);
    if (wanted != node->output_count)
        return espl__fail(diag, ESPL_SHAPE, "Split: num_outputs is %" PRId64 " and there are %d outputs",
                          wanted, node->output_count);
    if (!list) {
        if (known && d >= 0 && node->opset < 18 && d % node->output_count != 0)
            return espl__fail(diag, ESPL_SHAPE,
                              "Split: %" PRId64 " elements do not divide into %d equal parts", d,
                              node->output_count);
        return ESPL_OK;
    }
    if (count != node->output_count)
        return espl__fail(diag, ESPL_SHAPE, "Split: %" PRId64 " sizes for %d outputs", count,
                          node->output_count);
    for (int64_t i = 0; i < count; i++) {
        if (list[i] < 0 || sum > INT64_MAX - list[i])
            return espl__fail(diag, ESPL_SHAPE, "Split: %" PRId64 " is not a possible size", list[i]);
        sum += list[i];
    }
    if (d >= 0 && sum != d)
        return espl__fail(diag, ESPL_SHAPE,
                          "Split: the sizes add up to %" PRId64 " and the axis has %" PRId64, sum, d);
    return ESPL_OK;
}

static espl_status infer_split(const espl__node *node, espl_diag *diag) {
    espl_status status;
    int axis;
    ESPL_TRY(espl__op_begin(node, diag));
    const espl__value *x = espl__in(node, 0), *list = espl__in(node, 1);
    if (list && list->dtype != ESPL_S64) return espl__fail(diag, ESPL_SHAPE, "Split: the sizes must be s64");
    if (list && list->constant && list->constant->shape.rank != 1)
        return espl__fail(diag, ESPL_SHAPE, "Split: the sizes must be a list");
    if (!x->known_rank) {
        for (int i = 0; i < node->output_count; i++) status = espl__set_unknown(node, i, x->dtype);
        return status;
    }
    ESPL_TRY(espl__axis(espl__attr_int(node, "axis", 0), x->shape.rank, &axis, diag));
    ESPL_TRY(check_sizes(node, x->shape.dim[axis], diag));
    for (int i = 0; i < node->output_count; i++) {
        espl_shape y = x->shape;
        y.dim[axis] = part(node, x->shape.dim[axis], i);
        ESPL_TRY(espl__set_out(node, i, x->dtype, &y, diag));
    }
done:
    return status;
}

static void eval_split(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)scratch;
    const espl_shape *x = &in[0].shape;
    int axis;
    if (espl__axis(espl__attr_int(node, "axis", 0), x->rank, &axis, NULL) != ESPL_OK) return;
    int64_t outer = espl__dims_product(x, 0, axis);
    size_t inner = (size_t)espl__dims_product(x, axis + 1, x->rank) * espl_dtype_bytes(in[0].dtype);
    const char *from = in[0].data;
    if (espl__is_empty(&in[0])) return;
    for (int64_t o = 0; o < outer; o++)
        for (int i = 0; i < node->output_count; i++) {
            size_t bytes = (size_t)part(node, x->dim[axis], i) * inner;
            if (bytes && out[i].data) memcpy((char *)out[i].data + (size_t)o * bytes, from, bytes);
            from += bytes;
        }
}

const espl__op espl__op_Concat = {
    .name = "Concat", .domain = "", .min_inputs = 1, .max_inputs = -1, .min_outputs = 1, .max_outputs = 1,
    .since = 4, .until = 21, .infer = infer_concat, .eval = eval_concat, .quant = ESPL__QUANT_JOIN,
    .text_inputs = UINT32_MAX,
};
const espl__op espl__op_Split = {
    .name = "Split", .domain = "", .min_inputs = 1, .max_inputs = 2, .min_outputs = 1, .max_outputs = -1,
    .since = 2, .until = 21, .infer = infer_split, .eval = eval_split, .quant = ESPL__QUANT_MOVE,
    .text_inputs = 1,
};
