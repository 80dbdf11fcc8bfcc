/* Operators on codes, as ONNX (QLinearConv, QLinearMatMul) and ONNX Runtime's quantizer (com.microsoft) write
 * them. Each is read as what it means:
 *
 *   y = Quantize(op(Dequantize(a), Dequantize(b), ...), its scale and zero point)
 *
 * The pass absorb_qdq then makes grids of values of that, and the runtime computes with codes. A bias of s32
 * has the scale of the products. What rounds its input in every run becomes DynamicQuantizeLinear and
 * MatMulInteger, of which the pass absorb_dynamic makes MatMul. */
#include "onnx/onnx_impl.h"

#include <inttypes.h>
#include <math.h>

enum { MAX_INPUTS = 64, NONE = -1 };

typedef struct kind {
    const char *domain, *name, *op;
    int operands[3]; /* where the triples of codes, scale and zero point begin; NONE: no more */
    int result;      /* the output's scale, behind which its zero point stands */
    int bias;        /* of s32, or NONE */
    int axis;        /* of the second operand's channels, if it has a scale for each */
    int opset;       /* that its attributes follow; 0: the model's */
} kind;

static const char ms[] = "com.microsoft";
static const kind kinds[] = {
    {"", "QLinearConv", "Conv", {0, 3, NONE}, 6, 8, 0, 0},
    {"", "QLinearMatMul", "MatMul", {0, 3, NONE}, 6, NONE, -1, 0},
    {ms, "QLinearAdd", "Add", {0, 3, NONE}, 6, NONE, -1, 0},
    {ms, "QLinearMul", "Mul", {0, 3, NONE}, 6, NONE, -1, 0},
    {ms, "QLinearSigmoid", "Sigmoid", {0, NONE}, 3, NONE, -1, 0},
    {ms, "QLinearLeakyRelu", "LeakyRelu", {0, NONE}, 3, NONE, -1, 0},
    {ms, "QLinearSoftmax", "Softmax", {0, NONE}, 3, NONE, -1, 0},
    {ms, "QLinearReduceMean", "ReduceMean", {0, NONE}, 3, NONE, -1, 13},
    {ms, "QLinearAveragePool", "AveragePool", {0, NONE}, 3, NONE, -1, 0},
    {ms, "QLinearGlobalAveragePool", "GlobalAveragePool", {0, NONE}, 3, NONE, -1, 0},
    {ms, "QLinearConcat", "Concat", {NONE}, 0, NONE, -1, 0},
    {ms, "QLinearWhere", "Where", {1, 4, NONE}, 7, NONE, -1, 0},
    {ms, "QGemm", "Gemm", {0, 3, NONE}, 7, 6, 1, 0},
};

typedef struct expansion {
    espl_graph *g;
    espl__external *external;
    const pb_node *from;
    espl__value *in[MAX_INPUTS];
    int count;
    espl_diag *diag;
} expansion;

static const kind *find_kind(const char *domain, const char *op) {
    for (size_t i = 0; i < ESPL_COUNT(kinds); i++)
        if (strcmp(kinds[i].domain, domain) == 0 && strcmp(kinds[i].name, op) == 0) return &kinds[i];
    return NULL;
}

static bool is_dynamic(const char *domain, const char *op) {
    return strcmp(domain, ms) == 0 &&
           (strcmp(op, "DynamicQuantizeMatMul") == 0 || strcmp(op, "MatMulIntegerToFloat") == 0);
}

static bool is_lstm(const char *domain, const char *op) {
    return strcmp(domain, ms) == 0 && strcmp(op, "DynamicQuantizeLSTM") == 0;
}

bool espl__onnx_is_qoperator(const char *domain, const char *op) {
    return find_kind(domain, op) || is_dynamic(domain, op) || is_lstm(domain, op);
}

/* --- nodes and constants --------------------------------------------------------------------- */

static espl__value *input(const expansion *e, int i) {
    return i >= 0 && i < e->count ? e->in[i] : NULL;
}

static const pb_attr *attribute(const expansion *e, const char *name) {
    for (size_t i = 0; i < e->from->n_attribute; i++)
        if (e->from->attribute[i]->name && strcmp(e->from->attribute[i]->name, name) == 0)
            return e->from->attribute[i];
    return NULL;
}

/* Axes of QuantizeLinear came with operator set 13. */
static espl__node *new_node(const expansion *e, const char *op, int inputs, int attrs, espl__value *y) {
    espl__node *n = espl__graph_node(e->g, espl__op_find("", op), "", inputs, 1, attrs);
    if (!n || !y) return NULL;
    n->opset = ESPL_MAX(e->g->opset, 13);
    espl__node_set_output(n, 0, y);
    return n;
}

/* op(a, b) as a value of its own; b may be NULL. */
static espl__value *apply(const expansion *e, const char *op, espl__value *a, espl__value *b) {
    espl__value *y = espl__graph_value(e->g, NULL);
    espl__node *n = new_node(e, op, b ? 2 : 1, 1, y);
    if (!n) return NULL;
    n->inputs[0] = a;
    if (b) n->inputs[1] = b;
    return y;
}

/* A scale or zero point in the shape that (De)QuantizeLinear wants: a scalar, or a list. */
static espl__value *plain(const expansion *e, espl__value *v) {
    if (!v || !v->constant || espl__is_quantized(v)) return v;
    espl_tensor t = *v->constant;
    int64_t count = espl_shape_count(&t.shape);
    espl_shape shape = {.rank = count != 1, .dim = {count}};
    if (espl_shape_equal(&shape, &t.shape)) return v;
    t.shape = shape;
    return espl__graph_constant(e->g, NULL, &t);
}

static bool is_vector(const espl__value *v) {
    return v && v->constant && espl_shape_count(&v->constant->shape) > 1;
}

/* DequantizeLinear, or QuantizeLinear into `y`. */
static espl__value *convert(const expansion *e, const char *op, espl__value *x, espl__value *scale,
                            espl__value *zero, int axis, espl__value *y) {
    espl__value *s = plain(e, scale), *z = plain(e, zero);
    if (!y) y = espl__graph_value(e->g, NULL);
    espl__node *n = new_node(e, op, 2 + (zero != NULL), 1, y);
    if (!s || (zero && !z) || !n) return NULL;
    n->inputs[0] = x;
    n->inputs[1] = s;
    if (z) n->inputs[2] = z;
    return espl__attr_set_int(e->g, n, "axis", is_vector(s) ? axis : 0) ? y : NULL;
}

static espl__value *dequantized(const expansion *e, int at, int axis) {
    return convert(e, "DequantizeLinear", input(e, at), input(e, at + 1), input(e, at + 2), axis, NULL);
}

/* The bias has the products' scale. */
static espl__value *dequantized_bias(const expansion *e, const kind *k, float alpha) {
    const espl__value *a = input(e, k->operands[0] + 1), *b = input(e, k->operands[1] + 1);
    espl__value *bias = input(e, k->bias);
    if (!a->constant || !b->constant || a->constant->dtype != ESPL_F32 || b->constant->dtype != ESPL_F32 ||
        espl_shape_count(&a->constant->shape) != 1) {
        (void)espl__fail(e->diag, ESPL_UNSUPPORTED,
                         "a bias beside scales that are not constant is not supported");
        return NULL;
    }
    int64_t count = espl_shape_count(&b->constant->shape);
    espl_shape shape = {.rank = 1, .dim = {count}};
    espl_tensor *scale = espl__graph_tensor(e->g, ESPL_F32, &shape, NULL);
    espl__value *v = scale ? espl__graph_constant(e->g, NULL, scale) : NULL;
    if (!v) return NULL;
    for (int64_t i = 0; i < count; i++)
        ((float *)v->constant->data)[i] =
            alpha * *(const float *)a->constant->data * ((const float *)b->constant->data)[i];
    return convert(e, "DequantizeLinear", bias, v, NULL, 0, NULL);
}

/* --- operators on codes ---------------------------------------------------------------------- */

static espl_status copy_attributes(const expansion *e, espl__node *n) {
    static const char *const others[] = {"channels_last", "opset"}; /* not of ONNX's operator */
    espl_status status = ESPL_OK;
    const pb_attr *last = attribute(e, "channels_last"), *opset = attribute(e, "opset");
    if (last && last->i != 0)
        return espl__fail(e->diag, ESPL_UNSUPPORTED, "channels_last is not supported; keep channels first");
    if (opset && opset->i >= 1 && opset->i <= ESPL__OPSET_MAX) n->opset = (int)opset->i;
    for (size_t i = 0; i < e->from->n_attribute; i++) {
        const pb_attr *a = e->from->attribute[i];
        if (a->name && (strcmp(a->name, others[0]) == 0 || strcmp(a->name, others[1]) == 0)) continue;
        ESPL_TRY(espl__onnx_attribute(e->g, e->external, n, a, e->diag));
    }
done:
    return status;
}

/* Gemm's second operand has its channels in its rows if it is transposed. */
static int channel_axis(const expansion *e, const kind *k) {
    const pb_attr *trans = attribute(e, "transB");
    if (strcmp(k->op, "Gemm") == 0) return trans && trans->i ? 0 : 1;
    return k->axis;
}

/* The operator's inputs in f32; their number, or -1. */
static int collect(const expansion *e, const kind *k, espl__value **to) {
    int n = 0;
    if (strcmp(k->op, "Where") == 0) to[n++] = input(e, 0);
    for (int i = 0; i < 3 && k->operands[i] != NONE; i++)
        if (!(to[n++] = dequantized(e, k->operands[i], i ? channel_axis(e, k) : 0))) return -1;
    for (int at = 2; strcmp(k->op, "Concat") == 0 && at + 1 < e->count; at += 3)
        if (!(to[n++] = dequantized(e, at, 0))) return -1;
    if (k->bias != NONE && input(e, k->bias)) {
        const pb_attr *alpha = attribute(e, "alpha");
        if (!(to[n++] = dequantized_bias(e, k, alpha ? alpha->f : 1))) return -1;
    }
    return n;
}

/* Every operand and its scale are there; so is the output's scale, unless the output stays f32. */
static espl_status check_inputs(const expansion *e, const kind *k) {
    bool there = strcmp(k->op, "Gemm") == 0 || input(e, k->result);
    for (int i = 0; i < 3 && k->operands[i] != NONE; i++)
        there = there && input(e, k->operands[i]) && input(e, k->operands[i] + 1);
    if (strcmp(k->op, "Where") == 0) there = there && input(e, 0);
    for (int at = 2; strcmp(k->op, "Concat") == 0 && at < e->count; at += 3)
        there = there && input(e, at) && input(e, at + 1);
    return there ? ESPL_OK : espl__fail(e->diag, ESPL_FORMAT, "an operand or a scale is missing");
}

static espl_status expand_codes(const expansion *e, const kind *k, espl__value *y) {
    espl__value *operands[MAX_INPUTS];
    espl_status status = check_inputs(e, k);
    if (status != ESPL_OK) return status;
    bool rounds = input(e, k->result) != NULL;
    espl__value *result = rounds ? espl__graph_value(e->g, NULL) : y;
    int count = collect(e, k, operands);
    if (count < 0 && e->diag && e->diag->status != ESPL_OK) return e->diag->status;
    if (count < 0 || !result) return espl__nomem(e->diag, 0);
    espl__node *n = espl__graph_node(e->g, espl__op_find("", k->op), e->from->name ? e->from->name : "",
                                     count, 1, (int)e->from->n_attribute);
    if (!n) return espl__nomem(e->diag, 0);
    n->opset = k->opset ? k->opset : e->g->opset;
    for (int i = 0; i < count; i++) n->inputs[i] = operands[i];
    espl__node_set_output(n, 0, result);
    ESPL_TRY(copy_attributes(e, n));
    if (rounds && !convert(e, "QuantizeLinear", result, input(e, k->result), input(e, k->result + 1), 0, y))
        return espl__nomem(e->diag, 0);
done:
    return status;
}

/* --- rounding in every run ------------------------------------------------------------------- */

static espl__value *named_output(const expansion *e, espl__node *n, int index) {
    espl__value *v = espl__graph_value(e->g, NULL);
    if (v) espl__node_set_output(n, index, v);
    return v;
}

/* DynamicQuantizeMatMul: A, B, scale of B, zero point of B, bias. MatMulIntegerToFloat: A, B, their scales,
 * their zero points, bias; A holds codes already. */
static espl_status expand_dynamic(const expansion *e, espl__value *y) {
    bool codes = strcmp(e->from->op_type, "MatMulIntegerToFloat") == 0;
    espl__value *a = input(e, 0), *b = input(e, 1), *scale = input(e, codes ? 2 : -1),
                *zero = input(e, codes ? 4 : -1);
    espl__value *b_scale = input(e, codes ? 3 : 2), *b_zero = input(e, codes ? 5 : 3),
                *bias = input(e, codes ? 6 : 4);
    if (!a || !b || !b_scale || (codes && !scale))
        return espl__fail(e->diag, ESPL_FORMAT, "an operand or a scale is missing");
    if (!codes) {
        espl__node *q = espl__graph_node(e->g, espl__op_find("", "DynamicQuantizeLinear"), "", 1, 3, 0);
        if (!q) return espl__nomem(e->diag, 0);
        q->opset = ESPL_MAX(e->g->opset, 13);
        q->inputs[0] = a;
        a = named_output(e, q, 0);
        scale = named_output(e, q, 1);
        zero = named_output(e, q, 2);
        if (!a || !scale || !zero) return espl__nomem(e->diag, 0);
    }
    espl__value *sums = espl__graph_value(e->g, NULL), *scaled = bias ? espl__graph_value(e->g, NULL) : y;
    espl__node *product = new_node(e, "MatMulInteger", 4, 0, sums), *cast, *mul;
    espl__value *wide = espl__graph_value(e->g, NULL), *factor = apply(e, "Mul", scale, b_scale);
    if (!product || !wide || !factor || !scaled || !(cast = new_node(e, "Cast", 1, 1, wide)) ||
        !espl__attr_set_int(e->g, cast, "to", 1) || !(mul = new_node(e, "Mul", 2, 0, scaled)))
        return espl__nomem(e->diag, 0);
    product->inputs[0] = a;
    product->inputs[1] = b;
    product->inputs[2] = zero;
    product->inputs[3] = b_zero;
    product->input_count = b_zero ? 4 : zero ? 3 : 2;
    cast->inputs[0] = sums;
    mul->inputs[0] = wide;
    mul->inputs[1] = factor;
    espl__node *add = bias ? new_node(e, "Add", 2, 0, y) : NULL;
    if (bias && !add) return espl__nomem(e->diag, 0);
    if (add) {
        add->inputs[0] = scaled;
        add->inputs[1] = bias;
    }
    return ESPL_OK;
}

/* --- DynamicQuantizeLSTM --------------------------------------------------------------------- */

static int64_t code_at(const espl_tensor *t, int64_t i) {
    return t->dtype == ESPL_S8 ? ((const int8_t *)t->data)[i] : ((const uint8_t *)t->data)[i];
}

/* Weights [direction][input][row] of codes as LSTM has them, [direction][row][input]; scale and zero point
 * are of a direction, or of each of its rows. What has no grid of ours becomes f32. */
static espl__value *lstm_weights(const expansion *e, int codes, int scales, int zeros) {
    const espl__value *w = input(e, codes), *s = input(e, scales), *z = input(e, zeros);
    if (!w || !s || !w->constant || !s->constant || (z && !z->constant) || w->constant->shape.rank != 3 ||
        (w->constant->dtype != ESPL_S8 && w->constant->dtype != ESPL_U8) || s->constant->dtype != ESPL_F32 ||
        (z && z->constant->dtype != w->constant->dtype)) {
        (void)espl__fail(e->diag, ESPL_UNSUPPORTED, "weights of 8 bits and their scales must be constants");
        return NULL;
    }
    const int64_t *d = w->constant->shape.dim, count = espl_shape_count(&s->constant->shape);
    if ((count != d[0] && count != d[0] * d[2]) || (z && espl_shape_count(&z->constant->shape) != count)) {
        (void)espl__fail(e->diag, ESPL_SHAPE,
                         "has not one scale for each direction, or for each of its rows");
        return NULL;
    }
    const espl_shape shape = {3, {d[0], d[2], d[1]}};
    bool grid = d[0] == 1;
    for (int64_t i = 0; i < count; i++) {
        float x = ((const float *)s->constant->data)[i];
        grid = grid && x > 0 && isfinite(x);
    }
    espl_tensor *t = espl__graph_tensor(e->g, grid ? w->constant->dtype : ESPL_F32, &shape, NULL);
    int32_t *zero = espl__arena_alloc(&e->g->arena, sizeof *zero * (uint64_t)(count + 1));
    espl__value *v = espl__graph_value(e->g, NULL);
    if (!t || !zero || !v) return NULL;
    for (int64_t i = 0; i < count; i++) zero[i] = z ? (int32_t)code_at(z->constant, i) : 0;
    for (int64_t dir = 0; dir < d[0]; dir++)
        for (int64_t row = 0; row < d[2]; row++)
            for (int64_t k = 0; k < d[1]; k++) {
                int64_t code = code_at(w->constant, (dir * d[1] + k) * d[2] + row),
                        at = (dir * d[2] + row) * d[1] + k;
                int64_t c = count == d[0] ? dir : dir * d[2] + row;
                if (grid)
                    ((uint8_t *)t->data)[at] = (uint8_t)code;
                else
                    ((float *)t->data)[at] = (float)(code - zero[c]) * ((const float *)s->constant->data)[c];
            }
    v->constant = t;
    v->dtype = ESPL_F32;
    v->shape = shape;
    v->known_rank = true;
    espl_format format = t->dtype == ESPL_S8 ? ESPL_FORMAT_S8 : ESPL_FORMAT_U8;
    bool done =
        !grid || espl__graph_set_quant(e->g, v, format, count > 1 ? 1 : -1, count, s->constant->data, zero);
    return done ? v : NULL;
}

/* X, W, R, B, sequence_lens, initial_h, initial_c, P as LSTM; then scale and zero point of W and of R. Inputs
 * and states stay f32, which is nearer to the numbers meant than rounding them. */
static espl_status expand_lstm(const expansion *e, espl__value *const *outputs, int output_count) {
    enum { LSTM_INPUTS = 8 };
    espl_status status = ESPL_OK;
    espl__value *w = lstm_weights(e, 1, 8, 9), *r = w ? lstm_weights(e, 2, 10, 11) : NULL;
    if (!r && e->diag && e->diag->status != ESPL_OK) return e->diag->status;
    espl__node *n = espl__graph_node(e->g, espl__op_find("", "LSTM"), e->from->name ? e->from->name : "",
                                     LSTM_INPUTS, output_count, (int)e->from->n_attribute);
    if (!r || !n) return espl__nomem(e->diag, 0);
    n->opset = ESPL_MAX(e->g->opset, 7);
    for (int i = 0; i < LSTM_INPUTS; i++) n->inputs[i] = i == 1 ? w : i == 2 ? r : input(e, i);
    while (n->input_count > 3 && !n->inputs[n->input_count - 1]) n->input_count--;
    for (int i = 0; i < output_count; i++)
        if (outputs[i]) espl__node_set_output(n, i, outputs[i]);
    for (size_t i = 0; i < e->from->n_attribute; i++)
        ESPL_TRY(espl__onnx_attribute(e->g, e->external, n, e->from->attribute[i], e->diag));
done:
    return status;
}

espl_status espl__onnx_qoperator(espl_graph *g, espl__external *external, const char *domain,
                                 const pb_node *from, espl__value *const *inputs, int count,
                                 espl__value *const *outputs, int output_count, espl_diag *diag) {
    espl_diag own = {0};
    expansion e = {.g = g, .external = external, .from = from, .count = count, .diag = diag ? diag : &own};
    const kind *k = find_kind(domain, from->op_type);
    if (count > MAX_INPUTS || output_count < 1 || !outputs[0])
        return espl__fail(diag, ESPL_FORMAT, "has %d inputs or no output", count);
    for (int i = 0; i < count; i++) e.in[i] = inputs[i];
    if (is_lstm(domain, from->op_type)) return expand_lstm(&e, outputs, output_count);
    if (!k) return expand_dynamic(&e, outputs[0]);
    return expand_codes(&e, k, outputs[0]);
}
