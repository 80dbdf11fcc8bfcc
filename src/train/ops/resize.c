/* Resize and Upsample, nearest and linear. Where an output lies between elements is asked of the operator
 * itself: along each axis it resizes the numbers 0, 1, 2, ..., which says between which two, and 0, 1, 0, 1,
 * ..., which says how far. */
#include <math.h>

#include "train/ops/loops.h"

enum { CORNERS = 1 << ESPL_MAX_RANK };

typedef struct place {
    int64_t at, next;
    float weight; /* of `next` */
} place;

typedef struct sampling {
    place *axis[ESPL_MAX_RANK];
    int64_t stride[ESPL_MAX_RANK];
    place *all;
} sampling;

typedef struct job {
    espl__call *call;
    bool back;
} job;

/* The elements that an output is made of, and their weights; returns how many. */
static int corners(const sampling *k, int rank, const int64_t *index, int64_t *from, float *weight) {
    int n = 1;
    from[0] = 0;
    weight[0] = 1;
    for (int a = 0; a < rank; a++) {
        const place *p = &k->axis[a][index[a]];
        int before = n;
        for (int i = 0; i < before; i++) {
            if (p->weight != 0) {
                from[n] = from[i] + p->next * k->stride[a];
                weight[n++] = weight[i] * p->weight;
            }
            from[i] += p->at * k->stride[a];
            weight[i] *= 1 - p->weight;
        }
    }
    return n;
}

/* The operator on one image of numbers that depend on the place along one axis. */
static void probe(const espl__call *c, int axis, bool parity, float *x, float *y, void *scratch) {
    espl_tensor in[4] = {{0}}, out = {ESPL_F32, c->out->shape, y};
    const espl_shape *s = &c->in->shape;
    int64_t inner = espl__dims_product(s, axis + 1, s->rank), n = espl_shape_count(s) / s->dim[0];
    for (int64_t i = 0; i < n; i++) {
        int64_t at = axis == 0 ? 0 : i / inner % s->dim[axis];
        x[i] = (float)(parity ? at % 2 : at);
    }
    for (int i = 1; i < c->inputs && i < 4; i++)
        if (c->node->inputs[i] && c->node->inputs[i]->constant) in[i] = *c->node->inputs[i]->constant;
    in[0] = (espl_tensor){ESPL_F32, *s, x};
    out.shape.dim[0] = 1;
    c->node->op->eval(c->node, in, &out, scratch);
}

static void find_places(const espl__call *c, sampling *k, float *x, float *y, void *scratch) {
    const espl_shape *in = &c->in->shape, *out = &c->out->shape;
    place *next = k->all;
    for (int a = 0; a < out->rank; a++) {
        int64_t inner = espl__dims_product(out, a + 1, out->rank), n = in->dim[a];
        k->axis[a] = next;
        next += out->dim[a];
        for (int64_t o = 0; o < out->dim[a]; o++) k->axis[a][o] = (place){o, o, 0};
        if (a == 0) continue;
        probe(c, a, false, x, y, scratch);
        for (int64_t o = 0; o < out->dim[a]; o++) {
            int64_t at = (int64_t)floorf(y[o * inner]);
            k->axis[a][o] = (place){at, ESPL_MIN(at + 1, n - 1), 0};
        }
        probe(c, a, true, x, y, scratch);
        for (int64_t o = 0; o < out->dim[a]; o++) {
            place *p = &k->axis[a][o];
            float far = p->at % 2 ? 1 - y[o * inner] : y[o * inner];
            p->weight = p->next == p->at ? 0 : far;
        }
    }
}

static espl_status prepare(espl__call *c, espl_diag *diag) {
    espl_status status = espl__state(c, sizeof(sampling), diag);
    if (status != ESPL_OK) return status;
    sampling *k = c->state;
    const espl_shape *in = &c->in->shape, *out = &c->out->shape;
    const char *mode = espl__attr_string(c->node, "mode", "nearest");
    const char *how = espl__attr_string(c->node, "coordinate_transformation_mode", "");
    if (strcmp(mode, "cubic") == 0 || strcmp(how, "tf_crop_and_resize") == 0 || espl__attr_int(c->node, "antialias", 0))
        return espl__fail(diag, ESPL_UNSUPPORTED,
                          "%s: training has no cubic or antialiased kernel and no region; use nearest or linear",
                          c->node->op->name);
    if (out->rank < 1 || in->dim[0] != out->dim[0] || espl__is_empty(c->in) || espl__is_empty(c->out))
        return espl__fail(diag, ESPL_UNSUPPORTED, "%s: training does not resize the first axis",
                          c->node->op->name);
    uint64_t places = 0, scratch_bytes = espl__scratch_bytes(c->node);
    for (int a = 0; a < out->rank; a++) places += (uint64_t)out->dim[a];
    espl__strides(in, k->stride);
    k->all = espl__calloc(c->ctx, places, sizeof *k->all);
    float *x = espl__calloc(c->ctx, (uint64_t)(espl_shape_count(in) / in->dim[0]), sizeof *x);
    float *y = espl__calloc(c->ctx, (uint64_t)(espl_shape_count(out) / out->dim[0]), sizeof *y);
    void *scratch = espl__calloc(c->ctx, scratch_bytes + 1, 1);
    if (k->all && x && y && scratch)
        find_places(c, k, x, y, scratch);
    else
        status = espl__nomem(diag, places * sizeof *k->all);
    espl__free(c->ctx, x);
    espl__free(c->ctx, y);
    espl__free(c->ctx, scratch);
    return status;
}

static void release(espl__call *c) {
    if (c->state) espl__free(c->ctx, ((sampling *)c->state)->all);
    espl__state_free(c);
}

#define REAL_FILE "train/ops/resize.inc.h"
#include "train/real.h"

static void forward(espl__call *c) {
    job j = {c, false};
    espl__spread(c, c->out->shape.dim[0], espl_shape_count(&c->out->shape), ESPL__REAL(c, resize_images), &j);
}
static void backward(espl__call *c) {
    job j = {c, true};
    if (!(c->add & 1)) memset(c->din->data, 0, espl__tensor_bytes(c->din));
    espl__spread(c, c->out->shape.dim[0], espl_shape_count(&c->out->shape), ESPL__REAL(c, resize_images), &j);
}

#define DEFINE(Name)                                            \
    const espl__grad espl__grad_##Name = {.op = #Name,          \
                                          .inputs = 1,          \
                                          .prepare = prepare,   \
                                          .forward = forward,   \
                                          .backward = backward, \
                                          .release = release};
DEFINE(Resize)
DEFINE(Upsample)
