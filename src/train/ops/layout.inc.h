#if REAL_IS_FLOAT
typedef struct turning {
    int64_t images, channels, spatial;
    const void *from;
    void *to;
    bool to_last, add;
} turning;
#endif

/* to[j][i] = from[i][j] for rows of a matrix, in tiles that stay in the cache. */
static void FN(transpose)(const REAL *from, REAL *to, int64_t rows, int64_t columns, bool add) {
    enum { TILE = 16 };
    for (int64_t i0 = 0; i0 < rows; i0 += TILE)
        for (int64_t j0 = 0; j0 < columns; j0 += TILE)
            for (int64_t j = j0; j < ESPL_MIN(columns, j0 + TILE); j++)
                for (int64_t i = i0; i < ESPL_MIN(rows, i0 + TILE); i++) {
                    REAL x = from[i * columns + j];
                    to[j * rows + i] = add ? to[j * rows + i] + x : x;
                }
}

static void FN(images)(void *arg, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const turning *t = arg;
    int64_t size = t->channels * t->spatial;
    int64_t rows = t->to_last ? t->channels : t->spatial, columns = t->to_last ? t->spatial : t->channels;
    for (int64_t n = begin; n < end; n++)
        FN(transpose)((const REAL *)t->from + n * size, (REAL *)t->to + n * size, rows, columns, t->add);
}
