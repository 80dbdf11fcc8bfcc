/* Pad: constant, reflect, edge or wrap; negative amounts crop. Attributes before opset 11, inputs since, axes
 * since 18. */
#include "ops/ops.h"

#include <inttypes.h>

static const int64_t max_amount = (int64_t)1 << 40;
enum { MODE_CONSTANT, MODE_REFLECT, MODE_EDGE, MODE_WRAP, MODE_COUNT };

typedef struct padding {
    bool known;
    int mode;
    int64_t begin[ESPL_MAX_RANK], end[ESPL_MAX_RANK];
} padding;

static espl_status read_mode(const espl__node *node, int *mode, espl_diag *diag) {
    static const char *const names[] = {"constant", "reflect", "edge", "wrap"};
    const char *name = espl__attr_string(node, "mode", "constant");
    for (*mode = 0; *mode < MODE_COUNT; (*mode)++)
        if (strcmp(name, names[*mode]) == 0) return ESPL_OK;
    return espl__fail(diag, ESPL_UNSUPPORTED, "Pad: mode '%s' is none of constant, reflect, edge and wrap",
                      name);
}

static espl_status resolve(const espl__node *node, const espl_shape *x, padding *p, espl_diag *diag) {
    espl_status status;
    espl__ints pads, axes;
    bool old = node->opset < 11, seen[ESPL_MAX_RANK] = {false};
    *p = (padding){0};
    ESPL_TRY(read_mode(node, &p->mode, diag));
    ESPL_TRY(espl__read_ints(node, old ? "pads" : NULL, 1, &pads, diag));
    ESPL_TRY(espl__read_ints(node, NULL, 3, &axes, diag));
    if (!pads.present) return espl__fail(diag, ESPL_FORMAT, "Pad: pads are missing");
    p->known = pads.known && (!axes.present || axes.known);
    if (!p->known) return ESPL_OK;
    int n = axes.present ? axes.count : x->rank;
    if (pads.count != 2 * n)
        return espl__fail(diag, ESPL_SHAPE, "Pad: %d amounts for %d axes", pads.count, n);
    for (int i = 0; i < n; i++) {
        int axis = i;
        if (axes.present) ESPL_TRY(espl__axis(axes.v[i], x->rank, &axis, diag));
        if (seen[axis]) return espl__fail(diag, ESPL_FORMAT, "Pad: axis %d is named twice", axis);
        seen[axis] = true;
        p->begin[axis] = pads.v[i];
        p->end[axis] = pads.v[n + i];
        for (int k = 0; k < 2; k++)
            if (pads.v[i + k * n] < -max_amount || pads.v[i + k * n] > max_amount)
                return espl__fail(diag, ESPL_LIMIT, "Pad: an amount of %" PRId64 " is too large",
                                  pads.v[i + k * n]);
    }
done:
    return status;
}

static espl_status infer(const espl__node *node, espl_diag *diag) {
    espl_status status;
    padding p;
    ESPL_TRY(espl__op_begin(node, diag));
    if (node->opset >= 11) ESPL_TRY(espl__check_same_dtype(node, 0, 2, diag));
    const espl__value *x = espl__in(node, 0), *fill = espl__in(node, 2);
    if (node->opset < 11) ESPL_TRY(espl__check_dtype(node, 0, ESPL__T(F32), diag));
    if (fill && fill->known_rank && espl_shape_count(&fill->shape) >= 0 &&
        espl_shape_count(&fill->shape) != 1)
        return espl__fail(diag, ESPL_SHAPE, "Pad: the constant value is not a scalar");
    if (!x->known_rank) return espl__set_unknown(node, 0, x->dtype);
    ESPL_TRY(resolve(node, &x->shape, &p, diag));
    espl_shape y = x->shape;
    for (int i = 0; i < y.rank; i++) {
        int64_t d = x->shape.dim[i];
        if (!p.known || d < 0) {
            y.dim[i] = ESPL_DIM_UNKNOWN;
            continue;
        }
        if (d > max_amount) return espl__fail(diag, ESPL_LIMIT, "Pad: the input is too large");
        y.dim[i] = d + p.begin[i] + p.end[i];
        if (y.dim[i] < 0 || d + p.begin[i] < 0 || d + p.end[i] < 0)
            return espl__fail(diag, ESPL_SHAPE,
                              "Pad: axis %d of %" PRId64 " elements is cropped by more than it has", i, d);
        if (d == 0 && y.dim[i] > 0 && p.mode != MODE_CONSTANT)
            return espl__fail(diag, ESPL_SHAPE, "Pad: axis %d is empty, so there is nothing to repeat", i);
    }
    status = espl__set_out(node, 0, x->dtype, &y, diag);
done:
    return status;
}

/* Where position i of d elements (maybe outside) is read from; -1: the constant. */
static int64_t source(int64_t i, int64_t d, int mode) {
    if (i >= 0 && i < d) return i;
    if (mode == MODE_CONSTANT) return -1;
    if (mode == MODE_EDGE) return i < 0 ? 0 : d - 1;
    if (d == 1) return 0;
    int64_t period = mode == MODE_WRAP ? d : 2 * (d - 1), r = i % period;
    if (r < 0) r += period;
    return r < d ? r : period - r;
}

static void pad_row(const padding *p, int axis, char *to, const char *from, const char *fill, size_t elem,
                    int64_t d, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        int64_t at = from ? source(i - p->begin[axis], d, p->mode) : -1;
        memcpy(to + (size_t)i * elem, at < 0 ? fill : from + (size_t)at * elem, elem);
    }
}

static void eval(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)scratch;
    padding p;
    const espl_shape *x = &in[0].shape, *y = &out[0].shape;
    size_t elem = espl_dtype_bytes(in[0].dtype);
    int64_t stride[ESPL_MAX_RANK], index[ESPL_MAX_RANK] = {0}, rows = 1;
    char fill[8] = {0};
    float old_value = espl__attr_float(node, "value", 0.0f);
    if (espl_shape_count(y) == 0 || resolve(node, x, &p, NULL) != ESPL_OK) return;
    if (node->opset < 11)
        memcpy(fill, &old_value, sizeof old_value);
    else if (node->input_count > 2 && in[2].data)
        memcpy(fill, in[2].data, elem);
    if (x->rank == 0) {
        memcpy(out[0].data, in[0].data, elem);
        return;
    }
    int last = x->rank - 1;
    espl__strides(x, stride);
    rows = espl__dims_product(y, 0, last);
    char *to = out[0].data;
    for (int64_t r = 0; r < rows; r++, to += (size_t)y->dim[last] * elem) {
        int64_t offset = 0;
        bool inside = true;
        for (int i = 0; i < last; i++) {
            int64_t at = source(index[i] - p.begin[i], x->dim[i], p.mode);
            inside = inside && at >= 0;
            offset += at * stride[i];
        }
        pad_row(&p, last, to, inside ? (const char *)in[0].data + (size_t)offset * elem : NULL, fill, elem,
                x->dim[last], y->dim[last]);
        for (int i = last - 1; i >= 0 && ++index[i] == y->dim[i]; i--) index[i] = 0;
    }
}

const espl__op espl__op_Pad = {
    .name = "Pad", .domain = "", .min_inputs = 1, .max_inputs = 4, .min_outputs = 1, .max_outputs = 1,
    .since = 2, .until = 21, .infer = infer, .eval = eval, .quant = ESPL__QUANT_MOVE,
};
