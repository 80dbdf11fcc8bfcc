/* ConvTranspose, channels-last: a convolution's backward pass. With an image's pixels as rows and weights as
 * [channels][outputs * taps], patches = x W are added to where they lie in the output; backwards, with
 * patches taken from dy: dx = patches W', dW = x' patches. Each run of images has its own sum of dW. */
#include "train/dense.h"
#include "train/ops/loops.h"

typedef struct spread {
    espl__window w; /* `in` of the input, `out` of the output */
    int64_t images, channels, outputs, groups, each, taps, pixels, positions;
    int64_t depth; /* of a patch: outputs of a group * taps */
    int64_t runs;
} spread;

static espl_status prepare(espl__call *c, espl_diag *diag) {
    espl_status status = espl__state(c, sizeof(spread), diag);
    if (status != ESPL_OK) return status;
    spread *k = c->state;
    const espl_shape *x = &c->node->inputs[0]->shape, *w = &c->node->inputs[1]->shape;
    status = espl__window_transposed(c->node, x, w, &k->w, diag);
    if (status != ESPL_OK) return status;
    espl__window_lift(&k->w);
    k->images = x->dim[0];
    k->channels = x->dim[1];
    k->groups = espl__attr_int(c->node, "group", 1);
    k->each = w->dim[1];
    k->outputs = k->each * k->groups;
    k->taps = k->w.kernel[0] * k->w.kernel[1] * k->w.kernel[2];
    k->pixels = k->w.in[0] * k->w.in[1] * k->w.in[2];
    k->positions = k->w.out[0] * k->w.out[1] * k->w.out[2];
    k->depth = k->each * k->taps;
    int threads = espl__pool_threads(c->pool);
    k->runs = ESPL_MAX(1, ESPL_MIN(k->images, threads));
    uint64_t real = espl__real_bytes(c), patches = (uint64_t)(k->pixels * k->depth);
    c->forward_bytes = (uint64_t)threads * patches * real;
    c->backward_bytes =
        (uint64_t)k->runs * (patches + (uint64_t)(k->channels * k->depth + k->outputs)) * real;
    return ESPL_OK;
}

#define REAL_FILE "train/ops/conv_transpose.inc.h"
#include "train/real.h"

static void forward(espl__call *c) {
    const spread *k = c->state;
    espl__parallel_for(c->pool, k->images, ESPL__REAL(c, spread_images), c);
}
static void backward(espl__call *c) {
    const spread *k = c->state;
    espl__parallel_for(c->pool, k->runs, ESPL__REAL(c, gather_runs), c);
    ESPL__REAL(c, spread_sums)(c);
}

const espl__grad espl__grad_ConvTranspose = {.op = "ConvTranspose",
                                             .inputs = 7,
                                             .params = 6,
                                             .reads_in = 3,
                                             .layout = espl__layout_last,
                                             .prepare = prepare,
                                             .forward = forward,
                                             .backward = backward,
                                             .release = espl__state_free};
