/* Einsum of any number of operands: the gradient of one is the sum of what the others give, times the
 * result's, over the loops of the operator itself, in double. */
#include "ops/einsum.h"

#include "train/ops/loops.h"

static espl_status prepare(espl__call *c, espl_diag *diag) {
    const espl_shape *x[ESPL__EINSUM_OPERANDS];
    espl_status status = espl__state(c, sizeof(espl__einsum_loops), diag);
    if (status != ESPL_OK) return status;
    for (int i = 0; i < c->inputs; i++) {
        x[i] = &c->in[i].shape;
        if (c->wanted >> i & 1)
            c->backward_bytes =
                ESPL_MAX(c->backward_bytes, (uint64_t)espl_shape_count(x[i]) * sizeof(double));
    }
    return espl__einsum_resolve(c->node, x, c->state, diag);
}

/* What each place of the loops adds to operand `of`. */
static void add_products(const espl__call *c, int of, double *sums) {
    const espl__einsum_loops *l = c->state;
    int64_t index[ESPL__EINSUM_LABELS] = {0}, offset[ESPL__EINSUM_OPERANDS] = {0}, at = 0;
    do {
        double dy = espl__real_at(c->dout, at++);
        do {
            double product = dy;
            for (int t = 0; t < c->inputs; t++)
                if (t != of) product *= espl__real_at(&c->in[t], offset[t]);
            sums[offset[of]] += product;
        } while (espl__einsum_next(l, l->results, l->labels, c->inputs, index, offset));
    } while (espl__einsum_next(l, 0, l->results, c->inputs, index, offset));
}

static void backward(espl__call *c) {
    const espl__einsum_loops *l = c->state;
    double *sums = c->scratch;
    bool empty = false;
    for (int i = 0; i < l->labels; i++) empty = empty || l->dim[i] == 0;
    for (int t = 0; t < c->inputs; t++) {
        const espl_tensor *d = &c->din[t];
        if (!d->data || espl__is_empty(d)) continue;
        int64_t n = espl_shape_count(&d->shape);
        if (c->add >> t & 1)
            espl__load_f64(c->real, d->data, 1, n, sums);
        else
            memset(sums, 0, (size_t)n * sizeof *sums);
        if (!empty) add_products(c, t, sums);
        espl__store_f64(c->real, sums, n, d->data);
    }
}

const espl__grad espl__grad_Einsum = {.op = "Einsum",
                                      .inputs = 0xffff,
                                      .params = 0xffff,
                                      .reads_in = 0xffff,
                                      .prepare = prepare,
                                      .backward = backward,
                                      .release = espl__state_free};
