/* Convolution with compressed sparse rows: one body for every instruction set. The including file has the
 * vector words (simd/<isa>.h), FOR_VECTORS(X), X(1) and so on up to the vectors of the longest strip, and CSR_F32 or
 * CSR_U8, which asks for one instruction for four products of bytes.
 *
 * A weight that is not 0 meets any input element, so vectors cannot lie across channels, as they do
 * elsewhere: they lie across pixels. A piece of the elements of a strip of pixels is copied to the scratch,
 * transposed, [element][pixel]; a weight is then one broadcast and a product for each vector. After the last
 * piece the sums of 16 channels, [channel][pixel], are transposed back in the store. */
#include "kernels/csr/csr.h"
#include "kernels/families.h"
#ifdef CSR_U8
#define CONV_U8
#include "kernels/conv/finish.inc.h"
#else
#include "kernels/simd/requant.inc.h"
#endif

/* Of a strip at most; sums side by side: a product takes four or five cycles and two start in each. */
#ifdef CSR_U8
enum { PIXELS = ESPL__CSR_CODES_STRIP };
#else
enum { PIXELS = ESPL__CSR_STRIP };
#endif
enum { SUMS = 8, VECTORS = PIXELS / VL < SUMS / 2 ? PIXELS / VL : SUMS / 2, STRIP = VECTORS * VL, BLOCK_SUMS = STRIP * ESPL__NR };
#include "kernels/simd/strip.inc.h"

/* --- sums ----------------------------------------------------------------------------------------------- */

#ifdef CSR_U8
typedef int32_t number;
typedef vi vsum;
static INLINE vsum sum_of(number x) {
    return vi_set1(x);
}
static INLINE vsum sum_load(const number *from) {
    return vi_load(from);
}
static INLINE void sum_store(number *to, vsum x) {
    vi_store(to, x);
}
/* Of a vector of elements and the bits of a weight. */
static INLINE vsum add_product(vsum acc, const float *x, int32_t w) {
    return dot(acc, x_of(vi_load(x)), vi_set1(w));
}
#else
typedef float number;
typedef vf vsum;
static INLINE vsum sum_of(number x) {
    return vf_set1(x);
}
static INLINE vsum sum_load(const number *from) {
    return vf_load(from);
}
static INLINE void sum_store(number *to, vsum x) {
    vf_store(to, x);
}
static INLINE vsum add_product(vsum acc, const float *x, int32_t w) {
    return vf_fma(vf_load(x), vf_set1_bits(w), acc);
}
#endif

/* --- products ------------------------------------------------------------------------------------------- */

/* Adds the products of an entry to its sums. Products wait for loads of vectors, so the entry is one load of
 * a general register. */
static INLINE void multiply(const espl__csr_entry *e, const float *elements, vsum *acc, int NV) {
    uint64_t entry;
    memcpy(&entry, e, sizeof entry);
    entry = (uint64_t)opaque((ptrdiff_t)entry);
    const float *x = elements + (ptrdiff_t)(uint32_t)entry * (NV * VL);
    UNROLL
    for (int v = 0; v < NV; v++) acc[v] = add_product(acc[v], x + v * VL, (int32_t)(entry >> 32));
}

/* Adds the products of NV vectors of pixels and NR rows: side by side as long as each has weights, so that
 * there are sums enough to keep the units busy. bias: what sums begin with; NULL: with themselves. */
static INLINE void add_group(const espl__csr *m, const int32_t *start, const float *elements,
                             const number *bias, number *sums, int NV, int NR) {
    const espl__csr_entry *entry[SUMS];
    vsum acc[SUMS];
    int32_t common = INT32_MAX;
    UNROLL
    for (int r = 0; r < NR; r++) {
        entry[r] = m->entries + start[r];
        common = start[r + 1] - start[r] < common ? start[r + 1] - start[r] : common;
        UNROLL
        for (int v = 0; v < NV; v++)
            acc[r * NV + v] = bias ? sum_of(bias[r]) : sum_load(sums + (r * VECTORS + v) * VL);
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
        for (int v = 0; v < NV; v++) sum_store(sums + (r * VECTORS + v) * VL, acc[r * NV + v]);
    }
}

/* The 16 rows of a block; rows that do not exist have no weights. */
static BODY void add_rows(const espl__csr *m, const int32_t *start, const float *elements, const number *bias,
                          number *sums, int NV) {
    const int NR = SUMS / (NV > 2 ? 4 : 2);
    for (int r = 0; r < ESPL__NR; r += NR)
        add_group(m, start + r, elements, bias ? bias + r : NULL, sums + r * VECTORS * VL, NV, NR);
}

typedef void add_fn(const espl__csr *m, const int32_t *start, const float *elements, const number *bias,
                    number *sums);
#define DEFINE(NV)                                                                             \
    static void add_rows_##NV(const espl__csr *m, const int32_t *start, const float *elements, \
                              const number *bias, number *sums) {                                \
        add_rows(m, start, elements, bias, sums, NV);                                          \
    }
FOR_VECTORS(DEFINE)
#undef DEFINE
#define ENTRY(NV) add_rows_##NV,
static add_fn *const add_fns[VECTORS] = {FOR_VECTORS(ENTRY)};
#undef ENTRY

/* --- out ------------------------------------------------------------------------------------------------ */

#ifndef CSR_U8
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

static void store_block(const espl__conv *p, const strip *s, const number *sums, int block) {
    const int c = block * ESPL__NR;
    for (int l = 0; l < ESPL__NR && c + l < p->channels; l += VL)
        store_lanes(p, s, sums + (ptrdiff_t)l * VECTORS * VL, c + l, p->channels - c - l);
}
#endif

/* The sums of a block: those of all wait for the next piece, or those of blocks that are stored together for each other. */
static INLINE number *sums_of(const espl__csr *m, number *all, int block) {
    return all + (ptrdiff_t)(m->pieces > 1 ? block : block % ESPL__CSR_BLOCKS) * BLOCK_SUMS;
}

static void add_block(const espl__conv *p, const strip *s, const float *elements, int piece, int block, number *sums) {
    const espl__csr *m = p->csr;
    const number *bias = piece == 0 ? (const number *)p->bias + (ptrdiff_t)block * ESPL__NR : NULL;
    add_fns[s->vectors - 1](m, m->start + ((ptrdiff_t)block * m->pieces + piece) * ESPL__NR, elements, bias, sums);
}

#ifdef CSR_U8
static INLINE void store_blocks_of(const espl__conv *p, finish_fn *finish, const strip *s, const number *sums, int block, int count,
                                   int first, char *out, const char *res) {
    _Alignas(64) int32_t turned[STRIP * ESPL__CSR_BLOCKS * ESPL__NR];
    turn(sums, s->vectors, count, turned);
    finish_pixels(p, finish, turned, block, count, first, s->pixels, out, res);
}

static INLINE void convolve_strip(const espl__conv *p, finish_fn *finish, const strip *s, int first, int block0, int block1,
                                  char *out, const char *res) {
    const espl__csr *m = p->csr;
    const int count = p->segments * p->seg_k;
    float *elements = p->scratch;
    number *all = (number *)(void *)(elements + (ptrdiff_t)m->piece * STRIP);
    for (int q = 0; q < m->pieces; q++) {
        const int e = q * m->piece;
        copy_elements(p, s, e, count - e < m->piece ? count : e + m->piece, elements);
        for (int b = block0, n; b < block1; b += n) {
            n = block1 - b < ESPL__CSR_BLOCKS ? block1 - b : ESPL__CSR_BLOCKS;
            for (int i = 0; i < n; i++) add_block(p, s, elements, q, b + i, sums_of(m, all, b - block0 + i));
            if (q + 1 == m->pieces) store_blocks_of(p, finish, s, sums_of(m, all, b - block0), b, n, first, out, res);
        }
    }
}

static INLINE void run_rows(finish_fn *finish, const espl__conv *p, const char *in, char *out, const char *res, int pixels,
                            int block0, int block1) {
    strip s;
    for (int t = 0, first; next_strip(&s, p, t, pixels, in, NULL, NULL, &first); t++)
        convolve_strip(p, finish, &s, first, block0, block1, out, res);
}

static void csr_conv_u8(const espl__conv *p, const uint8_t *in, uint8_t *out, const uint8_t *res, int pixels, int block0,
                        int block1) {
    run_rows(finish_u8, p, (const char *)in, (char *)out, (const char *)res, pixels, block0, block1);
}

static void csr_conv_u8_f32(const espl__conv *p, const uint8_t *in, float *out, int pixels, int block0, int block1) {
    run_rows(finish_u8_f32, p, (const char *)in, (char *)out, NULL, pixels, block0, block1);
}
#else
static void convolve_strip(const espl__conv *p, const strip *s, int block0, int block1) {
    const espl__csr *m = p->csr;
    const int count = p->segments * p->seg_k;
    float *elements = p->scratch, *all = elements + (ptrdiff_t)m->piece * STRIP;
    for (int q = 0; q < m->pieces; q++) {
        const int first = q * m->piece;
        copy_elements(p, s, first, count - first < m->piece ? count : first + m->piece, elements);
        for (int b = block0; b < block1; b++) {
            number *sums = sums_of(m, all, b - block0);
            add_block(p, s, elements, q, b, sums);
            if (q + 1 == m->pieces) store_block(p, s, sums, b);
        }
    }
}

static void csr_conv_f32(const espl__conv *p, const float *in, float *out, const float *res, int pixels,
                         int block0, int block1) {
    strip s;
    for (int t = 0, first; next_strip(&s, p, t, pixels, in, out, res, &first); t++) convolve_strip(p, &s, block0, block1);
}
#endif
