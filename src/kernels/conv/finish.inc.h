/* What becomes of the integer sums of a tile, [pixel][block][16]: stored as codes or as floats. */
#include "kernels/simd/requant.inc.h"

enum { FINISH_PIXELS = 32 }; /* at a time, at most */

/* `pixels` pixels, nrb blocks from `block` on; `out` and `res` point at channel 0 of the first pixel. */
typedef void finish_fn(const espl__conv *p, const void *sums, int block, int nrb, int pixels, char *out,
                       const char *res);

static INLINE place place_of(const espl__conv *p, int block, char *out, const char *res) {
    return (place){block * ESPL__NR, p->channels, out, p->out_step, res, p->res_step};
}

#ifdef CONV_U8
static void finish_u8(const espl__conv *p, const void *sums, int block, int nrb, int pixels, char *out,
                      const char *res) {
    store_u8(&p->q, sums, nrb, pixels, place_of(p, block, out, res));
}

static void finish_u8_f32(const espl__conv *p, const void *sums, int block, int nrb, int pixels, char *out,
                          const char *res) {
    _Alignas(64) float x[FINISH_PIXELS * ESPL__NR];
    assert(pixels <= FINISH_PIXELS);
    for (int n = 0; n < nrb; n++) {
        for (int v = 0; v < VPB; v++) {
            const int c = (block + n) * ESPL__NR + v * VL;
            const vf mult = vf_load(p->q.mult + c);
            for (int m = 0; m < pixels; m++) {
                const int32_t *from = (const int32_t *)sums + (m * nrb + n) * ESPL__NR + v * VL;
                vf y = vf_mul(vf_of(vi_load(from)), mult);
                if (p->fbias) y = vf_add(y, vf_load(p->fbias + c));
                vf_store(x + m * ESPL__NR + v * VL, y);
            }
        }
        store_block_f32(p->flo, p->fhi, x, ESPL__NR, pixels, place_of(p, block + n, out, res));
    }
}
#endif

/* The pixels from `first` on, which may lie in several rows; `out` and `res` are those of the first pixel of
 * all. */
static INLINE void finish_pixels(const espl__conv *p, finish_fn *finish, const int32_t *sums, int block,
                                 int nrb, int first, int count, char *out, const char *res) {
    while (count > 0) {
        const int to_end = p->width ? p->width - first % p->width : count;
        int n = count < to_end ? count : to_end;
        if (n > FINISH_PIXELS) n = FINISH_PIXELS;
        finish(p, sums, block, nrb, n, out + espl__pixel_at(p->width, first, p->out_step, p->out_row),
               res ? res + espl__pixel_at(p->width, first, p->res_step, p->res_row) : NULL);
        sums += n * nrb * ESPL__NR;
        first += n;
        count -= n;
    }
}
