/* Geometry of windows: one reading of kernel_shape, strides, dilations, pads, auto_pad and ceil_mode for all
 * operators. */
#include "ops/ops.h"

#include <inttypes.h>

/* Bounds under which no product or sum below can overflow. */
enum { MAX_ATTR = 1 << 30 };
static const int64_t max_extent = (int64_t)1 << 40;

static espl_status read_spatial(const espl__node *node, const char *name, int rank, int64_t fallback,
                                int64_t min, int64_t *out, espl_diag *diag) {
    int64_t v[ESPL__MAX_SPATIAL];
    if (!espl__attr_find(node, name)) {
        for (int i = 0; i < rank; i++) out[i] = fallback;
        return ESPL_OK;
    }
    int count = espl__attr_ints(node, name, v, ESPL__MAX_SPATIAL);
    if (count != rank)
        return espl__fail(diag, ESPL_SHAPE, "%s: attribute %s has %d numbers where %d are expected",
                          node->op->name, name, count, rank);
    for (int i = 0; i < rank; i++) {
        if (v[i] < min || v[i] > MAX_ATTR)
            return espl__fail(diag, ESPL_FORMAT,
                              "%s: attribute %s holds %" PRId64 ", which is not a possible size",
                              node->op->name, name, v[i]);
        out[i] = v[i];
    }
    return ESPL_OK;
}

static espl_status read_pads(const espl__node *node, espl__window *w, espl_diag *diag) {
    int64_t v[2 * ESPL__MAX_SPATIAL] = {0};
    if (!espl__attr_find(node, "pads")) return ESPL_OK;
    int count = espl__attr_ints(node, "pads", v, 2 * ESPL__MAX_SPATIAL);
    if (count != 2 * w->rank)
        return espl__fail(diag, ESPL_SHAPE, "%s: attribute pads has %d numbers where %d are expected",
                          node->op->name, count, 2 * w->rank);
    for (int i = 0; i < count; i++)
        if (v[i] < 0 || v[i] > MAX_ATTR)
            return espl__fail(diag, ESPL_UNSUPPORTED, "%s: padding by %" PRId64 " is not supported",
                              node->op->name, v[i]);
    for (int i = 0; i < w->rank; i++) {
        w->begin[i] = v[i];
        w->end[i] = v[w->rank + i];
    }
    return ESPL_OK;
}

static espl_status read_kernel(const espl__node *node, const espl_shape *weights, espl__window *w,
                               espl_diag *diag) {
    bool given = espl__attr_find(node, "kernel_shape") != NULL;
    if (!given && !weights)
        return espl__fail(diag, ESPL_FORMAT, "%s: attribute kernel_shape is missing", node->op->name);
    espl_status status = read_spatial(node, "kernel_shape", w->rank, 0, 1, w->kernel, diag);
    if (status != ESPL_OK || !weights) return status;
    for (int i = 0; i < w->rank; i++) {
        int64_t d = weights->dim[2 + i];
        if (!given && d < 0)
            return espl__fail(diag, ESPL_UNSUPPORTED,
                              "%s: the size of the kernel is not known; give kernel_shape", node->op->name);
        if ((given && !espl__dims_agree(w->kernel[i], d)) || d == 0 || d > MAX_ATTR)
            return espl__fail(diag, ESPL_SHAPE,
                              "%s: kernel_shape says %" PRId64
                              " along spatial axis %d and the weights say %" PRId64,
                              node->op->name, w->kernel[i], i, d);
        if (d > 0) w->kernel[i] = d;
    }
    return ESPL_OK;
}

espl_status espl__window_attrs(const espl__node *node, const espl_shape *x, const espl_shape *weights,
                               espl__window *w, espl_diag *diag) {
    espl_status status;
    *w = (espl__window){.rank = x->rank - 2};
    if (w->rank < 1 || w->rank > ESPL__MAX_SPATIAL)
        return espl__fail(diag, ESPL_UNSUPPORTED,
                          "%s: an input of %d dimensions is not supported (3 to 5 are)", node->op->name,
                          x->rank);
    if (weights && weights->rank != x->rank)
        return espl__fail(diag, ESPL_SHAPE, "%s: the weights have %d dimensions and the input has %d",
                          node->op->name, weights->rank, x->rank);
    for (int i = 0; i < w->rank; i++) {
        w->in[i] = x->dim[2 + i];
        w->out[i] = ESPL_DIM_UNKNOWN;
        if (w->in[i] > max_extent)
            return espl__fail(diag, ESPL_LIMIT,
                              "%s: an input of %" PRId64 " elements along one axis is too large",
                              node->op->name, w->in[i]);
    }
    ESPL_TRY(read_kernel(node, weights, w, diag));
    ESPL_TRY(read_spatial(node, "strides", w->rank, 1, 1, w->stride, diag));
    ESPL_TRY(read_spatial(node, "dilations", w->rank, 1, 1, w->dilation, diag));
    ESPL_TRY(read_pads(node, w, diag));
done:
    return status;
}

/* SAME: as many outputs as strides fit into the input; what the windows lack is padded, the odd element at
 * the end (SAME_UPPER) or at the beginning (SAME_LOWER). */
static void same_axis(espl__window *w, int i, bool upper) {
    if (w->in[i] < 0) return;
    int64_t extent = (w->kernel[i] - 1) * w->dilation[i] + 1;
    w->out[i] = (w->in[i] + w->stride[i] - 1) / w->stride[i];
    int64_t pad = w->out[i] > 0 ? (w->out[i] - 1) * w->stride[i] + extent - w->in[i] : 0;
    pad = ESPL_MAX(pad, 0);
    w->begin[i] = upper ? pad / 2 : pad - pad / 2;
    w->end[i] = pad - w->begin[i];
}

static void sized_axis(espl__window *w, int i, bool ceil_mode) {
    if (w->in[i] < 0) return;
    int64_t extent = (w->kernel[i] - 1) * w->dilation[i] + 1;
    int64_t room = w->in[i] + w->begin[i] + w->end[i] - extent;
    if (room < 0) {
        w->out[i] = 0;
        return;
    }
    w->out[i] = (room + (ceil_mode ? w->stride[i] - 1 : 0)) / w->stride[i] + 1;
    /* A window that starts beyond the input and its leading padding would see nothing. */
    if (ceil_mode && (w->out[i] - 1) * w->stride[i] >= w->in[i] + w->begin[i]) w->out[i]--;
}

espl_status espl__window_resolve(const espl__node *node, const espl_shape *x, const espl_shape *weights,
                                 espl__window *w, espl_diag *diag) {
    espl_status status = espl__window_attrs(node, x, weights, w, diag);
    if (status != ESPL_OK) return status;
    const char *mode = espl__attr_string(node, "auto_pad", "NOTSET");
    bool upper = strcmp(mode, "SAME_UPPER") == 0, lower = strcmp(mode, "SAME_LOWER") == 0;
    bool valid = strcmp(mode, "VALID") == 0;
    if (!upper && !lower && !valid && strcmp(mode, "NOTSET") != 0)
        return espl__fail(diag, ESPL_FORMAT,
                          "%s: auto_pad '%s' is none of NOTSET, SAME_UPPER, SAME_LOWER and VALID",
                          node->op->name, mode);
    for (int i = 0; i < w->rank; i++) {
        if (upper || lower || valid) w->begin[i] = w->end[i] = 0;
        if (upper || lower)
            same_axis(w, i, upper);
        else
            sized_axis(w, i, espl__attr_int(node, "ceil_mode", 0) != 0);
        if (w->out[i] == 0 && w->in[i] > 0)
            return espl__fail(diag, ESPL_SHAPE,
                              "%s: a kernel of %" PRId64 " (dilation %" PRId64 ") does not fit into %" PRId64
                              " elements of spatial axis %d and their padding",
                              node->op->name, w->kernel[i], w->dilation[i], w->in[i], i);
    }
    return ESPL_OK;
}

void espl__window_lift(espl__window *w) {
    int shift = ESPL__MAX_SPATIAL - w->rank;
    for (int i = ESPL__MAX_SPATIAL - 1; i >= 0; i--) {
        bool own = i >= shift;
        w->kernel[i] = own ? w->kernel[i - shift] : 1;
        w->stride[i] = own ? w->stride[i - shift] : 1;
        w->dilation[i] = own ? w->dilation[i - shift] : 1;
        w->begin[i] = own ? w->begin[i - shift] : 0;
        w->end[i] = own ? w->end[i - shift] : 0;
        w->in[i] = own ? w->in[i - shift] : 1;
        w->out[i] = own ? w->out[i - shift] : 1;
    }
    w->rank = ESPL__MAX_SPATIAL;
}

void espl__window_valid(int64_t offset, int64_t stride, int64_t in, int64_t n, int64_t *lo, int64_t *hi) {
    int64_t first = offset >= 0 ? 0 : (-offset + stride - 1) / stride;
    int64_t last = offset >= in ? 0 : (in - 1 - offset) / stride + 1;
    *lo = ESPL_MIN(first, n);
    *hi = ESPL_MAX(ESPL_MIN(last, n), *lo);
}
