/* Einsum: sums of products over labelled axes. passes/einsum.c makes MatMul and the like of what has that
 * form; this is the reference of all, one loop nest over every label: those of the result outside, the summed
 * ones inside. */
#include "ops/einsum.h"

#include <inttypes.h>

/* Labels: a letter is itself, the k-th axis from the right of an ellipsis is ELLIPSIS + k. */
enum { MAX_OPERANDS = ESPL__EINSUM_OPERANDS, MAX_LABELS = ESPL__EINSUM_LABELS, ELLIPSIS = 128 };

typedef struct term {
    int count; /* of labels, at most ESPL_MAX_RANK */
    int label[ESPL_MAX_RANK];
    bool dots;
} term;

typedef espl__einsum_loops loops;

static bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* One side of a comma. `rank` says how many axes the ellipsis has; -1 (of the result): `dots`. */
static espl_status read_term(const char **at, int rank, int dots, term *t, espl_diag *diag) {
    const char *s = *at;
    int letters = 0, width = 0;
    for (const char *c = s; *c && *c != ',' && *c != '-'; c++) letters += is_letter(*c);
    *t = (term){.dots = false};
    for (; *s && *s != ',' && *s != '-'; s++) {
        if (*s == ' ') continue;
        if (is_letter(*s) && t->count < ESPL_MAX_RANK) {
            t->label[t->count++] = *s;
        } else if (strncmp(s, "...", 3) == 0 && !t->dots) {
            t->dots = true;
            width = rank < 0 ? dots : rank - letters;
            if (width < 0 || t->count + width > ESPL_MAX_RANK) break;
            for (int k = width - 1; k >= 0; k--) t->label[t->count++] = ELLIPSIS + k;
            s += 2;
        } else {
            return espl__fail(diag, ESPL_FORMAT, "Einsum: the equation cannot be read at '%.20s'", s);
        }
    }
    *at = s;
    if (width < 0 || t->count > ESPL_MAX_RANK || (rank >= 0 && t->count != rank) ||
        (*s && *s != ',' && *s != '-'))
        return espl__fail(diag, ESPL_SHAPE,
                          "Einsum: a term of the equation does not fit its operand of %d dimensions", rank);
    return ESPL_OK;
}

static int find_label(const loops *l, int label) {
    for (int i = 0; i < l->labels; i++)
        if (l->label[i] == label) return i;
    return -1;
}

static espl_status add_label(loops *l, int label, espl_diag *diag) {
    if (find_label(l, label) >= 0) return ESPL_OK;
    if (l->labels == MAX_LABELS)
        return espl__fail(diag, ESPL_UNSUPPORTED, "Einsum: more than %d labels are not supported",
                          MAX_LABELS);
    l->label[l->labels++] = label;
    return ESPL_OK;
}

static int times_used(const term *terms, int count, int label) {
    int n = 0;
    for (int t = 0; t < count; t++)
        for (int i = 0; i < terms[t].count; i++) n += terms[t].label[i] == label;
    return n;
}

/* Without "->": the ellipsis, then what occurs once, in alphabetical order. */
static espl_status implicit_result(const term *terms, int count, int dots, loops *l, espl_diag *diag) {
    espl_status status = ESPL_OK;
    for (int k = dots - 1; k >= 0; k--) ESPL_TRY(add_label(l, ELLIPSIS + k, diag));
    for (int c = 'A'; c <= 'z'; c++)
        if (times_used(terms, count, c) == 1) ESPL_TRY(add_label(l, c, diag));
done:
    return status;
}

static espl_status explicit_result(const char *at, const term *terms, int count, int dots, loops *l,
                                   espl_diag *diag) {
    espl_status status = ESPL_OK;
    term result;
    ESPL_TRY(read_term(&at, -1, dots, &result, diag));
    if (*at) return espl__fail(diag, ESPL_FORMAT, "Einsum: the equation does not end after its result");
    for (int i = 0; i < result.count; i++) {
        if (find_label(l, result.label[i]) >= 0 || times_used(terms, count, result.label[i]) == 0)
            return espl__fail(diag, ESPL_FORMAT,
                              "Einsum: a label of the result is doubled, or none of the operands'");
        ESPL_TRY(add_label(l, result.label[i], diag));
    }
done:
    return status;
}

/* Sizes and strides of the labels. Equal labels have equal sizes, or one of them is 1 and repeated. */
static espl_status measure(const espl_shape *const *x, const term *terms, int count, loops *l,
                           espl_diag *diag) {
    for (int i = 0; i < l->labels; i++) l->dim[i] = 1;
    for (int t = 0; t < count; t++) {
        for (int i = 0; i < terms[t].count; i++) {
            int64_t *dim = &l->dim[find_label(l, terms[t].label[i])], own = x[t]->dim[i];
            if (*dim == 1 || (own != 1 && *dim < 0))
                *dim = own;
            else if (own != 1 && !espl__dims_agree(own, *dim))
                return espl__fail(diag, ESPL_SHAPE,
                                  "Einsum: axes of %" PRId64 " and %" PRId64 " elements have one label", own,
                                  *dim);
        }
        int64_t step[ESPL_MAX_RANK];
        espl__strides(x[t], step);
        for (int i = 0; i < terms[t].count; i++)
            if (x[t]->dim[i] != 1) l->stride[t][find_label(l, terms[t].label[i])] += step[i];
    }
    return ESPL_OK;
}

espl_status espl__einsum_resolve(const espl__node *node, const espl_shape *const *x, loops *l,
                                 espl_diag *diag) {
    espl_status status = ESPL_OK;
    term terms[MAX_OPERANDS];
    const char *at = espl__attr_string(node, "equation", "");
    int count = node->input_count, dots = 0;
    *l = (loops){0};
    for (int t = 0; t < count; t++) {
        ESPL_TRY(read_term(&at, x[t]->rank, 0, &terms[t], diag));
        for (int i = 0; i < terms[t].count; i++)
            if (terms[t].label[i] >= ELLIPSIS) dots = ESPL_MAX(dots, terms[t].label[i] - ELLIPSIS + 1);
        if (t + 1 < count && *at++ != ',')
            return espl__fail(diag, ESPL_FORMAT,
                              "Einsum: the equation has fewer terms than there are operands");
    }
    if (*at && strncmp(at, "->", 2) != 0)
        return espl__fail(diag, ESPL_FORMAT, "Einsum: the equation has more terms than there are operands");
    ESPL_TRY(*at ? explicit_result(at + 2, terms, count, dots, l, diag)
                 : implicit_result(terms, count, dots, l, diag));
    l->results = l->labels;
    if (l->results > ESPL_MAX_RANK)
        return espl__fail(diag, ESPL_UNSUPPORTED, "Einsum: the result has too many dimensions");
    for (int t = 0; t < count; t++)
        for (int i = 0; i < terms[t].count; i++) ESPL_TRY(add_label(l, terms[t].label[i], diag));
    ESPL_TRY(measure(x, terms, count, l, diag));
done:
    return status;
}

bool espl__einsum_read(const espl__node *node, espl__einsum *out) {
    loops l;
    const espl_shape *x[2];
    *out = (espl__einsum){.operands = node->input_count};
    if (node->input_count > 2) return false;
    for (int t = 0; t < node->input_count; t++) {
        if (!node->inputs[t]->known_rank) return false;
        x[t] = &node->inputs[t]->shape;
    }
    if (espl__einsum_resolve(node, x, &l, NULL) != ESPL_OK) return false;
    out->labels = l.labels;
    out->results = l.results;
    for (int t = 0; t < 2; t++)
        for (int i = 0; i < l.labels; i++) out->axis[t][i] = -1;
    for (int i = 0; i < l.labels; i++) out->dim[i] = l.dim[i];
    const char *at = espl__attr_string(node, "equation", "");
    for (int t = 0; t < node->input_count; t++, at++) {
        term own;
        if (read_term(&at, x[t]->rank, 0, &own, NULL) != ESPL_OK) return false;
        out->rank[t] = own.count;
        for (int i = 0; i < own.count; i++) {
            int label = find_label(&l, own.label[i]);
            if (out->axis[t][label] >= 0 || x[t]->dim[i] != l.dim[label]) return false;
            out->axis[t][label] = i;
        }
    }
    return true;
}

static espl_status infer(const espl__node *node, espl_diag *diag) {
    espl_status status;
    loops l;
    const espl_shape *x[MAX_OPERANDS];
    ESPL_TRY(espl__op_begin(node, diag));
    if (node->input_count > MAX_OPERANDS)
        return espl__fail(diag, ESPL_UNSUPPORTED, "Einsum: more than %d operands are not supported",
                          MAX_OPERANDS);
    bool ranks = true;
    for (int i = 0; i < node->input_count; i++) {
        ESPL_TRY(espl__check_dtype(node, i, ESPL__T(F32) | ESPL__T(F64) | ESPL__T_INT, diag));
        ESPL_TRY(espl__check_same_dtype(node, 0, i, diag));
        ranks = ranks && node->inputs[i]->known_rank;
        x[i] = &node->inputs[i]->shape;
    }
    if (!ranks) return espl__set_unknown(node, 0, node->inputs[0]->dtype);
    ESPL_TRY(espl__einsum_resolve(node, x, &l, diag));
    espl_shape y = {.rank = l.results};
    for (int i = 0; i < l.results; i++) y.dim[i] = l.dim[i];
    status = espl__set_out(node, 0, node->inputs[0]->dtype, &y, diag);
done:
    return status;
}

bool espl__einsum_next(const loops *l, int from, int to, int operands, int64_t *index, int64_t *offset) {
    for (int i = to - 1; i >= from; i--) {
        for (int t = 0; t < operands; t++) offset[t] += l->stride[t][i];
        if (++index[i] < l->dim[i]) return true;
        for (int t = 0; t < operands; t++) offset[t] -= l->stride[t][i] * l->dim[i];
        index[i] = 0;
    }
    return false;
}

/* The sum over all that is not in the result: floats in double, integers wrap. */
static void sum_products(const loops *l, const espl_tensor *in, int operands, int64_t *index, int64_t *offset,
                         espl_tensor *out, int64_t at) {
    espl_dtype dtype = in[0].dtype;
    double sum = 0;
    uint64_t whole = 0;
    do {
        double product = 1;
        uint64_t factor = 1;
        for (int t = 0; t < operands; t++) {
            const void *x = espl__at(in[t].data, dtype, offset[t]);
            int64_t v = 0;
            if (dtype == ESPL_F32)
                product *= (double)*(const float *)x;
            else if (dtype == ESPL_F64)
                product *= *(const double *)x;
            else
                espl__load_s64(dtype, x, 0, 1, &v);
            factor *= (uint64_t)v;
        }
        sum += product;
        whole += factor;
    } while (espl__einsum_next(l, l->results, l->labels, operands, index, offset));
    int64_t wrapped = (int64_t)whole;
    if (espl_dtype_is_float(dtype))
        espl__store_f64(dtype, &sum, 1, espl__at_mut(out->data, dtype, at));
    else
        espl__store_s64(dtype, &wrapped, 1, espl__at_mut(out->data, dtype, at));
}

static void eval(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)scratch;
    loops l;
    const espl_shape *x[MAX_OPERANDS];
    int64_t index[MAX_LABELS] = {0}, offset[MAX_OPERANDS] = {0}, at = 0;
    if (espl__is_empty(&out[0])) return;
    for (int i = 0; i < node->input_count; i++) x[i] = &in[i].shape;
    if (espl__einsum_resolve(node, x, &l, NULL) != ESPL_OK) return;
    bool empty = false; /* a sum over nothing */
    for (int i = l.results; i < l.labels; i++) empty = empty || l.dim[i] == 0;
    if (empty) {
        memset(out[0].data, 0, espl__tensor_bytes(&out[0]));
        return;
    }
    do sum_products(&l, in, node->input_count, index, offset, &out[0], at++);
    while (espl__einsum_next(&l, 0, l.results, node->input_count, index, offset));
}

static int64_t macs(const espl__node *node) {
    loops l;
    const espl_shape *x[MAX_OPERANDS];
    int64_t all = node->input_count > 1;
    for (int i = 0; i < node->input_count; i++) x[i] = &node->inputs[i]->shape;
    if (espl__einsum_resolve(node, x, &l, NULL) != ESPL_OK) return 0;
    for (int i = 0; i < l.labels; i++) all = espl__mul_sat(all, l.dim[i]);
    return all;
}

const espl__op espl__op_Einsum = {
    .name = "Einsum",
    .domain = "",
    .min_inputs = 1,
    .max_inputs = -1,
    .min_outputs = 1,
    .max_outputs = 1,
    .since = 12,
    .until = 21,
    .infer = infer,
    .eval = eval,
    .macs = macs,
    .quant = ESPL__QUANT_FLOAT,
};
