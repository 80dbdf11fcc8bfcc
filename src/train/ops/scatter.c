/* Scatter, ScatterElements and ScatterND. Without a reduction a place of the data belongs to the last update
 * that went there. A sum gives all its terms the gradient of the place, a product each the product of the
 * others, a maximum or minimum shares it among equals. Places have scratch of their own. */
#include "ops/scatter.h"

#include "train/ops/loops.h"

enum { DATA, INDICES, UPDATES };

/* Of a place: the update's element that it has, -1: none (NONE); how many of its factors are 0, or equal to
 * the result; and the product of the others. */
typedef struct place {
    int64_t number;
    double product;
} place;

static espl_status prepare(espl__call *c, espl_diag *diag) {
    espl__scatter s;
    c->forward_bytes = espl__scratch_bytes(c->node);
    c->backward_bytes = (uint64_t)espl_shape_count(&c->in->shape) * sizeof(place);
    return espl__scatter_begin(c->node, &c->in->shape, &c->in[INDICES], &s, diag);
}

/* One factor, term or candidate x of a place. */
static void count_in(espl__scatter_reduction how, place *p, double x, double y) {
    if (how == ESPL__SCATTER_MUL) {
        p->number += x == 0;
        p->product *= x == 0 ? 1 : x;
    } else if (how == ESPL__SCATTER_MAX || how == ESPL__SCATTER_MIN) {
        p->number += x == y;
    }
}

/* The derivative of a place's result by x, one of what it was made from. */
static double slope(espl__scatter_reduction how, const place *p, double x, double y) {
    if (how == ESPL__SCATTER_MUL) {
        if (p->number == 0) return p->product / x;
        return p->number == 1 && x == 0 ? p->product : 0;
    }
    if (how == ESPL__SCATTER_MAX || how == ESPL__SCATTER_MIN) return x == y ? 1 / (double)p->number : 0;
    return 1;
}

static void look(const espl__call *c, espl__scatter *s, place *places) {
    espl__scatter walk = *s;
    for (int64_t i = 0, n = espl_shape_count(&c->in->shape); i < n; i++) {
        places[i] = (place){s->how == ESPL__SCATTER_NONE ? -1 : 0, 1};
        count_in(s->how, &places[i], espl__real_at(&c->in[DATA], i), espl__real_at(c->out, i));
    }
    for (int64_t i = 0; i < s->count; i++) {
        int64_t at = espl__scatter_next(&walk);
        for (int64_t j = 0; at >= 0 && j < s->each; j++) {
            if (s->how == ESPL__SCATTER_NONE) places[at + j].number = i * s->each + j;
            count_in(s->how, &places[at + j], espl__real_at(&c->in[UPDATES], i * s->each + j),
                     espl__real_at(c->out, at + j));
        }
    }
}

/* din[input][i] of what place `at` was made from. */
static void give(const espl__call *c, espl__scatter_reduction how, const place *places, int input, int64_t i,
                 int64_t at) {
    const espl_tensor *to = &c->din[input];
    double d = 0, x = espl__real_at(&c->in[input], i);
    bool owns = how != ESPL__SCATTER_NONE || (at >= 0 && places[at].number == (input == DATA ? -1 : i));
    if (at >= 0 && owns)
        d = espl__real_at(c->dout, at) * slope(how, &places[at], x, espl__real_at(c->out, at));
    espl__real_put(to, i, c->add >> input & 1 ? espl__real_at(to, i) + d : d);
}

static void backward(espl__call *c) {
    espl__scatter s;
    place *places = c->scratch;
    if (espl__scatter_begin(c->node, &c->in->shape, &c->in[INDICES], &s, NULL) != ESPL_OK) return;
    if (espl__is_empty(c->out)) {
        if (c->din[UPDATES].data && !(c->add >> UPDATES & 1))
            memset(c->din[UPDATES].data, 0, espl__tensor_bytes(&c->din[UPDATES]));
        return;
    }
    look(c, &s, places);
    for (int64_t i = 0, n = espl_shape_count(&c->in->shape); c->din[DATA].data && i < n; i++)
        give(c, s.how, places, DATA, i, i);
    for (int64_t i = 0; c->din[UPDATES].data && i < s.count; i++) {
        int64_t at = espl__scatter_next(&s);
        for (int64_t j = 0; j < s.each; j++)
            give(c, s.how, places, UPDATES, i * s.each + j, at < 0 ? -1 : at + j);
    }
}

#define DEFINE(Name)                       \
    const espl__grad espl__grad_##Name = { \
        .op = #Name, .inputs = 5, .reads_in = 7, .reads_out = 1, .prepare = prepare, .backward = backward};
DEFINE(Scatter)
DEFINE(ScatterElements)
DEFINE(ScatterND)
