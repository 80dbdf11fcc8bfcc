/* Sums in eight lanes, so that they are the same on every machine and quick. Included by the .inc.h files of
 * this folder, once for each kind of reals. */

/* Sum of a[i] b[i]; b NULL: of a[i]. */
static inline REAL FN(dot)(const REAL *a, const REAL *b, int64_t n) {
    REAL lanes[8] = {0};
    int64_t i = 0;
    if (b)
        for (; i + 8 <= n; i += 8)
            for (int j = 0; j < 8; j++) lanes[j] += a[i + j] * b[i + j];
    else
        for (; i + 8 <= n; i += 8)
            for (int j = 0; j < 8; j++) lanes[j] += a[i + j];
    for (; i < n; i++) lanes[0] += b ? a[i] * b[i] : a[i];
    return ((lanes[0] + lanes[4]) + (lanes[1] + lanes[5])) + ((lanes[2] + lanes[6]) + (lanes[3] + lanes[7]));
}

/* d[i * step] += t[i], step 0 or 1 */
static inline void FN(gather_up)(REAL *d, int64_t step, const REAL *t, int64_t n) {
    if (step)
        for (int64_t i = 0; i < n; i++) d[i] += t[i];
    else
        *d += FN(dot)(t, NULL, n);
}
