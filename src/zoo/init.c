/* How parameters begin. Element i of a parameter is draw i of a stream that the parameter's name selects. */
#include "zoo/builder.h"

#include <math.h>

static const char *const init_names[] = {
#define X(NAME, name, text) name,
    ESPL_INIT_LIST(X)
#undef X
};

const char *espl_init_name(espl_init_kind kind) {
    return init_names[kind];
}

/* FNV-1a: Fowler, Noll and Vo. */
static uint64_t stream_of(const char *name) {
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (; *name; name++) hash = (hash ^ (uint8_t)*name) * UINT64_C(0x100000001b3);
    return hash;
}

/* What an initialiser draws: numbers from -spread to spread, normal ones of that deviation, or one number. */
typedef struct draw {
    enum { FIXED, UNIFORM, NORMAL } how;
    float spread;
} draw;

static draw draw_of(espl_init init, double in, double out) {
    switch (init.kind) {
        case ESPL_INIT_HE_NORMAL:
            return (draw){NORMAL, (float)sqrt(2 / in)};
        case ESPL_INIT_HE_UNIFORM:
            return (draw){UNIFORM, (float)sqrt(6 / in)}; /* variance a^2/3 */
        case ESPL_INIT_XAVIER_NORMAL:
            return (draw){NORMAL, (float)sqrt(2 / (in + out))};
        case ESPL_INIT_XAVIER_UNIFORM:
            return (draw){UNIFORM, (float)sqrt(6 / (in + out))};
        case ESPL_INIT_FAN_IN:
            return (draw){UNIFORM, (float)sqrt(1 / in)};
        case ESPL_INIT_NORMAL:
            return (draw){NORMAL, init.value};
        case ESPL_INIT_UNIFORM:
            return (draw){UNIFORM, init.value};
        case ESPL_INIT_ONES:
            return (draw){FIXED, 1};
        default:
            return (draw){FIXED, init.value};
    }
}

static void fill(float *to, int64_t count, draw d, espl__rng rng) {
    for (int64_t i = 0; i < count; i++)
        to[i] = d.how == UNIFORM  ? d.spread * (2 * espl__rng_float(&rng) - 1)
                : d.how == NORMAL ? d.spread * espl__rng_normal(&rng)
                                  : d.spread;
}

static espl_value add_parameter(espl_builder *b, const char *name, espl_shape shape, espl_init init,
                                double in, double out) {
    espl_tensor t = {ESPL_F32, shape, NULL};
    if (!espl__build_failed(b) &&
        (init.kind <= ESPL_INIT_OWN || init.kind >= ESPL_INIT_COUNT || !isfinite(init.value)))
        espl__build_fail(b, ESPL_INVALID, name, "its initialiser is none");
    espl_value value = espl_build_constant(b, name, &t);
    espl__value *v = espl__build_get(b, value);
    if (v)
        fill(v->constant->data, espl_shape_count(&shape), draw_of(init, in, out),
             espl__rng_seed(b->seed, stream_of(name)));
    return value;
}

espl_value espl_build_parameter(espl_builder *b, const char *name, espl_shape shape, espl_init init) {
    double taps = 1, out = shape.rank > 0 ? (double)shape.dim[0] : 1,
           in = shape.rank > 1 ? (double)shape.dim[1] : 1;
    for (int i = 2; i < shape.rank && i < ESPL_MAX_RANK; i++) taps *= (double)shape.dim[i];
    return add_parameter(b, name, shape, init, in * taps, out * taps);
}

espl_value espl__build_weight(espl_builder *b, const char *name, const char *part, espl_shape shape,
                              espl_init init, espl_init own, double in, double out) {
    char buf[ESPL__BUILD_NAME];
    return add_parameter(b, espl__build_join(b, name, part, buf), shape,
                         init.kind == ESPL_INIT_OWN ? own : init, in, out);
}

espl_value espl__build_vector(espl_builder *b, const char *name, const char *part, int64_t count,
                              float value) {
    espl_init init = {ESPL_INIT_CONSTANT, value};
    return espl__build_weight(b, name, part, (espl_shape){1, {count}}, init, init, 1, 1);
}
