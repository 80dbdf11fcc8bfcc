/* ONNX in and out: models of opset 1 to 21, written back as standard ONNX that other tools load and accelerate. */
#ifndef ESPALIER_ONNX_H
#define ESPALIER_ONNX_H

#include "espalier/graph.h"

#ifdef __cplusplus
extern "C" {
#endif

/* X(NAME, name, what it is): whom a quantized export is for. */
#define ESPL_FLAVOUR_LIST(X)                                                                             \
    X(PORTABLE, "portable", "s8 activations and weights with zero points of 0: every tool takes it")     \
    X(ORT_X86, "ort-x86", "u8 activations with zero points, s8 weights: fastest in ONNX Runtime on x86")

typedef enum espl_flavour {
#define X(NAME, name, text) ESPL_FLAVOUR_##NAME,
    ESPL_FLAVOUR_LIST(X)
#undef X
    ESPL_FLAVOUR_COUNT
} espl_flavour;

const char *espl_flavour_name(espl_flavour flavour);
/* false if there is no such name. */
bool espl_flavour_parse(const char *name, espl_flavour *out);

typedef struct espl_onnx_options {
    espl_flavour flavour;
    const char *doc; /* the model's doc_string; NULL: none */
} espl_onnx_options;

/* Reads a model. Weights in external files are taken from the model's own folder only. The graph is returned in *out,
 * owned by the caller (espl_graph_destroy). */
ESPL_NODISCARD espl_status espl_onnx_read(espl_context *ctx, const char *path, espl_graph **out, espl_diag *diag);
/* Writes a model: quantizations become QuantizeLinear and DequantizeLinear. `options` may be NULL for the defaults. The
 * file appears whole or not at all. */
ESPL_NODISCARD espl_status espl_onnx_write(espl_context *ctx, const espl_graph *graph,
                                           const espl_onnx_options *options, const char *path, espl_diag *diag);
/* Reads one TensorProto (a .pb file, as ONNX's test data are). The tensor is owned by the caller (espl_tensor_free). */
ESPL_NODISCARD espl_status espl_onnx_read_tensor(espl_context *ctx, const char *path, espl_tensor *out,
                                                 espl_diag *diag);

#ifdef __cplusplus
}
#endif
#endif
