/* ToLast and ToRows: (N, C, spatial) to (N, spatial, C) and back. */
#include "train/grad.h"

#define REAL_FILE "train/ops/layout.inc.h"
#include "train/real.h"

/* `rows` as the graph says, `last` channels-last. */
static void turn(espl__call *c, const espl_tensor *from, const espl_tensor *to, bool to_last, bool add) {
    const espl_shape *s = &c->node->inputs[0]->shape;
    turning t = {.images = s->dim[0],
                 .channels = s->dim[1],
                 .spatial = 1,
                 .from = from->data,
                 .to = to->data,
                 .to_last = to_last,
                 .add = add};
    for (int i = 2; i < s->rank; i++) t.spatial *= s->dim[i];
    espl__parallel_for(c->pool, t.images, ESPL__REAL(c, images), &t);
}

static void forward_last(espl__call *c) {
    turn(c, c->in, c->out, true, false);
}
static void forward_rows(espl__call *c) {
    turn(c, c->in, c->out, false, false);
}
static void backward_last(espl__call *c) {
    turn(c, c->dout, c->din, false, c->add & 1);
}
static void backward_rows(espl__call *c) {
    turn(c, c->dout, c->din, true, c->add & 1);
}

const espl__grad espl__grad_ToLast = {
    .op = "ToLast", .inputs = 1, .forward = forward_last, .backward = backward_last};
const espl__grad espl__grad_ToRows = {
    .op = "ToRows", .inputs = 1, .forward = forward_rows, .backward = backward_rows};
