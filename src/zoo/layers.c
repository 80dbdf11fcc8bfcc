/* Layers of images and of features: windows, norms, activations, products. */
#include "zoo/builder.h"

#define INIT(NAME, v) ((espl_init){ESPL_INIT_##NAME, v})

/* --- windows ----------------------------------------------------------------------------------------- */

/* A struct's lists with what 0 stands for filled in. */
typedef struct window {
    int rank;
    int64_t kernel[ESPL_BUILD_SPATIAL], stride[ESPL_BUILD_SPATIAL], dilation[ESPL_BUILD_SPATIAL];
    int64_t pads[2 * ESPL_BUILD_SPATIAL];
} window;

static void fill_list(int64_t *to, const int64_t *from, int rank, int64_t first) {
    for (int i = 0; i < rank; i++) to[i] = from && from[i] ? from[i] : i ? to[i - 1] : first;
}

/* `dilation` NULL: 1. Pads of SAME sum up to (kernel - 1) dilation - `less`: 0 or, if transposed, stride - 1.
 */
static bool read_window(espl_builder *b, const char *name, const espl_conv *c, const espl_shape *x,
                        window *w) {
    w->rank = x->rank - 2;
    fill_list(w->kernel, c->kernel, w->rank, 0);
    fill_list(w->stride, c->stride, w->rank, 1);
    fill_list(w->dilation, c->dilation, w->rank, 1);
    for (int i = 0; i < w->rank; i++)
        if (w->kernel[i] < 1 || w->stride[i] < 1 || w->dilation[i] < 1 || w->kernel[i] > INT32_MAX ||
            w->dilation[i] > INT32_MAX)
            espl__build_fail(b, ESPL_INVALID, name, "kernel, stride and dilation are positive");
    if (espl__build_failed(b)) return false;
    for (int i = 0; i < w->rank; i++) {
        int64_t all = (w->kernel[i] - 1) * w->dilation[i];
        bool same = c->padding == ESPL_PADDING_SAME, given = c->padding == ESPL_PADDING_PADS;
        w->pads[i] = same ? all / 2 : given ? c->pads[i] : 0;
        w->pads[w->rank + i] = same ? all - all / 2 : given ? c->pads[w->rank + i] : 0;
    }
    return true;
}

static void set_window(espl_builder *b, espl__node *n, const window *w) {
    espl__build_ints(b, n, "kernel_shape", w->kernel, w->rank);
    espl__build_ints(b, n, "strides", w->stride, w->rank);
    espl__build_ints(b, n, "pads", w->pads, 2 * w->rank);
}

static int64_t taps_of(const window *w) {
    int64_t taps = 1;
    for (int i = 0; i < w->rank && taps < INT32_MAX; i++) taps *= w->kernel[i];
    return taps;
}

/* Input channels and groups; false after a failure. */
static bool read_channels(espl_builder *b, const char *name, const espl_conv *c, const espl_shape *x,
                          int64_t *in, int64_t *groups) {
    *in = espl__build_known(b, name, x, 1, "channels");
    *groups = c->groups ? c->groups : 1;
    if (!espl__build_failed(b) && (c->channels < 1 || *groups < 1 || *in % *groups || c->channels % *groups))
        espl__build_fail(b, ESPL_SHAPE, name, "%lld channels to %lld do not divide into %lld groups",
                         (long long)*in, (long long)c->channels, (long long)*groups);
    return !espl__build_failed(b);
}

espl_value espl_build_conv(espl_builder *b, const char *name, espl_value x, const espl_conv *c) {
    espl_shape s;
    window w;
    int64_t in, groups;
    if (!espl__build_ranked(b, name, x, 3, 2 + ESPL_BUILD_SPATIAL, &s) || !read_window(b, name, c, &s, &w) ||
        !read_channels(b, name, c, &s, &in, &groups))
        return (espl_value){0};
    espl_shape shape = {.rank = s.rank, .dim = {c->channels, in / groups}};
    for (int i = 0; i < w.rank; i++) shape.dim[2 + i] = w.kernel[i];
    double taps = (double)taps_of(&w);
    espl_value inputs[] = {x,
                           espl__build_weight(b, name, "weight", shape, c->weight, INIT(HE_NORMAL, 0),
                                              taps * (double)(in / groups),
                                              taps * (double)(c->channels / groups)),
                           c->bias ? espl__build_vector(b, name, "bias", c->channels, 0) : (espl_value){0}};
    espl__node *n = espl__build_begin(b, "Conv", name, inputs, c->bias ? 3 : 2, 1);
    set_window(b, n, &w);
    espl__build_ints(b, n, "dilations", w.dilation, w.rank);
    espl__build_int(b, n, "group", groups);
    return espl__build_end(b, n);
}

/* SAME gives in * stride: what (in - 1) * stride + extent has more is cut off, what it lacks is added at the
 * end. */
static void same_transposed(window *w, int64_t *extra) {
    for (int i = 0; i < w->rank; i++) {
        int64_t more = (w->kernel[i] - 1) * w->dilation[i] + 1 - w->stride[i];
        extra[i] = more < 0 ? -more : 0;
        w->pads[i] = more > 0 ? more / 2 : 0;
        w->pads[w->rank + i] = more > 0 ? more - more / 2 : 0;
    }
}

espl_value espl_build_conv_transpose(espl_builder *b, const char *name, espl_value x, const espl_conv *c) {
    espl_shape s;
    window w;
    int64_t in, groups, extra[ESPL_BUILD_SPATIAL] = {0};
    if (!espl__build_ranked(b, name, x, 3, 2 + ESPL_BUILD_SPATIAL, &s) || !read_window(b, name, c, &s, &w) ||
        !read_channels(b, name, c, &s, &in, &groups))
        return (espl_value){0};
    if (c->padding == ESPL_PADDING_SAME) same_transposed(&w, extra);
    espl_shape shape = {.rank = s.rank, .dim = {in, c->channels / groups}};
    for (int i = 0; i < w.rank; i++) shape.dim[2 + i] = w.kernel[i];
    double taps = (double)taps_of(&w);
    espl_value inputs[] = {x,
                           espl__build_weight(b, name, "weight", shape, c->weight, INIT(HE_NORMAL, 0),
                                              taps * (double)(in / groups),
                                              taps * (double)(c->channels / groups)),
                           c->bias ? espl__build_vector(b, name, "bias", c->channels, 0) : (espl_value){0}};
    espl__node *n = espl__build_begin(b, "ConvTranspose", name, inputs, c->bias ? 3 : 2, 1);
    set_window(b, n, &w);
    espl__build_ints(b, n, "dilations", w.dilation, w.rank);
    espl__build_int(b, n, "group", groups);
    espl__build_ints(b, n, "output_padding", extra, w.rank);
    return espl__build_end(b, n);
}

static espl_value add_pool(espl_builder *b, const char *op, const char *name, espl_value x,
                           const espl_pool *pool) {
    espl_shape s;
    window w;
    espl_conv c = {.padding = pool->padding};
    if (!espl__build_ranked(b, name, x, 3, 2 + ESPL_BUILD_SPATIAL, &s)) return (espl_value){0};
    memcpy(c.pads, pool->pads, sizeof c.pads);
    memcpy(c.kernel, pool->kernel, sizeof c.kernel);
    fill_list(c.stride, pool->stride, s.rank - 2, pool->kernel[0]);
    if (!pool->stride[0]) fill_list(c.stride, pool->kernel, s.rank - 2, 0);
    if (!read_window(b, name, &c, &s, &w)) return (espl_value){0};
    espl__node *n = espl__build_begin(b, op, name, &x, 1, 1);
    set_window(b, n, &w);
    return espl__build_end(b, n);
}

espl_value espl_build_max_pool(espl_builder *b, const char *name, espl_value x, const espl_pool *pool) {
    return add_pool(b, "MaxPool", name, x, pool);
}

espl_value espl_build_average_pool(espl_builder *b, const char *name, espl_value x, const espl_pool *pool) {
    return add_pool(b, "AveragePool", name, x, pool);
}

espl_value espl_build_global_average_pool(espl_builder *b, const char *name, espl_value x) {
    return espl__build_simple(b, "GlobalAveragePool", name, x, (espl_value){0});
}

/* --- norms ------------------------------------------------------------------------------------------- */

enum { NORM_VECTORS = 4 };
static const float norm_epsilon = 1e-5f;

espl_value espl_build_batch_norm(espl_builder *b, const char *name, espl_value x) {
    espl_shape s;
    if (!espl__build_ranked(b, name, x, 2, ESPL_MAX_RANK, &s)) return (espl_value){0};
    int64_t channels = espl__build_known(b, name, &s, 1, "channels");
    espl_value inputs[1 + NORM_VECTORS] = {x, espl__build_vector(b, name, "weight", channels, 1),
                                           espl__build_vector(b, name, "bias", channels, 0),
                                           espl__build_vector(b, name, "mean", channels, 0),
                                           espl__build_vector(b, name, "variance", channels, 1)};
    espl__node *n = espl__build_begin(b, "BatchNormalization", name, inputs, 1 + NORM_VECTORS, 1);
    espl__build_float(b, n, "epsilon", norm_epsilon);
    espl__build_float(b, n, "momentum", 0.9f);
    return espl__build_end(b, n);
}

espl_value espl_build_layer_norm(espl_builder *b, const char *name, espl_value x) {
    espl_shape s;
    if (!espl__build_ranked(b, name, x, 1, ESPL_MAX_RANK, &s)) return (espl_value){0};
    int64_t width = espl__build_known(b, name, &s, s.rank - 1, "features");
    espl_value inputs[] = {x, espl__build_vector(b, name, "weight", width, 1),
                           espl__build_vector(b, name, "bias", width, 0)};
    espl__node *n = espl__build_begin(b, "LayerNormalization", name, inputs, 3, 1);
    espl__build_float(b, n, "epsilon", norm_epsilon);
    return espl__build_end(b, n);
}

/* --- elementwise ------------------------------------------------------------------------------------- */

static const char *const activation_names[] = {
#define X(NAME, name, text) name,
    ESPL_ACTIVATION_LIST(X)
#undef X
};

const char *espl_activation_name(espl_activation activation) {
    return activation_names[activation];
}

static espl_value relu6(espl_builder *b, const char *name, espl_value x) {
    espl_value inputs[] = {x, espl__build_scalar(b, name, "least", 0),
                           espl__build_scalar(b, name, "most", 6)};
    return espl__build_end(b, espl__build_begin(b, "Clip", name, inputs, 3, 1));
}

static espl_value silu(espl_builder *b, const char *name, espl_value x) {
    char part[ESPL__BUILD_NAME];
    espl_value gate =
        espl__build_simple(b, "Sigmoid", espl__build_join(b, name, "gate", part), x, (espl_value){0});
    return espl_build_mul(b, name, x, gate);
}

/* An operator of one input that may have an attribute alpha. */
static espl_value unary(espl_builder *b, const char *op, const char *name, espl_value x, float alpha) {
    espl__node *n = espl__build_begin(b, op, name, &x, 1, 1);
    if (alpha != 0) espl__build_float(b, n, "alpha", alpha);
    return espl__build_end(b, n);
}

espl_value espl_build_activation(espl_builder *b, const char *name, espl_value x,
                                 espl_activation activation) {
    switch (activation) {
        case ESPL_ACTIVATION_RELU:
            return unary(b, "Relu", name, x, 0);
        case ESPL_ACTIVATION_RELU6:
            return relu6(b, name, x);
        case ESPL_ACTIVATION_LEAKY_RELU:
            return unary(b, "LeakyRelu", name, x, 0.01f);
        case ESPL_ACTIVATION_ELU:
            return unary(b, "Elu", name, x, 1);
        case ESPL_ACTIVATION_HARD_SWISH:
            return unary(b, "HardSwish", name, x, 0);
        case ESPL_ACTIVATION_HARD_SIGMOID:
            return unary(b, "HardSigmoid", name, x, 1.0f / 6);
        case ESPL_ACTIVATION_GELU:
            return unary(b, "Gelu", name, x, 0);
        case ESPL_ACTIVATION_SILU:
            return silu(b, name, x);
        case ESPL_ACTIVATION_SIGMOID:
            return unary(b, "Sigmoid", name, x, 0);
        case ESPL_ACTIVATION_TANH:
            return unary(b, "Tanh", name, x, 0);
        case ESPL_ACTIVATION_SOFTPLUS:
            return unary(b, "Softplus", name, x, 0);
        case ESPL_ACTIVATION_COUNT:
            break;
    }
    espl__build_fail(b, ESPL_INVALID, name, "its activation is none");
    return (espl_value){0};
}

espl_value espl_build_softmax(espl_builder *b, const char *name, espl_value x, int axis) {
    espl__node *n = espl__build_begin(b, "Softmax", name, &x, 1, 1);
    espl__build_int(b, n, "axis", axis);
    return espl__build_end(b, n);
}

espl_value espl_build_dropout(espl_builder *b, const char *name, espl_value x, double ratio) {
    if (!(ratio >= 0 && ratio < 1))
        espl__build_fail(b, ESPL_INVALID, name, "a share of %g cannot be dropped", ratio);
    if (ratio == 0) return x;
    return espl__build_simple(b, "Dropout", name, x, espl__build_scalar(b, name, "ratio", (float)ratio));
}

espl_value espl_build_add(espl_builder *b, const char *name, espl_value x, espl_value y) {
    return espl__build_simple(b, "Add", name, x, y);
}

espl_value espl_build_mul(espl_builder *b, const char *name, espl_value x, espl_value y) {
    return espl__build_simple(b, "Mul", name, x, y);
}

espl_value espl_build_matmul(espl_builder *b, const char *name, espl_value x, espl_value y) {
    return espl__build_simple(b, "MatMul", name, x, y);
}

espl_value espl_build_concat(espl_builder *b, const char *name, const espl_value *values, int count,
                             int axis) {
    espl__node *n = espl__build_begin(b, "Concat", name, values, count, 1);
    espl__build_int(b, n, "axis", axis);
    return espl__build_end(b, n);
}

/* --- products ---------------------------------------------------------------------------------------- */

static espl_value gemm(espl_builder *b, const char *name, espl_value x, const espl_linear *l, int64_t in) {
    espl_shape shape = {2, {l->features, in}};
    espl_value inputs[] = {x,
                           espl__build_weight(b, name, "weight", shape, l->weight, INIT(XAVIER_UNIFORM, 0),
                                              (double)in, (double)l->features),
                           l->bias ? espl__build_vector(b, name, "bias", l->features, 0) : (espl_value){0}};
    espl__node *n = espl__build_begin(b, "Gemm", name, inputs, l->bias ? 3 : 2, 1);
    espl__build_int(b, n, "transB", 1);
    return espl__build_end(b, n);
}

static espl_value product(espl_builder *b, const char *name, espl_value x, const espl_linear *l, int64_t in) {
    char part[ESPL__BUILD_NAME];
    espl_shape shape = {2, {in, l->features}};
    espl_value w = espl__build_weight(b, name, "weight", shape, l->weight, INIT(XAVIER_UNIFORM, 0),
                                      (double)in, (double)l->features);
    if (!l->bias) return espl_build_matmul(b, name, x, w);
    espl_value y = espl_build_matmul(b, espl__build_join(b, name, "product", part), x, w);
    return espl_build_add(b, name, y, espl__build_vector(b, name, "bias", l->features, 0));
}

espl_value espl_build_linear(espl_builder *b, const char *name, espl_value x, const espl_linear *l) {
    espl_shape s;
    if (!espl__build_ranked(b, name, x, 2, ESPL_MAX_RANK, &s)) return (espl_value){0};
    int64_t in = espl__build_known(b, name, &s, s.rank - 1, "features");
    if (l->features < 1) espl__build_fail(b, ESPL_INVALID, name, "a layer has at least one feature");
    if (espl__build_failed(b)) return (espl_value){0};
    return s.rank == 2 ? gemm(b, name, x, l, in) : product(b, name, x, l, in);
}

espl_value espl_build_embedding(espl_builder *b, const char *name, espl_value indices, int64_t rows,
                                int64_t width, espl_init init) {
    if (rows < 1 || width < 1)
        espl__build_fail(b, ESPL_INVALID, name, "a table has at least one row and one column");
    espl_value table = espl__build_weight(b, name, "weight", (espl_shape){2, {rows, width}}, init,
                                          INIT(NORMAL, 1), (double)rows, (double)width);
    espl_value inputs[] = {table, indices};
    espl__node *n = espl__build_begin(b, "Gather", name, inputs, 2, 1);
    espl__build_int(b, n, "axis", 0);
    return espl__build_end(b, n);
}

/* --- shapes ------------------------------------------------------------------------------------------ */

espl_value espl_build_reshape(espl_builder *b, const char *name, espl_value x, espl_shape shape) {
    if (shape.rank < 0 || shape.rank > ESPL_MAX_RANK)
        espl__build_fail(b, ESPL_INVALID, name, "the new shape is none");
    if (espl__build_failed(b)) return (espl_value){0};
    return espl__build_simple(b, "Reshape", name, x,
                              espl__build_list(b, name, "shape", shape.dim, shape.rank));
}

espl_value espl_build_transpose(espl_builder *b, const char *name, espl_value x, const int *order) {
    int64_t perm[ESPL_MAX_RANK];
    espl_shape s;
    if (!espl__build_ranked(b, name, x, 1, ESPL_MAX_RANK, &s)) return (espl_value){0};
    for (int i = 0; i < s.rank; i++) perm[i] = order[i];
    espl__node *n = espl__build_begin(b, "Transpose", name, &x, 1, 1);
    espl__build_ints(b, n, "perm", perm, s.rank);
    return espl__build_end(b, n);
}

espl_value espl_build_flatten(espl_builder *b, const char *name, espl_value x) {
    espl__node *n = espl__build_begin(b, "Flatten", name, &x, 1, 1);
    espl__build_int(b, n, "axis", 1);
    return espl__build_end(b, n);
}

espl_value espl_build_mean(espl_builder *b, const char *name, espl_value x, int axis) {
    int64_t axes[] = {axis};
    espl__node *n = espl__build_begin(b, "ReduceMean", name, &x, 1, 1);
    espl__build_ints(b, n, "axes", axes, 1);
    espl__build_int(b, n, "keepdims", 0);
    return espl__build_end(b, n);
}
