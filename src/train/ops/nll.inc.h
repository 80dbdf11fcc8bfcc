/* Logarithms of the softmax of one place, `plane` apart in x. */
static void FN(log_softmax)(const espl__op_loss *l, const REAL *x, REAL *to) {
    REAL top = -(REAL)INFINITY;
    double sum = 0;
    for (int64_t k = 0; k < l->classes; k++) top = x[k * l->plane] > top ? x[k * l->plane] : top;
    for (int64_t k = 0; k < l->classes; k++) sum += exp((double)(x[k * l->plane] - top));
    for (int64_t k = 0; k < l->classes; k++) to[k] = (REAL)((double)(x[k * l->plane] - top) - log(sum));
}

/* Of the class at place i: 0 where it is ignored, no number where there is no such class. */
static REAL FN(weight_of)(const espl__call *c, int64_t class) {
    const espl__op_loss *l = c->state;
    if (l->ignores && class == l->ignored) return 0;
    if (class < 0 || class >= l->classes) return (REAL)NAN;
    return c->inputs > WEIGHT && c->in[WEIGHT].data ? ((const REAL *)c->in[WEIGHT].data)[class] : 1;
}

static int64_t FN(place_of)(const espl__op_loss *l, int64_t i) {
    return i / l->plane * l->classes * l->plane + i % l->plane;
}

static void FN(nll)(espl__call *c, bool softmax) {
    const espl__op_loss *l = c->state;
    REAL *row = c->scratch, *y = c->out[0].data, *logs = c->outputs > 1 ? c->out[1].data : NULL;
    double sum = 0, weights = 0;
    for (int64_t i = 0, n = espl_shape_count(&c->in[TARGET].shape); i < n; i++) {
        int64_t class = espl__index_at(&c->in[TARGET], i), at = FN(place_of)(l, i);
        bool inside = class >= 0 && class < l->classes;
        const REAL *x = (const REAL *)c->in[X].data + at;
        REAL weight = FN(weight_of)(c, class), score = !softmax && inside ? x[class * l->plane] : 0;
        if (softmax) {
            FN(log_softmax)(l, x, row);
            score = inside ? row[class] : 0;
        }
        for (int64_t k = 0; softmax && logs && k < l->classes; k++) logs[at + k * l->plane] = row[k];
        REAL value = weight == 0 ? 0 : -score * weight;
        if (l->reduction == ESPL__LOSS_EACH && y) y[i] = value;
        sum += (double)value;
        weights += (double)weight;
    }
    if (l->reduction == ESPL__LOSS_EACH || !y) return;
    *y = (REAL)(l->reduction == ESPL__LOSS_SUM ? sum : sum / weights);
}

/* What a place's loss counts in the result: dy, divided by the sum of weights in a mean. */
static REAL FN(share_of_place)(const espl__call *c, int64_t i, double weights) {
    const espl__op_loss *l = c->state;
    const REAL *dy = c->dout[0].data;
    if (!dy) return 0;
    if (l->reduction == ESPL__LOSS_EACH) return dy[i];
    return l->reduction == ESPL__LOSS_SUM ? *dy : (REAL)((double)*dy / weights);
}

/* loss = -w x_t: dx_t = -w dy. With p = softmax(x), dx = w dy (p - onehot(t)), and of the logarithms, which
 * are an output too, dx = dlog - p sum of dlog. */
static void FN(place_back)(const espl__call *c, int64_t i, double weights, bool softmax) {
    const espl__op_loss *l = c->state;
    int64_t class = espl__index_at(&c->in[TARGET], i), at = FN(place_of)(l, i);
    REAL weight = FN(weight_of)(c, class), dy = weight == 0 ? 0 : weight * FN(share_of_place)(c, i, weights);
    REAL *row = c->scratch, *dx = (REAL *)c->din->data + at;
    const REAL *dlog = softmax && c->outputs > 1 ? c->dout[1].data : NULL;
    double sum = 0;
    if (softmax) FN(log_softmax)(l, (const REAL *)c->in[X].data + at, row);
    for (int64_t k = 0; dlog && k < l->classes; k++) sum += (double)dlog[at + k * l->plane];
    for (int64_t k = 0; k < l->classes; k++) {
        REAL p = softmax ? M(exp)(row[k]) : 0, d = dy * (p - (k == class ? 1 : 0));
        if (dlog) d += dlog[at + k * l->plane] - p * (REAL)sum;
        dx[k * l->plane] = c->add & 1 ? dx[k * l->plane] + d : d;
    }
}

static void FN(nll_back)(espl__call *c, bool softmax) {
    int64_t n = espl_shape_count(&c->in[TARGET].shape);
    double weights = 0;
    for (int64_t i = 0; i < n; i++) weights += (double)FN(weight_of)(c, espl__index_at(&c->in[TARGET], i));
    for (int64_t i = 0; i < n; i++) FN(place_back)(c, i, weights, softmax);
}
