/* The transforms of Winograd's convolution in plain C: the definition. */
#include "kernels/conv/epilogue.h"
#include "kernels/families.h"

/* B' times a column. */
static void transform_in(const float d[4], float t[4]) {
    t[0] = d[0] - d[2];
    t[1] = d[1] + d[2];
    t[2] = d[2] - d[1];
    t[3] = d[1] - d[3];
}

/* A' times a column. */
static void transform_out(const float m[4], float y[2]) {
    y[0] = (m[0] + m[1]) + m[2];
    y[1] = (m[1] - m[2]) - m[3];
}

static void tile_in(const espl__winograd *p, const char *in, char *v, int rows, int columns) {
    float t[4][4]; /* [column][row] */
    for (int j = 0; j < 4; j++) {
        float d[4];
        for (int i = 0; i < 4; i++)
            d[i] = *(const float *)(const void *)(in + ESPL_MIN(i, rows + 1) * p->row +
                                                  ESPL_MIN(j, columns + 1) * p->step);
        transform_in(d, t[j]);
    }
    for (int i = 0; i < 4; i++) {
        float row[4];
        transform_in((const float[4]){t[0][i], t[1][i], t[2][i], t[3][i]}, row);
        for (int j = 0; j < 4; j++) memcpy(v + (4 * i + j) * p->plane, &row[j], sizeof row[j]);
    }
}

static void winograd_in_f32(const espl__winograd *p, const float *in, float *v, int rows) {
    for (int x = 0; x < p->width; x += 2)
        for (int c = 0; c < p->channels; c++)
            tile_in(p, (const char *)(in + c) + x * p->step, (char *)(v + c) + x / 2 * p->tile, rows,
                    ESPL_MIN(p->width - x, 2));
}

static void tile_out(const espl__winograd *p, const char *m, char *out, const char *res, int rows,
                     int columns) {
    float t[4][2], y[2][2]; /* [column][row], [row][column] */
    for (int j = 0; j < 4; j++) {
        float column[4];
        for (int i = 0; i < 4; i++) memcpy(&column[i], m + (4 * i + j) * p->plane, sizeof column[i]);
        transform_out(column, t[j]);
    }
    for (int i = 0; i < rows; i++) {
        transform_out((const float[4]){t[0][i], t[1][i], t[2][i], t[3][i]}, y[i]);
        for (int j = 0; j < columns; j++) {
            float x = y[i][j];
            if (res) x = x + *(const float *)(const void *)(res + i * p->res_row + j * p->res_step);
            x = epilogue_f32(x, p->flo, p->fhi);
            memcpy(out + i * p->row + j * p->step, &x, sizeof x);
        }
    }
}

static void winograd_out_f32(const espl__winograd *p, const float *m, float *out, const float *res,
                             int rows) {
    for (int x = 0; x < p->width; x += 2)
        for (int c = 0; c < p->channels; c++)
            tile_out(p, (const char *)(m + c) + x / 2 * p->tile, (char *)(out + c) + x * p->step,
                     res ? (const char *)(res + c) + x * p->res_step : NULL, rows, ESPL_MIN(p->width - x, 2));
}

const espl__kernels espl__winograd_ref = {.winograd_in_f32 = winograd_in_f32,
                                          .winograd_out_f32 = winograd_out_f32};
