/* The transforms of Winograd's convolution, a vector of channels at a time: one body for every instruction
 * set, whose vector words the including file has; it says what SET is named. */
#include <assert.h>

#include "kernels/families.h"

/* B' times a vector of four. */
static INLINE void transform_in(const vf d[4], vf t[4]) {
    t[0] = vf_sub(d[0], d[2]);
    t[1] = vf_add(d[1], d[2]);
    t[2] = vf_sub(d[2], d[1]);
    t[3] = vf_sub(d[1], d[3]);
}

static INLINE void column_in(const char *in, ptrdiff_t row, ptrdiff_t last_row, int valid, vf t[4]) {
    const vf d[4] = {vf_load_part((const float *)in, valid), vf_load_part((const float *)(in + row), valid),
                     vf_load_part((const float *)(in + 2 * row), valid),
                     vf_load_part((const float *)(in + last_row), valid)};
    transform_in(d, t);
}

/* One vector of channels, tile after tile: the last two columns of a tile are the first two of the next. */
static INLINE void tiles_in(const espl__winograd *p, const char *in, char *v, int rows, int valid) {
    const ptrdiff_t row = p->row, last_row = (rows + 1) * row, plane = p->plane;
    vf t[4][4]; /* [column][row] */
    column_in(in, row, last_row, valid, t[0]);
    column_in(in + p->step, row, last_row, valid, t[1]);
    for (int left = p->width; left > 0; left -= 2, v += p->tile) {
        in += 2 * p->step;
        column_in(in, row, last_row, valid, t[2]);
        column_in(left > 1 ? in + p->step : in, row, last_row, valid, t[3]);
        UNROLL
        for (int i = 0; i < 4; i++) {
            const vf d[4] = {t[0][i], t[1][i], t[2][i], t[3][i]};
            vf x[4];
            transform_in(d, x);
            UNROLL
            for (int j = 0; j < 4; j++) vf_store_part((float *)(v + (4 * i + j) * plane), x[j], valid);
            t[0][i] = t[2][i];
            t[1][i] = t[3][i];
        }
    }
}

static void winograd_in_f32(const espl__winograd *p, const float *in, float *v, int rows) {
    assert(p->width > 0 && (rows == 1 || rows == 2));
    int c = 0;
    for (; c + VL <= p->channels; c += VL) tiles_in(p, (const char *)(in + c), (char *)(v + c), rows, VL);
    if (c < p->channels) tiles_in(p, (const char *)(in + c), (char *)(v + c), rows, p->channels - c);
}

/* A' times a vector of four. */
static INLINE void transform_out(const vf m[4], vf y[2]) {
    y[0] = vf_add(vf_add(m[0], m[1]), m[2]);
    y[1] = vf_sub(vf_sub(m[1], m[2]), m[3]);
}

/* NaN passes: min and max return their second operand then. */
static INLINE void pixel_out(const espl__winograd *p, vf x, char *out, const char *res, int valid) {
    if (res) x = vf_add(x, vf_load_part((const float *)res, valid));
    vf_store_part((float *)out, vf_min(vf_set1(p->fhi), vf_max(vf_set1(p->flo), x)), valid);
}

static INLINE void tile_out(const espl__winograd *p, const char *m, char *out, const char *res, int rows,
                            int columns, int valid) {
    const ptrdiff_t plane = p->plane;
    vf t[4][2];
    UNROLL
    for (int j = 0; j < 4; j++) {
        vf column[4];
        UNROLL
        for (int i = 0; i < 4; i++) column[i] = vf_load_part((const float *)(m + (4 * i + j) * plane), valid);
        transform_out(column, t[j]);
    }
    UNROLL
    for (int i = 0; i < 2; i++) {
        const vf d[4] = {t[0][i], t[1][i], t[2][i], t[3][i]};
        vf y[2];
        if (i == rows) break;
        transform_out(d, y);
        pixel_out(p, y[0], out, res, valid);
        if (columns == 2) pixel_out(p, y[1], out + p->step, res ? res + p->res_step : NULL, valid);
        out += p->row;
        if (res) res += p->res_row;
    }
}

static void winograd_out_f32(const espl__winograd *p, const float *m, float *out, const float *res,
                             int rows) {
    assert(p->width > 0 && (rows == 1 || rows == 2));
    const char *from = (const char *)m, *r = (const char *)res;
    char *to = (char *)out;
    for (int left = p->width; left > 0; left -= 2, from += p->tile, to += 2 * p->step) {
        const int columns = left > 1 ? 2 : 1;
        int c = 0;
        for (; c + VL <= p->channels; c += VL)
            tile_out(p, from + 4 * c, to + 4 * c, r ? r + 4 * c : NULL, rows, columns, VL);
        if (c < p->channels)
            tile_out(p, from + 4 * c, to + 4 * c, r ? r + 4 * c : NULL, rows, columns, p->channels - c);
        if (r) r += 2 * p->res_step;
    }
}

const espl__kernels SET = {.winograd_in_f32 = winograd_in_f32, .winograd_out_f32 = winograd_out_f32};
