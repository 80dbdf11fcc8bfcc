/* The walk over libyaml's events that finds the first mistake, with its line. */
#include "yaml/check.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <yaml.h>

enum { MAX_DEPTH = 32 };

typedef struct reader {
    yaml_parser_t parser;
    yaml_event_t event;
    const char *label;
    espl_diag *diag;
    int depth;
    char path[256]; /* key path of the value at hand, cut when it is longer */
    size_t path_length;
} reader;

static unsigned line_of(const reader *r) { return (unsigned)r->event.start_mark.line + 1; }
static const char *text_of(const reader *r) { return (const char *)r->event.data.scalar.value; }

static espl_status mistake(reader *r, unsigned line, const char *fmt, ...) ESPL_PRINTF(3, 4);
static espl_status mistake(reader *r, unsigned line, const char *fmt, ...) {
    char what[768];
    va_list args;
    va_start(args, fmt);
    vsnprintf(what, sizeof what, fmt, args);
    va_end(args);
    return espl__fail(r->diag, ESPL_FORMAT, "%.200s:%u: %s%s%s", r->label, line, r->path,
                      r->path_length ? ": " : "", what);
}

/* libyaml tells the problem, where it is, and sometimes within what. */
static espl_status syntax_error(reader *r) {
    const yaml_parser_t *p = &r->parser;
    if (p->error == YAML_MEMORY_ERROR) return espl__nomem(r->diag, 0);
    const char *problem = p->problem ? p->problem : "malformed";
    const char *context = p->context ? p->context : "";
    if (p->error == YAML_READER_ERROR)
        return espl__fail(r->diag, ESPL_FORMAT, "%.200s: byte %zu: %s", r->label, p->problem_offset, problem);
    return espl__fail(r->diag, ESPL_FORMAT, "%.200s:%zu: column %zu: not YAML: %s%s%s", r->label,
                      p->problem_mark.line + 1, p->problem_mark.column + 1, problem, *context ? " " : "", context);
}

static const char *anchor_of(const yaml_event_t *event) {
    const yaml_char_t *anchor = event->type == YAML_ALIAS_EVENT            ? event->data.alias.anchor
                                : event->type == YAML_SCALAR_EVENT         ? event->data.scalar.anchor
                                : event->type == YAML_SEQUENCE_START_EVENT ? event->data.sequence_start.anchor
                                : event->type == YAML_MAPPING_START_EVENT  ? event->data.mapping_start.anchor
                                                                           : NULL;
    return (const char *)anchor;
}

/* The next event; aliases (which can repeat a text beyond measure) and deep nesting end here. */
static espl_status next(reader *r) {
    yaml_event_delete(&r->event);
    if (!yaml_parser_parse(&r->parser, &r->event)) {
        memset(&r->event, 0, sizeof r->event);
        return syntax_error(r);
    }
    switch (r->event.type) {
        case YAML_SEQUENCE_START_EVENT:
        case YAML_MAPPING_START_EVENT:
            if (++r->depth > MAX_DEPTH)
                return mistake(r, line_of(r), "nested more than %d levels deep", MAX_DEPTH);
            break;
        case YAML_SEQUENCE_END_EVENT:
        case YAML_MAPPING_END_EVENT: r->depth--; break;
        case YAML_SCALAR_EVENT:
            if (strlen(text_of(r)) != r->event.data.scalar.length)
                return mistake(r, line_of(r), "a value must not contain a zero byte");
            break;
        default: break;
    }
    const char *anchor = anchor_of(&r->event);
    if (anchor)
        return mistake(r, line_of(r), "anchors and aliases ('%.60s') are not accepted; repeat the value",
                       anchor);
    return ESPL_OK;
}

static size_t path_push(reader *r, const char *key, uint32_t index) {
    size_t before = r->path_length, room = sizeof r->path - before;
    int n = key ? snprintf(r->path + before, room, "%s%.60s", before ? "." : "", key)
                : snprintf(r->path + before, room, "[%u]", (unsigned)index);
    r->path_length = before + ESPL_MIN((size_t)ESPL_MAX(n, 0), room - 1);
    return before;
}
static void path_pop(reader *r, size_t before) {
    r->path_length = before;
    r->path[before] = 0;
}

/* --- scalars --- */

static bool all_digits(const char *text) {
    if (!*text || (text[0] == '0' && text[1])) return false; /* 010 is octal to some readers and ten to others */
    return text[strspn(text, "0123456789")] == 0;
}

static espl_status check_integer(reader *r, const cyaml_schema_value_t *schema) {
    const char *text = text_of(r), *digits = text + (*text == '-' || *text == '+');
    bool is_signed = schema->type == CYAML_INT;
    if (!all_digits(digits)) return mistake(r, line_of(r), "'%.60s' is not an integer", text);
    if (!is_signed && *text == '-') return mistake(r, line_of(r), "'%.60s' must not be negative", text);
    unsigned bits = ESPL_MIN(schema->data_size, 8u) * 8;
    uint64_t max = bits ? UINT64_MAX >> (64 - bits) >> (is_signed ? 1 : 0) : 0;
    if (is_signed && *text == '-') max++;
    errno = 0;
    unsigned long long value = strtoull(digits, NULL, 10);
    if (errno || value > max)
        return mistake(r, line_of(r), "'%.60s' is too large (at most %llu)", text, (unsigned long long)max);
    return ESPL_OK;
}

static espl_status check_float(reader *r, const cyaml_schema_value_t *schema) {
    const char *text = text_of(r);
    char *end = NULL;
    errno = 0;
    double value = strtod(text, &end);
    /* The set of characters keeps hexadecimal, "inf" and "nan" out. */
    if (!*text || *end || text[strspn(text, "0123456789+-.eE")])
        return mistake(r, line_of(r), "'%.60s' is not a number", text);
    double max = schema->data_size == sizeof(float) ? 3.4e38 : 1e308;
    double least = schema->data_size == sizeof(float) ? 1.2e-38 : 1e-307, size = value < 0 ? -value : value;
    if (errno || size > max || (size > 0 && size < least))
        return mistake(r, line_of(r), "'%.60s' is outside the range of numbers", text);
    return ESPL_OK;
}

static bool is_one_of(const char *text, const char *const *words, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (!strcmp(text, words[i])) return true;
    return false;
}

static espl_status check_bool(reader *r) {
    static const char *const words[] = {"true", "false", "yes", "no", "on", "off"};
    if (is_one_of(text_of(r), words, ESPL_COUNT(words))) return ESPL_OK;
    return mistake(r, line_of(r), "'%.60s' is neither true nor false", text_of(r));
}

/* Appends ", word" to a list that may be cut. */
static void list_word(char *list, size_t size, const char *word) {
    size_t used = strlen(list);
    snprintf(list + used, size - used, "%s%s", used ? ", " : "", word);
}

static espl_status check_name(reader *r, const cyaml_schema_value_t *schema) {
    char known[512] = "";
    for (uint32_t i = 0; i < schema->enumeration.count; i++) {
        if (!strcmp(text_of(r), schema->enumeration.strings[i].str)) return ESPL_OK;
        list_word(known, sizeof known, schema->enumeration.strings[i].str);
    }
    return mistake(r, line_of(r), "'%.60s' is not known (one of: %s)", text_of(r), known);
}

static espl_status check_string(reader *r, const cyaml_schema_value_t *schema) {
    size_t length = r->event.data.scalar.length;
    if (length < schema->string.min)
        return length ? mistake(r, line_of(r), "'%.60s' is too short (at least %u bytes)", text_of(r),
                                (unsigned)schema->string.min)
                      : mistake(r, line_of(r), "the value is missing");
    if (length > schema->string.max)
        return mistake(r, line_of(r), "'%.60s...' is too long (at most %u bytes)", text_of(r),
                       (unsigned)schema->string.max);
    return ESPL_OK;
}

static bool is_null(const reader *r, const cyaml_schema_value_t *schema) {
    static const char *const nulls[] = {"~", "null", "Null", "NULL"};
    bool null = (schema->flags & CYAML_FLAG_POINTER_NULL) == CYAML_FLAG_POINTER_NULL;
    bool word = (schema->flags & CYAML_FLAG_POINTER_NULL_STR) == CYAML_FLAG_POINTER_NULL_STR;
    return (null && !*text_of(r)) || (word && is_one_of(text_of(r), nulls, ESPL_COUNT(nulls)));
}

static espl_status check_scalar(reader *r, const cyaml_schema_value_t *schema) {
    if (!*text_of(r) && schema->type != CYAML_STRING) return mistake(r, line_of(r), "the value is missing");
    switch (schema->type) {
        case CYAML_INT:
        case CYAML_UINT: return check_integer(r, schema);
        case CYAML_FLOAT: return check_float(r, schema);
        case CYAML_BOOL: return check_bool(r);
        case CYAML_ENUM: return check_name(r, schema);
        default: return check_string(r, schema);
    }
}

/* --- lists and mappings --- */

static espl_status check_value(reader *r, const cyaml_schema_value_t *schema);

/* Reads to the end of the value whose first event is at hand. */
static espl_status skip_value(reader *r) {
    espl_status status = ESPL_OK;
    bool opened = r->event.type == YAML_SEQUENCE_START_EVENT || r->event.type == YAML_MAPPING_START_EVENT;
    int outside = r->depth - (opened ? 1 : 0);
    while (status == ESPL_OK && r->depth > outside) status = next(r);
    return status;
}

static espl_status check_list(reader *r, const cyaml_schema_value_t *schema) {
    espl_status status = ESPL_OK;
    bool flags = schema->type == CYAML_FLAGS;
    uint32_t max = flags ? UINT32_MAX : schema->sequence.max, min = flags ? 0 : schema->sequence.min, count = 0;
    unsigned line = line_of(r);
    for (;; count++) {
        ESPL_TRY(next(r));
        if (r->event.type == YAML_SEQUENCE_END_EVENT) break;
        if (count == max)
            return mistake(r, line_of(r), "more than %u entries", (unsigned)max);
        size_t before = path_push(r, NULL, count);
        if (!flags) {
            ESPL_TRY(check_value(r, schema->sequence.entry));
        } else {
            if (r->event.type != YAML_SCALAR_EVENT) return mistake(r, line_of(r), "expected a name");
            ESPL_TRY(check_name(r, schema));
        }
        path_pop(r, before);
    }
    if (count < min)
        return mistake(r, line, "%u entries, but at least %u are needed", (unsigned)count, (unsigned)min);
done:
    return status;
}

/* The field's position, or an unknown-key sentence that lists what is known. */
static espl_status find_field(reader *r, const cyaml_schema_field_t *fields, uint32_t *index) {
    char known[512] = "";
    for (uint32_t i = 0; fields[i].key; i++) {
        if (!strcmp(fields[i].key, text_of(r))) {
            *index = i;
            return ESPL_OK;
        }
        list_word(known, sizeof known, fields[i].key);
    }
    return mistake(r, line_of(r), "unknown key '%.60s' (known: %s)", text_of(r), known);
}

static espl_status check_mapping(reader *r, const cyaml_schema_field_t *fields) {
    espl_status status = ESPL_OK;
    uint64_t seen = 0;
    unsigned start = line_of(r);
    for (;;) {
        ESPL_TRY(next(r));
        if (r->event.type == YAML_MAPPING_END_EVENT) break;
        if (r->event.type != YAML_SCALAR_EVENT) return mistake(r, line_of(r), "a key must be a plain word");
        uint32_t index = 0;
        ESPL_TRY(find_field(r, fields, &index));
        if (index >= 64)
            return espl__fail(r->diag, ESPL_INTERNAL, "a YAML schema has more than 64 keys in one mapping");
        if (seen >> index & 1) return mistake(r, line_of(r), "key '%s' is given twice", fields[index].key);
        seen |= UINT64_C(1) << index;
        size_t before = path_push(r, fields[index].key, 0);
        ESPL_TRY(next(r));
        ESPL_TRY(check_value(r, &fields[index].value));
        path_pop(r, before);
    }
    for (uint32_t i = 0; fields[i].key && i < 64; i++)
        if (!(fields[i].value.flags & CYAML_FLAG_OPTIONAL) && !(seen >> i & 1))
            return mistake(r, start, "key '%s' is missing", fields[i].key);
done:
    return status;
}

static const char *kind_of(yaml_event_type_t type) {
    return type == YAML_MAPPING_START_EVENT    ? "keys with values"
           : type == YAML_SEQUENCE_START_EVENT ? "a list"
                                               : "a single value";
}

/* The value whose first event is at hand; afterwards its last event is. */
static espl_status check_value(reader *r, const cyaml_schema_value_t *schema) {
    yaml_event_type_t type = r->event.type, want = YAML_SCALAR_EVENT;
    if (schema->type == CYAML_IGNORE) return skip_value(r);
    if (schema->type == CYAML_BITFIELD || schema->type >= CYAML__TYPE_COUNT)
        return espl__fail(r->diag, ESPL_INTERNAL, "a YAML schema uses a type that is not supported");
    if (type == YAML_SCALAR_EVENT && is_null(r, schema)) return ESPL_OK;
    if (schema->type == CYAML_MAPPING) want = YAML_MAPPING_START_EVENT;
    if (schema->type == CYAML_SEQUENCE || schema->type == CYAML_SEQUENCE_FIXED || schema->type == CYAML_FLAGS)
        want = YAML_SEQUENCE_START_EVENT;
    if (type != want) {
        if (type == YAML_SCALAR_EVENT && !*text_of(r)) return mistake(r, line_of(r), "the value is missing");
        return mistake(r, line_of(r), "expected %s, found %s", kind_of(want), kind_of(type));
    }
    if (want == YAML_MAPPING_START_EVENT) return check_mapping(r, schema->mapping.fields);
    if (want == YAML_SEQUENCE_START_EVENT) return check_list(r, schema);
    return check_scalar(r, schema);
}

/* --- documents --- */

static espl_status reader_open(reader *r, const char *label, const char *text, size_t length, espl_diag *diag) {
    memset(r, 0, sizeof *r);
    r->label = label;
    r->diag = diag;
    if (!yaml_parser_initialize(&r->parser)) return espl__nomem(diag, 0);
    yaml_parser_set_encoding(&r->parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&r->parser, (const unsigned char *)text, length);
    return ESPL_OK;
}

static void reader_close(reader *r) {
    yaml_event_delete(&r->event);
    yaml_parser_delete(&r->parser);
}

espl_status espl__yaml_check(const char *label, const char *text, size_t length,
                             const cyaml_schema_value_t *schema, espl_diag *diag) {
    if (length > ESPL__YAML_MAX)
        return espl__fail(diag, ESPL_LIMIT, "%.200s: %zu bytes are too many for a YAML file (at most %d)",
                          label, length, ESPL__YAML_MAX);
    reader r;
    espl_status status = reader_open(&r, label, text, length, diag);
    if (status != ESPL_OK) return status;
    ESPL_TRY(next(&r)); /* start of the stream */
    ESPL_TRY(next(&r)); /* start of the document */
    if (r.event.type == YAML_STREAM_END_EVENT) {
        status = espl__fail(diag, ESPL_FORMAT, "%.200s: the file is empty", label);
        goto done;
    }
    ESPL_TRY(next(&r));
    ESPL_TRY(check_value(&r, schema));
    ESPL_TRY(next(&r)); /* end of the document */
    ESPL_TRY(next(&r));
    if (r.event.type != YAML_STREAM_END_EVENT)
        status = mistake(&r, line_of(&r), "a second document starts here, only one is accepted");
done:
    reader_close(&r);
    return status;
}

/* --- lines of keys --- */

/* Whether `key` is `path` or lies below it. */
static bool leads_to(const char *path, const char *key) {
    size_t n = strlen(path);
    return !strncmp(path, key, n) && (!key[n] || key[n] == '.' || key[n] == '[');
}

/* Walks the value at hand and notes in *line the last key or entry that leads to `key`. */
static espl_status find_line(reader *r, const char *key, unsigned *line) {
    espl_status status = ESPL_OK;
    yaml_event_type_t type = r->event.type;
    if (type != YAML_MAPPING_START_EVENT && type != YAML_SEQUENCE_START_EVENT) return ESPL_OK;
    bool mapping = type == YAML_MAPPING_START_EVENT;
    for (uint32_t i = 0;; i++) {
        ESPL_TRY(next(r));
        if (r->event.type == YAML_MAPPING_END_EVENT || r->event.type == YAML_SEQUENCE_END_EVENT) break;
        if (mapping && r->event.type != YAML_SCALAR_EVENT) return ESPL_FORMAT;
        size_t before = path_push(r, mapping ? text_of(r) : NULL, i);
        if (leads_to(r->path, key)) *line = line_of(r);
        if (mapping) ESPL_TRY(next(r));
        ESPL_TRY(find_line(r, key, line));
        path_pop(r, before);
    }
done:
    return status;
}

unsigned espl__yaml_line(const char *text, size_t length, const char *key) {
    unsigned line = 1;
    reader r;
    espl_status status = reader_open(&r, "", text, length, NULL);
    if (status != ESPL_OK) return line;
    for (int i = 0; i < 3; i++) ESPL_TRY(next(&r));
    ESPL_TRY(find_line(&r, key, &line));
done:
    reader_close(&r);
    return line;
}
