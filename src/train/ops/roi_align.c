/* RoiAlign: the gradient of the image. None goes to the regions, as is the custom: how many samples they have
 * changes in steps. */
#include "ops/roi_align.h"

#include <math.h>

#include "train/ops/loops.h"

#define REAL_FILE "train/ops/roi_align.inc.h"
#include "train/real.h"

static void forward(espl__call *c) {
    if (espl__is_empty(c->out)) return;
    espl__spread(c, c->out->shape.dim[0], espl_shape_count(&c->out->shape), ESPL__REAL(c, pool_regions), c);
}
/* Regions overlap: channels are shared out. */
static void backward(espl__call *c) {
    if (!(c->add & 1)) memset(c->din->data, 0, espl__tensor_bytes(c->din));
    if (espl__is_empty(c->out)) return;
    espl__spread(c, c->out->shape.dim[1], espl_shape_count(&c->out->shape), ESPL__REAL(c, regions_back), c);
}
const espl__grad espl__grad_RoiAlign = {
    .op = "RoiAlign", .inputs = 1, .reads_in = 7, .forward = forward, .backward = backward};
