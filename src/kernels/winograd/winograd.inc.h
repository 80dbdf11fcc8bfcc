/* The transforms of Winograd's convolution, a vector of channels at a time: one body for every instruction
 * set, whose vector words the including file has; it says what SET is named. */
#include "kernels/families.h"
#include "kernels/simd/requant.inc.h"

/* --- f32 ------------------------------------------------------------------------------------------------ */

#define NAME(x) x##_f32
#define SIDE 2
#define word vf
#define add vf_add
#define sub vf_sub
#define IN float
#define OUT float
#define LANES VL
#define load_part vf_load_part
#define store_part vf_store_part
#include "kernels/winograd/in.inc.h"
#define add vf_add
#define sub vf_sub
#define sum_t float
#define load_sums vf_load_part
#include "kernels/winograd/out.inc.h"

static void winograd_in_f32(const espl__winograd *p, const float *in, float *v, int rows) {
    row_in_f32(p, in, v, rows);
}

static INLINE void pixel_out(const espl__winograd *p, vf x, char *out, const char *res, int valid) {
    if (res) x = vf_add(x, vf_load_part((const float *)res, valid));
    vf_store_part((float *)out, clamp(x, vf_set1(p->flo), vf_set1(p->fhi)), valid);
}

static INLINE void store_tile_f32(const espl__winograd *p, const char *m, char *out, const char *res,
                                  int rows, int columns, int valid) {
    vf y[4];
    tile_out_f32(m, p->plane, valid, y);
    UNROLL
    for (int i = 0; i < 2; i++) {
        if (i == rows) break;
        pixel_out(p, y[2 * i], out, res, valid);
        if (columns == 2) pixel_out(p, y[2 * i + 1], out + p->step, res ? res + p->res_step : NULL, valid);
        out += p->row;
        if (res) res += p->res_row;
    }
}

static void winograd_out_f32(const espl__winograd *p, const float *m, float *out, const float *res,
                             int rows) {
    assert(p->width > 0 && p->side == 2 && (rows == 1 || rows == 2));
    const char *from = (const char *)m, *r = (const char *)res;
    char *to = (char *)out;
    for (int left = p->width; left > 0; left -= 2, from += p->tile, to += 2 * p->step) {
        const int columns = left > 1 ? 2 : 1;
        int c = 0;
        for (; c + VL <= p->channels; c += VL)
            store_tile_f32(p, from + 4 * c, to + 4 * c, r ? r + 4 * c : NULL, rows, columns, VL);
        if (c < p->channels)
            store_tile_f32(p, from + 4 * c, to + 4 * c, r ? r + 4 * c : NULL, rows, columns, p->channels - c);
        if (r) r += 2 * p->res_step;
    }
}

/* --- codes ---------------------------------------------------------------------------------------------- */

#define NAME(x) x##_2x2
#define SIDE 2
#include "kernels/winograd/codes.inc.h"
#define NAME(x) x##_4x4
#define SIDE 4
#include "kernels/winograd/codes.inc.h"

static void winograd_in_u8(const espl__winograd *p, const uint8_t *in, int16_t *v, int rows) {
    if (p->side == 2)
        row_in_2x2(p, in, v, rows);
    else
        row_in_4x4(p, in, v, rows);
}

/* The outputs of so many pixels of each row of a tile are collected, in two blocks of channels at most: codes
 * are then stored pixel by pixel, 32 channels each. */
enum { PIXELS_AT_ONCE = 16, BLOCKS_AT_ONCE = 2 };
typedef int32_t row_sums[PIXELS_AT_ONCE * BLOCKS_AT_ONCE * ESPL__NR];

/* One vector of channels of a tile. */
static INLINE void whole_tile_out(const char *m, ptrdiff_t plane, vi *y, const int side) {
    const vi ninth = vi_set1(954437177); /* modulo 2^32 */
    if (side == 2)
        tile_out_2x2(m, plane, VL, y);
    else
        tile_out_4x4(m, plane, VL, y);
    UNROLL
    for (int i = 0; i < side * side; i++) y[i] = side == 2 ? vi_quarter(y[i]) : vi_mul_shift(y[i], ninth, 6);
}

static INLINE void collect(const espl__winograd *p, const char *m, int c, int tiles, const int NRB,
                           row_sums *sums, const int side) {
    const int pixel = NRB * ESPL__NR;
    for (int v = 0; v < NRB * VPB; v++) {
        const vi bias = vi_load(p->bias + c + v * VL);
        const char *from = m + 4 * (c + v * VL);
        for (int t = 0; t < tiles; t++, from += p->tile) {
            vi y[16];
            whole_tile_out(from, p->plane, y, side);
            UNROLL
            for (int i = 0; i < side * side; i++)
                vi_store(sums[i / side] + (side * t + i % side) * pixel + v * VL, vi_add(y[i], bias));
        }
    }
}

/* Some tiles of a row, one channel after the other. */
static INLINE void tiles_out(const espl__winograd *p, const char *m, char *out, const char *res, int rows,
                             int pixels, const int side) {
    _Alignas(64) row_sums sums[4];
    const int tiles = (pixels + side - 1) / side;
    for (int c = 0, nrb; c < p->channels; c += nrb * ESPL__NR) {
        nrb = p->channels - c > ESPL__NR ? BLOCKS_AT_ONCE : 1;
        if (nrb == 1)
            collect(p, m, c, tiles, 1, sums, side);
        else
            collect(p, m, c, tiles, BLOCKS_AT_ONCE, sums, side);
        for (int i = 0; i < rows; i++)
            store_u8(&p->q, sums[i], nrb, pixels,
                     (place){c, p->channels, out + i * p->row, p->step, res ? res + i * p->res_row : NULL,
                             p->res_step});
    }
}

static INLINE void row_out(const espl__winograd *p, const char *m, char *out, const char *res, int rows,
                           const int side) {
    const int most = PIXELS_AT_ONCE;
    assert(p->width > 0 && rows >= 1 && rows <= side);
    for (int x = 0; x < p->width; x += most)
        tiles_out(p, m + x / side * p->tile, out + x * p->step, res ? res + x * p->res_step : NULL, rows,
                  p->width - x < most ? p->width - x : most, side);
}

static void winograd_out_u8(const espl__winograd *p, const int32_t *m, uint8_t *out, const uint8_t *res,
                            int rows) {
    if (p->side == 2)
        row_out(p, (const char *)m, (char *)out, (const char *)res, rows, 2);
    else
        row_out(p, (const char *)m, (char *)out, (const char *)res, rows, 4);
}

const espl__kernels SET = {
    .winograd_in_f32 = winograd_in_f32,
    .winograd_out_f32 = winograd_out_f32,
    .winograd_in_u8 = winograd_in_u8,
    .winograd_out_u8 = winograd_out_u8,
};
