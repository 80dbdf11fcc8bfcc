/* The byte layout of .espl files, shared by writer and reader; described in docs/format.md. */
#ifndef ESPL_CONTAINER_H
#define ESPL_CONTAINER_H

#include "espalier/model.h"
#include "graph/graph.h"

#define CONTAINER_MAGIC "ESPL"
enum {
    CONTAINER_VERSION = 5, /* written where something needs it, else 1 */
    CONTAINER_SHORTER = 3, /* constants in fewer bytes than before */
    CONTAINER_BODIES = 4,  /* nodes with bodies */
    CONTAINER_TEXT = 5,    /* strings */
    CONTAINER_DEPTH = 16,  /* of bodies in bodies */
    CONTAINER_HEADER = 20, /* magic 4, version 2, flags 2, CRC-32 4, length of the rest 8; little-endian */
    CONTAINER_MAX_STRING = 4096,
    CONTAINER_LARGE = 4096, /* bytes of a constant from which on it is worth to leave it in the file */
    CONTAINER_WORTH = 256   /* bytes that what version 3 adds must save, for a file that could say less */
};

/* Flags of a value. */
enum {
    VALUE_INPUT = 1,
    VALUE_CONSTANT = 2,
    VALUE_QUANTIZED = 4,
    VALUE_NAMED = 8,
    VALUE_DERIVED_SCALE = 16, /* bias: scale[c] = scale of input 0 * scale[c] of input 1 of its reader */
    VALUE_KNOWN_RANK = 32,
    VALUE_TABLE = 64,   /* f32 constant: its distinct elements, and which of them each element is */
    VALUE_SPARSE = 128, /* constant: its values that are not 0, and where they are; from version 2 on */
    /* Both: f32 constant as f16, s32 constant in as few bits as it needs; from version 3 on. */
    VALUE_SHORT = VALUE_TABLE | VALUE_SPARSE
};
enum { CONTAINER_MAX_TABLE = 256 };
/* Bits of an index into a table of so many elements. */
static inline int espl__container_index_bits(int version, int64_t distinct) {
    return version < 3 ? 8 : ESPL_MAX(espl__bits_for(distinct - 1), 1);
}
/* Flags of a quantization, in the byte of its axis; all but zero points from version 3 on. */
enum { QUANT_AXIS = 15, QUANT_HALVES = 16, QUANT_OFFSETS = 32, QUANT_GROUPS = 64, QUANT_ZEROS = 128 };
/* Flags of a node. */
enum { NODE_NAMED = 1, NODE_OPSET = 2 };

/* The whole file as bytes; `out` is owned by the caller. */
ESPL_NODISCARD espl_status espl__model_bytes(espl_context *ctx, const espl_graph *graph, espl__buffer *out,
                                             espl_diag *diag);

/* The version that knows what a value's quantization says. */
int espl__container_quant_version(const espl__value *value);
/* Fills in the scales of a bias: f32(scale of x * scale[c] of w). False if node has no such inputs. */
bool espl__container_bias_scales(const espl__node *node, float *scale, int64_t count);

/* Whether a file begins as .espl files do. */
ESPL_NODISCARD espl_status espl__model_probe(const char *path, bool *sealed, espl_diag *diag);

#endif
