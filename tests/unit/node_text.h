/* Nodes written as text, for the tests of operators. */
#ifndef NODE_TEXT_H
#define NODE_TEXT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "ops/ops.h"
#include "passes/infer.h"

enum { MAX_ARGS = 12 };

typedef struct fixture {
    espl_context *ctx;
    espl_graph *graph;
} fixture;

static inline int setup(void **state) {
    fixture *f = calloc(1, sizeof *f);
    espl_config config = {.threads = 1};
    if (!f || espl_context_create(&config, &f->ctx, NULL) != ESPL_OK) return -1;
    *state = f;
    return 0;
}

static inline int teardown(void **state) {
    fixture *f = *state;
    espl_graph_destroy(&f->graph);
    espl_context_destroy(&f->ctx);
    free(f);
    return 0;
}

/* --- nodes written as text ------------------------------------------------------------------------
 *   Op@opset/outputs input... | name=value...
 * Inputs: f32:2x3, dimensions may be ?; f32:unranked; f32: is a scalar; '-' an absent input; s64=1,2,3 a
 * constant list and s64==5 a constant scalar. Attributes: 5, [1,2], 0.5f, [0.5f], 'text'. The opset is 21 and
 * the outputs are 1 if not said. */

static inline espl_dtype parse_dtype(const char *text, size_t length) {
    for (int i = 0; i < ESPL_DTYPE_COUNT; i++)
        if (strlen(espl_dtype_name((espl_dtype)i)) == length &&
            strncmp(espl_dtype_name((espl_dtype)i), text, length) == 0)
            return (espl_dtype)i;
    fail_msg("no such type: %s", text);
    return ESPL_F32;
}

static inline espl_shape parse_dims(const char *text) {
    espl_shape shape = {0};
    while (*text) {
        char *end = NULL;
        int64_t d = *text == '?' ? ESPL_DIM_UNKNOWN : strtoll(text, &end, 10);
        shape.dim[shape.rank++] = d;
        text = *text == '?' ? text + 1 : end;
        if (*text == 'x') text++;
    }
    return shape;
}

/* Numbers separated by commas. */
static inline int parse_numbers(const char *text, double *out, int max) {
    int count = 0;
    while (*text && count < max) {
        char *end;
        out[count++] = strtod(text, &end);
        text = *end == 'f' ? end + 1 : end;
        if (*text == ',') text++;
        if (*text == ']') break;
    }
    return count;
}

static inline espl__value *constant(espl_graph *g, espl_dtype dtype, const char *text) {
    double numbers[128] = {0};
    uint64_t data[128];
    bool scalar = *text == '=';
    int count = parse_numbers(text + scalar, numbers, 128);
    espl_shape shape = {.rank = !scalar, .dim = {count}};
    espl__store_f64(dtype, numbers, count, data);
    for (int i = 0; i < count; i++) /* beyond 2^53 a double is not enough */
        if (dtype == ESPL_S64 && numbers[i] >= 9e18) ((int64_t *)data)[i] = INT64_MAX;
    return espl__graph_constant(g, "", &(espl_tensor){dtype, shape, data});
}

static inline espl__value *parse_input(espl_graph *g, const char *text) {
    if (strcmp(text, "-") == 0) return NULL;
    size_t length = strcspn(text, ":=");
    espl_dtype dtype = parse_dtype(text, length);
    if (text[length] == '=') return constant(g, dtype, text + length + 1);
    espl__value *value = espl__graph_value(g, "");
    assert_non_null(value);
    value->dtype = dtype;
    value->known_rank = strcmp(text + length + 1, "unranked") != 0;
    if (value->known_rank) value->shape = parse_dims(text + length + 1);
    return value;
}

static inline void parse_attr(espl_graph *g, espl__node *node, char *text) {
    char *value = strchr(text, '=');
    double numbers[128];
    int64_t ints[128];
    float floats[128];
    assert_non_null(value);
    *value++ = 0;
    if (*value == '\'') {
        value[strlen(value) - 1] = 0;
        assert_true(espl__attr_set_string(g, node, text, value + 1));
        return;
    }
    bool list = *value == '[', is_float = strchr(value, 'f') != NULL;
    int count = parse_numbers(value + list, numbers, 128);
    for (int i = 0; i < count; i++) {
        floats[i] = (float)numbers[i];
        ints[i] = numbers[i] >= 9e18 ? INT64_MAX : numbers[i] <= -9e18 ? INT64_MIN : (int64_t)numbers[i];
    }
    bool ok = is_float ? (list ? espl__attr_set_floats(g, node, text, floats, count)
                               : espl__attr_set_float(g, node, text, floats[0]))
                       : (list ? espl__attr_set_ints(g, node, text, ints, count)
                               : espl__attr_set_int(g, node, text, ints[0]));
    assert_true(ok);
}

static inline espl__node *parse_node(fixture *f, const char *spec) {
    char copy[1024], *input[MAX_ARGS], *attr[MAX_ARGS], *save = NULL;
    int inputs = 0, attrs = 0, opset = 21, outputs = 1;
    bool after = false;
    espl_graph_destroy(&f->graph);
    assert_int_equal(espl__graph_create(f->ctx, &f->graph, NULL), ESPL_OK);
    snprintf(copy, sizeof copy, "%s", spec);
    char *name = strtok_r(copy, " ", &save), *more = name + strcspn(name, "@/");
    if (*more == '@') opset = atoi(more + 1);
    if (strchr(more, '/')) outputs = atoi(strchr(more, '/') + 1);
    *more = 0;
    for (char *word; (word = strtok_r(NULL, " ", &save));) {
        if (strcmp(word, "|") == 0)
            after = true;
        else if (after)
            attr[attrs++] = word;
        else
            input[inputs++] = word;
    }
    const espl__op *op = espl__op_find("", name);
    if (!op) fail_msg("no operator '%s'", name);
    espl__node *node = espl__graph_node(f->graph, op, "", inputs, outputs, attrs);
    assert_non_null(node);
    node->opset = opset;
    for (int i = 0; i < inputs; i++) node->inputs[i] = parse_input(f->graph, input[i]);
    for (int i = 0; i < outputs; i++) espl__node_set_output(node, i, espl__graph_value(f->graph, ""));
    for (int i = 0; i < attrs; i++) parse_attr(f->graph, node, attr[i]);
    return node;
}

#endif
