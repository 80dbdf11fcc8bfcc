/* Sparse layouts of tensors: bytes worked out by hand from docs/format.md, round trips of every pattern and
 * format, and bytes that say what cannot be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "tensor/sparse.h"

#define SHAPE(...) ((espl_shape){(int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), {__VA_ARGS__}})
#define HEX(...) (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__})

static espl__zeros zeros_of(const char *pattern, int row_axis, int inner_axis) {
    espl__zeros z = {.row_axis = row_axis, .inner_axis = inner_axis};
    if (!espl_sparsity_parse(pattern, &z.pattern)) fail_msg("'%s' is no pattern", pattern);
    return z;
}

/* --- by hand ----------------------------------------------------------------------------------------- */

static int8_t small[2][8] = {{0, 5, 0, -1, 7, 0, 0, 0}, {0, 0, 2, 3, 0, 4, 0, 6}};
static const espl_tensor small_tensor = {ESPL_S8, {2, {2, 8}}, small};

static void expect_bytes(const espl_tensor *t, int bits, const espl__zeros *z, const uint8_t *want,
                         size_t n) {
    espl__sparse l;
    char text[ESPL_SPARSITY_TEXT];
    assert_true(espl__sparse_of(t, bits, z, &l));
    espl_sparsity_text(&z->pattern, text, sizeof text);
    if (l.bytes != n) fail_msg("%s takes %d bytes, not %d", text, (int)l.bytes, (int)n);
    uint8_t *bytes = malloc(n);
    espl__sparse_encode(&l, t, bytes);
    for (size_t i = 0; i < n; i++)
        if (bytes[i] != want[i]) fail_msg("%s: byte %d is %02X, not %02X", text, (int)i, bytes[i], want[i]);
    free(bytes);
}

static void layouts_by_hand(void **state) {
    (void)state;
    espl__zeros z = zeros_of("bank 2:4", 0, 1);
    /* First values of both banks, then second ones; the 0 fills up the second bank of row 0. Positions 1 0 3
     * 1, 2 1 3 3. */
    expect_bytes(&small_tensor, 8, &z, HEX(5, 7, 0xFF, 0, 2, 4, 3, 6, 0x71, 0xF6));
    z = zeros_of("2:4", 0, 1);
    expect_bytes(&small_tensor, 8, &z, HEX(5, 0xFF, 7, 0, 2, 3, 4, 6, 0x4D, 0xDE));
    z = zeros_of("unstructured 50%", 0, 1);
    /* Counts 3 and 4 in 4 bits each; gaps 1 1 0, 2 0 1 1 in 2 bits each. */
    expect_bytes(&small_tensor, 8, &z, HEX(5, 0xFF, 7, 2, 3, 4, 6, 0x43, 0x85, 0x14));
    int8_t blocks[2][8] = {{0, 5, 0, 0, 7, 0, 0, 0}, {0, 0, 0, 0, 0, 4, 0, 6}};
    z = zeros_of("block 2x2 25%", 0, 1);
    expect_bytes(&(espl_tensor){ESPL_S8, {2, {2, 8}}, blocks}, 8, &z,
                 HEX(0, 5, 0, 0, 7, 0, 0, 4, 0, 0, 0, 6, 0x0D));
    /* Codes of 4 bits: 5 7 -1 0, 2 4 3 6. */
    z = zeros_of("bank 2:4", 0, 1);
    expect_bytes(&small_tensor, 4, &z, HEX(0x75, 0x0F, 0x42, 0x63, 0x71, 0xF6));
    /* The same matrix, inputs down: [K,N]. */
    int8_t turned[8][2];
    for (int i = 0; i < 16; i++) turned[i % 8][i / 8] = small[i / 8][i % 8];
    z = zeros_of("bank 2:4", 1, 0);
    expect_bytes(&(espl_tensor){ESPL_S8, {2, {8, 2}}, turned}, 8, &z,
                 HEX(5, 7, 0xFF, 0, 2, 4, 3, 6, 0x71, 0xF6));
}

/* A gap longer than its bits count stores a zero on the way; 100 elements in 15 columns of 1 and then one of
 * 100. */
static void long_gaps_store_a_zero(void **state) {
    (void)state;
    int8_t row[116] = {0};
    for (int i = 0; i < 15; i++) row[i] = 1;
    row[115] = 9;
    espl__zeros z = zeros_of("unstructured 90%", 0, 1);
    espl__sparse l;
    espl_tensor t = {ESPL_S8, {2, {1, 116}}, row};
    assert_true(espl__sparse_of(&t, 8, &z, &l));
    /* b bits: (16 + floor(100 / 2^b)) * (8 + b) bits; 187, 180, 187 for b = 3, 4, 5. Those of 4: 22 values.
     */
    static const int want[] = {116 * 8, 66 * 9, 41 * 10, 28 * 11, 22 * 12, 19 * 13, 17 * 14, 16 * 15};
    int best = 0;
    for (int b = 0; b < 8; b++)
        if (want[b] < want[best]) best = b;
    assert_int_equal(best, l.gap_bits);
    assert_int_equal(want[best], l.values * (8 + l.gap_bits));
    int8_t back[116];
    espl_tensor u = {ESPL_S8, t.shape, back};
    uint8_t *bytes = malloc(l.bytes);
    espl__sparse_encode(&l, &t, bytes);
    assert_int_equal(espl__sparse_decode(&l, bytes, &u, NULL), ESPL_OK);
    assert_memory_equal(row, back, sizeof row);
    free(bytes);
}

/* --- round trips ------------------------------------------------------------------------------------- */

typedef struct shape_case {
    espl_shape shape;
    int row_axis, inner_axis;
} shape_case;

static const shape_case shapes[] = {
    {{2, {1, 1}}, 0, 1},        {{2, {1, 37}}, 0, 1},      {{2, {29, 1}}, 0, 1},
    {{2, {16, 64}}, 0, 1},      {{2, {13, 83}}, 0, 1},     {{2, {70, 11}}, 1, 0},
    {{4, {8, 19, 3, 3}}, 0, 1}, {{4, {6, 5, 1, 1}}, 0, 1}, {{4, {7, 9, 5, 2}}, 1, 0},
    {{3, {2, 24, 21}}, 1, 2},   {{3, {1, 12, 33}}, 1, 2},  {{2, {3, 300}}, 0, 1},
};
static const char *const patterns[] = {
    "2:4",
    "1:4",
    "3:5",
    "7:8",
    "bank 2:16",
    "bank 3:16",
    "bank 3:32",
    "bank 1:7",
    "bank 5:64",
    "bank 1:2",
    "bank 9:300",
    "block 4x4 50%",
    "block 1x8 70%",
    "block 16x1 30%",
    "row 50%",
    "column 60%",
    "kernel 70%",
    "unstructured 50%",
    "unstructured 90%",
    "unstructured 99%",
    "unstructured 100%",
};
static const struct {
    espl_dtype type;
    int bits;
} formats[] = {{ESPL_F32, 32}, {ESPL_F16, 16}, {ESPL_BF16, 16}, {ESPL_S8, 8}, {ESPL_S8, 7},
               {ESPL_S8, 6},   {ESPL_S8, 5},   {ESPL_S8, 4},    {ESPL_S8, 3}, {ESPL_S8, 2}};

/* Any number of so many bits but 0 and -0. */
static void put_random(espl_tensor *t, int64_t i, int bits, espl__rng *rng) {
    uint32_t v;
    do v = espl__rng_u32(rng) >> (32 - bits);
    while ((bits < 16 ? v : v << (33 - bits)) == 0);
    uint16_t two = (uint16_t)v;
    if (bits == 32) memcpy((char *)t->data + 4 * i, &v, 4);
    if (bits == 16) memcpy((char *)t->data + 2 * i, &two, 2);
    if (bits <= 8) ((int8_t *)t->data)[i] = (int8_t)((int32_t)(v << (32 - bits)) >> (32 - bits));
}

static bool one_in(espl__rng *rng, double share) {
    return espl__rng_below(rng, 1u << 20) < share * (1 << 20);
}

static int64_t at(const espl__matrix *m, int64_t row, int64_t tap, int64_t input) {
    return row * m->by_row + tap * m->by_tap + input * m->by_input;
}

/* In each bank at most n of m, at places drawn by lot; now and then fewer. */
static void fill_banks(espl_tensor *t, const espl__matrix *m, const espl_sparsity *p, int bits,
                       espl__rng *rng) {
    for (int64_t row = 0; row < m->rows; row++)
        for (int64_t tap = 0; tap < m->taps; tap++)
            for (int64_t begin = 0; begin < m->inputs; begin += p->m) {
                int64_t length = ESPL_MIN(p->m, m->inputs - begin);
                int64_t tries = one_in(rng, 0.1) ? (int64_t)espl__rng_below(rng, (uint32_t)p->n) : p->n;
                for (int64_t k = 0; k < tries; k++) /* twice the same place leaves fewer */
                    put_random(t, at(m, row, tap, begin + espl__rng_below(rng, (uint32_t)length)), bits, rng);
            }
}

static void fill_blocks(espl_tensor *t, const espl__matrix *m, const espl_sparsity *p, int bits,
                        espl__rng *rng) {
    int64_t rows = p->pattern == ESPL_PATTERN_BLOCK    ? p->rows
                   : p->pattern == ESPL_PATTERN_COLUMN ? m->rows
                                                       : 1;
    int64_t taps = p->pattern == ESPL_PATTERN_ROW || p->pattern == ESPL_PATTERN_KERNEL ? m->taps : 1;
    int64_t inputs = p->pattern == ESPL_PATTERN_BLOCK ? p->columns
                     : p->pattern == ESPL_PATTERN_ROW ? m->inputs
                                                      : 1;
    for (int64_t row = 0; row < m->rows; row += rows)
        for (int64_t tap = 0; tap < m->taps; tap += taps)
            for (int64_t input = 0; input < m->inputs; input += inputs) {
                if (one_in(rng, (double)p->share)) continue;
                for (int64_t r = row; r < ESPL_MIN(row + rows, m->rows); r++)
                    for (int64_t s = tap; s < ESPL_MIN(tap + taps, m->taps); s++)
                        for (int64_t i = input; i < ESPL_MIN(input + inputs, m->inputs); i++)
                            if (!one_in(rng, 0.05)) put_random(t, at(m, r, s, i), bits, rng);
            }
}

static void fill(espl_tensor *t, const espl__matrix *m, const espl_sparsity *p, int bits, espl__rng *rng) {
    memset(t->data, 0, espl__tensor_bytes(t));
    if (p->pattern == ESPL_PATTERN_NM || p->pattern == ESPL_PATTERN_BANK)
        fill_banks(t, m, p, bits, rng);
    else if (p->pattern != ESPL_PATTERN_UNSTRUCTURED)
        fill_blocks(t, m, p, bits, rng);
    else
        for (int64_t i = 0; i < espl_shape_count(&t->shape); i++)
            if (!one_in(rng, (double)p->share)) put_random(t, i, bits, rng);
}

/* Bits that hold 0 to n, and what the pattern promises. */
static uint64_t bits_for(uint64_t n) {
    return n == 0 ? 0 : 1 + bits_for(n / 2);
}
static uint64_t promised_bytes(const espl__sparse *l, const espl_shape *shape) {
    const espl__matrix *m = &l->matrix;
    const espl_sparsity *p = &l->zeros.pattern;
    int64_t elements = espl_shape_count(shape), kept = 0;
    for (int64_t begin = 0; begin < m->inputs; begin += p->m) kept += ESPL_MIN(p->n, m->inputs - begin);
    kept *= m->rows * m->taps;
    uint64_t bytes = ((uint64_t)kept * (uint64_t)l->value_bits + 7) / 8 +
                     ((uint64_t)kept * bits_for((uint64_t)p->m - 1) + 7) / 8;
    return ESPL_MAX(bytes, (uint64_t)(elements + 63) / 64);
}

static void round_trip(const espl_tensor *t, int bits, const espl__zeros *z) {
    espl__sparse l;
    espl_diag diag = {0};
    assert_true(espl__sparse_of(t, bits, z, &l));
    assert_int_equal(l.zeros.pattern.pattern, z->pattern.pattern);
    if (z->pattern.m) assert_int_equal(l.bytes, promised_bytes(&l, &t->shape));
    uint8_t *bytes = malloc(l.bytes), *again = malloc(l.bytes);
    espl_tensor back = {t->dtype, t->shape, malloc(espl__tensor_bytes(t))};
    espl__sparse_encode(&l, t, bytes);
    /* A reader has these numbers only. */
    espl__sparse read = {l.zeros, l.type, l.value_bits, l.gap_bits, z->pattern.m ? 0 : l.values, {0}, 0,
                         0,       0};
    assert_true(espl__sparse_complete(&read, &t->shape));
    assert_int_equal(read.bytes, l.bytes);
    assert_int_equal(read.values, l.values);
    if (espl__sparse_decode(&read, bytes, &back, &diag) != ESPL_OK) fail_msg("%s", diag.message);
    assert_memory_equal(back.data, t->data, espl__tensor_bytes(t));
    espl__sparse_encode(&read, &back, again);
    assert_memory_equal(bytes, again, l.bytes);
    free(bytes);
    free(again);
    free(back.data);
}

static void every_pattern_and_format(void **state) {
    (void)state;
    espl__rng rng = espl__rng_seed(4, 1);
    for (size_t s = 0; s < ESPL_COUNT(shapes); s++)
        for (size_t p = 0; p < ESPL_COUNT(patterns); p++)
            for (size_t f = 0; f < ESPL_COUNT(formats); f++) {
                espl__zeros z = zeros_of(patterns[p], shapes[s].row_axis, shapes[s].inner_axis);
                espl_tensor t = {formats[f].type, shapes[s].shape, NULL};
                espl__matrix m;
                t.data = malloc(espl__tensor_bytes(&t));
                assert_true(espl__matrix_of(&t.shape, z.row_axis, z.inner_axis, &m));
                fill(&t, &m, &z.pattern, formats[f].bits, &rng);
                round_trip(&t, formats[f].bits, &z);
                memset(t.data, 0, espl__tensor_bytes(&t));
                round_trip(&t, formats[f].bits, &z);
                free(t.data);
            }
}

/* What is said of the zeros is checked; what is not true is stored as unstructured, and says so. */
static void claims_are_checked(void **state) {
    (void)state;
    int8_t codes[2][8];
    memcpy(codes, small, sizeof codes);
    codes[1][0] = 1; /* three in a bank of 2:4 */
    espl_tensor t = {ESPL_S8, {2, {2, 8}}, codes};
    espl__sparse l;
    espl__zeros z = zeros_of("bank 2:4", 0, 1);
    assert_true(espl__sparse_of(&t, 8, &z, &l));
    assert_int_equal(l.zeros.pattern.pattern, ESPL_PATTERN_UNSTRUCTURED);
    assert_int_equal(l.values, 8);
    z = zeros_of("dense", 0, 1);
    assert_false(espl__sparse_of(&t, 8, &z, &l));
    z = zeros_of("bank 2:4", 0, 2);
    assert_false(espl__sparse_of(&t, 8, &z, &l));
    t.dtype = ESPL_U8;
    z = zeros_of("bank 2:4", 0, 1);
    assert_false(espl__sparse_of(&t, 8, &z, &l));
    /* -0 is a zero, and comes back as 0. */
    float x[8] = {-0.0f, 1, -0.0f, -0.0f, 0, -0.0f, 2, 0}, back[8];
    uint8_t bytes[64];
    espl_tensor u = {ESPL_F32, {2, {1, 8}}, x}, v = {ESPL_F32, u.shape, back};
    z = zeros_of("1:4", 0, 1);
    assert_true(espl__sparse_of(&u, 32, &z, &l));
    assert_int_equal(l.bytes, 9);
    espl__sparse_encode(&l, &u, bytes);
    assert_int_equal(espl__sparse_decode(&l, bytes, &v, NULL), ESPL_OK);
    for (int i = 0; i < 8; i++) assert_true(back[i] == x[i] && !signbit(back[i]));
}

/* --- hostile ----------------------------------------------------------------------------------------- */

static void expect_refusal(const char *pattern, int64_t values, int gap_bits, const uint8_t *bytes, size_t n,
                           const char *sentence) {
    espl__sparse l = {.zeros = zeros_of(pattern, 0, 1),
                      .type = ESPL_S8,
                      .value_bits = 8,
                      .gap_bits = gap_bits,
                      .values = values};
    int8_t out[16];
    espl_shape shape = SHAPE(2, 8);
    espl_tensor t = {ESPL_S8, shape, out};
    espl_diag diag = {0};
    assert_true(espl__sparse_complete(&l, &shape));
    assert_int_equal(l.bytes, n);
    uint8_t *copy = malloc(n);
    memcpy(copy, bytes, n);
    assert_int_equal(espl__sparse_decode(&l, copy, &t, &diag), ESPL_FORMAT);
    if (strcmp(diag.message, sentence) != 0) fail_msg("says '%s', not '%s'", diag.message, sentence);
    free(copy);
}

static void bad_positions_are_refused(void **state) {
    (void)state;
    expect_refusal("bank 2:4", 0, 0, HEX(5, 7, 0xFF, 0, 2, 4, 3, 6, 0x71, 0xD6),
                   "row 1: position 1 of a bank follows 2, but positions must ascend");
    expect_refusal("2:4", 0, 0, HEX(5, 0xFF, 7, 0, 2, 3, 4, 6, 0x4D, 0xFE),
                   "row 1: position 3 of a bank follows 3, but positions must ascend");
    /* Banks of 5: a whole one and one of three; 3 bits each. 0 1, 6 ... */
    expect_refusal("2:5", 0, 0, HEX(1, 1, 1, 1, 1, 1, 1, 1, 0x88, 0x01, 0x00),
                   "row 0: position 6 is beyond a bank of 3");
    expect_refusal("unstructured 50%", 7, 2, HEX(5, 0xFF, 7, 2, 3, 4, 6, 0x43, 0xC5, 0x3C),
                   "row 1: position 8 is beyond its 8 columns");
    expect_refusal("unstructured 50%", 7, 2, HEX(5, 0xFF, 7, 2, 3, 4, 6, 0x49, 0x85, 0x14),
                   "row 0 counts 9 values of 7 that are left and 8 columns");
    expect_refusal("unstructured 50%", 7, 2, HEX(5, 0xFF, 7, 2, 3, 4, 6, 0x53, 0x85, 0x14),
                   "row 1 counts 5 values of 4 that are left and 8 columns");
    expect_refusal("unstructured 50%", 7, 2, HEX(5, 0xFF, 7, 2, 3, 4, 6, 0x33, 0x85, 0x14),
                   "its rows count 6 values, 7 are stored");
    expect_refusal("block 2x2 25%", 12, 0, HEX(0, 5, 0, 0, 7, 0, 0, 4, 0, 0, 0, 6, 0x0F),
                   "the blocks that are kept do not have the 12 values stored");
    expect_refusal("block 2x2 25%", 12, 0, HEX(0, 5, 0, 0, 7, 0, 0, 4, 0, 0, 0, 6, 0x05),
                   "the blocks that are kept do not have the 12 values stored");
}

/* Numbers with which no layout can be. */
static void bad_numbers_are_refused(void **state) {
    (void)state;
    const espl_shape shape = SHAPE(2, 8), empty = SHAPE(0, 8), huge = SHAPE(1 << 30, 1 << 30);
    const espl__sparse good = {.zeros = zeros_of("unstructured 50%", 0, 1),
                               .type = ESPL_S8,
                               .value_bits = 8,
                               .gap_bits = 2,
                               .values = 7};
#define BAD(change)                                      \
    do {                                                 \
        espl__sparse l = good;                           \
        change;                                          \
        assert_false(espl__sparse_complete(&l, &shape)); \
    } while (0)
    espl__sparse fine = good;
    assert_true(espl__sparse_complete(&fine, &shape));
    assert_false(espl__sparse_complete(&fine, &empty));
    assert_false(espl__sparse_complete(&fine, &huge));
    BAD(l.values = 17);
    BAD(l.values = -1);
    BAD(l.values = INT64_MIN);
    BAD(l.gap_bits = 32);
    BAD(l.gap_bits = -1);
    BAD(l.zeros.row_axis = 2);
    BAD(l.zeros.inner_axis = 0);
    BAD(l.zeros.inner_axis = 255);
    BAD(l.zeros.pattern.pattern = ESPL_PATTERN_DENSE);
    BAD(l.zeros.pattern.pattern = ESPL_PATTERN_COUNT);
    BAD(l.zeros.pattern.share = NAN);
    BAD(l.zeros.pattern.share = 1.5f);
    BAD(l.value_bits = 1);
    BAD(l.type = ESPL_U8);
    BAD((l.type = ESPL_F32, l.value_bits = 16));
    BAD((l.zeros.pattern = (espl_sparsity){.pattern = ESPL_PATTERN_BANK, .n = 0, .m = 4}));
    BAD((l.zeros.pattern = (espl_sparsity){.pattern = ESPL_PATTERN_NM, .n = 4, .m = 4}));
    BAD((l.zeros.pattern = (espl_sparsity){.pattern = ESPL_PATTERN_NM, .n = 4, .m = ESPL_BANK_MAX + 1}));
    BAD((l.zeros.pattern = (espl_sparsity){.pattern = ESPL_PATTERN_BLOCK, .rows = 0, .columns = 4}));
    BAD((l.zeros.pattern = (espl_sparsity){.pattern = ESPL_PATTERN_BLOCK, .rows = 4, .columns = -1}));
#undef BAD
    /* Few values of many elements: at least a byte for 64. */
    espl__sparse few = {.zeros = zeros_of("1:4", 0, 1), .type = ESPL_S8, .value_bits = 2};
    few.zeros.pattern.m = 1 << 16;
    const espl_shape wide = SHAPE(1, 1 << 20);
    assert_true(espl__sparse_complete(&few, &wide));
    assert_int_equal(few.bytes, (1 << 20) / 64);
}

/* Any bytes at all end in a tensor or a sentence; nothing is touched outside (for the sanitizers). */
static void noise_does_no_harm(void **state) {
    (void)state;
    espl__rng rng = espl__rng_seed(4, 2);
    int refused = 0, read = 0;
    for (int i = 0; i < 20000; i++) {
        const shape_case *s = &shapes[espl__rng_below(&rng, ESPL_COUNT(shapes))];
        size_t f = espl__rng_below(&rng, ESPL_COUNT(formats));
        espl__sparse l = {.zeros = zeros_of(patterns[espl__rng_below(&rng, ESPL_COUNT(patterns))],
                                            s->row_axis, s->inner_axis),
                          .type = formats[f].type,
                          .value_bits = formats[f].bits};
        l.values = espl__rng_below(&rng, 200);
        l.gap_bits = (int)espl__rng_below(&rng, 10);
        if (!espl__sparse_complete(&l, &s->shape)) continue;
        espl_tensor t = {l.type, s->shape, NULL};
        t.data = malloc(espl__tensor_bytes(&t));
        uint8_t *bytes = malloc(l.bytes);
        for (uint64_t k = 0; k < l.bytes; k++) bytes[k] = (uint8_t)espl__rng_u32(&rng);
        espl_diag diag = {0};
        if (espl__sparse_decode(&l, bytes, &t, &diag) == ESPL_OK)
            read++;
        else
            refused += strlen(diag.message) > 10;
        free(bytes);
        free(t.data);
    }
    assert_true(read > 100 && refused > 1000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layouts_by_hand),           cmocka_unit_test(long_gaps_store_a_zero),
        cmocka_unit_test(every_pattern_and_format),  cmocka_unit_test(claims_are_checked),
        cmocka_unit_test(bad_positions_are_refused), cmocka_unit_test(bad_numbers_are_refused),
        cmocka_unit_test(noise_does_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
