/* The learning rate over the course of training. */
#ifndef ESPL_TRAIN_SCHEDULE_H
#define ESPL_TRAIN_SCHEDULE_H

#include "base/base.h"

/* X(NAME, name, what it is) */
#define ESPL__SCHEDULE_LIST(X)                                                                            \
    X(CONSTANT, "constant", "always the same")                                                            \
    X(STEP, "step", "times `gamma` at each epoch of `milestones`")                                        \
    X(COSINE, "cosine", "half a cosine from `lr` to `lr_min`, step by step (Loshchilov and Hutter 2017)") \
    X(PLATEAU, "plateau",                                                                                 \
      "times `gamma` when the loss of --eval has not fallen for more than `patience` epochs")

typedef enum espl__schedule_kind {
#define X(NAME, name, text) ESPL__SCHEDULE_##NAME,
    ESPL__SCHEDULE_LIST(X)
#undef X
} espl__schedule_kind;

typedef struct espl__schedule {
    espl__schedule_kind kind;
    double rate, least, gamma;
    double warmup; /* epochs in which the rate grows from near 0, step by step */
    const double *milestones;
    unsigned milestone_count;
    int64_t patience, epochs, epoch_steps;
    /* State of plateau. */
    double factor, best; /* 1 and infinity at first: espl__schedule_begin */
    int64_t waited;
} espl__schedule;

void espl__schedule_begin(espl__schedule *schedule);
/* The rate of step `step`, counted from the start of training. */
double espl__schedule_rate(const espl__schedule *schedule, int64_t step);
/* At the end of an epoch: the loss that is to fall. */
void espl__schedule_epoch(espl__schedule *schedule, double loss);

#endif
