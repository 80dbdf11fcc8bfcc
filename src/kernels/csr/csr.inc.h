/* Convolution with compressed sparse rows: one body for every instruction set. The including file has the
 * vector words (simd/<isa>.h) and FOR_VECTORS(X), X(1) and so on up to the vectors of the longest strip.
 *
 * A weight that is not 0 meets any input element, so vectors cannot lie across channels, as they do
 * elsewhere: they lie across pixels. A piece of the elements of a strip of pixels is copied to the scratch,
 * transposed, [element][pixel]; a weight is then one broadcast and a product for each vector. After the last
 * piece the sums of 16 channels, [channel][pixel], are transposed back in the store. */
#include "kernels/csr/csr.h"
#include "kernels/families.h"
#include "kernels/simd/requant.inc.h"

/* Of a strip at most; sums side by side: a product takes four or five cycles and two start in each. */
enum { VECTORS = ESPL__CSR_STRIP / VL, SUMS = 8 };
#include "kernels/simd/strip.inc.h"

/* --- products ------------------------------------------------------------------------------------------- */

/* Adds the products of an entry to its sums. Products wait for loads of vectors, so the entry is one load of
 * a general register. */
static INLINE void multiply(const espl__csr_entry *e, const float *elements, vf *acc, int NV) {
    uint64_t entry;
    memcpy(&entry, e, sizeof entry);
    entry = (uint64_t)opaque((ptrdiff_t)entry);
    const float *x = elements + (ptrdiff_t)(uint32_t)entry * (NV * VL);
    const vf w = vf_set1_bits((int32_t)(entry >> 32));
    UNROLL
    for (int v = 0; v < NV; v++) acc[v] = vf_fma(vf_load(x + v * VL), w, acc[v]);
}

/* Adds the products of NV vectors of pixels and NR rows: side by side as long as each has weights, so that
 * there are sums enough to keep the units busy. bias: what sums begin with; NULL: with themselves. */
static INLINE void add_group(const espl__csr *m, const int32_t *start, const float *elements,
                             const float *bias, float *sums, int NV, int NR) {
    const espl__csr_entry *entry[SUMS];
    vf acc[SUMS];
    int32_t common = INT32_MAX;
    UNROLL
    for (int r = 0; r < NR; r++) {
        entry[r] = m->entries + start[r];
        common = start[r + 1] - start[r] < common ? start[r + 1] - start[r] : common;
        UNROLL
        for (int v = 0; v < NV; v++)
            acc[r * NV + v] = bias ? vf_set1(bias[r]) : vf_load(sums + (r * VECTORS + v) * VL);
    }
    for (; common > 0; common--) {
        UNROLL
        for (int r = 0; r < NR; r++) multiply(entry[r]++, elements, acc + r * NV, NV);
    }
    UNROLL
    for (int r = 0; r < NR; r++) {
        for (const espl__csr_entry *end = m->entries + start[r + 1]; entry[r] < end;)
            multiply(entry[r]++, elements, acc + r * NV, NV);
        UNROLL
        for (int v = 0; v < NV; v++) vf_store(sums + (r * VECTORS + v) * VL, acc[r * NV + v]);
    }
}

/* The 16 rows of a block; rows that do not exist have no weights. */
static BODY void add_rows(const espl__csr *m, const int32_t *start, const float *elements, const float *bias,
                          float *sums, int NV) {
    const int NR = SUMS / (NV > 2 ? 4 : 2);
    for (int r = 0; r < ESPL__NR; r += NR)
        add_group(m, start + r, elements, bias ? bias + r : NULL, sums + r * VECTORS * VL, NV, NR);
}

typedef void add_fn(const espl__csr *m, const int32_t *start, const float *elements, const float *bias,
                    float *sums);
#define DEFINE(NV)                                                                             \
    static void add_rows_##NV(const espl__csr *m, const int32_t *start, const float *elements, \
                              const float *bias, float *sums) {                                \
        add_rows(m, start, elements, bias, sums, NV);                                          \
    }
FOR_VECTORS(DEFINE)
#undef DEFINE
#define ENTRY(NV) add_rows_##NV,
static add_fn *const add_fns[VECTORS] = {FOR_VECTORS(ENTRY)};
#undef ENTRY

/* --- out ------------------------------------------------------------------------------------------------ */

/* VL channels `at` bytes from the first, of which `valid` exist, of the VL pixels from `first` on. */
static INLINE void store_square(const espl__conv *p, const strip *s, const float *sums, int first,
                                ptrdiff_t at, int valid, bool add) {
    const vf lo = vf_set1(p->flo), hi = vf_set1(p->fhi);
    const int count = s->pixels - first;
    vf x[VL];
    UNROLL
    for (int i = 0; i < VL; i++) x[i] = vf_load(sums + i * VECTORS * VL + first);
    vf_transpose(x);
    UNROLL
    for (int i = 0; i < VL; i++) {
        if (i >= count) break;
        if (add) x[i] = vf_add(x[i], vf_load_part((const float *)(s->res[first + i] + at), valid));
        vf_store_part((float *)(s->out[first + i] + at), clamp(x[i], lo, hi), valid);
    }
}

static void store_lanes(const espl__conv *p, const strip *s, const float *sums, int c, int valid) {
    const ptrdiff_t at = c * (ptrdiff_t)sizeof(float);
    for (int first = 0; first < s->pixels; first += VL)
        if (s->res[0])
            store_square(p, s, sums, first, at, valid, true);
        else if (valid < VL)
            store_square(p, s, sums, first, at, valid, false);
        else
            store_square(p, s, sums, first, at, VL, false);
}

static void store_block(const espl__conv *p, const strip *s, const float *sums, int block) {
    const int c = block * ESPL__NR;
    for (int l = 0; l < ESPL__NR && c + l < p->channels; l += VL)
        store_lanes(p, s, sums + (ptrdiff_t)l * VECTORS * VL, c + l, p->channels - c - l);
}

static void convolve_strip(const espl__conv *p, const strip *s, int block0, int block1) {
    const espl__csr *m = p->csr;
    const int count = p->segments * p->seg_k;
    float *elements = p->scratch, *all = elements + (ptrdiff_t)m->piece * ESPL__CSR_STRIP;
    for (int q = 0; q < m->pieces; q++) {
        const int first = q * m->piece;
        copy_elements(p, s, first, count - first < m->piece ? count : first + m->piece, elements);
        for (int b = block0; b < block1; b++) {
            float *sums = all + (m->pieces > 1 ? (ptrdiff_t)(b - block0) * ESPL__CSR_SUMS : 0);
            const float *bias = q == 0 ? (const float *)p->bias + (ptrdiff_t)b * ESPL__NR : NULL;
            add_fns[s->vectors - 1](m, m->start + ((ptrdiff_t)b * m->pieces + q) * ESPL__NR, elements, bias,
                                    sums);
            if (q + 1 == m->pieces) store_block(p, s, sums, b);
        }
    }
}

static void csr_conv_f32(const espl__conv *p, const float *in, float *out, const float *res, int pixels,
                         int block0, int block1) {
    strip s;
    const int vectors = (pixels + VL - 1) / VL, strips = (vectors + VECTORS - 1) / VECTORS;
    for (int t = 0, done = 0; t < strips; t++, done += s.pixels) {
        const int end = (int)((int64_t)vectors * (t + 1) / strips) * VL;
        strip_at(&s, p, done, (end < pixels ? end : pixels) - done, in, out, res);
        convolve_strip(p, &s, block0, block1);
    }
}
