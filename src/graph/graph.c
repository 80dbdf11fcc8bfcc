#include "graph/graph.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

espl_status espl__graph_create(espl_context *ctx, espl_graph **out, espl_diag *diag) {
    espl_graph *g = espl__calloc(ctx, 1, sizeof *g);
    *out = g;
    if (!g) return espl__nomem(diag, sizeof *g);
    espl__arena_init(&g->arena, ctx);
    g->name = g->file = espl__arena_strdup(&g->arena, "");
    if (!g->name) {
        espl_graph_destroy(out);
        return espl__nomem(diag, 1);
    }
    return ESPL_OK;
}

void espl_graph_destroy(espl_graph **graph) {
    espl_graph *g = *graph;
    if (!g) return;
    espl_context *ctx = g->arena.ctx;
    while (g->bodies) { /* the bodies of bodies are no deeper than a file may nest them */
        espl_graph *body = g->bodies;
        g->bodies = body->next;
        espl_graph_destroy(&body);
    }
    espl__free(ctx, g->values);
    espl__free(ctx, g->nodes);
    espl__arena_free(&g->arena);
    espl__file_unmap(&g->bytes);
    espl__free(ctx, g);
    *graph = NULL;
}

void espl__graph_own(espl_graph *owner, espl_graph *body) {
    body->next = owner->bodies;
    owner->bodies = body;
}

/* Room for one more pointer in a growing array. */
static bool grow(espl_context *ctx, void *array, int count, int *capacity) {
    void **p = array;
    if (count < *capacity) return true;
    int more = *capacity ? *capacity * 2 : 64;
    void *bigger = espl__realloc(ctx, *p, (uint64_t)count * sizeof(void *), (uint64_t)more * sizeof(void *));
    if (!bigger) return false;
    *p = bigger;
    *capacity = more;
    return true;
}

/* The number of a name "v<count>_<number>"; -1: it is another. */
static int64_t number_after(const char *name, const char *prefix) {
    const size_t length = strlen(prefix);
    if (strncmp(name, prefix, length) != 0 || name[length] != '_') return -1;
    int64_t number = 0;
    for (const char *c = name + length + 1; *c; c++) {
        if (*c < '0' || *c > '9' || number > INT32_MAX) return -1;
        number = 10 * number + (*c - '0');
    }
    return number;
}

/* "v<count>" if no value has that name, else "v<count>_<number>": of count + 1 numbers one is free, and all
 * names are looked at twice, however many of these a file has taken. */
static bool fresh_name(const espl_graph *g, char *name, size_t size) {
    const int count = g->value_count;
    snprintf(name, size, "v%d", count);
    if (!espl__graph_find(g, name)) return true;
    bool *taken = espl__calloc(g->arena.ctx, (uint64_t)count + 1, sizeof *taken);
    if (!taken) return false;
    for (int i = 0; i < count; i++) {
        int64_t number = number_after(g->values[i]->name, name);
        if (number >= 0 && number <= count) taken[number] = true;
    }
    int number = 0;
    while (taken[number]) number++;
    espl__free(g->arena.ctx, taken);
    snprintf(name, size, "v%d_%d", count, number);
    return true;
}

espl__value *espl__graph_value(espl_graph *g, const char *name) {
    char fresh[32];
    if (!name) {
        if (!fresh_name(g, fresh, sizeof fresh)) return NULL;
        name = fresh;
    }
    espl__value *v = espl__arena_alloc(&g->arena, sizeof *v);
    if (!v || !grow(g->arena.ctx, &g->values, g->value_count, &g->value_capacity)) return NULL;
    v->name = espl__arena_strdup(&g->arena, name);
    if (!v->name) return NULL;
    v->quant.axis = -1;
    v->id = g->value_count;
    g->values[g->value_count++] = v;
    return v;
}

espl_tensor *espl__graph_tensor(espl_graph *g, espl_dtype dtype, const espl_shape *shape, const void *data) {
    int64_t count = espl_shape_count(shape);
    if (count < 0) return NULL;
    espl_tensor *t = espl__arena_alloc(&g->arena, sizeof *t);
    const espl_tensor from = {dtype, *shape, (void *)(uintptr_t)data};
    const uint64_t bytes = espl__text_block(&from, data ? espl__text_bytes(&from) : 0);
    if (!t) return NULL;
    *t = (espl_tensor){dtype, *shape, espl__arena_alloc(&g->arena, ESPL_MAX(bytes, 1))};
    if (!t->data) return NULL;
    if (data && dtype == ESPL_STRING)
        espl__text_copy(&from, t->data);
    else if (data && bytes)
        memcpy(t->data, data, (size_t)bytes);
    return t;
}

espl__value *espl__graph_constant(espl_graph *g, const char *name, const espl_tensor *tensor) {
    espl__value *v = espl__graph_value(g, name);
    if (!v) return NULL;
    v->constant = espl__graph_tensor(g, tensor->dtype, &tensor->shape, tensor->data);
    if (!v->constant) return NULL;
    v->dtype = tensor->dtype;
    v->shape = tensor->shape;
    v->known_rank = true;
    return v;
}

espl__node *espl__graph_node(espl_graph *g, const espl__op *op, const char *name, int inputs, int outputs,
                             int attrs) {
    espl__node *n = espl__arena_alloc(&g->arena, sizeof *n);
    if (!n || !grow(g->arena.ctx, &g->nodes, g->node_count, &g->node_capacity)) return NULL;
    n->name = espl__arena_strdup(&g->arena, name ? name : "");
    n->op = op;
    n->opset = g->opset;
    n->input_count = inputs;
    n->output_count = outputs;
    n->inputs = espl__arena_alloc(&g->arena, sizeof(void *) * (uint64_t)(inputs + 1));
    n->outputs = espl__arena_alloc(&g->arena, sizeof(void *) * (uint64_t)(outputs + 1));
    n->attrs = espl__arena_alloc(&g->arena, sizeof(espl__attr) * (uint64_t)(attrs + 1));
    if (!n->name || !n->inputs || !n->outputs || !n->attrs) return NULL;
    n->attr_count = attrs;
    n->id = g->node_count;
    g->nodes[g->node_count++] = n;
    return n;
}

void espl__node_set_output(espl__node *node, int index, espl__value *value) {
    node->outputs[index] = value;
    if (!value) return;
    value->producer = node;
    value->producer_index = index;
}

bool espl__graph_set_io(espl_graph *g, espl__value *const *inputs, int input_count,
                        espl__value *const *outputs, int output_count) {
    g->inputs = espl__arena_alloc(&g->arena, sizeof(void *) * (uint64_t)(input_count + 1));
    g->outputs = espl__arena_alloc(&g->arena, sizeof(void *) * (uint64_t)(output_count + 1));
    if (!g->inputs || !g->outputs) return false;
    for (int i = 0; i < input_count; i++) {
        g->inputs[i] = inputs[i];
        inputs[i]->is_input = true;
    }
    for (int i = 0; i < output_count; i++) g->outputs[i] = outputs[i];
    g->input_count = input_count;
    g->output_count = output_count;
    return true;
}

bool espl__graph_set_quant(espl_graph *g, espl__value *v, espl_format format, int axis, int64_t count,
                           const float *scale, const int32_t *zero) {
    espl__quant q = {.format = format, .axis = axis, .count = count};
    /* Only read: espl__graph_copy_quant copies them. */
    q.scale = (float *)(uintptr_t)scale;
    q.zero = (int32_t *)(uintptr_t)zero;
    return espl__graph_copy_quant(g, v, &q);
}

static bool copy_array(espl_graph *g, const void *from, int64_t count, void *to) {
    void *copy = NULL;
    if (from && !(copy = espl__arena_alloc(&g->arena, 4 * (uint64_t)count))) return false;
    if (from) memcpy(copy, from, 4 * (size_t)count);
    memcpy(to, &copy, sizeof copy);
    return true;
}

bool espl__graph_copy_quant(espl_graph *g, espl__value *v, const espl__quant *q) {
    espl__quant copy = *q;
    if (!copy_array(g, q->scale, q->count, &copy.scale) || !copy_array(g, q->zero, q->count, &copy.zero) ||
        !copy_array(g, q->offset, q->count, &copy.offset))
        return false;
    v->quant = copy;
    return true;
}

espl__value *espl__graph_find(const espl_graph *g, const char *name) {
    for (int i = 0; i < g->value_count; i++)
        if (strcmp(g->values[i]->name, name) == 0) return g->values[i];
    return NULL;
}

void espl__graph_replace(espl_graph *g, espl__value *from, espl__value *to) {
    for (int i = 0; i < g->node_count; i++)
        for (int j = 0; j < g->nodes[i]->input_count; j++)
            if (g->nodes[i]->inputs[j] == from) g->nodes[i]->inputs[j] = to;
    for (int i = 0; i < g->output_count; i++)
        if (g->outputs[i] == from) g->outputs[i] = to;
}

void espl__graph_count_uses(espl_graph *g) {
    for (int i = 0; i < g->value_count; i++) g->values[i]->uses = 0;
    for (int i = 0; i < g->node_count; i++)
        for (int j = 0; j < g->nodes[i]->input_count; j++)
            if (g->nodes[i]->inputs[j]) g->nodes[i]->inputs[j]->uses++;
    for (int i = 0; i < g->output_count; i++) g->outputs[i]->uses++;
}

bool espl__graph_is_output(const espl_graph *g, const espl__value *value) {
    for (int i = 0; i < g->output_count; i++)
        if (g->outputs[i] == value) return true;
    return false;
}

espl__node *espl__graph_only_reader(const espl_graph *g, const espl__value *value) {
    espl__node *found = NULL;
    if (espl__graph_is_output(g, value)) return NULL;
    for (int i = 0; i < g->node_count; i++)
        for (int j = 0; j < g->nodes[i]->input_count; j++)
            if (g->nodes[i]->inputs[j] == value) {
                if (found) return NULL;
                found = g->nodes[i];
            }
    return found;
}

void espl__graph_sweep(espl_graph *g) {
    int kept = 0;
    for (int i = 0; i < g->node_count; i++) {
        espl__node *n = g->nodes[i];
        if (n->mark == -1) {
            for (int j = 0; j < n->output_count; j++)
                if (n->outputs[j] && n->outputs[j]->producer == n) n->outputs[j]->producer = NULL;
            continue;
        }
        n->id = kept;
        g->nodes[kept++] = n;
    }
    g->node_count = kept;
    espl__graph_count_uses(g);
    kept = 0;
    for (int i = 0; i < g->value_count; i++) {
        espl__value *v = g->values[i];
        if (v->uses == 0 && !v->producer && !v->is_input) continue;
        v->id = kept;
        g->values[kept++] = v;
    }
    g->value_count = kept;
}

const char *espl__node_label(const espl__node *node, char *buf, size_t size) {
    if (node->name[0])
        snprintf(buf, size, "%s '%s'", node->op->name, node->name);
    else
        snprintf(buf, size, "%s #%d", node->op->name, node->id);
    return buf;
}

int espl_graph_input_count(const espl_graph *g) {
    return g->input_count;
}
int espl_graph_output_count(const espl_graph *g) {
    return g->output_count;
}
const char *espl_graph_input_name(const espl_graph *g, int index) {
    return g->inputs[index]->name;
}
const char *espl_graph_output_name(const espl_graph *g, int index) {
    return g->outputs[index]->name;
}
espl_shape espl_graph_input_shape(const espl_graph *g, int index) {
    return g->inputs[index]->shape;
}
espl_dtype espl_graph_input_dtype(const espl_graph *g, int index) {
    return g->inputs[index]->dtype;
}
espl_shape espl_graph_output_shape(const espl_graph *g, int index) {
    return g->outputs[index]->shape;
}
espl_dtype espl_graph_output_dtype(const espl_graph *g, int index) {
    return g->outputs[index]->dtype;
}

bool espl__weight_matrix(const espl__node *n, int input, espl__zeros *axes, espl__matrix *out) {
    if (input >= n->input_count || input >= 32 || !n->inputs[input] || !(n->op->weight_inputs >> input & 1))
        return false;
    const espl_shape *shape = &n->inputs[input]->shape;
    int row = n->op->weight_axis ? n->op->weight_axis(n, input) : -1;
    if (row < 0 || shape->rank < 2) return false;
    int inner = n->op->weight_inner_axis ? n->op->weight_inner_axis(n, input)
                : shape->rank == 2       ? 1 - row
                                         : 1;
    *axes = (espl__zeros){.row_axis = row, .inner_axis = inner};
    return espl__matrix_of(shape, row, inner, out);
}
