/* DFT and STFT. The transpose of a transform is the one with conjugate roots: with y = W x and a loss of real
 * parts, dx = conj(W) dy. What a transform's input was cut, filled up, mirrored or weighted from gets that
 * back the same way. */
#include "ops/fourier.h"

#include "train/ops/loops.h"

static void add_to(const espl_tensor *t, int64_t i, double x, bool add) {
    espl__real_put(t, i, add ? espl__real_at(t, i) + x : x);
}

static espl_status prepare_dft(espl__call *c, espl_diag *diag) {
    espl_status status = espl__state(c, sizeof(espl__dft), diag);
    if (status != ESPL_OK) return status;
    espl__dft *d = c->state;
    status = espl__dft_resolve(c->node, &c->in->shape, d, diag);
    if (status == ESPL_OK && !d->known)
        status = espl__fail(diag, ESPL_UNSUPPORTED, "DFT: training needs a constant axis and length");
    if (status == ESPL_OK) c->forward_bytes = c->backward_bytes = espl__fourier_bytes(d->length);
    return status;
}

/* Elements of the output of one line, `step` apart, as the transform's input. */
static void load_gradient(const espl__dft *d, const espl_tensor *dy, int64_t base, int64_t step,
                          espl__complex64 *to) {
    double scale = d->inverse ? 1 / (double)d->length : 1;
    for (int64_t k = 0; k < d->length; k++) {
        int64_t at = (base + k * step) * d->parts;
        to[k] = (espl__complex64){0, 0};
        if (k >= d->out) continue;
        to[k].re = scale * espl__real_at(dy, at);
        if (d->parts == 2) to[k].im = scale * espl__real_at(dy, at + 1);
    }
}

/* Of a half spectrum each element stands for its mirror image too; the first and the middle one are real. */
static espl__complex64 gradient_of(const espl__dft *d, const espl__complex64 *g, int64_t i) {
    bool half = d->inverse && d->onesided;
    if (i >= (half ? d->length / 2 + 1 : d->length)) return (espl__complex64){0, 0};
    if (!half) return g[i];
    if (i == 0 || 2 * i == d->length) return (espl__complex64){g[i].re, 0};
    return (espl__complex64){g[i].re + g[d->length - i].re, g[i].im - g[d->length - i].im};
}

static void dft_back(espl__call *c) {
    const espl__dft *d = c->state;
    const espl_shape *x = &c->in->shape;
    const int64_t outer = espl__dims_product(x, 0, d->axis),
                  inner = espl__dims_product(x, d->axis + 1, x->rank - 1), parts = x->dim[x->rank - 1];
    bool add = c->add & 1;
    if (espl__is_empty(c->din)) return;
    espl__fourier f = espl__fourier_begin(c->scratch, d->length, !d->inverse);
    for (int64_t o = 0; o < outer; o++)
        for (int64_t i = 0; i < inner; i++) {
            load_gradient(d, c->dout, o * d->out * inner + i, inner, f.line);
            espl__fourier_run(&f);
            for (int64_t k = 0; k < d->in; k++) {
                espl__complex64 g = gradient_of(d, f.result, k);
                int64_t at = ((o * d->in + k) * inner + i) * parts;
                add_to(c->din, at, g.re, add);
                if (parts == 2) add_to(c->din, at + 1, g.im, add);
            }
        }
}

const espl__grad espl__grad_DFT = {
    .op = "DFT", .inputs = 1, .prepare = prepare_dft, .backward = dft_back, .release = espl__state_free};

static espl_status prepare_stft(espl__call *c, espl_diag *diag) {
    espl_status status = espl__state(c, sizeof(espl__stft), diag);
    if (status != ESPL_OK) return status;
    espl__stft *s = c->state;
    status = espl__stft_resolve(c->node, s, diag);
    if (status == ESPL_OK && !s->known)
        status = espl__fail(diag, ESPL_UNSUPPORTED, "STFT: training needs constant lengths");
    if (status == ESPL_OK) c->forward_bytes = c->backward_bytes = espl__fourier_bytes(s->length);
    return status;
}

/* Of frame values w x: dx = w g, dw = g x. */
static void frame_back(const espl__call *c, int64_t base, const espl__complex64 *g) {
    const espl__stft *s = c->state;
    bool has_window = c->inputs > 2 && c->in[2].data;
    for (int64_t i = 0; i < s->window; i++)
        for (int64_t part = 0; part < s->parts; part++) {
            int64_t at = (base + i) * s->parts + part;
            double d = part ? g[i].im : g[i].re, w = has_window ? espl__real_at(&c->in[2], i) : 1;
            if (c->din[0].data) add_to(&c->din[0], at, w * d, true);
            if (has_window && c->din[2].data) add_to(&c->din[2], i, d * espl__real_at(&c->in[0], at), true);
        }
}

static void stft_back(espl__call *c) {
    const espl__stft *s = c->state;
    for (int i = 0; i < c->inputs; i += 2)
        if (c->din[i].data && !(c->add >> i & 1)) memset(c->din[i].data, 0, espl__tensor_bytes(&c->din[i]));
    if (espl__is_empty(c->in)) return;
    espl__fourier t = espl__fourier_begin(c->scratch, s->length, true);
    for (int64_t n = 0, at = 0; n < c->in->shape.dim[0]; n++)
        for (int64_t f = 0; f < s->frames; f++) {
            memset(t.line, 0, (size_t)s->length * sizeof *t.line);
            for (int64_t k = 0; k < s->bins; k++, at += 2)
                t.line[k] = (espl__complex64){espl__real_at(c->dout, at), espl__real_at(c->dout, at + 1)};
            espl__fourier_run(&t);
            frame_back(c, n * s->samples + f * s->step, t.result);
        }
}

const espl__grad espl__grad_STFT = {.op = "STFT",
                                    .inputs = 5,
                                    .reads_in = 5,
                                    .prepare = prepare_stft,
                                    .backward = stft_back,
                                    .release = espl__state_free};
