/* Weights of few bits that came as codes of eight, because ONNX has no smaller type before operator set 21
 * and none of 2 or 3 bits at all: codes that all fit in 4 bits or fewer are of that format. They are computed
 * as before and stored in as many bits. Weights that are quantized to 8 bits reach beyond, so that few layers
 * look like this by chance, and small ones are left alone. */
#include "passes/passes.h"

enum { LEAST = 64 }; /* elements */

static bool zeros_only(const espl__quant *q, int64_t count) {
    for (int64_t i = 0; q->zero && i < count; i++)
        if (q->zero[i] != 0) return false;
    return true;
}

static bool fits(const espl_tensor *t, espl_format format) {
    int32_t low, high;
    espl__format_range(format, &low, &high);
    const int8_t *code = t->data;
    for (int64_t i = 0; i < espl_shape_count(&t->shape); i++)
        if (code[i] < low || code[i] > high) return false;
    return true;
}

espl_status espl__pass_narrow(espl_graph *g, espl_diag *diag) {
    static const espl_format formats[] = {ESPL_FORMAT_S2, ESPL_FORMAT_S3, ESPL_FORMAT_S4};
    (void)diag;
    for (int i = 0; i < g->value_count; i++) {
        espl__value *v = g->values[i];
        const espl_tensor *t = v->constant;
        if (!t || v->quant.format != ESPL_FORMAT_S8 || t->dtype != ESPL_S8 || t->shape.rank < 2 ||
            espl_shape_count(&t->shape) < LEAST || !zeros_only(&v->quant, v->quant.count))
            continue;
        for (size_t k = 0; k < ESPL_COUNT(formats); k++)
            if (fits(t, formats[k])) {
                v->quant.format = formats[k];
                break;
            }
    }
    return ESPL_OK;
}
