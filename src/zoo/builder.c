/* The builder: its errors, names, values and nodes. */
#include "zoo/builder.h"

#include <stdio.h>

enum { BASE_OPSET = 13, IO_MOST = 256 };

/* --- life -------------------------------------------------------------------------------------------- */

espl_status espl_builder_create(espl_context *ctx, const char *name, uint64_t seed, espl_builder **out,
                                espl_diag *diag) {
    espl_status status = ESPL_OK;
    espl_builder *b = espl__calloc(ctx, 1, sizeof *b);
    *out = NULL;
    if (!b) return espl__nomem(diag, sizeof *b);
    b->ctx = ctx;
    b->seed = seed;
    ESPL_TRY(espl__graph_create(ctx, &b->graph, diag));
    b->graph->opset = BASE_OPSET;
    b->graph->name = espl__arena_strdup(&b->graph->arena, name);
    b->inputs = espl__arena_alloc(&b->graph->arena, IO_MOST * sizeof *b->inputs);
    b->outputs = espl__arena_alloc(&b->graph->arena, 2 * IO_MOST * sizeof *b->outputs);
    b->next = espl__arena_alloc(&b->graph->arena, IO_MOST * sizeof *b->next);
    if (!b->graph->name || !b->inputs || !b->outputs || !b->next)
        status = espl__nomem(diag, IO_MOST * sizeof *b->inputs);
done:
    if (status != ESPL_OK)
        espl_builder_destroy(&b);
    else
        *out = b;
    return status;
}

void espl_builder_destroy(espl_builder **builder) {
    espl_builder *b = *builder;
    if (!b) return;
    espl_graph_destroy(&b->graph);
    espl__free(b->ctx, b);
    *builder = NULL;
}

espl_status espl_builder_status(const espl_builder *b) {
    return b ? b->diag.status : ESPL_NOMEM;
}

void espl_builder_fail(espl_builder *b, espl_status status, const char *sentence) {
    if (!espl__build_failed(b)) (void)espl__fail(&b->diag, status, "%s", sentence);
}

espl_status espl_builder_finish(espl_builder **builder, espl_graph **out, espl_diag *diag) {
    espl_builder *b = *builder;
    *out = NULL;
    if (!b) return espl__nomem(diag, sizeof *b);
    if (!espl__build_failed(b) && b->output_count == 0)
        (void)espl__fail(&b->diag, ESPL_INVALID, "network '%s' has no output; espl_build_output names one",
                         b->graph->name);
    for (int i = 0; i < b->next_count; i++) b->outputs[b->output_count++] = b->next[i];
    b->next_count = 0;
    if (!espl__build_failed(b) &&
        !espl__graph_set_io(b->graph, b->inputs, b->input_count, b->outputs, b->output_count))
        espl__build_nomem(b);
    espl_status status = b->diag.status;
    if (status == ESPL_OK) status = espl__graph_verify(b->graph, &b->diag);
    if (status == ESPL_OK) {
        *out = b->graph;
        b->graph = NULL;
    } else {
        (void)espl__fail(diag, status, "%s", b->diag.message);
    }
    espl_builder_destroy(builder);
    return status;
}

/* --- errors ------------------------------------------------------------------------------------------ */

bool espl__build_failed(const espl_builder *b) {
    return espl_builder_status(b) != ESPL_OK;
}

void espl__build_fail(espl_builder *b, espl_status status, const char *layer, const char *fmt, ...) {
    char text[768];
    va_list list;
    if (espl__build_failed(b)) return;
    va_start(list, fmt);
    vsnprintf(text, sizeof text, fmt, list);
    va_end(list);
    (void)espl__fail(&b->diag, status, "layer '%.200s': %s", layer ? layer : "", text);
}

void espl__build_nomem(espl_builder *b) {
    if (!espl__build_failed(b)) (void)espl__nomem(&b->diag, 0);
}

const char *espl__build_join(espl_builder *b, const char *name, const char *part, char *buf) {
    int length = snprintf(buf, ESPL__BUILD_NAME, "%s.%s", name ? name : "", part);
    if (length < 0 || length >= ESPL__BUILD_NAME)
        espl__build_fail(b, ESPL_LIMIT, name, "its name is longer than %d bytes", ESPL__BUILD_NAME - 1);
    return buf;
}

/* --- values ------------------------------------------------------------------------------------------ */

espl_value espl__build_handle(const espl__value *value) {
    return (espl_value){value ? value->id + 1 : 0};
}

espl__value *espl__build_get(espl_builder *b, espl_value value) {
    if (espl__build_failed(b) || value.id == 0) return NULL;
    if (value.id > 0 && value.id <= b->graph->value_count) return b->graph->values[value.id - 1];
    (void)espl__fail(&b->diag, ESPL_INVALID, "network '%s': a value is not of this builder", b->graph->name);
    return NULL;
}

espl_shape espl_build_shape(const espl_builder *b, espl_value value) {
    if (espl__build_failed(b) || value.id < 1 || value.id > b->graph->value_count) return (espl_shape){0};
    return b->graph->values[value.id - 1]->shape;
}

bool espl__build_ranked(espl_builder *b, const char *layer, espl_value value, int least, int most,
                        espl_shape *out) {
    const espl__value *v = espl__build_get(b, value);
    *out = (espl_shape){0};
    if (espl__build_failed(b)) return false;
    if (!v)
        espl__build_fail(b, ESPL_INVALID, layer, "has no input");
    else if (!v->known_rank)
        espl__build_fail(b, ESPL_SHAPE, layer, "the number of its input's dimensions is not known");
    else if (v->shape.rank < least || v->shape.rank > most)
        espl__build_fail(b, ESPL_SHAPE, layer, "its input has %d dimensions, %d to %d are possible",
                         v->shape.rank, least, most);
    else
        *out = v->shape;
    return !espl__build_failed(b);
}

int64_t espl__build_known(espl_builder *b, const char *layer, const espl_shape *shape, int axis,
                          const char *what) {
    int64_t d = shape->dim[axis];
    if (d < 1) espl__build_fail(b, ESPL_SHAPE, layer, "the number of its input's %s has to be known", what);
    return espl__build_failed(b) ? 0 : d;
}

static void name_taken(espl_builder *b, const char *name) {
    espl__build_fail(b, ESPL_INVALID, name, "there is one of that name already; names are unique");
}

/* A new value of this name; NULL if it is empty, too long, not alone or there is no memory. */
static espl__value *new_value(espl_builder *b, const char *name) {
    if (espl__build_failed(b)) return NULL;
    if (!name || !*name)
        (void)espl__fail(&b->diag, ESPL_INVALID, "network '%s': a layer has no name", b->graph->name);
    else if (strlen(name) >= ESPL__BUILD_NAME)
        espl__build_fail(b, ESPL_LIMIT, name, "its name is longer than %d bytes", ESPL__BUILD_NAME - 1);
    else if (espl__graph_find(b->graph, name))
        name_taken(b, name);
    espl__value *v = espl__build_failed(b) ? NULL : espl__graph_value(b->graph, name);
    if (!v) espl__build_nomem(b);
    return v;
}

/* Whether nothing could hold the shape, unknown dimensions counting as 1. */
static bool is_impossible(const espl_shape *shape) {
    espl_shape known = *shape;
    if (known.rank < 0 || known.rank > ESPL_MAX_RANK) return true;
    for (int i = 0; i < known.rank; i++)
        if (known.dim[i] == ESPL_DIM_UNKNOWN) known.dim[i] = 1;
    for (int i = 0; i < known.rank; i++)
        if (known.dim[i] < 0) return true;
    return espl_shape_count(&known) < 0;
}

espl_value espl_build_input(espl_builder *b, const char *name, espl_dtype dtype, espl_shape shape) {
    espl__value *v = new_value(b, name);
    if (v && is_impossible(&shape)) espl__build_fail(b, ESPL_SHAPE, name, "nothing has such a shape");
    if (v && b->input_count == IO_MOST)
        espl__build_fail(b, ESPL_LIMIT, name, "%d inputs are the most", IO_MOST);
    if (!v || espl__build_failed(b)) return (espl_value){0};
    v->dtype = dtype;
    v->shape = shape;
    v->known_rank = v->is_input = true;
    b->inputs[b->input_count++] = v;
    return espl__build_handle(v);
}

static bool is_output(const espl_builder *b, const espl__value *v) {
    for (int i = 0; i < b->output_count + b->next_count; i++)
        if ((i < b->output_count ? b->outputs[i] : b->next[i - b->output_count]) == v) return true;
    return false;
}

/* A value that may be an output and has this name: `value` itself, or a copy of an input, a constant or an
 * output. */
static espl__value *output_of(espl_builder *b, const char *name, espl_value value) {
    espl__value *v = espl__build_get(b, value);
    if (!espl__build_failed(b) && !v) espl__build_fail(b, ESPL_INVALID, name, "the output is no value");
    if (espl__build_failed(b)) return NULL;
    if (!v->producer || is_output(b, v))
        return espl__build_get(b, espl__build_simple(b, "Identity", name, value, (espl_value){0}));
    if (strcmp(v->name, name) == 0) return v;
    if (espl__graph_find(b->graph, name)) name_taken(b, name);
    v->name = espl__arena_strdup(&b->graph->arena, name);
    if (!v->name) espl__build_nomem(b);
    return v;
}

static void add_output(espl_builder *b, const char *name, espl_value value, espl__value **list, int *count) {
    espl__value *v = output_of(b, name, value);
    if (*count == IO_MOST) espl__build_fail(b, ESPL_LIMIT, name, "%d outputs are the most", IO_MOST);
    if (!espl__build_failed(b)) list[(*count)++] = v;
}

void espl_build_output(espl_builder *b, const char *name, espl_value value) {
    if (!espl__build_failed(b)) add_output(b, name, value, b->outputs, &b->output_count);
}

espl_value espl_build_state(espl_builder *b, const char *name, espl_shape shape) {
    return espl_build_input(b, name, ESPL_F32, shape);
}

void espl_build_next(espl_builder *b, espl_value state, espl_value next) {
    char name[ESPL__BUILD_NAME];
    const espl__value *from = espl__build_get(b, state), *to = espl__build_get(b, next);
    if (espl__build_failed(b)) return;
    if (!from || !from->is_input || !to || to->dtype != from->dtype || !to->known_rank ||
        to->shape.rank != from->shape.rank)
        espl__build_fail(b, ESPL_INVALID, from ? from->name : "",
                         "a state is an input, and what follows has its type and rank");
    else
        add_output(b, espl__build_join(b, from->name, "next", name), next, b->next, &b->next_count);
}

espl_value espl_build_constant(espl_builder *b, const char *name, const espl_tensor *tensor) {
    espl__value *v = new_value(b, name);
    if (v && (is_impossible(&tensor->shape) || espl_shape_count(&tensor->shape) < 0))
        espl__build_fail(b, ESPL_SHAPE, name, "nothing has such a shape");
    if (!v || espl__build_failed(b)) return (espl_value){0};
    v->constant = espl__graph_tensor(b->graph, tensor->dtype, &tensor->shape, tensor->data);
    if (!v->constant) espl__build_nomem(b);
    v->dtype = tensor->dtype;
    v->shape = tensor->shape;
    v->known_rank = true;
    return v->constant ? espl__build_handle(v) : (espl_value){0};
}

espl_value espl__build_scalar(espl_builder *b, const char *name, const char *part, float value) {
    char buf[ESPL__BUILD_NAME];
    espl_tensor t = {ESPL_F32, {0}, &value};
    return espl_build_constant(b, espl__build_join(b, name, part, buf), &t);
}

espl_value espl__build_list(espl_builder *b, const char *name, const char *part, const int64_t *values,
                            int count) {
    char buf[ESPL__BUILD_NAME];
    espl_tensor t = {ESPL_S64, {.rank = 1, .dim = {count}}, (void *)(uintptr_t)values}; /* only read */
    return espl_build_constant(b, espl__build_join(b, name, part, buf), &t);
}

/* --- nodes ------------------------------------------------------------------------------------------- */

static void add_outputs(espl_builder *b, espl__node *n, const char *name) {
    char part[16], buf[ESPL__BUILD_NAME];
    for (int i = 0; i < n->output_count && !espl__build_failed(b); i++) {
        snprintf(part, sizeof part, "%d", i);
        espl__node_set_output(n, i, new_value(b, i ? espl__build_join(b, name, part, buf) : name));
    }
}

espl__node *espl__build_begin(espl_builder *b, const char *op, const char *name, const espl_value *inputs,
                              int count, int outputs) {
    espl__node *n = NULL;
    if (espl__build_failed(b)) return NULL;
    const espl__op *found = espl__op_find("", op);
    if (!found) espl__build_fail(b, ESPL_UNSUPPORTED, name ? name : "", "there is no operator '%.60s'", op);
    if (found && (count < 0 || count > 4096 || outputs < 1 || outputs > 64))
        espl__build_fail(b, ESPL_LIMIT, name ? name : "", "%d inputs and %d outputs are not possible", count,
                         outputs);
    if (!espl__build_failed(b) && !(n = espl__graph_node(b->graph, found, name, count, outputs, 0)))
        espl__build_nomem(b);
    if (!n) return NULL;
    n->opset = ESPL_MAX(BASE_OPSET, found->since);
    for (int i = 0; i < count; i++) n->inputs[i] = espl__build_get(b, inputs[i]);
    add_outputs(b, n, name);
    return espl__build_failed(b) ? NULL : n;
}

void espl__build_int(espl_builder *b, espl__node *n, const char *attribute, int64_t value) {
    if (n && !espl__attr_set_int(b->graph, n, attribute, value)) espl__build_nomem(b);
}

void espl__build_ints(espl_builder *b, espl__node *n, const char *attribute, const int64_t *values,
                      int count) {
    if (n && !espl__attr_set_ints(b->graph, n, attribute, values, count)) espl__build_nomem(b);
}

void espl__build_float(espl_builder *b, espl__node *n, const char *attribute, float value) {
    if (n && !espl__attr_set_float(b->graph, n, attribute, value)) espl__build_nomem(b);
}

void espl__build_text(espl_builder *b, espl__node *n, const char *attribute, const char *value) {
    if (n && !espl__attr_set_string(b->graph, n, attribute, value)) espl__build_nomem(b);
}

espl_value espl__build_end(espl_builder *b, espl__node *n) {
    if (!n || espl__build_failed(b)) return (espl_value){0};
    if (n->op->infer(n, &b->diag) == ESPL_OK) return espl__build_handle(n->outputs[0]);
    espl__diag_prefix(&b->diag, "layer '%.200s'", n->name);
    return (espl_value){0};
}

espl_value espl__build_simple(espl_builder *b, const char *op, const char *name, espl_value x, espl_value y) {
    espl_value inputs[] = {x, y};
    return espl__build_end(b, espl__build_begin(b, op, name, inputs, y.id ? 2 : 1, 1));
}

static void set_attribute(espl_builder *b, espl__node *n, const espl_attribute *a) {
    switch (a->kind) {
        case ESPL_ATTRIBUTE_INT:
            espl__build_int(b, n, a->name, a->ints[0]);
            break;
        case ESPL_ATTRIBUTE_INTS:
            espl__build_ints(b, n, a->name, a->ints, a->count);
            break;
        case ESPL_ATTRIBUTE_FLOAT:
            espl__build_float(b, n, a->name, a->number);
            break;
        case ESPL_ATTRIBUTE_TEXT:
            espl__build_text(b, n, a->name, a->text);
            break;
    }
}

void espl_build_node(espl_builder *b, const char *op, const char *name, const espl_value *inputs,
                     int input_count, const espl_attribute *attributes, int attribute_count,
                     espl_value *outputs, int output_count) {
    espl__node *n = espl__build_begin(b, op, name, inputs, input_count, output_count);
    for (int i = 0; i < attribute_count; i++) set_attribute(b, n, &attributes[i]);
    (void)espl__build_end(b, n);
    for (int i = 0; i < output_count; i++)
        outputs[i] = n && !espl__build_failed(b) ? espl__build_handle(n->outputs[i]) : (espl_value){0};
}
