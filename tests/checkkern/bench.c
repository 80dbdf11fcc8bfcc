/* Speed of every kernel on every level, on shapes of real networks. */
#include "checkkern.h"

/* --- timing --------------------------------------------------------------------------------------- */

typedef struct {
    const espl__kernels *set;
    const void *shape;
} bench_args;
typedef void bench_fn(const bench_args *args);

/* Seconds of one call: the best of several batches, since other programs may run. */
static double seconds(bench_fn *fn, const bench_args *args, double budget) {
    double start = espl__now(), best = INFINITY;
    fn(args);
    double once = fmax(espl__now() - start, 1e-8);
    int batch = (int)fmax(1.0, fmin(1e6, 0.002 / once));
    double end = espl__now() + budget;
    do {
        start = espl__now();
        for (int i = 0; i < batch; i++) fn(args);
        best = fmin(best, (espl__now() - start) / batch);
    } while (espl__now() < end);
    return best;
}

static void print_rate(const char *kernel, int level, const char *shape, double rate, const char *unit,
                       double peak) {
    printf("%-13s %-11s %-28s %9.1f %s", kernel, espl__cpu_level_name((espl__cpu)level), shape, rate, unit);
    if (peak > 0.0) printf("  %3.0f %% of peak", 100.0 * rate / peak);
    printf("\n");
    fflush(stdout);
}

/* With how many times as fast it is as the dense kernel. */
static void print_ratio(const char *kernel, int level, const char *shape, double rate, double ratio) {
    printf("%-13s %-11s %-28s %9.1f GOP/s  %4.2f x dense\n", kernel, espl__cpu_level_name((espl__cpu)level),
           shape, rate, ratio);
    (void)fflush(stdout);
}

/* --- convolution ------------------------------------------------------------------------------------- */

enum { MAX_BYTES = 1 << 26 };
#define F32(p) ((float *)(p))

static uint8_t *some_bytes(size_t bytes) {
    uint8_t *p = aligned_alloc(4096, bytes);
    if (!p) exit(2);
    /* Small floats that are ordinary bytes too. */
    for (size_t i = 0; i < bytes / 4; i++) {
        float x = espl__rng_float(&rng) - 0.5f;
        memcpy(p + i * 4, &x, 4);
    }
    return p;
}

typedef struct {
    const char *name;
    int k, stride, in_channels, out_channels,
        out_size; /* square; out_size 0: one pixel, a matrix times a vector */
    bool residual;
} conv_shape;

static const conv_shape conv_shapes[] = {
    {"3x3 16->16 @32", 3, 1, 16, 16, 32, false},
    {"3x3 16->16 @32 residual", 3, 1, 16, 16, 32, true},
    {"3x3 32->32 @16", 3, 1, 32, 32, 16, false},
    {"3x3 64->64 @8", 3, 1, 64, 64, 8, false},
    {"3x3 s2 32->64 @8", 3, 2, 32, 64, 8, false},
    {"3x3 128->128 @56", 3, 1, 128, 128, 56, false},
    {"3x3 512->512 @7", 3, 1, 512, 512, 7, false},
    {"3x3 4->16 @32", 3, 1, 4, 16, 32, false},
    {"7x7 s2 4->64 @112", 7, 2, 4, 64, 112, false},
    {"1x1 24->144 @56", 1, 1, 24, 144, 56, false},
    {"1x1 96->24 @56", 1, 1, 96, 24, 56, false},
    {"1x1 144->24 @56 residual", 1, 1, 144, 24, 56, true},
    {"3x3 64->64 @56", 3, 1, 64, 64, 56, false},
    {"1x1 64->256 @56 residual", 1, 1, 64, 256, 56, true},
    {"1x1 64->256 @56", 1, 1, 64, 256, 56, false},
    {"1x1 1024->256 @14", 1, 1, 1024, 256, 14, false},
    {"1x1 320->1280 @7", 1, 1, 320, 1280, 7, false},
    {"GEMM 768->768 x128", 1, 1, 768, 768, -128, false},
    {"GEMV 512->512", 1, 1, 512, 512, 0, false},
    {"GEMV 4096->4096", 1, 1, 4096, 4096, 0, false},
};

static struct {
    uint8_t *in, *out, *res, *w, *bias, *mult;
    espl__conv p;
    espl__dwconv dw;
    int32_t off[49];
    int rows, pixels, blocks;
    ptrdiff_t in_row, out_row;
} now;

static void layer_sizes(const conv_shape *s, int unit, int *in_width) {
    now.rows = s->out_size > 0 ? s->out_size : 1;
    now.pixels = s->out_size > 0 ? s->out_size : s->out_size < 0 ? -s->out_size : 1;
    *in_width = (now.pixels - 1) * s->stride + s->k;
    now.in_row = (ptrdiff_t)*in_width * s->in_channels * s->stride * unit;
    now.blocks = (s->out_channels + 15) / 16;
}

static void prepare_conv(const conv_shape *s, int unit, int out_unit) {
    int in_width;
    layer_sizes(s, unit, &in_width);
    now.p = (espl__conv){.segments = s->k,
                         .seg_k = s->k * s->in_channels / (unit == 1 ? 4 : 1),
                         .seg_off = now.off,
                         .in_step = (ptrdiff_t)s->in_channels * s->stride * unit,
                         .out_step = s->out_channels * out_unit,
                         .res_step = s->out_channels * out_unit,
                         .w = now.w,
                         .bias = now.bias,
                         .channels = s->out_channels,
                         .flo = 0.0f,
                         .fhi = INFINITY};
    /* Behind a ReLU codes begin at 0; MobileNet's narrow layers have none. */
    const int zero = s->out_channels < 64 ? 3 : 0;
    now.p.q = (espl__epilogue_u8){(const float *)now.mult, zero, 0, 255, 0.9f, 0.4f, zero, zero, 0, 255};
    for (int r = 0; r < s->k; r++) now.off[r] = (int32_t)((ptrdiff_t)r * in_width * s->in_channels * unit);
    now.out_row = (ptrdiff_t)now.pixels * s->out_channels * out_unit;
    now.p.width = now.pixels;
    now.p.in_row = now.in_row;
    now.p.out_row = now.p.res_row = now.out_row;
}

static void run_conv_u8(const bench_args *a) {
    const conv_shape *s = a->shape;
    a->set->conv_u8(&now.p, now.in, now.out, s->residual ? now.res : NULL, now.rows * now.pixels, 0,
                    now.blocks);
}

static void run_conv_u8_f32(const bench_args *a) {
    a->set->conv_u8_f32(&now.p, now.in, (float *)now.out, now.rows * now.pixels, 0, now.blocks);
}

static void run_conv_f32(const bench_args *a) {
    const conv_shape *s = a->shape;
    a->set->conv_f32(&now.p, (const float *)now.in, (float *)now.out,
                     s->residual ? (const float *)now.res : NULL, now.rows * now.pixels, 0, now.blocks);
}

static double conv_operations(const conv_shape *s) {
    return 2.0 * s->k * s->k * s->in_channels * s->out_channels * now.rows * now.pixels;
}

/* Leaves the `slots` largest of the 16 weights that channel c has in four groups. */
static void prune_16(int8_t *w, int slots) {
    for (int left = 16; left > slots; left--) {
        int least = -1;
        for (int i = 0; i < 16; i++) {
            const int8_t x = w[i / 4 * 64 + i % 4];
            if (x && (least < 0 || abs(x) < abs(w[least / 4 * 64 + least % 4]))) least = i;
        }
        if (least >= 0) w[least / 4 * 64 + least % 4] = 0;
    }
}

/* Codes as training leaves them, around 0, the `slots` largest of 16 inputs, and the weights of now.p
 * prepared; NULL: the level prepares none. */
static void *prepare_weights(const espl__kernels *set, int slots) {
    static const void *blocks[256];
    const size_t bytes = (size_t)now.p.segments * (size_t)now.p.seg_k * (size_t)now.blocks * 64;
    const size_t room = set->prepare && now.blocks <= 256 ? set->prepare_room(&now.p) : 0;
    if (room == 0) return NULL;
    int8_t *w = aligned_alloc(64, bytes);
    uint8_t *to = aligned_alloc(64, room * (size_t)now.blocks);
    if (!w || !to) exit(2);
    for (size_t i = 0; i < bytes; i++) {
        float sum = -2.0f; /* of four: nearly normal, with a deviation of 33 */
        for (int n = 0; n < 4; n++) sum += espl__rng_float(&rng);
        w[i] = (int8_t)(sum * 57.0f);
    }
    for (size_t i = 0; slots < 16 && i + 256 <= bytes; i += i % 64 == 60 ? 196 : 4) prune_16(w + i, slots);
    now.p.w = w;
    size_t used = 0;
    for (int block = 0; block < now.blocks; block++) {
        blocks[block] = to + used;
        used += set->prepare(&now.p, block, to + used);
    }
    now.p.prepared = blocks;
    free(w);
    return to;
}

#define BENCH_CONV(kernel, unit, out_unit, peak)                                                        \
    static void bench_##kernel(int level) {                                                             \
        for (size_t i = 0; i < ESPL_COUNT(conv_shapes); i++) {                                          \
            const conv_shape *s = &conv_shapes[i];                                                      \
            bench_args args = {espl__kernels_at((espl__cpu)level), s};                                  \
            prepare_conv(s, unit, out_unit);                                                            \
            /* The peak next to each figure: other programs may slow both. */                           \
            const double most = peak((espl__cpu)level);                                                 \
            double rate = conv_operations(s) / seconds(run_##kernel, &args, level ? 0.05 : 0.0) * 1e-9; \
            print_rate(#kernel, level, s->name, rate, "GOP/s", most);                                   \
            void *prepared = (unit) == 1 && args.set->prepare ? prepare_weights(args.set, 16) : NULL;   \
            if (!prepared) continue;                                                                    \
            rate = conv_operations(s) / seconds(run_##kernel, &args, 0.05) * 1e-9;                      \
            print_rate(#kernel, level, "  prepared", rate, "GOP/s", most);                              \
            free(prepared);                                                                             \
        }                                                                                               \
    }
BENCH_CONV(conv_u8, 1, 1, peak_u8)
BENCH_CONV(conv_u8_f32, 1, 4, peak_u8)
BENCH_CONV(conv_f32, 4, 4, peak_f32)

/* Of products of 16 bits: those of a strip of Winograd's tiles. */
static const conv_shape s16_shapes[] = {{"84 tiles, 128->64", 1, 1, 128, 64, -84, false},
                                        {"49 tiles, 512->64", 1, 1, 512, 64, -49, false}};

static void run_conv_s16(const bench_args *a) {
    a->set->conv_s16(&now.p, (const int16_t *)now.in, (int32_t *)now.out, now.pixels, 0, now.blocks);
}

static void bench_conv_s16(int level) {
    for (size_t i = 0; i < ESPL_COUNT(s16_shapes); i++) {
        const conv_shape *s = &s16_shapes[i];
        bench_args args = {espl__kernels_at((espl__cpu)level), s};
        prepare_conv(s, 2, 4);
        now.p.seg_k /= 2;
        const double rate = conv_operations(s) / seconds(run_conv_s16, &args, level ? 0.05 : 0.0) * 1e-9;
        print_rate("conv_s16", level, s->name, rate, "GOP/s", 0.0);
    }
}

/* --- convolution with compressed sparse rows ---------------------------------------------------------- */

static const conv_shape csr_shapes[] = {
    {"1x1 128->128 @56", 1, 1, 128, 128, 56, false}, {"1x1 256->256 @28", 1, 1, 256, 256, 28, false},
    {"1x1 512->512 @14", 1, 1, 512, 512, 14, false}, {"3x3 64->64 @56", 3, 1, 64, 64, 56, false},
    {"3x3 128->128 @28", 3, 1, 128, 128, 28, false},
};

/* Rows of random weights, f32 or codes, of which a share is 0. */
static espl__csr thinned(bool codes, int percent) {
    const espl__weight_order o = espl__weight_rows(now.p.channels, now.p.segments, (int64_t)now.p.seg_k * (codes ? 4 : 1));
    const int64_t count = o.channels * o.segments * o.real, unit = codes ? 1 : 4;
    char *w = malloc((size_t)(count * unit));
    espl__csr_entry *entries = malloc((size_t)count * sizeof *entries);
    const espl__csr_source source = {&o, w, codes, 0};
    espl__csr m = espl__csr_of(&source);
    int32_t *start = calloc((size_t)espl__csr_starts(&m, now.blocks), sizeof *start);
    if (!w || !entries || !start) exit(2);
    for (int64_t i = 0; i < count; i++)
        if (between(1, 100) > percent)
            memcpy(w + i * unit, (const char *)now.w + i * unit, (size_t)unit);
        else
            memset(w + i * unit, 0, (size_t)unit);
    if (!espl__csr_count(&source, &m, 0, now.blocks, start)) exit(2);
    m.start = start;
    espl__csr_fill(&source, &m, 0, now.blocks, entries);
    m.entries = entries;
    free(w);
    return m;
}

static void run_csr_conv_f32(const bench_args *a) {
    a->set->csr_conv_f32(&now.p, F32(now.in), F32(now.out), NULL, now.rows * now.pixels, 0, now.blocks);
}
static void run_csr_conv_u8(const bench_args *a) {
    a->set->csr_conv_u8(&now.p, now.in, now.out, NULL, now.rows * now.pixels, 0, now.blocks);
}
static void run_csr_conv_u8_f32(const bench_args *a) {
    a->set->csr_conv_u8_f32(&now.p, now.in, F32(now.out), now.rows * now.pixels, 0, now.blocks);
}

/* Beside the dense kernel; the rate counts its products. */
#define BENCH_CSR(kernel, unit, out_unit)                                                                      \
    static void bench_csr_##kernel(int level) {                                                                \
        for (size_t i = 0; i < ESPL_COUNT(csr_shapes) * 3; i++) {                                              \
            const conv_shape *s = &csr_shapes[i / 3];                                                          \
            const int percent = i % 3 == 0 ? 80 : i % 3 == 1 ? 90 : 95;                                        \
            const double budget = level ? 0.05 : 0.0;                                                          \
            bench_args args = {espl__kernels_at((espl__cpu)level), s};                                         \
            prepare_conv(s, unit, out_unit);                                                                   \
            const double dense = seconds(run_##kernel, &args, budget);                                         \
            const espl__csr m = thinned((unit) == 1, percent);                                                 \
            now.p.csr = &m;                                                                                    \
            now.p.scratch = now.res;                                                                           \
            const double rows = seconds(run_csr_##kernel, &args, budget);                                      \
            char name[64];                                                                                     \
            snprintf(name, sizeof name, "%s, %d %% zeros", s->name, percent);                                  \
            print_ratio("csr_" #kernel, level, name, conv_operations(s) / rows * 1e-9, dense / rows);          \
            free((void *)m.start), free((void *)m.entries);                                                    \
        }                                                                                                      \
    }
BENCH_CSR(conv_f32, 4, 4)
BENCH_CSR(conv_u8, 1, 1)
BENCH_CSR(conv_u8_f32, 1, 4)

/* --- bank-balanced convolution ----------------------------------------------------------------------- */

/* Layers of ResNet-18 and ResNet-50. */
static const conv_shape bank_shapes[] = {
    {"1x1 64->64 @56", 1, 1, 64, 64, 56, false},
    {"1x1 64->256 @56 residual", 1, 1, 64, 256, 56, true},
    {"1x1 256->64 @56", 1, 1, 256, 64, 56, false},
    {"1x1 512->128 @28", 1, 1, 512, 128, 28, false},
    {"1x1 s2 512->1024 @14", 1, 2, 512, 1024, 14, false},
    {"1x1 1024->256 @14", 1, 1, 1024, 256, 14, false},
    {"1x1 256->1024 @14 residual", 1, 1, 256, 1024, 14, true},
    {"1x1 2048->512 @7", 1, 1, 2048, 512, 7, false},
    {"3x3 64->64 @56", 3, 1, 64, 64, 56, false},
    {"3x3 s2 64->128 @28", 3, 2, 64, 128, 28, false},
    {"3x3 128->128 @28", 3, 1, 128, 128, 28, false},
    {"3x3 256->256 @14", 3, 1, 256, 256, 14, false},
    {"3x3 512->512 @7", 3, 1, 512, 512, 7, false},
    {"GEMM 768->768 x128", 1, 1, 768, 768, -128, false},
};

/* Makes now.p one with `slots` random weights for each 16 inputs of a row of taps. */
static void prepare_bank(const conv_shape *s, int slots, espl__bank *bank) {
    static int32_t off[1024];
    const int windows = s->k * s->in_channels / 16; /* of a row of taps */
    *bank = (espl__bank){.count = s->k * windows, .slots = slots, .size = 16, .off = off};
    bank->block = (bank->count * slots / 4 + 1) / 2 * 192;
    for (int b = 0; b < bank->count; b++) off[b] = now.off[b / windows] + b % windows * 16;
    now.p.bank = bank;
    now.p.w = now.w;
}

static void run_bank_conv_u8(const bench_args *a) {
    const conv_shape *s = a->shape;
    a->set->bank_conv_u8(&now.p, now.in, now.out, s->residual ? now.res : NULL, now.rows * now.pixels, 0,
                         now.blocks);
}

static void run_bank_conv_u8_f32(const bench_args *a) {
    a->set->bank_conv_u8_f32(&now.p, now.in, F32(now.out), now.rows * now.pixels, 0, now.blocks);
}

/* Beside the dense kernel of the same set on the same zeros, which prepared weights gain from; rates count
 * the products with zeros too. */
#define BENCH_BANK(kernel, out_unit)                                                                     \
    static void bench_bank_##kernel(int level) {                                                         \
        for (size_t i = 0; i < ESPL_COUNT(bank_shapes) * 4; i++) {                                       \
            const conv_shape *s = &bank_shapes[i / 4];                                                   \
            const bench_args args = {espl__kernels_at((espl__cpu)level), s};                             \
            const int slots = (int)(i % 4) + 1;                                                          \
            const double budget = level ? 0.05 : 0.0;                                                    \
            char name[64];                                                                               \
            espl__bank bank;                                                                             \
            prepare_conv(s, 1, out_unit);                                                                \
            void *prepared = args.set->prepare ? prepare_weights(args.set, slots) : NULL;                \
            const double dense = seconds(run_##kernel, &args, budget);                                   \
            free(prepared);                                                                              \
            prepare_bank(s, slots, &bank);                                                               \
            const double banks = seconds(run_bank_##kernel, &args, budget);                              \
            (void)snprintf(name, sizeof name, "%s %d:16", s->name, slots);                               \
            print_ratio("bank_" #kernel, level, name, conv_operations(s) / banks * 1e-9, dense / banks); \
        }                                                                                                \
    }
BENCH_BANK(conv_u8, 1)
BENCH_BANK(conv_u8_f32, 4)

/* --- a few rows times a matrix ----------------------------------------------------------------------- */

/* Weights in one cache level or another; 4096 x 4096 in turn from copies that together fill memory, not
 * cache. */
static const struct gemv_shape {
    const char *name;
    int k, channels, rows, copies;
} gemv_shapes[] = {
    {"512->512", 512, 512, 1, 1},        {"1500->6000", 1500, 6000, 1, 1},
    {"4096->4096", 4096, 4096, 1, 1},    {"4096->4096 x2", 4096, 4096, 2, 1},
    {"4096->4096 x4", 4096, 4096, 4, 1}, {"4096->4096 of 8 copies", 4096, 4096, 1, 8},
};

/* One call for each copy. */
static void gemv_calls(const bench_args *a, int unit, void (*call)(const bench_args *a, int rows)) {
    const struct gemv_shape *s = a->shape;
    const uint8_t *first = now.p.w;
    for (int i = 0; i < s->copies; i++) {
        call(a, s->rows);
        now.p.w = (const uint8_t *)now.p.w + (size_t)s->k * (size_t)s->channels * (size_t)unit;
    }
    now.p.w = first;
}

static void call_gemv_u8(const bench_args *a, int rows) {
    a->set->gemv_u8(&now.p, now.in, now.out, NULL, rows, 0, now.blocks);
}
static void call_gemv_u8_f32(const bench_args *a, int rows) {
    a->set->gemv_u8_f32(&now.p, now.in, F32(now.out), F32(now.res), rows, 0, now.blocks);
}
static void call_gemv_f32(const bench_args *a, int rows) {
    a->set->gemv_f32(&now.p, F32(now.in), F32(now.out), F32(now.res), rows, 0, now.blocks);
}

#define BENCH_GEMV(kernel, unit, out_unit)                                                             \
    static void run_##kernel(const bench_args *a) {                                                    \
        gemv_calls(a, unit, call_##kernel);                                                            \
    }                                                                                                  \
    static void bench_##kernel(int level) {                                                            \
        for (size_t i = 0; i < ESPL_COUNT(gemv_shapes); i++) {                                         \
            const struct gemv_shape *g = &gemv_shapes[i];                                              \
            bench_args args = {espl__kernels_at((espl__cpu)level), g};                                 \
            const conv_shape s = {g->name, 1, 1, g->k, g->channels, -g->rows, false};                  \
            prepare_conv(&s, unit, out_unit);                                                          \
            double bytes = (double)g->k * g->channels * g->copies * (unit);                            \
            uint8_t *w = g->copies > 1 ? some_bytes((size_t)bytes) : NULL;                             \
            if (w) now.p.w = w;                                                                        \
            if (args.set->sums) now.p.sums = now.p.bias; /* the products do not matter */              \
            print_rate(#kernel, level, g->name,                                                        \
                       bytes / seconds(run_##kernel, &args, level ? 0.05 : 0.0) * 1e-9, "GB/s ", 0.0); \
            free(w);                                                                                   \
        }                                                                                              \
    }
BENCH_GEMV(gemv_u8, 1, 1)
BENCH_GEMV(gemv_u8_f32, 1, 4)
BENCH_GEMV(gemv_f32, 4, 4)

/* --- weights of few bits ----------------------------------------------------------------------------- */

static const struct wonly_shape {
    const char *name;
    int k, channels, bits, planes, group, rows, copies;
} wonly_shapes[] = {
    {"512->512 4 bits", 512, 512, 4, 3, 1, 1, 1},
    {"4096->4096 4 bits", 4096, 4096, 4, 3, 1, 1, 1},
    {"4096->4096 4 bits, x in 8", 4096, 4096, 4, 1, 1, 1, 1},
    {"4096->4096 4 bits x4", 4096, 4096, 4, 3, 1, 4, 1},
    {"4096->4096 4 bits x16, in 8", 4096, 4096, 4, 1, 1, 16, 1},
    {"4096->4096 8 bits", 4096, 4096, 8, 3, 128, 1, 1},
    {"4096->4096 2 bits", 4096, 4096, 2, 3, 1, 1, 1},
    {"4096->4096 4 bits, 32 copies", 4096, 4096, 4, 3, 1, 1, 32},
    {"4096->4096 8 bits, 16 copies", 4096, 4096, 8, 3, 128, 1, 16},
};

static espl__wonly wonly_of(const struct wonly_shape *s) {
    const float half = 0.5f;
    const espl__scales scales = {&half, 0, 0};
    return espl__wonly_of(s->channels, s->k, s->group * ESPL__UNIT, s->bits, s->planes, &scales);
}

static void run_wonly_f32(const bench_args *a) {
    const struct wonly_shape *s = a->shape;
    const uint8_t *first = now.p.w;
    for (int i = 0; i < s->copies; i++) {
        a->set->wonly_f32(&now.p, now.in, F32(now.out), NULL, s->rows, 0, now.blocks);
        now.p.w = (const uint8_t *)now.p.w + now.blocks * now.p.wonly->block;
    }
    now.p.w = first;
}

static void bench_wonly_f32(int level) {
    for (size_t i = 0; i < ESPL_COUNT(wonly_shapes); i++) {
        const struct wonly_shape *g = &wonly_shapes[i];
        bench_args args = {espl__kernels_at((espl__cpu)level), g};
        const conv_shape s = {g->name, 1, 1, g->k, g->channels, -g->rows, false};
        const espl__wonly k = wonly_of(g);
        prepare_conv(&s, 4, 4);
        now.p.wonly = &k;
        now.p.in_step = k.units * espl__wonly_record(&k);
        double bytes = (double)k.block * now.blocks * g->copies;
        uint8_t *w = g->copies > 1 ? some_bytes((size_t)bytes / 4096 * 4096 + 4096) : NULL;
        if (w) now.p.w = w;
        print_rate("wonly_f32", level, g->name,
                   bytes / seconds(run_wonly_f32, &args, level ? 0.05 : 0.0) * 1e-9, "GB/s ", 0.0);
        free(w);
    }
}

static void run_wonly_round(const bench_args *a) {
    const espl__wonly *k = a->shape;
    a->set->wonly_round(k, F32(now.in), 4 * (ptrdiff_t)k->k, now.out, 1);
}

static void bench_wonly_round(int level) {
    for (int planes = 1; planes <= 3; planes += 2) {
        const struct wonly_shape g = {"", 4096, 16, 4, planes, 1, 1, 1};
        const espl__wonly k = wonly_of(&g);
        bench_args args = {espl__kernels_at((espl__cpu)level), &k};
        print_rate("wonly_round", level, planes == 1 ? "4096 to 8 bits" : "4096 to 24 bits",
                   4096 * (4 + planes) / seconds(run_wonly_round, &args, level ? 0.05 : 0.0) * 1e-9, "GB/s ",
                   0.0);
    }
}

/* --- bank-balanced ----------------------------------------------------------------------------------- */

static const struct bank_gemv_shape {
    const char *name;
    int k, channels, slots, size, rows, copies;
    espl_dtype values;
} bank_gemv_shapes[] = {
    {"512->512 3:16", 512, 512, 3, 16, 1, 1, ESPL_S8},
    {"4096->4096 2:16", 4096, 4096, 2, 16, 1, 1, ESPL_S8},
    {"4096->4096 3:16", 4096, 4096, 3, 16, 1, 1, ESPL_S8},
    {"4096->4096 4:16 x4", 4096, 4096, 4, 16, 4, 1, ESPL_S8},
    {"4096->4096 3:16 of 32 copies", 4096, 4096, 3, 16, 1, 32, ESPL_S8},
    {"512->512 3:32", 512, 512, 3, 32, 1, 1, ESPL_F32},
    {"4096->4096 3:32", 4096, 4096, 3, 32, 1, 1, ESPL_F32},
    {"4096->4096 3:32 f16", 4096, 4096, 3, 32, 1, 1, ESPL_F16},
    {"4096->4096 3:32 bf16 x4", 4096, 4096, 3, 32, 4, 1, ESPL_BF16},
    {"4096->4096 2:16", 4096, 4096, 2, 16, 1, 1, ESPL_F32},
    {"4096->4096 3:32 of 20 copies", 4096, 4096, 3, 32, 1, 20, ESPL_F32},
};

static void bank_calls(const bench_args *a, void (*call)(const bench_args *a, int rows)) {
    const struct bank_gemv_shape *s = a->shape;
    const uint8_t *first = now.p.w;
    for (int i = 0; i < s->copies; i++) {
        call(a, s->rows);
        now.p.w = (const uint8_t *)now.p.w + now.blocks * now.p.bank->block;
    }
    now.p.w = first;
}

static void call_bank_gemv_u8(const bench_args *a, int rows) {
    a->set->bank_gemv_u8(&now.p, now.in, now.out, NULL, rows, 0, now.blocks);
}
static void call_bank_gemv_u8_f32(const bench_args *a, int rows) {
    a->set->bank_gemv_u8_f32(&now.p, now.in, F32(now.out), F32(now.res), rows, 0, now.blocks);
}
static void call_bank_gemv_f32(const bench_args *a, int rows) {
    a->set->bank_gemv_f32(&now.p, F32(now.in), F32(now.out), F32(now.res), rows, 0, now.blocks);
}

/* Whatever bytes are there are weights. */
static void bench_bank_gemv(const char *kernel, int level, int unit, int out_unit, bench_fn *run) {
    for (size_t i = 0; i < ESPL_COUNT(bank_gemv_shapes); i++) {
        const struct bank_gemv_shape *g = &bank_gemv_shapes[i];
        if ((g->values == ESPL_S8) != (unit == 1)) continue;
        bench_args args = {espl__kernels_at((espl__cpu)level), g};
        const conv_shape s = {g->name, 1, 1, g->k, g->channels, -g->rows, false};
        const espl__weight_order order = espl__weight_rows(g->channels, 1, g->k);
        espl__bank bank = unit == 1 ? espl__bank_s8(&order, g->slots)
                                    : espl__bank_f32(&order, g->size, g->slots, (int32_t)g->values);
        int32_t *off = malloc((size_t)bank.count * sizeof *off);
        if (!off) exit(2);
        espl__bank_offsets(&order, &bank, NULL, off);
        bank.off = off;
        prepare_conv(&s, unit, out_unit);
        now.p.bank = &bank;
        const double bytes = (double)bank.block * now.blocks * g->copies;
        uint8_t *w = g->copies > 1 ? some_bytes((size_t)bytes) : NULL;
        if (w) now.p.w = w;
        print_rate(kernel, level, g->name, bytes / seconds(run, &args, level ? 0.05 : 0.0) * 1e-9, "GB/s ",
                   0.0);
        free(w);
        free(off);
    }
}

#define BENCH_BANK_GEMV(kernel, unit, out_unit)                        \
    static void run_##kernel(const bench_args *a) {                    \
        bank_calls(a, call_##kernel);                                  \
    }                                                                  \
    static void bench_##kernel(int level) {                            \
        bench_bank_gemv(#kernel, level, unit, out_unit, run_##kernel); \
    }
BENCH_BANK_GEMV(bank_gemv_u8, 1, 1)
BENCH_BANK_GEMV(bank_gemv_u8_f32, 1, 4)
BENCH_BANK_GEMV(bank_gemv_f32, 4, 4)

/* --- depthwise ------------------------------------------------------------------------------------------ */

static const conv_shape dw_shapes[] = {
    {"dw 3x3 144 @56", 3, 1, 144, 144, 56, false}, {"dw 3x3 s2 144 @28", 3, 2, 144, 144, 28, false},
    {"dw 3x3 960 @7", 3, 1, 960, 960, 7, false},   {"dw 3x3 24 @112", 3, 1, 24, 24, 112, false},
    {"dw 5x5 240 @14", 5, 1, 240, 240, 14, false},
};

static void prepare_dw(const conv_shape *s, int unit) {
    int in_width;
    layer_sizes(s, unit, &in_width);
    ptrdiff_t pixel = (ptrdiff_t)s->in_channels * unit;
    now.dw = (espl__dwconv){.taps = s->k * s->k,
                            .tap_off = now.off,
                            .in_step = pixel * s->stride,
                            .out_step = pixel,
                            .res_step = pixel,
                            .w = now.w,
                            .bias = now.bias,
                            .channels = s->in_channels,
                            .flo = 0.0f,
                            .fhi = 6.0f};
    now.dw.q = (espl__epilogue_u8){(const float *)now.mult, 3, 0, 255, 0.9f, 0.4f, 7, 2, 0, 255};
    for (int t = 0; t < s->k * s->k; t++)
        now.off[t] = (int32_t)(t / s->k * in_width * pixel + t % s->k * pixel);
    now.out_row = (ptrdiff_t)now.pixels * pixel;
    now.dw.width = now.pixels;
    now.dw.in_row = now.in_row;
    now.dw.out_row = now.dw.res_row = now.out_row;
}

static void run_dwconv_u8(const bench_args *a) {
    a->set->dwconv_u8(&now.dw, now.in, now.out, NULL, now.rows * now.pixels, 0, now.blocks);
}

static void run_dwconv_f32(const bench_args *a) {
    a->set->dwconv_f32(&now.dw, (const float *)now.in, (float *)now.out, NULL, now.rows * now.pixels, 0,
                       now.blocks);
}

#define BENCH_DW(kernel, unit)                                                                         \
    static void bench_##kernel(int level) {                                                            \
        for (size_t i = 0; i < ESPL_COUNT(dw_shapes); i++) {                                           \
            const conv_shape *s = &dw_shapes[i];                                                       \
            bench_args args = {espl__kernels_at((espl__cpu)level), s};                                 \
            prepare_dw(s, unit);                                                                       \
            double count = 2.0 * s->k * s->k * s->in_channels * now.rows * now.pixels;                 \
            print_rate(#kernel, level, s->name,                                                        \
                       count / seconds(run_##kernel, &args, level ? 0.05 : 0.0) * 1e-9, "GOP/s", 0.0); \
        }                                                                                              \
    }
BENCH_DW(dwconv_u8, 1)
BENCH_DW(dwconv_f32, 4)

/* --- Winograd's transforms ----------------------------------------------------------------------------- */

/* A row of 28 tiles of 64 channels: 4 x 58 pixels and 16 planes, 61 and 115 KB. */
enum { WINO_WIDTH = 56, WINO_CHANNELS = 64 };
static const espl__winograd winograd = {.side = 2,
                                        .width = WINO_WIDTH,
                                        .channels = WINO_CHANNELS,
                                        .step = 4 * WINO_CHANNELS,
                                        .row = 4 * WINO_CHANNELS * (WINO_WIDTH + 2),
                                        .res_step = 4 * WINO_CHANNELS,
                                        .res_row = 4 * WINO_CHANNELS * WINO_WIDTH,
                                        .tile = 4 * WINO_CHANNELS + 64,
                                        .plane = (4 * WINO_CHANNELS + 64) * (WINO_WIDTH / 2) + 64,
                                        .fhi = 6.0f};

/* Bytes moved: 16 elements a tile and channel on one side, or 36; 8 read (the rest the tile before has), or 24, or 4 written, or
 * 16. */
#define BENCH_TILES(kernel, name, shape, tiles, bytes, args)                                \
    static void run_##name(const bench_args *a) {                                           \
        a->set->kernel args;                                                                \
    }                                                                                       \
    static void bench_##name(int level) {                                                   \
        bench_args a = {espl__kernels_at((espl__cpu)level), NULL};                          \
        double moved = (double)WINO_CHANNELS * (tiles) * (bytes);                           \
        print_rate(#kernel, level, shape,                                                   \
                   moved / seconds(run_##name, &a, level ? 0.05 : 0.01) * 1e-9, "GB/s ", 0.0); \
    }
#define BENCH_F32_TILES(kernel, bytes, args) \
    BENCH_TILES(kernel, kernel, "28 tiles of 64 channels", WINO_WIDTH / 2, bytes, args)
BENCH_F32_TILES(winograd_in_f32, 4 * (16 + 8), (&winograd, F32(now.in), F32(now.out), 2))
BENCH_F32_TILES(winograd_out_f32, 4 * (16 + 4), (&winograd, F32(now.in), F32(now.out), NULL, 2))

/* The same of codes, by tiles of either size. */
static espl__winograd winograd_u8;

static const espl__winograd *codes_of(int side, ptrdiff_t element) {
    winograd_u8 = winograd;
    winograd_u8.side = side;
    winograd_u8.step = winograd.step / 4;
    winograd_u8.row = winograd.row / 4;
    winograd_u8.tile = element * WINO_CHANNELS + 64;
    winograd_u8.plane = winograd_u8.tile * (WINO_WIDTH / side) + 64;
    winograd_u8.bias = (const int32_t *)now.bias;
    winograd_u8.q = (espl__epilogue_u8){.mult = (const float *)now.mult, .hi = 255};
    return &winograd_u8;
}
BENCH_TILES(winograd_in_u8, in_2x2, "28 tiles of 64 channels", WINO_WIDTH / 2, 2 * 16 + 8,
            (codes_of(2, 2), now.in, (int16_t *)now.out, 2))
BENCH_TILES(winograd_in_u8, in_4x4, "14 tiles of 64 channels", WINO_WIDTH / 4, 2 * 36 + 24,
            (codes_of(4, 2), now.in, (int16_t *)now.out, 4))
BENCH_TILES(winograd_out_u8, out_2x2, "28 tiles of 64 channels", WINO_WIDTH / 2, 4 * 16 + 4,
            (codes_of(2, 4), (const int32_t *)now.in, now.out, NULL, 2))
BENCH_TILES(winograd_out_u8, out_4x4, "14 tiles of 64 channels", WINO_WIDTH / 4, 4 * 36 + 16,
            (codes_of(4, 4), (const int32_t *)now.in, now.out, NULL, 4))

static void bench_winograd_in_u8(int level) {
    bench_in_2x2(level);
    bench_in_4x4(level);
}

static void bench_winograd_out_u8(int level) {
    bench_out_2x2(level);
    bench_out_4x4(level);
}

/* --- elementwise ------------------------------------------------------------------------------------- */

enum { N = 16384, POOL = 9 }; /* in the first or second cache level */

static const espl__qadd qadd = {0.7f, 0.4f, 3, 5, 7, 0, 255};
static espl__layernorm layernorm;
static const uint8_t *rows_u8[POOL];
static const float *rows_f32[POOL];

/* X(kernel, bytes moved an element, arguments) */
#define ELTWISE(X)                                                                    \
    X(add_u8, 3, (&qadd, now.in, now.res, now.out, N))                                \
    X(lut_u8, 2, (now.w, now.in, now.out, N))                                         \
    X(requant_u8, 2, (0.7f, 3, 5, now.in, now.out, N))                                \
    X(quantize, 5, (9.0f, 3, 0, 255, F32(now.in), now.out, N))                        \
    X(dequantize, 5, (0.1f, 3, now.in, F32(now.out), N))                              \
    X(max_u8, POOL + 1, (rows_u8, POOL, now.out, 64))                                 \
    X(max_f32, 4 * POOL + 4, (rows_f32, POOL, F32(now.out), 64))                      \
    X(sum_u8, POOL + 4, (rows_u8, POOL, (int32_t *)now.out, 64))                      \
    X(sum_f32, 4 * POOL + 4, (rows_f32, POOL, F32(now.out), 64))                      \
    X(add_f32, 12, (F32(now.in), F32(now.res), F32(now.out), N))                      \
    X(mul_f32, 12, (F32(now.in), F32(now.res), F32(now.out), N))                      \
    X(clamp_f32, 8, (0.0f, 6.0f, F32(now.in), F32(now.out), N))                       \
    X(exp_f32, 8, (F32(now.in), F32(now.out), N))                                     \
    X(sigmoid_f32, 8, (F32(now.in), F32(now.out), N))                                 \
    X(tanh_f32, 8, (F32(now.in), F32(now.out), N))                                    \
    X(affine_f32, 8, (0.5f, 0.1f, F32(now.in), F32(now.out), N))                      \
    X(erf_f32, 8, (F32(now.in), F32(now.out), N))                                     \
    X(gelu_f32, 8, (F32(now.in), F32(now.out), N))                                    \
    X(gelu_tanh_f32, 8, (F32(now.in), F32(now.out), N))                               \
    X(softmax_f32, 8, (0.5f, F32(now.in), F32(now.out), N))                           \
    X(layernorm_f32, 8, (&layernorm, F32(now.in), F32(now.out), N))                   \
    X(pack_u8, 2, (now.in, 128, 1, 128, 128, (int8_t *)now.out, (int32_t *)now.mult)) \
    X(row_sums_u8, 1, (now.in, 128, 128, 128, (int32_t *)now.mult))                   \
    X(pack_f32, 8, (F32(now.in), 4, 512, 128, 128, F32(now.out)))                     \
    X(transpose_8, 2, (now.in, 128, now.out, 128, 128, 128))                          \
    X(transpose_32, 8, (now.in, 512, now.out, 512, 128, 128))

#define BENCH_ELTWISE(kernel, bytes, args)                                                          \
    static void run_##kernel(const bench_args *a) {                                                 \
        a->set->kernel args;                                                                        \
    }                                                                                               \
    static void bench_##kernel(int level) {                                                         \
        bench_args a = {espl__kernels_at((espl__cpu)level), NULL};                                  \
        int n = strncmp(#kernel, "max", 3) == 0 || strncmp(#kernel, "sum", 3) == 0 ? 64 : N;        \
        double rate = (double)n * (bytes) / seconds(run_##kernel, &a, level ? 0.05 : 0.01) * 1e-9;  \
        print_rate(#kernel, level, n == N ? "16384 elements" : "9 rows of 64", rate, "GB/s ", 0.0); \
    }
ELTWISE(BENCH_ELTWISE)

/* --- all --------------------------------------------------------------------------------------------- */

void bench_all(const char *only) {
    rng = espl__rng_seed(1, 1);
    now.in = some_bytes(MAX_BYTES), now.out = some_bytes(MAX_BYTES), now.res = some_bytes(MAX_BYTES);
    now.w = some_bytes(MAX_BYTES), now.bias = some_bytes(MAX_BYTES), now.mult = some_bytes(MAX_BYTES);
    layernorm = (espl__layernorm){F32(now.w), F32(now.bias), 1e-5f};
    for (int i = 0; i < POOL; i++) rows_u8[i] = now.in + i * 64, rows_f32[i] = F32(now.in) + i * 64;
    for (int level = (int)espl__cpu_machine(); level >= 0; level--) {
        if (!espl__cpu_has((espl__cpu)level)) continue;
#define X(name, args) \
    if (espl__kernels_own((espl__cpu)level)->name && (!only || strcmp(only, #name) == 0)) bench_##name(level);
        ESPL__KERNEL_LIST(X)
#undef X
    }
    free(now.in), free(now.out), free(now.res), free(now.w), free(now.bias), free(now.mult);
}
