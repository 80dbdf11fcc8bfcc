/* Integers that must be the same on every processor, compiler and instruction set: checksums of weight codes,
 * of .espl files and of what quantized networks give. tests/golden/expected.txt was made on x86-64 by
 *
 *   golden > tests/golden/expected.txt
 *   golden tests/golden/expected.txt     compares
 *
 * and is made anew only when an encoding or its arithmetic is meant to change. The kernels' own are checkkern
 * --golden. */
#define _GNU_SOURCE
#include "graph_oracle.h"

#include <dirent.h>
#include <unistd.h>

#include "compress/compress.h"
#include "espalier/compress.h"
#include "espalier/model.h"
#include "espalier/onnx.h"

#define SOURCE ESPL_SOURCE_DIR "/"

static FILE *expected;
static int passed, failed;
static char folder[] = "/tmp/espl_golden_XXXXXX";

static void die(const char *what, const espl_diag *diag) {
    fprintf(stderr, "golden: %s: %s\n", what, diag->message);
    exit(2);
}

/* --- checksums --------------------------------------------------------------------------------------- */

static uint64_t add_bytes(uint64_t h, const void *data, size_t count) {
    const uint8_t *p = data;
    for (size_t i = 0; i < count; i++) h = (h ^ p[i]) * 1099511628211u;
    return h;
}
static const uint64_t none = 14695981039346656037u;

static uint64_t sum_of_file(const char *path) {
    char buf[4096];
    uint64_t h = none;
    FILE *f = fopen(path, "rb");
    if (!f) die(path, &(espl_diag){.message = "was not written"});
    for (size_t n; (n = fread(buf, 1, sizeof buf, f)) > 0;) h = add_bytes(h, buf, n);
    (void)fclose(f);
    return h;
}

/* The checksum that the file has for this name; 0 if none. */
static uint64_t expected_of(const char *row) {
    char name[128];
    unsigned long long sum;
    rewind(expected);
    while (fscanf(expected, "%127s %llx", name, &sum) == 2)
        if (strcmp(name, row) == 0) return sum;
    return 0;
}

/* Prints or compares one row; `where` is the instruction set. */
static void row(const char *name, uint64_t sum, const char *where) {
    if (!expected) {
        printf("%s %016llx\n", name, (unsigned long long)sum);
    } else if (sum == expected_of(name)) {
        passed++;
    } else {
        printf("FAILED: %s%s%s: %016llx is not the checksum in the list\n", name, *where ? " with " : "",
               where, (unsigned long long)sum);
        failed++;
    }
}

/* --- sessions: every instruction set, one thread and two --------------------------------------------- */

static uint64_t sum_of_run(espl_context *ctx, const espl_graph *g, espl__cpu level) {
    espl_session *s = session_at(ctx, g, level);
    run_io io = io_of(s, 11);
    uint64_t h = none;
    run_session(s, &io);
    for (int i = 0; i < io.outputs; i++) h = add_bytes(h, io.out[i].data, bytes_of(&io.out[i]));
    io_free(&io);
    espl_session_destroy(&s);
    return h;
}

/* One row for every instruction set; when the list is made, of the best only. */
static void run_rows(const char *name, const espl_graph *g) {
    for (int level = expected ? 0 : (int)espl__cpu_level(); level <= (int)espl__cpu_level(); level++) {
        if (!espl__cpu_has((espl__cpu)level)) continue;
        espl_context *ctx = new_context(1 + level % 2);
        espl_graph *own = NULL;
        espl_diag diag = {0};
        if (espl__graph_clone(g, &own, &diag) != ESPL_OK) die(name, &diag);
        row(name, sum_of_run(ctx, own, (espl__cpu)level), espl__cpu_level_name((espl__cpu)level));
        espl_graph_destroy(&own);
        espl_context_destroy(&ctx);
    }
}

/* --- weights ----------------------------------------------------------------------------------------- */

static void weight_row(espl_context *ctx, const espl_tensor *w, const char *kind,
                       const espl__weight_plan *plan) {
    char name[128];
    espl_graph *g = NULL;
    espl_diag diag = {0};
    espl__quant grid;
    if (espl__graph_create(ctx, &g, &diag) != ESPL_OK) die("weights", &diag);
    assert_true(espl__weight_grid(g, w, plan, &grid));
    const espl_tensor *codes = espl__weight_codes(g, w, &grid, plan);
    assert_non_null(codes);
    uint64_t h = add_bytes(none, codes->data, bytes_of(codes));
    h = add_bytes(h, grid.scale, sizeof *grid.scale * (size_t)grid.count);
    if (grid.offset) h = add_bytes(h, grid.offset, sizeof *grid.offset * (size_t)grid.count);
    snprintf(name, sizeof name, "weights/%s/%s", espl_format_name(plan->format), kind);
    row(name, h, "");
    espl_graph_destroy(&g);
}

static void weights(espl_context *ctx) {
    espl_tensor w;
    espl_diag diag = {0};
    if (espl_npy_read(ctx, SOURCE "tests/fixtures/formats/weights.npy", &w, &diag) != ESPL_OK)
        die("weights", &diag);
    for (int f = 0; f < ESPL_FORMAT_COUNT; f++) {
        if (espl__format_is_float((espl_format)f) || f == ESPL_FORMAT_S32) continue;
        espl__weight_plan plan = {.format = (espl_format)f, .axis = 0, .seed = 5};
        weight_row(ctx, &w, "channel", &plan);
        plan.round = ESPL__ROUND_STOCHASTIC;
        weight_row(ctx, &w, "stochastic", &plan);
        plan.round = ESPL__ROUND_NEAREST;
        plan.fit = ESPL__FIT_MSE;
        weight_row(ctx, &w, "mse", &plan);
        plan.fit = ESPL__FIT_MAX;
        plan.pow2 = true;
        weight_row(ctx, &w, "pow2", &plan);
        plan.pow2 = false;
        plan.group = 16, plan.group_axis = 1;
        weight_row(ctx, &w, "groups", &plan);
    }
    espl_tensor_free(ctx, &w);
}

/* --- networks that come quantized: read, written, run ------------------------------------------------ */

static void read_row(espl_context *ctx, const char *path) {
    char name[128], file[64];
    espl_graph *g = NULL;
    espl_diag diag = {0};
    if (espl_graph_read(ctx, path, &g, &diag) != ESPL_OK) die(path, &diag);
    snprintf(file, sizeof file, "%s/read.espl", folder);
    if (espl_model_write(ctx, g, file, &diag) != ESPL_OK) die(path, &diag);
    snprintf(name, sizeof name, "read/%s", strrchr(path, '/') + 1);
    row(name, sum_of_file(file), "");
    (void)unlink(file);
    snprintf(name, sizeof name, "run/%s", strrchr(path, '/') + 1);
    run_rows(name, g);
    espl_graph_destroy(&g);
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* All files of a folder that end so, in the order of their names. */
static void each_file(espl_context *ctx, const char *where, const char *end,
                      void (*visit)(espl_context *, const char *)) {
    char *paths[64];
    int count = 0;
    DIR *d = opendir(where);
    if (!d) die(where, &(espl_diag){.message = "cannot be listed"});
    for (struct dirent *e; (e = readdir(d)) && count < 64;) {
        size_t n = strlen(e->d_name), m = strlen(end);
        if (n <= m || strcmp(e->d_name + n - m, end) != 0) continue;
        assert_true(asprintf(&paths[count++], "%s/%s", where, e->d_name) > 0);
    }
    (void)closedir(d);
    qsort(paths, (size_t)count, sizeof *paths, by_name);
    for (int i = 0; i < count; i++) {
        visit(ctx, paths[i]);
        free(paths[i]);
    }
}

/* --- compression: no timing decides on a chip that is not this machine, and a recipe leaves nothing to
 * decide -------- */

static void compress_row(espl_context *ctx, const char *recipe, const char *data) {
    char name[160], file[64];
    espl_graph *g = NULL;
    espl_chip *chip = NULL;
    espl_dataset *set = NULL;
    espl_result *result = NULL;
    espl_diag diag = {0};
    if (espl_graph_read(ctx, SOURCE "examples/digits.onnx", &g, &diag) != ESPL_OK) die("digits", &diag);
    if (espl_chip_load(ctx, "cortex-a76", &chip, &diag) != ESPL_OK) die("chip", &diag);
    if (data && espl_dataset_open(ctx, data, &set, &diag) != ESPL_OK) die(data, &diag);
    const espl_compress_options options = {.chip = chip,
                                           .calib = set,
                                           .calib_count = 16,
                                           .max_drop = 100,
                                           .goal = -1,
                                           .flavour = -1,
                                           .recipe = recipe};
    if (espl_compress(ctx, g, &options, &result, &diag) != ESPL_OK) die(recipe, &diag);
    snprintf(file, sizeof file, "%s/compressed.espl", folder);
    if (espl_model_write(ctx, result->graph, file, &diag) != ESPL_OK) die(recipe, &diag);
    snprintf(name, sizeof name, "compress/%s", strrchr(recipe, '/') + 1);
    row(name, sum_of_file(file), "");
    (void)unlink(file);
    snprintf(name, sizeof name, "compressed/%s", strrchr(recipe, '/') + 1);
    run_rows(name, result->graph);
    espl_result_destroy(&result);
    espl_dataset_close(&set);
    espl_chip_destroy(&chip);
    espl_graph_destroy(&g);
}

static void recipe_row(espl_context *ctx, const char *path) {
    compress_row(ctx, path, SOURCE "tests/fuzz/few.yaml");
}

/* --- random networks in integers --------------------------------------------------------------------- */

static void graphs(espl_context *ctx) {
    enum { GROUPS = 8, EACH = 12 };
    for (int group = 0; group < GROUPS; group++)
        for (int level = expected ? 0 : (int)espl__cpu_level(); level <= (int)espl__cpu_level(); level++) {
            if (!espl__cpu_has((espl__cpu)level)) continue;
            char name[32];
            uint64_t h = none;
            for (int i = 0; i < EACH; i++) {
                random_graph x;
                random_quantized_graph(&x, ctx, 5000000 + (uint64_t)(group * EACH + i), 100);
                uint64_t sum = sum_of_run(ctx, x.r.g, (espl__cpu)level);
                h = add_bytes(h, &sum, sizeof sum);
                espl_graph_destroy(&x.r.g);
            }
            snprintf(name, sizeof name, "graphs/%d", group);
            row(name, h, espl__cpu_level_name((espl__cpu)level));
        }
}

int main(int argc, char **argv) {
    if (argc > 1 && !(expected = fopen(argv[1], "r"))) {
        perror(argv[1]);
        return 2;
    }
    if (!mkdtemp(folder)) return 2;
    espl_context *ctx = new_context(1);
    weights(ctx);
    each_file(ctx, SOURCE "tests/fixtures/lowbit", ".onnx", read_row);
    each_file(ctx, SOURCE "tests/fixtures/rounded", ".onnx", read_row);
    each_file(ctx, SOURCE "tests/fixtures/container", ".espl", read_row);
    each_file(ctx, SOURCE "recipes", ".yaml", recipe_row);
    graphs(ctx);
    espl_context_destroy(&ctx);
    (void)rmdir(folder);
    if (expected) printf("%d passed, %d failed, 0 skipped\n", passed, failed);
    return failed != 0;
}
