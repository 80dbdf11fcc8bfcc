/* Casts to reals: from reals the same numbers, with the same gradient; from others none. Reals of an engine
 * have one type whatever the graph says, so that nothing is rounded. */
#include "train/ops/loops.h"

static void forward(espl__call *c) {
    int64_t n = espl_shape_count(&c->in->shape);
    double d[ESPL__CHUNK];
    if (c->in->dtype == c->real) {
        memcpy(c->out->data, c->in->data, espl__tensor_bytes(c->out));
        return;
    }
    for (int64_t i = 0; i < n; i += ESPL__CHUNK) {
        int64_t m = ESPL_MIN(ESPL__CHUNK, n - i);
        espl__load_f64(c->in->dtype, espl__at(c->in->data, c->in->dtype, i), 1, m, d);
        espl__store_f64(c->real, d, m, espl__at_mut(c->out->data, c->real, i));
    }
}

static void backward(espl__call *c) {
    int64_t n = espl_shape_count(&c->in->shape);
    if (c->in->dtype != c->real) return;
    if (!(c->add & 1))
        memcpy(c->din->data, c->dout->data, espl__tensor_bytes(c->din));
    else if (c->real == ESPL_F64)
        for (int64_t i = 0; i < n; i++) ((double *)c->din->data)[i] += ((const double *)c->dout->data)[i];
    else
        for (int64_t i = 0; i < n; i++) ((float *)c->din->data)[i] += ((const float *)c->dout->data)[i];
}

const espl__grad espl__grad_Cast = {.op = "Cast", .inputs = 1, .forward = forward, .backward = backward};
const espl__grad espl__grad_CastLike = {
    .op = "CastLike", .inputs = 1, .forward = forward, .backward = backward};
