/* Convolution in register tiles of MR pixels x NRB blocks of 16 output channels: one body for
 * every instruction set. The including file has the vector words (simd/<isa>.h) and says how large a tile may
 * be:
 *
 *   TILES_1(X) TILES_2(X) TILES_3(X) TILES_4(X) TILES_8(X)   X(MR, NRB) for MR = 1, 2, ... up to MR_n
 *   enum { MR_1, MR_2, MR_3, MR_4, MR_8 }                     0: no such tile
 *
 * For each k a tile loads one vector of weights per block and broadcasts the inputs of one pixel after the
 * other; its MR x NRB accumulators stay in registers from the bias to the last product. */
#include "kernels/families.h"
#include "kernels/conv/finish.inc.h"

/* MR pixels x NRB blocks from `block` on. Every GROUP pixels of the input start `group_step` bytes after the
 * ones before. Meanwhile the weights `ahead` bytes behind the ones in use may be fetched. Of bytes the
 * sums are left at `to`, [pixel][block][16], for a finish_fn; floats and the sums of 16 bits are stored from
 * the registers, and `to` is a target. */
typedef void tile_fn(const espl__conv *p, const char *in, ptrdiff_t group_step, int block, ptrdiff_t ahead,
                     void *to);

/* Where the pixels of a tile go: channel 0 of the first one, and the bytes from every GROUP to the next. */
typedef struct {
    char *out;
    const char *res;
    ptrdiff_t out_group, res_group;
} target;

/* --- walking the input and the weights --------------------------------------------------------- */

enum { GROUP = 7, GROUPS = 4 }; /* pixels that share a base; bases of the largest tile, 28 pixels */

typedef struct {
    const char *base[GROUPS];
    steps step;
} pixels_at;

static INLINE void pixels_start(pixels_at *at, const char *in, ptrdiff_t group_step, int MR) {
    UNROLL
    for (int g = 0; g * GROUP < MR; g++) at->base[g] = (const char *)opaque((ptrdiff_t)(in + g * group_step));
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
/* The products of `count` groups of each segment from the group `begin` on. Of every `row` pixels the first may be left out,
 * or the last. */
static INLINE void add_groups(const espl__conv *p, const char *in, ptrdiff_t group_step, const int8_t *w, steps w_step,
                              int begin, int count, ptrdiff_t ahead, const bool fetch, vi *acc, const int row,
                              const bool no_first, const bool no_last, const int MR, const int NRB) {
    const int NV = NRB * VPB;
    pixels_at at = {.step = steps_of(p->in_step)};
    w += (ptrdiff_t)begin * ESPL__NR * 4;
    for (int s = 0; s < p->segments; s++) {
        pixels_start(&at, in + p->seg_off[s] + 4 * begin, group_step, MR);
        for (int k = count; k > 0; k--) {
            w_operand wv[8 * VPB];
            if (fetch) fetch_line(w + ahead);
            const x_operand only = x_load((const uint8_t *)pixel(&at, 0));
            UNROLL
            for (int n = 0; n < NV; n++) {
                wv[n] = w_load(w + step_at(w_step, n / VPB) + n % VPB * VL * 4);
                if (MR == 1) acc[n] = dot(acc[n], only, wv[n]); /* at once: each is used once */
            }
            UNROLL
            for (int m = 0; MR > 1 && m < MR; m++) {
                if ((no_first && m % row == 0) || (no_last && m % row == row - 1)) continue;
                const x_operand x = m ? x_load((const uint8_t *)pixel(&at, m)) : only;
                UNROLL
                for (int n = 0; n < NV; n++) acc[m * NV + n] = dot(acc[m * NV + n], x, wv[n]);
            }
            w += ESPL__NR * 4;
            pixels_next(&at, MR);
        }
        w += (ptrdiff_t)(p->seg_k - count) * ESPL__NR * 4;
    }
}

/* The sums of a tile; `left`, `right`: it begins, or ends, every `row` pixels where the border is (espl__conv.edge). */
static INLINE void sum_tile(const espl__conv *p, const char *in, ptrdiff_t group_step, int block, ptrdiff_t ahead,
                            const bool fetch, vi *sums, const int row, const bool left, const bool right, const int MR,
                            const int NRB) {
    const int NV = NRB * VPB;
    vi acc[32];
    const ptrdiff_t w_block = espl__conv_w_block(p);
    const int8_t *w = (const int8_t *)p->w + block * w_block;
    const int32_t *bias = (const int32_t *)p->bias + block * ESPL__NR;
    const steps w_step = steps_of(w_block);
    const int first = left ? p->edge[0] : 0, last = right ? p->edge[1] : 0, end = p->seg_k - last;
    const int32_t *left_bias = left && p->edge_bias[0] ? p->edge_bias[0] + block * ESPL__NR : bias;
    const int32_t *right_bias = right && p->edge_bias[1] ? p->edge_bias[1] + block * ESPL__NR : bias;
    UNROLL
    for (int i = 0; i < MR * NV; i++) {
        const int x = i / NV % row;
        acc[i] = vi_load((x == 0 ? left_bias : x == row - 1 ? right_bias : bias) + i % NV * VL);
    }
    if (left) add_groups(p, in, group_step, w, w_step, 0, first, ahead, fetch, acc, row, true, false, MR, NRB);
    add_groups(p, in, group_step, w, w_step, first, end - first, ahead, fetch, acc, row, false, false, MR, NRB);
    if (right) add_groups(p, in, group_step, w, w_step, end, last, ahead, fetch, acc, row, false, true, MR, NRB);
    UNROLL
    for (int i = 0; i < MR * NV; i++) sums[i] = acc[i];
}

/* Twice, since where nothing is fetched even asking costs a hundredth. */
static BODY void tile_u8(const espl__conv *p, const char *in, ptrdiff_t group_step, int block, ptrdiff_t ahead,
                         vi *sums, const int row, const bool left, const bool right, const int MR, const int NRB) {
    if (MR * NRB * VPB > 8 && ahead)
        sum_tile(p, in, group_step, block, ahead, true, sums, row, left, right, MR, NRB);
    else
        sum_tile(p, in, group_step, block, 0, false, sums, row, left, right, MR, NRB);
}
#endif

#ifdef CONV_F32
/* Residual, bounds, store. `valid`: channels of the blocks that there are; whole vectors need no mask. */
static INLINE void store_tile(const espl__conv *p, vf *acc, int block, const target *to, int valid, int MR,
                              int NRB) {
    const int NV = NRB * VPB;
    const ptrdiff_t at = block * (ptrdiff_t)(ESPL__NR * sizeof(float));
    const vf lo = vf_set1(p->flo), hi = vf_set1(p->fhi);
    if (to->res) {
        UNROLL
        for (int m = 0; m < MR; m++) {
            const char *r = to->res + m / GROUP * to->res_group + m % GROUP * p->res_step + at;
            UNROLL
            for (int n = 0; n < NV; n++)
                acc[m * NV + n] =
                    vf_add(acc[m * NV + n], vf_load_part((const float *)r + n * VL, valid - n * VL));
        }
    }
    UNROLL
    for (int m = 0; m < MR; m++) {
        char *o = to->out + m / GROUP * to->out_group + m % GROUP * p->out_step + at;
        UNROLL
        for (int n = 0; n < NV; n++)
            vf_store_part((float *)o + n * VL, clamp(acc[m * NV + n], lo, hi), valid - n * VL);
    }
}

/* The products of `count` inputs of a segment. Of every `row` pixels the first may be left out, or the last. */
static INLINE void add_inputs(pixels_at *at, const char **w, steps w_step, int count, ptrdiff_t ahead, vf *acc, const int row,
                              const bool no_first, const bool no_last, const int MR, const int NRB) {
    const int NV = NRB * VPB;
    for (int k = count; k > 0; k--) {
        vf wv[8 * VPB];
        if (MR * NV > 8 && ahead) __builtin_prefetch(*w + ahead, 0, 2);
        UNROLL
        for (int n = 0; n < NV; n++) wv[n] = vf_load((const float *)(*w + step_at(w_step, n / VPB) + n % VPB * VL * 4));
        UNROLL
        for (int m = 0; m < MR; m++) {
            if ((no_first && m % row == 0) || (no_last && m % row == row - 1)) continue;
            vf x = vf_set1(*(const float *)pixel(at, m));
            UNROLL
            for (int n = 0; n < NV; n++) acc[m * NV + n] = vf_fma(x, wv[n], acc[m * NV + n]);
        }
        *w += ESPL__NR * 4;
        pixels_next(at, MR);
    }
}

/* `left`, `right`: as of tile_u8; here every sum keeps its order. */
static BODY void tile_f32(const espl__conv *p, const char *in, ptrdiff_t group_step, int block,
                          ptrdiff_t ahead, const target *to, const int row, const bool left, const bool right,
                          const int MR, const int NRB) {
    const int NV = NRB * VPB;
    vf acc[32];
    const ptrdiff_t w_block = espl__conv_w_block(p);
    const char *w = (const char *)p->w + block * w_block;
    const float *bias = (const float *)p->bias + block * ESPL__NR;
    const steps w_step = steps_of(w_block);
    pixels_at at = {.step = steps_of(p->in_step)};
    const int first = left ? p->edge[0] : 0, last = right ? p->edge[1] : 0, inner = p->seg_k - first - last;
    UNROLL
    for (int i = 0; i < MR * NV; i++) acc[i] = vf_load(bias + i % NV * VL);
    for (int s = 0; s < p->segments; s++) {
        pixels_start(&at, in + p->seg_off[s], group_step, MR);
        if (left) add_inputs(&at, &w, w_step, first, ahead, acc, row, true, false, MR, NRB);
        add_inputs(&at, &w, w_step, inner, ahead, acc, row, false, false, MR, NRB);
        if (right) add_inputs(&at, &w, w_step, last, ahead, acc, row, false, true, MR, NRB);
    }
    const int valid = p->channels - block * ESPL__NR;
    if (valid >= NRB * ESPL__NR)
        store_tile(p, acc, block, to, NRB * ESPL__NR, MR, NRB);
    else
        store_tile(p, acc, block, to, valid, MR, NRB);
}
#endif

#ifdef CONV_S16
/* Two products a lane: x has the same pair of inputs in all. */
static BODY void tile_s16(const espl__conv *p, const char *in, ptrdiff_t group_step, int block,
                          ptrdiff_t ahead, const target *to, int MR, int NRB) {
    const int NV = NRB * VPB;
    vi acc[32];
    const ptrdiff_t w_block = espl__conv_w_block(p);
    const char *w = (const char *)p->w + block * w_block;
    const int32_t *bias = (const int32_t *)p->bias + block * ESPL__NR;
    const steps w_step = steps_of(w_block);
    pixels_at at = {.step = steps_of(p->in_step)};
    UNROLL
    for (int i = 0; i < MR * NV; i++) acc[i] = vi_load(bias + i % NV * VL);
    for (int s = 0; s < p->segments; s++) {
        pixels_start(&at, in + p->seg_off[s], group_step, MR);
        for (int k = p->seg_k; k > 0; k--) {
            vi wv[8 * VPB];
            if (MR * NV > 8 && ahead) __builtin_prefetch(w + ahead, 0, 2);
            UNROLL
            for (int n = 0; n < NV; n++) wv[n] = vi_load(w + step_at(w_step, n / VPB) + n % VPB * VL * 4);
            UNROLL
            for (int m = 0; m < MR; m++) {
                const vi x = vi_set1(load4((const uint8_t *)pixel(&at, m)));
                UNROLL
                for (int n = 0; n < NV; n++) acc[m * NV + n] = vi_madd(acc[m * NV + n], x, wv[n]);
            }
            w += ESPL__NR * 4;
            pixels_next(&at, MR);
        }
    }
    UNROLL
    for (int m = 0; m < MR; m++) {
        char *o = to->out + m / GROUP * to->out_group + m % GROUP * p->out_step +
                  block * (ptrdiff_t)(ESPL__NR * sizeof(int32_t));
        UNROLL
        for (int n = 0; n < NV; n++) vi_store((int32_t *)(void *)o + n * VL, acc[m * NV + n]);
    }
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

/* Tiles that leave out products with the border (espl__conv.edge), of 2 blocks: [shape][those of the left border + 2 * of
 * the right one]; NULL: there is none. A row of an image is one tile or more. */
enum { ONE_NARROW_ROW, TWO_NARROW_ROWS, WIDE_ROW, SHAPES };
typedef tile_fn *edge_table[SHAPES][4];

/* X(name, MR, row, left, right) */
#define EDGE_TILES(X)                              \
    X(left_7, GROUP, GROUP, true, false)           \
    X(both_7, GROUP, GROUP, true, true)            \
    X(left_7_7, 2 * GROUP, GROUP, true, false)     \
    X(both_7_7, 2 * GROUP, GROUP, true, true)      \
    X(left_14, 2 * GROUP, 2 * GROUP, true, false)  \
    X(right_14, 2 * GROUP, 2 * GROUP, false, true) \
    X(both_14, 2 * GROUP, 2 * GROUP, true, true)
#define EDGE_TABLE(type)                                                      \
    {                                                                         \
        [ONE_NARROW_ROW] = {NULL, type##_left_7, NULL, type##_both_7},        \
        [TWO_NARROW_ROWS] = {NULL, type##_left_7_7, NULL, type##_both_7_7},   \
        [WIDE_ROW] = {NULL, type##_left_14, type##_right_14, type##_both_14}, \
    }

/* The tile of these edges, or the one that heeds none. */
static INLINE tile_fn *edge_tile(tile_fn *const *edges, tile_fn *plain, const espl__conv *p, bool left, bool right) {
    tile_fn *tile = edges[(left && p->edge[0]) + 2 * (right && p->edge[1])];
    return tile ? tile : plain;
}

/* While tiles are computed, the weights that are read next go to the second-level cache, a line for each k:
 * memory is too slow to deliver them in the time of the first tile alone. The tiles that share the weights in
 * use take turns, for one block of the next ones each. */
typedef struct {
    ptrdiff_t next, block_bytes; /* of weights: from those in use to the next ones; of one block */
    int done, blocks;
    const char
        *w; /* in use, where pixels follow each other and are read for the first time; NULL: elsewhere */
} fetch;

/* `pixels`: where those of the next tile begin. They are one run of nearly a line for each k. */
static INLINE ptrdiff_t fetch_ahead(fetch *f, const char *pixels) {
    if (f->done < f->blocks) return f->next + f->done++ * f->block_bytes;
    return f->w ? pixels - f->w : 0;
}

/* The weights of `block` if the pixels follow each other and this block is the first to read them. */
static INLINE const char *first_reader(const espl__conv *p, int block, int block0) {
    return block == block0 && p->segments == 1 && p->in_step == 4 * (ptrdiff_t)p->seg_k
               ? (const char *)p->w + block * espl__conv_w_block(p)
               : NULL;
}

static INLINE fetch fetch_of(const espl__conv *p, int block, int nrb, int block0, int block1) {
    const ptrdiff_t bytes = espl__conv_w_block(p);
    const char *w = first_reader(p, block, block0);
    const bool last = block + nrb >= block1;
    /* No hint: the weights are in the second-level cache, and fetching would only cost. */
    if (last ? !p->next : !p->cold) return (fetch){0, 0, 0, 0, w};
    if (!last) return (fetch){nrb * bytes, bytes, 0, nrb, w};
    return (fetch){(const char *)p->next - ((const char *)p->w + block * bytes), bytes, 0, nrb, w};
}

/* The blocks from `block` on, for one row: tiles of nearly equal width, no ragged last one. */
static INLINE void run_row(tile_fn *const *tiles, const edge_table *edges, int mr_max, finish_fn *finish,
                           const espl__conv *p, const char *in, char *out, const char *res, int pixels, int block,
                           int nrb, fetch *f) {
    _Alignas(64) int32_t sums[32 * VL];
    const int count = (pixels + mr_max - 1) / mr_max;
    const int width = count ? pixels / count : 0, wider = pixels - width * count;
    ptrdiff_t first = 0;
    for (int t = 0; t < count; t++) {
        const int mr = width + (t < wider);
        target to = {out + first * p->out_step, res ? res + first * p->res_step : NULL, GROUP * p->out_step,
                     GROUP * p->res_step};
        tile_fn *tile = tiles[mr - 1];
        if (edges && nrb == 2 && (mr == GROUP || mr == 2 * GROUP))
            tile = edge_tile((*edges)[mr == GROUP ? ONE_NARROW_ROW : WIDE_ROW], tile, p, t == 0, t == count - 1);
        tile(p, in + first * p->in_step, GROUP * p->in_step, block,
             fetch_ahead(f, in + (first + mr) * p->in_step), finish ? (void *)sums : &to);
        if (finish) finish(p, sums, block, nrb, mr, to.out, to.res);
        first += mr;
    }
}

/* Two rows of GROUP pixels in one tile: what a narrow image needs to keep the units busy. */
static INLINE void run_pair(tile_fn *const *tiles, const edge_table *edges, finish_fn *finish, const espl__conv *p,
                            const char *in, char *out, const char *res, int block, int nrb, fetch *f) {
    _Alignas(64) int32_t sums[32 * VL];
    target to = {out, res, p->out_row, p->res_row};
    tile_fn *tile = tiles[2 * GROUP - 1];
    if (edges && nrb == 2) tile = edge_tile((*edges)[TWO_NARROW_ROWS], tile, p, true, true);
    tile(p, in, p->in_row, block, fetch_ahead(f, in + 2 * p->in_row), finish ? (void *)sums : &to);
    if (!finish) return;
    finish(p, sums, block, nrb, GROUP, out, res);
    finish(p, sums + GROUP * nrb * ESPL__NR, block, nrb, GROUP, out + p->out_row,
           res ? res + p->res_row : NULL);
}

/* Pixels that begin a multiple of 4 KB apart fall into the same eight (Intel: twelve) lines of the
 * first-level cache, so no more of them may be read in turns: tiles of few pixels and more blocks. */
static INLINE bool pixels_meet(const espl__conv *p) {
    return p->in_step % 4096 == 0;
}

/* The most blocks that a tile of so many pixels may have; of wide rows two, if their tile has more sums than that of one. */
static INLINE int blocks_per_tile(int pixels, int blocks) {
    if (MR_8 > 0 && pixels <= MR_8 && blocks >= 8) return 8;
    if (pixels <= MR_4 && blocks >= 4) return 4;
    if (MR_3 > 0 && blocks == 3) return 3;
    return blocks >= 2 && (pixels <= MR_2 || 2 * MR_2 > MR_1) ? 2 : 1;
}

static INLINE int blocks_at_once(const espl__conv *p, int pixels, int blocks) {
    if (!pixels_meet(p) || MR_4 <= 1 || pixels <= MR_4) return blocks_per_tile(pixels, blocks);
    return pixels <= 8 && pixels <= MR_3 && blocks >= 3 ? 3 : blocks_per_tile(MR_4, blocks);
}

enum { FEW_PIXELS = 28, FEW_BYTES = 64 << 10 };

/* Weights that stay in the first-level cache: all blocks of a few pixels before the next pixels. So what they
 * read stays there too, and what they write lies side by side. */
static INLINE void run_few(const tile_table tiles, const int *mr_max, finish_fn *finish, const espl__conv *p,
                           const char *in, char *out, const char *res, int pixels, int block0, int block1) {
    const int count = (pixels + FEW_PIXELS - 1) / FEW_PIXELS;
    for (int i = 0, first = 0; i < count; i++) {
        const int end = (int)((int64_t)pixels * (i + 1) / count);
        for (int block = block0, nrb; block < block1; block += nrb) {
            fetch f = {0, 0, 0, 0, first_reader(p, block, block0)};
            nrb = blocks_at_once(p, end - first, block1 - block);
            run_row(tiles[nrb], NULL, mr_max[nrb], finish, p, in + first * p->in_step, out + first * p->out_step,
                    res ? res + first * p->res_step : NULL, end - first, block, nrb, &f);
        }
        first = end;
    }
}

/* `edges`: NULL, or the tiles that leave out borders. */
static INLINE void run(const tile_table tiles, const edge_table *edges, finish_fn *finish, const espl__conv *p,
                       const char *in, char *out, const char *res, int pixels, int block0, int block1) {
    static const int mr_max[9] = {[1] = MR_1, [2] = MR_2, [3] = MR_3, [4] = MR_4, [8] = MR_8};
    assert(pixels >= 0 && block0 >= 0 && p->segments >= 0 && p->seg_k >= 0);
    assert((!p->edge[0] && !p->edge[1]) || (p->width && pixels % p->width == 0));
    const int width = p->width && p->width < pixels ? p->width : pixels;
    const bool narrow = width == GROUP && pixels >= 2 * GROUP && MR_2 >= 2 * GROUP && !pixels_meet(p);
    const ptrdiff_t bytes = (ptrdiff_t)(block1 - block0) * p->segments * p->seg_k * ESPL__NR * 4;
    if (!narrow && !finish && block1 - block0 > 2 && bytes <= FEW_BYTES) {
        ptrdiff_t y = 0;
        for (int left = pixels; left > 0; y++, left -= width)
            run_few(tiles, mr_max, finish, p, in + y * p->in_row, out + y * p->out_row,
                    res ? res + y * p->res_row : NULL, left < width ? left : width, block0, block1);
        return;
    }
    for (int block = block0; block < block1;) {
        const int nrb = narrow ? (block1 - block > 1 ? 2 : 1) : blocks_at_once(p, width, block1 - block);
        fetch f = fetch_of(p, block, nrb, block0, block1);
        ptrdiff_t y = 0;
        for (int left = pixels; left > 0; y++, left -= width) {
            const char *x = in + y * p->in_row, *r = res ? res + y * p->res_row : NULL;
            char *o = out + y * p->out_row;
            if (narrow && left >= 2 * GROUP) {
                run_pair(tiles[nrb], edges, finish, p, x, o, r, block, nrb, &f);
                y++;
                left -= GROUP;
            } else {
                run_row(tiles[nrb], edges, mr_max[nrb], finish, p, x, o, r, left < width ? left : width, block,
                        nrb, &f);
            }
        }
        block += nrb;
    }
}

#ifdef CONV_U8
#define DEFINE(MR, NRB)                                                                               \
    static void u8_##MR##x##NRB(const espl__conv *p, const char *in, ptrdiff_t group_step, int block, \
                                ptrdiff_t ahead, void *sums) {                                        \
        tile_u8(p, in, group_step, block, ahead, sums, MR, false, false, MR, NRB);                    \
    }
TILES(DEFINE)
#undef DEFINE
#define ENTRY(MR, NRB) u8_##MR##x##NRB,
static const tile_table u8_tiles = TABLE(ENTRY);
#undef ENTRY

#ifdef CONV_EDGES
#define DEFINE(name, MR, row, left, right)                                                                       \
    static void u8_##name(const espl__conv *p, const char *in, ptrdiff_t group_step, int block, ptrdiff_t ahead, \
                     void *sums) {                                                                               \
        tile_u8(p, in, group_step, block, ahead, sums, row, left, right, MR, 2);                                 \
    }
EDGE_TILES(DEFINE)
#undef DEFINE
static const edge_table u8_edges = EDGE_TABLE(u8);
#define U8_EDGES &u8_edges
#else
#define U8_EDGES NULL
#endif

static void conv_u8(const espl__conv *p, const uint8_t *in, uint8_t *out, const uint8_t *res, int pixels,
                    int block0, int block1) {
    run(u8_tiles, U8_EDGES, finish_u8, p, (const char *)in, (char *)out, (const char *)res, pixels, block0, block1);
}

static void conv_u8_f32(const espl__conv *p, const uint8_t *in, float *out, int pixels, int block0,
                        int block1) {
    run(u8_tiles, U8_EDGES, finish_u8_f32, p, (const char *)in, (char *)out, NULL, pixels, block0, block1);
}
#endif

#ifdef CONV_F32
#define DEFINE(MR, NRB)                                                                                \
    static void f32_##MR##x##NRB(const espl__conv *p, const char *in, ptrdiff_t group_step, int block, \
                                 ptrdiff_t ahead, void *to) {                                          \
        tile_f32(p, in, group_step, block, ahead, to, MR, false, false, MR, NRB);                      \
    }
TILES(DEFINE)
#undef DEFINE
#define ENTRY(MR, NRB) f32_##MR##x##NRB,
static const tile_table f32_tiles = TABLE(ENTRY);
#undef ENTRY

#ifdef CONV_EDGES
#define DEFINE(name, MR, row, left, right)                                                                        \
    static void f32_##name(const espl__conv *p, const char *in, ptrdiff_t group_step, int block, ptrdiff_t ahead, \
                           void *to) {                                                                            \
        tile_f32(p, in, group_step, block, ahead, to, row, left, right, MR, 2);                                   \
    }
EDGE_TILES(DEFINE)
#undef DEFINE
static const edge_table f32_edges = EDGE_TABLE(f32);
#define F32_EDGES &f32_edges
#else
#define F32_EDGES NULL
#endif

static void conv_f32(const espl__conv *p, const float *in, float *out, const float *res, int pixels,
                     int block0, int block1) {
    run(f32_tiles, F32_EDGES, NULL, p, (const char *)in, (char *)out, (const char *)res, pixels, block0, block1);
}
#endif

#ifdef CONV_S16
#define DEFINE(MR, NRB)                                                                                \
    static void s16_##MR##x##NRB(const espl__conv *p, const char *in, ptrdiff_t group_step, int block, \
                                 ptrdiff_t ahead, void *to) {                                          \
        tile_s16(p, in, group_step, block, ahead, to, MR, NRB);                                        \
    }
TILES(DEFINE)
#undef DEFINE
#define ENTRY(MR, NRB) s16_##MR##x##NRB,
static const tile_table s16_tiles = TABLE(ENTRY);
#undef ENTRY

static void conv_s16(const espl__conv *p, const int16_t *in, int32_t *out, int pixels, int block0,
                     int block1) {
    run(s16_tiles, NULL, NULL, p, (const char *)in, (char *)out, NULL, pixels, block0, block1);
}
#endif
