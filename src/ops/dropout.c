/* Dropout. Outside of training it lets everything through, and its mask is all ones. In training mode, which
 * an input of operator set 12 says, it keeps each element with probability 1 - ratio and scales what it keeps
 * by 1 / (1 - ratio). A model that is given so is run so: some estimate with it how sure a network is (Gal
 * and Ghahramani 2016). */
#include "ops/ops.h"

static bool is_scalar(const espl__value *v) {
    return !v || !v->known_rank || espl_shape_count(&v->shape) < 0 || espl_shape_count(&v->shape) == 1;
}

static espl_status check_ratio(const espl__node *node, espl_diag *diag) {
    const espl__value *v = espl__in(node, 1);
    double ratio;
    if (!v || !v->constant || espl_shape_count(&v->shape) != 1) return ESPL_OK;
    espl__load_f64(v->constant->dtype, v->constant->data, 0, 1, &ratio);
    if (ratio >= 0 && ratio <= 1) return ESPL_OK;
    return espl__fail(diag, ESPL_FORMAT, "Dropout: a ratio of %g is not in [0, 1]", ratio);
}

static espl_status infer(const espl__node *node, espl_diag *diag) {
    espl_status status;
    ESPL_TRY(espl__op_begin(node, diag));
    ESPL_TRY(espl__check_dtype(node, 0, ESPL__T_FLOAT, diag));
    ESPL_TRY(espl__check_dtype(node, 1, ESPL__T_FLOAT, diag));
    ESPL_TRY(espl__check_dtype(node, 2, ESPL__T(BOOL), diag));
    const espl__value *x = espl__in(node, 0);
    if (!is_scalar(espl__in(node, 1)) || !is_scalar(espl__in(node, 2)))
        return espl__fail(diag, ESPL_SHAPE, "Dropout: ratio and training_mode must be scalars");
    ESPL_TRY(check_ratio(node, diag));
    ESPL_TRY(espl__set_like_input(node, x->dtype, diag));
    espl_dtype mask = node->opset < 10 ? x->dtype : ESPL_BOOL;
    if (espl__out(node, 1))
        status =
            x->known_rank ? espl__set_out(node, 1, mask, &x->shape, diag) : espl__set_unknown(node, 1, mask);
done:
    return status;
}

static double ratio_of(const espl__node *node, const espl_tensor *in) {
    double ratio = 0.5;
    if (node->input_count < 3 || !in[2].data || !*(const uint8_t *)in[2].data) return 0;
    if (in[1].data) espl__load_f64(in[1].dtype, in[1].data, 0, 1, &ratio);
    return ratio > 0 ? ESPL_MIN(ratio, 1.0) : 0.0;
}

static void eval(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)scratch;
    double ratio = ratio_of(node, in), scale = ratio < 1 ? 1.0 / (1.0 - ratio) : 0.0;
    espl__rng rng = espl__node_rng(node);
    espl_tensor *mask = node->output_count > 1 && out[1].data ? &out[1] : NULL;
    for (int64_t i = 0, n = espl_shape_count(&in[0].shape); i < n; i++) {
        const int64_t kept = ratio == 0 || (double)espl__rng_float(&rng) >= ratio;
        double x = 0;
        if (kept) espl__load_f64(in[0].dtype, espl__at(in[0].data, in[0].dtype, i), 0, 1, &x);
        x = kept ? x * scale : 0.0;
        espl__store_f64(out[0].dtype, &x, 1, espl__at_mut(out[0].data, out[0].dtype, i));
        if (mask) espl__store_s64(mask->dtype, &kept, 1, espl__at_mut(mask->data, mask->dtype, i));
    }
}

const espl__op espl__op_Dropout = {
    .name = "Dropout",
    .domain = "",
    .min_inputs = 1,
    .max_inputs = 3,
    .min_outputs = 1,
    .max_outputs = 2,
    .since = 7,
    .until = 21,
    .infer = infer,
    .eval = eval,
    .quant = ESPL__QUANT_FLOAT,
};
