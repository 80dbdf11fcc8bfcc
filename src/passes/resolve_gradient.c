/* Gradient (ai.onnx.preview.training) becomes the nodes that compute it: derivatives of y's elements, summed,
 * with respect to each x, in reverse order of the nodes between (Griewank and Walther, Evaluating
 * Derivatives, 2008, chapter 3). The xs and zs are independent of each other, whatever made them. What is
 * made are nodes like any other, so a gradient of a gradient is one too. */
#include "passes/resolve.h"
#include "ops/ops.h"

#include <limits.h>

enum { MOST_INPUTS = 64 };

typedef struct gradient {
    espl__resolver *r;
    int values; /* there are when it begins */
    bool *varies,
        *fixed;       /* by value id: depends on an x; is an x or a z, behind which nothing is looked at */
    espl__value **by; /* by value id: the derivative with respect to it; NULL: 0 so far */
} gradient;

/* --- building blocks ------------------------------------------------------------------------------------ */

static espl_status apply(gradient *g, const char *op, espl__value *a, espl__value *b, espl__value **out) {
    espl__value *in[2] = {a, b};
    return espl__resolve_emit(g->r, op, in, b ? 2 : 1, INT_MIN, out);
}

/* The number in the type of `like`. */
static espl_status number(gradient *g, const espl__value *like, double x, espl__value **out) {
    uint64_t element = 0;
    espl__store_f64(like->dtype, &x, 1, &element);
    return espl__resolve_constant(g->r, like->dtype, &(espl_shape){0}, &element, out);
}

/* The number in the shape of `like`. */
static espl_status filled(gradient *g, espl__value *like, double x, espl__value **out) {
    espl__value *shape = NULL, *element = NULL;
    espl_status status = number(g, like, x, &element);
    if (status == ESPL_OK) status = apply(g, "Shape", like, NULL, &shape);
    return status == ESPL_OK ? apply(g, "Expand", element, shape, out) : status;
}

static espl_status scaled(gradient *g, espl__value *v, double factor, espl__value **out) {
    espl__value *f = NULL;
    espl_status status = number(g, v, factor, &f);
    return status == ESPL_OK ? apply(g, "Mul", v, f, out) : status;
}

/* --- the rules: what output 0's derivative `d` gives for input `at`, in the shape of the output ------------
 */

typedef espl_status (*rule)(gradient *g, const espl__node *n, int at, espl__value *d, espl__value **out);

static espl_status pass_on(gradient *g, const espl__node *n, int at, espl__value *d, espl__value **out) {
    (void)g, (void)n, (void)at;
    *out = d;
    return ESPL_OK;
}

static espl_status negate(gradient *g, const espl__node *n, int at, espl__value *d, espl__value **out) {
    (void)n, (void)at;
    return apply(g, "Neg", d, NULL, out);
}

static espl_status of_sub(gradient *g, const espl__node *n, int at, espl__value *d, espl__value **out) {
    return at == 0 ? pass_on(g, n, at, d, out) : negate(g, n, at, d, out);
}

static espl_status of_mul(gradient *g, const espl__node *n, int at, espl__value *d, espl__value **out) {
    return apply(g, "Mul", d, n->inputs[1 - at], out);
}

/* a / b: d / b, and -d y / b. */
static espl_status of_div(gradient *g, const espl__node *n, int at, espl__value *d, espl__value **out) {
    espl_status status = apply(g, "Div", d, n->inputs[1], out);
    if (at == 0 || status != ESPL_OK) return status;
    status = apply(g, "Mul", *out, n->outputs[0], out);
    return status == ESPL_OK ? apply(g, "Neg", *out, NULL, out) : status;
}

static espl_status of_exp(gradient *g, const espl__node *n, int at, espl__value *d, espl__value **out) {
    (void)at;
    return apply(g, "Mul", d, n->outputs[0], out);
}

static espl_status of_log(gradient *g, const espl__node *n, int at, espl__value *d, espl__value **out) {
    return apply(g, "Div", d, n->inputs[at], out);
}

/* d / (2 y) */
static espl_status of_sqrt(gradient *g, const espl__node *n, int at, espl__value *d, espl__value **out) {
    (void)at;
    espl_status status = scaled(g, n->outputs[0], 2, out);
    return status == ESPL_OK ? apply(g, "Div", d, *out, out) : status;
}

/* d - d y y */
static espl_status of_tanh(gradient *g, const espl__node *n, int at, espl__value *d, espl__value **out) {
    (void)at;
    espl_status status = apply(g, "Mul", d, n->outputs[0], out);
    if (status == ESPL_OK) status = apply(g, "Mul", *out, n->outputs[0], out);
    return status == ESPL_OK ? apply(g, "Sub", d, *out, out) : status;
}

/* d y - d y y */
static espl_status of_sigmoid(gradient *g, const espl__node *n, int at, espl__value *d, espl__value **out) {
    (void)at;
    espl__value *dy = NULL;
    espl_status status = apply(g, "Mul", d, n->outputs[0], &dy);
    if (status == ESPL_OK) status = apply(g, "Mul", dy, n->outputs[0], out);
    return status == ESPL_OK ? apply(g, "Sub", dy, *out, out) : status;
}

/* At 0 it is 0. */
static espl_status of_relu(gradient *g, const espl__node *n, int at, espl__value *d, espl__value **out) {
    espl__value *in[3] = {NULL, d, NULL};
    espl_status status = number(g, d, 0, &in[2]);
    if (status == ESPL_OK) status = apply(g, "Greater", n->inputs[at], in[2], &in[0]);
    return status == ESPL_OK ? espl__resolve_emit(g->r, "Where", in, 3, INT_MIN, out) : status;
}

static espl_status turned(gradient *g, espl__value *v, espl__value **out) {
    int64_t perm[ESPL_MAX_RANK];
    const int rank = v->shape.rank;
    for (int i = 0; i < rank; i++) perm[i] = i;
    perm[rank - 2] = rank - 1;
    perm[rank - 1] = rank - 2;
    return espl__resolve_emit_ints(g->r, "Transpose", &v, 1, "perm", perm, rank, out);
}

/* d b', and a' d; what was broadcast are the dimensions before the last two. */
static espl_status of_matmul(gradient *g, const espl__node *n, int at, espl__value *d, espl__value **out) {
    espl__value *other = n->inputs[1 - at], *t = NULL;
    for (int i = 0; i < 2; i++)
        if (!n->inputs[i]->known_rank || n->inputs[i]->shape.rank < 2)
            return espl__fail(g->r->diag, ESPL_UNSUPPORTED,
                              "the derivative of a MatMul with a vector is not supported");
    espl_status status = turned(g, other, &t);
    if (status != ESPL_OK) return status;
    return at == 0 ? apply(g, "MatMul", d, t, out) : apply(g, "MatMul", t, d, out);
}

/* X(operator, rule) */
#define RULE_LIST(X)       \
    X(Add, pass_on)        \
    X(Sub, of_sub)         \
    X(Mul, of_mul)         \
    X(Div, of_div)         \
    X(Neg, negate)         \
    X(Sum, pass_on)        \
    X(MatMul, of_matmul)   \
    X(Exp, of_exp)         \
    X(Log, of_log)         \
    X(Sqrt, of_sqrt)       \
    X(Tanh, of_tanh)       \
    X(Sigmoid, of_sigmoid) \
    X(Relu, of_relu)       \
    X(Identity, pass_on)

static const struct {
    const char *op;
    rule derive;
} rules[] = {
#define X(op, derive) {#op, derive},
    RULE_LIST(X)
#undef X
};

#define X(op, derive) " " #op
static const char known[] = "the operators with a derivative here are" RULE_LIST(X);
#undef X

/* --- broadcasting ------------------------------------------------------------------------------------------
 */

/* Whether dimension `d` of the result, counted from its end, is one along which input `at` was repeated; 2:
 * only a run says. */
static int repeated(const espl__node *n, int at, int d) {
    const espl_shape *x = &n->inputs[at]->shape, *y = &n->outputs[0]->shape;
    const int64_t own = d < x->rank ? x->dim[x->rank - 1 - d] : 1, whole = y->dim[y->rank - 1 - d];
    if (own >= 0) return own == 1 && whole != 1;
    for (int i = 0; i < n->input_count; i++) {
        const espl_shape *other = &n->inputs[i]->shape;
        if (n->inputs[i] == n->inputs[at] || d >= other->rank || other->dim[other->rank - 1 - d] == 1)
            continue;
        return 2;
    }
    return 0;
}

/* Sums the derivative over what broadcasting repeated. */
static espl_status gather_up(gradient *g, const espl__node *n, int at, espl__value **d) {
    espl__value *x = n->inputs[at], *shape = NULL;
    const espl__value *y = n->outputs[0];
    const int matrix = espl__node_is(n, "MatMul") ? 2 : 0; /* dimensions that are none of these */
    int64_t axes[ESPL_MAX_RANK];
    int count = 0;
    if (!x->known_rank || !y->known_rank)
        return espl__fail(g->r->diag, ESPL_UNSUPPORTED,
                          "its derivative needs to know how many dimensions there are");
    for (int k = y->shape.rank - 1; k >= matrix; k--) {
        const int is = repeated(n, at, k);
        if (is == 2)
            return espl__fail(g->r->diag, ESPL_UNSUPPORTED,
                              "its derivative needs to know which dimensions are repeated; give the model's "
                              "inputs fixed shapes");
        if (is) axes[count++] = y->shape.rank - 1 - k;
    }
    espl_status status = count ? espl__resolve_emit_axes(g->r, "ReduceSum", *d, axes, count, d) : ESPL_OK;
    if (status != ESPL_OK || x->shape.rank == y->shape.rank) return status;
    status = apply(g, "Shape", x, NULL, &shape);
    return status == ESPL_OK ? apply(g, "Reshape", *d, shape, d) : status;
}

/* --- the walk
 * ------------------------------------------------------------------------------------------------ */

static espl_status add_to(gradient *g, const espl__value *v, espl__value *d) {
    espl__value **sum = &g->by[v->id];
    if (*sum) return apply(g, "Add", *sum, d, sum);
    *sum = d;
    return ESPL_OK;
}

static espl_status derive(gradient *g, const espl__node *n) {
    char label[160];
    size_t row = 0;
    espl__value *d = g->by[n->outputs[0]->id];
    espl_status status = ESPL_OK;
    while (row < ESPL_COUNT(rules) && !espl__node_is(n, rules[row].op)) row++;
    espl__node_label(n, label, sizeof label);
    if (row == ESPL_COUNT(rules) || n->input_count > MOST_INPUTS)
        return espl__fail(g->r->diag, ESPL_UNSUPPORTED, "Gradient: no derivative of node %s; %s", label,
                          known);
    for (int i = 0; i < n->input_count && status == ESPL_OK; i++) {
        espl__value *part = NULL;
        if (n->inputs[i]->id >= g->values || !g->varies[n->inputs[i]->id]) continue;
        status = rules[row].derive(g, n, i, d, &part);
        if (status == ESPL_OK) status = gather_up(g, n, i, &part);
        if (status == ESPL_OK) status = add_to(g, n->inputs[i], part);
        if (status != ESPL_OK) espl__diag_prefix(g->r->diag, "Gradient: node %s", label);
    }
    return status;
}

/* Which values depend on an x. */
static void mark(gradient *g, const espl__node *n, int xs) {
    const espl_graph *graph = g->r->g;
    for (int i = 0; i < n->input_count - 1; i++) g->fixed[n->inputs[i]->id] = true;
    for (int i = 0; i < xs; i++) g->varies[n->inputs[i]->id] = true;
    for (int i = 0; i < graph->node_count; i++) {
        const espl__node *m = graph->nodes[i];
        bool varies = false;
        for (int j = 0; j < m->input_count && m != n && !m->op->reads_shape_only; j++)
            varies |= m->inputs[j] && g->varies[m->inputs[j]->id];
        for (int j = 0; j < m->output_count; j++) {
            const espl__value *v = m->outputs[j];
            if (v && !g->fixed[v->id]) g->varies[v->id] = varies && (ESPL__T_FLOAT >> v->dtype & 1);
        }
    }
}

static bool has_derivative(const gradient *g, const espl__node *m) {
    for (int j = 0; j < m->output_count; j++) {
        const espl__value *v = m->outputs[j];
        if (v && v->id < g->values && g->by[v->id] && g->varies[v->id] && !g->fixed[v->id]) return true;
    }
    return false;
}

static espl_status run(gradient *g, espl__node *n, int xs) {
    espl_status status = ESPL_OK;
    espl__value *y = n->inputs[n->input_count - 1];
    if (!(ESPL__T_FLOAT >> y->dtype & 1))
        return espl__fail(g->r->diag, ESPL_UNSUPPORTED, "Gradient: '%.200s' is of type %s and not of floats",
                          y->name, espl_dtype_name(y->dtype));
    mark(g, n, xs);
    ESPL_TRY(filled(g, y, 1, &g->by[y->id]));
    for (int i = n->id - 1; i >= 0; i--) {
        const espl__node *m = g->r->g->nodes[i];
        if (has_derivative(g, m)) ESPL_TRY(derive(g, m));
    }
    for (int i = 0; i < xs; i++) {
        espl__value *d = g->by[n->inputs[i]->id];
        if (i >= n->output_count || !n->outputs[i]) continue;
        if (!d) ESPL_TRY(filled(g, n->inputs[i], 0, &d));
        ESPL_TRY(espl__resolve_connect(g->r, n, i, d));
    }
done:
    return status;
}

espl_status espl__resolve_gradient(espl__resolver *r, espl__node *n, bool *done) {
    espl_context *ctx = r->arena.ctx;
    const espl__attr *xs = espl__attr_find(n, "xs");
    gradient g = {.r = r, .values = r->g->value_count};
    const uint64_t room = (uint64_t)g.values + 1;
    g.varies = espl__calloc(ctx, room, sizeof *g.varies);
    g.fixed = espl__calloc(ctx, room, sizeof *g.fixed);
    g.by = espl__calloc(ctx, room, sizeof *g.by);
    espl_status status = g.varies && g.fixed && g.by ? run(&g, n, (int)espl_shape_count(&xs->tensor->shape))
                                                     : espl__nomem(r->diag, room * sizeof *g.by);
    espl__free(ctx, g.varies);
    espl__free(ctx, g.fixed);
    espl__free(ctx, g.by);
    *done = status == ESPL_OK;
    return status;
}
