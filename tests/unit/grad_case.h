/* Cases of the gradient check, written as text:
 *
 *     {"Conv", "2,4,5,5 6,2,3,3 6", "group=2 pads=1,1,0,1"}
 *
 * Inputs: dimensions of random normal numbers; before them `p` positive ones, `u` between -0.9 and 0.9, `g`
 * from 1.2 to 3, `k` positive and constant, `b` booleans (constant). `i` integers (a constant vector), `s` an
 * integer (a constant scalar), `f` a float (a constant scalar), `v` floats (a constant vector), `n` indices
 * below the number behind "<": n2,3<7 (an input). `r` so many regions in an image of that size (constant).
 * `-`: absent. Attributes: integers, floats (with a point), lists (with a comma), texts (behind a quote);
 * "@12" is the operator set, "outputs" how many there are. */
#ifndef GRAD_CASE_H
#define GRAD_CASE_H

#include "graph_build.h"
#include "train/engine_impl.h"

enum { GRAD_CASE_INPUTS = 8 };

typedef struct grad_case {
    const char *op, *inputs, *attributes;
} grad_case;

typedef struct grad_built {
    rig r;
    const grad_case *from;
    int count;                             /* graph inputs */
    espl__value *inputs[GRAD_CASE_INPUTS]; /* graph inputs */
    double *data[GRAD_CASE_INPUTS];        /* what they hold */
    espl__node *node;                      /* the first of two that read the same; NULL: of several */
    int outputs;
} grad_built;

static inline int numbers_of(const char *text, double *out, int max) {
    int n = 0;
    for (const char *at = text; *at && n < max;) {
        char *end;
        out[n++] = strtod(at, &end);
        if (end == at) fail_msg("no number: %s", text);
        at = *end == ',' ? end + 1 : "";
    }
    return n;
}

static inline espl_shape shape_of(const char *text) {
    double d[ESPL_MAX_RANK];
    espl_shape s = {0};
    if (strcmp(text, "scalar") == 0) return s;
    s.rank = numbers_of(text, d, ESPL_MAX_RANK);
    for (int i = 0; i < s.rank; i++) s.dim[i] = (int64_t)d[i];
    return s;
}

static inline double draw(rig *r, char kind, double below) {
    double u = (espl__rng_u32(&r->rng) + 0.5) / 4294967296.0;
    if (kind == 'p' || kind == 'k') return 0.5 + 1.5 * u;
    if (kind == 'u') return 1.8 * u - 0.9;
    if (kind == 'g') return 1.2 + 1.8 * u;
    if (kind == 'n') return floor(u * below);
    return (double)espl__rng_normal(&r->rng);
}

/* x1, y1, x2, y2 of each, partly outside. */
static inline espl__value *regions(rig *r, espl_shape s) {
    espl__value *v = constant_of(r, ESPL_F32, SHAPE(s.dim[0], 4), NULL);
    for (int64_t i = 0; i < 4 * s.dim[0]; i++) {
        double u = (draw(r, 'u', 0) + 0.9) / 1.8, size = (double)s.dim[1];
        ((float *)v->constant->data)[i] = (float)(i % 4 < 2 ? 0.5 * size * u - 0.5 : size * (0.6 + 0.5 * u));
    }
    return v;
}

static inline espl__value *fixed_input(grad_built *b, char kind, const char *text) {
    rig *r = &b->r;
    double d[64];
    if (kind == 'f') return scalar_of(r, strtof(text, NULL));
    if (kind == 'i' || kind == 's') {
        int64_t v[64];
        int n = numbers_of(text, d, 64);
        for (int i = 0; i < n; i++) v[i] = (int64_t)d[i];
        return constant_of(r, ESPL_S64, kind == 's' ? (espl_shape){0} : SHAPE(n), v);
    }
    if (kind == 'v') {
        float v[64];
        int n = numbers_of(text, d, 64);
        for (int i = 0; i < n; i++) v[i] = (float)d[i];
        return constant_of(r, ESPL_F32, SHAPE(n), v);
    }
    if (kind == 'r') return regions(r, shape_of(text));
    espl_shape s = shape_of(text);
    espl__value *v = constant_of(r, kind == 'b' ? ESPL_BOOL : ESPL_F32, s, NULL);
    for (int64_t i = 0; i < espl_shape_count(&s); i++) {
        if (kind == 'b')
            ((uint8_t *)v->constant->data)[i] = draw(r, 'u', 0) > 0;
        else
            ((float *)v->constant->data)[i] = (float)draw(r, kind, 0);
    }
    return v;
}

static inline espl__value *case_input(grad_built *b, char *word) {
    rig *r = &b->r;
    char kind = strchr("pugkbisfnvr", *word) && *word != 's' ? *word++
                : *word == 's' && word[1] != 'c'             ? *word++
                                                             : ' ';
    if (kind && strchr("kbisfvr", kind)) return fixed_input(b, kind, word);
    char name[16], *less = strchr(word, '<');
    double below = less ? strtod(less + 1, NULL) : 0;
    if (less) *less = 0;
    snprintf(name, sizeof name, "x%d", b->count);
    espl__value *v = input_of(r, name, kind == 'n' ? ESPL_S64 : ESPL_F32, shape_of(word));
    int64_t n = espl_shape_count(&v->shape);
    double *x = b->data[b->count] = calloc((size_t)n + 1, sizeof *x);
    for (int64_t i = 0; i < n; i++) x[i] = (double)(float)draw(r, kind, below);
    return b->inputs[b->count++] = v;
}

static inline void case_attribute(grad_built *b, espl__node *n, char *word) {
    char *value = strchr(word, '=');
    if (!value) fail_msg("no attribute: %s", word);
    *value++ = 0;
    double d[16];
    int64_t v[16];
    if (*value == '\'') {
        assert_true(espl__attr_set_string(b->r.g, n, word, value + 1));
    } else if (strchr(value, ',')) {
        int count = numbers_of(value, d, 16);
        for (int i = 0; i < count; i++) v[i] = (int64_t)d[i];
        set_ints(&b->r, n, word, count, v);
    } else if (strchr(value, '.')) {
        assert_true(espl__attr_set_float(b->r.g, n, word, strtof(value, NULL)));
    } else {
        set_int(&b->r, n, word, strtoll(value, NULL, 10));
    }
}

/* What the engine makes one node of, or several nodes; there is no reference. */
static inline espl__value *fused(grad_built *b, espl__value **in, int inputs) {
    rig *r = &b->r;
    if (strcmp(b->from->op, "Linear") == 0) return APPLY(r, "Add", in[2], APPLY(r, "MatMul", in[0], in[1]));
    if (strcmp(b->from->op, "Unpooled") == 0) { /* by the indices of a MaxPool of the same windows */
        espl__node *pool = node_of(r, "MaxPool", 1, in, 2);
        espl__node *back = node_of(r, "MaxUnpool", 2, pool->outputs, 1);
        for (int i = 0; i < 2; i++) {
            set_ints(r, i ? back : pool, "kernel_shape", in[0]->shape.rank - 2, (int64_t[]){2, 2, 2});
            set_ints(r, i ? back : pool, "strides", in[0]->shape.rank - 2, (int64_t[]){2, 2, 2});
            done_of(r, i ? back : pool);
        }
        return back->outputs[0];
    }
    espl__value *y = APPLY(r, "BatchNormalization", in[0], in[1], in[2], in[3], in[4]);
    if (inputs > 5) y = APPLY(r, "Add", in[5], y);
    return APPLY(r, "Relu", y);
}

/* The network that is the case's node twice, reading the same values: their gradients are sums. `last`:
 * inputs that can lie channels-last do. */
static inline void build_case(grad_built *b, espl_context *ctx, const grad_case *from, uint64_t seed,
                              bool last) {
    char words[512], *save = NULL;
    espl__value *in[GRAD_CASE_INPUTS] = {NULL}, *out[16];
    int inputs = 0, opset = 18, outputs = 1, outs = 0;
    *b = (grad_built){.from = from};
    rig_begin(&b->r, ctx, seed);
    snprintf(words, sizeof words, "%s", from->inputs);
    for (char *w = strtok_r(words, " ", &save); w; w = strtok_r(NULL, " ", &save), inputs++)
        in[inputs] = strcmp(w, "-") == 0 ? NULL : case_input(b, w);
    const char *text = strstr(from->attributes, "outputs=");
    if (text) outputs = atoi(text + 8);
    text = strchr(from->attributes, '@');
    if (text) opset = atoi(text + 1);
    b->r.g->opset = opset;
    espl__value *read[GRAD_CASE_INPUTS];
    for (int i = 0; i < inputs; i++) {
        read[i] = in[i];
        if (!last || !in[i] || in[i]->constant || in[i]->dtype != ESPL_F32 || in[i]->shape.rank < 3 ||
            in[i]->shape.rank > 5)
            continue;
        espl__node *same = NODE(&b->r, "AveragePool", in[i]);
        same->opset = opset;
        set_ints(&b->r, same, "kernel_shape", in[i]->shape.rank - 2, (int64_t[]){1, 1, 1});
        read[i] = done_of(&b->r, same);
    }
    for (int twice = 0; twice < 2; twice++) {
        if (!espl__op_find("", from->op)) {
            out[outs++] = fused(b, read, inputs);
            continue;
        }
        espl__node *n = node_of(&b->r, from->op, inputs, read, outputs);
        n->opset = opset;
        snprintf(words, sizeof words, "%s", from->attributes);
        for (char *w = strtok_r(words, " ", &save); w; w = strtok_r(NULL, " ", &save))
            if (*w != '@' && strncmp(w, "outputs=", 8) != 0) case_attribute(b, n, w);
        done_of(&b->r, n);
        for (int i = 0; i < outputs; i++)
            if (n->outputs[i]->dtype == ESPL_F32) out[outs++] = n->outputs[i];
        if (!twice) b->node = n;
    }
    b->outputs = outs;
    outputs_are(&b->r, b->count, b->inputs, outs, out);
}

static inline void free_case(grad_built *b) {
    for (int i = 0; i < b->count; i++) free(b->data[i]);
    espl_graph_destroy(&b->r.g);
}

#endif
