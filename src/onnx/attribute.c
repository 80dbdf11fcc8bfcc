/* AttributeProto to espl__attr, and the values of Constant nodes. */
#include "onnx/onnx_impl.h"

/* Short names for the enum of the generated header. */
#define TYPE(name) ESPL_PB__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__##name

EsplPb__AttributeProto__AttributeType espl__onnx_attr_type(const pb_attr *a) {
    if (a->has_type && a->type != TYPE(UNDEFINED)) return a->type;
    if (a->t) return TYPE(TENSOR);
    if (a->has_g) return TYPE(GRAPH);
    if (a->n_graphs) return TYPE(GRAPHS);
    if (a->has_f) return TYPE(FLOAT);
    if (a->has_i) return TYPE(INT);
    if (a->has_s) return TYPE(STRING);
    if (a->n_floats) return TYPE(FLOATS);
    if (a->n_ints) return TYPE(INTS);
    if (a->n_strings) return TYPE(STRINGS);
    return TYPE(UNDEFINED);
}

static bool holds_byte(ProtobufCBinaryData text, int byte) {
    return text.len && memchr(text.data, byte, text.len) != NULL;
}

static espl_status set_string(espl_graph *graph, espl__node *node, const pb_attr *a, espl_diag *diag) {
    if (holds_byte(a->s, 0)) return espl__fail(diag, ESPL_FORMAT, "holds a zero byte");
    espl__buffer text;
    espl__buffer_init(&text, graph->arena.ctx);
    espl__buffer_append(&text, a->s.data, a->s.len);
    bool good = !text.failed && espl__attr_set_string(graph, node, a->name, text.data);
    espl__buffer_free(&text);
    return good ? ESPL_OK : espl__nomem(diag, a->s.len);
}

/* A list of strings as a tensor of them: words and patterns may hold anything. */
static espl_status list_of(espl_graph *graph, const pb_attr *a, espl_tensor **out, espl_diag *diag) {
    const espl_shape shape = {.rank = 1, .dim = {(int64_t)a->n_strings}};
    espl_text *texts;
    bool good = espl__onnx_texts(graph->arena.ctx, a->strings, a->n_strings, &texts);
    *out = good ? espl__graph_tensor(graph, ESPL_STRING, &shape, texts) : NULL;
    espl__free(graph->arena.ctx, texts);
    return *out ? ESPL_OK : espl__nomem(diag, a->n_strings * sizeof *texts);
}

static espl_status set_words(espl_graph *graph, espl__node *node, const pb_attr *a, espl_diag *diag) {
    espl_tensor *words;
    espl_status status = list_of(graph, a, &words, diag);
    if (status != ESPL_OK) return status;
    return espl__attr_set_tensor(graph, node, a->name, words) ? ESPL_OK : espl__nomem(diag, 0);
}

/* Names of functions, joined by commas. */
static espl_status set_strings(espl_graph *graph, espl__node *node, const pb_attr *a, espl_diag *diag) {
    espl_status status = ESPL_OK;
    espl__buffer text;
    espl__buffer_init(&text, graph->arena.ctx);
    espl__buffer_append(&text, "", 0);
    for (size_t i = 0; i < a->n_strings; i++) {
        if (a->strings[i].len == 0 || holds_byte(a->strings[i], 0) || holds_byte(a->strings[i], ',')) {
            status = espl__fail(diag, ESPL_UNSUPPORTED, "a list with empty strings or commas is not supported");
            goto done;
        }
        if (i) espl__buffer_append(&text, ",", 1);
        espl__buffer_append(&text, a->strings[i].data, a->strings[i].len);
    }
    if (text.failed || !espl__attr_set_strings(graph, node, a->name, text.data))
        status = espl__nomem(diag, text.length);
done:
    espl__buffer_free(&text);
    return status;
}

static espl_status set_tensor(espl_graph *graph, espl__external *external, espl__node *node, const pb_attr *a,
                              espl_diag *diag) {
    espl_tensor tensor;
    if (!a->t) return espl__fail(diag, ESPL_FORMAT, "is a tensor without a value");
    espl_status status = espl__onnx_tensor(graph->arena.ctx, external, a->t, &tensor, diag);
    if (status != ESPL_OK) return status;
    if (!espl__attr_set_tensor(graph, node, a->name, &tensor)) status = espl__nomem(diag, espl__tensor_bytes(&tensor));
    espl_tensor_free(graph->arena.ctx, &tensor);
    return status;
}

static espl_status set(espl_graph *graph, espl__external *external, espl__node *node, const pb_attr *a,
                       espl_diag *diag) {
    bool good = true;
    switch (espl__onnx_attr_type(a)) {
        /* A value of 0 may be left out. */
        case TYPE(INT): good = espl__attr_set_int(graph, node, a->name, a->has_i ? a->i : 0); break;
        case TYPE(FLOAT): good = espl__attr_set_float(graph, node, a->name, a->has_f ? a->f : 0); break;
        case TYPE(INTS): good = espl__attr_set_ints(graph, node, a->name, a->ints, (int64_t)a->n_ints); break;
        case TYPE(FLOATS): good = espl__attr_set_floats(graph, node, a->name, a->floats, (int64_t)a->n_floats); break;
        case TYPE(STRING): return set_string(graph, node, a, diag);
        case TYPE(STRINGS):
            return strcmp(a->name, "activations") == 0 ? set_strings(graph, node, a, diag) : set_words(graph, node, a, diag);
        case TYPE(TENSOR): return set_tensor(graph, external, node, a, diag);
        case TYPE(GRAPH):
        case TYPE(GRAPHS): return espl__fail(diag, ESPL_UNSUPPORTED, "holds a subgraph, which is not supported");
        case TYPE(TYPE_PROTO): /* of an optional value that holds nothing: it has no type that anyone reads */
            if (espl__node_is(node, "Optional")) return ESPL_OK;
            return espl__fail(diag, ESPL_UNSUPPORTED, "has a type (%d) that is not supported", (int)a->type);
        case TYPE(UNDEFINED): return espl__fail(diag, ESPL_FORMAT, "has no value");
        default:
            return espl__fail(diag, ESPL_UNSUPPORTED, "has a type (%d) that is not supported", (int)a->type);
    }
    return good ? ESPL_OK : espl__nomem(diag, 0);
}

espl_status espl__onnx_attribute(espl_graph *graph, espl__external *external, espl__node *node, const pb_attr *a,
                                 espl_diag *diag) {
    espl_status status = ESPL_OK;
    if (!a->name || !*a->name || !espl__utf8(a->name))
        return espl__fail(diag, ESPL_FORMAT, "an attribute has no name");
    if (a->ref_attr_name && *a->ref_attr_name)
        status = espl__fail(diag, ESPL_FORMAT, "refers to '%.100s' of a function where there is none",
                            a->ref_attr_name);
    else if (espl__attr_find(node, a->name))
        status = espl__fail(diag, ESPL_FORMAT, "stands there twice");
    else
        status = set(graph, external, node, a, diag);
    if (status != ESPL_OK) espl__diag_prefix(diag, "attribute '%.100s'", a->name);
    return status;
}

/* --- Constant --------------------------------------------------------------------------------- */

static espl_status constant_of(espl_graph *graph, espl_dtype dtype, int rank, size_t count, const void *data,
                               espl_tensor **out, espl_diag *diag) {
    espl_shape shape = {.rank = rank, .dim = {(int64_t)count}};
    *out = espl__graph_tensor(graph, dtype, &shape, data);
    return *out ? ESPL_OK : espl__nomem(diag, count * espl_dtype_bytes(dtype));
}

espl_status espl__onnx_constant(espl_graph *graph, espl__external *external, const pb_node *proto, espl_tensor **out,
                                espl_diag *diag) {
    *out = NULL;
    if (proto->n_attribute != 1 || !proto->attribute[0]->name)
        return espl__fail(diag, ESPL_FORMAT, "Constant takes exactly one attribute, its value");
    const pb_attr *a = proto->attribute[0];
    if (strcmp(a->name, "value") == 0 && a->t) return espl__onnx_graph_tensor(graph, external, a->t, out, diag);
    if (strcmp(a->name, "value_float") == 0) return constant_of(graph, ESPL_F32, 0, 1, &a->f, out, diag);
    if (strcmp(a->name, "value_int") == 0) return constant_of(graph, ESPL_S64, 0, 1, &a->i, out, diag);
    if (strcmp(a->name, "value_floats") == 0)
        return constant_of(graph, ESPL_F32, 1, a->n_floats, a->floats, out, diag);
    if (strcmp(a->name, "value_ints") == 0) return constant_of(graph, ESPL_S64, 1, a->n_ints, a->ints, out, diag);
    if (strcmp(a->name, "value_string") == 0)
        return constant_of(graph, ESPL_STRING, 0, 1, &(espl_text){(const char *)a->s.data, a->s.len}, out, diag);
    if (strcmp(a->name, "value_strings") == 0) return list_of(graph, a, out, diag);
    if (strcmp(a->name, "sparse_value") == 0)
        return espl__fail(diag, ESPL_UNSUPPORTED, "a sparse constant is not supported");
    return espl__fail(diag, ESPL_FORMAT, "attribute '%.100s' is no value of a Constant", a->name);
}
