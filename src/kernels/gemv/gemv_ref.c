/* A packed matrix times a few rows in plain C: the definition. */
#include "kernels/conv/epilogue.h"
#include "kernels/families.h"

/* The sum of channel c for the row at x. */
static int32_t sum_u8(const espl__conv *p, const uint8_t *x, int c) {
    const int8_t *w =
        (const int8_t *)p->w + ((size_t)(c / ESPL__NR) * (size_t)p->seg_k * ESPL__NR + c % ESPL__NR) * 4;
    int32_t acc = ((const int32_t *)p->bias)[c];
    for (int k = 0; k < p->seg_k; k++, x += 4, w += ESPL__NR * 4)
        for (int i = 0; i < 4; i++) acc = multiply_add(acc, x[i], w[i]);
    return acc;
}

static float weight_at(const espl__conv *p, size_t i) {
    if (p->values == ESPL_F16) return espl__half_to_float(((const uint16_t *)p->w)[i]);
    return p->values == ESPL_BF16 ? espl__bfloat_to_float(((const uint16_t *)p->w)[i])
                                  : ((const float *)p->w)[i];
}

static float sum_f32(const espl__conv *p, const float *x, int c) {
    size_t at = (size_t)(c / ESPL__NR) * (size_t)p->seg_k * ESPL__NR + (size_t)(c % ESPL__NR);
    float acc = ((const float *)p->bias)[c];
    for (int k = 0; k < p->seg_k; k++, at += ESPL__NR) acc = fmaf(x[k], weight_at(p, at), acc);
    return acc;
}

static int end_of(const espl__conv *p, int block1) {
    return ESPL_MIN(block1 * ESPL__NR, p->channels);
}

static void gemv_u8(const espl__conv *p, const uint8_t *in, uint8_t *out, const uint8_t *res, int rows,
                    int block0, int block1) {
    in += p->seg_off[0];
    for (int r = 0; r < rows; r++, in += p->in_step, out += p->out_step) {
        const uint8_t *add = res ? res + r * p->res_step : NULL;
        for (int c = block0 * ESPL__NR; c < end_of(p, block1); c++)
            out[c] = epilogue_u8(&p->q, c, sum_u8(p, in, c), add ? add + c : NULL);
    }
}

static void gemv_u8_f32(const espl__conv *p, const uint8_t *in, float *out, const float *res, int rows,
                        int block0, int block1) {
    for (int r = 0; r < rows; r++) {
        const uint8_t *x = in + p->seg_off[0] + r * p->in_step;
        float *o = (float *)((char *)out + r * p->out_step);
        const float *add = res ? (const float *)((const char *)res + r * p->res_step) : NULL;
        for (int c = block0 * ESPL__NR; c < end_of(p, block1); c++) {
            float y = (float)sum_u8(p, x, c) * p->q.mult[c];
            if (p->fbias) y = y + p->fbias[c];
            if (add) y = y + add[c];
            o[c] = epilogue_f32(y, p->flo, p->fhi);
        }
    }
}

static void gemv_f32(const espl__conv *p, const float *in, float *out, const float *res, int rows, int block0,
                     int block1) {
    for (int r = 0; r < rows; r++) {
        const float *x = (const float *)((const char *)in + p->seg_off[0] + r * p->in_step);
        float *o = (float *)((char *)out + r * p->out_step);
        const float *add = res ? (const float *)((const char *)res + r * p->res_step) : NULL;
        for (int c = block0 * ESPL__NR; c < end_of(p, block1); c++) {
            float y = sum_f32(p, x, c);
            o[c] = epilogue_f32(add ? y + add[c] : y, p->flo, p->fhi);
        }
    }
}

const espl__kernels espl__gemv_ref = {.gemv_u8 = gemv_u8, .gemv_u8_f32 = gemv_u8_f32, .gemv_f32 = gemv_f32};
