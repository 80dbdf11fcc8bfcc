/* MobileNets. Images of fewer than 64 positions a side are not halved by the first convolution, nor, in v2,
 * by the second stage, as is usual for 32x32. */
#include "zoo/zoo.h"

enum { CLASSES = 10, LARGE = 64, MULTIPLE = 8 };
static const espl_shape small_image = {3, {3, 32, 32}};

/* Channels times the width to the nearest multiple of 8, as in both papers' code: at least 8, and not less
 * than 90 % of what was asked for. */
static int64_t channels_of(double width, int64_t channels) {
    double wanted = (double)channels * (width > 0 ? width : 1);
    int64_t nearest = (int64_t)(wanted + MULTIPLE / 2.0) / MULTIPLE * MULTIPLE;
    if (nearest < MULTIPLE) nearest = MULTIPLE;
    return (double)nearest < 0.9 * wanted ? nearest + MULTIPLE : nearest;
}

static espl_value pointwise(espl__zoo z, const char *name, espl_value x, int64_t channels,
                            espl_activation activation) {
    return espl__zoo_conv(z, name, x, &(espl_conv){.channels = channels, .kernel = {1}}, activation);
}

static espl_value depthwise(espl__zoo z, const char *name, espl_value x, int64_t stride,
                            espl_activation activation) {
    int64_t channels = espl_build_shape(z.b, x).dim[1];
    espl_conv conv = {.channels = channels, .groups = channels, .kernel = {3}, .stride = {stride}};
    return espl__zoo_conv(z, name, x, &conv, activation);
}

void espl__zoo_mobilenet_v1(espl__zoo z) {
    static const struct {
        int64_t channels, stride;
    } layers[] = {{64, 1},  {128, 2}, {128, 1}, {256, 2}, {256, 1},  {512, 2}, {512, 1},
                  {512, 1}, {512, 1}, {512, 1}, {512, 1}, {1024, 2}, {1024, 1}};
    char name[ESPL__ZOO_NAME];
    espl_value x = espl__zoo_image(z, small_image);
    espl_conv stem = {.channels = channels_of(z.o->width, 32), .kernel = {3}};
    stem.stride[0] = espl_build_shape(z.b, x).dim[2] >= LARGE ? 2 : 1;
    x = espl__zoo_conv(z, "conv1", x, &stem, ESPL_ACTIVATION_RELU);
    for (size_t i = 0; i < sizeof layers / sizeof *layers; i++) {
        x = depthwise(z, espl__zoo_name(name, "layer%d.depthwise", (int)i + 1), x, layers[i].stride,
                      ESPL_ACTIVATION_RELU);
        x = pointwise(z, espl__zoo_name(name, "layer%d.pointwise", (int)i + 1), x,
                      channels_of(z.o->width, layers[i].channels), ESPL_ACTIVATION_RELU);
    }
    espl__zoo_classify(z, x, CLASSES);
}

/* One inverted residual: widened by `expand`, 3x3 depthwise, narrowed without an activation. */
static espl_value inverted_residual(espl__zoo z, const char *block, espl_value x, int64_t expand,
                                    int64_t channels, int64_t stride) {
    char name[ESPL__ZOO_NAME];
    int64_t in = espl_build_shape(z.b, x).dim[1];
    espl_value y = x;
    if (expand > 1)
        y = pointwise(z, espl__zoo_name(name, "%.80s.expand", block), y, in * expand, ESPL_ACTIVATION_RELU6);
    y = depthwise(z, espl__zoo_name(name, "%.80s.depthwise", block), y, stride, ESPL_ACTIVATION_RELU6);
    y = pointwise(z, espl__zoo_name(name, "%.80s.project", block), y, channels, ESPL_ACTIVATION_COUNT);
    if (stride > 1 || in != channels) return y;
    return espl_build_add(z.b, espl__zoo_name(name, "%.80s.add", block), x, y);
}

void espl__zoo_mobilenet_v2(espl__zoo z) {
    static const struct {
        int64_t expand, channels, blocks, stride;
    } stages[] = {{1, 16, 1, 1}, {6, 24, 2, 2},  {6, 32, 3, 2}, {6, 64, 4, 2},
                  {6, 96, 3, 1}, {6, 160, 3, 2}, {6, 320, 1, 1}};
    char name[ESPL__ZOO_NAME];
    espl_value x = espl__zoo_image(z, small_image);
    bool large = espl_build_shape(z.b, x).dim[2] >= LARGE;
    espl_conv stem = {.channels = channels_of(z.o->width, 32), .kernel = {3}, .stride = {large ? 2 : 1}};
    x = espl__zoo_conv(z, "conv1", x, &stem, ESPL_ACTIVATION_RELU6);
    for (int i = 0; i < (int)(sizeof stages / sizeof *stages); i++)
        for (int j = 0; j < stages[i].blocks; j++) {
            int64_t stride = j > 0 || (i == 1 && !large) ? 1 : stages[i].stride;
            x = inverted_residual(z, espl__zoo_name(name, "stage%d.%d", i + 1, j), x, stages[i].expand,
                                  channels_of(z.o->width, stages[i].channels), stride);
        }
    int64_t last = channels_of(z.o->width > 1 ? z.o->width : 1, 1280); /* never narrower (paper, section 4) */
    x = pointwise(z, "conv2", x, last, ESPL_ACTIVATION_RELU6);
    espl__zoo_classify(z, x, CLASSES);
}
