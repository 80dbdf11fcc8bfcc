/* Rows of the table that are read get sums, in the order of the indices; columns are shared out to threads.
 */
static void FN(add_rows)(void *arg, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const espl__call *c = arg;
    const table *k = c->state;
    const REAL *dy = c->dout->data;
    REAL *dx = c->din->data;
    int64_t from = begin * k->inner / k->parts, to = end * k->inner / k->parts;
    for (int64_t o = 0; o < k->outer; o++)
        for (int64_t i = 0; i < k->count; i++) {
            REAL *row = dx + (o * k->rows + row_of(c, i)) * k->inner;
            const REAL *term = dy + (o * k->count + i) * k->inner;
            for (int64_t j = from; j < to; j++) row[j] += term[j];
        }
}

static void FN(copy_rows)(void *arg, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const espl__call *c = arg;
    const table *k = c->state;
    for (int64_t p = begin; p < end; p++)
        memcpy((REAL *)c->out->data + p * k->inner,
               (const REAL *)c->in->data + (p / k->count * k->rows + row_of(c, p % k->count)) * k->inner,
               (size_t)k->inner * sizeof(REAL));
}

static void FN(choose)(espl__call *c, bool back) {
    const uint8_t *condition = c->in[0].data;
    const espl_shape *shapes[3] = {&c->in[0].shape, &c->in[1].shape, &c->in[2].shape};
    REAL *y = back ? c->dout->data : c->out->data;
    for (int j = 1; back && j < 3; j++)
        if (c->din[j].data && !(c->add >> j & 1)) memset(c->din[j].data, 0, espl__tensor_bytes(&c->din[j]));
    espl__rows r;
    for (espl__rows_begin(&r, &c->out->shape, shapes, 3); !r.done; espl__rows_next(&r))
        for (int64_t i = 0; i < r.n; i++) {
            int j = condition[r.offset[0] + i * r.step[0]] ? 1 : 2;
            REAL *x = back ? c->din[j].data : c->in[j].data;
            int64_t at = r.offset[j] + i * r.step[j];
            if (!back)
                y[r.out + i] = x[at];
            else if (x)
                x[at] += y[r.out + i];
        }
}

/* Sums along lines of n elements `inner` apart, forwards or backwards, with or without the element itself. */
static void FN(cumulate)(const sums *k, const void *from, void *to, bool from_end, bool add) {
    const REAL *x = from;
    REAL *y = to;
    for (int64_t line = 0; line < k->outer * k->inner; line++) {
        int64_t base = line / k->inner * k->n * k->inner + line % k->inner;
        double sum = 0;
        for (int64_t i = 0; i < k->n; i++) {
            int64_t at = base + (from_end ? k->n - 1 - i : i) * k->inner;
            double before = sum;
            sum += (double)x[at];
            REAL v = (REAL)(k->exclusive ? before : sum);
            y[at] = add ? y[at] + v : v;
        }
    }
}

/* To the elements that were taken, by the indices of the second output. */
static void FN(give_back)(espl__call *c) {
    const sums *k = c->state;
    const REAL *dy = c->dout[0].data;
    const int64_t *from = c->out[1].data;
    REAL *dx = c->din->data;
    if (!(c->add & 1)) memset(dx, 0, espl__tensor_bytes(c->din));
    for (int64_t o = 0; dy && o < k->outer; o++)
        for (int64_t i = 0; i < k->taken * k->inner; i++)
            dx[(o * k->n + from[o * k->taken * k->inner + i]) * k->inner + i % k->inner] +=
                dy[o * k->taken * k->inner + i];
}
