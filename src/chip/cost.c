/* The cost model: a hierarchical roofline. docs/chips.md explains it with an example.
 *
 * Weights and activations each have a home, the smallest memory that holds them. Bytes pass every memory from
 * their home up to the core once. The layer takes as long as its slowest part, plus what it costs to start
 * one. */
#include <math.h>

#include "chip/chip.h"
#include "tensor/tensor.h"

static bool is_narrow_integer(espl_format format) {
    return format >= ESPL_FORMAT_S2 && format <= ESPL_FORMAT_S7;
}

bool espl_chip_find_compute(const espl_chip *chip, espl_format weights, espl_format activations,
                            espl_chip_compute *out) {
    espl_chip_compute row;
    for (int pass = 0; pass < 2; pass++) {
        espl_format wanted = pass ? ESPL_FORMAT_S8 : weights;
        if (pass && !is_narrow_integer(weights)) break;
        for (int i = 0; espl_chip_compute_at(chip, i, &row); i++)
            if (row.weights == wanted && row.activations == activations) {
                if (out) *out = row;
                return true;
            }
    }
    return false;
}

bool espl_chip_supports(const espl_chip *chip, espl_format weights, espl_format activations) {
    return espl_chip_find_compute(chip, weights, activations, NULL);
}

/* The best of the rows whose pattern the weights satisfy; a chip that is slower at it computes them as dense
 * ones. */
double espl_chip_pattern_speedup(const espl_chip *chip, const espl_sparsity *pattern) {
    double best = 1;
    for (uint32_t i = 0; i < chip->profile->pattern_count; i++) {
        const pattern_row *row = &chip->profile->patterns[i];
        espl_sparsity of;
        espl_pattern name;
        if (!espl__chip_pattern(row->pattern, &of)) continue;
        bool fits = espl_pattern_parse(row->pattern, &name) ? name == pattern->pattern
                                                            : espl__sparsity_implies(pattern, &of);
        if (fits) best = ESPL_MAX(best, row->speedup);
    }
    return best;
}

static bool holds_weights(const memory_row *m) {
    return m->holds != HOLDS_ACTIVATIONS;
}
static bool holds_activations(const memory_row *m) {
    return m->holds != HOLDS_WEIGHTS;
}

/* Work is divided, so private memories of several cores add up. */
static double capacity(const memory_row *m, int cores) {
    return (double)m->bytes * (m->shared ? 1 : cores);
}

static double bytes_per_s(const memory_row *m, int cores) {
    double rate = m->gb_per_s * 1e9;
    if (!m->shared) return rate * cores;
    double drawn = m->core_gb_per_s * 1e9 * cores;
    return m->core_gb_per_s > 0 && drawn < rate ? drawn : rate;
}

/* Where weights and activations live. What fits nowhere streams from the last memory that may hold it. */
typedef struct homes {
    uint32_t weights, activations;
    bool fit;
} homes;

static homes find_homes(const profile *p, double weights, double activations, int cores) {
    homes h = {.fit = true};
    bool found_weights = false, found_activations = false;
    for (uint32_t i = 0; i < p->memory_count; i++) {
        const memory_row *m = &p->memories[i];
        double room = capacity(m, cores);
        if (holds_activations(m) && !found_activations) {
            h.activations = i;
            found_activations = activations <= room;
        }
        if (holds_weights(m) && !found_weights) {
            h.weights = i;
            found_weights = weights + (holds_activations(m) ? activations : 0) <= room;
        }
    }
    h.fit = found_weights && found_activations;
    return h;
}

static int cores_of(const espl_chip *chip, const espl_chip_layer *layer) {
    int all = (int)chip->profile->cores;
    return layer->cores <= 0 || layer->cores > all ? all : layer->cores;
}

/* Bytes of the layer that pass this memory. */
static double bytes_through(const memory_row *m, uint32_t level, const homes *h, double weights,
                            double activations) {
    double bytes = 0;
    if (level <= h->weights && holds_weights(m)) bytes += weights;
    if (level <= h->activations && holds_activations(m)) bytes += activations;
    return bytes;
}

static homes homes_of(const espl_chip *chip, const espl_chip_layer *layer, double *weights,
                      double *activations) {
    *weights = (double)layer->weight_bytes;
    *activations = (double)layer->input_bytes + (double)layer->output_bytes;
    double resident = ESPL_MAX((double)layer->resident_bytes, *weights);
    return find_homes(chip->profile, resident, *activations, cores_of(chip, layer));
}

/* MACs that are computed once the chip has skipped what the pattern lets it skip. */
static double macs_done(const espl_chip *chip, const espl_chip_layer *layer) {
    return (double)ESPL_MAX(layer->macs, 0) / espl_chip_pattern_speedup(chip, &layer->pattern);
}

void espl_chip_layer_limits(const espl_chip *chip, const espl_chip_layer *layer, double *compute,
                            double *memory) {
    const profile *p = chip->profile;
    espl_chip_compute row;
    int cores = cores_of(chip, layer);
    *compute = INFINITY;
    if (espl_chip_find_compute(chip, layer->weight_format, layer->activation_format, &row))
        *compute = macs_done(chip, layer) / (row.macs_per_cycle * p->clock_ghz * 1e9 * cores);
    double weights, activations;
    *memory = 0;
    homes h = homes_of(chip, layer, &weights, &activations);
    for (uint32_t i = 0; i < p->memory_count; i++) {
        const memory_row *m = &p->memories[i];
        double moving = bytes_through(m, i, &h, weights, activations) / bytes_per_s(m, cores);
        *memory = ESPL_MAX(*memory, moving);
    }
}

double espl_chip_layer_seconds(const espl_chip *chip, const espl_chip_layer *layer) {
    double compute, memory;
    espl_chip_layer_limits(chip, layer, &compute, &memory);
    return ESPL_MAX(compute, memory) + chip->profile->layer_start_us * 1e-6;
}

double espl_chip_layer_joules(const espl_chip *chip, const espl_chip_layer *layer) {
    const profile *p = chip->profile;
    espl_chip_compute row;
    if (!espl_chip_find_compute(chip, layer->weight_format, layer->activation_format, &row)) return INFINITY;
    if (!(row.pj_per_mac > 0)) return NAN;
    double weights, activations;
    homes h = homes_of(chip, layer, &weights, &activations);
    double picojoules = macs_done(chip, layer) * row.pj_per_mac;
    for (uint32_t i = 0; i < p->memory_count; i++) {
        const memory_row *m = &p->memories[i];
        picojoules += bytes_through(m, i, &h, weights, activations) * m->pj_per_byte;
    }
    return picojoules * 1e-12;
}

bool espl_chip_fits(const espl_chip *chip, uint64_t weight_bytes, uint64_t activation_bytes) {
    return find_homes(chip->profile, (double)weight_bytes, (double)activation_bytes,
                      (int)chip->profile->cores)
        .fit;
}
