/* The transforms of Winograd's convolution: every set against the reference, and the reference, with products
 * in double between its two halves, against plain convolution. */
#include "conv_case.h"

typedef struct {
    espl__winograd p;
    int rows, height, tiles; /* of outputs; of inputs that may be read; of the row */
    bool hostile;
} row_case;

/* Tiles of side x side outputs. Elements of `element` bytes, of whole units of channels. */
static row_case random_row(int side, int element, int unit) {
    row_case c = {.p.side = side, .rows = between(1, side), .hostile = one_in(4)};
    c.p.width = between(1, 19);
    c.p.channels = one_in(2) ? between(1, 40) : between(1, 150);
    c.height = c.rows + 2;
    c.tiles = (c.p.width + side - 1) / side;
    c.p.tile = element * ((c.p.channels + unit - 1) / unit * unit + (one_in(2) ? 0 : between(0, 20)));
    c.p.plane = c.tiles * c.p.tile + (one_in(2) ? 0 : element * between(0, 20));
    c.p.flo = one_in(2) ? -INFINITY : -1.0f;
    c.p.fhi = one_in(2) ? INFINITY : 0.5f;
    return c;
}

/* Steps of an image of so many pixels a row; bytes up to its last channel. */
static size_t random_image(const row_case *c, int element, int width, int height, ptrdiff_t *step,
                           ptrdiff_t *row) {
    *step = element * (c->p.channels + (one_in(2) ? 0 : between(0, 20)));
    *row = *step * (width + (one_in(2) ? 0 : between(0, 3)));
    return (size_t)(*row * (height - 1) + *step * (width - 1) + element * c->p.channels);
}

static size_t planes_bytes(const row_case *c, int element, int channels) {
    return (size_t)(((c->p.side + 2) * (c->p.side + 2) - 1) * c->p.plane + (c->tiles - 1) * c->p.tile +
                    element * channels);
}

static float *random_floats(int slot, size_t bytes, bool hostile) {
    float *x = take(slot, bytes);
    fill_f32(x, (int64_t)(bytes / 4), 1.0f, hostile);
    return x;
}

#define ROW_FORMAT "tiles of %d, %d rows of %d pixels, %d channels%s"
#define ROW_ARGS(c) (c).p.side, (c).rows, (c).p.width, (c).p.channels, (c).hostile ? ", hostile" : ""

void check_winograd_in_f32(void) {
    for (int i = 0; i < cases(2000); i++) {
        row_case c = random_row(2, 4, 1);
        size_t bytes = random_image(&c, 4, c.p.width + 2, c.height, &c.p.step, &c.p.row);
        const float *in = random_floats(SLOT_IN, bytes, c.hostile);
        outputs o = take_outputs(planes_bytes(&c, 4, c.p.channels));
        espl__kernels_own(ESPL__CPU_REF)->winograd_in_f32(&c.p, in, o.want, c.rows);
        FOR_LEVELS(level, winograd_in_f32) {
            float *got = take_again(&o);
            espl__kernels_own((espl__cpu)level)->winograd_in_f32(&c.p, in, got, c.rows);
            expect(same_floats(&o, got), "winograd_in_f32", level, ROW_FORMAT, ROW_ARGS(c));
        }
    }
}

static double element(const float *from, ptrdiff_t bytes) {
    return (double)*(const float *)(const void *)((const char *)from + bytes);
}

typedef const double rows_of_three[][3];
static rows_of_three halves = {{1, 0, 0}, {0.5, 0.5, 0.5}, {0.5, -0.5, 0.5}, {0, 0, 1}}, /* F(2x2, 3x3) */
    wholes = {{2, 0, 0}, {1, 1, 1}, {1, -1, 1}, {0, 0, 2}},                              /* of codes */
    large = {{6, 0, 0}, {-4, -4, -4}, {-4, 4, -4},
             {1, 2, 4}, {1, -2, 4},   {0, 0, 12}}; /* F(4x4, 3x3) of codes */

/* (G g G')[i][j] as the formula says it. */
static double transformed(rows_of_three G, const double g[3][3], int i, int j) {
    double sum = 0;
    for (int a = 0; a < 3; a++)
        for (int b = 0; b < 3; b++) sum += G[i][a] * g[a][b] * G[j][b];
    return sum;
}

/* One channel each way: the elements times the transformed taps, transformed back, are the convolution. */
static void check_formula(void) {
    for (int n = 0; n < 200; n++) {
        row_case c = random_row(2, 4, 1);
        espl__winograd to = c.p;
        size_t bytes = random_image(&c, 4, c.p.width + 2, c.height, &c.p.step, &c.p.row);
        const float *in = random_floats(SLOT_IN, bytes, false);
        float *v = take(SLOT_B, planes_bytes(&c, 4, c.p.channels));
        double g[3][3], size = 0;
        for (int a = 0; a < 9; a++) size += fabs(g[a / 3][a % 3] = espl__rng_float(&rng) - 0.5);
        espl__kernels_own(ESPL__CPU_REF)->winograd_in_f32(&c.p, in, v, c.rows);
        for (int k = 0; k < 16; k++)
            for (int t = 0; t < c.tiles; t++)
                for (int ch = 0; ch < c.p.channels; ch++) {
                    float *x = (float *)(void *)((char *)v + k * c.p.plane + t * c.p.tile) + ch;
                    *x = (float)(*x * transformed(halves, (const double(*)[3])g, k / 4, k % 4));
                }
        outputs o = take_outputs(random_image(&c, 4, c.p.width, c.rows, &to.step, &to.row));
        espl__kernels_own(ESPL__CPU_REF)->winograd_out_f32(&to, v, o.want, NULL, c.rows);
        for (int i = 0; i < c.rows * c.p.width; i++) {
            int y = i / c.p.width, x = i % c.p.width, ch = between(0, c.p.channels - 1);
            double sum = 0;
            for (int a = 0; a < 9; a++)
                sum += g[a / 3][a % 3] * element(in + ch, (y + a / 3) * c.p.row + (x + a % 3) * c.p.step);
            double got = element((const float *)o.want + ch, y * to.row + x * to.step);
            expect(fabs(fmin(fmax(sum, (double)to.flo), (double)to.fhi) - got) <= 0x1p-18 * size,
                   "winograd_out_f32", 0, ROW_FORMAT ": %g, not %g", ROW_ARGS(c), got, sum);
        }
    }
}

void check_winograd_out_f32(void) {
    check_formula();
    for (int i = 0; i < cases(2000); i++) {
        row_case c = random_row(2, 4, 1);
        const float *m = random_floats(SLOT_IN, planes_bytes(&c, 4, c.p.channels), c.hostile), *res = NULL;
        if (one_in(2))
            res = random_floats(SLOT_RES, random_image(&c, 4, c.p.width, c.rows, &c.p.res_step, &c.p.res_row),
                                c.hostile);
        outputs o = take_outputs(random_image(&c, 4, c.p.width, c.rows, &c.p.step, &c.p.row));
        espl__kernels_own(ESPL__CPU_REF)->winograd_out_f32(&c.p, m, o.want, res, c.rows);
        FOR_LEVELS(level, winograd_out_f32) {
            float *got = take_again(&o);
            espl__kernels_own((espl__cpu)level)->winograd_out_f32(&c.p, m, got, res, c.rows);
            expect(same_floats(&o, got), "winograd_out_f32", level, ROW_FORMAT "%s", ROW_ARGS(c),
                   res ? ", residual" : "");
        }
    }
}

/* --- codes ---------------------------------------------------------------------------------------------- */

/* The largest element there is: of its 6 x 6 codes those that count for element (1, 1) of 4 x 4 tiles are 255. */
static void check_largest_element(void) {
    const espl__winograd p = {.side = 4, .width = 4, .channels = 1, .step = 1, .row = 6, .tile = 2, .plane = 2};
    uint8_t in[36];
    int16_t v[36];
    for (int i = 0; i < 36; i++) {
        const int y = i / 6, x = i % 6, inner = (y == 1 || y == 2) + (x == 1 || x == 2);
        in[i] = y >= 1 && y <= 4 && x >= 1 && x <= 4 && inner != 1 ? 255 : 0;
    }
    espl__kernels_own(ESPL__CPU_REF)->winograd_in_u8(&p, in, v, 4);
    expect(v[7] == 68 * 255, "winograd_in_u8", 0, "largest element: %d", v[7]);
    FOR_LEVELS(level, winograd_in_u8) {
        espl__kernels_own((espl__cpu)level)->winograd_in_u8(&p, in, v, 4);
        expect(v[7] == 68 * 255, "winograd_in_u8", level, "largest element: %d", v[7]);
    }
}

void check_winograd_in_u8(void) {
    check_largest_element();
    for (int i = 0; i < cases(2000); i++) {
        row_case c = random_row(one_in(2) ? 4 : 2, 2, 1);
        const uint8_t *in =
            take(SLOT_IN, random_image(&c, 1, c.p.width + 2, c.height, &c.p.step, &c.p.row));
        outputs o = take_outputs(planes_bytes(&c, 2, c.p.channels));
        espl__kernels_own(ESPL__CPU_REF)->winograd_in_u8(&c.p, in, o.want, c.rows);
        FOR_LEVELS(level, winograd_in_u8) {
            int16_t *got = take_again(&o);
            espl__kernels_own((espl__cpu)level)->winograd_in_u8(&c.p, in, got, c.rows);
            expect(same_bytes(&o, got), "winograd_in_u8", level, ROW_FORMAT, ROW_ARGS(c));
        }
    }
}

static const int32_t *random_bias(int channels) {
    int32_t *bias = take(SLOT_BIAS, (size_t)round16(channels) * sizeof *bias);
    for (int i = 0; i < round16(channels); i++) bias[i] = between(-(1 << 12), 1 << 12);
    return bias;
}

/* The direct way. */
static double sum_at(const espl__winograd *p, const double g[3][3], const uint8_t *in, int y, int x, int ch) {
    double sum = 0;
    for (int a = 0; a < 9; a++)
        sum += g[a / 3][a % 3] * in[(y + a / 3) * p->row + (x + a % 3) * p->step + ch];
    return sum;
}

/* As check_formula, exactly, with the sums of some 100 inputs that the products would have: weights are as large as those, and 4
 * or 576 times that; the products wrap. One pixel of each channel is brought into 0..255 by the bias. */
static void check_code_formula(void) {
    for (int n = 0; n < 200; n++) {
        row_case c = random_row(one_in(2) ? 4 : 2, 4, 16);
        const int size = c.p.side + 2;
        espl__winograd to = c.p, from = c.p;
        from.tile = c.p.tile / 4 * 2;
        from.plane = c.p.plane / 4 * 2;
        const uint8_t *in =
            take(SLOT_IN, random_image(&c, 1, c.p.width + 2, c.height, &from.step, &from.row));
        int16_t *v = take(SLOT_B, planes_bytes(&c, 4, round16(c.p.channels)) / 2);
        int32_t *m = take(SLOT_PREPARED, planes_bytes(&c, 4, round16(c.p.channels)));
        double g[3][3];
        const int largest = one_in(2) ? 127 : 14600; /* 9 * 255 * 14600 is just below 2^25 */
        for (int a = 0; a < 9; a++) g[a / 3][a % 3] = one_in(4) ? -largest : between(-largest, largest);
        espl__kernels_own(ESPL__CPU_REF)->winograd_in_u8(&from, in, v, c.rows);
        for (int k = 0; k < size * size; k++) {
            const int u =
                (int)transformed(size == 4 ? wholes : large, (const double(*)[3])g, k / size, k % size);
            for (int t = 0; t < c.tiles; t++)
                for (int ch = 0; ch < c.p.channels; ch++) {
                    const ptrdiff_t element = (k * c.p.plane + t * c.p.tile) / 4 + ch;
                    m[element] = (int32_t)(uint32_t)((int64_t)v[element] * u);
                }
        }
        float *mults = take(SLOT_MULT, (size_t)round16(c.p.channels) * sizeof *mults);
        int32_t *bias = take(SLOT_BIAS, (size_t)round16(c.p.channels) * sizeof *bias);
        for (int ch = 0; ch < round16(c.p.channels); ch++) {
            mults[ch] = 1;
            const int y = between(0, c.rows - 1), x = between(0, c.p.width - 1);
            bias[ch] = between(0, 255) - (ch < c.p.channels ? (int)sum_at(&from, (const double(*)[3])g, in, y, x, ch) : 0);
        }
        to.bias = bias;
        to.q = (espl__epilogue_u8){.mult = mults, .hi = 255};
        outputs o = take_outputs(random_image(&c, 1, c.p.width, c.rows, &to.step, &to.row));
        espl__kernels_own(ESPL__CPU_REF)->winograd_out_u8(&to, m, o.want, NULL, c.rows);
        for (int i = 0; i < c.rows * c.p.width; i++)
            for (int ch = 0; ch < c.p.channels; ch++) {
                const int y = i / c.p.width, x = i % c.p.width;
                const double sum = to.bias[ch] + sum_at(&from, (const double(*)[3])g, in, y, x, ch);
                const double want = fmin(fmax(sum, 0), 255);
                const int got = ((const uint8_t *)o.want)[y * to.row + x * to.step + ch];
                expect(want == got, "winograd_out_u8", 0, ROW_FORMAT ": %d, not %g", ROW_ARGS(c), got, want);
            }
    }
}

void check_winograd_out_u8(void) {
    check_code_formula();
    for (int i = 0; i < cases(2000); i++) {
        row_case c = random_row(one_in(2) ? 4 : 2, 4, 16);
        const int32_t *m = take(SLOT_IN, planes_bytes(&c, 4, round16(c.p.channels)));
        const uint8_t *res = NULL;
        c.p.bias = random_bias(c.p.channels);
        c.p.q = random_epilogue(c.p.channels, c.hostile);
        if (one_in(2))
            res = take(SLOT_RES, random_image(&c, 1, c.p.width, c.rows, &c.p.res_step, &c.p.res_row));
        outputs o = take_outputs(random_image(&c, 1, c.p.width, c.rows, &c.p.step, &c.p.row));
        espl__kernels_own(ESPL__CPU_REF)->winograd_out_u8(&c.p, m, o.want, res, c.rows);
        FOR_LEVELS(level, winograd_out_u8) {
            uint8_t *got = take_again(&o);
            espl__kernels_own((espl__cpu)level)->winograd_out_u8(&c.p, m, got, res, c.rows);
            expect(same_bytes(&o, got), "winograd_out_u8", level, ROW_FORMAT "%s", ROW_ARGS(c),
                   res ? ", residual" : "");
        }
    }
}
