/* DFT and STFT. A transform of n = p m elements, p the least prime factor, is p transforms of m elements and
 * sums of p terms (Cooley and Tukey, 1965): n sum(p) steps in all, in double precision. */
#include "ops/fourier.h"

#include <inttypes.h>
#include <math.h>

static const double pi = 3.14159265358979323846;
static const double max_steps = 1e11; /* of one transform: beyond that nobody waits for it */
enum { MAX_LENGTH = 1 << 28 };

typedef espl__complex64 complex64;
typedef espl__dft dft;
typedef espl__stft stft;

static int64_t least_factor(int64_t n) {
    for (int64_t p = 2; p * p <= n; p++)
        if (n % p == 0) return p;
    return n;
}

static double steps_of(int64_t n) {
    double steps = (double)n;
    for (int64_t m = n; m > 1; m /= least_factor(m)) steps += (double)n * (double)least_factor(m);
    return steps;
}

/* to[0..n) is the transform of from[0, stride, 2 stride, ...); root[k] = e^(-+2 pi i k / (n stride)). `spare`
 * has n elements. */
static void transform(complex64 *to, const complex64 *from, int64_t n, int64_t stride, const complex64 *root,
                      complex64 *spare) {
    if (n == 1) {
        *to = *from;
        return;
    }
    const int64_t p = least_factor(n), m = n / p;
    for (int64_t r = 0; r < p; r++)
        transform(spare + r * m, from + r * stride, m, stride * p, root, to + r * m);
    for (int64_t k = 0; k < n; k++) { /* sum over r of root^(r k) of the r-th part */
        complex64 sum = spare[k % m];
        int64_t turn = 0;
        for (int64_t r = 1; r < p; r++) {
            turn = turn + k < n ? turn + k : turn + k - n;
            const complex64 x = spare[r * m + k % m], w = root[turn * stride];
            sum.re += x.re * w.re - x.im * w.im;
            sum.im += x.re * w.im + x.im * w.re;
        }
        to[k] = sum;
    }
}

static void make_roots(complex64 *root, int64_t n, bool inverse) {
    for (int64_t k = 0; k < n; k++) {
        double turn = 2 * pi * (double)k / (double)n;
        root[k] = (complex64){cos(turn), inverse ? sin(turn) : -sin(turn)};
    }
}

uint64_t espl__fourier_bytes(int64_t length) {
    return length > 0 ? 4 * sizeof(complex64) * (uint64_t)length : 0;
}

espl__fourier espl__fourier_begin(void *room, int64_t length, bool inverse) {
    complex64 *line = room;
    espl__fourier f = {length, line, line + length, line + 2 * length, line + 3 * length};
    make_roots(f.root, length, inverse);
    return f;
}

void espl__fourier_run(const espl__fourier *f) {
    transform(f->result, f->line, f->length, 1, f->root, f->spare);
}

static espl_status check_length(const espl__node *node, int64_t n, espl_diag *diag) {
    if (n < 1 || n > MAX_LENGTH)
        return espl__fail(diag, ESPL_LIMIT, "%s: a transform of %" PRId64 " elements is not possible",
                          node->op->name, n);
    if (steps_of(n) <= max_steps) return ESPL_OK;
    return espl__fail(diag, ESPL_LIMIT,
                      "%s: a transform of %" PRId64
                      " elements, whose prime factors are large, takes too long",
                      node->op->name, n);
}

/* An optional whole number among the inputs: `present`, and `known` if it is a constant. */
static espl_status read_number(const espl__node *node, int i, bool *present, bool *known, int64_t *out,
                               espl_diag *diag) {
    espl__ints list;
    espl_status status = espl__read_ints(node, NULL, i, &list, diag);
    *present = list.present;
    *known = list.present && list.known && list.count == 1;
    if (*known) *out = list.v[0];
    if (status != ESPL_OK || !list.present || list.count < 0 || list.count == 1) return status;
    return espl__fail(diag, ESPL_SHAPE, "%s: input %d is not one number", node->op->name, i);
}

/* --- DFT ------------------------------------------------------------------------------------- */

static espl_status read_axis(const espl__node *node, int rank, dft *d, espl_diag *diag) {
    bool present = false, known = true;
    int64_t axis = node->opset < 20 ? espl__attr_int(node, "axis", 1) : -2;
    espl_status status = ESPL_OK;
    if (node->opset >= 20) ESPL_TRY(read_number(node, 2, &present, &known, &axis, diag));
    d->known = !present || known;
    if (!d->known) return ESPL_OK;
    ESPL_TRY(espl__axis(axis, rank, &d->axis, diag));
    if (d->axis == rank - 1)
        return espl__fail(diag, ESPL_SHAPE, "DFT: the last axis holds the parts of complex numbers");
done:
    return status;
}

espl_status espl__dft_resolve(const espl__node *node, const espl_shape *x, dft *d, espl_diag *diag) {
    espl_status status;
    bool present, known;
    *d = (dft){.inverse = espl__attr_int(node, "inverse", 0) != 0,
               .onesided = espl__attr_int(node, "onesided", 0) != 0};
    int64_t parts = x->dim[x->rank - 1];
    if (!espl__dims_agree(parts, 1) && parts != 2)
        return espl__fail(
            diag, ESPL_SHAPE,
            "DFT: the last axis has %" PRId64 " elements; 1 (real) and 2 (complex) are possible", parts);
    ESPL_TRY(read_axis(node, x->rank, d, diag));
    ESPL_TRY(read_number(node, 1, &present, &known, &d->length, diag));
    if (!d->known) return ESPL_OK;
    d->in = x->dim[d->axis];
    d->known = present ? known : d->in >= 0;
    if (!d->known) return ESPL_OK;
    if (!present) d->length = d->inverse && d->onesided ? 2 * (d->in - 1) : d->in;
    ESPL_TRY(check_length(node, d->length, diag));
    d->parts = d->inverse && d->onesided ? 1 : 2;
    d->out = d->onesided && !d->inverse ? d->length / 2 + 1 : d->length;
done:
    return status;
}

static espl_status infer_dft(const espl__node *node, espl_diag *diag) {
    espl_status status;
    dft d;
    ESPL_TRY(espl__op_begin(node, diag));
    ESPL_TRY(espl__check_dtype(node, 0, ESPL__T(F32) | ESPL__T(F64), diag));
    ESPL_TRY(espl__check_rank(node, 0, 2, ESPL_MAX_RANK, diag));
    const espl__value *x = espl__in(node, 0);
    if (!x->known_rank) return espl__set_unknown(node, 0, x->dtype);
    ESPL_TRY(espl__dft_resolve(node, &x->shape, &d, diag));
    espl_shape y = x->shape;
    for (int i = 0; i < y.rank - 1 && !d.known; i++) y.dim[i] = ESPL_DIM_UNKNOWN;
    if (d.known) y.dim[d.axis] = d.out;
    y.dim[y.rank - 1] = d.known ? d.parts : ESPL_DIM_UNKNOWN;
    status = espl__set_out(node, 0, x->dtype, &y, diag);
done:
    return status;
}

/* Cut or filled up with zeros to the transform's length; of a half spectrum the rest is its mirror image. */
static void load_line(const dft *d, const espl_tensor *x, int64_t base, int64_t step, complex64 *to) {
    const int64_t parts = x->shape.dim[x->shape.rank - 1];
    const bool half = d->inverse && d->onesided;
    const int64_t have = ESPL_MIN(d->in, half ? d->length / 2 + 1 : d->length);
    for (int64_t i = 0; i < d->length; i++) {
        to[i] = (complex64){0, 0};
        if (i >= have) continue;
        to[i].re = espl__real_at(x, (base + i * step) * parts);
        if (parts == 2) to[i].im = espl__real_at(x, (base + i * step) * parts + 1);
    }
    if (!half) return;
    to[0].im = 0;
    for (int64_t i = 1; 2 * i <= d->length; i++) {
        if (2 * i == d->length)
            to[i].im = 0;
        else
            to[d->length - i] = (complex64){to[i].re, -to[i].im};
    }
}

static void eval_dft(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    dft d;
    const espl_shape *x = &in[0].shape;
    if (espl__is_empty(&out[0]) || espl__dft_resolve(node, x, &d, NULL) != ESPL_OK || !d.known) return;
    const int64_t outer = espl__dims_product(x, 0, d.axis),
                  inner = espl__dims_product(x, d.axis + 1, x->rank - 1);
    espl__fourier f = espl__fourier_begin(scratch, d.length, d.inverse);
    const double scale = d.inverse ? 1 / (double)d.length : 1;
    for (int64_t o = 0; o < outer; o++)
        for (int64_t i = 0; i < inner; i++) {
            load_line(&d, &in[0], o * d.in * inner + i, inner, f.line);
            espl__fourier_run(&f);
            for (int64_t k = 0; k < d.out; k++) {
                int64_t at = ((o * d.out + k) * inner + i) * d.parts;
                espl__real_put(&out[0], at, f.result[k].re * scale);
                if (d.parts == 2) espl__real_put(&out[0], at + 1, f.result[k].im * scale);
            }
        }
}

static uint64_t scratch_dft(const espl__node *node) {
    dft d;
    bool known = espl__dft_resolve(node, &node->inputs[0]->shape, &d, NULL) == ESPL_OK && d.known;
    return known ? espl__fourier_bytes(d.length) : 0;
}

const espl__op espl__op_DFT = {
    .name = "DFT",
    .domain = "",
    .min_inputs = 1,
    .max_inputs = 3,
    .min_outputs = 1,
    .max_outputs = 1,
    .since = 17,
    .until = 21,
    .infer = infer_dft,
    .eval = eval_dft,
    .scratch_bytes = scratch_dft,
    .quant = ESPL__QUANT_FLOAT,
};

/* --- STFT ------------------------------------------------------------------------------------ */

espl_status espl__stft_resolve(const espl__node *node, stft *s, espl_diag *diag) {
    espl_status status;
    bool present, known, has_length, length_known;
    const espl__value *x = espl__in(node, 0), *w = espl__in(node, 2);
    *s = (stft){.samples = x->shape.dim[1], .parts = x->shape.rank == 3 ? x->shape.dim[2] : 1};
    ESPL_TRY(read_number(node, 1, &present, &known, &s->step, diag));
    ESPL_TRY(read_number(node, 3, &has_length, &length_known, &s->length, diag));
    s->window = w && w->known_rank ? w->shape.dim[0] : -1;
    if (!espl__dims_agree(s->parts, 1) && s->parts != 2)
        return espl__fail(diag, ESPL_SHAPE, "STFT: the last axis is neither 1 (real) nor 2 (complex)");
    if (!known || (has_length && !length_known) || (w && s->window < 0) || s->samples < 0 || s->parts < 0)
        return ESPL_OK;
    if (!has_length) s->length = w ? s->window : s->samples;
    if (!w) s->window = s->length;
    if (s->step < 1) return espl__fail(diag, ESPL_FORMAT, "STFT: frame_step is %" PRId64, s->step);
    ESPL_TRY(check_length(node, s->length, diag));
    if (s->window > s->length || s->length > s->samples)
        return espl__fail(diag, ESPL_SHAPE,
                          "STFT: a window of %" PRId64 " elements in frames of %" PRId64
                          " of a signal of %" PRId64,
                          s->window, s->length, s->samples);
    bool onesided = espl__attr_int(node, "onesided", 1) != 0;
    if (onesided && s->parts == 2) return espl__fail(diag, ESPL_SHAPE, "STFT: onesided needs a real signal");
    s->frames = 1 + (s->samples - s->length) / s->step;
    s->bins = onesided ? s->length / 2 + 1 : s->length;
    s->known = true;
done:
    return status;
}

static espl_status infer_stft(const espl__node *node, espl_diag *diag) {
    espl_status status;
    stft s;
    ESPL_TRY(espl__op_begin(node, diag));
    ESPL_TRY(espl__check_dtype(node, 0, ESPL__T(F32) | ESPL__T(F64), diag));
    ESPL_TRY(espl__check_same_dtype(node, 0, 2, diag));
    ESPL_TRY(espl__check_rank(node, 0, 2, 3, diag));
    ESPL_TRY(espl__check_rank(node, 2, 1, 1, diag));
    const espl__value *x = espl__in(node, 0);
    if (!x->known_rank) return espl__set_unknown(node, 0, x->dtype);
    ESPL_TRY(espl__stft_resolve(node, &s, diag));
    espl_shape y = {
        4, {x->shape.dim[0], s.known ? s.frames : ESPL_DIM_UNKNOWN, s.known ? s.bins : ESPL_DIM_UNKNOWN, 2}};
    status = espl__set_out(node, 0, x->dtype, &y, diag);
done:
    return status;
}

/* A window shorter than its frame leaves zeros behind it. */
static void load_frame(const stft *s, const espl_tensor *in, bool has_window, int64_t base, complex64 *to) {
    for (int64_t i = 0; i < s->length; i++) {
        to[i] = (complex64){0, 0};
        if (i >= s->window) continue;
        double w = has_window ? espl__real_at(&in[2], i) : 1;
        to[i].re = w * espl__real_at(&in[0], (base + i) * s->parts);
        if (s->parts == 2) to[i].im = w * espl__real_at(&in[0], (base + i) * s->parts + 1);
    }
}

static void eval_stft(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    stft s;
    if (espl__is_empty(&out[0]) || espl__stft_resolve(node, &s, NULL) != ESPL_OK || !s.known) return;
    espl__fourier t = espl__fourier_begin(scratch, s.length, false);
    bool has_window = node->input_count > 2 && in[2].data;
    int64_t at = 0;
    for (int64_t n = 0; n < in[0].shape.dim[0]; n++)
        for (int64_t f = 0; f < s.frames; f++) {
            load_frame(&s, in, has_window, n * s.samples + f * s.step, t.line);
            espl__fourier_run(&t);
            for (int64_t k = 0; k < s.bins; k++) {
                espl__real_put(&out[0], at++, t.result[k].re);
                espl__real_put(&out[0], at++, t.result[k].im);
            }
        }
}

static uint64_t scratch_stft(const espl__node *node) {
    stft s;
    return espl__stft_resolve(node, &s, NULL) == ESPL_OK && s.known ? espl__fourier_bytes(s.length) : 0;
}

const espl__op espl__op_STFT = {
    .name = "STFT",
    .domain = "",
    .min_inputs = 2,
    .max_inputs = 4,
    .min_outputs = 1,
    .max_outputs = 1,
    .since = 17,
    .until = 21,
    .infer = infer_stft,
    .eval = eval_stft,
    .scratch_bytes = scratch_stft,
    .quant = ESPL__QUANT_FLOAT,
};
