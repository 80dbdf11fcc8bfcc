/* Reading ONNX: every way the format has to store a value, and files that mean harm. */
#define _GNU_SOURCE
#include "onnx_build.h"

#include <math.h>
#include <sys/stat.h>
#include <time.h>

/* --- tensors ------------------------------------------------------------------------------------- */

/* A graph whose only output is its initializer "t"; takes the tensor. */
static void model_of_tensor(fixture *f, wire tensor) {
    wire g = wire_new(f);
    put_message(&g, 5, tensor);
    put_message(&g, 12, value_info(f, "t", 1, -1, NULL));
    write_model(f, g, 13);
}

static void expect_tensor(fixture *f, wire tensor, espl_dtype dtype, const void *data, size_t bytes) {
    model_of_tensor(f, tensor);
    espl_graph *g = read_model(f);
    const espl_tensor *t = g->outputs[0]->constant;
    assert_non_null(t);
    assert_int_equal(t->dtype, dtype);
    assert_int_equal(espl__tensor_bytes(t), bytes);
    assert_memory_equal(t->data, data, bytes);
    espl_graph_destroy(&g);
}

static void typed_fields_hold_every_type(void **state) {
    fixture *f = *state;
    const int64_t two = 2;
    static const struct {
        espl_dtype dtype;
        int onnx, field; /* 5: int32_data, 7: int64_data, 11: uint64_data */
        int64_t values[2];
        uint64_t bits[2];
    } rows[] = {
        {ESPL_U8, 2, 5, {0, 255}, {0, 0xff}},
        {ESPL_S8, 3, 5, {-128, 127}, {0x80, 0x7f}},
        {ESPL_U16, 4, 5, {1, 65535}, {1, 0xffff}},
        {ESPL_S16, 5, 5, {-32768, 5}, {0x8000, 5}},
        {ESPL_S32, 6, 5, {INT32_MIN, 7}, {0x80000000u, 7}},
        {ESPL_S64, 7, 7, {INT64_MIN, 9}, {0x8000000000000000u, 9}},
        {ESPL_BOOL, 9, 5, {0, 1}, {0, 1}},
        {ESPL_F16, 10, 5, {0x3c00, 0xfbff}, {0x3c00, 0xfbff}}, /* 1 and -65504, as bits */
        {ESPL_U32, 12, 11, {1, 4294967295}, {1, 0xffffffffu}},
        {ESPL_U64, 13, 11, {1, -1}, {1, UINT64_MAX}},
        {ESPL_BF16, 16, 5, {0x3f80, 0xc2f7}, {0x3f80, 0xc2f7}},
        {ESPL_E4M3, 17, 5, {0x7e, 0xff}, {0x7e, 0xff}},
        {ESPL_E5M2, 19, 5, {0x7b, 0x80}, {0x7b, 0x80}},
    };
    for (size_t i = 0; i < ESPL_COUNT(rows); i++) {
        size_t size = espl_dtype_bytes(rows[i].dtype);
        uint8_t expected[16];
        for (int k = 0; k < 2; k++) memcpy(expected + (size_t)k * size, &rows[i].bits[k], size);
        wire t = tensor_head(f, "t", rows[i].onnx, 1, &two);
        put_packed(&t, rows[i].field, 2, rows[i].values);
        expect_tensor(f, t, rows[i].dtype, expected, 2 * size);
        /* The same as raw bytes. */
        expect_tensor(f, tensor_raw(f, "t", rows[i].onnx, 1, &two, expected, 2 * size), rows[i].dtype, expected,
                      2 * size);
    }
    float floats[2] = {1.5f, -INFINITY};
    wire t = tensor_head(f, "t", 1, 1, &two);
    put_bytes(&t, 4, floats, sizeof floats);
    expect_tensor(f, t, ESPL_F32, floats, sizeof floats);
    double doubles[2] = {0.1, 1e300};
    t = tensor_head(f, "t", 11, 1, &two);
    put_bytes(&t, 10, doubles, sizeof doubles);
    expect_tensor(f, t, ESPL_F64, doubles, sizeof doubles);
    /* Not packed: one field an element, as protocol buffers allow. */
    t = tensor_head(f, "t", 1, 1, &two);
    put_float(&t, 4, floats[0]);
    put_float(&t, 4, floats[1]);
    expect_tensor(f, t, ESPL_F32, floats, sizeof floats);
}

/* Elements of 4 bits stand two in a byte, the first in its lower half; one byte each in memory. */
static void nibbles_are_taken_apart(void **state) {
    fixture *f = *state;
    const int64_t five = 5, none = 0, packed[3] = {0x7f, 0x18, 0x05};
    const uint8_t bytes[3] = {0x7f, 0x18, 0x05}, u4[5] = {15, 7, 8, 1, 5}, wrong[5] = {0};
    const int8_t s4[5] = {-1, 7, -8, 1, 5};
    for (int k = 0; k < 2; k++) {
        const espl_dtype type = k ? ESPL_S4 : ESPL_U4;
        const void *expected = k ? (const void *)s4 : u4;
        expect_tensor(f, tensor_raw(f, "t", 21 + k, 1, &five, bytes, 3), type, expected, 5);
        wire t = tensor_head(f, "t", 21 + k, 1, &five);
        put_packed(&t, 5, 3, packed);
        expect_tensor(f, t, type, expected, 5);
        expect_tensor(f, tensor_raw(f, "t", 21 + k, 1, &none, bytes, 0), type, expected, 0);
        for (int size = 2; size <= 5; size++) {
            if (size == 3) continue;
            model_of_tensor(f, tensor_raw(f, "t", 21 + k, 1, &five, wrong, (size_t)size));
            refused(f, ESPL_FORMAT, "where");
        }
        wire many = tensor_head(f, "t", 21 + k, 1, &five);
        put_packed(&many, 5, 3, (int64_t[]){0x7f, 0x18, 256});
        model_of_tensor(f, many);
        refused(f, ESPL_FORMAT, "cannot hold");
    }
}

static void odd_bools_become_one(void **state) {
    fixture *f = *state;
    const int64_t three = 3;
    expect_tensor(f, tensor_raw(f, "t", 9, 1, &three, "\0\x02\xff", 3), ESPL_BOOL, "\0\1\1", 3);
}

static void scalars_and_empty_tensors(void **state) {
    fixture *f = *state;
    const float one = 1;
    const int64_t dims[2] = {0, 5};
    expect_tensor(f, tensor_raw(f, "t", 1, 0, NULL, &one, 4), ESPL_F32, &one, 4);
    expect_tensor(f, tensor_head(f, "t", 1, 2, dims), ESPL_F32, "", 0);
}

static void bad_tensors_are_refused(void **state) {
    fixture *f = *state;
    const int64_t two = 2, minus = -1, huge[3] = {INT64_MAX / 2, 3, 5}, nine[9] = {1, 1, 1, 1, 1, 1, 1, 1, 1};
    const int64_t big = (int64_t)1 << 40, out[2] = {128, 0};
    model_of_tensor(f, tensor_raw(f, "t", 1, 1, &two, "1234", 4));
    refused(f, ESPL_FORMAT, "has 4 bytes of data where f32 of shape '2' takes 8");
    model_of_tensor(f, tensor_head(f, "t", 1, 1, &two));
    refused(f, ESPL_FORMAT, "has 0 elements");
    model_of_tensor(f, tensor_raw(f, "t", 1, 1, &minus, "1234", 4));
    refused(f, ESPL_FORMAT, "dimension 0 is -1");
    model_of_tensor(f, tensor_raw(f, "t", 1, 3, huge, "1234", 4));
    refused(f, ESPL_FORMAT, "too many elements");
    model_of_tensor(f, tensor_raw(f, "t", 1, 1, &big, "1234", 4));
    refused(f, ESPL_FORMAT, "has 4 bytes"); /* and no terabyte was asked for */
    model_of_tensor(f, tensor_raw(f, "t", 1, 9, nine, "1234", 4));
    refused(f, ESPL_UNSUPPORTED, "9 dimensions");
    model_of_tensor(f, tensor_raw(f, "t", 14, 1, &two, "", 0));
    refused(f, ESPL_UNSUPPORTED, "element type complex64");
    model_of_tensor(f, tensor_raw(f, "t", 8, 1, &two, "12345678", 8));
    refused(f, ESPL_FORMAT, "do not stand in string_data");
    wire words = tensor_head(f, "t", 8, 1, &two);
    put_text(&words, 6, "one");
    model_of_tensor(f, words);
    refused(f, ESPL_FORMAT, "has 1 elements of data where string of shape '2' takes 2");
    model_of_tensor(f, tensor_raw(f, "t", 99, 1, &two, "", 0));
    refused(f, ESPL_FORMAT, "99 is no element type");
    model_of_tensor(f, tensor_raw(f, NULL, 1, 0, NULL, "1234", 4));
    refused(f, ESPL_FORMAT, "initializer 0 has no name");
    wire t = tensor_head(f, "t", 3, 1, &two);
    put_packed(&t, 5, 2, out);
    model_of_tensor(f, t);
    refused(f, ESPL_FORMAT, "element 0 is 128, which s8 cannot hold");
}

static void tensor_files(void **state) {
    fixture *f = *state;
    const float data[3] = {1, 2, 3};
    const int64_t three = 3;
    wire t = tensor_raw(f, "t", 1, 1, &three, data, sizeof data);
    put_file_at(f->path, t.data, t.length);
    espl_tensor tensor;
    assert_int_equal(espl_onnx_read_tensor(f->ctx, f->path, &tensor, NULL), ESPL_OK);
    assert_int_equal(tensor.shape.rank, 1);
    assert_int_equal(tensor.shape.dim[0], 3);
    assert_memory_equal(tensor.data, data, sizeof data);
    espl_tensor_free(f->ctx, &tensor);
    put_file_at(f->path, t.data, t.length - 1);
    assert_int_equal(espl_onnx_read_tensor(f->ctx, f->path, &tensor, &f->diag), ESPL_FORMAT);
    assert_non_null(strstr(f->diag.message, f->path));
    espl__buffer_free(&t);
}

/* --- Constant nodes and attributes ---------------------------------------------------------------- */

static void model_of_constant(fixture *f, wire attr) {
    wire g = wire_new(f), n = node(f, "Constant", "", "c");
    put_message(&n, 5, attr);
    put_message(&g, 1, n);
    put_message(&g, 12, value_info(f, "c", 1, -1, NULL));
    write_model(f, g, 13);
}

static void expect_constant(fixture *f, wire attr, espl_dtype dtype, int rank, const void *data, size_t bytes) {
    model_of_constant(f, attr);
    espl_graph *g = read_model(f);
    const espl_tensor *t = g->outputs[0]->constant;
    assert_int_equal(g->node_count, 0);
    assert_non_null(t);
    assert_int_equal(t->dtype, dtype);
    assert_int_equal(t->shape.rank, rank);
    assert_int_equal(espl__tensor_bytes(t), bytes);
    assert_memory_equal(t->data, data, bytes);
    espl_graph_destroy(&g);
}

static void same_texts(const espl_tensor *t, int count, const char *const *wanted) {
    const espl_text *e = t->data;
    assert_int_equal(t->dtype, ESPL_STRING);
    assert_int_equal(espl_shape_count(&t->shape), count);
    for (int i = 0; i < count; i++) {
        assert_int_equal(e[i].length, strlen(wanted[i]));
        if (e[i].length) assert_memory_equal(e[i].bytes, wanted[i], e[i].length);
    }
}

static void expect_texts(fixture *f, wire attr, int rank, int count, const char *const *wanted) {
    model_of_constant(f, attr);
    espl_graph *g = read_model(f);
    const espl_tensor *t = g->outputs[0]->constant;
    assert_non_null(t);
    assert_int_equal(t->shape.rank, rank);
    same_texts(t, count, wanted);
    espl_graph_destroy(&g);
}

static void constants_in_all_forms(void **state) {
    fixture *f = *state;
    const float floats[2] = {0.5f, -2};
    const int64_t ints[2] = {-3, 4}, two = 2;
    wire a = attribute(f, "value", 4);
    put_message(&a, 5, tensor_raw(f, NULL, 1, 1, &two, floats, sizeof floats));
    expect_constant(f, a, ESPL_F32, 1, floats, sizeof floats);
    a = attribute(f, "value_float", 1);
    put_float(&a, 2, floats[0]);
    expect_constant(f, a, ESPL_F32, 0, floats, 4);
    a = attribute(f, "value_floats", 6);
    put_float(&a, 7, floats[0]);
    put_float(&a, 7, floats[1]);
    expect_constant(f, a, ESPL_F32, 1, floats, sizeof floats);
    a = attribute(f, "value_int", 2);
    put_int(&a, 3, ints[0]);
    expect_constant(f, a, ESPL_S64, 0, ints, 8);
    a = attribute(f, "value_ints", 7);
    put_int(&a, 8, ints[0]);
    put_int(&a, 8, ints[1]);
    expect_constant(f, a, ESPL_S64, 1, ints, sizeof ints);
    a = attribute(f, "value_string", 3);
    put_text(&a, 4, "x");
    expect_texts(f, a, 0, 1, (const char *[]){"x"});
    a = attribute(f, "value_strings", 8);
    put_text(&a, 9, "a, b");
    put_text(&a, 9, "");
    expect_texts(f, a, 1, 2, (const char *[]){"a, b", ""});
    wire t = tensor_head(f, NULL, 8, 1, &two);
    put_text(&t, 6, "\xc3\xa4");
    put_text(&t, 6, "z");
    a = attribute(f, "value", 4);
    put_message(&a, 5, t);
    expect_texts(f, a, 1, 2, (const char *[]){"\xc3\xa4", "z"});
    model_of_constant(f, attribute(f, "sparse_value", 11));
    refused(f, ESPL_UNSUPPORTED, "sparse constant");
}

/* x -> Relu -> y with one attribute that Relu does not have: the reader takes it as it is. Takes `attr`. */
static void model_of_attribute(fixture *f, wire attr) {
    const int64_t dims[2] = {-1, 3};
    wire g = wire_new(f), n = node(f, "Relu", "x", "y");
    put_text(&n, 3, "act");
    put_message(&n, 5, attr);
    put_message(&g, 1, n);
    put_message(&g, 11, value_info(f, "x", 1, 2, dims));
    put_message(&g, 12, value_info(f, "y", 1, -1, NULL));
    write_model(f, g, 13);
}

static espl_graph *graph_of_attribute(fixture *f, wire attr) {
    model_of_attribute(f, attr);
    return read_model(f);
}

static void attributes_of_every_kind(void **state) {
    fixture *f = *state;
    espl_graph *g;
    wire a = attribute(f, "i", 2);
    put_int(&a, 3, -5);
    g = graph_of_attribute(f, a);
    assert_int_equal(espl__attr_int(g->nodes[0], "i", 0), -5);
    espl_graph_destroy(&g);
    a = attribute(f, "f", 0); /* files of the first versions name no type */
    put_float(&a, 2, 0.25f);
    g = graph_of_attribute(f, a);
    assert_true(espl__attr_float(g->nodes[0], "f", 0) == 0.25f);
    espl_graph_destroy(&g);
    a = attribute(f, "s", 3);
    put_text(&a, 4, "SAME_UPPER");
    g = graph_of_attribute(f, a);
    assert_string_equal(espl__attr_string(g->nodes[0], "s", ""), "SAME_UPPER");
    espl_graph_destroy(&g);
    a = attribute(f, "activations", 8);
    put_text(&a, 9, "Sigmoid");
    put_text(&a, 9, "Tanh");
    g = graph_of_attribute(f, a);
    assert_string_equal(espl__attr_string(g->nodes[0], "activations", ""), "Sigmoid,Tanh");
    espl_graph_destroy(&g);
    a = attribute(f, "ss", 8); /* words may hold anything */
    put_text(&a, 9, "or,");
    put_text(&a, 9, "");
    g = graph_of_attribute(f, a);
    assert_int_equal(espl__attr_find(g->nodes[0], "ss")->kind, ESPL__ATTR_TENSOR);
    same_texts(espl__attr_find(g->nodes[0], "ss")->tensor, 2, (const char *[]){"or,", ""});
    espl_graph_destroy(&g);
    const int64_t ints[3] = {1, -2, 3};
    a = attribute(f, "is", 7);
    put_packed(&a, 8, 3, ints);
    g = graph_of_attribute(f, a);
    int64_t got[3];
    assert_int_equal(espl__attr_ints(g->nodes[0], "is", got, 3), 3);
    assert_memory_equal(got, ints, sizeof ints);
    espl_graph_destroy(&g);
    a = attribute(f, "t", 4);
    put_message(&a, 5, tensor_raw(f, NULL, 7, 0, NULL, ints, 8));
    g = graph_of_attribute(f, a);
    assert_memory_equal(espl__attr_find(g->nodes[0], "t")->tensor->data, ints, 8);
    espl_graph_destroy(&g);
}

static void bad_attributes_are_refused(void **state) {
    fixture *f = *state;
    wire a = attribute(f, "body", 5);
    put_bytes(&a, 6, "", 0);
    model_of_attribute(f, a);
    refused(f, ESPL_FORMAT, "node 'act' (Relu): takes no subgraph 'body'");
    a = attribute(f, "z", 3);
    put_bytes(&a, 4, "a\0b", 3);
    model_of_attribute(f, a);
    refused(f, ESPL_FORMAT, "zero byte");
    model_of_attribute(f, attribute(f, "n", 0));
    refused(f, ESPL_FORMAT, "has no value");
    model_of_attribute(f, attribute(f, "n", 77));
    refused(f, ESPL_UNSUPPORTED, "type (77)");
    model_of_attribute(f, attribute(f, "", 2));
    refused(f, ESPL_FORMAT, "no name");
}

/* --- graphs -------------------------------------------------------------------------------------- */

static void dimensions_and_old_initializers(void **state) {
    fixture *f = *state;
    const int64_t dims[4] = {-1, 3, -2, 5}, one = 1;
    const float w = 2;
    wire g = wire_new(f);
    put_message(&g, 1, node(f, "Mul", "x w", "y"));
    put_message(&g, 5, tensor_raw(f, "w", 1, 1, &one, &w, 4));
    put_message(&g, 11, value_info(f, "w", 1, 1, &one)); /* IR version 3 lists initializers as inputs */
    put_message(&g, 11, value_info(f, "x", 1, 4, dims));
    put_message(&g, 12, value_info(f, "y", 1, 4, dims));
    write_model(f, g, 13);
    espl_graph *graph = read_model(f);
    assert_int_equal(espl_graph_input_count(graph), 1);
    assert_string_equal(espl_graph_input_name(graph, 0), "x");
    espl_shape shape = espl_graph_input_shape(graph, 0);
    char text[64];
    assert_string_equal(espl_shape_text(&shape, text, sizeof text), "?x3x?x5");
    assert_int_equal(espl_graph_output_count(graph), 1);
    assert_string_equal(espl_graph_output_name(graph, 0), "y");
    assert_true(graph->nodes[0]->inputs[1]->constant != NULL);
    assert_int_equal(graph->opset, 13);
    espl_graph_destroy(&graph);
}

/* Nodes "op inputs > outputs" between x and y; `extra` (taken) goes into the graph. */
static void model_of_nodes(fixture *f, int count, const char *const nodes[][3], int opset, wire extra) {
    const int64_t dims[2] = {1, 3};
    wire g = extra;
    for (int i = 0; i < count; i++) put_message(&g, 1, node(f, nodes[i][0], nodes[i][1], nodes[i][2]));
    put_message(&g, 11, value_info(f, "x", 1, 2, dims));
    put_message(&g, 12, value_info(f, "y", 1, -1, NULL));
    write_model(f, g, opset);
}

static void nodes_are_sorted(void **state) {
    fixture *f = *state;
    static const char *const nodes[][3] = {{"Relu", "b", "y"}, {"Add", "a x", "b"}, {"Relu", "x", "a"}};
    model_of_nodes(f, 3, nodes, 13, wire_new(f));
    espl_graph *g = read_model(f);
    assert_string_equal(g->nodes[0]->outputs[0]->name, "a");
    assert_string_equal(g->nodes[1]->outputs[0]->name, "b");
    assert_string_equal(g->nodes[2]->outputs[0]->name, "y");
    espl_graph_destroy(&g);
}

static void bad_graphs_are_refused(void **state) {
    fixture *f = *state;
    static const struct {
        const char *nodes[3][3];
        int count, opset;
        espl_status status;
        const char *part;
    } rows[] = {
        {{{"Relu", "x", "y"}}, 1, 0, ESPL_UNSUPPORTED, "imports no operator set"},
        {{{"Shrink", "x", "y"}}, 1, 6, ESPL_UNSUPPORTED, "is supported from operator set 9 to 21, the model has 6"},
        {{{"Relu", "x", "y"}}, 1, 22, ESPL_UNSUPPORTED, "follows operator set 22"},
        {{{"Foo", "x", "y"}}, 1, 13, ESPL_UNSUPPORTED,
         "node 0 (Foo): operator 'Foo' of domain 'ai.onnx' (operator set 13) is not supported"},
        {{{"Relu", "nowhere", "y"}}, 1, 13, ESPL_FORMAT, "reads 'nowhere', which nothing produces"},
        {{{"Relu", "x", "z"}}, 1, 13, ESPL_FORMAT, "graph output 0, 'y', is produced by nothing"},
        {{{"Relu", "x", "y"}, {"Relu", "x", "y"}}, 2, 13, ESPL_FORMAT, "two values of the name 'y'"},
        {{{"Relu", "x", "x"}}, 1, 13, ESPL_FORMAT, "two values of the name 'x'"},
        {{{"Add", "x b", "a"}, {"Relu", "a", "b"}, {"Relu", "b", "y"}}, 3, 13, ESPL_FORMAT, "cycle"},
        {{{"Relu", "-", "y"}}, 1, 13, ESPL_FORMAT, "node"},
        {{{"Relu", "x", "-"}, {"Relu", "x", "y"}}, 2, 13, ESPL_FORMAT, "node"},
        {{{"Relu", "x x x", "y"}}, 1, 13, ESPL_FORMAT, "node"},
        {{{"Relu", "x", "\xff"}, {"Relu", "x", "y"}}, 2, 13, ESPL_FORMAT, "not UTF-8"},
        {{{"", "x", "y"}}, 1, 13, ESPL_FORMAT, "no operator type"},
    };
    for (size_t i = 0; i < ESPL_COUNT(rows); i++) {
        model_of_nodes(f, rows[i].count, rows[i].nodes, rows[i].opset, wire_new(f));
        refused(f, rows[i].status, rows[i].part);
    }
    static const char *const relu[][3] = {{"Relu", "x", "y"}};
    wire extra = wire_new(f);
    put_message(&extra, 15, wire_new(f));
    model_of_nodes(f, 1, relu, 13, extra);
    refused(f, ESPL_UNSUPPORTED, "sparse initializers");
    extra = wire_new(f);
    put_message(&extra, 12, value_info(f, "y", 1, -1, NULL));
    model_of_nodes(f, 1, relu, 13, extra);
    refused(f, ESPL_FORMAT, "graph output 'y' stands there twice");
    extra = wire_new(f);
    put_message(&extra, 11, value_info(f, "x", 1, -1, NULL));
    model_of_nodes(f, 1, relu, 13, extra);
    refused(f, ESPL_FORMAT, "two values of the name 'x'");
    extra = wire_new(f);
    put_message(&extra, 11, value_info(f, "u", 15, -1, NULL));
    model_of_nodes(f, 1, relu, 13, extra);
    refused(f, ESPL_UNSUPPORTED, "element type complex128");
}

static void things_that_are_no_model(void **state) {
    fixture *f = *state;
    refused(f, ESPL_IO, "cannot be opened");
    put_file_at(f->path, "", 0);
    refused(f, ESPL_FORMAT, "holds no graph");
    put_file_at(f->path, "hello, world\n", 13);
    refused(f, ESPL_FORMAT, "not an ONNX file");
}

/* --- external data --------------------------------------------------------------------------------- */

static void model_of_external(fixture *f, const char *location, const char *offset, const char *length) {
    const int64_t two = 2;
    const char *const pairs[3][2] = {{"location", location}, {"offset", offset}, {"length", length}};
    wire t = tensor_head(f, "t", 1, 1, &two);
    for (int i = 0; i < 3; i++) {
        wire entry = wire_new(f);
        if (!pairs[i][1]) continue;
        put_text(&entry, 1, pairs[i][0]);
        put_text(&entry, 2, pairs[i][1]);
        put_message(&t, 13, entry);
    }
    put_int(&t, 14, 1);
    model_of_tensor(f, t);
}

static void put_file(fixture *f, const char *name, const void *data, size_t bytes) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", f->folder, name);
    put_file_at(path, data, bytes);
}

static void external_data_are_read(void **state) {
    fixture *f = *state;
    const float data[4] = {9, 1.5f, 2.5f, 8};
    char sub[128];
    snprintf(sub, sizeof sub, "%s/sub", f->folder);
    assert_int_equal(mkdir(sub, 0777), 0);
    put_file(f, "weights.bin", data, sizeof data);
    put_file(f, "sub/weights.bin", data, sizeof data);
    static const char *const locations[] = {"weights.bin", "./weights.bin", "sub/weights.bin", "sub//./weights.bin"};
    for (size_t i = 0; i < ESPL_COUNT(locations); i++) {
        model_of_external(f, locations[i], "4", "8");
        espl_graph *g = read_model(f);
        assert_memory_equal(g->outputs[0]->constant->data, data + 1, 8);
        espl_graph_destroy(&g);
    }
}

static void external_data_stay_in_the_folder(void **state) {
    fixture *f = *state;
    const float data[2] = {1, 2};
    char path[256], absolute[256], outside[256];
    /* The model lies one folder down; what it must not reach lies above. */
    put_file(f, "secret.bin", data, sizeof data);
    snprintf(absolute, sizeof absolute, "%s/secret.bin", f->folder);
    snprintf(path, sizeof path, "%s/inner", f->folder);
    assert_int_equal(mkdir(path, 0777), 0);
    put_file(f, "inner/inside.bin", data, sizeof data);
    snprintf(f->path, sizeof f->path, "%s/inner/model.onnx", f->folder);
    snprintf(path, sizeof path, "%s/inner/link.bin", f->folder);
    assert_int_equal(symlink("../secret.bin", path), 0);
    snprintf(path, sizeof path, "%s/inner/up", f->folder);
    assert_int_equal(symlink("..", path), 0);
    snprintf(path, sizeof path, "%s/inner/pipe", f->folder);
    assert_int_equal(mkfifo(path, 0666), 0);
    snprintf(outside, sizeof outside, "../inner/../secret.bin");
    const struct {
        const char *location, *offset, *length;
        espl_status status;
        const char *part;
    } rows[] = {
        {absolute, NULL, NULL, ESPL_FORMAT, "outside the model's folder"},
        {"../secret.bin", NULL, NULL, ESPL_FORMAT, "outside the model's folder"},
        {outside, NULL, NULL, ESPL_FORMAT, "outside the model's folder"},
        {"./../secret.bin", NULL, NULL, ESPL_FORMAT, "outside the model's folder"},
        {"link.bin", NULL, NULL, ESPL_FORMAT, "symbolic link"},
        {"up/secret.bin", NULL, NULL, ESPL_FORMAT, "symbolic link"},
        {"pipe", NULL, NULL, ESPL_FORMAT, "is not a file"},
        {".", NULL, NULL, ESPL_FORMAT, "is not a file"},
        {"missing.bin", NULL, NULL, ESPL_IO, "cannot be opened"},
        {"inside.bin/x", NULL, NULL, ESPL_IO, "cannot be opened"},
        {NULL, NULL, NULL, ESPL_FORMAT, "without a location"},
        {"inside.bin", "1", NULL, ESPL_FORMAT, "end at byte 8"},
        {"inside.bin", "18446744073709551600", NULL, ESPL_FORMAT, "end at byte 8"},
        {"inside.bin", "99999999999999999999", NULL, ESPL_FORMAT, "is not a number"},
        {"inside.bin", "-1", NULL, ESPL_FORMAT, "is not a number"},
        {"inside.bin", "0", "4", ESPL_FORMAT, "has 4 bytes where"},
    };
    for (size_t i = 0; i < ESPL_COUNT(rows); i++) {
        model_of_external(f, rows[i].location, rows[i].offset, rows[i].length);
        refused(f, rows[i].status, rows[i].part);
    }
    model_of_external(f, "inside.bin", "0", NULL);
    espl_graph *g = read_model(f);
    espl_graph_destroy(&g);
}

/* --- hostile bytes ---------------------------------------------------------------------------------- */

/* A model with a bit of everything; about 400 bytes, nearly all of them structure. */
static void model_of_everything(fixture *f) {
    const int64_t dims[2] = {-1, 2}, four = 4, two = 2, ints[2] = {-1, 2};
    const float w[4] = {1, 2, 3, 4};
    wire g = wire_new(f), n, a;
    put_message(&g, 1, node(f, "MatMul", "x w", "m"));
    n = node(f, "Constant", "", "shape");
    a = attribute(f, "value_ints", 7);
    put_packed(&a, 8, 2, ints);
    put_message(&n, 5, a);
    put_message(&g, 1, n);
    put_message(&g, 1, node(f, "Reshape", "m shape", "r"));
    n = node(f, "Softmax", "r", "s");
    a = attribute(f, "axis", 2);
    put_int(&a, 3, 1);
    put_message(&n, 5, a);
    put_message(&g, 1, n);
    put_message(&g, 1, node(f, "Add", "s b", "y"));
    wire t = tensor_head(f, "w", 1, 2, (const int64_t[]){2, 2});
    put_bytes(&t, 4, w, sizeof w);
    put_message(&g, 5, t);
    put_message(&g, 5, tensor_raw(f, "b", 1, 1, &two, w, 8));
    put_message(&g, 5, tensor_raw(f, "unused", 3, 1, &four, w, 4));
    put_message(&g, 11, value_info(f, "x", 1, 2, dims));
    put_message(&g, 12, value_info(f, "y", 1, 2, dims));
    put_text(&g, 2, "everything");
    write_model(f, g, 13);
}

/* Reads the file, and if that goes well may write and read it again. True if it went well. */
static bool survives(fixture *f, bool rewrite) {
    espl_graph *g = NULL, *again = NULL;
    f->diag = (espl_diag){0};
    espl_status status = espl_onnx_read(f->ctx, f->path, &g, &f->diag);
    assert_true((status == ESPL_OK) == (g != NULL));
    assert_int_equal(status, f->diag.status);
    assert_true((status == ESPL_OK) == (f->diag.message[0] == 0));
    if (!g || !rewrite) {
        espl_graph_destroy(&g);
        return status == ESPL_OK;
    }
    assert_int_equal(espl_onnx_write(f->ctx, g, NULL, f->path, NULL), ESPL_OK);
    if (espl_onnx_read(f->ctx, f->path, &again, &f->diag) != ESPL_OK) fail_msg("%s", f->diag.message);
    assert_int_equal(again->node_count, g->node_count);
    espl_graph_destroy(&again);
    espl_graph_destroy(&g);
    return true;
}

static void damage(fixture *f, int rounds, uint32_t reach) {
    uint8_t *bytes;
    uint64_t length;
    assert_int_equal(espl__file_read(f->ctx, f->path, 0, &bytes, &length, NULL), ESPL_OK);
    uint8_t *copy = malloc((size_t)length);
    espl__rng rng = espl__rng_seed(1, 2);
    int good = 0;
    for (int i = 0; i < rounds; i++) {
        uint64_t cut = i % 4 ? length : espl__rng_below(&rng, (uint32_t)length);
        uint32_t within = (uint32_t)ESPL_MIN(length, i % 2 ? reach : length);
        memcpy(copy, bytes, (size_t)length);
        for (uint32_t k = espl__rng_below(&rng, 6); k < 6; k++) {
            uint32_t at = espl__rng_below(&rng, within);
            copy[at] = (uint8_t)(i % 3 ? copy[at] ^ 1u << espl__rng_below(&rng, 8) : espl__rng_u32(&rng));
        }
        put_file_at(f->path, copy, (size_t)cut);
        good += survives(f, good % 8 == 0); /* writing waits for the disk */
    }
    assert_true(good < rounds); /* the damage reached something */
    free(copy);
    espl__free(f->ctx, bytes);
}

static void damaged_files_end_in_a_sentence(void **state) {
    fixture *f = *state;
    model_of_everything(f);
    assert_true(survives(f, true));
    model_of_everything(f);
    damage(f, 3000, 400);
}

static void damaged_real_models(void **state) {
    fixture *f = *state;
    const char *models = onnx_assets();
    static const char *const names[] = {"mnist-cnn", "mlperf-tiny-kws_dscnn", "vit-cifar10"};
    if (!models) skip();
    for (size_t i = 0; i < ESPL_COUNT(names); i++) {
        char from[4200];
        uint8_t *bytes;
        uint64_t length;
        snprintf(from, sizeof from, "%s/%s/model.onnx", models, names[i]);
        assert_int_equal(espl__file_read(f->ctx, from, 0, &bytes, &length, NULL), ESPL_OK);
        put_file_at(f->path, bytes, length);
        espl__free(f->ctx, bytes);
        damage(f, 100, 6000);
    }
}

/* Graphs within attributes within graphs: 1 MB of them would take a million calls to parse as messages. */
static void nesting_does_not_recurse(void **state) {
    fixture *f = *state;
    enum { DEPTH = 40000 };
    wire w = wire_new(f); /* from the inside out: graph { node { attribute { g: graph ... } } } */
    size_t length = 0, size = 0;
    uint8_t *bytes = malloc(DEPTH * 16);
    size_t at = DEPTH * 16;
    for (int i = 0; i < DEPTH; i++) {
        int field = i % 3 == 0 ? 6 : i % 3 == 1 ? 5 : 1;
        uint8_t head[12];
        size = 0;
        head[size++] = (uint8_t)(field << 3 | 2);
        for (size_t v = length;; v >>= 7) {
            head[size++] = (uint8_t)((v & 0x7f) | (v > 0x7f ? 0x80 : 0));
            if (v <= 0x7f) break;
        }
        at -= size;
        memcpy(bytes + at, head, size);
        length += size;
    }
    espl__buffer_append(&w, bytes + at, length);
    free(bytes);
    wire g = wire_new(f), n = node(f, "If", "x", "y"), a = attribute(f, "then_branch", 5);
    put_message(&a, 6, w);
    put_message(&n, 5, a);
    put_message(&g, 1, n);
    put_message(&g, 11, value_info(f, "x", 1, -1, NULL));
    put_message(&g, 12, value_info(f, "y", 1, -1, NULL));
    write_model(f, g, 13);
    refused(f, ESPL_FORMAT, "(If): subgraph 'then_branch'");
}

/* Two bytes make a node of a hundred: memory is bounded by the size of the file. */
static void small_files_take_little_memory(void **state) {
    fixture *f = *state;
    enum { NODES = 400000 };
    wire g = wire_new(f);
    for (int i = 0; i < NODES; i++) espl__buffer_append(&g, "\x0a\x00", 2);
    uint64_t peak;
    write_model(f, g, 13);
    refused(f, ESPL_LIMIT, "takes more memory to parse");
    (void)espl_context_memory(f->ctx, &peak);
    assert_true(peak < (uint64_t)100 << 20);
}

/* --- failing allocations ------------------------------------------------------------------------------ */

typedef struct failing {
    long left; /* allocations until the one that fails; negative: none fails */
    long live;
} failing;

static void *failing_alloc(void *user, size_t bytes) {
    failing *x = user;
    if (x->left == 0) return NULL;
    if (x->left > 0) x->left--;
    x->live++;
    return aligned_alloc(64, (bytes + 63) / 64 * 64);
}

static void failing_free(void *user, void *ptr) {
    ((failing *)user)->live--;
    free(ptr);
}

static void every_allocation_may_fail(void **state) {
    fixture *f = *state;
    char out[160];
    snprintf(out, sizeof out, "%s/again.onnx", f->folder);
    model_of_everything(f);
    failing x = {.left = -1};
    espl_config config = {.alloc = failing_alloc, .free = failing_free, .user = &x, .threads = 1};
    espl_context *ctx;
    assert_int_equal(espl_context_create(&config, &ctx, NULL), ESPL_OK);
    long before = x.live;
    bool done = false;
    for (long n = 0; !done; n++) {
        espl_graph *g = NULL;
        espl_diag diag = {0};
        x.left = n;
        espl_status status = espl_onnx_read(ctx, f->path, &g, &diag);
        if (status == ESPL_OK) status = espl_onnx_write(ctx, g, NULL, out, &diag);
        done = status == ESPL_OK;
        if (!done) assert_int_equal(status, ESPL_NOMEM);
        espl_graph_destroy(&g);
        assert_int_equal(x.live, before);
        assert_true(n < 100000);
    }
    x.left = -1;
    espl_context_destroy(&ctx);
    assert_int_equal(x.live, 0);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, onnx_setup, onnx_teardown)
    const struct CMUnitTest tests[] = {
        TEST(typed_fields_hold_every_type),
        TEST(odd_bools_become_one),
        TEST(nibbles_are_taken_apart),
        TEST(scalars_and_empty_tensors),
        TEST(bad_tensors_are_refused),
        TEST(tensor_files),
        TEST(constants_in_all_forms),
        TEST(attributes_of_every_kind),
        TEST(bad_attributes_are_refused),
        TEST(dimensions_and_old_initializers),
        TEST(nodes_are_sorted),
        TEST(bad_graphs_are_refused),
        TEST(things_that_are_no_model),
        TEST(external_data_are_read),
        TEST(external_data_stay_in_the_folder),
        TEST(damaged_files_end_in_a_sentence),
        TEST(damaged_real_models),
        TEST(nesting_does_not_recurse),
        TEST(small_files_take_little_memory),
        TEST(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
