/* NegativeLogLikelihoodLoss and SoftmaxCrossEntropyLoss as operators inside a network; the trainer's own
 * losses are train/loss.c. The weights of the classes are given, not trained. */
#include "ops/loss.h"

#include <math.h>

#include "train/ops/loops.h"

enum { X, TARGET, WEIGHT };

static espl_status prepare(espl__call *c, espl_diag *diag) {
    espl_status status = espl__state(c, sizeof(espl__op_loss), diag);
    return status == ESPL_OK ? espl__loss_read(c->node, &c->in[X].shape, c->state, diag) : status;
}
static espl_status prepare_sce(espl__call *c, espl_diag *diag) {
    c->forward_bytes = c->backward_bytes = (uint64_t)c->in[X].shape.dim[1] * espl__real_bytes(c);
    return prepare(c, diag);
}

#define REAL_FILE "train/ops/nll.inc.h"
#include "train/real.h"

static void forward(espl__call *c) {
    ESPL__REAL(c, nll)(c, false);
}
static void forward_sce(espl__call *c) {
    ESPL__REAL(c, nll)(c, true);
}
static void backward(espl__call *c) {
    ESPL__REAL(c, nll_back)(c, false);
}
static void backward_sce(espl__call *c) {
    ESPL__REAL(c, nll_back)(c, true);
}

const espl__grad espl__grad_NegativeLogLikelihoodLoss = {.op = "NegativeLogLikelihoodLoss",
                                                         .inputs = 1,
                                                         .reads_in = 6,
                                                         .prepare = prepare,
                                                         .forward = forward,
                                                         .backward = backward,
                                                         .release = espl__state_free};
const espl__grad espl__grad_SoftmaxCrossEntropyLoss = {.op = "SoftmaxCrossEntropyLoss",
                                                       .inputs = 1,
                                                       .reads_in = 7,
                                                       .prepare = prepare_sce,
                                                       .forward = forward_sce,
                                                       .backward = backward_sce,
                                                       .release = espl__state_free};
