/* .npy against files that NumPy wrote (tests/oracle/make_npy_fixtures.py), and files nobody should write. */
#include "data_rig.h"

#include "tensor/tensor.h"

static const char *fixture(const char *name) {
    static char path[1024];
    snprintf(path, sizeof path, "%s/tests/fixtures/npy/%s.npy", ESPL_SOURCE_DIR, name);
    return path;
}

static espl_tensor read_good(const char *path) {
    espl_tensor t;
    espl_diag diag = {0};
    if (espl_npy_read(ctx, path, &t, &diag) != ESPL_OK) fail_msg("%s", diag.message);
    return t;
}

static double element(const espl_tensor *t, int i) {
    switch (t->dtype) {
        case ESPL_F32:
            return (double)((const float *)t->data)[i];
        case ESPL_F64:
            return ((const double *)t->data)[i];
        case ESPL_U8:
        case ESPL_BOOL:
            return ((const uint8_t *)t->data)[i];
        case ESPL_S8:
            return ((const int8_t *)t->data)[i];
        case ESPL_U16:
            return ((const uint16_t *)t->data)[i];
        case ESPL_S16:
            return ((const int16_t *)t->data)[i];
        case ESPL_U32:
            return ((const uint32_t *)t->data)[i];
        case ESPL_S32:
            return ((const int32_t *)t->data)[i];
        case ESPL_U64:
            return (double)((const uint64_t *)t->data)[i];
        case ESPL_S64:
            return (double)((const int64_t *)t->data)[i];
        default:
            return -12345;
    }
}

static void test_types(void **state) {
    (void)state;
    static const double real[] = {-1.5, 0, 0.25, 3, 65504, -0.000030517578125},
                        sign[] = {-3, 0, 1, 7, 100, -128}, uns[] = {3, 0, 1, 7, 100, 250},
                        truth[] = {1, 0, 1, 1, 0, 0};
    static const struct {
        const char *name;
        espl_dtype dtype;
        const double *values;
    } files[] = {
        {"f4", ESPL_F32, real},       {"f8", ESPL_F64, real},   {"i1", ESPL_S8, sign},
        {"i2", ESPL_S16, sign},       {"i4", ESPL_S32, sign},   {"i8", ESPL_S64, sign},
        {"u1", ESPL_U8, uns},         {"u2", ESPL_U16, uns},    {"u4", ESPL_U32, uns},
        {"u8", ESPL_U64, uns},        {"b1", ESPL_BOOL, truth}, {"version2", ESPL_F32, real},
        {"version3", ESPL_F32, real},
    };
    for (size_t f = 0; f < ESPL_COUNT(files); f++) {
        espl_tensor t = read_good(fixture(files[f].name));
        assert_int_equal(t.dtype, files[f].dtype);
        assert_true(espl_shape_equal(&t.shape, &(espl_shape){2, {2, 3}}));
        for (int i = 0; i < 6; i++) assert_true(element(&t, i) == files[f].values[i]);
        espl_tensor_free(ctx, &t);
    }
    espl_tensor half = read_good(fixture("f2"));
    static const uint16_t codes[] = {0xbe00, 0x0000, 0x3400,
                                     0x4200, 0x7bff, 0x8200}; /* binary16 of the same values */
    assert_int_equal(half.dtype, ESPL_F16);
    assert_memory_equal(half.data, codes, sizeof codes);
    espl_tensor_free(ctx, &half);
    espl_tensor wide = read_good(fixture("wide_i8"));
    assert_true(((int64_t *)wide.data)[0] == (int64_t)1 << 62 && ((int64_t *)wide.data)[1] == INT64_MIN);
    espl_tensor_free(ctx, &wide);
}

static void test_shapes(void **state) {
    (void)state;
    static const struct {
        const char *name;
        espl_shape shape;
    } files[] = {
        {"scalar", {0, {0}}},   {"empty", {2, {0, 4}}},
        {"vector", {1, {5}}},   {"rank8", {8, {1, 2, 1, 1, 2, 1, 1, 1}}},
        {"order", {2, {2, 2}}},
    };
    for (size_t f = 0; f < ESPL_COUNT(files); f++) {
        espl_tensor t = read_good(fixture(files[f].name));
        assert_true(espl_shape_equal(&t.shape, &files[f].shape));
        for (int i = 0; f && i < espl_shape_count(&t.shape); i++) assert_true(element(&t, i) == i);
        if (f == 0) assert_true(element(&t, 0) == 2.5);
        espl_tensor_free(ctx, &t);
    }
}

static void test_refused(void **state) {
    (void)state;
    static const struct {
        const char *name;
        espl_status status;
        const char *part; /* of the sentence */
    } files[] = {
        {"bad_fortran", ESPL_UNSUPPORTED, "ascontiguousarray"},
        {"bad_big_endian", ESPL_UNSUPPORTED, "astype('<f4')"},
        {"bad_complex", ESPL_UNSUPPORTED, "'<c8'"},
        {"bad_record", ESPL_UNSUPPORTED, "records"},
        {"bad_object", ESPL_UNSUPPORTED, "'|O'"},
        {"bad_rank9", ESPL_UNSUPPORTED, "8 dimensions"},
        {"bad_overflow", ESPL_LIMIT, "too large"},
        {"bad_huge_dim", ESPL_FORMAT, "no dimension"},
        {"bad_negative", ESPL_FORMAT, "no dimension"},
        {"bad_claim", ESPL_FORMAT, "needs 1000000000000"},
        {"bad_long", ESPL_FORMAT, "holds 4 bytes"},
        {"bad_missing", ESPL_FORMAT, "dictionary"},
        {"bad_key", ESPL_FORMAT, "dictionary"},
        {"bad_tuple", ESPL_FORMAT, "tuple"},
        {"bad_tail", ESPL_FORMAT, "dictionary"},
        {"bad_version", ESPL_UNSUPPORTED, "version 4"},
        {"bad_magic", ESPL_FORMAT, "not a .npy"},
        {"bad_header_length", ESPL_LIMIT, "4294967295"},
        {"no_such_file", ESPL_IO, "No such file"},
    };
    for (size_t f = 0; f < ESPL_COUNT(files); f++) {
        espl_tensor t;
        espl_diag diag = {0};
        assert_int_equal(espl_npy_read(ctx, fixture(files[f].name), &t, &diag), files[f].status);
        assert_int_equal(diag.status, files[f].status);
        assert_null(t.data);
        if (!strstr(diag.message, files[f].part) || !strstr(diag.message, files[f].name))
            fail_msg("'%s' lacks '%s'", diag.message, files[f].part);
    }
    espl_tensor t;
    assert_int_equal(espl_npy_read(ctx, ESPL_SOURCE_DIR, &t, NULL), ESPL_IO);
}

static void write_bytes(const uint8_t *bytes, size_t length) {
    FILE *file = fopen(in_folder("x.npy"), "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, length, file), length);
    fclose(file);
}

/* Every cut and a few thousand damaged bytes: refused or read, never a crash, never a tensor that is not all
 * there. */
static void test_damaged(void **state) {
    (void)state;
    uint8_t *bytes;
    uint64_t length;
    espl_tensor t;
    assert_int_equal(espl__file_read(ctx, fixture("f4"), 0, &bytes, &length, NULL), ESPL_OK);
    for (size_t cut = 0; cut < length; cut++) {
        write_bytes(bytes, cut);
        assert_int_not_equal(espl_npy_read(ctx, in_folder("x.npy"), &t, NULL), ESPL_OK);
    }
    espl__rng rng = espl__rng_seed(1, 1);
    for (int round = 0; round < 3000; round++) {
        uint32_t at = espl__rng_below(&rng, (uint32_t)length);
        uint8_t old = bytes[at];
        bytes[at] = (uint8_t)espl__rng_u32(&rng);
        write_bytes(bytes, (size_t)length);
        if (espl_npy_read(ctx, in_folder("x.npy"), &t, NULL) == ESPL_OK) {
            assert_true(espl__tensor_bytes(&t) + 80 <= length);
            espl_tensor_free(ctx, &t);
        }
        bytes[at] = old;
    }
    espl__free(ctx, bytes);
}

/* What NumPy wrote in version 1 comes out byte for byte. */
static void test_write(void **state) {
    (void)state;
    static const char *const names[] = {"f4", "f8", "f2", "i1", "i2",     "i4",    "i8",     "u1",
                                        "u2", "u4", "u8", "b1", "scalar", "empty", "vector", "rank8"};
    for (size_t f = 0; f < ESPL_COUNT(names); f++) {
        uint8_t *ours, *theirs;
        uint64_t our_length, their_length;
        espl_tensor t = read_good(fixture(names[f]));
        assert_int_equal(espl_npy_write(ctx, in_folder("x.npy"), &t, NULL), ESPL_OK);
        assert_int_equal(espl__file_read(ctx, in_folder("x.npy"), 0, &ours, &our_length, NULL), ESPL_OK);
        assert_int_equal(espl__file_read(ctx, fixture(names[f]), 0, &theirs, &their_length, NULL), ESPL_OK);
        /* Lengths of headers may differ by NumPy's version (room to grow); the text before the spaces and the
         * elements not. */
        size_t bytes = espl__tensor_bytes(&t);
        assert_int_equal(our_length % 64, bytes % 64);
        assert_memory_equal(ours + our_length - bytes, theirs + their_length - bytes, bytes);
        const char *brace = strchr((char *)ours + 10, '}');
        assert_non_null(brace);
        assert_memory_equal(ours + 10, theirs + 10, (size_t)(brace - (char *)ours) - 9);
        espl_tensor again = read_good(in_folder("x.npy"));
        assert_true(espl_shape_equal(&again.shape, &t.shape));
        assert_int_equal(again.dtype, t.dtype);
        espl_tensor_free(ctx, &again);
        espl_tensor_free(ctx, &t);
        espl__free(ctx, ours);
        espl__free(ctx, theirs);
    }
}

static void test_write_refused(void **state) {
    (void)state;
    float x[4] = {0};
    espl_diag diag = {0};
    espl_tensor bf16 = {ESPL_BF16, {1, {4}}, x}, unknown = {ESPL_F32, {1, {ESPL_DIM_UNKNOWN}}, x};
    assert_int_equal(espl_npy_write(ctx, in_folder("x.npy"), &bf16, &diag), ESPL_UNSUPPORTED);
    assert_non_null(strstr(diag.message, "bf16"));
    assert_int_equal(espl_npy_write(ctx, in_folder("x.npy"), &unknown, NULL), ESPL_SHAPE);
    espl_tensor good = {ESPL_F32, {1, {4}}, x};
    assert_int_equal(espl_npy_write(ctx, "/nowhere/at/all.npy", &good, NULL), ESPL_IO);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_types),   cmocka_unit_test(test_shapes), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_damaged), cmocka_unit_test(test_write),  cmocka_unit_test(test_write_refused),
    };
    return cmocka_run_group_tests_name("npy", tests, setup, teardown);
}
