/* Pictures and archives against Pillow and NumPy (tests/oracle/make_data_fixtures.py), and damaged ones. */
#include "data_rig.h"

#include <math.h>
#include <zlib.h>

#include "data/bundle.h"

static const char *fixture(const char *name) {
    static char path[1024];
    snprintf(path, sizeof path, "%s/tests/fixtures/data/%s", ESPL_SOURCE_DIR, name);
    return path;
}

static uint8_t *load(const char *name, uint64_t *length) {
    uint8_t *bytes;
    espl_diag diag = {0};
    if (espl__file_read(ctx, fixture(name), 0, &bytes, length, &diag) != ESPL_OK)
        fail_msg("%s", diag.message);
    return bytes;
}

static espl_tensor load_array(const char *name) {
    espl_tensor t;
    espl_diag diag = {0};
    if (espl_npy_read(ctx, fixture(name), &t, &diag) != ESPL_OK) fail_msg("%s", diag.message);
    return t;
}

static espl_status decode(const uint8_t *bytes, uint64_t length, int channels, espl__picture *p,
                          espl_diag *diag) {
    return bytes[0] == 0xff ? espl__jpeg_decode(bytes, length, channels, p, diag)
                            : espl__png_decode(bytes, length, channels, p, diag);
}

/* `want` is height x width (x channels) of u8. */
static void compare(const char *name, const espl__picture *p, const espl_tensor *want) {
    int channels = want->shape.rank == 3 ? (int)want->shape.dim[2] : 1;
    assert_int_equal(p->height, want->shape.dim[0]);
    assert_int_equal(p->width, want->shape.dim[1]);
    assert_int_equal(p->channels, channels);
    int pixels = p->height * p->width;
    for (int i = 0; i < pixels; i++)
        for (int c = 0; c < channels; c++)
            if (p->data[c * pixels + i] != (float)((const uint8_t *)want->data)[i * channels + c])
                fail_msg("%s: pixel %d channel %d is %g", name, i, c, (double)p->data[c * pixels + i]);
}

static void test_decode(void **state) {
    (void)state;
    static const char *const names[] = {"colour.jpg", "progressive.jpg", "grey.jpg",       "rgb.png",
                                        "luma.png",   "palette.png",     "interlaced.png", "transparent.png"};
    espl__picture p = {.ctx = ctx};
    for (size_t i = 0; i < ESPL_COUNT(names); i++) {
        char array[64];
        uint64_t length;
        uint8_t *bytes = load(names[i], &length);
        snprintf(array, sizeof array, "%.*s.npy", (int)(strchr(names[i], '.') - names[i]), names[i]);
        espl_tensor want = load_array(array);
        espl_diag diag = {0};
        if (decode(bytes, length, 0, &p, &diag) != ESPL_OK) fail_msg("%s: %s", names[i], diag.message);
        compare(names[i], &p, &want);
        espl_tensor_free(ctx, &want);
        espl__free(ctx, bytes);
    }
    espl__picture_free(&p);
}

/* Grey asked to be colour is three equal planes; colour asked to be grey is within rounding of Pillow's luma.
 */
static void test_channels(void **state) {
    (void)state;
    static const struct {
        const char *file, *array;
        int channels;
    } cases[] = {{"grey.jpg", "grey.npy", 3},
                 {"luma.png", "luma.npy", 3},
                 {"rgb.png", "luma.npy", 1},
                 {"colour.jpg", "colour_luma.npy", 1}};
    espl__picture p = {.ctx = ctx};
    for (size_t i = 0; i < ESPL_COUNT(cases); i++) {
        uint64_t length;
        uint8_t *bytes = load(cases[i].file, &length);
        espl_tensor want = load_array(cases[i].array);
        assert_int_equal(decode(bytes, length, cases[i].channels, &p, NULL), ESPL_OK);
        assert_int_equal(p.channels, cases[i].channels);
        int pixels = p.height * p.width;
        double worst = 0;
        for (int c = 0; c < p.channels; c++)
            for (int j = 0; j < pixels; j++)
                worst = fmax(worst, fabs((double)p.data[c * pixels + j] - ((const uint8_t *)want.data)[j]));
        assert_true(worst <= (i == 2 ? 1 : 0)); /* the luma of a PNG is computed here and there */
        espl_tensor_free(ctx, &want);
        espl__free(ctx, bytes);
    }
    espl__picture_free(&p);
}

static void test_resize(void **state) {
    (void)state;
    static const struct {
        int side;
        const char *array;
    } cases[] = {{8, "resize8.npy"}, {17, "resize17.npy"}, {30, "resize30.npy"}};
    espl__picture p = {.ctx = ctx}, temporary = {.ctx = ctx};
    uint64_t length;
    uint8_t *bytes = load("rgb.png", &length);
    for (size_t i = 0; i < ESPL_COUNT(cases); i++) {
        espl_tensor want = load_array(cases[i].array);
        assert_int_equal(decode(bytes, length, 0, &p, NULL), ESPL_OK);
        assert_int_equal(espl__picture_resize(&p, &temporary, cases[i].side, NULL), ESPL_OK);
        assert_true(espl_shape_equal(&want.shape, &(espl_shape){3, {p.channels, p.height, p.width}}));
        for (int64_t j = 0; j < espl_shape_count(&want.shape); j++)
            assert_true(fabs((double)p.data[j] - (double)((const float *)want.data)[j]) < 1e-4);
        espl_tensor_free(ctx, &want);
    }
    espl__free(ctx, bytes);
    espl__picture_free(&p);
    espl__picture_free(&temporary);
}

static void test_crop(void **state) {
    (void)state;
    espl__picture p = {.ctx = ctx};
    assert_int_equal(espl__picture_size(&p, 2, 5, 7, NULL), ESPL_OK);
    for (int i = 0; i < 2 * 5 * 7; i++) p.data[i] = (float)i;
    assert_int_equal(espl__picture_crop(&p, 4, NULL), ESPL_OK);
    for (int c = 0, i = 0; c < 2; c++)
        for (int y = 0; y < 4; y++)
            for (int x = 0; x < 4; x++)
                assert_true(p.data[i++] == (float)(c * 35 + y * 7 + x + 1)); /* top 0, left 1 */
    espl_diag diag = {0};
    assert_int_equal(espl__picture_crop(&p, 5, &diag), ESPL_SHAPE);
    assert_non_null(strstr(diag.message, "resize"));
    espl__picture_free(&p);
}

/* --- limits and damage ---------------------------------------------------------------------------- */

static void test_limits(void **state) {
    (void)state;
    espl__picture p = {.ctx = ctx};
    uint64_t length;
    espl_diag diag = {0};
    uint8_t *jpeg = load("colour.jpg", &length);
    for (size_t i = 0; i + 8 < length; i++)
        if (jpeg[i] == 0xff && jpeg[i + 1] == 0xc0) memset(jpeg + i + 5, 0xf0, 4); /* 61680 x 61680 */
    assert_int_equal(decode(jpeg, length, 0, &p, &diag), ESPL_LIMIT);
    assert_non_null(strstr(diag.message, "61680"));
    espl__free(ctx, jpeg);

    uint8_t *png = load("rgb.png", &length);
    png[16] = png[20] = 0;
    png[18] = png[22] = 0x30; /* 12288-odd squared: each side allowed, the product not */
    uint32_t crc = (uint32_t)crc32(0, png + 12, 17);
    for (int i = 0; i < 4; i++) png[29 + i] = (uint8_t)(crc >> (24 - 8 * i));
    assert_int_equal(decode(png, length, 0, &p, NULL), ESPL_LIMIT);
    espl__free(ctx, png);

    uint8_t *cmyk = load("cmyk.jpg", &length);
    assert_int_equal(decode(cmyk, length, 0, &p, NULL), ESPL_UNSUPPORTED);
    espl__free(ctx, cmyk);
    assert_int_equal(espl__picture_size(&p, 3, 0, 5, NULL), ESPL_LIMIT);
    assert_int_equal(espl__picture_size(&p, 3, 16384, 16384, NULL), ESPL_LIMIT);
    espl__picture_free(&p);
}

/* A cut file is refused, wherever the cut; a damaged one gives a picture or a sentence. */
static void test_damaged_pictures(void **state) {
    (void)state;
    static const char *const names[] = {"colour.jpg", "progressive.jpg", "rgb.png", "palette.png",
                                        "interlaced.png"};
    espl__picture p = {.ctx = ctx};
    espl__rng rng = espl__rng_seed(2, 1);
    for (size_t n = 0; n < ESPL_COUNT(names); n++) {
        uint64_t length;
        uint8_t *bytes = load(names[n], &length);
        bool jpeg = bytes[0] == 0xff;
        for (uint64_t cut = 4; cut < length; cut += 1 + length / 200) {
            uint8_t *part = malloc(cut); /* exactly so many bytes: a sanitizer sees one more being read */
            memcpy(part, bytes, cut);
            espl_status status = decode(part, cut, 0, &p, NULL);
            /* Without its last two bytes (the end marker) a JPEG is still whole. */
            if (!jpeg || cut + 2 < length) assert_int_not_equal(status, ESPL_OK);
            free(part);
        }
        for (int round = 0; round < 400; round++) {
            uint32_t at = 4 + espl__rng_below(&rng, (uint32_t)length - 4);
            uint8_t old = bytes[at];
            espl_diag diag = {0};
            bytes[at] = (uint8_t)espl__rng_u32(&rng);
            espl_status status = decode(bytes, length, 0, &p, &diag);
            assert_true(status == ESPL_OK || diag.message[0]);
            bytes[at] = old;
        }
        espl__free(ctx, bytes);
    }
    espl__picture_free(&p);
}

/* --- bundles --------------------------------------------------------------------------------------- */

static void test_bundles(void **state) {
    (void)state;
    static const char *const names[] = {"classes.tar", "classes.tar.gz", "classes_gnu.tar"};
    for (size_t i = 0; i < ESPL_COUNT(names); i++) {
        espl__bundle b;
        espl_diag diag = {0};
        if (espl__bundle_open(ctx, fixture(names[i]), &b, &diag) != ESPL_OK) fail_msg("%s", diag.message);
        assert_int_equal(b.count, 8); /* the folder is no member */
        assert_int_equal(b.form, i == 1 ? ESPL__BUNDLE_COMPRESSED : ESPL__BUNDLE_TAR);
        for (int64_t m = 1; m < b.count; m++)
            assert_true(strcmp(b.members[m - 1].name, b.members[m].name) < 0);
        espl__member *cat = espl__bundle_find(&b, "train/cat/0002.png");
        assert_non_null(cat);
        assert_null(espl__bundle_find(&b, "train/cat/0003.png"));
        cat->wanted = true;
        const uint8_t *bytes;
        assert_int_equal(espl__bundle_keep(&b, NULL), ESPL_OK);
        if (espl__bundle_read(&b, cat, &bytes, &diag) != ESPL_OK) fail_msg("%s", diag.message);
        assert_memory_equal(bytes, "\x89PNG", 4);
        espl__bundle_close(&b);
    }
}

/* The bytes of a plain tar's members are those of the same members in the compressed one. */
static void test_offsets(void **state) {
    (void)state;
    static const char *const plain[] = {"classes.tar", "classes_gnu.tar"};
    espl__bundle gz;
    assert_int_equal(espl__bundle_open(ctx, fixture("classes.tar.gz"), &gz, NULL), ESPL_OK);
    for (int64_t m = 0; m < gz.count; m++) gz.members[m].wanted = true;
    assert_int_equal(espl__bundle_keep(&gz, NULL), ESPL_OK);
    for (size_t i = 0; i < ESPL_COUNT(plain); i++) {
        espl__bundle tar;
        assert_int_equal(espl__bundle_open(ctx, fixture(plain[i]), &tar, NULL), ESPL_OK);
        assert_int_equal(tar.count, gz.count);
        for (int64_t m = 0; m < gz.count; m++) {
            const uint8_t *a, *b;
            assert_string_equal(gz.members[m].name, tar.members[m].name);
            assert_int_equal(gz.members[m].size, tar.members[m].size);
            assert_int_equal(espl__bundle_read(&gz, &gz.members[m], &a, NULL), ESPL_OK);
            assert_int_equal(espl__bundle_read(&tar, &tar.members[m], &b, NULL), ESPL_OK);
            assert_memory_equal(a, b, gz.members[m].size);
        }
        espl__bundle_close(&tar);
    }
    espl__bundle_close(&gz);
}

static void read_all(const char *path) {
    espl__bundle b;
    const uint8_t *bytes;
    if (espl__bundle_open(ctx, path, &b, NULL) == ESPL_OK) {
        for (int64_t m = 0; m < b.count; m++) b.members[m].wanted = true;
        if (espl__bundle_keep(&b, NULL) == ESPL_OK)
            for (int64_t m = 0; m < b.count; m++)
                if (espl__bundle_read(&b, &b.members[m], &bytes, NULL) == ESPL_OK && b.members[m].size)
                    assert_true(bytes[0] + bytes[b.members[m].size - 1] >= 0);
    }
    espl__bundle_close(&b);
}

static void test_damaged_bundles(void **state) {
    (void)state;
    static const char *const names[] = {"listed.tar", "listed.tar.gz", "classes.tar", "classes.tar.gz"};
    espl__rng rng = espl__rng_seed(3, 1);
    for (size_t n = 0; n < ESPL_COUNT(names); n++) {
        uint64_t length;
        uint8_t *bytes = load(names[n], &length);
        for (int round = 0; round < 300; round++) {
            uint32_t at = espl__rng_below(&rng, (uint32_t)length);
            uint8_t old = bytes[at];
            uint64_t kept = round % 3 ? length : espl__rng_below(&rng, (uint32_t)length);
            bytes[at] = (uint8_t)espl__rng_u32(&rng);
            FILE *file = fopen(in_folder("x.bin"), "wb");
            assert_non_null(file);
            assert_int_equal(fwrite(bytes, 1, kept, file), kept);
            fclose(file);
            read_all(in_folder("x.bin"));
            bytes[at] = old;
        }
        espl__free(ctx, bytes);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decode),          cmocka_unit_test(test_channels),
        cmocka_unit_test(test_resize),          cmocka_unit_test(test_crop),
        cmocka_unit_test(test_limits),          cmocka_unit_test(test_damaged_pictures),
        cmocka_unit_test(test_bundles),         cmocka_unit_test(test_offsets),
        cmocka_unit_test(test_damaged_bundles),
    };
    return cmocka_run_group_tests_name("images", tests, setup, teardown);
}
