/* Tensors of strings: espl_text in espalier/tensor.h. */
#include "tensor/tensor.h"

uint64_t espl__text_bytes(const espl_tensor *t) {
    const espl_text *e = t->data;
    uint64_t sum = 0;
    if (t->dtype != ESPL_STRING) return 0;
    for (int64_t i = 0, n = espl_shape_count(&t->shape); i < n; i++)
        sum = e[i].length > UINT64_MAX - sum ? UINT64_MAX : sum + e[i].length;
    return sum;
}

uint64_t espl__text_block(const espl_tensor *t, uint64_t text) {
    const uint64_t elements = espl__tensor_bytes(t);
    return text > UINT64_MAX - elements ? UINT64_MAX : elements + text;
}

void espl__text_copy(const espl_tensor *from, void *block) {
    const espl_text *e = from->data;
    espl_text *to = block;
    char *text = (char *)block + espl__tensor_bytes(from);
    for (int64_t i = 0, n = espl_shape_count(&from->shape); i < n; i++) {
        to[i] = (espl_text){text, e[i].length};
        if (e[i].length) memcpy(text, e[i].bytes, (size_t)e[i].length);
        text += e[i].length;
    }
}

bool espl__text_equal(const espl_text *a, const espl_text *b) {
    return a->length == b->length && (a->length == 0 || memcmp(a->bytes, b->bytes, (size_t)a->length) == 0);
}

bool espl__text_present(const espl_tensor *t) {
    const espl_text *e = t->data;
    for (int64_t i = 0, n = t->dtype == ESPL_STRING ? espl_shape_count(&t->shape) : 0; i < n; i++)
        if (!e[i].bytes && e[i].length) return false;
    return true;
}

espl_status espl__tensor_copy(espl_context *ctx, const espl_tensor *from, espl_tensor *out, espl_diag *diag) {
    if (from->dtype != ESPL_STRING) {
        espl_status status = espl_tensor_alloc(ctx, from->dtype, &from->shape, out, diag);
        if (status == ESPL_OK && espl__tensor_bytes(out))
            memcpy(out->data, from->data, espl__tensor_bytes(out));
        return status;
    }
    const uint64_t bytes = espl__text_block(from, espl__text_bytes(from));
    *out = (espl_tensor){from->dtype, from->shape, espl__alloc(ctx, bytes)};
    if (!out->data) {
        *out = (espl_tensor){0};
        return espl__nomem(diag, bytes);
    }
    espl__text_copy(from, out->data);
    return ESPL_OK;
}
