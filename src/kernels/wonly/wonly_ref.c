/* Weights of few bits times rows that are rounded unit by unit, in plain C: the definition. */
#include "kernels/conv/epilogue.h"
#include "kernels/families.h"
#include "kernels/wonly/wonly.h"

/* The bits of the largest |x|; above those of infinity if a NaN is among them. */
static int32_t largest_bits(const float *x, int n) {
    int32_t most = 0;
    for (int i = 0; i < n; i++) {
        int32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        most = ESPL_MAX(most, bits & INT32_MAX);
    }
    return most;
}

/* Steps of 2^-100 and more; 0 and NaN for what has no step. */
static float step_of(const espl__wonly *k, int32_t bits, float *inverse) {
    float m;
    memcpy(&m, &bits, sizeof m);
    *inverse = 0.0f;
    if (!isfinite(m)) return NAN;
    if (bits < WONLY_TINY) return 0.0f;
    *inverse = wonly_most(k) / m;
    return m / wonly_most(k);
}

static void round_unit(const espl__wonly *k, const float *x, int n, uint8_t *to) {
    float inverse;
    const float step = step_of(k, largest_bits(x, n), &inverse);
    uint8_t *low = to + (k->planes - 1) * ESPL__UNIT;
    int32_t start[2] = {0, 0};
    memset(to, 0, (size_t)espl__wonly_record(k));
    if (inverse == 0.0f) n = 0;
    for (int i = 0; i < n; i++) {
        const int32_t q = (int32_t)rintf(x[i] * inverse), upper = (q + 128) >> 8;
        low[i] = (uint8_t)q;
        start[1] -= wonly_offset(k) * (k->planes == 3 ? (int8_t)low[i] : q);
        if (k->planes != 3) continue;
        start[0] -= wonly_offset(k) * upper;
        to[ESPL__UNIT + i] = (uint8_t)upper;
        to[i] = (uint8_t)((upper + 128) >> 8);
    }
    to += espl__wonly_record(k);
    memcpy(to - 4, &step, sizeof step);
    memcpy(to - (k->planes == 3 ? 12 : 8), k->planes == 3 ? start : start + 1, k->planes == 3 ? 8 : 4);
}

static void wonly_round(const espl__wonly *k, const float *in, ptrdiff_t in_step, void *out, int rows) {
    uint8_t *to = out;
    for (int r = 0; r < rows; r++) {
        const float *x = (const float *)((const char *)in + r * in_step);
        for (int32_t u = 0; u < k->units; u++, to += espl__wonly_record(k))
            round_unit(k, x + (int64_t)u * ESPL__UNIT, ESPL_MIN(ESPL__UNIT, k->k - u * ESPL__UNIT), to);
    }
}

static int32_t code_of(const espl__wonly *k, const uint8_t *unit, int lane, int i) {
    const int per = 8 / k->bits, quad = i / 4;
    const int byte = unit[quad / per * ESPL__NR * 4 + lane * 4 + i % 4];
    return byte >> quad % per * k->bits & ((1 << k->bits) - 1);
}

/* Sum of the codes of a unit times one plane, from `start` on. */
static int32_t plane_sum(const espl__wonly *k, const uint8_t *unit, int lane, const uint8_t *plane,
                         int32_t start) {
    for (int i = 0; i < ESPL__UNIT; i++)
        start = multiply_add(start, (int8_t)plane[i], code_of(k, unit, lane, i));
    return start;
}

static float unit_sum(const espl__wonly *k, const uint8_t *unit, int lane, const uint8_t *record) {
    int32_t start[2];
    if (k->planes == 1) {
        memcpy(start, record + ESPL__UNIT, 4);
        return (float)plane_sum(k, unit, lane, record, start[0]);
    }
    memcpy(start, record + 3 * ESPL__UNIT, 8);
    const int32_t high = plane_sum(k, unit, lane, record, 0);
    const int32_t upper = plane_sum(k, unit, lane, record + ESPL__UNIT, start[0]) + high * 256;
    const int32_t lower = plane_sum(k, unit, lane, record + 2 * ESPL__UNIT, start[1]);
    return fmaf((float)upper, 256.0f, (float)lower);
}

static float sum_of(const espl__conv *p, const uint8_t *row, int c) {
    const espl__wonly *k = p->wonly;
    const uint8_t *block = (const uint8_t *)p->w + c / ESPL__NR * k->block;
    const int lane = c % ESPL__NR;
    float acc = ((const float *)p->bias)[c];
    for (int32_t u = 0; u < k->units; u++, row += espl__wonly_record(k)) {
        const uint8_t *at = block + wonly_scale_at(k, u) + lane * (k->scales == ESPL_F16 ? 2 : 4);
        uint16_t half;
        float scale, step;
        memcpy(&half, at, 2);
        memcpy(&step, row + espl__wonly_record(k) - 4, 4);
        if (k->scales == ESPL_F16)
            scale = espl__half_to_float(half);
        else
            memcpy(&scale, at, 4);
        acc = fmaf(unit_sum(k, block + wonly_unit_at(k, u), lane, row), scale * step, acc);
    }
    return acc;
}

static void wonly_f32(const espl__conv *p, const void *in, float *out, const float *res, int rows, int block0,
                      int block1) {
    for (int r = 0; r < rows; r++) {
        float *o = (float *)((char *)out + r * p->out_step);
        const float *add = res ? (const float *)((const char *)res + r * p->res_step) : NULL;
        for (int c = block0 * ESPL__NR; c < ESPL_MIN(block1 * ESPL__NR, p->channels); c++) {
            const float y = sum_of(p, (const uint8_t *)in + r * p->in_step, c);
            o[c] = epilogue_f32(add ? y + add[c] : y, p->flo, p->fhi);
        }
    }
}

const espl__kernels espl__wonly_ref = {.wonly_round = wonly_round, .wonly_f32 = wonly_f32};
