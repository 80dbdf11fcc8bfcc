#define _GNU_SOURCE
#include "fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "espalier/context.h"

/* Enough for any file of a corpus: what asks for more is refused, and must not have taken it before. */
#define MOST_AT_ONCE ((uint64_t)16 << 20)
#define MOST_MEMORY ((uint64_t)48 << 20)

enum { MOST_FILES = 4 };
static char folder[200];
static char paths[MOST_FILES][300];

static void remove_folder(void) {
    for (int i = 0; i < MOST_FILES && paths[i][0]; i++) unlink(paths[i]);
    rmdir(folder);
}

static void make_folder(void) {
    const char *temporary = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/espl_fuzz_XXXXXX", temporary ? temporary : "/tmp");
    fuzz_expect(mkdtemp(folder) != NULL, "a folder for temporary files");
    atexit(remove_folder);
}

const char *fuzz_file(const char *name, const void *data, size_t size) {
    char path[sizeof paths[0]];
    int i = 0;
    if (!folder[0]) make_folder();
    snprintf(path, sizeof path, "%s/%s", folder, name);
    while (i < MOST_FILES && paths[i][0] && strcmp(paths[i], path) != 0) i++;
    fuzz_expect(i < MOST_FILES, "more files than there is room for");
    memcpy(paths[i], path, sizeof path);
    unlink(path); /* a file that is written over is flushed by some file systems */
    FILE *f = fopen(path, "wb");
    bool good = f && fwrite(data, 1, size, f) == size;
    fuzz_expect(f && fclose(f) == 0 && good, "a temporary file");
    return paths[i];
}

void fuzz_expect(bool good, const char *what) {
    if (good) return;
    fprintf(stderr, "FAILED: %s\n", what);
    abort();
}

void fuzz_judge(espl_status status, const espl_diag *diag) {
    if (status == ESPL_OK) return;
    int code = espl_status_exit_code(status);
    bool good = code == 1 || code == 2;
    good &= diag->status == status && strlen(diag->message) >= 10 && !strpbrk(diag->message, "\n\r\x1b");
    if (good) return;
    fprintf(stderr, "FAILED: status %s, sentence (%s) '%s'\n", espl_status_name(status),
            espl_status_name(diag->status), diag->message);
    abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static espl_context *ctx;
    espl_config config = {.threads = 1, .max_alloc = MOST_AT_ONCE, .max_memory = MOST_MEMORY};
    if (!ctx) {
        setenv("ESPL_TUNE", "0", 1); /* a choice by the clock is another path each time */
        fuzz_expect(espl_context_create(&config, &ctx, NULL) == ESPL_OK, "a context");
    }
    uint64_t before = espl_context_memory(ctx, NULL);
    fuzz_target(ctx, data, size);
    fuzz_expect(espl_context_memory(ctx, NULL) == before, "memory is lost");
    return 0;
}
