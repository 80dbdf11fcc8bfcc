/* Random graphs of the operators that vision and audio networks use, every attribute varied. A seed gives one graph. */
#ifndef GRAPH_RANDOM_H
#define GRAPH_RANDOM_H

#include "graph_build.h"

enum { MAX_LIVE = 48, MAX_ELEMENTS = 30000 };

typedef struct random_graph {
    rig r;
    espl__value *live[MAX_LIVE];
    int count;
    bool integer_friendly; /* mostly operators that have integer arithmetic */
} random_graph;

static inline int64_t dim_of(const espl__value *v, int d) { return v->shape.dim[d]; }
static inline int64_t elements(const espl__value *v) { return espl_shape_count(&v->shape); }

/* A live value of this rank (-1: any), later ones more often; NULL if there is none. */
static inline espl__value *live_of(random_graph *x, int rank) {
    for (int tries = 0; tries < 30; tries++) {
        int i = chance(&x->r, 60) ? x->count - 1 : (int)pick(&x->r, 0, x->count - 1);
        if (rank < 0 || x->live[i]->shape.rank == rank) return x->live[i];
    }
    return NULL;
}

static inline bool grew(random_graph *x, espl__node *n) {
    done_of(&x->r, n);
    for (int i = 0; i < n->output_count; i++)
        if (x->count < MAX_LIVE) x->live[x->count++] = n->outputs[i];
    return true;
}

/* --- layers ----------------------------------------------------------------------------------------------- */

static inline void add_window(random_graph *x, espl__node *n, const espl__value *in, const int64_t *k, bool dilated) {
    rig *r = &x->r;
    int64_t s[2], d[2] = {1, 1}, p[4];
    for (int i = 0; i < 2; i++) {
        if (dilated && chance(r, 25)) d[i] = 2;
        if ((k[i] - 1) * d[i] + 1 > dim_of(in, 2 + i) + 2) d[i] = 1;
        s[i] = chance(r, 60) ? 1 : pick(r, 2, 3);
        int64_t lack = (k[i] - 1) * d[i] + 1 - dim_of(in, 2 + i);
        int64_t most = ESPL_MIN(k[i] * d[i] - d[i], 3);
        p[i] = chance(r, 50) ? most / 2 : pick(r, 0, ESPL_MAX(most, 0));
        p[2 + i] = chance(r, 50) ? most - most / 2 : pick(r, 0, ESPL_MAX(most, 0));
        if (p[i] + p[2 + i] < lack) p[i] = p[2 + i] = ESPL_MAX(0, (lack + 1) / 2);
    }
    if (chance(r, 20)) {
        espl__attr_set_string(r->g, n, "auto_pad", chance(r, 50) ? "SAME_UPPER" : "SAME_LOWER");
    } else if (p[0] + p[1] + p[2] + p[3] > 0) {
        SET_INTS(r, n, "pads", p[0], p[1], p[2], p[3]);
    }
    if (s[0] * s[1] != 1) SET_INTS(r, n, "strides", s[0], s[1]);
    if (d[0] * d[1] != 1) SET_INTS(r, n, "dilations", d[0], d[1]);
    SET_INTS(r, n, "kernel_shape", k[0], k[1]);
}

static inline bool add_conv(random_graph *x) {
    rig *r = &x->r;
    espl__value *in = live_of(x, 4);
    if (!in) return false;
    int64_t c = dim_of(in, 1), group = 1, oc = pick(r, 1, 40), k[2];
    int kind = (int)pick(r, 0, 9);
    if (kind < 2) group = c, oc = c;                                      /* depthwise */
    else if (kind == 2) group = c, oc = c * 2;                            /* with a multiplier */
    else if (kind == 3 && c % 2 == 0) group = 2, oc = 2 * pick(r, 1, 20);
    else if (kind == 4 && c % 4 == 0) group = c / 4, oc = group * pick(r, 1, 6);
    else if (kind == 5) oc = 16 * pick(r, 1, 2);
    if (kind == 6) oc = c; /* for residual additions */
    bool point = chance(r, 25);
    for (int i = 0; i < 2; i++) {
        k[i] = point ? 1 : pick(r, 1, 4);
        k[i] = ESPL_MIN(k[i], dim_of(in, 2 + i) + 2);
    }
    if (oc * dim_of(in, 0) * dim_of(in, 2) * dim_of(in, 3) > MAX_ELEMENTS) return false;
    float spread = 1 / sqrtf((float)(c / group * k[0] * k[1]));
    espl__value *w = random_of(r, SHAPE(oc, c / group, k[0], k[1]), spread);
    espl__node *n;
    if (chance(r, 60))
        n = NODE(r, "Conv", in, w, random_of(r, SHAPE(oc), 0.3f));
    else
        n = NODE(r, "Conv", in, w);
    if (group > 1) set_int(r, n, "group", group);
    add_window(x, n, in, k, true);
    return grew(x, n);
}

/* Along one axis, as speech networks have it, or along three. */
static inline bool add_other_rank(random_graph *x) {
    rig *r = &x->r;
    espl__value *in = live_of(x, chance(r, 80) ? 3 : 5);
    if (!in) return false;
    int spatial = in->shape.rank - 2;
    int64_t c = dim_of(in, 1), k[3], s[3], p[6] = {0}, oc = chance(r, 30) ? c : pick(r, 1, 24);
    bool pool = chance(r, 30), depthwise = !pool && chance(r, 25);
    if (pool || depthwise) oc = c;
    espl_shape w = {in->shape.rank, {oc, depthwise ? 1 : c}};
    for (int i = 0; i < spatial; i++) {
        k[i] = pick(r, 1, 5);
        w.dim[2 + i] = k[i] = ESPL_MIN(k[i], dim_of(in, 2 + i));
        s[i] = chance(r, 60) ? 1 : 2;
        if (!chance(r, 50)) continue;
        p[i] = (k[i] - 1) / 2;
        p[spatial + i] = k[i] / 2;
    }
    if (oc * elements(in) / c > MAX_ELEMENTS || espl_shape_count(&w) > MAX_ELEMENTS) return false;
    espl__node *n = pool ? NODE(r, chance(r, 50) ? "MaxPool" : "AveragePool", in)
                         : NODE(r, "Conv", in, random_of(r, w, 1 / sqrtf((float)espl_shape_count(&w) / (float)oc)), random_of(r, SHAPE(oc), 0.3f));
    if (depthwise && c > 1) set_int(r, n, "group", c);
    set_ints(r, n, "kernel_shape", spatial, k);
    set_ints(r, n, "strides", spatial, s);
    set_ints(r, n, "pads", 2 * spatial, p);
    return grew(x, n);
}

static inline bool add_pool(random_graph *x) {
    rig *r = &x->r;
    espl__value *in = live_of(x, 4);
    if (!in) return false;
    int kind = (int)pick(r, 0, 5);
    if (kind == 4) return grew(x, NODE(r, "GlobalAveragePool", in));
    if (kind == 5) return grew(x, NODE(r, "GlobalMaxPool", in));
    int64_t k[2];
    for (int i = 0; i < 2; i++) {
        k[i] = pick(r, 1, 4);
        k[i] = ESPL_MIN(k[i], dim_of(in, 2 + i));
    }
    espl__node *n = NODE(r, kind < 2 ? "MaxPool" : "AveragePool", in);
    n->opset = 19; /* dilated averages */
    if (kind >= 2 && chance(r, 50)) set_int(r, n, "count_include_pad", 1);
    if (chance(r, 40)) set_int(r, n, "ceil_mode", 1);
    add_window(x, n, in, k, true);
    return grew(x, n);
}

static inline bool add_gemm(random_graph *x) {
    rig *r = &x->r;
    espl__value *in = live_of(x, 2);
    if (!in) return false;
    bool ta = chance(r, 15), tb = chance(r, 50);
    int64_t m = dim_of(in, ta), k = dim_of(in, !ta), n = pick(r, 1, 40);
    espl__value *w = random_of(r, tb ? SHAPE(n, k) : SHAPE(k, n), 1 / sqrtf((float)k));
    espl__node *node;
    int c = (int)pick(r, 0, 6);
    espl_shape bias = c == 2 ? SHAPE(1) : c == 3 ? SHAPE(m, 1) : c == 4 ? SHAPE(m, n) : c == 5 ? SHAPE(1, n) : SHAPE(n);
    if (c == 0)
        node = NODE(r, "Gemm", in, w);
    else
        node = NODE(r, "Gemm", in, w, random_of(r, bias, 0.5f));
    if (ta) set_int(r, node, "transA", 1);
    if (tb) set_int(r, node, "transB", 1);
    if (chance(r, 15)) espl__attr_set_float(r->g, node, "alpha", 0.5f);
    if (chance(r, 15)) espl__attr_set_float(r->g, node, "beta", 2.0f);
    return grew(x, node);
}

static inline bool add_matmul(random_graph *x) {
    rig *r = &x->r;
    espl__value *in = live_of(x, -1);
    int rank = in->shape.rank;
    if (rank < 2) return false;
    int64_t k = dim_of(in, rank - 1), m = dim_of(in, rank - 2), n = pick(r, 1, 40);
    if (elements(in) / k * n > MAX_ELEMENTS) return false;
    if (chance(r, 60)) {
        espl__value *y = done_of(r, NODE(r, "MatMul", in, random_of(r, SHAPE(k, n), 1 / sqrtf((float)k))));
        if (chance(r, 50)) y = APPLY(r, "Add", y, random_of(r, SHAPE(n), 0.3f));
        x->live[x->count++] = y;
        return true;
    }
    /* The same matrix transposed: dynamic, batched; half of the time with the batch broadcast. */
    int64_t perm[ESPL_MAX_RANK];
    for (int i = 0; i < rank; i++) perm[i] = i;
    perm[rank - 1] = rank - 2;
    perm[rank - 2] = rank - 1;
    espl__node *t = NODE(r, "Transpose", in);
    set_ints(r, t, "perm", rank, perm);
    espl__value *right = done_of(r, t);
    if (rank > 2 && chance(r, 30) && m <= 64) {
        espl_shape one = {2, {k, m}};
        right = random_of(r, one, 0.3f);
    }
    if (elements(in) / k * m > MAX_ELEMENTS) return false;
    espl__value *scaled = APPLY(r, "Mul", in, scalar_of(r, 1 / sqrtf((float)k)));
    if (x->count + 1 < MAX_LIVE) x->live[x->count++] = right->constant ? in : right;
    return grew(x, NODE(r, "MatMul", scaled, right));
}

/* --- elementwise ------------------------------------------------------------------------------------------- */

static inline bool add_unary(random_graph *x) {
    static const char *const names[] = {"Relu", "Relu", "Relu", "Sigmoid", "Tanh", "HardSwish", "LeakyRelu", "Abs", "Neg", "Identity",
                                        "HardSigmoid", "Dropout", "Erf"};
    rig *r = &x->r;
    espl__value *in = live_of(x, -1);
    if (chance(r, 25)) { /* Clip in its old and its new form */
        if (chance(r, 50)) return grew(x, NODE(r, "Clip", in, scalar_of(r, -0.4f), scalar_of(r, 1.1f)));
        espl__node *n = NODE(r, "Clip", in);
        n->opset = 9;
        espl__attr_set_float(r->g, n, "min", 0);
        espl__attr_set_float(r->g, n, "max", chance(r, 50) ? 6.0f : 0.7f);
        return grew(x, n);
    }
    espl__node *n = NODE(r, names[pick(r, 0, (int64_t)ESPL_COUNT(names) - 1)], in);
    if (espl__node_is(n, "HardSwish")) n->opset = 14;
    return grew(x, n);
}

/* A shape that broadcasts to `to`. */
static inline espl_shape narrower(rig *r, const espl_shape *to) {
    int drop = (int)pick(r, 0, to->rank);
    espl_shape s = {to->rank - drop, {0}};
    for (int i = 0; i < s.rank; i++) s.dim[i] = chance(r, 50) ? 1 : to->dim[i + drop];
    return s;
}

static inline bool add_binary(random_graph *x) {
    static const char *const names[] = {"Add", "Add", "Add", "Mul", "Sub", "Max", "Min"};
    rig *r = &x->r;
    const char *op = names[pick(r, 0, (int64_t)ESPL_COUNT(names) - 1)];
    espl__value *a = live_of(x, -1), *b = NULL;
    int kind = (int)pick(r, 0, 3);
    if (kind < 2) { /* another live value of that shape, or one that broadcasts to it */
        for (int tries = 0; tries < 20 && !b; tries++) {
            espl__value *other = x->live[pick(r, 0, x->count - 1)];
            bool fits = other != a && other->shape.rank <= a->shape.rank;
            for (int d = 0; fits && d < other->shape.rank; d++) {
                int64_t have = dim_of(other, d), want = dim_of(a, d + a->shape.rank - other->shape.rank);
                fits = have == want || (kind == 1 && have == 1);
            }
            if (fits) b = other;
        }
        if (!b) return false;
    } else {
        b = kind == 2 ? random_of(r, narrower(r, &a->shape), 0.6f) : scalar_of(r, espl__rng_normal(&r->rng));
    }
    if (chance(r, 15)) return grew(x, NODE(r, op, b, a));
    return grew(x, NODE(r, op, a, b));
}

static inline bool add_batchnorm(random_graph *x) {
    rig *r = &x->r;
    espl__value *in = live_of(x, 4), *p[5];
    if (!in) return false;
    p[0] = in;
    for (int i = 1; i < 5; i++) p[i] = random_of(r, SHAPE(dim_of(in, 1)), 0.5f);
    float *var = p[4]->constant->data;
    for (int64_t c = 0; c < dim_of(in, 1); c++) var[c] = 0.5f + fabsf(var[c]);
    return grew(x, node_of(r, "BatchNormalization", 5, p, 1));
}

static inline bool add_softmax(random_graph *x) {
    rig *r = &x->r;
    espl__value *in = live_of(x, -1);
    if (in->shape.rank == 0) return false;
    espl__node *n = NODE(r, "Softmax", in);
    n->opset = chance(r, 50) ? 13 : 11;
    if (n->opset == 11 && in->shape.rank < 2) n->opset = 13;
    if (chance(r, 60)) set_int(r, n, "axis", chance(r, 40) ? -1 : pick(r, 0, in->shape.rank - 1));
    return grew(x, n);
}

/* --- moves ---------------------------------------------------------------------------------------------------- */

static inline bool add_concat(random_graph *x) {
    rig *r = &x->r;
    espl__value *a = live_of(x, -1), *in[3] = {a};
    int rank = a->shape.rank, count = 1;
    if (rank == 0 || elements(a) * 2 > MAX_ELEMENTS) return false;
    int axis = (int)pick(r, 0, rank - 1);
    for (int tries = 0; tries < 20 && count < 3; tries++) {
        espl__value *b = x->live[pick(r, 0, x->count - 1)];
        bool fits = b->shape.rank == rank && elements(b) < MAX_ELEMENTS / 2;
        for (int d = 0; fits && d < rank; d++) fits = d == axis || dim_of(b, d) == dim_of(a, d);
        if (fits) in[count++] = b;
        if (count == 2 && chance(r, 60)) break;
    }
    if (count == 1) {
        espl_shape s = a->shape;
        s.dim[axis] = pick(r, 1, 5);
        in[count++] = random_of(r, s, 0.5f);
    }
    espl__node *n = node_of(r, "Concat", count, in, 1);
    set_int(r, n, "axis", chance(r, 30) ? axis - rank : axis);
    return grew(x, n);
}

static inline bool add_slice(random_graph *x) {
    rig *r = &x->r;
    espl__value *in = live_of(x, -1);
    int rank = in->shape.rank, count = 0;
    int64_t start[ESPL_MAX_RANK], end[ESPL_MAX_RANK], axes[ESPL_MAX_RANK], step[ESPL_MAX_RANK];
    for (int d = 0; d < rank; d++) {
        int64_t n = dim_of(in, d);
        if (n < 2 || chance(r, 50)) continue;
        axes[count] = chance(r, 30) ? d - rank : d;
        step[count] = chance(r, 50) ? 1 : pick(r, 2, 3);
        start[count] = pick(r, 0, n - 2);
        end[count] = chance(r, 30) ? INT64_MAX : pick(r, start[count] + 1, n);
        if (chance(r, 40)) { /* backwards */
            step[count] = -step[count];
            start[count] = pick(r, 1, n - 1);
            end[count] = chance(r, 50) ? INT64_MIN : pick(r, 0, start[count] - 1);
        }
        count++;
    }
    if (count == 0) return false;
    return grew(x, NODE(r, "Slice", in, ints_of(r, count, start), ints_of(r, count, end), ints_of(r, count, axes),
                        ints_of(r, count, step)));
}

static inline bool add_split(random_graph *x) {
    rig *r = &x->r;
    espl__value *in = live_of(x, -1);
    if (in->shape.rank == 0) return false;
    int axis = (int)pick(r, 0, in->shape.rank - 1);
    int64_t n = dim_of(in, axis);
    if (n < 2) return false;
    int64_t first = pick(r, 1, n - 1);
    espl__value *args[2] = {in, INTS(r, first, n - first)};
    espl__node *node = node_of(r, "Split", 2, args, 2);
    set_int(r, node, "axis", axis);
    return grew(x, node);
}

static inline bool add_pad(random_graph *x) {
    static const char *const modes[] = {"constant", "constant", "constant", "reflect", "edge"};
    rig *r = &x->r;
    espl__value *in = live_of(x, -1);
    int rank = in->shape.rank;
    int64_t pads[2 * ESPL_MAX_RANK];
    const char *mode = modes[pick(r, 0, 4)];
    if (rank == 0 || elements(in) > MAX_ELEMENTS / 4) return false;
    for (int i = 0; i < 2 * rank; i++) {
        int64_t most = ESPL_MIN(2, dim_of(in, i % rank) - 1);
        pads[i] = chance(r, 40) ? pick(r, 0, most) : 0;
    }
    espl__node *n;
    if (chance(r, 50))
        n = NODE(r, "Pad", in, ints_of(r, 2 * rank, pads), scalar_of(r, chance(r, 50) ? 0 : 0.75f));
    else
        n = NODE(r, "Pad", in, ints_of(r, 2 * rank, pads));
    espl__attr_set_string(r->g, n, "mode", mode);
    return grew(x, n);
}

static inline bool add_transpose(random_graph *x) {
    rig *r = &x->r;
    espl__value *in = live_of(x, -1);
    int rank = in->shape.rank;
    int64_t perm[ESPL_MAX_RANK];
    for (int i = 0; i < rank; i++) perm[i] = i;
    for (int i = rank - 1; i > 0; i--) {
        int j = (int)pick(r, 0, i);
        int64_t t = perm[i];
        perm[i] = perm[j];
        perm[j] = t;
    }
    espl__node *n = NODE(r, "Transpose", in);
    if (rank > 0 && chance(r, 85)) set_ints(r, n, "perm", rank, perm);
    return grew(x, n);
}

/* A reshape to a random factorisation, a flatten, or an unsqueeze and a squeeze. */
static inline bool add_view(random_graph *x) {
    rig *r = &x->r;
    espl__value *in = live_of(x, -1);
    int rank = in->shape.rank;
    int kind = (int)pick(r, 0, 4);
    if (kind == 0) {
        espl__node *n = NODE(r, "Flatten", in);
        if (chance(r, 50)) set_int(r, n, "axis", pick(r, 0, rank));
        return grew(x, n);
    }
    if (kind == 1 && rank < 5) return grew(x, NODE(r, "Unsqueeze", in, INTS(r, pick(r, 0, rank))));
    if (kind == 2) {
        for (int d = 0; d < rank; d++)
            if (dim_of(in, d) == 1) return grew(x, NODE(r, "Squeeze", in, INTS(r, d)));
        return false;
    }
    int64_t left = elements(in), target[4];
    int parts = (int)pick(r, 1, 4);
    for (int i = 0; i < parts; i++) {
        int64_t f = i + 1 == parts ? left : pick(r, 1, 12);
        while (left % f) f--;
        target[i] = f;
        left /= f;
    }
    if (rank > 0 && parts > 1 && target[0] == dim_of(in, 0) && chance(r, 50)) target[0] = 0;
    if (chance(r, 50)) target[parts - 1] = -1;
    return grew(x, NODE(r, "Reshape", in, ints_of(r, parts, target)));
}

/* What has no kernel of its own and runs by the operator's reference. */
static inline bool add_other(random_graph *x) {
    rig *r = &x->r;
    espl__value *in = live_of(x, -1), *four = live_of(x, 4);
    int rank = in->shape.rank, axis = rank ? (int)pick(r, 0, rank - 1) : 0;
    if (rank == 0) return false;
    switch (pick(r, 0, 5)) {
        case 0: {
            espl__node *n = NODE(r, "ReduceMean", in);
            SET_INTS(r, n, "axes", axis);
            set_int(r, n, "keepdims", chance(r, 50));
            return grew(x, n);
        }
        case 1: {
            int64_t at[3] = {pick(r, 0, dim_of(in, axis) - 1), -1, 0};
            if (elements(in) / dim_of(in, axis) * 3 > MAX_ELEMENTS) return false;
            espl__node *n = NODE(r, "Gather", in, ints_of(r, 3, at));
            set_int(r, n, "axis", axis);
            return grew(x, n);
        }
        case 2: {
            int64_t times[ESPL_MAX_RANK];
            for (int i = 0; i < rank; i++) times[i] = i == axis ? 2 : 1;
            return elements(in) * 2 <= MAX_ELEMENTS && grew(x, NODE(r, "Tile", in, ints_of(r, rank, times)));
        }
        case 3: {
            if (!four || dim_of(four, 1) % 4) return false;
            espl__node *n = NODE(r, "DepthToSpace", four);
            set_int(r, n, "blocksize", 2);
            if (chance(r, 50)) espl__attr_set_string(r->g, n, "mode", "CRD");
            return grew(x, n);
        }
        case 4: {
            int64_t to[ESPL_MAX_RANK];
            for (int i = 0; i < rank; i++) to[i] = dim_of(in, i) == 1 && chance(r, 50) ? 3 : dim_of(in, i);
            return elements(in) <= MAX_ELEMENTS / 9 && grew(x, NODE(r, "Expand", in, ints_of(r, rank, to)));
        }
        default: {
            if (!four || elements(four) > MAX_ELEMENTS / 4) return false;
            int64_t c = dim_of(four, 1), oc = pick(r, 1, 6);
            espl__node *n = NODE(r, "ConvTranspose", four, random_of(r, SHAPE(c, oc, 2, 3), 1 / sqrtf((float)c)));
            SET_INTS(r, n, "strides", 2, 1);
            return grew(x, n);
        }
    }
}

static inline bool grow_once(random_graph *x) {
    int kind = (int)pick(&x->r, 0, 99);
    if (kind < 4) return add_other_rank(x);
    if (kind < 26) return add_conv(x);
    if (kind < 36) return add_pool(x);
    if (kind < 42) return add_gemm(x);
    if (kind < 50) return add_matmul(x);
    if (kind < 60) return add_unary(x);
    if (kind < 73) return add_binary(x);
    if (kind < 76) return x->integer_friendly ? add_conv(x) : add_batchnorm(x);
    if (kind < 78) return add_softmax(x);
    if (kind < 83) return add_concat(x);
    if (kind < 86) return add_slice(x);
    if (kind < 88) return add_split(x);
    if (kind < 91) return add_pad(x);
    if (kind < 94) return add_transpose(x);
    if (kind < 97) return add_view(x);
    return add_other(x);
}

/* The whole graph: one input, up to `nodes` nodes, one to three outputs. Destroy x->r.g. */
static inline void random_graph_of(random_graph *x, espl_context *ctx, uint64_t seed, int nodes, bool integer_friendly) {
    rig_begin(&x->r, ctx, seed);
    rig *r = &x->r;
    x->count = 0;
    x->integer_friendly = integer_friendly;
    espl_shape s = SHAPE(pick(r, 1, 3), pick(r, 1, 40), pick(r, 1, 12), pick(r, 1, 12));
    if (chance(r, 15)) s = SHAPE(pick(r, 1, 12), pick(r, 1, 40));
    if (chance(r, 12)) s = SHAPE(pick(r, 1, 3), pick(r, 1, 12), pick(r, 1, 40));
    if (chance(r, 3)) s = SHAPE(pick(r, 1, 2), pick(r, 1, 6), pick(r, 1, 5), pick(r, 1, 5), pick(r, 1, 6));
    x->live[x->count++] = input_of(r, "x", ESPL_F32, s);
    int wanted = (int)pick(r, 1, nodes);
    for (int tries = 0; tries < 200 && r->g->node_count < wanted && x->count + 4 < MAX_LIVE; tries++) (void)grow_once(x);
    espl__value *in[1] = {x->live[0]}, *out[3];
    int outputs = 0;
    for (int i = x->count - 1; i > 0 && outputs < 3; i--) {
        espl__value *v = x->live[i];
        bool again = v->is_input;
        for (int j = 0; j < outputs; j++) again |= out[j] == v;
        if (!again && (outputs == 0 || chance(r, 20))) out[outputs++] = v;
    }
    if (outputs == 0) out[outputs++] = APPLY(r, "Relu", in[0]);
    outputs_are(r, 1, in, outputs, out);
}

#endif
