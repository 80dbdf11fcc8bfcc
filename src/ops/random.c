/* RandomUniform, RandomNormal, their Like forms, Bernoulli, Multinomial. What a node draws is said by its
 * seed alone, which the reader gives to nodes without one (onnx/read.c): a run is a function of its inputs,
 * and each run of a model draws the same numbers. Whoever wants fresh noise makes it an input. ONNX leaves
 * the generator open, so the numbers are not those of other tools. */
#include "ops/ops.h"

#include <inttypes.h>
#include <math.h>

espl__rng espl__node_rng(const espl__node *node) {
    float seed = espl__attr_float(node, "seed", 0);
    uint32_t bits;
    memcpy(&bits, &seed, sizeof bits);
    return espl__rng_at(bits, (uint64_t)espl__attr_int(node, "seed", 0), 0); /* floats, but of a Dropout */
}

/* The element type that attribute dtype asks for, one of `set`. */
static espl_status read_dtype(const espl__node *node, espl_dtype fallback, uint32_t set, espl_dtype *out,
                              espl_diag *diag) {
    const espl__attr *a = espl__attr_find(node, "dtype");
    int64_t number = a && a->kind == ESPL__ATTR_INT ? a->i : 0;
    *out = fallback;
    if (a && !espl__dtype_from_onnx(number, out))
        return espl__fail(diag, ESPL_UNSUPPORTED, "%s: ONNX element type %" PRId64 " is not supported",
                          node->op->name, number);
    if (set >> *out & 1) return ESPL_OK;
    return espl__fail(diag, ESPL_UNSUPPORTED, "%s: type %s is not supported", node->op->name,
                      espl_dtype_name(*out));
}

static double draw_uniform(const espl__node *node, espl__rng *rng) {
    double low = (double)espl__attr_float(node, "low", 0), high = (double)espl__attr_float(node, "high", 1);
    return low + (high - low) * (double)espl__rng_float(rng);
}
static double draw_normal(const espl__node *node, espl__rng *rng) {
    return (double)espl__attr_float(node, "mean", 0) +
           (double)espl__attr_float(node, "scale", 1) * (double)espl__rng_normal(rng);
}

static void fill(const espl__node *node, espl_tensor *out, double (*draw)(const espl__node *, espl__rng *)) {
    espl__rng rng = espl__node_rng(node);
    for (int64_t i = 0, n = espl_shape_count(&out->shape); i < n; i++) {
        double x = draw(node, &rng);
        espl__store_f64(out->dtype, &x, 1, espl__at_mut(out->data, out->dtype, i));
    }
}

static espl_status infer_shaped(const espl__node *node, espl_diag *diag) {
    espl_status status;
    espl_dtype dtype;
    int64_t dims[ESPL_MAX_RANK];
    espl_shape y = {0};
    ESPL_TRY(espl__op_begin(node, diag));
    ESPL_TRY(read_dtype(node, ESPL_F32, ESPL__T_FLOAT, &dtype, diag));
    int rank = espl__attr_ints(node, "shape", dims, ESPL_MAX_RANK);
    if (!espl__attr_find(node, "shape") || rank > ESPL_MAX_RANK)
        return espl__fail(diag, ESPL_FORMAT, "%s: has no shape of at most %d dimensions", node->op->name,
                          ESPL_MAX_RANK);
    y.rank = rank;
    for (int i = 0; i < rank; i++) {
        if (dims[i] < 0)
            return espl__fail(diag, ESPL_SHAPE, "%s: dimension %d would be %" PRId64, node->op->name, i,
                              dims[i]);
        y.dim[i] = dims[i];
    }
    status = espl__set_out(node, 0, dtype, &y, diag);
done:
    return status;
}

static espl_status infer_like(const espl__node *node, espl_diag *diag) {
    espl_status status;
    espl_dtype dtype;
    ESPL_TRY(espl__op_begin(node, diag));
    ESPL_TRY(read_dtype(node, node->inputs[0]->dtype, ESPL__T_FLOAT, &dtype, diag));
    status = espl__set_like_input(node, dtype, diag);
done:
    return status;
}

static void eval_uniform(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)in, (void)scratch;
    fill(node, out, draw_uniform);
}
static void eval_normal(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)in, (void)scratch;
    fill(node, out, draw_normal);
}

/* --- Bernoulli: 1 with the probability that the input says ------------------------------------- */

static espl_status infer_bernoulli(const espl__node *node, espl_diag *diag) {
    espl_status status;
    espl_dtype dtype;
    ESPL_TRY(espl__op_begin(node, diag));
    ESPL_TRY(espl__check_dtype(node, 0, ESPL__T_FLOAT, diag));
    ESPL_TRY(read_dtype(node, node->inputs[0]->dtype,
                        ESPL__T_INT | ESPL__T(U64) | ESPL__T(BOOL) | ESPL__T_FLOAT, &dtype, diag));
    status = espl__set_like_input(node, dtype, diag);
done:
    return status;
}

static void eval_bernoulli(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)scratch;
    espl__rng rng = espl__node_rng(node);
    for (int64_t i = 0, n = espl_shape_count(&out->shape); i < n; i++) {
        double p;
        espl__load_f64(in[0].dtype, espl__at(in[0].data, in[0].dtype, i), 0, 1, &p);
        const int64_t hit = (double)espl__rng_float(&rng) < p;
        espl__store_s64(out->dtype, &hit, 1, espl__at_mut(out->data, out->dtype, i));
    }
}

/* --- Multinomial: classes, each with a probability proportional to e^x --------------------------- */

static espl_status infer_multinomial(const espl__node *node, espl_diag *diag) {
    espl_status status;
    espl_dtype dtype;
    ESPL_TRY(espl__op_begin(node, diag));
    ESPL_TRY(espl__check_dtype(node, 0, ESPL__T_FLOAT, diag));
    ESPL_TRY(espl__check_rank(node, 0, 2, 2, diag));
    ESPL_TRY(read_dtype(node, ESPL_S32, ESPL__T(S32) | ESPL__T(S64), &dtype, diag));
    int64_t samples = espl__attr_int(node, "sample_size", 1);
    const espl__value *x = node->inputs[0];
    if (samples < 1 || (x->known_rank && x->shape.dim[1] == 0))
        return espl__fail(diag, ESPL_SHAPE, "Multinomial: %" PRId64 " samples of no class", samples);
    espl_shape y = {2, {x->known_rank ? x->shape.dim[0] : ESPL_DIM_UNKNOWN, samples}};
    status = espl__set_out(node, 0, dtype, &y, diag);
done:
    return status;
}

/* The largest score goes to 1 before sums are made, so that e^x cannot overflow. */
static int64_t choose_class(const espl_tensor *x, int64_t row, int64_t classes, double top, double sum,
                            double u) {
    double rest = u * sum, value;
    for (int64_t c = 0; c < classes; c++) {
        espl__load_f64(x->dtype, espl__at(x->data, x->dtype, row * classes + c), 0, 1, &value);
        rest -= exp(value - top);
        if (rest < 0) return c;
    }
    return classes - 1;
}

static void eval_multinomial(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)scratch;
    espl__rng rng = espl__node_rng(node);
    int64_t classes = in[0].shape.dim[1], samples = out[0].shape.dim[1];
    for (int64_t r = 0; r < out[0].shape.dim[0]; r++) {
        double top = -INFINITY, sum = 0, x;
        for (int pass = 0; pass < 2; pass++)
            for (int64_t c = 0; c < classes; c++) {
                espl__load_f64(in[0].dtype, espl__at(in[0].data, in[0].dtype, r * classes + c), 0, 1, &x);
                if (pass == 0) top = x > top ? x : top;
                if (pass == 1) sum += exp(x - top);
            }
        for (int64_t i = 0; i < samples; i++) {
            int64_t class = choose_class(&in[0], r, classes, top, sum, (double)espl__rng_float(&rng));
            espl__store_s64(out[0].dtype, &class, 1,
                            espl__at_mut(out[0].data, out[0].dtype, r * samples + i));
        }
    }
}

#define DEFINE_OP(Name, inputs, first, infer_fn, eval_fn)         \
    const espl__op espl__op_##Name = {.name = #Name,              \
                                      .domain = "",               \
                                      .min_inputs = inputs,       \
                                      .max_inputs = inputs,       \
                                      .min_outputs = 1,           \
                                      .max_outputs = 1,           \
                                      .since = first,             \
                                      .until = 21,                \
                                      .infer = infer_fn,          \
                                      .eval = eval_fn,            \
                                      .quant = ESPL__QUANT_FLOAT, \
                                      .draws = true};
DEFINE_OP(RandomUniform, 0, 1, infer_shaped, eval_uniform)
DEFINE_OP(RandomNormal, 0, 1, infer_shaped, eval_normal)
DEFINE_OP(RandomUniformLike, 1, 1, infer_like, eval_uniform)
DEFINE_OP(RandomNormalLike, 1, 1, infer_like, eval_normal)
DEFINE_OP(Bernoulli, 1, 15, infer_bernoulli, eval_bernoulli)
DEFINE_OP(Multinomial, 1, 7, infer_multinomial, eval_multinomial)
