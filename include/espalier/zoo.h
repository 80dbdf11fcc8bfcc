/* The zoo: common networks, untrained, built by name through espalier/build.h. docs/zoo.md describes each. */
#ifndef ESPALIER_ZOO_H
#define ESPALIER_ZOO_H

#include "espalier/build.h"

#ifdef __cplusplus
extern "C" {
#endif

/* X(NAME, field, name, what it changes): what may be asked of a network, beside the seed; each network takes
 * some. */
#define ESPL_ZOO_OPTION_LIST(X)                                                              \
    X(WIDTH, width, "width", "multiplies the numbers of channels")                           \
    X(CLASSES, classes, "classes", "classes to tell apart")                                  \
    X(INPUT, input, "input", "shape of one sample, channels x height x width")               \
    X(HIDDEN, hidden, "hidden", "units of a hidden or recurrent layer, or width of a token") \
    X(LAYERS, layers, "layers", "hidden or recurrent layers, or transformer blocks")         \
    X(HEADS, heads, "heads", "attention heads")                                              \
    X(VOCABULARY, vocabulary, "vocab", "different tokens")                                   \
    X(EMBEDDING, embedding, "embedding", "numbers that a token becomes")                     \
    X(SEQUENCE, sequence, "sequence", "tokens in a sequence")                                \
    X(DROPOUT, dropout, "dropout", "share of activations dropped while training")

/* All zeros: the network's own. */
typedef struct espl_zoo_options {
    uint64_t seed; /* of the weights */
    double width;
    int64_t classes;
    espl_shape input; /* without the batch; rank 0: the network's own */
    int64_t hidden, layers, heads, vocabulary, embedding, sequence;
    double dropout;
} espl_zoo_options;

enum {
#define X(NAME, field, name, text) ESPL_ZOO_BIT_##NAME,
    ESPL_ZOO_OPTION_LIST(X)
#undef X
    ESPL_ZOO_OPTION_COUNT
};

/* What the rows of the list below take. */
enum {
#define X(NAME, field, name, text) ESPL_ZOO_##NAME = 1 << ESPL_ZOO_BIT_##NAME,
    ESPL_ZOO_OPTION_LIST(X)
#undef X
    ESPL_ZOO_IMAGE = ESPL_ZOO_WIDTH | ESPL_ZOO_CLASSES | ESPL_ZOO_INPUT,
    ESPL_ZOO_RECURRENT =
        ESPL_ZOO_HIDDEN | ESPL_ZOO_LAYERS | ESPL_ZOO_VOCABULARY | ESPL_ZOO_EMBEDDING | ESPL_ZOO_DROPOUT,
    ESPL_ZOO_ATTENTION = ESPL_ZOO_HIDDEN | ESPL_ZOO_LAYERS | ESPL_ZOO_HEADS | ESPL_ZOO_DROPOUT
};

/* X(ID, name, options, data it is usually trained on, what it is) */
#define ESPL_ZOO_LIST(X)                                                                                     \
    X(mlp, "mlp", ESPL_ZOO_CLASSES | ESPL_ZOO_INPUT | ESPL_ZOO_HIDDEN | ESPL_ZOO_LAYERS | ESPL_ZOO_DROPOUT,  \
      "mnist", "fully connected, 300 and 100 hidden units (LeNet-300-100, LeCun et al. 1998)")               \
    X(lenet5, "lenet5", ESPL_ZOO_IMAGE, "mnist", "LeNet-5 (LeCun et al. 1998) with ReLU and max pooling")    \
    X(resnet8, "resnet8", ESPL_ZOO_IMAGE, "cifar10", "residual network of MLPerf Tiny: 3 stacks of 1 block") \
    X(resnet20, "resnet20", ESPL_ZOO_IMAGE, "cifar10",                                                       \
      "residual network (He et al. 2016): 3 stacks of 3 blocks")                                             \
    X(resnet32, "resnet32", ESPL_ZOO_IMAGE, "cifar10", "the same with 3 stacks of 5 blocks")                 \
    X(resnet56, "resnet56", ESPL_ZOO_IMAGE, "cifar10", "the same with 3 stacks of 9 blocks")                 \
    X(resnet18, "resnet18", ESPL_ZOO_IMAGE, "cifar10",                                                       \
      "ResNet-18 (He et al. 2016) for small images: a 3x3 stem and no pooling behind it")                    \
    X(vgg_small, "vgg-small", ESPL_ZOO_IMAGE, "cifar10",                                                     \
      "VGG (Simonyan and Zisserman 2015) of 64-64-128-128-256-256 channels, with batch norm")                \
    X(mobilenet_v1, "mobilenet-v1", ESPL_ZOO_IMAGE, "cifar10",                                               \
      "depthwise separable convolutions (Howard et al. 2017)")                                               \
    X(mobilenet_v2, "mobilenet-v2", ESPL_ZOO_IMAGE, "cifar10", "inverted residuals (Sandler et al. 2018)")   \
    X(cnn_5x5_7x7, "cnn-5x5-7x7", ESPL_ZOO_IMAGE, "cifar10", "convolutions with 7x7 and 5x5 kernels")        \
    X(lstm_lm, "lstm-lm", ESPL_ZOO_RECURRENT, "ptb",                                                         \
      "language model of 2 LSTM layers of 200 units (Zaremba et al. 2014, small)")                           \
    X(gru_lm, "gru-lm", ESPL_ZOO_RECURRENT, "ptb", "the same of GRU layers (Cho et al. 2014)")               \
    X(transformer, "transformer", ESPL_ZOO_ATTENTION | ESPL_ZOO_CLASSES | ESPL_ZOO_INPUT, "mnist",           \
      "transformer encoder (Vaswani et al. 2017) that classifies a sequence: an image's rows")               \
    X(decoder, "decoder", ESPL_ZOO_ATTENTION | ESPL_ZOO_VOCABULARY | ESPL_ZOO_SEQUENCE, "ptb",               \
      "causal language model of transformer blocks (as GPT-2, Radford et al. 2019), small")                  \
    X(vit, "vit", ESPL_ZOO_ATTENTION | ESPL_ZOO_CLASSES | ESPL_ZOO_INPUT, "cifar10",                         \
      "vision transformer (Dosovitskiy et al. 2021) for small images: patches of 4x4")

typedef struct espl_zoo_network {
    const char *name;
    uint32_t options; /* ESPL_ZOO_WIDTH, ... */
    const char *data;
    const char *text;
} espl_zoo_network;

/* NULL past the end of the list. */
const espl_zoo_network *espl_zoo_at(int index);
/* NULL if there is none of that name. */
const espl_zoo_network *espl_zoo_find(const char *name);
/* The names of the options in a set, "--width, --classes"; writes them to buf and returns buf. */
const char *espl_zoo_option_names(uint32_t set, char *buf, size_t size);

/* Builds a network with fresh weights. The batch dimension is unknown; the output is "logits", scores without
 * a softmax. Images are the input "x"; language models take "tokens", s64, sequence x batch, give sequence x
 * batch x vocabulary, and recurrent ones carry state (espl_build_state). `options` may be NULL for the
 * defaults; an option that the network does not take is refused. The graph is returned in *out, owned by the
 * caller (espl_graph_destroy). */
ESPL_NODISCARD espl_status espl_zoo_build(espl_context *ctx, const char *name,
                                          const espl_zoo_options *options, espl_graph **out, espl_diag *diag);

#ifdef __cplusplus
}
#endif
#endif
