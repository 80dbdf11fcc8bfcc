/* MatMul of f32 rows and s8 weights on integers: the rows are rounded to u8 by the range they have in this
 * run, as DynamicQuantizeLinear does (src/ops/quantize.c has the formula). Bias and multipliers are planned
 * for scale 1 and zero point 1, and multiplied with those that were found. */
#include "runtime/sparse.h"

#include <math.h>

enum { LANES = 16 };

typedef struct rounded_step {
    step base;
    espl__conv p;
    view in, out;
    int64_t rows, k;
    int work; /* buffer; bytes from its start, codes first: */
    int64_t bias_at, mult_at;
} rounded_step;

typedef struct rounded_job {
    const espl_session *s;
    const espl__conv *p;
    const void *codes;
    float *out;
    int rows;
} rounded_job;

/* The range of x, widened to hold 0; NaN counts for nothing. Lanes, so that there are sixteen chains and not
 * one. */
static void range_of(const float *x, int64_t n, float *lo, float *hi) {
    float low[LANES] = {0}, high[LANES] = {0};
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int j = 0; j < LANES; j++) {
            low[j] = x[i + j] < low[j] ? x[i + j] : low[j];
            high[j] = x[i + j] > high[j] ? x[i + j] : high[j];
        }
    for (int j = 0; i < n; i++, j++) {
        low[j] = x[i] < low[j] ? x[i] : low[j];
        high[j] = x[i] > high[j] ? x[i] : high[j];
    }
    *lo = *hi = 0;
    for (int j = 0; j < LANES; j++) {
        *lo = low[j] < *lo ? low[j] : *lo;
        *hi = high[j] > *hi ? high[j] : *hi;
    }
}

static void run_blocks(void *arg, int64_t begin, int64_t end, int thread) {
    const rounded_job *j = arg;
    (void)thread;
    if (j->p->bank && j->rows <= BANK_ROWS)
        j->s->kernels->bank_gemv_u8_f32(j->p, j->codes, j->out, NULL, j->rows, (int)begin, (int)end);
    else if (j->p->bank)
        j->s->kernels->bank_conv_u8_f32(j->p, j->codes, j->out, j->rows, (int)begin, (int)end);
    else if (j->rows <= GEMV_ROWS)
        j->s->kernels->gemv_u8_f32(j->p, j->codes, j->out, NULL, j->rows, (int)begin, (int)end);
    else
        j->s->kernels->conv_u8_f32(j->p, j->codes, j->out, j->rows, (int)begin, (int)end);
}

static void run_rounded(const step *st, espl_session *s) {
    const rounded_step *t = (const rounded_step *)st;
    char *work = s->buffers[t->work].data;
    const float *x = (const float *)(void *)buffer_at(s, &t->in);
    int32_t *bias = (int32_t *)(void *)(work + t->bias_at);
    float *mult = (float *)(void *)(work + t->mult_at), lo, hi;
    espl__conv p = t->p;
    range_of(x, t->rows * t->k, &lo, &hi);
    float scale = hi - lo > 1e-30f && hi - lo < INFINITY ? (hi - lo) / 255 : 1;
    int32_t zero = (int32_t)fminf(fmaxf(rintf(-lo / scale), 0), 255);
    for (int64_t r = 0; r < t->rows; r++)
        s->kernels->quantize(1 / scale, zero, 0, 255, x + r * t->k, (uint8_t *)work + r * p.in_step, t->k);
    for (int64_t c = 0; c < pad16(p.channels); c++) {
        bias[c] = zero * ((const int32_t *)p.bias)[c];
        mult[c] = scale * p.q.mult[c];
    }
    p.bias = bias;
    p.q.mult = mult;
    rounded_job job = {s, &p, work, (float *)(void *)buffer_at(s, &t->out), (int)t->rows};
    espl__parallel_for(pool_for(s, st->macs, t->rows > GEMV_ROWS), pad16(p.channels) / ESPL__NR, run_blocks,
                       &job);
}

typedef struct packing {
    weights *w;
    const espl__weight_order *order;
    sparse_plan plan;
} packing;

static espl_status pack_way(espl_session *s, step *st, bool sparse, void *arg, espl_diag *diag) {
    packing *k = arg;
    rounded_step *t = (rounded_step *)st;
    int64_t unused;
    t->base.weight_bytes = (uint64_t)(k->order->channels * k->order->real);
    t->base.sparse = sparse;
    t->base.kernel = sparse ? "bank_matmul_rounded" : "matmul_rounded";
    t->base.core = sparse ? "bank_gemv_u8_f32" : "conv_u8_f32";
    if (!sparse) return espl__weights_pack(s, k->w, k->order, 1, false, &t->p, &unused, diag);
    espl_status status = k->w->sums ? ESPL_OK : espl__weights_sum(s, k->w, k->order, 1, diag);
    return status == ESPL_OK
               ? espl__sparse_pack(s, k->w, k->order, &k->plan, &t->p, &t->base.weight_bytes, diag)
               : status;
}

static espl_status pack(espl_session *s, weights *w, const espl__weight_order *o, rounded_step *t,
                        espl_diag *diag) {
    static const char *const kernels[] = {"matmul_rounded", "bank_matmul_rounded"};
    packing k = {.w = w, .order = o};
    bool found;
    char text[48];
    espl_status status = espl__sparse_look(s, w, o, t->rows <= BANK_ROWS, &k.plan, &found, diag);
    if (status != ESPL_OK || !found)
        return status != ESPL_OK ? status : pack_way(s, &t->base, false, &k, diag);
    const char *key = espl__sparse_key(s, "rounded %dx%d>%d %s", (int)t->rows, (int)t->k, (int)o->channels,
                                       espl__sparse_text(&k.plan, text, sizeof text));
    return espl__sparse_lower(s, &t->base, sizeof *t, key, k.plan.faster, kernels, pack_way, &k, diag);
}

/* The other way of a step shares all but its weights. */
static void finish_other(const rounded_step *t) {
    rounded_step *o = (rounded_step *)t->base.other, own = *o;
    *o = *t;
    o->base.other = NULL;
    o->base.memory = own.base.memory;
    o->base.weight_bytes = own.base.weight_bytes;
    o->base.sparse = false;
    o->base.kernel = own.base.kernel;
    o->base.core = own.base.core;
    o->p.w = own.p.w;
    o->p.bank = NULL;
}

espl_status espl__lower_matmul_rounded(espl_session *s, espl__node *n, bool *taken, espl_diag *diag) {
    static const int32_t one_segment[1];
    static const view unit = {.scale = 1, .zero = 1};
    espl_status status = ESPL_OK;
    weights w = {0};
    fusion f;
    view in, out, final;
    int64_t k = n->inputs[1]->shape.dim[0], channels = n->inputs[1]->shape.dim[1];
    int64_t rows = espl_shape_count(&n->inputs[0]->shape) / ESPL_MAX(k, 1), row = (k + 3) / 4 * 4;
    if (channels == 0 || espl__plan_store_type(n->inputs[0]) != ESPL_F32 || !accumulator_fits(k) ||
        rows > INT32_MAX / 64)
        return ESPL_OK;
    if (!espl__weights_integer(n->inputs[1], 1, &w)) return ESPL_OK;
    espl__plan_fuse(s, n, FUSE_CLAMP, &f);
    s->spatial[f.out->id] = 0;
    *taken = true;
    ESPL_TRY(espl__plan_require(s, n, n->inputs[0], ESPL_F32, WANT_ROWS, 1, &in, diag));
    ESPL_TRY(espl__plan_store(s, f.out, false, &out, &final, diag));
    rounded_step *t = espl__plan_step(s, sizeof *t, n, "matmul_rounded", run_rounded);
    if (!t) ESPL_TRY(espl__nomem(diag, sizeof *t));
    t->in = in;
    t->out = out;
    t->rows = rows;
    t->k = k;
    espl__weight_order order = {channels, 1, 1, row, k, 1, 0, 0, channels};
    t->p.segments = 1;
    t->p.seg_off = one_segment;
    ESPL_TRY(pack(s, &w, &order, t, diag));
    ESPL_TRY(espl__weights_scale(s, &w, &unit, &f, 1, channels, false, NULL, &t->p, diag));
    t->p.seg_k = (int32_t)(row / 4);
    t->p.channels = (int32_t)channels;
    t->p.in_step = row;
    t->p.out_step = row_stride(&out);
    t->bias_at = (rows * row + 63) / 64 * 64;
    t->mult_at = t->bias_at + 4 * pad16(channels);
    t->work = espl__plan_buffer(s, BUFFER_WORK, (uint64_t)(t->mult_at + 4 * pad16(channels)));
    if (t->work < 0) ESPL_TRY(espl__nomem(diag, (uint64_t)t->mult_at));
    t->base.format = "s8";
    t->base.macs = n->op->macs(n);
    if (t->base.other) finish_other(t);
    espl__plan_use(s, in.buffer);
    espl__plan_use(s, out.buffer);
    espl__plan_use(s, t->work);
    ESPL_TRY(espl__plan_finish(s, n, f.out, &out, &final, diag));
done:
    espl__weights_done(s, &w);
    return status;
}
