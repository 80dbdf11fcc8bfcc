/* LRN (Krizhevsky et al. 2012), LpNormalization and MeanVarianceNormalization. */
#include <math.h>

#include "kernels/kernels.h"
#include "train/ops/loops.h"

/* Lines of `channels` elements `plane` apart. */
typedef struct lrn {
    int64_t channels, plane, lines, size, before, after; /* size: of LRN's neighbourhood, or p of a norm */
    double alpha, beta, bias;
    espl_shape kept; /* of MeanVarianceNormalization: ones where it is reduced */
} lrn;

static espl_status open_lines(espl__call *c, int64_t given, espl_diag *diag) {
    int axis;
    const espl_shape *x = &c->in->shape;
    espl_status status = espl__state(c, sizeof(lrn), diag);
    if (status == ESPL_OK) status = espl__axis(given, x->rank, &axis, diag);
    if (status != ESPL_OK) return status;
    lrn *k = c->state;
    k->channels = x->dim[axis];
    k->plane = espl__dims_product(x, axis + 1, x->rank);
    k->lines = espl__dims_product(x, 0, axis) * k->plane;
    return ESPL_OK;
}

static espl_status prepare_lrn(espl__call *c, espl_diag *diag) {
    espl_status status = open_lines(c, 1, diag);
    if (status != ESPL_OK) return status;
    lrn *k = c->state;
    k->alpha = (double)espl__attr_float(c->node, "alpha", 1e-4f);
    k->beta = (double)espl__attr_float(c->node, "beta", 0.75f);
    k->bias = (double)espl__attr_float(c->node, "bias", 1);
    k->size = espl__attr_int(c->node, "size", 1);
    k->before = ESPL_MIN((k->size - 1) / 2, k->channels);
    k->after = ESPL_MIN(k->size - 1 - (k->size - 1) / 2, k->channels);
    c->backward_bytes = (uint64_t)(espl__pool_threads(c->pool) * 2 * k->channels) * espl__real_bytes(c);
    return ESPL_OK;
}

static espl_status prepare_lp(espl__call *c, espl_diag *diag) {
    espl_status status = open_lines(c, espl__attr_int(c->node, "axis", -1), diag);
    if (status == ESPL_OK) ((lrn *)c->state)->size = espl__attr_int(c->node, "p", 2);
    return status;
}

static espl_status prepare_mvn(espl__call *c, espl_diag *diag) {
    espl__ints axes;
    bool reduced[ESPL_MAX_RANK];
    espl_status status = espl__state(c, sizeof(lrn), diag);
    if (status == ESPL_OK) status = espl__read_ints(c->node, "axes", -1, &axes, diag);
    if (status != ESPL_OK) return status;
    lrn *k = c->state;
    if (!axes.present) axes = (espl__ints){.v = {0, 2, 3}, .count = 3, .known = true};
    status = espl__axes_mask(&axes, c->in->shape.rank, reduced, diag);
    if (status != ESPL_OK) return status;
    k->kept = c->in->shape;
    for (int i = 0; i < k->kept.rank; i++)
        if (reduced[i]) k->kept.dim[i] = 1;
    k->lines = ESPL_MAX(1, espl_shape_count(&k->kept));
    c->forward_bytes = c->backward_bytes = 4 * (uint64_t)k->lines * espl__real_bytes(c);
    return ESPL_OK;
}

#define REAL_FILE "train/ops/lrn.inc.h"
#include "train/real.h"

static void lrn_forward(espl__call *c) {
    espl__spread(c, ((lrn *)c->state)->lines, espl_shape_count(&c->in->shape), ESPL__REAL(c, lrn_images), c);
}
static void lrn_backward(espl__call *c) {
    espl__spread(c, ((lrn *)c->state)->lines, espl_shape_count(&c->in->shape), ESPL__REAL(c, lrn_back), c);
}
static void lp_forward(espl__call *c) {
    ESPL__REAL(c, lp_lines)(c->state, c, false);
}
static void lp_backward(espl__call *c) {
    ESPL__REAL(c, lp_lines)(c->state, c, true);
}
static void mvn_forward(espl__call *c) {
    ESPL__REAL(c, mvn)(c, false);
}
static void mvn_backward(espl__call *c) {
    ESPL__REAL(c, mvn)(c, true);
}

#define DEFINE(Name, short_name)                                             \
    const espl__grad espl__grad_##Name = {.op = #Name,                       \
                                          .inputs = 1,                       \
                                          .reads_in = 1,                     \
                                          .prepare = prepare_##short_name,   \
                                          .forward = short_name##_forward,   \
                                          .backward = short_name##_backward, \
                                          .release = espl__state_free};
DEFINE(LRN, lrn)
DEFINE(LpNormalization, lp)
DEFINE(MeanVarianceNormalization, mvn)
