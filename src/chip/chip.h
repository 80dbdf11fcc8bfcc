/* Inside src/chip only. */
#ifndef ESPL_CHIP_INTERNAL_H
#define ESPL_CHIP_INTERNAL_H

#include "base/base.h"
#include "espalier/chip.h"

/* --- the profile as the schema reads it: strings and lists belong to libcyaml ---------------- */

typedef enum holds { HOLDS_ALL, HOLDS_WEIGHTS, HOLDS_ACTIVATIONS } holds;
typedef enum flavour { FLAVOUR_PORTABLE, FLAVOUR_ORT_X86 } flavour;

typedef struct compute_row {
    espl_format weights, activations;
    double macs_per_cycle, pj_per_mac;
    uint32_t accumulator_bits;
} compute_row;

typedef struct pattern_row {
    char *pattern;
    double speedup;
} pattern_row;

/* What the text of a row says; a name alone means the pattern with any parameters (which are 0 then). */
bool espl__chip_pattern(const char *text, espl_sparsity *out);

typedef struct memory_row {
    char *name;
    uint64_t bytes;
    bool shared;
    holds holds;
    double gb_per_s, core_gb_per_s, pj_per_byte;
} memory_row;

typedef struct profile {
    char *name, *description, *source, *isa;
    espl_backend backend;
    flavour flavour;
    uint32_t cores, channel_multiple;
    double clock_ghz, layer_start_us;
    bool fpu;
    compute_row *compute;
    uint32_t compute_count;
    pattern_row *patterns;
    uint32_t pattern_count;
    memory_row *memories;
    uint32_t memory_count;
} profile;

struct espl_chip {
    espl_context *ctx;
    profile *profile;
    char *text;
};

/* Writes a profile (the probe's) as YAML text. */
ESPL_NODISCARD espl_status espl__chip_emit(espl_context *ctx, const profile *profile, espl__buffer *out,
                                           espl_diag *diag);

/* --- the bundled profiles, generated from chips/ at build time; sorted, ends with a NULL name -- */

extern const espl__bundled espl__chip_bundle[];

/* --- measurements for the probe --------------------------------------------------------------- */

/* MACs a second of one core's kernels on data in the first cache; NULL memory gives ESPL_NOMEM. */
ESPL_NODISCARD espl_status espl__measure_macs(espl_context *ctx, bool quantized, double *macs_per_s,
                                              espl_diag *diag);
/* Bytes a second read from a buffer of `bytes` per thread, by one thread or by all. */
ESPL_NODISCARD espl_status espl__measure_bandwidth(espl_context *ctx, uint64_t bytes, bool all_threads,
                                                   double *bytes_per_s, espl_diag *diag);
/* Cycles a second of this core. */
double espl__measure_clock(void);
/* Seconds that handing an empty job to the context's threads takes. */
double espl__measure_dispatch(espl_context *ctx);

#endif
