/* Shared by the files that lower operators. */
#ifndef ESPL_LOWER_H
#define ESPL_LOWER_H

#include "runtime/plan.h"

espl_status espl__lower_graph(espl_session *s, espl_diag *diag);
/* Before it: takes the kernels that emulate this arithmetic, if it is another than this machine's. */
espl_status espl__lower_arithmetic(espl_session *s, const espl_arithmetic *arithmetic, espl_diag *diag);
/* After it: tells each linear layer which one's weights are read next. */
void espl__lower_link(espl_session *s);
/* Then: f32 layers around a depthwise one run in bands of rows, as one step. */
espl_status espl__lower_bands(espl_session *s, espl_diag *diag);
/* First: values in formats that no kernel stores become values that kernels store, and a rounding. */
espl_status espl__lower_formats(espl_graph *graph, espl_diag *diag);
/* Before everything else: work over one dimension becomes work over two. */
espl_status espl__lower_lift(espl_graph *graph, espl_diag *diag);
/* Layer normalisation and Gelu that are written out as many nodes become one; grids go before what only
 * moves. */
espl_status espl__lower_recognise(espl_graph *graph, espl_diag *diag);
/* Work on rows: takes this node and those behind it that can follow in the same pass. */
espl_status espl__lower_rows(espl_session *s, espl__node *node, bool *taken, espl_diag *diag);
/* How a value is stored: U8 if it is quantized to one grid of 8 bits, else its own type. */
espl_dtype espl__plan_store_type(const espl__value *value);
/* MatMul whose right side is no constant. */
espl_status espl__lower_matmul_dynamic(espl_session *s, espl__node *node, bool *taken, espl_diag *diag);
/* MatMul of f32 rows and s8 weights whose node allows to round the rows by their own range in every run. */
espl_status espl__lower_matmul_rounded(espl_session *s, espl__node *node, bool *taken, espl_diag *diag);
enum {
    GEMV_ROWS = 4, /* rows of a product up to which the gemv kernels run: with more, weights are reused */
    BANK_ROWS = 16 /* the same for weights in banks, which are unpacked for up to four rows at once */
};
/* The threads for a step of so many products; NULL if waking them costs more than it gains. `dense`: products
 * of integers that use each weight for many pixels, which run many times faster than any others. */
static inline espl__pool *pool_for(const espl_session *s, int64_t macs, bool dense) {
    enum { LEAST = 150000 }; /* about 3 us */
    static const signed char times[ESPL__CPU_COUNT] = {
        [ESPL__CPU_AVXVNNI] = 2, [ESPL__CPU_AVX512VNNI] = 4, [ESPL__CPU_AVX512VBMI] = 4, [ESPL__CPU_AMX] = 12};
    const int faster = dense && times[espl__cpu_level()] ? times[espl__cpu_level()] : 1;
    return macs >= (int64_t)LEAST * faster ? espl__context_pool(s->ctx) : NULL;
}
/* Channels as kernels see them: whole blocks. */
static inline int64_t pad16(int64_t n) {
    return (n + ESPL__NR - 1) / ESPL__NR * ESPL__NR;
}
/* No accumulator may pass 32 bits: |start| + K * 255 * max|w| < 2^31. */
static inline bool accumulator_fits(int64_t k) {
    return k < ((int64_t)1 << 31) / (2 * 255 * 128);
}
/* Bytes from row to row of a view that stands in rows. */
static inline int64_t row_stride(const view *v) {
    return (espl__view_is_dense(v) ? v->dim[v->rank - 1] : v->cs) * (int64_t)espl_dtype_bytes(v->type);
}
/* Raises halo (top, left, bottom, right) to what this convolution reads beyond its input. */
void espl__lower_conv_halo(const espl__node *node, int halo[4]);
/* The one input that varies if the node is an elementwise function of it (scalar constants beside it), else
 * -1. */
int espl__plan_unary_input(const espl__node *node);
/* An LSTM, GRU or RNN that has kernels, for which constant weights and the usual cell are needed. */
bool espl__plan_recurrent(const espl__node *node);
/* The Add of a constant per output channel that is all that reads a MatMul's output, and so is its bias;
 * NULL: none. */
espl__node *espl__plan_bias_add(const espl_graph *graph, const espl__node *node);

#endif
