/* LSTM, GRU and RNN on the kernels against the operators' references, whose own oracle are ONNX's vectors. */
#include "graph_build.h"

#include <unistd.h>

#include "espalier/onnx.h"
#include "runtime/plan.h"

enum { LSTM, GRU, RNN, KINDS };
static const char *const kinds[] = {"LSTM", "GRU", "RNN"};
static const char *const activations[] = {"Sigmoid,Tanh,Tanh", "Sigmoid,Tanh", "Tanh"};
static const int gate_counts[] = {4, 3, 1};
static const char *const directions[] = {"forward", "reverse", "bidirectional"};
#define TOLERANCE 1e-5

typedef struct layer {
    int kind, direction; /* of the names above */
    bool batch_first, linear_before_reset, bias, state, spelled_out;
    bool integer, own_grid; /* s8 weights and a grid for x; one for Y and so for the state */
    int outputs;            /* bits: Y, Y_h, Y_c */
    int64_t seq, batch, size, hidden;
} layer;

/* Grids of x and Y: normal numbers, and states below 1. */
#define X_SCALE 0.03f
#define X_ZERO 131
#define Y_SCALE (1.0f / 127)
#define Y_ZERO 128

static int64_t ways(const layer *l) {
    return l->direction == 2 ? 2 : 1;
}

static void set_text(rig *r, espl__node *n, const char *name, const char *text) {
    assert_true(espl__attr_set_string(r->g, n, name, text));
}

static espl__node *node_of_layer(rig *r, const layer *l, espl__value *x, espl__value *h0, espl__value *c0) {
    int64_t d = ways(l), g = gate_counts[l->kind] * l->hidden;
    float spread = 1.0f / sqrtf((float)l->hidden);
    espl__value *in[8] = {x, random_of(r, SHAPE(d, g, l->size), spread),
                          random_of(r, SHAPE(d, g, l->hidden), spread)};
    if (l->bias) in[3] = random_of(r, SHAPE(d, 2 * g), 0.5f);
    in[5] = h0;
    in[6] = c0;
    espl__node *n = espl__graph_node(r->g, espl__op_find("", kinds[l->kind]), "", l->kind == LSTM ? 8 : 6,
                                     l->kind == LSTM ? 3 : 2, 8);
    assert_non_null(n);
    n->opset = 14;
    for (int i = 0; i < n->input_count; i++) n->inputs[i] = in[i];
    for (int i = 0; i < n->output_count; i++)
        if (l->outputs >> i & 1) espl__node_set_output(n, i, espl__graph_value(r->g, NULL));
    set_int(r, n, "hidden_size", l->hidden);
    set_int(r, n, "layout", l->batch_first);
    set_text(r, n, "direction", directions[l->direction]);
    if (l->kind == GRU) set_int(r, n, "linear_before_reset", l->linear_before_reset);
    char both[64];
    snprintf(both, sizeof both, "%s%s%s", activations[l->kind], d == 2 ? "," : "",
             d == 2 ? activations[l->kind] : "");
    if (l->spelled_out) set_text(r, n, "activations", both);
    return n;
}

/* A graph of one layer. */
static espl__node *build(rig *r, const layer *l) {
    espl_shape steps = l->batch_first ? SHAPE(l->batch, l->seq, l->size) : SHAPE(l->seq, l->batch, l->size);
    espl_shape state =
        l->batch_first ? SHAPE(l->batch, ways(l), l->hidden) : SHAPE(ways(l), l->batch, l->hidden);
    espl__value *in[3] = {input_of(r, "x", ESPL_F32, steps)}, *out[3];
    int inputs = 1, outputs = 0;
    if (l->state) in[inputs++] = input_of(r, "h0", ESPL_F32, state);
    if (l->state && l->kind == LSTM) in[inputs++] = input_of(r, "c0", ESPL_F32, state);
    espl__node *n =
        node_of_layer(r, l, in[0], l->state ? in[1] : NULL, l->state && l->kind == LSTM ? in[2] : NULL);
    (void)done_of(r, n);
    for (int i = 0; i < n->output_count; i++)
        if (n->outputs[i]) out[outputs++] = n->outputs[i];
    outputs_are(r, inputs, in, outputs, out);
    if (!l->integer) return n;
    quantize_value(r, in[0], ESPL_FORMAT_U8, X_SCALE, X_ZERO);
    for (int i = 1; i <= 2; i++) quantize_constant_of(r, n->inputs[i], 1, ESPL_FORMAT_S8);
    if (l->own_grid && n->outputs[0]) quantize_value(r, n->outputs[0], ESPL_FORMAT_U8, Y_SCALE, Y_ZERO);
    return n;
}

static const char *kernel_of(const espl_session *s, const char *op) {
    for (int i = 0; i < espl_session_layer_count(s); i++)
        if (strcmp(espl_session_layer(s, i).op, op) == 0) return espl_session_layer(s, i).kernel;
    return "";
}

static void expect_reference(const espl_graph *g, espl_context *ctx, const run_io *x, double tolerance,
                             const char *what) {
    espl_tensor expected[8];
    run_reference_of(ctx, g, x->in, expected);
    for (int i = 0; i < x->outputs; i++) {
        double error = difference(&x->out[i], &expected[i]);
        if (!(error <= tolerance)) {
            print_graph(g);
            fail_msg("%s: output %d is off by %g", what, i, error);
        }
        espl_tensor_free(ctx, &expected[i]);
    }
}

/* Runs the graph, checks it, and that the kernel ran. */
static void check_graph(rig *r, const char *op, const char *kernel, double tolerance) {
    espl_session *s = session_of(r->ctx, r->g);
    run_io x = io_of(s, 5);
    run_session(s, &x);
    assert_string_equal(kernel_of(s, op), kernel);
    expect_reference(r->g, r->ctx, &x, tolerance, op);
    io_free(&x);
    espl_session_destroy(&s);
    espl_graph_destroy(&r->g);
}

static layer random_layer(rig *r) {
    static const int64_t sizes[] = {1, 3, 8, 15, 16, 17, 33, 64};
    layer l = {.kind = (int)pick(r, 0, KINDS - 1),
               .direction = (int)pick(r, 0, 2),
               .batch_first = chance(r, 40),
               .linear_before_reset = chance(r, 50),
               .bias = chance(r, 70),
               .state = chance(r, 60),
               .spelled_out = chance(r, 50),
               .seq = chance(r, 20) ? pick(r, 60, 140) : pick(r, 1, 9),
               .batch = chance(r, 50)  ? 1
                        : chance(r, 5) ? pick(r, 60, 70)
                                       : pick(r, 2, 5),
               .size = sizes[pick(r, 0, 7)],
               .hidden = sizes[pick(r, 0, 7)]};
    l.outputs = (int)pick(r, 1, l.kind == LSTM ? 7 : 3);
    return l;
}

static void random_layers_equal_the_reference(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    uint64_t before = espl_context_memory(ctx, NULL);
    for (uint64_t seed = 0; seed < CASES(400); seed++) {
        rig r;
        rig_begin(&r, ctx, seed);
        layer l = random_layer(&r);
        (void)build(&r, &l);
        check_graph(&r, kinds[l.kind], "rnn_f32", TOLERANCE);
    }
    assert_int_equal(espl_context_memory(ctx, NULL), before);
    espl_context_destroy(&ctx);
}

/* Sequences past one batch of projected rows, samples past it, in every order of time and samples. */
static void long_sequences_and_large_batches(void **state) {
    (void)state;
    static const int64_t sizes[][2] = {{64, 1},  {65, 1}, {130, 1}, {33, 2},
                                       {200, 3}, {2, 64}, {3, 65},  {1, 200}};
    espl_context *ctx = new_context(1);
    for (int kind = 0; kind < KINDS; kind++)
        for (size_t i = 0; i < ESPL_COUNT(sizes); i++)
            for (int mix = 0; mix < 4; mix++) {
                rig r;
                rig_begin(&r, ctx, i);
                layer l = {.kind = kind,
                           .direction = mix & 1 ? 2 : 1,
                           .batch_first = mix >> 1,
                           .bias = true,
                           .state = true,
                           .outputs = kind == LSTM ? 7 : 3,
                           .seq = sizes[i][0],
                           .batch = sizes[i][1],
                           .size = 5,
                           .hidden = 7};
                (void)build(&r, &l);
                check_graph(&r, kinds[kind], "rnn_f32", TOLERANCE);
            }
    espl_context_destroy(&ctx);
}

/* --- the same bytes everywhere --------------------------------------------------------------- */

static run_io run_at(rig *r, espl__cpu level, int threads) {
    espl_context *ctx = new_context(threads);
    espl_graph *copy = NULL;
    assert_int_equal(espl__graph_clone(r->g, &copy, NULL), ESPL_OK);
    espl_session *s = session_at(ctx, copy, level);
    run_io x = io_of(s, 9);
    run_session(s, &x);
    run_session(s, &x); /* the state begins anew */
    espl_session_destroy(&s);
    espl_graph_destroy(&copy);
    espl_context_destroy(&ctx);
    return x;
}

static void every_cpu_and_thread_count_agrees(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    for (int kind = 0; kind < KINDS; kind++)
        for (int mix = 0; mix < 6; mix++) {
            int large = mix & 1, arithmetic = mix >> 1; /* f32; integers with either grid of the state */
            rig r;
            rig_begin(&r, ctx, (uint64_t)kind);
            /* The large one has several batches of projected rows, and products that are cut among the
             * threads. */
            layer l = {.kind = kind,
                       .direction = 2,
                       .bias = true,
                       .outputs = 3,
                       .linear_before_reset = large == 0,
                       .integer = arithmetic > 0,
                       .own_grid = arithmetic > 1,
                       .seq = large ? 9 : 3,
                       .batch = large ? 8 : 1,
                       .size = large ? 30 : 7,
                       .hidden = large ? 100 : 19};
            (void)build(&r, &l);
            run_io expected = run_at(&r, ESPL__CPU_REF, 1);
            for (int level = 0; level <= (int)espl__cpu_level(); level = level_after(level))
                for (int threads = 1; threads <= 3; threads++) {
                    run_io got = run_at(&r, (espl__cpu)level, threads);
                    for (int i = 0; i < expected.outputs; i++)
                        assert_memory_equal(got.out[i].data, expected.out[i].data,
                                            bytes_of(&expected.out[i]));
                    io_free(&got);
                }
            io_free(&expected);
            espl_graph_destroy(&r.g);
        }
    espl_context_destroy(&ctx);
}

static void runs_without_allocation(bool integer) {
    espl_context *ctx = new_context(2);
    rig r;
    rig_begin(&r, ctx, 1);
    layer l = {.kind = GRU,
               .integer = integer,
               .direction = 2,
               .batch_first = true,
               .outputs = 3,
               .seq = 70,
               .batch = 2,
               .size = 20,
               .hidden = 200};
    (void)build(&r, &l);
    espl_session *s = session_of(ctx, r.g);
    run_io x = io_of(s, 1);
    uint64_t allocations = espl_context_allocations(ctx);
    for (int i = 0; i < 3; i++) run_session(s, &x);
    assert_int_equal(espl_context_allocations(ctx), allocations);
    io_free(&x);
    espl_session_destroy(&s);
    espl_graph_destroy(&r.g);
    espl_context_destroy(&ctx);
}

static void running_allocates_nothing(void **state) {
    (void)state;
    runs_without_allocation(false);
    runs_without_allocation(true);
}

/* --- what has no kernel ---------------------------------------------------------------------- */

static void clip(rig *r, espl__node *n) {
    assert_true(espl__attr_set_float(r->g, n, "clip", 0.3f));
}
static void couple_gates(rig *r, espl__node *n) {
    set_int(r, n, "input_forget", 1);
}
static void other_activation(rig *r, espl__node *n) {
    set_text(r, n, "activations", "Sigmoid,Tanh,Relu");
}
static void peepholes(rig *r, espl__node *n) {
    n->inputs[7] = random_of(r, SHAPE(1, 3 * n->inputs[2]->shape.dim[2]), 0.5f);
}
static void short_sequences(rig *r, espl__node *n) {
    n->inputs[4] = constant_of(r, ESPL_S32, SHAPE(3), (int32_t[]){4, 2, 4});
}
static void whole_sequences(rig *r, espl__node *n) {
    n->inputs[4] = constant_of(r, ESPL_S32, SHAPE(3), (int32_t[]){4, 4, 4});
}
static void lower_case(rig *r, espl__node *n) {
    set_text(r, n, "activations", "sigmoid,tanh,tanh");
}
static void computed_weights(rig *r, espl__node *n) {
    espl__node *node = NODE(r, "Mul", n->inputs[2], r->g->inputs[1]);
    n->inputs[2] = done_of(r, node);
}

static void odd_layers_go_to_the_reference(void **state) {
    (void)state;
    static const struct {
        void (*change)(rig *, espl__node *);
        const char *kernel;
    } rows[] = {{clip, "reference"},
                {couple_gates, "reference"},
                {other_activation, "reference"},
                {peepholes, "reference"},
                {short_sequences, "reference"},
                {whole_sequences, "rnn_f32"},
                {computed_weights, "reference"},
                {lower_case, "rnn_f32"}};
    espl_context *ctx = new_context(1);
    for (size_t i = 0; i < ESPL_COUNT(rows); i++) {
        rig r;
        rig_begin(&r, ctx, i);
        layer l = {.kind = LSTM, .bias = true, .outputs = 7, .seq = 4, .batch = 3, .size = 5, .hidden = 6};
        espl__node *n = build(&r, &l);
        espl__value *in[2] = {r.g->inputs[0], input_of(&r, "factor", ESPL_F32, SHAPE(1, 1, 1))}, *out[3];
        memcpy(out, n->outputs, sizeof out);
        outputs_are(&r, 2, in, 3, out);
        rows[i].change(&r, n);
        outputs_are(&r, 2, in, 3, out);
        check_graph(&r, "LSTM", rows[i].kernel, strcmp(rows[i].kernel, "reference") == 0 ? 0 : TOLERANCE);
    }
    espl_context_destroy(&ctx);
}

/* --- quantized neighbours -------------------------------------------------------------------- */

static void make_float(rig *r, espl__value *v) {
    const espl_tensor *t = espl__constant_f32(r->g, v);
    v->constant = espl__graph_tensor(r->g, ESPL_F32, &t->shape, t->data);
    v->quant = (espl__quant){0};
}

/* Weights as s8 codes per channel are the weights that the codes say. */
static void quantized_weights(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    for (int kind = 0; kind < KINDS; kind++) {
        rig r;
        rig_begin(&r, ctx, 77);
        layer l = {.kind = kind,
                   .direction = 2,
                   .bias = true,
                   .state = true,
                   .outputs = 3,
                   .seq = 5,
                   .batch = 2,
                   .size = 9,
                   .hidden = 20};
        espl__node *n = build(&r, &l);
        for (int i = 1; i <= 2; i++) quantize_constant_of(&r, n->inputs[i], 1, ESPL_FORMAT_S8);
        espl_session *s = session_of(ctx, r.g);
        run_io x = io_of(s, 5);
        run_session(s, &x);
        assert_string_equal(kernel_of(s, kinds[kind]), "rnn_f32");
        for (int i = 1; i <= 2; i++) make_float(&r, n->inputs[i]);
        expect_reference(r.g, ctx, &x, TOLERANCE, "quantized weights");
        io_free(&x);
        espl_session_destroy(&s);
        espl_graph_destroy(&r.g);
    }
    espl_context_destroy(&ctx);
}

static void round_to(espl_tensor *t, float scale, int zero) {
    float *x = t->data;
    for (int64_t i = 0; i < espl_shape_count(&t->shape); i++) {
        float q = nearbyintf(x[i] / scale) + (float)zero;
        x[i] = (fminf(fmaxf(q, 0), 255) - (float)zero) * scale;
    }
}

/* Integers against the reference on the same rounded x and weights: what is left is the rounding of the
 * state. */
static void expect_near(rig *r, espl__node *n, run_io *x, double tolerance) {
    espl_tensor expected[3];
    for (int i = 1; i <= 2; i++) make_float(r, n->inputs[i]);
    round_to(&x->in[0], X_SCALE, X_ZERO);
    run_reference_of(r->ctx, r->g, x->in, expected);
    for (int i = 0; i < x->outputs; i++) {
        double error = difference(&x->out[i], &expected[i]);
        if (!(error <= tolerance)) {
            print_graph(r->g);
            fail_msg("output %d is off by %g", i, error);
        }
        espl_tensor_free(r->ctx, &expected[i]);
    }
}

static void random_layers_run_on_integers(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    uint64_t before = espl_context_memory(ctx, NULL);
    for (uint64_t seed = 0; seed < CASES(400); seed++) {
        rig r;
        rig_begin(&r, ctx, seed + 1000);
        layer l = random_layer(&r);
        l.integer = true;
        l.own_grid = !l.state && chance(&r, 50);
        espl__node *n = build(&r, &l);
        espl_session *s = session_of(ctx, r.g);
        run_io x = io_of(s, 5);
        run_session(s, &x);
        assert_string_equal(kernel_of(s, kinds[l.kind]), "rnn_u8");
        expect_near(&r, n, &x, 0.05);
        io_free(&x);
        espl_session_destroy(&s);
        espl_graph_destroy(&r.g);
    }
    assert_int_equal(espl_context_memory(ctx, NULL), before);
    espl_context_destroy(&ctx);
}

/* One unit that sees nothing but its state: the state's grid shows. */
static void the_state_has_its_grid(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    for (int own = 0; own < 2; own++) {
        rig r;
        rig_begin(&r, ctx, 1);
        layer l = {.kind = RNN,
                   .integer = true,
                   .own_grid = own,
                   .state = true,
                   .outputs = 3,
                   .seq = 1,
                   .batch = 1,
                   .size = 1,
                   .hidden = 1};
        espl__node *n = build(&r, &l);
        ((int8_t *)n->inputs[1]->constant->data)[0] = 0;
        ((int8_t *)n->inputs[2]->constant->data)[0] = 127;
        ((float *)n->inputs[2]->quant.scale)[0] = 1.0f / 127;
        espl_session *s = session_of(ctx, r.g);
        run_io x = io_of(s, 5);
        ((float *)x.in[1].data)[0] = 2.5f; /* more than a grid of 1/127 holds */
        run_session(s, &x);
        float last = ((const float *)x.out[1].data)[0];
        assert_true(fabs(last - tanh(own ? 1.0 : 2.5)) < 1e-5);
        io_free(&x);
        espl_session_destroy(&s);
        espl_graph_destroy(&r.g);
    }
    espl_context_destroy(&ctx);
}

/* Values of 8 bits before and behind the layer: it is an island of floats. */
static void quantized_activations(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    rig r;
    rig_begin(&r, ctx, 3);
    layer l = {.kind = LSTM, .bias = true, .outputs = 7, .seq = 6, .batch = 2, .size = 11, .hidden = 24};
    espl__node *n = build(&r, &l);
    quantize_value(&r, r.g->inputs[0], ESPL_FORMAT_U8, 0.02f, 130);
    quantize_value(&r, n->outputs[0], ESPL_FORMAT_U8, 1.0f / 128, 128);
    espl_session *s = session_of(ctx, r.g);
    run_io x = io_of(s, 5);
    run_session(s, &x);
    assert_string_equal(kernel_of(s, "LSTM"), "rnn_f32");
    espl_tensor expected[3];
    round_to(&x.in[0], 0.02f, 130);
    run_reference_of(ctx, r.g, x.in, expected);
    const float *got = x.out[0].data, *exact = expected[0].data;
    for (int64_t i = 0; i < espl_shape_count(&expected[0].shape); i++) {
        float code = got[i] * 128 + 128;
        assert_true(code == nearbyintf(code) && code >= 0 && code <= 255);
        assert_true(fabsf(got[i] - fminf(exact[i], 127.0f / 128)) < 0.5001f / 128);
    }
    for (int i = 1; i < 3; i++) assert_true(difference(&x.out[i], &expected[i]) <= TOLERANCE);
    for (int i = 0; i < 3; i++) espl_tensor_free(ctx, &expected[i]);
    io_free(&x);
    espl_session_destroy(&s);
    espl_graph_destroy(&r.g);
    espl_context_destroy(&ctx);
}

/* A reader of rank 4 that wants channels last, and a second layer behind. */
static void other_layouts_behind(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    for (int batch_first = 0; batch_first < 2; batch_first++) {
        rig r;
        rig_begin(&r, ctx, 4);
        layer l = {.kind = LSTM,
                   .direction = 2,
                   .batch_first = batch_first,
                   .bias = true,
                   .outputs = 1,
                   .seq = 6,
                   .batch = 3,
                   .size = 4,
                   .hidden = 8};
        espl__node *n = build(&r, &l);
        espl__value *x = r.g->inputs[0], *y = n->outputs[0];
        espl__value *w = random_of(&r, SHAPE(2, y->shape.dim[1], 1, 1), 0.5f);
        espl__value *conv = APPLY(&r, "Conv", y, w);
        espl__value *sum = APPLY(&r, "Add", y, y);
        IO(&r, x, conv, sum);
        check_graph(&r, "LSTM", "rnn_f32", TOLERANCE);
    }
    espl_context_destroy(&ctx);
}

typedef struct failing {
    int left, live; /* allocations until the first that fails, -1: none does; those not freed */
} failing;

static void *failing_alloc(void *user, size_t bytes) {
    failing *f = user;
    if (f->left == 0) return NULL;
    if (f->left > 0) f->left--;
    f->live++;
    return aligned_alloc(64, (bytes + 63) / 64 * 64);
}

static void failing_free(void *user, void *ptr) {
    ((failing *)user)->live--;
    free(ptr);
}

static void run_out_of_memory(bool integer) {
    int failures = 0;
    for (bool done = false; !done; failures++) {
        failing f = {.left = -1};
        espl_context *ctx = NULL;
        espl_config config = {.alloc = failing_alloc, .free = failing_free, .user = &f, .threads = 1};
        assert_int_equal(espl_context_create(&config, &ctx, NULL), ESPL_OK);
        rig r;
        rig_begin(&r, ctx, 4);
        layer l = {.kind = GRU,
                   .integer = integer,
                   .direction = 2,
                   .bias = true,
                   .state = true,
                   .outputs = 3,
                   .seq = 6,
                   .batch = 3,
                   .size = 40,
                   .hidden = 80};
        espl__node *n = build(&r, &l);
        for (int i = 1; i <= 2 && !integer; i++) quantize_constant_of(&r, n->inputs[i], 1, ESPL_FORMAT_S8);
        espl_session *s = NULL;
        espl_diag diag = {0};
        f.left = failures;
        espl_status status = espl_session_create(ctx, r.g, NULL, &s, &diag);
        done = status == ESPL_OK;
        if (!done) {
            assert_int_equal(status, ESPL_NOMEM);
            assert_null(s);
            assert_true(diag.message[0]);
        }
        espl_session_destroy(&s);
        espl_graph_destroy(&r.g);
        espl_context_destroy(&ctx);
        assert_int_equal(f.live, 0);
    }
    assert_true(failures > 10);
}

static void memory_runs_out_cleanly(void **state) {
    (void)state;
    run_out_of_memory(false);
    run_out_of_memory(true);
}

/* --- ONNX Runtime's outputs ------------------------------------------------------------------ */

/* Layers in QDQ form from tests/oracle/make_rnn_fixtures.py; only the state's rounding is ours alone. */
static void fixtures_agree_with_onnx_runtime(void **state) {
    (void)state;
    static const struct {
        const char *name, *op;
        double tolerance;
    } rows[] = {{"lstm", "LSTM", 0.01},
                {"lstm_two_ways", "LSTM", 0.01},
                {"gru", "GRU", 0.01},
                {"gru_linear", "GRU", 0.01},
                {"rnn_reverse", "RNN", 0.02}};
    espl_context *ctx = new_context(1);
    for (size_t i = 0; i < ESPL_COUNT(rows); i++) {
        const char *at = ESPL_SOURCE_DIR "/tests/fixtures/rnn";
        char path[4096];
        espl_graph *g = NULL;
        espl_tensor t;
        snprintf(path, sizeof path, "%s/%s.onnx", at, rows[i].name);
        assert_int_equal(espl_onnx_read(ctx, path, &g, NULL), ESPL_OK);
        assert_int_equal(espl__passes_run(g, NULL), ESPL_OK);
        espl_session *s = session_of(ctx, g);
        assert_string_equal(kernel_of(s, rows[i].op), "rnn_u8");
        run_io x = io_of(s, 1);
        snprintf(path, sizeof path, "%s/%s.in.pb", at, rows[i].name);
        assert_int_equal(espl_onnx_read_tensor(ctx, path, &t, NULL), ESPL_OK);
        assert_int_equal(bytes_of(&t), bytes_of(&x.in[0]));
        memcpy(x.in[0].data, t.data, bytes_of(&t));
        espl_tensor_free(ctx, &t);
        run_session(s, &x);
        for (int o = 0; o < x.outputs; o++) {
            snprintf(path, sizeof path, "%s/%s.out%d.pb", at, rows[i].name, o);
            assert_int_equal(espl_onnx_read_tensor(ctx, path, &t, NULL), ESPL_OK);
            double error = difference(&x.out[o], &t);
            if (!(error <= rows[i].tolerance)) fail_msg("%s: output %d is off by %g", rows[i].name, o, error);
            espl_tensor_free(ctx, &t);
        }
        io_free(&x);
        espl_session_destroy(&s);
        espl_graph_destroy(&g);
    }
    espl_context_destroy(&ctx);
}

/* --- a real model ---------------------------------------------------------------------------- */

static void read_tensors(espl_context *ctx, const char *folder, const char *what, int count,
                         espl_tensor *out) {
    char path[4200];
    for (int i = 0; i < count; i++) {
        snprintf(path, sizeof path, "%s/test_data_set_0/%s_%d.pb", folder, what, i);
        assert_int_equal(espl_onnx_read_tensor(ctx, path, &out[i], NULL), ESPL_OK);
    }
}

/* Outputs of dtln-lstm by ONNX Runtime. */
static void speech_model_verifies(void **state) {
    (void)state;
    char folder[4096], path[4200];
    const char *env = getenv("ESPL_ASSETS");
    snprintf(folder, sizeof folder, "%s/models/dtln-lstm", env && *env ? env : ESPL_SOURCE_DIR "/../shared");
    snprintf(path, sizeof path, "%s/model.onnx", folder);
    if (access(path, R_OK) != 0) {
        printf("skipped: no assets\n");
        skip();
    }
    espl_context *ctx = new_context(1);
    espl_graph *g = NULL;
    espl_tensor in[2], expected[2];
    assert_int_equal(espl_onnx_read(ctx, path, &g, NULL), ESPL_OK);
    espl_session *s = session_of(ctx, g);
    assert_string_equal(kernel_of(s, "LSTM"), "rnn_f32");
    run_io x = io_of(s, 1);
    assert_true(x.inputs == 2 && x.outputs == 2);
    read_tensors(ctx, folder, "input", 2, in);
    read_tensors(ctx, folder, "output", 2, expected);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(bytes_of(&in[i]), bytes_of(&x.in[i]));
        memcpy(x.in[i].data, in[i].data, bytes_of(&in[i]));
    }
    run_session(s, &x);
    for (int i = 0; i < 2; i++) {
        assert_true(difference(&x.out[i], &expected[i]) <= 1e-4);
        espl_tensor_free(ctx, &in[i]);
        espl_tensor_free(ctx, &expected[i]);
    }
    io_free(&x);
    espl_session_destroy(&s);
    espl_graph_destroy(&g);
    espl_context_destroy(&ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_layers_equal_the_reference),
        cmocka_unit_test(long_sequences_and_large_batches),
        cmocka_unit_test(every_cpu_and_thread_count_agrees),
        cmocka_unit_test(running_allocates_nothing),
        cmocka_unit_test(odd_layers_go_to_the_reference),
        cmocka_unit_test(quantized_weights),
        cmocka_unit_test(random_layers_run_on_integers),
        cmocka_unit_test(the_state_has_its_grid),
        cmocka_unit_test(quantized_activations),
        cmocka_unit_test(other_layouts_behind),
        cmocka_unit_test(memory_runs_out_cleanly),
        cmocka_unit_test(fixtures_agree_with_onnx_runtime),
        cmocka_unit_test(speech_model_verifies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
