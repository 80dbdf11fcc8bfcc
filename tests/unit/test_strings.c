/* Tensors of strings: through sessions, files and references. What operators make of them is in
 * tests/conformance. */
#include "container_rig.h"
#include "espalier/onnx.h"
#include "ops/ops.h"

#define TEXTS(...) ((const espl_text[]){__VA_ARGS__})
#define TEXT(s) \
    { s, sizeof s - 1 }

static void expect_texts(const espl_tensor *t, int count, const char *const *wanted) {
    const espl_text *e = t->data;
    assert_int_equal(t->dtype, ESPL_STRING);
    assert_int_equal(espl_shape_count(&t->shape), count);
    for (int i = 0; i < count; i++) {
        const espl_text w = {wanted[i], strlen(wanted[i])};
        if (!espl__text_equal(&e[i], &w))
            fail_msg("element %d is '%.*s' and not '%s'", i, (int)e[i].length, e[i].bytes, wanted[i]);
    }
}
#define EXPECT(t, ...)                                                             \
    expect_texts(t, (int)(sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *)), \
                 (const char *[]){__VA_ARGS__})

/* x: kept words in lower case; x itself; the words as numbers, through Relu, which the strings make late; a
 * constant. */
static void build(rig *r) {
    espl__value *x = input_of(r, "x", ESPL_STRING, SHAPE(4));
    espl__node *n = NODE(r, "StringNormalizer", x), *c = NODE(r, "Cast", x);
    const espl_tensor stop = {ESPL_STRING, SHAPE(2), (void *)(uintptr_t)TEXTS(TEXT("The"), TEXT("a,b"))};
    assert_true(espl__attr_set_string(r->g, n, "case_change_action", "LOWER"));
    assert_true(espl__attr_set_tensor(r->g, n, "stopwords", &stop));
    set_int(r, c, "to", 1);
    espl__value *fixed = constant_of(r, ESPL_STRING, SHAPE(2), TEXTS(TEXT("fixed"), {NULL, 0}));
    espl__value *y = done_of(r, n), *z = APPLY(r, "Relu", done_of(r, c));
    espl__node *join = NODE(r, "Concat", y, fixed);
    set_int(r, join, "axis", 0);
    espl__value *w = done_of(r, join);
    IO(r, x, y, x, z, w);
}

static void run_twice(espl_context *ctx, const espl_graph *g) {
    espl_session *s = session_of(ctx, g);
    espl_tensor out[4] = {0}, in = {ESPL_STRING, SHAPE(4), NULL};
    float numbers[4];
    espl_text same[4];
    espl_diag diag = {0};
    char first[] = "THE";
    const espl_text words[] = {{first, 3}, TEXT("2.5"), TEXT("A,B"), TEXT("\xc3\x84x")};
    in.data = (void *)(uintptr_t)words;
    out[1] = (espl_tensor){ESPL_STRING, SHAPE(4), same};
    out[2] = (espl_tensor){ESPL_F32, SHAPE(4), numbers};
    if (espl_session_run(s, &in, out, &diag) != ESPL_OK) fail_msg("%s", diag.message);
    memcpy(first, "xyz", 3); /* text of outputs is the session's, not the inputs' */
    EXPECT(&out[0], "2.5", "\xc3\xa4x");
    EXPECT(&out[1], "THE", "2.5", "A,B", "\xc3\x84x");
    EXPECT(&out[3], "2.5", "\xc3\xa4x", "fixed", "");
    assert_true(numbers[1] == 2.5f && isnan(numbers[0]));
    in.data = (void *)(uintptr_t)TEXTS(TEXT("the"), TEXT("The"), TEXT("tHe"), TEXT("a,B"));
    if (espl_session_run(s, &in, out, &diag) != ESPL_OK) fail_msg("%s", diag.message);
    EXPECT(&out[0], "");
    EXPECT(&out[3], "", "fixed", "");
    in.data = (void *)(uintptr_t)TEXTS(TEXT("the"), {NULL, 1}, {NULL, 0}, {NULL, 0});
    assert_int_equal(espl_session_run(s, &in, out, &diag), ESPL_INVALID);
    assert_non_null(strstr(diag.message, "input 'x' has a string with a length and without bytes"));
    espl_session_destroy(&s);
}

static void sessions_and_files(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    rig r;
    espl_diag diag = {0};
    rig_begin(&r, ctx, 1);
    build(&r);
    run_twice(ctx, r.g);
    espl__buffer b = bytes_of_graph(ctx, r.g);
    espl_graph *back = read_back(ctx, &b);
    run_twice(ctx, back);
    espl_graph_destroy(&back);
    if (espl_onnx_write(ctx, r.g, NULL, path, &diag) != ESPL_OK) fail_msg("%s", diag.message);
    if (espl_onnx_read(ctx, path, &back, &diag) != ESPL_OK) fail_msg("%s", diag.message);
    if (espl__passes_run(back, &diag) != ESPL_OK) fail_msg("%s", diag.message);
    run_twice(ctx, back);
    espl_graph_destroy(&back);
    espl_graph_destroy(&r.g);
    /* Older readers know the version; a file that says less and has strings is malformed. */
    assert_int_equal(b.data[4], 5);
    b.data[4] = 4;
    seal((uint8_t *)b.data, b.length);
    put_file(b.data, b.length);
    assert_int_equal(espl_model_read(ctx, path, &back, &diag), ESPL_FORMAT);
    espl__buffer_free(&b);
    espl_context_destroy(&ctx);
}

static void expect_refusal(rig *r, const espl__node *n, const char *why) {
    r->diag = (espl_diag){0};
    assert_int_not_equal(n->op->infer(n, &r->diag), ESPL_OK);
    if (!strstr(r->diag.message, why)) fail_msg("'%s' does not say '%s'", r->diag.message, why);
}

static void refusals(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    rig r;
    rig_begin(&r, ctx, 1);
    espl__value *x = input_of(&r, "x", ESPL_STRING, SHAPE(4)),
                *rows = input_of(&r, "rows", ESPL_STRING, SHAPE(2, 2));
    expect_refusal(&r, NODE(&r, "Relu", x), "Relu: input 0 is strings");
    expect_refusal(&r, NODE(&r, "Gather", input_of(&r, "f", ESPL_F32, SHAPE(4)), x),
                   "Gather: input 1 is strings");
    expect_refusal(&r, NODE(&r, "StringNormalizer", rows), "one row, not 2");
    expect_refusal(&r, NODE(&r, "StringNormalizer", input_of(&r, "i", ESPL_S64, SHAPE(4))), "type s64");
    espl__node *n = NODE(&r, "StringNormalizer", x);
    assert_true(espl__attr_set_string(r.g, n, "locale", "tr_TR"));
    expect_refusal(&r, n, "Turkish");
    n = NODE(&r, "StringNormalizer", x);
    assert_true(espl__attr_set_strings(r.g, n, "stopwords", "a,b"));
    expect_refusal(&r, n, "stopwords is no list of strings");
    n = NODE(&r, "ConstantOfShape", INTS(&r, 3));
    const espl_tensor text = {ESPL_STRING, SHAPE(1), (void *)(uintptr_t)TEXTS(TEXT("a"))};
    assert_true(espl__attr_set_tensor(r.g, n, "value", &text));
    expect_refusal(&r, n, "strings are not supported");
    n = NODE(&r, "TfIdfVectorizer", x);
    assert_true(espl__attr_set_string(r.g, n, "mode", "TF"));
    set_int(&r, n, "min_gram_length", 1);
    set_int(&r, n, "max_gram_length", 1);
    SET_INTS(&r, n, "pool_int64s", 1, 2);
    expect_refusal(&r, n, "pool_strings is missing");
    espl_graph_destroy(&r.g);
    espl_context_destroy(&ctx);
}

/* Every number comes back from its own numeral, which has no more digits than it needs. */
static void numerals_come_back(void **state) {
    static const espl_dtype types[] = {ESPL_F32, ESPL_F64, ESPL_F16, ESPL_BF16,
                                       ESPL_S64, ESPL_U64, ESPL_S8,  ESPL_U32};
    (void)state;
    espl_context *ctx = new_context(1);
    rig r;
    rig_begin(&r, ctx, 3);
    for (size_t k = 0; k < ESPL_COUNT(types); k++) {
        enum { N = 200 };
        uint64_t bits[N];
        for (int i = 0; i < N; i++)
            bits[i] =
                (uint64_t)espl__rng_below(&r.rng, UINT32_MAX) << 32 | espl__rng_below(&r.rng, UINT32_MAX);
        espl__value *x = constant_of(&r, types[k], SHAPE(N), bits);
        espl__node *to = NODE(&r, "Cast", x);
        set_int(&r, to, "to", 8);
        espl__node *back = NODE(&r, "Cast", done_of(&r, to));
        set_int(&r, back, "to", espl__dtype_onnx(types[k]));
        espl__value *y = done_of(&r, back);
        IO(&r, input_of(&r, "unused", ESPL_F32, SHAPE(1)), y);
        assert_int_equal(espl__pass_infer(r.g, &r.diag), ESPL_OK);
        assert_non_null(y->constant);
        for (int i = 0; i < N; i++) {
            double a, b;
            const void *p = espl__at(x->constant->data, types[k], i),
                       *q = espl__at(y->constant->data, types[k], i);
            espl__load_f64(types[k], p, 0, 1, &a);
            espl__load_f64(types[k], q, 0, 1, &b);
            if (!(isnan(a) && isnan(b))) assert_memory_equal(p, q, espl_dtype_bytes(types[k]));
        }
        espl_graph_destroy(&r.g);
        rig_begin(&r, ctx, k + 4);
    }
    espl_graph_destroy(&r.g);
    static const float numbers[] = {0.1f, 1000000, 1e20f, -1.5e-7f, 16777216, INFINITY, NAN, -0.0f};
    espl_tensor out[1];
    rig_begin(&r, ctx, 1);
    espl__value *x = input_of(&r, "x", ESPL_F32, SHAPE(8));
    espl__node *n = NODE(&r, "Cast", x);
    set_int(&r, n, "to", 8);
    IO(&r, x, done_of(&r, n));
    const espl_tensor in = {ESPL_F32, SHAPE(8), (void *)(uintptr_t)numbers};
    assert_int_equal(espl__specialise(r.g, NULL, &r.diag), ESPL_OK);
    assert_int_equal(espl__evaluate(ctx, r.g, &in, out, &r.diag), ESPL_OK);
    EXPECT(&out[0], "0.1", "1000000", "1e+20", "-1.5e-07", "16777216", "INF", "NaN", "-0");
    espl_tensor_free(ctx, &out[0]);
    espl_graph_destroy(&r.g);
    espl_context_destroy(&ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(sessions_and_files), cmocka_unit_test(refusals),
                                       cmocka_unit_test(numerals_come_back)};
    snprintf(path, sizeof path, "/tmp/espl_test_strings_%ld", (long)getpid());
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    (void)unlink(path);
    return failed;
}
