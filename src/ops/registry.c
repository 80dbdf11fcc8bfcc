/* The registry: one table from ops.list. */
#include "graph/graph.h"

#define X(name) extern const espl__op espl__op_##name;
#include "ops/ops.list"
#undef X

static const espl__op *const table[] = {
#define X(name) &espl__op_##name,
#include "ops/ops.list"
#undef X
};

const espl__op *espl__op_at(int index) {
    return index >= 0 && (size_t)index < ESPL_COUNT(table) ? table[index] : NULL;
}

const espl__op *espl__op_find(const char *domain, const char *name) {
    if (strcmp(domain, "ai.onnx") == 0) domain = "";
    for (size_t i = 0; i < ESPL_COUNT(table); i++)
        if (strcmp(table[i]->name, name) == 0 && strcmp(table[i]->domain, domain) == 0) return table[i];
    return NULL;
}
