/* Inside src/onnx only: in which of ONNX's forms a quantized value is written. */
#ifndef ESPL_ONNX_FORM_H
#define ESPL_ONNX_FORM_H

#include "graph/graph.h"
#include "espalier/onnx.h"

typedef enum espl__form_kind {
    ESPL__FORM_PLAIN,  /* a constant: its numbers in f32; a value: not rounded, for there is no standard form
                        */
    ESPL__FORM_CAST,   /* Cast to a 16-bit float and back */
    ESPL__FORM_LINEAR, /* QuantizeLinear and DequantizeLinear */
    ESPL__FORM_SCALED, /* the same made of Cast and Mul */
} espl__form_kind;

typedef struct espl__form {
    espl__form_kind kind;
    espl_dtype type; /* of the codes in the file */
    bool clip;       /* a Clip before: the codes of the type reach further than the format's */
    int opset;       /* the first that has it */
} espl__form;

/* Magnitudes of a signed log2 format: 2^0 to 2^-(steps - 1). */
int espl__form_log2_steps(espl_format format);
/* The forms of all values, by id. NULL without memory. */
espl__form *espl__onnx_forms(espl__arena *arena, const espl_graph *graph, espl_flavour flavour, int newest);

#endif
