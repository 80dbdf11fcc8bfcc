/* Weights of few bits times five rows and more of one byte an input, on AMX tiles: 16 rows x 32 bytes of a
 * unit times 32 bytes x 16 channels. The vector of four inputs of 16 channels is a row of a tile, so codes
 * are unpacked, their offset taken off, and stored as the tile that is loaded. A unit's sums go back through
 * memory to be multiplied with their scales: three instructions for 16 of them, which is what all takes most
 * time for. Products of the next four blocks are under way meanwhile. */
#define ESPL__VNNI
#include "kernels/wonly/words_512.h"

#include "kernels/families.h"
#include "kernels/simd/requant.inc.h"
#include "kernels/wonly/wonly.h"

enum { TILE_ROWS = 16, FEW = 4, STREAMS = 8, GROUP = 4, LINE = 64 };

/* Tile registers: rows in 0, weights in 1 to 3, sums in 4 to 7. */
typedef struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t colsb[16];
    uint8_t rows[16];
} tile_config;

/* What the tile instructions read and write is behind the compiler's back. */
static INLINE void settle(const void *p) {
    __asm__ volatile("" : : "r"(p) : "memory");
}

static void configure(int rows) {
    tile_config c = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        c.colsb[i] = i == 0 ? ESPL__UNIT : LINE;
        c.rows[i] = (uint8_t)(i >= 1 && i <= 3 ? WONLY_QUADS : rows);
    }
    settle(&c);
    _tile_loadconfig(&c);
}

/* Some rows and the blocks of a tile of them, up to GROUP at a time. */
typedef struct work {
    const espl__conv *p;
    const uint8_t *x, *w;
    int rows, nrb;
    float *sums; /* [rows][nrb][16] */
    _Alignas(64) int8_t codes[GROUP][ESPL__UNIT * ESPL__NR];
    _Alignas(64) int32_t products[GROUP][TILE_ROWS * ESPL__NR];
} work;

/* Blocks whose products are under way. */
typedef struct batch {
    const uint8_t *record, *scales; /* of the first row and block */
    int first, count;
} batch;

static INLINE void unpack(const uint8_t *unit, int8_t *to, int bits) {
    const int per = 8 / bits;
    UNROLL
    for (int quad = 0; quad < WONLY_QUADS; quad++) {
        const vi x = vi_load(unit + quad / per * LINE);
        const vi code = bits == 8 ? x : bits_of(x, quad % per * bits, (1 << bits) - 1);
        vi_store(to + quad * LINE, v8_sub(code, v8_set1(1 << (bits - 1))));
    }
}

static INLINE void fetch(const uint8_t *at, ptrdiff_t left, ptrdiff_t jump, int bits) {
    at += AHEAD < left ? AHEAD : AHEAD + jump;
    UNROLL
    for (int i = 0; i <= bits; i++) fetch_line(at + i * LINE);
}

/* The products of `count` blocks, into the registers 4 to 7. */
static INLINE void multiply(work *k, const uint8_t *record, const uint8_t *unit, ptrdiff_t left, int count,
                            int bits) {
    const ptrdiff_t block = k->p->wonly->block, jump = (k->nrb - 1) * block;
    for (int n = 0; n < count; n++) {
        unpack(unit + n * block, k->codes[n], bits);
        fetch(unit + n * block, left, jump, bits);
    }
    settle(k);
    _tile_loadd(0, record, k->p->in_step);
    _tile_zero(4);
    _tile_loadd(1, k->codes[0], LINE);
    _tile_dpbssd(4, 0, 1);
    if (count > 1) {
        _tile_zero(5);
        _tile_loadd(2, k->codes[1], LINE);
        _tile_dpbssd(5, 0, 2);
    }
    if (count > 2) {
        _tile_zero(6);
        _tile_loadd(3, k->codes[2], LINE);
        _tile_dpbssd(6, 0, 3);
    }
    if (count > 3) {
        _tile_zero(7);
        _tile_loadd(1, k->codes[3], LINE);
        _tile_dpbssd(7, 0, 1);
    }
}

static INLINE void store_products(work *k, int count) {
    _tile_stored(4, k->products[0], LINE);
    if (count > 1) _tile_stored(5, k->products[1], LINE);
    if (count > 2) _tile_stored(6, k->products[2], LINE);
    if (count > 3) _tile_stored(7, k->products[3], LINE);
    settle(k);
}

/* What is in `products`, times the scales, to the sums. */
static INLINE void add_products(work *k, const batch *b) {
    const espl__wonly *o = k->p->wonly;
    const ptrdiff_t step = k->p->in_step;
    const int stride = k->nrb * ESPL__NR;
    for (int n = 0; n < b->count; n++) {
        const uint8_t *scales = b->scales + n * o->block, *record = b->record + ESPL__UNIT + 4;
        const vf scale =
            o->scales == ESPL_F16 ? of_f16(scales) : vf_load((const float *)(const void *)scales);
        float *sum = k->sums + (b->first + n) * ESPL__NR;
        for (int m = 0; m < k->rows; m++, record += step, sum += stride) {
            float by;
            memcpy(&by, record, sizeof by);
            const vf y = vf_of(vi_load(k->products[n] + m * ESPL__NR));
            vf_store(sum, vf_fma(y, vf_mul(scale, vf_set1(by)), vf_load(sum)));
        }
    }
}

static BODY void tile(work *k, int bits) {
    const espl__wonly *o = k->p->wonly;
    const ptrdiff_t unit_bytes = wonly_unit_bytes(o), scale_bytes = wonly_scale_bytes(o);
    const uint8_t *record = k->x;
    ptrdiff_t at = 0, scales = 0;
    int32_t left = 0;
    batch last = {.count = 0};
    for (int32_t u = 0; u < o->units; u++, record += espl__wonly_record(o), at += unit_bytes, left--) {
        if (left == 0) {
            left = o->group;
            scales = at;
            at += scale_bytes;
        }
        for (int n = 0; n < k->nrb; n += GROUP) {
            const uint8_t *from = k->w + n * o->block;
            const int count = k->nrb - n < GROUP ? k->nrb - n : GROUP;
            multiply(k, record, from + at, o->block - at, count, bits);
            add_products(k, &last);
            store_products(k, count);
            last = (batch){record, from + scales, n, count};
        }
    }
    add_products(k, &last);
}

static void run_tile(work *k) {
    const int bits = k->p->wonly->bits;
    if (bits == 4)
        tile(k, 4);
    else if (bits == 8)
        tile(k, 8);
    else
        tile(k, 2);
}

/* Rows inside, dealt out evenly: a product takes as long as its tile has rows. */
static void wonly_f32(const espl__conv *p, const void *in, float *out, const float *res, int rows, int block0,
                      int block1) {
    _Alignas(64) float sums[TILE_ROWS * STREAMS * ESPL__NR];
    work k = {.p = p, .sums = sums};
    if (rows <= FEW || p->wonly->planes != 1) {
        espl__wonly_avx512vnni.wonly_f32(p, in, out, res, rows, block0, block1);
        return;
    }
    const int tiles = (rows + TILE_ROWS - 1) / TILE_ROWS;
    for (int block = block0; block < block1; block += STREAMS) {
        k.nrb = block1 - block < STREAMS ? block1 - block : STREAMS;
        k.w = (const uint8_t *)p->w + block * p->wonly->block;
        for (int t = 0, r = 0; t < tiles; t++, r += k.rows) {
            k.rows = (rows - r + tiles - t - 1) / (tiles - t);
            k.x = (const uint8_t *)in + r * p->in_step;
            configure(k.rows);
            for (int m = 0; m < k.rows; m++)
                memcpy(sums + m * k.nrb * ESPL__NR, (const float *)p->bias + block * ESPL__NR,
                       sizeof(float) * ESPL__NR * (size_t)k.nrb);
            run_tile(&k);
            place at = {block * ESPL__NR,
                        p->channels,
                        (char *)out + r * p->out_step,
                        p->out_step,
                        res ? (const char *)res + r * p->res_step : NULL,
                        p->res_step};
            for (int n = 0; n < k.nrb; n++, at.c += ESPL__NR)
                store_block_f32(p->flo, p->fhi, sums + n * ESPL__NR, k.nrb * ESPL__NR, k.rows, at);
        }
    }
    _tile_release();
}

const espl__kernels espl__wonly_amx = {.wonly_f32 = wonly_f32};
