/* GridSample: gradients of the image, and of the grid through the slopes of the weights. AffineGrid, which is
 * linear. */
#include "ops/grid_sample.h"

#include <math.h>

#include "train/ops/loops.h"

#define REAL_FILE "train/ops/grid_sample.inc.h"
#include "train/real.h"

static espl_status prepare(espl__call *c, espl_diag *diag) {
    espl_status status = espl__state(c, sizeof(espl__sampler), diag);
    return status == ESPL_OK ? espl__sampler_read(c->node, c->state, diag) : status;
}
static void forward(espl__call *c) {
    if (espl__is_empty(c->out)) return;
    espl__spread(c, c->in->shape.dim[0], espl_shape_count(&c->out->shape), ESPL__REAL(c, sample_images), c);
}
static void backward(espl__call *c) {
    for (int i = 0; i < 2; i++)
        if (c->din[i].data && !(c->add >> i & 1)) memset(c->din[i].data, 0, espl__tensor_bytes(&c->din[i]));
    if (espl__is_empty(c->out)) return;
    espl__spread(c, c->in->shape.dim[0], espl_shape_count(&c->out->shape), ESPL__REAL(c, sample_back), c);
}
const espl__grad espl__grad_GridSample = {.op = "GridSample",
                                          .inputs = 3,
                                          .reads_in = 3,
                                          .prepare = prepare,
                                          .forward = forward,
                                          .backward = backward,
                                          .release = espl__state_free};

/* grid[p][r] = sum over i of map[r][i] at[p][i], the last at being 1 */
static void affine_back(espl__call *c) {
    const espl_shape *y = &c->out->shape;
    const int rank = y->rank - 2;
    const int64_t places = espl__dims_product(y, 1, y->rank - 1), each = rank * (rank + 1);
    bool align = espl__attr_int(c->node, "align_corners", 0) != 0;
    if (espl__is_empty(c->din)) return;
    for (int64_t n = 0; n < y->dim[0]; n++) {
        double sums[3 * 4] = {0}, at[4], dy[3];
        void *to = espl__at_mut(c->din->data, c->real, n * each);
        if (c->add & 1) espl__load_f64(c->real, to, 1, each, sums);
        for (int64_t p = 0; p < places; p++) {
            espl__affine_place(y, p, align, at);
            at[rank] = 1;
            espl__load_f64(c->real, espl__at(c->dout->data, c->real, (n * places + p) * rank), 1, rank, dy);
            for (int i = 0; i < each; i++) sums[i] += dy[i / (rank + 1)] * at[i % (rank + 1)];
        }
        espl__store_f64(c->real, sums, each, to);
    }
}
const espl__grad espl__grad_AffineGrid = {.op = "AffineGrid", .inputs = 1, .backward = affine_back};
