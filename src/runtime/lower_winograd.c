/* Convolution by Winograd's F(2x2, 3x3) (Lavin and Gray, arXiv:1509.09308), 16 products where the direct way
 * has 36, and of codes by F(4x4, 3x3) too, 36 where it has 144. See kernels.h for the formulas. A strip of
 * some rows of tiles at a time: its input is transformed (V), then, for some blocks of output channels after
 * the other, 16 or 36 matrix products V_k U_k give M, and M is transformed into the output. The strip is as
 * long as keeps V and M in the second-level cache.
 *
 * In f32 no threshold here may depend on the machine or the batch: the two ways round differently, and the
 * same input shall give the same output everywhere. Of codes all ways give the same integers, so the machine
 * decides: products of 16 bits, two a lane, are half as fast as those of bytes by VNNI, and two thirds as fast
 * as those of bytes that must not saturate without it (s16_rate). */
#include "runtime/winograd.h"

#include <math.h>

enum {
    MOST_ELEMENTS = 36,      /* of a transformed tile */
    LEAST_CHANNELS = 16,     /* of either side; with fewer, or */
    LEAST_PAIRS = 512,       /* fewer products of both, the transforms of f32 cost more than they save */
    LEAST_TILES = 25,        /* of an image; with fewer, reading the weights is the work, */
    FEW_TILES = 16,          /* unless they are few: then so many */
    FEW_PAIRS = 128 * 128,   /* will do */
    MOST_CODE_INPUTS = 1024, /* four times their sums are within 31 bits: 4 * 9 * 1826 * 255 * 128 < 2^31 */
    MOST_BYTES = 5 << 20,    /* of the weights of large tiles, eight times what they were */
    FEW_BYTES = 512 << 10,   /* of weights that stay in the caches */
    STRIP_BYTES = 512 << 10, /* of V in one strip, but at least */
    STRIP_TILES = 49,        /* so many tiles for one reading of the weights */
    GROUP_BLOCKS = 4,        /* blocks of output channels of one M */
    LINE = 64                /* bytes of a line of cache memory */
};

typedef struct winograd_step {
    step base;
    espl__winograd in_side, out_side;
    espl__conv product;
    view in, out, res;
    bool has_res, by_blocks, codes;
    int side, elements;       /* outputs of a tile each way; elements of a transformed tile */
    int64_t v_size, out_size; /* bytes of an element of V, and of the output */
    int work;                 /* buffer: all V, then all M */
    int v_count;              /* one for each thread, or one for all */
    int64_t v_bytes, m_bytes; /* of one */
    int64_t tiles, tile_rows, images, height; /* tiles of a row, rows of them in an image; rows of outputs */
    int64_t strip_rows;                       /* of tiles */
    int64_t in_origin;
    int64_t weight_plane;       /* bytes of one of the matrices */
    const void *bias, *no_bias; /* of the products: of element (1, 1) and of the others; of codes both are 0 */
    int channels, blocks;
} winograd_step;

typedef struct winograd_job {
    const winograd_step *w;
    espl_session *s;
    int64_t begin, end; /* rows of tiles of the strip */
} winograd_job;

static char *v_of(const winograd_job *j, int thread) {
    return (char *)j->s->buffers[j->w->work].data + thread * j->w->v_bytes;
}

static char *m_of(const winograd_job *j, int thread) {
    return v_of(j, j->w->v_count) + thread * j->w->m_bytes;
}

/* Rows of outputs that a row of tiles has. */
static int rows_of(const winograd_step *w, int64_t tile_row) {
    return (int)ESPL_MIN(w->height - tile_row % w->tile_rows * w->side, w->side);
}

/* Where a row of tiles begins in a view. */
static char *at_row(const winograd_job *j, const view *v, int64_t tile_row) {
    return buffer_at(j->s, v) + tile_row / j->w->tile_rows * v->stride[0] +
           tile_row % j->w->tile_rows * j->w->side * v->stride[2];
}

/* Row r of tiles, of the strip that begins at j->begin. */
static void transform_in(const winograd_job *j, int64_t r, char *v) {
    const winograd_step *w = j->w;
    const char *in = at_row(j, &w->in, r) + w->in_origin;
    v += (r - j->begin) * w->tiles * w->in_side.tile;
    if (w->codes)
        j->s->kernels->winograd_in_u8(&w->in_side, (const uint8_t *)in, (int16_t *)(void *)v, rows_of(w, r));
    else
        j->s->kernels->winograd_in_f32(&w->in_side, (const float *)(const void *)in, (float *)(void *)v,
                                       rows_of(w, r));
}

static void transform_out(const winograd_job *j, int64_t r, const char *m, int block, int channels) {
    const winograd_step *w = j->w;
    const espl__kernels *k = j->s->kernels;
    espl__winograd p = w->out_side;
    const int64_t first = (int64_t)block * ESPL__NR, from = first * w->out_size;
    char *out = at_row(j, &w->out, r) + from;
    const char *res = w->has_res ? at_row(j, &w->res, r) + from : NULL;
    m += (r - j->begin) * w->tiles * p.tile;
    p.channels = channels;
    if (w->codes) {
        p.bias += first;
        p.q.mult += first;
        k->winograd_out_u8(&p, (const int32_t *)(const void *)m, (uint8_t *)out, (const uint8_t *)res,
                           rows_of(w, r));
    } else {
        k->winograd_out_f32(&p, (const float *)(const void *)m, (float *)(void *)out,
                            (const float *)(const void *)res, rows_of(w, r));
    }
}

static void product(const winograd_step *w, const espl__kernels *k, const espl__conv *p, const char *v,
                    char *m, int pixels, int blocks) {
    if (w->codes)
        k->conv_s16(p, (const int16_t *)(const void *)v, (int32_t *)(void *)m, pixels, 0, blocks);
    else
        k->conv_f32(p, (const float *)(const void *)v, (float *)(void *)m, NULL, pixels, 0, blocks);
}

/* The strip's outputs of blocks [b0, b1), no more than GROUP_BLOCKS. */
static void multiply(const winograd_job *j, const char *v, char *m, int b0, int b1) {
    const winograd_step *w = j->w;
    espl__conv p = w->product;
    p.channels = ESPL_MIN(w->channels, b1 * ESPL__NR) - b0 * ESPL__NR;
    const int64_t block = w->weight_plane / w->blocks;
    const char *first = w->product.w;
    for (int k = 0; k < w->elements; k++) {
        p.w = first + k * w->weight_plane + b0 * block;
        p.next = k + 1 < w->elements ? (const char *)p.w + w->weight_plane
                 : b1 < w->blocks    ? first + b1 * block
                                     : NULL;
        p.cold = p.next != NULL; /* each element has weights of its own, which the strip before read last */
        p.bias = (const char *)(k == 5 /* (1, 1) of f32 */ ? w->bias : w->no_bias) + b0 * ESPL__NR * 4;
        product(w, j->s->kernels, &p, v + k * w->in_side.plane, m + k * w->out_side.plane,
                (int)((j->end - j->begin) * w->tiles), b1 - b0);
    }
    for (int64_t r = j->begin; r < j->end; r++) transform_out(j, r, m, b0, p.channels);
}

/* Threads share rows: each has strips of its own. */
static void job_strips(void *arg, int64_t begin, int64_t end, int thread) {
    const winograd_job *all = arg;
    winograd_job j = *all;
    const winograd_step *w = j.w;
    for (j.begin = begin; j.begin < end; j.begin = j.end) {
        j.end = ESPL_MIN(j.begin + w->strip_rows, end);
        for (int64_t r = j.begin; r < j.end; r++) transform_in(&j, r, v_of(&j, thread));
        for (int b = 0; b < w->blocks; b += GROUP_BLOCKS)
            multiply(&j, v_of(&j, thread), m_of(&j, thread), b, ESPL_MIN(b + GROUP_BLOCKS, w->blocks));
    }
}

/* Threads share blocks of output channels: all work on one strip, in the first one's V. */
static void job_rows(void *arg, int64_t begin, int64_t end, int thread) {
    const winograd_job *j = arg;
    (void)thread;
    for (int64_t r = begin; r < end; r++) transform_in(j, j->begin + r, v_of(j, 0));
}

static void job_groups(void *arg, int64_t begin, int64_t end, int thread) {
    const winograd_job *j = arg;
    for (int64_t g = begin; g < end; g++)
        multiply(j, v_of(j, 0), m_of(j, thread), (int)g * GROUP_BLOCKS,
                 ESPL_MIN((int)(g + 1) * GROUP_BLOCKS, j->w->blocks));
}

static void run_winograd(const step *st, espl_session *s) {
    winograd_job j = {(const winograd_step *)st, s, 0, 0};
    const winograd_step *w = j.w;
    espl__pool *pool = pool_for(s, w->base.macs, w->codes);
    int64_t rows = w->images * w->tile_rows;
    if (!w->by_blocks) {
        espl__parallel_for(pool, rows, job_strips, &j);
        return;
    }
    for (j.begin = 0; j.begin < rows; j.begin = j.end) {
        j.end = ESPL_MIN(j.begin + w->strip_rows, rows);
        espl__parallel_for(pool, j.end - j.begin, job_rows, &j);
        espl__parallel_for(pool, (w->blocks + GROUP_BLOCKS - 1) / GROUP_BLOCKS, job_groups, &j);
    }
}

/* --- weights ------------------------------------------------------------------------------------------ */

typedef double lanes[ESPL__NR]; /* one number of each channel of a block */

/* G times a vector of three, in double: exact but for the last bits of numbers of very different size. */
static void transform_taps(lanes *const g[3], lanes *const u[4]) {
    for (int c = 0; c < ESPL__NR; c++) {
        double ends = (*g[0])[c] + (*g[2])[c];
        (*u[0])[c] = (*g[0])[c];
        (*u[1])[c] = (ends + (*g[1])[c]) / 2;
        (*u[2])[c] = (ends - (*g[1])[c]) / 2;
        (*u[3])[c] = (*g[2])[c];
    }
}

/* The taps of `count` channels, `by_channel` floats apart, for one input. */
static void transform_kernels(const float *taps, int64_t by_channel, int64_t count, float *to,
                              int64_t plane) {
    lanes g[3][3], t[4][3], u[4][4];
    memset(g, 0, sizeof g);
    for (int64_t c = 0; c < count; c++)
        for (int k = 0; k < 9; k++) g[k / 3][k % 3][c] = (double)taps[c * by_channel + k];
    for (int j = 0; j < 3; j++)
        transform_taps((lanes *const[3]){&g[0][j], &g[1][j], &g[2][j]},
                       (lanes *const[4]){&t[0][j], &t[1][j], &t[2][j], &t[3][j]});
    for (int i = 0; i < 4; i++)
        transform_taps((lanes *const[3]){&t[i][0], &t[i][1], &t[i][2]},
                       (lanes *const[4]){&u[i][0], &u[i][1], &u[i][2], &u[i][3]});
    for (int k = 0; k < 16; k++)
        for (int c = 0; c < ESPL__NR; c++) to[k * plane + c] = (float)u[k / 4][k % 4][c];
}

/* w: [channels][inputs][3][3], to [16][channels / 16][inputs][16], zero-filled. What was read of a file
 * leaves memory again. */
static void transform_weights(const espl_session *s, const float *w, int64_t channels, int64_t inputs,
                              float *to, int64_t plane) {
    for (int64_t c = 0; c < channels; c += ESPL__NR, w += ESPL__NR * inputs * 9) {
        int64_t count = ESPL_MIN(channels - c, ESPL__NR);
        for (int64_t i = 0; i < inputs; i++, to += ESPL__NR)
            transform_kernels(w + i * 9, inputs * 9, count, to, plane);
        espl__graph_drop(s->graph, w, (uint64_t)(count * inputs) * 9 * sizeof *w);
    }
}

typedef int16_t code_pairs[2 * ESPL__NR]; /* of codes: those of two inputs for each channel of a block */

/* G for codes times a vector of three, which lie `by` apart: 2 G where side is 2. */
static void transform_codes(const code_pairs *restrict g, int by, int side, code_pairs *restrict u) {
    for (int c = 0; c < 2 * ESPL__NR; c++) {
        const int first = g[0][c], middle = g[by][c], third = g[2 * by][c], ends = first + third;
        if (side == 2) {
            u[0][c] = (int16_t)(2 * first);
            u[1][c] = (int16_t)(ends + middle);
            u[2][c] = (int16_t)(ends - middle);
            u[3][c] = (int16_t)(2 * third);
        } else {
            const int weighted = first + 4 * third;
            u[0][c] = (int16_t)(6 * first);
            u[1][c] = (int16_t)(-4 * (ends + middle));
            u[2][c] = (int16_t)(-4 * (ends - middle));
            u[3][c] = (int16_t)(weighted + 2 * middle);
            u[4][c] = (int16_t)(weighted - 2 * middle);
            u[5][c] = (int16_t)(12 * third);
        }
    }
}

/* The taps of `count` channels, `by_channel` codes apart, for two inputs; adds them up. */
static void transform_code_kernels(const uint8_t *taps, uint8_t flip, int64_t by_channel, int64_t count,
                                   int side, int16_t *to, int64_t plane, int32_t *sums) {
    const int size = side + 2;
    code_pairs g[9], t[18], u[6]; /* t: [column][element] */
    memset(g, 0, sizeof g);
    for (int64_t c = 0; c < count; c++) {
        int32_t sum = 0;
        for (int input = 0; input < 2; input++)
            for (int k = 0; k < 9; k++) {
                const int8_t code = (int8_t)(taps[c * by_channel + 9 * input + k] ^ flip);
                g[k][2 * c + input] = code;
                sum += code;
            }
        sums[c] += sum;
    }
    for (int j = 0; j < 3; j++) transform_codes((const code_pairs *)(g + j), 3, side, t + 6 * j);
    for (int i = 0; i < size; i++) {
        transform_codes((const code_pairs *)(t + i), 6, side, u);
        for (int j = 0; j < size; j++) memcpy(to + (i * size + j) * plane, u[j], sizeof u[j]);
    }
}

/* To [elements][channels / 16][inputs / 2][16][2]; sets w->sums. */
static espl_status transform_code_weights(const espl_session *s, weights *w, int64_t channels, int64_t inputs,
                                          int side, int16_t *to, int64_t plane, espl_diag *diag) {
    const uint8_t *from = w->data;
    w->sums = espl__calloc(s->ctx, (uint64_t)channels, sizeof *w->sums);
    if (!w->sums) return espl__nomem(diag, (uint64_t)channels * sizeof *w->sums);
    for (int64_t c = 0; c < channels; c += ESPL__NR, from += ESPL__NR * inputs * 9) {
        const int64_t count = ESPL_MIN(channels - c, ESPL__NR);
        for (int64_t i = 0; i < inputs; i += 2, to += 2 * ESPL__NR)
            transform_code_kernels(from + i * 9, w->flip, inputs * 9, count, side, to, plane, w->sums + c);
        espl__graph_drop(s->graph, from, (uint64_t)(count * inputs) * 9);
    }
    return ESPL_OK;
}

/* --- planning ---------------------------------------------------------------------------------------- */

static bool is_plain_3x3(const espl__window *g, int64_t groups) {
    for (int d = 0; d < 2; d++)
        if (g->kernel[d] != 3 || g->stride[d] != 1 || g->dilation[d] != 1) return false;
    return groups == 1;
}

/* Counted in doubles: shapes are numbers from a file. */
static double tiles_of(const espl__window *g, int side) {
    return ceil((double)g->out[0] / side) * ceil((double)g->out[1] / side);
}

/* Enough tiles for the weights that are read. */
static bool enough_tiles(const espl__window *g, double pairs) {
    return tiles_of(g, 2) >= (pairs <= FEW_PAIRS ? FEW_TILES : LEAST_TILES);
}

bool espl__winograd_pays(const espl__window *g, int64_t groups, int64_t inputs, int64_t channels) {
    const double pairs = (double)inputs * (double)channels;
    return is_plain_3x3(g, groups) && ESPL_MIN(inputs, channels) >= LEAST_CHANNELS && pairs >= LEAST_PAIRS &&
           enough_tiles(g, pairs);
}

/* What a layer of codes takes by tiles of so many outputs each way (1: the direct way), in the time that this
 * set takes for one of the direct way's products. With VNNI a tile's transforms take as long as 6 products an
 * element and input, and 20 an element and channel, more than a direct sum's way to its code, and a byte of
 * weights as long as 1.2 where few of them stay in the caches from run to run, or 16 where they come from memory
 * (Zen 4). Without it products take longer and these less of them, which only makes large tiles better. */
static double cost_of_codes(const espl_session *s, const espl__window *g, int side, double inputs,
                            double channels) {
    const double pairs = inputs * channels, size = side + 2, elements = size * size,
                 tiles = tiles_of(g, side);
    const double byte = (side == 1 ? 1 : 2) * elements * pairs <= FEW_BYTES ? 1.2 : 16;
    if (side == 1) return pairs * 9 * (tiles + byte);
    return elements *
           (pairs * (tiles * 100 / s->kernels->s16_rate + 2 * byte) + tiles * (6 * inputs + 20 * channels));
}

/* Y of kernels.h is within 26 bits, whatever the input is. No more than 9 * MOST_CODE_INPUTS taps. */
static bool sums_fit(const weights *w, int64_t channels, int64_t taps) {
    const uint8_t *code = w->data;
    for (int64_t c = 0; c < channels; c++, code += taps) {
        int32_t positive = 0, negative = 0;
        for (int64_t i = 0; i < taps; i++) {
            const int8_t x = (int8_t)(code[i] ^ w->flip);
            positive += ESPL_MAX(x, 0);
            negative += ESPL_MIN(x, 0);
        }
        if (ESPL_MAX(positive, -negative) > ((1 << 25) - 1) / 255) return false;
    }
    return true;
}

int espl__winograd_pays_codes(const espl_session *s, const espl__window *g, int64_t groups, const weights *w,
                              int64_t inputs, int64_t channels) {
    const double ins = (double)inputs, outs = (double)channels;
    int side = 1;
    if (!s->kernels->s16_rate || s->arithmetic.accumulator_bits || !is_plain_3x3(g, groups) ||
        inputs % 2 != 0 || inputs > MOST_CODE_INPUTS || ESPL_MIN(inputs, channels) < LEAST_CHANNELS)
        return 0;
    if (espl__winograd_small_pays(s) && enough_tiles(g, ins * outs)) side = 2;
    if (2 * MOST_ELEMENTS * ins * outs <= MOST_BYTES &&
        1.1 * cost_of_codes(s, g, 4, ins, outs) < cost_of_codes(s, g, side, ins, outs) &&
        sums_fit(w, channels, inputs * 9))
        side = 4;
    return side == 1 ? 0 : side;
}

/* An odd number of lines: equal places of neighbours share no set of the cache. */
static int64_t odd_lines(int64_t bytes) {
    return (bytes + 2 * LINE - 1) / (2 * LINE) * (2 * LINE) + LINE;
}

/* Strips, and which way threads share the work: like run_linear, by what is larger. */
static void choose_strips(winograd_step *w, int64_t inputs, int threads) {
    int64_t rows = w->images * w->tile_rows, tile = odd_lines(inputs * w->v_size);
    int64_t least = ESPL_MAX(STRIP_TILES / w->tiles, 1);
    w->strip_rows = ESPL_MAX(STRIP_BYTES / (w->elements * tile * w->tiles), least);
    int64_t input_bytes = rows * w->tiles * w->side * w->side * inputs * w->v_size;
    int64_t groups = (w->blocks + GROUP_BLOCKS - 1) / GROUP_BLOCKS;
    w->by_blocks =
        threads > 1 && groups >= threads &&
        (rows < 2 * threads || (groups >= 2 * threads && w->elements * w->weight_plane > input_bytes));
    w->v_count = w->by_blocks ? 1 : threads;
    int64_t share = w->by_blocks ? rows : (rows + threads - 1) / threads;
    int64_t strips = ESPL_MAX((share + w->strip_rows - 1) / w->strip_rows, 1);
    w->strip_rows = (share + strips - 1) / strips;
    int64_t in_strip = w->strip_rows * w->tiles;
    w->in_side.tile = tile;
    w->in_side.plane = odd_lines(in_strip * tile);
    w->out_side.tile = odd_lines(ESPL_MIN(w->blocks, GROUP_BLOCKS) * ESPL__NR * 4);
    w->out_side.plane = odd_lines(in_strip * w->out_side.tile);
    w->v_bytes = w->elements * w->in_side.plane;
    w->m_bytes = w->elements * w->out_side.plane;
}

static void set_geometry(winograd_step *w, const espl__window *g) {
    w->images = w->out.dim[0];
    w->height = g->out[0];
    w->tiles = (g->out[1] + w->side - 1) / w->side;
    w->tile_rows = (g->out[0] + w->side - 1) / w->side;
    w->in_origin = -(g->begin[0] * w->in.stride[2] + g->begin[1] * w->in.stride[3]);
    w->in_side.side = w->out_side.side = w->side;
    w->in_side.width = w->out_side.width = (int32_t)g->out[1];
    w->in_side.channels = (int32_t)w->in.dim[1];
    w->in_side.step = w->in.stride[3];
    w->in_side.row = w->in.stride[2];
    w->out_side.step = w->out.stride[3];
    w->out_side.row = w->out.stride[2];
    w->out_side.res_step = w->has_res ? w->res.stride[3] : 0;
    w->out_side.res_row = w->has_res ? w->res.stride[2] : 0;
}

static void set_product(winograd_step *w, int64_t inputs, const void *packed) {
    static const int32_t one_segment[1];
    w->product = (espl__conv){.segments = 1,
                              .seg_k = (int32_t)(w->codes ? inputs / 2 : inputs),
                              .seg_off = one_segment,
                              .in_step = w->in_side.tile,
                              .out_step = w->out_side.tile,
                              .w = packed,
                              .flo = -INFINITY,
                              .fhi = INFINITY};
}

/* U, and what is done to the sums. A' adds element (1, 1) to all outputs, so it may bring the bias. */
static espl_status set_weights(espl_session *s, winograd_step *w, const fusion *f, weights *read,
                               int64_t inputs, espl_diag *diag) {
    espl_status status = ESPL_OK;
    espl__conv side = {0};
    const uint64_t bytes = (uint64_t)w->elements * (uint64_t)w->weight_plane;
    void *packed = espl__plan_packed(s, bytes);
    w->no_bias = espl__plan_weights(s, (uint64_t)(w->blocks * ESPL__NR) * 4);
    if (!packed || !w->no_bias) return espl__nomem(diag, bytes);
    set_product(w, inputs, packed);
    if (w->codes) {
        ESPL_TRY(
            transform_code_weights(s, read, w->channels, inputs, w->side, packed, w->weight_plane / 2, diag));
        ESPL_TRY(
            espl__weights_scale(s, read, &w->in, f, 1, w->channels, true, &w->res, &side, diag));
        w->out_side.bias = side.bias;
        w->out_side.q = side.q;
        w->bias = w->no_bias;
    } else {
        transform_weights(s, read->data, w->channels, inputs, packed, w->weight_plane / 4);
        ESPL_TRY(espl__weights_bias(s, f, 1, w->channels, &side, diag));
        w->bias = side.bias;
        w->out_side.flo = side.flo;
        w->out_side.fhi = side.fhi;
    }
done:
    return status;
}

espl_status espl__lower_winograd(espl_session *s, const espl__node *n, const espl__window *g, int side,
                                 const fusion *f, weights *read, const view *in, const view *res,
                                 const view *out, const view *final, espl_diag *diag) {
    espl_status status = ESPL_OK;
    const int64_t channels = out->dim[1], inputs = in->dim[1];
    const bool codes = read->integer;
    winograd_step *w = espl__plan_step(s, sizeof *w, n,
                                       !codes      ? "winograd_f32"
                                       : side == 2 ? "winograd_u8"
                                                   : "winograd4_u8",
                                       run_winograd);
    if (!w) return espl__nomem(diag, sizeof *w);
    w->base.core = codes ? "conv_s16" : "conv_f32";
    w->base.format = codes ? "s8" : "f32";
    w->codes = codes;
    w->side = side;
    w->elements = (side + 2) * (side + 2);
    w->v_size = codes ? 2 : 4;
    w->out_size = codes ? 1 : 4;
    w->in = *in;
    w->out = *out;
    w->res = *res;
    w->has_res = f->residual != NULL;
    w->channels = (int)channels;
    w->blocks = (int)(pad16(channels) / ESPL__NR);
    w->weight_plane = pad16(channels) * inputs * w->v_size;
    set_geometry(w, g);
    choose_strips(w, inputs, s->threads);
    w->work =
        espl__plan_buffer(s, BUFFER_WORK, (uint64_t)(w->v_count * w->v_bytes + s->threads * w->m_bytes));
    if (w->work < 0) return espl__nomem(diag, (uint64_t)w->v_bytes);
    ESPL_TRY(set_weights(s, w, f, read, inputs, diag));
    w->base.macs = n->op->macs(n);
    w->base.weight_bytes = (uint64_t)w->elements * (uint64_t)(inputs * channels * w->v_size);
    const int used[] = {in->buffer, out->buffer, w->work, w->has_res ? res->buffer : in->buffer};
    for (size_t i = 0; i < ESPL_COUNT(used); i++) espl__plan_use(s, used[i]);
    status = espl__plan_finish(s, n, f->out, out, final, diag);
done:
    return status;
}
