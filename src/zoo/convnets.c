/* Networks of images without residuals: perceptron, LeNet-5, VGG, MobileNet v1, and one with large kernels.
 */
#include "zoo/zoo.h"

enum { CLASSES = 10 };
static const espl_shape digit = {3, {1, 28, 28}}, small_image = {3, {3, 32, 32}};

static espl_value hidden_layer(espl__zoo z, int index, espl_value x, int64_t features) {
    char name[ESPL__ZOO_NAME];
    espl_linear layer = {.features = features, .bias = true, .weight = {ESPL_INIT_HE_UNIFORM, 0}};
    x = espl_build_linear(z.b, espl__zoo_name(name, "fc%d", index), x, &layer);
    x = espl_build_activation(z.b, espl__zoo_name(name, "fc%d.act", index), x, ESPL_ACTIVATION_RELU);
    return espl_build_dropout(z.b, espl__zoo_name(name, "fc%d.dropout", index), x, z.o->dropout);
}

/* The last linear layer, of index `index`. */
static void classes(espl__zoo z, int index, espl_value x) {
    char name[ESPL__ZOO_NAME];
    espl_linear layer = {.features = espl__zoo_or(z.o->classes, CLASSES), .bias = true};
    espl_build_output(z.b, "logits", espl_build_linear(z.b, espl__zoo_name(name, "fc%d", index), x, &layer));
}

void espl__zoo_mlp(espl__zoo z) {
    static const int64_t own[] = {300, 100};
    espl_value x = espl_build_flatten(z.b, "flatten", espl__zoo_image(z, digit));
    int layers = (int)espl__zoo_or(z.o->layers, 2);
    for (int i = 0; i < layers; i++) x = hidden_layer(z, i + 1, x, espl__zoo_or(z.o->hidden, own[i > 0]));
    classes(z, layers + 1, x);
}

static espl_value pool(espl__zoo z, const char *name, espl_value x) {
    return espl_build_max_pool(z.b, name, x, &(espl_pool){.kernel = {2}});
}

static espl_value lenet_stage(espl__zoo z, int index, espl_value x, int64_t channels, espl_padding padding) {
    char name[ESPL__ZOO_NAME];
    espl_conv conv = {
        .channels = espl__zoo_channels(z, channels), .kernel = {5}, .padding = padding, .bias = true};
    x = espl_build_conv(z.b, espl__zoo_name(name, "conv%d", index), x, &conv);
    x = espl_build_activation(z.b, espl__zoo_name(name, "conv%d.act", index), x, ESPL_ACTIVATION_RELU);
    return pool(z, espl__zoo_name(name, "pool%d", index), x);
}

/* The paper's images are 32x32; 28x28 ones are padded to that. */
void espl__zoo_lenet5(espl__zoo z) {
    espl_value x = espl__zoo_image(z, digit);
    bool large = espl_build_shape(z.b, x).dim[2] >= 32;
    x = lenet_stage(z, 1, x, 6, large ? ESPL_PADDING_VALID : ESPL_PADDING_SAME);
    x = lenet_stage(z, 2, x, 16, ESPL_PADDING_VALID);
    x = hidden_layer(z, 1, espl_build_flatten(z.b, "flatten", x), espl__zoo_channels(z, 120));
    classes(z, 3, hidden_layer(z, 2, x, espl__zoo_channels(z, 84)));
}

void espl__zoo_vgg_small(espl__zoo z) {
    static const int64_t channels[] = {64, 64, 128, 128, 256, 256};
    char name[ESPL__ZOO_NAME];
    espl_value x = espl__zoo_image(z, small_image);
    for (int i = 0; i < 6; i++) {
        espl_conv conv = {.channels = espl__zoo_channels(z, channels[i]), .kernel = {3}};
        x = espl__zoo_conv(z, espl__zoo_name(name, "conv%d", i + 1), x, &conv, ESPL_ACTIVATION_RELU);
        if (i % 2) x = pool(z, espl__zoo_name(name, "pool%d", i / 2 + 1), x);
    }
    classes(z, 1, espl_build_flatten(z.b, "flatten", x));
}

void espl__zoo_cnn_5x5_7x7(espl__zoo z) {
    static const int64_t channels[] = {32, 64, 64, 128}, kernel[] = {7, 5, 5, 7};
    char name[ESPL__ZOO_NAME];
    espl_value x = espl__zoo_image(z, small_image);
    for (int i = 0; i < 4; i++) {
        espl_conv conv = {.channels = espl__zoo_channels(z, channels[i]), .kernel = {kernel[i]}};
        x = espl__zoo_conv(z, espl__zoo_name(name, "conv%d", i + 1), x, &conv, ESPL_ACTIVATION_RELU);
        if (i % 2 == 0) x = pool(z, espl__zoo_name(name, "pool%d", i / 2 + 1), x);
    }
    espl__zoo_classify(z, x, CLASSES);
}
