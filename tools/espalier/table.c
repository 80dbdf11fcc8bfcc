/* Tables: cells are gathered, columns get the width they need, and names give way where the whole is too
 * wide. */
#include <stdlib.h>
#include <string.h>

#include "text.h"

enum { GAP = 2 };

struct table {
    const column *columns;
    int column_count;
    char **cells; /* NULL in the first column of a row: a line across */
    size_t used, room;
    bool failed;
};

table *table_new(const column *columns, int count) {
    table *t = calloc(1, sizeof *t);
    if (!t) return NULL;
    t->columns = columns;
    t->column_count = count;
    return t;
}

void table_free(table *t) {
    if (!t) return;
    for (size_t i = 0; i < t->used; i++) free(t->cells[i]);
    free(t->cells);
    free(t);
}

static void add(table *t, char *text) {
    if (t->used == t->room) {
        size_t room = t->room ? t->room * 2 : 64;
        char **grown = realloc(t->cells, room * sizeof *grown);
        if (!grown) {
            t->failed = true;
            free(text);
            return;
        }
        t->cells = grown;
        t->room = room;
    }
    t->cells[t->used++] = text;
}

void table_add(table *t, const char *text) {
    if (!t) return;
    char *copy = malloc(strlen(text) + 1);
    if (!copy) {
        t->failed = true;
        return;
    }
    strcpy(copy, text);
    text_tame(copy);
    add(t, copy);
}

void table_cell(table *t, cell value) {
    table_add(t, value.text);
}

void table_rule(table *t) {
    for (int i = 0; t && i < t->column_count; i++) add(t, NULL);
}

/* Takes what is too much from the widest column of a kind, but leaves `least`. */
static void shrink(const table *t, int *widths, column_kind kind, int least, int *excess) {
    while (*excess > 0) {
        int widest = -1;
        for (int i = 0; i < t->column_count; i++)
            if (t->columns[i].kind == kind && widths[i] > least && (widest < 0 || widths[i] > widths[widest]))
                widest = i;
        if (widest < 0) return;
        widths[widest]--;
        (*excess)--;
    }
}

/* A column without a cell that says something is left out: its width is -GAP. */
static void measure(const table *t, int *widths, int limit) {
    int total = -GAP;
    for (int i = 0; i < t->column_count; i++) {
        widths[i] = 0;
        for (size_t at = (size_t)i; at < t->used; at += (size_t)t->column_count)
            if (t->cells[at] && text_width(t->cells[at]) > widths[i]) widths[i] = text_width(t->cells[at]);
        int title = text_width(t->columns[i].title);
        widths[i] = !widths[i] ? -GAP : widths[i] > title ? widths[i] : title;
        total += widths[i] + GAP;
    }
    int excess = total - limit;
    shrink(t, widths, COLUMN_NAME, 20, &excess);
    shrink(t, widths, COLUMN_WRAP, 30, &excess);
    shrink(t, widths, COLUMN_TAIL, 12, &excess);
    shrink(t, widths, COLUMN_NAME, 8, &excess);
    shrink(t, widths, COLUMN_TAIL, 4, &excess);
}

/* The text after its first `count` characters. */
static const char *skip(const char *text, int count) {
    for (; *text && count > 0; count--) do
            text++;
        while (((unsigned char)*text & 0xc0) == 0x80);
    return text;
}

/* Bytes of `text` that go into `width` columns, up to a space if there is one. */
static size_t fitting(const char *text, int width) {
    if (text_width(text) <= width) return strlen(text);
    size_t most = (size_t)(skip(text, width) - text), n = most;
    while (n > 0 && text[n] != ' ') n--;
    return n ? n : most;
}

static void print_wrapped(FILE *out, const char *text, int indent, int width) {
    size_t n = fitting(text, width);
    fprintf(out, "%.*s", (int)n, text);
    for (text += n; *text; text += n) {
        text += strspn(text, " ");
        n = fitting(text, width);
        fprintf(out, "\n%*s%.*s", indent, "", (int)n, text);
    }
}

/* Prints one line of cells; spaces at its end are left out. */
static void print_line(const table *t, FILE *out, char *const *cells, const int *widths) {
    int spaces = 0, indent = 0;
    for (int i = 0; i < t->column_count; i++) {
        if (widths[i] < 0) continue;
        const char *text = cells ? cells[i] : t->columns[i].title;
        int excess = text_width(text) - widths[i], pad = excess < 0 ? -excess : 0;
        column_kind kind = t->columns[i].kind;
        if (kind == COLUMN_NUMBER) spaces += pad;
        if (*text) {
            fprintf(out, "%*s", spaces, "");
            spaces = 0;
        }
        if (excess <= 0 || kind == COLUMN_NUMBER || kind == COLUMN_TEXT)
            fputs(text, out);
        else if (kind == COLUMN_WRAP)
            print_wrapped(out, text, indent, widths[i]);
        else if (kind == COLUMN_NAME)
            fprintf(out, "…%s", skip(text, excess + 1));
        else
            fprintf(out, "%.*s…", (int)(skip(text, widths[i] - 1) - text), text);
        spaces += (kind == COLUMN_NUMBER ? 0 : pad) + GAP;
        indent += widths[i] + GAP;
    }
    fputc('\n', out);
}

static void print_rule(const table *t, FILE *out, const int *widths) {
    int total = -GAP;
    for (int i = 0; i < t->column_count; i++) total += widths[i] + GAP;
    for (int i = 0; i < total; i++) fputc('-', out);
    fputc('\n', out);
}

bool table_print(table *t, FILE *out, int width) {
    int *widths = t ? calloc((size_t)t->column_count, sizeof *widths) : NULL;
    if (!widths || t->failed) {
        free(widths);
        return false;
    }
    measure(t, widths, width);
    print_line(t, out, NULL, widths);
    print_rule(t, out, widths);
    size_t row = (size_t)t->column_count;
    for (size_t at = 0; at + row <= t->used; at += row)
        if (t->cells[at])
            print_line(t, out, t->cells + at, widths);
        else
            print_rule(t, out, widths);
    free(widths);
    return true;
}
