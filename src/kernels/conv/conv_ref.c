/* Convolution in plain C: the definition. */
#include "kernels/conv/epilogue.h"
#include "kernels/families.h"

/* The accumulators of one pixel and one block of 16 channels. */
static void accumulate_u8(const espl__conv *p, const uint8_t *in, int block, int32_t acc[ESPL__NR]) {
    const int8_t *w = (const int8_t *)p->w + block * espl__conv_w_block(p);
    memcpy(acc, (const int32_t *)p->bias + block * ESPL__NR, ESPL__NR * sizeof *acc);
    for (int s = 0; s < p->segments; s++) {
        const uint8_t *x = in + p->seg_off[s];
        for (int k = 0; k < p->seg_k; k++, x += 4, w += ESPL__NR * 4)
            for (int c = 0; c < ESPL__NR; c++)
                for (int i = 0; i < 4; i++) acc[c] = multiply_add(acc[c], x[i], w[c * 4 + i]);
    }
}

/* The same with bank-balanced weights. */
static void accumulate_bank(const espl__conv *p, const uint8_t *in, int block, int32_t acc[ESPL__NR]) {
    const espl__bank *bank = p->bank;
    const uint8_t *pair = (const uint8_t *)p->w + block * bank->block;
    memcpy(acc, (const int32_t *)p->bias + block * ESPL__NR, ESPL__NR * sizeof *acc);
    for (int v = 0; v < bank->count * bank->slots / 4; v++) {
        const int8_t *w = (const int8_t *)pair + (1 + v % 2) * ESPL__NR * 4;
        for (int i = 0; i < ESPL__NR * 4; i++) {
            const uint8_t *window = in + bank->off[(v * 4 + i % 4) / bank->slots];
            acc[i / 4] = multiply_add(acc[i / 4], window[v % 2 ? pair[i] >> 4 : pair[i] & 15], w[i]);
        }
        pair += v % 2 * 3 * ESPL__NR * 4;
    }
}

/* The same with compressed sparse rows. */
static void accumulate_csr(const espl__conv *p, const uint8_t *in, int block, int32_t acc[ESPL__NR]) {
    const espl__csr *m = p->csr;
    const int32_t *start = m->start + (ptrdiff_t)block * m->pieces * ESPL__NR;
    memcpy(acc, (const int32_t *)p->bias + block * ESPL__NR, ESPL__NR * sizeof *acc);
    for (int32_t row = 0; row < m->pieces * ESPL__NR; row++)
        for (int32_t i = start[row]; i < start[row + 1]; i++) {
            const int32_t e = row / ESPL__NR * m->piece + (int32_t)m->entries[i].element;
            const uint8_t *x = in + p->seg_off[e / p->seg_k] + e % p->seg_k * 4;
            int32_t *sum = &acc[row % ESPL__NR];
            for (int k = 0; k < 4; k++) *sum = multiply_add(*sum, x[k], m->entries[i].codes[k]);
        }
}

static void accumulate_s16(const espl__conv *p, const char *in, int block, int32_t acc[ESPL__NR]) {
    const int16_t *w = (const int16_t *)(const void *)((const char *)p->w + block * espl__conv_w_block(p));
    memcpy(acc, (const int32_t *)p->bias + block * ESPL__NR, ESPL__NR * sizeof *acc);
    for (int s = 0; s < p->segments; s++) {
        const int16_t *x = (const int16_t *)(const void *)(in + p->seg_off[s]);
        for (int k = 0; k < p->seg_k; k++, x += 2, w += ESPL__NR * 2)
            for (int i = 0; i < ESPL__NR * 2; i++)
                acc[i / 2] = multiply_add(acc[i / 2], x[i % 2], w[i]);
    }
}

static void accumulate_f32(const espl__conv *p, const float *in, int block, float acc[ESPL__NR]) {
    const float *w = (const float *)(const void *)((const char *)p->w + block * espl__conv_w_block(p));
    memcpy(acc, (const float *)p->bias + block * ESPL__NR, ESPL__NR * sizeof *acc);
    for (int s = 0; s < p->segments; s++) {
        const float *x = (const float *)((const char *)in + p->seg_off[s]);
        for (int k = 0; k < p->seg_k; k++, w += ESPL__NR)
            for (int c = 0; c < ESPL__NR; c++) acc[c] = fmaf(x[k], w[c], acc[c]);
    }
}

static int valid_channels(int channels, int block) {
    return ESPL_MIN(ESPL__NR, channels - block * ESPL__NR);
}

typedef void accumulate_fn(const espl__conv *p, const uint8_t *in, int block, int32_t acc[ESPL__NR]);

static void rows_u8(accumulate_fn *accumulate, const espl__conv *p, const uint8_t *in, uint8_t *out,
                    const uint8_t *res, int pixels, int block0, int block1) {
    for (int i = 0; i < pixels; i++)
        for (int b = block0; b < block1; b++) {
            int32_t acc[ESPL__NR];
            accumulate(p, in + espl__pixel_at(p->width, i, p->in_step, p->in_row), b, acc);
            uint8_t *o = out + espl__pixel_at(p->width, i, p->out_step, p->out_row);
            const uint8_t *r = res ? res + espl__pixel_at(p->width, i, p->res_step, p->res_row) : NULL;
            for (int c = 0, base = b * ESPL__NR; c < valid_channels(p->channels, b); c++)
                o[base + c] = epilogue_u8(&p->q, base + c, acc[c], r ? r + base + c : NULL);
        }
}

static void rows_u8_f32(accumulate_fn *accumulate, const espl__conv *p, const uint8_t *in, float *out,
                        int pixels, int block0, int block1) {
    for (int i = 0; i < pixels; i++)
        for (int b = block0; b < block1; b++) {
            int32_t acc[ESPL__NR];
            accumulate(p, in + espl__pixel_at(p->width, i, p->in_step, p->in_row), b, acc);
            float *o =
                (float *)((char *)out + espl__pixel_at(p->width, i, p->out_step, p->out_row)) + b * ESPL__NR;
            for (int c = 0, base = b * ESPL__NR; c < valid_channels(p->channels, b); c++) {
                float x = (float)acc[c] * p->q.mult[base + c];
                if (p->fbias) x = x + p->fbias[base + c];
                o[c] = epilogue_f32(x, p->flo, p->fhi);
            }
        }
}

static void conv_u8(const espl__conv *p, const uint8_t *in, uint8_t *out, const uint8_t *res, int pixels,
                    int block0, int block1) {
    rows_u8(accumulate_u8, p, in, out, res, pixels, block0, block1);
}

static void conv_u8_f32(const espl__conv *p, const uint8_t *in, float *out, int pixels, int block0,
                        int block1) {
    rows_u8_f32(accumulate_u8, p, in, out, pixels, block0, block1);
}

static void bank_conv_u8(const espl__conv *p, const uint8_t *in, uint8_t *out, const uint8_t *res, int pixels,
                         int block0, int block1) {
    rows_u8(accumulate_bank, p, in, out, res, pixels, block0, block1);
}

static void bank_conv_u8_f32(const espl__conv *p, const uint8_t *in, float *out, int pixels, int block0,
                             int block1) {
    rows_u8_f32(accumulate_bank, p, in, out, pixels, block0, block1);
}

static void csr_conv_u8(const espl__conv *p, const uint8_t *in, uint8_t *out, const uint8_t *res, int pixels,
                        int block0, int block1) {
    rows_u8(accumulate_csr, p, in, out, res, pixels, block0, block1);
}

static void csr_conv_u8_f32(const espl__conv *p, const uint8_t *in, float *out, int pixels, int block0,
                            int block1) {
    rows_u8_f32(accumulate_csr, p, in, out, pixels, block0, block1);
}

static void conv_f32(const espl__conv *p, const float *in, float *out, const float *res, int pixels,
                     int block0, int block1) {
    for (int i = 0; i < pixels; i++)
        for (int b = block0; b < block1; b++) {
            float acc[ESPL__NR];
            accumulate_f32(
                p, (const float *)((const char *)in + espl__pixel_at(p->width, i, p->in_step, p->in_row)), b,
                acc);
            float *o =
                (float *)((char *)out + espl__pixel_at(p->width, i, p->out_step, p->out_row)) + b * ESPL__NR;
            const float *r = (const float *)(const void *)res;
            if (res)
                r = (const float *)((const char *)res +
                                    espl__pixel_at(p->width, i, p->res_step, p->res_row)) +
                    b * ESPL__NR;
            for (int c = 0; c < valid_channels(p->channels, b); c++)
                o[c] = epilogue_f32(r ? acc[c] + r[c] : acc[c], p->flo, p->fhi);
        }
}

static void conv_s16(const espl__conv *p, const int16_t *in, int32_t *out, int pixels, int block0,
                     int block1) {
    for (int i = 0; i < pixels; i++)
        for (int b = block0; b < block1; b++) {
            const char *x = (const char *)in + espl__pixel_at(p->width, i, p->in_step, p->in_row);
            int32_t *o = (int32_t *)(void *)((char *)out +
                                             espl__pixel_at(p->width, i, p->out_step, p->out_row)) +
                         b * ESPL__NR;
            accumulate_s16(p, x, b, o);
        }
}

const espl__kernels espl__conv_ref = {
    .conv_u8 = conv_u8,
    .conv_u8_f32 = conv_u8_f32,
    .conv_f32 = conv_f32,
    .conv_s16 = conv_s16,
    .csr_conv_u8 = csr_conv_u8,
    .csr_conv_u8_f32 = csr_conv_u8_f32,
    .bank_conv_u8 = bank_conv_u8,
    .bank_conv_u8_f32 = bank_conv_u8_f32,
};
