/* Convolution with compressed sparse rows in plain C: the definition. */
#include "kernels/conv/epilogue.h"
#include "kernels/families.h"

static float row_sum(const espl__conv *p, const char *pixel, int channel) {
    const espl__csr *m = p->csr;
    const int32_t *start = m->start + channel / ESPL__NR * m->pieces * ESPL__NR + channel % ESPL__NR;
    float acc = ((const float *)p->bias)[channel];
    for (int32_t q = 0; q < m->pieces; q++, start += ESPL__NR)
        for (int32_t i = start[0]; i < start[1]; i++) {
            const int32_t element = q * m->piece + (int32_t)m->entries[i].element;
            const char *segment = pixel + p->seg_off[element / p->seg_k];
            acc = fmaf(((const float *)(const void *)segment)[element % p->seg_k], m->entries[i].weight, acc);
        }
    return acc;
}

static void csr_conv_f32(const espl__conv *p, const float *in, float *out, const float *res, int pixels,
                         int block0, int block1) {
    const int c1 = ESPL_MIN(block1 * ESPL__NR, p->channels);
    for (int i = 0; i < pixels; i++) {
        const char *x = (const char *)in + espl__pixel_at(p->width, i, p->in_step, p->in_row);
        char *o = (char *)out + espl__pixel_at(p->width, i, p->out_step, p->out_row);
        const char *r = res ? (const char *)res + espl__pixel_at(p->width, i, p->res_step, p->res_row) : NULL;
        for (int c = block0 * ESPL__NR; c < c1; c++) {
            const float sum = row_sum(p, x, c);
            ((float *)(void *)o)[c] =
                epilogue_f32(r ? sum + ((const float *)(const void *)r)[c] : sum, p->flo, p->fhi);
        }
    }
}

const espl__kernels espl__csr_ref = {.csr_conv_f32 = csr_conv_f32};
