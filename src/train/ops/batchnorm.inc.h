/* Sixteen channels at a time, as the widest registers have them in f32. */
enum { FN(LANES) = 16, FN(BLOCK) = 64 };
typedef REAL FN(lanes) __attribute__((vector_size(16 * sizeof(REAL))));
typedef BITS FN(masks) __attribute__((vector_size(16 * sizeof(REAL))));

/* m of them; the others count as zero. */
static inline ESPL__INLINE void FN(load)(FN(lanes) * v, const REAL *from, int64_t m) {
    if (m == FN(LANES)) {
        memcpy(v, from, sizeof *v);
        return;
    }
    *v = (FN(lanes)){0};
    memcpy(v, from, (size_t)m * sizeof(REAL));
}
static inline ESPL__INLINE void FN(store)(const FN(lanes) * v, REAL *to, int64_t m) {
    if (m == FN(LANES))
        memcpy(to, v, sizeof *v);
    else
        memcpy(to, v, (size_t)m * sizeof(REAL));
}

static inline ESPL__INLINE void FN(add_sums)(double *sums, const FN(lanes) * terms, int64_t m) {
    for (int64_t i = 0; i < m; i++) sums[i] += (double)(*terms)[i];
}

/* Sums of x - shift and of their squares over a block of rows, made in REAL; blocks are added up in double.
 */
ESPL__CLONES static void FN(moments)(const REAL *x, const REAL *shift, int64_t n, int64_t rows,
                                     double *sums) {
    for (int64_t i = 0; i < n; i += FN(LANES)) {
        int64_t m = ESPL_MIN(FN(LANES), n - i);
        FN(lanes) s, d, a = {0}, b = {0};
        FN(load)(&s, shift + i, m);
        for (int64_t r = 0; r < rows; r++) {
            FN(load)(&d, x + r * n + i, m);
            d -= s;
            a += d;
            b += d * d;
        }
        FN(add_sums)(sums + i, &a, m);
        FN(add_sums)(sums + n + i, &b, m);
    }
}

static void FN(moments_run)(void *arg, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const espl__call *c = arg;
    const norm *k = c->state;
    int64_t n = k->channels;
    for (int64_t run = begin; run < end; run++) {
        double *sums = k->sums + run * 2 * n;
        memset(sums, 0, (size_t)n * 2 * sizeof *sums);
        int64_t from = run * k->rows / k->runs, to = (run + 1) * k->rows / k->runs;
        for (int64_t r = from; r < to; r += FN(BLOCK)) FN(moments)
        ((const REAL *)c->in[0].data + r * n, c->in[3].data, n, ESPL_MIN(FN(BLOCK), to - r), sums);
    }
}

/* saved: mean and 1 / sqrt(var + epsilon). */
static void FN(batch_statistics)(espl__call *c) {
    norm *k = c->state;
    int64_t n = k->channels;
    espl__parallel_for(c->pool, k->runs, FN(moments_run), c);
    add_up(c);
    REAL *mean = k->saved, *inv = mean + n, *running_mean = c->in[3].data, *running_var = c->in[4].data;
    double count = k->row[2 * n];
    for (int64_t i = 0; i < n; i++) {
        double d = k->row[i] / count, var = ESPL_MAX(0, k->row[n + i] / count - d * d);
        double m = (double)running_mean[i] + d;
        mean[i] = (REAL)m;
        inv[i] = (REAL)(1 / sqrt(var + k->epsilon));
        double unbiased = count > 1 ? var * count / (count - 1) : var;
        running_mean[i] = (REAL)(k->momentum * (double)running_mean[i] + (1 - k->momentum) * m);
        running_var[i] = (REAL)(k->momentum * (double)running_var[i] + (1 - k->momentum) * unbiased);
    }
}

static void FN(running_statistics)(espl__call *c) {
    const norm *k = c->state;
    REAL *mean = k->saved, *inv = mean + k->channels;
    const REAL *running_mean = c->in[3].data, *running_var = c->in[4].data;
    for (int64_t i = 0; i < k->channels; i++) {
        mean[i] = running_mean[i];
        inv[i] = (REAL)(1 / sqrt((double)running_var[i] + k->epsilon));
    }
}

/* y = x a + b + residual, and no less than 0 if relu says so; NaN stays. */
ESPL__CLONES static void FN(apply)(const REAL *x, const REAL *residual, const REAL *a, const REAL *b,
                                   bool relu, int64_t n, int64_t rows, REAL *y) {
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < n; i += FN(LANES)) {
            int64_t m = ESPL_MIN(FN(LANES), n - i), at = r * n + i;
            FN(lanes) v, w;
            FN(load)(&v, x + at, m);
            FN(load)(&w, a + i, m);
            v *= w;
            FN(load)(&w, b + i, m);
            v += w;
            if (residual) {
                FN(load)(&w, residual + at, m);
                v += w;
            }
            if (relu) v = (FN(lanes))((FN(masks))v & ~(v < 0));
            FN(store)(&v, y + at, m);
        }
}

static void FN(apply_run)(void *arg, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const espl__call *c = arg;
    const norm *k = c->state;
    int64_t n = k->channels, at = begin * n;
    const REAL *a = c->scratch, *residual = c->inputs > 5 ? c->in[5].data : NULL;
    FN(apply)
    ((const REAL *)c->in[0].data + at, residual ? residual + at : NULL, a, a + n, k->relu, n, end - begin,
     (REAL *)c->out[0].data + at);
}

/* scratch: a and b of y = x a + b. */
static void FN(coefficients)(const espl__call *c) {
    const norm *k = c->state;
    const REAL *scale = c->in[1].data, *bias = c->in[2].data, *mean = k->saved, *inv = mean + k->channels;
    REAL *a = c->scratch, *b = a + k->channels;
    for (int64_t i = 0; i < k->channels; i++) {
        a[i] = scale[i] * inv[i];
        b[i] = bias[i] - mean[i] * a[i];
    }
}

static void FN(norm_forward)(espl__call *c) {
    const norm *k = c->state;
    if (!c->training)
        FN(running_statistics)(c);
    else if (!c->again) /* else they are there from the first time */
        FN(batch_statistics)(c);
    FN(coefficients)(c);
    espl__parallel_for(c->pool, k->rows, FN(apply_run), c);
}

/* What the passes of backward walk over. The Relu's mask comes from y, or, where nothing was added to it,
 * from y = x a + b computed as forward did: a walk less over memory. */
typedef struct FN(walk) {
    const REAL *x, *y, *dy, *a, *b, *mean;
    REAL *dz; /* NULL or where dz is written */
    bool relu;
    int64_t n;
} FN(walk);

static inline ESPL__INLINE void FN(gradient)(const FN(walk) * w, const FN(lanes) * x, const FN(lanes) * a,
                                             const FN(lanes) * b, int64_t at, int64_t m, FN(lanes) * dz) {
    FN(load)(dz, w->dy + at, m);
    if (!w->relu) return;
    FN(lanes) y;
    if (w->y)
        FN(load)(&y, w->y + at, m);
    else
        y = *x * *a + *b;
    *dz = (FN(lanes))((FN(masks)) * dz & (y > 0));
}

/* Sums of dz and of dz (x - mean) over a block of rows. */
ESPL__CLONES static void FN(terms)(const FN(walk) * w, int64_t begin, int64_t rows, double *sums) {
    int64_t n = w->n;
    for (int64_t i = 0; i < n; i += FN(LANES)) {
        int64_t m = ESPL_MIN(FN(LANES), n - i);
        FN(lanes) x, dz, a, b, mean, s = {0}, t = {0};
        FN(load)(&a, w->a + i, m);
        FN(load)(&b, w->b + i, m);
        FN(load)(&mean, w->mean + i, m);
        for (int64_t r = begin; r < begin + rows; r++) {
            int64_t at = r * n + i;
            FN(load)(&x, w->x + at, m);
            FN(gradient)(w, &x, &a, &b, at, m, &dz);
            s += dz;
            t += dz * (x - mean);
            if (w->dz) FN(store)(&dz, w->dz + at, m);
        }
        FN(add_sums)(sums + i, &s, m);
        FN(add_sums)(sums + n + i, &t, m);
    }
}

static FN(walk) FN(walk_of)(const espl__call *c) {
    const norm *k = c->state;
    const REAL *a = c->scratch;
    bool residual = c->inputs > 5 && c->in[5].shape.rank;
    return (FN(walk)){c->in[0].data,
                      residual ? c->out[0].data : NULL,
                      c->dout->data,
                      a,
                      a + k->channels,
                      k->saved,
                      NULL,
                      k->relu,
                      k->channels};
}

/* The residual's gradient is dz: written on the first walk if it is not added to. */
static REAL *FN(residual_gradient)(const espl__call *c, bool add) {
    return c->inputs > 5 && (c->add >> 5 & 1) == add ? c->din[5].data : NULL;
}

static void FN(terms_run)(void *arg, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const espl__call *c = arg;
    const norm *k = c->state;
    FN(walk) w = FN(walk_of)(c);
    w.dz = FN(residual_gradient)(c, false);
    for (int64_t run = begin; run < end; run++) {
        double *sums = k->sums + run * 2 * w.n;
        memset(sums, 0, (size_t)w.n * 2 * sizeof *sums);
        int64_t from = run * k->rows / k->runs, to = (run + 1) * k->rows / k->runs;
        for (int64_t r = from; r < to; r += FN(BLOCK)) FN(terms)(&w, r, ESPL_MIN(FN(BLOCK), to - r), sums);
    }
}

/* dx = p dz - q - t (x - mean). */
ESPL__CLONES static void FN(back)(const FN(walk) * w, const REAL *p, const REAL *q, const REAL *t,
                                  int64_t begin, int64_t end, REAL *dx, bool add, REAL *add_dz) {
    int64_t n = w->n;
    for (int64_t r = begin; r < end; r++)
        for (int64_t i = 0; i < n; i += FN(LANES)) {
            int64_t m = ESPL_MIN(FN(LANES), n - i), at = r * n + i;
            FN(lanes) x, dz, u, v;
            FN(load)(&x, w->x + at, m);
            FN(load)(&u, w->a + i, m);
            FN(load)(&v, w->b + i, m);
            FN(gradient)(w, &x, &u, &v, at, m, &dz);
            if (add_dz) {
                FN(load)(&u, add_dz + at, m);
                u += dz;
                FN(store)(&u, add_dz + at, m);
            }
            if (!dx) continue;
            FN(load)(&u, p + i, m);
            FN(load)(&v, q + i, m);
            dz = dz * u - v;
            FN(load)(&u, t + i, m);
            FN(load)(&v, w->mean + i, m);
            dz -= u * (x - v);
            if (add) {
                FN(load)(&u, dx + at, m);
                dz += u;
            }
            FN(store)(&dz, dx + at, m);
        }
}

/* scratch: a, b, then p, q, t. */
static void FN(back_run)(void *arg, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const espl__call *c = arg;
    FN(walk) w = FN(walk_of)(c);
    const REAL *p = (const REAL *)c->scratch + 2 * w.n;
    const REAL *dz = FN(residual_gradient)(c, false);
    if (dz) {
        w.dy = dz;
        w.relu = false;
    }
    FN(back)
    (&w, p, p + w.n, p + 2 * w.n, begin, end, c->din[0].data, c->add & 1, FN(residual_gradient)(c, true));
}

static void FN(norm_backward)(espl__call *c) {
    norm *k = c->state;
    int64_t n = k->channels;
    FN(coefficients)(c);
    espl__parallel_for(c->pool, k->runs, FN(terms_run), c);
    /* Scale and bias have the sums of this rank; the optimiser adds the ranks' gradients. */
    const REAL *scale = c->in[1].data, *inv = (const REAL *)k->saved + n;
    REAL *dscale = c->din[1].data, *dbias = c->din[2].data, *p = (REAL *)c->scratch + 2 * n, *q = p + n,
         *t = q + n;
    const espl__sync *sync = c->sync;
    c->sync = NULL;
    add_up(c);
    for (int64_t i = 0; i < n; i++) {
        REAL s = (REAL)(k->row[n + i] * (double)inv[i]);
        if (dscale) dscale[i] = c->add >> 1 & 1 ? dscale[i] + s : s;
        if (dbias) dbias[i] = (REAL)k->row[i] + (c->add >> 2 & 1 ? dbias[i] : 0);
    }
    c->sync = sync;
    if (sync) c->status = sync->sum(sync->arg, k->row, 2 * n + 1);
    double count = k->row[2 * n];
    for (int64_t i = 0; i < n; i++) {
        double f = (double)scale[i] * (double)inv[i];
        p[i] = (REAL)f;
        q[i] = (REAL)(f * k->row[i] / count);
        t[i] = (REAL)(f * (double)inv[i] * (double)inv[i] * k->row[n + i] / count);
    }
    espl__parallel_for(c->pool, k->rows, FN(back_run), c);
}
