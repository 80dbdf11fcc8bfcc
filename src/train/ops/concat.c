/* Concat and Split, in either layout: the same copy in two directions. */
#include "train/ops/loops.h"

typedef struct joint {
    int64_t outer, line; /* lines of the long side, and their length */
    int64_t *at;         /* where each part begins in a line, and the end */
} joint;

/* The axis in memory. */
static int axis_of(const espl__value *v, int axis) {
    if (!v->mark || v->shape.rank < 3 || axis == 0) return axis;
    return axis == 1 ? v->shape.rank - 1 : axis - 1;
}

static espl_status prepare(espl__call *c, espl_diag *diag) {
    espl_status status = espl__state(c, sizeof(joint), diag);
    if (status != ESPL_OK) return status;
    joint *k = c->state;
    bool join = espl__node_is(c->node, "Concat");
    int parts = join ? c->inputs : c->outputs, axis;
    const espl__value *v = join ? c->node->outputs[0] : c->node->inputs[0];
    const espl_tensor *whole = join ? c->out : c->in, *part = join ? c->in : c->out;
    k->at = espl__calloc(c->ctx, (uint64_t)parts + 1, sizeof *k->at);
    if (!k->at) return espl__nomem(diag, (uint64_t)parts * sizeof *k->at);
    status = espl__axis(espl__attr_int(c->node, "axis", 0), v->shape.rank, &axis, diag);
    if (status != ESPL_OK) return status;
    axis = axis_of(v, axis);
    int64_t inner = espl__dims_product(&whole->shape, axis + 1, whole->shape.rank);
    k->outer = espl__dims_product(&whole->shape, 0, axis);
    k->line = inner * whole->shape.dim[axis];
    for (int j = 0; j < parts; j++) {
        if (!join && !c->node->outputs[j])
            return espl__fail(diag, ESPL_UNSUPPORTED, "Split: training needs every output named");
        k->at[j + 1] = k->at[j] + part[j].shape.dim[axis] * inner;
    }
    return ESPL_OK;
}

static void release(espl__call *c) {
    if (c->state) espl__free(c->ctx, ((joint *)c->state)->at);
    espl__state_free(c);
}

#define REAL_FILE "train/ops/concat.inc.h"
#include "train/real.h"

static void join(espl__call *c) {
    ESPL__REAL(c, join)(c, false);
}
static void join_back(espl__call *c) {
    ESPL__REAL(c, join)(c, true);
}
static void split(espl__call *c) {
    ESPL__REAL(c, split)(c, false);
}
static void split_back(espl__call *c) {
    ESPL__REAL(c, split)(c, true);
}

const espl__grad espl__grad_Concat = {.op = "Concat",
                                      .inputs = UINT32_MAX,
                                      .adopts = UINT32_MAX,
                                      .layout = espl__layout_any,
                                      .prepare = prepare,
                                      .forward = join,
                                      .backward = join_back,
                                      .release = release};
const espl__grad espl__grad_Split = {.op = "Split",
                                     .inputs = 1,
                                     .layout = espl__layout_any,
                                     .prepare = prepare,
                                     .forward = split,
                                     .backward = split_back,
                                     .release = release};
