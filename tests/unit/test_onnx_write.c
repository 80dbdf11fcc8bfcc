/* Writing ONNX: round trips, names and quantizations. What ONNX itself and ONNX Runtime say of the files is
 * checked by tests/oracle/onnx_export_check.py. */
#include "small_graph.h"

#include "passes/passes.h"

/* --- round trips ------------------------------------------------------------------------------------- */

static void same_tensor(const espl_tensor *a, const espl_tensor *b) {
    assert_int_equal(a->dtype, b->dtype);
    assert_true(espl_shape_equal(&a->shape, &b->shape));
    assert_memory_equal(a->data, b->data, espl__tensor_bytes(a));
}

static void same_value(const espl__value *a, const espl__value *b) {
    assert_true(!a == !b);
    if (!a) return;
    assert_string_equal(a->name, b->name);
    assert_true(!a->constant == !b->constant);
    if (a->constant) same_tensor(a->constant, b->constant);
}

static void same_attrs(const espl__node *a, const espl__node *b) {
    assert_int_equal(a->attr_count, b->attr_count);
    for (int i = 0; i < a->attr_count; i++) {
        const espl__attr *x = &a->attrs[i], *y = espl__attr_find(b, x->name);
        assert_non_null(y);
        assert_int_equal(x->kind, y->kind);
        assert_int_equal(x->count, y->count);
        assert_int_equal(x->i, y->i);
        assert_memory_equal(&x->f, &y->f, sizeof x->f);
        if (x->s) assert_string_equal(x->s, y->s);
        if (x->ints) assert_memory_equal(x->ints, y->ints, sizeof *x->ints * (size_t)x->count);
        if (x->floats) assert_memory_equal(x->floats, y->floats, sizeof *x->floats * (size_t)x->count);
        if (x->tensor) same_tensor(x->tensor, y->tensor);
    }
}

static void same_graph(const espl_graph *a, const espl_graph *b) {
    assert_int_equal(a->opset, b->opset);
    assert_int_equal(a->node_count, b->node_count);
    assert_int_equal(a->input_count, b->input_count);
    assert_int_equal(a->output_count, b->output_count);
    for (int i = 0; i < a->input_count; i++) {
        same_value(a->inputs[i], b->inputs[i]);
        assert_true(espl_shape_equal(&a->inputs[i]->shape, &b->inputs[i]->shape));
        assert_int_equal(a->inputs[i]->dtype, b->inputs[i]->dtype);
    }
    for (int i = 0; i < a->output_count; i++) same_value(a->outputs[i], b->outputs[i]);
    for (int i = 0; i < a->node_count; i++) {
        const espl__node *x = a->nodes[i], *y = b->nodes[i];
        assert_ptr_equal(x->op, y->op);
        assert_int_equal(x->opset, y->opset);
        assert_int_equal(x->input_count, y->input_count);
        assert_int_equal(x->output_count, y->output_count);
        for (int j = 0; j < x->input_count; j++) same_value(x->inputs[j], y->inputs[j]);
        for (int j = 0; j < x->output_count; j++) same_value(x->outputs[j], y->outputs[j]);
        same_attrs(x, y);
    }
}

static const char *const model_names[] = {
    "dtln-lstm",           "mlperf-tiny-ad_autoencoder",      "mlperf-tiny-kws_dscnn", "mlperf-tiny-resnet8_cifar10",
    "mnist-cnn",           "mlperf-tiny-vww_mobilenet025_96", "mnist-mlp",             "mobilenet-v2-imagenet",
    "resnet20-cifar10",    "openwakeword-embedding",          "resnet20-cifar10-bn",   "resnet20-cifar10-onnc",
    "resnet32-cifar10",    "ultraface-rfb320",                "vit-cifar10",
};

static void real_models_come_back_the_same(void **state) {
    fixture *f = *state;
    const char *models = onnx_assets();
    if (!models) skip();
    for (size_t i = 0; i < ESPL_COUNT(model_names); i++) {
        char path[4200];
        espl_graph *g = NULL;
        snprintf(path, sizeof path, "%s/%s/model.onnx", models, model_names[i]);
        if (espl_onnx_read(f->ctx, path, &g, &f->diag) != ESPL_OK) fail_msg("%s", f->diag.message);
        espl_graph *again = write_and_read(f, g, NULL);
        same_graph(g, again);
        espl_graph_destroy(&again);
        espl_graph_destroy(&g);
    }
}

/* The tensors that come with the models agree with the models' inputs and outputs. */
static void test_data_of_real_models(void **state) {
    fixture *f = *state;
    const char *models = onnx_assets();
    if (!models) skip();
    for (size_t i = 0; i < ESPL_COUNT(model_names); i++) {
        char path[4200];
        espl_graph *g = NULL;
        snprintf(path, sizeof path, "%s/%s/model.onnx", models, model_names[i]);
        assert_int_equal(espl_onnx_read(f->ctx, path, &g, NULL), ESPL_OK);
        for (int k = 0; k < espl_graph_input_count(g); k++) {
            espl_tensor t;
            espl_shape shape = espl_graph_input_shape(g, k);
            snprintf(path, sizeof path, "%s/%s/test_data_set_0/input_%d.pb", models, model_names[i], k);
            if (espl_onnx_read_tensor(f->ctx, path, &t, &f->diag) != ESPL_OK) fail_msg("%s", f->diag.message);
            assert_int_equal(t.dtype, espl_graph_input_dtype(g, k));
            assert_int_equal(t.shape.rank, shape.rank);
            for (int d = 0; d < shape.rank; d++)
                assert_true(shape.dim[d] == ESPL_DIM_UNKNOWN || shape.dim[d] == t.shape.dim[d]);
            espl_tensor_free(f->ctx, &t);
        }
        espl_graph_destroy(&g);
    }
}

/* --- small graphs -------------------------------------------------------------------------------------- */

static void nameless_things_get_names(void **state) {
    fixture *f = *state;
    const int64_t dims[2] = {ESPL_DIM_UNKNOWN, 3};
    const float one[3] = {1, 1, 1};
    espl_graph *g = new_graph(f, 13);
    espl__value *x = new_value(g, "v2", 2, dims); /* takes the name that value 2 would get */
    espl__value *c = new_constant(g, "", ESPL_F32, 1, dims + 1, one);
    espl__value *a = new_value(g, "", 2, dims), *b = new_value(g, "", 2, dims), *y = new_value(g, "y", 2, dims);
    new_node(g, "Add", "", 2, (espl__value *[]){x, c}, a);
    new_node(g, "Relu", "Add_0", 1, &a, b); /* takes the name that node 0 would get */
    new_node(g, "Relu", "", 1, &b, y);
    set_io(g, x, y);
    espl_graph *r = write_and_read(f, g, NULL);
    assert_int_equal(r->node_count, 3);
    assert_string_equal(r->inputs[0]->name, "v2");
    assert_string_equal(r->outputs[0]->name, "y");
    for (int i = 0; i < r->node_count; i++) {
        assert_true(r->nodes[i]->name[0] != 0);
        for (int j = 0; j < i; j++) assert_string_not_equal(r->nodes[i]->name, r->nodes[j]->name);
    }
    assert_string_equal(producer(r, "y")->name, "Relu_2");
    assert_int_equal(r->inputs[0]->shape.dim[0], ESPL_DIM_UNKNOWN);
    espl_graph_destroy(&r);
    espl_graph_destroy(&g);
}

static void unused_constants_are_left_out(void **state) {
    fixture *f = *state;
    const int64_t dims[1] = {3};
    const float one[3] = {1, 1, 1};
    espl_graph *g = new_graph(f, 13);
    espl__value *x = new_value(g, "x", 1, dims), *y = new_value(g, "y", 1, dims);
    new_constant(g, "unused", ESPL_F32, 1, dims, one);
    new_node(g, "Relu", "", 1, &x, y);
    set_io(g, x, y);
    espl_graph *r = write_and_read(f, g, NULL);
    assert_null(espl__graph_find(r, "unused"));
    espl_graph_destroy(&r);
    espl_graph_destroy(&g);
}

/* Either the old file or the new one, never half of one. */
static void a_failed_write_leaves_the_old_file(void **state) {
    fixture *f = *state;
    const int64_t dims[1] = {3};
    espl_graph *g = new_graph(f, 13);
    espl__value *x = new_value(g, "x", 1, dims), *y = new_value(g, "y", 1, dims);
    new_node(g, "Relu", "", 1, &x, y);
    set_io(g, x, y);
    put_file_at(f->path, "old", 3);
    g->opset = 30;
    assert_int_equal(espl_onnx_write(f->ctx, g, NULL, f->path, &f->diag), ESPL_INVALID);
    uint8_t *bytes;
    uint64_t length;
    assert_int_equal(espl__file_read(f->ctx, f->path, 0, &bytes, &length, NULL), ESPL_OK);
    assert_int_equal(length, 3);
    espl__free(f->ctx, bytes);
    g->opset = 13;
    f->diag = (espl_diag){0};
    assert_int_equal(espl_onnx_write(f->ctx, g, NULL, "/nonexistent/folder/model.onnx", &f->diag), ESPL_IO);
    assert_non_null(strstr(f->diag.message, "/nonexistent/folder/model.onnx"));
    espl_graph_destroy(&g);
}

/* --- quantizations -------------------------------------------------------------------------------------- */

enum { OUT = 4, IN = 3 };
static const int64_t act_dims[4] = {1, IN, 5, 5}, w_dims[4] = {OUT, IN, 1, 1}, out_dims[4] = {1, OUT, 5, 5};
static const int8_t codes[OUT * IN] = {1, -2, 3, 127, -127, 0, 5, 6, 7, 8, 9, 10};
static const int8_t narrow_codes[OUT * IN] = {1, -2, 3, 7, -8, 0, 5, 6, -7, 4, -1, 2};
static const int32_t bias_codes[OUT] = {100000, -5, 0, 1};
static const float w_scales[OUT] = {0.5f, 0.25f, 0.125f, 1}, b_scales[OUT] = {0.05f, 0.025f, 0.0125f, 0.1f};

/* x -> Conv(w, b) -> c -> Relu -> y, everything quantized; the values by name. */
static espl_graph *quantized_graph(fixture *f, int opset, espl_format weights, espl_format activations, int32_t zero) {
    espl_graph *g = new_graph(f, opset);
    const int64_t bias_dims[1] = {OUT};
    const float scale = 0.1f;
    espl__value *x = new_value(g, "x", 4, act_dims), *c = new_value(g, "c", 4, out_dims);
    espl__value *y = new_value(g, "y", 4, out_dims);
    const bool narrow = espl_format_bits(weights) <= 4;
    espl__value *w = new_constant(g, "w", ESPL_S8, 4, w_dims, narrow ? narrow_codes : codes);
    espl__value *b = new_constant(g, "b", ESPL_S32, 1, bias_dims, bias_codes);
    w->dtype = b->dtype = ESPL_F32;
    new_node(g, "Conv", "conv", 3, (espl__value *[]){x, w, b}, c);
    new_node(g, "Relu", "relu", 1, &c, y);
    assert_true(espl__graph_set_quant(g, w, weights, 0, OUT, w_scales, NULL));
    assert_true(espl__graph_set_quant(g, b, ESPL_FORMAT_S32, 0, OUT, b_scales, NULL));
    assert_true(espl__graph_set_quant(g, x, activations, -1, 1, &scale, &zero));
    assert_true(espl__graph_set_quant(g, c, activations, -1, 1, &scale, &zero));
    assert_true(espl__graph_set_quant(g, y, activations, -1, 1, &scale, &zero));
    set_io(g, x, y);
    return g;
}

static void check_grid(const espl__node *n, const char *op, espl_dtype type, int64_t count, const float *scale,
                       int32_t zero) {
    assert_true(espl__node_is(n, op));
    assert_int_equal(n->input_count, 3);
    const espl_tensor *s = n->inputs[1]->constant, *z = n->inputs[2]->constant;
    assert_true(s && z);
    assert_int_equal(s->dtype, ESPL_F32);
    assert_int_equal(z->dtype, type);
    assert_int_equal(s->shape.rank, count > 1);
    assert_true(espl_shape_equal(&s->shape, &z->shape));
    assert_memory_equal(s->data, scale, sizeof(float) * (size_t)count);
    for (size_t i = 0; i < (size_t)count * espl_dtype_bytes(type); i++)
        assert_int_equal(((const uint8_t *)z->data)[i], i == 0 ? zero : 0);
}

/* What is left of a value after the pair: the value before QuantizeLinear. */
static const espl__value *before_pair(const espl__value *v, espl_dtype type, int32_t zero) {
    const float scale = 0.1f;
    assert_non_null(v->producer);
    check_grid(v->producer, "DequantizeLinear", type, 1, &scale, zero);
    const espl__node *q = v->producer->inputs[0]->producer;
    assert_non_null(q);
    check_grid(q, "QuantizeLinear", type, 1, &scale, zero);
    return q->inputs[0];
}

static void check_quantized(fixture *f, espl_graph *g, espl_dtype type, int32_t zero) {
    espl_graph *r = write_and_read(f, g, NULL);
    const bool narrow = espl__graph_find(g, "w")->quant.format == ESPL_FORMAT_S4;
    assert_int_equal(r->opset, narrow ? 21 : 13);
    assert_int_equal(count_ops(r, "QuantizeLinear"), 3);
    assert_int_equal(count_ops(r, "DequantizeLinear"), 5);
    assert_int_equal(count_ops(r, "Conv"), 1);
    assert_int_equal(count_ops(r, "Relu"), 1);
    /* From the output back to the input. */
    assert_string_equal(r->outputs[0]->name, "y");
    const espl__node *relu = before_pair(r->outputs[0], type, zero)->producer;
    assert_true(espl__node_is(relu, "Relu"));
    const espl__node *conv = before_pair(relu->inputs[0], type, zero)->producer;
    assert_true(espl__node_is(conv, "Conv"));
    assert_ptr_equal(before_pair(conv->inputs[0], type, zero), r->inputs[0]);
    assert_string_equal(r->inputs[0]->name, "x");
    /* Weights and bias: initializers of their integer types, one scale a channel. */
    const espl__node *w = conv->inputs[1]->producer, *b = conv->inputs[2]->producer;
    check_grid(w, "DequantizeLinear", narrow ? ESPL_S4 : ESPL_S8, OUT, w_scales, 0);
    assert_int_equal(espl__attr_int(w, "axis", 1), 0);
    assert_int_equal(w->inputs[0]->constant->dtype, narrow ? ESPL_S4 : ESPL_S8);
    assert_memory_equal(w->inputs[0]->constant->data, narrow ? narrow_codes : codes, sizeof codes);
    check_grid(b, "DequantizeLinear", ESPL_S32, OUT, b_scales, 0);
    assert_int_equal(espl__attr_int(b, "axis", 1), 0);
    assert_int_equal(b->inputs[0]->constant->dtype, ESPL_S32);
    assert_memory_equal(b->inputs[0]->constant->data, bias_codes, sizeof bias_codes);
    espl_graph_destroy(&r);
    espl_graph_destroy(&g);
}

static void quantizations_become_qdq(void **state) {
    fixture *f = *state;
    check_quantized(f, quantized_graph(f, 13, ESPL_FORMAT_S8, ESPL_FORMAT_S8, 0), ESPL_S8, 0);
    check_quantized(f, quantized_graph(f, 13, ESPL_FORMAT_S8, ESPL_FORMAT_U8, 128), ESPL_U8, 128);
    check_quantized(f, quantized_graph(f, 13, ESPL_FORMAT_S4, ESPL_FORMAT_S8, 0), ESPL_S8, 0);
    check_quantized(f, quantized_graph(f, 9, ESPL_FORMAT_S8, ESPL_FORMAT_S8, 0), ESPL_S8, 0);
}

static void same_grid(const espl__value *a, const espl__value *b) {
    assert_int_equal(a->quant.format, b->quant.format);
    assert_int_equal(a->quant.axis, b->quant.axis);
    assert_int_equal(a->quant.count, b->quant.count);
    assert_memory_equal(a->quant.scale, b->quant.scale, sizeof(float) * (size_t)a->quant.count);
    for (int64_t i = 0; i < a->quant.count; i++)
        assert_int_equal(a->quant.zero ? a->quant.zero[i] : 0, b->quant.zero ? b->quant.zero[i] : 0);
}

/* x [1,8] -> MatMul(w [8,2]) -> Add(v [2]) -> y with the codes of w and v in a format; w is 2:4 along its inputs. */
static espl_graph *pruned_graph(fixture *f, espl_format format) {
    static const int64_t x_dims[2] = {1, 8}, dims[2] = {8, 2}, y_dims[2] = {1, 2}, v_dims[1] = {2};
    static const int8_t ints[16] = {1, 0, 0, -2, 3, 0, 0, 4, 0, 5, 6, 0, 0, 7, -3, 0};
    static const float scales[2] = {0.5f, 0.25f}, one = 1;
    float numbers[16];
    uint16_t halves[16];
    for (int i = 0; i < 16; i++) {
        numbers[i] = (float)ints[i] / 8;
        halves[i] = format == ESPL_FORMAT_F16 ? espl__half_from_float(numbers[i]) : espl__bfloat_from_float(numbers[i]);
    }
    bool floats = espl__format_is_float(format);
    espl_dtype type = espl__format_dtype(format);
    const void *data = type == ESPL_F32 ? (const void *)numbers : floats ? (const void *)halves : ints;
    espl_graph *g = new_graph(f, 13);
    espl__value *x = new_value(g, "x", 2, x_dims), *p = new_value(g, "p", 2, y_dims), *y = new_value(g, "y", 2, y_dims);
    espl__value *w = new_constant(g, "w", type, 2, dims, data), *v = new_constant(g, "v", type, 1, v_dims, data);
    w->dtype = v->dtype = ESPL_F32;
    (void)espl_sparsity_parse("2:4", &w->zeros.pattern);
    w->zeros.row_axis = 1;
    if (type != ESPL_F32) {
        assert_true(espl__graph_set_quant(g, w, format, floats ? -1 : 1, floats ? 1 : 2, floats ? &one : scales, NULL));
        assert_true(espl__graph_set_quant(g, v, format, -1, 1, &one, NULL));
    }
    new_node(g, "MatMul", "product", 2, (espl__value *[]){x, w}, p);
    new_node(g, "Add", "sum", 2, (espl__value *[]){p, v}, y);
    set_io(g, x, y);
    return g;
}

/* Pruned weights are dense initializers with the zeros in place, of every four inputs two, as TensorRT takes them. */
static void zeros_stay_in_place(void **state) {
    static const espl_format formats[] = {ESPL_FORMAT_F32, ESPL_FORMAT_F16, ESPL_FORMAT_BF16, ESPL_FORMAT_S8, ESPL_FORMAT_S4};
    fixture *f = *state;
    for (size_t k = 0; k < ESPL_COUNT(formats); k++) {
        espl_graph *g = pruned_graph(f, formats[k]), *r = write_and_read(f, g, NULL);
        const espl__value *w = producer(r, "p")->inputs[1];
        assert_string_equal(w->name, "w");
        if (w->producer) w = w->producer->inputs[0];
        assert_non_null(w->constant);
        assert_int_equal(w->constant->dtype, formats[k] == ESPL_FORMAT_S4 ? ESPL_S4 : espl__format_dtype(formats[k]));
        assert_int_equal(espl_shape_count(&w->constant->shape), 16);
        size_t each = espl_dtype_bytes(w->constant->dtype);
        for (int column = 0; column < 2; column++)
            for (int group = 0; group < 8; group += 4) {
                int kept = 0;
                for (int i = group; i < group + 4; i++)
                    kept += memcmp((char *)w->constant->data + (size_t)(2 * i + column) * each, "\0\0\0\0", each) != 0;
                assert_int_equal(kept, 2);
            }
        espl_graph_destroy(&r);
        espl_graph_destroy(&g);
    }
}

/* Weights of 16 bits get a Cast, and come back in their format; what is no weight comes back as f32. */
static void halves_get_a_cast(void **state) {
    fixture *f = *state;
    for (int format = ESPL_FORMAT_F16; format <= ESPL_FORMAT_BF16; format++) {
        espl_graph *g = pruned_graph(f, (espl_format)format), *r = write_and_read(f, g, NULL);
        assert_int_equal(count_ops(r, "Cast"), 2);
        assert_int_equal(count_ops(r, "DequantizeLinear"), 0);
        const espl__node *cast = producer(r, "w");
        assert_int_equal(espl__attr_int(cast, "to", 0), 1);
        if (espl__passes_run(r, &f->diag) != ESPL_OK) fail_msg("%s", f->diag.message);
        assert_int_equal(count_ops(r, "Cast"), 0);
        const espl__value *w = r->nodes[0]->inputs[1], *v = g->nodes[0]->inputs[1];
        assert_string_equal(w->name, "w");
        assert_int_equal(w->quant.format, format);
        assert_int_equal(w->dtype, ESPL_F32);
        assert_memory_equal(w->constant->data, v->constant->data, 16 * 2);
        for (int i = 0; i < r->value_count; i++) assert_true(r->values[i] == w || !espl__is_quantized(r->values[i]));
        espl_graph_destroy(&r);
        espl_graph_destroy(&g);
    }
}

/* What is written is taken up again: the pairs become the quantizations that they came from. */
static void quantized_models_come_back(void **state) {
    fixture *f = *state;
    for (int i = 0; i < 2; i++) {
        espl_graph *g = i ? quantized_graph(f, 13, ESPL_FORMAT_S8, ESPL_FORMAT_U8, 7)
                          : quantized_graph(f, 13, ESPL_FORMAT_S8, ESPL_FORMAT_S8, 0);
        espl_graph *r = write_and_read(f, g, NULL);
        if (espl__passes_run(r, &f->diag) != ESPL_OK) fail_msg("%s", f->diag.message);
        assert_int_equal(r->node_count, 2);
        for (int n = 0; n < 2; n++) {
            assert_ptr_equal(r->nodes[n]->op, g->nodes[n]->op);
            same_grid(r->nodes[n]->outputs[0], g->nodes[n]->outputs[0]);
            for (int j = 0; j < g->nodes[n]->input_count; j++)
                same_grid(r->nodes[n]->inputs[j], g->nodes[n]->inputs[j]);
        }
        same_tensor(r->nodes[0]->inputs[1]->constant, g->nodes[0]->inputs[1]->constant);
        same_tensor(r->nodes[0]->inputs[2]->constant, g->nodes[0]->inputs[2]->constant);
        assert_string_equal(r->inputs[0]->name, "x");
        assert_string_equal(r->outputs[0]->name, "y");
        espl_graph_destroy(&r);
        espl_graph_destroy(&g);
    }
}

static void names_of_pairs_give_way(void **state) {
    fixture *f = *state;
    espl_graph *g = quantized_graph(f, 13, ESPL_FORMAT_S8, ESPL_FORMAT_S8, 0);
    static const char *const taken[] = {"x_quantized", "x_dequantized", "x_scale", "x_zero_point", "y_float"};
    espl__value *last = g->outputs[0];
    for (size_t i = 0; i < ESPL_COUNT(taken); i++) {
        espl__value *v = new_value(g, taken[i], 4, out_dims);
        new_node(g, "Relu", "x_QuantizeLinear", 1, &last, v);
        last = v;
    }
    set_io(g, g->inputs[0], last);
    espl_graph *r = write_and_read(f, g, NULL); /* reading refuses names that stand there twice */
    assert_int_equal(count_ops(r, "QuantizeLinear"), 3);
    assert_string_equal(r->outputs[0]->name, "y_float");
    espl_graph_destroy(&r);
    espl_graph_destroy(&g);
}

typedef struct heard {
    char text[2048];
} heard;

static void hear(void *user, espl_log_level level, const char *line) {
    heard *h = user;
    (void)level;
    strncat(h->text, line, sizeof h->text - strlen(h->text) - 2);
    strcat(h->text, "\n");
}

static espl_graph *weights_graph(fixture *f, espl_format format, int64_t group, bool gemm, espl_format rounding);

static void what_the_standard_cannot_say_is_told(void **state) {
    fixture *f = *state;
    heard h = {{0}};
    espl_config config = {.threads = 1, .log = hear, .user = &h};
    fixture own = *f;
    assert_int_equal(espl_context_create(&config, &own.ctx, NULL), ESPL_OK);
    espl_graph *g = quantized_graph(&own, 13, ESPL_FORMAT_S3, ESPL_FORMAT_U8, 3);
    assert_int_equal(espl_onnx_write(own.ctx, g, NULL, own.path, NULL), ESPL_OK);
    assert_non_null(strstr(h.text, "1 constants of fewer than 8 bits are written as integers of 4"));
    assert_non_null(strstr(h.text, "3 activations are not s8 with a zero point of 0"));
    h.text[0] = 0;
    espl_onnx_options options = {.flavour = ESPL_FLAVOUR_ORT_X86};
    assert_int_equal(espl_onnx_write(own.ctx, g, &options, own.path, NULL), ESPL_OK);
    assert_null(strstr(h.text, "activations"));
    espl_graph_destroy(&g);
    static const struct {
        espl_format weights, input;
        const char *text;
    } rows[] = {{ESPL_FORMAT_LOG6, ESPL_FORMAT_F32, "1 constants are written as f32, as their format has no standard form"},
                {ESPL_FORMAT_S8, ESPL_FORMAT_LOG4, "1 activations are not rounded in the file"},
                {ESPL_FORMAT_S8, ESPL_FORMAT_U4, "1 activations of fewer than 8 bits are written as Clip and 8-bit"}};
    for (size_t i = 0; i < ESPL_COUNT(rows); i++) {
        h.text[0] = 0;
        g = weights_graph(&own, rows[i].weights, 0, false, rows[i].input);
        assert_int_equal(espl_onnx_write(own.ctx, g, NULL, own.path, NULL), ESPL_OK);
        if (!strstr(h.text, rows[i].text)) fail_msg("told: %s", h.text);
        espl_graph_destroy(&g);
    }
    espl_context_destroy(&own.ctx);
}

static void impossible_quantizations_are_refused(void **state) {
    fixture *f = *state;
    const float scale = 0.1f, scales[2] = {1, 2};
    const int32_t zero = 300;
    for (int i = 0; i < 6; i++) {
        espl_graph *g = quantized_graph(f, 13, ESPL_FORMAT_S8, ESPL_FORMAT_S8, 0);
        espl__value *x = g->inputs[0], *w = espl__graph_find(g, "w"), *y = g->outputs[0];
        bool set = false;
        if (i == 0) set = espl__graph_set_quant(g, x, ESPL_FORMAT_S32, -1, 1, &scale, NULL);
        if (i == 1) set = espl__graph_set_quant(g, x, ESPL_FORMAT_S8, -1, 2, scales, NULL);
        if (i == 2) set = espl__graph_set_quant(g, x, ESPL_FORMAT_U8, -1, 1, &scale, &zero);
        if (i == 3) set = espl__graph_set_quant(g, w, ESPL_FORMAT_S8, 0, 2, scales, NULL);
        if (i == 4) set = espl__graph_set_quant(g, w, ESPL_FORMAT_U8, -1, 1, &scale, NULL);
        if (i == 5) set = espl__graph_set_io(g, &x, 1, (espl__value *[]){y, x}, 2);
        assert_true(set);
        f->diag = (espl_diag){0};
        assert_int_equal(espl_onnx_write(f->ctx, g, NULL, f->path, &f->diag), ESPL_UNSUPPORTED);
        assert_non_null(strstr(f->diag.message, i == 3 || i == 4 ? "value 'w'" : "value 'x'"));
        espl_graph_destroy(&g);
    }
}

/* --- narrow and odd formats ------------------------------------------------------------------------------- */

enum { ROWS = 5, COLUMNS = 3, GROUP = 2 };
static const int64_t x_shape[2] = {1, ROWS}, table_shape[2] = {ROWS, COLUMNS}, y_shape[2] = {1, COLUMNS};

/* x -> MatMul(w) -> y, or, for weights that are read otherwise, Gemm; y is rounded if `rounding` is no F32. */
static espl_graph *weights_graph(fixture *f, espl_format format, int64_t group, bool gemm, espl_format rounding) {
    static const int8_t wide[ROWS * COLUMNS] = {1, -2, 3, 100, -127, 0, 5, 6, 7, 8, 9, -10, 64, 31, 12};
    espl_graph *g = new_graph(f, 13);
    espl_tensor *t = espl__graph_tensor(g, espl__format_dtype(format), &(espl_shape){2, {ROWS, COLUMNS}}, NULL);
    int32_t lo, hi;
    espl__format_range(format, &lo, &hi);
    for (int i = 0; i < ROWS * COLUMNS; i++) {
        int32_t code = wide[i] < lo ? lo : wide[i] > hi ? hi : wide[i];
        if (espl_format_kind_of(format) == ESPL_FORMAT_KIND_FP8) code = i * 15; /* below NaN */
        if (format == ESPL_FORMAT_BINARY) code = wide[i] > 3 ? 1 : -1;
        memcpy((char *)t->data + (size_t)i * espl_dtype_bytes(t->dtype), &code, espl_dtype_bytes(t->dtype));
    }
    float scale[9];
    for (int i = 0; i < 9; i++) scale[i] = 0.25f + 0.125f * (float)i;
    espl__value *x = new_value(g, "x", 2, x_shape), *y = new_value(g, "y", 2, y_shape);
    espl__value *w = new_constant(g, "w", t->dtype, 2, table_shape, t->data);
    w->dtype = ESPL_F32;
    espl__quant q = {.format = format, .axis = 1, .count = COLUMNS, .scale = scale};
    if (group) q = (espl__quant){.format = format, .axis = 1, .count = 9, .scale = scale, .group = GROUP};
    assert_true(espl__graph_copy_quant(g, w, &q));
    if (rounding != ESPL_FORMAT_F32) {
        const float one = espl__format_is_float(rounding) ? 1 : 0.5f;
        assert_true(espl__graph_set_quant(g, x, rounding, -1, 1, &one, NULL));
    }
    new_node(g, gemm ? "Gemm" : "MatMul", "layer", 2, (espl__value *[]){x, w}, y);
    set_io(g, x, y);
    return g;
}

/* What a format's weights become, in both flavours, and their numbers are the same. `x`: how the input is rounded. */
static void every_format_has_its_form(void **state) {
    static const struct {
        espl_format format;
        int64_t group;
        bool gemm;
        espl_format x;
        espl_flavour flavour;
        const char *op; /* that gives the weights; "" for an initializer */
        espl_dtype type;
        int opset;
    } rows[] = {
#define W(NAME) ESPL_FORMAT_##NAME
        {W(S8), 0, false, W(F32), ESPL_FLAVOUR_PORTABLE, "DequantizeLinear", ESPL_S8, 13},
        {W(S8), 0, false, W(F32), ESPL_FLAVOUR_ORT_X86, "DequantizeLinear", ESPL_S8, 13},
        {W(S8), 0, true, W(F32), ESPL_FLAVOUR_ORT_X86, "Mul", ESPL_S8, 13},
        {W(S8), 0, true, W(U8), ESPL_FLAVOUR_ORT_X86, "DequantizeLinear", ESPL_S8, 13},
        {W(S4), 0, true, W(F32), ESPL_FLAVOUR_PORTABLE, "DequantizeLinear", ESPL_S4, 21},
        {W(S4), 0, true, W(U8), ESPL_FLAVOUR_ORT_X86, "DequantizeLinear", ESPL_S8, 13},
        {W(S4), 0, false, W(F32), ESPL_FLAVOUR_ORT_X86, "DequantizeLinear", ESPL_S4, 21},
        {W(S4), GROUP, false, W(F32), ESPL_FLAVOUR_PORTABLE, "DequantizeLinear", ESPL_S4, 21},
        {W(S4), GROUP, true, W(F32), ESPL_FLAVOUR_ORT_X86, "DequantizeLinear", ESPL_S4, 21},
        {W(S8), GROUP, false, W(F32), ESPL_FLAVOUR_PORTABLE, "DequantizeLinear", ESPL_S8, 21},
        {W(S2), 0, false, W(F32), ESPL_FLAVOUR_PORTABLE, "DequantizeLinear", ESPL_S4, 21},
        {W(S5), 0, false, W(F32), ESPL_FLAVOUR_PORTABLE, "DequantizeLinear", ESPL_S8, 13},
        {W(S7), 0, true, W(S8), ESPL_FLAVOUR_ORT_X86, "DequantizeLinear", ESPL_S8, 13},
        {W(S16), 0, false, W(F32), ESPL_FLAVOUR_PORTABLE, "DequantizeLinear", ESPL_S16, 21},
        {W(S16), 0, false, W(F32), ESPL_FLAVOUR_ORT_X86, "Mul", ESPL_S16, 21},
        {W(E4M3), 0, false, W(F32), ESPL_FLAVOUR_PORTABLE, "DequantizeLinear", ESPL_E4M3, 19},
        {W(E4M3), 0, false, W(E4M3), ESPL_FLAVOUR_ORT_X86, "Mul", ESPL_E4M3, 19},
        {W(E5M2), GROUP, false, W(F32), ESPL_FLAVOUR_PORTABLE, "DequantizeLinear", ESPL_E5M2, 21},
        {W(TERNARY), 0, false, W(F32), ESPL_FLAVOUR_PORTABLE, "DequantizeLinear", ESPL_S4, 21},
        {W(BINARY), 0, true, W(U8), ESPL_FLAVOUR_ORT_X86, "DequantizeLinear", ESPL_S8, 13},
        {W(LOG3), 0, false, W(F32), ESPL_FLAVOUR_PORTABLE, "DequantizeLinear", ESPL_S4, 21},
        {W(LOG4), 0, false, W(F32), ESPL_FLAVOUR_PORTABLE, "DequantizeLinear", ESPL_S8, 13},
        {W(LOG5), 0, false, W(F32), ESPL_FLAVOUR_PORTABLE, "DequantizeLinear", ESPL_S16, 21},
        {W(LOG6), 0, false, W(F32), ESPL_FLAVOUR_PORTABLE, "", ESPL_F32, 13},
#undef W
    };
    fixture *f = *state;
    for (size_t i = 0; i < ESPL_COUNT(rows); i++) {
        espl_graph *g = weights_graph(f, rows[i].format, rows[i].group, rows[i].gemm, rows[i].x);
        const espl__value *w = espl__graph_find(g, "w");
        float before[ROWS * COLUMNS], after[ROWS * COLUMNS];
        assert_true(espl__quant_read(w->constant, &w->quant, before));
        espl_graph *r = write_and_read(f, g, &(espl_onnx_options){.flavour = rows[i].flavour});
        if (r->opset != rows[i].opset) fail_msg("row %zu: operator set %d", i, r->opset);
        const espl__node *from = espl__graph_find(r, "w")->producer;
        assert_string_equal(from ? from->op->name : "", rows[i].op);
        const espl__value *c = from ? from->inputs[0] : espl__graph_find(r, "w");
        if (c->producer) c = c->producer->inputs[0];
        assert_int_equal(c->constant->dtype, rows[i].type);
        assert_int_equal(from ? espl__attr_int(from, "block_size", 0) : 0, rows[i].group);
        if (espl__passes_run(r, &f->diag) != ESPL_OK) fail_msg("%s", f->diag.message);
        for (int n = 0; n < r->node_count; n++) {
            if (strcmp(r->nodes[n]->name, "layer") != 0) continue;
            w = r->nodes[n]->inputs[1];
            assert_true(w->constant && espl__quant_read(w->constant, &w->quant, after));
        }
        assert_memory_equal(before, after, sizeof before);
        espl_graph_destroy(&r);
        espl_graph_destroy(&g);
    }
}

/* How a rounded input is written: the nodes between it and the layer, from the layer back. */
static void activations_of_every_format(void **state) {
    static const struct {
        espl_format format;
        espl_flavour flavour;
        const char *ops;
    } rows[] = {
        {ESPL_FORMAT_U4, ESPL_FLAVOUR_PORTABLE, "DequantizeLinear QuantizeLinear Clip "},
        {ESPL_FORMAT_S6, ESPL_FLAVOUR_ORT_X86, "DequantizeLinear QuantizeLinear Clip "},
        {ESPL_FORMAT_S16, ESPL_FLAVOUR_ORT_X86, "DequantizeLinear QuantizeLinear "},
        {ESPL_FORMAT_E4M3, ESPL_FLAVOUR_PORTABLE, "Mul Cast Cast Div "},
        {ESPL_FORMAT_E5M2, ESPL_FLAVOUR_ORT_X86, "Mul Cast Cast Div "},
        {ESPL_FORMAT_F16, ESPL_FLAVOUR_PORTABLE, "Cast Cast Clip "},
        {ESPL_FORMAT_BF16, ESPL_FLAVOUR_ORT_X86, "Cast Cast "},
        {ESPL_FORMAT_LOG4, ESPL_FLAVOUR_PORTABLE, ""},
    };
    fixture *f = *state;
    for (size_t i = 0; i < ESPL_COUNT(rows); i++) {
        espl_graph *g = weights_graph(f, ESPL_FORMAT_S8, 0, true, rows[i].format);
        espl_graph *r = write_and_read(f, g, &(espl_onnx_options){.flavour = rows[i].flavour});
        char ops[128] = "";
        const espl__value *v = producer(r, "y")->inputs[0];
        for (; v->producer; v = v->producer->inputs[0]) {
            strcat(ops, v->producer->op->name);
            strcat(ops, " ");
        }
        assert_string_equal(ops, rows[i].ops);
        assert_string_equal(v->name, "x");
        espl_graph_destroy(&r);
        espl_graph_destroy(&g);
    }
}

/* A graph that cannot be carried to operator set 21 keeps the form that an earlier one has. */
static void older_operator_sets_do_with_less(void **state) {
    fixture *f = *state;
    for (int group = 0; group <= GROUP; group += GROUP) {
        espl_graph *g = weights_graph(f, ESPL_FORMAT_S4, group, false, ESPL_FORMAT_F32);
        espl__node *n = espl__graph_node(g, espl__op_find("", "GroupNormalization"), "norm", 3, 1, 1);
        const int64_t one[1] = {COLUMNS};
        const float ones[COLUMNS] = {1, 1, 1};
        espl__value *z = new_value(g, "z", 2, y_shape);
        n->inputs[0] = g->outputs[0];
        n->inputs[1] = n->inputs[2] = new_constant(g, "ones", ESPL_F32, 1, one, ones);
        n->opset = g->opset = 18;
        assert_true(espl__attr_set_int(g, n, "num_groups", 1));
        espl__node_set_output(n, 0, z);
        for (int i = 0; i < g->node_count; i++) g->nodes[i]->opset = 18;
        set_io(g, g->inputs[0], z);
        espl_graph *r = write_and_read(f, g, NULL);
        assert_int_equal(r->opset, 18);
        const espl__value *w = espl__graph_find(r, "w");
        assert_int_equal(w->producer ? w->producer->inputs[0]->constant->dtype : w->constant->dtype,
                         group ? ESPL_F32 : ESPL_S8);
        espl_graph_destroy(&r);
        espl_graph_destroy(&g);
    }
}

static void flavours_have_names(void **state) {
    (void)state;
    for (int i = 0; i < ESPL_FLAVOUR_COUNT; i++) {
        espl_flavour back;
        assert_true(espl_flavour_parse(espl_flavour_name((espl_flavour)i), &back));
        assert_int_equal(back, i);
    }
    espl_flavour out;
    assert_false(espl_flavour_parse("ORT", &out));
    assert_string_equal(espl_flavour_name(ESPL_FLAVOUR_ORT_X86), "ort-x86");
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, onnx_setup, onnx_teardown)
    const struct CMUnitTest tests[] = {
        TEST(real_models_come_back_the_same),
        TEST(test_data_of_real_models),
        TEST(nameless_things_get_names),
        TEST(unused_constants_are_left_out),
        TEST(a_failed_write_leaves_the_old_file),
        TEST(quantizations_become_qdq),
        TEST(zeros_stay_in_place),
        TEST(halves_get_a_cast),
        TEST(quantized_models_come_back),
        TEST(names_of_pairs_give_way),
        TEST(what_the_standard_cannot_say_is_told),
        TEST(impossible_quantizations_are_refused),
        TEST(every_format_has_its_form),
        TEST(activations_of_every_format),
        TEST(older_operator_sets_do_with_less),
        TEST(flavours_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
