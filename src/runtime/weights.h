/* Constant weights of linear layers, as kernels want them. All memory is the session's. */
#ifndef ESPL_WEIGHTS_H
#define ESPL_WEIGHTS_H

#include "runtime/lower.h"

/* The codes of an integer weight tensor as s8 with zero point 0, and its scales. */
typedef struct weights {
    const int8_t *codes;
    const float *scale;
    int64_t scales;
    int axis;
} weights;

/* Where the weights of one segment stand in the tensor: a segment is `taps` runs of `stored` input channels,
 * of which the first `real` are there and the others padding. Strides in elements, from one channel, segment,
 * tap, input to the next. */
typedef struct weight_order {
    int64_t groups, channels, segments, taps, stored, real; /* channels: of one group */
    int64_t by_channel, by_segment, by_tap, by_input;
} weight_order;

/* False: the value has no reading as s8 codes with scales along `axis`. */
bool espl__weights_integer(espl_session *s, const espl__value *value, int axis, weights *out);
/* Per channel the sum of its k codes; NULL: no memory. */
const int64_t *espl__weights_sums(espl_session *s, const int8_t *codes, int64_t channels, int64_t k,
                                  int64_t stride_c, int64_t stride_k);
/* Sets p->w: the weights in the kernels' order [channel][segment][k], packed group by group, *group_bytes
 * each. */
espl_status espl__weights_pack(espl_session *s, const weight_order *w, const void *data, bool integer,
                               espl__conv *p, int64_t *group_bytes, espl_diag *diag);
/* Bias and multipliers of an integer layer, and its epilogue if it stores u8, padded to 16 channels a group.
 * `sums` are those of its codes; `res` is read only if f has a residual. */
espl_status espl__weights_scale(espl_session *s, const weights *w, const view *in, const fusion *f,
                                int64_t groups, int64_t channels, const int64_t *sums, bool u8_out,
                                const view *res, espl__conv *p, espl_diag *diag);
/* Bias and bounds of an f32 layer. */
espl_status espl__weights_bias(espl_session *s, const fusion *f, int64_t groups, int64_t channels,
                               espl__conv *p, espl_diag *diag);
/* [taps][channels padded to 16], s32 or f32; NULL: no memory. */
const void *espl__weights_depthwise(espl_session *s, const void *data, bool integer, int64_t channels,
                                    int64_t taps);

#endif
