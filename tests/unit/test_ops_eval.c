/* Evaluation stays inside its buffers, whatever attributes a node that inference accepted has. */
#include "node_text.h"

static const char *const int_lists[] = {"kernel_shape",   "strides",    "dilations", "pads", "axes",
                                        "perm",           "split",      "starts",    "ends", "output_shape",
                                        "output_padding", "value_ints", "shape"};
static const char *const ints[] = {"axis",
                                   "group",
                                   "keepdims",
                                   "transA",
                                   "transB",
                                   "ceil_mode",
                                   "count_include_pad",
                                   "allowzero",
                                   "blocksize",
                                   "size",
                                   "num_groups",
                                   "start",
                                   "end",
                                   "to",
                                   "hidden_size",
                                   "layout",
                                   "exclusive",
                                   "reverse",
                                   "largest",
                                   "select_last_index",
                                   "num_outputs",
                                   "p",
                                   "linear_before_reset",
                                   "noop_with_empty_axes",
                                   "k",
                                   "fmod",
                                   "antialias",
                                   "exclude_outside",
                                   "align_corners",
                                   "output_height",
                                   "output_width",
                                   "sampling_ratio",
                                   "storage_order",
                                   "inverse",
                                   "onesided",
                                   "periodic",
                                   "output_datatype",
                                   "batch_axis",
                                   "time_axis",
                                   "sample_size",
                                   "ignore_index",
                                   "training_mode"};
static const struct {
    const char *name, *values[7];
} texts[] = {{"auto_pad", {"SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET"}},
             {"mode", {"constant", "reflect", "edge", "cubic", "linear", "CRD"}},
             {"padding_mode", {"zeros", "border", "reflection"}},
             {"equation", {"ij,jk->ik", "ij,jk", "...i,ij->j...", "ii,jj", "ab,bc->", "a...,b..."}},
             {"direction", {"forward", "reverse", "bidirectional", "LEFT", "RIGHT"}},
             {"reduction", {"none", "sum", "mean", "add", "mul", "max"}},
             {"coordinate_transformation_mode",
              {"asymmetric", "align_corners", "pytorch_half_pixel", "half_pixel", "tf_crop_and_resize"}}};

static int64_t some_int(espl__rng *rng) {
    static const int64_t odd[] = {INT64_MIN, INT64_MAX, -1, 0, 1, INT32_MAX, INT32_MIN, 1 << 30, -2};
    uint32_t r = espl__rng_below(rng, 16);
    return r < 3 ? odd[espl__rng_below(rng, ESPL_COUNT(odd))]
                 : (int64_t)espl__rng_below(rng, r < 8 ? 3 : 6) - (r == 15);
}

/* ASCII, letters whose other case is longer or shorter, bytes that are no UTF-8, and nothing. */
static void random_texts(espl_text *out, int64_t count, espl__rng *rng) {
    static const char *const some[] = {"", "Monday", "\xc8\xba\xc8\xbe", "\xe2\x84\xaa \xc5\xbf", "\xff\xc3", "1e3", "-7", "12345678901234567890"};
    for (int64_t i = 0; i < count; i++) {
        const char *text = some[espl__rng_below(rng, ESPL_COUNT(some))];
        out[i] = (espl_text){*text ? text : NULL, strlen(text)};
    }
}

static espl__value *random_value(espl_graph *g, espl__rng *rng, espl_dtype dtype) {
    _Alignas(espl_text) uint64_t data[8 * 8];
    double numbers[8];
    espl_shape shape = {.rank = (int)espl__rng_below(rng, 6)};
    if (espl__rng_below(rng, 8) == 0) dtype = (espl_dtype)espl__rng_below(rng, ESPL_DTYPE_COUNT);
    if (espl__rng_below(rng, 3) == 0) { /* a small constant list */
        shape = (espl_shape){.rank = (int)espl__rng_below(rng, 2), .dim = {espl__rng_below(rng, 6)}};
        int64_t n = espl_shape_count(&shape);
        if (espl__rng_below(rng, 3)) dtype = ESPL_S64;
        if (dtype == ESPL_STRING) random_texts((espl_text *)data, n, rng);
        for (int64_t i = 0; i < n && dtype != ESPL_STRING; i++) {
            numbers[i] = (double)some_int(rng);
            espl__store_f64(dtype, &numbers[i], 1, (char *)data + (size_t)i * espl_dtype_bytes(dtype));
        }
        return espl__graph_constant(g, "", &(espl_tensor){dtype, shape, data});
    }
    espl__value *v = espl__graph_value(g, "");
    for (int i = 0; i < shape.rank; i++)
        shape.dim[i] = espl__rng_below(rng, 16) ? 1 + espl__rng_below(rng, 5) : 0;
    v->dtype = dtype;
    v->shape = shape;
    v->known_rank = true;
    return v;
}

/* Half of the nodes get lists that suit two spatial dimensions; the others get anything. */
static void random_attrs(espl_graph *g, espl__node *node, espl__rng *rng) {
    bool gentle = espl__rng_below(rng, 2);
    for (size_t i = 0; i < ESPL_COUNT(int_lists); i++) {
        int64_t v[8];
        bool pads = strcmp(int_lists[i], "pads") == 0;
        int n = gentle ? (pads ? 4 : 2) : (int)espl__rng_below(rng, 7);
        if (espl__rng_below(rng, 3)) continue;
        for (int k = 0; k < n; k++) v[k] = gentle ? !pads + espl__rng_below(rng, 2) : some_int(rng);
        assert_true(espl__attr_set_ints(g, node, int_lists[i], v, n));
    }
    for (size_t i = 0; i < ESPL_COUNT(ints); i++)
        if (espl__rng_below(rng, 3) == 0) assert_true(espl__attr_set_int(g, node, ints[i], some_int(rng)));
    for (size_t i = 0; i < ESPL_COUNT(texts); i++) {
        const char *value = texts[i].values[espl__rng_below(rng, 6)];
        if (value && espl__rng_below(rng, 2))
            assert_true(espl__attr_set_string(g, node, texts[i].name, value));
    }
}

/* Gives the inputs of operators with many rules shapes that belong together, so that evaluation is reached.
 */
static void plausible_shapes(espl__node *node, espl__rng *rng) {
    int64_t c = 1 + espl__rng_below(rng, 3), m = 1 + espl__rng_below(rng, 3), k = 1 + espl__rng_below(rng, 3);
    espl_shape x = {
        4, {1 + espl__rng_below(rng, 2), c, 1 + espl__rng_below(rng, 6), 1 + espl__rng_below(rng, 6)}};
    espl_shape per_channel = {1, {c}};
    const char *name = node->op->name;
    espl_shape want[8] = {x, per_channel, per_channel, per_channel, per_channel};
    int count = 5;
    if (strcmp(name, "Conv") == 0) {
        want[1] = (espl_shape){4, {m, c, k, k}};
        count = 2;
    } else if (strcmp(name, "ConvTranspose") == 0) {
        want[1] = (espl_shape){4, {c, m, k, k}};
        count = 2;
    } else if (strcmp(name, "LSTM") == 0 || strcmp(name, "GRU") == 0 || strcmp(name, "RNN") == 0) {
        int64_t gates = name[0] == 'L' ? 4 : name[0] == 'G' ? 3 : 1;
        want[0] = (espl_shape){3, {3, 2, c}};
        want[1] = (espl_shape){3, {1, gates * m, c}};
        want[2] = (espl_shape){3, {1, gates * m, m}};
        count = 3;
    } else if (strcmp(name, "MatMul") == 0 || strcmp(name, "Gemm") == 0) {
        want[0] = (espl_shape){2, {m, k}};
        want[1] = (espl_shape){2, {k, c}};
        count = 2;
    } else if (strcmp(name, "NonMaxSuppression") == 0) {
        want[0] = (espl_shape){3, {m, k, 4}};
        want[1] = (espl_shape){3, {m, c, k}};
        for (int i = 2; i < 5; i++) want[i] = (espl_shape){0};
        if (node->input_count > 2 && node->inputs[2] && !node->inputs[2]->constant)
            node->inputs[2]->dtype = ESPL_S64;
    } else if (strcmp(name, "Compress") == 0) {
        want[1] = (espl_shape){1, {k}};
        if (!node->inputs[1]->constant) node->inputs[1]->dtype = ESPL_BOOL;
        count = 2;
    } else if (!strstr(name, "Normalization")) {
        want[1] = want[2] = x; /* elementwise operators */
        count = 1 + 2 * (int)espl__rng_below(rng, 2);
    }
    for (int i = 0; i < node->input_count && i < count; i++) {
        if (!node->inputs[i] || node->inputs[i]->constant) continue;
        node->inputs[i]->shape = want[i];
    }
}

/* The lists that Slice, Pad and others read from inputs, in the length that the first input asks for. */
static void plausible_lists(espl_graph *g, espl__node *node, espl__rng *rng) {
    static const char *const names[] = {"Slice", "Pad", "Tile", "Expand", "Reshape", "Resize"};
    const char *name = node->op->name;
    bool known = false;
    for (size_t i = 0; i < ESPL_COUNT(names); i++) known = known || strcmp(name, names[i]) == 0;
    if (!known || !node->inputs[0] || node->inputs[0]->constant) return;
    int64_t data[2 * ESPL_MAX_RANK], rank = node->inputs[0]->shape.rank;
    bool axes = node->input_count > 3, pads = strcmp(name, "Pad") == 0, sizes = strcmp(name, "Resize") == 0;
    for (int i = sizes ? 3 : 1; i < node->input_count; i++) {
        if (!node->inputs[i] || (pads && i == 2)) continue;
        int64_t count = pads && i == 1 ? 2 * rank : rank;
        for (int64_t k = 0; k < count; k++)
            data[k] = sizes ? 1 + espl__rng_below(rng, 5) : axes && i == 3 ? k : some_int(rng);
        espl_shape shape = {.rank = 1, .dim = {count}};
        node->inputs[i] = espl__graph_constant(g, "", &(espl_tensor){ESPL_S64, shape, data});
    }
    if (sizes && node->input_count > 2) node->inputs[2] = NULL;
}

/* A region and scales of Resize and Upsample, of its rank. */
static void plausible_scales(espl_graph *g, espl__node *node, espl__rng *rng) {
    bool resize = strcmp(node->op->name, "Resize") == 0;
    if ((!resize && strcmp(node->op->name, "Upsample") != 0) || !node->inputs[0] || node->input_count < 2)
        return;
    float v[2 * ESPL_MAX_RANK];
    int64_t rank = node->inputs[0]->shape.rank;
    for (int i = resize ? 1 : 2; i < node->input_count + !resize && i < 3; i++) {
        int64_t count = i == 1 ? 2 * rank : rank;
        for (int64_t k = 0; k < count; k++) v[k] = 0.25f * (float)(1 + espl__rng_below(rng, 8));
        node->inputs[resize ? i : 1] = espl__graph_constant(g, "", &(espl_tensor){ESPL_F32, {1, {count}}, v});
    }
    if (node->input_count > 3) node->inputs[3] = NULL;
}

/* Operators whose inputs have types or lists of their own: inputs as above that they accept. */
static const struct {
    const char *name, *inputs;
} own_inputs[] = {{"NegativeLogLikelihoodLoss", "f32:3x2x4 s64:3x4 f32:2"},
                  {"SoftmaxCrossEntropyLoss", "f32:3x2x4 s32:3x4 f32:2"},
                  {"Scatter", "f32:3x4 s64:2x4 f32:2x4"},
                  {"ScatterElements", "u64:3x4 s32:3x2 u64:3x2"},
                  {"ScatterND", "f16:3x4x2 s64:5x2 f16:5x2"},
                  {"ReverseSequence", "f32:3x3x2 s64:3"},
                  {"Det", "f32:2x3x3"},
                  {"EyeLike", "u8:3x4"},
                  {"BitShift", "u16:3x4 u16:4"},
                  {"Multinomial", "f32:3x4"},
                  {"Dropout", "f32:5 f32: bool:"},
                  {"TfIdfVectorizer", "s64:2x7"},
                  {"Einsum", "f32:3x4 f32:4x2"},
                  {"GroupNormalization", "f32:2x4x3 f32:4 f32:4"},
                  {"GridSample", "f32:2x3x4x5 f32:2x3x2x2"},
                  {"GridSample", "f32:1x2x2x3x2 f32:1x2x2x2x3"},
                  {"AffineGrid", "f32:2x2x3 s64=2,1,3,4"},
                  {"RoiAlign", "f32:2x3x4x5 f32:3x4 s64:3"},
                  {"MaxUnpool", "f32:1x2x3x2 s64:1x2x3x2"},
                  {"MaxUnpool", "f32:1x2x3x2 s64:1x2x3x2 s64=1,2,4,9"},
                  {"Col2Im", "f32:2x12x9 s64=3,3 s64=1,1"},
                  {"Col2Im", "f32:1x12x4 s64=3,3 s64=2,2"},
                  {"CenterCropPad", "f32:3x4x5 s64=2,7,5"},
                  {"BitwiseAnd", "u16:3x1 u16:1x4"},
                  {"BitwiseOr", "s8:3x1 s8:3x4"},
                  {"BitwiseXor", "s64:3 s64:1"},
                  {"BitwiseNot", "s32:3x2"},
                  {"ConvInteger", "u8:1x2x4x4 s8:4x2x2x2 u8: s8:4"},
                  {"ConvInteger", "s8:2x2x4x4 s8:2x2x2x2"},
                  {"DFT", "f32:2x6x1"},
                  {"DFT", "f64:2x6x2 s64==9"},
                  {"STFT", "f32:2x30x1 s64==3 - s64==12"},
                  {"STFT", "f32:2x30 s64==3 f32:7 s64==8"},
                  {"HannWindow", "s64==9"},
                  {"HammingWindow", "s32==1"},
                  {"BlackmanWindow", "s64==0"},
                  {"MelWeightMatrix", "s64==4 s64==16 s64==8000 f32==0 f32==4000"},
                  {"MelWeightMatrix", "s64==4 s64==16 s64==0 f32: f32:"}};

static void plausible_inputs(espl_graph *g, espl__node *node, espl__rng *rng) {
    char text[128];
    uint32_t skip = espl__rng_below(rng, 2);
    for (size_t i = 0; i < ESPL_COUNT(own_inputs); i++) {
        if (strcmp(own_inputs[i].name, node->op->name) != 0 || skip-- > 0) continue;
        snprintf(text, sizeof text, "%s", own_inputs[i].inputs);
        int count = 0;
        for (char *rest, *word = strtok_r(text, " ", &rest); word && count < node->input_count;
             word = strtok_r(NULL, " ", &rest))
            node->inputs[count++] = parse_input(g, word);
        while (count < node->input_count) node->inputs[count++] = NULL;
        return;
    }
}

/* A pool that a TfIdfVectorizer accepts. */
static void plausible_pool(espl_graph *g, espl__node *node, espl__rng *rng) {
    const int64_t starts[] = {0, 2}, items[] = {0, 1, 1, 0, 2, 2}, places[] = {0, 3, 1, 1};
    if (strcmp(node->op->name, "TfIdfVectorizer") != 0 || espl__rng_below(rng, 2)) return;
    assert_true(espl__attr_set_ints(g, node, "ngram_counts", starts, 2) &&
                espl__attr_set_ints(g, node, "pool_int64s", items, 6) &&
                espl__attr_set_ints(g, node, "ngram_indexes", places, 4) &&
                espl__attr_set_string(g, node, "mode", "TFIDF") &&
                espl__attr_set_int(g, node, "min_gram_length", 1) &&
                espl__attr_set_int(g, node, "max_gram_length", 2) &&
                espl__attr_set_int(g, node, "max_skip_count", some_int(rng)));
}

/* Buffers of the exact size on the heap: a sanitizer sees every byte beyond; without one the canary does. */
enum { CANARY = 0x5c, CANARY_BYTES = 64 };

static void *guarded(size_t bytes, espl__rng *rng) {
    unsigned char *p = malloc(bytes + CANARY_BYTES);
    assert_non_null(p);
    for (size_t i = 0; i < bytes; i++)
        p[i] = (unsigned char)(espl__rng_below(rng, 4) ? espl__rng_below(rng, 4) : 0);
    memset(p + bytes, CANARY, CANARY_BYTES);
    return p;
}

static void release(const espl__node *node, void *p, size_t bytes) {
    for (size_t i = 0; i < CANARY_BYTES; i++)
        if (((unsigned char *)p)[bytes + i] != CANARY) fail_msg("%s wrote past a buffer", node->op->name);
    free(p);
}

/* Evaluates if every shape is known and small. Returns whether it did. */
static bool evaluate(const espl__node *node, espl__rng *rng) {
    espl_tensor t[2 * MAX_ARGS] = {0};
    espl_shape shape[2 * MAX_ARGS] = {0};
    uint64_t text[2 * MAX_ARGS] = {0};
    int total = node->input_count + node->output_count;
    for (int i = 0; i < total; i++) {
        const espl__value *v = i < node->input_count ? node->inputs[i] : node->outputs[i - node->input_count];
        if (!v) continue;
        shape[i] = v->shape;
        if (i < node->input_count ? !v->known_rank : !espl__room(node, i - node->input_count, &shape[i]))
            return false;
        if (espl_shape_count(&shape[i]) < 0 || espl_shape_count(&shape[i]) > 1 << 16) return false;
    }
    size_t scratch_bytes = node->op->scratch_bytes ? (size_t)node->op->scratch_bytes(node) : 0;
    if (scratch_bytes > 1 << 24) return false;
    void *scratch = guarded(scratch_bytes, rng);
    for (int i = 0; i < total; i++) {
        const espl__value *v = i < node->input_count ? node->inputs[i] : node->outputs[i - node->input_count];
        if (!v) continue;
        t[i] = (espl_tensor){v->dtype, shape[i], NULL};
        if (i >= node->input_count) text[i] = espl__text_made(node, i - node->input_count, t);
        t[i].data = guarded(espl__text_block(&t[i], text[i]), rng);
        if (v->dtype == ESPL_STRING) random_texts(t[i].data, espl_shape_count(&shape[i]), rng);
        if (v->constant) memcpy(t[i].data, v->constant->data, espl__tensor_bytes(&t[i]));
    }
    espl_tensor given[2 * MAX_ARGS];
    memcpy(given, t, sizeof t);
    node->op->eval(node, t, t + node->input_count, scratch);
    for (int i = node->input_count; i < total;
         i++) /* where data decide the length, it may be less than there is room for */
        assert_true(espl__tensor_bytes(&t[i]) <= espl__tensor_bytes(&given[i]));
    memcpy(t, given, sizeof t);
    for (int i = 0; i < total; i++)
        if (t[i].data) release(node, t[i].data, espl__text_block(&t[i], text[i]));
    release(node, scratch, scratch_bytes);
    return true;
}

static int random_node(fixture *f, const espl__op *op, espl__rng *rng) {
    espl_diag diag = {0};
    espl_graph_destroy(&f->graph);
    assert_int_equal(espl__graph_create(f->ctx, &f->graph, NULL), ESPL_OK);
    int most = op->max_inputs < 0 ? 3 : op->max_inputs, outputs = op->max_outputs < 0 ? 2 : op->max_outputs;
    int inputs = op->min_inputs + (int)espl__rng_below(rng, (uint32_t)(most - op->min_inputs + 1));
    if (op->min_outputs < outputs && espl__rng_below(rng, 2)) outputs = ESPL_MAX(op->min_outputs, 1);
    espl__node *node = espl__graph_node(f->graph, op, "", inputs, outputs, 0);
    espl_dtype dtype =
        espl__rng_below(rng, 3) ? ESPL_F32 : (espl_dtype)espl__rng_below(rng, ESPL_DTYPE_COUNT);
    assert_non_null(node);
    node->opset = op->since + (int)espl__rng_below(rng, (uint32_t)(op->until - op->since + 1));
    for (int i = 0; i < inputs; i++) {
        bool absent = i >= op->min_inputs && op->max_inputs >= 0 && espl__rng_below(rng, 2);
        node->inputs[i] = absent ? NULL : random_value(f->graph, rng, dtype);
    }
    if (espl__rng_below(rng, 4)) plausible_shapes(node, rng);
    if (espl__rng_below(rng, 2)) plausible_lists(f->graph, node, rng);
    if (espl__rng_below(rng, 2)) plausible_scales(f->graph, node, rng);
    if (espl__rng_below(rng, 2)) plausible_inputs(f->graph, node, rng);
    for (int i = 0; i < outputs; i++) espl__node_set_output(node, i, espl__graph_value(f->graph, ""));
    if (espl__rng_below(rng, 4)) random_attrs(f->graph, node, rng);
    plausible_pool(f->graph, node, rng);
    espl_status status = op->infer(node, &diag);
    if (status != ESPL_OK) {
        assert_int_equal(diag.status, status);
        assert_true(diag.message[0]);
        return 0;
    }
    return node->op->eval && evaluate(node, rng);
}

static void random_nodes_stay_inside_their_buffers(void **state) {
    for (int i = 0; espl__op_at(i); i++) {
        const espl__op *op = espl__op_at(i);
        espl__rng rng = espl__rng_seed(7, (uint64_t)i);
        int evaluated = 0;
        for (int k = 0; k < 1500; k++) evaluated += random_node(*state, op, &rng);
        if (evaluated == 0 && op->eval) fail_msg("%s was never evaluated", op->name);
    }
}

/* 2^40 rows of nothing: a loop over them would take an hour. */
static void empty_tensors_cost_nothing(void **state) {
    static const char *const specs[] = {
        "Conv f32:1099511627776x3x0x8 f32:4x3x1x1",
        "ConvTranspose f32:0x1099511627776x2x2 f32:1099511627776x0x2x2",
        "MaxPool f32:1099511627776x3x0x8 | kernel_shape=[1,1]",
        "GlobalAveragePool f32:0x1099511627776x2x2",
        "BatchNormalization f32:1099511627776x1x0 f32:1 f32:1 f32:1 f32:1",
        "InstanceNormalization f32:1099511627776x1x0 f32:1 f32:1",
        "LayerNormalization f32:1099511627776x0 f32:0",
        "LRN f32:1099511627776x1x0 | size=1",
        "LpNormalization f32:1099511627776x0 | axis=-1",
        "Softmax f32:1099511627776x0",
        "LogSoftmax f32:1099511627776x1x0 | axis=1",
        "Gemm f32:1099511627776x0 f32:0x0",
        "MatMul f32:1099511627776x0 f32:0x0",
        "Concat f32:1099511627776x0 f32:1099511627776x0 | axis=1",
        "Split/2 f32:1099511627776x0 | axis=1",
        "Gather f32:1099511627776x2 s64:0 | axis=1",
        "GatherElements f32:1099511627776x0 s64:1099511627776x0 | axis=0",
        "OneHot s64:0 s64==1099511627776 f32:2",
        "Trilu f32:1099511627776x0",
        "ArgMax f32:1099511627776x1x0 | axis=1",
        "CumSum f32:1099511627776x0 s64==0",
        "TopK/2 f32:1099511627776x0 s64=0",
        "QuantizeLinear f32:1099511627776x0 f32:1099511627776 u8:1099511627776 | axis=0",
        "Add f32:1099511627776x0 f32:1",
        "Transpose f32:1099511627776x0",
        "ReduceSum f32:1099511627776x0 s64=0",
        "Pad f32:1099511627776x0 s64=0,0,0,0",
        "Tile f32:1099511627776x0 s64=1,1",
        "Cast f32:1099511627776x0 | to=7",
        "Resize f32:1x0 - f32=1,1",
        "NegativeLogLikelihoodLoss f32:1099511627776x3x0 s64:1099511627776x0",
        "SoftmaxCrossEntropyLoss/2 f32:0x1099511627776 s64:0",
        "ScatterElements f32:1099511627776x0 s64:1099511627776x0 f32:1099511627776x0",
        "ScatterND f32:1099511627776x0 s64:0x1 f32:0x0",
        "ReverseSequence f32:1099511627776x2x0 s64:2",
        "EyeLike f32:1099511627776x0",
        "Det f32:0x1048576x1048576",
        "ConvInteger u8:1099511627776x3x0x8 u8:4x3x1x1",
        "Einsum f32:1099511627776x0 f32:0x0 | equation='ij,jk->ik'",
        "GridSample f32:1099511627776x0x2x2 f32:1099511627776x1x1x2",
        "RoiAlign f32:1x0x1x1 f32:1099511627776x4 s64:1099511627776",
        "MaxPool/2 f32:1099511627776x3x0x8 | kernel_shape=[1,1]",
        "LpPool f32:1099511627776x3x0x8 | kernel_shape=[1,1]",
        "Col2Im f32:1099511627776x0x4 s64=2,2 s64=1,1",
        "CenterCropPad f32:1099511627776x0 s64=5,0",
        "BitwiseAnd s32:1099511627776x0 s32:1",
        "DFT f32:1099511627776x0x4x1",
        "STFT f32:0x1099511627776x1 s64==1 f32:4",
    };
    espl__rng rng = espl__rng_seed(1, 1);
    for (size_t i = 0; i < ESPL_COUNT(specs); i++) {
        espl_diag diag = {0};
        espl__node *node = parse_node(*state, specs[i]);
        if (node->op->infer(node, &diag) != ESPL_OK) fail_msg("%s: refused: %s", specs[i], diag.message);
        bool small = true; /* a list of 2^40 scales cannot be tried here, only inferred */
        for (int k = 0; k < node->input_count; k++)
            small = small && (!node->inputs[k] || espl_shape_count(&node->inputs[k]->shape) < 1 << 16);
        assert_true(!small || evaluate(node, &rng));
    }
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {TEST(random_nodes_stay_inside_their_buffers),
                                       TEST(empty_tensors_cost_nothing)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
