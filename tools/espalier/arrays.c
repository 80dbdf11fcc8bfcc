#include "arrays.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* IEEE 754 half precision. */
static double half(uint16_t bits) {
    int exponent = bits >> 10 & 31, fraction = bits & 1023;
    double value = exponent == 31 ? (fraction ? NAN : INFINITY)
                   : exponent     ? ldexp(1024 + fraction, exponent - 25)
                                  : ldexp(fraction, -24);
    return bits >> 15 ? -value : value;
}

/* bfloat16: the upper half of a float. */
static double brain(uint16_t bits) {
    uint32_t word = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &word, sizeof value);
    return (double)value;
}

double element(const espl_tensor *t, int64_t i) {
    switch (t->dtype) {
        case ESPL_F32:
            return (double)((const float *)t->data)[i];
        case ESPL_F64:
            return ((const double *)t->data)[i];
        case ESPL_U8:
            return ((const uint8_t *)t->data)[i];
        case ESPL_BOOL:
            return ((const uint8_t *)t->data)[i] != 0;
        case ESPL_S8:
            return ((const int8_t *)t->data)[i];
        case ESPL_U16:
            return ((const uint16_t *)t->data)[i];
        case ESPL_S16:
            return ((const int16_t *)t->data)[i];
        case ESPL_U32:
            return ((const uint32_t *)t->data)[i];
        case ESPL_S32:
            return ((const int32_t *)t->data)[i];
        case ESPL_U64:
            return (double)((const uint64_t *)t->data)[i];
        case ESPL_S64:
            return (double)((const int64_t *)t->data)[i];
        case ESPL_F16:
            return half(((const uint16_t *)t->data)[i]);
        case ESPL_BF16:
            return brain(((const uint16_t *)t->data)[i]);
        case ESPL_E4M3:
        case ESPL_E5M2:
        case ESPL_U4:
        case ESPL_S4: /* of models only: NumPy has no such types */
        case ESPL_STRING:
        case ESPL_DTYPE_COUNT:
            break;
    }
    return NAN;
}

bool same_texts(const espl_tensor *a, const espl_tensor *b) {
    const espl_text *x = a->data, *y = b->data;
    for (int64_t i = 0; i < espl_shape_count(&a->shape); i++)
        if (x[i].length != y[i].length || (x[i].length && memcmp(x[i].bytes, y[i].bytes, (size_t)x[i].length) != 0))
            return false;
    return true;
}

espl_status to_f32(cli *c, espl_tensor *t) {
    espl_tensor single = {0};
    if (t->dtype == ESPL_F32 || t->dtype == ESPL_STRING) return ESPL_OK; /* a session refuses strings itself */
    espl_status status = espl_tensor_alloc(c->ctx, ESPL_F32, &t->shape, &single, &c->diag);
    if (status != ESPL_OK) return status;
    int64_t count = espl_shape_count(&t->shape);
    for (int64_t i = 0; i < count; i++) ((float *)single.data)[i] = (float)element(t, i);
    espl_tensor_free(c->ctx, t);
    *t = single;
    return ESPL_OK;
}

espl_tensor *new_arrays(int count) {
    return calloc((size_t)count + 1, sizeof(espl_tensor));
}

void free_outputs(cli *c, const espl_session *session, espl_tensor **outputs) {
    int count = session ? espl_session_output_count(session) : 0;
    for (int i = 0; *outputs && i < count; i++) {
        const espl_shape *shape = &espl_session_output_info(session, i)->shape;
        if (shape->rank < 0 || espl_shape_count(shape) < 0) (*outputs)[i].data = NULL;
    }
    free_arrays(c, outputs, count);
}

void free_arrays(cli *c, espl_tensor **arrays, int count) {
    if (!*arrays) return;
    for (int i = 0; i < count; i++)
        if ((*arrays)[i].data) espl_tensor_free(c->ctx, &(*arrays)[i]);
    free(*arrays);
    *arrays = NULL;
}

espl_status alloc_outputs(cli *c, const espl_session *session, espl_tensor **out) {
    int count = espl_session_output_count(session);
    espl_tensor *outputs = new_arrays(count);
    *out = NULL;
    if (!outputs) return nomem(c);
    for (int i = 0; i < count; i++) {
        const espl_tensor *info = espl_session_output_info(session, i);
        if (info->shape.rank < 0 || espl_shape_count(&info->shape) < 0) continue; /* the session's, once it has run */
        espl_status status = espl_tensor_alloc(c->ctx, info->dtype, &info->shape, &outputs[i], &c->diag);
        if (status == ESPL_OK) continue;
        free_arrays(c, &outputs, count);
        return status;
    }
    *out = outputs;
    return ESPL_OK;
}
