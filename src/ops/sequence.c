/* Sequences and optional values. None has a reference: passes/resolve.h follows the lists and leaves the
 * tensors in them. */
#include "ops/ops.h"

static void set_kind(const espl__node *node, espl__kind kind) {
    if (espl__out(node, 0)) espl__out(node, 0)->kind = kind;
}

static espl_status check_kind(const espl__node *node, int i, espl__kind kind, espl_diag *diag) {
    static const char *const names[] = {"a tensor", "a sequence", "an optional value"};
    const espl__value *v = espl__in(node, i);
    if (!v || v->kind == kind || (v->kind == ESPL__OPTIONAL && kind == ESPL__SEQUENCE)) return ESPL_OK;
    return espl__fail(diag, ESPL_SHAPE, "%s: input %d is %s and not %s", node->op->name, i, names[v->kind],
                      names[kind]);
}

/* Output 0 is of this kind and element type; nothing is known of shapes. */
static espl_status give(const espl__node *node, espl__kind kind, espl_dtype dtype) {
    set_kind(node, kind);
    return espl__set_unknown(node, 0, dtype);
}

static espl_status infer_construct(const espl__node *node, espl_diag *diag) {
    espl_status status;
    ESPL_TRY(espl__op_begin(node, diag));
    for (int i = 0; i < node->input_count; i++) {
        ESPL_TRY(check_kind(node, i, ESPL__TENSOR, diag));
        ESPL_TRY(espl__check_same_dtype(node, 0, i, diag));
    }
    status = give(node, ESPL__SEQUENCE, node->inputs[0]->dtype);
done:
    return status;
}

static espl_status infer_empty(const espl__node *node, espl_diag *diag) {
    espl_dtype dtype = ESPL_F32;
    espl_status status;
    ESPL_TRY(espl__op_begin(node, diag));
    if (!espl__dtype_from_onnx(espl__attr_int(node, "dtype", 1), &dtype))
        return espl__fail(diag, ESPL_UNSUPPORTED, "SequenceEmpty: its element type is not supported");
    status = give(node, ESPL__SEQUENCE, dtype);
done:
    return status;
}

/* A sequence of the element type of input 0, which is one. */
static espl_status infer_change(const espl__node *node, espl_diag *diag) {
    espl_status status;
    bool insert = espl__node_is(node, "SequenceInsert");
    ESPL_TRY(espl__op_begin(node, diag));
    ESPL_TRY(check_kind(node, 0, ESPL__SEQUENCE, diag));
    if (insert) ESPL_TRY(espl__check_same_dtype(node, 0, 1, diag));
    ESPL_TRY(espl__check_dtype(node, insert ? 2 : 1, ESPL__T(S64) | ESPL__T(S32), diag));
    status = give(node, ESPL__SEQUENCE, node->inputs[0]->dtype);
done:
    return status;
}

static espl_status infer_at(const espl__node *node, espl_diag *diag) {
    espl_status status;
    ESPL_TRY(espl__op_begin(node, diag));
    ESPL_TRY(check_kind(node, 0, ESPL__SEQUENCE, diag));
    ESPL_TRY(espl__check_dtype(node, 1, ESPL__T(S64) | ESPL__T(S32), diag));
    status = give(node, ESPL__TENSOR, node->inputs[0]->dtype);
done:
    return status;
}

static espl_status infer_length(const espl__node *node, espl_diag *diag) {
    espl_status status;
    ESPL_TRY(espl__op_begin(node, diag));
    ESPL_TRY(check_kind(node, 0, ESPL__SEQUENCE, diag));
    status = espl__set_out(node, 0, ESPL_S64, &(espl_shape){0}, diag);
done:
    return status;
}

static espl_status infer_split(const espl__node *node, espl_diag *diag) {
    espl_status status;
    ESPL_TRY(espl__op_begin(node, diag));
    ESPL_TRY(check_kind(node, 0, ESPL__TENSOR, diag));
    status = give(node, ESPL__SEQUENCE, node->inputs[0]->dtype);
done:
    return status;
}

static espl_status infer_join(const espl__node *node, espl_diag *diag) {
    espl_status status;
    ESPL_TRY(espl__op_begin(node, diag));
    ESPL_TRY(check_kind(node, 0, ESPL__SEQUENCE, diag));
    if (!espl__attr_find(node, "axis"))
        return espl__fail(diag, ESPL_FORMAT, "ConcatFromSequence: attribute axis is missing");
    status = give(node, ESPL__TENSOR, node->inputs[0]->dtype);
done:
    return status;
}

static espl_status infer_optional(const espl__node *node, espl_diag *diag) {
    espl_status status;
    ESPL_TRY(espl__op_begin(node, diag));
    const espl__value *x = espl__in(node, 0);
    status = give(node, ESPL__OPTIONAL, x ? x->dtype : ESPL_F32);
done:
    return status;
}

static espl_status infer_element(const espl__node *node, espl_diag *diag) {
    espl_status status;
    ESPL_TRY(espl__op_begin(node, diag));
    const espl__value *x = node->inputs[0];
    if (x->kind == ESPL__OPTIONAL) return give(node, ESPL__TENSOR, x->dtype);
    set_kind(node, x->kind);
    status = espl__set_like_input(node, x->dtype, diag);
done:
    return status;
}

static espl_status infer_has(const espl__node *node, espl_diag *diag) {
    espl_status status;
    ESPL_TRY(espl__op_begin(node, diag));
    status = espl__set_out(node, 0, ESPL_BOOL, &(espl_shape){0}, diag);
done:
    return status;
}

#define DEFINE_SEQUENCE(Name, least, most, first, infer_fn) \
    const espl__op espl__op_##Name = {.name = #Name,        \
                                      .domain = "",         \
                                      .min_inputs = least,  \
                                      .max_inputs = most,   \
                                      .min_outputs = 1,     \
                                      .max_outputs = 1,     \
                                      .since = first,       \
                                      .until = 21,          \
                                      .infer = infer_fn,    \
                                      .quant = ESPL__QUANT_FLOAT};
DEFINE_SEQUENCE(SequenceConstruct, 1, -1, 11, infer_construct)
DEFINE_SEQUENCE(SequenceEmpty, 0, 0, 11, infer_empty)
DEFINE_SEQUENCE(SequenceInsert, 2, 3, 11, infer_change)
DEFINE_SEQUENCE(SequenceErase, 1, 2, 11, infer_change)
DEFINE_SEQUENCE(SequenceAt, 2, 2, 11, infer_at)
DEFINE_SEQUENCE(SequenceLength, 1, 1, 11, infer_length)
DEFINE_SEQUENCE(SplitToSequence, 1, 2, 11, infer_split)
DEFINE_SEQUENCE(ConcatFromSequence, 1, 1, 11, infer_join)
DEFINE_SEQUENCE(Optional, 0, 1, 15, infer_optional)
DEFINE_SEQUENCE(OptionalGetElement, 1, 1, 15, infer_element)
DEFINE_SEQUENCE(OptionalHasElement, 0, 1, 15, infer_has)
