/* Col2Im: blocks of columns are added to the places of the image that they were cut from. CenterCropPad: each
 * axis is cropped or filled up with zeros on both sides alike. */
#include "ops/col2im.h"

#include <inttypes.h>

static espl_status read_spatial(const espl__node *node, const char *name, int count, int64_t fallback,
                                int64_t least, int64_t *out, espl_diag *diag) {
    int64_t v[2 * ESPL__MAX_SPATIAL];
    bool given = espl__attr_find(node, name) != NULL;
    if (given && espl__attr_ints(node, name, v, 2 * ESPL__MAX_SPATIAL) != count)
        return espl__fail(diag, ESPL_SHAPE, "Col2Im: attribute %s does not have %d numbers", name, count);
    for (int i = 0; i < count; i++) {
        out[i] = given ? v[i] : fallback;
        if (out[i] < least || out[i] > INT32_MAX)
            return espl__fail(diag, ESPL_FORMAT, "Col2Im: attribute %s holds %" PRId64, name, out[i]);
    }
    return ESPL_OK;
}

espl_status espl__col2im_resolve(const espl__node *node, espl__window *w, bool *known, int64_t *blocks,
                                 int64_t *taps, espl_diag *diag) {
    espl_status status;
    espl__ints image, block;
    int64_t pads[2 * ESPL__MAX_SPATIAL];
    *w = (espl__window){.rank = 0};
    ESPL_TRY(espl__read_ints(node, NULL, 1, &image, diag));
    ESPL_TRY(espl__read_ints(node, NULL, 2, &block, diag));
    *known = image.known && block.known;
    *blocks = *taps = 1;
    w->rank = ESPL_MAX(image.count, block.count);
    if (w->rank < 0) return ESPL_OK;
    if (w->rank < 1 || w->rank > ESPL__MAX_SPATIAL ||
        (image.count >= 0 && block.count >= 0 && image.count != block.count))
        return espl__fail(diag, ESPL_UNSUPPORTED,
                          "Col2Im: image and block need 1 to %d dimensions, as many each", ESPL__MAX_SPATIAL);
    ESPL_TRY(read_spatial(node, "dilations", w->rank, 1, 1, w->dilation, diag));
    ESPL_TRY(read_spatial(node, "strides", w->rank, 1, 1, w->stride, diag));
    ESPL_TRY(read_spatial(node, "pads", 2 * w->rank, 0, 0, pads, diag));
    for (int i = 0; i < w->rank && *known; i++) {
        w->begin[i] = pads[i];
        w->end[i] = pads[w->rank + i];
        w->in[i] = image.v[i];
        w->kernel[i] = block.v[i];
        if (w->in[i] < 1 || w->in[i] > INT32_MAX || w->kernel[i] < 1 || w->kernel[i] > INT32_MAX)
            return espl__fail(diag, ESPL_SHAPE, "Col2Im: an image or a block of no size");
        int64_t room = w->in[i] + w->begin[i] + w->end[i] - (w->kernel[i] - 1) * w->dilation[i] - 1;
        if (room < 0) return espl__fail(diag, ESPL_SHAPE, "Col2Im: a block does not fit into the image");
        w->out[i] = room / w->stride[i] + 1;
        *blocks = espl__mul_sat(*blocks, w->out[i]);
        *taps = espl__mul_sat(*taps, w->kernel[i]);
    }
done:
    return status;
}

static espl_status infer(const espl__node *node, espl_diag *diag) {
    espl_status status;
    espl__window w;
    bool known;
    int64_t blocks, taps;
    ESPL_TRY(espl__op_begin(node, diag));
    ESPL_TRY(espl__check_dtype(node, 0, ESPL__T(F32), diag));
    ESPL_TRY(espl__check_rank(node, 0, 3, 3, diag));
    ESPL_TRY(espl__col2im_resolve(node, &w, &known, &blocks, &taps, diag));
    const espl__value *x = espl__in(node, 0);
    if (!x->known_rank || w.rank < 0) return espl__set_unknown(node, 0, ESPL_F32);
    espl_shape y = {.rank = 2 + w.rank, .dim = {x->shape.dim[0], ESPL_DIM_UNKNOWN}};
    for (int i = 0; i < w.rank; i++) y.dim[2 + i] = known ? w.in[i] : ESPL_DIM_UNKNOWN;
    if (known && !espl__dims_agree(x->shape.dim[2], blocks))
        return espl__fail(diag, ESPL_SHAPE,
                          "Col2Im: %" PRId64 " columns where the image has %" PRId64 " blocks",
                          x->shape.dim[2], blocks);
    if (known && x->shape.dim[1] >= 0) {
        if (x->shape.dim[1] % taps != 0)
            return espl__fail(diag, ESPL_SHAPE,
                              "Col2Im: %" PRId64 " rows are no multiple of a block's %" PRId64 " elements",
                              x->shape.dim[1], taps);
        y.dim[1] = x->shape.dim[1] / taps;
    }
    status = espl__set_out(node, 0, ESPL_F32, &y, diag);
done:
    return status;
}

#define REAL float
#define FN(name) name
#include "ops/col2im.inc.h"
#undef REAL
#undef FN

static void eval(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)scratch;
    espl__window w;
    bool known;
    int64_t blocks, taps;
    if (espl__is_empty(&out[0]) ||
        espl__col2im_resolve(node, &w, &known, &blocks, &taps, NULL) != ESPL_OK || !known)
        return;
    espl__window_lift(&w);
    memset(out[0].data, 0, espl__tensor_bytes(&out[0]));
    col2im_planes(&w, in[0].data, out[0].data, 0, out[0].shape.dim[0] * out[0].shape.dim[1], false);
}

const espl__op espl__op_Col2Im = {
    .name = "Col2Im",
    .domain = "",
    .min_inputs = 3,
    .max_inputs = 3,
    .min_outputs = 1,
    .max_outputs = 1,
    .since = 18,
    .until = 21,
    .infer = infer,
    .eval = eval,
    .quant = ESPL__QUANT_FLOAT,
};

/* --- CenterCropPad --------------------------------------------------------------------------- */

/* shift: index in the input less index in the output. */
static espl_status resolve_center(const espl__node *node, const espl_shape *x, espl_shape *y, int64_t *shift,
                                  bool *known, espl_diag *diag) {
    espl_status status;
    espl__ints sizes, axes;
    bool named[ESPL_MAX_RANK] = {false};
    ESPL_TRY(espl__read_ints(node, NULL, 1, &sizes, diag));
    ESPL_TRY(espl__read_ints(node, "axes", -1, &axes, diag));
    *y = *x;
    *known = sizes.known;
    if (axes.present) ESPL_TRY(espl__axes_mask(&axes, x->rank, named, diag));
    int count = axes.present ? axes.count : x->rank;
    if (sizes.count >= 0 && sizes.count != count)
        return espl__fail(diag, ESPL_SHAPE, "CenterCropPad: %d sizes for %d axes", sizes.count, count);
    for (int i = 0; i < x->rank; i++) shift[i] = 0;
    for (int i = 0; i < count; i++) {
        int axis = i;
        if (axes.present) ESPL_TRY(espl__axis(axes.v[i], x->rank, &axis, diag));
        y->dim[axis] = sizes.known ? sizes.v[i] : ESPL_DIM_UNKNOWN;
        if (sizes.known && (sizes.v[i] < 0 || sizes.v[i] > INT32_MAX))
            return espl__fail(diag, ESPL_SHAPE, "CenterCropPad: a size of %" PRId64 " is not possible",
                              sizes.v[i]);
        if (sizes.known && x->dim[axis] >= 0) {
            int64_t more = x->dim[axis] - sizes.v[i];
            shift[axis] = more >= 0 ? more / 2 : -(-more / 2);
        }
    }
done:
    return status;
}

static espl_status infer_center(const espl__node *node, espl_diag *diag) {
    espl_status status;
    espl_shape y;
    int64_t shift[ESPL_MAX_RANK];
    bool known;
    ESPL_TRY(espl__op_begin(node, diag));
    const espl__value *x = espl__in(node, 0);
    if (!x->known_rank) return espl__set_unknown(node, 0, x->dtype);
    ESPL_TRY(resolve_center(node, &x->shape, &y, shift, &known, diag));
    status = espl__set_out(node, 0, x->dtype, &y, diag);
done:
    return status;
}

static void eval_center(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)scratch;
    espl_shape y;
    int64_t shift[ESPL_MAX_RANK], stride[ESPL_MAX_RANK], index[ESPL_MAX_RANK] = {0};
    bool known;
    const espl_shape *x = &in[0].shape;
    size_t elem = espl_dtype_bytes(in[0].dtype);
    if (espl__is_empty(&out[0]) || resolve_center(node, x, &y, shift, &known, NULL) != ESPL_OK || !known)
        return;
    memset(out[0].data, 0, espl__tensor_bytes(&out[0]));
    espl__strides(x, stride);
    for (int64_t i = 0, n = espl_shape_count(&y); i < n; i++) {
        int64_t from = 0;
        bool inside = true;
        for (int a = 0; a < y.rank; a++) {
            int64_t at = index[a] + shift[a];
            inside = inside && at >= 0 && at < x->dim[a];
            from += at * stride[a];
        }
        if (inside)
            memcpy((char *)out[0].data + (size_t)i * elem, (const char *)in[0].data + (size_t)from * elem,
                   elem);
        for (int a = y.rank - 1; a >= 0 && ++index[a] == y.dim[a]; a--) index[a] = 0;
    }
}

const espl__op espl__op_CenterCropPad = {
    .name = "CenterCropPad",
    .domain = "",
    .min_inputs = 2,
    .max_inputs = 2,
    .min_outputs = 1,
    .max_outputs = 1,
    .since = 18,
    .until = 21,
    .infer = infer_center,
    .eval = eval_center,
    .quant = ESPL__QUANT_FLOAT,
};
