/* Numbers and names as people read them, and tables of them. */
#ifndef TEXT_H
#define TEXT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* What comes from a file may hold control characters: they must not reach a terminal. */
void text_tame(char *text);
/* Columns that an UTF-8 text takes, one for each character. */
int text_width(const char *text);

/* A small text of one cell, returned by value. */
typedef struct cell {
    char text[48];
} cell;
/* "812 B", "10.1 MiB" */
cell cell_bytes(uint64_t bytes);
/* "812", "25.5 M"; "-" for 0 if `dash` */
cell cell_count(int64_t count, bool dash);
/* Three digits or so: "0.0123 ms", "4.56 ms" without the unit; "-" if not known (0 or not finite). */
cell cell_ms(double ms);
cell cell_percent(double fraction);
cell cell_format(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* --- tables --------------------------------------------------------------------------------------------- */

typedef enum column_kind {
    COLUMN_NUMBER, /* right-aligned */
    COLUMN_TEXT,   /* left-aligned */
    COLUMN_NAME,   /* left-aligned; shortened from the left ("…layer3/conv") where the table is too wide */
    COLUMN_TAIL,   /* left-aligned; shortened at its end where the table is still too wide */
    COLUMN_WRAP    /* the last one: goes on in the lines below where it is too wide */
} column_kind;

typedef struct column {
    const char *title;
    column_kind kind;
} column;

typedef struct table table;
/* NULL without memory. `columns` is borrowed. */
table *table_new(const column *columns, int count);
/* Adds a cell, row by row; the text is copied. */
void table_add(table *t, const char *text);
void table_cell(table *t, cell value);
/* A line across before the next row. */
void table_rule(table *t);
/* Prints the table in at most `width` columns, without columns that are empty all the way down; false if memory ran out while it was filled. */
bool table_print(table *t, FILE *out, int width);
void table_free(table *t);

enum { TABLE_WIDTH = 110 };

#endif
