/* What spectrograms are made with: windows, and weights of mel bands. Usually all of their inputs are
 * constant, and they are computed once. */
#include "ops/ops.h"

#include <inttypes.h>
#include <math.h>

static const double pi = 3.14159265358979323846;
enum { MAX_SIZE = 1 << 28 };

#define INDEX (ESPL__T(S32) | ESPL__T(S64))

/* A scalar that is constant; false if it is not known. */
static bool scalar(const espl__node *node, int i, double *out) {
    const espl__value *v = espl__in(node, i);
    if (!v->constant || espl_shape_count(&v->constant->shape) != 1) return false;
    espl__load_f64(v->constant->dtype, v->constant->data, 0, 1, out);
    return true;
}

static espl_status check_scalar(const espl__node *node, int i, uint32_t types, espl_diag *diag) {
    const espl__value *v = espl__in(node, i);
    espl_status status = espl__check_dtype(node, i, types, diag);
    if (status != ESPL_OK || !v->known_rank || espl_shape_count(&v->shape) < 0 ||
        espl_shape_count(&v->shape) == 1)
        return status;
    return espl__fail(diag, ESPL_SHAPE, "%s: input %d is not one number", node->op->name, i);
}

/* A size as a dimension. */
static espl_status read_size(const espl__node *node, int i, int64_t least, int64_t *out, espl_diag *diag) {
    double size;
    *out = ESPL_DIM_UNKNOWN;
    espl_status status = check_scalar(node, i, INDEX, diag);
    if (status != ESPL_OK || !scalar(node, i, &size)) return status;
    if (size < (double)least || size > MAX_SIZE)
        return espl__fail(diag, ESPL_LIMIT, "%s: a size of %g is not possible", node->op->name, size);
    *out = (int64_t)size;
    return ESPL_OK;
}

static espl_status read_type(const espl__node *node, espl_dtype *out, espl_diag *diag) {
    int64_t said = espl__attr_int(node, "output_datatype", 1);
    *out = ESPL_F32;
    if (espl__dtype_from_onnx(said, out) && ((ESPL__T_FLOAT | ESPL__T_INT) >> *out & 1)) return ESPL_OK;
    return espl__fail(diag, ESPL_UNSUPPORTED, "%s: output_datatype %" PRId64 " is not supported",
                      node->op->name, said);
}

static espl_status infer_window(const espl__node *node, espl_diag *diag) {
    espl_status status;
    espl_shape y = {.rank = 1};
    espl_dtype type;
    ESPL_TRY(espl__op_begin(node, diag));
    ESPL_TRY(read_type(node, &type, diag));
    ESPL_TRY(read_size(node, 0, 0, &y.dim[0], diag));
    status = espl__set_out(node, 0, type, &y, diag);
done:
    return status;
}

/* a - b cos(2 pi n / N) + c cos(4 pi n / N): all three windows are this. N is the size, of symmetric ones
 * less 1. */
static void window(const espl__node *node, espl_tensor *out, double a, double b, double c) {
    int64_t size = espl_shape_count(&out->shape);
    double period = (double)(size - (espl__attr_int(node, "periodic", 1) == 0));
    for (int64_t n = 0; n < size; n++) {
        double turn = 2 * pi * (double)n / (period > 0 ? period : 1);
        double y = a - b * cos(turn) + c * cos(2 * turn);
        if (period <= 0) y = 1;
        espl__store_f64(out->dtype, &y, 1, espl__at_mut(out->data, out->dtype, n));
    }
}

#define DEFINE_WINDOW(Name, a, b, c)                                                         \
    static void eval_##Name(const espl__node *node, const espl_tensor *in, espl_tensor *out, \
                            void *scratch) {                                                 \
        (void)in, (void)scratch;                                                             \
        window(node, &out[0], a, b, c);                                                      \
    }                                                                                        \
    const espl__op espl__op_##Name = {.name = #Name,                                         \
                                      .domain = "",                                          \
                                      .min_inputs = 1,                                       \
                                      .max_inputs = 1,                                       \
                                      .min_outputs = 1,                                      \
                                      .max_outputs = 1,                                      \
                                      .since = 17,                                           \
                                      .until = 21,                                           \
                                      .infer = infer_window,                                 \
                                      .eval = eval_##Name,                                   \
                                      .quant = ESPL__QUANT_FLOAT};
DEFINE_WINDOW(HannWindow, 0.5, 0.5, 0)
DEFINE_WINDOW(HammingWindow, 25.0 / 46, 21.0 / 46, 0)
DEFINE_WINDOW(BlackmanWindow, 0.42, 0.5, 0.08)

/* --- MelWeightMatrix ------------------------------------------------------------------------- */

static espl_status infer_mel(const espl__node *node, espl_diag *diag) {
    espl_status status;
    espl_shape y = {.rank = 2};
    espl_dtype type;
    ESPL_TRY(espl__op_begin(node, diag));
    ESPL_TRY(read_type(node, &type, diag));
    ESPL_TRY(read_size(node, 0, 0, &y.dim[1], diag));
    ESPL_TRY(read_size(node, 1, 1, &y.dim[0], diag));
    ESPL_TRY(check_scalar(node, 2, INDEX, diag));
    for (int i = 3; i < 5; i++) ESPL_TRY(check_scalar(node, i, ESPL__T_FLOAT, diag));
    if (y.dim[0] >= 0) y.dim[0] = y.dim[0] / 2 + 1;
    status = espl__set_out(node, 0, type, &y, diag);
done:
    return status;
}

static double number(const espl_tensor *t) {
    double x = 0;
    espl__load_f64(t->dtype, t->data, 0, 1, &x);
    return x;
}

static double mel_of(double hertz) {
    return 2595 * log10(1 + hertz / 700);
}

/* The bin of the spectrum at which the i-th of the bands' edges lies. */
static double edge(const espl_tensor *in, int64_t i, int64_t bands) {
    double low = mel_of(number(&in[3])), step = (mel_of(number(&in[4])) - low) / (double)(bands + 2);
    double hertz = 700 * (pow(10, ((double)i * step + low) / 2595) - 1), rate = number(&in[2]);
    double bin = floor((number(&in[1]) + 1) * hertz / rate);
    return bin > -1e9 ? bin < 1e9 ? bin : 1e9 : -1e9; /* no sample rate, no bin */
}

/* A band is a triangle: up from its left edge to its centre, down to its right edge. */
static void eval_mel(const espl__node *node, const espl_tensor *in, espl_tensor *out, void *scratch) {
    (void)node, (void)scratch;
    if (espl__is_empty(&out[0])) return;
    int64_t bins = out[0].shape.dim[0], bands = out[0].shape.dim[1];
    for (int64_t b = 0; b < bands; b++) {
        double left = edge(in, b, bands), centre = edge(in, b + 1, bands), right = edge(in, b + 2, bands);
        for (int64_t j = 0; j < bins; j++) {
            double at = (double)j, y = 0;
            if (centre == left)
                y = at == centre;
            else if (at >= left && at <= centre)
                y = (at - left) / (centre - left);
            if (right > centre && at >= centre && at < right) y = (right - at) / (right - centre);
            espl__store_f64(out[0].dtype, &y, 1, espl__at_mut(out[0].data, out[0].dtype, j * bands + b));
        }
    }
}

const espl__op espl__op_MelWeightMatrix = {
    .name = "MelWeightMatrix",
    .domain = "",
    .min_inputs = 5,
    .max_inputs = 5,
    .min_outputs = 1,
    .max_outputs = 1,
    .since = 17,
    .until = 21,
    .infer = infer_mel,
    .eval = eval_mel,
    .quant = ESPL__QUANT_FLOAT,
};
