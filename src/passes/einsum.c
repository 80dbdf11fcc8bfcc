/* Einsum of one or two operands is a product of matrices, if each operand has a label once. Its labels are
 *
 *   batch  of both operands and the result      sum  of both operands only
 *   left   of one operand and the result        right  of the other and the result
 *
 * and what only one operand has and the result has not is summed beforehand. The operands are turned to
 * [batch left sum] and [batch sum right], axes of a kind are laid together, and MatMul does the rest. Without
 * `sum` it is a Mul. Constants stand on the right, where weights do. */
#include "passes/passes.h"
#include "ops/einsum.h"

typedef struct group {
    int count, label[ESPL__EINSUM_LABELS];
} group;

typedef struct rewriting {
    espl_graph *g;
    espl__einsum e;
    char *name; /* of the Einsum, which its product takes over */
    bool bad;   /* no memory */
} rewriting;

/* A value whose axes have these labels. */
typedef struct operand {
    espl__value *v;
    group axes;
} operand;

static void put(group *to, const group *from) {
    for (int i = 0; i < from->count; i++) to->label[to->count++] = from->label[i];
}

static int place_of(const group *in, int label) {
    for (int i = 0; i < in->count; i++)
        if (in->label[i] == label) return i;
    return -1;
}

static bool same_order(const group *a, const group *b) {
    return a->count == b->count && memcmp(a->label, b->label, sizeof *a->label * (size_t)a->count) == 0;
}

/* --- nodes ----------------------------------------------------------------------------------- */

static espl__node *node(rewriting *r, const char *op, espl__value *a, espl__value *b) {
    espl__node *n = espl__graph_node(r->g, espl__op_find("", op), "", b ? 2 : 1, 1, 1);
    espl__value *y = espl__graph_value(r->g, NULL);
    if (!n || !y || !a) {
        r->bad = true;
        return NULL;
    }
    n->opset = ESPL_MAX(r->g->opset, 13);
    n->inputs[0] = a;
    if (b) n->inputs[1] = b;
    espl__node_set_output(n, 0, y);
    y->dtype = ESPL_F32;
    return n;
}

static espl__value *list(rewriting *r, const int64_t *v, int count) {
    espl_shape shape = {.rank = 1, .dim = {count}};
    espl_tensor t = {ESPL_S64, shape, (void *)(uintptr_t)v};
    return espl__graph_constant(r->g, NULL, &t);
}

/* op(a, list) in place of a. */
static void by_list(rewriting *r, const char *op, operand *a, const int64_t *v, int count, bool drops) {
    espl__value *l = list(r, v, count);
    espl__node *n = l ? node(r, op, a->v, l) : NULL;
    if (!n || (drops && !espl__attr_set_int(r->g, n, "keepdims", 0))) {
        r->bad = true;
        return;
    }
    a->v = n->outputs[0];
}

static void turn(rewriting *r, operand *a, const group *to) {
    int64_t perm[ESPL__EINSUM_LABELS];
    if (same_order(&a->axes, to)) return;
    for (int i = 0; i < to->count; i++) perm[i] = place_of(&a->axes, to->label[i]);
    espl__node *n = node(r, "Transpose", a->v, NULL);
    if (!n || !espl__attr_set_ints(r->g, n, "perm", perm, to->count)) {
        r->bad = true;
        return;
    }
    a->v = n->outputs[0];
    a->axes = *to;
}

/* Sums over the axes whose labels neither the result nor the other operand has. */
static void sum_alone(rewriting *r, operand *a, int side) {
    int64_t axes[ESPL__EINSUM_LABELS];
    int count = 0;
    group rest = {0};
    for (int i = 0; i < a->axes.count; i++) {
        int label = a->axes.label[i];
        if (label >= r->e.results && r->e.axis[1 - side][label] < 0)
            axes[count++] = i;
        else
            rest.label[rest.count++] = label;
    }
    if (!count) return;
    by_list(r, "ReduceSum", a, axes, count, true);
    a->axes = rest;
}

/* --- shapes ---------------------------------------------------------------------------------- */

/* A shape for Reshape: axes that stay where they are, then groups as one axis each or spread. One unknown
 * size can be said (-1), and those that stay (0). */
typedef struct target {
    int64_t dim[2 * ESPL__EINSUM_LABELS];
    int count, unknown;
    bool used;
} target;

static void keep(target *t, const group *axes) {
    for (int i = 0; i < axes->count; i++) t->dim[t->count++] = 0;
}

static void add_size(target *t, int64_t size) {
    t->dim[t->count++] = size < 0 ? -1 : size;
    t->unknown += size < 0;
}

static void merge(target *t, const espl__einsum *e, const group *axes) {
    int64_t size = 1;
    for (int i = 0; i < axes->count; i++)
        size = size < 0 || e->dim[axes->label[i]] < 0 ? -1 : espl__mul_sat(size, e->dim[axes->label[i]]);
    add_size(t, size);
}

static void spread(target *t, const espl__einsum *e, const group *axes) {
    for (int i = 0; i < axes->count; i++) add_size(t, e->dim[axes->label[i]]);
}

/* --- the product ----------------------------------------------------------------------------- */

typedef struct plan {
    group batch, left, right, sum;
    target a, b, y; /* shapes of the operands and of the product, where they change */
    group order;    /* of the product's axes at last */
} plan;

/* false: a shape cannot be said. */
static bool make_plan(const espl__einsum *e, plan *p) {
    *p = (plan){.batch = {0}};
    for (int i = 0; i < e->labels; i++) {
        bool a = e->axis[0][i] >= 0, b = e->axis[1][i] >= 0, y = i < e->results;
        group *to = a && b ? (y ? &p->batch : &p->sum) : !y ? NULL : a ? &p->left : &p->right;
        if (e->dim[i] == 0) return false;
        if (to) to->label[to->count++] = i;
    }
    put(&p->order, &p->batch);
    put(&p->order, &p->left);
    put(&p->order, &p->right);
    bool rows = p->batch.count == 0 && p->left.count > 0; /* rows of any number of axes times a matrix */
    p->a.used = p->sum.count != 1 || (!rows && p->left.count != 1);
    if (p->a.used) {
        keep(&p->a, &p->batch);
        if (rows)
            keep(&p->a, &p->left);
        else
            merge(&p->a, e, &p->left);
        merge(&p->a, e, &p->sum);
    }
    p->b.used = p->sum.count != 1 || p->right.count != 1;
    if (p->b.used) {
        keep(&p->b, &p->batch);
        merge(&p->b, e, &p->sum);
        merge(&p->b, e, &p->right);
    }
    p->y.used = (!rows && p->left.count != 1) || p->right.count != 1;
    if (p->y.used) {
        keep(&p->y, &p->batch);
        if (rows)
            keep(&p->y, &p->left);
        else
            spread(&p->y, e, &p->left);
        spread(&p->y, e, &p->right);
    }
    return p->a.unknown < 2 && p->b.unknown < 2 && p->y.unknown < 2;
}

static void multiply(rewriting *r, const plan *p, operand *a, operand *b, operand *y) {
    group left = p->batch, right = p->batch;
    put(&left, &p->left);
    put(&left, &p->sum);
    put(&right, &p->sum);
    put(&right, &p->right);
    turn(r, a, &left);
    turn(r, b, &right);
    if (p->a.used) by_list(r, "Reshape", a, p->a.dim, p->a.count, false);
    if (p->b.used) by_list(r, "Reshape", b, p->b.dim, p->b.count, false);
    espl__node *n = node(r, "MatMul", a->v, b->v);
    if (!n) return;
    n->name = r->name;
    *y = (operand){n->outputs[0], p->order};
    if (p->y.used) by_list(r, "Reshape", y, p->y.dim, p->y.count, false);
}

/* Without sums: both operands with all of the product's axes, those they lack of size 1. */
static void scale(rewriting *r, const plan *p, operand *a, operand *b, operand *y) {
    operand *sides[] = {a, b};
    for (int s = 0; s < 2; s++) {
        const group *own = s ? &p->right : &p->left;
        int64_t axes[ESPL__EINSUM_LABELS];
        int count = 0;
        group order = p->batch;
        put(&order, own);
        turn(r, sides[s], &order);
        for (int i = 0; i < p->order.count; i++)
            if (place_of(&order, p->order.label[i]) < 0) axes[count++] = i;
        if (count) by_list(r, "Unsqueeze", sides[s], axes, count, false);
    }
    espl__node *n = node(r, "Mul", a->v, b->v);
    if (n) n->name = r->name;
    if (n) *y = (operand){n->outputs[0], p->order};
}

static operand operand_of(const espl__einsum *e, espl__value *v, int side) {
    operand o = {v, {.count = e->rank[side]}};
    for (int i = 0; i < e->labels; i++)
        if (e->axis[side][i] >= 0) o.axes.label[e->axis[side][i]] = i;
    return o;
}

static bool is_plain(const espl__value *v) {
    return v->dtype == ESPL_F32 && !espl__is_quantized(v);
}

/* Weights stand on the right. */
static void swap_sides(espl__einsum *e, espl__value **v) {
    espl__value *first = v[0];
    v[0] = v[1];
    v[1] = first;
    int rank = e->rank[0];
    e->rank[0] = e->rank[1];
    e->rank[1] = rank;
    for (int i = 0; i < e->labels; i++) {
        int axis = e->axis[0][i];
        e->axis[0][i] = e->axis[1][i];
        e->axis[1][i] = axis;
    }
}

static espl_status rewrite(espl_graph *g, espl__node *n, espl_diag *diag) {
    rewriting r = {.g = g, .name = n->name};
    plan p;
    group result = {0};
    espl__value *v[2] = {n->inputs[0], n->input_count > 1 ? n->inputs[1] : NULL};
    if (!espl__einsum_read(n, &r.e) || !is_plain(v[0]) || (v[1] && !is_plain(v[1]))) return ESPL_OK;
    if (v[1] && v[0]->constant && !v[1]->constant) swap_sides(&r.e, v);
    if (v[1] && !make_plan(&r.e, &p)) return ESPL_OK;
    for (int i = 0; i < r.e.results; i++) result.label[result.count++] = i;
    operand a = operand_of(&r.e, v[0], 0), b = {0}, y = a;
    sum_alone(&r, &a, 0);
    if (v[1]) {
        b = operand_of(&r.e, v[1], 1);
        sum_alone(&r, &b, 1);
        (p.sum.count ? multiply : scale)(&r, &p, &a, &b, &y);
    } else {
        y = a;
    }
    if (!r.bad) turn(&r, &y, &result);
    espl__node *last = r.bad ? NULL : y.v == v[0] ? node(&r, "Identity", y.v, NULL) : y.v->producer;
    if (!last) return espl__nomem(diag, 0);
    espl__node_set_output(last, 0, n->outputs[0]);
    n->mark = -1;
    return ESPL_OK;
}

espl_status espl__pass_einsum(espl_graph *g, espl_diag *diag) {
    espl_status status = ESPL_OK;
    bool any = false;
    for (int i = 0; i < g->node_count; i++) any = any || espl__node_is(g->nodes[i], "Einsum");
    if (!any) return ESPL_OK;
    ESPL_TRY(
        espl__pass_infer(g, diag)); /* ranks and sizes; the pass infer behind this one sees what is new */
    for (int i = 0, count = g->node_count; i < count; i++)
        if (espl__node_is(g->nodes[i], "Einsum")) ESPL_TRY(rewrite(g, g->nodes[i], diag));
    espl__graph_sweep(g);
done:
    return status;
}
