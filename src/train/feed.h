/* From batches of data to the inputs of a network, and its state from batch to batch. */
#ifndef ESPL_TRAIN_FEED_H
#define ESPL_TRAIN_FEED_H

#include "data/loader.h"
#include "train/engine.h"

enum { ESPL__TRAIN_FEED_TOKENS = -1, ESPL__TRAIN_FEED_STATE = -2 };

typedef struct espl__train_feed_input {
    int source; /* array of the data set, or one of the above */
    int next;   /* of a state: the output that it becomes */
    char *state;
    size_t bytes;
} espl__train_feed_input;

typedef struct espl__train_feed {
    espl_context *ctx;
    espl_dtype real;
    int inputs, output; /* the output that the loss is of */
    espl__train_feed_input *input;
    espl_shape *shapes; /* of the graph's inputs, for this batch */
    int states;
} espl__train_feed;

/* For `batch` samples, or columns of text of `sequence` tokens (0: samples). */
ESPL_NODISCARD espl_status espl__train_feed_create(espl_context *ctx, const espl_graph *graph,
                                                   const espl_dataset *data, int64_t batch, int64_t sequence,
                                                   espl_dtype real, espl__train_feed *out, espl_diag *diag);
void espl__train_feed_free(espl__train_feed *feed);
/* Fills the engine's inputs. A batch that is not full leaves what is behind it as it was. */
void espl__train_feed_batch(const espl__train_feed *feed, espl__engine *engine, const espl__batch *batch);
/* Where the loss's gradient goes; those of other outputs, which the loss does not look at, become zeros. */
espl_tensor espl__train_feed_gradient(const espl__train_feed *feed, const espl__engine *engine);
/* Whether each state comes back as it goes in. */
ESPL_NODISCARD espl_status espl__train_feed_check(const espl__train_feed *feed, const espl_graph *graph,
                                                  const espl__engine *engine, espl_diag *diag);
/* The state after the batch that the engine has seen is the state before the next. */
void espl__train_feed_carry(espl__train_feed *feed, const espl__engine *engine);
/* The state of the start: zeros. */
void espl__train_feed_reset(espl__train_feed *feed);

#endif
