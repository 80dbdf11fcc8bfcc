/* Weights of the graph [O][I][taps] as [group][tap][I][O of the group], or back with `add`. */
static void FN(pack)(const conv *k, const REAL *w, REAL *packed) {
    int64_t in = k->channels / k->groups, out = k->outputs / k->groups;
    for (int64_t o = 0; o < k->outputs; o++)
        for (int64_t i = 0; i < in; i++)
            for (int64_t t = 0; t < k->taps; t++)
                packed[(o / out) * k->depth * out + (t * in + i) * out + o % out] =
                    w[(o * in + i) * k->taps + t];
}

static void FN(unpack)(const conv *k, const REAL *packed, REAL *w, bool add) {
    int64_t in = k->channels / k->groups, out = k->outputs / k->groups;
    for (int64_t o = 0; o < k->outputs; o++)
        for (int64_t i = 0; i < in; i++)
            for (int64_t t = 0; t < k->taps; t++) {
                REAL *to = &w[(o * in + i) * k->taps + t];
                REAL x = packed[(o / out) * k->depth * out + (t * in + i) * out + o % out];
                *to = add ? *to + x : x;
            }
}

/* Walks the patches of one image and group: copies pixels into them, or adds them back to the pixels. */
static void FN(patches)(const conv *k, int64_t group, REAL *image, REAL *patch, bool back) {
    const espl__window *w = &k->w;
    int64_t in = k->channels / k->groups;
    for (int64_t d = 0; d < w->out[0]; d++)
        for (int64_t h = 0; h < w->out[1]; h++)
            for (int64_t v = 0; v < w->out[2]; v++)
                for (int64_t a = 0; a < w->kernel[0]; a++)
                    for (int64_t b = 0; b < w->kernel[1]; b++)
                        for (int64_t e = 0; e < w->kernel[2]; e++, patch += in) {
                            int64_t z = d * w->stride[0] - w->begin[0] + a * w->dilation[0];
                            int64_t y = h * w->stride[1] - w->begin[1] + b * w->dilation[1];
                            int64_t x = v * w->stride[2] - w->begin[2] + e * w->dilation[2];
                            bool inside =
                                z >= 0 && z < w->in[0] && y >= 0 && y < w->in[1] && x >= 0 && x < w->in[2];
                            REAL *pixel =
                                image + ((z * w->in[1] + y) * w->in[2] + x) * k->channels + group * in;
                            if (!back && inside)
                                memcpy(patch, pixel, (size_t)in * sizeof(REAL));
                            else if (!back)
                                memset(patch, 0, (size_t)in * sizeof(REAL));
                            else if (inside)
                                for (int64_t i = 0; i < in; i++) pixel[i] += patch[i];
                        }
}

static void FN(forward_run)(void *arg, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const espl__call *c = arg;
    const conv *k = c->state;
    int64_t out = k->outputs / k->groups;
    const REAL *packed = c->scratch, *bias = c->inputs > 2 ? c->in[2].data : NULL;
    for (int64_t run = begin; run < end; run++) {
        REAL *patch = (REAL *)c->scratch + k->depth * k->outputs + run * k->positions * k->depth;
        for (int64_t n = run * k->images / k->runs; n < (run + 1) * k->images / k->runs; n++) {
            REAL *x = (REAL *)c->in[0].data + n * k->pixels * k->channels;
            REAL *y = (REAL *)c->out[0].data + n * k->positions * k->outputs;
            for (int64_t g = 0; g < k->groups; g++) {
                FN(patches)(k, g, x, patch, false);
                espl__dense_get()->FN(gemm)(false, false, k->positions, out, k->depth, patch, k->depth,
                                            packed + g * k->depth * out, out, 0, y + g * out, k->outputs);
            }
            for (int64_t i = 0; bias && i < k->positions; i++)
                for (int64_t o = 0; o < k->outputs; o++) y[i * k->outputs + o] += bias[o];
        }
    }
}

static void FN(conv_forward)(espl__call *c) {
    const conv *k = c->state;
    FN(pack)(k, c->in[1].data, c->scratch);
    espl__parallel_for(c->pool, k->runs, FN(forward_run), c);
}

/* scratch: packed weights, then for each run patches, dW and db. */
static REAL *FN(run_scratch)(const espl__call *c, int64_t run) {
    const conv *k = c->state;
    int64_t weights = k->depth * k->outputs;
    return (REAL *)c->scratch + weights + run * (k->positions * k->depth + weights + k->outputs);
}

static void FN(weight_terms)(const espl__call *c, const REAL *dy, REAL *patch, int64_t group) {
    const conv *k = c->state;
    int64_t out = k->outputs / k->groups;
    REAL *dw = patch + k->positions * k->depth + group * k->depth * out;
    espl__dense_get()->FN(gemm)(true, false, k->depth, out, k->positions, patch, k->depth, dy + group * out,
                                k->outputs, 1, dw, out);
}

static void FN(backward_run)(void *arg, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const espl__call *c = arg;
    const conv *k = c->state;
    int64_t out = k->outputs / k->groups, size = k->pixels * k->channels;
    for (int64_t run = begin; run < end; run++) {
        REAL *patch = FN(run_scratch)(c, run), *dw = patch + k->positions * k->depth,
             *db = dw + k->depth * k->outputs;
        memset(dw, 0, (size_t)(k->depth * k->outputs + k->outputs) * sizeof(REAL));
        for (int64_t n = run * k->images / k->runs; n < (run + 1) * k->images / k->runs; n++) {
            const REAL *dy = (const REAL *)c->dout[0].data + n * k->positions * k->outputs;
            REAL *dx = c->din[0].data ? (REAL *)c->din[0].data + n * size : NULL;
            if (dx && !(c->add & 1)) memset(dx, 0, (size_t)size * sizeof(REAL));
            for (int64_t g = 0; g < k->groups; g++) {
                if (c->din[1].data) {
                    FN(patches)(k, g, (REAL *)c->in[0].data + n * size, patch, false);
                    FN(weight_terms)(c, dy, patch, g);
                }
                if (!dx) continue;
                espl__dense_get()->FN(gemm)(false, true, k->positions, k->depth, out, dy + g * out,
                                            k->outputs, (const REAL *)c->scratch + g * k->depth * out, out, 0,
                                            patch, k->depth);
                FN(patches)(k, g, dx, patch, true);
            }
            for (int64_t i = 0; i < k->positions; i++)
                for (int64_t o = 0; o < k->outputs; o++) db[o] += dy[i * k->outputs + o];
        }
    }
}

static void FN(conv_backward)(espl__call *c) {
    const conv *k = c->state;
    int64_t weights = k->depth * k->outputs;
    FN(pack)(k, c->in[1].data, c->scratch);
    espl__parallel_for(c->pool, k->runs, FN(backward_run), c);
    REAL *sum = FN(run_scratch)(c, 0) + k->positions * k->depth;
    for (int64_t run = 1; run < k->runs; run++) {
        const REAL *term = FN(run_scratch)(c, run) + k->positions * k->depth;
        for (int64_t i = 0; i < weights + k->outputs; i++) sum[i] += term[i];
    }
    if (c->din[1].data) FN(unpack)(k, sum, c->din[1].data, c->add >> 1 & 1);
    REAL *db = c->inputs > 2 ? c->din[2].data : NULL;
    for (int64_t o = 0; db && o < k->outputs; o++) db[o] = sum[weights + o] + (c->add >> 2 & 1 ? db[o] : 0);
}

/* db by itself: each run's sum in scratch, added up in order. */
#if REAL_IS_FLOAT
static void FN(bias_run)(void *arg, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const espl__call *c = arg;
    const conv *k = c->state;
    for (int64_t run = begin; run < end; run++) {
        REAL *db = (REAL *)c->scratch + run * k->outputs;
        memset(db, 0, (size_t)k->outputs * sizeof(REAL));
        for (int64_t i = run * k->images / k->runs * k->positions;
             i < (run + 1) * k->images / k->runs * k->positions; i++) {
            const REAL *dy = (const REAL *)c->dout[0].data + i * k->outputs;
            for (int64_t o = 0; o < k->outputs; o++) db[o] += dy[o];
        }
    }
}

static void FN(bias_gradient)(espl__call *c) {
    const conv *k = c->state;
    const REAL *sums = c->scratch;
    REAL *db = c->din[2].data;
    espl__parallel_for(c->pool, k->runs, FN(bias_run), c);
    if (!(c->add >> 2 & 1)) memset(db, 0, (size_t)k->outputs * sizeof(REAL));
    for (int64_t run = 0; run < k->runs; run++)
        for (int64_t o = 0; o < k->outputs; o++) db[o] += sums[run * k->outputs + o];
}
#endif
