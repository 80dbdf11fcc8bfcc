/* What the operator files share: access to inputs, shape inference, geometry of windows, strided loops.
 * Floors above may use espl__window_resolve and espl__clip_range to see a node as its definition sees it. */
#ifndef ESPL_OPS_H
#define ESPL_OPS_H

#include "graph/graph.h"

enum {
    ESPL__MAX_SPATIAL = 3,               /* spatial dimensions of convolutions and pooling */
    ESPL__MAX_LOOPS = 2 * ESPL_MAX_RANK, /* loops of a strided copy */
    ESPL__CHUNK = 512                    /* elements converted at a time */
};

/* --- inputs, outputs, types ------------------------------------------------------------------ */

static inline espl__value *espl__in(const espl__node *node, int i) {
    return i < node->input_count ? node->inputs[i] : NULL;
}
static inline espl__value *espl__out(const espl__node *node, int i) {
    return i < node->output_count ? node->outputs[i] : NULL;
}
/* The value whose shape and dtype are as they were read: rank and every dimension are known. */
static inline bool espl__is_static(const espl__value *value) {
    return value->known_rank && espl_shape_count(&value->shape) >= 0;
}

/* No elements, though other dimensions may be huge: loops over those must not start. */
static inline bool espl__is_empty(const espl_tensor *tensor) { return espl_shape_count(&tensor->shape) == 0; }

/* Sets of element types. */
#define ESPL__T(name) (1u << ESPL_##name)
#define ESPL__T_ALL ((1u << ESPL_DTYPE_COUNT) - 1)
#define ESPL__T_SIGNED (ESPL__T(S8) | ESPL__T(S16) | ESPL__T(S32) | ESPL__T(S64))
#define ESPL__T_INT (ESPL__T_SIGNED | ESPL__T(U8) | ESPL__T(U16) | ESPL__T(U32))
#define ESPL__T_FLOAT (ESPL__T(F32) | ESPL__T(F64) | ESPL__T(F16) | ESPL__T(BF16))

/* Counts and presence of inputs and outputs; every infer starts with it. */
ESPL_NODISCARD espl_status espl__op_begin(const espl__node *node, espl_diag *diag);
/* Fails unless the type of input i is in the set. */
ESPL_NODISCARD espl_status espl__check_dtype(const espl__node *node, int i, uint32_t set, espl_diag *diag);
/* Fails unless present inputs a and b have one type. */
ESPL_NODISCARD espl_status espl__check_same_dtype(const espl__node *node, int a, int b, espl_diag *diag);
/* Fails if the rank of input i is known and not in [lo, hi]. */
ESPL_NODISCARD espl_status espl__check_rank(const espl__node *node, int i, int lo, int hi, espl_diag *diag);
/* Sets output i if it is present; refuses shapes that cannot exist. */
ESPL_NODISCARD espl_status espl__set_out(const espl__node *node, int i, espl_dtype dtype,
                                         const espl_shape *shape, espl_diag *diag);
/* Output i of unknown rank. Returns ESPL_OK, so that infer can end with it. */
espl_status espl__set_unknown(const espl__node *node, int i, espl_dtype dtype);
/* Output 0 has the shape of input 0 and this type. */
ESPL_NODISCARD espl_status espl__set_like_input(const espl__node *node, espl_dtype dtype, espl_diag *diag);

/* --- shapes, axes, parameters ---------------------------------------------------------------- */

/* Puts a possibly negative axis into [0, rank). */
ESPL_NODISCARD espl_status espl__axis(int64_t axis, int rank, int *out, espl_diag *diag);
/* Equal or one of them unknown. */
static inline bool espl__dims_agree(int64_t a, int64_t b) { return a == b || a < 0 || b < 0; }
/* a * b for non-negative numbers, saturating. */
int64_t espl__mul_sat(int64_t a, int64_t b);
/* Product of dimensions [from, to) of a static shape. */
int64_t espl__dims_product(const espl_shape *shape, int from, int to);
/* Elements between neighbours along each axis of a dense tensor. */
void espl__strides(const espl_shape *shape, int64_t *stride);
/* Multidirectional broadcasting; `out` holds the shape so far and takes `other` in. */
ESPL_NODISCARD espl_status espl__broadcast(espl_shape *out, const espl_shape *other, espl_diag *diag);

/* A list of integers that is an attribute in old opsets and an input in new ones. */
typedef struct espl__ints {
    int64_t v[ESPL__MAX_LOOPS];
    int count;    /* -1: not even the count is known */
    bool present; /* attribute or input is there */
    bool known;   /* v is filled: an attribute, or a constant input */
} espl__ints;
/* `attr` may be NULL (no attribute form), `input` -1 (no input form). Constants must be s32 or s64 of rank 0
 * or 1. */
ESPL_NODISCARD espl_status espl__read_ints(const espl__node *node, const char *attr, int input,
                                           espl__ints *out, espl_diag *diag);
/* Normalises a list of axes into flags per axis; repeats are refused. */
ESPL_NODISCARD espl_status espl__axes_mask(const espl__ints *axes, int rank, bool *mask, espl_diag *diag);
/* First index and step along every axis of a Slice whose limits are constants; false if they are not. */
bool espl__slice_ranges(const espl__node *node, const espl_shape *x, int64_t *start, int64_t *step);
/* Limits of a Clip (or Relu, which is [0, inf), or Max or Min with one number); false if they are not constants. f32 only. */
bool espl__clip_range(const espl__node *node, float *lo, float *hi);

/* --- windows: convolution and pooling -------------------------------------------------------- */

/* The most elements of a spatial dimension that an operator may make. */
#define ESPL__MAX_EXTENT ((int64_t)1 << 40)

typedef struct espl__window {
    int rank; /* spatial dimensions, 1..3 */
    int64_t kernel[ESPL__MAX_SPATIAL], stride[ESPL__MAX_SPATIAL], dilation[ESPL__MAX_SPATIAL];
    int64_t begin[ESPL__MAX_SPATIAL], end[ESPL__MAX_SPATIAL]; /* padding, auto_pad resolved */
    int64_t in[ESPL__MAX_SPATIAL], out[ESPL__MAX_SPATIAL];    /* ESPL_DIM_UNKNOWN where unknown */
} espl__window;
/* Reads kernel_shape, strides, dilations, pads, auto_pad and ceil_mode of a Conv or pooling node whose input
 * has shape x (N, C, spatial...). `w`: shape of the weights (M, C/group, spatial...) or NULL for pooling. */
ESPL_NODISCARD espl_status espl__window_resolve(const espl__node *node, const espl_shape *x,
                                                const espl_shape *w, espl__window *out, espl_diag *diag);
/* The same without the formula of the output's size, which ConvTranspose has its own of. */
ESPL_NODISCARD espl_status espl__window_attrs(const espl__node *node, const espl_shape *x,
                                              const espl_shape *w, espl__window *out, espl_diag *diag);
/* Of a ConvTranspose: `out` is larger than `in`, which reaches out at in * stride + tap * dilation - begin. */
ESPL_NODISCARD espl_status espl__window_transposed(const espl__node *node, const espl_shape *x,
                                                   const espl_shape *w, espl__window *out, espl_diag *diag);
/* Makes the window three-dimensional by leading dimensions of 1. */
void espl__window_lift(espl__window *window);
/* Positions [lo, hi) of n outputs whose tap at `offset` (kernel index * dilation - begin) lies inside `in`. */
void espl__window_valid(int64_t offset, int64_t stride, int64_t in, int64_t n, int64_t *lo, int64_t *hi);
/* What MaxPool's Indices say of element `at` of a plane; by columns: the first spatial axis runs fastest. -1 stays. */
int64_t espl__pool_index(const espl__window *window, int64_t at, bool by_columns);

/* --- loops ----------------------------------------------------------------------------------- */

/* Dense out[i0][i1]... = in[i0 * stride[0] + i1 * stride[1] + ...]; strides in elements of `elem` bytes, any
 * sign. */
void espl__copy_strided(void *out, const void *in, size_t elem, int rank, const int64_t *dim,
                        const int64_t *stride);

/* Up to three operands broadcast to one output, walked row by row. */
typedef struct espl__rows {
    int rank, operands;
    int64_t dim[ESPL_MAX_RANK], stride[3][ESPL_MAX_RANK];
    int64_t index[ESPL_MAX_RANK];
    int64_t offset[3], out; /* of the present row, in elements */
    int64_t n, step[3];     /* length of a row, and each operand's step in it: 0 or 1 */
    bool done;
} espl__rows;
void espl__rows_begin(espl__rows *rows, const espl_shape *out, const espl_shape *const *operand,
                      int operands);
void espl__rows_next(espl__rows *rows);

/* log(softmax(x)) of one row; y is not x. */
void espl__log_softmax(const float *x, float *y, int64_t n);

/* Element i of a tensor of s32 or s64 indices. */
static inline int64_t espl__index_at(const espl_tensor *indices, int64_t i) {
    return indices->dtype == ESPL_S64 ? ((const int64_t *)indices->data)[i] : ((const int32_t *)indices->data)[i];
}
/* Index i of an axis of d elements, negative ones from the end; 0 if it is out of range. */
static inline int64_t espl__index_within(int64_t i, int64_t d) {
    if (i < 0) i += d;
    return i < 0 || i >= d ? 0 : i;
}
/* Fails if index i of input 1, one of an axis of d elements, is out of range. */
ESPL_NODISCARD espl_status espl__check_index(const espl__node *node, int64_t i, int64_t d, espl_diag *diag);

/* Whether element a stands before element b. */
typedef bool (*espl__before)(const void *of, int64_t a, int64_t b);
/* The numbers 0 to count - 1 in that order; elements of which neither stands before the other in any. */
void espl__order(int64_t *order, int64_t count, espl__before before, const void *of);

/* The generator of a node that draws: its attribute `seed` says all of it. */
espl__rng espl__node_rng(const espl__node *node);

/* out[r] += sum over k of w[r * k_count + k] * x[k], k in order. */
void espl__matvec(const float *w, int64_t rows, int64_t k_count, const float *x, float *out);

/* Conversion of n elements at p + i * step (step 0 or 1) to and from the widest types. Stores wrap integers,
 * round floats to nearest even, and saturate floats stored as integers (NaN gives 0). */
void espl__load_s64(espl_dtype dtype, const void *p, int64_t step, int64_t n, int64_t *out);
void espl__store_s64(espl_dtype dtype, const int64_t *in, int64_t n, void *p);
void espl__load_f64(espl_dtype dtype, const void *p, int64_t step, int64_t n, double *out);
void espl__store_f64(espl_dtype dtype, const double *in, int64_t n, void *p);

static inline const void *espl__at(const void *base, espl_dtype dtype, int64_t element) {
    return (const char *)base + (size_t)element * espl_dtype_bytes(dtype);
}
static inline void *espl__at_mut(void *base, espl_dtype dtype, int64_t element) {
    return (char *)base + (size_t)element * espl_dtype_bytes(dtype);
}

/* Element i of a tensor of f32 or f64. */
static inline double espl__real_at(const espl_tensor *t, int64_t i) {
    return t->dtype == ESPL_F32 ? (double)((const float *)t->data)[i] : ((const double *)t->data)[i];
}
static inline void espl__real_put(const espl_tensor *t, int64_t i, double x) {
    if (t->dtype == ESPL_F32)
        ((float *)t->data)[i] = (float)x;
    else
        ((double *)t->data)[i] = x;
}

#endif
