/* Clip: limits are attributes before opset 11 and optional scalar inputs since. */
#include "ops/ops.h"

#include <float.h>
#include <math.h>

static espl_status infer(const espl__node *node, espl_diag *diag) {
    espl_status status;
    ESPL_TRY(espl__op_begin(node, diag));
    ESPL_TRY(espl__check_dtype(node, 0, ESPL__T_INT | ESPL__T(F32), diag));
    for (int i = 1; i < 3; i++) {
        const espl__value *limit = espl__in(node, i);
        ESPL_TRY(espl__check_same_dtype(node, 0, i, diag));
        if (limit && limit->known_rank && espl_shape_count(&limit->shape) >= 0 &&
            espl_shape_count(&limit->shape) != 1)
            return espl__fail(diag, ESPL_SHAPE, "Clip: input %d is not a scalar", i);
    }
    status = espl__set_like_input(node, node->inputs[0]->dtype, diag);
done:
    return status;
}

static void eval_f32(const espl__node *node, const espl_tensor *in, espl_tensor *out) {
    float lo = espl__attr_float(node, "min", -INFINITY), hi = espl__attr_float(node, "max", INFINITY);
    if (node->input_count > 1 && in[1].data) lo = *(const float *)in[1].data;
    if (node->input_count > 2 && in[2].data) hi = *(const float *)in[2].data;
    const float *x = in[0].data;
    float *y = out[0].data;
    for (int64_t i = 0, n = espl_shape_count(&in[0].shape); i < n; i++) {
        float v = x[i] < lo ? lo : x[i];
        y[i] = v > hi ? hi : v;
    }
}

static void eval(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)scratch;
    espl_dtype dtype = in[0].dtype;
    if (dtype == ESPL_F32) {
        eval_f32(node, in, out);
        return;
    }
    int64_t lo = INT64_MIN, hi = INT64_MAX;
    if (node->input_count > 1 && in[1].data) espl__load_s64(dtype, in[1].data, 0, 1, &lo);
    if (node->input_count > 2 && in[2].data) espl__load_s64(dtype, in[2].data, 0, 1, &hi);
    for (int64_t i = 0, n = espl_shape_count(&in[0].shape); i < n; i++) {
        int64_t x;
        espl__load_s64(dtype, espl__at(in[0].data, dtype, i), 0, 1, &x);
        x = x < lo ? lo : x;
        x = x > hi ? hi : x;
        espl__store_s64(dtype, &x, 1, espl__at_mut(out[0].data, dtype, i));
    }
}

static bool constant_limit(const espl__node *node, int input, float *limit) {
    const espl__value *value = espl__in(node, input);
    if (!value) return true;
    if (!value->constant || espl__is_quantized(value) || value->constant->dtype != ESPL_F32 ||
        espl_shape_count(&value->constant->shape) != 1)
        return false;
    *limit = *(const float *)value->constant->data;
    return true;
}

/* Max or Min of a value and one number, the second input. */
static bool is_bound(const espl__node *node) {
    const espl__value *x = node->inputs[0], *y = node->outputs[0];
    return (strcmp(node->op->name, "Max") == 0 || strcmp(node->op->name, "Min") == 0) && node->input_count == 2 &&
           espl__in(node, 1) && x->known_rank && y->known_rank && espl_shape_equal(&x->shape, &y->shape);
}

bool espl__clip_range(const espl__node *node, float *lo, float *hi) {
    *lo = -INFINITY;
    *hi = INFINITY;
    if (is_bound(node)) {
        float *limit = node->op->name[1] == 'a' ? lo : hi;
        return constant_limit(node, 1, limit) && !isnan(*limit);
    }
    if (strcmp(node->op->name, "Relu") == 0) {
        *lo = 0;
        return true;
    }
    if (strcmp(node->op->name, "Clip") != 0) return false;
    *lo = espl__attr_float(node, "min", -INFINITY);
    *hi = espl__attr_float(node, "max", INFINITY);
    return constant_limit(node, 1, lo) && constant_limit(node, 2, hi);
}

const espl__op espl__op_Clip = {
    .name = "Clip", .domain = "", .min_inputs = 1, .max_inputs = 3, .min_outputs = 1, .max_outputs = 1,
    .since = 6, .until = 21, .infer = infer, .eval = eval, .quant = ESPL__QUANT_UNARY,
};
