/* Sparse and dense weights in sessions: the same bytes either way, on every instruction set and number of
 * threads; and the choice between them: measured, remembered, read from a file, forbidden. */
#include "graph_build.h"

#include "base/tune.h"
#include "runtime/plan.h"
#include "scratch.h"

typedef enum kind { CONV, GEMM, MATMUL, LSTM, GRU } kind;

typedef struct layer {
    kind kind;
    bool integer;
    int keep, of; /* weights of every `of` inputs that stay; of 0: `keep` percent, anywhere */
    int64_t inputs, channels, rows; /* rows of a product; width of an image; steps */
    int64_t kernel, stride, pad;
    bool residual;
} layer;

/* Zeroes weights: element (row, tap, input) at row * by_row + tap * by_tap + input * by_input. */
static void prune(rig *r, const layer *l, float *w, const espl__matrix *m) {
    for (int64_t row = 0; row < m->rows; row++)
        for (int64_t tap = 0; tap < m->taps; tap++) {
            float *at = w + row * m->by_row + tap * m->by_tap;
            for (int64_t i = 0; i < m->inputs && !l->of; i++)
                if (!chance(r, l->keep)) at[i * m->by_input] = 0;
            for (int64_t b = 0; b < m->inputs && l->of; b += l->of) {
                int64_t left = ESPL_MIN(l->of, m->inputs - b);
                for (int64_t go = left - l->keep; go > 0;) {
                    float *one = at + (b + pick(r, 0, left - 1)) * m->by_input;
                    go -= *one != 0;
                    *one = 0;
                }
            }
        }
}

static espl__value *weights_of(rig *r, const layer *l, espl_shape shape, int row_axis, int inner_axis) {
    espl__matrix m;
    espl__value *w = random_of(r, shape, 1 / sqrtf((float)(l->inputs * ESPL_MAX(l->kernel * l->kernel, 1))));
    assert_true(espl__matrix_of(&shape, row_axis, inner_axis, &m));
    prune(r, l, w->constant->data, &m);
    if (l->integer) quantize_constant_of(r, w, row_axis, ESPL_FORMAT_S8);
    return w;
}

static espl__value *recurrent(rig *r, const layer *l, espl__value *x) {
    int gates = l->kind == LSTM ? 4 : 3;
    espl__value *in[3] = {x, weights_of(r, l, SHAPE(1, gates * l->channels, l->inputs), 1, 2),
                          weights_of(r, l, SHAPE(1, gates * l->channels, l->channels), 1, 2)};
    espl__node *n = node_of(r, l->kind == LSTM ? "LSTM" : "GRU", 3, in, 1);
    n->opset = 14;
    set_int(r, n, "hidden_size", l->channels);
    return done_of(r, n);
}

static espl__value *convolution(rig *r, const layer *l, espl__value *x) {
    espl__node *n =
        NODE(r, "Conv", x, weights_of(r, l, SHAPE(l->channels, l->inputs, l->kernel, l->kernel), 0, 1),
             random_of(r, SHAPE(l->channels), 0.3f));
    SET_INTS(r, n, "pads", l->pad, l->pad, l->pad, l->pad);
    SET_INTS(r, n, "strides", l->stride, l->stride);
    return done_of(r, n);
}

static void build(rig *r, const layer *l) {
    espl_shape shape = l->kind == CONV     ? SHAPE(1, l->inputs, 9, l->rows)
                       : l->kind >= LSTM   ? SHAPE(l->rows, 2, l->inputs)
                       : l->kind == MATMUL ? SHAPE(2, l->rows, l->inputs)
                                           : SHAPE(l->rows, l->inputs);
    espl__value *in[2] = {input_of(r, "x", ESPL_F32, shape)}, *y;
    if (l->integer) quantize_value(r, in[0], ESPL_FORMAT_U8, 0.03f, 131);
    if (l->kind == CONV)
        y = convolution(r, l, in[0]);
    else if (l->kind >= LSTM)
        y = recurrent(r, l, in[0]);
    else if (l->kind == GEMM) {
        espl__node *n = NODE(r, "Gemm", in[0], weights_of(r, l, SHAPE(l->channels, l->inputs), 0, 1),
                             random_of(r, SHAPE(l->channels), 0.3f));
        set_int(r, n, "transB", 1);
        y = done_of(r, n);
    } else
        y = APPLY(r, "MatMul", in[0], weights_of(r, l, SHAPE(l->inputs, l->channels), 1, 0));
    if (l->residual) {
        in[1] = input_of(r, "res", ESPL_F32, y->shape);
        if (l->integer) quantize_value(r, in[1], ESPL_FORMAT_U8, 0.02f, 120);
        if (l->integer) quantize_value(r, y, ESPL_FORMAT_U8, 0.04f, 128);
        y = APPLY(r, "Add", y, in[1]);
    }
    if (l->integer && chance(r, 60)) quantize_value(r, y, ESPL_FORMAT_U8, 0.05f, 128);
    outputs_are(r, 1 + l->residual, in, 1, &y);
}

/* --- choices --------------------------------------------------------------------------------------- */

static const char *kernel_of(const espl_session *s) {
    for (int i = 0; i < espl_session_layer_count(s); i++)
        if (espl_session_layer(s, i).macs > 0) return espl_session_layer(s, i).kernel;
    return "";
}
static bool is_sparse(const char *kernel) {
    return strncmp(kernel, "bank_", 5) == 0 || strncmp(kernel, "csr_", 4) == 0;
}

static char scratch[SCRATCH_PATH];

/* Writes what ctx remembers with another gain for every choice. */
static void rewrite(espl_context *ctx, double gain) {
    char line[512], rest[512], text[65536] = "";
    assert_int_equal(espl_tune_write(ctx, scratch, NULL), ESPL_OK);
    FILE *f = fopen(scratch, "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        char *at = text + strlen(text);
        if (line[0] == '#')
            strcpy(at, line);
        else if (sscanf(line, "%*s %511[^\n]", rest) == 1)
            sprintf(at, "%g %s\n", gain, rest);
    }
    fclose(f);
    f = fopen(scratch, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

/* A context that takes the sparse way of this graph's layer (gain 100), or the dense one (0.01). */
static espl_context *context_that_knows(const espl_graph *g, int threads, double gain) {
    espl_context *first = new_context(threads), *ctx = new_context(threads);
    espl_session *s = session_of(first, g);
    assert_true(espl_tune_count(first) > 0);
    rewrite(first, gain);
    assert_int_equal(espl_tune_read(ctx, scratch, NULL), ESPL_OK);
    assert_int_equal(espl_tune_count(ctx), espl_tune_count(first));
    espl_session_destroy(&s);
    espl_context_destroy(&first);
    unlink(scratch);
    return ctx;
}

static run_io run_way(const espl_graph *g, espl__cpu level, int threads, bool sparse) {
    espl__cpu own = espl__cpu_level();
    espl__cpu_use(level);
    espl_context *ctx = context_that_knows(g, threads, sparse ? 100 : 0.01);
    espl_session *s = session_of(ctx, g);
    run_io x = io_of(s, 5);
    if (is_sparse(kernel_of(s)) != sparse) fail_msg("%s at %s", kernel_of(s), espl__cpu_level_name(level));
    run_session(s, &x);
    uint64_t allocations = espl_context_allocations(ctx);
    run_session(s, &x);
    assert_int_equal(espl_context_allocations(ctx), allocations);
    espl_session_destroy(&s);
    espl_context_destroy(&ctx);
    espl__cpu_use(own);
    return x;
}

static const layer layers[] = {
    {GEMM, true, 2, 16, 256, 80, 1, 0, 0, 0, false},   {GEMM, true, 3, 16, 250, 70, 3, 0, 0, 0, true},
    {GEMM, true, 4, 16, 64, 33, 16, 0, 0, 0, false},   {GEMM, true, 1, 16, 100, 40, 40, 0, 0, 0, false},
    {GEMM, false, 3, 32, 320, 90, 1, 0, 0, 0, true},   {GEMM, false, 2, 16, 250, 48, 4, 0, 0, 0, false},
    {GEMM, false, 10, 0, 200, 48, 30, 0, 0, 0, true},  {MATMUL, true, 2, 4, 96, 64, 2, 0, 0, 0, false},
    {MATMUL, false, 6, 32, 96, 64, 5, 0, 0, 0, false}, {CONV, true, 2, 16, 64, 48, 11, 1, 1, 0, true},
    {CONV, true, 2, 16, 48, 40, 10, 3, 1, 1, true},    {CONV, true, 1, 16, 24, 32, 9, 3, 2, 1, false},
    {CONV, false, 10, 0, 40, 50, 9, 1, 1, 0, true},    {CONV, false, 2, 16, 32, 40, 13, 3, 1, 1, true},
    {CONV, false, 5, 0, 24, 32, 10, 5, 2, 2, false},   {LSTM, true, 2, 16, 64, 50, 7, 0, 0, 0, false},
    {LSTM, false, 3, 32, 70, 48, 5, 0, 0, 0, false},   {GRU, true, 3, 16, 50, 33, 6, 0, 0, 0, false},
    {GRU, false, 2, 16, 48, 40, 4, 0, 0, 0, false},
};

static void both_ways_give_the_same_bytes(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    for (size_t i = 0; i < ESPL_COUNT(layers); i++) {
        rig r;
        rig_begin(&r, ctx, i);
        build(&r, &layers[i]);
        run_io expected = run_way(r.g, ESPL__CPU_REF, 1, false);
        for (int level = 0; level <= (int)espl__cpu_level(); level = level_after(level))
            for (int threads = 1; threads <= 2; threads++)
                for (int sparse = 0; sparse < 2; sparse++) {
                    run_io got = run_way(r.g, (espl__cpu)level, threads, sparse);
                    if (memcmp(got.out[0].data, expected.out[0].data, bytes_of(&expected.out[0])) != 0)
                        fail_msg("layer %d, %s, %d threads, sparse %d: other bytes", (int)i,
                                 espl__cpu_level_name((espl__cpu)level), threads, sparse);
                    io_free(&got);
                }
        io_free(&expected);
        espl_graph_destroy(&r.g);
    }
    espl_context_destroy(&ctx);
}

/* Codes without a pattern run on compressed rows where a set has kernels for them. */
static void rows_of_codes_give_the_same_bytes(void **state) {
    (void)state;
    static const layer codes[] = {{GEMM, true, 15, 0, 203, 70, 40, 0, 0, 0, false},
                                  {CONV, true, 15, 0, 64, 50, 11, 1, 1, 0, true},
                                  {CONV, true, 15, 0, 36, 40, 12, 3, 1, 1, false},
                                  {CONV, true, 20, 0, 30, 33, 9, 5, 2, 2, true}};
    espl_context *ctx = new_context(1);
    int checked = 0;
    for (size_t i = 0; i < ESPL_COUNT(codes); i++) {
        rig r;
        rig_begin(&r, ctx, i);
        build(&r, &codes[i]);
        espl_session *s = session_of(ctx, r.g);
        run_io expected = io_of(s, 5);
        run_session(s, &expected);
        for (int level = 0; level <= (int)espl__cpu_level(); level = level_after(level))
            for (int way = 0; way < 4; way++) {
                if (!espl__kernels_at((espl__cpu)level)->csr_codes || level >= ESPL__CPU_AMX) continue;
                run_io got = run_way(r.g, (espl__cpu)level, 1 + way / 2, way % 2);
                if (memcmp(got.out[0].data, expected.out[0].data, bytes_of(&expected.out[0])) != 0)
                    fail_msg("layer %d, %s, way %d: other bytes", (int)i, espl__cpu_level_name((espl__cpu)level), way);
                io_free(&got);
                checked++;
            }
        io_free(&expected);
        espl_session_destroy(&s);
        espl_graph_destroy(&r.g);
    }
    espl_context_destroy(&ctx);
    if (!checked) skip();
}

static void dense_weights_have_no_choice(void **state) {
    (void)state;
    static const layer dense[] = {
        {GEMM, true, 16, 16, 64, 64, 1, 0, 0, 0, false},
        {CONV, true, 14, 16, 32, 32, 9, 3, 1, 1, false},
        {GEMM, false, 80, 0, 64, 64, 30, 0, 0, 0, false},
        {LSTM, true, 14, 16, 48, 48, 3, 0, 0, 0, false},
        {GEMM, true, 2, 16, 12, 64, 1, 0, 0, 0, false} /* fewer inputs than a bank */};
    espl_context *ctx = new_context(1);
    for (size_t i = 0; i < ESPL_COUNT(dense); i++) {
        rig r;
        rig_begin(&r, ctx, i);
        build(&r, &dense[i]);
        espl_session *s = session_of(ctx, r.g);
        assert_false(is_sparse(kernel_of(s)));
        assert_int_equal(espl_tune_count(ctx), 0);
        espl_session_destroy(&s);
        espl_graph_destroy(&r.g);
    }
    espl_context_destroy(&ctx);
}

static espl_layer product_of(const espl_session *s) {
    int i = 0;
    while (espl_session_layer(s, i).macs == 0) i++;
    return espl_session_layer(s, i);
}

/* Measured once a context; a rule where it is forbidden; the weights that lost are gone. */
static void choices_are_measured_and_remembered(void **state) {
    (void)state;
    espl_context *ctx = new_context(1), *other = new_context(1);
    rig r;
    rig_begin(&r, ctx, 1);
    build(&r, &layers[0]);
    espl_session *s = session_of(ctx, r.g), *again = session_of(ctx, r.g);
    espl_layer l = product_of(s), m = product_of(again);
    assert_int_equal(espl_tune_count(ctx), 1);
    assert_true(l.gain >= 1 && *l.slower && strcmp(l.slower, l.kernel) != 0);
    assert_true(m.gain == l.gain || fabs(m.gain - l.gain) < 1e-3 * l.gain);
    assert_string_equal(m.kernel, l.kernel);
    assert_string_equal(m.slower, l.slower);
    uint64_t work, weights, work_again, weights_again;
    espl_session_memory(s, &work, &weights);
    espl_session_memory(again, &work_again, &weights_again);
    assert_int_equal(weights, weights_again);
    assert_int_equal(setenv("ESPL_TUNE", "0", 1), 0);
    espl_session *ruled = session_of(other, r.g);
    l = product_of(ruled);
    assert_int_equal(unsetenv("ESPL_TUNE"), 0);
    assert_int_equal(espl_tune_count(other), 0);
    assert_true(l.gain == 0);
    assert_true(is_sparse(l.kernel) && !is_sparse(l.slower));
    espl_session_destroy(&s);
    espl_session_destroy(&again);
    espl_session_destroy(&ruled);
    espl_graph_destroy(&r.g);
    espl_context_destroy(&ctx);
    espl_context_destroy(&other);
}

/* Each thread has room of its own in the session. */
static void more_threads_than_room_are_refused(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    espl_diag diag = {0};
    rig r;
    rig_begin(&r, ctx, 1);
    build(&r, &layers[6]);
    espl_session *s = session_of(ctx, r.g);
    run_io x = io_of(s, 1);
    assert_int_equal(espl_context_set_threads(ctx, 2, NULL), ESPL_OK);
    assert_int_equal(espl_session_run(s, x.in, x.out, &diag), ESPL_INVALID);
    assert_string_equal(diag.message,
                        "the session has room for 1 thread and the context now has 2; create it again");
    assert_int_equal(espl_context_set_threads(ctx, 1, NULL), ESPL_OK);
    run_session(s, &x);
    io_free(&x);
    espl_session_destroy(&s);
    espl_graph_destroy(&r.g);
    espl_context_destroy(&ctx);
}

static void write_text(const char *text) {
    FILE *f = fopen(scratch, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

/* What is no choice of this version, machine and instruction set changes nothing. */
static void odd_files_change_nothing(void **state) {
    (void)state;
    static const char *const lines[] = {"",       "1.5",   "1.5 ",    "nan key", "inf key",
                                        "-1 key", "0 key", "key 1.5", " "};
    espl_context *ctx = new_context(1);
    char text[8192], heading[256];
    assert_int_equal(espl_tune_write(ctx, scratch, NULL), ESPL_OK);
    FILE *f = fopen(scratch, "r");
    assert_non_null(fgets(heading, sizeof heading, f));
    fclose(f);
    for (size_t i = 0; i < ESPL_COUNT(lines); i++) {
        snprintf(text, sizeof text, "%s%s\n%s", heading, lines[i], lines[i]);
        write_text(text);
        assert_int_equal(espl_tune_read(ctx, scratch, NULL), ESPL_OK);
        assert_int_equal(espl_tune_count(ctx), 0);
    }
    memset(text, 'x', sizeof text);
    memcpy(text, heading, strlen(heading));
    memcpy(text + strlen(heading), "1 ", 2);
    text[sizeof text - 1] = 0;
    write_text(text);
    assert_int_equal(espl_tune_read(ctx, scratch, NULL), ESPL_OK);
    write_text("# espalier 0.0.0, other, ref\n2 key\n");
    assert_int_equal(espl_tune_read(ctx, scratch, NULL), ESPL_OK);
    assert_int_equal(espl_tune_count(ctx), 0);
    snprintf(text, sizeof text, "%s2 a key\n0.5 b", heading);
    write_text(text);
    assert_int_equal(espl_tune_read(ctx, scratch, NULL), ESPL_OK);
    assert_int_equal(espl_tune_count(ctx), 2);
    assert_true(espl__tune_find(ctx, "a key") == 2 && espl__tune_find(ctx, "b") == 0.5);
    assert_int_not_equal(espl_tune_read(ctx, "/nowhere/choices.txt", NULL), ESPL_OK);
    unlink(scratch);
    espl_context_destroy(&ctx);
}

static int setup(void **state) {
    (void)state;
    return scratch_begin(scratch, "choices.txt") ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    scratch_end(scratch);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_ways_give_the_same_bytes),       cmocka_unit_test(dense_weights_have_no_choice),
        cmocka_unit_test(rows_of_codes_give_the_same_bytes),
        cmocka_unit_test(choices_are_measured_and_remembered), cmocka_unit_test(odd_files_change_nothing),
        cmocka_unit_test(more_threads_than_room_are_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
