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

espl__weight_order random_order(int64_t unit) {
    espl__weight_order o = {between(1, 70), between(1, 3), between(1, 3), 0, between(1, 150), 0, 0, 0, 0};
    o.stored = between(0, 1) ? (o.real + 3) / 4 * 4 : o.real;
    if (unit == 4 && o.taps > 1) o.stored = (o.real + 3) / 4 * 4;
    int64_t windows = o.segments * o.taps;
    switch (between(0, 2)) {
        case 0: /* [channel][input][segment][tap] */
            o.by_tap = 1, o.by_segment = o.taps, o.by_input = windows, o.by_channel = windows * o.real;
            break;
        case 1: /* [channel][segment][tap][input] */
            o.by_input = 1, o.by_tap = o.real, o.by_segment = o.taps * o.real,
            o.by_channel = windows * o.real;
            break;
        default: /* [segment][tap][input][channel] */
            o.by_channel = 1, o.by_input = o.channels, o.by_tap = o.real * o.channels,
            o.by_segment = o.taps * o.by_tap;
    }
    return o;
}

/* Element of the tensor for element k of a segment, -1: padding. */
static int64_t stands_at(const espl__weight_order *o, int64_t channel, int64_t segment, int64_t k) {
    int64_t tap = k / o->stored, i = k % o->stored;
    if (i >= o->real) return -1;
    return channel * o->by_channel + segment * o->by_segment + tap * o->by_tap + i * o->by_input;
}

static void expected_order(const espl__weight_order *o, const void *w, bool s8, uint8_t flip, void *want,
                           int32_t *sums) {
    shape s = {o->channels, o->segments, o->taps * o->stored};
    for (int64_t c = 0; c < s.channels; c++)
        for (int64_t g = 0; g < s.segments; g++)
            for (int64_t k = 0; k < s.k; k++) {
                int64_t from = stands_at(o, c, g, k), to = packed_at(s, c, g, k, s8 ? 4 : 1);
                if (from < 0) continue;
                if (s8)
                    sums[c] += ((int8_t *)want)[to] = (int8_t)(((const uint8_t *)w)[from] ^ flip);
                else
                    ((float *)want)[to] = ((const float *)w)[from];
            }
}

/* The whole in parts: blocks and inputs are cut somewhere. */
static void check_order(bool s8) {
    espl__weight_order o = random_order(s8 ? 4 : 1);
    espl__weight_part all = espl__weight_all(&o);
    size_t element = s8 ? 1 : 4, count = (size_t)(o.channels * o.segments * o.taps * o.real);
    uint8_t flip = between(0, 1) ? 0x80 : 0;
    int32_t wanted[80] = {0}, sums[80] = {0};
    void *w = take(SLOT_IN, count * element);
    if (!s8) fill_f32(w, (int64_t)count, 1.0f, true);
    int64_t k = o.taps * o.stored, blocks = all.block1, cut = between(0, (int)blocks);
    int64_t cut_input = ESPL_MIN(between(0, (int)o.stored) / 4 * 4, o.stored);
    outputs out = take_outputs((size_t)(blocks * o.segments * (s8 ? (k + 3) / 4 * 4 : k) * 16) * element);
    memset(out.want, 0, (size_t)(blocks * o.segments * (s8 ? (k + 3) / 4 * 4 : k) * 16) * element);
    expected_order(&o, w, s8, flip, out.want, wanted);
    char *got = take_again(&out);
    for (int part = 0; part < 4; part++) {
        espl__weight_part p = {part & 1 ? cut : 0, part & 1 ? blocks : cut, part & 2 ? cut_input : 0,
                               part & 2 ? o.stored : cut_input};
        if (s8) {
            espl__pack_s8_part(&o, w, flip, &p, (int8_t *)got);
            espl__weight_sums(&o, w, flip, &p, sums);
        } else {
            espl__pack_f32_part(&o, w, &p, (float *)(void *)got);
        }
    }
    const char *name = s8 ? "pack_s8_part" : "pack_f32_part";
    expect(same_bytes(&out, got), name, 0, "%d channels, %d x %d x %d of %d, by %d", (int)o.channels,
           (int)o.segments, (int)o.taps, (int)o.real, (int)o.stored, (int)o.by_channel);
    expect(memcmp(sums, wanted, sizeof sums) == 0, "weight_sums", 0, "%d channels, %d x %d x %d, by %d",
           (int)o.channels, (int)o.segments, (int)o.taps, (int)o.real, (int)o.by_channel);
}

void check_packing(void) {
    for (int i = 0; i < cases(500); i++) {
        check_s8();
        check_f32();
        check_order(true);
        check_order(false);
        check_bank_packing();
    }
}

/* --- right sides ------------------------------------------------------------------------------------- */

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
    for (int i = 0; i < cases(1000); i++) {
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
        ESPL__CPU_LEVELS(level, 0) {
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
    for (int i = 0; i < cases(1000); i++) {
        matrix m = random_matrix(4);
        int64_t blocks = (m.columns + 15) / 16;
        char *b = take(SLOT_IN, m.bytes);
        outputs o = take_outputs((size_t)(blocks * m.k * 64));
        memset(o.want, 0, o.bytes);
        for (int64_t c = 0; c < m.columns; c++)
            for (int64_t k = 0; k < m.k; k++)
                memcpy((float *)o.want + (c / 16 * m.k + k) * 16 + c % 16, b + k * m.by_k + c * m.by_column,
                       4);
        ESPL__CPU_LEVELS(level, 0) {
            const espl__kernels *set = espl__kernels_own((espl__cpu)level);
            if (!set->pack_f32) continue;
            float *got = take_again(&o);
            set->pack_f32((const float *)(const void *)b, m.by_k, m.by_column, m.k, m.columns, got);
            expect(same_bytes(&o, got), "pack_f32", level, "%d x %d", (int)m.k, (int)m.columns);
        }
    }
}

/* --- transposition ----------------------------------------------------------------------------------- */

static void check_transpose(const char *kernel, int bytes) {
    for (int i = 0; i < cases(600); i++) {
        const int rows = between(1, 70), columns = between(1, 70);
        const ptrdiff_t in_step = bytes * (columns + between(0, 5)),
                        out_step = bytes * (rows + between(0, 5));
        uint8_t *in = take(SLOT_IN, (size_t)(in_step * (rows - 1) + bytes * columns));
        outputs o = take_outputs((size_t)(out_step * (columns - 1) + bytes * rows));
        for (int r = 0; r < rows; r++)
            for (int c = 0; c < columns; c++)
                for (int b = 0; b < bytes; b++)
                    ((uint8_t *)o.want)[c * out_step + r * bytes + b] = in[r * in_step + c * bytes + b];
        ESPL__CPU_LEVELS(level, 0) {
            const espl__kernels *set = espl__kernels_own((espl__cpu)level);
            if (bytes == 1 ? !set->transpose_8 : !set->transpose_32) continue;
            uint8_t *got = take_again(&o);
            (bytes == 1 ? set->transpose_8 : set->transpose_32)(in, in_step, got, out_step, rows, columns);
            expect(same_bytes(&o, got), kernel, level, "%d x %d", rows, columns);
        }
    }
}

void check_transpose_8(void) {
    check_transpose("transpose_8", 1);
}

void check_transpose_32(void) {
    check_transpose("transpose_32", 4);
}

void check_row_sums_u8(void) {
    for (int i = 0; i < cases(1000); i++) {
        int64_t rows = between(1, 20), k = between(1, 300);
        ptrdiff_t step = k + between(0, 5);
        const uint8_t *in = take(SLOT_IN, (size_t)((rows - 1) * step + k));
        outputs o = take_outputs((size_t)rows * 4);
        for (int64_t r = 0; r < rows; r++) {
            ((int32_t *)o.want)[r] = 0;
            for (int64_t c = 0; c < k; c++) ((int32_t *)o.want)[r] += in[r * step + c];
        }
        ESPL__CPU_LEVELS(level, 0) {
            const espl__kernels *set = espl__kernels_own((espl__cpu)level);
            if (!set->row_sums_u8) continue;
            int32_t *got = take_again(&o);
            set->row_sums_u8(in, step, rows, k, got);
            expect(same_bytes(&o, got), "row_sums_u8", level, "%d rows of %d", (int)rows, (int)k);
        }
    }
}
