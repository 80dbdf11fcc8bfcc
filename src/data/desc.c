/* The YAML description of a data set: schema, checks that a schema cannot express, paths. */
#include "data/data.h"
#include "yaml/yaml.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#define FIELD(type, name) CYAML_FIELD_##type(#name, CYAML_FLAG_OPTIONAL, espl__data_desc, name)
#define TEXT(name) \
    CYAML_FIELD_STRING_PTR(#name, CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, espl__data_desc, name, 0, 4096)
#define LIST(name, entry, most)                                                                            \
    CYAML_FIELD_SEQUENCE(#name, CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, espl__data_desc, name, entry, 1, \
                         most)

static const cyaml_schema_value_t text_entry = {CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char, 1, 4096)};
static const cyaml_schema_value_t number_entry = {CYAML_VALUE_FLOAT(CYAML_FLAG_DEFAULT, double)};
static const cyaml_schema_value_t integer_entry = {CYAML_VALUE_INT(CYAML_FLAG_DEFAULT, int64_t)};

static const cyaml_schema_field_t input_fields[] = {
    CYAML_FIELD_STRING_PTR("name", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, espl__data_input, name, 0, 4096),
    CYAML_FIELD_STRING_PTR("path", CYAML_FLAG_POINTER, espl__data_input, path, 1, 4096),
    CYAML_FIELD_END,
};
static const cyaml_schema_value_t input_entry = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, espl__data_input, input_fields)};

static const cyaml_schema_field_t every_fields[] = {
    CYAML_FIELD_INT("n", CYAML_FLAG_DEFAULT, espl__data_every, n),
    CYAML_FIELD_SEQUENCE("keep", CYAML_FLAG_POINTER, espl__data_every, keep, &integer_entry, 1, 4096),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t augment_fields[] = {
    CYAML_FIELD_INT("pad", CYAML_FLAG_OPTIONAL, espl__data_augment, pad),
    CYAML_FIELD_BOOL("flip", CYAML_FLAG_OPTIONAL, espl__data_augment, flip),
    CYAML_FIELD_INT("cutout", CYAML_FLAG_OPTIONAL, espl__data_augment, cutout),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t desc_fields[] = {
    CYAML_FIELD_STRING_PTR("kind", CYAML_FLAG_POINTER, espl__data_desc, kind, 1, 64),
    TEXT(path),
    LIST(paths, &text_entry, 4096),
    TEXT(labels),
    LIST(inputs, &input_entry, ESPL__DATA_MAX_INPUTS),
    TEXT(split),
    FIELD(UINT, seed),
    FIELD(INT, channels),
    FIELD(INT, resize),
    FIELD(INT, crop),
    TEXT(vocab),
    TEXT(unit),
    FIELD(INT, sequence),
    CYAML_FIELD_MAPPING_PTR("every", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, espl__data_desc, every,
                            every_fields),
    FIELD(INT, count),
    FIELD(INT, label_offset),
    TEXT(layout),
    TEXT(scale),
    LIST(mean, &number_entry, 65536),
    LIST(std, &number_entry, 65536),
    CYAML_FIELD_MAPPING_PTR("augment", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, espl__data_desc, augment,
                            augment_fields),
    CYAML_FIELD_END,
};
static const cyaml_schema_value_t desc_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, espl__data_desc, desc_fields)};

#define X(name) extern const espl__data_kind espl__data_kind_##name;
#include "data/kinds.list"
#undef X

static const espl__data_kind *const kinds[] = {
#define X(name) &espl__data_kind_##name,
#include "data/kinds.list"
#undef X
};

espl_status espl__desc_fail(const espl_dataset *d, espl_status status, const char *key, espl_diag *diag,
                            const char *fmt, ...) {
    char sentence[900];
    va_list args;
    va_start(args, fmt);
    vsnprintf(sentence, sizeof sentence, fmt, args);
    va_end(args);
    if (!d->text) return espl__fail(diag, status, "%s: %s: %s", d->file, key, sentence);
    return espl__fail(diag, status, "%s:%u: %s: %s", d->file,
                      espl__yaml_line(d->text, (size_t)d->text_length, key), key, sentence);
}

/* --- paths ----------------------------------------------------------------------------------- */

espl_status espl__desc_path(espl_dataset *d, const char *key, const char *path, const char *folder,
                            const char **out, espl_diag *diag) {
    static const char variable[] = "${ESPL_ASSETS}";
    espl__buffer b;
    espl__buffer_init(&b, d->ctx);
    if (strncmp(path, variable, sizeof variable - 1) == 0) {
        const char *assets = getenv("ESPL_ASSETS");
        espl__buffer_printf(&b, "%s%s", assets && *assets ? assets : "../shared", path + sizeof variable - 1);
    } else if (strchr(path, '$')) {
        return espl__desc_fail(d, ESPL_INVALID, key, diag,
                               "'%s' has a '$'; the one variable is ${ESPL_ASSETS}, at the start of the path",
                               path);
    } else if (path[0] == '/' || !*folder) {
        espl__buffer_printf(&b, "%s", path);
    } else {
        espl__buffer_printf(&b, "%s%s%s", folder, folder[strlen(folder) - 1] == '/' ? "" : "/", path);
    }
    *out = b.failed ? NULL : espl__arena_strndup(&d->arena, b.data, b.length);
    espl__buffer_free(&b);
    return *out ? ESPL_OK : espl__nomem(diag, strlen(path));
}

const char *espl__data_base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* --- checks ----------------------------------------------------------------------------------- */

static espl_status find_kind(espl_dataset *d, espl_diag *diag) {
    char known[256] = "";
    size_t used = 0;
    for (size_t i = 0; i < ESPL_COUNT(kinds); i++) {
        if (strcmp(kinds[i]->name, d->desc->kind) == 0) {
            d->kind = kinds[i];
            return ESPL_OK;
        }
        int n = snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "", kinds[i]->name);
        used += n > 0 && (size_t)n < sizeof known - used ? (size_t)n : 0;
    }
    return espl__desc_fail(d, ESPL_UNSUPPORTED, "kind", diag, "there is no kind '%s'; there are %s",
                           d->desc->kind, known);
}

/* A key that the kind would ignore is a mistake of the writer. */
static espl_status check_keys(const espl_dataset *d, espl_diag *diag) {
    const espl__data_desc *c = d->desc;
    const struct {
        const char *key;
        bool given;
        unsigned mask;
    } keys[] = {
        {"path", c->path != NULL, ESPL__KEY_PATH},
        {"paths", c->paths != NULL, ESPL__KEY_PATHS},
        {"labels", c->labels != NULL, ESPL__KEY_LABELS},
        {"split", c->split != NULL, ESPL__KEY_SPLIT},
        {"inputs", c->inputs != NULL, ESPL__KEY_INPUTS},
        {"seed", c->seed != 0, ESPL__KEY_SEED},
        {"channels", c->channels != 0, ESPL__KEY_CHANNELS},
        {"resize", c->resize != 0, ESPL__KEY_PICTURE},
        {"crop", c->crop != 0, ESPL__KEY_PICTURE},
        {"vocab", c->vocab != NULL, ESPL__KEY_TEXT},
        {"unit", c->unit != NULL, ESPL__KEY_TEXT},
        {"sequence", c->sequence != 0, ESPL__KEY_TEXT},
        {"every", c->every != NULL, ESPL__KEY_NUMBERS},
        {"layout", c->layout != NULL, ESPL__KEY_NUMBERS},
        {"scale", c->scale != NULL, ESPL__KEY_NUMBERS},
        {"mean", c->mean != NULL, ESPL__KEY_NUMBERS},
        {"std", c->std != NULL, ESPL__KEY_NUMBERS},
        {"label_offset", c->label_offset != 0, ESPL__KEY_NUMBERS},
        {"augment", c->augment != NULL, ESPL__KEY_NUMBERS},
    };
    for (size_t i = 0; i < ESPL_COUNT(keys); i++)
        if (keys[i].given && !(d->kind->keys & keys[i].mask))
            return espl__desc_fail(d, ESPL_INVALID, keys[i].key, diag,
                                   "has no meaning for kind %s; remove it", d->kind->name);
    return ESPL_OK;
}

static espl_status check_range(const espl_dataset *d, const char *key, int64_t value, int64_t lo, int64_t hi,
                               espl_diag *diag) {
    if (value >= lo && value <= hi) return ESPL_OK;
    return espl__desc_fail(d, ESPL_INVALID, key, diag, "%" PRId64 " is not within %" PRId64 "..%" PRId64,
                           value, lo, hi);
}

static espl_status check_values(const espl_dataset *d, espl_diag *diag) {
    const espl__data_desc *c = d->desc;
    espl_status status = ESPL_OK;
    ESPL_TRY(check_range(d, "count", c->count, 0, INT64_MAX, diag));
    ESPL_TRY(check_range(d, "resize", c->resize, 0, ESPL__IMAGE_MAX_SIDE, diag));
    ESPL_TRY(check_range(d, "crop", c->crop, 0, ESPL__IMAGE_MAX_SIDE, diag));
    ESPL_TRY(check_range(d, "label_offset", c->label_offset, INT32_MIN, INT32_MAX, diag));
    ESPL_TRY(check_range(d, "sequence", c->sequence, 0, ESPL__TEXT_MAX_SEQUENCE, diag));
    if (c->augment) {
        ESPL_TRY(check_range(d, "augment.pad", c->augment->pad, 0, ESPL__IMAGE_MAX_SIDE, diag));
        ESPL_TRY(check_range(d, "augment.cutout", c->augment->cutout, 0, ESPL__IMAGE_MAX_SIDE, diag));
    }
    if (c->channels != 0 && c->channels != 1 && c->channels != 3)
        status = espl__desc_fail(d, ESPL_INVALID, "channels", diag, "give 1 (grey) or 3 (colour)");
    else if (c->layout && strcmp(c->layout, "nchw") != 0 && strcmp(c->layout, "nhwc") != 0)
        status = espl__desc_fail(d, ESPL_INVALID, "layout", diag, "'%s' is neither nchw nor nhwc", c->layout);
    if (status != ESPL_OK || !c->every) goto done;
    ESPL_TRY(check_range(d, "every.n", c->every->n, 1, INT32_MAX, diag));
    for (unsigned i = 0; i < c->every->keep_count; i++)
        ESPL_TRY(check_range(d, "every.keep", c->every->keep[i], 0, c->every->n - 1, diag));
done:
    return status;
}

/* --- reading ----------------------------------------------------------------------------------- */

/* Generators are named without a file: "digits", or "digits:train" with the split. */
static bool is_bare_word(const char *spec) {
    return strncmp(spec, "digits", 6) == 0 && (spec[6] == 0 || spec[6] == ':');
}

static espl_status builtin(espl_dataset *d, const char *spec, espl_diag *diag) {
    size_t name = strcspn(spec, ":");
    d->desc = espl__arena_alloc(&d->arena, sizeof *d->desc);
    if (!d->desc || !(d->desc->kind = espl__arena_strndup(&d->arena, spec, name)))
        return espl__nomem(diag, sizeof *d->desc);
    if (spec[name] && !(d->desc->split = espl__arena_strdup(&d->arena, spec + name + 1)))
        return espl__nomem(diag, strlen(spec));
    d->file = d->desc->kind;
    d->folder = "";
    return find_kind(d, diag);
}

static espl_status split_path(espl_dataset *d, const char *spec, espl_diag *diag) {
    const char *base = espl__data_base_name(spec);
    d->file = espl__arena_strdup(&d->arena, spec);
    d->folder = espl__arena_strndup(&d->arena, spec, (size_t)(base - spec));
    return d->file && d->folder ? ESPL_OK : espl__nomem(diag, strlen(spec));
}

/* For who names the data itself, or misspells a generator. */
static espl_status no_description(const char *spec, const char *why, espl_diag *diag) {
    return espl__fail(diag, ESPL_INVALID,
                      "%s: %s; a data set is named by its description, a YAML file (docs/data.md), or is digits or "
                      "digits:train", spec, why);
}

/* Text has no other control characters than these. */
static bool is_binary(const uint8_t *text, uint64_t length) {
    for (uint64_t i = 0; i < length && i < 64; i++)
        if (text[i] < ' ' && !strchr("\t\n\r", text[i] ? text[i] : 1)) return true;
    return false;
}

static espl_status read_text(espl_dataset *d, const char *spec, espl_diag *diag) {
    uint8_t *text = NULL;
    struct stat st;
    const bool there = stat(spec, &st) == 0;
    if (!there && errno == ENOENT && !strpbrk(spec, "./"))
        return no_description(spec, "there is no such file", diag);
    if (there && S_ISREG(st.st_mode) && (uint64_t)st.st_size > ESPL__YAML_MAX)
        return no_description(spec, "is too large to be a description", diag);
    const espl_status status = espl__file_read(d->ctx, spec, ESPL__YAML_MAX, &text, &d->text_length, diag);
    d->text = (char *)text;
    if (status == ESPL_OK && is_binary(text, d->text_length))
        return no_description(spec, "is no text", diag);
    return status;
}

espl_status espl__desc_read(espl_dataset *d, const char *spec, espl_diag *diag) {
    espl_status status = ESPL_OK;
    void *desc = NULL;
    if (is_bare_word(spec)) return builtin(d, spec, diag);
    ESPL_TRY(split_path(d, spec, diag));
    ESPL_TRY(read_text(d, spec, diag));
    ESPL_TRY(espl__yaml_parse(d->ctx, spec, d->text, (size_t)d->text_length, &desc_schema, &desc, diag));
    d->desc = desc;
    ESPL_TRY(find_kind(d, diag));
    ESPL_TRY(check_keys(d, diag));
    ESPL_TRY(check_values(d, diag));
done:
    return status;
}

void espl__desc_free(espl_dataset *d) {
    if (d->text && d->desc) espl__yaml_free(d->ctx, &desc_schema, d->desc);
    d->desc = NULL;
    espl__free(d->ctx, d->text);
    d->text = NULL;
}
