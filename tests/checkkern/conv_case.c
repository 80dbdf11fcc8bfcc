#include "conv_case.h"

void random_clamp(float *lo, float *hi) {
    *lo = one_in(2) ? -INFINITY : one_in(2) ? 0.0f : -1.0f;
    *hi = one_in(2) ? INFINITY : 6.0f;
}

void place_input(conv_case *c, int unit) {
    espl__conv *p = &c->p;
    int64_t reach = 0, low = 0;
    for (int s = 0; s < p->segments; s++) {
        low = ESPL_MIN(low, c->seg_off[s]);
        reach = ESPL_MAX(reach, c->seg_off[s] + p->seg_k * (int64_t)4);
    }
    p->seg_off = c->seg_off;
    size_t after = 0, before = (size_t)-low;
    for (int i = 0; i < c->pixels; i++)
        after = ESPL_MAX(after, (size_t)(espl__pixel_at(p->width, i, p->in_step, p->in_row) + reach));
    c->in = (uint8_t *)take(SLOT_IN, before + after) + before;
    if (unit == 4)
        fill_f32((float *)((uint8_t *)c->in - before), (int64_t)(before + after) / 4, 1.0f, c->hostile);
}

void random_blocks(conv_case *c) {
    c->p.channels = one_in(2) ? between(1, 40) : one_in(8) ? between(160, 600) : between(1, 160);
    int blocks = round16(c->p.channels) / 16;
    c->block0 = one_in(2) ? 0 : between(0, blocks - 1);
    c->block1 = one_in(2) ? blocks : between(c->block0 + 1, blocks);
}

void random_shape(conv_case *c, int unit, bool large, bool gemv) {
    espl__conv *p = &c->p;
    const bool lines = unit == 1 && one_in(2);
    c->hostile = one_in(4);
    p->segments = gemv || one_in(3) ? 1 : between(1, 5);
    p->seg_k = lines       ? 16 * between(1, large ? 20 : 3)
               : one_in(4) ? between(1, 3)
                           : between(1, large ? 300 : 24);
    random_blocks(c);
    c->pixels = between(1, c->most ? c->most : gemv ? 9 : one_in(4) ? 80 : 37);
    p->in_step = lines ? 64 * between(1, 4) : unit * between(1, 40);
    p->width = gemv || one_in(2) ? 0 : one_in(3) ? 7 : between(1, 40);
    p->in_row = lines ? 64 * between(0, 40) : unit * between(0, 400);
    for (int s = 0; s < p->segments; s++)
        c->seg_off[s] = lines ? 64 * between(-4, 4) : unit * between(-50, 50);
    place_input(c, unit);
    p->cold = c->pixels % 2 == 0; /* hints, which may change nothing: any address will do */
    p->next = c->pixels % 3 == 0 ? c->in : NULL;
}

static float random_mult(bool hostile) {
    if (hostile && one_in(6)) return hostile_float();
    float x = espl__rng_float(&rng) + 0.5f;
    return ldexpf(x, between(hostile ? -30 : -16, hostile ? 4 : -6));
}

/* Half of the time tenths: sums of their multiples lie next to ties, where the order of the roundings shows.
 */
static float random_res_scale(bool hostile) {
    if (hostile && one_in(4)) return hostile_float();
    return one_in(2) ? 0.1f * (float)between(1, 12) : espl__rng_float(&rng) * 2.0f;
}

const float *random_mults(int channels, bool hostile) {
    float *mult = take(SLOT_MULT, (size_t)round16(channels) * sizeof *mult);
    for (int i = 0; i < round16(channels); i++) mult[i] = random_mult(hostile);
    return mult;
}

static void random_bounds(int32_t *zero, int32_t *lo, int32_t *hi) {
    *zero = between(0, 255);
    *lo = one_in(2) ? 0 : between(0, 255);
    *hi = one_in(2) ? 255 : between(*lo, 255);
}

espl__epilogue_u8 random_epilogue(int channels, bool hostile) {
    espl__epilogue_u8 q = {.mult = random_mults(channels, hostile)};
    random_bounds(&q.zero, &q.lo, &q.hi);
    random_bounds(&q.zero2, &q.lo2, &q.hi2);
    q.res_zero = between(0, 255);
    q.res_scale_own = random_res_scale(hostile);
    q.res_scale = random_res_scale(hostile);
    if (q.zero % 3 == 0) q.zero = q.lo = 0, q.hi = 255; /* codes that are only rounded */
    if (q.zero2 % 3 == 0) q.zero2 = q.lo2 = 0, q.hi2 = 255;
    if (q.res_zero % 3 != 0) q.res_zero = 0;
    return q;
}

/* The extreme products: 255 times -128 and 127, or words of -128 among words of 0 and -1, which fill 16 bits
 * to the last. */
static void extreme_inputs(const conv_case *c, int8_t *w, size_t w_bytes) {
    const espl__conv *p = &c->p;
    for (int s = 0; s < p->segments; s++)
        for (int i = 0; i < c->pixels; i++)
            memset((uint8_t *)c->in + espl__pixel_at(p->width, i, p->in_step, p->in_row) + c->seg_off[s], 255,
                   (size_t)p->seg_k * 4);
    const bool words = one_in(2);
    bool full = false;
    for (size_t i = 0; i < w_bytes; i++) {
        if (i % 64 == 0) full = one_in(3);
        w[i] = (int8_t)(!words ? (one_in(3) ? 127 : -128) : full ? -128 : -(int)(i % 2));
    }
}

void random_weights_u8(conv_case *c) {
    espl__conv *p = &c->p;
    int blocks = round16(p->channels) / 16;
    size_t w_bytes = (size_t)blocks * (size_t)p->segments * (size_t)p->seg_k * 64 + ESPL__PACK_SLACK;
    int8_t *w = take(SLOT_W, w_bytes);
    if (one_in(8))
        extreme_inputs(c, w, w_bytes);
    else if (one_in(2)) /* as trained: most are small, or none but a few is there */
        for (size_t i = 0, shift = (size_t)between(1, 8); i < w_bytes; i++)
            if (!one_in(9)) w[i] = (int8_t)(w[i] / (1 << shift));
    int32_t *bias = take(SLOT_BIAS, (size_t)blocks * 16 * sizeof *bias);
    int range = one_in(4) ? 1 << 29 : 1 << 12;
    for (int i = 0; i < blocks * 16; i++) bias[i] = between(-range, range);
    p->w = w;
    p->bias = bias;
}

void random_outputs(conv_case *c, int unit, bool residual) {
    espl__conv *p = &c->p;
    const int width = p->width ? p->width : c->pixels, last = c->pixels - 1;
    p->out_step = unit * (p->channels + (one_in(2) ? 0 : between(0, 20)));
    p->res_step = unit * (p->channels + (one_in(2) ? 0 : between(0, 20)));
    p->out_row = p->out_step * (width + (one_in(2) ? 0 : between(0, 3)));
    p->res_row = p->res_step * (width + (one_in(2) ? 0 : between(0, 3)));
    c->res = NULL;
    if (residual) {
        size_t bytes = (size_t)(espl__pixel_at(p->width, last, p->res_step, p->res_row) + unit * p->channels);
        c->res = take(SLOT_RES, bytes);
        if (unit == 4) fill_f32((float *)c->res, (int64_t)bytes / 4, 1.0f, c->hostile);
    }
    c->out =
        take_outputs((size_t)(espl__pixel_at(p->width, last, p->out_step, p->out_row) + unit * p->channels));
}

int first_channel(const conv_case *c) {
    return c->block0 * 16;
}
int last_channel(const conv_case *c) {
    return ESPL_MIN(c->block1 * 16, c->p.channels);
}

ptrdiff_t at(const conv_case *c, int pixel, ptrdiff_t step, ptrdiff_t row) {
    return espl__pixel_at(c->p.width, pixel, step, row);
}

bool wrote_its_own(const conv_case *c, int unit) {
    const uint8_t *blank = c->out.blank, *want = c->out.want;
    if (memcmp(blank - MARGIN, want - MARGIN, MARGIN) != 0) return false;
    size_t from = 0; /* behind what the pixel before may write */
    for (int i = 0; i < c->pixels; i++) {
        size_t base = (size_t)espl__pixel_at(c->p.width, i, c->p.out_step, c->p.out_row);
        size_t begin = base + (size_t)(first_channel(c) * unit);
        if (memcmp(blank + from, want + from, begin - from) != 0) return false;
        from = base + (size_t)(last_channel(c) * unit);
    }
    return memcmp(blank + from, want + from, c->out.bytes - from) == 0;
}

void random_output(const conv_case *c, int *pixel, int *channel) {
    *pixel = between(0, c->pixels - 1);
    *channel = between(first_channel(c), last_channel(c) - 1);
}

bool is_close(double x, double size, double terms, float lo, float hi, float y) {
    return fabs(fmin(fmax(x, lo), hi) - y) <= terms * size * 0x1p-24 + 1e-37;
}
