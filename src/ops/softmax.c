/* Softmax, LogSoftmax and Hardmax. Before opset 13 the axis (default 1) splits the tensor into rows over all axes from
 * it on; since, the sum runs along that axis (default -1) alone. */
#include "kernels/kernels.h"
#include "ops/ops.h"

#include <math.h>

static espl_status resolve(const espl__node *node, const espl_shape *x, int64_t *outer, int64_t *n,
                           int64_t *inner, espl_diag *diag) {
    bool flat = node->opset < 13;
    int axis;
    int64_t given = espl__attr_int(node, "axis", flat ? 1 : -1);
    if (x->rank == 0 || (flat && given == x->rank)) { /* rows of one element */
        *outer = espl__dims_product(x, 0, x->rank);
        *n = *inner = 1;
        return ESPL_OK;
    }
    espl_status status = espl__axis(given, x->rank, &axis, diag);
    if (status != ESPL_OK) return status;
    *outer = espl__dims_product(x, 0, axis);
    *n = flat ? espl__dims_product(x, axis, x->rank) : x->dim[axis];
    *inner = flat ? 1 : espl__dims_product(x, axis + 1, x->rank);
    return ESPL_OK;
}

static espl_status infer(const espl__node *node, espl_diag *diag) {
    espl_status status;
    int axis;
    ESPL_TRY(espl__op_begin(node, diag));
    ESPL_TRY(espl__check_dtype(node, 0, ESPL__T(F32), diag));
    const espl__value *x = espl__in(node, 0);
    int64_t given = espl__attr_int(node, "axis", node->opset < 13 ? 1 : -1);
    if (x->known_rank && x->shape.rank > 0 && !(node->opset < 13 && given == x->shape.rank))
        ESPL_TRY(espl__axis(given, x->shape.rank, &axis, diag));
    status = espl__set_like_input(node, ESPL_F32, diag);
done:
    return status;
}

/* log(softmax(x)) = x - max - log(sum of e^(x - max)) */
void espl__log_softmax(const float *x, float *y, int64_t n) {
    float top = -INFINITY, sum = 0;
    for (int64_t i = 0; i < n; i++) top = x[i] > top ? x[i] : top;
    for (int64_t i = 0; i < n; i++) y[i] = x[i] - top;
    espl__kernels_get()->exp_f32(y, y, n);
    for (int64_t i = 0; i < n; i++) sum += y[i];
    float shift = logf(sum);
    for (int64_t i = 0; i < n; i++) y[i] = x[i] - top - shift;
}

static void softmax(const float *x, float *y, int64_t n) { espl__kernels_get()->softmax_f32(1, x, y, n); }

/* 1 at the first of the largest, 0 elsewhere. */
static void hardmax(const float *x, float *y, int64_t n) {
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++) best = x[i] > x[best] ? i : best;
    for (int64_t i = 0; i < n; i++) y[i] = i == best;
}

/* One row at a time; rows that do not lie in one piece are gathered into the scratch and scattered back. */
static void run(const espl__node *node, const espl_tensor *in, espl_tensor *out, float *scratch,
                void (*f)(const float *, float *, int64_t)) {
    int64_t outer, n, inner;
    if (resolve(node, &in->shape, &outer, &n, &inner, NULL) != ESPL_OK || espl__is_empty(out)) return;
    float *result = scratch + n;
    for (int64_t o = 0; o < outer; o++)
        for (int64_t i = 0; i < inner; i++) {
            const float *x = (const float *)in->data + o * n * inner + i;
            float *y = (float *)out->data + o * n * inner + i;
            if (inner == 1) {
                f(x, y, n);
                continue;
            }
            for (int64_t k = 0; k < n; k++) scratch[k] = x[k * inner];
            f(scratch, result, n);
            for (int64_t k = 0; k < n; k++) y[k * inner] = result[k];
        }
}

static void eval_softmax(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    run(node, in, out, scratch, softmax);
}
static void eval_log_softmax(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    run(node, in, out, scratch, espl__log_softmax);
}

static void eval_hardmax(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    run(node, in, out, scratch, hardmax);
}

static uint64_t scratch_bytes(const espl__node *node) {
    int64_t outer, n, inner;
    if (resolve(node, &node->inputs[0]->shape, &outer, &n, &inner, NULL) != ESPL_OK) return 0;
    return 2 * sizeof(float) * (uint64_t)n;
}

const espl__op espl__op_Softmax = {
    .name = "Softmax", .domain = "", .min_inputs = 1, .max_inputs = 1, .min_outputs = 1, .max_outputs = 1,
    .since = 1, .until = 21, .infer = infer, .eval = eval_softmax, .scratch_bytes = scratch_bytes,
    .quant = ESPL__QUANT_FLOAT,
};
const espl__op espl__op_LogSoftmax = {
    .name = "LogSoftmax", .domain = "", .min_inputs = 1, .max_inputs = 1, .min_outputs = 1, .max_outputs = 1,
    .since = 1, .until = 21, .infer = infer, .eval = eval_log_softmax, .scratch_bytes = scratch_bytes,
    .quant = ESPL__QUANT_FLOAT,
};
const espl__op espl__op_Hardmax = {
    .name = "Hardmax", .domain = "", .min_inputs = 1, .max_inputs = 1, .min_outputs = 1, .max_outputs = 1,
    .since = 1, .until = 21, .infer = infer, .eval = eval_hardmax, .scratch_bytes = scratch_bytes,
    .quant = ESPL__QUANT_FLOAT,
};
