/* Recipes: schema, checks, the matching of layers. */
#include "compress/recipe.h"

#include <stdio.h>

#include "compress/prune/prune.h"
#include "compress/quant/accumulator.h"
#include "compress/quant/observer.h"
#include "compress/quant/weights.h"
#include "compress/repair/repair.h"
#include "yaml/yaml.h"

static const cyaml_strval_t saliency_names[] = {
#define X(NAME, name, text) {name, ESPL__SALIENCY_##NAME + 1},
    ESPL__SALIENCY_LIST(X)
#undef X
};
static const cyaml_strval_t format_names[] = {
#define X(NAME, name, kind, bits, sign, text) {name, ESPL_FORMAT_##NAME},
    ESPL_FORMAT_LIST(X)
#undef X
};
static const cyaml_strval_t activation_names[] = {
#define X(NAME, name, kind, bits, sign, text) {name, ESPL_FORMAT_##NAME + 1},
    ESPL_FORMAT_LIST(X)
#undef X
};
static const cyaml_strval_t compute_names[] = {
#define X(NAME, name, text) {name, ESPL__COMPUTE_##NAME + 1},
    ESPL__COMPUTE_LIST(X)
#undef X
};
static const cyaml_strval_t fit_names[] = {
#define X(NAME, name, text) {name, ESPL__FIT_##NAME + 1},
    ESPL__FIT_LIST(X)
#undef X
};
static const cyaml_strval_t round_names[] = {
#define X(NAME, name, text) {name, ESPL__ROUND_##NAME + 1},
    ESPL__ROUND_LIST(X)
#undef X
};
static const cyaml_strval_t grid_names[] = {{"any", ESPL__GRID_ANY}, {"pow2", ESPL__GRID_POW2}};
static const cyaml_strval_t scale_names[] = {{"channel", ESPL__SCALE_CHANNEL},
                                             {"tensor", ESPL__SCALE_TENSOR}};
static const cyaml_strval_t flavour_names[] = {{"portable", ESPL__FLAVOUR_PORTABLE},
                                               {"ort-x86", ESPL__FLAVOUR_ORT_X86}};
static const cyaml_strval_t goal_names[] = {
    {"latency", ESPL__GOAL_LATENCY}, {"size", ESPL__GOAL_SIZE}, {"energy", ESPL__GOAL_ENERGY}};

static const cyaml_strval_t overflow_names[] = {
#define X(NAME, name, text) {name, ESPL__OVERFLOW_##NAME + 1},
    ESPL__OVERFLOW_LIST(X)
#undef X
};

#define OPTIONAL CYAML_FLAG_OPTIONAL
#define TEXT CYAML_FLAG_POINTER
#define ENUM_FIELD(key, flags, type, member, list) \
    CYAML_FIELD_ENUM(key, flags, type, member, list, ESPL_COUNT(list))

static const cyaml_schema_field_t layer_fields[] = {
    CYAML_FIELD_STRING_PTR("match", TEXT, espl__recipe_layer, match, 1, 1000),
    CYAML_FIELD_STRING_PTR("pattern", TEXT | OPTIONAL, espl__recipe_layer, pattern, 1, ESPL_SPARSITY_TEXT),
    ENUM_FIELD("saliency", OPTIONAL, espl__recipe_layer, saliency, saliency_names),
    ENUM_FIELD("format", CYAML_FLAG_DEFAULT, espl__recipe_layer, format, format_names),
    ENUM_FIELD("activations", OPTIONAL, espl__recipe_layer, activations, activation_names),
    ENUM_FIELD("compute", OPTIONAL, espl__recipe_layer, compute, compute_names),
    ENUM_FIELD("scale", OPTIONAL, espl__recipe_layer, scale, scale_names),
    CYAML_FIELD_UINT("group", OPTIONAL, espl__recipe_layer, group),
    ENUM_FIELD("grid", OPTIONAL, espl__recipe_layer, grid, grid_names),
    ENUM_FIELD("fit", OPTIONAL, espl__recipe_layer, fit, fit_names),
    ENUM_FIELD("round", OPTIONAL, espl__recipe_layer, round, round_names),
    CYAML_FIELD_STRING_PTR("note", TEXT | OPTIONAL, espl__recipe_layer, note, 0, 1000),
    CYAML_FIELD_END,
};
static const cyaml_schema_value_t layer_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_FLOW, espl__recipe_layer, layer_fields)};

static const cyaml_schema_value_t repair_schema = {
    CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char, 1, ESPL__REPAIR_TEXT)};

static const cyaml_schema_field_t recipe_fields[] = {
    CYAML_FIELD_STRING_PTR("note", TEXT | OPTIONAL, espl__recipe, note, 0, 4000),
    CYAML_FIELD_STRING_PTR("chip", TEXT | OPTIONAL, espl__recipe, chip, 1, 1000),
    ENUM_FIELD("flavour", OPTIONAL, espl__recipe, flavour, flavour_names),
    ENUM_FIELD("goal", OPTIONAL, espl__recipe, goal, goal_names),
    CYAML_FIELD_FLOAT_PTR("max_drop", TEXT | OPTIONAL, espl__recipe, max_drop),
    CYAML_FIELD_STRING_PTR("observer", TEXT | OPTIONAL, espl__recipe, observer, 1, ESPL__OBSERVER_TEXT),
    CYAML_FIELD_SEQUENCE_COUNT("repair", TEXT | OPTIONAL | CYAML_FLAG_FLOW, espl__recipe, repair, repair_count,
                               &repair_schema, 0, 64),
    CYAML_FIELD_UINT("accumulator", OPTIONAL, espl__recipe, accumulator),
    ENUM_FIELD("on_overflow", OPTIONAL, espl__recipe, on_overflow, overflow_names),
    CYAML_FIELD_SEQUENCE_COUNT("layers", TEXT, espl__recipe, layers, layer_count, &layer_schema, 0, 65536),
    CYAML_FIELD_END,
};
static const cyaml_schema_value_t recipe_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, espl__recipe, recipe_fields)};

/* --- what the schema cannot say --- */

static bool for_weights(espl_format f) {
    return f == ESPL_FORMAT_F32 || (espl_format_is_signed(f) && f != ESPL_FORMAT_S32) || f == ESPL_FORMAT_BINARY01;
}

static bool for_activations(espl_format f) {
    const espl_format_kind kind = espl_format_kind_of(f);
    return f != ESPL_FORMAT_S32 && kind != ESPL_FORMAT_KIND_TERNARY && kind != ESPL_FORMAT_KIND_BINARY;
}

/* What the row says of activations; F32 if nothing. */
static espl_format activations_of(const espl__recipe_layer *row) {
    return row->activations ? (espl_format)(row->activations - 1) : ESPL_FORMAT_F32;
}

static const char *scale_mistake(const espl__recipe_layer *row, const char **key) {
    const espl_format_kind kind = espl_format_kind_of(row->format);
    *key = row->scale ? "scale" : row->group ? "group" : row->grid ? "grid" : row->fit ? "fit" : "round";
    if (kind == ESPL_FORMAT_KIND_FLOAT && (row->scale || row->group || row->grid || row->fit || row->round))
        return "is for formats with scales, and the format is a float without one";
    *key = "group";
    if (row->group && row->scale == ESPL__SCALE_TENSOR) return "needs one scale a channel, and scale says tensor";
    if (row->group > ESPL__GROUP_MAX) return "is more than a million";
    *key = "round";
    if (row->round == ESPL__ROUND_STOCHASTIC + 1 && kind != ESPL_FORMAT_KIND_INTEGER && kind != ESPL_FORMAT_KIND_BINARY)
        return "stochastic is for integers and binary";
    *key = "pattern";
    if (row->pattern && kind == ESPL_FORMAT_KIND_BINARY) return "is for formats that have a 0, and binary has none";
    return NULL;
}

static const char *row_mistake(const espl__recipe_layer *row, const char **key) {
    const espl_format a = activations_of(row);
    *key = "format";
    if (!for_weights(row->format))
        return "is not a format of weights (f32, f16, bf16, tf32, e4m3, e5m2, signed integers, log3 to log8, ternary, "
               "binary, binary01)";
    *key = "activations";
    if (!for_activations(a)) return "must be an integer of 2 to 8 or of 16 bits, a float or a log2 format";
    if (espl__format_is_float(row->format) && a != ESPL_FORMAT_F32 && espl_format_kind_of(a) == ESPL_FORMAT_KIND_INTEGER)
        return "must be f32 or another float where the weights are floats";
    *key = "compute";
    if (row->compute == ESPL__COMPUTE_WEIGHTS + 1 && a != ESPL_FORMAT_F32)
        return "weights leaves activations as they are, and activations names a format";
    if (row->compute == ESPL__COMPUTE_DYNAMIC + 1 && (!espl__format_is_code8(row->format) || row->activations))
        return "dynamic takes weights of at most 8 bits and activations of 8 (leave them out)";
    return scale_mistake(row, key);
}

/* What `check` complains with. */
typedef struct place {
    const char *label, *text;
    size_t length;
    unsigned row;
    espl_diag *diag;
} place;

static espl_status complain(const place *p, const char *field, const char *value, const char *mistake) {
    char key[64];
    snprintf(key, sizeof key, "layers[%u].%s", p->row, field);
    return espl__fail(p->diag, ESPL_FORMAT, "%.200s:%u: %s: %.100s %s", p->label,
                      espl__yaml_line(p->text, p->length, key), key, value, mistake);
}

static espl_status check_row(const espl__recipe_layer *row, const place *p) {
    char forms[ESPL_SPARSITY_FORMS], mistake[ESPL_SPARSITY_FORMS + 64], quoted[ESPL_SPARSITY_TEXT + 8];
    espl_sparsity pattern;
    const char *field, *text = row_mistake(row, &field);
    if (text) return complain(p, field, strcmp(field, "format") ? "it" : espl_format_name(row->format), text);
    if (!row->pattern || espl_sparsity_parse(row->pattern, &pattern)) return ESPL_OK;
    snprintf(quoted, sizeof quoted, "'%s'", row->pattern);
    snprintf(mistake, sizeof mistake, "is not a pattern; give one of: %s",
             espl_sparsity_forms(forms, sizeof forms));
    return complain(p, "pattern", quoted, mistake);
}

static espl_status check(const espl__recipe *recipe, const char *label, const char *text, size_t length,
                         espl_diag *diag) {
    espl_status status = ESPL_OK;
    char forms[ESPL__OBSERVER_FORMS];
    espl__observer observer;
    if (recipe->observer && !espl__observer_parse(recipe->observer, &observer))
        return espl__fail(diag, ESPL_FORMAT, "%.200s:%u: observer: '%s' is none; give one of: %s", label,
                          espl__yaml_line(text, length, "observer"), recipe->observer,
                          espl__observer_forms(forms, sizeof forms));
    if (recipe->accumulator && (recipe->accumulator < 2 || recipe->accumulator > 64))
        return espl__fail(diag, ESPL_FORMAT, "%.200s:%u: accumulator: %u is not 2 to 64 bits", label,
                          espl__yaml_line(text, length, "accumulator"), (unsigned)recipe->accumulator);
    if (recipe->max_drop && !(*recipe->max_drop >= 0))
        return espl__fail(diag, ESPL_FORMAT, "%.200s:%u: max_drop: %g must not be negative", label,
                          espl__yaml_line(text, length, "max_drop"), *recipe->max_drop);
    for (uint32_t i = 0; i < recipe->repair_count && status == ESPL_OK; i++) {
        espl__repair repair;
        char key[32], list[ESPL__REPAIR_FORMS];
        if (espl__repair_parse(recipe->repair[i], &repair)) continue;
        snprintf(key, sizeof key, "repair[%u]", (unsigned)i);
        status = espl__fail(diag, ESPL_FORMAT, "%.200s:%u: %s: '%s' is no repair; give some of: %s", label,
                            espl__yaml_line(text, length, key), key, recipe->repair[i],
                            espl__repair_forms(list, sizeof list));
    }
    for (uint32_t i = 0; i < recipe->layer_count && status == ESPL_OK; i++)
        status = check_row(&recipe->layers[i], &(place){label, text, length, i, diag});
    return status;
}

espl_sparsity espl__recipe_pattern(const espl__recipe_layer *row) {
    espl_sparsity pattern = {.pattern = ESPL_PATTERN_DENSE};
    if (row->pattern) (void)espl_sparsity_parse(row->pattern, &pattern);
    return pattern;
}

espl_status espl__recipe_parse(espl_context *ctx, const char *label, const char *text, size_t length,
                               espl__recipe **out, espl_diag *diag) {
    void *data = NULL;
    *out = NULL;
    espl_status status = espl__yaml_parse(ctx, label, text, length, &recipe_schema, &data, diag);
    if (status == ESPL_OK) status = check(data, label, text, length, diag);
    if (status == ESPL_OK)
        *out = data;
    else
        espl__yaml_free(ctx, &recipe_schema, data);
    return status;
}

espl_status espl__recipe_read(espl_context *ctx, const char *path, espl__recipe **out, espl_diag *diag) {
    uint8_t *text = NULL;
    uint64_t length = 0;
    char known[512];
    const espl__bundled *ready = espl__bundled_find(espl__recipe_bundle, path);
    *out = NULL;
    if (ready) return espl__recipe_parse(ctx, path, ready->text, ready->length, out, diag);
    if (!strpbrk(path, "/."))
        return espl__fail(diag, ESPL_IO,
                          "there is no recipe '%.80s'; ready ones are %s; or give the path of a .yaml file",
                          path, espl__bundled_names(espl__recipe_bundle, known, sizeof known));
    espl_status status = espl__file_read(ctx, path, ESPL__YAML_MAX, &text, &length, diag);
    if (status == ESPL_OK)
        status = espl__recipe_parse(ctx, path, (const char *)text, (size_t)length, out, diag);
    espl__free(ctx, text);
    return status;
}

void espl__recipe_destroy(espl_context *ctx, espl__recipe **recipe) {
    espl__yaml_free(ctx, &recipe_schema, *recipe);
    *recipe = NULL;
}

/* --- matching --- */

/* * and ? only: names of layers hold brackets and slashes, which fnmatch treats specially. On a mismatch the
 * last star takes one character more, so the time is at most the product of the lengths. */
static bool matches(const char *pattern, const char *text) {
    const char *star = NULL, *resume = text;
    while (*text) {
        if (*pattern == '*') {
            star = ++pattern;
            resume = text;
        } else if (*pattern == '?' || *pattern == *text) {
            pattern++;
            text++;
        } else if (star) {
            pattern = star;
            text = ++resume;
        } else {
            return false;
        }
    }
    while (*pattern == '*') pattern++;
    return !*pattern;
}

bool espl__recipe_row_matches(const espl__recipe_layer *row, const char *layer_name, const char *op_name) {
    if (!strncmp(row->match, "op:", 3)) return op_name && matches(row->match + 3, op_name);
    return layer_name && matches(row->match, layer_name);
}

const espl__recipe_layer *espl__recipe_lookup(const espl__recipe *recipe, const char *layer_name,
                                              const char *op_name) {
    for (uint32_t i = recipe->layer_count; i-- > 0;)
        if (espl__recipe_row_matches(&recipe->layers[i], layer_name, op_name)) return &recipe->layers[i];
    return NULL;
}

const char *espl__recipe_flavour_name(const espl__recipe *recipe) {
    for (size_t i = 0; i < ESPL_COUNT(flavour_names); i++)
        if (flavour_names[i].val == (int64_t)recipe->flavour) return flavour_names[i].str;
    return "";
}

espl_status espl__recipe_emit(espl_context *ctx, const espl__recipe *recipe, espl__buffer *out,
                              espl_diag *diag) {
    return espl__yaml_emit(ctx, &recipe_schema, recipe, out, diag);
}
