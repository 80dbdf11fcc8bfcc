/* Constant weights of linear layers: read as s8 codes, brought into the kernels' order and packed, with the
 * biases and multipliers that belong to them. */
#include "runtime/weights.h"
#include "passes/passes.h"

#include <math.h>

enum {
    PART_BYTES = 1 << 20, /* of a weight tensor that are in memory while they are packed */
    PARTS = 64            /* blocks that are prepared together, at most */
};

bool espl__zero_points_are(const espl__quant *q, int32_t zero) {
    for (int64_t i = 0; i < q->count; i++)
        if ((q->zero ? q->zero[i] : 0) != zero) return false;
    return true;
}

bool espl__weights_integer(const espl__value *v, int axis, weights *out) {
    const espl__quant *q = &v->quant;
    if (!v->constant || !espl__is_quantized(v) || (q->count > 1 && q->axis != axis)) return false;
    if (!espl__format_is_code8(q->format) || q->group > 0 || q->offset) return false;
    bool u8 = v->constant->dtype == ESPL_U8;
    if ((!u8 && v->constant->dtype != ESPL_S8) || !espl__zero_points_are(q, u8 ? 128 : 0)) return false;
    *out = (weights){.value = v,
                     .data = v->constant->data,
                     .integer = true,
                     .flip = u8 ? 0x80 : 0,
                     .scale = q->scale,
                     .axis = q->count > 1 ? q->axis : -1};
    return true;
}

espl_status espl__weights_float(espl_session *s, const espl__value *v, weights *out, espl_diag *diag) {
    *out = (weights){.value = v, .data = v->constant->data, .axis = -1};
    if (v->constant->dtype == ESPL_F32 && !espl__is_quantized(v)) return ESPL_OK;
    uint64_t bytes = 4 * (uint64_t)espl_shape_count(&v->shape);
    out->made = espl__alloc(s->ctx, bytes);
    if (!out->made) return espl__nomem(diag, bytes);
    if (!espl__constant_read(v, out->made))
        return espl__fail(diag, ESPL_INTERNAL, "constant '%s' has no reading as f32", v->name);
    out->data = out->made;
    return ESPL_OK;
}

void espl__weights_done(espl_session *s, weights *w) {
    espl__free(s->ctx, w->made);
    espl__free(s->ctx, w->sums);
    w->made = NULL;
    w->sums = NULL;
    if (w->value)
        espl__graph_drop(s->graph, w->value->constant->data, espl__tensor_bytes(w->value->constant));
}

/* The part that begins where the last one ended and reads about PART_BYTES of the tensor; false: there is
 * none. Where channels follow each other it is some inputs of all channels, else some channels with all
 * inputs. */
static bool next_part(const espl__weight_order *o, size_t element, espl__weight_part *part) {
    espl__weight_part all = espl__weight_all(o);
    int64_t runs = o->segments * o->taps, each = (int64_t)element * runs;
    if (o->by_channel == 1) {
        part->input0 = part->input1;
        part->input1 =
            ESPL_MIN(part->input0 + ESPL_MAX(PART_BYTES / (each * o->channels) / 64 * 64, 64), o->stored);
        part->block0 = 0;
        part->block1 = all.block1;
        return part->input0 < o->stored;
    }
    part->block0 = part->block1;
    part->block1 =
        ESPL_MIN(part->block0 + ESPL_MAX(PART_BYTES / (each * o->stored * ESPL__NR), 1), all.block1);
    part->input0 = 0;
    part->input1 = o->stored;
    return part->block0 < all.block1;
}

/* One group, part by part; what was read of a file leaves memory again. */
static void pack_group(const espl_session *s, const weights *w, const espl__weight_order *o, int64_t group,
                       char *to) {
    espl__weight_part part = {0};
    size_t element = w->integer ? 1 : 4;
    const char *from = (const char *)w->data + group * o->channels * o->by_channel * (int64_t)element;
    while (next_part(o, element, &part)) {
        if (w->integer) {
            espl__pack_s8_part(o, from, w->flip, &part, (int8_t *)to);
            espl__weight_sums(o, from, w->flip, &part, w->sums + group * o->channels);
        } else {
            espl__pack_f32_part(o, (const float *)(const void *)from, &part, (float *)(void *)to);
        }
        int64_t first = part.block0 * ESPL__NR * o->by_channel + part.input0 * o->by_input,
                last = part.block1 * ESPL__NR * o->by_channel + part.input1 * o->by_input;
        espl__graph_drop(s->graph, from + first * (int64_t)element, (uint64_t)(last - first) * element);
    }
}

/* The blocks of one group in the order of the kernels, some at a time: how long they get is known behind
 * that. */
static espl_status prepare_blocks(espl_session *s, const espl__conv *p, int64_t blocks, const void **prepared,
                                  espl_diag *diag) {
    const size_t room = s->kernels->prepare_room(p);
    size_t start[PARTS];
    const int64_t most = ESPL_MIN(ESPL_MAX(PART_BYTES / (int64_t)room, 1), PARTS);
    char *scratch = espl__alloc(s->ctx, (uint64_t)ESPL_MIN(most, blocks) * room);
    if (!scratch) return espl__nomem(diag, (uint64_t)most * room);
    for (int64_t first = 0; first < blocks; first += most) {
        const int64_t count = ESPL_MIN(most, blocks - first);
        size_t used = 0;
        for (int64_t b = first; b < first + count; b++) {
            start[b - first] = used;
            used += s->kernels->prepare(p, (int)b, scratch + used);
        }
        char *to = espl__plan_packed(s, used);
        if (!to) {
            espl__free(s->ctx, scratch);
            return espl__nomem(diag, used);
        }
        memcpy(to, scratch, used);
        for (int64_t b = first; b < first + count; b++) prepared[b] = to + start[b - first];
    }
    espl__free(s->ctx, scratch);
    return ESPL_OK;
}

espl_status espl__weights_prepare(espl_session *s, int64_t blocks, espl__conv *p, espl_diag *diag) {
    const void **prepared = espl__arena_alloc(&s->arena, (uint64_t)blocks * sizeof *prepared);
    if (!prepared) return espl__nomem(diag, (uint64_t)blocks * sizeof *prepared);
    p->prepared = prepared;
    return prepare_blocks(s, p, blocks, prepared, diag);
}

/* Packs the groups one after the other for the kernels to prepare, and keeps only what they made. */
static espl_status pack_prepared(espl_session *s, weights *w, const espl__weight_order *o, int64_t groups,
                                 espl__conv *p, size_t packed, espl_diag *diag) {
    espl_status status = ESPL_OK;
    const int64_t blocks = pad16(o->channels) / ESPL__NR;
    const void **prepared = espl__arena_alloc(&s->arena, (uint64_t)(groups * blocks) * sizeof *prepared);
    char *group = espl__alloc(s->ctx, packed);
    if (!prepared || !group) ESPL_TRY(espl__nomem(diag, packed));
    espl__conv one = *p;
    one.w = group;
    for (int64_t g = 0; g < groups; g++) {
        pack_group(s, w, o, g, group);
        ESPL_TRY(prepare_blocks(s, &one, blocks, prepared + g * blocks, diag));
    }
    p->prepared = prepared;
done:
    espl__free(s->ctx, group);
    return status;
}

espl_status espl__weights_centre(espl_session *s, int64_t blocks, int64_t k, espl__conv *p, espl_diag *diag) {
    p->sums = NULL;
    if (!s->kernels->sums) return ESPL_OK;
    const uint64_t bytes = (uint64_t)(blocks * ESPL__NR) * sizeof *p->sums;
    int32_t *sums = espl__plan_weights(s, bytes);
    if (!sums) return espl__nomem(diag, bytes);
    espl__gemv_sums(p->w, blocks, (k + 3) / 4, sums);
    p->sums = sums;
    return ESPL_OK;
}

espl_status espl__weights_pack(espl_session *s, weights *w, const espl__weight_order *o, int64_t groups,
                               bool prepare, espl__conv *p, int64_t *group_bytes, espl_diag *diag) {
    int64_t k = o->taps * o->stored;
    size_t packed = w->integer ? espl__pack_s8_bytes(o->channels, o->segments, k)
                               : espl__pack_f32_bytes(o->channels, o->segments, k);
    *group_bytes = (int64_t)packed;
    if (w->integer) {
        w->sums = espl__calloc(s->ctx, (uint64_t)(groups * o->channels) + 1, sizeof *w->sums);
        if (!w->sums) return espl__nomem(diag, (uint64_t)(groups * o->channels) * sizeof *w->sums);
        if (prepare && s->kernels->prepare && s->kernels->prepare_room(p) > 0)
            return pack_prepared(s, w, o, groups, p, packed, diag);
    }
    char *to = espl__plan_packed(s, (uint64_t)groups * packed);
    if (!to) return espl__nomem(diag, (uint64_t)groups * packed);
    p->w = to;
    for (int64_t g = 0; g < groups; g++, to += packed) {
        pack_group(s, w, o, g, to);
        if (w->integer) memset(to + packed - ESPL__PACK_SLACK, 0, ESPL__PACK_SLACK);
    }
    if (w->integer && !prepare && groups * o->segments == 1)
        return espl__weights_centre(s, pad16(o->channels) / ESPL__NR, k, p, diag);
    return ESPL_OK;
}

espl_status espl__weights_sum(espl_session *s, weights *w, const espl__weight_order *o, int64_t groups,
                              espl_diag *diag) {
    espl__weight_part all = espl__weight_all(o);
    if (!w->integer) return ESPL_OK;
    w->sums = espl__calloc(s->ctx, (uint64_t)(groups * o->channels) + 1, sizeof *w->sums);
    if (!w->sums) return espl__nomem(diag, (uint64_t)(groups * o->channels) * sizeof *w->sums);
    for (int64_t g = 0; g < groups; g++)
        espl__weight_sums(o, (const char *)w->data + g * o->channels * o->by_channel, w->flip, &all,
                          w->sums + g * o->channels);
    return ESPL_OK;
}

const void *espl__weights_depthwise(espl_session *s, weights *w, int64_t channels, int64_t taps) {
    int64_t padded = pad16(channels);
    int32_t *to = espl__plan_weights(s, 4 * (uint64_t)(taps * padded));
    if (w->integer) w->sums = espl__calloc(s->ctx, (uint64_t)channels + 1, sizeof *w->sums);
    if (!to || (w->integer && !w->sums)) return NULL;
    const uint8_t *codes = w->data;
    for (int64_t c = 0; c < channels; c++)
        for (int64_t t = 0; t < taps; t++) {
            if (w->integer)
                w->sums[c] += to[t * padded + c] = (int8_t)(codes[c * taps + t] ^ w->flip);
            else
                memcpy(&to[t * padded + c], (const float *)w->data + c * taps + t, 4);
        }
    return to;
}

/* True if the bias holds codes in the accumulator's own unit, up to what the rounding of a scale to f32 may
 * do to it. */
static bool in_accumulator_unit(const espl__value *bias, const weights *w, const view *in, int64_t channels) {
    const espl__quant *q = &bias->quant;
    if (!espl__is_quantized(bias) || bias->constant->dtype != ESPL_S32 || !espl__zero_points_are(q, 0))
        return false;
    for (int64_t c = 0; c < channels; c++) {
        double unit = (double)in->scale * w->scale[w->axis < 0 ? 0 : c];
        if (!(fabs(q->scale[q->count > 1 ? c : 0] - unit) <= 1e-6 * unit)) return false;
    }
    return true;
}

espl_status espl__weights_scale(espl_session *s, const weights *w, const view *in, const fusion *f,
                                int64_t groups, int64_t channels, bool u8_out, const view *res, espl__conv *p,
                                espl_diag *diag) {
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
        double start = -(double)in->zero * (double)w->sums[c];
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
    /* Sums begin with +0, never with -0, so that products with 0 change nothing and may be left out. */
    for (int64_t c = 0; bias && c < groups * channels; c++)
        b[c / channels * padded + c % channels] = ((const float *)t->data)[c] + 0.0f;
    p->bias = b;
    p->flo = f->residual ? f->lo2 : f->lo;
    p->fhi = f->residual ? f->hi2 : f->hi;
    return ESPL_OK;
}
