#include "inputs.h"

#include <stdlib.h>
#include <string.h>

const char *flavour_choice(int index) {
    return index < ESPL_FLAVOUR_COUNT ? espl_flavour_name((espl_flavour)index) : NULL;
}

const char *input_names(const espl_graph *graph, char *buf, size_t size) {
    size_t used = 0;
    buf[0] = 0;
    for (int i = 0; i < espl_graph_input_count(graph) && used < size; i++) {
        char shape[160];
        espl_shape s = espl_graph_input_shape(graph, i);
        used += (size_t)snprintf(buf + used, size - used, "%s%s (%s)", i ? ", " : "",
                                 espl_graph_input_name(graph, i), espl_shape_text(&s, shape, sizeof shape));
    }
    return buf;
}

/* Names may hold '=' themselves, so the names decide, not the first '='. */
int find_input(const espl_graph *graph, const char *text, const char **value) {
    for (int i = 0; i < espl_graph_input_count(graph); i++) {
        const char *name = espl_graph_input_name(graph, i);
        size_t n = strlen(name);
        if (strncmp(text, name, n) == 0 && text[n] == '=') {
            *value = text + n + 1;
            return i;
        }
    }
    return -1;
}

static espl_status bind_one(cli *c, const espl_graph *graph, const char *text, espl_shape *shapes) {
    const char *value;
    char names[512];
    int input = find_input(graph, text, &value);
    if (input < 0 && !strchr(text, '='))
        return usage_fail(c, "--shape: '%s' is not of the form NAME=1x3x224x224", text);
    if (input < 0)
        return fail(c, ESPL_INVALID, "--shape: '%s' names no input of the model; its inputs are: %s", text,
                    input_names(graph, names, sizeof names));
    espl_shape shape;
    bool good = espl_shape_parse(value, &shape);
    for (int i = 0; good && i < shape.rank; i++) good = shape.dim[i] != ESPL_DIM_UNKNOWN;
    if (!good) return usage_fail(c, "--shape: '%s' is not a shape such as 1x3x224x224", value);
    shapes[input] = shape;
    return ESPL_OK;
}

/* One column of a text: tokens are sequence x batch, or batch x sequence if the first is fixed to 1. */
static void bind_tokens(const espl_graph *graph, const espl_dataset *data, espl_shape *shapes) {
    for (int i = 0; i < espl_graph_input_count(graph); i++) {
        espl_shape own = espl_graph_input_shape(graph, i);
        espl_dtype type = espl_graph_input_dtype(graph, i);
        if (shapes[i].rank >= 0 || (type != ESPL_S64 && type != ESPL_S32) || own.rank < 1 || own.rank > 2)
            continue;
        int sequence = own.rank == 2 && own.dim[0] == 1;
        for (int d = 0; d < own.rank; d++)
            if (own.dim[d] == ESPL_DIM_UNKNOWN)
                own.dim[d] = d == sequence ? espl_dataset_shape(data, 0).dim[0] : 1;
        shapes[i] = own;
    }
}

/* One sample at a time: a model's shape is the sample's with a 1 before it, where the model leaves it open.
 */
static void bind_from_data(const espl_graph *graph, const espl_dataset *data, espl_shape *shapes) {
    int64_t tokens;
    if (espl_dataset_tokens(data, &tokens)) {
        bind_tokens(graph, data, shapes);
        return;
    }
    for (int i = 0; i < espl_graph_input_count(graph) && i < espl_dataset_inputs(data); i++) {
        espl_shape own = espl_graph_input_shape(graph, i), sample = espl_dataset_shape(data, i);
        if (shapes[i].rank >= 0 || *espl_dataset_input_name(data, i) || own.rank != sample.rank + 1) continue;
        for (int d = 0; d < own.rank; d++)
            if (own.dim[d] == ESPL_DIM_UNKNOWN) own.dim[d] = d == 0 ? 1 : sample.dim[d - 1];
        shapes[i] = own;
    }
}

espl_status bind_shapes(cli *c, const espl_graph *graph, const text_list *given, const espl_dataset *data,
                        espl_shape **out) {
    int count = espl_graph_input_count(graph);
    *out = NULL;
    if (given->count == 0 && !data) return ESPL_OK;
    espl_shape *shapes = calloc((size_t)count + 1, sizeof *shapes);
    if (!shapes) return nomem(c);
    for (int i = 0; i < count; i++) shapes[i].rank = -1;
    for (int i = 0; i < given->count; i++) {
        espl_status status = bind_one(c, graph, given->item[i], shapes);
        if (status == ESPL_OK) continue;
        free(shapes);
        return status;
    }
    if (data) bind_from_data(graph, data, shapes);
    *out = shapes;
    return ESPL_OK;
}

espl_status open_session(cli *c, const char *model, const text_list *shapes, const espl_dataset *data,
                         espl_session_options options, espl_session **out) {
    espl_graph *graph = NULL;
    espl_shape *bound = NULL;
    *out = NULL;
    espl_status status = espl_graph_read(c->ctx, model, &graph, &c->diag);
    if (status == ESPL_OK) status = bind_shapes(c, graph, shapes, data, &bound);
    options.input_shapes = bound;
    if (status == ESPL_OK) status = espl_session_create(c->ctx, graph, &options, out, &c->diag);
    free(bound);
    espl_graph_destroy(&graph);
    return status;
}

const char *pattern_text(const espl_sparsity *pattern, char *buf, size_t size) {
    char *percent = strchr(espl_sparsity_text(pattern, buf, size), '%');
    if (percent) {
        *percent = 0;
        *strrchr(buf, ' ') = 0;
    }
    return buf;
}

json_t *shape_value(const espl_shape *shape) {
    json_t *dims = json_array();
    for (int i = 0; i < shape->rank; i++)
        push(dims, shape->dim[i] == ESPL_DIM_UNKNOWN ? json_null() : json_integer(shape->dim[i]));
    return dims;
}

json_t *array_value(const char *name, espl_dtype dtype, const espl_shape *shape) {
    json_t *value = json_object();
    put(value, "name", text_value(name));
    put(value, "dtype", text_value(espl_dtype_name(dtype)));
    put(value, "shape", shape_value(shape));
    return value;
}
