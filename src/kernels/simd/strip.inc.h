/* Strips of pixels for kernels whose vectors lie across pixels: the inputs of a strip are copied, transposed, [element][pixel],
 * where an element is 32 bits: an f32, or a group of four codes. The including file has the vector words and VECTORS, of a strip
 * at most. */

/* Where the pixels of a strip are; lanes that it has too many repeat the last pixel. */
typedef struct strip {
    int pixels, vectors;
    const char *in[VECTORS * VL], *res[VECTORS * VL];
    char *out[VECTORS * VL];
} strip;

static void strip_at(strip *s, const espl__conv *p, int first, int pixels, const void *in, void *out, const void *res) {
    const int width = p->width ? p->width : INT32_MAX;
    int y = first / width, x = first % width;
    s->pixels = pixels;
    s->vectors = (pixels + VL - 1) / VL;
    for (int i = 0; i < s->vectors * VL; i++) {
        s->in[i] = (const char *)in + y * p->in_row + x * p->in_step;
        s->out[i] = (char *)out + y * p->out_row + x * p->out_step;
        s->res[i] = res ? (const char *)res + y * p->res_row + x * p->res_step : NULL;
        if (i + 1 < pixels && ++x == width) x = 0, y++;
    }
}

/* The t-th of the strips of `pixels` pixels, about as long as each other; *first: its first pixel. False: there are no more. */
static bool next_strip(strip *s, const espl__conv *p, int t, int pixels, const void *in, void *out, const void *res,
                       int *first) {
    const int vectors = (pixels + VL - 1) / VL, strips = (vectors + VECTORS - 1) / VECTORS;
    if (t >= strips) return false;
    const int end = (int)((int64_t)vectors * (t + 1) / strips) * VL;
    *first = (int)((int64_t)vectors * t / strips) * VL;
    strip_at(s, p, *first, (end < pixels ? end : pixels) - *first, in, out, res);
    return true;
}

/* VL elements of VL pixels, `at` bytes from where these begin; `valid` of them exist. */
static INLINE void copy_square(const char *const *pixel, ptrdiff_t at, int valid, float *to, ptrdiff_t pixels) {
    vf x[VL];
    UNROLL
    for (int i = 0; i < VL; i++) x[i] = vf_load_part((const float *)(const void *)(pixel[i] + at), valid);
    vf_transpose(x);
    UNROLL
    for (int i = 0; i < VL; i++)
        if (i < valid) vf_store(to + i * pixels, x[i]);
}

/* Elements e0 to e1 of a strip. The last VL of a segment may overlap the ones before. */
static void copy_elements(const espl__conv *p, const strip *s, int e0, int e1, float *to) {
    const ptrdiff_t pixels = s->vectors * VL;
    for (int g = e0 / p->seg_k; g * p->seg_k < e1; g++) {
        const int first = g * p->seg_k, k0 = e0 > first ? e0 - first : 0,
                  k1 = e1 - first < p->seg_k ? e1 - first : p->seg_k;
        for (int k = k0; k < k1; k += VL) {
            const int from = k + VL <= k1 || k1 - k0 < VL ? k : k1 - VL;
            const ptrdiff_t at = p->seg_off[g] + from * (ptrdiff_t)sizeof(float);
            float *o = to + (first + from - e0) * pixels;
            for (int v = 0; v < s->vectors; v++)
                if (k1 - from >= VL)
                    copy_square(s->in + v * VL, at, VL, o + v * VL, pixels);
                else
                    copy_square(s->in + v * VL, at, k1 - from, o + v * VL, pixels);
        }
    }
}

/* Sums of 32 bits of `blocks` blocks, [block][channel][VECTORS * VL pixels], turned to [pixel][block][channel]. */
static INLINE void turn(const int32_t *sums, int vectors, int blocks, int32_t *turned) {
    const int channels = blocks * ESPL__NR;
    for (int c = 0; c < channels; c += VL)
        for (int v = 0; v < vectors; v++) {
            float *to = (float *)(void *)(turned + v * VL * channels + c);
            vf x[VL];
            UNROLL
            for (int i = 0; i < VL; i++) x[i] = vf_load((const float *)(const void *)(sums + ((c + i) * VECTORS + v) * VL));
            vf_transpose(x);
            UNROLL
            for (int i = 0; i < VL; i++) vf_store(to + i * channels, x[i]);
        }
}
