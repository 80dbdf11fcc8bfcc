/* Operators that only change a shape: Reshape, Flatten, Squeeze, Unsqueeze, Identity. Their evaluation
 * copies. */
#include "ops/ops.h"

#include <inttypes.h>

static void eval_copy(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)node, (void)scratch;
    size_t bytes = espl__tensor_bytes(&out[0]);
    if (bytes) memcpy(out[0].data, in[0].data, bytes);
}

/* --- Reshape --------------------------------------------------------------------------------- */

/* Product of the dimensions that target entry i does not copy from the same place; unknown if one of them is. */
static int64_t count_left(const espl_shape *x, const espl__ints *target, bool zero_copies) {
    espl_shape rest = *x;
    for (int i = 0; i < target->count && i < x->rank; i++)
        if (zero_copies && target->v[i] == 0) rest.dim[i] = 1;
    return espl_shape_count(&rest);
}

static espl_status resolve_reshape(const espl__node *node, const espl_shape *x, const espl__ints *target,
                                   espl_shape *y, espl_diag *diag) {
    bool zero_copies = espl__attr_int(node, "allowzero", 0) == 0;
    int free_at = -1;
    espl_shape fixed = {.rank = target->count}; /* what the target says itself */
    y->rank = target->count;
    for (int i = 0; i < target->count; i++) {
        int64_t d = target->v[i];
        bool copied = d == 0 && zero_copies;
        if (d < -1) return espl__fail(diag, ESPL_SHAPE, "Reshape: dimension %d would be %" PRId64, i, d);
        if (d == -1 && free_at >= 0) return espl__fail(diag, ESPL_SHAPE, "Reshape: two dimensions are -1");
        if (copied && i >= x->rank)
            return espl__fail(diag, ESPL_SHAPE,
                              "Reshape: dimension %d is copied from an input of %d dimensions", i, x->rank);
        if (d == -1) free_at = i;
        y->dim[i] = copied ? x->dim[i] : d;
        fixed.dim[i] = copied || d == -1 ? 1 : d;
    }
    int64_t have = count_left(x, target, zero_copies), want = espl_shape_count(&fixed);
    if (want < 0) return espl__fail(diag, ESPL_LIMIT, "Reshape: the new shape is too large");
    if (free_at >= 0 && have >= 0) {
        if (want == 0 && have == 0) {
            y->dim[free_at] = 0;
        } else if (want == 0 || have % want != 0) {
            return espl__fail(diag, ESPL_SHAPE, "Reshape: %" PRId64 " elements do not divide by %" PRId64,
                              have, want);
        } else {
            y->dim[free_at] = have / want;
        }
    }
    /* A dimension copied from an unknown one equals itself, so `have` against `want` compares the rest. */
    if (free_at < 0 && have >= 0 && have != want)
        return espl__fail(diag, ESPL_SHAPE, "Reshape: %" PRId64 " elements cannot become %" PRId64, have,
                          want);
    int64_t before = espl_shape_count(x), after = espl_shape_count(y);
    if (before >= 0 && after >= 0 && before != after)
        return espl__fail(diag, ESPL_SHAPE, "Reshape: %" PRId64 " elements cannot become %" PRId64, before,
                          after);
    return ESPL_OK;
}

static espl_status infer_reshape(const espl__node *node, espl_diag *diag) {
    espl_status status;
    espl__ints target;
    espl_shape y;
    ESPL_TRY(espl__op_begin(node, diag));
    const espl__value *x = espl__in(node, 0);
    ESPL_TRY(espl__read_ints(node, NULL, 1, &target, diag));
    if (target.count > ESPL_MAX_RANK)
        return espl__fail(diag, ESPL_UNSUPPORTED, "Reshape: %d dimensions are more than the %d supported",
                          target.count, ESPL_MAX_RANK);
    if (target.count < 0) return espl__set_unknown(node, 0, x->dtype);
    if (!target.known || !x->known_rank) {
        y.rank = target.count;
        for (int i = 0; i < y.rank; i++)
            y.dim[i] = target.known && target.v[i] > 0 ? target.v[i] : ESPL_DIM_UNKNOWN;
        return espl__set_out(node, 0, x->dtype, &y, diag);
    }
    ESPL_TRY(resolve_reshape(node, &x->shape, &target, &y, diag));
    status = espl__set_out(node, 0, x->dtype, &y, diag);
done:
    return status;
}

/* --- Flatten --------------------------------------------------------------------------------- */

static int64_t product_or_unknown(const espl_shape *x, int from, int to) {
    espl_shape part = {.rank = to - from};
    for (int i = from; i < to; i++) part.dim[i - from] = x->dim[i];
    return espl_shape_count(&part);
}

static espl_status infer_flatten(const espl__node *node, espl_diag *diag) {
    espl_status status;
    ESPL_TRY(espl__op_begin(node, diag));
    const espl__value *x = espl__in(node, 0);
    espl_shape y = {.rank = 2, .dim = {ESPL_DIM_UNKNOWN, ESPL_DIM_UNKNOWN}};
    int64_t axis = espl__attr_int(node, "axis", 1);
    if (x->known_rank) {
        int rank = x->shape.rank;
        if (axis < -rank || axis > rank)
            return espl__fail(diag, ESPL_SHAPE, "Flatten: axis %" PRId64 " is out of range for %d dimensions",
                              axis, rank);
        int at = (int)(axis < 0 ? axis + rank : axis);
        y.dim[0] = product_or_unknown(&x->shape, 0, at);
        y.dim[1] = product_or_unknown(&x->shape, at, rank);
    }
    status = espl__set_out(node, 0, x->dtype, &y, diag);
done:
    return status;
}

/* --- Squeeze, Unsqueeze ---------------------------------------------------------------------- */

static espl_status infer_squeeze(const espl__node *node, espl_diag *diag) {
    espl_status status;
    espl__ints axes;
    bool drop[ESPL_MAX_RANK];
    espl_shape y = {0};
    ESPL_TRY(espl__op_begin(node, diag));
    const espl__value *x = espl__in(node, 0);
    ESPL_TRY(espl__read_ints(node, "axes", 1, &axes, diag));
    if (!x->known_rank || (axes.present && !axes.known)) return espl__set_unknown(node, 0, x->dtype);
    if (axes.present) ESPL_TRY(espl__axes_mask(&axes, x->shape.rank, drop, diag));
    for (int i = 0; i < x->shape.rank; i++) {
        int64_t d = x->shape.dim[i];
        if (!axes.present && d < 0) return espl__set_unknown(node, 0, x->dtype);
        bool gone = axes.present ? drop[i] : d == 1;
        if (gone && !espl__dims_agree(d, 1))
            return espl__fail(diag, ESPL_SHAPE, "Squeeze: axis %d has %" PRId64 " elements, not 1", i, d);
        if (!gone) y.dim[y.rank++] = d;
    }
    status = espl__set_out(node, 0, x->dtype, &y, diag);
done:
    return status;
}

static espl_status infer_unsqueeze(const espl__node *node, espl_diag *diag) {
    espl_status status;
    espl__ints axes;
    bool fresh[ESPL_MAX_RANK];
    ESPL_TRY(espl__op_begin(node, diag));
    const espl__value *x = espl__in(node, 0);
    ESPL_TRY(espl__read_ints(node, "axes", 1, &axes, diag));
    if (!axes.present) return espl__fail(diag, ESPL_FORMAT, "Unsqueeze: axes are missing");
    if (!x->known_rank || axes.count < 0) return espl__set_unknown(node, 0, x->dtype);
    espl_shape y = {.rank = x->shape.rank + axes.count};
    if (y.rank > ESPL_MAX_RANK)
        return espl__fail(diag, ESPL_UNSUPPORTED, "Unsqueeze: %d dimensions are more than the %d supported",
                          y.rank, ESPL_MAX_RANK);
    if (axes.known) ESPL_TRY(espl__axes_mask(&axes, y.rank, fresh, diag));
    for (int i = 0, from = 0; i < y.rank; i++)
        y.dim[i] = !axes.known ? ESPL_DIM_UNKNOWN : fresh[i] ? 1 : x->shape.dim[from++];
    status = espl__set_out(node, 0, x->dtype, &y, diag);
done:
    return status;
}

/* --- Identity -------------------------------------------------------------------------------- */

static espl_status infer_identity(const espl__node *node, espl_diag *diag) {
    espl_status status;
    ESPL_TRY(espl__op_begin(node, diag));
    node->outputs[0]->kind = node->inputs[0]->kind;
    status = espl__set_like_input(node, node->inputs[0]->dtype, diag);
done:
    return status;
}

#define DEFINE_VIEW(Name, inputs_min, inputs_max, outputs_max, first, infer_fn, eval_fn, view) \
    const espl__op espl__op_##Name = {.name = #Name,                                           \
                                      .domain = "",                                            \
                                      .min_inputs = inputs_min,                                \
                                      .max_inputs = inputs_max,                                \
                                      .min_outputs = 1,                                        \
                                      .max_outputs = outputs_max,                              \
                                      .since = first,                                          \
                                      .until = 21,                                             \
                                      .infer = infer_fn,                                       \
                                      .eval = eval_fn,                                         \
                                      .quant = ESPL__QUANT_MOVE,                               \
                                      .text_inputs = 1,                                        \
                                      .is_view = view};
DEFINE_VIEW(Reshape, 2, 2, 1, 5, infer_reshape, eval_copy, true)
DEFINE_VIEW(Flatten, 1, 1, 1, 1, infer_flatten, eval_copy, true)
DEFINE_VIEW(Squeeze, 1, 2, 1, 1, infer_squeeze, eval_copy, true)
DEFINE_VIEW(Unsqueeze, 1, 2, 1, 1, infer_unsqueeze, eval_copy, true)
DEFINE_VIEW(Identity, 1, 1, 1, 1, infer_identity, eval_copy, true)
