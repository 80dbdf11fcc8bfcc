/* Compression: quantizing random networks, the whole job on a small one, memory that runs out, processes that are killed. */
#define _GNU_SOURCE
#include "graph_oracle.h"

#include <dirent.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "compress/compress.h"
#include "espalier/compress.h"
#include "espalier/model.h"
#include "runtime/container.h"

static char folder[64];

static const char *in_folder(const char *name) {
    static char path[4][512];
    static int next;
    next = (next + 1) % 4;
    snprintf(path[next], sizeof path[next], "%s/%s", folder, name);
    return path[next];
}

static void put_text(const char *name, const char *text) {
    FILE *f = fopen(in_folder(name), "wb");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static int from_seed(void) { return getenv("ESPL_SEED") ? atoi(getenv("ESPL_SEED")) : 0; }
static int seeds(int usual) {
    const char *count = getenv("ESPL_COUNT");
    return getenv("ESPL_SEED") ? 1 : count ? atoi(count) : usual;
}

/* --- quantizing ------------------------------------------------------------------------------------------------------ */

static void widen(void *user, int value, const char *name, const float *data, int64_t count) {
    range *r = &((range *)user)[value];
    (void)name;
    for (int64_t i = 0; i < count; i++) {
        r->min = fminf(r->min, data[i]);
        r->max = fmaxf(r->max, data[i]);
    }
    r->seen++;
}

/* Ranges of one run on the input that io_of makes of `seed`. */
static range *ranges_of(espl_context *ctx, const espl_graph *g, uint64_t seed) {
    range *ranges = calloc((size_t)g->value_count + 1, sizeof *ranges);
    espl_session *s = NULL;
    espl_session_options options = {.observer = widen, .observer_user = ranges};
    assert_int_equal(espl_session_create(ctx, g, &options, &s, NULL), ESPL_OK);
    run_io io = io_of(s, seed);
    run_session(s, &io);
    io_free(&io);
    espl_session_destroy(&s);
    return ranges;
}

/* What the flavour promises of every grid. */
static void check_grids(const espl_graph *g, espl_flavour flavour, const decision *d) {
    for (int i = 0; i < g->value_count; i++) {
        const espl__value *v = g->values[i];
        const espl__quant *q = &v->quant;
        if (!espl__is_quantized(v)) continue;
        for (int64_t c = 0; c < q->count; c++) {
            int32_t zero = q->zero ? q->zero[c] : 0;
            assert_true(q->scale[c] > 0 && isfinite(q->scale[c]));
            if (flavour == ESPL_FLAVOUR_PORTABLE) assert_true(zero == 0 && q->format != ESPL_FORMAT_U8);
            if (q->format == ESPL_FORMAT_U8) assert_in_range(zero, 0, 255);
        }
        if (!v->constant) assert_true(q->count == 1 && q->axis == -1);
        if (v->constant && v->constant->dtype == ESPL_S8 && q->format != ESPL_FORMAT_S32) {
            int32_t lo, hi;
            espl__format_range(q->format, &lo, &hi);
            for (int64_t k = 0; k < elements(v); k++) assert_in_range(((int8_t *)v->constant->data)[k] + 128, lo + 128, hi + 128);
        }
    }
    (void)d;
}

/* The two sessions give the same bytes. */
static bool same_bytes(espl_context *ctx, const espl_graph *a, const espl_graph *b, uint64_t seed) {
    espl_session *sa = session_of(ctx, a), *sb = session_of(ctx, b);
    run_io x = io_of(sa, seed), y = io_of(sb, seed);
    run_session(sa, &x);
    run_session(sb, &y);
    bool same = x.outputs == y.outputs;
    for (int i = 0; same && i < x.outputs; i++)
        same = espl_shape_equal(&x.out[i].shape, &y.out[i].shape) && memcmp(x.out[i].data, y.out[i].data, bytes_of(&x.out[i])) == 0;
    io_free(&x);
    io_free(&y);
    espl_session_destroy(&sa);
    espl_session_destroy(&sb);
    return same;
}

/* The .espl and the ONNX file of a graph compute what it computes. */
static void check_files(espl_context *ctx, const espl_graph *g, espl_flavour flavour, uint64_t seed) {
    espl_graph *back = NULL;
    espl_diag diag = {0};
    /* .espl */
    if (espl_model_write(ctx, g, in_folder("random.espl"), &diag) != ESPL_OK) fail_msg("%s", diag.message);
    if (espl_model_read(ctx, in_folder("random.espl"), &back, &diag) != ESPL_OK) fail_msg("%s", diag.message);
    if (!same_bytes(ctx, g, back, seed)) fail_msg("seed %d: the .espl file computes something else", (int)seed);
    espl_graph_destroy(&back);
    /* ONNX */
    espl_onnx_options options = {.flavour = flavour};
    if (espl_onnx_write(ctx, g, &options, in_folder("random.onnx"), &diag) != ESPL_OK) fail_msg("seed %d: %s", (int)seed, diag.message);
    if (espl_graph_read(ctx, in_folder("random.onnx"), &back, &diag) != ESPL_OK) fail_msg("seed %d: %s", (int)seed, diag.message);
    if (!same_bytes(ctx, g, back, seed)) {
        print_graph(g);
        printf("read back from ONNX:\n");
        print_graph(back);
        fail_msg("seed %d, %s: the ONNX file computes something else", (int)seed, espl_flavour_name(flavour));
    }
    espl_graph_destroy(&back);
}

/* Quantizes a random network as random decisions say. It must stay near the f32 network, and the same integers must come
 * back from the .espl and from the ONNX file. */
static void quantize_random(espl_context *ctx, uint64_t seed, double *worst, int *layers) {
    random_graph x;
    random_graph_of(&x, ctx, seed, 8, true);
    espl_graph *f32 = NULL, *g = NULL;
    espl_diag diag = {0};
    assert_int_equal(espl__graph_clone(x.r.g, &f32, NULL), ESPL_OK);
    if (espl__passes_run(f32, &diag) != ESPL_OK) fail_msg("%s", diag.message);
    assert_int_equal(espl__graph_clone(f32, &g, NULL), ESPL_OK);
    if (getenv("ESPL_TRACE")) {
        printf("seed %d\n", (int)seed);
        print_graph(g);
        fflush(stdout);
    }
    espl_flavour flavour = (espl_flavour)(seed % ESPL_FLAVOUR_COUNT);
    range *ranges = ranges_of(ctx, f32, seed);
    decision *d = calloc((size_t)g->node_count + 1, sizeof *d);
    for (int i = 0; i < g->node_count; i++) {
        bool integer = seed % 3 == 0 || chance(&x.r, 75);
        d[i] = (decision){.weights = integer ? ESPL_FORMAT_S8 : ESPL_FORMAT_F32, .integer = integer, .per_tensor = chance(&x.r, 20)};
        if (chance(&x.r, 10)) d[i].weights = ESPL_FORMAT_S8, d[i].integer = false;
        if (chance(&x.r, 10)) d[i].weights = ESPL_FORMAT_S7;
        if (chance(&x.r, 20)) d[i].weights = chance(&x.r, 50) ? ESPL_FORMAT_F16 : ESPL_FORMAT_BF16, d[i].integer = false;
    }
    if (espl__ptq_apply(g, ranges, d, flavour, &diag) != ESPL_OK) fail_msg("seed %d: %s", (int)seed, diag.message);
    check_grids(g, flavour, d);
    espl_session *a = session_of(ctx, f32), *b = session_of(ctx, g);
    for (int i = 0; i < espl_session_layer_count(b); i++) {
        layers[0] += espl_session_layer(b, i).macs > 0;
        layers[1] += espl_session_layer(b, i).macs > 0 && strcmp(espl_session_layer(b, i).format, "s8") == 0;
    }
    run_io p = io_of(a, seed), q = io_of(b, seed);
    run_session(a, &p);
    run_session(b, &q);
    for (int i = 0; i < p.outputs; i++) {
        if (espl_shape_count(&p.out[i].shape) < 32) continue; /* a single number may be all rounding */
        double e = relative_error(&q.out[i], &p.out[i]);
        *worst = fmax(*worst, e);
        if (!(e < 0.2)) {
            print_graph(g);
            fail_msg("seed %d, %s: output %d errs by %g", (int)seed, espl_flavour_name(flavour), i, e);
        }
    }
    io_free(&p);
    io_free(&q);
    espl_session_destroy(&a);
    espl_session_destroy(&b);
    check_files(ctx, g, flavour, seed);
    free(d);
    free(ranges);
    espl_graph_destroy(&g);
    espl_graph_destroy(&f32);
    espl_graph_destroy(&x.r.g);
}

static void random_networks_are_quantized(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    double worst = 0;
    int layers[2] = {0}; /* all, and those computed in integers */
    for (int i = from_seed(); i < from_seed() + seeds(120); i++) quantize_random(ctx, 9000000 + (uint64_t)i, &worst, layers);
    printf("%d of %d layers are computed in integers; the largest relative error is %.3f\n", layers[1], layers[0], worst);
    assert_true(3 * layers[1] > layers[0]);
    assert_int_equal(espl_context_memory(ctx, NULL), empty_context(1));
    espl_context_destroy(&ctx);
}

/* Any formats side by side: what comes back from the .espl file gives the same bytes, and what comes back from ONNX the same
 * numbers, whatever nodes the writer needed to say them. */
static void check_wild(espl_context *ctx, uint64_t seed, int *written) {
    random_graph x;
    random_graph_of(&x, ctx, seed, 8, true);
    espl_graph *g = NULL, *back = NULL;
    espl_diag diag = {0};
    assert_int_equal(espl__graph_clone(x.r.g, &g, NULL), ESPL_OK);
    if (espl__passes_run(g, &diag) != ESPL_OK) fail_msg("%s", diag.message);
    espl_flavour flavour = (espl_flavour)(seed % ESPL_FLAVOUR_COUNT);
    range *ranges = ranges_of(ctx, g, seed);
    decision *d = calloc((size_t)g->node_count + 1, sizeof *d);
    for (int i = 0; i < g->node_count; i++) {
        static const espl_format inputs[] = {ESPL_FORMAT_F32, ESPL_FORMAT_S7, ESPL_FORMAT_U6,  ESPL_FORMAT_U8,  ESPL_FORMAT_S16,
                                             ESPL_FORMAT_F16, ESPL_FORMAT_E4M3, ESPL_FORMAT_E5M2, ESPL_FORMAT_BF16};
        espl__recipe_layer row = {.match = (char *)(uintptr_t)"*", .compute = (int)pick(&x.r, 0, 3)};
        do row.format = (espl_format)pick(&x.r, 0, ESPL_FORMAT_COUNT - 1);
        while (row.format == ESPL_FORMAT_S32 || (!espl_format_is_signed(row.format) && row.format != ESPL_FORMAT_BINARY01));
        if (row.compute == 0 && chance(&x.r, 50)) row.activations = (int)inputs[pick(&x.r, 0, (int)ESPL_COUNT(inputs) - 1)] + 1;
        if (row.compute == ESPL__COMPUTE_DYNAMIC + 1 && !espl__format_is_code8(row.format)) row.compute = 0;
        if (chance(&x.r, 30)) row.group = (uint32_t)pick(&x.r, 1, 40);
        if (chance(&x.r, 20)) row.grid = ESPL__GRID_POW2;
        espl__recipe_decide(&row, &d[i]);
    }
    if (espl__ptq_apply(g, ranges, d, flavour, &diag) != ESPL_OK) fail_msg("seed %d: %s", (int)seed, diag.message);
    if (espl__graph_verify(g, &diag) != ESPL_OK) fail_msg("seed %d: %s", (int)seed, diag.message);
    if (espl_model_write(ctx, g, in_folder("wild.espl"), &diag) != ESPL_OK) fail_msg("%s", diag.message);
    if (espl_model_read(ctx, in_folder("wild.espl"), &back, &diag) != ESPL_OK) fail_msg("seed %d: %s", (int)seed, diag.message);
    if (!same_bytes(ctx, g, back, seed)) fail_msg("seed %d: the .espl file computes something else", (int)seed);
    espl_graph_destroy(&back);
    espl_onnx_options options = {.flavour = flavour};
    if (espl_onnx_write(ctx, g, &options, in_folder("wild.onnx"), &diag) != ESPL_OK) fail_msg("seed %d: %s", (int)seed, diag.message);
    if (espl_graph_read(ctx, in_folder("wild.onnx"), &back, &diag) != ESPL_OK) fail_msg("seed %d: %s", (int)seed, diag.message);
    espl_session *a = session_of(ctx, g), *b = session_of(ctx, back);
    run_io p = io_of(a, seed), q = io_of(b, seed);
    run_session(a, &p);
    run_session(b, &q);
    for (int i = 0; i < p.outputs; i++) {
        if (p.out[i].dtype != ESPL_F32 || espl_shape_count(&p.out[i].shape) < 32) continue;
        double e = relative_error(&q.out[i], &p.out[i]);
        written[0]++;
        written[1] += e < 1e-4;
        if (!(e < 0.5)) fail_msg("seed %d, %s: output %d of the ONNX file errs by %g", (int)seed, espl_flavour_name(flavour), i, e);
    }
    io_free(&p);
    io_free(&q);
    espl_session_destroy(&a);
    espl_session_destroy(&b);
    free(d);
    free(ranges);
    espl_graph_destroy(&back);
    espl_graph_destroy(&g);
    espl_graph_destroy(&x.r.g);
}

static void any_formats_side_by_side(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    int written[2] = {0}; /* outputs, and those that ONNX gives to 1e-4 */
    for (int i = from_seed(); i < from_seed() + seeds(150); i++) check_wild(ctx, 9500000 + (uint64_t)i, written);
    printf("%d of %d outputs come back from ONNX to 1e-4\n", written[1], written[0]);
    assert_int_equal(espl_context_memory(ctx, NULL), empty_context(1));
    espl_context_destroy(&ctx);
}

static espl__value *recurrent_of(rig *r, const char *op, int gates, espl__value *x, int64_t size, int64_t hidden) {
    float spread = 1 / sqrtf((float)hidden);
    espl__node *n = NODE(r, op, x, random_of(r, SHAPE(1, gates * hidden, size), spread),
                         random_of(r, SHAPE(1, gates * hidden, hidden), spread));
    n->opset = 14;
    set_int(r, n, "hidden_size", hidden);
    espl__value *squeezed[2] = {done_of(r, n), INTS(r, 1)};
    return APPLY(r, "Squeeze", squeezed[0], squeezed[1]);
}

/* Two recurrent layers, the first one's output read by the second: both must run on integers. */
static void recurrent_layers_are_quantized(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    for (uint64_t seed = 0; seed < 6; seed++) {
        rig r;
        rig_begin(&r, ctx, seed);
        espl__value *x = input_of(&r, "x", ESPL_F32, SHAPE(9, 2, 12));
        espl__value *y = recurrent_of(&r, seed & 1 ? "LSTM" : "GRU", seed & 1 ? 4 : 3, x, 12, 20);
        IO(&r, x, recurrent_of(&r, seed & 2 ? "RNN" : "LSTM", seed & 2 ? 1 : 4, y, 20, 17));
        espl_graph *g = NULL;
        espl_diag diag = {0};
        assert_int_equal(espl__graph_clone(r.g, &g, NULL), ESPL_OK);
        espl_flavour flavour = (espl_flavour)(seed % ESPL_FLAVOUR_COUNT);
        range *ranges = ranges_of(ctx, r.g, seed);
        decision *d = calloc((size_t)g->node_count + 1, sizeof *d);
        for (int i = 0; i < g->node_count; i++) d[i] = (decision){.weights = ESPL_FORMAT_S8, .integer = true};
        if (espl__ptq_apply(g, ranges, d, flavour, &diag) != ESPL_OK) fail_msg("%s", diag.message);
        check_grids(g, flavour, d);
        espl_session *a = session_of(ctx, r.g), *b = session_of(ctx, g);
        int integers = 0;
        for (int i = 0; i < espl_session_layer_count(b); i++)
            integers += strcmp(espl_session_layer(b, i).kernel, "rnn_u8") == 0;
        assert_int_equal(integers, 2);
        run_io p = io_of(a, seed), q = io_of(b, seed);
        run_session(a, &p);
        run_session(b, &q);
        double e = relative_error(&q.out[0], &p.out[0]);
        if (!(e > 0 && e < 0.05)) fail_msg("seed %d: errs by %g", (int)seed, e);
        io_free(&p);
        io_free(&q);
        espl_session_destroy(&a);
        espl_session_destroy(&b);
        check_files(ctx, g, flavour, seed);
        free(d);
        free(ranges);
        espl_graph_destroy(&g);
        espl_graph_destroy(&r.g);
    }
    assert_int_equal(espl_context_memory(ctx, NULL), empty_context(1));
    espl_context_destroy(&ctx);
}

/* Values that were constant, never seen, or not numbers still give scales that are numbers. */
static void odd_ranges_give_valid_scales(void **state) {
    static const float odd[][2] = {{0, 0}, {0, 1e-38f}, {-1e-45f, 0}, {-3e38f, 3e38f}, {0, INFINITY}, {-INFINITY, 0}, {NAN, NAN}, {5, 5}, {-7, -6}};
    (void)state;
    espl_context *ctx = new_context(1);
    for (size_t i = 0; i < ESPL_COUNT(odd); i++)
        for (int flavour = 0; flavour < ESPL_FLAVOUR_COUNT; flavour++) {
            rig r;
            rig_begin(&r, ctx, 5);
            espl__value *x = input_of(&r, "x", ESPL_F32, SHAPE(1, 4, 5, 5));
            espl__value *w = constant_of(&r, ESPL_F32, SHAPE(3, 4, 2, 2), NULL); /* zeros */
            if (i % 2) ((float *)w->constant->data)[0] = 1e-42f;
            espl__value *y = APPLY(&r, "Conv", x, w, random_of(&r, SHAPE(3), 1));
            IO(&r, x, APPLY(&r, "Relu", APPLY(&r, "Conv", y, random_of(&r, SHAPE(2, 3, 1, 1), 1))));
            range *ranges = calloc((size_t)r.g->value_count + 1, sizeof *ranges);
            for (int k = 0; k < r.g->value_count; k++) ranges[k] = (range){.min = odd[i][0], .max = odd[i][1], .seen = k % 3 > 0 || i < 4};
            decision d[8];
            for (int k = 0; k < 8; k++) d[k] = (decision){.weights = ESPL_FORMAT_S8, .integer = true};
            espl_diag diag = {0};
            if (espl__ptq_apply(r.g, ranges, d, (espl_flavour)flavour, &diag) != ESPL_OK) fail_msg("%s", diag.message);
            check_grids(r.g, (espl_flavour)flavour, d);
            espl_session *s = session_of(ctx, r.g);
            run_io io = io_of(s, 1);
            run_session(s, &io);
            io_free(&io);
            espl_session_destroy(&s);
            free(ranges);
            espl_graph_destroy(&r.g);
        }
    espl_context_destroy(&ctx);
}

/* --- the whole job on a small network ------------------------------------------------------------------------------------- */

enum { SAMPLES = 60, CLASSES = 4 };

/* A network of two convolutions and a classifier, and samples that it labels itself (one in ten wrongly). */
static void make_task(espl_context *ctx) {
    rig r;
    rig_begin(&r, ctx, 31);
    espl__value *x = input_of(&r, "image", ESPL_F32, SHAPE(1, 2, 8, 8));
    espl__node *n = NODE(&r, "Conv", x, random_of(&r, SHAPE(8, 2, 3, 3), 0.3f), random_of(&r, SHAPE(8), 0.1f));
    SET_INTS(&r, n, "pads", 1, 1, 1, 1);
    n->name = espl__arena_strdup(&r.g->arena, "first");
    espl__value *a = APPLY(&r, "Relu", done_of(&r, n));
    n = NODE(&r, "Conv", a, random_of(&r, SHAPE(8, 8, 3, 3), 0.15f));
    SET_INTS(&r, n, "pads", 1, 1, 1, 1);
    n->name = espl__arena_strdup(&r.g->arena, "second");
    espl__value *sum = APPLY(&r, "Relu", APPLY(&r, "Add", done_of(&r, n), a));
    n = NODE(&r, "MaxPool", sum);
    SET_INTS(&r, n, "kernel_shape", 2, 2);
    SET_INTS(&r, n, "strides", 2, 2);
    espl__value *flat = APPLY(&r, "Flatten", done_of(&r, n));
    n = NODE(&r, "Gemm", flat, random_of(&r, SHAPE(128, CLASSES), 0.1f), random_of(&r, SHAPE(CLASSES), 0.1f));
    n->name = espl__arena_strdup(&r.g->arena, "classes");
    IO(&r, x, done_of(&r, n));
    espl_diag diag = {0};
    if (espl_onnx_write(ctx, r.g, NULL, in_folder("small.onnx"), &diag) != ESPL_OK) fail_msg("%s", diag.message);
    espl_tensor samples = {ESPL_F32, SHAPE(SAMPLES, 2, 8, 8), calloc(SAMPLES * 128, 4)};
    espl_tensor labels = {ESPL_S64, SHAPE(SAMPLES), calloc(SAMPLES, 8)};
    fill_random(&r.rng, &samples);
    espl_session *s = session_of(ctx, r.g);
    run_io io = io_of(s, 1);
    for (int i = 0; i < SAMPLES; i++) {
        memcpy(io.in[0].data, (float *)samples.data + i * 128, 512);
        run_session(s, &io);
        const float *out = io.out[0].data;
        int best = 0;
        for (int c = 1; c < CLASSES; c++) best = out[c] > out[best] ? c : best;
        ((int64_t *)labels.data)[i] = i % 10 == 3 ? (best + 1) % CLASSES : best;
    }
    io_free(&io);
    espl_session_destroy(&s);
    assert_int_equal(espl_npy_write(ctx, in_folder("samples.npy"), &samples, &diag), ESPL_OK);
    assert_int_equal(espl_npy_write(ctx, in_folder("labels.npy"), &labels, &diag), ESPL_OK);
    free(samples.data);
    free(labels.data);
    put_text("data.yaml", "kind: npy\npath: samples.npy\nlabels: labels.npy\n");
    put_text("unlabelled.yaml", "kind: npy\npath: samples.npy\n");
    espl_graph_destroy(&r.g);
}

typedef struct task_files {
    espl_graph *graph;
    espl_dataset *data;
    espl_chip *chip;
} task_files;

static task_files open_task(espl_context *ctx, const char *data, const char *chip) {
    task_files t = {0};
    espl_diag diag = {0};
    if (espl_graph_read(ctx, in_folder("small.onnx"), &t.graph, &diag) != ESPL_OK) fail_msg("%s", diag.message);
    if (espl_dataset_open(ctx, in_folder(data), &t.data, &diag) != ESPL_OK) fail_msg("%s", diag.message);
    if (espl_chip_load(ctx, chip, &t.chip, &diag) != ESPL_OK) fail_msg("%s", diag.message);
    return t;
}

static void close_task(task_files *t) {
    espl_graph_destroy(&t->graph);
    espl_dataset_close(&t->data);
    espl_chip_destroy(&t->chip);
}

static uint64_t file_size(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 ? (uint64_t)st.st_size : 0;
}

static char *file_text(const char *path, size_t *size) {
    *size = file_size(path);
    char *text = calloc(1, *size + 1);
    FILE *f = fopen(path, "rb");
    if (!f || fread(text, 1, *size, f) != *size) fail_msg("%s cannot be read", path);
    fclose(f);
    return text;
}

static espl_result *compress_task(espl_context *ctx, const task_files *t, espl_compress_options o) {
    espl_result *r = NULL;
    espl_diag diag = {0};
    o.chip = t->chip;
    o.data = t->data;
    if (espl_compress(ctx, t->graph, &o, &r, &diag) != ESPL_OK) fail_msg("%s", diag.message);
    return r;
}

/* The fields of a result agree with each other and with what is on disk. */
static void check_result(espl_context *ctx, espl_result *r) {
    assert_int_equal(r->calib_samples, SAMPLES / 5);
    assert_int_equal(r->eval_samples, SAMPLES - SAMPLES / 5);
    assert_int_equal(r->params, 8 * 18 + 8 + 8 * 72 + 128 * 4 + 4);
    assert_int_equal(r->macs, 64 * 8 * 18 + 64 * 8 * 72 + 128 * 4);
    assert_true(fabs(r->drop - 100 * (r->score_before - r->score_after)) < 1e-6);
    assert_int_equal(r->within_budget, r->drop <= r->max_drop + 1e-9);
    int64_t params = 0;
    for (int i = 0; i < r->layer_count; i++) {
        params += r->layers[i].params;
        assert_non_null(r->layers[i].why);
        assert_non_null(r->layers[i].format_after);
    }
    assert_int_equal(params, r->params);
    espl_diag diag = {0};
    if (espl_result_write(ctx, r, in_folder("out"), "{\"a\": 1}\n", &diag) != ESPL_OK) fail_msg("%s", diag.message);
    assert_int_equal(file_size(in_folder("out/model.espl")), r->bytes_after);
    assert_int_equal(file_size(in_folder("out/model.onnx")), r->onnx_bytes);
    size_t n;
    char *report = file_text(in_folder("out/report.json"), &n), *recipe = file_text(in_folder("out/recipe.yaml"), &n);
    assert_string_equal(report, "{\"a\": 1}\n");
    assert_string_equal(recipe, r->recipe);
    free(report);
    free(recipe);
    espl_graph *espl = NULL, *onnx = NULL;
    assert_int_equal(espl_graph_read(ctx, in_folder("out/model.espl"), &espl, &diag), ESPL_OK);
    assert_int_equal(espl_graph_read(ctx, in_folder("out/model.onnx"), &onnx, &diag), ESPL_OK);
    assert_true(same_bytes(ctx, r->graph, espl, 3));
    assert_true(same_bytes(ctx, r->graph, onnx, 3));
    espl_graph_destroy(&espl);
    espl_graph_destroy(&onnx);
}

static void goals_flavours_and_data(void **state) {
    static const char *const chips[] = {"cortex-a76", "cortex-m7", "x86-avx512-vnni", "nvidia-a100"};
    (void)state;
    espl_context *ctx = new_context(1);
    make_task(ctx);
    for (size_t c = 0; c < ESPL_COUNT(chips); c++)
        for (int goal = 0; goal < ESPL_GOAL_COUNT; goal++) {
            bool labelled = (goal + c) % 2;
            task_files t = open_task(ctx, labelled ? "data.yaml" : "unlabelled.yaml", chips[c]);
            espl_result *r = compress_task(ctx, &t, (espl_compress_options){.max_drop = 20, .goal = goal, .flavour = (int)c % 2});
            assert_string_equal(r->metric, labelled ? "top1" : "agreement");
            if (labelled) assert_true(fabs(r->score_before - 0.9) < 0.03);
            assert_true(r->within_budget);
            if (goal == ESPL_GOAL_SIZE) {
                if (r->bytes_after * 10 > r->bytes_before * 7) fail_msg("%d bytes of %d", (int)r->bytes_after, (int)r->bytes_before);
                for (int i = 0; i < r->layer_count; i++)
                    if (r->layers[i].params > 100) assert_string_equal(r->layers[i].format_after, "s8");
            }
            check_result(ctx, r);
            espl_result_destroy(&r);
            close_task(&t);
        }
    assert_int_equal(espl_context_memory(ctx, NULL), empty_context(1));
    espl_context_destroy(&ctx);
}

/* What one run writes as its recipe another follows: the same network to the byte. */
static void recipes_repeat_the_result(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    make_task(ctx);
    task_files t = open_task(ctx, "data.yaml", "cortex-a76");
    for (int goal = 0; goal < ESPL_GOAL_COUNT; goal++) {
        espl_result *a = compress_task(ctx, &t, (espl_compress_options){.max_drop = 20, .goal = goal, .flavour = -1});
        put_text("again.yaml", a->recipe);
        espl_result *b = compress_task(ctx, &t, (espl_compress_options){.max_drop = -1, .goal = -1, .flavour = -1, .recipe = in_folder("again.yaml")});
        espl__buffer x, y;
        assert_int_equal(espl__model_bytes(ctx, a->graph, &x, NULL), ESPL_OK);
        assert_int_equal(espl__model_bytes(ctx, b->graph, &y, NULL), ESPL_OK);
        if (x.length != y.length || memcmp(x.data, y.data, x.length) != 0) fail_msg("the recipe gives another network:\n%s", a->recipe);
        assert_string_equal(a->recipe, b->recipe);
        assert_true(b->max_drop == 20 && b->goal == (espl_goal)goal);
        espl__buffer_free(&x);
        espl__buffer_free(&y);
        espl_result_destroy(&a);
        espl_result_destroy(&b);
    }
    /* Rows decide: this layer in four bits, that one not at all. */
    put_text("rows.yaml", "layers:\n- {match: '*', format: s8}\n- {match: first, format: f32}\n- {match: classes, format: s4}\n");
    espl_result *r = compress_task(ctx, &t, (espl_compress_options){.max_drop = 100, .goal = -1, .flavour = -1, .recipe = in_folder("rows.yaml")});
    int found = 0;
    for (int i = 0; i < r->layer_count; i++) {
        const espl_layer_choice *l = &r->layers[i];
        if (strcmp(l->name, "first") == 0) found += strcmp(l->format_after, "f32") == 0;
        if (strcmp(l->name, "second") == 0) found += strcmp(l->format_after, "s8") == 0;
        if (strcmp(l->name, "classes") == 0) found += strcmp(l->format_after, "s4") == 0;
    }
    assert_int_equal(found, 3);
    espl_result_destroy(&r);
    close_task(&t);
    assert_int_equal(espl_context_memory(ctx, NULL), empty_context(1));
    espl_context_destroy(&ctx);
}

/* Without a point to lose the network comes back as it was. */
static void the_budget_is_kept(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    make_task(ctx);
    task_files t = open_task(ctx, "unlabelled.yaml", "cortex-a76");
    espl_result *r = compress_task(ctx, &t, (espl_compress_options){.max_drop = 0, .goal = ESPL_GOAL_SIZE, .flavour = -1});
    assert_true(r->within_budget && r->drop <= 0);
    espl_result_destroy(&r);
    close_task(&t);
    espl_context_destroy(&ctx);
}

/* With few codes the range of least squared error, else the largest elements, and always what was asked for. */
static void observers_are_chosen_by_codes(void **state) {
    static const struct {
        const char *recipe, *observer, *chosen;
    } rows[] = {{"layers:\n- {match: '*', format: s8}\n", NULL, "\nobserver: minmax\n"},
                {"layers:\n- {match: '*', format: s8, activations: u4}\n", NULL, "\nobserver: mse\n"},
                {"observer: kl\nlayers:\n- {match: '*', format: s8, activations: u4}\n", NULL, "\nobserver: kl\n"},
                {"observer: kl\nlayers:\n- {match: '*', format: s8}\n", "percentile 99", "\nobserver: percentile 99\n"}};
    (void)state;
    espl_context *ctx = new_context(1);
    make_task(ctx);
    task_files t = open_task(ctx, "data.yaml", "cortex-a76");
    for (size_t i = 0; i < ESPL_COUNT(rows); i++) {
        put_text("observer.yaml", rows[i].recipe);
        espl_result *r = compress_task(ctx, &t, (espl_compress_options){.max_drop = 100, .goal = -1, .flavour = ESPL_FLAVOUR_ORT_X86, .recipe = in_folder("observer.yaml"), .observer = rows[i].observer});
        if (!strstr(r->recipe, rows[i].chosen)) fail_msg("%s", r->recipe);
        espl_result_destroy(&r);
    }
    close_task(&t);
    espl_context_destroy(&ctx);
}

static bool stop_at_once(void *user, const char *what, int64_t done, int64_t total) {
    (void)what, (void)total;
    *(int64_t *)user += done > 0;
    return *(int64_t *)user < 20;
}

static void refusals_are_sentences(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    make_task(ctx);
    task_files t = open_task(ctx, "data.yaml", "cortex-a76");
    espl_result *r = NULL, *done = compress_task(ctx, &t, (espl_compress_options){.max_drop = 20, .goal = 1, .flavour = -1});
    espl_compress_options o = {.chip = t.chip, .data = t.data, .max_drop = 20, .flavour = -1};
    espl_diag diag = {0};
    assert_int_equal(espl_compress(ctx, done->graph, &o, &r, &diag), ESPL_UNSUPPORTED); /* quantized already */
    assert_non_null(strstr(diag.message, "quantized already"));
    espl_result_destroy(&done);
    int64_t calls = 0;
    diag = (espl_diag){0};
    o.progress = stop_at_once;
    o.user = &calls;
    assert_int_equal(espl_compress(ctx, t.graph, &o, &r, &diag), ESPL_CANCELLED);
    assert_null(r);
    put_text("bad.yaml", "layers:\n- {match: '*', format: u8}\n");
    o = (espl_compress_options){.chip = t.chip, .data = t.data, .max_drop = 20, .flavour = -1, .recipe = in_folder("bad.yaml")};
    diag = (espl_diag){0};
    assert_int_equal(espl_status_exit_code(espl_compress(ctx, t.graph, &o, &r, &diag)), 2);
    assert_non_null(strstr(diag.message, "u8"));
    assert_null(r);
    close_task(&t);
    assert_int_equal(espl_context_memory(ctx, NULL), empty_context(1));
    espl_context_destroy(&ctx);
}

/* --- memory that runs out ----------------------------------------------------------------------------------------------------- */

typedef struct meter {
    long calls, fail_at; /* fails this one, and all after it if `from` */
    bool from, armed;
    long held;
} meter;

static void *metered_alloc(void *user, size_t bytes) {
    meter *m = user;
    if (m->armed) {
        m->calls++;
        if (m->fail_at && (m->from ? m->calls >= m->fail_at : m->calls == m->fail_at)) return NULL;
    }
    m->held++;
    return aligned_alloc(64, (bytes + 63) / 64 * 64);
}

static void metered_free(void *user, void *p) {
    ((meter *)user)->held--;
    free(p);
}

/* The whole way from the file to the result. */
static espl_status whole_way(espl_context *ctx, const task_files *t, const char *file, bool compress, espl_diag *diag) {
    espl_graph *g = NULL;
    espl_session *s = NULL;
    espl_result *r = NULL;
    espl_status status = espl_graph_read(ctx, file, &g, diag);
    if (status != ESPL_OK) goto done;
    status = espl_session_create(ctx, g, NULL, &s, diag);
    if (status != ESPL_OK) goto done;
    if (!compress) goto done;
    espl_compress_options o = {.chip = t->chip, .data = t->data, .max_drop = 0.01, .goal = ESPL_GOAL_ENERGY, .flavour = -1};
    status = espl_compress(ctx, g, &o, &r, diag);
    if (status != ESPL_OK) goto done;
    status = espl_result_write(ctx, r, in_folder("scarce"), "{}", diag);
done:
    espl_result_destroy(&r);
    espl_session_destroy(&s);
    espl_graph_destroy(&g);
    return status;
}

static void starve(const char *file, bool compress, int most) {
    meter m = {0};
    espl_context *ctx = NULL;
    espl_config config = {.alloc = metered_alloc, .free = metered_free, .user = &m, .threads = 1};
    assert_int_equal(espl_context_create(&config, &ctx, NULL), ESPL_OK);
    long empty = m.held;
    task_files t = open_task(ctx, "unlabelled.yaml", "cortex-a76");
    long open = m.held;
    espl_diag diag = {0};
    m.armed = true;
    if (whole_way(ctx, &t, file, compress, &diag) != ESPL_OK) fail_msg("%s", diag.message);
    long calls = m.calls;
    assert_int_equal(m.held, open);
    long step = calls > most ? calls / most : 1;
    for (int from = 0; from < 2; from++)
        for (long n = 1; n <= calls; n += n < 400 ? 1 : step) {
            m = (meter){.fail_at = n, .from = from, .armed = true, .held = m.held};
            diag = (espl_diag){0};
            espl_status status = whole_way(ctx, &t, file, compress, &diag);
            if (m.held != open) fail_msg("%s: allocation %ld of %ld fails: %ld blocks are lost", file, n, calls, m.held - open);
            if (status != ESPL_OK && (status != ESPL_NOMEM || !diag.message[0]))
                fail_msg("%s: allocation %ld of %ld fails: %s, '%s'", file, n, calls, espl_status_name(status), diag.message);
            if (from && status == ESPL_OK) fail_msg("%s: from allocation %ld of %ld all fail, and nobody notices", file, n, calls);
        }
    m.armed = false;
    close_task(&t);
    assert_int_equal(m.held, empty);
    espl_context_destroy(&ctx);
    assert_int_equal(m.held, 0);
    printf("%s: %ld allocations\n", strrchr(file, '/') + 1, calls);
}

static void memory_may_run_out_anywhere(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    make_task(ctx);
    put_text("few.yaml", "kind: npy\npath: samples.npy\ncount: 10\n");
    task_files t = open_task(ctx, "unlabelled.yaml", "cortex-a76");
    espl_result *r = compress_task(ctx, &t, (espl_compress_options){.max_drop = 50, .goal = 1, .flavour = -1});
    espl_diag diag = {0};
    assert_int_equal(espl_result_write(ctx, r, in_folder("out"), NULL, &diag), ESPL_OK);
    espl_result_destroy(&r);
    close_task(&t);
    /* Shape arithmetic, batch norm, pairs and folded constants: the passes' work. */
    rig g;
    rig_begin(&g, ctx, 8);
    espl__value *x = input_of(&g, "x", ESPL_F32, SHAPE(ESPL_DIM_UNKNOWN, 3, 6, 6));
    espl__value *p[5] = {APPLY(&g, "Conv", x, random_of(&g, SHAPE(4, 3, 3, 3), 0.2f))};
    for (int i = 1; i < 5; i++) p[i] = constant_of(&g, ESPL_F32, SHAPE(4), (const float[]){1, 2, 3, 4});
    espl__value *y = done_of(&g, node_of(&g, "BatchNormalization", 5, p, 1));
    const uint8_t zero = 3;
    espl__value *scale = scalar_of(&g, 0.1f), *z = constant_of(&g, ESPL_U8, (espl_shape){0}, &zero);
    y = APPLY(&g, "DequantizeLinear", APPLY(&g, "QuantizeLinear", y, scale, z), scale, z);
    espl__value *n = APPLY(&g, "Unsqueeze", APPLY(&g, "Gather", APPLY(&g, "Shape", x), constant_of(&g, ESPL_S64, (espl_shape){0}, &(int64_t){0})), INTS(&g, 0));
    espl__value *target[2] = {n, INTS(&g, 64)};
    espl__node *cat = node_of(&g, "Concat", 2, target, 1);
    set_int(&g, cat, "axis", 0);
    y = APPLY(&g, "Reshape", y, done_of(&g, cat));
    y = APPLY(&g, "Add", APPLY(&g, "MatMul", y, random_of(&g, SHAPE(64, 5), 0.1f)), APPLY(&g, "Neg", random_of(&g, SHAPE(5), 1)));
    IO(&g, x, APPLY(&g, "Softmax", y));
    if (espl_onnx_write(ctx, g.g, NULL, in_folder("passes.onnx"), &diag) != ESPL_OK) fail_msg("%s", diag.message);
    espl_graph_destroy(&g.g);
    espl_context_destroy(&ctx);
    char file[3][512];
    snprintf(file[0], sizeof file[0], "%s", in_folder("passes.onnx"));
    snprintf(file[1], sizeof file[1], "%s", in_folder("out/model.espl"));
    snprintf(file[2], sizeof file[2], "%s", in_folder("small.onnx"));
    starve(file[0], false, 1000);
    starve(file[1], false, 1000);
    starve(in_folder("out/model.onnx"), false, 1000);
    starve(file[2], true, 250);
}

/* --- processes that are killed -------------------------------------------------------------------------------------------------- */

enum { GENERATIONS = 2 };

/* In the child: writes one result after the other over the same folder until it is killed. */
static void write_for_ever(espl_context *ctx, espl_result **r, const char *out) {
    for (int i = 0;; i++) {
        char report[64];
        espl_diag diag = {0};
        snprintf(report, sizeof report, "{\"generation\": %d}\n", i % GENERATIONS);
        if (espl_result_write(ctx, r[i % GENERATIONS], out, report, &diag) != ESPL_OK) _exit(9);
    }
}

/* The folder is not there, or holds all of one generation. Returns which, -1 for none. */
static int generation_of(const char *out, char *const *espl, const size_t *espl_size) {
    static const char *const names[] = {"model.espl", "model.onnx", "recipe.yaml", "report.json"};
    char path[600];
    size_t n;
    if (access(out, F_OK) != 0) return -1;
    for (size_t i = 0; i < ESPL_COUNT(names); i++) {
        snprintf(path, sizeof path, "%s/%s", out, names[i]);
        if (access(path, R_OK) != 0) fail_msg("%s is missing", path);
    }
    DIR *dir = opendir(out);
    int entries = 0;
    for (struct dirent *e; (e = readdir(dir)) != NULL;)
        if (e->d_name[0] != '.' && ++entries && strstr(e->d_name, ".part")) fail_msg("%s lies in %s", e->d_name, out);
    closedir(dir);
    assert_int_equal(entries, 4);
    snprintf(path, sizeof path, "%s/report.json", out);
    char *report = file_text(path, &n);
    int generation = -1;
    if (sscanf(report, "{\"generation\": %d}", &generation) != 1 || n != 18) fail_msg("report.json holds '%s'", report);
    free(report);
    snprintf(path, sizeof path, "%s/model.espl", out);
    char *model = file_text(path, &n);
    if (n != espl_size[generation] || memcmp(model, espl[generation], n) != 0) fail_msg("the report is of generation %d, model.espl is not", generation);
    free(model);
    return generation;
}

static void killed_writers_leave_whole_folders(void **state) {
    (void)state;
    espl_context *ctx = new_context(1);
    make_task(ctx);
    task_files t = open_task(ctx, "unlabelled.yaml", "cortex-a76");
    espl_result *r[GENERATIONS];
    char *espl[GENERATIONS], out[512];
    size_t size[GENERATIONS];
    double seconds = 0; /* that a write takes */
    for (int i = 0; i < GENERATIONS; i++) {
        r[i] = compress_task(ctx, &t, (espl_compress_options){.max_drop = 50, .goal = ESPL_GOAL_SIZE, .flavour = i});
        espl_diag diag = {0};
        seconds = espl__now();
        assert_int_equal(espl_result_write(ctx, r[i], in_folder("generation"), NULL, &diag), ESPL_OK);
        seconds = espl__now() - seconds;
        espl[i] = file_text(in_folder("generation/model.espl"), &size[i]);
    }
    assert_true(size[0] != size[1] || memcmp(espl[0], espl[1], size[0]) != 0);
    snprintf(out, sizeof out, "%s", in_folder("killed"));
    int seen[GENERATIONS + 1] = {0}, kills = 100;
    espl__rng rng = espl__rng_seed(77, 0);
    /* A busy disk makes writes slower than the one that was timed: later kills leave more time, and there are more of them
     * until a writer has got as far as its second folder. */
    for (int i = 0; i < kills || (!(seen[1] && seen[2]) && i < 5 * kills); i++) {
        pid_t child = fork();
        if (child == 0) write_for_ever(ctx, r, out);
        assert_true(child > 0);
        int rc;
        usleep((useconds_t)(1e6 * fmin(seconds, 0.1) * (3 + i / 20) * espl__rng_float(&rng)));
        kill(child, SIGKILL);
        assert_int_equal(waitpid(child, &rc, 0), child);
        if (!WIFSIGNALED(rc)) fail_msg("the writer ended by itself: %d", WEXITSTATUS(rc));
        seen[1 + generation_of(out, espl, size)]++;
    }
    assert_true(seen[1] > 0 && seen[2] > 0);
    printf("%d kills: no folder %d times, first generation %d, second %d\n", kills, seen[0], seen[1], seen[2]);
    /* What the dead left behind stands beside the folder under names of their own, and hinders nobody. */
    espl_diag diag = {0};
    if (espl_result_write(ctx, r[0], out, "{\"generation\": 0}\n", &diag) != ESPL_OK) fail_msg("%s", diag.message);
    assert_int_equal(generation_of(out, espl, size), 0);
    DIR *dir = opendir(folder);
    for (struct dirent *e; (e = readdir(dir)) != NULL;)
        if (strncmp(e->d_name, "killed", 6) == 0 && strcmp(e->d_name, "killed") != 0 && !strstr(e->d_name, ".part"))
            fail_msg("%s was left behind", e->d_name);
    closedir(dir);
    for (int i = 0; i < GENERATIONS; i++) {
        free(espl[i]);
        espl_result_destroy(&r[i]);
    }
    close_task(&t);
    espl_context_destroy(&ctx);
}

static int setup(void **state) {
    (void)state;
    strcpy(folder, "/tmp/espl_test_compress_XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int teardown(void **state) {
    char command[128];
    (void)state;
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_networks_are_quantized), cmocka_unit_test(any_formats_side_by_side),
        cmocka_unit_test(recurrent_layers_are_quantized),
        cmocka_unit_test(odd_ranges_give_valid_scales),
        cmocka_unit_test(goals_flavours_and_data),
        cmocka_unit_test(recipes_repeat_the_result),
        cmocka_unit_test(the_budget_is_kept),
        cmocka_unit_test(observers_are_chosen_by_codes),
        cmocka_unit_test(refusals_are_sentences),
        cmocka_unit_test(memory_may_run_out_anywhere),
        cmocka_unit_test(killed_writers_leave_whole_folders),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
