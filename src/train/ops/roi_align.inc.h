#include "ops/roi_align.inc.h"

static void FN(pool_regions)(void *arg, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const espl__call *c = arg;
    const espl_shape *x = &c->in->shape, *y = &c->out->shape;
    const int64_t own = espl__dims_product(x, 1, 4), each = espl__dims_product(y, 1, 4);
    for (int64_t n = begin; n < end; n++) {
        int64_t image = espl__roi_image(&c->in[2], n, x);
        FN(pool_region)
        (c->node, (const REAL *)c->in[1].data + 4 * n,
         image < 0 ? NULL : (const REAL *)c->in[0].data + image * own, x, (REAL *)c->out->data + n * each, y,
         espl__roi_max(c->node));
    }
}

/* The mean gives each neighbour its weight, the maximum the first that is it. */
static void FN(bin_back)(const FN(region) * r, int64_t ph, int64_t pw, const REAL *image, REAL *dx, REAL dy,
                         const espl_shape *x, bool max) {
    const int samples = r->samples[0] * r->samples[1];
    REAL most = 0, weight = 0;
    int64_t from = -1;
    for (int i = 0; i < samples; i++) {
        FN(corners) c = FN(sample)(r, ph, pw, i, x);
        for (int k = 0; k < 4; k++) {
            REAL v = c.inside ? c.weight[k] * image[c.at[k]] : 0;
            if (!max && c.inside) dx[c.at[k]] += dy * c.weight[k] / (REAL)samples;
            if (i + k > 0 && !(v > most)) continue;
            most = v;
            from = c.inside ? c.at[k] : -1;
            weight = c.inside ? c.weight[k] : 0;
        }
    }
    if (max && from >= 0) dx[from] += dy * weight;
}

static void FN(regions_back)(void *arg, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const espl__call *c = arg;
    const espl_shape *x = &c->in->shape, *y = &c->out->shape;
    const int64_t pixels = x->dim[2] * x->dim[3], bins = y->dim[2] * y->dim[3];
    bool max = espl__roi_max(c->node);
    for (int64_t n = 0; n < y->dim[0]; n++) {
        int64_t image = espl__roi_image(&c->in[2], n, x);
        if (image < 0) continue;
        FN(region) r = FN(read_region)(c->node, (const REAL *)c->in[1].data + 4 * n, y);
        for (int64_t k = begin; k < end; k++) {
            int64_t plane = (image * x->dim[1] + k) * pixels;
            const REAL *dy = (const REAL *)c->dout->data + (n * y->dim[1] + k) * bins;
            for (int64_t b = 0; b < bins; b++)
                FN(bin_back)
                (&r, b / y->dim[3], b % y->dim[3], (const REAL *)c->in[0].data + plane,
                 (REAL *)c->din->data + plane, dy[b], x, max);
        }
    }
}
