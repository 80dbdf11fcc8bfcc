/* Integer convolution on AMX tiles: 16 pixels x 64 bytes of input times 64 bytes x 16 channels of weights,
 * 16384 products an instruction. The packed weights are what a tile wants already: 16 groups of [16
 * channels][4 bytes] are one tile of 16 rows.
 *
 * Two tiles of pixels x two of channels share their loads: four loads for four products, and the multiplier
 * never waits. While they are made, the sums of the two before become codes in vectors, a few pixels between
 * one line of inputs and the next: neither waits for the other.
 *
 * The tiles of pixels come from one of three places.
 *
 * ROWS_OF_INPUT: the input itself, where every run of memory the kernel reads is whole lines (the channels
 * are a multiple of 64), since a row of a tile that crosses a line takes four times as long; or where a run
 * is less than a line, so that few rows cross one (three channels padded to four).
 *
 * JOINED: the same without an end of rows. What lies between two short rows is computed too and dropped.
 *
 * COPIED: a copy of the segments of each pixel, one after the other and zeros up to a full line. Runs that
 * are not whole lines cost no products then, and pixels of several short rows share a tile.
 *
 * All tiles of a row have as many pixels, because a product takes as long as its tile has rows (but no less
 * than 13 cycles) and a new configuration takes as long as twenty products; the last one begins early. */
#define ESPL__VNNI
#include "kernels/simd/avx512.h"
#define CONV_U8
#include "kernels/conv/finish.inc.h"
#include "kernels/families.h"

enum {
    ROWS = 16,        /* pixels of a tile */
    LINE = 64,        /* bytes of a row of a tile */
    COPY = 80 * 1024, /* room for copied pixels */
    LATE = 6,         /* steps before sums are stored */
    MANY = 8,         /* of which so many at least at once */
    MOST_LINES = 16,  /* fetched a step */
    NEAR = 24 * 1024, /* half of the first-level cache */
    FEW = 3,          /* so few pixels are left to vectors */
    SHORT = 48,       /* and copied sums of so few products */
    NARROW = 12       /* rows of fewer pixels share tiles */
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

/* Tiles of `pixels` rows of `line` bytes. */
static void configure(int pixels, int line) {
    tile_config c = {.palette = 1};
    for (int i = 0; i < 4; i++) {
        c.colsb[i] = c.colsb[6 + i / 2] = LINE;
        c.rows[i] = c.rows[4 + i / 2] = (uint8_t)pixels;
    }
    c.colsb[4] = c.colsb[5] = (uint16_t)line;
    c.rows[6] = c.rows[7] = (uint8_t)(line / 4);
    settle(&c);
    _tile_loadconfig(&c);
}

/* --- tiles of pixels ---------------------------------------------------------------------------------- */

/* How the pixels of a call become tiles. */
typedef struct manner {
    enum { ROWS_OF_INPUT, JOINED, COPIED } from;
    int line;            /* bytes of a row of a tile */
    int pitch;           /* places from a row of the result to the next; those behind its width are dropped */
    int width;           /* places that no tile crosses the end of */
    int places;          /* all of them */
    int tiles;           /* of a stripe */
    ptrdiff_t row_bytes; /* copied: of a pixel */
} manner;

/* Deals the places out: tiles of one row have one size, the last overlaps the one before it. */
typedef struct dealer {
    int width, places;
    int at, end, size; /* of the row */
} dealer;

static bool next_tile(dealer *d, int *first, int *count) {
    if (d->at == d->end) {
        const int left = d->places - d->end, row = left < d->width ? left : d->width;
        if (row == 0) return false;
        const int tiles = (row + ROWS - 1) / ROWS;
        d->end += row;
        d->size = (row + tiles - 1) / tiles;
    }
    *count = d->size;
    *first = d->end - d->at < d->size ? d->end - d->size : d->at;
    d->at = *first + d->size;
    return true;
}

/* One or two tiles of pixels and where their rows are read: `segments` runs of `lines` lines, the s-th at
 * at[tile] + offset[s]. */
typedef struct stripe {
    int tiles, first[2], count[2]; /* both have as many pixels */
    const uint8_t *at[2];
    ptrdiff_t step; /* from pixel to pixel */
    const int32_t *offset;
    int segments, lines, line; /* line: bytes */
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

/* --- sums that become codes ----------------------------------------------------------------------------- */

/* The weights that are read next, fetched into the second-level cache a few lines a step. */
typedef struct fetch {
    const char *at;
    ptrdiff_t left; /* bytes */
    int lines;      /* a step */
} fetch;

static INLINE void fetch_some(fetch *f) {
    if (f->left <= 0) return;
    for (int i = 0; i < f->lines; i++) __builtin_prefetch(f->at + i * LINE, 0, 2);
    f->at += f->lines * LINE;
    f->left -= f->lines * LINE;
}

/* Sums of places that follow each other, [place][nrb][16]; the first is the x-th of a row of the result. */
typedef struct batch {
    const int32_t *sums;
    int block, nrb, row, x, left;
} batch;

/* What the calls of one kernel share, and the sums that wait. */
typedef struct work {
    const espl__conv *p;
    const manner *m;
    finish_fn *finish;
    char *out;
    const char *res;
    fetch next;
    int32_t (*sums)[2 * ROWS * 2 * ESPL__NR]; /* two that take turns: one is stored, one is made */
    int turn;
    batch last;
    int wait, share; /* steps until they are stored; places that a step takes then */
} work;

static bool whole_pair(const espl__conv *p, int block, int nrb) {
    return nrb == 2 && (block + 2) * ESPL__NR <= p->channels;
}

/* finish_u8 of two whole blocks, which nearly all are: without masks and with all counts known. */
static __attribute__((noinline)) void finish_pair(const espl__conv *p, const void *sums, int block,
                                                  int pixels, char *out, const char *res) {
    place at = place_of(p, block, out, res);
    at.channels = at.c + 2 * ESPL__NR;
    store_u8(&p->q, sums, 2, pixels, at);
}

static void finish_codes(const espl__conv *p, const void *sums, int block, int nrb, int pixels, char *out,
                         const char *res) {
    if (whole_pair(p, block, nrb))
        finish_pair(p, sums, block, pixels, out, res);
    else
        finish_u8(p, sums, block, nrb, pixels, out, res);
}

/* Whether all codes of a call are plain (requant.inc.h). To ask once instead of for every few pixels, and to
 * keep the multipliers in registers, is worth 3 %. */
static bool is_plain(const espl__conv *p, const uint8_t *res, int block0, int block1) {
    const espl__epilogue_u8 *q = &p->q;
    return !res && q->zero == 0 && q->lo == 0 && q->hi == 255 &&
           plain_mults(q->mult + block0 * ESPL__NR, (block1 - block0) * ESPL__NR);
}

/* The rounded sums of two pixels (from and from + next) x two blocks. */
static INLINE vi plain_codes(const int32_t *from, int next, vf mult0, vf mult1) {
    const vi y[4] = {vi_rne(vf_mul(vf_of(vi_load(from)), mult0)),
                     vi_rne(vf_mul(vf_of(vi_load(from + VL)), mult1)),
                     vi_rne(vf_mul(vf_of(vi_load(from + next)), mult0)),
                     vi_rne(vf_mul(vf_of(vi_load(from + next + VL)), mult1))};
    return narrow_plain(y);
}

static void finish_plain(const espl__conv *p, const void *sums, int block, int nrb, int pixels, char *out,
                         const char *res) {
    if (!whole_pair(p, block, nrb)) {
        finish_u8(p, sums, block, nrb, pixels, out, res);
        return;
    }
    const int32_t *from = sums;
    const vf mult0 = vf_load(p->q.mult + block * ESPL__NR),
             mult1 = vf_load(p->q.mult + (block + 1) * ESPL__NR);
    uint8_t *o = (uint8_t *)out + block * ESPL__NR;
    for (; pixels > 1; pixels -= 2, from += 4 * VL, o += 2 * p->out_step)
        store_parts(o, p->out_step, plain_codes(from, 2 * VL, mult0, mult1), 2, 2, 2 * ESPL__NR);
    if (pixels == 1) store_parts(o, p->out_step, plain_codes(from, 0, mult0, mult1), 2, 1, 2 * ESPL__NR);
}

/* The next `count` places of those that wait. */
static __attribute__((noinline)) void drain(work *k, int count) {
    const espl__conv *p = k->p;
    const int pitch = k->m->pitch, width = p->width ? p->width : pitch;
    batch *b = &k->last;
    if (count > b->left) count = b->left;
    b->left -= count;
    while (count > 0) {
        const int n = count < pitch - b->x ? count : pitch - b->x, own = n < width - b->x ? n : width - b->x;
        if (own > 0)
            k->finish(p, b->sums, b->block, b->nrb, own, k->out + b->row * p->out_row + b->x * p->out_step,
                      k->res ? k->res + b->row * p->res_row + b->x * p->res_step : NULL);
        b->sums += n * b->nrb * ESPL__NR;
        b->x += n;
        count -= n;
        if (b->x == pitch) b->row++, b->x = 0;
    }
}

/* The next multiplication has so many steps. The sums come out of the tiles when its first products are under
 * way already, and who reads them too early waits with all that follows; few calls for many places cost
 * least. */
static void share_out(work *k, int count) {
    const int wait = count * 2 / 3 < LATE ? count * 2 / 3 : LATE;
    const int each = (k->last.left + count - wait - 1) / (count - wait);
    k->wait = wait;
    k->share = each < MANY ? MANY : (each + 1) / 2 * 2;
}

/* --- products ------------------------------------------------------------------------------------------ */

static INLINE void products(const stripe *a, const int8_t *w, ptrdiff_t w_block, const int32_t *bias,
                            int32_t *sums, work *k, const int TILES, const int NRB) {
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
            fetch_some(&k->next);
            if (k->wait-- <= 0 && k->last.left > 0) drain(k, k->share);
            x0 += a->line;
            x1 += a->line;
            w += a->line * ESPL__NR;
        }
    }
    int32_t *second = sums + (a->first[1] - a->first[0]) * NRB * ESPL__NR;
    _tile_stored(0, sums, NRB * LINE);
    if (NRB > 1) _tile_stored(1, sums + ESPL__NR, NRB * LINE);
    if (TILES > 1) _tile_stored(2, second, NRB * LINE);
    if (TILES > 1 && NRB > 1) _tile_stored(3, second + ESPL__NR, NRB * LINE);
    settle(sums);
}

static void multiply(const stripe *a, const int8_t *w, ptrdiff_t w_block, const int32_t *bias, int32_t *sums,
                     int nrb, work *k) {
    if (a->tiles > 1 && nrb > 1)
        products(a, w, w_block, bias, sums, k, 2, 2);
    else if (a->tiles > 1)
        products(a, w, w_block, bias, sums, k, 2, 1);
    else if (nrb > 1)
        products(a, w, w_block, bias, sums, k, 1, 2);
    else
        products(a, w, w_block, bias, sums, k, 1, 1);
}

/* --- a call ------------------------------------------------------------------------------------------ */

static bool whole_lines(const espl__conv *p, const uint8_t *in) {
    ptrdiff_t all = (ptrdiff_t)(uintptr_t)in | p->in_step | p->seg_k * 4;
    if (p->width) all |= p->in_row;
    for (int s = 0; s < p->segments; s++) all |= p->seg_off[s];
    return all % LINE == 0;
}

/* Runs of less than a line cost more products than copied ones, which cost a load and a store each. */
static bool short_runs(const espl__conv *p, int blocks) {
    const int lines = (p->segments * p->seg_k * 4 + LINE - 1) / LINE;
    return p->seg_k > 1 && p->seg_k * 4 < LINE && (p->segments - lines) * blocks <= 3 * p->segments;
}

/* Short rows whose ends are near to the next one's beginning. */
static int joined_pitch(const espl__conv *p, int pixels) {
    if (!p->width || p->width >= pixels || p->width >= NARROW) return 0;
    if (p->in_step <= 0 || p->in_row % p->in_step) return 0;
    const ptrdiff_t pitch = p->in_row / p->in_step;
    return pitch >= p->width && pitch * 3 <= p->width * 4 ? (int)pitch : 0;
}

/* False: not on tiles. */
static bool choose(const espl__conv *p, const uint8_t *in, int pixels, int blocks, manner *m) {
    const int64_t k = (int64_t)p->segments * p->seg_k * 4, row = (k + LINE - 1) / LINE * LINE;
    const int width = p->width && p->width < pixels ? p->width : pixels;
    const bool whole = whole_lines(p, in), runs = !whole && short_runs(p, blocks), room = row * ROWS <= COPY;
    const int joined = whole ? joined_pitch(p, pixels) : 0;
    if (pixels <= FEW || (k <= SHORT && !runs) || !(whole || runs || room)) return false;
    *m = (manner){ROWS_OF_INPUT, LINE, width, width, pixels, 2, (ptrdiff_t)row};
    if (runs) {
        m->line = p->seg_k * 4;
    } else if (joined) {
        m->from = JOINED;
        m->pitch = joined;
        m->width = m->places = (pixels - 1) / width * joined + (pixels - 1) % width + 1;
    } else if (!whole || (width < NARROW && width < pixels && row * ROWS * 2 <= COPY)) {
        m->from = COPIED;
        m->width = pixels;
        m->tiles = row * ROWS * 2 <= COPY ? 2 : 1;
    }
    return true;
}

/* The next tile, if it has room beside those there. */
static bool add_tile(const manner *m, const espl__conv *p, const uint8_t *in, uint8_t *copy, dealer *d,
                     stripe *a, int t) {
    const dealer before = *d;
    if (!next_tile(d, &a->first[t], &a->count[t])) return false;
    if (t > 0 && a->count[t] != a->count[0]) {
        *d = before;
        return false;
    }
    const int first = a->first[t];
    if (m->from == COPIED) {
        a->at[t] = copy + t * ROWS * m->row_bytes;
        copy_pixels(p, in, first, a->count[t], m->row_bytes, copy + t * ROWS * m->row_bytes);
    } else {
        a->at[t] = in + (m->from == JOINED ? first * p->in_step
                                           : espl__pixel_at(p->width, first, p->in_step, p->in_row));
    }
    return true;
}

/* False behind the last. */
static bool next_stripe(const manner *m, const espl__conv *p, const uint8_t *in, uint8_t *copy, dealer *d,
                        stripe *a) {
    a->tiles = 0;
    while (a->tiles < m->tiles && add_tile(m, p, in, copy, d, a, a->tiles)) a->tiles++;
    if (a->tiles == 1) a->at[1] = a->at[0];
    return a->tiles > 0;
}

static stripe stripe_of(const manner *m, const espl__conv *p) {
    static const int32_t no_offset[1];
    if (m->from == COPIED)
        return (stripe){.step = m->row_bytes,
                        .offset = no_offset,
                        .segments = 1,
                        .lines = (int)(m->row_bytes / LINE),
                        .line = LINE};
    return (stripe){.step = p->in_step,
                    .offset = p->seg_off,
                    .segments = p->segments,
                    .lines = p->seg_k * 4 / m->line,
                    .line = m->line};
}

static ptrdiff_t weights_of_block(const espl__conv *p) {
    return (ptrdiff_t)p->segments * p->seg_k * ESPL__NR * 4;
}

/* The blocks of a stripe, of which the places before `first` are done. */
static void multiply_blocks(work *k, const stripe *a, int first, int block0, int block1) {
    const espl__conv *p = k->p;
    const ptrdiff_t w_block = weights_of_block(p);
    const int end = a->first[a->tiles - 1] + a->count[0], pitch = k->m->pitch;
    for (int block = block0; block < block1; block += 2) {
        const int nrb = block1 - block < 2 ? 1 : 2, stride = nrb * ESPL__NR;
        int32_t *sums = k->sums[k->turn];
        share_out(k, a->segments * a->lines);
        multiply(a, (const int8_t *)p->w + block * w_block, w_block,
                 (const int32_t *)p->bias + block * ESPL__NR, sums, nrb, k);
        k->last = (batch){.sums = sums + (first - a->first[0]) * stride,
                          .block = block,
                          .nrb = nrb,
                          .row = first / pitch,
                          .x = first % pitch,
                          .left = end - first};
        k->turn = !k->turn;
    }
}

/* Where the weights of all blocks do not stay in the first-level cache and are more than what a stripe reads,
 * all stripes go before the next two blocks. */
static int blocks_of_pass(const work *k, int blocks) {
    const ptrdiff_t pair = 2 * weights_of_block(k->p), pixels = 2 * ROWS * k->p->in_step;
    return k->m->from != COPIED && blocks * pair / 2 > NEAR && pair > 2 * pixels ? 2 : blocks;
}

/* What is behind the weights of this call, which will be about as much, spread over its steps. */
static fetch fetch_of(const work *k, const stripe *a, int blocks) {
    const espl__conv *p = k->p;
    const ptrdiff_t bytes = p->next ? blocks * weights_of_block(p) : 0;
    const ptrdiff_t stripes = k->m->places / (ROWS * k->m->tiles) + 1;
    const ptrdiff_t count = stripes * ((blocks + 1) / 2) * a->segments * a->lines;
    const ptrdiff_t lines = bytes / LINE / (count > 0 ? count : 1) + 1;
    return (fetch){p->next, bytes, lines < MOST_LINES ? (int)lines : MOST_LINES};
}

static void run(work *k, const uint8_t *in, int block0, int block1) {
    _Alignas(64) uint8_t copy[COPY + LINE];
    const espl__conv *p = k->p;
    const manner *m = k->m;
    const int pass = blocks_of_pass(k, block1 - block0);
    stripe a = stripe_of(m, p);
    int configured = 0;
    if (m->from == COPIED) /* what no segment fills */
        for (int i = 1; i <= m->tiles * ROWS; i++) vi_store(copy + i * m->row_bytes - LINE, vi_set1(0));
    k->next = fetch_of(k, &a, block1 - block0);
    for (int block = block0; block < block1; block += pass) {
        dealer d = {.width = m->width, .places = m->places};
        for (int done = 0; next_stripe(m, p, in, copy, &d, &a); done = a.first[a.tiles - 1] + a.count[0]) {
            if (a.count[0] != configured) configure(configured = a.count[0], m->line);
            multiply_blocks(k, &a, done, block, block1 - block < pass ? block1 : block + pass);
        }
    }
    drain(k, k->last.left);
    _tile_release();
}

/* Wide rows of the input that meet several rows of weights are cut into columns of one stripe: what the next
 * row of a column reads again stays in the first-level cache then, beside the weights. */
static int columns_of(const work *k, int pixels) {
    const espl__conv *p = k->p;
    if (k->m->from != ROWS_OF_INPUT || !p->width || p->width >= pixels || pixels % p->width) return 1;
    const bool wide = p->segments > 1 && p->segments * p->width * p->in_step > NEAR / 2;
    return wide ? (p->width + 2 * ROWS - 1) / (2 * ROWS) : 1;
}

static void run_columns(work *k, const uint8_t *in, int pixels, int block0, int block1) {
    espl__conv p = *k->p;
    manner m = *k->m;
    work part = *k;
    int left = columns_of(k, pixels);
    if (left == 1) {
        run(k, in, block0, block1);
        return;
    }
    const int width = p.width, rows = pixels / width;
    part.p = &p;
    part.m = &m;
    for (int x = 0; x < width; x += p.width, p.next = NULL) {
        p.width = m.width = m.pitch = (width - x + left - 1) / left;
        m.places = rows * p.width;
        part.out = k->out + x * p.out_step;
        if (k->res) part.res = k->res + x * p.res_step;
        run(&part, in + x * p.in_step, block0, block1);
        left--;
    }
}

static void conv_u8(const espl__conv *p, const uint8_t *in, uint8_t *out, const uint8_t *res, int pixels,
                    int block0, int block1) {
    manner m;
    _Alignas(64) int32_t sums[2][2 * ROWS * 2 * ESPL__NR];
    if (p->w_block || !choose(p, in, pixels, block1 - block0, &m)) {
        espl__conv_u8_avx512vnni.conv_u8(p, in, out, res, pixels, block0, block1);
        return;
    }
    finish_fn *finish = is_plain(p, res, block0, block1) ? finish_plain : finish_codes;
    work k = {.p = p, .m = &m, .finish = finish, .out = (char *)out, .res = (const char *)res, .sums = sums};
    run_columns(&k, in, pixels, block0, block1);
}

static void conv_u8_f32(const espl__conv *p, const uint8_t *in, float *out, int pixels, int block0,
                        int block1) {
    manner m;
    _Alignas(64) int32_t sums[2][2 * ROWS * 2 * ESPL__NR];
    if (p->w_block || !choose(p, in, pixels, block1 - block0, &m)) {
        espl__conv_u8_avx512vnni.conv_u8_f32(p, in, out, pixels, block0, block1);
        return;
    }
    work k = {.p = p, .m = &m, .finish = finish_u8_f32, .out = (char *)out, .sums = sums};
    run_columns(&k, in, pixels, block0, block1);
}

const espl__kernels espl__conv_u8_amx = {.conv_u8 = conv_u8, .conv_u8_f32 = conv_u8_f32};
