/* Blocks [begin, end) of the output. */
static void FN(move_blocks)(void *arg, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const espl__call *c = arg;
    const move *k = c->state;
    const REAL *x = c->in->data;
    REAL *y = c->out->data, fill = 0;
    if (k->fill_input) fill = *(const REAL *)c->in[2].data;
    if (k->fill != 0) fill = (REAL)k->fill;
    if (k->block == 1) {
        for (int64_t i = begin; i < end; i++) y[i] = k->map[i] < 0 ? fill : x[k->map[i]];
        return;
    }
    for (int64_t i = begin; i < end; i++) {
        REAL *to = y + i * k->block;
        if (k->map[i] >= 0)
            memcpy(to, x + k->map[i], (size_t)k->block * sizeof(REAL));
        else
            for (int64_t j = 0; j < k->block; j++) to[j] = fill;
    }
}

static void FN(spread_blocks)(void *arg, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const espl__call *c = arg;
    const move *k = c->state;
    const REAL *dy = c->dout->data;
    REAL *dx = c->din->data;
    for (int64_t i = begin; i < end; i++) {
        if (k->map[i] < 0) continue;
        REAL *to = dx + k->map[i];
        const REAL *from = dy + i * k->block;
        for (int64_t j = 0; j < k->block; j++) to[j] += from[j];
    }
}

/* A permutation needs no zeroes before. */
static void FN(permute_blocks)(void *arg, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const espl__call *c = arg;
    const move *k = c->state;
    const REAL *dy = c->dout->data;
    REAL *dx = c->din->data;
    if (k->block == 1)
        for (int64_t i = begin; i < end; i++) dx[k->map[i]] = dy[i];
    else
        for (int64_t i = begin; i < end; i++)
            memcpy(dx + k->map[i], dy + i * k->block, (size_t)k->block * sizeof(REAL));
}

static void FN(scatter)(espl__call *c, const int64_t *map) {
    const REAL *dy = c->dout->data;
    REAL *dx = c->din->data;
    int64_t n = espl_shape_count(&c->out->shape);
    if (!(c->add & 1)) memset(dx, 0, espl__tensor_bytes(c->din));
    for (int64_t i = 0; i < n; i++)
        if (map[i] >= 0) dx[map[i]] += dy[i];
}
