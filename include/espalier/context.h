/* The context: allocator, log, threads, limits. Everything else is created from one.
 * A context may be used from one thread at a time; it must outlive what was made from it. */
#ifndef ESPALIER_CONTEXT_H
#define ESPALIER_CONTEXT_H

#include <stddef.h>
#include <stdint.h>

#include "espalier/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct espl_context espl_context;

typedef enum espl_log_level { ESPL_LOG_DEBUG, ESPL_LOG_INFO, ESPL_LOG_WARN } espl_log_level;

typedef struct espl_config {
    /* Returns `bytes` (> 0) of memory aligned to 64, or NULL. NULL: the C library's. */
    void *(*alloc)(void *user, size_t bytes);
    void (*free)(void *user, void *ptr);
    /* Receives one line without a newline. NULL: silence. */
    void (*log)(void *user, espl_log_level level, const char *line);
    void *user;
    /* Threads that run and compress may use, the caller's included; 0: all online cores. */
    int threads;
    /* Largest single allocation in bytes; 0: 16 GiB. Guards against hostile files. */
    uint64_t max_alloc;
    /* Most bytes allocated at once; 0: as many as the machine has. What needs more than one of these limits ends with
     * ESPL_LIMIT. */
    uint64_t max_memory;
} espl_config;

/* `config` may be NULL for the defaults. The context is returned in *out and freed by destroy. */
ESPL_NODISCARD espl_status espl_context_create(const espl_config *config, espl_context **out, espl_diag *diag);
void espl_context_destroy(espl_context **ctx);

/* Bytes now allocated from the context and the most there ever were. */
uint64_t espl_context_memory(const espl_context *ctx, uint64_t *peak);
/* Number of allocations so far: a run that does not allocate leaves it unchanged. */
uint64_t espl_context_allocations(const espl_context *ctx);
/* Changes the number of threads; 0: all online cores. Sessions that were created with fewer do not run with more. */
ESPL_NODISCARD espl_status espl_context_set_threads(espl_context *ctx, int threads, espl_diag *diag);
int espl_context_threads(const espl_context *ctx);

/* Where a rule cannot say which of two kernels is faster (sparse weights or dense ones), creating a session measures both
 * on the layer at hand, some milliseconds once for each kind of layer, and the context remembers it. The results are the
 * same bytes either way. ESPL_TUNE=0 in the environment forbids it: then a rule decides. What is remembered can be kept
 * in a file: reading one of another version, processor or instruction set changes nothing. */
ESPL_NODISCARD espl_status espl_tune_read(espl_context *ctx, const char *path, espl_diag *diag);
ESPL_NODISCARD espl_status espl_tune_write(espl_context *ctx, const char *path, espl_diag *diag);
/* How many measured choices there are. */
int espl_tune_count(const espl_context *ctx);

/* Library version, "MAJOR.MINOR.PATCH". */
const char *espl_version(void);
/* Name of the instruction set in use: "ref", "avx2", "avxvnni", "avx512", "avx512vnni", "avx512vbmi" or "amx". The environment
 * variable ESPL_CPU caps it. */
const char *espl_cpu_name(void);

#ifdef __cplusplus
}
#endif
#endif
