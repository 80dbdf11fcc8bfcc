/* Sequences and optional values in files: tests feed networks that ONNX's vectors give such. */
#ifndef ESPL_ONNX_LISTS_H
#define ESPL_ONNX_LISTS_H

#include "tensor/tensor.h"

/* A SequenceProto or, if `optional`, an OptionalProto (.pb files of ONNX's test data): its tensors, at most
 * `most`, owned by the caller. *list: a sequence and not one tensor; *count is -1 if nothing is there. */
espl_status espl__onnx_read_list(espl_context *ctx, const char *path, bool optional, espl_tensor *out,
                                 int most, int *count, bool *list, espl_diag *diag);

#endif
