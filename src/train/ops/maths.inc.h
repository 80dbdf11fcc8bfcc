/* Functions of rows, and sums in eight lanes, so that they are the same on every machine and quick. Included
 * by the .inc.h files of this folder, once for each kind of reals; f32 has the kernels' functions. */

#if REAL_IS_FLOAT
#define ROW_FUNCTION(name, of_double)                                     \
    static inline void FN(name##_of)(const REAL *x, REAL *y, int64_t n) { \
        espl__kernels_get()->FN(name)(x, y, n);                           \
    }
#else
#define ROW_FUNCTION(name, of_double)                                     \
    static inline void FN(name##_of)(const REAL *x, REAL *y, int64_t n) { \
        for (int64_t i = 0; i < n; i++) y[i] = (of_double);               \
    }
#endif
ROW_FUNCTION(exp, exp(x[i]))
ROW_FUNCTION(erf, erf(x[i]))
ROW_FUNCTION(tanh, tanh(x[i]))
ROW_FUNCTION(sigmoid, 1 / (1 + exp(-x[i])))
#undef ROW_FUNCTION

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
