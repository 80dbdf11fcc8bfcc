/* Inside src/onnx only: what its files share. */
#ifndef ESPL_ONNX_IMPL_H
#define ESPL_ONNX_IMPL_H

#include "base/names.h"
#include "graph/graph.h"
#include "onnx/lists.h"
#include "onnx/upgrade.h"
#include "espalier/onnx.h"

#include <onnx.pb-c.h>

typedef EsplPb__ModelProto pb_model;
typedef EsplPb__GraphProto pb_graph;
typedef EsplPb__NodeProto pb_node;
typedef EsplPb__AttributeProto pb_attr;
typedef EsplPb__TensorProto pb_tensor;
typedef EsplPb__ValueInfoProto pb_value;

/* Opsets of the default domain that are read; ESPL__OPSET_OLDEST and later ones are written. */
enum { ESPL__OPSET_MIN = 1, ESPL__OPSET_MAX = 21 };
/* Protocol buffers end at 2 GiB. */
#define ESPL__ONNX_MAX_BYTES ((uint64_t)INT32_MAX)

/* --- unpack.c: protobuf-c bound to the context's memory ------------------------------------ */

/* Parses a file of at most 2 GiB as a message of that descriptor. What the parser may allocate is bounded by the size
 * of the file. Free with espl__onnx_unpacked_free. */
espl_status espl__onnx_unpack(espl_context *ctx, const char *path, const ProtobufCMessageDescriptor *descriptor,
                              ProtobufCMessage **out, espl_diag *diag);
/* The same of bytes that stand in another message. */
espl_status espl__onnx_unpack_bytes(espl_context *ctx, const uint8_t *bytes, size_t length,
                                    const ProtobufCMessageDescriptor *descriptor, ProtobufCMessage **out, espl_diag *diag);
void espl__onnx_unpacked_free(espl_context *ctx, ProtobufCMessage *message);

/* --- external.c: data outside the model's file ---------------------------------------------- */

typedef struct espl__external {
    const char *model_path;
    char *open_location; /* the file opened last; NULL: none */
    int fd;
    uint64_t size;  /* of that file */
    uint64_t total; /* bytes that tensors have taken so far */
    espl_context *ctx;
} espl__external;

void espl__external_init(espl__external *external, espl_context *ctx, const char *model_path);
void espl__external_close(espl__external *external);
/* Finds the `bytes` of a tensor, checks that the file has them and gives their offset in the file, which stays open
 * until the next call. Only files in and below the model's folder, without symbolic links on the way. */
espl_status espl__external_open(espl__external *external, const pb_tensor *proto, uint64_t bytes, uint64_t *offset,
                                espl_diag *diag);
espl_status espl__external_read(espl__external *external, uint64_t offset, void *data, uint64_t bytes,
                                espl_diag *diag);

/* --- tensor.c ------------------------------------------------------------------------------- */

/* The element type, by its ONNX number; `what` says whose it is. */
espl_status espl__onnx_dtype(int64_t number, const char *what, espl_dtype *out, espl_diag *diag);
/* Bytes that so many elements take in a file. */
uint64_t espl__onnx_bytes(espl_dtype dtype, uint64_t count);
/* Elements that borrow the bytes of `from`; espl__free them. False without memory. */
bool espl__onnx_texts(espl_context *ctx, const ProtobufCBinaryData *from, size_t count, espl_text **out);
/* A TensorProto as an arena tensor of the graph. */
espl_status espl__onnx_graph_tensor(espl_graph *graph, espl__external *external, const pb_tensor *proto,
                                    espl_tensor **out, espl_diag *diag);
/* A TensorProto as a tensor of the context (espl_tensor_free). */
espl_status espl__onnx_tensor(espl_context *ctx, espl__external *external, const pb_tensor *proto, espl_tensor *out,
                              espl_diag *diag);

/* --- nbits.c -------------------------------------------------------------------------------- */

bool espl__onnx_is_nbits(const char *domain, const char *op);
/* The nodes and constants that stand for a MatMulNBits; `y` is its output. */
espl_status espl__onnx_nbits(espl_graph *graph, const pb_node *from, espl__value *const *inputs, int count,
                             espl__value *y, espl_diag *diag);

/* --- qoperator.c ---------------------------------------------------------------------------- */

bool espl__onnx_is_qoperator(const char *domain, const char *op);
/* The nodes that stand for an operator on codes; NULL in `outputs`: not wanted. */
espl_status espl__onnx_qoperator(espl_graph *graph, espl__external *external, const char *domain, const pb_node *from,
                                 espl__value *const *inputs, int count, espl__value *const *outputs, int output_count,
                                 espl_diag *diag);

/* --- attribute.c ---------------------------------------------------------------------------- */

/* The type an attribute has, said or seen. */
EsplPb__AttributeProto__AttributeType espl__onnx_attr_type(const pb_attr *proto);
espl_status espl__onnx_attribute(espl_graph *graph, espl__external *external, espl__node *node, const pb_attr *proto,
                                 espl_diag *diag);
/* The tensor that a Constant node holds, in any of its forms. */
espl_status espl__onnx_constant(espl_graph *graph, espl__external *external, const pb_node *proto, espl_tensor **out,
                                espl_diag *diag);

#endif
