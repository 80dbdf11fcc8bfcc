/* Reductions over a set of axes. f32 accumulates in f32 in the order of the input's elements; f64, s32 and
 * s64 in their own widest type. */
#include "ops/ops.h"

#include <inttypes.h>
#include <math.h>

static espl_status resolve(const espl__node *node, int rank, bool *reduced, bool *known, espl_diag *diag) {
    espl_status status;
    espl__ints axes;
    ESPL_TRY(espl__read_ints(node, "axes", 1, &axes, diag));
    *known = !axes.present || axes.known;
    bool all = !axes.present || axes.count == 0;
    if (all && espl__attr_int(node, "noop_with_empty_axes", 0)) {
        for (int i = 0; i < rank; i++) reduced[i] = false;
    } else if (all) {
        for (int i = 0; i < rank; i++) reduced[i] = true;
    } else if (*known) {
        ESPL_TRY(espl__axes_mask(&axes, rank, reduced, diag));
    }
done:
    return status;
}

static espl_status infer_types(const espl__node *node, uint32_t types, espl_diag *diag) {
    espl_status status;
    bool reduced[ESPL_MAX_RANK], known;
    ESPL_TRY(espl__op_begin(node, diag));
    ESPL_TRY(espl__check_dtype(node, 0, types, diag));
    const espl__value *x = espl__in(node, 0);
    bool keep = espl__attr_int(node, "keepdims", 1) != 0;
    if (!x->known_rank) return espl__set_unknown(node, 0, x->dtype);
    ESPL_TRY(resolve(node, x->shape.rank, reduced, &known, diag));
    if (!known && !keep) return espl__set_unknown(node, 0, x->dtype);
    espl_shape y = {0};
    for (int i = 0; i < x->shape.rank; i++) {
        if (!known)
            y.dim[y.rank++] = ESPL_DIM_UNKNOWN;
        else if (!reduced[i] || keep)
            y.dim[y.rank++] = reduced[i] ? 1 : x->shape.dim[i];
    }
    status = espl__set_out(node, 0, x->dtype, &y, diag);
done:
    return status;
}

static espl_status infer_number(const espl__node *node, espl_diag *diag) {
    return infer_types(node, ESPL__T_INT | ESPL__T(F32) | ESPL__T(F64), diag);
}
/* Truth values have an order since operator set 20. */
static espl_status infer_order(const espl__node *node, espl_diag *diag) {
    return infer_types(node, ESPL__T_INT | ESPL__T(F32) | ESPL__T(F64) | (node->opset >= 20 ? ESPL__T(BOOL) : 0), diag);
}
static espl_status infer_wide(const espl__node *node, espl_diag *diag) {
    return infer_types(node, ESPL__T(S32) | ESPL__T(S64) | ESPL__T(F32) | ESPL__T(F64), diag);
}
static espl_status infer_float(const espl__node *node, espl_diag *diag) {
    return infer_types(node, ESPL__T(F32) | ESPL__T(F64), diag);
}

/* --- evaluation ------------------------------------------------------------------------------ */

typedef enum reduction { SUM, MEAN, MAX, MIN, PROD, L1, L2, SUM_SQUARE, LOG_SUM, LOG_SUM_EXP } reduction;

/* acc[i * step] takes in x[i], for i in [0, n). */
static void take_f32(reduction how, float *acc, int64_t step, const float *x, int64_t n) {
    switch (how) {
        case MAX:
            for (int64_t i = 0; i < n; i++) acc[i * step] = x[i] > acc[i * step] ? x[i] : acc[i * step];
            break;
        case MIN:
            for (int64_t i = 0; i < n; i++) acc[i * step] = x[i] < acc[i * step] ? x[i] : acc[i * step];
            break;
        case PROD:
            for (int64_t i = 0; i < n; i++) acc[i * step] *= x[i];
            break;
        case L1:
            for (int64_t i = 0; i < n; i++) acc[i * step] += fabsf(x[i]);
            break;
        case L2:
        case SUM_SQUARE:
            for (int64_t i = 0; i < n; i++) acc[i * step] += x[i] * x[i];
            break;
        default:
            for (int64_t i = 0; i < n; i++) acc[i * step] += x[i];
            break;
    }
}

static double combine_f64(reduction how, double acc, double x) {
    switch (how) {
        case MAX: return x > acc ? x : acc;
        case MIN: return x < acc ? x : acc;
        case PROD: return acc * x;
        case L1: return acc + fabs(x);
        case L2:
        case SUM_SQUARE: return acc + x * x;
        case LOG_SUM_EXP: return acc + exp(x);
        default: return acc + x;
    }
}

static int64_t combine_s64(reduction how, int64_t acc, int64_t x) {
    uint64_t a = (uint64_t)acc, b = (uint64_t)x;
    switch (how) {
        case MAX: return x > acc ? x : acc;
        case MIN: return x < acc ? x : acc;
        case PROD: return (int64_t)(a * b);
        case L1: return (int64_t)(x < 0 ? a - b : a + b);
        case SUM_SQUARE: return (int64_t)(a + b * b);
        default: return (int64_t)(a + b);
    }
}

static double start_of(reduction how) {
    return how == MAX ? -INFINITY : how == MIN ? INFINITY : how == PROD ? 1.0 : 0.0;
}

static double finish_f64(reduction how, double acc, double count) {
    switch (how) {
        case MEAN: return acc / count;
        case L2: return sqrt(acc);
        case LOG_SUM:
        case LOG_SUM_EXP: return log(acc);
        default: return acc;
    }
}

/* Calls for each row of the last axis: the row's first element and where its result stands. */
typedef struct walk {
    int rank;
    int64_t index[ESPL_MAX_RANK], dim[ESPL_MAX_RANK], stride[ESPL_MAX_RANK];
    int64_t to;
} walk;

/* Strides of the output along the input's axes: 0 where reduced. Returns the step within a row. */
static int64_t walk_begin(walk *w, const espl_shape *x, const bool *reduced) {
    int64_t step = 1;
    *w = (walk){.rank = x->rank};
    for (int i = x->rank - 1; i >= 0; i--) {
        w->dim[i] = x->dim[i];
        w->stride[i] = reduced[i] ? 0 : step;
        if (!reduced[i]) step *= x->dim[i];
    }
    return x->rank ? w->stride[x->rank - 1] : 0;
}

static void walk_next(walk *w) {
    for (int i = w->rank - 2; i >= 0; i--) {
        w->to += w->stride[i];
        if (++w->index[i] < w->dim[i]) return;
        w->to -= w->stride[i] * w->dim[i];
        w->index[i] = 0;
    }
}

static void run_f32(reduction how, const espl_tensor *in, espl_tensor *out, const bool *reduced,
                    int64_t each) {
    walk w;
    float *y = out->data;
    const float *x = in->data;
    int64_t total = espl_shape_count(&in->shape), results = espl_shape_count(&out->shape);
    int64_t step = walk_begin(&w, &in->shape, reduced),
            n = in->shape.rank ? in->shape.dim[in->shape.rank - 1] : 1;
    for (int64_t i = 0; i < results; i++) y[i] = (float)start_of(how);
    for (int64_t i = 0; i < total; i += n, walk_next(&w)) {
        if (step) {
            take_f32(how, y + w.to, 1, x + i, n);
            continue;
        }
        float acc = y[w.to];
        take_f32(how, &acc, 0, x + i, n);
        y[w.to] = acc;
    }
    if (how == MEAN)
        for (int64_t i = 0; i < results; i++) y[i] /= (float)each;
    else if (how == L2 || how == LOG_SUM)
        for (int64_t i = 0; i < results; i++) y[i] = (float)finish_f64(how, y[i], 1);
}

/* What the largest and the least of nothing are. */
static void integer_range(espl_dtype dtype, int64_t *least, int64_t *most) {
    int bits = 8 * (int)espl_dtype_bytes(dtype);
    if (bits == 64) return;
    bool is_signed = dtype == ESPL_S8 || dtype == ESPL_S16 || dtype == ESPL_S32;
    *least = is_signed ? -((int64_t)1 << (bits - 1)) : 0;
    *most = ((int64_t)1 << (bits - is_signed)) - 1;
}

static void run_wide(reduction how, const espl_tensor *in, espl_tensor *out, const bool *reduced,
                     int64_t each, void *scratch) {
    walk w;
    bool floats = espl_dtype_is_float(in->dtype);
    int64_t least = INT64_MIN, most = INT64_MAX;
    integer_range(in->dtype, &least, &most);
    double *f64 = scratch;
    int64_t *s64 = scratch;
    int64_t total = espl_shape_count(&in->shape), results = espl_shape_count(&out->shape);
    int64_t step = walk_begin(&w, &in->shape, reduced),
            n = in->shape.rank ? in->shape.dim[in->shape.rank - 1] : 1;
    for (int64_t i = 0; i < results; i++) {
        if (floats)
            f64[i] = start_of(how);
        else if (in->dtype == ESPL_BOOL)
            s64[i] = how == MIN;
        else
            s64[i] = how == MAX ? least : how == MIN ? most : how == PROD;
    }
    for (int64_t i = 0; i < total; i += n, walk_next(&w))
        for (int64_t k = 0; k < n; k++) {
            const void *p = espl__at(in->data, in->dtype, i + k);
            int64_t to = w.to + k * step, whole;
            double real;
            if (floats) {
                espl__load_f64(in->dtype, p, 0, 1, &real);
                f64[to] = combine_f64(how, f64[to], real);
            } else {
                espl__load_s64(in->dtype, p, 0, 1, &whole);
                s64[to] = combine_s64(how, s64[to], whole);
            }
        }
    for (int64_t i = 0; i < results; i++) {
        if (floats)
            f64[i] = finish_f64(how, f64[i], (double)each);
        else if (how == MEAN)
            s64[i] = each ? s64[i] / each : 0;
    }
    if (floats)
        espl__store_f64(out->dtype, f64, results, out->data);
    else
        espl__store_s64(out->dtype, s64, results, out->data);
}

static void run(reduction how, const espl__node *node, const espl_tensor *in, espl_tensor *out,
                void *scratch) {
    bool reduced[ESPL_MAX_RANK], known;
    int64_t each = 1;
    if (resolve(node, in[0].shape.rank, reduced, &known, NULL) != ESPL_OK || !known) return;
    for (int i = 0; i < in[0].shape.rank; i++)
        if (reduced[i]) each *= in[0].shape.dim[i];
    if (in[0].dtype == ESPL_F32 && how != LOG_SUM_EXP)
        run_f32(how, &in[0], &out[0], reduced, each);
    else
        run_wide(how, &in[0], &out[0], reduced, each, scratch);
}

static uint64_t scratch_bytes(const espl__node *node) {
    return sizeof(int64_t) * (uint64_t)espl_shape_count(&node->outputs[0]->shape);
}

/* X(Name, reduction, infer, role) */
#define REDUCE_LIST(X)                                            \
    X(ReduceSum, SUM, infer_number, ESPL__QUANT_FLOAT)            \
    X(ReduceMean, MEAN, infer_wide, ESPL__QUANT_COMPUTE)          \
    X(ReduceMax, MAX, infer_order, ESPL__QUANT_FLOAT)            \
    X(ReduceMin, MIN, infer_order, ESPL__QUANT_FLOAT)            \
    X(ReduceProd, PROD, infer_wide, ESPL__QUANT_FLOAT)            \
    X(ReduceL1, L1, infer_wide, ESPL__QUANT_FLOAT)                \
    X(ReduceL2, L2, infer_float, ESPL__QUANT_FLOAT)               \
    X(ReduceSumSquare, SUM_SQUARE, infer_wide, ESPL__QUANT_FLOAT) \
    X(ReduceLogSum, LOG_SUM, infer_float, ESPL__QUANT_FLOAT)      \
    X(ReduceLogSumExp, LOG_SUM_EXP, infer_float, ESPL__QUANT_FLOAT)

#define DEFINE_REDUCE(Name, how, infer_fn, role)                                             \
    static void eval_##Name(const espl__node *node, const espl_tensor *in, espl_tensor *out, \
                            void *scratch) {                                                 \
        run(how, node, in, out, scratch);                                                    \
    }                                                                                        \
    const espl__op espl__op_##Name = {.name = #Name,                                         \
                                      .domain = "",                                          \
                                      .min_inputs = 1,                                       \
                                      .max_inputs = 2,                                       \
                                      .min_outputs = 1,                                      \
                                      .max_outputs = 1,                                      \
                                      .since = 1,                                            \
                                      .until = 21,                                           \
                                      .infer = infer_fn,                                     \
                                      .eval = eval_##Name,                                   \
                                      .scratch_bytes = scratch_bytes,                        \
                                      .quant = role};
REDUCE_LIST(DEFINE_REDUCE)
