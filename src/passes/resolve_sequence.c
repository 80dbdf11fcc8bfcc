/* Sequences are lists of values here: what makes, changes or reads one leaves its tensors only. A node whose
 * list, place or number of parts is not known stays. */
#include "passes/resolve.h"
#include "ops/control.h"

#include <inttypes.h>
#include <limits.h>

/* A place in a list of `count`, counted from the end if it is negative; `last`: if it is left out. */
static espl_status place(espl__resolver *r, const espl__node *n, int input, int count, int last, int most,
                         int *out, bool *known) {
    int64_t at = last;
    const espl__value *v = espl__in(n, input);
    *known = !v || espl__resolve_known(v, &at);
    if (!*known) return ESPL_OK;
    if (v && at < 0) at += count;
    if (at < 0 || at > most)
        return espl__fail(r->diag, ESPL_SHAPE, "%s: place %" PRId64 " is outside a sequence of %d",
                          n->op->name, at, count);
    *out = (int)at;
    return ESPL_OK;
}

static espl_status set_list(espl__resolver *r, espl__node *n, espl__value *const *elements, int count,
                            bool *done) {
    espl__value *v = n->outputs[0];
    *done = true;
    r->changed = true;
    n->outputs[0] = NULL;
    v->producer = NULL;
    return espl__resolve_set_list(r, v, ESPL__SEQUENCE, true, elements, count);
}

static espl_status change(espl__resolver *r, espl__node *n, const espl__list *l, bool *done) {
    enum { MOST = 2048 }; /* lists are copied */
    bool insert = espl__node_is(n, "SequenceInsert"), known;
    int at = 0;
    if (l->count > MOST)
        return espl__fail(r->diag, ESPL_LIMIT, "%s: a sequence of more than %d is not followed", n->op->name, MOST);
    espl_status status = insert ? place(r, n, 2, l->count, l->count, l->count, &at, &known)
                                : place(r, n, 1, l->count, l->count - 1, l->count - 1, &at, &known);
    if (status != ESPL_OK || !known) return status;
    espl__value **copy = espl__arena_alloc(&r->arena, sizeof *copy * ((uint64_t)l->count + 2));
    if (!copy) return espl__nomem(r->diag, 0);
    memcpy(copy, l->elements, sizeof *copy * (size_t)at);
    if (insert) copy[at] = n->inputs[1];
    memcpy(copy + at + insert, l->elements + at + !insert, sizeof *copy * (size_t)(l->count - at - !insert));
    return set_list(r, n, copy, l->count + (insert ? 1 : -1), done);
}

static espl_status element(espl__resolver *r, espl__node *n, const espl__list *l, bool *done) {
    int at = 0;
    bool known;
    espl_status status = place(r, n, 1, l->count, 0, l->count - 1, &at, &known);
    if (status != ESPL_OK || !known) return status;
    *done = true;
    return espl__resolve_connect(r, n, 0, l->elements[at]);
}

static espl_status number(espl__resolver *r, espl__node *n, int64_t value, bool truth, bool *done) {
    espl__value *v;
    bool yes = value != 0;
    espl_status status = truth ? espl__resolve_constant(r, ESPL_BOOL, &(espl_shape){0}, &yes, &v)
                               : espl__resolve_number(r, value, &v);
    *done = true;
    return status == ESPL_OK ? espl__resolve_connect(r, n, 0, v) : status;
}

static espl_status join(espl__resolver *r, espl__node *n, const espl__list *l, bool *done) {
    espl__value *all = NULL;
    int64_t axis = espl__attr_int(n, "axis", 0);
    bool fresh = espl__attr_int(n, "new_axis", 0) != 0;
    if (l->count == 0) return espl__fail(r->diag, ESPL_SHAPE, "ConcatFromSequence: the sequence is empty");
    const espl__value *x = l->elements[0];
    if (axis < 0 && !x->known_rank) return ESPL_OK;
    if (axis < 0) axis += x->shape.rank + fresh;
    if (axis < 0 || axis >= ESPL_MAX_RANK || (x->known_rank && axis >= x->shape.rank + fresh))
        return espl__fail(r->diag, ESPL_SHAPE, "ConcatFromSequence: its axis is out of range");
    espl_status status = fresh ? espl__resolve_stack(r, l->elements, l->count, (int)axis, &all)
                               : espl__resolve_emit(r, "Concat", l->elements, l->count, (int)axis, &all);
    *done = true;
    return status == ESPL_OK ? espl__resolve_connect(r, n, 0, all) : status;
}

/* --- SplitToSequence --------------------------------------------------------------------------------- */

/* Elements [from, to) along an axis. */
static espl_status part(espl__resolver *r, espl__value *x, int64_t from, int64_t to, int64_t axis,
                        espl__value **out) {
    espl_status status = ESPL_OK;
    const int64_t limits[3] = {from, to, axis};
    espl__value *in[4] = {x};
    for (int i = 0; i < 3; i++)
        ESPL_TRY(espl__resolve_constant(r, ESPL_S64, &(espl_shape){1, {1}}, &limits[i], &in[1 + i]));
    status = espl__resolve_emit(r, "Slice", in, 4, INT_MIN, out);
done:
    return status;
}

static espl_status parts(espl__resolver *r, espl__node *n, const int64_t *sizes, int64_t equal, int count,
                         int axis, bool *done) {
    espl_status status = ESPL_OK;
    espl__value *x = n->inputs[0],
                **list = espl__arena_alloc(&r->arena, sizeof *list * ((uint64_t)count + 1));
    int64_t length = x->shape.dim[axis], from = 0;
    bool squeeze = !n->inputs[n->input_count - 1 ? 1 : 0] || n->input_count < 2;
    squeeze = squeeze && espl__attr_int(n, "keepdims", 1) == 0;
    if (!list) return espl__nomem(r->diag, 0);
    for (int i = 0; i < count; i++) {
        int64_t size = sizes ? sizes[i] : ESPL_MIN(equal, length - from);
        if (size < 0 || size > length - from)
            return espl__fail(r->diag, ESPL_SHAPE,
                              "SplitToSequence: its parts do not make up %" PRId64 " elements", length);
        ESPL_TRY(squeeze ? espl__resolve_slice(r, x, i, axis, &list[i])
                         : part(r, x, from, from + size, axis, &list[i]));
        from += size;
    }
    if (from != length)
        return espl__fail(r->diag, ESPL_SHAPE,
                          "SplitToSequence: its parts do not make up %" PRId64 " elements", length);
    status = set_list(r, n, list, count, done);
done:
    return status;
}

static espl_status split(espl__resolver *r, espl__node *n, bool *done) {
    const espl__value *x = n->inputs[0], *sizes = espl__in(n, 1);
    int axis;
    int64_t equal = 1, listed[1024];
    if (!x->known_rank || (sizes && !sizes->constant)) return ESPL_OK;
    espl_status status = espl__axis(espl__attr_int(n, "axis", 0), x->shape.rank, &axis, r->diag);
    if (status != ESPL_OK) return status;
    int64_t length = x->shape.dim[axis];
    if (length < 0) return ESPL_OK;
    if (sizes && sizes->shape.rank > 0) {
        int64_t count = espl_shape_count(&sizes->shape);
        if (count > (int64_t)ESPL_COUNT(listed) || (sizes->dtype != ESPL_S64 && sizes->dtype != ESPL_S32))
            return espl__fail(r->diag, ESPL_UNSUPPORTED,
                              "SplitToSequence: its list of sizes is not supported");
        espl__load_s64(sizes->dtype, sizes->constant->data, 1, count, listed);
        return parts(r, n, listed, 0, (int)count, axis, done);
    }
    if (sizes && (!espl__resolve_known(sizes, &equal) || equal < 1))
        return espl__fail(r->diag, ESPL_SHAPE,
                          "SplitToSequence: the size of its parts is no positive number");
    if (length > ESPL__UNROLL_NODES) return ESPL_OK;
    return parts(r, n, NULL, equal, (int)(length / equal + (length % equal != 0)), axis, done);
}

/* --- SequenceMap ------------------------------------------------------------------------------------- */

static espl_status map_element(espl__resolver *r, espl__node *n, const espl_graph *body, int index,
                               espl__value **args, espl__value **results) {
    for (int i = 0; i < body->input_count; i++) {
        const espl__list *l = i < body->formals ? espl__resolve_list(r, n->inputs[i]) : NULL;
        if (l && index >= l->count)
            return espl__fail(r->diag, ESPL_SHAPE, "SequenceMap: its sequences have different lengths");
        args[i] = l ? l->elements[index] : n->inputs[i];
    }
    const char *name = espl__resolve_name(r, r->prefix, *n->name ? n->name : n->op->name, index);
    const char *prefix = name ? espl__resolve_name(r, name, "/", -1) : NULL;
    return prefix ? espl__resolve_body(r, body, args, prefix, results) : espl__nomem(r->diag, 0);
}

static espl_status map(espl__resolver *r, espl__node *n, const espl__list *l, bool *done) {
    espl_status status = ESPL_OK;
    const espl_graph *body = espl__attr_graph(n, "body");
    int outputs = body->output_count;
    espl__value **args = espl__arena_alloc(&r->arena, sizeof *args * ((uint64_t)body->input_count + 1));
    espl__value **all =
        espl__arena_alloc(&r->arena, sizeof *all * ((uint64_t)(l->count + 1) * (uint64_t)outputs + 1));
    espl__value **list = espl__arena_alloc(&r->arena, sizeof *list * ((uint64_t)l->count + 1));
    if (!args || !all || !list) return espl__nomem(r->diag, 0);
    for (int k = 0; k < l->count; k++) ESPL_TRY(map_element(r, n, body, k, args, all + k * outputs));
    for (int i = 0; i < n->output_count; i++) {
        espl__value *result;
        if (!n->outputs[i]) continue;
        for (int k = 0; k < l->count; k++) list[k] = all[k * outputs + i];
        ESPL_TRY(espl__resolve_new_list(r, n->outputs[i]->dtype, list, l->count, &result));
        ESPL_TRY(espl__resolve_connect(r, n, i, result));
    }
    *done = true;
done:
    return status;
}

/* --- optional values --------------------------------------------------------------------------------- */

/* An optional value that holds something is that something; one that holds nothing is a list that is not
 * present. */
static espl_status optional(espl__resolver *r, espl__node *n, bool *done) {
    espl__value *v = n->outputs[0];
    *done = true;
    if (n->input_count > 0 && n->inputs[0]) return espl__resolve_connect(r, n, 0, n->inputs[0]);
    n->outputs[0] = NULL;
    v->producer = NULL;
    r->changed = true;
    return espl__resolve_set_list(r, v, ESPL__OPTIONAL, false, NULL, 0);
}

static espl_status optional_element(espl__resolver *r, espl__node *n, const espl__list *l, bool *done) {
    if (l && !l->present)
        return espl__fail(r->diag, ESPL_SHAPE, "OptionalGetElement: its input holds nothing");
    if (!l && n->inputs[0]->kind != ESPL__TENSOR) return ESPL_OK;
    *done = true;
    return espl__resolve_connect(r, n, 0, n->inputs[0]);
}

static espl_status resolve(espl__resolver *r, espl__node *n, bool *done) {
    espl__value *x = espl__in(n, 0);
    const espl__list *l = espl__resolve_list(r, x);
    const char *op = n->op->name;
    if (strcmp(op, "SequenceConstruct") == 0) return set_list(r, n, n->inputs, n->input_count, done);
    if (strcmp(op, "SequenceEmpty") == 0) return set_list(r, n, NULL, 0, done);
    if (strcmp(op, "SplitToSequence") == 0) return split(r, n, done);
    if (strcmp(op, "Optional") == 0) return optional(r, n, done);
    if (strcmp(op, "OptionalGetElement") == 0) return optional_element(r, n, l, done);
    if (strcmp(op, "OptionalHasElement") == 0) {
        bool known = !x || l || x->kind == ESPL__TENSOR;
        return known ? number(r, n, x && (!l || l->present), true, done) : ESPL_OK;
    }
    if (!l) return ESPL_OK;
    if (strcmp(op, "SequenceInsert") == 0 || strcmp(op, "SequenceErase") == 0) return change(r, n, l, done);
    if (strcmp(op, "SequenceAt") == 0) return element(r, n, l, done);
    if (strcmp(op, "SequenceLength") == 0) return number(r, n, l->count, false, done);
    if (strcmp(op, "ConcatFromSequence") == 0) return join(r, n, l, done);
    return strcmp(op, "SequenceMap") == 0 ? map(r, n, l, done) : ESPL_OK;
}

espl_status espl__resolve_sequence(espl__resolver *r, espl__node *n, bool *done) {
    espl_status status = resolve(r, n, done);
    char label[160];
    if (status != ESPL_OK && status != ESPL_NOMEM)
        espl__diag_prefix(r->diag, "node %s", espl__node_label(n, label, sizeof label));
    return status;
}
