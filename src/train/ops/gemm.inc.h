/* Y = beta * C, broadcast. */
static void FN(gemm_start)(espl__call *c) {
    const product *p = c->state;
    const REAL *bias = c->inputs > 2 ? c->in[2].data : NULL;
    REAL *y = c->out->data;
    if (!bias) return;
    const espl_shape *operand = &c->in[2].shape;
    espl__rows r;
    for (espl__rows_begin(&r, &c->out->shape, &operand, 1); !r.done; espl__rows_next(&r))
        for (int64_t i = 0; i < r.n; i++) y[r.out + i] = (REAL)p->beta * bias[r.offset[0] + i * r.step[0]];
}

/* C = A B or C += A B of one pair of matrices, on the pool if there is only one pair. */
static void FN(one)(espl__pool *pool, bool ta, bool tb, int64_t m, int64_t n, int64_t k, const REAL *a,
                    const REAL *b, bool add, REAL *y) {
    int64_t lda = ta ? m : k, ldb = tb ? k : n;
    if (pool)
        FN(espl__gemm)(pool, ta, tb, m, n, k, a, lda, b, ldb, add, y, n);
    else
        espl__dense_get()->FN(gemm)(ta, tb, m, n, k, a, lda, b, ldb, add, y, n);
}

static void FN(product_range)(void *arg, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const espl__call *c = arg;
    const product *p = c->state;
    const REAL *a = c->in[0].data, *b = c->in[1].data;
    REAL *y = c->out->data;
    for (int64_t i = begin; i < end; i++)
        FN(one)(NULL, false, false, p->m, p->n, p->k, a + p->a[i], b + p->b[i], false, y + i * p->m * p->n);
}

static void FN(product_forward)(espl__call *c) {
    const product *p = c->state;
    if (p->batches != 1) {
        espl__parallel_for(c->pool, p->batches, FN(product_range), c);
        return;
    }
    bool bias = c->inputs > 2 && c->in[2].data;
    REAL *y = c->out->data;
    if (p->alpha != 1 && bias) /* alpha (A B) + y = alpha (A B + y / alpha) */
        for (int64_t i = 0; i < p->m * p->n; i++) y[i] /= (REAL)p->alpha;
    FN(one)(c->pool, p->ta, p->tb, p->m, p->n, p->k, c->in[0].data, c->in[1].data, bias, y);
    if (p->alpha != 1)
        for (int64_t i = 0; i < p->m * p->n; i++) y[i] *= (REAL)p->alpha;
}

/* dA and dB of batches [begin, end); batches that share a matrix add to it. */
static void FN(sides)(const espl__call *c, const REAL *dy, int64_t i, bool first_a, bool first_b,
                      espl__pool *pool) {
    const product *p = c->state;
    const REAL *a = (const REAL *)c->in[0].data + p->a[i], *b = (const REAL *)c->in[1].data + p->b[i];
    REAL *da = c->din[0].data, *db = c->din[1].data;
    bool add_a = (c->add & 1) || !first_a, add_b = (c->add >> 1 & 1) || !first_b;
    if (da && !p->ta)
        FN(one)(pool, false, !p->tb, p->m, p->k, p->n, dy, b, add_a, da + p->a[i]);
    else if (da) /* A is [k][m]: dA = op(B) dC' */
        FN(one)(pool, p->tb, true, p->k, p->m, p->n, b, dy, add_a, da + p->a[i]);
    if (db && !p->tb)
        FN(one)(pool, !p->ta, false, p->k, p->n, p->m, a, dy, add_b, db + p->b[i]);
    else if (db) /* B is [n][k]: dB = dC' op(A) */
        FN(one)(pool, true, p->ta, p->n, p->k, p->m, dy, a, add_b, db + p->b[i]);
}

static void FN(matmul_range)(void *arg, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const espl__call *c = arg;
    const product *p = c->state;
    for (int64_t i = begin; i < end; i++)
        FN(sides)(c, (const REAL *)c->dout->data + i * p->m * p->n, i, true, true, NULL);
}

static bool FN(shares)(const espl__call *c) {
    const product *p = c->state;
    return espl_shape_count(&c->in[0].shape) < p->batches * p->m * p->k ||
           espl_shape_count(&c->in[1].shape) < p->batches * p->k * p->n;
}

static void FN(matmul_backward)(espl__call *c) {
    const product *p = c->state;
    const REAL *dy = c->dout->data;
    if (p->batches > 1 && !FN(shares)(c)) {
        espl__parallel_for(c->pool, p->batches, FN(matmul_range), c);
        return;
    }
    for (int k = 0; k < 2 && p->batches != 1;
         k++) { /* sums over batches start from nothing, or what is there */
        if (c->din[k].data && !(c->add >> k & 1)) memset(c->din[k].data, 0, espl__tensor_bytes(&c->din[k]));
    }
    for (int64_t i = 0; i < p->batches; i++)
        FN(sides)(c, dy + i * p->m * p->n, i, p->batches == 1, p->batches == 1, c->pool);
}

/* Columns [begin, end) of a vector's gradient: rows in order, whatever the number of threads. */
static void FN(bias_columns)(void *arg, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const espl__call *c = arg;
    const product *p = c->state;
    int64_t rows = espl_shape_count(&c->out->shape) / ESPL_MAX(1, p->n);
    REAL *db = c->din[2].data;
    for (int64_t r = 0; r < rows; r++) {
        const REAL *dy = (const REAL *)c->dout->data + r * p->n;
        for (int64_t i = begin; i < end; i++) db[i] += (REAL)p->beta * dy[i];
    }
}

static void FN(bias_gradient)(espl__call *c) {
    const product *p = c->state;
    const REAL *dy = c->dout->data;
    REAL *db = c->din[2].data;
    if (!(c->add >> 2 & 1)) memset(db, 0, espl__tensor_bytes(&c->din[2]));
    const espl_shape *operand = &c->din[2].shape;
    if (operand->rank == 1 && operand->dim[0] == p->n) {
        espl__parallel_for(p->n < 64 ? NULL : c->pool, p->n, FN(bias_columns), c);
        return;
    }
    espl__rows r;
    for (espl__rows_begin(&r, &c->out->shape, &operand, 1); !r.done; espl__rows_next(&r))
        for (int64_t i = 0; i < r.n; i++) db[r.offset[0] + i * r.step[0]] += (REAL)p->beta * dy[r.out + i];
}

static void FN(gemm_backward)(espl__call *c) {
    const product *p = c->state;
    const REAL *dy = c->dout->data;
    if (c->inputs > 2 && c->din[2].data) FN(bias_gradient)(c);
    if (p->alpha != 1) {
        REAL *scaled = c->scratch;
        for (int64_t i = 0; i < p->m * p->n; i++) scaled[i] = (REAL)p->alpha * dy[i];
        dy = scaled;
    }
    FN(sides)(c, dy, 0, true, true, c->pool);
}

static void FN(linear_backward)(espl__call *c) {
    if (c->din[2].data) FN(bias_gradient)(c);
    FN(matmul_backward)(c);
}
