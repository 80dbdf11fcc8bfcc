/* Maxima over windows of every shape, f32 and u8, against plain loops over the numbers of the input. */
#include "graph_oracle.h"

#include <math.h>

typedef struct pooling {
    int64_t batch, channels, size[2], kernel[2], stride[2], dilation[2], pads[4];
    bool quantized;
} pooling;

static pooling random_pooling(rig *r) {
    pooling p = {.batch = pick(r, 1, 2),
                 .channels = chance(r, 70) ? pick(r, 1, 20) : pick(r, 21, 90),
                 .quantized = chance(r, 50)};
    for (int d = 0; d < 2; d++) {
        p.kernel[d] = pick(r, 1, 5);
        p.stride[d] = pick(r, 1, 4);
        p.dilation[d] = chance(r, 70) ? 1 : pick(r, 2, 3);
        const int64_t reach = (p.kernel[d] - 1) * p.dilation[d];
        p.size[d] = pick(r, (int)reach + 1, (int)reach + 20);
        for (int side = 0; side < 2; side++)
            p.pads[d + 2 * side] = chance(r, 50) ? 0 : pick(r, 0, (int)reach);
    }
    return p;
}

static double largest_of(const pooling *p, const float *plane, int64_t y, int64_t x, double scale,
                         int32_t zero) {
    double largest = -INFINITY;
    for (int64_t ky = 0; ky < p->kernel[0]; ky++)
        for (int64_t kx = 0; kx < p->kernel[1]; kx++) {
            int64_t iy = y * p->stride[0] + ky * p->dilation[0] - p->pads[0],
                    ix = x * p->stride[1] + kx * p->dilation[1] - p->pads[1];
            if (iy < 0 || ix < 0 || iy >= p->size[0] || ix >= p->size[1]) continue;
            double v = plane[iy * p->size[1] + ix];
            largest = fmax(largest,
                           p->quantized ? (round_to_grid(v, scale, zero, ESPL_FORMAT_S8) - zero) * scale : v);
        }
    return largest;
}

static void check(const pooling *p, const espl_tensor *in, const espl_tensor *out, double scale,
                  int32_t zero) {
    const int64_t h = out->shape.dim[2], w = out->shape.dim[3];
    for (int64_t plane = 0; plane < p->batch * p->channels; plane++)
        for (int64_t y = 0; y < h; y++)
            for (int64_t x = 0; x < w; x++) {
                double want = largest_of(p, (const float *)in->data + plane * p->size[0] * p->size[1], y, x,
                                         scale, zero);
                float got = ((const float *)out->data)[(plane * h + y) * w + x];
                if (got != (float)want)
                    fail_msg(
                        "%d channels, %dx%d of kernel %dx%d stride %dx%d: plane %d (%d, %d) is %g, not %g",
                        (int)p->channels, (int)p->size[0], (int)p->size[1], (int)p->kernel[0],
                        (int)p->kernel[1], (int)p->stride[0], (int)p->stride[1], (int)plane, (int)y, (int)x,
                        (double)got, want);
            }
}

static void random_maxima(void **state) {
    (void)state;
    for (int threads = 1; threads <= 2; threads++) {
        espl_context *ctx = new_context(threads);
        for (uint64_t seed = 0; seed < CASES(150); seed++) {
            rig r;
            rig_begin(&r, ctx, seed);
            pooling p = random_pooling(&r);
            const float scale = 0.0078125f; /* a power of two: codes and their numbers are exact */
            const int32_t zero = pick(&r, -100, 100);
            espl__value *x = input_of(&r, "x", ESPL_F32, SHAPE(p.batch, p.channels, p.size[0], p.size[1]));
            espl__node *n = NODE(&r, "MaxPool", x);
            n->opset = 12;
            SET_INTS(&r, n, "kernel_shape", p.kernel[0], p.kernel[1]);
            SET_INTS(&r, n, "strides", p.stride[0], p.stride[1]);
            SET_INTS(&r, n, "dilations", p.dilation[0], p.dilation[1]);
            SET_INTS(&r, n, "pads", p.pads[0], p.pads[1], p.pads[2], p.pads[3]);
            espl__value *y = done_of(&r, n);
            for (int i = 0; p.quantized && i < 2; i++)
                quantize_value(&r, i ? y : x, ESPL_FORMAT_S8, scale, zero);
            IO(&r, x, y);
            espl_session *s = session_of(ctx, r.g);
            run_io io = io_of(s, seed);
            for (int run = 0; run < 2; run++) { /* what a run leaves behind does not disturb the next */
                run_session(s, &io);
                check(&p, &io.in[0], &io.out[0], scale, zero);
            }
            io_free(&io);
            espl_session_destroy(&s);
            espl_graph_destroy(&r.g);
        }
        espl_context_destroy(&ctx);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(random_maxima)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
