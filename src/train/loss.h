/* Losses: how far a network's output is from what it should be, and the gradient by the output.
 *
 * All are means over the rows that count: samples, or tokens. The output of a row are the logits of one
 * prediction, the last axis that is not 1. */
#ifndef ESPL_TRAIN_LOSS_H
#define ESPL_TRAIN_LOSS_H

#include "base/pool.h"
#include "tensor/tensor.h"

/* X(NAME, name, what it is) */
#define ESPL__LOSS_LIST(X)                                                                    \
    X(CROSS_ENTROPY, "cross-entropy",                                                         \
      "-log softmax(logits)[label], perhaps with smoothed labels; labels of -1 do not count") \
    X(MSE, "mse", "mean squared difference of the output and the input: for autoencoders")    \
    X(DISTILLATION, "distillation",                                                           \
      "cross-entropy mixed with the divergence from a teacher's softened probabilities")

typedef enum espl__loss_kind {
#define X(NAME, name, text) ESPL__LOSS_##NAME,
    ESPL__LOSS_LIST(X)
#undef X
} espl__loss_kind;

typedef struct espl__loss_options {
    espl__loss_kind kind;
    double smoothing;   /* of labels: a share that goes to all classes alike (Szegedy et al. 2016) */
    double temperature; /* of distillation (Hinton et al. 2015); 0: 1 */
    double hard;        /* the share of cross-entropy in distillation; 0: the teacher alone */
} espl__loss_options;

/* Sums, so that batches and ranks can be added up. */
typedef struct espl__loss_sums {
    double loss;
    int64_t rows, correct; /* rows that count; those whose largest logit is the label's */
} espl__loss_sums;

typedef struct espl__loss espl__loss;

/* output: type and shape of the outputs to come; no data. */
ESPL_NODISCARD espl_status espl__loss_create(espl_context *ctx, const espl__loss_options *options,
                                             const espl_tensor *output, espl__loss **out, espl_diag *diag);
void espl__loss_destroy(espl__loss **loss);
int64_t espl__loss_rows(const espl__loss *loss);
int64_t espl__loss_classes(const espl__loss *loss);
/* Rows that count among the first `rows`. labels may be NULL for MSE. */
int64_t espl__loss_valid(const espl__loss *loss, const int64_t *labels, int64_t rows);
/* Adds to *sums. target: what the output should be (MSE) or the teacher's logits (distillation), of the
 * output's type and shape; else NULL. gradient, if not NULL, becomes that of sum of losses times `scale`:
 * give 1 / (rows that count). Labels must be below `classes`. */
void espl__loss_run(espl__loss *loss, const void *output, const int64_t *labels, int64_t rows,
                    const void *target, double scale, void *gradient, espl__loss_sums *sums);

#endif
