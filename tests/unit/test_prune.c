/* Pruning: masks against numpy's (tests/oracle/make_prune_fixtures.py), patterns recognised again, layers that stay dense. */
#define _GNU_SOURCE
#include "graph_oracle.h"

#include <unistd.h>

#include "compress/compress.h"
#include "passes/passes.h"

enum { MOST = 8 };

/* One line of cases.txt. */
typedef struct test_case {
    int number, count;
    espl_sparsity pattern;
    char recognised[ESPL_SPARSITY_TEXT];
    struct {
        char name[32];
        int row, inner;
    } tensors[MOST];
} test_case;

static espl_tensor fixture(espl_context *ctx, const char *fmt, ...) {
    char path[4096], name[128];
    espl_tensor t;
    espl_diag diag = {0};
    va_list args;
    va_start(args, fmt);
    vsnprintf(name, sizeof name, fmt, args);
    va_end(args);
    snprintf(path, sizeof path, ESPL_SOURCE_DIR "/tests/fixtures/prune/%s.npy", name);
    if (espl_npy_read(ctx, path, &t, &diag) != ESPL_OK) fail_msg("%s", diag.message);
    return t;
}

static test_case parse_case(char *line, int number) {
    test_case c = {.number = number};
    char *rest = NULL, *word = strtok_r(line, "|\n", &rest);
    if (!espl_sparsity_parse(word, &c.pattern)) fail_msg("'%s'", word);
    snprintf(c.recognised, sizeof c.recognised, "%s", strtok_r(NULL, "|\n", &rest));
    while ((word = strtok_r(NULL, "|\n", &rest)) && c.count < MOST) {
        assert_int_equal(sscanf(word, "%31s %d %d", c.tensors[c.count].name, &c.tensors[c.count].row,
                                &c.tensors[c.count].inner),
                         3);
        c.count++;
    }
    return c;
}

static void check_recognised(espl_context *ctx, const test_case *c, const espl__matrix *m, espl_tensor *w,
                             const uint8_t *keep) {
    espl_sparsity found;
    char text[ESPL_SPARSITY_TEXT];
    for (int64_t i = 0; i < espl_shape_count(&w->shape); i++)
        if (!keep[i]) ((float *)w->data)[i] = i % 2 ? 0.0f : -0.0f;
    assert_int_equal(espl__pattern_recognise(ctx, m, w, &found, NULL), ESPL_OK);
    if (strcmp(c->recognised, "-") == 0) return;
    espl_sparsity_text(&found, text, sizeof text);
    if (strcmp(text, c->recognised) != 0) fail_msg("case %d: %s is taken for %s", c->number, c->recognised, text);
    double balance = espl__pattern_balance(&found, m, w);
    assert_true(balance > 0 && balance <= 1 && (found.m == 0 || balance == 1));
}

static void check_case(espl_context *ctx, const test_case *c) {
    espl_tensor w[MOST], mask[MOST];
    espl__prune_part parts[MOST];
    for (int i = 0; i < c->count; i++) {
        w[i] = fixture(ctx, "%s", c->tensors[i].name);
        mask[i] = fixture(ctx, "%s.%d", c->tensors[i].name, c->number);
        int64_t count = espl_shape_count(&w[i].shape);
        float *saliency = malloc((size_t)count * sizeof *saliency);
        parts[i] = (espl__prune_part){.saliency = saliency, .keep = malloc((size_t)count)};
        assert_true(espl__matrix_of(&w[i].shape, c->tensors[i].row, c->tensors[i].inner, &parts[i].matrix));
        espl__saliency_of(ESPL__SALIENCY_MAGNITUDE, &(espl__salient){w[i].data, count}, saliency);
    }
    assert_int_equal(espl__prune_masks(ctx, &c->pattern, parts, c->count, NULL), ESPL_OK);
    for (int i = 0; i < c->count; i++) {
        const uint8_t *bits = mask[i].data;
        for (int64_t k = 0; k < espl_shape_count(&w[i].shape); k++)
            if (parts[i].keep[k] != (bits[k / 8] >> k % 8 & 1))
                fail_msg("case %d, %s: element %d", c->number, c->tensors[i].name, (int)k);
        if (c->count == 1) check_recognised(ctx, c, &parts[i].matrix, &w[i], parts[i].keep);
        espl_tensor_free(ctx, &w[i]);
        espl_tensor_free(ctx, &mask[i]);
        free((void *)parts[i].saliency);
        free(parts[i].keep);
    }
}

static void masks_are_those_of_numpy(void **state) {
    espl_context *ctx = *state;
    bool seen[ESPL_PATTERN_COUNT] = {false};
    char line[512];
    int number = 0;
    FILE *f = fopen(ESPL_SOURCE_DIR "/tests/fixtures/prune/cases.txt", "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        test_case c = parse_case(line, number++);
        seen[c.pattern.pattern] = true;
        check_case(ctx, &c);
    }
    fclose(f);
    for (int i = 0; i < ESPL_PATTERN_COUNT; i++)
        if (!seen[i]) fail_msg("no case of pattern %s", espl_pattern_name((espl_pattern)i));
}

/* Zeros that are there for other reasons than the pattern do not hide it; few zeros are none. */
static void stray_zeros_hide_no_pattern(void **state) {
    espl_context *ctx = *state;
    enum { ROWS = 64, INPUTS = 256 };
    espl_tensor t;
    espl__matrix m;
    espl_sparsity found;
    espl__rng rng = espl__rng_seed(3, 3);
    espl_shape shape = {2, {ROWS, INPUTS}};
    assert_int_equal(espl_tensor_alloc(ctx, ESPL_S8, &shape, &t, NULL), ESPL_OK);
    assert_true(espl__matrix_of(&shape, 0, 1, &m));
    int8_t *w = t.data;
    for (int i = 0; i < ROWS * INPUTS; i++) w[i] = (int8_t)(i % 16 % 8 != 3 || espl__rng_below(&rng, 50) == 0 ? 0 : 5);
    assert_int_equal(espl__pattern_recognise(ctx, &m, &t, &found, NULL), ESPL_OK);
    assert_true(espl_sparsity_equal(&found, &(espl_sparsity){.pattern = ESPL_PATTERN_COLUMN, .share = 0.875f}));
    for (int i = 0; i < ROWS * INPUTS; i++) w[i] = (int8_t)((i + 3 * (i / INPUTS)) % 8 || espl__rng_below(&rng, 50) == 0 ? 0 : 5);
    assert_int_equal(espl__pattern_recognise(ctx, &m, &t, &found, NULL), ESPL_OK);
    assert_true(espl_sparsity_equal(&found, &(espl_sparsity){.pattern = ESPL_PATTERN_BANK, .n = 1, .m = 8}));
    double balance = espl__pattern_balance(&found, &m, &t);
    assert_true(balance > 0.95 && balance < 1);
    for (int i = 0; i < ROWS * INPUTS; i++) w[i] = (int8_t)(espl__rng_below(&rng, 5) == 0 ? 0 : 5);
    assert_int_equal(espl__pattern_recognise(ctx, &m, &t, &found, NULL), ESPL_OK);
    assert_int_equal(found.pattern, ESPL_PATTERN_DENSE);
    memset(w, 0, ROWS * INPUTS);
    assert_int_equal(espl__pattern_recognise(ctx, &m, &t, &found, NULL), ESPL_OK);
    assert_int_equal(found.pattern, ESPL_PATTERN_ROW);
    espl_tensor_free(ctx, &t);
}

/* --- graphs ------------------------------------------------------------------------------------------ */

static int64_t zeros_of(const espl__value *v) {
    int64_t zeros = 0;
    for (int64_t i = 0; i < elements(v); i++) zeros += espl__is_zero(v->constant, i);
    return zeros;
}

static espl__value *conv(rig *r, espl__value *x, int64_t outputs, int64_t per_group, int64_t group) {
    espl__node *n = NODE(r, "Conv", x, random_of(r, SHAPE(outputs, per_group, 3, 3), 1));
    n->attrs = espl__arena_alloc(&r->g->arena, 2 * sizeof *n->attrs);
    n->attr_count = 2;
    SET_INTS(r, n, "pads", 1, 1, 1, 1);
    set_int(r, n, "group", group);
    return done_of(r, n);
}

/* Nodes: 0 stem of 3 inputs, 1 conv, 2 grouped, 3 depthwise, 4 and 5 products with the same weights, 6 a product. */
static void make_layers(rig *r, espl_context *ctx) {
    rig_begin(r, ctx, 5);
    espl__value *x = input_of(r, "x", ESPL_F32, SHAPE(1, 3, 6, 40)), *w = random_of(r, SHAPE(40, 40), 1);
    espl__value *y = conv(r, conv(r, conv(r, conv(r, x, 24, 3, 1), 32, 24, 1), 32, 16, 2), 32, 1, 32);
    y = APPLY(r, "MatMul", y, w);
    y = APPLY(r, "MatMul", y, w);
    y = APPLY(r, "MatMul", y, random_of(r, SHAPE(40, 20), 1));
    IO(r, x, y);
}

static void layers_stay_dense_where_a_pattern_is_not_for_them(void **state) {
    static const struct {
        const char *pattern, *why[7];
    } rows[] = {
        {"bank 4:16",
         {"dense: fewer than 16 inputs (3)", "", "", "dense: depthwise", "dense: others use its weights too",
          "dense: others use its weights too", ""}},
        {"bank 1:20",
         {"dense: fewer than 20 inputs (3)", "", "dense: fewer than 20 inputs (16)", "dense: depthwise",
          "dense: others use its weights too", "dense: others use its weights too", ""}},
        {"unstructured 50%",
         {"", "", "", "dense: depthwise", "dense: others use its weights too", "dense: others use its weights too", ""}},
        {"kernel 50%",
         {"", "", "", "dense: depthwise", "dense: its kernels are single weights",
          "dense: its kernels are single weights", "dense: its kernels are single weights"}},
    };
    rig r;
    for (size_t k = 0; k < ESPL_COUNT(rows); k++) {
        decision d[7] = {0};
        make_layers(&r, *state);
        for (int i = 0; i < 7; i++) assert_true(espl_sparsity_parse(rows[k].pattern, &d[i].pattern));
        d[1].pattern = (espl_sparsity){.pattern = ESPL_PATTERN_DENSE};
        assert_int_equal(espl__prune_apply(r.g, d, NULL), ESPL_OK);
        for (int i = 0; i < 7; i++) {
            char why[ESPL__PRUNE_WHY];
            espl__matrix m;
            const espl__value *w = r.g->nodes[i]->inputs[1];
            espl_sparsity s = espl__prune_effective(r.g, r.g->nodes[i], 1, &d[i].pattern, &m, why);
            assert_string_equal(why, rows[k].why[i]);
            assert_true(espl_sparsity_equal(&w->zeros.pattern, &s));
            assert_int_equal(s.pattern == ESPL_PATTERN_DENSE, zeros_of(w) == 0);
            if (s.pattern == ESPL_PATTERN_DENSE) assert_true(*why || i == 1);
        }
        espl_graph_destroy(&r.g);
    }
}

/* All layers of a global pattern together lose the share, each its own; other layers do not count. */
static void global_pruning_takes_layers_together(void **state) {
    rig r;
    decision d[7] = {0};
    int64_t zeros = 0, all = 0;
    make_layers(&r, *state);
    float *small = r.g->nodes[2]->inputs[1]->constant->data;
    for (int64_t i = 0; i < elements(r.g->nodes[2]->inputs[1]); i++) small[i] *= 0.01f;
    for (int i = 0; i < 7; i++) assert_true(espl_sparsity_parse("unstructured 70% global", &d[i].pattern));
    assert_true(espl_sparsity_parse("unstructured 10% global", &d[0].pattern));
    assert_int_equal(espl__prune_apply(r.g, d, NULL), ESPL_OK);
    static const int together[] = {1, 2, 6};
    for (size_t i = 0; i < ESPL_COUNT(together); i++) {
        const espl__value *w = r.g->nodes[together[i]]->inputs[1];
        zeros += zeros_of(w);
        all += elements(w);
        assert_false(w->zeros.pattern.global);
        assert_true(fabs((double)w->zeros.pattern.share - (double)zeros_of(w) / (double)elements(w)) < 1e-6);
    }
    assert_int_equal(zeros, llround(0.7 * (double)all));
    assert_int_equal(zeros_of(r.g->nodes[2]->inputs[1]), elements(r.g->nodes[2]->inputs[1]));
    assert_int_equal(zeros_of(r.g->nodes[0]->inputs[1]), llround(0.1 * 24 * 27));
    espl_graph_destroy(&r.g);
}

/* The constant behind a node's weights as the file has it: f32, or codes behind a DequantizeLinear. */
static const espl_tensor *stored_weights(const espl__node *n) {
    const espl__value *v = n->inputs[1];
    if (v->constant) return v->constant;
    assert_true(espl__node_is(v->producer, "DequantizeLinear"));
    return v->producer->inputs[0]->constant;
}

/* Counts along the input channels of a filter [O][I][H][W], or down the columns of a matrix [K][N], by hand. */
static int most_in_four(const espl_tensor *t) {
    bool filter = t->shape.rank == 4;
    int64_t taps = filter ? t->shape.dim[2] * t->shape.dim[3] : 1, rows = t->shape.dim[filter ? 0 : 1];
    int64_t inputs = t->shape.dim[filter ? 1 : 0];
    int most = 0;
    for (int64_t o = 0; o < rows; o++)
        for (int64_t tap = 0; tap < taps; tap++)
            for (int64_t i = 0; i < inputs; i += 4) {
                int count = 0;
                for (int64_t k = i; k < i + 4 && k < inputs; k++) {
                    int64_t at = filter ? (o * inputs + k) * taps + tap : k * rows + o;
                    count += t->dtype == ESPL_F32 ? ((const float *)t->data)[at] != 0 : ((const int8_t *)t->data)[at] != 0;
                }
                most = count > most ? count : most;
            }
    return most;
}

/* 2:4 as TensorRT takes it: what is read again from the file, without our passes, has at most 2 of 4. */
static void exported_onnx_has_its_zeros_in_place(void **state) {
    char path[] = "/tmp/espl_test_prune_XXXXXX";
    int file = mkstemp(path);
    assert_true(file >= 0 && close(file) == 0);
    for (int integers = 0; integers < 2; integers++) {
        rig r;
        decision d[7] = {0};
        espl_graph *again = NULL;
        int products = 0;
        make_layers(&r, *state);
        range *ranges = calloc((size_t)r.g->value_count + 1, sizeof *ranges);
        for (int i = 0; i < 7; i++) {
            assert_true(espl_sparsity_parse("2:4", &d[i].pattern));
            d[i].weights = integers ? ESPL_FORMAT_S8 : ESPL_FORMAT_F32;
        }
        assert_int_equal(espl__prune_apply(r.g, d, NULL), ESPL_OK);
        assert_int_equal(espl__ptq_apply(r.g, ranges, d, ESPL_FLAVOUR_PORTABLE, NULL), ESPL_OK);
        assert_int_equal(espl_onnx_write(*state, r.g, NULL, path, NULL), ESPL_OK);
        assert_int_equal(espl_onnx_read(*state, path, &again, NULL), ESPL_OK);
        for (int i = 0; i < again->node_count; i++) {
            const espl__node *n = again->nodes[i];
            if (!espl__node_is(n, "Conv") && !espl__node_is(n, "MatMul")) continue;
            const espl_tensor *w = stored_weights(n);
            assert_int_equal(w->dtype, integers ? ESPL_S8 : ESPL_F32);
            bool is_pruned = products == 1 || products == 2 || products == 6;
            assert_int_equal(most_in_four(w), is_pruned ? 2 : w->shape.dim[1] == 3 ? 3 : w->shape.dim[1] == 1 ? 1 : 4);
            products++;
        }
        assert_int_equal(products, 7);
        espl_graph_destroy(&again);
        espl_graph_destroy(&r.g);
        free(ranges);
    }
    unlink(path);
}

/* What is read from a file has no notes; the pass makes them, of codes too, but not where 0 is no zero. */
static void the_pass_finds_what_was_pruned(void **state) {
    rig r;
    decision d[7] = {0};
    make_layers(&r, *state);
    for (int i = 0; i < 7; i++) assert_true(espl_sparsity_parse(i % 2 ? "bank 2:8" : "2:4", &d[i].pattern));
    assert_int_equal(espl__prune_apply(r.g, d, NULL), ESPL_OK);
    quantize_constant_of(&r, r.g->nodes[2]->inputs[1], 0, ESPL_FORMAT_S8);
    quantize_constant_of(&r, r.g->nodes[6]->inputs[1], 1, ESPL_FORMAT_S8);
    r.g->nodes[6]->inputs[1]->quant.zero = (int32_t[20]){[3] = 1};
    for (int i = 0; i < r.g->value_count; i++) r.g->values[i]->zeros = (espl__zeros){0};
    assert_int_equal(espl__pass_zeros(r.g, NULL), ESPL_OK);
    for (int i = 0; i < 7; i++) {
        espl__zeros axes, found = r.g->nodes[i]->inputs[1]->zeros;
        espl__matrix m;
        bool is_pruned = i == 1 || i == 2;
        assert_true(espl_sparsity_equal(&found.pattern, is_pruned ? &d[i].pattern : &(espl_sparsity){0}));
        assert_true(espl__weight_matrix(r.g->nodes[i], 1, &axes, &m));
        if (is_pruned) assert_true(found.row_axis == axes.row_axis && found.inner_axis == axes.inner_axis);
    }
    espl_graph_destroy(&r.g);
}

static int set_up(void **state) {
    *state = new_context(1);
    return 0;
}

static int tear_down(void **state) {
    espl_context *ctx = *state;
    bool leak = espl_context_memory(ctx, NULL) != empty_context(1);
    espl_context_destroy(&ctx);
    return leak;
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(masks_are_those_of_numpy),
        cmocka_unit_test(stray_zeros_hide_no_pattern),
        cmocka_unit_test(layers_stay_dense_where_a_pattern_is_not_for_them),
        cmocka_unit_test(global_pruning_takes_layers_together),
        cmocka_unit_test(exported_onnx_has_its_zeros_in_place),
        cmocka_unit_test(the_pass_finds_what_was_pruned),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
