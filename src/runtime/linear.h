/* One linear layer: Conv, Gemm or MatMul with constant weights, packed once, one step. What lower_conv.c and
 * lower_gemm.c plan and linear.c runs. */
#ifndef ESPL_LINEAR_H
#define ESPL_LINEAR_H

#include "runtime/weights.h"

/* What sums begin with where the products with the border are left out: of all pixels, of the first and the last of a row. */
typedef struct border_bias {
    const int32_t *inner, *edge[2];
} border_bias;

typedef struct linear_step linear_step;
struct linear_step {
    step base;
    const linear_step *following; /* whose weights are read after these; NULL: not known */
    espl__conv p;
    espl__dwconv d;
    bool depthwise, has_res, u8_in, u8_out;
    bool far; /* the weights are not in the second-level cache when a run begins */
    view in, out, res;
    int64_t weights_share;               /* bytes of weights over those of the input */
    int64_t rows, pixels, last_pixels;   /* rows of pixels; the last one may be shorter (flattened only) */
    int64_t rows_per_image;              /* 0: flattened, every row directly follows the one before */
    int64_t band_rows;                   /* of one call of a kernel */
    int64_t in_row, in_image, in_origin; /* bytes */
    int64_t out_row, out_image, res_row, res_image;
    /* Of a convolution whose products with the border may be left out: kernel rows, and how they lie. 0 rows: they may not.
     * left_out: its kernel does so. */
    struct {
        bool left_out;
        int64_t rows, segments, dilation, stride, top, in_rows; /* segments of one; rows above the input; of it */
        const border_bias *bias; /* of each row of the output; NULL: always p.bias */
    } border;
    int groups, blocks, group_blocks; /* convolution groups; blocks of 16 channels; blocks of one sweep */
    int64_t in_group, out_group, w_group, channels_padded; /* steps from group to group */
    int scratch;                                           /* buffer; -1: none */
    int64_t scratch_bytes;                                 /* of one thread */
};

void espl__linear_run(const step *st, espl_session *s);
/* One call of its kernel for whole rows and all channels, wherever they lie; not for kernels that need
 * scratch.
 */
void espl__linear_call(const linear_step *l, const espl__kernels *k, const char *in, char *out,
                       const char *res, int pixels);
/* Pixels that follow each other without gaps in all views: one long row, cut so that threads can share it. */
void espl__linear_flatten(linear_step *l, int64_t pixels, ptrdiff_t in_step, ptrdiff_t out_step,
                          ptrdiff_t res_step);
/* Packs the weights; p's segments must be there. Where many are 0 they may be packed for the sparse kernels,
 * or both ways to be compared when the session is complete. */
espl_status espl__linear_pack(espl_session *s, weights *w, const espl__weight_order *order, int64_t groups,
                              linear_step *l, espl_diag *diag);
/* Whether products with the border may be left out, which for zero points other than 0 takes biases of its own; after the
 * weights are packed and scaled. `row_segments`: each kernel row is one segment. */
espl_status espl__linear_border(espl_session *s, bool row_segments, linear_step *l, espl_diag *diag);
/* The last word on a step: its kernel, the buffers it uses, the value it makes. */
espl_status espl__linear_finish(espl_session *s, const espl__node *n, const fusion *f, linear_step *l,
                                const view *final, espl_diag *diag);

#endif
