/* Optimisers: from gradients to new weights, over the engine's flat vectors. All arithmetic is element by
 * element, so results do not depend on the number of threads. */
#ifndef ESPL_TRAIN_OPTIM_H
#define ESPL_TRAIN_OPTIM_H

#include "base/pool.h"
#include "tensor/tensor.h"

/* X(NAME, name, vectors of state, what it is) */
#define ESPL__OPTIM_LIST(X)                                                                          \
    X(SGD, "sgd", 1, "stochastic gradient descent, perhaps with momentum (Nesterov's if asked for)") \
    X(ADAM, "adam", 2, "Adam (Kingma and Ba 2015); weight decay is added to the gradient")           \
    X(ADAMW, "adamw", 2, "Adam with decoupled weight decay (Loshchilov and Hutter 2019)")

typedef enum espl__optim_kind {
#define X(NAME, name, vectors, text) ESPL__OPTIM_##NAME,
    ESPL__OPTIM_LIST(X)
#undef X
} espl__optim_kind;

typedef struct espl__optim_options {
    espl__optim_kind kind;
    double momentum;
    bool nesterov;
    double beta1, beta2, epsilon;
    double weight_decay; /* of ranges that decay */
    double ema;          /* > 0: decay of an exponential moving average of the weights */
} espl__optim_options;

/* Elements [first, first + count) of the flat vectors; what no range covers stays as it is. */
typedef struct espl__optim_range {
    int64_t first, count;
    bool decays;
} espl__optim_range;

typedef struct espl__optim espl__optim;

enum { ESPL__OPTIM_VECTORS = 3 };

/* The average starts as `weights`. */
ESPL_NODISCARD espl_status espl__optim_create(espl_context *ctx, const espl__optim_options *options,
                                              espl_dtype real, int64_t count, const espl__optim_range *ranges,
                                              int range_count, const void *weights, espl__optim **out,
                                              espl_diag *diag);
void espl__optim_destroy(espl__optim **optim);
/* Euclidean norm of a flat vector: summed in f64 in an order that does not depend on threads. */
double espl__optim_norm(espl__optim *optim, const void *vector);
/* One step with gradients times `scale`. */
void espl__optim_step(espl__optim *optim, double rate, double scale, void *weights, const void *gradients);
/* Everything that has to be kept to go on later: steps so far, and the i-th vector of `count` reals, NULL
 * past the last one. */
int64_t *espl__optim_steps(espl__optim *optim);
void *espl__optim_vector(espl__optim *optim, int index);
/* The average of the weights, NULL if none is made. */
void *espl__optim_average(espl__optim *optim);

#endif
