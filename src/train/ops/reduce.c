/* Reductions over a set of axes. What is reduced to a maximum shares its gradient among equals. */
#include <math.h>

#include "kernels/kernels.h"
#include "train/ops/loops.h"

enum { CHUNK = 256 };
enum { SUM, MEAN, MAX, MIN, PROD, L1, L2, SUM_SQUARE, LOG_SUM, LOG_SUM_EXP };

typedef struct reduce {
    int how;
    int64_t lead, each; /* the first dimension if it is kept, else 1; elements that make one */
    espl_shape kept;    /* the input's shape with ones where it is reduced */
} reduce;

static espl_status read_axes(espl__call *c, bool *reduced, espl_diag *diag) {
    espl__ints axes;
    int rank = c->in->shape.rank;
    espl_status status = espl__read_ints(c->node, "axes", 1, &axes, diag);
    if (status != ESPL_OK) return status;
    bool all = !axes.present || axes.count == 0;
    if (!all && !axes.known)
        return espl__fail(diag, ESPL_UNSUPPORTED, "%s: training needs constant axes", c->node->op->name);
    for (int i = 0; i < rank; i++) reduced[i] = all && !espl__attr_int(c->node, "noop_with_empty_axes", 0);
    return all ? ESPL_OK : espl__axes_mask(&axes, rank, reduced, diag);
}

static espl_status prepare(espl__call *c, int how, espl_diag *diag) {
    bool reduced[ESPL_MAX_RANK];
    espl_status status = espl__state(c, sizeof(reduce), diag);
    if (status == ESPL_OK) status = read_axes(c, reduced, diag);
    if (status != ESPL_OK) return status;
    reduce *k = c->state;
    const espl_shape *x = &c->in->shape;
    k->how = how;
    k->kept = *x;
    k->each = 1;
    for (int i = 0; i < x->rank; i++)
        if (reduced[i]) {
            k->kept.dim[i] = 1;
            k->each *= x->dim[i];
        }
    k->lead = x->rank && !reduced[0] ? x->dim[0] : 1;
    uint64_t results = (uint64_t)espl_shape_count(&k->kept) * espl__real_bytes(c);
    if (how == LOG_SUM_EXP) c->forward_bytes = results + 1;
    if (how == MAX || how == MIN || how == PROD) c->backward_bytes = 2 * results + 1;
    return ESPL_OK;
}

#define REAL_FILE "train/ops/reduce.inc.h"
#include "train/real.h"

/* Without a first dimension that is kept there is one part, of all elements. */
static void spread(espl__call *c, espl__range_fn fn) {
    const reduce *k = c->state;
    if (k->lead == 1)
        fn(c, 0, c->in->shape.rank ? c->in->shape.dim[0] : 1, 0);
    else
        espl__spread(c, k->lead, espl_shape_count(&c->in->shape), fn, c);
}
static void forward(espl__call *c) {
    spread(c, ESPL__REAL(c, reduce_part));
}
static void backward(espl__call *c) {
    spread(c, ESPL__REAL(c, reduce_back));
}

/* X(Name, how, what its derivative is computed from: input, output) */
#define REDUCE_LIST(X)                   \
    X(ReduceSum, SUM, 0, 0)              \
    X(ReduceMean, MEAN, 0, 0)            \
    X(ReduceMax, MAX, 1, 1)              \
    X(ReduceMin, MIN, 1, 1)              \
    X(ReduceProd, PROD, 1, 1)            \
    X(ReduceL1, L1, 1, 1)                \
    X(ReduceL2, L2, 1, 1)                \
    X(ReduceSumSquare, SUM_SQUARE, 1, 1) \
    X(ReduceLogSum, LOG_SUM, 1, 1)       \
    X(ReduceLogSumExp, LOG_SUM_EXP, 1, 1)

#define DEFINE(Name, how, in, out)                                      \
    static espl_status prepare_##Name(espl__call *c, espl_diag *diag) { \
        return prepare(c, how, diag);                                   \
    }                                                                   \
    const espl__grad espl__grad_##Name = {.op = #Name,                  \
                                          .inputs = 1,                  \
                                          .reads_in = in,               \
                                          .reads_out = out,             \
                                          .prepare = prepare_##Name,    \
                                          .forward = forward,           \
                                          .backward = backward,         \
                                          .release = espl__state_free};
REDUCE_LIST(DEFINE)
