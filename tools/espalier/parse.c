/* The parser of the command line: everything it knows of a command stands in the command's table. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

/* The width of a distance row; longer words are not compared. */
enum { LONGEST_WORD = 32 };

/* Levenshtein's distance: changes, insertions and deletions of one letter. */
static int distance(const char *a, const char *b) {
    int row[LONGEST_WORD + 1], n = (int)strlen(b);
    if (strlen(a) > LONGEST_WORD || n > LONGEST_WORD) return LONGEST_WORD;
    for (int j = 0; j <= n; j++) row[j] = j;
    for (int i = 1; a[i - 1]; i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= n; j++) {
            int change = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            int other = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;
            row[j] = change < other ? change : other;
        }
    }
    return row[n];
}

const char *nearest(const char *text, const char *(*words)(const void *list, int index), const void *list) {
    const char *best = NULL, *word;
    int least = (int)strlen(text) / 3 + 1;
    for (int i = 0; (word = words(list, i)) != NULL; i++) {
        int d = distance(text, word);
        if (d > least || (best && d == least)) continue;
        least = d;
        best = word;
    }
    return best;
}

/* --- values --------------------------------------------------------------------------------------------- */

static espl_status out_of_range(cli *c, const option *o, const char *text) {
    return usage_fail(c, "--%s: '%s' is not between %g and %g", o->name, text, o->least, o->most);
}

static espl_status set_int(cli *c, const option *o, const char *text, int64_t *out) {
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (end == text || *end || errno) return usage_fail(c, "--%s: '%s' is not a whole number", o->name, text);
    if (o->least < o->most && ((double)value < o->least || (double)value > o->most))
        return out_of_range(c, o, text);
    *out = value;
    return ESPL_OK;
}

static espl_status set_number(cli *c, const option *o, const char *text, double *out) {
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end || !isfinite(value))
        return usage_fail(c, "--%s: '%s' is not a number", o->name, text);
    if (o->least < o->most && (value < o->least || value > o->most)) return out_of_range(c, o, text);
    *out = value;
    return ESPL_OK;
}

static espl_status set_bytes(cli *c, const option *o, const char *text, uint64_t *out) {
    static const char units[] = "KMGT";
    char *end;
    double value = strtod(text, &end);
    const char *unit = *end ? strchr(units, *end) : NULL;
    if (unit) value *= (double)((uint64_t)1 << 10 * (unit - units + 1));
    if (end == text || (*end && (!unit || end[1])) || !(value >= 1 && value < 9e18))
        return usage_fail(c, "--%s: '%s' is no size; give bytes, or a number with K, M or G such as 512M", o->name, text);
    *out = (uint64_t)value;
    return ESPL_OK;
}

static espl_status set_choice(cli *c, const option *o, const char *text, int *out) {
    char names[256];
    for (int i = 0; o->choices(i); i++)
        if (strcmp(o->choices(i), text) == 0) {
            *out = i;
            return ESPL_OK;
        }
    size_t used = 0;
    names[0] = 0;
    for (int i = 0; o->choices(i) && used < sizeof names; i++)
        used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", i ? ", " : "", o->choices(i));
    return usage_fail(c, "--%s: '%s' is none of %s", o->name, text, names);
}

static espl_status add_item(cli *c, text_list *list, const char *text) {
    const char **grown = realloc(list->item, sizeof *grown * (size_t)(list->count + 1));
    if (!grown) return nomem(c);
    list->item = grown;
    list->item[list->count++] = text;
    return ESPL_OK;
}

static espl_status set_value(cli *c, const option *o, const char *text, void *field) {
    switch (o->kind) {
        case OPTION_FLAG:
            *(bool *)field = true;
            return ESPL_OK;
        case OPTION_TEXT:
            *(const char **)field = text;
            return ESPL_OK;
        case OPTION_LIST:
            return add_item(c, field, text);
        case OPTION_INT:
            return set_int(c, o, text, field);
        case OPTION_NUMBER:
            return set_number(c, o, text, field);
        case OPTION_BYTES:
            return set_bytes(c, o, text, field);
        case OPTION_CHOICE:
            return set_choice(c, o, text, field);
    }
    return fail(c, ESPL_INTERNAL, "--%s: has no kind", o->name);
}

/* --- words ------------------------------------------------------------------------------------------- */

/* The two tables of one call and the structs that they fill; `given` notes which rows of the first were met.
 */
typedef struct parser {
    cli *c;
    const option *table[2];
    void *fields[2];
    uint64_t given;
    int index, count;
    char **words;
} parser;

static const char *option_word(const void *list, int index) {
    return ((const option *)list)[index].name;
}

static const option *find(parser *p, const char *name, size_t length, char letter, void **fields) {
    for (int t = 0; t < 2; t++)
        for (const option *o = p->table[t]; o && o->name; o++)
            if (name ? strlen(o->name) == length && strncmp(o->name, name, length) == 0
                     : o->letter == letter) {
                *fields = p->fields[t];
                if (t == 0) p->given |= UINT64_C(1) << (o - p->table[0]);
                return o;
            }
    return NULL;
}

static espl_status unknown(parser *p, const char *word, const char *name) {
    const char *near = p->table[0] ? nearest(name, option_word, p->table[0]) : NULL;
    if (!near) near = nearest(name, option_word, p->table[1]);
    if (near) return usage_fail(p->c, "%s: no such option; did you mean --%s?", word, near);
    return usage_fail(p->c, "%s: no such option", word);
}

/* The word after an option that takes one. */
static espl_status take_next(parser *p, const option *o, const char **value) {
    if (p->index >= p->count)
        return usage_fail(p->c, "--%s: needs a value: %s", o->name, o->argument ? o->argument : "");
    *value = p->words[p->index++];
    return ESPL_OK;
}

static espl_status parse_long(parser *p, const char *word) {
    char name[LONGEST_WORD + 1];
    const char *value = strchr(word, '=');
    size_t length = value ? (size_t)(value - word) - 2 : strlen(word) - 2;
    void *fields;
    const option *o = find(p, word + 2, length, 0, &fields);
    if (!o) {
        snprintf(name, sizeof name, "%.*s", (int)(length < sizeof name ? length : sizeof name - 1), word + 2);
        return unknown(p, word, name);
    }
    if (o->kind == OPTION_FLAG && value) return usage_fail(p->c, "--%s: takes no value", o->name);
    if (value) value++;
    if (o->kind != OPTION_FLAG && !value) {
        espl_status status = take_next(p, o, &value);
        if (status != ESPL_OK) return status;
    }
    return set_value(p->c, o, value, (char *)fields + o->offset);
}

/* "-h", "-o DIR", "-oDIR"; letters are not bundled. */
static espl_status parse_short(parser *p, const char *word) {
    void *fields;
    const option *o = find(p, NULL, 0, word[1], &fields);
    const char *value = word[2] ? word + 2 : NULL;
    if (!o || (o->kind == OPTION_FLAG && value)) return unknown(p, word, word + 1);
    if (o->kind != OPTION_FLAG && !value) {
        espl_status status = take_next(p, o, &value);
        if (status != ESPL_OK) return status;
    }
    return set_value(p->c, o, value, (char *)fields + o->offset);
}

static espl_status parse_words(parser *p) {
    bool options_end = false;
    espl_status status = ESPL_OK;
    while (status == ESPL_OK && p->index < p->count) {
        char *word = p->words[p->index++];
        if (!options_end && strcmp(word, "--") == 0)
            options_end = true;
        else if (!options_end && word[0] == '-' && word[1] == '-')
            status = parse_long(p, word);
        else if (!options_end && word[0] == '-' && word[1])
            status = parse_short(p, word);
        else
            p->c->operands[p->c->operand_count++] = word;
    }
    return status;
}

static espl_status check_complete(parser *p) {
    cli *c = p->c;
    const command *k = c->row->command;
    if (c->operand_count > k->most_operands)
        return usage_fail(c, "'%s' is one argument too many; the arguments are: %s",
                          c->operands[k->most_operands], *k->operands ? k->operands : "none");
    if (c->operand_count < k->least_operands)
        return usage_fail(c, "an argument is missing; the arguments are: %s", k->operands);
    for (const option *o = p->table[0]; o && o->name; o++)
        if (o->required && !(p->given >> (o - p->table[0]) & 1))
            return usage_fail(c, "--%s %s is missing: %s", o->name, o->argument, o->help);
    return ESPL_OK;
}

espl_status parse_arguments(cli *c, int count, char **words, void *options) {
    const command *k = c->row->command;
    if (k->defaults) memcpy(options, k->defaults, k->size);
    c->operands = calloc((size_t)count + 1, sizeof *c->operands);
    if (!c->operands) return nomem(c);
    parser p = {.c = c,
                .table = {k->options, common_table},
                .fields = {options, &c->common},
                .count = count,
                .words = words};
    espl_status status = parse_words(&p);
    if (status == ESPL_OK && !c->common.help) status = check_complete(&p);
    return status;
}

void parse_free(cli *c, void *options) {
    for (const option *o = c->row->command->options; o && o->name; o++)
        if (o->kind == OPTION_LIST) free(((text_list *)(void *)((char *)options + o->offset))->item);
    free(c->operands);
    c->operands = NULL;
}
