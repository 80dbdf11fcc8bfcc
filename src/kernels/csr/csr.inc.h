/* Convolution with compressed sparse rows: one body for every instruction set. The including file has the
 * vector words (simd/<isa>.h) and FOR_VECTORS(X), X(1) and so on up to the vectors of the longest strip.
 *
 * A weight that is not 0 meets any input element, so vectors cannot lie across channels, as they do
 * elsewhere: they lie across pixels. A strip of pixels is copied to the scratch, transposed,
 * [element][pixel]; a weight is then one broadcast and a product for each vector. The sums of 16 channels,
 * [channel][pixel], are transposed back in the store. */
#include "kernels/csr/csr.h"
#include "kernels/families.h"
#include "kernels/simd/requant.inc.h"

/* Of a strip at most; sums side by side: a product takes four or five cycles and two start in each. */
enum { VECTORS = ESPL__CSR_STRIP / VL, SUMS = 8 };

/* Where the pixels of a strip are; what the last vector has too many repeats the last pixel. */
typedef struct strip {
    int pixels, vectors;
    const char *in[VECTORS * VL], *res[VECTORS * VL];
    char *out[VECTORS * VL];
} strip;

static void strip_at(strip *s, const espl__conv *p, int first, int pixels, const float *in, float *out,
                     const float *res) {
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

/* --- in ------------------------------------------------------------------------------------------------- */

/* Segments of fewer than four elements. */
static void copy_short(const espl__conv *p, const strip *s, float *to) {
    const int pixels = s->vectors * VL;
    for (int g = 0; g < p->segments; g++)
        for (int k = 0; k < p->seg_k; k++, to += pixels)
            for (int i = 0; i < pixels; i++)
                to[i] = ((const float *)(const void *)(s->in[i] + p->seg_off[g]))[k];
}

/* Four elements at a time; the last four of a segment may overlap the ones before. */
static void copy_strip(const espl__conv *p, const strip *s, float *to) {
    const ptrdiff_t pixels = s->vectors * VL;
    if (p->seg_k < 4) {
        copy_short(p, s, to);
        return;
    }
    for (int v = 0; v < s->vectors; v++)
        for (int g = 0; g < p->segments; g++)
            for (int k = 0; k < p->seg_k; k += 4) {
                const int from = k + 4 <= p->seg_k ? k : p->seg_k - 4;
                float *o = to + ((ptrdiff_t)g * p->seg_k + from) * pixels + v * VL;
                vf x[4];
                /* 16 addresses do not fit the registers: they are to be read again, not kept in vectors. */
                const char *const *pixel = (const char *const *)opaque((ptrdiff_t)(s->in + v * VL));
                vf_quads(pixel, p->seg_off[g] + from * (ptrdiff_t)sizeof(float), x);
                UNROLL
                for (int i = 0; i < 4; i++) vf_store(o + i * pixels, x[i]);
            }
}

/* --- products ------------------------------------------------------------------------------------------- */

/* Adds the products of weight i of the rows to their sums. */
static INLINE void multiply(const espl__csr *m, const float *elements, int32_t i, vf *acc, int NV) {
    const float *x = elements + (ptrdiff_t)m->at[i] * (NV * VL);
    const vf w = vf_set1(m->weight[i]);
    UNROLL
    for (int v = 0; v < NV; v++) acc[v] = vf_fma(vf_load(x + v * VL), w, acc[v]);
}

/* The sums of NV vectors of pixels and NR channels from c on: side by side as long as each has weights, so
 * that there are sums enough to keep the units busy. */
static INLINE void sum_group(const espl__conv *p, const float *elements, int c, float *sums, int NV, int NR) {
    const espl__csr m = *p->csr;
    vf acc[SUMS];
    int32_t i[SUMS], common = INT32_MAX;
    UNROLL
    for (int r = 0; r < NR; r++) {
        i[r] = m.start[c + r];
        common = m.start[c + r + 1] - i[r] < common ? m.start[c + r + 1] - i[r] : common;
        const vf bias = vf_set1(((const float *)p->bias)[c + r]);
        UNROLL
        for (int v = 0; v < NV; v++) acc[r * NV + v] = bias;
    }
    if (NR > 1)
        for (; common > 0; common--) {
            UNROLL
            for (int r = 0; r < NR; r++) multiply(&m, elements, i[r]++, acc + r * NV, NV);
        }
    UNROLL
    for (int r = 0; r < NR; r++) {
        for (const int32_t end = m.start[c + r + 1]; i[r] < end;)
            multiply(&m, elements, i[r]++, acc + r * NV, NV);
        UNROLL
        for (int v = 0; v < NV; v++) vf_store(sums + (r * VECTORS + v) * VL, acc[r * NV + v]);
    }
}

/* The channels from c0 to c1. */
static BODY void sum_rows(const espl__conv *p, const float *elements, int c0, int c1, float *sums, int NV) {
    const int NR = SUMS / (NV > 2 ? 4 : 2);
    int c = c0;
    for (; c + NR <= c1; c += NR) sum_group(p, elements, c, sums + (c - c0) * VECTORS * VL, NV, NR);
    for (; c < c1; c++) sum_group(p, elements, c, sums + (c - c0) * VECTORS * VL, NV, 1);
}

typedef void sum_fn(const espl__conv *p, const float *elements, int c0, int c1, float *sums);
#define DEFINE(NV)                                                                                       \
    static void sum_rows_##NV(const espl__conv *p, const float *elements, int c0, int c1, float *sums) { \
        sum_rows(p, elements, c0, c1, sums, NV);                                                         \
    }
FOR_VECTORS(DEFINE)
#undef DEFINE
#define ENTRY(NV) sum_rows_##NV,
static sum_fn *const sum_fns[VECTORS] = {FOR_VECTORS(ENTRY)};
#undef ENTRY

/* --- out ------------------------------------------------------------------------------------------------ */

/* `count` pixels of one quad. */
static INLINE void store_quad(const espl__conv *p, const strip *s, const float *sums, int first, int count,
                              ptrdiff_t at, int valid, bool add) {
    const vf lo = vf_set1(p->flo), hi = vf_set1(p->fhi);
    const char *rows[VL];
    vf x[4];
    UNROLL
    for (int i = 0; i < VL; i++) rows[i] = (const char *)(sums + i * VECTORS * VL);
    vf_quads(rows, first * (ptrdiff_t)sizeof(float), x);
    UNROLL
    for (int i = 0; i < count; i++) {
        if (add) x[i] = vf_add(x[i], vf_load_part((const float *)(s->res[first + i] + at), valid));
        vf_store_part((float *)(s->out[first + i] + at), clamp(x[i], lo, hi), valid);
    }
}

static INLINE void store_quads(const espl__conv *p, const strip *s, const float *sums, int c, int valid,
                               bool add) {
    const ptrdiff_t at = c * (ptrdiff_t)sizeof(float);
    int first = 0;
    for (; first + 4 <= s->pixels; first += 4) store_quad(p, s, sums, first, 4, at, valid, add);
    if (first < s->pixels) store_quad(p, s, sums, first, s->pixels - first, at, valid, add);
}

/* VL channels from c on, of which `valid` exist. */
static void store_lanes(const espl__conv *p, const strip *s, const float *sums, int c, int valid) {
    if (s->res[0])
        store_quads(p, s, sums, c, valid, true);
    else if (valid < VL)
        store_quads(p, s, sums, c, valid, false);
    else
        store_quads(p, s, sums, c, VL, false);
}

static void csr_conv_f32(const espl__conv *p, const float *in, float *out, const float *res, int pixels,
                         int block0, int block1) {
    strip s;
    const int vectors = (pixels + VL - 1) / VL, strips = (vectors + VECTORS - 1) / VECTORS;
    float *elements = p->scratch;
    for (int t = 0, done = 0; t < strips; t++) {
        const int end = (int)((int64_t)vectors * (t + 1) / strips) * VL;
        strip_at(&s, p, done, (end < pixels ? end : pixels) - done, in, out, res);
        done += s.pixels;
        copy_strip(p, &s, elements);
        float *sums = elements + (ptrdiff_t)p->segments * p->seg_k * s.vectors * VL;
        for (int b = block0; b < block1; b++) {
            const int c = b * ESPL__NR, c1 = c + ESPL__NR < p->channels ? c + ESPL__NR : p->channels;
            sum_fns[s.vectors - 1](p, elements, c, c1, sums);
            for (int l = 0; c + l < c1; l += VL)
                store_lanes(p, &s, sums + (ptrdiff_t)l * VECTORS * VL, c + l, c1 - c - l);
        }
    }
}
