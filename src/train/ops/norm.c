/* LayerNormalization (Ba, Kiros, Hinton 2016), InstanceNormalization, GroupNormalization: rows of n elements
 * get mean 0 and variance 1, then a scale and a bias. A row is `segments` channels of `plane` elements; in a
 * layer norm each element is a channel. */
#include <math.h>

#include "kernels/kernels.h"
#include "train/ops/loops.h"

typedef struct rows {
    int64_t count, n, segments, plane, runs;
    int64_t scales; /* how many there are: of scale or bias, what has more */
    int64_t groups; /* rows of an image */
    bool layer, per_group;
    double epsilon;
} rows;

static int64_t channel_of(const rows *k, int64_t row, int64_t segment) {
    if (k->layer) return segment;
    return k->per_group ? row % k->groups : row % k->groups * k->segments + segment;
}

static espl_status shape_of_layer(espl__call *c, rows *k, espl_diag *diag) {
    const espl_shape *x = &c->in->shape;
    int axis;
    espl_status status = espl__axis(espl__attr_int(c->node, "axis", -1), x->rank, &axis, diag);
    if (status != ESPL_OK) return status;
    for (int i = 1; i < c->outputs; i++)
        if (c->node->outputs[i])
            return espl__fail(diag, ESPL_UNSUPPORTED,
                              "LayerNormalization: training gives no Mean and InvStdDev");
    k->layer = true;
    k->count = espl__dims_product(x, 0, axis);
    k->segments = espl__dims_product(x, axis, x->rank);
    k->plane = 1;
    return ESPL_OK;
}

static void shape_of_groups(const espl__call *c, rows *k) {
    const espl_shape *x = &c->in->shape;
    bool instance = espl__node_is(c->node, "InstanceNormalization");
    k->groups = instance ? x->dim[1] : espl__attr_int(c->node, "num_groups", 1);
    k->per_group = !instance && c->node->opset < 21;
    k->count = x->dim[0] * k->groups;
    k->segments = x->dim[1] / ESPL_MAX(1, k->groups);
    k->plane = espl__dims_product(x, 2, x->rank);
}

static espl_status prepare(espl__call *c, espl_diag *diag) {
    espl_status status = espl__state(c, sizeof(rows), diag);
    if (status != ESPL_OK) return status;
    rows *k = c->state;
    if (espl__node_is(c->node, "LayerNormalization"))
        status = shape_of_layer(c, k, diag);
    else
        shape_of_groups(c, k);
    if (status != ESPL_OK) return status;
    k->n = k->segments * k->plane;
    if (k->n < 1 || k->count < 1)
        return espl__fail(diag, ESPL_SHAPE, "%s: nothing to normalise", c->node->op->name);
    k->epsilon = (double)espl__attr_float(c->node, "epsilon", 1e-5f);
    for (int i = 1; i < c->inputs && i < 3; i++)
        if (c->node->inputs[i]) k->scales = ESPL_MAX(k->scales, espl_shape_count(&c->in[i].shape));
    k->runs = ESPL_MIN(k->count, k->count * k->n < ESPL__GRAIN ? 1 : espl__pool_threads(c->pool));
    c->saved_bytes = 2 * (uint64_t)k->count * espl__real_bytes(c);
    c->forward_bytes = c->backward_bytes =
        (uint64_t)(k->runs * (4 * k->n + 2 * k->scales)) * espl__real_bytes(c);
    return ESPL_OK;
}

#define REAL_FILE "train/ops/norm.inc.h"
#include "train/real.h"

static void forward(espl__call *c) {
    const rows *k = c->state;
    espl__parallel_for(c->pool, k->runs, ESPL__REAL(c, norm_runs), c);
}
static void backward(espl__call *c) {
    const rows *k = c->state;
    espl__parallel_for(c->pool, k->runs, ESPL__REAL(c, norm_back_runs), c);
    for (int i = 1; i < 3; i++) ESPL__REAL(c, parameter_sums)(c, i);
}

#define DEFINE(Name)                                            \
    const espl__grad espl__grad_##Name = {.op = #Name,          \
                                          .inputs = 7,          \
                                          .params = 6,          \
                                          .reads_in = 3,        \
                                          .prepare = prepare,   \
                                          .forward = forward,   \
                                          .backward = backward, \
                                          .release = espl__state_free};
DEFINE(LayerNormalization)
DEFINE(InstanceNormalization)
DEFINE(GroupNormalization)
