/* An oracle for quantized graphs, written apart from the library: every node is computed from the real numbers that its
 * inputs' codes stand for, in double precision where the runtime has integer arithmetic, and the result is rounded to
 * its grid. */
#ifndef GRAPH_ORACLE_H
#define GRAPH_ORACLE_H

#include "graph_random.h"

#include "compress/quant/weights.h"

static inline bool on_integers(espl_format f) { return espl_format_kind_of(f) == ESPL_FORMAT_KIND_INTEGER; }

/* The code, or in formats whose codes are no integers the number before the scale. */
static inline double round_to_grid(double x, double scale, int32_t zero, espl_format format) {
    int bits = espl_format_bits(format);
    if (!on_integers(format)) return espl__format_round(format, (float)(x / scale)); /* test_formats has numpy's word */
    double lo = espl_format_is_signed(format) ? -ldexp(1, bits - 1) : 0, hi = lo + ldexp(1, bits) - 1;
    if (bits == 16) lo = -hi;
    double q = nearbyint(x / scale) + zero;
    return q < lo ? lo : q > hi ? hi : q;
}

/* The real numbers of a constant; free it. */
static inline float *real_of(const espl__value *v) {
    const espl_tensor *t = v->constant;
    int64_t count = espl_shape_count(&t->shape), inner = 1;
    float *out = calloc((size_t)count + 1, sizeof *out);
    for (int d = v->quant.axis + 1; v->quant.axis >= 0 && d < t->shape.rank; d++) inner *= t->shape.dim[d];
    for (int64_t i = 0; i < count; i++) {
        int64_t c = v->quant.axis >= 0 ? i / inner % v->quant.count : 0;
        double code = t->dtype == ESPL_S8   ? ((const int8_t *)t->data)[i]
                      : t->dtype == ESPL_U8 ? ((const uint8_t *)t->data)[i]
                      : t->dtype == ESPL_S32 ? ((const int32_t *)t->data)[i]
                      : t->dtype == ESPL_S16 ? ((const int16_t *)t->data)[i]
                                             : 0;
        if (t->dtype == ESPL_F16 || t->dtype == ESPL_BF16) {
            uint16_t bits = ((const uint16_t *)t->data)[i];
            out[i] = t->dtype == ESPL_F16 ? espl__half_to_float(bits) : espl__bfloat_to_float(bits);
        } else if (v->quant.format == ESPL_FORMAT_TF32) {
            out[i] = ((const float *)t->data)[i];
        } else if (espl__is_quantized(v)) {
            code = on_integers(v->quant.format) ? code : espl__format_decode(v->quant.format, (int32_t)code);
            out[i] = (float)((code - (v->quant.zero ? v->quant.zero[c] : 0)) * v->quant.scale[c]);
            if (v->quant.offset) out[i] += v->quant.offset[c];
        }
        else {
            memcpy(&out[i], (const char *)t->data + 4 * i, 4);
        }
    }
    return out;
}

/* --- arithmetic in double precision -------------------------------------------------------------------------- */

typedef struct oracle_window {
    int64_t k[2], s[2], d[2], begin[2], end[2];
} oracle_window;

static inline oracle_window window_of(const espl__node *n, const espl_shape *x, const espl_shape *y) {
    oracle_window w = {{1, 1}, {1, 1}, {1, 1}, {0, 0}, {0, 0}};
    int64_t p[4] = {0};
    const char *mode = espl__attr_string(n, "auto_pad", "NOTSET");
    (void)espl__attr_ints(n, "kernel_shape", w.k, 2);
    (void)espl__attr_ints(n, "strides", w.s, 2);
    (void)espl__attr_ints(n, "dilations", w.d, 2);
    (void)espl__attr_ints(n, "pads", p, 4);
    for (int i = 0; i < 2; i++) {
        w.begin[i] = p[i];
        w.end[i] = p[2 + i];
        if (strncmp(mode, "SAME", 4) != 0) continue;
        int64_t all = (y->dim[2 + i] - 1) * w.s[i] + (w.k[i] - 1) * w.d[i] + 1 - x->dim[2 + i];
        all = all < 0 ? 0 : all;
        w.begin[i] = strcmp(mode, "SAME_UPPER") == 0 ? all / 2 : (all + 1) / 2;
        w.end[i] = all - w.begin[i];
    }
    return w;
}

static inline void oracle_conv(const espl__node *n, const espl_shape *xs, const espl_shape *ws, const espl_shape *ys,
                               float *const *in, double *y) {
    oracle_window w = window_of(n, xs, ys);
    int64_t group = espl__attr_int(n, "group", 1), cg = ws->dim[1], per = ws->dim[0] / group;
    for (int64_t b = 0; b < ys->dim[0]; b++)
        for (int64_t o = 0; o < ys->dim[1]; o++)
            for (int64_t i = 0; i < ys->dim[2]; i++)
                for (int64_t j = 0; j < ys->dim[3]; j++) {
                    double sum = in[2] ? in[2][o] : 0;
                    for (int64_t c = 0; c < cg; c++)
                        for (int64_t ki = 0; ki < w.k[0]; ki++)
                            for (int64_t kj = 0; kj < w.k[1]; kj++) {
                                int64_t yi = i * w.s[0] + ki * w.d[0] - w.begin[0], xj = j * w.s[1] + kj * w.d[1] - w.begin[1];
                                if (yi < 0 || yi >= xs->dim[2] || xj < 0 || xj >= xs->dim[3]) continue;
                                sum += (double)in[0][((b * xs->dim[1] + o / per * cg + c) * xs->dim[2] + yi) * xs->dim[3] + xj] *
                                       in[1][((o * cg + c) * w.k[0] + ki) * w.k[1] + kj];
                            }
                    *y++ = sum;
                }
}

static inline void oracle_average(const espl__node *n, const espl_shape *xs, const espl_shape *ys, const float *x, double *y) {
    oracle_window w = window_of(n, xs, ys);
    bool padded = espl__attr_int(n, "count_include_pad", 0) != 0;
    if (espl__node_is(n, "GlobalAveragePool")) {
        w.k[0] = xs->dim[2];
        w.k[1] = xs->dim[3];
    }
    for (int64_t p = 0; p < ys->dim[0] * ys->dim[1]; p++)
        for (int64_t i = 0; i < ys->dim[2]; i++)
            for (int64_t j = 0; j < ys->dim[3]; j++) {
                double sum = 0, count = 0;
                for (int64_t ki = 0; ki < w.k[0]; ki++)
                    for (int64_t kj = 0; kj < w.k[1]; kj++) {
                        int64_t yi = i * w.s[0] + ki * w.d[0] - w.begin[0], xj = j * w.s[1] + kj * w.d[1] - w.begin[1];
                        bool inside = yi >= 0 && yi < xs->dim[2] && xj >= 0 && xj < xs->dim[3];
                        if (inside) sum += x[(p * xs->dim[2] + yi) * xs->dim[3] + xj];
                        count += inside || (padded && yi < xs->dim[2] + w.end[0] && xj < xs->dim[3] + w.end[1]);
                    }
                *y++ = sum / count;
            }
}

/* Matrix products with the batch of the left side; the right side's own batch or none. */
static inline void oracle_matmul(const espl_shape *as, const espl_shape *bs, const float *a, const float *b, double *y) {
    int64_t m = as->dim[as->rank - 2], k = as->dim[as->rank - 1], n = bs->dim[bs->rank - 1], batch = 1;
    for (int d = 0; d + 2 < as->rank; d++) batch *= as->dim[d];
    for (int64_t i = 0; i < batch; i++, a += m * k, b += bs->rank > 2 ? k * n : 0)
        for (int64_t r = 0; r < m; r++)
            for (int64_t c = 0; c < n; c++) {
                double sum = 0;
                for (int64_t j = 0; j < k; j++) sum += (double)a[r * k + j] * b[j * n + c];
                *y++ = sum;
            }
}

static inline void oracle_gemm(const espl__node *n, const espl_shape *as, const espl_shape *bs, const espl_shape *cs,
                               float *const *in, double *y) {
    bool ta = espl__attr_int(n, "transA", 0) != 0, tb = espl__attr_int(n, "transB", 0) != 0;
    double alpha = espl__attr_float(n, "alpha", 1), beta = espl__attr_float(n, "beta", 1);
    int64_t m = as->dim[ta], k = as->dim[!ta], cols = bs->dim[!tb];
    for (int64_t r = 0; r < m; r++)
        for (int64_t c = 0; c < cols; c++) {
            double sum = 0;
            for (int64_t j = 0; j < k; j++)
                sum += (double)in[0][ta ? j * m + r : r * k + j] * in[1][tb ? c * k + j : j * cols + c];
            sum *= alpha;
            if (in[2]) {
                int64_t width = cs->rank ? cs->dim[cs->rank - 1] : 1, height = cs->rank == 2 ? cs->dim[0] : 1;
                sum += beta * in[2][(height == 1 ? 0 : r) * width + (width == 1 ? 0 : c)];
            }
            *y++ = sum;
        }
}

/* One output element of x and y broadcast to `to`. */
static inline int64_t broadcast_index(const espl_shape *from, const espl_shape *to, int64_t i) {
    int64_t at = 0, step = 1;
    for (int d = to->rank - 1; d >= 0; d--) {
        int64_t index = i % to->dim[d];
        int own = d - (to->rank - from->rank);
        i /= to->dim[d];
        if (own < 0) continue;
        at += from->dim[own] == 1 ? 0 : index * step;
        step *= from->dim[own];
    }
    return at;
}

/* --- a node ------------------------------------------------------------------------------------------------------ */

/* Computes the node's outputs from the reals of its inputs; y[i] has room for output i. */
static inline void oracle_node(const espl__node *n, float *const *in, double **y) {
    const espl_shape *s[3] = {NULL, NULL, NULL}, *out = &n->outputs[0]->shape;
    float *real[3] = {NULL, NULL, NULL};
    for (int i = 0; i < n->input_count && i < 3; i++)
        if (n->inputs[i]) {
            s[i] = &n->inputs[i]->shape;
            real[i] = in[i];
        }
    bool plane = out->rank == 4;
    if (espl__node_is(n, "Conv") && plane) {
        oracle_conv(n, s[0], s[1], out, real, y[0]);
    } else if (plane && (espl__node_is(n, "AveragePool") || espl__node_is(n, "GlobalAveragePool"))) {
        oracle_average(n, s[0], out, real[0], y[0]);
    } else if (espl__node_is(n, "MatMul")) {
        oracle_matmul(s[0], s[1], real[0], real[1], y[0]);
    } else if (espl__node_is(n, "Gemm")) {
        oracle_gemm(n, s[0], s[1], s[2], real, y[0]);
    } else if (espl__node_is(n, "Add")) {
        for (int64_t i = 0; i < espl_shape_count(out); i++)
            y[0][i] = (double)real[0][broadcast_index(s[0], out, i)] + real[1][broadcast_index(s[1], out, i)];
    } else { /* moves and elementwise functions: the operator's reference */
        espl_tensor tin[8] = {{0}}, tout[8] = {{0}};
        for (int i = 0; i < n->input_count; i++)
            if (n->inputs[i])
                tin[i] = (espl_tensor){n->inputs[i]->dtype, n->inputs[i]->shape,
                                       n->inputs[i]->dtype == ESPL_F32 ? in[i] : n->inputs[i]->constant->data};
        for (int i = 0; i < n->output_count; i++)
            tout[i] = (espl_tensor){ESPL_F32, n->outputs[i]->shape, calloc((size_t)elements(n->outputs[i]) + 1, 4)};
        void *scratch = NULL;
        if (n->op->scratch_bytes) scratch = aligned_alloc(64, (n->op->scratch_bytes(n) + 127) / 64 * 64);
        n->op->eval(n, tin, tout, scratch);
        free(scratch);
        for (int i = 0; i < n->output_count; i++) {
            for (int64_t k = 0; k < elements(n->outputs[i]); k++) y[i][k] = ((float *)tout[i].data)[k];
            free(tout[i].data);
        }
    }
}

/* --- quantizing a random graph ------------------------------------------------------------------------------------- */

static inline void quantize_by_range(rig *r, espl__value *v, double lo, double hi) {
    lo = fmin(lo, 0);
    hi = fmax(hi, 0);
    if (hi - lo < 1e-6) hi = lo + 1;
    if (!v->constant && chance(r, 10)) {
        int bits = (int)pick(r, 2, 7);
        float scale = (float)((hi - lo) / ((1 << bits) - 1));
        quantize_value(r, v, (espl_format)(ESPL_FORMAT_U2 + bits - 2), scale, (int32_t)nearbyint(-lo / scale));
    } else if (!v->constant && chance(r, 8)) {
        static const espl_format others[] = {ESPL_FORMAT_F16, ESPL_FORMAT_BF16, ESPL_FORMAT_TF32, ESPL_FORMAT_E4M3, ESPL_FORMAT_E5M2,
                                             ESPL_FORMAT_S16, ESPL_FORMAT_LOG6, ESPL_FORMAT_ULOG6, ESPL_FORMAT_S5, ESPL_FORMAT_S3};
        espl_format f = others[pick(r, 0, (int)ESPL_COUNT(others) - 1)];
        quantize_value(r, v, f, espl__format_is_float(f) ? 1 : (float)fmax(-lo, hi) / espl__format_largest(f), 0);
    } else if (chance(r, 50)) {
        float scale = (float)((hi - lo) / 255);
        quantize_value(r, v, ESPL_FORMAT_U8, scale, (int32_t)nearbyint(-lo / scale));
    } else {
        quantize_value(r, v, ESPL_FORMAT_S8, (float)(fmax(-lo, hi) / 127), chance(r, 80) ? 0 : (int32_t)pick(r, -9, 9));
    }
}

static inline bool shares_grid(const espl__node *n) {
    return n->op->quant == ESPL__QUANT_MOVE || espl__node_is(n, "Relu") || espl__node_is(n, "Clip");
}

/* A small constant on a grid of its own, as codes. */
static inline void quantize_operand_of(rig *r, espl__value *c) {
    double lo = 0, hi = 0;
    const float *x = c->constant->data;
    int64_t count = elements(c);
    for (int64_t i = 0; i < count; i++) {
        lo = fmin(lo, x[i]);
        hi = fmax(hi, x[i]);
    }
    quantize_by_range(r, c, lo, hi);
    bool u8 = c->quant.format == ESPL_FORMAT_U8;
    espl_tensor *codes = espl__graph_tensor(r->g, u8 ? ESPL_U8 : ESPL_S8, &c->shape, NULL);
    for (int64_t i = 0; i < count; i++) {
        double q = round_to_grid(x[i], c->quant.scale[0], c->quant.zero[0], c->quant.format);
        ((uint8_t *)codes->data)[i] = (uint8_t)(int)q;
    }
    c->constant = codes;
}

/* s8 weights as the u8 codes with zero point 128 that some exporters write. */
static inline void shift_to_u8(rig *r, espl__value *w) {
    espl_tensor *codes = espl__graph_tensor(r->g, ESPL_U8, &w->shape, NULL);
    int32_t *zero = calloc((size_t)w->quant.count, sizeof *zero);
    for (int64_t i = 0; i < elements(w); i++)
        ((uint8_t *)codes->data)[i] = (uint8_t)(((const int8_t *)w->constant->data)[i] + 128);
    for (int64_t i = 0; i < w->quant.count; i++) zero[i] = 128;
    espl__quant q = w->quant;
    w->constant = codes;
    assert_true(espl__graph_set_quant(r->g, w, ESPL_FORMAT_U8, q.axis, q.count, q.scale, zero));
    free(zero);
}

static inline void quantize_weights_of(rig *r, espl__node *n) {
    espl__value *w = n->inputs[1], *x = n->inputs[0], *b = n->input_count > 2 ? n->inputs[2] : NULL;
    if (!w->constant || espl__is_quantized(w) || !chance(r, 90)) return;
    int axis = n->op->weight_axis ? n->op->weight_axis(n, 1) : -1;
    if (chance(r, 15)) { /* any format of weights, perhaps without kernels for its codes */
        espl_format f;
        do f = (espl_format)pick(r, 1, ESPL_FORMAT_COUNT - 1);
        while (f == ESPL_FORMAT_S32 || (!espl_format_is_signed(f) && f != ESPL_FORMAT_BINARY01));
        espl__weight_plan plan = {.format = f, .axis = chance(r, 75) ? axis : -1};
        espl__quant grid;
        assert_true(espl__weight_grid(r->g, w->constant, &plan, &grid));
        w->constant = espl__weight_codes(r->g, w->constant, &grid, &plan);
        assert_true(w->constant && espl__graph_copy_quant(r->g, w, &grid));
        return;
    }
    /* One draw a statement: compilers differ in the order of a call's arguments. */
    const espl_format format = chance(r, 85) ? ESPL_FORMAT_S8 : (espl_format)(ESPL_FORMAT_S2 + pick(r, 0, 5));
    quantize_constant_of(r, w, chance(r, 75) ? axis : -1, format);
    if (w->quant.format == ESPL_FORMAT_S8 && chance(r, 10)) shift_to_u8(r, w);
    if (!b || !espl__is_quantized(x) || b->shape.rank != 1 || !chance(r, 80)) return;
    /* s32 with the scale of the accumulator, or with one of its own that is not. */
    int64_t count = elements(b);
    float own = chance(r, 85) ? 1 : 0.25f, *scale = calloc((size_t)count, sizeof *scale);
    espl_tensor *codes = espl__graph_tensor(r->g, ESPL_S32, &b->shape, NULL);
    const float *real = b->constant->data;
    for (int64_t i = 0; i < count; i++) {
        scale[i] = own * x->quant.scale[0] * w->quant.scale[w->quant.count == 1 || count == 1 ? 0 : i];
        ((int32_t *)codes->data)[i] = (int32_t)nearbyint((double)real[i] / scale[i]);
    }
    b->constant = codes;
    assert_true(espl__graph_set_quant(r->g, b, ESPL_FORMAT_S32, 0, count, scale, NULL));
    free(scale);
}

/* Gives `percent` of the graph's values a grid that fits what they hold for input `x`, and most constants too. */
static inline void quantize_graph(random_graph *x, const float *input, int percent) {
    rig *r = &x->r;
    espl_graph *g = r->g;
    float **real = calloc((size_t)g->value_count + 1, sizeof *real);
    for (int i = 0; i < g->value_count; i++) {
        espl__value *v = g->values[i];
        if (v->constant && v->dtype == ESPL_F32) real[v->id] = real_of(v);
    }
    real[g->inputs[0]->id] = malloc((size_t)elements(g->inputs[0]) * 4 + 4);
    memcpy(real[g->inputs[0]->id], input, (size_t)elements(g->inputs[0]) * 4);
    for (int i = 0; i < g->node_count; i++) {
        const espl__node *n = g->nodes[i];
        float *in[8] = {NULL};
        double *y[8] = {NULL};
        for (int k = 0; k < n->input_count; k++) in[k] = n->inputs[k] ? real[n->inputs[k]->id] : NULL;
        for (int k = 0; k < n->output_count; k++) y[k] = malloc((size_t)elements(n->outputs[k]) * 8 + 8);
        oracle_node(n, in, y);
        for (int k = 0; k < n->output_count; k++) {
            float *to = real[n->outputs[k]->id] = malloc((size_t)elements(n->outputs[k]) * 4 + 4);
            for (int64_t e = 0; e < elements(n->outputs[k]); e++) to[e] = (float)y[k][e];
            free(y[k]);
        }
    }
    for (int i = 0; i < g->value_count; i++) {
        espl__value *v = g->values[i];
        if (v->constant || v->dtype != ESPL_F32 || !chance(r, percent)) continue;
        double lo = 0, hi = 0;
        for (int64_t e = 0; e < elements(v); e++) {
            lo = fmin(lo, real[v->id][e]);
            hi = fmax(hi, real[v->id][e]);
        }
        quantize_by_range(r, v, lo, hi);
    }
    for (int i = 0; i < g->node_count; i++) {
        espl__node *n = g->nodes[i];
        if (shares_grid(n) && chance(r, 75) && espl__is_quantized(n->inputs[0]))
            for (int k = 0; k < n->output_count; k++)
                if (espl__is_quantized(n->outputs[k])) n->outputs[k]->quant = n->inputs[0]->quant;
        if (espl__node_is(n, "Conv") || espl__node_is(n, "Gemm") || espl__node_is(n, "MatMul")) {
            quantize_weights_of(r, n);
            continue;
        }
        bool plain = espl__node_is(n, "Add") || espl__node_is(n, "Mul") || espl__node_is(n, "Concat");
        for (int k = 0; plain && k < n->input_count; k++)
            if (n->inputs[k]->constant && !espl__is_quantized(n->inputs[k]) && elements(n->inputs[k]) > 1 && chance(r, 60))
                quantize_operand_of(r, n->inputs[k]);
    }
    for (int i = 0; i < g->value_count; i++) free(real[i]);
    free(real);
}

/* A random graph on integers; destroy x->r.g. */
static inline void random_quantized_graph(random_graph *x, espl_context *ctx, uint64_t seed, int percent) {
    random_graph_of(x, ctx, seed, 12, true);
    espl_tensor in = {ESPL_F32, x->r.g->inputs[0]->shape, malloc((size_t)elements(x->r.g->inputs[0]) * 4 + 4)};
    espl__rng rng = espl__rng_seed(seed, 3);
    fill_random(&rng, &in);
    quantize_graph(x, in.data, percent);
    free(in.data);
}

/* So that nothing is fused away. */
static inline void all_values_are_outputs(espl_graph *g) {
    espl__value *out[64];
    int count = 0;
    for (int i = 0; i < g->value_count; i++)
        if (!g->values[i]->constant && count < 64) out[count++] = g->values[i];
    assert_true(espl__graph_set_io(g, g->inputs, g->input_count, out, count));
}

#endif
