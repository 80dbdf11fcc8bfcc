/* Inside src/onnx only: the parts of the ONNX writer. */
#ifndef ESPL_ONNX_WRITER_H
#define ESPL_ONNX_WRITER_H

#include "onnx/form.h"
#include "onnx/onnx_impl.h"

typedef struct espl__writer {
    espl_context *ctx;
    const espl_graph *graph;
    espl_flavour flavour;
    espl_diag *diag;
    espl__arena arena; /* messages and names; tensor data are borrowed from the graph */
    pb_graph out;
    int opset;
    espl__names value_names, node_names;
    int *uses;           /* of each value, by id */
    bool *is_output;     /* of each value, by id */
    const char **name;   /* what each value's producer writes, by id */
    const char **read;   /* what its readers read: differs where a QuantizeLinear and DequantizeLinear follow */
    const char ***forks; /* by id: the name that each further reader reads, or NULL: all read the same */
    int *readers;        /* by id: how many have been written */
    bool *constant_done; /* by id: its initializer is out */
    espl__form *forms;   /* of each value that the graph had, by id */
    int narrow_constants, plain_constants, asymmetric_activations;
    int clipped_activations, unrounded_activations;
} espl__writer;

/* `base` and `suffix` joined, and a number if that name is taken; the name is taken then. NULL without memory. */
const char *espl__writer_name(espl__writer *w, espl__names *names, const char *base, const char *suffix);
/* Appends to the graph; NULL without memory. */
pb_node *espl__writer_node(espl__writer *w, const char *op, const char *name, int inputs, int outputs, int attrs);
pb_tensor *espl__writer_initializer(espl__writer *w, const char *name, espl_dtype dtype, const espl_shape *shape,
                                    const void *data);
void espl__writer_tensor(pb_tensor *out, espl_dtype dtype, const espl_shape *shape, const void *data, int64_t *dims);
bool espl__writer_attr_int(espl__writer *w, pb_node *node, int index, const char *name, int64_t value);
pb_attr *espl__writer_attr(espl__writer *w, pb_node *node, int index, const char *name,
                           EsplPb__AttributeProto__AttributeType type);

/* write_codes.c. The elements of a tensor as they stand in a file: those of 4 bits packed. NULL without memory. */
const void *espl__writer_elements(espl__writer *w, const espl_tensor *tensor);
/* What a constant's codes are in the file, and its numbers. NULL without memory. */
const void *espl__writer_codes(espl__writer *w, const espl__value *value, espl_dtype type);
const float *espl__writer_numbers(espl__writer *w, const espl__value *value);
/* Strings as a message has them; those of a list that commas join. False without memory. */
bool espl__writer_texts(espl__writer *w, const espl_text *from, size_t count, ProtobufCBinaryData **out);
bool espl__writer_split(espl__writer *w, const char *joined, pb_attr *out);
/* Scales and zero points, which Quantize- and DequantizeLinear share; of what type is the caller's to say. */
typedef struct espl__scales {
    espl_dtype type;
    const char *scale, *zero;
} espl__scales;
/* Their initializers. `full`: of the scales only, with as many dimensions as the value, to be multiplied by. */
espl_status espl__writer_scales(espl__writer *w, const espl__value *value, const char *base, espl__scales *out, bool full);

/* write_qdq.c. The names in w->name and w->read are settled before anything is written. */
espl_status espl__writer_name_quantized(espl__writer *w, const espl__value *value);
/* The name that the next reader of a value reads. */
const char *espl__writer_read(espl__writer *w, const espl__value *value);
/* The QuantizeLinear and DequantizeLinear after a value; nothing for one without a quantization. */
espl_status espl__writer_round(espl__writer *w, const espl__value *value);
/* The initializer of a constant, once, and its DequantizeLinear if it is quantized. */
espl_status espl__writer_constant(espl__writer *w, const espl__value *value);

#endif
