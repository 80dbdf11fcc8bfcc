/* Sums of a block of rows are made in REAL, and blocks are added up in double. */
enum { FN(BLOCK) = 64 };

static void FN(moments_run)(void *arg, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const espl__call *c = arg;
    const norm *k = c->state;
    const REAL *x = c->in[0].data, *shift = c->in[3].data;
    int64_t n = k->channels;
    for (int64_t run = begin; run < end; run++) {
        double *sums = k->sums + run * 2 * n;
        memset(sums, 0, (size_t)n * 2 * sizeof *sums);
        int64_t from = run * k->rows / k->runs, to = (run + 1) * k->rows / k->runs;
        for (int64_t r0 = from; r0 < to; r0 += FN(BLOCK)) {
            int64_t r1 = ESPL_MIN(to, r0 + FN(BLOCK));
            for (int64_t i0 = 0; i0 < n; i0 += 16) {
                int64_t m = ESPL_MIN(16, n - i0);
                REAL a[16] = {0}, b[16] = {0};
                for (int64_t r = r0; r < r1; r++)
                    for (int64_t i = 0; i < m; i++) {
                        REAL d = x[r * n + i0 + i] - shift[i0 + i];
                        a[i] += d;
                        b[i] += d * d;
                    }
                for (int64_t i = 0; i < m; i++) {
                    sums[i0 + i] += (double)a[i];
                    sums[n + i0 + i] += (double)b[i];
                }
            }
        }
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

static void FN(apply_run)(void *arg, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const espl__call *c = arg;
    const norm *k = c->state;
    int64_t n = k->channels;
    const REAL *a = c->scratch, *b = a + n, *residual = c->inputs > 5 ? c->in[5].data : NULL;
    for (int64_t r = begin; r < end; r++) {
        const REAL *x = (const REAL *)c->in[0].data + r * n;
        REAL *y = (REAL *)c->out[0].data + r * n;
        if (residual)
            for (int64_t i = 0; i < n; i++) y[i] = x[i] * a[i] + b[i] + residual[r * n + i];
        else
            for (int64_t i = 0; i < n; i++) y[i] = x[i] * a[i] + b[i];
        if (k->relu)
            for (int64_t i = 0; i < n; i++) y[i] = y[i] < 0 ? 0 : y[i];
    }
}

static void FN(norm_forward)(espl__call *c) {
    const norm *k = c->state;
    if (!c->training)
        FN(running_statistics)(c);
    else if (!c->again)
        FN(batch_statistics)(c);
    const REAL *scale = c->in[1].data, *bias = c->in[2].data, *mean = k->saved, *inv = mean + k->channels;
    REAL *a = c->scratch, *b = a + k->channels;
    for (int64_t i = 0; i < k->channels; i++) {
        a[i] = scale[i] * inv[i];
        b[i] = bias[i] - mean[i] * a[i];
    }
    espl__parallel_for(c->pool, k->rows, FN(apply_run), c);
}

static void FN(terms_run)(void *arg, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const espl__call *c = arg;
    const norm *k = c->state;
    int64_t n = k->channels;
    const REAL *x = c->in[0].data, *y = c->out[0].data, *dy = c->dout->data, *mean = k->saved;
    for (int64_t run = begin; run < end; run++) {
        double *sums = k->sums + run * 2 * n;
        memset(sums, 0, (size_t)n * 2 * sizeof *sums);
        int64_t from = run * k->rows / k->runs, to = (run + 1) * k->rows / k->runs;
        for (int64_t r0 = from; r0 < to; r0 += FN(BLOCK)) {
            int64_t r1 = ESPL_MIN(to, r0 + FN(BLOCK));
            for (int64_t i0 = 0; i0 < n; i0 += 16) {
                int64_t m = ESPL_MIN(16, n - i0);
                REAL a[16] = {0}, b[16] = {0};
                for (int64_t r = r0; r < r1; r++)
                    for (int64_t i = 0; i < m; i++) {
                        int64_t at = r * n + i0 + i;
                        REAL dz = k->relu && !(y[at] > 0) ? 0 : dy[at];
                        a[i] += dz;
                        b[i] += dz * (x[at] - mean[i0 + i]);
                    }
                for (int64_t i = 0; i < m; i++) {
                    sums[i0 + i] += (double)a[i];
                    sums[n + i0 + i] += (double)b[i];
                }
            }
        }
    }
}

/* scratch: dx = p dz - q - t (x - mean). */
static void FN(back_run)(void *arg, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const espl__call *c = arg;
    const norm *k = c->state;
    int64_t n = k->channels;
    const REAL *p = c->scratch, *q = p + n, *t = q + n, *mean = k->saved;
    REAL *residual = c->inputs > 5 ? c->din[5].data : NULL;
    bool add = c->add & 1, add_residual = c->add >> 5 & 1;
    for (int64_t r = begin; r < end; r++)
        for (int64_t i = 0; i < n; i++) {
            int64_t at = r * n + i;
            REAL dz = ((const REAL *)c->dout->data)[at];
            if (k->relu && !(((const REAL *)c->out[0].data)[at] > 0)) dz = 0;
            if (residual) residual[at] = add_residual ? residual[at] + dz : dz;
            REAL *dx = c->din[0].data;
            if (!dx) continue;
            REAL d = p[i] * dz - q[i] - t[i] * (((const REAL *)c->in[0].data)[at] - mean[i]);
            dx[at] = add ? dx[at] + d : d;
        }
}

static void FN(norm_backward)(espl__call *c) {
    norm *k = c->state;
    int64_t n = k->channels;
    espl__parallel_for(c->pool, k->runs, FN(terms_run), c);
    /* Scale and bias have the sums of this rank; the optimiser adds the ranks' gradients. */
    const REAL *scale = c->in[1].data, *inv = (REAL *)k->saved + n;
    REAL *dscale = c->din[1].data, *dbias = c->din[2].data, *p = c->scratch, *q = p + n, *t = q + n;
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
