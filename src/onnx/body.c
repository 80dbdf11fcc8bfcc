/* Subgraphs of nodes: what a body reads from outside, and where its constants stand. */
#include "onnx/reader.h"

#include <inttypes.h>
#include <stdio.h>

enum { MAX_DEPTH = 16 }; /* of bodies in bodies */

reader *espl__reader_outermost(reader *r) {
    while (r->outer) r = r->outer;
    return r;
}

/* A pointer more at place `index` of a growing array; what lies between is NULL. */
static bool put(espl_context *ctx, espl__value ***array, int *capacity, int index, espl__value *value) {
    if (index >= *capacity) {
        int more = ESPL_MAX(2 * *capacity, index + 16);
        espl__value **bigger =
            espl__realloc(ctx, *array, (uint64_t)*capacity * sizeof *bigger, (uint64_t)more * sizeof *bigger);
        if (!bigger) return false;
        memset(bigger + *capacity, 0, (size_t)(more - *capacity) * sizeof *bigger);
        *array = bigger;
        *capacity = more;
    }
    (*array)[index] = value;
    return true;
}

/* The input of a body that stands for a value of the graph around it, there under `name`. */
static espl_status capture(reader *r, espl__value *outside, const char *name, espl__value **out) {
    captures *c = r->captured;
    bool known = outside->mark > 0 && outside->mark <= c->count && c->values[outside->mark - 1] == outside;
    int index = known ? outside->mark - 1 : c->count;
    *out = index < r->input_capacity ? r->inputs[index] : NULL;
    if (*out) return ESPL_OK;
    if (!known) {
        if (!put(r->ctx, &c->values, &c->capacity, c->count, outside)) return espl__nomem(r->diag, 0);
        outside->mark = ++c->count; /* where to look for it; another node's list may have overwritten it */
    }
    espl__value *v = espl__graph_value(r->graph, name);
    if (!v || !put(r->ctx, &r->inputs, &r->input_capacity, index, v)) return espl__nomem(r->diag, 0);
    v->is_input = true;
    v->kind = outside->kind;
    v->dtype = outside->dtype;
    v->shape = outside->shape;
    v->known_rank = outside->known_rank;
    *out = v;
    return espl__names_add(&r->names, v->name, v) == ESPL_NOMEM ? espl__nomem(r->diag, 0) : ESPL_OK;
}

espl_status espl__reader_find(reader *r, const char *name, espl__value **out) {
    *out = espl__names_get(&r->names, name);
    if (*out || !r->outer) return ESPL_OK;
    espl__value *outside;
    espl_status status = espl__reader_find(r->outer, name, &outside);
    return status == ESPL_OK && outside ? capture(r, outside, name, out) : status;
}

/* What stands in this graph for a constant of the outermost one. */
static espl_status capture_constant(reader *r, espl__value *constant, const char *name, espl__value **out) {
    espl__value *outside = constant;
    espl_status status =
        r->outer->outer ? capture_constant(r->outer, constant, constant->name, &outside) : ESPL_OK;
    return status == ESPL_OK ? capture(r, outside, name, out) : status;
}

/* One that no constant of a body and no value of the outermost graph has. */
void espl__reader_hoisted_name(reader *r, const char *name, char *buf, size_t size) {
    reader *top = espl__reader_outermost(r);
    snprintf(buf, size, "%s", name);
    bool good = strlen(buf) == strlen(name) && espl__utf8(buf);
    while (!good || espl__names_has(&top->names, buf) || espl__names_has(&top->hoisted, buf)) {
        snprintf(buf, size, "body/constant_%" PRIu64, top->hoisted_count++);
        good = true;
    }
}

espl_status espl__reader_hoist(reader *r, espl__value *constant, const char *name) {
    espl__value *here;
    if (espl__names_add(&espl__reader_outermost(r)->hoisted, constant->name, constant) != ESPL_OK)
        return espl__nomem(r->diag, 0);
    return capture_constant(r, constant, name, &here);
}

espl_status espl__reader_captured(reader *r, espl__value ***inputs, int *capacity, int *count) {
    for (int i = 0; r->outer && i < r->captured->count; i++) {
        espl__value *v = i < r->input_capacity ? r->inputs[i] : NULL;
        if (!v && (v = espl__graph_value(r->graph, r->captured->values[i]->name))) {
            v->kind = r->captured->values[i]->kind;
            v->dtype = r->captured->values[i]->dtype;
        }
        if (!v || !put(r->ctx, inputs, capacity, (*count)++, v)) return espl__nomem(r->diag, 0);
    }
    return ESPL_OK;
}

bool espl__reader_is_body(const pb_attr *a) {
    return espl__onnx_attr_type(a) == ESPL_PB__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__GRAPH;
}

/* The body is the caller's. */
static espl_status read_body(reader *outer, const pb_attr *a, captures *captured, espl_graph **out) {
    espl_status status = ESPL_OK;
    ProtobufCMessage *message = NULL;
    espl_graph *body = NULL;
    reader r = {.ctx = outer->ctx, .model = outer->model, .external = outer->external, .diag = outer->diag};
    r.outer = outer;
    r.captured = captured;
    r.depth = outer->depth + 1;
    *out = NULL;
    espl__names_init(&r.names, r.ctx);
    if (r.depth > MAX_DEPTH) {
        status = espl__fail(r.diag, ESPL_LIMIT, "subgraphs stand in each other more than %d deep", MAX_DEPTH);
        goto done;
    }
    ESPL_TRY(espl__onnx_unpack_bytes(r.ctx, a->g.data, a->g.len, &espl_pb__graph_proto__descriptor, &message,
                                     r.diag));
    r.from = (const pb_graph *)message;
    ESPL_TRY(espl__graph_create(r.ctx, &body, r.diag));
    r.graph = body;
    r.graph->opset = outer->graph->opset;
    if (r.from->n_sparse_initializer) {
        status =
            espl__fail(r.diag, ESPL_UNSUPPORTED, "sparse initializers are not supported; store them dense");
        goto done;
    }
    ESPL_TRY(espl__reader_build(&r));
    *out = body;
    body = NULL;
done:
    if (status != ESPL_OK && status != ESPL_NOMEM)
        espl__diag_prefix(r.diag, "subgraph '%.100s'", text(a->name));
    espl_graph_destroy(&body);
    espl__free(r.ctx, r.inputs);
    espl__names_free(&r.names);
    espl__onnx_unpacked_free(r.ctx, message);
    return status;
}

/* A body that was read first knows fewer captures than the node has in the end: the others become inputs that
 * it does not read. */
static espl_status finish_body(reader *r, espl_graph *body, const captures *captured) {
    int read = body->input_count - body->formals;
    if (read == captured->count) return ESPL_OK;
    espl__value **inputs =
        espl__calloc(r->ctx, (uint64_t)(body->formals + captured->count) + 1, sizeof *inputs);
    if (!inputs) return espl__nomem(r->diag, 0);
    memcpy(inputs, body->inputs, sizeof *inputs * (size_t)body->input_count);
    bool good = true;
    for (int i = read; i < captured->count && good; i++) {
        espl__value *v = inputs[body->formals + i] = espl__graph_value(body, captured->values[i]->name);
        good = v != NULL;
        if (good) v->kind = captured->values[i]->kind, v->dtype = captured->values[i]->dtype;
    }
    good = good && espl__graph_set_io(body, inputs, body->formals + captured->count, body->outputs,
                                      body->output_count);
    espl__free(r->ctx, inputs);
    return good ? ESPL_OK : espl__nomem(r->diag, 0);
}

espl_status espl__reader_bodies(reader *r, const pb_node *n, espl__node *node, int inputs) {
    espl_status status = ESPL_OK;
    captures captured = {0};
    for (size_t i = 0; i < n->n_attribute; i++) {
        const pb_attr *a = n->attribute[i];
        espl_graph *body;
        if (!espl__reader_is_body(a)) continue;
        if (node->op->eval || !*text(a->name) || espl__attr_find(node, a->name)) {
            status = espl__fail(r->diag, ESPL_FORMAT, "takes no subgraph '%.100s'%s", text(a->name),
                                node->op->eval ? "" : ", or not twice");
            goto done;
        }
        ESPL_TRY(read_body(r, a, &captured, &body));
        espl__graph_own(r->graph, body);
        if (!espl__attr_set_graph(r->graph, node, a->name, body)) {
            status = espl__nomem(r->diag, 0);
            goto done;
        }
    }
    for (int i = 0; i < node->attr_count; i++)
        if (node->attrs[i].name && node->attrs[i].kind == ESPL__ATTR_GRAPH)
            ESPL_TRY(finish_body(r, node->attrs[i].body, &captured));
    espl__value **all =
        espl__arena_alloc(&r->graph->arena, sizeof *all * (uint64_t)(inputs + captured.count + 1));
    if (!all) {
        status = espl__nomem(r->diag, 0);
        goto done;
    }
    if (inputs) memcpy(all, node->inputs, sizeof *all * (size_t)inputs);
    if (captured.count) memcpy(all + inputs, captured.values, sizeof *all * (size_t)captured.count);
    node->inputs = all;
    node->input_count = inputs + captured.count;
done:
    espl__free(r->ctx, captured.values);
    return status;
}
