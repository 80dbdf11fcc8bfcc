/* Depthwise convolution of one row, 16 channels and up to MR_MAX pixels at a time: one body for every
 * instruction set. A tap's weights are loaded once for all pixels of the tile; the sums, eight vectors, stay
 * in registers. The including file has the vector words and TILES(X): X(MR) for MR = 1 to MR_MAX. */
#include "kernels/families.h"
#include "kernels/simd/requant.inc.h"

typedef void tile_fn(const espl__dwconv *p, const char *in, char *out, const char *res, int c);

static INLINE ptrdiff_t tap_stride(const espl__dwconv *p) {
    return (p->channels + ESPL__NR - 1) / ESPL__NR * ESPL__NR;
}

/* In the tiles `valid` is 16 in all but the last channels, so that whole vectors need no mask. */

#ifdef CONV_U8
static INLINE void tile_u8(const espl__dwconv *p, const char *in, char *out, const char *res, int c,
                           int valid, int MR) {
    const int32_t *w = (const int32_t *)p->w + c;
    const ptrdiff_t stride = tap_stride(p);
    const steps step = steps_of(p->in_step);
    vi acc[8];
    UNROLL
    for (int i = 0; i < MR * VPB; i++) acc[i] = vi_load((const int32_t *)p->bias + c + i % VPB * VL);
    for (int t = 0; t < p->taps; t++, w += stride) {
        const uint8_t *x = (const uint8_t *)in + p->tap_off[t] + c;
        UNROLL
        for (int v = 0; v < VPB; v++) {
            const vi wv = vi_load(w + v * VL);
            UNROLL
            for (int m = 0; m < MR; m++)
                acc[m * VPB + v] = vi_madd(
                    acc[m * VPB + v], vi_load_u8_part(x + v * VL + step_at(step, m), valid - v * VL), wv);
        }
    }
    /* A copy: an array that a function sees would be in memory all along. */
    _Alignas(64) int32_t sums[8 * VL];
    UNROLL
    for (int i = 0; i < MR * VPB; i++) vi_store(sums + i * VL, acc[i]);
    store_u8(&p->q, sums, 1, MR, (place){c, c + valid, out, p->out_step, res, p->res_step});
}
#endif

#ifdef CONV_F32
static INLINE void tile_f32(const espl__dwconv *p, const char *in, char *out, const char *res, int c,
                            int valid, int MR) {
    const float *w = (const float *)p->w + c;
    const ptrdiff_t stride = tap_stride(p);
    const steps step = steps_of(p->in_step);
    vf acc[8];
    UNROLL
    for (int i = 0; i < MR * VPB; i++) acc[i] = vf_load((const float *)p->bias + c + i % VPB * VL);
    for (int t = 0; t < p->taps; t++, w += stride) {
        const char *x = in + p->tap_off[t] + c * (ptrdiff_t)sizeof(float);
        UNROLL
        for (int v = 0; v < VPB; v++) {
            if (valid <= v * VL) break;
            const vf wv = vf_load(w + v * VL);
            UNROLL
            for (int m = 0; m < MR; m++) {
                const vf xv = vf_load_part((const float *)(x + step_at(step, m)) + v * VL, valid - v * VL);
                acc[m * VPB + v] = vf_fma(xv, wv, acc[m * VPB + v]);
            }
        }
    }
    _Alignas(64) float sums[8 * VL];
    UNROLL
    for (int i = 0; i < MR * VPB; i++) vf_store(sums + i * VL, acc[i]);
    store_block_f32(p->flo, p->fhi, sums, ESPL__NR, MR,
                    (place){c, c + valid, out, p->out_step, res, p->res_step});
}
#endif

/* Channels [c, last) in blocks, each block's pixels in tiles of nearly equal width. */
static INLINE void run(tile_fn *const *tiles, const espl__dwconv *p, const char *in, char *out,
                       const char *res, int pixels, int c, int last) {
    assert(pixels >= 0 && c >= 0 && p->taps >= 0);
    const int count = (pixels + MR_MAX - 1) / MR_MAX;
    const int width = count ? pixels / count : 0, wider = pixels - width * count;
    for (; c < last; c += ESPL__NR) {
        ptrdiff_t first = 0;
        for (int t = 0; t < count; t++) {
            const int mr = width + (t < wider);
            tiles[mr - 1](p, in + first * p->in_step, out + first * p->out_step,
                          res ? res + first * p->res_step : NULL, c);
            first += mr;
        }
    }
}

static INLINE int last_channel(const espl__dwconv *p, int block1) {
    return block1 * ESPL__NR < p->channels ? block1 * ESPL__NR : p->channels;
}

#define DEFINE(type, MR)                                                                                \
    static void type##_##MR(const espl__dwconv *p, const char *in, char *out, const char *res, int c) { \
        const int valid = p->channels - c;                                                              \
        if (valid >= ESPL__NR)                                                                          \
            tile_##type(p, in, out, res, c, ESPL__NR, MR);                                              \
        else                                                                                            \
            tile_##type(p, in, out, res, c, valid, MR);                                                 \
    }

#ifdef CONV_U8
#define DEFINE_U8(MR) DEFINE(u8, MR)
TILES(DEFINE_U8)
#define ENTRY(MR) u8_##MR,
static tile_fn *const u8_tiles[] = {TILES(ENTRY)};
#undef ENTRY

static void dwconv_u8(const espl__dwconv *p, const uint8_t *in, uint8_t *out, const uint8_t *res, int pixels,
                      int block0, int block1) {
    int c = block0 * ESPL__NR;
    const int last = last_channel(p, block1);
#ifdef DW_WIDE
    c = DW_WIDE(p, in, out, res, pixels, c, last);
#endif
    run(u8_tiles, p, (const char *)in, (char *)out, (const char *)res, pixels, c, last);
}
#endif

#ifdef CONV_F32
#define DEFINE_F32(MR) DEFINE(f32, MR)
TILES(DEFINE_F32)
#define ENTRY(MR) f32_##MR,
static tile_fn *const f32_tiles[] = {TILES(ENTRY)};
#undef ENTRY

static void dwconv_f32(const espl__dwconv *p, const float *in, float *out, const float *res, int pixels,
                       int block0, int block1) {
    run(f32_tiles, p, (const char *)in, (char *)out, (const char *)res, pixels, block0 * ESPL__NR,
        last_channel(p, block1));
}
#endif
