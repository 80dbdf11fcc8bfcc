/* The transforms of Winograd's convolution: every set against the reference, and the reference, with products
 * in double between its two halves, against plain convolution. */
#include "checkkern.h"

typedef struct {
    espl__winograd p;
    int rows, height, tiles; /* of outputs; of inputs that may be read; of the row */
    bool hostile;
} row_case;

static row_case random_row(void) {
    row_case c = {.rows = between(1, 2), .hostile = one_in(4)};
    c.p.width = between(1, 19);
    c.p.channels = one_in(2) ? between(1, 40) : between(1, 150);
    c.height = c.rows + 2;
    c.tiles = (c.p.width + 1) / 2;
    c.p.tile = 4 * (c.p.channels + (one_in(2) ? 0 : between(0, 20)));
    c.p.plane = c.tiles * c.p.tile + (one_in(2) ? 0 : 4 * between(0, 20));
    c.p.flo = one_in(2) ? -INFINITY : -1.0f;
    c.p.fhi = one_in(2) ? INFINITY : 0.5f;
    return c;
}

/* Steps of an image of so many pixels a row; bytes up to its last channel. */
static size_t random_image(const row_case *c, int width, int height, ptrdiff_t *step, ptrdiff_t *row) {
    *step = 4 * (c->p.channels + (one_in(2) ? 0 : between(0, 20)));
    *row = *step * (width + (one_in(2) ? 0 : between(0, 3)));
    return (size_t)(*row * (height - 1) + *step * (width - 1) + 4 * c->p.channels);
}

static size_t planes_bytes(const row_case *c) {
    return (size_t)(15 * c->p.plane + (c->tiles - 1) * c->p.tile + 4 * c->p.channels);
}

static float *random_floats(int slot, size_t bytes, bool hostile) {
    float *x = take(slot, bytes);
    fill_f32(x, (int64_t)(bytes / 4), 1.0f, hostile);
    return x;
}

#define ROW_FORMAT "%d rows of %d pixels, %d channels%s"
#define ROW_ARGS(c) (c).rows, (c).p.width, (c).p.channels, (c).hostile ? ", hostile" : ""

void check_winograd_in_f32(void) {
    for (int i = 0; i < cases(2000); i++) {
        row_case c = random_row();
        size_t bytes = random_image(&c, c.p.width + 2, c.height, &c.p.step, &c.p.row);
        const float *in = random_floats(SLOT_IN, bytes, c.hostile);
        outputs o = take_outputs(planes_bytes(&c));
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

/* G g G' as the formula says it. */
static void transform_taps(const double g[3][3], double u[4][4]) {
    static const double G[4][3] = {{1, 0, 0}, {0.5, 0.5, 0.5}, {0.5, -0.5, 0.5}, {0, 0, 1}};
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++) {
            u[i][j] = 0;
            for (int a = 0; a < 3; a++)
                for (int b = 0; b < 3; b++) u[i][j] += G[i][a] * g[a][b] * G[j][b];
        }
}

/* One channel each way: the elements times the transformed taps, transformed back, are the convolution. */
static void check_formula(void) {
    for (int n = 0; n < 200; n++) {
        row_case c = random_row();
        espl__winograd to = c.p;
        size_t bytes = random_image(&c, c.p.width + 2, c.height, &c.p.step, &c.p.row);
        const float *in = random_floats(SLOT_IN, bytes, false);
        float *v = take(SLOT_B, planes_bytes(&c));
        double g[3][3], u[4][4], size = 0;
        for (int a = 0; a < 9; a++) size += fabs(g[a / 3][a % 3] = espl__rng_float(&rng) - 0.5);
        transform_taps((const double(*)[3])g, u);
        espl__kernels_own(ESPL__CPU_REF)->winograd_in_f32(&c.p, in, v, c.rows);
        for (int k = 0; k < 16; k++)
            for (int t = 0; t < c.tiles; t++)
                for (int ch = 0; ch < c.p.channels; ch++) {
                    float *x = (float *)(void *)((char *)v + k * c.p.plane + t * c.p.tile) + ch;
                    *x = (float)(*x * u[k / 4][k % 4]);
                }
        outputs o = take_outputs(random_image(&c, c.p.width, c.rows, &to.step, &to.row));
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
        row_case c = random_row();
        const float *m = random_floats(SLOT_IN, planes_bytes(&c), c.hostile), *res = NULL;
        if (one_in(2))
            res = random_floats(SLOT_RES, random_image(&c, c.p.width, c.rows, &c.p.res_step, &c.p.res_row),
                                c.hostile);
        outputs o = take_outputs(random_image(&c, c.p.width, c.rows, &c.p.step, &c.p.row));
        espl__kernels_own(ESPL__CPU_REF)->winograd_out_f32(&c.p, m, o.want, res, c.rows);
        FOR_LEVELS(level, winograd_out_f32) {
            float *got = take_again(&o);
            espl__kernels_own((espl__cpu)level)->winograd_out_f32(&c.p, m, got, res, c.rows);
            expect(same_floats(&o, got), "winograd_out_f32", level, ROW_FORMAT "%s", ROW_ARGS(c),
                   res ? ", residual" : "");
        }
    }
}
