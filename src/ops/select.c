/* Operators that choose elements along an axis: ArgMax, ArgMin, CumSum, TopK. */
#include "ops/ops.h"

#include <inttypes.h>
#include <math.h>

/* The lines of a tensor along an axis. */
typedef struct lines {
    int64_t outer, n, inner;
} lines;

static lines lines_of(const espl_shape *shape, int axis) {
    return (lines){espl__dims_product(shape, 0, axis), shape->dim[axis],
                   espl__dims_product(shape, axis + 1, shape->rank)};
}

#define NUMBERS (ESPL__T_INT | ESPL__T(F32) | ESPL__T(F64))

/* Any of the supported types compares exactly as f64, but s64 beyond 2^53. */
static bool before(espl_dtype dtype, const void *a, const void *b, bool largest) {
    if (espl_dtype_is_float(dtype)) {
        double x, y;
        espl__load_f64(dtype, a, 0, 1, &x);
        espl__load_f64(dtype, b, 0, 1, &y);
        return largest ? x > y : x < y;
    }
    int64_t x, y;
    espl__load_s64(dtype, a, 0, 1, &x);
    espl__load_s64(dtype, b, 0, 1, &y);
    return largest ? x > y : x < y;
}

/* --- ArgMax, ArgMin -------------------------------------------------------------------------- */

static espl_status infer_arg(const espl__node *node, espl_diag *diag) {
    espl_status status;
    int axis;
    ESPL_TRY(espl__op_begin(node, diag));
    ESPL_TRY(espl__check_dtype(node, 0, NUMBERS, diag));
    const espl__value *x = espl__in(node, 0);
    if (!x->known_rank) return espl__set_unknown(node, 0, ESPL_S64);
    ESPL_TRY(espl__axis(espl__attr_int(node, "axis", 0), x->shape.rank, &axis, diag));
    if (x->shape.dim[axis] == 0)
        return espl__fail(diag, ESPL_SHAPE, "%s: axis %d is empty", node->op->name, axis);
    bool keep = espl__attr_int(node, "keepdims", 1) != 0;
    espl_shape y = {0};
    for (int i = 0; i < x->shape.rank; i++)
        if (i != axis || keep) y.dim[y.rank++] = i == axis ? 1 : x->shape.dim[i];
    status = espl__set_out(node, 0, ESPL_S64, &y, diag);
done:
    return status;
}

static void arg(const espl__node *node, const espl_tensor *in, espl_tensor *out, bool largest) {
    int axis;
    if (espl__axis(espl__attr_int(node, "axis", 0), in[0].shape.rank, &axis, NULL) != ESPL_OK) return;
    lines l = lines_of(&in[0].shape, axis);
    bool last = espl__attr_int(node, "select_last_index", 0) != 0;
    espl_dtype dtype = in[0].dtype;
    int64_t *y = out[0].data;
    if (espl__is_empty(&out[0])) return;
    for (int64_t o = 0; o < l.outer; o++)
        for (int64_t i = 0; i < l.inner; i++) {
            const void *best = espl__at(in[0].data, dtype, o * l.n * l.inner + i);
            int64_t at = 0;
            for (int64_t k = 1; k < l.n; k++) {
                const void *p = espl__at(in[0].data, dtype, (o * l.n + k) * l.inner + i);
                if (!before(dtype, p, best, largest) && !(last && !before(dtype, best, p, largest))) continue;
                best = p;
                at = k;
            }
            *y++ = at;
        }
}
static void eval_argmax(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)scratch;
    arg(node, in, out, true);
}
static void eval_argmin(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)scratch;
    arg(node, in, out, false);
}

/* --- CumSum ---------------------------------------------------------------------------------- */

static espl_status infer_cumsum(const espl__node *node, espl_diag *diag) {
    espl_status status;
    espl__ints axes;
    int axis;
    ESPL_TRY(espl__op_begin(node, diag));
    ESPL_TRY(espl__check_dtype(node, 0, NUMBERS, diag));
    ESPL_TRY(espl__read_ints(node, NULL, 1, &axes, diag));
    if (!axes.known || axes.count != 1)
        return espl__fail(diag, ESPL_UNSUPPORTED, "CumSum: the axis must be one constant number");
    if (node->inputs[0]->known_rank)
        ESPL_TRY(espl__axis(axes.v[0], node->inputs[0]->shape.rank, &axis, diag));
    status = espl__set_like_input(node, node->inputs[0]->dtype, diag);
done:
    return status;
}

static void eval_cumsum(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)scratch;
    espl__ints axes;
    int axis;
    if (espl__read_ints(node, NULL, 1, &axes, NULL) != ESPL_OK) return;
    if (espl__axis(axes.v[0], in[0].shape.rank, &axis, NULL) != ESPL_OK) return;
    lines l = lines_of(&in[0].shape, axis);
    bool exclusive = espl__attr_int(node, "exclusive", 0) != 0,
         reverse = espl__attr_int(node, "reverse", 0) != 0;
    espl_dtype dtype = in[0].dtype;
    if (espl__is_empty(&out[0])) return;
    for (int64_t o = 0; o < l.outer; o++)
        for (int64_t i = 0; i < l.inner; i++) {
            double real = 0, x = 0;
            uint64_t whole = 0;
            for (int64_t s = 0; s < l.n; s++) {
                int64_t k = reverse ? l.n - 1 - s : s, at = (o * l.n + k) * l.inner + i, v = 0;
                void *to = espl__at_mut(out[0].data, dtype, at);
                double real_before = real;
                int64_t whole_before = (int64_t)whole;
                espl__load_f64(dtype, espl__at(in[0].data, dtype, at), 0, 1, &x);
                real += x;
                if (espl_dtype_is_float(dtype)) {
                    espl__store_f64(dtype, exclusive ? &real_before : &real, 1, to);
                    continue;
                }
                espl__load_s64(dtype, espl__at(in[0].data, dtype, at), 0, 1, &v);
                whole += (uint64_t)v;
                int64_t whole_after = (int64_t)whole;
                espl__store_s64(dtype, exclusive ? &whole_before : &whole_after, 1, to);
            }
        }
}

/* --- TopK ------------------------------------------------------------------------------------ */

static espl_status infer_topk(const espl__node *node, espl_diag *diag) {
    espl_status status;
    espl__ints k = {0};
    int axis;
    ESPL_TRY(espl__op_begin(node, diag));
    ESPL_TRY(espl__check_dtype(node, 0, NUMBERS, diag));
    const espl__value *x = espl__in(node, 0);
    if (node->opset < 10) {
        k = (espl__ints){.v = {espl__attr_int(node, "k", -1)}, .count = 1, .known = true};
    } else {
        ESPL_TRY(espl__read_ints(node, NULL, 1, &k, diag));
        if (!k.present) return espl__fail(diag, ESPL_FORMAT, "TopK: k is missing");
    }
    if (!x->known_rank) {
        for (int i = 0; i < 2; i++) status = espl__set_unknown(node, i, i ? ESPL_S64 : x->dtype);
        return status;
    }
    ESPL_TRY(espl__axis(espl__attr_int(node, "axis", -1), x->shape.rank, &axis, diag));
    espl_shape y = x->shape;
    y.dim[axis] = ESPL_DIM_UNKNOWN;
    if (k.known && k.count == 1) {
        if (k.v[0] < 0 || (x->shape.dim[axis] >= 0 && k.v[0] > x->shape.dim[axis]))
            return espl__fail(diag, ESPL_SHAPE, "TopK: k = %" PRId64 " of %" PRId64 " elements", k.v[0],
                              x->shape.dim[axis]);
        y.dim[axis] = k.v[0];
    }
    ESPL_TRY(espl__set_out(node, 0, x->dtype, &y, diag));
    status = espl__set_out(node, 1, ESPL_S64, &y, diag);
done:
    return status;
}

typedef struct topk_line {
    espl_dtype dtype;
    const void *data;
    int64_t base, step;
    bool largest;
} topk_line;

/* Whether element a stands before b: by value, then by index. */
static bool stands_before(const topk_line *t, int64_t a, int64_t b) {
    const void *pa = espl__at(t->data, t->dtype, t->base + a * t->step);
    const void *pb = espl__at(t->data, t->dtype, t->base + b * t->step);
    if (before(t->dtype, pa, pb, t->largest)) return true;
    return !before(t->dtype, pb, pa, t->largest) && a < b;
}

/* Restores the heap whose root is the element that stands last. */
static void sift_down(const topk_line *t, int64_t *heap, int64_t n, int64_t at) {
    for (;;) {
        int64_t child = 2 * at + 1;
        if (child >= n) return;
        if (child + 1 < n && stands_before(t, heap[child], heap[child + 1])) child++;
        if (!stands_before(t, heap[at], heap[child])) return;
        int64_t swap = heap[at];
        heap[at] = heap[child];
        heap[child] = swap;
        at = child;
    }
}

/* The k first elements in order: a heap of k, then heap sort. */
static void top_line(const topk_line *t, int64_t n, int64_t k, int64_t *heap) {
    for (int64_t i = 0; i < k; i++) heap[i] = i;
    for (int64_t i = k / 2 - 1; i >= 0; i--) sift_down(t, heap, k, i);
    for (int64_t i = k; i < n; i++)
        if (k > 0 && stands_before(t, i, heap[0])) {
            heap[0] = i;
            sift_down(t, heap, k, 0);
        }
    for (int64_t end = k - 1; end > 0; end--) {
        int64_t swap = heap[0];
        heap[0] = heap[end];
        heap[end] = swap;
        sift_down(t, heap, end, 0);
    }
}

static void eval_topk(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    int axis;
    if (espl__axis(espl__attr_int(node, "axis", -1), in[0].shape.rank, &axis, NULL) != ESPL_OK) return;
    lines l = lines_of(&in[0].shape, axis);
    espl_dtype dtype = in[0].dtype;
    espl_shape shape = out[0].data ? out[0].shape : out[1].shape;
    int64_t k = shape.dim[axis], *heap = scratch;
    size_t elem = espl_dtype_bytes(dtype);
    if (espl__is_empty(&out[0])) return;
    for (int64_t o = 0; o < l.outer; o++)
        for (int64_t i = 0; i < l.inner; i++) {
            topk_line t = {dtype, in[0].data, o * l.n * l.inner + i, l.inner,
                           espl__attr_int(node, "largest", 1) != 0};
            top_line(&t, l.n, k, heap);
            for (int64_t r = 0; r < k; r++) {
                int64_t at = (o * k + r) * l.inner + i;
                memcpy(espl__at_mut(out[0].data, dtype, at),
                       espl__at(t.data, dtype, t.base + heap[r] * t.step), elem);
                ((int64_t *)out[1].data)[at] = heap[r];
            }
        }
}

static uint64_t scratch_topk(const espl__node *node) {
    const espl_shape *x = &node->inputs[0]->shape;
    int axis;
    if (espl__axis(espl__attr_int(node, "axis", -1), x->rank, &axis, NULL) != ESPL_OK) return 0;
    return sizeof(int64_t) * (uint64_t)x->dim[axis];
}

#define DEFINE_SELECT(Name, inputs, outputs, first, infer_fn, eval_fn, scratch_fn) \
    const espl__op espl__op_##Name = {.name = #Name,                               \
                                      .domain = "",                                \
                                      .min_inputs = 1,                             \
                                      .max_inputs = inputs,                        \
                                      .min_outputs = outputs,                      \
                                      .max_outputs = outputs,                      \
                                      .since = first,                              \
                                      .until = 21,                                 \
                                      .infer = infer_fn,                           \
                                      .eval = eval_fn,                             \
                                      .scratch_bytes = scratch_fn,                 \
                                      .quant = ESPL__QUANT_FLOAT};
DEFINE_SELECT(ArgMax, 1, 1, 1, infer_arg, eval_argmax, NULL)
DEFINE_SELECT(ArgMin, 1, 1, 1, infer_arg, eval_argmin, NULL)
DEFINE_SELECT(CumSum, 2, 1, 11, infer_cumsum, eval_cumsum, NULL)
DEFINE_SELECT(TopK, 2, 2, 1, infer_topk, eval_topk, scratch_topk)
