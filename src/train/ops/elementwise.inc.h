static void FN(relu_range)(void *arg, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const espl__call *c = arg;
    const REAL *x = c->in->data;
    REAL *y = c->out->data;
    for (int64_t i = begin; i < end; i++) y[i] = x[i] > 0 ? x[i] : 0;
}

static void FN(relu_back)(void *arg, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const espl__call *c = arg;
    const REAL *y = c->out->data, *dy = c->dout->data;
    REAL *dx = c->din->data;
    if (c->add & 1)
        for (int64_t i = begin; i < end; i++) dx[i] += y[i] > 0 ? dy[i] : 0;
    else
        for (int64_t i = begin; i < end; i++) dx[i] = y[i] > 0 ? dy[i] : 0;
}

static void FN(add)(espl__call *c) {
    const espl_shape *shapes[2] = {&c->in[0].shape, &c->in[1].shape};
    const REAL *a = c->in[0].data, *b = c->in[1].data;
    REAL *y = c->out->data;
    espl__rows r;
    for (espl__rows_begin(&r, &c->out->shape, shapes, 2); !r.done; espl__rows_next(&r))
        for (int64_t i = 0; i < r.n; i++)
            y[r.out + i] = a[r.offset[0] + i * r.step[0]] + b[r.offset[1] + i * r.step[1]];
}

/* The gradient of a broadcast operand is the sum over what it was spread to. */
static void FN(add_back)(espl__call *c) {
    const REAL *dy = c->dout->data;
    for (int k = 0; k < 2; k++) {
        REAL *dx = c->din[k].data;
        if (!dx) continue;
        if (!(c->add >> k & 1)) memset(dx, 0, (size_t)espl_shape_count(&c->din[k].shape) * sizeof(REAL));
        const espl_shape *shape = &c->din[k].shape;
        espl__rows r;
        for (espl__rows_begin(&r, &c->out->shape, &shape, 1); !r.done; espl__rows_next(&r)) {
            REAL sum = 0;
            if (r.step[0])
                for (int64_t i = 0; i < r.n; i++) dx[r.offset[0] + i] += dy[r.out + i];
            else {
                for (int64_t i = 0; i < r.n; i++) sum += dy[r.out + i];
                dx[r.offset[0]] += sum;
            }
        }
    }
}
