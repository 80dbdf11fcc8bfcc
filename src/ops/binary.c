/* Elementwise operators of two broadcast operands: arithmetic, comparison, logic, bits. f32 is computed as f32,
 * other floats as f64, u64 as such, other integers as wrapping s64 and stored in their own width. */
#include "ops/ops.h"

#include <math.h>

enum { KIND_F32, KIND_F64, KIND_S64, KIND_U64 };

/* One operation on n elements of the widest type of its kind; y may be a or b. Comparisons write 0 or 1. */
typedef struct binary_rows {
    void (*f32)(const float *a, const float *b, float *y, int64_t n);
    void (*f64)(const double *a, const double *b, double *y, int64_t n);
    void (*s64)(const int64_t *a, const int64_t *b, int64_t *y, int64_t n);
    void (*u64)(const uint64_t *a, const uint64_t *b, uint64_t *y, int64_t n);
} binary_rows;

static int64_t wrap(uint64_t x) { return (int64_t)x; }
/* Division truncates; by zero it gives 0, which no valid model asks for. */
static int64_t divide(int64_t a, int64_t b) { return b == 0 ? 0 : b == -1 ? wrap(0 - (uint64_t)a) : a / b; }
/* The remainder with the sign of the divisor (Python), or of the dividend (C). */
static int64_t mod_floor(int64_t a, int64_t b) {
    int64_t r = b == 0 || b == -1 ? 0 : a % b;
    return r != 0 && (r < 0) != (b < 0) ? r + b : r;
}
static int64_t mod_trunc(int64_t a, int64_t b) { return b == 0 || b == -1 ? 0 : a % b; }
static int64_t power(int64_t base, int64_t exponent) {
    if (exponent < 0) return base == 1 ? 1 : base == -1 ? (exponent % 2 ? -1 : 1) : 0;
    uint64_t result = 1, square = (uint64_t)base;
    for (; exponent; exponent >>= 1, square *= square)
        if (exponent & 1) result *= square;
    return wrap(result);
}

static uint64_t power_u64(uint64_t base, uint64_t exponent) {
    uint64_t result = 1;
    for (; exponent; exponent >>= 1, base *= base)
        if (exponent & 1) result *= base;
    return result;
}
/* Bits beyond the ends are lost, all of them if there is nothing else. */
static uint64_t shift_left(uint64_t x, uint64_t by) { return by > 63 ? 0 : x << by; }
static uint64_t shift_right(uint64_t x, uint64_t by) { return by > 63 ? 0 : x >> by; }

/* X(name, f32, f64, s64, u64): formulas of x and y. */
#define ROWS_LIST(X)                                                                       \
    X(add, x + y, x + y, wrap((uint64_t)x + (uint64_t)y), x + y)                           \
    X(sub, x - y, x - y, wrap((uint64_t)x - (uint64_t)y), x - y)                           \
    X(mul, x * y, x * y, wrap((uint64_t)x *(uint64_t)y), x *y)                             \
    X(div, x / y, x / y, divide(x, y), y == 0 ? 0 : x / y)                                 \
    X(pow, powf(x, y), pow(x, y), power(x, y), power_u64(x, y))                            \
    X(fmod, fmodf(x, y), fmod(x, y), mod_trunc(x, y), y == 0 ? 0 : x % y)                  \
    X(mod, fmodf(x, y), fmod(x, y), mod_floor(x, y), y == 0 ? 0 : x % y)                   \
    X(max, x > y || x != x ? x : y, x > y || x != x ? x : y, x > y ? x : y, x > y ? x : y) \
    X(min, x < y || x != x ? x : y, x < y || x != x ? x : y, x < y ? x : y, x < y ? x : y) \
    X(equal, x == y, x == y, x == y, x == y)                                               \
    X(greater, x > y, x > y, x > y, x > y)                                                 \
    X(greater_equal, x >= y, x >= y, x >= y, x >= y)                                       \
    X(less, x < y, x < y, x < y, x < y)                                                    \
    X(less_equal, x <= y, x <= y, x <= y, x <= y)                                          \
    X(and, 0, 0, x &&y, 0)                                                                 \
    X(or, 0, 0, x || y, 0)                                                                 \
    X(xor, 0, 0, !x != !y, 0)                                                              \
    X(left, 0, 0, wrap(shift_left((uint64_t)x, (uint64_t)y)), shift_left(x, y))            \
    X(right, 0, 0, wrap(shift_right((uint64_t)x, (uint64_t)y)), shift_right(x, y))

#define DEFINE_ROW(name, T, suffix, formula)                                 \
    static void name##_##suffix(const T *a, const T *b, T *out, int64_t n) { \
        for (int64_t i = 0; i < n; i++) {                                    \
            T x = a[i], y = b[i];                                            \
            (void)x, (void)y;                                                \
            out[i] = (T)(formula);                                           \
        }                                                                    \
    }
#define DEFINE_ROWS(name, on_f32, on_f64, on_s64, on_u64) \
    DEFINE_ROW(name, float, f32, on_f32)                  \
    DEFINE_ROW(name, double, f64, on_f64)                 \
    DEFINE_ROW(name, int64_t, s64, on_s64)                \
    DEFINE_ROW(name, uint64_t, u64, on_u64)               \
    static const binary_rows rows_##name = {name##_f32, name##_f64, name##_s64, name##_u64};
ROWS_LIST(DEFINE_ROWS)

static int kind_of(espl_dtype dtype) {
    return dtype == ESPL_F32 ? KIND_F32 : espl_dtype_is_float(dtype) ? KIND_F64 : dtype == ESPL_U64 ? KIND_U64 : KIND_S64;
}

/* n elements, at least one, as the widest type of their kind: the elements themselves where they are that already. */
static const void *widen(int kind, espl_dtype dtype, const void *p, int64_t step, int64_t n, void *buffer) {
    if (kind == KIND_F32) {
        if (step) return p;
        int64_t i = 0;
        do ((float *)buffer)[i] = *(const float *)p;
        while (++i < n);
    } else if (kind == KIND_F64) {
        espl__load_f64(dtype, p, step, n, buffer);
    } else {
        espl__load_s64(dtype, p, step, n, buffer);
    }
    return buffer;
}

static void chunk(const binary_rows *rows, espl_dtype type, const void *a, int64_t sa, espl_dtype type_b,
                  const void *b, int64_t sb, espl_dtype type_y, void *y, int64_t n) {
    union {
        float f32[ESPL__CHUNK];
        double f64[ESPL__CHUNK];
        int64_t s64[ESPL__CHUNK];
        uint64_t u64[ESPL__CHUNK];
    } wide_a, wide_b, wide_y;
    int kind = kind_of(type);
    /* Only Pow mixes types. */
    if (type != type_b && (espl_dtype_is_float(type) || espl_dtype_is_float(type_b))) kind = KIND_F64;
    const void *pa = widen(kind, type, a, sa, n, &wide_a), *pb = widen(kind, type_b, b, sb, n, &wide_b);
    if (kind == KIND_F32 && type_y == ESPL_F32) {
        rows->f32(pa, pb, y, n);
    } else if (kind == KIND_F32) {
        rows->f32(pa, pb, wide_y.f32, n);
        for (int64_t i = 0; i < n; i++) ((uint8_t *)y)[i] = wide_y.f32[i] != 0; /* a comparison */
    } else if (kind == KIND_F64) {
        rows->f64(pa, pb, wide_y.f64, n);
        espl__store_f64(type_y, wide_y.f64, n, y);
    } else {
        if (kind == KIND_U64)
            rows->u64(pa, pb, wide_y.u64, n);
        else
            rows->s64(pa, pb, wide_y.s64, n);
        espl__store_s64(type_y, wide_y.s64, n, y);
    }
}

static void run(const binary_rows *f, const espl_tensor *a, const espl_tensor *b, espl_tensor *out) {
    espl__rows rows;
    const espl_shape *operands[] = {&a->shape, &b->shape};
    for (espl__rows_begin(&rows, &out->shape, operands, 2); !rows.done; espl__rows_next(&rows))
        for (int64_t i = 0; i < rows.n; i += ESPL__CHUNK)
            chunk(f, a->dtype, espl__at(a->data, a->dtype, rows.offset[0] + i * rows.step[0]), rows.step[0],
                  b->dtype, espl__at(b->data, b->dtype, rows.offset[1] + i * rows.step[1]), rows.step[1],
                  out->dtype, espl__at_mut(out->data, out->dtype, rows.out + i),
                  ESPL_MIN(rows.n - i, ESPL__CHUNK));
}

/* --- inference ------------------------------------------------------------------------------- */

static espl_status infer_all(const espl__node *node, uint32_t types, bool same, espl_dtype result,
                             espl_diag *diag) {
    espl_status status;
    espl_shape y = {0};
    bool known = true;
    ESPL_TRY(espl__op_begin(node, diag));
    for (int i = 0; i < node->input_count; i++) {
        ESPL_TRY(espl__check_dtype(node, i, types, diag));
        if (same) ESPL_TRY(espl__check_same_dtype(node, 0, i, diag));
        known = known && node->inputs[i]->known_rank;
    }
    if (!known) return espl__set_unknown(node, 0, result);
    for (int i = 0; i < node->input_count; i++) ESPL_TRY(espl__broadcast(&y, &node->inputs[i]->shape, diag));
    status = espl__set_out(node, 0, result, &y, diag);
done:
    return status;
}

static espl_dtype first_type(const espl__node *node) {
    return node->input_count > 0 && node->inputs[0] ? node->inputs[0]->dtype : ESPL_F32;
}

#define NUMBERS (ESPL__T_INT | ESPL__T(U64) | ESPL__T_FLOAT)

static espl_status infer_number(const espl__node *node, espl_diag *diag) {
    return infer_all(node, NUMBERS, true, first_type(node), diag);
}
static espl_status infer_pow(const espl__node *node, espl_diag *diag) {
    return infer_all(node, NUMBERS, false, first_type(node), diag);
}
static espl_status infer_compare(const espl__node *node, espl_diag *diag) {
    return infer_all(node, NUMBERS, true, ESPL_BOOL, diag);
}
static espl_status infer_equal(const espl__node *node, espl_diag *diag) {
    return infer_all(node, ESPL__T_ALL, true, ESPL_BOOL, diag);
}
static espl_status infer_logic(const espl__node *node, espl_diag *diag) {
    return infer_all(node, ESPL__T(BOOL), true, ESPL_BOOL, diag);
}
static espl_status infer_float(const espl__node *node, espl_diag *diag) {
    return infer_all(node, ESPL__T_FLOAT, true, first_type(node), diag);
}
static espl_status infer_prelu(const espl__node *node, espl_diag *diag) {
    espl_status status = infer_all(node, ESPL__T(F32), true, ESPL_F32, diag);
    if (status != ESPL_OK || !node->inputs[0]->known_rank || !node->inputs[1]->known_rank) return status;
    if (node->outputs[0]->shape.rank != node->inputs[0]->shape.rank)
        return espl__fail(diag, ESPL_SHAPE, "PRelu: the slope has more dimensions than the input");
    for (int i = 0; i < node->outputs[0]->shape.rank; i++)
        if (!espl__dims_agree(node->outputs[0]->shape.dim[i], node->inputs[0]->shape.dim[i]))
            return espl__fail(diag, ESPL_SHAPE, "PRelu: the slope does not broadcast to the input");
    return ESPL_OK;
}

/* --- operators ------------------------------------------------------------------------------- */

/* X(Name, rows, since, infer, role) */
#define BINARY_LIST(X)                                                     \
    X(Add, add, 7, infer_number, ESPL__QUANT_COMPUTE)                        \
    X(Sub, sub, 7, infer_number, ESPL__QUANT_FLOAT)                          \
    X(Mul, mul, 7, infer_number, ESPL__QUANT_FLOAT)                          \
    X(Div, div, 7, infer_number, ESPL__QUANT_FLOAT)                        \
    X(Pow, pow, 7, infer_pow, ESPL__QUANT_FLOAT)                           \
    X(Greater, greater, 7, infer_compare, ESPL__QUANT_FLOAT)               \
    X(GreaterOrEqual, greater_equal, 12, infer_compare, ESPL__QUANT_FLOAT) \
    X(Less, less, 7, infer_compare, ESPL__QUANT_FLOAT)                     \
    X(LessOrEqual, less_equal, 12, infer_compare, ESPL__QUANT_FLOAT)       \
    X(And, and, 7, infer_logic, ESPL__QUANT_FLOAT)                         \
    X(Or, or, 7, infer_logic, ESPL__QUANT_FLOAT)                           \
    X(Xor, xor, 7, infer_logic, ESPL__QUANT_FLOAT)

#define DEFINE_OP(Name, count_min, count_max, first, infer_fn, eval_fn, role) \
    DEFINE_TEXT_OP(Name, count_min, count_max, first, infer_fn, eval_fn, role, 0)
#define DEFINE_TEXT_OP(Name, count_min, count_max, first, infer_fn, eval_fn, role, text) \
    const espl__op espl__op_##Name = {.name = #Name,                          \
                                      .domain = "",                           \
                                      .min_inputs = count_min,                \
                                      .max_inputs = count_max,                \
                                      .min_outputs = 1,                       \
                                      .max_outputs = 1,                       \
                                      .since = first,                         \
                                      .until = 21,                            \
                                      .infer = infer_fn,                      \
                                      .eval = eval_fn,                        \
                                      .quant = role,                          \
                                      .text_inputs = text};
#define DEFINE_BINARY(Name, rows, first, infer_fn, role)                                     \
    static void eval_##Name(const espl__node *node, const espl_tensor *in, espl_tensor *out, \
                            void *scratch) {                                                 \
        (void)node, (void)scratch;                                                           \
        run(&rows_##rows, &in[0], &in[1], &out[0]);                                          \
    }                                                                                        \
    DEFINE_OP(Name, 2, 2, first, infer_fn, eval_##Name, role)
BINARY_LIST(DEFINE_BINARY)

static void eval_equal(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)node, (void)scratch;
    espl__rows rows;
    const espl_shape *operands[] = {&in[0].shape, &in[1].shape};
    const espl_text *a = in[0].data, *b = in[1].data;
    if (in[0].dtype != ESPL_STRING) {
        run(&rows_equal, &in[0], &in[1], &out[0]);
        return;
    }
    for (espl__rows_begin(&rows, &out[0].shape, operands, 2); !rows.done; espl__rows_next(&rows))
        for (int64_t i = 0; i < rows.n; i++)
            ((uint8_t *)out[0].data)[rows.out + i] =
                espl__text_equal(&a[rows.offset[0] + i * rows.step[0]], &b[rows.offset[1] + i * rows.step[1]]);
}
DEFINE_TEXT_OP(Equal, 2, 2, 7, infer_equal, eval_equal, ESPL__QUANT_FLOAT, 3)

static espl_status infer_mod(const espl__node *node, espl_diag *diag) {
    if (espl__attr_int(node, "fmod", 0) == 0 && node->input_count > 0 && node->inputs[0] &&
        espl_dtype_is_float(node->inputs[0]->dtype))
        return espl__fail(diag, ESPL_FORMAT, "Mod: floats need fmod = 1");
    return infer_number(node, diag);
}
static void eval_mod(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)scratch;
    run(espl__attr_int(node, "fmod", 0) ? &rows_fmod : &rows_mod, &in[0], &in[1], &out[0]);
}
DEFINE_OP(Mod, 2, 2, 10, infer_mod, eval_mod, ESPL__QUANT_FLOAT)

static bool shifts_left(const espl__node *node) {
    return strcmp(espl__attr_string(node, "direction", ""), "LEFT") == 0;
}
static espl_status infer_shift(const espl__node *node, espl_diag *diag) {
    const char *direction = espl__attr_string(node, "direction", "");
    if (!shifts_left(node) && strcmp(direction, "RIGHT") != 0)
        return espl__fail(diag, ESPL_FORMAT, "BitShift: direction '%.40s' is neither LEFT nor RIGHT", direction);
    return infer_all(node, ESPL__T(U8) | ESPL__T(U16) | ESPL__T(U32) | ESPL__T(U64), true, first_type(node), diag);
}
static void eval_shift(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)scratch;
    run(shifts_left(node) ? &rows_left : &rows_right, &in[0], &in[1], &out[0]);
}
DEFINE_OP(BitShift, 2, 2, 11, infer_shift, eval_shift, ESPL__QUANT_FLOAT)

static void eval_prelu(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)node, (void)scratch;
    espl__rows rows;
    const espl_shape *operands[] = {&in[0].shape, &in[1].shape};
    for (espl__rows_begin(&rows, &out[0].shape, operands, 2); !rows.done; espl__rows_next(&rows))
        for (int64_t i = 0; i < rows.n; i++) {
            float x = ((const float *)in[0].data)[rows.offset[0] + i * rows.step[0]];
            float slope = ((const float *)in[1].data)[rows.offset[1] + i * rows.step[1]];
            ((float *)out[0].data)[rows.out + i] = x < 0 ? slope * x : x;
        }
}
DEFINE_OP(PRelu, 2, 2, 7, infer_prelu, eval_prelu, ESPL__QUANT_FLOAT)

/* --- any number of operands ------------------------------------------------------------------ */

/* Folds from the left into the output, which starts as the first operand broadcast. */
static void fold(const espl__node *node, const binary_rows *f, const espl_tensor *in, espl_tensor *out) {
    espl__rows rows;
    const espl_shape *first = &in[0].shape;
    size_t elem = espl_dtype_bytes(out->dtype);
    for (espl__rows_begin(&rows, &out->shape, &first, 1); !rows.done; espl__rows_next(&rows))
        espl__copy_strided(espl__at_mut(out->data, out->dtype, rows.out),
                           espl__at(in[0].data, out->dtype, rows.offset[0]), elem, 1, &rows.n, &rows.step[0]);
    for (int k = 1; k < node->input_count; k++) run(f, out, &in[k], out);
}

static void eval_max(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)scratch;
    fold(node, &rows_max, in, out);
}
static void eval_min(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)scratch;
    fold(node, &rows_min, in, out);
}
static void eval_sum(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)scratch;
    fold(node, &rows_add, in, out);
}
static void eval_mean(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)scratch;
    fold(node, &rows_add, in, out);
    const espl_shape scalar = {0};
    double count = node->input_count;
    float narrow = (float)count;
    espl_tensor divisor = {out->dtype, scalar, out->dtype == ESPL_F32 ? (void *)&narrow : (void *)&count};
    if (out->dtype != ESPL_F32) divisor.dtype = ESPL_F64;
    run(&rows_div, out, &divisor, out);
}
DEFINE_OP(Max, 1, -1, 6, infer_number, eval_max, ESPL__QUANT_FLOAT)
DEFINE_OP(Min, 1, -1, 6, infer_number, eval_min, ESPL__QUANT_FLOAT)
DEFINE_OP(Sum, 1, -1, 6, infer_float, eval_sum, ESPL__QUANT_FLOAT)
DEFINE_OP(Mean, 1, -1, 6, infer_float, eval_mean, ESPL__QUANT_FLOAT)

static void eval_not(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)node, (void)scratch;
    for (int64_t i = 0, n = espl_shape_count(&in[0].shape); i < n; i++)
        ((uint8_t *)out[0].data)[i] = !((const uint8_t *)in[0].data)[i];
}
DEFINE_OP(Not, 1, 1, 1, infer_logic, eval_not, ESPL__QUANT_FLOAT)
