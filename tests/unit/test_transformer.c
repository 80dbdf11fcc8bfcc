/* What transformers are made of: groups of nodes that are layer normalisation or Gelu, work on rows in one step, and
 * products of two activations. Compared with the operators' references node by node, or with double precision. */
#include "graph_oracle.h"

#include "espalier/onnx.h"
#include "runtime/plan.h"

static int count_of(const espl_session *s, const char *op) {
    int count = 0;
    for (int i = 0; i < s->graph->node_count; i++) count += espl__node_is(s->graph->nodes[i], op);
    return count;
}

static int steps_of(const espl_session *s, const char *kernel) {
    int count = 0;
    for (int i = 0; i < s->step_count; i++) count += strcmp(s->steps[i]->kernel, kernel) == 0;
    return count;
}

/* Runs the graph and compares with the references of its own nodes. */
static void expect_references(rig *r, const espl_session *s, double tolerance) {
    run_io x = io_of(s, 5);
    espl_tensor expected[8];
    run_session((espl_session *)s, &x);
    run_reference_of(r->ctx, r->g, x.in, expected);
    for (int i = 0; i < x.outputs; i++) {
        double error = difference(&x.out[i], &expected[i]);
        if (!(error <= tolerance)) {
            print_graph(r->g);
            fail_msg("output %d is off by %g", i, error);
        }
        espl_tensor_free(r->ctx, &expected[i]);
    }
    io_free(&x);
}

/* How often the session has `op`, and its answer. */
static void expect_op(rig *r, const char *op, int count, const char *what) {
    espl_session *s = session_of(r->ctx, r->g);
    if (count_of(s, op) != count) {
        print_graph(r->g);
        fail_msg("%s: %d %s, not %d", what, count_of(s, op), op, count);
    }
    if (count) assert_int_equal(s->step_count, count);
    expect_references(r, s, 2e-5);
    espl_session_destroy(&s);
    espl_graph_destroy(&r->g);
}

/* Op of two operands in any order. */
static espl__value *either(rig *r, const char *op, espl__value *a, espl__value *b) {
    return chance(r, 50) ? APPLY(r, op, a, b) : APPLY(r, op, b, a);
}

/* What a near miss breaks; NONE: nothing. */
typedef enum flaw {
    NONE,
    CONSTANT,    /* a constant of the formula is another */
    OTHER_INPUT, /* one of the places of x holds something else */
    READ_INSIDE, /* somebody else reads a value inside */
    OUTPUT_INSIDE,
    ROUNDED_INSIDE,
    VARIABLE, /* what should be a constant is not */
    AXIS,     /* of the mean */
    FLAWS
} flaw;

/* --- Gelu -------------------------------------------------------------------------------------------- */

static espl__value *times(rig *r, espl__value *x, float c) {
    if (chance(r, 30)) return APPLY(r, "Div", x, scalar_of(r, 1 / c));
    espl__value *by = chance(r, 50) ? scalar_of(r, c) : constant_of(r, ESPL_F32, SHAPE(1), &c);
    return either(r, "Mul", x, by);
}

static espl__value *cube_of(rig *r, espl__value *x) {
    if (chance(r, 40)) return APPLY(r, "Pow", x, scalar_of(r, 3));
    return either(r, "Mul", x, chance(r, 50) ? APPLY(r, "Mul", x, x) : APPLY(r, "Pow", x, scalar_of(r, 2)));
}

static espl__value *gelu_argument(rig *r, espl__value *x, bool by_tanh, flaw f) {
    float root = f == CONSTANT ? 0.9f : 0.79788456f;
    if (!by_tanh) return times(r, x, f == CONSTANT ? 0.5f : 0.70710678f);
    if (chance(r, 60)) return times(r, either(r, "Add", x, times(r, cube_of(r, x), 0.044715f)), root);
    espl__value *square = chance(r, 50) ? APPLY(r, "Mul", x, x) : APPLY(r, "Pow", x, scalar_of(r, 2));
    espl__value *plus = either(r, "Add", times(r, square, 0.044715f), scalar_of(r, 1));
    if (chance(r, 50)) return times(r, either(r, "Mul", x, plus), root);
    return either(r, "Mul", times(r, x, root), plus);
}

static void gelu_graph(rig *r, bool by_tanh, flaw f) {
    espl__value *x = input_of(r, "x", ESPL_F32, SHAPE(2, 3, 37)), *t, *y, *half, *inside;
    espl__value *other = f == OTHER_INPUT ? APPLY(r, "Sigmoid", x) : x;
    t = inside = APPLY(r, by_tanh ? "Tanh" : "Erf", gelu_argument(r, x, by_tanh, f));
    if (f == ROUNDED_INSIDE) quantize_value(r, t, ESPL_FORMAT_U8, 0.01f, 128);
    t = either(r, "Add", t, f == VARIABLE ? x : scalar_of(r, 1));
    if (chance(r, 30)) {
        y = times(r, either(r, "Mul", t, other), 0.5f);
    } else if (chance(r, 50)) {
        y = either(r, "Mul", times(r, other, 0.5f), t);
    } else {
        half = times(r, t, 0.5f);
        y = either(r, "Mul", other, half);
    }
    if (f == READ_INSIDE)
        IO(r, x, y, APPLY(r, "Neg", inside));
    else if (f == OUTPUT_INSIDE)
        IO(r, x, y, inside);
    else
        IO(r, x, y);
}

static void gelu_is_recognised(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    for (uint64_t seed = 0; seed < CASES(200); seed++) {
        rig r;
        rig_begin(&r, ctx, seed);
        gelu_graph(&r, seed % 2, NONE);
        expect_op(&r, "Gelu", 1, "gelu");
    }
    espl_context_destroy(&ctx);
}

static void what_is_nearly_gelu_is_not(void **state) {
    static const flaw flaws[] = {CONSTANT, OTHER_INPUT, READ_INSIDE, OUTPUT_INSIDE, VARIABLE};
    (void)state;
    espl_context *ctx = new_context(1);
    for (uint64_t seed = 0; seed < 20; seed++)
        for (size_t f = 0; f < ESPL_COUNT(flaws); f++) {
            rig r;
            rig_begin(&r, ctx, seed);
            gelu_graph(&r, seed % 2, flaws[f]);
            expect_op(&r, "Gelu", 0, "near miss");
        }
    rig r;
    rig_begin(&r, ctx, 1);
    gelu_graph(&r, false, ROUNDED_INSIDE);
    espl_session *s = session_of(ctx, r.g);
    assert_int_equal(count_of(s, "Gelu"), 0);
    espl_session_destroy(&s);
    espl_graph_destroy(&r.g);
    espl_context_destroy(&ctx);
}

/* --- layer normalisation --------------------------------------------------------------------------------- */

static espl__value *mean(rig *r, espl__value *x, int axis) {
    espl__node *n = NODE(r, "ReduceMean", x);
    SET_INTS(r, n, "axes", axis);
    return done_of(r, n);
}

static void layernorm_graph(rig *r, flaw f) {
    espl__value *x = input_of(r, "x", ESPL_F32, SHAPE(2, 5, 5)), *d, *y, *squares, *root;
    int last = chance(r, 50) ? -1 : 2;
    bool product = chance(r, 50);
    espl__value *other = f == OTHER_INPUT ? APPLY(r, "Sigmoid", x) : x;
    d = APPLY(r, "Sub", other, mean(r, x, f == AXIS ? 1 : last));
    if (f == ROUNDED_INSIDE) quantize_value(r, d, ESPL_FORMAT_U8, 0.05f, 128);
    squares = product ? APPLY(r, "Mul", d, d) : APPLY(r, "Pow", d, scalar_of(r, f == CONSTANT ? 4 : 2));
    if (f == CONSTANT && product) squares = APPLY(r, "Mul", squares, squares);
    squares = mean(r, squares, last);
    root = APPLY(r, "Sqrt", either(r, "Add", squares, f == VARIABLE ? APPLY(r, "Abs", mean(r, x, last)) : scalar_of(r, 1e-3f)));
    y = chance(r, 30) ? either(r, "Mul", d, APPLY(r, "Reciprocal", root)) : APPLY(r, "Div", d, root);
    if (chance(r, 75)) {
        y = either(r, "Mul", y, random_of(r, chance(r, 50) ? SHAPE(5) : SHAPE(1, 1, 5), 1));
        if (chance(r, 75)) y = either(r, "Add", y, random_of(r, SHAPE(5), 1));
    }
    if (f == READ_INSIDE)
        IO(r, x, y, APPLY(r, "Neg", d));
    else if (f == OUTPUT_INSIDE)
        IO(r, x, y, root);
    else
        IO(r, x, y);
}

static void layernorm_is_recognised(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    for (uint64_t seed = 0; seed < CASES(200); seed++) {
        rig r;
        rig_begin(&r, ctx, seed);
        layernorm_graph(&r, NONE);
        expect_op(&r, "LayerNormalization", 1, "layer normalisation");
    }
    espl_context_destroy(&ctx);
}

static void what_is_nearly_layernorm_is_not(void **state) {
    static const flaw flaws[] = {CONSTANT, OTHER_INPUT, READ_INSIDE, OUTPUT_INSIDE, VARIABLE, AXIS};
    (void)state;
    espl_context *ctx = new_context(1);
    for (uint64_t seed = 0; seed < 20; seed++)
        for (size_t f = 0; f < ESPL_COUNT(flaws); f++) {
            rig r;
            rig_begin(&r, ctx, seed);
            layernorm_graph(&r, flaws[f]);
            expect_op(&r, "LayerNormalization", 0, "near miss");
        }
    rig r;
    rig_begin(&r, ctx, 1);
    layernorm_graph(&r, ROUNDED_INSIDE);
    espl_session *s = session_of(ctx, r.g);
    assert_int_equal(count_of(s, "LayerNormalization"), 0);
    espl_session_destroy(&s);
    espl_graph_destroy(&r.g);
    espl_context_destroy(&ctx);
}

/* A factor per column that has as many elements as there are rows is none per element: [5, 1] beside [5, 5]. */
static void a_column_is_no_scale(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    rig r;
    rig_begin(&r, ctx, 1);
    espl__value *x = input_of(&r, "x", ESPL_F32, SHAPE(5, 5));
    espl__value *d = APPLY(&r, "Sub", x, mean(&r, x, -1));
    espl__value *v = mean(&r, APPLY(&r, "Pow", d, scalar_of(&r, 2)), -1);
    espl__value *y = APPLY(&r, "Div", d, APPLY(&r, "Sqrt", APPLY(&r, "Add", v, scalar_of(&r, 1e-5f))));
    IO(&r, x, APPLY(&r, "Mul", y, random_of(&r, SHAPE(5, 1), 1)));
    espl_session *s = session_of(ctx, r.g);
    assert_int_equal(count_of(s, "LayerNormalization"), 1);
    assert_int_equal(count_of(s, "Mul"), 1);
    expect_references(&r, s, 2e-5);
    espl_session_destroy(&s);
    espl_graph_destroy(&r.g);
    espl_context_destroy(&ctx);
}

/* --- batch normalisation of channels that stand last ------------------------------------------------------- */

/* `back`: the second Transpose undoes the first. */
static void batchnorm_graph(rig *r, bool back, bool plain) {
    espl__value *x = input_of(r, "x", ESPL_F32, plain ? SHAPE(4, 6) : SHAPE(2, 6, 6)), *h = x;
    espl__node *n;
    if (!plain) {
        n = NODE(r, "Transpose", x);
        SET_INTS(r, n, "perm", 0, 2, 1);
        h = done_of(r, n);
    }
    espl__value *variance = random_of(r, SHAPE(6), 1);
    for (int i = 0; i < 6; i++) ((float *)variance->constant->data)[i] = 0.1f + fabsf(((float *)variance->constant->data)[i]);
    h = APPLY(r, "BatchNormalization", h, random_of(r, SHAPE(6), 1), random_of(r, SHAPE(6), 1), random_of(r, SHAPE(6), 1), variance);
    if (!plain) {
        n = NODE(r, "Transpose", h);
        if (back)
            SET_INTS(r, n, "perm", 0, 2, 1);
        else
            SET_INTS(r, n, "perm", 2, 0, 1);
        h = done_of(r, n);
    }
    IO(r, x, h);
}

static void batchnorm_between_transposes(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    for (int i = 0; i < 3; i++) {
        rig r;
        rig_begin(&r, ctx, 1);
        batchnorm_graph(&r, i != 1, i == 2);
        espl_session *s = session_of(ctx, r.g);
        assert_int_equal(count_of(s, "BatchNormalization"), i == 1);
        assert_int_equal(count_of(s, "Transpose"), i == 1 ? 2 : 0);
        expect_references(&r, s, 1e-5);
        espl_session_destroy(&s);
        espl_graph_destroy(&r.g);
    }
    espl_context_destroy(&ctx);
}

/* --- chains on rows ---------------------------------------------------------------------------------------- */

static espl__value *random_link(rig *r, espl__value *v, espl__value *first) {
    int64_t width = v->shape.dim[v->shape.rank - 1];
    switch (pick(r, 0, 12)) {
        case 10: /* one row for each group of rows, and a group of rows for all */
            return either(r, "Add", v, random_of(r, SHAPE(v->shape.dim[0], 1, width), 1));
        case 11:
            return either(r, "Mul", v, random_of(r, SHAPE(v->shape.dim[1], width), 1));
        case 12: {
            espl__node *n = NODE(r, "ReduceMean", first);
            SET_INTS(r, n, "axes", chance(r, 50) ? 0 : 1);
            return either(r, "Add", v, done_of(r, n));
        }
        case 0:
            return either(r, "Add", v, random_of(r, SHAPE(width), 1));
        case 1:
            return either(r, "Mul", v, random_of(r, SHAPE(1, width), 1));
        case 2:
            return either(r, "Add", v, first);
        case 3:
            return either(r, "Add", v, random_of(r, v->shape, 1));
        case 4:
            return times(r, v, chance(r, 50) ? 0.25f : 0.3f);
        case 5:
            return chance(r, 50) ? APPLY(r, "Sub", v, scalar_of(r, 0.5f)) : APPLY(r, "Sub", scalar_of(r, 1), v);
        case 6:
            return APPLY(r, "Relu", v);
        case 7:
            return APPLY(r, chance(r, 50) ? "Sigmoid" : "Erf", v);
        case 8: {
            espl__node *n = NODE(r, "Softmax", chance(r, 60) ? times(r, v, chance(r, 80) ? 0.7f : -2.0f) : v);
            set_int(r, n, "axis", -1);
            return done_of(r, n);
        }
        case 9: {
            espl__node *n = NODE(r, "LayerNormalization", v, random_of(r, SHAPE(width), 1), random_of(r, SHAPE(width), 1));
            n->opset = 17;
            return done_of(r, n);
        }
        default:
            return APPLY(r, "Tanh", v);
    }
}

/* Values on the way that others read, and graph outputs among them; rounded ones give the same bytes alone and fused. */
static void random_chains(void **state) {
    (void)state;
    for (int threads = 1; threads <= 2; threads++) {
        espl_context *ctx = new_context(threads);
        for (uint64_t seed = 0; seed < CASES(300); seed++) {
            rig r;
            rig_begin(&r, ctx, seed);
            espl__value *x = input_of(&r, "x", ESPL_F32, SHAPE(pick(&r, 1, 3), pick(&r, 1, 90), chance(&r, 20) ? pick(&r, 250, 700) : pick(&r, 2, 70)));
            espl__value *v = x, *out[4];
            int outputs = 0;
            for (int i = (int)pick(&r, 1, 12); i > 0; i--) {
                v = random_link(&r, v, x);
                if (chance(&r, 15) && outputs < 3) out[outputs++] = v;
                if (chance(&r, 10) && outputs < 3) out[outputs++] = APPLY(&r, "Neg", v);
            }
            if (outputs == 0 || out[outputs - 1] != v) out[outputs++] = v;
            outputs_are(&r, 1, &x, outputs, out);
            espl_session *s = session_of(ctx, r.g);
            assert_int_equal(steps_of(s, "reference"), count_of(s, "ReduceMean"));
            expect_references(&r, s, 5e-5);
            espl_session_destroy(&s);
            espl_graph_destroy(&r.g);
        }
        espl_context_destroy(&ctx);
    }
}

/* --- products of two activations ----------------------------------------------------------------------------- */

/* Heads [batch, heads, rows, width] of x [batch, rows, heads * width], or turned [batch, heads, width, rows]. */
static espl__value *heads_of(rig *r, espl__value *x, int64_t heads, bool turned) {
    int64_t width = x->shape.dim[2] / heads;
    espl__node *n = NODE(r, "Transpose", APPLY(r, "Reshape", x, INTS(r, 0, 0, heads, width)));
    if (turned)
        SET_INTS(r, n, "perm", 0, 2, 3, 1);
    else
        SET_INTS(r, n, "perm", 0, 2, 1, 3);
    return done_of(r, n);
}

static void maybe_round(rig *r, espl__value *v, bool quantized, float scale, int32_t zero) {
    if (quantized) quantize_value(r, v, ESPL_FORMAT_U8, scale, zero);
}

static espl__value *attention(rig *r, espl__value *x, int64_t heads, bool quantized) {
    espl__value *q = heads_of(r, x, heads, false), *k, *v, *scores, *y;
    espl__value *b = APPLY(r, "Add", x, random_of(r, SHAPE(x->shape.dim[2]), 0.5f));
    int32_t zero = quantized && chance(r, 30) ? 128 : (int32_t)pick(r, 90, 150);
    k = heads_of(r, b, heads, true);
    v = heads_of(r, APPLY(r, "Mul", x, random_of(r, SHAPE(x->shape.dim[2]), 1)), heads, false);
    maybe_round(r, q, quantized, 0.03f, 120);
    maybe_round(r, k, quantized, 0.03f, zero);
    maybe_round(r, v, quantized, 0.03f, (int32_t)pick(r, 120, 135));
    scores = APPLY(r, "MatMul", q, k);
    maybe_round(r, scores, quantized && chance(r, 70), 0.2f, 131);
    espl__node *n = NODE(r, "Softmax", times(r, scores, 0.35f));
    set_int(r, n, "axis", -1);
    scores = done_of(r, n);
    maybe_round(r, scores, quantized, 0.004f, 0);
    y = APPLY(r, "MatMul", scores, v);
    maybe_round(r, y, quantized, 0.02f, 125);
    n = NODE(r, "Transpose", y);
    SET_INTS(r, n, "perm", 0, 2, 1, 3);
    y = APPLY(r, "Reshape", done_of(r, n), INTS(r, 0, 0, x->shape.dim[2]));
    return y;
}

static void attention_copies_no_heads(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    for (uint64_t seed = 0; seed < CASES(60); seed++) {
        rig r;
        rig_begin(&r, ctx, seed);
        int64_t heads = pick(&r, 1, 4), width = pick(&r, 1, 20);
        espl__value *x = input_of(&r, "x", ESPL_F32, SHAPE(pick(&r, 1, 2), pick(&r, 1, 70), heads * width));
        IO(&r, x, attention(&r, x, heads, false));
        espl_session *s = session_of(ctx, r.g);
        assert_int_equal(steps_of(s, "reference"), 0);
        assert_true(steps_of(s, "copy") <= 1); /* to the caller */
        expect_references(&r, s, 2e-5);
        espl_session_destroy(&s);
        espl_graph_destroy(&r.g);
    }
    espl_context_destroy(&ctx);
}

/* Codes: whatever is copied or not, on every instruction set and any number of threads, the same. */
static void quantized_attention(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < CASES(40); seed++) {
        run_io first = {0};
        ESPL__CPU_LEVELS(level, 0)
            for (int wide = 0; wide < 2; wide++) {
                espl_context *ctx = new_context(1 + level % 3);
                rig r;
                rig_begin(&r, ctx, seed);
                int64_t heads = pick(&r, 1, 4), width = chance(&r, 50) ? 4 * pick(&r, 1, 8) : pick(&r, 1, 20);
                espl__value *x = input_of(&r, "x", ESPL_F32, SHAPE(pick(&r, 1, 2), pick(&r, 1, 70), heads * width));
                espl__value *y = attention(&r, x, heads, true), *out[40] = {y};
                int outputs = 1;
                for (int i = 0; wide && i < r.g->node_count; i++)
                    if (r.g->nodes[i]->outputs[0] != y) out[outputs++] = r.g->nodes[i]->outputs[0];
                outputs_are(&r, 1, &x, outputs, out);
                espl_session *s = session_at(ctx, r.g, (espl__cpu)level);
                assert_int_equal(steps_of(s, "matmul_u8"), 2);
                run_io io = io_of(s, 3);
                run_session(s, &io);
                if (!first.outputs) {
                    first = io;
                } else {
                    if (memcmp(io.out[0].data, first.out[0].data, bytes_of(&io.out[0])) != 0)
                        fail_msg("seed %d, level %d, wide %d: other bytes", (int)seed, level, wide);
                    io_free(&io);
                }
                espl_session_destroy(&s);
                espl_graph_destroy(&r.g);
                espl_context_destroy(&ctx);
            }
        io_free(&first);
    }
}

/* A product of codes against double precision: any zero point on either side, batches, rounded and not. */
static void products_of_codes(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    for (uint64_t seed = 0; seed < CASES(120); seed++) {
        rig r;
        rig_begin(&r, ctx, seed);
        int64_t batch = pick(&r, 1, 4), m = pick(&r, 1, 70), k = pick(&r, 1, 90), n = pick(&r, 1, 70);
        espl__value *a = input_of(&r, "a", ESPL_F32, SHAPE(batch, m, k)), *b = input_of(&r, "b", ESPL_F32, SHAPE(batch, k, n));
        bool rounded = chance(&r, 60);
        const float unit = 1.0f / 64; /* whose reciprocal is exact */
        quantize_value(&r, a, ESPL_FORMAT_U8, unit, (int32_t)pick(&r, 0, 255));
        quantize_value(&r, b, chance(&r, 50) ? ESPL_FORMAT_U8 : ESPL_FORMAT_S8, unit, (int32_t)pick(&r, 0, 127));
        espl__value *y = APPLY(&r, "MatMul", a, b);
        const float scale = 0.05f;
        if (rounded) quantize_value(&r, y, ESPL_FORMAT_U8, scale, 117);
        outputs_are(&r, 2, (espl__value *[]){a, b}, 1, &y);
        espl_session *s = session_of(ctx, r.g);
        assert_int_equal(steps_of(s, "matmul_u8"), 1);
        run_io io = io_of(s, seed);
        run_session(s, &io);
        double *expected = calloc((size_t)(batch * m * n), sizeof *expected);
        float *real[2];
        for (int i = 0; i < 2; i++) {
            const espl__quant *q = &(i ? b : a)->quant;
            int64_t count = espl_shape_count(&io.in[i].shape);
            real[i] = calloc((size_t)count, sizeof(float));
            for (int64_t e = 0; e < count; e++)
                real[i][e] = (float)((round_to_grid(((float *)io.in[i].data)[e], q->scale[0], q->zero[0], q->format) - q->zero[0]) * q->scale[0]);
        }
        oracle_matmul(&a->shape, &b->shape, real[0], real[1], expected);
        for (int64_t e = 0; e < batch * m * n; e++) {
            double got = ((float *)io.out[0].data)[e], x = expected[e];
            double low = (round_to_grid(x - 1e-4, scale, 117, ESPL_FORMAT_U8) - 117) * scale;
            double high = (round_to_grid(x + 1e-4, scale, 117, ESPL_FORMAT_U8) - 117) * scale;
            bool good = rounded ? fabs(got - low) < 1e-5 || fabs(got - high) < 1e-5 : fabs(got - x) <= 1e-4 * fmax(1, fabs(x));
            if (!good) fail_msg("seed %d: %g, not %g", (int)seed, got, x);
        }
        free(expected);
        free(real[0]);
        free(real[1]);
        io_free(&io);
        espl_session_destroy(&s);
        espl_graph_destroy(&r.g);
    }
    espl_context_destroy(&ctx);
}

/* --- PyTorch's exports ---------------------------------------------------------------------------------------- */

static void read_into(espl_context *ctx, const char *name, espl_tensor *to) {
    char path[4096];
    espl_tensor t;
    snprintf(path, sizeof path, ESPL_SOURCE_DIR "/tests/fixtures/transformer/%s.npy", name);
    assert_int_equal(espl_npy_read(ctx, path, &t, NULL), ESPL_OK);
    assert_int_equal(bytes_of(&t), bytes_of(to));
    memcpy(to->data, t.data, bytes_of(to));
    espl_tensor_free(ctx, &t);
}

/* Layers from tests/oracle/make_transformer_fixtures.py: everything is recognised, and they compute what they should. */
static void exports_agree_with_pytorch(void **state) {
    static const char *const names[] = {"post_norm", "pre_norm"};
    (void)state;
    espl_context *ctx = new_context(1);
    for (size_t i = 0; i < ESPL_COUNT(names); i++) {
        char path[4096];
        espl_graph *g = NULL;
        snprintf(path, sizeof path, ESPL_SOURCE_DIR "/tests/fixtures/transformer/%s.onnx", names[i]);
        assert_int_equal(espl_onnx_read(ctx, path, &g, NULL), ESPL_OK);
        assert_int_equal(espl__passes_run(g, NULL), ESPL_OK);
        espl_session *s = session_of(ctx, g);
        assert_int_equal(count_of(s, "LayerNormalization"), 2);
        assert_int_equal(count_of(s, "Gelu"), 1);
        assert_int_equal(count_of(s, "ReduceMean") + count_of(s, "Erf") + count_of(s, "Tanh"), 0);
        assert_int_equal(steps_of(s, "reference"), 0);
        run_io x = io_of(s, 1);
        espl_tensor expected = x.out[0];
        expected.data = calloc(1, bytes_of(&expected));
        for (int k = 0; k < x.inputs; k++) read_into(ctx, espl_session_input_name(s, k), &x.in[k]);
        read_into(ctx, names[i], &expected);
        run_session(s, &x);
        double error = difference(&x.out[0], &expected);
        if (!(error <= 1e-6)) fail_msg("%s is off by %g", names[i], error);
        free(expected.data);
        io_free(&x);
        espl_session_destroy(&s);
        espl_graph_destroy(&g);
    }
    espl_context_destroy(&ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gelu_is_recognised),
        cmocka_unit_test(what_is_nearly_gelu_is_not),
        cmocka_unit_test(layernorm_is_recognised),
        cmocka_unit_test(what_is_nearly_layernorm_is_not),
        cmocka_unit_test(a_column_is_no_scale),
        cmocka_unit_test(batchnorm_between_transposes),
        cmocka_unit_test(random_chains),
        cmocka_unit_test(attention_copies_no_heads),
        cmocka_unit_test(quantized_attention),
        cmocka_unit_test(products_of_codes),
        cmocka_unit_test(exports_agree_with_pytorch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
