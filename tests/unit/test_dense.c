/* Dense maths of training, with each library there is: convolutions and products, their gradients, and no
 * threads but the pool's. The oracle is the definition, summed in double. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "train/dense.h"

static const char *const libraries[] = {"plain", "onednn", "amx"};
static espl_context *ctx;
static espl__rng rng;

static float *draw(int64_t n) {
    float *x = calloc((size_t)(n + 1), sizeof *x);
    assert_non_null(x);
    for (int64_t i = 0; i < n; i++) x[i] = (float)espl__rng_normal(&rng);
    return x;
}

static double *zeros(int64_t n) {
    double *x = calloc((size_t)(n + 1), sizeof *x);
    assert_non_null(x);
    return x;
}

/* |a - b| within the tolerance times the largest |b|. */
static void same(const float *a, const double *b, int64_t n, double tolerance, const char *what) {
    double most = 1e-30, worst = 0;
    for (int64_t i = 0; i < n; i++) most = fmax(most, fabs(b[i]));
    for (int64_t i = 0; i < n; i++)
        worst = fabs((double)a[i] - b[i]) <= worst ? worst : fabs((double)a[i] - b[i]);
    if (!(worst <= tolerance * most)) fail_msg("%s: off by %g of %g", what, worst, most);
}

/* --- convolutions ----------------------------------------------------------------------------------- */

typedef struct layer {
    int64_t images, channels, outputs, groups;
    int64_t in[3], kernel[3], stride[3], dilation[3], begin[3], end[3];
    bool bias;
} layer;

static const layer layers[] = {
    {5, 3, 16, 1, {1, 9, 7}, {1, 3, 3}, {1, 1, 1}, {1, 1, 1}, {0, 1, 1}, {0, 1, 1}, false},
    {4, 16, 16, 1, {1, 8, 8}, {1, 3, 3}, {1, 1, 1}, {1, 1, 1}, {0, 1, 1}, {0, 1, 1}, false},
    {35, 32, 48, 1, {1, 5, 6}, {1, 3, 3}, {1, 1, 1}, {1, 1, 1}, {0, 1, 1}, {0, 1, 1}, true},
    {3, 32, 64, 1, {1, 8, 9}, {1, 3, 3}, {1, 2, 2}, {1, 1, 1}, {0, 1, 1}, {0, 1, 1}, true},
    {2, 64, 32, 1, {1, 8, 8}, {1, 1, 1}, {1, 2, 2}, {1, 1, 1}, {0, 0, 0}, {0, 0, 0}, false},
    {1, 64, 64, 1, {1, 4, 4}, {1, 3, 3}, {1, 1, 1}, {1, 1, 1}, {0, 1, 1}, {0, 1, 1}, true},
    {3, 7, 5, 1, {1, 10, 11}, {1, 5, 2}, {1, 3, 2}, {1, 2, 3}, {0, 0, 2}, {0, 3, 1}, true},
    {3, 12, 18, 3, {1, 6, 6}, {1, 3, 3}, {1, 1, 1}, {1, 1, 1}, {0, 1, 1}, {0, 1, 1}, true},
    {3, 20, 20, 20, {1, 7, 7}, {1, 3, 3}, {1, 2, 2}, {1, 1, 1}, {0, 0, 1}, {0, 1, 1}, true},
    {2, 4, 6, 1, {5, 4, 6}, {3, 2, 3}, {2, 1, 1}, {1, 1, 1}, {1, 0, 1}, {1, 1, 1}, true},
    {60, 64, 32, 1, {1, 4, 5}, {1, 3, 3}, {1, 1, 1}, {1, 1, 1}, {0, 1, 1}, {0, 1, 1}, true},
    {57, 32, 64, 1, {1, 9, 7}, {1, 3, 4}, {1, 2, 2}, {1, 1, 2}, {0, 1, 3}, {0, 1, 4}, false},
    {64, 96, 96, 1, {1, 2, 2}, {1, 1, 1}, {1, 1, 1}, {1, 1, 1}, {0, 0, 0}, {0, 0, 0}, true},
    {50, 32, 32, 1, {3, 4, 5}, {2, 2, 3}, {1, 1, 1}, {1, 1, 1}, {0, 0, 1}, {1, 1, 1}, true},
    {2, 3, 4, 1, {1, 1, 40}, {1, 1, 9}, {1, 1, 2}, {1, 1, 1}, {0, 0, 4}, {0, 0, 4}, true},
};

static espl__conv_shape shape_of(const layer *l) {
    espl__conv_shape s = {.images = l->images,
                          .channels = l->channels,
                          .outputs = l->outputs,
                          .groups = l->groups,
                          .bias = l->bias,
                          .dx = true,
                          .dw = true};
    s.w.rank = 3;
    memcpy(s.w.in, l->in, sizeof l->in);
    memcpy(s.w.kernel, l->kernel, sizeof l->kernel);
    memcpy(s.w.stride, l->stride, sizeof l->stride);
    memcpy(s.w.dilation, l->dilation, sizeof l->dilation);
    memcpy(s.w.begin, l->begin, sizeof l->begin);
    memcpy(s.w.end, l->end, sizeof l->end);
    for (int i = 0; i < 3; i++)
        s.w.out[i] =
            (l->in[i] + l->begin[i] + l->end[i] - (l->kernel[i] - 1) * l->dilation[i] - 1) / l->stride[i] + 1;
    return s;
}

static int64_t volume(const int64_t *d) {
    return d[0] * d[1] * d[2];
}

typedef struct tensors {
    int64_t nx, nw, ny;
    float *x, *w, *bias, *dy;
    double *y, *dx, *dw;
} tensors;

/* Position of input pixel for output (d, h, v) and tap t, or -1. */
static int64_t pixel(const espl__window *w, int64_t out, int64_t tap) {
    int64_t at = 0;
    int64_t o[3] = {out / (w->out[1] * w->out[2]), out / w->out[2] % w->out[1], out % w->out[2]};
    int64_t t[3] = {tap / (w->kernel[1] * w->kernel[2]), tap / w->kernel[2] % w->kernel[1],
                    tap % w->kernel[2]};
    for (int i = 0; i < 3; i++) {
        int64_t p = o[i] * w->stride[i] - w->begin[i] + t[i] * w->dilation[i];
        if (p < 0 || p >= w->in[i]) return -1;
        at = at * w->in[i] + p;
    }
    return at;
}

/* One image, output position and tap of the definition. */
static void terms(const espl__conv_shape *s, const tensors *t, int64_t n, int64_t out, int64_t tap) {
    int64_t at = pixel(&s->w, out, tap), taps = volume(s->w.kernel);
    if (at < 0) return;
    int64_t in = s->channels / s->groups, per = s->outputs / s->groups;
    int64_t x0 = (n * volume(s->w.in) + at) * s->channels, y0 = (n * volume(s->w.out) + out) * s->outputs;
    for (int64_t o = 0; o < s->outputs; o++)
        for (int64_t i = 0; i < in; i++) {
            int64_t x = x0 + o / per * in + i, w = (o * in + i) * taps + tap;
            t->y[y0 + o] += (double)t->x[x] * (double)t->w[w];
            t->dx[x] += (double)t->dy[y0 + o] * (double)t->w[w];
            t->dw[w] += (double)t->dy[y0 + o] * (double)t->x[x];
        }
}

static tensors oracle(const espl__conv_shape *s) {
    tensors t = {.nx = s->images * volume(s->w.in) * s->channels,
                 .nw = s->outputs * (s->channels / s->groups) * volume(s->w.kernel),
                 .ny = s->images * volume(s->w.out) * s->outputs};
    t.x = draw(t.nx), t.w = draw(t.nw), t.bias = draw(s->outputs), t.dy = draw(t.ny);
    t.y = zeros(t.ny);
    t.dx = zeros(t.nx);
    t.dw = zeros(t.nw);
    for (int64_t i = 0; s->bias && i < t.ny; i++) t.y[i] = (double)t.bias[i % s->outputs];
    for (int64_t n = 0; n < s->images; n++)
        for (int64_t out = 0; out < volume(s->w.out); out++)
            for (int64_t tap = 0; tap < volume(s->w.kernel); tap++) terms(s, &t, n, out, tap);
    return t;
}

static void drop(tensors *t) {
    free(t->x), free(t->w), free(t->bias), free(t->dy);
    free(t->y), free(t->dx), free(t->dw);
}

static void check_layer(const layer *l) {
    espl__conv_shape s = shape_of(l);
    espl__conv_f32 *conv = espl__dense_get()->conv_f32(ctx, &s);
    assert_non_null(conv);
    tensors t = oracle(&s);
    float *y = draw(t.ny), *dx = draw(t.nx), *dw = draw(t.nw);
    void *scratch;
    uint64_t most = ESPL_MAX(conv->forward_bytes, conv->backward_bytes);
    assert_int_equal(posix_memalign(&scratch, 64, most + 64), 0);
    espl__pool *pool = espl__context_pool(ctx);
    conv->forward(conv, pool, scratch, t.x, t.w, t.bias, y);
    same(y, t.y, t.ny, 2e-5, "y");
    conv->backward(conv, pool, scratch, t.x, t.w, t.dy, dx, false, dw, false);
    same(dx, t.dx, t.nx, 2e-5, "dx");
    same(dw, t.dw, t.nw, 2e-5, "dw");
    conv->backward(conv, pool, scratch, t.x, t.w, t.dy, dx, true, dw, true);
    for (int64_t i = 0; i < t.nx; i++) t.dx[i] *= 2;
    for (int64_t i = 0; i < t.nw; i++) t.dw[i] *= 2;
    same(dx, t.dx, t.nx, 2e-5, "dx added");
    same(dw, t.dw, t.nw, 2e-5, "dw added");
    conv->release(conv);
    free(scratch), free(y), free(dx), free(dw);
    drop(&t);
}

static int threads_of_process(void) {
    DIR *d = opendir("/proc/self/task");
    int n = 0;
    if (!d) return 0;
    while (readdir(d)) n++;
    closedir(d);
    return n;
}

static void use(const char *name) {
    if (!espl__dense_use(name)) {
        print_message("skipped: built without %s\n", name);
        skip();
    }
}

static void convolutions(void **state) {
    use(*state);
    if (!espl__dense_get()->conv_f32) return; /* plain C: the tests of Conv's gradient */
    espl__parallel_for(espl__context_pool(ctx), 0, NULL, NULL);
    int before = threads_of_process();
    for (size_t i = 0; i < ESPL_COUNT(layers); i++) check_layer(&layers[i]);
    assert_int_equal(threads_of_process(), before);
}

/* --- products --------------------------------------------------------------------------------------- */

static void check_product(bool ta, bool tb, int64_t m, int64_t n, int64_t k, float beta) {
    int64_t lda = (ta ? m : k) + 3, ldb = (tb ? k : n) + 1, ldc = n + 2;
    float *a = draw((ta ? k : m) * lda), *b = draw((tb ? n : k) * ldb), *c = draw(m * ldc);
    double *want = zeros(m * ldc);
    for (int64_t i = 0; i < m * ldc; i++) want[i] = (double)c[i];
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            double sum = (double)beta * want[i * ldc + j];
            for (int64_t p = 0; p < k; p++)
                sum += (double)a[ta ? p * lda + i : i * lda + p] * (double)b[tb ? j * ldb + p : p * ldb + j];
            want[i * ldc + j] = sum;
        }
    espl__gemm_f32(espl__context_pool(ctx), ta, tb, m, n, k, a, lda, b, ldb, beta, c, ldc);
    same(c, want, m * ldc, 2e-5, "product"); /* and what lies between the rows is as before */
    free(a), free(b), free(c), free(want);
}

static void products(void **state) {
    static const int64_t sizes[][3] = {{1, 1, 1},     {5, 7, 3},      {17, 33, 65}, {64, 48, 32},
                                       {20, 200, 96}, {130, 10, 300}, {3, 500, 40},
                                       {150, 90, 300}, {70, 530, 65}, {600, 40, 256}, {257, 129, 513}};
    use(*state);
    for (size_t i = 0; i < ESPL_COUNT(sizes); i++)
        for (int t = 0; t < 8; t++)
            check_product(t & 1, t >> 1 & 1, sizes[i][0], sizes[i][1], sizes[i][2], t >> 2 & 1 ? 1.0f : 0.0f);
}

static int setup(void **state) {
    (void)state;
    espl_config config = {.threads = 2};
    rng = espl__rng_seed(2026, 6);
    return espl_context_create(&config, &ctx, NULL) != ESPL_OK;
}
static int teardown(void **state) {
    (void)state;
    espl_context_destroy(&ctx);
    return 0;
}

int main(void) {
    struct CMUnitTest tests[2 * ESPL_COUNT(libraries)];
    for (size_t i = 0; i < ESPL_COUNT(libraries); i++) {
        void *name = (void *)(uintptr_t)libraries[i];
        tests[2 * i] = (struct CMUnitTest){"convolutions", convolutions, NULL, NULL, name};
        tests[2 * i + 1] = (struct CMUnitTest){"products", products, NULL, NULL, name};
    }
    return cmocka_run_group_tests(tests, setup, teardown);
}
