/* Text as tokens and as steps of a language model, against tests/oracle/make_text_fixtures.py; hostile texts.
 */
#include "data_rig.h"

#include <inttypes.h>

#include "data/loader.h"

#define SMALL "kind: text\npath: " FIXTURES "text/small.txt\n"
#define OTHER "kind: text\npath: " FIXTURES "text/other.txt\nvocab: " FIXTURES "text/small.txt\n"

static espl_tensor load(const char *name) {
    char path[512];
    espl_tensor t;
    snprintf(path, sizeof path, FIXTURES "text/%s", name);
    assert_int_equal(espl_npy_read(ctx, path, &t, NULL), ESPL_OK);
    return t;
}

/* --- tokens -------------------------------------------------------------------------------------------- */

static void check_tokens(const char *text, const char *array, int64_t vocabulary) {
    espl_dataset *d = open_text(text);
    espl_tensor want = load(array);
    int64_t count;
    const int32_t *tokens = espl_dataset_tokens(d, &count);
    assert_int_equal(count, want.shape.dim[0]);
    assert_int_equal(espl_dataset_vocabulary(d), vocabulary);
    for (int64_t i = 0; i < count; i++)
        if (tokens[i] != ((const int64_t *)want.data)[i])
            fail_msg("%s: token %d is %d, not %d", array, (int)i, tokens[i], (int)((int64_t *)want.data)[i]);
    espl_tensor_free(ctx, &want);
    espl_dataset_close(&d);
}

static void tokens_are_as_counted_in_python(void **state) {
    (void)state;
    check_tokens(SMALL, "words.npy", 21);
    check_tokens(SMALL "unit: word\nsequence: 188\n", "words.npy", 21);
    check_tokens(SMALL "unit: char\n", "chars.npy", 29);
    check_tokens(SMALL "vocab: " FIXTURES "text/small.txt\n", "words.npy", 21);
    check_tokens(OTHER "sequence: 8\n", "other.npy", 21);
}

/* Samples follow one another; `count` cuts the text behind the last label. */
static void samples_are_sequences(void **state) {
    (void)state;
    espl_dataset *d = open_text(SMALL "sequence: 10\ncount: 3\n");
    espl_tensor want = load("words.npy");
    float x[10];
    int64_t count, label;
    assert_non_null(espl_dataset_tokens(d, &count));
    assert_int_equal(count, 31);
    assert_int_equal(espl_dataset_count(d), 3);
    assert_int_equal(espl_dataset_shape(d, 0).rank, 1);
    assert_int_equal(espl_dataset_shape(d, 0).dim[0], 10);
    assert_false(espl_dataset_has_labels(d));
    assert_int_equal(espl_dataset_label(d, 0, &label, NULL), ESPL_OK);
    assert_int_equal(label, -1);
    assert_string_equal(espl_dataset_describe(d), "text small.txt, 3 samples of 10, 31 tokens of 21");
    for (int i = 0; i < 30; i++) {
        if (i % 10 == 0) assert_int_equal(espl_dataset_read(d, 0, i / 10, x, NULL), ESPL_OK);
        assert_true(x[i % 10] == (float)((const int64_t *)want.data)[i]);
    }
    assert_int_equal(espl_dataset_read(d, 0, 3, x, NULL), ESPL_INVALID);
    espl_dataset_close(&d);
    d = open_text("kind: digits\ncount: 1\n");
    assert_null(espl_dataset_tokens(d, &count));
    assert_int_equal(count, 0);
    assert_int_equal(espl_dataset_vocabulary(d), 0);
    espl_dataset_close(&d);
    espl_tensor_free(ctx, &want);
}

/* --- steps of a language model ----------------------------------------------------------------------- */

static void check_step(const espl__batch *b, const espl_tensor *want, int rank, int64_t columns) {
    const int64_t *step = (const int64_t *)want->data + b->step * 2 * 4 * 6;
    assert_true(b->count == columns && b->total == 6 && b->sequence == 4 && b->inputs == 0);
    for (int t = 0; t < 4; t++)
        for (int64_t c = 0; c < columns; c++) {
            int64_t at = t * 6 + rank * columns + c;
            assert_int_equal(b->tokens[t * columns + c], step[at]);
            assert_int_equal(b->targets[t * columns + c], step[4 * 6 + at]);
        }
}

static void steps_go_down_columns(void **state) {
    (void)state;
    espl_tensor want = load("steps.npy");
    espl_dataset *d = open_text(SMALL "sequence: 4\n");
    for (int prefetch = 0; prefetch < 3; prefetch++)
        for (int ranks = 1; ranks <= 6; ranks += ranks == 3 ? 3 : 1)
            for (int rank = 0; rank < ranks; rank++) {
                espl__loader *l;
                espl__batch b;
                espl__loader_options o = {
                    .batch = 6, .shuffle = true, .prefetch = prefetch, .rank = rank, .ranks = ranks};
                assert_int_equal(espl__loader_create(ctx, d, &o, &l, NULL), ESPL_OK);
                assert_int_equal(espl__loader_steps(l), want.shape.dim[0]);
                for (int64_t i = 0; i < 2 * espl__loader_steps(l); i++) {
                    assert_int_equal(espl__loader_next(l, &b, NULL), ESPL_OK);
                    assert_true(b.epoch == i / 7 && b.step == i % 7);
                    check_step(&b, &want, rank, 6 / ranks);
                }
                assert_int_equal(espl__loader_seek(l, 9, 5, NULL), ESPL_OK);
                assert_int_equal(espl__loader_next(l, &b, NULL), ESPL_OK);
                assert_true(b.epoch == 9 && b.step == 5);
                check_step(&b, &want, rank, 6 / ranks);
                espl__loader_destroy(&l);
            }
    espl_dataset_close(&d);
    espl_tensor_free(ctx, &want);
}

/* 189 tokens: 27 columns of 7 hold one step of 6, 28 columns of 6 none. */
static void columns_may_be_too_short(void **state) {
    (void)state;
    espl_dataset *d = open_text(SMALL);
    espl__loader *l;
    espl_diag diag = {0};
    espl__loader_options o = {.batch = 27, .sequence = 6};
    assert_int_equal(espl__loader_create(ctx, d, &o, &l, &diag), ESPL_OK);
    assert_int_equal(espl__loader_steps(l), 1);
    espl__loader_destroy(&l);
    o.batch = 28;
    assert_int_equal(espl__loader_create(ctx, d, &o, &l, &diag), ESPL_INVALID);
    assert_non_null(strstr(diag.message, "the 189 tokens of "));
    assert_non_null(
        strstr(diag.message, "in 28 columns are 6 each, and a step of 6 and the token behind it need 7"));
    o.batch = 1000; /* columns of no token */
    assert_int_equal(espl__loader_create(ctx, d, &o, &l, NULL), ESPL_INVALID);
    o = (espl__loader_options){.batch = 1, .sequence = -3};
    assert_int_equal(espl__loader_create(ctx, d, &o, &l, NULL), ESPL_INVALID);
    o.sequence = INT64_MAX;
    assert_int_equal(espl__loader_create(ctx, d, &o, &l, NULL), ESPL_INVALID);
    espl_dataset_close(&d);
}

/* --- hostile texts ----------------------------------------------------------------------------------- */

static void sentences(void **state) {
    (void)state;
    static char long_word[4098 + 2];
    memset(long_word, 'x', 4097);
    write_file("long.txt", long_word, 4097);
    write_file("full.txt", long_word, 4096);
    write_file("empty.txt", "", 0);
    write_file("nul.txt", "a b\nc\0d\n", 8);
    write_file("latin.txt", "a\nb\xe4\n", 5);
    write_file("three.txt", "a b\n", 4);
    write_file("known.txt", "a b c\n", 6);
    write_file("new.txt", "a\n b d\n", 7);
    static const struct {
        const char *text;
        espl_status status;
        const char *part;
    } cases[] = {
        {"kind: text\n", ESPL_INVALID, "path: is missing"},
        {"kind: text\npath: nowhere.txt\n", ESPL_IO, "nowhere.txt"},
        {"kind: text\npath: three.txt\nvocab: nowhere.txt\n", ESPL_IO, "nowhere.txt"},
        {"kind: text\npath: empty.txt\n", ESPL_FORMAT, "empty.txt: has 0 tokens"},
        {"kind: text\npath: three.txt\nsequence: 3\n", ESPL_FORMAT, "need 4"},
        {"kind: text\npath: three.txt\nvocab: empty.txt\n", ESPL_FORMAT, "empty.txt, which has no <unk>"},
        {"kind: text\npath: three.txt\nsequence: -1\n", ESPL_INVALID, "set.yaml:3: sequence"},
        {"kind: text\npath: three.txt\nunit: byte\n", ESPL_INVALID, "neither word nor char"},
        {"kind: text\npath: three.txt\nevery: {n: 2, keep: [0]}\n", ESPL_INVALID, "every: has no meaning"},
        {"kind: text\npath: three.txt\nscale: 1/255\n", ESPL_INVALID, "scale: has no meaning for kind text"},
        {"kind: text\npath: three.txt\nmean: [1]\n", ESPL_INVALID, "mean: has no meaning"},
        {"kind: text\npath: three.txt\naugment: {flip: true}\n", ESPL_INVALID, "augment: has no meaning"},
        {"kind: digits\nsequence: 3\n", ESPL_INVALID, "sequence: has no meaning for kind digits"},
        {"kind: text\npath: three.txt\nsequence: 1\ncount: 3\n", ESPL_INVALID, "there are 2"},
        {"kind: text\npath: nul.txt\nsequence: 1\n", ESPL_FORMAT, "nul.txt:2: has a NUL byte"},
        {"kind: text\npath: nul.txt\nunit: char\n", ESPL_FORMAT, "nul.txt:2: has a NUL byte"},
        {"kind: text\npath: latin.txt\nunit: char\n", ESPL_FORMAT, "latin.txt:2: is not UTF-8"},
        {"kind: text\npath: latin.txt\nsequence: 1\n", ESPL_OK, ""},
        {"kind: text\npath: long.txt\nsequence: 1\n", ESPL_FORMAT,
         "long.txt:1: has a word of more than 4096"},
        {"kind: text\npath: full.txt\nsequence: 1\n", ESPL_OK, ""},
        {"kind: text\npath: new.txt\nsequence: 1\nvocab: known.txt\n", ESPL_FORMAT,
         "new.txt:2: 'd' is not among the tokens of "},
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
}

/* Any bytes give a data set or a sentence. */
static void any_bytes(void **state) {
    (void)state;
    static const char some[] = "a b\n\r\t \0<unk>\xc3\xa9\xe2\x82\xac\xff\xf0\x9f";
    espl__rng rng = espl__rng_seed(4, 4);
    for (int i = 0; i < 3000; i++) {
        char bytes[24];
        size_t length = espl__rng_below(&rng, sizeof bytes + 1);
        for (size_t k = 0; k < length; k++) bytes[k] = some[espl__rng_below(&rng, sizeof some)];
        write_file("any.txt", bytes, length);
        espl_dataset *d;
        espl_diag diag = {0};
        espl_status status = try_text(i % 2 ? "kind: text\npath: any.txt\nsequence: 2\n"
                                            : "kind: text\npath: any.txt\nsequence: 2\nunit: char\n",
                                      &d, &diag);
        assert_true(status == ESPL_OK || (status == ESPL_FORMAT && diag.message[0]));
        int64_t count = 0;
        const int32_t *tokens = d ? espl_dataset_tokens(d, &count) : NULL;
        for (int64_t k = 0; k < count; k++) assert_in_range(tokens[k], 0, espl_dataset_vocabulary(d) - 1);
        espl_dataset_close(&d);
    }
}

/* A line of 64 MiB without an end is one word too long, not a hang or a copy. */
static void one_endless_line(void **state) {
    (void)state;
    size_t length = 64 << 20;
    char *bytes = malloc(length);
    memset(bytes, 'x', length);
    write_file("line.txt", bytes, length);
    free(bytes);
    espl_dataset *d;
    espl_diag diag = {0};
    assert_int_equal(try_text("kind: text\npath: line.txt\n", &d, &diag), ESPL_FORMAT);
    assert_non_null(strstr(diag.message, "line.txt:1: has a word of more than 4096 bytes"));
    write_file("line.txt", "", 0);
}

/* --- the Penn Treebank; the sums come from Python ---------------------------------------------------- */

static void treebank(void **state) {
    (void)state;
    static const struct {
        const char *part;
        int64_t tokens, sum, weighted;
    } want[] = {{"train", 929589, 759998516, 36518281181},
                {"valid", 73760, 64138036, 3070248316},
                {"test", 82430, 63489579, 3080877509}};
    char path[1024], text[512];
    snprintf(path, sizeof path, "%s/data/ptb/ptb.train.txt.gz", assets);
    if (access(path, R_OK) != 0) {
        print_message("skipped: no assets\n");
        skip();
    }
    for (size_t i = 0; i < ESPL_COUNT(want); i++) {
        snprintf(text, sizeof text,
                 "kind: text\npath: ${ESPL_ASSETS}/data/ptb/ptb.%s.txt.gz\n"
                 "vocab: ${ESPL_ASSETS}/data/ptb/ptb.train.txt.gz\n",
                 want[i].part);
        espl_dataset *d = open_text(text);
        int64_t count, sum = 0, weighted = 0;
        const int32_t *tokens = espl_dataset_tokens(d, &count);
        assert_int_equal(count, want[i].tokens);
        assert_int_equal(espl_dataset_vocabulary(d), 10000);
        for (int64_t k = 0; k < count; k++) sum += tokens[k], weighted += tokens[k] * (k % 97);
        assert_int_equal(sum, want[i].sum);
        assert_int_equal(weighted, want[i].weighted);
        espl_dataset_close(&d);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens_are_as_counted_in_python),
        cmocka_unit_test(samples_are_sequences),
        cmocka_unit_test(steps_go_down_columns),
        cmocka_unit_test(columns_may_be_too_short),
        cmocka_unit_test(sentences),
        cmocka_unit_test(any_bytes),
        cmocka_unit_test(one_endless_line),
        cmocka_unit_test(treebank),
    };
    return cmocka_run_group_tests_name("text", tests, setup, teardown);
}
