/* Det: the gradient of a determinant is the matrix of cofactors, det(A) times the transposed inverse where
 * there is one (Jacobi's formula), in double. */
#include <math.h>

#include "ops/matrix.h"
#include "train/ops/loops.h"

static int64_t side(const espl__call *c) {
    return c->in->shape.dim[c->in->shape.rank - 1];
}

static espl_status prepare(espl__call *c, espl_diag *diag) {
    (void)diag;
    uint64_t room = espl__scratch_bytes(c->node);
    c->forward_bytes = room;
    c->backward_bytes = 3 * room;
    return ESPL_OK;
}

/* Turns [a, b], b the unit matrix, into [unit, inverse of a], with the largest pivot of each column; false if
 * a is singular. */
static bool invert(double *a, double *b, int64_t n) {
    for (int64_t i = 0; i < n * n; i++) b[i] = i % (n + 1) == 0;
    for (int64_t k = 0; k < n; k++) {
        int64_t pivot = k;
        for (int64_t i = k + 1; i < n; i++)
            if (fabs(a[i * n + k]) > fabs(a[pivot * n + k])) pivot = i;
        double factor = a[pivot * n + k];
        if (factor == 0) return false;
        for (int64_t j = 0; j < n; j++) {
            double ta = a[pivot * n + j], tb = b[pivot * n + j];
            a[pivot * n + j] = a[k * n + j];
            b[pivot * n + j] = b[k * n + j];
            a[k * n + j] = ta / factor;
            b[k * n + j] = tb / factor;
        }
        for (int64_t i = 0; i < n; i++) {
            double f = i == k ? 0 : a[i * n + k];
            for (int64_t j = 0; f != 0 && j < n; j++) {
                a[i * n + j] -= f * a[k * n + j];
                b[i * n + j] -= f * b[k * n + j];
            }
        }
    }
    return true;
}

/* Cofactor (i, j): the determinant with row i replaced by the j-th unit vector. */
static double cofactor(const double *x, double *a, int64_t n, int64_t i, int64_t j) {
    memcpy(a, x, (size_t)(n * n) * sizeof *a);
    for (int64_t k = 0; k < n; k++) a[i * n + k] = k == j;
    return espl__determinant(a, n);
}

static void backward(espl__call *c) {
    int64_t n = side(c), each = n * n;
    double *x = c->scratch, *a = x + each, *inverse = a + each, dy, det, was;
    espl_dtype real = c->real;
    for (int64_t m = 0, count = espl_shape_count(&c->out->shape); n > 0 && m < count; m++) {
        espl__load_f64(real, espl__at(c->in->data, real, m * each), 1, each, x);
        espl__load_f64(real, espl__at(c->dout->data, real, m), 0, 1, &dy);
        memcpy(a, x, (size_t)each * sizeof *a);
        det = espl__determinant(a, n);
        memcpy(a, x, (size_t)each * sizeof *a);
        bool regular = det != 0 && invert(a, inverse, n);
        for (int64_t i = 0; i < each; i++) {
            void *at = espl__at_mut(c->din->data, real, m * each + i);
            double d = regular ? det * inverse[i % n * n + i / n] : cofactor(x, a, n, i / n, i % n);
            espl__load_f64(real, at, 0, 1, &was);
            d = dy * d + (c->add & 1 ? was : 0);
            espl__store_f64(real, &d, 1, at);
        }
    }
}

const espl__grad espl__grad_Det = {
    .op = "Det", .inputs = 1, .reads_in = 1, .prepare = prepare, .backward = backward};
