/* Depthwise convolution in plain C: the definition. */
#include "kernels/conv/epilogue.h"
#include "kernels/families.h"

static void dwconv_u8(const espl__dwconv *p, const uint8_t *in, uint8_t *out, const uint8_t *res, int pixels,
                      int block0, int block1) {
    int stride = (p->channels + ESPL__NR - 1) / ESPL__NR * ESPL__NR;
    int first = block0 * ESPL__NR, last = ESPL_MIN(block1 * ESPL__NR, p->channels);
    for (int i = 0; i < pixels; i++) {
        const uint8_t *x = in + espl__pixel_at(p->width, i, p->in_step, p->in_row);
        const uint8_t *r = res ? res + espl__pixel_at(p->width, i, p->res_step, p->res_row) : NULL;
        uint8_t *o = out + espl__pixel_at(p->width, i, p->out_step, p->out_row);
        for (int c = first; c < last; c++) {
            int32_t acc = ((const int32_t *)p->bias)[c];
            const int32_t *w = (const int32_t *)p->w + c;
            for (int t = 0; t < p->taps; t++)
                acc = multiply_add(acc, x[p->tap_off[t] + c], w[(ptrdiff_t)t * stride]);
            o[c] = epilogue_u8(&p->q, c, acc, r ? r + c : NULL);
        }
    }
}

static void dwconv_f32(const espl__dwconv *p, const float *in, float *out, const float *res, int pixels,
                       int block0, int block1) {
    int stride = (p->channels + ESPL__NR - 1) / ESPL__NR * ESPL__NR;
    int first = block0 * ESPL__NR, last = ESPL_MIN(block1 * ESPL__NR, p->channels);
    for (int i = 0; i < pixels; i++) {
        float *o = (float *)((char *)out + espl__pixel_at(p->width, i, p->out_step, p->out_row));
        const float *r =
            res ? (const float *)((const char *)res + espl__pixel_at(p->width, i, p->res_step, p->res_row))
                : NULL;
        const char *from = (const char *)in + espl__pixel_at(p->width, i, p->in_step, p->in_row);
        for (int c = first; c < last; c++) {
            float acc = ((const float *)p->bias)[c];
            const float *w = (const float *)p->w + c;
            for (int t = 0; t < p->taps; t++) {
                const float *x = (const float *)(from + p->tap_off[t]);
                acc = fmaf(x[c], w[(ptrdiff_t)t * stride], acc);
            }
            o[c] = epilogue_f32(r ? acc + r[c] : acc, p->flo, p->fhi);
        }
    }
}

const espl__kernels espl__dwconv_ref = {.dwconv_u8 = dwconv_u8, .dwconv_f32 = dwconv_f32};
