/* Some rows times a matrix, tile by tile, weights once for up to four rows: what the gemv kernels share,
 * whatever their weights. The including file has the vector words and the tiles (gemv.inc.h), and says with
 * GEMV_U8 and GEMV_F32 what its sums are. */
#include "kernels/simd/requant.inc.h"

/* Leaves the sums of the rows and the blocks from `block` on in `sums`, [row][block][16]. */
typedef void tile_fn(const espl__conv *p, const char *in, int block, void *sums);

#define TILES(X) TILES_1(X) TILES_2(X) TILES_4(X) TILES_8(X)
/* tiles[NRB][MR - 1] */
#define TABLE(ENTRY)                                                                                     \
    {                                                                                                    \
        [1] = {TILES_1(ENTRY)}, [2] = {TILES_2(ENTRY)}, [4] = {TILES_4(ENTRY)}, [8] = { TILES_8(ENTRY) } \
    }
typedef tile_fn *tile_table[9][4];

/* What becomes of the sums of `rows` rows and `nrb` blocks. */
typedef void finish_fn(const espl__conv *p, void *sums, int nrb, int rows, place at);

/* The last blocks of one row, if they would take several narrow tiles: one of the widest with so many of the
 * blocks before them has more streams, and sums those once more for nothing. */
static INLINE int blocks_again(int rows, int all, int left) {
    const int widest = blocks_per_tile(rows, all);
    return rows == 1 && left < widest && left > blocks_per_tile(rows, left) ? widest - left : 0;
}

static INLINE void run(const tile_table tiles, finish_fn *finish, const espl__conv *p, const char *in,
                       char *out, const char *res, int rows, int block0, int block1) {
    _Alignas(64) int32_t sums[32 * VL];
    assert(rows >= 0 && block0 >= 0);
    for (int r = 0; r < rows; r += 4) {
        const int mr = rows - r < 4 ? rows - r : 4;
        const char *x = in + r * p->in_step;
        for (int block = block0; block < block1;) {
            const int again = blocks_again(mr, block1 - block0, block1 - block),
                      nrb = blocks_per_tile(mr, block1 - block + again);
            tiles[nrb][mr - 1](p, x, block - again, sums);
            finish(p, sums + again * ESPL__NR, nrb - again, mr,
                   (place){block * ESPL__NR, p->channels, out + r * p->out_step, p->out_step,
                           res ? res + r * p->res_step : NULL, p->res_step});
            block += nrb - again;
        }
    }
}

static INLINE void store_f32(const espl__conv *p, const float *sums, int nrb, int rows, place at) {
    for (int n = 0; n < nrb; n++, at.c += ESPL__NR)
        store_block_f32(p->flo, p->fhi, sums + n * ESPL__NR, nrb * ESPL__NR, rows, at);
}

#ifdef GEMV_U8
static void finish_u8(const espl__conv *p, void *sums, int nrb, int rows, place at) {
    store_u8(&p->q, sums, nrb, rows, at);
}

static void finish_u8_f32(const espl__conv *p, void *sums, int nrb, int rows, place at) {
    _Alignas(64) float x[32 * VL];
    for (int n = 0; n < nrb * VPB; n++) {
        const vf mult = vf_load(p->q.mult + at.c + n * VL);
        for (int m = 0; m < rows; m++) {
            const int i = m * nrb * ESPL__NR + n * VL;
            vf y = vf_mul(vf_of(vi_load((const int32_t *)sums + i)), mult);
            if (p->fbias) y = vf_add(y, vf_load(p->fbias + at.c + n * VL));
            vf_store(x + i, y);
        }
    }
    store_f32(p, x, nrb, rows, at);
}
#endif

#ifdef GEMV_F32
static void finish_f32(const espl__conv *p, void *sums, int nrb, int rows, place at) {
    store_f32(p, sums, nrb, rows, at);
}
#endif
