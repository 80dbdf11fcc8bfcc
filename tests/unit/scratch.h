/* A file of a test's own, in a folder that nobody else can have made. */
#ifndef SCRATCH_H
#define SCRATCH_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SCRATCH_PATH = 512 };

/* Makes the folder and says where in it the file of this name will be. */
static inline bool scratch_begin(char path[SCRATCH_PATH], const char *name) {
    const char *temporary = getenv("TMPDIR");
    int n = snprintf(path, SCRATCH_PATH, "%s/espl_test_XXXXXX", temporary ? temporary : "/tmp");
    if (n < 0 || (size_t)n + strlen(name) + 2 > SCRATCH_PATH || !mkdtemp(path)) return false;
    snprintf(path + n, SCRATCH_PATH - (size_t)n, "/%s", name);
    return true;
}

/* Removes both. */
static inline void scratch_end(char path[SCRATCH_PATH]) {
    (void)unlink(path);
    *strrchr(path, '/') = 0;
    (void)rmdir(path);
}

#endif
