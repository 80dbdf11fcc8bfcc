/* Constant weights of linear layers: read as s8 codes, brought into the kernels' order and packed, with the
 * biases and multipliers that belong to them. */
#include "runtime/weights.h"
#include "passes/passes.h"

#include <math.h>

static bool zero_points_are(const espl__quant *q, int32_t zero) {
    for (int64_t i = 0; i < q->count; i++)
        if ((q->zero ? q->zero[i] : 0) != zero) return false;
    return true;
}

bool espl__weights_integer(espl_session *s, const espl__value *w, int axis, weights *out) {
    const espl__quant *q = &w->quant;
    if (!w->constant || !espl__is_quantized(w) || (q->count > 1 && q->axis != axis)) return false;
    *out = (weights){w->constant->data, q->scale, q->count, q->count > 1 ? q->axis : -1};
    if (w->constant->dtype == ESPL_S8) return zero_points_are(q, 0);
    if (w->constant->dtype != ESPL_U8 || !zero_points_are(q, 128)) return false;
    int64_t count = espl_shape_count(&w->constant->shape);
    int8_t *flipped = espl__arena_alloc(&s->arena, (uint64_t)count + 1);
    if (!flipped) return false;
    for (int64_t i = 0; i < count; i++) flipped[i] = (int8_t)(((const uint8_t *)w->constant->data)[i] ^ 0x80);
    out->codes = flipped;
    return true;
}

/* One channel's weights in the kernels' order [segment][tap][input]; `out` is zeroed. */
static void order_channel(const weight_order *w, const void *data, int64_t channel, bool integer, void *out) {
    int64_t o = 0;
    for (int64_t seg = 0; seg < w->segments; seg++)
        for (int64_t tap = 0; tap < w->taps; tap++, o += w->stored) {
            int64_t from = channel * w->by_channel + seg * w->by_segment + tap * w->by_tap;
            for (int64_t i = 0; i < w->real; i++, from += w->by_input) {
                if (integer)
                    ((int8_t *)out)[o + i] = ((const int8_t *)data)[from];
                else
                    ((float *)out)[o + i] = ((const float *)data)[from];
            }
        }
}

espl_status espl__weights_pack(espl_session *s, const weight_order *w, const void *data, bool integer,
                               espl__conv *p, int64_t *group_bytes, espl_diag *diag) {
    int64_t k = w->taps * w->stored, each = w->segments * k;
    size_t element = integer ? 1 : 4;
    size_t packed = integer ? espl__pack_s8_bytes(w->channels, w->segments, k)
                            : espl__pack_f32_bytes(w->channels, w->segments, k);
    char *ordered = espl__calloc(s->ctx, (uint64_t)(w->channels * each) + 1, element);
    char *to = espl__plan_weights(s, (uint64_t)w->groups * packed);
    if (!ordered || !to) {
        espl__free(s->ctx, ordered);
        return espl__nomem(diag, (uint64_t)w->groups * packed);
    }
    p->w = to;
    *group_bytes = (int64_t)packed;
    for (int64_t g = 0; g < w->groups; g++, to += packed) {
        for (int64_t c = 0; c < w->channels; c++)
            order_channel(w, data, g * w->channels + c, integer, ordered + (size_t)(c * each) * element);
        if (integer)
            espl__pack_s8((const int8_t *)ordered, w->channels, w->segments, k, (int8_t *)to);
        else
            espl__pack_f32((const float *)(const void *)ordered, w->channels, w->segments, k,
                           (float *)(void *)to);
    }
    espl__free(s->ctx, ordered);
    return ESPL_OK;
}

/* True if the bias holds codes in the accumulator's own unit, up to what the rounding of a scale to f32 may
 * do to it. */
static bool in_accumulator_unit(const espl__value *bias, const weights *w, const view *in, int64_t channels) {
    const espl__quant *q = &bias->quant;
    if (!espl__is_quantized(bias) || bias->constant->dtype != ESPL_S32 || !zero_points_are(q, 0))
        return false;
    for (int64_t c = 0; c < channels; c++) {
        double unit = (double)in->scale * w->scale[w->axis < 0 ? 0 : c];
        if (!(fabs(q->scale[q->count > 1 ? c : 0] - unit) <= 1e-6 * unit)) return false;
    }
    return true;
}

espl_status espl__weights_scale(espl_session *s, const weights *w, const view *in, const fusion *f,
                                int64_t groups, int64_t channels, const int64_t *sums, bool u8_out,
                                const view *res, espl__conv *p, espl_diag *diag) {
    const espl__value *bias = f->bias;
    const espl_tensor *fbias = bias ? espl__constant_f32(s->graph, bias) : NULL;
    bool exact_bias = bias && in_accumulator_unit(bias, w, in, groups * channels);
    int64_t padded = pad16(channels);
    int32_t *b = espl__plan_weights(s, sizeof *b * (uint64_t)(groups * padded));
    float *mult = espl__plan_weights(s, sizeof *mult * (uint64_t)(groups * padded));
    float *float_bias = u8_out || !bias || exact_bias
                            ? NULL
                            : espl__plan_weights(s, sizeof(float) * (uint64_t)(groups * padded));
    if (!b || !mult || (bias && !fbias)) return espl__nomem(diag, sizeof *b * (uint64_t)padded);
    float out_scale = 1;
    int32_t zero = 0;
    if (u8_out) espl__plan_grid(f->first, &out_scale, &zero);
    for (int64_t c = 0; c < groups * channels; c++) {
        int64_t at = c / channels * padded + c % channels;
        double unit = (double)in->scale * w->scale[w->axis < 0 ? 0 : c];
        double start = -(double)in->zero * (double)sums[c];
        if (exact_bias)
            start += ((const int32_t *)bias->constant->data)[c];
        else if (float_bias)
            float_bias[at] = ((const float *)fbias->data)[c];
        else if (bias)
            start += nearbyint(((const float *)fbias->data)[c] / unit);
        b[at] = (int32_t)fmin(fmax(start, -2147483647.0), 2147483647.0);
        mult[at] = (float)(unit / out_scale);
    }
    espl__epilogue_u8 *q = &p->q;
    q->mult = mult;
    p->bias = b;
    p->fbias = float_bias;
    p->flo = f->lo;
    p->fhi = f->hi;
    if (!u8_out) return ESPL_OK;
    q->zero = zero;
    q->lo = espl__plan_bound(f->lo, out_scale, zero);
    q->hi = espl__plan_bound(f->hi, out_scale, zero);
    if (f->residual) {
        float sum_scale = 1;
        espl__plan_grid(f->out, &sum_scale, &q->zero2);
        q->res_scale_own = out_scale / sum_scale;
        q->res_scale = res->scale / sum_scale;
        q->res_zero = res->zero;
        q->lo2 = espl__plan_bound(f->lo2, sum_scale, q->zero2);
        q->hi2 = espl__plan_bound(f->hi2, sum_scale, q->zero2);
    }
    return ESPL_OK;
}

espl_status espl__weights_bias(espl_session *s, const fusion *f, int64_t groups, int64_t channels,
                               espl__conv *p, espl_diag *diag) {
    const espl__value *bias = f->bias;
    const espl_tensor *t = bias ? espl__constant_f32(s->graph, bias) : NULL;
    int64_t padded = pad16(channels);
    float *b = espl__plan_weights(s, sizeof *b * (uint64_t)(groups * padded));
    if (!b || (bias && !t)) return espl__nomem(diag, sizeof *b * (uint64_t)padded);
    for (int64_t c = 0; bias && c < groups * channels; c++)
        b[c / channels * padded + c % channels] = ((const float *)t->data)[c];
    p->bias = b;
    p->flo = f->residual ? f->lo2 : f->lo;
    p->fhi = f->residual ? f->hi2 : f->hi;
    return ESPL_OK;
}

const void *espl__weights_depthwise(espl_session *s, const void *data, bool integer, int64_t channels,
                                    int64_t taps) {
    int64_t padded = pad16(channels);
    int32_t *w = espl__plan_weights(s, 4 * (uint64_t)(taps * padded));
    if (!w) return NULL;
    for (int64_t t = 0; t < taps; t++)
        for (int64_t i = 0; i < channels; i++) {
            if (integer)
                w[t * padded + i] = ((const int8_t *)data)[i * taps + t];
            else
                memcpy(&w[t * padded + i], (const float *)data + i * taps + t, 4);
        }
    return w;
}

const int64_t *espl__weights_sums(espl_session *s, const int8_t *codes, int64_t channels, int64_t k,
                                  int64_t stride_c, int64_t stride_k) {
    int64_t *sums = espl__arena_alloc(&s->arena, sizeof *sums * (uint64_t)channels + 8);
    for (int64_t c = 0; sums && c < channels; c++)
        for (int64_t i = 0; i < k; i++) sums[c] += codes[c * stride_c + i * stride_k];
    return sums;
}
