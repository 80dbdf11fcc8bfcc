/* Conversions between views: every pair of layouts, with borders and padded channels, element by element
 * against the definition; what is no element of the target keeps its bytes. */
#include "graph_random.h"
#include "runtime/convert.h"

typedef struct side {
    view v;
    char *data;
    size_t bytes;
} side;

static int between(espl__rng *rng, int low, int high) {
    return low + (int)espl__rng_below(rng, (uint32_t)(high - low + 1));
}

/* Batch, channels, height, width as NCHW or as NHWC with `border` pixels around and `more` channels behind.
 */
static side side_of(const int64_t dim[4], espl_dtype type, bool nhwc, int border, int more) {
    const int64_t e = (int64_t)espl_dtype_bytes(type), cs = dim[1] + more, width = dim[3] + 2 * border;
    side s = {.v = {.type = type, .rank = 4, .nhwc = nhwc}};
    memcpy(s.v.dim, dim, 4 * sizeof *dim);
    if (nhwc) {
        s.v.stride[1] = e, s.v.stride[3] = cs * e, s.v.stride[2] = width * cs * e;
        s.v.stride[0] = (dim[2] + 2 * border) * s.v.stride[2];
        s.v.offset = border * (s.v.stride[2] + s.v.stride[3]);
    } else {
        s.v.stride[3] = e, s.v.stride[2] = dim[3] * e, s.v.stride[1] = dim[2] * s.v.stride[2];
        s.v.stride[0] = dim[1] * s.v.stride[1];
    }
    s.bytes = (size_t)(dim[0] * s.v.stride[0]);
    s.data = malloc(s.bytes);
    assert_non_null(s.data);
    return s;
}

/* What the element of src at `from` is in dst, written to `to`. */
static void element(const view *src, const view *dst, const char *from, char *to) {
    if (src->quantized == dst->quantized &&
        (!src->quantized || (src->scale == dst->scale && src->zero == dst->zero))) {
        memcpy(to, from, espl_dtype_bytes(src->type));
    } else if (!src->quantized) {
        float x;
        memcpy(&x, from, sizeof x);
        *to = (char)espl__requantize(x * (1.0f / dst->scale), dst->zero, 0, 255);
    } else if (!dst->quantized) {
        const float x = (float)((uint8_t)*from - src->zero) * src->scale;
        memcpy(to, &x, sizeof x);
    } else {
        const float x = (float)((uint8_t)*from - src->zero) * (src->scale / dst->scale);
        *to = (char)espl__requantize(x, dst->zero, 0, 255);
    }
}

/* The fourth byte of a pixel of three channels is nobody's. */
static bool same(const side *dst, const char *expected, bool pixels) {
    if (!pixels) return memcmp(dst->data, expected, dst->bytes) == 0;
    for (size_t i = 0; i < dst->bytes; i++)
        if (i % 4 != 3 && dst->data[i] != expected[i]) return false;
    return true;
}

static void random_views(void **state) {
    (void)state;
    espl__rng rng = espl__rng_seed(20, 0);
    int seen[8] = {0};
    for (int i = 0; i < CASES(3000); i++) {
        const int64_t dim[4] = {between(&rng, 1, 2), between(&rng, 1, i % 3 ? 20 : 150), between(&rng, 1, 40),
                                between(&rng, 1, i % 5 ? 40 : 300)};
        const bool from_f32 = between(&rng, 0, 1), to_f32 = between(&rng, 0, 1);
        const bool pixels = !to_f32 && dim[1] == 3;
        side src = side_of(dim, from_f32 ? ESPL_F32 : ESPL_U8, between(&rng, 0, 2) == 0, between(&rng, 0, 2),
                           between(&rng, 0, 3)),
             dst = side_of(dim, to_f32 ? ESPL_F32 : ESPL_U8, between(&rng, 0, 2) != 0, between(&rng, 0, 2),
                           pixels ? 1 : between(&rng, 0, 3));
        if (!from_f32) src.v.quantized = true, src.v.scale = 0.125f, src.v.zero = between(&rng, 0, 255);
        if (!to_f32) dst.v.quantized = true, dst.v.scale = 0.25f, dst.v.zero = between(&rng, 0, 255);
        if (!to_f32 && !from_f32 && between(&rng, 0, 1)) dst.v.scale = src.v.scale, dst.v.zero = src.v.zero;
        for (size_t j = 0; j < src.bytes; j += 4) {
            const float x = espl__rng_float(&rng) * 80 - 40;
            memcpy(src.data + j, &x, src.bytes - j < 4 ? src.bytes - j : 4);
        }
        memset(dst.data, 0xA5, dst.bytes);
        char *expected = malloc(dst.bytes);
        assert_non_null(expected);
        memcpy(expected, dst.data, dst.bytes);
        for (int64_t n = 0; n < dim[0]; n++)
            for (int64_t c = 0; c < dim[1]; c++)
                for (int64_t y = 0; y < dim[2]; y++)
                    for (int64_t x = 0; x < dim[3]; x++) {
                        const int64_t *s = src.v.stride, *d = dst.v.stride;
                        element(&src.v, &dst.v,
                                src.data + src.v.offset + n * s[0] + c * s[1] + y * s[2] + x * s[3],
                                expected + dst.v.offset + n * d[0] + c * d[1] + y * d[2] + x * d[3]);
                    }
        convert c;
        assert_true(espl__convert_plan(&c, &src.v, &dst.v));
        seen[c.mode]++;
        espl__convert_run(&c, espl__kernels_get(), src.data + src.v.offset, dst.data + dst.v.offset);
        if (!same(&dst, expected, pixels))
            fail_msg("case %d, mode %d: %d x %d x %d x %d, %s %s to %s %s", i, (int)c.mode, (int)dim[0],
                     (int)dim[1], (int)dim[2], (int)dim[3], from_f32 ? "f32" : "u8",
                     src.v.nhwc ? "NHWC" : "NCHW", to_f32 ? "f32" : "u8", dst.v.nhwc ? "NHWC" : "NCHW");
        free(expected);
        free(src.data);
        free(dst.data);
    }
    for (int mode = CONVERT_RUNS; mode <= CONVERT_LINES; mode++) assert_true(seen[mode] > 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(random_views)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
