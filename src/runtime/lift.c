/* Convolution and pooling over one dimension are the two-dimensional ones of height 1, which have kernels: N
 * x C x W becomes N x C x 1 x W, by an Unsqueeze before and a Squeeze behind. Elementwise work and
 * concatenation behind them are taken along, so that fusion and layouts see no change of rank; what then
 * nobody reads goes as dead code. */
#include "runtime/lower.h"
#include "ops/ops.h"

typedef struct lift {
    espl_graph *g;
    espl__value **twin; /* by value id: the same value in four dimensions */
    int values;         /* ids of the graph as it was */
} lift;

static espl__value *twin_of(const lift *l, const espl__value *v) {
    return v->id < l->values ? l->twin[v->id] : NULL;
}

/* --- which nodes --------------------------------------------------------------------------------- */

static bool named(const espl__node *n, const char *const *names, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (espl__node_is(n, names[i])) return true;
    return false;
}

static bool is_1d(const espl__value *v) {
    return v && v->dtype == ESPL_F32 && v->shape.rank == 3 && !v->constant;
}

/* A window over one dimension. */
static bool begins(const espl__node *n) {
    static const char *const pools[] = {"MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool"};
    if (n->input_count == 0 || !is_1d(n->inputs[0]) || n->output_count != 1) return false;
    for (int i = 1; i < n->input_count; i++)
        if (n->inputs[i] && !n->inputs[i]->constant) return false;
    return named(n, pools, ESPL_COUNT(pools)) || espl__node_is(n, "Conv");
}

/* Work on elements, some of whose inputs have a twin. */
static bool goes_on(const lift *l, const espl__node *n) {
    static const char *const names[] = {"Add", "Sub", "Mul", "Div", "Max", "Min"};
    bool concat = espl__node_is(n, "Concat"), twins = false;
    if (!concat && n->op->quant != ESPL__QUANT_UNARY && !named(n, names, ESPL_COUNT(names))) return false;
    if (n->output_count != 1 || !is_1d(n->outputs[0])) return false;
    for (int i = 0; i < n->input_count; i++) {
        const espl__value *v = n->inputs[i];
        if (!v || v->constant) continue;
        if (!is_1d(v) || (!concat && !espl_shape_equal(&v->shape, &n->outputs[0]->shape))) return false;
        twins |= twin_of(l, v) != NULL;
    }
    return twins;
}

/* --- values ---------------------------------------------------------------------------------------- */

/* A dimension of 1 before the last. */
static espl_shape lifted(const espl_shape *s) {
    espl_shape out = *s;
    out.dim[out.rank++] = s->dim[s->rank - 1];
    out.dim[s->rank - 1] = 1;
    return out;
}

/* The same elements in the lifted shape, with nobody who makes them yet. */
static espl__value *new_twin(lift *l, const espl__value *v) {
    espl__value *t = espl__graph_value(l->g, NULL);
    if (!t) return NULL;
    t->name = v->name; /* observers know the value by it */
    t->dtype = v->dtype;
    t->shape = lifted(&v->shape);
    t->known_rank = true;
    t->quant = v->quant;
    t->origin = v->origin;
    if (t->quant.axis >= v->shape.rank - 1) t->quant.axis++;
    if (t->quant.group > 0 && t->quant.group_axis >= v->shape.rank - 1) t->quant.group_axis++;
    return t;
}

static espl__value *lift_constant(lift *l, espl__value *v) {
    if (v->shape.rank < 2) return v;
    espl__value *t = new_twin(l, v);
    espl_tensor *tensor = espl__arena_alloc(&l->g->arena, sizeof *tensor);
    if (!t || !tensor) return NULL;
    *tensor = (espl_tensor){v->constant->dtype, t->shape, v->constant->data};
    t->constant = tensor;
    t->lent = v->lent;
    return t;
}

/* A node between a value and its twin. */
static bool reshape(lift *l, const char *op, espl__value *from, espl__value *to, int origin) {
    static const int64_t height[] = {2};
    espl__node *n = espl__graph_node(l->g, espl__op_find("", op), "", 1, 1, 1);
    if (!n || !espl__attr_set_ints(l->g, n, "axes", height, 1)) return false;
    n->opset = 11; /* axes as an attribute */
    n->origin = origin;
    n->inputs[0] = from;
    espl__node_set_output(n, 0, to);
    return true;
}

static espl__value *lift_input(lift *l, espl__value *v) {
    if (v->constant) return lift_constant(l, v);
    espl__value *t = twin_of(l, v);
    if (t) return t;
    t = new_twin(l, v);
    if (!t || !reshape(l, "Unsqueeze", v, t, v->producer ? v->producer->origin : -1)) return NULL;
    if (v->id < l->values) l->twin[v->id] = t;
    return t;
}

static bool lift_output(lift *l, espl__node *n) {
    espl__value *y = n->outputs[0], *t = new_twin(l, y);
    if (!t) return false;
    espl__node_set_output(n, 0, t);
    l->twin[y->id] = t;
    return reshape(l, "Squeeze", t, y, n->origin);
}

/* --- attributes ------------------------------------------------------------------------------------ */

static bool lift_attributes(lift *l, espl__node *n) {
    static const char *const windows[] = {"kernel_shape", "strides", "dilations"};
    int64_t v[2];
    for (size_t i = 0; i < ESPL_COUNT(windows); i++)
        if (espl__attr_ints(n, windows[i], v, 2) == 1 &&
            !espl__attr_set_ints(l->g, n, windows[i], (int64_t[]){1, v[0]}, 2))
            return false;
    if (espl__attr_ints(n, "pads", v, 2) == 2 &&
        !espl__attr_set_ints(l->g, n, "pads", (int64_t[]){0, v[0], 0, v[1]}, 4))
        return false;
    if (!espl__node_is(n, "Concat")) return true;
    int64_t axis = espl__attr_int(n, "axis", 1);
    return espl__attr_set_int(l->g, n, "axis", axis == 2 ? 3 : axis == -2 || axis == -3 ? axis + 3 : axis);
}

static bool lift_node(lift *l, espl__node *n) {
    for (int i = 0; i < n->input_count; i++)
        if (n->inputs[i] && !(n->inputs[i] = lift_input(l, n->inputs[i]))) return false;
    return lift_attributes(l, n) && lift_output(l, n);
}

espl_status espl__lower_lift(espl_graph *g, espl_diag *diag) {
    lift l = {g, espl__calloc(g->arena.ctx, (uint64_t)g->value_count + 1, sizeof *l.twin), g->value_count};
    int nodes = g->node_count, count = 0;
    bool good = l.twin != NULL;
    for (int i = 0; i < nodes && good; i++) {
        espl__node *n = g->nodes[i];
        if (!begins(n) && !goes_on(&l, n)) continue;
        good = lift_node(&l, n);
        count++;
    }
    espl__free(g->arena.ctx, l.twin);
    if (!good) return espl__nomem(diag, sizeof(espl__value));
    return count ? espl__graph_verify(g, diag) : ESPL_OK;
}
