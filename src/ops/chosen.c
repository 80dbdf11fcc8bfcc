/* Operators whose results are as long as their inputs' data say: NonZero, Compress, Unique,
 * NonMaxSuppression. Inference leaves that length open; `bound` says how long it can be, and the reference
 * what it is. */
#include "ops/ops.h"

#include <math.h>

#define NUMBERS (ESPL__T_INT | ESPL__T_FLOAT | ESPL__T(BOOL) | ESPL__T(U64))

static int64_t most_elements(const espl__value *v) {
    int64_t count = v->known_rank ? espl_shape_count(&v->shape) : -1;
    return count;
}

/* --- an order ---------------------------------------------------------------------------------------- */

static void sink(int64_t *heap, int64_t at, int64_t count, espl__before before, const void *of) {
    for (int64_t child; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count && before(of, heap[child], heap[child + 1])) child++;
        if (!before(of, heap[at], heap[child])) return;
        int64_t moved = heap[at];
        heap[at] = heap[child];
        heap[child] = moved;
    }
}

/* Heapsort of the numbers 0 to count - 1: in place, and inside the array whatever `before` says of NaN. */
void espl__order(int64_t *order, int64_t count, espl__before before, const void *of) {
    for (int64_t i = 0; i < count; i++) order[i] = i;
    for (int64_t i = count / 2 - 1; i >= 0; i--) sink(order, i, count, before, of);
    for (int64_t i = count - 1; i > 0; i--) {
        int64_t last = order[0];
        order[0] = order[i];
        order[i] = last;
        sink(order, 0, i, before, of);
    }
}

/* --- NonZero ----------------------------------------------------------------------------------------- */

static espl_status infer_nonzero(const espl__node *node, espl_diag *diag) {
    espl_status status;
    ESPL_TRY(espl__op_begin(node, diag));
    ESPL_TRY(espl__check_dtype(node, 0, NUMBERS, diag));
    const espl__value *x = node->inputs[0];
    if (!x->known_rank) return espl__set_unknown(node, 0, ESPL_S64);
    espl_shape y = {2, {ESPL_MAX(x->shape.rank, 1), ESPL_DIM_UNKNOWN}};
    status = espl__set_out(node, 0, ESPL_S64, &y, diag);
done:
    return status;
}

static void bound_nonzero(const espl__node *node, espl_shape *most) {
    most[0] = (espl_shape){2, {ESPL_MAX(node->inputs[0]->shape.rank, 1), most_elements(node->inputs[0])}};
}

static bool is_set(espl_dtype dtype, const void *data, int64_t at) {
    if (espl_dtype_is_float(dtype)) {
        double x;
        espl__load_f64(dtype, espl__at(data, dtype, at), 0, 1, &x);
        return x != 0;
    }
    int64_t x;
    espl__load_s64(dtype, espl__at(data, dtype, at), 0, 1, &x);
    return x != 0;
}

static void eval_nonzero(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)node, (void)scratch;
    const espl_shape *x = &in[0].shape;
    int64_t n = espl_shape_count(x), found = 0, stride[ESPL_MAX_RANK], *y = out[0].data;
    for (int64_t i = 0; i < n; i++) found += is_set(in[0].dtype, in[0].data, i);
    out[0].shape.dim[1] = found;
    espl__strides(x, stride);
    for (int64_t i = 0, k = 0; i < n; i++) {
        if (!is_set(in[0].dtype, in[0].data, i)) continue;
        for (int d = 0; d < x->rank; d++) y[d * found + k] = i / stride[d] % x->dim[d];
        if (x->rank == 0) y[k] = 0;
        k++;
    }
}

/* --- Compress ---------------------------------------------------------------------------------------- */

/* Output 0: the input with as many rows along 'axis' as are kept; without an axis a list of elements. */
static espl_status infer_kept_rows(const espl__node *node, espl_diag *diag) {
    espl_status status;
    int axis = 0;
    const espl__value *x = node->inputs[0];
    espl_shape y = {1, {ESPL_DIM_UNKNOWN}};
    if (!espl__attr_find(node, "axis")) return espl__set_out(node, 0, x->dtype, &y, diag);
    if (!x->known_rank) return espl__set_unknown(node, 0, x->dtype);
    ESPL_TRY(espl__axis(espl__attr_int(node, "axis", 0), x->shape.rank, &axis, diag));
    y = x->shape;
    y.dim[axis] = ESPL_DIM_UNKNOWN;
    status = espl__set_out(node, 0, x->dtype, &y, diag);
done:
    return status;
}

static espl_status infer_compress(const espl__node *node, espl_diag *diag) {
    espl_status status;
    ESPL_TRY(espl__op_begin(node, diag));
    ESPL_TRY(espl__check_dtype(node, 1, ESPL__T(BOOL), diag));
    ESPL_TRY(espl__check_rank(node, 1, 1, 1, diag));
    status = infer_kept_rows(node, diag);
done:
    return status;
}

/* The input as rows: outer x n x inner, of which rows of the middle are kept. */
typedef struct rows {
    int axis; /* -1: the input laid flat */
    int64_t outer, n, inner;
} rows;

static rows rows_of(const espl__node *node, const espl_shape *x) {
    rows r = {-1, 1, espl_shape_count(x), 1};
    if (!espl__attr_find(node, "axis") ||
        espl__axis(espl__attr_int(node, "axis", 0), x->rank, &r.axis, NULL) != ESPL_OK)
        return r;
    r.outer = espl__dims_product(x, 0, r.axis);
    r.n = x->dim[r.axis];
    r.inner = espl__dims_product(x, r.axis + 1, x->rank);
    return r;
}

static void bound_compress(const espl__node *node, espl_shape *most) {
    const espl__value *x = node->inputs[0];
    int64_t conditions = most_elements(node->inputs[1]);
    rows r = rows_of(node, &x->shape);
    most[0] = r.axis < 0 ? (espl_shape){1, {0}} : x->shape;
    most[0].dim[ESPL_MAX(r.axis, 0)] = ESPL_MIN(conditions, r.n);
}

static void copy_row(const rows *r, const espl_tensor *in, int64_t from, espl_tensor *out, int64_t to,
                     int64_t count) {
    size_t bytes = (size_t)r->inner * espl_dtype_bytes(in->dtype);
    if (espl__is_empty(in) || !bytes) return;
    for (int64_t o = 0; o < r->outer; o++)
        memcpy((char *)out->data + (size_t)(o * count + to) * bytes,
               (const char *)in->data + (size_t)(o * r->n + from) * bytes, bytes);
}

static void eval_compress(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)scratch;
    rows r = rows_of(node, &in[0].shape);
    const uint8_t *keep = in[1].data;
    int64_t n = ESPL_MIN(espl_shape_count(&in[1].shape), r.n), count = 0, to = 0;
    for (int64_t i = 0; i < n; i++) count += keep[i] != 0;
    out[0].shape.dim[ESPL_MAX(r.axis, 0)] = count;
    for (int64_t i = 0; i < n; i++)
        if (keep[i]) copy_row(&r, &in[0], i, &out[0], to++, count);
}

/* --- Unique ------------------------------------------------------------------------------------------ */

static espl_status infer_unique(const espl__node *node, espl_diag *diag) {
    espl_status status;
    ESPL_TRY(espl__op_begin(node, diag));
    ESPL_TRY(espl__check_dtype(node, 0, NUMBERS, diag));
    espl_shape list = {1, {ESPL_DIM_UNKNOWN}};
    for (int i = 1; i < 4; i++) ESPL_TRY(espl__set_out(node, i, ESPL_S64, &list, diag));
    status = infer_kept_rows(node, diag);
done:
    return status;
}

static void bound_unique(const espl__node *node, espl_shape *most) {
    rows r = rows_of(node, &node->inputs[0]->shape);
    for (int i = 0; i < node->output_count; i++) most[i] = (espl_shape){1, {r.n}};
    if (r.axis >= 0) most[0] = node->inputs[0]->shape;
}

typedef struct items {
    rows r;
    const espl_tensor *x;
} items;

/* -1, 0 or 1; NaN is one number, the largest. */
static int order_of(espl_dtype dtype, const void *data, int64_t a, int64_t b) {
    if (espl_dtype_is_float(dtype)) {
        double x, y;
        espl__load_f64(dtype, espl__at(data, dtype, a), 0, 1, &x);
        espl__load_f64(dtype, espl__at(data, dtype, b), 0, 1, &y);
        if (isnan(x) || isnan(y)) return (isnan(x) != 0) - (isnan(y) != 0);
        return (x > y) - (x < y);
    }
    int64_t x, y;
    espl__load_s64(dtype, espl__at(data, dtype, a), 0, 1, &x);
    espl__load_s64(dtype, espl__at(data, dtype, b), 0, 1, &y);
    if (dtype == ESPL_U64) return ((uint64_t)x > (uint64_t)y) - ((uint64_t)x < (uint64_t)y);
    return (x > y) - (x < y);
}

static int compare_items(const items *all, int64_t a, int64_t b) {
    const rows *r = &all->r;
    for (int64_t o = 0; o < r->outer; o++)
        for (int64_t i = 0; i < r->inner; i++) {
            int order = order_of(all->x->dtype, all->x->data, (o * r->n + a) * r->inner + i,
                                 (o * r->n + b) * r->inner + i);
            if (order) return order;
        }
    return 0;
}

static bool item_before(const void *of, int64_t a, int64_t b) {
    int order = compare_items(of, a, b);
    return order < 0 || (order == 0 && a < b);
}

/* Three numbers for each item: the order, the first item that equals it, and that one's place in the result.
 */
static uint64_t unique_scratch(const espl__node *node) {
    rows r = rows_of(node, &node->inputs[0]->shape);
    return 3 * sizeof(int64_t) * (uint64_t)ESPL_MAX(r.n, 0);
}

static void eval_unique(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    items all = {rows_of(node, &in[0].shape), &in[0]};
    int64_t n = all.r.n, *order = scratch, *first = order + n, *place = first + n, count = 0;
    bool sorted = espl__attr_int(node, "sorted", 1) != 0;
    if (espl__is_empty(&in[0])) all.r.outer = all.r.inner = 0;
    espl__order(order, n, item_before, &all);
    for (int64_t i = 0; i < n; i++) {
        bool same = i > 0 && compare_items(&all, order[i - 1], order[i]) == 0;
        first[order[i]] = same ? first[order[i - 1]] : order[i];
        if (!same) place[order[i]] = count++;
    }
    for (int64_t i = 0, k = 0; i < n && !sorted; i++)
        if (first[i] == i) place[i] = k++;
    int64_t *lists[4] = {NULL};
    for (int i = 1; i < node->output_count; i++) {
        lists[i] = out[i].data;
        out[i].shape.dim[0] = i == 2 ? n : count;
    }
    out[0].shape.dim[ESPL_MAX(all.r.axis, 0)] = count;
    for (int64_t i = 0; lists[3] && i < count; i++) lists[3][i] = 0;
    for (int64_t i = 0; i < n; i++) {
        int64_t at = place[first[i]];
        if (first[i] == i) copy_row(&all.r, &in[0], i, &out[0], at, count);
        if (first[i] == i && lists[1]) lists[1][at] = i;
        if (lists[2]) lists[2][i] = at;
        if (lists[3]) lists[3][at]++;
    }
}

/* --- NonMaxSuppression ------------------------------------------------------------------------------- */

static espl_status check_number(const espl__node *node, int i, espl_dtype dtype, espl_diag *diag) {
    const espl__value *v = espl__in(node, i);
    espl_status status = espl__check_dtype(node, i, 1u << dtype, diag);
    if (status != ESPL_OK || !v || !v->known_rank || espl_shape_count(&v->shape) < 0 ||
        espl_shape_count(&v->shape) == 1)
        return status;
    return espl__fail(diag, ESPL_SHAPE, "NonMaxSuppression: input %d is not one number", i);
}

static espl_status infer_nms(const espl__node *node, espl_diag *diag) {
    espl_status status;
    ESPL_TRY(espl__op_begin(node, diag));
    for (int i = 0; i < 2; i++) {
        ESPL_TRY(espl__check_dtype(node, i, ESPL__T(F32), diag));
        ESPL_TRY(espl__check_rank(node, i, 3, 3, diag));
    }
    ESPL_TRY(check_number(node, 2, ESPL_S64, diag));
    for (int i = 3; i < 5; i++) ESPL_TRY(check_number(node, i, ESPL_F32, diag));
    const espl__value *boxes = node->inputs[0], *scores = node->inputs[1];
    if (boxes->known_rank && scores->known_rank &&
        (!espl__dims_agree(boxes->shape.dim[0], scores->shape.dim[0]) ||
         !espl__dims_agree(boxes->shape.dim[1], scores->shape.dim[2]) ||
         !espl__dims_agree(boxes->shape.dim[2], 4)))
        return espl__fail(diag, ESPL_SHAPE, "NonMaxSuppression: boxes and scores do not fit each other");
    status = espl__set_out(node, 0, ESPL_S64, &(espl_shape){2, {ESPL_DIM_UNKNOWN, 3}}, diag);
done:
    return status;
}

static void bound_nms(const espl__node *node, espl_shape *most) {
    const espl_shape *scores = &node->inputs[1]->shape;
    int64_t boxes = scores->dim[2];
    const espl__value *limit = espl__in(node, 2);
    if (!limit) boxes = 0;
    if (limit && limit->constant && espl_shape_count(&limit->constant->shape) == 1)
        boxes = ESPL_MAX(ESPL_MIN(boxes, *(const int64_t *)limit->constant->data), 0);
    most[0] = (espl_shape){2, {espl__mul_sat(espl__mul_sat(scores->dim[0], scores->dim[1]), boxes), 3}};
}

static bool score_before(const void *of, int64_t a, int64_t b) {
    const float *score = of;
    return score[a] > score[b] || (score[a] == score[b] && a < b);
}

static uint64_t nms_scratch(const espl__node *node) {
    return sizeof(int64_t) * (uint64_t)ESPL_MAX(node->inputs[1]->shape.dim[2], 0);
}

/* Lower and upper corner: [y1, x1, y2, x2] in any order, or [x, y, width, height] of the middle. */
static void corners(const float *box, bool middle, float lo[2], float hi[2]) {
    for (int i = 0; i < 2; i++) {
        float a = middle ? box[1 - i] - box[3 - i] / 2 : box[i],
              b = middle ? box[1 - i] + box[3 - i] / 2 : box[2 + i];
        lo[i] = fminf(a, b);
        hi[i] = fmaxf(a, b);
    }
}

/* Intersection over union of two boxes. */
static float overlap(const float *a, const float *b, bool middle) {
    float lo[2][2], hi[2][2];
    corners(a, middle, lo[0], hi[0]);
    corners(b, middle, lo[1], hi[1]);
    float h = fminf(hi[0][0], hi[1][0]) - fmaxf(lo[0][0], lo[1][0]),
          w = fminf(hi[0][1], hi[1][1]) - fmaxf(lo[0][1], lo[1][1]);
    float area[2];
    for (int i = 0; i < 2; i++) area[i] = (hi[i][0] - lo[i][0]) * (hi[i][1] - lo[i][1]);
    if (!(h > 0 && w > 0) || area[0] <= 0 || area[1] <= 0) return 0;
    return h * w / (area[0] + area[1] - h * w);
}

static float number_or(const espl__node *node, const espl_tensor *in, int i, float otherwise) {
    return espl__in(node, i) ? *(const float *)in[i].data : otherwise;
}

static void eval_nms(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    const espl_shape *s = &in[1].shape;
    int64_t n = s->dim[2], classes = s->dim[1], *order = scratch, *y = out[0].data, found = 0,
            room = out[0].shape.dim[0];
    int64_t most = espl__in(node, 2) ? *(const int64_t *)in[2].data : 0;
    float threshold = number_or(node, in, 3, 0), least = number_or(node, in, 4, -INFINITY);
    bool middle = espl__attr_int(node, "center_point_box", 0) != 0;
    if (espl__is_empty(&in[1])) n = classes = 0;
    for (int64_t c = 0; c < (classes ? s->dim[0] * classes : 0); c++) {
        const float *score = (const float *)in[1].data + c * n,
                    *boxes = (const float *)in[0].data + c / classes * n * 4;
        int64_t begin = found;
        espl__order(order, n, score_before, score);
        for (int64_t i = 0; i < n && found - begin < most && found < room; i++) {
            bool good = espl__in(node, 4) ? score[order[i]] > least : true;
            for (int64_t k = begin; good && k < found; k++)
                good = !(overlap(boxes + order[i] * 4, boxes + y[3 * k + 2] * 4, middle) > threshold);
            if (!good) continue;
            y[3 * found] = c / classes;
            y[3 * found + 1] = c % classes;
            y[3 * found++ + 2] = order[i];
        }
    }
    out[0].shape.dim[0] = found;
}

#define DEFINE_CHOSEN(Name, least, most, outputs, first, key, scratch_fn) \
    const espl__op espl__op_##Name = {.name = #Name,                      \
                                      .domain = "",                       \
                                      .min_inputs = least,                \
                                      .max_inputs = most,                 \
                                      .min_outputs = 1,                   \
                                      .max_outputs = outputs,             \
                                      .since = first,                     \
                                      .until = 21,                        \
                                      .infer = infer_##key,               \
                                      .bound = bound_##key,               \
                                      .eval = eval_##key,                 \
                                      .scratch_bytes = scratch_fn,        \
                                      .quant = ESPL__QUANT_FLOAT};
DEFINE_CHOSEN(NonZero, 1, 1, 1, 9, nonzero, NULL)
DEFINE_CHOSEN(Compress, 2, 2, 1, 9, compress, NULL)
DEFINE_CHOSEN(Unique, 1, 1, 4, 11, unique, unique_scratch)
DEFINE_CHOSEN(NonMaxSuppression, 2, 5, 1, 10, nms, nms_scratch)
