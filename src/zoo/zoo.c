/* The list of networks, what may be asked of them, and the words their files share. */
#include "zoo/zoo.h"

#include <math.h>
#include <stdio.h>

#include "base/base.h"

typedef void build_fn(espl__zoo z);

static const espl_zoo_network networks[] = {
#define X(ID, name, options, data, text) {name, options, data, text},
    ESPL_ZOO_LIST(X)
#undef X
};

static build_fn *const builders[] = {
#define X(ID, name, options, data, text) espl__zoo_##ID,
    ESPL_ZOO_LIST(X)
#undef X
};

static const char *const option_names[] = {
#define X(NAME, field, name, text) name,
    ESPL_ZOO_OPTION_LIST(X)
#undef X
};

/* --- the list ---------------------------------------------------------------------------------------- */

const espl_zoo_network *espl_zoo_at(int index) {
    return index >= 0 && index < (int)ESPL_COUNT(networks) ? &networks[index] : NULL;
}

static int find(const char *name) {
    for (int i = 0; i < (int)ESPL_COUNT(networks); i++)
        if (strcmp(networks[i].name, name) == 0) return i;
    return -1;
}

const espl_zoo_network *espl_zoo_find(const char *name) {
    return espl_zoo_at(find(name));
}

/* "a, b" into buf, one more at a time. */
static void append(char *buf, size_t size, const char *prefix, const char *name) {
    size_t used = strlen(buf);
    if (used < size) snprintf(buf + used, size - used, "%s%s%s", used ? ", " : "", prefix, name);
}

const char *espl_zoo_option_names(uint32_t set, char *buf, size_t size) {
    if (size) buf[0] = 0;
    for (int i = 0; i < ESPL_ZOO_OPTION_COUNT && size; i++)
        if (set >> i & 1) append(buf, size, "--", option_names[i]);
    return buf;
}

/* --- what is asked ----------------------------------------------------------------------------------- */

static espl_status check_number(const char *network, int option, double value, double most, espl_diag *diag) {
    if (value >= 0 && value <= most) return ESPL_OK;
    return espl__fail(diag, ESPL_INVALID, "network '%s': --%s: %g is not between 0 and %g", network,
                      option_names[option], value, most);
}

static espl_status check_input(const char *network, const espl_shape *shape, espl_diag *diag) {
    bool good = shape->rank == 0 || shape->rank == 3;
    for (int i = 0; good && i < shape->rank; i++) good = shape->dim[i] >= 1 && shape->dim[i] <= 1 << 16;
    if (good) return ESPL_OK;
    return espl__fail(
        diag, ESPL_SHAPE,
        "network '%s': --input: channels x height x width is asked for, such as 3x32x32, each from 1 to %d",
        network, 1 << 16);
}

/* Largest values: no network of that size is built by hand, and their products fit in 64 bits. */
#define WIDTH_MOST 100
#define CLASSES_MOST (1 << 24)
#define HIDDEN_MOST (1 << 16)
#define LAYERS_MOST 256
#define HEADS_MOST HIDDEN_MOST
#define VOCABULARY_MOST CLASSES_MOST
#define EMBEDDING_MOST HIDDEN_MOST
#define SEQUENCE_MOST HIDDEN_MOST
#define DROPOUT_MOST 0.99
#define INPUT_MOST ESPL_MAX_RANK
#define width_of(o) (o)->width
#define classes_of(o) (double)(o)->classes
#define input_of(o) (o)->input.rank
#define hidden_of(o) (double)(o)->hidden
#define layers_of(o) (double)(o)->layers
#define heads_of(o) (double)(o)->heads
#define vocabulary_of(o) (double)(o)->vocabulary
#define embedding_of(o) (double)(o)->embedding
#define sequence_of(o) (double)(o)->sequence
#define dropout_of(o) (o)->dropout

static espl_status check_options(const espl_zoo_network *n, const espl_zoo_options *o, espl_diag *diag) {
    espl_status status = ESPL_OK;
    char names[256];
    const double given[] = {
#define X(NAME, field, name, text) field##_of(o),
        ESPL_ZOO_OPTION_LIST(X)
#undef X
    };
    static const double most[] = {
#define X(NAME, field, name, text) NAME##_MOST,
        ESPL_ZOO_OPTION_LIST(X)
#undef X
    };
    for (int i = 0; i < ESPL_ZOO_OPTION_COUNT; i++) {
        if (given[i] != 0 && !(n->options >> i & 1))
            return espl__fail(diag, ESPL_INVALID, "network '%s' takes no --%s; it takes %s", n->name,
                              option_names[i], espl_zoo_option_names(n->options, names, sizeof names));
        ESPL_TRY(check_number(n->name, i, given[i], most[i], diag));
    }
    status = check_input(n->name, &o->input, diag);
done:
    return status;
}

espl_status espl_zoo_build(espl_context *ctx, const char *name, const espl_zoo_options *options,
                           espl_graph **out, espl_diag *diag) {
    char names[512] = "";
    espl_zoo_options o = options ? *options : (espl_zoo_options){0};
    espl_builder *b = NULL;
    int index = find(name);
    *out = NULL;
    for (size_t i = 0; i < ESPL_COUNT(networks); i++) append(names, sizeof names, "", networks[i].name);
    if (index < 0)
        return espl__fail(diag, ESPL_INVALID, "'%.60s' is no network of the zoo; there are %s", name, names);
    espl_status status = check_options(&networks[index], &o, diag);
    if (status == ESPL_OK) status = espl_builder_create(ctx, name, o.seed, &b, diag);
    if (status != ESPL_OK) return status;
    builders[index]((espl__zoo){b, &o});
    status = espl_builder_finish(&b, out, diag);
    if (status != ESPL_OK) espl__diag_prefix(diag, "network '%s'", name);
    return status;
}

/* --- shared words ------------------------------------------------------------------------------------ */

const char *espl__zoo_name(char *buf, const char *fmt, ...) {
    va_list list;
    va_start(list, fmt);
    vsnprintf(buf, ESPL__ZOO_NAME, fmt, list);
    va_end(list);
    return buf;
}

int64_t espl__zoo_channels(espl__zoo z, int64_t channels) {
    double wanted = z.o->width > 0 ? round((double)channels * z.o->width) : (double)channels;
    return wanted < 1 ? 1 : (int64_t)wanted;
}

espl_value espl__zoo_image(espl__zoo z, espl_shape own) {
    espl_shape s = z.o->input.rank ? z.o->input : own;
    return espl_build_input(z.b, "x", ESPL_F32,
                            (espl_shape){4, {ESPL_DIM_UNKNOWN, s.dim[0], s.dim[1], s.dim[2]}});
}

espl_value espl__zoo_conv(espl__zoo z, const char *name, espl_value x, const espl_conv *conv,
                          espl_activation activation) {
    char part[ESPL__ZOO_NAME];
    espl_conv same = *conv;
    same.padding = ESPL_PADDING_SAME;
    x = espl_build_conv(z.b, name, x, &same);
    x = espl_build_batch_norm(z.b, espl__zoo_name(part, "%s.norm", name), x);
    if (activation == ESPL_ACTIVATION_COUNT) return x;
    return espl_build_activation(z.b, espl__zoo_name(part, "%s.act", name), x, activation);
}

void espl__zoo_classify(espl__zoo z, espl_value x, int64_t own) {
    x = espl_build_flatten(z.b, "flatten", espl_build_global_average_pool(z.b, "pool", x));
    x = espl_build_linear(z.b, "fc", x,
                          &(espl_linear){.features = espl__zoo_or(z.o->classes, own), .bias = true});
    espl_build_output(z.b, "logits", x);
}
