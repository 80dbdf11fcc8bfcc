/* Transformers: a classifier of sequences, a causal language model, a vision transformer. All normalise
 * before each half of a block and once behind the last block (Xiong et al. 2020: such train without a
 * warm-up). */
#include "zoo/zoo.h"

enum { CLASSES = 10, WIDER = 4, PATCH = 4 };

/* What the three differ in. */
typedef struct blocks {
    int64_t width, heads;
    int count;
    bool causal;
    espl_activation activation;
    espl_init weight;
} blocks;

static blocks blocks_of(espl__zoo z, int64_t width, int count, int64_t heads, espl_activation activation) {
    return (blocks){.width = espl__zoo_or(z.o->hidden, width),
                    .heads = espl__zoo_or(z.o->heads, heads),
                    .count = (int)espl__zoo_or(z.o->layers, count),
                    .activation = activation};
}

/* x + dropout(attention(norm(x))) */
static espl_value attention_half(espl__zoo z, const char *at, espl_value x, const blocks *k) {
    char name[ESPL__ZOO_NAME];
    espl_attention a = {.heads = k->heads, .causal = k->causal, .dropout = z.o->dropout, .weight = k->weight};
    espl_value y = espl_build_layer_norm(z.b, espl__zoo_name(name, "%.80s.norm1", at), x);
    y = espl_build_attention(z.b, espl__zoo_name(name, "%.80s.attention", at), y, (espl_value){0}, &a);
    y = espl_build_dropout(z.b, espl__zoo_name(name, "%.80s.dropout1", at), y, z.o->dropout);
    return espl_build_add(z.b, espl__zoo_name(name, "%.80s.add1", at), x, y);
}

/* x + dropout(fc2(activation(fc1(norm(x))))) */
static espl_value dense_half(espl__zoo z, const char *at, espl_value x, const blocks *k) {
    char name[ESPL__ZOO_NAME];
    espl_linear wide = {.features = WIDER * k->width, .bias = true, .weight = k->weight}, narrow = wide;
    narrow.features = k->width;
    espl_value y = espl_build_layer_norm(z.b, espl__zoo_name(name, "%.80s.norm2", at), x);
    y = espl_build_linear(z.b, espl__zoo_name(name, "%.80s.fc1", at), y, &wide);
    y = espl_build_activation(z.b, espl__zoo_name(name, "%.80s.act", at), y, k->activation);
    y = espl_build_linear(z.b, espl__zoo_name(name, "%.80s.fc2", at), y, &narrow);
    y = espl_build_dropout(z.b, espl__zoo_name(name, "%.80s.dropout2", at), y, z.o->dropout);
    return espl_build_add(z.b, espl__zoo_name(name, "%.80s.add2", at), x, y);
}

/* Learned positions, the blocks and the last norm; x is batch x length x width. */
static espl_value encode(espl__zoo z, espl_value x, int64_t length, const blocks *k) {
    char name[ESPL__ZOO_NAME];
    espl_value place = espl_build_parameter(z.b, "position.weight", (espl_shape){2, {length, k->width}},
                                            (espl_init){ESPL_INIT_NORMAL, 0.02f});
    x = espl_build_dropout(z.b, "position.dropout", espl_build_add(z.b, "position", x, place), z.o->dropout);
    for (int i = 0; i < k->count; i++) {
        espl__zoo_name(name, "block%d", i + 1);
        x = dense_half(z, name, attention_half(z, name, x, k), k);
    }
    return espl_build_layer_norm(z.b, "norm", x);
}

/* The mean over the sequence and a linear layer. */
static void classify(espl__zoo z, espl_value x) {
    espl_linear fc = {.features = espl__zoo_or(z.o->classes, CLASSES), .bias = true};
    espl_build_output(z.b, "logits", espl_build_linear(z.b, "fc", espl_build_mean(z.b, "pool", x, 1), &fc));
}

/* A row of the image is an element of the sequence: all channels' pixels of it. */
void espl__zoo_transformer(espl__zoo z) {
    blocks k = blocks_of(z, 128, 2, 4, ESPL_ACTIVATION_RELU);
    espl_value x = espl__zoo_image(z, (espl_shape){3, {1, 28, 28}});
    espl_shape s = espl_build_shape(z.b, x);
    if (s.dim[1] > 1) x = espl_build_transpose(z.b, "rows.turned", x, (const int[]){0, 2, 1, 3});
    x = espl_build_reshape(z.b, "rows", x, (espl_shape){3, {0, s.dim[2], s.dim[1] * s.dim[3]}});
    x = espl_build_linear(z.b, "embedding", x, &(espl_linear){.features = k.width, .bias = true});
    classify(z, encode(z, x, s.dim[2], &k));
}

void espl__zoo_decoder(espl__zoo z) {
    blocks k = blocks_of(z, 128, 4, 4, ESPL_ACTIVATION_GELU);
    static const int turned[] = {1, 0, 2};
    int64_t vocabulary = espl__zoo_or(z.o->vocabulary, 10000), length = espl__zoo_or(z.o->sequence, 35);
    k.causal = true;
    k.weight = (espl_init){ESPL_INIT_NORMAL, 0.02f};
    espl_value x = espl_build_input(z.b, "tokens", ESPL_S64, (espl_shape){2, {length, ESPL_DIM_UNKNOWN}});
    x = espl_build_embedding(z.b, "embedding", espl_build_transpose(z.b, "tokens.turned", x, turned),
                             vocabulary, k.width, k.weight);
    x = espl_build_transpose(z.b, "norm.turned", encode(z, x, length, &k), turned);
    x = espl_build_linear(z.b, "out", x,
                          &(espl_linear){.features = vocabulary, .bias = true, .weight = k.weight});
    espl_build_output(z.b, "logits", x);
}

/* Patches of 4x4 by a convolution; the mean of all positions and no class token (Beyer et al. 2022). */
void espl__zoo_vit(espl__zoo z) {
    blocks k = blocks_of(z, 192, 6, 3, ESPL_ACTIVATION_GELU);
    espl_value x = espl__zoo_image(z, (espl_shape){3, {3, 32, 32}});
    espl_shape s = espl_build_shape(z.b, x);
    if (s.rank == 4 && (s.dim[2] % PATCH || s.dim[3] % PATCH))
        espl_builder_fail(z.b, ESPL_SHAPE,
                          "--input: height and width are multiples of 4, the side of a patch");
    espl_conv patch = {.channels = k.width,
                       .kernel = {PATCH},
                       .stride = {PATCH},
                       .bias = true,
                       .weight = {ESPL_INIT_XAVIER_UNIFORM, 0}};
    x = espl_build_conv(z.b, "patches", x, &patch);
    int64_t length = s.dim[2] / PATCH * (s.dim[3] / PATCH);
    x = espl_build_reshape(z.b, "patches.flat", x, (espl_shape){3, {0, k.width, length}});
    x = espl_build_transpose(z.b, "patches.turned", x, (const int[]){0, 2, 1});
    classify(z, encode(z, x, length, &k));
}
