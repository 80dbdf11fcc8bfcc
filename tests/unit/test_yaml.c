/* YAML by schema: what is read, the sentence and line of each kind of mistake, hostile texts, writing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <locale.h>
#include <stdio.h>
#include <stdlib.h>

#include "../clock.h"
#include "yaml/yaml.h"

typedef enum colour { RED, GREEN } colour;
typedef struct part {
    char *name;
    int8_t small;
    double weight;
} part;
typedef struct thing {
    char *name, *note;
    uint32_t cores;
    bool fpu;
    colour colour;
    float clock;
    uint32_t flags;
    part *parts;
    uint32_t part_count;
} thing;

static const cyaml_strval_t colours[] = {{"red", RED}, {"green", GREEN}};
static const cyaml_strval_t flag_names[] = {{"a", 1}, {"b", 2}, {"c", 4}};
static const cyaml_schema_field_t part_fields[] = {
    CYAML_FIELD_STRING_PTR("name", CYAML_FLAG_POINTER, part, name, 1, 20),
    CYAML_FIELD_INT("small", CYAML_FLAG_OPTIONAL, part, small),
    CYAML_FIELD_FLOAT("weight", CYAML_FLAG_DEFAULT, part, weight),
    CYAML_FIELD_END,
};
static const cyaml_schema_value_t part_schema = {CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, part, part_fields)};
static const cyaml_schema_field_t thing_fields[] = {
    CYAML_FIELD_STRING_PTR("name", CYAML_FLAG_POINTER, thing, name, 1, 60),
    CYAML_FIELD_STRING_PTR("note", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, thing, note, 0, 200),
    CYAML_FIELD_UINT("cores", CYAML_FLAG_DEFAULT, thing, cores),
    CYAML_FIELD_BOOL("fpu", CYAML_FLAG_OPTIONAL, thing, fpu),
    CYAML_FIELD_ENUM("colour", CYAML_FLAG_OPTIONAL, thing, colour, colours, CYAML_ARRAY_LEN(colours)),
    CYAML_FIELD_FLOAT("clock", CYAML_FLAG_OPTIONAL, thing, clock),
    CYAML_FIELD_FLAGS("flags", CYAML_FLAG_OPTIONAL | CYAML_FLAG_FLOW, thing, flags, flag_names, 3),
    CYAML_FIELD_SEQUENCE_COUNT("parts", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, thing, parts, part_count,
                               &part_schema, 0, 100000),
    CYAML_FIELD_END,
};
static const cyaml_schema_value_t schema = {CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, thing, thing_fields)};

static espl_context *ctx;
static uint64_t at_start;

static int setup(void **state) {
    (void)state;
    if (espl_context_create(NULL, &ctx, NULL) != ESPL_OK) return -1;
    at_start = espl_context_memory(ctx, NULL);
    return 0;
}
/* Nothing may stay allocated, whatever the test fed in. */
static int teardown(void **state) {
    (void)state;
    int leak = espl_context_memory(ctx, NULL) != at_start;
    espl_context_destroy(&ctx);
    return leak ? -1 : 0;
}

static espl_status parse(const char *text, thing **out, espl_diag *diag) {
    void *data = NULL;
    espl_status status = espl__yaml_parse(ctx, "x.yaml", text, strlen(text), &schema, &data, diag);
    *out = data;
    return status;
}

static void reads_values(void **state) {
    (void)state;
    thing *t;
    espl_diag diag = {0};
    const char *text = "# comment\n"
                       "name: \"a: b\"\n"
                       "cores: 4\n"
                       "fpu: no\n"
                       "colour: green\n"
                       "clock: 2.5e-1\n"
                       "flags: [a, c]\n"
                       "parts:\n"
                       "  - {name: one, weight: 1}\n"
                       "  - name: two\n"
                       "    small: -128\n"
                       "    weight: -0.125\n";
    assert_int_equal(parse(text, &t, &diag), ESPL_OK);
    assert_string_equal(t->name, "a: b");
    assert_null(t->note);
    assert_int_equal(t->cores, 4);
    assert_false(t->fpu);
    assert_int_equal(t->colour, GREEN);
    assert_true(t->clock == 0.25f);
    assert_int_equal(t->flags, 5);
    assert_int_equal(t->part_count, 2);
    assert_string_equal(t->parts[0].name, "one");
    assert_int_equal(t->parts[0].small, 0);
    assert_int_equal(t->parts[1].small, -128);
    assert_true(t->parts[1].weight == -0.125);
    espl__yaml_free(ctx, &schema, t);
}

static const struct {
    const char *text, *sentence;
} mistakes[] = {
    {"name: x\ncores: four\n", "x.yaml:2: cores: 'four' is not an integer"},
    {"name: x\ncores: 4x\n", "x.yaml:2: cores: '4x' is not an integer"},
    {"name: x\ncores: 010\n", "x.yaml:2: cores: '010' is not an integer"},
    {"name: x\ncores: 0x10\n", "x.yaml:2: cores: '0x10' is not an integer"},
    {"name: x\ncores: -1\n", "x.yaml:2: cores: '-1' must not be negative"},
    {"name: x\ncores: 4294967296\n", "x.yaml:2: cores: '4294967296' is too large (at most 4294967295)"},
    {"name: x\ncores: 99999999999999999999999\n",
     "x.yaml:2: cores: '99999999999999999999999' is too large (at most 4294967295)"},
    {"name: x\ncores:\n", "x.yaml:2: cores: the value is missing"},
    {"name: x\n", "x.yaml:1: key 'cores' is missing"},
    {"\n\ncores: 1\n", "x.yaml:3: key 'name' is missing"},
    {"name: ''\ncores: 1\n", "x.yaml:1: name: the value is missing"},
    {"name: x\ncores: 1\nfpu: maybe\n", "x.yaml:3: fpu: 'maybe' is neither true nor false"},
    {"name: x\ncores: 1\ncolour: blue\n", "x.yaml:3: colour: 'blue' is not known (one of: red, green)"},
    {"name: x\ncores: 1\ncolour: 1\n", "x.yaml:3: colour: '1' is not known (one of: red, green)"},
    {"name: x\ncores: 1\nclock: nan\n", "x.yaml:3: clock: 'nan' is not a number"},
    {"name: x\ncores: 1\nclock: inf\n", "x.yaml:3: clock: 'inf' is not a number"},
    {"name: x\ncores: 1\nclock: 1.2.3\n", "x.yaml:3: clock: '1.2.3' is not a number"},
    {"name: x\ncores: 1\nclock: 1,5\n", "x.yaml:3: clock: '1,5' is not a number"},
    {"name: x\ncores: 1\nclock: 1e39\n", "x.yaml:3: clock: '1e39' is outside the range of numbers"},
    {"name: x\ncores: 1\nclock: 1e-400\n", "x.yaml:3: clock: '1e-400' is outside the range of numbers"},
    {"name: x\ncores: 1\nflags: a\n", "x.yaml:3: flags: expected a list, found a single value"},
    {"name: x\ncores: 1\nflags: [a,\n  d]\n", "x.yaml:4: flags[1]: 'd' is not known (one of: a, b, c)"},
    {"name: x\ncores: 1\n\nspeed: 9\n",
     "x.yaml:4: unknown key 'speed' (known: name, note, cores, fpu, colour, clock, flags, parts)"},
    {"name: x\ncores: 1\nname: y\n", "x.yaml:3: key 'name' is given twice"},
    {"name: x\ncores: [1]\n", "x.yaml:2: cores: expected a single value, found a list"},
    {"name: x\ncores: {a: 1}\n", "x.yaml:2: cores: expected a single value, found keys with values"},
    {"name: x\ncores: 1\nparts:\n  - name: a\n    weight: 1\n  - name: b\n",
     "x.yaml:6: parts[1]: key 'weight' is missing"},
    {"name: x\ncores: 1\nparts:\n  - name: a\n    weight: heavy\n",
     "x.yaml:5: parts[0].weight: 'heavy' is not a number"},
    {"name: x\ncores: 1\nparts:\n  - name: a\n    weight: 1\n    small: 128\n",
     "x.yaml:6: parts[0].small: '128' is too large (at most 127)"},
    {"name: x\ncores: 1\nparts:\n  - name: a\n    wieght: 1\n",
     "x.yaml:5: parts[0]: unknown key 'wieght' (known: name, small, weight)"},
    {"name: x\ncores: 1\nparts:\n  - name: abcdefghijklmnopqrstuvwxyz\n    weight: 1\n",
     "x.yaml:4: parts[0].name: 'abcdefghijklmnopqrstuvwxyz...' is too long (at most 20 bytes)"},
    {"- a\n", "x.yaml:1: expected keys with values, found a list"},
    {"hello\n", "x.yaml:1: expected keys with values, found a single value"},
    {"", "x.yaml: the file is empty"},
    {"# nothing\n", "x.yaml: the file is empty"},
    {"name: x\ncores: 1\n---\nname: y\n", "x.yaml:3: a second document starts here, only one is accepted"},
    {"name: &n x\ncores: 1\n",
     "x.yaml:1: name: anchors and aliases ('n') are not accepted; repeat the value"},
    {"name: x\nnote: *n\ncores: 1\n",
     "x.yaml:2: note: anchors and aliases ('n') are not accepted; repeat the value"},
    {"? [a]\n: 1\n", "x.yaml:1: a key must be a plain word"},
    {"name: \"a\\0b\"\ncores: 1\n", "x.yaml:1: name: a value must not contain a zero byte"},
};

static void names_line_and_key(void **state) {
    (void)state;
    for (size_t i = 0; i < ESPL_COUNT(mistakes); i++) {
        thing *t;
        espl_diag diag = {0};
        assert_int_equal(parse(mistakes[i].text, &t, &diag), ESPL_FORMAT);
        assert_null(t);
        assert_string_equal(diag.message, mistakes[i].sentence);
        assert_int_equal(parse(mistakes[i].text, &t, NULL), ESPL_FORMAT);
    }
}

static void syntax_errors_name_the_line(void **state) {
    (void)state;
    static const struct {
        const char *text, *start;
    } rows[] = {
        {"name: x\ncores: 'unclosed\n", "x.yaml:3: "},
        {"name: x\n  cores: 1\n", "x.yaml:2: "},
        {"flags: [a, b\n", "x.yaml:2: "},
        {"name: x\n\tcores: 1\n", "x.yaml:2: "},
        {"name: x\ncores: @\n", "x.yaml:2: "},
        {"name: \xff\n", "x.yaml: byte 6"},
    };
    for (size_t i = 0; i < ESPL_COUNT(rows); i++) {
        thing *t;
        espl_diag diag = {0};
        assert_int_equal(parse(rows[i].text, &t, &diag), ESPL_FORMAT);
        if (strncmp(diag.message, rows[i].start, strlen(rows[i].start))) fail_msg("%s", diag.message);
    }
}

/* A text of `count` times `unit` between a head and a tail. */
static char *repeat(const char *head, const char *unit, size_t count) {
    size_t h = strlen(head), u = strlen(unit);
    char *text = malloc(h + u * count + 1);
    assert_non_null(text);
    memcpy(text, head, h);
    for (size_t i = 0; i < count; i++) memcpy(text + h + i * u, unit, u);
    text[h + u * count] = 0;
    return text;
}

static void hostile_texts_end_in_a_sentence(void **state) {
    (void)state;
    static const struct {
        const char *head, *unit;
        size_t count;
        espl_status status;
    } rows[] = {
        {"name: ", "[", 500000, ESPL_FORMAT},
        {"", "[", 1000000, ESPL_FORMAT},
        {"", "{a: ", 200000, ESPL_FORMAT},
        {"", "- ", 400000, ESPL_FORMAT},
        {"", "? ", 400000, ESPL_FORMAT},
        {"name: x\n", "#############\n", 80000, ESPL_LIMIT},
        {"name: ", "x", 900000, ESPL_FORMAT},
        {"a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\n", "d: [*c,*c]\n", 1000, ESPL_FORMAT},
        {"name: x\ncores: 1\nparts:\n", "- {name: a, weight: 1}\n", 40000, ESPL_OK},
        {"name: x\ncores: 1\nparts:\n", "-\n", 120000, ESPL_FORMAT},
    };
    for (size_t i = 0; i < ESPL_COUNT(rows); i++) {
        char *text = repeat(rows[i].head, rows[i].unit, rows[i].count);
        thing *t;
        espl_diag diag = {0};
        double start = seconds_worked();
        assert_int_equal(parse(text, &t, &diag), rows[i].status);
        assert_true(seconds_worked() - start < 5.0 * ESPL_SLOWNESS);
        assert_int_equal(diag.message[0] != 0, rows[i].status != ESPL_OK);
        espl__yaml_free(ctx, &schema, t);
        free(text);
    }
}

/* Every prefix of a good text, and the text with each byte replaced: an answer, no crash, no leak (see
 * teardown). */
static void damaged_texts_are_answered(void **state) {
    (void)state;
    const char *good =
        "name: \"a: b\"\ncores: 4\nflags: [a, c]\nparts:\n  - {name: one, weight: 1}\n  - name: two\n";
    const char bytes[] = {'\0', '\n', ':', '[', '}', '&', '*', '"', '\t', (char)0xff, '-', '|'};
    char text[256];
    for (size_t n = 0; n <= strlen(good); n++)
        for (size_t b = 0; b < sizeof bytes; b++) {
            memcpy(text, good, strlen(good));
            text[n] = bytes[b];
            for (size_t length = n; length <= strlen(good); length += ESPL_MAX(strlen(good) - n, 1)) {
                void *data = NULL;
                espl_diag diag = {0};
                espl_status status = espl__yaml_parse(ctx, "x", text, length, &schema, &data, &diag);
                assert_int_equal(status, diag.status);
                assert_int_equal(status == ESPL_OK, data != NULL);
                espl__yaml_free(ctx, &schema, data);
            }
        }
}

/* A decimal comma in the program's locale changes nothing. */
static void locale_does_not_matter(void **state) {
    (void)state;
    if (!setlocale(LC_ALL, "de_DE.UTF-8") && !setlocale(LC_ALL, "fr_FR.UTF-8")) skip();
    thing *t;
    assert_int_equal(parse("name: x\ncores: 1\nclock: 2.5\n", &t, NULL), ESPL_OK);
    assert_true(t->clock == 2.5f);
    espl__buffer out;
    espl__buffer_init(&out, ctx);
    assert_int_equal(espl__yaml_emit(ctx, &schema, t, &out, NULL), ESPL_OK);
    assert_string_equal(out.data, "name: x\ncores: 1\ncolour: red\nclock: 2.5\n");
    espl__buffer_free(&out);
    espl__yaml_free(ctx, &schema, t);
    setlocale(LC_ALL, "C");
}

static void file_errors_name_the_file(void **state) {
    (void)state;
    void *data = NULL;
    espl_diag diag = {0};
    assert_int_equal(espl__yaml_read(ctx, "no/such/file.yaml", &schema, &data, &diag), ESPL_IO);
    assert_non_null(strstr(diag.message, "no/such/file.yaml"));
    char path[] = "test_yaml_XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    FILE *file = fdopen(fd, "w");
    for (int i = 0; i < 80000; i++) fputs("# 0123456789ab\n", file);
    fclose(file);
    diag = (espl_diag){0};
    assert_int_not_equal(espl__yaml_read(ctx, path, &schema, &data, &diag), ESPL_OK);
    assert_non_null(strstr(diag.message, path));
    remove(path);
}

static void finds_lines_of_keys(void **state) {
    (void)state;
    const char *text = "name: x\n"
                       "parts:\n"
                       "  - name: a\n"
                       "    weight: 1\n"
                       "  - {name: b,\n"
                       "     weight: 2}\n"
                       "partsy: 3\n";
    static const struct {
        const char *key;
        unsigned line;
    } rows[] = {{"name", 1}, {"parts", 2}, {"parts[0]", 3}, {"parts[0].weight", 4}, {"parts[1].weight", 6},
                {"partsy", 7}, {"parts[1].none", 5}, {"none", 1}};
    for (size_t i = 0; i < ESPL_COUNT(rows); i++)
        assert_int_equal(espl__yaml_line(text, strlen(text), rows[i].key), rows[i].line);
}

static void writes_what_it_reads(void **state) {
    (void)state;
    char name[] = "12", note[] = "two\nlines: #1", one[] = "one", odd[] = "- odd";
    part parts[] = {{one, -7, 0.1}, {odd, 0, 1e-12}};
    thing t = {.name = name,
               .note = note,
               .cores = 4000000000u,
               .fpu = true,
               .colour = RED,
               .clock = 0.1f,
               .flags = 6,
               .parts = parts,
               .part_count = 2};
    espl__buffer out;
    espl__buffer_init(&out, ctx);
    espl_diag diag = {0};
    assert_int_equal(espl__yaml_emit(ctx, &schema, &t, &out, &diag), ESPL_OK);
    assert_string_equal(out.data, "name: \"12\"\n"
                                  "note: 'two\n"
                                  "\n"
                                  "  lines: #1'\n"
                                  "cores: 4000000000\n"
                                  "fpu: true\n"
                                  "colour: red\n"
                                  "clock: 0.1\n"
                                  "flags: [b, c]\n"
                                  "parts:\n"
                                  "- name: one\n"
                                  "  small: -7\n"
                                  "  weight: 0.1\n"
                                  "- name: '- odd'\n"
                                  "  weight: 1e-12\n");
    thing *back;
    assert_int_equal(parse(out.data, &back, &diag), ESPL_OK);
    assert_string_equal(back->name, name);
    assert_string_equal(back->note, note);
    assert_int_equal(back->parts[0].small, -7);
    assert_true(back->clock == 0.1f && back->parts[0].weight == 0.1 && back->parts[1].weight == 1e-12);
    assert_string_equal(back->parts[1].name, odd);
    espl__yaml_free(ctx, &schema, back);
    espl__buffer_free(&out);
}

static void *no_memory(void *user, size_t bytes) {
    int *left = user;
    return (*left)-- > 0 ? aligned_alloc(64, (bytes + 63) / 64 * 64) : NULL;
}
static void give_back(void *user, void *ptr) {
    (void)user;
    free(ptr);
}

/* Each allocation in turn fails. */
static void survives_lack_of_memory(void **state) {
    (void)state;
    const char *text =
        "name: x\ncores: 1\nparts:\n- {name: a, weight: 1}\n- {name: b, weight: 1}\n- {name: c, weight: 1}\n";
    bool done = false;
    for (int allowed = 0; !done; allowed++) {
        int left = 1000;
        espl_config config = {.alloc = no_memory, .free = give_back, .user = &left};
        espl_context *poor = NULL;
        assert_int_equal(espl_context_create(&config, &poor, NULL), ESPL_OK);
        left = allowed;
        void *data = NULL;
        espl_diag diag = {0};
        espl_status status = espl__yaml_parse(poor, "x", text, strlen(text), &schema, &data, &diag);
        assert_true(status == ESPL_OK || status == ESPL_NOMEM);
        done = status == ESPL_OK;
        espl__yaml_free(poor, &schema, data);
        left = 1000;
        espl_context_destroy(&poor);
        assert_true(allowed < 100);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(reads_values, setup, teardown),
        cmocka_unit_test_setup_teardown(names_line_and_key, setup, teardown),
        cmocka_unit_test_setup_teardown(syntax_errors_name_the_line, setup, teardown),
        cmocka_unit_test_setup_teardown(hostile_texts_end_in_a_sentence, setup, teardown),
        cmocka_unit_test_setup_teardown(damaged_texts_are_answered, setup, teardown),
        cmocka_unit_test_setup_teardown(locale_does_not_matter, setup, teardown),
        cmocka_unit_test_setup_teardown(file_errors_name_the_file, setup, teardown),
        cmocka_unit_test_setup_teardown(finds_lines_of_keys, setup, teardown),
        cmocka_unit_test_setup_teardown(writes_what_it_reads, setup, teardown),
        cmocka_unit_test(survives_lack_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
