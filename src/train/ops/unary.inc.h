/* Values and slopes of n elements; a and b are the function's parameters. */

#include "train/ops/maths.inc.h"

static REAL FN(sign)(REAL x) {
    return x > 0 ? 1 : x < 0 ? -1 : x;
}

#define SLOPE(Name, saves, value, slope)                                                                   \
    static void FN(slope_##Name)(const unary *k, const REAL *from, const REAL *to, REAL *out, int64_t n) { \
        REAL a = (REAL)k->a, b = (REAL)k->b;                                                               \
        for (int64_t i = 0; i < n; i++) {                                                                  \
            REAL x = (saves)&IN ? from[i] : 0, y = (saves)&OUT ? to[i] : 0;                                \
            (void)a, (void)b, (void)x, (void)y;                                                            \
            out[i] = (slope);                                                                              \
        }                                                                                                  \
    }
UNARY_LIST(SLOPE)
#undef SLOPE

/* d erf(x) = 2 / sqrt(pi) exp(-x^2) dx */
static void FN(slope_Erf)(const unary *k, const REAL *x, const REAL *y, REAL *out, int64_t n) {
    (void)k, (void)y;
    for (int64_t i = 0; i < n; i++) out[i] = -x[i] * x[i];
    FN(exp_of)(out, out, n);
    for (int64_t i = 0; i < n; i++) out[i] *= (REAL)1.12837916709551257390;
}

/* y = x P(x), P the normal distribution's: y' = P(x) + x p(x), p(x) = exp(-x^2 / 2) / sqrt(2 pi). With tanh:
 * y = x (1 + t) / 2, t = tanh(c (x + 0.044715 x^3)), c = sqrt(2 / pi). */
static void FN(slope_Gelu)(const unary *k, const REAL *x, const REAL *y, REAL *out, int64_t n) {
    REAL t[CHUNK];
    (void)y;
    if (k->by_tanh) {
        for (int64_t i = 0; i < n; i++)
            t[i] = (REAL)0.79788456080286535588 * (x[i] + (REAL)0.044715 * x[i] * x[i] * x[i]);
        FN(tanh_of)(t, t, n);
        for (int64_t i = 0; i < n; i++) {
            REAL inner = (REAL)0.79788456080286535588 * (1 + (REAL)(3 * 0.044715) * x[i] * x[i]);
            out[i] = (REAL)0.5 * (1 + t[i]) + (REAL)0.5 * x[i] * (1 - t[i] * t[i]) * inner;
        }
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        t[i] = x[i] * (REAL)0.70710678118654752440;
        out[i] = (REAL)-0.5 * x[i] * x[i];
    }
    FN(erf_of)(t, t, n);
    FN(exp_of)(out, out, n);
    for (int64_t i = 0; i < n; i++)
        out[i] = (REAL)0.5 * (1 + t[i]) + x[i] * out[i] * (REAL)0.39894228040143267794;
}

/* y = x t, t = tanh(softplus(x)): y' = t + x (1 - t^2) sigmoid(x). With w = e^x, t = (w^2 + 2w) / (w^2 + 2w +
 * 2); beyond 20 both t and the sigmoid are 1. */
static void FN(slope_Mish)(const unary *k, const REAL *x, const REAL *y, REAL *out, int64_t n) {
    (void)k, (void)y;
    for (int64_t i = 0; i < n; i++) out[i] = x[i] > 20 ? 20 : x[i];
    FN(exp_of)(out, out, n);
    for (int64_t i = 0; i < n; i++) {
        REAL w = out[i], v = w * (w + 2), t = v / (v + 2);
        out[i] = t + x[i] * (1 - t * t) * (w / (1 + w));
    }
}

static void FN(unary_back)(void *arg, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const espl__call *c = arg;
    const unary *k = c->state;
    const REAL *x = c->in->data, *y = c->out->data, *dy = c->dout->data;
    REAL *dx = c->din->data, slope[CHUNK];
    for (int64_t i = begin; i < end; i += CHUNK) {
        int64_t n = ESPL_MIN(CHUNK, end - i);
        k->row->FN(slope)(k, k->row->saves & IN ? x + i : NULL, k->row->saves & OUT ? y + i : NULL, slope, n);
        if (c->add & 1)
            for (int64_t j = 0; j < n; j++) dx[i + j] += dy[i + j] * slope[j];
        else
            for (int64_t j = 0; j < n; j++) dx[i + j] = dy[i + j] * slope[j];
    }
}

/* Not by slopes: what is cut off passes nothing, whatever comes. NaN is not cut off. */
static void FN(relu_forward)(void *arg, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const espl__call *c = arg;
    const REAL *x = c->in->data;
    REAL *y = c->out->data;
    for (int64_t i = begin; i < end; i++) y[i] = x[i] < 0 ? 0 : x[i];
}

static void FN(relu_back)(void *arg, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const espl__call *c = arg;
    const REAL *y = c->out->data, *dy = c->dout->data;
    REAL *dx = c->din->data;
    if (c->add & 1)
        for (int64_t i = begin; i < end; i++) dx[i] += y[i] <= 0 ? 0 : dy[i];
    else
        for (int64_t i = begin; i < end; i++) dx[i] = y[i] <= 0 ? 0 : dy[i];
}

/* Limits that are absent lie at infinity. PyTorch's convention: on the limits the gradient passes. */
static REAL FN(limit)(const espl__call *c, int input, const char *attribute, REAL absent) {
    if (c->node->opset < 11) return (REAL)espl__attr_float(c->node, attribute, (float)absent);
    return input < c->inputs && c->in[input].data ? *(const REAL *)c->in[input].data : absent;
}

static void FN(clip_forward)(void *arg, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const espl__call *c = arg;
    REAL lo = FN(limit)(c, 1, "min", -(REAL)INFINITY), hi = FN(limit)(c, 2, "max", (REAL)INFINITY);
    const REAL *x = c->in->data;
    REAL *y = c->out->data;
    for (int64_t i = begin; i < end; i++) {
        REAL v = x[i] < lo ? lo : x[i];
        y[i] = v > hi ? hi : v;
    }
}

static void FN(clip_back)(void *arg, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const espl__call *c = arg;
    REAL lo = FN(limit)(c, 1, "min", -(REAL)INFINITY), hi = FN(limit)(c, 2, "max", (REAL)INFINITY);
    const REAL *x = c->in->data, *dy = c->dout->data;
    REAL *dx = c->din->data;
    for (int64_t i = begin; i < end; i++) {
        REAL g = x[i] < lo || x[i] > hi ? 0 : dy[i];
        dx[i] = c->add & 1 ? dx[i] + g : g;
    }
}

/* What lies below the lower limit moves with it, and what lies above the upper one. */
static void FN(clip_limits)(espl__call *c) {
    int64_t n = espl_shape_count(&c->in->shape);
    REAL lo = FN(limit)(c, 1, "min", -(REAL)INFINITY), hi = FN(limit)(c, 2, "max", (REAL)INFINITY);
    const REAL *x = c->in->data, *dy = c->dout->data;
    double below = 0, above = 0;
    for (int64_t i = 0; i < n; i++) {
        if (x[i] > hi || lo > hi)
            above += (double)dy[i];
        else if (x[i] < lo)
            below += (double)dy[i];
    }
    for (int i = 1; i < 3 && i < c->inputs; i++) {
        REAL *d = c->din[i].data, sum = (REAL)(i == 1 ? below : above);
        if (d) *d = c->add >> i & 1 ? *d + sum : sum;
    }
}
