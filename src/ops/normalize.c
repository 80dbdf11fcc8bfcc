/* StringNormalizer: takes words out of a list of strings and changes the case of the others.
 *
 * Without case sensitivity words are compared in lower case. If nothing is left, the result is one empty
 * string. Case is that of Unicode's simple mappings (letters.h), whatever the locale: Turkish and Azeri alone
 * map letters otherwise, and are refused. */
#include "ops/letters.h"
#include "ops/ops.h"

typedef struct rules {
    espl__case to, compared;
    const espl_text *stop; /* words that go */
    int64_t stops;
} rules;

static espl_status refuse(espl_diag *diag, const char *why) {
    return espl__fail(diag, ESPL_UNSUPPORTED, "StringNormalizer: %s", why);
}

static espl_status read_rules(const espl__node *node, rules *r, espl_diag *diag) {
    static const char *const names[] = {"NONE", "LOWER", "UPPER"};
    const char *action = espl__attr_string(node, "case_change_action", "NONE");
    const char *locale = espl__attr_string(node, "locale", "");
    const espl__attr *stop = espl__attr_find(node, "stopwords");
    const bool exact = espl__attr_int(node, "is_case_sensitive", 0) != 0;
    size_t k = 0;
    *r = (rules){.to = ESPL__CASE_KEPT};
    while (k < ESPL_COUNT(names) && strcmp(action, names[k]) != 0) k++;
    if (k == ESPL_COUNT(names)) return refuse(diag, "case_change_action is none of NONE, LOWER and UPPER");
    r->to = (espl__case)k;
    r->compared = exact ? ESPL__CASE_KEPT : ESPL__CASE_LOWER;
    if (strncmp(locale, "tr", 2) == 0 || strncmp(locale, "az", 2) == 0)
        return refuse(diag, "the letters of Turkish and Azeri are not supported; any other locale is");
    if (!stop) return ESPL_OK;
    if (stop->kind != ESPL__ATTR_TENSOR || stop->tensor->dtype != ESPL_STRING ||
        stop->tensor->shape.rank != 1)
        return refuse(diag, "stopwords is no list of strings");
    r->stop = stop->tensor->data;
    r->stops = stop->tensor->shape.dim[0];
    return ESPL_OK;
}

static espl_status infer(const espl__node *node, espl_diag *diag) {
    espl_status status;
    rules r;
    ESPL_TRY(espl__op_begin(node, diag));
    ESPL_TRY(espl__check_dtype(node, 0, ESPL__T(STRING), diag));
    ESPL_TRY(espl__check_rank(node, 0, 1, 2, diag));
    ESPL_TRY(read_rules(node, &r, diag));
    const espl__value *x = node->inputs[0];
    if (!x->known_rank) return espl__set_unknown(node, 0, ESPL_STRING);
    espl_shape y = x->shape;
    if (y.rank == 2 && y.dim[0] >= 0 && y.dim[0] != 1)
        return espl__fail(diag, ESPL_SHAPE,
                          "StringNormalizer: an input of two dimensions has one row, not %lld",
                          (long long)y.dim[0]);
    if (y.rank == 2) y.dim[0] = 1;
    y.dim[y.rank - 1] = ESPL_DIM_UNKNOWN;
    status = espl__set_out(node, 0, ESPL_STRING, &y, diag);
done:
    return status;
}

static void bound(const espl__node *node, espl_shape *most) {
    const espl_shape *x = &node->inputs[0]->shape;
    most[0] = *x;
    most[0].dim[x->rank - 1] = ESPL_MAX(x->dim[x->rank - 1], 1);
}

static uint64_t text_bytes(const espl__node *node, const espl_tensor *in) {
    (void)node;
    return espl__case_bytes(espl__text_bytes(&in[0]));
}

static uint64_t scratch_bytes(const espl__node *node) {
    const espl__attr *stop = espl__attr_find(node, "stopwords");
    return stop ? sizeof(int64_t) * ((uint64_t)stop->tensor->shape.dim[0] + 1) : 0;
}

static bool stop_before(const void *of, int64_t a, int64_t b) {
    const rules *r = of;
    return espl__case_compare(r->compared, &r->stop[a], &r->stop[b]) < 0;
}

static bool stops(const rules *r, const int64_t *order, const espl_text *word) {
    int64_t low = 0, high = r->stops;
    while (low < high) {
        const int64_t middle = low + (high - low) / 2;
        const int c = espl__case_compare(r->compared, word, &r->stop[order[middle]]);
        if (c == 0) return true;
        if (c < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return false;
}

static void eval(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    const espl_text *x = in[0].data;
    espl_text *y = out[0].data;
    char *text = (char *)out[0].data + espl__tensor_bytes(&out[0]);
    int64_t left = 0;
    rules r;
    if (read_rules(node, &r, NULL) != ESPL_OK) return;
    if (r.stops) espl__order(scratch, r.stops, stop_before, &r);
    for (int64_t i = 0, n = espl_shape_count(&in[0].shape); i < n; i++) {
        if (stops(&r, scratch, &x[i])) continue;
        y[left] = x[i];
        if (r.to != ESPL__CASE_KEPT) {
            y[left] = (espl_text){text, espl__case_change(r.to, &x[i], text)};
            text += y[left].length;
        }
        left++;
    }
    if (left == 0) y[left++] = (espl_text){0};
    out[0].shape.dim[out[0].shape.rank - 1] = left;
}

const espl__op espl__op_StringNormalizer = {
    .name = "StringNormalizer",
    .domain = "",
    .min_inputs = 1,
    .max_inputs = 1,
    .min_outputs = 1,
    .max_outputs = 1,
    .since = 10,
    .until = 21,
    .infer = infer,
    .eval = eval,
    .scratch_bytes = scratch_bytes,
    .text_inputs = 1,
    .text_bytes = text_bytes,
    .bound = bound,
    .quant = ESPL__QUANT_FLOAT,
};
