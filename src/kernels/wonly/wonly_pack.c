/* Weights of few bits as wonly_f32 reads them. */
#include "kernels/wonly/wonly.h"

static float scale_of(const espl__scales *s, int64_t channel, int64_t group) {
    return s->scale[channel * s->by_channel + group * s->by_group];
}

static bool are_halves(const espl__scales *s, int64_t channels, int64_t groups) {
    for (int64_t c = 0; c < (s->by_channel ? channels : 1); c++)
        for (int64_t g = 0; g < (s->by_group ? groups : 1); g++) {
            const float x = scale_of(s, c, g);
            if (espl__half_to_float(espl__half_from_float(x)) != x) return false;
        }
    return true;
}

espl__wonly espl__wonly_of(int64_t channels, int64_t k, int64_t group, int bits, int planes,
                           const espl__scales *scales) {
    const int64_t units = ESPL_MAX((k + ESPL__UNIT - 1) / ESPL__UNIT, 1);
    espl__wonly w = {.k = (int32_t)k,
                     .units = (int32_t)units,
                     .group = (int32_t)(group < k ? group / ESPL__UNIT : units),
                     .bits = bits,
                     .planes = planes};
    const int64_t groups = (units + w.group - 1) / w.group;
    w.scales = are_halves(scales, channels, groups) ? ESPL_F16 : ESPL_F32;
    w.block = units * wonly_unit_bytes(&w) + groups * wonly_scale_bytes(&w);
    return w;
}

/* One unit of 16 channels: lanes and inputs that are not there have the code 0. */
static void pack_unit(const espl__weight_order *o, const uint8_t *codes, uint8_t flip, const espl__wonly *k,
                      int64_t channel, int64_t input, uint8_t *to) {
    const int per = 8 / k->bits, mask = (1 << k->bits) - 1;
    memset(to, 0, (size_t)wonly_unit_bytes(k));
    for (int quad = 0; quad < WONLY_QUADS; quad++)
        for (int j = 0; j < ESPL__NR * 4; j++) {
            const int64_t c = channel + j / 4, i = input + quad * 4 + j % 4;
            int code = 0;
            if (c < o->channels && i < o->real)
                code = (int8_t)(codes[c * o->by_channel + i * o->by_input] ^ flip);
            const int stored = (code + wonly_offset(k)) & mask;
            to[quad / per * ESPL__NR * 4 + j] |= (uint8_t)(stored << quad % per * k->bits);
        }
}

static void pack_scales(const espl__weight_order *o, const espl__scales *scales, const espl__wonly *k,
                        int64_t channel, int64_t group, uint8_t *to) {
    for (int lane = 0; lane < ESPL__NR; lane++) {
        const float x = channel + lane < o->channels ? scale_of(scales, channel + lane, group) : 0.0f;
        const uint16_t half = espl__half_from_float(x);
        if (k->scales == ESPL_F16)
            memcpy(to + lane * 2, &half, 2);
        else
            memcpy(to + lane * 4, &x, 4);
    }
}

void espl__wonly_pack(const espl__weight_order *order, const void *codes, uint8_t flip,
                      const espl__scales *scales, const espl__wonly *k, int64_t block0, int64_t block1,
                      void *packed) {
    for (int64_t b = block0; b < block1; b++) {
        uint8_t *block = (uint8_t *)packed + b * k->block;
        for (int32_t u = 0; u < k->units; u++) {
            if (u % k->group == 0)
                pack_scales(order, scales, k, b * ESPL__NR, u / k->group, block + wonly_scale_at(k, u));
            pack_unit(order, codes, flip, k, b * ESPL__NR, (int64_t)u * ESPL__UNIT,
                      block + wonly_unit_at(k, u));
        }
    }
}
