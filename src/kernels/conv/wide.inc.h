/* Integer convolution of few inputs without VNNI: codes and weights as numbers of 16 bits, which vpmaddwd takes as they are.
 * Chains (chains.inc.h) save products, but where an output has few inputs they find less that fits, and turning their sums is more
 * than they save. What is widened here is read by all channels: a strip of pixels at a time, what a pixel reads side by side. The
 * products are those of Winograd's matrices (conv_s16), and their sums are stored as those of the other tiles.
 *
 * A prepared block is [inputs / 2][16][2] s16. The including file has the vector words and conv.inc.h before it, and WIDE_S16,
 * the kernels with conv_s16. */

enum { WIDE_INPUTS = 512 / VL, STRIP = 24, STRIP_BLOCKS = 8 };

static INLINE int64_t inputs_of(const espl__conv *p) {
    return 4 * (int64_t)p->segments * p->seg_k;
}

/* For 16 channels alone widening costs more than it saves. */
static INLINE bool is_wide(const espl__conv *p) {
    return inputs_of(p) <= WIDE_INPUTS && p->channels > ESPL__NR;
}

static INLINE size_t wide_block(const espl__conv *p) {
    return (size_t)inputs_of(p) * ESPL__NR * sizeof(int16_t);
}

static size_t prepare_wide(const espl__conv *p, int block, void *to) {
    const int8_t *w = (const int8_t *)p->w + block * espl__conv_w_block(p);
    int16_t *x = to;
    for (int64_t g = 0; g < inputs_of(p) / 4; g++, w += ESPL__NR * 4)
        for (int half = 0; half < 4; half += 2)
            for (int c = 0; c < ESPL__NR; c++)
                for (int i = 0; i < 2; i++) *x++ = w[c * 4 + half + i];
    return wide_block(p);
}

/* `count` bytes, a multiple of 4. */
static INLINE int16_t *widen(const uint8_t *from, int64_t count, int16_t *to) {
    int64_t i = 0;
    for (; i + 2 * VL <= count; i += 2 * VL) vi_store(to + i, v16_load_u8_part(from + i, 2 * VL));
    for (; i < count; i += 4) v16_widen4(from + i, to + i);
    return to + count;
}

/* What `count` pixels from `first` on read. */
static INLINE void widen_pixels(const espl__conv *p, const char *in, int first, int count, int16_t *to) {
    if (p->segments == 1 && p->in_step == inputs_of(p) && !p->width) {
        widen((const uint8_t *)in + p->seg_off[0] + first * p->in_step, count * inputs_of(p), to);
        return;
    }
    const int width = p->width ? p->width : first + count;
    int x = first % width;
    const char *row = in + first / width * p->in_row;
    for (int i = 0; i < count; i++) {
        const char *from = row + x * p->in_step;
        for (int s = 0; s < p->segments; s++) to = widen((const uint8_t *)from + p->seg_off[s], 4 * (int64_t)p->seg_k, to);
        if (++x == width) x = 0, row += p->in_row;
    }
}

/* Blocks that are stored together and whose weights lie side by side. */
static INLINE int blocks_of_strip(const espl__conv *p, int block, int block1) {
    int most = STRIP_BLOCKS, n = 1;
    while (most > block1 - block) most /= 2;
    while (n < most && (const char *)p->prepared[block + n] - (const char *)p->prepared[block] == (ptrdiff_t)(n * wide_block(p)))
        n++;
    while (n & (n - 1)) n &= n - 1;
    return n;
}

static INLINE void run_wide(finish_fn *finish, const espl__conv *p, const char *in, char *out, const char *res, int pixels,
                            int block0, int block1) {
    static const int32_t none = 0;
    _Alignas(64) int16_t x[STRIP * WIDE_INPUTS];
    _Alignas(64) int32_t sums[STRIP * STRIP_BLOCKS * ESPL__NR];
    const int strips = (pixels + STRIP - 1) / STRIP;
    espl__conv wide = {.segments = 1, .seg_k = (int32_t)(inputs_of(p) / 2), .seg_off = &none, .in_step = 2 * inputs_of(p)};
    for (int i = 0, first = 0, end; i < strips; i++, first = end) {
        end = (int)((int64_t)pixels * (i + 1) / strips);
        widen_pixels(p, in, first, end - first, x);
        for (int block = block0, n; block < block1; block += n) {
            n = blocks_of_strip(p, block, block1);
            wide.w = p->prepared[block];
            wide.bias = (const int32_t *)p->bias + block * ESPL__NR;
            wide.channels = n * ESPL__NR;
            wide.out_step = n * ESPL__NR * (ptrdiff_t)sizeof *sums;
            WIDE_S16.conv_s16(&wide, x, sums, end - first, 0, n);
            finish_pixels(p, finish, sums, block, n, first, end - first, out, res);
        }
    }
}
