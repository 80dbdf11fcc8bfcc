/* Pooling, channels-last. The maximum notes the pixel it came from: the first of several, as in PyTorch.
 * Where its Indices are asked for, which count in the graph's order, it runs as the graph says: each plane is
 * an image of one channel. */
#include <math.h>

#include "train/ops/loops.h"

typedef enum how { MAX, MEAN, NORM } how;

typedef struct pool {
    espl__window w; /* three spatial dimensions */
    int64_t images, channels, pixels, positions;
    int64_t p; /* of the norm */
    how how;
    bool padded;     /* the mean counts what is padded */
    bool by_columns; /* Indices count along the first spatial axis first */
} pool;

/* The taps of a window that lie inside the image, in order. */
typedef struct taps {
    int64_t first[3], count[3], at[3];
    int64_t padded; /* taps inside the image and its padding */
    int64_t pixel;
    bool done;
} taps;

static void set_pixel(const pool *k, taps *t) {
    const espl__window *w = &k->w;
    int64_t z = t->first[0] + t->at[0] * w->dilation[0], y = t->first[1] + t->at[1] * w->dilation[1];
    t->pixel = (z * w->in[1] + y) * w->in[2] + t->first[2] + t->at[2] * w->dilation[2];
}

static void begin_taps(const pool *k, int64_t position, taps *t) {
    const espl__window *w = &k->w;
    int64_t at[3] = {position / (w->out[1] * w->out[2]), position / w->out[2] % w->out[1],
                     position % w->out[2]};
    *t = (taps){.padded = 1};
    for (int i = 0; i < 3; i++) {
        int64_t start = at[i] * w->stride[i] - w->begin[i], lo, hi;
        espl__window_valid(start, w->dilation[i], w->in[i], w->kernel[i], &lo, &hi);
        t->first[i] = start + lo * w->dilation[i];
        t->count[i] = hi - lo;
        t->done |= hi == lo;
        espl__window_valid(start, w->dilation[i], w->in[i] + w->end[i], w->kernel[i], &lo, &hi);
        t->padded *= hi;
    }
    set_pixel(k, t);
}

static void next_tap(const pool *k, taps *t) {
    for (int i = 2; i >= 0; i--) {
        if (++t->at[i] < t->count[i]) {
            set_pixel(k, t);
            return;
        }
        t->at[i] = 0;
    }
    t->done = true;
}

static int64_t divisor(const pool *k, const taps *t) {
    return k->padded ? t->padded : t->count[0] * t->count[1] * t->count[2];
}

static bool gives_indices(const espl__node *n) {
    return n->output_count > 1 && n->outputs[1];
}

static espl_status prepare(espl__call *c, espl_diag *diag) {
    espl_status status = espl__state(c, sizeof(pool), diag);
    if (status != ESPL_OK) return status;
    pool *k = c->state;
    const espl_shape *x = &c->node->inputs[0]->shape;
    bool global = strncmp(c->node->op->name, "Global", 6) == 0;
    int64_t spatial = espl__dims_product(x, 2, x->rank);
    if (global)
        k->w = (espl__window){3, {1, 1, spatial}, {1, 1, 1}, {1, 1, 1}, {0}, {0}, {1, 1, spatial}, {1, 1, 1}};
    else
        status = espl__window_resolve(c->node, x, NULL, &k->w, diag);
    if (status != ESPL_OK) return status;
    espl__window_lift(&k->w);
    k->images = gives_indices(c->node) ? x->dim[0] * x->dim[1] : x->dim[0];
    k->channels = gives_indices(c->node) ? 1 : x->dim[1];
    k->pixels = spatial;
    k->positions = k->w.out[0] * k->w.out[1] * k->w.out[2];
    k->how = strstr(c->node->op->name, "MaxPool") ? MAX : strstr(c->node->op->name, "LpPool") ? NORM : MEAN;
    k->p = espl__attr_int(c->node, "p", 2);
    k->by_columns = espl__attr_int(c->node, "storage_order", 0) != 0;
    k->padded = !global && espl__attr_int(c->node, "count_include_pad", 0) != 0;
    if (k->how == MAX) c->saved_bytes = (uint64_t)espl_shape_count(&c->out->shape) * sizeof(int32_t);
    if (spatial > INT32_MAX) return espl__fail(diag, ESPL_LIMIT, "%s: too many pixels", c->node->op->name);
    return ESPL_OK;
}

#define REAL_FILE "train/ops/pool.inc.h"
#include "train/real.h"

static void give_indices(espl__call *c) {
    const pool *k = c->state;
    const int32_t *from = c->saved;
    int64_t *to = c->out[1].data;
    for (int64_t i = 0, n = k->images * k->positions; i < n; i++)
        to[i] = i / k->positions * k->pixels + espl__pool_index(&k->w, from[i], k->by_columns);
}

static void forward(espl__call *c) {
    const pool *k = c->state;
    espl__range_fn fn = k->how == MAX    ? ESPL__REAL(c, max_positions)
                        : k->how == MEAN ? ESPL__REAL(c, mean_positions)
                                         : ESPL__REAL(c, norm_positions);
    espl__spread(c, k->images * k->positions, espl_shape_count(&c->in->shape), fn, c);
    if (gives_indices(c->node) && c->out[1].data) give_indices(c);
}
static void backward(espl__call *c) {
    const pool *k = c->state;
    espl__range_fn fn = k->how == MAX    ? ESPL__REAL(c, max_back)
                        : k->how == MEAN ? ESPL__REAL(c, mean_back)
                                         : ESPL__REAL(c, norm_back);
    espl__spread(c, k->images, espl_shape_count(&c->in->shape), fn, c);
}

static espl__grad_layout layout(const espl__node *node) {
    return gives_indices(node) ? ESPL__GRAD_ROWS : ESPL__GRAD_LAST;
}

/* reads: what a norm's derivative is computed from, its input and output */
#define DEFINE(Name, reads)                                     \
    const espl__grad espl__grad_##Name = {.op = #Name,          \
                                          .inputs = 1,          \
                                          .reads_in = reads,    \
                                          .reads_out = reads,   \
                                          .layout = layout,     \
                                          .prepare = prepare,   \
                                          .forward = forward,   \
                                          .backward = backward, \
                                          .release = espl__state_free};
DEFINE(MaxPool, 0)
DEFINE(AveragePool, 0)
DEFINE(LpPool, 1)
DEFINE(GlobalMaxPool, 0)
DEFINE(GlobalAveragePool, 0)
DEFINE(GlobalLpPool, 1)
