/* Data sets as descriptions give them: every kind, every key, and the sentences for what is wrong. */
#include "data_rig.h"

#include <math.h>
#include <sys/stat.h>
#include <zlib.h>

#include "data/digits.h"

static void write_gz(const char *name, const void *bytes, size_t length) {
    gzFile file = gzopen(in_folder(name), "wb1");
    assert_non_null(file);
    assert_int_equal(gzwrite(file, bytes, (unsigned)length), length);
    gzclose(file);
}

static const float *read_sample(espl_dataset *d, int input, int64_t index) {
    static float sample[1 << 19];
    espl_shape shape = espl_dataset_shape(d, input);
    espl_diag diag = {0};
    assert_in_range(espl_shape_count(&shape), 0, ESPL_COUNT(sample));
    if (espl_dataset_read(d, input, index, sample, &diag) != ESPL_OK) fail_msg("%s", diag.message);
    return sample;
}

static int64_t label_of(espl_dataset *d, int64_t index) {
    int64_t label;
    assert_int_equal(espl_dataset_label(d, index, &label, NULL), ESPL_OK);
    return label;
}

static bool has_shape(const espl_dataset *d, const char *text) {
    char buf[128];
    espl_shape shape = espl_dataset_shape(d, 0);
    return strcmp(espl_shape_text(&shape, buf, sizeof buf), text) == 0;
}

/* --- idx and cifar-bin: bytes written here -------------------------------------------------------- */

/* Four images of 2 x 3: pixel p of image i is 10 i + p. */
static const uint8_t idx_images[] = {0,  0,  8,  3,  0,  0,  0,  4,  0,  0,  0,  2,  0,  0,
                                     0,  3,  0,  1,  2,  3,  4,  5,  10, 11, 12, 13, 14, 15,
                                     20, 21, 22, 23, 24, 25, 30, 31, 32, 33, 34, 35};
static const uint8_t idx_labels[] = {0, 0, 8, 1, 0, 0, 0, 4, 7, 8, 9, 5};

static void test_idx(void **state) {
    (void)state;
    write_gz("images.gz", idx_images, sizeof idx_images);
    write_file("labels", idx_labels, sizeof idx_labels);
    espl_dataset *d = open_text("kind: idx\npath: images.gz\nlabels: labels\nlabel_offset: 2\n");
    assert_int_equal(espl_dataset_count(d), 4);
    assert_true(espl_dataset_has_labels(d) && has_shape(d, "1x2x3"));
    assert_int_equal(espl_dataset_inputs(d), 1);
    assert_string_equal(espl_dataset_input_name(d, 0), "");
    assert_string_equal(espl_dataset_describe(d), "idx images.gz, 4 samples of 1x2x3");
    for (int i = 0; i < 4; i++) {
        const float *x = read_sample(d, 0, i);
        for (int p = 0; p < 6; p++) assert_true(x[p] == (float)(10 * i + p));
        assert_int_equal(label_of(d, i), idx_labels[8 + i] + 2);
    }
    float x[6];
    int64_t label;
    assert_int_equal(espl_dataset_read(d, 0, 4, x, NULL), ESPL_INVALID);
    assert_int_equal(espl_dataset_read(d, 0, -1, x, NULL), ESPL_INVALID);
    assert_int_equal(espl_dataset_read(d, 1, 0, x, NULL), ESPL_INVALID);
    assert_int_equal(espl_dataset_label(d, 4, &label, NULL), ESPL_INVALID);
    espl_dataset_close(&d);
    assert_null(d);
}

static void test_idx_types(void **state) {
    (void)state;
    /* 1 sample, 2 channels of 1 x 1: -1.5 and 2 as f32 and f64, -2 and 258 as s16, -70000 and 5 as s32, -128
     * and 3 as s8. */
    static const struct {
        uint8_t type, bytes[16];
        int length;
        float want[2];
    } cases[] = {
        {0x0d, {0xbf, 0xc0, 0, 0, 0x40, 0, 0, 0}, 8, {-1.5f, 2}},
        {0x0e, {0xbf, 0xf8, 0, 0, 0, 0, 0, 0, 0x40, 0, 0, 0, 0, 0, 0, 0}, 16, {-1.5f, 2}},
        {0x0b, {0xff, 0xfe, 1, 2}, 4, {-2, 258}},
        {0x0c, {0xff, 0xfe, 0xee, 0x90, 0, 0, 0, 5}, 8, {-70000, 5}},
        {0x09, {0x80, 3}, 2, {-128, 3}},
    };
    for (size_t i = 0; i < ESPL_COUNT(cases); i++) {
        uint8_t file[36] = {0, 0, cases[i].type, 4, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1};
        memcpy(file + 20, cases[i].bytes, (size_t)cases[i].length);
        write_file("images", file, 20 + (size_t)cases[i].length);
        espl_dataset *d = open_text("kind: idx\npath: images\n");
        assert_true(has_shape(d, "2x1x1") && !espl_dataset_has_labels(d));
        const float *x = read_sample(d, 0, 0);
        assert_true(x[0] == cases[i].want[0] && x[1] == cases[i].want[1]);
        assert_int_equal(label_of(d, 0), -1);
        espl_dataset_close(&d);
    }
}

/* Record r has label r mod 10; its byte p is (r + p) mod 256. */
static uint8_t *cifar_records(int count) {
    uint8_t *bytes = malloc((size_t)count * 3073);
    for (int r = 0; r < count; r++) {
        bytes[r * 3073] = (uint8_t)(r % 10);
        for (int p = 0; p < 3072; p++) bytes[r * 3073 + 1 + p] = (uint8_t)(r + p);
    }
    return bytes;
}

static void test_cifar(void **state) {
    (void)state;
    uint8_t *bytes = cifar_records(12);
    write_gz("a.bin.gz", bytes, 5 * 3073);
    write_file("b.bin", bytes + 5 * 3073, 7 * 3073);
    free(bytes);
    espl_dataset *d = open_text("kind: cifar-bin\npaths: [a.bin.gz, b.bin]\nlayout: nhwc\nscale: 1/255\n"
                                "mean: [0.1, 0.2, 0.3]\nstd: [0.5, 0.25, 2]\nevery: {n: 4, keep: [3, 1]}\n");
    static const int chosen[] = {1, 3, 5, 7, 9, 11};
    static const double mean[] = {0.1, 0.2, 0.3}, std[] = {0.5, 0.25, 2};
    assert_int_equal(espl_dataset_count(d), 6);
    assert_true(has_shape(d, "32x32x3"));
    for (int i = 0; i < 6; i++) {
        const float *x = read_sample(d, 0, i);
        for (int p = 0; p < 3072; p++) {
            int pixel = p / 3, c = p % 3, byte = (chosen[i] + c * 1024 + pixel) & 255;
            assert_true(fabs((double)x[p] - (byte / 255.0 - mean[c]) / std[c]) < 1e-6);
        }
        assert_int_equal(label_of(d, i), chosen[i] % 10);
    }
    espl_dataset_close(&d);
}

/* `every` splits a set in two halves that do not meet; `count` takes the first of what is left. */
static void test_every(void **state) {
    (void)state;
    espl_dataset *a = open_text("kind: digits\nevery: {n: 5, keep: [0]}\ncount: 7\n");
    espl_dataset *b = open_text("kind: digits\nevery: {n: 5, keep: [1, 2, 3, 4]}\n");
    espl_dataset *all = open_text("kind: digits\n");
    assert_int_equal(espl_dataset_count(a), 7);
    assert_int_equal(espl_dataset_count(b), 1600);
    float x[784];
    for (int i = 0; i < 35; i++) {
        memcpy(x, read_sample(all, 0, i), sizeof x);
        const float *y = i % 5 ? read_sample(b, 0, i / 5 * 4 + i % 5 - 1) : read_sample(a, 0, i / 5);
        assert_memory_equal(x, y, sizeof x);
    }
    espl_dataset_close(&a);
    espl_dataset_close(&b);
    espl_dataset_close(&all);
}

/* --- images ------------------------------------------------------------------------------------------ */

/* In the fixtures a file of class c and number k is grey 50 c + k; class c has 3 - c files. */
static void check_classes(const char *text, const char *shape) {
    static const int rounds[] = {0, 0, 0, 1, 1, 2};
    espl_dataset *d = open_text(text);
    assert_int_equal(espl_dataset_count(d), 6);
    assert_true(has_shape(d, shape));
    unsigned seen = 0;
    for (int i = 0; i < 6; i++) {
        int64_t label = label_of(d, i);
        assert_true(read_sample(d, 0, i)[0] == (float)(50 * label + rounds[i]));
        seen |= 1u << (label * 4 + rounds[i]);
    }
    assert_int_equal(seen, 0x137);
    espl_dataset_close(&d);
}

static void test_class_folders(void **state) {
    (void)state;
    check_classes("kind: images\npath: " FIXTURES "data/classes.tar\nsplit: train\n", "1x2x3");
    check_classes("kind: images\npath: " FIXTURES "data/classes.tar.gz\nsplit: train\n", "1x2x3");
    check_classes("kind: images\npath: " FIXTURES
                  "data/classes_gnu.tar\nsplit: train\nchannels: 3\ncrop: 2\n",
                  "3x2x2");
    espl_dataset *d =
        open_text("kind: images\npath: " FIXTURES "data/classes.tar.gz\nsplit: train\ncount: 2\n");
    assert_int_equal(espl_dataset_count(d), 2);
    assert_true(read_sample(d, 0, 1)[0] == (float)(50 * label_of(d, 1)));
    espl_dataset_close(&d);
    d = open_text("kind: images\npath: " FIXTURES "data/classes.tar\nsplit: test\nresize: 4\n");
    assert_true(has_shape(d, "1x4x6") && read_sample(d, 0, 0)[23] == 7);
    espl_dataset_close(&d);
}

/* The same from files on disk: split and class folders written here. */
static void test_folder(void **state) {
    (void)state;
    static const char *const names[] = {"tree", "tree/cat", "tree/dog"};
    for (size_t i = 0; i < ESPL_COUNT(names); i++) assert_int_equal(mkdir(in_folder(names[i]), 0700), 0);
    assert_int_equal(symlink(FIXTURES "data/luma.png", in_folder("tree/dog/0.png")), 0);
    assert_int_equal(symlink(FIXTURES "data/grey.jpg", in_folder("tree/cat/1.jpg")), 0);
    assert_int_equal(symlink("/nowhere", in_folder("tree/cat/0.jpg")), 0);
    write_file("tree/.hidden.png", "x", 1);
    espl_dataset *d = open_text("kind: images\npath: tree\n");
    assert_int_equal(espl_dataset_count(d), 2);
    assert_true(has_shape(d, "1x17x24"));
    static const char *const arrays[] = {"grey", "luma"};
    for (int i = 0; i < 2; i++) {
        char path[512];
        espl_tensor want;
        snprintf(path, sizeof path, FIXTURES "data/%s.npy", arrays[label_of(d, i)]);
        assert_int_equal(espl_npy_read(ctx, path, &want, NULL), ESPL_OK);
        const float *x = read_sample(d, 0, i);
        for (int p = 0; p < 17 * 24; p++) assert_true(x[p] == (float)((uint8_t *)want.data)[p]);
        espl_tensor_free(ctx, &want);
    }
    espl_dataset_close(&d);
    static const char *const files[] = {"tree/dog/0.png", "tree/cat/1.jpg", "tree/cat/0.jpg",
                                        "tree/.hidden.png"};
    for (size_t i = 0; i < ESPL_COUNT(files); i++) unlink(in_folder(files[i]));
    for (size_t i = ESPL_COUNT(names); i-- > 0;) rmdir(in_folder(names[i]));
}

static void test_listed(void **state) {
    (void)state;
    static const struct {
        int64_t label;
        float value;
    } want[] = {{7, 12}, {3, 10}, {2147, 11}};
    static const char *const texts[] = {
        "kind: images\npath: " FIXTURES "data/listed.tar\nlabels: set/labels.txt\n",
        "kind: images\npath: " FIXTURES "data/listed.tar.gz\nlabels: set/labels.txt\n",
        "kind: images\npath: " FIXTURES "data/listed.tar.gz\nsplit: set\nlabels: mine.txt\n",
    };
    static const char mine[] = "b 2.png\t7\n0.png 3\na.png 2147";
    write_file("mine.txt", mine, sizeof mine - 1);
    for (size_t t = 0; t < ESPL_COUNT(texts); t++) {
        espl_dataset *d = open_text(texts[t]);
        assert_int_equal(espl_dataset_count(d), 3);
        for (int i = 0; i < 3; i++) {
            assert_int_equal(label_of(d, i), want[i].label);
            assert_true(read_sample(d, 0, i)[0] == want[i].value);
        }
        espl_dataset_close(&d);
    }
}

/* --- npy ------------------------------------------------------------------------------------------------ */

static void test_npy(void **state) {
    (void)state;
    static const double real[] = {-1.5, 0, 0.25, 3, 65504, -0.000030517578125};
    static const char *const types[] = {"f4", "f8", "f2"};
    static int32_t labels[] = {4, 2};
    assert_int_equal(
        espl_npy_write(ctx, in_folder("y.npy"), &(espl_tensor){ESPL_S32, {1, {2}}, labels}, NULL), ESPL_OK);
    for (size_t t = 0; t < ESPL_COUNT(types); t++) {
        char text[512];
        snprintf(text, sizeof text, "kind: npy\npath: " FIXTURES "npy/%s.npy\nlabels: y.npy\nscale: 2\n",
                 types[t]);
        espl_dataset *d = open_text(text);
        assert_int_equal(espl_dataset_count(d), 2);
        assert_true(has_shape(d, "3"));
        for (int i = 0; i < 6; i++) assert_true(read_sample(d, 0, i / 3)[i % 3] == (float)(2 * real[i]));
        assert_int_equal(label_of(d, 1), 2);
        espl_dataset_close(&d);
    }
    espl_dataset *d = open_text("kind: npy\ninputs:\n- {name: left, path: " FIXTURES
                                "npy/i1.npy}\n- {path: " FIXTURES "npy/u8.npy}\nevery: {n: 2, keep: [1]}\n");
    assert_int_equal(espl_dataset_inputs(d), 2);
    assert_string_equal(espl_dataset_input_name(d, 0), "left");
    assert_string_equal(espl_dataset_input_name(d, 1), "");
    assert_true(read_sample(d, 0, 0)[2] == -128 && read_sample(d, 1, 0)[2] == 250);
    assert_string_equal(espl_dataset_describe(d), "npy i1.npy, 1 samples of 3 and 3");
    espl_dataset_close(&d);
}

/* Channel c of a 2 x 3 array is row c with nchw, column c with nhwc. */
/* A file as numpy writes it: three elements of `bytes` bytes each, least significant byte first. */
static void write_npy(const char *name, const char *descr, size_t bytes, const uint64_t elements[3], const char *shape) {
    uint8_t file[256];
    memset(file, ' ', sizeof file);
    memcpy(file, "\x93NUMPY\1\0\x76\0", 10);
    char header[119];
    int n = snprintf(header, sizeof header, "{'descr': '%s', 'fortran_order': False, 'shape': (%s), }", descr, shape);
    memcpy(file + 10, header, (size_t)n);
    file[127] = '\n';
    for (size_t i = 0; i < 3 * bytes; i++) file[128 + i] = (uint8_t)(elements[i / bytes] >> i % bytes * 8);
    write_file(name, file, 128 + 3 * bytes);
}

/* Samples and labels of every element type. */
static void test_npy_types(void **state) {
    static const struct {
        const char *descr;
        size_t bytes;
        uint64_t element[3];
        bool integer;
    } types[] = {
        {"|u1", 1, {7, 0, 1}, true}, {"|i1", 1, {7, 0, 1}, true}, {"<u2", 2, {7, 0, 1}, true}, {"<i2", 2, {7, 0, 1}, true},
        {"<u4", 4, {7, 0, 1}, true}, {"<i4", 4, {7, 0, 1}, true}, {"<u8", 8, {7, 0, 1}, true}, {"<i8", 8, {7, 0, 1}, true},
        {"|b1", 1, {1, 0, 1}, true}, {"<f2", 2, {0x4700, 0, 0x3C00}, false}, {"<f4", 4, {0x40E00000, 0, 0x3F800000}, false},
        {"<f8", 8, {0x401C000000000000, 0, 0x3FF0000000000000}, false},
    };
    (void)state;
    for (size_t i = 0; i < ESPL_COUNT(types); i++) {
        espl_dataset *d = NULL;
        espl_diag diag = {0};
        write_npy("x.npy", types[i].descr, types[i].bytes, types[i].element, "3, 1");
        write_npy("y.npy", types[i].descr, types[i].bytes, types[i].element, "3,");
        espl_status status = try_text("kind: npy\npath: x.npy\nlabels: y.npy\n", &d, &diag);
        if (!types[i].integer) {
            assert_int_equal(status, ESPL_SHAPE);
            assert_non_null(strstr(diag.message, "labels must be a list of integers"));
            d = open_text("kind: npy\npath: x.npy\n");
        } else if (status != ESPL_OK) {
            fail_msg("%s: %s", types[i].descr, diag.message);
        }
        for (int64_t k = 0; k < 3; k++) {
            static const float plain[] = {7, 0, 1};
            const float want = types[i].integer ? (float)types[i].element[k] : plain[k];
            float x;
            int64_t y = -1;
            assert_int_equal(espl_dataset_read(d, 0, k, &x, &diag), ESPL_OK);
            assert_true(x == want);
            if (!types[i].integer) continue;
            assert_int_equal(espl_dataset_label(d, k, &y, &diag), ESPL_OK);
            assert_int_equal(y, (int64_t)types[i].element[k]);
        }
        espl_dataset_close(&d);
    }
    const uint64_t negative[] = {3, 255, 1};
    write_npy("y.npy", "|i1", 1, negative, "3,");
    espl_dataset *d = NULL;
    espl_diag diag = {0};
    assert_int_equal(try_text("kind: npy\npath: x.npy\nlabels: y.npy\n", &d, &diag), ESPL_FORMAT);
    assert_non_null(strstr(diag.message, "label 1 is -1, which is no class number"));
}

static void test_npy_channels(void **state) {
    (void)state;
    float x[12] = {0};
    assert_int_equal(
        espl_npy_write(ctx, in_folder("x.npy"), &(espl_tensor){ESPL_F32, {3, {2, 2, 3}}, x}, NULL), ESPL_OK);
    espl_dataset *d = open_text("kind: npy\npath: x.npy\nmean: [1, 2]\n");
    for (int i = 0; i < 6; i++) assert_true(read_sample(d, 0, 1)[i] == (float)-(i / 3 + 1));
    espl_dataset_close(&d);
    d = open_text("kind: npy\npath: x.npy\nmean: [1, 2, 3]\nlayout: nhwc\n");
    for (int i = 0; i < 6; i++) assert_true(read_sample(d, 0, 1)[i] == (float)-(i % 3 + 1));
    espl_dataset_close(&d);
}

/* --- digits ------------------------------------------------------------------------------------------ */

static void test_digits(void **state) {
    (void)state;
    espl_dataset *d;
    assert_int_equal(espl_dataset_open(ctx, "digits", &d, NULL), ESPL_OK);
    assert_int_equal(espl_dataset_count(d), 2000);
    assert_true(has_shape(d, "1x28x28") && espl_dataset_has_labels(d));
    assert_string_equal(espl_dataset_describe(d), "digits test, 2000 samples of 1x28x28");
    int seen[10] = {0};
    for (int i = 0; i < 200; i++) {
        uint8_t pixels[ESPL__DIGIT_PIXELS];
        const float *x = read_sample(d, 0, i);
        espl__digit_draw(0, ESPL__TEST, i, pixels);
        for (int p = 0; p < ESPL__DIGIT_PIXELS; p++) assert_true(x[p] == (float)pixels[p] / 255.0f);
        seen[label_of(d, i)]++;
    }
    for (int i = 0; i < 10; i++) assert_int_equal(seen[i], 20);
    espl_dataset_close(&d);
    d = open_text("kind: digits\nsplit: train\ncount: 123456\nseed: 9\n");
    assert_int_equal(espl_dataset_count(d), 123456);
    uint8_t a[ESPL__DIGIT_PIXELS], b[ESPL__DIGIT_PIXELS];
    espl__digit_draw(9, ESPL__TRAIN, 123455, a);
    assert_true(read_sample(d, 0, 123455)[400] == (float)a[400] / 255.0f);
    espl__digit_draw(9, ESPL__TEST, 123455, b);
    assert_memory_not_equal(a, b, sizeof a);
    espl__digit_draw(8, ESPL__TRAIN, 123455, b);
    assert_memory_not_equal(a, b, sizeof a);
    espl_dataset_close(&d);
}

/* examples/digits.onnx was trained on exactly these bytes: CRC-32 of the first 500 training pictures and
 * labels, the same from gcc and clang, with and without optimisation and FMA. */
static void test_digits_bytes(void **state) {
    (void)state;
    uLong crc = crc32(0, NULL, 0);
    uint8_t sample[ESPL__DIGIT_PIXELS + 1];
    for (int i = 0; i < 500; i++) {
        espl__digit_draw(0, ESPL__TRAIN, i, sample);
        sample[ESPL__DIGIT_PIXELS] = (uint8_t)espl__digit_label(0, ESPL__TRAIN, i);
        crc = crc32(crc, sample, sizeof sample);
    }
    assert_int_equal(crc, 0xe7d56922u);
}

/* Labels belong to the pictures: the nearest of ten mean pictures is right far more often than one time in
 * ten. */
static void test_digits_labels(void **state) {
    (void)state;
    static double mean[10][ESPL__DIGIT_PIXELS];
    uint8_t x[ESPL__DIGIT_PIXELS];
    int hits = 0;
    for (int i = 0; i < 2000; i++) {
        espl__digit_draw(0, ESPL__TRAIN, i, x);
        for (int p = 0; p < ESPL__DIGIT_PIXELS; p++)
            mean[espl__digit_label(0, ESPL__TRAIN, i)][p] += x[p] / 200.0;
    }
    for (int i = 0; i < 500; i++) {
        int best = 0;
        double least = HUGE_VAL;
        espl__digit_draw(0, ESPL__TEST, i, x);
        for (int k = 0; k < 10; k++) {
            double distance = 0;
            for (int p = 0; p < ESPL__DIGIT_PIXELS; p++)
                distance += (x[p] - mean[k][p]) * (x[p] - mean[k][p]);
            if (distance < least) {
                least = distance;
                best = k;
            }
        }
        hits += best == espl__digit_label(0, ESPL__TEST, i);
    }
    assert_in_range(hits, 150, 450); /* and pixels alone do not settle it */
}

/* --- sentences --------------------------------------------------------------------------------------- */

static void test_sentences(void **state) {
    (void)state;
    write_file("images", idx_images, sizeof idx_images);
    write_file("labels", idx_labels, sizeof idx_labels);
    write_file("short", idx_images, sizeof idx_images - 1);
    write_file("cut.gz", "\x1f\x8b\x08\0\0\0\0\0\0\x03\x01\x02", 12);
    uint8_t *bytes = cifar_records(1);
    bytes[0] = 10;
    write_file("c.bin", bytes, 3073);
    write_file("d.bin", bytes, 3072);
    free(bytes);
    static const uint8_t huge[] = {0, 0, 8, 3, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1};
    write_file("huge", huge, sizeof huge);
    write_file("list.txt", "a.png 1\nb.png\n", 14);
    write_file("list2.txt", "a.png 1\nnone.png 2\n", 19);
    static const struct {
        const char *text;
        espl_status status;
        const char *part;
    } cases[] = {
        {"kind: idz\n", ESPL_UNSUPPORTED,
         "set.yaml:1: kind: there is no kind 'idz'; there are digits, idx, cifar-bin"},
        {"path: x\n", ESPL_FORMAT, "kind"},
        {"kind: digits\ncolour: 3\n", ESPL_FORMAT, "set.yaml:2"},
        {"kind: digits\ncrop: 99\n", ESPL_SHAPE, "resize it first"},
        {"kind: digits\n\npath: x\n", ESPL_INVALID, "set.yaml:3: path: has no meaning for kind digits"},
        {"kind: digits\nsplit: dev\n", ESPL_INVALID, "neither train nor test"},
        {"kind: digits\nscale: 1/0\n", ESPL_INVALID, "set.yaml:2: scale"},
        {"kind: digits\nscale: 1/255x\n", ESPL_INVALID, "scale"},
        {"kind: digits\nscale: nan\n", ESPL_INVALID, "scale"},
        {"kind: digits\nstd: [0]\n", ESPL_INVALID, "std"},
        {"kind: digits\nmean: [1, 2]\n", ESPL_SHAPE, "2 values"},
        {"kind: digits\naugment: {pad: -1}\n", ESPL_INVALID, "set.yaml:2: augment.pad: -1 is not within"},
        {"kind: digits\naugment:\n  flip: true\n  pad: 28\n", ESPL_INVALID,
         "set.yaml:4: augment.pad: is too large for images of 1x28x28"},
        {"kind: digits\naugment: {cutout: 29}\n", ESPL_INVALID, "augment.cutout: is too large"},
        {"kind: digits\naugment: {flip: maybe}\n", ESPL_FORMAT, "set.yaml:2: augment.flip"},
        {"kind: npy\npath: " FIXTURES "npy/f4.npy\naugment: {flip: true}\n", ESPL_SHAPE,
         "augment: is for images of channels, height and width; samples here are 3"},
        {"kind: digits\nlayout: nwhc\n", ESPL_INVALID, "neither nchw nor nhwc"},
        {"kind: digits\ncount: -1\n", ESPL_INVALID, "count"},
        {"kind: digits\nevery: {n: 0, keep: [0]}\n", ESPL_INVALID, "every.n"},
        {"kind: digits\nevery: {n: 5, keep: [5]}\n", ESPL_INVALID, "every.keep"},
        {"kind: images\nchannels: 2\npath: x\n", ESPL_INVALID, "channels"},
        {"kind: idx\n", ESPL_INVALID, "path: is missing"},
        {"kind: idx\npath: nowhere\n", ESPL_IO, "/nowhere: cannot be opened"},
        {"kind: idx\npath: ${HOME}/x\n", ESPL_INVALID, "${ESPL_ASSETS}"},
        {"kind: idx\npath: short\n", ESPL_FORMAT, "holds 23 bytes"},
        {"kind: idx\npath: cut.gz\n", ESPL_FORMAT, "uncompressed"},
        {"kind: idx\npath: huge\n", ESPL_FORMAT, "holds 1 bytes"},
        {"kind: idx\npath: c.bin\n", ESPL_FORMAT, "not an IDX file"},
        {"kind: idx\npath: labels\n", ESPL_SHAPE, "count, (channels,)"},
        {"kind: idx\npath: images\nlabels: images\n", ESPL_SHAPE, "list of integers"},
        {"kind: idx\npath: images\nevery: {n: 9, keep: [8]}\n", ESPL_INVALID, "none of the 4"},
        {"kind: idx\npath: images\ncount: 5\n", ESPL_INVALID, "asks for 5 samples; there are 4"},
        {"kind: cifar-bin\npath: c.bin\n", ESPL_FORMAT, "label 10"},
        {"kind: cifar-bin\npath: d.bin\n", ESPL_FORMAT, "not a multiple"},
        {"kind: cifar-bin\npath: d.bin\npaths: [d.bin]\n", ESPL_INVALID, "either"},
        {"kind: cifar-bin\npath: /dev/null\n", ESPL_IO, "not a file"},
        {"kind: npy\npath: " FIXTURES "npy/scalar.npy\n", ESPL_SHAPE, "scalar"},
        {"kind: npy\npath: " FIXTURES "npy/empty.npy\n", ESPL_INVALID, "none of the 0"},
        {"kind: npy\npath: " FIXTURES "npy/f4.npy\nlabels: " FIXTURES "npy/i1.npy\n", ESPL_SHAPE,
         "list of integers"},
        {"kind: npy\npath: " FIXTURES "npy/f4.npy\nlabels: " FIXTURES "npy/vector.npy\n", ESPL_SHAPE,
         "5 labels for 2"},
        {"kind: npy\npath: " FIXTURES "npy/f4.npy\nlabels: " FIXTURES "npy/wide_i8.npy\n", ESPL_FORMAT,
         "no class number"},
        {"kind: npy\ninputs: [{path: " FIXTURES "npy/f4.npy}, {path: " FIXTURES "npy/vector.npy}]\n",
         ESPL_SHAPE, "5 samples"},
        {"kind: images\npath: images\n", ESPL_FORMAT, "neither a folder nor a sound .tar"},
        {"kind: images\npath: " FIXTURES "data/classes.tar\nsplit: dev\n", ESPL_FORMAT, "dev/CLASS/FILE"},
        {"kind: images\npath: " FIXTURES "data/listed.tar\nsplit: set\nlabels: list.txt\n", ESPL_FORMAT,
         "list.txt:2"},
        {"kind: images\npath: " FIXTURES "data/listed.tar\nsplit: set\nlabels: list2.txt\n", ESPL_FORMAT,
         "list2.txt:2: there is no 'set/none.png'"},
        {"kind: images\npath: " FIXTURES "data/listed.tar\nlabels: nowhere.txt\n", ESPL_IO, "nowhere.txt"},
        {"kind: images\npath: " FIXTURES "\n", ESPL_UNSUPPORTED,
         "sample 0: " FIXTURES ": data/cmyk.jpg: the JPEG"},
    };
    for (size_t i = 0; i < ESPL_COUNT(cases); i++) {
        espl_dataset *d;
        espl_diag diag = {0};
        espl_status status = try_text(cases[i].text, &d, &diag);
        if (status != cases[i].status || !strstr(diag.message, cases[i].part))
            fail_msg("%s: %s '%s' lacks '%s'", cases[i].text, espl_status_name(status), diag.message,
                     cases[i].part);
        espl_dataset_close(&d);
    }
    espl_dataset *d;
    assert_int_equal(espl_dataset_open(ctx, in_folder("no.yaml"), &d, NULL), ESPL_IO);
    assert_null(d);
}

/* A later picture of another size, or one that cannot be decoded, is named when it is read. */
static void test_read_failures(void **state) {
    (void)state;
    static const char list[] = "colour.jpg 0\nrgb.png 1\ncmyk.jpg 2\nluma.png 3\nlisted.tar 4\n";
    write_file("list3.txt", list, sizeof list - 1);
    espl_dataset *d = open_text("kind: images\npath: " FIXTURES "data\nlabels: list3.txt\n");
    static const char *const part[] = {NULL, NULL, "cmyk.jpg: the JPEG is neither grey",
                                       "sample 3 is 1x17x24", "listed.tar: is neither JPEG"};
    float x[3 * 17 * 24];
    for (int i = 0; i < 5; i++) {
        espl_diag diag = {0};
        espl_status status = espl_dataset_read(d, 0, i, x, &diag);
        assert_int_equal(status != ESPL_OK, part[i] != NULL);
        if (part[i] && !strstr(diag.message, part[i])) fail_msg("'%s' lacks '%s'", diag.message, part[i]);
    }
    espl_dataset_close(&d);
}

/* 16 MiB of zeros in 16 kB, where a context allows 4 MiB. */
static void test_bomb(void **state) {
    (void)state;
    espl_context *small;
    espl_dataset *d;
    uint8_t *zeros = calloc(16, 1 << 20);
    write_gz("bomb.gz", zeros, 16 << 20);
    free(zeros);
    assert_int_equal(espl_context_create(&(espl_config){.max_alloc = 4 << 20, .threads = 1}, &small, NULL),
                     ESPL_OK);
    static const char text[] = "kind: idx\npath: bomb.gz\n";
    write_file("bomb.yaml", text, sizeof text - 1);
    assert_int_equal(espl_dataset_open(small, in_folder("bomb.yaml"), &d, NULL), ESPL_LIMIT);
    espl_context_destroy(&small);
}

/* --- memory that runs out -------------------------------------------------------------------------- */

static long left;

static void *scarce_alloc(void *user, size_t bytes) {
    (void)user;
    return left-- > 0 ? aligned_alloc(64, (bytes + 63) / 64 * 64) : NULL;
}

static void scarce_free(void *user, void *ptr) {
    (void)user;
    free(ptr);
}

/* Opens and reads with the first `allowed` allocations only; true if that was enough. */
static bool read_with(const char *path, long allowed) {
    espl_context *scarce;
    espl_dataset *d = NULL;
    float x[3 * 17 * 24];
    int64_t label;
    espl_config config = {.alloc = scarce_alloc, .free = scarce_free, .threads = 1};
    left = 1000;
    assert_int_equal(espl_context_create(&config, &scarce, NULL), ESPL_OK);
    uint64_t before = espl_context_memory(scarce, NULL);
    left = allowed;
    espl_diag diag = {0};
    espl_status status = espl_dataset_open(scarce, path, &d, &diag);
    for (int64_t i = 0; status == ESPL_OK && i < espl_dataset_count(d); i++) {
        status = espl_dataset_read(d, 0, i, x, &diag);
        if (status == ESPL_OK) status = espl_dataset_label(d, i, &label, &diag);
    }
    assert_true(status == ESPL_OK || diag.message[0]);
    espl_dataset_close(&d);
    assert_int_equal(espl_context_memory(scarce, NULL), before);
    espl_context_destroy(&scarce);
    return status == ESPL_OK;
}

static void test_out_of_memory(void **state) {
    (void)state;
    static const char *const texts[] = {
        "kind: digits\ncount: 1\nresize: 20\n",
        "kind: idx\npath: images.gz\nlabels: labels\n",
        "kind: cifar-bin\npath: e.bin\ncrop: 8\n",
        "kind: images\npath: " FIXTURES "data/classes.tar\nsplit: train\n",
        "kind: images\npath: " FIXTURES "data/listed.tar.gz\nlabels: set/labels.txt\n",
        "kind: images\npath: " FIXTURES "data\nlabels: list4.txt\nresize: 8\ncrop: 8\n",
        "kind: npy\ninputs: [{name: x, path: " FIXTURES "npy/f2.npy}]\nlabels: y.npy\n",
    };
    static const char list[] = "colour.jpg 0\nrgb.png 1\n";
    uint8_t *bytes = cifar_records(1);
    write_file("e.bin", bytes, 3073);
    free(bytes);
    write_gz("images.gz", idx_images, sizeof idx_images);
    write_file("labels", idx_labels, sizeof idx_labels);
    write_file("list4.txt", list, sizeof list - 1);
    int32_t labels[] = {4, 2};
    assert_int_equal(
        espl_npy_write(ctx, in_folder("y.npy"), &(espl_tensor){ESPL_S32, {1, {2}}, labels}, NULL), ESPL_OK);
    for (size_t t = 0; t < ESPL_COUNT(texts); t++) {
        char path[256];
        write_file("scarce.yaml", texts[t], strlen(texts[t]));
        snprintf(path, sizeof path, "%s", in_folder("scarce.yaml"));
        long allowed = 0;
        while (!read_with(path, allowed)) assert_true(++allowed < 2000);
        assert_true(allowed > 3);
    }
}

/* --- the real sets; the sums come from Pillow and NumPy ---------------------------------------------- */

static void test_assets(void **state) {
    (void)state;
    static const struct {
        const char *text, *shape;
        int64_t count, index, label;
        double sum;
    } cases[] = {
        {"kind: cifar-bin\npath: ${ESPL_ASSETS}/data/cifar10-lossless/test_first1000.bin.gz\n", "3x32x32",
         1000, 0, 3, 332962},
        {"kind: cifar-bin\npath: ${ESPL_ASSETS}/data/cifar10-lossless/test_first1000.bin.gz\n", "3x32x32",
         1000, 999, 8, 461083},
        {"kind: idx\npath: ${ESPL_ASSETS}/data/mnist/t10k-images-idx3-ubyte.gz\nlabels: "
         "${ESPL_ASSETS}/data/mnist/t10k-labels-idx1-ubyte.gz\n",
         "1x28x28", 10000, 0, 7, 18454},
        {"kind: idx\npath: ${ESPL_ASSETS}/data/mnist/t10k-images-idx3-ubyte.gz\nlabels: "
         "${ESPL_ASSETS}/data/mnist/t10k-labels-idx1-ubyte.gz\n",
         "1x28x28", 10000, 9999, 6, 41833},
        {"kind: images\npath: ${ESPL_ASSETS}/data/imagenet-sample-256.tar\nlabels: "
         "dev/labels.txt\nlabel_offset: 1\n"
         "channels: 3\ncrop: 224\n",
         "3x224x224", 500, 1, 3, 22920526},
        {"kind: images\npath: ${ESPL_ASSETS}/data/imagenet-sample-256.tar\nlabels: dev/labels.txt\nlayout: "
         "nhwc\n"
         "every: {n: 5, keep: [1, 2, 3, 4]}\nchannels: 3\ncrop: 224\n",
         "224x224x3", 400, 399, 998, 13362092},
    };
    char probe[1024];
    snprintf(probe, sizeof probe, "%s/data", assets);
    if (access(probe, R_OK) != 0) {
        print_message("skipped: no assets\n");
        skip();
    }
    for (size_t i = 0; i < ESPL_COUNT(cases); i++) {
        espl_dataset *d = open_text(cases[i].text);
        assert_true(has_shape(d, cases[i].shape));
        assert_int_equal(espl_dataset_count(d), cases[i].count);
        assert_int_equal(label_of(d, cases[i].index), cases[i].label);
        const float *x = read_sample(d, 0, cases[i].index);
        espl_shape shape = espl_dataset_shape(d, 0);
        double sum = 0;
        for (int64_t p = 0; p < espl_shape_count(&shape); p++) sum += (double)x[p];
        assert_true(sum == cases[i].sum);
        espl_dataset_close(&d);
    }
}

/* test/airplane/0000.jpg and test/truck/0000.jpg are in the first round of the 10,000. */
static void test_assets_jpeg(void **state) {
    (void)state;
    char probe[1024];
    snprintf(probe, sizeof probe, "%s/data/cifar10-jpeg.tar.gz", assets);
    if (access(probe, R_OK) != 0) {
        print_message("skipped: no assets\n");
        skip();
    }
    espl_dataset *d = open_text("kind: images\npath: ${ESPL_ASSETS}/data/cifar10-jpeg.tar.gz\nsplit: test\n");
    assert_int_equal(espl_dataset_count(d), 10000);
    for (int i = 0; i < 10; i++) {
        int64_t label = label_of(d, i);
        const float *x = read_sample(d, 0, i);
        double sum = 0;
        for (int p = 0; p < 3072; p++) sum += (double)x[p];
        if (label == 0) assert_true(sum == 475641);
        if (label == 9) assert_true(sum == 405142);
    }
    espl_dataset_close(&d);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_idx),           cmocka_unit_test(test_idx_types),
        cmocka_unit_test(test_cifar),         cmocka_unit_test(test_every),
        cmocka_unit_test(test_class_folders), cmocka_unit_test(test_folder),
        cmocka_unit_test(test_listed),        cmocka_unit_test(test_npy),
        cmocka_unit_test(test_npy_channels),  cmocka_unit_test(test_npy_types), cmocka_unit_test(test_digits),
        cmocka_unit_test(test_digits_bytes),  cmocka_unit_test(test_digits_labels),
        cmocka_unit_test(test_sentences),     cmocka_unit_test(test_read_failures),
        cmocka_unit_test(test_bomb),          cmocka_unit_test(test_out_of_memory),
        cmocka_unit_test(test_assets),        cmocka_unit_test(test_assets_jpeg),
    };
    return cmocka_run_group_tests_name("data", tests, setup, teardown);
}
