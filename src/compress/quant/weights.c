/* Scales and codes of weights, one function a kind of format.
 *
 * integers   S = max|w| / (2^(b-1) - 1), symmetric, or the S of least squared error up to that
 * fp8        S = max|w| / the largest number of the format
 * log2       S = max|w|, or the one of least squared error around it (LogNet, Miyashita 2016)
 * ternary    codes by |w| > 0.7 mean|w|, S = the mean of |w| among these (TWN, Li 2016)
 * binary     sign(w), S = mean|w| (XNOR-Net, Rastegari 2016)
 * binary01   two levels of least squared error for a split at the mean: offset, and offset + S */
#include "compress/quant/weights.h"
#include "base/base.h"

#include <math.h>

/* The weights that share a scale, one after the other. */
typedef struct set {
    float *x;
    int64_t count;
} set;

static float finite(float x) {
    return isfinite(x) ? x : 0;
}

static float largest(const set *s) {
    float most = 0;
    for (int64_t i = 0; i < s->count; i++) most = fmaxf(most, fabsf(finite(s->x[i])));
    return most;
}

static float valid(float scale) {
    return scale >= 1e-30f && isfinite(scale) ? scale : 1;
}

static double squared_error(espl_format f, const set *s, float scale) {
    double sum = 0;
    for (int64_t i = 0; i < s->count; i++) {
        const double d =
            (double)finite(s->x[i]) -
            (double)espl__format_decode(f, espl__format_encode(f, finite(s->x[i]) / scale)) * scale;
        sum += d * d;
    }
    return sum;
}

/* Of full * ratio^first ... full * ratio^last the one with the least error; the first of several. */
static float search(espl_format f, const set *s, float full, float ratio, int first, int last) {
    float best = full;
    double least = INFINITY;
    for (int i = first; i <= last; i++) {
        const float scale = full * powf(ratio, (float)i);
        const double error = scale >= 1e-30f ? squared_error(f, s, scale) : INFINITY;
        if (error < least) {
            least = error;
            best = scale;
        }
    }
    return best;
}

/* 40 steps of 3 % reach down to 0.3 of the largest, then finer ones around the best. */
static float fit_integer(const espl__weight_plan *p, const set *s) {
    const float full = valid(largest(s) / espl__format_largest(p->format));
    if (p->pow2) {
        const float power = exp2f(ceilf(log2f(full)));
        return p->fit == ESPL__FIT_MSE ? search(p->format, s, power, 0.5f, 0, 2) : power;
    }
    if (p->fit != ESPL__FIT_MSE) return full;
    return fminf(search(p->format, s, search(p->format, s, full, 0.97f, 0, 40), 0.994f, -4, 4), full);
}

static float fit_log2(const espl__weight_plan *p, const set *s) {
    const float full = valid(largest(s));
    if (p->pow2) {
        const float power = exp2f(rintf(log2f(full)));
        return p->fit == ESPL__FIT_MSE ? search(p->format, s, power, 0.5f, -1, 1) : power;
    }
    return p->fit == ESPL__FIT_MSE ? search(p->format, s, full, 0.917f, -4, 12) : full;
}

static double mean_magnitude(const set *s, double above, int64_t *count) {
    double sum = 0;
    *count = 0;
    for (int64_t i = 0; i < s->count; i++)
        if (fabsf(finite(s->x[i])) > above) {
            sum += fabsf(finite(s->x[i]));
            ++*count;
        }
    return *count > 0 ? sum / (double)*count : 0;
}

/* Codes come from weights in units of the scale, so those beyond the threshold become the scale and others 0.
 */
static float fit_ternary(const espl__weight_plan *p, set *s) {
    int64_t count;
    const double all = mean_magnitude(s, -1, &count), threshold = 0.7 * all;
    const float scale = valid((float)mean_magnitude(s, threshold, &count));
    (void)p;
    for (int64_t i = 0; i < s->count; i++)
        s->x[i] = fabsf(finite(s->x[i])) > threshold ? copysignf(scale, s->x[i]) : 0;
    return scale;
}

static float fit_binary(const espl__weight_plan *p, const set *s) {
    int64_t count;
    (void)p;
    return valid((float)mean_magnitude(s, -1, &count));
}

static float fit_binary01(set *s, float *offset) {
    double mean = 0, sum[2] = {0, 0};
    int64_t count[2] = {0, 0};
    for (int64_t i = 0; i < s->count; i++) mean += finite(s->x[i]) / (double)ESPL_MAX(s->count, 1);
    for (int64_t i = 0; i < s->count; i++) {
        const int above = finite(s->x[i]) > mean;
        sum[above] += finite(s->x[i]);
        count[above]++;
    }
    const double low = count[0] ? sum[0] / (double)count[0] : 0,
                 high = count[1] ? sum[1] / (double)count[1] : low;
    *offset = (float)low;
    return valid((float)(high - low));
}

static float nearest_power(float scale) {
    return exp2f(rintf(log2f(scale)));
}

static float fit(const espl__weight_plan *p, set *s, float *offset) {
    float scale;
    switch (espl_format_kind_of(p->format)) {
        case ESPL_FORMAT_KIND_FP8:
            scale = valid(largest(s) / espl__format_largest(p->format));
            return p->pow2 ? exp2f(ceilf(log2f(scale))) : scale;
        case ESPL_FORMAT_KIND_LOG2:
            return fit_log2(p, s);
        case ESPL_FORMAT_KIND_TERNARY:
            scale = fit_ternary(p, s);
            return p->pow2 ? nearest_power(scale) : scale;
        case ESPL_FORMAT_KIND_BINARY:
            scale = p->format == ESPL_FORMAT_BINARY ? fit_binary(p, s) : fit_binary01(s, offset);
            return p->pow2 ? nearest_power(scale) : scale;
        default:
            return fit_integer(p, s);
    }
}

/* --- sets -------------------------------------------------------------------------------------------- */

/* The weights in the order of their scales; start[i] is where those of scale i begin. */
typedef struct sorted {
    espl_context *ctx;
    float *x;
    int64_t *start, *from; /* from[k]: element of the tensor that x[k] is */
} sorted;

static void sorted_free(sorted *s) {
    espl__free(s->ctx, s->x);
    espl__free(s->ctx, s->start);
    espl__free(s->ctx, s->from);
}

static bool sort(espl_graph *g, const espl_tensor *w, const espl__quant *q, sorted *s) {
    const int64_t count = espl_shape_count(&w->shape);
    const espl__scale_walk walk = espl__scale_walk_of(q, &w->shape);
    *s = (sorted){.ctx = g->arena.ctx};
    s->x = espl__alloc(s->ctx, 4 * (uint64_t)count + 4);
    s->from = espl__alloc(s->ctx, 8 * (uint64_t)count + 8);
    s->start = espl__calloc(s->ctx, (uint64_t)q->count + 2, sizeof *s->start);
    if (!s->x || !s->from || !s->start) return false;
    for (int64_t i = 0; i < count; i++) s->start[espl__scale_at(&walk, i) + 2]++;
    for (int64_t c = 2; c <= q->count + 1; c++) s->start[c] += s->start[c - 1];
    for (int64_t i = 0; i < count; i++) {
        const int64_t at = s->start[espl__scale_at(&walk, i) + 1]++;
        s->x[at] = ((const float *)w->data)[i];
        s->from[at] = i;
    }
    return true;
}

/* --- grids and codes --------------------------------------------------------------------------------- */

/* Beside few bits a scale of 32 would be much of the file: it is rounded to f16 before codes are chosen. */
static bool narrow(espl_format format) {
    return !espl__format_is_float(format) && espl_format_bits(format) <= 4;
}

/* Those that f16 has with all its bits. */
static bool normal_half(float x) {
    return x >= 0x1p-14f && x <= 65504;
}

float espl__weight_scale(const espl__quant *q, float scale) {
    const float half = espl__half_to_float(espl__half_from_float(scale));
    if (q->group == 0) return narrow(q->format) && normal_half(scale) ? half : scale;
    return half > 0 && isfinite(half) ? half : half > 0 ? 65504 : 0x1p-24f; /* kernels read f16 */
}

/* What f16 loses of a bias is at most 2^-11 of it, or of the scale: beyond the normal numbers it is at most
 * 2^-25, and scales that are normal are not below 2^-14. */
void espl__weight_bias(const espl__quant *weights, float *bias, int64_t count) {
    bool good = narrow(weights->format);
    for (int64_t i = 0; good && i < weights->count; i++) good = normal_half(weights->scale[i]);
    for (int64_t i = 0; good && i < count; i++) good = fabsf(bias[i]) <= 65504;
    for (int64_t i = 0; good && i < count; i++) bias[i] = espl__half_to_float(espl__half_from_float(bias[i]));
}

bool espl__weight_grid(espl_graph *g, const espl_tensor *w, const espl__weight_plan *p, espl__quant *out) {
    *out = (espl__quant){
        .format = p->format, .axis = p->axis, .group = p->group, .group_axis = p->group_axis, .count = 1};
    const bool plain = espl__format_is_float(p->format);
    if (plain) *out = (espl__quant){.format = p->format, .axis = -1, .count = 1};
    out->count = espl__quant_scales(out, &w->shape);
    if (out->count < 1) { /* no elements */
        out->axis = -1;
        out->group = 0;
        out->count = 1;
    }
    out->scale = espl__arena_alloc(&g->arena, 4 * (uint64_t)out->count);
    if (p->format == ESPL_FORMAT_BINARY01)
        out->offset = espl__arena_alloc(&g->arena, 4 * (uint64_t)out->count);
    if (!out->scale || (p->format == ESPL_FORMAT_BINARY01 && !out->offset)) return false;
    if (plain) {
        out->scale[0] = 1;
        return true;
    }
    sorted s;
    const bool good = sort(g, w, out, &s);
    for (int64_t c = 0; good && c < out->count; c++) {
        set one = {s.x + s.start[c], s.start[c + 1] - s.start[c]};
        out->scale[c] = espl__weight_scale(out, fit(p, &one, out->offset ? &out->offset[c] : NULL));
    }
    sorted_free(&s);
    return good;
}

/* A number of [0, 1) that depends on seed and element only: splitmix64. */
static float draw(uint64_t seed, int64_t element) {
    return (float)(espl__mix64(seed + 0x9e3779b97f4a7c15u * (uint64_t)element) >> 40) * 0x1p-24f;
}

/* Binary: of the weight itself, as BinaryConnect (Courbariaux 2015) does. */
static int32_t stochastic(espl_format f, float weight, float x, float u) {
    if (f == ESPL_FORMAT_BINARY) return u < fminf(fmaxf((weight + 1) / 2, 0), 1) ? 1 : -1;
    return espl__format_encode(f, floorf(x + u));
}

static void put(espl_tensor *codes, int64_t i, espl_format f, float number, int32_t code) {
    switch (codes->dtype) {
        case ESPL_F32:
            ((float *)codes->data)[i] = espl__format_round(f, number);
            break;
        case ESPL_F16:
            ((uint16_t *)codes->data)[i] = espl__half_from_float(fminf(fmaxf(number, -65504), 65504));
            break;
        case ESPL_BF16:
            ((uint16_t *)codes->data)[i] = espl__bfloat_from_float(number);
            break;
        case ESPL_S16:
            ((int16_t *)codes->data)[i] = (int16_t)code;
            break;
        default:
            ((uint8_t *)codes->data)[i] = (uint8_t)code;
    }
}

espl_tensor *espl__weight_codes(espl_graph *g, const espl_tensor *w, const espl__quant *q,
                                const espl__weight_plan *p) {
    espl_tensor *codes = espl__graph_tensor(g, espl__format_dtype(q->format), &w->shape, NULL);
    if (!codes) return NULL;
    const int64_t count = espl_shape_count(&w->shape);
    const espl__scale_walk walk = espl__scale_walk_of(q, &w->shape);
    const bool plain = espl__format_is_float(q->format), ternary = q->format == ESPL_FORMAT_TERNARY;
    const bool by_chance = p->round == ESPL__ROUND_STOCHASTIC && !plain && !ternary &&
                           espl_format_kind_of(q->format) != ESPL_FORMAT_KIND_FP8 &&
                           espl_format_kind_of(q->format) != ESPL_FORMAT_KIND_LOG2;
    sorted s = {0};
    if (ternary) { /* the threshold is the set's */
        if (!sort(g, w, q, &s)) codes = NULL;
        for (int64_t c = 0; codes && c < q->count; c++) {
            set one = {s.x + s.start[c], s.start[c + 1] - s.start[c]};
            (void)fit_ternary(p, &one);
        }
        for (int64_t k = 0; codes && k < count; k++)
            put(codes, s.from[k], q->format, 0, (s.x[k] > 0) - (s.x[k] < 0));
        sorted_free(&s);
        return codes;
    }
    for (int64_t i = 0; i < count; i++) {
        float number = ((const float *)w->data)[i];
        if (number != number) number = 0;
        if (plain) {
            put(codes, i, q->format, number, 0);
            continue;
        }
        const int64_t c = espl__scale_at(&walk, i);
        const float x = (number - (q->offset ? q->offset[c] : 0)) / q->scale[c];
        put(codes, i, q->format, number,
            by_chance ? stochastic(q->format, number, x, draw(p->seed, i))
                      : espl__format_encode(q->format, x));
    }
    return codes;
}

espl__value *espl__weight_constant(espl_graph *g, const espl__value *old, espl_tensor *codes,
                                   const espl__quant *grid) {
    espl__value *v = codes ? espl__graph_constant(g, NULL, codes) : NULL;
    if (!v || !espl__graph_copy_quant(g, v, grid)) return NULL;
    v->dtype = ESPL_F32;
    if (espl_format_kind_of(grid->format) != ESPL_FORMAT_KIND_BINARY)
        v->zeros = old->zeros; /* 0 has the code 0 */
    return v;
}
