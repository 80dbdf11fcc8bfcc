/* Rewrites that may not happen, or not quite so: files that are valid and rare, and files that claim what does not fit.
 * The judges are the operators' references on the graph as it was. */
#include "passes_rig.h"

/* The graph from x to y, through the passes, beside its references; `op` is there so often behind them. */
static void expect(rig *r, espl__value *x, espl__value *y, const char *op, int count) {
    IO(r, x, y);
    espl_graph *g = passed(r, 1e-6, 1);
    if (op) assert_int_equal(count_of(g, op), count);
    espl_graph_destroy(&g);
    espl_graph_destroy(&r->g);
}

static void expect_refused(rig *r, espl__value *x, espl__value *y, const char *sentence) {
    outputs_are(r, 1, &x, 1, &y);
    espl_diag diag = {0};
    assert_int_not_equal(espl__passes_run(r->g, &diag), ESPL_OK);
    if (!strstr(diag.message, sentence)) fail_msg("'%s' instead of '%s'", diag.message, sentence);
    espl_graph_destroy(&r->g);
}

/* A session for one batch size beside the references, after the passes have seen none. */
static void expect_at(rig *r, const espl_graph *g, int64_t batch) {
    espl_shape shape = r->g->inputs[0]->shape;
    espl_session_options options = {.input_shapes = &shape};
    espl_session *s = NULL;
    espl_tensor expected;
    espl_diag diag = {0};
    shape.dim[0] = batch;
    if (espl_session_create(r->ctx, g, &options, &s, &diag) != ESPL_OK) fail_msg("batch %d: %s", (int)batch, diag.message);
    run_io io = io_of(s, 1);
    run_reference_of(r->ctx, r->g, io.in, &expected);
    run_session(s, &io);
    if (difference(&io.out[0], &expected) != 0) fail_msg("batch %d: another result or shape", (int)batch);
    espl_tensor_free(r->ctx, &expected);
    io_free(&io);
    espl_session_destroy(&s);
}

static espl__value *typed(rig *r, const char *op, espl__value *x, espl__value *scale, espl__value *zero) {
    espl__node *n = NODE(r, op, x, scale, zero);
    n->opset = 21;
    return done_of(r, n);
}

static espl__value *cast(rig *r, espl__value *x, int to) {
    espl__node *n = NODE(r, "Cast", x);
    set_int(r, n, "to", to);
    return done_of(r, n);
}

/* Codes of s8 behind scales of blocks, which differ along one other axis. */
static espl__value *blocked(rig *r, espl_shape shape, espl_shape scales, int axis, int block) {
    int8_t codes[64];
    float scale[64];
    const int other = axis == 0;
    int64_t inner[2] = {1, 1};
    for (int k = 0; k < 2; k++)
        for (int d = (k ? other : axis) + 1; d < scales.rank; d++) inner[k] *= scales.dim[d];
    for (int64_t i = 0; i < 64; i++) {
        codes[i] = (int8_t)(7 * i % 50 - 20);
        scale[i] = 0.25f * (float)(1 + i / inner[0] % scales.dim[axis] + 3 * (i / inner[1] % scales.dim[other]));
    }
    espl__node *n = NODE(r, "DequantizeLinear", constant_of(r, ESPL_S8, shape, codes), constant_of(r, ESPL_F32, scales, scale));
    set_int(r, n, "axis", axis);
    set_int(r, n, "block_size", block);
    n->opset = 21;
    return n->outputs[0];
}

/* --- sizes ---------------------------------------------------------------------------------------------------- */

static void products_without_columns(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    const float scale = 0.5f;
    for (int kind = 0; kind < 5; kind++) {
        rig r;
        rig_begin(&r, ctx, 1);
        espl__value *x = input_of(&r, "x", ESPL_F32, SHAPE(2, 3));
        espl__value *w = constant_of(&r, kind % 2 ? ESPL_S8 : ESPL_F32, kind == 4 ? SHAPE(0, 3) : SHAPE(3, 0), NULL);
        if (kind % 2) w->dtype = ESPL_F32;
        if (kind % 2) assert_true(espl__graph_set_quant(r.g, w, ESPL_FORMAT_S8, -1, 1, &scale, NULL));
        if (kind == 1) quantize_value(&r, x, ESPL_FORMAT_U8, 0.1f, 100);
        espl__node *n = NODE(&r, kind == 2 || kind == 4 ? "Gemm" : "MatMul", x, w);
        if (kind == 3) set_int(&r, n, "espl_dynamic", 1);
        if (kind == 4) set_int(&r, n, "transB", 1);
        IO(&r, x, done_of(&r, n));
        espl_session *s = session_of(ctx, r.g);
        run_io io = io_of(s, 1);
        run_session(s, &io);
        assert_int_equal(io.out[0].shape.dim[0], 2);
        assert_int_equal(io.out[0].shape.dim[1], 0);
        io_free(&io);
        espl_session_destroy(&s);
        espl_graph_destroy(&r.g);
    }
    espl_context_destroy(&ctx);
}

static void parts_of_any_size(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    for (int kind = 0; kind < 3; kind++) {
        rig r;
        rig_begin(&r, ctx, 1);
        const int64_t size = kind == 0 ? INT64_MAX : kind == 1 ? 7 : 3, first = 0;
        espl__value *x = input_of(&r, "x", ESPL_F32, SHAPE(5));
        espl__value *parts = APPLY(&r, "SplitToSequence", x, constant_of(&r, ESPL_S64, (espl_shape){0}, &size));
        expect(&r, x, APPLY(&r, "SequenceAt", parts, constant_of(&r, ESPL_S64, (espl_shape){0}, &first)), NULL, 0);
    }
    espl_context_destroy(&ctx);
}

/* What a session refuses names the file that the graph is from. */
static void refusals_name_the_file(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    rig r;
    rig_begin(&r, ctx, 1);
    r.g->file = espl__arena_strdup(&r.g->arena, "parts.onnx");
    espl__value *x = input_of(&r, "x", ESPL_F32, SHAPE(ESPL_DIM_UNKNOWN));
    espl__value *parts = APPLY(&r, "SplitToSequence", x, INTS(&r, 2, 2));
    IO(&r, x, APPLY(&r, "SequenceAt", parts, constant_of(&r, ESPL_S64, (espl_shape){0}, &(int64_t){1})));
    for (int64_t length = 4; length < 6; length++) {
        const espl_shape shape = SHAPE(length);
        espl_session *s = NULL;
        espl_diag diag = {0};
        espl_status status = espl_session_create(ctx, r.g, &(espl_session_options){.input_shapes = &shape}, &s, &diag);
        assert_int_equal(status, length == 4 ? ESPL_OK : ESPL_SHAPE);
        if (status != ESPL_OK && !strstr(diag.message, "parts.onnx")) fail_msg("'%s'", diag.message);
        espl_session_destroy(&s);
    }
    espl_graph_destroy(&r.g);
    espl_context_destroy(&ctx);
}

/* Shape arithmetic that is a product for small batches only stays arithmetic. */
static void targets_that_bend(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    static const char *const ops[] = {"Min", "Max", "Div", "Mul"};
    for (int kind = 0; kind < 4; kind++) {
        rig r;
        rig_begin(&r, ctx, 1);
        const int64_t number = kind == 0 ? 4 : kind == 3 ? 1 : 2, first = 0;
        espl__value *x = input_of(&r, "x", ESPL_F32, SHAPE(ESPL_DIM_UNKNOWN, 3));
        espl__value *n = APPLY(&r, "Gather", APPLY(&r, "Shape", x), constant_of(&r, ESPL_S64, (espl_shape){0}, &first));
        n = APPLY(&r, ops[kind], n, constant_of(&r, ESPL_S64, (espl_shape){0}, &number));
        espl__value *target[2] = {APPLY(&r, "Unsqueeze", n, INTS(&r, 0)), INTS(&r, -1, 3)};
        espl__node *cat = node_of(&r, "Concat", 2, target, 1);
        set_int(&r, cat, "axis", 0);
        IO(&r, x, APPLY(&r, "Relu", APPLY(&r, "Reshape", x, done_of(&r, cat))));
        espl_graph *g = NULL;
        assert_int_equal(espl__graph_clone(r.g, &g, NULL), ESPL_OK);
        pass_all(g);
        assert_int_equal(count_of(g, "Shape"), kind == 3 ? 0 : 1);
        for (int64_t batch = 2; batch <= 8; batch *= 2) expect_at(&r, g, batch);
        espl_graph_destroy(&g);
        espl_graph_destroy(&r.g);
    }
    espl_context_destroy(&ctx);
}

/* --- constants -------------------------------------------------------------------------------------------------- */

/* What folding makes is rounded as the formats say, while reading or when a session binds the batch. */
static void folded_constants_are_rounded(void **state) {
    (void)state;
    static const struct {
        espl_dtype type;
        int zero, to; /* of QuantizeLinear, or of Cast */
    } rows[] = {{ESPL_U8, 7, 0},  {ESPL_S8, -3, 0},  {ESPL_S16, 0, 0},  {ESPL_S16, 3, 0},  {ESPL_S4, 0, 0},
                {ESPL_U4, 3, 0},  {ESPL_E4M3, 0, 0}, {ESPL_E5M2, 0, 0}, {ESPL_F16, 0, 10}, {ESPL_BF16, 0, 16}};
    static const float numbers[4] = {1, -3, 10.01f, 180.3f};
    espl_context *ctx = new_context(1);
    for (size_t i = 0; i < 2 * ESPL_COUNT(rows); i++) {
        const size_t row = i / 2;
        rig r;
        rig_begin(&r, ctx, i);
        r.g->opset = 21;
        int16_t zero = (int16_t)rows[row].zero;
        espl__value *x = input_of(&r, "x", ESPL_F32, SHAPE(i % 2 ? ESPL_DIM_UNKNOWN : 3, 4)), *a, *b;
        a = constant_of(&r, ESPL_F32, SHAPE(4), numbers);
        a = APPLY(&r, "Mul", a, i % 2 ? cast(&r, APPLY(&r, "Size", x), 1) : a);
        if (rows[row].to) {
            b = cast(&r, cast(&r, a, rows[row].to), 1);
        } else {
            espl__value *s = scalar_of(&r, 0.3f), *z = constant_of(&r, rows[row].type, (espl_shape){0}, &zero);
            b = typed(&r, "DequantizeLinear", typed(&r, "QuantizeLinear", a, s, z), s, z);
        }
        expect(&r, x, APPLY(&r, "Add", x, b), NULL, 0);
    }
    espl_context_destroy(&ctx);
}

/* Codes that have become numbers are no codes again: their scale counts, and a second one is refused or counts too. */
static void numbers_keep_their_scale(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    static const uint8_t codes[4] = {1, 2, 3, 4};
    rig r;
    rig_begin(&r, ctx, 1);
    espl__value *x = input_of(&r, "x", ESPL_F32, SHAPE(2, 2));
    espl__value *w = APPLY(&r, "DequantizeLinear", constant_of(&r, ESPL_S8, SHAPE(2, 2), codes), scalar_of(&r, 0.5f));
    expect(&r, x, APPLY(&r, "Add", x, APPLY(&r, "Mul", cast(&r, w, 1), scalar_of(&r, 2))), NULL, 0);
    rig_begin(&r, ctx, 1);
    x = input_of(&r, "x", ESPL_F32, SHAPE(2, 2));
    w = NODE(&r, "DequantizeLinear", constant_of(&r, ESPL_S8, SHAPE(2, 2), codes), scalar_of(&r, 0.5f))->outputs[0];
    w = NODE(&r, "DequantizeLinear", w, scalar_of(&r, 0.5f))->outputs[0];
    expect_refused(&r, x, NODE(&r, "Add", x, w)->outputs[0], "DequantizeLinear");
    rig_begin(&r, ctx, 1); /* a zero point that is a number */
    x = input_of(&r, "x", ESPL_F32, SHAPE(2, 2));
    w = NODE(&r, "DequantizeLinear", constant_of(&r, ESPL_S8, SHAPE(2), codes), scalar_of(&r, 0.5f))->outputs[0];
    w = NODE(&r, "DequantizeLinear", constant_of(&r, ESPL_S8, SHAPE(2, 2), codes), random_of(&r, SHAPE(2), 1), w)->outputs[0];
    expect_refused(&r, x, NODE(&r, "Add", x, w)->outputs[0], "DequantizeLinear");
    espl_context_destroy(&ctx);
}

/* The vectors that normalisations share have a name, which a file may have given to others. */
static void names_are_nobodys(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    static const float fives[3] = {5, 5, 5}, ones[3] = {1, 1, 1};
    for (int kind = 0; kind < 4; kind++) {
        rig r;
        rig_begin(&r, ctx, 1);
        const int64_t channels = kind == 2 ? 3 : 2;
        espl__value *x = input_of(&r, "x", ESPL_F32, SHAPE(2, 2)), *other, *in[5];
        other = constant_of(&r, ESPL_F32, SHAPE(channels), kind == 3 ? ones : fives);
        other->name = espl__arena_strdup(&r.g->arena, kind == 1 ? "espl.0.2" : "espl.1.2");
        in[0] = APPLY(&r, "Relu", x);
        for (int i = 1; i < 5; i++) in[i] = random_of(&r, SHAPE(2), 1);
        for (int i = 0; i < 2; i++) ((float *)in[4]->constant->data)[i] = 0.7f;
        espl__value *y = done_of(&r, node_of(&r, "BatchNormalization", 5, in, 1));
        y = APPLY(&r, "Add", y, kind == 2 ? APPLY(&r, "ReduceMax", other) : other);
        expect(&r, x, y, "BatchNormalization", 1);
    }
    espl_context_destroy(&ctx);
}

/* --- scales ------------------------------------------------------------------------------------------------------ */

/* A product of rounded rows, whose scale may not give it dimensions. */
static void dynamic_scales_have_no_more_dimensions(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    static const int8_t codes[6] = {1, -2, 3, 40, -5, 6};
    static const float ones[2] = {1, 0.5f};
    for (int kind = 0; kind < 4; kind++) {
        rig r;
        rig_begin(&r, ctx, 1);
        espl__value *x = input_of(&r, "x", ESPL_F32, kind == 3 ? SHAPE(3) : SHAPE(2, 3));
        espl__node *q = node_of(&r, "DynamicQuantizeLinear", 1, &x, 3);
        done_of(&r, q);
        espl__value *w = constant_of(&r, ESPL_S8, SHAPE(3, 2), codes);
        espl__value *product = cast(&r, APPLY(&r, "MatMulInteger", q->outputs[0], w, q->outputs[2]), 1);
        espl_shape shape = kind == 0 ? SHAPE(1, 1, 1) : kind == 2 ? SHAPE(2) : SHAPE(1, 2);
        espl__value *scale = APPLY(&r, "Mul", q->outputs[1], constant_of(&r, ESPL_F32, shape, ones));
        IO(&r, x, APPLY(&r, "Mul", product, scale));
        espl_graph *g = passed(&r, 0.02, 1); /* MatMul's numbers are not rounded */
        assert_int_equal(count_of(g, "MatMulInteger"), kind == 0 || kind == 3);
        espl_graph_destroy(&g);
        espl_graph_destroy(&r.g);
    }
    espl_context_destroy(&ctx);
}

static void blocks_fit_the_weights(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    rig r;
    rig_begin(&r, ctx, 1); /* as many scales as there are, in another shape */
    espl__value *x = input_of(&r, "x", ESPL_F32, SHAPE(1, 4));
    espl__value *w = blocked(&r, SHAPE(4, 6), SHAPE(2, 6), 1, 2);
    expect_refused(&r, x, NODE(&r, "MatMul", x, w)->outputs[0], "scale");
    rig_begin(&r, ctx, 1);
    x = input_of(&r, "x", ESPL_F32, SHAPE(1, 4));
    w = done_of(&r, blocked(&r, SHAPE(4, 6), SHAPE(4, 3), 1, 2)->producer);
    expect(&r, x, APPLY(&r, "MatMul", x, w), "DequantizeLinear", 0);
    /* They go with a convolution that becomes a product, and with one that gets a height. */
    for (int axis = 0; axis < 3; axis++) {
        rig_begin(&r, ctx, 1);
        x = input_of(&r, "x", ESPL_F32, SHAPE(1, 4, 1, 1));
        espl_shape scales[3] = {SHAPE(1, 4, 1, 1), SHAPE(2, 2, 1, 1), SHAPE(2, 4, 1, 1)};
        w = done_of(&r, blocked(&r, SHAPE(2, 4, 1, 1), scales[axis], axis, 2)->producer);
        expect(&r, x, APPLY(&r, "Flatten", APPLY(&r, "Conv", x, w)), axis == 1 ? "Gemm" : NULL, 1);
    }
    for (int axis = 0; axis < 3; axis++) {
        rig_begin(&r, ctx, 1);
        x = input_of(&r, "x", ESPL_F32, SHAPE(1, 2, 4));
        espl_shape scales[3] = {SHAPE(1, 2, 4), SHAPE(2, 1, 4), SHAPE(2, 2, 2)};
        w = done_of(&r, blocked(&r, SHAPE(2, 2, 4), scales[axis], axis, 2)->producer);
        expect(&r, x, APPLY(&r, "Conv", x, w), NULL, 0);
    }
    espl_context_destroy(&ctx);
}

/* Sums of codes are s32, which QuantizeLinear takes, whatever came between. */
static void integers_are_rounded(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    static const int8_t codes[4] = {1, 2, 3, -4};
    for (int kind = 0; kind < 4; kind++) {
        rig r;
        rig_begin(&r, ctx, 1);
        const int8_t zero = 0;
        espl__value *x = input_of(&r, "x", ESPL_S8, kind == 3 ? SHAPE(1, 2, 2, 2) : SHAPE(2, 2)), *y;
        y = constant_of(&r, ESPL_S8, kind == 3 ? SHAPE(2, 2, 1, 1) : SHAPE(2, 2), codes);
        y = APPLY(&r, kind == 3 ? "ConvInteger" : "MatMulInteger", x, y);
        if (kind == 1) y = APPLY(&r, "Reshape", y, INTS(&r, 4, 1));
        if (kind == 2) y = APPLY(&r, "Add", y, y);
        espl__value *s = scalar_of(&r, 2), *z = constant_of(&r, ESPL_S8, (espl_shape){0}, &zero);
        y = APPLY(&r, "DequantizeLinear", APPLY(&r, "QuantizeLinear", y, s, z), s, z);
        expect(&r, x, APPLY(&r, "Relu", y), "QuantizeLinear", 1);
    }
    espl_context_destroy(&ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_without_columns),
        cmocka_unit_test(parts_of_any_size),
        cmocka_unit_test(refusals_name_the_file),
        cmocka_unit_test(targets_that_bend),
        cmocka_unit_test(folded_constants_are_rounded),
        cmocka_unit_test(numbers_keep_their_scale),
        cmocka_unit_test(names_are_nobodys),
        cmocka_unit_test(dynamic_scales_have_no_more_dimensions),
        cmocka_unit_test(blocks_fit_the_weights),
        cmocka_unit_test(integers_are_rounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
