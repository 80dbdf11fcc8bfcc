/* Integer convolution on AMX tiles: 16 pixels x 64 bytes of input times 64 bytes x 16 channels of weights,
 * 16384 products an instruction. The packed weights are what a tile wants already: 16 groups of [16
 * channels][4 bytes] are one tile of 16 rows.
 *
 * Two tiles of pixels x two of channels share their loads: four loads for four products, and the multiplier
 * never waits. The tiles of pixels come from one of two places:
 *
 *   direct   rows of the input itself, where every run of memory the kernel reads is whole lines (the
 * channels are a multiple of 64): a load that crosses a line takes four times as long. copied   a copy of the
 * segments of each pixel, one after the other and zeros up to a full line. Runs that are not whole lines cost
 * no products then, and pixels of several short rows share a tile.
 *
 * Pixels are dealt out to tiles evenly: a product takes as long as its tile has rows. */
#define ESPL__VNNI
#include "kernels/simd/avx512.h"
#define CONV_U8
#include "kernels/conv/finish.inc.h"
#include "kernels/families.h"

enum {
    ROWS = 16,        /* pixels of a tile */
    LINE = 64,        /* bytes of a row of a tile */
    TILE = 16 * 64,   /* bytes of a tile */
    COPY = 64 * 1024, /* room for copied pixels */
    FEW = 3,          /* so few pixels are left to vectors */
    SHORT = 48,       /* and sums of so few products */
    NARROW = 12       /* rows of fewer pixels are better copied, several to a tile */
};

/* Tile registers: sums in 0 to 3, pixels in 4 and 5, weights in 6 and 7. */
typedef struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t colsb[16];
    uint8_t rows[16];
} tile_config;

/* What the tile instructions read and write is behind the compiler's back. */
static INLINE void settle(const void *p) {
    __asm__ volatile("" : : "r"(p) : "memory");
}

static void configure(int rows0, int rows1) {
    tile_config c = {.palette = 1};
    for (int i = 0; i < 8; i++) c.colsb[i] = LINE;
    c.rows[0] = c.rows[1] = c.rows[4] = (uint8_t)rows0;
    c.rows[2] = c.rows[3] = c.rows[5] = (uint8_t)rows1;
    c.rows[6] = c.rows[7] = ROWS;
    settle(&c);
    _tile_loadconfig(&c);
}

/* --- tiles of pixels ---------------------------------------------------------------------------------- */

/* Deals the pixels out: a tile never crosses the end of a row of `width`. */
typedef struct dealer {
    int width, first, left; /* of all pixels */
    int row_left, tiles_left;
} dealer;

static int next_tile(dealer *d) {
    if (d->tiles_left == 0) {
        d->row_left = d->left < d->width ? d->left : d->width;
        d->tiles_left = (d->row_left + ROWS - 1) / ROWS;
        if (d->tiles_left == 0) return 0;
    }
    const int count = (d->row_left + d->tiles_left - 1) / d->tiles_left;
    d->tiles_left--;
    d->row_left -= count;
    d->left -= count;
    d->first += count;
    return count;
}

/* One or two tiles of pixels and where their rows are read: `segments` runs of `lines` lines, the s-th at
 * at[tile] + offset[s]. */
typedef struct stripe {
    int first[2], count[2];
    const uint8_t *at[2];
    ptrdiff_t step; /* from pixel to pixel */
    const int32_t *offset;
    int segments, lines;
} stripe;

/* The segments of each pixel, one after the other, as rows of row_bytes. Each store is a whole line, which
 * the next one overwrites from where the segment ends; behind the last one zeros stay. */
static void copy_pixels(const espl__conv *p, const uint8_t *in, int first, int count, ptrdiff_t row_bytes,
                        uint8_t *to) {
    const int seg = p->seg_k * 4, whole = seg / LINE * LINE;
    const __mmask64 rest = mask(seg - whole);
    for (int i = first; i < first + count; i++, to += row_bytes) {
        const uint8_t *pixel = in + espl__pixel_at(p->width, i, p->in_step, p->in_row);
        uint8_t *o = to;
        for (int s = 0; s < p->segments; s++, o += seg - whole) {
            const uint8_t *x = pixel + p->seg_off[s];
            for (int b = 0; b < whole; b += LINE, o += LINE) vi_store(o, vi_load(x + b));
            if (seg > whole) vi_store(o, _mm512_maskz_loadu_epi8(rest, x + whole));
        }
    }
}

/* --- products ------------------------------------------------------------------------------------------ */

/* The weights that are read next, fetched into the second-level cache a few lines a step. */
typedef struct fetch {
    const char *at;
    ptrdiff_t left; /* bytes */
} fetch;

static INLINE void fetch_some(fetch *f) {
    enum { LINES = 6 };
    if (f->left <= 0) return;
    UNROLL
    for (int i = 0; i < LINES; i++) __builtin_prefetch(f->at + i * LINE, 0, 2);
    f->at += LINES * LINE;
    f->left -= LINES * LINE;
}

static INLINE void products(const stripe *a, const int8_t *w, ptrdiff_t w_block, const int32_t *bias,
                            int32_t *sums, fetch *f, const int TILES, const int NRB) {
    settle(bias);
    _tile_loadd(0, bias, 0);
    if (NRB > 1) _tile_loadd(1, bias + ESPL__NR, 0);
    if (TILES > 1) _tile_loadd(2, bias, 0);
    if (TILES > 1 && NRB > 1) _tile_loadd(3, bias + ESPL__NR, 0);
    for (int s = 0; s < a->segments; s++) {
        const uint8_t *x0 = a->at[0] + a->offset[s], *x1 = a->at[1] + a->offset[s];
        for (int l = a->lines; l > 0; l--) {
            _tile_loadd(4, x0, a->step);
            _tile_loadd(6, w, LINE);
            if (TILES > 1) _tile_loadd(5, x1, a->step);
            if (NRB > 1) _tile_loadd(7, w + w_block, LINE);
            _tile_dpbusd(0, 4, 6);
            if (NRB > 1) _tile_dpbusd(1, 4, 7);
            if (TILES > 1) _tile_dpbusd(2, 5, 6);
            if (TILES > 1 && NRB > 1) _tile_dpbusd(3, 5, 7);
            fetch_some(f);
            x0 += LINE;
            x1 += LINE;
            w += TILE;
        }
    }
    int32_t *second = sums + a->count[0] * NRB * ESPL__NR;
    _tile_stored(0, sums, NRB * LINE);
    if (NRB > 1) _tile_stored(1, sums + ESPL__NR, NRB * LINE);
    if (TILES > 1) _tile_stored(2, second, NRB * LINE);
    if (TILES > 1 && NRB > 1) _tile_stored(3, second + ESPL__NR, NRB * LINE);
    settle(sums);
}

static void multiply(const stripe *a, const int8_t *w, ptrdiff_t w_block, const int32_t *bias, int32_t *sums,
                     int nrb, fetch *f) {
    if (a->count[1] && nrb > 1)
        products(a, w, w_block, bias, sums, f, 2, 2);
    else if (a->count[1])
        products(a, w, w_block, bias, sums, f, 2, 1);
    else if (nrb > 1)
        products(a, w, w_block, bias, sums, f, 1, 2);
    else
        products(a, w, w_block, bias, sums, f, 1, 1);
}

/* --- a call ------------------------------------------------------------------------------------------ */

static bool whole_lines(const espl__conv *p, const uint8_t *in) {
    ptrdiff_t all = (ptrdiff_t)(uintptr_t)in | p->in_step | p->seg_k * 4;
    if (p->width) all |= p->in_row;
    for (int s = 0; s < p->segments; s++) all |= p->seg_off[s];
    return all % LINE == 0;
}

/* How the tiles of a call are made. */
typedef struct manner {
    bool copied;
    int tiles; /* of a stripe */
    ptrdiff_t row_bytes;
} manner;

/* False: not on tiles. */
static bool choose(const espl__conv *p, const uint8_t *in, int pixels, manner *m) {
    const int64_t k = (int64_t)p->segments * p->seg_k * 4, row = (k + LINE - 1) / LINE * LINE;
    const int width = p->width && p->width < pixels ? p->width : pixels;
    const bool whole = whole_lines(p, in), room = row * ROWS <= COPY;
    if (pixels <= FEW || k <= SHORT || !(whole || room)) return false;
    m->copied = !whole || (width < NARROW && width < pixels && room);
    m->tiles = !m->copied || row * ROWS * 2 <= COPY ? 2 : 1;
    m->row_bytes = (ptrdiff_t)row;
    return true;
}

static INLINE void run(const manner *m, finish_fn *finish, const espl__conv *p, const uint8_t *in, char *out,
                       const char *res, int pixels, int block0, int block1) {
    static const int32_t no_offset[1];
    _Alignas(64) uint8_t copy[COPY + LINE];
    _Alignas(64) int32_t sums[2 * ROWS * 2 * ESPL__NR];
    const ptrdiff_t w_block = (ptrdiff_t)p->segments * p->seg_k * ESPL__NR * 4;
    stripe a = {.step = p->in_step, .offset = p->seg_off, .segments = p->segments, .lines = p->seg_k / 16};
    if (m->copied) {
        a = (stripe){.step = m->row_bytes, .offset = no_offset, .segments = 1};
        a.lines = (int)(m->row_bytes / LINE);
        for (int i = 1; i <= m->tiles * ROWS; i++) vi_store(copy + i * m->row_bytes - LINE, vi_set1(0));
    }
    fetch f = {p->next, p->next ? (block1 - block0) * w_block : 0};
    dealer d = {.width = !m->copied && p->width ? p->width : pixels, .left = pixels};
    int rows0 = 0, rows1 = 0;
    while (d.left > 0) {
        a.count[1] = 0;
        for (int t = 0; t < m->tiles && d.left > 0; t++) {
            a.first[t] = d.first;
            a.count[t] = next_tile(&d);
            a.at[t] = in + espl__pixel_at(p->width, a.first[t], p->in_step, p->in_row);
            if (!m->copied) continue;
            uint8_t *to = copy + t * ROWS * m->row_bytes;
            copy_pixels(p, in, a.first[t], a.count[t], m->row_bytes, to);
            a.at[t] = to;
        }
        if (a.count[1] == 0) a.at[1] = a.at[0];
        if (a.count[0] != rows0 || (a.count[1] && a.count[1] != rows1)) {
            rows0 = a.count[0];
            rows1 = a.count[1] ? a.count[1] : rows0;
            configure(rows0, rows1);
        }
        for (int block = block0; block < block1; block += 2) {
            const int nrb = block1 - block > 1 ? 2 : 1;
            multiply(&a, (const int8_t *)p->w + block * w_block, w_block,
                     (const int32_t *)p->bias + block * ESPL__NR, sums, nrb, &f);
            for (int t = 0; t < 2 && a.count[t]; t++)
                finish_pixels(p, finish, sums + t * a.count[0] * nrb * ESPL__NR, block, nrb, a.first[t],
                              a.count[t], out, res);
        }
    }
    _tile_release();
}

static void conv_u8(const espl__conv *p, const uint8_t *in, uint8_t *out, const uint8_t *res, int pixels,
                    int block0, int block1) {
    manner m;
    if (choose(p, in, pixels, &m))
        run(&m, finish_u8, p, in, (char *)out, (const char *)res, pixels, block0, block1);
    else
        espl__conv_u8_avx512vnni.conv_u8(p, in, out, res, pixels, block0, block1);
}

static void conv_u8_f32(const espl__conv *p, const uint8_t *in, float *out, int pixels, int block0,
                        int block1) {
    manner m;
    if (choose(p, in, pixels, &m))
        run(&m, finish_u8_f32, p, in, (char *)out, NULL, pixels, block0, block1);
    else
        espl__conv_u8_avx512vnni.conv_u8_f32(p, in, out, pixels, block0, block1);
}

const espl__kernels espl__conv_u8_amx = {.conv_u8 = conv_u8, .conv_u8_f32 = conv_u8_f32};
