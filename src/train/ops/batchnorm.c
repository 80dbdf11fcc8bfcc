/* BatchNormalization (Ioffe and Szegedy 2015), and NormRelu, which the engine makes of it with a residual
 * addition and a Relu behind it: y = relu(scale (x - mean) / sqrt(var + epsilon) + bias + residual).
 *
 * In training mean and variance are those of the batch, and the running ones move towards them,
 * running = momentum running + (1 - momentum) batch, the variance with n - 1 as PyTorch has it. With z the
 * sum before the Relu, dz = dy where y > 0, and x^ the normalised x:
 *
 *     dbias = sum dz    dscale = sum dz x^    dx = scale / sqrt(var + epsilon) (dz - dbias / n - x^ dscale /
 * n)
 *
 * Variances are sums of (x - s)^2 with s the running mean, which is near enough to the mean to lose no
 * digits, and the same on all ranks. */
#include <math.h>

#include "train/grad.h"

typedef struct norm {
    int64_t channels, rows, runs;
    double epsilon, momentum;
    bool relu;
    void *saved;  /* mean and 1 / sqrt(var + epsilon), reals: kept here, so that a second forward pass has the
                     same */
    double *sums; /* [runs][2][channels] */
    double *row;  /* [2 * channels + 1]: the sums of all, and how many rows */
} norm;

static espl__grad_layout last(const espl__node *node) {
    (void)node;
    return ESPL__GRAD_LAST;
}

static espl_status prepare(espl__call *c, espl_diag *diag) {
    const espl_shape *s = &c->in[0].shape;
    if (espl__attr_int(c->node, "training_mode", 0) || c->node->output_count > 1)
        return espl__fail(diag, ESPL_UNSUPPORTED, "BatchNormalization: is in training mode already; export for "
                          "inference, training sets the mode itself");
    norm *k = c->state = espl__calloc(c->ctx, 1, sizeof *k);
    if (!k) return espl__nomem(diag, sizeof *k);
    k->channels = s->rank > 1 ? s->dim[s->rank - 1] : 1;
    k->rows = k->channels ? espl_shape_count(s) / k->channels : 0;
    if (k->rows < 1) return espl__fail(diag, ESPL_SHAPE, "batch normalization of nothing");
    k->runs = ESPL_MIN(espl__pool_threads(c->pool), k->rows);
    k->epsilon = (double)espl__attr_float(c->node, "epsilon", 1e-5f);
    k->momentum = (double)espl__attr_float(c->node, "momentum", 0.9f);
    k->relu = espl__attr_int(c->node, "relu", 0) != 0;
    k->sums = espl__calloc(c->ctx, (uint64_t)(k->runs + 1) * 2 * (uint64_t)k->channels + 1, sizeof(double));
    k->saved = espl__calloc(c->ctx, 2 * (uint64_t)k->channels + 1, espl__real_bytes(c));
    if (!k->sums || !k->saved) return espl__nomem(diag, 0);
    k->row = k->sums + k->runs * 2 * k->channels;
    c->forward_bytes = 2 * (uint64_t)k->channels * espl__real_bytes(c);
    c->backward_bytes = 5 * (uint64_t)k->channels * espl__real_bytes(c);
    return ESPL_OK;
}

static void release(espl__call *c) {
    norm *k = c->state;
    if (k) {
        espl__free(c->ctx, k->sums);
        espl__free(c->ctx, k->saved);
    }
    espl__free(c->ctx, c->state);
    c->state = NULL;
}

/* Adds the runs up in order, and the ranks. */
static void add_up(espl__call *c) {
    norm *k = c->state;
    int64_t n = 2 * k->channels;
    for (int64_t i = 0; i < n; i++) {
        double sum = 0;
        for (int64_t run = 0; run < k->runs; run++) sum += k->sums[run * n + i];
        k->row[i] = sum;
    }
    k->row[n] = (double)k->rows;
    if (c->sync) c->status = c->sync->sum(c->sync->arg, k->row, n + 1);
}

#define REAL_FILE "train/ops/batchnorm.inc.h"
#include "train/real.h"

static void forward(espl__call *c) {
    ESPL__REAL(c, norm_forward)(c);
}
static void backward(espl__call *c) {
    ESPL__REAL(c, norm_backward)(c);
}

const espl__grad espl__grad_BatchNormalization = {.op = "BatchNormalization",
                                                  .inputs = 7,
                                                  .params = 6,
                                                  .stats = 24,
                                                  .reads_in = 7,
                                                  .layout = last,
                                                  .prepare = prepare,
                                                  .forward = forward,
                                                  .backward = backward,
                                                  .release = release};
/* Input 5: the residual, which may be absent. */
const espl__grad espl__grad_NormRelu = {.op = "NormRelu",
                                        .inputs = 39,
                                        .params = 6,
                                        .stats = 24,
                                        .reads_in = 7,
                                        .reads_out = 1,
                                        .layout = last,
                                        .prepare = prepare,
                                        .forward = forward,
                                        .backward = backward,
                                        .release = release};
