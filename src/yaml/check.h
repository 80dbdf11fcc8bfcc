/* Inside src/yaml only. */
#ifndef ESPL_YAML_CHECK_H
#define ESPL_YAML_CHECK_H

#include "yaml/yaml.h"

/* Whether the text fits the schema; the sentence names line and key of the first mistake. */
ESPL_NODISCARD espl_status espl__yaml_check(const char *label, const char *text, size_t length,
                                            const cyaml_schema_value_t *schema, espl_diag *diag);

#endif
