/* What a session is given, sample by sample: arrays of a data set, the tokens of a text, or random numbers.
 */
#ifndef ESPL_FEED_H
#define ESPL_FEED_H

#include "espalier/data.h"
#include "espalier/session.h"
#include "tensor/tensor.h"

typedef struct espl__feed {
    espl_context *ctx;
    espl_session *session;
    espl_dataset *data; /* NULL: inputs are drawn */
    espl_tensor *inputs, *outputs;         /* f32 where the session has floats of 16 bits */
    espl_tensor *raw_inputs, *raw_outputs; /* what the session takes and gives: the same, or those in 16 bits */
    int *source; /* by input: the array of the data set that feeds it, -1: what follows */
    int *next;   /* by input: the output that the input is in the next run (X and X.next), -1: none */
    bool carry;  /* there was a run, whose X.next the next one begins with */
    /* Of a text: the stream, and how many tokens a run takes. */
    const int32_t *tokens;
    int64_t token_count, sequence;
} espl__feed;

/* Floats that are seen as f32 here. */
static inline bool espl__fed_as_f32(espl_dtype dtype) {
    return dtype == ESPL_F32 || dtype == ESPL_F16 || dtype == ESPL_BF16;
}

/* A data set's arrays and the network's inputs are paired by name, else in order. A text feeds the one input
 * that is no state: `sequence` consecutive tokens of one column, whatever the input's shape is. */
ESPL_NODISCARD espl_status espl__feed_open(espl_context *ctx, espl_session *session, espl_dataset *data,
                                           espl__feed *out, espl_diag *diag);
void espl__feed_close(espl__feed *feed);
/* How many samples there are (of a text: runs, the last one perhaps not full); 0 without data. */
int64_t espl__feed_count(const espl__feed *feed);
/* Of a text: the tokens that the network is to name in run `index`, and how many they are. */
const int32_t *espl__feed_targets(const espl__feed *feed, int64_t index, int64_t *count);
/* Rounds `inputs` to what the session takes. */
void espl__feed_put(espl__feed *feed);
/* Runs sample `index`; inputs and outputs are then there to be seen. States begin as zeros and are carried
 * from run to run. */
ESPL_NODISCARD espl_status espl__feed_run(espl__feed *feed, int64_t index, espl_diag *diag);

#endif
