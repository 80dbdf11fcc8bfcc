/* Convolution, its form for a few rows, and depthwise convolution. */
#include "conv_case.h"

/* --- independent results ------------------------------------------------------------------------------ */

/* Of some cases only a part of the kernel, as convolutions have it at their border. */
static void some_segments(conv_case *c, int i) {
    espl__conv *p = &c->p;
    if (i % 8 != 5 || p->segments == 1) return;
    const int first = i / 8 % p->segments, end = p->segments - i / 40 % (p->segments - first);
    p->w_block = espl__conv_w_block(p);
    p->w = (const char *)p->w + first * p->seg_k * 64;
    p->seg_off += first;
    p->segments = end - first;
}

/* The exact sum of the segments of pixel i and channel c. */
static int64_t exact_sum(const conv_case *c, int pixel, int channel) {
    const espl__conv *p = &c->p;
    int64_t sum = ((const int32_t *)p->bias)[channel];
    for (int s = 0; s < p->segments; s++)
        for (int k = 0; k < p->seg_k * 4; k++) {
            const int8_t *block = (const int8_t *)p->w + channel / 16 * espl__conv_w_block(p);
            int8_t w = block[(s * p->seg_k + k / 4) * 64 + channel % 16 * 4 + k % 4];
            sum += (int64_t)w *
                   ((const uint8_t *)
                        c->in)[espl__pixel_at(p->width, pixel, p->in_step, p->in_row) + p->seg_off[s] + k];
        }
    return sum;
}

static double bounded(double x, int32_t zero, int32_t lo, int32_t hi) {
    return isnan(x) ? lo : fmin(fmax(x + zero, lo), hi);
}

/* Whether `code` is x rounded to the nearest code, give or take the float rounding of x. */
static bool is_rounded(double x, int code, int32_t zero, int32_t lo, int32_t hi) {
    return fabs(bounded(x, zero, lo, hi) - code) <= 0.5 + 1e-4;
}

/* The whole epilogue in double; where the first rounding is a near tie both of its neighbours are tried. */
static bool is_code(const espl__epilogue_u8 *q, double x, const uint8_t *res, int code) {
    if (!res) return is_rounded(x, code, q->zero, q->lo, q->hi);
    double other = (double)(*res - q->res_zero) * q->res_scale, y = bounded(x, q->zero, q->lo, q->hi);
    for (double q1 = floor(y); q1 <= ceil(y); q1++)
        if (fabs(q1 - y) <= 0.5 + 1e-4 &&
            is_rounded((q1 - q->zero) * q->res_scale_own + other, code, q->zero2, q->lo2, q->hi2))
            return true;
    return false;
}

/* --- convolution ------------------------------------------------------------------------------------- */

/* Each of the three runs on one level, as a convolution or as products of a few rows; false: the level has
 * none. */
#define RUN_CASE(kernel, ...)                                                  \
    do {                                                                       \
        if (espl__kernels_own((espl__cpu)level)->kernel == NULL) return false; \
        espl__kernels_own((espl__cpu)level)->kernel(__VA_ARGS__);              \
        return true;                                                           \
    } while (0)
static bool run_u8(const conv_case *c, bool gemv, int level, void *out) {
    if (gemv) RUN_CASE(gemv_u8, &c->p, c->in, out, c->res, c->pixels, c->block0, c->block1);
    RUN_CASE(conv_u8, &c->p, c->in, out, c->res, c->pixels, c->block0, c->block1);
}

static bool run_u8_f32(const conv_case *c, bool gemv, int level, void *out) {
    if (gemv) RUN_CASE(gemv_u8_f32, &c->p, c->in, out, c->res, c->pixels, c->block0, c->block1);
    RUN_CASE(conv_u8_f32, &c->p, c->in, out, c->pixels, c->block0, c->block1);
}

/* The case with its weights as the level's kernels like them best, each block in as much room as it was
 * promised and all of them up to a forbidden page; false: the level prepares none. */
static bool prepared(const conv_case *c, int level, conv_case *to) {
    static const void *blocks[64];
    const espl__kernels *own = espl__kernels_own((espl__cpu)level);
    const int count = round16(c->p.channels) / 16;
    const size_t room = own->prepare && !c->p.w_block ? own->prepare_room(&c->p) : 0;
    if (room == 0) return false;
    size_t used = 0, start[64];
    uint8_t *all = malloc((room + 64) * (size_t)count);
    if (!all) exit(2);
    for (int b = 0; b < count; b++) {
        uint8_t *block = take(SLOT_PREPARED, room);
        const size_t bytes = own->prepare(&c->p, b, block);
        expect(bytes <= room, "prepare", level, "%zu bytes of %zu", bytes, room);
        memcpy(all + used, block, bytes);
        start[b] = used;
        used += bytes;
        if (bytes % 64 == 0 && b + 1 < count && one_in(8)) used += 64; /* blocks need not follow each other */
    }
    const uint8_t *place = memcpy(take(SLOT_PREPARED, used), all, used);
    for (int b = 0; b < count; b++) blocks[b] = place + start[b];
    free(all);
    *to = *c;
    to->p.w = NULL;
    to->p.prepared = blocks;
    return true;
}

static bool run_f32(const conv_case *c, bool gemv, int level, void *out) {
    if (gemv) RUN_CASE(gemv_f32, &c->p, c->in, out, c->res, c->pixels, c->block0, c->block1);
    RUN_CASE(conv_f32, &c->p, c->in, out, c->res, c->pixels, c->block0, c->block1);
}

/* Some cases of rows that are 0 throughout: less 128 those are the largest. */
static void some_lowest(const conv_case *c, int i) {
    for (int x = 0; x < c->pixels && i % 4 == 0; x++)
        memset((uint8_t *)c->in + x * c->p.in_step + c->seg_off[0], 0, (size_t)c->p.seg_k * 4);
}

/* The case for kernels that take rows less 128; false: the level has none. */
static bool centred(const conv_case *c, int level, conv_case *to) {
    const int blocks = round16(c->p.channels) / 16;
    if (!espl__kernels_own((espl__cpu)level)->sums) return false;
    int32_t *sums = take(SLOT_SUMS, (size_t)blocks * 16 * sizeof *sums);
    *to = *c;
    to->p.sums = sums;
    espl__gemv_sums(c->p.w, blocks, c->p.seg_k, sums);
    return true;
}

static void compare_u8(const char *kernel, bool gemv) {
    for (int i = 0; i < cases(gemv ? 1500 : 3000); i++) {
        conv_case c = {0};
        random_shape(&c, 1, i % 50 == 0, gemv);
        random_weights_u8(&c);
        if (gemv)
            some_lowest(&c, i);
        else
            some_segments(&c, i);
        c.p.q = random_epilogue(c.p.channels, c.hostile);
        random_outputs(&c, 1, one_in(2));
        run_u8(&c, gemv, 0, c.out.want);
        expect(wrote_its_own(&c, 1), kernel, 0, CASE_FORMAT ": wrote elsewhere", CASE_ARGS(c));
        for (int n = 0, pixel, channel; !c.hostile && n < 8; n++) {
            random_output(&c, &pixel, &channel);
            const uint8_t *res =
                c.res ? (const uint8_t *)c.res + at(&c, pixel, c.p.res_step, c.p.res_row) + channel : NULL;
            double x = (double)exact_sum(&c, pixel, channel) * c.p.q.mult[channel];
            int code = ((const uint8_t *)c.out.want)[at(&c, pixel, c.p.out_step, c.p.out_row) + channel];
            expect(is_code(&c.p.q, x, res, code), kernel, 0, CASE_FORMAT ": code %d", CASE_ARGS(c), code);
        }
        ESPL__CPU_LEVELS(level, 1) {
            uint8_t *got = take_again(&c.out);
            if (run_u8(&c, gemv, level, got))
                expect(same_bytes(&c.out, got), kernel, level, CASE_FORMAT, CASE_ARGS(c));
            conv_case other;
            if (!(gemv ? centred : prepared)(&c, level, &other)) continue;
            run_u8(&other, gemv, level, got = take_again(&c.out));
            expect(same_bytes(&c.out, got), kernel, level, CASE_FORMAT ", prepared", CASE_ARGS(c));
        }
    }
}

void check_conv_u8(void) {
    compare_u8("conv_u8", false);
}
void check_gemv_u8(void) {
    compare_u8("gemv_u8", true);
}

/* Rows as a planner lays them out. Of short ones a kernel may take several as one and drop what lies between
 * their ends and beginnings; wide ones it may cut into columns. */
static void random_rows(conv_case *c, bool wide) {
    espl__conv *p = &c->p;
    c->hostile = one_in(3);
    p->segments = between(wide ? 2 : 1, 5);
    p->seg_k = 16 * between(1, 3);
    p->in_step = 64 * between(wide ? 2 : 1, wide ? 4 : 2);
    p->width = wide ? between(33, 70) : between(2, 13);
    p->in_row = p->in_step * (p->width + between(0, p->width / 2));
    c->pixels = wide ? p->width * between(2, 3) : between(4, 90);
    for (int s = 0; s < p->segments; s++) c->seg_off[s] = 64 * between(-4, 4);
    random_blocks(c);
    place_input(c, 1);
}

/* The bias of the pixels whose products with the border, of the code `zero`, are left out. */
static void take_edge_bias(conv_case *c, int side, int zero) {
    espl__conv *p = &c->p;
    const int channels = round16(p->channels), from = side ? p->seg_k - p->edge[1] : 0;
    int32_t *bias = take(side ? SLOT_SUMS : SLOT_FBIAS, (size_t)channels * sizeof *bias);
    for (int ch = 0; ch < channels; ch++) {
        uint32_t sum = (uint32_t)((const int32_t *)p->bias)[ch];
        for (int s = 0; s < p->segments; s++)
            for (int k = 4 * from; k < 4 * (from + p->edge[side]); k++) {
                const int8_t *w = (const int8_t *)p->w + ch / 16 * espl__conv_w_block(p) + ch % 16 * 4;
                sum += (uint32_t)(zero * w[(s * p->seg_k + k / 4) * 64 + k % 4]);
            }
        bias[ch] = (int32_t)sum;
    }
    p->edge_bias[side] = bias;
}

/* Whole rows between borders, which a kernel may leave out: of the widths that it cuts into tiles in its own way, and
 * others. */
static void random_edges(conv_case *c, int size, int zero) {
    static const int widths[] = {7, 14, 28};
    espl__conv *p = &c->p;
    p->width = one_in(4) ? between(2, 40) : widths[between(0, 2)];
    p->in_row = p->in_step * (p->width + between(0, 3));
    c->pixels = p->width * between(1, 5);
    place_input(c, size);
    for (int side = 0; side < 2; side++)
        p->edge[side] = p->seg_k < 2 || one_in(3) ? 0 : between(1, ESPL_MIN(p->seg_k / 2, 16));
    for (int y = 0; y < c->pixels / p->width; y++)
        for (int s = 0; s < p->segments; s++) {
            uint8_t *first = (uint8_t *)c->in + y * p->in_row + c->seg_off[s];
            uint8_t *end = first + (p->width - 1) * p->in_step + 4 * p->seg_k;
            memset(first, zero, 4 * (size_t)p->edge[0]);
            memset(end - 4 * p->edge[1], zero, 4 * (size_t)p->edge[1]);
        }
}

void check_conv_rows(void) {
    for (int i = 0; i < cases(700); i++) {
        conv_case c = {0};
        random_rows(&c, i % 7 == 0);
        const int zero = one_in(2) ? 0 : between(1, 255);
        random_weights_u8(&c);
        if (i % 7 > 4) random_edges(&c, 1, zero);
        for (int side = 0; side < 2 && i % 7 > 4 && zero; side++) take_edge_bias(&c, side, zero);
        c.p.q = random_epilogue(c.p.channels, c.hostile);
        if (one_in(2)) { /* codes that are rounded sums */
            c.p.q.zero = c.p.q.lo = 0;
            c.p.q.hi = 255;
        }
        random_outputs(&c, 1, one_in(3));
        run_u8(&c, false, 0, c.out.want);
        FOR_LEVELS(level, conv_u8) {
            uint8_t *got = take_again(&c.out);
            run_u8(&c, false, level, got);
            expect(same_bytes(&c.out, got), "conv_u8", level, CASE_FORMAT ", rows", CASE_ARGS(c));
            conv_case other;
            if (!prepared(&c, level, &other)) continue;
            run_u8(&other, false, level, got = take_again(&c.out));
            expect(same_bytes(&c.out, got), "conv_u8", level, CASE_FORMAT ", rows, prepared", CASE_ARGS(c));
        }
    }
}

static void compare_u8_f32(const char *kernel, bool gemv) {
    for (int i = 0; i < cases(1500); i++) {
        conv_case c = {0};
        random_shape(&c, 1, i % 50 == 0, gemv);
        random_weights_u8(&c);
        if (gemv)
            some_lowest(&c, i);
        else
            some_segments(&c, i);
        c.p.q.mult = random_mults(c.p.channels, c.hostile);
        random_clamp(&c.p.flo, &c.p.fhi);
        if (one_in(2)) {
            float *fbias = take(SLOT_FBIAS, (size_t)round16(c.p.channels) * sizeof *fbias);
            fill_f32(fbias, round16(c.p.channels), 10.0f, c.hostile);
            c.p.fbias = fbias;
        }
        random_outputs(&c, 4, gemv && one_in(2));
        run_u8_f32(&c, gemv, 0, c.out.want);
        expect(wrote_its_own(&c, 4), kernel, 0, CASE_FORMAT ": wrote elsewhere", CASE_ARGS(c));
        for (int n = 0, pixel, channel; !c.hostile && n < 8; n++) {
            random_output(&c, &pixel, &channel);
            double x = (double)exact_sum(&c, pixel, channel) * c.p.q.mult[channel];
            double offset = c.p.fbias ? c.p.fbias[channel] : 0.0;
            double r =
                c.res ? ((const float *)c.res)[at(&c, pixel, c.p.res_step, c.p.res_row) / 4 + channel] : 0.0;
            double size = fabs(x) + fabs(offset) + fabs(r);
            float y = ((const float *)c.out.want)[at(&c, pixel, c.p.out_step, c.p.out_row) / 4 + channel];
            expect(is_close(x + offset + r, size, 4, c.p.flo, c.p.fhi, y), kernel, 0,
                   CASE_FORMAT ": %g, not %g", CASE_ARGS(c), (double)y, x + offset + r);
        }
        ESPL__CPU_LEVELS(level, 1) {
            float *got = take_again(&c.out);
            if (run_u8_f32(&c, gemv, level, got))
                expect(same_floats(&c.out, got), kernel, level, CASE_FORMAT, CASE_ARGS(c));
            conv_case other;
            if (!(gemv ? centred : prepared)(&c, level, &other)) continue;
            run_u8_f32(&other, gemv, level, got = take_again(&c.out));
            expect(same_floats(&c.out, got), kernel, level, CASE_FORMAT ", prepared", CASE_ARGS(c));
        }
    }
}

void check_conv_u8_f32(void) {
    compare_u8_f32("conv_u8_f32", false);
}
void check_gemv_u8_f32(void) {
    compare_u8_f32("gemv_u8_f32", true);
}

/* The sum of pixel i and channel c in double, and the sum of the absolute terms. */
static double double_sum(const conv_case *c, const float *weights, int pixel, int channel, double *size) {
    const espl__conv *p = &c->p;
    double sum = ((const float *)p->bias)[channel];
    *size = fabs(sum);
    for (int s = 0; s < p->segments; s++) {
        const float *x =
            (const float *)((const char *)c->in + at(c, pixel, p->in_step, p->in_row) + p->seg_off[s]);
        const float *block = weights + channel / 16 * espl__conv_w_block(p) / 4;
        for (int k = 0; k < p->seg_k; k++) {
            double w = block[(s * p->seg_k + k) * 16 + channel % 16];
            sum += w * x[k];
            *size += fabs(w * x[k]);
        }
    }
    return sum;
}

/* Leaves of the weights what 16 bits hold, and gives the case these. */
static void halve_weights(conv_case *c, float *w, size_t count) {
    uint16_t *halves = take(SLOT_PREPARED, count * sizeof *halves);
    c->p.values = one_in(2) ? ESPL_F16 : ESPL_BF16;
    for (size_t i = 0; i < count; i++) {
        halves[i] = c->p.values == ESPL_F16 ? espl__half_from_float(w[i]) : espl__bfloat_from_float(w[i]);
        w[i] = c->p.values == ESPL_F16 ? espl__half_to_float(halves[i]) : espl__bfloat_to_float(halves[i]);
    }
    c->p.w = halves;
}

static void compare_f32(const char *kernel, bool gemv) {
    for (int i = 0; i < cases(gemv ? 1000 : 2000); i++) {
        conv_case c = {0};
        random_shape(&c, 4, i % 50 == 0, gemv);
        if (!gemv && i % 16 == 3) { /* pixels that meet in few lines of a cache */
            c.p.in_step = 4096 << i / 16 % 2;
            place_input(&c, 4);
        }
        if (!gemv && i % 5 == 4) {
            c.hostile = false; /* the border times infinity would be no number */
            random_edges(&c, 4, 0);
        }
        size_t blocks = (size_t)round16(c.p.channels) / 16;
        size_t weights = blocks * (size_t)c.p.segments * (size_t)c.p.seg_k * 16;
        float *w = take(SLOT_W, weights * sizeof *w), *bias = take(SLOT_BIAS, blocks * 16 * sizeof *bias);
        fill_f32(w, (int64_t)weights, 1.0f, c.hostile);
        fill_f32(bias, (int64_t)blocks * 16, 1.0f, c.hostile);
        c.p.w = w;
        c.p.bias = bias;
        if (!gemv) some_segments(&c, i);
        if (gemv && one_in(2)) halve_weights(&c, w, weights);
        random_clamp(&c.p.flo, &c.p.fhi);
        random_outputs(&c, 4, one_in(2));
        run_f32(&c, gemv, 0, c.out.want);
        expect(wrote_its_own(&c, 4), kernel, 0, CASE_FORMAT ": wrote elsewhere", CASE_ARGS(c));
        for (int n = 0, pixel, channel; !c.hostile && n < 8; n++) {
            random_output(&c, &pixel, &channel);
            double size, x = double_sum(&c, gemv ? w : c.p.w, pixel, channel, &size);
            double r =
                c.res ? ((const float *)c.res)[at(&c, pixel, c.p.res_step, c.p.res_row) / 4 + channel] : 0.0;
            float y = ((const float *)c.out.want)[at(&c, pixel, c.p.out_step, c.p.out_row) / 4 + channel];
            expect(is_close(x + r, size + fabs(r), c.p.segments * c.p.seg_k + 2, c.p.flo, c.p.fhi, y), kernel,
                   0, CASE_FORMAT ": %g, not %g", CASE_ARGS(c), (double)y, x + r);
        }
        ESPL__CPU_LEVELS(level, 1) {
            float *got = take_again(&c.out);
            if (run_f32(&c, gemv, level, got))
                expect(same_floats(&c.out, got), kernel, level, CASE_FORMAT, CASE_ARGS(c));
        }
    }
}

void check_conv_f32(void) {
    compare_f32("conv_f32", false);
}
void check_gemv_f32(void) {
    compare_f32("gemv_f32", true);
}

/* The exact sum of pixel i and channel c, as 32 bits hold it. */
static int32_t exact_sum_s16(const conv_case *c, int pixel, int channel) {
    const espl__conv *p = &c->p;
    const int16_t *w = (const int16_t *)p->w + channel / 16 * espl__conv_w_block(p) / 2 + channel % 16 * 2;
    int64_t sum = ((const int32_t *)p->bias)[channel];
    for (int s = 0; s < p->segments; s++)
        for (int k = 0; k < p->seg_k * 2; k++) {
            int16_t x;
            memcpy(&x, (const char *)c->in + at(c, pixel, p->in_step, p->in_row) + c->seg_off[s] + k * 2, 2);
            sum += x * w[(s * p->seg_k + k / 2) * 32 + k % 2];
        }
    return (int32_t)(uint32_t)sum;
}

void check_conv_s16(void) {
    for (int i = 0; i < cases(1500); i++) {
        conv_case c = {0};
        random_shape(&c, 4, i % 50 == 0, false);
        if (i % 2) memset((char *)c.in + c.seg_off[0], i % 4 == 1 ? 0x80 : 0x7f, 4); /* large ones */
        const size_t blocks = (size_t)round16(c.p.channels) / 16;
        c.p.channels = (int)blocks * 16;
        c.p.w = take(SLOT_W, blocks * (size_t)c.p.segments * (size_t)c.p.seg_k * 64);
        c.p.bias = take(SLOT_BIAS, blocks * 16 * sizeof(int32_t));
        random_outputs(&c, 4, false);
        espl__kernels_own(ESPL__CPU_REF)->conv_s16(&c.p, c.in, c.out.want, c.pixels, c.block0, c.block1);
        expect(wrote_its_own(&c, 4), "conv_s16", 0, CASE_FORMAT ": wrote elsewhere", CASE_ARGS(c));
        for (int n = 0, pixel, channel; n < 8; n++) {
            random_output(&c, &pixel, &channel);
            const int32_t sum = exact_sum_s16(&c, pixel, channel),
                          got = ((const int32_t *)c.out.want)[at(&c, pixel, c.p.out_step, c.p.out_row) / 4 +
                                                              channel];
            expect(got == sum, "conv_s16", 0, CASE_FORMAT ": %d, not %d", CASE_ARGS(c), got, sum);
        }
        FOR_LEVELS(level, conv_s16) {
            int32_t *got = take_again(&c.out);
            espl__kernels_own((espl__cpu)level)->conv_s16(&c.p, c.in, got, c.pixels, c.block0, c.block1);
            expect(same_bytes(&c.out, got), "conv_s16", level, CASE_FORMAT, CASE_ARGS(c));
        }
    }
}

/* --- depthwise ------------------------------------------------------------------------------------------ */

typedef struct {
    espl__dwconv p;
    int32_t tap_off[49];
    const void *in, *res;
    int pixels, block0, block1;
    bool hostile, packed; /* packed: a 3x3 window over 8, 16 or 32 channels without gaps */
    outputs out;
} dw_case;

#define DW_FORMAT "%d taps, %d channels, %d pixels, blocks %d to %d%s%s"
#define DW_ARGS(c)                                                                               \
    (c).p.taps, (c).p.channels, (c).pixels, (c).block0, (c).block1, (c).res ? ", residual" : "", \
        (c).hostile ? ", hostile" : ""

/* Windows as a planner lays them out (rows of pixels, strides 1 and 2, dilated or not), and taps anywhere.
 * Rows of the result are as far apart in the input as such windows move, or anything. */
static void random_taps(dw_case *c, int unit, int64_t *low, int64_t *high) {
    espl__dwconv *p = &c->p;
    bool window = c->packed || !one_in(4);
    int kw = c->packed || one_in(2) ? 3 : between(1, 7), kh = c->packed || one_in(2) ? 3 : between(1, 7);
    int dilation = !c->packed && one_in(4) ? 2 : 1;
    int pixel = unit * (p->channels + (c->packed || one_in(2) ? 0 : between(0, 3))),
        row = pixel * between(7, 9);
    p->taps = window ? kw * kh : between(1, 49);
    int stride = between(1, c->packed && !one_in(4) ? 1 : 2);
    p->in_step = window ? pixel * stride : unit * between(1, 60);
    p->in_row = window && !one_in(4) ? row * stride : unit * between(0, 900);
    *low = *high = 0;
    for (int t = 0; t < p->taps; t++) {
        int at = dilation * (t / kw * row + t % kw * pixel) - row;
        c->tap_off[t] = window ? at : unit * between(-99, 99);
        *low = ESPL_MIN(*low, c->tap_off[t]);
        *high = ESPL_MAX(*high, c->tap_off[t]);
    }
    p->tap_off = c->tap_off;
}

static void random_dw(dw_case *c, int unit) {
    espl__dwconv *p = &c->p;
    c->hostile = one_in(4);
    p->channels = c->packed   ? 8 << between(0, 2)
                  : one_in(2) ? between(1, 40)
                  : one_in(8) ? between(160, 600)
                              : between(1, 160);
    int padded = round16(p->channels), blocks = padded / 16;
    c->pixels = between(1, one_in(4) ? 80 : 37);
    c->block0 = one_in(2) ? 0 : between(0, blocks - 1);
    c->block1 = one_in(2) ? blocks : between(c->block0 + 1, blocks);
    int64_t low, high;
    random_taps(c, unit, &low, &high);
    p->width = one_in(2) ? 0 : between(1, 40);
    size_t after = 0, before = (size_t)-low;
    for (int i = 0; i < c->pixels; i++)
        after = ESPL_MAX(
            after, (size_t)(espl__pixel_at(p->width, i, p->in_step, p->in_row) + high + unit * p->channels));
    uint8_t *in = take(SLOT_IN, before + after);
    c->in = in + before;
    if (unit == 4) fill_f32((float *)in, (int64_t)(before + after) / 4, 1.0f, c->hostile);
    if (unit == 1 && one_in(8)) memset(in, 255, before + after);
    int32_t *w = take(SLOT_W, (size_t)(p->taps * padded) * 4), *bias = take(SLOT_BIAS, (size_t)padded * 4);
    for (int i = 0; i < p->taps * padded; i++) w[i] = one_in(8) ? -128 : between(-128, 127);
    for (int i = 0; i < padded; i++) bias[i] = between(-4096, 4096);
    if (unit == 4) {
        fill_f32((float *)w, p->taps * padded, 1.0f, c->hostile);
        fill_f32((float *)bias, padded, 1.0f, c->hostile);
    }
    p->w = w;
    p->bias = bias;
    p->out_step = unit * (p->channels + (c->packed || one_in(2) ? 0 : between(0, 20)));
    p->res_step = unit * (p->channels + (one_in(2) ? 0 : between(0, 20)));
    const int width = p->width ? p->width : c->pixels, last = c->pixels - 1;
    p->out_row = p->out_step * (width + (one_in(2) ? 0 : between(0, 3)));
    p->res_row = p->res_step * (width + (one_in(2) ? 0 : between(0, 3)));
    size_t res_bytes = (size_t)(espl__pixel_at(p->width, last, p->res_step, p->res_row) + unit * p->channels);
    c->res = one_in(2) ? take(SLOT_RES, res_bytes) : NULL;
    if (c->res && unit == 4) fill_f32((float *)c->res, (int64_t)res_bytes / 4, 1.0f, c->hostile);
    c->out =
        take_outputs((size_t)(espl__pixel_at(p->width, last, p->out_step, p->out_row) + unit * p->channels));
}

static ptrdiff_t dw_at(const dw_case *c, int pixel, ptrdiff_t step, ptrdiff_t row) {
    return espl__pixel_at(c->p.width, pixel, step, row);
}

/* The fields that tell which outputs are the case's own. */
static conv_case as_conv(const dw_case *c) {
    return (conv_case){.p = {.channels = c->p.channels,
                             .out_step = c->p.out_step,
                             .width = c->p.width,
                             .out_row = c->p.out_row},
                       .pixels = c->pixels,
                       .block0 = c->block0,
                       .block1 = c->block1,
                       .out = c->out};
}

void check_dwconv_u8(void) {
    for (int i = 0; i < cases(3000); i++) {
        dw_case c = {0};
        random_dw(&c, 1);
        c.p.q = random_epilogue(c.p.channels, c.hostile);
        espl__kernels_own(ESPL__CPU_REF)
            ->dwconv_u8(&c.p, c.in, c.out.want, c.res, c.pixels, c.block0, c.block1);
        conv_case own = as_conv(&c);
        expect(wrote_its_own(&own, 1), "dwconv_u8", 0, DW_FORMAT ": wrote elsewhere", DW_ARGS(c));
        for (int n = 0, pixel, channel; !c.hostile && n < 8; n++) {
            random_output(&own, &pixel, &channel);
            int64_t sum = ((const int32_t *)c.p.bias)[channel];
            for (int t = 0; t < c.p.taps; t++)
                sum +=
                    (int64_t)((const uint8_t *)
                                  c.in)[dw_at(&c, pixel, c.p.in_step, c.p.in_row) + c.tap_off[t] + channel] *
                    ((const int32_t *)c.p.w)[t * round16(c.p.channels) + channel];
            const uint8_t *res =
                c.res ? (const uint8_t *)c.res + dw_at(&c, pixel, c.p.res_step, c.p.res_row) + channel : NULL;
            int code = ((const uint8_t *)c.out.want)[dw_at(&c, pixel, c.p.out_step, c.p.out_row) + channel];
            expect(is_code(&c.p.q, (double)sum * c.p.q.mult[channel], res, code), "dwconv_u8", 0,
                   DW_FORMAT ": code %d", DW_ARGS(c), code);
        }
        FOR_LEVELS(level, dwconv_u8) {
            uint8_t *got = take_again(&c.out);
            espl__kernels_own((espl__cpu)level)
                ->dwconv_u8(&c.p, c.in, got, c.res, c.pixels, c.block0, c.block1);
            expect(same_bytes(&c.out, got), "dwconv_u8", level, DW_FORMAT, DW_ARGS(c));
        }
    }
}

/* Several pixels may share a vector. */
void check_dwconv_packed(void) {
    for (int i = 0; i < cases(500); i++) {
        dw_case c = {.packed = true};
        random_dw(&c, 1);
        c.p.q = random_epilogue(c.p.channels, c.hostile);
        espl__kernels_own(ESPL__CPU_REF)
            ->dwconv_u8(&c.p, c.in, c.out.want, c.res, c.pixels, c.block0, c.block1);
        FOR_LEVELS(level, dwconv_u8) {
            uint8_t *got = take_again(&c.out);
            espl__kernels_own((espl__cpu)level)
                ->dwconv_u8(&c.p, c.in, got, c.res, c.pixels, c.block0, c.block1);
            expect(same_bytes(&c.out, got), "dwconv_u8", level, DW_FORMAT ", packed", DW_ARGS(c));
        }
    }
}

void check_dwconv_f32(void) {
    for (int i = 0; i < cases(2000); i++) {
        dw_case c = {0};
        random_dw(&c, 4);
        random_clamp(&c.p.flo, &c.p.fhi);
        espl__kernels_own(ESPL__CPU_REF)
            ->dwconv_f32(&c.p, c.in, c.out.want, c.res, c.pixels, c.block0, c.block1);
        conv_case own = as_conv(&c);
        expect(wrote_its_own(&own, 4), "dwconv_f32", 0, DW_FORMAT ": wrote elsewhere", DW_ARGS(c));
        for (int n = 0, pixel, channel; !c.hostile && n < 8; n++) {
            random_output(&own, &pixel, &channel);
            double sum = ((const float *)c.p.bias)[channel], size = fabs(sum);
            for (int t = 0; t < c.p.taps; t++) {
                const float *x = (const float *)((const char *)c.in +
                                                 dw_at(&c, pixel, c.p.in_step, c.p.in_row) + c.tap_off[t]);
                double term =
                    (double)x[channel] * ((const float *)c.p.w)[t * round16(c.p.channels) + channel];
                sum += term;
                size += fabs(term);
            }
            double r = c.res
                           ? ((const float *)c.res)[dw_at(&c, pixel, c.p.res_step, c.p.res_row) / 4 + channel]
                           : 0.0;
            float y = ((const float *)c.out.want)[dw_at(&c, pixel, c.p.out_step, c.p.out_row) / 4 + channel];
            expect(is_close(sum + r, size + fabs(r), c.p.taps + 2, c.p.flo, c.p.fhi, y), "dwconv_f32", 0,
                   DW_FORMAT ": %g, not %g", DW_ARGS(c), (double)y, sum + r);
        }
        FOR_LEVELS(level, dwconv_f32) {
            float *got = take_again(&c.out);
            espl__kernels_own((espl__cpu)level)
                ->dwconv_f32(&c.p, c.in, got, c.res, c.pixels, c.block0, c.block1);
            expect(same_floats(&c.out, got), "dwconv_f32", level, DW_FORMAT, DW_ARGS(c));
        }
    }
}
