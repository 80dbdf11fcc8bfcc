/* MatMul, by NumPy's rules: batches broadcast, a 1-D operand gains a dimension of 1 that the result loses.
 * MatMulInteger does the same with codes of 8 bits less their zero points, into s32. */
#include "ops/ops.h"

#include <inttypes.h>

/* Both operands as matrices, and the broadcast of what stands before them. */
typedef struct matmul_dims {
    int64_t m, k, n;
    espl_shape batch, batch_a, batch_b;
} matmul_dims;

static espl_status resolve(const espl_shape *a, const espl_shape *b, matmul_dims *d, espl_shape *y,
                           espl_diag *diag) {
    if (a->rank == 0 || b->rank == 0) return espl__fail(diag, ESPL_SHAPE, "MatMul: an operand is a scalar");
    *d = (matmul_dims){.m = a->rank == 1 ? 1 : a->dim[a->rank - 2], .k = a->dim[a->rank - 1]};
    d->n = b->rank == 1 ? 1 : b->dim[b->rank - 1];
    int64_t kb = b->rank == 1 ? b->dim[0] : b->dim[b->rank - 2];
    if (!espl__dims_agree(d->k, kb))
        return espl__fail(diag, ESPL_SHAPE,
                          "MatMul: the left operand has %" PRId64 " columns and the right %" PRId64 " rows",
                          d->k, kb);
    d->batch_a = *a;
    d->batch_b = *b;
    d->batch_a.rank = ESPL_MAX(a->rank - 2, 0);
    d->batch_b.rank = ESPL_MAX(b->rank - 2, 0);
    d->batch = d->batch_a;
    espl_status status = espl__broadcast(&d->batch, &d->batch_b, diag);
    *y = d->batch;
    if (a->rank > 1) y->dim[y->rank++] = d->m;
    if (b->rank > 1) y->dim[y->rank++] = d->n;
    return status;
}

static espl_status infer(const espl__node *node, espl_diag *diag) {
    espl_status status;
    matmul_dims d;
    espl_shape y;
    ESPL_TRY(espl__op_begin(node, diag));
    ESPL_TRY(espl__check_dtype(node, 0, ESPL__T(F32) | ESPL__T_INT | ESPL__T(F64), diag));
    ESPL_TRY(espl__check_same_dtype(node, 0, 1, diag));
    const espl__value *a = espl__in(node, 0), *b = espl__in(node, 1);
    if (!a->known_rank || !b->known_rank) return espl__set_unknown(node, 0, a->dtype);
    ESPL_TRY(resolve(&a->shape, &b->shape, &d, &y, diag));
    status = espl__set_out(node, 0, a->dtype, &y, diag);
done:
    return status;
}

static void multiply_f32(const matmul_dims *d, const float *a, const float *b, float *y) {
    for (int64_t i = 0; i < d->m; i++) {
        float *restrict row = y + i * d->n;
        for (int64_t j = 0; j < d->n; j++) row[j] = 0.0f;
        for (int64_t k = 0; k < d->k; k++) {
            const float *restrict from = b + k * d->n;
            float left = a[i * d->k + k];
            for (int64_t j = 0; j < d->n; j++) row[j] += left * from[j];
        }
    }
}

/* Integers wrap as two's complement; doubles stay doubles. */
static void multiply_any(const matmul_dims *d, espl_dtype dtype, const void *a, const void *b, void *y) {
    bool is_double = dtype == ESPL_F64;
    for (int64_t i = 0; i < d->m; i++)
        for (int64_t j = 0; j < d->n; j++) {
            double sum = 0;
            uint64_t whole = 0;
            for (int64_t k = 0; k < d->k; k++) {
                const void *pa = espl__at(a, dtype, i * d->k + k), *pb = espl__at(b, dtype, k * d->n + j);
                if (is_double) {
                    sum += *(const double *)pa * *(const double *)pb;
                } else {
                    int64_t va, vb;
                    espl__load_s64(dtype, pa, 0, 1, &va);
                    espl__load_s64(dtype, pb, 0, 1, &vb);
                    whole += (uint64_t)va * (uint64_t)vb;
                }
            }
            int64_t wrapped = (int64_t)whole;
            if (is_double)
                ((double *)y)[i * d->n + j] = sum;
            else
                espl__store_s64(dtype, &wrapped, 1, espl__at_mut(y, dtype, i * d->n + j));
        }
}

static void eval(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)node, (void)scratch;
    matmul_dims d;
    espl_shape shape;
    espl__rows rows;
    if (resolve(&in[0].shape, &in[1].shape, &d, &shape, NULL) != ESPL_OK) return;
    espl_dtype dtype = in[0].dtype;
    const espl_shape *operands[] = {&d.batch_a, &d.batch_b};
    espl__rows_begin(&rows, &d.batch, operands, 2);
    if (d.m == 0 || d.n == 0) return;
    for (; !rows.done; espl__rows_next(&rows))
        for (int64_t i = 0; i < rows.n; i++) {
            int64_t at_a = (rows.offset[0] + i * rows.step[0]) * d.m * d.k;
            int64_t at_b = (rows.offset[1] + i * rows.step[1]) * d.k * d.n, at_y = (rows.out + i) * d.m * d.n;
            const void *a = espl__at(in[0].data, dtype, at_a), *b = espl__at(in[1].data, dtype, at_b);
            if (dtype == ESPL_F32)
                multiply_f32(&d, a, b, espl__at_mut(out[0].data, dtype, at_y));
            else
                multiply_any(&d, dtype, a, b, espl__at_mut(out[0].data, dtype, at_y));
        }
}

static int64_t macs(const espl__node *node) {
    const espl_shape *a = &node->inputs[0]->shape, *y = &node->outputs[0]->shape;
    return espl__mul_sat(espl__dims_product(y, 0, y->rank), a->rank ? a->dim[a->rank - 1] : 1);
}

/* Output channels are the columns of the right operand; a constant left operand has them in its rows. */
static int weight_axis(const espl__node *node, int input) {
    int rank = node->inputs[input]->shape.rank;
    if (rank < 2) return -1;
    return input == 1 ? rank - 1 : rank - 2;
}

static int weight_inner_axis(const espl__node *node, int input) {
    int rank = node->inputs[input]->shape.rank;
    return input == 1 ? rank - 2 : rank - 1;
}

const espl__op espl__op_MatMul = {
    .name = "MatMul", .domain = "", .min_inputs = 2, .max_inputs = 2, .min_outputs = 1, .max_outputs = 1,
    .since = 1, .until = 21, .infer = infer, .eval = eval, .macs = macs, .quant = ESPL__QUANT_COMPUTE,
    .weight_inputs = 1u << 0 | 1u << 1, .weight_axis = weight_axis,
    .weight_inner_axis = weight_inner_axis,
};

/* --- codes ------------------------------------------------------------------------------------ */

#define CODES (ESPL__T(U8) | ESPL__T(S8))

/* A zero point for all, or one for each of `count` rows or columns. */
static espl_status check_zero(const espl__node *node, int input, int64_t count, espl_diag *diag) {
    const espl__value *z = espl__in(node, input);
    if (!z || !z->known_rank || espl_shape_count(&z->shape) == 1) return ESPL_OK;
    if (z->shape.rank == 1 && espl__dims_agree(z->shape.dim[0], count)) return ESPL_OK;
    return espl__fail(diag, ESPL_UNSUPPORTED,
                      "MatMulInteger: a zero point needs one element, or one for each of %" PRId64 " %s", count,
                      input == 2 ? "rows" : "columns");
}

static espl_status infer_integer(const espl__node *node, espl_diag *diag) {
    espl_status status;
    matmul_dims d;
    espl_shape y;
    ESPL_TRY(espl__op_begin(node, diag));
    for (int i = 0; i < 2; i++) {
        ESPL_TRY(espl__check_dtype(node, i, CODES, diag));
        ESPL_TRY(espl__check_same_dtype(node, i, i + 2, diag));
    }
    const espl__value *a = espl__in(node, 0), *b = espl__in(node, 1);
    if (!a->known_rank || !b->known_rank) return espl__set_unknown(node, 0, ESPL_S32);
    ESPL_TRY(resolve(&a->shape, &b->shape, &d, &y, diag));
    ESPL_TRY(check_zero(node, 2, d.m, diag));
    ESPL_TRY(check_zero(node, 3, d.n, diag));
    status = espl__set_out(node, 0, ESPL_S32, &y, diag);
done:
    return status;
}

static int code_at(const espl_tensor *t, int64_t i) {
    return t->dtype == ESPL_S8 ? ((const int8_t *)t->data)[i] : ((const uint8_t *)t->data)[i];
}

static int zero_at(const espl__node *node, const espl_tensor *in, int input, int64_t i) {
    if (node->input_count <= input || !in[input].data) return 0;
    return code_at(&in[input], espl_shape_count(&in[input].shape) == 1 ? 0 : i);
}

static void eval_integer(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)scratch;
    matmul_dims d;
    espl_shape shape;
    espl__rows rows;
    if (resolve(&in[0].shape, &in[1].shape, &d, &shape, NULL) != ESPL_OK) return;
    const espl_shape *operands[] = {&d.batch_a, &d.batch_b};
    espl__rows_begin(&rows, &d.batch, operands, 2);
    if (d.m == 0 || d.n == 0) return;
    for (; !rows.done; espl__rows_next(&rows))
        for (int64_t r = 0; r < rows.n; r++) {
            int64_t at_a = (rows.offset[0] + r * rows.step[0]) * d.m * d.k;
            int64_t at_b = (rows.offset[1] + r * rows.step[1]) * d.k * d.n;
            int32_t *y = (int32_t *)out[0].data + (rows.out + r) * d.m * d.n;
            for (int64_t i = 0; i < d.m; i++)
                for (int64_t j = 0; j < d.n; j++) {
                    int64_t sum = 0;
                    int za = zero_at(node, in, 2, i), zb = zero_at(node, in, 3, j);
                    for (int64_t k = 0; k < d.k; k++)
                        sum += (code_at(&in[0], at_a + i * d.k + k) - za) * (code_at(&in[1], at_b + k * d.n + j) - zb);
                    y[i * d.n + j] = (int32_t)(uint32_t)(uint64_t)sum;
                }
        }
}

const espl__op espl__op_MatMulInteger = {
    .name = "MatMulInteger", .domain = "", .min_inputs = 2, .max_inputs = 4, .min_outputs = 1, .max_outputs = 1,
    .since = 10, .until = 21, .infer = infer_integer, .eval = eval_integer, .macs = macs,
};
