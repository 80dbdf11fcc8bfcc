/* MaxPool, AveragePool, LpPool, and their global forms, which are windows of the input's own size. */
#include "ops/ops.h"

#include <inttypes.h>
#include <math.h>

static espl_status infer_types(const espl__node *node, uint32_t types, espl_diag *diag) {
    espl_status status;
    ESPL_TRY(espl__op_begin(node, diag));
    ESPL_TRY(espl__check_dtype(node, 0, types, diag));
    const espl__value *x = espl__in(node, 0);
    if (!x->known_rank) return espl__set_unknown(node, 0, x->dtype);
    espl__window w;
    ESPL_TRY(espl__window_resolve(node, &x->shape, NULL, &w, diag));
    espl_shape y = x->shape;
    for (int i = 0; i < w.rank; i++) y.dim[2 + i] = w.out[i];
    status = espl__set_out(node, 0, x->dtype, &y, diag);
done:
    return status;
}

static espl_status infer_max(const espl__node *node, espl_diag *diag) {
    espl_status status;
    ESPL_TRY(infer_types(node, ESPL__T(F32) | ESPL__T(S8) | ESPL__T(U8), diag));
    const espl__value *y = espl__out(node, 0);
    if (!y->known_rank) return espl__set_unknown(node, 1, ESPL_S64);
    status = espl__set_out(node, 1, ESPL_S64, &y->shape, diag);
done:
    return status;
}

static espl_status infer_average(const espl__node *node, espl_diag *diag) {
    return infer_types(node, ESPL__T(F32), diag);
}

static espl_status infer_global(const espl__node *node, espl_diag *diag) {
    espl_status status;
    ESPL_TRY(espl__op_begin(node, diag));
    ESPL_TRY(espl__check_dtype(node, 0, ESPL__T(F32), diag));
    ESPL_TRY(espl__check_rank(node, 0, 3, ESPL_MAX_RANK, diag));
    const espl__value *x = espl__in(node, 0);
    if (!x->known_rank) return espl__set_unknown(node, 0, x->dtype);
    espl_shape y = x->shape;
    for (int i = 2; i < y.rank; i++) y.dim[i] = 1;
    status = espl__set_out(node, 0, x->dtype, &y, diag);
done:
    return status;
}

/* --- one window ------------------------------------------------------------------------------ */

/* The taps of a window that lie inside the input: first position and count along each axis. */
typedef struct taps {
    int64_t first[3], count[3];
    int64_t padded; /* taps inside the input and its padding: what count_include_pad divides by */
} taps;

static void clip_taps(const espl__window *w, const int64_t *at, taps *t) {
    t->padded = 1;
    for (int i = 0; i < 3; i++) {
        int64_t start = at[i] * w->stride[i] - w->begin[i], lo, hi;
        espl__window_valid(start, w->dilation[i], w->in[i], w->kernel[i], &lo, &hi);
        t->first[i] = start + lo * w->dilation[i];
        t->count[i] = hi - lo;
        espl__window_valid(start, w->dilation[i], w->in[i] + w->end[i], w->kernel[i], &lo, &hi);
        t->padded = espl__mul_sat(t->padded, hi); /* a window never starts before the leading padding */
    }
}

/* First tap of the window's row (d, h), in elements from the plane's beginning. */
static int64_t row_start(const espl__window *w, const taps *t, int64_t d, int64_t h) {
    int64_t id = t->first[0] + d * w->dilation[0], ih = t->first[1] + h * w->dilation[1];
    return (id * w->in[1] + ih) * w->in[2] + t->first[2];
}

static float window_max(const espl__window *w, const taps *t, const float *x) {
    float best = -INFINITY;
    for (int64_t d = 0; d < t->count[0]; d++)
        for (int64_t h = 0; h < t->count[1]; h++) {
            const float *row = x + row_start(w, t, d, h);
            for (int64_t i = 0; i < t->count[2]; i++)
                best = row[i * w->dilation[2]] > best ? row[i * w->dilation[2]] : best;
        }
    return best;
}

/* Where in its plane the first of the largest elements lies; -1: the window covers none. */
static int64_t window_argmax(const espl__window *w, const taps *t, const espl_tensor *x, int64_t base) {
    int64_t at = -1;
    double best = 0, v;
    for (int64_t d = 0; d < t->count[0]; d++)
        for (int64_t h = 0; h < t->count[1]; h++)
            for (int64_t i = 0; i < t->count[2]; i++) {
                int64_t here = row_start(w, t, d, h) + i * w->dilation[2];
                espl__load_f64(x->dtype, espl__at(x->data, x->dtype, base + here), 0, 1, &v);
                if (at >= 0 && !(v > best)) continue;
                best = v;
                at = here;
            }
    return at;
}

static float window_sum(const espl__window *w, const taps *t, const float *x) {
    float sum = 0;
    for (int64_t d = 0; d < t->count[0]; d++)
        for (int64_t h = 0; h < t->count[1]; h++) {
            const float *row = x + row_start(w, t, d, h);
            for (int64_t i = 0; i < t->count[2]; i++) sum += row[i * w->dilation[2]];
        }
    return sum;
}

static int64_t window_max_int(const espl__window *w, const taps *t, const espl_tensor *x, int64_t base) {
    int64_t best = INT64_MIN, v;
    for (int64_t d = 0; d < t->count[0]; d++)
        for (int64_t h = 0; h < t->count[1]; h++)
            for (int64_t i = 0; i < t->count[2]; i++) {
                int64_t at = base + row_start(w, t, d, h) + i * w->dilation[2];
                espl__load_s64(x->dtype, espl__at(x->data, x->dtype, at), 0, 1, &v);
                best = v > best ? v : best;
            }
    return best == INT64_MIN ? (x->dtype == ESPL_S8 ? INT8_MIN : 0) : best;
}

/* The p-norm. */
static float window_norm(const espl__window *w, const taps *t, const float *x, int64_t p) {
    double sum = 0;
    for (int64_t d = 0; d < t->count[0]; d++)
        for (int64_t h = 0; h < t->count[1]; h++) {
            const float *row = x + row_start(w, t, d, h);
            for (int64_t i = 0; i < t->count[2]; i++) {
                double v = fabs((double)row[i * w->dilation[2]]);
                sum += p == 1 ? v : p == 2 ? v * v : pow(v, (double)p);
            }
        }
    return (float)(p == 1 ? sum : p == 2 ? sqrt(sum) : pow(sum, 1 / (double)p));
}

/* --- all windows ----------------------------------------------------------------------------- */

enum { POOL_MAX, POOL_AVERAGE, POOL_AVERAGE_PADDED };

static void pool(const espl__window *w, int how, const espl_tensor *in, espl_tensor *out) {
    int64_t in_plane = w->in[0] * w->in[1] * w->in[2], planes = in->shape.dim[0] * in->shape.dim[1], at[3],
            o = 0;
    float *y = out->data;
    taps t;
    if (espl__is_empty(out)) return;
    for (int64_t p = 0; p < planes; p++)
        for (at[0] = 0; at[0] < w->out[0]; at[0]++)
            for (at[1] = 0; at[1] < w->out[1]; at[1]++)
                for (at[2] = 0; at[2] < w->out[2]; at[2]++, o++) {
                    clip_taps(w, at, &t);
                    if (in->dtype != ESPL_F32) {
                        int64_t best = window_max_int(w, &t, in, p * in_plane);
                        espl__store_s64(in->dtype, &best, 1, espl__at_mut(out->data, in->dtype, o));
                        continue;
                    }
                    const float *x = (const float *)in->data + p * in_plane;
                    int64_t divisor = how == POOL_AVERAGE ? t.count[0] * t.count[1] * t.count[2] : t.padded;
                    y[o] = how == POOL_MAX ? window_max(w, &t, x)
                           : divisor > 0   ? window_sum(w, &t, x) / (float)divisor
                                           : 0.0f;
                }
}

int64_t espl__pool_index(const espl__window *w, int64_t at, bool by_columns) {
    if (at < 0 || !by_columns) return at;
    int64_t d = at / (w->in[1] * w->in[2]), h = at / w->in[2] % w->in[1], x = at % w->in[2];
    return d + w->in[0] * (h + w->in[1] * x);
}

static void indices(const espl__window *w, bool by_columns, const espl_tensor *in, espl_tensor *out) {
    int64_t plane = w->in[0] * w->in[1] * w->in[2], planes = in->shape.dim[0] * in->shape.dim[1], at[3];
    int64_t *y = out->data;
    taps t;
    if (espl__is_empty(out)) return;
    for (int64_t p = 0; p < planes; p++)
        for (at[0] = 0; at[0] < w->out[0]; at[0]++)
            for (at[1] = 0; at[1] < w->out[1]; at[1]++)
                for (at[2] = 0; at[2] < w->out[2]; at[2]++) {
                    clip_taps(w, at, &t);
                    *y++ = p * plane + espl__pool_index(w, window_argmax(w, &t, in, p * plane), by_columns);
                }
}

static void eval_max(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)scratch;
    espl__window w;
    if (espl__window_resolve(node, &in[0].shape, NULL, &w, NULL) != ESPL_OK) return;
    espl__window_lift(&w);
    pool(&w, POOL_MAX, &in[0], &out[0]);
    if (node->output_count > 1 && out[1].data)
        indices(&w, espl__attr_int(node, "storage_order", 0) != 0, &in[0], &out[1]);
}

static void eval_average(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)scratch;
    espl__window w;
    if (espl__window_resolve(node, &in[0].shape, NULL, &w, NULL) != ESPL_OK) return;
    espl__window_lift(&w);
    pool(&w, espl__attr_int(node, "count_include_pad", 0) ? POOL_AVERAGE_PADDED : POOL_AVERAGE, &in[0],
         &out[0]);
}

/* All spatial positions as one row. */
static espl__window global_window(const espl_shape *x) {
    int64_t pixels = espl__dims_product(x, 2, x->rank);
    return (espl__window){3, {1, 1, pixels}, {1, 1, 1}, {1, 1, 1}, {0}, {0}, {1, 1, pixels}, {1, 1, 1}};
}
static void eval_global_max(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)node, (void)scratch;
    espl__window w = global_window(&in[0].shape);
    pool(&w, POOL_MAX, &in[0], &out[0]);
}
static void eval_global_average(const espl__node *node, const espl_tensor *in, espl_tensor *out,
                                void *scratch) {
    (void)node, (void)scratch;
    espl__window w = global_window(&in[0].shape);
    pool(&w, POOL_AVERAGE, &in[0], &out[0]);
}

/* --- norms ----------------------------------------------------------------------------------- */

static espl_status check_p(const espl__node *node, espl_diag *diag) {
    int64_t p = espl__attr_int(node, "p", 2);
    if (p >= 1) return ESPL_OK;
    return espl__fail(diag, ESPL_FORMAT, "%s: there is no %" PRId64 "-norm", node->op->name, p);
}

static espl_status infer_lp(const espl__node *node, espl_diag *diag) {
    espl_status status = check_p(node, diag);
    return status == ESPL_OK ? infer_types(node, ESPL__T(F32), diag) : status;
}

static espl_status infer_global_lp(const espl__node *node, espl_diag *diag) {
    espl_status status = check_p(node, diag);
    return status == ESPL_OK ? infer_global(node, diag) : status;
}

static void norms(const espl__node *node, const espl__window *w, const espl_tensor *in, espl_tensor *out) {
    int64_t plane = w->in[0] * w->in[1] * w->in[2], planes = in->shape.dim[0] * in->shape.dim[1], at[3];
    int64_t p = espl__attr_int(node, "p", 2);
    const float *x = in->data;
    float *y = out->data;
    taps t;
    if (espl__is_empty(out)) return;
    for (int64_t c = 0; c < planes; c++, x += plane)
        for (at[0] = 0; at[0] < w->out[0]; at[0]++)
            for (at[1] = 0; at[1] < w->out[1]; at[1]++)
                for (at[2] = 0; at[2] < w->out[2]; at[2]++) {
                    clip_taps(w, at, &t);
                    *y++ = window_norm(w, &t, x, p);
                }
}

static void eval_lp(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)scratch;
    espl__window w;
    if (espl__window_resolve(node, &in[0].shape, NULL, &w, NULL) != ESPL_OK) return;
    espl__window_lift(&w);
    norms(node, &w, &in[0], &out[0]);
}

static void eval_global_lp(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)scratch;
    espl__window w = global_window(&in[0].shape);
    norms(node, &w, &in[0], &out[0]);
}

const espl__op espl__op_LpPool = {
    .name = "LpPool", .domain = "", .min_inputs = 1, .max_inputs = 1, .min_outputs = 1, .max_outputs = 1,
    .since = 2, .until = 21, .infer = infer_lp, .eval = eval_lp, .quant = ESPL__QUANT_FLOAT,
};
const espl__op espl__op_GlobalLpPool = {
    .name = "GlobalLpPool", .domain = "", .min_inputs = 1, .max_inputs = 1, .min_outputs = 1, .max_outputs = 1,
    .since = 2, .until = 21, .infer = infer_global_lp, .eval = eval_global_lp, .quant = ESPL__QUANT_FLOAT,
};
const espl__op espl__op_MaxPool = {
    .name = "MaxPool", .domain = "", .min_inputs = 1, .max_inputs = 1, .min_outputs = 1, .max_outputs = 2,
    .since = 1, .until = 21, .infer = infer_max, .eval = eval_max, .quant = ESPL__QUANT_MOVE,
};
const espl__op espl__op_AveragePool = {
    .name = "AveragePool", .domain = "", .min_inputs = 1, .max_inputs = 1, .min_outputs = 1, .max_outputs = 1,
    .since = 7, .until = 21, .infer = infer_average, .eval = eval_average, .quant = ESPL__QUANT_COMPUTE,
};
const espl__op espl__op_GlobalMaxPool = {
    .name = "GlobalMaxPool", .domain = "", .min_inputs = 1, .max_inputs = 1, .min_outputs = 1, .max_outputs = 1,
    .since = 1, .until = 21, .infer = infer_global, .eval = eval_global_max, .quant = ESPL__QUANT_MOVE,
};
const espl__op espl__op_GlobalAveragePool = {
    .name = "GlobalAveragePool", .domain = "", .min_inputs = 1, .max_inputs = 1, .min_outputs = 1, .max_outputs = 1,
    .since = 1, .until = 21, .infer = infer_global, .eval = eval_global_average, .quant = ESPL__QUANT_COMPUTE,
};
