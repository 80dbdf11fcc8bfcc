/* Data sets described by a text, in a folder that goes when the tests end; nothing may be left allocated. */
#ifndef DATA_RIG_H
#define DATA_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/base.h"
#include "espalier/data.h"

#define FIXTURES ESPL_SOURCE_DIR "/tests/fixtures/"

static espl_context *ctx;
static uint64_t at_start;
static char folder[] = "/tmp/espl_data_XXXXXX";
static char *assets;

static inline int setup(void **state) {
    (void)state;
    const char *given = getenv("ESPL_ASSETS");
    assets = strdup(given ? given : ESPL_SOURCE_DIR "/../shared");
    setenv("ESPL_ASSETS", assets, 1);
    if (espl_context_create(NULL, &ctx, NULL) != ESPL_OK || !mkdtemp(folder)) return -1;
    at_start = espl_context_memory(ctx, NULL);
    return 0;
}

static inline int teardown(void **state) {
    (void)state;
    bool leak = espl_context_memory(ctx, NULL) != at_start;
    espl__dir_abort(ctx, folder); /* removes a folder of plain files */
    espl_context_destroy(&ctx);
    free(assets);
    return leak ? -1 : 0;
}

static inline const char *in_folder(const char *name) {
    static char path[2][256];
    static int turn;
    turn = !turn;
    snprintf(path[turn], sizeof path[turn], "%s/%s", folder, name);
    return path[turn];
}

static inline void write_file(const char *name, const void *bytes, size_t length) {
    FILE *file = fopen(in_folder(name), "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, length, file), length);
    fclose(file);
}

static inline espl_status try_text(const char *text, espl_dataset **d, espl_diag *diag) {
    write_file("set.yaml", text, strlen(text));
    return espl_dataset_open(ctx, in_folder("set.yaml"), d, diag);
}

static inline espl_dataset *open_text(const char *text) {
    espl_dataset *d;
    espl_diag diag = {0};
    if (try_text(text, &d, &diag) != ESPL_OK) fail_msg("%s", diag.message);
    return d;
}

#endif
