/* The samples of RoiAlign's regions. Included once for each kind of reals (REAL, FN, M): by the operator and
 * by its gradient. */

typedef struct FN(region) {
    REAL start[2], bin[2]; /* of y, x */
    int samples[2];
} FN(region);

/* The four neighbours of a sample and their weights. */
typedef struct FN(corners) {
    int64_t at[4];
    REAL weight[4];
    bool inside;
} FN(corners);

static int FN(samples_of)(REAL bin, int64_t fixed) {
    if (fixed > 0) return (int)fixed;
    REAL n = M(ceil)(bin);
    return n > 0 ? n < ESPL__ROI_SAMPLES ? (int)n : ESPL__ROI_SAMPLES : 0;
}

/* `roi`: x1, y1, x2, y2. Without half pixels a region has at least one element. */
static FN(region) FN(read_region)(const espl__node *node, const REAL *roi, const espl_shape *y) {
    bool half = espl__roi_half_pixel(node);
    REAL scale = (REAL)espl__attr_float(node, "spatial_scale", 1), offset = half ? (REAL)0.5f : 0;
    int64_t fixed = espl__attr_int(node, "sampling_ratio", 0);
    FN(region) r;
    for (int i = 0; i < 2; i++) {
        r.start[i] = roi[1 - i] * scale - offset;
        REAL size = roi[3 - i] * scale - offset - r.start[i];
        if (!half) size = size > 1 ? size : 1;
        r.bin[i] = size / (REAL)y->dim[2 + i];
        r.samples[i] = FN(samples_of)(r.bin[i], fixed);
    }
    return r;
}

static FN(corners) FN(find_corners)(REAL y, REAL x, int64_t height, int64_t width) {
    FN(corners) c = {.inside = y >= -1 && y <= (REAL)height && x >= -1 && x <= (REAL)width};
    REAL at[2] = {y > 0 ? y : 0, x > 0 ? x : 0}, f[2];
    int64_t low[2], high[2], size[2] = {height, width};
    for (int i = 0; c.inside && i < 2; i++) {
        low[i] = ESPL_MIN((int64_t)at[i], size[i] - 1);
        high[i] = ESPL_MIN(low[i] + 1, size[i] - 1);
        f[i] = low[i] == high[i] ? 0 : at[i] - (REAL)low[i];
    }
    for (int k = 0; c.inside && k < 4; k++) {
        c.at[k] = (k & 2 ? high[0] : low[0]) * width + (k & 1 ? high[1] : low[1]);
        c.weight[k] = (k & 2 ? f[0] : 1 - f[0]) * (k & 1 ? f[1] : 1 - f[1]);
    }
    return c;
}

/* Sample `i` of a bin. */
static FN(corners) FN(sample)(const FN(region) * r, int64_t ph, int64_t pw, int i, const espl_shape *x) {
    REAL at[2], bin[2] = {(REAL)ph, (REAL)pw},
                own[2] = {(REAL)(i / r->samples[1]), (REAL)(i % r->samples[1])};
    for (int k = 0; k < 2; k++)
        at[k] = r->start[k] + bin[k] * r->bin[k] + (own[k] + (REAL)0.5f) * r->bin[k] / (REAL)r->samples[k];
    return FN(find_corners)(at[0], at[1], x->dim[2], x->dim[3]);
}

/* max: of the weighted neighbours, not of their sums, as the standard has it. */
static REAL FN(pool_bin)(const FN(region) * r, int64_t ph, int64_t pw, const REAL *image, const espl_shape *x,
                         bool max) {
    REAL all = 0;
    const int samples = r->samples[0] * r->samples[1];
    for (int i = 0; i < samples; i++) {
        FN(corners) c = FN(sample)(r, ph, pw, i, x);
        REAL v[4] = {0, 0, 0, 0};
        for (int k = 0; c.inside && k < 4; k++) v[k] = c.weight[k] * image[c.at[k]];
        if (max)
            for (int k = 0; k < 4; k++) all = i + k == 0 || v[k] > all ? v[k] : all;
        else
            all += v[0] + v[1] + v[2] + v[3];
    }
    return max ? all : all / (REAL)ESPL_MAX(samples, 1);
}

/* A region's bins of all channels; image NULL: there is none. */
static void FN(pool_region)(const espl__node *node, const REAL *roi, const REAL *image, const espl_shape *x,
                            REAL *to, const espl_shape *y, bool max) {
    FN(region) r = FN(read_region)(node, roi, y);
    for (int64_t c = 0; c < y->dim[1]; c++)
        for (int64_t h = 0; h < y->dim[2]; h++)
            for (int64_t w = 0; w < y->dim[3]; w++)
                *to++ = image ? FN(pool_bin)(&r, h, w, image + c * x->dim[2] * x->dim[3], x, max) : 0;
}
