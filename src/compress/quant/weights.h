/* Weights on a grid: which scales, and which codes. The two are apart because some methods (repair/) choose
 * codes otherwise for scales that are chosen here. */
#ifndef ESPL_WEIGHTS_QUANT_H
#define ESPL_WEIGHTS_QUANT_H

#include "graph/graph.h"

/* X(NAME, name, what it is): how the scale of weights is found. Formats that define their scale (ternary,
 * binary) have no choice. */
#define ESPL__FIT_LIST(X)                                 \
    X(MAX, "max", "the largest |w| has the largest code") \
    X(MSE, "mse",                                         \
      "the scale with the least squared error, of that and smaller ones (weights beyond it saturate)")

/* X(NAME, name, what it is) */
#define ESPL__ROUND_LIST(X)                                                                           \
    X(NEAREST, "nearest", "the nearest code, to even where two are as near")                          \
    X(STOCHASTIC, "stochastic",                                                                       \
      "one of the two neighbours, the nearer one more often: right in the mean; binary: +1 with p = " \
      "clip((w + 1) / 2, 0, 1)")

/* X(NAME, name, parameters, what it is): how many scales weights have, and which. Keys of a recipe's row. */
#define ESPL__SCALES_LIST(X)                                                                                 \
    X(CHANNEL, "scale: channel", "", "a scale for each output channel")                                      \
    X(TENSOR, "scale: tensor", "", "one scale for all")                                                      \
    X(GROUP, "group", "N", "a scale, stored as f16, for every N inputs of an output channel; matrices only") \
    X(POW2, "grid: pow2", "",                                                                                \
      "scales are powers of two, of activations too: Q format, products need only shifts")

/* X(NAME, name, what it is): when the activations of a layer are rounded. */
#define ESPL__COMPUTE_LIST(X)                                                                \
    X(STATIC, "static", "activations on a grid that calibration found, products of codes")   \
    X(DYNAMIC, "dynamic", "the inputs of matrix products on a grid found anew in every run") \
    X(WEIGHTS, "weights", "weights alone are rounded, products in f32")

typedef enum espl__compute {
#define X(NAME, name, text) ESPL__COMPUTE_##NAME,
    ESPL__COMPUTE_LIST(X)
#undef X
} espl__compute;
typedef enum espl__fit {
#define X(NAME, name, text) ESPL__FIT_##NAME,
    ESPL__FIT_LIST(X)
#undef X
} espl__fit;
typedef enum espl__round {
#define X(NAME, name, text) ESPL__ROUND_##NAME,
    ESPL__ROUND_LIST(X)
#undef X
} espl__round;

/* What weights shall become. */
typedef struct espl__weight_plan {
    espl_format format; /* of any kind but F32 */
    int axis;           /* one scale per index of it; -1: one for the tensor */
    int group_axis;
    int64_t group; /* elements along group_axis that share a scale, with f16 scales; 0: all */
    bool pow2;     /* scales are powers of two (Q format) */
    espl__fit fit;
    espl__round round;
    uint64_t seed; /* of stochastic rounding */
} espl__weight_plan;

/* Scales and offsets for an f32 tensor; arrays are the graph's arena's. Weights that are no number count as
 * 0, infinite ones as the largest finite one; a set of zeros has the scale 1. False without memory. */
bool espl__weight_grid(espl_graph *g, const espl_tensor *w, const espl__weight_plan *plan, espl__quant *out);
/* The codes on that grid, as an arena tensor of espl__format_dtype. NULL without memory. */
espl_tensor *espl__weight_codes(espl_graph *g, const espl_tensor *w, const espl__quant *grid,
                                const espl__weight_plan *plan);
/* The scale that is stored for this one: of groups, and of formats of at most 4 bits, the nearest of f16.
 * Beyond the normal numbers of f16 groups take its nearest too, others keep f32. Whoever changes a scale asks
 * anew. */
float espl__weight_scale(const espl__quant *grid, float scale);
/* Rounds the f32 bias of a layer whose weights have such scales to f16. */
void espl__weight_bias(const espl__quant *weights, float *bias, int64_t count);
/* Makes a constant of codes and grid that stands where `old` stood. NULL without memory. */
espl__value *espl__weight_constant(espl_graph *g, const espl__value *old, espl_tensor *codes,
                                   const espl__quant *grid);

#endif
