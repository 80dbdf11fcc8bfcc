/* Functions of one input. In f32 the forward pass is the operator's own, in parts on the pool. */
#include <math.h>

#include "kernels/kernels.h"
#include "train/ops/loops.h"

enum { CHUNK = 256 };
enum { IN = 1, OUT = 2 }; /* what a slope is computed from */

typedef struct unary unary;
typedef struct unary_row {
    int saves;
    double (*value)(const unary *k, double x);
    void (*slope_f32)(const unary *k, const float *x, const float *y, float *out, int64_t n);
    void (*slope_f64)(const unary *k, const double *x, const double *y, double *out, int64_t n);
} unary_row;

struct unary {
    const unary_row *row;
    double a, b;
    bool by_tanh;
};

/* To [0, 1]; NaN stays. */
static double cut(double x) {
    return x < 0 ? 0 : x > 1 ? 1 : x;
}

/* X(Name, what the slope is computed from, value, slope) */
#define UNARY_LIST(X)                                                              \
    X(LeakyRelu, IN, x >= 0 ? x : a * x, x > 0 ? 1 : a)                            \
    X(Elu, IN | OUT, x >= 0 ? x : a * (exp(x) - 1), x > 0 ? 1 : y + a)             \
    X(Celu, IN | OUT, x >= 0 ? x : a * (exp(x / a) - 1), x > 0 ? 1 : y / a + 1)    \
    X(Selu, IN | OUT, b * (x >= 0 ? x : a * (exp(x) - 1)), x > 0 ? b : y + a * b)  \
    X(ThresholdedRelu, IN, x > a ? x : 0, x > a ? 1 : 0)                           \
    X(Shrink, IN, x<-a ? x + b : x> a ? x - b : 0, x<-a || x> a ? 1 : 0)           \
    X(HardSigmoid, OUT, cut(a *x + b), y > 0 && y < 1 ? a : 0)                     \
    X(HardSwish, IN, x *cut(x / 6 + 0.5), x<-3 ? 0 : x> 3 ? 1 : x / 3 + (REAL)0.5) \
    X(Sigmoid, OUT, 1 / (1 + exp(-x)), y * (1 - y))                                \
    X(Tanh, OUT, tanh(x), 1 - y * y)                                               \
    X(Exp, OUT, exp(x), y)                                                         \
    X(Log, IN, log(x), 1 / x)                                                      \
    X(Sqrt, OUT, sqrt(x), (REAL)0.5 / y)                                           \
    X(Reciprocal, OUT, 1 / x, -y * y)                                              \
    X(Softplus, OUT, (x > 0 ? x : 0) + log1p(exp(-fabs(x))), -M(expm1)(-y))        \
    X(Softsign, IN, x / (1 + fabs(x)), 1 / ((1 + M(fabs)(x)) * (1 + M(fabs)(x))))  \
    X(Neg, 0, -x, -1)                                                              \
    X(Abs, IN, fabs(x), FN(sign)(x))                                               \
    X(Sin, IN, sin(x), M(cos)(x))                                                  \
    X(Cos, IN, cos(x), -M(sin)(x))                                                 \
    X(Tan, OUT, tan(x), 1 + y * y)                                                 \
    X(Asin, IN, asin(x), 1 / M(sqrt)(1 - x * x))                                   \
    X(Acos, IN, acos(x), -1 / M(sqrt)(1 - x * x))                                  \
    X(Atan, IN, atan(x), 1 / (1 + x * x))                                          \
    X(Sinh, IN, sinh(x), M(cosh)(x))                                               \
    X(Cosh, IN, cosh(x), M(sinh)(x))                                               \
    X(Asinh, IN, asinh(x), 1 / M(sqrt)(x * x + 1))                                 \
    X(Acosh, IN, acosh(x), 1 / M(sqrt)(x * x - 1))                                 \
    X(Atanh, IN, atanh(x), 1 / (1 - x * x))

#define REAL_FILE "train/ops/unary.inc.h"
#include "train/real.h"

#define VALUE(Name, saves, value, slope)                   \
    static double value_##Name(const unary *k, double x) { \
        double a = k->a, b = k->b;                         \
        (void)a, (void)b;                                  \
        return (value);                                    \
    }
UNARY_LIST(VALUE)

static double value_Erf(const unary *k, double x) {
    (void)k;
    return erf(x);
}
static double value_Gelu(const unary *k, double x) {
    if (k->by_tanh) return 0.5 * x * (1 + tanh(0.79788456080286535588 * (x + 0.044715 * x * x * x)));
    return 0.5 * x * (1 + erf(x * 0.70710678118654752440));
}
static double value_Mish(const unary *k, double x) {
    return x * tanh(value_Softplus(k, x));
}

/* X(Name, default of a, of b): those that have parameters. */
#define PARAMETER_LIST(X)             \
    X(LeakyRelu, 0.01f, 0)            \
    X(Elu, 1, 0)                      \
    X(Celu, 1, 0)                     \
    X(Selu, 1.67326319f, 1.05070102f) \
    X(ThresholdedRelu, 1, 0)          \
    X(HardSigmoid, 0.2f, 0.5f)

static void read_parameters(const espl__node *node, unary *k) {
#define READ(Name, first, second)                                                                      \
    if (espl__node_is(node, #Name)) {                                                                  \
        k->a = (double)espl__attr_float(node, "alpha", first);                                         \
        k->b = (double)espl__attr_float(node, espl__node_is(node, "Selu") ? "gamma" : "beta", second); \
    }
    PARAMETER_LIST(READ)
    if (espl__node_is(node, "Shrink")) {
        k->a = (double)espl__attr_float(node, "lambd", 0.5f);
        k->b = (double)espl__attr_float(node, "bias", 0);
    }
    k->by_tanh = strcmp(espl__attr_string(node, "approximate", "none"), "tanh") == 0;
}

static espl_status prepare_row(espl__call *c, const unary_row *row, espl_diag *diag) {
    espl_status status = espl__state(c, sizeof(unary), diag);
    if (status != ESPL_OK) return status;
    unary *k = c->state;
    k->row = row;
    read_parameters(c->node, k);
    return ESPL_OK;
}

static void forward_range(void *arg, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const espl__call *c = arg;
    const unary *k = c->state;
    if (c->real == ESPL_F64) {
        const double *x = c->in->data;
        double *y = c->out->data;
        for (int64_t i = begin; i < end; i++) y[i] = k->row->value(k, x[i]);
        return;
    }
    espl_shape part = {1, {end - begin}};
    espl_tensor in = {ESPL_F32, part, (float *)c->in->data + begin},
                out = {ESPL_F32, part, (float *)c->out->data + begin};
    c->node->op->eval(c->node, &in, &out, NULL);
}

static void spread(espl__call *c, espl__range_fn fn) {
    int64_t n = espl_shape_count(&c->out->shape);
    espl__spread(c, n, n, fn, c);
}
static void forward(espl__call *c) {
    spread(c, forward_range);
}
static void backward(espl__call *c) {
    spread(c, ESPL__REAL(c, unary_back));
}

#define DEFINE(Name, saves)                                                                            \
    static const unary_row row_##Name = {saves, value_##Name, slope_##Name##_f32, slope_##Name##_f64}; \
    static espl_status prepare_##Name(espl__call *c, espl_diag *diag) {                                \
        return prepare_row(c, &row_##Name, diag);                                                      \
    }                                                                                                  \
    const espl__grad espl__grad_##Name = {.op = #Name,                                                 \
                                          .inputs = 1,                                                 \
                                          .reads_in = (saves)&IN ? 1 : 0,                              \
                                          .reads_out = (saves)&OUT ? 1 : 0,                            \
                                          .layout = espl__layout_any,                                  \
                                          .prepare = prepare_##Name,                                   \
                                          .forward = forward,                                          \
                                          .backward = backward,                                        \
                                          .release = espl__state_free};
#define DEFINE_LISTED(Name, saves, value, slope) DEFINE(Name, saves)
UNARY_LIST(DEFINE_LISTED)
DEFINE(Erf, IN)
DEFINE(Gelu, IN)
DEFINE(Mish, IN)

static void relu_forward(espl__call *c) {
    spread(c, ESPL__REAL(c, relu_forward));
}
static void relu_backward(espl__call *c) {
    spread(c, ESPL__REAL(c, relu_back));
}
const espl__grad espl__grad_Relu = {.op = "Relu",
                                    .inputs = 1,
                                    .reads_out = 1,
                                    .layout = espl__layout_any,
                                    .forward = relu_forward,
                                    .backward = relu_backward};

static void clip_forward(espl__call *c) {
    spread(c, ESPL__REAL(c, clip_forward));
}
static void clip_backward(espl__call *c) {
    if (c->din[0].data) spread(c, ESPL__REAL(c, clip_back));
    if (c->inputs > 1) ESPL__REAL(c, clip_limits)(c);
}
const espl__grad espl__grad_Clip = {.op = "Clip",
                                    .inputs = 7,
                                    .reads_in = 7,
                                    .layout = espl__layout_any,
                                    .forward = clip_forward,
                                    .backward = clip_backward};
