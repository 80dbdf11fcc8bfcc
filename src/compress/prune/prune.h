/* Pruning: a saliency says how much each weight matters, a pattern which weights may go together, and the
 * least salient go. Definitions: docs/recipes.md. Every result is determined by the weights alone: among
 * equals the first stay, in the order rows, taps, inputs. */
#ifndef ESPL_PRUNE_H
#define ESPL_PRUNE_H

#include "graph/graph.h"

/* X(NAME, name, what it is) */
#define ESPL__SALIENCY_LIST(X) X(MAGNITUDE, "magnitude", "|w|: the weight's absolute value")

typedef enum espl__saliency {
#define X(NAME, name, text) ESPL__SALIENCY_##NAME,
    ESPL__SALIENCY_LIST(X)
#undef X
        ESPL__SALIENCY_COUNT
} espl__saliency;

/* What a saliency may look at. */
typedef struct espl__salient {
    const float *weights;
    int64_t count;
} espl__salient;
/* Writes `count` saliencies, none negative. A NaN matters most. */
void espl__saliency_of(espl__saliency kind, const espl__salient *of, float *out);

/* One weight tensor to prune: saliency and keep have an element for each of its. */
typedef struct espl__prune_part {
    espl__matrix matrix;
    const float *saliency;
    uint8_t *keep; /* out: 1 stays, 0 goes */
} espl__prune_part;
/* Fills keep of every part. A global pattern takes all parts together, others take each by itself. */
ESPL_NODISCARD espl_status espl__prune_masks(espl_context *ctx, const espl_sparsity *pattern,
                                             const espl__prune_part *parts, int count, espl_diag *diag);

/* What a pattern makes of one weight input: itself, or dense, and then *why says why in a few words. `why`
 * has room for ESPL__PRUNE_WHY bytes and is "" otherwise. */
enum { ESPL__PRUNE_WHY = 128 };
espl_sparsity espl__prune_effective(const espl_graph *g, const espl__node *node, int input,
                                    const espl_sparsity *pattern, espl__matrix *matrix, char *why);
struct decision;
/* Puts zeros into the weights of `g`, in place, as the decisions of its nodes say, and notes the patterns. */
ESPL_NODISCARD espl_status espl__prune_apply(espl_graph *g, const struct decision *decisions,
                                             espl_diag *diag);

#endif
