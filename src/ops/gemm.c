/* Gemm: Y = alpha * A' * B' + beta * C, with A' and B' transposed as transA and transB say. */
#include "ops/ops.h"

#include <inttypes.h>

static espl_status infer(const espl__node *node, espl_diag *diag) {
    espl_status status;
    ESPL_TRY(espl__op_begin(node, diag));
    for (int i = 0; i < 3; i++) ESPL_TRY(espl__check_dtype(node, i, ESPL__T(F32), diag));
    for (int i = 0; i < 2; i++) ESPL_TRY(espl__check_rank(node, i, 2, 2, diag));
    const espl__value *a = espl__in(node, 0), *b = espl__in(node, 1), *c = espl__in(node, 2);
    bool trans_a = espl__attr_int(node, "transA", 0) != 0, trans_b = espl__attr_int(node, "transB", 0) != 0;
    espl_shape y = {.rank = 2, .dim = {ESPL_DIM_UNKNOWN, ESPL_DIM_UNKNOWN}};
    if (a->known_rank) y.dim[0] = a->shape.dim[trans_a];
    if (b->known_rank) y.dim[1] = b->shape.dim[!trans_b];
    if (a->known_rank && b->known_rank && !espl__dims_agree(a->shape.dim[!trans_a], b->shape.dim[trans_b]))
        return espl__fail(diag, ESPL_SHAPE,
                          "Gemm: the reduced dimension is %" PRId64 " on the left and %" PRId64
                          " on the right",
                          a->shape.dim[!trans_a], b->shape.dim[trans_b]);
    if (c && c->known_rank) {
        espl_shape sum = y;
        ESPL_TRY(espl__broadcast(&sum, &c->shape, diag));
        bool fits = sum.rank == 2;
        for (int i = 0; fits && i < 2; i++) fits = y.dim[i] < 0 || sum.dim[i] == y.dim[i];
        if (!fits)
            return espl__fail(diag, ESPL_SHAPE, "Gemm: the shape of C does not broadcast to the result");
    }
    status = espl__set_out(node, 0, ESPL_F32, &y, diag);
done:
    return status;
}

/* out = beta * C, broadcast; without C zeros. */
static void start_with_c(const espl_tensor *c, float beta, espl_tensor *out) {
    float *y = out->data;
    espl__rows rows;
    if (!c->data) {
        memset(y, 0, espl__tensor_bytes(out));
        return;
    }
    const espl_shape *operand = &c->shape;
    const float *from = c->data;
    for (espl__rows_begin(&rows, &out->shape, &operand, 1); !rows.done; espl__rows_next(&rows))
        for (int64_t i = 0; i < rows.n; i++) y[rows.out + i] = beta * from[rows.offset[0] + i * rows.step[0]];
}

static void eval(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    float *row_sum = scratch;
    bool trans_a = espl__attr_int(node, "transA", 0) != 0, trans_b = espl__attr_int(node, "transB", 0) != 0;
    float alpha = espl__attr_float(node, "alpha", 1.0f), beta = espl__attr_float(node, "beta", 1.0f);
    const espl_tensor none = {0};
    int64_t m = out[0].shape.dim[0], n = out[0].shape.dim[1], k_count = in[0].shape.dim[!trans_a];
    const float *a = in[0].data, *b = in[1].data;
    float *row_a = row_sum + n;
    if (espl__is_empty(&out[0])) return;
    start_with_c(node->input_count > 2 ? &in[2] : &none, beta, &out[0]);
    for (int64_t i = 0; i < m; i++) {
        float *y = (float *)out[0].data + i * n;
        for (int64_t k = 0; k < k_count; k++) row_a[k] = trans_a ? a[k * m + i] : a[i * k_count + k];
        for (int64_t j = 0; j < n; j++) row_sum[j] = 0.0f;
        if (trans_b)
            espl__matvec(b, n, k_count, row_a, row_sum);
        else
            for (int64_t k = 0; k < k_count; k++)
                for (int64_t j = 0; j < n; j++) row_sum[j] += row_a[k] * b[k * n + j];
        for (int64_t j = 0; j < n; j++) y[j] += alpha * row_sum[j];
    }
}

static int64_t reduced(const espl__node *node) {
    return node->inputs[0]->shape.dim[espl__attr_int(node, "transA", 0) == 0];
}

static uint64_t scratch_bytes(const espl__node *node) {
    return sizeof(float) * ((uint64_t)node->outputs[0]->shape.dim[1] + (uint64_t)reduced(node));
}

static int64_t macs(const espl__node *node) {
    return espl__mul_sat(espl__dims_product(&node->outputs[0]->shape, 0, 2), reduced(node));
}

static int weight_axis(const espl__node *node, int input) {
    return input == 1 ? espl__attr_int(node, "transB", 0) == 0 : -1;
}

const espl__op espl__op_Gemm = {
    .name = "Gemm", .domain = "", .min_inputs = 2, .max_inputs = 3, .min_outputs = 1, .max_outputs = 1,
    .since = 7, .until = 21, .infer = infer, .eval = eval, .scratch_bytes = scratch_bytes, .macs = macs,
    .quant = ESPL__QUANT_COMPUTE, .weight_inputs = 1u << 1, .bias_inputs = 1u << 2, .weight_axis = weight_axis,
};
