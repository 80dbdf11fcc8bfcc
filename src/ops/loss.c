/* NegativeLogLikelihoodLoss and SoftmaxCrossEntropyLoss. With x of shape N x C x D1 x ... and a class t for
 * each place:
 *
 *   loss = -weight[t] x[n, t, d]       weight 1 without weights; 0 where t is ignore_index
 *   none: the losses      sum: their sum      mean: their sum over the sum of the weights taken
 *
 * SoftmaxCrossEntropyLoss takes log(softmax(x)) along axis 1 first, which is its second output. A class that
 * is out of range is refused where it is constant; one that only a run knows makes the loss NaN. */
#include "ops/loss.h"

#include <inttypes.h>
#include <math.h>

enum { X, TARGET, WEIGHT };
typedef espl__op_loss loss;

espl_status espl__loss_read(const espl__node *node, const espl_shape *x, loss *out, espl_diag *diag) {
    static const char *const names[] = {"none", "sum", "mean"};
    const char *how = espl__attr_string(node, "reduction", "mean");
    const espl__attr *ignored = espl__attr_find(node, "ignore_index");
    *out = (loss){.ignores = ignored && ignored->kind == ESPL__ATTR_INT};
    if (out->ignores) out->ignored = ignored->i;
    if (x) {
        out->classes = x->dim[1];
        out->plane = espl__dims_product(x, 2, x->rank);
    }
    for (size_t i = 0; i < ESPL_COUNT(names); i++)
        if (strcmp(how, names[i]) == 0) {
            out->reduction = (espl__loss_reduction)i;
            return ESPL_OK;
        }
    return espl__fail(diag, ESPL_FORMAT, "%s: reduction '%.40s' is none of none, sum and mean",
                      node->op->name, how);
}

/* --- inference ------------------------------------------------------------------------------- */

/* The target has the shape of x without its axis 1, the weights have one element a class. */
static espl_status check_shapes(const espl__node *node, espl_diag *diag) {
    const espl__value *x = node->inputs[X], *t = node->inputs[TARGET], *w = espl__in(node, WEIGHT);
    char have[160], want[160];
    if (!x->known_rank) return ESPL_OK;
    if (w && w->known_rank && !espl__dims_agree(w->shape.dim[0], x->shape.dim[1]))
        return espl__fail(diag, ESPL_SHAPE, "%s: %" PRId64 " weights for %" PRId64 " classes", node->op->name,
                          w->shape.dim[0], x->shape.dim[1]);
    if (!t->known_rank) return ESPL_OK;
    bool fits = t->shape.rank == x->shape.rank - 1;
    for (int i = 0; fits && i < t->shape.rank; i++)
        fits = espl__dims_agree(t->shape.dim[i], x->shape.dim[i + (i > 0)]);
    if (fits) return ESPL_OK;
    return espl__fail(diag, ESPL_SHAPE, "%s: classes of shape %s do not fit scores of shape %s",
                      node->op->name, espl_shape_text(&t->shape, have, sizeof have),
                      espl_shape_text(&x->shape, want, sizeof want));
}

static espl_status check_classes(const espl__node *node, const loss *l, espl_diag *diag) {
    const espl__value *x = node->inputs[X];
    const espl_tensor *t = node->inputs[TARGET]->constant;
    if (!t || !x->known_rank || x->shape.dim[1] < 0) return ESPL_OK;
    for (int64_t i = 0, n = espl_shape_count(&t->shape); i < n; i++) {
        int64_t class = espl__index_at(t, i);
        if ((class >= 0 && class < x->shape.dim[1]) || (l->ignores && class == l->ignored)) continue;
        return espl__fail(diag, ESPL_SHAPE, "%s: class %" PRId64 " is out of range for %" PRId64 " classes",
                          node->op->name, class, x->shape.dim[1]);
    }
    return ESPL_OK;
}

static espl_status set_loss(const espl__node *node, const loss *l, espl_diag *diag) {
    const espl__value *x = node->inputs[X], *t = node->inputs[TARGET];
    espl_shape y = {0};
    if (l->reduction != ESPL__LOSS_EACH) return espl__set_out(node, 0, ESPL_F32, &y, diag);
    if (t->known_rank) return espl__set_out(node, 0, ESPL_F32, &t->shape, diag);
    if (!x->known_rank) return espl__set_unknown(node, 0, ESPL_F32);
    y.rank = x->shape.rank - 1;
    for (int i = 0; i < y.rank; i++) y.dim[i] = x->shape.dim[i + (i > 0)];
    return espl__set_out(node, 0, ESPL_F32, &y, diag);
}

static espl_status infer(const espl__node *node, espl_diag *diag) {
    espl_status status;
    loss l;
    ESPL_TRY(espl__op_begin(node, diag));
    ESPL_TRY(espl__check_dtype(node, X, ESPL__T(F32), diag));
    ESPL_TRY(espl__check_dtype(node, TARGET, ESPL__T(S32) | ESPL__T(S64), diag));
    ESPL_TRY(espl__check_dtype(node, WEIGHT, ESPL__T(F32), diag));
    ESPL_TRY(espl__check_rank(node, X, 2, ESPL_MAX_RANK, diag));
    ESPL_TRY(espl__check_rank(node, WEIGHT, 1, 1, diag));
    ESPL_TRY(espl__loss_read(node, NULL, &l, diag));
    ESPL_TRY(check_shapes(node, diag));
    ESPL_TRY(check_classes(node, &l, diag));
    ESPL_TRY(set_loss(node, &l, diag));
    const espl__value *x = node->inputs[X];
    if (espl__out(node, 1))
        status = x->known_rank ? espl__set_out(node, 1, ESPL_F32, &x->shape, diag)
                               : espl__set_unknown(node, 1, ESPL_F32);
done:
    return status;
}

/* --- evaluation ------------------------------------------------------------------------------ */

/* Sums in double: a mean over an image has many terms. */
typedef struct totals {
    double loss, weight;
} totals;

/* The loss of place i, whose log-probability of its class is `score`. */
static float add_place(const loss *l, const espl_tensor *in, int64_t class, float score, totals *sum) {
    const float *w = in[WEIGHT].data;
    if (l->ignores && class == l->ignored) return 0;
    float weight = class < 0 || class >= l->classes ? NAN : w ? w[class] : 1.0f;
    float value = -score * weight;
    sum->loss += (double)value;
    sum->weight += (double)weight;
    return value;
}

/* An absent optional input at the end of the list has no tensor at all. */
static bool begin(const espl__node *node, const espl_tensor *in, loss *l, espl_tensor *args) {
    args[X] = in[X];
    args[TARGET] = in[TARGET];
    args[WEIGHT] = node->input_count > WEIGHT ? in[WEIGHT] : (espl_tensor){0};
    return espl__loss_read(node, &in[X].shape, l, NULL) == ESPL_OK;
}

static void finish(const loss *l, const totals *sum, espl_tensor *out) {
    if (l->reduction == ESPL__LOSS_SUM) *(float *)out->data = (float)sum->loss;
    if (l->reduction == ESPL__LOSS_MEAN) *(float *)out->data = (float)(sum->loss / sum->weight);
}

static void eval_nll(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)scratch;
    loss l;
    totals sum = {0};
    espl_tensor args[3];
    if (!begin(node, in, &l, args)) return;
    const float *x = in[X].data;
    float *y = out[0].data;
    for (int64_t i = 0, n = espl_shape_count(&in[TARGET].shape); i < n; i++) {
        int64_t class = espl__index_at(&in[TARGET], i), sample = i / l.plane, place = i % l.plane;
        bool inside = class >= 0 && class < l.classes;
        float score = inside ? x[(sample * l.classes + class) * l.plane + place] : 0.0f;
        float value = add_place(&l, args, class, score, &sum);
        if (l.reduction == ESPL__LOSS_EACH) y[i] = value;
    }
    finish(&l, &sum, &out[0]);
}

/* The scratch holds the scores of one place and their logarithms. */
static void eval_sce(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    loss l;
    totals sum = {0};
    espl_tensor args[3];
    if (!begin(node, in, &l, args)) return;
    float *y = out[0].data, *logs = node->output_count > 1 ? out[1].data : NULL;
    float *row = scratch, *result = row + l.classes;
    for (int64_t i = 0, n = espl_shape_count(&in[TARGET].shape); i < n; i++) {
        int64_t class = espl__index_at(&in[TARGET], i), at = i / l.plane * l.classes * l.plane + i % l.plane;
        for (int64_t c = 0; c < l.classes; c++) row[c] = ((const float *)in[X].data)[at + c * l.plane];
        espl__log_softmax(row, result, l.classes);
        for (int64_t c = 0; logs && c < l.classes; c++) logs[at + c * l.plane] = result[c];
        float score = class >= 0 && class < l.classes ? result[class] : 0.0f;
        float value = add_place(&l, args, class, score, &sum);
        if (l.reduction == ESPL__LOSS_EACH) y[i] = value;
    }
    finish(&l, &sum, &out[0]);
}

static uint64_t scratch_bytes(const espl__node *node) {
    const espl_shape *x = &node->inputs[X]->shape;
    return espl_shape_count(x) == 0 ? 0 : 2 * sizeof(float) * (uint64_t)x->dim[1];
}

const espl__op espl__op_NegativeLogLikelihoodLoss = {
    .name = "NegativeLogLikelihoodLoss",
    .domain = "",
    .min_inputs = 2,
    .max_inputs = 3,
    .min_outputs = 1,
    .max_outputs = 1,
    .since = 12,
    .until = 21,
    .infer = infer,
    .eval = eval_nll,
    .quant = ESPL__QUANT_FLOAT,
};
const espl__op espl__op_SoftmaxCrossEntropyLoss = {
    .name = "SoftmaxCrossEntropyLoss",
    .domain = "",
    .min_inputs = 2,
    .max_inputs = 3,
    .min_outputs = 1,
    .max_outputs = 2,
    .since = 12,
    .until = 21,
    .infer = infer,
    .eval = eval_sce,
    .scratch_bytes = scratch_bytes,
    .quant = ESPL__QUANT_FLOAT,
};
