/* Elementwise functions of one f32 input. Erf, Exp, Gelu, Sigmoid and Tanh are the kernels' own, so that every path has
 * their bits. */
#include "kernels/kernels.h"
#include "ops/ops.h"

#include <math.h>

static espl_status infer_f32(const espl__node *node, espl_diag *diag) {
    espl_status status;
    ESPL_TRY(espl__op_begin(node, diag));
    ESPL_TRY(espl__check_dtype(node, 0, ESPL__T(F32), diag));
    status = espl__set_like_input(node, ESPL_F32, diag);
done:
    return status;
}

static void eval_erf(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)node, (void)scratch;
    espl__kernels_get()->erf_f32(in[0].data, out[0].data, espl_shape_count(&in[0].shape));
}
static void eval_exp(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)node, (void)scratch;
    espl__kernels_get()->exp_f32(in[0].data, out[0].data, espl_shape_count(&in[0].shape));
}
static void eval_sigmoid(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)node, (void)scratch;
    espl__kernels_get()->sigmoid_f32(in[0].data, out[0].data, espl_shape_count(&in[0].shape));
}
static void eval_tanh(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)node, (void)scratch;
    espl__kernels_get()->tanh_f32(in[0].data, out[0].data, espl_shape_count(&in[0].shape));
}

/* tanh and e^x for the formulas below: a call of the kernel for one element. */
static float tanh_own(float x) {
    espl__kernels_get()->tanh_f32(&x, &x, 1);
    return x;
}
static float exp_own(float x) {
    espl__kernels_get()->exp_f32(&x, &x, 1);
    return x;
}

/* log(1 + e^x), written so that e^x cannot overflow. */
static float softplus(float x) { return (x > 0 ? x : 0.0f) + log1pf(exp_own(-fabsf(x))); }

static float elu(float x, float alpha) { return x >= 0 ? x : alpha * (exp_own(x) - 1.0f); }

static float hard_sigmoid(float x, float alpha, float beta) {
    float y = alpha * x + beta;
    return y < 0 ? 0.0f : y > 1 ? 1.0f : y;
}

static float sign(float x) { return x > 0 ? 1.0f : x < 0 ? -1.0f : x; }

/* X(Name, since, default alpha, default beta, f(x, alpha, beta)): one function each, and one operator. */
#define UNARY_LIST(X)                                                   \
    X(LeakyRelu, 6, 0.01f, 0, x >= 0 ? x : alpha * x)                   \
    X(Elu, 6, 1, 0, elu(x, alpha))                                      \
    X(Celu, 12, 1, 0, x >= 0 ? x : alpha * (exp_own(x / alpha) - 1.0f)) \
    X(ThresholdedRelu, 10, 1, 0, x > alpha ? x : 0.0f)                  \
    X(HardSigmoid, 6, 0.2f, 0.5f, hard_sigmoid(x, alpha, beta))         \
    X(HardSwish, 14, 0, 0, x * hard_sigmoid(x, 1.0f / 6.0f, 0.5f))       \
    X(Log, 6, 0, 0, logf(x))                                            \
    X(Sqrt, 6, 0, 0, sqrtf(x))                                          \
    X(Reciprocal, 6, 0, 0, 1.0f / x)                                    \
    X(Floor, 6, 0, 0, floorf(x))                                        \
    X(Ceil, 6, 0, 0, ceilf(x))                                          \
    X(Round, 11, 0, 0, rintf(x))                                        \
    X(Softplus, 1, 0, 0, softplus(x))                                   \
    X(Softsign, 1, 0, 0, x / (1.0f + fabsf(x)))                         \
    X(Mish, 18, 0, 0, x * tanh_own(softplus(x)))                         \
    X(Sin, 7, 0, 0, sinf(x))                                            \
    X(Cos, 7, 0, 0, cosf(x))                                            \
    X(Tan, 7, 0, 0, tanf(x))                                            \
    X(Asin, 7, 0, 0, asinf(x))                                          \
    X(Acos, 7, 0, 0, acosf(x))                                          \
    X(Atan, 7, 0, 0, atanf(x))                                          \
    X(Sinh, 9, 0, 0, sinhf(x))                                          \
    X(Cosh, 9, 0, 0, coshf(x))                                          \
    X(Asinh, 9, 0, 0, asinhf(x))                                        \
    X(Acosh, 9, 0, 0, acoshf(x))                                        \
    X(Atanh, 9, 0, 0, atanhf(x))

#define DEFINE_EVAL(Name, first, alpha_default, beta_default, formula)                       \
    static void eval_##Name(const espl__node *node, const espl_tensor *in, espl_tensor *out, \
                            void *scratch) {                                                 \
        float alpha = espl__attr_float(node, "alpha", alpha_default);                        \
        float beta = espl__attr_float(node, "beta", beta_default);                           \
        const float *from = in[0].data;                                                      \
        float *to = out[0].data;                                                             \
        (void)scratch, (void)alpha, (void)beta;                                              \
        for (int64_t i = 0, n = espl_shape_count(&in[0].shape); i < n; i++) {                \
            float x = from[i];                                                               \
            to[i] = (formula);                                                               \
        }                                                                                    \
    }
UNARY_LIST(DEFINE_EVAL)

#define DEFINE_OP(Name, first, infer_fn, eval_fn)        \
    const espl__op espl__op_##Name = {.name = #Name,     \
                                      .domain = "",      \
                                      .min_inputs = 1,   \
                                      .max_inputs = 1,   \
                                      .min_outputs = 1,  \
                                      .max_outputs = 1,  \
                                      .since = first,    \
                                      .until = 21,       \
                                      .infer = infer_fn, \
                                      .eval = eval_fn,   \
                                      .quant = ESPL__QUANT_UNARY};
#define DEFINE_F32_OP(Name, first, alpha, beta, formula) DEFINE_OP(Name, first, infer_f32, eval_##Name)
UNARY_LIST(DEFINE_F32_OP)
DEFINE_OP(Erf, 9, infer_f32, eval_erf)
DEFINE_OP(Exp, 6, infer_f32, eval_exp)
DEFINE_OP(Sigmoid, 6, infer_f32, eval_sigmoid)
DEFINE_OP(Tanh, 6, infer_f32, eval_tanh)

/* Selu has defaults that do not fit the list's attributes: alpha and gamma. */
static void eval_selu(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)scratch;
    float alpha = espl__attr_float(node, "alpha", 1.67326319f),
          gamma = espl__attr_float(node, "gamma", 1.05070102f);
    const float *x = in[0].data;
    float *y = out[0].data;
    for (int64_t i = 0, n = espl_shape_count(&in[0].shape); i < n; i++) y[i] = gamma * elu(x[i], alpha);
}
DEFINE_OP(Selu, 6, infer_f32, eval_selu)

static espl_status infer_gelu(const espl__node *node, espl_diag *diag) {
    const char *how = espl__attr_string(node, "approximate", "none");
    if (strcmp(how, "none") != 0 && strcmp(how, "tanh") != 0)
        return espl__fail(diag, ESPL_FORMAT, "Gelu: approximate '%s' is neither none nor tanh", how);
    return infer_f32(node, diag);
}
static void eval_gelu(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)scratch;
    bool by_tanh = strcmp(espl__attr_string(node, "approximate", "none"), "tanh") == 0;
    const espl__kernels *k = espl__kernels_get();
    (by_tanh ? k->gelu_tanh_f32 : k->gelu_f32)(in[0].data, out[0].data, espl_shape_count(&in[0].shape));
}
DEFINE_OP(Gelu, 20, infer_gelu, eval_gelu)

/* --- also for integers: shape arithmetic uses them ------------------------------------------- */

static espl_status infer_signed(const espl__node *node, espl_diag *diag) {
    espl_status status;
    ESPL_TRY(espl__op_begin(node, diag));
    ESPL_TRY(espl__check_dtype(node, 0, ESPL__T_SIGNED | ESPL__T(F32) | ESPL__T(F64), diag));
    status = espl__set_like_input(node, node->inputs[0]->dtype, diag);
done:
    return status;
}

/* Applies `f32` to floats, `f64` to doubles and `s64` to integers. */
static void map_signed(const espl_tensor *in, espl_tensor *out, float (*f32)(float), double (*f64)(double),
                       int64_t (*s64)(int64_t)) {
    int64_t n = espl_shape_count(&in->shape);
    if (in->dtype == ESPL_F32)
        for (int64_t i = 0; i < n; i++) ((float *)out->data)[i] = f32(((const float *)in->data)[i]);
    else if (in->dtype == ESPL_F64)
        for (int64_t i = 0; i < n; i++) ((double *)out->data)[i] = f64(((const double *)in->data)[i]);
    else
        for (int64_t i = 0; i < n; i++) {
            int64_t x;
            espl__load_s64(in->dtype, espl__at(in->data, in->dtype, i), 0, 1, &x);
            x = s64(x);
            espl__store_s64(in->dtype, &x, 1, espl__at_mut(out->data, in->dtype, i));
        }
}

static float relu_f32(float x) { return x < 0 ? 0.0f : x; }
static double relu_f64(double x) { return x < 0 ? 0.0 : x; }
static int64_t relu_s64(int64_t x) { return x < 0 ? 0 : x; }
static float neg_f32(float x) { return -x; }
static double neg_f64(double x) { return -x; }
static int64_t neg_s64(int64_t x) { return (int64_t)(0 - (uint64_t)x); }
static int64_t abs_s64(int64_t x) { return x < 0 ? neg_s64(x) : x; }
static double sign_f64(double x) { return x > 0 ? 1.0 : x < 0 ? -1.0 : x; }
static int64_t sign_s64(int64_t x) { return (x > 0) - (x < 0); }

#define DEFINE_SIGNED(Name, first, f32, f64, s64)                                            \
    static void eval_##Name(const espl__node *node, const espl_tensor *in, espl_tensor *out, \
                            void *scratch) {                                                 \
        (void)node, (void)scratch;                                                           \
        map_signed(&in[0], &out[0], f32, f64, s64);                                          \
    }                                                                                        \
    DEFINE_OP(Name, first, infer_signed, eval_##Name)
DEFINE_SIGNED(Relu, 6, relu_f32, relu_f64, relu_s64)
DEFINE_SIGNED(Neg, 6, neg_f32, neg_f64, neg_s64)
DEFINE_SIGNED(Abs, 6, fabsf, fabs, abs_s64)
DEFINE_SIGNED(Sign, 9, sign, sign_f64, sign_s64)

/* --- questions about floats ------------------------------------------------------------------ */

static espl_status infer_question(const espl__node *node, espl_diag *diag) {
    espl_status status;
    ESPL_TRY(espl__op_begin(node, diag));
    ESPL_TRY(espl__check_dtype(node, 0, ESPL__T_FLOAT | ESPL__T(E4M3) | ESPL__T(E5M2), diag));
    status = espl__set_like_input(node, ESPL_BOOL, diag);
done:
    return status;
}

static void eval_is_nan(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)node, (void)scratch;
    for (int64_t i = 0, n = espl_shape_count(&in[0].shape); i < n; i++) {
        double x;
        espl__load_f64(in[0].dtype, espl__at(in[0].data, in[0].dtype, i), 0, 1, &x);
        ((uint8_t *)out[0].data)[i] = x != x;
    }
}

static void eval_is_inf(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)scratch;
    bool positive = espl__attr_int(node, "detect_positive", 1) != 0;
    bool negative = espl__attr_int(node, "detect_negative", 1) != 0;
    for (int64_t i = 0, n = espl_shape_count(&in[0].shape); i < n; i++) {
        double x;
        espl__load_f64(in[0].dtype, espl__at(in[0].data, in[0].dtype, i), 0, 1, &x);
        ((uint8_t *)out[0].data)[i] =
            (positive && x == (double)INFINITY) || (negative && x == -(double)INFINITY);
    }
}

#define DEFINE_QUESTION(Name, first, eval_fn)                  \
    const espl__op espl__op_##Name = {.name = #Name,           \
                                      .domain = "",            \
                                      .min_inputs = 1,         \
                                      .max_inputs = 1,         \
                                      .min_outputs = 1,        \
                                      .max_outputs = 1,        \
                                      .since = first,          \
                                      .until = 21,             \
                                      .infer = infer_question, \
                                      .eval = eval_fn};
DEFINE_QUESTION(IsNaN, 9, eval_is_nan)
DEFINE_QUESTION(IsInf, 10, eval_is_inf)
