/* Convolutions and matrix products by constant weights, seen alike: y = W x + b for each group of channels.
 */
#ifndef ESPL_REPAIR_LINEAR_H
#define ESPL_REPAIR_LINEAR_H

#include "compress/repair/repair.h"

/* Weight (output o, input i of its group, tap t) is element o * by_output + i * by_input + t of the tensor;
 * the inputs of a group come tap after tap, k = inputs * taps in all. */
typedef struct espl__linear {
    espl__node *node;
    espl__value *x, *w, *y; /* y: before a bias that another node adds */
    espl__node *add;        /* that node; NULL: none */
    bool conv;              /* channels lie along axis 1 of x and y, else along their last */
    int64_t outputs, inputs, taps, groups, by_output, by_input; /* outputs of all groups, inputs of one */
} espl__linear;
/* Conv, Gemm, MatMul of a dense f32 input and constant weights; false: another node, or a form that is not
 * looked at. */
bool espl__linear_of(const espl_graph *g, espl__node *node, espl__linear *out);
static inline int64_t espl__linear_k(const espl__linear *l) {
    return l->inputs * l->taps;
}
static inline int64_t espl__linear_at(const espl__linear *l, int64_t output, int64_t k) {
    return output * l->by_output + k / l->taps * l->by_input + k % l->taps;
}
/* Axis of channels of a tensor of this rank. */
static inline int espl__linear_axis(const espl__linear *l, int rank) {
    return l->conv ? 1 : rank - 1;
}
/* Its f32 weights as a constant that no other node reads, for writing; NULL without memory. */
float *espl__linear_own_weights(espl_graph *g, espl__linear *l);
/* The bias as numbers, 0 where there is none; false if it has an unusual form, and can be neither read nor
 * set. */
bool espl__linear_bias(const espl_graph *g, const espl__linear *l, float *out);
/* Gives it this bias, in integers if the layer is computed in integers; false without memory. Where there is
 * no place for one (a MatMul without Add) it stays as it is. */
bool espl__linear_set_bias(espl_graph *g, espl__linear *l, const float *bias);

/* --- what flows through a graph ---------------------------------------------------------------------- */

/* A value to look at. raw: as computed, before it is rounded to its grid. */
typedef struct espl__tap {
    int value;
    bool raw;
} espl__tap;
typedef espl_status (*espl__tap_fn)(void *user, int64_t sample, const espl_tensor *values, espl_diag *diag);
/* Runs `samples` of the task's samples (at most) through as much of `graph` as the taps need, and shows their
 * f32 values of each sample. */
ESPL_NODISCARD espl_status espl__flow(const espl__repair_task *t, const espl_graph *graph,
                                      const espl__tap *taps, int count, int64_t samples, espl__tap_fn fn,
                                      void *user, espl_diag *diag);

/* Statistics of the channels of one value over samples and positions. */
typedef struct espl__channels {
    int64_t channels, seen; /* seen: numbers of each channel */
    double *sum, *squares;
    float *least, *most;
} espl__channels;
/* Of each tap along its axis (negative: from the end). `out` has `count` elements; espl__channels_free. */
ESPL_NODISCARD espl_status espl__flow_channels(const espl__repair_task *t, const espl_graph *graph,
                                               const espl__tap *taps, const int *axes, int count,
                                               int64_t samples, espl__channels *out, espl_diag *diag);
void espl__channels_free(espl_context *ctx, espl__channels *c, int count);
static inline double espl__channel_mean(const espl__channels *c, int64_t i) {
    return c->seen ? c->sum[i] / (double)c->seen : 0;
}
static inline double espl__channel_variance(const espl__channels *c, int64_t i) {
    double mean = espl__channel_mean(c, i), v = c->seen ? c->squares[i] / (double)c->seen - mean * mean : 0;
    return v > 0 ? v : 0;
}

#endif
