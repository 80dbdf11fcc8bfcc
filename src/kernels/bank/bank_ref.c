/* A bank-balanced matrix times some rows in plain C: the definition. */
#include "kernels/bank/bank.h"
#include "kernels/conv/epilogue.h"
#include "kernels/families.h"

static const uint8_t *block_of(const espl__conv *p, int c) {
    return (const uint8_t *)p->w + c / ESPL__NR * p->bank->block;
}

/* The sum of channel c for the row at x. */
static int32_t sum_u8(const espl__conv *p, const uint8_t *x, int c) {
    const espl__bank *k = p->bank;
    const uint8_t *block = block_of(p, c);
    int32_t acc = ((const int32_t *)p->bias)[c];
    for (int32_t b = 0; b < k->count; b++)
        for (int32_t s = 0; s < k->slots; s++) {
            const bank_place at = bank_place_s8(k, c % ESPL__NR, b, s);
            acc = multiply_add(acc, x[k->off[b] + (block[at.position] >> at.shift & 15)],
                               (int8_t)block[at.weight]);
        }
    return acc;
}

static float value_at(const espl__bank *k, const uint8_t *from) {
    uint16_t half;
    float value;
    if (k->values == ESPL_F32) {
        memcpy(&value, from, sizeof value);
        return value;
    }
    memcpy(&half, from, sizeof half);
    return k->values == ESPL_F16 ? espl__half_to_float(half) : espl__bfloat_to_float(half);
}

static float sum_f32(const espl__conv *p, const char *x, int c) {
    const espl__bank *k = p->bank;
    const uint8_t *block = block_of(p, c);
    float acc = ((const float *)p->bias)[c];
    uint32_t word;
    for (int32_t b = 0; b < k->count; b++)
        for (int32_t s = 0; s < k->slots; s++) {
            const bank_place at = bank_place_f32(k, c % ESPL__NR, b, s);
            memcpy(&word, block + at.position, sizeof word);
            const float *window = (const float *)(const void *)(x + k->off[b]);
            acc =
                fmaf(window[word >> at.shift & (uint32_t)(k->size - 1)], value_at(k, block + at.weight), acc);
        }
    return acc;
}

static int end_of(const espl__conv *p, int block1) {
    return ESPL_MIN(block1 * ESPL__NR, p->channels);
}

static void bank_gemv_u8(const espl__conv *p, const uint8_t *in, uint8_t *out, const uint8_t *res, int rows,
                         int block0, int block1) {
    for (int r = 0; r < rows; r++, in += p->in_step, out += p->out_step) {
        const uint8_t *add = res ? res + r * p->res_step : NULL;
        for (int c = block0 * ESPL__NR; c < end_of(p, block1); c++)
            out[c] = epilogue_u8(&p->q, c, sum_u8(p, in, c), add ? add + c : NULL);
    }
}

static void bank_gemv_u8_f32(const espl__conv *p, const uint8_t *in, float *out, const float *res, int rows,
                             int block0, int block1) {
    for (int r = 0; r < rows; r++) {
        float *o = (float *)((char *)out + r * p->out_step);
        const float *add = res ? (const float *)((const char *)res + r * p->res_step) : NULL;
        for (int c = block0 * ESPL__NR; c < end_of(p, block1); c++) {
            float y = (float)sum_u8(p, in + r * p->in_step, c) * p->q.mult[c];
            if (p->fbias) y = y + p->fbias[c];
            if (add) y = y + add[c];
            o[c] = epilogue_f32(y, p->flo, p->fhi);
        }
    }
}

static void bank_gemv_f32(const espl__conv *p, const float *in, float *out, const float *res, int rows,
                          int block0, int block1) {
    for (int r = 0; r < rows; r++) {
        float *o = (float *)((char *)out + r * p->out_step);
        const float *add = res ? (const float *)((const char *)res + r * p->res_step) : NULL;
        for (int c = block0 * ESPL__NR; c < end_of(p, block1); c++) {
            float y = sum_f32(p, (const char *)in + r * p->in_step, c);
            o[c] = epilogue_f32(add ? y + add[c] : y, p->flo, p->fhi);
        }
    }
}

const espl__kernels espl__bank_ref = {
    .bank_gemv_u8 = bank_gemv_u8, .bank_gemv_u8_f32 = bank_gemv_u8_f32, .bank_gemv_f32 = bank_gemv_f32};
