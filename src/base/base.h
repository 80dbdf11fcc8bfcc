/* Floor 0 for the floors above: diagnostics, memory, text, random numbers, files.
 * Nothing here prints, exits or aborts. */
#ifndef ESPL_BASE_H
#define ESPL_BASE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "espalier/context.h"

#define ESPL_COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define ESPL_MIN(a, b) ((a) < (b) ? (a) : (b))
#define ESPL_MAX(a, b) ((a) > (b) ? (a) : (b))
/* Runs an expression that returns a status and leaves through `label` with `status` set if it failed. */
#define ESPL_TRY(expr)                    \
    do {                                  \
        status = (expr);                  \
        if (status != ESPL_OK) goto done; \
    } while (0)

/* --- diagnostics ------------------------------------------------------------------------ */

/* Stores the sentence (unless one is there already) and returns `status`. */
espl_status espl__fail(espl_diag *diag, espl_status status, const char *fmt, ...) ESPL_PRINTF(3, 4);
/* Puts "<prefix>: " before the sentence that is there: a file or a node that only the caller knows. */
void espl__diag_prefix(espl_diag *diag, const char *fmt, ...) ESPL_PRINTF(2, 3);
/* The same with a file's name, unless the sentence has it. */
void espl__diag_name_file(espl_diag *diag, const char *file);
/* To be called where espl__alloc just failed: ESPL_NOMEM, or ESPL_LIMIT if that was for a limit of the context. */
espl_status espl__nomem(espl_diag *diag, uint64_t bytes);
void espl__log(espl_context *ctx, espl_log_level level, const char *fmt, ...) ESPL_PRINTF(3, 4);

/* --- memory ----------------------------------------------------------------------------- */

/* 64-byte aligned; NULL when there is none left or the context's limit is passed; bytes = 0 gives a valid
 * pointer. Free with espl__free (NULL is fine). calloc zeroes and checks the product. */
void *espl__alloc(espl_context *ctx, uint64_t bytes);
void *espl__calloc(espl_context *ctx, uint64_t count, uint64_t size);
/* Grows a buffer of `used` bytes to `bytes`; the old one stays valid if NULL is returned. */
void *espl__realloc(espl_context *ctx, void *ptr, uint64_t used, uint64_t bytes);
void espl__free(espl_context *ctx, void *ptr);
/* Bytes that one allocation of this context may have at most. */
uint64_t espl__max_alloc(const espl_context *ctx);
/* What the context would still give: a bound for libraries that allocate by themselves. */
uint64_t espl__memory_left(const espl_context *ctx);

/* An arena: many small objects that die together. Memory is zeroed and 16-byte aligned (64 from 256 bytes
 * up). */
typedef struct espl__arena {
    espl_context *ctx;
    struct espl__arena_block *blocks;
} espl__arena;
void espl__arena_init(espl__arena *arena, espl_context *ctx);
void *espl__arena_alloc(espl__arena *arena, uint64_t bytes);
/* The same without the zeroes, for what is written whole. */
void *espl__arena_raw(espl__arena *arena, uint64_t bytes);
/* Takes memory for about so many bytes at once, if there is any: fewer blocks, and large pages where there
 * are. */
void espl__arena_reserve(espl__arena *arena, uint64_t bytes);
char *espl__arena_strdup(espl__arena *arena, const char *text);
char *espl__arena_strndup(espl__arena *arena, const char *text, size_t length);
void espl__arena_free(espl__arena *arena);

/* Buffers of one workspace, each alive from `first` to `last` on some time line: sets their offsets so that none
 * overlaps another alive at the same time, and what all take together. Stops beyond `most` bytes: *total is then
 * larger than that. No sum overflows while most <= 2^62. */
typedef struct espl__span {
    uint64_t bytes, offset;
    int first, last;
} espl__span;
ESPL_NODISCARD espl_status espl__place(espl_context *ctx, espl__span *spans, int count, uint64_t most,
                                       uint64_t *total, espl_diag *diag);

/* A growing byte string, for writers of files and texts. After a failed append `failed` stays set and data
 * unusable. */
typedef struct espl__buffer {
    espl_context *ctx;
    char *data; /* always NUL-terminated when not NULL */
    size_t length, capacity;
    bool failed;
} espl__buffer;
void espl__buffer_init(espl__buffer *buffer, espl_context *ctx);
void espl__buffer_append(espl__buffer *buffer, const void *bytes, size_t length);
void espl__buffer_printf(espl__buffer *buffer, const char *fmt, ...) ESPL_PRINTF(2, 3);
void espl__buffer_free(espl__buffer *buffer);

/* --- random numbers: PCG32 (O'Neill 2014), the same on every machine --------------------- */

typedef struct espl__rng {
    uint64_t state, stream;
} espl__rng;
espl__rng espl__rng_seed(uint64_t seed, uint64_t stream);
/* A well-mixed 64-bit word (the finalizer of SplitMix64: Steele, Lea, Flood 2014). */
uint64_t espl__mix64(uint64_t x);
/* The generator of place (seed, a, b), such as seed, epoch and sample: neighbours get unrelated ones, so that
 * a place alone says what is drawn there. */
espl__rng espl__rng_at(uint64_t seed, uint64_t a, uint64_t b);
/* A random order of `count` < 2^32 elements (Fisher and Yates, from the last place to the first). */
void espl__rng_shuffle(espl__rng *rng, int64_t *order, int64_t count);
uint32_t espl__rng_u32(espl__rng *rng);
/* Uniform in [0, n), unbiased; n > 0. */
uint32_t espl__rng_below(espl__rng *rng, uint32_t n);
/* Uniform in [0, 1), 24 bits. */
float espl__rng_float(espl__rng *rng);
/* Standard normal (Box-Muller). */
float espl__rng_normal(espl__rng *rng);

/* --- files ------------------------------------------------------------------------------ */

/* Reads a whole regular file; *data is owned by the caller (espl__free) and followed by a NUL byte that
 * `length` does not count. More than `max` bytes (0: no limit but the context's) is refused. */
ESPL_NODISCARD espl_status espl__file_read(espl_context *ctx, const char *path, uint64_t max, uint8_t **data,
                                           uint64_t *length, espl_diag *diag);
/* A whole regular file for reading, where it lies: large ones are mapped if the file system allows it, others
 * read. The file must not be cut short while it is mapped. */
typedef struct espl__mapping {
    espl_context *ctx;
    const uint8_t *data; /* page-aligned or, if it was read, 64-byte aligned */
    uint64_t length;
    bool mapped;
} espl__mapping;
ESPL_NODISCARD espl_status espl__file_map(espl_context *ctx, const char *path, espl__mapping *out,
                                          espl_diag *diag);
void espl__file_unmap(espl__mapping *mapping);
/* These bytes are not needed for now: their pages leave memory and come back from the file when they are read
 * again. Nothing happens to bytes outside the mapping. */
void espl__file_drop(const espl__mapping *mapping, const void *bytes, uint64_t count);
/* Writes a whole file or leaves the old one: temporary file in the same folder, fsync, rename. */
ESPL_NODISCARD espl_status espl__file_write(espl_context *ctx, const char *path, const void *data,
                                            uint64_t length, espl_diag *diag);
/* A folder that appears whole: begin makes a temporary sibling of `path` (returned in *temporary, owned by
 * the caller, espl__free) to fill; commit swaps it for `path` atomically and removes the old one; abort
 * removes the temporary one. */
ESPL_NODISCARD espl_status espl__dir_begin(espl_context *ctx, const char *path, char **temporary,
                                           espl_diag *diag);
ESPL_NODISCARD espl_status espl__dir_commit(espl_context *ctx, const char *path, const char *temporary,
                                            espl_diag *diag);
void espl__dir_abort(espl_context *ctx, const char *temporary);
/* Joins folder and name into a string owned by the caller (espl__free), NULL without memory. */
char *espl__path_join(espl_context *ctx, const char *folder, const char *name);
/* A text that was built into the library. Tables of them are made from a folder's files, sorted, and end with a NULL name. */
typedef struct espl__bundled {
    const char *name, *text;
    size_t length;
} espl__bundled;
/* NULL if there is none of that name. */
const espl__bundled *espl__bundled_find(const espl__bundled *table, const char *name);
/* "a, b, c": writes the names to buf and returns buf. */
const char *espl__bundled_names(const espl__bundled *table, char *buf, size_t size);
/* CRC-32 as zlib and PNG have it. */
uint32_t espl__crc32(const uint8_t *bytes, uint64_t length);
/* Seconds on a monotonic clock. */
double espl__now(void);

#endif
