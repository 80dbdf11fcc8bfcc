/* Runs the linear layers: rows and blocks of channels dealt out to threads, cut so that caches hold what is
 * read again. */
#include "runtime/sparse.h"
#include "runtime/linear.h"

enum {
    ROW_PIXELS = 56,        /* a row of pixels that are in no rows: several tiles of every kernel */
    TILE_PIXELS = 14,       /* one tile: threads share small images evenly */
    BAND_BYTES = 256 << 10, /* input of one call of a kernel: it stays in the second-level cache */
    BLOCK_UNIT = 2,         /* blocks that integer kernels take together */
    GEMV_BLOCKS = 8,        /* the same of a matrix times a few rows */
    FETCH_EVEN = 12,        /* what reading codes from another core costs, where reading weights costs 1 */
    FETCH = 3,              /* the same of floats, and where rows do not come out even */
    GROUP_WEIGHT_BYTES = 256 << 10, /* weights of one sweep over the rows stay in the second-level cache */
    NEAR_WEIGHT_BYTES = 640 << 10,  /* and beside a band so do so many: the input is read once */
    STAY_BYTES = 512 << 10,         /* of all layers: they stay in the second-level cache from run to run */
    SHORT_ROW = 12,                 /* rows of fewer pixels may be copied by kernels: */
    COPIED_WEIGHT_BYTES = 5 << 18   /* they are once, if these weights fit */
};

typedef struct linear_job {
    const linear_step *l;
    espl_session *s;
    int threads;
} linear_job;

/* Threads share what is larger: each takes a part of the weights, or of the pixels. */
static int block_unit(const linear_step *l) {
    return l->u8_in ? BLOCK_UNIT : 1;
}
static int block_units(const linear_step *l) {
    return (l->blocks + block_unit(l) - 1) / block_unit(l);
}
/* A small image whose rows do not come out even. */
static bool share_channels(const linear_step *l, int threads) {
    return !l->u8_in && l->blocks >= 4 * threads && l->rows % threads && l->rows < 8 * (int64_t)threads;
}
static bool share_blocks(const linear_step *l, int threads) {
    if (l->depthwise) return share_channels(l, threads);
    const bool even = l->u8_in && (l->rows % threads == 0 || l->rows >= 8 * (int64_t)threads);
    return block_units(l) >= threads &&
           (l->rows < 2 * (int64_t)threads ||
            (block_units(l) >= 2 * threads && l->weights_share >= (even ? FETCH_EVEN : FETCH)));
}

/* The weights of block b; NULL if they do not lie in blocks. */
static const void *weights_of(const linear_step *l, int b) {
    if (l->depthwise || l->groups != 1 || l->p.prepared || l->p.bank || l->p.csr) return NULL;
    return (const char *)l->p.w + b * (l->w_group / l->blocks);
}

/* What a thread reads first of the layer behind this one. */
static const void *following_weights(const linear_job *j, int thread) {
    const linear_step *f = j->l->following;
    if (!f) return NULL;
    int first = share_blocks(f, j->threads) ? block_units(f) * thread / j->threads * block_unit(f) : 0;
    return weights_of(f, first);
}

static void depthwise(const linear_step *l, const espl__kernels *k, const char *in, char *out,
                      const char *res, int pixels, int b0, int b1) {
    if (l->u8_in)
        k->dwconv_u8(&l->d, (const uint8_t *)in, (uint8_t *)out, (const uint8_t *)res, pixels, b0, b1);
    else
        k->dwconv_f32(&l->d, (const float *)in, (float *)out, (const float *)res, pixels, b0, b1);
}

/* One group. The kernels of dense and of sparse weights take the same arguments. */
static void convolve_group(const linear_step *l, const espl__kernels *k, const espl__conv *p, const char *in,
                           char *out, const char *res, int pixels, int b0, int b1) {
    const uint8_t *codes = (const uint8_t *)in, *codes_res = (const uint8_t *)res;
    if (l->u8_in && l->u8_out)
        (p->csr    ? k->csr_conv_u8
         : p->bank ? k->bank_conv_u8
                   : k->conv_u8)(p, codes, (uint8_t *)out, codes_res, pixels, b0, b1);
    else if (l->u8_in)
        (p->csr    ? k->csr_conv_u8_f32
         : p->bank ? k->bank_conv_u8_f32
                   : k->conv_u8_f32)(p, codes, (float *)out, pixels, b0, b1);
    else
        (p->csr ? k->csr_conv_f32 : k->conv_f32)(p, (const float *)in, (float *)out, (const float *)res,
                                                 pixels, b0, b1);
}

/* Kernel rows [first, end), and what sums of them begin with: NULL: p.bias. */
typedef struct taps {
    int64_t first, end;
    const border_bias *bias;
} taps;

/* What of the kernel lies inside the image for row y of the output. */
static taps taps_inside(const linear_step *l, int64_t y) {
    const int64_t rows = l->border.rows, apart = l->border.dilation;
    const int64_t above = l->border.top - y * l->border.stride, below = l->border.in_rows + above;
    const int64_t first = ESPL_MIN(ESPL_MAX((above + apart - 1) / apart, 0), rows);
    return (taps){first, ESPL_MAX(ESPL_MIN((below + apart - 1) / apart, rows), first),
                  l->border.bias ? &l->border.bias[y] : NULL};
}

/* espl__conv.next and cold: what of the weights may be fetched. */
typedef struct hints {
    const void *next;
    bool cold;
} hints;

/* `part`: of the kernel, NULL: all. */
static void convolve(const linear_step *l, const espl__kernels *k, const taps *part, const char *in,
                     char *out, const char *res, int pixels, int b0, int b1, hints fetch, void *scratch) {
    espl__conv p = l->p;
    if (!part && l->border.bias) memset(p.edge, 0, sizeof p.edge); /* the bias is that of all products */
    if (part && part->bias) {
        p.bias = part->bias->inner;
        memcpy(p.edge_bias, part->bias->edge, sizeof p.edge_bias);
    }
    if (part && part->end - part->first < l->border.rows) {
        const int64_t first = part->first * l->border.segments;
        p.w_block = espl__conv_w_block(&p);
        p.w = (const char *)p.w + first * p.seg_k * 64;
        p.seg_off += first;
        p.segments = (int32_t)((part->end - part->first) * l->border.segments);
    }
    p.next = fetch.next;
    p.cold = fetch.cold;
    p.scratch = scratch;
    for (int g = 0; g < l->groups; g++) {
        convolve_group(l, k, &p, in, out, res, pixels, b0, b1);
        if (g + 1 == l->groups) break;
        in += l->in_group;
        out += l->out_group;
        if (res) res += l->out_group;
        if (p.prepared)
            p.prepared += l->channels_padded / ESPL__NR;
        else
            p.w = (const char *)p.w + l->w_group;
        p.bias = (const int32_t *)p.bias + l->channels_padded;
        if (p.q.mult) p.q.mult += l->channels_padded;
        if (p.fbias) p.fbias += l->channels_padded;
    }
}

void espl__linear_call(const linear_step *l, const espl__kernels *k, const char *in, char *out,
                       const char *res, int pixels) {
    if (l->depthwise)
        depthwise(l, k, in, out, res, pixels, 0, l->blocks);
    else
        convolve(l, k, NULL, in, out, res, pixels, 0, l->blocks, (hints){0}, NULL);
}

static void *scratch_of(const linear_job *j, int thread) {
    const linear_step *l = j->l;
    return l->scratch < 0 ? NULL : (char *)j->s->buffers[l->scratch].data + thread * l->scratch_bytes;
}

/* Rows from y on, those with the same part of the kernel inside the image together: the others' products with
 * the border, a seventh of all for 3x3 taps at 7x7, are left out. */
static void inside(const linear_job *j, int64_t y, int64_t rows, const char *in, char *out, const char *res,
                   int b0, int b1, hints fetch, void *scratch) {
    const linear_step *l = j->l;
    while (rows > 0) {
        const taps part = taps_inside(l, y);
        int64_t n = 1;
        for (taps t; n < rows; n++) {
            t = taps_inside(l, y + n);
            if (t.first != part.first || t.end != part.end) break;
        }
        const hints own = {n == rows ? fetch.next : NULL, fetch.cold};
        convolve(l, j->s->kernels, &part, in, out, res, (int)(n * l->pixels), b0, b1, own, scratch);
        y += n, rows -= n;
        in += n * l->in_row, out += n * l->out_row;
        if (res) res += n * l->res_row;
    }
}

/* Rows [r0, r1) of one image, blocks [b0, b1). */
static void band(const linear_job *j, int64_t r0, int64_t r1, int b0, int b1, hints fetch, int thread) {
    const linear_step *l = j->l;
    int64_t image = l->rows_per_image ? r0 / l->rows_per_image : 0, y = r0 - image * l->rows_per_image;
    const char *in = buffer_at(j->s, &l->in) + image * l->in_image + y * l->in_row + l->in_origin;
    char *out = buffer_at(j->s, &l->out) + image * l->out_image + y * l->out_row;
    const char *res = l->has_res ? buffer_at(j->s, &l->res) + image * l->res_image + y * l->res_row : NULL;
    int64_t pixels = (r1 - r0 - 1) * l->pixels + (r1 == l->rows ? l->last_pixels : l->pixels);
    if (l->depthwise)
        depthwise(l, j->s->kernels, in, out, res, (int)pixels, b0, b1);
    else if (l->border.left_out)
        inside(j, y, r1 - r0, in, out, res, b0, b1, fetch, scratch_of(j, thread));
    else
        convolve(l, j->s->kernels, NULL, in, out, res, (int)pixels, b0, b1, fetch, scratch_of(j, thread));
}

/* Bands from the last to the first: what the layer before wrote last is still in the second-level cache, and
 * what is written last here are the rows that the next layer begins with. */
static void sweep_back(const linear_job *j, int64_t r0, int64_t r1, int b0, int b1, int thread) {
    const linear_step *l = j->l;
    for (int64_t end = r1, r; end > r0; end = r) {
        const int64_t image = l->rows_per_image ? (end - 1) / l->rows_per_image * l->rows_per_image : r0;
        r = ESPL_MAX(ESPL_MAX(end - l->band_rows, image), r0);
        band(j, r, end, b0, b1, (hints){0}, thread);
    }
}

/* For each group of blocks, whose weights stay in the second-level cache, all rows, in bands that stay there
 * too. */
static void sweep(const linear_job *j, int64_t r0, int64_t r1, int b0, int b1, int thread) {
    const linear_step *l = j->l;
    if (l->depthwise && !l->u8_in) { /* waits for memory more than for products */
        sweep_back(j, r0, r1, b0, b1, thread);
        return;
    }
    for (int b = b0, end; b < b1; b = end) {
        end = ESPL_MIN(b + l->group_blocks, b1);
        const void *next = !l->far ? NULL : end < b1 ? weights_of(l, end) : following_weights(j, thread);
        for (int64_t r = r0, r_end; r < r1; r = r_end) {
            int64_t image_end = l->rows_per_image ? (r / l->rows_per_image + 1) * l->rows_per_image : r1;
            r_end = ESPL_MIN(ESPL_MIN(r + l->band_rows, image_end), r1);
            band(j, r, r_end, b, end, (hints){r_end == r1 ? next : NULL, l->far && r == r0}, thread);
        }
    }
}

static void job_rows(void *arg, int64_t begin, int64_t end, int thread) {
    const linear_job *j = arg;
    sweep(j, begin, end, 0, j->l->blocks, thread);
}

static void job_blocks(void *arg, int64_t begin, int64_t end, int thread) {
    const linear_job *j = arg;
    const int unit = block_unit(j->l);
    sweep(j, 0, j->l->rows, (int)begin * unit, ESPL_MIN((int)end * unit, j->l->blocks), thread);
}

void espl__linear_run(const step *st, espl_session *s) {
    const linear_step *l = (const linear_step *)st;
    espl__pool *pool = pool_for(s, l->base.macs, l->u8_in && !l->depthwise);
    linear_job job = {l, s, espl__pool_threads(pool)};
    if (share_blocks(l, job.threads))
        espl__parallel_for(pool, block_units(l), job_blocks, &job);
    else
        espl__parallel_for(pool, l->rows, job_rows, &job);
}

void espl__lower_link(espl_session *s) {
    linear_step *last = NULL;
    uint64_t bytes = 0;
    for (int i = 0; i < s->step_count; i++) bytes += s->steps[i]->weight_bytes;
    for (int i = 0; i < s->step_count; i++) {
        if (s->steps[i]->run != espl__linear_run) continue;
        linear_step *l = (linear_step *)s->steps[i];
        l->far = bytes > STAY_BYTES;
        if (l->depthwise) continue;
        if (last && last->u8_in && l->u8_in)
            last->following = l; /* f32 waits for its products, not for weights */
        last = l;
    }
}

/* A matrix times so few rows that reading the weights is the work: all rows at once, blocks cut among
 * threads. */
static void job_gemv(void *arg, int64_t begin, int64_t end, int thread) {
    const linear_job *j = arg;
    const linear_step *l = j->l;
    const espl__kernels *k = j->s->kernels;
    const void *in = buffer_at(j->s, &l->in), *res = l->has_res ? buffer_at(j->s, &l->res) : NULL;
    void *out = buffer_at(j->s, &l->out);
    int rows = (int)l->last_pixels, b0 = (int)begin, b1 = (int)end;
    (void)thread;
    if (l->u8_in && l->u8_out)
        (l->p.bank ? k->bank_gemv_u8 : k->gemv_u8)(&l->p, in, out, res, rows, b0, b1);
    else if (l->u8_in)
        (l->p.bank ? k->bank_gemv_u8_f32 : k->gemv_u8_f32)(&l->p, in, out, NULL, rows, b0, b1);
    else if (l->p.bank)
        k->bank_gemv_f32(&l->p, in, out, res, rows, b0, b1);
    else
        for (int b = b0; b < b1; b += GEMV_BLOCKS) /* from memory once for all rows */
            k->gemv_f32(&l->p, in, out, res, rows, b, ESPL_MIN(b + GEMV_BLOCKS, b1));
}

static void run_gemv(const step *st, espl_session *s) {
    linear_job job = {(const linear_step *)st, s, 1};
    espl__parallel_for(pool_for(s, st->macs, false), job.l->blocks, job_gemv, &job);
}

static bool is_flat(const linear_step *l) {
    return l->rows_per_image == 0 && l->groups == 1 && l->p.segments == 1 && l->rows == 1;
}

/* A matrix times so few rows that reading the weights is the work. */
static bool is_gemv(const linear_step *l) {
    return is_flat(l) && l->last_pixels <= (l->p.bank || l->p.values ? BANK_ROWS : GEMV_ROWS);
}

enum { DENSE, BANKS, ROWS, WAYS };

static const char *kernel_name(const linear_step *l, int way, bool gemv) {
    /* [way][gemv][u8 -> u8, u8 -> f32, f32] */
    static const char *const names[WAYS][2][3] = {
        [DENSE] = {{"conv_u8", "conv_u8_f32", "conv_f32"}, {"gemv_u8", "gemv_u8_f32", "gemv_f32"}},
        [BANKS] = {{"bank_conv_u8", "bank_conv_u8_f32", NULL}, {"bank_gemv_u8", "bank_gemv_u8_f32", "bank_gemv_f32"}},
        [ROWS] = {{"csr_conv_u8", "csr_conv_u8_f32", "csr_conv_f32"}, {NULL}}};
    if (l->depthwise) return l->u8_in ? "dwconv_u8" : "dwconv_f32";
    return names[way][gemv][!l->u8_in ? 2 : !l->u8_out];
}

/* Blocks of one sweep, as many as keep their weights in the second-level cache, and rows of a call: an even
 * number, for kernels that take two narrow ones together. */
static void choose_sweep(linear_step *l, int64_t channels) {
    int64_t all = ESPL_MAX(pad16(channels) / ESPL__NR, 1), bytes = ESPL_MAX(l->w_group / all, 1);
    l->blocks = (int)all;
    l->group_blocks = (int)ESPL_MAX(GROUP_WEIGHT_BYTES / bytes / 4 * 4, 4);
    if (l->p.csr) l->group_blocks = l->blocks; /* the inputs of a strip are turned once for all channels */
    const bool copied = l->u8_in && l->rows_per_image && l->pixels < SHORT_ROW;
    if (l->w_group <= (copied ? COPIED_WEIGHT_BYTES : NEAR_WEIGHT_BYTES)) l->group_blocks = l->blocks;
    const int64_t least = l->pixels == TILE_PIXELS && !l->rows_per_image ? ROW_PIXELS / TILE_PIXELS : 1;
    l->band_rows = ESPL_MAX(BAND_BYTES / ESPL_MAX(l->in_row, 1) / 2 * 2, least);
    l->weights_share = l->w_group * l->groups / ESPL_MAX(l->rows * l->in_row, 1);
    l->p.width = l->rows_per_image ? (int32_t)l->pixels : 0;
    l->p.in_row = l->in_row;
    l->p.out_row = l->out_row;
    l->p.res_row = l->res_row;
}

/* Tiles of AMX take rows in one go; the others have weights in an order of their own, or look at every sum.
 */
static bool takes_parts(const linear_step *l, const espl__conv *p) {
    return !(l->depthwise || p->bank || p->csr || p->prepared || p->narrow) &&
           !(l->u8_in && espl__cpu_level() >= ESPL__CPU_AMX);
}

/* Sums of the weights of a block's segments before the s-th: of the groups that the first pixel of a row reads from the border,
 * that the last one does, and of all. */
typedef struct segment_sums {
    int64_t edge[2][ESPL__NR], all[ESPL__NR];
} segment_sums;

static void add_weights(const int8_t *w, int64_t groups, int64_t sums[ESPL__NR]) {
    int32_t lanes[ESPL__NR * 4] = {0}; /* a loop that compilers make vectors of */
    for (int64_t k = 0; k < groups; k++, w += ESPL__NR * 4)
        for (int i = 0; i < ESPL__NR * 4; i++) lanes[i] += w[i];
    for (int i = 0; i < ESPL__NR * 4; i++) sums[i / 4] += lanes[i];
}

static void sum_segments(const espl__conv *p, int64_t block, segment_sums *to) {
    const int8_t *w = (const int8_t *)p->w + block * espl__conv_w_block(p);
    to[0] = (segment_sums){0};
    for (int64_t s = 0; s < p->segments; s++, w += (int64_t)p->seg_k * ESPL__NR * 4) {
        to[s + 1] = to[s];
        add_weights(w, p->edge[0], to[s + 1].edge[0]);
        add_weights(w + (int64_t)(p->seg_k - p->edge[1]) * ESPL__NR * 4, p->edge[1], to[s + 1].edge[1]);
        add_weights(w, p->seg_k, to[s + 1].all);
    }
}

/* p.bias has -zero * (sum of all weights) in it; of those whose products are left out it is taken back. It wraps as sums do. */
static void bias_of_row(const linear_step *l, taps part, int64_t block, const segment_sums *sums, const border_bias *to) {
    const segment_sums *first = &sums[part.first], *end = &sums[part.end], *last = &sums[l->p.segments];
    for (int c = 0; c < ESPL__NR; c++) {
        const int64_t at = block * ESPL__NR + c, rows = last->all[c] - (end->all[c] - first->all[c]);
        const uint32_t own = (uint32_t)((const int32_t *)l->p.bias)[at], zero = (uint32_t)l->in.zero;
        ((int32_t *)to->inner)[at] = (int32_t)(own + zero * (uint32_t)rows);
        for (int e = 0; e < 2; e++)
            ((int32_t *)to->edge[e])[at] = (int32_t)(own + zero * (uint32_t)(rows + end->edge[e][c] - first->edge[e][c]));
    }
}

/* A bias for every row of the output; rows that meet the same part of the kernel share theirs. */
static espl_status make_border_biases(espl_session *s, linear_step *l, const espl__conv *dense, segment_sums *sums,
                                      espl_diag *diag) {
    const int64_t rows = l->rows_per_image, padded = l->channels_padded;
    border_bias *table = espl__arena_alloc(&s->arena, sizeof *table * (uint64_t)rows);
    if (!table) return espl__nomem(diag, sizeof *table * (uint64_t)rows);
    for (int64_t y = 0; y < rows; y++) {
        const taps part = taps_inside(l, y), above = y ? taps_inside(l, y - 1) : part;
        if (y && part.first == above.first && part.end == above.end) {
            table[y] = table[y - 1];
            continue;
        }
        int32_t *b = espl__plan_weights(s, 3 * sizeof *b * (uint64_t)padded);
        if (!b) return espl__nomem(diag, 3 * sizeof *b * (uint64_t)padded);
        table[y] = (border_bias){b, {b + padded, b + 2 * padded}};
    }
    for (int64_t block = 0; block < padded / ESPL__NR; block++) {
        sum_segments(dense, block, sums);
        for (int64_t y = 0; y < rows; y++)
            if (!y || table[y].inner != table[y - 1].inner) bias_of_row(l, taps_inside(l, y), block, sums, &table[y]);
    }
    l->border.bias = table;
    return ESPL_OK;
}

espl_status espl__linear_border(espl_session *s, bool row_segments, linear_step *l, espl_diag *diag) {
    if (!l->u8_in || l->in.zero == 0) return ESPL_OK;
    espl__conv dense = l->p; /* or the other way of the step */
    if (!takes_parts(l, &dense) && l->base.other) {
        const espl__conv *other = &((const linear_step *)l->base.other)->p;
        dense.w = other->w, dense.prepared = other->prepared, dense.bank = other->bank, dense.csr = other->csr;
    }
    if (!row_segments || l->groups != 1 || s->arithmetic.accumulator_bits || !takes_parts(l, &dense)) l->border.rows = 0;
    if (!l->border.rows) {
        memset(l->p.edge, 0, sizeof l->p.edge);
        return ESPL_OK;
    }
    const uint64_t bytes = sizeof(segment_sums) * (uint64_t)(l->p.segments + 1);
    segment_sums *sums = espl__alloc(s->ctx, bytes);
    if (!sums) return espl__nomem(diag, bytes);
    espl_status status = make_border_biases(s, l, &dense, sums, diag);
    espl__free(s->ctx, sums);
    return status;
}

static void finish_way(linear_step *l) {
    l->base.sparse = l->p.bank || l->p.csr;
    l->border.left_out = l->border.rows && takes_parts(l, &l->p);
    if (l->border.rows) l->border.segments = l->p.segments / l->border.rows;
    l->base.kernel = kernel_name(l, l->p.csr ? ROWS : l->p.bank ? BANKS : DENSE, is_gemv(l));
    if (!l->depthwise) choose_sweep(l, l->p.channels);
    l->base.run = is_gemv(l) ? run_gemv : espl__linear_run;
}

/* The other way of a step shares all but its weights. */
static void finish_other(const linear_step *l) {
    linear_step *o = (linear_step *)l->base.other, own = *o;
    *o = *l;
    o->base.other = NULL;
    o->base.memory = own.base.memory;
    o->base.weight_bytes = own.base.weight_bytes;
    o->p.w = own.p.w;
    o->p.prepared = own.p.prepared;
    o->p.sums = own.p.sums;
    o->p.bank = own.p.bank;
    o->p.csr = own.p.csr;
    o->p.values = own.p.values;
    o->w_group = own.w_group;
    o->scratch = own.scratch;
    finish_way(o);
}

espl_status espl__lower_arithmetic(espl_session *s, const espl_arithmetic *arithmetic, espl_diag *diag) {
    if (arithmetic->fixed && !arithmetic->accumulator_bits)
        return espl__fail(diag, ESPL_INVALID,
                          "arithmetic.fixed: accumulator_bits must say how wide accumulators are");
    if (!arithmetic->accumulator_bits) return ESPL_OK;
    if (arithmetic->accumulator_bits < 2 || arithmetic->accumulator_bits > 32)
        return espl__fail(diag, ESPL_INVALID, "arithmetic.accumulator_bits: %d is not 2 to 32",
                          arithmetic->accumulator_bits);
    espl__kernels *k = espl__arena_alloc(&s->arena, sizeof *k);
    if (!k) return espl__nomem(diag, sizeof *k);
    *k = espl__kernels_narrow();
    s->kernels = k;
    s->arithmetic = *arithmetic;
    return ESPL_OK;
}

/* Codes of a signed format are stored with 128 more than the chip has. */
static espl_status emulate(espl_session *s, const espl__node *n, linear_step *l, espl_diag *diag) {
    int32_t lo, hi;
    espl__narrow *narrow = espl__arena_alloc(&s->arena, sizeof *narrow);
    if (!narrow) return espl__nomem(diag, sizeof *narrow);
    espl__format_range(n->inputs[0]->quant.format, &lo, &hi);
    *narrow = (espl__narrow){.bits = s->arithmetic.accumulator_bits,
                             .shift = lo < 0 ? 128 : 0,
                             .saturate = s->arithmetic.saturate,
                             .fixed = s->arithmetic.fixed};
    l->p.narrow = l->d.narrow = narrow;
    return ESPL_OK;
}

espl_status espl__linear_finish(espl_session *s, const espl__node *n, const fusion *f, linear_step *l,
                                const view *final, espl_diag *diag) {
    espl__plan_use(s, l->in.buffer);
    espl__plan_use(s, l->out.buffer);
    if (l->has_res) espl__plan_use(s, l->res.buffer);
    if (l->scratch >= 0) espl__plan_use(s, l->scratch);
    l->base.format = l->u8_in ? "s8" : "f32";
    l->base.macs = n->op->macs(n);
    if (s->arithmetic.accumulator_bits && l->u8_in) {
        espl_status status = emulate(s, n, l, diag);
        if (status != ESPL_OK) return status;
    }
    finish_way(l);
    if (l->base.other) finish_other(l);
    return espl__plan_finish(s, n, f->out, &l->out, final, diag);
}

/* --- weights ------------------------------------------------------------------------------------- */

/* Weights of 16 bits stay so for few rows, which wait for them. */
static espl_status pack_16(espl_session *s, const weights *w, const espl__weight_order *o, linear_step *l,
                           espl_diag *diag) {
    l->w_group = pad16(o->channels) * o->stored * 2;
    l->base.weight_bytes = (uint64_t)(o->channels * o->real) * 2;
    uint16_t *packed = espl__plan_packed(s, (uint64_t)l->w_group);
    if (!packed) return espl__nomem(diag, (uint64_t)l->w_group);
    espl__pack_16(o, w->value->constant->data, packed);
    l->p.w = packed;
    return ESPL_OK;
}

static espl_status pack_dense(espl_session *s, weights *w, const espl__weight_order *o, int64_t groups,
                              linear_step *l, espl_diag *diag) {
    if (l->p.values && is_gemv(l)) return pack_16(s, w, o, l, diag);
    l->p.values = ESPL_F32;
    l->base.weight_bytes =
        (uint64_t)(groups * o->channels * o->segments * o->taps * o->real) * (w->integer ? 1 : 4);
    return espl__weights_pack(s, w, o, groups, !is_gemv(l), &l->p, &l->w_group, diag);
}

static espl_status pack_sparse(espl_session *s, const weights *w, const espl__weight_order *o,
                               sparse_plan *plan, linear_step *l, espl_diag *diag) {
    espl_status status = espl__sparse_pack(s, w, o, plan, &l->p, &l->base.weight_bytes, diag);
    l->w_group = (int64_t)l->base.weight_bytes;
    if (status != ESPL_OK || !l->p.csr) return status;
    l->scratch_bytes = ((int64_t)espl__csr_scratch_bytes(&l->p) + 63) / 64 * 64;
    l->scratch = espl__plan_buffer(s, BUFFER_WORK, (uint64_t)(l->scratch_bytes * s->threads));
    return l->scratch < 0 ? espl__nomem(diag, (uint64_t)l->scratch_bytes) : ESPL_OK;
}

static const char *choice_of(espl_session *s, const linear_step *l, const sparse_plan *plan) {
    char text[48];
    const espl__conv *p = &l->p;
    return espl__sparse_key(s, "linear %c%c %dx%d+%d>%d %dx%d %s %.0f%%", l->u8_in ? 'u' : 'f',
                            l->u8_out ? 'u' : 'f', (int)p->segments, (int)p->seg_k, (int)p->in_step,
                            (int)p->channels, (int)l->rows, (int)l->last_pixels,
                            espl__sparse_text(plan, text, sizeof text), 100 * plan->share);
}

typedef struct packing {
    weights *w;
    const espl__weight_order *order;
    sparse_plan *plan;
} packing;

static espl_status pack_way(espl_session *s, step *st, bool sparse, void *arg, espl_diag *diag) {
    packing *p = arg;
    linear_step *l = (linear_step *)st;
    if (!sparse) return pack_dense(s, p->w, p->order, 1, l, diag);
    espl_status status = p->w->sums ? ESPL_OK : espl__weights_sum(s, p->w, p->order, 1, diag);
    return status == ESPL_OK ? pack_sparse(s, p->w, p->order, p->plan, l, diag) : status;
}

espl_status espl__linear_pack(espl_session *s, weights *w, const espl__weight_order *o, int64_t groups,
                              linear_step *l, espl_diag *diag) {
    sparse_plan plan;
    packing p = {w, o, &plan};
    bool found = false, rows = is_flat(l) && l->last_pixels <= BANK_ROWS;
    l->scratch = -1;
    if (groups == 1) {
        espl_status status = espl__sparse_look(s, w, o, rows, &plan, &found, diag);
        if (status != ESPL_OK) return status;
    }
    if (!found) return pack_dense(s, w, o, groups, l, diag);
    const char *const kernels[] = {kernel_name(l, DENSE, rows), kernel_name(l, plan.rows.start ? ROWS : BANKS, rows)};
    return espl__sparse_lower(s, &l->base, sizeof *l, choice_of(s, l, &plan), plan.faster, kernels, pack_way,
                              &p, diag);
}

void espl__linear_flatten(linear_step *l, int64_t pixels, ptrdiff_t in_step, ptrdiff_t out_step,
                          ptrdiff_t res_step) {
    const int row = pixels < 2 * ROW_PIXELS ? ROW_PIXELS : TILE_PIXELS;
    l->rows = (pixels + row - 1) / row;
    l->pixels = row;
    l->last_pixels = pixels - (l->rows - 1) * row;
    l->rows_per_image = 0;
    l->in_row = row * in_step;
    l->out_row = row * out_step;
    l->res_row = row * res_step;
}
