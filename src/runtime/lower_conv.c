/* Convolution, depthwise convolution, and Gemm and MatMul with constant weights: packed once, one step each.
 */
#include "runtime/lower.h"
#include "runtime/winograd.h"
#include "passes/passes.h"

enum {
    ROW_PIXELS = 56,        /* a row of pixels that are in no rows: several tiles of every kernel */
    BAND_BYTES = 256 << 10, /* input of one call of a kernel: it stays in the second-level cache */
    BAND_LINES = 384,       /* lines of memory in half of the first-level cache */
    BLOCK_UNIT = 2,         /* blocks that kernels take together */
    FETCH = 3,              /* what reading from another core costs, where reading weights costs 1 */
    GROUP_WEIGHT_BYTES =
        256 << 10, /* weights of one sweep over the rows: they stay in the second-level cache */
    MAX_HALO = 512 /* pixels of padding on one side */
};

/* --- one linear layer ---------------------------------------------------------------------------------- */

typedef struct linear_step linear_step;
struct linear_step {
    step base;
    const linear_step *following; /* whose weights are read after these; NULL: not known */
    espl__conv p;
    espl__dwconv d;
    bool depthwise, has_res, u8_in, u8_out;
    view in, out, res;
    bool weights_larger;                 /* than the input, whose bytes count FETCH times */
    int64_t rows, pixels, last_pixels;   /* rows of pixels; the last one may be shorter (flattened only) */
    int64_t rows_per_image;              /* 0: flattened, every row directly follows the one before */
    int64_t band_rows;                   /* of one call of a kernel */
    int64_t in_row, in_image, in_origin; /* bytes */
    int64_t out_row, out_image, res_row, res_image;
    int groups, blocks, group_blocks; /* convolution groups; blocks of 16 channels; blocks of one sweep */
    int64_t in_group, out_group, w_group, channels_padded; /* steps from group to group */
};

typedef struct linear_job {
    const linear_step *l;
    espl_session *s;
    int threads;
} linear_job;

/* Threads share what is larger: each takes a part of the weights, or of the pixels. */
static int block_units(const linear_step *l) {
    return (l->blocks + BLOCK_UNIT - 1) / BLOCK_UNIT;
}
static bool share_blocks(const linear_step *l, int threads) {
    return !l->depthwise && block_units(l) >= threads &&
           (l->rows < 2 * (int64_t)threads || (block_units(l) >= 2 * threads && l->weights_larger));
}

/* The weights of block b; NULL if they do not lie in blocks. */
static const void *weights_of(const linear_step *l, int b) {
    if (l->depthwise || l->groups != 1 || l->p.prepared) return NULL;
    return (const char *)l->p.w + b * (l->w_group / l->blocks);
}

/* What a thread reads first of the layer behind this one. */
static const void *following_weights(const linear_job *j, int thread) {
    const linear_step *f = j->l->following;
    if (!f) return NULL;
    int first = share_blocks(f, j->threads) ? block_units(f) * thread / j->threads * BLOCK_UNIT : 0;
    return weights_of(f, first);
}

static void depthwise(const linear_step *l, const espl__kernels *k, const char *in, char *out,
                      const char *res, int pixels) {
    if (l->u8_in)
        k->dwconv_u8(&l->d, (const uint8_t *)in, (uint8_t *)out, (const uint8_t *)res, pixels, 0, l->blocks);
    else
        k->dwconv_f32(&l->d, (const float *)in, (float *)out, (const float *)res, pixels, 0, l->blocks);
}

/* `next`: the weights that are read afterwards. */
static void convolve(const linear_step *l, const espl__kernels *k, const char *in, char *out, const char *res,
                     int pixels, int b0, int b1, const void *next) {
    espl__conv p = l->p;
    p.next = next;
    for (int g = 0; g < l->groups; g++) {
        if (l->u8_in && l->u8_out)
            k->conv_u8(&p, (const uint8_t *)in, (uint8_t *)out, (const uint8_t *)res, pixels, b0, b1);
        else if (l->u8_in)
            k->conv_u8_f32(&p, (const uint8_t *)in, (float *)out, pixels, b0, b1);
        else
            k->conv_f32(&p, (const float *)in, (float *)out, (const float *)res, pixels, b0, b1);
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

/* Rows [r0, r1) of one image, blocks [b0, b1). */
static void band(const linear_job *j, int64_t r0, int64_t r1, int b0, int b1, const void *next) {
    const linear_step *l = j->l;
    int64_t image = l->rows_per_image ? r0 / l->rows_per_image : 0, y = r0 - image * l->rows_per_image;
    const char *in = buffer_at(j->s, &l->in) + image * l->in_image + y * l->in_row + l->in_origin;
    char *out = buffer_at(j->s, &l->out) + image * l->out_image + y * l->out_row;
    const char *res = l->has_res ? buffer_at(j->s, &l->res) + image * l->res_image + y * l->res_row : NULL;
    int64_t pixels = (r1 - r0 - 1) * l->pixels + (r1 == l->rows ? l->last_pixels : l->pixels);
    if (l->depthwise)
        depthwise(l, j->s->kernels, in, out, res, (int)pixels);
    else
        convolve(l, j->s->kernels, in, out, res, (int)pixels, b0, b1, next);
}

/* For each group of blocks, whose weights stay in the second-level cache, all rows, in bands that stay there
 * too. */
static void sweep(const linear_job *j, int64_t r0, int64_t r1, int b0, int b1, int thread) {
    const linear_step *l = j->l;
    for (int b = b0, end; b < b1; b = end) {
        end = ESPL_MIN(b + l->group_blocks, b1);
        const void *next = end < b1 ? weights_of(l, end) : following_weights(j, thread);
        for (int64_t r = r0, r_end; r < r1; r = r_end) {
            int64_t image_end = l->rows_per_image ? (r / l->rows_per_image + 1) * l->rows_per_image : r1;
            r_end = ESPL_MIN(ESPL_MIN(r + l->band_rows, image_end), r1);
            band(j, r, r_end, b, end, r_end == r1 ? next : NULL);
        }
    }
}

static void job_rows(void *arg, int64_t begin, int64_t end, int thread) {
    const linear_job *j = arg;
    sweep(j, begin, end, 0, j->l->blocks, thread);
}

static void job_blocks(void *arg, int64_t begin, int64_t end, int thread) {
    const linear_job *j = arg;
    sweep(j, 0, j->l->rows, (int)begin * BLOCK_UNIT, ESPL_MIN((int)end * BLOCK_UNIT, j->l->blocks), thread);
}

static void run_linear(const step *st, espl_session *s) {
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
    for (int i = 0; i < s->step_count; i++) {
        if (s->steps[i]->run != run_linear) continue;
        linear_step *l = (linear_step *)s->steps[i];
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
        k->gemv_u8(&l->p, in, out, res, rows, b0, b1);
    else if (l->u8_in)
        k->gemv_u8_f32(&l->p, in, out, NULL, rows, b0, b1);
    else
        k->gemv_f32(&l->p, in, out, res, rows, b0, b1);
}

static void run_gemv(const step *st, espl_session *s) {
    linear_job job = {(const linear_step *)st, s, 1};
    espl__parallel_for(pool_for(s, st->macs, false), job.l->blocks, job_gemv, &job);
}

static bool is_gemv(const linear_step *l) {
    return l->rows_per_image == 0 && l->groups == 1 && l->p.segments == 1 && l->rows == 1 &&
           l->last_pixels <= GEMV_ROWS;
}

static void use_gemv(linear_step *l) {
    l->base.run = run_gemv;
    l->base.kernel = l->u8_in ? (l->u8_out ? "gemv_u8" : "gemv_u8_f32") : "gemv_f32";
}

static espl_status finish(espl_session *s, const espl__node *n, const fusion *f, linear_step *l,
                          const view *final, espl_diag *diag) {
    espl__plan_use(s, l->in.buffer);
    espl__plan_use(s, l->out.buffer);
    if (l->has_res) espl__plan_use(s, l->res.buffer);
    l->base.format = l->u8_in ? "s8" : "f32";
    l->base.macs = n->op->macs(n);
    l->base.kernel = l->depthwise ? (l->u8_in ? "dwconv_u8" : "dwconv_f32")
                     : l->u8_in   ? (l->u8_out ? "conv_u8" : "conv_u8_f32")
                                  : "conv_f32";
    if (is_gemv(l)) use_gemv(l);
    return espl__plan_finish(s, n, f->out, &l->out, final, diag);
}

/* Blocks of one sweep, as many as keep their weights in the second-level cache, and rows of a call: an even
 * number, for kernels that take two narrow ones together. */
static void choose_sweep(linear_step *l, int64_t channels) {
    int64_t all = ESPL_MAX(pad16(channels) / ESPL__NR, 1), bytes = ESPL_MAX(l->w_group / all, 1);
    l->blocks = (int)all;
    l->group_blocks = (int)ESPL_MAX(GROUP_WEIGHT_BYTES / bytes / 4 * 4, 4);
    l->band_rows = ESPL_MAX(BAND_BYTES / ESPL_MAX(l->in_row, 1) / 2 * 2, 1);
    l->weights_larger = l->w_group * l->groups > FETCH * l->rows * l->in_row;
    l->p.width = l->rows_per_image ? (int32_t)l->pixels : 0;
    l->p.in_row = l->in_row;
    l->p.out_row = l->out_row;
    l->p.res_row = l->res_row;
}

/* Pixels that follow each other without gaps in all views: one long row, cut so that threads can share it. */
static void flatten(linear_step *l, int64_t pixels, ptrdiff_t in_step, ptrdiff_t out_step,
                    ptrdiff_t res_step) {
    l->rows = (pixels + ROW_PIXELS - 1) / ROW_PIXELS;
    l->pixels = ROW_PIXELS;
    l->last_pixels = pixels - (l->rows - 1) * ROW_PIXELS;
    l->rows_per_image = 0;
    l->in_row = ROW_PIXELS * in_step;
    l->out_row = ROW_PIXELS * out_step;
    l->res_row = ROW_PIXELS * res_step;
}

static bool gapless(const view *v) {
    return v->stride[2] == v->dim[3] * v->stride[3] &&
           (v->dim[0] == 1 || v->stride[0] == v->dim[2] * v->stride[2]);
}

/* --- Conv --------------------------------------------------------------------------------------------------
 */

static int64_t beyond(const espl__window *g, int d) {
    int64_t last = (g->out[d] - 1) * g->stride[d] + (g->kernel[d] - 1) * g->dilation[d] - g->begin[d];
    return ESPL_MAX(last - g->in[d] + 1, 0);
}

/* Borders that are better skipped than stored, and rows too far apart for the kernels' 32-bit offsets, are
 * left to the reference. */
static bool near_enough(const espl__window *g, const espl_shape *x) {
    for (int d = 0; d < 2; d++)
        if (g->begin[d] < 0 || g->begin[d] > MAX_HALO || beyond(g, d) > MAX_HALO) return false;
    double pixel = 4.0 * (double)(x->dim[1] + 3), row = pixel * (double)(x->dim[3] + 2 * MAX_HALO);
    return (double)(g->kernel[0] - 1) * (double)g->dilation[0] * row +
               (double)(g->kernel[1] - 1) * (double)g->dilation[1] * pixel <
           INT32_MAX;
}

static bool conv_geometry(const espl__node *n, espl__window *g) {
    const espl__value *x = n->inputs[0], *w = n->inputs[1];
    return x->shape.rank == 4 && w->constant && w->shape.rank == 4 &&
           espl__window_resolve(n, &x->shape, &w->shape, g, NULL) == ESPL_OK && near_enough(g, &x->shape);
}

void espl__lower_conv_halo(const espl__node *n, int halo[4]) {
    espl__window g;
    if (!conv_geometry(n, &g)) return;
    int own[4] = {(int)g.begin[0], (int)g.begin[1], (int)beyond(&g, 0), (int)beyond(&g, 1)};
    for (int i = 0; i < 4; i++) halo[i] = ESPL_MAX(halo[i], own[i]);
}

static espl_status depthwise_taps(espl_session *s, const espl__node *n, const espl__window *g, const void *w,
                                  linear_step *l, espl_diag *diag) {
    int64_t c = n->inputs[1]->shape.dim[0], taps = g->kernel[0] * g->kernel[1];
    int32_t *off = espl__arena_alloc(&s->arena, sizeof *off * (uint64_t)taps);
    if (!off) return espl__nomem(diag, sizeof *off * (uint64_t)taps);
    for (int64_t t = 0; t < taps; t++)
        off[t] = (int32_t)(t / g->kernel[1] * g->dilation[0] * l->in.stride[2] +
                           t % g->kernel[1] * g->dilation[1] * l->in.stride[3]);
    l->d = (espl__dwconv){.taps = (int32_t)taps,
                          .tap_off = off,
                          .in_step = l->p.in_step,
                          .out_step = l->p.out_step,
                          .res_step = l->p.res_step,
                          .width = l->rows_per_image ? (int32_t)l->pixels : 0,
                          .in_row = l->in_row,
                          .out_row = l->out_row,
                          .res_row = l->res_row,
                          .w = w,
                          .bias = l->p.bias,
                          .channels = (int32_t)c,
                          .q = l->p.q,
                          .flo = l->p.flo,
                          .fhi = l->p.fhi};
    l->blocks = (int)(pad16(c) / ESPL__NR);
    l->group_blocks = l->blocks;
    /* Kernels do all rows of a few channels before the next: the lines that these have in a band fit the
     * first-level cache. */
    int64_t input_rows = ESPL_MAX(BAND_LINES * l->in.stride[3] / ESPL_MAX(l->in.stride[2], 1), 1);
    l->band_rows = ESPL_MAX((input_rows - g->kernel[0] + 1) / g->stride[0], 1);
    return ESPL_OK;
}

static espl_status conv_segments(espl_session *s, const espl__window *g, bool by_row, int64_t k,
                                 linear_step *l, espl_diag *diag) {
    int64_t count = by_row ? g->kernel[0] : g->kernel[0] * g->kernel[1];
    int32_t *off = espl__arena_alloc(&s->arena, sizeof *off * (uint64_t)count);
    if (!off) return espl__nomem(diag, sizeof *off * (uint64_t)count);
    for (int64_t i = 0; i < count; i++) {
        int64_t ky = by_row ? i : i / g->kernel[1], kx = by_row ? 0 : i % g->kernel[1];
        off[i] = (int32_t)(ky * g->dilation[0] * l->in.stride[2] + kx * g->dilation[1] * l->in.stride[3]);
    }
    l->p.segments = (int32_t)count;
    l->p.seg_off = off;
    l->p.seg_k = (int32_t)(l->u8_in ? k / 4 : k);
    return ESPL_OK;
}

static void conv_rows(const espl__window *g, linear_step *l) {
    const view *in = &l->in, *out = &l->out;
    l->p.in_step = g->stride[1] * in->stride[3];
    l->p.out_step = out->stride[3];
    l->p.res_step = l->has_res ? l->res.stride[3] : 0;
    l->in_origin = -(g->begin[0] * in->stride[2] + g->begin[1] * in->stride[3]);
    bool point = g->kernel[0] == 1 && g->kernel[1] == 1 && g->stride[0] == 1 && g->stride[1] == 1 &&
                 g->begin[0] + g->begin[1] + g->end[0] + g->end[1] == 0;
    if (point && gapless(in) && gapless(out) && (!l->has_res || gapless(&l->res))) {
        flatten(l, in->dim[0] * in->dim[2] * in->dim[3], l->p.in_step, l->p.out_step, l->p.res_step);
        return;
    }
    l->rows_per_image = out->dim[2];
    l->rows = out->dim[0] * out->dim[2];
    l->pixels = l->last_pixels = out->dim[3];
    l->in_row = g->stride[0] * in->stride[2];
    l->in_image = in->stride[0];
    l->out_row = out->stride[2];
    l->out_image = out->stride[0];
    l->res_row = l->has_res ? l->res.stride[2] : 0;
    l->res_image = l->has_res ? l->res.stride[0] : 0;
}

espl_status espl__lower_conv(espl_session *s, espl__node *n, bool *taken, espl_diag *diag) {
    espl_status status = ESPL_OK;
    espl__window g;
    weights w = {0};
    fusion f;
    view in, final;
    if (!conv_geometry(n, &g)) return ESPL_OK;
    const espl__value *x = n->inputs[0], *wv = n->inputs[1];
    const espl__value *bias = n->input_count > 2 ? n->inputs[2] : NULL;
    if (bias && !bias->constant) return ESPL_OK;
    int64_t groups = espl__attr_int(n, "group", 1), oc = wv->shape.dim[0], cg = wv->shape.dim[1];
    int64_t taps = g.kernel[0] * g.kernel[1];
    bool depthwise = groups > 1 && cg == 1 && oc == groups;
    bool integer = espl__plan_store_type(x) == ESPL_U8 && espl__weights_integer(wv, 0, &w) &&
                   accumulator_fits(cg * taps) && (groups == 1 || depthwise || cg % 4 == 0) &&
                   (!depthwise || espl__plan_store_type(n->outputs[0]) == ESPL_U8 || !s->observer);
    espl__plan_fuse(s, n, integer ? FUSE_INTEGER : FUSE_FLOAT, &f);
    if (depthwise && espl__plan_store_type(f.out) != ESPL_U8) integer = false; /* the kernel stores u8 only */
    *taken = true;
    ESPL_TRY(espl__plan_require(s, n, x, integer ? ESPL_U8 : ESPL_F32, WANT_NHWC, 1, &in, diag));
    ESPL_TRY(espl__plan_fill_halo(s, n, x, &in, diag));
    view res = {0}, out;
    if (f.residual)
        ESPL_TRY(
            espl__plan_require(s, n, f.residual, integer ? ESPL_U8 : ESPL_F32, WANT_NHWC, 1, &res, diag));
    ESPL_TRY(espl__plan_store(s, f.out, integer, &out, &final, diag));
    if (!integer && espl__winograd_pays(&g, groups, cg, oc)) {
        status = espl__lower_winograd(s, n, &g, &f, &in, &res, &out, &final, diag);
        goto done;
    }
    linear_step *l = espl__plan_step(s, sizeof *l, n, "conv", run_linear);
    if (!l) return espl__nomem(diag, sizeof *l);
    l->depthwise = depthwise;
    l->has_res = f.residual != NULL;
    l->u8_in = integer;
    l->u8_out = integer && out.type == ESPL_U8;
    l->in = in;
    l->out = out;
    l->res = res;
    conv_rows(&g, l);
    if (!integer) ESPL_TRY(espl__weights_float(s, wv, &w, diag));
    int64_t channels = depthwise ? oc : oc / groups;
    const void *taps_packed = NULL;
    l->groups = depthwise ? 1 : (int)groups;
    if (depthwise) {
        if (!(taps_packed = espl__weights_depthwise(s, &w, oc, taps)))
            ESPL_TRY(espl__nomem(diag, 4 * (uint64_t)(oc * taps)));
    } else {
        bool by_row = groups == 1 && g.dilation[1] == 1;
        espl__weight_order order = {.channels = channels,
                                    .segments = by_row ? g.kernel[0] : taps,
                                    .taps = by_row ? g.kernel[1] : 1,
                                    .stored = groups == 1 ? in.cs : cg,
                                    .real = cg,
                                    .by_channel = cg * taps,
                                    .by_segment = by_row ? g.kernel[1] : 1,
                                    .by_tap = 1,
                                    .by_input = taps};
        l->p.channels = (int32_t)channels;
        ESPL_TRY(conv_segments(s, &g, by_row, order.taps * order.stored, l, diag));
        ESPL_TRY(espl__weights_pack(s, &w, &order, groups, !is_gemv(l), &l->p, &l->w_group, diag));
        l->in_group = cg * in.stride[1];
        l->out_group = channels * out.stride[1];
        l->channels_padded = pad16(channels);
        choose_sweep(l, channels);
    }
    if (integer)
        ESPL_TRY(espl__weights_scale(s, &w, &in, &f, l->groups, channels, l->u8_out, &l->res, &l->p, diag));
    else
        ESPL_TRY(espl__weights_bias(s, &f, l->groups, channels, &l->p, diag));
    if (depthwise) ESPL_TRY(depthwise_taps(s, n, &g, taps_packed, l, diag));
    l->base.weight_bytes = (uint64_t)(oc * cg * taps) * (integer ? 1 : 4);
    ESPL_TRY(finish(s, n, &f, l, &final, diag));
done:
    espl__weights_done(s, &w);
    return status;
}

/* --- Gemm and MatMul with constant weights
 * --------------------------------------------------------------------- */

typedef struct matrix_order {
    int64_t stride_c, stride_k, k; /* element (channel, i) at channel * stride_c + i * stride_k */
} matrix_order;

/* One element a channel, along the last dimension (a column [C, 1] would be one a row). */
static bool per_channel(const espl_shape *shape, int64_t channels) {
    return espl_shape_count(shape) == channels && shape->rank >= 1 && shape->dim[shape->rank - 1] == channels;
}

/* x [..., k] times the matrix of `order`, [channels] outputs. */
static espl_status lower_matrix(espl_session *s, espl__node *n, const matrix_order *order, int axis,
                                int64_t channels, bool *taken, espl_diag *diag) {
    espl_status status = ESPL_OK;
    static const int32_t one_segment[1];
    weights w = {0};
    fusion f;
    view in, out, final, res = {0};
    const espl__value *x = n->inputs[0], *wv = n->inputs[1];
    const espl__value *bias = n->input_count > 2 ? n->inputs[2] : NULL;
    if (x->shape.rank < 1 || (bias && !bias->constant)) return ESPL_OK;
    if (bias && !per_channel(&bias->shape, channels)) return ESPL_OK;
    bool integer = espl__plan_store_type(x) == ESPL_U8 && espl__weights_integer(wv, axis, &w) &&
                   accumulator_fits(order->k);
    espl__plan_fuse(s, n, integer ? FUSE_INTEGER : FUSE_FLOAT, &f);
    s->spatial[f.out->id] = 0; /* matrices are stored by rows, whatever their neighbours would like */
    *taken = true;
    espl_dtype type = integer ? ESPL_U8 : ESPL_F32;
    ESPL_TRY(espl__plan_require(s, n, x, type, WANT_ROWS, integer ? 4 : 1, &in, diag));
    if (f.residual) ESPL_TRY(espl__plan_require(s, n, f.residual, type, WANT_ROWS, 1, &res, diag));
    ESPL_TRY(espl__plan_store(s, f.out, integer, &out, &final, diag));
    linear_step *l = espl__plan_step(s, sizeof *l, n, "gemm", run_linear);
    if (!l) return espl__nomem(diag, sizeof *l);
    l->has_res = f.residual != NULL;
    l->u8_in = integer;
    l->u8_out = integer && out.type == ESPL_U8;
    l->in = in;
    l->out = out;
    l->res = res;
    l->groups = 1;
    if (!integer) ESPL_TRY(espl__weights_float(s, wv, &w, diag));
    int64_t k = integer ? (order->k + 3) / 4 * 4 : order->k;
    espl__weight_order whole = {.channels = channels,
                                .segments = 1,
                                .taps = 1,
                                .stored = k,
                                .real = order->k,
                                .by_channel = order->stride_c,
                                .by_input = order->stride_k};
    l->p.channels = (int32_t)channels;
    l->p.segments = 1;
    l->p.seg_off = one_segment;
    l->p.seg_k = (int32_t)(integer ? k / 4 : k);
    l->p.in_step = row_stride(&in);
    l->p.out_step = row_stride(&out);
    l->p.res_step = l->has_res ? row_stride(&res) : 0;
    flatten(l, espl_shape_count(&x->shape) / ESPL_MAX(order->k, 1), l->p.in_step, l->p.out_step,
            l->p.res_step);
    ESPL_TRY(espl__weights_pack(s, &w, &whole, 1, !is_gemv(l), &l->p, &l->w_group, diag));
    if (integer)
        ESPL_TRY(espl__weights_scale(s, &w, &in, &f, 1, channels, l->u8_out, &l->res, &l->p, diag));
    else
        ESPL_TRY(espl__weights_bias(s, &f, 1, channels, &l->p, diag));
    l->base.weight_bytes = (uint64_t)(channels * order->k) * (integer ? 1 : 4);
    choose_sweep(l, channels);
    ESPL_TRY(finish(s, n, &f, l, &final, diag));
done:
    espl__weights_done(s, &w);
    return status;
}

espl_status espl__lower_gemm(espl_session *s, espl__node *n, bool *taken, espl_diag *diag) {
    const espl__value *w = n->inputs[1];
    if (!w->constant || espl__attr_int(n, "transA", 0) || espl__attr_float(n, "alpha", 1) != 1 ||
        espl__attr_float(n, "beta", 1) != 1 || espl_shape_count(&n->inputs[0]->shape) == 0)
        return ESPL_OK;
    bool transposed = espl__attr_int(n, "transB", 0) != 0;
    int64_t channels = w->shape.dim[transposed ? 0 : 1], k = w->shape.dim[transposed ? 1 : 0];
    matrix_order order = {transposed ? k : 1, transposed ? 1 : channels, k};
    return lower_matrix(s, n, &order, transposed ? 0 : 1, channels, taken, diag);
}

espl_status espl__lower_matmul(espl_session *s, espl__node *n, bool *taken, espl_diag *diag) {
    const espl__value *w = n->inputs[1];
    if (!w->constant) return espl__lower_matmul_dynamic(s, n, taken, diag);
    if (w->shape.rank != 2 || espl_shape_count(&n->inputs[0]->shape) == 0) return ESPL_OK;
    if (espl__attr_int(n, "espl_dynamic", 0)) {
        espl_status status = espl__lower_matmul_rounded(s, n, taken, diag);
        if (status != ESPL_OK || *taken) return status;
    }
    matrix_order order = {1, w->shape.dim[1], w->shape.dim[0]};
    return lower_matrix(s, n, &order, 1, w->shape.dim[1], taken, diag);
}
