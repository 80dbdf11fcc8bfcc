/* Copying a tensor between two views: other strides, other grid, other element type. */
#ifndef ESPL_CONVERT_H
#define ESPL_CONVERT_H

#include "runtime/plan.h"

typedef enum convert_op { CONVERT_COPY, CONVERT_QUANTIZE, CONVERT_DEQUANTIZE, CONVERT_REQUANTIZE } convert_op;

typedef struct convert {
    convert_op op;
    int src_bytes, dst_bytes; /* of an element */
    float scale, inverse;
    int32_t zin, zout;
    int rank; /* after merging dimensions; innermost last */
    int64_t dim[ESPL_MAX_RANK], src[ESPL_MAX_RANK], dst[ESPL_MAX_RANK];
    enum { CONVERT_RUNS, CONVERT_GATHER, CONVERT_SCATTER, CONVERT_PLANES, CONVERT_TRANSPOSE, CONVERT_LINES } mode;
    int64_t work; /* elements */
} convert;

/* false if the element types have no conversion. */
bool espl__convert_plan(convert *c, const view *src, const view *dst);
void espl__convert_run(const convert *c, const espl__kernels *k, const char *src, char *dst);
const char *espl__convert_name(const convert *c);

#endif
