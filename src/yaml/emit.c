/* Structs to YAML by the same schema that reads them. libcyaml could write too, but it prints a double as
 * 5.0000000000000001e-03 and every optional zero; these files are for people. libyaml does the quoting. */
#include <stdio.h>
#include <stdlib.h>
#include <yaml.h>

#include "yaml/yaml.h"

typedef struct writer {
    yaml_emitter_t emitter;
    bool failed;
} writer;

static int write_bytes(void *user, unsigned char *bytes, size_t length) {
    espl__buffer *out = user;
    espl__buffer_append(out, bytes, length);
    return !out->failed;
}

/* `made` is what the event's initialiser returned. The emitter takes the event. */
static void emit(writer *w, yaml_event_t *event, int made) {
    if (made && w->failed) yaml_event_delete(event);
    else if (!made || !yaml_emitter_emit(&w->emitter, event)) w->failed = true;
}

static void emit_text(writer *w, const char *text, bool plain) {
    yaml_event_t event;
    /* A string that reads like a number, a truth or a null keeps its quotes. */
    static const char *const words[] = {"true", "false", "yes", "no", "on", "off", "null", "~", ""};
    bool quote = !plain && text[strspn(text, "0123456789+-.eE")] == 0;
    for (size_t i = 0; !plain && i < ESPL_COUNT(words); i++) quote = quote || !strcmp(text, words[i]);
    emit(w, &event,
         yaml_scalar_event_initialize(&event, NULL, NULL, (const yaml_char_t *)text, (int)strlen(text), 1, 1,
                                      quote ? YAML_DOUBLE_QUOTED_SCALAR_STYLE : YAML_ANY_SCALAR_STYLE));
}

/* Little-endian hosts and big-endian ones alike: through the type of that size. */
static uint64_t load_uint(const void *at, uint32_t size) {
    uint8_t v1;
    uint16_t v2;
    uint32_t v4;
    uint64_t v8 = 0;
    switch (size) {
        case 1: memcpy(&v1, at, 1); return v1;
        case 2: memcpy(&v2, at, 2); return v2;
        case 4: memcpy(&v4, at, 4); return v4;
        case 8: memcpy(&v8, at, 8); return v8;
        default: return 0;
    }
}
static int64_t load_int(const void *at, uint32_t size) {
    uint64_t v = load_uint(at, size);
    unsigned unused = 64 - ESPL_MIN(size, 8u) * 8;
    uint64_t sign = unused < 64 ? UINT64_C(1) << (63 - unused) : 0;
    return (int64_t)((v ^ sign) - sign);
}

/* The shortest decimal that reads back as the same number. */
static void print_float(const void *at, uint32_t size, char *buf, size_t room) {
    float single = 0;
    double value = 0;
    if (size == sizeof single) {
        memcpy(&single, at, sizeof single);
        value = single;
    } else {
        memcpy(&value, at, sizeof value);
    }
    for (int digits = size == sizeof single ? 6 : 15; digits <= 17; digits++) {
        snprintf(buf, room, "%.*g", digits, value);
        if (size == sizeof single ? strtof(buf, NULL) == single : strtod(buf, NULL) == value) break;
    }
    char *comma = strchr(buf, ','); /* some locales print a decimal comma */
    if (comma) *comma = '.';
}

static const char *enum_name(const cyaml_schema_value_t *schema, int64_t value) {
    for (uint32_t i = 0; i < schema->enumeration.count; i++)
        if (schema->enumeration.strings[i].val == value) return schema->enumeration.strings[i].str;
    return "";
}

static void emit_value(writer *w, const cyaml_schema_value_t *schema, const char *at, uint64_t count);

static void emit_list_start(writer *w, const cyaml_schema_value_t *schema) {
    yaml_event_t event;
    yaml_sequence_style_t style =
        schema->flags & CYAML_FLAG_FLOW ? YAML_FLOW_SEQUENCE_STYLE : YAML_BLOCK_SEQUENCE_STYLE;
    emit(w, &event, yaml_sequence_start_event_initialize(&event, NULL, NULL, 1, style));
}
static void emit_list_end(writer *w) {
    yaml_event_t event;
    emit(w, &event, yaml_sequence_end_event_initialize(&event));
}

static void emit_list(writer *w, const cyaml_schema_value_t *schema, const char *at, uint64_t count) {
    const cyaml_schema_value_t *entry = schema->sequence.entry;
    emit_list_start(w, schema);
    for (uint64_t i = 0; i < count; i++) emit_value(w, entry, at + i * schema->data_size, entry->sequence.max);
    emit_list_end(w);
}

static void emit_flags(writer *w, const cyaml_schema_value_t *schema, const char *at) {
    uint64_t value = load_uint(at, schema->data_size);
    emit_list_start(w, schema);
    for (uint32_t i = 0; i < schema->enumeration.count; i++) {
        uint64_t bits = (uint64_t)schema->enumeration.strings[i].val;
        if (bits && (value & bits) == bits) emit_text(w, schema->enumeration.strings[i].str, true);
    }
    emit_list_end(w);
}

static const char *follow(const cyaml_schema_value_t *schema, const char *at) {
    if (!(schema->flags & CYAML_FLAG_POINTER)) return at;
    const char *target;
    memcpy(&target, at, sizeof target);
    return target;
}

static bool is_left_out(const cyaml_schema_field_t *field, const char *at, uint64_t count) {
    const cyaml_schema_value_t *schema = &field->value;
    if (schema->type == CYAML_IGNORE) return true;
    if (!(schema->flags & CYAML_FLAG_OPTIONAL)) return false;
    const char *value = follow(schema, at);
    if (!value) return true;
    if (schema->type == CYAML_SEQUENCE) return count == 0;
    if (schema->flags & CYAML_FLAG_POINTER) return false; /* there, whatever its value */
    if (schema->type == CYAML_STRING) return !*value;
    if (schema->type == CYAML_MAPPING || schema->type == CYAML_SEQUENCE_FIXED) return false;
    if (schema->type == CYAML_ENUM && *enum_name(schema, load_int(value, schema->data_size))) return false;
    return load_uint(value, schema->data_size) == 0;
}

static void emit_mapping(writer *w, const cyaml_schema_value_t *schema, const char *at) {
    yaml_event_t event;
    yaml_mapping_style_t style =
        schema->flags & CYAML_FLAG_FLOW ? YAML_FLOW_MAPPING_STYLE : YAML_BLOCK_MAPPING_STYLE;
    emit(w, &event, yaml_mapping_start_event_initialize(&event, NULL, NULL, 1, style));
    for (const cyaml_schema_field_t *f = schema->mapping.fields; f->key; f++) {
        uint64_t count = f->value.type == CYAML_SEQUENCE         ? load_uint(at + f->count_offset, f->count_size)
                         : f->value.type == CYAML_SEQUENCE_FIXED ? f->value.sequence.max
                                                                 : 0;
        if (is_left_out(f, at + f->data_offset, count)) continue;
        emit_text(w, f->key, true);
        emit_value(w, &f->value, at + f->data_offset, count);
    }
    emit(w, &event, yaml_mapping_end_event_initialize(&event));
}

static void emit_value(writer *w, const cyaml_schema_value_t *schema, const char *at, uint64_t count) {
    char buf[64];
    at = follow(schema, at);
    if (!at && schema->type != CYAML_SEQUENCE) {
        emit_text(w,
                  (schema->flags & CYAML_FLAG_POINTER_NULL_STR) == CYAML_FLAG_POINTER_NULL_STR ? "null" : "",
                  true);
        return;
    }
    switch (schema->type) {
        case CYAML_MAPPING: emit_mapping(w, schema, at); return;
        case CYAML_SEQUENCE:
        case CYAML_SEQUENCE_FIXED: emit_list(w, schema, at, count); return;
        case CYAML_FLAGS: emit_flags(w, schema, at); return;
        case CYAML_STRING: emit_text(w, at, false); return;
        case CYAML_ENUM: emit_text(w, enum_name(schema, load_int(at, schema->data_size)), true); return;
        case CYAML_BOOL: emit_text(w, load_uint(at, schema->data_size) ? "true" : "false", true); return;
        case CYAML_INT: snprintf(buf, sizeof buf, "%lld", (long long)load_int(at, schema->data_size)); break;
        case CYAML_UINT:
            snprintf(buf, sizeof buf, "%llu", (unsigned long long)load_uint(at, schema->data_size));
            break;
        case CYAML_FLOAT: print_float(at, schema->data_size, buf, sizeof buf); break;
        default: w->failed = true; return;
    }
    emit_text(w, buf, true);
}

espl_status espl__yaml_emit(espl_context *ctx, const cyaml_schema_value_t *schema, const void *data,
                            espl__buffer *out, espl_diag *diag) {
    (void)ctx;
    writer w = {.failed = false};
    yaml_event_t event;
    if (!yaml_emitter_initialize(&w.emitter)) return espl__nomem(diag, 0);
    yaml_emitter_set_output(&w.emitter, write_bytes, out);
    yaml_emitter_set_unicode(&w.emitter, 1);
    yaml_emitter_set_width(&w.emitter, 100);
    emit(&w, &event, yaml_stream_start_event_initialize(&event, YAML_UTF8_ENCODING));
    emit(&w, &event, yaml_document_start_event_initialize(&event, NULL, NULL, NULL, 1));
    const void *root = data;
    emit_value(&w, schema, schema->flags & CYAML_FLAG_POINTER ? (const char *)&root : (const char *)data, 0);
    emit(&w, &event, yaml_document_end_event_initialize(&event, 1));
    emit(&w, &event, yaml_stream_end_event_initialize(&event));
    bool memory = out->failed || w.emitter.error == YAML_MEMORY_ERROR, failed = w.failed;
    yaml_emitter_delete(&w.emitter);
    if (memory) return espl__nomem(diag, 0);
    if (failed)
        return espl__fail(diag, ESPL_INTERNAL,
                          "a value cannot be written as YAML: its text is not valid UTF-8, or out of memory");
    return ESPL_OK;
}
