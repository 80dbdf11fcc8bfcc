/* MatMul of two activations: the right side is packed in every run, as a weight of the kernels. Both sides
 * are read by their strides and the result may be stored turned, so that the heads of attention are split and
 * joined without copies.
 *
 * On codes, with a = sa (qa - za) and b = sb (qb - zb), the kernel's s8 operand is qb - 128 and
 *
 *   sum (qa - za)(qb - zb) = sum qa (qb - 128) - za sum (qb - 128) - (zb - 128) (sum qa - k za)
 *
 * The first two terms are what the kernels do, exactly. The third is one number a row of the left side, 0 if
 * the right grid is symmetric; else the sums leave the kernel as floats and it is added before they are
 * rounded. */
#include "runtime/lower.h"

#include <math.h>

enum { CHUNK = 32 }; /* rows between the kernel and their rounding */

typedef struct matmul_step {
    step base;
    espl__conv p;
    bool u8_in, u8_out;
    view a, b, out;
    int64_t batches, m, k, n;
    int place; /* buffer: for each thread the packed right side, its sums, sums of rows, floats */
    int64_t share, sums, rows, floats; /* its bytes for one thread, and where those are */
    int32_t zero_a, zero_b;            /* zero_b: of the s8 operand */
    float mult;
} matmul_step;

typedef struct matmul_job {
    const matmul_step *t;
    espl_session *s;
    int64_t batch; /* only this one, and the range is of rows; -1: the range is of batches */
} matmul_job;

/* Byte offset of a batch: the dimensions before the last two. */
static int64_t batch_offset(const view *v, int64_t batch) {
    int64_t at = 0;
    for (int d = v->rank - 3; d >= 0; d--) {
        at += batch % v->dim[d] * v->stride[d];
        batch /= v->dim[d];
    }
    return at;
}

/* Columns that lie in one piece: what would be rows of 16 columns in a row. */
static void transpose_right(const matmul_job *j, const char *from, ptrdiff_t by_column, char *place) {
    const matmul_step *t = j->t;
    const int64_t row = ESPL__NR * (int64_t)sizeof(float), block = t->k * row;
    for (int64_t c = 0; c < t->n; c += ESPL__NR, place += block, from += ESPL__NR * by_column) {
        const int64_t width = ESPL_MIN(t->n - c, ESPL__NR);
        if (width < ESPL__NR) memset(place, 0, (size_t)block);
        j->s->kernels->transpose_32(from, by_column, place, row, (int)width, (int)t->k);
    }
}

static void pack_right(const matmul_job *j, int64_t batch, char *place) {
    const matmul_step *t = j->t;
    const view *b = &t->b;
    const char *from = buffer_at(j->s, b) + batch_offset(b, batch);
    ptrdiff_t by_k = b->stride[b->rank - 2], by_column = b->stride[b->rank - 1];
    if (!t->u8_in && by_k == (ptrdiff_t)sizeof(float)) {
        transpose_right(j, from, by_column, place);
        return;
    }
    if (!t->u8_in) {
        j->s->kernels->pack_f32((const float *)(const void *)from, by_k, by_column, t->k, t->n,
                                (float *)(void *)place);
        return;
    }
    int32_t *sums = (int32_t *)(void *)(place + t->sums);
    j->s->kernels->pack_u8((const uint8_t *)from, by_k, by_column, t->k, t->n, (int8_t *)place, sums);
    for (int64_t c = 0; c < pad16(t->n); c++) sums[c] *= -t->zero_a;
}

/* The third term, and the rounding. */
static void shifted_rows(const matmul_job *j, const espl__conv *p, const uint8_t *a, char *out, int64_t rows,
                         char *room) {
    const matmul_step *t = j->t;
    const espl__kernels *k = j->s->kernels;
    int32_t *sums = (int32_t *)(void *)(room + t->rows);
    float *floats = (float *)(void *)(room + t->floats);
    espl__conv q = *p;
    q.out_step = t->n * (ptrdiff_t)sizeof(float);
    q.flo = -INFINITY; /* bounds come after the third term */
    q.fhi = INFINITY;
    for (int64_t r = 0; r < rows; r += CHUNK, a += CHUNK * p->in_step) {
        int64_t count = ESPL_MIN(rows - r, CHUNK);
        k->conv_u8_f32(&q, a, floats, (int)count, 0, (int)(pad16(t->n) / ESPL__NR));
        k->row_sums_u8(a, p->in_step, count, t->k, sums);
        for (int64_t i = 0; i < count; i++, out += p->out_step) {
            float *x = floats + i * t->n;
            float shift = -t->mult * (float)((int64_t)t->zero_b * (sums[i] - t->k * t->zero_a));
            float *y = t->u8_out ? x : (float *)(void *)out;
            k->affine_f32(1, shift, x, y, t->n);
            if (t->u8_out)
                k->quantize(1, p->q.zero, p->q.lo, p->q.hi, x, (uint8_t *)out, t->n);
            else
                k->clamp_f32(p->flo, p->fhi, y, y, t->n);
        }
    }
}

static void rows_of_batch(const matmul_job *j, int64_t batch, int64_t begin, int64_t end, char *packed,
                          char *room) {
    const matmul_step *t = j->t;
    const espl__kernels *k = j->s->kernels;
    const char *a = buffer_at(j->s, &t->a) + batch_offset(&t->a, batch) + begin * t->p.in_step;
    char *out = buffer_at(j->s, &t->out) + batch_offset(&t->out, batch) + begin * t->p.out_step;
    int blocks = (int)(pad16(t->n) / ESPL__NR), rows = (int)(end - begin);
    espl__conv p = t->p;
    p.w = packed;
    if (t->u8_in) p.bias = packed + t->sums;
    if (!t->u8_in)
        k->conv_f32(&p, (const float *)(const void *)a, (float *)(void *)out, NULL, rows, 0, blocks);
    else if (t->zero_b)
        shifted_rows(j, &p, (const uint8_t *)a, out, rows, room);
    else if (t->u8_out)
        k->conv_u8(&p, (const uint8_t *)a, (uint8_t *)out, NULL, rows, 0, blocks);
    else
        k->conv_u8_f32(&p, (const uint8_t *)a, (float *)(void *)out, rows, 0, blocks);
}

static void job(void *arg, int64_t begin, int64_t end, int thread) {
    const matmul_job *j = arg;
    char *place = j->s->buffers[j->t->place].data, *own = place + thread * j->t->share;
    if (j->batch >= 0) {
        rows_of_batch(j, j->batch, begin, end, place, own);
        return;
    }
    for (int64_t i = begin; i < end; i++) {
        pack_right(j, i, own);
        rows_of_batch(j, i, 0, j->t->m, own, own);
    }
}

static void run_matmul(const step *st, espl_session *s) {
    const matmul_step *t = (const matmul_step *)st;
    matmul_job j = {t, s, -1};
    espl__pool *pool = pool_for(s, st->macs, t->u8_in);
    if (t->batches >= espl__pool_threads(pool)) {
        espl__parallel_for(pool, t->batches, job, &j);
        return;
    }
    for (j.batch = 0; j.batch < t->batches; j.batch++) {
        pack_right(&j, j.batch, s->buffers[t->place].data);
        espl__parallel_for(pool, t->m, job, &j);
    }
}

/* --- plan ------------------------------------------------------------------------------------------ */

static bool same_batches(const espl_shape *a, const espl_shape *b) {
    if (a->rank != b->rank || a->rank < 2) return false;
    for (int d = 0; d + 2 < a->rank; d++)
        if (a->dim[d] != b->dim[d]) return false;
    return true;
}

/* The left side: any strides, but the elements of a row side by side; whole groups of four codes. */
static espl_status require_left(espl_session *s, const espl__node *n, const espl__value *v, bool integer,
                                view *out, espl_diag *diag) {
    espl_dtype type = integer ? ESPL_U8 : ESPL_F32;
    espl_status status = espl__plan_require(s, n, v, type, WANT_ANY, 1, out, diag);
    bool side_by_side = status == ESPL_OK && out->stride[out->rank - 1] == (int64_t)espl_dtype_bytes(type);
    if (status != ESPL_OK || (side_by_side && (!integer || out->dim[out->rank - 1] % 4 == 0))) return status;
    return espl__plan_require(s, n, v, type, WANT_ROWS, integer ? 4 : 1, out, diag);
}

/* Stores the product so that a Transpose behind it finds its result in rows. */
static void turn_output(const espl_session *s, const espl__value *y, view *out) {
    const espl__node *t = espl__graph_only_reader(s->graph, y);
    int64_t perm[ESPL_MAX_RANK], stride = (int64_t)espl_dtype_bytes(out->type);
    int rank = y->shape.rank;
    if (s->observer || !espl__node_is(t, "Transpose") || s->spatial[t->outputs[0]->id]) return;
    if (espl__attr_ints(t, "perm", perm, ESPL_MAX_RANK) != rank || perm[rank - 1] != rank - 1) return;
    for (int d = rank - 1; d >= 0; d--) {
        out->stride[perm[d]] = stride;
        stride *= out->dim[perm[d]];
    }
}

static espl_status plan_scratch(espl_session *s, matmul_step *t, espl_diag *diag) {
    int64_t padded = pad16(t->n) * 4;
    t->sums = pad16(t->n) * (t->u8_in ? (t->k + 3) / 4 * 4 : t->k * 4) + ESPL__PACK_SLACK;
    t->rows = t->sums + (t->u8_in ? padded : 0);
    t->floats = t->rows + CHUNK * 4;
    t->share = (t->floats + (t->zero_b ? CHUNK * t->n * 4 : 0) + 63) / 64 * 64;
    t->place = espl__plan_buffer(s, BUFFER_WORK, (uint64_t)(t->share * s->threads));
    return t->place < 0 ? espl__nomem(diag, (uint64_t)t->share) : ESPL_OK;
}

static espl_status plan_epilogue(espl_session *s, const fusion *f, matmul_step *t, espl_diag *diag) {
    float *vector = espl__plan_weights(s, sizeof *vector * (uint64_t)pad16(t->n)), scale = 1;
    int32_t zero = 0;
    if (!vector) return espl__nomem(diag, sizeof *vector * (uint64_t)t->n);
    t->p.bias = vector;
    t->p.flo = f->lo;
    t->p.fhi = f->hi;
    if (!t->u8_in) return ESPL_OK;
    if (t->u8_out) espl__plan_grid(f->out, &scale, &zero);
    t->mult = (float)((double)t->a.scale * t->b.scale / scale);
    for (int64_t c = 0; c < pad16(t->n); c++) vector[c] = t->mult;
    t->p.q = (espl__epilogue_u8){.mult = vector,
                                 .zero = zero,
                                 .lo = espl__plan_bound(f->lo, scale, zero),
                                 .hi = espl__plan_bound(f->hi, scale, zero)};
    return ESPL_OK;
}

espl_status espl__lower_matmul_dynamic(espl_session *s, espl__node *n, bool *taken, espl_diag *diag) {
    espl_status status = ESPL_OK;
    static const int32_t one_segment[1];
    fusion f;
    view a, b, out, final;
    const espl__value *av = n->inputs[0], *bv = n->inputs[1];
    int rank = av->shape.rank;
    if (!same_batches(&av->shape, &bv->shape)) return ESPL_OK;
    if (av->dtype != ESPL_F32 || bv->dtype != ESPL_F32 || espl_shape_count(&n->outputs[0]->shape) == 0 ||
        espl_shape_count(&av->shape) == 0)
        return ESPL_OK;
    bool integer = espl__plan_store_type(av) == ESPL_U8 && espl__plan_store_type(bv) == ESPL_U8 &&
                   accumulator_fits(av->shape.dim[rank - 1]);
    espl__plan_fuse(s, n, FUSE_CLAMP, &f);
    s->spatial[f.out->id] = 0; /* matrices are stored by rows, whatever their neighbours would like */
    *taken = true;
    ESPL_TRY(require_left(s, n, av, integer, &a, diag));
    ESPL_TRY(espl__plan_require(s, n, bv, integer ? ESPL_U8 : ESPL_F32, WANT_ANY, 1, &b, diag));
    ESPL_TRY(espl__plan_store(s, f.out, integer, &out, &final, diag));
    bool direct = out.buffer == final.buffer;
    turn_output(s, f.out, &final);
    if (direct) out = final;
    matmul_step *t = espl__plan_step(s, sizeof *t, n, integer ? "matmul_u8" : "matmul_f32", run_matmul);
    if (!t) return espl__nomem(diag, sizeof *t);
    *t = (matmul_step){.base = t->base,
                       .u8_in = integer,
                       .u8_out = integer && out.type == ESPL_U8,
                       .a = a,
                       .b = b,
                       .out = out,
                       .m = av->shape.dim[rank - 2],
                       .k = av->shape.dim[rank - 1],
                       .n = bv->shape.dim[rank - 1],
                       .zero_a = integer ? a.zero : 0,
                       .zero_b = integer ? b.zero - 128 : 0};
    t->batches = espl_shape_count(&av->shape) / (t->m * t->k);
    t->p = (espl__conv){.segments = 1,
                        .seg_k = (int32_t)(integer ? (t->k + 3) / 4 : t->k),
                        .seg_off = one_segment,
                        .in_step = a.stride[rank - 2],
                        .out_step = out.stride[rank - 2],
                        .channels = (int32_t)t->n};
    ESPL_TRY(plan_scratch(s, t, diag));
    ESPL_TRY(plan_epilogue(s, &f, t, diag));
    t->base.macs = n->op->macs(n);
    t->base.format = integer ? "s8" : "f32";
    t->base.core = !integer ? "conv_f32" : t->u8_out ? "conv_u8" : "conv_u8_f32";
    espl__plan_use(s, a.buffer);
    espl__plan_use(s, b.buffer);
    espl__plan_use(s, out.buffer);
    espl__plan_use(s, t->place);
    ESPL_TRY(espl__plan_finish(s, n, f.out, &out, &final, diag));
done:
    return status;
}
