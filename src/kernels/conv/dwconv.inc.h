/* Depthwise convolution, 16 channels and up to MR_MAX pixels at a time: one body for every
 * instruction set. A tap's weights are loaded once for all pixels of the tile; the sums, eight vectors, stay
 * in registers. The including file has the vector words and TILES(X): X(MR) for MR = 1 to MR_MAX. */
#include "kernels/families.h"
#include "kernels/simd/requant.inc.h"

typedef void tile_fn(const espl__dwconv *p, const char *in, char *out, const char *res, int c);

static INLINE ptrdiff_t tap_stride(const espl__dwconv *p) {
    return (p->channels + ESPL__NR - 1) / ESPL__NR * ESPL__NR;
}

/* The bytes from tap to tap if the taps are three rows of three at equal distances; 0: they are not. */
static INLINE ptrdiff_t window_step(const espl__dwconv *p) {
    if (p->taps != 9) return 0;
    const ptrdiff_t step = p->tap_off[1] - p->tap_off[0];
    for (int t = 0; t < 9; t++)
        if (p->tap_off[t] != p->tap_off[t / 3 * 3] + t % 3 * step) return 0;
    return step;
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

#ifdef CONV_F32
/* A 3x3 window at stride S: what neighbouring pixels share is loaded once. Taps are added in the same order.
 */
static INLINE void window_f32(const espl__dwconv *p, ptrdiff_t step, const char *in, char *out,
                              const char *res, int c, int valid, int MR, int S) {
    const ptrdiff_t stride = tap_stride(p);
    const vf lo = vf_set1(p->flo), hi = vf_set1(p->fhi);
    for (int v = 0; v < VPB && valid > v * VL; v++) {
        const float *w = (const float *)p->w + c + v * VL;
        const int lanes_left = valid - v * VL;
        const ptrdiff_t at = (c + v * VL) * (ptrdiff_t)sizeof(float);
        vf acc[8];
        UNROLL
        for (int m = 0; m < MR; m++) acc[m] = vf_load((const float *)p->bias + c + v * VL);
        for (int r = 0; r < 3; r++, w += 3 * stride) {
            const char *x = in + p->tap_off[3 * r] + at;
            vf xv[2 * 8 + 1];
            UNROLL
            for (int i = 0; i < (MR - 1) * S + 3; i++, x += step)
                xv[i] = vf_load_part((const float *)x, lanes_left);
            UNROLL
            for (int k = 0; k < 3; k++) {
                const vf wv = vf_load(w + k * stride);
                UNROLL
                for (int m = 0; m < MR; m++) acc[m] = vf_fma(xv[m * S + k], wv, acc[m]);
            }
        }
        char *o = out + at;
        UNROLL
        for (int m = 0; m < MR; m++, o += p->out_step) {
            vf y = acc[m];
            if (res) y = vf_add(y, vf_load_part((const float *)(res + m * p->res_step + at), lanes_left));
            vf_store_part((float *)o, clamp(y, lo, hi), lanes_left);
        }
    }
}
#endif

/* Rows of a call: y counts from the pointers given. */
typedef struct {
    const char *in, *res;
    char *out;
    int pixels;
} row;

static INLINE row row_at(const espl__dwconv *p, const void *in, void *out, const void *res, int pixels,
                         int y) {
    const int width = p->width && p->width < pixels ? p->width : pixels, left = pixels - y * width;
    return (row){(const char *)in + y * p->in_row, res ? (const char *)res + y * p->res_row : NULL,
                 (char *)out + y * p->out_row, left < width ? left : width};
}

static INLINE int rows_of(const espl__dwconv *p, int pixels) {
    return p->width && p->width < pixels ? (pixels + p->width - 1) / p->width : pixels > 0;
}

/* Pixels in tiles of nearly equal width. */
static INLINE void run_row(tile_fn *const *tiles, const espl__dwconv *p, row r, int c) {
    const int count = (r.pixels + MR_MAX - 1) / MR_MAX;
    const int width = r.pixels / count, wider = r.pixels - width * count;
    for (int t = 0; t < count; t++) {
        const int mr = width + (t < wider);
        tiles[mr - 1](p, r.in, r.out, r.res, c);
        r.in += mr * p->in_step;
        r.out += mr * p->out_step;
        if (r.res) r.res += mr * p->res_step;
    }
}

/* Channels [c, last) in blocks, all rows of a block before the next: rows share most of what they read. */
static INLINE void run(tile_fn *const *tiles, const espl__dwconv *p, const char *in, char *out,
                       const char *res, int pixels, int c, int last) {
    assert(pixels >= 0 && c >= 0 && p->taps >= 0);
    for (; c < last; c += ESPL__NR)
        for (int y = 0; y < rows_of(p, pixels); y++) run_row(tiles, p, row_at(p, in, out, res, pixels, y), c);
}

static INLINE int last_channel(const espl__dwconv *p, int block1) {
    return block1 * ESPL__NR < p->channels ? block1 * ESPL__NR : p->channels;
}

#ifdef CONV_U8
#define DEFINE_U8(MR)                                                                               \
    static void u8_##MR(const espl__dwconv *p, const char *in, char *out, const char *res, int c) { \
        const int valid = p->channels - c;                                                          \
        if (valid >= ESPL__NR)                                                                      \
            tile_u8(p, in, out, res, c, ESPL__NR, MR);                                              \
        else                                                                                        \
            tile_u8(p, in, out, res, c, valid, MR);                                                 \
    }
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
#define DEFINE_F32(MR)                                                                               \
    static void f32_##MR(const espl__dwconv *p, const char *in, char *out, const char *res, int c) { \
        const int valid = p->channels - c < ESPL__NR ? p->channels - c : ESPL__NR;                   \
        const ptrdiff_t step = window_step(p);                                                       \
        if (step && p->in_step == step)                                                              \
            window_f32(p, step, in, out, res, c, valid, MR, 1);                                      \
        else if (step && p->in_step == 2 * step)                                                     \
            window_f32(p, step, in, out, res, c, valid, MR, 2);                                      \
        else                                                                                         \
            tile_f32(p, in, out, res, c, valid, MR);                                                 \
    }
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
