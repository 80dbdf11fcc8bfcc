#include <stdio.h>
#include <string.h>

#include "cli.h"

#include "espalier/compress.h"
#include "text.h"

static json_t *method_value(const espl_method *m) {
    json_t *row = json_object();
    put(row, "kind", text_value(m->kind));
    put(row, "key", text_value(m->key));
    put(row, "name", text_value(m->name));
    put(row, "parameters", text_value(m->parameters));
    put(row, "what", text_value(m->text));
    return row;
}

/* "format: s4"; a method whose key is its own says it in its name. */
static void add_row(table *t, const espl_method *m, bool first) {
    table_add(t, first ? m->kind : "");
    table_add(t, m->name);
    table_add(t, m->parameters);
    table_add(t, m->text);
}

static bool is_asked(const cli *c, const espl_method *m) {
    return c->operand_count == 0 || strcmp(c->operands[0], m->kind) == 0;
}

static espl_status no_kind(cli *c) {
    char kinds[512] = "";
    const char *last = "";
    const espl_method *m;
    for (int i = 0; (m = espl_method_at(i)); last = m->kind, i++) {
        if (strcmp(m->kind, last) == 0) continue;
        size_t used = strlen(kinds);
        snprintf(kinds + used, sizeof kinds - used, "%s%s", used ? ", " : "", m->kind);
    }
    return usage_fail(c, "'%s' is no kind of method; there are %s", c->operands[0], kinds);
}

static espl_status run(cli *c, const void *given) {
    static const column columns[] = {{"kind", COLUMN_TEXT},
                                     {"name", COLUMN_TEXT},
                                     {"parameters", COLUMN_TEXT},
                                     {"what it is", COLUMN_TEXT}};
    espl_status status = ESPL_OK;
    const espl_method *m;
    const char *last = "";
    json_t *list = json_array();
    table *t = table_new(columns, COUNT(columns));
    (void)given;
    if (!t || !list) status = nomem(c);
    for (int i = 0; status == ESPL_OK && (m = espl_method_at(i)); i++) {
        if (!is_asked(c, m)) continue;
        push(list, method_value(m));
        add_row(t, m, strcmp(last, m->kind) != 0);
        last = m->kind;
    }
    if (status == ESPL_OK && !*last) status = no_kind(c);
    if (status == ESPL_OK && c->common.json) {
        status = json_print(c, list);
        list = NULL;
    } else if (status == ESPL_OK && !table_print(t, stdout, TABLE_WIDTH)) {
        status = nomem(c);
    }
    json_decref(list);
    table_free(t);
    return status;
}

const command command_methods = {
    .operands = "[KIND]",
    .most_operands = 1,
    .run = run,
    .about = "Formats, ranges, repairs, patterns and all else that can be done to a network, with the words "
             "that recipes "
             "use for them; of one kind, if KIND is given. docs/methods.md has formula and source of each.",
    .example = "espalier methods\nespalier methods observer\nespalier methods --json",
};
