/* Constant weights of linear layers, as kernels want them. All memory is the session's. */
#ifndef ESPL_WEIGHTS_H
#define ESPL_WEIGHTS_H

#include "runtime/lower.h"

/* Weights as a layer computes with them: codes of 8 bits that stand for scale[c] * (code ^ flip), read as s8,
 * or f32. */
typedef struct weights {
    const espl__value *value;
    const void *data;
    bool integer;
    uint8_t flip; /* u8 codes have zero point 128 */
    const float *scale;
    int axis;      /* -1: one scale */
    int32_t *sums; /* per channel, of codes; there after packing */
    float *made;   /* numbers that were made of codes, for this alone */
} weights;

/* All zero points of a grid are this one. */
bool espl__zero_points_are(const espl__quant *q, int32_t zero);
/* False: the value has no reading as s8 codes with zero point 0 and scales along `axis`. */
bool espl__weights_integer(const espl__value *value, int axis, weights *out);
espl_status espl__weights_float(espl_session *s, const espl__value *value, weights *out, espl_diag *diag);
/* After packing: frees what was made on the way, and lets the pages go that the weights were read from. */
void espl__weights_done(espl_session *s, weights *w);

/* Packs `groups` groups of the order, channel after channel in the tensor, and sets p->w and *group_bytes.
 * With `prepare`, for which p's segments must be there, perhaps p->prepared instead of p->w: conv_u8 and
 * conv_u8_f32 then are the only kernels that can read the weights. */
espl_status espl__weights_pack(espl_session *s, weights *w, const espl__weight_order *order, int64_t groups,
                               bool prepare, espl__conv *p, int64_t *group_bytes, espl_diag *diag);
/* The same for weights that are packed already, `blocks` blocks at p->w; the kernels must have an order of
 * their own, and segments few enough for it. */
espl_status espl__weights_prepare(espl_session *s, int64_t blocks, espl__conv *p, espl_diag *diag);
/* Sets p->sums of a matrix of k inputs that is packed at p->w, if the kernels for few rows gain by them. */
espl_status espl__weights_centre(espl_session *s, int64_t blocks, int64_t k, espl__conv *p, espl_diag *diag);
/* Sets w->sums for weights that are packed otherwise. */
espl_status espl__weights_sum(espl_session *s, weights *w, const espl__weight_order *order, int64_t groups,
                              espl_diag *diag);
/* Depthwise weights [channels][taps] as [taps][channels padded to 16], s32 or f32; NULL: no memory. */
const void *espl__weights_depthwise(espl_session *s, weights *w, int64_t channels, int64_t taps);
/* Bias and multipliers of a packed integer layer, and its epilogue if it stores u8, padded to 16 channels a
 * group. `res` is read only if f has a residual. */
espl_status espl__weights_scale(espl_session *s, const weights *w, const view *in, const fusion *f,
                                int64_t groups, int64_t channels, bool u8_out, const view *res, espl__conv *p,
                                espl_diag *diag);
/* Bias and bounds of an f32 layer. */
espl_status espl__weights_bias(espl_session *s, const fusion *f, int64_t groups, int64_t channels,
                               espl__conv *p, espl_diag *diag);

#endif
