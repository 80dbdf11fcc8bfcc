/* ONNX to IR. Three sweeps: initializers and inputs become values; node outputs become values, those of Constant nodes
 * constants; then nodes are made and wired. So nodes may stand in any order; espl__graph_verify sorts them and finds
 * cycles.
 *
 * A node's subgraph goes the same way, by a reader of its own whose `outer` is the reader of the graph around it. A name
 * that the body does not know is looked up outside, and becomes an input of the body and of the node: espl_graph says
 * how. Constants are defined in the outermost graph, whatever body they stand in. */
#include "onnx/reader.h"

#include <inttypes.h>
#include <stdio.h>

/* "ai.onnx" is another name of the default domain. */
static const char *domain_of(const char *s) { return s && strcmp(s, "ai.onnx") != 0 ? s : ""; }

/* Version of the operator set of a domain; 0 if the model does not import it. Files before IR version 3 follow set 1. */
static int64_t opset_of(const reader *r, const char *domain) {
    for (size_t i = 0; i < r->model->n_opset_import; i++)
        if (strcmp(domain_of(r->model->opset_import[i]->domain), domain) == 0)
            return r->model->opset_import[i]->version;
    return !*domain && r->model->has_ir_version && r->model->ir_version < 3;
}

static espl_status read_header(reader *r) {
    const pb_graph *g = r->from;
    if (!g) return espl__fail(r->diag, ESPL_FORMAT, "is not an ONNX model: it holds no graph");
    int64_t opset = opset_of(r, "");
    if (opset == 0) return espl__fail(r->diag, ESPL_UNSUPPORTED, "imports no operator set of the domain ai.onnx");
    if (opset < ESPL__OPSET_MIN || opset > ESPL__OPSET_MAX)
        return espl__fail(r->diag, ESPL_UNSUPPORTED,
                          "follows operator set %" PRId64 ", %d to %d are supported; convert it with "
                          "onnx.version_converter", opset, ESPL__OPSET_MIN, ESPL__OPSET_MAX);
    if (g->n_sparse_initializer)
        return espl__fail(r->diag, ESPL_UNSUPPORTED, "sparse initializers are not supported; store them dense");
    r->graph->opset = (int)opset;
    r->graph->name = espl__arena_strdup(&r->graph->arena, espl__utf8(text(g->name)) ? text(g->name) : "");
    return r->graph->name ? ESPL_OK : espl__nomem(r->diag, 0);
}

/* Makes the name known. */
static espl_status define(reader *r, espl__value *value, const char *what) {
    if (!value) return espl__nomem(r->diag, 0);
    if (!espl__utf8(value->name)) return espl__fail(r->diag, ESPL_FORMAT, "%s: a name is not UTF-8", what);
    espl_status status = espl__names_add(&r->names, value->name, value);
    if (status == ESPL_NOMEM) return espl__nomem(r->diag, 0);
    if (status != ESPL_OK)
        return espl__fail(r->diag, ESPL_FORMAT, "%s: there are two values of the name '%.200s'", what, value->name);
    return ESPL_OK;
}

static espl__value *constant_value(espl_graph *graph, const char *name, espl_tensor *tensor) {
    espl__value *v = espl__graph_value(graph, name);
    if (!v) return NULL;
    v->constant = tensor;
    v->dtype = tensor->dtype;
    v->shape = tensor->shape;
    v->known_rank = true;
    return v;
}

static espl_status define_constant(reader *r, const char *name, espl_tensor *tensor, const char *what) {
    if (!r->outer) return define(r, constant_value(r->graph, name, tensor), what);
    if (espl__names_has(&r->names, name))
        return espl__fail(r->diag, ESPL_FORMAT, "%s: there are two values of the name '%.200s'", what, name);
    char fresh[256];
    espl__reader_hoisted_name(r, name, fresh, sizeof fresh);
    espl__value *v = constant_value(espl__reader_outermost(r)->graph, fresh, tensor);
    return v ? espl__reader_hoist(r, v, name) : espl__nomem(r->diag, 0);
}

static espl_status read_initializers(reader *r) {
    espl_status status = ESPL_OK;
    for (size_t i = 0; i < r->from->n_initializer; i++) {
        const pb_tensor *t = r->from->initializer[i];
        espl_tensor *tensor;
        if (!t->name || !*t->name)
            return espl__fail(r->diag, ESPL_FORMAT, "initializer %zu has no name", i);
        ESPL_TRY(espl__onnx_graph_tensor(espl__reader_outermost(r)->graph, r->external, t, &tensor, r->diag));
        ESPL_TRY(define_constant(r, t->name, tensor, "initializer"));
    }
done:
    return status;
}

/* A sequence or optional: the element type of the tensors in it. */
static espl_status read_element_type(reader *r, const EsplPb__TypeProto *type, const char *what, espl__value *value) {
    espl_status status = ESPL_OK;
    ProtobufCMessage *inner[2] = {NULL};
    value->kind = type->optional_type ? ESPL__OPTIONAL : ESPL__SEQUENCE;
    for (int i = 0; i < 2 && !type->tensor_type; i++) {
        const EsplPb__TypeProto__Element *e = type->optional_type ? type->optional_type : type->sequence_type;
        if (!e || !e->has_elem_type) break;
        ESPL_TRY(espl__onnx_unpack_bytes(r->ctx, e->elem_type.data, e->elem_type.len, &espl_pb__type_proto__descriptor,
                                         &inner[i], r->diag));
        type = (const EsplPb__TypeProto *)inner[i];
    }
    if (type->tensor_type && type->tensor_type->has_elem_type)
        status = espl__onnx_dtype(type->tensor_type->elem_type, what, &value->dtype, r->diag);
    else
        status = espl__fail(r->diag, ESPL_UNSUPPORTED, "%s '%.200s' is no tensor, sequence of tensors or optional one", what,
                            value->name);
done:
    for (int i = 0; i < 2; i++) espl__onnx_unpacked_free(r->ctx, inner[i]);
    return status;
}

/* Type and shape that the file declares. Dimensions with a name, without anything or below 0 are unknown. */
static espl_status read_type(reader *r, const pb_value *from, const char *what, espl__value *value) {
    const EsplPb__TypeProto__Tensor *type = from->type ? from->type->tensor_type : NULL;
    if (from->type && (from->type->sequence_type || from->type->optional_type))
        return read_element_type(r, from->type, what, value);
    if (r->outer && (!type || !type->has_elem_type)) return ESPL_OK; /* a body's values need not say */
    if (!type || !type->has_elem_type)
        return espl__fail(r->diag, ESPL_UNSUPPORTED, "%s '%.200s' is not a tensor", what, value->name);
    espl_status status = espl__onnx_dtype(type->elem_type, what, &value->dtype, r->diag);
    if (status != ESPL_OK || !type->shape || r->outer) return status; /* shapes may change from one run of a body to the next */
    if (type->shape->n_dim > ESPL_MAX_RANK)
        return espl__fail(r->diag, ESPL_UNSUPPORTED, "%s '%.200s' has %zu dimensions, at most %d are supported", what,
                          value->name, type->shape->n_dim, ESPL_MAX_RANK);
    value->known_rank = true;
    value->shape.rank = (int)type->shape->n_dim;
    for (int i = 0; i < value->shape.rank; i++) {
        const EsplPb__TensorShapeProto__Dimension *d = type->shape->dim[i];
        value->shape.dim[i] = d->has_dim_value && d->dim_value >= 0 ? d->dim_value : ESPL_DIM_UNKNOWN;
    }
    /* A size that nothing could hold is no size: refuse it here, so that nobody multiplies it. */
    espl_shape known = value->shape;
    for (int i = 0; i < known.rank; i++)
        if (known.dim[i] == ESPL_DIM_UNKNOWN) known.dim[i] = 1;
    if (espl_shape_count(&known) < 0)
        return espl__fail(r->diag, ESPL_FORMAT, "%s '%.200s' has too many elements to count", what, value->name);
    return ESPL_OK;
}

/* Inputs; IR versions before 4 list the initializers among them too. */
static espl_status read_inputs(reader *r, espl__value **inputs, int *count) {
    espl_status status = ESPL_OK;
    *count = 0;
    for (size_t i = 0; i < r->from->n_input; i++) {
        const pb_value *in = r->from->input[i];
        if (!in->name || !*in->name) return espl__fail(r->diag, ESPL_FORMAT, "graph input %zu has no name", i);
        const espl__value *known = espl__names_get(&r->names, in->name);
        if (known && known->constant) continue;
        if (known && r->outer)
            return espl__fail(r->diag, ESPL_UNSUPPORTED, "input '%.200s' of a subgraph has an initializer", in->name);
        espl__value *v = espl__graph_value(r->graph, in->name);
        ESPL_TRY(define(r, v, "graph input"));
        ESPL_TRY(read_type(r, in, "graph input", v));
        v->is_input = true;
        inputs[(*count)++] = v;
    }
done:
    return status;
}

static bool is_constant_node(const pb_node *n) {
    return strcmp(text(n->op_type), "Constant") == 0 && !*domain_of(n->domain);
}

/* "node 'conv1' (Conv)" or "node 17 (Conv)" before the sentence that is there. */
static void prefix_node(const reader *r, size_t index) {
    const pb_node *n = r->from->node[index];
    if (n->name && *n->name)
        espl__diag_prefix(r->diag, "node '%.200s' (%.60s)", n->name, text(n->op_type));
    else
        espl__diag_prefix(r->diag, "node %zu (%.60s)", index, text(n->op_type));
}

static espl_status define_outputs(reader *r, const pb_node *n) {
    espl_status status = ESPL_OK;
    if (is_constant_node(n)) {
        espl_tensor *tensor;
        if (n->n_output != 1 || !*n->output[0])
            return espl__fail(r->diag, ESPL_FORMAT, "Constant has exactly one output");
        ESPL_TRY(espl__onnx_constant(espl__reader_outermost(r)->graph, r->external, n, &tensor, r->diag));
        return define_constant(r, n->output[0], tensor, "output");
    }
    for (size_t i = 0; i < n->n_output; i++)
        if (*n->output[i]) ESPL_TRY(define(r, espl__graph_value(r->graph, n->output[i]), "output"));
done:
    return status;
}

/* ONNX Runtime had these for 4 and 16 bits before ONNX did, with the same meaning. */
static const char *standard_domain(const pb_node *n) {
    const char *domain = domain_of(n->domain), *type = text(n->op_type);
    bool same = strcmp(type, "QuantizeLinear") == 0 || strcmp(type, "DequantizeLinear") == 0;
    return same && strcmp(domain, "com.microsoft") == 0 ? "" : domain;
}

static espl_status find_op(const reader *r, const pb_node *n, const espl__op **op, int *opset) {
    const char *domain = standard_domain(n), *type = text(n->op_type);
    const char *shown = *domain ? domain : "ai.onnx";
    int64_t version = *domain == *domain_of(n->domain) ? opset_of(r, domain) : ESPL__OPSET_MAX;
    if (!*type) return espl__fail(r->diag, ESPL_FORMAT, "has no operator type");
    if (!espl__utf8(type) || !espl__utf8(domain) || !espl__utf8(text(n->name)))
        return espl__fail(r->diag, ESPL_FORMAT, "its name or operator is not UTF-8");
    *op = espl__op_find(domain, type);
    if (!*op)
        return espl__fail(r->diag, ESPL_UNSUPPORTED,
                          "operator '%.60s' of domain '%.60s' (operator set %" PRId64
                          ") is not supported; docs/operators.md lists those that are", type,
                          shown, version);
    int lifted = version < ESPL__OPSET_OLDEST && !*domain ? ESPL__OPSET_OLDEST : (int)ESPL_MIN(version, INT32_MAX);
    if (lifted < (*op)->since || lifted > (*op)->until)
        return espl__fail(r->diag, ESPL_UNSUPPORTED,
                          "operator '%.60s' of domain '%.60s' is supported from operator set %d to %d, the model has %"
                          PRId64, type, shown, (*op)->since, (*op)->until, version);
    *opset = (int)version;
    return ESPL_OK;
}

/* Trailing empty names are the same as none. */
static int trimmed(char *const *names, size_t count) {
    while (count > 0 && !*names[count - 1]) count--;
    return (int)count;
}

/* Sets `inputs`, an array of at least `count`, to the values that the node names. */
static espl_status find_inputs(reader *r, const pb_node *n, espl__value **inputs, int count) {
    for (int i = 0; i < count; i++) {
        inputs[i] = NULL;
        if (!*n->input[i]) continue;
        espl_status status = espl__reader_find(r, n->input[i], &inputs[i]);
        if (status == ESPL_OK && !inputs[i])
            status = espl__fail(r->diag, ESPL_FORMAT, "reads '%.200s', which nothing produces", n->input[i]);
        if (status != ESPL_OK) return status;
    }
    return ESPL_OK;
}

static espl_status read_nbits(reader *r, const pb_node *n, int count) {
    espl__value *inputs[16] = {NULL}, *y = n->n_output > 0 ? espl__names_get(&r->names, n->output[0]) : NULL;
    if (count > (int)ESPL_COUNT(inputs)) return espl__fail(r->diag, ESPL_FORMAT, "has %d inputs", count);
    if (!espl__utf8(text(n->name))) return espl__fail(r->diag, ESPL_FORMAT, "its name is not UTF-8");
    espl_status status = find_inputs(r, n, inputs, count);
    return status == ESPL_OK ? espl__onnx_nbits(r->graph, n, inputs, count, y, r->diag) : status;
}

/* What a node without a seed draws is said by its place in the file (ops/random.c). */
static espl_status give_seed(reader *r, espl__node *node) {
    bool trains = espl__node_is(node, "Dropout") && node->input_count > 2;
    if ((!node->op->draws && !trains) || espl__attr_find(node, "seed")) return ESPL_OK;
    bool good = trains ? espl__attr_set_int(r->graph, node, "seed", node->id)
                       : espl__attr_set_float(r->graph, node, "seed", (float)node->id);
    return good ? ESPL_OK : espl__nomem(r->diag, 0);
}

/* Operators on codes stand for several nodes. */
static espl_status read_qoperator(reader *r, const pb_node *n, int inputs, int outputs) {
    enum { MOST = 64 };
    espl__value *in[MOST] = {NULL}, *out[MOST] = {NULL};
    if (inputs > MOST || outputs > MOST) return espl__fail(r->diag, ESPL_FORMAT, "has %d inputs", inputs);
    if (!espl__utf8(text(n->name))) return espl__fail(r->diag, ESPL_FORMAT, "its name is not UTF-8");
    espl_status status = find_inputs(r, n, in, inputs);
    for (int i = 0; i < outputs && status == ESPL_OK; i++)
        if (*n->output[i]) out[i] = espl__names_get(&r->names, n->output[i]);
    if (status != ESPL_OK) return status;
    return espl__onnx_qoperator(r->graph, r->external, domain_of(n->domain), n, in, inputs, out, outputs, r->diag);
}

/* Where bodies bring more inputs, optional ones that are left out keep their places. */
static int named_inputs(const pb_node *n) {
    bool bodies = false;
    for (size_t i = 0; i < n->n_attribute; i++) bodies |= espl__reader_is_body(n->attribute[i]);
    return bodies ? (int)n->n_input : trimmed(n->input, n->n_input);
}

static espl_status read_node(reader *r, const pb_node *n) {
    espl_status status = ESPL_OK;
    const espl__op *op = NULL;
    int opset = 0, inputs = named_inputs(n), outputs = trimmed(n->output, n->n_output);
    if (espl__onnx_is_nbits(domain_of(n->domain), text(n->op_type))) return read_nbits(r, n, inputs);
    if (espl__onnx_is_qoperator(domain_of(n->domain), text(n->op_type))) return read_qoperator(r, n, inputs, outputs);
    ESPL_TRY(find_op(r, n, &op, &opset));
    const bool gradient = espl__onnx_is_gradient(op);
    espl__node *node = espl__graph_node(r->graph, op, text(n->name), inputs + gradient, outputs, (int)n->n_attribute);
    if (!node) return espl__nomem(r->diag, 0);
    node->opset = opset;
    ESPL_TRY(find_inputs(r, n, node->inputs, inputs));
    for (int i = 0; i < outputs; i++)
        if (*n->output[i]) espl__node_set_output(node, i, espl__names_get(&r->names, n->output[i]));
    bool bodies = false;
    for (size_t i = 0; i < n->n_attribute; i++) {
        if (espl__reader_is_body(n->attribute[i]))
            bodies = true;
        else
            ESPL_TRY(espl__onnx_attribute(r->graph, r->external, node, n->attribute[i], r->diag));
    }
    if (bodies) ESPL_TRY(espl__reader_bodies(r, n, node, inputs));
    if (gradient) ESPL_TRY(espl__reader_gradient(r, node));
    status = give_seed(r, node);
done:
    return status;
}

static espl_status read_nodes(reader *r) {
    espl_status status = ESPL_OK;
    for (size_t i = 0; i < r->from->n_node && status == ESPL_OK; i++) {
        status = define_outputs(r, r->from->node[i]);
        if (status != ESPL_OK) prefix_node(r, i);
    }
    for (size_t i = 0; i < r->from->n_node && status == ESPL_OK; i++) {
        if (is_constant_node(r->from->node[i])) continue;
        status = read_node(r, r->from->node[i]);
        if (status != ESPL_OK) prefix_node(r, i);
    }
    return status;
}

/* What a file declares of its outputs is kept until shapes are inferred. */
static espl_status read_outputs(reader *r, espl__value **outputs) {
    espl_status status = ESPL_OK;
    espl__names seen;
    espl__names_init(&seen, r->ctx);
    for (size_t i = 0; i < r->from->n_output; i++) {
        const pb_value *out = r->from->output[i];
        espl__value *v = NULL;
        ESPL_TRY(espl__reader_find(r, text(out->name), &v));
        if (!v) {
            status = espl__fail(r->diag, ESPL_FORMAT, "graph output %zu, '%.200s', is produced by nothing", i,
                                text(out->name));
            goto done;
        }
        status = r->outer ? ESPL_OK : espl__names_add(&seen, v->name, v);
        if (status == ESPL_NOMEM) (void)espl__nomem(r->diag, 0);
        if (status == ESPL_INVALID)
            status = espl__fail(r->diag, ESPL_FORMAT, "graph output '%.200s' stands there twice", v->name);
        if (status != ESPL_OK) goto done;
        if (v->producer && out->type) ESPL_TRY(read_type(r, out, "graph output", v));
        outputs[i] = v;
    }
done:
    espl__names_free(&seen);
    return status;
}

espl_status espl__reader_build(reader *r) {
    espl_status status = ESPL_OK;
    espl__value **inputs = NULL, **outputs = NULL;
    int input_count, input_capacity = (int)ESPL_MIN(r->from->n_input, INT32_MAX - 1) + 1;
    inputs = espl__calloc(r->ctx, r->from->n_input + 1, sizeof *inputs);
    outputs = espl__calloc(r->ctx, r->from->n_output + 1, sizeof *outputs);
    if (!inputs || !outputs) {
        status = espl__nomem(r->diag, (r->from->n_input + r->from->n_output) * sizeof *inputs);
        goto done;
    }
    ESPL_TRY(read_initializers(r));
    ESPL_TRY(read_inputs(r, inputs, &input_count));
    ESPL_TRY(read_nodes(r));
    ESPL_TRY(read_outputs(r, outputs));
    if (r->from->n_output == 0) {
        status = espl__fail(r->diag, ESPL_FORMAT, "the graph has no outputs");
        goto done;
    }
    r->graph->formals = r->outer ? input_count : 0;
    ESPL_TRY(espl__reader_captured(r, &inputs, &input_capacity, &input_count));
    if (!espl__graph_set_io(r->graph, inputs, input_count, outputs, (int)r->from->n_output)) {
        status = espl__nomem(r->diag, 0);
        goto done;
    }
    status = r->graph->opset < ESPL__OPSET_OLDEST ? espl__onnx_lift(r->graph, r->diag)
                                                  : espl__graph_verify(r->graph, r->diag);
done:
    espl__free(r->ctx, inputs);
    espl__free(r->ctx, outputs);
    return status;
}

espl_status espl_onnx_read(espl_context *ctx, const char *path, espl_graph **out, espl_diag *diag) {
    espl_status status = ESPL_OK;
    ProtobufCMessage *message = NULL;
    espl__external external;
    reader r = {.ctx = ctx, .external = &external, .diag = diag};
    *out = NULL;
    espl__names_init(&r.names, ctx);
    espl__names_init(&r.hoisted, ctx);
    espl__external_init(&external, ctx, path);
    ESPL_TRY(espl__onnx_unpack(ctx, path, &espl_pb__model_proto__descriptor, &message, diag));
    r.model = (const pb_model *)message;
    ESPL_TRY(espl__graph_create(ctx, &r.graph, diag));
    r.graph->file = espl__arena_strdup(&r.graph->arena, path);
    r.from = r.model->graph;
    status = r.graph->file ? read_header(&r) : espl__nomem(diag, strlen(path));
    if (status == ESPL_OK) status = espl__reader_build(&r);
    if (status != ESPL_OK) {
        espl__diag_prefix(diag, "%.300s", path);
        goto done;
    }
    *out = r.graph;
    r.graph = NULL;
done:
    espl_graph_destroy(&r.graph);
    espl__external_close(&external);
    espl__names_free(&r.hoisted);
    espl__names_free(&r.names);
    espl__onnx_unpacked_free(ctx, message);
    return status;
}
