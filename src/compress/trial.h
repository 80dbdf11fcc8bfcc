/* One attempt at compressing a network: decisions in, a graph with its score and its time out. */
#ifndef ESPL_TRIAL_H
#define ESPL_TRIAL_H

#include "compress/compress.h"
#include "compress/quant/accumulator.h"

typedef enum metric {
    METRIC_TOP1,
    METRIC_AGREEMENT,
    METRIC_SIMILARITY,
    METRIC_NONE
} metric; /* NONE: no data */

/* Everything that stays the same over the trials of one network. */
typedef struct task {
    espl_context *ctx;
    const espl_graph *graph; /* f32 */
    const espl_compress_options *o;
    espl_flavour flavour;
    metric metric;
    int64_t hold_out; /* 0: calibration data are a set of their own */
    espl_dataset *calib; /* NULL: drawn */
    int64_t calib_step, calib_count;
    int64_t samples, output_size;
    range *ranges;
    int32_t *classes; /* the f32 network's answers, by sample */
    float *outputs;   /* METRIC_SIMILARITY only */
    espl_scores reference;
    double reference_score;
    bool measured; /* times are measured here, not modelled */
    int accumulator; /* bits of the chip's; 0: what its profile says */
    espl__overflow overflow;
} task;

/* The kernel that a layer was given, where zeros among its weights made a choice of kernels. */
typedef struct choice {
    bool sparse; /* the one that leaves zeros out */
    bool two;    /* there was another */
    double gain; /* whose time was so many times as long; 0: not measured */
} choice;

typedef struct trial {
    decision *decisions; /* by node */
    espl_graph *graph;
    int64_t *shrunk; /* by node: rows whose codes had to become smaller for the accumulator */
    espl_scores scores;
    double score, drop; /* fraction; points below the f32 network */
    double ms, joules;  /* whole network; 0 if not known */
    choice *choices;    /* by node, as on this machine; only where times are measured */
    double *node_ms;    /* by node of the graph; fused nodes count with the one they went into */
    double *node_joules; /* likewise, modelled */
    uint64_t bytes;     /* as an .espl file */
} trial;

/* Prunes and quantizes a copy of the task's graph. Nothing is measured yet. */
ESPL_NODISCARD espl_status espl__trial_build(task *k, const decision *decisions, trial *out, espl_diag *diag);
/* The sums of every integer layer fit the chip's accumulator, or the layer is shrunk or refused. build does so; whoever
 * changes codes or biases afterwards does it again. */
ESPL_NODISCARD espl_status espl__trial_accumulators(const task *k, trial *t, espl_diag *diag);
/* Score on the evaluation samples. */
ESPL_NODISCARD espl_status espl__trial_score(task *k, trial *t, espl_diag *diag);
/* Times and energies of two networks, interleaved when measured. */
ESPL_NODISCARD espl_status espl__trial_cost(task *k, trial *a, trial *b, espl_diag *diag);
void espl__trial_free(task *k, trial *t);

/* Whether the first output ranks classes, as far as its shape and the data tell. */
bool espl__ranks_classes(const espl_session *s, const espl_scores *scores);
/* Scores the f32 network, keeps its answers, and chooses the metric. */
ESPL_NODISCARD espl_status espl__task_reference(task *k, espl_diag *diag);

#endif
