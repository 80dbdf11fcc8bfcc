/* Builds networks by calls: each adds an ONNX node (or a few) behind values that are there already, and what
 * comes of it is an ordinary graph, which espl_onnx_write, espl_session_create and training take as it is.
 *
 *     espl_builder *b = NULL;
 *     espl_graph *graph = NULL;
 *     status = espl_builder_create(ctx, "small", 1, &b, &diag);            (1: the seed of the weights)
 *     espl_value x = espl_build_input(b, "x", ESPL_F32, (espl_shape){4, {ESPL_DIM_UNKNOWN, 1, 28, 28}});
 *     x = espl_build_conv(b, "conv1", x, &(espl_conv){.channels = 8, .kernel = {3}, .bias = true});
 *     x = espl_build_activation(b, "relu1", x, ESPL_ACTIVATION_RELU);
 *     x = espl_build_linear(b, "fc", espl_build_flatten(b, "flatten", x), &(espl_linear){.features = 10,
 * .bias = true}); espl_build_output(b, "logits", x); status = espl_builder_finish(&b, &graph, &diag);
 *
 * Errors stick: after the first call that fails all others do nothing and return the value of id 0, and
 * espl_builder_finish returns that first call's status and sentence. So nothing has to be checked in between;
 * a NULL builder is one that has run out of memory.
 *
 * Names: every layer has one, and no two the same; dots are customary ("layer1.0.conv1"). A layer's node and
 * its result carry it, its parameters begin with it: "layer1.0.conv1.weight". Names of what is trained end in
 * .weight or .bias.
 *
 * Weights are drawn when their layer is added, each from a random stream of its own that the seed and the
 * parameter's name decide: the same calls and seed give the same bytes, and a layer's weights do not depend
 * on other layers.
 *
 * Shapes are ONNX's: images N x channels x height x width, sequences as their operator has them. The
 * dimensions of inputs may be ESPL_DIM_UNKNOWN where no parameter's shape hangs on them: the batch as a rule.
 * Zeros in the structs below stand for the usual: a stride, dilation or group count of 1, and in lists over
 * spatial axes the entry before. */
#ifndef ESPALIER_BUILD_H
#define ESPALIER_BUILD_H

#include "espalier/graph.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct espl_builder espl_builder;

/* A value of the network being built, good for the builder it came from. Id 0: none. */
typedef struct espl_value {
    int32_t id;
} espl_value;

ESPL_NODISCARD espl_status espl_builder_create(espl_context *ctx, const char *name, uint64_t seed,
                                               espl_builder **out, espl_diag *diag);
/* The graph in *out, owned by the caller (espl_graph_destroy), verified and with inferred shapes; or NULL
 * with the status and the sentence of the call that failed. Destroys the builder either way. */
ESPL_NODISCARD espl_status espl_builder_finish(espl_builder **builder, espl_graph **out, espl_diag *diag);
/* Without a graph. */
void espl_builder_destroy(espl_builder **builder);
/* What the first failed call returned; ESPL_OK if none did. */
espl_status espl_builder_status(const espl_builder *builder);
/* Fails the builder with a sentence of the caller's, unless it has failed already. */
void espl_builder_fail(espl_builder *builder, espl_status status, const char *sentence);

/* --- inputs, outputs, parameters --------------------------------------------------------------------- */

espl_value espl_build_input(espl_builder *builder, const char *name, espl_dtype dtype, espl_shape shape);
/* Outputs are in the order of these calls. The value takes the name, unless it is an output already or an
 * input. */
void espl_build_output(espl_builder *builder, const char *name, espl_value value);
/* Recurrent state: an input NAME that begins as zeros, and an output NAME.next, of the same shape, that is
 * the input of the following batch. These outputs come behind all others. */
espl_value espl_build_state(espl_builder *builder, const char *name, espl_shape shape);
void espl_build_next(espl_builder *builder, espl_value state, espl_value next);
/* The shape of a value so far; rank 0 for none. */
espl_shape espl_build_shape(const espl_builder *builder, espl_value value);

/* X(NAME, name, what it draws): how weights begin. In is the number of inputs that a result sums over, out
 * that of the results that an input goes to. V is espl_init.value. */
#define ESPL_INIT_LIST(X)                                                                          \
    X(OWN, "own", "what the layer's description says")                                             \
    X(HE_NORMAL, "he-normal", "normal, variance 2/in (He et al. 2015)")                            \
    X(HE_UNIFORM, "he-uniform", "uniform, variance 2/in (He et al. 2015)")                         \
    X(XAVIER_NORMAL, "xavier-normal", "normal, variance 2/(in + out) (Glorot and Bengio 2010)")    \
    X(XAVIER_UNIFORM, "xavier-uniform", "uniform, variance 2/(in + out) (Glorot and Bengio 2010)") \
    X(FAN_IN, "fan-in", "uniform from -1/sqrt(in) to 1/sqrt(in), as PyTorch's layers begin")       \
    X(NORMAL, "normal", "normal, standard deviation V")                                            \
    X(UNIFORM, "uniform", "uniform from -V to V")                                                  \
    X(CONSTANT, "constant", "V; zeros without one")                                                \
    X(ONES, "ones", "ones")

typedef enum espl_init_kind {
#define X(NAME, name, text) ESPL_INIT_##NAME,
    ESPL_INIT_LIST(X)
#undef X
    ESPL_INIT_COUNT
} espl_init_kind;

typedef struct espl_init {
    espl_init_kind kind;
    float value;
} espl_init;

const char *espl_init_name(espl_init_kind kind);

/* Something to train, of any shape: [out][in][...] for the initialisers that count inputs. */
espl_value espl_build_parameter(espl_builder *builder, const char *name, espl_shape shape, espl_init init);
/* A fixed value, copied. */
espl_value espl_build_constant(espl_builder *builder, const char *name, const espl_tensor *tensor);

/* --- any operator ------------------------------------------------------------------------------------ */

/* An attribute; of the three fields the one with `kind` counts. */
typedef enum espl_attribute_kind {
    ESPL_ATTRIBUTE_INT,
    ESPL_ATTRIBUTE_INTS,
    ESPL_ATTRIBUTE_FLOAT,
    ESPL_ATTRIBUTE_TEXT
} espl_attribute_kind;
typedef struct espl_attribute {
    const char *name;
    espl_attribute_kind kind;
    const int64_t *ints; /* INT: one */
    int count;           /* INTS */
    float number;
    const char *text;
} espl_attribute;

/* A node of ONNX's own domain, as the oldest operator set from 13 on defines it that has it. Inputs of id 0
 * are left out. `outputs` receives `output_count` values, the first of the node's name, the others NAME.1,
 * NAME.2, ... */
void espl_build_node(espl_builder *builder, const char *op, const char *name, const espl_value *inputs,
                     int input_count, const espl_attribute *attributes, int attribute_count,
                     espl_value *outputs, int output_count);

/* --- layers ------------------------------------------------------------------------------------------ */

enum { ESPL_BUILD_SPATIAL = 3 };

/* VALID: none. SAME: (kernel - 1) * dilation in all, half of it before, so that the result has ceil(in /
 * stride) positions (as PyTorch's padding of kernel / 2; TensorFlow's SAME puts less in front where the
 * stride is 2). PADS: the list `pads`, all begins and then all ends. */
typedef enum espl_padding { ESPL_PADDING_VALID, ESPL_PADDING_SAME, ESPL_PADDING_PADS } espl_padding;

typedef struct espl_conv {
    int64_t channels; /* of the result */
    int64_t kernel[ESPL_BUILD_SPATIAL], stride[ESPL_BUILD_SPATIAL], dilation[ESPL_BUILD_SPATIAL];
    int64_t pads[2 * ESPL_BUILD_SPATIAL];
    espl_padding padding;
    int64_t groups;   /* as many as the input's channels: depthwise */
    bool bias;        /* begins as zeros */
    espl_init weight; /* OWN: he-normal */
} espl_conv;

/* Over as many spatial axes as the input has, 1 to 3. Weight [channels][in / groups][kernel]. */
espl_value espl_build_conv(espl_builder *builder, const char *name, espl_value x, const espl_conv *conv);
/* Transposed: stride makes the result larger; SAME: in * stride positions. Weight [in][channels /
 * groups][kernel]. */
espl_value espl_build_conv_transpose(espl_builder *builder, const char *name, espl_value x,
                                     const espl_conv *conv);

typedef struct espl_pool {
    int64_t kernel[ESPL_BUILD_SPATIAL], stride[ESPL_BUILD_SPATIAL]; /* stride 0: the kernel's size */
    int64_t pads[2 * ESPL_BUILD_SPATIAL];
    espl_padding padding;
} espl_pool;

espl_value espl_build_max_pool(espl_builder *builder, const char *name, espl_value x, const espl_pool *pool);
/* What was padded does not count. */
espl_value espl_build_average_pool(espl_builder *builder, const char *name, espl_value x,
                                   const espl_pool *pool);
/* The mean of every channel: spatial axes of 1. */
espl_value espl_build_global_average_pool(espl_builder *builder, const char *name, espl_value x);

/* Over axis 1, epsilon 1e-5, and while training a running mean that keeps 0.9. */
espl_value espl_build_batch_norm(espl_builder *builder, const char *name, espl_value x);
/* Over the last axis, epsilon 1e-5. */
espl_value espl_build_layer_norm(espl_builder *builder, const char *name, espl_value x);

/* X(NAME, name, what it is) */
#define ESPL_ACTIVATION_LIST(X)                                        \
    X(RELU, "relu", "max(x, 0)")                                       \
    X(RELU6, "relu6", "min(max(x, 0), 6)")                             \
    X(LEAKY_RELU, "leaky-relu", "x, or x/100 where negative")          \
    X(ELU, "elu", "x, or exp(x) - 1 where negative")                   \
    X(HARD_SWISH, "hard-swish", "x relu6(x + 3)/6")                    \
    X(HARD_SIGMOID, "hard-sigmoid", "relu6(x + 3)/6")                  \
    X(GELU, "gelu", "x times the normal distribution's share below x") \
    X(SILU, "silu", "x sigmoid(x)")                                    \
    X(SIGMOID, "sigmoid", "1/(1 + exp(-x))")                           \
    X(TANH, "tanh", "tanh(x)")                                         \
    X(SOFTPLUS, "softplus", "log(1 + exp(x))")

typedef enum espl_activation {
#define X(NAME, name, text) ESPL_ACTIVATION_##NAME,
    ESPL_ACTIVATION_LIST(X)
#undef X
    ESPL_ACTIVATION_COUNT
} espl_activation;

const char *espl_activation_name(espl_activation activation);
espl_value espl_build_activation(espl_builder *builder, const char *name, espl_value x,
                                 espl_activation activation);
/* Along an axis; below 0 from the last. */
espl_value espl_build_softmax(espl_builder *builder, const char *name, espl_value x, int axis);
/* A share `ratio` of elements becomes 0 while training; with 0, x itself. */
espl_value espl_build_dropout(espl_builder *builder, const char *name, espl_value x, double ratio);

/* Elementwise, broadcast. */
espl_value espl_build_add(espl_builder *builder, const char *name, espl_value a, espl_value b);
espl_value espl_build_mul(espl_builder *builder, const char *name, espl_value a, espl_value b);
espl_value espl_build_matmul(espl_builder *builder, const char *name, espl_value a, espl_value b);
espl_value espl_build_concat(espl_builder *builder, const char *name, const espl_value *values, int count,
                             int axis);

typedef struct espl_linear {
    int64_t features; /* of the result */
    bool bias;        /* begins as zeros */
    espl_init weight; /* OWN: xavier-uniform */
} espl_linear;

/* Over the last axis. Of rank 2 a Gemm with weight [features][in], else MatMul with weight [in][features],
 * and Add. */
espl_value espl_build_linear(espl_builder *builder, const char *name, espl_value x,
                             const espl_linear *linear);
/* Rows of a table [rows][width] by integer indices: one more axis, `width` long. OWN: normal, deviation 1. */
espl_value espl_build_embedding(espl_builder *builder, const char *name, espl_value indices, int64_t rows,
                                int64_t width, espl_init init);

/* --- shapes ------------------------------------------------------------------------------------------ */

/* As ONNX's Reshape: 0 keeps a dimension, -1 is what is left over. */
espl_value espl_build_reshape(espl_builder *builder, const char *name, espl_value x, espl_shape shape);
/* Axis i of the result is axis order[i] of x; as many as x has. */
espl_value espl_build_transpose(espl_builder *builder, const char *name, espl_value x, const int *order);
/* All axes behind the first become one. */
espl_value espl_build_flatten(espl_builder *builder, const char *name, espl_value x);
/* The mean along an axis, which goes. */
espl_value espl_build_mean(espl_builder *builder, const char *name, espl_value x, int axis);

/* --- sequences --------------------------------------------------------------------------------------- */

/* X(NAME, name, ONNX's operator, gates) */
#define ESPL_CELL_LIST(X)      \
    X(LSTM, "lstm", "LSTM", 4) \
    X(GRU, "gru", "GRU", 3)    \
    X(RNN, "rnn", "RNN", 1)

typedef enum espl_cell {
#define X(NAME, name, op, gates) ESPL_CELL_##NAME,
    ESPL_CELL_LIST(X)
#undef X
    ESPL_CELL_COUNT
} espl_cell;

typedef struct espl_recurrent {
    espl_cell cell;
    int64_t hidden;
    bool bidirectional; /* both ways, side by side: 2 * hidden features */
    bool state; /* begins with the graph inputs NAME.h0 (and NAME.c0 of an LSTM), ends with NAME.h0.next */
    espl_init weight; /* of weights and biases. OWN: uniform from -1/sqrt(hidden) to 1/sqrt(hidden) */
} espl_recurrent;

/* x is sequence x batch x features, the result sequence x batch x hidden. NAME.input.weight [ways][gates *
 * hidden][in], NAME.hidden.weight [ways][gates * hidden][hidden] and NAME.bias [ways][2 * gates * hidden] are
 * W, R and B of ONNX's operator, gates in its order; GRUs have linear_before_reset (as cuDNN and PyTorch).
 * `last`, if not NULL, receives the state behind the last step, ways x batch x hidden. */
espl_value espl_build_recurrent(espl_builder *builder, const char *name, espl_value x,
                                const espl_recurrent *recurrent, espl_value *last);

typedef struct espl_attention {
    int64_t heads; /* that the width divides into */
    bool causal; /* position i sees none behind it: a constant mask, so the sequence's length must be known */
    double dropout;   /* of attention weights */
    espl_init weight; /* OWN: xavier-uniform */
} espl_attention;

/* Multi-head attention (Vaswani et al. 2017) of x, batch x sequence x width, to `memory`, batch x any
 * sequence x any width, or to x itself if memory is none. Linear layers NAME.q, NAME.k, NAME.v and NAME.out,
 * with biases. */
espl_value espl_build_attention(espl_builder *builder, const char *name, espl_value x, espl_value memory,
                                const espl_attention *attention);

#ifdef __cplusplus
}
#endif
#endif
