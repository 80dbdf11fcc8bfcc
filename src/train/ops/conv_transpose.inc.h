/* patches[pixel][output of the group][tap] of one image and group: added to the image of outputs, or taken
 * from it. */
static void FN(spread_patches)(const spread *k, int64_t group, REAL *patches, REAL *image, bool back) {
    const espl__window *w = &k->w;
    for (int64_t p = 0; p < k->pixels; p++) {
        int64_t d = p / (w->in[1] * w->in[2]), h = p / w->in[2] % w->in[1], v = p % w->in[2], t = 0;
        REAL *patch = patches + p * k->depth;
        for (int64_t a = 0; a < w->kernel[0]; a++)
            for (int64_t b = 0; b < w->kernel[1]; b++)
                for (int64_t e = 0; e < w->kernel[2]; e++, t++) {
                    int64_t z = d * w->stride[0] + a * w->dilation[0] - w->begin[0];
                    int64_t y = h * w->stride[1] + b * w->dilation[1] - w->begin[1];
                    int64_t x = v * w->stride[2] + e * w->dilation[2] - w->begin[2];
                    bool inside =
                        z >= 0 && z < w->out[0] && y >= 0 && y < w->out[1] && x >= 0 && x < w->out[2];
                    REAL *to = image + ((z * w->out[1] + y) * w->out[2] + x) * k->outputs + group * k->each;
                    for (int64_t o = 0; o < k->each; o++)
                        if (back)
                            patch[o * k->taps + t] = inside ? to[o] : 0;
                        else if (inside)
                            to[o] += patch[o * k->taps + t];
                }
    }
}

static void FN(spread_images)(void *arg, int64_t begin, int64_t end, int thread) {
    const espl__call *c = arg;
    const spread *k = c->state;
    int64_t in = k->channels / k->groups;
    const REAL *weights = c->in[1].data, *bias = c->inputs > 2 ? c->in[2].data : NULL;
    REAL *patches = (REAL *)c->scratch + thread * k->pixels * k->depth;
    for (int64_t n = begin; n < end; n++) {
        const REAL *x = (const REAL *)c->in[0].data + n * k->pixels * k->channels;
        REAL *y = (REAL *)c->out[0].data + n * k->positions * k->outputs;
        for (int64_t i = 0; i < k->positions * k->outputs; i++) y[i] = bias ? bias[i % k->outputs] : 0;
        for (int64_t g = 0; g < k->groups; g++) {
            espl__dense_get()->FN(gemm)(false, false, k->pixels, k->depth, in, x + g * in, k->channels,
                                        weights + g * in * k->depth, k->depth, 0, patches, k->depth);
            FN(spread_patches)(k, g, patches, y, false);
        }
    }
}

/* scratch of a run: patches, dW, db */
static REAL *FN(spread_run)(const espl__call *c, int64_t run) {
    const spread *k = c->state;
    return (REAL *)c->scratch + run * (k->pixels * k->depth + k->channels * k->depth + k->outputs);
}

static void FN(gather_runs)(void *arg, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const espl__call *c = arg;
    const spread *k = c->state;
    int64_t in = k->channels / k->groups, weights = k->channels * k->depth;
    for (int64_t run = begin; run < end; run++) {
        REAL *patches = FN(spread_run)(c, run), *dw = patches + k->pixels * k->depth, *db = dw + weights;
        memset(dw, 0, (size_t)(weights + k->outputs) * sizeof(REAL));
        for (int64_t n = run * k->images / k->runs; n < (run + 1) * k->images / k->runs; n++) {
            const REAL *x = (const REAL *)c->in[0].data + n * k->pixels * k->channels;
            REAL *dy = (REAL *)c->dout[0].data + n * k->positions * k->outputs;
            REAL *dx = c->din[0].data ? (REAL *)c->din[0].data + n * k->pixels * k->channels : NULL;
            for (int64_t g = 0; g < k->groups; g++) {
                FN(spread_patches)(k, g, patches, dy, true);
                if (dx)
                    espl__dense_get()->FN(gemm)(false, true, k->pixels, in, k->depth, patches, k->depth,
                                                (const REAL *)c->in[1].data + g * in * k->depth, k->depth,
                                                c->add & 1, dx + g * in, k->channels);
                espl__dense_get()->FN(gemm)(true, false, in, k->depth, k->pixels, x + g * in, k->channels,
                                            patches, k->depth, 1, dw + g * in * k->depth, k->depth);
            }
            for (int64_t i = 0; i < k->positions; i++)
                for (int64_t o = 0; o < k->outputs; o++) db[o] += dy[i * k->outputs + o];
        }
    }
}

static void FN(spread_sums)(espl__call *c) {
    const spread *k = c->state;
    int64_t weights = k->channels * k->depth;
    for (int i = 1; i < 3 && i < c->inputs; i++) {
        REAL *d = c->din[i].data;
        if (!d) continue;
        if (!(c->add >> i & 1)) memset(d, 0, espl__tensor_bytes(&c->din[i]));
        for (int64_t run = 0; run < k->runs; run++) {
            const REAL *sums = FN(spread_run)(c, run) + k->pixels * k->depth + (i == 2 ? weights : 0);
            for (int64_t j = 0; j < (i == 1 ? weights : k->outputs); j++) d[j] += sums[j];
        }
    }
}
