/* Inside floor 6: ranges, decisions, and the methods that turn them into encodings. */
#ifndef ESPL_COMPRESS_INTERNAL_H
#define ESPL_COMPRESS_INTERNAL_H

#include "compress/prune/prune.h"
#include "compress/quant/observer.h"
#include "compress/quant/weights.h"
#include "compress/recipe.h"
#include "espalier/compress.h"
#include "graph/graph.h"

/* What is to become of a node, by node id. */
typedef struct decision {
    espl_sparsity pattern;
    espl__saliency saliency;
    espl_format weights; /* of its weights; F32: the layer stays in floating point */
    bool integer;        /* compute in integers if its neighbours allow it */
    /* Of its inputs; F32: with `integer` the 8 bits of the flavour, else not rounded. Formats that are not integers of at
     * most 8 bits are computed in f32. */
    espl_format activations;
    bool dynamic;    /* the inputs' range is found in every run */
    bool per_tensor; /* one scale for the weights instead of one per channel */
    int64_t group;   /* inputs that share a scale, where weights are a matrix; 0: all */
    bool pow2;       /* scales are powers of two, of weights and activations */
    espl__fit fit;
    espl__round round;
} decision;

/* Runs samples through the f32 network and lets the observer of each range (by value id of `graph`) see them; `observed`
 * says of which values, NULL: of all. Memory does not grow with the number of samples. */
ESPL_NODISCARD espl_status espl__calibrate(espl_context *ctx, const espl_graph *graph,
                                           const espl_shape *shapes, espl_dataset *data, int64_t first,
                                           int64_t step, int64_t count, const bool *observed, range *ranges,
                                           espl_progress progress, void *user, espl_diag *diag);

/* Runs samples 0, step, 2 step, ... (`count` of them, or as many as there are; without data they are drawn) and shows
 * inputs and outputs of each run. */
typedef espl_status (*espl__sample_fn)(void *user, int64_t index, const espl_tensor *inputs, const espl_tensor *outputs,
                                       espl_diag *diag);
ESPL_NODISCARD espl_status espl__each_sample(espl_context *ctx, espl_session *session, espl_dataset *data, int64_t step,
                                             int64_t count, espl__sample_fn fn, void *user, espl_diag *diag);

/* Whether the layer can be computed in integers. */
bool espl__ptq_computes(const espl__node *node);
/* Sets observed[i] for every value whose range espl__ptq_apply could ask for, whatever the decisions. */
ESPL_NODISCARD espl_status espl__ptq_observed(espl_graph *graph, espl_flavour flavour, bool *observed,
                                              espl_diag *diag);
/* Post-training quantization: gives `graph` the encodings that `decisions` ask for. */
ESPL_NODISCARD espl_status espl__ptq_apply(espl_graph *graph, const range *ranges, const decision *decisions,
                                           espl_flavour flavour, espl_diag *diag);

/* What a row of a recipe says, and the row that says what a decision is (texts are the caller's: match, pattern). */
void espl__recipe_decide(const espl__recipe_layer *row, decision *out);
espl__recipe_layer espl__recipe_row(const decision *decision);
/* How scales are found unless a recipe says otherwise: docs/methods.md, fit. */
espl__fit espl__fit_usual(espl_format format);

/* A node with trained weights of its own. */
bool espl__is_layer(const espl__node *node);
/* Sums over its constants: all parameters, those of the weight tensors, zeros among these, and bytes as an .espl file
 * stores them. */
typedef struct espl__layer_sums {
    int64_t params, weights, zeros;
    uint64_t bytes;
} espl__layer_sums;
espl__layer_sums espl__layer_weights(const espl__node *node);
/* The noted pattern of its weights, of several pruned ones the largest, and how evenly the non-zeros lie (NULL: not asked). */
espl_sparsity espl__layer_pattern(const espl__node *node, double *balance);

#endif
