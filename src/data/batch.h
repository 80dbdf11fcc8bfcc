/* What a batch holds: the part of the loader that knows no threads. */
#ifndef ESPL_DATA_BATCH_H
#define ESPL_DATA_BATCH_H

#include "data/augment.h"
#include "data/cache.h"
#include "data/loader.h"

typedef struct espl__batcher {
    espl_context *ctx;
    espl_dataset *dataset;
    espl__loader_options options; /* ranks at least 1 */
    int64_t samples, steps;
    int64_t *order; /* of the samples in epoch `ordered`; NULL without shuffling */
    int64_t ordered;
    bool images; /* one input of rank 3: goes through the augmenter */
    espl__augmenter augmenter;
    espl__cache cache;
    float *raw;               /* one sample */
    int64_t sequence, column; /* tokens of a step and of a column; 0: no text */
} espl__batcher;

/* Memory of one batch of this rank. */
typedef struct espl__batch_store {
    float *input[ESPL__DATA_MAX_INPUTS];
    int64_t *labels, *index, *tokens, *targets;
} espl__batch_store;

ESPL_NODISCARD espl_status espl__batcher_create(espl_context *ctx, espl_dataset *dataset,
                                                const espl__loader_options *options, espl__batcher *out,
                                                espl_diag *diag);
void espl__batcher_free(espl__batcher *batcher);
ESPL_NODISCARD espl_status espl__batch_store_create(const espl__batcher *batcher, espl__batch_store *out,
                                                    espl_diag *diag);
void espl__batch_store_free(espl_context *ctx, espl__batch_store *store);
/* Step `step` of `epoch` into `store`; `batch` says what lies there. */
ESPL_NODISCARD espl_status espl__batch_make(espl__batcher *batcher, int64_t epoch, int64_t step,
                                            espl__batch_store *store, espl__batch *batch, espl_diag *diag);

#endif
