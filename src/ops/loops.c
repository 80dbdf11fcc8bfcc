/* Strided copies, broadcasting row by row, and conversion between element types. */
#include "ops/ops.h"

#include <math.h>

/* --- strided copy ---------------------------------------------------------------------------- */

static void copy_row(char *out, const char *in, size_t elem, int64_t n, int64_t stride) {
    if (stride == 1) {
        memcpy(out, in, (size_t)n * elem);
        return;
    }
    ptrdiff_t step = (ptrdiff_t)stride * (ptrdiff_t)elem;
    switch (elem) {
        case 1:
            for (int64_t i = 0; i < n; i++) out[i] = in[i * step];
            break;
        case 2:
            for (int64_t i = 0; i < n; i++) memcpy(out + 2 * i, in + i * step, 2);
            break;
        case 4:
            for (int64_t i = 0; i < n; i++) memcpy(out + 4 * i, in + i * step, 4);
            break;
        case 8:
            for (int64_t i = 0; i < n; i++) memcpy(out + 8 * i, in + i * step, 8);
            break;
        default: /* strings */
            for (int64_t i = 0; i < n; i++) memcpy(out + elem * (size_t)i, in + i * step, elem);
            break;
    }
}

void espl__copy_strided(void *out, const void *in, size_t elem, int rank, const int64_t *dim,
                        const int64_t *stride) {
    int64_t d[ESPL__MAX_LOOPS + 1], s[ESPL__MAX_LOOPS + 1], index[ESPL__MAX_LOOPS + 1] = {0};
    int loops = 0;
    for (int i = 0; i < rank; i++) {
        if (dim[i] == 0) return;
        if (dim[i] == 1) continue;
        if (loops && s[loops - 1] == dim[i] * stride[i]) { /* one longer loop does the same */
            d[loops - 1] *= dim[i];
            s[loops - 1] = stride[i];
        } else {
            d[loops] = dim[i];
            s[loops++] = stride[i];
        }
    }
    if (loops == 0) {
        d[0] = s[0] = 1;
        loops = 1;
    }
    int last = loops - 1;
    char *to = out;
    const char *from = in;
    int64_t offset = 0;
    for (;;) {
        copy_row(to, from + offset * (int64_t)elem, elem, d[last], s[last]);
        to += (size_t)d[last] * elem;
        int i = last - 1;
        for (; i >= 0; i--) {
            offset += s[i];
            if (++index[i] < d[i]) break;
            offset -= s[i] * d[i];
            index[i] = 0;
        }
        if (i < 0) return;
    }
}

/* --- broadcasting ---------------------------------------------------------------------------- */

static bool mergeable(const espl__rows *rows, const int64_t *stride, int64_t dim) {
    for (int k = 0; k < rows->operands; k++)
        if (rows->stride[k][rows->rank - 1] != stride[k] * dim) return false;
    return true;
}

void espl__rows_begin(espl__rows *rows, const espl_shape *out, const espl_shape *const *operand,
                      int operands) {
    int64_t own[3][ESPL_MAX_RANK];
    *rows = (espl__rows){.operands = operands};
    for (int k = 0; k < operands; k++) espl__strides(operand[k], own[k]);
    for (int i = 0; i < out->rank; i++) {
        int64_t stride[3] = {0};
        if (out->dim[i] == 0) rows->done = true;
        if (out->dim[i] == 1) continue;
        for (int k = 0; k < operands; k++) {
            int at = i - (out->rank - operand[k]->rank);
            stride[k] = at < 0 || operand[k]->dim[at] == 1 ? 0 : own[k][at];
        }
        if (rows->rank && mergeable(rows, stride, out->dim[i]))
            rows->dim[rows->rank - 1] *= out->dim[i];
        else
            rows->dim[rows->rank++] = out->dim[i];
        for (int k = 0; k < operands; k++) rows->stride[k][rows->rank - 1] = stride[k];
    }
    if (rows->rank == 0) rows->dim[rows->rank++] = 1;
    rows->n = rows->dim[rows->rank - 1];
    for (int k = 0; k < operands; k++) rows->step[k] = rows->stride[k][rows->rank - 1];
}

void espl__rows_next(espl__rows *rows) {
    rows->out += rows->n;
    for (int i = rows->rank - 2; i >= 0; i--) {
        for (int k = 0; k < rows->operands; k++) rows->offset[k] += rows->stride[k][i];
        if (++rows->index[i] < rows->dim[i]) return;
        for (int k = 0; k < rows->operands; k++) rows->offset[k] -= rows->stride[k][i] * rows->dim[i];
        rows->index[i] = 0;
    }
    rows->done = true;
}

/* --- matrix times vector --------------------------------------------------------------------- */

/* Eight rows at a time: independent sums hide the latency of an addition, each keeps its own order. */
void espl__matvec(const float *w, int64_t rows, int64_t k_count, const float *x, float *out) {
    int64_t r = 0;
    for (; r + 8 <= rows; r += 8) {
        const float *p = w + r * k_count;
        float acc[8];
        for (int i = 0; i < 8; i++) acc[i] = out[r + i];
        for (int64_t k = 0; k < k_count; k++)
            for (int i = 0; i < 8; i++) acc[i] += p[i * k_count + k] * x[k];
        for (int i = 0; i < 8; i++) out[r + i] = acc[i];
    }
    for (; r < rows; r++) {
        float acc = out[r];
        for (int64_t k = 0; k < k_count; k++) acc += w[r * k_count + k] * x[k];
        out[r] = acc;
    }
}

/* --- conversion ------------------------------------------------------------------------------ */

/* Saturating conversion; NaN gives 0. 2^63 itself is out of range. */
static int64_t s64_from_f64(double x, double lo, double hi) {
    if (!(x == x)) return 0;
    if (x <= lo) return lo <= -9223372036854775808.0 ? INT64_MIN : (int64_t)lo;
    if (x >= hi) return hi >= 9223372036854775808.0 ? INT64_MAX : (int64_t)hi;
    return (int64_t)x;
}

static uint64_t u64_from_f64(double x) {
    if (!(x > 0)) return 0;
    return x >= 18446744073709551616.0 ? UINT64_MAX : (uint64_t)x;
}

#define LOAD(type, expr)                  \
    do {                                  \
        const type *v = p;                \
        for (int64_t i = 0; i < n; i++) { \
            type x = v[i * step];         \
            out[i] = (expr);              \
        }                                 \
    } while (0)
#define STORE(type, expr)                                    \
    do {                                                     \
        type *v = p;                                         \
        for (int64_t i = 0; i < n; i++) v[i] = (type)(expr); \
    } while (0)

void espl__load_s64(espl_dtype dtype, const void *p, int64_t step, int64_t n, int64_t *out) {
    switch (dtype) {
        case ESPL_BOOL: LOAD(uint8_t, x != 0); break;
        case ESPL_U4:
        case ESPL_U8: LOAD(uint8_t, x); break;
        case ESPL_S4:
        case ESPL_S8: LOAD(int8_t, x); break;
        case ESPL_U16: LOAD(uint16_t, x); break;
        case ESPL_S16: LOAD(int16_t, x); break;
        case ESPL_U32: LOAD(uint32_t, x); break;
        case ESPL_S32: LOAD(int32_t, x); break;
        case ESPL_U64: LOAD(uint64_t, (int64_t)x); break;
        case ESPL_S64: LOAD(int64_t, x); break;
        default: {
            double x;
            for (int64_t i = 0; i < n; i++) {
                espl__load_f64(dtype, espl__at(p, dtype, i * step), 0, 1, &x);
                out[i] = s64_from_f64(x, -9223372036854775808.0, 9223372036854775808.0);
            }
        }
    }
}

void espl__store_s64(espl_dtype dtype, const int64_t *in, int64_t n, void *p) {
    switch (dtype) {
        case ESPL_BOOL: STORE(uint8_t, in[i] != 0); break;
        case ESPL_U8:
        case ESPL_S8: STORE(uint8_t, in[i]); break;
        case ESPL_U16:
        case ESPL_S16: STORE(uint16_t, in[i]); break;
        case ESPL_U32:
        case ESPL_S32: STORE(uint32_t, in[i]); break;
        case ESPL_U64:
        case ESPL_S64: STORE(int64_t, in[i]); break;
        case ESPL_F32: STORE(float, in[i]); break;
        case ESPL_F64: STORE(double, in[i]); break;
        case ESPL_F16: STORE(uint16_t, espl__half_from_float((float)in[i])); break;
        case ESPL_BF16: STORE(uint16_t, espl__bfloat_from_float((float)in[i])); break;
        case ESPL_E4M3: STORE(uint8_t, espl__format_encode(ESPL_FORMAT_E4M3, (float)in[i])); break;
        case ESPL_E5M2: STORE(uint8_t, espl__format_encode(ESPL_FORMAT_E5M2, (float)in[i])); break;
        case ESPL_U4: STORE(uint8_t, in[i] & 15); break;
        case ESPL_S4: STORE(int8_t, ((in[i] & 15) ^ 8) - 8); break;
        default: break;
    }
}

void espl__load_f64(espl_dtype dtype, const void *p, int64_t step, int64_t n, double *out) {
    switch (dtype) {
        case ESPL_BOOL: LOAD(uint8_t, x != 0); break;
        case ESPL_U4:
        case ESPL_U8: LOAD(uint8_t, x); break;
        case ESPL_S4:
        case ESPL_S8: LOAD(int8_t, x); break;
        case ESPL_U16: LOAD(uint16_t, x); break;
        case ESPL_S16: LOAD(int16_t, x); break;
        case ESPL_U32: LOAD(uint32_t, x); break;
        case ESPL_S32: LOAD(int32_t, x); break;
        case ESPL_U64: LOAD(uint64_t, (double)x); break;
        case ESPL_S64: LOAD(int64_t, (double)x); break;
        case ESPL_F32: LOAD(float, (double)x); break;
        case ESPL_F64: LOAD(double, x); break;
        case ESPL_F16: LOAD(uint16_t, (double)espl__half_to_float(x)); break;
        case ESPL_BF16: LOAD(uint16_t, (double)espl__bfloat_to_float(x)); break;
        case ESPL_E4M3: LOAD(uint8_t, (double)espl__format_decode(ESPL_FORMAT_E4M3, x)); break;
        case ESPL_E5M2: LOAD(uint8_t, (double)espl__format_decode(ESPL_FORMAT_E5M2, x)); break;
        default: break;
    }
}

void espl__store_f64(espl_dtype dtype, const double *in, int64_t n, void *p) {
    switch (dtype) {
        case ESPL_BOOL: STORE(uint8_t, in[i] != 0); break;
        case ESPL_U8: STORE(uint8_t, s64_from_f64(in[i], 0, UINT8_MAX)); break;
        case ESPL_S8: STORE(int8_t, s64_from_f64(in[i], INT8_MIN, INT8_MAX)); break;
        case ESPL_U16: STORE(uint16_t, s64_from_f64(in[i], 0, UINT16_MAX)); break;
        case ESPL_S16: STORE(int16_t, s64_from_f64(in[i], INT16_MIN, INT16_MAX)); break;
        case ESPL_U32: STORE(uint32_t, s64_from_f64(in[i], 0, UINT32_MAX)); break;
        case ESPL_S32: STORE(int32_t, s64_from_f64(in[i], INT32_MIN, INT32_MAX)); break;
        case ESPL_U64: STORE(uint64_t, u64_from_f64(in[i])); break;
        case ESPL_S64:
            STORE(int64_t, s64_from_f64(in[i], -9223372036854775808.0, 9223372036854775808.0));
            break;
        case ESPL_F32: STORE(float, in[i]); break;
        case ESPL_F64: STORE(double, in[i]); break;
        case ESPL_F16: STORE(uint16_t, espl__half_from_float((float)in[i])); break;
        case ESPL_BF16: STORE(uint16_t, espl__bfloat_from_float((float)in[i])); break;
        case ESPL_E4M3: STORE(uint8_t, espl__format_encode(ESPL_FORMAT_E4M3, (float)in[i])); break;
        case ESPL_E5M2: STORE(uint8_t, espl__format_encode(ESPL_FORMAT_E5M2, (float)in[i])); break;
        case ESPL_U4: STORE(uint8_t, s64_from_f64(in[i], 0, 15)); break;
        case ESPL_S4: STORE(int8_t, s64_from_f64(in[i], -8, 7)); break;
        default: break;
    }
}
