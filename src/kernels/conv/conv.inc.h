/* Convolution of one row, in register tiles of MR pixels x NRB blocks of 16 output channels: one body for
 * every instruction set. The including file has the vector words (simd/<isa>.h) and says how large a tile may
 * be:
 *
 *   TILES_1(X) TILES_2(X) TILES_3(X) TILES_4(X) TILES_8(X)   X(MR, NRB) for MR = 1, 2, ... up to MR_n
 *   enum { MR_1, MR_2, MR_3, MR_4, MR_8 }                     0: no such tile
 *
 * For each k a tile loads one vector of weights per block and broadcasts the inputs of one pixel after the
 * other; its MR x NRB accumulators stay in registers from the bias to the last product. */
#include "kernels/families.h"
#include "kernels/simd/requant.inc.h"

/* Leaves the sums of MR pixels x NRB blocks from `block` on in `sums`, [pixel][block][16]. */
typedef void tile_fn(const espl__conv *p, const char *in, int block, void *sums);
/* Stores what becomes of them. */
typedef void finish_fn(const espl__conv *p, const void *sums, int block, int nrb, int pixels, char *out,
                       const char *res);

/* --- walking the input and the weights --------------------------------------------------------- */

enum { GROUP = 7, GROUPS = 4 }; /* pixels that share a base; bases of the largest tile, 28 pixels */

typedef struct {
    const char *base[GROUPS];
    steps step;
} pixels_at;

static INLINE void pixels_start(pixels_at *at, const char *in, ptrdiff_t in_step, int MR) {
    UNROLL
    for (int g = 0; g * GROUP < MR; g++)
        at->base[g] = (const char *)opaque((ptrdiff_t)(in + g * GROUP * in_step));
}

static INLINE const char *pixel(const pixels_at *at, int m) {
    return at->base[m / GROUP] + step_at(at->step, m % GROUP);
}

static INLINE void pixels_next(pixels_at *at, int MR) {
    UNROLL
    for (int g = 0; g * GROUP < MR; g++) at->base[g] += 4;
}

/* --- one tile ----------------------------------------------------------------------------------- */

#ifdef CONV_U8
static INLINE void tile_u8(const espl__conv *p, const char *in, int block, vi *sums, int MR, int NRB) {
    const int NV = NRB * VPB;
    vi acc[32];
    const ptrdiff_t w_block = (ptrdiff_t)p->segments * p->seg_k * ESPL__NR * 4;
    const int8_t *w = (const int8_t *)p->w + block * w_block;
    const int32_t *bias = (const int32_t *)p->bias + block * ESPL__NR;
    const steps w_step = steps_of(w_block);
    pixels_at at = {.step = steps_of(p->in_step)};
    UNROLL
    for (int i = 0; i < MR * NV; i++) acc[i] = vi_load(bias + i % NV * VL);
    for (int s = 0; s < p->segments; s++) {
        pixels_start(&at, in + p->seg_off[s], p->in_step, MR);
        for (int k = p->seg_k; k > 0; k--) {
            w_operand wv[8 * VPB];
            const x_operand only = x_load((const uint8_t *)pixel(&at, 0));
            UNROLL
            for (int n = 0; n < NV; n++) {
                wv[n] = w_load(w + step_at(w_step, n / VPB) + n % VPB * VL * 4);
                if (MR == 1) acc[n] = dot(acc[n], only, wv[n]); /* at once: each is used once */
            }
            UNROLL
            for (int m = 0; MR > 1 && m < MR; m++) {
                const x_operand x = m ? x_load((const uint8_t *)pixel(&at, m)) : only;
                UNROLL
                for (int n = 0; n < NV; n++) acc[m * NV + n] = dot(acc[m * NV + n], x, wv[n]);
            }
            w += ESPL__NR * 4;
            pixels_next(&at, MR);
        }
    }
    UNROLL
    for (int i = 0; i < MR * NV; i++) sums[i] = acc[i];
}
#endif

#ifdef CONV_F32
static INLINE void tile_f32(const espl__conv *p, const char *in, int block, vf *sums, int MR, int NRB) {
    const int NV = NRB * VPB;
    vf acc[32];
    const ptrdiff_t w_block = (ptrdiff_t)p->segments * p->seg_k * ESPL__NR * 4;
    const char *w = (const char *)p->w + block * w_block;
    const float *bias = (const float *)p->bias + block * ESPL__NR;
    const steps w_step = steps_of(w_block);
    pixels_at at = {.step = steps_of(p->in_step)};
    UNROLL
    for (int i = 0; i < MR * NV; i++) acc[i] = vf_load(bias + i % NV * VL);
    for (int s = 0; s < p->segments; s++) {
        pixels_start(&at, in + p->seg_off[s], p->in_step, MR);
        for (int k = p->seg_k; k > 0; k--) {
            vf wv[8 * VPB];
            UNROLL
            for (int n = 0; n < NV; n++)
                wv[n] = vf_load((const float *)(w + step_at(w_step, n / VPB) + n % VPB * VL * 4));
            UNROLL
            for (int m = 0; m < MR; m++) {
                vf x = vf_set1(*(const float *)pixel(&at, m));
                UNROLL
                for (int n = 0; n < NV; n++) acc[m * NV + n] = vf_fma(x, wv[n], acc[m * NV + n]);
            }
            w += ESPL__NR * 4;
            pixels_next(&at, MR);
        }
    }
    UNROLL
    for (int i = 0; i < MR * NV; i++) sums[i] = acc[i];
}
#endif

/* --- one row -------------------------------------------------------------------------------------- */

#define TILES(X) TILES_1(X) TILES_2(X) TILES_3(X) TILES_4(X) TILES_8(X)
/* tiles[NRB][MR - 1] */
#define TABLE(ENTRY)                                                                                    \
    {                                                                                                   \
        [1] = {TILES_1(ENTRY)}, [2] = {TILES_2(ENTRY)}, [3] = {TILES_3(ENTRY)}, [4] = {TILES_4(ENTRY)}, \
        [8] = {TILES_8(ENTRY)},                                                                         \
    }
typedef tile_fn *tile_table[9][MR_1];

/* Blocks in groups, each group's pixels in tiles of nearly equal width: no ragged last tile. */
static INLINE void run(const tile_table tiles, finish_fn *finish, const espl__conv *p, const char *in,
                       char *out, const char *res, int pixels, int block0, int block1) {
    static const int mr_max[9] = {[1] = MR_1, [2] = MR_2, [3] = MR_3, [4] = MR_4, [8] = MR_8};
    _Alignas(64) int32_t sums[32 * VL];
    assert(pixels >= 0 && block0 >= 0 && p->segments >= 0 && p->seg_k >= 0);
    for (int block = block0; block < block1;) {
        const int nrb = blocks_per_tile(pixels, block1 - block);
        const int count = (pixels + mr_max[nrb] - 1) / mr_max[nrb];
        const int width = count ? pixels / count : 0, wider = pixels - width * count;
        ptrdiff_t first = 0;
        for (int t = 0; t < count; t++) {
            const int mr = width + (t < wider);
            tiles[nrb][mr - 1](p, in + first * p->in_step, block, sums);
            finish(p, sums, block, nrb, mr, out + first * p->out_step,
                   res ? res + first * p->res_step : NULL);
            first += mr;
        }
        block += nrb;
    }
}

static INLINE place place_of(const espl__conv *p, int block, char *out, const char *res) {
    return (place){block * ESPL__NR, p->channels, out, p->out_step, res, p->res_step};
}

#ifdef CONV_U8
#define DEFINE(MR, NRB)                                                                       \
    static void u8_##MR##x##NRB(const espl__conv *p, const char *in, int block, void *sums) { \
        tile_u8(p, in, block, sums, MR, NRB);                                                 \
    }
TILES(DEFINE)
#undef DEFINE
#define ENTRY(MR, NRB) u8_##MR##x##NRB,
static const tile_table u8_tiles = TABLE(ENTRY);
#undef ENTRY

static void finish_u8(const espl__conv *p, const void *sums, int block, int nrb, int pixels, char *out,
                      const char *res) {
    store_u8(&p->q, sums, nrb, pixels, place_of(p, block, out, res));
}

static void finish_u8_f32(const espl__conv *p, const void *sums, int block, int nrb, int pixels, char *out,
                          const char *res) {
    _Alignas(64) float x[32 * VL];
    for (int n = 0; n < nrb; n++)
        for (int v = 0; v < VPB; v++) {
            const int c = (block + n) * ESPL__NR + v * VL;
            const vf mult = vf_load(p->q.mult + c);
            for (int m = 0; m < pixels; m++) {
                const int i = (m * nrb + n) * ESPL__NR + v * VL;
                vf y = vf_mul(vf_of(vi_load((const int32_t *)sums + i)), mult);
                if (p->fbias) y = vf_add(y, vf_load(p->fbias + c));
                vf_store(x + i, y);
            }
        }
    for (int n = 0; n < nrb; n++)
        store_block_f32(p->flo, p->fhi, x + n * ESPL__NR, nrb * ESPL__NR, pixels,
                        place_of(p, block + n, out, res));
}

static void conv_u8(const espl__conv *p, const uint8_t *in, uint8_t *out, const uint8_t *res, int pixels,
                    int block0, int block1) {
    run(u8_tiles, finish_u8, p, (const char *)in, (char *)out, (const char *)res, pixels, block0, block1);
}

static void conv_u8_f32(const espl__conv *p, const uint8_t *in, float *out, int pixels, int block0,
                        int block1) {
    run(u8_tiles, finish_u8_f32, p, (const char *)in, (char *)out, NULL, pixels, block0, block1);
}
#endif

#ifdef CONV_F32
#define DEFINE(MR, NRB)                                                                        \
    static void f32_##MR##x##NRB(const espl__conv *p, const char *in, int block, void *sums) { \
        tile_f32(p, in, block, sums, MR, NRB);                                                 \
    }
TILES(DEFINE)
#undef DEFINE
#define ENTRY(MR, NRB) f32_##MR##x##NRB,
static const tile_table f32_tiles = TABLE(ENTRY);
#undef ENTRY

static void finish_f32(const espl__conv *p, const void *sums, int block, int nrb, int pixels, char *out,
                       const char *res) {
    for (int n = 0; n < nrb; n++)
        store_block_f32(p->flo, p->fhi, (const float *)sums + n * ESPL__NR, nrb * ESPL__NR, pixels,
                        place_of(p, block + n, out, res));
}

static void conv_f32(const espl__conv *p, const float *in, float *out, const float *res, int pixels,
                     int block0, int block1) {
    run(f32_tiles, finish_f32, p, (const char *)in, (char *)out, (const char *)res, pixels, block0, block1);
}
#endif
