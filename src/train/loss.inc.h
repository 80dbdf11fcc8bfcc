/* Rows of losses; see real.h. Each writes its gradient times `scale` if g is not NULL, and returns its loss.
 */

/* Sixteen at a time: the compiler makes vectors of it. */
static REAL FN(largest)(const REAL *z, int64_t n) {
    REAL m[16];
    int64_t i = 0;
    for (int k = 0; k < 16; k++) m[k] = z[0];
    for (; i + 16 <= n; i += 16)
        for (int k = 0; k < 16; k++) m[k] = z[i + k] > m[k] ? z[i + k] : m[k];
    for (; i < n; i++) m[0] = z[i] > m[0] ? z[i] : m[0];
    for (int k = 1; k < 16; k++) m[0] = m[k] > m[0] ? m[k] : m[0];
    return m[0];
}

/* e = exp(z / t - max), and returns the sum; in f32 the runtime's kernel makes e = softmax(z / t), whose
 * largest element is 1 / sum: then *scale is the sum that e was divided by, else 1. */
static double FN(exponentials)(const REAL *z, REAL max, REAL inverse_t, int64_t n, REAL *e, double *scale) {
    double sum = 0;
    *scale = 1;
#if REAL_IS_FLOAT
    espl__kernels_get()->softmax_f32(inverse_t, z, e, n);
    REAL largest = FN(largest)(e, n);
    if (largest > 0) {
        (void)max;
        return *scale = 1 / (double)largest;
    }
#endif
    for (int64_t i = 0; i < n; i++) {
        e[i] = M(exp)((z[i] - max) * inverse_t);
        sum += (double)e[i];
    }
    return sum;
}

/* -(1 - s) log p[y] - s / n sum log p, p = softmax(z); its gradient p - (1 - s) [y] - s / n. */
static double FN(cross_entropy)(const REAL *z, int64_t y, int64_t n, double s, double scale, REAL *e,
                                REAL *g) {
    REAL max = FN(largest)(z, n);
    double done, sum = FN(exponentials)(z, max, 1, n, e, &done), total = 0, log_sum = (double)max + log(sum);
    if (s > 0)
        for (int64_t i = 0; i < n; i++) total += (double)z[i];
    if (g) {
        REAL factor = (REAL)(scale * done / sum), even = (REAL)(scale * s / (double)n);
        for (int64_t i = 0; i < n; i++) g[i] = e[i] * factor - even;
        g[y] -= (REAL)(scale * (1 - s));
    }
    return log_sum - (1 - s) * (double)z[y] - (s > 0 ? s * total / (double)n : 0);
}

/* t^2 KL(q || p) with q = softmax(teacher / t), p = softmax(z / t); its gradient t (p - q). Adds to g. */
static double FN(divergence)(const REAL *z, const REAL *teacher, int64_t n, double t, double scale, REAL *e,
                             REAL *g) {
    REAL inverse = (REAL)(1 / t), zmax = FN(largest)(z, n), tmax = FN(largest)(teacher, n);
    double zsum = 0, tsum = 0, kl = 0;
    for (int64_t i = 0; i < n; i++) {
        e[i] = M(exp)((z[i] - zmax) * inverse);
        zsum += (double)e[i];
        tsum += (double)M(exp)((teacher[i] - tmax) * inverse);
    }
    double shift = log(zsum) - log(tsum);
    for (int64_t i = 0; i < n; i++) {
        double q = (double)M(exp)((teacher[i] - tmax) * inverse) / tsum;
        kl += q * (((double)teacher[i] - (double)tmax - (double)z[i] + (double)zmax) / t + shift);
        if (g) g[i] += (REAL)(scale * t * ((double)e[i] / zsum - q));
    }
    return t * t * kl;
}

static double FN(squares)(const REAL *z, const REAL *target, int64_t n, double scale, REAL *g) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = (double)z[i] - (double)target[i];
        sum += d * d;
        if (g) g[i] = (REAL)(2 * scale * d / (double)n);
    }
    return sum / (double)n;
}

/* The label has the largest score, and none before it has as much. */
static bool FN(is_correct)(const REAL *z, int64_t y, int64_t n) {
    if (!(z[y] >= FN(largest)(z, n))) return false;
    for (int64_t i = 0; i < y; i++)
        if (z[i] == z[y]) return false;
    return true;
}

static void FN(row)(const job *j, int64_t r, REAL *e) {
    const espl__loss *l = j->loss;
    int64_t n = l->classes, y = j->labels ? j->labels[r] : -1;
    const REAL *z = (const REAL *)j->output + r * n,
               *target = j->target ? (const REAL *)j->target + r * n : NULL;
    REAL *g = j->gradient ? (REAL *)j->gradient + r * n : NULL;
    l->row_loss[r] = 0;
    l->row_correct[r] = false;
    if (g) memset(g, 0, (size_t)n * sizeof *g);
    if (!counts(l, j->labels, r, j->rows)) return;
    double hard = l->options.kind == ESPL__LOSS_DISTILLATION ? l->options.hard : 1;
    if (l->options.kind == ESPL__LOSS_MSE) {
        l->row_loss[r] = FN(squares)(z, target, n, j->scale, g);
        return;
    }
    if (y >= 0 && hard > 0)
        l->row_loss[r] = hard * FN(cross_entropy)(z, y, n, l->options.smoothing, hard * j->scale, e, g);
    if (l->options.kind == ESPL__LOSS_DISTILLATION)
        l->row_loss[r] +=
            (1 - hard) * FN(divergence)(z, target, n, l->options.temperature, (1 - hard) * j->scale, e, g);
    l->row_correct[r] = y >= 0 && FN(is_correct)(z, y, n);
}

static void FN(range)(void *arg, int64_t begin, int64_t end, int thread) {
    const job *j = arg;
    REAL *e = (REAL *)j->loss->scratch + thread * j->loss->classes;
    for (int64_t r = begin; r < end; r++) FN(row)(j, r, e);
}
