/* MatMul of two activations: the right side is packed at every run. */
#include "runtime/lower.h"

typedef struct matmul_step {
    step base;
    espl__conv p;
    bool u8_in, u8_out;
    view a, b, out;
    int64_t batches, m, k, n;
    int packed; /* buffer: the packed right side, then its bias */
    int64_t packed_bytes;
    int32_t zero_a;
} matmul_step;

/* [K][N] rows of s8 codes (u8 with the sign bit flipped) to [N/16][K/4][16][4], and bias[c] = -zero_a * sum
 * of column c. */
static void pack_right_u8(const matmul_step *t, const uint8_t *b, int8_t *packed, int32_t *bias) {
    int64_t groups = (t->k + 3) / 4, ldb = row_stride(&t->b);
    memset(packed, 0, (size_t)(pad16(t->n) * groups * 4));
    memset(bias, 0, sizeof *bias * (size_t)pad16(t->n));
    for (int64_t k = 0; k < t->k; k++)
        for (int64_t c = 0; c < t->n; c++) {
            int8_t code = (int8_t)(b[k * ldb + c] ^ 0x80);
            packed[((c / 16 * groups + k / 4) * 16 + c % 16) * 4 + k % 4] = code;
            bias[c] -= t->zero_a * code;
        }
}

static void pack_right_f32(const matmul_step *t, const float *b, float *packed) {
    int64_t ldb = row_stride(&t->b) / 4;
    for (int64_t c0 = 0; c0 < t->n; c0 += 16) {
        int64_t width = ESPL_MIN(16, t->n - c0);
        for (int64_t k = 0; k < t->k; k++, packed += 16) {
            memcpy(packed, b + k * ldb + c0, sizeof *b * (size_t)width);
            memset(packed + width, 0, sizeof *b * (size_t)(16 - width));
        }
    }
}

static void run_matmul(const step *st, espl_session *s) {
    const matmul_step *t = (const matmul_step *)st;
    const espl__kernels *kn = s->kernels;
    int blocks = (int)(pad16(t->n) / 16);
    char *packed = s->buffers[t->packed].data;
    const char *a = buffer_at(s, &t->a), *b = buffer_at(s, &t->b);
    char *out = buffer_at(s, &t->out);
    espl__conv p = t->p;
    p.w = packed;
    for (int64_t i = 0; i < t->batches; i++) {
        if (t->u8_in) {
            int32_t *bias = (int32_t *)(void *)(packed + t->packed_bytes);
            pack_right_u8(t, (const uint8_t *)b, (int8_t *)packed, bias);
            p.bias = bias;
            if (t->u8_out)
                kn->conv_u8(&p, (const uint8_t *)a, (uint8_t *)out, NULL, (int)t->m, 0, blocks);
            else
                kn->conv_u8_f32(&p, (const uint8_t *)a, (float *)out, (int)t->m, 0, blocks);
        } else {
            pack_right_f32(t, (const float *)b, (float *)(void *)packed);
            kn->conv_f32(&p, (const float *)a, (float *)out, NULL, (int)t->m, 0, blocks);
        }
        a += t->m * t->p.in_step;
        b += t->k * row_stride(&t->b);
        out += t->m * t->p.out_step;
    }
}

static bool same_batches(const espl_shape *a, const espl_shape *b) {
    if (a->rank != b->rank || a->rank < 2) return false;
    for (int d = 0; d + 2 < a->rank; d++)
        if (a->dim[d] != b->dim[d]) return false;
    return true;
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
    float scale;
    int32_t zero;
    /* The right side is the kernel's s8 operand: its grid must be symmetric. */
    bool integer = espl__plan_store_type(av) == ESPL_U8 && espl__plan_grid(bv, &scale, &zero) &&
                   zero == 128 && accumulator_fits(av->shape.dim[rank - 1]);
    espl__plan_fuse(s, n, FUSE_CLAMP, &f);
    s->spatial[f.out->id] = 0; /* matrices are stored by rows, whatever their neighbours would like */
    *taken = true;
    ESPL_TRY(
        espl__plan_require(s, n, av, integer ? ESPL_U8 : ESPL_F32, WANT_ROWS, integer ? 4 : 1, &a, diag));
    ESPL_TRY(espl__plan_require(s, n, bv, integer ? ESPL_U8 : ESPL_F32, WANT_ROWS, 1, &b, diag));
    ESPL_TRY(espl__plan_store(s, f.out, integer, &out, &final, diag));
    int64_t m = av->shape.dim[rank - 2], k = av->shape.dim[rank - 1], cols = bv->shape.dim[rank - 1];
    int64_t packed = pad16(cols) * (integer ? (k + 3) / 4 * 4 : k * 4);
    int place = espl__plan_buffer(s, BUFFER_WORK, (uint64_t)(packed + pad16(cols) * 4 + ESPL__PACK_SLACK));
    float *vector = espl__plan_weights(s, sizeof *vector * (uint64_t)pad16(cols));
    matmul_step *t = espl__plan_step(s, sizeof *t, n, integer ? "matmul_u8" : "matmul_f32", run_matmul);
    if (place < 0 || !vector || !t) return espl__nomem(diag, (uint64_t)packed);
    *t = (matmul_step){.base = t->base,
                       .u8_in = integer,
                       .u8_out = integer && out.type == ESPL_U8,
                       .a = a,
                       .b = b,
                       .out = out,
                       .batches = espl_shape_count(&av->shape) / (m * k),
                       .m = m,
                       .k = k,
                       .n = cols,
                       .packed = place,
                       .packed_bytes = packed,
                       .zero_a = a.zero};
    t->p = (espl__conv){.segments = 1,
                        .seg_k = (int32_t)(integer ? (k + 3) / 4 : k),
                        .seg_off = one_segment,
                        .in_step = row_stride(&a),
                        .out_step = row_stride(&out),
                        .bias = vector,
                        .channels = (int32_t)cols,
                        .flo = f.lo,
                        .fhi = f.hi};
    if (integer) {
        float out_scale = 1;
        int32_t out_zero = 0;
        if (t->u8_out) espl__plan_grid(f.out, &out_scale, &out_zero);
        for (int64_t c = 0; c < pad16(cols); c++) vector[c] = (float)((double)a.scale * b.scale / out_scale);
        t->p.q = (espl__epilogue_u8){.mult = vector,
                                     .zero = out_zero,
                                     .lo = espl__plan_bound(f.lo, out_scale, out_zero),
                                     .hi = espl__plan_bound(f.hi, out_scale, out_zero)};
    }
    t->base.macs = n->op->macs(n);
    t->base.format = integer ? "s8" : "f32";
    espl__plan_use(s, a.buffer);
    espl__plan_use(s, b.buffer);
    espl__plan_use(s, out.buffer);
    espl__plan_use(s, place);
    ESPL_TRY(espl__plan_finish(s, n, f.out, &out, &final, diag));
done:
    return status;
}
