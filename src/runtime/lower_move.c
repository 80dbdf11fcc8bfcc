/* Operators that move elements: each is a copy between two strided views, or nothing at all. */
#include "runtime/lower.h"
#include "ops/ops.h"
#include "passes/passes.h"

/* What is stored in this view needs no other codes to be y. */
static bool same_store(const espl__value *y, const view *v) {
    float scale;
    int32_t zero;
    if (espl__plan_store_type(y) != v->type) return false;
    return !espl__plan_grid(y, &scale, &zero) || (scale == v->scale && zero == v->zero);
}

/* Reshape, Flatten, Squeeze, Unsqueeze, Identity: the same rows under another shape. */
espl_status espl__lower_view(espl_session *s, espl__node *n, bool *taken, espl_diag *diag) {
    espl_status status = ESPL_OK;
    const espl__value *x = n->inputs[0], *y = n->outputs[0];
    view in, out, same;
    *taken = true;
    ESPL_TRY(espl__plan_require(s, n, x, espl__plan_store_type(x), WANT_ROWS, 1, &in, diag));
    same = espl__view_rows(&y->shape, in.type, 0);
    same.buffer = in.buffer;
    same.offset = in.offset;
    same.quantized = in.quantized;
    same.scale = in.scale;
    same.zero = in.zero;
    if (same_store(y, &in)) return espl__plan_produce(s, y, &same, diag);
    ESPL_TRY(espl__plan_output(s, y, espl__plan_store_type(y), &out, diag));
    ESPL_TRY(espl__plan_convert(s, n, &same, &out, diag));
    ESPL_TRY(espl__plan_produce(s, y, &out, diag));
done:
    return status;
}

/* Copies `src`, a view of elements of some input, to the whole output `index` of the node. */
static espl_status move_to_output(espl_session *s, espl__node *n, int index, const view *src,
                                  espl_diag *diag) {
    view out;
    const espl__value *y = n->outputs[index];
    espl_status status = espl__plan_output(s, y, espl__plan_store_type(y), &out, diag);
    if (status == ESPL_OK) status = espl__plan_convert(s, n, src, &out, diag);
    return status == ESPL_OK ? espl__plan_produce(s, y, &out, diag) : status;
}

espl_status espl__lower_transpose(espl_session *s, espl__node *n, bool *taken, espl_diag *diag) {
    espl_status status = ESPL_OK;
    const espl__value *x = n->inputs[0];
    int64_t perm[ESPL_MAX_RANK];
    int rank = x->shape.rank, given = espl__attr_ints(n, "perm", perm, ESPL_MAX_RANK);
    view in, turned;
    *taken = true;
    for (int i = 0; given == 0 && i < rank; i++) perm[i] = rank - 1 - i;
    ESPL_TRY(espl__plan_require(s, n, x, espl__plan_store_type(x), WANT_ANY, 1, &in, diag));
    turned = in;
    for (int i = 0; i < rank; i++) {
        turned.dim[i] = in.dim[perm[i]];
        turned.stride[i] = in.stride[perm[i]];
    }
    if (same_store(n->outputs[0], &in)) { /* whoever reads it copies it, or takes its strides as they are */
        turned.nhwc = false;
        return espl__plan_produce(s, n->outputs[0], &turned, diag);
    }
    ESPL_TRY(move_to_output(s, n, 0, &turned, diag));
done:
    return status;
}

espl_status espl__lower_slice(espl_session *s, espl__node *n, bool *taken, espl_diag *diag) {
    espl_status status = ESPL_OK;
    const espl__value *x = n->inputs[0];
    int64_t start[ESPL_MAX_RANK], by[ESPL_MAX_RANK];
    view in;
    if (espl_shape_count(&n->outputs[0]->shape) == 0 || !espl__slice_ranges(n, &x->shape, start, by))
        return ESPL_OK;
    *taken = true;
    ESPL_TRY(espl__plan_require(s, n, x, espl__plan_store_type(x), WANT_ANY, 1, &in, diag));
    for (int d = 0; d < x->shape.rank; d++) {
        in.offset += start[d] * in.stride[d];
        in.stride[d] *= by[d];
        in.dim[d] = n->outputs[0]->shape.dim[d];
    }
    ESPL_TRY(move_to_output(s, n, 0, &in, diag));
done:
    return status;
}

espl_status espl__lower_split(espl_session *s, espl__node *n, bool *taken, espl_diag *diag) {
    espl_status status = ESPL_OK;
    const espl__value *x = n->inputs[0];
    int64_t axis = espl__attr_int(n, "axis", 0);
    view in;
    if (axis < 0) axis += x->shape.rank;
    *taken = true;
    ESPL_TRY(espl__plan_require(s, n, x, espl__plan_store_type(x), WANT_ANY, 1, &in, diag));
    for (int i = 0; i < n->output_count; i++) {
        if (!n->outputs[i]) return espl__fail(diag, ESPL_UNSUPPORTED, "Split with an absent output");
        in.dim[axis] = n->outputs[i]->shape.dim[axis];
        ESPL_TRY(move_to_output(s, n, i, &in, diag));
        in.offset += in.dim[axis] * in.stride[axis];
    }
done:
    return status;
}

espl_status espl__lower_concat(espl_session *s, espl__node *n, bool *taken, espl_diag *diag) {
    espl_status status = ESPL_OK;
    const espl__value *y = n->outputs[0];
    int64_t axis = espl__attr_int(n, "axis", 1);
    view out, part;
    if (axis < 0) axis += y->shape.rank;
    for (int i = 0; i < n->input_count; i++)
        if (!n->inputs[i]) return ESPL_OK;
    *taken = true;
    ESPL_TRY(espl__plan_output(s, y, espl__plan_store_type(y), &out, diag));
    part = out;
    for (int i = 0; i < n->input_count; i++) {
        const espl__value *x = n->inputs[i];
        view in;
        if (espl_shape_count(&x->shape) == 0) continue;
        ESPL_TRY(espl__plan_require(s, n, x, espl__plan_store_type(x), WANT_ANY, 1, &in, diag));
        part.dim[axis] = x->shape.dim[axis];
        ESPL_TRY(espl__plan_convert(s, n, &in, &part, diag));
        part.offset += part.dim[axis] * part.stride[axis];
    }
    ESPL_TRY(espl__plan_produce(s, y, &out, diag));
done:
    return status;
}

espl_status espl__lower_pad(espl_session *s, espl__node *n, bool *taken, espl_diag *diag) {
    espl_status status = ESPL_OK;
    const espl__value *x = n->inputs[0], *y = n->outputs[0], *fill = n->input_count > 2 ? n->inputs[2] : NULL;
    espl__ints pads;
    view in, out, inner;
    int rank = x->shape.rank;
    float value = espl__attr_float(n, "value", 0);
    if (x->dtype != ESPL_F32 || strcmp(espl__attr_string(n, "mode", "constant"), "constant") != 0)
        return ESPL_OK;
    if ((fill && !fill->constant) || (n->input_count > 3 && n->inputs[3])) return ESPL_OK;
    if (fill) {
        const espl_tensor *number = espl__constant_f32(s->graph, fill);
        if (!number || espl_shape_count(&number->shape) != 1) return ESPL_OK;
        value = *(const float *)number->data;
    }
    if (espl__read_ints(n, "pads", 1, &pads, NULL) != ESPL_OK || !pads.known || pads.count != 2 * rank)
        return ESPL_OK;
    for (int i = 0; i < 2 * rank; i++)
        if (pads.v[i] < 0) return ESPL_OK;
    *taken = true;
    ESPL_TRY(espl__plan_require(s, n, x, espl__plan_store_type(x), WANT_ANY, 1, &in, diag));
    ESPL_TRY(espl__plan_output(s, y, espl__plan_store_type(y), &out, diag));
    ESPL_TRY(espl__plan_fill(s, n, &out, value, diag));
    inner = out;
    inner.nhwc = false; /* a part of it: the bytes behind its channels are not free */
    for (int d = 0; d < rank; d++) {
        inner.offset += pads.v[d] * out.stride[d];
        inner.dim[d] = x->shape.dim[d];
    }
    ESPL_TRY(espl__plan_convert(s, n, &in, &inner, diag));
    ESPL_TRY(espl__plan_produce(s, y, &out, diag));
done:
    return status;
}
