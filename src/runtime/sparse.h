/* Weights with many zeros, for the sparse kernels. The zeros themselves decide, wherever they come from:
 * nobody has to say that a model is pruned, and a model that another tool pruned is no different. */
#ifndef ESPL_RUNTIME_SPARSE_H
#define ESPL_RUNTIME_SPARSE_H

#include "base/tune.h"
#include "runtime/weights.h"

/* How the weights of one matrix can be packed. */
typedef struct sparse_plan {
    espl__bank bank; /* slots 0: no banks */
    espl__csr rows;  /* compressed; start NULL: none */
    double share;    /* of the weights that are not 0, where there are rows */
    bool faster;     /* than dense weights, says the rule that holds where nothing was measured */
    int64_t pixels;
} sparse_plan;

/* Looks at the zeros of one group; *found false: too few, or no kernel for them. rows: each weight is used
 * for few rows, so that reading it is the work. */
espl_status espl__sparse_look(espl_session *s, const weights *w, const espl__weight_order *order, bool rows,
                              sparse_plan *out, bool *found, espl_diag *diag);
/* Sets p->w and p->bank, or p->csr; p's segments must be there. *bytes: what the kernels read. */
espl_status espl__sparse_pack(espl_session *s, const weights *w, const espl__weight_order *order,
                              sparse_plan *plan, espl__conv *p, uint64_t *bytes, espl_diag *diag);

/* Packs the weights of a step, for sparse kernels or for dense ones. */
typedef espl_status espl__pack_fn(espl_session *s, step *st, bool sparse, void *arg, espl_diag *diag);
/* Packs a step of `size` bytes, the last of the session, in the way that was measured to be faster, or else
 * in both, to be measured (its `other` then is the dense one), or else as the rule says. kernels: names of
 * the dense and of the sparse. */
espl_status espl__sparse_lower(espl_session *s, step *st, size_t size, const char *key, bool faster,
                               const char *const kernels[2], espl__pack_fn *pack, void *arg, espl_diag *diag);
/* "what isa threads ..." into key, which lives as long as the session; NULL: no memory. */
const char *espl__sparse_key(espl_session *s, const char *fmt, ...) ESPL_PRINTF(2, 3);
/* Text of a plan for a key. */
const char *espl__sparse_text(const sparse_plan *plan, char *buf, size_t size);

#endif
