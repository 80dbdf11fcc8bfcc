#include <stdio.h>

#include "base/base.h"

const espl__bundled *espl__bundled_find(const espl__bundled *table, const char *name) {
    for (; table->name; table++)
        if (strcmp(table->name, name) == 0) return table;
    return NULL;
}

const char *espl__bundled_names(const espl__bundled *table, char *buf, size_t size) {
    size_t used = 0;
    *buf = 0;
    for (const char *comma = ""; table->name && used < size; table++, comma = ", ")
        used += (size_t)snprintf(buf + used, size - used, "%s%s", comma, table->name);
    return buf;
}
