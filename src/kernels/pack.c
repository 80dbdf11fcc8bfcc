/* Weights as the convolution kernels read them: blocks of 16 output channels, the channel innermost. A block
 * is made tile by tile, a tile of few enough inputs that what is read and what is written stay in the
 * first-level cache. */
#include <stdbool.h>
#include <string.h>

#include "kernels/kernels.h"

enum { TILE = 64 }; /* inputs: a cache line of codes of each channel */

static int64_t blocks_of(int64_t channels) {
    return (channels + ESPL__NR - 1) / ESPL__NR;
}

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

size_t espl__pack_s8_bytes(int64_t channels, int64_t segments, int64_t k) {
    return (size_t)blocks_of(channels) * (size_t)segments * (size_t)((k + 3) / 4) * ESPL__NR * 4 +
           ESPL__PACK_SLACK;
}

size_t espl__pack_f32_bytes(int64_t channels, int64_t segments, int64_t k) {
    return (size_t)blocks_of(channels) * (size_t)segments * (size_t)k * ESPL__NR * sizeof(float);
}

espl__weight_order espl__weight_rows(int64_t channels, int64_t segments, int64_t k) {
    return (espl__weight_order){channels, segments, 1, k, k, segments * k, k, 0, 1};
}

espl__weight_part espl__weight_all(const espl__weight_order *o) {
    return (espl__weight_part){0, blocks_of(o->channels), 0, o->stored};
}

/* --- tiles: `n` inputs of `channels` channels, [n / 4][16][4] or [n][16]; the first `real` exist --- */

static void tile_s8_any(const espl__weight_order *o, const uint8_t *from, int64_t channels, int64_t real,
                        int64_t n, uint8_t flip, uint8_t *to) {
    memset(to, 0, (size_t)((n + 3) / 4 * 4 * ESPL__NR));
    for (int64_t c = 0; c < channels; c++)
        for (int64_t i = 0; i < real; i++)
            to[i / 4 * ESPL__NR * 4 + c * 4 + i % 4] = from[c * o->by_channel + i * o->by_input] ^ flip;
}

/* Four inputs follow each other: a word of each channel in turn. */
static void tile_s8_rows(const espl__weight_order *o, const uint8_t *from, int64_t n, uint8_t flip,
                         uint8_t *to) {
    uint32_t word, mask = flip * 0x01010101u;
    for (int c = 0; c < ESPL__NR; c++, from += o->by_channel, to += 4)
        for (int64_t i = 0; i < n; i += 4) {
            memcpy(&word, from + i, 4);
            word ^= mask;
            memcpy(to + i * ESPL__NR, &word, 4);
        }
}

/* Sixteen channels follow each other. */
static void tile_s8_columns(const espl__weight_order *o, const uint8_t *from, int64_t n, uint8_t flip,
                            uint8_t *to) {
    for (int64_t i = 0; i < n; i += 4, from += 4 * o->by_input, to += 4 * ESPL__NR) {
        const uint8_t *a = from, *b = a + o->by_input, *c = b + o->by_input, *d = c + o->by_input;
        for (int j = 0; j < ESPL__NR; j++) {
            to[4 * j] = a[j] ^ flip;
            to[4 * j + 1] = b[j] ^ flip;
            to[4 * j + 2] = c[j] ^ flip;
            to[4 * j + 3] = d[j] ^ flip;
        }
    }
}

static void tile_s8_strided(const espl__weight_order *o, const uint8_t *from, int64_t n, uint8_t flip,
                            uint8_t *to) {
    int64_t step = o->by_input;
    for (int c = 0; c < ESPL__NR; c++, to += 4) {
        const uint8_t *p = from + c * o->by_channel;
        for (int64_t i = 0; i < n; i += 4, p += 4 * step) {
            const uint8_t four[4] = {p[0] ^ flip, p[step] ^ flip, p[2 * step] ^ flip, p[3 * step] ^ flip};
            memcpy(to + i * ESPL__NR, four, 4);
        }
    }
}

static void tile_s8(const espl__weight_order *o, const void *from, int64_t channels, int64_t real, int64_t n,
                    uint8_t flip, void *to) {
    int64_t whole = channels == ESPL__NR ? real / 4 * 4 : 0;
    if (o->by_input == 1)
        tile_s8_rows(o, from, whole, flip, to);
    else if (o->by_channel == 1)
        tile_s8_columns(o, from, whole, flip, to);
    else
        tile_s8_strided(o, from, whole, flip, to);
    if (whole < n)
        tile_s8_any(o, (const uint8_t *)from + whole * o->by_input, channels, real - whole, n - whole, flip,
                    (uint8_t *)to + whole * ESPL__NR);
}

static void tile_f32(const espl__weight_order *o, const void *from, int64_t channels, int64_t real, int64_t n,
                     uint8_t flip, void *to) {
    const float *w = from;
    float *out = to;
    (void)flip;
    if (channels < ESPL__NR || real < n) memset(out, 0, (size_t)n * ESPL__NR * sizeof *out);
    if (o->by_channel == 1) {
        for (int64_t i = 0; i < real; i++)
            memcpy(out + i * ESPL__NR, w + i * o->by_input, (size_t)channels * sizeof *out);
        return;
    }
    for (int64_t c = 0; c < channels; c++, w += o->by_channel)
        for (int64_t i = 0; i < real; i++) out[i * ESPL__NR + c] = w[i * o->by_input];
}

/* --- the walk over tiles ----------------------------------------------------------------------------- */

typedef void (*tile_fn)(const espl__weight_order *o, const void *from, int64_t channels, int64_t real,
                        int64_t n, uint8_t flip, void *to);

/* The tiles of one block that begin at input i. */
static void tiles_at(const espl__weight_order *o, const char *w, uint8_t flip, int64_t block, int64_t i,
                     int64_t n, size_t element, tile_fn tile, char *packed) {
    int64_t channels = least(o->channels - block * ESPL__NR, ESPL__NR);
    int64_t real = o->real > i ? least(o->real - i, n) : 0,
            stored = element == 1 ? (o->stored + 3) / 4 * 4 : o->stored;
    for (int64_t s = 0; s < o->segments; s++)
        for (int64_t t = 0; t < o->taps; t++) {
            int64_t from =
                block * ESPL__NR * o->by_channel + s * o->by_segment + t * o->by_tap + i * o->by_input;
            int64_t to = (((block * o->segments + s) * o->taps + t) * stored + i) * ESPL__NR;
            tile(o, w + from * (int64_t)element, channels, real, n, flip, packed + to * (int64_t)element);
        }
}

/* Where channels follow each other, all blocks use a row of the tensor before the next rows are read. */
static void walk(const espl__weight_order *o, const char *w, uint8_t flip, const espl__weight_part *p,
                 size_t element, tile_fn tile, char *packed) {
    bool columns = o->by_channel == 1 && o->by_input != 1;
    int64_t step = columns ? TILE : p->input1 - p->input0;
    for (int64_t i = p->input0; i < p->input1; i += step)
        for (int64_t b = p->block0; b < p->block1; b++)
            for (int64_t j = i; j < least(i + step, p->input1); j += TILE)
                tiles_at(o, w, flip, b, j, least(p->input1 - j, TILE), element, tile, packed);
}

void espl__pack_s8_part(const espl__weight_order *order, const void *w, uint8_t flip,
                        const espl__weight_part *part, int8_t *packed) {
    walk(order, w, flip, part, 1, tile_s8, (char *)packed);
}

void espl__pack_f32_part(const espl__weight_order *order, const float *w, const espl__weight_part *part,
                         float *packed) {
    walk(order, (const char *)w, 0, part, sizeof *w, tile_f32, (char *)packed);
}

void espl__pack_s8(const int8_t *w, int64_t channels, int64_t segments, int64_t k, int8_t *packed) {
    espl__weight_order o = espl__weight_rows(channels, segments, k);
    espl__weight_part all = espl__weight_all(&o);
    espl__pack_s8_part(&o, w, 0, &all, packed);
    memset(packed + espl__pack_s8_bytes(channels, segments, k) - ESPL__PACK_SLACK, 0, ESPL__PACK_SLACK);
}

void espl__pack_f32(const float *w, int64_t channels, int64_t segments, int64_t k, float *packed) {
    espl__weight_order o = espl__weight_rows(channels, segments, k);
    espl__weight_part all = espl__weight_all(&o);
    espl__pack_f32_part(&o, w, &all, packed);
}

void espl__pack_16(const espl__weight_order *o, const uint16_t *w, uint16_t *packed) {
    for (int64_t c0 = 0; c0 < o->channels; c0 += ESPL__NR)
        for (int64_t i = 0; i < o->stored; i++, packed += ESPL__NR) {
            const int64_t lanes = i < o->real ? least(ESPL__NR, o->channels - c0) : 0;
            for (int64_t lane = 0; lane < lanes; lane++)
                packed[lane] = w[(c0 + lane) * o->by_channel + i * o->by_input];
            memset(packed + lanes, 0, (size_t)(ESPL__NR - lanes) * sizeof *packed);
        }
}

/* --- sums of codes ----------------------------------------------------------------------------------- */

static int32_t sum_of(const uint8_t *w, int64_t n, int64_t step, uint8_t flip) {
    int32_t sum = 0;
    if (step == 1)
        for (int64_t i = 0; i < n; i++) sum += (int8_t)(w[i] ^ flip);
    else
        for (int64_t i = 0; i < n; i++) sum += (int8_t)(w[i * step] ^ flip);
    return sum;
}

void espl__weight_sums(const espl__weight_order *o, const void *w, uint8_t flip, const espl__weight_part *p,
                       int32_t *sums) {
    const uint8_t *codes = w;
    int64_t c0 = p->block0 * ESPL__NR, c1 = least(p->block1 * ESPL__NR, o->channels);
    int64_t i0 = p->input0, n = least(p->input1, o->real) - i0;
    if (i0 == 0 && n == o->real &&
        o->by_channel == o->segments * o->taps * o->real) { /* a channel lies in one piece */
        for (int64_t c = c0; c < c1; c++)
            sums[c] += sum_of(codes + c * o->by_channel, o->by_channel, 1, flip);
        return;
    }
    for (int64_t s = 0; s < o->segments; s++)
        for (int64_t t = 0; t < o->taps; t++) {
            const uint8_t *from = codes + s * o->by_segment + t * o->by_tap + i0 * o->by_input;
            if (o->by_channel == 1)
                for (int64_t i = 0; i < n; i++)
                    for (int64_t c = c0; c < c1; c++) sums[c] += (int8_t)(from[i * o->by_input + c] ^ flip);
            else
                for (int64_t c = c0; c < c1; c++)
                    sums[c] += sum_of(from + c * o->by_channel, n, o->by_input, flip);
        }
}

void espl__gemv_sums(const void *packed, int64_t blocks, int64_t k, int32_t *sums) {
    const int8_t *w = packed;
    for (int64_t b = 0; b < blocks; b++, sums += ESPL__NR) {
        int32_t sum[ESPL__NR] = {0};
        for (int64_t i = 0; i < k; i++, w += ESPL__NR * 4)
            for (int c = 0; c < ESPL__NR; c++)
                sum[c] += w[4 * c] + w[4 * c + 1] + w[4 * c + 2] + w[4 * c + 3];
        for (int c = 0; c < ESPL__NR; c++) sums[c] = 128 * sum[c];
    }
}
