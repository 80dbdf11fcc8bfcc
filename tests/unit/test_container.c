/* The .espl container: what is written comes back, and what was damaged is refused in a sentence. */
#define _GNU_SOURCE
#include "real_models.h"
#include "container_rig.h"

#include <sys/stat.h>

/* --- round trips -------------------------------------------------------------------------------------- */

static void same_outputs(espl_context *ctx, const espl_graph *a, const espl_graph *b, uint64_t seed) {
    espl_session *sa = session_of(ctx, a), *sb = session_of(ctx, b);
    run_io x = io_of(sa, seed), y = io_of(sb, seed);
    assert_int_equal(x.inputs, y.inputs);
    assert_int_equal(x.outputs, y.outputs);
    run_session(sa, &x);
    run_session(sb, &y);
    for (int i = 0; i < x.inputs; i++) assert_string_equal(espl_session_input_name(sa, i), espl_session_input_name(sb, i));
    for (int i = 0; i < x.outputs; i++) {
        assert_string_equal(espl_session_output_name(sa, i), espl_session_output_name(sb, i));
        assert_true(x.out[i].dtype == y.out[i].dtype && espl_shape_equal(&x.out[i].shape, &y.out[i].shape));
        if (memcmp(x.out[i].data, y.out[i].data, bytes_of(&x.out[i])) != 0) {
            print_graph(a);
            fail_msg("seed %d: output %d differs after the round trip", (int)seed, i);
        }
    }
    io_free(&x);
    io_free(&y);
    espl_session_destroy(&sa);
    espl_session_destroy(&sb);
}

static void round_trip(espl_context *ctx, const espl_graph *g, uint64_t seed) {
    espl__buffer first = bytes_of_graph(ctx, g);
    espl_graph *back = read_back(ctx, &first);
    same_outputs(ctx, g, back, seed);
    /* What was read is written as the same bytes. */
    espl__buffer second = bytes_of_graph(ctx, back);
    if (first.length != second.length || memcmp(first.data, second.data, first.length) != 0) {
        print_graph(g);
        fail_msg("seed %d: %d bytes, and %d when read and written again", (int)seed, (int)first.length, (int)second.length);
    }
    espl__buffer_free(&first);
    espl__buffer_free(&second);
    espl_graph_destroy(&back);
}

static void random_quantized(random_graph *x, espl_context *ctx, uint64_t seed, int nodes) {
    random_graph_of(x, ctx, seed, nodes, seed % 2);
    espl_tensor in = {ESPL_F32, x->r.g->inputs[0]->shape, malloc((size_t)elements(x->r.g->inputs[0]) * 4 + 4)};
    fill_random(&x->r.rng, &in);
    quantize_graph(x, in.data, (int)(seed % 3) * 50);
    free(in.data);
}

static void random_graphs_come_back(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    for (uint64_t seed = 0; seed < CASES(500); seed++) {
        random_graph x;
        random_quantized(&x, ctx, 5000000 + seed, 12);
        round_trip(ctx, x.r.g, seed);
        espl_graph_destroy(&x.r.g);
    }
    assert_int_equal(espl_context_memory(ctx, NULL), empty_context(1));
    espl_context_destroy(&ctx);
}

static const char *const models[] = {
    "dtln-lstm", "mlperf-tiny-ad_autoencoder", "mlperf-tiny-kws_dscnn", "mlperf-tiny-resnet8_cifar10",
    "mlperf-tiny-vww_mobilenet025_96", "mnist-cnn", "mnist-mlp", "mobilenet-v2-imagenet", "openwakeword-embedding",
    "resnet20-cifar10", "resnet20-cifar10-bn", "resnet20-cifar10-onnc", "resnet32-cifar10", "ultraface-rfb320", "vit-cifar10",
};

static void real_models_come_back(void **state) {
    (void)state;
    if (!models_folder()) skip();
    espl_context *ctx = new_context(2);
    for (size_t i = 0; i < ESPL_COUNT(models); i++) {
        espl_graph *g = real_model(ctx, models[i]);
        round_trip(ctx, g, i);
        espl_graph_destroy(&g);
    }
    espl_context_destroy(&ctx);
}

static void same_elements(const espl_tensor *p, const espl_tensor *q) {
    const espl_text *a = p->data, *b = q->data;
    if (p->dtype != ESPL_STRING && espl__tensor_bytes(p)) assert_memory_equal(p->data, q->data, espl__tensor_bytes(p));
    for (int64_t i = 0; p->dtype == ESPL_STRING && i < espl_shape_count(&p->shape); i++)
        assert_true(espl__text_equal(&a[i], &b[i]));
}

/* One node with attributes of every kind; operators ignore what they do not know. */
static void every_attribute_comes_back(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    rig r;
    rig_begin(&r, ctx, 1);
    espl__value *x = input_of(&r, "x", ESPL_F32, SHAPE(2, 3));
    espl__node *n = NODE(&r, "Relu", x);
    const int64_t ints[] = {0, -1, INT64_MAX, INT64_MIN, 127, 128};
    static const espl_text texts[] = {{"with a comma,", 13}, {NULL, 0}, {"\0zero", 5}};
    const float floats[] = {0, -0.0f, INFINITY, 1e-40f, 3.5f};
    char text[4000];
    memset(text, 'a', sizeof text - 1);
    text[sizeof text - 1] = 0;
    set_int(&r, n, "i", INT64_MIN);
    assert_true(espl__attr_set_float(r.g, n, "f", -1.5f));
    assert_true(espl__attr_set_string(r.g, n, "s", text));
    assert_true(espl__attr_set_string(r.g, n, "same", text));
    assert_true(espl__attr_set_string(r.g, n, "empty", ""));
    assert_true(espl__attr_set_strings(r.g, n, "strings", "Sigmoid,Tanh,Tanh"));
    set_ints(&r, n, "ints", 6, ints);
    set_ints(&r, n, "no_ints", 0, ints);
    assert_true(espl__attr_set_floats(r.g, n, "floats", floats, 5));
    assert_true(espl__attr_set_floats(r.g, n, "no_floats", floats, 0));
    for (int d = 0; d < ESPL_DTYPE_COUNT; d++) {
        espl_tensor t = {(espl_dtype)d, SHAPE(1, 3), (void *)(uintptr_t)ints};
        char name[16];
        if (d == ESPL_BOOL) t.data = (void *)(uintptr_t)"\0\1\1";
        if (d == ESPL_STRING) t.data = (void *)(uintptr_t)texts;
        snprintf(name, sizeof name, "t%d", d);
        assert_true(espl__attr_set_tensor(r.g, n, name, &t));
    }
    IO(&r, x, done_of(&r, n));
    espl__buffer b = bytes_of_graph(ctx, r.g);
    espl_graph *back = read_back(ctx, &b);
    const espl__node *m = back->nodes[0];
    assert_int_equal(m->attr_count, n->attr_count);
    for (int i = 0; i < n->attr_count; i++) {
        const espl__attr *p = &n->attrs[i], *q = espl__attr_find(m, p->name);
        assert_non_null(q);
        assert_int_equal(p->kind, q->kind);
        switch (p->kind) {
            case ESPL__ATTR_INT: assert_true(p->i == q->i); break;
            case ESPL__ATTR_FLOAT: assert_memory_equal(&p->f, &q->f, 4); break;
            case ESPL__ATTR_STRING:
            case ESPL__ATTR_STRINGS: assert_string_equal(p->s, q->s); break;
            case ESPL__ATTR_INTS:
                assert_int_equal(p->count, q->count);
                if (p->count) assert_memory_equal(p->ints, q->ints, (size_t)p->count * 8);
                break;
            case ESPL__ATTR_FLOATS:
                assert_int_equal(p->count, q->count);
                if (p->count) assert_memory_equal(p->floats, q->floats, (size_t)p->count * 4);
                break;
            case ESPL__ATTR_TENSOR:
                assert_int_equal(p->tensor->dtype, q->tensor->dtype);
                assert_true(espl_shape_equal(&p->tensor->shape, &q->tensor->shape));
                same_elements(p->tensor, q->tensor);
                break;
            case ESPL__ATTR_GRAPH: fail(); /* test_control has them */
        }
    }
    espl__buffer_free(&b);
    espl_graph_destroy(&back);
    /* A string that the format has no room for is refused, not cut. */
    char *longer = malloc(10000);
    memset(longer, 'b', 9999);
    longer[9999] = 0;
    assert_true(espl__attr_set_string(r.g, n, "s", longer));
    espl_diag diag = {0};
    assert_int_not_equal(espl__model_bytes(ctx, r.g, &b, &diag), ESPL_OK);
    assert_true(diag.message[0]);
    espl__buffer_free(&b);
    free(longer);
    espl_graph_destroy(&r.g);
    espl_context_destroy(&ctx);
}

/* Constants of every element type, of every rank, and empty ones. */
static void every_type_comes_back(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    rig r;
    rig_begin(&r, ctx, 1);
    espl__value *x = input_of(&r, "x", ESPL_F32, SHAPE(2, 3)), *out[ESPL_DTYPE_COUNT * 3 + 1];
    int count = 0;
    uint8_t raw[256];
    static const espl_text texts[] = {{"a", 1}, {NULL, 0}, {"\0\xff,", 3}, {"bcd", 3}, {"", 0}, {"e", 1}};
    for (int i = 0; i < 256; i++) raw[i] = (uint8_t)(i * 37);
    out[count++] = APPLY(&r, "Relu", x);
    for (int d = 0; d < ESPL_DTYPE_COUNT; d++) {
        if (d == ESPL_BOOL) continue;
        const bool strings = d == ESPL_STRING;
        out[count++] = constant_of(&r, (espl_dtype)d, SHAPE(3, 1, 2), strings ? (const void *)texts : raw);
        out[count++] = constant_of(&r, (espl_dtype)d, (espl_shape){0}, strings ? (const void *)(texts + 2) : raw + 8);
        out[count++] = constant_of(&r, (espl_dtype)d, SHAPE(2, 0, 7), raw);
    }
    outputs_are(&r, 1, &x, count, out);
    espl__buffer b = bytes_of_graph(ctx, r.g);
    espl_graph *back = read_back(ctx, &b);
    assert_int_equal(back->output_count, count);
    for (int i = 1; i < count; i++) {
        const espl_tensor *p = out[i]->constant, *q = back->outputs[i]->constant;
        assert_non_null(q);
        assert_true(p->dtype == q->dtype && espl_shape_equal(&p->shape, &q->shape));
        same_elements(p, q);
        assert_string_equal(out[i]->name, back->outputs[i]->name);
    }
    espl__buffer_free(&b);
    espl_graph_destroy(&back);
    espl_graph_destroy(&r.g);
    espl_context_destroy(&ctx);
}

/* Codes of 2 to 8 bits, every code, lengths that end inside a byte; the file grows by what the bits take. */
static void packed_weights_come_back(void **state) {
    static const espl_format formats[] = {ESPL_FORMAT_S2, ESPL_FORMAT_S3, ESPL_FORMAT_S4, ESPL_FORMAT_S5,
                                          ESPL_FORMAT_S6, ESPL_FORMAT_S7, ESPL_FORMAT_S8};
    (void)state;
    espl_context *ctx = new_context(1);
    for (size_t f = 0; f < ESPL_COUNT(formats); f++) {
        size_t small = 0;
        int bits = espl_format_bits(formats[f]);
        for (int64_t n = 1; n <= 801; n += n < 12 ? 1 : 789) {
            rig r;
            rig_begin(&r, ctx, f);
            espl__value *x = input_of(&r, "x", ESPL_F32, SHAPE(2, n));
            int32_t lo, hi;
            espl__format_range(formats[f], &lo, &hi);
            int8_t *codes = malloc((size_t)n * 3);
            for (int64_t i = 0; i < 3 * n; i++) codes[i] = (int8_t)(lo + i % (hi - lo + 1));
            espl__value *w = constant_of(&r, ESPL_S8, SHAPE(n, 3), codes);
            w->dtype = ESPL_F32;
            const float scale[3] = {0.5f, 0.25f, 1e-20f};
            assert_true(espl__graph_set_quant(r.g, w, formats[f], 1, 3, scale, NULL));
            IO(&r, x, APPLY(&r, "MatMul", x, w));
            espl__buffer b = bytes_of_graph(ctx, r.g);
            espl_graph *back = read_back(ctx, &b);
            const espl__value *v = back->nodes[0]->inputs[1];
            assert_int_equal(v->quant.format, formats[f]);
            assert_int_equal(v->quant.axis, 1);
            assert_memory_equal(v->quant.scale, scale, sizeof scale);
            assert_int_equal(v->constant->dtype, ESPL_S8);
            assert_memory_equal(v->constant->data, codes, (size_t)n * 3);
            if (n == 12) small = b.length;
            if (n == 801) assert_in_range(b.length - small, 3 * 789 * bits / 8 - 2, 3 * 789 * bits / 8 + 8);
            same_outputs(ctx, r.g, back, 1);
            free(codes);
            espl__buffer_free(&b);
            espl_graph_destroy(&back);
            espl_graph_destroy(&r.g);
        }
    }
    espl_context_destroy(&ctx);
}

/* --- sparse constants --------------------------------------------------------------------------------------- */

/* A weight for the operator, random and then 0 where the pattern says so; with a scale for each row if it is of an integer
 * format. `pattern` is kept in each row, tap by tap, in banks or, with a share, wherever the dice fall. */
static espl__value *sparse_weight(rig *r, espl_shape shape, int row_axis, int inner_axis, const char *pattern,
                                  espl_format format) {
    espl__zeros z = {.row_axis = row_axis, .inner_axis = inner_axis};
    espl__matrix m;
    assert_true(espl_sparsity_parse(pattern, &z.pattern) && espl__matrix_of(&shape, row_axis, inner_axis, &m));
    int64_t count = espl_shape_count(&shape);
    float *x = calloc((size_t)count, sizeof *x);
    int8_t *codes = calloc((size_t)count, 1);
    uint16_t *halves = calloc((size_t)count, 2);
    int32_t lo = 0, hi = 0;
    bool floats = espl__format_is_float(format);
    if (!floats) espl__format_range(format, &lo, &hi);
    for (int64_t row = 0; row < m.rows; row++)
        for (int64_t column = 0, kept = 0; column < m.taps * m.inputs; column++) {
            int64_t input = column % m.inputs, i = row * m.by_row + column / m.inputs * m.by_tap + input * m.by_input;
            if (z.pattern.m && input % z.pattern.m == 0) kept = 0;
            if (z.pattern.m ? kept == z.pattern.n : chance(r, (int)(100 * z.pattern.share))) continue;
            if (z.pattern.m && chance(r, 50) && z.pattern.m - input % z.pattern.m > z.pattern.n - kept) continue;
            kept++;
            x[i] = (float)pick(r, 1, 1 << 20) / (1 << 20);
            codes[i] = (int8_t)(chance(r, 50) ? lo : hi);
            halves[i] = format == ESPL_FORMAT_F16 ? espl__half_from_float(x[i]) : espl__bfloat_from_float(x[i]);
        }
    espl_dtype type = espl__format_dtype(format);
    const void *data = type == ESPL_F32 ? (const void *)x : floats ? (const void *)halves : codes;
    espl__value *w = constant_of(r, type, shape, data);
    float *scales = malloc((size_t)m.rows * sizeof *scales);
    for (int64_t i = 0; i < m.rows; i++) scales[i] = 0.01f * (float)(i + 1);
    w->dtype = ESPL_F32;
    w->zeros = z;
    if (!floats) assert_true(espl__graph_set_quant(r->g, w, format, row_axis, m.rows, scales, NULL));
    if (floats && type != ESPL_F32) assert_true(espl__graph_set_quant(r->g, w, format, -1, 1, &(float){1}, NULL));
    free(x);
    free(codes);
    free(halves);
    free(scales);
    return w;
}

/* x -> Conv with one, MatMul with another, LSTM with two. */
static void sparse_graph(rig *r, espl_context *ctx, uint64_t seed, const char *pattern, espl_format format) {
    rig_begin(r, ctx, seed);
    espl__value *in[3] = {input_of(r, "image", ESPL_F32, SHAPE(1, 19, 5, 4)), input_of(r, "row", ESPL_F32, SHAPE(2, 83)),
                          input_of(r, "seq", ESPL_F32, SHAPE(3, 1, 40))};
    espl__value *conv = sparse_weight(r, SHAPE(10, 19, 3, 3), 0, 1, pattern, format);
    espl__value *dense = sparse_weight(r, SHAPE(83, 21), 1, 0, pattern, format);
    espl__value *w = sparse_weight(r, SHAPE(1, 64, 40), 1, 2, pattern, format);
    espl__value *rec = sparse_weight(r, SHAPE(1, 64, 16), 1, 2, pattern, format);
    espl__node *lstm = node_of(r, "LSTM", 3, (espl__value *[]){in[2], w, rec}, 1);
    set_int(r, lstm, "hidden_size", 16);
    espl__value *out[3] = {APPLY(r, "Conv", in[0], conv), APPLY(r, "MatMul", in[1], dense), done_of(r, lstm)};
    outputs_are(r, 3, in, 3, out);
}

static const char *const sparse_patterns[] = {"2:4", "bank 2:16", "bank 3:32", "bank 1:5", "unstructured 80%"};
static const espl_format sparse_formats[] = {ESPL_FORMAT_F32, ESPL_FORMAT_S8, ESPL_FORMAT_S7, ESPL_FORMAT_S6,
                                             ESPL_FORMAT_S5,  ESPL_FORMAT_S4, ESPL_FORMAT_S3, ESPL_FORMAT_S2,
                                             ESPL_FORMAT_F16, ESPL_FORMAT_BF16};

static void sparse_weights_come_back(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    for (size_t p = 0; p < ESPL_COUNT(sparse_patterns); p++)
        for (size_t f = 0; f < ESPL_COUNT(sparse_formats); f++) {
            rig r;
            sparse_graph(&r, ctx, 10 * p + f, sparse_patterns[p], sparse_formats[f]);
            espl__buffer b = bytes_of_graph(ctx, r.g);
            espl_graph *back = read_back(ctx, &b);
            int sparse = 0;
            assert_int_equal(back->node_count, r.g->node_count);
            for (int i = 0; i < back->node_count; i++)
                for (int k = 1; k < back->nodes[i]->input_count; k++) {
                    const espl__value *v = r.g->nodes[i]->inputs[k], *u = back->nodes[i]->inputs[k];
                    assert_memory_equal(u->constant->data, v->constant->data, espl__tensor_bytes(v->constant));
                    assert_int_equal(u->quant.format, v->quant.format);
                    if (u->zeros.pattern.pattern == ESPL_PATTERN_DENSE) continue; /* dense took no more bytes */
                    assert_memory_equal(&u->zeros, &v->zeros, sizeof v->zeros);
                    sparse++;
                }
            /* 2:4 of two bits each and two for the position are 8 bits, as four weights of two bits. */
            bool pays = espl_format_bits(sparse_formats[f]) > 3 || (p > 0 && p < 4);
            if (pays) assert_int_equal(sparse, 4);
            assert_int_equal(b.data[4], sparse ? 2 : 1);
            same_outputs(ctx, r.g, back, p);
            round_trip(ctx, r.g, p);
            espl__buffer_free(&b);
            espl_graph_destroy(&back);
            espl_graph_destroy(&r.g);
        }
    assert_int_equal(espl_context_memory(ctx, NULL), empty_context(1));
    espl_context_destroy(&ctx);
}

/* On disk, of a layer of 4 MiB in f32: what bank-balanced sparsity promises, and what dense weights take. */
static void sparse_weights_take_few_bytes(void **state) {
    static const struct {
        const char *pattern;
        espl_format format;
        double most;
    } rows[] = {{"bank 2:16", ESPL_FORMAT_S8, 0.05},  {"bank 3:16", ESPL_FORMAT_S8, 0.075}, {"2:4", ESPL_FORMAT_S8, 0.16},
                {"2:4", ESPL_FORMAT_S4, 0.096},       {"bank 3:32", ESPL_FORMAT_F32, 0.11}, {"bank 2:16", ESPL_FORMAT_S4, 0.034},
                {"bank 3:32", ESPL_FORMAT_F16, 0.062},       {"bank 3:32", ESPL_FORMAT_BF16, 0.062},
                {"unstructured 90%", ESPL_FORMAT_S8, 0.046}, {"unstructured 95%", ESPL_FORMAT_S4, 0.018}};
    (void)state;
    espl_context *ctx = new_context(1);
    for (size_t i = 0; i < ESPL_COUNT(rows); i++) {
        rig r;
        struct stat st;
        rig_begin(&r, ctx, i);
        espl__value *x = input_of(&r, "x", ESPL_F32, SHAPE(1, 1024));
        espl__value *w = sparse_weight(&r, SHAPE(1024, 1024), 1, 0, rows[i].pattern, rows[i].format);
        IO(&r, x, APPLY(&r, "MatMul", x, w));
        espl__buffer b = bytes_of_graph(ctx, r.g);
        espl_graph *back = read_back(ctx, &b);
        assert_int_equal(stat(path, &st), 0);
        double share = (double)st.st_size / (4 << 20);
        if (share > rows[i].most || share < 0.85 * rows[i].most)
            fail_msg("%s %s takes %.4f of f32", rows[i].pattern, espl_format_name(rows[i].format), share);
        espl__buffer_free(&b);
        espl_graph_destroy(&back);
        espl_graph_destroy(&r.g);
    }
    espl_context_destroy(&ctx);
}

/* A hint that is not true does no harm, zero points that make 0 another code keep a constant dense, and what nothing is
 * known of is written as ever, in version 1. */
static void untrue_hints_do_no_harm(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    for (int k = 0; k < 3; k++) {
        rig r;
        rig_begin(&r, ctx, 1);
        espl__value *x = input_of(&r, "x", ESPL_F32, SHAPE(1, 64));
        espl__value *w = sparse_weight(&r, SHAPE(64, 32), 1, 0, "bank 2:16", ESPL_FORMAT_S8);
        if (k == 0) w->zeros.pattern.n = 1;
        if (k == 1) w->zeros.pattern.pattern = ESPL_PATTERN_DENSE;
        if (k == 2) w->quant.zero = espl__arena_alloc(&r.g->arena, 32 * sizeof *w->quant.zero);
        if (k == 2) w->quant.zero[31] = 1;
        IO(&r, x, APPLY(&r, "MatMul", x, w));
        espl__buffer b = bytes_of_graph(ctx, r.g);
        espl_graph *back = read_back(ctx, &b);
        assert_int_equal(b.data[4], k == 0 ? 2 : 1);
        assert_int_equal(back->nodes[0]->inputs[1]->zeros.pattern.pattern,
                         k == 0 ? ESPL_PATTERN_UNSTRUCTURED : ESPL_PATTERN_DENSE);
        assert_memory_equal(back->nodes[0]->inputs[1]->constant->data, w->constant->data, 64 * 32);
        espl__buffer_free(&b);
        espl_graph_destroy(&back);
        espl_graph_destroy(&r.g);
    }
    espl_context_destroy(&ctx);
}

/* Weights of 16 bits, every number of them, at two bytes each; a session computes what the numbers mean. */
static void weights_of_16_bits_come_back(void **state) {
    enum { ROWS = 64, COLUMNS = 1024 };
    (void)state;
    espl_context *ctx = new_context(1);
    for (int f = ESPL_FORMAT_F16; f <= ESPL_FORMAT_BF16; f++) {
        static uint16_t codes[ROWS * COLUMNS];
        static float numbers[ROWS * COLUMNS];
        rig r;
        rig_begin(&r, ctx, 1);
        for (int i = 0; i < ROWS * COLUMNS; i++) {
            float x = f == ESPL_FORMAT_F16 ? espl__half_to_float((uint16_t)i) : espl__bfloat_to_float((uint16_t)i);
            codes[i] = fabsf(x) < 1e6f && !isnan(x) ? (uint16_t)i : 0;
            numbers[i] = codes[i] ? x : 0;
        }
        espl__value *x = input_of(&r, "x", ESPL_F32, SHAPE(1, ROWS));
        espl__value *w = constant_of(&r, espl__format_dtype((espl_format)f), SHAPE(ROWS, COLUMNS), codes);
        espl__value *wide = constant_of(&r, ESPL_F32, SHAPE(ROWS, COLUMNS), numbers);
        w->dtype = ESPL_F32;
        assert_true(espl__graph_set_quant(r.g, w, (espl_format)f, -1, 1, &(float){1}, NULL));
        espl__value *y[2] = {APPLY(&r, "MatMul", x, w), APPLY(&r, "MatMul", x, wide)};
        outputs_are(&r, 1, &x, 2, y);
        espl__buffer b = bytes_of_graph(ctx, r.g);
        assert_in_range(b.length, 6 * ROWS * COLUMNS, 6 * ROWS * COLUMNS + 200);
        assert_int_equal(b.data[4], 2);
        espl_graph *back = read_back(ctx, &b);
        const espl__value *v = back->nodes[0]->inputs[1];
        assert_int_equal(v->quant.format, f);
        assert_memory_equal(v->constant->data, codes, sizeof codes);
        espl_session *s = session_of(ctx, back);
        run_io io = io_of(s, 3);
        run_session(s, &io);
        assert_memory_equal(io.out[0].data, io.out[1].data, bytes_of(&io.out[0]));
        io_free(&io);
        espl_session_destroy(&s);
        /* A scale that is not 1, or a file of version 1. */
        espl_graph *g = NULL;
        espl_diag diag = {0};
        r.g->values[w->id]->quant.scale[0] = 2;
        assert_int_equal(espl__graph_verify(r.g, &diag), ESPL_FORMAT);
        assert_non_null(strstr(diag.message, "does not fit its type or its scales"));
        b.data[4] = 1;
        put_file(b.data, b.length);
        assert_int_equal(espl_model_read(ctx, path, &g, NULL), ESPL_FORMAT);
        espl__buffer_free(&b);
        espl_graph_destroy(&back);
        espl_graph_destroy(&r.g);
    }
    espl_context_destroy(&ctx);
}

/* Input shapes keep their unknown dimensions and unknown ranks. */
static void unknown_shapes_come_back(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    rig r;
    rig_begin(&r, ctx, 1);
    espl__value *x = input_of(&r, "x", ESPL_F32, SHAPE(ESPL_DIM_UNKNOWN, 3, 0, ESPL_DIM_UNKNOWN));
    espl__value *y = input_of(&r, "y", ESPL_S32, (espl_shape){0});
    y->known_rank = false;
    espl__value *in[2] = {x, y}, *out[2] = {APPLY(&r, "Relu", x), APPLY(&r, "Identity", y)};
    outputs_are(&r, 2, in, 2, out);
    espl__buffer b = bytes_of_graph(ctx, r.g);
    espl_graph *back = read_back(ctx, &b);
    assert_true(espl_shape_equal(&back->inputs[0]->shape, &x->shape) && back->inputs[0]->known_rank);
    assert_false(back->inputs[1]->known_rank);
    assert_int_equal(back->inputs[1]->dtype, ESPL_S32);
    espl__buffer_free(&b);
    espl_graph_destroy(&back);
    /* A size that nothing could hold is no size, whatever the unknown dimension becomes. Shape computes nothing of that size. */
    out[0]->producer->op = espl__op_find("", "Shape");
    for (int i = 0; i < 2; i++) {
        espl_diag diag = {0};
        x->shape = SHAPE((int64_t)1 << 40, (int64_t)1 << (i ? 40 : 4), ESPL_DIM_UNKNOWN);
        b = bytes_of_graph(ctx, r.g);
        put_file(b.data, b.length);
        espl_status status = espl_model_read(ctx, path, &back, &diag);
        if (i == 0) assert_int_equal(status, ESPL_OK);
        if (i == 1) refused_well(status, &diag, "2^80 elements");
        espl__buffer_free(&b);
        espl_graph_destroy(&back);
    }
    espl_graph_destroy(&r.g);
    espl_context_destroy(&ctx);
}

/* --- checksum ----------------------------------------------------------------------------------------------- */

/* ISO 3309 by the bit. */
static uint32_t crc_of(const uint8_t *p, size_t n) {
    uint32_t crc = 0xFFFFFFFFu;
    for (size_t i = 0; i < n; i++) {
        crc ^= p[i];
        for (int k = 0; k < 8; k++) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0);
    }
    return ~crc;
}

static void checksums_are_crc32(void **state) {
    enum { MOST = 70000 };
    (void)state;
    espl__rng rng = espl__rng_seed(1, 1);
    uint8_t *bytes = malloc(MOST);
    for (int i = 0; i < MOST; i++) bytes[i] = (uint8_t)espl__rng_u32(&rng);
    assert_int_equal(espl__crc32((const uint8_t *)"123456789", 9), 0xCBF43926u); /* the known value */
    for (size_t n = 0; n < 100; n++) assert_int_equal(espl__crc32(bytes, n), crc_of(bytes, n));
    for (size_t n = 1000; n < 1100; n++) assert_int_equal(espl__crc32(bytes + n % 8, n), crc_of(bytes + n % 8, n));
    assert_int_equal(espl__crc32(bytes, MOST), crc_of(bytes, MOST));
    free(bytes);
}

/* --- damage ------------------------------------------------------------------------------------------------ */

typedef struct outcomes {
    int opened, created, ran, refused;
} outcomes;

/* Reads the file, and if it still is a model, plans it and runs it. */
static void try_file(espl_context *ctx, outcomes *o) {
    espl_graph *g = NULL;
    espl_session *s = NULL;
    espl_diag diag = {0};
    espl_status status = espl_model_read(ctx, path, &g, &diag);
    if (status != ESPL_OK) {
        assert_null(g);
        refused_well(status, &diag, "read");
        if (!strstr(diag.message, path)) fail_msg("the sentence names no file: %s", diag.message);
        o->refused++;
        return;
    }
    o->opened++;
    status = espl_session_create(ctx, g, NULL, &s, &diag);
    if (status != ESPL_OK) {
        assert_null(s);
        refused_well(status, &diag, "create");
    } else {
        size_t bytes = 0;
        bool few = espl_session_input_count(s) <= 8 && espl_session_output_count(s) <= 64;
        o->created++;
        for (int i = 0; few && i < espl_session_input_count(s); i++) bytes += bytes_of(espl_session_input_info(s, i));
        for (int i = 0; few && i < espl_session_output_count(s); i++) bytes += bytes_of(espl_session_output_info(s, i));
        if (few && bytes < 32 << 20) {
            run_io io = io_of(s, 1);
            run_session(s, &io);
            io_free(&io);
            o->ran++;
        }
    }
    espl_session_destroy(&s);
    espl_graph_destroy(&g);
}

/* Every fourth a sparse one of each pattern and format in turn. */
static void graph_to_damage(random_graph *x, espl_context *ctx, uint64_t seed, int nodes) {
    const uint64_t k = seed / 4;
    if (seed % 4 == 3)
        sparse_graph(&x->r, ctx, seed, sparse_patterns[k % ESPL_COUNT(sparse_patterns)],
                     sparse_formats[k % ESPL_COUNT(sparse_formats)]);
    else
        random_quantized(x, ctx, seed, nodes);
}

/* y = x w with one sparse weight of 8 inputs and 2 rows; *at: where the file speaks of its pattern. The codes are the last
 * bytes. */
static espl__buffer sparse_file(espl_context *ctx, const char *pattern, int64_t inputs, size_t *at) {
    rig r;
    rig_begin(&r, ctx, 1);
    espl__value *x = input_of(&r, "x", ESPL_F32, SHAPE(1, inputs));
    espl__value *w = sparse_weight(&r, SHAPE(2, inputs), 0, 1, pattern, ESPL_FORMAT_S8);
    espl__node *n = NODE(&r, "Gemm", x, w);
    set_int(&r, n, "transB", 1);
    IO(&r, x, done_of(&r, n));
    espl__buffer b = bytes_of_graph(ctx, r.g);
    assert_int_equal(b.data[4], 2);
    const char axes[] = {(char)w->zeros.pattern.pattern, 0, 1};
    for (*at = CONTAINER_HEADER; memcmp(b.data + *at, axes, 3) != 0; ++*at) assert_true(*at + 3 < b.length);
    espl_graph_destroy(&r.g);
    return b;
}

static void hostile_layouts_are_refused(void **state) {
    static const char numbers[] = "has a sparse layout whose numbers do not fit it";
    (void)state;
    espl_context *ctx = frugal_context();
    size_t at;
    /* pattern, axes 0 1, N, M. Then 40 values in 10 bytes of positions, two bits each. */
    espl__buffer b = sparse_file(ctx, "2:4", 40, &at);
    expect_sentence(ctx, &b, at, "\x63", 1, numbers);         /* no such pattern */
    expect_sentence(ctx, &b, at, "\0", 1, numbers);           /* dense */
    expect_sentence(ctx, &b, at + 1, "\1", 1, numbers);       /* one axis twice */
    expect_sentence(ctx, &b, at + 2, "\2", 1, numbers);       /* an axis too many */
    expect_sentence(ctx, &b, at + 2, "\377", 1, numbers);
    expect_sentence(ctx, &b, at + 3, "\0", 1, numbers);       /* 0:4 */
    expect_sentence(ctx, &b, at + 3, "\4", 1, numbers);       /* 4:4 */
    expect_sentence(ctx, &b, at + 4, "\2", 1, numbers);       /* 2:2 */
    expect_sentence(ctx, &b, at + 3, "\3", 1, "needs more bytes than the file has"); /* 3:4 */
    expect_sentence(ctx, &b, at + 4, "\3", 1, "needs more bytes than the file has"); /* 2:3 */
    expect_sentence(ctx, &b, b.length - 1, "\0", 1, "row 1: position 0 of a bank follows 0, but positions must ascend");
    expect_sentence(ctx, &b, b.length - 1, "\x2E", 1, "row 1: position 0 of a bank follows 2, but positions must ascend");
    espl__buffer_free(&b);
    /* Banks of 16 and one of 8: 12 values a row, 4 bits each. The second value of row 1's last bank is the last position. */
    b = sparse_file(ctx, "bank 4:16", 40, &at);
    expect_sentence(ctx, &b, b.length - 1, (uint8_t[]){(uint8_t)b.data[b.length - 1] | 0xF0}, 1,
                    "row 1: position 15 is beyond a bank of 8");
    espl__buffer_free(&b);
    /* pattern, axes, share, count of values, bits of a gap; 2 counts of 6 bits, then the gaps. */
    b = sparse_file(ctx, "unstructured 50%", 40, &at);
    const uint8_t values = (uint8_t)b.data[at + 7], gap = (uint8_t)b.data[at + 8];
    const size_t counts = b.length - (values * gap + 7) / 8 - 2;
    assert_in_range(values, 30, 50);
    expect_sentence(ctx, &b, at + 3, "\0\0\x80\x7f", 4, numbers);   /* a share that is infinite */
    expect_sentence(ctx, &b, at + 3, "\0\0\xc0\x7f", 4, numbers);   /* or no number */
    expect_sentence(ctx, &b, at + 7, "\x51", 1, numbers);            /* 81 values of 80 */
    expect_sentence(ctx, &b, at + 7, (uint8_t[]){values + 1}, 1, "needs more bytes than the file has");
    expect_sentence(ctx, &b, at + 8, "\x20", 1, numbers);            /* gaps of 32 bits */
    expect_sentence(ctx, &b, at + 8, (uint8_t[]){gap + 1}, 1, "needs more bytes than the file has");
    expect_sentence(ctx, &b, counts, "\x3F", 1, "row 0 counts 63 values of");
    expect_sentence(ctx, &b, counts, "\0", 2, "are stored");
    expect_sentence(ctx, &b, counts + 2, "\xFF\xFF\xFF\xFF\xFF\xFF", 6, "is beyond its 40 columns");
    espl__buffer_free(&b);
    espl_context_destroy(&ctx);
}

/* A few bytes that speak of many elements, before any memory is taken for them. */
static void sparse_bombs_are_refused(void **state) {
    (void)state;
    espl_context *ctx = frugal_context();
    size_t at;
    espl__buffer b = sparse_file(ctx, "unstructured 50%", 8, &at);
    /* Before the pattern stand the shape, two dimensions + 1, and the quantization of two scales: 2 + 1 + 8 bytes. */
    assert_int_equal(b.data[at - 13], 3);
    assert_int_equal(b.data[at - 12], 9);
    b.data[at + 7] = 0; /* no values */
    b.data[at + 8] = 0;
    for (int more = 1; more <= 8; more++) {
        /* 8 + 1 becomes an integer of so many more bytes: 2^7 * 8, 2^14 * 8, ... inputs. */
        espl__buffer bomb;
        espl__buffer_init(&bomb, ctx);
        espl__buffer_append(&bomb, b.data, at - 12);
        for (int k = 0; k < more; k++) espl__buffer_append(&bomb, "\x80", 1);
        espl__buffer_append(&bomb, b.data + at - 12, b.length - (at - 12));
        uint64_t before = espl_context_memory(ctx, NULL), peak = 0;
        expect_sentence(ctx, &bomb, 0, bomb.data, 1,
                        more < 5   ? "needs more bytes than the file has"
                        : more < 8 ? "has a sparse layout whose numbers do not fit it"
                                   : "is malformed at byte");
        espl_context_memory(ctx, &peak);
        assert_in_range(peak - before, 0, 1 << 20);
        espl__buffer_free(&bomb);
    }
    espl__buffer_free(&b);
    espl_context_destroy(&ctx);
}

static void damage_is_noticed(void **state) {
    (void)state;
    espl_context *ctx = frugal_context();
    random_graph x;
    random_quantized(&x, ctx, 5, 5);
    espl__buffer b = bytes_of_graph(ctx, x.r.g);
    espl_graph *g = NULL;
    for (size_t i = 0; i < b.length; i += 1 + i / 200) {
        espl_diag diag = {0};
        if (i == 6 || i == 7) continue; /* flags: none are defined */
        b.data[i] ^= 0x20;
        put_file(b.data, b.length);
        espl_status status = espl_model_read(ctx, path, &g, &diag);
        refused_well(status, &diag, "read");
        b.data[i] ^= 0x20;
    }
    espl__buffer_free(&b);
    espl_graph_destroy(&x.r.g);
    espl_diag diag = {0};
    assert_int_equal(espl_model_read(ctx, "/nonexistent/model.espl", &g, &diag), ESPL_IO);
    assert_non_null(strstr(diag.message, "/nonexistent/model.espl"));
    assert_false(espl_model_probe("/nonexistent/model.espl"));
    espl_context_destroy(&ctx);
}

/* Every length of a small file, once as it is and once with a header that says so. */
static void truncated_files_are_refused(void **state) {
    (void)state;
    espl_context *ctx = frugal_context();
    outcomes o = {0};
    for (uint64_t seed = 0; seed < 4; seed++) {
        random_graph x;
        graph_to_damage(&x, ctx, 6000000 + seed, 4);
        espl__buffer b = bytes_of_graph(ctx, x.r.g);
        espl_graph_destroy(&x.r.g);
        size_t step = b.length > 3000 ? b.length / 3000 + 1 : 1;
        for (size_t n = 0; n < b.length; n += n < 400 || n + 400 > b.length ? 1 : step) {
            put_file(b.data, n);
            int before = o.refused;
            try_file(ctx, &o);
            assert_int_equal(o.refused, before + 1);
            if (n < CONTAINER_HEADER) continue;
            uint8_t *copy = malloc(n + 1); /* of the very size, so that reading past it is seen */
            memcpy(copy, b.data, n);
            seal(copy, n);
            put_file(copy, n);
            free(copy);
            try_file(ctx, &o);
            assert_int_equal(o.refused, before + 2);
        }
        espl__buffer_free(&b);
    }
    assert_int_equal(espl_context_memory(ctx, NULL), empty_context(1));
    espl_context_destroy(&ctx);
}

/* Bytes of the body are changed and the checksum made to fit: only the parser and the passes stand behind it. */
static void forged_files_do_no_harm(void **state) {
    enum { FILES = 20 };
    (void)state;
    espl_context *ctx = frugal_context();
    outcomes o = {0};
    const char *count = getenv("ESPL_COUNT"), *first = getenv("ESPL_SEED");
    int tries = count ? atoi(count) : 1000;
    double slowest = 0;
    for (uint64_t seed = first ? (uint64_t)atoi(first) : 0; seed < (first ? (uint64_t)atoi(first) + 1 : FILES); seed++) {
        random_graph x;
        graph_to_damage(&x, ctx, 7000000 + seed, 6);
        espl__buffer b = bytes_of_graph(ctx, x.r.g);
        espl_graph_destroy(&x.r.g);
        espl__rng rng = espl__rng_seed(seed, 11);
        uint8_t *copy = malloc(b.length);
        for (int i = 0; i < tries; i++) {
            memcpy(copy, b.data, b.length);
            int flips = 1 + (int)espl__rng_below(&rng, 3);
            /* Half of them where the structure is: the weights come last. */
            size_t span = b.length - CONTAINER_HEADER;
            if (espl__rng_below(&rng, 2)) span = ESPL_MIN(span, 400);
            for (int k = 0; k < flips; k++)
                copy[CONTAINER_HEADER + espl__rng_below(&rng, (uint32_t)span)] ^= (uint8_t)(1 + espl__rng_below(&rng, 255));
            seal(copy, b.length);
            put_file(copy, b.length);
            if (getenv("ESPL_TRACE")) {
                printf("seed %d try %d\n", (int)seed, i);
                fflush(stdout);
            }
            double begin = espl__now();
            try_file(ctx, &o);
            double seconds = espl__now() - begin;
            slowest = seconds > slowest ? seconds : slowest;
            if (seconds > 10) fail_msg("seed %d, try %d took %g s", (int)seed, i, seconds);
        }
        free(copy);
        espl__buffer_free(&b);
    }
    printf("%d refused, %d opened, of which %d could be planned and %d ran; the slowest took %.2f s\n", o.refused, o.opened,
           o.created, o.ran, slowest);
    assert_true(o.refused > 0 && o.ran > 0);
    assert_int_equal(espl_context_memory(ctx, NULL), empty_context(1));
    espl_context_destroy(&ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_graphs_come_back),
        cmocka_unit_test(real_models_come_back),
        cmocka_unit_test(every_attribute_comes_back),
        cmocka_unit_test(every_type_comes_back),
        cmocka_unit_test(packed_weights_come_back),
        cmocka_unit_test(sparse_weights_come_back),
        cmocka_unit_test(sparse_weights_take_few_bytes),
        cmocka_unit_test(untrue_hints_do_no_harm),
        cmocka_unit_test(weights_of_16_bits_come_back),
        cmocka_unit_test(unknown_shapes_come_back),
        cmocka_unit_test(checksums_are_crc32),
        cmocka_unit_test(hostile_layouts_are_refused),
        cmocka_unit_test(sparse_bombs_are_refused),
        cmocka_unit_test(damage_is_noticed),
        cmocka_unit_test(truncated_files_are_refused),
        cmocka_unit_test(forged_files_do_no_harm),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
