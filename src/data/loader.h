/* Batches for training: in an order of its own for each epoch, augmented, and prepared ahead by a thread.
 *
 * A text is cut into `batch` columns, each a run of consecutive tokens, the rest at the end left out. Step t
 * is the t-th `sequence` tokens of every column, so that what a network keeps from step to step fits; what is
 * left of a column is left out. Order, augmentation and the last batch are no question then; a rank takes
 * columns.
 *
 * What a batch holds depends on the options and on its place (epoch, step) only; draws come from seed, epoch
 * and sample. So the place is the whole state: to go on where another loader stopped, seek. */
#ifndef ESPL_DATA_LOADER_H
#define ESPL_DATA_LOADER_H

#include "data/data.h"

typedef struct espl__loader espl__loader;

typedef struct espl__loader_options {
    int64_t batch;  /* samples of a step, those of all ranks together: a multiple of `ranks` */
    uint64_t seed;  /* of the order and of the augmentation */
    bool shuffle;   /* a new order in each epoch, else that of the data set */
    bool augment;   /* as the description says under `augment` */
    bool drop_last; /* no last batch of fewer samples */
    int prefetch;   /* batches that a thread makes ahead; 0: each is made when it is asked for */
    /* Rank r of n takes the r-th of n equal parts of every batch; 0 of 0: all. */
    int rank, ranks;
    int64_t sequence; /* of a text: tokens of a step; 0: the description's */
    uint64_t cache;   /* most bytes of decoded pictures that are kept; 0: ESPL__LOADER_CACHE */
} espl__loader_options;

#define ESPL__LOADER_CACHE ((uint64_t)2 << 30)
enum { ESPL__LOADER_MOST = 1 << 24, ESPL__LOADER_MOST_PREFETCH = 64 };

typedef struct espl__batch {
    int64_t epoch, step;
    int64_t count; /* samples of this rank; perhaps 0 in the last batch of an epoch, if that is not full */
    int64_t total; /* samples of all ranks */
    int inputs;
    const float *input[ESPL__DATA_MAX_INPUTS]; /* [count][shape of a sample] */
    const int64_t *labels;                     /* [count], -1 without labels */
    const int64_t *index;                      /* [count]: which samples of the data set these are */
    /* Of a text, instead of the above: count is columns, inputs 0. */
    int64_t sequence;
    const int64_t *tokens, *targets; /* [sequence][count]; a target is the token behind */
} espl__batch;

/* From now on until destroy the data set is the loader's: with prefetch it is read from another thread, and
 * that thread uses the context's allocator too. The first batch is step 0 of epoch 0. */
ESPL_NODISCARD espl_status espl__loader_create(espl_context *ctx, espl_dataset *dataset,
                                               const espl__loader_options *options, espl__loader **out,
                                               espl_diag *diag);
/* At any time, batches on the way or not. The data set is not closed. */
void espl__loader_destroy(espl__loader **loader);
/* Batches of an epoch. */
int64_t espl__loader_steps(const espl__loader *loader);
/* The next batch is step `step` of `epoch`; step == steps means step 0 of the next epoch. */
ESPL_NODISCARD espl_status espl__loader_seek(espl__loader *loader, int64_t epoch, int64_t step,
                                             espl_diag *diag);
/* The next batch, valid until the next call of next, seek or destroy; there is no last one. After a failure
 * the place stays: next fails again with the same sentence, until seek. */
ESPL_NODISCARD espl_status espl__loader_next(espl__loader *loader, espl__batch *batch, espl_diag *diag);

#endif
