/* If, Loop, Scan, SequenceMap: nodes with bodies. They have no reference: passes/resolve.h takes their bodies
 * into the graph around them, or runs them step by step. Inference says what the bodies alone tell. */
#include "ops/control.h"

#include <inttypes.h>

static espl_status no_body(const espl__node *node, const char *name, espl_diag *diag) {
    return espl__fail(diag, ESPL_FORMAT, "%s: the subgraph '%s' is missing", node->op->name, name);
}

/* `given`: inputs of the node that become inputs of the body; `least`: what the operator itself gives. */
static espl_status check_body(const espl__node *node, const espl_graph *body, int given, int least,
                              int outputs, espl_diag *diag) {
    if (body->formals < least)
        return espl__fail(diag, ESPL_FORMAT, "%s: its subgraph has %d inputs and needs %d or more",
                          node->op->name, body->formals, least);
    if (given != body->input_count)
        return espl__fail(diag, ESPL_FORMAT, "%s: its subgraph takes %d inputs and the node gives %d",
                          node->op->name, body->formals, given - (body->input_count - body->formals));
    if (node->output_count > outputs)
        return espl__fail(diag, ESPL_FORMAT, "%s: the node has %d outputs and its subgraph gives %d",
                          node->op->name, node->output_count, outputs);
    return ESPL_OK;
}

static espl_status check_if(const espl__node *node, espl_diag *diag) {
    static const char *const names[] = {"then_branch", "else_branch"};
    for (int i = 0; i < 2; i++) {
        const espl_graph *body = espl__attr_graph(node, names[i]);
        if (!body) return no_body(node, names[i], diag);
        if (body->formals > 0)
            return espl__fail(diag, ESPL_FORMAT, "If: its subgraph '%s' has inputs", names[i]);
        espl_status status = check_body(node, body, node->input_count - 1, 0, body->output_count, diag);
        if (status != ESPL_OK) return status;
    }
    return espl__check_dtype(node, 0, ESPL__T(BOOL), diag);
}

static espl_status check_loop(const espl__node *node, const espl_graph *body, espl_diag *diag) {
    if (body->output_count < body->formals - 1)
        return espl__fail(diag, ESPL_FORMAT,
                          "Loop: its subgraph takes %d values from run to run and gives %d",
                          body->formals - 2, body->output_count - 1);
    espl_status status = check_body(node, body, node->input_count, 2, body->output_count - 1, diag);
    if (status == ESPL_OK) status = espl__check_dtype(node, 0, ESPL__T(S64), diag);
    return status == ESPL_OK ? espl__check_dtype(node, 1, ESPL__T(BOOL), diag) : status;
}

static espl_status check_scan(const espl__node *node, const espl_graph *body, espl_diag *diag) {
    int64_t scanned = espl__attr_int(node, "num_scan_inputs", 0);
    if (scanned < 1 || scanned > body->formals)
        return espl__fail(diag, ESPL_FORMAT,
                          "Scan: num_scan_inputs is %" PRId64 " and its subgraph has %d inputs", scanned,
                          body->formals);
    if (body->output_count < body->formals - scanned)
        return espl__fail(diag, ESPL_FORMAT, "Scan: its subgraph has %" PRId64 " states and %d outputs",
                          body->formals - scanned, body->output_count);
    return check_body(node, body, node->input_count - espl__scan_first(node), 1, body->output_count, diag);
}

espl_status espl__control_check(const espl__node *node, espl_diag *diag) {
    const espl_graph *body = espl__attr_graph(node, "body");
    bool branch = espl__node_is(node, "If");
    if (!body && !branch) return no_body(node, "body", diag);
    bool loop = espl__node_is(node, "Loop");
    int first = loop ? 2 : espl__node_is(node, "Scan") ? espl__scan_first(node) : 0;
    for (int i = first; i < node->input_count; i++)
        if (!node->inputs[i])
            return espl__fail(diag, ESPL_FORMAT, "%s: input %d is missing", node->op->name, i);
    if (branch) return check_if(node, diag);
    if (loop) return check_loop(node, body, diag);
    if (espl__node_is(node, "Scan")) return check_scan(node, body, diag);
    return check_body(node, body, node->input_count, 1, body->output_count, diag);
}

/* --- what the bodies alone tell of the outputs ------------------------------------------------------- */

static void set_type(espl__value *to, const espl__value *from, bool shape) {
    to->kind = from->kind;
    to->dtype = from->dtype;
    to->shape = shape ? from->shape : (espl_shape){0};
    to->known_rank = shape && from->known_rank;
}

/* Gives the body what it has from outside, and infers what follows. A body that contradicts itself may never
 * run. */
static void infer_body(const espl__node *node, espl_graph *body) {
    int outside = body->input_count - body->formals;
    espl_diag ignored = {0};
    for (int i = 0; i < outside; i++)
        set_type(body->inputs[body->formals + i], node->inputs[node->input_count - outside + i], true);
    for (int i = 0; i < body->node_count; i++)
        if (body->nodes[i]->op->infer(body->nodes[i], &ignored) != ESPL_OK) return;
}

static void set_output(const espl__node *node, int index, const espl__value *inner, bool shape) {
    espl__value *v = espl__out(node, index);
    if (v) set_type(v, inner, shape);
}

static espl_status infer_if(const espl__node *node, espl_diag *diag) {
    espl_status status = espl__control_check(node, diag);
    if (status != ESPL_OK) return status;
    espl_graph *yes = espl__attr_graph(node, "then_branch"), *no = espl__attr_graph(node, "else_branch");
    infer_body(node, yes);
    infer_body(node, no);
    for (int i = 0; i < node->output_count; i++) {
        const espl__value *a = yes->outputs[i], *b = no->outputs[i];
        bool same = a->known_rank && b->known_rank && espl_shape_equal(&a->shape, &b->shape);
        set_output(node, i, a, same);
    }
    return ESPL_OK;
}

/* Outputs: states first, whose shapes may change from run to run, then what every run adds to, one rank more.
 */
static void set_stacked(const espl__node *node, const espl_graph *body, int states, int skipped, int more) {
    for (int i = 0; i < node->output_count; i++) {
        const espl__value *inner = body->outputs[skipped + i];
        espl__value *v = espl__out(node, i);
        if (!v) continue;
        set_type(v, inner, false);
        if (i < states || !inner->known_rank || inner->shape.rank + more > ESPL_MAX_RANK) continue;
        v->known_rank = true;
        v->shape.rank = inner->shape.rank + more;
        for (int d = 0; d < v->shape.rank; d++) v->shape.dim[d] = ESPL_DIM_UNKNOWN;
    }
}

static espl_status infer_loop(const espl__node *node, espl_diag *diag) {
    espl_status status = espl__control_check(node, diag);
    if (status != ESPL_OK) return status;
    espl_graph *body = espl__attr_graph(node, "body");
    static const espl__value iteration = {.dtype = ESPL_S64, .known_rank = true},
                             go = {.dtype = ESPL_BOOL, .known_rank = true};
    set_type(body->inputs[0], &iteration, true);
    set_type(body->inputs[1], &go, true);
    for (int i = 2; i < body->formals; i++) set_type(body->inputs[i], node->inputs[i], false);
    infer_body(node, body);
    set_stacked(node, body, body->formals - 2, 1, 1);
    return ESPL_OK;
}

static espl_status infer_scan(const espl__node *node, espl_diag *diag) {
    espl_status status = espl__control_check(node, diag);
    if (status != ESPL_OK) return status;
    espl_graph *body = espl__attr_graph(node, "body");
    int first = espl__scan_first(node);
    for (int i = 0; i < body->formals; i++) set_type(body->inputs[i], node->inputs[first + i], false);
    infer_body(node, body);
    set_stacked(node, body, body->formals - espl__scan_inputs(node), 0, 1 + first);
    return ESPL_OK;
}

static espl_status infer_map(const espl__node *node, espl_diag *diag) {
    espl_status status = espl__control_check(node, diag);
    if (status != ESPL_OK) return status;
    espl_graph *body = espl__attr_graph(node, "body");
    for (int i = 0; i < body->formals; i++) {
        set_type(body->inputs[i], node->inputs[i], false);
        body->inputs[i]->kind = ESPL__TENSOR;
    }
    infer_body(node, body);
    for (int i = 0; i < node->output_count; i++) {
        set_output(node, i, body->outputs[i], false);
        if (espl__out(node, i)) espl__out(node, i)->kind = ESPL__SEQUENCE;
    }
    return ESPL_OK;
}

#define DEFINE_CONTROL(Name, least, first, infer_fn)       \
    const espl__op espl__op_##Name = {.name = #Name,       \
                                      .domain = "",        \
                                      .min_inputs = least, \
                                      .max_inputs = -1,    \
                                      .min_outputs = 0,    \
                                      .max_outputs = -1,   \
                                      .since = first,      \
                                      .until = 21,         \
                                      .infer = infer_fn,   \
                                      .quant = ESPL__QUANT_FLOAT};
DEFINE_CONTROL(If, 1, 1, infer_if)
DEFINE_CONTROL(Loop, 0, 1, infer_loop)
DEFINE_CONTROL(Scan, 0, 8, infer_scan)
DEFINE_CONTROL(SequenceMap, 1, 17, infer_map)
