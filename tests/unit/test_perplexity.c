/* Scores of language models against NumPy (tests/oracle/make_perplexity_fixtures.py). */
#include "data_rig.h"

#include <math.h>

#include "espalier/compress.h"
#include "espalier/evaluate.h"

#define MODEL FIXTURES "perplexity/lm.onnx"
#define FIXED FIXTURES "perplexity/lm_fixed.onnx"
#define SMALL "kind: text\npath: " FIXTURES "text/small.txt\n"

enum { CROSS_ENTROPY, TOP1, TOP5, RESTARTED, EXPECTED };

static void expected(double *out) {
    espl_tensor t;
    assert_int_equal(espl_npy_read(ctx, FIXTURES "perplexity/expected.npy", &t, NULL), ESPL_OK);
    memcpy(out, t.data, EXPECTED * sizeof *out);
    espl_tensor_free(ctx, &t);
}

/* tokens of that shape, or as the model has them (rows 0). */
static espl_session *open_model(const char *path, int64_t rows, int64_t columns) {
    espl_graph *g;
    espl_session *s;
    espl_shape shapes[] = {{2, {rows, columns}}, {3, {1, columns, 10}}, {3, {1, columns, 10}}};
    espl_session_options options = {.input_shapes = rows ? shapes : NULL};
    espl_diag diag = {0};
    if (espl_graph_read(ctx, path, &g, &diag) != ESPL_OK) fail_msg("%s", diag.message);
    if (espl_session_create(ctx, g, &options, &s, &diag) != ESPL_OK) fail_msg("%s", diag.message);
    espl_graph_destroy(&g);
    return s;
}

static espl_scores evaluate(espl_session *s, const char *text, int64_t count) {
    espl_dataset *d = open_text(text);
    espl_scores scores;
    espl_diag diag = {0};
    espl_evaluation e = {.step = 1, .count = count};
    if (espl_evaluate(ctx, s, d, &e, &scores, &diag) != ESPL_OK) fail_msg("%s", diag.message);
    espl_dataset_close(&d);
    return scores;
}

static void check_scores(const espl_scores *s) {
    double want[EXPECTED];
    expected(want);
    assert_true(s->has_perplexity && s->has_labels && !s->has_mse);
    assert_int_equal(s->tokens, 188);
    assert_true(fabs(want[CROSS_ENTROPY] - want[RESTARTED]) > 1e-3); /* so that the state matters */
    if (fabs(s->loss - want[CROSS_ENTROPY]) > 1e-6)
        fail_msg("cross-entropy %.9f, not %.9f", s->loss, want[CROSS_ENTROPY]);
    assert_true(fabs(s->perplexity - exp(want[CROSS_ENTROPY])) < 1e-4);
    assert_true(fabs(s->top1 - want[TOP1]) < 1e-9 && fabs(s->top5 - want[TOP5]) < 1e-9);
}

/* Into runs of whatever length the text is cut, the last one full or not, the scores are those of one run. */
static void every_cut_gives_numpys_scores(void **state) {
    (void)state;
    static const int64_t rows[] = {1, 4, 35, 94, 187, 188, 300};
    for (size_t i = 0; i < ESPL_COUNT(rows); i++) {
        espl_session *s = open_model(MODEL, rows[i], 1);
        for (int again = 0; again < 2; again++) { /* the state begins as zeros each time */
            espl_scores scores = evaluate(s, SMALL, -1);
            assert_int_equal(scores.samples, (188 + rows[i] - 1) / rows[i]);
            check_scores(&scores);
        }
        espl_session_destroy(&s);
    }
    espl_session *s = open_model(FIXED, 0, 0);
    espl_scores scores = evaluate(s, SMALL, -1);
    assert_int_equal(scores.samples, 27);
    check_scores(&scores);
    espl_session_destroy(&s);
}

/* Without a state between runs of 35 tokens the cross-entropy is the other one. */
static void states_make_the_difference(void **state) {
    (void)state;
    double want[EXPECTED], sum = 0;
    expected(want);
    for (int64_t part = 0; part < 6; part++) {
        espl_session *s = open_model(MODEL, 35, 1);
        espl_dataset *d = open_text(SMALL);
        espl_scores scores;
        espl_evaluation e = {.first = part, .step = 1, .count = 1};
        assert_int_equal(espl_evaluate(ctx, s, d, &e, &scores, NULL), ESPL_OK);
        assert_int_equal(scores.tokens, part < 5 ? 35 : 13);
        sum += scores.loss * (double)scores.tokens;
        espl_dataset_close(&d);
        espl_session_destroy(&s);
    }
    assert_true(fabs(sum / 188 - want[RESTARTED]) < 1e-6);
}

/* `count` of the description and of the evaluation are the same cut. */
static void a_part_of_the_text(void **state) {
    (void)state;
    espl_session *s = open_model(MODEL, 20, 1);
    espl_scores a = evaluate(s, SMALL "sequence: 20\ncount: 3\n", -1),
                b = evaluate(s, SMALL "sequence: 20\n", 3);
    assert_true(a.tokens == 60 && b.tokens == 60 && a.loss == b.loss && a.top5 == b.top5);
    espl_session_destroy(&s);
}

static void what_does_not_fit_is_told(void **state) {
    (void)state;
    static const struct {
        const char *model;
        int64_t rows, columns;
        const char *text, *part;
    } cases[] = {
        {MODEL, 35, 2, SMALL, "input 'tokens' wants s64 35x2; a text feeds one column"},
        {MODEL, 35, 1, SMALL "unit: char\n", "does not score the 29 tokens of the data set"},
        {MODEL, 35, 1, "kind: digits\ncount: 1\n", "input 'tokens' wants s64 35x1, a sample"},
        {ESPL_SOURCE_DIR "/examples/digits.onnx", 0, 0, SMALL,
         "wants f32 1x1x28x28; a text feeds one column"},
        {FIXTURES "transformer/post_norm.onnx", 0, 0, SMALL, "2 inputs that are no states"},
    };
    for (size_t i = 0; i < ESPL_COUNT(cases); i++) {
        espl_session *s = open_model(cases[i].model, cases[i].rows, cases[i].columns);
        espl_dataset *d = open_text(cases[i].text);
        espl_scores scores;
        espl_diag diag = {0};
        assert_int_equal(espl_evaluate(ctx, s, d, &(espl_evaluation){.count = -1}, &scores, &diag),
                         ESPL_SHAPE);
        if (!strstr(diag.message, cases[i].part)) fail_msg("'%s' lacks '%s'", diag.message, cases[i].part);
        espl_dataset_close(&d);
        espl_session_destroy(&s);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_cut_gives_numpys_scores),
        cmocka_unit_test(states_make_the_difference),
        cmocka_unit_test(a_part_of_the_text),
        cmocka_unit_test(what_does_not_fit_is_told),
    };
    return cmocka_run_group_tests_name("perplexity", tests, setup, teardown);
}
