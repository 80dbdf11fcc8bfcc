/* Weight-only quantization: Gemm and MatMul of f32 rows and integer weights. Few rows wait for the weights to
 * come from memory, so these stay in their 2, 4 or 8 bits (wonly_f32 in kernels/kernels.h) and are not made
 * f32. With many rows the products count, and f32 ones take no more time than two of bytes. */
#include "runtime/wonly.h"

enum {
    WONLY_ROWS = 16
}; /* the most that f32 rows may be, whatever the instruction set: the bytes must be the same */

typedef struct wonly_step {
    step base;
    espl__conv p;
    espl__wonly k;
    view in, out, res;
    bool has_res;
    int64_t rows;
    int rounded; /* buffer */
} wonly_step;

typedef struct wonly_job {
    const wonly_step *t;
    const espl_session *s;
    char *rounded;
} wonly_job;

static void round_rows(void *arg, int64_t begin, int64_t end, int thread) {
    const wonly_job *j = arg;
    const wonly_step *t = j->t;
    const ptrdiff_t bytes = row_stride(&t->in);
    (void)thread;
    j->s->kernels->wonly_round(&t->k, (const float *)(const void *)(buffer_at(j->s, &t->in) + begin * bytes),
                               bytes, j->rounded + begin * t->p.in_step, (int)(end - begin));
}

static void run_blocks(void *arg, int64_t begin, int64_t end, int thread) {
    const wonly_job *j = arg;
    const wonly_step *t = j->t;
    (void)thread;
    j->s->kernels->wonly_f32(&t->p, j->rounded, (float *)(void *)buffer_at(j->s, &t->out),
                             t->has_res ? (const float *)(const void *)buffer_at(j->s, &t->res) : NULL,
                             (int)t->rows, (int)begin, (int)end);
}

static void run_wonly(const step *st, espl_session *s) {
    const wonly_step *t = (const wonly_step *)st;
    wonly_job job = {t, s, s->buffers[t->rounded].data};
    espl__pool *pool = pool_for(s, st->macs, false);
    espl__parallel_for(pool_for(s, t->rows * t->k.k * 8, false), t->rows, round_rows, &job);
    espl__parallel_for(pool, pad16(t->p.channels) / ESPL__NR, run_blocks, &job);
}

/* --- the weights ------------------------------------------------------------------------------------- */

/* Codes around 0 with scales along the channels, and groups of whole units along the inputs. */
static bool are_codes(const espl__value *v, const wonly_matrix *m) {
    const espl__quant *q = &v->quant;
    const bool u8 = v->constant && v->constant->dtype == ESPL_U8;
    if (!v->constant || !espl__is_quantized(v) || !espl__format_is_code8(q->format) || q->offset)
        return false;
    if ((!u8 && v->constant->dtype != ESPL_S8) || !espl__zero_points_are(q, u8 ? 128 : 0)) return false;
    if (q->axis >= 0 && q->axis != m->axis) return false;
    if (q->axis < 0 && q->group == 0 && q->count != 1) return false;
    return q->group == 0 || (q->group_axis == m->inner && (q->group % ESPL__UNIT == 0 || q->group >= m->k));
}

/* The fewest bits that hold every code; 0 if three of four or more are 0, since the kernels that leave those
 * out read less.
 */
static int bits_of(const espl__value *v) {
    const uint8_t flip = v->constant->dtype == ESPL_U8 ? 0x80 : 0;
    const uint8_t *codes = v->constant->data;
    const int64_t count = espl_shape_count(&v->shape);
    int64_t zeros = 0;
    int8_t least = 0, most = 0;
    for (int64_t i = 0; i < count; i++) {
        const int8_t code = (int8_t)(codes[i] ^ flip);
        least = code < least ? code : least;
        most = code > most ? code : most;
        zeros += code == 0;
    }
    if (zeros >= count - count / 4) return 0;
    return least >= -2 && most < 2 ? 2 : least >= -8 && most < 8 ? 4 : 8;
}

static espl_status pack(espl_session *s, const espl__value *v, const wonly_matrix *m, int bits, int planes,
                        wonly_step *t, espl_diag *diag) {
    const espl__quant *q = &v->quant;
    const uint8_t flip = v->constant->dtype == ESPL_U8 ? 0x80 : 0;
    const int64_t group = q->group > 0 ? q->group : m->k, groups = (m->k + group - 1) / group;
    const espl__scales scales = {q->scale, q->axis >= 0 ? groups : 0, q->group > 0 ? 1 : 0};
    espl__weight_order order = {.channels = m->channels,
                                .segments = 1,
                                .taps = 1,
                                .stored = m->k,
                                .real = m->k,
                                .by_channel = m->by_channel,
                                .by_input = m->by_input};
    const int64_t blocks = pad16(m->channels) / ESPL__NR;
    t->k = espl__wonly_of(m->channels, m->k, group, bits, planes, &scales);
    const uint64_t bytes = (uint64_t)(blocks * t->k.block);
    void *packed = espl__plan_packed(s, bytes);
    if (!packed) return espl__nomem(diag, bytes);
    espl__wonly_pack(&order, v->constant->data, flip, &scales, &t->k, 0, blocks, packed);
    espl__graph_drop(s->graph, v->constant->data, espl__tensor_bytes(v->constant));
    t->p.w = packed;
    t->p.wonly = &t->k;
    t->p.channels = (int32_t)m->channels;
    t->p.in_step = t->k.units * espl__wonly_record(&t->k);
    t->base.weight_bytes = bytes;
    return ESPL_OK;
}

static bool is_for_us(const espl__node *n, const wonly_matrix *m, int64_t rows, bool dynamic) {
    const espl__value *w = n->inputs[1];
    if (!are_codes(w, m) || m->k < 1 || m->k > INT32_MAX / 64 || rows > INT32_MAX / 64) return false;
    return dynamic || rows <= WONLY_ROWS;
}

espl_status espl__lower_wonly(espl_session *s, espl__node *n, const wonly_matrix *m, bool dynamic,
                              bool *taken, espl_diag *diag) {
    fusion f;
    view final;
    espl_status status = ESPL_OK;
    const int64_t rows = espl_shape_count(&n->inputs[0]->shape) / ESPL_MAX(m->k, 1);
    if (!is_for_us(n, m, rows, dynamic)) return ESPL_OK;
    const int bits = bits_of(n->inputs[1]);
    if (bits == 0) return ESPL_OK;
    espl__plan_fuse(s, n, FUSE_FLOAT, &f);
    s->spatial[f.out->id] = 0;
    *taken = true;
    view in, out, res = {0};
    ESPL_TRY(espl__plan_require(s, n, n->inputs[0], ESPL_F32, WANT_ROWS, 1, &in, diag));
    if (f.residual) ESPL_TRY(espl__plan_require(s, n, f.residual, ESPL_F32, WANT_ROWS, 1, &res, diag));
    ESPL_TRY(espl__plan_store(s, f.out, false, &out, &final, diag));
    wonly_step *t = espl__plan_step(s, sizeof *t, n, "wonly_f32", run_wonly);
    if (!t) return espl__nomem(diag, sizeof *t);
    t->in = in;
    t->out = out;
    t->res = res;
    t->has_res = f.residual != NULL;
    t->rows = rows;
    ESPL_TRY(pack(s, n->inputs[1], m, bits, dynamic ? 1 : 3, t, diag));
    ESPL_TRY(espl__weights_bias(s, &f, 1, m->channels, &t->p, diag));
    t->p.out_step = row_stride(&out);
    t->p.res_step = t->has_res ? row_stride(&res) : 0;
    t->rounded = espl__plan_buffer(s, BUFFER_WORK, (uint64_t)(rows * t->p.in_step));
    if (t->rounded < 0) return espl__nomem(diag, (uint64_t)(rows * t->p.in_step));
    t->base.format = espl_format_name(n->inputs[1]->quant.format);
    t->base.macs = n->op->macs(n);
    espl__plan_use(s, in.buffer);
    espl__plan_use(s, out.buffer);
    espl__plan_use(s, t->rounded);
    if (t->has_res) espl__plan_use(s, res.buffer);
    ESPL_TRY(espl__plan_finish(s, n, f.out, &out, &final, diag));
done:
    return status;
}
