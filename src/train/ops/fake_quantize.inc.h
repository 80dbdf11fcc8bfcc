/* The part of a run that one scale is for: elements [begin, end) of it. */
typedef struct FN(part) {
    int64_t begin, end;
    REAL scale, zero, low, high;
} FN(part);

static FN(part) FN(part_at)(const espl__call *c, int64_t at, int64_t end) {
    const fake *k = c->state;
    int64_t channel = at / k->inner % k->channels;
    REAL scale = M(fabs)(((const REAL *)c->in[1].data)[channel]);
    return (FN(part)){at,
                      ESPL_MIN(end, (at / k->inner + 1) * k->inner),
                      scale > 0 ? scale : (REAL)1e-30,
                      (REAL)k->zero[channel],
                      (REAL)k->low,
                      (REAL)k->high};
}

/* y, less the zero point and not yet times the scale */
static inline ESPL__INLINE REAL FN(step_of)(const FN(part) * p, REAL x) {
    REAL q = M(rint)(x / p->scale) + p->zero;
    q = q < p->low ? p->low : q > p->high ? p->high : q;
    return q - p->zero;
}

ESPL__CLONES static void FN(forward_part)(const FN(part) * p, const REAL *x, REAL *y) {
    FN(part) local = *p;
    for (int64_t i = local.begin; i < local.end; i++) y[i] = FN(step_of)(&local, x[i]) * local.scale;
}

static void FN(forward_runs)(void *arg, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const espl__call *c = arg;
    const fake *k = c->state;
    int64_t n = espl_shape_count(&c->in->shape);
    for (int64_t at = begin * n / k->runs; at < end * n / k->runs;) {
        FN(part) p = FN(part_at)(c, at, end * n / k->runs);
        FN(forward_part)(&p, c->in[0].data, c->out[0].data);
        at = p.end;
    }
}

/* dx may be NULL. Returns the sum for the scale, of blocks so that f32 loses nothing. */
ESPL__CLONES static double FN(backward_part)(const FN(part) * p, const REAL *x, const REAL *dy, bool add,
                                             REAL *dx) {
    enum { BLOCK = 512 };
    FN(part) local = *p;
    double sum = 0;
    for (int64_t at = local.begin; at < local.end; at += BLOCK) {
        REAL terms[BLOCK];
        int64_t n = ESPL_MIN(BLOCK, local.end - at);
        for (int64_t i = 0; i < n; i++) {
            REAL v = x[at + i] / local.scale, q = M(rint)(v) + local.zero;
            bool inside = q >= local.low && q <= local.high;
            REAL step = FN(step_of)(&local, x[at + i]), d = dy[at + i];
            terms[i] = d * (inside ? step - v : step);
            if (dx) dx[at + i] = (add ? dx[at + i] : 0) + (inside ? d : 0);
        }
        for (int64_t i = 0; i < n; i++) sum += (double)terms[i];
    }
    return sum;
}

static void FN(backward_runs)(void *arg, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const espl__call *c = arg;
    const fake *k = c->state;
    int64_t n = espl_shape_count(&c->in->shape);
    for (int64_t run = begin; run < end; run++)
        for (int64_t at = run * n / k->runs; at < (run + 1) * n / k->runs;) {
            FN(part) p = FN(part_at)(c, at, (run + 1) * n / k->runs);
            k->sums[run * k->channels + at / k->inner % k->channels] +=
                FN(backward_part)(&p, c->in[0].data, c->dout[0].data, c->add & 1, c->din[0].data);
            at = p.end;
        }
}

static void FN(scale_gradient)(espl__call *c) {
    const fake *k = c->state;
    const REAL *scale = c->in[1].data;
    REAL *ds = c->din[1].data;
    for (int64_t i = 0; i < k->channels; i++) {
        double sum = 0;
        for (int64_t run = 0; run < k->runs; run++) sum += k->sums[run * k->channels + i];
        REAL d = (REAL)(k->factor * (scale[i] < 0 ? -sum : sum));
        ds[i] = (c->add >> 1 & 1 ? ds[i] : 0) + d;
    }
}
