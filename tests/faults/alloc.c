/* The context's allocator fails at the n-th call, for every n or a sample of them: whatever is done says
 * ESPL_NOMEM in a sentence, gives all memory back, leaves no file behind, and works when it is done again in
 * the same context.
 *
 *   alloc [SCENARIO]...    ESPL_LONG=1: every n; ESPL_PATHS=1: one n of each call path; ESPL_N=n: that one;
 *                          else some of these paths
 *
 * ESPL_TRACE=1 shows who asked.
 *
 * Each scenario runs in a process of its own, so that a sanitizer's complaint, leaks included, is told of it
 * alone. */
#include <execinfo.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../cases.h"
#include "base/base.h"
#include "espalier/build.h"
#include "espalier/compress.h"
#include "espalier/model.h"
#include "espalier/onnx.h"
#include "espalier/session.h"
#include "espalier/train.h"
#include "espalier/zoo.h"
#include "tensor/tensor.h"
#include "tree.h"

enum { SAMPLES = SANITIZED ? 12 : 24, MOST_PATHS = 1 << 16, DEPTH = 24 };
#define DIGITS ESPL_SOURCE_DIR "/examples/digits.onnx"
#define FIXTURES ESPL_SOURCE_DIR "/tests/fixtures/"

/* --- the allocator ----------------------------------------------------------------------------------- */

static atomic_long calls, alive;
static long fail_at;
static bool noting;
static uint64_t seen[MOST_PATHS]; /* hashes of call paths: open addressing */
static long first_of[MOST_PATHS]; /* the n of each path, in order */
static int path_count;
static pthread_mutex_t noting_mutex = PTHREAD_MUTEX_INITIALIZER;

/* Remembers n if nobody allocated on this path before. */
static void note_path(long n) {
    void *frame[DEPTH];
    int depth = backtrace(frame, DEPTH);
    uint64_t h = 1;
    for (int i = 2; i < depth; i++) h = espl__mix64(h ^ (uint64_t)(uintptr_t)frame[i]);
    h |= 1;
    size_t slot = (size_t)(h % MOST_PATHS);
    while (seen[slot] && seen[slot] != h) slot = (slot + 1) % MOST_PATHS;
    if (!seen[slot] && path_count < MOST_PATHS / 2) {
        seen[slot] = h;
        first_of[path_count++] = n;
    }
}

static void *allocate(void *user, size_t bytes) {
    (void)user;
    long n = atomic_fetch_add(&calls, 1) + 1;
    if (noting) {
        pthread_mutex_lock(&noting_mutex);
        note_path(n);
        pthread_mutex_unlock(&noting_mutex);
    }
    if (n == fail_at && getenv("ESPL_TRACE")) {
        void *frame[DEPTH];
        backtrace_symbols_fd(frame, backtrace(frame, DEPTH), STDERR_FILENO);
    }
    if (n == fail_at) return NULL;
    void *p = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (p) atomic_fetch_add(&alive, 1);
    return p;
}

static void release(void *user, void *ptr) {
    (void)user;
    if (ptr) atomic_fetch_sub(&alive, 1);
    free(ptr);
}

/* --- scenarios --------------------------------------------------------------------------------------- */

typedef espl_status (*scenario_fn)(espl_context *ctx, const char *out, espl_diag *diag);

static espl_status make_context(espl_context *ctx, const char *out, espl_diag *diag) {
    (void)out;
    espl_status status = espl_context_set_threads(ctx, 3, diag);
    if (status == ESPL_OK) status = espl_context_set_threads(ctx, 2, diag);
    return status;
}

static espl_status load(espl_context *ctx, const char *path, espl_diag *diag) {
    espl_graph *g = NULL;
    espl_status status = espl_graph_read(ctx, path, &g, diag);
    espl_graph_destroy(&g);
    return status;
}

static espl_status load_onnx(espl_context *ctx, const char *out, espl_diag *diag) {
    (void)out;
    return load(ctx, DIGITS, diag);
}

static espl_status load_lowbit(espl_context *ctx, const char *out, espl_diag *diag) {
    (void)out;
    espl_status status = load(ctx, FIXTURES "lowbit/nbits.onnx", diag);
    return status == ESPL_OK ? load(ctx, FIXTURES "lowbit/e4m3_blocks.onnx", diag) : status;
}

static espl_status load_espl(espl_context *ctx, const char *out, espl_diag *diag) {
    (void)out;
    espl_status status = load(ctx, FIXTURES "container/v1.espl", diag);
    return status == ESPL_OK ? load(ctx, FIXTURES "container/v3.espl", diag) : status;
}

/* Runs on zeros. */
static espl_status run_session(espl_context *ctx, espl_session *s, espl_diag *diag) {
    enum { MOST = 8 };
    espl_tensor in[MOST] = {0}, out[MOST] = {0};
    espl_status status = ESPL_OK;
    int ins = espl_session_input_count(s), outs = espl_session_output_count(s);
    if (ins > MOST || outs > MOST)
        return espl__fail(diag, ESPL_INTERNAL, "%d inputs and %d outputs", ins, outs);
    for (int i = 0; i < ins; i++) {
        const espl_tensor *info = espl_session_input_info(s, i);
        ESPL_TRY(espl_tensor_alloc(ctx, info->dtype, &info->shape, &in[i], diag));
        memset(in[i].data, 0, espl__tensor_bytes(&in[i]));
    }
    for (int i = 0; i < outs; i++) {
        const espl_tensor *info = espl_session_output_info(s, i);
        ESPL_TRY(espl_tensor_alloc(ctx, info->dtype, &info->shape, &out[i], diag));
    }
    status = espl_session_run(s, in, out, diag);
done:
    for (int i = 0; i < MOST; i++) {
        espl_tensor_free(ctx, &in[i]);
        espl_tensor_free(ctx, &out[i]);
    }
    return status;
}

static espl_status run_graph(espl_context *ctx, const espl_graph *g, espl_diag *diag) {
    espl_session *s = NULL;
    espl_status status = espl_session_create(ctx, g, NULL, &s, diag);
    if (status == ESPL_OK) status = run_session(ctx, s, diag);
    espl_session_destroy(&s);
    return status;
}

static espl_status run_file(espl_context *ctx, const char *path, espl_diag *diag) {
    espl_graph *g = NULL;
    espl_status status = espl_graph_read(ctx, path, &g, diag);
    if (status == ESPL_OK) status = run_graph(ctx, g, diag);
    espl_graph_destroy(&g);
    return status;
}

static espl_status session_onnx(espl_context *ctx, const char *out, espl_diag *diag) {
    (void)out;
    return run_file(ctx, DIGITS, diag);
}

static espl_status session_espl(espl_context *ctx, const char *out, espl_diag *diag) {
    (void)out;
    espl_status status = run_file(ctx, FIXTURES "container/v3.espl", diag);
    return status == ESPL_OK ? run_file(ctx, FIXTURES "lowbit/int4_blocks.onnx", diag) : status;
}

static espl_status build(espl_context *ctx, const char *name, espl_graph **g, espl_diag *diag) {
    espl_zoo_options o = {.seed = 1, .hidden = 16, .layers = 1, .vocabulary = 20, .sequence = 4};
    if (strcmp(name, "lstm-lm") == 0) o.sequence = 0;
    if (strcmp(name, "decoder") == 0) o.heads = 2;
    if (strcmp(name, "lenet5") == 0) o = (espl_zoo_options){.seed = 1};
    if (strcmp(name, "mobilenet-v2") == 0) o = (espl_zoo_options){.seed = 1, .width = 0.1};
    return espl_zoo_build(ctx, name, &o, g, diag);
}

/* Recurrent layers, attention and depthwise convolutions: build, session, export. */
static espl_status build_run_write(espl_context *ctx, const char *name, const char *out, espl_diag *diag) {
    espl_graph *g = NULL;
    char path[2][512];
    snprintf(path[0], sizeof path[0], "%s/net.onnx", out);
    snprintf(path[1], sizeof path[1], "%s/net.espl", out);
    espl_status status = build(ctx, name, &g, diag);
    if (status == ESPL_OK) status = run_graph(ctx, g, diag);
    if (status == ESPL_OK) status = espl_onnx_write(ctx, g, NULL, path[0], diag);
    if (status == ESPL_OK) {
        status = espl_model_write(ctx, g, path[1], diag);
        if (status != ESPL_OK) remove(path[0]);
    }
    espl_graph_destroy(&g);
    return status;
}

static espl_status zoo_lstm(espl_context *ctx, const char *out, espl_diag *diag) {
    return build_run_write(ctx, "lstm-lm", out, diag);
}
static espl_status zoo_decoder(espl_context *ctx, const char *out, espl_diag *diag) {
    return build_run_write(ctx, "decoder", out, diag);
}
static espl_status zoo_mobilenet(espl_context *ctx, const char *out, espl_diag *diag) {
    return build_run_write(ctx, "mobilenet-v2", out, diag);
}

static espl_status open_read(espl_context *ctx, const char *name, espl_diag *diag) {
    espl_dataset *d = NULL;
    float *sample = NULL;
    espl_status status = espl_dataset_open(ctx, name, &d, diag);
    if (status != ESPL_OK) return status;
    for (int i = 0; i < espl_dataset_inputs(d) && !espl_dataset_vocabulary(d); i++) {
        espl_shape shape = espl_dataset_shape(d, i);
        espl__free(ctx, sample);
        sample = espl__alloc(ctx, (uint64_t)espl_shape_count(&shape) * sizeof *sample);
        if (!sample) {
            status = espl__nomem(diag, 1);
            goto done;
        }
        for (int64_t k = 0; k < espl_dataset_count(d) && k < 3; k++)
            ESPL_TRY(espl_dataset_read(d, i, k, sample, diag));
    }
    int64_t label;
    if (espl_dataset_has_labels(d)) ESPL_TRY(espl_dataset_label(d, 0, &label, diag));
done:
    espl__free(ctx, sample);
    espl_dataset_close(&d);
    return status;
}

/* What set_up wrote. */
static const struct {
    const char *name, *text;
} sets[] = {
    {"few.yaml", "kind: digits\ncount: 10\n"},
    {"train.yaml", "kind: digits\nsplit: train\ncount: 8\naugment: {pad: 2, flip: true}\n"},
    {"tar.yaml", "kind: images\npath: " FIXTURES "data/classes.tar\nsplit: train\nresize: 4\n"},
    {"gz.yaml", "kind: images\npath: " FIXTURES "data/listed.tar.gz\nlabels: set/labels.txt\n"},
    {"tree.yaml", "kind: images\npath: tree\nchannels: 3\nresize: 9\ncrop: 9\n"},
    {"npy.yaml",
     "kind: npy\npath: " FIXTURES "blame/samples.npy\nlabels: " FIXTURES "blame/labels.npy\nscale: 2\n"},
    {"idx.yaml", "kind: idx\npath: images\nlabels: labels\n"},
    {"cifar.yaml", "kind: cifar-bin\npaths: [cifar.bin]\n"},
    {"text.yaml", "kind: text\npath: words.txt\n"},
};

static espl_status read_data(espl_context *ctx, const char *out, espl_diag *diag) {
    (void)out;
    espl_status status = ESPL_OK;
    for (size_t i = 0; i < ESPL_COUNT(sets) && status == ESPL_OK; i++)
        status = open_read(ctx, sets[i].name, diag);
    return status;
}

static espl_status compress(espl_context *ctx, espl_compress_options *o, const char *model, const char *out,
                            espl_diag *diag) {
    espl_graph *g = NULL;
    espl_result *r = NULL;
    espl_chip *chip = NULL;
    char folder[512];
    snprintf(folder, sizeof folder, "%s/small", out);
    espl_status status = espl_graph_read(ctx, model, &g, diag);
    if (status == ESPL_OK) status = espl_dataset_open(ctx, "few.yaml", &o->data, diag);
    if (status == ESPL_OK) status = espl_chip_load(ctx, "cortex-m7", &chip, diag);
    o->chip = chip;
    o->max_drop = 100;
    if (status == ESPL_OK) status = espl_compress(ctx, g, o, &r, diag);
    if (status == ESPL_OK) status = espl_result_write(ctx, r, folder, "{}\n", diag);
    espl_result_destroy(&r);
    espl_chip_destroy(&chip);
    espl_dataset_close(&o->data);
    espl_graph_destroy(&g);
    return status;
}

#define OPTIONS .goal = -1, .flavour = -1

static espl_status compress_static(espl_context *ctx, const char *out, espl_diag *diag) {
    espl_compress_options o = {OPTIONS};
    return compress(ctx, &o, DIGITS, out, diag);
}
static espl_status compress_repairs(espl_context *ctx, const char *out, espl_diag *diag) {
    espl_compress_options o = {OPTIONS,
                               .repair = "equalize absorb, smooth 0.5, adaround 2, gptq, batchnorm 4, bias 4",
                               .observer = "percentile 99"};
    return compress(ctx, &o, DIGITS, out, diag);
}
static espl_status compress_pruned(espl_context *ctx, const char *out, espl_diag *diag) {
    espl_compress_options o = {OPTIONS, .recipe = "bank-4-16-s8"};
    return compress(ctx, &o, DIGITS, out, diag);
}
static espl_status compress_search(espl_context *ctx, const char *out, espl_diag *diag) {
    espl_compress_options o = {.goal = ESPL_GOAL_SIZE, .flavour = -1, .formats = "s8,s4", .curve = true};
    return compress(ctx, &o, DIGITS, out, diag);
}

static espl_status blame(espl_context *ctx, const char *out, espl_diag *diag) {
    (void)out;
    espl_graph *g = NULL;
    espl_costs costs = {0};
    espl_weights w = {0};
    espl_sparsity pattern = {.pattern = ESPL_PATTERN_UNSTRUCTURED};
    espl_status status = espl_graph_read(ctx, DIGITS, &g, diag);
    if (status == ESPL_OK) status = espl_costs_compute(ctx, g, NULL, &costs, diag);
    if (status == ESPL_OK) status = espl_weights_read(ctx, g, 0, &pattern, &w, diag);
    espl_weights_free(ctx, &w);
    espl_costs_free(ctx, &costs);
    espl_graph_destroy(&g);
    return status;
}

static espl_status evaluate(espl_context *ctx, const char *out, espl_diag *diag) {
    (void)out;
    espl_graph *g = NULL;
    espl_session *s = NULL;
    espl_dataset *d = NULL;
    espl_scores scores;
    espl_status status = espl_graph_read(ctx, DIGITS, &g, diag);
    if (status == ESPL_OK) status = espl_session_create(ctx, g, NULL, &s, diag);
    if (status == ESPL_OK) status = espl_dataset_open(ctx, "few.yaml", &d, diag);
    if (status == ESPL_OK) status = espl_evaluate(ctx, s, d, &(espl_evaluation){0}, &scores, diag);
    espl_dataset_close(&d);
    espl_session_destroy(&s);
    espl_graph_destroy(&g);
    return status;
}

static espl_status train_on(espl_context *ctx, const char *network, const char *set, const char *out,
                            bool resume, espl_diag *diag) {
    espl_graph *g = NULL;
    espl_dataset *d = NULL, *eval = NULL;
    char path[512], log[512];
    espl_train_result result;
    snprintf(path, sizeof path, "%s/net.onnx", out);
    snprintf(log, sizeof log, "%s/log.jsonl", out);
    espl_status status = build(ctx, network, &g, diag);
    if (status == ESPL_OK) status = espl_dataset_open(ctx, set, &d, diag);
    if (status == ESPL_OK) status = espl_dataset_open(ctx, set, &eval, diag);
    espl_train_options o = {.data = d,
                            .eval = eval,
                            .recipe = "train-recipe.yaml",
                            .output = path,
                            .log = log,
                            .epochs = resume ? 2 : 1,
                            .every_steps = 1,
                            .resume = resume,
                            .restart = !resume};
    if (status == ESPL_OK) status = espl_train(ctx, g, &o, &result, diag);
    espl_graph_destroy(&g);
    espl_dataset_close(&eval);
    espl_dataset_close(&d);
    return status;
}

static espl_status train(espl_context *ctx, const char *out, espl_diag *diag) {
    espl_status status = train_on(ctx, "lenet5", "train.yaml", out, false, diag);
    return status == ESPL_OK ? train_on(ctx, "lenet5", "train.yaml", out, true, diag) : status;
}
static espl_status train_text(espl_context *ctx, const char *out, espl_diag *diag) {
    return train_on(ctx, "lstm-lm", "text.yaml", out, false, diag);
}

static const struct {
    const char *name;
    scenario_fn run;
    const char *left; /* what a failure may leave for the next, a prefix */
} scenarios[] = {
    {"context", make_context, NULL},
    {"load_onnx", load_onnx, NULL},
    {"load_lowbit", load_lowbit, NULL},
    {"load_espl", load_espl, NULL},
    {"session_onnx", session_onnx, NULL},
    {"session_espl", session_espl, NULL},
    {"zoo_lstm", zoo_lstm, NULL},
    {"zoo_decoder", zoo_decoder, NULL},
    {"zoo_mobilenet", zoo_mobilenet, NULL},
    {"read_data", read_data, NULL},
    {"evaluate", evaluate, NULL},
    {"inspect", blame, NULL},
    {"compress_static", compress_static, NULL},
    {"compress_repairs", compress_repairs, NULL},
    {"compress_pruned", compress_pruned, NULL},
    {"compress_search", compress_search, NULL},
    {"train", train, "net.onnx"},
    {"train_text", train_text, "net.onnx.ckpt"},
};

/* --- examining --------------------------------------------------------------------------------------- */

/* Shared with the process that runs the scenario. */
static struct {
    const char *doing;
    long n, passed, failed, total;
} * told;

static void complain(const char *name, const char *what, const espl_diag *diag) {
    told->failed++;
    printf("FAILED %s, allocation %ld: %s%s%s\n", name, told->n, what, diag && diag->message[0] ? ": " : "",
           diag ? diag->message : "");
    fflush(stdout);
}

/* What lies in the folder and should not. */
static const char *left_over(const tree *t, const char *allowed) {
    for (int i = 0; i < t->count; i++) {
        const char *path = t->entry[i].path;
        bool fine =
            allowed && (strncmp(path, allowed, strlen(allowed)) == 0 || strcmp(path, "log.jsonl") == 0);
        if (!fine || strstr(path, ".part")) return path;
    }
    return NULL;
}

static espl_status once(scenario_fn run, espl_context *ctx, long n, espl_diag *diag) {
    tree_remove("out");
    if (mkdir("out", 0777) != 0) return espl__fail(diag, ESPL_IO, "no folder");
    atomic_store(&calls, 0);
    fail_at = n;
    espl_status status = run(ctx, "out", diag);
    fail_at = 0;
    return status;
}

/* What differs from the files of a run in which nothing failed: an allocation that is done without must not
 * show. */
static const char *differs(const tree *is, const tree *wanted) {
    if (is->count != wanted->count) return "(other files)";
    for (int i = 0; i < is->count; i++) {
        const tree_entry *a = &is->entry[i], *b = &wanted->entry[i];
        bool timed = strstr(a->path, ".ckpt") || strstr(a->path, ".jsonl"); /* times are in them */
        if (strcmp(a->path, b->path) != 0 || (!timed && a->hash != b->hash)) return a->path;
    }
    return NULL;
}

static void try_at(int index, espl_context *ctx, long n, const tree *wanted) {
    espl_diag diag = {0};
    const char *name = scenarios[index].name;
    uint64_t before = espl_context_memory(ctx, NULL);
    long failed = told->failed;
    told->n = n;
    espl_status status = once(scenarios[index].run, ctx, n, &diag);
    tree t = tree_read("out");
    const char *left = status == ESPL_OK ? differs(&t, wanted) : left_over(&t, scenarios[index].left);
    if (status != ESPL_OK && status != ESPL_NOMEM) complain(name, "is told as another failure", &diag);
    if (status != ESPL_OK && (diag.status != status || strlen(diag.message) < 12))
        complain(name, "has no sentence", &diag);
    if (left) complain(name, left, NULL);
    tree_free(&t);
    if (strcmp(name, "context") != 0 && espl_context_memory(ctx, NULL) != before)
        complain(name, "memory is not given back", &diag);
    told->passed += failed == told->failed;
}

static void examine(int index) {
    espl_context *ctx = NULL;
    espl_diag diag = {0};
    const char *name = scenarios[index].name;
    espl_config config = {.alloc = allocate, .free = release, .threads = 2};
    /* The context itself. */
    for (long n = 1; !ctx; n++) {
        atomic_store(&calls, 0);
        fail_at = n;
        diag = (espl_diag){0};
        espl_status status = espl_context_create(&config, &ctx, &diag);
        fail_at = 0;
        if (status != ESPL_OK && status != ESPL_NOMEM) complain(name, "context", &diag);
        if (status != ESPL_OK && atomic_load(&alive))
            complain(name, "context: memory is not given back", &diag);
    }
    noting = true;
    espl_status status = once(scenarios[index].run, ctx, 0, &diag);
    noting = false;
    tree wanted = tree_read("out");
    told->total = atomic_load(&calls);
    if (status != ESPL_OK) {
        complain(name, "does not work", &diag);
        return;
    }
    const char *only = getenv("ESPL_N");
    if (only) try_at(index, ctx, atol(only), &wanted);
    bool every = getenv("ESPL_LONG") != NULL, paths = getenv("ESPL_PATHS") != NULL;
    long points = only ? 0 : every ? told->total : path_count, tried = 0;
    double step = every || paths || points < SAMPLES ? 1 : (double)points / SAMPLES;
    for (double at = 0; (long)at < points; at += step, tried++)
        try_at(index, ctx, every ? (long)at + 1 : first_of[(long)at], &wanted);
    tree_free(&wanted);
    diag = (espl_diag){0};
    told->n = 0;
    if (once(scenarios[index].run, ctx, 0, &diag) != ESPL_OK)
        complain(name, "does not work afterwards", &diag);
    espl_context_destroy(&ctx);
    if (atomic_load(&alive)) complain(name, "memory is left in the end", NULL);
    printf("%-18s %7ld allocations on %5d paths, %6ld failed in turn\n", name, told->total, path_count,
           tried);
    fflush(stdout);
}

/* --- files for them ---------------------------------------------------------------------------------- */

static void put(const char *path, const void *bytes, size_t length) {
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(bytes, 1, length, f) != length || fclose(f) != 0) exit(1);
}

static void copy(const char *from, const char *to) {
    char *text = NULL;
    size_t length = 0;
    FILE *f = fopen(from, "rb"), *out = open_memstream(&text, &length);
    for (int c; f && out && (c = fgetc(f)) != EOF;) fputc(c, out);
    if (!f || !out || fclose(out) != 0) exit(1);
    fclose(f);
    put(to, text, length);
    free(text);
}

static void set_up(void) {
    unsigned char images[16 + 3 * 64] = {0, 0, 8, 3, 0, 0, 0, 3, 0, 0, 0, 8, 0, 0, 0, 8},
                                  labels[8 + 3] = {0, 0, 8, 1, 0, 0, 0, 3, 1, 2, 0}, cifar[2 * 3073] = {3};
    static const char recipe[] =
        "epochs: 1\nbatch: 4\nsequence: 4\nlr: 0.01\nmomentum: 0.9\nema: 0.9\nclip: 1\n";
    for (size_t i = 0; i < ESPL_COUNT(sets); i++) put(sets[i].name, sets[i].text, strlen(sets[i].text));
    put("train-recipe.yaml", recipe, sizeof recipe - 1);
    put("images", images, sizeof images);
    put("labels", labels, sizeof labels);
    put("cifar.bin", cifar, sizeof cifar);
    char words[2000] = "";
    for (int i = 0; i < 120; i++) snprintf(words + strlen(words), 16, "w%d w%d\n", i * i % 17, i % 3);
    put("words.txt", words, strlen(words));
    if (mkdir("tree", 0777) != 0 || mkdir("tree/a", 0777) != 0 || mkdir("tree/b", 0777) != 0) exit(1);
    copy(FIXTURES "data/grey.jpg", "tree/a/1.jpg");
    copy(FIXTURES "data/progressive.jpg", "tree/a/2.jpg");
    copy(FIXTURES "data/interlaced.png", "tree/b/1.png");
    copy(FIXTURES "data/palette.png", "tree/b/2.png");
}

static bool wanted(const char *name, int count, char **names) {
    for (int i = 1; i < count; i++)
        if (strcmp(names[i], name) == 0) return true;
    return count < 2;
}

int main(int count, char **names) {
    char folder[] = "/tmp/espl_alloc_XXXXXX";
    long passed = 0, failed = 0;
    if (!mkdtemp(folder) || chdir(folder) != 0) return 1;
    told = mmap(NULL, sizeof *told, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (told == MAP_FAILED) return 1;
    setenv("ESPL_TUNE", "0", 1);
    set_up();
    for (size_t i = 0; i < ESPL_COUNT(scenarios); i++) {
        if (!wanted(scenarios[i].name, count, names)) continue;
        memset(told, 0, sizeof *told);
        fflush(stdout);
        pid_t pid = fork();
        if (pid == 0) {
            examine((int)i);
            exit(0);
        }
        int status;
        waitpid(pid, &status, 0);
        if (status != 0) {
            printf("FAILED %s, allocation %ld of %ld: the process ended with status %x\n", scenarios[i].name,
                   told->n, told->total, (unsigned)status);
            told->failed++;
        }
        passed += told->passed;
        failed += told->failed;
    }
    if (chdir("/") == 0) tree_remove(folder);
    printf("%ld passed, %ld failed, 0 skipped\n", passed, failed);
    return failed != 0;
}
