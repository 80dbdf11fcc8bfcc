/* Recipes: which row decides, mistakes with their lines, writing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>

#include "../clock.h"
#include "compress/recipe.h"

static espl_context *ctx;
static uint64_t at_start;

static int setup(void **state) {
    (void)state;
    if (espl_context_create(NULL, &ctx, NULL) != ESPL_OK) return -1;
    at_start = espl_context_memory(ctx, NULL);
    return 0;
}
static int teardown(void **state) {
    (void)state;
    int leak = espl_context_memory(ctx, NULL) != at_start;
    espl_context_destroy(&ctx);
    return leak ? -1 : 0;
}

static espl__recipe *parse(const char *text) {
    espl__recipe *recipe = NULL;
    espl_diag diag = {0};
    if (espl__recipe_parse(ctx, "r.yaml", text, strlen(text), &recipe, &diag) != ESPL_OK)
        fail_msg("%s", diag.message);
    return recipe;
}

static void last_matching_row_decides(void **state) {
    (void)state;
    espl__recipe *r = parse("layers:\n"
                            "- {match: '*', format: s8}\n"
                            "- {match: 'op:Gemm', format: s4, scale: channel, activations: u8}\n"
                            "- {match: 'layer1.*.conv?', format: s6, pattern: dense}\n"
                            "- {match: 'fc[1]/w', format: f32}\n"
                            "- {match: 'op:LS*', format: s5}\n");
    static const struct {
        const char *layer, *op;
        int row;
    } rows[] = {
        {"conv1", "Conv", 0},           {"fc", "Gemm", 1},           {"layer1.0.conv2", "Conv", 2},
        {"layer1.10.x.conv2", "Conv", 2}, {"layer1.0.conv22", "Conv", 0}, {"layer1.0.conv", "Conv", 0},
        {"fc[1]/w", "Gemm", 3},         {"fc1/w", "Gemm", 1},        {"rnn", "LSTM", 4},
        {"fc[1]/w", "LSTM", 4},         {"", "Conv", 0},             {"x", NULL, 0},
    };
    for (size_t i = 0; i < ESPL_COUNT(rows); i++)
        assert_ptr_equal(espl__recipe_lookup(r, rows[i].layer, rows[i].op), &r->layers[rows[i].row]);
    assert_int_equal(r->layers[1].format, ESPL_FORMAT_S4);
    assert_int_equal(r->layers[1].scale, ESPL__SCALE_CHANNEL);
    assert_int_equal(r->layers[1].activations, ESPL_FORMAT_U8 + 1);
    assert_int_equal(r->layers[0].scale, ESPL__SCALE_UNSET);
    assert_int_equal(r->layers[0].activations, ESPL__ACTIVATIONS_UNSET);
    assert_null(r->layers[0].pattern);
    assert_int_equal(espl__recipe_pattern(&r->layers[0]).pattern, ESPL_PATTERN_DENSE);
    assert_null(r->max_drop);
    espl__recipe_destroy(ctx, &r);
    assert_null(r);
    r = parse("layers:\n- {match: 'a*', format: s8}\n");
    assert_null(espl__recipe_lookup(r, "b", "Conv"));
    espl__recipe_destroy(ctx, &r);
    r = parse("layers: []\n");
    assert_null(espl__recipe_lookup(r, "b", "Conv"));
    espl__recipe_destroy(ctx, &r);
}

static void mistakes_name_line_and_key(void **state) {
    (void)state;
    static const struct {
        const char *text, *sentence;
    } rows[] = {
        {"layers:\n- {match: a, format: s9}\n",
         "r.yaml:2: layers[0].format: 's9' is not known (one of: f32, u8, s8, s32, s2, s3, s4, s5, s6, s7"},
        {"layers:\n- {match: a, format: s8}\n- match: b\n  format: s8\n  pattern: stripes\n",
         "r.yaml:5: layers[1].pattern: 'stripes' is not a pattern; give one of: dense, unstructured P% [global], N:M, "
         "bank N:M, block RxC P%, row P%, column P%, kernel P%"},
        {"layers:\n- {match: a, format: s8, pattern: 'bank 16:2'}\n",
         "r.yaml:2: layers[0].pattern: 'bank 16:2' is not a pattern; give one of: dense"},
        {"layers:\n- {match: a, format: s8, pattern: unstructured 90}\n",
         "r.yaml:2: layers[0].pattern: 'unstructured 90' is not a pattern"},
        {"layers:\n- {match: a, format: s8, pattern: 2:4, saliency: mood}\n",
         "r.yaml:2: layers[0].saliency: 'mood' is not known (one of: magnitude"},
        {"layers:\n- {match: a}\n", "r.yaml:2: layers[0]: key 'format' is missing"},
        {"layers:\n- {format: s8}\n", "r.yaml:2: layers[0]: key 'match' is missing"},
        {"layers:\n- match: a\n  format: s32\n", "r.yaml:3: layers[0].format: s32 is not a format of weights "
                                                 "(f32, f16, bf16, tf32, e4m3, e5m2, signed integers"},
        {"layers:\n- match: a\n  format: f32\n  scale: tensor\n",
         "r.yaml:4: layers[0].scale: it is for formats with scales, and the format is a float"},
        {"layers:\n- match: a\n  format: f32\n  activations: u8\n",
         "r.yaml:4: layers[0].activations: it must be f32 or another float where the weights are floats"},
        {"layers:\n- {match: a, format: binary, pattern: 2:4}\n",
         "r.yaml:2: layers[0].pattern: it is for formats that have a 0"},
        {"layers:\n- {match: a, format: s4, scale: tensor, group: 32}\n", "r.yaml:2: layers[0].group: it needs one scale a"},
        {"layers:\n- {match: a, format: s4, compute: dynamic, activations: u4}\n",
         "r.yaml:2: layers[0].compute: it dynamic takes weights of at most 8 bits"},
        {"layers:\n- {match: a, format: e4m3, round: stochastic}\n", "r.yaml:2: layers[0].round: it stochastic is for"},
        {"layers:\n- {match: a, format: s4, activations: binary}\n", "r.yaml:2: layers[0].activations: it must be an int"},
        {"max_drop: -1\nlayers: []\n", "r.yaml:1: max_drop: -1 must not be negative"},
        {"layers: []\nmax_drop: little\n", "r.yaml:2: max_drop: 'little' is not a number"},
        {"goal: fame\nlayers: []\n", "r.yaml:1: goal: 'fame' is not known (one of: latency, size, energy)"},
        {"observer: magic\nlayers: []\n", "r.yaml:1: observer: 'magic' is none; give one of: minmax, average"},
        {"chip: x\n", "r.yaml:1: key 'layers' is missing"},
        {"layers: []\nlayer: []\n",
         "r.yaml:2: unknown key 'layer' (known: note, chip, flavour, goal, max_drop, observer, repair, accumulator, "
         "on_overflow, layers)"},
        {"layers: []\nrepair: [bias,\n  polish]\n", "r.yaml:3: repair[1]: 'polish' is no repair; give some of: equalize"},
    };
    for (size_t i = 0; i < ESPL_COUNT(rows); i++) {
        espl__recipe *r = NULL;
        espl_diag diag = {0};
        assert_int_equal(espl__recipe_parse(ctx, "r.yaml", rows[i].text, strlen(rows[i].text), &r, &diag),
                         ESPL_FORMAT);
        assert_null(r);
        /* The lists of formats and patterns may grow, so only the start of those sentences is fixed. */
        if (strncmp(diag.message, rows[i].sentence, strlen(rows[i].sentence))) fail_msg("%s", diag.message);
    }
    espl__recipe *r = NULL;
    espl_diag diag = {0};
    assert_int_equal(espl__recipe_read(ctx, "no/such.yaml", &r, &diag), ESPL_IO);
    assert_non_null(strstr(diag.message, "no/such.yaml"));
}

static void writes_what_it_reads(void **state) {
    (void)state;
    const char *text = "note: 'found by search: #7'\n"
                       "chip: x86-avx512-vnni\n"
                       "flavour: ort-x86\n"
                       "goal: latency\n"
                       "max_drop: 0.5\n"
                       "observer: minmax\n"
                       "repair: [smooth 0.7, bias]\n"
                       "layers:\n"
                       "- {match: '*', pattern: dense, format: s8}\n"
                       "- {match: 'op:Conv', pattern: dense, format: f32, activations: f32}\n"
                       "- {match: \"8\", pattern: 'bank 2:16', saliency: magnitude, format: s3, activations: u8, scale: "
                       "channel}\n"
                       "- {match: w, pattern: unstructured 90% global, format: f32}\n"
                       "- {match: x, pattern: '2:4', format: f32}\n"
                       "- {match: y, pattern: block 4x8 33.3%, format: f32}\n";
    espl__recipe *r = parse(text);
    assert_string_equal(espl__recipe_flavour_name(r), "ort-x86");
    assert_true(*r->max_drop == 0.5);
    espl__buffer out;
    espl__buffer_init(&out, ctx);
    assert_int_equal(espl__recipe_emit(ctx, r, &out, NULL), ESPL_OK);
    assert_string_equal(out.data, text);
    espl__buffer_free(&out);
    espl__recipe_destroy(ctx, &r);
    /* max_drop: 0 is something else than no max_drop. */
    r = parse("max_drop: 0\nlayers: []\n");
    assert_non_null(r->max_drop);
    espl__buffer_init(&out, ctx);
    assert_int_equal(espl__recipe_emit(ctx, r, &out, NULL), ESPL_OK);
    assert_string_equal(out.data, "max_drop: 0\nlayers: []\n");
    espl__buffer_free(&out);
    espl__recipe_destroy(ctx, &r);
}

/* Globs that take exponential time in careless matchers. */
static void hostile_globs_end_soon(void **state) {
    (void)state;
    char text[1200], layer[1001];
    memset(layer, 'a', 1000);
    layer[1000] = 0;
    size_t n = (size_t)sprintf(text, "layers:\n- {format: s8, match: '");
    for (int i = 0; i < 400; i++) n += (size_t)sprintf(text + n, "*a");
    sprintf(text + n, "b'}\n");
    espl__recipe *r = parse(text);
    double start = seconds_worked();
    assert_null(espl__recipe_lookup(r, layer, "Conv"));
    assert_true(seconds_worked() - start < 1.0 * ESPL_SLOWNESS);
    layer[999] = 'b';
    assert_non_null(espl__recipe_lookup(r, layer, "Conv"));
    espl__recipe_destroy(ctx, &r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(last_matching_row_decides, setup, teardown),
        cmocka_unit_test_setup_teardown(mistakes_name_line_and_key, setup, teardown),
        cmocka_unit_test_setup_teardown(writes_what_it_reads, setup, teardown),
        cmocka_unit_test_setup_teardown(hostile_globs_end_soon, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
