/* Weights of which every row keeps a few in each window of inputs: how many that takes, and packing them. */
#include <string.h>

#include "kernels/bank/bank.h"

static int64_t windows_of_tap(const espl__weight_order *o, int32_t size) {
    return o->stored < size ? 0 : (o->stored + size - 1) / size;
}

/* The inputs of a tap that window i is there for: the last one's are behind those of the one before it. */
typedef struct window {
    int64_t start, first, end; /* start: the input that position 0 is; first to end: those that are its own */
} window;

static window window_at(const espl__weight_order *o, int32_t size, int64_t i) {
    const int64_t first = i * size, end = ESPL_MIN(first + size, o->stored);
    return (window){end - size, first, ESPL_MIN(end, o->real)};
}

static int64_t element_of(const espl__weight_order *o, int64_t channel, int64_t tap, int64_t input) {
    return channel * o->by_channel + tap / o->taps * o->by_segment + tap % o->taps * o->by_tap +
           input * o->by_input;
}

/* --- what they need -------------------------------------------------------------------------------- */

static int32_t count_s8(const uint8_t *w, int64_t n, int64_t step, uint8_t zero) {
    int32_t count = 0;
    for (int64_t i = 0; i < n; i++) count += w[i * step] != zero;
    return count;
}

static int32_t count_f32(const float *w, int64_t n, int64_t step) {
    int32_t count = 0;
    for (int64_t i = 0; i < n; i++) count += w[i * step] != 0.0f;
    return count;
}

/* Sixteen channels of a window at a time: near in memory, whichever of the two lies innermost. */
static int32_t slots_of(const espl__weight_order *o, const void *w, bool s8, uint8_t zero, int32_t size,
                        int32_t limit) {
    const int64_t windows = windows_of_tap(o, size);
    int32_t most = windows && limit > 0 ? 1 : 0;
    if (!most) return 0;
    for (int64_t block = 0; block < o->channels; block += ESPL__NR)
        for (int64_t i = 0; i < o->segments * o->taps * windows; i++) {
            const window at = window_at(o, size, i % windows);
            for (int64_t c = block; c < ESPL_MIN(block + ESPL__NR, o->channels); c++) {
                const int64_t from = element_of(o, c, i / windows, at.first), n = at.end - at.first;
                const int32_t count = s8 ? count_s8((const uint8_t *)w + from, n, o->by_input, zero)
                                         : count_f32((const float *)w + from, n, o->by_input);
                if (count > limit) return 0;
                most = ESPL_MAX(most, count);
            }
        }
    return most;
}

int32_t espl__bank_slots_s8(const espl__weight_order *order, const void *w, uint8_t flip, int32_t limit) {
    return slots_of(order, w, true, flip, ESPL__BANK, ESPL_MIN(limit, (int32_t)ESPL__BANK_SLOTS_S8));
}

int32_t espl__bank_slots_f32(const espl__weight_order *order, const float *w, int32_t size, int32_t limit) {
    return slots_of(order, w, false, 0, size, ESPL_MIN(limit, (int32_t)ESPL__BANK_SLOTS_F32));
}

/* --- layouts --------------------------------------------------------------------------------------- */

static int64_t windows_of(const espl__weight_order *o, int32_t size) {
    return o->segments * o->taps * windows_of_tap(o, size);
}

espl__bank espl__bank_s8(const espl__weight_order *order, int32_t slots) {
    const int32_t group = bank_group(slots);
    const int64_t count = (windows_of(order, ESPL__BANK) + group - 1) / group * group;
    const int64_t vectors = count * slots / 4;
    return (espl__bank){.count = (int32_t)count,
                        .slots = slots,
                        .size = ESPL__BANK,
                        .values = ESPL_S8,
                        .block = (vectors + 1) / 2 * BANK_PAIR};
}

espl__bank espl__bank_f32(const espl__weight_order *order, int32_t size, int32_t slots, int32_t values) {
    espl__bank k = {
        .count = (int32_t)windows_of(order, size), .slots = slots, .size = size, .values = values};
    const int64_t vectors = (int64_t)k.count * slots, per = bank_per(&k);
    k.block = (vectors + per - 1) / per * BANK_VECTOR + vectors * ESPL__NR * bank_value_bytes(&k);
    k.block = (k.block + BANK_VECTOR - 1) / BANK_VECTOR * BANK_VECTOR;
    return k;
}

void espl__bank_offsets(const espl__weight_order *order, const espl__bank *bank, const int32_t *seg_off,
                        int32_t *off) {
    const int64_t windows = windows_of_tap(order, bank->size), real = windows_of(order, bank->size);
    const int64_t bytes = bank->values == ESPL_S8 ? 1 : 4;
    for (int64_t i = 0; i < bank->count; i++) {
        const int64_t tap = i / windows, segment = tap / order->taps;
        const int64_t input =
            tap % order->taps * order->stored + window_at(order, bank->size, i % windows).start;
        off[i] = i < real ? (int32_t)((seg_off ? seg_off[segment] : 0) + input * bytes) : 0;
    }
}

/* --- packing --------------------------------------------------------------------------------------- */

/* One row's weights of one window, the b-th. */
static void put_s8(const espl__bank *k, const uint8_t *w, int64_t step, uint8_t flip, window at, int row,
                   int32_t b, uint8_t *block) {
    int32_t s = 0;
    for (int64_t i = at.first; i < at.end && s < k->slots; i++, w += step) {
        if (*w == flip) continue;
        const bank_place to = bank_place_s8(k, row, b, s++);
        block[to.position] |= (uint8_t)((i - at.start) << to.shift);
        block[to.weight] = *w ^ flip;
    }
}

static void put_value(const espl__bank *k, float value, uint8_t *to) {
    uint16_t half = 0;
    if (k->values == ESPL_F32) {
        memcpy(to, &value, sizeof value);
        return;
    }
    half = k->values == ESPL_F16 ? espl__half_from_float(value) : espl__bfloat_from_float(value);
    memcpy(to, &half, sizeof half);
}

static void put_f32(const espl__bank *k, const float *w, int64_t step, window at, int row, int32_t b,
                    uint8_t *block) {
    int32_t s = 0;
    uint32_t word;
    for (int64_t i = at.first; i < at.end && s < k->slots; i++, w += step) {
        if (*w == 0.0f) continue;
        const bank_place to = bank_place_f32(k, row, b, s++);
        memcpy(&word, block + to.position, sizeof word);
        word |= (uint32_t)(i - at.start) << to.shift;
        memcpy(block + to.position, &word, sizeof word);
        put_value(k, *w, block + to.weight);
    }
}

static void pack(const espl__weight_order *o, const void *w, uint8_t flip, const espl__bank *k,
                 int64_t block0, int64_t block1, uint8_t *packed) {
    const int64_t windows = windows_of_tap(o, k->size), real = windows_of(o, k->size);
    for (int64_t block = block0; block < block1; block++) {
        uint8_t *to = packed + block * k->block;
        const int channels = (int)ESPL_MIN(o->channels - block * ESPL__NR, (int64_t)ESPL__NR);
        memset(to, 0, (size_t)k->block);
        for (int32_t b = 0; b < real; b++) {
            const window at = window_at(o, k->size, b % windows);
            for (int row = 0; row < channels; row++) {
                const int64_t from = element_of(o, block * ESPL__NR + row, b / windows, at.first);
                if (k->values == ESPL_S8)
                    put_s8(k, (const uint8_t *)w + from, o->by_input, flip, at, row, b, to);
                else
                    put_f32(k, (const float *)w + from, o->by_input, at, row, b, to);
            }
        }
    }
}

void espl__pack_bank_s8(const espl__weight_order *order, const void *w, uint8_t flip, const espl__bank *bank,
                        int64_t block0, int64_t block1, void *packed) {
    pack(order, w, flip, bank, block0, block1, packed);
}

void espl__pack_bank_f32(const espl__weight_order *order, const float *w, const espl__bank *bank,
                         int64_t block0, int64_t block1, void *packed) {
    pack(order, w, 0, bank, block0, block1, packed);
}
