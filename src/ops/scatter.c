/* ScatterElements (Scatter in operator sets 9 and 10) and ScatterND: a copy of the data, with updates put at
 * the places that the indices say, or combined with what is there. Updates go in order, so that of several
 * for one place the last one stays. Indices count from the end if they are negative; out of range they are
 * refused where they are constant, and their updates are left out where only a run knows them. */
#include "ops/scatter.h"

enum { DATA, INDICES, UPDATES };
typedef espl__scatter_reduction reduction;

/* add and mul came with operator set 16, max and min with 18. */
static espl_status read_reduction(const espl__node *node, reduction *out, espl_diag *diag) {
    static const char *const names[] = {"none", "add", "mul", "max", "min"};
    const char *how = espl__attr_string(node, "reduction", "none");
    *out = ESPL__SCATTER_NONE;
    for (size_t i = 0; i < ESPL_COUNT(names); i++)
        if (strcmp(how, names[i]) == 0) {
            *out = (reduction)i;
            return ESPL_OK;
        }
    return espl__fail(diag, ESPL_FORMAT, "%s: reduction '%.40s' is none of none, add, mul, max and min",
                      node->op->name, how);
}

static espl_status begin(const espl__node *node, espl_diag *diag) {
    espl_status status;
    reduction how;
    const uint32_t numbers = ESPL__T_INT | ESPL__T(U64) | ESPL__T_FLOAT;
    ESPL_TRY(espl__op_begin(node, diag));
    ESPL_TRY(espl__check_same_dtype(node, DATA, UPDATES, diag));
    ESPL_TRY(read_reduction(node, &how, diag));
    if (how != ESPL__SCATTER_NONE) ESPL_TRY(espl__check_dtype(node, DATA, numbers, diag));
    status = espl__set_like_input(node, node->inputs[DATA]->dtype, diag);
done:
    return status;
}

/* --- one element ----------------------------------------------------------------------------- */

static double combine_f64(reduction how, double x, double u) {
    switch (how) {
        case ESPL__SCATTER_ADD:
            return x + u;
        case ESPL__SCATTER_MUL:
            return x * u;
        case ESPL__SCATTER_MAX:
            return u > x || u != u ? u : x;
        case ESPL__SCATTER_MIN:
            return u < x || u != u ? u : x;
        default:
            return u;
    }
}

/* Integers wrap; a u64 is larger than another if it is so with both top bits turned. */
static int64_t combine_s64(reduction how, bool is_u64, int64_t x, int64_t u) {
    uint64_t turn = is_u64 ? (uint64_t)1 << 63 : 0;
    bool larger = (int64_t)((uint64_t)u ^ turn) > (int64_t)((uint64_t)x ^ turn);
    switch (how) {
        case ESPL__SCATTER_ADD:
            return (int64_t)((uint64_t)x + (uint64_t)u);
        case ESPL__SCATTER_MUL:
            return (int64_t)((uint64_t)x * (uint64_t)u);
        case ESPL__SCATTER_MAX:
            return larger ? u : x;
        case ESPL__SCATTER_MIN:
            return larger ? x : u;
        default:
            return u;
    }
}

/* y takes in n updates. The sum and the product of two floats in double, rounded once, are those of their own
 * type. */
static void put(reduction how, espl_dtype dtype, void *y, const void *updates, int64_t n) {
    if (how == ESPL__SCATTER_NONE) {
        memcpy(y, updates, (size_t)n * espl_dtype_bytes(dtype));
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        void *at = espl__at_mut(y, dtype, i);
        const void *from = espl__at(updates, dtype, i);
        double x, u;
        int64_t k, m;
        if (espl_dtype_is_float(dtype)) {
            espl__load_f64(dtype, at, 0, 1, &x);
            espl__load_f64(dtype, from, 0, 1, &u);
            x = combine_f64(how, x, u);
            espl__store_f64(dtype, &x, 1, at);
        } else {
            espl__load_s64(dtype, at, 0, 1, &k);
            espl__load_s64(dtype, from, 0, 1, &m);
            k = combine_s64(how, dtype == ESPL_U64, k, m);
            espl__store_s64(dtype, &k, 1, at);
        }
    }
}

static void copy_data(const espl_tensor *in, espl_tensor *out) {
    size_t bytes = (size_t)espl_shape_count(&out->shape) * espl_dtype_bytes(out->dtype);
    if (bytes) memcpy(out->data, in->data, bytes);
}

/* --- ScatterElements ------------------------------------------------------------------------- */

static espl_status infer_elements(const espl__node *node, espl_diag *diag) {
    espl_status status;
    int axis;
    ESPL_TRY(begin(node, diag));
    ESPL_TRY(espl__check_dtype(node, INDICES, ESPL__T(S32) | ESPL__T(S64), diag));
    const espl__value *x = node->inputs[DATA], *indices = node->inputs[INDICES], *u = node->inputs[UPDATES];
    if (!x->known_rank) return ESPL_OK;
    ESPL_TRY(espl__axis(espl__attr_int(node, "axis", 0), x->shape.rank, &axis, diag));
    ESPL_TRY(espl__check_rank(node, INDICES, x->shape.rank, x->shape.rank, diag));
    ESPL_TRY(espl__check_rank(node, UPDATES, x->shape.rank, x->shape.rank, diag));
    if (!indices->known_rank) return ESPL_OK;
    for (int i = 0; i < x->shape.rank; i++) {
        int64_t d = indices->shape.dim[i];
        bool fits = i == axis || d < 0 || x->shape.dim[i] < 0 || d <= x->shape.dim[i];
        if (!fits || (u->known_rank && !espl__dims_agree(d, u->shape.dim[i])))
            return espl__fail(diag, ESPL_SHAPE, "%s: the indices do not fit the %s along axis %d",
                              node->op->name, fits ? "updates" : "data", i);
    }
    int64_t d = x->shape.dim[axis], count = indices->constant ? espl_shape_count(&indices->shape) : 0;
    for (int64_t i = 0; d >= 0 && i < count; i++)
        ESPL_TRY(espl__check_index(node, espl__index_at(indices->constant, i), d, diag));
done:
    return status;
}

static int64_t next_element(espl__scatter *s) {
    int64_t d = s->x->dim[s->axis], to = espl__index_at(s->indices, s->i++), at = 0;
    bool inside = to >= -d && to < d;
    const espl_shape *shape = &s->indices->shape;
    for (int k = 0; inside && k < shape->rank; k++)
        at += (k == s->axis ? espl__index_within(to, d) : s->index[k]) * s->stride[k];
    for (int k = shape->rank - 1; k >= 0 && ++s->index[k] == shape->dim[k]; k--) s->index[k] = 0;
    return inside ? at : -1;
}

/* --- ScatterND ------------------------------------------------------------------------------- */

/* The last axis of the indices holds tuples that address the first axes of the data; updates are what lies
 * below. */
static espl_status check_updates(const espl__node *node, int tuple, espl_diag *diag) {
    const espl_shape *x = &node->inputs[DATA]->shape, *indices = &node->inputs[INDICES]->shape;
    const espl__value *u = node->inputs[UPDATES];
    espl_shape want = *indices;
    char have[160], text[160];
    want.rank--;
    for (int i = tuple; i < x->rank && want.rank < ESPL_MAX_RANK; i++) want.dim[want.rank++] = x->dim[i];
    if (!u->known_rank) return ESPL_OK;
    bool fits = u->shape.rank == want.rank && indices->rank - 1 + x->rank - tuple == want.rank;
    for (int i = 0; fits && i < want.rank; i++) fits = espl__dims_agree(u->shape.dim[i], want.dim[i]);
    if (fits) return ESPL_OK;
    return espl__fail(diag, ESPL_SHAPE, "ScatterND: updates of shape %s where %s is expected",
                      espl_shape_text(&u->shape, have, sizeof have),
                      espl_shape_text(&want, text, sizeof text));
}

static espl_status infer_nd(const espl__node *node, espl_diag *diag) {
    espl_status status;
    ESPL_TRY(begin(node, diag));
    ESPL_TRY(espl__check_dtype(node, INDICES, ESPL__T(S64), diag));
    ESPL_TRY(espl__check_rank(node, DATA, 1, ESPL_MAX_RANK, diag));
    ESPL_TRY(espl__check_rank(node, INDICES, 1, ESPL_MAX_RANK, diag));
    const espl__value *x = node->inputs[DATA], *indices = node->inputs[INDICES];
    if (!x->known_rank || !indices->known_rank) return ESPL_OK;
    int64_t tuple = indices->shape.dim[indices->shape.rank - 1];
    if (tuple < 0) return ESPL_OK;
    if (tuple < 1 || tuple > x->shape.rank)
        return espl__fail(diag, ESPL_SHAPE,
                          "ScatterND: the last axis of the indices does not address the data");
    ESPL_TRY(check_updates(node, (int)tuple, diag));
    int64_t count = indices->constant ? espl_shape_count(&indices->shape) : 0;
    for (int64_t i = 0; i < count; i++) {
        int64_t d = x->shape.dim[i % tuple];
        if (d >= 0) ESPL_TRY(espl__check_index(node, espl__index_at(indices->constant, i), d, diag));
    }
done:
    return status;
}

static int64_t next_tuple(espl__scatter *s) {
    int64_t at = 0;
    bool inside = true;
    for (int k = 0; k < s->tuple; k++) {
        int64_t to = espl__index_at(s->indices, s->i * s->tuple + k);
        inside = inside && to >= -s->x->dim[k] && to < s->x->dim[k];
        at += espl__index_within(to, s->x->dim[k]) * s->stride[k];
    }
    s->i++;
    return inside ? at : -1;
}

/* --- both ------------------------------------------------------------------------------------ */

espl_status espl__scatter_begin(const espl__node *node, const espl_shape *x, const espl_tensor *indices,
                                espl__scatter *s, espl_diag *diag) {
    espl_status status;
    const espl_shape *shape = &indices->shape;
    *s = (espl__scatter){.x = x, .indices = indices, .each = 1, .count = espl_shape_count(shape)};
    ESPL_TRY(read_reduction(node, &s->how, diag));
    espl__strides(x, s->stride);
    if (espl__node_is(node, "ScatterND")) {
        s->tuple = (int)shape->dim[shape->rank - 1];
        s->count = espl__dims_product(shape, 0, shape->rank - 1);
        s->each = espl__dims_product(x, s->tuple, x->rank);
    } else {
        ESPL_TRY(espl__axis(espl__attr_int(node, "axis", 0), shape->rank, &s->axis, diag));
    }
done:
    return status;
}

int64_t espl__scatter_next(espl__scatter *s) {
    return s->tuple ? next_tuple(s) : next_element(s);
}

static void eval(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)scratch;
    espl__scatter s;
    espl_dtype dtype = out[0].dtype;
    copy_data(&in[DATA], &out[0]);
    if (espl__is_empty(&out[0]) ||
        espl__scatter_begin(node, &out[0].shape, &in[INDICES], &s, NULL) != ESPL_OK)
        return;
    for (int64_t i = 0; i < s.count; i++) {
        int64_t at = espl__scatter_next(&s);
        if (at >= 0)
            put(s.how, dtype, espl__at_mut(out[0].data, dtype, at),
                espl__at(in[UPDATES].data, dtype, i * s.each), s.each);
    }
}

#define DEFINE_OP(Name, first, last, infer_fn)           \
    const espl__op espl__op_##Name = {.name = #Name,     \
                                      .domain = "",      \
                                      .min_inputs = 3,   \
                                      .max_inputs = 3,   \
                                      .min_outputs = 1,  \
                                      .max_outputs = 1,  \
                                      .since = first,    \
                                      .until = last,     \
                                      .infer = infer_fn, \
                                      .eval = eval,      \
                                      .quant = ESPL__QUANT_FLOAT};
DEFINE_OP(Scatter, 9, 10, infer_elements)
DEFINE_OP(ScatterElements, 11, 21, infer_elements)
DEFINE_OP(ScatterND, 11, 21, infer_nd)
