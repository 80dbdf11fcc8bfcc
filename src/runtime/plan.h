/* Lowering: a specialised graph becomes a list of steps over buffers of one workspace.
 *
 * A view says where a value's elements are: a buffer, an element type and byte strides for the value's
 * logical dimensions. Values that convolutions and pools touch are laid out NHWC, with a halo (border) as
 * wide as their readers pad; the border is filled once after the value is produced, so that no kernel tests
 * for edges. Other values are dense row-major. Quantized values are u8 (an s8 grid is shifted by 128).
 * `espl__plan_require` brings a value into the form a step wants, by a conversion step where it is not. */
#ifndef ESPL_PLAN_H
#define ESPL_PLAN_H

#include "espalier/session.h"
#include "graph/graph.h"
#include "kernels/kernels.h"
#include "base/pool.h"
#include "passes/late.h"

typedef struct view {
    int buffer;
    espl_dtype type;
    bool quantized; /* type is U8 and r = scale * (q - zero) */
    float scale;
    int32_t zero;
    int rank;
    int64_t dim[ESPL_MAX_RANK], stride[ESPL_MAX_RANK]; /* stride in bytes, of the logical dimensions */
    int64_t offset;                                    /* of element 0, bytes from the start of the buffer */
    bool nhwc;
    int64_t cs; /* physical channels: rows of the last physical dimension hold this many elements */
    int top, left, bottom, right; /* halo, pixels; nhwc only */
} view;

typedef enum buffer_kind { BUFFER_WORK, BUFFER_INPUT, BUFFER_OUTPUT, BUFFER_CONST } buffer_kind;

typedef struct buffer {
    buffer_kind kind;
    int index; /* of the graph input or output */
    uint64_t bytes, offset;
    int first, last; /* steps between which it lives */
    void *data;      /* resolved: BUFFER_CONST at once, BUFFER_WORK when planned, the others at each run */
    const espl__value *lent; /* data are this constant's, lent by the graph that the session is made of */
} buffer;

/* A block of packed weights that may be freed before the session. */
typedef struct held {
    struct held *next;
    void *data;
    uint64_t bytes;
} held;

typedef struct step step;
struct step {
    void (*run)(const step *s, espl_session *session);
    const char *kernel, *format;
    const char
        *core; /* the row of ESPL__KERNEL_LIST that does most of it, where `kernel` is a name for several */
    const espl__node *node;
    int64_t macs;
    uint64_t weight_bytes, activation_bytes; /* the latter of the buffers it uses */
    double seconds, best;                    /* sum over profiled runs, shortest of them */
    int64_t runs;
    step *other;  /* NULL, or the same work done in another way, until espl__plan_choose takes the faster */
    held *memory; /* weights of this way alone */
    bool sparse;  /* weights that are 0 are left out */
    const char *choice; /* its key in base/tune.h */
    const char *slower; /* kernel of the way that was not taken; NULL: there was none */
    double gain;        /* its time as a multiple of this one's; 0: not known */
};

/* One form of a value that exists. */
typedef struct form {
    view v;
    bool halo_filled;
    struct form *next;
} form;

/* What runs after all steps, if anything does (passes/late.h), and the outputs of both. */
typedef struct late_part {
    espl__late late;
    espl_tensor *info;               /* by output of the network */
    espl_tensor *handed, *given;     /* by output of the static part; by input of the late one */
    espl_tensor *results;            /* by output of the late part: of the last run */
    void **memory;                   /* by output of the static part: its own, where the caller has none */
} late_part;

struct espl_session {
    espl_context *ctx;
    espl_graph *graph; /* specialised copy */
    espl__arena arena; /* steps and everything they point to */
    const espl__kernels *kernels;
    bool profile;
    espl_arithmetic arithmetic;
    espl_observer observer;
    void *observer_user;
    const bool *observed; /* by value of the graph that this is a copy of; NULL: all. Read while lowering only. */
    bool unordered;

    buffer *buffers;
    int buffer_count, buffer_capacity;
    step **steps;
    int step_count, step_capacity;
    uint64_t weight_bytes, workspace_bytes;
    held **hold; /* where espl__plan_packed puts its blocks; NULL: into the arena */
    char *workspace;
    espl_tensor *inputs, *outputs; /* of the graph: of the static part, if there is a late one */
    late_part late;
    int threads;

    /* While lowering. */
    form **forms;     /* by value id: the forms that exist, the one its producer made first */
    uint8_t *spatial; /* by value id: wanted in NHWC */
    int (*halos)[4];  /* by value id: top, left, bottom, right */
    bool *done;       /* by node id: fused into an earlier one */
    int64_t runs;
};

/* --- views ---------------------------------------------------------------------------------- */

static inline char *buffer_at(const espl_session *s, const view *v) {
    return (char *)s->buffers[v->buffer].data + v->offset;
}
/* The quantization of a value as views carry it; false if it is not one scale of 8 bits. */
bool espl__plan_grid(const espl__value *value, float *scale, int32_t *zero);
/* A dense row-major view description (no buffer yet); last dimension padded to cs elements (0: dense). */
view espl__view_rows(const espl_shape *shape, espl_dtype type, int64_t cs);
view espl__view_nhwc(const espl_shape *shape, espl_dtype type, const int halo[4]);
uint64_t espl__view_bytes(const view *v);
bool espl__view_is_dense(const view *v);
/* Both describe elements at the same places relative to their offset. */
bool espl__view_same_layout(const view *a, const view *b);

/* --- plan ----------------------------------------------------------------------------------- */

/* -1 without memory. */
int espl__plan_buffer(espl_session *s, buffer_kind kind, uint64_t bytes);
int espl__plan_constant(espl_session *s, const void *data, uint64_t bytes); /* borrowed data */
/* After lowering: copies what steps read of the graph's constants, so that it may go. */
espl_status espl__plan_settle(espl_session *s, espl_diag *diag);
/* `size` bytes of zeroed step, already in the list. */
void *espl__plan_step(espl_session *s, size_t size, const espl__node *node, const char *kernel,
                      void (*run)(const step *, espl_session *));
/* Memory of the session's life, counted as weights. */
void *espl__plan_weights(espl_session *s, uint64_t bytes);
/* The same, to be written whole: not zeroed. While s->hold is set, a block of that list. */
void *espl__plan_packed(espl_session *s, uint64_t bytes);
void espl__plan_release(espl_session *s, held **list);
/* When the memory is planned: times both ways of every step that has two, takes the faster and frees the
 * other's weights. */
espl_status espl__plan_choose(espl_session *s, espl_diag *diag);
/* The step that was added last uses this buffer. */
void espl__plan_use(espl_session *s, int buffer);

/* Declares that `value` exists in this view. */
espl_status espl__plan_produce(espl_session *s, const espl__value *value, const view *v, espl_diag *diag);
/* Makes a view for `value` as its producer shall write it: the value's wanted layout; f32 or, if the value is
 * quantized and `type` is U8, u8 with its grid. Allocates the buffer. A graph output that can be written in
 * place is. */
espl_status espl__plan_output(espl_session *s, const espl__value *value, espl_dtype type, view *out,
                              espl_diag *diag);

/* Where a step stores `value`: *final is its view, *out what the step itself writes. They are the same,
 * unless the value is quantized and the step computes floats (`rounds_itself` false): then *out is an f32
 * view that espl__plan_finish rounds. */
espl_status espl__plan_store(espl_session *s, const espl__value *value, bool rounds_itself, view *out,
                             view *final, espl_diag *diag);
/* After the step: rounds if needed, and declares the value. */
espl_status espl__plan_finish(espl_session *s, const espl__node *node, const espl__value *value,
                              const view *out, const view *final, espl_diag *diag);

typedef enum want { WANT_ROWS, WANT_NHWC, WANT_ANY } want;
/* The view of `value` with the element type (U8: in the value's own grid; F32: dequantized; others as they
 * are) and layout, cs_multiple for the last physical dimension; converts if none exists. */
espl_status espl__plan_require(espl_session *s, const espl__node *reader, const espl__value *value,
                               espl_dtype type, want layout, int cs_multiple, view *out, espl_diag *diag);
/* Fills the halo of an NHWC form of `value` once. */
espl_status espl__plan_fill_halo(espl_session *s, const espl__node *reader, const espl__value *value,
                                 const view *v, espl_diag *diag);
/* Copies, quantizes, dequantizes or requantizes src to dst: same logical dimensions, any strides. */
espl_status espl__plan_convert(espl_session *s, const espl__node *node, const view *src, const view *dst,
                               espl_diag *diag);
/* Fills a whole view's buffer range with one element (f32 value or u8 code). */
espl_status espl__plan_fill(espl_session *s, const espl__node *node, const view *v, float value,
                            espl_diag *diag);

/* Assigns offsets to work buffers by their lifetimes and allocates the workspace. */
espl_status espl__plan_memory(espl_session *s, espl_diag *diag);

/* --- lowering --------------------------------------------------------------------------------- */

/* Lowers the node and sets *taken, or leaves *taken false: the general way (the operator's reference) then
 * serves. */
typedef espl_status (*lower_fn)(espl_session *s, espl__node *node, bool *taken, espl_diag *diag);

/* X(operator, function): the one list of operators with kernels. */
#define LOWER_LIST(X)                        \
    X("Conv", espl__lower_conv)              \
    X("Gemm", espl__lower_gemm)              \
    X("MatMul", espl__lower_matmul)          \
    X("Add", espl__lower_add)                \
    X("Sub", espl__lower_table)              \
    X("Mul", espl__lower_table)              \
    X("Div", espl__lower_table)              \
    X("Max", espl__lower_table)              \
    X("Min", espl__lower_table)              \
    X("Pow", espl__lower_table)              \
    X("MaxPool", espl__lower_pool)           \
    X("AveragePool", espl__lower_pool)       \
    X("GlobalAveragePool", espl__lower_pool) \
    X("GlobalMaxPool", espl__lower_pool)     \
    X("Softmax", espl__lower_softmax)        \
    X("Concat", espl__lower_concat)          \
    X("Slice", espl__lower_slice)            \
    X("Split", espl__lower_split)            \
    X("Transpose", espl__lower_transpose)    \
    X("Pad", espl__lower_pad)                \
    X("LSTM", espl__lower_rnn)               \
    X("GRU", espl__lower_rnn)                \
    X("RNN", espl__lower_rnn)
espl_status espl__lower_conv(espl_session *s, espl__node *node, bool *taken, espl_diag *diag);
espl_status espl__lower_gemm(espl_session *s, espl__node *node, bool *taken, espl_diag *diag);
espl_status espl__lower_matmul(espl_session *s, espl__node *node, bool *taken, espl_diag *diag);
espl_status espl__lower_add(espl_session *s, espl__node *node, bool *taken, espl_diag *diag);
espl_status espl__lower_pool(espl_session *s, espl__node *node, bool *taken, espl_diag *diag);
espl_status espl__lower_softmax(espl_session *s, espl__node *node, bool *taken, espl_diag *diag);
espl_status espl__lower_concat(espl_session *s, espl__node *node, bool *taken, espl_diag *diag);
espl_status espl__lower_slice(espl_session *s, espl__node *node, bool *taken, espl_diag *diag);
espl_status espl__lower_split(espl_session *s, espl__node *node, bool *taken, espl_diag *diag);
espl_status espl__lower_transpose(espl_session *s, espl__node *node, bool *taken, espl_diag *diag);
espl_status espl__lower_pad(espl_session *s, espl__node *node, bool *taken, espl_diag *diag);
espl_status espl__lower_rnn(espl_session *s, espl__node *node, bool *taken, espl_diag *diag);
/* Elementwise functions of one input on u8 grids, by table; views; and the operator's own reference. */
espl_status espl__lower_table(espl_session *s, espl__node *node, bool *taken, espl_diag *diag);
espl_status espl__lower_view(espl_session *s, espl__node *node, bool *taken, espl_diag *diag);
espl_status espl__lower_reference(espl_session *s, espl__node *node, espl_diag *diag);

/* What can be computed in the store of one layer: a bias, bounds, a residual addition, bounds again. */
typedef struct fusion {
    espl__value *out;      /* the value that is stored */
    espl__value *first;    /* the layer's own value, rounded if quantized (stage 1) */
    espl__value *bias;     /* constant per channel; NULL: none */
    float lo, hi;          /* bounds of stage 1 (or of all, without a residual) */
    espl__value *residual; /* NULL: none */
    float lo2, hi2;
} fusion;
/* CLAMP: bounds only. INTEGER and FLOAT: also a residual addition, in the arithmetic the layer uses. */
typedef enum fuse_mode { FUSE_CLAMP, FUSE_INTEGER, FUSE_FLOAT } fuse_mode;
/* Follows the single readers of node's output; marks the nodes it takes as done. */
void espl__plan_fuse(espl_session *s, espl__node *node, fuse_mode mode, fusion *f);
/* Code of a real bound on a grid, clamped to 0..255. */
int32_t espl__plan_bound(float bound, float scale, int32_t zero);

#endif
