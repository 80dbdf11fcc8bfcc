/* Gemm, MatMul, and Linear, which the engine makes of a MatMul and the bias behind it. With C = A B: dA = dC
 * B', dB = A' dC. */
#include "train/dense.h"
#include "train/grad.h"

/* A product over batches: operands of a batch that is broadcast have stride 0. */
typedef struct product {
    int64_t m, n, k, batches;
    bool ta, tb;
    double alpha, beta;
    int64_t *a, *b; /* offset of each batch's matrices */
} product;

static espl_status prepare_gemm(espl__call *c, espl_diag *diag) {
    static int64_t none[1] = {0};
    product *p = c->state = espl__calloc(c->ctx, 1, sizeof *p);
    if (!p) return espl__nomem(diag, sizeof *p);
    p->ta = espl__attr_int(c->node, "transA", 0) != 0;
    p->tb = espl__attr_int(c->node, "transB", 0) != 0;
    p->alpha = (double)espl__attr_float(c->node, "alpha", 1);
    p->beta = (double)espl__attr_float(c->node, "beta", 1);
    p->m = c->out->shape.dim[0];
    p->n = c->out->shape.dim[1];
    p->k = c->in[0].shape.dim[!p->ta];
    p->batches = 1;
    p->a = p->b = none;
    /* What is scaled by alpha: dY, once. */
    if (p->alpha != 1) c->backward_bytes = espl__tensor_bytes(c->out);
    return ESPL_OK;
}

static void release_gemm(espl__call *c) {
    espl__free(c->ctx, c->state);
    c->state = NULL;
}

/* Shapes without batches, a vector being a matrix of one row (left) or one column (right). */
static espl_status prepare_matmul(espl__call *c, espl_diag *diag) {
    product *p = c->state = espl__calloc(c->ctx, 1, sizeof *p);
    if (!p) return espl__nomem(diag, sizeof *p);
    espl_shape a = c->in[0].shape, b = c->in[1].shape;
    if (a.rank == 1) a = (espl_shape){2, {1, a.dim[0]}};
    if (b.rank == 1) b = (espl_shape){2, {b.dim[0], 1}};
    p->alpha = p->beta = 1;
    p->m = a.dim[a.rank - 2];
    p->k = a.dim[a.rank - 1];
    p->n = b.dim[b.rank - 1];
    espl_shape sa = a, sb = b, y = {0};
    sa.rank -= 2, sb.rank -= 2;
    y = sa.rank >= sb.rank ? sa : sb;
    espl_status status = espl__broadcast(&y, sa.rank >= sb.rank ? &sb : &sa, diag);
    if (status != ESPL_OK) return status;
    p->batches = espl_shape_count(&y);
    /* One matrix on the right for all: the batches are rows of one product. */
    if (espl_shape_count(&sb) == 1 && espl_shape_count(&sa) == p->batches) {
        p->m *= p->batches;
        p->batches = 1;
    }
    p->a = espl__calloc(c->ctx, 2 * (uint64_t)p->batches + 1, sizeof *p->a);
    if (!p->a) return espl__nomem(diag, 16 * (uint64_t)p->batches);
    p->b = p->a + p->batches;
    if (p->batches == 1) return ESPL_OK;
    const espl_shape *shapes[2] = {&sa, &sb};
    espl__rows r;
    for (espl__rows_begin(&r, &y, shapes, 2); !r.done; espl__rows_next(&r))
        for (int64_t i = 0; i < r.n; i++) {
            p->a[r.out + i] = (r.offset[0] + i * r.step[0]) * p->m * p->k;
            p->b[r.out + i] = (r.offset[1] + i * r.step[1]) * p->k * p->n;
        }
    return ESPL_OK;
}

static void release_matmul(espl__call *c) {
    if (c->state) espl__free(c->ctx, ((product *)c->state)->a);
    espl__free(c->ctx, c->state);
    c->state = NULL;
}

#define REAL_FILE "train/ops/gemm.inc.h"
#include "train/real.h"

static void forward_gemm(espl__call *c) {
    ESPL__REAL(c, gemm_start)(c);
    ESPL__REAL(c, product_forward)(c);
}
static void backward_gemm(espl__call *c) {
    ESPL__REAL(c, gemm_backward)(c);
}
static void forward_matmul(espl__call *c) {
    ESPL__REAL(c, product_forward)(c);
}
static void backward_matmul(espl__call *c) {
    ESPL__REAL(c, matmul_backward)(c);
}

static void backward_linear(espl__call *c) {
    ESPL__REAL(c, linear_backward)(c);
}

const espl__grad espl__grad_Gemm = {.op = "Gemm",
                                    .inputs = 7,
                                    .params = 6,
                                    .adopts = 1,
                                    .reads_in = 3,
                                    .prepare = prepare_gemm,
                                    .forward = forward_gemm,
                                    .backward = backward_gemm,
                                    .release = release_gemm};
const espl__grad espl__grad_MatMul = {.op = "MatMul",
                                      .inputs = 3,
                                      .params = 3,
                                      .reads_in = 3,
                                      .prepare = prepare_matmul,
                                      .forward = forward_matmul,
                                      .backward = backward_matmul,
                                      .release = release_matmul};
const espl__grad espl__grad_Linear = {.op = "Linear",
                                      .inputs = 7,
                                      .params = 6,
                                      .reads_in = 3,
                                      .prepare = prepare_matmul,
                                      .forward = forward_gemm,
                                      .backward = backward_linear,
                                      .release = release_matmul};
