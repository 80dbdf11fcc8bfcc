/* Arithmetic with broadcasting. The gradient of an operand is the sum over what it was spread to. */
#include <math.h>

#include "kernels/kernels.h"
#include "train/ops/loops.h"

enum { CHUNK = 256 };
enum { X = 1, Z = 2 }; /* operands that a derivative is computed from */
enum { SUM, MEAN, MAX, MIN };

typedef void row_f32(const float *px, int64_t sx, const float *pz, int64_t sz, const float *dy, float *out,
                     int64_t n);
typedef void row_f64(const double *px, int64_t sx, const double *pz, int64_t sz, const double *dy,
                     double *out, int64_t n);

typedef struct pair_row {
    row_f32 *value_f32, *by_x_f32, *by_z_f32;
    row_f64 *value_f64, *by_x_f64, *by_z_f64;
} pair_row;

typedef struct pair {
    const pair_row *row;
    int64_t lead, runs, sizes[2]; /* first dimension, in how many parts; elements of the operands */
    bool shared[2];               /* the operand has no such dimension, so that parts sum up */
} pair;

typedef struct many {
    int how;
} many;

/* X(Name, operands that derivatives are computed from, value, derivative by x, by z) */
#define BINARY_LIST(X_)                                                                        \
    X_(Add, 0, x + z, 1, 1)                                                                    \
    X_(Sub, 0, x - z, 1, -1)                                                                   \
    X_(Mul, X | Z, x * z, z, x)                                                                \
    X_(Div, X | Z, x / z, 1 / z, -x / (z * z))                                                 \
    X_(Mod, X | Z, M(fmod)(x, z), 1, (M(fmod)(x, z) - x) / z)                                  \
    X_(Pow, X | Z, FN(power)(x, z), z == 0 ? 0 : z * FN(power)(x, z - 1), FN(log_power)(x, z)) \
    X_(PRelu, X | Z, x < 0 ? z * x : x, x > 0 ? 1 : z, x < 0 ? x : 0)

#define REAL_FILE "train/ops/binary.inc.h"
#include "train/real.h"

static espl_status prepare_pair(espl__call *c, const pair_row *row, espl_diag *diag) {
    for (int i = 0; i < 2; i++)
        if (c->in[i].dtype != c->real)
            return espl__fail(diag, ESPL_UNSUPPORTED, "%s: training takes operands of one type",
                              c->node->op->name);
    espl_status status = espl__state(c, sizeof(pair), diag);
    if (status != ESPL_OK) return status;
    pair *k = c->state;
    const espl_shape *y = &c->out->shape;
    int64_t total = espl_shape_count(y);
    k->row = row;
    k->lead = y->rank ? y->dim[0] : 1;
    k->runs = total < ESPL__GRAIN ? 1 : ESPL_MAX(1, ESPL_MIN(k->lead, espl__pool_threads(c->pool)));
    for (int i = 0; i < 2; i++) {
        const espl_shape *s = &c->in[i].shape;
        k->sizes[i] = espl_shape_count(s);
        k->shared[i] = s->rank < y->rank || y->rank == 0 || (s->dim[0] == 1 && k->lead != 1);
    }
    /* A large operand without the first dimension: no sums for each part, one part. */
    for (int i = 0; i < 2; i++)
        if (k->shared[i] && (c->wanted >> i & 1) && 2 * k->runs * k->sizes[i] > total) k->runs = 1;
    for (int i = 0; i < 2; i++) {
        k->shared[i] = k->shared[i] && (c->wanted >> i & 1) && k->runs > 1;
        if (k->shared[i]) c->backward_bytes += (uint64_t)(k->runs * k->sizes[i]) * espl__real_bytes(c);
    }
    return ESPL_OK;
}

static void forward_pair(espl__call *c) {
    int64_t total = espl_shape_count(&c->out->shape);
    const pair *k = c->state;
    espl__spread(c, k->lead, total, ESPL__REAL(c, forward_part), c);
}
static void backward_pair(espl__call *c) {
    ESPL__REAL(c, pair_backward)(c);
}

/* A slope for each channel is read as the graph shapes it. */
static espl__grad_layout prelu_layout(const espl__node *node) {
    return espl_shape_count(&node->inputs[1]->shape) == 1 ? ESPL__GRAD_ANY : ESPL__GRAD_ROWS;
}

#define DEFINE(Name, reads, f, fx, fz)                                                                 \
    static const pair_row row_##Name = {value_##Name##_f32, by_x_##Name##_f32, by_z_##Name##_f32,      \
                                        value_##Name##_f64, by_x_##Name##_f64, by_z_##Name##_f64};     \
    static espl_status prepare_##Name(espl__call *c, espl_diag *diag) {                                \
        return prepare_pair(c, &row_##Name, diag);                                                     \
    }                                                                                                  \
    const espl__grad espl__grad_##Name = {.op = #Name,                                                 \
                                          .inputs = 3,                                                 \
                                          .params = IS_PRELU_##Name ? 2 : 0,                           \
                                          .adopts = IS_PRELU_##Name ? 0 : 3,                           \
                                          .reads_in = (reads),                                         \
                                          .layout = IS_PRELU_##Name ? prelu_layout : espl__layout_any, \
                                          .prepare = prepare_##Name,                                   \
                                          .forward = forward_pair,                                     \
                                          .backward = backward_pair,                                   \
                                          .release = espl__state_free};
enum {
    IS_PRELU_Add,
    IS_PRELU_Sub = 0,
    IS_PRELU_Mul = 0,
    IS_PRELU_Div = 0,
    IS_PRELU_Mod = 0,
    IS_PRELU_Pow = 0,
    IS_PRELU_PRelu = 1
};
BINARY_LIST(DEFINE)

static espl_status prepare_many(espl__call *c, espl_diag *diag) {
    espl_status status = espl__state(c, sizeof(many), diag);
    if (status != ESPL_OK) return status;
    many *k = c->state;
    k->how = espl__node_is(c->node, "Sum")    ? SUM
             : espl__node_is(c->node, "Mean") ? MEAN
             : espl__node_is(c->node, "Max")  ? MAX
                                              : MIN;
    if (k->how == MAX || k->how == MIN) c->backward_bytes = espl__tensor_bytes(c->out);
    return ESPL_OK;
}
static void forward_many(espl__call *c) {
    ESPL__REAL(c, many_forward)(c);
}
static void backward_many(espl__call *c) {
    ESPL__REAL(c, many_backward)(c);
}

#define DEFINE_MANY(Name, in, out)                                    \
    const espl__grad espl__grad_##Name = {.op = #Name,                \
                                          .inputs = UINT32_MAX,           \
                                          .adopts = UINT32_MAX,           \
                                          .reads_in = in,             \
                                          .reads_out = out,           \
                                          .layout = espl__layout_any, \
                                          .prepare = prepare_many,    \
                                          .forward = forward_many,    \
                                          .backward = backward_many,  \
                                          .release = espl__state_free};
DEFINE_MANY(Sum, 0, 0)
DEFINE_MANY(Mean, 0, 0)
DEFINE_MANY(Max, UINT32_MAX, 1)
DEFINE_MANY(Min, UINT32_MAX, 1)
