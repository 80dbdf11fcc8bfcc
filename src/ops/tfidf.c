/* TfIdfVectorizer of integers or strings: how often each n-gram of a pool stands in each row of the input.
 *
 * The pool holds all 1-grams, then all 2-grams and so on; ngram_counts says where each length begins. An
 * n-gram is found at place s with distance d between its items, which is 1 to max_skip_count + 1 (that of
 * 1-grams makes no difference, so they count once). TF is the number of places, TFIDF that times the n-gram's
 * weight, IDF the weight where there is one. */
#include "ops/ops.h"

#include <inttypes.h>

typedef enum mode { TF, IDF, TFIDF } mode;

typedef struct pool {
    mode mode;
    int64_t shortest, longest, skips; /* lengths that count, and the largest distance less 1 */
    const espl__attr *starts, *places, *weights; /* weights NULL: ones */
    const int64_t *ints;                         /* the items, or NULL: */
    const espl_text *texts;
    int64_t count; /* of items */
} pool;

static espl_status refuse(espl_diag *diag, const char *why) {
    return espl__fail(diag, ESPL_FORMAT, "TfIdfVectorizer: %s", why);
}

static espl_status find_list(const espl__node *node, const char *name, espl__attr_kind kind,
                             const espl__attr **out, espl_diag *diag) {
    *out = espl__attr_find(node, name);
    if (!*out) return espl__fail(diag, ESPL_FORMAT, "TfIdfVectorizer: attribute %s is missing", name);
    if ((*out)->kind == kind) return ESPL_OK;
    return espl__fail(diag, ESPL_FORMAT, "TfIdfVectorizer: attribute %s is no list of its kind", name);
}

static espl_status find_items(const espl__node *node, pool *p, espl_diag *diag) {
    espl_status status;
    const espl__attr *items;
    if (node->inputs[0]->dtype != ESPL_STRING) {
        ESPL_TRY(find_list(node, "pool_int64s", ESPL__ATTR_INTS, &items, diag));
        p->ints = items->ints;
        p->count = items->count;
    } else {
        ESPL_TRY(find_list(node, "pool_strings", ESPL__ATTR_TENSOR, &items, diag));
        if (items->tensor->dtype != ESPL_STRING || items->tensor->shape.rank != 1)
            return refuse(diag, "attribute pool_strings is no list of strings");
        p->texts = items->tensor->data;
        p->count = items->tensor->shape.dim[0];
    }
done:
    return status;
}

static espl_status read_pool(const espl__node *node, pool *p, espl_diag *diag) {
    static const char *const names[] = {"TF", "IDF", "TFIDF"};
    espl_status status;
    const char *how = espl__attr_string(node, "mode", "");
    size_t k = 0;
    *p = (pool){.shortest = espl__attr_int(node, "min_gram_length", 0),
                .longest = espl__attr_int(node, "max_gram_length", 0),
                .skips = espl__attr_int(node, "max_skip_count", 0)};
    while (k < ESPL_COUNT(names) && strcmp(how, names[k]) != 0) k++;
    if (k == ESPL_COUNT(names)) return refuse(diag, "mode is none of TF, IDF and TFIDF");
    p->mode = (mode)k;
    if (p->shortest < 1 || p->longest < p->shortest || p->skips < 0)
        return refuse(diag, "lengths or skips that cannot be");
    ESPL_TRY(find_items(node, p, diag));
    ESPL_TRY(find_list(node, "ngram_counts", ESPL__ATTR_INTS, &p->starts, diag));
    ESPL_TRY(find_list(node, "ngram_indexes", ESPL__ATTR_INTS, &p->places, diag));
    if (espl__attr_find(node, "weights"))
        ESPL_TRY(find_list(node, "weights", ESPL__ATTR_FLOATS, &p->weights, diag));
done:
    return status;
}

/* Items [*begin, *end) of the pool are the n-grams of length n. */
static void level(const pool *p, int64_t n, int64_t *begin, int64_t *end) {
    *begin = p->starts->ints[n - 1];
    *end = n < p->starts->count ? p->starts->ints[n] : p->count;
}

static espl_status check_pool(const pool *p, espl_diag *diag) {
    int64_t begin, end, grams = 0;
    for (int64_t n = 1; n <= p->starts->count; n++) {
        level(p, n, &begin, &end);
        if (begin < 0 || end < begin || end > p->count || (end - begin) % n != 0)
            return refuse(diag, "ngram_counts does not cut the pool into n-grams");
        grams += (end - begin) / n;
    }
    if (grams != p->places->count || (p->weights && grams != p->weights->count))
        return refuse(diag, "ngram_indexes and weights must have one element for each n-gram of the pool");
    return ESPL_OK;
}

static espl_status infer(const espl__node *node, espl_diag *diag) {
    espl_status status;
    pool p;
    int64_t width = 0;
    ESPL_TRY(espl__op_begin(node, diag));
    ESPL_TRY(espl__check_dtype(node, 0, ESPL__T(S32) | ESPL__T(S64) | ESPL__T(STRING), diag));
    ESPL_TRY(espl__check_rank(node, 0, 1, 2, diag));
    ESPL_TRY(read_pool(node, &p, diag));
    ESPL_TRY(check_pool(&p, diag));
    for (int64_t i = 0; i < p.places->count; i++) {
        if (p.places->ints[i] < 0 || p.places->ints[i] == INT64_MAX)
            return refuse(diag, "an n-gram's place in the output is out of range");
        width = ESPL_MAX(width, p.places->ints[i] + 1);
    }
    const espl__value *x = node->inputs[0];
    if (!x->known_rank) return espl__set_unknown(node, 0, ESPL_F32);
    espl_shape y = x->shape;
    y.dim[y.rank - 1] = width;
    status = espl__set_out(node, 0, ESPL_F32, &y, diag);
done:
    return status;
}

static bool is_item(const pool *p, int64_t item, const espl_tensor *x, int64_t at) {
    if (p->ints) return espl__index_at(x, at) == p->ints[item];
    return espl__text_equal(&((const espl_text *)x->data)[at], &p->texts[item]);
}

/* Places of a row of `length` items where the n-gram stands, at all distances. */
static int64_t count_gram(const pool *p, int64_t gram, int64_t n, const espl_tensor *x, int64_t row,
                          int64_t length) {
    int64_t found = 0, farthest = n == 1 ? 1 : ESPL_MIN(p->skips, length) + 1;
    for (int64_t d = 1; d <= farthest && (n - 1) <= (length - 1) / d; d++)
        for (int64_t s = 0; s + (n - 1) * d < length; s++) {
            int64_t k = 0;
            while (k < n && is_item(p, gram + k, x, row * length + s + k * d)) k++;
            found += k == n;
        }
    return found;
}

static void count_row(const pool *p, const espl_tensor *x, int64_t row, int64_t length, float *y) {
    int64_t begin, end, gram = 0;
    for (int64_t n = 1; n <= p->starts->count; n++) {
        level(p, n, &begin, &end);
        for (int64_t at = begin; at < end; at += n, gram++) {
            if (n < p->shortest || n > p->longest) continue;
            int64_t found = count_gram(p, at, n, x, row, length);
            float weight = p->weights && p->mode != TF ? p->weights->floats[gram] : 1.0f;
            y[p->places->ints[gram]] += weight * (float)(p->mode == IDF ? found > 0 : found);
        }
    }
}

static void eval(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)scratch;
    pool p;
    const espl_shape *x = &in[0].shape, *y = &out[0].shape;
    if (read_pool(node, &p, NULL) != ESPL_OK || espl__is_empty(&out[0])) return;
    int64_t width = y->dim[y->rank - 1], length = x->dim[x->rank - 1];
    memset(out[0].data, 0, (size_t)espl_shape_count(y) * sizeof(float));
    for (int64_t r = 0, rows = espl__dims_product(y, 0, y->rank - 1); length && r < rows; r++)
        count_row(&p, &in[0], r, length, (float *)out[0].data + r * width);
}

const espl__op espl__op_TfIdfVectorizer = {
    .name = "TfIdfVectorizer",
    .domain = "",
    .min_inputs = 1,
    .max_inputs = 1,
    .min_outputs = 1,
    .max_outputs = 1,
    .since = 9,
    .until = 21,
    .infer = infer,
    .eval = eval,
    .quant = ESPL__QUANT_FLOAT,
    .text_inputs = 1,
};
