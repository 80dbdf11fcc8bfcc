/* Chips: a profile says what a chip can run and what it costs. Profiles are YAML files (docs/chips.md); some
 * are built into the library, and "host" is this machine, measured. */
#ifndef ESPALIER_CHIP_H
#define ESPALIER_CHIP_H

#include "espalier/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct espl_chip espl_chip;

/* Who runs a model for this chip. */
typedef enum espl_backend {
    ESPL_BACKEND_HOST,     /* the kernels of this library */
    ESPL_BACKEND_EXPORT,   /* another runtime, from an exported file */
    ESPL_BACKEND_SIMULATOR /* a cycle-level model of an accelerator */
} espl_backend;

/* One pair of formats that the chip computes. */
typedef struct espl_chip_compute {
    espl_format weights, activations;
    double macs_per_cycle; /* of one core, at best */
    int accumulator_bits;
    double pj_per_mac; /* picojoules; 0: unknown */
} espl_chip_compute;

/* One memory. Private ones (shared == false) are there once for every core. */
typedef struct espl_chip_memory {
    const char *name; /* borrowed from the chip */
    uint64_t bytes;
    bool shared;
    bool holds_weights, holds_activations;
    double gb_per_s;      /* 1e9 bytes a second: of one core if private, of all cores together if shared */
    double core_gb_per_s; /* shared: what one core alone can draw; 0: all of it */
    double pj_per_byte;   /* 0: unknown */
} espl_chip_memory;

/* Loads a profile. `name` is "host" (measured now, 2 to 4 seconds), the path of a YAML file (anything with a
 * '/' or ending in .yaml), the name of $ESPL_CHIPS/NAME.yaml, or that of a bundled profile. The chip is
 * returned in *out and freed by destroy. */
ESPL_NODISCARD espl_status espl_chip_load(espl_context *ctx, const char *name, espl_chip **out, espl_diag *diag);
/* Reads a profile from a text; `label` stands for the file name in sentences. */
ESPL_NODISCARD espl_status espl_chip_parse(espl_context *ctx, const char *label, const char *text, size_t length,
                                           espl_chip **out, espl_diag *diag);
/* Measures this machine: the rates of the library's own kernels, read bandwidths, cache sizes. Best on an
 * idle machine. */
ESPL_NODISCARD espl_status espl_chip_probe(espl_context *ctx, espl_chip **out, espl_diag *diag);
void espl_chip_destroy(espl_chip **chip);

/* Names of the bundled profiles, sorted; NULL past the last one. Static strings. */
const char *espl_chip_list(int index);

/* Borrowed; valid while the chip lives. */
const char *espl_chip_name(const espl_chip *chip);
const char *espl_chip_description(const espl_chip *chip);
/* The whole profile as YAML text, comments included: writing it to a file gives a profile that loads again. */
const char *espl_chip_text(const espl_chip *chip);
/* Preferred export flavour: "portable" or "ort-x86". */
const char *espl_chip_flavour(const espl_chip *chip);
/* Instruction set that the profile's figures are for ("avx2", ...); "" unless the backend is HOST. */
const char *espl_chip_isa(const espl_chip *chip);

espl_backend espl_chip_backend(const espl_chip *chip);
/* Whether the chip's kernels run on this machine, so that measurement can replace the model. */
bool espl_chip_is_host(const espl_chip *chip);
int espl_chip_cores(const espl_chip *chip);
double espl_chip_clock_ghz(const espl_chip *chip);
/* Numbers of channels that are a multiple of this use the chip's vectors fully. */
int espl_chip_channel_multiple(const espl_chip *chip);
bool espl_chip_has_fpu(const espl_chip *chip);
double espl_chip_layer_start_us(const espl_chip *chip);

/* Rows of the profile; false past the last one. Memories go from small and fast to large and slow. */
bool espl_chip_compute_at(const espl_chip *chip, int index, espl_chip_compute *out);
bool espl_chip_memory_at(const espl_chip *chip, int index, espl_chip_memory *out);

/* The row that runs weights and activations of these formats. Integer weights of fewer than 8 bits are stored
 * packed and computed as s8 where there is no row of their own. false, and *out untouched (it may be NULL),
 * if there is none. */
bool espl_chip_find_compute(const espl_chip *chip, espl_format weights, espl_format activations,
                            espl_chip_compute *out);
bool espl_chip_supports(const espl_chip *chip, espl_format weights, espl_format activations);
/* How many times faster weights of this pattern compute than dense ones: the best row of the profile that they satisfy (2:16
 * is also 4:32); 1 where the chip gains nothing. */
double espl_chip_pattern_speedup(const espl_chip *chip, const espl_sparsity *pattern);

/* --- cost model: docs/chips.md has the formulas ------------------------------------------------------ */

typedef struct espl_chip_layer {
    int64_t macs; /* multiplications of the dense layer */
    espl_format weight_format, activation_format;
    uint64_t weight_bytes, input_bytes, output_bytes;
    int cores;               /* cores used; 0: all */
    espl_sparsity pattern;   /* of the weights; all 0: dense */
    uint64_t resident_bytes; /* weights of the whole network, which share the memories; 0: this layer's */
} espl_chip_layer;

/* The least that the layer takes, in seconds: for its multiplications (INFINITY if the chip cannot run the formats) and for
 * its bytes on their way through the memories. */
void espl_chip_layer_limits(const espl_chip *chip, const espl_chip_layer *layer, double *compute, double *memory);
/* Roofline: max(compute, slowest memory) + start-up, in seconds. INFINITY if the chip cannot run the formats. */
double espl_chip_layer_seconds(const espl_chip *chip, const espl_chip_layer *layer);
/* Energy of MACs and bytes moved, in joules. INFINITY if the chip cannot run the formats, NAN if the profile
 * does not say what a MAC costs. */
double espl_chip_layer_joules(const espl_chip *chip, const espl_chip_layer *layer);
/* Whether so many bytes of weights and of activations (alive at once) have room at all. */
bool espl_chip_fits(const espl_chip *chip, uint64_t weight_bytes, uint64_t activation_bytes);

#ifdef __cplusplus
}
#endif
#endif
