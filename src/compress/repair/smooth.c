/* SmoothQuant (Xiao et al. 2022, arXiv 2211.10438, equations 3 and 4).
 *
 * A few channels of a transformer's activations are far larger than the rest, and one scale for all leaves
 * the rest few codes. X W = (X S^-1)(S W) moves the difficulty into the weights:
 *
 *   s_j = max|X_j|^alpha / max|W_j|^(1 - alpha)
 *
 * over the calibration data, and over all products that read the same X (query, key and value). S^-1 goes
 * into what makes X: the vectors of a normalisation, a Mul or Add by a vector, a linear layer, each through
 * Relu and Transpose. Where that cannot be, a Mul is put before the product, if channels differ enough to pay
 * for it: the largest max|X_j| is more than OUTLIER times their mean. */
#include <math.h>

#include "compress/repair/linear.h"
#include "passes/passes.h"

enum { OUTLIER = 8, DEEPEST = 16 };

/* Products that read one value. */
typedef struct reader_group {
    espl__value *x;
    espl__linear *readers;
    int count;
} reader_group;

/* --- S^-1 into what makes X -------------------------------------------------------------------------- */

typedef struct fold {
    espl_graph *g;
    const float *s;
    int64_t channels;
    bool dry; /* only whether it is possible */
    bool nomem;
} fold;

static bool into(fold *f, espl__value *v, int axis, int depth);

/* Divides a constant whose last (or only) axis is that of the channels; other nodes keep the old one. */
static bool divide_vector(fold *f, espl__value **place) {
    espl__value *v = *place;
    if (!v || !v->constant || v->dtype != ESPL_F32 || v->shape.rank < 1 || espl__is_quantized(v) ||
        espl_shape_count(&v->shape) != f->channels || v->shape.dim[v->shape.rank - 1] != f->channels)
        return false;
    if (f->dry) return true;
    espl__value *own = espl__graph_constant(f->g, NULL, v->constant);
    if (!own) {
        f->nomem = true;
        return false;
    }
    float *x = own->constant->data;
    for (int64_t c = 0; c < f->channels; c++) x[c] /= f->s[c];
    *place = own;
    return true;
}

static bool into_linear(fold *f, espl__node *n, int axis, int rank) {
    espl__linear l;
    if (!espl__linear_of(f->g, n, &l) || l.outputs != f->channels || axis != espl__linear_axis(&l, rank))
        return false;
    float *bias = espl__alloc(f->g->arena.ctx, (uint64_t)f->channels * sizeof *bias);
    bool good = bias && espl__linear_bias(f->g, &l, bias);
    f->nomem |= !bias;
    l.add = NULL; /* the Add has been dealt with on the way here */
    float *w = good && !f->dry ? espl__linear_own_weights(f->g, &l) : NULL;
    for (int64_t c = 0; w && c < l.outputs; c++) {
        for (int64_t k = 0; k < espl__linear_k(&l); k++) w[espl__linear_at(&l, c, k)] /= f->s[c];
        bias[c] /= f->s[c];
    }
    if (good && !f->dry) good = w && espl__linear_set_bias(f->g, &l, bias);
    f->nomem |= good != true && !f->dry;
    espl__free(f->g->arena.ctx, bias);
    return good;
}

/* y = x + v or x * v by a constant vector along the last axis. */
static bool into_binary(fold *f, espl__node *n, int axis, int rank, int depth) {
    int side = n->inputs[0]->constant ? 0 : 1;
    if (axis != rank - 1 || !n->inputs[side]->constant) return false;
    espl__value *other = n->inputs[1 - side];
    if (espl__node_is(n, "Mul")) return other->shape.rank == rank && divide_vector(f, &n->inputs[side]);
    bool dry = f->dry, good;
    f->dry = true; /* both or none */
    good = divide_vector(f, &n->inputs[side]) && into(f, other, axis, depth + 1);
    f->dry = dry;
    return good && (dry || (divide_vector(f, &n->inputs[side]) && into(f, other, axis, depth + 1)));
}

static bool into_norm(fold *f, espl__node *n, bool right_axis) {
    bool bias = n->input_count > 2 && n->inputs[2], dry = f->dry;
    if (!right_axis) return false;
    f->dry = true;
    bool good = divide_vector(f, &n->inputs[1]) && (!bias || divide_vector(f, &n->inputs[2]));
    f->dry = dry;
    return good && (dry || (divide_vector(f, &n->inputs[1]) && (!bias || divide_vector(f, &n->inputs[2]))));
}

static bool into_node(fold *f, espl__node *n, int axis, int rank, int depth) {
    if (espl__node_is(n, "Relu") || espl__node_is(n, "LeakyRelu") || espl__node_is(n, "Identity"))
        return into(f, n->inputs[0], axis, depth + 1);
    if (espl__node_is(n, "Transpose")) {
        int64_t perm[ESPL_MAX_RANK];
        if (espl__attr_ints(n, "perm", perm, ESPL_MAX_RANK) != rank) return false;
        return into(f, n->inputs[0], (int)perm[axis], depth + 1);
    }
    if (espl__node_is(n, "LayerNormalization")) {
        int64_t first = espl__attr_int(n, "axis", -1);
        return into_norm(f, n,
                         axis == rank - 1 && (first == -1 || first == rank - 1) && n->output_count == 1);
    }
    if (espl__node_is(n, "BatchNormalization")) return into_norm(f, n, axis == 1 && n->output_count == 1);
    if (espl__node_is(n, "Add") || espl__node_is(n, "Mul")) return into_binary(f, n, axis, rank, depth);
    return into_linear(f, n, axis, rank);
}

/* Divides value v along its axis by s, by changing what makes it. Below the first its only reader must be the
 * node that asks. */
static bool into(fold *f, espl__value *v, int axis, int depth) {
    if (!v->producer || !v->known_rank || depth > DEEPEST || espl__graph_is_output(f->g, v)) return false;
    if (depth && !espl__graph_only_reader(f->g, v)) return false;
    return into_node(f, v->producer, axis, v->shape.rank, depth);
}

/* --- groups ------------------------------------------------------------------------------------------ */

static int find_groups(const espl_graph *g, reader_group *groups, espl__linear *room) {
    int count = 0;
    for (int i = 0; i < g->value_count; i++) {
        reader_group *r = &groups[count];
        *r = (reader_group){g->values[i], room, 0};
        if (r->x->constant) continue;
        for (int k = 0; k < g->node_count; k++) {
            espl__linear *l = &room[r->count];
            if (g->nodes[k]->input_count < 2 || g->nodes[k]->inputs[0] != r->x) continue;
            if (!espl__linear_of(g, g->nodes[k], l) || l->conv) continue;
            if (r->count && l->inputs != r->readers[0].inputs) continue;
            r->count++;
        }
        room += r->count;
        count += r->count > 0;
    }
    return count;
}

/* Largest |w| that reads input j. */
static float weights_of(const reader_group *r, int64_t j) {
    float most = 0;
    for (int i = 0; i < r->count; i++) {
        const espl__linear *l = &r->readers[i];
        const float *w = l->w->constant->data;
        for (int64_t o = 0; o < l->outputs; o++) most = fmaxf(most, fabsf(w[espl__linear_at(l, o, j)]));
    }
    return most;
}

/* The factors; whether some channels stand out. */
static bool factors(const reader_group *r, const espl__channels *seen, double alpha, float *s) {
    double sum = 0, most = 0;
    for (int64_t j = 0; j < seen->channels; j++) {
        double x = fmax(fabs((double)seen->least[j]), fabs((double)seen->most[j])), w = weights_of(r, j);
        s[j] = x > 0 && w > 0 ? (float)(pow(x, alpha) / pow(w, 1 - alpha)) : 1;
        if (!(s[j] >= 1e-5f) || !(s[j] <= 1e5f)) s[j] = 1;
        sum += x;
        most = fmax(most, x);
    }
    return most * (double)seen->channels > OUTLIER * sum;
}

/* x * 1/s before the readers. */
static bool put_mul(espl_graph *g, const reader_group *r, const float *s, int64_t channels) {
    const espl__op *mul = espl__op_find("", "Mul");
    espl_tensor *t = espl__graph_tensor(g, ESPL_F32, &(espl_shape){1, {channels}}, NULL);
    espl__value *v = t ? espl__graph_constant(g, NULL, t) : NULL, *y = espl__graph_value(g, NULL);
    espl__node *n = v && y ? espl__graph_node(g, mul, "", 2, 1, 0) : NULL;
    if (!n) return false;
    for (int64_t j = 0; j < channels; j++) ((float *)v->constant->data)[j] = 1 / s[j];
    y->dtype = ESPL_F32;
    y->shape = r->x->shape;
    y->known_rank = r->x->known_rank;
    n->opset = g->opset;
    n->inputs[0] = r->x;
    n->inputs[1] = v;
    espl__node_set_output(n, 0, y);
    for (int i = 0; i < r->count; i++) r->readers[i].node->inputs[0] = y;
    return true;
}

static bool multiply_readers(espl_graph *g, const reader_group *r, const float *s) {
    for (int i = 0; i < r->count; i++) {
        espl__linear *l = &r->readers[i];
        l->w = l->node->inputs[1];
        float *w = espl__linear_own_weights(g, l);
        if (!w) return false;
        for (int64_t o = 0; o < l->outputs; o++)
            for (int64_t j = 0; j < l->inputs; j++) w[espl__linear_at(l, o, j)] *= s[j];
    }
    return true;
}

static bool smooth_group(const espl__repair_task *t, const reader_group *r, const espl__channels *seen,
                         double alpha, float *s) {
    espl_graph *g = t->graph;
    bool outliers = factors(r, seen, alpha, s);
    fold f = {.g = g, .s = s, .channels = seen->channels, .dry = true};
    espl__graph_count_uses(g);
    bool folds = r->x->uses == r->count && into(&f, r->x, r->x->shape.rank - 1, 0);
    if (!folds && (!outliers || f.nomem)) return !f.nomem;
    f.dry = false;
    return (folds ? into(&f, r->x, r->x->shape.rank - 1, 0) : put_mul(g, r, s, seen->channels)) &&
           multiply_readers(g, r, s);
}

espl_status espl__repair_SMOOTH(const espl__repair_task *t, const espl__repair *r, espl_diag *diag) {
    espl_status status = ESPL_OK;
    espl_graph *g = t->graph;
    uint64_t values = (uint64_t)g->value_count + 1, nodes = (uint64_t)g->node_count + 1;
    reader_group *groups = espl__calloc(t->ctx, values, sizeof *groups);
    espl__linear *room = espl__calloc(t->ctx, nodes, sizeof *room);
    espl__tap *taps = espl__calloc(t->ctx, values, sizeof *taps);
    int *axes = espl__calloc(t->ctx, values, sizeof *axes), count = 0;
    espl__channels *seen = espl__calloc(t->ctx, values, sizeof *seen);
    float *s = NULL;
    int64_t widest = 1;
    if (!groups || !room || !taps || !axes || !seen) {
        status = espl__nomem(diag, values * sizeof *seen);
        goto done;
    }
    count = find_groups(g, groups, room);
    for (int i = 0; i < count; i++) {
        taps[i].value = groups[i].x->id;
        axes[i] = -1;
        widest = ESPL_MAX(widest, groups[i].readers[0].inputs);
    }
    s = espl__calloc(t->ctx, (uint64_t)widest, sizeof *s);
    if (!s) status = espl__nomem(diag, (uint64_t)widest * sizeof *s);
    if (status == ESPL_OK && count)
        status = espl__flow_channels(t, g, taps, axes, count, t->count, seen, diag);
    for (int i = 0; i < count && status == ESPL_OK; i++) {
        if (seen[i].channels != groups[i].readers[0].inputs) continue;
        if (!smooth_group(t, &groups[i], &seen[i], r->number, s)) status = espl__nomem(diag, 0);
    }
    if (status == ESPL_OK) status = espl__graph_verify(g, diag);
done:
    espl__channels_free(t->ctx, seen, count);
    espl__free(t->ctx, groups);
    espl__free(t->ctx, room);
    espl__free(t->ctx, taps);
    espl__free(t->ctx, axes);
    espl__free(t->ctx, seen);
    espl__free(t->ctx, s);
    return status;
}
