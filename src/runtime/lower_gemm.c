/* Gemm and MatMul with constant weights. */
#include "runtime/linear.h"
#include "runtime/wonly.h"

typedef struct matrix_order {
    int64_t stride_c, stride_k, k; /* element (channel, i) at channel * stride_c + i * stride_k */
} matrix_order;

/* One element a channel, along the last dimension (a column [C, 1] would be one a row). */
static bool per_channel(const espl_shape *shape, int64_t channels) {
    return espl_shape_count(shape) == channels && shape->rank >= 1 && shape->dim[shape->rank - 1] == channels;
}

/* x [..., k] times the matrix of `order`, [channels] outputs. */
static espl_status lower_matrix(espl_session *s, espl__node *n, const matrix_order *order, int axis,
                                int64_t channels, bool *taken, espl_diag *diag) {
    espl_status status = ESPL_OK;
    static const int32_t one_segment[1];
    weights w = {0};
    fusion f;
    view in, out, final, res = {0};
    const espl__value *x = n->inputs[0], *wv = n->inputs[1];
    const espl__value *bias = n->input_count > 2 ? n->inputs[2] : NULL;
    if (x->shape.rank < 1 || channels == 0 || (bias && !bias->constant)) return ESPL_OK;
    if (bias && !per_channel(&bias->shape, channels)) return ESPL_OK;
    bool integer = espl__plan_store_type(x) == ESPL_U8 && espl__weights_integer(wv, axis, &w) &&
                   accumulator_fits(order->k);
    if (!integer) {
        const wonly_matrix m = {channels, order->k, order->stride_c, order->stride_k, axis, 1 - axis};
        status = espl__lower_wonly(s, n, &m, espl__attr_int(n, "espl_dynamic", 0) != 0, taken, diag);
        if (status != ESPL_OK || *taken) return status;
    }
    espl__plan_fuse(s, n, integer ? FUSE_INTEGER : FUSE_FLOAT, &f);
    s->spatial[f.out->id] = 0; /* matrices are stored by rows, whatever their neighbours would like */
    *taken = true;
    espl_dtype type = integer ? ESPL_U8 : ESPL_F32;
    ESPL_TRY(espl__plan_require(s, n, x, type, WANT_ROWS, integer ? 4 : 1, &in, diag));
    if (f.residual) ESPL_TRY(espl__plan_require(s, n, f.residual, type, WANT_ROWS, 1, &res, diag));
    ESPL_TRY(espl__plan_store(s, f.out, integer, &out, &final, diag));
    linear_step *l = espl__plan_step(s, sizeof *l, n, "gemm", espl__linear_run);
    if (!l) return espl__nomem(diag, sizeof *l);
    l->has_res = f.residual != NULL;
    l->u8_in = integer;
    l->u8_out = integer && out.type == ESPL_U8;
    l->in = in;
    l->out = out;
    l->res = res;
    l->groups = 1;
    if (!integer) {
        const espl_format format = wv->quant.format;
        const bool halves = format == ESPL_FORMAT_F16 || format == ESPL_FORMAT_BF16;
        ESPL_TRY(espl__weights_float(s, wv, &w, diag));
        l->p.values = !halves ? ESPL_F32 : format == ESPL_FORMAT_F16 ? ESPL_F16 : ESPL_BF16;
    }
    int64_t k = integer ? (order->k + 3) / 4 * 4 : order->k;
    espl__weight_order whole = {.channels = channels,
                                .segments = 1,
                                .taps = 1,
                                .stored = k,
                                .real = order->k,
                                .by_channel = order->stride_c,
                                .by_input = order->stride_k};
    l->p.channels = (int32_t)channels;
    l->p.segments = 1;
    l->p.seg_off = one_segment;
    l->p.seg_k = (int32_t)(integer ? k / 4 : k);
    l->p.in_step = row_stride(&in);
    l->p.out_step = row_stride(&out);
    l->p.res_step = l->has_res ? row_stride(&res) : 0;
    espl__linear_flatten(l, espl_shape_count(&x->shape) / ESPL_MAX(order->k, 1), l->p.in_step, l->p.out_step,
                         l->p.res_step);
    ESPL_TRY(espl__linear_pack(s, &w, &whole, 1, l, diag));
    if (integer)
        ESPL_TRY(espl__weights_scale(s, &w, &in, &f, 1, channels, l->u8_out, &l->res, &l->p, diag));
    else
        ESPL_TRY(espl__weights_bias(s, &f, 1, channels, &l->p, diag));
    ESPL_TRY(espl__linear_finish(s, n, &f, l, &final, diag));
done:
    espl__weights_done(s, &w);
    return status;
}

espl_status espl__lower_gemm(espl_session *s, espl__node *n, bool *taken, espl_diag *diag) {
    const espl__value *w = n->inputs[1];
    if (!w->constant || espl__attr_int(n, "transA", 0) || espl__attr_float(n, "alpha", 1) != 1 ||
        espl__attr_float(n, "beta", 1) != 1 || espl_shape_count(&n->inputs[0]->shape) == 0)
        return ESPL_OK;
    bool transposed = espl__attr_int(n, "transB", 0) != 0;
    int64_t channels = w->shape.dim[transposed ? 0 : 1], k = w->shape.dim[transposed ? 1 : 0];
    matrix_order order = {transposed ? k : 1, transposed ? 1 : channels, k};
    return lower_matrix(s, n, &order, transposed ? 0 : 1, channels, taken, diag);
}

espl_status espl__lower_matmul(espl_session *s, espl__node *n, bool *taken, espl_diag *diag) {
    const espl__value *w = n->inputs[1];
    if (!w->constant) return espl__lower_matmul_dynamic(s, n, taken, diag);
    if (w->shape.rank != 2 || espl_shape_count(&n->inputs[0]->shape) == 0) return ESPL_OK;
    if (espl__attr_int(n, "espl_dynamic", 0) && espl_format_bits(w->quant.format) > 4) { /* fewer bits: lower_wonly.c */
        espl_status status = espl__lower_matmul_rounded(s, n, taken, diag);
        if (status != ESPL_OK || *taken) return status;
    }
    matrix_order order = {1, w->shape.dim[1], w->shape.dim[0]};
    return lower_matrix(s, n, &order, 1, w->shape.dim[1], taken, diag);
}
