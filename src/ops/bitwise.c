/* BitwiseAnd, BitwiseOr, BitwiseXor, BitwiseNot: of integers, with broadcasting. */
#include "ops/ops.h"

static espl_status infer(const espl__node *node, espl_diag *diag) {
    espl_status status;
    espl_shape y = {0};
    ESPL_TRY(espl__op_begin(node, diag));
    ESPL_TRY(espl__check_dtype(node, 0, ESPL__T_INT | ESPL__T(U64), diag));
    ESPL_TRY(espl__check_same_dtype(node, 0, 1, diag));
    for (int i = 0; i < node->input_count; i++) {
        const espl__value *v = node->inputs[i];
        if (!v->known_rank) return espl__set_unknown(node, 0, v->dtype);
        ESPL_TRY(espl__broadcast(&y, &v->shape, diag));
    }
    status = espl__set_out(node, 0, node->inputs[0]->dtype, &y, diag);
done:
    return status;
}

/* Bit by bit, so the size of the elements does not matter: `and`, `or`, `xor` of operands of n bytes. */
static void combine(char kind, const uint8_t *a, const uint8_t *b, uint8_t *y, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] = kind == '&' ? a[i] & b[i] : kind == '|' ? a[i] | b[i] : a[i] ^ b[i];
}

static void each(char kind, const espl_tensor *in, espl_tensor *out) {
    const espl_shape *operand[] = {&in[0].shape, &in[1].shape};
    size_t elem = espl_dtype_bytes(out->dtype);
    espl__rows r;
    for (espl__rows_begin(&r, &out->shape, operand, 2); !r.done; espl__rows_next(&r))
        for (int64_t i = 0; i < r.n; i++)
            combine(kind, espl__at(in[0].data, out->dtype, r.offset[0] + i * r.step[0]),
                    espl__at(in[1].data, out->dtype, r.offset[1] + i * r.step[1]),
                    espl__at_mut(out->data, out->dtype, r.out + i), elem);
}

static void eval_not(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)node, (void)scratch;
    for (size_t i = 0, n = espl__tensor_bytes(out); i < n; i++)
        ((uint8_t *)out->data)[i] = (uint8_t) ~((const uint8_t *)in->data)[i];
}

#define DEFINE(Name, inputs, eval_fn)                       \
    const espl__op espl__op_##Name = {.name = #Name,        \
                                      .domain = "",         \
                                      .min_inputs = inputs, \
                                      .max_inputs = inputs, \
                                      .min_outputs = 1,     \
                                      .max_outputs = 1,     \
                                      .since = 18,          \
                                      .until = 21,          \
                                      .infer = infer,       \
                                      .eval = eval_fn,      \
                                      .quant = ESPL__QUANT_FLOAT};
#define DEFINE_BINARY(Name, kind)                                                            \
    static void eval_##Name(const espl__node *node, const espl_tensor *in, espl_tensor *out, \
                            void *scratch) {                                                 \
        (void)node, (void)scratch;                                                           \
        each(kind, in, out);                                                                 \
    }                                                                                        \
    DEFINE(Name, 2, eval_##Name)
DEFINE_BINARY(BitwiseAnd, '&')
DEFINE_BINARY(BitwiseOr, '|')
DEFINE_BINARY(BitwiseXor, '^')
DEFINE(BitwiseNot, 1, eval_not)
