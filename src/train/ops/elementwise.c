/* Functions of one input, and arithmetic with broadcasting. */
#include "train/grad.h"

#define REAL_FILE "train/ops/elementwise.inc.h"
#include "train/real.h"

static espl__grad_layout any(const espl__node *node) {
    (void)node;
    return ESPL__GRAD_ANY;
}

static void relu_forward(espl__call *c) {
    espl__parallel_for(c->pool, espl_shape_count(&c->out->shape), ESPL__REAL(c, relu_range), c);
}
static void relu_backward(espl__call *c) {
    espl__parallel_for(c->pool, espl_shape_count(&c->out->shape), ESPL__REAL(c, relu_back), c);
}

const espl__grad espl__grad_Relu = {.op = "Relu",
                                    .inputs = 1,
                                    .reads_out = 1,
                                    .layout = any,
                                    .forward = relu_forward,
                                    .backward = relu_backward};

static void add_forward(espl__call *c) {
    ESPL__REAL(c, add)(c);
}
static void add_backward(espl__call *c) {
    ESPL__REAL(c, add_back)(c);
}

const espl__grad espl__grad_Add = {
    .op = "Add", .inputs = 3, .adopts = 3, .layout = any, .forward = add_forward, .backward = add_backward};
