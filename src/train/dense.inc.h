/* Plain C: rows of C in turn, k in blocks so that the rows of B that are read stay in the cache. */

static void FN(gemm)(bool ta, bool tb, int64_t m, int64_t n, int64_t k, const REAL *a, int64_t lda,
                     const REAL *b, int64_t ldb, REAL beta, REAL *c, int64_t ldc) {
    enum { BLOCK = 64 };
    if (beta == 0)
        for (int64_t i = 0; i < m; i++) memset(c + i * ldc, 0, (size_t)n * sizeof(REAL));
    for (int64_t k0 = 0; k0 < k; k0 += BLOCK) {
        int64_t k1 = ESPL_MIN(k, k0 + BLOCK);
        for (int64_t i = 0; i < m; i++) {
            REAL *row = c + i * ldc;
            if (!tb) {
                for (int64_t p = k0; p < k1; p++) {
                    REAL x = ta ? a[p * lda + i] : a[i * lda + p];
                    const REAL *y = b + p * ldb;
                    for (int64_t j = 0; j < n; j++) row[j] += x * y[j];
                }
            } else {
                for (int64_t j = 0; j < n; j++) {
                    const REAL *y = b + j * ldb;
                    REAL sum = 0;
                    for (int64_t p = k0; p < k1; p++) sum += (ta ? a[p * lda + i] : a[i * lda + p]) * y[p];
                    row[j] += sum;
                }
            }
        }
    }
}

typedef struct FN(product) {
    bool ta, tb, wide; /* wide: columns are shared out */
    int64_t m, n, k, lda, ldb, ldc, chunks;
    const REAL *a, *b;
    REAL beta, *c;
} FN(product);

/* Whole tiles to each, as far as that goes. */
static int64_t FN(share)(int64_t i, int64_t chunks, int64_t count) {
    enum { TILES = 32 };
    return i == chunks ? count : i * (count / TILES) / chunks * TILES;
}

static void FN(product_parts)(void *arg, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const FN(product) *p = arg;
    int64_t i = FN(share)(begin, p->chunks, p->wide ? p->n : p->m);
    int64_t size = FN(share)(end, p->chunks, p->wide ? p->n : p->m) - i;
    int64_t row = p->wide ? 0 : i, column = p->wide ? i : 0;
    espl__dense_get()->FN(gemm)(p->ta, p->tb, p->wide ? p->m : size, p->wide ? size : p->n, p->k,
                                p->a + (p->ta ? row : row * p->lda), p->lda,
                                p->b + (p->tb ? column * p->ldb : column), p->ldb, p->beta,
                                p->c + row * p->ldc + column, p->ldc);
}

void FN(espl__gemm)(espl__pool *pool, bool ta, bool tb, int64_t m, int64_t n, int64_t k, const REAL *a,
                    int64_t lda, const REAL *b, int64_t ldb, REAL beta, REAL *c, int64_t ldc) {
    FN(product) p = {ta, tb, n > m, m, n, k, lda, ldb, ldc, espl__pool_threads(pool), a, b, beta, c};
    if (ESPL_MAX(m, n) < 64 * p.chunks || m * n * k < 1 << 15) p.chunks = 1;
    espl__parallel_for(pool, p.chunks, FN(product_parts), &p);
}
