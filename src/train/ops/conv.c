/* Conv: channels-last, as products of matrices. An image becomes rows of patches (im2col: output positions x
 * taps * channels of a group), and with weights as [taps * channels][outputs]
 *
 *     y = patches W        dW = patches' dy        dx = col2im(dy W')
 *
 * Images are shared out to threads in equal runs; each run has its own sum of dW, and the sums are added in
 * order. In f32 a library does it where there is one (dense.h). */
#include "base/refused.h"
#include "train/dense.h"
#include "train/grad.h"

typedef struct conv {
    espl__window w; /* three spatial dimensions */
    int64_t images, channels, outputs, groups, taps, pixels, positions;
    int64_t depth; /* of a patch: taps * channels of a group */
    int64_t runs;  /* images are cut into so many */
    bool bias;
    espl__conv_f32 *library; /* NULL: plain C */
} conv;

static espl__grad_layout last(const espl__node *node) {
    (void)node;
    return ESPL__GRAD_LAST;
}

static espl_status try_library(espl__call *c, espl_diag *diag) {
    conv *k = c->state;
    const espl__dense *dense = espl__dense_get();
    uint64_t refused = espl__refused(c->ctx);
    if (c->real != ESPL_F32 || !dense->conv_f32) return ESPL_OK;
    espl__conv_shape s = {.w = k->w,
                          .images = k->images,
                          .channels = k->channels,
                          .outputs = k->outputs,
                          .groups = k->groups,
                          .bias = k->bias,
                          .dx = c->wanted & 1,
                          .dw = c->wanted >> 1 & 1};
    k->library = dense->conv_f32(c->ctx, &s);
    if (!k->library && espl__refused(c->ctx) != refused) return espl__nomem(diag, sizeof *k);
    if (!k->library) return ESPL_OK;
    c->forward_bytes = k->library->forward_bytes;
    c->backward_bytes =
        ESPL_MAX(k->library->backward_bytes, (uint64_t)(k->runs * k->outputs) * sizeof(float));
    return ESPL_OK;
}

static espl_status prepare(espl__call *c, espl_diag *diag) {
    const espl_shape *x = &c->node->inputs[0]->shape, *w = &c->node->inputs[1]->shape;
    conv *k = c->state = espl__calloc(c->ctx, 1, sizeof *k);
    if (!k) return espl__nomem(diag, sizeof *k);
    espl_status status = espl__window_resolve(c->node, x, w, &k->w, diag);
    if (status != ESPL_OK) return status;
    espl__window_lift(&k->w);
    k->bias = c->inputs > 2 && c->node->inputs[2];
    k->images = x->dim[0];
    k->channels = x->dim[1];
    k->outputs = w->dim[0];
    k->groups = k->channels / ESPL_MAX(1, w->dim[1]);
    k->taps = k->w.kernel[0] * k->w.kernel[1] * k->w.kernel[2];
    k->pixels = k->w.in[0] * k->w.in[1] * k->w.in[2];
    k->positions = k->w.out[0] * k->w.out[1] * k->w.out[2];
    k->depth = k->taps * w->dim[1];
    k->runs = ESPL_MAX(1, ESPL_MIN(k->images, espl__pool_threads(c->pool)));
    uint64_t real = espl__real_bytes(c), weights = (uint64_t)(k->depth * k->outputs);
    uint64_t patches = (uint64_t)(k->positions * k->depth);
    c->forward_bytes = (weights + (uint64_t)k->runs * patches) * real;
    c->backward_bytes = (weights + (uint64_t)k->runs * (patches + weights + (uint64_t)k->outputs)) * real;
    return try_library(c, diag);
}

static void release(espl__call *c) {
    conv *k = c->state;
    if (k && k->library) k->library->release(k->library);
    espl__free(c->ctx, c->state);
    c->state = NULL;
}

#define REAL_FILE "train/ops/conv.inc.h"
#include "train/real.h"

static void forward(espl__call *c) {
    const conv *k = c->state;
    if (k->library)
        k->library->forward(k->library, c->pool, c->scratch, c->in[0].data, c->in[1].data,
                            k->bias ? c->in[2].data : NULL, c->out[0].data);
    else
        ESPL__REAL(c, conv_forward)(c);
}
static void library_backward(espl__call *c) {
    const conv *k = c->state;
    if (k->bias && c->din[2].data) bias_gradient_f32(c);
    k->library->backward(k->library, c->pool, c->scratch, c->in[0].data, c->in[1].data, c->dout[0].data,
                         c->din[0].data, c->add & 1, c->din[1].data, c->add >> 1 & 1);
}
static void backward(espl__call *c) {
    if (((const conv *)c->state)->library)
        library_backward(c);
    else
        ESPL__REAL(c, conv_backward)(c);
}

const espl__grad espl__grad_Conv = {.op = "Conv",
                                    .inputs = 7,
                                    .params = 6,
                                    .reads_in = 3,
                                    .layout = last,
                                    .prepare = prepare,
                                    .forward = forward,
                                    .backward = backward,
                                    .release = release};
