/* If, Loop and Scan become the nodes of their bodies: an If with a known condition one branch, and else both
 * with a Where behind them; a Loop as many copies as it runs; a Scan one for each slice. What is not known
 * before a run stays. */
#include "passes/resolve.h"
#include "ops/control.h"

#include <limits.h>

/* Runs `make` and takes back what it made if that contradicts itself or is too much: the node then stays. */
typedef espl_status (*attempt_fn)(espl__resolver *r, espl__node *n, void *state);

static espl_status attempt(espl__resolver *r, espl__node *n, attempt_fn make, void *state, bool *made) {
    espl_diag *outer = r->diag, inner = {0};
    int first = r->g->node_count;
    r->diag = &inner;
    espl_status status = make(r, n, state);
    r->diag = outer;
    *made = status == ESPL_OK;
    if (*made) return ESPL_OK;
    espl__resolve_undo(r, first);
    return status == ESPL_NOMEM ? espl__nomem(r->diag, 0) : ESPL_OK;
}

/* Both can stand at one place: tensors of one type and, as far as is known, one shape. */
static bool alike(const espl__resolver *r, const espl__value *a, const espl__value *b) {
    if (a == b) return true;
    if (espl__resolve_list(r, a) || espl__resolve_list(r, b) || a->kind != ESPL__TENSOR ||
        b->kind != ESPL__TENSOR)
        return false;
    return a->dtype == b->dtype && a->known_rank && b->known_rank && espl_shape_equal(&a->shape, &b->shape);
}

/* The condition as a scalar, which a Where broadcasts to any shape. */
static espl_status scalar(espl__resolver *r, espl__value *condition, espl__value **out) {
    espl__value *in[2] = {condition, NULL};
    *out = condition;
    if (condition->known_rank && condition->shape.rank == 0) return ESPL_OK;
    espl_status status = espl__resolve_constant(r, ESPL_S64, &(espl_shape){1, {0}}, NULL, &in[1]);
    return status == ESPL_OK ? espl__resolve_emit(r, "Reshape", in, 2, INT_MIN, out) : status;
}

static espl_status choice(espl__resolver *r, espl__value *condition, espl__value *yes, espl__value *no,
                          espl__value **out) {
    espl__value *in[3] = {condition, yes, no};
    *out = yes;
    if (yes == no) return ESPL_OK;
    espl_status status = espl__resolve_emit(r, "Where", in, 3, INT_MIN, out);
    if (status == ESPL_OK && !espl__attr_set_int(r->g, (*out)->producer, ESPL__ATTR_CHOICE, 1))
        status = espl__nomem(r->diag, 0);
    return status;
}

/* --- If ---------------------------------------------------------------------------------------------- */

typedef struct branches {
    espl__value **yes, **no;
} branches;

static espl_status both(espl__resolver *r, espl__node *n, void *state) {
    const branches *b = state;
    const espl_graph *yes = espl__attr_graph(n, "then_branch"), *no = espl__attr_graph(n, "else_branch");
    espl__value *condition = NULL;
    espl_status status = espl__resolve_body(r, yes, n->inputs + 1, r->prefix, b->yes);
    if (status == ESPL_OK) status = espl__resolve_body(r, no, n->inputs + 1, r->prefix, b->no);
    for (int i = 0; i < n->output_count && status == ESPL_OK; i++)
        if (n->outputs[i] && !alike(r, b->yes[i], b->no[i])) status = ESPL_UNSUPPORTED;
    if (status == ESPL_OK) status = scalar(r, n->inputs[0], &condition);
    for (int i = 0; i < n->output_count && status == ESPL_OK; i++)
        if (n->outputs[i]) status = choice(r, condition, b->yes[i], b->no[i], &b->yes[i]);
    return status;
}

espl_status espl__resolve_if(espl__resolver *r, espl__node *n, bool *done) {
    int64_t condition;
    espl_context *ctx = r->arena.ctx;
    bool known = espl__resolve_known(n->inputs[0], &condition);
    const espl_graph *yes = espl__attr_graph(n, "then_branch"), *no = espl__attr_graph(n, "else_branch");
    branches b = {espl__calloc(ctx, (uint64_t)yes->output_count + 1, sizeof *b.yes),
                  espl__calloc(ctx, (uint64_t)no->output_count + 1, sizeof *b.no)};
    espl_status status = b.yes && b.no ? ESPL_OK : espl__nomem(r->diag, 0);
    espl__value **results = known && !condition ? b.no : b.yes;
    if (status == ESPL_OK && known)
        status = espl__resolve_body(r, condition ? yes : no, n->inputs + 1, r->prefix, results);
    *done = known;
    if (status == ESPL_OK && !known) status = attempt(r, n, both, &b, done);
    for (int i = 0; i < n->output_count && *done && status == ESPL_OK; i++)
        status = espl__resolve_connect(r, n, i, results[i]);
    espl__free(ctx, b.yes);
    espl__free(ctx, b.no);
    return status;
}

/* --- Loop -------------------------------------------------------------------------------------------- */

/* What goes from run to run, and what every run adds to. */
typedef struct unrolling {
    const espl_graph *body;
    int states, stacked;
    espl__value **args, **results; /* of the body */
    espl__value **rows;            /* run after run, `stacked` of each */
    int runs, capacity;
} unrolling;

static espl_status begin(espl__resolver *r, const espl_graph *body, int states, int results, unrolling *u) {
    espl_context *ctx = r->arena.ctx;
    *u = (unrolling){.body = body, .states = states, .stacked = results - states};
    u->args = espl__calloc(ctx, (uint64_t)body->input_count + 1, sizeof *u->args);
    u->results = espl__calloc(ctx, (uint64_t)body->output_count + 1, sizeof *u->results);
    return u->args && u->results ? ESPL_OK : espl__nomem(r->diag, 0);
}

static void end(espl__resolver *r, unrolling *u) {
    espl__free(r->arena.ctx, u->args);
    espl__free(r->arena.ctx, u->results);
    espl__free(r->arena.ctx, u->rows);
}

static espl_status keep_rows(espl__resolver *r, unrolling *u, espl__value *const *from) {
    if (u->runs == u->capacity) {
        int more = u->capacity ? 2 * u->capacity : 16;
        uint64_t row = sizeof *u->rows * ((uint64_t)u->stacked + 1);
        espl__value **bigger =
            espl__realloc(r->arena.ctx, u->rows, row * (uint64_t)u->capacity, row * (uint64_t)more);
        if (!bigger) return espl__nomem(r->diag, row * (uint64_t)more);
        u->rows = bigger;
        u->capacity = more;
    }
    for (int i = 0; i < u->stacked; i++) u->rows[u->runs * u->stacked + i] = from[i];
    u->runs++;
    return ESPL_OK;
}

static const char *run_prefix(espl__resolver *r, const espl__node *n, int64_t run) {
    const char *name = espl__resolve_name(r, r->prefix, *n->name ? n->name : n->op->name, run);
    return name ? espl__resolve_name(r, name, "/", -1) : NULL;
}

static espl_status run_body(espl__resolver *r, const espl__node *n, unrolling *u) {
    const char *prefix = run_prefix(r, n, u->runs);
    return prefix ? espl__resolve_body(r, u->body, u->args, prefix, u->results) : espl__nomem(r->diag, 0);
}

/* Nothing ran: an output that runs would have added to has no elements, of the shape that a run would give.
 */
static espl_status no_rows(espl__resolver *r, const espl__value *like, int axis, espl__value **out) {
    if (!like->known_rank || like->shape.rank >= ESPL_MAX_RANK || axis > like->shape.rank || axis < 0)
        return ESPL_UNSUPPORTED;
    espl_shape shape = {.rank = like->shape.rank + 1};
    for (int i = 0; i < shape.rank; i++) {
        shape.dim[i] = i == axis ? 0 : like->shape.dim[i - (i > axis)];
        if (shape.dim[i] < 0) shape.dim[i] = 0;
    }
    return espl__resolve_constant(r, like->dtype, &shape, NULL, out);
}

static int normal_axis(int64_t axis, const espl__value *slice) {
    int rank = slice->known_rank ? slice->shape.rank + 1 : 0;
    if (axis < 0 && rank) axis += rank;
    return axis < 0 || axis > ESPL_MAX_RANK || (rank && axis >= rank) ? -1 : (int)axis;
}

/* Output k of those that runs add to, along `axis`; `back`: the last run first. */
static espl_status stack_rows(espl__resolver *r, const unrolling *u, int k, int64_t axis, bool back,
                              espl__value **out) {
    if (u->runs == 0) return no_rows(r, u->results[u->body->output_count - u->stacked + k], (int)axis, out);
    espl__value **list = espl__calloc(r->arena.ctx, (uint64_t)u->runs, sizeof *list);
    if (!list) return espl__nomem(r->diag, 0);
    for (int i = 0; i < u->runs; i++) list[i] = u->rows[(back ? u->runs - 1 - i : i) * u->stacked + k];
    int place = normal_axis(axis, list[0]);
    espl_status status = place < 0 ? espl__fail(r->diag, ESPL_SHAPE, "Scan: an output's axis is out of range")
                                   : espl__resolve_stack(r, list, u->runs, place, out);
    espl__free(r->arena.ctx, list);
    return status;
}

/* The shapes of a body that never runs: made once and taken back. */
static espl_status run_for_shapes(espl__resolver *r, const espl__node *n, unrolling *u) {
    int first = r->g->node_count;
    espl_status status = run_body(r, n, u);
    espl__resolve_undo(r, first);
    return status;
}

typedef struct loop {
    unrolling u;
    int64_t most;
    espl__value *go; /* what a run asks before it; NULL: it is known to happen */
} loop;

/* After a run that may not happen the states are those before it. */
static espl_status merge_states(espl__resolver *r, loop *l) {
    espl_status status = ESPL_OK;
    for (int i = 0; i < l->u.states && status == ESPL_OK; i++) {
        espl__value *before = l->u.args[2 + i], **after = &l->u.results[1 + i];
        status = alike(r, *after, before) ? choice(r, l->go, *after, before, after) : ESPL_UNSUPPORTED;
    }
    return status;
}

/* Whether the next run happens; *more is false if it is known not to. */
static espl_status next_run(espl__resolver *r, loop *l, bool *more) {
    espl__value *asked = l->u.results[0], *both_true[2] = {l->go, NULL};
    int64_t known;
    bool certain = espl__resolve_known(asked, &known);
    *more = !certain || known;
    if (certain || !*more) return ESPL_OK;
    if (l->u.stacked || l->most > ESPL__UNROLL_CHOICES) return ESPL_UNSUPPORTED;
    espl_status status = scalar(r, asked, &both_true[1]);
    if (status != ESPL_OK || !l->go) {
        l->go = both_true[1];
        return status;
    }
    return espl__resolve_emit(r, "And", both_true, 2, INT_MIN, &l->go);
}

static espl_status unroll_loop(espl__resolver *r, espl__node *n, void *state) {
    loop *l = state;
    unrolling *u = &l->u;
    espl_status status = ESPL_OK;
    int64_t known = 1;
    bool more = true, yes = true;
    if (n->inputs[1] && !espl__resolve_known(n->inputs[1], &known)) {
        if (u->stacked || l->most > ESPL__UNROLL_CHOICES) return ESPL_UNSUPPORTED;
        ESPL_TRY(scalar(r, n->inputs[1], &l->go));
    }
    more = known != 0;
    ESPL_TRY(espl__resolve_constant(r, ESPL_BOOL, &(espl_shape){0}, &yes, &u->args[1]));
    for (int i = 2; i < u->body->input_count; i++) u->args[i] = n->inputs[i];
    if (u->stacked && (l->most <= 0 || !more)) {
        ESPL_TRY(espl__resolve_number(r, 0, &u->args[0]));
        ESPL_TRY(run_for_shapes(r, n, u));
    }
    while (more && u->runs < l->most) {
        ESPL_TRY(espl__resolve_number(r, u->runs, &u->args[0]));
        ESPL_TRY(run_body(r, n, u));
        if (l->go) ESPL_TRY(merge_states(r, l));
        ESPL_TRY(keep_rows(r, u, u->results + 1 + u->states));
        ESPL_TRY(next_run(r, l, &more));
        for (int i = 0; i < u->states; i++) u->args[2 + i] = u->results[1 + i];
    }
    for (int k = 0; k < u->stacked; k++)
        if (u->states + k < n->output_count && n->outputs[u->states + k])
            ESPL_TRY(stack_rows(r, u, k, 0, false, &u->results[1 + u->states + k]));
done:
    return status;
}

espl_status espl__resolve_loop(espl__resolver *r, espl__node *n, bool *done) {
    espl_status status = ESPL_OK;
    loop l = {.most = INT64_MAX};
    const espl_graph *body = espl__attr_graph(n, "body");
    int states = body->formals - 2;
    if (n->inputs[0] && !espl__resolve_known(n->inputs[0], &l.most)) return ESPL_OK;
    ESPL_TRY(begin(r, body, states, body->output_count - 1, &l.u));
    ESPL_TRY(attempt(r, n, unroll_loop, &l, done));
    for (int i = 0; i < n->output_count && *done; i++)
        ESPL_TRY(espl__resolve_connect(r, n, i, i < states ? l.u.args[2 + i] : l.u.results[1 + i]));
done:
    end(r, &l.u);
    return status;
}

/* --- Scan -------------------------------------------------------------------------------------------- */

/* Element i of a list of integers that need not be there. */
static int64_t listed(const espl__node *n, const char *name, int index) {
    const espl__attr *a = espl__attr_find(n, name);
    return a && a->kind == ESPL__ATTR_INTS && index < a->count ? a->ints[index] : 0;
}

static int input_axis(const espl__node *n, int index, const espl__value *x) {
    int64_t axis = listed(n, "scan_input_axes", index);
    if (!x->known_rank) return -1;
    if (axis < 0) axis += x->shape.rank;
    return axis < 0 || axis >= x->shape.rank ? -1 : (int)axis;
}

/* The number of slices, which all inputs that are cut must have. */
static espl_status scan_length(espl__resolver *r, const espl__node *n, espl__value *const *x, int count,
                               int64_t *out) {
    for (int i = 0; i < count; i++) {
        int axis = input_axis(n, i, x[i]);
        if (axis < 0 && x[i]->known_rank)
            return espl__fail(r->diag, ESPL_SHAPE, "Scan: axis of input %d is out of range", i);
        int64_t length = axis < 0 ? ESPL_DIM_UNKNOWN : x[i]->shape.dim[axis];
        if (length < 0 || (i > 0 && length != *out)) return ESPL_UNSUPPORTED;
        *out = length;
    }
    return ESPL_OK;
}

/* One sequence: u->args holds the states and what is from outside; afterwards u->results the outputs. */
static espl_status scan_sequence(espl__resolver *r, espl__node *n, unrolling *u, espl__value *const *x) {
    espl_status status = ESPL_OK;
    bool old = n->opset < 9;
    int scanned = u->body->formals - u->states;
    int64_t length = 0;
    ESPL_TRY(scan_length(r, n, x, scanned, &length));
    if (length == 0) return ESPL_UNSUPPORTED;
    for (u->runs = 0; u->runs < length;) {
        for (int i = 0; i < scanned; i++) {
            bool back = listed(n, old ? "directions" : "scan_input_directions", i) != 0;
            ESPL_TRY(espl__resolve_slice(r, x[i], back ? length - 1 - u->runs : u->runs,
                                         input_axis(n, i, x[i]), &u->args[u->states + i]));
        }
        ESPL_TRY(run_body(r, n, u));
        ESPL_TRY(keep_rows(r, u, u->results + u->states));
        for (int i = 0; i < u->states; i++) u->args[i] = u->results[i];
    }
    for (int k = 0; k < u->stacked; k++)
        ESPL_TRY(stack_rows(r, u, k, old ? 0 : listed(n, "scan_output_axes", k),
                            !old && listed(n, "scan_output_directions", k) != 0, &u->results[u->states + k]));
done:
    return status;
}

static espl_status unroll_scan(espl__resolver *r, espl__node *n, void *state) {
    unrolling *u = state;
    for (int i = 0; i < u->body->input_count; i++) u->args[i] = n->inputs[i];
    return scan_sequence(r, n, u, n->inputs + u->states);
}

/* The first form of Scan (operator set 8) has a batch of sequences in axis 0, each scanned on its own. */
static espl_status unroll_batch(espl__resolver *r, espl__node *n, void *state) {
    unrolling *u = state;
    espl_status status = ESPL_OK;
    espl_context *ctx = r->arena.ctx;
    espl__value *const *in = n->inputs + 1, *x[64], **all = NULL, **rows = NULL;
    int scanned = u->body->formals - u->states, outputs = u->body->output_count;
    const espl__value *first = in[0];
    if (n->inputs[0] || scanned > (int)ESPL_COUNT(x) || !first->known_rank || first->shape.rank < 1)
        return ESPL_UNSUPPORTED;
    int64_t batch = first->shape.dim[0];
    if (batch < 1 || batch > ESPL__UNROLL_NODES) return ESPL_UNSUPPORTED;
    all = espl__calloc(ctx, (uint64_t)batch * (uint64_t)outputs + 1, sizeof *all);
    rows = espl__calloc(ctx, (uint64_t)batch, sizeof *rows);
    if (!all || !rows) {
        status = espl__nomem(r->diag, 0);
        goto done;
    }
    for (int64_t b = 0; b < batch; b++) {
        for (int i = u->body->formals; i < u->body->input_count; i++) u->args[i] = in[i];
        for (int i = 0; i < u->states; i++) ESPL_TRY(espl__resolve_slice(r, in[i], b, 0, &u->args[i]));
        for (int i = 0; i < scanned; i++) ESPL_TRY(espl__resolve_slice(r, in[u->states + i], b, 0, &x[i]));
        ESPL_TRY(scan_sequence(r, n, u, x));
        memcpy(all + b * outputs, u->results, sizeof *all * (size_t)outputs);
    }
    for (int i = 0; i < outputs; i++) {
        for (int64_t b = 0; b < batch; b++) rows[b] = all[b * outputs + i];
        ESPL_TRY(espl__resolve_stack(r, rows, (int)batch, 0, &u->results[i]));
    }
done:
    espl__free(ctx, all);
    espl__free(ctx, rows);
    return status;
}

espl_status espl__resolve_scan(espl__resolver *r, espl__node *n, bool *done) {
    espl_status status = ESPL_OK;
    unrolling u = {0};
    const espl_graph *body = espl__attr_graph(n, "body");
    ESPL_TRY(begin(r, body, body->formals - espl__scan_inputs(n), body->output_count, &u));
    ESPL_TRY(attempt(r, n, n->opset < 9 ? unroll_batch : unroll_scan, &u, done));
    for (int i = 0; i < n->output_count && *done; i++) ESPL_TRY(espl__resolve_connect(r, n, i, u.results[i]));
done:
    end(r, &u);
    return status;
}
