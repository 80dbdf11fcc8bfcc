/* Runs a target over files and folders of files, where there is no libFuzzer: replay FILE-OR-FOLDER... */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"

static int done;

static void run_file(const char *path) {
    FILE *f = fopen(path, "rb");
    fuzz_expect(f && fseek(f, 0, SEEK_END) == 0, path);
    long size = ftell(f);
    uint8_t *data = malloc((size_t)size + 1);
    rewind(f);
    fuzz_expect(data && fread(data, 1, (size_t)size, f) == (size_t)size, path);
    fclose(f);
    printf("%s\n", path); /* the last one is the one that failed */
    fflush(stdout);
    uint8_t *exact =
        realloc(data, size ? (size_t)size : 1); /* so that a byte too far is one that is not ours */
    LLVMFuzzerTestOneInput(exact ? exact : data, (size_t)size);
    free(exact ? exact : data);
    done++;
}

static void run(const char *path) {
    DIR *dir = opendir(path);
    if (!dir && errno == ENOENT) return; /* not every kind has traps */
    if (!dir) {
        run_file(path);
        return;
    }
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        char file[1024];
        if (entry->d_name[0] == '.') continue;
        snprintf(file, sizeof file, "%s/%s", path, entry->d_name);
        run_file(file);
    }
    closedir(dir);
}

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) run(argv[i]);
    printf("%d passed, %d failed, 0 skipped\n", done, done == 0);
    return done == 0;
}
