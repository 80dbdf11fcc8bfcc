/* The tables of docs/ are those of the lists in the code, and the example in docs/format.md is what the
 * writer writes. */
#include "graph_build.h"

#include <ctype.h>
#include <unistd.h>

#include "espalier/compress.h"
#include "espalier/zoo.h"
#include "runtime/container.h"
#include "runtime/plan.h"
#include "train/settings.h"

typedef struct page {
    espl_context *ctx;
    char *text;
} page;

static page page_open(const char *name) {
    page p = {.ctx = new_context(1)};
    char path[4096];
    uint8_t *data = NULL;
    uint64_t length;
    espl_diag diag = {0};
    snprintf(path, sizeof path, "%s/%s", ESPL_SOURCE_DIR, name);
    if (espl__file_read(p.ctx, path, 1 << 20, &data, &length, &diag) != ESPL_OK) fail_msg("%s", diag.message);
    p.text = (char *)data;
    return p;
}

static void page_close(page *p) {
    espl__free(p->ctx, p->text);
    espl_context_destroy(&p->ctx);
}

/* Where the text stands behind `from`; the test fails if it does not. */
static const char *expect_text(const char *from, const char *text) {
    const char *at = strstr(from, text);
    if (!at) fail_msg("the page lacks: %s", text);
    return at;
}

static void format_numbers(void **state) {
    (void)state;
    page p = page_open("docs/format.md");
    char row[128];
#define X(NAME, name, bytes, onnx)                                                    \
    snprintf(row, sizeof row, "\n| %d | `%s` | %d |", (int)ESPL_##NAME, name, bytes); \
    (void)expect_text(p.text, row);
    ESPL_DTYPE_LIST(X)
#undef X
#define X(NAME, name, kind, bits, sign, what)                                                     \
    snprintf(row, sizeof row, "\n| %d | `%s` | %d |", (int)ESPL_FORMAT_##NAME, name, bits); \
    (void)expect_text(p.text, row);
    ESPL_FORMAT_LIST(X)
#undef X
#define X(NAME, name, parameters, what)                                               \
    snprintf(row, sizeof row, "\n| %d | `%s` |", (int)ESPL_PATTERN_##NAME, name); \
    (void)expect_text(p.text, row);
    ESPL_PATTERN_LIST(X)
#undef X
    static const struct {
        int kind;
        const char *name;
    } kinds[] = {{ESPL__ATTR_INT, "integer"},    {ESPL__ATTR_FLOAT, "float"},   {ESPL__ATTR_STRING, "string"},
                 {ESPL__ATTR_INTS, "integers"},  {ESPL__ATTR_FLOATS, "floats"}, {ESPL__ATTR_TENSOR, "tensor"},
                 {ESPL__ATTR_STRINGS, "strings"}, {ESPL__ATTR_GRAPH, "graph"}};
    for (size_t i = 0; i < ESPL_COUNT(kinds); i++) {
        snprintf(row, sizeof row, "\n| %d | %s | ", kinds[i].kind, kinds[i].name);
        (void)expect_text(p.text, row);
    }
    snprintf(row, sizeof row, "version of the format: %d.", CONTAINER_VERSION);
    (void)expect_text(p.text, row);
    snprintf(row, sizeof row, "## Header, %d bytes", CONTAINER_HEADER);
    (void)expect_text(p.text, row);
    snprintf(row, sizeof row,
             "flags: %d graph input, %d constant, %d quantized, %d named, %d derived scale, %d known rank, %d "
             "table, %d sparse",
             VALUE_INPUT, VALUE_CONSTANT, VALUE_QUANTIZED, VALUE_NAMED, VALUE_DERIVED_SCALE, VALUE_KNOWN_RANK,
             VALUE_TABLE, VALUE_SPARSE);
    (void)expect_text(p.text, row);
    snprintf(row, sizeof row, "flags: %d named, %d operator set of its own", NODE_NAMED, NODE_OPSET);
    (void)expect_text(p.text, row);
    page_close(&p);
}

/* A section for each kind of method, a paragraph for each method. */
static void every_method_is_described(void **state) {
    (void)state;
    page p = page_open("docs/methods.md");
    const espl_method *m;
    const char *last = "", *section = p.text;
    char wanted[160];
    for (int i = 0; (m = espl_method_at(i)); i++) {
        if (strcmp(last, m->kind) != 0) {
            snprintf(wanted, sizeof wanted, "\n## %s\n", m->kind);
            section = expect_text(p.text, wanted);
            last = m->kind;
        }
        snprintf(wanted, sizeof wanted, "**`%s`**", m->name);
        const char *found = expect_text(section, wanted), *next = strstr(section + 1, "\n## ");
        if (next && found > next) fail_msg("docs/methods.md, section %s: no paragraph on %s", m->kind, m->name);
    }
    page_close(&p);
}

/* A row for each network of the zoo with the number of parameters that test_zoo.c counts: "| `mlp` | ... | 266,610 |". */
static void every_network_is_described(void **state) {
    (void)state;
    page p = page_open("docs/zoo.md"), sizes = page_open("tests/fixtures/zoo/sizes.txt");
    const espl_zoo_network *n;
    char wanted[80], name[64], path[4096];
    const char *line = sizes.text;
    for (int i = 0; (n = espl_zoo_at(i)); i++, line = strchr(line, '\n') + 1) {
        long long size = 0;
        assert_int_equal(sscanf(line, "%63s %lld", name, &size), 2);
        assert_string_equal(name, n->name);
        snprintf(wanted, sizeof wanted, "\n| `%s` | ", n->name);
        const char *row = expect_text(p.text, wanted) + 1, *end = strchr(row, '\n');
        if (size < 1000000)
            snprintf(wanted, sizeof wanted, " | %lld,%03lld |\n", size / 1000, size % 1000);
        else
            snprintf(wanted, sizeof wanted, " | %lld,%03lld,%03lld |\n", size / 1000000, size / 1000 % 1000, size % 1000);
        if (expect_text(row, wanted) > end) fail_msg("docs/zoo.md: %s has not%s", n->name, wanted);
        snprintf(path, sizeof path, "%s/examples/data/%s-train.yaml", ESPL_SOURCE_DIR, n->data);
        if (access(path, F_OK) != 0) fail_msg("%s: there is no %s", n->name, path);
    }
    page_close(&sizes);
    page_close(&p);
}

/* --- the example ------------------------------------------------------------------------------ */

static int hex_byte(const char *p) {
    char word[3] = {p[0], p[0] ? p[1] : 0, 0};
    bool two = isxdigit((unsigned char)word[0]) && isxdigit((unsigned char)word[1]);
    return two && (p[2] == ' ' || p[2] == '\n') ? (int)strtol(word, NULL, 16) : -1;
}

/* A line of the example: perhaps an offset, bytes, and words behind them. */
static void read_line(const char *line, uint8_t *bytes, int *count) {
    const char *p = line + 4;
    int offset = hex_byte(p);
    if (offset >= 0) {
        assert_int_equal(offset, *count);
        p += 2;
    }
    for (;;) {
        while (*p == ' ') p++;
        int byte = hex_byte(p);
        if (byte < 0) return;
        assert_true(*count < 256);
        bytes[(*count)++] = (uint8_t)byte;
        p += 2;
    }
}

/* y = LeakyRelu(x w), as the page says. */
static void build_example(rig *r) {
    static const int8_t codes[] = {3, -2, 1, 0};
    static const float scales[] = {0.5f, 0.25f};
    espl__value *x = input_of(r, "x", ESPL_F32, SHAPE(ESPL_DIM_UNKNOWN, 2));
    r->g->name = espl__arena_strdup(&r->g->arena, "tiny");
    espl__node *fc = node_of(r, "MatMul", 2, (espl__value *[]){x, NULL}, 1);
    espl__node *act = NODE(r, "LeakyRelu", fc->outputs[0]);
    espl__value *w = constant_of(r, ESPL_S8, SHAPE(2, 2), codes);
    w->dtype = ESPL_F32;
    assert_true(espl__graph_set_quant(r->g, w, ESPL_FORMAT_S8, 1, 2, scales, NULL));
    fc->inputs[1] = w;
    fc->name = espl__arena_strdup(&r->g->arena, "fc");
    assert_true(espl__attr_set_float(r->g, act, "alpha", 0.5f));
    (void)done_of(r, fc);
    (void)done_of(r, act);
    IO(r, x, act->outputs[0]);
    act->outputs[0]->name = espl__arena_strdup(&r->g->arena, "y");
}

static void format_example(void **state) {
    (void)state;
    page p = page_open("docs/format.md");
    uint8_t bytes[256];
    int count = 0;
    const char *line = expect_text(p.text, "\n## An example"),
               *end = expect_text(line, "\n## What a reader checks");
    for (; line < end; line = strchr(line, '\n') + 1)
        if (strncmp(line, "    ", 4) == 0) read_line(line, bytes, &count);
    rig r;
    espl__buffer written;
    rig_begin(&r, p.ctx, 1);
    build_example(&r);
    assert_int_equal(espl__model_bytes(p.ctx, r.g, &written, NULL), ESPL_OK);
    assert_int_equal(written.length, count);
    for (int i = 0; i < count; i++)
        if ((uint8_t)written.data[i] != bytes[i])
            fail_msg("byte %d is %02X, the page says %02X", i, (uint8_t)written.data[i], bytes[i]);
    espl__buffer_free(&written);
    espl_graph_destroy(&r.g);
    page_close(&p);
}

/* --- lists ------------------------------------------------------------------------------------ */

static void pages_name_every_row(void **state) {
    (void)state;
    page architecture = page_open("docs/architecture.md"), kernels = page_open("docs/kernels.md");
    char row[256];
    const char *at = architecture.text;
#define X(name, what)                                           \
    snprintf(row, sizeof row, "\n| `%s` | %s | ", #name, what); \
    at = expect_text(at, row); /* in the order of the list */
    ESPL__PASS_LIST(X)
#undef X
#define X(op, lower)                       \
    snprintf(row, sizeof row, "`%s`", op); \
    (void)expect_text(architecture.text, row);
    LOWER_LIST(X)
#undef X
#define X(name, args)                         \
    snprintf(row, sizeof row, "`%s`", #name); \
    (void)expect_text(kernels.text, row);
    ESPL__KERNEL_LIST(X)
#undef X
#define X(NAME, name, ...) (void)expect_text(architecture.text, name);
    ESPL_PATTERN_LIST(X)
    ESPL_CODING_LIST(X)
#undef X
    page_close(&architecture);
    page_close(&kernels);
}

/* Every operator, what runs it and whether a gradient passes it. */
static void operators_have_rows(void **state) {
    static const struct {
        const char *name;
    } kernels[] = {
#define X(op, lower) {op},
        LOWER_LIST(X)
#undef X
    }, stopped[] = {
#define X(name, why) {#name},
#include "train/no_gradient.list"
#undef X
    }, operators[] = {
#define X(name) {#name},
#include "ops/ops.list"
#undef X
    };
    (void)state;
    page p = page_open("docs/operators.md");
    size_t rows = 0;
    for (size_t i = 0; i < ESPL_COUNT(operators); i++) {
        const char *name = operators[i].name, *by = "reference", *gradient = " yes";
        char row[160];
        for (size_t k = 0; k < ESPL_COUNT(kernels); k++)
            if (strcmp(kernels[k].name, name) == 0) by = "kernels";
        for (size_t k = 0; k < ESPL_COUNT(stopped); k++)
            if (strcmp(stopped[k].name, name) == 0) gradient = "";
        snprintf(row, sizeof row, "\n| `%s` | %s |%s |", name, by, gradient);
        (void)expect_text(p.text, row);
    }
    for (const char *at = p.text; (at = strstr(at, "\n| `")); at++) rows++;
    assert_int_equal(rows, ESPL_COUNT(operators));
    page_close(&p);
}

/* Every key and every choice of recipes of training. */
static void training_names_every_row(void **state) {
    (void)state;
    page p = page_open("docs/training.md");
    char row[64];
    const char *key;
    for (int i = 0; (key = espl__train_setting_name(i)); i++) {
        snprintf(row, sizeof row, "`%s`", key);
        (void)expect_text(expect_text(p.text, "| key | meaning |"), row);
    }
#define X(NAME, name, ...)                            \
    snprintf(row, sizeof row, "\n| `%s` | ", name); \
    (void)expect_text(p.text, row);
    ESPL__LOSS_LIST(X)
    ESPL__OPTIM_LIST(X)
    ESPL__SCHEDULE_LIST(X)
#undef X
    page_close(&p);
}

/* Every folder of scripts/floors.txt is on its floor in the page, or said to be missing yet. */
static void floors(void **state) {
    (void)state;
    page list = page_open("scripts/floors.txt"), p = page_open("docs/architecture.md");
    int rows = 0;
    for (const char *line = list.text; *line; line = strchr(line, '\n') + 1) {
        int floor;
        char folder[64], row[128], path[4096];
        if (*line == '#' || sscanf(line, "%d %63s", &floor, folder) != 2) continue;
        snprintf(path, sizeof path, "%s/%s", ESPL_SOURCE_DIR, folder);
        bool exists = access(path, F_OK) == 0;
        if (exists)
            snprintf(row, sizeof row, "\n| %d | `%s` |", floor, folder);
        else
            snprintf(row, sizeof row, "`%s`", folder);
        (void)expect_text(p.text, row);
        rows++;
    }
    assert_true(rows >= 13);
    page_close(&list);
    page_close(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_method_is_described),
        cmocka_unit_test(every_network_is_described),
        cmocka_unit_test(format_numbers),
        cmocka_unit_test(format_example),
        cmocka_unit_test(pages_name_every_row),
        cmocka_unit_test(operators_have_rows),
        cmocka_unit_test(training_names_every_row),
        cmocka_unit_test(floors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
