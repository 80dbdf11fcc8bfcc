/* Dropout (Srivastava et al. 2014), inverted: what stays is scaled by 1 / (1 - ratio), so that inference does
 * nothing. Which elements stay follows from the call's seed and their place alone: backward draws them again.
 */
#include "train/ops/loops.h"

enum { BLOCK = 1024 }; /* elements with a generator of their own */

typedef struct drop {
    espl__call *call;
    double ratio;
    bool back;
    uint8_t *mask; /* the second output, or NULL */
} drop;

static espl_status prepare(espl__call *c, espl_diag *diag) {
    espl_status status = espl__state(c, sizeof(drop), diag);
    if (status != ESPL_OK) return status;
    drop *d = c->state;
    const espl__value *given = espl__in(c->node, 1);
    d->ratio = (double)espl__attr_float(c->node, "ratio", 0.5f);
    const espl__value *trains = espl__in(c->node, 2);
    if (trains && (!trains->constant || *(const uint8_t *)trains->constant->data))
        return espl__fail(diag, ESPL_UNSUPPORTED,
                          "Dropout: is in training mode already; export for inference, training sets the mode itself");
    if (given && !given->constant)
        return espl__fail(diag, ESPL_UNSUPPORTED, "Dropout: training needs a constant ratio");
    if (given) espl__load_f64(given->constant->dtype, given->constant->data, 0, 1, &d->ratio);
    if (!(d->ratio >= 0 && d->ratio < 1))
        return espl__fail(diag, ESPL_FORMAT, "Dropout: a ratio of %g is not in [0, 1)", d->ratio);
    return ESPL_OK;
}

#define REAL_FILE "train/ops/dropout.inc.h"
#include "train/real.h"

static void run(espl__call *c, bool back) {
    drop d = *(const drop *)c->state;
    int64_t n = espl_shape_count(&c->in->shape);
    d.call = c;
    d.back = back;
    if (!c->training) d.ratio = 0;
    if (!back && c->outputs > 1 && c->out[1].dtype == ESPL_BOOL) d.mask = c->out[1].data;
    espl__spread(c, (n + BLOCK - 1) / BLOCK, n, ESPL__REAL(c, drop_blocks), &d);
}
static void forward(espl__call *c) {
    run(c, false);
}
static void backward(espl__call *c) {
    run(c, true);
}

const espl__grad espl__grad_Dropout = {.op = "Dropout",
                                       .inputs = 1,
                                       .layout = espl__layout_any,
                                       .prepare = prepare,
                                       .forward = forward,
                                       .backward = backward,
                                       .release = espl__state_free};
