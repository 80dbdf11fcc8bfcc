/* Damaged model files: every truncation and every flipped byte must end in a network that runs or in one sentence, and
 * all memory must come back. Meant for the address and undefined-behaviour sanitizers.
 *
 *   mutate [--truncations N] [--flips N] [--seed S] FILE...     .onnx or .espl
 *
 * Each file counts as one test. */
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "arrays.h"
#include "espalier/compress.h"
#include "espalier/model.h"

/* No file may ask for more than this at once, or hold the program for longer. */
#define MAX_ALLOC ((uint64_t)1 << 30)
enum { MAX_SECONDS = 60, ESPL_HEADER = 20 };

typedef struct job {
    espl_context *ctx;
    const char *file; /* the sound one */
    char path[256];   /* where mutants are put */
    uint8_t *bytes;
    long size;
    bool sealed; /* it is an .espl file */
    int64_t macs; /* of the sound network: a mutant that needs much more is not run */
    int sound, refused, failures;
    uint64_t random;
} job;

static uint64_t next_random(job *j) { /* xorshift64*, Marsaglia 2003 and Vigna 2016 */
    j->random ^= j->random >> 12;
    j->random ^= j->random << 25;
    j->random ^= j->random >> 27;
    return j->random * 0x2545F4914F6CDD1Du;
}

static bool put(const char *path, const uint8_t *bytes, long size) {
    FILE *f = fopen(path, "wb");
    if (!f) return false;
    bool good = fwrite(bytes, 1, (size_t)size, f) == (size_t)size;
    return fclose(f) == 0 && good;
}

/* CRC-32 of ISO 3309, bit by bit. */
static uint32_t crc32_of(const uint8_t *bytes, long length) {
    uint32_t crc = 0xFFFFFFFFu;
    for (long i = 0; i < length; i++) {
        crc ^= bytes[i];
        for (int k = 0; k < 8; k++) crc = crc >> 1 ^ (0xEDB88320u & -(crc & 1));
    }
    return ~crc;
}

/* Gives a damaged .espl file the length and checksum that belong to it, so that the reader has to look further
 * (docs/format.md: checksum at byte 8, length of what follows the header at byte 12). */
static void seal(uint8_t *bytes, long size) {
    if (size < ESPL_HEADER) return;
    uint64_t rest = (uint64_t)(size - ESPL_HEADER);
    uint32_t crc = crc32_of(bytes + ESPL_HEADER, size - ESPL_HEADER);
    for (int i = 0; i < 4; i++) bytes[8 + i] = (uint8_t)(crc >> 8 * i);
    for (int i = 0; i < 8; i++) bytes[12 + i] = (uint8_t)(rest >> 8 * i);
}

static int64_t session_macs(const espl_session *session) {
    int64_t macs = 0;
    for (int i = 0; i < espl_session_layer_count(session); i++) {
        int64_t more = espl_session_layer(session, i).macs;
        if (more < 0 || more > INT64_MAX - macs) return INT64_MAX;
        macs += more;
    }
    return macs;
}

/* Runs on zeros. */
static espl_status run(espl_session *session, espl_diag *diag) {
    espl_status status = ESPL_NOMEM;
    int ins = espl_session_input_count(session), outs = espl_session_output_count(session), n = ins + outs;
    espl_tensor *t = calloc((size_t)n + 1, sizeof *t);
    if (!t) return status;
    for (int i = 0; i < n; i++) {
        t[i] = *array_info(session, i);
        if (!array_is_ours(session, i)) continue;
        int64_t count = espl_shape_count(&t[i].shape);
        t[i].data = count >= 0 ? calloc((size_t)count + 1, espl_dtype_bytes(t[i].dtype)) : NULL;
        if (!t[i].data) goto done;
    }
    status = espl_session_run(session, t, t + ins, diag);
done:
    for (int i = 0; i < n; i++)
        if (array_is_ours(session, i)) free(t[i].data);
    free(t);
    return status;
}

/* Reads, lowers and runs the file at j->path. */
static espl_status use(job *j, espl_diag *diag) {
    espl_graph *graph = NULL;
    espl_session *session = NULL;
    espl_status status = espl_graph_read(j->ctx, j->path, &graph, diag);
    if (status != ESPL_OK) goto done;
    status = espl_session_create(j->ctx, graph, NULL, &session, diag);
    if (status != ESPL_OK) goto done;
    int64_t macs = session_macs(session);
    if (j->macs < 0) j->macs = macs;
    if (macs <= j->macs * 2) status = run(session, diag);
done:
    espl_session_destroy(&session);
    espl_graph_destroy(&graph);
    return status;
}

static void complain(job *j, const char *mutant, const char *what, const espl_diag *diag) {
    j->failures++;
    printf("FAILED %s, %s: %s (%s: %s)\n", j->file, mutant, what, espl_status_name(diag->status), diag->message);
}

/* Judges the mutant that lies at j->path; returns the status. */
static espl_status judge(job *j, const char *mutant) {
    espl_diag diag = {0};
    uint64_t before = espl_context_memory(j->ctx, NULL);
    struct timespec begin, end;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    espl_status status = use(j, &diag);
    clock_gettime(CLOCK_MONOTONIC, &end);
    if (status == ESPL_OK)
        j->sound++;
    else
        j->refused++;
    if (espl_context_memory(j->ctx, NULL) != before) complain(j, mutant, "memory is lost", &diag);
    if (end.tv_sec - begin.tv_sec > MAX_SECONDS) complain(j, mutant, "takes too long", &diag);
    if (status != ESPL_OK) {
        /* More memory than the limit is bad input too: the command line says 2 or, out of memory, 3. */
        if (espl_status_exit_code(status) > 2 && status != ESPL_NOMEM) complain(j, mutant, "is our fault", &diag);
        if (diag.status != status) complain(j, mutant, "status and sentence differ", &diag);
        if (strlen(diag.message) < 10) complain(j, mutant, "has no sentence", &diag);
        if (strpbrk(diag.message, "\n\r\x1b")) complain(j, mutant, "has more than a sentence", &diag);
    }
    return status;
}

static bool load(job *j) {
    FILE *f = fopen(j->file, "rb");
    if (!f || fseek(f, 0, SEEK_END) != 0 || (j->size = ftell(f)) <= 0) goto bad;
    rewind(f);
    j->bytes = malloc((size_t)j->size);
    if (!j->bytes || fread(j->bytes, 1, (size_t)j->size, f) != (size_t)j->size) goto bad;
    fclose(f);
    return true;
bad:
    if (f) fclose(f);
    printf("FAILED %s: cannot be read: %s\n", j->file, strerror(errno));
    return false;
}

/* Half of the places lie anywhere (mostly in weights), half in the first or last 8 KB, where the structure is. */
static long place(job *j) {
    uint64_t r = next_random(j);
    long edge = j->size < 8192 ? j->size : 8192;
    if (r & 1) return (long)((r >> 2) % (uint64_t)j->size);
    return r & 2 ? (long)((r >> 2) % (uint64_t)edge) : j->size - 1 - (long)((r >> 2) % (uint64_t)edge);
}

/* Tries the first `size` bytes; of an .espl file mostly with a checksum that fits. */
static void try_mutant(job *j, long size, const char *mutant) {
    uint8_t header[ESPL_HEADER];
    bool resealed = j->sealed && size >= ESPL_HEADER && next_random(j) % 8 != 0;
    memcpy(header, j->bytes, resealed ? sizeof header : 0);
    if (resealed) seal(j->bytes, size);
    if (put(j->path, j->bytes, size)) judge(j, mutant);
    memcpy(j->bytes, header, resealed ? sizeof header : 0);
}

static bool check_file(job *j, int truncations, int flips) {
    char mutant[64];
    if (!load(j)) return false;
    j->sealed = espl_model_probe(j->file);
    j->macs = -1;
    if (!put(j->path, j->bytes, j->size) || judge(j, "undamaged") != ESPL_OK) {
        printf("FAILED %s: does not even run undamaged\n", j->file);
        j->failures++;
    }
    for (int i = 0; i < truncations; i++) {
        long size = i < truncations / 2 ? j->size * i / (truncations / 2) : place(j);
        snprintf(mutant, sizeof mutant, "first %ld bytes", size);
        try_mutant(j, size, mutant);
    }
    for (int i = 0; i < flips; i++) {
        long at = place(j);
        uint8_t old = j->bytes[at], new = (uint8_t)(next_random(j) >> 24);
        snprintf(mutant, sizeof mutant, "byte %ld from 0x%02x to 0x%02x", at, old, new);
        j->bytes[at] = new;
        try_mutant(j, j->size, mutant);
        j->bytes[at] = old;
    }
    free(j->bytes);
    j->bytes = NULL;
    printf("%s: %d mutants run, %d are refused, %d complaints\n", j->file, j->sound, j->refused, j->failures);
    return j->failures == 0 && j->refused > 0;
}

int main(int argc, char **argv) {
    int truncations = 100, flips = 1000, passed = 0, failed = 0;
    uint64_t seed = 1;
    espl_context *ctx;
    espl_config config = {.threads = 1, .max_alloc = MAX_ALLOC};
    if (espl_context_create(&config, &ctx, NULL) != ESPL_OK) return 1;
    char folder[] = "/tmp/espl_mutate_XXXXXX";
    if (!mkdtemp(folder)) return 1;
    for (int i = 1; i < argc; i++) {
        bool more = i + 1 < argc;
        if (more && strcmp(argv[i], "--truncations") == 0) {
            truncations = atoi(argv[++i]);
        } else if (more && strcmp(argv[i], "--flips") == 0) {
            flips = atoi(argv[++i]);
        } else if (more && strcmp(argv[i], "--seed") == 0) {
            seed = strtoull(argv[++i], NULL, 10);
        } else {
            job j = {.ctx = ctx, .file = argv[i], .random = seed * 0x9E3779B97F4A7C15u + 1};
            snprintf(j.path, sizeof j.path, "%s/model", folder);
            if (check_file(&j, truncations, flips))
                passed++;
            else
                failed++;
            remove(j.path);
            fflush(stdout);
        }
    }
    rmdir(folder);
    espl_context_destroy(&ctx);
    printf("%d passed, %d failed, 0 skipped\n", passed, failed);
    return failed ? 1 : 0;
}
