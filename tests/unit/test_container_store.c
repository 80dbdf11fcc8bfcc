/* How .espl files store constants in few bytes: to the bit, as small as docs/format.md says, and files of
 * every version by somebody else (tests/oracle/make_container_fixtures.py). */
#define _GNU_SOURCE
#include "container_rig.h"

enum { FEW = 120, MANY = 2000, MOST_REST = 110 /* bytes of a small file beside its constants */ };

/* A file with these constants as outputs; each comes back to the bit. Its length without what is not
 * constants is about `bytes`. */
static void expect_bytes(espl_context *ctx, rig *r, int count, espl__value **constants, int version,
                         size_t bytes) {
    espl__value *x = input_of(r, "x", ESPL_F32, SHAPE(1, 2)), *out[8];
    assert_in_range(count, 1, 7);
    out[0] = APPLY(r, "Relu", x);
    memcpy(out + 1, constants, (size_t)count * sizeof *constants);
    outputs_are(r, 1, &x, count + 1, out);
    espl__buffer b = bytes_of_graph(ctx, r->g);
    espl_graph *back = read_back(ctx, &b);
    assert_int_equal(b.data[4], version);
    assert_in_range(b.length, bytes, bytes + MOST_REST + 16 * (size_t)count);
    for (int i = 1; i <= count; i++) {
        const espl_tensor *p = out[i]->constant, *q = back->outputs[i]->constant;
        assert_true(p->dtype == q->dtype && espl_shape_equal(&p->shape, &q->shape));
        assert_memory_equal(p->data, q->data, espl__tensor_bytes(p));
    }
    espl__buffer again = bytes_of_graph(ctx, back);
    assert_int_equal(again.length, b.length);
    assert_memory_equal(again.data, b.data, b.length);
    espl__buffer_free(&again);
    espl__buffer_free(&b);
    espl_graph_destroy(&back);
    espl_graph_destroy(&r->g);
}

static int width_of(int n) { /* bits of 0 to n - 1 */
    int bits = 1;
    while (1 << bits < n) bits++;
    return bits;
}

/* At most 256 distinct elements, -0 and 0 being two: in packed indices where that saves 256 bytes, and a byte
 * each where not. */
static void repeated_numbers_come_back(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    for (int distinct = 1; distinct <= 300; distinct += distinct < 254 ? 23 : 1)
        for (int count = FEW; count <= MANY; count += MANY - FEW) {
            rig r;
            rig_begin(&r, ctx, 1);
            float numbers[MANY];
            for (int i = 0; i < count; i++) numbers[i] = 0.1f * (float)(i % distinct);
            numbers[1] = -0.0f;
            espl__value *c = constant_of(&r, ESPL_F32, SHAPE(1, count), numbers);
            const int all = ESPL_MIN(distinct, count) + 1, bits = width_of(all);
            const int indices = (count * bits + 7) / 8, plain = ESPL_MIN(4 * count, count + 4 * all);
            const bool packed = plain - (indices + 4 * all) > 255, table = packed || plain < 4 * count;
            if (distinct == 1 && count == FEW) assert_false(packed);
            if (distinct < 63 && count == MANY) assert_true(packed);
            if (all > 256)
                expect_bytes(ctx, &r, 1, &c, 1, 4 * (size_t)count);
            else
                expect_bytes(ctx, &r, 1, &c, packed ? 3 : 1,
                             (size_t)(table ? (packed ? indices : count) + 4 * all : 4 * count));
        }
    assert_int_equal(espl_context_memory(ctx, NULL), empty_context(1));
    espl_context_destroy(&ctx);
}

/* Every number of f16 that is none of its NaNs, all bits kept; one that f16 has not, or a few of them, and
 * they stay f32. */
static void halves_come_back(void **state) {
    static float numbers[65536];
    (void)state;
    espl_context *ctx = new_context(1);
    int count = 0;
    for (int i = 0; i < 65536; i++)
        if ((i & 0x7fff) <= 0x7c00) numbers[count++] = espl__half_to_float((uint16_t)i);
    rig r;
    rig_begin(&r, ctx, 1);
    espl__value *parts[7]; /* of up to 64 KiB each */
    for (int i = 0; i < 7; i++)
        parts[i] = constant_of(&r, ESPL_F32, SHAPE(count / 7), numbers + count / 7 * i);
    expect_bytes(ctx, &r, 7, parts, 3, 2 * (size_t)(count / 7 * 7));
    static const float others[] = {1.00001f, 65536, 0x1p-25f, NAN};
    for (size_t i = 0; i < ESPL_COUNT(others); i++) {
        rig_begin(&r, ctx, 1);
        numbers[299] = others[i];
        espl__value *c = constant_of(&r, ESPL_F32, SHAPE(300), numbers);
        expect_bytes(ctx, &r, 1, &c, 1, 1200);
    }
    rig_begin(&r, ctx, 1);
    parts[0] = constant_of(&r, ESPL_F32, SHAPE(127), numbers); /* 254 bytes less are not worth it */
    expect_bytes(ctx, &r, 1, parts, 1, 508);
    rig_begin(&r, ctx, 1);
    parts[0] =
        constant_of(&r, ESPL_F32, SHAPE(20000), numbers + 300); /* a reader leaves them where they are */
    expect_bytes(ctx, &r, 1, parts, 1, 80000);
    assert_int_equal(espl_context_memory(ctx, NULL), empty_context(1));
    espl_context_destroy(&ctx);
}

/* s32 of every width. */
static void narrow_integers_come_back(void **state) {
    enum { COUNT = 500 };
    (void)state;
    espl_context *ctx = new_context(1);
    for (int bits = 1; bits <= 32; bits++) {
        rig r;
        rig_begin(&r, ctx, (uint64_t)bits);
        int32_t x[COUNT];
        const int64_t most = INT64_C(1) << (bits - 1);
        for (int i = 0; i < COUNT; i++) x[i] = (int32_t)(i % 2 ? -most + i % most : most - 1 - i / 2 % most);
        espl__value *c = constant_of(&r, ESPL_S32, SHAPE(COUNT), x);
        const size_t packed = 1 + (COUNT * (size_t)bits + 7) / 8;
        const bool worth = bits < 32 && 4 * COUNT - packed >= 256;
        expect_bytes(ctx, &r, 1, &c, worth ? 3 : 1, worth ? packed : 4 * COUNT);
    }
    espl_context_destroy(&ctx);
}

/* Scales that f16 has take two bytes each, subnormal ones too. */
static void scales_come_back(void **state) {
    enum { COUNT = 200 };
    (void)state;
    espl_context *ctx = new_context(1);
    for (int exact = 0; exact < 2; exact++) {
        rig r;
        rig_begin(&r, ctx, 1);
        int8_t codes[COUNT * 2] = {1, 2, 3};
        float scale[COUNT];
        for (int i = 0; i < COUNT; i++) scale[i] = espl__half_to_float((uint16_t)(1 + 150 * i));
        if (!exact) scale[COUNT - 1] = 0.1f;
        espl__value *x = input_of(&r, "x", ESPL_F32, SHAPE(1, 2)),
                    *w = constant_of(&r, ESPL_S8, SHAPE(2, COUNT), codes);
        w->dtype = ESPL_F32;
        assert_true(espl__graph_set_quant(r.g, w, ESPL_FORMAT_S8, 1, COUNT, scale, NULL));
        IO(&r, x, APPLY(&r, "MatMul", x, w));
        espl__buffer b = bytes_of_graph(ctx, r.g);
        espl_graph *back = read_back(ctx, &b);
        assert_int_equal(b.data[4], exact ? 3 : 1);
        assert_in_range(b.length, COUNT * (exact ? 4 : 6), COUNT * (exact ? 4 : 6) + MOST_REST);
        assert_memory_equal(back->nodes[0]->inputs[1]->quant.scale, scale, sizeof scale);
        for (int version = 1; exact && version < 3; version++) /* which have no such scales */
            expect_sentence(ctx, &b, 4, (char[]){(char)version}, 1, "is malformed");
        espl__buffer_free(&b);
        espl_graph_destroy(&back);
        espl_graph_destroy(&r.g);
    }
    espl_context_destroy(&ctx);
}

/* What is the same in type, shape and bits is written once, and nothing else: neither -0 for 0 nor [1, 6] for
 * [2, 3]. */
static void equal_constants_are_written_once(void **state) {
    enum { COUNT = 600 };
    (void)state;
    espl_context *ctx = new_context(1);
    rig r;
    rig_begin(&r, ctx, 1);
    float numbers[COUNT];
    for (int i = 0; i < COUNT; i++) numbers[i] = 0.1f * (float)i;
    const espl_shape row = SHAPE(1, COUNT);
    espl__value *x = input_of(&r, "x", ESPL_F32, row), *c[5], *y[5];
    c[0] = constant_of(&r, ESPL_F32, row, numbers);
    c[1] = constant_of(&r, ESPL_F32, SHAPE(COUNT), numbers);
    c[2] = constant_of(&r, ESPL_F32, row, numbers);
    numbers[0] = -0.0f;
    c[3] = constant_of(&r, ESPL_F32, row, numbers);
    numbers[0] = 0.0f;
    c[4] = constant_of(&r, ESPL_F32, row, numbers); /* an output too: it keeps its name */
    for (int i = 0; i < 5; i++) y[i] = APPLY(&r, "Add", x, c[i]);
    IO(&r, x, y[0], y[1], y[2], y[3], y[4], c[4]);
    espl__buffer b = bytes_of_graph(ctx, r.g);
    espl_graph *back = read_back(ctx, &b);
    assert_in_range(b.length, 4 * 4 * COUNT, 4 * 4 * COUNT + 2 * MOST_REST);
    const espl__value *first = back->nodes[0]->inputs[1];
    for (int i = 0; i < 5; i++) {
        const espl__value *v = back->nodes[i]->inputs[1];
        assert_int_equal(v == first, i == 0 || i == 2);
        assert_true(espl_shape_equal(&v->shape, &c[i]->shape));
        assert_memory_equal(v->constant->data, c[i]->constant->data, sizeof numbers);
    }
    assert_ptr_equal(back->nodes[4]->inputs[1], back->outputs[5]);
    assert_int_equal(c[2]->constant != NULL, 1); /* the graph itself is as it was */
    assert_ptr_equal(r.g->nodes[2]->inputs[1], c[2]);
    espl__buffer_free(&b);
    espl_graph_destroy(&back);
    espl_graph_destroy(&r.g);
    assert_int_equal(espl_context_memory(ctx, NULL), empty_context(1));
    espl_context_destroy(&ctx);
}

/* --- files of others --------------------------------------------------------------------------------- */

static espl__buffer fixture_file(espl_context *ctx, int version) {
    char name[200], room[1000];
    snprintf(name, sizeof name, "%s/tests/fixtures/container/v%d.espl", ESPL_SOURCE_DIR, version);
    FILE *f = fopen(name, "rb");
    assert_non_null(f);
    size_t n = fread(room, 1, sizeof room, f);
    fclose(f);
    assert_in_range(n, 200, sizeof room - 1);
    espl__buffer b;
    espl__buffer_init(&b, ctx);
    espl__buffer_append(&b, room, n);
    return b;
}

static const void *output_of(const espl_graph *g, const char *name, espl_dtype type, int64_t count) {
    const espl__value *v = espl__graph_find(g, name);
    assert_non_null(v);
    assert_true(v->constant->dtype == type && espl_shape_count(&v->constant->shape) == count);
    return v->constant->data;
}

static void every_version_is_read(void **state) {
    static const float five[] = {0.1f, -0.0f, 0.0f, 1e-30f, 7e8f}, scales[] = {0.5f, 0.25f, 1.5f * 0x1p-14f};
    static const float first[] = {0.0f, -0.0f, INFINITY, -INFINITY, 65504, 0x1p-24f, -3 * 0x1p-24f, 0x1p-14f};
    static const int8_t sparse[] = {0, 5, 0, -1, 7, 0, 0, 0, 0, 0, 2, 3, 0, 4, 0, 6};
    (void)state;
    espl_context *ctx = new_context(1);
    for (int version = 1; version <= 3; version++) {
        espl__buffer b = fixture_file(ctx, version);
        espl_graph *g = read_back(ctx, &b);
        const uint32_t *table = output_of(g, "table", ESPL_F32, 40),
                       *half = output_of(g, "half", ESPL_F32, 24);
        const int32_t *whole = output_of(g, "whole", ESPL_S32, 30);
        const espl__value *w = g->nodes[0]->inputs[1];
        for (int i = 0; i < 40; i++) assert_memory_equal(&table[i], &five[i * 7 % 5], 4);
        assert_memory_equal(half, first, sizeof first);
        for (int i = 0; i < 16; i++) assert_memory_equal(&half[8 + i], &(float){(float)(i - 8) / 8}, 4);
        for (int i = 0; i < 30; i++) assert_int_equal(whole[i], i * i * i - 5000);
        for (int i = 0; i < 12; i++) assert_int_equal(((const int8_t *)w->constant->data)[i], i - 7);
        assert_int_equal(w->quant.format, ESPL_FORMAT_S4);
        assert_memory_equal(w->quant.scale, scales, sizeof scales);
        if (version > 1) assert_memory_equal(output_of(g, "sparse", ESPL_S8, 16), sparse, sizeof sparse);
        espl_graph_destroy(&g);
        espl__buffer_free(&b);
    }
    assert_int_equal(espl_context_memory(ctx, NULL), empty_context(1));
    espl_context_destroy(&ctx);
}

/* The fixture ends with table (1 + 5 * 4 + 15 bytes), half (48), whole (1 + 60) and sparse (10). */
static void hostile_stores_are_refused(void **state) {
    static const char malformed[] = "is malformed at byte";
    enum { SPARSE = 10, WHOLE = SPARSE + 61, HALF = WHOLE + 48, TABLE = HALF + 36 };
    (void)state;
    espl_context *ctx = frugal_context();
    espl__buffer b = fixture_file(ctx, 3), old = fixture_file(ctx, 1);
    expect_sentence(ctx, &b, 4, "\1", 1, malformed); /* short constants in older files */
    expect_sentence(ctx, &b, 4, "\2", 1, malformed);
    expect_sentence(ctx, &b, b.length - WHOLE, "\0", 1, malformed); /* no bits, all bits, more */
    expect_sentence(ctx, &b, b.length - WHOLE, "\x20", 1, malformed);
    expect_sentence(ctx, &b, b.length - WHOLE, "\xff", 1, malformed);
    expect_sentence(ctx, &b, b.length - WHOLE, "\x1f", 1, malformed); /* beyond the end */
    expect_sentence(ctx, &b, b.length - TABLE, "\0", 1, malformed);
    expect_sentence(ctx, &b, b.length - TABLE, "\xff\x7f", 2, malformed); /* 16383 distinct ones */
    expect_sentence(ctx, &b, b.length - TABLE + 21, "\7", 1, malformed);  /* the eighth of five */
    expect_sentence(ctx, &b, b.length - HALF - 1, "\xe0", 1, malformed);
    static const uint8_t w[] = {6, 0, 2, 2, 5, 4}, grid[] = {6, 2, 3};
    const uint8_t *flags = memmem(b.data, b.length, w, sizeof w),
                  *axis = memmem(old.data, old.length, grid, sizeof grid);
    assert_true(flags && axis);
    expect_sentence(ctx, &b, (size_t)(flags - (const uint8_t *)b.data), "\xc6", 1,
                    malformed); /* short codes of 4 bits */
    expect_sentence(ctx, &b, (size_t)(flags - (const uint8_t *)b.data), "\x46", 1,
                    malformed); /* a table of them */
    expect_sentence(ctx, &old, (size_t)(axis - (const uint8_t *)old.data) + 1, "\x12", 1,
                    malformed); /* f16 in version 1 */
    espl__buffer_free(&old);
    espl__buffer_free(&b);
    espl_context_destroy(&ctx);
}

/* The dimension of a constant grows by seven bits and more: refused before memory is taken for it. */
static void bombs_are_refused(void **state) {
    static const char *const names[] = {"table", "half", "whole"};
    (void)state;
    espl_context *ctx = frugal_context();
    espl__buffer b = fixture_file(ctx, 3);
    for (size_t k = 0; k < ESPL_COUNT(names); k++)
        for (int more = 1; more <= 9; more++) {
            const char *at = memmem(b.data, b.length, names[k], strlen(names[k]));
            assert_non_null(at);
            const size_t dim =
                (size_t)(at - (const char *)b.data) + strlen(names[k]) + 3; /* two types and the rank */
            espl__buffer bomb;
            espl__buffer_init(&bomb, ctx);
            espl__buffer_append(&bomb, b.data, dim);
            for (int i = 0; i < more; i++) espl__buffer_append(&bomb, "\x80", 1);
            espl__buffer_append(&bomb, b.data + dim, b.length - dim);
            uint64_t before = espl_context_memory(ctx, NULL), peak = 0;
            expect_sentence(ctx, &bomb, 0, "E", 1,
                            more < 8 ? "needs more bytes than the file has" : "is malformed");
            espl_context_memory(ctx, &peak);
            assert_in_range(peak - before, 0, 1 << 20);
            espl__buffer_free(&bomb);
        }
    espl__buffer_free(&b);
    espl_context_destroy(&ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(repeated_numbers_come_back),       cmocka_unit_test(halves_come_back),
        cmocka_unit_test(narrow_integers_come_back),        cmocka_unit_test(scales_come_back),
        cmocka_unit_test(equal_constants_are_written_once), cmocka_unit_test(every_version_is_read),
        cmocka_unit_test(hostile_stores_are_refused),       cmocka_unit_test(bombs_are_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
