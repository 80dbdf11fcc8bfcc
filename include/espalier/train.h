/* Training a network on data: docs/training.md. */
#ifndef ESPALIER_TRAIN_H
#define ESPALIER_TRAIN_H

#include "espalier/data.h"
#include "espalier/graph.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Reads an .onnx model for training: batch norms and dropouts stay what they are. The graph is returned in *out, owned
 * by the caller (espl_graph_destroy). */
ESPL_NODISCARD espl_status espl_train_read(espl_context *ctx, const char *path, espl_graph **out, espl_diag *diag);

typedef enum espl_train_event {
    ESPL_TRAIN_STEP,       /* a step is done */
    ESPL_TRAIN_EVALUATING, /* a batch of the evaluation data is done */
    ESPL_TRAIN_EPOCH       /* an epoch is done, and evaluated */
} espl_train_event;

/* Where training stands; given to the caller's function. */
typedef struct espl_train_progress {
    espl_train_event event;
    int rank; /* this process among those that work together; each is told */
    int64_t epoch, epochs; /* epochs done, and all */
    int64_t step, steps;   /* done of this epoch, and all of one; batches of the data while evaluating */
    double loss, top1;     /* means of this epoch so far, in training or evaluation; NaN where there are no labels */
    bool has_eval;
    double eval_loss, eval_top1; /* EPOCH: on the evaluation data */
    bool tokens;           /* the loss is one of tokens: exp(loss) is the perplexity */
    double rate;           /* the learning rate */
    double samples_per_s;
    double seconds_left;   /* until the end of training; 0 while it cannot be told */
} espl_train_progress;
/* Returning false ends training after a checkpoint was written: ESPL_CANCELLED. */
typedef bool (*espl_train_watch)(void *user, const espl_train_progress *progress);

typedef struct espl_train_options {
    espl_dataset *data; /* read from another thread until espl_train returns */
    espl_dataset *eval; /* NULL: none */
    /* Name of a ready recipe or path of a .yaml file; NULL: "default". */
    const char *recipe;
    /* The trained model; it appears when training has ended. Checkpoints are in the folder <output>.ckpt. NULL: no file
     * is written, the graph has the weights. */
    const char *output;
    const char *log; /* lines of JSON, one for each step and epoch; NULL: none */
    /* What the recipe says otherwise; 0 leaves it. */
    int64_t epochs, batch;
    double lr;
    const uint64_t *seed;
    bool f64;             /* computes in double precision */
    bool recompute;       /* less memory, about a third more time */
    bool resume;          /* goes on at the last checkpoint, if there is one */
    bool restart;         /* begins anew even if a checkpoint of unfinished training is there */
    double every_seconds; /* between checkpoints; 0: 300 */
    int64_t every_steps;  /* if not 0: a checkpoint after so many steps, instead */
    espl_train_watch watch;
    void *user;
} espl_train_options;

typedef struct espl_train_result {
    int64_t epochs, steps, samples; /* done in all; samples (or tokens) of one epoch */
    int64_t resumed_step;           /* -1: began anew */
    double loss, top1;              /* of the last epoch, in training; top1 a fraction, NaN without labels */
    bool has_eval, tokens;
    double eval_loss, eval_top1;   /* after the last epoch */
    double best_loss, best_top1;   /* of the epoch of the least loss */
    int64_t best_epoch;            /* counted from 1; 0: none yet */
    double seconds, samples_per_s; /* of this call; training alone */
    uint64_t bytes;                /* of memory for parameters, gradients and activations */
    int64_t parameters;
    int ranks; /* processes that worked together */
    int rank;  /* this one; rank 0 writes */
} espl_train_result;

/* Trains the graph's constants in place. A network may have inputs X with outputs X.next: state that is carried from
 * batch to batch. */
ESPL_NODISCARD espl_status espl_train(espl_context *ctx, espl_graph *graph, const espl_train_options *options,
                                      espl_train_result *result, espl_diag *diag);

/* The names of the ready recipes; NULL past the last one. */
const char *espl_train_recipe_at(int index);

#ifdef __cplusplus
}
#endif
#endif
