/* Gather (an embedding's table is trained), OneHot, Where, CumSum and TopK. */
#include "train/ops/loops.h"

typedef struct table {
    int64_t outer, rows, inner, count; /* table [outer][rows][inner], `count` indices */
    int64_t parts;
} table;

typedef struct sums {
    int64_t outer, n, inner;
    int64_t taken; /* of TopK */
    bool exclusive, reverse;
} sums;

/* As the operator reads it: from the end if negative, 0 if out of range. */
static int64_t row_of(const espl__call *c, int64_t i) {
    const table *k = c->state;
    int64_t at = c->in[1].dtype == ESPL_S64 ? ((const int64_t *)c->in[1].data)[i]
                                            : ((const int32_t *)c->in[1].data)[i];
    if (at < 0) at += k->rows;
    return at < 0 || at >= k->rows ? 0 : at;
}

#define REAL_FILE "train/ops/gather.inc.h"
#include "train/real.h"

static espl_status prepare_gather(espl__call *c, espl_diag *diag) {
    int axis;
    const espl_shape *x = &c->in->shape;
    espl_status status = espl__state(c, sizeof(table), diag);
    if (status == ESPL_OK) status = espl__axis(espl__attr_int(c->node, "axis", 0), x->rank, &axis, diag);
    if (status != ESPL_OK) return status;
    table *k = c->state;
    k->outer = espl__dims_product(x, 0, axis);
    k->rows = x->dim[axis];
    k->inner = espl__dims_product(x, axis + 1, x->rank);
    k->count = espl_shape_count(&c->in[1].shape);
    k->parts = ESPL_MAX(1, ESPL_MIN(k->inner / 16, espl__pool_threads(c->pool)));
    return ESPL_OK;
}
static void gather(espl__call *c) {
    const table *k = c->state;
    espl__spread(c, k->outer * k->count, k->outer * k->count * k->inner, ESPL__REAL(c, copy_rows), c);
}
static void gather_back(espl__call *c) {
    const table *k = c->state;
    if (!(c->add & 1)) memset(c->din->data, 0, espl__tensor_bytes(c->din));
    espl__spread(c, k->parts, k->outer * k->count * k->inner, ESPL__REAL(c, add_rows), c);
}
const espl__grad espl__grad_Gather = {.op = "Gather",
                                      .inputs = 1,
                                      .params = 1,
                                      .reads_in = 2,
                                      .prepare = prepare_gather,
                                      .forward = gather,
                                      .backward = gather_back,
                                      .release = espl__state_free};

/* Of OneHot's two values, the second is where the operator puts a 1 for them. */
static espl_status prepare_one_hot(espl__call *c, espl_diag *diag) {
    (void)diag;
    c->backward_bytes = (uint64_t)espl_shape_count(&c->out->shape) + 1;
    return ESPL_OK;
}
static void one_hot_back(espl__call *c) {
    uint8_t values[2] = {0, 1}, *hot = c->scratch;
    espl_tensor in[3] = {c->in[0], {0}, {ESPL_U8, {1, {2}}, values}}, out = {ESPL_U8, c->out->shape, hot};
    double by[2] = {0};
    if (c->add & 4) espl__load_f64(c->real, c->din[2].data, 1, 2, by);
    c->node->op->eval(c->node, in, &out, NULL);
    for (int64_t i = 0, n = espl_shape_count(&out.shape); i < n; i++) by[hot[i]] += espl__real_at(c->dout, i);
    espl__store_f64(c->real, by, 2, c->din[2].data);
}
const espl__grad espl__grad_OneHot = {
    .op = "OneHot", .inputs = 4, .reads_in = 1, .prepare = prepare_one_hot, .backward = one_hot_back};

static void where(espl__call *c) {
    ESPL__REAL(c, choose)(c, false);
}
static void where_back(espl__call *c) {
    ESPL__REAL(c, choose)(c, true);
}
const espl__grad espl__grad_Where = {
    .op = "Where", .inputs = 6, .adopts = 6, .reads_in = 1, .forward = where, .backward = where_back};

static espl_status prepare_line(espl__call *c, int64_t given, espl_diag *diag) {
    int axis;
    const espl_shape *x = &c->in->shape;
    espl_status status = espl__state(c, sizeof(sums), diag);
    if (status == ESPL_OK) status = espl__axis(given, x->rank, &axis, diag);
    if (status != ESPL_OK) return status;
    sums *k = c->state;
    k->outer = espl__dims_product(x, 0, axis);
    k->n = x->dim[axis];
    k->inner = espl__dims_product(x, axis + 1, x->rank);
    k->taken = c->out->shape.dim[axis];
    k->exclusive = espl__attr_int(c->node, "exclusive", 0) != 0;
    k->reverse = espl__attr_int(c->node, "reverse", 0) != 0;
    c->forward_bytes = espl__scratch_bytes(c->node);
    return ESPL_OK;
}
static espl_status prepare_cumsum(espl__call *c, espl_diag *diag) {
    const espl__value *axis = c->node->inputs[1];
    int64_t given = 0;
    if (!axis->constant) return espl__fail(diag, ESPL_UNSUPPORTED, "CumSum: training needs a constant axis");
    espl__load_s64(axis->constant->dtype, axis->constant->data, 0, 1, &given);
    return prepare_line(c, given, diag);
}
static void cumsum(espl__call *c) {
    const sums *k = c->state;
    ESPL__REAL(c, cumulate)(k, c->in->data, c->out->data, k->reverse, false);
}
static void cumsum_back(espl__call *c) {
    const sums *k = c->state;
    ESPL__REAL(c, cumulate)(k, c->dout->data, c->din->data, !k->reverse, c->add & 1);
}
const espl__grad espl__grad_CumSum = {.op = "CumSum",
                                      .inputs = 1,
                                      .prepare = prepare_cumsum,
                                      .forward = cumsum,
                                      .backward = cumsum_back,
                                      .release = espl__state_free};

static espl_status prepare_topk(espl__call *c, espl_diag *diag) {
    return prepare_line(c, espl__attr_int(c->node, "axis", -1), diag);
}
static void topk_back(espl__call *c) {
    ESPL__REAL(c, give_back)(c);
}
static void topk(espl__call *c) {
    c->node->op->eval(c->node, c->in, c->out, c->scratch);
}
const espl__grad espl__grad_TopK = {.op = "TopK",
                                    .inputs = 1,
                                    .reads_out = 2,
                                    .prepare = prepare_topk,
                                    .forward = topk,
                                    .backward = topk_back,
                                    .release = espl__state_free};
