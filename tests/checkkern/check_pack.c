/* Packing of weights and of the right sides of products, against its description. */
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
    size_t bytes = (size_t)((s.channels + 15) / 16 * s.segments * ((s.k + 3) / 4) * 64) + ESPL__PACK_SLACK;
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

/* --- right sides -------------------------------------------------------------------------------------------
 */

/* A matrix by rows, by columns, or with gaps in both directions: bytes from element to element. */
typedef struct {
    int64_t k, columns;
    ptrdiff_t by_k, by_column;
    size_t bytes;
} matrix;

static matrix random_matrix(ptrdiff_t unit) {
    matrix m = {between(1, 70), between(1, 70), unit, unit, 0};
    ptrdiff_t gap = unit * between(0, 3);
    int way = between(0, 4);
    if (way < 2) m.by_k = unit * m.columns + gap;
    if (way >= 2 && way < 4) m.by_column = unit * m.k + gap;
    if (way == 4) m.by_column = 2 * unit, m.by_k = 2 * unit * m.columns + gap;
    m.bytes = (size_t)((m.k - 1) * m.by_k + (m.columns - 1) * m.by_column + unit);
    return m;
}

void check_pack_u8(void) {
    for (int i = 0; i < 1000; i++) {
        matrix m = random_matrix(1);
        int64_t blocks = (m.columns + 15) / 16, groups = (m.k + 3) / 4;
        uint8_t *b = take(SLOT_IN, m.bytes);
        outputs o = take_outputs((size_t)(blocks * groups * 64));
        int32_t want[80] = {0}, got_sums[80];
        memset(o.want, 0, o.bytes);
        for (int64_t c = 0; c < m.columns; c++)
            for (int64_t k = 0; k < m.k; k++) {
                int code = b[k * m.by_k + c * m.by_column] - 128;
                ((int8_t *)o.want)[((c / 16 * groups + k / 4) * 16 + c % 16) * 4 + k % 4] = (int8_t)code;
                want[c] += code;
            }
        for (int level = 0; level <= (int)espl__cpu_machine(); level++) {
            const espl__kernels *set = espl__kernels_own((espl__cpu)level);
            if (!set->pack_u8) continue;
            int8_t *got = take_again(&o);
            set->pack_u8(b, m.by_k, m.by_column, m.k, m.columns, got, got_sums);
            expect(same_bytes(&o, got), "pack_u8", level, "%d x %d", (int)m.k, (int)m.columns);
            expect(memcmp(got_sums, want, (size_t)blocks * 64) == 0, "pack_u8", level, "sums of %d x %d",
                   (int)m.k, (int)m.columns);
        }
    }
}

void check_pack_f32(void) {
    for (int i = 0; i < 1000; i++) {
        matrix m = random_matrix(4);
        int64_t blocks = (m.columns + 15) / 16;
        char *b = take(SLOT_IN, m.bytes);
        outputs o = take_outputs((size_t)(blocks * m.k * 64));
        memset(o.want, 0, o.bytes);
        for (int64_t c = 0; c < m.columns; c++)
            for (int64_t k = 0; k < m.k; k++)
                memcpy((float *)o.want + (c / 16 * m.k + k) * 16 + c % 16, b + k * m.by_k + c * m.by_column,
                       4);
        for (int level = 0; level <= (int)espl__cpu_machine(); level++) {
            const espl__kernels *set = espl__kernels_own((espl__cpu)level);
            if (!set->pack_f32) continue;
            float *got = take_again(&o);
            set->pack_f32((const float *)(const void *)b, m.by_k, m.by_column, m.k, m.columns, got);
            expect(same_bytes(&o, got), "pack_f32", level, "%d x %d", (int)m.k, (int)m.columns);
        }
    }
}
