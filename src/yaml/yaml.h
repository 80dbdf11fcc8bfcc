/* YAML files read into structs by a libcyaml schema (floor 1), and structs written as YAML.
 *
 * Before libcyaml sees a text, check.c walks it against the same schema, because libcyaml takes "4x" for 4
 * and any word for `true`, and names no line when a key is unknown. The first mistake becomes one sentence
 * with file, line and key:
 *
 *     chips/x.yaml:12: compute[1].macs_per_cycle: 'four' is not a number
 *
 * Accepted: one document of at most ESPL__YAML_MAX bytes of UTF-8, without anchors and aliases. The root of a
 * schema is a mapping made by CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, type, fields). Optional keys that are
 * absent leave zero bytes. Types that are not supported: CYAML_BITFIELD. Enumerations and flags accept their
 * names only. */
#ifndef ESPL_YAML_H
#define ESPL_YAML_H

#include <cyaml/cyaml.h>

#include "base/base.h"

enum { ESPL__YAML_MAX = 1 << 20 };

/* Reads the file `path` by `schema`; *out is owned by the caller and freed with espl__yaml_free. */
ESPL_NODISCARD espl_status espl__yaml_read(espl_context *ctx, const char *path, const cyaml_schema_value_t *schema,
                                           void **out, espl_diag *diag);
/* The same for a text of `length` bytes; `label` stands for the file name in sentences. */
ESPL_NODISCARD espl_status espl__yaml_parse(espl_context *ctx, const char *label, const char *text, size_t length,
                                            const cyaml_schema_value_t *schema, void **out, espl_diag *diag);
/* Frees what read or parse gave; NULL is fine. */
void espl__yaml_free(espl_context *ctx, const cyaml_schema_value_t *schema, void *data);
/* Appends `data` as YAML text to *out, which the caller has initialised. Optional values that are zero
 * (numbers, false, NULL pointers, empty lists) are left out; a pointer to a zero is not. */
ESPL_NODISCARD espl_status espl__yaml_emit(espl_context *ctx, const cyaml_schema_value_t *schema, const void *data,
                                           espl__buffer *out, espl_diag *diag);
/* The line, counted from 1, of a key such as "compute[1].weights" in a text that was parsed before: for the
 * sentences of checks that a schema cannot express. The line of the nearest parent if there is no such key; 1
 * if none. */
unsigned espl__yaml_line(const char *text, size_t length, const char *key);

#endif
