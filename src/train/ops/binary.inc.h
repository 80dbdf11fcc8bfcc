/* Rows of n elements of two operands, each with step 0 or 1: y = f(x, z), and t = dy times the derivative of
 * f by one of them. */

#include "train/ops/maths.inc.h"

#define ROW_LOOP(expression)                     \
    if (sx && sz)                                \
        for (int64_t i = 0; i < n; i++) {        \
            REAL x = px[i], z = pz[i];           \
            (void)x, (void)z;                    \
            out[i] = (expression);               \
        }                                        \
    else                                         \
        for (int64_t i = 0; i < n; i++) {        \
            REAL x = px[i * sx], z = pz[i * sz]; \
            (void)x, (void)z;                    \
            out[i] = (expression);               \
        }
#define ROW(Name, what, expression)                                                                       \
    static void FN(what##_##Name)(const REAL *px, int64_t sx, const REAL *pz, int64_t sz, const REAL *dy, \
                                  REAL *out, int64_t n) {                                                 \
        (void)dy, (void)px, (void)pz;                                                                     \
        ROW_LOOP(expression)                                                                              \
    }
#define ROWS(Name, reads, f, fx, fz) \
    ROW(Name, value, f) ROW(Name, by_x, dy[i] * (fx)) ROW(Name, by_z, dy[i] * (fz))

/* x^z, and by z: x^z log x, which is 0 for x = 0. */
static REAL FN(power)(REAL x, REAL z) {
    return z == 2 ? x * x : z == 1 ? x : z == (REAL)0.5 ? M(sqrt)(x) : M(pow)(x, z);
}
static REAL FN(log_power)(REAL x, REAL z) {
    return x == 0 && z >= 0 ? 0 : M(pow)(x, z) * M(log)(x);
}

BINARY_LIST(ROWS)
#undef ROWS
#undef ROW
#undef ROW_LOOP

/* Elements [begin, end) of the output's first dimension (of one, without a first dimension). */
static void FN(forward_part)(void *arg, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const espl__call *c = arg;
    const pair *k = c->state;
    espl_tensor x = espl__lead(&c->in[0], &c->out->shape, begin, end);
    espl_tensor z = espl__lead(&c->in[1], &c->out->shape, begin, end);
    espl_tensor y = espl__lead(&c->out[0], &c->out->shape, begin, end);
    const espl_shape *shapes[2] = {&x.shape, &z.shape};
    espl__rows r;
    for (espl__rows_begin(&r, &y.shape, shapes, 2); !r.done; espl__rows_next(&r))
        k->row->FN(value)((const REAL *)x.data + r.offset[0], r.step[0], (const REAL *)z.data + r.offset[1],
                          r.step[1], NULL, (REAL *)y.data + r.out, r.n);
}

/* Adds to `d`, shaped like operand `which`, what this part of the output gives it. */
static void FN(operand_part)(const espl__call *c, int which, espl_tensor *d, int64_t begin, int64_t end) {
    const pair *k = c->state;
    espl_tensor x = espl__lead(&c->in[0], &c->out->shape, begin, end);
    espl_tensor z = espl__lead(&c->in[1], &c->out->shape, begin, end);
    espl_tensor dy = espl__lead(&c->dout[0], &c->out->shape, begin, end);
    const espl_shape *shapes[2] = {&x.shape, &z.shape};
    REAL t[CHUNK];
    espl__rows r;
    for (espl__rows_begin(&r, &dy.shape, shapes, 2); !r.done; espl__rows_next(&r))
        for (int64_t i = 0; i < r.n; i += CHUNK) {
            int64_t n = ESPL_MIN(CHUNK, r.n - i);
            const REAL *px = x.data ? (const REAL *)x.data + r.offset[0] + i * r.step[0] : t;
            const REAL *pz = z.data ? (const REAL *)z.data + r.offset[1] + i * r.step[1] : t;
            (which ? k->row->FN(by_z) : k->row->FN(by_x))(px, x.data ? r.step[0] : 0, pz,
                                                          z.data ? r.step[1] : 0,
                                                          (const REAL *)dy.data + r.out + i, t, n);
            FN(gather_up)((REAL *)d->data + r.offset[which] + i * r.step[which], r.step[which], t, n);
        }
}

/* Parts of the first dimension: each writes its own part of the gradient, or, where the operand has no such
 * dimension, a sum of its own in the scratch. */
static void FN(back_runs)(void *arg, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const espl__call *c = arg;
    const pair *k = c->state;
    for (int64_t run = begin; run < end; run++) {
        int64_t from = run * k->lead / k->runs, to = (run + 1) * k->lead / k->runs;
        for (int which = 0; which < 2; which++) {
            if (!c->din[which].data) continue;
            espl_tensor d = espl__lead(&c->din[which], &c->out->shape, from, to);
            bool own = k->shared[which];
            if (own)
                d.data = (REAL *)c->scratch +
                         (run * k->sizes[0] * k->shared[0] + run * k->sizes[1] * k->shared[1]) +
                         (which ? k->sizes[0] * k->shared[0] : 0);
            if (own || !(c->add >> which & 1)) memset(d.data, 0, espl__tensor_bytes(&d));
            FN(operand_part)(c, which, &d, from, to);
        }
    }
}

static void FN(pair_backward)(espl__call *c) {
    const pair *k = c->state;
    espl__parallel_for(k->runs > 1 ? c->pool : NULL, k->runs, FN(back_runs), c);
    int64_t stride = k->sizes[0] * k->shared[0] + k->sizes[1] * k->shared[1];
    for (int which = 0; which < 2; which++) {
        REAL *d = c->din[which].data;
        if (!d || !k->shared[which]) continue;
        const REAL *sums = (const REAL *)c->scratch + (which ? k->sizes[0] * k->shared[0] : 0);
        if (!(c->add >> which & 1)) memset(d, 0, espl__tensor_bytes(&c->din[which]));
        for (int64_t run = 0; run < k->runs; run++)
            for (int64_t i = 0; i < k->sizes[which]; i++) d[i] += sums[run * stride + i];
    }
}

/* --- any number of operands ------------------------------------------------------------------------ */

static void FN(many_forward)(espl__call *c) {
    const many *k = c->state;
    REAL *y = c->out->data;
    for (int j = 0; j < c->inputs; j++) {
        const REAL *x = c->in[j].data;
        const espl_shape *shape = &c->in[j].shape;
        espl__rows r;
        for (espl__rows_begin(&r, &c->out->shape, &shape, 1); !r.done; espl__rows_next(&r)) {
            REAL *to = y + r.out;
            const REAL *from = x + r.offset[0];
            for (int64_t i = 0; i < r.n; i++) {
                REAL v = from[i * r.step[0]];
                if (j == 0)
                    to[i] = v;
                else if (k->how == SUM || k->how == MEAN)
                    to[i] += v;
                else if (v != v || (k->how == MAX ? v > to[i] : v < to[i]))
                    to[i] = v;
            }
        }
    }
    int64_t n = espl_shape_count(&c->out->shape);
    for (int64_t i = 0; k->how == MEAN && i < n; i++) y[i] /= (REAL)c->inputs;
}

/* How many operands have the extreme value: they share the gradient (as PyTorch's maximum of two does). */
static void FN(count_ties)(espl__call *c) {
    const REAL *y = c->out->data;
    REAL *count = c->scratch;
    memset(count, 0, espl__tensor_bytes(c->out));
    for (int j = 0; j < c->inputs; j++) {
        const REAL *x = c->in[j].data;
        const espl_shape *shape = &c->in[j].shape;
        espl__rows r;
        for (espl__rows_begin(&r, &c->out->shape, &shape, 1); !r.done; espl__rows_next(&r))
            for (int64_t i = 0; i < r.n; i++)
                count[r.out + i] += x[r.offset[0] + i * r.step[0]] == y[r.out + i];
    }
}

static void FN(many_backward)(espl__call *c) {
    const many *k = c->state;
    bool extreme = k->how == MAX || k->how == MIN;
    const REAL *dy = c->dout->data, *y = c->out->data, *count = c->scratch;
    if (extreme) FN(count_ties)(c);
    for (int j = 0; j < c->inputs && j < ESPL__GRAD_INPUTS; j++) {
        REAL *d = c->din[j].data, t[CHUNK];
        const REAL *x = c->in[j].data;
        if (!d) continue;
        if (!(c->add >> j & 1)) memset(d, 0, espl__tensor_bytes(&c->din[j]));
        const espl_shape *shape = &c->din[j].shape;
        espl__rows r;
        for (espl__rows_begin(&r, &c->out->shape, &shape, 1); !r.done; espl__rows_next(&r))
            for (int64_t i0 = 0; i0 < r.n; i0 += CHUNK) {
                int64_t n = ESPL_MIN(CHUNK, r.n - i0), to = r.offset[0] + i0 * r.step[0];
                for (int64_t i = 0; i < n; i++) {
                    int64_t at = r.out + i0 + i;
                    if (!extreme)
                        t[i] = k->how == MEAN ? dy[at] / (REAL)c->inputs : dy[at];
                    else
                        t[i] = x[to + i * r.step[0]] == y[at] ? dy[at] / count[at] : 0;
                }
                FN(gather_up)(d + to, r.step[0], t, n);
            }
    }
}
