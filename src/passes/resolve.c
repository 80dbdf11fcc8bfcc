/* The walk of the pass `resolve`, and what it makes nodes with: resolve.h. */
#include "passes/resolve.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>

enum { SHADOW_LIMIT = 1 << 20, SHADOW_TOTAL = 64 << 20, SHADOW_WORK = 64 << 20 };

/* --- lists ------------------------------------------------------------------------------------------- */

const espl__list *espl__resolve_list(const espl__resolver *r, const espl__value *v) {
    return v && v->id < r->list_capacity ? r->lists[v->id] : NULL;
}

static espl_status put_list(espl__resolver *r, espl__value *v, espl__list *list) {
    espl_context *ctx = r->arena.ctx;
    if (v->id >= r->list_capacity) {
        int more = ESPL_MAX(2 * r->list_capacity, v->id + 64);
        espl__list **bigger = espl__realloc(ctx, r->lists, sizeof *bigger * (uint64_t)r->list_capacity,
                                            sizeof *bigger * (uint64_t)more);
        if (!bigger) return espl__nomem(r->diag, sizeof *bigger * (uint64_t)more);
        memset(bigger + r->list_capacity, 0, sizeof *bigger * (size_t)(more - r->list_capacity));
        r->lists = bigger;
        r->list_capacity = more;
    }
    r->lists[v->id] = list;
    v->kind = list->kind;
    return ESPL_OK;
}

espl_status espl__resolve_set_list(espl__resolver *r, espl__value *v, espl__kind kind, bool present,
                                   espl__value *const *elements, int count) {
    espl__list *l = espl__arena_alloc(&r->arena, sizeof *l);
    if (!l) return espl__nomem(r->diag, sizeof *l);
    *l = (espl__list){kind, present, count,
                      espl__arena_alloc(&r->arena, sizeof *l->elements * (uint64_t)(count + 1))};
    if (!l->elements) return espl__nomem(r->diag, sizeof *l->elements * (uint64_t)count);
    if (count) memcpy(l->elements, elements, sizeof *l->elements * (size_t)count);
    return put_list(r, v, l);
}

espl_status espl__resolve_new_list(espl__resolver *r, espl_dtype dtype, espl__value *const *elements,
                                   int count, espl__value **out) {
    *out = espl__graph_value(r->g, "");
    if (!*out) return espl__nomem(r->diag, 0);
    (*out)->dtype = dtype;
    return espl__resolve_set_list(r, *out, ESPL__SEQUENCE, true, elements, count);
}

/* --- making nodes ------------------------------------------------------------------------------------ */

const char *espl__resolve_name(espl__resolver *r, const char *prefix, const char *name, int64_t index) {
    char number[24] = "";
    if (index >= 0) snprintf(number, sizeof number, "%" PRId64, index);
    size_t length = strlen(prefix) + strlen(name) + strlen(number) + 3;
    char *text = espl__arena_alloc(&r->arena, length);
    if (text) snprintf(text, length, "%s%s%s%s", prefix, name, index >= 0 ? "/" : "", number);
    return text;
}

static espl__value *new_value(espl__resolver *r, const char *what) {
    const char *name = espl__resolve_name(r, r->prefix, what, r->g->value_count);
    espl__value *v = name ? espl__graph_value(r->g, name) : NULL;
    if (v) v->origin = -1;
    return v;
}

espl_status espl__resolve_constant(espl__resolver *r, espl_dtype dtype, const espl_shape *shape,
                                   const void *data, espl__value **out) {
    const char *name = espl__resolve_name(r, r->prefix, "constant", r->g->value_count);
    espl_tensor t = {dtype, *shape, (void *)(uintptr_t)data};
    *out = name ? espl__graph_constant(r->g, name, &t) : NULL;
    return *out ? ESPL_OK : espl__nomem(r->diag, 0);
}

espl_status espl__resolve_number(espl__resolver *r, int64_t number, espl__value **out) {
    return espl__resolve_constant(r, ESPL_S64, &(espl_shape){0}, &number, out);
}

/* A node of one output that stands last in the graph, not walked yet. */
static espl_status new_node(espl__resolver *r, const char *op_name, espl__value *const *in, int count,
                            espl__value *out, espl__node **node) {
    const espl__op *op = espl__op_find("", op_name);
    espl__node *n = espl__graph_node(r->g, op, "", count, 1, 0);
    *node = n;
    if (!n) return espl__nomem(r->diag, 0);
    n->opset = ESPL_MAX(r->g->opset, op->since);
    for (int i = 0; i < count; i++) n->inputs[i] = in[i];
    n->origin = -1;
    espl__node_set_output(n, 0, out);
    r->changed = true;
    return ESPL_OK;
}

espl_status espl__resolve_emit(espl__resolver *r, const char *op, espl__value *const *in, int count, int axis,
                               espl__value **out) {
    espl__node *n;
    *out = new_value(r, op);
    if (!*out) return espl__nomem(r->diag, 0);
    espl_status status = new_node(r, op, in, count, *out, &n);
    if (status == ESPL_OK && axis != INT_MIN && !espl__attr_set_int(r->g, n, "axis", axis))
        status = espl__nomem(r->diag, 0);
    return status == ESPL_OK ? espl__resolve_visit(r, n) : status;
}

espl_status espl__resolve_slice(espl__resolver *r, espl__value *x, int64_t index, int axis,
                                espl__value **out) {
    espl__value *in[2] = {x, NULL};
    espl_status status = espl__resolve_number(r, index, &in[1]);
    return status == ESPL_OK ? espl__resolve_emit(r, "Gather", in, 2, axis, out) : status;
}

espl_status espl__resolve_emit_ints(espl__resolver *r, const char *op, espl__value *const *in, int count,
                                    const char *name, const int64_t *ints, int n_ints, espl__value **out) {
    espl__node *n;
    *out = new_value(r, op);
    if (!*out) return espl__nomem(r->diag, 0);
    espl_status status = new_node(r, op, in, count, *out, &n);
    if (status == ESPL_OK && name && !espl__attr_set_ints(r->g, n, name, ints, n_ints)) status = espl__nomem(r->diag, 0);
    return status == ESPL_OK ? espl__resolve_visit(r, n) : status;
}

espl_status espl__resolve_emit_axes(espl__resolver *r, const char *op, espl__value *x, const int64_t *axes, int count,
                                    espl__value **out) {
    espl__value *in[2] = {x, NULL};
    if (r->g->opset < 13) return espl__resolve_emit_ints(r, op, in, 1, "axes", axes, count, out);
    espl_status status = espl__resolve_constant(r, ESPL_S64, &(espl_shape){1, {count}}, axes, &in[1]);
    return status == ESPL_OK ? espl__resolve_emit_ints(r, op, in, 2, NULL, NULL, 0, out) : status;
}

espl_status espl__resolve_stack(espl__resolver *r, espl__value *const *values, int count, int axis,
                                espl__value **out) {
    espl_status status = ESPL_OK;
    espl__value **rows = espl__calloc(r->arena.ctx, (uint64_t)count + 1, sizeof *rows);
    if (!rows) return espl__nomem(r->diag, 0);
    for (int i = 0; i < count; i++) ESPL_TRY(espl__resolve_emit_axes(r, "Unsqueeze", values[i], &(int64_t){axis}, 1, &rows[i]));
    status = espl__resolve_emit(r, "Concat", rows, count, axis, out);
done:
    espl__free(r->arena.ctx, rows);
    return status;
}

bool espl__resolve_known(const espl__value *v, int64_t *out) {
    const espl_tensor *t = v ? v->constant : NULL;
    if (!t || espl__is_quantized(v) || espl_shape_count(&t->shape) != 1) return false;
    if (t->dtype == ESPL_S64)
        memcpy(out, t->data, sizeof *out);
    else if (t->dtype == ESPL_S32)
        *out = *(const int32_t *)t->data;
    else if (t->dtype == ESPL_BOOL)
        *out = *(const uint8_t *)t->data != 0;
    else
        return false;
    return true;
}

void espl__resolve_undo(espl__resolver *r, int first) {
    for (int i = first; i < r->g->node_count; i++) r->g->nodes[i]->mark = -1;
}

espl_status espl__resolve_connect(espl__resolver *r, espl__node *n, int index, espl__value *result) {
    espl__value *v = index < n->output_count ? n->outputs[index] : NULL;
    espl__node *same;
    if (!v) return ESPL_OK;
    n->outputs[index] = NULL;
    v->producer = NULL;
    r->changed = true;
    if (espl__resolve_list(r, result)) return put_list(r, v, r->lists[result->id]);
    espl_status status = new_node(r, "Identity", &result, 1, v, &same);
    return status == ESPL_OK ? espl__resolve_visit(r, same) : status;
}

/* --- bodies ------------------------------------------------------------------------------------------ */

/* A constant that stands in a body: where a reader makes one of what a node says. */
static espl_status copy_constant(espl__resolver *r, const espl__value *v, espl__value **out) {
    espl_status status =
        espl__resolve_constant(r, v->constant->dtype, &v->constant->shape, v->constant->data, out);
    if (status != ESPL_OK) return status;
    (*out)->dtype = v->dtype;
    if (!espl__is_quantized(v) || espl__graph_copy_quant(r->g, *out, &v->quant)) return ESPL_OK;
    return espl__nomem(r->diag, 0);
}

static espl_status copy_node(espl__resolver *r, const espl__node *from, const char *prefix,
                             espl__value **map) {
    espl_status status = ESPL_OK;
    const char *name = *from->name ? espl__resolve_name(r, prefix, from->name, -1) : "";
    espl__node *n =
        name ? espl__graph_node(r->g, from->op, name, from->input_count, from->output_count, 0) : NULL;
    if (!n) return espl__nomem(r->diag, 0);
    n->opset = from->opset;
    n->origin = -1;
    for (int i = 0; i < from->input_count; i++) {
        const espl__value *v = from->inputs[i];
        if (!v) continue;
        if (!map[v->id] && v->constant) ESPL_TRY(copy_constant(r, v, &map[v->id]));
        n->inputs[i] = map[v->id];
    }
    for (int i = 0; i < from->output_count; i++) {
        const espl__value *v = from->outputs[i];
        if (!v) continue;
        const char *label = espl__resolve_name(r, prefix, v->name, -1);
        espl__value *copy = label ? espl__graph_value(r->g, label) : NULL;
        if (!copy) return espl__nomem(r->diag, 0);
        copy->origin = -1;
        espl__node_set_output(n, i, map[v->id] = copy);
    }
    for (int i = 0; i < from->attr_count; i++)
        if (from->attrs[i].name && !espl__attr_copy(r->g, n, &from->attrs[i], false))
            return espl__nomem(r->diag, 0);
    status = espl__resolve_visit(r, n);
done:
    return status;
}

espl_status espl__resolve_body(espl__resolver *r, const espl_graph *body, espl__value *const *args,
                               const char *prefix, espl__value **results) {
    espl_status status = ESPL_OK;
    espl_context *ctx = r->arena.ctx;
    const char *outer = r->prefix;
    if (body->node_count >= r->nodes_left)
        return espl__fail(r->diag, ESPL_LIMIT, "the bodies of its loops become more than %d nodes",
                          ESPL__UNROLL_NODES);
    r->nodes_left -= body->node_count + 1;
    espl__value **map = espl__calloc(ctx, (uint64_t)body->value_count + 1, sizeof *map);
    if (!map) return espl__nomem(r->diag, sizeof *map);
    r->prefix = prefix;
    for (int i = 0; i < body->input_count; i++) map[body->inputs[i]->id] = args[i];
    for (int i = 0; i < body->node_count; i++) ESPL_TRY(copy_node(r, body->nodes[i], prefix, map));
    for (int i = 0; i < body->output_count; i++) {
        const espl__value *v = body->outputs[i];
        if (!map[v->id] && v->constant) ESPL_TRY(copy_constant(r, v, &map[v->id]));
        results[i] = map[v->id];
    }
done:
    r->prefix = outer;
    espl__free(ctx, map);
    return status;
}

/* --- the walk ---------------------------------------------------------------------------------------- */

/* What stands for an If whose condition has become known. */
static void choose(espl__node *n) {
    int64_t condition;
    if (!espl__attr_find(n, ESPL__ATTR_CHOICE) || !espl__resolve_known(n->inputs[0], &condition)) return;
    n->inputs[0] = n->inputs[condition ? 1 : 2];
    n->input_count = 1;
    n->attr_count = 0;
    n->op = espl__op_find("", "Identity");
}

static espl_status shadow(espl__resolver *r, espl__node *n) {
    espl_context *ctx = r->arena.ctx;
    if ((!r->keep && espl__stays(n)) || !espl__foldable(n, r->fold_limit, &r->fold_budget)) return ESPL_OK;
    for (int i = 0; i < n->output_count; i++)
        if (n->outputs[i] && espl__is_quantized(n->outputs[i])) return ESPL_OK;
    if (r->shadow_count + n->output_count > r->shadow_capacity) {
        int more = 2 * r->shadow_capacity + n->output_count + 64;
        espl__value **bigger = espl__realloc(ctx, r->shadows, sizeof *bigger * (uint64_t)r->shadow_count,
                                             sizeof *bigger * (uint64_t)more);
        if (!bigger) return espl__nomem(r->diag, sizeof *bigger * (uint64_t)more);
        r->shadows = bigger;
        r->shadow_capacity = more;
    }
    espl_status status = espl__fold(n, r->keep ? &r->g->arena : &r->arena, r->diag);
    for (int i = 0; i < n->output_count && status == ESPL_OK; i++)
        if (n->outputs[i]) r->shadows[r->shadow_count++] = n->outputs[i];
    if (r->keep) n->mark = -1;
    return status;
}

espl_status espl__resolve_visit(espl__resolver *r, espl__node *n) {
    static const struct {
        const char *op;
        espl_status (*resolve)(espl__resolver *r, espl__node *n, bool *done);
    } rows[] = {{"If", espl__resolve_if}, {"Loop", espl__resolve_loop}, {"Scan", espl__resolve_scan},
              {"Gradient", espl__resolve_gradient}};
    bool done = false;
    if (espl__node_is(n, "Where")) choose(n);
    if (espl__node_is(n, "Identity") && espl__resolve_list(r, n->inputs[0])) {
        n->mark = -1;
        return espl__resolve_connect(r, n, 0, n->inputs[0]);
    }
    espl_status status = espl__infer_node(r->g, n, r->diag);
    if (status != ESPL_OK) return status;
    if (n->op->eval) return shadow(r, n);
    size_t i = 0;
    while (i < ESPL_COUNT(rows) && !espl__node_is(n, rows[i].op)) i++;
    status = (i < ESPL_COUNT(rows) ? rows[i].resolve : espl__resolve_sequence)(r, n, &done);
    if (done) n->mark = -1;
    return status;
}

/* A node that stays reads a list: it gets a node that makes it. */
static espl_status make_list(espl__resolver *r, espl__value *v) {
    const espl__list *l = espl__resolve_list(r, v);
    espl__node *n;
    const char *op = l->kind == ESPL__OPTIONAL ? "Optional"
                     : l->count                ? "SequenceConstruct"
                                               : "SequenceEmpty";
    espl_status status = new_node(r, op, l->elements, l->count, v, &n);
    if (status == ESPL_OK && l->count == 0 && l->kind == ESPL__SEQUENCE &&
        !espl__attr_set_int(r->g, n, "dtype", espl__dtype_onnx(v->dtype)))
        status = espl__nomem(r->diag, 0);
    return status;
}

static espl_status make_lists(espl__resolver *r) {
    espl_status status = ESPL_OK;
    for (int i = 0; i < r->g->node_count && status == ESPL_OK; i++) {
        const espl__node *n = r->g->nodes[i];
        for (int j = 0; n->mark != -1 && j < n->input_count && status == ESPL_OK; j++) {
            espl__value *v = n->inputs[j];
            if (v && !v->producer && espl__resolve_list(r, v)) status = make_list(r, v);
        }
    }
    return status;
}

static espl_status walk(espl__resolver *r) {
    espl_graph *g = r->g;
    espl_context *ctx = g->arena.ctx;
    espl_status status = ESPL_OK;
    int count = g->node_count;
    espl__node **nodes = espl__alloc(ctx, sizeof *nodes * ((uint64_t)count + 1)), **room;
    if (!nodes) return espl__nomem(r->diag, sizeof *nodes * (uint64_t)count);
    if (count) memcpy(nodes, g->nodes, sizeof *nodes * (size_t)count);
    g->node_count = 0;
    for (int i = 0; i < count; i++) {
        espl__node *n = nodes[i];
        if (g->node_count == g->node_capacity) {
            room = espl__realloc(ctx, g->nodes, sizeof *room * (uint64_t)g->node_count,
                                 sizeof *room * (uint64_t)(2 * g->node_count + count - i));
            if (!room) {
                status = espl__nomem(r->diag, 0);
                break;
            }
            g->node_capacity = 2 * g->node_count + count - i;
            g->nodes = room;
        }
        n->mark = 0;
        n->id = g->node_count;
        g->nodes[g->node_count++] = n;
        if (status == ESPL_OK) status = espl__resolve_visit(r, n);
    }
    espl__free(ctx, nodes);
    return status;
}

static espl_status refuse(const espl_graph *g, const char *what, const espl__value *v, espl_diag *diag) {
    return espl__fail(diag, ESPL_UNSUPPORTED,
                      "%s%sgraph %s '%.200s' is %s; only tensors go in and out of a network", g->file,
                      g->file[0] ? ": " : "", what, v->name,
                      v->kind == ESPL__SEQUENCE ? "a sequence" : "an optional value");
}

static bool nothing_to_do(const espl_graph *g) {
    for (int i = 0; i < g->node_count; i++)
        if (!g->nodes[i]->op->eval || espl__attr_find(g->nodes[i], ESPL__ATTR_CHOICE)) return false;
    return true;
}

static espl_status run(espl_graph *g, bool everything, espl_diag *diag) {
    espl__resolver r = {
        .g = g, .diag = diag, .nodes_left = ESPL__UNROLL_NODES, .prefix = "", .keep = everything};
    r.fold_limit = everything ? INT64_MAX : SHADOW_LIMIT;
    r.fold_budget = everything ? (espl__budget){UINT64_MAX, INT64_MAX} : (espl__budget){SHADOW_TOTAL, SHADOW_WORK};
    for (int i = 0; i < g->input_count; i++)
        if (g->inputs[i]->kind != ESPL__TENSOR) return refuse(g, "input", g->inputs[i], diag);
    if (!everything && nothing_to_do(g)) return ESPL_OK;
    espl__arena_init(&r.arena, g->arena.ctx);
    espl_status status = walk(&r);
    for (int i = 0; i < r.shadow_count && !everything; i++) r.shadows[i]->constant = NULL;
    if (status == ESPL_OK) status = make_lists(&r);
    for (int i = 0; i < g->output_count && status == ESPL_OK; i++)
        if (g->outputs[i]->kind != ESPL__TENSOR) status = refuse(g, "output", g->outputs[i], diag);
    espl__graph_sweep(g);
    espl__free(g->arena.ctx, r.lists);
    espl__free(g->arena.ctx, r.shadows);
    espl__arena_free(&r.arena);
    return status == ESPL_OK && r.changed ? espl__graph_verify(g, diag) : status;
}

espl_status espl__pass_resolve(espl_graph *g, espl_diag *diag) {
    return run(g, false, diag);
}

espl_status espl__resolve_everything(espl_graph *g, espl_diag *diag) {
    return run(g, true, diag);
}
