/* Where a place of the grid lies among the elements of an axis. Included once for each kind of reals (REAL,
 * FN): by the operator, whose f32 arithmetic is part of its definition where modes round, and by its
 * gradient. */

/* What one place takes from an axis; at -1: nothing, a zero. slope: the weight's, by the place. */
typedef struct FN(taps) {
    int count;
    int64_t at[4];
    REAL weight[4], slope[4];
} FN(taps);

/* The place in elements. What is no number, or so far away that it does not matter how far, is a far place.
 */
static REAL FN(place)(const espl__sampler *s, REAL at, int64_t length) {
    const REAL n = (REAL)length, far = (REAL)1e9f;
    REAL x = s->align_corners ? (at + 1) / 2 * (n - 1) : ((at + 1) * n - 1) / 2;
    return x > -far ? (x < far ? x : far) : -far;
}

/* Keys's kernel with a = -0.75, at distances 1 + f, f, 1 - f and 2 - f, and its derivatives by f. */
static void FN(cubic_weights)(REAL f, REAL *w, REAL *slope) {
    const REAL a = (REAL)-0.75f, g = 1 - f;
    w[0] = ((a * (f + 1) - 5 * a) * (f + 1) + 8 * a) * (f + 1) - 4 * a;
    w[1] = ((a + 2) * f - (a + 3)) * f * f + 1;
    w[2] = ((a + 2) * g - (a + 3)) * g * g + 1;
    w[3] = ((a * (g + 1) - 5 * a) * (g + 1) + 8 * a) * (g + 1) - 4 * a;
    slope[0] = (3 * a * (f + 1) - 10 * a) * (f + 1) + 8 * a;
    slope[1] = (3 * (a + 2) * f - 2 * (a + 3)) * f;
    slope[2] = -(3 * (a + 2) * g - 2 * (a + 3)) * g;
    slope[3] = -((3 * a * (g + 1) - 10 * a) * (g + 1) + 8 * a);
}

static FN(taps) FN(find_taps)(const espl__sampler *s, REAL at, int64_t length) {
    FN(taps) t = {.count = s->mode == ESPL__NEAREST ? 1 : s->mode == ESPL__LINEAR ? 2 : 4};
    double x = (double)FN(place)(s, at, length), last = (double)length - 1;
    REAL step = (REAL)(s->align_corners ? last : (double)length) / 2;
    int turn = 1;
    if (s->mode == ESPL__NEAREST) x = rint(x);
    if (s->padding == ESPL__REFLECTION) x = espl__sample_reflect(s, x, length, &turn);
    if (s->padding == ESPL__BORDER &&
        (x < (s->align_corners ? 0 : -0.5) || x > last + (s->align_corners ? 0 : 0.5))) {
        x = (double)espl__sample_clamp(x, length);
        turn = 0;
    }
    double base = s->mode == ESPL__NEAREST ? x : floor(x);
    REAL f = (REAL)(x - base);
    if (s->mode == ESPL__CUBIC) base -= 1;
    for (int i = 0; i < t.count; i++) t.at[i] = espl__sample_element(s, base + i, length);
    if (s->mode == ESPL__NEAREST) t.weight[0] = 1;
    if (s->mode == ESPL__LINEAR) {
        t.weight[0] = 1 - f;
        t.weight[1] = f;
        t.slope[0] = -1;
        t.slope[1] = 1;
    }
    if (s->mode == ESPL__CUBIC) FN(cubic_weights)(f, t.weight, t.slope);
    for (int i = 0; i < t.count; i++) t.slope[i] *= step * (REAL)turn;
    return t;
}

/* Over the axes from `axis` on. */
static REAL FN(sum)(const REAL *x, const FN(taps) * t, const int64_t *stride, int axis, int rank) {
    if (axis == rank || axis == ESPL_MAX_RANK) return *x;
    REAL all = 0;
    for (int i = 0; i < t[axis].count; i++)
        if (t[axis].at[i] >= 0 && t[axis].weight[i] != 0)
            all += FN(sum)(x + t[axis].at[i] * stride[axis], t, stride, axis + 1, rank) * t[axis].weight[i];
    return all;
}

/* The samples of image n: `grid` names its places, y has channels of them. */
static void FN(sample_image)(const espl__sampler *s, const espl_shape *shape, const REAL *image,
                             const REAL *grid, REAL *y, int64_t places) {
    FN(taps) t[ESPL_MAX_RANK];
    int64_t stride[ESPL_MAX_RANK];
    const int rank = shape->rank;
    espl__strides(shape, stride);
    for (int64_t p = 0; p < places; p++, grid += rank - 2) {
        for (int i = 2; i < rank; i++) t[i] = FN(find_taps)(s, grid[rank - 1 - i], shape->dim[i]);
        for (int64_t c = 0; c < shape->dim[1]; c++)
            y[c * places + p] = FN(sum)(image + c * stride[1], t, stride, 2, rank);
    }
}
