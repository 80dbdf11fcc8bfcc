/* Integer layers as a chip with narrow accumulators or without floating point computes them: plain C, to be
 * looked at and not to be fast. */
#include "kernels/conv/epilogue.h"
#include "kernels/kernels.h"
#include "tensor/fixed.h"

/* The lower bits of x as a two's complement number of so many bits. */
static int32_t wrapped(int64_t x, int bits) {
    uint32_t sign = UINT32_C(1) << (bits - 1), low = (uint32_t)x & (sign - 1 + sign);
    return (int32_t)((low ^ sign) - sign);
}

static int32_t clamped(int64_t x, int bits) {
    int64_t most = (INT64_C(1) << (bits - 1)) - 1;
    return (int32_t)(x > most ? most : x < -most - 1 ? -most - 1 : x);
}

/* x as an accumulator holds it. */
static int32_t held(const espl__narrow *n, int64_t x) {
    return n->saturate ? clamped(x, n->bits) : wrapped(x, n->bits);
}

static uint8_t store(const espl__narrow *n, const espl__epilogue_u8 *q, int c, int32_t acc,
                     const uint8_t *res) {
    if (!n->fixed) return epilogue_u8(q, c, acc, res);
    int32_t q1 = espl__fixed_requantize(acc, espl__fixed_from(q->mult[c]), q->zero, q->lo, q->hi);
    if (!res) return (uint8_t)q1;
    float other = (float)(*res - q->res_zero) * q->res_scale;
    return (uint8_t)espl__requantize(fmaf((float)(q1 - q->zero), q->res_scale_own, other), q->zero2, q->lo2,
                                     q->hi2);
}

/* --- a block of 16 channels --------------------------------------------------------------------------- */

static const int8_t *weights_of(const espl__conv *p, int block) {
    return (const int8_t *)p->w + (size_t)block * (size_t)p->segments * (size_t)p->seg_k * ESPL__NR * 4;
}

/* The biases for x - shift instead of x. */
static void begin_block(const espl__conv *p, int block, int64_t start[ESPL__NR]) {
    const int8_t *w = weights_of(p, block);
    for (int c = 0; c < ESPL__NR; c++) start[c] = ((const int32_t *)p->bias)[block * ESPL__NR + c];
    for (int64_t k = 0; k < (int64_t)p->segments * p->seg_k; k++, w += ESPL__NR * 4)
        for (int i = 0; i < ESPL__NR * 4; i++) start[i / 4] += (int64_t)p->narrow->shift * w[i];
}

static void accumulate(const espl__conv *p, const uint8_t *in, int block, const int64_t start[ESPL__NR],
                       int32_t acc[ESPL__NR]) {
    const espl__narrow n = *p->narrow;
    const int8_t *w = weights_of(p, block);
    for (int c = 0; c < ESPL__NR; c++) acc[c] = held(&n, start[c]);
    for (int s = 0; s < p->segments; s++) {
        const uint8_t *x = in + p->seg_off[s];
        for (int64_t k = 0; k < 4 * (int64_t)p->seg_k; k++) {
            const int32_t value = x[k] - n.shift;
            const int8_t *column = w + k / 4 * ESPL__NR * 4 + k % 4;
            if (n.saturate)
                for (int c = 0; c < ESPL__NR; c++)
                    acc[c] = clamped((int64_t)acc[c] + value * column[4 * c], n.bits);
            else
                for (int c = 0; c < ESPL__NR; c++) acc[c] = multiply_add(acc[c], value, column[4 * c]);
        }
        w += (ptrdiff_t)p->seg_k * ESPL__NR * 4;
    }
    /* Wrapping sums may be cut to their bits at the end as well. */
    for (int c = 0; c < ESPL__NR; c++) acc[c] = held(&n, acc[c]);
}

static int end_of(const espl__conv *p, int block) {
    return ESPL_MIN(ESPL__NR, p->channels - block * ESPL__NR);
}

/* --- kernels ------------------------------------------------------------------------------------------- */

static void conv_u8(const espl__conv *p, const uint8_t *in, uint8_t *out, const uint8_t *res, int pixels,
                    int block0, int block1) {
    if (!p->narrow) {
        espl__kernels_get()->conv_u8(p, in, out, res, pixels, block0, block1);
        return;
    }
    for (int b = block0; b < block1; b++) {
        int64_t start[ESPL__NR];
        begin_block(p, b, start);
        for (int i = 0; i < pixels; i++) {
            int32_t acc[ESPL__NR];
            accumulate(p, in + espl__pixel_at(p->width, i, p->in_step, p->in_row), b, start, acc);
            uint8_t *o = out + espl__pixel_at(p->width, i, p->out_step, p->out_row) + b * ESPL__NR;
            const uint8_t *r =
                res ? res + espl__pixel_at(p->width, i, p->res_step, p->res_row) + b * ESPL__NR : NULL;
            for (int c = 0; c < end_of(p, b); c++)
                o[c] = store(p->narrow, &p->q, b * ESPL__NR + c, acc[c], r ? r + c : NULL);
        }
    }
}

static void conv_u8_f32(const espl__conv *p, const uint8_t *in, float *out, int pixels, int block0,
                        int block1) {
    if (!p->narrow) {
        espl__kernels_get()->conv_u8_f32(p, in, out, pixels, block0, block1);
        return;
    }
    for (int b = block0; b < block1; b++) {
        int64_t start[ESPL__NR];
        begin_block(p, b, start);
        for (int i = 0; i < pixels; i++) {
            int32_t acc[ESPL__NR];
            accumulate(p, in + espl__pixel_at(p->width, i, p->in_step, p->in_row), b, start, acc);
            float *o =
                (float *)((char *)out + espl__pixel_at(p->width, i, p->out_step, p->out_row)) + b * ESPL__NR;
            for (int c = 0; c < end_of(p, b); c++) {
                float x = (float)acc[c] * p->q.mult[b * ESPL__NR + c];
                if (p->fbias) x = x + p->fbias[b * ESPL__NR + c];
                o[c] = epilogue_f32(x, p->flo, p->fhi);
            }
        }
    }
}

static void gemv_u8(const espl__conv *p, const uint8_t *in, uint8_t *out, const uint8_t *res, int rows,
                    int block0, int block1) {
    (p->narrow ? conv_u8 : espl__kernels_get()->gemv_u8)(p, in, out, res, rows, block0, block1);
}

static void gemv_u8_f32(const espl__conv *p, const uint8_t *in, float *out, const float *res, int rows,
                        int block0, int block1) {
    if (p->narrow && !res)
        conv_u8_f32(p, in, out, rows, block0, block1);
    else
        espl__kernels_get()->gemv_u8_f32(p, in, out, res, rows, block0, block1);
}

static void dwconv_u8(const espl__dwconv *p, const uint8_t *in, uint8_t *out, const uint8_t *res, int pixels,
                      int block0, int block1) {
    if (!p->narrow) {
        espl__kernels_get()->dwconv_u8(p, in, out, res, pixels, block0, block1);
        return;
    }
    const espl__narrow *n = p->narrow;
    const ptrdiff_t stride = (p->channels + ESPL__NR - 1) / ESPL__NR * ESPL__NR;
    for (int c = block0 * ESPL__NR; c < ESPL_MIN(block1 * ESPL__NR, p->channels); c++) {
        const int32_t *w = (const int32_t *)p->w + c;
        int64_t start = ((const int32_t *)p->bias)[c];
        for (int t = 0; t < p->taps; t++) start += (int64_t)n->shift * w[t * stride];
        for (int i = 0; i < pixels; i++) {
            const uint8_t *x = in + espl__pixel_at(p->width, i, p->in_step, p->in_row) + c;
            const uint8_t *r = res ? res + espl__pixel_at(p->width, i, p->res_step, p->res_row) + c : NULL;
            int32_t acc = held(n, start);
            for (int t = 0; t < p->taps; t++)
                acc = held(n, acc + (int64_t)(x[p->tap_off[t]] - n->shift) * w[t * stride]);
            out[espl__pixel_at(p->width, i, p->out_step, p->out_row) + c] = store(n, &p->q, c, acc, r);
        }
    }
}

espl__kernels espl__kernels_narrow(void) {
    espl__kernels k = *espl__kernels_get();
    k.conv_u8 = conv_u8;
    k.conv_u8_f32 = conv_u8_f32;
    k.gemv_u8 = gemv_u8;
    k.gemv_u8_f32 = gemv_u8_f32;
    k.dwconv_u8 = dwconv_u8;
    k.prepare_room = NULL;
    k.prepare = NULL;
    return k;
}
