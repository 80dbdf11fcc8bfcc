/* exp and its kin in the vector words: the formulas of eltwise.inc.h, operation by operation. The last vector
 * of a row may be a part, so that short rows cost no more than they have. The work is bound by the number of
 * operations: chains of several vectors side by side gain nothing. */

static INLINE vf polynomial(vf x, const float *c, int degree) {
    vf p = vf_set1(c[0]);
    UNROLL
    for (int i = 1; i <= degree; i++) p = vf_fma(p, x, vf_set1(c[i]));
    return p;
}

/* exp where neither end of the range is near. */
static INLINE vf exp_within(vf x) {
    const vf n = vf_rint(vf_mul(x, vf_set1(LOG2_E)));
    const vf r = vf_fma(n, vf_set1(-LN2_LOW), vf_fma(n, vf_set1(-LN2_HIGH), x));
    const vf q = polynomial(r, exp_q, ESPL_COUNT(exp_q) - 1);
    return vf_scale(vf_add(vf_fma(vf_mul(q, r), r, r), vf_set1(1.0f)), n);
}

static INLINE vf exp_v(vf x) {
    return exp_within(vf_min(vf_set1(89.0f), vf_max(vf_set1(-104.0f), x)));
}

static INLINE vf sigmoid_v(vf x) {
    const vf one = vf_set1(1.0f), e = exp_v(vf_copysign(x, vf_set1(-1.0f)));
    return vf_div(vf_if_less(x, vf_set1(0.0f), e, one), vf_add(one, e));
}

static INLINE vf tanh_v(vf x) {
    const vf a = vf_abs(x), s = vf_mul(x, x), one = vf_set1(1.0f), two = vf_set1(2.0f);
    const vf small = vf_fma(vf_mul(x, s), polynomial(s, tanh_p, ESPL_COUNT(tanh_p) - 1), x);
    const vf large = vf_sub(one, vf_div(two, vf_add(exp_v(vf_mul(two, a)), one)));
    return vf_if_less(a, vf_set1(0.625f), small, vf_copysign(large, x));
}

static INLINE vf erf_v(vf x) {
    const vf a = vf_abs(x), one = vf_set1(1.0f);
    const vf small = vf_fma(polynomial(vf_mul(x, x), erf_p, ESPL_COUNT(erf_p) - 1), x, x);
    const vf rest = exp_within(polynomial(vf_min(vf_set1(4.0f), a), erf_q, ESPL_COUNT(erf_q) - 1));
    return vf_if_less(a, one, small, vf_copysign(vf_sub(one, rest), x));
}

static INLINE vf gelu_v(vf x) {
    const vf a = vf_min(vf_set1(64.0f), vf_abs(x));
    const vf e = exp_v(vf_mul(a, polynomial(a, gelu_q, ESPL_COUNT(gelu_q) - 1)));
    return vf_sub(vf_max(x, vf_set1(0.0f)), vf_mul(vf_mul(vf_set1(0.5f), a), e));
}

static INLINE vf gelu_tanh_v(vf x) {
    const vf u = vf_fma(vf_mul(vf_mul(vf_set1(0.044715f), x), x), x, x);
    return vf_mul(x, sigmoid_v(vf_mul(vf_set1(TWO_ROOT_2_PI), u)));
}

#define MAP(name)                                                                  \
    static void name##_f32(const float *in, float *out, int64_t n) {               \
        int64_t i = 0;                                                             \
        for (; i + VL <= n; i += VL) vf_store(out + i, name##_v(vf_load(in + i))); \
        if (i == n) return;                                                        \
        const int valid = (int)(n - i);                                            \
        vf_store_part(out + i, name##_v(vf_load_part(in + i, valid)), valid);      \
    }

static INLINE vf exp_scaled_v(const float *in, int valid, vf largest, vf scale) {
    const vf x = vf_mul(vf_sub(vf_load_part(in, valid), largest), scale), least = vf_set1(SOFTMAX_LEAST);
    return vf_if_less(x, least, vf_set1(0.0f), exp_within(vf_min(vf_set1(89.0f), vf_max(least, x))));
}

/* The sums of every 16th element go to `lane`. */
static void exp_scaled(float largest, float scale, const float *in, float *out, int64_t n,
                       float lane[LANES]) {
    const vf top = vf_set1(largest), by = vf_set1(scale), zero = vf_set1(0.0f);
    vf acc[LANES / VL];
    UNROLL
    for (int v = 0; v < LANES / VL; v++) acc[v] = zero;
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) UNROLL for (int v = 0; v < LANES / VL; v++) {
            const vf x = exp_scaled_v(in + i + v * VL, VL, top, by);
            vf_store(out + i + v * VL, x);
            acc[v] = vf_add(acc[v], x);
        }
    for (int v = 0; v < LANES / VL && (int)(n - i) > v * VL; v++) {
        const int valid = (int)(n - i) - v * VL;
        const vf x = exp_scaled_v(in + i + v * VL, valid, top, by);
        vf_store_part(out + i + v * VL, x, valid);
        acc[v] = vf_add(acc[v], vf_first(x, zero, valid));
    }
    UNROLL
    for (int v = 0; v < LANES / VL; v++) vf_store(lane + v * VL, acc[v]);
}
