/* Exporters write layer normalisation and Gelu as the dozen operators they are defined by. Each such group
 * becomes the one operator that it is, in the session's own copy of the graph:
 *
 *   d = x - mean(x);  y = d / sqrt(mean(d^2) + epsilon) * scale + bias        LayerNormalization, scale and
 * bias optional y = x / 2 * (1 + erf(x / sqrt 2))                                         Gelu y = x / 2 * (1
 * + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))                 Gelu by tanh
 *
 * in any order of the operands. A group is taken only if nobody outside reads what is inside, nothing inside
 * is rounded to a grid, and its constants are those of the formula to 1e-4. What is left over goes as dead
 * code. */
#include "runtime/lower.h"
#include "ops/ops.h"
#include "passes/passes.h"

#include <math.h>

typedef struct finder {
    espl_graph *g;
    bool no_memory;
    int found;
} finder;

/* --- what a pattern is made of -------------------------------------------------------------------- */

static bool number_is(const espl__value *v, double number) {
    if (!v || !v->constant || espl__is_quantized(v) || v->dtype != ESPL_F32) return false;
    return espl_shape_count(&v->shape) == 1 &&
           fabs(*(const float *)v->constant->data - number) <= 1e-4 * fabs(number);
}

/* The node that makes v for nobody but `uses` readers inside the pattern. */
static espl__node *inside(const espl__value *v, const char *op, int uses) {
    if (!v || v->uses != uses || espl__is_quantized(v) || v->dtype != ESPL_F32) return NULL;
    return espl__node_is(v->producer, op) && v->producer->mark != -1 ? v->producer : NULL;
}

static espl__node *reader_inside(const finder *f, const espl__node *n) {
    const espl__value *v = n->outputs[0];
    return v && v->uses == 1 && !espl__is_quantized(v) ? espl__graph_only_reader(f->g, v) : NULL;
}

/* The operand of a commutative node beside v; NULL if v is none of them. */
static espl__value *beside(const espl__node *n, const espl__value *v) {
    if (!n || n->input_count != 2) return NULL;
    return n->inputs[0] == v ? n->inputs[1] : n->inputs[1] == v ? n->inputs[0] : NULL;
}

/* v = x * factor, by Mul or Div: x, else NULL. */
static espl__value *scaled(const espl__value *v, double factor) {
    const espl__node *m = inside(v, "Mul", 1), *d = inside(v, "Div", 1);
    if (m && number_is(m->inputs[1], factor)) return m->inputs[0];
    if (m && number_is(m->inputs[0], factor)) return m->inputs[1];
    return d && number_is(d->inputs[1], 1 / factor) ? d->inputs[0] : NULL;
}

/* v = x^2 or x^3 by Pow or products: x. */
static espl__value *power(const espl__value *v, int exponent) {
    const espl__node *p = inside(v, "Pow", 1), *m = inside(v, "Mul", 1);
    if (p && number_is(p->inputs[1], exponent)) return p->inputs[0];
    if (!m) return NULL;
    if (exponent == 2) return m->inputs[0] == m->inputs[1] ? m->inputs[0] : NULL;
    for (int i = 0; i < 2; i++)
        if (power(m->inputs[i], 2) == m->inputs[1 - i]) return m->inputs[1 - i];
    return NULL;
}

/* A new node makes what `last` made. */
static bool replace(finder *f, espl__node *last, const char *op, espl__value *const *inputs, int count,
                    int attrs, espl__node **out) {
    espl__node *n = espl__graph_node(f->g, espl__op_find("", op), last->name, count, 1, attrs);
    f->no_memory |= !n;
    if (!n) return false;
    n->origin = last->origin;
    for (int i = 0; i < count; i++) n->inputs[i] = inputs[i];
    espl__node_set_output(n, 0, last->outputs[0]);
    last->outputs[0] = NULL;
    last->output_count = 0;
    last->mark = -1;
    f->found++;
    *out = n;
    return true;
}

/* --- Gelu ------------------------------------------------------------------------------------------- */

/* The last node of x * one_plus / 2, whose factors stand in any order. */
static espl__node *half_product(const finder *f, const espl__node *one_plus, const espl__value *x) {
    espl__node *m = reader_inside(f, one_plus);
    const espl__value *v = one_plus->outputs[0], *other;
    bool halved = false, times = false;
    for (int i = 0; i < 2; i++) {
        if (espl__node_is(m, "Div") && m->inputs[0] == v && number_is(m->inputs[1], 2)) {
            other = NULL;
            halved = true;
        } else {
            other = espl__node_is(m, "Mul") ? beside(m, v) : NULL;
            if (!other || other == v) return NULL;
            if (!times && other == x)
                times = true;
            else if (!halved && number_is(other, 0.5))
                halved = true;
            else if (!halved && !times && scaled(other, 0.5) == x)
                halved = times = true;
            else
                return NULL;
        }
        if (halved && times) return m;
        v = m->outputs[0];
        m = reader_inside(f, m);
    }
    return NULL;
}

/* x of u = sqrt(2 / pi) (x + 0.044715 x^3), or with x taken out: sqrt(2 / pi) x (1 + 0.044715 x^2). */
static espl__value *tanh_argument(const espl__value *u) {
    const double factor = 0.79788456080286535588;
    const espl__value *sum = scaled(u, factor);
    const espl__node *add = inside(sum, "Add", 1),
                     *product = sum ? inside(sum, "Mul", 1) : inside(u, "Mul", 1);
    for (int i = 0; add && i < 2; i++) {
        const espl__value *cube = scaled(add->inputs[i], 0.044715);
        if (cube && power(cube, 3) == add->inputs[1 - i]) return add->inputs[1 - i];
    }
    for (int i = 0; product && i < 2; i++) {
        const espl__node *plus = inside(product->inputs[i], "Add", 1);
        espl__value *x = sum ? product->inputs[1 - i] : scaled(product->inputs[1 - i], factor);
        for (int j = 0; plus && x && j < 2; j++) {
            const espl__value *square = scaled(plus->inputs[j], 0.044715);
            if (number_is(plus->inputs[1 - j], 1) && square && power(square, 2) == x) return x;
        }
    }
    return NULL;
}

static void find_gelu(finder *f, espl__node *n) {
    bool by_tanh = espl__node_is(n, "Tanh");
    if (!by_tanh && !espl__node_is(n, "Erf")) return;
    espl__value *x = by_tanh ? tanh_argument(n->inputs[0]) : scaled(n->inputs[0], 0.70710678118654752440);
    espl__node *add = x && x->dtype == ESPL_F32 ? reader_inside(f, n) : NULL, *gelu;
    if (!espl__node_is(add, "Add") || !number_is(beside(add, n->outputs[0]), 1)) return;
    espl__node *last = half_product(f, add, x);
    if (!last || !espl_shape_equal(&last->outputs[0]->shape, &x->shape)) return;
    if (!replace(f, last, "Gelu", &x, 1, 1, &gelu)) return;
    gelu->opset = 20;
    if (by_tanh) f->no_memory |= !espl__attr_set_string(f->g, gelu, "approximate", "tanh");
}

/* --- LayerNormalization -------------------------------------------------------------------------------- */

/* mean over the last axis that keeps it: what it is of. */
static espl__value *mean_of(const espl__value *v) {
    espl__node *n = inside(v, "ReduceMean", 1);
    espl__ints axes;
    if (!n || espl__attr_int(n, "keepdims", 1) != 1) return NULL;
    if (espl__read_ints(n, "axes", 1, &axes, NULL) != ESPL_OK || !axes.known || axes.count != 1) return NULL;
    return axes.v[0] == -1 || axes.v[0] == n->inputs[0]->shape.rank - 1 ? n->inputs[0] : NULL;
}

/* One factor or addend for each element of the last axis of x, beside v in the only reader of n. */
static espl__value *vector_behind(const finder *f, espl__node **n, const char *op, const espl__value *x) {
    espl__node *next = reader_inside(f, *n);
    if (!espl__node_is(next, op)) return NULL;
    espl__value *c = beside(next, (*n)->outputs[0]);
    int64_t width = x->shape.dim[x->shape.rank - 1];
    if (!c || !c->constant || espl__is_quantized(c) || c->dtype != ESPL_F32 || c->shape.rank < 1 ||
        c->shape.rank > x->shape.rank || espl_shape_count(&c->shape) != width ||
        c->shape.dim[c->shape.rank - 1] != width)
        return NULL;
    *n = next;
    return c;
}

static espl__value *ones(finder *f, int64_t count) {
    espl_tensor *t = espl__graph_tensor(f->g, ESPL_F32, &(espl_shape){1, {count}}, NULL);
    for (int64_t i = 0; t && i < count; i++) ((float *)t->data)[i] = 1;
    espl__value *v = t ? espl__graph_constant(f->g, NULL, t) : NULL;
    f->no_memory |= !v;
    return v;
}

/* `n` divides by the deviation, or multiplies by its reciprocal. */
static void find_layernorm(finder *f, espl__node *n) {
    bool times = espl__node_is(n, "Mul");
    espl__value *d = NULL, *x;
    const espl__node *root = NULL;
    if (!times && !espl__node_is(n, "Div")) return;
    for (int i = times ? 0 : 1; i < 2 && !root; i++) {
        const espl__node *inverse = times ? inside(n->inputs[i], "Reciprocal", 1) : NULL;
        root = inside(times ? (inverse ? inverse->inputs[0] : NULL) : n->inputs[i], "Sqrt", 1);
        d = n->inputs[1 - i];
    }
    const espl__node *plus = root ? inside(root->inputs[0], "Add", 1) : NULL, *sub = inside(d, "Sub", 2);
    if (!sub) sub = inside(d, "Sub", 3); /* squared as d * d */
    if (!plus || !sub) return;
    for (int i = 0; i < 2; i++) {
        const espl__value *squares = mean_of(plus->inputs[i]), *epsilon = plus->inputs[1 - i];
        if (!squares || power(squares, 2) != d) continue;
        if (!epsilon->constant || espl__is_quantized(epsilon) || epsilon->dtype != ESPL_F32 ||
            espl_shape_count(&epsilon->shape) != 1)
            return;
        /* Each reader of d is one of the pattern's. */
        if (d->uses != (espl__node_is(squares->producer, "Mul") ? 3 : 2)) return;
        x = sub->inputs[0];
        if (mean_of(sub->inputs[1]) != x || x->dtype != ESPL_F32 || x->shape.rank < 1 ||
            !espl_shape_equal(&x->shape, &d->shape))
            return;
        espl__node *last = n, *norm;
        espl__value *scale = vector_behind(f, &last, "Mul", x), *bias = vector_behind(f, &last, "Add", x);
        if (!espl_shape_equal(&last->outputs[0]->shape, &x->shape)) return;
        if (!scale && !(scale = ones(f, x->shape.dim[x->shape.rank - 1]))) return;
        espl__value *in[3] = {x, scale, bias};
        if (!replace(f, last, "LayerNormalization", in, bias ? 3 : 2, 2, &norm)) return;
        norm->opset = 17;
        f->no_memory |= !espl__attr_set_int(f->g, norm, "axis", x->shape.rank - 1) ||
                        !espl__attr_set_float(f->g, norm, "epsilon", *(const float *)epsilon->constant->data);
        return;
    }
}

/* --- BatchNormalization ------------------------------------------------------------------------------ */

static const float *vector_of(const espl__node *n, int input, int64_t count) {
    const espl__value *v = n->input_count > input ? n->inputs[input] : NULL;
    bool plain = v && v->constant && v->dtype == ESPL_F32 && !espl__is_quantized(v);
    return plain && espl_shape_count(&v->shape) == count ? v->constant->data : NULL;
}

/* A Transpose that moves axis `from` to place `to`, and rounds nothing. */
static espl__node *turned(espl__node *n, int from, int to, int64_t *perm) {
    if (!espl__node_is(n, "Transpose") || n->mark == -1) return NULL;
    const espl__value *x = n->inputs[0], *y = n->outputs[0];
    if (espl__attr_ints(n, "perm", perm, ESPL_MAX_RANK) != x->shape.rank || perm[to] != from) return NULL;
    if (espl__is_quantized(x) != espl__is_quantized(y)) return NULL;
    return !espl__is_quantized(x) || espl__same_grid(&x->quant, &y->quant) ? n : NULL;
}

/* The Transposes around a normalisation of channels that stand last before and behind. */
static bool turned_and_back(const finder *f, const espl__node *n, espl__value **x, espl__node **last) {
    int64_t there[ESPL_MAX_RANK], back[ESPL_MAX_RANK];
    const espl__value *t = n->inputs[0], *y = n->outputs[0];
    int rank = t->shape.rank;
    espl__node *before = t->uses == 1 ? turned(t->producer, rank - 1, 1, there) : NULL;
    espl__node *after = y->uses == 1 ? turned(espl__graph_only_reader(f->g, y), 1, rank - 1, back) : NULL;
    if (!before || !after) return false;
    for (int d = 0; d < rank; d++)
        if (there[back[d]] != d) return false;
    *x = before->inputs[0];
    *last = after;
    return true;
}

static espl__value *new_vector(finder *f, int64_t count, float **data) {
    espl_tensor *t = espl__graph_tensor(f->g, ESPL_F32, &(espl_shape){1, {count}}, NULL);
    espl__value *v = t ? espl__graph_constant(f->g, NULL, t) : NULL;
    f->no_memory |= !v;
    if (v) *data = v->constant->data;
    return v;
}

/* x * factor + shift, both vectors along the last axis, in place of what `last` makes. */
static void replace_by_affine(finder *f, espl__node *last, espl__value *x, espl__value *factor,
                              espl__value *shift) {
    espl__node *mul = espl__graph_node(f->g, espl__op_find("", "Mul"), last->name, 2, 1, 0), *add;
    espl__value *product = espl__graph_value(f->g, NULL);
    f->no_memory |= !mul || !product;
    if (f->no_memory || !replace(f, last, "Add", (espl__value *[]){product, shift}, 2, 0, &add)) return;
    product->dtype = ESPL_F32;
    product->shape = x->shape;
    product->known_rank = true;
    product->origin = -1;
    mul->origin = add->origin;
    mul->opset = add->opset = 14;
    mul->inputs[0] = x;
    mul->inputs[1] = factor;
    espl__node_set_output(mul, 0, product);
}

static void find_batchnorm(finder *f, espl__node *n) {
    espl__value *x = n->input_count > 4 ? n->inputs[0] : NULL;
    espl__node *last = n;
    if (!espl__node_is(n, "BatchNormalization") || espl__attr_int(n, "training_mode", 0) || x->shape.rank < 2)
        return;
    int64_t channels = x->shape.dim[1];
    const float *p[4];
    for (int i = 0; i < 4; i++)
        if (!(p[i] = vector_of(n, i + 1, channels))) return;
    if (x->shape.rank > 2 && !turned_and_back(f, n, &x, &last)) return;
    float *factor = NULL, *shift = NULL;
    espl__value *by = new_vector(f, channels, &factor), *plus = new_vector(f, channels, &shift);
    if (!by || !plus || !factor || !shift) return;
    double epsilon = espl__attr_float(n, "epsilon", 1e-5f);
    for (int64_t c = 0; c < channels; c++) {
        double a = p[0][c] / sqrt(p[3][c] + epsilon);
        factor[c] = (float)a;
        shift[c] = (float)(p[1][c] - p[2][c] * a);
    }
    replace_by_affine(f, last, x, by, plus);
}

/* --- grids ------------------------------------------------------------------------------------------- */

/* Rounding what was moved is moving what was rounded: the value before takes the grid, and is stored as
 * codes. */
static void hoist_grid(finder *f, const espl__node *n) {
    if (!n->op->is_view && !espl__node_is(n, "Transpose")) return;
    espl__value *x = n->inputs[0];
    const espl__value *y = n->outputs[0];
    if (!y || y->quant.count != 1 || !espl__is_quantized(y) || espl__is_quantized(x) || x->dtype != ESPL_F32)
        return;
    if (x->uses != 1 || !x->producer || espl__graph_is_output(f->g, x)) return;
    f->no_memory |= !espl__graph_set_quant(f->g, x, y->quant.format, -1, 1, y->quant.scale, y->quant.zero);
}

espl_status espl__lower_recognise(espl_graph *g, espl_diag *diag) {
    finder f = {.g = g};
    int nodes = g->node_count;
    espl__graph_count_uses(g);
    for (int i = 0; i < nodes && !f.no_memory; i++)
        if (g->nodes[i]->output_count == 1 && g->nodes[i]->mark != -1) {
            find_gelu(&f, g->nodes[i]);
            if (g->nodes[i]->mark != -1) find_layernorm(&f, g->nodes[i]);
            if (g->nodes[i]->mark != -1) find_batchnorm(&f, g->nodes[i]);
        }
    for (int i = nodes - 1; i >= 0 && !f.no_memory; i--)
        if (g->nodes[i]->output_count > 0 && g->nodes[i]->mark != -1) hoist_grid(&f, g->nodes[i]);
    if (f.no_memory) return espl__nomem(diag, sizeof(espl__value));
    if (!f.found) return ESPL_OK;
    espl__graph_sweep(g);
    return espl__graph_verify(g, diag);
}
