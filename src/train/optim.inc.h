/* The updates of one piece of the flat vectors; see real.h. */

static void FN(sgd)(const update *u, int64_t first, int64_t n, bool decays) {
    REAL *w = (REAL *)u->weights + first, *b = u->vectors[0] ? (REAL *)u->vectors[0] + first : NULL;
    const REAL *g = (const REAL *)u->gradients + first;
    const REAL rate = (REAL)u->rate, decay = (REAL)(decays ? u->o.weight_decay : 0);
    const REAL momentum = (REAL)u->o.momentum, scale = (REAL)u->scale;
    if (!b) {
        for (int64_t i = 0; i < n; i++) w[i] -= rate * (g[i] * scale + decay * w[i]);
        return;
    }
    const REAL own = u->o.nesterov ? 1 : 0, kept = u->o.nesterov ? momentum : 1;
    for (int64_t i = 0; i < n; i++) {
        REAL d = g[i] * scale + decay * w[i];
        b[i] = momentum * b[i] + d;
        w[i] -= rate * (own * d + kept * b[i]);
    }
}

/* m and v estimate the gradient's mean and square; both start at 0, which 1 - beta^t makes up for. */
static void FN(adam)(const update *u, int64_t first, int64_t n, bool decays) {
    REAL *w = (REAL *)u->weights + first;
    REAL *m = (REAL *)u->vectors[0] + first, *v = (REAL *)u->vectors[1] + first;
    const REAL *g = (const REAL *)u->gradients + first;
    const bool decoupled = u->o.kind == ESPL__OPTIM_ADAMW;
    const double decay = decays ? u->o.weight_decay : 0;
    const REAL b1 = (REAL)u->o.beta1, b2 = (REAL)u->o.beta2, a1 = (REAL)(1 - u->o.beta1);
    const REAL a2 = (REAL)(1 - u->o.beta2), rate = (REAL)(u->rate / (1 - pow(u->o.beta1, (double)u->steps)));
    const REAL root = (REAL)(1 / sqrt(1 - pow(u->o.beta2, (double)u->steps))), eps = (REAL)u->o.epsilon;
    const REAL added = (REAL)(decoupled ? 0 : decay), shrink = (REAL)(decoupled ? 1 - u->rate * decay : 1);
    const REAL scale = (REAL)u->scale;
    for (int64_t i = 0; i < n; i++) {
        REAL d = g[i] * scale + added * w[i];
        m[i] = b1 * m[i] + a1 * d;
        v[i] = b2 * v[i] + a2 * d * d;
        w[i] = w[i] * shrink - rate * (m[i] / (M(sqrt)(v[i]) * root + eps));
    }
}

static void FN(average)(const update *u, int64_t first, int64_t n) {
    REAL *a = (REAL *)u->average + first;
    const REAL *w = (const REAL *)u->weights + first, part = (REAL)(1 - u->o.ema);
    for (int64_t i = 0; i < n; i++) a[i] += part * (w[i] - a[i]);
}

static void FN(piece)(const update *u, int64_t first, int64_t n, bool decays) {
    if (u->o.kind == ESPL__OPTIM_SGD)
        FN(sgd)(u, first, n, decays);
    else
        FN(adam)(u, first, n, decays);
    if (u->average) FN(average)(u, first, n);
}

static double FN(square)(const void *vector, int64_t first, int64_t n) {
    const REAL *x = (const REAL *)vector + first;
    double lanes[4] = {0, 0, 0, 0}, sum = 0;
    int64_t i = 0;
    for (; i + 4 <= n; i += 4)
        for (int k = 0; k < 4; k++) lanes[k] += (double)x[i + k] * (double)x[i + k];
    for (; i < n; i++) sum += (double)x[i] * (double)x[i];
    return sum + (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]);
}
