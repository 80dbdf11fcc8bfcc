/* Convolution of one row, in register tiles of MR pixels x NRB blocks of 16 output channels: one body for every instruction
 * set. The including file has the vector words (simd_<isa>.h) and says how large a tile may be:
 *
 *   TILES_1(X) TILES_2(X) TILES_3(X) TILES_4(X) TILES_8(X)   X(MR, NRB) for MR = 1, 2, ... up to MR_n
 *   enum { MR_1, MR_2, MR_3, MR_4, MR_8 }                     0: no such tile
 *
 * For each k a tile loads one vector of weights per block and broadcasts the inputs of one pixel after the other; its MR x
 * NRB accumulators stay in registers from the bias to the store. */
#include "kernels/conv/requant.inc.h"
#include "kernels/families.h"

enum { VPB = ESPL__NR / VL }; /* vectors a block */

typedef void tile_fn(const espl__conv *p, const char *in, char *out, const char *res, int block);

/* --- walking the input and the weights --------------------------------------------------------- */

enum { GROUP = 7, GROUPS = 4 }; /* pixels that share a base; bases of the largest tile, 28 pixels */

typedef struct {
    const char *base[GROUPS];
    steps step;
} pixels_at;

static INLINE void pixels_start(pixels_at *at, const char *in, ptrdiff_t in_step, int MR) {
    UNROLL
    for (int g = 0; g * GROUP < MR; g++) at->base[g] = (const char *)opaque((ptrdiff_t)(in + g * GROUP * in_step));
}

static INLINE const char *pixel(const pixels_at *at, int m) {
    return at->base[m / GROUP] + step_at(at->step, m % GROUP);
}

static INLINE void pixels_next(pixels_at *at, int MR) {
    UNROLL
    for (int g = 0; g * GROUP < MR; g++) at->base[g] += 4;
}

/* --- accumulation ------------------------------------------------------------------------------- */

#ifdef CONV_U8
static INLINE void accumulate_u8(const espl__conv *p, const char *in, int block, vi *acc, int MR, int NRB) {
    const int NV = NRB * VPB;
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
            UNROLL
            for (int n = 0; n < NV; n++) wv[n] = w_load(w + step_at(w_step, n / VPB) + n % VPB * VL * 4);
            UNROLL
            for (int m = 0; m < MR; m++) {
                x_operand x = x_load((const uint8_t *)pixel(&at, m));
                UNROLL
                for (int n = 0; n < NV; n++) acc[m * NV + n] = dot(acc[m * NV + n], x, wv[n]);
            }
            w += ESPL__NR * 4;
            pixels_next(&at, MR);
        }
    }
}
#endif

#ifdef CONV_F32
static INLINE void accumulate_f32(const espl__conv *p, const char *in, int block, vf *acc, int MR, int NRB) {
    const int NV = NRB * VPB;
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
}
#endif

/* --- one tile ------------------------------------------------------------------------------------ */

#ifdef CONV_U8
static INLINE void tile_u8(const espl__conv *p, const char *in, char *out, const char *res, int block, int MR,
                           int NRB) {
    const int NV = NRB * VPB;
    vi acc[32];
    accumulate_u8(p, in, block, acc, MR, NRB);
    const epilogue e = epilogue_of(&p->q, res);
    UNROLL
    for (int n = 0; n < NV; n++) {
        const int c = block * ESPL__NR + n * VL, valid = p->channels - c;
        if (valid <= 0) break;
        const vf mult = vf_load(p->q.mult + c);
        uint8_t *o = (uint8_t *)out + c;
        if (res) {
            const uint8_t *r = (const uint8_t *)res + c;
            UNROLL
            for (int m = 0; m < MR; m++, o += p->out_step, r += p->res_step)
                vi_store_u8_part(o, finish_residual(&e, acc[m * NV + n], mult, vi_load_u8_part(r, valid)), valid);
        } else {
            UNROLL
            for (int m = 0; m < MR; m++, o += p->out_step)
                vi_store_u8_part(o, finish(&e, acc[m * NV + n], mult), valid);
        }
    }
}

static INLINE void tile_u8_f32(const espl__conv *p, const char *in, char *out, int block, int MR, int NRB) {
    const int NV = NRB * VPB;
    vi acc[32];
    accumulate_u8(p, in, block, acc, MR, NRB);
    const vf lo = vf_set1(p->flo), hi = vf_set1(p->fhi);
    UNROLL
    for (int n = 0; n < NV; n++) {
        const int c = block * ESPL__NR + n * VL, valid = p->channels - c;
        if (valid <= 0) break;
        const vf mult = vf_load(p->q.mult + c);
        char *o = out + c * (ptrdiff_t)sizeof(float);
        UNROLL
        for (int m = 0; m < MR; m++, o += p->out_step) {
            vf x = vf_mul(vf_of(acc[m * NV + n]), mult);
            if (p->fbias) x = vf_add(x, vf_load(p->fbias + c));
            vf_store_part((float *)o, clamp(x, lo, hi), valid);
        }
    }
}
#endif

#ifdef CONV_F32
static INLINE void tile_f32(const espl__conv *p, const char *in, char *out, const char *res, int block, int MR,
                            int NRB) {
    const int NV = NRB * VPB;
    vf acc[32];
    accumulate_f32(p, in, block, acc, MR, NRB);
    const vf lo = vf_set1(p->flo), hi = vf_set1(p->fhi);
    UNROLL
    for (int n = 0; n < NV; n++) {
        const int c = block * ESPL__NR + n * VL, valid = p->channels - c;
        if (valid <= 0) break;
        char *o = out + c * (ptrdiff_t)sizeof(float);
        const char *r = res + (res ? c * (ptrdiff_t)sizeof(float) : 0);
        UNROLL
        for (int m = 0; m < MR; m++, o += p->out_step) {
            vf x = acc[m * NV + n];
            if (res) {
                x = vf_add(x, vf_load_part((const float *)r, valid));
                r += p->res_step;
            }
            vf_store_part((float *)o, clamp(x, lo, hi), valid);
        }
    }
}
#endif

/* --- one row -------------------------------------------------------------------------------------- */

#define TILES(X) TILES_1(X) TILES_2(X) TILES_3(X) TILES_4(X) TILES_8(X)
/* tiles[NRB][MR - 1] */
#define TABLE(ENTRY)                                                                                   \
    {                                                                                                  \
        [1] = {TILES_1(ENTRY)}, [2] = {TILES_2(ENTRY)}, [3] = {TILES_3(ENTRY)}, [4] = {TILES_4(ENTRY)}, \
        [8] = {TILES_8(ENTRY)},                                                                        \
    }
typedef tile_fn *tile_table[9][MR_1];

/* Blocks in groups, each group's pixels in tiles of nearly equal width: no ragged last tile. */
static INLINE void run(const tile_table tiles, const espl__conv *p, const char *in, char *out, const char *res,
                       int pixels, int block0, int block1) {
    static const int mr_max[9] = {[1] = MR_1, [2] = MR_2, [3] = MR_3, [4] = MR_4, [8] = MR_8};
    assert(pixels >= 0 && block0 >= 0 && p->segments >= 0 && p->seg_k >= 0);
    for (int block = block0; block < block1;) {
        const int nrb = blocks_per_tile(pixels, block1 - block);
        const int count = (pixels + mr_max[nrb] - 1) / mr_max[nrb];
        const int width = count ? pixels / count : 0, wider = pixels - width * count;
        ptrdiff_t first = 0;
        for (int t = 0; t < count; t++) {
            const int mr = width + (t < wider);
            tiles[nrb][mr - 1](p, in + first * p->in_step, out + first * p->out_step,
                               res ? res + first * p->res_step : NULL, block);
            first += mr;
        }
        block += nrb;
    }
}

#ifdef CONV_U8
#define DEFINE(MR, NRB)                                                                                            \
    static void u8_##MR##x##NRB(const espl__conv *p, const char *in, char *out, const char *res, int block) {     \
        tile_u8(p, in, out, res, block, MR, NRB);                                                                  \
    }                                                                                                              \
    static void u8_f32_##MR##x##NRB(const espl__conv *p, const char *in, char *out, const char *res, int block) { \
        (void)res;                                                                                                 \
        tile_u8_f32(p, in, out, block, MR, NRB);                                                                   \
    }
TILES(DEFINE)
#undef DEFINE

#define ENTRY(MR, NRB) u8_##MR##x##NRB,
static const tile_table u8_tiles = TABLE(ENTRY);
#undef ENTRY
#define ENTRY(MR, NRB) u8_f32_##MR##x##NRB,
static const tile_table u8_f32_tiles = TABLE(ENTRY);
#undef ENTRY

static void conv_u8(const espl__conv *p, const uint8_t *in, uint8_t *out, const uint8_t *res, int pixels, int block0,
                    int block1) {
    run(u8_tiles, p, (const char *)in, (char *)out, (const char *)res, pixels, block0, block1);
}

static void conv_u8_f32(const espl__conv *p, const uint8_t *in, float *out, int pixels, int block0, int block1) {
    run(u8_f32_tiles, p, (const char *)in, (char *)out, NULL, pixels, block0, block1);
}
#endif

#ifdef CONV_F32
#define DEFINE(MR, NRB)                                                                                         \
    static void f32_##MR##x##NRB(const espl__conv *p, const char *in, char *out, const char *res, int block) { \
        tile_f32(p, in, out, res, block, MR, NRB);                                                              \
    }
TILES(DEFINE)
#undef DEFINE
#define ENTRY(MR, NRB) f32_##MR##x##NRB,
static const tile_table f32_tiles = TABLE(ENTRY);
#undef ENTRY

static void conv_f32(const espl__conv *p, const float *in, float *out, const float *res, int pixels, int block0,
                     int block1) {
    run(f32_tiles, p, (const char *)in, (char *)out, (const char *)res, pixels, block0, block1);
}
#endif
