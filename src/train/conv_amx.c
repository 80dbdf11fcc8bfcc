/* Convolution of f32 values on tiles of bfloat16 (train/tiles.h).
 *
 * The rows of a tile are images: for 32 images, an output position, and 32 outputs,
 *
 *     y[images][outputs] = sum over taps x[images of the pixel under the tap][channels]
 * W[tap][channels][outputs]
 *
 * so that taps outside the image cost nothing and any stride and dilation is as good as another. The gradient
 * by data is the same with dy for x and W transposed; that by weights has images as the inner dimension,
 * dW[tap] = sum over positions x[images][channels]' dy[images][outputs]. */
#include "train/amx.h"

#if defined(__x86_64__)
#include <cpuid.h>

#include "base/cpu.h"
#include "train/tiles.h"

enum {
    IMAGES = 2 * ROWS, /* worked on at once: two tiles */
    WIDE = 2 * ROWS    /* outputs, or channels of dx and dW, at once */
};

typedef struct conv {
    espl__conv_f32 head;
    espl_context *ctx;
    espl__conv_shape s;
    int64_t taps, pixels, positions, groups; /* groups of images */
    int runs, block; /* block: positions that are worked on while they are in the cache */
    int32_t *under;  /* [taps][positions]: the pixel under a tap of an output position, -1: none */
    int32_t *over;   /* [taps][pixels]: the position whose tap lies over a pixel, -1: none */
    int64_t under_ring, over_ring; /* so many of them are in use together */
} conv;

typedef struct job {
    const conv *k;
    char *scratch;
    const float *x, *w, *bias, *dy;
    float *y, *dx, *dw;
    bool add_dx, add_dw, transposed;
} job;

/* --- bricks of images ------------------------------------------------------------------------------------
 */

/* Values wait in a small buffer, [image][pixel][channel], read image by image: pixels of 32 images lie at the
 * same place of the cache. Missing images are zeros. */
enum { STAGE = 512 }; /* floats of an image, if a pixel has no more */

static int64_t stage_pixels(int64_t channels) {
    return ESPL_MAX(1, STAGE / channels);
}
static int64_t stage_row(int64_t channels) { /* not a power of two */
    return stage_pixels(channels) * channels + 16;
}

/* `image`: floats between images. */
static void stage(const float *x, int64_t images, int64_t image, int64_t floats, int64_t row, float *to) {
    for (int64_t n = 0; n < IMAGES; n++) {
        if (n < images)
            memcpy(to + n * row, x + n * image, (size_t)floats * sizeof(float));
        else
            memset(to + n * row, 0, (size_t)floats * sizeof(float));
    }
}

/* How the values of a pixel become bricks. */
typedef void (*pack_fn)(const float *x, int64_t row, int64_t channels, char *to);

/* Left operands, images x channels: [32 channels][2 tiles of images]. */
static void pack_images(const float *x, int64_t row, int64_t channels, char *to) {
    for (int64_t n = 0; n < IMAGES; n++)
        for (int64_t c = 0; c < channels; c += DEPTH)
            put(to + (c / DEPTH * 2 + n / ROWS) * BRICK, n % ROWS, _mm512_loadu_ps(x + n * row + c),
                _mm512_loadu_ps(x + n * row + c + 16));
}

/* Right operands, images x outputs: [16 outputs]. */
static void pack_inner(const float *x, int64_t row, int64_t channels, char *to) {
    for (int64_t c = 0; c < channels; c += ROWS, to += BRICK)
        for (int64_t n = 0; n < ROWS; n++)
            put(to, n, _mm512_loadu_ps(x + n * row + c), _mm512_loadu_ps(x + (n + ROWS) * row + c));
}

/* Left operands, channels x images: [16 channels]. */
static void pack_turned(const float *x, int64_t row, int64_t channels, char *to) {
    for (int64_t c = 0; c < channels; c += ROWS, to += BRICK) {
        __m512i parts[3][ROWS];
        for (int64_t n = 0; n < ROWS; n++) {
            __m512 a = _mm512_loadu_ps(x + n * row + c), b = _mm512_loadu_ps(x + (n + ROWS) * row + c);
            for (int i = 0; i < 3; i++) parts[i][n] = part(&a, &b);
        }
        for (int i = 0; i < 3; i++) transpose(parts[i], to + i * PLANE);
    }
}

/* Pixels of a group of images on their way through the cache: each becomes bricks when it is first needed, in
 * a ring that holds as many as are in use together. */
typedef struct ring {
    const float *x;
    int64_t images, pixels, channels, size, done;
    pack_fn pack;
    float *stage;
    char *bricks;
} ring;

static const char *pixel_bricks(const ring *r, int64_t pixel) {
    return r->bricks + pixel % r->size * (r->channels / ROWS) * BRICK;
}

static void fill(ring *r, int64_t end) {
    int64_t row = stage_row(r->channels), most = stage_pixels(r->channels);
    while (r->done < end) {
        int64_t n = ESPL_MIN(most, end - r->done);
        stage(r->x + r->done * r->channels, r->images, r->pixels * r->channels, n * r->channels, row,
              r->stage);
        for (int64_t i = 0; i < n; i++)
            r->pack(r->stage + i * r->channels, row, r->channels,
                    r->bricks + (r->done + i) % r->size * (r->channels / ROWS) * BRICK);
        r->done += n;
    }
}

/* Right operands of weights: [32 outputs][tap][32 inputs][2 tiles of outputs]; `transposed` for dx, where the
 * outputs are the convolution's channels. One unit is 32 of each, all taps. */
static void pack_weights(void *arg, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const job *j = arg;
    const conv *k = j->k;
    int64_t in = j->transposed ? k->s.outputs : k->s.channels, blocks = in / DEPTH, taps = k->taps;
    int64_t step_in = j->transposed ? k->s.channels * taps : taps,
            step_out = j->transposed ? taps : in * taps;
    for (int64_t unit = begin; unit < end; unit++) {
        int64_t o = unit / blocks, c = unit % blocks;
        const float *from = j->w + o * WIDE * step_out + c * DEPTH * step_in;
        for (int64_t t = 0; t < taps; t++) {
            char *to = j->scratch + (((o * taps + t) * blocks + c) * 2) * BRICK;
            for (int64_t i = 0; i < ROWS; i++)
                for (int64_t h = 0; h < 2; h++) {
                    float a[ROWS], b[ROWS];
                    for (int64_t n = 0; n < ROWS; n++) {
                        const float *at = from + (h * ROWS + n) * step_out + t;
                        a[n] = at[i * step_in];
                        b[n] = at[(i + ROWS) * step_in];
                    }
                    put(to + h * BRICK, i, _mm512_loadu_ps(a), _mm512_loadu_ps(b));
                }
        }
    }
}

/* --- products --------------------------------------------------------------------------------------- */

/* The end of what targets [begin, end) need of their sources; `first` becomes the first of it if it is later.
 */
static int64_t reach(const int32_t *source, int64_t taps, int64_t targets, int64_t begin, int64_t end,
                     int64_t *first) {
    int64_t last = -1;
    for (int64_t t = 0; t < taps; t++)
        for (int64_t q = begin; q < end; q++) {
            int64_t p = source[t * targets + q];
            if (p < 0) continue;
            last = ESPL_MAX(last, p);
            *first = ESPL_MIN(*first, p);
        }
    return last + 1;
}

/* One convolution's sums, or those of its gradient by data: `from` under each tap of `to`. */
typedef struct pass {
    const int32_t *source; /* [taps][targets] */
    const char *weights;
    const float *bias;
    float *out; /* of the first image */
    bool add;
    int64_t taps, targets, outputs;
} pass;

static void products(const pass *p, const ring *r, int64_t target, int64_t o) {
    int64_t blocks = r->channels / DEPTH;
    const char *w = p->weights + o / WIDE * p->taps * blocks * 2 * BRICK;
    for (int64_t t = 0; t < p->taps; t++) {
        int64_t from = p->source[t * p->targets + target];
        if (from < 0) continue;
        const char *x = pixel_bricks(r, from);
        for (int64_t c = 0; c < blocks; c++) multiply(x + c * 2 * BRICK, w + (t * blocks + c) * 2 * BRICK);
    }
}

static void one_target(const pass *p, const ring *r, int64_t target, int64_t o) {
    int64_t row = p->targets * p->outputs;
    float *out = p->out + target * p->outputs + o, part[IMAGES * WIDE];
    bool whole = r->images >= IMAGES;
    if (!whole && p->add)
        for (int64_t n = 0; n < IMAGES; n++)
            for (int64_t i = 0; i < WIDE; i++) part[n * WIDE + i] = n < r->images ? out[n * row + i] : 0;
    if (p->add)
        load_sums(whole ? out : part, whole ? row : WIDE);
    else if (p->bias)
        load_sums(p->bias + o, 0);
    else
        clear_sums();
    products(p, r, target, o);
    store_sums(whole ? out : part, whole ? row : WIDE);
    for (int64_t n = 0; !whole && n < r->images; n++)
        memcpy(out + n * row, part + n * WIDE, sizeof(float) * WIDE);
}

static void run_pass(const pass *p, ring *r, int64_t block) {
    for (int64_t q = 0; q < p->targets; q += block) {
        int64_t end = ESPL_MIN(p->targets, q + block), first = INT64_MAX;
        fill(r, reach(p->source, p->taps, p->targets, q, end, &first));
        for (int64_t o = 0; o < p->outputs; o += WIDE)
            for (int64_t target = q; target < end; target++) one_target(p, r, target, o);
    }
}

static uint64_t bricks(int64_t rows, int64_t columns) { /* of values */
    return (uint64_t)(rows / ROWS * (columns / DEPTH)) * BRICK;
}
static uint64_t weight_bytes(const conv *k) {
    return bricks(k->s.outputs, k->s.channels) * (uint64_t)k->taps;
}
static uint64_t ring_bytes(int64_t size, int64_t channels) {
    return bricks(IMAGES, channels) * (uint64_t)size;
}
static uint64_t sum_bytes(const conv *k) {
    return k->s.dw ? (uint64_t)(k->taps * k->s.channels * k->s.outputs) * sizeof(float) : 0;
}
static uint64_t stage_bytes(const conv *k) {
    return (uint64_t)(IMAGES * ESPL_MAX(stage_row(k->s.channels), stage_row(k->s.outputs))) * sizeof(float);
}
/* A run's: stage, pixels under, positions (over, or a block of them), sums. */
static uint64_t under_bytes(const conv *k) {
    return ring_bytes(k->under_ring, k->s.channels);
}
static uint64_t over_bytes(const conv *k) {
    return ring_bytes(ESPL_MAX(k->over_ring, ESPL_MIN(k->block, k->positions)), k->s.outputs);
}
static uint64_t run_bytes(const conv *k, bool back) {
    return stage_bytes(k) + under_bytes(k) + (back ? over_bytes(k) + sum_bytes(k) : 0);
}

static ring ring_of(const conv *k, bool outputs, const float *x, int64_t group, char *run) {
    int64_t channels = outputs ? k->s.outputs : k->s.channels, pixels = outputs ? k->positions : k->pixels;
    int64_t n = group * IMAGES;
    return (ring){.x = x + n * pixels * channels,
                  .images = ESPL_MIN(IMAGES, k->s.images - n),
                  .pixels = pixels,
                  .channels = channels,
                  .size = outputs ? k->over_ring : k->under_ring,
                  .pack = pack_images,
                  .stage = (float *)run,
                  .bricks = run + stage_bytes(k) + (outputs ? under_bytes(k) : 0)};
}

static void forward_run(void *arg, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const job *j = arg;
    const conv *k = j->k;
    begin_tiles();
    for (int64_t run = begin; run < end; run++) {
        char *own = j->scratch + weight_bytes(k) + (uint64_t)run * run_bytes(k, false);
        for (int64_t g = run * k->groups / k->runs; g < (run + 1) * k->groups / k->runs; g++) {
            ring r = ring_of(k, false, j->x, g, own);
            float *y = j->y + g * IMAGES * k->positions * k->s.outputs;
            pass p = {k->under, j->scratch, j->bias, y, false, k->taps, k->positions, k->s.outputs};
            run_pass(&p, &r, k->block);
        }
    }
    _tile_release();
}

static void forward(espl__conv_f32 *head, espl__pool *pool, void *scratch, const float *x, const float *w,
                    const float *bias, float *y) {
    const conv *k = (const conv *)head;
    job j = {.k = k, .scratch = scratch, .x = x, .w = w, .bias = k->s.bias ? bias : NULL, .y = y};
    espl__parallel_for(pool, k->s.channels / DEPTH * (k->s.outputs / WIDE), pack_weights, &j);
    espl__parallel_for(pool, k->runs, forward_run, &j);
}

/* --- backward --------------------------------------------------------------------------------------- */

/* Positions [begin, end)'s part of dW: sums are [32 channels][32 outputs][tap], each 32 x 32. */
static void weight_block(const conv *k, const ring *x, const ring *dy, int64_t begin, int64_t end,
                         float *sums) {
    int64_t in = k->s.channels / ROWS, out = k->s.outputs / ROWS;
    for (int64_t c = 0; c < in; c += 2)
        for (int64_t o = 0; o < out; o += 2)
            for (int64_t t = 0; t < k->taps; t++) {
                float *sum = sums + (((c / 2) * (out / 2) + o / 2) * k->taps + t) * WIDE * WIDE;
                load_sums(sum, WIDE);
                for (int64_t q = begin; q < end; q++) {
                    int64_t from = k->under[t * k->positions + q];
                    if (from >= 0)
                        multiply(pixel_bricks(x, from) + c * BRICK, pixel_bricks(dy, q) + o * BRICK);
                }
                store_sums(sum, WIDE);
            }
}

static void weight_terms(const job *j, int64_t group, char *own) {
    const conv *k = j->k;
    ring x = ring_of(k, false, j->x, group, own), dy = ring_of(k, true, j->dy, group, own);
    x.pack = pack_turned;
    dy.pack = pack_inner;
    dy.size = ESPL_MIN(k->block, k->positions);
    float *sums = (float *)(own + run_bytes(k, true) - sum_bytes(k));
    for (int64_t q = 0; q < k->positions; q += k->block) {
        int64_t end = ESPL_MIN(k->positions, q + k->block), first = INT64_MAX;
        fill(&x, reach(k->under, k->taps, k->positions, q, end, &first));
        fill(&dy, end);
        weight_block(k, &x, &dy, q, end, sums);
    }
}

static void backward_run(void *arg, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const job *j = arg;
    const conv *k = j->k;
    begin_tiles();
    for (int64_t run = begin; run < end; run++) {
        char *own = j->scratch + weight_bytes(k) + (uint64_t)run * run_bytes(k, true);
        if (j->dw) memset(own + run_bytes(k, true) - sum_bytes(k), 0, sum_bytes(k));
        for (int64_t g = run * k->groups / k->runs; g < (run + 1) * k->groups / k->runs; g++) {
            if (j->dw) weight_terms(j, g, own);
            if (!j->dx) continue;
            ring r = ring_of(k, true, j->dy, g, own);
            float *dx = j->dx + g * IMAGES * k->pixels * k->s.channels;
            pass p = {k->over, j->scratch, NULL, dx, j->add_dx, k->taps, k->pixels, k->s.channels};
            run_pass(&p, &r, k->block);
        }
    }
    _tile_release();
}

/* Adds the runs' sums up in order, as the graph has the weights. */
static void finish_weights(void *arg, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const job *j = arg;
    const conv *k = j->k;
    int64_t in = k->s.channels, wide = k->s.outputs / WIDE;
    const float *sums = (const float *)(j->scratch + weight_bytes(k) + run_bytes(k, true) - sum_bytes(k));
    for (int64_t o = begin; o < end; o++)
        for (int64_t c = 0; c < in; c++)
            for (int64_t t = 0; t < k->taps; t++) {
                int64_t at =
                    ((c / WIDE * wide + o / WIDE) * k->taps + t) * WIDE * WIDE + c % WIDE * WIDE + o % WIDE;
                float sum = sums[at], *to = &j->dw[(o * in + c) * k->taps + t];
                for (int run = 1; run < k->runs; run++)
                    sum += sums[(uint64_t)run * run_bytes(k, true) / sizeof(float) + (uint64_t)at];
                *to = j->add_dw ? *to + sum : sum;
            }
}

static void backward(espl__conv_f32 *head, espl__pool *pool, void *scratch, const float *x, const float *w,
                     const float *dy, float *dx, bool add_dx, float *dw, bool add_dw) {
    const conv *k = (const conv *)head;
    job j = {k, scratch, x, w, NULL, dy, NULL, dx, dw, add_dx, add_dw, true};
    if (dx) espl__parallel_for(pool, k->s.channels / WIDE * (k->s.outputs / DEPTH), pack_weights, &j);
    espl__parallel_for(pool, k->runs, backward_run, &j);
    if (dw) espl__parallel_for(pool, k->s.outputs, finish_weights, &j);
}

/* --- preparation ------------------------------------------------------------------------------------ */

static void release(espl__conv_f32 *head) {
    conv *k = (conv *)head;
    espl__free(k->ctx, k->under);
    espl__free(k->ctx, k->over);
    espl__free(k->ctx, k);
}

static int32_t pixel_under(const espl__window *w, int64_t out, int64_t tap) {
    int64_t o[3] = {out / (w->out[1] * w->out[2]), out / w->out[2] % w->out[1], out % w->out[2]};
    int64_t t[3] = {tap / (w->kernel[1] * w->kernel[2]), tap / w->kernel[2] % w->kernel[1],
                    tap % w->kernel[2]};
    int64_t at = 0;
    for (int i = 0; i < 3; i++) {
        int64_t p = o[i] * w->stride[i] - w->begin[i] + t[i] * w->dilation[i];
        if (p < 0 || p >= w->in[i]) return -1;
        at = at * w->in[i] + p;
    }
    return (int32_t)at;
}

static bool map_taps(conv *k) {
    k->under = espl__calloc(k->ctx, (uint64_t)(k->taps * k->positions), sizeof *k->under);
    k->over = espl__calloc(k->ctx, (uint64_t)(k->taps * k->pixels), sizeof *k->over);
    if (!k->under || !k->over) return false;
    for (int64_t i = 0; i < k->taps * k->pixels; i++) k->over[i] = -1;
    for (int64_t t = 0; t < k->taps; t++)
        for (int64_t q = 0; q < k->positions; q++) {
            int32_t p = k->under[t * k->positions + q] = pixel_under(&k->s.w, q, t);
            if (p >= 0) k->over[t * k->pixels + p] = (int32_t)q;
        }
    return true;
}

/* How many sources a block's targets and what comes before the next blocks' first one take in the ring. */
static int64_t ring_size(const int32_t *source, int64_t taps, int64_t targets, int64_t block) {
    int64_t first = INT64_MAX, size = 1, last = 0;
    /* From the end: `first` is what this block and all later ones still need. */
    for (int64_t q = (targets - 1) / block * block; q >= 0; q -= block) {
        int64_t before = 0, none = INT64_MAX;
        for (int64_t b = 0; b <= q; b += block)
            before = ESPL_MAX(before, reach(source, taps, targets, b, ESPL_MIN(targets, b + block), &none));
        last = before;
        reach(source, taps, targets, q, ESPL_MIN(targets, q + block), &first);
        if (first < INT64_MAX) size = ESPL_MAX(size, last - first);
    }
    return size;
}

/* Whole bricks of channels, images that fill the groups, groups for all threads, and enough products with
 * what was packed. */
static bool fits(const conv *k) {
    const espl__conv_shape *s = &k->s;
    return s->groups == 1 && s->channels % DEPTH == 0 && s->outputs % WIDE == 0 && s->channels > 0 &&
           s->outputs > 0 && s->images * 4 >= k->groups * IMAGES * 3 &&
           (k->groups % k->runs == 0 || k->groups >= 4 * k->runs) && k->taps * k->pixels < INT32_MAX &&
           k->taps * k->positions < INT32_MAX && k->positions > 0 &&
           ESPL_MIN(s->channels, s->outputs) * k->taps * k->positions > 64 * k->pixels;
}

static espl__conv_f32 *(*others)(espl_context *ctx, const espl__conv_shape *shape);

static espl__conv_f32 *conv_f32(espl_context *ctx, const espl__conv_shape *shape) {
    conv *k = espl__calloc(ctx, 1, sizeof *k);
    if (!k) return NULL;
    const espl__window *w = &shape->w;
    *k = (conv){.head = {0, 0, forward, backward, release},
                .ctx = ctx,
                .s = *shape,
                .taps = w->kernel[0] * w->kernel[1] * w->kernel[2],
                .pixels = w->in[0] * w->in[1] * w->in[2],
                .positions = w->out[0] * w->out[1] * w->out[2],
                .groups = (shape->images + IMAGES - 1) / IMAGES};
    k->runs = (int)ESPL_MAX(1, ESPL_MIN(k->groups, espl__pool_threads(espl__context_pool(ctx))));
    k->block = (int)ESPL_MAX(1, ESPL_MAX(w->out[2], 32 / ESPL_MAX(1, w->out[2]) * w->out[2]));
    if (!fits(k) || !map_taps(k)) {
        release(&k->head);
        return others ? others(ctx, shape) : NULL;
    }
    k->under_ring = ring_size(k->under, k->taps, k->positions, k->block);
    k->over_ring = ring_size(k->over, k->taps, k->pixels, k->block);
    k->head.forward_bytes = weight_bytes(k) + (uint64_t)k->runs * run_bytes(k, false);
    k->head.backward_bytes = weight_bytes(k) + (uint64_t)k->runs * run_bytes(k, true);
    return &k->head;
}

bool espl__amx_open(espl__dense *table) {
    unsigned a, b, c, d;
    if (espl__cpu_level() < ESPL__CPU_AMX || !__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d >> 22 & 1))
        return false;
    others = table->conv_f32;
    table->name = "amx";
    table->conv_f32 = conv_f32;
    espl__amx_gemm_open(table);
    return true;
}
#endif
