/* Weights of few bits times rows that are rounded unit by unit: one body for every instruction set. The
 * including file has the words of words_<width>.h.
 *
 * Codes are without sign, so they are the unsigned side of the byte products and the rounded inputs the
 * signed one; what that adds to a sum, offset * (sum of q), is where the sum starts. Codes of a unit are
 * unpacked once for up to four rows: with 4 bits three instructions for 128 of them. */
#include "kernels/families.h"
#include "kernels/simd/requant.inc.h"
#include "kernels/wonly/wonly.h"

enum { STREAMS = 8 }; /* blocks that are read side by side */
/* The four inputs of 16 rows at `quad`, vector v of the block. */
static INLINE vi codes_at(const uint8_t *unit, int quad, int v, int bits) {
    const int per = 8 / bits;
    const vi x = vi_load(unit + quad / per * ESPL__NR * 4 + v * VL * 4);
    return bits == 8 ? x : bits_of(x, quad % per * bits, (1 << bits) - 1);
}

/* Four inputs of a row times codes, onto sums of 32 bits; or onto pairs of sums of 16, which 8 * 2 products
 * of up to 15 * 128 fill to 30720 and no more. */
static INLINE vi add_quad(vi sum, vi codes, vi x, int bits) {
#ifdef ESPL__VNNI
    (void)bits;
    return dot(sum, codes, x);
#else
    return bits < 8 ? v16_add(sum, v8_pairs(codes, x)) : dot(sum, x_of(codes), w_of(x));
#endif
}
static INLINE vi whole_sum(vi sum, int bits) {
#ifdef ESPL__VNNI
    (void)bits;
    return sum;
#else
    return bits < 8 ? v16_pairs(sum) : sum;
#endif
}

/* s of a unit, from the sums of its planes and what follows the planes. */
static INLINE vf unit_sum(vi acc[3][SUMS], int i, const uint8_t *tail, int bits, int planes) {
    if (planes == 1) return vf_of(vi_add(whole_sum(acc[0][i], bits), vi_set1(load4(tail))));
    vi upper = vi_add(vi_shift_left(whole_sum(acc[0][i], bits), 8), whole_sum(acc[1][i], bits));
    vi lower = vi_add(whole_sum(acc[2][i], bits), vi_set1(load4(tail + 4)));
    upper = vi_add(upper, vi_set1(load4(tail)));
    return vf_fma(vf_of(upper), vf_set1(256.0f), vf_of(lower));
}

/* Vector v of NB blocks of a unit, added to the sums of MR rows. */
static BODY void add_vector(float *sums, int stride, const uint8_t *unit, const uint8_t *scales, steps block,
                            const uint8_t *x, steps x_step, int v, bool halves, int bits, int planes, int MR,
                            int NB) {
    vi acc[3][SUMS];
    UNROLL
    for (int i = 0; i < MR * NB; i++) acc[0][i] = acc[1][i] = acc[2][i] = vi_set1(0);
    UNROLL
    for (int quad = 0; quad < WONLY_QUADS; quad++) {
        vi codes[SUMS];
        UNROLL
        for (int n = 0; n < NB; n++) codes[n] = codes_at(unit + step_at(block, n), quad, v, bits);
        UNROLL
        for (int i = 0; i < MR * planes; i++) {
            const int m = i / planes, plane = i % planes;
            const vi xv = vi_set1(load4(x + step_at(x_step, m) + plane * ESPL__UNIT + quad * 4));
            UNROLL
            for (int n = 0; n < NB; n++)
                acc[plane][m * NB + n] = add_quad(acc[plane][m * NB + n], codes[n], xv, bits);
        }
    }
    UNROLL
    for (int n = 0; n < NB; n++) {
        const uint8_t *at = scales + step_at(block, n);
        const vf scale = halves ? of_f16(at + v * VL * 2) : vf_load((const float *)(const void *)at + v * VL);
        UNROLL
        for (int m = 0; m < MR; m++) {
            const uint8_t *tail = x + step_at(x_step, m) + planes * ESPL__UNIT;
            float step, *sum = sums + m * stride + n * ESPL__NR + v * VL;
            memcpy(&step, tail + (planes == 3 ? 8 : 4), sizeof step);
            const vf s = unit_sum(acc, m * NB + n, tail, bits, planes);
            vf_store(sum, vf_fma(s, vf_mul(scale, vf_set1(step)), vf_load(sum)));
        }
    }
}

/* Of NB blocks what lies AHEAD, or at their end where the blocks behind those of this tile begin. */
static INLINE void fetch(const uint8_t *at, ptrdiff_t left, ptrdiff_t jump, steps block, int bits, int NB) {
    at += AHEAD < left ? AHEAD : AHEAD + jump;
    at = (const uint8_t *)opaque((ptrdiff_t)at);
    UNROLL
    for (int n = 0; n < NB; n++) {
        UNROLL
        for (int i = 0; i <= bits; i++)
            fetch_line(at + step_at(block, n) + i * 64);
    }
}

/* MR rows times NB blocks, for which `sums` of [MR][stride] are there. */
static INLINE void add_unit(float *sums, int stride, const uint8_t *unit, const uint8_t *scales, steps block,
                            const uint8_t *x, steps x_step, bool halves, int bits, int planes, int MR,
                            int NB) {
    unit = (const uint8_t *)opaque((ptrdiff_t)unit);
    scales = (const uint8_t *)opaque((ptrdiff_t)scales);
    UNROLL
    for (int v = 0; v < VPB; v++)
        add_vector(sums, stride, unit, scales, block, x, x_step, v, halves, bits, planes, MR, NB);
}

/* MR rows times nrb blocks; sums: [MR][nrb][16]. */
static BODY void tile(const espl__conv *p, const uint8_t *x, int block, int nrb, float *sums, bool halves,
                      int bits, int planes, int MR) {
    const espl__wonly *k = p->wonly;
    const int NB = SUMS / MR, stride = nrb * ESPL__NR;
    const uint8_t *w = (const uint8_t *)p->w + block * k->block;
    const ptrdiff_t unit_bytes = wonly_unit_bytes(k), scale_bytes = wonly_scale_bytes(k), bytes = k->block,
                    jump = (nrb - 1) * bytes;
    const steps b_step = steps_of(bytes), x_step = steps_of(p->in_step);
    ptrdiff_t at = 0, scales = 0;
    int32_t left = 0;
    for (int m = 0; m < MR; m++)
        memcpy(sums + m * stride, (const float *)p->bias + block * ESPL__NR, sizeof(float) * (size_t)stride);
    for (int32_t u = 0; u < k->units; u++, x += espl__wonly_record(k), at += unit_bytes, left--) {
        if (left == 0) {
            left = k->group;
            scales = at;
            at += scale_bytes;
        }
        int n = 0;
        for (; n + NB <= nrb; n += NB) {
            const uint8_t *from = w + n * bytes;
            fetch(from + at, bytes - at, jump, b_step, bits, NB);
            add_unit(sums + n * ESPL__NR, stride, from + at, from + scales, b_step, x, x_step, halves, bits,
                     planes, MR, NB);
        }
        for (; n < nrb; n++)
            add_unit(sums + n * ESPL__NR, stride, w + n * bytes + at, w + n * bytes + scales, b_step, x,
                     x_step, halves, bits, planes, MR, 1);
    }
}

typedef void tile_fn(const espl__conv *p, const uint8_t *x, int block, int nrb, float *sums);

#define TILE(BITS, PLANES, MR)                                                                           \
    static void tile_##BITS##_##PLANES##_##MR(const espl__conv *p, const uint8_t *x, int block, int nrb, \
                                              float *sums) {                                             \
        if (p->wonly->scales == ESPL_F16)                                                                \
            tile(p, x, block, nrb, sums, true, BITS, PLANES, MR);                                        \
        else                                                                                             \
            tile(p, x, block, nrb, sums, false, BITS, PLANES, MR);                                       \
    }
#define ALL_TILES(X)   \
    ROW_TILES(X, 2, 1) \
    ROW_TILES(X, 2, 3) ROW_TILES(X, 4, 1) ROW_TILES(X, 4, 3) ROW_TILES(X, 8, 1) ROW_TILES(X, 8, 3)
ALL_TILES(TILE)
#undef TILE
#define ENTRY(BITS, PLANES, MR) [BITS / 4][PLANES / 2][MR - 1] = tile_##BITS##_##PLANES##_##MR,
static tile_fn *const tiles[3][2][ROWS] = {ALL_TILES(ENTRY)};
#undef ENTRY

/* Rows inside, so that the blocks of a tile come from memory once. */
static void wonly_f32(const espl__conv *p, const void *in, float *out, const float *res, int rows, int block0,
                      int block1) {
    const espl__wonly *k = p->wonly;
    _Alignas(64) float sums[ROWS * STREAMS * ESPL__NR];
    for (int block = block0; block < block1; block += STREAMS) {
        const int nrb = block1 - block < STREAMS ? block1 - block : STREAMS;
        for (int r = 0; r < rows; r += ROWS) {
            const int mr = rows - r < ROWS ? rows - r : ROWS;
            tiles[k->bits / 4][k->planes / 2][mr - 1](p, (const uint8_t *)in + r * p->in_step, block, nrb,
                                                      sums);
            place at = {block * ESPL__NR,
                        p->channels,
                        (char *)out + r * p->out_step,
                        p->out_step,
                        res ? (const char *)res + r * p->res_step : NULL,
                        p->res_step};
            for (int n = 0; n < nrb; n++, at.c += ESPL__NR)
                store_block_f32(p->flo, p->fhi, sums + n * ESPL__NR, nrb * ESPL__NR, mr, at);
        }
    }
}

#ifndef ESPL__VNNI
/* --- rounding ------------------------------------------------------------------------------------------- */

enum { PARTS_OF_UNIT = ESPL__UNIT / VL };

/* The bytes of q, and into start[0] and [1] the sums of upper and lower ones (of the latter alone with one
 * plane). */
static INLINE void store_bytes(const vf x[PARTS_OF_UNIT], float inverse, uint8_t *to, int planes,
                               int32_t start[2]) {
    vi all = vi_set1(0), uppers = vi_set1(0);
    UNROLL
    for (int i = 0; i < PARTS_OF_UNIT; i++) {
        const vi q = vi_rne(vf_mul(x[i], vf_set1(inverse)));
        all = vi_add(all, q);
        store_low_bytes(to + (planes - 1) * ESPL__UNIT + i * VL, q);
        if (planes == 1) continue;
        const vi upper = vi_shift_right(vi_add(q, vi_set1(128)), 8);
        uppers = vi_add(uppers, upper);
        store_low_bytes(to + ESPL__UNIT + i * VL, upper);
        store_low_bytes(to + i * VL, vi_shift_right(vi_add(upper, vi_set1(128)), 8));
    }
    start[0] = vi_sum(uppers);
    start[1] = vi_sum(all) - 256 * start[0];
}

static INLINE void round_unit(const espl__wonly *k, const float *from, int n, uint8_t *to, int planes) {
    vf x[PARTS_OF_UNIT];
    vi most = vi_set1(0);
    UNROLL
    for (int i = 0; i < PARTS_OF_UNIT; i++) {
        x[i] = n >= ESPL__UNIT ? vf_load(from + i * VL)
               : n > i * VL    ? vf_load_part(from + i * VL, n - i * VL)
                               : vf_set1(0.0f);
        most = vi_max(most, vi_abs_bits(x[i]));
    }
    const int32_t bits = vi_largest(most), infinite = 255 << 23;
    uint8_t *tail = to + planes * ESPL__UNIT;
    float m, step = bits >= infinite ? NAN : 0.0f;
    int32_t start[2] = {0, 0};
    memcpy(&m, &bits, sizeof m);
    if (bits < infinite && bits >= WONLY_TINY) {
        step = m / wonly_most(k);
        store_bytes(x, wonly_most(k) / m, to, planes, start);
    } else {
        memset(to, 0, (size_t)ESPL__UNIT * (size_t)planes);
    }
    for (int i = 0; i < 2; i++) start[i] *= -wonly_offset(k);
    memcpy(tail, planes == 3 ? start : start + 1, planes == 3 ? 8 : 4);
    memcpy(tail + (planes == 3 ? 8 : 4), &step, sizeof step);
}

static void wonly_round(const espl__wonly *k, const float *in, ptrdiff_t in_step, void *out, int rows) {
    uint8_t *to = out;
    for (int r = 0; r < rows; r++) {
        const float *x = (const float *)((const char *)in + r * in_step);
        for (int32_t u = 0; u < k->units; u++, to += espl__wonly_record(k))
            if (k->planes == 3)
                round_unit(k, x + (int64_t)u * ESPL__UNIT, k->k - u * ESPL__UNIT, to, 3);
            else
                round_unit(k, x + (int64_t)u * ESPL__UNIT, k->k - u * ESPL__UNIT, to, 1);
    }
}
#endif
