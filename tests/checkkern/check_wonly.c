/* Weights of few bits: their packing, the rounding of rows and the products against double precision, and
 * every set against the reference. */
#include "conv_case.h"

/* A matrix with scales, as it is packed. */
typedef struct wonly_case {
    conv_case c;
    espl__wonly k;
    espl__weight_order order;
    espl__scales scales;
    int64_t group;
    const int8_t *codes;
    uint8_t *rounded;
    ptrdiff_t row; /* bytes of a rounded one */
} wonly_case;

#define WONLY_FORMAT \
    "%d bits, %d planes, groups of %d of %d units, k %d, %d channels, %d rows, blocks %d to %d%s"
#define WONLY_ARGS(t)                                                                            \
    (t).k.bits, (t).k.planes, (t).k.group, (t).k.units, (t).k.k, (t).c.p.channels, (t).c.pixels, \
        (t).c.block0, (t).c.block1, (t).c.res ? ", residual" : ""

static const float *random_scales(int64_t count, bool halves, bool hostile) {
    float *scale = take(SLOT_MULT, (size_t)count * sizeof *scale);
    for (int64_t i = 0; i < count; i++) {
        scale[i] = hostile && one_in(9) ? hostile_float() : espl__rng_float(&rng) * 0.1f;
        if (halves) scale[i] = espl__half_to_float(espl__half_from_float(scale[i]));
    }
    return scale;
}

/* Rows an output or a column an output, one scale, one a channel or several; packed in two parts. */
static void random_matrix(wonly_case *t) {
    espl__conv *p = &t->c.p;
    const int bits = one_in(2) ? 4 : one_in(2) ? 8 : 2, k = one_in(4) ? between(1, 40) : between(1, 400);
    const bool columns = one_in(2), halves = one_in(2);
    const uint8_t flip = one_in(2) ? 0x80 : 0;
    const int64_t channels = p->channels;
    t->group = one_in(3) ? k : 32 * between(1, 4);
    const int64_t groups = t->group >= k ? 1 : (k + t->group - 1) / t->group;
    t->order = espl__weight_rows(channels, 1, k);
    if (columns) t->order.by_channel = 1, t->order.by_input = channels;
    t->scales = (espl__scales){random_scales(channels * groups, halves, t->c.hostile), one_in(9) ? 0 : groups,
                               one_in(9) ? 0 : 1};
    int8_t *codes = take(SLOT_B, (size_t)(channels * k));
    for (int64_t i = 0; i < channels * k; i++) {
        const int code = one_in(9) ? -(1 << (bits - 1)) : between(-(1 << (bits - 1)), (1 << (bits - 1)) - 1);
        codes[i] = (int8_t)(code ^ flip);
    }
    t->k = espl__wonly_of(channels, k, t->group, bits, one_in(2) ? 1 : 3, &t->scales);
    const int64_t blocks = round16((int)channels) / 16, cut = between(0, (int)blocks);
    uint8_t *packed = take(SLOT_W, (size_t)(blocks * t->k.block));
    espl__wonly_pack(&t->order, codes, flip, &t->scales, &t->k, 0, cut, packed);
    espl__wonly_pack(&t->order, codes, flip, &t->scales, &t->k, cut, blocks, packed);
    for (int64_t i = 0; i < channels * k; i++) codes[i] = (int8_t)(codes[i] ^ flip);
    t->codes = codes;
    p->wonly = &t->k;
    p->w = packed;
}

/* Rows of f32; some units are all zero, tiny, or of one large element among small ones. */
static float *random_rows(wonly_case *t, ptrdiff_t step) {
    const int rows = t->c.pixels, k = t->k.k;
    float *x = take(SLOT_IN, (size_t)(step * (rows - 1)) + (size_t)k * sizeof *x);
    fill_f32(x, (step / 4) * (rows - 1) + k, 1.0f, t->c.hostile && one_in(2));
    for (int r = 0; r < rows; r++)
        for (int i = 0; i < k; i += 32) {
            float *unit = (float *)((char *)x + r * step) + i;
            const float by = one_in(8) ? 0.0f : one_in(8) ? 1e-35f : one_in(8) ? 1e30f : 1.0f;
            for (int j = 0; j < ESPL_MIN(32, k - i); j++) unit[j] *= by;
            if (one_in(8)) unit[0] = one_in(2) ? 1e30f : -3e38f;
        }
    return x;
}

static void random_case(wonly_case *t) {
    espl__conv *p = &t->c.p;
    t->c.hostile = one_in(4);
    random_blocks(&t->c);
    if (p->channels > 200) p->channels = 200, t->c.block0 = 0, t->c.block1 = 13;
    t->c.pixels = one_in(4) ? between(1, 40) : between(1, 9);
    random_matrix(t);
    float *bias = take(SLOT_BIAS, (size_t)round16(p->channels) * sizeof *bias);
    fill_f32(bias, round16(p->channels), 1.0f, t->c.hostile);
    p->bias = bias;
    random_clamp(&p->flo, &p->fhi);
    t->row = t->k.units * espl__wonly_record(&t->k);
}

static double q_of(const wonly_case *t, const uint8_t *row, int i) {
    const uint8_t *record = row + i / 32 * espl__wonly_record(&t->k);
    double q = 0;
    float step;
    for (int plane = 0; plane < t->k.planes; plane++) q = q * 256 + (int8_t)record[plane * 32 + i % 32];
    memcpy(&step, record + espl__wonly_record(&t->k) - 4, 4);
    return q * (double)step;
}

/* Every input is within half a step of what stands for it, and the step is what it should be. */
static bool is_rounded(const wonly_case *t, const float *x, const uint8_t *row) {
    const double most_q = t->k.planes == 3 ? 127 * 65536 : 127;
    for (int first = 0; first < t->k.k; first += 32) {
        const int end = ESPL_MIN(first + 32, t->k.k);
        double most = 0;
        for (int i = first; i < end; i++) most = isfinite(x[i]) ? fmax(most, fabs((double)x[i])) : INFINITY;
        for (int i = first; i < end; i++) {
            const double apart = fabs(q_of(t, row, i) - x[i]);
            if (most == INFINITY ? !isnan(apart)
                                 : !(apart <= most / most_q * (t->k.planes == 3 ? 2 : 0.51) + 0x1p-100))
                return false;
        }
    }
    return true;
}

void check_wonly_round(void) {
    for (int i = 0; i < cases(1000); i++) {
        wonly_case t = {0};
        random_case(&t);
        const ptrdiff_t step = 4 * (t.k.k + between(0, 9));
        const float *x = random_rows(&t, step);
        outputs out = take_outputs((size_t)(t.row * t.c.pixels));
        espl__kernels_own((espl__cpu)0)->wonly_round(&t.k, x, step, out.want, t.c.pixels);
        for (int r = 0; r < t.c.pixels; r++)
            expect(
                is_rounded(&t, (const float *)((const char *)x + r * step), (uint8_t *)out.want + r * t.row),
                "wonly_round", 0, WONLY_FORMAT ": not the nearest", WONLY_ARGS(t));
        FOR_LEVELS(level, wonly_round) {
            void *got = take_again(&out);
            espl__kernels_own((espl__cpu)level)->wonly_round(&t.k, x, step, got, t.c.pixels);
            expect(same_bytes(&out, got), "wonly_round", level, WONLY_FORMAT, WONLY_ARGS(t));
        }
    }
}

/* One output in double from the codes that were packed. */
static void check_sum(const wonly_case *t, int r, int c) {
    const conv_case *s = &t->c;
    const uint8_t *row = (const uint8_t *)s->in + r * s->p.in_step;
    double sum = ((const float *)s->p.bias)[c], size = fabs(sum);
    for (int i = 0; i < t->k.k; i++) {
        const double scale = t->scales.scale[c * t->scales.by_channel + i / t->group * t->scales.by_group];
        const double term =
            scale * t->codes[c * t->order.by_channel + i * t->order.by_input] * q_of(t, row, i);
        sum += term;
        size += fabs(term);
    }
    const float y = *(const float *)((const char *)s->out.want + r * s->p.out_step + c * 4);
    if (s->res) {
        const float add = *(const float *)((const char *)s->res + r * s->p.res_step + c * 4);
        sum += add, size += fabsf(add);
    }
    if (size < 1e37 && !s->hostile)
        expect(is_close(sum, size, 4.0 + t->k.units * 4, s->p.flo, s->p.fhi, y), "wonly_f32", 0,
               WONLY_FORMAT ": %g, not %g", WONLY_ARGS(*t), (double)y, sum);
}

void check_wonly_f32(void) {
    for (int i = 0; i < cases(1000); i++) {
        wonly_case t = {0};
        random_case(&t);
        conv_case *c = &t.c;
        const float *x = random_rows(&t, 4 * t.k.k);
        c->p.in_step = t.row;
        t.rounded = take(SLOT_PREPARED, (size_t)(t.row * c->pixels));
        espl__kernels_own((espl__cpu)0)->wonly_round(&t.k, x, 4 * t.k.k, t.rounded, c->pixels);
        c->in = t.rounded;
        random_outputs(c, 4, one_in(2));
        espl__kernels_own((espl__cpu)0)
            ->wonly_f32(&c->p, c->in, c->out.want, c->res, c->pixels, c->block0, c->block1);
        expect(wrote_its_own(c, 4), "wonly_f32", 0, WONLY_FORMAT ": wrote elsewhere", WONLY_ARGS(t));
        for (int j = 0; j < 8; j++) {
            int r, ch;
            random_output(c, &r, &ch);
            check_sum(&t, r, ch);
        }
        FOR_LEVELS(level, wonly_f32) {
            float *got = take_again(&c->out);
            espl__kernels_own((espl__cpu)level)
                ->wonly_f32(&c->p, c->in, got, c->res, c->pixels, c->block0, c->block1);
            expect(same_floats(&c->out, got), "wonly_f32", level, WONLY_FORMAT, WONLY_ARGS(t));
        }
    }
}

/* Scales that halves hold are kept in 16 bits, others whole; a group behind the end of k is one for all. */
void check_wonly_packing(void) {
    const float scale[] = {0.5f, 0.25f, 0.1f, 3.0f};
    const espl__scales halves = {scale, 1, 0}, whole = {scale + 2, 1, 1};
    espl__wonly k = espl__wonly_of(2, 100, 100, 4, 3, &halves);
    expect(k.scales == ESPL_F16 && k.units == 4 && k.group == 4 && k.block == 4 * 256 + 32, "wonly_of", 0,
           "100 inputs of 4 bits in one group: %d bytes", (int)k.block);
    k = espl__wonly_of(1, 64, 32, 8, 1, &whole);
    expect(k.scales == ESPL_F32 && k.units == 2 && k.group == 1 && k.block == 2 * (512 + 64), "wonly_of", 0,
           "64 inputs of 8 bits in two groups: %d bytes", (int)k.block);
}
