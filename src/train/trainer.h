/* One training: what espl_train holds. */
#ifndef ESPL_TRAIN_TRAINER_H
#define ESPL_TRAIN_TRAINER_H

#include "train/checkpoint.h"
#include "train/feed.h"
#include "train/log.h"
#include "train/ranks.h"
#include "train/settings.h"

typedef struct espl__trainer {
    espl_context *ctx;
    espl_graph *graph;
    const espl_train_options *o;
    espl__train_settings *s;
    espl_dtype real;
    espl__buffer text; /* settings, for the checkpoint */
    char *folder, *last, *best; /* paths of checkpoints; NULL: none are written */
    int folder_lock;            /* descriptor + 1 while the folder is ours, 0 else */
    espl__ranks *ranks;
    espl__loader *data, *eval;
    espl__train_feed feed;
    espl__engine *engine;
    espl_graph *teacher_graph;
    espl__engine *teacher;
    espl__loss *loss;
    espl__optim *optim;
    espl__schedule schedule;
    espl__train_log log;
    void *own_statistics; /* of several ranks: this one's, while a checkpoint has the means */
    void *target;    /* MSE: the input, in the engine's reals */
    int64_t *labels; /* of a batch, -1 behind those that are there */
    int64_t batch;   /* of this rank: samples or columns */
    int64_t sequence;

    /* Where training stands. */
    int64_t epoch, step, total;
    espl__loss_sums sums;                /* of this epoch */
    double epoch_seconds, epoch_samples; /* likewise: training alone */
    double epoch_loss, epoch_top1;       /* of the last whole epoch */
    double eval_loss, eval_top1, best_loss, best_top1;
    int64_t best_epoch;
    bool finished, stop; /* the caller wants to stop */

    double saved_at, begun_at, train_seconds, train_samples; /* of this call */
    int64_t resumed_step, first_total;
} espl__trainer;

/* The loss of the network on the evaluation data, and top-1 (evaluate.c). Weights are the averaged ones if
 * there are some. */
ESPL_NODISCARD espl_status espl__trainer_evaluate(espl__trainer *t, espl_diag *diag);
/* Swaps the weights and their average, if one is made. */
void espl__trainer_swap(espl__trainer *t);
/* The batch's labels, checked, with -1 behind them; *rows: how many there are. */
ESPL_NODISCARD espl_status espl__trainer_labels(espl__trainer *t, const espl__batch *b, int64_t *rows,
                                                espl_diag *diag);
/* What the loss compares the output with beside labels: the input, or what the teacher says; NULL: nothing.
 */
ESPL_NODISCARD espl_status espl__trainer_target(espl__trainer *t, const espl__batch *b, const void **target,
                                                espl_diag *diag);
/* Tells the caller; remembers if it wants to stop. */
void espl__trainer_tell(espl__trainer *t, espl_train_event event, int64_t step, int64_t steps,
                        const espl__loss_sums *sums);

/* resume.c */
/* Paths and texts, and whether a checkpoint is in the way. */
ESPL_NODISCARD espl_status espl__trainer_prepare(espl__trainer *t, espl_diag *diag);
/* Frees the paths and the folder, which goes if it is empty. */
void espl__trainer_leave_folder(espl__trainer *t);
/* Goes to where the last checkpoint was made, if the options ask for it and there is one. Opens the log. */
ESPL_NODISCARD espl_status espl__trainer_resume(espl__trainer *t, espl_diag *diag);
ESPL_NODISCARD espl_status espl__trainer_save(espl__trainer *t, bool best, espl_diag *diag);
/* Weights and statistics of the best epoch. */
ESPL_NODISCARD espl_status espl__trainer_load_best(espl__trainer *t, espl_diag *diag);

#endif
