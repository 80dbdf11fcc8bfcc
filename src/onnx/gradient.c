/* Gradient (ai.onnx.preview.training) names values by attributes: the xs and zs, which are its inputs once
 * more, and y, which becomes an input too, the last. Where an input is another value than the one that is
 * named, the operator would stand for y as a function of that input; nobody writes that, and it is refused.
 */
#include "onnx/reader.h"

bool espl__onnx_is_gradient(const espl__op *op) {
    return strcmp(op->name, "Gradient") == 0 && *op->domain;
}

static espl_status check_names(reader *r, const espl__node *n, const char *list, int *at) {
    const espl__attr *a = espl__attr_find(n, list);
    const bool good = a && a->kind == ESPL__ATTR_TENSOR && a->tensor->dtype == ESPL_STRING;
    const espl_text *names = good ? a->tensor->data : NULL;
    if (!a) return ESPL_OK;
    if (!good) return espl__fail(r->diag, ESPL_FORMAT, "attribute %s is no list of names", list);
    for (int64_t i = 0; i < espl_shape_count(&a->tensor->shape); i++, ++*at) {
        const espl__value *v = *at < n->input_count - 1 ? n->inputs[*at] : NULL;
        if (!v || strlen(v->name) != names[i].length ||
            memcmp(v->name, names[i].bytes, (size_t)names[i].length) != 0)
            return espl__fail(r->diag, ESPL_UNSUPPORTED, "input %d is not the value that %s names", *at,
                              list);
    }
    return ESPL_OK;
}

espl_status espl__reader_gradient(reader *r, espl__node *n) {
    espl_status status;
    int at = 0;
    const char *y = espl__attr_string(n, "y", "");
    ESPL_TRY(check_names(r, n, "xs", &at));
    ESPL_TRY(check_names(r, n, "zs", &at));
    if (at != n->input_count - 1)
        return espl__fail(r->diag, ESPL_FORMAT, "xs and zs name %d values and there are %d inputs", at,
                          n->input_count - 1);
    ESPL_TRY(espl__reader_find(r, y, &n->inputs[at]));
    if (!n->inputs[at]) return espl__fail(r->diag, ESPL_FORMAT, "y is '%.200s', which nothing produces", y);
done:
    return status;
}
