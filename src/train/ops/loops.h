/* What the files of this folder share: loops on the pool, and the leading dimension cut into parts. */
#ifndef ESPL_TRAIN_LOOPS_H
#define ESPL_TRAIN_LOOPS_H

#include "train/grad.h"

/* Fewer elements are not worth waking a thread for. */
enum { ESPL__GRAIN = 4096 };

/* fn over [0, count), on the pool if all of it is `elements` elements of work. */
static inline void espl__spread(const espl__call *c, int64_t count, int64_t elements, espl__range_fn fn,
                                void *arg) {
    espl__parallel_for(elements < ESPL__GRAIN ? NULL : c->pool, count, fn, arg);
}

static inline espl__grad_layout espl__layout_any(const espl__node *node) {
    (void)node;
    return ESPL__GRAD_ANY;
}
static inline espl__grad_layout espl__layout_last(const espl__node *node) {
    (void)node;
    return ESPL__GRAD_LAST;
}

/* State of `bytes` zeroed bytes that release frees. */
static inline espl_status espl__state(espl__call *c, uint64_t bytes, espl_diag *diag) {
    c->state = espl__calloc(c->ctx, 1, bytes);
    return c->state ? ESPL_OK : espl__nomem(diag, bytes);
}
static inline void espl__state_free(espl__call *c) {
    espl__free(c->ctx, c->state);
    c->state = NULL;
}

/* Elements [begin, end) along the first dimension of `out` that this tensor has a part in: all of it where it
 * is broadcast along that dimension, or has none. */
static inline espl_tensor espl__lead(const espl_tensor *t, const espl_shape *out, int64_t begin,
                                     int64_t end) {
    espl_tensor part = *t;
    if (t->shape.rank != out->rank || out->rank == 0 || t->shape.dim[0] <= 1) return part;
    int64_t each = espl_shape_count(&t->shape) / t->shape.dim[0];
    part.shape.dim[0] = end - begin;
    if (t->data) part.data = (char *)t->data + (size_t)(begin * each) * espl_dtype_bytes(t->dtype);
    return part;
}

#endif
