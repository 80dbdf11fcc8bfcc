/* Batches: orders, augmentation (against tests/oracle/make_loader_fixtures.py), places, ranks, the thread. */
#include "data_rig.h"

#include "data/loader.h"

enum { COUNT = 13, SIZE = 3 * 6 * 8 };

static const espl__loader_options training = {
    .batch = 4, .seed = 2026, .shuffle = true, .augment = true, .prefetch = 2};

static espl__loader *start(espl_dataset *d, espl__loader_options o) {
    espl__loader *l;
    espl_diag diag = {0};
    if (espl__loader_create(ctx, d, &o, &l, &diag) != ESPL_OK) fail_msg("%s", diag.message);
    return l;
}

static espl__batch next(espl__loader *l) {
    espl__batch b;
    espl_diag diag = {0};
    if (espl__loader_next(l, &b, &diag) != ESPL_OK) fail_msg("%s", diag.message);
    return b;
}

static void seek(espl__loader *l, int64_t epoch, int64_t step) {
    assert_int_equal(espl__loader_seek(l, epoch, step, NULL), ESPL_OK);
}

static espl_tensor load(const char *name) {
    char path[512];
    espl_tensor t;
    snprintf(path, sizeof path, FIXTURES "loader/%s", name);
    assert_int_equal(espl_npy_read(ctx, path, &t, NULL), ESPL_OK);
    return t;
}

/* --- against NumPy ------------------------------------------------------------------------------------ */

#define PREPARED                                                    \
    "scale: 1/255\nmean: [0.5, 0.25, 0.125]\nstd: [0.25, 0.3, 2]\n" \
    "augment: {pad: 2, flip: true, cutout: 3}\n"

/* The same pixels as an IDX file, which is decoded and kept as bytes, and as floats with channels last. */
static void write_pixels(const espl_tensor *pixels) {
    uint8_t idx[20 + COUNT * SIZE] = {0, 0, 8, 4, 0, 0, 0, COUNT, 0, 0, 0, 3, 0, 0, 0, 6, 0, 0, 0, 8};
    float nhwc[COUNT * SIZE];
    const uint8_t *x = pixels->data;
    memcpy(idx + 20, x, COUNT * SIZE);
    write_file("pixels.idx", idx, sizeof idx);
    for (int i = 0; i < COUNT; i++)
        for (int c = 0; c < 3; c++)
            for (int p = 0; p < 48; p++) nhwc[(i * 48 + p) * 3 + c] = x[(i * 3 + c) * 48 + p];
    espl_tensor t = {ESPL_F32, {4, {COUNT, 6, 8, 3}}, nhwc};
    assert_int_equal(espl_npy_write(ctx, in_folder("nhwc.npy"), &t, NULL), ESPL_OK);
}

/* Element k of a sample with its channels first, whatever the layout. */
static float element(const espl__batch *b, bool nhwc, int64_t place, int k) {
    return b->input[0][place * SIZE + (nhwc ? k % 48 * 3 + k / 48 : k)];
}

static void check_epochs(const char *text, bool nhwc, espl__loader_options o) {
    espl_tensor order = load("order.npy"), want = load("batches.npy");
    espl_dataset *d = open_text(text);
    espl__loader *l = start(d, o);
    assert_int_equal(espl__loader_steps(l), (COUNT + o.batch - 1) / o.batch);
    for (int64_t turn = 0; turn < 4; turn++) { /* each epoch twice: while the cache fills, and from it */
        int64_t epoch = turn % 2, done = 0;
        seek(l, epoch, 0);
        for (int64_t step = 0; step < espl__loader_steps(l); step++) {
            espl__batch b = next(l);
            assert_true(b.epoch == epoch && b.step == step && b.inputs == 1 && b.total == b.count);
            for (int64_t i = 0; i < b.count; i++, done++) {
                assert_int_equal(b.index[i], ((const int64_t *)order.data)[epoch * COUNT + done]);
                for (int k = 0; k < SIZE; k++)
                    if (element(&b, nhwc, i, k) !=
                        ((const float *)want.data)[(epoch * COUNT + done) * SIZE + k])
                        fail_msg("%s: epoch %d place %d element %d", text, (int)epoch, (int)done, k);
            }
        }
        assert_int_equal(done, COUNT);
    }
    espl__loader_destroy(&l);
    espl_dataset_close(&d);
    espl_tensor_free(ctx, &order);
    espl_tensor_free(ctx, &want);
}

static void augments_as_numpy_does(void **state) {
    (void)state;
    espl_tensor pixels = load("pixels.npy");
    espl__loader_options o = training;
    write_pixels(&pixels);
    for (o.prefetch = 0; o.prefetch < 4; o.prefetch += 3)
        for (o.batch = 1; o.batch <= COUNT + 1; o.batch += 4) {
            o.cache = 0;
            check_epochs("kind: npy\npath: " FIXTURES "loader/pixels.npy\n" PREPARED, false, o);
            check_epochs("kind: npy\npath: nhwc.npy\nlayout: nhwc\n" PREPARED, true, o);
            check_epochs("kind: idx\npath: pixels.idx\n" PREPARED, false, o);
            check_epochs("kind: idx\npath: pixels.idx\nlayout: nhwc\n" PREPARED, true, o);
            o.cache = 100; /* no room */
            check_epochs("kind: idx\npath: pixels.idx\n" PREPARED, false, o);
        }
    espl_tensor_free(ctx, &pixels);
}

/* --- every kind, without augmentation: what espl_dataset_read gives ------------------------------------- */

static void check_plain(const char *text, espl__loader_options o) {
    espl_dataset *d = open_text(text), *same = open_text(text);
    espl__loader *l = start(d, o);
    static float x[3 * 32 * 32];
    for (int64_t step = 0; step < 2 * espl__loader_steps(l); step++) {
        espl__batch b = next(l);
        assert_int_equal(b.inputs, espl_dataset_inputs(same));
        for (int64_t i = 0; i < b.count; i++) {
            int64_t label;
            assert_int_equal(espl_dataset_label(same, b.index[i], &label, NULL), ESPL_OK);
            assert_int_equal(b.labels[i], label);
            assert_true(o.shuffle || b.index[i] == b.step * o.batch + i);
            for (int k = 0; k < b.inputs; k++) {
                espl_shape shape = espl_dataset_shape(same, k);
                int64_t size = espl_shape_count(&shape);
                assert_in_range(size, 1, ESPL_COUNT(x));
                assert_int_equal(espl_dataset_read(same, k, b.index[i], x, NULL), ESPL_OK);
                assert_memory_equal(b.input[k] + i * size, x, sizeof(float) * (size_t)size);
            }
        }
    }
    espl__loader_destroy(&l);
    espl_dataset_close(&d);
    espl_dataset_close(&same);
}

static void every_kind_works(void **state) {
    (void)state;
    uint8_t records[3 * 3073];
    for (size_t i = 0; i < sizeof records; i++)
        records[i] = i % 3073 ? (uint8_t)(i * 7) : (uint8_t)(i / 3073);
    write_file("c.bin", records, sizeof records);
    /* Three pictures of two floats, 1 and 2, 3.5 and 4, 5 and 6: the second one makes floats of the cache. */
    static const uint8_t fractions[] = {
        0,    0, 0x0d, 3, 0,    0,    0, 3, 0,    0,    0, 1, 0,    0,    0, 2, 0x3f, 0x80, 0, 0,
        0x40, 0, 0,    0, 0x40, 0x60, 0, 0, 0x40, 0x80, 0, 0, 0x40, 0xa0, 0, 0, 0x40, 0xc0, 0, 0};
    write_file("fractions", fractions, sizeof fractions);
    static const char *const texts[] = {
        "kind: digits\ncount: 23\nsplit: train\naugment: {flip: true}\n",
        "kind: cifar-bin\npath: c.bin\nscale: 1/255\nmean: [0.1, 0.2, 0.3]\nstd: [0.5, 0.25, 2]\n",
        "kind: cifar-bin\npath: c.bin\nresize: 9\nlayout: nhwc\nlabel_offset: 3\n",
        "kind: images\npath: " FIXTURES "data/classes.tar\nsplit: train\n",
        "kind: images\npath: " FIXTURES "data/classes.tar.gz\nsplit: train\nmean: [4]\n",
        "kind: npy\ninputs:\n- {path: " FIXTURES "npy/i1.npy}\n- {path: " FIXTURES "npy/u8.npy}\n",
        "kind: npy\npath: " FIXTURES "npy/vector.npy\n",
        "kind: idx\npath: fractions\nscale: 3\n",
    };
    for (size_t i = 0; i < ESPL_COUNT(texts); i++)
        for (int mode = 0; mode < 4; mode++)
            check_plain(texts[i],
                        (espl__loader_options){.batch = 3, .shuffle = mode & 1, .prefetch = mode & 2});
}

/* --- orders and places ------------------------------------------------------------------------------- */

#define DIGITS "kind: digits\nsplit: train\ncount: 101\naugment: {pad: 3, flip: true, cutout: 5}\n"

static void orders_are_permutations(void **state) {
    (void)state;
    espl_dataset *d = open_text(DIGITS);
    for (uint64_t seed = 0; seed < 2; seed++) {
        espl__loader_options o = training;
        o.seed = seed;
        espl__loader *l = start(d, o);
        int64_t order[3][101];
        for (int epoch = 0; epoch < 3; epoch++) {
            bool seen[101] = {0};
            for (int done = 0; done < 101;) {
                espl__batch b = next(l);
                assert_int_equal(b.epoch, epoch);
                for (int64_t i = 0; i < b.count; i++) {
                    assert_in_range(b.index[i], 0, 100);
                    assert_false(seen[b.index[i]]);
                    seen[b.index[i]] = true;
                    order[epoch][done++] = b.index[i];
                }
            }
        }
        assert_memory_not_equal(order[0], order[1], sizeof order[0]);
        assert_memory_not_equal(order[1], order[2], sizeof order[0]);
        static int64_t other[101];
        if (seed) assert_memory_not_equal(order[0], other, sizeof other);
        memcpy(other, order[0], sizeof other);
        espl__loader_destroy(&l);
    }
    espl_dataset_close(&d);
}

static uint64_t digest(const espl__batch *b) {
    uint64_t h = espl__mix64((uint64_t)b->epoch << 32 ^ (uint64_t)b->step);
    for (int64_t i = 0; i < b->count; i++)
        h = espl__mix64(h ^ (uint64_t)b->index[i] ^ (uint64_t)b->labels[i] << 32);
    for (int64_t i = 0; i < b->count * 784; i++) {
        uint32_t bits;
        memcpy(&bits, &b->input[0][i], sizeof bits);
        h = espl__mix64(h ^ bits);
    }
    return h;
}

/* Wherever one starts, with a thread or without one, the batches of a place are the same bytes. */
static void places_decide(void **state) {
    (void)state;
    enum { STEPS = 26, EPOCHS = 3 };
    uint64_t want[EPOCHS][STEPS];
    espl_dataset *d = open_text(DIGITS);
    espl__loader_options o = training;
    o.prefetch = 0;
    espl__loader *l = start(d, o);
    assert_int_equal(espl__loader_steps(l), STEPS);
    for (int i = 0; i < EPOCHS * STEPS; i++) {
        espl__batch b = next(l);
        want[i / STEPS][i % STEPS] = digest(&b);
    }
    espl__loader_destroy(&l);
    o.prefetch = 5;
    l = start(d, o);
    espl__rng rng = espl__rng_seed(3, 3);
    for (int turn = 0; turn < 60; turn++) {
        int64_t epoch = espl__rng_below(&rng, EPOCHS), step = espl__rng_below(&rng, STEPS);
        seek(l, epoch, step);
        for (int k = (int)espl__rng_below(&rng, 9); k > 0 && epoch < EPOCHS; k--) {
            espl__batch b = next(l);
            assert_true(b.epoch == epoch && b.step == step);
            assert_true(digest(&b) == want[epoch][step]);
            epoch += ++step == STEPS;
            step %= STEPS;
        }
    }
    seek(l, 1, STEPS); /* the end of one epoch is the start of the next */
    espl__batch b = next(l);
    assert_true(b.epoch == 2 && b.step == 0 && digest(&b) == want[2][0]);
    espl__loader_destroy(&l);
    espl_dataset_close(&d);
}

/* The batches of all ranks, one behind the other, are those of one rank; the last batch may leave some out.
 */
static void ranks_share_batches(void **state) {
    (void)state;
    espl_dataset *d = open_text("kind: digits\ncount: 25\naugment: {pad: 2}\n"), *part[4];
    espl__loader_options o = training;
    o.batch = 8; /* 8, 8, 8, 1 */
    espl__loader *all = start(d, o), *ranks[4];
    for (o.rank = 0, o.ranks = 4; o.rank < 4; o.rank++) {
        part[o.rank] = open_text("kind: digits\ncount: 25\naugment: {pad: 2}\n");
        ranks[o.rank] = start(part[o.rank], o);
        assert_int_equal(espl__loader_steps(ranks[o.rank]), 4);
    }
    for (int step = 0; step < 8; step++) {
        espl__batch whole = next(all);
        int64_t done = 0;
        for (int r = 0; r < 4; r++) {
            espl__batch b = next(ranks[r]);
            assert_true(b.total == whole.count && b.step == whole.step && b.epoch == whole.epoch);
            assert_true(b.count == 2 || step % 4 == 3);
            assert_memory_equal(b.index, whole.index + done, sizeof(int64_t) * (size_t)b.count);
            assert_memory_equal(b.labels, whole.labels + done, sizeof(int64_t) * (size_t)b.count);
            assert_memory_equal(b.input[0], whole.input[0] + done * 784,
                                sizeof(float) * 784 * (size_t)b.count);
            done += b.count;
        }
        assert_int_equal(done, whole.count);
    }
    for (int r = 0; r < 4; r++) {
        espl__loader_destroy(&ranks[r]);
        espl_dataset_close(&part[r]);
    }
    espl__loader_destroy(&all);
    espl_dataset_close(&d);
}

static void the_last_batch_may_go(void **state) {
    (void)state;
    espl_dataset *d = open_text("kind: digits\ncount: 25\n");
    espl__loader *l = start(d, (espl__loader_options){.batch = 8, .drop_last = true});
    assert_int_equal(espl__loader_steps(l), 3);
    for (int i = 0; i < 7; i++) {
        espl__batch b = next(l);
        assert_true(b.count == 8 && b.epoch == i / 3 && b.step == i % 3 && b.index[0] == i % 3 * 8);
    }
    espl__loader_destroy(&l);
    espl_dataset_close(&d);
}

/* --- what is wrong, and ends ------------------------------------------------------------------------- */

static void options_are_checked(void **state) {
    (void)state;
    static const struct {
        espl__loader_options options;
        const char *part;
    } cases[] = {
        {{.batch = 0}, "a batch of 0 samples"},
        {{.batch = (int64_t)1 << 40}, "a batch of 1099511627776 samples"},
        {{.batch = 6, .ranks = 4}, "cannot be cut into equal parts for 4 ranks"},
        {{.batch = 8, .ranks = 4, .rank = 4}, "there is no rank 4 of 4"},
        {{.batch = 8, .rank = 1}, "there is no rank 1 of 0"},
        {{.batch = 8, .prefetch = -1}, "-1 batches"},
        {{.batch = 26, .drop_last = true}, "25 samples of"},
    };
    espl_dataset *d = open_text("kind: digits\ncount: 25\n");
    for (size_t i = 0; i < ESPL_COUNT(cases); i++) {
        espl__loader *l;
        espl_diag diag = {0};
        assert_int_equal(espl__loader_create(ctx, d, &cases[i].options, &l, &diag), ESPL_INVALID);
        assert_null(l);
        if (!strstr(diag.message, cases[i].part)) fail_msg("'%s' lacks '%s'", diag.message, cases[i].part);
    }
    espl__loader *l = start(d, (espl__loader_options){.batch = 8});
    assert_int_equal(espl__loader_seek(l, -1, 0, NULL), ESPL_INVALID);
    assert_int_equal(espl__loader_seek(l, 0, 5, NULL), ESPL_INVALID);
    assert_int_equal(espl__loader_seek(l, 0, -1, NULL), ESPL_INVALID);
    espl__loader_destroy(&l);
    espl_dataset_close(&d);
}

/* Sample 2 of these cannot be decoded: the batches before it come, it fails with its sentence as often as it
 * is asked for, and a seek goes past it. */
static void failures_reach_the_caller(void **state) {
    (void)state;
    static const char list[] = "colour.jpg 0\nrgb.png 1\ncmyk.jpg 2\ninterlaced.png 3\n";
    write_file("list.txt", list, sizeof list - 1);
    for (int prefetch = 0; prefetch < 4; prefetch++) {
        espl_dataset *d = open_text("kind: images\npath: " FIXTURES "data\nlabels: list.txt\n");
        espl__loader *l = start(d, (espl__loader_options){.batch = 1, .prefetch = prefetch});
        for (int round = 0; round < 2; round++) {
            for (int i = 0; i < 2; i++) assert_int_equal(next(l).labels[0], i);
            for (int i = 0; i < 3; i++) {
                espl__batch b;
                espl_diag diag = {0};
                assert_int_equal(espl__loader_next(l, &b, &diag), ESPL_UNSUPPORTED);
                if (!strstr(diag.message, "cmyk.jpg: the JPEG is neither")) fail_msg("'%s'", diag.message);
            }
            seek(l, 4, 3);
            espl__batch b = next(l);
            assert_true(b.epoch == 4 && b.labels[0] == 3);
            b = next(l);
            assert_true(b.epoch == 5 && b.labels[0] == 0);
            seek(l, 0, 0);
        }
        espl__loader_destroy(&l);
        espl_dataset_close(&d);
    }
}

/* Destroying and seeking at any moment neither hangs nor races (the thread sanitizer runs this too). */
static void ends_at_any_moment(void **state) {
    (void)state;
    espl_dataset *d = open_text(DIGITS);
    for (int i = 0; i < 200; i++) {
        espl__loader_options o = training;
        o.prefetch = i % 4 + 1;
        espl__loader *l = start(d, o);
        for (int k = i % 7; k > 0; k--) next(l);
        if (i % 3 == 0) seek(l, i, i % 26);
        espl__loader_destroy(&l);
        assert_null(l);
    }
    espl_dataset_close(&d);
}

/* From the second epoch on nothing is allocated. */
static void nothing_is_allocated(void **state) {
    (void)state;
    espl_dataset *d = open_text("kind: images\npath: " FIXTURES "data/classes.tar\nsplit: train\n");
    espl__loader *l = start(d, (espl__loader_options){.batch = 2, .shuffle = true});
    for (int i = 0; i < 3; i++) next(l);
    uint64_t before = espl_context_allocations(ctx);
    for (int i = 0; i < 6; i++) next(l);
    assert_int_equal(espl_context_allocations(ctx), before);
    espl__loader_destroy(&l);
    espl_dataset_close(&d);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(augments_as_numpy_does),  cmocka_unit_test(every_kind_works),
        cmocka_unit_test(orders_are_permutations), cmocka_unit_test(places_decide),
        cmocka_unit_test(ranks_share_batches),     cmocka_unit_test(the_last_batch_may_go),
        cmocka_unit_test(options_are_checked),     cmocka_unit_test(failures_reach_the_caller),
        cmocka_unit_test(ends_at_any_moment),      cmocka_unit_test(nothing_is_allocated),
    };
    return cmocka_run_group_tests_name("loader", tests, setup, teardown);
}
