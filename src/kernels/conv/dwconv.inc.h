/* Depthwise convolution of one row, VL channels and up to MR_MAX pixels at a time: one body for every instruction set.
 * A tap's weights are loaded once for all pixels of the tile; the sums stay in registers. */
#include "kernels/conv/requant.inc.h"
#include "kernels/families.h"

enum { MR_MAX = 8 };
#define TILES(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8)

typedef void tile_fn(const espl__dwconv *p, const char *in, char *out, const char *res, int c);

static INLINE ptrdiff_t tap_stride(const espl__dwconv *p) { return (p->channels + ESPL__NR - 1) / ESPL__NR * ESPL__NR; }

#ifdef CONV_U8
/* `valid` is VL itself in all but the last channels, so that whole vectors need no mask. */
static INLINE void tile_u8(const espl__dwconv *p, const char *in, char *out, const char *res, int c, int valid,
                           int MR) {
    const int32_t *w = (const int32_t *)p->w + c;
    const ptrdiff_t stride = tap_stride(p);
    const steps step = steps_of(p->in_step);
    vi acc[MR_MAX];
    UNROLL
    for (int m = 0; m < MR; m++) acc[m] = vi_load((const int32_t *)p->bias + c);
    for (int t = 0; t < p->taps; t++, w += stride) {
        const uint8_t *x = (const uint8_t *)in + p->tap_off[t] + c;
        const vi wv = vi_load(w);
        UNROLL
        for (int m = 0; m < MR; m++) acc[m] = vi_madd(acc[m], vi_load_u8_part(x + step_at(step, m), valid), wv);
    }
    const epilogue e = epilogue_of(&p->q, res);
    const vf mult = vf_load(p->q.mult + c);
    uint8_t *o = (uint8_t *)out + c;
    const uint8_t *r = (const uint8_t *)res + (res ? c : 0);
    UNROLL
    for (int m = 0; m < MR; m++, o += p->out_step) {
        vi y = res ? finish_residual(&e, acc[m], mult, vi_load_u8_part(r + m * p->res_step, valid))
                   : finish(&e, acc[m], mult);
        vi_store_u8_part(o, y, valid);
    }
}
#endif

#ifdef CONV_F32
static INLINE void tile_f32(const espl__dwconv *p, const char *in, char *out, const char *res, int c, int valid,
                            int MR) {
    const float *w = (const float *)p->w + c;
    const ptrdiff_t stride = tap_stride(p), at = c * (ptrdiff_t)sizeof(float);
    const steps step = steps_of(p->in_step);
    vf acc[MR_MAX];
    UNROLL
    for (int m = 0; m < MR; m++) acc[m] = vf_load((const float *)p->bias + c);
    for (int t = 0; t < p->taps; t++, w += stride) {
        const char *x = in + p->tap_off[t] + at;
        const vf wv = vf_load(w);
        UNROLL
        for (int m = 0; m < MR; m++)
            acc[m] = vf_fma(vf_load_part((const float *)(x + step_at(step, m)), valid), wv, acc[m]);
    }
    const vf lo = vf_set1(p->flo), hi = vf_set1(p->fhi);
    char *o = out + at;
    const char *r = res + (res ? at : 0);
    UNROLL
    for (int m = 0; m < MR; m++, o += p->out_step) {
        vf y = acc[m];
        if (res) y = vf_add(y, vf_load_part((const float *)(r + m * p->res_step), valid));
        vf_store_part((float *)o, clamp(y, lo, hi), valid);
    }
}
#endif

/* Channels [c, last) in vectors, each vector's pixels in tiles of nearly equal width. */
static INLINE void run(tile_fn *const *tiles, const espl__dwconv *p, const char *in, char *out, const char *res,
                       int pixels, int c, int last) {
    assert(pixels >= 0 && c >= 0 && p->taps >= 0);
    const int count = (pixels + MR_MAX - 1) / MR_MAX;
    const int width = count ? pixels / count : 0, wider = pixels - width * count;
    for (; c < last; c += VL) {
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

#define DEFINE(type, MR)                                                                                        \
    static void type##_##MR(const espl__dwconv *p, const char *in, char *out, const char *res, int c) {        \
        const int valid = p->channels - c;                                                                      \
        if (valid >= VL)                                                                                        \
            tile_##type(p, in, out, res, c, VL, MR);                                                            \
        else                                                                                                    \
            tile_##type(p, in, out, res, c, valid, MR);                                                         \
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

static void dwconv_f32(const espl__dwconv *p, const float *in, float *out, const float *res, int pixels, int block0,
                       int block1) {
    run(f32_tiles, p, (const char *)in, (char *)out, (const char *)res, pixels, block0 * ESPL__NR,
        last_channel(p, block1));
}
#endif
