/* IR to ONNX. Messages are built in an arena over the graph's own tensor data, packed once and written at once. */
#include "onnx/writer.h"

#include <inttypes.h>
#include <stdio.h>

#define TYPE(name) ESPL_PB__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__##name

/* IR version that ONNX's releases pair with an opset. The two oldest get version 4, the first that lets initializers
 * stand without an entry among the graph's inputs. */
static int64_t ir_version(int opset) {
    static const uint8_t versions[] = {[7] = 4,  [8] = 4,  [9] = 4,  [10] = 5, [11] = 6, [12] = 7, [13] = 7, [14] = 7,
                                       [15] = 8, [16] = 8, [17] = 8, [18] = 8, [19] = 9, [20] = 9, [21] = 10};
    return versions[opset];
}

/* --- building blocks -------------------------------------------------------------------------- */

const char *espl__writer_name(espl__writer *w, espl__names *names, const char *base, const char *suffix) {
    size_t length = strlen(base) + strlen(suffix) + 16;
    char *name = espl__arena_alloc(&w->arena, length);
    if (!name) return NULL;
    snprintf(name, length, "%s%s", base, suffix);
    for (unsigned i = 1; espl__names_has(names, name); i++) snprintf(name, length, "%s%s_%u", base, suffix, i);
    return espl__names_add(names, name, NULL) == ESPL_OK ? name : NULL;
}

pb_node *espl__writer_node(espl__writer *w, const char *op, const char *name, int inputs, int outputs, int attrs) {
    pb_node *n = espl__arena_alloc(&w->arena, sizeof *n);
    if (!n) return NULL;
    espl_pb__node_proto__init(n);
    n->op_type = (char *)op;
    n->name = (char *)name;
    n->n_input = (size_t)inputs;
    n->n_output = (size_t)outputs;
    n->n_attribute = (size_t)attrs;
    n->input = espl__arena_alloc(&w->arena, sizeof *n->input * (n->n_input + 1));
    n->output = espl__arena_alloc(&w->arena, sizeof *n->output * (n->n_output + 1));
    n->attribute = espl__arena_alloc(&w->arena, sizeof *n->attribute * (n->n_attribute + 1));
    if (!n->input || !n->output || !n->attribute) return NULL;
    w->out.node[w->out.n_node++] = n;
    return n;
}

void espl__writer_tensor(pb_tensor *t, espl_dtype dtype, const espl_shape *shape, const void *data, int64_t *dims) {
    espl_pb__tensor_proto__init(t);
    for (int i = 0; i < shape->rank; i++) dims[i] = shape->dim[i];
    t->dims = dims;
    t->n_dims = (size_t)shape->rank;
    t->has_data_type = 1;
    t->data_type = espl__dtype_onnx(dtype);
    t->has_raw_data = 1;
    t->raw_data = (ProtobufCBinaryData){(size_t)espl__onnx_bytes(dtype, (uint64_t)espl_shape_count(shape)), (uint8_t *)data};
}

static pb_tensor *new_tensor(espl__writer *w, espl_dtype dtype, const espl_shape *shape, const void *data) {
    pb_tensor *t = espl__arena_alloc(&w->arena, sizeof *t);
    int64_t *dims = espl__arena_alloc(&w->arena, sizeof *dims * (ESPL_MAX_RANK + 1));
    if (!data && espl_shape_count(shape) > 0) return NULL;
    if (!t || !dims) return NULL;
    espl__writer_tensor(t, dtype, shape, data, dims);
    if (dtype != ESPL_STRING) return t;
    t->has_raw_data = 0;
    t->n_string_data = (size_t)espl_shape_count(shape);
    return espl__writer_texts(w, data, t->n_string_data, &t->string_data) ? t : NULL;
}

pb_tensor *espl__writer_initializer(espl__writer *w, const char *name, espl_dtype dtype, const espl_shape *shape,
                                    const void *data) {
    pb_tensor *t = new_tensor(w, dtype, shape, data);
    if (!t) return NULL;
    t->name = (char *)name;
    w->out.initializer[w->out.n_initializer++] = t;
    return t;
}

pb_attr *espl__writer_attr(espl__writer *w, pb_node *node, int index, const char *name,
                           EsplPb__AttributeProto__AttributeType type) {
    pb_attr *a = espl__arena_alloc(&w->arena, sizeof *a);
    if (!a) return NULL;
    espl_pb__attribute_proto__init(a);
    a->name = (char *)name;
    a->has_type = 1;
    a->type = type;
    node->attribute[index] = a;
    return a;
}

bool espl__writer_attr_int(espl__writer *w, pb_node *node, int index, const char *name, int64_t value) {
    pb_attr *a = espl__writer_attr(w, node, index, name, TYPE(INT));
    if (!a) return false;
    a->has_i = 1;
    a->i = value;
    return true;
}

/* --- attributes and nodes ---------------------------------------------------------------------- */

static bool write_attr(espl__writer *w, pb_node *node, int index, const espl__attr *a) {
    static const EsplPb__AttributeProto__AttributeType types[] = {
        [ESPL__ATTR_INT] = TYPE(INT),       [ESPL__ATTR_FLOAT] = TYPE(FLOAT),   [ESPL__ATTR_STRING] = TYPE(STRING),
        [ESPL__ATTR_INTS] = TYPE(INTS),     [ESPL__ATTR_FLOATS] = TYPE(FLOATS), [ESPL__ATTR_TENSOR] = TYPE(TENSOR),
        [ESPL__ATTR_STRINGS] = TYPE(STRINGS), [ESPL__ATTR_GRAPH] = TYPE(GRAPH)};
    /* Operators have lists of strings, and no tensors of strings. */
    bool words = a->kind == ESPL__ATTR_TENSOR && a->tensor->dtype == ESPL_STRING;
    pb_attr *out = espl__writer_attr(w, node, index, a->name, words ? TYPE(STRINGS) : types[a->kind]);
    if (!out) return false;
    if (words) {
        out->n_strings = (size_t)espl_shape_count(&a->tensor->shape);
        return espl__writer_texts(w, a->tensor->data, out->n_strings, &out->strings);
    }
    switch (a->kind) {
        case ESPL__ATTR_INT: out->has_i = 1, out->i = a->i; break;
        case ESPL__ATTR_FLOAT: out->has_f = 1, out->f = a->f; break;
        case ESPL__ATTR_INTS: out->n_ints = (size_t)a->count, out->ints = a->ints; break;
        case ESPL__ATTR_FLOATS: out->n_floats = (size_t)a->count, out->floats = a->floats; break;
        case ESPL__ATTR_STRING:
            out->has_s = 1;
            out->s = (ProtobufCBinaryData){strlen(a->s), (uint8_t *)a->s};
            break;
        case ESPL__ATTR_STRINGS: return espl__writer_split(w, a->s, out);
        case ESPL__ATTR_TENSOR:
            out->t = new_tensor(w, a->tensor->dtype, &a->tensor->shape, espl__writer_elements(w, a->tensor));
            return out->t != NULL;
        case ESPL__ATTR_GRAPH: return false; /* write_body is for them */
    }
    return true;
}

static const char *node_name(espl__writer *w, const espl__node *n) {
    char id[16] = "", *base = n->name;
    if (*base) return espl__writer_name(w, &w->node_names, base, "");
    snprintf(id, sizeof id, "_%d", n->id);
    return espl__writer_name(w, &w->node_names, n->op->name, id);
}

static int trimmed(espl__value *const *values, int count) {
    while (count > 0 && !values[count - 1]) count--;
    return count;
}

/* Attributes of our own are for the runtime. */
static bool is_written(const espl__attr *a) {
    return a->name && strncmp(a->name, "espl_", 5) != 0;
}

static espl_status allocate(espl__writer *w) {
    const espl_graph *g = w->graph;
    uint64_t values = (uint64_t)g->value_count + 1, nodes = (uint64_t)g->node_count + 1, reads = 0;
    for (int i = 0; i < g->node_count; i++) reads += (uint64_t)g->nodes[i]->input_count;
    espl_pb__graph_proto__init(&w->out);
    w->forks = espl__arena_alloc(&w->arena, values * sizeof *w->forks);
    w->readers = espl__arena_alloc(&w->arena, values * sizeof *w->readers);
    w->uses = espl__arena_alloc(&w->arena, values * sizeof *w->uses);
    w->is_output = espl__arena_alloc(&w->arena, values * sizeof *w->is_output);
    w->constant_done = espl__arena_alloc(&w->arena, values * sizeof *w->constant_done);
    w->name = espl__arena_alloc(&w->arena, values * sizeof *w->name);
    w->read = espl__arena_alloc(&w->arena, values * sizeof *w->read);
    /* A value brings at most a Clip and four nodes, or QuantizeLinear and DequantizeLinear for each reader; and codes, or
     * two bounds, scale and zero point. */
    w->out.node = espl__arena_alloc(&w->arena, (nodes + 5 * values + 2 * reads + (uint64_t)g->output_count) * sizeof *w->out.node);
    w->out.initializer = espl__arena_alloc(&w->arena, 4 * values * sizeof *w->out.initializer);
    w->out.input = espl__arena_alloc(&w->arena, ((uint64_t)g->input_count + 1) * sizeof *w->out.input);
    w->out.output = espl__arena_alloc(&w->arena, ((uint64_t)g->output_count + 1) * sizeof *w->out.output);
    if (!w->uses || !w->forks || !w->readers || !w->is_output || !w->constant_done || !w->name || !w->read || !w->out.node ||
        !w->out.initializer || !w->out.input || !w->out.output)
        return espl__nomem(w->diag, 0);
    for (int i = 0; i < g->node_count; i++)
        for (int j = 0; j < g->nodes[i]->input_count; j++)
            if (g->nodes[i]->inputs[j]) w->uses[g->nodes[i]->inputs[j]->id]++;
    for (int i = 0; i < g->output_count; i++) {
        w->uses[g->outputs[i]->id]++;
        w->is_output[g->outputs[i]->id] = true;
    }
    return ESPL_OK;
}

static bool is_body(const espl__attr *a) {
    return a->name && a->kind == ESPL__ATTR_GRAPH;
}

/* Inputs that the file names: what bodies read from outside they read by name. */
static int named_inputs(const espl__node *n) {
    int count = n->input_count;
    for (int i = 0; i < n->attr_count; i++)
        if (is_body(&n->attrs[i])) count = n->input_count - (n->attrs[i].body->input_count - n->attrs[i].body->formals);
    return count;
}

static espl_status build_graph(espl__writer *w, int inputs);

/* The body as bytes; `outside`: names of what it reads there. Its writer shares names with that of the graph around it, as a name may not hide another. */
static espl_status write_body(espl__writer *w, pb_node *node, int index, const char *const *outside, const espl__attr *a) {
    const espl_graph *body = a->body;
    espl__writer b = {.ctx = w->ctx, .graph = body, .flavour = w->flavour, .diag = w->diag, .opset = w->opset};
    pb_attr *out = espl__writer_attr(w, node, index, a->name, TYPE(GRAPH));
    if (!out) return espl__nomem(w->diag, 0);
    b.arena = w->arena;
    b.value_names = w->value_names;
    b.node_names = w->node_names;
    b.forms = espl__onnx_forms(&b.arena, body, b.flavour, b.opset);
    espl_status status = b.forms ? allocate(&b) : espl__nomem(w->diag, 0);
    for (int i = body->formals; i < body->input_count && status == ESPL_OK; i++)
        b.name[body->inputs[i]->id] = b.read[body->inputs[i]->id] = outside[i - body->formals];
    if (status == ESPL_OK) status = build_graph(&b, body->formals);
    size_t length = status == ESPL_OK ? protobuf_c_message_get_packed_size(&b.out.base) : 0;
    uint8_t *bytes = status == ESPL_OK ? espl__arena_alloc(&b.arena, length + 1) : NULL;
    if (bytes) protobuf_c_message_pack(&b.out.base, bytes);
    out->has_g = 1;
    out->g = (ProtobufCBinaryData){length, bytes};
    w->arena = b.arena;
    w->value_names = b.value_names;
    w->node_names = b.node_names;
    return status == ESPL_OK && !bytes ? espl__nomem(w->diag, length) : status;
}

static espl_status write_node(espl__writer *w, const espl__node *n) {
    espl_status status = ESPL_OK;
    int named = named_inputs(n), inputs = trimmed(n->inputs, named), outputs = trimmed(n->outputs, n->output_count), attrs = 0;
    for (int i = 0; i < n->attr_count; i++) attrs += is_written(&n->attrs[i]);
    for (int i = 0; i < n->input_count; i++)
        if (n->inputs[i] && n->inputs[i]->constant) ESPL_TRY(espl__writer_constant(w, n->inputs[i]));
    const char *name = node_name(w, n);
    pb_node *out = name ? espl__writer_node(w, n->op->name, name, inputs, outputs, attrs) : NULL;
    if (!out) return espl__nomem(w->diag, 0);
    if (*n->op->domain) out->domain = (char *)n->op->domain;
    for (int i = 0; i < inputs; i++) out->input[i] = (char *)(n->inputs[i] ? espl__writer_read(w, n->inputs[i]) : "");
    for (int i = 0; i < outputs; i++) out->output[i] = (char *)(n->outputs[i] ? w->name[n->outputs[i]->id] : "");
    const char **outside = espl__arena_alloc(&w->arena, sizeof *outside * ((uint64_t)n->input_count + 1));
    if (!outside) return espl__nomem(w->diag, 0);
    for (int i = named; i < n->input_count; i++) outside[i - named] = espl__writer_read(w, n->inputs[i]);
    for (int i = 0, j = 0; i < n->attr_count; i++) {
        if (!is_written(&n->attrs[i])) continue;
        if (is_body(&n->attrs[i]))
            ESPL_TRY(write_body(w, out, j++, outside, &n->attrs[i]));
        else if (!write_attr(w, out, j++, &n->attrs[i]))
            return espl__nomem(w->diag, 0);
    }
    for (int i = 0; i < outputs; i++)
        if (n->outputs[i]) ESPL_TRY(espl__writer_round(w, n->outputs[i]));
done:
    return status;
}

/* --- inputs and outputs ------------------------------------------------------------------------ */

/* Unknown dimensions of inputs get a name, the first the usual one of the batch. Those of outputs stay open:
 * tools infer them, and a wrong name would be worse than none. */
static bool name_dim(espl__writer *w, EsplPb__TypeProto__Tensor *type, int input, int dim) {
    char name[32] = "N";
    if (input < 0) return true;
    if (dim > 0) snprintf(name, sizeof name, "d%d_%d", input, dim);
    type->shape->dim[dim]->dim_param = espl__arena_strdup(&w->arena, name);
    return type->shape->dim[dim]->dim_param != NULL;
}

static bool write_shape(espl__writer *w, EsplPb__TypeProto__Tensor *type, const espl__value *v, int input) {
    EsplPb__TensorShapeProto *shape = espl__arena_alloc(&w->arena, sizeof *shape);
    if (!shape) return false;
    espl_pb__tensor_shape_proto__init(shape);
    shape->dim = espl__arena_alloc(&w->arena, sizeof *shape->dim * (ESPL_MAX_RANK + 1));
    if (!shape->dim) return false;
    type->shape = shape;
    for (int i = 0; i < v->shape.rank; i++) {
        EsplPb__TensorShapeProto__Dimension *d = espl__arena_alloc(&w->arena, sizeof *d);
        if (!d) return false;
        espl_pb__tensor_shape_proto__dimension__init(d);
        shape->dim[shape->n_dim++] = d;
        d->has_dim_value = v->shape.dim[i] >= 0;
        d->dim_value = v->shape.dim[i];
        if (!d->has_dim_value && !name_dim(w, type, input, i)) return false;
    }
    return true;
}

/* `input`: its index, or -1 for an output. */
static pb_value *value_info(espl__writer *w, const espl__value *v, const char *name, int input) {
    pb_value *out = espl__arena_alloc(&w->arena, sizeof *out);
    EsplPb__TypeProto *type = espl__arena_alloc(&w->arena, sizeof *type);
    EsplPb__TypeProto__Tensor *tensor = espl__arena_alloc(&w->arena, sizeof *tensor);
    if (!out || !type || !tensor) return NULL;
    espl_pb__value_info_proto__init(out);
    espl_pb__type_proto__init(type);
    espl_pb__type_proto__tensor__init(tensor);
    out->name = (char *)name;
    out->type = type;
    type->tensor_type = tensor;
    tensor->has_elem_type = 1;
    tensor->elem_type = espl__dtype_onnx(v->dtype);
    return v->known_rank && !write_shape(w, tensor, v, input) ? NULL : out;
}

/* --- the whole ----------------------------------------------------------------------------------- */

static espl_status take_name(espl__writer *w, const espl__value *v) {
    char id[16];
    if (w->name[v->id]) return ESPL_OK;
    espl_status status = *v->name ? espl__names_add(&w->value_names, v->name, NULL) : ESPL_INVALID;
    if (status == ESPL_NOMEM) return espl__nomem(w->diag, 0);
    snprintf(id, sizeof id, "%d", v->id);
    w->name[v->id] = status == ESPL_OK ? v->name
                     : *v->name        ? espl__writer_name(w, &w->value_names, v->name, "")
                                       : espl__writer_name(w, &w->value_names, "v", id);
    w->read[v->id] = w->name[v->id];
    return w->name[v->id] ? ESPL_OK : espl__nomem(w->diag, 0);
}

/* Inputs and outputs keep their names whatever happens, then the others theirs, then the nameless get one. */
static espl_status name_values(espl__writer *w) {
    espl_status status = ESPL_OK;
    const espl_graph *g = w->graph;
    for (int i = 0; i < g->input_count; i++) ESPL_TRY(take_name(w, g->inputs[i]));
    for (int i = 0; i < g->output_count; i++) ESPL_TRY(take_name(w, g->outputs[i]));
    for (int i = 0; i < g->value_count; i++)
        if (*g->values[i]->name) ESPL_TRY(take_name(w, g->values[i]));
    for (int i = 0; i < g->value_count; i++) ESPL_TRY(take_name(w, g->values[i]));
    for (int i = 0; i < g->value_count; i++) ESPL_TRY(espl__writer_name_quantized(w, g->values[i]));
done:
    return status;
}

/* In a body an output may be no input and no value of the graph around it. */
static const char *own_output(espl__writer *w, const espl__value *v) {
    const char *name = espl__writer_name(w, &w->value_names, "output", "");
    pb_node *n = name ? espl__writer_node(w, "Identity", espl__writer_name(w, &w->node_names, "output", ""), 1, 1, 0) : NULL;
    if (!n) return NULL;
    n->input[0] = (char *)w->read[v->id];
    n->output[0] = (char *)name;
    return name;
}

/* `inputs`: how many of the graph's the file declares. */
static espl_status build_graph(espl__writer *w, int inputs) {
    espl_status status = ESPL_OK;
    const espl_graph *g = w->graph;
    bool body = inputs < g->input_count || g->formals > 0;
    ESPL_TRY(name_values(w));
    w->out.name = *g->name ? g->name : (char *)"graph";
    for (int i = 0; i < inputs; i++) {
        if (g->inputs[i]->kind != ESPL__TENSOR)
            return espl__fail(w->diag, ESPL_UNSUPPORTED, "a subgraph with sequences cannot be written");
        pb_value *in = value_info(w, g->inputs[i], w->name[g->inputs[i]->id], i);
        if (!in) return espl__nomem(w->diag, 0);
        w->out.input[w->out.n_input++] = in;
        ESPL_TRY(espl__writer_round(w, g->inputs[i]));
    }
    for (int i = 0; i < g->node_count; i++) ESPL_TRY(write_node(w, g->nodes[i]));
    for (int i = 0; i < g->output_count; i++) {
        const espl__value *v = g->outputs[i];
        if (v->constant) ESPL_TRY(espl__writer_constant(w, v));
        const char *name = body && !v->producer ? own_output(w, v) : w->read[v->id];
        pb_value *out = name ? value_info(w, v, name, -1) : NULL;
        if (!out) return espl__nomem(w->diag, 0);
        w->out.output[w->out.n_output++] = out;
    }
done:
    return status;
}

/* The domains that nodes come from; the default one first. */
static espl_status import_opsets(espl__writer *w, pb_model *model) {
    const espl_graph *g = w->graph;
    model->opset_import = espl__arena_alloc(&w->arena, sizeof *model->opset_import * ((uint64_t)g->node_count + 1));
    if (!model->opset_import) return espl__nomem(w->diag, 0);
    for (int i = -1; i < g->node_count; i++) {
        const char *domain = i < 0 ? "" : g->nodes[i]->op->domain;
        bool known = false;
        for (size_t j = 0; j < model->n_opset_import && !known; j++)
            known = strcmp(model->opset_import[j]->domain, domain) == 0;
        if (known) continue;
        EsplPb__OperatorSetIdProto *set = espl__arena_alloc(&w->arena, sizeof *set);
        if (!set) return espl__nomem(w->diag, 0);
        espl_pb__operator_set_id_proto__init(set);
        set->domain = (char *)domain;
        set->has_version = 1;
        set->version = i < 0 ? w->opset : g->nodes[i]->opset;
        model->opset_import[model->n_opset_import++] = set;
    }
    return ESPL_OK;
}

static espl_status write_model(espl__writer *w, const char *doc, const char *path) {
    pb_model model = ESPL_PB__MODEL_PROTO__INIT;
    model.has_ir_version = 1;
    model.ir_version = ir_version(w->opset);
    model.producer_name = (char *)"espalier";
    model.producer_version = (char *)espl_version();
    model.doc_string = (char *)doc;
    model.graph = &w->out;
    espl_status status = import_opsets(w, &model);
    if (status != ESPL_OK) return status;
    uint64_t length = protobuf_c_message_get_packed_size(&model.base);
    if (length > ESPL__ONNX_MAX_BYTES)
        return espl__fail(w->diag, ESPL_LIMIT,
                          "the model takes %" PRIu64 " bytes; an ONNX file has at most %" PRIu64, length,
                          ESPL__ONNX_MAX_BYTES);
    uint8_t *bytes = espl__alloc(w->ctx, length);
    if (!bytes) return espl__nomem(w->diag, length);
    protobuf_c_message_pack(&model.base, bytes);
    status = espl__file_write(w->ctx, path, bytes, length, w->diag);
    espl__free(w->ctx, bytes);
    return status;
}

/* The opset to write: the graph's own unless a node follows a newer one or quantizations need more. */
static int target_opset(const espl_graph *g, const espl__form *forms) {
    int opset = g->opset;
    for (int i = 0; i < g->node_count; i++)
        if (!*g->nodes[i]->op->domain) opset = ESPL_MAX(opset, g->nodes[i]->opset);
    for (int i = 0; i < g->value_count; i++)
        if (espl__is_quantized(g->values[i])) opset = ESPL_MAX(opset, forms[i].opset);
    return opset;
}

/* Bodies follow the operator set of the graph around them. */
static espl_status upgrade(espl_graph *g, int opset, espl_diag *diag) {
    espl_status status = espl__onnx_upgrade(g, opset, diag);
    for (espl_graph *body = g->bodies; body && status == ESPL_OK; body = body->next) status = upgrade(body, opset, diag);
    return status;
}

static bool needs_upgrade(const espl_graph *g, int opset) {
    for (int i = 0; i < g->node_count; i++)
        if (!*g->nodes[i]->op->domain && g->nodes[i]->opset != opset) return true;
    return false;
}

/* By the file's name alone: folders of results get theirs when all is written. */
static void tell(const espl__writer *w, const char *path) {
    espl_context *ctx = w->ctx;
    if (strrchr(path, '/')) path = strrchr(path, '/') + 1;
    if (w->narrow_constants)
        espl__log(ctx, ESPL_LOG_INFO,
                  "%s: %d constants of fewer than 8 bits are written as integers of 4, 8 or 16 bits, the nearest standard "
                  "form; their values are exact", path, w->narrow_constants);
    if (w->plain_constants)
        espl__log(ctx, ESPL_LOG_INFO,
                  "%s: %d constants are written as f32, as their format has no standard form; their values are exact", path,
                  w->plain_constants);
    if (w->clipped_activations)
        espl__log(ctx, ESPL_LOG_INFO,
                  "%s: %d activations of fewer than 8 bits are written as Clip and 8-bit integers; their values are exact",
                  path, w->clipped_activations);
    if (w->unrounded_activations)
        espl__log(ctx, ESPL_LOG_WARN,
                  "%s: %d activations are not rounded in the file, as their format has no standard form", path,
                  w->unrounded_activations);
    if (w->flavour == ESPL_FLAVOUR_PORTABLE && w->asymmetric_activations)
        espl__log(ctx, ESPL_LOG_WARN,
                  "%s: %d activations are not s8 with a zero point of 0, which some tools that take flavour '%s' need",
                  path, w->asymmetric_activations, espl_flavour_name(w->flavour));
}

/* The graph in the operator set that its quantizations need; if that cannot be, in the last that needs less. */
static espl_status choose_opset(espl__writer *w, espl_graph **upgraded) {
    static const int newest[] = {ESPL__OPSET_MAX, 20, 18};
    espl_status status = ESPL_OK;
    const espl_graph *g = w->graph;
    for (size_t i = 0; i < ESPL_COUNT(newest); i++) {
        if (!(w->forms = espl__onnx_forms(&w->arena, g, w->flavour, newest[i]))) return espl__nomem(w->diag, 0);
        int opset = target_opset(g, w->forms);
        if (i > 0 && opset == w->opset) return status; /* nothing that is newer is the reason */
        w->opset = opset;
        if (opset < ESPL__OPSET_OLDEST || opset > ESPL__OPSET_MAX)
            return espl__fail(w->diag, ESPL_INVALID, "operator set %d cannot be written", opset);
        if (!needs_upgrade(g, opset)) return ESPL_OK;
        if (w->diag) *w->diag = (espl_diag){0};
        status = espl__graph_clone(g, upgraded, w->diag);
        if (status == ESPL_OK) status = upgrade(*upgraded, opset, w->diag);
        if (status == ESPL_OK) w->graph = *upgraded;
        if (status != ESPL_UNSUPPORTED) return status;
        espl_graph_destroy(upgraded);
    }
    return status;
}

espl_status espl_onnx_write(espl_context *ctx, const espl_graph *graph, const espl_onnx_options *options,
                            const char *path, espl_diag *diag) {
    espl_status status = ESPL_OK;
    espl_graph *upgraded = NULL;
    espl_onnx_options o = options ? *options : (espl_onnx_options){0};
    espl__writer w = {.ctx = ctx, .graph = graph, .flavour = o.flavour, .diag = diag};
    espl__arena_init(&w.arena, ctx);
    espl__names_init(&w.value_names, ctx);
    espl__names_init(&w.node_names, ctx);
    ESPL_TRY(choose_opset(&w, &upgraded));
    ESPL_TRY(allocate(&w));
    ESPL_TRY(build_graph(&w, graph->input_count));
    ESPL_TRY(write_model(&w, o.doc, path));
    tell(&w, path);
done:
    if (status != ESPL_OK && status != ESPL_IO) espl__diag_prefix(diag, "%.300s", path);
    espl__names_free(&w.value_names);
    espl__names_free(&w.node_names);
    espl__arena_free(&w.arena);
    espl_graph_destroy(&upgraded);
    return status;
}
