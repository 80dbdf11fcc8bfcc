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

/* --- codes -------------------------------------------------------------------------------------------- */

enum { MOST_SIDE = 4, MOST_SIZE = MOST_SIDE + 2 };

/* B' and A' as kernels.h has them, and what Y has too much: a factor without an even part, of which this is
 * the inverse modulo 2^32, and a power of two. */
typedef struct code_matrices {
    int b[MOST_SIZE][MOST_SIZE], a[MOST_SIDE][MOST_SIZE];
    uint32_t inverse;
    int shift;
} code_matrices;

static const code_matrices by_2 = {.b = {{1, 0, -1, 0}, {0, 1, 1, 0}, {0, -1, 1, 0}, {0, 1, 0, -1}},
                                   .a = {{1, 1, 1, 0}, {0, 1, -1, -1}},
                                   .inverse = 1,
                                   .shift = 2};
static const code_matrices by_4 = {
    .b = {{4, 0, -5, 0, 1, 0},
          {0, -4, -4, 1, 1, 0},
          {0, 4, -4, -1, 1, 0},
          {0, -2, -1, 2, 1, 0},
          {0, 2, -1, -2, 1, 0},
          {0, 4, 0, -5, 0, 1}},
    .a = {{1, 1, 1, 1, 1, 0}, {0, 1, -1, 2, -2, 0}, {0, 1, 1, 4, 4, 0}, {0, 1, -1, 8, -8, 2}},
    .inverse = 954437177, /* times 9 is 2^33 + 1 */
    .shift = 6};

static const code_matrices *matrices_of(const espl__winograd *p) {
    return p->side == 2 ? &by_2 : &by_4;
}

static void tile_in_u8(const espl__winograd *p, const uint8_t *in, char *v, int rows, int columns) {
    const code_matrices *by = matrices_of(p);
    const int size = p->side + 2;
    for (int i = 0; i < size; i++)
        for (int j = 0; j < size; j++) {
            int sum = 0;
            for (int y = 0; y < size; y++)
                for (int x = 0; x < size; x++)
                    sum += by->b[i][y] * by->b[j][x] *
                           in[ESPL_MIN(y, rows + 1) * p->row + ESPL_MIN(x, columns + 1) * p->step];
            memcpy(v + (size * i + j) * p->plane, &(int16_t){(int16_t)sum}, sizeof(int16_t));
        }
}

static void winograd_in_u8(const espl__winograd *p, const uint8_t *in, int16_t *v, int rows) {
    for (int x = 0; x < p->width; x += p->side)
        for (int c = 0; c < p->channels; c++)
            tile_in_u8(p, in + c + x * p->step, (char *)(v + c) + x / p->side * p->tile, rows,
                       ESPL_MIN(p->width - x, p->side));
}

/* Output (row, column) of a tile. Sums wrap, as those of the products do. */
static int32_t output_of(const espl__winograd *p, const char *m, int row, int column) {
    const code_matrices *by = matrices_of(p);
    const int size = p->side + 2;
    uint32_t sum = 0;
    for (int i = 0; i < size; i++)
        for (int j = 0; j < size; j++) {
            uint32_t element;
            memcpy(&element, m + (size * i + j) * p->plane, sizeof element);
            sum += (uint32_t)(by->a[row][i] * by->a[column][j]) * element;
        }
    return (int32_t)(sum * by->inverse) >> by->shift;
}

static void tile_out_u8(const espl__winograd *p, const char *m, int c, uint8_t *out, const uint8_t *res,
                        int rows, int columns) {
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < columns; j++) {
            const int32_t sum = (int32_t)((uint32_t)output_of(p, m, i, j) + (uint32_t)p->bias[c]);
            out[i * p->row + j * p->step] =
                epilogue_u8(&p->q, c, sum, res ? res + i * p->res_row + j * p->res_step : NULL);
        }
}

static void winograd_out_u8(const espl__winograd *p, const int32_t *m, uint8_t *out, const uint8_t *res,
                            int rows) {
    for (int x = 0; x < p->width; x += p->side)
        for (int c = 0; c < p->channels; c++)
            tile_out_u8(p, (const char *)(m + c) + x / p->side * p->tile, c, out + c + x * p->step,
                        res ? res + c + x * p->res_step : NULL, rows, ESPL_MIN(p->width - x, p->side));
}

const espl__kernels espl__winograd_ref = {
    .winograd_in_f32 = winograd_in_f32,
    .winograd_out_f32 = winograd_out_f32,
    .winograd_in_u8 = winograd_in_u8,
    .winograd_out_u8 = winograd_out_u8,
};
