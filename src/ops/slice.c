/* Slice: NumPy's start:end:step along some axes. Attributes before opset 10 (step 1), inputs since. */
#include "ops/ops.h"

#include <inttypes.h>

/* First index, step and length along one axis of d elements; the step of a length below 2 is irrelevant. */
typedef struct range {
    int64_t start, step, count;
} range;

static int64_t clamp(int64_t x, int64_t lo, int64_t hi) { return x < lo ? lo : x > hi ? hi : x; }

static range slice_axis(int64_t start, int64_t end, int64_t step, int64_t d) {
    range r = {0, step, 0};
    start = start < 0 ? start + d : start;
    end = end < 0 ? end + d : end;
    if (d == 0) return r;
    if (step > 0) {
        r.start = clamp(start, 0, d);
        end = clamp(end, 0, d);
        r.count = end > r.start ? (end - r.start - 1) / step + 1 : 0;
    } else {
        uint64_t back = 0 - (uint64_t)step;
        r.start = clamp(start, 0, d - 1);
        end = clamp(end, -1, d - 1);
        r.count = r.start > end ? (int64_t)((uint64_t)(r.start - end - 1) / back) + 1 : 0;
    }
    if (r.count < 2) r.step = 1;
    return r;
}

typedef struct slice_lists {
    espl__ints starts, ends, axes, steps;
} slice_lists;

static espl_status read_lists(const espl__node *node, slice_lists *l, espl_diag *diag) {
    espl_status status;
    bool old = node->opset < 10;
    ESPL_TRY(espl__read_ints(node, old ? "starts" : NULL, 1, &l->starts, diag));
    ESPL_TRY(espl__read_ints(node, old ? "ends" : NULL, 2, &l->ends, diag));
    ESPL_TRY(espl__read_ints(node, old ? "axes" : NULL, 3, &l->axes, diag));
    ESPL_TRY(espl__read_ints(node, NULL, 4, &l->steps, diag));
    if (!l->starts.present || !l->ends.present)
        return espl__fail(diag, ESPL_FORMAT, "Slice: starts or ends are missing");
    int n = l->starts.count;
    bool fits = l->ends.count < 0 || n < 0 || l->ends.count == n;
    fits = fits && (!l->axes.present || l->axes.count < 0 || n < 0 || l->axes.count == n);
    fits = fits && (!l->steps.present || l->steps.count < 0 || n < 0 || l->steps.count == n);
    if (!fits) return espl__fail(diag, ESPL_SHAPE, "Slice: starts, ends, axes and steps differ in length");
    if (l->steps.known)
        for (int i = 0; i < l->steps.count; i++)
            if (l->steps.v[i] == 0) return espl__fail(diag, ESPL_FORMAT, "Slice: a step is 0");
done:
    return status;
}

/* Ranges of all axes; count unknown where constants or dimensions are. */
static espl_status resolve(const espl__node *node, const espl_shape *x, range *out, espl_diag *diag) {
    espl_status status;
    slice_lists l;
    bool seen[ESPL_MAX_RANK] = {false};
    ESPL_TRY(read_lists(node, &l, diag));
    for (int i = 0; i < x->rank; i++) out[i] = (range){0, 1, x->dim[i]};
    bool all_known = l.starts.known && l.ends.known && (!l.steps.present || l.steps.known);
    if ((l.axes.present && !l.axes.known) || l.starts.count < 0) {
        for (int i = 0; i < x->rank; i++) out[i].count = ESPL_DIM_UNKNOWN;
        return ESPL_OK;
    }
    for (int i = 0; i < l.starts.count; i++) {
        int axis;
        ESPL_TRY(espl__axis(l.axes.present ? l.axes.v[i] : i, x->rank, &axis, diag));
        if (seen[axis]) return espl__fail(diag, ESPL_FORMAT, "Slice: axis %d is named twice", axis);
        seen[axis] = true;
        if (!all_known || x->dim[axis] < 0)
            out[axis].count = ESPL_DIM_UNKNOWN;
        else
            out[axis] =
                slice_axis(l.starts.v[i], l.ends.v[i], l.steps.present ? l.steps.v[i] : 1, x->dim[axis]);
    }
done:
    return status;
}

bool espl__slice_ranges(const espl__node *node, const espl_shape *x, int64_t *start, int64_t *step) {
    range r[ESPL_MAX_RANK];
    if (resolve(node, x, r, NULL) != ESPL_OK) return false;
    for (int i = 0; i < x->rank; i++) {
        if (r[i].count < 0) return false;
        start[i] = r[i].start;
        step[i] = r[i].step;
    }
    return true;
}

static espl_status infer(const espl__node *node, espl_diag *diag) {
    espl_status status;
    range r[ESPL_MAX_RANK];
    ESPL_TRY(espl__op_begin(node, diag));
    const espl__value *x = espl__in(node, 0);
    if (!x->known_rank) return espl__set_unknown(node, 0, x->dtype);
    ESPL_TRY(resolve(node, &x->shape, r, diag));
    espl_shape y = {.rank = x->shape.rank};
    for (int i = 0; i < y.rank; i++) y.dim[i] = r[i].count;
    status = espl__set_out(node, 0, x->dtype, &y, diag);
done:
    return status;
}

static void eval(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)scratch;
    range r[ESPL_MAX_RANK];
    int64_t stride[ESPL_MAX_RANK], start = 0;
    if (espl_shape_count(&out[0].shape) == 0 || resolve(node, &in[0].shape, r, NULL) != ESPL_OK) return;
    espl__strides(&in[0].shape, stride);
    for (int i = 0; i < in[0].shape.rank; i++) {
        start += r[i].start * stride[i];
        stride[i] *= r[i].step;
    }
    espl__copy_strided(out[0].data, espl__at(in[0].data, in[0].dtype, start), espl_dtype_bytes(in[0].dtype),
                       out[0].shape.rank, out[0].shape.dim, stride);
}

const espl__op espl__op_Slice = {
    .name = "Slice", .domain = "", .min_inputs = 1, .max_inputs = 5, .min_outputs = 1, .max_outputs = 1,
    .since = 1, .until = 21, .infer = infer, .eval = eval, .quant = ESPL__QUANT_MOVE,
    .text_inputs = 1,
};
