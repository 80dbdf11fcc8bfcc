/* Depthwise convolution, 16 channels and up to MR_MAX pixels of a row at a time: one body for every
 * instruction set. A tap's weights are loaded once for all pixels of the tile; the sums stay in registers.
 * The including file has the vector words and TILES(X): X(MR) for MR = 1 to MR_MAX. */
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
static BODY void tile_u8(const espl__dwconv *p, const char *in, char *out, const char *res, int c, int valid,
                         int MR) {
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
static BODY void tile_f32(const espl__dwconv *p, const char *in, char *out, const char *res, int c, int valid,
                          int MR) {
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
/* 3x3 windows at stride S, R rows of MR: each input is loaded once for all that share it and stays in its
 * register, where it meets up to nine weights per pair of rows. Taps are added in the same order as ever. */
static BODY void window_f32(const espl__dwconv *p, const char *in, char *out, const char *res, int c,
                            int valid, int MR, int R, int S) {
    const ptrdiff_t stride = tap_stride(p), step = p->in_step / S, line = p->tap_off[3] - p->tap_off[0];
    const vf lo = vf_set1(p->flo), hi = vf_set1(p->fhi);
    for (int v = 0; v < VPB && valid > v * VL; v++) {
        const float *w = (const float *)p->w + c + v * VL;
        const int left = valid - v * VL;
        const ptrdiff_t at = (c + v * VL) * (ptrdiff_t)sizeof(float);
        const char *x0 = in + p->tap_off[0] + at;
        vf acc[2 * MR_MAX], wv[9];
        UNROLL
        for (int k = 0; k < 9; k++) wv[k] = vf_load(w + k * stride);
        UNROLL
        for (int m = 0; m < R * MR; m++) acc[m] = vf_load((const float *)p->bias + c + v * VL);
        UNROLL
        for (int y = 0; y < (R - 1) * S + 3; y++, x0 += line) {
            const char *x = x0;
            UNROLL
            for (int i = 0; i < (MR - 1) * S + 3; i++, x += step) {
                const vf xv = vf_opaque(vf_load_part((const float *)x, left));
                UNROLL
                for (int t = 0; t < 3 * R; t++) { /* the row q of sums, the column k of its window */
                    const int q = t / 3, k = t % 3, row = y - q * S, m = (i - k) / S;
                    if (row < 0 || row > 2 || i < k || (i - k) % S || m >= MR) continue;
                    acc[q * MR + m] = vf_fma(xv, wv[row * 3 + k], acc[q * MR + m]);
                }
            }
        }
        UNROLL
        for (int m = 0; m < R * MR; m++) {
            char *o = out + m / MR * p->out_row + m % MR * p->out_step + at;
            vf y = acc[m];
            if (res) {
                const char *r = res + m / MR * p->res_row + m % MR * p->res_step + at;
                y = vf_add(y, vf_load_part((const float *)r, left));
            }
            vf_store_part((float *)o, clamp(y, lo, hi), left);
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

/* Pixels in tiles of nearly equal width, in each of them channels [c, last) in blocks. */
static INLINE void run_row(tile_fn *const *tiles, int mr_max, const espl__dwconv *p, row r, int c, int last) {
    const int count = (r.pixels + mr_max - 1) / mr_max;
    const int width = r.pixels / count, wider = r.pixels - width * count;
    for (int t = 0; t < count; t++) {
        const int mr = width + (t < wider);
        for (int block = c; block < last; block += ESPL__NR) tiles[mr - 1](p, r.in, r.out, r.res, block);
        r.in += mr * p->in_step;
        r.out += mr * p->out_step;
        if (r.res) r.res += mr * p->res_step;
    }
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

/* All rows of a block before the next: rows share most of what they read. */
static void dwconv_u8(const espl__dwconv *p, const uint8_t *in, uint8_t *out, const uint8_t *res, int pixels,
                      int block0, int block1) {
    int c = block0 * ESPL__NR;
    const int last = last_channel(p, block1);
#ifdef DW_WIDE
    c = DW_WIDE(p, in, out, res, pixels, c, last);
#endif
    assert(pixels >= 0 && c >= 0 && p->taps >= 0);
    for (; c < last; c += ESPL__NR)
        for (int y = 0; y < rows_of(p, pixels); y++)
            run_row(u8_tiles, MR_MAX, p, row_at(p, in, out, res, pixels, y), c, c + 1);
}
#endif

#ifdef CONV_F32
#define DEFINE(NAME, MR, TILE, ...)                                                                     \
    static void NAME##_##MR(const espl__dwconv *p, const char *in, char *out, const char *res, int c) { \
        const int valid = p->channels - c;                                                              \
        if (valid >= ESPL__NR)                                                                          \
            TILE(p, in, out, res, c, ESPL__NR, __VA_ARGS__);                                            \
        else                                                                                            \
            TILE(p, in, out, res, c, valid, __VA_ARGS__);                                               \
    }
#define DEFINE_ANY(MR) DEFINE(any, MR, tile_f32, MR)
#define DEFINE_ONE_1(MR) DEFINE(one_1, MR, window_f32, MR, 1, 1)
#define DEFINE_ONE_2(MR) DEFINE(one_2, MR, window_f32, MR, 1, 2)
#define DEFINE_TWO_1(MR) DEFINE(two_1, MR, window_f32, MR, 2, 1)
#define DEFINE_TWO_2(MR) DEFINE(two_2, MR, window_f32, MR, 2, 2)
TILES(DEFINE_ANY)
TILES(DEFINE_ONE_1)
TILES(DEFINE_ONE_2)
TILES(DEFINE_TWO_1)
TILES(DEFINE_TWO_2)
#define ENTRY_ANY(MR) any_##MR,
#define ENTRY_ONE_1(MR) one_1_##MR,
#define ENTRY_ONE_2(MR) one_2_##MR,
#define ENTRY_TWO_1(MR) two_1_##MR,
#define ENTRY_TWO_2(MR) two_2_##MR,
static tile_fn *const any_tiles[] = {TILES(ENTRY_ANY)};
/* [rows - 1][stride - 1] */
static tile_fn *const window_tiles[2][2][MR_MAX] = {{{TILES(ENTRY_ONE_1)}, {TILES(ENTRY_ONE_2)}},
                                                    {{TILES(ENTRY_TWO_1)}, {TILES(ENTRY_TWO_2)}}};

/* The stride of 3x3 windows at stride 1 or 2 whose rows are equally far apart and are stepped by whole
 * pixels; 0: something else. */
static INLINE int window_stride(const espl__dwconv *p) {
    const ptrdiff_t step = window_step(p);
    if (!step || p->tap_off[6] - p->tap_off[3] != p->tap_off[3] - p->tap_off[0]) return 0;
    return p->in_step == step ? 1 : p->in_step == 2 * step ? 2 : 0;
}

/* Four blocks of channels at a time: a quarter of a kilobyte of each pixel, whose lines the processor fetches
 * together. Rows of the same length in pairs, which share rows of the input. */
static void dwconv_f32(const espl__dwconv *p, const float *in, float *out, const float *res, int pixels,
                       int block0, int block1) {
    enum { GROUP = 4 * ESPL__NR };
    const int last = last_channel(p, block1), rows = rows_of(p, pixels), stride = window_stride(p);
    const bool pairs = stride && p->in_row == stride * (p->tap_off[3] - p->tap_off[0]);
    assert(pixels >= 0 && block0 >= 0 && p->taps >= 0);
    for (int c = block0 * ESPL__NR; c < last; c += GROUP)
        for (int y = 0, count; y < rows; y += count) {
            const row r = row_at(p, in, out, res, pixels, y);
            count =
                pairs && y + 1 < rows && row_at(p, in, out, res, pixels, y + 1).pixels == r.pixels ? 2 : 1;
            run_row(stride ? window_tiles[count - 1][stride - 1] : any_tiles, MR_MAX, p, r, c,
                    last - c < GROUP ? last : c + GROUP);
        }
}
#endif
