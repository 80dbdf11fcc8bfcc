/* Convolution with bank-balanced weights in register tiles, one body for every instruction set. The including
 * file has the words of words_<width>.h and
 *
 *   enum { UNIT, MR_MAX }            slots of a row that one product takes (4, or 2 where bytes are widened
 * first), and pixels of the largest tile unit unit_load(pair, second, u)  slots u to u + UNIT - 1 of the
 * first or second vector of a pair: positions `at`, one every 4 / UNIT bytes, and weights vi unit_dot(acc,
 * picked, unit)   acc + the products of what the positions picked TILES(X)                         X(MR) for
 * MR = 1 ... MR_MAX
 *
 * A lane is an output channel. The window of one pixel is shuffled by the positions of VL channels, and one
 * product adds UNIT useful products to each. Positions and weights are read and unpacked once for all pixels
 * of a tile, whose sums stay in registers. A unit whose slots lie in two windows takes two shuffles, if
 * there are no tables. */
#include "kernels/bank/bank.h"
#ifdef __clang__ /* leaves the loop over a pair's units as it is in large tiles, which is no fault */
#pragma clang diagnostic ignored "-Wpass-failed"
#endif
#define CONV_U8
#include "kernels/conv/finish.inc.h"

enum { GROUP = 7, GROUPS = 4 }; /* pixels at equal steps from one base; groups of the largest tile */
enum { BLOCKS = 4 };            /* blocks that are stored together */

/* Where the groups of a tile start, bytes from the first pixel's base. */
typedef struct {
    ptrdiff_t at[GROUPS];
    steps step;
    unsigned kinds; /* of units that there are */
} tile_pixels;

/* One window of all pixels. */
typedef struct {
    const char *base[GROUPS];
} windows;

static INLINE windows windows_at(const tile_pixels *px, const char *in, const int MR) {
    windows x = {{0}}; /* gcc without inlining sees pixels that may not be there */
    UNROLL
    for (int g = 0; g * GROUP < MR; g++) x.base[g] = (const char *)opaque((ptrdiff_t)(in + px->at[g]));
    return x;
}

static INLINE const char *pixel_at(const windows *x, const tile_pixels *px, int m) {
    return x->base[m / GROUP] + step_at(px->step, m % GROUP);
}

/* Where the slots of a unit lie: in one window, in two or four side by side in memory, in two or four apart.
 */
enum { ONE, JOINED_2, JOINED_4, APART_2, APART_4, KINDS };

/* The units of a channel in order. */
typedef struct {
    const int32_t *off;  /* of the window of the first slot */
    int32_t slots, left; /* of each window; of that one */
} walk;

static INLINE void next_unit(walk *at) {
    for (at->left -= UNIT; at->left <= 0; at->left += at->slots) at->off++;
}

static INLINE int kind_of(const walk *at) {
    if (at->left >= UNIT) return ONE;
    const bool four = UNIT > 2 * at->slots;
#ifdef TABLES
    if (bank_joined(at->off, four ? 4 : 2)) return four ? JOINED_4 : JOINED_2;
#endif
    return four ? APART_4 : APART_2;
}

static unsigned kinds_of(const espl__bank *bank) {
    walk at = {bank->off, bank->slots, bank->slots};
    unsigned kinds = 0;
    for (int i = bank->count * bank->slots; i > 0; i -= UNIT, next_unit(&at)) kinds |= 1u << kind_of(&at);
    return kinds;
}

static INLINE void add_apart(const walk *at, const char *in, const tile_pixels *px, unit x, vi *acc,
                             const int count, const int MR) {
    windows from[4];
    some_bytes some[4];
    UNROLL
    for (int i = 0; i < count; i++) {
        from[i] = windows_at(px, in + at->off[i], MR);
        if (i > 0) some[i] = bytes_from((at->left + (i - 1) * at->slots) * (4 / UNIT));
    }
    UNROLL
    for (int m = 0; m < MR; m++) {
        vi y = pick(window_u8(pixel_at(&from[0], px, m)), x.at);
        UNROLL
        for (int i = 1; i < count; i++) y = pick_some(y, some[i], window_u8(pixel_at(&from[i], px, m)), x.at);
        acc[m] = unit_dot(acc[m], y, x);
    }
}

#ifdef TABLES
static INLINE void add_joined(const walk *at, const char *in, const tile_pixels *px, unit x, vi *acc,
                              const int count, const int MR) {
    const windows from = windows_at(px, in + *at->off, MR);
    const vi order = vi_or(x.at, windows_in_table(at->left, at->slots));
    UNROLL
    for (int m = 0; m < MR; m++)
        acc[m] = unit_dot(acc[m], pick_in_table(table_u8(pixel_at(&from, px, m), count), order), x);
}
#endif

/* Adds the units of one kind to the sums of VL channels, whose first vector starts at w. A loop for each kind
 * keeps the sums in their registers; the order of integers does not matter. */
static INLINE void add_units(const espl__bank *bank, const uint8_t *w, const char *in, const tile_pixels *px,
                             vi *acc, const int KIND, const int MR) {
    const bool all = px->kinds == 1u << KIND;
    walk at = {bank->off, bank->slots, bank->slots};
    for (int v = bank->count * bank->slots / 4; v > 0; v -= 2, w += BANK_PAIR) {
        UNROLL
        for (int u = 0; u < 8; u += UNIT, next_unit(&at)) { /* of the pair */
            if (u == 4 && v == 1) break;
            if (!all && kind_of(&at) != KIND) continue;
            const unit x = unit_load(w, u / 4, u % 4);
#ifdef TABLES
            if (KIND == JOINED_2 || KIND == JOINED_4)
                add_joined(&at, in, px, x, acc, KIND == JOINED_2 ? 2 : 4, MR);
            else
#endif
                add_apart(&at, in, px, x, acc, KIND == ONE ? 1 : KIND == APART_2 ? 2 : 4, MR);
        }
    }
}

/* The sums of a block, for pixels `stride` sums apart. */
static BODY void tile(const espl__conv *p, const char *in, const tile_pixels *px, int block, int32_t *sums,
                      int stride, const int MR) {
    const uint8_t *w = (const uint8_t *)p->w + block * p->bank->block;
    const int32_t *bias = (const int32_t *)p->bias + block * ESPL__NR;
    for (int c = 0; c < ESPL__NR; c += VL) {
        vi acc[MR_MAX];
        UNROLL
        for (int m = 0; m < MR; m++) acc[m] = vi_load(bias + c);
        UNROLL
        for (int kind = 0; kind < KINDS; kind++) {
#ifndef TABLES
            if (kind == JOINED_2 || kind == JOINED_4) continue;
#endif
            if (kind == APART_4 && UNIT < 4) continue;
            if (px->kinds & 1u << kind) add_units(p->bank, w + c * 4, in, px, acc, kind, MR);
        }
        UNROLL
        for (int m = 0; m < MR; m++) vi_store(sums + m * stride + c, acc[m]);
    }
}

typedef void tile_fn(const espl__conv *p, const char *in, const tile_pixels *px, int block, int32_t *sums,
                     int stride);
#define DEFINE(MR, NRB)                                                                          \
    static void tile_##MR(const espl__conv *p, const char *in, const tile_pixels *px, int block, \
                          int32_t *sums, int stride) {                                           \
        tile(p, in, px, block, sums, stride, MR);                                                \
    }
TILES(DEFINE)
#undef DEFINE
#define ENTRY(MR, NRB) tile_##MR,
static tile_fn *const tiles[MR_MAX] = {TILES(ENTRY)};
#undef ENTRY

/* How many of `left` pixels make the next tile: whole rows are cut evenly, into whole groups if they may be.
 */
static INLINE int tile_width(int left, int whole) {
    const int units = (left + whole - 1) / whole, most = MR_MAX / whole, count = (units + most - 1) / most;
    const int width = (units + count - 1) / count * whole;
    return width < left ? width : left;
}

/* Tiles outside, so that what they read stays in the first cache for all blocks. */
static INLINE void run(finish_fn *finish, const espl__conv *p, const char *in, char *out, const char *res,
                       int pixels, int block0, int block1) {
    _Alignas(64) int32_t sums[MR_MAX * BLOCKS * ESPL__NR];
    const bool rows = p->width && p->width < pixels,
               joined = rows && p->width % GROUP == 0 && (int)MR_MAX > (int)GROUP;
    tile_pixels px = {.step = steps_of(p->in_step), .kinds = kinds_of(p->bank)};
    assert(pixels >= 0 && block0 >= 0 && p->bank->size == ESPL__BANK);
    for (int first = 0, count; first < pixels; first += count) {
        const int row = rows && !joined ? p->width - first % p->width : pixels;
        const int left = pixels - first;
        count = tile_width(row < left ? row : left, joined ? GROUP : 1);
        const ptrdiff_t base = espl__pixel_at(p->width, first, p->in_step, p->in_row);
        for (int g = 0; g * GROUP < count; g++)
            px.at[g] = espl__pixel_at(p->width, first + g * GROUP, p->in_step, p->in_row) - base;
        for (int block = block0; block < block1; block += BLOCKS) {
            const int nrb = block1 - block < BLOCKS ? block1 - block : BLOCKS;
            for (int n = 0; n < nrb; n++)
                tiles[count - 1](p, in + base, &px, block + n, sums + n * ESPL__NR, nrb * ESPL__NR);
            finish_pixels(p, finish, sums, block, nrb, first, count, out, res);
        }
    }
}

static void bank_conv_u8(const espl__conv *p, const uint8_t *in, uint8_t *out, const uint8_t *res, int pixels,
                         int block0, int block1) {
    run(finish_u8, p, (const char *)in, (char *)out, (const char *)res, pixels, block0, block1);
}

static void bank_conv_u8_f32(const espl__conv *p, const uint8_t *in, float *out, int pixels, int block0,
                             int block1) {
    run(finish_u8_f32, p, (const char *)in, (char *)out, NULL, pixels, block0, block1);
}
