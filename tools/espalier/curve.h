/* The curve of a search for formats: score against size, as a picture or as figures. */
#ifndef CURVE_H
#define CURVE_H

#include "cli.h"
#include "espalier/compress.h"

/* 's', 'j' or 'c' for the ending .svg, .json or .csv of a path, 0 for any other. */
char curve_kind(const char *path);
ESPL_NODISCARD espl_status curve_write(cli *c, const char *path, const char *model, const espl_result *r);

#endif
