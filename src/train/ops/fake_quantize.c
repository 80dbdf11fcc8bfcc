/* FakeQuantize, which the engine makes of a QuantizeLinear and the DequantizeLinear behind it:
 *
 *     q = saturate(rne(x / s) + z)    y = (q - z) s
 *
 * Rounding has no slope of use, so it counts as the identity where nothing saturates (the straight-through
 * estimator, Bengio 2013), and the scale follows (learned step size, Esser et al. 2020)
 *
 *     dx = dy                     ds = g sum dy (q - z - x / s)    inside
 *     dx = 0                      ds = g sum dy (q - z)            where it saturates
 *
 * with g = 1 / sqrt(n p), n the elements of the tensor that share the scale (of one sample, if it is an
 * activation) and p the largest code: with it a scale moves about as fast, for its size, as the weights. */
#include <math.h>

#include "train/ops/loops.h"

typedef struct fake {
    int64_t channels, inner, runs;
    double low, high, factor;
    double *zero, *sums; /* [channels], [runs][channels] */
} fake;

static void release(espl__call *c) {
    fake *k = c->state;
    if (k) {
        espl__free(c->ctx, k->zero);
        espl__free(c->ctx, k->sums);
    }
    espl__state_free(c);
}

static espl_status prepare(espl__call *c, espl_diag *diag) {
    espl_status status = espl__state(c, sizeof(fake), diag);
    if (status != ESPL_OK) return status;
    fake *k = c->state;
    const espl_shape *x = &c->in[0].shape;
    const espl__value *zero = espl__in(c->node, 2);
    int64_t axis = espl__attr_int(c->node, "axis", 0), count = espl_shape_count(x);
    k->channels = espl_shape_count(&c->in[1].shape);
    k->inner = k->channels == 1 ? ESPL_MAX(1, count) : espl__dims_product(x, (int)axis + 1, x->rank);
    k->runs = espl__pool_threads(c->pool);
    k->low = (double)espl__attr_int(c->node, "low", -128);
    k->high = (double)espl__attr_int(c->node, "high", 127);
    k->zero = espl__calloc(c->ctx, (uint64_t)k->channels + 1, sizeof(double));
    k->sums = espl__calloc(c->ctx, (uint64_t)(k->runs * k->channels) + 1, sizeof(double));
    if (!k->zero || !k->sums) return espl__nomem(diag, 0);
    if (zero) espl__load_f64(zero->constant->dtype, zero->constant->data, 1, k->channels, k->zero);
    bool weights = espl__attr_int(c->node, "weights", 0);
    int64_t others = weights ? k->channels : x->rank ? x->dim[0] : 1;
    double sharing = ESPL_MAX(1.0, (double)count / (double)ESPL_MAX(1, others));
    k->factor = 1 / sqrt(sharing * ESPL_MAX(1, k->high));
    return ESPL_OK;
}

/* With one scale the elements' order does not matter. */
static espl__grad_layout layout(const espl__node *node) {
    return espl_shape_count(&node->inputs[1]->shape) == 1 ? ESPL__GRAD_ANY : ESPL__GRAD_ROWS;
}

#define REAL_FILE "train/ops/fake_quantize.inc.h"
#include "train/real.h"

static void forward(espl__call *c) {
    const fake *k = c->state;
    espl__spread(c, k->runs, espl_shape_count(&c->in->shape), ESPL__REAL(c, forward_runs), c);
}

static void backward(espl__call *c) {
    const fake *k = c->state;
    memset(k->sums, 0, (size_t)(k->runs * k->channels) * sizeof(double));
    espl__spread(c, k->runs, espl_shape_count(&c->in->shape), ESPL__REAL(c, backward_runs), c);
    if (c->din[1].data) ESPL__REAL(c, scale_gradient)(c);
}

const espl__grad espl__grad_FakeQuantize = {.op = "FakeQuantize",
                                            .inputs = 3,
                                            .params = 3,
                                            .reads_in = 3,
                                            .layout = layout,
                                            .prepare = prepare,
                                            .forward = forward,
                                            .backward = backward,
                                            .release = release};
