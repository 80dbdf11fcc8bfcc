/* Many damaged models, counted: each is read, lowered and run in a process of its own, whose time and memory
 * are noted.
 *
 *   mutants COUNT STATE FILE...      .onnx or .espl
 *
 * Mutant i is the same in every run; small files have more of them than large ones. STATE says how far an
 * earlier run came: a run that was stopped goes on there. A mutant that ends in anything but success or one
 * sentence, takes longer than SECONDS of the processor's time or more than MEGABYTES is kept beside STATE and
 * is a failure. */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "arrays.h"
#include "base/base.h"
#include "espalier/compress.h"
#include "espalier/model.h"
#include "protobuf.h"
#include "runtime/container.h"

enum {
    SECONDS = 10,
    MEGABYTES = 1024,
    HANGS = 60,
    MOST_FILES = 64,
    ROOM = 4096,
    MOST_IO = 64 << 20,
    SAVE_EVERY = 100
};

typedef struct source {
    const char *path;
    uint8_t *bytes;
    size_t size;
    bool sealed; /* an .espl file */
    double weight;
    int64_t macs; /* of the sound network; -1: not known yet */
} source;

/* What a child says. */
typedef struct answer {
    int64_t macs;
    espl_status status;
    bool leak;
    espl_diag diag;
} answer;

typedef struct worst {
    double most;
    int64_t mutant;
} worst;

typedef struct tally {
    int64_t done, opened, refused, failed;
    worst seconds, megabytes;
} tally;

/* --- in the child: one file -------------------------------------------------------------------------- */

static int64_t session_macs(const espl_session *s) {
    double macs = 0;
    for (int i = 0; i < espl_session_layer_count(s); i++) macs += (double)espl_session_layer(s, i).macs;
    return macs < 1e15 ? (int64_t)macs : (int64_t)1e15;
}

static espl_status run(espl_session *s, espl_diag *diag) {
    int ins = espl_session_input_count(s), n = ins + espl_session_output_count(s);
    espl_tensor *t = calloc((size_t)n + 1, sizeof *t);
    double bytes = 0;
    for (int i = 0; i < n; i++) {
        t[i] = *array_info(s, i);
        if (!array_is_ours(s, i)) continue;
        bytes += (double)espl_shape_count(&t[i].shape) * (double)espl_dtype_bytes(t[i].dtype);
    }
    if (bytes > MOST_IO) return ESPL_OK;
    for (int i = 0; i < n; i++) {
        if (!array_is_ours(s, i)) continue;
        t[i].data = calloc((size_t)espl_shape_count(&t[i].shape) + 1, espl_dtype_bytes(t[i].dtype));
    }
    return espl_session_run(s, t, t + ins, diag); /* the process ends: nothing is freed */
}

static void use(const char *path, int64_t most_macs, answer *a) {
    espl_context *ctx;
    espl_graph *g = NULL;
    espl_session *s = NULL;
    espl_config config = {.threads = 1, .max_memory = (uint64_t)(MEGABYTES - 128) << 20};
    a->status = espl_context_create(&config, &ctx, &a->diag);
    if (a->status != ESPL_OK) return;
    uint64_t before = espl_context_memory(ctx, NULL);
    a->status = espl_graph_read(ctx, path, &g, &a->diag);
    if (a->status == ESPL_OK) a->status = espl_session_create(ctx, g, NULL, &s, &a->diag);
    if (a->status == ESPL_OK) a->macs = session_macs(s);
    if (a->status == ESPL_OK && (most_macs < 0 || a->macs <= most_macs)) a->status = run(s, &a->diag);
    espl_session_destroy(&s);
    espl_graph_destroy(&g);
    a->leak = espl_context_memory(ctx, NULL) != before;
}

/* --- the parent -------------------------------------------------------------------------------------- */

/* Runs a child on the file; false if it died or hung. */
static bool ask(const char *path, int64_t most_macs, answer *a, double *seconds, double *megabytes) {
    int ends[2], status;
    struct rusage used;
    memset(a, 0, sizeof *a);
    if (pipe(ends) != 0) exit(1);
    pid_t child = fork();
    if (child == 0) {
        struct rlimit limit = {HANGS, HANGS};
        (void)setrlimit(RLIMIT_CPU, &limit);
        use(path, most_macs, a);
        _exit(write(ends[1], a, sizeof *a) != sizeof *a);
    }
    close(ends[1]);
    bool told = child > 0 && read(ends[0], a, sizeof *a) == sizeof *a;
    close(ends[0]);
    if (child < 0 || wait4(child, &status, 0, &used) != child) exit(1);
    *seconds = (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
               1e-6 * (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec);
    *megabytes = (double)used.ru_maxrss / 1024;
    return told && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static const char *judge(bool told, const answer *a, double seconds, double megabytes) {
    if (!told) return "the process died or hung";
    if (seconds > SECONDS) return "takes too long";
    if (megabytes > MEGABYTES) return "takes too much memory";
    if (a->leak) return "memory is lost";
    if (a->status == ESPL_OK) return NULL;
    if (espl_status_exit_code(a->status) > 2) return "bad input is taken for a fault of ours";
    if (a->diag.status != a->status || strlen(a->diag.message) < 10 || strpbrk(a->diag.message, "\n\r"))
        return "that is no sentence";
    return NULL;
}

static void seal(uint8_t *file, size_t size) {
    uint64_t length = size - CONTAINER_HEADER;
    uint32_t crc = espl__crc32(file + CONTAINER_HEADER, length);
    memcpy(file + 8, &crc, 4);
    memcpy(file + 12, &length, 8);
}

/* Half of the places lie anywhere, mostly in weights, half where the structure is: at the beginning and the
 * end. */
static size_t place(size_t size, uint64_t *random) {
    uint64_t r = fuzz_random(random) >> 4;
    size_t edge = size < 8192 ? size : 8192;
    if (r & 1) return (size_t)((r >> 2) % size);
    return r & 2 ? (size_t)((r >> 2) % edge) : size - 1 - (size_t)((r >> 2) % edge);
}

/* Of an ONNX file mostly its messages, one to four of them, are damaged; else bytes, or it is cut off. */
static size_t damage(const source *f, uint8_t *copy, uint64_t *random, char *what, size_t room) {
    size_t size = f->size;
    uint64_t r = fuzz_random(random) >> 8;
    int times = 1 + (int)(r % 8 == 0) * (int)(r / 8 % 4);
    memcpy(copy, f->bytes, size);
    if (r % 100 < 10) {
        size = place(size, random);
        snprintf(what, room, "cut to %zu bytes", size);
    } else if (f->sealed || r % 100 < 25) {
        for (int i = 0; i < times; i++) {
            size_t at = place(size, random);
            copy[at] ^= (uint8_t)(1 + (fuzz_random(random) >> 8) % 255);
            snprintf(what, room, "byte %zu and %d more", at, i);
        }
    } else {
        for (int i = 0; i < times; i++)
            size = protobuf_mutate(copy, size, f->size + ROOM, random, what, room);
    }
    if (f->sealed && size >= CONTAINER_HEADER && r % 16) seal(copy, size);
    return size;
}

static void put(const char *path, const uint8_t *bytes, size_t size) {
    (void)unlink(path);
    FILE *f = fopen(path, "wb");
    if (f && fwrite(bytes, 1, size, f) == size && fclose(f) == 0) return;
    printf("FAILED: %s cannot be written\n", path);
    exit(1);
}

static void note(worst *w, double value, int64_t mutant) {
    if (value > w->most) *w = (worst){value, mutant};
}

static void save(const char *path, const tally *t) {
    char text[300];
    int n = snprintf(text, sizeof text,
                     "%" PRId64 " %" PRId64 " %" PRId64 " %" PRId64 " %g %" PRId64 " %g %" PRId64 "\n",
                     t->done, t->opened, t->refused, t->failed, t->seconds.most, t->seconds.mutant,
                     t->megabytes.most, t->megabytes.mutant);
    put(path, (const uint8_t *)text, (size_t)n);
}

static void restore(const char *path, tally *t) {
    FILE *f = fopen(path, "r");
    if (!f) return;
    int n = fscanf(f, "%" SCNd64 " %" SCNd64 " %" SCNd64 " %" SCNd64 " %lg %" SCNd64 " %lg %" SCNd64,
                   &t->done, &t->opened, &t->refused, &t->failed, &t->seconds.most, &t->seconds.mutant,
                   &t->megabytes.most, &t->megabytes.mutant);
    fclose(f);
    if (n != 8) *t = (tally){0};
}

/* Which file mutant i is of: the same whatever COUNT is. */
static source *choose(source *files, int count, uint64_t *random) {
    double all = 0, at;
    for (int i = 0; i < count; i++) all += files[i].weight;
    at = (double)(fuzz_random(random) >> 11) / 9007199254740992.0 * all;
    for (int i = 0; i < count - 1; i++)
        if ((at -= files[i].weight) < 0) return &files[i];
    return &files[count - 1];
}

static void one(source *f, int64_t index, const char *state, uint64_t *random, uint8_t *copy, tally *t) {
    char path[600], what[200] = "";
    answer a;
    double seconds, megabytes;
    snprintf(path, sizeof path, "%s.mutant", state);
    if (f->macs < 0) { /* the sound file first */
        put(path, f->bytes, f->size);
        bool told = ask(path, -1, &a, &seconds, &megabytes);
        if (!told || a.status != ESPL_OK)
            printf("FAILED %s: does not run undamaged: %s\n", f->path, a.diag.message);
        if (!told || a.status != ESPL_OK) t->failed++;
        f->macs = a.macs;
    }
    size_t size = damage(f, copy, random, what, sizeof what);
    put(path, copy, size);
    bool told = ask(path, 2 * f->macs, &a, &seconds, &megabytes);
    const char *wrong = judge(told, &a, seconds, megabytes);
    if (told && a.status == ESPL_OK)
        t->opened++;
    else
        t->refused++;
    note(&t->seconds, seconds, index);
    note(&t->megabytes, megabytes, index);
    if (wrong) {
        char kept[640];
        snprintf(kept, sizeof kept, "%s.failed%" PRId64, state, index);
        if (rename(path, kept) != 0) snprintf(kept, sizeof kept, "nowhere");
        printf("FAILED mutant %" PRId64 " of %s (%s): %s: %.2f s, %.0f MB, %s; kept as %s\n", index, f->path,
               what, wrong, seconds, megabytes, a.diag.message, kept);
        fflush(stdout);
        t->failed++;
    }
    unlink(path);
}

static void load(source *f, const char *path) {
    FILE *in = fopen(path, "rb");
    long size = in && fseek(in, 0, SEEK_END) == 0 ? ftell(in) : -1;
    *f = (source){.path = path, .size = size > 0 ? (size_t)size : 0, .macs = -1};
    f->bytes = malloc(f->size + 1);
    if (in) rewind(in);
    if (!in || !f->bytes || fread(f->bytes, 1, f->size, in) != f->size || f->size == 0) {
        printf("FAILED: %s cannot be read\n", path);
        exit(1);
    }
    fclose(in);
    f->sealed = espl_model_probe(path);
    /* Time goes with size: as many seconds for a large file as for a small one would leave no time for
     * structure. */
    f->weight = 1 / (1e5 + (double)f->size);
}

int main(int argc, char **argv) {
    static source files[MOST_FILES];
    tally t = {0};
    size_t largest = 0;
    if (argc < 4 || argc - 3 > MOST_FILES) {
        fprintf(stderr, "mutants COUNT STATE FILE...\n");
        return 2;
    }
    setenv("ESPL_TUNE", "0", 1);
    int64_t count = strtoll(argv[1], NULL, 10);
    for (int i = 3; i < argc; i++) {
        load(&files[i - 3], argv[i]);
        largest = ESPL_MAX(largest, files[i - 3].size);
    }
    uint8_t *copy = malloc(largest + ROOM);
    restore(argv[2], &t);
    while (copy && t.done < count) {
        uint64_t random = espl__mix64((uint64_t)t.done + 1) | 1;
        source *f = choose(files, argc - 3, &random);
        one(f, t.done, argv[2], &random, copy, &t);
        if (++t.done % SAVE_EVERY == 0 || t.done == count) save(argv[2], &t);
    }
    printf("%" PRId64 " mutants: %" PRId64 " run, %" PRId64 " refused; worst %.2f s (mutant %" PRId64
           "), %.0f MB (mutant %" PRId64 ")\n",
           t.done, t.opened, t.refused, t.seconds.most, t.seconds.mutant, t.megabytes.most,
           t.megabytes.mutant);
    printf("%" PRId64 " passed, %" PRId64 " failed, 0 skipped\n", t.done - t.failed, t.failed);
    return t.failed > 0;
}
