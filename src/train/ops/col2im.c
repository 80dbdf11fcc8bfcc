/* Col2Im: each element of the columns is added to one of the image, whose gradient it gets. */
#include "ops/col2im.h"

#include "train/ops/loops.h"

#define REAL_FILE "ops/col2im.inc.h"
#include "train/real.h"

typedef struct job {
    espl__call *call;
    bool back;
} job;

static espl_status prepare(espl__call *c, espl_diag *diag) {
    bool known;
    int64_t blocks, taps;
    espl_status status = espl__state(c, sizeof(espl__window), diag);
    if (status == ESPL_OK) status = espl__col2im_resolve(c->node, c->state, &known, &blocks, &taps, diag);
    if (status == ESPL_OK && !known)
        return espl__fail(diag, ESPL_UNSUPPORTED, "Col2Im: training needs constant sizes");
    if (status == ESPL_OK) espl__window_lift(c->state);
    return status;
}

static void planes(void *arg, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const job *j = arg;
    const espl__call *c = j->call;
    void *rows = j->back ? c->din->data : c->in->data, *image = j->back ? c->dout->data : c->out->data;
    if (c->real == ESPL_F64)
        col2im_planes_f64(c->state, rows, image, begin, end, j->back);
    else
        col2im_planes_f32(c->state, rows, image, begin, end, j->back);
}

static void run(espl__call *c, bool back) {
    job j = {c, back};
    const espl_shape *image = &c->out->shape;
    espl__spread(c, image->dim[0] * image->dim[1], espl_shape_count(&c->in->shape), planes, &j);
}
static void forward(espl__call *c) {
    memset(c->out->data, 0, espl__tensor_bytes(c->out));
    run(c, false);
}
static void backward(espl__call *c) {
    if (!(c->add & 1)) memset(c->din->data, 0, espl__tensor_bytes(c->din));
    run(c, true);
}

const espl__grad espl__grad_Col2Im = {.op = "Col2Im",
                                      .inputs = 1,
                                      .prepare = prepare,
                                      .forward = forward,
                                      .backward = backward,
                                      .release = espl__state_free};
