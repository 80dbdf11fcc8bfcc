/* Packing of weights, against its description. */
#include "checkkern.h"

typedef struct {
    int64_t channels, segments, k;
} shape;

static shape random_shape(void) {
    return (shape){between(1, 70), between(1, 4), between(1, 21)};
}

/* Where [channel][segment][k] goes: [channel / 16][segment][k / unit][channel % 16][k % unit]. */
static int64_t packed_at(shape s, int64_t channel, int64_t segment, int64_t k, int64_t unit) {
    int64_t groups = (s.k + unit - 1) / unit;
    return (((channel / 16 * s.segments + segment) * groups + k / unit) * 16 + channel % 16) * unit +
           k % unit;
}

static void check_s8(void) {
    shape s = random_shape();
    int8_t *w = take(SLOT_IN, (size_t)(s.channels * s.segments * s.k));
    size_t bytes = (size_t)((s.channels + 15) / 16 * s.segments * ((s.k + 3) / 4) * 64);
    expect(espl__pack_s8_bytes(s.channels, s.segments, s.k) == bytes, "pack_s8", 0, "bytes");
    outputs o = take_outputs(bytes);
    int8_t *want = o.want;
    memset(want, 0, bytes);
    for (int64_t c = 0; c < s.channels; c++)
        for (int64_t g = 0; g < s.segments; g++)
            for (int64_t k = 0; k < s.k; k++)
                want[packed_at(s, c, g, k, 4)] = w[(c * s.segments + g) * s.k + k];
    int8_t *got = take_again(&o);
    espl__pack_s8(w, s.channels, s.segments, s.k, got);
    expect(same_bytes(&o, got), "pack_s8", 0, "%d x %d x %d", (int)s.channels, (int)s.segments, (int)s.k);
}

static void check_f32(void) {
    shape s = random_shape();
    size_t count = (size_t)(s.channels * s.segments * s.k);
    float *w = take(SLOT_IN, count * sizeof *w);
    fill_f32(w, (int64_t)count, 1.0f, true);
    size_t bytes = (size_t)((s.channels + 15) / 16 * s.segments * s.k * 64);
    expect(espl__pack_f32_bytes(s.channels, s.segments, s.k) == bytes, "pack_f32", 0, "bytes");
    outputs o = take_outputs(bytes);
    float *want = o.want;
    memset(want, 0, bytes);
    for (int64_t c = 0; c < s.channels; c++)
        for (int64_t g = 0; g < s.segments; g++)
            for (int64_t k = 0; k < s.k; k++)
                want[packed_at(s, c, g, k, 1)] = w[(c * s.segments + g) * s.k + k];
    float *got = take_again(&o);
    espl__pack_f32(w, s.channels, s.segments, s.k, got);
    expect(same_bytes(&o, got), "pack_f32", 0, "%d x %d x %d", (int)s.channels, (int)s.segments, (int)s.k);
}

void check_packing(void) {
    for (int i = 0; i < 500; i++) {
        check_s8();
        check_f32();
    }
}
