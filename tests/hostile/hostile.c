/* Damaged forms of the real models: where tests/fuzz changes any byte, this changes the bytes that say how the others are to
 * be understood, in the .onnx file and in .espl files made of it, as it is, quantized, and pruned.
 *
 *   hostile [part of a model's name]      ESPL_ASSETS names the folder of the models; ESPL_LONG=1: all of it, not a part
 *
 * Each model is tried in a process of its own. One that dies or needs longer than LIMIT_SECONDS for one file leaves that file
 * behind and fails. Ends with "N passed, N failed, N skipped"; a form of a model is one test. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../clock.h"
#include "compress/compress.h"
#include "espalier/model.h"
#include "fuzz/arrays.h"
#include "runtime/container.h"

/* FORMS: onnx, espl, espl in two flavours of integers, sparse espl. */
enum { FORMS = 5, LIMIT_SECONDS = 10, HANGS_SECONDS = 120, SKIPPED = 77, RUN_BYTES = 4 << 20 };
#define MAX_ALLOC ((uint64_t)1 << 30)

static const char *const models[] = {
    "dtln-lstm", "mlperf-tiny-ad_autoencoder", "mlperf-tiny-kws_dscnn", "mlperf-tiny-resnet8_cifar10",
    "mlperf-tiny-vww_mobilenet025_96", "mnist-cnn", "mnist-mlp", "mobilenet-v2-imagenet", "openwakeword-embedding",
    "resnet20-cifar10", "resnet20-cifar10-bn", "resnet20-cifar10-onnc", "resnet32-cifar10", "ultraface-rfb320", "vit-cifar10",
};

/* What the parent sees of its child. */
typedef struct watch {
    volatile double since, worked; /* when the present file was begun, and the processor's time then; since 0: none */
    char what[256];
} watch;

typedef struct trial {
    espl_context *ctx;
    char path[300]; /* the damaged file */
    uint8_t *bytes;
    size_t size, *where; /* offsets of bytes that are structure */
    size_t places;
    int64_t macs; /* of the sound network */
    int opened, refused, failed;
    espl__rng rng;
    watch *watch;
} trial;

/* --- one file ----------------------------------------------------------------------------------------------------- */

static int64_t session_macs(const espl_session *s) {
    double macs = 0;
    for (int i = 0; i < espl_session_layer_count(s); i++) macs += (double)espl_session_layer(s, i).macs;
    return macs < 1e15 ? (int64_t)macs : (int64_t)1e15;
}

/* Runs on numbers that are neither zero nor the same, if that is little work. */
static espl_status run(const trial *t, espl_session *s, espl_diag *diag) {
    espl_status status = ESPL_OK;
    int ins = espl_session_input_count(s), n = ins + espl_session_output_count(s);
    espl_tensor *io = calloc((size_t)n + 1, sizeof *io);
    double bytes = 0;
    for (int i = 0; i < n; i++) {
        io[i] = *array_info(s, i);
        if (array_is_ours(s, i)) bytes += (double)espl_shape_count(&io[i].shape) * (double)espl_dtype_bytes(io[i].dtype);
    }
    bool small = bytes < RUN_BYTES && session_macs(s) <= 2 * t->macs;
    for (int i = 0; i < n && small; i++) {
        if (!array_is_ours(s, i)) continue;
        size_t size = espl__tensor_bytes(&io[i]);
        io[i].data = calloc(1, size + 8);
        for (size_t k = 0; k + 4 <= size && io[i].dtype == ESPL_F32; k += 4) {
            float x = (float)(k % 61) / 30 - 1;
            memcpy((char *)io[i].data + k, &x, 4);
        }
    }
    if (small) status = espl_session_run(s, io, io + ins, diag);
    for (int i = 0; i < n; i++)
        if (array_is_ours(s, i)) free(io[i].data);
    free(io);
    return status;
}

static void complain(trial *t, const char *what, espl_status status, const espl_diag *diag) {
    char keep[400];
    snprintf(keep, sizeof keep, "%s.failed%d", t->path, ++t->failed);
    if (t->failed < 4) (void)!link(t->path, keep);
    printf("FAILED %s: %s (%s: %s); kept as %s\n", t->watch->what, what, espl_status_name(status), diag->message, keep);
}

/* Reads, plans and runs the file at t->path. */
static void try_file(trial *t, bool sound) {
    espl_graph *g = NULL;
    espl_session *s = NULL;
    espl_diag diag = {0};
    uint64_t before = espl_context_memory(t->ctx, NULL);
    t->watch->worked = seconds_worked();
    t->watch->since = espl__now();
    espl_status status = espl_graph_read(t->ctx, t->path, &g, &diag);
    if (status == ESPL_OK) status = espl_session_create(t->ctx, g, NULL, &s, &diag);
    if (status == ESPL_OK && sound) t->macs = session_macs(s);
    if (status == ESPL_OK) status = run(t, s, &diag);
    espl_session_destroy(&s);
    espl_graph_destroy(&g);
    t->watch->since = 0;
    if (status == ESPL_OK)
        t->opened++;
    else
        t->refused++;
    if (espl_context_memory(t->ctx, NULL) != before) complain(t, "memory is lost", status, &diag);
    if (status == ESPL_OK) return;
    if (sound) complain(t, "the sound file is refused", status, &diag);
    if (espl_status_exit_code(status) != 2) complain(t, "bad input is taken for a fault of ours", status, &diag);
    if (diag.status != status || strlen(diag.message) < 10 || strpbrk(diag.message, "\n\r"))
        complain(t, "that is no sentence", status, &diag);
    if (!strstr(diag.message, t->path)) complain(t, "the sentence does not name the file", status, &diag);
}

static void put_file(const char *path, const void *data, size_t n) {
    (void)unlink(path); /* a file that is cut off and written again is flushed by some file systems */
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data, 1, n, f) != n || fclose(f) != 0) {
        printf("FAILED: %s cannot be written\n", path);
        exit(1);
    }
}

/* --- where the structure is --------------------------------------------------------------------------------------------- */

static bool varint(const uint8_t **p, const uint8_t *end, uint64_t *v) {
    *v = 0;
    for (int shift = 0; shift < 64 && *p < end; shift += 7) {
        uint8_t b = *(*p)++;
        *v |= (uint64_t)(b & 127) << shift;
        if (!(b & 128)) return true;
    }
    return false;
}

/* Notes the bytes of a protocol buffer that are no weights: it goes down into ModelProto.graph (7), GraphProto.initializer (5)
 * and leaves out what is long in TensorProto.raw_data (9) and float_data (4). */
static void note_structure(trial *t, const uint8_t *p, const uint8_t *end, int depth) {
    static const uint64_t down[] = {7, 5};
    while (p < end) {
        const uint8_t *begin = p;
        uint64_t key, n = 0;
        if (!varint(&p, end, &key)) return;
        if ((key & 7) == 0 && !varint(&p, end, &n)) return;
        if ((key & 7) == 1 || (key & 7) == 5) p += (key & 7) == 1 ? 8 : 4;
        if ((key & 7) == 2 && !varint(&p, end, &n)) return;
        if ((key & 7) == 2) {
            if (n > (uint64_t)(end - p)) return;
            for (const uint8_t *b = begin; b < p; b++) t->where[t->places++] = (size_t)(b - t->bytes);
            bool weights = depth == 2 && (key >> 3 == 9 || key >> 3 == 4) && n > 64;
            if (depth < 2 && key >> 3 == down[depth])
                note_structure(t, p, p + n, depth + 1);
            else
                for (uint64_t i = 0; i < n && !weights; i++) t->where[t->places++] = (size_t)(p - t->bytes + (ptrdiff_t)i);
            p += n;
            continue;
        }
        for (const uint8_t *b = begin; b < p && b < end; b++) t->where[t->places++] = (size_t)(b - t->bytes);
    }
}

/* --- one form of a model --------------------------------------------------------------------------------------------------- */

static void seal(uint8_t *data, size_t n) {
    if (n < CONTAINER_HEADER) return;
    uint64_t length = n - CONTAINER_HEADER;
    uint32_t crc = espl__crc32(data + CONTAINER_HEADER, length);
    memcpy(data + 8, &crc, 4);
    memcpy(data + 12, &length, 8);
}

static void damage(trial *t, const char *model, const char *form, int truncations, int flips) {
    bool sealed = strcmp(form, "onnx") != 0;
    uint8_t *copy = malloc(t->size + 1);
    t->opened = t->refused = t->failed = 0;
    t->where = malloc((t->size + 1) * sizeof *t->where);
    t->places = 0;
    if (sealed) /* weights come last */
        for (size_t i = CONTAINER_HEADER; i < t->size && i < 6000; i++) t->where[t->places++] = i;
    else
        note_structure(t, t->bytes, t->bytes + t->size, 0);
    snprintf(t->watch->what, sizeof t->watch->what, "%s (%s)", model, form);
    put_file(t->path, t->bytes, t->size);
    try_file(t, true);
    for (int i = 0; i < truncations + flips; i++) {
        size_t n = t->size, at = 0;
        memcpy(copy, t->bytes, n);
        if (i < truncations) {
            n = (size_t)((double)t->size * i / truncations);
            snprintf(t->watch->what, sizeof t->watch->what, "%s (%s) cut to %zu bytes", model, form, n);
        } else {
            at = i % 4 ? t->where[espl__rng_below(&t->rng, (uint32_t)t->places)] : espl__rng_below(&t->rng, (uint32_t)t->size);
            copy[at] ^= (uint8_t)(1 + espl__rng_below(&t->rng, 255));
            snprintf(t->watch->what, sizeof t->watch->what, "%s (%s) with byte %zu changed to 0x%02x", model, form, at, copy[at]);
        }
        if (sealed) seal(copy, n);
        put_file(t->path, copy, n);
        try_file(t, false);
    }
    printf("%-32s %-11s %4d opened, %4d refused, %d failed\n", model, form, t->opened, t->refused, t->failed);
    free(copy);
    free(t->where);
}

/* Ranges of a run on made-up numbers. */
static void observe(void *user, int value, const char *name, const float *data, int64_t count) {
    range *r = &((range *)user)[value];
    (void)name;
    for (int64_t i = 0; i < count; i++) {
        r->min = data[i] < r->min ? data[i] : r->min;
        r->max = data[i] > r->max ? data[i] : r->max;
    }
    r->seen++;
}

/* Integers everywhere, or layer by layer another pattern of zeros in another format. */
static void decide(const espl_graph *g, bool sparse, decision *decisions) {
    static const char *const patterns[] = {"2:4", "bank 2:16", "unstructured 80%", "block 4x4 75%", "bank 3:32", "column 50%"};
    static const espl_format formats[] = {ESPL_FORMAT_S8, ESPL_FORMAT_F16, ESPL_FORMAT_S4, ESPL_FORMAT_F32, ESPL_FORMAT_BF16};
    for (int i = 0, layer = 0; i < g->node_count; i++) {
        decision *d = &decisions[i];
        *d = (decision){.weights = ESPL_FORMAT_S8, .integer = true};
        if (!sparse || !espl__is_layer(g->nodes[i])) continue;
        d->weights = formats[layer % (int)ESPL_COUNT(formats)];
        d->integer = !espl__format_is_float(d->weights);
        (void)espl_sparsity_parse(patterns[layer++ % (int)ESPL_COUNT(patterns)], &d->pattern);
    }
}

/* Replaces t->bytes by the model as an .espl file, quantized if `flavour` is not negative, pruned too if it is `sparse`. */
static bool make_espl(trial *t, const char *file, int flavour, bool sparse) {
    espl_graph *g = NULL;
    espl_session *s = NULL;
    espl_diag diag = {0};
    espl__buffer b;
    espl__buffer_init(&b, t->ctx);
    range *ranges = NULL;
    decision *decisions = NULL;
    espl_status status = espl_graph_read(t->ctx, file, &g, &diag);
    if (status != ESPL_OK) goto done;
    ranges = calloc((size_t)g->value_count + 1, sizeof *ranges);
    decisions = calloc((size_t)g->node_count + 1, sizeof *decisions);
    if (flavour >= 0) {
        espl_session_options options = {.observer = observe, .observer_user = ranges};
        decide(g, sparse, decisions);
        ESPL_TRY(espl__prune_apply(g, decisions, &diag));
        ESPL_TRY(espl_session_create(t->ctx, g, &options, &s, &diag));
        t->macs = INT64_MAX / 2;
        ESPL_TRY(run(t, s, &diag));
        ESPL_TRY(espl__ptq_apply(g, ranges, decisions, (espl_flavour)flavour, &diag));
    }
    ESPL_TRY(espl__model_bytes(t->ctx, g, &b, &diag));
    free(t->bytes);
    t->size = b.length;
    t->bytes = malloc(t->size + 1);
    memcpy(t->bytes, b.data, t->size);
done:
    if (status != ESPL_OK) printf("FAILED %s: %s\n", file, diag.message);
    espl__buffer_free(&b);
    espl_session_destroy(&s);
    espl_graph_destroy(&g);
    free(ranges);
    free(decisions);
    return status == ESPL_OK;
}

static bool load(trial *t, const char *file) {
    FILE *f = fopen(file, "rb");
    struct stat st;
    if (!f || fstat(fileno(f), &st) != 0) return false;
    t->size = (size_t)st.st_size;
    t->bytes = malloc(t->size + 1);
    bool good = fread(t->bytes, 1, t->size, f) == t->size;
    fclose(f);
    return good;
}

/* In the child. Returns the number of forms that failed. */
static int try_model(const char *folder, const char *model, watch *w, const char *path) {
    char file[4300];
    espl_config config = {.threads = 1, .max_alloc = MAX_ALLOC};
    trial t = {.watch = w, .rng = espl__rng_seed(2024, 1)};
    int failed = 0;
    snprintf(file, sizeof file, "%s/%s/model.onnx", folder, model);
    snprintf(t.path, sizeof t.path, "%s", path);
    if (espl_context_create(&config, &t.ctx, NULL) != ESPL_OK || !load(&t, file)) return FORMS;
    bool all = getenv("ESPL_LONG") && strcmp(getenv("ESPL_LONG"), "0") != 0;
    /* Half a megabyte of weights is as good as ten for finding faults, and much faster. */
    int few = t.size < 500000 ? 120 : t.size < 4000000 ? 30 : 8;
    int flips = all ? 1000 : few, truncations = all ? 100 : few / 4;
    damage(&t, model, "onnx", truncations, flips);
    failed += t.failed > 0;
    for (int form = -1; form <= ESPL_FLAVOUR_COUNT; form++) {
        static const char *const forms[] = {"espl", "s8 espl", "u8 espl", "sparse espl"};
        bool sparse = form == ESPL_FLAVOUR_COUNT;
        if (make_espl(&t, file, sparse ? ESPL_FLAVOUR_PORTABLE : form, sparse))
            damage(&t, model, forms[form + 1], truncations / 2, flips / 2);
        else
            t.failed = 1;
        failed += t.failed > 0;
    }
    espl_context_destroy(&t.ctx);
    free(t.bytes);
    unlink(path);
    return failed;
}

/* --- all models --------------------------------------------------------------------------------------------------------------- */

/* Waits for the child; kills it if one file takes too long. Returns the number of forms that failed. */
static int supervise(pid_t child, watch *w, const char *model) {
    const struct timespec nap = {0, 20000000};
    int rc;
    for (;;) {
        pid_t done = waitpid(child, &rc, WNOHANG);
        if (done == child && WIFEXITED(rc) && WEXITSTATUS(rc) <= FORMS) return WEXITSTATUS(rc);
        if (done == child) {
            printf("FAILED %s: the process died on %s\n", model, w->what);
            return FORMS;
        }
        clockid_t clock;
        double since = w->since, worked = w->worked;
        bool known = clock_getcpuclockid(child, &clock) == 0;
        bool slow = since > 0 && known && processor_seconds(clock) - worked > LIMIT_SECONDS;
        if (slow || (since > 0 && espl__now() - since > HANGS_SECONDS)) {
            printf("FAILED %s: more than %d s for %s\n", model, LIMIT_SECONDS, w->what);
            kill(child, SIGKILL);
            waitpid(child, &rc, 0);
            return FORMS;
        }
        nanosleep(&nap, NULL);
    }
}

int main(int argc, char **argv) {
    char folder[4096], path[300];
    const char *env = getenv("ESPL_ASSETS"), *only = argc > 1 ? argv[1] : "", *work = getenv("TMPDIR");
    int passed = 0, failed = 0;
    snprintf(folder, sizeof folder, "%s/models", env && *env ? env : ESPL_SOURCE_DIR "/../shared");
    if (access(folder, R_OK) != 0) {
        printf("skipped: no assets\n");
        return SKIPPED;
    }
    watch *w = mmap(NULL, sizeof *w, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (w == MAP_FAILED) return 1;
    for (size_t i = 0; i < ESPL_COUNT(models); i++) {
        if (!strstr(models[i], only)) continue;
        snprintf(path, sizeof path, "%s/espl_hostile_%ld_%s", work ? work : "/tmp", (long)getpid(), models[i]);
        *w = (watch){0};
        fflush(stdout);
        pid_t child = fork();
        if (child == 0) {
            int bad = try_model(folder, models[i], w, path);
            exit(bad);
        }
        int bad = child < 0 ? FORMS : supervise(child, w, models[i]);
        failed += bad;
        passed += FORMS - bad;
    }
    printf("%d passed, %d failed, 0 skipped\n", passed, failed);
    return failed > 0;
}
