/* Floor 1: shapes, the lists of types and formats, packed codes, rounding and requantization. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>

#include "tensor/tensor.h"

/* --- shapes ------------------------------------------------------------------------------ */

static espl_shape shape_of(const char *text) {
    espl_shape shape;
    assert_true(espl_shape_parse(text, &shape));
    return shape;
}

static void shapes_are_parsed_and_printed(void **state) {
    (void)state;
    static const char *const good[] = {"", "1", "0", "1x3x224x224", "1x2x3x4x5x6x7x8", "2147483647x2147483647"};
    char text[64];
    for (size_t i = 0; i < ESPL_COUNT(good); i++) {
        espl_shape shape = shape_of(good[i]);
        assert_string_equal(espl_shape_text(&shape, text, sizeof text), good[i]);
    }
    espl_shape shape = shape_of("1x3x224x224");
    assert_int_equal(shape.rank, 4);
    assert_int_equal(shape.dim[0], 1);
    assert_int_equal(shape.dim[1], 3);
    assert_int_equal(shape.dim[2], 224);
    shape.dim[0] = ESPL_DIM_UNKNOWN;
    assert_string_equal(espl_shape_text(&shape, text, sizeof text), "?x3x224x224");
}

static void malformed_shapes_are_refused(void **state) {
    (void)state;
    static const char *const bad[] = {"x",   "1x",   "x1",  "1xx2",  "-1",   "1x-2", "1 x2", " 1",
                                      "1,2", "1.5",  "1X2", "a",     "1x2a", "+1",   "0x",   "1x2x",
                                      "1x2x3x4x5x6x7x8x9", "99999999999999999999", "1x99999999999999999999999"};
    for (size_t i = 0; i < ESPL_COUNT(bad); i++) {
        espl_shape shape;
        if (espl_shape_parse(bad[i], &shape)) fail_msg("'%s' was taken for a shape", bad[i]);
    }
}

static void printing_a_shape_never_overruns(void **state) {
    (void)state;
    espl_shape shape = shape_of("1000x2000x3000x4000x5000x6000x7000x8000");
    for (size_t size = 1; size < 50; size++) {
        char text[64];
        memset(text, '#', sizeof text);
        espl_shape_text(&shape, text, size);
        assert_true(memchr(text, 0, size) != NULL);
        for (size_t i = size; i < sizeof text; i++) assert_int_equal(text[i], '#');
    }
}

static void counts_do_not_overflow(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int64_t count;
    } cases[] = {
        {"", 1},
        {"0", 0},
        {"7", 7},
        {"1x3x224x224", 150528},
        {"5x0x7", 0},
        {"2147483647x0x30", 0},
        {"2147483647x0x2147483647x2147483647", ESPL_DIM_UNKNOWN}, /* products of parts of it would overflow */
        {"2147483647x2147483647x2147483647", ESPL_DIM_UNKNOWN},
        {"65536x65536x65536x65536", ESPL_DIM_UNKNOWN},
    };
    for (size_t i = 0; i < ESPL_COUNT(cases); i++) {
        espl_shape shape = shape_of(cases[i].text);
        assert_int_equal(espl_shape_count(&shape), cases[i].count);
    }
    espl_shape unknown = {2, {3, ESPL_DIM_UNKNOWN}};
    assert_int_equal(espl_shape_count(&unknown), ESPL_DIM_UNKNOWN);
    espl_shape a = shape_of("2x3"), b = shape_of("2x3"), c = shape_of("2x3x1"), d = shape_of("3x2");
    assert_true(espl_shape_equal(&a, &b));
    assert_false(espl_shape_equal(&a, &c));
    assert_false(espl_shape_equal(&a, &d));
}

static void tensors_are_allocated_whole_or_not_at_all(void **state) {
    (void)state;
    espl_context *ctx;
    espl_config config = {.threads = 1, .max_alloc = 1 << 20};
    assert_int_equal(espl_context_create(&config, &ctx, NULL), ESPL_OK);
    uint64_t before = espl_context_memory(ctx, NULL);
    espl_tensor t;
    espl_shape shape = shape_of("3x5");
    assert_int_equal(espl_tensor_alloc(ctx, ESPL_F64, &shape, &t, NULL), ESPL_OK);
    assert_int_equal(espl__tensor_bytes(&t), 120);
    assert_int_equal(espl_context_memory(ctx, NULL), before + 120);
    espl_tensor_free(ctx, &t);
    assert_null(t.data);
    assert_int_equal(espl_context_memory(ctx, NULL), before);
    espl_diag diag = {0};
    shape = shape_of("1024x1024");
    assert_int_equal(espl_tensor_alloc(ctx, ESPL_F32, &shape, &t, &diag), ESPL_LIMIT);
    assert_null(t.data);
    diag = (espl_diag){0};
    shape = shape_of("2147483647x2147483647x2147483647");
    assert_int_equal(espl_tensor_alloc(ctx, ESPL_F32, &shape, &t, &diag), ESPL_LIMIT);
    assert_non_null(strstr(diag.message, "2147483647x2147483647x2147483647"));
    shape = shape_of("0");
    assert_int_equal(espl_tensor_alloc(ctx, ESPL_F32, &shape, &t, NULL), ESPL_OK);
    assert_non_null(t.data);
    espl_tensor_free(ctx, &t);
    espl_context_destroy(&ctx);
}

/* --- lists ------------------------------------------------------------------------------- */

/* Numbers of TensorProto.DataType in ONNX's onnx.proto3. */
static void element_types_match_onnx(void **state) {
    (void)state;
    static const struct {
        int onnx;
        const char *name;
        size_t bytes;
        bool is_float;
    } types[] = {{1, "f32", 4, true},  {2, "u8", 1, false},  {3, "s8", 1, false},    {4, "u16", 2, false},
                 {5, "s16", 2, false}, {6, "s32", 4, false}, {7, "s64", 8, false},   {9, "bool", 1, false},
                 {10, "f16", 2, true}, {11, "f64", 8, true}, {12, "u32", 4, false},  {13, "u64", 8, false},
                 {16, "bf16", 2, true}, {17, "e4m3", 1, true}, {19, "e5m2", 1, true}, {21, "u4", 1, false},
                 {22, "s4", 1, false}, {8, "string", 16, false}};
    assert_int_equal(ESPL_COUNT(types), ESPL_DTYPE_COUNT);
    for (size_t i = 0; i < ESPL_COUNT(types); i++) {
        espl_dtype dtype;
        assert_true(espl__dtype_from_onnx(types[i].onnx, &dtype));
        assert_string_equal(espl_dtype_name(dtype), types[i].name);
        assert_int_equal(espl_dtype_bytes(dtype), types[i].bytes);
        assert_int_equal(espl_dtype_is_float(dtype), types[i].is_float);
        assert_int_equal(espl__dtype_onnx(dtype), types[i].onnx);
    }
    espl_dtype none;
    assert_false(espl__dtype_from_onnx(0, &none)); /* UNDEFINED */
    assert_false(espl__dtype_from_onnx(14, &none)); /* COMPLEX64 */
    assert_false(espl__dtype_from_onnx(-1, &none));
    assert_false(espl__dtype_from_onnx(1 + ((int64_t)1 << 32), &none));
    assert_string_equal(espl_dtype_name((espl_dtype)999), "?");
}

static void names_of_patterns_and_formats_are_found_again(void **state) {
    (void)state;
    for (int i = 0; i < ESPL_FORMAT_COUNT; i++) {
        espl_format format;
        assert_true(espl_format_parse(espl_format_name((espl_format)i), &format));
        assert_int_equal(format, i);
    }
    for (int i = 0; i < ESPL_PATTERN_COUNT; i++) {
        espl_pattern pattern;
        assert_true(espl_pattern_parse(espl_pattern_name((espl_pattern)i), &pattern));
        assert_int_equal(pattern, i);
    }
    espl_format format;
    espl_pattern pattern;
    assert_false(espl_format_parse("s9", &format));
    assert_false(espl_format_parse("", &format));
    assert_false(espl_format_parse("S8", &format));
    assert_false(espl_pattern_parse("?", &pattern));
    assert_string_equal(espl_coding_name(ESPL_CODING_PACKED), "packed");
    assert_string_equal(espl_format_name((espl_format)999), "?");
}

static void formats_have_their_ranges(void **state) {
    (void)state;
    static const struct {
        espl_format format;
        int bits, lo, hi;
    } formats[] = {{ESPL_FORMAT_U8, 8, 0, 255}, {ESPL_FORMAT_S8, 8, -127, 127}, {ESPL_FORMAT_S7, 7, -64, 63},
                   {ESPL_FORMAT_S6, 6, -32, 31}, {ESPL_FORMAT_S5, 5, -16, 15}, {ESPL_FORMAT_S4, 4, -8, 7},
                   {ESPL_FORMAT_S3, 3, -4, 3},  {ESPL_FORMAT_S2, 2, -2, 1}};
    for (size_t i = 0; i < ESPL_COUNT(formats); i++) {
        int32_t lo, hi;
        espl__format_range(formats[i].format, &lo, &hi);
        assert_int_equal(lo, formats[i].lo);
        assert_int_equal(hi, formats[i].hi);
        assert_int_equal(espl_format_bits(formats[i].format), formats[i].bits);
    }
}

/* --- packed codes ------------------------------------------------------------------------ */

/* All lengths up to 40, all codes at every position of a byte; the byte after the last must stay untouched. */
static void codes_survive_packing_at_every_width(void **state) {
    (void)state;
    for (int bits = 1; bits <= 8; bits++) {
        int lo = -(1 << (bits - 1)), span = 1 << bits;
        for (int64_t count = 0; count <= 40; count++)
            for (int first = 0; first < span; first++) {
                int8_t codes[40], back[41];
                uint8_t packed[41];
                size_t bytes = espl__codes_bytes(count, bits);
                assert_int_equal(bytes, (count * bits + 7) / 8);
                for (int64_t i = 0; i < count; i++) codes[i] = (int8_t)(lo + (first + 5 * i) % span);
                memset(packed, 0xA5, sizeof packed);
                espl__codes_pack(codes, count, bits, packed);
                assert_int_equal(packed[bytes], 0xA5);
                memset(back, 0x5A, sizeof back);
                espl__codes_unpack(packed, count, bits, back);
                assert_memory_equal(back, codes, (size_t)count);
                assert_int_equal(back[count], 0x5A);
            }
    }
}

/* The layout docs/format.md promises, worked out by hand: least significant bit first, no gaps, zero at the end. */
static void packed_layout_is_as_documented(void **state) {
    (void)state;
    uint8_t out[4];
    static const int8_t three[] = {1, -1, 2, -4, 3}; /* 001 111 010 100 011 */
    espl__codes_pack(three, 5, 3, out);
    assert_int_equal(out[0], 0xB9); /* 10 111 001 */
    assert_int_equal(out[1], 0x38); /* 0 011 100 0 */
    static const int8_t four[] = {-8, 7, -1};
    espl__codes_pack(four, 3, 4, out);
    assert_int_equal(out[0], 0x78);
    assert_int_equal(out[1], 0x0F);
    static const int8_t eight[] = {-128, 127};
    espl__codes_pack(eight, 2, 8, out);
    assert_int_equal(out[0], 0x80);
    assert_int_equal(out[1], 0x7F);
}

/* --- rounding ---------------------------------------------------------------------------- */

static void rounding_is_to_nearest_even(void **state) {
    (void)state;
    static const struct {
        float x;
        int rounded;
    } ties[] = {{0.5f, 0}, {1.5f, 2}, {2.5f, 2}, {-0.5f, 0}, {-1.5f, -2}, {-2.5f, -2}, {126.5f, 126}, {127.5f, 128}};
    for (size_t i = 0; i < ESPL_COUNT(ties); i++) assert_int_equal(espl__rne(ties[i].x), ties[i].rounded);
    /* Against the C library: every multiple of 1/64 up to 2^15 with its neighbours, then random bits. */
    for (int i = -(1 << 21); i <= 1 << 21; i++) {
        float x = (float)i / 64.0f, up = nextafterf(x, INFINITY), down = nextafterf(x, -INFINITY);
        if (espl__rne(x) != (int32_t)nearbyintf(x) || espl__rne(up) != (int32_t)nearbyintf(up) ||
            espl__rne(down) != (int32_t)nearbyintf(down))
            fail_msg("near %.9g", (double)x);
    }
    espl__rng rng = espl__rng_seed(1, 2);
    for (int i = 0; i < 5000000; i++) {
        uint32_t bits = espl__rng_u32(&rng);
        float x;
        memcpy(&x, &bits, sizeof x);
        if (!(fabsf(x) < 4194304.0f)) continue;
        if (espl__rne(x) != (int32_t)nearbyintf(x)) fail_msg("%.9g", (double)x);
    }
}

/* The definition in double arithmetic: clamp(rne(x) + zero, lo, hi). */
static int32_t requantize_by_definition(float x, int32_t zero, int32_t lo, int32_t hi) {
    if (isnan(x)) return lo;
    double q = nearbyint((double)x) + zero;
    return q < lo ? lo : q > hi ? hi : (int32_t)q;
}

static void requantization_clamps_everything(void **state) {
    (void)state;
    static const int32_t grids[][3] = {{0, -127, 127}, {0, 0, 255}, {128, 0, 255}, {255, 0, 255}, {-128, -128, 127},
                                       {127, -128, 127}, {3, 3, 255}, {10, 10, 73}};
    static const float extremes[] = {0.0f,      -0.0f,     1e-45f,   -1e-45f,  1e10f,    -1e10f,
                                     3.4e38f,   -3.4e38f,  INFINITY, -INFINITY, NAN,      -NAN,     1023.5f,
                                     -1023.5f,  1024.0f,   -1024.0f, 1024.5f,  2147483648.0f, -2147483648.0f,
                                     8388608.0f, -8388608.0f, 127.5f, -127.5f, 255.5f,    254.5f};
    espl__rng rng = espl__rng_seed(9, 9);
    for (size_t g = 0; g < ESPL_COUNT(grids); g++) {
        int32_t zero = grids[g][0], lo = grids[g][1], hi = grids[g][2];
        for (size_t i = 0; i < ESPL_COUNT(extremes); i++)
            if (espl__requantize(extremes[i], zero, lo, hi) != requantize_by_definition(extremes[i], zero, lo, hi))
                fail_msg("requantize(%g) on grid %d", (double)extremes[i], (int)g);
        for (int i = 0; i < 500000; i++) {
            uint32_t bits = espl__rng_u32(&rng);
            float x;
            memcpy(&x, &bits, sizeof x);
            if (i & 1) x = (espl__rng_float(&rng) - 0.5f) * 1000.0f;
            if (espl__requantize(x, zero, lo, hi) != requantize_by_definition(x, zero, lo, hi))
                fail_msg("requantize(%.9g) on grid %d", (double)x, (int)g);
        }
    }
}

static void patterns_are_read_and_written(void **state) {
    (void)state;
    static const struct {
        const char *text, *again; /* again NULL: refused */
        espl_sparsity is;
    } rows[] = {
        {"dense", "dense", {0}},
        {"2:4", "2:4", {.pattern = ESPL_PATTERN_NM, .n = 2, .m = 4}},
        {"nm 1:4", "1:4", {.pattern = ESPL_PATTERN_NM, .n = 1, .m = 4}},
        {"bank 3:16", "bank 3:16", {.pattern = ESPL_PATTERN_BANK, .n = 3, .m = 16}},
        {"unstructured 90%", "unstructured 90%", {.pattern = ESPL_PATTERN_UNSTRUCTURED, .share = 0.9f}},
        {"unstructured 33.25% global", "unstructured 33.25% global",
         {.pattern = ESPL_PATTERN_UNSTRUCTURED, .share = 0.3325f, .global = true}},
        {"block 4x8 80%", "block 4x8 80%", {.pattern = ESPL_PATTERN_BLOCK, .rows = 4, .columns = 8, .share = 0.8f}},
        {"row 0%", "row 0%", {.pattern = ESPL_PATTERN_ROW}},
        {"column 100%", "column 100%", {.pattern = ESPL_PATTERN_COLUMN, .share = 1}},
        {"kernel .5%", "kernel 0.5%", {.pattern = ESPL_PATTERN_KERNEL, .share = 0.005f}},
        {"bank 16:2", NULL, {0}},         {"4:4", NULL, {0}},         {"bank 0:4", NULL, {0}},
        {"bank 2:99999", NULL, {0}},      {"bank", NULL, {0}},        {"2:4 ", NULL, {0}},
        {"unstructured 101%", NULL, {0}}, {"unstructured 90", NULL, {0}}, {"unstructured -1%", NULL, {0}},
        {"unstructured 1.2.3%", NULL, {0}}, {"unstructured %", NULL, {0}}, {"unstructured 9% all", NULL, {0}},
        {"row 90% global", NULL, {0}},    {"block 4 80%", NULL, {0}}, {"block 4x4", NULL, {0}},
        {"dense 5%", NULL, {0}},          {"stripes", NULL, {0}},     {"", NULL, {0}},
    };
    for (size_t i = 0; i < ESPL_COUNT(rows); i++) {
        espl_sparsity s = {.n = -7};
        char text[ESPL_SPARSITY_TEXT];
        if (espl_sparsity_parse(rows[i].text, &s) != (rows[i].again != NULL)) fail_msg("'%s'", rows[i].text);
        if (!rows[i].again) continue;
        assert_string_equal(espl_sparsity_text(&s, text, sizeof text), rows[i].again);
        assert_true(espl_sparsity_equal(&s, &rows[i].is));
        if (i) assert_false(espl_sparsity_equal(&s, &rows[0].is));
    }
    char forms[ESPL_SPARSITY_FORMS];
    assert_string_equal(espl_sparsity_forms(forms, sizeof forms),
                        "dense, unstructured P% [global], N:M, bank N:M, block RxC P%, row P%, column P%, kernel P%");
    assert_true(espl_sparsity_equal(&(espl_sparsity){.pattern = ESPL_PATTERN_NM, .n = 2, .m = 4},
                                    &(espl_sparsity){.pattern = ESPL_PATTERN_BANK, .n = 2, .m = 4}));
}

/* --- 16-bit floats ------------------------------------------------------------------------ */

/* From numpy's float16. */
static void halves_are_rounded_to_nearest_even(void **state) {
    (void)state;
    static const struct {
        float x;
        uint16_t half;
    } cases[] = {
        {1.0f, 0x3c00},           {-2.5f, 0xc100},          {65504.0f, 0x7bff},
        {65519.9f, 0x7bff},       {65520.0f, 0x7c00},       {6.1035156e-05f, 0x0400},
        {5.9604645e-08f, 0x0001}, {2.9802322e-08f, 0x0000}, {2.9802326e-08f, 0x0001},
        {1.00048828125f, 0x3c00}, {1.00146484375f, 0x3c02}, {0.1f, 0x2e66},
        {-0.0f, 0x8000},
    };
    for (size_t i = 0; i < ESPL_COUNT(cases); i++)
        assert_int_equal(espl__half_from_float(cases[i].x), cases[i].half);
    for (uint32_t h = 0; h < 0x10000; h++) {
        float half = espl__half_to_float((uint16_t)h), b = espl__bfloat_to_float((uint16_t)h);
        if (isnan(half))
            assert_true(isnan(espl__half_to_float(espl__half_from_float(half))));
        else
            assert_int_equal(espl__half_from_float(half), h);
        if (isnan(b))
            assert_true(isnan(espl__bfloat_to_float(espl__bfloat_from_float(b))));
        else
            assert_int_equal(espl__bfloat_from_float(b), h);
    }
    assert_int_equal(espl__bfloat_from_float(0x1.01p0f), 0x3f80);
    assert_int_equal(espl__bfloat_from_float(0x1.03p0f), 0x3f82);
}

static uint32_t crc_step(uint32_t crc, const void *bytes, size_t n) {
    for (size_t i = 0; i < n; i++) {
        crc ^= ((const uint8_t *)bytes)[i];
        for (int k = 0; k < 8; k++) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0);
    }
    return crc;
}

/* All codes, and a million numbers of all sizes, against numpy and PyTorch: tests/oracle/make_half_fixture.py. */
static void halves_are_those_of_numpy(void **state) {
    (void)state;
    uint32_t widened = ~0u, rounded = ~0u, bf_widened = ~0u, bf_rounded = ~0u;
    for (uint32_t h = 0; h < 0x10000; h++) {
        float half = espl__half_to_float((uint16_t)h), b = espl__bfloat_to_float((uint16_t)h);
        half = isnan(half) ? 0 : half;
        b = isnan(b) ? 0 : b;
        widened = crc_step(widened, &half, 4);
        bf_widened = crc_step(bf_widened, &b, 4);
    }
    for (uint32_t i = 0; i < 1u << 20; i++) {
        uint32_t bits = i * 4099u;
        float x;
        memcpy(&x, &bits, 4);
        uint16_t half = isnan(x) ? 0 : espl__half_from_float(x), b = isnan(x) ? 0 : espl__bfloat_from_float(x);
        rounded = crc_step(rounded, &half, 2);
        bf_rounded = crc_step(bf_rounded, &b, 2);
    }
    assert_int_equal(~widened, 0xef9d25e2);
    assert_int_equal(~rounded, 0x71d86d1a);
    assert_int_equal(~bf_widened, 0xb6ca4a2a);
    assert_int_equal(~bf_rounded, 0xa1173b80);
}

/* Between any two neighbours: half way goes to the even one, the next number on either side to the nearer one. */
static void ties_go_to_even(float (*widen)(uint16_t), uint16_t (*rounding)(float), uint16_t infinity, double beyond) {
    for (uint32_t h = 0; h < infinity; h++) {
        double a = (double)widen((uint16_t)h), b = h + 1 == infinity ? beyond : (double)widen((uint16_t)(h + 1));
        float middle = (float)((a + b) / 2);
        uint16_t even = (uint16_t)(h & 1 ? h + 1 : h);
        assert_int_equal(rounding(middle), even);
        assert_int_equal(rounding(-middle), even | 0x8000);
        assert_int_equal(rounding(nextafterf(middle, 0)), h);
        assert_int_equal(rounding(nextafterf(middle, INFINITY)), h + 1);
    }
    assert_int_equal(rounding(INFINITY), infinity);
    assert_int_equal(rounding(-INFINITY), infinity | 0x8000);
    assert_int_equal(rounding(3.4028235e38f), infinity);
    assert_true(isnan(widen(rounding(NAN))));
}

static void every_tie_goes_to_even(void **state) {
    (void)state;
    ties_go_to_even(espl__half_to_float, espl__half_from_float, 0x7c00, 0x1p16);
    ties_go_to_even(espl__bfloat_to_float, espl__bfloat_from_float, 0x7f80, 0x1p128);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(shapes_are_parsed_and_printed),
        cmocka_unit_test(malformed_shapes_are_refused),
        cmocka_unit_test(printing_a_shape_never_overruns),
        cmocka_unit_test(counts_do_not_overflow),
        cmocka_unit_test(tensors_are_allocated_whole_or_not_at_all),
        cmocka_unit_test(element_types_match_onnx),
        cmocka_unit_test(names_of_patterns_and_formats_are_found_again),
        cmocka_unit_test(patterns_are_read_and_written),
        cmocka_unit_test(formats_have_their_ranges),
        cmocka_unit_test(codes_survive_packing_at_every_width),
        cmocka_unit_test(packed_layout_is_as_documented),
        cmocka_unit_test(rounding_is_to_nearest_even),
        cmocka_unit_test(requantization_clamps_everything),
        cmocka_unit_test(halves_are_rounded_to_nearest_even),
        cmocka_unit_test(halves_are_those_of_numpy),
        cmocka_unit_test(every_tie_goes_to_even),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
