/* Inside src/passes only: what the files of the pass `resolve` share.
 *
 * The pass walks the nodes in order, infers each, and computes small results of constants on the side, for
 * conditions, trip counts and shapes hang on them; the nodes stay. A node with bodies is replaced by copies
 * of the nodes of its bodies, and these are walked in turn. Sequences are lists of values in a table beside
 * the graph. */
#ifndef ESPL_RESOLVE_H
#define ESPL_RESOLVE_H

#include "passes/infer.h"

enum {
    ESPL__UNROLL_NODES = 20000, /* nodes that bodies may become, all of a graph together */
    ESPL__UNROLL_CHOICES =
        32 /* runs of a Loop that are made although only the run tells whether they happen */
};

typedef struct espl__list {
    espl__kind kind;
    bool present; /* of an optional value; a sequence is */
    int count;
    espl__value **elements;
} espl__list;

typedef struct espl__resolver {
    espl_graph *g;
    espl_diag *diag;
    espl__arena arena;  /* of what goes with the pass */
    espl__list **lists; /* by value id */
    int list_capacity;
    espl__value **shadows; /* have a constant that goes with the pass */
    int shadow_count, shadow_capacity;
    uint64_t fold_limit;
    espl__budget fold_budget;
    bool keep; /* what is computed stays, and its node goes */
    int nodes_left;
    const char *prefix; /* of names of what is made */
    bool changed;
} espl__resolver;

/* Walks a node that stands last in the graph. */
ESPL_NODISCARD espl_status espl__resolve_visit(espl__resolver *r, espl__node *n);
/* Copies of the body's nodes; `args`: by input of the body, `results`: by output. ESPL_LIMIT: too many. */
ESPL_NODISCARD espl_status espl__resolve_body(espl__resolver *r, const espl_graph *body,
                                              espl__value *const *args, const char *prefix,
                                              espl__value **results);
/* Output `index` of a node that goes is `result`. */
ESPL_NODISCARD espl_status espl__resolve_connect(espl__resolver *r, espl__node *n, int index,
                                                 espl__value *result);
/* Takes away the nodes from `first` on. */
void espl__resolve_undo(espl__resolver *r, int first);

/* A value of a sequence or optional as its elements, NULL if they are not known. */
const espl__list *espl__resolve_list(const espl__resolver *r, const espl__value *v);
/* The value's elements are these, which are copied. */
ESPL_NODISCARD espl_status espl__resolve_set_list(espl__resolver *r, espl__value *v, espl__kind kind,
                                                  bool present, espl__value *const *elements, int count);
/* A value for a list. */
ESPL_NODISCARD espl_status espl__resolve_new_list(espl__resolver *r, espl_dtype dtype,
                                                  espl__value *const *elements, int count, espl__value **out);

/* A fresh node of one output, walked. `axis`: its attribute; INT_MIN: none. */
ESPL_NODISCARD espl_status espl__resolve_emit(espl__resolver *r, const char *op, espl__value *const *in,
                                              int count, int axis, espl__value **out);
/* The same with a list as attribute; `name` NULL: none. */
ESPL_NODISCARD espl_status espl__resolve_emit_ints(espl__resolver *r, const char *op, espl__value *const *in, int count,
                                                   const char *name, const int64_t *ints, int n_ints, espl__value **out);
/* An operator whose axes are an attribute before operator set 13, and an input since. */
ESPL_NODISCARD espl_status espl__resolve_emit_axes(espl__resolver *r, const char *op, espl__value *x, const int64_t *axes,
                                                   int count, espl__value **out);
ESPL_NODISCARD espl_status espl__resolve_constant(espl__resolver *r, espl_dtype dtype,
                                                  const espl_shape *shape, const void *data,
                                                  espl__value **out);
ESPL_NODISCARD espl_status espl__resolve_number(espl__resolver *r, int64_t number,
                                                espl__value **out); /* s64 scalar */
/* Element `index` along an axis, which goes. */
ESPL_NODISCARD espl_status espl__resolve_slice(espl__resolver *r, espl__value *x, int64_t index, int axis,
                                               espl__value **out);
/* The values behind each other along a new axis. */
ESPL_NODISCARD espl_status espl__resolve_stack(espl__resolver *r, espl__value *const *values, int count,
                                               int axis, espl__value **out);
/* One number of a constant; false if the value is no constant of one element. */
bool espl__resolve_known(const espl__value *v, int64_t *out);
/* A name under the present prefix, in the resolver's arena; NULL without memory. */
const char *espl__resolve_name(espl__resolver *r, const char *prefix, const char *name, int64_t index);

/* Each takes its node away if it can, and sets *done. */
ESPL_NODISCARD espl_status espl__resolve_if(espl__resolver *r, espl__node *n, bool *done);
ESPL_NODISCARD espl_status espl__resolve_loop(espl__resolver *r, espl__node *n, bool *done);
ESPL_NODISCARD espl_status espl__resolve_scan(espl__resolver *r, espl__node *n, bool *done);
ESPL_NODISCARD espl_status espl__resolve_sequence(espl__resolver *r, espl__node *n, bool *done);
ESPL_NODISCARD espl_status espl__resolve_gradient(espl__resolver *r, espl__node *n, bool *done);

#endif
