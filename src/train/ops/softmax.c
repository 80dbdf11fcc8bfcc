/* Softmax and LogSoftmax over lines of n elements that lie `inner` apart. */
#include <math.h>

#include "kernels/kernels.h"
#include "train/ops/loops.h"

typedef struct lines {
    int64_t n, inner, count;
    bool log;
} lines;

/* Before opset 13 the axis splits the tensor into two. */
static espl_status prepare(espl__call *c, espl_diag *diag) {
    espl_status status = espl__state(c, sizeof(lines), diag);
    if (status != ESPL_OK) return status;
    lines *k = c->state;
    const espl_shape *x = &c->in->shape;
    bool flat = c->node->opset < 13;
    int64_t given = espl__attr_int(c->node, "axis", flat ? 1 : -1);
    int axis = 0;
    k->log = espl__node_is(c->node, "LogSoftmax");
    k->n = k->inner = 1;
    if (x->rank > 0 && !(flat && given == x->rank)) {
        status = espl__axis(given, x->rank, &axis, diag);
        if (status != ESPL_OK) return status;
        k->n = flat ? espl__dims_product(x, axis, x->rank) : x->dim[axis];
        k->inner = flat ? 1 : espl__dims_product(x, axis + 1, x->rank);
    }
    k->count = k->n ? espl_shape_count(x) / k->n : 0;
    c->forward_bytes = c->backward_bytes =
        (uint64_t)(espl__pool_threads(c->pool) * 3 * k->n) * espl__real_bytes(c);
    return ESPL_OK;
}

#define REAL_FILE "train/ops/softmax.inc.h"
#include "train/real.h"

static void forward(espl__call *c) {
    const lines *k = c->state;
    espl__spread(c, k->count, k->count * k->n, ESPL__REAL(c, softmax_lines), c);
}
static void backward(espl__call *c) {
    const lines *k = c->state;
    espl__spread(c, k->count, k->count * k->n, ESPL__REAL(c, softmax_back), c);
}

#define DEFINE(Name)                                            \
    const espl__grad espl__grad_##Name = {.op = #Name,          \
                                          .inputs = 1,          \
                                          .reads_out = 1,       \
                                          .prepare = prepare,   \
                                          .forward = forward,   \
                                          .backward = backward, \
                                          .release = espl__state_free};
DEFINE(Softmax)
DEFINE(LogSoftmax)
