/* Inside the engine: what the plan (plan.c) says and the steps (engine.c) follow. */
#ifndef ESPL_TRAIN_ENGINE_IMPL_H
#define ESPL_TRAIN_ENGINE_IMPL_H

#include "train/prepare.h"

/* What is known of a value; indexed by its id. */
typedef struct slot {
    int root, gradient_root;              /* value whose memory this one has: views have their input's */
    bool needs, path;                     /* leads from a parameter; leads to the loss */
    bool written;                         /* in the walk backwards: its gradient holds a first term */
    bool fixed;                           /* has memory of its own outside the workspace */
    bool again;                           /* made a second time for backward, in other memory */
    espl_tensor data, grad;               /* shapes as in memory; data: of the first time */
    void *second;                         /* of the second time; else the same */
    int span, second_span, gradient_span; /* -1: none */
} slot;

typedef struct step {
    const espl__grad *grad; /* NULL: only the operator's eval */
    espl__call call;        /* the forward pass whose tensors backward reads */
    espl__call first;       /* where a step is made twice, the first time */
    bool view, backward, again;
    int segment, again_time, backward_time;
    int saved_span, first_span, forward_span, again_span, backward_span;
    void *again_scratch, *backward_scratch;
    int64_t final; /* gradients of the flat vector from here on are final after its backward; -1: no news */
} step;

struct espl__engine {
    espl_context *ctx;
    espl__arena arena;
    espl__engine_options options;
    espl__prepared net;
    slot *slots;
    step *steps;
    int step_count, segments;
    int end_time;
    espl__param *params;
    char *weights, *gradients, *statistics; /* flat */
    int64_t weight_count, statistic_count;
    bool shared; /* weights and statistics are another engine's */
    espl__span *spans;
    int span_count;
    char *workspace;
    uint64_t workspace_bytes;
    uint64_t number; /* of the step */
    bool check;
};

static inline bool espl__engine_is_real(const espl__value *v) {
    return v->dtype == ESPL_F32 || v->dtype == ESPL_F64;
}
/* "h.next", the recurrent state that the next batch starts with. */
static inline bool espl__engine_is_state(const espl__value *v) {
    size_t n = strlen(v->name);
    return n > 5 && strcmp(v->name + n - 5, ".next") == 0;
}
bool espl__engine_has_gradient(const espl__engine *e, const espl__value *v);

/* Parameters' memory, and what points there. */
void espl__engine_point_params(espl__engine *e);
/* Makes the plan: params, steps, memory. */
ESPL_NODISCARD espl_status espl__engine_plan(espl__engine *e, espl_diag *diag);
/* Sets the pointers of values and calls to where the plan put them. */
void espl__engine_point(espl__engine *e);

#endif
