#include "compress/quant/accumulator.h"
#include "compress/quant/weights.h"
#include "passes/passes.h"
#include "runtime/lower.h"

#include <inttypes.h>
#include <math.h>

espl__bounds espl__accumulator_bounds(const int8_t *w, int64_t count, int64_t by, int64_t start, int32_t lo,
                                      int32_t hi) {
    espl__bounds b = {start, start};
    for (int64_t i = 0; i < count; i++) {
        int64_t a = (int64_t)w[i * by] * lo, c = (int64_t)w[i * by] * hi;
        b.lo += ESPL_MIN(a, c);
        b.hi += ESPL_MAX(a, c);
    }
    return b;
}

int espl__accumulator_bits(espl__bounds b) {
    int bits = 1;
    while (bits < 63 && (b.lo < -(INT64_C(1) << (bits - 1)) || b.hi > (INT64_C(1) << (bits - 1)) - 1)) bits++;
    return bits;
}

/* --- layers -------------------------------------------------------------------------------------------- */

/* An integer layer as its rows' sums see it. */
typedef struct sums {
    const espl__value *x, *w;
    espl__value *bias; /* a constant, NULL: none */
    espl__matrix m;
    int8_t *codes;
    int32_t lo, hi, zero; /* of x */
} sums;

/* The addition of a bias to a MatMul belongs to its sums. */
static espl__value *bias_of(const espl_graph *g, const espl__node *n) {
    if (!espl__node_is(n, "MatMul")) return n->input_count > 2 ? n->inputs[2] : NULL;
    const espl__node *add = espl__plan_bias_add(g, n);
    return add ? add->inputs[add->inputs[0] == n->outputs[0] ? 1 : 0] : NULL;
}

static bool is_code8(const espl__value *v) {
    const espl__quant *q = &v->quant;
    return espl__is_quantized(v) && espl__format_is_code8(q->format) && q->group == 0 && !q->offset;
}

static bool read_sums(const espl_graph *g, const espl__node *n, sums *s) {
    espl__zeros axes;
    if (!espl__node_is(n, "Conv") && !espl__node_is(n, "Gemm") && !espl__node_is(n, "MatMul")) return false;
    *s = (sums){.x = n->inputs[0], .w = n->inputs[1]};
    if (!is_code8(s->x) || s->x->constant || s->x->quant.count != 1) return false;
    if (!s->w->constant || !is_code8(s->w) || s->w->constant->dtype != ESPL_S8 || s->w->quant.zero)
        return false;
    if (!espl__weight_matrix(n, 1, &axes, &s->m)) return false;
    if (s->w->quant.count != 1 && s->w->quant.count != s->m.rows) return false;
    espl__format_range(s->x->quant.format, &s->lo, &s->hi);
    if (s->x->quant.format == ESPL_FORMAT_S8) s->lo = -128; /* which what is rounded at run time may become */
    s->zero = s->x->quant.zero ? s->x->quant.zero[0] : 0;
    s->codes = s->w->constant->data;
    s->bias = bias_of(g, n);
    return !s->bias || (s->bias->constant && espl_shape_count(&s->bias->shape) == s->m.rows);
}

static float scale_of(const sums *s, int64_t row) {
    return s->w->quant.scale[s->w->quant.count == 1 ? 0 : row];
}

static double bias_at(const sums *s, int64_t row) {
    const espl_tensor *t = s->bias ? s->bias->constant : NULL;
    if (!t) return 0;
    const espl__quant *q = &s->bias->quant;
    if (t->dtype == ESPL_F32) return ((const float *)t->data)[row];
    if (t->dtype != ESPL_S32 || q->count < 1) return 0;
    return (double)((const int32_t *)t->data)[row] * q->scale[q->count == 1 ? 0 : row];
}

/* The bias in the unit of the sums, as quantization and runtime round it. */
static int64_t bias_code(const sums *s, int64_t row, float scale) {
    double q = nearbyint(bias_at(s, row) / ((double)s->x->quant.scale[0] * scale));
    return (int64_t)fmin(fmax(q, -0x1p40), 0x1p40);
}

static espl__bounds bounds_of_row(const sums *s, int64_t row, float scale) {
    int64_t sum = 0;
    espl__bounds all = {0, 0};
    for (int64_t t = 0; t < s->m.taps; t++) {
        const int8_t *w = s->codes + espl__matrix_at(&s->m, row, t, 0);
        espl__bounds b = espl__accumulator_bounds(w, s->m.inputs, s->m.by_input, 0, s->lo, s->hi);
        all.lo += b.lo;
        all.hi += b.hi;
        for (int64_t i = 0; i < s->m.inputs; i++) sum += w[i * s->m.by_input];
    }
    int64_t start = bias_code(s, row, scale) - s->zero * sum;
    return (espl__bounds){all.lo + start, all.hi + start};
}

espl__accumulator espl__accumulator_of(const espl_graph *g, const espl__node *n) {
    sums s;
    espl__accumulator out = {0, 0};
    if (!read_sums(g, n, &s)) return out;
    out.rows = s.m.rows;
    for (int64_t r = 0; r < s.m.rows; r++) {
        int bits = espl__accumulator_bits(bounds_of_row(&s, r, scale_of(&s, r)));
        out.bits = ESPL_MAX(out.bits, bits);
    }
    return out;
}

int64_t espl__accumulator_failing(const espl_graph *g, const espl__node *n, int bits) {
    sums s;
    int64_t failing = 0;
    if (!read_sums(g, n, &s)) return 0;
    for (int64_t r = 0; r < s.m.rows; r++)
        failing += espl__accumulator_bits(bounds_of_row(&s, r, scale_of(&s, r))) > bits;
    return failing;
}

/* --- shrinking ----------------------------------------------------------------------------------------- */

static void round_row(const sums *s, const float *weights, int64_t row, float scale) {
    int32_t lo, hi;
    espl__format_range(s->w->quant.format, &lo, &hi);
    for (int64_t t = 0; t < s->m.taps; t++)
        for (int64_t i = 0; i < s->m.inputs; i++) {
            int64_t at = espl__matrix_at(&s->m, row, t, i);
            s->codes[at] = (int8_t)espl__requantize(weights[at] / scale, 0, lo, hi);
        }
}

/* Rows first to last share a scale. It grows by as much as the sums are too large, then by 64ths; powers of
 * two stay such. Every growth halves what is left sooner or later, and sums of zeros fit. */
static bool shrink_rows(const sums *s, const float *weights, int64_t first, int64_t last, int bits,
                        float *scale) {
    int exponent;
    const bool power = frexpf(*scale, &exponent) == 0.5f;
    const double limit = ldexp(1, bits - 1);
    while (isfinite(*scale)) {
        double most = 0;
        bool fits = true;
        for (int64_t r = first; r < last; r++) {
            espl__bounds b = bounds_of_row(s, r, *scale);
            fits = fits && espl__accumulator_bits(b) <= bits;
            most = fmax(most, fmax((double)b.hi, -(double)b.lo));
        }
        if (fits) return true;
        *scale *= power ? 2 : (float)fmax(most / limit * 0.98, 1.015625);
        *scale = espl__weight_scale(&s->w->quant, *scale);
        for (int64_t r = first; r < last; r++) round_row(s, weights, r, *scale);
    }
    return false;
}

/* Codes of the bias, if there are some, in the new unit. */
static void rescale_bias(const sums *s) {
    if (!s->bias || s->bias->constant->dtype != ESPL_S32 || s->bias->quant.count != s->m.rows) return;
    for (int64_t r = 0; r < s->m.rows; r++) {
        double code = (double)bias_code(s, r, scale_of(s, r));
        ((int32_t *)s->bias->constant->data)[r] = (int32_t)fmin(fmax(code, -0x1p30), 0x1p30);
        s->bias->quant.scale[r] = s->x->quant.scale[0] * scale_of(s, r);
    }
}

static espl_status refuse(const espl__node *n, const sums *s, int64_t row, int bits, espl_diag *diag) {
    char label[160];
    return espl__fail(
        diag, ESPL_UNSUPPORTED,
        "%s: the sums of output %" PRId64
        " need %d bits, and the accumulator has %d; take fewer bits for weights or activations, or let "
        "on_overflow be shrink",
        espl__node_label(n, label, sizeof label), row,
        espl__accumulator_bits(bounds_of_row(s, row, scale_of(s, row))), bits);
}

espl_status espl__accumulator_limit(espl_graph *g, espl__node *n, const espl_tensor *weights, int bits,
                                    espl__overflow overflow, int64_t *shrunk, espl_diag *diag) {
    sums s;
    *shrunk = 0;
    if (!read_sums(g, n, &s)) return ESPL_OK;
    if (!weights) weights = espl__constant_f32(g, s.w);
    if (!weights) return espl__nomem(diag, (uint64_t)espl__matrix_count(&s.m) * 4);
    const bool one = s.w->quant.count == 1;
    for (int64_t r = 0; r < s.m.rows; r++) {
        if (espl__accumulator_bits(bounds_of_row(&s, r, scale_of(&s, r))) <= bits) continue;
        if (overflow == ESPL__OVERFLOW_REFUSE) return refuse(n, &s, r, bits, diag);
        float *scale = &s.w->quant.scale[one ? 0 : r];
        if (!shrink_rows(&s, weights->data, one ? 0 : r, one ? s.m.rows : r + 1, bits, scale))
            return refuse(n, &s, r, bits, diag);
        *shrunk += one ? s.m.rows : 1;
        if (one) break;
    }
    if (*shrunk) rescale_bias(&s);
    return ESPL_OK;
}
