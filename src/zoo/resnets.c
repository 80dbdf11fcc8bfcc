/* Residual networks (He et al. 2016). Where a block changes size or channels its shortcut is a 1x1
 * convolution with batch norm, the paper's option B: ResNet-20 has 272,474 parameters so, and 269,722 with
 * option A, which pads with zeros. */
#include "zoo/zoo.h"

enum { CLASSES = 10 };

/* Two 3x3 convolutions around which the input goes by. */
static espl_value block(espl__zoo z, const char *at, espl_value x, int64_t channels, int64_t stride) {
    char name[ESPL__ZOO_NAME];
    espl_conv conv = {.channels = channels, .kernel = {3}, .stride = {stride}};
    bool same = stride == 1 && espl_build_shape(z.b, x).dim[1] == channels;
    espl_value y = espl__zoo_conv(z, espl__zoo_name(name, "%.80s.conv1", at), x, &conv, ESPL_ACTIVATION_RELU);
    conv.stride[0] = 1;
    y = espl__zoo_conv(z, espl__zoo_name(name, "%.80s.conv2", at), y, &conv, ESPL_ACTIVATION_COUNT);
    conv.kernel[0] = 1;
    conv.stride[0] = stride;
    if (!same)
        x = espl__zoo_conv(z, espl__zoo_name(name, "%.80s.shortcut", at), x, &conv, ESPL_ACTIVATION_COUNT);
    y = espl_build_add(z.b, espl__zoo_name(name, "%.80s.add", at), y, x);
    return espl_build_activation(z.b, espl__zoo_name(name, "%.80s.act", at), y, ESPL_ACTIVATION_RELU);
}

/* Stacks of blocks, each twice as wide as the one before and, but for the first, half as large. */
static void resnet(espl__zoo z, int stacks, int blocks, int64_t first) {
    char name[ESPL__ZOO_NAME];
    espl_value x = espl__zoo_image(z, (espl_shape){3, {3, 32, 32}});
    espl_conv stem = {.channels = espl__zoo_channels(z, first), .kernel = {3}};
    x = espl__zoo_conv(z, "conv1", x, &stem, ESPL_ACTIVATION_RELU);
    for (int i = 0; i < stacks; i++)
        for (int j = 0; j < blocks; j++)
            x = block(z, espl__zoo_name(name, "layer%d.%d", i + 1, j), x, espl__zoo_channels(z, first << i),
                      i && !j ? 2 : 1);
    espl__zoo_classify(z, x, CLASSES);
}

void espl__zoo_resnet8(espl__zoo z) {
    resnet(z, 3, 1, 16);
}
void espl__zoo_resnet20(espl__zoo z) {
    resnet(z, 3, 3, 16);
}
void espl__zoo_resnet32(espl__zoo z) {
    resnet(z, 3, 5, 16);
}
void espl__zoo_resnet56(espl__zoo z) {
    resnet(z, 3, 9, 16);
}
void espl__zoo_resnet18(espl__zoo z) {
    resnet(z, 4, 2, 64);
}
