/* What compress found, as a table and as JSON. */
#ifndef REPORT_H
#define REPORT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

#include "espalier/chip.h"
#include "espalier/compress.h"

/* What the result does not say itself; borrowed. */
typedef struct report_settings {
    const char *model, *folder;
    int threads;
    const espl_chip *chip; /* NULL: none was named */
} report_settings;

/* The points of the curve of a search. */
json_t *curve_value(const espl_result *r);
json_t *report_value(const espl_result *r, const report_settings *s);
/* false without memory */
bool report_print(const espl_result *r, const report_settings *s, FILE *out);

#endif
