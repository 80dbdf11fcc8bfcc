/* Choosing the codes of a weight matrix when nearest is not best: the layer's output is to stay, not each
 * weight. */
#ifndef ESPL_REPAIR_ROUNDING_H
#define ESPL_REPAIR_ROUNDING_H

#include "compress/repair/linear.h"

/* y = W x + b of `groups` groups of outputs, each with its own k inputs: weights step[o][i] * codes[o][i]. */
typedef struct espl__rounding {
    int64_t outputs, k, groups; /* outputs of all groups */
    const float *w;             /* [outputs][k] */
    const float *step;          /* [outputs][k]: the scale of each weight */
    const uint8_t *pruned;      /* [outputs][k], or NULL: 1 where the code must stay 0 */
    espl_format format;         /* whose codes in 8 bits they are */
    int32_t lo, hi;             /* codes, of integers */
    int64_t samples;
    const float *x;    /* [samples][groups][k]: inputs as the quantized layer gets them */
    const float *y;    /* [samples][outputs]: what the f32 layer gives for the same samples, bias included */
    const float *bias; /* [outputs] */
    float least, most; /* of the activation behind y: the loss is that of clamp(y, least, most) */
    int8_t *codes;     /* out: [outputs][k] */
} espl__rounding;
static inline int32_t espl__rounding_nearest(const espl__rounding *r, int64_t at) {
    return r->pruned && r->pruned[at] ? 0 : espl__format_encode(r->format, r->w[at] / r->step[at]);
}

/* AdaRound: `steps` steps of Adam. */
ESPL_NODISCARD espl_status espl__adaround(espl_context *ctx, const espl__rounding *r, int64_t steps,
                                          espl_diag *diag);
/* GPTQ: y is not used. order: inputs with the largest second moment first, instead of from the first to the
 * last. */
ESPL_NODISCARD espl_status espl__gptq(espl_context *ctx, const espl__rounding *r, double dampening,
                                      bool order, espl_diag *diag);
/* Mean square of clamp(W^ x + b) - clamp(y) of each output with these codes. */
void espl__rounding_error(const espl__rounding *r, const int8_t *codes, double *error);

/* Goes through the layers of a quantized graph whose weights are integers of up to 8 bits or, unless `integers`, codes of
 * any format in 8 bits: inputs from the graph, outputs from the reference, then `solve`. */
typedef espl_status (*espl__rounding_fn)(espl_context *ctx, const espl__rounding *r, const void *user,
                                         espl_diag *diag);
ESPL_NODISCARD espl_status espl__round_layers(const espl__repair_task *t, bool integers, espl__rounding_fn solve,
                                              const void *user, espl_diag *diag);

#endif
