/* Elementwise operators: additions, bounds, tables for functions of one u8 input, softmax. */
#include "runtime/lower.h"
#include "runtime/convert.h"
#include "ops/ops.h"

#include <math.h>

/* The contiguous runs of a view in its physical order. Views of one value shape and element type agree in
 * `run` and differ only in strides. */
typedef struct runs {
    int64_t images, rows, run; /* run: elements */
    int64_t image, row;        /* bytes */
} runs;

static runs runs_of(const view *v) {
    runs r = {1, 1, 1, 0, 0};
    if (!v->nhwc) {
        r.run = (int64_t)(espl__view_bytes(v) / espl_dtype_bytes(v->type));
        return r;
    }
    r.images = v->dim[0];
    r.rows = v->dim[2];
    r.run = v->dim[3] * v->cs;
    r.image = v->stride[0];
    r.row = v->stride[2];
    return r;
}

/* --- Add ------------------------------------------------------------------------------------------- */

typedef struct add_step {
    step base;
    bool u8;
    espl__qadd q;
    float lo, hi;
    view a, b, out;
} add_step;

static void run_add(const step *st, espl_session *s) {
    const add_step *t = (const add_step *)st;
    runs a = runs_of(&t->a), b = runs_of(&t->b), o = runs_of(&t->out);
    const espl__kernels *k = s->kernels;
    for (int64_t i = 0; i < o.images; i++)
        for (int64_t y = 0; y < o.rows; y++) {
            const char *pa = buffer_at(s, &t->a) + i * a.image + y * a.row;
            const char *pb = buffer_at(s, &t->b) + i * b.image + y * b.row;
            char *po = buffer_at(s, &t->out) + i * o.image + y * o.row;
            if (t->u8) {
                k->add_u8(&t->q, (const uint8_t *)pa, (const uint8_t *)pb, (uint8_t *)po, o.run);
                continue;
            }
            k->add_f32((const float *)pa, (const float *)pb, (float *)po, o.run);
            if (t->lo > -INFINITY || t->hi < INFINITY)
                k->clamp_f32(t->lo, t->hi, (const float *)po, (float *)po, o.run);
        }
}

static bool broadcasts_to(const espl_shape *from, const espl_shape *to) {
    if (from->rank > to->rank) return false;
    for (int d = 0; d < from->rank; d++) {
        int64_t t = to->dim[d + to->rank - from->rank];
        if (from->dim[d] != t && from->dim[d] != 1) return false;
    }
    return true;
}

/* The view of a constant of `value`'s own shape, repeated to `shape` by strides of 0 and copied once. */
static espl_status broadcast_constant(espl_session *s, const espl__value *value, const view *like,
                                      espl_dtype type, view *out, espl_diag *diag) {
    view src, wide = *like;
    espl_status status = espl__plan_require(s, NULL, value, type, WANT_ROWS, 1, &src, diag);
    if (status != ESPL_OK) return status;
    view from = src;
    from.rank = like->rank;
    for (int d = 0; d < like->rank; d++) {
        int at = d - (like->rank - src.rank);
        from.dim[d] = like->dim[d];
        from.stride[d] = at < 0 || src.dim[at] == 1 ? 0 : src.stride[at];
    }
    wide.quantized = src.quantized;
    wide.scale = src.scale;
    wide.zero = src.zero;
    void *data = espl__plan_weights(s, espl__view_bytes(&wide));
    if (!data || (wide.buffer = espl__plan_constant(s, data, espl__view_bytes(&wide))) < 0)
        return espl__nomem(diag, espl__view_bytes(&wide));
    convert c;
    if (!espl__convert_plan(&c, &from, &wide))
        return espl__fail(diag, ESPL_INTERNAL, "'%s' cannot be repeated", value->name);
    espl__convert_run(&c, s->kernels, buffer_at(s, &from), buffer_at(s, &wide));
    *out = wide;
    return ESPL_OK;
}

static espl_status operand(espl_session *s, const espl__node *n, const espl__value *value, const view *like,
                           view *out, espl_diag *diag) {
    if (value->constant) return broadcast_constant(s, value, like, like->type, out, diag);
    return espl__plan_require(s, n, value, like->type, like->nhwc ? WANT_NHWC : WANT_ROWS, 1, out, diag);
}

static bool addable(const espl__value *value, const espl_shape *shape) {
    return value->dtype == ESPL_F32 &&
           (value->constant ? broadcasts_to(&value->shape, shape) : espl_shape_equal(&value->shape, shape));
}

espl_status espl__lower_add(espl_session *s, espl__node *n, bool *taken, espl_diag *diag) {
    espl_status status = ESPL_OK;
    const espl__value *a = n->inputs[0], *b = n->inputs[1];
    const espl_shape *shape = &n->outputs[0]->shape;
    fusion f;
    if (!addable(a, shape) || !addable(b, shape)) return ESPL_OK;
    espl__plan_fuse(s, n, FUSE_CLAMP, &f);
    *taken = true;
    bool u8 = espl__plan_store_type(a) == ESPL_U8 && espl__plan_store_type(b) == ESPL_U8 &&
              espl__plan_store_type(f.out) == ESPL_U8;
    view out, final, va, vb;
    ESPL_TRY(espl__plan_store(s, f.out, u8, &out, &final, diag));
    ESPL_TRY(operand(s, n, a, &out, &va, diag));
    ESPL_TRY(operand(s, n, b, &out, &vb, diag));
    add_step *t = espl__plan_step(s, sizeof *t, n, u8 ? "add_u8" : "add_f32", run_add);
    if (!t) return espl__nomem(diag, sizeof *t);
    t->base.format = u8 ? "s8" : "f32";
    t->u8 = u8;
    t->a = va;
    t->b = vb;
    t->out = out;
    t->lo = f.lo;
    t->hi = f.hi;
    if (u8)
        t->q = (espl__qadd){va.scale / out.scale,
                            vb.scale / out.scale,
                            va.zero,
                            vb.zero,
                            out.zero,
                            espl__plan_bound(f.lo, out.scale, out.zero),
                            espl__plan_bound(f.hi, out.scale, out.zero)};
    espl__plan_use(s, va.buffer);
    espl__plan_use(s, vb.buffer);
    espl__plan_use(s, out.buffer);
    ESPL_TRY(espl__plan_finish(s, n, f.out, &out, &final, diag));
done:
    return status;
}

/* --- functions of one input -------------------------------------------------------------------------- */

typedef struct unary_step {
    step base;
    const espl__node *node;
    view in, out;
    int input;       /* which input of the node varies */
    espl_tensor *io; /* the others are constants; output last */
    uint8_t *table;  /* u8: 256 entries */
    float lo, hi;    /* of the results */
    bool clamp;      /* it is nothing but these bounds */
} unary_step;

static void run_unary(const step *st, espl_session *s) {
    const unary_step *t = (const unary_step *)st;
    runs a = runs_of(&t->in), o = runs_of(&t->out);
    for (int64_t i = 0; i < o.images; i++)
        for (int64_t y = 0; y < o.rows; y++) {
            char *in = buffer_at(s, &t->in) + i * a.image + y * a.row;
            char *out = buffer_at(s, &t->out) + i * o.image + y * o.row;
            if (t->table) {
                s->kernels->lut_u8(t->table, (const uint8_t *)in, (uint8_t *)out, o.run);
            } else if (t->clamp) {
                s->kernels->clamp_f32(t->lo, t->hi, (const float *)in, (float *)out, o.run);
            } else {
                espl_tensor *from = &t->io[t->input], *to = &t->io[t->node->input_count];
                from->shape = to->shape = (espl_shape){1, {o.run}};
                from->data = in;
                to->data = out;
                t->node->op->eval(t->node, t->io, to, NULL);
                if (t->lo > -INFINITY || t->hi < INFINITY)
                    s->kernels->clamp_f32(t->lo, t->hi, (const float *)out, (float *)out, o.run);
            }
        }
}

int espl__plan_unary_input(const espl__node *n) {
    static const char *const broadcasting[] = {"Add", "Sub", "Mul", "Div", "Max", "Min", "Pow"};
    bool listed = n->op->quant == ESPL__QUANT_UNARY;
    for (size_t i = 0; i < ESPL_COUNT(broadcasting); i++) listed |= espl__node_is(n, broadcasting[i]);
    int varying = -1;
    if (!listed || n->output_count != 1 || !n->outputs[0] || n->outputs[0]->dtype != ESPL_F32) return -1;
    for (int i = 0; i < n->input_count; i++) {
        const espl__value *v = n->inputs[i];
        if (!v) continue;
        if (v->constant) {
            if (espl_shape_count(&v->shape) != 1 || espl__is_quantized(v)) return -1;
        } else if (varying >= 0 || v->dtype != ESPL_F32) {
            return -1;
        } else {
            varying = i;
        }
    }
    if (varying < 0 || !espl_shape_equal(&n->inputs[varying]->shape, &n->outputs[0]->shape)) return -1;
    return varying;
}

/* As clamp_f32; no number stays none. */
static float bounded(const unary_step *t, float y) {
    y = y < t->lo ? t->lo : y;
    return y > t->hi ? t->hi : y;
}

static void fill_table(unary_step *t, const view *in, const view *out) {
    float x[256], y[256];
    for (int i = 0; i < 256; i++) x[i] = (float)(i - in->zero) * in->scale;
    espl_tensor *from = &t->io[t->input], *to = &t->io[t->node->input_count];
    from->shape = to->shape = (espl_shape){1, {256}};
    from->data = x;
    to->data = y;
    t->node->op->eval(t->node, t->io, to, NULL);
    for (int i = 0; i < 256; i++)
        t->table[i] = (uint8_t)espl__requantize(bounded(t, y[i]) / out->scale, out->zero, 0, 255);
}

espl_status espl__lower_table(espl_session *s, espl__node *n, bool *taken, espl_diag *diag) {
    espl_status status = ESPL_OK;
    int input = espl__plan_unary_input(n);
    if (input < 0 || (n->op->scratch_bytes && n->op->scratch_bytes(n) > 0)) return ESPL_OK;
    *taken = true;
    fusion f = {.out = n->outputs[0], .lo = -INFINITY, .hi = INFINITY};
    const bool clamp = espl__clip_range(n, &f.lo, &f.hi);
    if (!clamp) espl__plan_fuse(s, n, FUSE_CLAMP, &f);
    const espl__value *x = n->inputs[input], *y = f.out;
    bool u8 = espl__plan_store_type(x) == ESPL_U8 && espl__plan_store_type(y) == ESPL_U8;
    view in, out, final;
    ESPL_TRY(espl__plan_store(s, y, u8, &out, &final, diag));
    ESPL_TRY(
        espl__plan_require(s, n, x, u8 ? ESPL_U8 : ESPL_F32, out.nhwc ? WANT_NHWC : WANT_ROWS, 1, &in, diag));
    unary_step *t = espl__plan_step(s, sizeof *t, n, u8 ? "lut_u8" : "eltwise_f32", run_unary);
    espl_tensor *io = espl__arena_alloc(&s->arena, sizeof *io * (uint64_t)(n->input_count + 1));
    if (!t || !io) return espl__nomem(diag, sizeof *t);
    t->node = n;
    t->in = in;
    t->out = out;
    t->input = input;
    t->io = io;
    t->base.format = u8 ? "s8" : "f32";
    for (int i = 0; i < n->input_count; i++)
        if (n->inputs[i])
            io[i] =
                n->inputs[i]->constant ? *n->inputs[i]->constant : (espl_tensor){ESPL_F32, x->shape, NULL};
    io[n->input_count] = (espl_tensor){ESPL_F32, y->shape, NULL};
    t->clamp = clamp;
    t->lo = f.lo;
    t->hi = f.hi;
    if (u8) {
        t->table = espl__plan_weights(s, 256);
        if (!t->table) return espl__nomem(diag, 256);
        fill_table(t, &in, &out);
    }
    espl__plan_use(s, in.buffer);
    espl__plan_use(s, out.buffer);
    ESPL_TRY(espl__plan_finish(s, n, y, &out, &final, diag));
done:
    return status;
}

/* --- Softmax ------------------------------------------------------------------------------------------- */

typedef struct softmax_step {
    step base;
    view in, out;
    int64_t rows, n;
} softmax_step;

static void run_softmax(const step *st, espl_session *s) {
    const softmax_step *t = (const softmax_step *)st;
    const float *in = (const float *)buffer_at(s, &t->in);
    float *out = (float *)buffer_at(s, &t->out);
    for (int64_t i = 0; i < t->rows; i++) s->kernels->softmax_f32(1, in + i * t->n, out + i * t->n, t->n);
}

espl_status espl__lower_softmax(espl_session *s, espl__node *n, bool *taken, espl_diag *diag) {
    espl_status status = ESPL_OK;
    const espl__value *x = n->inputs[0], *y = n->outputs[0];
    int rank = x->shape.rank;
    int64_t axis = espl__attr_int(n, "axis", n->opset >= 13 ? -1 : 1);
    if (axis < 0) axis += rank;
    /* Before opset 13 everything from the axis on is one row. */
    if (x->dtype != ESPL_F32 || rank == 0 || (n->opset >= 13 && axis != rank - 1)) return ESPL_OK;
    *taken = true;
    s->spatial[y->id] = 0; /* rows, whatever its neighbours would like */
    view in, out, final;
    ESPL_TRY(espl__plan_store(s, y, false, &out, &final, diag));
    ESPL_TRY(espl__plan_require(s, n, x, ESPL_F32, WANT_ROWS, 1, &in, diag));
    softmax_step *t = espl__plan_step(s, sizeof *t, n, "softmax_f32", run_softmax);
    if (!t) return espl__nomem(diag, sizeof *t);
    t->in = in;
    t->out = out;
    t->n = espl__dims_product(&x->shape, (int)axis, rank);
    t->rows = espl__dims_product(&x->shape, 0, (int)axis);
    espl__plan_use(s, in.buffer);
    espl__plan_use(s, out.buffer);
    ESPL_TRY(espl__plan_finish(s, n, y, &out, &final, diag));
done:
    return status;
}
