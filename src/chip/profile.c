/* Chip profiles: schema, checks a schema cannot express, where profiles are found. */
#include "chip/chip.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/cpu.h"
#include "yaml/yaml.h"

/* --- schema --- */

static const cyaml_strval_t format_names[] = {
#define X(NAME, name, kind, bits, sign, text) {name, ESPL_FORMAT_##NAME},
    ESPL_FORMAT_LIST(X)
#undef X
};
static const cyaml_strval_t backend_names[] = {
    {"host", ESPL_BACKEND_HOST}, {"export", ESPL_BACKEND_EXPORT}, {"simulator", ESPL_BACKEND_SIMULATOR}};
static const cyaml_strval_t flavour_names[] = {{"portable", FLAVOUR_PORTABLE}, {"ort-x86", FLAVOUR_ORT_X86}};
static const cyaml_strval_t holds_names[] = {
    {"all", HOLDS_ALL}, {"weights", HOLDS_WEIGHTS}, {"activations", HOLDS_ACTIVATIONS}};

#define REQUIRED CYAML_FLAG_DEFAULT
#define OPTIONAL CYAML_FLAG_OPTIONAL
#define TEXT CYAML_FLAG_POINTER

static const cyaml_schema_field_t compute_fields[] = {
    CYAML_FIELD_ENUM("weights", REQUIRED, compute_row, weights, format_names, ESPL_COUNT(format_names)),
    CYAML_FIELD_ENUM("activations", REQUIRED, compute_row, activations, format_names, ESPL_COUNT(format_names)),
    CYAML_FIELD_FLOAT("macs_per_cycle", REQUIRED, compute_row, macs_per_cycle),
    CYAML_FIELD_UINT("accumulator_bits", REQUIRED, compute_row, accumulator_bits),
    CYAML_FIELD_FLOAT("pj_per_mac", OPTIONAL, compute_row, pj_per_mac),
    CYAML_FIELD_END,
};
static const cyaml_schema_value_t compute_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_FLOW, compute_row, compute_fields)};

static const cyaml_schema_field_t pattern_fields[] = {
    CYAML_FIELD_STRING_PTR("pattern", TEXT, pattern_row, pattern, 1, 40),
    CYAML_FIELD_FLOAT("speedup", REQUIRED, pattern_row, speedup),
    CYAML_FIELD_END,
};
static const cyaml_schema_value_t pattern_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_FLOW, pattern_row, pattern_fields)};

static const cyaml_schema_field_t memory_fields[] = {
    CYAML_FIELD_STRING_PTR("name", TEXT, memory_row, name, 1, 40),
    CYAML_FIELD_UINT("bytes", REQUIRED, memory_row, bytes),
    CYAML_FIELD_BOOL("shared", OPTIONAL, memory_row, shared),
    CYAML_FIELD_ENUM("holds", OPTIONAL, memory_row, holds, holds_names, ESPL_COUNT(holds_names)),
    CYAML_FIELD_FLOAT("gb_per_s", REQUIRED, memory_row, gb_per_s),
    CYAML_FIELD_FLOAT("core_gb_per_s", OPTIONAL, memory_row, core_gb_per_s),
    CYAML_FIELD_FLOAT("pj_per_byte", OPTIONAL, memory_row, pj_per_byte),
    CYAML_FIELD_END,
};
static const cyaml_schema_value_t memory_schema = {CYAML_VALUE_MAPPING(REQUIRED, memory_row, memory_fields)};

static const cyaml_schema_field_t profile_fields[] = {
    CYAML_FIELD_STRING_PTR("name", TEXT, profile, name, 1, 60),
    CYAML_FIELD_STRING_PTR("description", TEXT, profile, description, 1, 400),
    CYAML_FIELD_STRING_PTR("source", TEXT | OPTIONAL, profile, source, 0, 2000),
    CYAML_FIELD_ENUM("backend", REQUIRED, profile, backend, backend_names, ESPL_COUNT(backend_names)),
    CYAML_FIELD_STRING_PTR("isa", TEXT | OPTIONAL, profile, isa, 1, 20),
    CYAML_FIELD_ENUM("flavour", REQUIRED, profile, flavour, flavour_names, ESPL_COUNT(flavour_names)),
    CYAML_FIELD_UINT("cores", REQUIRED, profile, cores),
    CYAML_FIELD_FLOAT("clock_ghz", REQUIRED, profile, clock_ghz),
    CYAML_FIELD_UINT("channel_multiple", REQUIRED, profile, channel_multiple),
    CYAML_FIELD_BOOL("fpu", REQUIRED, profile, fpu),
    CYAML_FIELD_FLOAT("layer_start_us", REQUIRED, profile, layer_start_us),
    CYAML_FIELD_SEQUENCE_COUNT("compute", TEXT, profile, compute, compute_count, &compute_schema, 1, 256),
    CYAML_FIELD_SEQUENCE_COUNT("patterns", TEXT | OPTIONAL, profile, patterns, pattern_count, &pattern_schema,
                               0, 64),
    CYAML_FIELD_SEQUENCE_COUNT("memories", TEXT, profile, memories, memory_count, &memory_schema, 1, 16),
    CYAML_FIELD_END,
};
static const cyaml_schema_value_t profile_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, profile, profile_fields)};

espl_status espl__chip_emit(espl_context *ctx, const profile *p, espl__buffer *out, espl_diag *diag) {
    return espl__yaml_emit(ctx, &profile_schema, p, out, diag);
}

/* --- checks --- */

typedef struct checker {
    const profile *p;
    const char *label, *text;
    size_t length;
    espl_diag *diag;
} checker;

/* "label:line: key: what" for a key such as "compute[1].macs_per_cycle". */
static espl_status wrong(const checker *c, const char *key, const char *fmt, ...) ESPL_PRINTF(3, 4);
static espl_status wrong(const checker *c, const char *key, const char *fmt, ...) {
    char what[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(what, sizeof what, fmt, args);
    va_end(args);
    return espl__fail(c->diag, ESPL_FORMAT, "%.200s:%u: %s: %s", c->label,
                      espl__yaml_line(c->text, c->length, key), key, what);
}

/* Generous bounds that keep every product of the cost model finite. */
static espl_status in_range(const checker *c, const char *key, double value, double least, double most) {
    if (value >= least && value <= most) return ESPL_OK;
    return wrong(c, key, "%g is outside %g to %g", value, least, most);
}

static espl_status check_top(const checker *c) {
    const profile *p = c->p;
    espl_status status = ESPL_OK;
    ESPL_TRY(in_range(c, "cores", p->cores, 1, 65536));
    ESPL_TRY(in_range(c, "clock_ghz", p->clock_ghz, 1e-6, 100));
    ESPL_TRY(in_range(c, "channel_multiple", p->channel_multiple, 1, 65536));
    ESPL_TRY(in_range(c, "layer_start_us", p->layer_start_us, 0, 1e9));
    if ((p->backend == ESPL_BACKEND_HOST) != (p->isa != NULL))
        return wrong(c, p->isa ? "isa" : "backend",
                     "backend host needs isa (which kernels the figures are for), and only it may have one");
    if (p->isa) {
        bool known = false;
        for (int i = 0; i < ESPL__CPU_COUNT; i++)
            known = known || !strcmp(p->isa, espl__cpu_level_name((espl__cpu)i));
        if (!known) return wrong(c, "isa", "'%.40s' is not an instruction set with kernels", p->isa);
    }
done:
    return status;
}

static espl_status check_compute(const checker *c) {
    espl_status status = ESPL_OK;
    char key[64];
    for (uint32_t i = 0; i < c->p->compute_count; i++) {
        const compute_row *row = &c->p->compute[i];
        snprintf(key, sizeof key, "compute[%u].macs_per_cycle", (unsigned)i);
        ESPL_TRY(in_range(c, key, row->macs_per_cycle, 1e-6, 1e9));
        snprintf(key, sizeof key, "compute[%u].accumulator_bits", (unsigned)i);
        ESPL_TRY(in_range(c, key, row->accumulator_bits, 1, 64));
        snprintf(key, sizeof key, "compute[%u].pj_per_mac", (unsigned)i);
        ESPL_TRY(in_range(c, key, row->pj_per_mac, 0, 1e12));
        snprintf(key, sizeof key, "compute[%u]", (unsigned)i);
        for (uint32_t j = 0; j < i; j++)
            if (c->p->compute[j].weights == row->weights && c->p->compute[j].activations == row->activations)
                return wrong(c, key, "%s weights with %s activations are in compute[%u] already",
                             espl_format_name(row->weights), espl_format_name(row->activations), (unsigned)j);
    }
done:
    return status;
}

bool espl__chip_pattern(const char *text, espl_sparsity *out) {
    *out = (espl_sparsity){.pattern = ESPL_PATTERN_DENSE};
    return espl_pattern_parse(text, &out->pattern) || espl_sparsity_parse(text, out);
}

static espl_status check_patterns(const checker *c) {
    espl_status status = ESPL_OK;
    char key[64], forms[ESPL_SPARSITY_FORMS];
    espl_sparsity pattern;
    for (uint32_t i = 0; i < c->p->pattern_count; i++) {
        const pattern_row *row = &c->p->patterns[i];
        snprintf(key, sizeof key, "patterns[%u].pattern", (unsigned)i);
        if (!espl__chip_pattern(row->pattern, &pattern))
            return wrong(c, key, "'%.40s' is not a pattern; give a name or one of: %s", row->pattern,
                         espl_sparsity_forms(forms, sizeof forms));
        for (uint32_t j = 0; j < i; j++)
            if (!strcmp(c->p->patterns[j].pattern, row->pattern))
                return wrong(c, key, "'%s' is in patterns[%u] already", row->pattern, (unsigned)j);
        snprintf(key, sizeof key, "patterns[%u].speedup", (unsigned)i);
        ESPL_TRY(in_range(c, key, row->speedup, 1e-3, 1e6));
    }
done:
    return status;
}

static espl_status check_memories(const checker *c) {
    espl_status status = ESPL_OK;
    char key[64];
    bool weights = false, activations = false;
    for (uint32_t i = 0; i < c->p->memory_count; i++) {
        const memory_row *row = &c->p->memories[i];
        snprintf(key, sizeof key, "memories[%u].bytes", (unsigned)i);
        ESPL_TRY(in_range(c, key, (double)row->bytes, 1, 1e18));
        if (i && row->bytes <= c->p->memories[i - 1].bytes)
            return wrong(c, key, "memories go from small to large, and %s is not larger than %s", row->name,
                         c->p->memories[i - 1].name);
        snprintf(key, sizeof key, "memories[%u].gb_per_s", (unsigned)i);
        ESPL_TRY(in_range(c, key, row->gb_per_s, 1e-9, 1e9));
        snprintf(key, sizeof key, "memories[%u].pj_per_byte", (unsigned)i);
        ESPL_TRY(in_range(c, key, row->pj_per_byte, 0, 1e12));
        snprintf(key, sizeof key, "memories[%u].core_gb_per_s", (unsigned)i);
        ESPL_TRY(in_range(c, key, row->core_gb_per_s, 0, 1e9));
        if (row->core_gb_per_s > 0 && !row->shared)
            return wrong(c, key, "it is for shared memories; gb_per_s of %s is one core's already", row->name);
        weights = weights || row->holds != HOLDS_ACTIVATIONS;
        activations = activations || row->holds != HOLDS_WEIGHTS;
    }
    if (!weights || !activations)
        return wrong(c, "memories", "none of them holds %s", weights ? "activations" : "weights");
done:
    return status;
}

/* --- loading --- */

espl_status espl_chip_parse(espl_context *ctx, const char *label, const char *text, size_t length, espl_chip **out,
                            espl_diag *diag) {
    void *data = NULL;
    espl_chip *chip = NULL;
    *out = NULL;
    espl_status status = espl__yaml_parse(ctx, label, text, length, &profile_schema, &data, diag);
    if (status != ESPL_OK) return status;
    checker c = {.p = data, .label = label, .text = text, .length = length, .diag = diag};
    ESPL_TRY(check_top(&c));
    ESPL_TRY(check_compute(&c));
    ESPL_TRY(check_patterns(&c));
    ESPL_TRY(check_memories(&c));
    chip = espl__calloc(ctx, 1, sizeof *chip);
    char *copy = espl__alloc(ctx, length + 1);
    if (!chip || !copy) {
        espl__free(ctx, chip);
        espl__free(ctx, copy);
        status = espl__nomem(diag, length);
        goto done;
    }
    memcpy(copy, text, length);
    copy[length] = 0;
    *chip = (espl_chip){.ctx = ctx, .profile = data, .text = copy};
    data = NULL;
    *out = chip;
done:
    espl__yaml_free(ctx, &profile_schema, data);
    return status;
}

static espl_status load_file(espl_context *ctx, const char *path, espl_chip **out, espl_diag *diag) {
    uint8_t *text = NULL;
    uint64_t length = 0;
    espl_status status = espl__file_read(ctx, path, ESPL__YAML_MAX, &text, &length, diag);
    if (status == ESPL_OK) status = espl_chip_parse(ctx, path, (const char *)text, (size_t)length, out, diag);
    espl__free(ctx, text);
    return status;
}

/* $ESPL_CHIPS/NAME.yaml, if there is such a file. */
static espl_status load_from_folder(espl_context *ctx, const char *name, espl_chip **out, bool *found,
                                    espl_diag *diag) {
    const char *folder = getenv("ESPL_CHIPS");
    *found = false;
    if (!folder || !*folder) return ESPL_OK;
    char path[1024];
    int n = snprintf(path, sizeof path, "%s/%s.yaml", folder, name);
    if (n < 0 || (size_t)n >= sizeof path)
        return espl__fail(diag, ESPL_INVALID, "ESPL_CHIPS: the path is too long");
    FILE *file = fopen(path, "rb");
    if (!file) return ESPL_OK;
    fclose(file);
    *found = true;
    return load_file(ctx, path, out, diag);
}

static espl_status unknown_chip(const char *name, espl_diag *diag) {
    char known[512];
    return espl__fail(diag, ESPL_INVALID,
                      "there is no chip '%.80s'; known are host, %s; or give the path of a .yaml file", name,
                      espl__bundled_names(espl__chip_bundle, known, sizeof known));
}

espl_status espl_chip_load(espl_context *ctx, const char *name, espl_chip **out, espl_diag *diag) {
    *out = NULL;
    size_t length = strlen(name);
    if (strchr(name, '/') || (length > 5 && !strcmp(name + length - 5, ".yaml")))
        return load_file(ctx, name, out, diag);
    if (!strcmp(name, "host")) return espl_chip_probe(ctx, out, diag);
    if (!length || length > 100) return unknown_chip(name, diag);
    bool found;
    espl_status status = load_from_folder(ctx, name, out, &found, diag);
    if (status != ESPL_OK || found) return status;
    const espl__bundled *bundled = espl__bundled_find(espl__chip_bundle, name);
    if (bundled) return espl_chip_parse(ctx, name, bundled->text, bundled->length, out, diag);
    return unknown_chip(name, diag);
}

void espl_chip_destroy(espl_chip **chip) {
    if (!*chip) return;
    espl_context *ctx = (*chip)->ctx;
    espl__yaml_free(ctx, &profile_schema, (*chip)->profile);
    espl__free(ctx, (*chip)->text);
    espl__free(ctx, *chip);
    *chip = NULL;
}

const char *espl_chip_list(int index) {
    if (index < 0) return NULL;
    for (int i = 0; i < index; i++)
        if (!espl__chip_bundle[i].name) return NULL;
    return espl__chip_bundle[index].name;
}

/* --- what a profile says --- */

const char *espl_chip_name(const espl_chip *chip) { return chip->profile->name; }
const char *espl_chip_description(const espl_chip *chip) { return chip->profile->description; }
const char *espl_chip_text(const espl_chip *chip) { return chip->text; }
const char *espl_chip_flavour(const espl_chip *chip) { return flavour_names[chip->profile->flavour].str; }
const char *espl_chip_isa(const espl_chip *chip) { return chip->profile->isa ? chip->profile->isa : ""; }
espl_backend espl_chip_backend(const espl_chip *chip) { return chip->profile->backend; }
int espl_chip_cores(const espl_chip *chip) { return (int)chip->profile->cores; }
double espl_chip_clock_ghz(const espl_chip *chip) { return chip->profile->clock_ghz; }
int espl_chip_channel_multiple(const espl_chip *chip) { return (int)chip->profile->channel_multiple; }
bool espl_chip_has_fpu(const espl_chip *chip) { return chip->profile->fpu; }
double espl_chip_layer_start_us(const espl_chip *chip) { return chip->profile->layer_start_us; }

bool espl_chip_is_host(const espl_chip *chip) {
    const profile *p = chip->profile;
    if (p->backend != ESPL_BACKEND_HOST) return false;
    for (int i = 0; i < ESPL__CPU_COUNT; i++)
        if (!strcmp(p->isa, espl__cpu_level_name((espl__cpu)i))) return espl__cpu_has((espl__cpu)i);
    return false;
}

bool espl_chip_compute_at(const espl_chip *chip, int index, espl_chip_compute *out) {
    const profile *p = chip->profile;
    if (index < 0 || (uint32_t)index >= p->compute_count) return false;
    const compute_row *row = &p->compute[index];
    *out = (espl_chip_compute){.weights = row->weights,
                               .activations = row->activations,
                               .macs_per_cycle = row->macs_per_cycle,
                               .accumulator_bits = (int)row->accumulator_bits,
                               .pj_per_mac = row->pj_per_mac};
    return true;
}

bool espl_chip_memory_at(const espl_chip *chip, int index, espl_chip_memory *out) {
    const profile *p = chip->profile;
    if (index < 0 || (uint32_t)index >= p->memory_count) return false;
    const memory_row *row = &p->memories[index];
    *out = (espl_chip_memory){.name = row->name, .bytes = row->bytes, .shared = row->shared,
                              .holds_weights = row->holds != HOLDS_ACTIVATIONS,
                              .holds_activations = row->holds != HOLDS_WEIGHTS, .gb_per_s = row->gb_per_s,
                              .core_gb_per_s = row->core_gb_per_s, .pj_per_byte = row->pj_per_byte};
    return true;
}
