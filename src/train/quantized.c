/* Networks with QuantizeLinear and DequantizeLinear in training, and their codes afterwards.
 *
 * A pair of them around a value becomes FakeQuantize, whose scale is trained. Codes of weights that a
 * DequantizeLinear reads become floats, which are trained, and a FakeQuantize behind them; those of biases
 * (32 bits) floats alone. When the engine stores its parameters, the floats become codes again. */
#include <math.h>

#include "train/prepare.h"

static espl_status infer(const espl__node *node, espl_diag *diag) {
    const espl__value *x = node->inputs[0];
    return x->known_rank ? espl__set_out(node, 0, x->dtype, &x->shape, diag)
                         : espl__set_unknown(node, 0, x->dtype);
}

const espl__op espl__op_fake_quantize = {
    .name = "FakeQuantize",
    .domain = "espl.train",
    .min_inputs = 2, /* the zero point may be absent */
    .max_inputs = 3,
    .min_outputs = 1,
    .max_outputs = 1,
    .since = 1,
    .until = 99,
    .infer = infer,
};

/* --- which nodes ------------------------------------------------------------------------------------- */

static bool same_constant(const espl__value *a, const espl__value *b) {
    if (a == b) return true;
    if (!a || !b || !a->constant || !b->constant || a->dtype != b->dtype) return false;
    return espl_shape_equal(&a->constant->shape, &b->constant->shape) &&
           memcmp(a->constant->data, b->constant->data, espl__tensor_bytes(a->constant)) == 0;
}

typedef struct range {
    int64_t low, high;
} range;

/* The range of an integer type of codes; false: it is none. */
static bool range_of(espl_dtype dtype, range *out) {
    static const struct {
        espl_dtype dtype;
        range range;
    } ranges[] = {{ESPL_S8, {-128, 127}}, {ESPL_U8, {0, 255}},         {ESPL_S4, {-8, 7}},
                  {ESPL_U4, {0, 15}},     {ESPL_S16, {-32768, 32767}}, {ESPL_U16, {0, 65535}}};
    for (size_t i = 0; i < ESPL_COUNT(ranges); i++)
        if (ranges[i].dtype == dtype) {
            *out = ranges[i].range;
            return true;
        }
    return false;
}

/* Weights of 3 bits are stored as codes of 4 or 8: they keep to the fewest bits that hold those that are
 * there, and without the lowest code if none has it. */
static range range_of_codes(const espl_tensor *t, range of_type) {
    int64_t least = 0, most = 0, q;
    for (int64_t i = 0; i < espl_shape_count(&t->shape); i++) {
        espl__load_s64(t->dtype, espl__at(t->data, t->dtype, i), 0, 1, &q);
        least = ESPL_MIN(least, q);
        most = ESPL_MAX(most, q);
    }
    bool is_signed = of_type.low < 0;
    int64_t high = 1;
    while (high < of_type.high && (most > high || (is_signed && least < -high - 1))) high = 2 * high + 1;
    return (range){!is_signed ? 0 : least < -high ? -high - 1 : -high, high};
}

/* A DequantizeLinear with one scale, or one per index of an axis, and constants for both. */
static bool is_plain(const espl__node *d) {
    if (!espl__node_is(d, "DequantizeLinear") || espl__attr_int(d, "block_size", 0) != 0) return false;
    const espl__value *scale = d->inputs[1], *zero = espl__in(d, 2);
    return scale->constant && scale->dtype == ESPL_F32 && scale->constant->shape.rank <= 1 &&
           espl_shape_count(&scale->constant->shape) > 0 && (!zero || zero->constant);
}

/* The axis of d's scales; x has as many dimensions as d's input. */
static bool axis_of(const espl__node *d, const espl_shape *x, int64_t *axis) {
    int64_t scales = espl_shape_count(&d->inputs[1]->constant->shape);
    int at = 0;
    *axis = 0;
    if (scales == 1) return true;
    if (espl__axis(espl__attr_int(d, "axis", 1), x->rank, &at, NULL) != ESPL_OK) return false;
    *axis = at;
    return x->dim[at] == scales;
}

/* The only reader of codes, a constant, or NULL. */
static const espl__node *reader_of(const espl_graph *g, const espl__value *codes) {
    const espl__node *d = codes->constant ? espl__graph_only_reader(g, codes) : NULL;
    return d && is_plain(d) && d->inputs[0] == codes ? d : NULL;
}

/* --- making the nodes -------------------------------------------------------------------------------- */

static bool put_node(espl_graph *g, espl__node *d, espl__value *x, range codes, int64_t axis, bool weights) {
    espl__node *n = espl__graph_node(g, &espl__op_fake_quantize, d->name, 3, 1, 4);
    if (!n || !espl__attr_set_int(g, n, "low", codes.low) || !espl__attr_set_int(g, n, "high", codes.high) ||
        !espl__attr_set_int(g, n, "axis", axis) || !espl__attr_set_int(g, n, "weights", weights))
        return false;
    n->inputs[0] = x;
    n->inputs[1] = d->inputs[1];
    n->inputs[2] = espl__in(d, 2);
    espl__node_set_output(n, 0, d->outputs[0]);
    d->mark = -1;
    return true;
}

/* Element i of a tensor whose scales lie along an axis: which of `count` scales is its own. */
static int64_t scale_index(const espl_shape *x, int64_t axis, int64_t count, int64_t i) {
    return count == 1 ? 0 : i / espl__dims_product(x, (int)axis + 1, x->rank) % count;
}

/* Floats in place of the codes, which go on as the same parameter. */
static espl__value *floats_of(espl_graph *g, const espl__node *d, int64_t axis) {
    const espl__value *codes = d->inputs[0], *zero = espl__in(d, 2);
    const espl_tensor *t = codes->constant, *s = d->inputs[1]->constant;
    int64_t scales = espl_shape_count(&s->shape), n = espl_shape_count(&t->shape);
    espl_tensor *data = espl__graph_tensor(g, ESPL_F32, &t->shape, NULL);
    if (!data) return NULL;
    float *to = data->data;
    for (int64_t i = 0; i < n; i++) {
        int64_t k = scale_index(&t->shape, axis, scales, i), q, z = 0;
        espl__load_s64(t->dtype, espl__at(t->data, t->dtype, i), 0, 1, &q);
        if (zero) espl__load_s64(zero->dtype, espl__at(zero->constant->data, zero->dtype, k), 0, 1, &z);
        to[i] = (float)(q - z) * ((const float *)s->data)[k];
    }
    espl__value *v = espl__graph_value(g, codes->name);
    if (!v) return NULL;
    v->dtype = ESPL_F32;
    v->shape = t->shape;
    v->known_rank = true;
    v->constant = data;
    v->origin = codes->origin;
    return v;
}

static espl_status train_codes(espl_graph *g, espl__node *d, espl_diag *diag) {
    espl__value *codes = d->inputs[0];
    int64_t axis;
    range of_type = {0};
    bool bias = codes->dtype == ESPL_S32;
    if ((!bias && !range_of(codes->dtype, &of_type)) || reader_of(g, codes) != d ||
        !axis_of(d, &codes->constant->shape, &axis))
        return ESPL_OK;
    espl__value *v = floats_of(g, d, axis);
    if (!v) return espl__nomem(diag, 0);
    if (!bias)
        return put_node(g, d, v, range_of_codes(codes->constant, of_type), axis, true) ? ESPL_OK
                                                                                       : espl__nomem(diag, 0);
    espl__graph_replace(g, d->outputs[0], v);
    d->mark = -1;
    return ESPL_OK;
}

static espl_status train_pair(espl_graph *g, espl__node *d, espl_diag *diag) {
    const espl__node *q = d->inputs[0]->producer;
    espl__value *x = espl__node_is(q, "QuantizeLinear") ? q->inputs[0] : NULL;
    int64_t axis;
    range of_type = {0};
    if (!x || x->dtype != ESPL_F32 || !range_of(d->inputs[0]->dtype, &of_type) ||
        !same_constant(q->inputs[1], d->inputs[1]) || !same_constant(espl__in(q, 2), espl__in(d, 2)) ||
        espl__attr_int(q, "axis", 1) != espl__attr_int(d, "axis", 1) || !axis_of(d, &x->shape, &axis))
        return ESPL_OK;
    return put_node(g, d, x, of_type, axis, x->constant != NULL) ? ESPL_OK : espl__nomem(diag, 0);
}

espl_status espl__train_quantized(espl_graph *g, espl_diag *diag) {
    int count = g->node_count;
    espl_status status = ESPL_OK;
    for (int i = 0; i < count && status == ESPL_OK; i++) {
        espl__node *d = g->nodes[i];
        if (!is_plain(d)) continue;
        status = d->inputs[0]->constant ? train_codes(g, d, diag) : train_pair(g, d, diag);
    }
    if (status != ESPL_OK) return status;
    espl__graph_sweep(g);
    return espl__graph_verify(g, diag);
}

/* Exporters give a QuantizeLinear and the DequantizeLinear behind it equal constants of their own; trained,
 * they must be one. */
espl_status espl__train_join_grids(espl_graph *g, espl_diag *diag) {
    (void)diag;
    for (int i = 0; i < g->node_count; i++) {
        espl__node *d = g->nodes[i];
        const espl__node *q = is_plain(d) ? d->inputs[0]->producer : NULL;
        if (q && espl__node_is(q, "QuantizeLinear") && same_constant(q->inputs[1], d->inputs[1]))
            d->inputs[1] = q->inputs[1];
    }
    return ESPL_OK;
}

/* --- codes again ------------------------------------------------------------------------------------- */

/* Scales must be positive, whatever training made of them. */
static float positive(float scale) {
    scale = fabsf(scale);
    return scale >= 1e-30f ? scale : 1e-30f;
}

void espl__train_store_scales(espl_graph *g) {
    for (int i = 0; i < g->node_count; i++) {
        if (!is_plain(g->nodes[i])) continue;
        const espl_tensor *s = g->nodes[i]->inputs[1]->constant;
        float *scale = s->data;
        for (int64_t k = 0; k < espl_shape_count(&s->shape); k++) scale[k] = positive(scale[k]);
    }
}

/* Runtimes add a bias to sums of products of codes: its scale is that of those products. */
static void follow_product(const espl_graph *g, const espl__node *d) {
    const espl__node *product = espl__graph_only_reader(g, d->outputs[0]);
    if (!product || product->input_count < 3 || product->inputs[2] != d->outputs[0]) return;
    if (!espl__node_is(product, "Conv") && !espl__node_is(product, "Gemm")) return;
    const espl__node *x = product->inputs[0]->producer, *w = product->inputs[1]->producer;
    if (!x || !w || !is_plain(x) || !is_plain(w)) return;
    const espl_tensor *sx = x->inputs[1]->constant, *sw = w->inputs[1]->constant, *s = d->inputs[1]->constant;
    int64_t count = espl_shape_count(&s->shape);
    if (espl_shape_count(&sx->shape) != 1 || espl_shape_count(&sw->shape) != count ||
        espl__graph_only_reader(g, d->inputs[1]) != d)
        return;
    for (int64_t k = 0; k < count; k++)
        ((float *)s->data)[k] = positive(*(const float *)sx->data * ((const float *)sw->data)[k]);
}

/* The codes that the network's parameter of that name was rounded to. */
static range range_in(const espl_graph *net, const char *name) {
    for (int i = 0; i < net->node_count; i++) {
        const espl__node *n = net->nodes[i];
        if (n->op == &espl__op_fake_quantize && strcmp(n->inputs[0]->name, name) == 0)
            return (range){espl__attr_int(n, "low", 0), espl__attr_int(n, "high", 0)};
    }
    return (range){0, 0};
}

void espl__train_store_codes(espl_graph *g, const espl_graph *net, const espl__param *p) {
    const espl__value *codes = g->values[p->value];
    const espl_tensor *t = codes->constant;
    const espl__node *d = reader_of(g, codes);
    int64_t axis;
    range r = {INT32_MIN, INT32_MAX};
    if (!d || !axis_of(d, &t->shape, &axis)) return;
    if (t->dtype == ESPL_S32)
        follow_product(g, d);
    else
        r = range_in(net, p->name);
    const espl__value *zero = espl__in(d, 2);
    const espl_tensor *s = d->inputs[1]->constant;
    int64_t scales = espl_shape_count(&s->shape);
    for (int64_t i = 0; i < espl_shape_count(&t->shape); i++) {
        int64_t k = scale_index(&t->shape, axis, scales, i), z = 0;
        double x;
        espl__load_f64(p->data.dtype, espl__at(p->data.data, p->data.dtype, i), 0, 1, &x);
        if (zero) espl__load_s64(zero->dtype, espl__at(zero->constant->data, zero->dtype, k), 0, 1, &z);
        double scale = (double)((const float *)s->data)[k];
        double q = p->data.dtype == ESPL_F32 ? (double)rintf((float)x / (float)scale) : rint(x / scale);
        int64_t code =
            isnan(q) ? z : (int64_t)ESPL_MIN(ESPL_MAX(q + (double)z, (double)r.low), (double)r.high);
        espl__store_s64(t->dtype, &code, 1, espl__at_mut(t->data, t->dtype, i));
    }
}
