#include "graph/graph.h"

const espl__attr *espl__attr_find(const espl__node *node, const char *name) {
    for (int i = 0; i < node->attr_count; i++)
        if (node->attrs[i].name && strcmp(node->attrs[i].name, name) == 0) return &node->attrs[i];
    return NULL;
}

static const espl__attr *find_kind(const espl__node *node, const char *name, espl__attr_kind kind) {
    const espl__attr *a = espl__attr_find(node, name);
    return a && a->kind == kind ? a : NULL;
}

int64_t espl__attr_int(const espl__node *node, const char *name, int64_t fallback) {
    const espl__attr *a = find_kind(node, name, ESPL__ATTR_INT);
    return a ? a->i : fallback;
}

float espl__attr_float(const espl__node *node, const char *name, float fallback) {
    const espl__attr *a = find_kind(node, name, ESPL__ATTR_FLOAT);
    return a ? a->f : fallback;
}

const char *espl__attr_string(const espl__node *node, const char *name, const char *fallback) {
    const espl__attr *a = espl__attr_find(node, name);
    return a && (a->kind == ESPL__ATTR_STRING || a->kind == ESPL__ATTR_STRINGS) ? a->s : fallback;
}

int espl__attr_ints(const espl__node *node, const char *name, int64_t *out, int max) {
    const espl__attr *a = find_kind(node, name, ESPL__ATTR_INTS);
    if (!a) return 0;
    for (int64_t i = 0; i < a->count && i < max; i++) out[i] = a->ints[i];
    return a->count > INT32_MAX ? INT32_MAX : (int)a->count;
}

/* The slot of that name, or the first free one, or one more in a copy of the array. */
static espl__attr *slot(espl_graph *graph, espl__node *node, const char *name, espl__attr_kind kind) {
    espl__attr *a = NULL;
    for (int i = 0; i < node->attr_count && !a; i++)
        if (node->attrs[i].name && strcmp(node->attrs[i].name, name) == 0) a = &node->attrs[i];
    for (int i = 0; i < node->attr_count && !a; i++)
        if (!node->attrs[i].name) a = &node->attrs[i];
    if (!a) {
        uint64_t count = (uint64_t)node->attr_count;
        espl__attr *more = espl__arena_alloc(&graph->arena, sizeof *more * (count + 1));
        if (!more) return NULL;
        if (count) memcpy(more, node->attrs, sizeof *more * count);
        node->attrs = more;
        node->attr_count++;
        a = &more[count];
    }
    *a = (espl__attr){.name = espl__arena_strdup(&graph->arena, name), .kind = kind};
    return a->name ? a : NULL;
}

bool espl__attr_set_int(espl_graph *graph, espl__node *node, const char *name, int64_t value) {
    espl__attr *a = slot(graph, node, name, ESPL__ATTR_INT);
    if (a) a->i = value;
    return a != NULL;
}

bool espl__attr_set_float(espl_graph *graph, espl__node *node, const char *name, float value) {
    espl__attr *a = slot(graph, node, name, ESPL__ATTR_FLOAT);
    if (a) a->f = value;
    return a != NULL;
}

static bool set_text(espl_graph *graph, espl__node *node, const char *name, espl__attr_kind kind,
                     const char *value) {
    espl__attr *a = slot(graph, node, name, kind);
    if (!a) return false;
    a->s = espl__arena_strdup(&graph->arena, value);
    a->count = (int64_t)strlen(value);
    return a->s != NULL;
}

bool espl__attr_set_string(espl_graph *graph, espl__node *node, const char *name, const char *value) {
    return set_text(graph, node, name, ESPL__ATTR_STRING, value);
}

bool espl__attr_set_strings(espl_graph *graph, espl__node *node, const char *name, const char *joined) {
    return set_text(graph, node, name, ESPL__ATTR_STRINGS, joined);
}

bool espl__attr_set_ints(espl_graph *graph, espl__node *node, const char *name, const int64_t *values,
                         int64_t count) {
    espl__attr *a = slot(graph, node, name, ESPL__ATTR_INTS);
    if (!a || !(a->ints = espl__arena_alloc(&graph->arena, sizeof *values * (uint64_t)(count + 1))))
        return false;
    if (count) memcpy(a->ints, values, sizeof *values * (size_t)count);
    a->count = count;
    return true;
}

bool espl__attr_set_floats(espl_graph *graph, espl__node *node, const char *name, const float *values,
                           int64_t count) {
    espl__attr *a = slot(graph, node, name, ESPL__ATTR_FLOATS);
    if (!a || !(a->floats = espl__arena_alloc(&graph->arena, sizeof *values * (uint64_t)(count + 1))))
        return false;
    if (count) memcpy(a->floats, values, sizeof *values * (size_t)count);
    a->count = count;
    return true;
}

bool espl__attr_set_tensor(espl_graph *graph, espl__node *node, const char *name, const espl_tensor *value) {
    espl__attr *a = slot(graph, node, name, ESPL__ATTR_TENSOR);
    if (!a) return false;
    a->tensor = espl__graph_tensor(graph, value->dtype, &value->shape, value->data);
    return a->tensor != NULL;
}

espl_graph *espl__attr_graph(const espl__node *node, const char *name) {
    const espl__attr *a = find_kind(node, name, ESPL__ATTR_GRAPH);
    return a ? a->body : NULL;
}

bool espl__attr_set_graph(espl_graph *graph, espl__node *node, const char *name, espl_graph *body) {
    espl__attr *a = slot(graph, node, name, ESPL__ATTR_GRAPH);
    if (a) a->body = body;
    return a != NULL;
}
