/* The networks of the zoo. They use the public builder only. */
#ifndef ESPL_ZOO_ZOO_H
#define ESPL_ZOO_ZOO_H

#include "espalier/zoo.h"

/* A builder, what is asked of the network, and the usual words for its layers. Options of 0 were given the
 * list's default before. */
typedef struct espl__zoo {
    espl_builder *b;
    const espl_zoo_options *o;
} espl__zoo;

/* Builds the network up to and with its output. */
#define X(ID, name, options, data, text) void espl__zoo_##ID(espl__zoo z);
ESPL_ZOO_LIST(X)
#undef X

enum { ESPL__ZOO_NAME = 128 };
/* A name by a format, into a buffer of ESPL__ZOO_NAME bytes, which it returns. */
const char *espl__zoo_name(char *buf, const char *fmt, ...) ESPL_PRINTF(2, 3);
/* `value` unless it is 0. */
static inline int64_t espl__zoo_or(int64_t value, int64_t otherwise) {
    return value ? value : otherwise;
}
/* So many channels times the width, at least one. */
int64_t espl__zoo_channels(espl__zoo z, int64_t channels);
/* The input "x" of images, batch first; `own` is the network's own shape. */
espl_value espl__zoo_image(espl__zoo z, espl_shape own);

/* Convolution NAME of SAME padding, batch norm and activation as NAME.norm and NAME.act; the activation may
 * be NULL's stand-in ESPL_ACTIVATION_COUNT: none. */
espl_value espl__zoo_conv(espl__zoo z, const char *name, espl_value x, const espl_conv *conv,
                          espl_activation activation);
/* The mean of each channel and a linear layer `fc` to the classes, `own` without a choice: the output
 * "logits". */
void espl__zoo_classify(espl__zoo z, espl_value x, int64_t own);

#endif
