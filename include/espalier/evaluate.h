/* Measuring a network on data: accuracy and time. */
#ifndef ESPALIER_EVALUATE_H
#define ESPALIER_EVALUATE_H

#include "espalier/data.h"
#include "espalier/session.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Called now and then with the work done and the whole of it; `what` names it. Returning false cancels (ESPL_CANCELLED). */
typedef bool (*espl_progress)(void *user, const char *what, int64_t done, int64_t total);

typedef struct espl_scores {
    int64_t samples;
    bool has_labels; /* top1, top5 and loss are meaningful */
    double top1, top5; /* fractions of the samples */
    double loss;       /* mean cross-entropy; outputs that are no probabilities go through softmax first */
    bool has_mse;      /* the first output has the first input's shape (autoencoders) */
    double mse;        /* mean squared difference of output and input */
    /* The data set is a text: every token but the first is a label, top1, top5 and loss are means over these. */
    bool has_perplexity;
    double perplexity; /* exp(loss) */
    int64_t tokens;    /* labels */
} espl_scores;

/* Runs samples `first`, `first + step`, ... of the data set (count of them; -1: as many as there are) through the session
 * (batch 1). `classes` may be NULL or receive the index of the largest first output per sample, `outputs` NULL or the
 * first output of every sample. A text goes through the session `sequence` tokens at a time, the last run filled up and
 * what is filled in not scored (its class is that of its last token); inputs X that have an output X.next are states, zeros at first and carried from run to
 * run. Without a data set (NULL) `count` inputs are drawn: standard normal, what is no f32 0. */
typedef struct espl_evaluation {
    int64_t first, step, count;
    int64_t hold_out; /* > 0: samples whose index is a multiple of it are left out (step must be 1) */
    int32_t *classes;
    float *outputs;
    espl_progress progress;
    void *user;
} espl_evaluation;
ESPL_NODISCARD espl_status espl_evaluate(espl_context *ctx, espl_session *session, espl_dataset *data,
                                         const espl_evaluation *options, espl_scores *scores, espl_diag *diag);

/* Time of one run on seeded random input, in milliseconds. At least `runs` runs and `seconds` of them, after warm-up. */
typedef struct espl_timing {
    double median_ms, min_ms, p90_ms;
    int64_t runs;
} espl_timing;
ESPL_NODISCARD espl_status espl_time_session(espl_context *ctx, espl_session *session, int runs, double seconds,
                                             espl_timing *timing, espl_diag *diag);

#ifdef __cplusplus
}
#endif
#endif
