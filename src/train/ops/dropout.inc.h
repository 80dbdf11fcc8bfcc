/* y = x / (1 - ratio) where the draw lets it through, else 0: forward with x, backward with the gradient. */
static void FN(drop_blocks)(void *arg, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const drop *d = arg;
    const espl__call *c = d->call;
    int64_t n = espl_shape_count(&c->in->shape);
    const REAL *from = d->back ? c->dout->data : c->in->data;
    REAL *to = d->back ? c->din->data : c->out->data;
    REAL factor = (REAL)(1 / (1 - d->ratio));
    float ratio = (float)d->ratio;
    bool add = d->back && (c->add & 1);
    for (int64_t b = begin; b < end; b++) {
        float draw[BLOCK];
        espl__rng rng = espl__rng_at(c->seed, (uint64_t)b, 0);
        int64_t at = b * BLOCK, m = ESPL_MIN(BLOCK, n - at);
        for (int64_t i = 0; i < m; i++) draw[i] = espl__rng_float(&rng);
        for (int64_t i = 0; i < m; i++) {
            REAL x = draw[i] < ratio ? 0 : from[at + i] * factor;
            to[at + i] = add ? to[at + i] + x : x;
        }
        for (int64_t i = 0; d->mask && i < m; i++) d->mask[at + i] = draw[i] >= ratio;
    }
}
