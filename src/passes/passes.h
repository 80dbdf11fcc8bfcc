/* Rewrites of the graph. Each pass is one file; PASS_LIST gives the order in which an imported graph goes
 * through them. */
#ifndef ESPL_PASSES_H
#define ESPL_PASSES_H

#include "graph/graph.h"
#include "tensor/sparse.h"

/* X(name, what it does) : espl_status espl__pass_<name>(espl_graph *, espl_diag *). The one list of passes;
 * run in order by espl__passes_run on a graph as imported, before anything else looks at it. */
#define ESPL__PASS_LIST(X)                                                                                \
    X(resolve, "If, Loop, Scan and sequences become what they do, as far as that is known before a run")  \
    X(widen, "values of f16 and bf16 become f32, weights constants of that format")                       \
    X(move_numbers, "what moves codes moves their numbers, between QuantizeLinear and DequantizeLinear")  \
    X(absorb_qdq, "QuantizeLinear, DequantizeLinear, Cast of weights become quantizations of values")     \
    X(absorb_dynamic, "integer products of inputs rounded in every run become MatMul or Conv")            \
    X(einsum, "Einsum of one or two operands becomes MatMul or Mul, Transpose and Reshape")               \
    X(infer, "shapes and types; nodes whose inputs are all constant are computed")                        \
    X(static_reshape, "shape arithmetic that only carries the batch size becomes a constant with a -1")   \
    X(simplify, "identities, views of views, and dropouts go")                                            \
    X(fold_batchnorm, "BatchNormalization goes into the layer before; one that cannot keeps two vectors") \
    X(propagate_grids, "what only moves rounded elements has their grid")                                 \
    X(bias, "Add of a per-channel constant after Conv or MatMul becomes its bias")                        \
    X(conv_to_gemm, "1x1 convolutions of 1x1 images that are then laid flat become Gemm")                 \
    X(dead_code, "nodes that no output needs go")                                                         \
    X(narrow, "weights whose codes all fit in 4 bits or fewer are of that format")                         \
    X(zeros, "the pattern that the zeros of weights satisfy is noted")

#define X(name, text) ESPL_NODISCARD espl_status espl__pass_##name(espl_graph *graph, espl_diag *diag);
ESPL__PASS_LIST(X)
#undef X

ESPL_NODISCARD espl_status espl__passes_run(espl_graph *graph, espl_diag *diag);

/* Constants stored in 16-bit floats become f32. */
ESPL_NODISCARD espl_status espl__widen_weights(espl_graph *graph, espl_diag *diag);
/* Whether there are any. */
bool espl__has_half_weights(const espl_graph *graph);

/* Gives the inputs these shapes (count = graph->input_count; an entry of rank -1 keeps the graph's own,
 * unknown dimensions becoming 1), infers all shapes and folds what is constant, in place. Afterwards every
 * shape is known. */
ESPL_NODISCARD espl_status espl__specialise(espl_graph *graph, const espl_shape *shapes, espl_diag *diag);

/* Runs a specialised graph by the operators' references, without any kernel: the oracle's stand-in and test
 * helper. Quantized constants count with the numbers they stand for; activations are not rounded. Outputs are
 * allocated from ctx and owned by the caller (espl_tensor_free). */
ESPL_NODISCARD espl_status espl__evaluate(espl_context *ctx, espl_graph *graph, const espl_tensor *inputs,
                                          espl_tensor *outputs, espl_diag *diag);

/* The f32 values of a constant, whatever its element type or quantization, as an arena tensor of type F32.
 * NULL without memory or if the type has no f32 reading. Returns the constant itself if it is plain f32. */
const espl_tensor *espl__constant_f32(espl_graph *graph, const espl__value *value);
/* The same into memory of the caller's; false if the type has no f32 reading. */
bool espl__constant_read(const espl__value *value, float *out);
/* Bits that an element takes where it is stored without gaps. */
int espl__constant_bits(const espl__value *value);
/* The same for a sparse layout. */
int espl__constant_sparse_bits(const espl__value *v);
/* True if its elements of 0 are zeros of the stored type too. */
bool espl__constant_zero_is_zero(const espl__value *value);
/* The sparse layout in which a constant is stored by what value->zeros says; false if dense takes no more bytes. */
bool espl__constant_sparse(const espl__value *value, espl__sparse *out);
/* The codes of an f32 tensor on a grid of u8 or s8, as an arena tensor of that type. NULL without memory. */
espl_tensor *espl__constant_codes(espl_graph *graph, const espl_tensor *numbers, const espl__quant *grid);

#endif
